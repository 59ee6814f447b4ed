/* ops/int_reduce.c — reductions on codes. What is added is an integer per code: q - z for sums and means, |q - z|, or
 * (q - z)^2; so a sum is exact, whatever the order, and becomes a real once:
 *
 *   y = Q( f( sum, s ) )    SUM sum s   MEAN sum s / n   L1 sum |s|   SUM_SQUARE sum s^2   L2 sqrt(sum) |s|   ...
 *
 * with f in double, rounded to f32, then by the definition. Max and Min choose a code. No runtime has such kernels: they
 * dequantize and add in f32 (docs/onnx-facts.md 5.1), which is within their rounding of this. */
#include <math.h>

#include "kernels/quantize.h"
#include "ops/bcast.h"
#include "ops/int_ops.h"

enum { TILE = 64, WORK = 32768 }; /* columns at a time; codes worth a thread's while */

bool rq_int_reduce_accepts(const rq_op_args *a, rq_reduce kind, const char **why)
{
    *why = "input is not quantized";
    if (!a->in_q[0] || !rq_int_is_activation(a->in_q[0], why))
        return false;
    *why = "no integer form";
    if (kind == RQ_REDUCE_PROD || kind == RQ_REDUCE_LOG_SUM_EXP)
        return false;
    *why = "scale is not positive";
    if ((kind == RQ_REDUCE_MAX || kind == RQ_REDUCE_MIN) && !(a->in_q[0]->scale[0] > 0))
        return false;
    return rq_int_is_output(a->out_q[0], a->out[0], false, why);
}

typedef struct job {
    const rq_op_args *a;
    const rq_reduce_plan *p;
    rq_reduce kind;
    int32_t value[256]; /* of the code whose bits are the index */
    bool plain;         /* value[i] = (i ^ flip) - zero */
    uint8_t flip;
    int32_t zero, lo, hi;
} job;

static bool chooses(rq_reduce k)
{
    return k == RQ_REDUCE_MAX || k == RQ_REDUCE_MIN;
}

static int64_t row_value(const job *j, const uint8_t *x, int64_t n, int64_t acc)
{
    if (j->kind == RQ_REDUCE_MAX) {
        uint8_t most = 0;
        for (int64_t i = 0; i < n; i++)
            most = (x[i] ^ j->flip) > most ? x[i] ^ j->flip : most;
        const int64_t v = n ? (int64_t)most - j->zero : acc;
        return v > acc ? v : acc;
    }
    if (j->kind == RQ_REDUCE_MIN) {
        uint8_t least = 255;
        for (int64_t i = 0; i < n; i++)
            least = (x[i] ^ j->flip) < least ? x[i] ^ j->flip : least;
        const int64_t v = n ? (int64_t)least - j->zero : acc;
        return v < acc ? v : acc;
    }
    if (j->plain) {
        enum { BLOCK = 1 << 20 }; /* 255 of each still fit */
        for (int64_t at = 0; at < n; at += BLOCK) {
            const int64_t to = n - at < BLOCK ? n : at + BLOCK;
            uint32_t sum = 0;
            for (int64_t i = at; i < to; i++)
                sum += x[i] ^ j->flip;
            acc += sum;
        }
        return acc - n * j->zero;
    }
    for (int64_t i = 0; i < n; i++)
        acc += j->value[x[i]];
    return acc;
}

static int64_t start_of(rq_reduce k)
{
    return k == RQ_REDUCE_MAX ? INT64_MIN : k == RQ_REDUCE_MIN ? INT64_MAX : 0;
}

/* One group: rows along the innermost reduced axis, outer ones around them. */
static int64_t group_value(const job *j, const uint8_t *x)
{
    const rq_reduce_plan *p = j->p;
    const int outer = p->row > 1 ? p->n_red - 1 : p->n_red;
    int64_t at[RQ_MAX_RANK] = { 0 }, acc = start_of(j->kind);
    if (p->group == 0)
        return acc;
    for (;;) {
        acc = row_value(j, x, p->row, acc);
        int i = outer - 1;
        for (; i >= 0; i--) {
            x += p->red_stride[i];
            if (++at[i] < p->red[i])
                break;
            x -= at[i] * p->red_stride[i];
            at[i] = 0;
        }
        if (i < 0)
            return acc;
    }
}

