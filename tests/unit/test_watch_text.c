/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every event as people read it, also one that is not what it should be. */
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "cleanup.h"
#include "commands/watch_text.h"

#include "cmocka_all.h"

#define HEAD "\"time\":\"2025-01-02T03:04:05.678Z\",\"device\":\"/dev/nbd0\""
#define LINE "2025-01-02T03:04:05.678Z /dev/nbd0: "

static const struct {
    const char *event, *text;
} events[] = {
    {"{\"event\":\"watching\"," HEAD ",\"state\":\"up\"}", LINE "watching, the link is up"},
    {"{\"event\":\"link-down\"," HEAD ",\"connections_up\":1,\"connections\":4,\"error\":\"reset\"}",
     LINE "link down, 1 of 4 connections are up: reset"},
    {"{\"event\":\"link-down\"," HEAD ",\"connections_up\":0,\"connections\":1,\"error\":null}",
     LINE "link down, 0 of 1 connections are up"},
    {"{\"event\":\"reconnecting\"," HEAD ",\"uri\":\"nbd://h/\",\"attempt\":1}",
     LINE "reconnecting, attempt 1"},
    {"{\"event\":\"link-up\"," HEAD
     ",\"uri\":\"nbd://h/\",\"connections_up\":4,\"connections\":4,\"outage_seconds\":12.345}",
     LINE "link up, 4 of 4 connections to nbd://h/, after 12.3 seconds"},
    {"{\"event\":\"io-failing\"," HEAD ",\"outage_seconds\":60}",
     LINE "I/O fails, the server has been away for 60 seconds"},
    {"{\"event\":\"resized\"," HEAD ",\"size\":2048,\"old_size\":1024}",
     LINE "resized from 1024 to 2048 bytes"},
    {"{\"event\":\"identity-changed\"," HEAD ",\"uri\":\"nbd://h/\",\"error\":\"the size differs\"}",
     LINE "nbd://h/ is not the disk that was attached: the size differs"},
    {"{\"event\":\"dirty-grew\"," HEAD ",\"bitmap\":\"b0\",\"dirty_bytes\":65536}",
     LINE "bitmap b0 has 65536 dirty bytes"},
    {"{\"event\":\"bitmap-lost\"," HEAD ",\"bitmap\":\"b0\",\"error\":\"gone\"}",
     LINE "bitmap b0 is lost: gone"},
    {"{\"event\":\"detached\"," HEAD "}", LINE "detached"},
    {"{\"event\":\"agent-stopped\"," HEAD "}", LINE "the agent has stopped, the device stays attached"},
    {"{\"event\":\"new\"," HEAD ",\"a\":1,\"b\":\"x\",\"c\":[1,{}],\"d\":null,\"e\":true}",
     LINE "new, a 1, b x, c [1,{}], d ?, e true"},
    /* Nothing of it moves the cursor. */
    {"{\"event\":\"\\u001b[2J\",\"time\":\"\\u0007\",\"device\":\"\\n\",\"\\u009b\":\"\\u202e\"}",
     "\\x07 \\x0a: \\x1b[2J, \\xc2\\x9b \\xe2\\x80\\xae"},
    {"{\"event\":\"bitmap-lost\"," HEAD ",\"bitmap\":\"\\u001b\",\"error\":{\"\\u009b\":1}}",
     LINE "bitmap \\x1b is lost: {\"\\xc2\\x9b\":1}"},
    {"{\"event\":\"detached\\u0000\"}", "? ?: detached\\x00"},
    {"{\"event\":\"resized\"}", "? ?: resized from ? to ? bytes"},
    {"{\"event\":7}", "? ?: 7"},
    {"{}", "? ?: ?"},
};

static void test_events(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        struct json_object *event = json_tokener_parse(events[i].event);
        _cleanup_free_ char *text = watch_text(event);

        assert_string_equal(text, events[i].text);
        json_object_put(event);
    }
}

static void test_long_values_are_cut(void **state)
{
    struct json_object *event = json_object_new_object();
    _cleanup_free_ char *longest = calloc(1, 60001);
    _cleanup_free_ char *text = NULL;

    (void)state;
    memset(longest, 'x', 60000);
    json_object_object_add(event, "event", json_object_new_string(longest));
    text = watch_text(event);
    assert_in_range(strlen(text), 1000, 2000);
    assert_non_null(strstr(text, "xxx..."));
    json_object_put(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_long_values_are_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
