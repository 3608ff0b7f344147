/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sockdiag.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>

#include "exchange.h"
#include "scoped.h"
#include "sockdiag_query.h"

#define ALL_STATES UINT32_MAX

/* 0 or -errno. */
static int socket_option(int fd, int option, void *value, size_t size)
{
    socklen_t length = (socklen_t)size;

    return getsockopt(fd, SOL_SOCKET, option, value, &length) < 0 ? -errno : 0;
}

static int read_addresses(int fd, struct socket_identity *identity)
{
    socklen_t local = sizeof identity->local, remote = sizeof identity->remote;

    if (getsockname(fd, (struct sockaddr *)&identity->local, &local) < 0 ||
        getpeername(fd, (struct sockaddr *)&identity->remote, &remote) < 0)
        return -errno;
    return 0;
}

/* What the nbd driver takes: TCP proper and unix streams. */
static bool is_supported(int fd, int family)
{
    int type = 0, protocol = 0;

    if (socket_option(fd, SO_TYPE, &type, sizeof type) < 0 || type != SOCK_STREAM ||
        socket_option(fd, SO_PROTOCOL, &protocol, sizeof protocol) < 0)
        return false;
    return family == AF_UNIX || ((family == AF_INET || family == AF_INET6) && protocol == IPPROTO_TCP);
}

static int read_numbers(int fd, struct socket_identity *identity)
{
    int interface = 0;
    struct stat st;
    int r = socket_option(fd, SO_COOKIE, &identity->cookie, sizeof identity->cookie);

    if (r < 0)
        return r;
    if (fstat(fd, &st) < 0)
        return -errno;
    identity->inode = st.st_ino;
    /* A link-local address binds it as well. */
    if (socket_option(fd, SO_BINDTOIFINDEX, &interface, sizeof interface) == 0 && interface > 0)
        identity->interface = (uint32_t)interface;
    return 0;
}

int socket_identify(int fd, struct socket_identity *identity, struct netlink_reason *reason)
{
    int r;

    *identity = (struct socket_identity){0};
    r = read_addresses(fd, identity);
    if (r == 0)
        r = read_numbers(fd, identity);
    if (r < 0)
        return netlink_fail(reason, -r, NULL, "cannot identify a connection: %s", strerror(-r));
    if (!is_supported(fd, identity->local.ss_family))
        return netlink_fail(reason, EAFNOSUPPORT, NULL, "a connection is neither TCP nor a unix stream");
    return 0;
}

void sockdiag_close(struct sockdiag **query)
{
    if (*query && (*query)->socket)
        mnl_socket_close((*query)->socket);
    free(*query);
}

struct sockdiag *sockdiag_open(void)
{
    _cleanup_(sockdiag_close) struct sockdiag *query = calloc(1, sizeof *query);

    if (!query)
        return NULL;
    query->socket = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
    if (!query->socket || mnl_socket_bind(query->socket, 0, MNL_SOCKET_AUTOPID) < 0)
        return NULL;
    return steal_ptr(&query);
}

static void split_cookie(uint64_t cookie, uint32_t halves[static 2])
{
    halves[0] = (uint32_t)cookie;
    halves[1] = (uint32_t)(cookie >> 32);
}

static void put_ends4(struct inet_diag_sockid *id, const struct sockaddr_in *local,
                      const struct sockaddr_in *remote)
{
    id->idiag_sport = local->sin_port;
    id->idiag_dport = remote->sin_port;
    id->idiag_src[0] = local->sin_addr.s_addr;
    id->idiag_dst[0] = remote->sin_addr.s_addr;
}

/* The kernel itself looks an IPv4-mapped pair up as IPv4. */
static void put_ends6(struct inet_diag_sockid *id, const struct sockaddr_in6 *local,
                      const struct sockaddr_in6 *remote)
{
    id->idiag_sport = local->sin6_port;
    id->idiag_dport = remote->sin6_port;
    memcpy(id->idiag_src, &local->sin6_addr, sizeof id->idiag_src);
    memcpy(id->idiag_dst, &remote->sin6_addr, sizeof id->idiag_dst);
}

static void put_ends(struct inet_diag_sockid *id, const struct socket_identity *identity)
{
    const void *local = &identity->local, *remote = &identity->remote;

    if (identity->local.ss_family == AF_INET)
        put_ends4(id, local, remote);
    else
        put_ends6(id, local, remote);
}

static struct nlmsghdr *put_header(struct sockdiag *query, uint16_t type, int flags)
{
    struct nlmsghdr *header = mnl_nlmsg_put_header(query->buffer);

    header->nlmsg_type = type;
    header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    header->nlmsg_seq = ++query->sequence;
    return header;
}

