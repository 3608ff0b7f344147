/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files of pre-shared keys, as bytes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tls.h"

#include "cmocka_all.h"

#define HEX16 "000102030405060708090a0b0c0d0e0f"

static const struct {
    const char *what, *text, *user, *found;
    size_t key_size;
} good[] = {
    {"one line", "alice:" HEX16 "\n", "alice", "alice", 16},
    {"no newline at the end", "alice:" HEX16, "alice", "alice", 16},
    {"the only user", "alice:" HEX16 "\n", NULL, "alice", 16},
    {"the second of two", "bob:ffff\nalice:" HEX16 "\n", "alice", "alice", 16},
    {"CRLF", "bob:ffff\r\nalice:" HEX16 "\r\n", "alice", "alice", 16},
    {"blanks at the end", "alice:" HEX16 " \t \n", "alice", "alice", 16},
    {"empty lines", "\n\r\n  \nalice:" HEX16 "\n\n", "alice", "alice", 16},
    {"capital digits", "alice:000102030405060708090A0B0C0D0E0F\n", "alice", "alice", 16},
    {"a comment", "# our keys\nalice:" HEX16 "\n", "alice", "alice", 16},
    {"a comment with a colon", "# bob: gone\nalice:" HEX16 "\n", NULL, "alice", 16},
    {"nothing but a hash", "#\nalice:" HEX16 "\n", NULL, "alice", 16},
    {"an encoded user", "#613a62:" HEX16 "\n", "a:b", "a:b", 16},
    {"a user with blanks", "a lice:" HEX16 "\n", "a lice", "a lice", 16},
    {"a user in UTF-8", "\xc3\xa4:" HEX16 "\n", "\xc3\xa4", "\xc3\xa4", 16},
    {"a prefix of another", "alice2:ff\nalice:" HEX16 "\n", "alice", "alice", 16},
    {"one byte", "alice:00\n", "alice", "alice", 1},
    {"others twice", "bob:ff\nbob:ee\nalice:" HEX16 "\n", "alice", "alice", 16},
};

static void test_good(void **state)
{
    static const uint8_t expected[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct tls_reason reason = {0};
        char *user = NULL;
        uint8_t *key = NULL;
        size_t size = 0;
        int r = tls_psk_parse(good[i].text, strlen(good[i].text), good[i].user, &user, &key, &size, &reason);

        if (r < 0)
            fail_msg("%s: %s", good[i].what, reason.text);
        assert_string_equal(user, good[i].found);
        assert_int_equal(size, good[i].key_size);
        assert_memory_equal(key, expected, size);
        free(user);
        free(key);
    }
}

static const struct {
    const char *what, *text, *user;
    int error;
    const char *says;
} bad[] = {
    {"empty", "", "alice", EINVAL, "no key in it"},
    {"empty, nobody", "", NULL, EINVAL, "no key in it"},
    {"only comments", "# nothing\n\n", "alice", EINVAL, "no key in it"},
    {"odd hex", "alice:abc\n", "alice", EINVAL, "line 1: the key has an odd number"},
    {"odd hex further down", "bob:ab\n\nalice:abc\n", "alice", EINVAL, "line 3:"},
    {"odd hex of another", "bob:abc\nalice:ab\n", "alice", EINVAL, "line 1:"},
    {"no hex", "alice:secret\n", "alice", EINVAL, "line 1: the key has other characters"},
    {"blank within", "alice:ab cd\n", "alice", EINVAL, "line 1: the key has other characters"},
    {"blank before", "alice: abcd\n", "alice", EINVAL, "line 1: the key has other characters"},
    {"0x", "alice:0xab\n", "alice", EINVAL, "line 1: the key has other characters"},
    {"no key", "alice:\n", "alice", EINVAL, "line 1 has no key"},
    {"no user", ":" HEX16 "\n", "alice", EINVAL, "line 1 has no user"},
    {"no colon", HEX16 "\n", "alice", EINVAL, "line 1 has no colon"},
    {"odd encoded user", "#61626:" HEX16 "\n", NULL, EINVAL, "line 1: the encoded user has an odd"},
    {"zero in an encoded user", "#6100:" HEX16 "\n", NULL, EINVAL, "line 1: the user contains a zero byte"},
    {"another user", "bob:" HEX16 "\n", "alice", ENOKEY, "no key for the user \"alice\""},
    {"several users", "bob:ff\nalice:ff\n", NULL, ENOKEY, "several users"},
    {"twice", "alice:ff\nbob:ff\nalice:ee\n", "alice", EINVAL,
     "line 3: a second key for the user \"alice\" of line 1"},
    {"the same twice", "alice:ff\nalice:ff\n", NULL, EINVAL, "line 2: a second key"},
    {"PEM", "-----BEGIN CERTIFICATE-----\n", NULL, EINVAL, "line 1 has no colon"},
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct tls_reason reason = {0};
        char *user = NULL;
        uint8_t *key = NULL;
        size_t size = 0;
        int r = tls_psk_parse(bad[i].text, strlen(bad[i].text), bad[i].user, &user, &key, &size, &reason);

        if (r != -bad[i].error || !strstr(reason.text, bad[i].says))
            fail_msg("%s: %d, %s", bad[i].what, r, reason.text);
        assert_null(user);
        assert_null(key);
        assert_null(strstr(reason.text, HEX16));
        assert_null(strstr(reason.hint, HEX16));
    }
}