/* n <= TILE neighbouring outputs whose groups are columns `stride` apart: rows are read as they lie. */
static void columns(const job *j, int64_t *acc, const uint8_t *x, int64_t rows, int64_t stride, int64_t n)
{
    enum { BLOCK = 1 << 15 }; /* rows whose sums of squares still fit s32 */
    const bool most = j->kind == RQ_REDUCE_MAX, choose = chooses(j->kind);
    for (int64_t i = 0; i < n; i++)
        acc[i] = start_of(j->kind);
    for (int64_t at = 0; at < rows; at += BLOCK) {
        const int64_t to = rows - at < BLOCK ? rows : at + BLOCK;
        int32_t part[TILE];
        for (int64_t i = 0; i < n; i++)
            part[i] = most ? INT32_MIN : choose ? INT32_MAX : 0;
        if (j->plain && !choose && !j->flip) {
            j->a->k->pool8->sum((uint32_t *)part, x, (size_t)stride, (size_t)(to - at), (size_t)n);
            x += (to - at) * stride;
        } else
            for (int64_t r = at; r < to; r++, x += stride)
                if (choose)
                    for (int64_t i = 0; i < n; i++) {
                        const int32_t v = j->value[x[i]];
                        part[i] = (v > part[i]) == most ? v : part[i];
                    }
                else if (j->plain)
                    for (int64_t i = 0; i < n; i++)
                        part[i] += x[i] ^ j->flip;
                else
                    for (int64_t i = 0; i < n; i++)
                        part[i] += j->value[x[i]];
        for (int64_t i = 0; i < n; i++)
            if (choose)
                acc[i] = (part[i] > acc[i]) == most ? part[i] : acc[i];
            else
                acc[i] += part[i] - (j->plain ? (to - at) * j->zero : 0);
    }
}

static void store(const job *j, int64_t at, int64_t sum)
{
    const rq_qparams *x = j->a->in_q[0], *y = j->a->out_q[0];
    double v = (double)sum;
    const double s = x->scale[0];
    switch (j->kind) {
    case RQ_REDUCE_MEAN:
        v = v * s / (double)j->p->group;
        break;
    case RQ_REDUCE_L1:
        v *= fabs(s);
        break;
    case RQ_REDUCE_SUM_SQUARE:
        v *= s * s;
        break;
    case RQ_REDUCE_L2:
        v = sqrt(v) * fabs(s);
        break;
    case RQ_REDUCE_LOG_SUM:
        v *= s;
        rq_map_f64[RQ_MAP_LOG](&v, &v, 1, 0, 0);
        break;
    default:
        v = j->p->group ? v * s : chooses(j->kind) ? v * INFINITY : 0; /* of nothing: what the float form gives */
    }
    j->a->out[0]->u8[at] = (uint8_t)rq_quantize_one((float)v, y->scale[0], y->zero_point[0], j->lo, j->hi);
}

static void span(void *arg, int64_t from, int64_t n)
{
    const job *j = arg;
    const rq_reduce_plan *p = j->p;
    for (int64_t o = from; o < from + n;) {
        const uint8_t *x = j->a->in[0]->u8;
        int64_t rest = o;
        for (int i = p->n_kept - 1; i >= 0; i--) {
            x += rest % p->kept[i] * p->kept_stride[i];
            rest /= p->kept[i];
        }
        const int last = p->n_kept - 1;
        if (p->n_red == 1 && p->row == 1 && last >= 0 && p->kept_stride[last] == 1) {
            int64_t acc[TILE], m = p->kept[last] - o % p->kept[last];
            m = m < from + n - o ? m : from + n - o;
            m = m < TILE ? m : TILE;
            columns(j, acc, x, p->group, p->red_stride[0], m);
            for (int64_t i = 0; i < m; i++)
                store(j, o++, acc[i]);
        } else {
            store(j, o++, group_value(j, x));
        }
    }
}

void rq_int_reduce_run(const rq_op_args *a, const rq_reduce_plan *p, rq_reduce kind)
{
    const rq_qparams *q = a->in_q[0];
    job j = { .a = a, .p = p, .kind = kind, .flip = rq_int_flip_to_u8(q->dtype) };
    j.zero = q->zero_point[0] + (j.flip ? 128 : 0);
    j.plain = kind != RQ_REDUCE_L1 && kind != RQ_REDUCE_L2 && kind != RQ_REDUCE_SUM_SQUARE;
    for (int32_t i = 0; i < 256; i++) {
        const int32_t v = (i ^ j.flip) - j.zero;
        j.value[i] = j.plain ? v : kind == RQ_REDUCE_L1 ? (v < 0 ? -v : v) : v * v;
    }
    rq_qparams_limits(a->out_q[0], &j.lo, &j.hi);
    const int64_t piece = p->group < WORK ? WORK / (p->group + 1) : 1;
    const bool neighbours = p->n_kept && p->kept_stride[p->n_kept - 1] == 1; /* whole rows of them are read */
    rq_bcast_spans(a->threads, p->outputs, neighbours && piece < TILE ? TILE : piece, span, &j);
}
