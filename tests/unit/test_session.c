/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session over a socketpair: the server's words are written beforehand, what the client said is read
 * afterwards. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/inspect.h"
#include "protocol/session.h"
#include "protocol/transmit.h"
#include "wire_builder.h"

#include "cmocka_all.h"

#define FIXED (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)
#define FLAGS (NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH)

static const struct endpoint plain = {.target = {.tls = TARGET_TLS_NEVER}};

struct peer {
    int fd;
    struct session *session;
    struct failure failure;
};

static int open_with(struct peer *peer, const struct wire *wire)
{
    struct deadline deadline = deadline_after(UINT64_C(300000000), -1);
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    peer->fd = fds[1];
    peer->session = NULL;
    assert_int_equal(write(fds[1], wire->data, wire->size), wire->size);
    return session_open_fd(&peer->session, fds[0], &plain, &deadline, &peer->failure);
}

/* Ends the session; what the client said lately ends with this option or command. */
static void expect_farewell(struct peer *peer, uint64_t magic_tail, unsigned size)
{
    uint8_t said[4096];
    ssize_t n;

    session_close(peer->session);
    n = read(peer->fd, said, sizeof said);
    assert_true(n >= (ssize_t)size);
    if (size == 16) { /* ABORT */
        assert_int_equal(be64_get(said + n - 16), NBD_OPTION_MAGIC);
        assert_int_equal(be32_get(said + n - 8), magic_tail);
    } else { /* DISC */
        assert_int_equal(be32_get(said + n - 28), NBD_REQUEST_MAGIC);
        assert_int_equal(be16_get(said + n - 28 + 6), magic_tail);
    }
    close(peer->fd);
}

static void test_farewell_while_negotiating(void **state)
{
    struct wire wire = {0};
    struct peer peer;

    (void)state;
    wire_greeting(&wire, FIXED);
    assert_int_equal(open_with(&peer, &wire), 0);
    expect_farewell(&peer, NBD_OPT_ABORT, 16);
}

static void test_farewell_after_go(void **state)
{
    struct wire wire = {0};
    struct peer peer;

    (void)state;
    wire_greeting(&wire, FIXED);
    wire_info_export(&wire, NBD_OPT_GO, 4096, FLAGS);
    wire_ack(&wire, NBD_OPT_GO);
    assert_int_equal(open_with(&peer, &wire), 0);
    assert_int_equal(session_go(peer.session, "x", &peer.failure), 0);
    expect_farewell(&peer, NBD_CMD_DISC, 28);
}

static void test_falls_back_to_export_name(void **state)
{
    struct wire wire = {0};
    struct peer peer;

    (void)state;
    wire_greeting(&wire, FIXED);
    wire_reply(&wire, NBD_OPT_GO, NBD_REP_ERR_UNSUP, "", 0);
    wire_64(&wire, 8192);
    wire_16(&wire, FLAGS);
    assert_int_equal(open_with(&peer, &wire), 0);
    assert_int_equal(session_go(peer.session, "x", &peer.failure), 0);
    assert_int_equal(session_export(peer.session)->size, 8192);
    session_close(peer.session);
    close(peer.fd);
}

