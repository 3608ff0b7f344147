/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "commands/commands.h"
#include "commands/content.h"
#include "commands/info_print.h"
#include "commands/unverified.h"
#include "connection_options.h"
#include "interrupt.h"
#include "output.h"
#include "protocol/inspect.h"
#include "protocol/session.h"

#define CONTENT_SIZE 8192 /* as nbdinfo */

struct info {
    struct connection_options connection; /* first: the shared group's offset is 0 */
    bool json;
    bool list;
    bool list_contexts;
    bool content, no_content;
    const char *queries[NEGOTIATION_MAX_QUERIES];
    size_t queries_count;
    int cancel_fd;
    struct endpoint endpoint;
    struct session *session;
    struct info_printer *printer;
    bool server_shown;
    bool lost; /* in the middle of a list: what there is of the answer is not all of it */
};

enum { ID_LIST = 2000, ID_LIST_CONTEXTS, ID_JSON, ID_CONTENT, ID_NO_CONTENT };

static int add_query(struct info *info, const char *query, struct failure *failure)
{
    if (info->queries_count == NEGOTIATION_MAX_QUERIES)
        return fail_status(failure, EINVAL, EXIT_STATUS_USAGE, "more than %d queries",
                           NEGOTIATION_MAX_QUERIES);
    info->queries[info->queries_count++] = query;
    return 0;
}

static int set(void *into, int id, const char *argument, struct failure *failure)
{
    struct info *info = into;

    switch (id) {
    case ID_LIST:
        info->list = true;
        return 0;
    case ID_LIST_CONTEXTS:
        info->list_contexts = true;
        return argument ? add_query(info, argument, failure) : 0;
    case ID_JSON:
        info->json = true;
        return 0;
    case ID_CONTENT:
        info->content = true;
        return 0;
    case ID_NO_CONTENT:
        info->no_content = true;
        return 0;
    default:
        return 0;
    }
}

static const struct option_spec table[] = {
    {ID_LIST, "list", NULL, "all exports the server lists", 'L'},
    {ID_LIST_CONTEXTS, "list-contexts", "[QUERY]",
     "only the meta contexts, those that answer QUERY\n(qemu:, qemu:dirty-bitmap:)", 0},
    {ID_CONTENT, "content", NULL, "say what file(1) makes of the first 8 KiB\n(the default without --list)",
     0},
    {ID_NO_CONTENT, "no-content", NULL, "do not", 0},
    {ID_JSON, "json", NULL, "one JSON object, with the keys of nbdinfo --json", 'j'},
    {0},
};
static const struct option_group group = {.title = "Options", .options = table, .set = set};

static int run(int argc, char **argv);

const struct command command_info = {
    .name = "info",
    .arguments = "URI",
    .summary = "show what a server offers",
    .details = "  nbdctl info nbd://server/disk\n"
               "  nbdctl info --list nbd://server\n"
               "  nbdctl info --list-contexts qemu:dirty-bitmap: nbd://server/disk",
    .groups = {&group, &connection_option_group},
    .arguments_min = 1,
    .arguments_max = -1,
    .run = run,
};

/* "--list-contexts qemu: URI": a word that is no URI is a query, wherever it stands. */
static int parse_arguments(struct info *info, char **arguments, int count, struct failure *failure)
{
    const char *uri = NULL;
    int r = 0;

    for (int i = 0; i < count && r == 0; i++) {
        if (!uri && strstr(arguments[i], "://") && strncasecmp(arguments[i], "nbd", 3) == 0)
            uri = arguments[i];
        else if (info->list_contexts)
            r = add_query(info, arguments[i], failure);
        else if (uri || count > 1)
            return fail_status(failure, EINVAL, EXIT_STATUS_USAGE, "info: argument '%s' is one too many",
                               arguments[i]);
        else
            uri = arguments[i];
    }
    if (r == 0 && !uri)
        return fail_status(failure, EINVAL, EXIT_STATUS_USAGE, "info: URI is missing");
    if (r == 0 && info->list && info->list_contexts)
        return fail_status(failure, EINVAL, EXIT_STATUS_USAGE,
                           "info: --list and --list-contexts exclude each other");
    if (r == 0 && info->content && info->no_content)
        return fail_status(failure, EINVAL, EXIT_STATUS_USAGE,
                           "info: --content and --no-content exclude each other");
    if (r < 0)
        return r;
    r = connection_target(&info->connection, uri, &info->endpoint.target, failure);
    if (r < 0)
        failure->status = EXIT_STATUS_USAGE;
    return r;
}

