/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tls_pki.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY 86400L

/* Also for what returns a count. */
static void must(int r, const char *what)
{
    if (r >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, gnutls_strerror(r));
    abort();
}

#define MUST(call) must((call), #call)

static void put_serial(gnutls_x509_crt_t certificate)
{
    static uint8_t last;
    uint8_t serial[2] = {0x21, ++last};

    MUST(gnutls_x509_crt_set_serial(certificate, serial, sizeof serial));
}

static void put_names(gnutls_x509_crt_t certificate, const struct pki_spec *spec)
{
    uint8_t address[16];

    MUST(gnutls_x509_crt_set_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, spec->name,
                                       (unsigned)strlen(spec->name)));
    if (spec->dns)
        MUST(gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_DNSNAME, spec->dns,
                                                  (unsigned)strlen(spec->dns), GNUTLS_FSAN_APPEND));
    if (spec->ip && inet_pton(AF_INET, spec->ip, address) == 1)
        MUST(gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_IPADDRESS, address, 4,
                                                  GNUTLS_FSAN_APPEND));
    else if (spec->ip && inet_pton(AF_INET6, spec->ip, address) == 1)
        MUST(gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_IPADDRESS, address, 16,
                                                  GNUTLS_FSAN_APPEND));
}

static void put_usage(gnutls_x509_crt_t certificate, const struct pki_spec *spec)
{
    MUST(gnutls_x509_crt_set_basic_constraints(certificate, spec->authority, -1));
    if (spec->authority) {
        MUST(gnutls_x509_crt_set_key_usage(certificate, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN));
        return;
    }
    MUST(gnutls_x509_crt_set_key_usage(certificate, GNUTLS_KEY_DIGITAL_SIGNATURE));
    MUST(gnutls_x509_crt_set_key_purpose_oid(
        certificate, spec->is_client ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER, 0));
}

static void put_times(gnutls_x509_crt_t certificate, const struct pki_spec *spec)
{
    time_t now = time(NULL);
    bool given = spec->from || spec->until;

    MUST(gnutls_x509_crt_set_activation_time(certificate, now + (given ? spec->from : -1) * DAY));
    MUST(gnutls_x509_crt_set_expiration_time(certificate, now + (given ? spec->until : 1) * DAY));
}

static void make_key(struct pki_identity *identity, const struct pki_spec *spec)
{
    MUST(gnutls_x509_privkey_init(&identity->key));
    if (spec->rsa_bits)
        MUST(gnutls_x509_privkey_generate(identity->key, GNUTLS_PK_RSA, spec->rsa_bits, 0));
    else
        MUST(gnutls_x509_privkey_generate(identity->key, GNUTLS_PK_ECDSA,
                                          GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
}

void pki_make(struct pki_identity *identity, const struct pki_spec *spec, const struct pki_identity *issuer)
{
    const struct pki_identity *signer = issuer ? issuer : identity;
    gnutls_x509_crt_t certificate;

    make_key(identity, spec);
    MUST(gnutls_x509_crt_init(&certificate));
    identity->certificate = certificate;
    MUST(gnutls_x509_crt_set_version(certificate, 3));
    MUST(gnutls_x509_crt_set_key(certificate, identity->key));
    put_serial(certificate);
    put_names(certificate, spec);
    put_usage(certificate, spec);
    put_times(certificate, spec);
    MUST(gnutls_x509_crt_sign2(certificate, signer->certificate, signer->key,
                               spec->digest ? spec->digest : GNUTLS_DIG_SHA256, 0));
}

void pki_clear(struct pki_identity *identity)
{
    if (identity->key)
        gnutls_x509_privkey_deinit(identity->key);
    if (identity->certificate)
        gnutls_x509_crt_deinit(identity->certificate);
    *identity = (struct pki_identity){0};
}

char *pki_write(const char *folder, const char *name, const void *data, size_t size, unsigned mode)
{
    char *path = NULL;
    int fd;

    if (asprintf(&path, "%s/%s", folder, name) < 0)
        abort();
    unlink(path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || fchmod(fd, (mode_t)mode) < 0) {
        perror(path);
        abort();
    }
    close(fd);
    return path;
}

static void write_datum(gnutls_datum_t *datum, const char *folder, const char *name, unsigned mode)
{
    free(pki_write(folder, name, datum->data, datum->size, mode));
    gnutls_free(datum->data);
}

void pki_write_certificate(const struct pki_identity *identity, const char *folder, const char *name)
{
    gnutls_datum_t pem;

    MUST(gnutls_x509_crt_export2(identity->certificate, GNUTLS_X509_FMT_PEM, &pem));
    write_datum(&pem, folder, name, 0644);
}

void pki_write_key(const struct pki_identity *identity, const char *folder, const char *name,
                   const char *password)
{
    gnutls_datum_t pem;

    MUST(gnutls_x509_privkey_export2_pkcs8(identity->key, GNUTLS_X509_FMT_PEM, password,
                                           password ? GNUTLS_PKCS_PBES2_AES_128 : GNUTLS_PKCS_PLAIN, &pem));
    write_datum(&pem, folder, name, 0600);
}

void pki_write_crl(const struct pki_identity *authority, const struct pki_identity *revoked, int seconds,
                   const char *folder, const char *name)
{
    gnutls_x509_crl_t crl;
    gnutls_datum_t pem;
    time_t now = time(NULL);

    MUST(gnutls_x509_crl_init(&crl));
    MUST(gnutls_x509_crl_set_version(crl, 2));
    if (revoked)
        MUST(gnutls_x509_crl_set_crt(crl, revoked->certificate, now - DAY));
    MUST(gnutls_x509_crl_set_this_update(crl, now - 2 * DAY));
    MUST(gnutls_x509_crl_set_next_update(crl, now + seconds));
    MUST(gnutls_x509_crl_set_number(crl, "\1", 1));
    MUST(gnutls_x509_crl_sign2(crl, authority->certificate, authority->key, GNUTLS_DIG_SHA256, 0));
    MUST(gnutls_x509_crl_export2(crl, GNUTLS_X509_FMT_PEM, &pem));
    gnutls_x509_crl_deinit(crl);
    write_datum(&pem, folder, name, 0644);
}

char *pki_folder_new(void)
{
    const char *temporary = getenv("TMPDIR");
    char *folder = NULL;

    if (asprintf(&folder, "%s/test-tls-XXXXXX", temporary ? temporary : "/tmp") < 0 || !mkdtemp(folder)) {
        perror("mkdtemp");
        abort();
    }
    return folder;
}

void pki_folder_remove(char *folder)
{
    DIR *directory = opendir(folder);
    struct dirent *entry;

    while (directory && (entry = readdir(directory)))
        unlinkat(dirfd(directory), entry->d_name, 0);
    if (directory)
        closedir(directory);
    rmdir(folder);
    free(folder);
}
