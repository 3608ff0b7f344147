/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Commands and their options as tables: parsing, --help, and whatever else speaks of options (completions,
 * man pages' tests) read the same lines.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "failure.h"

struct option_spec {
    int id;           /* what set() is given; unique within the command, > 0 */
    const char *name; /* long name */
    const char
        *argument; /* name of its argument in --help, in brackets when it may be left out; NULL: takes none */
    const char *help; /* one line; may break with \n */
    char letter;      /* short name; 0: none */
};

/* A list of options that several commands share; ends with id 0. */
struct option_group {
    const char *title;
    const struct option_spec *options;
    /* argument is NULL for options without one, or where it was left out. -EINVAL with the reason (a usage
     * error). */
    int (*set)(void *into, int id, const char *argument, struct failure *failure);
    size_t offset; /* of what into points to, in the command's own struct */
};

#define OPTION_GROUPS_MAX 4

struct command {
    const char *name;
    const char *arguments;                                /* "URI... [DEVICE]" */
    const char *summary;                                  /* one line */
    const char *details;                                  /* paragraphs for --help; may be NULL */
    const struct option_group *groups[OPTION_GROUPS_MAX]; /* NULL-terminated when fewer */
    int arguments_min, arguments_max;                     /* -1: any number */
    int (*run)(int argc, char **argv); /* the whole command; argv[0] is its name; returns the exit status */
};

struct globals {
    bool verbose;
    bool quiet;
};
extern struct globals globals;

enum options_result {
    OPTIONS_RUN,  /* parsed: go on */
    OPTIONS_EXIT, /* --help was printed: exit with status */
};

/*
 * Parses argv (options before or after arguments) into the command's struct. *arguments is set to the first
 * of the count arguments, which were moved to the end of argv. Prints usage errors itself.
 */
enum options_result options_parse(const struct command *command, int argc, char **argv, void *into,
                                  char ***arguments, int *count, int *status);

/* --help of one command, to stdout. */
void options_print_help(const struct command *command);

/* The commands there are, ended by NULL; defined in main.c. */
extern const struct command *const commands[];
