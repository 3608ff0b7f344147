/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What GnuTLS's servers, psktool, qemu and libnbd write and read: lines of user:hex, and #hex:hex where
 * psktool has to encode a name (one with a colon). A line that begins with # and is not of that form is a
 * comment. Stricter than they are, who skip what they do not understand and take the first of two keys.
 */
#include "psk.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "tls_cleanup.h"

#define LINE_MAX_BYTES (2 + 2 * PSK_USER_MAX + 2u * PSK_KEY_MAX)
#define NAMED_USERS    8 /* in a message */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool is_hex(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (hex_digit(text[i]) < 0)
            return false;
    return true;
}

static void decode(const char *hex, size_t hex_size, unsigned char *to)
{
    for (size_t i = 0; i + 1 < hex_size; i += 2)
        to[i / 2] = (unsigned char)(hex_digit(hex[i]) << 4 | hex_digit(hex[i + 1]));
}

void psk_decode(const struct psk_entry *entry, unsigned char *key)
{
    decode(entry->hex, entry->hex_size, key);
}

/* Takes the next line, without its end and the blanks before it; false at the end of the text. */
static bool next_line(const char **text, size_t *size, const char **line, size_t *length)
{
    const char *end;
    size_t n;

    if (*size == 0)
        return false;
    end = memchr(*text, '\n', *size);
    n = end ? (size_t)(end - *text) : *size;
    *line = *text;
    *length = n;
    *text += end ? n + 1 : n;
    *size -= end ? n + 1 : n;
    while (*length > 0 && strchr("\r \t", (*line)[*length - 1]) && (*line)[*length - 1])
        --*length;
    return true;
}

/* "#6d65:00ff", but not "# my keys: below". */
static bool is_encoded(const char *name, size_t length)
{
    return length > 1 && name[0] == '#' && is_hex(name + 1, length - 1);
}

static int take_user(const char *name, size_t length, struct psk_entry *entry, struct tls_reason *reason)
{
    bool encoded = is_encoded(name, length);
    size_t size = encoded ? (length - 1) / 2 : length;

    if (length == 0)
        return tls_fail(reason, EINVAL, "line %zu has no user before the colon", entry->line);
    if (encoded && length % 2 == 0)
        return tls_fail(reason, EINVAL, "line %zu: the encoded user has an odd number of hex digits",
                        entry->line);
    if (size > PSK_USER_MAX)
        return tls_fail(reason, EINVAL, "line %zu: the user is longer than %d bytes", entry->line,
                        PSK_USER_MAX);
    if (encoded)
        decode(name + 1, length - 1, (unsigned char *)entry->user);
    else
        memcpy(entry->user, name, length);
    entry->user[size] = '\0';
    if (strlen(entry->user) != size)
        return tls_fail(reason, EINVAL, "line %zu: the user contains a zero byte", entry->line);
    return 0;
}

static int take_key(const char *hex, size_t size, struct psk_entry *entry, struct tls_reason *reason)
{
    if (size == 0)
        return tls_fail(reason, EINVAL, "line %zu has no key after the colon", entry->line);
    if (!is_hex(hex, size))
        return tls_fail(reason, EINVAL, "line %zu: the key has other characters than hex digits",
                        entry->line);
    if (size % 2 != 0)
        return tls_fail(reason, EINVAL, "line %zu: the key has an odd number of hex digits", entry->line);
    if (size / 2 > PSK_KEY_MAX)
        return tls_fail(reason, EINVAL, "line %zu: the key is longer than %d bytes", entry->line,
                        PSK_KEY_MAX);
    entry->hex = hex;
    entry->hex_size = size;
    return 0;
}

