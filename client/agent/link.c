/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/link.h"

/* Every connection was there; now one is not. */
static struct link_step from_up(enum link_event event)
{
    if (event == LINK_LOST)
        return (struct link_step){LINK_SETTLING, LINK_SETTLE};
    return (struct link_step){LINK_UP, 0};
}

static struct link_step from_settling(enum link_event event)
{
    switch (event) {
    case LINK_SETTLED:
        return (struct link_step){LINK_DIALLING, LINK_TELL_DOWN | LINK_DIAL};
    case LINK_LOST: /* the others follow; the pause that has begun is enough for all */
    case LINK_DIALLED:
    case LINK_HANDED_ALL:
    case LINK_HANDED_SOME:
    case LINK_HANDED_NONE:
    case LINK_FAILED:
    case LINK_NOT_THE_DISK:
    case LINK_PAUSED:
    case LINK_DETACHED:
    case LINK_STOP:
        break;
    }
    return (struct link_step){LINK_SETTLING, 0};
}

/* A connection that is lost meanwhile is missing at the handover, which then says SOME. */
static struct link_step from_dialling(enum link_event event)
{
    switch (event) {
    case LINK_LOST:
        return (struct link_step){LINK_DIALLING, LINK_TELL_DOWN};
    case LINK_DIALLED:
        return (struct link_step){LINK_DIALLING, LINK_HAND_OVER};
    case LINK_HANDED_ALL:
        return (struct link_step){LINK_UP, LINK_TELL_UP};
    case LINK_HANDED_SOME: /* it flows again; the rest without a pause, unless that fails */
        return (struct link_step){LINK_DIALLING, LINK_TELL_UP | LINK_DIAL};
    case LINK_HANDED_NONE:
    case LINK_FAILED:
        return (struct link_step){LINK_PAUSING, LINK_PAUSE};
    case LINK_NOT_THE_DISK:
        return (struct link_step){LINK_REFUSED, LINK_PAUSE | LINK_TELL_REFUSED};
    case LINK_SETTLED:
    case LINK_PAUSED:
    case LINK_DETACHED:
    case LINK_STOP:
        break;
    }
    return (struct link_step){LINK_DIALLING, 0};
}

static struct link_step from_pause(enum link_state state, enum link_event event)
{
    if (event == LINK_LOST)
        return (struct link_step){state, LINK_TELL_DOWN};
    if (event == LINK_PAUSED)
        return (struct link_step){LINK_DIALLING, LINK_DIAL};
    return (struct link_step){state, 0};
}

struct link_step link_step(enum link_state state, enum link_event event)
{
    if (state != LINK_ENDED && (event == LINK_DETACHED || event == LINK_STOP))
        return (struct link_step){LINK_ENDED, LINK_END};
    switch (state) {
    case LINK_UP:
        return from_up(event);
    case LINK_SETTLING:
        return from_settling(event);
    case LINK_DIALLING:
        return from_dialling(event);
    case LINK_PAUSING:
    case LINK_REFUSED:
        return from_pause(state, event);
    case LINK_ENDED:
        break;
    }
    return (struct link_step){LINK_ENDED, 0};
}

const char *link_state_name(enum link_state state)
{
    static const char *const names[LINK_STATES] = {
        [LINK_UP] = "up",           [LINK_SETTLING] = "settling", [LINK_DIALLING] = "dialling",
        [LINK_PAUSING] = "pausing", [LINK_REFUSED] = "refused",   [LINK_ENDED] = "ended",
    };

    return names[state];
}
