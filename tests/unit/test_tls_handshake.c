/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Handshakes with an honest server, whose credentials are right or wrong: who gets through, and what is said.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tls.h"
#include "tls_peer.h"
#include "tls_pki.h"

#include "cmocka_all.h"

#define HOST "disk.example"

static unsigned char key_bytes[] = "0123456789abcdef0123456789abcde"; /* 32 with the end */
static gnutls_datum_t right_key = {.data = key_bytes, .size = sizeof key_bytes};
static gnutls_datum_t wrong_key = {.data = key_bytes + 1, .size = sizeof key_bytes - 1};

/* A folder for each way to trust, so that credentials can be loaded from it. */
static char *plain, *with_client, *with_foreign_client, *with_crl, *keys_folder;
static char *psk_file;

static struct pki_identity authority, other_authority, old_authority, server, server_ip, server_ip6, cn_only,
    stranger, expired, not_yet, revoked, weak_key, weak_hash, client, foreign_client, for_clients,
    by_old_authority, self_signed, by_no_authority, wildcard;

static void make_all(void)
{
    pki_make(&authority, &(struct pki_spec){.name = "Test authority", .authority = true}, NULL);
    pki_make(&other_authority, &(struct pki_spec){.name = "Other authority\033[31m", .authority = true},
             NULL);
    pki_make(&old_authority, &(struct pki_spec){.name = "Old", .authority = true, .from = -9, .until = -1},
             NULL);
    pki_make(&server, &(struct pki_spec){.name = "server", .dns = HOST}, &authority);
    pki_make(&server_ip, &(struct pki_spec){.name = "server", .ip = "127.0.0.1"}, &authority);
    pki_make(&server_ip6, &(struct pki_spec){.name = "server", .ip = "fe80::1"}, &authority);
    pki_make(&cn_only, &(struct pki_spec){.name = HOST}, &authority);
    pki_make(&wildcard, &(struct pki_spec){.name = "server", .dns = "*.disks.example"}, &authority);
    pki_make(&stranger, &(struct pki_spec){.name = "server", .dns = HOST}, &other_authority);
    pki_make(&expired, &(struct pki_spec){.name = "server", .dns = HOST, .from = -3, .until = -1},
             &authority);
    pki_make(&not_yet, &(struct pki_spec){.name = "server", .dns = HOST, .from = 1, .until = 3}, &authority);
    pki_make(&revoked, &(struct pki_spec){.name = "server", .dns = HOST}, &authority);
    pki_make(&weak_key, &(struct pki_spec){.name = "server", .dns = HOST, .rsa_bits = 1024}, &authority);
    pki_make(&weak_hash, &(struct pki_spec){.name = "server", .dns = HOST, .digest = GNUTLS_DIG_SHA1},
             &authority);
    pki_make(&client, &(struct pki_spec){.name = "client", .is_client = true}, &authority);
    pki_make(&foreign_client, &(struct pki_spec){.name = "client", .is_client = true}, &other_authority);
    pki_make(&for_clients, &(struct pki_spec){.name = "server", .dns = HOST, .is_client = true}, &authority);
    pki_make(&by_old_authority, &(struct pki_spec){.name = "server", .dns = HOST}, &old_authority);
    pki_make(&self_signed, &(struct pki_spec){.name = "server", .dns = HOST}, NULL);
    pki_make(&by_no_authority, &(struct pki_spec){.name = "server", .dns = HOST}, &server);
}

static char *trusting(const struct pki_identity *ca)
{
    char *folder = pki_folder_new();

    pki_write_certificate(ca, folder, "ca-cert.pem");
    return folder;
}

static void write_psk_file(void)
{
    char line[128];
    int n = snprintf(line, sizeof line, "alice:");

    for (size_t i = 0; i < sizeof key_bytes; i++)
        n += snprintf(line + n, sizeof line - (size_t)n, "%02x", key_bytes[i]);
    psk_file = pki_write(keys_folder, "keys.psk", line, (size_t)n, 0600);
}

static int set_up(void **state)
{
    (void)state;
    make_all();
    plain = trusting(&authority);
    with_crl = trusting(&authority);
    pki_write_crl(&authority, &revoked, 3600, with_crl, "ca-crl.pem");
    with_client = trusting(&authority);
    pki_write_certificate(&client, with_client, "client-cert.pem");
    pki_write_key(&client, with_client, "client-key.pem", NULL);
    with_foreign_client = trusting(&authority);
    pki_write_certificate(&foreign_client, with_foreign_client, "client-cert.pem");
    pki_write_key(&foreign_client, with_foreign_client, "client-key.pem", NULL);
    keys_folder = trusting(&old_authority);
    write_psk_file();
    return 0;
}

