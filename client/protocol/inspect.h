/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a server offers, gathered over one session: exports, descriptions, meta contexts, the first bytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"
#include "protocol/export.h"
#include "protocol/session.h"

/* All strings that one server may make us keep: a limit for the hostile, far above what a real one has. */
#define INSPECT_MAX_BYTES (16u << 20)

/* Owned strings, as sent (not escaped). */
struct string_list {
    char **strings;
    size_t count;
    size_t bytes; /* of all of them, with terminators */
};

void string_list_clear(struct string_list *list);
int string_list_add(struct string_list *list, const char *text); /* -ENOMEM, -E2BIG past INSPECT_MAX_BYTES */

/* names and descriptions have the same length: one pair an export. */
struct export_list {
    struct string_list names, descriptions;
};

void export_list_clear(struct export_list *list);
int inspect_list(struct session *session, struct export_list *list, struct failure *failure);

struct export_report {
    char *name; /* the server's own where it told one, else what was asked; owned */
    struct export export;
    bool has_contexts; /* the server answered the question */
    struct string_list contexts;
};

void export_report_clear(struct export_report *report);

/*
 * Describes one export: INFO, or GO where the server has no INFO (which ends the option phase), and its meta
 * contexts. A server without meta contexts is no failure.
 */
int inspect_export(struct session *session, const char *name, struct export_report *report,
                   struct failure *failure);

/* The meta contexts that answer the queries (none: all). -errno also when the server knows no meta contexts.
 */
int inspect_contexts(struct session *session, const char *name, const char *const *queries, size_t count,
                     struct string_list *contexts, struct failure *failure);

/*
 * The first bytes of the export (at most size, at most the export's size, and of a size that is not whole
 * blocks the whole ones); opens it when that has not happened yet. Count or -errno. Unless session_is_over(),
 * it is the server that told an error, or the export that has less than one block.
 */
ssize_t inspect_beginning(struct session *session, const char *name, uint8_t *buffer, size_t size,
                          struct failure *failure);
