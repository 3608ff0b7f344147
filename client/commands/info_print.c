/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands/info_print.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "escape.h"
#include "output.h"
#include "protocol/wire.h"

struct info_printer {
    struct json_object *root; /* NULL: text */
};

/* In the order nbdinfo prints them. */
static const struct {
    const char *name;
    unsigned flag;
} flag_names[] = {
    {"is_rotational", NBD_FLAG_ROTATIONAL},
    {"is_read_only", NBD_FLAG_READ_ONLY},
    {"can_cache", NBD_FLAG_SEND_CACHE},
    {"can_df", NBD_FLAG_SEND_DF},
    {"can_fast_zero", NBD_FLAG_SEND_FAST_ZERO},
    {"can_flush", NBD_FLAG_SEND_FLUSH},
    {"can_fua", NBD_FLAG_SEND_FUA},
    {"can_multi_conn", NBD_FLAG_CAN_MULTI_CONN},
    {"can_trim", NBD_FLAG_SEND_TRIM},
    {"can_zero", NBD_FLAG_SEND_WRITE_ZEROES},
};
#define FLAGS_COUNT (sizeof flag_names / sizeof flag_names[0])

struct info_printer *info_printer_new(bool json)
{
    struct info_printer *printer = calloc(1, sizeof *printer);

    if (printer && json)
        printer->root = json_object_new_object();
    return printer;
}

