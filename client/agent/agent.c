/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The agent's loop.
 *
 * Concurrency, all of it: one thread, this loop, owns every struct of the agent and is the only one that
 * talks to the kernel driver. It never waits but in epoll_wait(2), with two exceptions that are bounded: a
 * netlink request that the kernel answers at once, and the start of a relay process. What may block for long,
 * name lookups and handshakes, is one attempt at a time in the thread of agent/redial.h, which works on a
 * copy of what it is asked, hands its result over by ending, and is cancelled through an eventfd. The
 * endpoints are written by the loop only while no attempt runs. Signals are blocked everywhere and read from
 * a signalfd.
 *
 * The kernel does not tell which connection died: we keep a descriptor of each, and poll(2) names the one
 * that was shut down. Those that an agent before us had handed over are looked up by their identity instead.
 */
#include "agent/agent.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "agent/agent_internal.h"
#include "agent/kernel_failure.h"
#include "agent/log.h"
#include "cleanup.h"

#define EVENTS_AT_ONCE 16
#define NS_PER_S       UINT64_C(1000000000)
#define PREDECESSOR_NS (3 * NS_PER_S)
#define LOOK_AGAIN_NS  (NS_PER_S / 100)

enum source {
    SOURCE_SIGNAL,
    SOURCE_TIMER,
    SOURCE_KERNEL,
    SOURCE_CONTROL,
    SOURCE_REDIAL,
    SOURCE_SOCKET,
};

