/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "cmocka_all.h"
#undef fail /* the name is taken */

#include "failure.h"

static void test_fail(void **state)
{
    struct failure failure = {.hint = "stale"};

    (void)state;
    assert_int_equal(fail(&failure, EINVAL, "port %d", 7), -EINVAL);
    assert_string_equal(failure.text, "port 7");
    assert_string_equal(failure.hint, "");
    assert_int_equal(failure.status, EXIT_STATUS_FAILED);
}

static void test_status(void **state)
{
    struct failure failure = {0};

    (void)state;
    assert_int_equal(fail_status(&failure, ENOENT, EXIT_STATUS_BITMAP, "bitmap %s", "b0"), -ENOENT);
    assert_string_equal(failure.text, "bitmap b0");
    assert_int_equal(failure.status, EXIT_STATUS_BITMAP);
    assert_int_equal(fail(&failure, EIO, "later"), -EIO);
    assert_int_equal(failure.status, EXIT_STATUS_FAILED);
}

static void test_hint_and_context(void **state)
{
    struct failure failure = {0};
    int error = fail_status(&failure, EIO, EXIT_STATUS_IDENTITY, "size changed");

    (void)state;
    error = fail_hint(&failure, error, "try %s", "detach");
    assert_int_equal(error, -EIO);
    error = fail_within(&failure, error, "/dev/nbd%d", 3);
    assert_int_equal(error, -EIO);
    assert_string_equal(failure.text, "/dev/nbd3: size changed");
    assert_string_equal(failure.hint, "try detach");
    assert_int_equal(failure.status, EXIT_STATUS_IDENTITY);
}

/* Overlong parts are cut, never overrun, and the context survives. */
static void test_bounds(void **state)
{
    char longest[4096];
    struct failure failure = {0};

    (void)state;
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    fail(&failure, EIO, "%s", longest);
    assert_int_equal(strlen(failure.text), sizeof failure.text - 1);
    fail_hint(&failure, -EIO, "%s", longest);
    assert_int_equal(strlen(failure.hint), sizeof failure.hint - 1);
    fail_within(&failure, -EIO, "context");
    assert_memory_equal(failure.text, "context: xxx", 12);
    fail_within(&failure, -EIO, "%s", longest);
    assert_true(strlen(failure.text) < sizeof failure.text);
    assert_non_null(strstr(failure.text, "x: context: x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_hint_and_context),
        cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
