/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <string.h>

#include "cmocka_all.h"

#include "escape.h"
#include "utf8.h"

struct row {
    const char *text;
    const char *escaped;
};

static void check(const char *text, size_t size, size_t limit, const char *expected)
{
    /* A copy of exactly this size: a sanitizer then sees a read behind the end. */
    char *exact = malloc(size ? size : 1);
    char *escaped;

    assert_non_null(exact);
    memcpy(exact, text, size);
    escaped = escape_text(exact, size, limit);
    assert_non_null(escaped);
    assert_string_equal(escaped, expected);
    free(escaped);
    free(exact);
}

static void check_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        check(rows[i].text, strlen(rows[i].text), SIZE_MAX, rows[i].escaped);
}

#define CHECK(rows) check_rows(rows, sizeof(rows) / sizeof((rows)[0]))

static void test_what_stays(void **state)
{
    static const struct row rows[] = {
        {"", ""},
        {"disk0 /dev/nbd0 ~!@#$%^&*()\"'", "disk0 /dev/nbd0 ~!@#$%^&*()\"'"},
        {"gr\xc3\xb6\xc3\x9f"
         "e",
         "gr\xc3\xb6\xc3\x9f"
         "e"},
        {"\xe2\x82\xac", "\xe2\x82\xac"},
        {"\xf0\x9f\x92\xbe", "\xf0\x9f\x92\xbe"},
        {"e\xcc\x81", "e\xcc\x81"},
    };

    (void)state;
    CHECK(rows);
}

static void test_controls(void **state)
{
    static const struct row rows[] = {
        {"a\nb\tc\r", "a\\x0ab\\x09c\\x0d"},
        {"\033[2J\033]0;title\a", "\\x1b[2J\\x1b]0;title\\x07"},
        {"\x7f", "\\x7f"},
        {"\xc2\x9b"
         "31m",
         "\\xc2\\x9b31m"}, /* CSI as a C1 control */
        {"a\\x0ab", "a\\\\x0ab"},
    };

    (void)state;
    CHECK(rows);
    check("a\0b", 3, SIZE_MAX, "a\\x00b");
}

static void test_format_characters(void **state)
{
    static const struct row rows[] = {
        {"\xe2\x80\xae"
         "txt",
         "\\xe2\\x80\\xaetxt"},                       /* RIGHT-TO-LEFT OVERRIDE */
        {"\xe2\x81\xa6", "\\xe2\\x81\\xa6"},          /* LEFT-TO-RIGHT ISOLATE */
        {"\xe2\x80\x8b", "\\xe2\\x80\\x8b"},          /* ZERO WIDTH SPACE */
        {"\xe2\x80\xa8", "\\xe2\\x80\\xa8"},          /* LINE SEPARATOR */
        {"\xef\xbb\xbf", "\\xef\\xbb\\xbf"},          /* BYTE ORDER MARK */
        {"\xc2\xad", "\\xc2\\xad"},                   /* SOFT HYPHEN */
        {"\xee\x80\x80", "\\xee\\x80\\x80"},          /* private use */
        {"\xf3\xa0\x81\x81", "\\xf3\\xa0\\x81\\x81"}, /* TAG LATIN CAPITAL LETTER A */
        {"\xef\xbf\xbf", "\\xef\\xbf\\xbf"},          /* noncharacter */
    };

    (void)state;
    CHECK(rows);
}

static void test_invalid_utf8(void **state)
{
    static const struct row rows[] = {
        {"\xff", "\\xff"},
        {"\x80", "\\x80"},
        {"\xc0\xaf", "\\xc0\\xaf"}, /* overlong '/' */
        {"\xe0\x80\xaf", "\\xe0\\x80\\xaf"},
        {"\xf0\x80\x80\xaf", "\\xf0\\x80\\x80\\xaf"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* surrogate */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* above U+10FFFF */
        {"\xe2\x82", "\\xe2\\x82"},
        {"\xe2\x82z", "\\xe2\\x82z"},
        {"\xc3\xc3\xb6", "\\xc3\xc3\xb6"},
    };

    (void)state;
    CHECK(rows);
}

static void test_limit(void **state)
{
    (void)state;
    check("abcdef", 6, 6, "abcdef");
    check("abcdef", 6, 5, "abcde...");
    check("abcdef", 6, 0, "...");
    check("", 0, 0, "");
    check("a\n\n", 3, 2, "a\\x0a...");
    check("ab\xe2\x82\xac", 5, 4, "ab..."); /* a character is not split */
    check("ab\xe2\x82\xac", 5, 5, "ab\xe2\x82\xac");
    check("ab\xe2\x82", 4, 3, "ab\\xe2...");
}

static void test_utf8_decode(void **state)
{
    uint32_t code = 0;

    (void)state;
    assert_int_equal(utf8_decode("", 0, &code), 0);
    assert_int_equal(utf8_decode("\0", 1, &code), 1);
    assert_int_equal(code, 0);
    assert_int_equal(utf8_decode("\xf4\x8f\xbf\xbf", 4, &code), 4);
    assert_int_equal(code, 0x10ffff);
    assert_int_equal(utf8_decode("\xf4\x8f\xbf\xbf", 3, &code), 0);
    assert_true(utf8_valid("", 0));
    assert_true(utf8_valid("a\0\xc3\xb6", 4));
    assert_false(utf8_valid("a\xc3", 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_stays),
        cmocka_unit_test(test_controls),
        cmocka_unit_test(test_format_characters),
        cmocka_unit_test(test_invalid_utf8),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_utf8_decode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
