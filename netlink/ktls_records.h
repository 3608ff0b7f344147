/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

/*
 * How many records went over a socket whose TLS the kernel has, in the busier direction (getsockopt TLS_RX
 * and TLS_TX: the next sequence number of the current keys). -EOPNOTSUPP: the cipher does not wear out
 * (CHACHA20-POLY1305), or it is not such a socket.
 */
int ktls_records(int fd, uint64_t *records);
