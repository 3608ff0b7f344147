/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/uri.h" /* first: cmocka makes fail() a macro */

#include "cmocka_all.h"

/* What target_parse() makes of a URI, as its canonical form. */
static const struct {
    const char *uri;
    const char *canonical; /* NULL: the same */
} good[] = {
    {"nbd://example.com/disk", NULL},
    {"nbd://example.com/", NULL},
    {"nbd://example.com", "nbd://example.com/"},
    {"nbd://example.com?", "nbd://example.com/"},
    {"nbd://example.com//disk", NULL},
    {"nbd://example.com/a/b/../c", NULL},
    {"nbd://example.com/hello%20world", NULL},
    {"nbd://example.com/hello%2fworld", "nbd://example.com/hello/world"},
    {"nbd://example.com/a+b", NULL},
    {"nbd://example.com/%41%7e", "nbd://example.com/A~"},
    {"nbd://example.com/:@!$&'()*+,;=", NULL},
    {"nbd://example.com/%5bx%5d%23%3f%25", "nbd://example.com/%5Bx%5D%23%3F%25"},
    {"nbd://example.com/gr%c3%b6%c3%9fe", "nbd://example.com/gr%C3%B6%C3%9Fe"},
    {"nbd://example.com/%0a%1b", "nbd://example.com/%0A%1B"},
    {"NBD://Example.COM/Disk", "nbd://example.com/Disk"},
    {"nBdS+UnIx:///?socket=a", "nbds+unix:///?socket=a"},
    {"nbd://example.com:10809/", "nbd://example.com/"},
    {"nbd://example.com:/", "nbd://example.com/"},
    {"nbd://example.com:1/", NULL},
    {"nbd://example.com:65535", "nbd://example.com:65535/"},
    {"nbd://example.com:00080", "nbd://example.com:80/"},
    {"nbd://ex%61mple.com", "nbd://example.com/"},
    {"nbd://under_score-1.example.com./", NULL},
    {"nbd:///disk", "nbd://localhost/disk"},
    {"nbd://:10810/disk", "nbd://localhost:10810/disk"},
    {"nbd://", "nbd://localhost/"},
    {"nbd://127.0.0.1/", NULL},
    {"nbd://[::1]/", NULL},
    {"nbd://[::1]:10810/", NULL},
    {"nbd://[2001:DB8:0:0::0001]/", "nbd://[2001:db8::1]/"},
    {"nbd://[::ffff:192.0.2.1]/", NULL},
    {"nbd://[fe80::1%25eth0]:1/", NULL},
    {"nbd://[fe80::1%25Eth0]:1/", NULL},
    {"nbd://[fe80::1%eth0]/", "nbd://[fe80::1%25eth0]/"},
    {"nbd://[fe80::1%2]/", "nbd://[fe80::1%252]/"},
    {"nbd://[fe80::1%25a%2Db]/", "nbd://[fe80::1%25a-b]/"},
    {"nbd://[fe80::1%25br%40x]/", "nbd://[fe80::1%25br%40x]/"},
    {"nbds://example.com/?tls-hostname=other.example", NULL},
    {"nbds://example.com/?tls-type=x509&tls-verify-peer=1&tls-certificates=/etc/pki/nbd", NULL},
    {"nbds://example.com/?tls-verify-peer=0", NULL},
    {"nbds://example.com/?tls-verify-peer=yes", "nbds://example.com/?tls-verify-peer=1"},
    {"nbds://example.com/?tls-verify-peer=False", "nbds://example.com/?tls-verify-peer=0"},
    {"nbds://example.com/?tls-type=anon", NULL},
    {"nbds://example.com/?tls-type=anon&tls-verify-peer=0", NULL},
    {"nbds://example.com/?tls-priority=NORMAL:-VERS-ALL:+VERS-TLS1.3", NULL},
    {"nbds://example.com/?tls-psk-file=a%26b%3bc=d%20e", "nbds://example.com/?tls-psk-file=a%26b%3Bc=d%20e"},
    {"nbds://example.com/?tls-psk-file=k%ff", "nbds://example.com/?tls-psk-file=k%FF"},
    {"nbds://example.com/?%74ls-psk-file=k", "nbds://example.com/?tls-psk-file=k"},
    {"nbds://alice@example.com/?tls-psk-file=/etc/keys.psk", NULL},
    {"nbds://example.com/?tls-psk-file=k&tls-username=alice", "nbds://alice@example.com/?tls-psk-file=k"},
    {"nbds://example.com/?tls-username=a:b/c@d", "nbds://a%3Ab%2Fc%40d@example.com/"},
    {"nbds://a%3ab@example.com/", "nbds://a%3Ab@example.com/"},
    {"nbds://gr%C3%B6ger@example.com/", NULL},
    {"nbd+unix:///?socket=nbd.sock", NULL},
    {"nbd+unix://?socket=nbd.sock", "nbd+unix:///?socket=nbd.sock"},
    {"nbd+unix:///disk?socket=/run/x%20y", NULL},
    {"nbd+unix:///disk?socket=/a?b", NULL},
    {"nbd+unix:///?socket=%00/abstract", NULL},
    {"nbd+unix:///?socket=%ff", "nbd+unix:///?socket=%FF"},
    {"nbd+unix:///?;&socket=x;&", "nbd+unix:///?socket=x"},
    {"nbds+unix://alice@/disk?socket=/run/x", NULL},
    {"nbds+unix:///d?tls-hostname=h;socket=s&tls-psk-file=k",
     "nbds+unix:///d?socket=s&tls-hostname=h&tls-psk-file=k"},
    {"nbd+vsock://2:10809/", NULL},
    {"nbd+vsock://2", "nbd+vsock://2:10809/"},
    {"nbd+vsock://4294967294:4294967294/x", NULL},
    {"nbds+vsock://bob@3:1/x?tls-psk-file=k", NULL},
};

