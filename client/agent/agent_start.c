/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/log.h"
#include "agent/notify.h"
#include "agent/process.h"
#include "cleanup.h"
#include "deadline.h"

/* The kernel answers at once, unless a driver that is stuck with another device makes it wait. */
#define READY_NS UINT64_C(30000000000)

/* What the new process has to say for itself, in one write. */
struct report {
    int result;
    struct failure failure;
};

struct reporter {
    int fd;
    uint32_t index;
    const struct agent_plan *plan;
    struct failure weakness;
};

/* A unix socket may be another user's. */
static bool needs_files(const struct agent_plan *plan)
{
    for (size_t i = 0; i < plan->endpoints_count; i++)
        if (plan->endpoints[i].target.transport == TARGET_UNIX)
            return true;
    return false;
}

/*
 * RECONFIGURE wants CAP_SYS_ADMIN; a relay that is started later CAP_SYS_RESOURCE and CAP_IPC_LOCK, and
 * CAP_NET_ADMIN for large buffers. root's files in /run and /sys need none.
 */
static void drop_privileges(const struct agent_plan *plan)
{
    const unsigned kept[] = {CAP_SYS_ADMIN, CAP_SYS_RESOURCE, CAP_IPC_LOCK, CAP_NET_ADMIN,
                             needs_files(plan) ? CAP_DAC_OVERRIDE : CAP_SYS_ADMIN};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

    if (syscall(SYS_capget, &header, data) < 0)
        return;
    for (size_t word = 0; word < _LINUX_CAPABILITY_U32S_3; word++) {
        uint32_t mask = 0;

        for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
            if (kept[i] / 32 == word)
                mask |= UINT32_C(1) << kept[i] % 32;
        data[word].effective &= mask;
        data[word].permitted &= mask;
        data[word].inheritable = 0;
    }
    syscall(SYS_capset, &header, data); /* less is better; as it was is no worse */
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* After the process was made known: whoever waits for it need not wait for this. */
static void settle_in(struct reporter *reporter)
{
    process_lock_memory(&reporter->weakness);
    drop_privileges(reporter->plan);
    if (reporter->weakness.text[0])
        agent_log(LOG_PRIORITY_WARNING, reporter->index,
                  "a shortage of memory may keep the agent from reconnecting: it %s",
                  reporter->weakness.text);
}

static void report_ready(void *opaque)
{
    struct reporter *reporter = opaque;
    const struct report report = {0};

    if (write(reporter->fd, &report, sizeof report) != sizeof report)
        agent_log(LOG_PRIORITY_WARNING, reporter->index, "nobody waited for the agent");
    cleanup_close(&reporter->fd);
    settle_in(reporter);
}

static int detach(struct agent_plan *plan, int report_fd)
{
    int kept[NBD_MAX_CONNECTIONS + 3];
    size_t count = 0;

    for (size_t i = 0; i < NBD_MAX_CONNECTIONS; i++)
        if (plan->fds[i] >= 0)
            kept[count++] = plan->fds[i];
    kept[count++] = report_fd;
    agent_log_open(0);
    count += (size_t)agent_log_fds(kept + count);
    return process_detach(AGENT_NAME, kept, count);
}

static _Noreturn void run(struct agent_plan *plan, int report_fd)
{
    struct reporter reporter = {.fd = report_fd, .index = plan->device.index, .plan = plan};
    struct report report = {0};
    int r = detach(plan, report_fd);

    if (r < 0) {
        r = fail(&report.failure, -r, "cannot detach the agent: %s", strerror(-r));
    } else {
        process_harden(&reporter.weakness);
        r = agent_run(plan, report_ready, &reporter, &report.failure);
    }
    report.result = r;
    if (r < 0 && reporter.fd >= 0 && write(reporter.fd, &report, sizeof report) == sizeof report)
        _exit(1);
    if (r < 0)
        agent_log(LOG_PRIORITY_ERROR, reporter.index, "the agent ends: %s", report.failure.text);
    _exit(r < 0);
}

static int read_report(int fd, int cancel_fd, struct failure *failure)
{
    struct deadline deadline = deadline_after(READY_NS, cancel_fd);
    struct report report;
    int r = deadline_poll(&deadline, fd, POLLIN);

    if (r == -ECANCELED)
        return fail(failure, ECANCELED, "interrupted");
    if (r < 0)
        return fail(failure, ETIMEDOUT, "the agent does not start: the kernel's nbd driver may be stuck");
    if (!process_hear(fd, &report, sizeof report))
        return fail(failure, ECHILD, "the agent died before it could start");
    if (report.result < 0)
        *failure = report.failure;
    return report.result;
}

static void forget_sockets(struct agent_plan *plan)
{
    for (size_t i = 0; i < NBD_MAX_CONNECTIONS; i++)
        cleanup_close(&plan->fds[i]);
}

int agent_start(struct agent_plan *plan, struct failure *failure)
{
    int report[2], r;
    pid_t child;

    if (pipe2(report, O_CLOEXEC) < 0)
        return fail(failure, errno, "cannot make a pipe: %s", strerror(errno));
    child = process_split();
    if (child == 0) {
        close(report[0]);
        run(plan, report[1]);
    }
    close(report[1]);
    forget_sockets(plan);
    if (child < 0)
        r = fail(failure, (int)-child, "cannot start a process: %s", strerror((int)-child));
    else
        r = read_report(report[0], plan->cancel_fd, failure);
    close(report[0]);
    return r;
}

struct foreground {
    struct reporter reporter;
    void (*ready)(void *opaque);
    void *opaque;
};

static void foreground_ready(void *opaque)
{
    struct foreground *foreground = opaque;

    foreground->ready(foreground->opaque);
    notify_ready();
    settle_in(&foreground->reporter);
}

int agent_foreground(struct agent_plan *plan, void (*ready)(void *opaque), void *opaque,
                     struct failure *failure)
{
    struct foreground foreground = {
        .reporter = {.fd = -1, .index = plan->device.index, .plan = plan}, .ready = ready, .opaque = opaque};

    if (chdir("/") < 0) /* a folder that we stay in cannot be unmounted */
        return fail(failure, errno, "cannot change to /: %s", strerror(errno));

    prctl(PR_SET_NAME, AGENT_NAME);
    agent_log_open(1);
    process_harden(&foreground.reporter.weakness);
    return agent_run(plan, foreground_ready, &foreground, failure);
}

bool agent_lives(pid_t pid)
{
    return pid > 0 && process_is(pid, AGENT_NAME);
}
