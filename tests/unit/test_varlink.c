/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Varlink as bytes: framing, calls, what is refused, and the answers of org.varlink.service. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/varlink.h"
#include "agent/varlink_service.h"

#include "cmocka_all.h"

#define SERVICE "org.varlink.service."
#define DEVICE  DEVICE_INTERFACE "."

/* ---- framing ---- */

static void expect_message(struct varlink_input *input, const char *expected)
{
    const char *message;
    size_t size;

    assert_int_equal(varlink_input_next(input, &message, &size), 1);
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(message, expected, size);
}

static void expect_none(struct varlink_input *input)
{
    const char *message;
    size_t size;

    assert_int_equal(varlink_input_next(input, &message, &size), 0);
}

static void test_split(void **state)
{
    static const char bytes[] = "{\"a\":1}";
    struct varlink_input input = {0};

    (void)state;
    expect_none(&input);
    for (size_t i = 0; i < sizeof bytes; i++) {
        expect_none(&input);
        assert_int_equal(varlink_input_add(&input, bytes + i, 1), 0);
        assert_true(varlink_input_partial(&input));
    }
    expect_message(&input, bytes);
    expect_none(&input);
    assert_false(varlink_input_partial(&input));
    varlink_input_clear(&input);
}

static void test_several_at_once(void **state)
{
    static const char bytes[] = "{}\0\0[1]\0{\"b";
    struct varlink_input input = {0};

    (void)state;
    assert_int_equal(varlink_input_add(&input, bytes, sizeof bytes - 1), 0);
    expect_message(&input, "{}");
    expect_message(&input, "");
    expect_message(&input, "[1]");
    expect_none(&input);
    assert_true(varlink_input_partial(&input));
    assert_int_equal(varlink_input_add(&input, "\":2}\0", 5), 0);
    expect_message(&input, "{\"b\":2}");
    expect_none(&input);
    varlink_input_clear(&input);
}

static void test_longest(void **state)
{
    static char longest[VARLINK_MESSAGE_MAX];
    struct varlink_input input = {0};
    const char *message;
    size_t size;

    (void)state;
    memset(longest, ' ', sizeof longest - 1);
    assert_int_equal(varlink_input_add(&input, longest, sizeof longest - 1), 0);
    expect_none(&input);
    assert_int_equal(varlink_input_add(&input, "\0{}", 4), 0);
    expect_message(&input, longest);
    expect_message(&input, "{}");
    assert_int_equal(varlink_input_add(&input, longest, sizeof longest - 1), 0);
    expect_none(&input);
    assert_int_equal(varlink_input_add(&input, " ", 1), 0);
    assert_int_equal(varlink_input_next(&input, &message, &size), -EMSGSIZE);
    varlink_input_clear(&input);
}

static void test_input_is_bounded(void **state)
{
    static const char block[VARLINK_MESSAGE_MAX] = {' '};
    struct varlink_input input = {0};

    (void)state;
    assert_int_equal(varlink_input_add(&input, block, sizeof block), 0);
    assert_int_equal(varlink_input_add(&input, block, 1), 0);
    assert_int_equal(varlink_input_add(&input, block, 1), -EMSGSIZE);
    varlink_input_clear(&input);
}

/* ---- calls ---- */

static int parse(const char *text, struct varlink_call *call, const char **wrong)
{
    return varlink_call_parse(text, strlen(text), call, wrong);
}

static void test_call(void **state)
{
    struct varlink_call call;
    const char *wrong;

    (void)state;
    assert_int_equal(
        parse(" {\"method\":\"a.b.C\",\"parameters\":{\"x\":1},\"more\":true,\"com.example\":{}}\n", &call,
              &wrong),
        0);
    assert_string_equal(call.method, "a.b.C");
    assert_int_equal(json_object_object_length(call.parameters), 1);
    assert_true(call.more && !call.oneway && !call.upgrade);
    varlink_call_clear(&call);
    assert_int_equal(
        parse("{\"method\":\"a.B\",\"parameters\":null,\"more\":null,\"oneway\":true,\"upgrade\":true}",
              &call, &wrong),
        0);
    assert_int_equal(json_object_object_length(call.parameters), 0);
    assert_true(!call.more && call.oneway && call.upgrade);
    varlink_call_clear(&call);
}

