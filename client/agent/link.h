/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The states of the link between a device and its server, free of I/O and time: what happened and where we
 * are, to where we go and what is to be done. Whoever owns the machine counts the connections and keeps the
 * timers.
 */
#pragma once

enum link_state {
    LINK_UP,       /* every connection lives */
    LINK_SETTLING, /* some were lost just now: the kernel may merely be letting go of the device */
    LINK_DIALLING, /* an attempt runs in its thread */
    LINK_PAUSING,  /* between two attempts: no server answered */
    LINK_REFUSED,  /* between two attempts: what answered is not the disk */
    LINK_ENDED,    /* the agent has nothing left to do */
};
#define LINK_STATES (LINK_ENDED + 1)

enum link_event {
    LINK_LOST,         /* a connection died */
    LINK_SETTLED,      /* the pause after that is over, and the device is still attached */
    LINK_DIALLED,      /* the attempt has new connections, and they reach the same disk */
    LINK_HANDED_ALL,   /* the kernel took them: every connection lives again */
    LINK_HANDED_SOME,  /* some are missing still */
    LINK_HANDED_NONE,  /* the kernel took none; they are closed */
    LINK_FAILED,       /* the attempt failed */
    LINK_NOT_THE_DISK, /* it found another disk, or a shrunk one */
    LINK_PAUSED,       /* the pause is over */
    LINK_DETACHED,     /* the device is not in this attach any more */
    LINK_STOP,         /* somebody wants the agent to end; the device stays */
};
#define LINK_EVENTS (LINK_STOP + 1)

/* What is to be done, as a set. */
enum link_action {
    LINK_SETTLE = 1 << 0,    /* begin a short pause: a device that is detached loses its connections too */
    LINK_DIAL = 1 << 1,      /* start an attempt for all that are missing */
    LINK_HAND_OVER = 1 << 2, /* give what was dialled to the kernel, and tell how many it took */
    LINK_PAUSE = 1 << 3,     /* begin a pause, longer after each attempt in a row */
    LINK_TELL_DOWN = 1 << 4,
    LINK_TELL_UP = 1 << 5,
    LINK_TELL_REFUSED = 1 << 6,
    LINK_END = 1 << 7, /* give up the attempt, if one runs, and leave the loop */
};

struct link_step {
    enum link_state next;
    unsigned actions; /* enum link_action */
};

/* Total: every event has an answer in every state. */
struct link_step link_step(enum link_state state, enum link_event event);

const char *link_state_name(enum link_state state);
