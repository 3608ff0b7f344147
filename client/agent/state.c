/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/json_fields.h"
#include "cleanup.h"

#define STATE_MAX_SIZE 65536 /* far above what we write; a longer file is not ours */

void device_state_clear(struct device_state *state)
{
    free(state->backend);
    free(state->uri);
    free(state->export_name);
    free(state->name);
    free(state->canonical_name);
    free(state->last_error);
    *state = (struct device_state){0};
}

static void state_path(char *path, size_t size, uint32_t index, const char *suffix)
{
    snprintf(path, size, STATE_FOLDER "/nbd%u.json%s", index, suffix);
}

/* Addresses are for sock_diag alone, so they are kept as the bytes they are. */
static struct json_object *hex_bytes(const void *data, size_t size)
{
    char text[2 * sizeof(struct sockaddr_storage) + 1] = "";
    const uint8_t *bytes = data;

    for (size_t i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return json_object_new_string(text);
}

static struct json_object *socket_to_json(const struct socket_identity *socket, pid_t relay)
{
    struct json_object *object = json_object_new_object();

    json_object_object_add(object, "local", hex_bytes(&socket->local, sizeof socket->local));
    json_object_object_add(object, "remote", hex_bytes(&socket->remote, sizeof socket->remote));
    json_add_number(object, "cookie", socket->cookie);
    json_add_number(object, "inode", socket->inode);
    json_add_number(object, "interface", socket->interface);
    if (relay)
        json_add_number(object, "relay", (uint64_t)relay);
    return object;
}

static struct json_object *state_to_json(const struct device_state *state)
{
    struct json_object *object = json_object_new_object();
    struct json_object *sockets = json_object_new_array();

    json_add_number(object, "pid", (uint64_t)state->pid);
    json_add_number(object, "agent_pid", (uint64_t)state->agent_pid);
    json_add_text(object, "backend", state->backend);
    json_add_text(object, "uri", state->uri);
    json_add_text(object, "export", state->export_name);
    json_add_text(object, "name", state->name);
    json_add_number(object, "size", state->size);
    json_add_number(object, "flags", state->flags);
    json_add_text(object, "tls", connection_path_name(state->path));
    json_add_text(object, "tls_version", state->tls.version);
    json_add_text(object, "tls_cipher", state->tls.cipher);
    json_add_text(object, "tls_key_exchange", state->tls.key_exchange);
    for (size_t i = 0; i < state->connections; i++)
        json_object_array_add(sockets, socket_to_json(&state->sockets[i], state->relays[i]));
    json_object_object_add(object, "sockets", sockets);
    json_add_text(object, "canonical_name", state->canonical_name);
    json_add_number(object, "timeout_s", state->timeout_s);
    json_add_number(object, "dead_timeout_s", state->dead_timeout_s);
    json_add_number(object, "reconnects", state->reconnects);
    json_add_number(object, "outage_ms", state->outage_ms);
    json_add_text(object, "last_error", state->last_error);
    return object;
}

static int write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, text, size);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            text += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

static int write_file(const char *path, const char *text)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    int r;

    if (fd < 0)
        return -errno;
    if (fchmod(fd, 0644) < 0) /* whatever the umask: list is for everybody */
        return -errno;
    r = write_all(fd, text, strlen(text));
    if (r == 0 && close(steal_fd(&fd)) < 0)
        r = -errno;
    return r;
}

int device_state_write(const struct device_state *state, struct failure *failure)
{
    _cleanup_json_ struct json_object *object = state_to_json(state);
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
    char path[64], temporary[64];
    int r;

    state_path(path, sizeof path, state->index, "");
    state_path(temporary, sizeof temporary, state->index, ".new");
    if (!text)
        return fail(failure, ENOMEM, "out of memory");
    if (mkdir(STATE_FOLDER, 0755) < 0 && errno != EEXIST)
        return fail(failure, errno, "cannot make " STATE_FOLDER ": %s", strerror(errno));
    r = write_file(temporary, text);
    if (r == 0 && rename(temporary, path) < 0)
        r = -errno;
    if (r == 0)
        return 0;
    unlink(temporary);
    return fail(failure, -r, "cannot write %s: %s", path, strerror(-r));
}

static int read_file(const char *path, char *text, size_t size)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    size_t have = 0;

    if (fd < 0)
        return -errno;
    while (have < size - 1) {
        ssize_t n = read(fd, text + have, size - 1 - have);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            break;
        have += n > 0 ? (size_t)n : 0;
    }
    text[have] = '\0';
    return have == size - 1 ? -EFBIG : 0;
}

