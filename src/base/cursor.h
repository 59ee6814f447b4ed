/* base/cursor.h — reading bytes that cannot pass their end. Every file format no library reads goes
 * through one of these. */
#ifndef RQ_BASE_CURSOR_H
#define RQ_BASE_CURSOR_H

#include <stdint.h>
#include <string.h>

#include "requant/status.h"

typedef struct rq_cursor {
    const uint8_t *p, *end;
} rq_cursor;

/* A length-prefixed part becomes a cursor of its own. RQ_BAD_FILE: fewer than n bytes are left. */
static inline rq_status rq_cursor_part(rq_cursor *c, uint64_t n, rq_cursor *out)
{
    if (n > (uint64_t)(c->end - c->p)) /* compare lengths, never p + n */
        return RQ_BAD_FILE;
    *out = (rq_cursor) { c->p, c->p + n };
    c->p += n;
    return RQ_OK;
}

/* Copy n bytes out. RQ_BAD_FILE: fewer are left. */
static inline rq_status rq_cursor_read(rq_cursor *c, void *dst, size_t n)
{
    rq_cursor part;
    RQ_TRY(rq_cursor_part(c, n, &part));
    memcpy(dst, part.p, n);
    return RQ_OK;
}

/* A protobuf varint: at most 10 bytes, at most 64 bits. RQ_BAD_FILE: cut short or too long. */
rq_status rq_cursor_varint(rq_cursor *c, uint64_t *out);

#endif
