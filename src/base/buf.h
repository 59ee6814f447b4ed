/* base/buf.h — growable bytes and text. Zero-initialize before use; an allocation that fails sets
 * `failed` and later appends do nothing, so that one check at the end is enough. */
#ifndef RQ_BASE_BUF_H
#define RQ_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "requant/status.h"

typedef struct rq_buf {
    char *data; /* NUL-terminated whenever non-NULL */
    size_t size, cap;
    bool failed;
} rq_buf;

void rq_buf_add(rq_buf *b, const void *data, size_t n);
void rq_buf_adds(rq_buf *b, const char *s);
void rq_buf_addf(rq_buf *b, const char *fmt, ...) RQ_PRINTF(2, 3);
void rq_buf_release(rq_buf *b);
/* At most n bytes with the NUL to buf, and b is released; the length of all, -1 when memory was out. */
int64_t rq_buf_hand_over(rq_buf *b, char *buf, size_t n);

#endif
