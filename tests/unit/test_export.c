/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include "protocol/export.h"
#include "protocol/wire.h"

#include "cmocka_all.h"

#define DISK                                                                                                 \
    {                                                                                                        \
        .described = true, .size = 1 << 20, .flags = NBD_FLAG_HAS_FLAGS, .has_block_sizes = true,            \
        .min_block = 512, .preferred_block = 4096, .max_payload = 1 << 25, .canonical_name = NULL            \
    }

static void test_disk(void **state)
{
    struct export export = DISK;
    struct failure failure;

    (void)state;
    assert_int_equal(export_check(&export, &failure), 0);
    assert_int_equal(export_check_disk(&export, &failure), 0);
    export.size = 0;
    assert_int_equal(export_check(&export, &failure), 0);            /* may be described... */
    assert_int_equal(export_check_disk(&export, &failure), -EPROTO); /* ...but is no disk */
    export.size = 1000;
    assert_int_equal(export_check_disk(&export, &failure), -EPROTO);
    assert_non_null(strstr(failure.text, "multiple"));
    export.has_block_sizes = false;
    assert_int_equal(export_check_disk(&export, &failure), 0);
}

static void test_same_disk(void **state)
{
    const struct export expected = DISK;
    struct failure failure;
    struct export found = DISK;
    char name[] = "other";

    (void)state;
    assert_int_equal(export_same_disk(&expected, &found, &failure), 0);
    found.size += 512;
    assert_int_equal(export_same_disk(&expected, &found, &failure), -ESTALE);
    assert_int_equal(failure.status, EXIT_STATUS_IDENTITY);
    found.size = expected.size;
    found.flags |= NBD_FLAG_READ_ONLY;
    assert_int_equal(export_same_disk(&expected, &found, &failure), -ESTALE);
    found.flags = expected.flags;
    found.min_block = 4096;
    assert_int_equal(export_same_disk(&expected, &found, &failure), -ESTALE);
    found.min_block = expected.min_block;
    found.canonical_name = name;
    assert_int_equal(export_same_disk(&expected, &found, &failure), -ESTALE);
    assert_int_equal(failure.status, EXIT_STATUS_IDENTITY);
}

static void test_copy_is_deep(void **state)
{
    char name[] = "disk";
    struct export export = DISK, copy;

    (void)state;
    export.canonical_name = name;
    assert_int_equal(export_copy(&copy, &export), 0);
    name[0] = 'X';
    assert_string_equal(copy.canonical_name, "disk");
    export_clear(&copy);
    assert_null(copy.canonical_name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_disk),
        cmocka_unit_test(test_same_disk),
        cmocka_unit_test(test_copy_is_deep),
    };

    return cmocka_run_group_tests_name("export", tests, NULL, NULL);
}
