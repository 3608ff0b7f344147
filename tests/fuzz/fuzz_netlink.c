/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Any bytes as what the kernel sends or shows: the first byte picks the decoder. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "holders_scan.h"
#include "ktext.h"
#include "message.h"
#include "nbd.h"
#include "sockdiag.h"
#include "sysfs.h"
#include "uevent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void try_index(const uint8_t *data, size_t size)
{
    uint32_t index;
    int r = nbd_decode_connect(data, size, &index);

    require(r == 0 || r == -EBADMSG);
    r = nbd_decode_event(data, size, &index);
    require(r == 0 || r == 1 || r == -EBADMSG);
}

static void try_status(const uint8_t *data, size_t size)
{
    struct nbd_status list[3] = {[2] = {.index = 42}};
    int r = nbd_decode_status(data, size, list, 2);

    require(r == -EBADMSG || (r >= 0 && (size_t)r <= size / 4));
    require(list[2].index == 42);
    require(nbd_decode_status(data, size, NULL, 0) == r);
}

static void try_sockdiag(const uint8_t *data, size_t size)
{
    struct socket_view view;
    int r = sockdiag_decode_inet(data, size, &view);

    require(r == 0 || r == -EBADMSG);
    require(r < 0 || view.has_tls || view.tls_version == 0);
    r = sockdiag_decode_unix(data, size, &view);
    require((r == 0 || r == -EBADMSG) && !view.has_tls);
}

static bool is_within(const char *text, const uint8_t *data, size_t size)
{
    const char *begin = (const char *)data, *end = begin + size;

    return text[0] == '\0' || (text >= begin && text < end && memchr(text, '\0', (size_t)(end - text)));
}

static void try_uevent(const uint8_t *data, size_t size)
{
    struct uevent event;
    int r = uevent_parse((const char *)data, size, &event);

    require(r == 0 || r == -EBADMSG);
    require(is_within(event.subsystem, data, size) && is_within(event.devtype, data, size) &&
            is_within(event.devname, data, size));
}

/* Every message of a datagram, every attribute of a message, and what a verdict says. */
static void try_messages(const uint8_t *data, size_t size)
{
    struct netlink_view rest = {data, size};
    struct netlink_message message;
    size_t before = rest.size;

    while (netlink_message_next(&rest, &message) > 0) {
        struct netlink_attribute attribute;
        char text[32];
        int error;

        require(rest.size < before);
        before = rest.size;
        if (netlink_message_verdict(&message, &error, text, sizeof text) == 0)
            require(error <= 0 && strlen(text) < sizeof text);
        while (netlink_attribute_next(&message.payload, &attribute) > 0)
            require(attribute.value.data + attribute.value.size <= data + size);
    }
}

static void try_mount(char *text)
{
    struct mount_line mount;

    if (mount_line_parse(text, &mount) == 0)
        require(mount.point && mount.type && mount.source && mount.options);
}

static void try_text(char *text)
{
    char escaped[64];
    uint32_t index, major, minor;
    unsigned partition;
    uint64_t number;

    ktext_escape(text, escaped, sizeof escaped);
    for (const char *c = escaped; *c; c++)
        require(*c >= ' ' && *c <= '~');
    if (nbd_name_parse(text, &index, &partition) == 0)
        require(index <= INT32_MAX);
    if (ktext_decimal(text, 1000, &number) == 0)
        require(number <= 1000);
    (void)ktext_device_number(text, &major, &minor);
    ktext_unescape(text);
}

static void with_text(void (*try)(char *), const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size);

    if (text)
        try(text);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t decoder = size ? data[0] % 7 : 0;

    if (size == 0)
        return 0;
    data++;
    size--;
    switch (decoder) {
    case 0:
        try_index(data, size);
        break;
    case 1:
        try_status(data, size);
        break;
    case 2:
        try_sockdiag(data, size);
        break;
    case 3:
        try_uevent(data, size);
        break;
    case 4:
        try_messages(data, size);
        break;
    case 5:
        with_text(try_mount, data, size);
        break;
    default:
        with_text(try_text, data, size);
        break;
    }
    return 0;
}
