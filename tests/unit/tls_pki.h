/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Keys, certificates and revocation lists, made when a test runs; failures end the process. */
#pragma once

#include <gnutls/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

struct pki_identity {
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t certificate;
};

struct pki_spec {
    const char *name; /* common name */
    const char *dns, *ip;
    bool authority, is_client;
    int from, until;                  /* days from now; both 0: valid now */
    unsigned rsa_bits;                /* 0: an elliptic curve */
    gnutls_digest_algorithm_t digest; /* 0: SHA-256 */
};

/* issuer NULL: signed by itself. */
void pki_make(struct pki_identity *identity, const struct pki_spec *spec, const struct pki_identity *issuer);
void pki_clear(struct pki_identity *identity);

/* PEM files in a folder. */
void pki_write_certificate(const struct pki_identity *identity, const char *folder, const char *name);
void pki_write_key(const struct pki_identity *identity, const char *folder, const char *name,
                   const char *password);

/* revoked NULL: an empty list. seconds: until the next one is due. */
void pki_write_crl(const struct pki_identity *authority, const struct pki_identity *revoked, int seconds,
                   const char *folder, const char *name);

/* A new folder below $TMPDIR, and its removal with the files in it. */
char *pki_folder_new(void);
void pki_folder_remove(char *folder);

/* A file of that content and mode, returning its path (freed by the caller). */
char *pki_write(const char *folder, const char *name, const void *data, size_t size, unsigned mode);
