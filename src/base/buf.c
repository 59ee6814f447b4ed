/* base/buf.c — growable bytes; see buf.h. Capacity doubles, so n appends cost O(n). */
#include "base/buf.h"

#include <stdarg.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"

/* Room for n more bytes and a NUL. */
static bool make_room(rq_buf *b, size_t n)
{
    if (b->failed)
        return false;
    size_t need;
    if (__builtin_add_overflow(b->size, n, &need) || __builtin_add_overflow(need, (size_t)1, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    char *data = rq_mem_realloc(b->data, cap, 1);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void rq_buf_add(rq_buf *b, const void *data, size_t n)
{
    if (!make_room(b, n))
        return;
    if (n)
        memcpy(b->data + b->size, data, n);
    b->size += n;
    b->data[b->size] = 0;
}

void rq_buf_adds(rq_buf *b, const char *s)
{
    rq_buf_add(b, s, strlen(s));
}

void rq_buf_addf(rq_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = rq_number_vprint(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->failed = true;
    } else if (make_room(b, (size_t)n)) {
        rq_number_vprint(b->data + b->size, (size_t)n + 1, fmt, again);
        b->size += (size_t)n;
    }
    va_end(again);
}

void rq_buf_release(rq_buf *b)
{
    rq_mem_free(b->data);
    *b = (rq_buf) { 0 };
}

int64_t rq_buf_hand_over(rq_buf *b, char *buf, size_t n)
{
    const int64_t size = b->failed ? -1 : (int64_t)b->size;
    if (n > 0) {
        const size_t fits = size < 0 ? 0 : (size_t)size < n ? (size_t)size : n - 1;
        if (fits > 0)
            memcpy(buf, b->data, fits);
        buf[fits] = '\0';
    }
    rq_buf_release(b);
    return size;
}
