/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "protocol/inspect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "protocol/transmit.h"

void string_list_clear(struct string_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->strings[i]);
    free(list->strings);
    *list = (struct string_list){0};
}

int string_list_add(struct string_list *list, const char *text)
{
    size_t size = strlen(text) + 1;
    char **strings;
    char *copy;

    if (size > INSPECT_MAX_BYTES - list->bytes)
        return -E2BIG;
    /* Grows by doubling: the count is a power of two exactly when the room is used up. */
    if ((list->count & (list->count - 1)) == 0) {
        strings = reallocarray(list->strings, list->count ? 2 * list->count : 1, sizeof *strings);
        if (!strings)
            return -ENOMEM;
        list->strings = strings;
    }
    copy = strdup(text);
    if (!copy)
        return -ENOMEM;
    list->strings[list->count++] = copy;
    list->bytes += size;
    return 0;
}

void export_list_clear(struct export_list *list)
{
    string_list_clear(&list->names);
    string_list_clear(&list->descriptions);
}

static int add_export(void *opaque, const struct negotiation_event *event)
{
    struct export_list *list = opaque;
    int r;

    if (list->names.bytes + list->descriptions.bytes > INSPECT_MAX_BYTES)
        return -E2BIG;
    r = string_list_add(&list->names, event->name);
    return r < 0 ? r : string_list_add(&list->descriptions, event->description);
}

int inspect_list(struct session *session, struct export_list *list, struct failure *failure)
{
    int r = session_list(session, add_export, list, failure);

    if (r < 0) {
        export_list_clear(list);
        fail_within(failure, r, "cannot list exports");
    }
    return r;
}

static int add_context(void *opaque, const struct negotiation_event *event)
{
    struct string_list *list = opaque;

    return string_list_add(list, event->name);
}

int inspect_contexts(struct session *session, const char *name, const char *const *queries, size_t count,
                     struct string_list *contexts, struct failure *failure)
{
    int r;

    /* "SHOULD NOT be requested unless structured replies have been negotiated first" */
    if (session_replies(session) == SESSION_SIMPLE)
        return fail(failure, EOPNOTSUPP, "the server has no structured replies, and so no meta contexts");
    r = session_list_contexts(session, name, queries, count, add_context, contexts, failure);
    if (r < 0)
        string_list_clear(contexts);
    return r;
}

void export_report_clear(struct export_report *report)
{
    free(report->name);
    export_clear(&report->export);
    string_list_clear(&report->contexts);
    *report = (struct export_report){0};
}

static int describe(struct session *session, const char *name, struct export *export, struct failure *failure)
{
    int r = session_info(session, name, export, failure);

    if (r != -EOPNOTSUPP)
        return r;
    r = session_go(session, name, failure);
    if (r == 0)
        r = export_copy(export, session_export(session));
    return r;
}

static int ask_contexts(struct session *session, const char *name, struct export_report *report,
                        struct failure *failure)
{
    int r;

    /* Meta contexts go with structured replies; and after GO no option can be asked. */
    if (session_replies(session) == SESSION_SIMPLE || session_is_open(session))
        return 0;
    r = inspect_contexts(session, name, NULL, 0, &report->contexts, failure);
    report->has_contexts = r == 0;
    /* "If the client receives NBD_REP_ERR_SHUTDOWN it MUST initiate a soft disconnect" */
    return session_is_over(session) || r == -ESHUTDOWN ? r : 0;
}

int inspect_export(struct session *session, const char *name, struct export_report *report,
                   struct failure *failure)
{
    int r = describe(session, name, &report->export, failure);

    if (r == 0)
        r = ask_contexts(session, name, report, failure);
    if (r == 0) {
        report->name = strdup(report->export.canonical_name ? report->export.canonical_name : name);
        if (!report->name)
            r = fail(failure, ENOMEM, "out of memory");
    }
    if (r < 0)
        export_report_clear(report);
    return r;
}

/*
 * How much to read for the first size bytes. Where the server told block sizes, requests MUST be whole
 * blocks. Where it did not, sizes that are no multiple of the default are common, and "SHOULD support a
 * default minimum block size of 1" lets us read their end.
 */
static size_t whole_blocks(const struct export *export, size_t size)
{
    uint64_t block = export->has_block_sizes ? export->min_block : 1;
    uint64_t whole;

    if (size > export->size)
        size = (size_t) export->size;
    whole = (size + block - 1) / block * block;
    return (size_t)(whole > export->size ? whole - block : whole);
}

/* With as many requests as the server's maximum payload makes necessary. */
static int read_blocks(struct session *session, const struct export *export, uint8_t *blocks, size_t size,
                       struct failure *failure)
{
    uint32_t most = export->max_payload - export->max_payload % export->min_block;
    int r = 0;

    for (size_t done = 0; done < size && r == 0; done += most) {
        uint32_t length = size - done < most ? (uint32_t)(size - done) : most;

        r = transmit_read(session, done, length, blocks + done, failure);
    }
    return r;
}

ssize_t inspect_beginning(struct session *session, const char *name, uint8_t *buffer, size_t size,
                          struct failure *failure)
{
    int r = session_is_open(session) ? 0 : session_go(session, name, failure);
    const struct export *export = session_export(session);
    _cleanup_free_ uint8_t *blocks = NULL;
    size_t whole;

    if (r < 0)
        return r;
    whole = whole_blocks(export, size);
    if (whole == 0 && export->size > 0)
        return fail(failure, EINVAL, "the export is smaller than one block of the server");
    blocks = malloc(whole + 1);
    if (!blocks)
        return fail(failure, ENOMEM, "out of memory");
    r = read_blocks(session, export, blocks, whole, failure);
    if (r < 0)
        return r;
    if (size > whole)
        size = whole;
    memcpy(buffer, blocks, size);
    return (ssize_t)size;
}
