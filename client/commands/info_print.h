/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What info prints, in the words and keys of nbdinfo(1): scripts that read one can read the other. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "protocol/inspect.h"
#include "protocol/session.h"
#include "protocol/uri.h"

struct info_printer; /* prints as it is told, or, for JSON, all at the end */

struct info_printer *info_printer_new(bool json); /* NULL: out of memory */
/* Prints what is left to print (only when complete is set: half an object is worse than none), and frees. */
void info_printer_end(struct info_printer *printer, bool complete);

void info_print_server(struct info_printer *printer, const struct session *session, bool tls);

/* description and content may be NULL. The URI that is shown is that of the export asked for, whatever the
 * server calls it. */
void info_print_export(struct info_printer *printer, const struct export_report *report,
                       const char *description, const char *content, const struct target *target,
                       const char *asked);

void info_print_contexts(struct info_printer *printer, const char *export_name,
                         const struct string_list *contexts);
