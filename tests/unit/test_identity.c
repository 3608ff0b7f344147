/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which disk a reconnect may take, and which it must not. */
#include <errno.h>
#include <string.h>

#include "agent/identity.h"
#include "protocol/wire.h"

#include "cmocka_all.h"

#define FLAGS (NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM)

static char disk0[] = "disk0", disk1[] = "disk1";

static const struct disk_identity disk = {
    .size = 1 << 20,
    .flags = FLAGS,
    .block_size = 512,
    .request_size = 1 << 20,
    .connections = 1,
    .canonical_name = disk0,
};

static struct export same(void)
{
    return (struct export){
        .described = true,
        .size = 1 << 20,
        .flags = FLAGS,
        .has_block_sizes = true,
        .min_block = 512,
        .preferred_block = 4096,
        .max_payload = 32 << 20,
        .canonical_name = disk0,
    };
}

static void accepted(const struct disk_identity *identity, const struct export *found)
{
    struct failure failure = {0};

    assert_int_equal(identity_check(identity, found, &failure), 0);
}

static void refused(const struct disk_identity *identity, const struct export *found, const char *words)
{
    struct failure failure = {0};

    assert_int_equal(identity_check(identity, found, &failure), -ESTALE);
    assert_int_equal(failure.status, EXIT_STATUS_IDENTITY);
    if (!strstr(failure.text, words))
        fail_msg("no '%s' in '%s'", words, failure.text);
}

static void test_the_same(void **state)
{
    struct export found = same();

    (void)state;
    accepted(&disk, &found);
    found.canonical_name = NULL; /* another server program, which does not say */
    accepted(&disk, &found);
    found.flags |= NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_CACHE;
    accepted(&disk, &found);
    found.has_block_sizes = false;
    accepted(&disk, &found);
}

static void test_size(void **state)
{
    struct export found = same();

    (void)state;
    found.size += 512;
    accepted(&disk, &found);
    found.size = disk.size - 1;
    refused(&disk, &found, "size");
}

static void test_name(void **state)
{
    struct export found = same();

    (void)state;
    found.canonical_name = disk1;
    refused(&disk, &found, "name");
}

static void test_flags(void **state)
{
    static const unsigned used[] = {NBD_FLAG_SEND_FLUSH, NBD_FLAG_SEND_FUA, NBD_FLAG_SEND_TRIM};
    struct disk_identity several = disk, read_only = disk;
    struct export found;

    (void)state;
    for (size_t i = 0; i < sizeof used / sizeof used[0]; i++) {
        found = same();
        found.flags = (uint16_t)(found.flags & ~used[i]);
        refused(&disk, &found, "flags");
    }
    found = same();
    found.flags |= NBD_FLAG_READ_ONLY;
    refused(&disk, &found, "read-only");
    read_only.read_only = true;
    accepted(&read_only, &found);

    several.connections = 2;
    several.flags |= NBD_FLAG_CAN_MULTI_CONN;
    found = same();
    refused(&several, &found, "flags");
    several.connections = 1; /* nothing depends on it */
    accepted(&several, &found);
}

static void test_blocks(void **state)
{
    struct export found = same();

    (void)state;
    found.min_block = 1024;
    refused(&disk, &found, "block size");
    found = same();
    found.max_payload = (1 << 20) - 1;
    refused(&disk, &found, "a request");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_same), cmocka_unit_test(test_size),   cmocka_unit_test(test_name),
        cmocka_unit_test(test_flags),    cmocka_unit_test(test_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