static int parse_bytes(const char *text, size_t size, const char *name, struct tls_reason *reason)
{
    char *user = NULL;
    uint8_t *key = NULL;
    size_t key_size;
    int r = tls_psk_parse(text, size, name, &user, &key, &key_size, reason);

    free(user);
    free(key);
    return r;
}

static void test_bytes(void **state)
{
    struct tls_reason reason;

    (void)state;
    assert_int_equal(parse_bytes("al\0ice:ff\n", 10, "alice", &reason), -EINVAL);
    assert_non_null(strstr(reason.text, "zero byte"));
    assert_int_equal(parse_bytes("alice:f\0f\n", 10, "alice", &reason), -EINVAL);
    assert_int_equal(parse_bytes("alice:ff\nbob", 9, "alice", &reason), 0);
    assert_int_equal(parse_bytes("alice:ff\nbob", 8, NULL, &reason), 0);
    assert_int_equal(parse_bytes("alice:ff\nbob", 7, NULL, &reason), -EINVAL);
    assert_int_equal(parse_bytes("alice:ff", 8, "alice", NULL), 0);
    assert_int_equal(parse_bytes("alice:f", 7, "alice", NULL), -EINVAL);
}

/* A line of `users` bytes of user and `digits` of key. */
static int parse_long(size_t users, size_t digits, struct tls_reason *reason)
{
    char *text = malloc(users + digits + 2);
    int r;

    assert_non_null(text);
    memset(text, 'u', users);
    text[users] = ':';
    memset(text + users + 1, 'a', digits);
    r = parse_bytes(text, users + 1 + digits, NULL, reason);
    free(text);
    return r;
}

static void test_lengths(void **state)
{
    struct tls_reason reason;

    (void)state;
    assert_int_equal(parse_long(255, 512, &reason), 0);
    assert_int_equal(parse_long(256, 512, &reason), -EINVAL);
    assert_non_null(strstr(reason.text, "the user is longer than 255"));
    assert_int_equal(parse_long(5, 514, &reason), -EINVAL);
    assert_non_null(strstr(reason.text, "the key is longer than 256"));
    assert_int_equal(parse_long(5, 100000, &reason), -EINVAL);
    assert_non_null(strstr(reason.text, "line 1 is longer than"));
    assert_int_equal(parse_long(5, 2000000, &reason), -EFBIG);
}

static void test_names(void **state)
{
    struct tls_reason reason;
    const char text[] = "a\x1b[31m:ff\nb:ff\nc:ff\nd:ff\ne:ff\nf:ff\ng:ff\nh:ff\ni:ff\n";

    (void)state;
    assert_int_equal(parse_bytes(text, sizeof text - 1, "zed\n", &reason), -ENOKEY);
    assert_string_equal(reason.text, "no key for the user \"zed\\x0a\"");
    assert_string_equal(reason.hint, "there are keys for: a\\x1b[31m, b, c, d, e, f, g, h, ...");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),    cmocka_unit_test(test_bad),   cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_lengths), cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests_name("tls_psk", tests, NULL, NULL);
}
