/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Credentials as files: what is taken, what is refused, and how the refusal reads. */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tls.h"
#include "tls_pki.h"

#include "cmocka_all.h"

#define KEY_LINE "alice:000102030405060708090a0b0c0d0e0f\n"

static char *folder;
static struct pki_identity authority, other_authority, client, expired;

static int set_up(void **state)
{
    (void)state;
    folder = pki_folder_new();
    pki_make(&authority, &(struct pki_spec){.name = "Test authority", .authority = true}, NULL);
    pki_make(&other_authority, &(struct pki_spec){.name = "Other authority", .authority = true}, NULL);
    pki_make(&client, &(struct pki_spec){.name = "client", .is_client = true}, &authority);
    pki_make(&expired, &(struct pki_spec){.name = "client", .is_client = true, .from = -3, .until = -1},
             &authority);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pki_clear(&authority);
    pki_clear(&other_authority);
    pki_clear(&client);
    pki_clear(&expired);
    pki_folder_remove(folder);
    return 0;
}

static int load(const struct tls_policy *policy, struct tls_reason *reason)
{
    struct tls_credentials *credentials = NULL;
    int r = tls_credentials_load(&credentials, policy, reason);

    tls_credentials_free(credentials);
    return r;
}

static void check(const struct tls_policy *policy, int error, const char *says)
{
    struct tls_reason reason = {0};
    int r = load(policy, &reason);

    if (r != -error || (error && !strstr(reason.text, says)))
        fail_msg("%d (wanted %d, \"%s\"): %s", r, -error, says, reason.text);
    assert_null(strstr(reason.text, "0001020304"));
    assert_null(strstr(reason.hint, "0001020304"));
}

static void check_psk(const char *text, unsigned mode, const char *user, int error, const char *says)
{
    char *path = pki_write(folder, "keys.psk", text, strlen(text), mode);

    check(&(struct tls_policy){.psk_file = path, .user = user}, error, says);
    unlink(path);
    free(path);
}

static void test_psk_file(void **state)
{
    (void)state;
    check_psk(KEY_LINE, 0600, "alice", 0, "");
    check_psk(KEY_LINE, 0400, "alice", 0, "");
    check_psk(KEY_LINE, 0600, "bob", ENOKEY, "keys.psk: no key for the user \"bob\"");
    check_psk("", 0600, "alice", EINVAL, "keys.psk: there is no key in it");
    check_psk("alice:abc\n", 0600, "alice", EINVAL,
              "keys.psk: line 1: the key has an odd number of hex digits");
    check_psk("abcd\n", 0600, "alice", EINVAL, "keys.psk: line 1 has no colon");
    check_psk("bob:ff\ncarol:ff\n", 0600, NULL, ENOKEY, "none was chosen");
}

static void test_psk_mode(void **state)
{
    static const unsigned modes[] = {0640, 0604, 0644, 0660, 0666, 0620, 0601};

    (void)state;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        check_psk(KEY_LINE, modes[i], "alice", EACCES, "wanted 0600");
}

static void test_psk_owner(void **state)
{
    char *path = pki_write(folder, "keys.psk", KEY_LINE, sizeof KEY_LINE - 1, 0600);

    (void)state;
    if (geteuid() == 0 && chown(path, 12345, (gid_t)-1) == 0)
        check(&(struct tls_policy){.psk_file = path, .user = "alice"}, EACCES,
              "belongs to another user (uid 12345)");
    unlink(path);
    free(path);
}

static void test_psk_kind(void **state)
{
    char *path = NULL, *link = NULL;

    (void)state;
    check(&(struct tls_policy){.psk_file = "/nonexistent/keys.psk"}, ENOENT,
          "/nonexistent/keys.psk: No such file");
    check(&(struct tls_policy){.psk_file = folder}, EINVAL, "is not a regular file");
    check(&(struct tls_policy){.psk_file = "/dev/null"}, EINVAL, "is not a regular file");
    check(&(struct tls_policy){.type = TLS_TYPE_PSK}, EINVAL, "needs a file of keys");
    assert_true(asprintf(&path, "%s/pipe", folder) > 0 && mkfifo(path, 0600) == 0);
    check(&(struct tls_policy){.psk_file = path}, EINVAL, "is not a regular file");
    unlink(path);
    free(path);
    /* A link is followed; it is the file that counts. */
    path = pki_write(folder, "keys.psk", KEY_LINE, sizeof KEY_LINE - 1, 0600);
    assert_true(asprintf(&link, "%s/link", folder) > 0 && symlink("keys.psk", link) == 0);
    check(&(struct tls_policy){.psk_file = link, .user = "alice"}, 0, "");
    assert_int_equal(chmod(path, 0644), 0);
    check(&(struct tls_policy){.psk_file = link, .user = "alice"}, EACCES, "wanted 0600");
    unlink(link);
    unlink(path);
    free(link);
    free(path);
}

