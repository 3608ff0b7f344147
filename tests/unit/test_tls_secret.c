/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where secrets are in this process: looked for in all of its memory. The test itself keeps them masked, so
 * that what is found is the library's.
 */
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "secret.h"
#include "tls.h"
#include "tls_internal.h"
#include "tls_peer.h"
#include "tls_pki.h"

#include "cmocka_all.h"

#define KEY_SIZE 32
#define MASK     0x5a
#define WINDOW   ((size_t)1 << 20)

#define MAPPING_MAX (UINT64_C(1) << 30) /* the sanitizer's shadow is larger, and holds no bytes of ours */

struct masked {
    uint8_t bytes[2 * KEY_SIZE];
    size_t size;
};

static void mask(struct masked *masked, const uint8_t *secret, size_t size)
{
    assert_true(size <= sizeof masked->bytes);
    for (size_t i = 0; i < size; i++)
        masked->bytes[i] = secret[i] ^ MASK;
    masked->size = size;
}

static bool matches(const uint8_t *at, const struct masked *masked)
{
    for (size_t i = 0; i < masked->size; i++)
        if ((at[i] ^ MASK) != masked->bytes[i])
            return false;
    return true;
}

static size_t count_at(const uint8_t *copy, size_t size, size_t at, const struct masked *masked,
                       size_t *where)
{
    size_t count = 0;

    for (const uint8_t *p = copy; size >= masked->size; p++) {
        p = memchr(p, masked->bytes[0] ^ MASK, (size_t)(copy + size - p));
        if (!p || (size_t)(copy + size - p) < masked->size)
            break;
        /* The copy itself is memory, too. */
        if (matches(p, masked) && (at + (size_t)(p - copy) < (size_t)copy || at >= (size_t)copy + WINDOW)) {
            count++;
            *where = at + (size_t)(p - copy);
        }
    }
    return count;
}

/* A copy of each mapping, read through the kernel: no signal for what cannot be read, and no compiler in
 * between. */
static size_t count_in(int memory, size_t from, size_t to, const struct masked *masked, size_t *where)
{
    size_t count = 0;
    uint8_t *copy = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(copy != MAP_FAILED);
    for (size_t at = from; at < to; at += WINDOW - masked->size + 1) {
        ssize_t n = pread(memory, copy, to - at < WINDOW ? to - at : WINDOW, (off_t)at);

        count += count_at(copy, n > 0 ? (size_t)n : 0, at, masked, where);
        if (n < (ssize_t)WINDOW)
            break;
    }
    explicit_bzero(copy, WINDOW);
    munmap(copy, WINDOW);
    return count;
}

static size_t count_copies(const struct masked *masked, size_t *where)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    char line[1024];
    size_t count = 0;

    assert_true(maps && memory >= 0);
    while (fgets(line, sizeof line, maps)) {
        char *end;
        size_t from = strtoul(line, &end, 16), to = strtoul(end + 1, &end, 16);

        if (end[1] == 'r' && end[2] == 'w' && to - from < MAPPING_MAX)
            count += count_in(memory, from, to, masked, where);
    }
    fclose(maps);
    close(memory);
    return count;
}

static void make_key(struct masked *raw, struct masked *hex)
{
    uint8_t key[KEY_SIZE], digits[2 * KEY_SIZE + 1];

    assert_int_equal(gnutls_rnd(GNUTLS_RND_KEY, key, sizeof key), 0);
    for (size_t i = 0; i < sizeof key; i++) {
        digits[2 * i] = (uint8_t) "0123456789abcdef"[key[i] >> 4];
        digits[2 * i + 1] = (uint8_t) "0123456789abcdef"[key[i] & 15];
    }
    mask(raw, key, sizeof key);
    mask(hex, digits, sizeof digits - 1);
    explicit_bzero(key, sizeof key);
    explicit_bzero(digits, sizeof digits);
}

static char *write_key(const char *folder, const struct masked *hex)
{
    uint8_t line[6 + 2 * KEY_SIZE + 1] = "alice:";
    char *path;

    for (size_t i = 0; i < hex->size; i++)
        line[6 + i] = hex->bytes[i] ^ MASK;
    line[sizeof line - 1] = '\n';
    path = pki_write(folder, "keys.psk", line, sizeof line, 0600);
    explicit_bzero(line, sizeof line);
    return path;
}

/* In a process of its own, so that its copies are not ours. */
static pid_t serve(const int pair[2], const char *psk_file)
{
    gnutls_psk_server_credentials_t credentials;
    gnutls_session_t session;
    uint8_t data[64];
    ssize_t n;
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    close(pair[0]);
    gnutls_psk_allocate_server_credentials(&credentials);
    gnutls_psk_set_server_credentials_file(credentials, psk_file);
    gnutls_init(&session, GNUTLS_SERVER);
    gnutls_priority_set_direct(session, "NORMAL:+ECDHE-PSK", NULL);
    gnutls_credentials_set(session, GNUTLS_CRD_PSK, credentials);
    gnutls_transport_set_int(session, pair[1]);
    if (gnutls_handshake(session) < 0)
        _exit(1);
    while ((n = gnutls_record_recv(session, data, sizeof data)) > 0)
        gnutls_record_send(session, data, (size_t)n);
    _exit(0);
}

