/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asking an agent: a real one, and what only pretends to be one. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/agent_view.h"
#include "agent/ask.h"
#include "agent/json_fields.h"
#include "agent_socket.h"

#include "cmocka_all.h"
#undef fail

#define PATIENCE UINT64_C(10000000000)
#define SHORTLY  UINT64_C(200000000)

static int ask(const char *method, uint64_t patience, struct json_object **reply, struct failure *failure)
{
    struct deadline deadline = deadline_after(patience, -1);

    *failure = (struct failure){0};
    return agent_ask_in(agent_folder, AGENT_INDEX, method, &deadline, reply, failure);
}

static void test_ask(void **state)
{
    struct json_object *reply;
    struct failure failure;
    struct agent agent;
    struct agent_view view;

    (void)state;
    start_agent(&agent);
    assert_int_equal(ask("GetStatus", PATIENCE, &reply, &failure), 0);
    assert_int_equal(agent_view_parse(json_field(reply, "status", json_type_object), &view), 0);
    assert_int_equal(view.link, AGENT_LINK_UP);
    assert_int_equal(view.pid, getpid());
    agent_view_clear(&view);
    json_object_put(reply);
    assert_int_equal(ask("Nothing", PATIENCE, &reply, &failure), -EREMOTEIO);
    assert_string_equal(failure.text, "the agent of /dev/nbd7 answers org.varlink.service.MethodNotFound");
    assert_int_equal(ask("Stop", PATIENCE, &reply, &failure), 0);
    json_object_put(reply);
    end_agent(&agent);
    assert_int_equal(agent.stops, 1);
}

static void test_ask_nobody(void **state)
{
    struct json_object *reply;
    struct failure failure;
    int listener;

    (void)state;
    assert_int_equal(ask("GetStatus", PATIENCE, &reply, &failure), -ENOENT);
    assert_string_equal(failure.text, "/dev/nbd7 has no agent");
    assert_true(failure.hint[0]);
    leave_socket(-1, &listener);
    assert_int_equal(ask("GetStatus", PATIENCE, &reply, &failure), -ECONNREFUSED);
    remove_socket(listener);
}

static void test_ask_too_many(void **state)
{
    struct json_object *reply;
    struct failure failure;
    struct agent agent;
    int fds[CONTROL_CLIENTS_MAX];

    (void)state;
    start_agent(&agent);
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        char text[HEARD_MAX];
        struct pollfd answered;

        fds[i] = dial();
        say(fds[i], WATCH);
        answered = (struct pollfd){.fd = fds[i], .events = POLLIN};
        assert_int_equal(poll(&answered, 1, 10000), 1);
        heard(fds[i], text);
    }
    assert_int_equal(ask("GetStatus", PATIENCE, &reply, &failure), -EBUSY);
    end_agent(&agent);
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        expect_end(fds[i]);
}

/* What stands in for an agent says this, and ends unless it is to stay. */
struct impostor {
    const char *text;
    size_t size;
    bool stays;
    int listener, fd;
    pthread_t thread;
};

static void *pretend(void *opaque)
{
    struct impostor *impostor = opaque;
    char call[512];

    impostor->fd = accept(impostor->listener, NULL, NULL);
    if (recv(impostor->fd, call, sizeof call, 0) > 0)
        for (size_t sent = 0; sent < impostor->size;) {
            ssize_t n = send(impostor->fd, impostor->text + sent, impostor->size - sent, MSG_NOSIGNAL);

            if (n <= 0)
                break;
            sent += (size_t)n;
        }
    if (!impostor->stays)
        shutdown(impostor->fd, SHUT_RDWR);
    return NULL;
}

static void start_impostor(struct impostor *impostor)
{
    leave_socket(1, &impostor->listener);
    assert_int_equal(pthread_create(&impostor->thread, NULL, pretend, impostor), 0);
}

static void end_impostor(struct impostor *impostor)
{
    assert_int_equal(pthread_join(impostor->thread, NULL), 0);
    close(impostor->fd);
    remove_socket(impostor->listener);
}

#define SAYS(literal) literal, sizeof(literal)

static const struct {
    const char *text;
    size_t size;
    bool stays;
    int result;
} impostors[] = {
    {"", 0, false, -ECONNRESET},
    {"", 0, true, -ETIMEDOUT},
    {"{\"parameters\":{", 15, false, -EPROTO},
    {"{\"parameters\":{", 15, true, -ETIMEDOUT},
    {SAYS(""), true, -EPROTO},
    {SAYS("[]"), true, -EPROTO},
    {SAYS("{\"parameters\":[]}"), true, -EPROTO},
    {SAYS("{\"error\":\"\\u001b[2J\"}"), true, -EPROTO},
    {SAYS("{\"error\":\"a.b.C\"}"), true, -EREMOTEIO},
    {SAYS("{}"), true, 0},
};

static void test_ask_impostors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof impostors / sizeof impostors[0]; i++) {
        struct impostor impostor = {
            .text = impostors[i].text, .size = impostors[i].size, .stays = impostors[i].stays};
        struct json_object *reply = NULL;
        struct failure failure;

        start_impostor(&impostor);
        assert_int_equal(ask("GetStatus", SHORTLY, &reply, &failure), impostors[i].result);
        end_impostor(&impostor);
        json_object_put(reply);
    }
}

static void test_ask_endless(void **state)
{
    static char text[1 << 20];
    struct impostor impostor = {.text = text, .size = sizeof text, .stays = true};
    struct json_object *reply = NULL;
    struct failure failure;

    (void)state;
    memset(text, ' ', sizeof text);
    start_impostor(&impostor);
    assert_int_equal(ask("GetStatus", PATIENCE, &reply, &failure), -EPROTO);
    end_impostor(&impostor);
}