static void test_psk_size(void **state)
{
    size_t size = 1024 * 1024 + 1;
    char *big = malloc(size), *path;

    (void)state;
    assert_non_null(big);
    memset(big, '\n', size);
    path = pki_write(folder, "keys.psk", big, size, 0600);
    check(&(struct tls_policy){.psk_file = path}, EFBIG, "is larger than 1048576 bytes");
    unlink(path);
    free(path);
    free(big);
}

/* The login name is tried before the only user is taken. */
static void test_psk_user(void **state)
{
    struct passwd *me = getpwuid(geteuid());
    char text[512];

    (void)state;
    check_psk("zed:ff\n", 0600, NULL, 0, "");
    if (!me)
        return;
    snprintf(text, sizeof text, "zed:ff\n%s:ff\nyan:ff\n", me->pw_name);
    check_psk(text, 0600, NULL, 0, "");
}

/* The folder anew, with what is named. */
static void fill(bool ca, const struct pki_identity *certificate, const struct pki_identity *key)
{
    static const char *const names[] = {"ca-cert.pem", "ca-crl.pem", "client-cert.pem", "client-key.pem"};
    char path[512];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    if (ca)
        pki_write_certificate(&authority, folder, "ca-cert.pem");
    if (certificate)
        pki_write_certificate(certificate, folder, "client-cert.pem");
    if (key)
        pki_write_key(key, folder, "client-key.pem", NULL);
}

static void check_folder(int error, const char *says)
{
    check(&(struct tls_policy){.certificates = folder}, error, says);
}

static void test_folder_files(void **state)
{
    (void)state;
    fill(true, NULL, NULL);
    check_folder(0, "");
    fill(true, &client, &client);
    check_folder(0, "");
    fill(false, NULL, NULL);
    check_folder(ENOENT, "there is no ca-cert.pem in ");
    fill(false, &client, NULL);
    check_folder(ENOENT, "there is no ca-cert.pem and no client-key.pem in ");
    fill(true, &client, NULL);
    check_folder(ENOENT, "there is no client-key.pem in ");
    fill(true, NULL, &client);
    check_folder(ENOENT, "there is no client-cert.pem in ");
    fill(false, NULL, NULL);
    check(&(struct tls_policy){.certificates = folder, .no_verify = true}, 0, "");
    check(&(struct tls_policy){.certificates = "/nonexistent"}, ENOENT, "/nonexistent: No such file");
    check(&(struct tls_policy){.certificates = "/dev/null"}, ENOTDIR, "/dev/null is not a folder");
}

static void spoil(const char *name, const char *text)
{
    free(pki_write(folder, name, text, strlen(text), 0600));
}

