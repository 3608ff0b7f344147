/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>

#include "cmocka_all.h"

#include "number.h"

#define NS_PER_S UINT64_C(1000000000)
#define ANY      UINT64_MAX

static void test_u64(void **state)
{
    static const struct {
        const char *text;
        uint64_t min, max;
        int error;
        uint64_t value;
    } rows[] = {
        {"0", 0, ANY, 0, 0},
        {"7", 7, 7, 0, 7},
        {"00010809", 1, 65535, 0, 10809},
        {"18446744073709551615", 0, ANY, 0, UINT64_MAX},
        {"18446744073709551616", 0, ANY, -ERANGE, 0},
        {"99999999999999999999999", 0, ANY, -ERANGE, 0},
        {"99999999999999999999999x", 0, ANY, -EINVAL, 0},
        {"6", 7, 9, -ERANGE, 0},
        {"10", 7, 9, -ERANGE, 0},
        {"", 0, ANY, -EINVAL, 0},
        {" 1", 0, ANY, -EINVAL, 0},
        {"1 ", 0, ANY, -EINVAL, 0},
        {"1\n", 0, ANY, -EINVAL, 0},
        {"+1", 0, ANY, -EINVAL, 0},
        {"-1", 0, ANY, -EINVAL, 0},
        {"0x10", 0, ANY, -EINVAL, 0},
        {"1e3", 0, ANY, -EINVAL, 0},
        {"1.0", 0, ANY, -EINVAL, 0},
        {"\xd9\xa1", 0, ANY, -EINVAL, 0}, /* ARABIC-INDIC DIGIT ONE */
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t value = 0;

        assert_int_equal(parse_u64(rows[i].text, rows[i].min, rows[i].max, &value), rows[i].error);
        assert_int_equal(value, rows[i].value);
    }
}

static void test_size(void **state)
{
    static const struct {
        const char *text;
        int error;
        uint64_t value;
    } rows[] = {
        {"0", 0, 0},
        {"512", 0, 512},
        {"512B", 0, 512},
        {"1k", 0, 1024},
        {"1K", 0, 1024},
        {"1KB", 0, 1024},
        {"1KiB", 0, 1024},
        {"64M", 0, UINT64_C(64) << 20},
        {"3g", 0, UINT64_C(3) << 30},
        {"3GiB", 0, UINT64_C(3) << 30},
        {"2T", 0, UINT64_C(2) << 40},
        {"2P", 0, UINT64_C(2) << 50},
        {"15E", 0, UINT64_C(15) << 60},
        {"16E", -ERANGE, 0},
        {"16384P", -ERANGE, 0},
        {"18446744073709551615", 0, UINT64_MAX},
        {"18446744073709551615K", -ERANGE, 0},
        {"18446744073709551616", -ERANGE, 0},
        {"18446744073709551616Q", -EINVAL, 0},
        {"", -EINVAL, 0},
        {"K", -EINVAL, 0},
        {"1 K", -EINVAL, 0},
        {"1KK", -EINVAL, 0},
        {"1Ki", -EINVAL, 0},
        {"1iB", -EINVAL, 0},
        {"1KiBs", -EINVAL, 0},
        {"1.5G", -EINVAL, 0},
        {"-1K", -EINVAL, 0},
        {"1Z", -EINVAL, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t value = 0;

        assert_int_equal(parse_size(rows[i].text, &value), rows[i].error);
        assert_int_equal(value, rows[i].value);
    }
}

static void test_time(void **state)
{
    static const struct {
        const char *text;
        int error;
        uint64_t value;
    } rows[] = {
        {"0", 0, 0},
        {"10", 0, 10 * NS_PER_S},
        {"10s", 0, 10 * NS_PER_S},
        {"250ms", 0, 250000000},
        {"2min", 0, 120 * NS_PER_S},
        {"1h", 0, 3600 * NS_PER_S},
        {"0.5", 0, NS_PER_S / 2},
        {"1.5s", 0, NS_PER_S + NS_PER_S / 2},
        {"0.25ms", 0, 250000},
        {"1.5h", 0, 5400 * NS_PER_S},
        {"0.1min", 0, 6 * NS_PER_S},
        {"0.000000001", 0, 1},
        {"0.9999999999999999999999999", 0, 999999999},
        {"18446744073.709551615", 0, UINT64_MAX},
        {"18446744073.709551616", -ERANGE, 0},
        {"18446744074", -ERANGE, 0},
        {"6000000h", -ERANGE, 0},
        {"99999999999999999999s", -ERANGE, 0},
        {"99999999999999999999x", -EINVAL, 0},
        {"", -EINVAL, 0},
        {".5", -EINVAL, 0},
        {"1.", -EINVAL, 0},
        {"1.s", -EINVAL, 0},
        {"1.5.5", -EINVAL, 0},
        {"1 s", -EINVAL, 0},
        {"1m", -EINVAL, 0},
        {"1S", -EINVAL, 0},
        {"1d", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"s", -EINVAL, 0},
        {"forever", -EINVAL, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t value = 0;

        assert_int_equal(parse_time(rows[i].text, &value), rows[i].error);
        assert_int_equal(value, rows[i].value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_u64),
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