/* Each question after the negotiation has its own time. */
static void grant_io_timeout(const struct info *info, struct session *session)
{
    struct deadline deadline = deadline_after(info->connection.io_timeout_ns, info->cancel_fd);

    session_set_deadline(session, &deadline);
}

static int open_session(const struct info *info, struct session **session, struct failure *failure)
{
    struct deadline deadline = deadline_after(info->connection.connect_timeout_ns, info->cancel_fd);
    int r = session_open(session, &info->endpoint, &deadline, failure);

    return r < 0 ? r : session_agree_replies(*session, failure);
}

/* What GO says holds. INFO commits a server to nothing: nbd-server 3.24 says 0 bytes of every export. */
static void take_opened(const struct export *opened, struct export *shown)
{
    shown->size = opened->size;
    shown->flags = opened->flags;
    shown->has_block_sizes = opened->has_block_sizes;
    shown->min_block = opened->min_block;
    shown->preferred_block = opened->preferred_block;
    shown->max_payload = opened->max_payload;
}

/*
 * Opens the export. What cannot be read is no reason to hide the rest, only to say so; a server that refuses
 * to open the export, or breaks the protocol, is.
 */
static int guess(const struct info *info, struct session *session, const char *name,
                 struct export_report *report, char **content, struct failure *failure)
{
    struct deadline deadline = deadline_after(info->connection.io_timeout_ns, info->cancel_fd);
    uint8_t bytes[CONTENT_SIZE];
    ssize_t size;

    grant_io_timeout(info, session);
    size = inspect_beginning(session, name, bytes, sizeof bytes, failure);
    if (size >= 0)
        *content = content_guess(bytes, (size_t)size, &deadline);
    else if (session_is_over(session) || !session_is_open(session) || size == -ESHUTDOWN)
        return (int)size;
    else
        print_warning("no content is shown: %s", failure->text);
    take_opened(session_export(session), &report->export);
    return interrupt_pending() ? fail(failure, ECANCELED, "interrupted") : 0;
}

/* Only once there is something to say of an export: a failure prints nothing on stdout. */
static void show_server(struct info *info, const struct session *session)
{
    if (!info->server_shown)
        info_print_server(info->printer, session, info->endpoint.target.tls == TARGET_TLS_REQUIRE);
    info->server_shown = true;
}

/* description: of the list, where there was one. */
static int show_export(struct info *info, struct session *session, const char *name, const char *description,
                       bool content, struct failure *failure)
{
    struct export_report report = {0};
    _cleanup_free_ char *guessed = NULL;
    int r;

    grant_io_timeout(info, session);
    r = inspect_export(session, name, &report, failure);
    if (r == 0 && content)
        r = guess(info, session, name, &report, &guessed, failure);
    if (r == 0) {
        show_server(info, session);
        info_print_export(info->printer, &report, description ? description : report.export.description,
                          guessed, &info->endpoint.target, name);
    }
    export_report_clear(&report);
    return r;
}

/*
 * Reading the content opens the export, and so does describing it where the server has no INFO. That ends the
 * option phase: the next export needs a session of its own, and the one before must be gone, since a server
 * may take one client at a time.
 */
static int session_for_listed(struct info *info, bool content, struct failure *failure)
{
    struct session *session = info->session;

    if (session && !content && !session_is_open(session) && !session_is_over(session))
        return 0;
    session_close(session);
    info->session = NULL;
    return open_session(info, &info->session, failure);
}

