/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A folder with the names of qemu and libnbd, or the system's trust store. */
#include <errno.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tls_cleanup.h"
#include "tls_internal.h"

#define DEFAULT_FOLDER   "/etc/pki/nbdctl"
#define CERTIFICATES_MAX (4u << 20)
#define CRL_MAX          (64u << 20)
#define KEY_MAX          (64u << 10)

/* The files of the folder that are there. */
struct folder {
    const char *path;
    bool chosen; /* named by the user: it must have the authorities */
    bool ca, crl, certificate, key;
};

/* A path below the folder, whose own path stat(2) has found short enough. */
struct file_name {
    char path[4096 + 32];
};

static struct file_name in_folder(const struct folder *folder, const char *name)
{
    struct file_name file;

    snprintf(file.path, sizeof file.path, "%s/%s", folder->path, name);
    return file;
}

static bool is_there(const struct folder *folder, const char *name)
{
    /* Only "it is not there" counts: what cannot be reached is reported when it is opened. */
    return access(in_folder(folder, name).path, F_OK) == 0 || errno != ENOENT;
}

/* One without the other is of no use. */
static int check_complete(const struct folder *folder, bool no_verify, struct tls_reason *reason)
{
    bool wants_ca = folder->chosen && !folder->ca && !no_verify;
    const char *wanted = folder->certificate && !folder->key   ? "client-key.pem"
                         : folder->key && !folder->certificate ? "client-cert.pem"
                                                               : NULL;
    int r;

    if (!wants_ca && !wanted)
        return 0;
    r = tls_fail(reason, ENOENT, "there is no %s%s%s in %s", wants_ca ? "ca-cert.pem" : wanted,
                 wants_ca && wanted ? " and no " : "", wants_ca && wanted ? wanted : "",
                 tls_shown(folder->path));
    return tls_hint(reason, r, "%s",
                    wants_ca
                        ? "ca-cert.pem holds the authorities that may have signed the server's certificate"
                        : "client-cert.pem and client-key.pem say who we are: both or neither");
}