/* ---- watching ---- */

struct seen {
    int count, stop_at;
    int end_fd;
    char last[64];
};

static int see(void *opaque, struct json_object *event)
{
    struct seen *seen = opaque;

    snprintf(seen->last, sizeof seen->last, "%s", json_text(event, "event"));
    if (++seen->count == 1 && seen->end_fd >= 0)
        eventfd_write(seen->end_fd, 1);
    return seen->count == seen->stop_at ? 42 : 0;
}

static int watch(struct seen *seen, int cancel_fd, struct failure *failure)
{
    struct deadline deadline = deadline_after(DEADLINE_NEVER, cancel_fd);

    *failure = (struct failure){0};
    return agent_watch_in(agent_folder, AGENT_INDEX, &deadline, see, seen, failure);
}

static void test_watch_until_enough(void **state)
{
    struct seen seen = {.stop_at = 1, .end_fd = -1};
    struct failure failure;
    struct agent agent;

    (void)state;
    start_agent(&agent);
    assert_int_equal(watch(&seen, -1, &failure), 42);
    assert_string_equal(seen.last, "watching");
    end_agent(&agent);
}

static void test_watch_until_cancelled(void **state)
{
    struct seen seen = {.end_fd = eventfd(0, EFD_CLOEXEC)};
    struct failure failure;
    struct agent agent;

    (void)state;
    start_agent(&agent);
    assert_int_equal(watch(&seen, seen.end_fd, &failure), -ECANCELED);
    assert_int_equal(seen.count, 1);
    end_agent(&agent);
    close(seen.end_fd);
}

#define EVENT(name, more) "{\"parameters\":{\"event\":{\"event\":\"" name "\"}}" more "}"

static void test_watch_until_the_end(void **state)
{
    static const char two[] = EVENT("a", ",\"continues\":true") "\0" EVENT("b", ",\"continues\":true");
    static const char last[] = EVENT("a", ",\"continues\":true") "\0" EVENT("b", "") "\0" EVENT("c", "");
    struct impostor ends = {.text = two, .size = sizeof two};
    struct impostor stays = {.text = last, .size = sizeof last, .stays = true};
    struct seen seen = {.end_fd = -1};
    struct failure failure;

    (void)state;
    start_impostor(&ends);
    assert_int_equal(watch(&seen, -1, &failure), 0);
    end_impostor(&ends);
    assert_int_equal(seen.count, 2);
    seen.count = 0;
    start_impostor(&stays);
    assert_int_equal(watch(&seen, -1, &failure), 0);
    end_impostor(&stays);
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.last, "b");
}

static void test_watch_nonsense(void **state)
{
    static const char no_event[] = "{\"parameters\":{\"event\":\"a\"},\"continues\":true}";
    struct impostor impostor = {.text = no_event, .size = sizeof no_event, .stays = true};
    struct seen seen = {.end_fd = -1};
    struct failure failure;

    (void)state;
    start_impostor(&impostor);
    assert_int_equal(watch(&seen, -1, &failure), -EPROTO);
    end_impostor(&impostor);
    assert_int_equal(seen.count, 0);
}

/* ---- the status object ---- */

static int parse_view(const char *text, struct agent_view *view)
{
    struct json_object *object = json_tokener_parse(text);
    int r = agent_view_parse(object, view);

    json_object_put(object);
    return r;
}

static void test_view(void **state)
{
    static const char *const bad[] = {
        "null",
        "[]",
        "{}",
        "{\"state\":\"up\"}",
        "{\"state\":\"fine\",\"agent_pid\":1}",
        "{\"state\":1,\"agent_pid\":1}",
        "{\"state\":\"up\",\"agent_pid\":0}",
        "{\"state\":\"up\",\"agent_pid\":-1}",
        "{\"state\":\"up\",\"agent_pid\":4294967297}",
        "{\"state\":\"up\",\"agent_pid\":\"1\"}",
    };
    struct agent_view view;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(parse_view(bad[i], &view), -EPROTO);
    assert_int_equal(parse_view("{\"state\":\"reconnecting\",\"agent_pid\":12,\"reconnects\":3,"
                                "\"outage_seconds\":1.5,\"last_error\":\"e\",\"uri\":\"nbd://h\"}",
                                &view),
                     0);
    assert_int_equal(view.link, AGENT_LINK_RECONNECTING);
    assert_int_equal(view.pid, 12);
    assert_int_equal(view.reconnects, 3);
    assert_true(view.outage_seconds == 1.5);
    assert_string_equal(view.last_error, "e");
    assert_string_equal(view.uri, "nbd://h");
    agent_view_clear(&view);
    assert_int_equal(parse_view("{\"state\":\"down\",\"agent_pid\":12,\"reconnects\":-3,"
                                "\"outage_seconds\":1e999,\"last_error\":null,\"uri\":7}",
                                &view),
                     0);
    assert_int_equal(view.reconnects, 0);
    assert_true(view.outage_seconds == 0 && !view.last_error && !view.uri);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ask),
        cmocka_unit_test(test_ask_nobody),
        cmocka_unit_test(test_ask_too_many),
        cmocka_unit_test(test_ask_impostors),
        cmocka_unit_test(test_ask_endless),
        cmocka_unit_test(test_watch_until_enough),
        cmocka_unit_test(test_watch_until_cancelled),
        cmocka_unit_test(test_watch_until_the_end),
        cmocka_unit_test(test_watch_nonsense),
        cmocka_unit_test(test_view),
    };

    return cmocka_run_group_tests(tests, agent_socket_create, agent_socket_remove);
}
