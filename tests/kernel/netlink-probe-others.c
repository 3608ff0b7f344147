/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Other devices: with partitions, on TCP and with TLS, for other users, very many, and short-lived ones. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/nbd.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/swap.h>
#include <unistd.h>

#include "module.h"
#include "netlink-probe.h"
#include "sysfs.h"

/* Two primary partitions of Linux: 1 MiB each, at 1 and 2 MiB. */
static void write_partition_table(void)
{
    for (size_t i = 0; i < 2; i++) {
        uint8_t *entry = disk + 446 + i * 16;

        entry[4] = 0x83;
        entry[9] = (uint8_t)(8 * (i + 1));
        entry[13] = 8;
    }
    disk[510] = 0x55;
    disk[511] = 0xaa;
}

/* Swap space that is on a partition holds the disk. */
static void check_partition_held(uint32_t index, const char *path)
{
    struct nbd_device device;
    struct holder holder = {0};
    char name[32];

    if (run("mkswap", "-q", path) != 0 || swapon(path, 0) < 0) {
        skip_check("held-partition", "no swap");
        return;
    }
    snprintf(name, sizeof name, "nbd%" PRIu32 "p2", index);
    nbd_device_read("", index, &device, &reason);
    expect(nbd_holders("", &device, 0, &holder, 1, &reason), 1, "held-partition");
    check(holder.kind == HOLDER_SWAP && strcmp(holder.device, name) == 0, "held-partition-name", "%s",
          holder.device);
    swapoff(path);
}

void check_partitions(struct nbd_netlink *netlink)
{
    int fd, socket = server_connect_unix(NULL);
    struct nbd_config config = plain_config(&socket, 1);
    unsigned numbers[4] = {0};
    uint32_t index, resolved;
    char path[32];

    memset(disk, 0, 4096);
    write_partition_table();
    expect(nbd_netlink_connect(netlink, &config, &index, &reason), 0, "connect-partitioned");
    /* The driver only marks the disk: whoever opens it first makes the kernel look for partitions. */
    fd = open_disk(index, O_RDONLY);
    close(fd);
    expect(nbd_partitions("", index, numbers, 4, &reason), 2, "partitions-two");
    check(numbers[0] == 1 && numbers[1] == 2, "partitions-numbers", "%u %u", numbers[0], numbers[1]);
    snprintf(path, sizeof path, "/dev/nbd%" PRIu32 "p2", index);
    expect(nbd_device_resolve("", path, &resolved, &reason), -EINVAL, "resolve-partition");
    check_partition_held(index, path);
    detach(netlink, index, "disconnect-partitioned");
    close(socket);
    memset(disk, 0, 4096);
    memcpy(disk, "second", 7);
}

static void check_ktls(const struct socket_identity *identity, int socket)
{
    struct tls12_crypto_info_aes_gcm_128 keys = {
        .info = {.version = TLS_1_3_VERSION, .cipher_type = TLS_CIPHER_AES_GCM_128}};
    struct socket_view view;

    if (module_load("tls", &reason) < 0 || setsockopt(socket, IPPROTO_TCP, TCP_ULP, "tls", 4) < 0 ||
        setsockopt(socket, SOL_TLS, TLS_TX, &keys, sizeof keys) < 0) {
        skip_check("view-tls", strerror(errno));
        return;
    }
    expect(socket_view(identity, &view, &reason), 0, "view-tls");
    check(view.has_tls && view.tls_version == TLS_1_3_VERSION && view.tls_cipher == TLS_CIPHER_AES_GCM_128 &&
              view.tls_tx == TLS_CONF_SW,
          "view-tls-values", "%d %x %d %d %d", view.has_tls, view.tls_version, view.tls_cipher, view.tls_tx,
          view.tls_rx);
}

void check_tcp(struct nbd_netlink *netlink, struct nbd_events *events)
{
    int servers[2], sockets[] = {server_connect_tcp(&servers[0]), server_connect_tcp(&servers[1])};
    struct nbd_config config = plain_config(sockets, 2);
    struct socket_identity identity;
    struct socket_view view;
    uint32_t index;

    expect(socket_identify(sockets[0], &identity, &reason), 0, "identify-tcp");
    expect(nbd_netlink_connect(netlink, &config, &index, &reason), 0, "connect-tcp");
    check(read_disk(index, "second") && read_disk(index, "second"), "read-tcp", "%s", strerror(errno));
    expect(socket_view(&identity, &view, &reason), 0, "view-tcp");
    check(view.established && view.rtt_us > 0 && !view.has_tls, "view-tcp-values", "%d %" PRIu32,
          view.established, view.rtt_us);
    printf("#   sent %" PRIu64 ", received %" PRIu64 ", rtt %" PRIu32 " us\n", view.bytes_sent,
           view.bytes_received, view.rtt_us);
    shutdown(servers[0], SHUT_RDWR);
    check(wait_dead(events, index), "link-dead-tcp", "no event");
    check(read_disk(index, "second"), "read-tcp-other", "%s", strerror(errno));
    detach(netlink, index, "disconnect-tcp");
    for (int i = 0; i < 2; i++) {
        close(sockets[i]);
        close(servers[i]);
    }
    expect(socket_view(&identity, &view, &reason), -ENOENT, "view-tcp-gone");
    sockets[0] = server_connect_tcp(&servers[0]);
    socket_identify(sockets[0], &identity, &reason);
    check_ktls(&identity, sockets[0]);
    close(servers[0]);
    close(sockets[0]);
}