static int tear_down(void **state)
{
    struct pki_identity *all[] = {&authority,        &other_authority, &old_authority,   &server,
                                  &server_ip,        &server_ip6,      &cn_only,         &stranger,
                                  &expired,          &not_yet,         &revoked,         &weak_key,
                                  &weak_hash,        &client,          &foreign_client,  &for_clients,
                                  &by_old_authority, &self_signed,     &by_no_authority, &wildcard};

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        pki_clear(all[i]);
    pki_folder_remove(plain);
    pki_folder_remove(with_client);
    pki_folder_remove(with_foreign_client);
    pki_folder_remove(with_crl);
    pki_folder_remove(keys_folder);
    free(psk_file);
    return 0;
}

struct attempt {
    const char *what;
    struct tls_policy policy;
    const char *hostname;
    struct peer peer;
    int error; /* of the handshake; the first words of the reason */
    const char *says;
    const char *cipher, *key_exchange; /* NULL: any */
};

static void echo(struct tls_session *session, const struct attempt *attempt)
{
    struct tls_reason reason = {0};
    char data[40000];
    int r;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 7 + i / 251);
    r = peer_echo(session, attempt->peer.client_fd, data, sizeof data, &reason);
    if (r < 0)
        fail_msg("%s: %d, %s", attempt->what, r, reason.text);
    assert_int_equal(tls_check_silent(session, &reason), 0);
    tls_bye(session);
}

static void check_info(const struct tls_session *session, const struct attempt *attempt)
{
    struct tls_info info;

    tls_session_info(session, &info);
    if ((attempt->cipher && strcmp(info.cipher, attempt->cipher) != 0) ||
        (attempt->key_exchange && strcmp(info.key_exchange, attempt->key_exchange) != 0))
        fail_msg("%s: %s, %s, %s", attempt->what, info.version, info.cipher, info.key_exchange);
    assert_string_equal(info.version, attempt->policy.allow_tls12 ? "TLS 1.2" : "TLS 1.3");
}

static void check_reason(const struct attempt *attempt, int r, const struct tls_reason *reason)
{
    if (r != -attempt->error || (r && strncmp(reason->text, attempt->says, strlen(attempt->says)) != 0))
        fail_msg("%s: %d (wanted %d), \"%s\"", attempt->what, r, -attempt->error, reason->text);
    for (const char *c = reason->text; *c; c++)
        assert_true(*c >= ' ' && *c <= '~');
}

static void connect_with(struct attempt *attempt, const struct tls_credentials *credentials)
{
    struct tls_session *session;
    struct tls_reason reason = {0};
    int r;

    peer_start(&attempt->peer);
    r = tls_session_new(&session, credentials, attempt->peer.client_fd, attempt->hostname, &reason);
    if (r < 0)
        fail_msg("%s: %s", attempt->what, reason.text);
    reason = (struct tls_reason){0};
    r = peer_complete(session, attempt->peer.client_fd, &reason);
    check_reason(attempt, r, &reason);
    if (r == 0) {
        check_info(session, attempt);
        echo(session, attempt);
    }
    tls_session_free(session);
    peer_join(&attempt->peer);
}

static void try(struct attempt *attempt)
{
    struct tls_credentials *credentials;
    struct tls_reason reason = {0};
    int r = tls_credentials_load(&credentials, &attempt->policy, &reason);

    if (r < 0)
        fail_msg("%s: %s", attempt->what, reason.text);
    connect_with(attempt, credentials);
    tls_credentials_free(credentials);
}

#define TRY(...) try(&(struct attempt){__VA_ARGS__})

#define PSK       .policy = {.psk_file = psk_file}
#define KNOWS_PSK .peer = {.psk_user = user, .psk_key = right_key}

