/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

#include "protocol/negotiate.h"
#include "wire_builder.h"

#include "cmocka_all.h"

#define FIXED (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)
#define FLAGS (NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH)

/* A machine, what its server says, and how far it has been read. */
struct fixture {
    struct negotiation *n;
    struct wire wire;
    size_t read;
    struct negotiation_event event;
    struct failure failure;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    *state = f;
    if (f)
        f->n = negotiation_new();
    return f && f->n ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    negotiation_free(f->n);
    free(f);
    return 0;
}

static void drain(struct fixture *f)
{
    const uint8_t *out;

    negotiation_sent(f->n, negotiation_output(f->n, &out));
}

/* Feeds until something happens, the machine fails, or the server has no more. */
static int next(struct fixture *f)
{
    for (;;) {
        uint8_t *into;
        size_t wanted = negotiation_wanted(f->n, &into);
        size_t left = f->wire.size - f->read;
        size_t count = wanted < left ? wanted : left;
        int r;

        if (count == 0)
            return 0;
        memcpy(into, f->wire.data + f->read, count);
        f->read += count;
        r = negotiation_received(f->n, count, &f->event, &f->failure);
        if (r < 0 || f->event.type != NEGOTIATION_EVENT_NONE)
            return r;
    }
}

static void greet(struct fixture *f, uint16_t flags)
{
    wire_greeting(&f->wire, flags);
    assert_int_equal(next(f), 0);
    assert_int_equal(f->event.type, NEGOTIATION_EVENT_GREETED);
    assert_int_equal(negotiation_state(f->n), NEGOTIATION_READY);
}

/* The server's answer breaks the protocol: -EPROTO with these words, and the machine is done for. */
static void expect_broken(struct fixture *f, const char *words)
{
    int r;

    do
        r = next(f);
    while (r == 0 && f->event.type != NEGOTIATION_EVENT_NONE && f->read < f->wire.size);
    assert_int_equal(r, -EPROTO);
    if (!strstr(f->failure.text, words))
        print_error("expected \"%s\" in \"%s\"\n", words, f->failure.text);
    assert_non_null(strstr(f->failure.text, words));
    assert_int_equal(negotiation_state(f->n), NEGOTIATION_FAILED);
    assert_int_equal(negotiation_go(f->n, "x"), -EBUSY);
}

static void test_client_flags(void **state)
{
    static const struct {
        uint16_t server;
        uint32_t client;
    } table[] = {
        {FIXED, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES},
        {NBD_FLAG_FIXED_NEWSTYLE, NBD_FLAG_C_FIXED_NEWSTYLE},
        {NBD_FLAG_NO_ZEROES, NBD_FLAG_C_NO_ZEROES},
        {0, 0},
        {0xffff, NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES}, /* unknown ones are ignored */
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const uint8_t *out;
        void *one = NULL;

        assert_int_equal(setup(&one), 0);
        greet(one, table[i].server);
        assert_int_equal(negotiation_output(((struct fixture *)one)->n, &out), 4);
        assert_int_equal(be32_get(out), table[i].client);
        teardown(&one);
    }
    (void)state;
}

static void test_bad_greetings(void **state)
{
    static const struct {
        uint64_t magic, style;
        const char *words;
    } table[] = {
        {0x485454502f312e31, 0, "does not speak NBD"},
        {NBD_MAGIC, NBD_OLDSTYLE_MAGIC, "oldstyle"},
        {NBD_MAGIC, 1, "unknown NBD negotiation"},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        void *one = NULL;
        struct fixture *f;

        assert_int_equal(setup(&one), 0);
        f = one;
        wire_64(&f->wire, table[i].magic);
        wire_64(&f->wire, table[i].style);
        wire_16(&f->wire, FIXED);
        expect_broken(f, table[i].words);
        teardown(&one);
    }
    (void)state;
}

