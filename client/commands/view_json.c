/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands/view_json.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "agent/json_fields.h"
#include "cleanup.h"
#include "escape.h"

/* Another program may have put any bytes there, and JSON is UTF-8. */
static void add_backend(struct json_object *object, const char *backend)
{
    _cleanup_free_ char *shown = escape_text(backend, strlen(backend), NBD_BACKEND_MAX);

    json_add_text(object, "backend", shown && *shown ? shown : NULL);
}

static void add_bool(struct json_object *object, const char *key, bool value)
{
    json_object_object_add(object, key, json_object_new_boolean(value));
}

/* What we do not know of a device that another program attached is null, never a guess. */
static void add_if_known(struct json_object *object, const char *key, bool known, uint64_t value)
{
    json_object_object_add(object, key, known ? json_object_new_uint64(value) : NULL);
}

static struct json_object *device_object(const struct device_view *view)
{
    struct json_object *object = json_object_new_object();
    char device[32];

    snprintf(device, sizeof device, "/dev/nbd%" PRIu32, view->device.index);
    json_add_text(object, "device", device);
    json_add_number(object, "size", view->device.size);
    add_bool(object, "read_only", view->device.read_only);
    json_add_text(object, "state", device_view_state(view));
    add_if_known(object, "connections", view->known, view->state.connections);
    add_if_known(object, "connections_up", view->known, view->connections_up);
    json_add_text(object, "tls", view->known ? device_view_tls(view) : NULL);
    json_add_text(object, "uri", device_view_uri(view));
    json_add_text(object, "export", view->known ? view->state.export_name : NULL);
    json_add_text(object, "name", view->known ? view->state.name : NULL);
    add_if_known(object, "agent_pid", device_view_agent(view) != 0, (uint64_t)device_view_agent(view));
    return object;
}

