/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command table and the exit status; nothing else. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands/commands.h"
#include "config.h"
#include "interrupt.h"
#include "options.h"
#include "output.h"

struct globals globals;

const struct command *const commands[] = {
    &command_attach, &command_detach, &command_list, &command_status, &command_watch, &command_info, NULL,
};

static void print_usage(FILE *to)
{
    fprintf(to, "Usage: nbdctl [--verbose|-v] [--quiet|-q] COMMAND [OPTIONS] ARGS\n\n"
                "Attaches remote disks (NBD) as /dev/nbdX.\n\nCommands:\n");
    for (size_t i = 0; commands[i]; i++)
        fprintf(to, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(to, "\n'nbdctl COMMAND --help' tells the options of a command; 'nbdctl --version' which nbdctl "
                "this is.\n");
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; commands[i]; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static int run_command(int argc, char **argv)
{
    const struct command *command = find_command(argv[0]);
    int status;

    if (!command) {
        print_error("'%s' is not a command; see 'nbdctl --help'", argv[0]);
        return EXIT_STATUS_USAGE;
    }
    status = command->run(argc, argv);
    if (finish_output() != EXIT_STATUS_DONE && status == EXIT_STATUS_DONE)
        status = EXIT_STATUS_FAILED;
    if (status != EXIT_STATUS_DONE)
        interrupt_reraise();
    return status;
}

/* Options before the command; returns how many, -1 when the exit status is settled. */
static int global_options(int argc, char **argv, int *status)
{
    int i;

    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--verbose") == 0 || strcmp(argv[i], "-v") == 0) {
            globals.verbose = true;
        } else if (strcmp(argv[i], "--quiet") == 0 || strcmp(argv[i], "-q") == 0) {
            globals.quiet = true;
        } else if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "-V") == 0) {
            printf("nbdctl %s\n", NBDCTL_VERSION);
            *status = finish_output();
            return -1;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_usage(stdout);
            *status = finish_output();
            return -1;
        } else {
            print_error("option '%s' is unknown; see 'nbdctl --help'", argv[i]);
            *status = EXIT_STATUS_USAGE;
            return -1;
        }
    }
    return i - 1;
}

/*
 * A standard descriptor that is missing would be the number of the next socket, and what we print go to the
 * server. Its place is taken by what fails as it would have (EBADF).
 */
static bool hold_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return false;
    return true;
}

int main(int argc, char **argv)
{
    int status = EXIT_STATUS_USAGE;
    int skipped = hold_standard_descriptors() ? global_options(argc, argv, &status) : -1;

    signal(SIGCHLD, SIG_DFL); /* whoever ignores it makes us lose our children's results */
    signal(SIGPIPE, SIG_IGN); /* a reader that went away is a write error like any other */
    if (skipped < 0)
        return status;
    if (1 + skipped >= argc) {
        print_usage(stderr);
        return EXIT_STATUS_USAGE;
    }
    return run_command(argc - 1 - skipped, argv + 1 + skipped);
}