static void test_go(void **state)
{
    struct fixture *f = *state;
    const struct export *export;
    const uint8_t *out;

    greet(f, FIXED);
    drain(f);
    assert_int_equal(negotiation_go(f->n, "disk"), 0);
    assert_int_equal(negotiation_go(f->n, "disk"), -EBUSY); /* one at a time */
    assert_int_equal(negotiation_output(f->n, &out), 16 + 4 + 4 + 2 + 6);
    assert_int_equal(be64_get(out), NBD_OPTION_MAGIC);
    assert_int_equal(be32_get(out + 8), NBD_OPT_GO);
    assert_int_equal(be32_get(out + 12), 16);
    assert_int_equal(be32_get(out + 16), 4);
    assert_memory_equal(out + 20, "disk", 4);
    assert_int_equal(be16_get(out + 24), 3);
    wire_info_export(&f->wire, NBD_OPT_GO, 1 << 20, FLAGS);
    wire_info_text(&f->wire, NBD_OPT_GO, NBD_INFO_NAME, "the disk");
    wire_info_text(&f->wire, NBD_OPT_GO, NBD_INFO_DESCRIPTION, "d\xc3\xa9");
    wire_info_blocks(&f->wire, NBD_OPT_GO, 1, 4096, 1 << 25);
    wire_reply(&f->wire, NBD_OPT_GO, NBD_REP_INFO, "\x12\x34stuff", 7); /* unknown: ignored */
    wire_ack(&f->wire, NBD_OPT_GO);
    assert_int_equal(next(f), 0);
    assert_int_equal(f->event.type, NEGOTIATION_EVENT_REPLIED);
    assert_int_equal(f->event.error, 0);
    assert_int_equal(negotiation_state(f->n), NEGOTIATION_TRANSMISSION);
    export = negotiation_export(f->n);
    assert_int_equal(export->size, 1 << 20);
    assert_int_equal(export->flags, FLAGS);
    assert_true(export->has_block_sizes);
    assert_int_equal(export->min_block, 1);
    assert_string_equal(export->canonical_name, "the disk");
    assert_string_equal(export->description, "d\xc3\xa9");
}

static void test_go_without_block_sizes_has_the_defaults(void **state)
{
    struct fixture *f = *state;

    greet(f, FIXED);
    assert_int_equal(negotiation_go(f->n, ""), 0);
    wire_info_export(&f->wire, NBD_OPT_GO, 512, FLAGS);
    wire_ack(&f->wire, NBD_OPT_GO);
    assert_int_equal(next(f), 0);
    assert_false(negotiation_export(f->n)->has_block_sizes);
    assert_int_equal(negotiation_export(f->n)->min_block, 512);
    assert_int_equal(negotiation_export(f->n)->max_payload, 1 << 25);
}

/* It never asks for a byte behind the reply that ends an option: the rest belongs to TLS, or to the kernel.
 */
static void test_takes_no_byte_too_many(void **state)
{
    struct fixture *f = *state;
    uint8_t *into;

    greet(f, FIXED);
    assert_int_equal(negotiation_go(f->n, "x"), 0);
    wire_info_export(&f->wire, NBD_OPT_GO, 512, FLAGS);
    wire_ack(&f->wire, NBD_OPT_GO);
    wire_bytes(&f->wire, "injected", 8);
    assert_int_equal(next(f), 0);
    assert_int_equal(negotiation_wanted(f->n, &into), 0);
    assert_int_equal(f->wire.size - f->read, 8);
}

static void test_go_that_breaks(void **state)
{
    static const struct {
        uint64_t size;
        uint16_t flags;
        uint32_t minimum, preferred, maximum; /* minimum 0: not told */
        const char *words;
    } table[] = {
        {UINT64_C(1) << 63, FLAGS, 0, 0, 0, "2^63"},
        {UINT64_MAX, FLAGS, 0, 0, 0, "2^63"},
        {4096, 0, 0, 0, 0, "NBD_FLAG_HAS_FLAGS"},
        {4096, FLAGS, 3, 4096, 1 << 20, "minimum block size 3"},
        {4096, FLAGS, 131072, 131072, 1 << 20, "minimum block size 131072"},
        {4096, FLAGS, 512, 5000, 1 << 20, "preferred block size 5000"},
        {4096, FLAGS, 4096, 512, 1 << 20, "preferred block size 512"},
        {4096, FLAGS, 1, 256, 1 << 20, "preferred block size 256"},
        {4096, FLAGS, 512, 4096, 2048, "maximum payload 2048"},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        void *one = NULL;
        struct fixture *f;

        assert_int_equal(setup(&one), 0);
        f = one;
        greet(f, FIXED);
        assert_int_equal(negotiation_go(f->n, "x"), 0);
        wire_info_export(&f->wire, NBD_OPT_GO, table[i].size, table[i].flags);
        if (table[i].minimum)
            wire_info_blocks(&f->wire, NBD_OPT_GO, table[i].minimum, table[i].preferred, table[i].maximum);
        wire_ack(&f->wire, NBD_OPT_GO);
        expect_broken(f, table[i].words);
        teardown(&one);
    }
    (void)state;
}