/* What is refused, and words its reason must contain. */
static const struct {
    const char *uri;
    const char *reason;
} bad[] = {
    {"", "does not begin with a scheme"},
    {"/run/nbd.sock", "does not begin with a scheme"},
    {"localhost:10809", "does not begin with a scheme"},
    {"nbd:localhost:10809", "does not begin with a scheme"},
    {"nbd:/disk", "does not begin with a scheme"},
    {"://host/", "does not begin with a scheme"},
    {"http://host/", "unknown scheme \"http\""},
    {"nbdx://host/", "unknown scheme \"nbdx\""},
    {"nbd+tcp://host/", "unknown scheme \"nbd+tcp\""},
    {"nbd://ho st/", "space at character 9"},
    {" nbd://host/", "space at character 1"},
    {"nbd://host/a\nb", "control character at character 13"},
    {"nbd://host/\x7f", "control character at character 12"},
    {"nbd://host/gr\xc3\xb6", "byte outside ASCII at character 14"},
    {"nbd://host/a\\b", "cannot contain at character 13"},
    {"nbd://host/\"", "cannot contain at character 12"},
    {"nbd://host/<", "cannot contain at character 12"},
    {"nbd://host/{x}", "cannot contain at character 12"},
    {"nbd://host/a[1]", "cannot contain at character 13"},
    {"nbd+unix:///?socket=a]", "cannot contain at character 22"},
    {"nbd://host/a#b", "fragment ('#') at character 13"},
    {"nbd://host#b", "fragment ('#') at character 11"},
    {"nbd+unix:///?socket=a#", "fragment ('#') at character 22"},
    {"nbd://host/%", "bad percent encoding in the export name, at character 12"},
    {"nbd://host/ab%4", "bad percent encoding in the export name, at character 14"},
    {"nbd://host/%zz", "bad percent encoding in the export name, at character 12"},
    {"nbd://host/%4%41", "bad percent encoding in the export name, at character 12"},
    {"nbd://ho%st/", "bad percent encoding in the host name, at character 9"},
    {"nbds://a%4@host/", "bad percent encoding in the user name, at character 9"},
    {"nbd+unix:///?socket=%0", "bad percent encoding in the socket, at character 21"},
    {"nbds://h/?tls-psk-file=%0", "bad percent encoding in the tls-psk-file, at character 24"},
    {"nbds://h/?tls-%zz=1", "bad percent encoding in the name of a parameter, at character 15"},
    {"nbd://host/%00", "export name contains a NUL byte"},
    {"nbd://host/a%00b", "export name contains a NUL byte"},
    {"nbd://host/%ff", "export name is not valid UTF-8"},
    {"nbd://host/%c0%af", "export name is not valid UTF-8"},
    {"nbd://host/%ed%a0%80", "export name is not valid UTF-8"},
    {"nbd://host:0/", "port 0 is outside 1 to 65535"},
    {"nbd://host:65536/", "port 65536 is outside 1 to 65535"},
    {"nbd://host:4294967306/", "port 4294967306 is outside"},
    {"nbd://host:999999999999999999999999/", "the port is not a number"},
    {"nbd://host:http/", "the port is not a number"},
    {"nbd://host:+1/", "the port is not a number"},
    {"nbd://host:1x/", "the port is not a number"},
    {"nbd://host:%31/", "the port is not a number"},
    {"nbd://::1/", "more than one ':'"},
    {"nbd://2001:db8::1/", "more than one ':'"},
    {"nbd://[::1]:1:2/", "more than one ':'"},
    {"nbd://[::1/", "never closed"},
    {"nbd://[::1]x/", "may follow the IPv6 address"},
    {"nbd://[::1]10809/", "may follow the IPv6 address"},
    {"nbd://[]/", "is not an IPv6 address"},
    {"nbd://[127.0.0.1]/", "is not an IPv6 address"},
    {"nbd://[v1.fe80]/", "is not an IPv6 address"},
    {"nbd://[:::1]/", "is not an IPv6 address"},
    {"nbd://[1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16:17:18:19:20]/", "is not an IPv6 address"},
    {"nbd://[fe80::1%25]/", "zone of the IPv6 address is empty"},
    {"nbd://[fe80::1%]/", "zone of the IPv6 address is empty"},
    {"nbd://[fe80::1%25a%2fb]/", "not the name of an interface"},
    {"nbd://[fe80::1%25a%25b]/", "not the name of an interface"},
    {"nbd://[fe80::1%25a%00b]/", "zone of the IPv6 address contains a NUL byte"},
    {"nbd://[fe80::1%eth0%41]/", "bad zone of an IPv6 address, at character 20"},
    {"nbd://[fe80::1%25a:b]/", "bad zone of an IPv6 address, at character 19"},
    {"nbd://[fe80::1%25abcdefghijklmnop]/", "not the name of an interface"},
    {"nbd://host]/", "is not a host name"},
    {"nbd://ho[st/", "is not a host name"},
    {"nbd://a%00b/", "host name contains a NUL byte"},
    {"nbd://a%ffb/", "host name is not valid UTF-8"},
    {"nbd://gr%c3%b6ger.example/", "is not a host name"},
    {"nbd://%3a%3a1/", "is not a host name"},
    {"nbd://a%2fb/", "is not a host name"},
    {"nbd://a%20b/", "is not a host name"},
    {"nbd://a;b/", "is not a host name"},
    {"nbds://alice:secret@host/", "a password before '@' is refused"},
    {"nbd://alice:secret@host/", "a password before '@' is refused"},
    {"nbds://:@host/", "a password before '@' is refused"},
    {"nbds://@host/", "the user name is empty"},
    {"nbds://a@b@host/", "more than one '@'"},
    {"nbds://a[b@host/", "bracket in the user name"},
    {"nbds://%00@host/", "user name contains a NUL byte"},
    {"nbds://%ff@host/", "user name is not valid UTF-8"},
    {"nbd://alice@host/", "nbd:// never encrypts: use nbds://"},
    {"nbd+unix://alice@/?socket=s", "nbd+unix:// never encrypts: use nbds+unix://"},
    {"nbd+vsock://alice@2/", "nbd+vsock:// never encrypts: use nbds+vsock://"},
    {"nbd://host/?tls-username=alice",
     "tls-username conflicts with nbd://, which never encrypts: use nbds://"},
    {"nbd://host/?tls-type=psk", "tls-type conflicts with nbd://"},
    {"nbd://host/?tls-psk-file=k", "tls-psk-file conflicts with nbd://"},
    {"nbd://host/?tls-verify-peer=0", "tls-verify-peer conflicts with nbd://"},
    {"nbd+unix:///?socket=s&tls-hostname=h", "tls-hostname conflicts with nbd+unix://"},
    {"nbds://alice@host/?tls-username=bob", "both a user name before '@' and tls-username"},
    {"nbds://alice@host/?tls-username=alice", "both a user name before '@' and tls-username"},
    {"nbds://host/?tls-username=", "the user name is empty"},
    {"nbd+unix://host/?socket=s", "nbd+unix:// takes no host"},
    {"nbd+unix://run/nbd.sock", "nbd+unix:// takes no host"},
    {"nbd+unix://:10809/?socket=s", "nbd+unix:// takes no host"},
    {"nbds+unix://alice@host/?socket=s", "nbds+unix:// takes no host"},
    {"nbd+unix:///disk", "nbd+unix:// needs a socket"},
    {"nbd+unix:///?socket", "the socket is empty"},
    {"nbd+unix:///?socket=", "the socket is empty"},
    {"nbd+unix:///?socket=%00", "the socket is empty"},
    {"nbd+unix:///?socket=a%00b", "NUL byte that is not its first"},
    {"nbd+unix:///?socket=%00a%00", "NUL byte that is not its first"},
    {"nbd+unix:///?Socket=s", "unknown parameter \"Socket\""},
    {"nbd://host/?socket=s", "nbd:// takes no socket"},
    {"nbds+vsock://2/?socket=s", "nbds+vsock:// takes no socket"},
    {"nbd+unix:///?socket=a&socket=b", "socket is given more than once"},
    {"nbd+unix:///?socket=a;%73ocket=a", "socket is given more than once"},
    {"nbds://h/?tls-type=psk&tls-type=psk", "tls-type is given more than once"},
    {"nbds://h/?tls-verify-peer=0&tls-verify-peer=1", "tls-verify-peer is given more than once"},
    {"nbd://host/?export=x", "unknown parameter \"export\""},
    {"nbd://host/?x-new", "unknown parameter \"x-new\""},
    {"nbd://host/?=value", "unknown parameter \"\""},
    {"nbd://host/?tls", "unknown parameter \"tls\""},
    {"nbds://h/?tls-type%00=psk", "unknown parameter \"tls-type%00\""},
    {"nbds://h/?tls-password=hunter2", "unknown parameter \"tls-password\""},
    {"nbds://h/?tls-type=", "tls-type= is not one of anon, x509, psk"},
    {"nbds://h/?tls-type=PSK", "tls-type=PSK is not one of"},
    {"nbds://h/?tls-type=psk%00", "tls-type=psk%00 is not one of"},
    {"nbds://h/?tls-verify-peer=2", "tls-verify-peer=2 is not one of"},
    {"nbds://h/?tls-verify-peer", "tls-verify-peer= is not one of"},
    {"nbds://h/?tls-hostname=", "tls-hostname is empty"},
    {"nbds://h/?tls-hostname=a%00b", "tls-hostname contains a NUL byte"},
    {"nbds://h/?tls-hostname=%ff", "tls-hostname is not valid UTF-8"},
    {"nbds://h/?tls-psk-file", "tls-psk-file is empty"},
    {"nbds://h/?tls-psk-file=a%00", "tls-psk-file contains a NUL byte"},
    {"nbds://h/?tls-certificates=", "tls-certificates is empty"},
    {"nbds://h/?tls-priority=", "tls-priority is empty"},
    {"nbds://h/?tls-psk-file=k&tls-certificates=c", "tls-psk-file conflicts with tls-certificates"},
    {"nbds://h/?tls-type=x509&tls-psk-file=k", "tls-type=x509 conflicts with tls-psk-file"},
    {"nbds://h/?tls-psk-file=k&tls-type=x509", "tls-type=x509 conflicts with tls-psk-file"},
    {"nbds://h/?tls-type=psk&tls-certificates=c", "tls-type=psk conflicts with tls-certificates"},
    {"nbds://h/?tls-type=anon&tls-certificates=c", "tls-type=anon conflicts with credentials"},
    {"nbds://h/?tls-type=anon&tls-psk-file=k", "tls-type=anon conflicts with credentials"},
    {"nbds://alice@h/?tls-type=anon", "tls-type=anon conflicts with credentials"},
    {"nbds://h/?tls-type=anon&tls-verify-peer=1", "tls-type=anon conflicts with tls-verify-peer"},
    {"nbd+vsock://", "not a vsock CID"},
    {"nbd+vsock://:10809/", "not a vsock CID"},
    {"nbd+vsock://host/", "not a vsock CID"},
    {"nbd+vsock://-1/", "not a vsock CID"},
    {"nbd+vsock://[::1]/", "not a vsock CID"},
    {"nbd+vsock://4294967295/", "not a vsock CID"},
    {"nbd+vsock://99999999999999999999/", "not a vsock CID"},
    {"nbd+vsock://2:4294967295/", "port 4294967295 is outside"},
    {"nbd+vsock://2:0/", "port 0 is outside"},
};

