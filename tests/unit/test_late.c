/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cmocka_all.h"
#include "late.h"

struct calls {
    __typeof__(strlen) *strlen;
    __typeof__(getpid) *getpid;
};

static void names_are_found_in_their_order(void **state)
{
    struct late_error error = {0};
    struct calls calls;

    (void)state;
    assert_int_equal(late_load("libc.so.6", "strlen\0getpid\0", &calls, &error), 0);
    assert_int_equal(calls.strlen("four"), 4);
    assert_int_equal(calls.getpid(), getpid());
    assert_string_equal(error.text, "");
}

static void what_is_missing_is_named(void **state)
{
    struct late_error error = {0};
    struct calls calls;

    (void)state;
    assert_int_equal(late_load("libno-such-library.so.9", "strlen\0", &calls, &error), -ELIBACC);
    assert_non_null(strstr(error.text, "libno-such-library.so.9"));
    assert_int_equal(late_load("libc.so.6", "strlen\0no_such_function\0", &calls, &error), -ELIBBAD);
    assert_non_null(strstr(error.text, "no_such_function"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_found_in_their_order),
        cmocka_unit_test(what_is_missing_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
