/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmocka_all.h"
#include "uevent.h"

/* In a copy of exactly this size: a sanitizer sees a read behind the end. The event points into it. */
static char *parse(const char *data, size_t size, struct uevent *event, int expected)
{
    char *copy = malloc(size ? size : 1);

    assert_non_null(copy);
    memcpy(copy, data, size);
    assert_int_equal(uevent_parse(copy, size, event), expected);
    return copy;
}

#define PARSE(text, event, expected) parse(text, sizeof(text), event, expected)

static const char change[] =
    "change@/devices/virtual/block/nbd0\0ACTION=change\0DEVPATH=/devices/virtual/block/nbd0\0"
    "SUBSYSTEM=block\0MAJOR=43\0MINOR=0\0DEVNAME=nbd0\0DEVTYPE=disk\0DISKSEQ=9\0SEQNUM=812";

static void a_change_of_a_disk_is_parsed(void **state)
{
    struct uevent event;
    char *copy = PARSE(change, &event, 0);

    (void)state;
    assert_int_equal(event.action, UEVENT_CHANGE);
    assert_string_equal(event.subsystem, "block");
    assert_string_equal(event.devtype, "disk");
    assert_string_equal(event.devname, "nbd0");
    free(copy);
}

static void actions_are_told_apart(void **state)
{
    static const struct {
        const char *text;
        enum uevent_action action;
    } rows[] = {
        {"add@/x", UEVENT_ADD},       {"change@/x", UEVENT_CHANGE}, {"remove@/x", UEVENT_REMOVE},
        {"move@/x", UEVENT_OTHER},    {"ad@/x", UEVENT_OTHER},      {"adds@/x", UEVENT_OTHER},
        {"offline@/x", UEVENT_OTHER}, {"Add@/x", UEVENT_OTHER},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct uevent event;
        char *copy = parse(rows[i].text, strlen(rows[i].text) + 1, &event, 0);

        assert_int_equal(event.action, rows[i].action);
        assert_string_equal(event.subsystem, "");
        assert_string_equal(event.devtype, "");
        assert_string_equal(event.devname, "");
        free(copy);
    }
}

static void keys_are_whole_words(void **state)
{
    struct uevent event;
    char *copy = PARSE("add@/x\0XDEVNAME=a\0DEVNAMEX=b\0DEVNAME\0SUBSYSTEM=\0=\0\0DEVTYPE=a=b", &event, 0);

    (void)state;
    assert_string_equal(event.devname, "");
    assert_string_equal(event.subsystem, "");
    assert_string_equal(event.devtype, "a=b");
    free(copy);
}

static void other_messages_are_refused(void **state)
{
    struct uevent event;

    (void)state;
    free(parse("", 0, &event, -EBADMSG));
    free(PARSE("", &event, -EBADMSG));
    free(PARSE("libudev\0\xfe\xed\xca\xfe", &event, -EBADMSG));
    free(PARSE("@/x", &event, -EBADMSG));
    free(PARSE("add@", &event, -EBADMSG));
    free(PARSE("add@x", &event, -EBADMSG));
    free(PARSE("add\0a@/x", &event, -EBADMSG));
    free(parse("add@/x", 6, &event, -EBADMSG));
    free(parse(change, sizeof change - 1, &event, -EBADMSG));
}

/* Every length: unless it ends with a terminator it is refused, and nothing behind the end is read. */
static void truncated_messages_do_no_harm(void **state)
{
    (void)state;
    for (size_t size = 1; size < sizeof change; size++) {
        struct uevent event;
        bool whole = change[size - 1] == '\0';

        free(parse(change, size, &event, whole ? 0 : -EBADMSG));
    }
}

static bool wait_for(struct uevent_socket *socket, struct uevent *event, const char *devname)
{
    struct pollfd pollfd = {.fd = uevent_fd(socket), .events = POLLIN};
    struct netlink_reason reason;

    for (int i = 0; i < 40; i++) {
        int r;

        while ((r = uevent_next(socket, event, &reason)) == 1)
            if (strcmp(event->devname, devname) == 0)
                return true;
        assert_int_equal(r, 0);
        poll(&pollfd, 1, 50);
    }
    return false;
}

/* The kernel repeats a device's event when asked in sysfs. */
static void the_kernel_is_heard(void **state)
{
    struct uevent_socket *socket = NULL;
    struct netlink_reason reason;
    struct uevent event;
    int fd = open("/sys/devices/virtual/mem/null/uevent", O_WRONLY | O_CLOEXEC);

    (void)state;
    if (fd < 0)
        skip();
    assert_int_equal(uevent_open(&socket, &reason), 0);
    assert_int_equal(uevent_next(socket, &event, &reason), 0);
    if (write(fd, "change", 6) != 6 || !wait_for(socket, &event, "null")) {
        uevent_close(socket);
        close(fd);
        skip();
    }
    assert_int_equal(event.action, UEVENT_CHANGE);
    assert_string_equal(event.subsystem, "mem");
    assert_string_equal(event.devtype, "");
    close(fd);
    uevent_close(socket);
}

static void processes_are_not_heard(void **state)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    struct uevent_socket *uevents = NULL;
    socklen_t size = sizeof address;
    struct netlink_reason reason;
    struct uevent event;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);

    (void)state;
    assert_int_equal(uevent_open(&uevents, &reason), 0);
    assert_int_equal(getsockname(uevent_fd(uevents), (struct sockaddr *)&address, &size), 0);
    address.nl_groups = 0;
    if (fd < 0 || sendto(fd, change, sizeof change, 0, (struct sockaddr *)&address, size) < 0) {
        uevent_close(uevents);
        skip();
    }
    while (uevent_next(uevents, &event, &reason) == 1)
        assert_string_not_equal(event.devname, "nbd0");
    close(fd);
    uevent_closep(&uevents);
    uevent_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_of_a_disk_is_parsed),  cmocka_unit_test(actions_are_told_apart),
        cmocka_unit_test(keys_are_whole_words),          cmocka_unit_test(other_messages_are_refused),
        cmocka_unit_test(truncated_messages_do_no_harm), cmocka_unit_test(the_kernel_is_heard),
        cmocka_unit_test(processes_are_not_heard),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