static int as_nobody(void *arg)
{
    uint32_t index = *(uint32_t *)arg;
    int socket = server_connect_unix(NULL);
    struct nbd_config config = plain_config(&socket, 1);
    struct nbd_netlink *netlink;
    struct nbd_events *events;
    struct nbd_status status;
    uint32_t taken;

    if (setgid(65534) < 0 || setuid(65534) < 0)
        return 1;
    expect(nbd_netlink_open(&netlink, true, &reason), 0, "nobody-open");
    expect(nbd_netlink_connect(netlink, &config, &taken, &reason), -EPERM, "nobody-connect");
    config.index = index;
    config.size = config.block_size = 0;
    expect(nbd_netlink_reconfigure(netlink, &config, &reason), -EPERM, "nobody-reconfigure");
    expect(nbd_netlink_disconnect(netlink, index, &reason), -EPERM, "nobody-disconnect");
    expect(nbd_netlink_status(netlink, index, &status, 1, &reason), 1, "nobody-status");
    expect(nbd_events_open(&events, &reason), 0, "nobody-events");
    expect(module_load("dm_mod", &reason) == 0 ? -EPERM : module_load("dm_mod", &reason), -EPERM,
           "nobody-module");
    return 0;
}

static int in_other_network(void *arg)
{
    struct nbd_netlink *netlink = NULL;

    (void)arg;
    if (unshare(CLONE_NEWNET) < 0)
        return 1;
    if (check_either(nbd_netlink_open(&netlink, true, &reason), -ENOENT, "other-network-namespace") == 0)
        nbd_netlink_close(netlink);
    return 0;
}

void check_elsewhere(uint32_t index)
{
    check(in_child(as_nobody, &index) == 0, "nobody", "see above");
    check(in_child(in_other_network, NULL) == 0, "other-network", "see above");
}

/* The device goes with its connection. In the moments in between it is neither there nor gone. */
void check_destroy(struct nbd_netlink *netlink, struct uevent_socket *uevents, uint32_t index)
{
    int seen_exist = 0, seen_invalid = 0, seen_other = 0;
    char name[16];

    snprintf(name, sizeof name, "nbd%" PRIu32, index);
    for (int i = 0; i < 20; i++) {
        int r, socket = server_connect_unix(NULL);
        struct nbd_config config = plain_config(&socket, 1);
        uint32_t taken;

        config.index = index;
        config.has_client_flags = true;
        config.client_flags = NBD_DESTROY_ON_DISCONNECT;
        for (int tries = 0; tries < 100; tries++) {
            r = nbd_netlink_connect(netlink, &config, &taken, &reason);
            if (r == 0)
                break;
            seen_exist += r == -EEXIST;
            seen_invalid += r == -EINVAL;
            seen_other += r != -EEXIST && r != -EBUSY && r != -EINVAL;
            pause_ms(10);
        }
        close(socket);
        if (r == 0)
            r = nbd_netlink_disconnect(netlink, index, &reason);
        if (!check(r == 0, "destroy-again", "%s", reason.text))
            break;
    }
    check(seen_other == 0, "destroy-and-connect", "%d unexpected: %s", seen_other, reason.text);
    printf("#   -EEXIST seen %d times, -EINVAL %d times\n", seen_exist, seen_invalid);
    check(wait_attached(index, false), "destroy", "nbd%" PRIu32 " is still attached", index);
    check(wait_uevent(uevents, UEVENT_REMOVE, name), "uevent-remove", "no event");
}

#define MANY 64

void check_many(struct nbd_netlink *netlink)
{
    struct nbd_status status[MANY * 2];
    uint32_t indexes[MANY] = {0};
    int connected = 0, good = 0, count;

    for (; good < MANY; good++) {
        int socket = server_connect_unix(NULL);
        struct nbd_config config = plain_config(&socket, 1);
        int r = nbd_netlink_connect(netlink, &config, &indexes[good], &reason);

        close(socket);
        if (r < 0)
            break;
    }
    check(good == MANY, "many-connect", "%d: %s", good, reason.text);
    count = nbd_netlink_status(netlink, NBD_INDEX_ANY, status, MANY * 2, &reason);
    for (int i = 0; i < count && i < MANY * 2; i++)
        connected += status[i].connected;
    check(connected >= MANY, "many-status", "%d of %d: %s", connected, count, reason.text);
    count = nbd_netlink_status(netlink, NBD_INDEX_ANY, status, 1, &reason);
    check(count >= MANY, "many-status-short", "%d", count);
    for (int i = 0; i < good; i++)
        connected -=
            nbd_netlink_disconnect(netlink, indexes[i], &reason) == 0 && wait_attached(indexes[i], false);
    check(connected == 0, "many-disconnect", "%d left", connected);
}