static int watch(struct agent *agent, int fd, enum source source, uint32_t events, struct failure *failure)
{
    struct epoll_event event = {.events = events, .data.u32 = source};

    if (fd >= 0 && epoll_ctl(agent->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
        return 0;
    return fail(failure, errno, "cannot watch a descriptor: %s", strerror(errno));
}

/* Without events a hang-up is all that is reported; once, not for as long as it is so. */
int agent_watch_socket(struct agent *agent, size_t slot, struct failure *failure)
{
    return watch(agent, agent->plan->fds[slot], SOURCE_SOCKET, EPOLLET, failure);
}

static int watch_sockets(struct agent *agent, struct failure *failure)
{
    int r = 0;

    for (size_t i = 0; i < agent->state->connections && r == 0; i++)
        if (agent->plan->fds[i] >= 0)
            r = agent_watch_socket(agent, i, failure);
    return r;
}

static int open_signals(bool essential)
{
    sigset_t ends;

    sigemptyset(&ends);
    if (!essential) {
        sigaddset(&ends, SIGTERM);
        sigaddset(&ends, SIGINT);
        sigaddset(&ends, SIGHUP);
        signal(SIGTERM, SIG_DFL); /* what is ignored is never pending either */
        signal(SIGINT, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
    }
    if (sigprocmask(SIG_BLOCK, &ends, NULL) < 0)
        return -1;
    return signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int open_kernel(struct agent *agent, struct failure *failure)
{
    struct netlink_reason reason = {0};
    int r = nbd_netlink_open(&agent->netlink, false, &reason);

    if (r == 0)
        r = nbd_events_open(&agent->events, &reason);
    return r < 0 ? kernel_failure(failure, r, &reason) : 0;
}

static void stop(void *opaque)
{
    struct agent *agent = opaque;

    agent_event(agent, LINK_STOP);
}

static const struct control_ops control_ops = {
    .status = agent_status, .stop = stop, .renew = agent_renew_all};

/* The agent of the attach before on this device may be in its last milliseconds still. */
static int open_control(struct agent *agent, struct failure *failure)
{
    struct deadline deadline = deadline_after(PREDECESSOR_NS, -1);

    for (;;) {
        struct deadline pause = deadline_after(LOOK_AGAIN_NS, -1);
        int r = control_open(&agent->control, agent->plan->device.index, &control_ops, agent, failure);

        if (r != -EADDRINUSE || deadline_remaining_ms(&deadline) == 0)
            return r;
        deadline_poll(&pause, -1, 0);
    }
}

static int open_all(struct agent *agent, struct failure *failure)
{
    int r = open_kernel(agent, failure);

    agent->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    agent->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    agent->signal_fd = open_signals(agent->plan->essential);
    if (r == 0)
        r = redial_init(&agent->redial, failure);
    if (r == 0)
        r = open_control(agent, failure);
    if (r == 0)
        r = watch(agent, agent->signal_fd, SOURCE_SIGNAL, EPOLLIN, failure);
    if (r == 0)
        r = watch(agent, agent->timer_fd, SOURCE_TIMER, EPOLLIN, failure);
    if (r == 0)
        r = watch(agent, nbd_events_fd(agent->events), SOURCE_KERNEL, EPOLLIN, failure);
    if (r == 0)
        r = watch(agent, control_fd(agent->control), SOURCE_CONTROL, EPOLLIN, failure);
    if (r == 0)
        r = watch(agent, agent->redial.done_fd, SOURCE_REDIAL, EPOLLIN | EPOLLET, failure);
    return r < 0 ? r : watch_sockets(agent, failure);
}

static void close_all(struct agent *agent)
{
    agent_renewal_drop(agent);
    redial_clear(&agent->redial);
    if (agent->control)
        control_close(agent->control);
    if (agent->events)
        nbd_events_close(agent->events);
    nbd_netlink_close(agent->netlink);
    for (size_t i = 0; i < NBD_MAX_CONNECTIONS; i++)
        cleanup_close(&agent->plan->fds[i]);
    cleanup_close(&agent->signal_fd);
    cleanup_close(&agent->timer_fd);
    cleanup_close(&agent->epoll_fd);
}

static uint64_t *timer_list(struct agent *agent)
{
    return &agent->timers.settle;
}

static void arm_timer(struct agent *agent)
{
    struct itimerspec at = {0};
    uint64_t first = 0;

    for (size_t i = 0; i < AGENT_TIMERS; i++) {
        uint64_t ns = timer_list(agent)[i];

        if (ns && (!first || ns < first))
            first = ns;
    }
    at.it_value.tv_sec = (time_t)(first / NS_PER_S);
    at.it_value.tv_nsec = (long)(first % NS_PER_S);
    timerfd_settime(agent->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

/* Whether a timer has run down; then it is off. */
static bool expired(uint64_t *timer, uint64_t now)
{
    if (*timer == 0 || *timer > now)
        return false;
    *timer = 0;
    return true;
}

static void run_timers(struct agent *agent)
{
    uint64_t now = monotonic_ns(), count;

    if (read(agent->timer_fd, &count, sizeof count) < 0 && errno != EAGAIN)
        agent_log(LOG_PRIORITY_WARNING, agent->plan->device.index, "timer: %s", strerror(errno));
    if (expired(&agent->timers.settle, now))
        agent_event(agent, LINK_SETTLED);
    if (expired(&agent->timers.pause, now))
        agent_event(agent, LINK_PAUSED);
    if (expired(&agent->timers.dead, now))
        agent_tell_io_fails(agent);
    if (expired(&agent->timers.confirm, now))
        agent_confirm(agent);
    if (expired(&agent->timers.look, now))
        agent_check_sockets(agent, true);
    if (expired(&agent->timers.wear, now))
        agent_check_wear(agent);
    if (expired(&agent->timers.grow, now))
        agent_grow(agent);
    if (expired(&agent->timers.write, now))
        agent_write_state(agent);
    if (expired(&agent->timers.poll, now))
        agent_poll(agent);
    if (expired(&agent->timers.renew, now))
        agent_renewal_swap(agent);
}

/* Whether some were lost does not matter: we look for ourselves. */
static void read_kernel_events(struct agent *agent)
{
    struct netlink_reason ignored;
    uint32_t index;
    bool ours = false, lost = false;
    size_t before = agent_living(agent);
    int r;

    while ((r = nbd_events_next(agent->events, &index, &ignored)) == 1 || r == -ENOBUFS) {
        ours |= r == 1 && index == agent->plan->device.index;
        lost |= r == -ENOBUFS;
    }
    if (ours || lost)
        agent_check_sockets(agent, true);
    if (ours && agent_living(agent) == before)
        agent_doubt(agent);
}

static void read_signal(struct agent *agent)
{
    struct signalfd_siginfo info;

    if (read(agent->signal_fd, &info, sizeof info) == sizeof info)
        agent_event(agent, LINK_STOP);
}

static void serve(struct agent *agent, enum source source)
{
    switch (source) {
    case SOURCE_SIGNAL:
        read_signal(agent);
        break;
    case SOURCE_TIMER:
        run_timers(agent);
        break;
    case SOURCE_KERNEL:
        read_kernel_events(agent);
        break;
    case SOURCE_CONTROL:
        control_dispatch(agent->control);
        break;
    case SOURCE_REDIAL:
        agent_dialled(agent);
        break;
    case SOURCE_SOCKET:
        agent_check_sockets(agent, false);
        break;
    }
}

static int loop(struct agent *agent, struct failure *failure)
{
    struct epoll_event events[EVENTS_AT_ONCE];

    while (agent->link != LINK_ENDED) {
        int n;

        arm_timer(agent);
        n = epoll_wait(agent->epoll_fd, events, EVENTS_AT_ONCE, -1);
        if (n < 0 && errno != EINTR)
            return fail(failure, errno, "cannot wait for events: %s", strerror(errno));
        for (int i = 0; i < n && agent->link != LINK_ENDED; i++)
            serve(agent, (enum source)events[i].data.u32);
    }
    return 0;
}

/* Queue limits were set since the device was looked at, and it may be an agent before us who did the rest. */
static void look_again(struct agent *agent)
{
    struct agent_plan *plan = agent->plan;
    const struct sockaddr_storage *remote = &agent->state->sockets[0].remote;
    struct netlink_reason ignored;
    struct nbd_device now;

    if (nbd_device_read("", plan->device.index, &now, &ignored) == 0 && nbd_device_same("", &plan->device))
        plan->device = now;
    if (remote->ss_family == AF_INET || remote->ss_family == AF_INET6)
        plan->endpoints[plan->serving].policy.known = *remote;
}

static void seed_jitter(void)
{
    unsigned seed = (unsigned)getpid();

    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) < 0)
        seed ^= (unsigned)monotonic_ns();
    srandom(seed);
}

int agent_run(struct agent_plan *plan, void (*ready)(void *opaque), void *opaque, struct failure *failure)
{
    struct agent agent = {
        .plan = plan,
        .state = plan->state,
        .link = LINK_UP,
        .epoll_fd = -1,
        .timer_fd = -1,
        .signal_fd = -1,
    };
    int r = open_all(&agent, failure);

    seed_jitter();
    look_again(&agent);
    plan->state->agent_pid = getpid();
    for (size_t i = 0; i < plan->state->connections; i++)
        agent.lives[i] = true;
    if (r == 0)
        r = device_state_write(plan->state, failure);
    if (r == 0) {
        ready(opaque);
        agent_check_sockets(&agent, true);
        agent_check_wear(&agent);
        agent.timers.poll = plan->poll_ns ? monotonic_ns() + plan->poll_ns : 0;
        r = loop(&agent, failure);
    }
    close_all(&agent);
    return r;
}
