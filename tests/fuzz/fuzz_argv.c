/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The command line: NUL-separated words. Options are parsed with the real tables; the command itself is not
 * run, since that would be I/O.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands/commands.h"
#include "connection_options.h"
#include "options.h"

#define WORDS_MAX 64

struct globals globals = {.quiet = true};
const struct command *const commands[] = {
    &command_attach, &command_detach, &command_list, &command_status, &command_info, &command_watch, NULL,
};
#define COMMANDS 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void silence(void)
{
    static bool done;

    if (done)
        return;
    done = true;
    if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Larger than any command's own struct; each begins with the shared options. */
    static _Alignas(max_align_t) char into[65536];
    char *argv[WORDS_MAX + 2], **arguments;
    char *text = malloc(size + 1);
    int argc = 1, count, status;
    const struct command *command;

    if (!text || size < 1) {
        free(text);
        return 0;
    }
    silence();
    memset(into, 0, sizeof into);
    memcpy(text, data, size);
    text[size] = '\0';
    command = commands[data[0] % COMMANDS];
    argv[0] = text;
    for (size_t at = 1; at < size && argc <= WORDS_MAX; at += strlen(text + at) + 1)
        argv[argc++] = text + at;
    argv[argc] = NULL;
    if (options_parse(command, argc, argv, into, &arguments, &count, &status) == OPTIONS_RUN)
        for (int i = 0; i < count; i++) {
            struct connection_options connection = CONNECTION_OPTIONS_DEFAULT;
            struct failure failure;
            struct target target = {0};

            if (connection_target(&connection, arguments[i], &target, &failure) == 0)
                target_clear(&target);
        }
    free(text);
    return 0;
}