static void test_refusals_do_not_fall_back(void **state)
{
    static const struct {
        uint32_t error;
        int result;
        const char *words;
    } table[] = {
        {NBD_REP_ERR_UNKNOWN, -ENOENT, "no such export"},
        {NBD_REP_ERR_POLICY, -EACCES, "policy"},
        {NBD_REP_ERR_TLS_REQD, -ENOKEY, "demands TLS"},
        {NBD_REP_ERR_SHUTDOWN, -ESHUTDOWN, "shutting down"},
        {NBD_REP_ERR_PLATFORM, -EREMOTEIO, "platform"},
        {NBD_REP_ERR_BLOCK_SIZE_REQD, -EINVAL, "block sizes"},
        {NBD_REP_ERR_TOO_BIG, -EMSGSIZE, "too big"},
        {NBD_REP_ERR_INVALID, -EINVAL, "invalid"},
        {NBD_REP_ERR_EXT_HEADER_REQD, -EINVAL, "extended"},
        {NBD_REP_FLAG_ERROR | 99, -EINVAL, "refuses"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct wire wire = {0};
        struct peer peer;

        wire_greeting(&wire, FIXED);
        wire_reply(&wire, NBD_OPT_GO, table[i].error, "line\nbreak", 10);
        assert_int_equal(open_with(&peer, &wire), 0);
        assert_int_equal(session_go(peer.session, "x", &peer.failure), table[i].result);
        assert_non_null(strstr(peer.failure.text, table[i].words));
        assert_non_null(strstr(peer.failure.text, "line\\x0abreak"));
        expect_farewell(&peer, NBD_OPT_ABORT, 16);
    }
}

static void test_replies_agreed(void **state)
{
    static const struct {
        uint32_t extended, structured; /* 1: ACK, else the error */
        enum session_replies replies;
        int result;
    } table[] = {
        {1, 0, SESSION_EXTENDED, 0},
        {NBD_REP_ERR_UNSUP, 1, SESSION_STRUCTURED, 0},
        {NBD_REP_ERR_POLICY, NBD_REP_ERR_UNSUP, SESSION_SIMPLE, 0},
        {NBD_REP_ERR_TLS_REQD, 0, SESSION_SIMPLE, -ENOKEY},
        {NBD_REP_ERR_UNSUP, NBD_REP_ERR_SHUTDOWN, SESSION_SIMPLE, -ESHUTDOWN},
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct wire wire = {0};
        struct peer peer;

        wire_greeting(&wire, FIXED);
        wire_reply(&wire, NBD_OPT_EXTENDED_HEADERS, table[i].extended, "", 0);
        if (table[i].structured)
            wire_reply(&wire, NBD_OPT_STRUCTURED_REPLY, table[i].structured, "", 0);
        assert_int_equal(open_with(&peer, &wire), 0);
        assert_int_equal(session_agree_replies(peer.session, &peer.failure), table[i].result);
        assert_int_equal(session_replies(peer.session), table[i].replies);
        session_close(peer.session);
        close(peer.fd);
    }
}

static struct peer opened(enum session_replies mode, struct wire *replies)
{
    struct wire wire = {0};
    struct peer peer;

    wire_greeting(&wire, FIXED);
    if (mode != SESSION_SIMPLE) {
        wire_reply(&wire, NBD_OPT_EXTENDED_HEADERS,
                   mode == SESSION_EXTENDED ? NBD_REP_ACK : NBD_REP_ERR_UNSUP, "", 0);
        if (mode == SESSION_STRUCTURED)
            wire_ack(&wire, NBD_OPT_STRUCTURED_REPLY);
    }
    wire_info_export(&wire, NBD_OPT_GO, 1 << 20, FLAGS);
    wire_ack(&wire, NBD_OPT_GO);
    if (replies)
        wire_bytes(&wire, replies->data, replies->size);
    assert_int_equal(open_with(&peer, &wire), 0);
    if (mode != SESSION_SIMPLE)
        assert_int_equal(session_agree_replies(peer.session, &peer.failure), 0);
    assert_int_equal(session_go(peer.session, "x", &peer.failure), 0);
    return peer;
}

static void test_the_kernel_gets_a_silent_socket(void **state)
{
    struct peer peer = opened(SESSION_SIMPLE, NULL);
    int fd = session_steal_fd(peer.session, &peer.failure);

    (void)state;
    assert_true(fd >= 0);
    session_close(peer.session); /* says nothing: the session is the kernel's now */
    assert_int_equal(write(peer.fd, "x", 1), 1);
    close(fd);
    close(peer.fd);
}

static void test_the_kernel_gets_no_socket_with_bytes_in_it(void **state)
{
    struct wire extra = {0};
    struct peer peer;

    (void)state;
    wire_64(&extra, 0);
    peer = opened(SESSION_SIMPLE, &extra);
    assert_int_equal(session_steal_fd(peer.session, &peer.failure), -EPROTO);
    session_close(peer.session);
    close(peer.fd);
}

static void test_the_kernel_gets_no_structured_session(void **state)
{
    struct peer peer = opened(SESSION_STRUCTURED, NULL);

    (void)state;
    assert_int_equal(session_steal_fd(peer.session, &peer.failure), -EINVAL);
    session_close(peer.session);
    close(peer.fd);
}

static void test_silence_and_dripping_end_at_the_deadline(void **state)
{
    struct wire wire = {0};
    struct peer peer;

    (void)state;
    assert_int_equal(open_with(&peer, &wire), -ETIMEDOUT);
    close(peer.fd);
    wire_64(&wire, NBD_MAGIC);
    assert_int_equal(open_with(&peer, &wire), -ETIMEDOUT);
    assert_non_null(strstr(peer.failure.text, "in time"));
    close(peer.fd);
}

static void chunk(struct wire *wire, uint16_t flags, uint16_t type, uint64_t cookie, uint32_t size)
{
    wire_32(wire, NBD_STRUCTURED_REPLY_MAGIC);
    wire_16(wire, flags);
    wire_16(wire, type);
    wire_64(wire, cookie);
    wire_32(wire, size);
}

static void data_chunk(struct wire *wire, uint16_t flags, uint64_t offset, const char *text)
{
    chunk(wire, flags, NBD_REPLY_TYPE_OFFSET_DATA, 1, 8 + (uint32_t)strlen(text));
    wire_64(wire, offset);
    wire_bytes(wire, text, strlen(text));
}

static void hole_chunk(struct wire *wire, uint16_t flags, uint64_t offset, uint32_t length)
{
    chunk(wire, flags, NBD_REPLY_TYPE_OFFSET_HOLE, 1, 12);
    wire_64(wire, offset);
    wire_32(wire, length);
}

static int read_with(struct wire *replies, uint8_t *buffer, uint32_t length, struct failure *failure)
{
    struct peer peer = opened(SESSION_STRUCTURED, replies);
    int r = transmit_read(peer.session, 512, length, buffer, failure);

    session_close(peer.session);
    close(peer.fd);
    return r;
}

static void test_read_of_chunks(void **state)
{
    struct wire wire = {0};
    struct failure failure;
    uint8_t buffer[16];

    (void)state;
    memset(buffer, 'x', sizeof buffer);
    data_chunk(&wire, 0, 512, "abcd");
    hole_chunk(&wire, 0, 516, 8);
    data_chunk(&wire, NBD_REPLY_FLAG_DONE, 524, "efgh");
    assert_int_equal(read_with(&wire, buffer, 16, &failure), 0);
    assert_memory_equal(buffer, "abcd\0\0\0\0\0\0\0\0efgh", 16);
}

static void test_reads_that_lie(void **state)
{
    struct failure failure;
    uint8_t buffer[16];

    (void)state;
    for (int i = 0; i < 9; i++) {
        struct wire wire = {0};

        switch (i) {
        case 0: /* before the request */
            data_chunk(&wire, NBD_REPLY_FLAG_DONE, 511, "abcd");
            break;
        case 1: /* past its end */
            data_chunk(&wire, NBD_REPLY_FLAG_DONE, 525, "abcd");
            break;
        case 2: /* past the end of numbers */
            data_chunk(&wire, NBD_REPLY_FLAG_DONE, UINT64_MAX - 1, "abcd");
            break;
        case 3: /* twice the same */
            data_chunk(&wire, 0, 512, "abcd");
            data_chunk(&wire, NBD_REPLY_FLAG_DONE, 514, "abcdefghijklmn");
            break;
        case 4: /* not all of it */
            data_chunk(&wire, NBD_REPLY_FLAG_DONE, 512, "abcd");
            break;
        case 5: /* nothing, for ever */
            for (int n = 0; n < 1000; n++)
                chunk(&wire, 0, NBD_REPLY_TYPE_NONE, 1, 0);
            break;
        case 6: /* 4 GiB */
            chunk(&wire, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_OFFSET_DATA, 1, UINT32_MAX);
            wire_64(&wire, 512);
            break;
        case 7: /* another's cookie */
            chunk(&wire, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, 2, 0);
            break;
        default: /* a simple reply where chunks are due */
            wire_32(&wire, NBD_SIMPLE_REPLY_MAGIC);
            wire_32(&wire, 0);
            wire_64(&wire, 1);
            wire_bytes(&wire, "0123456789abcdef", 16);
            break;
        }
        assert_int_equal(read_with(&wire, buffer, 16, &failure), -EPROTO);
    }
}

static void test_read_error(void **state)
{
    struct wire wire = {0};
    struct failure failure;
    uint8_t buffer[16];

    (void)state;
    chunk(&wire, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, 1, 10);
    wire_bytes(&wire, "\0\0\0\5\0\4bad\n", 10);
    assert_int_equal(read_with(&wire, buffer, 16, &failure), -EIO);
    assert_non_null(strstr(failure.text, "bad\\x0a"));
}

static void test_string_list_is_bounded(void **state)
{
    struct string_list list = {0};
    char *text = malloc(1 << 20);
    int added = 0;

    (void)state;
    assert_non_null(text);
    memset(text, 'x', (1 << 20) - 1);
    text[(1 << 20) - 1] = '\0';
    while (string_list_add(&list, text) == 0)
        added++;
    assert_int_equal(added, INSPECT_MAX_BYTES >> 20);
    assert_int_equal(string_list_add(&list, text), -E2BIG);
    string_list_clear(&list);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_farewell_while_negotiating),
        cmocka_unit_test(test_farewell_after_go),
        cmocka_unit_test(test_falls_back_to_export_name),
        cmocka_unit_test(test_refusals_do_not_fall_back),
        cmocka_unit_test(test_replies_agreed),
        cmocka_unit_test(test_the_kernel_gets_a_silent_socket),
        cmocka_unit_test(test_the_kernel_gets_no_socket_with_bytes_in_it),
        cmocka_unit_test(test_the_kernel_gets_no_structured_session),
        cmocka_unit_test(test_silence_and_dripping_end_at_the_deadline),
        cmocka_unit_test(test_read_of_chunks),
        cmocka_unit_test(test_reads_that_lie),
        cmocka_unit_test(test_read_error),
        cmocka_unit_test(test_string_list_is_bounded),
    };

    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
