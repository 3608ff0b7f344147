/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One device on a unix socket: attached, looked at, its link lost and brought back, resized; and what is
 * refused. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/nbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "netlink-probe.h"
#include "sysfs.h"

static int open_udp(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        abort();
    return fd;
}

uint32_t check_connect(struct nbd_netlink *netlink, struct uevent_socket *uevents, int *server,
                       struct socket_identity *identity)
{
    int socket = server_connect_unix(server);
    struct nbd_config config = plain_config(&socket, 1);
    uint32_t index = NBD_INDEX_ANY;
    char name[16];

    expect(socket_identify(socket, identity, &reason), 0, "identify-unix");
    if (!expect(nbd_netlink_connect(netlink, &config, &index, &reason), 0, "connect"))
        exit(EXIT_FAILURE);
    close(socket);
    snprintf(name, sizeof name, "nbd%" PRIu32, index);
    check(wait_uevent(uevents, UEVENT_CHANGE, name), "uevent-change", "no event of %s", name);
    check(read_disk(index, "first"), "read", "%s", strerror(errno));
    return index;
}

void check_sysfs(struct nbd_netlink *netlink, uint32_t index)
{
    struct nbd_status status[256], one;
    struct nbd_device device, *list = NULL;
    unsigned partitions[16];
    uint32_t resolved;
    char path[32];
    int count;

    expect(nbd_device_read("", index, &device, &reason), 0, "sysfs");
    check(device.attached && device.pid == getpid(), "sysfs-pid", "%d", device.pid);
    check(strcmp(device.backend, BACKEND) == 0, "sysfs-backend", "'%s'", device.backend);
    check(device.size == DISK_SIZE, "sysfs-size", "%" PRIu64, device.size);
    check(device.logical_block_size == 512 && device.max_sectors_kb > 0 && !device.read_only &&
              device.major == 43,
          "sysfs-values", "%" PRIu32 " %" PRIu32, device.logical_block_size, device.max_sectors_kb);
    printf("#   max_sectors_kb %" PRIu32 " of %" PRIu32 ", diskseq %" PRIu64 "\n", device.max_sectors_kb,
           device.max_hw_sectors_kb, device.diskseq);
    expect(nbd_queue_set("", index, "max_sectors_kb", 512, &reason), 0, "queue-set");
    nbd_device_read("", index, &device, &reason);
    check(device.max_sectors_kb == 512, "queue-set-read", "%" PRIu32, device.max_sectors_kb);
    check_either(nbd_queue_set("", index, "max_sectors_kb", 1 << 30, &reason), -EINVAL,
                 "queue-set-too-large");
    expect(nbd_queue_set("", index, "no_such_attribute", 1, &reason), -ENODEV, "queue-set-absent");
    count = nbd_device_list("", &list, &reason);
    check(count > (int)index && list[index].index == index, "list", "%d", count);
    free(list);
    expect(nbd_netlink_status(netlink, NBD_INDEX_ANY, status, 256, &reason), count, "status-all");
    expect(nbd_netlink_status(netlink, index, &one, 1, &reason), 1, "status-one");
    check(one.index == index && one.connected, "status-one-connected", "%" PRIu32, one.index);
    expect(nbd_netlink_status(netlink, 30000, &one, 1, &reason), 0, "status-of-none");
    expect(nbd_partitions("", index, partitions, 16, &reason), 0, "partitions");
    snprintf(path, sizeof path, "/dev/nbd%" PRIu32, index);
    expect(nbd_device_resolve("", path, &resolved, &reason), 0, "resolve");
    expect(mknod("/tmp/other-name", S_IFBLK | 0600, (dev_t)((device.major << 8) | device.minor)), 0, "mknod");
    expect(nbd_device_resolve("", "/tmp/other-name", &resolved, &reason), 0, "resolve-node");
    check(resolved == index, "resolve-index", "%" PRIu32, resolved);
}

/* What the driver is asked, what it must answer. */
static void refuse(struct nbd_netlink *netlink, const struct nbd_config *config, int error, const char *name)
{
    uint32_t index = NBD_INDEX_ANY;

    if (!expect(nbd_netlink_connect(netlink, config, &index, &reason), error, name) && index != NBD_INDEX_ANY)
        nbd_netlink_disconnect(netlink, index, &reason);
}