void info_printer_end(struct info_printer *printer, bool complete)
{
    if (!printer)
        return;
    if (printer->root && complete)
        printf("%s\n", json_object_to_json_string_ext(printer->root, JSON_C_TO_STRING_PRETTY |
                                                                         JSON_C_TO_STRING_SPACED |
                                                                         JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(printer->root);
    free(printer);
}

static void add_string(struct json_object *object, const char *key, const char *value)
{
    json_object_object_add(object, key, json_object_new_string(value));
}

static void add_bool(struct json_object *object, const char *key, bool value)
{
    json_object_object_add(object, key, json_object_new_boolean(value));
}

static void add_number(struct json_object *object, const char *key, uint64_t value)
{
    json_object_object_add(object, key, json_object_new_uint64(value));
}

/* More than nbdinfo tells: a line, or an object, of its own; nothing without TLS. */
static void print_tls(struct info_printer *printer, const struct session *session)
{
    struct json_object *object;
    struct secure_info info;

    if (!session_info_tls(session, &info))
        return;
    if (!printer->root) {
        printf("tls: %s, %s, %s\n", info.version, info.cipher, info.key_exchange);
        return;
    }
    object = json_object_new_object();
    add_string(object, "version", info.version);
    add_string(object, "cipher", info.cipher);
    add_string(object, "key_exchange", info.key_exchange);
    json_object_object_add(printer->root, "tls", object);
}

void info_print_server(struct info_printer *printer, const struct session *session, bool tls)
{
    const char *protocol = session_is_fixed(session) ? "newstyle-fixed" : "newstyle";
    enum session_replies replies = session_replies(session);
    static const char *const packets[] = {
        [SESSION_SIMPLE] = "simple", [SESSION_STRUCTURED] = "structured", [SESSION_EXTENDED] = "extended"};

    if (!printer->root) {
        printf("protocol: %s %s TLS, using %s packets\n", protocol, tls ? "with" : "without",
               packets[replies]);
        print_tls(printer, session);
        return;
    }
    add_string(printer->root, "protocol", protocol);
    add_bool(printer->root, "TLS", tls);
    print_tls(printer, session);
    add_bool(printer->root, "structured", replies != SESSION_SIMPLE);
    /* A key that only newer nbdinfo knows; left out where there is nothing to tell. */
    if (replies == SESSION_EXTENDED)
        add_bool(printer->root, "extended", true);
    json_object_object_add(printer->root, "exports", json_object_new_array());
}

static char *uri_of(const struct target *target, const char *export_name)
{
    struct target copy;
    char *uri = NULL;

    if (target_copy(&copy, target) < 0)
        return NULL;
    free(copy.export_name);
    copy.export_name = strdup(export_name);
    if (copy.export_name)
        uri = target_format(&copy);
    target_clear(&copy);
    return uri;
}

static struct json_object *string_array(const struct string_list *list)
{
    struct json_object *array = json_object_new_array();

    for (size_t i = 0; i < list->count; i++)
        json_object_array_add(array, json_object_new_string(list->strings[i]));
    return array;
}

static void print_export_json(struct json_object *exports, const struct export_report *report,
                              const char *description, const char *content, const char *uri)
{
    struct json_object *object = json_object_new_object();
    const struct export *export = &report->export;
    char size[HUMAN_SIZE_MAX];

    add_string(object, "export-name", report->name);
    if (description && *description)
        add_string(object, "description", description);
    if (content)
        add_string(object, "content", content);
    if (uri)
        add_string(object, "uri", uri);
    if (report->has_contexts)
        json_object_object_add(object, "contexts", string_array(&report->contexts));
    for (size_t i = 0; i < FLAGS_COUNT; i++)
        add_bool(object, flag_names[i].name, export_can(export, flag_names[i].flag));
    if (export->has_block_sizes) {
        add_number(object, "block_size_minimum", export->min_block);
        add_number(object, "block_size_preferred", export->preferred_block);
        add_number(object, "block_size_maximum", export->max_payload);
    }
    add_number(object, "export-size", export->size);
    add_string(object, "export-size-str", human_size_exact(export->size, size));
    json_object_array_add(exports, object);
}

/* One line of text; what came from a server is escaped. */
static void print_line(const char *label, const char *value)
{
    _cleanup_free_ char *shown = escape_text(value, strlen(value), NBD_MAX_STRING);

    printf("\t%s%s\n", label, shown ? shown : "?");
}

static void print_size(uint64_t size)
{
    char text[HUMAN_SIZE_MAX];

    human_size_exact(size, text);
    printf("\texport-size: %" PRIu64, size);
    if (size >= 1024 && size % 1024 == 0)
        printf(" (%s)", text);
    printf("\n");
}

/* The quote that ends it must be told from one inside. */
static void print_quoted(const char *text)
{
    _cleanup_free_ char *shown = escape_text(text, strlen(text), NBD_MAX_STRING);

    putchar('"');
    for (const char *at = shown ? shown : "?"; *at; at++)
        printf("%s%c", *at == '"' ? "\\" : "", *at);
    putchar('"');
}

static void print_export_text(const struct export_report *report, const char *description,
                              const char *content, const char *uri)
{
    const struct export *export = &report->export;

    printf("export=");
    print_quoted(report->name);
    printf(":\n");
    if (description && *description)
        print_line("description: ", description);
    print_size(export->size);
    if (content)
        print_line("content: ", content);
    if (uri)
        print_line("uri: ", uri);
    if (report->has_contexts)
        printf("\tcontexts:\n");
    for (size_t i = 0; i < report->contexts.count; i++)
        print_line("\t", report->contexts.strings[i]);
    for (size_t i = 0; i < FLAGS_COUNT; i++)
        printf("\t%s: %s\n", flag_names[i].name, export_can(export, flag_names[i].flag) ? "true" : "false");
    if (!export->has_block_sizes)
        return;
    printf("\tblock_size_minimum: %" PRIu32 "\n", export->min_block);
    printf("\tblock_size_preferred: %" PRIu32 "\n", export->preferred_block);
    printf("\tblock_size_maximum: %" PRIu32 "\n", export->max_payload);
}

void info_print_export(struct info_printer *printer, const struct export_report *report,
                       const char *description, const char *content, const struct target *target,
                       const char *asked)
{
    _cleanup_free_ char *uri = uri_of(target, asked);
    struct json_object *exports;

    if (!printer->root) {
        print_export_text(report, description, content, uri);
        return;
    }
    json_object_object_get_ex(printer->root, "exports", &exports);
    print_export_json(exports, report, description, content, uri);
}

void info_print_contexts(struct info_printer *printer, const char *export_name,
                         const struct string_list *contexts)
{
    if (printer->root) {
        add_string(printer->root, "export-name", export_name);
        json_object_object_add(printer->root, "contexts", string_array(contexts));
        return;
    }
    for (size_t i = 0; i < contexts->count; i++) {
        _cleanup_free_ char *shown =
            escape_text(contexts->strings[i], strlen(contexts->strings[i]), NBD_MAX_STRING);

        printf("%s\n", shown ? shown : "?");
    }
}
