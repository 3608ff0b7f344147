/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a fuzz target over a folder of inputs: what was once found stays found. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX (1u << 20)

static int replay(const char *folder, const char *name)
{
    _cleanup_free_ char *path = NULL;
    _cleanup_free_ uint8_t *data = malloc(INPUT_MAX);
    _cleanup_fclose_ FILE *file = NULL;
    uint8_t *exact;
    size_t size;

    if (!data || asprintf(&path, "%s/%s", folder, name) < 0)
        return -1;
    file = fopen(path, "re");
    if (!file)
        return -1;
    size = fread(data, 1, INPUT_MAX, file);
    /* A block of just this size, so that the sanitizers see one byte too far. */
    exact = malloc(size ? size : 1);
    if (!exact)
        return -1;
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 0;
}

int main(int argc, char **argv)
{
    DIR *dir = argc > 1 ? opendir(argv[1]) : NULL;
    const struct dirent *entry;
    unsigned count = 0;

    if (!dir) {
        fprintf(stderr, "%s: cannot read the corpus\n", argc > 1 ? argv[1] : "no folder");
        return 1;
    }
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        if (replay(argv[1], entry->d_name) < 0) {
            fprintf(stderr, "%s/%s: cannot be read\n", argv[1], entry->d_name);
            return 1;
        }
        count++;
    }
    closedir(dir);
    printf("%u inputs\n", count);
    return count > 0 ? 0 : 1;
}