static void parse(struct target *target, const char *uri)
{
    struct failure failure = {0};

    if (target_parse(target, uri, strlen(uri), &failure) == 0)
        return;
    print_error("%s: %s\n", uri, failure.text);
    fail_msg("refused");
}

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct target target, again;
        char *canonical;

        parse(&target, good[i].uri);
        canonical = target_format(&target);
        assert_non_null(canonical);
        assert_string_equal(canonical, good[i].canonical ? good[i].canonical : good[i].uri);
        parse(&again, canonical);
        assert_true(target_equal(&target, &again));
        target_clear(&target);
        target_clear(&again);
        free(canonical);
    }
}

static void test_bad(void **state)
{
    static const struct target cleared;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct failure failure = {0};
        struct target target;

        if (target_parse(&target, bad[i].uri, strlen(bad[i].uri), &failure) != -EINVAL) {
            print_error("%s\n", bad[i].uri);
            fail_msg("accepted");
        }
        assert_memory_equal(failure.text, "invalid NBD URI: ", 17);
        if (!strstr(failure.text, bad[i].reason)) {
            print_error("%s: %s\n", bad[i].uri, failure.text);
            fail_msg("wrong reason");
        }
        assert_memory_equal(&target, &cleared, sizeof target);
    }
}

static void test_tcp_members(void **state)
{
    struct target target;

    (void)state;
    parse(&target,
          "nbds://alice@[fe80::1%25eth0]:10810//a%20b?tls-type=psk&tls-psk-file=/k%2b+&tls-hostname=h"
          "&tls-verify-peer=no&tls-priority=p");
    assert_int_equal(target.transport, TARGET_TCP);
    assert_int_equal(target.tls, TARGET_TLS_REQUIRE);
    assert_string_equal(target.host, "fe80::1%eth0");
    assert_string_equal(target.port, "10810");
    assert_string_equal(target.export_name, "/a b");
    assert_string_equal(target.user, "alice");
    assert_int_equal(target.tls_type, TARGET_TLS_TYPE_PSK);
    assert_int_equal(target.tls_verify, TARGET_VERIFY_NO);
    assert_string_equal(target.tls_hostname, "h");
    assert_string_equal(target.tls_psk_file, "/k++");
    assert_string_equal(target.tls_priority, "p");
    assert_null(target.tls_certificates);
    assert_null(target.socket_path);
    target_clear(&target);
    parse(&target, "nbd://h");
    assert_int_equal(target.tls, TARGET_TLS_NEVER);
    assert_int_equal(target.tls_type, TARGET_TLS_TYPE_AUTO);
    assert_int_equal(target.tls_verify, TARGET_VERIFY_DEFAULT);
    assert_string_equal(target.export_name, "");
    assert_null(target.user);
    target_clear(&target);
}