/* 1: an entry; 0: a comment or an empty line; -EINVAL. Never quotes the line: it may be a misplaced key. */
static int parse_line(const char *line, size_t length, struct psk_entry *entry, struct tls_reason *reason)
{
    const char *colon = memchr(line, ':', length);
    size_t name = colon ? (size_t)(colon - line) : length;
    int r;

    if (length == 0 || (line[0] == '#' && (!colon || !is_encoded(line, name))))
        return 0;
    if (length > LINE_MAX_BYTES)
        return tls_fail(reason, EINVAL, "line %zu is longer than %d bytes", entry->line, LINE_MAX_BYTES);
    if (!colon)
        return tls_hint(reason, tls_fail(reason, EINVAL, "line %zu has no colon", entry->line),
                        "wanted are lines of user:key with the key in hex, as psktool writes them");
    r = take_user(line, name, entry, reason);
    if (r == 0)
        r = take_key(colon + 1, length - name - 1, entry, reason);
    return r < 0 ? r : 1;
}

/* What is known after all lines: the one that was sought, and for a message the first users there are. */
struct search {
    const char *user; /* NULL: any */
    struct psk_entry found;
    size_t matches, entries;
    char names[NAMED_USERS][64];
};

static int take_entry(struct search *search, const struct psk_entry *entry, struct tls_reason *reason)
{
    if (search->entries < NAMED_USERS)
        tls_escape(entry->user, strlen(entry->user), search->names[search->entries],
                   sizeof search->names[search->entries]);
    search->entries++;
    if (search->user && strcmp(search->user, entry->user) != 0)
        return 0;
    if (search->matches > 0 && strcmp(search->found.user, entry->user) == 0)
        return tls_fail(reason, EINVAL, "line %zu: a second key for the user \"%s\" of line %zu", entry->line,
                        tls_shown(entry->user), search->found.line);
    if (search->matches++ == 0)
        search->found = *entry;
    return 0;
}

static int scan(struct search *search, const char *text, size_t size, struct tls_reason *reason)
{
    const char *line;
    size_t length;

    for (size_t number = 1; next_line(&text, &size, &line, &length); number++) {
        struct psk_entry entry = {.line = number};
        int r = parse_line(line, length, &entry, reason);

        if (r > 0)
            r = take_entry(search, &entry, reason);
        if (r < 0)
            return r;
    }
    return 0;
}

static int not_found(const struct search *search, struct tls_reason *reason)
{
    char list[320] = "";
    size_t n = 0;

    for (size_t i = 0; i < search->entries && i < NAMED_USERS; i++) {
        int added = snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", search->names[i]);

        if (added < 0 || (size_t)added >= sizeof list - n)
            break;
        n += (size_t)added;
    }
    if (search->user)
        tls_fail(reason, ENOKEY, "no key for the user \"%s\"", tls_shown(search->user));
    else
        tls_fail(reason, ENOKEY, "there are keys for several users, and none was chosen");
    return tls_hint(reason, -ENOKEY, "there are keys for: %s%s", list,
                    search->entries > NAMED_USERS ? ", ..." : "");
}

int psk_find(const char *text, size_t size, const char *user, struct psk_entry *entry,
             struct tls_reason *reason)
{
    struct search search = {.user = user};
    int r;

    if (size > PSK_FILE_MAX)
        return tls_fail(reason, EFBIG, "larger than %d bytes", PSK_FILE_MAX);
    r = scan(&search, text, size, reason);
    if (r < 0)
        return r;
    if (search.entries == 0)
        return tls_hint(reason, tls_fail(reason, EINVAL, "there is no key in it"),
                        "psktool makes one: psktool -u USER -p FILE");
    if (search.matches != 1)
        return not_found(&search, reason);
    *entry = search.found;
    return 0;
}

int tls_psk_parse(const char *text, size_t size, const char *user, char **found_user, uint8_t **key,
                  size_t *key_size, struct tls_reason *reason)
{
    _cleanup_free_ char *name = NULL;
    _cleanup_free_ uint8_t *bytes = NULL;
    struct psk_entry entry;
    int r = psk_find(text, size, user, &entry, reason);

    if (r < 0)
        return r;
    name = strdup(entry.user);
    bytes = malloc(entry.hex_size / 2);
    if (!name || !bytes)
        return tls_fail(reason, ENOMEM, "out of memory");
    psk_decode(&entry, bytes);
    *found_user = steal_ptr(&name);
    *key = steal_ptr(&bytes);
    *key_size = entry.hex_size / 2;
    return 0;
}
