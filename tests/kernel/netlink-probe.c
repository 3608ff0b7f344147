/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every function of netlink/ against a real nbd driver, with servers of its own: threads that speak simple
 * replies. Run it as root on a kernel that may be played with (scripts/lab); it takes and destroys nbd
 * devices. Speaks TAP; the exit status is 1 when a check failed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "module.h"
#include "netlink-probe.h"
#include "sysfs.h"

static struct nbd_netlink *check_family(void)
{
    struct nbd_netlink *netlink = NULL;
    struct nbd_events *events = NULL;

    expect(module_load("no-such-module-at-all", &reason), -ENOENT, "module-absent");
    if (access("/sys/module/nbd", F_OK) < 0) {
        /* Newer kernels load the module for whoever asks for the family. */
        if (check_either(nbd_events_open(&events, &reason), -ENOENT, "events-without-module") == 0)
            nbd_events_close(events);
        if (check_either(nbd_netlink_open(&netlink, false, &reason), -ENOENT, "family-absent") == 0)
            nbd_netlink_close(netlink);
    }
    if (!expect(nbd_netlink_open(&netlink, true, &reason), 0, "family-loaded"))
        exit(EXIT_FAILURE);
    expect(module_load("nbd", &reason), 0, "module-loaded-already");
    return netlink;
}

static uint32_t unused_index(void)
{
    struct nbd_device *list = NULL;
    int count = nbd_device_list("", &list, &reason);
    uint32_t index = count > 0 ? list[count - 1].index : 0;

    free(list);
    return index;
}

int main(void)
{
    struct uevent_socket *uevents = NULL;
    struct socket_identity identity;
    struct nbd_netlink *netlink;
    struct nbd_events *events = NULL;
    uint32_t index, unused;
    int server;

    share_counts();
    alarm(240);
    memcpy(disk, "first", 6);
    expect(uevent_open(&uevents, &reason), 0, "uevents");
    netlink = check_family();
    expect(nbd_events_open(&events, &reason), 0, "events");
    index = check_connect(netlink, uevents, &server, &identity);
    unused = unused_index();
    check_sysfs(netlink, index);
    check_refusals(netlink, index, unused);
    check_elsewhere(index);
    check_reconnect(netlink, events, index, server, &identity);
    check_resize(netlink, index);
    check_holders(index);
    detach(netlink, index, "disconnect");
    expect(nbd_netlink_disconnect(netlink, index, &reason), 0, "disconnect-again");
    expect(nbd_netlink_disconnect(netlink, 30000, &reason), -ENODEV, "disconnect-none");
    check_partitions(netlink);
    check_block_sizes(netlink, unused);
    check_tcp(netlink, events);
    check_many(netlink);
    check_destroy(netlink, uevents, unused + 100);
    nbd_events_close(events);
    nbd_netlink_close(netlink);
    uevent_close(uevents);
    printf("1..%d\n", counts->checks);
    return counts->failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