static void test_other_members(void **state)
{
    struct target target;

    (void)state;
    parse(&target, "nbd+unix:///?socket=%00/abstract");
    assert_int_equal(target.transport, TARGET_UNIX);
    assert_int_equal(target.socket_path_size, 10);
    assert_memory_equal(target.socket_path, "\0/abstract", 10);
    assert_null(target.host);
    assert_null(target.port);
    target_clear(&target);
    parse(&target, "nbds+vsock://7:5/");
    assert_int_equal(target.transport, TARGET_VSOCK);
    assert_int_equal(target.tls, TARGET_TLS_REQUIRE);
    assert_int_equal(target.vsock_cid, 7);
    assert_int_equal(target.vsock_port, 5);
    target_clear(&target);
}

static void test_address(void **state)
{
    static const struct {
        const char *uri, *address;
    } rows[] = {
        {"nbd://Example.com/x", "example.com port 10809"},
        {"nbds://alice@[::1]:7/x", "::1 port 7"},
        {"nbd+unix:///?socket=/run/x%0Ay", "socket /run/x\\x0ay"},
        {"nbd+unix:///?socket=%00/abstract", "socket @/abstract"},
        {"nbd+vsock://2/", "vsock 2:10809"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct target target;
        char *address;

        parse(&target, rows[i].uri);
        address = target_format_address(&target);
        assert_non_null(address);
        assert_string_equal(address, rows[i].address);
        free(address);
        target_clear(&target);
    }
}

static void test_copy_and_equal(void **state)
{
    struct target target, copy;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        parse(&target, good[i].uri);
        assert_int_equal(target_copy(&copy, &target), 0);
        assert_true(target_equal(&target, &copy));
        target_clear(&target);
        assert_false(target_equal(&target, &copy));
        target_clear(&copy);
        assert_true(target_equal(&target, &copy));
    }
}

