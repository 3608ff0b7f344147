/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An agent's socket in a folder of the test's own, who serves it, and connections to it as bytes. */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "agent/control.h"

#define AGENT_INDEX 7 /* /dev/nbd7 */
#define METHOD      "io.nbdctl.Device."
#define CALL(m)     "{\"method\":\"" METHOD m "\"}"
#define WATCH       "{\"method\":\"" METHOD "Watch\",\"more\":true}"
#define HEARD_MAX   131072

extern char agent_folder[];

/* Set-up and tear-down of cmocka's group. */
int agent_socket_create(void **state);
int agent_socket_remove(void **state);

struct agent {
    struct control *control;
    struct failure failure;
    int stops, renewals;
    pthread_t thread;
    int end_fd; /* an eventfd: the thread is to end */
};

/* GetStatus has state "up" and our pid; Stop is counted, and announced as "agent-stopped". */
extern const struct control_ops agent_ops;

void open_agent(struct agent *agent);
void start_agent(struct agent *agent); /* served by a thread */
void end_agent(struct agent *agent);   /* that one */

/* What an agent that was killed leaves: a socket that refuses, and a lock that nobody holds. With a backlog
 * somebody listens. */
void leave_socket(int backlog, int *listener);
void remove_socket(int listener);
bool agent_file_exists(const char *name);

bool is_readable(int fd);
void dispatch(struct agent *agent); /* all there is to do */

int dial(void);
void say(int fd, const char *text);

/* What has come; the NULs of messages are newlines. Returns text. */
char *heard(int fd, char text[static HEARD_MAX]);
void expect_heard(int fd, const char *expected);
void expect_end(int fd); /* and closes */
void expect_open(int fd);
