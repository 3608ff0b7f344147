/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "nbd.h"

#include <errno.h>
#include <linux/nbd-netlink.h>
#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "exchange.h"
#include "module.h"
#include "nbd_genl.h"
#include "nbd_request.h"
#include "scoped.h"

/* An attribute is at most 64 KiB, and so is the longest list of devices the kernel can send. */
#define ANSWER_MAX ((size_t)72 * 1024)

struct nbd_netlink {
    struct nl_sock *socket;
    int family;
    char *buffer; /* owned; not zeroed: that alone would make its pages, of which an answer fills the first */
};

void nbd_netlink_close(struct nbd_netlink *netlink)
{
    if (!netlink)
        return;
    nl_socket_free(netlink->socket);
    free(netlink->buffer);
    free(netlink);
}

void nbd_netlink_closep(struct nbd_netlink **netlink)
{
    nbd_netlink_close(*netlink);
}

int nbd_genl_error(int nl_error)
{
    switch (nl_error < 0 ? -nl_error : nl_error) {
    case NLE_NOMEM:
        return ENOMEM;
    case NLE_PERM:
    case NLE_NOACCESS:
        return EPERM;
    case NLE_OBJ_NOTFOUND:
        return ENOENT;
    case NLE_AGAIN:
        return ETIMEDOUT;
    case NLE_INTR:
        return EINTR;
    case NLE_AF_NOSUPPORT:
    case NLE_PROTO_MISMATCH:
        return EPROTONOSUPPORT;
    default:
        return EPROTO;
    }
}