struct nlmsghdr *sockdiag_put_inet(struct sockdiag *query, uint16_t type,
                                   const struct socket_identity *identity)
{
    struct nlmsghdr *header = put_header(query, type, NLM_F_ACK);
    struct inet_diag_req_v2 *request = mnl_nlmsg_put_extra_header(header, sizeof *request);

    request->sdiag_family = (uint8_t)identity->local.ss_family;
    request->sdiag_protocol = IPPROTO_TCP;
    request->idiag_ext = 1 << (INET_DIAG_INFO - 1);
    request->idiag_states = ALL_STATES;
    request->id.idiag_if = identity->interface;
    put_ends(&request->id, identity);
    split_cookie(identity->cookie, request->id.idiag_cookie);
    return header;
}

static struct nlmsghdr *put_unix(struct sockdiag *query, const struct socket_identity *identity)
{
    struct nlmsghdr *header = put_header(query, SOCK_DIAG_BY_FAMILY, NLM_F_ACK);
    struct unix_diag_req *request = mnl_nlmsg_put_extra_header(header, sizeof *request);

    request->sdiag_family = AF_UNIX;
    request->udiag_states = ALL_STATES;
    request->udiag_ino = (uint32_t)identity->inode;
    split_cookie(identity->cookie, request->udiag_cookie);
    return header;
}

/* A list of the sockets in no state at all: short, and refused exactly when the kernel has no such list. */
static struct nlmsghdr *put_nothing(struct sockdiag *query, int family)
{
    struct nlmsghdr *header = put_header(query, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);

    if (family == AF_UNIX) {
        struct unix_diag_req *request = mnl_nlmsg_put_extra_header(header, sizeof *request);

        request->sdiag_family = AF_UNIX;
    } else {
        struct inet_diag_req_v2 *request = mnl_nlmsg_put_extra_header(header, sizeof *request);

        request->sdiag_family = (uint8_t)family;
        request->sdiag_protocol = IPPROTO_TCP;
    }
    return header;
}

struct answer {
    int family;
    struct socket_view *view;
};

static int take_answer(const void *message, size_t size, void *arg)
{
    const struct answer *answer = arg;

    if (!answer->view)
        return 0;
    return answer->family == AF_UNIX ? sockdiag_decode_unix(message, size, answer->view)
                                     : sockdiag_decode_inet(message, size, answer->view);
}

static int query_run(struct sockdiag *query, const struct nlmsghdr *request, struct answer *answer)
{
    struct netlink_exchange exchange = {
        .fd = mnl_socket_get_fd(query->socket),
        .sequence = request->nlmsg_seq,
        .buffer = query->buffer,
        .buffer_size = sizeof query->buffer,
        .take = take_answer,
        .arg = answer,
    };

    if (mnl_socket_sendto(query->socket, request, request->nlmsg_len) < 0)
        return -errno;
    return netlink_exchange_run(&exchange);
}

/* "No such socket" and "no such kind of question" are the same errno. */
int sockdiag_ask(struct sockdiag *query, const struct nlmsghdr *request, int family, struct socket_view *view)
{
    struct answer answer = {.family = family, .view = view};
    struct answer nothing = {.family = family};
    int r = query_run(query, request, &answer);

    /* The address was found, but another socket has it now. */
    if (r == -ESTALE)
        return -ENOENT;
    if (r == -ENOENT && query_run(query, put_nothing(query, family), &nothing) < 0)
        return -EOPNOTSUPP;
    return r;
}

static int query_view(struct sockdiag *query, const struct socket_identity *identity,
                      struct socket_view *view)
{
    int family = identity->local.ss_family;
    const struct nlmsghdr *request = family == AF_UNIX
                                         ? put_unix(query, identity)
                                         : sockdiag_put_inet(query, SOCK_DIAG_BY_FAMILY, identity);

    return sockdiag_ask(query, request, family, view);
}

int socket_view(const struct socket_identity *identity, struct socket_view *view,
                struct netlink_reason *reason)
{
    _cleanup_(sockdiag_close) struct sockdiag *query = sockdiag_open();
    int r = query ? query_view(query, identity, view) : -errno;

    if (r == -ENOENT)
        return netlink_fail(reason, ENOENT, NULL, "the connection is gone");
    if (r == -EOPNOTSUPP || r == -EPROTONOSUPPORT)
        return netlink_fail(reason, EOPNOTSUPP, "the kernel module tcp_diag or unix_diag is missing",
                            "the kernel cannot tell about its connections");
    return r < 0
               ? netlink_fail(reason, -r, NULL, "cannot ask the kernel about a connection: %s", strerror(-r))
               : 0;
}