static char *get_string(struct json_object *object, const char *key)
{
    struct json_object *value;

    if (!json_object_object_get_ex(object, key, &value) || !json_object_is_type(value, json_type_string))
        return NULL;
    return strdup(json_object_get_string(value));
}

static uint64_t get_number(struct json_object *object, const char *key)
{
    struct json_object *value;

    if (!json_object_object_get_ex(object, key, &value) || !json_object_is_type(value, json_type_int))
        return 0;
    return json_object_get_uint64(value);
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *found = c ? strchr(digits, c) : NULL;

    return found ? (int)(found - digits) : -1;
}

static bool get_bytes(struct json_object *object, const char *key, void *into, size_t size)
{
    _cleanup_free_ char *text = get_string(object, key);
    uint8_t *bytes = into;

    if (!text || strlen(text) != 2 * size)
        return false;
    for (size_t i = 0; i < size; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool socket_from_json(struct json_object *object, struct socket_identity *socket, pid_t *relay)
{
    *relay = (pid_t)get_number(object, "relay");
    socket->cookie = get_number(object, "cookie");
    socket->inode = get_number(object, "inode");
    socket->interface = (uint32_t)get_number(object, "interface");
    return get_bytes(object, "local", &socket->local, sizeof socket->local) &&
           get_bytes(object, "remote", &socket->remote, sizeof socket->remote);
}

static void sockets_from_json(struct json_object *object, struct device_state *state)
{
    struct json_object *sockets;
    size_t count;

    if (!json_object_object_get_ex(object, "sockets", &sockets) ||
        !json_object_is_type(sockets, json_type_array))
        return;
    count = json_object_array_length(sockets);
    for (size_t i = 0; i < count && i < NBD_MAX_CONNECTIONS; i++)
        if (socket_from_json(json_object_array_get_idx(sockets, i), &state->sockets[state->connections],
                             &state->relays[state->connections]))
            state->connections++;
}

static void get_text(struct json_object *object, const char *key, char text[static SECURE_TEXT_MAX])
{
    _cleanup_free_ char *value = get_string(object, key);

    snprintf(text, SECURE_TEXT_MAX, "%s", value ? value : "");
}

static void tls_from_json(struct json_object *object, struct device_state *state)
{
    static const enum connection_path paths[] = {CONNECTION_KTLS, CONNECTION_RELAY};
    _cleanup_free_ char *name = get_string(object, "tls");

    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (name && strcmp(name, connection_path_name(paths[i])) == 0)
            state->path = paths[i];
    get_text(object, "tls_version", state->tls.version);
    get_text(object, "tls_cipher", state->tls.cipher);
    get_text(object, "tls_key_exchange", state->tls.key_exchange);
}

static int state_from_json(struct json_object *object, struct device_state *state)
{
    state->pid = (pid_t)get_number(object, "pid");
    state->agent_pid = (pid_t)get_number(object, "agent_pid");
    state->backend = get_string(object, "backend");
    state->uri = get_string(object, "uri");
    state->export_name = get_string(object, "export");
    state->name = get_string(object, "name");
    state->size = get_number(object, "size");
    state->flags = (uint16_t)get_number(object, "flags");
    tls_from_json(object, state);
    sockets_from_json(object, state);
    state->canonical_name = get_string(object, "canonical_name");
    state->timeout_s = get_number(object, "timeout_s");
    state->dead_timeout_s = get_number(object, "dead_timeout_s");
    state->reconnects = get_number(object, "reconnects");
    state->outage_ms = get_number(object, "outage_ms");
    state->last_error = get_string(object, "last_error");
    return state->backend && state->uri && state->export_name ? 0 : -ENOENT;
}

int device_state_read(const struct nbd_device *device, struct device_state *state)
{
    _cleanup_free_ char *text = malloc(STATE_MAX_SIZE);
    _cleanup_json_ struct json_object *object = NULL;
    char path[64];
    int r;

    *state = (struct device_state){.index = device->index};
    state_path(path, sizeof path, device->index, "");
    if (!text)
        return -ENOMEM;
    r = read_file(path, text, STATE_MAX_SIZE);
    if (r < 0)
        return r;
    object = json_tokener_parse(text);
    r = object && json_object_is_type(object, json_type_object) ? state_from_json(object, state) : -ENOENT;
    if (r == 0 && (state->pid != device->pid || strcmp(state->backend, device->backend) != 0))
        r = -ENOENT;
    if (r < 0)
        device_state_clear(state);
    return r;
}

void device_state_remove(const struct nbd_device *device)
{
    struct device_state state;
    char path[64];

    /* Another attach may have taken the device since, and written its own. */
    if (device_state_read(device, &state) < 0)
        return;
    device_state_clear(&state);
    state_path(path, sizeof path, device->index, "");
    unlink(path);
}
