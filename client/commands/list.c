/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/view.h"
#include "cleanup.h"
#include "commands/commands.h"
#include "commands/view_json.h"
#include "escape.h"
#include "output.h"

struct list {
    bool json;
};

enum { ID_JSON = 1000 };

static int set(void *into, int id, const char *argument, struct failure *failure)
{
    struct list *list = into;

    (void)argument;
    (void)failure;
    if (id == ID_JSON)
        list->json = true;
    return 0;
}

static const struct option_spec table[] = {
    {ID_JSON, "json", NULL, "an array of objects", 'j'},
    {0},
};
static const struct option_group group = {.title = "Options", .options = table, .set = set};

static int run(int argc, char **argv);

const struct command command_list = {
    .name = "list",
    .arguments = "",
    .summary = "list attached devices",
    .details = "Devices that another tool attached are shown too, with what the kernel knows of them.",
    .groups = {&group},
    .run = run,
};

static char *shown_uri(const struct device_view *view)
{
    const char *uri = device_view_uri(view);

    return uri ? escape_text(uri, strlen(uri), 4096) : strdup("(attached by another program)");
}

static void print_row(const struct device_view *view)
{
    _cleanup_free_ char *uri = shown_uri(view);
    char device[32], size[HUMAN_SIZE_MAX], connections[32];

    snprintf(device, sizeof device, "/dev/nbd%" PRIu32, view->device.index);
    if (view->known)
        snprintf(connections, sizeof connections, "%zu/%zu", view->connections_up, view->state.connections);
    else
        snprintf(connections, sizeof connections, "-");
    printf("%-12s %6s  %-2s  %-12s %5s  %-5s %s\n", device, human_size(view->device.size, size),
           view->device.read_only ? "ro" : "rw", device_view_state(view), connections, device_view_tls(view),
           uri ? uri : "?");
}

static void print_table(const struct device_view *views, size_t count)
{
    if (count > 0)
        printf("%-12s %6s  %-2s  %-12s %5s  %-5s %s\n", "DEVICE", "SIZE", "", "STATE", "CONNS", "TLS", "URI");
    for (size_t i = 0; i < count; i++)
        print_row(&views[i]);
}

static int run(int argc, char **argv)
{
    struct list list = {0};
    struct device_view *views = NULL;
    struct failure failure = {0};
    char **arguments;
    int argument_count, status, count;

    if (options_parse(&command_list, argc, argv, &list, &arguments, &argument_count, &status) == OPTIONS_EXIT)
        return status;
    count = device_views(&views, &failure);
    if (count < 0)
        return print_failure(&failure);
    if (list.json)
        print_list_json(views, (size_t)count);
    else
        print_table(views, (size_t)count);
    device_views_free(views, (size_t)count);
    return EXIT_STATUS_DONE;
}