static const struct {
    const char *text, *wrong;
} bad_calls[] = {
    {"", "message"},
    {"x", "message"},
    {"{", "message"},
    {"}", "message"},
    {"{}}", "message"},
    {"[]", "message"},
    {"1", "message"},
    {"null", "message"},
    {"\"text\"", "message"},
    {"{\"method\":\"a.B\"} x", "message"},
    {"{\"method\":\"a.B\"}{}", "message"},
    {"{'method':'a.B'}", "message"},
    {"{\"method\":\"a.B\"/* why */}", "message"},
    {"{\"method\":\"a.B\",}", "message"},
    {"{\"method\":\"a.B\",\"parameters\":{\"x\":NaN}}", "message"},
    {"{\"method\":\"a.B\",\"parameters\":{\"x\":-Infinity}}", "message"},
    {"{\"method\":\"a.\xff\"}", "message"},
    {"{\"method\":\"a.B", "message"},
    {"{}", "method"},
    {"{\"method\":null}", "method"},
    {"{\"method\":1}", "method"},
    {"{\"method\":\"\"}", "method"},
    {"{\"method\":\"GetStatus\"}", "method"},
    {"{\"method\":\".GetStatus\"}", "method"},
    {"{\"method\":\"a.\"}", "method"},
    {"{\"method\":\"a.B\\u0000\"}", "method"},
    {"{\"method\":\"a.B\\n\"}", "method"},
    {"{\"method\":\"a.B\",\"parameters\":[]}", "parameters"},
    {"{\"method\":\"a.B\",\"parameters\":\"x\"}", "parameters"},
    {"{\"method\":\"a.B\",\"more\":1}", "more"},
    {"{\"method\":\"a.B\",\"oneway\":\"true\"}", "oneway"},
    {"{\"method\":\"a.B\",\"upgrade\":{}}", "upgrade"},
};

static void test_bad_calls(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_calls / sizeof bad_calls[0]; i++) {
        struct varlink_call call;
        const char *wrong = NULL;

        assert_int_equal(parse(bad_calls[i].text, &call, &wrong), -EBADMSG);
        if (strcmp(wrong, bad_calls[i].wrong) != 0)
            print_error("%s: %s\n", bad_calls[i].text, wrong);
        assert_string_equal(wrong, bad_calls[i].wrong);
        assert_null(call.method);
        assert_null(call.parameters);
        varlink_call_clear(&call);
    }
}

/* Who wants no answer gets none, also to what cannot be understood otherwise. */
static void test_bad_oneway(void **state)
{
    struct varlink_call call;
    const char *wrong;

    (void)state;
    assert_int_equal(parse("{\"oneway\":true,\"method\":1}", &call, &wrong), -EBADMSG);
    assert_true(call.oneway);
    varlink_call_clear(&call);
}

static void test_long_method(void **state)
{
    char text[VARLINK_NAME_MAX + 32], name[VARLINK_NAME_MAX + 2] = "a.";
    struct varlink_call call;
    const char *wrong;

    (void)state;
    memset(name + 2, 'x', VARLINK_NAME_MAX - 2);
    snprintf(text, sizeof text, "{\"method\":\"%s\"}", name);
    assert_int_equal(parse(text, &call, &wrong), 0);
    varlink_call_clear(&call);
    name[VARLINK_NAME_MAX] = 'x';
    snprintf(text, sizeof text, "{\"method\":\"%s\"}", name);
    assert_int_equal(parse(text, &call, &wrong), -EBADMSG);
    assert_string_equal(wrong, "method");
}

/* {"method":"a.B","parameters":{"x":[[...]]}}, depth brackets deep in all. */
static int parse_deep(size_t depth)
{
    char text[256] = "{\"method\":\"a.B\",\"parameters\":{\"x\":";
    struct varlink_call call;
    const char *wrong;
    int r;

    for (size_t i = 2; i < depth; i++)
        strcat(text, "[");
    strcat(text, depth == 2 ? "1" : "");
    for (size_t i = 2; i < depth; i++)
        strcat(text, "]");
    strcat(text, "}}");
    r = parse(text, &call, &wrong);
    if (r < 0)
        assert_string_equal(wrong, "message");
    varlink_call_clear(&call);
    return r;
}

static void test_depth(void **state)
{
    (void)state;
    assert_int_equal(parse_deep(2), 0);
    assert_int_equal(parse_deep(VARLINK_DEPTH_MAX), 0);
    assert_int_equal(parse_deep(VARLINK_DEPTH_MAX + 1), -EBADMSG);
}

/* 64 KiB of empty objects would become 20 MiB. */
static int parse_wide(size_t values)
{
    static char text[VARLINK_MESSAGE_MAX];
    struct varlink_call call;
    const char *wrong;
    int r;

    strcpy(text, "{\"method\":\"a.B\",\"parameters\":{\"x\":[{}");
    for (size_t i = 0; i < values; i++)
        memcpy(text + strlen("{\"method\":\"a.B\",\"parameters\":{\"x\":[{}") + 3 * i, ",{}", 4);
    strcat(text, "]}}");
    r = parse(text, &call, &wrong);
    varlink_call_clear(&call);
    return r;
}

