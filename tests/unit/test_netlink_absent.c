/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The conversation on a machine that need not have an nbd driver: tests/kernel has the rest. */

#include <errno.h>
#include <netlink/errno.h>
#include <string.h>

#include "cmocka_all.h"
#include "module.h"
#include "nbd.h"
#include "nbd_genl.h"

static struct netlink_reason reason;

static void absent_modules_are_named(void **state)
{
    int r = module_load("no-such-module-at-all", &reason);

    (void)state;
    assert_true(r == -ENOENT || r == -ENOSYS);
    assert_non_null(strstr(reason.text, "no-such-module-at-all"));
    assert_string_not_equal(reason.hint, "");
}

/* It is there, or the reason says what is missing. */
static void a_driver_is_there_or_not(void **state)
{
    struct nbd_netlink *netlink = NULL;
    struct nbd_events *events = NULL;
    int r = nbd_netlink_open(&netlink, false, &reason);

    (void)state;
    if (r == 0) {
        nbd_netlink_closep(&netlink);
        skip();
    }
    assert_int_equal(r, -ENOENT);
    assert_null(netlink);
    assert_non_null(strstr(reason.text, "nbd"));
    assert_string_not_equal(reason.hint, "");
    memset(&reason, 0, sizeof reason);
    assert_int_equal(nbd_events_open(&events, &reason), -ENOENT);
    assert_null(events);
    assert_non_null(strstr(reason.text, "nbd"));
}

static void closing_nothing_is_fine(void **state)
{
    (void)state;
    nbd_netlink_close(NULL);
    nbd_events_close(NULL);
}

static void errors_of_libnl_become_ours(void **state)
{
    static const int rows[][2] = {{NLE_NOMEM, ENOMEM},
                                  {NLE_PERM, EPERM},
                                  {NLE_NOACCESS, EPERM},
                                  {NLE_OBJ_NOTFOUND, ENOENT},
                                  {NLE_AGAIN, ETIMEDOUT},
                                  {NLE_INTR, EINTR},
                                  {NLE_AF_NOSUPPORT, EPROTONOSUPPORT},
                                  {NLE_RANGE, EPROTO},
                                  {NLE_FAILURE, EPROTO}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(nbd_genl_error(rows[i][0]), rows[i][1]);
        assert_int_equal(nbd_genl_error(-rows[i][0]), rows[i][1]);
    }
}

static void absence_is_explained(void **state)
{
    (void)state;
    assert_int_equal(nbd_genl_absent(EPROTO, &reason), -EPROTO);
    assert_non_null(strstr(reason.text, "Protocol error"));
    assert_int_equal(nbd_genl_absent(ENOENT, &reason), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_modules_are_named), cmocka_unit_test(a_driver_is_there_or_not),
        cmocka_unit_test(closing_nothing_is_fine),  cmocka_unit_test(errors_of_libnl_become_ours),
        cmocka_unit_test(absence_is_explained),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