static void test_psk(void **state)
{
    const char *user = "alice";

    (void)state;
    TRY(.what = "default", PSK, KNOWS_PSK, .cipher = "CHACHA20-POLY1305");
    TRY(.what = "by name", .policy = {.psk_file = psk_file, .user = user}, KNOWS_PSK);
    TRY(.what = "TCP", PSK, .peer = {.psk_user = user, .psk_key = right_key, .tcp = true});
    TRY(.what = "with a host name", PSK, KNOWS_PSK, .hostname = HOST);
    TRY(.what = "AES", PSK, .cipher = "AES-128-GCM",
        .peer = {.psk_user = user,
                 .psk_key = right_key,
                 .priority = "NORMAL:-CIPHER-ALL:+AES-128-GCM:+ECDHE-PSK"});
    TRY(.what = "finite field", PSK, .key_exchange = "DHE-PSK FFDHE2048",
        .peer = {.psk_user = user,
                 .psk_key = right_key,
                 .priority = "NORMAL:-GROUP-ALL:+GROUP-FFDHE2048:+DHE-PSK"});
    TRY(.what = "another curve (HelloRetryRequest)", PSK, .key_exchange = "ECDHE-PSK SECP521R1",
        .peer = {.psk_user = user,
                 .psk_key = right_key,
                 .priority = "NORMAL:-GROUP-ALL:+GROUP-SECP521R1:+ECDHE-PSK"});
    TRY(.what = "priority of the user's", .policy = {.psk_file = psk_file, .priority = "NORMAL:+PSK"},
        KNOWS_PSK);
    TRY(.what = "TLS 1.2", .policy = {.psk_file = psk_file, .allow_tls12 = true},
        .peer = {
            .psk_user = user, .psk_key = right_key, .priority = "NORMAL:-VERS-TLS1.3:+ECDHE-PSK:+DHE-PSK"});
}

static void test_psk_refused(void **state)
{
    const char *user = "alice";

    (void)state;
    TRY(.what = "wrong key", PSK, .peer = {.psk_user = user, .psk_key = wrong_key}, .error = EKEYREJECTED,
        .says = "the server refuses the pre-shared key of the user \"alice\"");
    TRY(.what = "unknown user", PSK, .peer = {.psk_user = "bob", .psk_key = right_key}, .error = EKEYREJECTED,
        .says = "the server refuses the pre-shared key of the user \"alice\"");
    TRY(.what = "wrong key, TLS 1.2", .policy = {.psk_file = psk_file, .allow_tls12 = true},
        .error = EKEYREJECTED, .says = "the server refuses the pre-shared key of the user \"alice\"",
        .peer = {
            .psk_user = user, .psk_key = wrong_key, .priority = "NORMAL:-VERS-TLS1.3:+ECDHE-PSK:+DHE-PSK"});
    TRY(.what = "plain PSK only", PSK, .error = EPROTO,
        .says = "the server and we have no TLS parameters in common",
        .peer = {.psk_user = user, .psk_key = right_key, .priority = "NORMAL:-KX-ALL:+PSK"});
    TRY(.what = "plain PSK only, also when the user asks for it", .error = EPROTO,
        .policy = {.psk_file = psk_file, .priority = "NORMAL:-KX-ALL:+PSK"},
        .says = "the server and we have no TLS parameters in common",
        .peer = {.psk_user = user, .psk_key = right_key, .priority = "NORMAL:-KX-ALL:+PSK"});
    TRY(.what = "TLS 1.2 only", PSK, .error = EPROTO, .says = "the server does not speak TLS 1.3",
        .peer = {.psk_user = user, .psk_key = right_key, .priority = "NORMAL:-VERS-TLS1.3:+ECDHE-PSK"});
}

/* A server without the key that shows some certificate instead: it has proven nothing. */
static void test_psk_not_replaced(void **state)
{
    (void)state;
    TRY(.what = "certificate instead", PSK, .peer = {.identity = &server}, .error = EPROTO, .says = "");
    TRY(.what = "certificate instead, all allowed", .policy = {.psk_file = psk_file, .priority = "NORMAL"},
        .peer = {.identity = &server}, .error = EPROTO, .says = "");
    TRY(.what = "certificate instead, TLS 1.2",
        .peer = {.identity = &server, .priority = "NORMAL:-VERS-TLS1.3"},
        .policy = {.psk_file = psk_file, .priority = "NORMAL:-VERS-TLS1.3"}, .error = EPROTO, .says = "");
}

#define PLAIN .policy = {.certificates = plain}, .hostname = HOST