void check_refusals(struct nbd_netlink *netlink, uint32_t attached, uint32_t unused)
{
    int socket = server_connect_unix(NULL), udp = open_udp(), file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int two[] = {socket, socket};
    struct nbd_config config = plain_config(&socket, 1);

    config.index = attached;
    refuse(netlink, &config, -EBUSY, "connect-busy");
    config.index = UINT32_C(1) << 21;
    refuse(netlink, &config, -EINVAL, "connect-index-too-large");
    config.index = unused;
    config.sockets = &udp;
    refuse(netlink, &config, -EINVAL, "connect-udp");
    config.sockets = &file;
    refuse(netlink, &config, -ENOTSOCK, "connect-no-socket");
    config.sockets = two;
    config.sockets_count = 2;
    config.server_flags = NBD_FLAG_HAS_FLAGS;
    refuse(netlink, &config, -EINVAL, "connect-no-multi-conn");
    check(wait_attached(unused, false), "refused-not-attached", "nbd%" PRIu32, unused);
    close(file);
    close(udp);
    close(socket);
}

/* What the page size allows differs; that a refusal leaves the device usable does not. */
void check_block_sizes(struct nbd_netlink *netlink, uint32_t index)
{
    int socket = server_connect_unix(NULL);
    struct nbd_config config = plain_config(&socket, 1);
    uint32_t taken;
    int r;

    config.index = index;
    config.block_size = 65536;
    r = nbd_netlink_connect(netlink, &config, &taken, &reason);
    check(r == 0 || r == -EINVAL, "connect-block-64k", "%d", r);
    printf("#   a block size of 65536: %s\n", r == 0 ? "taken" : reason.text);
    if (r < 0) {
        config.block_size = 4096;
        expect(nbd_netlink_connect(netlink, &config, &taken, &reason), 0, "connect-block-4k");
    }
    detach(netlink, index, "disconnect-block");
    close(socket);
}

void check_reconnect(struct nbd_netlink *netlink, struct nbd_events *events, uint32_t index, int server,
                     const struct socket_identity *identity)
{
    int fresh, socket = server_connect_unix(&fresh);
    struct nbd_config config = plain_config(&socket, 1);
    struct socket_view view;

    expect(socket_view(identity, &view, &reason), 0, "view-unix");
    check(view.established, "view-unix-established", "no");
    shutdown(server, SHUT_RDWR);
    close(server);
    check(wait_dead(events, index), "link-dead", "no event: %s", reason.text);
    expect(socket_view(identity, &view, &reason), 0, "view-unix-dead");
    check(!view.established, "view-unix-not-established", "it is");
    config.index = index;
    config.size = config.block_size = 0;
    config.backend = "another";
    expect(nbd_netlink_reconfigure(netlink, &config, &reason), -EINVAL, "reconfigure-other-backend");
    config.backend = BACKEND;
    expect(nbd_netlink_reconfigure(netlink, &config, &reason), 0, "reconfigure");
    memcpy(disk, "second", 7);
    check(read_disk(index, "second"), "reconfigure-read", "%s", strerror(errno));
    expect(nbd_netlink_reconfigure(netlink, &config, &reason), 0, "reconfigure-surplus");
    close(fresh);
    close(socket);
}

void check_resize(struct nbd_netlink *netlink, uint32_t index)
{
    struct nbd_config config = {.index = index, .size = DISK_SIZE / 2, .backend = BACKEND};
    struct nbd_device device = {0};

    expect(nbd_netlink_reconfigure(netlink, &config, &reason), 0, "resize");
    nbd_device_read("", index, &device, &reason);
    check(device.size == DISK_SIZE / 2, "resize-sysfs", "%" PRIu64, device.size);
    config.size = DISK_SIZE;
    expect(nbd_netlink_reconfigure(netlink, &config, &reason), 0, "resize-back");
    config.sockets = &(int){0};
    config.sockets_count = 1;
    expect(nbd_netlink_reconfigure(netlink, &config, &reason), -EINVAL, "resize-with-sockets");
}
