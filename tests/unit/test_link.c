/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The link's states as a table: every event in every state. */
#include "agent/link.h"

#include "cmocka_all.h"

#define STAY(state)                                                                                          \
    {                                                                                                        \
        state, 0                                                                                             \
    }
#define END                                                                                                  \
    {                                                                                                        \
        LINK_ENDED, LINK_END                                                                                 \
    }

static const struct link_step table[LINK_STATES][LINK_EVENTS] =
    {
        [LINK_UP] =
            {
                [LINK_LOST] = {LINK_SETTLING, LINK_SETTLE},
                [LINK_SETTLED] = STAY(LINK_UP),
                [LINK_DIALLED] = STAY(LINK_UP),
                [LINK_HANDED_ALL] = STAY(LINK_UP),
                [LINK_HANDED_SOME] = STAY(LINK_UP),
                [LINK_HANDED_NONE] = STAY(LINK_UP),
                [LINK_FAILED] = STAY(LINK_UP),
                [LINK_NOT_THE_DISK] = STAY(LINK_UP),
                [LINK_PAUSED] = STAY(LINK_UP),
                [LINK_DETACHED] = END,
                [LINK_STOP] = END,
            },
        [LINK_SETTLING] =
            {
                [LINK_LOST] = STAY(LINK_SETTLING),
                [LINK_SETTLED] = {LINK_DIALLING, LINK_TELL_DOWN | LINK_DIAL},
                [LINK_DIALLED] = STAY(LINK_SETTLING),
                [LINK_HANDED_ALL] = STAY(LINK_SETTLING),
                [LINK_HANDED_SOME] = STAY(LINK_SETTLING),
                [LINK_HANDED_NONE] = STAY(LINK_SETTLING),
                [LINK_FAILED] = STAY(LINK_SETTLING),
                [LINK_NOT_THE_DISK] = STAY(LINK_SETTLING),
                [LINK_PAUSED] = STAY(LINK_SETTLING),
                [LINK_DETACHED] = END,
                [LINK_STOP] = END,
            },
        [LINK_DIALLING] =
            {
                [LINK_LOST] = {LINK_DIALLING, LINK_TELL_DOWN},
                [LINK_SETTLED] = STAY(LINK_DIALLING),
                [LINK_DIALLED] = {LINK_DIALLING, LINK_HAND_OVER},
                [LINK_HANDED_ALL] = {LINK_UP, LINK_TELL_UP},
                [LINK_HANDED_SOME] = {LINK_DIALLING, LINK_TELL_UP | LINK_DIAL},
                [LINK_HANDED_NONE] = {LINK_PAUSING, LINK_PAUSE},
                [LINK_FAILED] = {LINK_PAUSING, LINK_PAUSE},
                [LINK_NOT_THE_DISK] = {LINK_REFUSED, LINK_PAUSE | LINK_TELL_REFUSED},
                [LINK_PAUSED] = STAY(LINK_DIALLING),
                [LINK_DETACHED] = END,
                [LINK_STOP] = END,
            },
        [LINK_PAUSING] =
            {
                [LINK_LOST] = {LINK_PAUSING, LINK_TELL_DOWN},
                [LINK_SETTLED] = STAY(LINK_PAUSING),
                [LINK_DIALLED] = STAY(LINK_PAUSING),
                [LINK_HANDED_ALL] = STAY(LINK_PAUSING),
                [LINK_HANDED_SOME] = STAY(LINK_PAUSING),
                [LINK_HANDED_NONE] = STAY(LINK_PAUSING),
                [LINK_FAILED] = STAY(LINK_PAUSING),
                [LINK_NOT_THE_DISK] = STAY(LINK_PAUSING),
                [LINK_PAUSED] = {LINK_DIALLING, LINK_DIAL},
                [LINK_DETACHED] = END,
                [LINK_STOP] = END,
            },
        [LINK_REFUSED] =
            {
                [LINK_LOST] = {LINK_REFUSED, LINK_TELL_DOWN},
                [LINK_SETTLED] = STAY(LINK_REFUSED),
                [LINK_DIALLED] = STAY(LINK_REFUSED),
                [LINK_HANDED_ALL] = STAY(LINK_REFUSED),
                [LINK_HANDED_SOME] = STAY(LINK_REFUSED),
                [LINK_HANDED_NONE] = STAY(LINK_REFUSED),
                [LINK_FAILED] = STAY(LINK_REFUSED),
                [LINK_NOT_THE_DISK] = STAY(LINK_REFUSED),
                [LINK_PAUSED] = {LINK_DIALLING, LINK_DIAL},
                [LINK_DETACHED] = END,
                [LINK_STOP] = END,
            },
        [LINK_ENDED] =
            {
                [LINK_LOST] = STAY(LINK_ENDED),
                [LINK_SETTLED] = STAY(LINK_ENDED),
                [LINK_DIALLED] = STAY(LINK_ENDED),
                [LINK_HANDED_ALL] = STAY(LINK_ENDED),
                [LINK_HANDED_SOME] = STAY(LINK_ENDED),
                [LINK_HANDED_NONE] = STAY(LINK_ENDED),
                [LINK_FAILED] = STAY(LINK_ENDED),
                [LINK_NOT_THE_DISK] = STAY(LINK_ENDED),
                [LINK_PAUSED] = STAY(LINK_ENDED),
                [LINK_DETACHED] = STAY(LINK_ENDED),
                [LINK_STOP] = STAY(LINK_ENDED),
            },
};

static void test_table(void **state)
{
    (void)state;
    for (int from = 0; from < LINK_STATES; from++)
        for (int event = 0; event < LINK_EVENTS; event++) {
            struct link_step step = link_step((enum link_state)from, (enum link_event)event);

            if (step.next != table[from][event].next || step.actions != table[from][event].actions)
                fail_msg("in %s event %d goes to %s with actions %#x", link_state_name((enum link_state)from),
                         event, link_state_name(step.next), step.actions);
        }
}

/* Whatever happens, an outage is always being worked on: an attempt runs or a pause does. */
static void test_never_idle_while_down(void **state)
{
    (void)state;
    for (int from = 0; from < LINK_STATES; from++)
        for (int event = 0; event < LINK_EVENTS; event++) {
            struct link_step step = link_step((enum link_state)from, (enum link_event)event);

            if (step.next == (enum link_state)from)
                continue;
            if (step.next == LINK_SETTLING)
                assert_true(step.actions & LINK_SETTLE);
            if (step.next == LINK_DIALLING)
                assert_true(step.actions & LINK_DIAL);
            if (step.next == LINK_PAUSING || step.next == LINK_REFUSED)
                assert_true(step.actions & LINK_PAUSE);
            if (step.next == LINK_ENDED)
                assert_true(step.actions & LINK_END);
        }
}

/*
 * A connection may be lost at any moment. It is told at once, or when it is certain that the device was not
 * merely detached.
 */
static void test_loss_is_always_told(void **state)
{
    (void)state;
    for (int from = 0; from < LINK_ENDED; from++) {
        struct link_step lost = link_step((enum link_state)from, LINK_LOST);
        struct link_step settled = link_step(lost.next, LINK_SETTLED);

        assert_true((lost.actions | settled.actions) & LINK_TELL_DOWN);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_never_idle_while_down),
        cmocka_unit_test(test_loss_is_always_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