/*
 * An export that the server lists and then refuses does not hide the others. A connection that is lost does:
 * to try on, for as many names as the server likes to invent, would only take long.
 */
static bool ends_list(const struct info *info, int r)
{
    if (!info->session)
        return true;
    if (r == 0 || r == -ENOENT) /* also where an old server refuses by closing the connection */
        return false;
    return session_is_over(info->session) || r == -ESHUTDOWN || r == -ECANCELED;
}

static int show_listed(struct info *info, const char *name, const char *description, struct failure *failure)
{
    int r = session_for_listed(info, info->content, failure);

    if (r == 0)
        r = show_export(info, info->session, name, description, info->content, failure);
    info->lost = ends_list(info, r);
    if (!info->lost)
        show_server(info, info->session);
    return r;
}

static int show_list(struct info *info, struct failure *failure)
{
    struct export_list list = {0};
    int status = EXIT_STATUS_DONE;

    grant_io_timeout(info, info->session);
    if (inspect_list(info->session, &list, failure) < 0)
        return print_failure(failure);
    if (list.names.count == 0)
        show_server(info, info->session);
    for (size_t i = 0; i < list.names.count && !info->lost; i++)
        if (show_listed(info, list.names.strings[i], list.descriptions.strings[i], failure) < 0)
            status = print_failure(failure);
    export_list_clear(&list);
    return status;
}

static int show_contexts(struct info *info, struct failure *failure)
{
    const char *name = info->endpoint.target.export_name;
    struct string_list contexts = {0};
    int r;

    grant_io_timeout(info, info->session);
    r = inspect_contexts(info->session, name, info->queries, info->queries_count, &contexts, failure);
    if (r == 0)
        info_print_contexts(info->printer, name, &contexts);
    string_list_clear(&contexts);
    return r < 0 ? print_failure(failure) : EXIT_STATUS_DONE;
}

static int show_one(struct info *info, struct failure *failure)
{
    int r =
        show_export(info, info->session, info->endpoint.target.export_name, NULL, !info->no_content, failure);

    if (r == -ENOENT && !failure->hint[0])
        fail_hint(failure, r, "nbdctl info --list shows what the server has");
    return r < 0 ? print_failure(failure) : EXIT_STATUS_DONE;
}

static int show(struct info *info)
{
    struct failure failure = {0};

    warn_unverified(&info->endpoint.target);
    if (endpoint_load(&info->endpoint, &failure) < 0 || open_session(info, &info->session, &failure) < 0) {
        _cleanup_free_ char *uri = target_format(&info->endpoint.target);

        fail_within(&failure, 0, "%s", uri ? uri : "?");
        return print_failure(&failure);
    }
    if (info->list_contexts)
        return show_contexts(info, &failure);
    return info->list ? show_list(info, &failure) : show_one(info, &failure);
}

static int run(int argc, char **argv)
{
    struct info info = {.connection = CONNECTION_OPTIONS_DEFAULT};
    struct failure failure = {0};
    char **arguments;
    int count, status;

    if (options_parse(&command_info, argc, argv, &info, &arguments, &count, &status) == OPTIONS_EXIT)
        return status;
    if (parse_arguments(&info, arguments, count, &failure) < 0)
        return print_failure(&failure);
    info.cancel_fd = interrupt_catch(); /* without it Ctrl-C kills, which leaves nothing here */
    if (info.cancel_fd < 0)
        info.cancel_fd = -1;
    info.printer = info_printer_new(info.json);
    if (!info.printer) {
        print_error("out of memory");
        return EXIT_STATUS_FAILED;
    }
    status = show(&info);
    info_printer_end(info.printer, status == EXIT_STATUS_DONE || (info.server_shown && !info.lost));
    session_close(info.session);
    endpoint_clear(&info.endpoint);
    return status;
}