static void test_values(void **state)
{
    (void)state;
    assert_int_equal(parse_wide(VARLINK_VALUES_MAX / 2 - 8), 0);
    assert_int_equal(parse_wide(VARLINK_VALUES_MAX / 2), -EBADMSG);
    assert_int_equal(parse_wide(20000), -EBADMSG);
}

/* Brackets and commas in a text are text. */
static void test_values_in_text(void **state)
{
    static char text[VARLINK_MESSAGE_MAX];
    size_t size;
    struct varlink_call call;
    const char *wrong;

    (void)state;
    strcpy(text, "{\"method\":\"a.B\",\"parameters\":{\"x\":\"\\\"");
    size = strlen(text);
    memset(text + size, '[', 20000);
    strcpy(text + size + 20000, "\"}}");
    assert_int_equal(parse(text, &call, &wrong), 0);
    varlink_call_clear(&call);
}

/* ---- replies ---- */

static void test_reply(void **state)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{\"parameters\":1}",
        "{\"continues\":1}",
        "{\"error\":1}",
        "{\"error\":\"\"}",
        "{\"error\":\"Nonsense\"}",
        "{\"error\":\"a.\\u001b[31m\"}",
    };
    struct varlink_reply reply;

    (void)state;
    assert_int_equal(varlink_reply_parse("{}", 2, &reply), 0);
    assert_true(reply.parameters && !reply.error && !reply.continues);
    varlink_reply_clear(&reply);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(varlink_reply_parse(bad[i], strlen(bad[i]), &reply), -EBADMSG);
}

static void expect_text(struct json_object *message, const char *expected)
{
    size_t size;
    const char *text = varlink_message(message, &size);

    assert_int_equal(size, strlen(text) + 1);
    assert_string_equal(text, expected);
    json_object_put(message);
}

static void test_messages(void **state)
{
    (void)state;
    expect_text(varlink_call_new("a.B", NULL, false), "{\"parameters\":{},\"method\":\"a.B\"}");
    expect_text(varlink_call_new("a.B", NULL, true), "{\"parameters\":{},\"method\":\"a.B\",\"more\":true}");
    expect_text(varlink_reply_new(NULL, false), "{\"parameters\":{}}");
    expect_text(varlink_reply_new(NULL, true), "{\"parameters\":{},\"continues\":true}");
    expect_text(varlink_error_new("a.E", NULL, NULL), "{\"error\":\"a.E\",\"parameters\":{}}");
    expect_text(varlink_error_new("a.E", "x", "/\x01"),
                "{\"error\":\"a.E\",\"parameters\":{\"x\":\"/\\u0001\"}}");
}

/* ---- what is answered without the device ---- */

static enum device_method route(const char *text, struct json_object **answer)
{
    struct varlink_call call;
    const char *wrong;
    enum device_method method;

    assert_int_equal(parse(text, &call, &wrong), 0);
    method = varlink_route(&call, answer);
    varlink_call_clear(&call);
    return method;
}

static const struct {
    const char *call, *answer;
} answers[] = {
    {"{\"method\":\"io.nothing.X\"}",
     "{\"error\":\"" SERVICE "InterfaceNotFound\",\"parameters\":{\"interface\":\"io.nothing\"}}"},
    {"{\"method\":\"" DEVICE "Explode\"}",
     "{\"error\":\"" SERVICE "MethodNotFound\",\"parameters\":{\"method\":\"" DEVICE "Explode\"}}"},
    {"{\"method\":\"" SERVICE "Explode\"}",
     "{\"error\":\"" SERVICE "MethodNotFound\",\"parameters\":{\"method\":\"" SERVICE "Explode\"}}"},
    {"{\"method\":\"" DEVICE "GetStatus\",\"upgrade\":true}",
     "{\"error\":\"" SERVICE "MethodNotImplemented\",\"parameters\":{\"method\":\"" DEVICE "GetStatus\"}}"},
    {"{\"method\":\"" DEVICE "GetStatus\",\"parameters\":{\"x\":1}}",
     "{\"error\":\"" SERVICE "InvalidParameter\",\"parameters\":{\"parameter\":\"x\"}}"},
    {"{\"method\":\"" SERVICE "GetInfo\",\"parameters\":{\"y\":[]}}",
     "{\"error\":\"" SERVICE "InvalidParameter\",\"parameters\":{\"parameter\":\"y\"}}"},
    {"{\"method\":\"" DEVICE "Watch\"}", "{\"error\":\"" SERVICE "ExpectedMore\",\"parameters\":{}}"},
    {"{\"method\":\"" SERVICE "GetInterfaceDescription\"}",
     "{\"error\":\"" SERVICE "InvalidParameter\",\"parameters\":{\"parameter\":\"interface\"}}"},
    {"{\"method\":\"" SERVICE "GetInterfaceDescription\",\"parameters\":{\"interface\":1}}",
     "{\"error\":\"" SERVICE "InvalidParameter\",\"parameters\":{\"parameter\":\"interface\"}}"},
    {"{\"method\":\"" SERVICE "GetInterfaceDescription\",\"parameters\":{\"interface\":\"a.b\"}}",
     "{\"error\":\"" SERVICE "InterfaceNotFound\",\"parameters\":{\"interface\":\"a.b\"}}"},
};

