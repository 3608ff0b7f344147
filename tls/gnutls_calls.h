/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * GnuTLS, loaded when the first credentials are: with p11-kit, gmp and the rest it takes twice as long as
 * everything else that starting this program does, and a disk without TLS needs none of it. Nothing here
 * calls a gnutls_*() but through gnutls.*, which the linker sees to.
 */
#pragma once

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/socket.h>
#include <gnutls/x509.h>

#include "tls_reason.h"

#if GNUTLS_VERSION_NUMBER >= 0x030703
#define GNUTLS_CALLS_3_7_3(X) X(transport_is_ktls_enabled)
#else
#define GNUTLS_CALLS_3_7_3(X)
#endif

/* clang-format off */
#define GNUTLS_CALLS(X)                                                                                     \
    X(aead_cipher_decrypt) X(aead_cipher_deinit) X(aead_cipher_encrypt) X(aead_cipher_init) X(alert_get)    \
    X(alert_get_name) X(alert_send) X(alert_send_appropriate) X(auth_server_get_type) X(bye)                \
    X(certificate_allocate_credentials) X(certificate_free_credentials) X(certificate_free_keys)            \
    X(certificate_get_peers) X(certificate_set_flags) X(certificate_set_x509_crl_mem)                       \
    X(certificate_set_x509_key_mem2) X(certificate_set_x509_system_trust)                                   \
    X(certificate_set_x509_trust_mem) X(certificate_type_get) X(cipher_get) X(cipher_get_name)              \
    X(cipher_get_tag_size) X(credentials_set) X(deinit) X(error_is_fatal) X(ext_raw_parse) X(free)          \
    X(group_get) X(group_get_name) X(handshake) X(handshake_set_hook_function) X(init) X(kx_get)            \
    X(mac_get) X(malloc) X(priority_deinit) X(priority_init) X(priority_set) X(protocol_get_name)           \
    X(protocol_get_version) X(psk_allocate_client_credentials) X(psk_free_client_credentials)               \
    X(psk_set_client_credentials_function2) X(record_check_pending) X(record_get_direction)                 \
    X(record_get_state) X(record_recv) X(record_send) X(record_set_state) X(server_name_set)                \
    X(session_get_ptr) X(session_get_verify_cert_status) X(session_key_update) X(session_set_ptr)           \
    X(session_set_verify_cert2) X(sign_algorithm_get) X(sign_get_name) X(strerror)                          \
    X(transport_set_errno) X(transport_set_ptr) X(transport_set_pull_function)                              \
    X(transport_set_pull_timeout_function) X(transport_set_push_function)    \
    X(transport_set_vec_push_function) X(x509_crl_deinit) X(x509_crl_get_next_update)                       \
    X(x509_crl_list_import2) X(x509_crt_deinit) X(x509_crt_get_activation_time) X(x509_crt_get_dn_by_oid)   \
    X(x509_crt_get_expiration_time) X(x509_crt_get_issuer_dn) X(x509_crt_get_subject_alt_name)              \
    X(x509_crt_import) X(x509_crt_init) X(x509_privkey_deinit) X(x509_privkey_import2)                      \
    X(x509_privkey_init) GNUTLS_CALLS_3_7_3(X)
/* clang-format on */

struct gnutls_calls {
#define MEMBER(name) __typeof__(gnutls_##name) *name;
    GNUTLS_CALLS(MEMBER)
#undef MEMBER
};

extern struct gnutls_calls gnutls;

/* Before the first call, in whatever thread: 0, or -ELIBACC, -ELIBBAD with what to install. */
int gnutls_calls_load(struct tls_reason *reason);