int nbd_genl_connect_socket(struct nl_sock *socket, struct netlink_reason *reason)
{
    /* For libnl's own question about the family: it waits without a bound. */
    const struct timeval timeout = {.tv_sec = 5};
    int r = genl_connect(socket);

    if (r < 0)
        return netlink_fail(reason, nbd_genl_error(r), NULL, "cannot open a netlink socket: %s",
                            nl_geterror(r));
    if (setsockopt(nl_socket_get_fd(socket), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0)
        return netlink_fail(reason, errno, NULL, "cannot set up a netlink socket: %s", strerror(errno));
    return 0;
}

static int resolve_family(struct nbd_netlink *netlink)
{
    int r = genl_ctrl_resolve(netlink->socket, NBD_GENL_FAMILY_NAME);

    if (r < 0)
        return -nbd_genl_error(r);
    netlink->family = r;
    return 0;
}

int nbd_genl_absent(int error, struct netlink_reason *reason)
{
    struct stat st;

    if (error != ENOENT)
        return netlink_fail(reason, error, NULL, "cannot ask the kernel for its nbd driver: %s",
                            strerror(error));
    if (stat("/sys/module/nbd", &st) == 0)
        return netlink_fail(reason, ENOENT, "run outside of the container",
                            "the nbd driver is loaded but answers only in the initial network namespace");
    return netlink_fail(reason, ENOENT, "modprobe nbd",
                        "the kernel has no nbd driver (the module is not loaded)");
}

static int find_family(struct nbd_netlink *netlink, bool load_module, struct netlink_reason *reason)
{
    int r = resolve_family(netlink);

    if (r == -ENOENT && load_module) {
        /* Every refusal comes to the same for the caller: there is no driver. The reason keeps the
         * difference. */
        if (module_load(NBD_GENL_FAMILY_NAME, reason) < 0)
            return -ENOENT;
        r = resolve_family(netlink);
    }
    return r < 0 ? nbd_genl_absent(-r, reason) : 0;
}

static void ask_for_words(struct nl_sock *socket)
{
    const int on = 1;

    /* Kernels that cannot do either (before 4.12) answer all the same. */
    (void)setsockopt(nl_socket_get_fd(socket), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
    (void)setsockopt(nl_socket_get_fd(socket), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
}

int nbd_netlink_open(struct nbd_netlink **ret, bool load_module, struct netlink_reason *reason)
{
    _cleanup_(nbd_netlink_closep) struct nbd_netlink *netlink = calloc(1, sizeof *netlink);
    int r;

    if (netlink) {
        netlink->socket = nl_socket_alloc();
        netlink->buffer = malloc(ANSWER_MAX);
    }
    if (!netlink || !netlink->socket || !netlink->buffer)
        return netlink_fail(reason, ENOMEM, NULL, "out of memory");
    r = nbd_genl_connect_socket(netlink->socket, reason);
    if (r < 0)
        return r;
    r = find_family(netlink, load_module, reason);
    if (r < 0)
        return r;
    ask_for_words(netlink->socket);
    *ret = steal_ptr(&netlink);
    return 0;
}

typedef int (*take_answer)(const void *message, size_t size, void *arg);

/* Sends a request (and frees it) and hears the answers up to the kernel's verdict. */
static int converse(struct nbd_netlink *netlink, struct nl_msg *request, take_answer take, void *arg,
                    char words[static 128])
{
    struct netlink_exchange exchange = {
        .fd = nl_socket_get_fd(netlink->socket),
        .buffer = netlink->buffer,
        .buffer_size = ANSWER_MAX,
        .take = take,
        .arg = arg,
    };
    int r = nl_send_auto(netlink->socket, request);

    exchange.sequence = nlmsg_hdr(request)->nlmsg_seq;
    nlmsg_free(request);
    if (r < 0)
        return -nbd_genl_error(r);
    r = netlink_exchange_run(&exchange);
    memcpy(words, exchange.text, sizeof exchange.text);
    return r;
}

static int ask(struct nbd_netlink *netlink, int command, uint32_t index, const struct nbd_config *config,
               take_answer take, void *arg, struct netlink_reason *reason)
{
    struct nl_msg *request = nbd_request_build(netlink->family, command, index, config);
    char words[128] = "";
    int r = request ? converse(netlink, request, take, arg, words) : -ENOMEM;

    return r < 0 ? nbd_refused(command, index, -r, words, reason) : 0;
}

static int take_index(const void *message, size_t size, void *arg)
{
    return nbd_decode_connect(message, size, arg);
}

int nbd_netlink_connect(struct nbd_netlink *netlink, const struct nbd_config *config, uint32_t *index,
                        struct netlink_reason *reason)
{
    uint32_t taken = config->index;
    int r = nbd_config_check(NBD_CMD_CONNECT, config, reason);

    if (r < 0)
        return r;
    r = ask(netlink, NBD_CMD_CONNECT, config->index, config, take_index, &taken, reason);
    if (r < 0)
        return r;
    /* The reply with the index is sent before the ACK but not when the kernel is short of memory. */
    if (taken == NBD_INDEX_ANY)
        return netlink_fail(reason, EPROTO, "look for a new device in /sys/block and detach it",
                            "the kernel attached a device but did not say which");
    *index = taken;
    return 0;
}

int nbd_netlink_reconfigure(struct nbd_netlink *netlink, const struct nbd_config *config,
                            struct netlink_reason *reason)
{
    int r = nbd_config_check(NBD_CMD_RECONFIGURE, config, reason);

    if (r < 0)
        return r;
    return ask(netlink, NBD_CMD_RECONFIGURE, config->index, config, NULL, NULL, reason);
}

int nbd_netlink_disconnect(struct nbd_netlink *netlink, uint32_t index, struct netlink_reason *reason)
{
    if (index == NBD_INDEX_ANY)
        return netlink_fail(reason, EINVAL, NULL, "no device named to detach");
    return ask(netlink, NBD_CMD_DISCONNECT, index, NULL, NULL, NULL, reason);
}

struct status_answer {
    struct nbd_status *list;
    size_t capacity;
    uint32_t index;
    int count;
};

/* The list for one device should hold that one alone; it is searched nevertheless. */
static int take_one_status(const void *message, size_t size, struct status_answer *answer)
{
    int count = nbd_decode_status(message, size, NULL, 0);
    _cleanup_free_ struct nbd_status *all = NULL;

    if (count <= 0)
        return count;
    all = calloc((size_t)count, sizeof *all);
    if (!all)
        return -ENOMEM;
    nbd_decode_status(message, size, all, (size_t)count);
    for (int i = 0; i < count; i++) {
        if (all[i].index != answer->index)
            continue;
        if (answer->capacity > 0)
            answer->list[0] = all[i];
        answer->count = 1;
        break;
    }
    return 0;
}

static int take_status(const void *message, size_t size, void *arg)
{
    struct status_answer *answer = arg;
    int r;

    if (answer->index != NBD_INDEX_ANY)
        return take_one_status(message, size, answer);
    r = nbd_decode_status(message, size, answer->list, answer->capacity);
    if (r >= 0)
        answer->count = r;
    return r < 0 ? r : 0;
}

int nbd_netlink_status(struct nbd_netlink *netlink, uint32_t index, struct nbd_status *list, size_t capacity,
                       struct netlink_reason *reason)
{
    struct status_answer answer = {.list = list, .capacity = capacity, .index = index};
    int r = ask(netlink, NBD_CMD_STATUS, index, NULL, take_status, &answer, reason);

    return r < 0 ? r : answer.count;
}
