/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of the probe share: checks that print, and a device to check. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "nbd.h"
#include "netlink-probe-server.h"
#include "sockdiag.h"
#include "uevent.h"

#define BACKEND "nbdctl-probe:disk0"

struct counts {
    int checks, failures;
};

extern struct counts *counts;
extern struct netlink_reason reason; /* of the last call */

/* One line; the format says why not. Returns good. */
bool check(bool good, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* result must be what was expected; an expected error is shown with its reason. */
bool expect(int result, int expected, const char *name);
/* Where kernels differ: done, or that error. Returns result. */
int check_either(int result, int error, const char *name);

void skip_check(const char *name, const char *why);
/* Makes the checks of forked children count as well; before the first. */
void share_counts(void);

void pause_ms(long ms);
struct nbd_config plain_config(const int *sockets, size_t count);
/* Until sysfs agrees, at most five seconds; so are the others that wait. */
bool wait_attached(uint32_t index, bool attached);
bool wait_dead(struct nbd_events *events, uint32_t index);
bool wait_uevent(struct uevent_socket *uevents, enum uevent_action action, const char *name);
int open_disk(uint32_t index, int flags);
bool read_disk(uint32_t index, const char *expected);
void detach(struct nbd_netlink *netlink, uint32_t index, const char *name);
/* The exit status of a forked child, and of a program. */
int in_child(int (*function)(void *), void *arg);
int run(const char *program, const char *option, const char *argument);

/* netlink-probe-attach.c */
uint32_t check_connect(struct nbd_netlink *netlink, struct uevent_socket *uevents, int *server,
                       struct socket_identity *identity);
void check_sysfs(struct nbd_netlink *netlink, uint32_t index);
void check_refusals(struct nbd_netlink *netlink, uint32_t attached, uint32_t unused);
void check_block_sizes(struct nbd_netlink *netlink, uint32_t index);
void check_reconnect(struct nbd_netlink *netlink, struct nbd_events *events, uint32_t index, int server,
                     const struct socket_identity *identity);
void check_resize(struct nbd_netlink *netlink, uint32_t index);

/* netlink-probe-holders.c */
void check_holders(uint32_t index);

/* netlink-probe-others.c */
void check_partitions(struct nbd_netlink *netlink);
void check_tcp(struct nbd_netlink *netlink, struct nbd_events *events);
void check_elsewhere(uint32_t index);
void check_many(struct nbd_netlink *netlink);
void check_destroy(struct nbd_netlink *netlink, struct uevent_socket *uevents, uint32_t index);