/* One row differs from the next in a single member. */
static void test_unequal(void **state)
{
    static const char *const uris[] = {
        "nbds://h/",
        "nbds://i/",
        "nbds://i:1/",
        "nbds://i:1/x",
        "nbds://a@i:1/x",
        "nbds://a@i:1/x?tls-type=psk",
        "nbds://a@i:1/x?tls-type=x509",
        "nbds://a@i:1/x?tls-verify-peer=1",
        "nbds://a@i:1/x?tls-psk-file=k",
        "nbds://a@i:1/x?tls-certificates=k",
        "nbds://a@i:1/x?tls-hostname=k",
        "nbds://a@i:1/x?tls-priority=k",
        "nbd://i:1/x",
        "nbd+vsock://1:2/x",
        "nbd+vsock://2:2/x",
        "nbd+vsock://2:3/x",
        "nbd+unix:///x?socket=a",
        "nbd+unix:///x?socket=b",
        "nbd+unix:///x?socket=bb",
        "nbd+unix:///x?socket=%00b",
    };
    struct target a, b;

    (void)state;
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++) {
        parse(&a, uris[i]);
        for (size_t k = 0; k < sizeof uris / sizeof uris[0]; k++) {
            parse(&b, uris[k]);
            assert_int_equal(target_equal(&a, &b), i == k);
            target_clear(&b);
        }
        target_clear(&a);
    }
}