static void go_then(struct fixture *f, enum nbd_option asked)
{
    greet(f, FIXED);
    if (asked == NBD_OPT_GO)
        assert_int_equal(negotiation_go(f->n, "x"), 0);
    else if (asked == NBD_OPT_LIST)
        assert_int_equal(negotiation_list(f->n), 0);
    else
        assert_int_equal(negotiation_list_meta_context(f->n, "x", NULL, 0), 0);
}

struct raw {
    enum nbd_option asked, answered;
    uint32_t type;
    const char *payload;
    size_t size;
    const char *words;
};

static void test_malformed_replies(void **state)
{
    static const char long_name[4 + 4097] = {0, 0, 0x10, 0x01};
    static const char nul_name[] = {0, 0, 0, 3, 'a', 0, 'b'};
    static const char not_utf8[] = {0, 0, 0, 2, (char)0xc0, (char)0x80};
    static const struct raw table[] = {
        {NBD_OPT_GO, NBD_OPT_INFO, NBD_REP_ACK, "", 0, "when NBD_OPT_GO was asked"},
        {NBD_OPT_GO, NBD_OPT_GO, NBD_REP_ACK, "x", 1, "NBD_REP_ACK with data"},
        {NBD_OPT_GO, NBD_OPT_GO, NBD_REP_ACK, "", 0, "without telling its size"},
        {NBD_OPT_GO, NBD_OPT_GO, NBD_REP_SERVER, "\0\0\0\0", 4, "reply type 2"},
        {NBD_OPT_GO, NBD_OPT_GO, 77, "", 0, "reply type 77"},
        {NBD_OPT_GO, NBD_OPT_GO, NBD_REP_INFO, "\0", 1, "information type"},
        {NBD_OPT_GO, NBD_OPT_GO, NBD_REP_INFO, "\0\0\0\0", 4, "NBD_INFO_EXPORT is not 12"},
        {NBD_OPT_GO, NBD_OPT_GO, NBD_REP_INFO, "\0\3\0\0", 4, "NBD_INFO_BLOCK_SIZE is not 14"},
        {NBD_OPT_GO, NBD_OPT_GO, NBD_REP_INFO, "\0\1\xff", 3, "not UTF-8"},
        {NBD_OPT_LIST, NBD_OPT_LIST, NBD_REP_SERVER, "\0\0\0", 3, "no room for a name"},
        {NBD_OPT_LIST, NBD_OPT_LIST, NBD_REP_SERVER, "\0\0\0\5abcd", 8, "longer than the reply"},
        {NBD_OPT_LIST, NBD_OPT_LIST, NBD_REP_SERVER, "\xff\xff\xff\xff", 4, "longer than the reply"},
        {NBD_OPT_LIST, NBD_OPT_LIST, NBD_REP_SERVER, long_name, sizeof long_name, "more than 4096"},
        {NBD_OPT_LIST, NBD_OPT_LIST, NBD_REP_SERVER, nul_name, sizeof nul_name, "not UTF-8"},
        {NBD_OPT_LIST, NBD_OPT_LIST, NBD_REP_SERVER, not_utf8, sizeof not_utf8, "not UTF-8"},
        {NBD_OPT_LIST, NBD_OPT_LIST, NBD_REP_INFO, "\0\0", 2, "reply type 3"},
        {NBD_OPT_LIST_META_CONTEXT, NBD_OPT_LIST_META_CONTEXT, NBD_REP_META_CONTEXT, "\0\0\0\1", 4,
         "no room for a meta context"},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        void *one = NULL;

        assert_int_equal(setup(&one), 0);
        go_then(one, table[i].asked);
        wire_reply(&((struct fixture *)one)->wire, table[i].answered, table[i].type, table[i].payload,
                   table[i].size);
        expect_broken(one, table[i].words);
        teardown(&one);
    }
    (void)state;
}

