/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/relay.h"
#include "agent/kernel_failure.h"
#include "agent/view.h"
#include "cleanup.h"
#include "commands/commands.h"
#include "commands/view_json.h"
#include "escape.h"
#include "netlink/sysfs.h"
#include "output.h"

struct status {
    bool json;
};

enum { ID_JSON = 1000 };

static int set(void *into, int id, const char *argument, struct failure *failure)
{
    struct status *status = into;

    (void)argument;
    (void)failure;
    if (id == ID_JSON)
        status->json = true;
    return 0;
}

static const struct option_spec table[] = {
    {ID_JSON, "json", NULL, "one object", 'j'},
    {0},
};
static const struct option_group group = {.title = "Options", .options = table, .set = set};

static int run(int argc, char **argv);

const struct command command_status = {
    .name = "status",
    .arguments = "[DEVICE]",
    .summary = "show one attached device in depth",
    .details = "DEVICE may be left out when just one device is attached.",
    .groups = {&group},
    .arguments_min = 0,
    .arguments_max = 1,
    .run = run,
};

static void print_escaped(const char *label, const char *text)
{
    _cleanup_free_ char *shown = escape_text(text, strlen(text), 1024);

    printf("  %-14s %s\n", label, shown ? shown : "?");
}

/* Who carries the connection, and how it is encrypted: the kernel's word where the kernel does it. */
static void print_carrier(const struct device_view *view, size_t i)
{
    const struct secure_info *tls = &view->state.tls;
    const struct socket_view *socket = &view->sockets[i];

    if (view->state.relays[i])
        printf(", %s%s%s%sin " RELAY_NAME " (process %d)", tls->version, tls->version[0] ? " " : "",
               tls->cipher, tls->cipher[0] ? " " : "", (int)view->state.relays[i]);
    else if (socket->has_tls)
        printf(", %s %s in the kernel", tls_version_name(socket->tls_version),
               tls_cipher_name(socket->tls_cipher));
}

static void print_socket(const struct device_view *view, size_t i)
{
    const struct socket_identity *identity = &view->state.sockets[i];
    const struct socket_view *socket = &view->sockets[i];
    char local[ADDRESS_TEXT_MAX], remote[ADDRESS_TEXT_MAX];

    printf("  %-14s %s", i == 0 ? "connections" : "", address_text(&identity->remote, remote));
    if (identity->remote.ss_family != AF_UNIX)
        printf(" from %s", address_text(&identity->local, local));
    if (!view->socket_up[i]) {
        printf(": down\n");
        return;
    }
    printf(": up");
    if (view->socket_found[i] && identity->remote.ss_family != AF_UNIX)
        printf(", rtt %.3f ms, %" PRIu64 " bytes sent, %" PRIu64 " received, %" PRIu32 " retransmits",
               socket->rtt_us / 1000.0, socket->bytes_sent, socket->bytes_received, socket->retransmits);
    print_carrier(view, i);
    printf("\n");
}

static void print_agent(const struct device_view *view)
{
    _cleanup_free_ char *error = NULL;
    pid_t pid = device_view_agent(view);

    if (!pid)
        return;
    printf("  %-14s process %d", "agent", (int)pid);
    if (!view->has_agent) {
        printf("%s\n", geteuid() == 0 ? ", does not answer" : ""); /* others may not ask */
        return;
    }
    printf(", %" PRIu64 " reconnects, %.1f s of outage", view->agent.reconnects, view->agent.outage_seconds);
    if (view->agent.last_error)
        error = escape_text(view->agent.last_error, strlen(view->agent.last_error), 1024);
    printf("%s%s\n", error ? ", last error: " : "", error ? error : "");
}

static void print_text(const struct device_view *view)
{
    char size[HUMAN_SIZE_MAX];

    printf("/dev/nbd%" PRIu32 "\n", view->device.index);
    printf("  %-14s %s\n", "state", device_view_state(view));
    printf("  %-14s %" PRIu64 " bytes (%s)%s\n", "size", view->device.size,
           human_size(view->device.size, size), view->device.read_only ? ", read-only" : "");
    printf("  %-14s %" PRIu32 " bytes, requests up to %" PRIu32 " KiB\n", "blocks",
           view->device.logical_block_size, view->device.max_sectors_kb);
    if (view->device.backend[0])
        print_escaped("identifier", view->device.backend);
    if (!view->known) {
        printf("  %-14s another program (process %d)\n", "attached by", (int)view->device.pid);
        return;
    }
    print_escaped("uri", device_view_uri(view));
    print_escaped("export", view->state.export_name[0] ? view->state.export_name : "(default)");
    if (view->state.name)
        print_escaped("name", view->state.name);
    printf("  %-14s %s%s%s\n", "tls", device_view_tls(view), view->state.tls.key_exchange[0] ? ", " : "",
           view->state.tls.key_exchange);
    print_agent(view);
    for (size_t i = 0; i < view->state.connections; i++)
        print_socket(view, i);
}

/* The one device that is attached; an error when there are none or several. */
static int only_device(uint32_t *index, struct failure *failure)
{
    struct device_view *views = NULL;
    int count = device_views(&views, failure);

    if (count == 1)
        *index = views[0].device.index;
    if (count == 0)
        fail_status(failure, 1, EXIT_STATUS_FAILED, "no nbd device is attached");
    if (count > 1)
        fail_status(failure, 1, EXIT_STATUS_USAGE, "%d devices are attached: name one of them", count);
    if (count >= 0)
        device_views_free(views, (size_t)count);
    return count == 1 ? 0 : -1;
}

static int find_device(char **arguments, int count, uint32_t *index, struct failure *failure)
{
    struct netlink_reason reason = {0};
    int r;

    if (count == 0)
        return only_device(index, failure);
    r = nbd_device_resolve("", arguments[0], index, &reason);
    if (r < 0)
        kernel_failure(failure, r, &reason);
    if (r == -EINVAL)
        failure->status = EXIT_STATUS_USAGE;
    return r;
}

static int run(int argc, char **argv)
{
    struct status status = {0};
    struct failure failure = {0};
    struct device_view view;
    char **arguments;
    int count, exit_status;
    uint32_t index;

    if (options_parse(&command_status, argc, argv, &status, &arguments, &count, &exit_status) == OPTIONS_EXIT)
        return exit_status;
    if (find_device(arguments, count, &index, &failure) < 0 || device_view_read(index, &view, &failure) < 0)
        return print_failure(&failure);
    if (status.json)
        print_status_json(&view);
    else
        print_text(&view);
    device_view_clear(&view);
    return EXIT_STATUS_DONE;
}
