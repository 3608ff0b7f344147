/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Equal servers of one disk, tried in order: at the attach, and at every reconnect. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/identity.h"
#include "deadline.h"
#include "failure.h"
#include "protocol/dial.h"
#include "protocol/secure.h"

#define SERVERS_MAX 16

/* What to ask of whom; nothing is owned. */
struct servers {
    const struct endpoint *endpoints;
    size_t count;
    size_t connections; /* DIAL_AUTO or a number */
    enum ktls_mode ktls;
    uint64_t connect_timeout_ns;          /* for each server */
    const struct deadline *patience;      /* bounds each server too; NULL: nothing else does */
    const struct disk_identity *identity; /* what they must have; NULL: whatever they have */
    int cancel_fd;
};

struct served {
    size_t server;      /* index of the one that answered */
    bool worth_waiting; /* on failure: some reason is of the kind that passes by itself */
};

/*
 * The first that answers, and has the disk, is taken. On failure connections are empty and the first server's
 * reason is told, unless a later one has the wrong disk: that is worth more.
 */
int servers_dial(const struct servers *servers, struct connections *connections, struct served *served,
                 struct failure *failure);
