/* ops/bcast.c — merging axes, and cutting rows into items for threads (ops/bcast.h). */
#include "ops/bcast.h"

/* Stride of axis i of y in an operand of shape s. */
static int64_t stride_of(const rq_shape *y, const rq_shape *s, int i)
{
    const int at = i - (y->rank - s->rank);
    if (at < 0 || s->dim[at] == 1)
        return 0;
    return rq_shape_span(s, at + 1, s->rank);
}

void rq_bcast_init(rq_bcast *p, const rq_shape *y, const rq_shape *a, const rq_shape *b)
{
    p->rank = 0;
    for (int i = 0; i < y->rank; i++) {
        const int64_t n = y->dim[i], sa = stride_of(y, a, i), sb = stride_of(y, b, i);
        if (n == 1)
            continue;
        const int last = p->rank - 1;
        if (last >= 0 && p->sa[last] == sa * n && p->sb[last] == sb * n) {
            p->dim[last] *= n;
            p->sa[last] = sa;
            p->sb[last] = sb;
            continue;
        }
        p->dim[p->rank] = n;
        p->sa[p->rank] = sa;
        p->sb[p->rank++] = sb;
    }
    if (p->rank == 0) {
        p->dim[0] = 1;
        p->sa[0] = p->sb[0] = 0;
        p->rank = 1;
    }
    p->row = p->dim[p->rank - 1];
    p->rows = 1;
    for (int i = 0; i + 1 < p->rank; i++)
        p->rows *= p->dim[i];
}

typedef struct job {
    const rq_bcast *p;
    rq_bcast_fn fn;
    void *arg;
    int64_t rows_per_item, items_per_row;
} job;

static void run_row(const job *j, int64_t r, int64_t from, int64_t n)
{
    const rq_bcast *p = j->p;
    const int last = p->rank - 1;
    int64_t a = 0, b = 0, rest = r;
    for (int i = last - 1; i >= 0; i--) {
        const int64_t k = rest % p->dim[i];
        rest /= p->dim[i];
        a += k * p->sa[i];
        b += k * p->sb[i];
    }
    const int64_t sa = p->sa[last], sb = p->sb[last];
    j->fn(j->arg, r * p->row + from, a + from * sa, (int)sa, b + from * sb, (int)sb, n);
}

static void run_item(void *arg, int64_t i)
{
    const job *j = arg;
    const rq_bcast *p = j->p;
    if (j->items_per_row > 1) {
        const int64_t r = i / j->items_per_row, from = i % j->items_per_row * RQ_BCAST_PIECE;
        const int64_t left = p->row - from;
        run_row(j, r, from, left < RQ_BCAST_PIECE ? left : RQ_BCAST_PIECE);
        return;
    }
    const int64_t from = i * j->rows_per_item, end = from + j->rows_per_item;
    for (int64_t r = from; r < end && r < p->rows; r++)
        run_row(j, r, 0, p->row);
}

void rq_bcast_for(const rq_bcast *p, rq_threads *t, rq_bcast_fn fn, void *arg)
{
    if (p->rows == 0 || p->row == 0)
        return;
    job j = { .p = p, .fn = fn, .arg = arg, .rows_per_item = 1, .items_per_row = 1 };
    int64_t items;
    if (p->row >= 2 * RQ_BCAST_PIECE) {
        j.items_per_row = (p->row + RQ_BCAST_PIECE - 1) / RQ_BCAST_PIECE;
        items = p->rows * j.items_per_row;
    } else {
        if (p->row < RQ_BCAST_PIECE)
            j.rows_per_item = RQ_BCAST_PIECE / p->row;
        items = (p->rows + j.rows_per_item - 1) / j.rows_per_item;
    }
    rq_threads_for(items > 1 ? t : NULL, items, run_item, &j);
}

typedef struct span_job {
    rq_bcast_span_fn fn;
    void *arg;
    int64_t n, piece;
} span_job;

static void run_span(void *arg, int64_t i)
{
    const span_job *j = arg;
    const int64_t from = i * j->piece, left = j->n - from;
    j->fn(j->arg, from, left < j->piece ? left : j->piece);
}

void rq_bcast_spans(rq_threads *t, int64_t n, int64_t piece, rq_bcast_span_fn fn, void *arg)
{
    if (n <= 0)
        return;
    if (piece < 1)
        piece = 1;
    span_job j = { .fn = fn, .arg = arg, .n = n, .piece = piece };
    const int64_t items = (n + piece - 1) / piece;
    rq_threads_for(items > 1 ? t : NULL, items, run_span, &j);
}
