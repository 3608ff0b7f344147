/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/varlink_service.h"

#include <string.h>

#include "agent/json_fields.h"
#include "config.h"

#define SERVICE_INTERFACE "org.varlink.service"

static const char service_description[] =
    "# What every Varlink service tells of itself.\n"
    "interface org.varlink.service\n"
    "\n"
    "# The implementation, and the interfaces it has.\n"
    "method GetInfo() -> (\n"
    "  vendor: string,\n"
    "  product: string,\n"
    "  version: string,\n"
    "  url: string,\n"
    "  interfaces: []string\n"
    ")\n"
    "\n"
    "# The description of one interface.\n"
    "method GetInterfaceDescription(interface: string) -> (description: string)\n"
    "\n"
    "# There is no such interface.\n"
    "error InterfaceNotFound (interface: string)\n"
    "\n"
    "# The interface has no such method.\n"
    "error MethodNotFound (method: string)\n"
    "\n"
    "# The method exists, but cannot be called in this way.\n"
    "error MethodNotImplemented (method: string)\n"
    "\n"
    "# A parameter is missing, unknown, or not what it should be.\n"
    "error InvalidParameter (parameter: string)\n"
    "\n"
    "# The method answers only calls with \"more\".\n"
    "error ExpectedMore ()\n";

static const char device_description[] =
    "# A disk that nbdctl attached, and the agent that stays beside it.\n"
    "interface " DEVICE_INTERFACE "\n"
    "\n"
    "# The link to the server: state (\"up\", \"reconnecting\", \"down\"), agent_pid, reconnects,\n"
    "# outage_seconds (all outages together), last_error (string or null), and the uri of the server that\n"
    "# serves now.\n"
    "method GetStatus() -> (status: object)\n"
    "\n"
    "# With \"more\": one reply for each event. The first comes at once, \"watching\" with the state. Every\n"
    "# event has the fields event, time (RFC 3339, UTC) and device; others follow by event. The connection\n"
    "# ends with the agent, and when a client does not read.\n"
    "method Watch() -> (event: object)\n"
    "\n"
    "# The agent ends; the device stays attached, and is not looked after any more.\n"
    "method Stop() -> ()\n"
    "\n"
    "# Every connection is replaced by a new one, each in a moment without I/O; \"renewed\" tells of each.\n"
    "method Renew() -> ()\n"
    "\n"
    "# As many clients as there may be are connected already.\n"
    "error TooManyClients ()\n";

static const struct {
    const char *name, *description;
} interfaces[] = {
    {SERVICE_INTERFACE, service_description},
    {DEVICE_INTERFACE, device_description},
};
#define INTERFACES (sizeof interfaces / sizeof interfaces[0])

static bool add_string(struct json_object *object, const char *key, const char *value)
{
    return json_object_object_add(object, key, json_object_new_string(value)) == 0;
}

static struct json_object *interface_names(void)
{
    struct json_object *names = json_object_new_array();

    for (size_t i = 0; names && i < INTERFACES; i++)
        json_object_array_add(names, json_object_new_string(interfaces[i].name));
    return names;
}

static struct json_object *invalid(const char *parameter)
{
    return varlink_error_new(VARLINK_INVALID_PARAMETER, "parameter", parameter);
}

static struct json_object *get_info(const struct varlink_call *call)
{
    struct json_object *info = json_object_new_object();

    (void)call;
    if (!info)
        return NULL;
    add_string(info, "vendor", "nbdctl");
    add_string(info, "product", "nbdctl");
    add_string(info, "version", NBDCTL_VERSION);
    add_string(info, "url", "");
    json_object_object_add(info, "interfaces", interface_names());
    return varlink_reply_new(info, false);
}

static struct json_object *get_description(const struct varlink_call *call)
{
    const char *name = json_text(call->parameters, "interface");
    struct json_object *parameters;

    if (!name || strlen(name) > VARLINK_NAME_MAX)
        return invalid("interface");
    for (size_t i = 0; i < INTERFACES; i++) {
        if (strcmp(name, interfaces[i].name) != 0)
            continue;
        parameters = json_object_new_object();
        if (parameters)
            add_string(parameters, "description", interfaces[i].description);
        return parameters ? varlink_reply_new(parameters, false) : NULL;
    }
    return varlink_error_new(SERVICE_INTERFACE ".InterfaceNotFound", "interface", name);
}

static const struct method {
    const char *name;
    enum device_method method;
    const char *parameter;                                          /* the one it takes; NULL: none */
    struct json_object *(*answer)(const struct varlink_call *call); /* DEVICE_NONE */
} methods[] = {
    {SERVICE_INTERFACE ".GetInfo", DEVICE_NONE, NULL, get_info},
    {SERVICE_INTERFACE ".GetInterfaceDescription", DEVICE_NONE, "interface", get_description},
    {DEVICE_INTERFACE ".GetStatus", DEVICE_GET_STATUS, NULL, NULL},
    {DEVICE_INTERFACE ".Watch", DEVICE_WATCH, NULL, NULL},
    {DEVICE_INTERFACE ".Stop", DEVICE_STOP, NULL, NULL},
    {DEVICE_INTERFACE ".Renew", DEVICE_RENEW, NULL, NULL},
};

static const struct method *find_method(const char *name)
{
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(methods[i].name, name) == 0)
            return &methods[i];
    return NULL;
}

/* A parameter that is null was left out. A long name is not repeated: answers have a bound too. */
static const char *unexpected_parameter(const struct varlink_call *call, const char *expected)
{
    json_object_object_foreach(call->parameters, key, value)
    {
        if (value && !(expected && strcmp(key, expected) == 0))
            return strlen(key) > VARLINK_NAME_MAX ? "parameters" : key;
    }
    return NULL;
}

static struct json_object *not_found(const char *name)
{
    char interface[VARLINK_NAME_MAX + 1];

    snprintf(interface, sizeof interface, "%.*s", (int)(strrchr(name, '.') - name), name);
    for (size_t i = 0; i < INTERFACES; i++)
        if (strcmp(interface, interfaces[i].name) == 0)
            return varlink_error_new(SERVICE_INTERFACE ".MethodNotFound", "method", name);
    return varlink_error_new(SERVICE_INTERFACE ".InterfaceNotFound", "interface", interface);
}

enum device_method varlink_route(const struct varlink_call *call, struct json_object **answer)
{
    const struct method *method = find_method(call->method);
    const char *unexpected = unexpected_parameter(call, method ? method->parameter : NULL);

    *answer = NULL;
    if (!method)
        *answer = not_found(call->method);
    else if (call->upgrade)
        *answer = varlink_error_new(SERVICE_INTERFACE ".MethodNotImplemented", "method", method->name);
    else if (unexpected)
        *answer = invalid(unexpected);
    else if (method->method == DEVICE_WATCH && !call->more)
        *answer = varlink_error_new(SERVICE_INTERFACE ".ExpectedMore", NULL, NULL);
    else if (method->method == DEVICE_NONE)
        *answer = method->answer(call);
    else
        return method->method;
    return DEVICE_NONE;
}