static void test_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct json_object *answer;

        assert_int_equal(route(answers[i].call, &answer), DEVICE_NONE);
        expect_text(answer, answers[i].answer);
    }
}

static void test_device_methods(void **state)
{
    struct json_object *answer;

    (void)state;
    assert_int_equal(route("{\"method\":\"" DEVICE "GetStatus\"}", &answer), DEVICE_GET_STATUS);
    assert_null(answer);
    assert_int_equal(route("{\"method\":\"" DEVICE "GetStatus\",\"parameters\":{\"x\":null}}", &answer),
                     DEVICE_GET_STATUS);
    assert_int_equal(route("{\"method\":\"" DEVICE "Watch\",\"more\":true}", &answer), DEVICE_WATCH);
    assert_int_equal(route("{\"method\":\"" DEVICE "Stop\",\"parameters\":{}}", &answer), DEVICE_STOP);
}

/* A long name must not make a long answer. */
static void test_long_parameter(void **state)
{
    static char text[VARLINK_MESSAGE_MAX];
    struct json_object *answer;
    size_t size;

    (void)state;
    strcpy(text, "{\"method\":\"" DEVICE "Stop\",\"parameters\":{\"");
    size = strlen(text);
    memset(text + size, 1 + ' ', 60000);
    strcpy(text + size + 60000, "\":1}}");
    assert_int_equal(route(text, &answer), DEVICE_NONE);
    expect_text(answer,
                "{\"error\":\"" SERVICE "InvalidParameter\",\"parameters\":{\"parameter\":\"parameters\"}}");
}

static struct json_object *answer_to(const char *text)
{
    struct json_object *answer, *parameters = NULL;

    assert_int_equal(route(text, &answer), DEVICE_NONE);
    assert_true(json_object_object_get_ex(answer, "parameters", &parameters));
    json_object_get(parameters);
    json_object_put(answer);
    return parameters;
}

static void test_introspection(void **state)
{
    struct json_object *info = answer_to("{\"method\":\"" SERVICE "GetInfo\"}");
    struct json_object *interfaces = NULL;

    (void)state;
    assert_true(json_object_object_get_ex(info, "interfaces", &interfaces));
    assert_int_equal(json_object_array_length(interfaces), 2);
    for (size_t i = 0; i < 2; i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(interfaces, i));
        struct json_object *reply, *description;
        char text[256];

        snprintf(text, sizeof text,
                 "{\"method\":\"" SERVICE "GetInterfaceDescription\",\"parameters\":{\"interface\":\"%s\"}}",
                 name);
        reply = answer_to(text);
        assert_true(json_object_object_get_ex(reply, "description", &description));
        snprintf(text, sizeof text, "\ninterface %s\n", name);
        assert_non_null(strstr(json_object_get_string(description), text));
        json_object_put(reply);
    }
    json_object_put(info);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),          cmocka_unit_test(test_several_at_once),
        cmocka_unit_test(test_longest),        cmocka_unit_test(test_input_is_bounded),
        cmocka_unit_test(test_call),           cmocka_unit_test(test_bad_calls),
        cmocka_unit_test(test_bad_oneway),     cmocka_unit_test(test_long_method),
        cmocka_unit_test(test_depth),          cmocka_unit_test(test_values),
        cmocka_unit_test(test_values_in_text), cmocka_unit_test(test_reply),
        cmocka_unit_test(test_messages),       cmocka_unit_test(test_answers),
        cmocka_unit_test(test_device_methods), cmocka_unit_test(test_long_parameter),
        cmocka_unit_test(test_introspection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