static void test_wrong_magic_and_length(void **state)
{
    struct fixture *f = *state;

    greet(f, FIXED);
    assert_int_equal(negotiation_go(f->n, "x"), 0);
    wire_64(&f->wire, NBD_OPTION_REPLY_MAGIC);
    wire_32(&f->wire, NBD_OPT_GO);
    wire_32(&f->wire, NBD_REP_INFO);
    wire_32(&f->wire, UINT32_MAX);
    expect_broken(f, "claims 4294967295 bytes");
}

static void test_wrong_magic(void **state)
{
    struct fixture *f = *state;

    greet(f, FIXED);
    assert_int_equal(negotiation_go(f->n, "x"), 0);
    wire_64(&f->wire, NBD_OPTION_MAGIC);
    wire_64(&f->wire, 0);
    wire_32(&f->wire, 0);
    expect_broken(f, "wrong magic number");
}

static void test_two_sizes_that_differ(void **state)
{
    struct fixture *f = *state;

    greet(f, FIXED);
    assert_int_equal(negotiation_go(f->n, "x"), 0);
    wire_info_export(&f->wire, NBD_OPT_GO, 512, FLAGS);
    wire_info_export(&f->wire, NBD_OPT_GO, 1024, FLAGS);
    expect_broken(f, "differ");
}

static void test_endless_infos(void **state)
{
    struct fixture *f = *state;

    greet(f, FIXED);
    assert_int_equal(negotiation_go(f->n, "x"), 0);
    for (int i = 0; i <= NEGOTIATION_MAX_INFOS; i++)
        wire_info_export(&f->wire, NBD_OPT_GO, 512, FLAGS);
    expect_broken(f, "more than 64 replies");
}

static void test_endless_contexts(void **state)
{
    struct fixture *f = *state;
    int r = 0;

    greet(f, FIXED);
    assert_int_equal(negotiation_list_meta_context(f->n, "x", NULL, 0), 0);
    for (int i = 0; i < NEGOTIATION_MAX_CONTEXTS + 2 && r == 0; i++) {
        f->wire.size = f->read = 0;
        wire_reply(&f->wire, NBD_OPT_LIST_META_CONTEXT, NBD_REP_META_CONTEXT, "\0\0\0\1a:b", 7);
        r = next(f);
    }
    assert_int_equal(r, -EPROTO);
    assert_non_null(strstr(f->failure.text, "more than 4097 replies"));
}

static void test_error_replies(void **state)
{
    struct fixture *f = *state;

    greet(f, FIXED);
    drain(f);
    assert_int_equal(negotiation_go(f->n, "x"), 0);
    drain(f);
    wire_reply(&f->wire, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN, "go\033[2Jaway", 10);
    assert_int_equal(next(f), 0);
    assert_int_equal(f->event.type, NEGOTIATION_EVENT_REPLIED);
    assert_int_equal(f->event.error, NBD_REP_ERR_UNKNOWN);
    assert_string_equal(f->event.message, "go\033[2Jaway"); /* whoever shows it escapes it */
    assert_int_equal(negotiation_state(f->n), NEGOTIATION_READY);
    assert_int_equal(negotiation_info(f->n, "x"), 0); /* and on we go */
    wire_reply(&f->wire, NBD_OPT_INFO, NBD_REP_FLAG_ERROR | 4711, "", 0);
    assert_int_equal(next(f), 0);
    assert_int_equal(f->event.error, NBD_REP_FLAG_ERROR | 4711);
    assert_null(negotiation_error_name(f->event.error));
    assert_string_equal(negotiation_error_name(NBD_REP_ERR_POLICY), "NBD_REP_ERR_POLICY");
}