static void mask_traffic_keys(const struct tls_session *session, struct masked keys[2])
{
    gnutls_datum_t iv, key;
    uint8_t sequence[8];

    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(gnutls_record_get_state(session->gnutls, i, NULL, &iv, &key, sequence), 0);
        mask(&keys[i], key.data, key.size);
    }
}

/* Only GnuTLS's copies of the traffic keys; only ours of the pre-shared key, which it has wiped. */
static void converse(const struct tls_credentials *credentials, int fd, const struct masked *psk,
                     struct masked traffic[2])
{
    struct tls_session *session;
    struct tls_reason reason = {0};
    size_t where = 0;
    int r;

    assert_int_equal(tls_session_new(&session, credentials, fd, NULL, &reason), 0);
    r = peer_complete(session, fd, &reason);
    if (r < 0)
        fail_msg("%d: %s", r, reason.text);
    assert_int_equal(peer_echo(session, fd, "hello", 5, &reason), 0);
    assert_int_equal(count_copies(psk, &where), 1);
    assert_true(where == (size_t)credentials->key.data);
    mask_traffic_keys(session, traffic);
    assert_true(count_copies(&traffic[0], &where) >= 1);
    assert_true(count_copies(&traffic[1], &where) >= 1);
    tls_session_free(session);
}

static void test_wiped(void **state)
{
    struct masked raw, hex, traffic[2];
    char *folder = pki_folder_new(), *path;
    struct tls_credentials *credentials;
    struct tls_reason reason = {0};
    size_t where = 0;
    int pair[2], status;
    pid_t server;

    (void)state;
    make_key(&raw, &hex);
    path = write_key(folder, &hex);
    assert_int_equal(count_copies(&raw, &where), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    server = serve(pair, path);
    close(pair[1]);
    assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(tls_credentials_load(&credentials, &(struct tls_policy){.psk_file = path}, &reason), 0);
    assert_int_equal(count_copies(&hex, &where), 0);
    assert_int_equal(count_copies(&raw, &where), 1);
    converse(credentials, pair[0], &raw, traffic);
    tls_credentials_free(credentials);
    close(pair[0]);
    assert_int_equal(waitpid(server, &status, 0), server);
    assert_int_equal(status, 0);
    assert_int_equal(count_copies(&raw, &where), 0);
    assert_int_equal(count_copies(&hex, &where), 0);
    assert_int_equal(count_copies(&traffic[0], &where), 0);
    assert_int_equal(count_copies(&traffic[1], &where), 0);
    free(path);
    pki_folder_remove(folder);
}

/* Refused on the way: the file's text is gone all the same. */
static void test_wiped_on_failure(void **state)
{
    struct masked raw, hex;
    char *folder = pki_folder_new(), *path;
    struct tls_credentials *credentials;
    struct tls_reason reason = {0};
    size_t where = 0;

    (void)state;
    make_key(&raw, &hex);
    path = write_key(folder, &hex);
    assert_int_equal(
        tls_credentials_load(&credentials, &(struct tls_policy){.psk_file = path, .user = "bob"}, &reason),
        -ENOKEY);
    assert_int_equal(tls_credentials_load(&credentials,
                                          &(struct tls_policy){.psk_file = path, .priority = "NONSENSE"},
                                          &reason),
                     -EINVAL);
    assert_int_equal(count_copies(&raw, &where), 0);
    assert_int_equal(count_copies(&hex, &where), 0);
    free(path);
    pki_folder_remove(folder);
}

/* "VmFlags: rd wr ... lo ... dd" of the mapping that holds it. */
static bool has_flags(const void *address, const char *first, const char *second)
{
    FILE *smaps = fopen("/proc/self/smaps", "re");
    char line[1024];
    bool inside = false, found = false;

    assert_non_null(smaps);
    while (fgets(line, sizeof line, smaps)) {
        char *end;
        size_t from = strtoul(line, &end, 16);

        if (*end == '-')
            inside = from <= (size_t)address && (size_t)address < strtoul(end + 1, NULL, 16);
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            found = strstr(line, first) && strstr(line, second);
    }
    fclose(smaps);
    return found;
}

/* Not where the limit is 0, nor under sanitizers, which make nothing of mlock(). */
static bool can_lock(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool locked = page != MAP_FAILED && mlock(page, 4096) == 0 && has_flags(page, " lo", " lo");

    munmap(page, 4096);
    return locked;
}

static void test_memory(void **state)
{
    struct secret secret = {0};

    (void)state;
    assert_int_equal(secret_new(&secret, 100), 0);
    assert_int_equal(secret.size, 100);
    memset(secret.data, 0x77, 100);
    assert_true(has_flags(secret.data, " dd", can_lock() ? " lo" : " dd"));
    secret_free(&secret);
    assert_null(secret.data);
    secret_free(&secret);
    assert_int_equal(secret_new(&secret, 0), 0);
    assert_non_null(secret.data);
    secret_free(&secret);
    assert_int_equal(secret_new(&secret, SIZE_MAX), -ENOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_wiped),
        cmocka_unit_test(test_wiped_on_failure),
    };

    return cmocka_run_group_tests_name("tls_secret", tests, NULL, NULL);
}
