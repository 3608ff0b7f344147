/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The handshake phase of NBD (proto.md, "Handshake") as a machine without I/O: bytes in, bytes and events
 * out. It asks for exactly the bytes that the next item needs and never for one more, so that whatever the
 * server sends too early (before TLS, before the first request) is still in the socket, where the owner of
 * the fd can see it and refuse it.
 *
 * One option is in flight at a time. The caller starts an option in state READY, writes what
 * negotiation_output() has, and feeds what negotiation_wanted() asks for until REPLIED.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"
#include "protocol/export.h"
#include "protocol/wire.h"

/* Bounds on what one option may bring; a server past them is broken or hostile. */
#define NEGOTIATION_MAX_EXPORTS  16384
#define NEGOTIATION_MAX_CONTEXTS 4096
#define NEGOTIATION_MAX_INFOS    64
#define NEGOTIATION_MAX_QUERIES  64

enum negotiation_state {
    NEGOTIATION_GREETING,     /* the server's magic numbers and handshake flags are awaited */
    NEGOTIATION_READY,        /* nothing in flight: an option may be started */
    NEGOTIATION_OPTION,       /* replies to an option are awaited */
    NEGOTIATION_EXPORT_NAME,  /* the bare answer to NBD_OPT_EXPORT_NAME is awaited */
    NEGOTIATION_SECURING,     /* STARTTLS was acknowledged: the handshake, then negotiation_secured() */
    NEGOTIATION_TRANSMISSION, /* the export is open */
    NEGOTIATION_ENDED,        /* ABORT was sent: output is left to write, nothing is awaited */
    NEGOTIATION_FAILED,       /* the server broke the protocol: hard disconnect */
};

enum negotiation_event_type {
    NEGOTIATION_EVENT_NONE,    /* more bytes are needed */
    NEGOTIATION_EVENT_GREETED, /* READY now */
    NEGOTIATION_EVENT_EXPORT,  /* LIST: one export; name, description */
    NEGOTIATION_EVENT_CONTEXT, /* LIST_ or SET_META_CONTEXT: one context; name, context_id */
    NEGOTIATION_EVENT_REPLIED, /* the option has ended; error, message */
};

/* Pointers are valid until the next call; strings are NUL-terminated, valid UTF-8, without NUL inside. */
struct negotiation_event {
    enum negotiation_event_type type;
    enum nbd_option option;  /* to which this is the answer */
    const char *name;        /* as sent, not escaped */
    const char *description; /* "" when there is none */
    uint32_t context_id;
    uint32_t error; /* REPLIED: 0 or NBD_REP_ERR_* (any value with the error bit) */
    const char
        *message; /* REPLIED: the server's words on the error, any bytes but NUL; "" when it had none */
};

struct negotiation;

struct negotiation *negotiation_new(void); /* NULL: out of memory */
void negotiation_free(struct negotiation *negotiation);

enum negotiation_state negotiation_state(const struct negotiation *negotiation);

/* Whether the server understands options other than EXPORT_NAME (valid from GREETED on). */
bool negotiation_is_fixed(const struct negotiation *negotiation);

/* Where to put the next bytes from the server, and how many are wanted; 0 when none are awaited. */
size_t negotiation_wanted(struct negotiation *negotiation, uint8_t **into);

/*
 * count bytes were put there (at most what was wanted). 0 and *event (perhaps NONE), or -EPROTO, -ENOMEM with
 * the reason; the machine has then FAILED.
 */
int negotiation_received(struct negotiation *negotiation, size_t count, struct negotiation_event *event,
                         struct failure *failure);

/* What is to be written to the server, and that it was. */
size_t negotiation_output(const struct negotiation *negotiation, const uint8_t **from);
void negotiation_sent(struct negotiation *negotiation, size_t count);

/*
 * Each starts one option. Only in READY (-EBUSY else); -EOPNOTSUPP when the server is not fixed newstyle
 * (EXPORT_NAME is all it knows); -EINVAL when a name is longer than NBD_MAX_STRING; -ENOMEM.
 */
int negotiation_start_tls(struct negotiation *negotiation);
int negotiation_structured_reply(struct negotiation *negotiation);
int negotiation_extended_headers(struct negotiation *negotiation);
int negotiation_list(struct negotiation *negotiation);
int negotiation_info(struct negotiation *negotiation, const char *name);
int negotiation_go(struct negotiation *negotiation, const char *name);
int negotiation_export_name(struct negotiation *negotiation, const char *name);
int negotiation_list_meta_context(struct negotiation *negotiation, const char *name,
                                  const char *const *queries, size_t count);
int negotiation_set_meta_context(struct negotiation *negotiation, const char *name,
                                 const char *const *queries, size_t count);

/* ABORT: a soft disconnect, in any state before TRANSMISSION; nothing is awaited afterwards. No-op elsewhere.
 */
void negotiation_abort(struct negotiation *negotiation);

/* The TLS handshake is done: all that was negotiated before is forgotten ("TLS support"). SECURING -> READY.
 */
void negotiation_secured(struct negotiation *negotiation);

/* What was described by the last INFO, GO or EXPORT_NAME that succeeded. */
const struct export *negotiation_export(const struct negotiation *negotiation);

/* "NBD_REP_ERR_UNKNOWN" and such; NULL for values we do not know. */
const char *negotiation_error_name(uint32_t error);
/* "NBD_OPT_GO" and such. */
const char *negotiation_option_name(enum nbd_option option);