static void test_x509(void **state)
{
    (void)state;
    TRY(.what = "default", PLAIN, .peer = {.identity = &server}, .cipher = "CHACHA20-POLY1305");
    TRY(.what = "TCP", PLAIN, .peer = {.identity = &server, .tcp = true});
    TRY(.what = "capitals", .policy = {.certificates = plain}, .hostname = "Disk.EXAMPLE",
        .peer = {.identity = &server});
    TRY(.what = "final dot", .policy = {.certificates = plain}, .hostname = HOST ".",
        .peer = {.identity = &server});
    TRY(.what = "common name", PLAIN, .peer = {.identity = &cn_only});
    TRY(.what = "wildcard", .policy = {.certificates = plain}, .hostname = "a.disks.example",
        .peer = {.identity = &wildcard});
    TRY(.what = "address", .policy = {.certificates = plain}, .hostname = "127.0.0.1",
        .peer = {.identity = &server_ip});
    TRY(.what = "address 6", .policy = {.certificates = plain}, .hostname = "fe80::1",
        .peer = {.identity = &server_ip6});
    TRY(.what = "address 6 of a URI", .policy = {.certificates = plain}, .hostname = "[FE80:0::1%eth0]",
        .peer = {.identity = &server_ip6});
    TRY(.what = "client certificate", .policy = {.certificates = with_client}, .hostname = HOST,
        .peer = {.identity = &server, .client_ca = &authority});
    TRY(.what = "client certificate, not asked for", .policy = {.certificates = with_client},
        .hostname = HOST, .peer = {.identity = &server});
    TRY(.what = "not on the list", .policy = {.certificates = with_crl}, .hostname = HOST,
        .peer = {.identity = &server});
    TRY(.what = "AES-128", PLAIN, .cipher = "AES-128-GCM",
        .peer = {.identity = &server, .priority = "NORMAL:-CIPHER-ALL:+AES-128-GCM"});
    TRY(.what = "AES-256", PLAIN, .cipher = "AES-256-GCM",
        .peer = {.identity = &server, .priority = "NORMAL:-CIPHER-ALL:+AES-256-GCM"});
    TRY(.what = "TLS 1.2", .policy = {.certificates = plain, .allow_tls12 = true}, .hostname = HOST,
        .key_exchange = "ECDHE SECP256R1 with ECDSA-SHA256",
        .peer = {.identity = &server, .priority = "NORMAL:-VERS-TLS1.3:-GROUP-ALL:+GROUP-SECP256R1"});
}

#define REFUSED(name, why, ...)                                                                              \
    TRY(.what = (name), PLAIN, .peer = {.identity = __VA_ARGS__}, .error = EKEYREJECTED, .says = (why))

static void test_x509_refused(void **state)
{
    (void)state;
    REFUSED("wrong authority", "the server's certificate is not signed by an authority of ", &stranger);
    REFUSED("wrong authority, sent along", "the server's certificate is not signed by an authority of ",
            &stranger, .issuer = &other_authority);
    REFUSED("signed by itself", "the server's certificate is not signed by an authority of ", &self_signed);
    REFUSED("signed by no authority", "the server's certificate is not signed by an authority of ",
            &by_no_authority, .issuer = &server);
    REFUSED("small key", "the server's certificate has a signature or a key that is too weak", &weak_key);
    REFUSED("SHA-1", "the server's certificate has a signature or a key that is too weak", &weak_hash);
    REFUSED("purpose", "the server's certificate is not meant for a server", &for_clients);
    TRY(.what = "expired", PLAIN, .peer = {.identity = &expired}, .error = EKEYEXPIRED,
        .says = "the server's certificate has expired (");
    TRY(.what = "not yet", PLAIN, .peer = {.identity = &not_yet}, .error = EKEYEXPIRED,
        .says = "the server's certificate is not valid yet (");
    TRY(.what = "authority expired", .policy = {.certificates = keys_folder}, .hostname = HOST,
        .error = EKEYEXPIRED, .peer = {.identity = &by_old_authority},
        .says = "the server's certificate is signed by an authority whose own certificate has expired");
    TRY(.what = "revoked", .policy = {.certificates = with_crl}, .hostname = HOST, .error = EKEYREJECTED,
        .peer = {.identity = &revoked}, .says = "the server's certificate has been revoked");
    TRY(.what = "anonymous", PLAIN, .peer = {.priority = "NORMAL:-KX-ALL:+ANON-ECDH:-VERS-TLS1.3"},
        .error = EPROTO, .says = "the server and we have no TLS parameters in common");
    TRY(.what = "PSK", PLAIN, .peer = {.psk_user = "alice", .psk_key = right_key}, .error = EPROTO,
        .says = "the server and we have no TLS parameters in common");
}

#define MISNAMED(host, who, why)                                                                             \
    TRY(.what = host, .policy = {.certificates = plain}, .hostname = (host), .peer = {.identity = (who)},    \
        .error = EKEYREJECTED, .says = "the server's certificate is not for " why)

static void test_x509_names(void **state)
{
    (void)state;
    MISNAMED("other.example", &server, "\"other.example\", but for disk.example");
    MISNAMED("disk.example.org", &server, "\"disk.example.org\", but for disk.example");
    MISNAMED("127.0.0.1", &server, "\"127.0.0.1\", but for disk.example");
    MISNAMED("127.0.0.2", &server_ip, "\"127.0.0.2\", but for 127.0.0.1");
    MISNAMED("::1", &server_ip6, "\"::1\", but for fe80::1");
    MISNAMED("disk.example", &server_ip, "\"disk.example\", but for 127.0.0.1");
    MISNAMED("b.a.disks.example", &wildcard, "\"b.a.disks.example\", but for *.disks.example");
    MISNAMED("disks.example", &wildcard, "\"disks.example\", but for *.disks.example");
    MISNAMED("other.example", &cn_only, "\"other.example\", but for disk.example");
}