/* prefix, then count times unit, then suffix. */
static char *repeat(const char *prefix, const char *unit, size_t count, const char *suffix)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    fputs(prefix, out);
    for (size_t i = 0; i < count; i++)
        fputs(unit, out);
    fputs(suffix, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void test_limits(void **state)
{
    static const struct {
        const char *prefix, *unit;
        size_t fits;
        const char *suffix, *reason;
    } rows[] = {
        {"nbd://h/", "x", 4096, "", "export name is longer than 4096 bytes"},
        {"nbd://h/", "%C3%B6", 2048, "", "export name is longer than 4096 bytes"},
        {"nbd+unix:///?socket=", "x", 107, "", "socket is longer than 107 bytes"},
        {"nbd+unix:///?socket=%00", "x", 107, "", "socket is longer than 108 bytes"},
        {"nbds://", "x", 255, "@h/", "user name is longer than 255 bytes"},
        {"nbd://", "x", 253, "/", "host name is longer than 253 bytes"},
        {"nbds://h/?tls-psk-file=", "x", 16384 - 23, "", "longer than 16384 characters"},
        {"nbds://h/?tls-username=::::::::::::::::::::&tls-psk-file=", "x", 16384 - 84, "",
         "characters in its canonical form"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct failure failure = {0};
        struct target target;
        char *uri = repeat(rows[i].prefix, rows[i].unit, rows[i].fits, rows[i].suffix);

        parse(&target, uri);
        target_clear(&target);
        free(uri);
        uri = repeat(rows[i].prefix, rows[i].unit, rows[i].fits + 1, rows[i].suffix);
        assert_int_equal(target_parse(&target, uri, strlen(uri), &failure), -EINVAL);
        assert_non_null(strstr(failure.text, rows[i].reason));
        free(uri);
    }
}

/* The text is counted, not terminated, and what stands behind it is not read. */
static void test_size_counts(void **state)
{
    static const char uri[] = "nbd://host/diskXXX";
    struct failure failure = {0};
    char *exact = malloc(15);
    struct target target;

    (void)state;
    assert_non_null(exact);
    memcpy(exact, uri, 15);
    assert_int_equal(target_parse(&target, exact, 15, &failure), 0);
    assert_string_equal(target.export_name, "disk");
    target_clear(&target);
    assert_int_equal(target_parse(&target, "nbd://host/\0x", 13, &failure), -EINVAL);
    assert_non_null(strstr(failure.text, "control character at character 12"));
    free(exact);
}

/* Whatever is wrong elsewhere, what may be a password does not get into a message. */
static void test_no_secret_is_quoted(void **state)
{
    static const char *const uris[] = {
        "nbds://alice:hunter2@host/",
        "nbds://hunter2%zz@host/",
        "nbds://alice:hunter2/x@host/",
        "nbds://a@hunter2@host/",
        "nbds://alice:hunter2 @host/",
        "alice:hunter2@host",
        "nbd://hunter2@host/",
        "nbds://hunter2[@host/",
        "nbds://hunter2%00@host/",
        "nbds://h/?tls-username=hunter2%00",
        "nbd://h/?tls-username=hunter2",
        "nbds://h/?tls-password=hunter2",
        "nbds://a@h/?tls-username=hunter2",
    };

    (void)state;
    for (size_t i = 0; i < sizeof uris / sizeof uris[0]; i++) {
        struct failure failure = {0};
        struct target target;

        assert_int_equal(target_parse(&target, uris[i], strlen(uris[i]), &failure), -EINVAL);
        assert_null(strstr(failure.text, "hunter2"));
        assert_null(strstr(failure.hint, "hunter2"));
    }
}

static void test_messages_stay_short(void **state)
{
    char *uri = repeat("nbd://h/?", "y", 5000, "");
    struct failure failure = {0};
    struct target target;

    (void)state;
    assert_int_equal(target_parse(&target, uri, strlen(uri), &failure), -EINVAL);
    assert_true(strlen(failure.text) < 128);
    free(uri);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_tcp_members),
        cmocka_unit_test(test_other_members),
        cmocka_unit_test(test_address),
        cmocka_unit_test(test_copy_and_equal),
        cmocka_unit_test(test_unequal),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_size_counts),
        cmocka_unit_test(test_no_secret_is_quoted),
        cmocka_unit_test(test_messages_stay_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
