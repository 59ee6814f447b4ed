/* tensor/shape.c — sizes per axis; see requant/tensor.h for what negative sizes mean. */
#include "requant/tensor.h"

#include <assert.h>
#include <stdio.h>

rq_shape rq_shape_of(int rank, const int64_t *dim)
{
    assert(rank >= 0 && rank <= RQ_MAX_RANK);
    rq_shape s = { .rank = rank };
    for (int i = 0; i < rank; i++)
        s.dim[i] = dim[i];
    return s;
}

rq_shape rq_shape_unknown(void)
{
    return (rq_shape) { .rank = RQ_RANK_UNKNOWN };
}

bool rq_shape_equal(const rq_shape *a, const rq_shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

bool rq_shape_is_known(const rq_shape *s)
{
    if (s->rank < 0)
        return false;
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] < 0)
            return false;
    return true;
}

int64_t rq_shape_span(const rq_shape *s, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++)
        n *= s->dim[i];
    return n;
}

int64_t rq_shape_count(const rq_shape *s)
{
    return rq_shape_span(s, 0, s->rank);
}

rq_status rq_shape_check(const rq_shape *s)
{
    const int64_t most = (int64_t)1 << 47;
    int64_t n = 1;
    if (s->rank < 0 || s->rank > RQ_MAX_RANK)
        return RQ_BAD_SHAPE;
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] < 0 || s->dim[i] > most)
            return RQ_BAD_SHAPE;
    for (int i = 0; i < s->rank; i++) { /* an empty tensor's other sizes too: spans of them must not overflow */
        const int64_t size = s->dim[i] ? s->dim[i] : 1;
        if (n > most / size)
            return RQ_BAD_SHAPE;
        n *= size;
    }
    return RQ_OK;
}

const char *rq_shape_text(const rq_shape *s, char *buf, size_t n)
{
    size_t at = 0;
    if (s->rank < 0) {
        snprintf(buf, n, "[...]");
        return buf;
    }
    at += (size_t)snprintf(buf, n, "[");
    for (int i = 0; i < s->rank && at < n; i++)
        at += (size_t)(s->dim[i] < 0 ? snprintf(buf + at, n - at, "%s?", i ? "," : "")
                                     : snprintf(buf + at, n - at, "%s%lld", i ? "," : "", (long long)s->dim[i]));
    if (at < n)
        snprintf(buf + at, n - at, "]");
    return buf;
}

size_t rq_shape_bytes(const rq_shape *s, rq_dtype d)
{
    return ((size_t)rq_shape_count(s) * (size_t)rq_dtype_bits(d) + 7) / 8;
}
