/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <linux/tls.h>
#include <linux/unix_diag.h>
#include <string.h>

#include "message.h"
#include "sockdiag.h"

#define STATE_ESTABLISHED 1 /* TCP_ESTABLISHED of the kernel, for unix sockets too */

static int open_answer(const void *data, size_t size, void *header, size_t header_size,
                       struct netlink_view *attributes)
{
    struct netlink_view rest = {.data = data, .size = size};
    struct netlink_message message;

    if (netlink_message_next(&rest, &message) <= 0 || message.type != SOCK_DIAG_BY_FAMILY)
        return -EBADMSG;
    *attributes = message.payload;
    return netlink_header(attributes, header, header_size);
}

/* Older kernels know fewer fields at the end, newer ones more. */
static void take_tcp_info(struct netlink_view value, struct socket_view *view)
{
    struct tcp_info info = {0};

    memcpy(&info, value.data, value.size < sizeof info ? value.size : sizeof info);
    view->rtt_us = info.tcpi_rtt;
    view->bytes_sent = info.tcpi_bytes_acked;
    view->bytes_received = info.tcpi_bytes_received;
    view->retransmits = info.tcpi_total_retrans;
}

static int take_tls(struct netlink_view attributes, struct socket_view *view)
{
    struct netlink_attribute attribute;
    int r;

    view->has_tls = true;
    while ((r = netlink_attribute_next(&attributes, &attribute)) > 0) {
        uint16_t *to = NULL;

        if (attribute.type == TLS_INFO_VERSION)
            to = &view->tls_version;
        else if (attribute.type == TLS_INFO_CIPHER)
            to = &view->tls_cipher;
        else if (attribute.type == TLS_INFO_TXCONF)
            to = &view->tls_tx;
        else if (attribute.type == TLS_INFO_RXCONF)
            to = &view->tls_rx;
        if (to && netlink_attribute_u16(&attribute, to) < 0)
            return -EBADMSG;
    }
    return r;
}

static int take_ulp(struct netlink_view attributes, struct socket_view *view)
{
    struct netlink_attribute attribute;
    int r = netlink_attribute_find(attributes, INET_ULP_INFO_TLS, &attribute);

    return r > 0 ? take_tls(attribute.value, view) : r;
}

int sockdiag_decode_inet(const void *data, size_t size, struct socket_view *view)
{
    struct netlink_attribute attribute;
    struct netlink_view attributes;
    struct inet_diag_msg header;
    int r;

    *view = (struct socket_view){0};
    if (open_answer(data, size, &header, sizeof header, &attributes) < 0)
        return -EBADMSG;
    view->established = header.idiag_state == STATE_ESTABLISHED;
    while ((r = netlink_attribute_next(&attributes, &attribute)) > 0) {
        if (attribute.type == INET_DIAG_INFO)
            take_tcp_info(attribute.value, view);
        else if (attribute.type == INET_DIAG_ULP_INFO && take_ulp(attribute.value, view) < 0)
            return -EBADMSG;
    }
    return r;
}

int sockdiag_decode_unix(const void *data, size_t size, struct socket_view *view)
{
    struct netlink_attribute attribute;
    struct netlink_view attributes;
    struct unix_diag_msg header;
    uint8_t shut = 0;
    int r;

    *view = (struct socket_view){0};
    if (open_answer(data, size, &header, sizeof header, &attributes) < 0)
        return -EBADMSG;
    r = netlink_attribute_find(attributes, UNIX_DIAG_SHUTDOWN, &attribute);
    if (r < 0 || (r > 0 && netlink_attribute_u8(&attribute, &shut) < 0))
        return -EBADMSG;
    /* The state stays "established" when the peer has closed. */
    view->established = header.udiag_state == STATE_ESTABLISHED && shut == 0;
    return 0;
}
