/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands/content.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"

#define ANSWER_MAX 1024

extern char **environ;

/* A file of its own, since file(1) looks at more than the bytes (its size, that it can seek). */
static int make_file(const uint8_t *bytes, size_t size)
{
    _cleanup_close_ int fd = memfd_create("content", MFD_CLOEXEC);

    if (fd < 0)
        return -1;
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);

        if (n < 0)
            return -1;
        bytes += n;
        size -= (size_t)n;
    }
    return lseek(fd, 0, SEEK_SET) < 0 ? -1 : steal_fd(&fd);
}

static pid_t spawn_file(int input, int output)
{
    char *argv[] = {(char[]){"file"}, (char[]){"-b"}, (char[]){"-"}, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int r;

    if (posix_spawn_file_actions_init(&actions) != 0)
        return -1;
    posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    r = posix_spawnp(&pid, "file", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return r == 0 ? pid : -1;
}

/* The first line of what comes; "" when nothing does. */
static void read_line(int fd, char *line, size_t size, const struct deadline *deadline)
{
    size_t have = 0;

    while (have < size - 1 && deadline_poll(deadline, fd, POLLIN) > 0) {
        ssize_t n = read(fd, line + have, size - 1 - have);

        if (n <= 0)
            break;
        have += (size_t)n;
    }
    line[have] = '\0';
    line[strcspn(line, "\n")] = '\0';
}

char *content_guess(const uint8_t *bytes, size_t size, const struct deadline *deadline)
{
    _cleanup_close_ int input = make_file(bytes, size);
    char line[ANSWER_MAX];
    int output[2];
    pid_t pid;

    if (input < 0 || pipe2(output, O_CLOEXEC) < 0)
        return NULL;
    pid = spawn_file(input, output[1]);
    close(output[1]);
    if (pid < 0) {
        close(output[0]);
        return NULL;
    }
    read_line(output[0], line, sizeof line, deadline);
    close(output[0]);
    kill(pid, SIGKILL); /* it has said all we want; a child not reaped keeps its pid */
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return line[0] ? strdup(line) : NULL;
}
