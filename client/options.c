/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "options.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "output.h"

#define OPTIONS_MAX 64
#define ID_HELP     10000
#define HELP_COLUMN 30

static const struct option_spec global_options[] = {
    {ID_HELP, "help", NULL, "show this help", 'h'},
    {ID_HELP + 1, "verbose", NULL, "say on stderr what is being done", 'v'},
    {ID_HELP + 2, "quiet", NULL, "errors only", 'q'},
    {0},
};

struct getopt_tables {
    struct option longs[OPTIONS_MAX + 1];
    char shorts[2 * OPTIONS_MAX + 2];
    size_t long_count, short_count;
};

/* "[QUERY]": may be left out. */
static int argument_kind(const struct option_spec *option)
{
    if (!option->argument)
        return no_argument;
    return option->argument[0] == '[' ? optional_argument : required_argument;
}

static void add_options(struct getopt_tables *tables, const struct option_spec *options)
{
    for (; options->id && tables->long_count < OPTIONS_MAX; options++) {
        tables->longs[tables->long_count++] =
            (struct option){options->name, argument_kind(options), NULL, options->id};
        if (!options->letter)
            continue;
        tables->shorts[tables->short_count++] = options->letter;
        if (argument_kind(options) == required_argument)
            tables->shorts[tables->short_count++] = ':';
    }
}

static void make_tables(const struct command *command, struct getopt_tables *tables)
{
    *tables = (struct getopt_tables){0};
    tables->shorts[tables->short_count++] = ':'; /* we word the errors ourselves */
    add_options(tables, global_options);
    for (size_t g = 0; g < OPTION_GROUPS_MAX && command->groups[g]; g++)
        add_options(tables, command->groups[g]->options);
}

static const struct option_spec *find(const struct option_spec *options, int found)
{
    for (; options->id; options++)
        if (options->id == found || (options->letter && options->letter == found))
            return options;
    return NULL;
}

/* Short options come back as their letter, long ones as their id: ids start above all letters. */
static int set_option(const struct command *command, void *into, int found, struct failure *failure)
{
    for (size_t g = 0; g < OPTION_GROUPS_MAX && command->groups[g]; g++) {
        const struct option_group *group = command->groups[g];
        const struct option_spec *option = find(group->options, found);

        if (option)
            return group->set((char *)into + group->offset, option->id, option->argument ? optarg : NULL,
                              failure);
    }
    return 0;
}

static int usage_error(const struct command *command)
{
    if (!globals.quiet)
        fprintf(stderr, "nbdctl: try 'nbdctl %s --help'\n", command->name);
    return EXIT_STATUS_USAGE;
}

static int check_count(const struct command *command, int count, char **arguments)
{
    if (count < command->arguments_min)
        print_error("%s: %s is missing", command->name, command->arguments);
    else if (command->arguments_max >= 0 && count > command->arguments_max)
        print_error("%s: argument '%s' is one too many", command->name, arguments[command->arguments_max]);
    else
        return EXIT_STATUS_DONE;
    return usage_error(command);
}

static bool set_global(const struct command *command, int found, bool *help)
{
    const struct option_spec *option = find(global_options, found);

    if (!option)
        return false;
    if (option->id == ID_HELP) {
        options_print_help(command);
        *help = true;
    }
    globals.verbose |= option->letter == 'v';
    globals.quiet |= option->letter == 'q';
    return true;
}

static void print_bad_option(const struct command *command, int found, const char *word)
{
    const char *what = found == ':'         ? "needs an argument"
                       : optopt > UCHAR_MAX ? "takes no argument"
                                            : "is unknown";

    /* A letter may stand in the middle of its word; optind is behind that only at its end. */
    if (optopt > 0 && optopt <= UCHAR_MAX)
        print_error("%s: option '-%c' %s", command->name, optopt, what);
    else
        print_error("%s: option '%s' %s", command->name, word, what);
}

enum options_result options_parse(const struct command *command, int argc, char **argv, void *into,
                                  char ***arguments, int *count, int *status)
{
    struct getopt_tables tables;
    struct failure failure = {0};
    bool help = false;
    int found;

    make_tables(command, &tables);
    optind = 0; /* glibc: start over */
    opterr = 0;
    *status = EXIT_STATUS_DONE;
    while ((found = getopt_long(argc, argv, tables.shorts, tables.longs, NULL)) != -1) {
        if (found == '?' || found == ':') {
            print_bad_option(command, found, argv[optind - 1]);
            *status = usage_error(command);
            return OPTIONS_EXIT;
        }
        if (set_global(command, found, &help)) {
            if (help)
                return OPTIONS_EXIT;
            continue;
        }
        if (set_option(command, into, found, &failure) < 0) {
            fail_within(&failure, 0, "%s", command->name);
            print_failure(&failure);
            *status = usage_error(command);
            return OPTIONS_EXIT;
        }
    }
    *arguments = argv + optind;
    *count = argc - optind;
    *status = check_count(command, *count, *arguments);
    return *status == EXIT_STATUS_DONE ? OPTIONS_RUN : OPTIONS_EXIT;
}

static void print_option(const struct option_spec *option)
{
    char left[80];
    const char *help = option->help;
    int width;

    width = snprintf(left, sizeof left, "  %c%c%c --%s%s%s", option->letter ? '-' : ' ',
                     option->letter ? option->letter : ' ', option->letter ? ',' : ' ', option->name,
                     option->argument ? " " : "", option->argument ? option->argument : "");
    printf("%s", left);
    if (width >= HELP_COLUMN - 1) {
        printf("\n");
        width = 0;
    }
    for (;;) {
        size_t line = strcspn(help, "\n");

        printf("%*s%.*s\n", HELP_COLUMN - width, "", (int)line, help);
        if (help[line] == '\0')
            return;
        help += line + 1;
        width = 0;
    }
}

static void print_options(const char *title, const struct option_spec *options)
{
    printf("\n%s:\n", title);
    for (; options->id; options++)
        print_option(options);
}

void options_print_help(const struct command *command)
{
    printf("Usage: nbdctl %s [OPTIONS]%s%s\n\n%s.\n", command->name, command->arguments[0] ? " " : "",
           command->arguments, command->summary);
    if (command->details)
        printf("\n%s\n", command->details);
    for (size_t g = 0; g < OPTION_GROUPS_MAX && command->groups[g]; g++)
        print_options(command->groups[g]->title, command->groups[g]->options);
    print_options("Options of every command", global_options);
    printf(
        "\nExit status: 0 done; 1 failed; 2 wrong usage; 3 bitmap missing or lost; 4 not the same disk.\n");
}