static void test_folder_pem(void **state)
{
    (void)state;
    fill(true, &client, &client);
    spoil("ca-cert.pem", "");
    check_folder(EINVAL, "ca-cert.pem has no certificate in PEM form");
    spoil("ca-cert.pem", "no certificate\n");
    check_folder(EINVAL, "ca-cert.pem has no certificate in PEM form");
    spoil("ca-cert.pem", "-----BEGIN CERTIFICATE-----\nMIIB!!!!\n-----END CERTIFICATE-----\n");
    check_folder(EINVAL, "ca-cert.pem: the certificate does not parse");
    spoil("ca-cert.pem", "-----BEGIN CERTIFICATE-----\nMIIBkDCB\n-----END CERTIFICATE-----\n");
    check_folder(EINVAL, "ca-cert.pem: the certificate does not parse");
    fill(true, &client, &client);
    spoil("client-cert.pem", "-----BEGIN CERTIFICATE-----\nMIIB");
    check_folder(EINVAL, "client-cert.pem");
    fill(true, &client, &client);
    spoil("client-key.pem", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n");
    check_folder(EINVAL, "client-key.pem: the private key does not parse");
    spoil("client-key.pem", "");
    check_folder(EINVAL, "client-key.pem");
    spoil("ca-crl.pem", "");
    check_folder(EINVAL, "ca-crl.pem has no revocation list in PEM form");
    spoil("ca-crl.pem", "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n");
    check_folder(EINVAL, "ca-crl.pem: the revocation list does not parse");
}

/* A real one, cut at every length: never a crash, never taken for whole. */
static void test_folder_truncated(void **state)
{
    gnutls_datum_t pem;
    char path[512];

    (void)state;
    fill(true, NULL, NULL);
    snprintf(path, sizeof path, "%s/ca-cert.pem", folder);
    assert_int_equal(gnutls_load_file(path, &pem), 0);
    for (unsigned size = 0; size + 30 < pem.size; size += 13) {
        free(pki_write(folder, "ca-cert.pem", pem.data, size, 0644));
        check_folder(EINVAL, "ca-cert.pem");
    }
    gnutls_free(pem.data);
}

static void test_folder_key(void **state)
{
    char path[512];

    (void)state;
    fill(true, &client, &client);
    snprintf(path, sizeof path, "%s/client-key.pem", folder);
    assert_int_equal(chmod(path, 0640), 0);
    check_folder(EACCES, "wanted 0600");
    fill(true, &client, &expired);
    check_folder(EINVAL, "client-cert.pem and client-key.pem in ");
    fill(true, &expired, &expired);
    check_folder(EKEYEXPIRED, "client-cert.pem: our certificate expired on ");
    fill(true, &client, NULL);
    pki_write_key(&client, folder, "client-key.pem", "password");
    check_folder(EINVAL, "client-key.pem is protected by a password");
}

static void test_folder_crl(void **state)
{
    (void)state;
    fill(true, NULL, NULL);
    pki_write_crl(&authority, &client, 60, folder, "ca-crl.pem");
    check_folder(0, "");
    pki_write_crl(&authority, NULL, 60, folder, "ca-crl.pem");
    check_folder(0, "");
    pki_write_crl(&authority, NULL, -60, folder, "ca-crl.pem");
    check_folder(EKEYEXPIRED, "ca-crl.pem: the revocation list is too old: the next was due on ");
    pki_write_crl(&other_authority, NULL, 60, folder, "ca-crl.pem");
    check_folder(EINVAL, "ca-crl.pem: the revocation list is not signed by an authority of ");
}

static void test_policy(void **state)
{
    (void)state;
    fill(true, NULL, NULL);
    check(&(struct tls_policy){.type = TLS_TYPE_ANON}, EINVAL, "anonymous TLS");
    check(&(struct tls_policy){.certificates = folder, .priority = "NORMAL"}, 0, "");
    check(&(struct tls_policy){.certificates = folder, .allow_tls12 = true}, 0, "");
    check(&(struct tls_policy){.certificates = folder, .priority = "NORMAL:+NONSENSE\n"}, EINVAL,
          "the TLS priority string \"NORMAL:+NONSENSE\\x0a\" is wrong at ");
    check(&(struct tls_policy){.certificates = folder, .priority = ""}, EINVAL, "priority string");
    tls_credentials_free(NULL);
}

/* Files keep their descriptors to themselves. */
static void test_no_leak(void **state)
{
    int before = dup(0), after;

    (void)state;
    close(before);
    for (int i = 0; i < 50; i++) {
        check_psk(KEY_LINE, i % 2 ? 0600 : 0644, "alice", i % 2 ? 0 : EACCES, "wanted 0600");
        check_folder(0, "");
    }
    after = dup(0);
    close(after);
    assert_int_equal(before, after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_psk_file),         cmocka_unit_test(test_psk_mode),
        cmocka_unit_test(test_psk_owner),        cmocka_unit_test(test_psk_kind),
        cmocka_unit_test(test_psk_size),         cmocka_unit_test(test_psk_user),
        cmocka_unit_test(test_folder_files),     cmocka_unit_test(test_folder_pem),
        cmocka_unit_test(test_folder_key),       cmocka_unit_test(test_folder_crl),
        cmocka_unit_test(test_policy),           cmocka_unit_test(test_no_leak),
        cmocka_unit_test(test_folder_truncated),
    };

    return cmocka_run_group_tests_name("tls_credentials", tests, set_up, tear_down);
}