static void test_x509_unverified(void **state)
{
    (void)state;
    TRY(.what = "stranger", .policy = {.certificates = plain, .no_verify = true},
        .peer = {.identity = &stranger});
    TRY(.what = "named", .policy = {.no_verify = true}, .hostname = "other", .peer = {.identity = &expired});
    TRY(.what = "system", .hostname = HOST, .policy = {.type = TLS_TYPE_X509}, .peer = {.identity = &server},
        .error = EKEYREJECTED,
        .says = "the server's certificate is not signed by an authority of the system's trust store");
}

/* In TLS 1.3 the verdict comes after our handshake is done. */
static void check_client_verdict(const char *folder, bool hides_ca, const char *says)
{
    struct peer peer = {.identity = &server, .client_ca = &authority, .hides_ca = hides_ca};
    struct tls_credentials *credentials;
    struct tls_session *session;
    struct tls_reason reason = {0};
    char byte;

    assert_int_equal(
        tls_credentials_load(&credentials, &(struct tls_policy){.certificates = folder}, &reason), 0);
    peer_start(&peer);
    assert_int_equal(tls_session_new(&session, credentials, peer.client_fd, HOST, &reason), 0);
    assert_int_equal(peer_complete(session, peer.client_fd, &reason), 0);
    assert_int_equal(peer_read(session, peer.client_fd, &byte, 1, &reason), -EKEYREJECTED);
    if (strncmp(reason.text, says, strlen(says)) != 0)
        fail_msg("%s", reason.text);
    tls_session_free(session);
    tls_credentials_free(credentials);
    peer_join(&peer);
}

static void test_client_certificate(void **state)
{
    (void)state;
    check_client_verdict(plain, false, "the server demands a client certificate (");
    check_client_verdict(with_foreign_client, false,
                         "the server demands a client certificate of an authority that");
    check_client_verdict(with_foreign_client, true, "the server refuses our client certificate");
}

static void check_name(const char *hostname, const char *told)
{
    struct peer peer = {.psk_user = "alice", .psk_key = right_key};
    struct tls_credentials *credentials;
    struct tls_session *session;
    struct tls_reason reason = {0};

    assert_int_equal(tls_credentials_load(&credentials, &(struct tls_policy){.psk_file = psk_file}, &reason),
                     0);
    peer_start(&peer);
    assert_int_equal(tls_session_new(&session, credentials, peer.client_fd, hostname, &reason), 0);
    assert_int_equal(peer_complete(session, peer.client_fd, &reason), 0);
    assert_int_equal(peer_echo(session, peer.client_fd, "x", 1, &reason), 0);
    tls_session_free(session);
    tls_credentials_free(credentials);
    peer_join(&peer);
    assert_string_equal(peer.server_name, told);
}

static void test_server_name(void **state)
{
    (void)state;
    check_name(HOST, HOST);
    check_name(HOST ".", HOST);
    check_name(NULL, "");
    check_name("127.0.0.1", "");
    check_name("[::1]", "");
}

static void test_no_name(void **state)
{
    struct tls_credentials *credentials;
    struct tls_session *session = NULL;
    struct tls_reason reason = {0};

    (void)state;
    assert_int_equal(tls_credentials_load(&credentials, &(struct tls_policy){.certificates = plain}, &reason),
                     0);
    assert_int_equal(tls_session_new(&session, credentials, 0, NULL, &reason), -EINVAL);
    assert_int_equal(tls_session_new(&session, credentials, 0, "", &reason), -EINVAL);
    assert_non_null(strstr(reason.text, "no name to check"));
    assert_null(session);
    tls_credentials_free(credentials);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_psk),
        cmocka_unit_test(test_psk_refused),
        cmocka_unit_test(test_psk_not_replaced),
        cmocka_unit_test(test_x509),
        cmocka_unit_test(test_x509_refused),
        cmocka_unit_test(test_x509_names),
        cmocka_unit_test(test_x509_unverified),
        cmocka_unit_test(test_client_certificate),
        cmocka_unit_test(test_server_name),
        cmocka_unit_test(test_no_name),
    };

    return cmocka_run_group_tests_name("tls_handshake", tests, set_up, tear_down);
}
