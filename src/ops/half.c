/* ops/half.c — f16 and bf16 (and f64, for some) through f32 (ops/half.h). */
#include "ops/half.h"

#include <stdatomic.h>

#include "ops/elements.h"

static void convert(rq_tensor *dst, const rq_tensor *src, const rq_op_args *a)
{
    rq_elements_convert_in(a, dst, src, true);
}

static bool is_half(rq_dtype d)
{
    return rq_half_is(d);
}

rq_status rq_half_run(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a))
{
    bool any = false; /* an output alone, as of Cast, is its operator's business */
    for (int i = 0; i < a->n_in; i++)
        any |= a->in[i] && rq_half_is(a->in[i]->dtype);
    return any ? rq_elements_run_as(a, &(rq_elements_as) { is_half, RQ_DTYPE_F32, convert, convert }, fn) : fn(a);
}

/* ---- element by element, F16 ---- */

enum {
    MOST = 4,
    PIECE = 2048,
    ITEM = 1 << 15,
    SHORT = 64
}; /* inputs; elements: of a copy, of an item, of a row that is not worth it */

typedef struct each {
    const rq_op_args *a;
    rq_status (*fn)(const rq_op_args *a);
    int64_t n, first,
        row; /* elements; those done before the items; of which so many follow each other with one element of those inputs that lie per row */
    int64_t rows
        [MOST]; /* of an input: elements that take turns row by row (1: there is one); 0: it lies as the output does */
    atomic_int status;
} each;

/* How often and how long an input repeats: its axes but for a middle stretch are 1. False: otherwise. */
static bool lies_per_row(const rq_shape *in, const rq_shape *out, int64_t *rows, int64_t *row)
{
    int end = out->rank, ahead = out->rank - in->rank;
    *row = *rows = 1;
    while (end > ahead && in->dim[end - 1 - ahead] == 1)
        *row *= out->dim[--end];
    int first = end;
    while (first > ahead && in->dim[first - 1 - ahead] == out->dim[first - 1])
        *rows *= out->dim[--first];
    for (int i = ahead; i < first; i++)
        if (in->dim[i - ahead] != 1)
            return false;
    return true;
}

static bool each_fits(each *e)
{
    const rq_op_args *a = e->a;
    const rq_shape *out = &a->out[0]->shape;
    if (a->n_out != 1 || a->n_in > MOST || a->training || a->out[0]->dtype != RQ_DTYPE_F16)
        return false;
    e->n = e->row = rq_shape_count(out);
    for (int i = 0; i < a->n_in; i++) {
        const rq_tensor *t = a->in[i];
        int64_t row;
        if (!t)
            continue;
        if (t->dtype != RQ_DTYPE_F16 || t->shape.rank > out->rank)
            return false;
        if (rq_tensor_count(t) == 1) {
            e->rows[i] = 1;
        } else if (!rq_shape_equal(&t->shape, out)) {
            if (!lies_per_row(&t->shape, out, &e->rows[i], &row) || row < SHORT || (e->row != e->n && e->row != row))
                return false;
            e->row = row;
        }
    }
    return e->n > 0;
}

/* Elements from..from+n-1, all of one row. */
static rq_status each_piece(const each *e, int64_t from, int64_t n)
{
    const rq_op_args *a = e->a;
    float room[MOST + 1][PIECE];
    rq_tensor t[MOST + 1], *to = &t[MOST];
    const rq_tensor *in[MOST];
    const rq_shape list = rq_shape_of(1, &n), one = rq_shape_of(1, &(int64_t) { 1 });
    for (int i = 0; i < a->n_in; i++) {
        const bool all = !e->rows[i];
        in[i] = a->in[i] ? &t[i] : NULL;
        if (!in[i])
            continue;
        t[i] = rq_tensor_view(RQ_DTYPE_F32, all ? &list : &one, room[i]);
        a->k->half_to_float(room[i], a->in[i]->u16 + (all ? from : from / e->row % e->rows[i]), all ? (size_t)n : 1);
    }
    *to = rq_tensor_view(RQ_DTYPE_F32, &list, room[MOST]);
    rq_op_args b = *a;
    b.in = in;
    b.out = &to;
    b.threads = NULL;
    b.room_bytes = 0;
    RQ_TRY(e->fn(&b));
    a->k->half_from_float(a->out[0]->u16 + from, to->f32, (size_t)n);
    return RQ_OK;
}

static void each_item(void *arg, int64_t item)
{
    each *e = arg;
    const int64_t from = e->first + item * ITEM, end = from + ITEM < e->n ? from + ITEM : e->n;
    for (int64_t at = from; at < end;) {
        int64_t n = e->row - at % e->row;
        n = n < PIECE ? n : PIECE;
        n = n < end - at ? n : end - at;
        const rq_status s = each_piece(e, at, n);
        if (s)
            atomic_store(&e->status, (int)s);
        at += n;
    }
}

rq_status rq_half_run_each(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a))
{
    each e = { .a = a, .fn = fn };
    if (!each_fits(&e))
        return rq_half_run(a, fn);
    e.first = e.row < PIECE ? e.row : PIECE;
    RQ_TRY(each_piece(&e, 0, e.first)); /* what is wrong with the node is said by one thread */
    rq_threads_for(e.n > ITEM ? a->threads : NULL, (e.n - e.first + ITEM - 1) / ITEM, each_item, &e);
    return (rq_status)atomic_load(&e.status);
}

/* ---- */

static bool is_other(rq_dtype d)
{
    return rq_half_is(d) || d == RQ_DTYPE_F64;
}

rq_status rq_half_run_single(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a))
{
    bool any = false;
    for (int i = 0; i < a->n_in; i++)
        any |= a->in[i] && is_other(a->in[i]->dtype);
    return any ? rq_elements_run_as(a, &(rq_elements_as) { is_other, RQ_DTYPE_F32, convert, convert }, fn) : fn(a);
}
