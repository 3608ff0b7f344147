/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attached devices on stdout, for programs (list --json, status --json) and the pieces people's text shares.
 */
#pragma once

#include <stddef.h>

#include "agent/view.h"

#define ADDRESS_TEXT_MAX 160

void print_list_json(const struct device_view *views, size_t count);
void print_status_json(const struct device_view *view);

/* "127.0.0.1:10809", "[::1]:10809", "unix:/run/x" (escaped); into has room for ADDRESS_TEXT_MAX. Returns
 * into. */
const char *address_text(const struct sockaddr_storage *address, char *into);

/* Names of linux/tls.h's numbers: "TLS 1.3", "AES-128-GCM"; "unknown" for new ones. */
const char *tls_version_name(unsigned version);
const char *tls_cipher_name(unsigned cipher);
