/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/* What GnuTLS may want for a change of keys, many times over. */
#define HEAP_SIZE  262144
#define STACK_USED (PROCESS_STACK_SIZE / 4)

static void ignore_signals(void)
{
    static const int signals[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGPIPE,
                                  SIGALRM, SIGUSR1, SIGUSR2, SIGTSTP};
    sigset_t none;

    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        signal(signals[i], SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The lowest descriptor to keep that is not below from; INT_MAX: none. */
static int next_kept(const int *kept, size_t count, int from)
{
    int lowest = INT_MAX;

    for (size_t i = 0; i < count; i++)
        if (kept[i] >= from && kept[i] < lowest)
            lowest = kept[i];
    return lowest;
}

static int close_others(const int *kept, size_t count)
{
    int from = 0;

    for (;;) {
        int next = next_kept(kept, count, from);

        if (next > from && close_range((unsigned)from, (unsigned)next - 1, 0) < 0)
            return -errno;
        if (next == INT_MAX)
            return 0;
        from = next + 1;
    }
}

/* So that nothing that is opened later becomes somebody's standard output. */
static void fill_standard_streams(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int process_detach(const char *name, const int *kept, size_t count)
{
    prctl(PR_SET_NAME, name);
    ignore_signals();
    umask(077);
    if (chdir("/") < 0 || close_others(kept, count) < 0)
        return -errno;
    fill_standard_streams();
    return 0;
}

/* Of a machine without memory the last process to go; where that may not be said it is one among others. */
static void protect_from_oom(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (write(fd, "-1000", strlen("-1000")) < 0) {
        /* a container without CAP_SYS_RESOURCE */
    }
    close(fd);
}

/* What the heap has it keeps, and asks the kernel for no more. */
static void tame_heap(void)
{
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    mallopt(M_TOP_PAD, HEAP_SIZE);
#endif
}

void process_prefault(void)
{
    volatile char stack[STACK_USED];
    void *heap = malloc(HEAP_SIZE);

    for (size_t i = 0; i < sizeof stack; i += 1024)
        stack[i] = 0;
    /* So that the compiler believes that somebody looks. */
    if (heap)
        explicit_bzero(heap, HEAP_SIZE);
    free(heap);
}

/* Memory for us must not be won by writing to the disk that we carry or bring back. */
static void become_io_flusher(struct failure *weakness)
{
    if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0 && errno != EINVAL) /* EINVAL: before Linux 5.6 */
        fail_hint(weakness, fail(weakness, errno, "cannot become an I/O flusher: %s", strerror(errno)),
                  "allow CAP_SYS_RESOURCE");
}

void process_harden(struct failure *weakness)
{
    const struct rlimit none = {0, 0};

    protect_from_oom();
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0); /* keys are in our memory */
    tame_heap();
    become_io_flusher(weakness);
    process_prefault();
}

void process_lock_memory(struct failure *weakness)
{
    const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};

    setrlimit(RLIMIT_MEMLOCK, &unlimited); /* when it is refused, mlockall(2) knows whether it matters */
    if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
        fail_hint(weakness, fail(weakness, errno, "cannot lock its memory: %s", strerror(errno)),
                  "allow CAP_IPC_LOCK");
}

/* The first child only makes the second one nobody's: it outlives us, and is not ours to reap. */
pid_t process_split(void)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        setsid();
        child = fork();
        if (child == 0)
            return 0;
        _exit(child < 0);
    }
    if (child < 0)
        return -errno;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? child : -EAGAIN;
}

bool process_hear(int fd, void *report, size_t size)
{
    ssize_t n;

    do
        n = read(fd, report, size);
    while (n < 0 && errno == EINTR);
    return n >= 0 && (size_t)n == size;
}

bool process_is(pid_t pid, const char *name)
{
    char path[32], found[32] = "";
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    file = fopen(path, "re");
    if (!file)
        return false;
    if (!fgets(found, sizeof found, file))
        found[0] = '\0';
    fclose(file);
    found[strcspn(found, "\n")] = '\0';
    return strcmp(found, name) == 0;
}

void process_small_stacks(void)
{
    pthread_attr_t attributes;

    if (pthread_attr_init(&attributes) != 0)
        return;
    if (pthread_attr_setstacksize(&attributes, (size_t)2 * PROCESS_STACK_SIZE) == 0)
        pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}