static int survey(struct folder *folder, bool no_verify, struct tls_reason *reason)
{
    struct stat st;

    if (stat(folder->path, &st) < 0)
        return tls_fail(reason, errno, "cannot use the folder of certificates %s: %s",
                        tls_shown(folder->path), strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return tls_fail(reason, ENOTDIR, "%s is not a folder", tls_shown(folder->path));
    folder->ca = is_there(folder, "ca-cert.pem");
    folder->crl = is_there(folder, "ca-crl.pem");
    folder->certificate = is_there(folder, "client-cert.pem");
    folder->key = is_there(folder, "client-key.pem");
    return check_complete(folder, no_verify, reason);
}

static int keep_trust(struct tls_credentials *credentials, const char *where, struct tls_reason *reason)
{
    credentials->trust = strdup(where);
    return credentials->trust ? 0 : tls_fail(reason, ENOMEM, "out of memory");
}

static gnutls_datum_t datum_of(const struct secret *file)
{
    return (gnutls_datum_t){.data = file->data, .size = (unsigned)file->size};
}

static int not_pem(const char *path, const gnutls_datum_t *pem, const char *what, int gnutls_error,
                   struct tls_reason *reason)
{
    static const char begin[] = "-----BEGIN ";

    if (gnutls_error == GNUTLS_E_MEMORY_ERROR)
        return tls_fail(reason, ENOMEM, "out of memory");
    /* For garbage within the marks, and for a wrong mark, GnuTLS often just finds nothing. */
    if (!memmem(pem->data, pem->size, begin, strlen(begin)))
        return tls_fail(reason, EINVAL, "%s has no %s in PEM form", tls_shown(path), what);
    if (gnutls_error == 0 || gnutls_error == GNUTLS_E_NO_CERTIFICATE_FOUND)
        return tls_fail(reason, EINVAL, "%s: the %s does not parse", tls_shown(path), what);
    return tls_fail(reason, EINVAL, "%s: the %s does not parse: %s", tls_shown(path), what,
                    gnutls.strerror(gnutls_error));
}

static int load_ca(struct tls_credentials *credentials, const struct folder *folder,
                   struct tls_reason *reason)
{
    struct file_name file = in_folder(folder, "ca-cert.pem");
    _cleanup_secret_ struct secret content = {0};
    gnutls_datum_t pem;
    int r = secret_read_file(&content, file.path, CERTIFICATES_MAX, false, reason);

    if (r < 0)
        return r;
    pem = datum_of(&content);
    r = gnutls.certificate_set_x509_trust_mem(credentials->x509, &pem, GNUTLS_X509_FMT_PEM);
    if (r <= 0)
        return not_pem(file.path, &pem, "certificate", r, reason);
    return keep_trust(credentials, tls_shown(file.path), reason);
}

static int load_system_trust(struct tls_credentials *credentials, struct tls_reason *reason)
{
    int r = gnutls.certificate_set_x509_system_trust(credentials->x509);

    if (r <= 0)
        return tls_hint(
            reason, tls_fail(reason, ENOENT, "the system has no store of trusted certificate authorities"),
            "give a folder with the authority's ca-cert.pem, or install ca-certificates");
    return keep_trust(credentials, "the system's trust store", reason);
}

/* "2026-01-31 12:00 UTC" */
struct date {
    char text[32];
};

static struct date date_of(time_t when)
{
    struct date date = {"?"};
    struct tm tm;

    if (gmtime_r(&when, &tm))
        strftime(date.text, sizeof date.text, "%Y-%m-%d %H:%M UTC", &tm);
    return date;
}

/* When the first of the lists should have been replaced; -1: all are of today. */
static time_t crl_outdated(const gnutls_datum_t *pem)
{
    gnutls_x509_crl_t *lists = NULL;
    time_t outdated = -1;
    unsigned count = 0;

    if (gnutls.x509_crl_list_import2(&lists, &count, pem, GNUTLS_X509_FMT_PEM, 0) < 0)
        return -1;
    for (unsigned i = 0; i < count; i++) {
        time_t next = gnutls.x509_crl_get_next_update(lists[i]);

        if (next != -1 && next < time(NULL))
            outdated = next;
        gnutls.x509_crl_deinit(lists[i]);
    }
    (*gnutls.free)(lists);
    return outdated;
}

static int crl_refused(const struct tls_credentials *credentials, const char *path, const gnutls_datum_t *pem,
                       struct tls_reason *reason)
{
    time_t outdated = crl_outdated(pem);

    if (outdated != -1)
        return tls_hint(reason,
                        tls_fail(reason, EKEYEXPIRED,
                                 "%s: the revocation list is too old: the next was due on %s",
                                 tls_shown(path), date_of(outdated).text),
                        "fetch a new one from the authority");
    return tls_fail(reason, EINVAL, "%s: the revocation list is not signed by an authority of %s",
                    tls_shown(path), credentials->trust);
}

/* Whose signature the list carries is checked too. */
static int load_crl(struct tls_credentials *credentials, const struct folder *folder,
                    struct tls_reason *reason)
{
    struct file_name file = in_folder(folder, "ca-crl.pem");
    _cleanup_secret_ struct secret content = {0};
    gnutls_datum_t pem;
    int r = secret_read_file(&content, file.path, CRL_MAX, false, reason);

    if (r < 0)
        return r;
    pem = datum_of(&content);
    gnutls.certificate_set_flags(credentials->x509, GNUTLS_CERTIFICATE_VERIFY_CRLS);
    r = gnutls.certificate_set_x509_crl_mem(credentials->x509, &pem, GNUTLS_X509_FMT_PEM);
    if (r == GNUTLS_E_CRL_VERIFICATION_ERROR)
        return crl_refused(credentials, file.path, &pem, reason);
    return r <= 0 ? not_pem(file.path, &pem, "revocation list", r, reason) : 0;
}

static int check_time(const char *path, gnutls_x509_crt_t certificate, struct tls_reason *reason)
{
    time_t now = time(NULL), from = gnutls.x509_crt_get_activation_time(certificate),
           until = gnutls.x509_crt_get_expiration_time(certificate);

    if (now < from)
        return tls_hint(reason,
                        tls_fail(reason, EKEYEXPIRED, "%s: our certificate is not valid before %s",
                                 tls_shown(path), date_of(from).text),
                        "is this machine's clock right?");
    if (now > until)
        return tls_fail(reason, EKEYEXPIRED, "%s: our certificate expired on %s", tls_shown(path),
                        date_of(until).text);
    return 0;
}

/* Better told here than by the server's terse alert. */
static int check_certificate(const char *path, const gnutls_datum_t *pem, struct tls_reason *reason)
{
    gnutls_x509_crt_t certificate;
    int r = gnutls.x509_crt_init(&certificate);

    if (r < 0)
        return tls_fail(reason, ENOMEM, "out of memory");
    r = gnutls.x509_crt_import(certificate, pem, GNUTLS_X509_FMT_PEM);
    r = r < 0 ? not_pem(path, pem, "certificate", r, reason) : check_time(path, certificate, reason);
    gnutls.x509_crt_deinit(certificate);
    return r;
}

static int check_key(const char *path, const gnutls_datum_t *pem, struct tls_reason *reason)
{
    gnutls_x509_privkey_t key;
    int r = gnutls.x509_privkey_init(&key);

    if (r < 0)
        return tls_fail(reason, ENOMEM, "out of memory");
    r = gnutls.x509_privkey_import2(key, pem, GNUTLS_X509_FMT_PEM, NULL, 0);
    gnutls.x509_privkey_deinit(key);
    if (r == GNUTLS_E_DECRYPTION_FAILED)
        return tls_fail(reason, EINVAL, "%s is protected by a password", tls_shown(path));
    return r < 0 ? not_pem(path, pem, "private key", r, reason) : 0;
}

static int set_pair(struct tls_credentials *credentials, const struct folder *folder,
                    const gnutls_datum_t *certificate, const gnutls_datum_t *key, struct tls_reason *reason)
{
    int r = gnutls.certificate_set_x509_key_mem2(credentials->x509, certificate, key, GNUTLS_X509_FMT_PEM,
                                                 NULL, 0);

    if (r == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
        return tls_fail(reason, EINVAL, "client-cert.pem and client-key.pem in %s are not a pair",
                        tls_shown(folder->path));
    if (r < 0)
        return tls_within(reason,
                          tls_fail_gnutls(reason, EINVAL, r, "cannot use client-cert.pem and client-key.pem"),
                          "%s", tls_shown(folder->path));
    credentials->has_certificate = true;
    return 0;
}

static int load_pair(struct tls_credentials *credentials, const struct folder *folder,
                     struct tls_reason *reason)
{
    struct file_name certificate_file = in_folder(folder, "client-cert.pem");
    struct file_name key_file = in_folder(folder, "client-key.pem");
    _cleanup_secret_ struct secret certificate = {0};
    _cleanup_secret_ struct secret key = {0};
    gnutls_datum_t certificate_pem, key_pem;
    int r = secret_read_file(&certificate, certificate_file.path, CERTIFICATES_MAX, false, reason);

    if (r == 0)
        r = secret_read_file(&key, key_file.path, KEY_MAX, true, reason);
    if (r < 0)
        return r;
    certificate_pem = datum_of(&certificate);
    key_pem = datum_of(&key);
    r = check_certificate(certificate_file.path, &certificate_pem, reason);
    if (r == 0)
        r = check_key(key_file.path, &key_pem, reason);
    return r < 0 ? r : set_pair(credentials, folder, &certificate_pem, &key_pem, reason);
}

static int load_authorities(struct tls_credentials *credentials, const struct folder *folder,
                            struct tls_reason *reason)
{
    int r;

    if (credentials->no_verify)
        return 0;
    r = folder->path && folder->ca ? load_ca(credentials, folder, reason)
                                   : load_system_trust(credentials, reason);
    if (r == 0 && folder->crl)
        r = load_crl(credentials, folder, reason);
    return r;
}

int tls_load_x509(struct tls_credentials *credentials, const struct tls_policy *policy,
                  struct tls_reason *reason)
{
    struct folder folder = {.path = policy->certificates, .chosen = policy->certificates != NULL};
    int r = 0;

    if (!folder.path && access(DEFAULT_FOLDER, F_OK) == 0)
        folder.path = DEFAULT_FOLDER;
    if (folder.path)
        r = survey(&folder, policy->no_verify, reason);
    if (r < 0)
        return r;
    if (gnutls.certificate_allocate_credentials(&credentials->x509) < 0)
        return tls_fail(reason, ENOMEM, "out of memory");
    r = load_authorities(credentials, &folder, reason);
    if (r == 0 && folder.certificate)
        r = load_pair(credentials, &folder, reason);
    return r;
}