/* What a failed GO described is forgotten. */
static void test_failed_go_leaves_no_export(void **state)
{
    struct fixture *f = *state;

    greet(f, FIXED);
    assert_int_equal(negotiation_go(f->n, "x"), 0);
    wire_info_export(&f->wire, NBD_OPT_GO, 512, FLAGS);
    wire_reply(&f->wire, NBD_OPT_GO, NBD_REP_ERR_POLICY, "", 0);
    assert_int_equal(next(f), 0);
    assert_false(negotiation_export(f->n)->described);
}

static void test_list(void **state)
{
    struct fixture *f = *state;

    go_then(f, NBD_OPT_LIST);
    wire_reply(&f->wire, NBD_OPT_LIST, NBD_REP_SERVER, "\0\0\0\3onefirst", 12);
    wire_reply(&f->wire, NBD_OPT_LIST, NBD_REP_SERVER, "\0\0\0\0", 4);
    wire_ack(&f->wire, NBD_OPT_LIST);
    assert_int_equal(next(f), 0);
    assert_int_equal(f->event.type, NEGOTIATION_EVENT_EXPORT);
    assert_string_equal(f->event.name, "one");
    assert_string_equal(f->event.description, "first");
    assert_int_equal(next(f), 0);
    assert_string_equal(f->event.name, "");
    assert_int_equal(next(f), 0);
    assert_int_equal(f->event.type, NEGOTIATION_EVENT_REPLIED);
}

static void test_meta_contexts(void **state)
{
    static const char *const queries[] = {"base:allocation", "qemu:"};
    struct fixture *f = *state;
    const uint8_t *out;

    greet(f, FIXED);
    drain(f);
    assert_int_equal(negotiation_set_meta_context(f->n, "d", queries, 2), 0);
    assert_int_equal(negotiation_output(f->n, &out), 16 + 4 + 1 + 4 + 4 + 15 + 4 + 5);
    assert_int_equal(be32_get(out + 8), NBD_OPT_SET_META_CONTEXT);
    assert_int_equal(be32_get(out + 21), 2);
    wire_reply(&f->wire, NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT, "\0\0\0\7base:allocation", 19);
    wire_ack(&f->wire, NBD_OPT_SET_META_CONTEXT);
    assert_int_equal(next(f), 0);
    assert_int_equal(f->event.type, NEGOTIATION_EVENT_CONTEXT);
    assert_int_equal(f->event.context_id, 7);
    assert_string_equal(f->event.name, "base:allocation");
    assert_int_equal(next(f), 0);
    assert_int_equal(f->event.type, NEGOTIATION_EVENT_REPLIED);
}

static void test_export_name(void **state)
{
    static const uint8_t zeroes[124];

    for (int no_zeroes = 0; no_zeroes < 2; no_zeroes++) {
        void *one = NULL;
        struct fixture *f;

        assert_int_equal(setup(&one), 0);
        f = one;
        greet(f, no_zeroes ? NBD_FLAG_NO_ZEROES : 0);
        assert_int_equal(negotiation_list(f->n), -EOPNOTSUPP); /* not fixed newstyle */
        assert_int_equal(negotiation_export_name(f->n, "x"), 0);
        wire_64(&f->wire, 1 << 30);
        wire_16(&f->wire, FLAGS);
        if (!no_zeroes)
            wire_bytes(&f->wire, zeroes, sizeof zeroes);
        wire_bytes(&f->wire, "rest", 4);
        assert_int_equal(next(f), 0);
        assert_int_equal(negotiation_state(f->n), NEGOTIATION_TRANSMISSION);
        assert_int_equal(negotiation_export(f->n)->size, 1 << 30);
        assert_int_equal(f->wire.size - f->read, 4);
        teardown(&one);
    }
    (void)state;
}

static void test_tls_forgets_everything(void **state)
{
    struct fixture *f = *state;

    greet(f, FIXED);
    assert_int_equal(negotiation_info(f->n, "x"), 0);
    wire_info_export(&f->wire, NBD_OPT_INFO, 512, FLAGS);
    wire_ack(&f->wire, NBD_OPT_INFO);
    assert_int_equal(next(f), 0);
    assert_true(negotiation_export(f->n)->described);
    assert_int_equal(negotiation_start_tls(f->n), 0);
    wire_ack(&f->wire, NBD_OPT_STARTTLS);
    assert_int_equal(next(f), 0);
    assert_int_equal(negotiation_state(f->n), NEGOTIATION_SECURING);
    assert_int_equal(negotiation_go(f->n, "x"), -EBUSY); /* nothing in the clear any more */
    negotiation_secured(f->n);
    assert_false(negotiation_export(f->n)->described);
    assert_int_equal(negotiation_start_tls(f->n), -EALREADY);
    assert_int_equal(negotiation_go(f->n, "x"), 0);
}

