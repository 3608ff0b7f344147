/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "relayed.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/relay.h"

#include "cmocka_all.h"

#define NS_PER_S  UINT64_C(1000000000)
/* A relay ends within a second; a busy machine, or valgrind, takes longer to run it. */
#define END_NS    (5 * NS_PER_S)
#define PIECE_MAX 100000

/* Never seen by cmocka's checks in another thread: those longjmp. */
static void must(bool ok)
{
    if (!ok)
        abort();
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

void relayed_prepare(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGPIPE, SIG_IGN);
}

void relayed_start(struct relayed *r)
{
    struct failure weakness = {0}, failure = {0};

    relay_peer_open(&r->peer);
    if (relay_start(&r->peer.connection, &r->pid, &weakness, &failure) < 0)
        fail_msg("%s", failure.text);
    assert_null(r->peer.connection.session);
    assert_true(r->peer.connection.fd >= 0);
}

/* We are its subreaper, so that it comes to us when it has ended. */
void relayed_expect_end(struct relayed *r)
{
    uint64_t until = monotonic_ns() + END_NS;
    int status;
    pid_t pid;

    while ((pid = waitpid(r->pid, &status, WNOHANG)) == 0 && monotonic_ns() < until)
        usleep(5000);
    assert_int_equal(pid, r->pid);
    assert_true(WIFEXITED(status)); /* with 0; but valgrind has its own opinion of a forked child's heap */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

void relayed_let_go(struct relayed *r)
{
    close(r->peer.connection.fd);
    r->peer.connection.fd = -1;
}

void relayed_end(struct relayed *r)
{
    relayed_let_go(r);
    shutdown(r->peer.fd, SHUT_RDWR);
    relayed_expect_end(r);
    relay_peer_clear(&r->peer);
}

ssize_t relayed_read(struct relayed *r, bool server, void *into, size_t size)
{
    return server ? relay_peer_read(&r->peer, into, size) : recv(r->peer.connection.fd, into, size, 0);
}

ssize_t relayed_write(struct relayed *r, bool server, const void *from, size_t size)
{
    return server ? relay_peer_write(&r->peer, from, size)
                  : send(r->peer.connection.fd, from, size, MSG_NOSIGNAL);
}

/* A stream of pseudo-random bytes, in pieces of pseudo-random sizes. */
struct stream {
    struct relayed *r;
    bool server; /* whose end we are at */
    uint32_t seed;
    size_t size;
};

static void *write_stream(void *opaque)
{
    struct stream *s = opaque;
    uint32_t bytes = s->seed, sizes = ~s->seed;
    uint8_t piece[PIECE_MAX];

    for (size_t left = s->size; left > 0;) {
        size_t size = 1 + next_random(&sizes) % (next_random(&sizes) % 4 ? PIECE_MAX : 64), done = 0;

        size = size < left ? size : left;
        for (size_t i = 0; i < size; i++)
            piece[i] = (uint8_t)next_random(&bytes);
        while (done < size) {
            ssize_t n = relayed_write(s->r, s->server, piece + done, size - done);

            must(n > 0);
            done += (size_t)n;
        }
        left -= size;
    }
    return NULL;
}

static void *read_stream(void *opaque)
{
    struct stream *s = opaque;
    uint32_t bytes = s->seed, sizes = s->seed * 3 + 1;
    uint8_t piece[PIECE_MAX];

    for (size_t left = s->size; left > 0;) {
        size_t size = 1 + next_random(&sizes) % PIECE_MAX;
        ssize_t n = relayed_read(s->r, s->server, piece, size < left ? size : left);

        must(n > 0);
        for (ssize_t i = 0; i < n; i++)
            must(piece[i] == (uint8_t)next_random(&bytes));
        left -= (size_t)n;
    }
    return NULL;
}

/* Both ways at once. */
void relayed_exchange(struct relayed *r, size_t size)
{
    struct stream streams[] = {{r, false, 0x1234567, size},
                               {r, true, 0x1234567, size},
                               {r, true, 0x7654321, size},
                               {r, false, 0x7654321, size}};
    pthread_t threads[4];

    for (size_t i = 0; i < 4; i++)
        must(pthread_create(&threads[i], NULL, i % 2 ? read_stream : write_stream, &streams[i]) == 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

void relayed_pass(struct relayed *r, bool to_server, const char *text)
{
    char back[64] = "";
    size_t have = 0;

    assert_int_equal(relayed_write(r, !to_server, text, strlen(text)), strlen(text));
    while (have < strlen(text)) {
        ssize_t n = relayed_read(r, to_server, back + have, strlen(text) - have);

        assert_true(n > 0);
        have += (size_t)n;
    }
    assert_string_equal(back, text);
}

void relayed_expect_eof(struct relayed *r, bool server)
{
    char byte;

    assert_int_equal(relayed_read(r, server, &byte, 1), 0);
}