static void print(struct json_object *object)
{
    printf("%s\n", json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                                              JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(object);
}

void print_list_json(const struct device_view *views, size_t count)
{
    struct json_object *array = json_object_new_array();

    for (size_t i = 0; i < count; i++)
        json_object_array_add(array, device_object(&views[i]));
    print(array);
}

static const char *inet_text(int family, const void *address, const char *zone, in_port_t port, char *into)
{
    char text[INET6_ADDRSTRLEN] = "?";

    inet_ntop(family, address, text, sizeof text);
    snprintf(into, ADDRESS_TEXT_MAX, family == AF_INET6 ? "[%s%s]:%u" : "%s%s:%u", text, zone, ntohs(port));
    return into;
}

static const char *inet6_text(const struct sockaddr_in6 *in6, char *into)
{
    char name[IF_NAMESIZE], zone[IF_NAMESIZE + 1] = "";

    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
        return inet_text(AF_INET, &in6->sin6_addr.s6_addr[12], "", in6->sin6_port, into);
    if (in6->sin6_scope_id && if_indextoname(in6->sin6_scope_id, name))
        snprintf(zone, sizeof zone, "%%%s", name);
    return inet_text(AF_INET6, &in6->sin6_addr, zone, in6->sin6_port, into);
}

static const char *unix_text(const struct sockaddr_un *un, char *into)
{
    /* An abstract name begins with NUL, which escapes to \x00. */
    bool abstract = un->sun_path[0] == '\0' && un->sun_path[1] != '\0';
    size_t size = abstract ? 1 + strnlen(un->sun_path + 1, sizeof un->sun_path - 1)
                           : strnlen(un->sun_path, sizeof un->sun_path);
    _cleanup_free_ char *path = escape_text(un->sun_path, size, sizeof un->sun_path);

    snprintf(into, ADDRESS_TEXT_MAX, "unix:%.150s", path ? path : "?");
    return into;
}

const char *address_text(const struct sockaddr_storage *address, char *into)
{
    const void *any = address;

    switch (address->ss_family) {
    case AF_INET: {
        const struct sockaddr_in *in = any;

        return inet_text(AF_INET, &in->sin_addr, "", in->sin_port, into);
    }
    case AF_INET6:
        return inet6_text(any, into);
    case AF_UNIX:
        return unix_text(any, into);
    case AF_VSOCK: {
        const struct sockaddr_vm *vm = any;

        snprintf(into, ADDRESS_TEXT_MAX, "vsock:%u:%u", vm->svm_cid, vm->svm_port);
        return into;
    }
    default:
        snprintf(into, ADDRESS_TEXT_MAX, "?");
        return into;
    }
}

const char *tls_version_name(unsigned version)
{
    return version == 0x0304 ? "TLS 1.3" : version == 0x0303 ? "TLS 1.2" : "unknown";
}

const char *tls_cipher_name(unsigned cipher)
{
    /* linux/tls.h */
    switch (cipher) {
    case 51:
        return "AES-128-GCM";
    case 52:
        return "AES-256-GCM";
    case 53:
        return "AES-128-CCM";
    case 54:
        return "CHACHA20-POLY1305";
    default:
        return "unknown";
    }
}

/* kTLS: as the kernel has it; a relay: as it was negotiated. NULL: not encrypted, or nobody knows any more.
 */
static struct json_object *tls_object(const struct device_view *view, size_t i)
{
    const struct socket_view *socket = &view->sockets[i];
    const struct secure_info *tls = &view->state.tls;
    bool relayed = view->state.relays[i] != 0;
    struct json_object *object;

    if (relayed ? !tls->version[0] : !socket->has_tls)
        return NULL;
    object = json_object_new_object();
    json_add_text(object, "version", relayed ? tls->version : tls_version_name(socket->tls_version));
    json_add_text(object, "cipher", relayed ? tls->cipher : tls_cipher_name(socket->tls_cipher));
    json_add_text(object, "key_exchange", tls->key_exchange);
    json_add_text(object, "mode", connection_path_name(relayed ? CONNECTION_RELAY : CONNECTION_KTLS));
    return object;
}

static struct json_object *socket_object(const struct device_view *view, size_t i)
{
    struct json_object *object = json_object_new_object();
    const struct socket_view *socket = &view->sockets[i];
    bool tcp = view->socket_found[i] && view->state.sockets[i].remote.ss_family != AF_UNIX;
    char text[ADDRESS_TEXT_MAX];

    json_add_text(object, "local", address_text(&view->state.sockets[i].local, text));
    json_add_text(object, "remote", address_text(&view->state.sockets[i].remote, text));
    add_bool(object, "established", view->socket_up[i]);
    add_if_known(object, "rtt_us", tcp, socket->rtt_us);
    add_if_known(object, "bytes_sent", tcp, socket->bytes_sent);
    add_if_known(object, "bytes_received", tcp, socket->bytes_received);
    add_if_known(object, "retransmits", tcp, socket->retransmits);
    json_object_object_add(object, "tls", tls_object(view, i));
    add_if_known(object, "relay_pid", view->state.relays[i] != 0, (uint64_t)view->state.relays[i]);
    return object;
}

void print_status_json(const struct device_view *view)
{
    struct json_object *object = device_object(view);
    struct json_object *sockets = json_object_new_array();

    for (size_t i = 0; i < view->state.connections; i++)
        json_object_array_add(sockets, socket_object(view, i));
    json_object_object_add(object, "sockets", sockets);
    json_add_number(object, "block_size", view->device.logical_block_size);
    json_add_number(object, "max_request_kb", view->device.max_sectors_kb);
    add_backend(object, view->device.backend);
    json_add_number(object, "reconnects", view->agent.reconnects);
    json_object_object_add(object, "outage_seconds", json_object_new_double(view->agent.outage_seconds));
    json_add_text(object, "last_error", view->agent.last_error);
    json_object_object_add(object, "bitmaps", json_object_new_array());
    print(object);
}