static void test_abort(void **state)
{
    struct fixture *f = *state;
    const uint8_t *out;

    greet(f, FIXED);
    drain(f);
    negotiation_abort(f->n);
    assert_int_equal(negotiation_output(f->n, &out), 16);
    assert_int_equal(be32_get(out + 8), NBD_OPT_ABORT);
    assert_int_equal(negotiation_state(f->n), NEGOTIATION_ENDED);
    negotiation_abort(f->n); /* once is enough */
    assert_int_equal(negotiation_output(f->n, &out), 16);
}

static void test_limits_of_the_client(void **state)
{
    struct fixture *f = *state;
    static const char *queries[NEGOTIATION_MAX_QUERIES + 1];
    char name[NBD_MAX_STRING + 2];

    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    greet(f, FIXED);
    assert_int_equal(negotiation_go(f->n, name), -EINVAL);
    assert_int_equal(negotiation_export_name(f->n, name), -EINVAL);
    queries[0] = name;
    assert_int_equal(negotiation_list_meta_context(f->n, "x", queries, 1), -EINVAL);
    for (size_t i = 0; i <= NEGOTIATION_MAX_QUERIES; i++)
        queries[i] = "a:";
    assert_int_equal(negotiation_list_meta_context(f->n, "x", queries, NEGOTIATION_MAX_QUERIES + 1), -EINVAL);
    name[NBD_MAX_STRING] = '\0';
    assert_int_equal(negotiation_go(f->n, name), 0);
}

/* Wherever the stream is cut, the machine waits, and what comes then is taken up. */
static void test_every_cut(void **state)
{
    struct wire wire = {0};

    wire_greeting(&wire, FIXED);
    wire_info_export(&wire, NBD_OPT_GO, 1 << 20, FLAGS);
    wire_info_text(&wire, NBD_OPT_GO, NBD_INFO_NAME, "name");
    wire_ack(&wire, NBD_OPT_GO);
    for (size_t cut = 1; cut < wire.size; cut++) {
        void *one = NULL;
        struct fixture *f;

        assert_int_equal(setup(&one), 0);
        f = one;
        for (int part = 0; part < 2; part++) {
            f->wire.size = part == 0 ? cut : wire.size;
            memcpy(f->wire.data, wire.data, f->wire.size);
            while (f->read < f->wire.size && negotiation_state(f->n) != NEGOTIATION_TRANSMISSION) {
                if (negotiation_state(f->n) == NEGOTIATION_READY)
                    assert_int_equal(negotiation_go(f->n, "x"), 0);
                assert_int_equal(next(f), 0);
            }
        }
        assert_int_equal(negotiation_state(f->n), NEGOTIATION_TRANSMISSION);
        assert_string_equal(negotiation_export(f->n)->canonical_name, "name");
        teardown(&one);
    }
    (void)state;
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_client_flags),
        CASE(test_bad_greetings),
        CASE(test_go),
        CASE(test_go_without_block_sizes_has_the_defaults),
        CASE(test_takes_no_byte_too_many),
        CASE(test_go_that_breaks),
        CASE(test_malformed_replies),
        CASE(test_wrong_magic_and_length),
        CASE(test_wrong_magic),
        CASE(test_two_sizes_that_differ),
        CASE(test_endless_infos),
        CASE(test_endless_contexts),
        CASE(test_error_replies),
        CASE(test_failed_go_leaves_no_export),
        CASE(test_list),
        CASE(test_meta_contexts),
        CASE(test_export_name),
        CASE(test_tls_forgets_everything),
        CASE(test_abort),
        CASE(test_limits_of_the_client),
        CASE(test_every_cut),
    };

    return cmocka_run_group_tests_name("negotiate", tests, NULL, NULL);
}
