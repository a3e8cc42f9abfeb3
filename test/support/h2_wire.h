/* HTTP/2 frames as a test sends and reads them: the peer of an HTTP/2 connection under test at a
 * far_end. Header blocks are sent without tables. */
#pragma once

#include "test/support/far_end.h"

struct h2_wire {
    struct far_end *far;
    void *decoder; /* of the blocks that come */
};

/* h2_wire_init speaks through a far end that may be opened later, h2_wire_free leaves it. */
void h2_wire_init(struct h2_wire *w, struct far_end *far);
void h2_wire_free(struct h2_wire *w);

/* h2_wire_frame sends one frame. */
void h2_wire_frame(struct h2_wire *w, int type, int flags, int id, const void *p, size_t len);

/* h2_wire_number sends one whose payload is a number of 4 bytes: RST_STREAM, WINDOW_UPDATE.
 * h2_wire_setting sends SETTINGS with one entry. */
void h2_wire_number(struct h2_wire *w, int type, int id, uint32_t number);
void h2_wire_setting(struct h2_wire *w, uint16_t setting, uint32_t value);

/* h2_wire_head sends HEADERS with "name=value name=value" (no spaces within), END_HEADERS set. */
void h2_wire_head(struct h2_wire *w, int flags, int id, const char *fields);

/* h2_wire_text tells what has come, "HEADERS 1 :status=200 end;DATA 1 2 end;", and forgets it;
 * SETTINGS and its acknowledgement, and WINDOW_UPDATE unless `windows`, are left out. Freed by the
 * caller with mem_free. */
char *h2_wire_text(struct h2_wire *w, bool windows);
