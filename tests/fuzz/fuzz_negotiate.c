/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The first byte picks what the client wants; the rest is what the server sends. Bytes are fed in pieces
 * whose size the input decides too, so that every place a reply can be cut is tried.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/negotiate.h"

static const char *const queries[] = {"base:allocation", "qemu:"};

static int start_option(struct negotiation *n, unsigned which)
{
    switch (which % 9) {
    case 0:
        return negotiation_go(n, "disk");
    case 1:
        return negotiation_info(n, "disk");
    case 2:
        return negotiation_list(n);
    case 3:
        return negotiation_list_meta_context(n, "disk", queries, 2);
    case 4:
        return negotiation_set_meta_context(n, "disk", queries, 1);
    case 5:
        return negotiation_structured_reply(n);
    case 6:
        return negotiation_extended_headers(n);
    case 7:
        return negotiation_export_name(n, "disk");
    default:
        return negotiation_start_tls(n);
    }
}

static void check_event(const struct negotiation_event *event)
{
    if (event->type == NEGOTIATION_EVENT_EXPORT || event->type == NEGOTIATION_EVENT_CONTEXT)
        if (strlen(event->name) > NBD_MAX_STRING || strlen(event->description) > NBD_MAX_STRING)
            abort();
}

/* One step; false when the conversation is over. */
static bool step(struct negotiation *n, const uint8_t **data, size_t *size, size_t piece)
{
    struct negotiation_event event;
    struct failure failure;
    uint8_t *into;
    size_t wanted = negotiation_wanted(n, &into);
    size_t count = wanted < piece ? wanted : piece;

    if (count > *size)
        count = *size;
    if (count == 0)
        return false;
    memcpy(into, *data, count);
    *data += count;
    *size -= count;
    if (negotiation_received(n, count, &event, &failure) < 0)
        return false;
    check_event(&event);
    return true;
}

static void drain(struct negotiation *n)
{
    const uint8_t *out;
    size_t size = negotiation_output(n, &out);

    negotiation_sent(n, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct negotiation *n = negotiation_new();
    unsigned options;
    size_t piece;

    if (!n || size < 2)
        goto out;
    options = data[0];
    piece = data[1] ? data[1] : SIZE_MAX;
    data += 2;
    size -= 2;
    for (unsigned turn = 0; turn < 10000; turn++) {
        if (negotiation_state(n) == NEGOTIATION_SECURING)
            negotiation_secured(n);
        if (negotiation_state(n) == NEGOTIATION_READY && start_option(n, options++) < 0)
            break;
        drain(n);
        if (!step(n, &data, &size, piece))
            break;
    }
    if (negotiation_state(n) == NEGOTIATION_TRANSMISSION && negotiation_export(n)->size > INT64_MAX)
        abort();
    negotiation_abort(n);
    drain(n);
out:
    negotiation_free(n);
    return 0;
}
