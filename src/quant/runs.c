/* quant/runs.c — see runs.h. */
#include "quant/runs.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "requant/qparams.h"
#include "tensor/convert.h"

/* ---- cutting ---- */

static size_t size_of(rq_dtype d)
{
    return (size_t)rq_dtype_bits(d) / 8;
}

/* Insert an axis behind those of larger stride; one that is repeated (stride 0) goes outermost. */
static void add_axis(rq_runs *r, int64_t dim, int64_t stride)
{
    int at = r->n++;
    for (; at > 0 && (!stride || (r->stride[at - 1] && r->stride[at - 1] < stride)); at--) {
        r->dim[at] = r->dim[at - 1];
        r->stride[at] = r->stride[at - 1];
    }
    r->dim[at] = dim;
    r->stride[at] = stride;
}

/* Axes that continue one another become one. */
static void join(rq_runs *r)
{
    int n = 0;
    for (int i = 1; i < r->n; i++) {
        if (r->stride[n] == r->stride[i] * r->dim[i]) {
            r->dim[n] *= r->dim[i];
            r->stride[n] = r->stride[i];
        } else {
            n++;
            r->dim[n] = r->dim[i];
            r->stride[n] = r->stride[i];
        }
    }
    r->n = n + 1;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Long runs where a channel lies in one place; where channels lie beside each other, few enough elements of each that the lines they
 * share stay in the cache until the last channel has had its turn. */
static void cut(rq_runs *r)
{
    enum { SHARED = 1 << 14, BUFFER = 1024 };
    const int64_t inner = r->stride[r->n - 1], all = r->channels * r->rest;
    const bool in_place = inner == 1 && r->dtype == RQ_DTYPE_F32;
    r->block = in_place ? RQ_RUNS_MOST : BUFFER;
    if (inner != 1 && r->channels > 1)
        r->block = least(BUFFER, SHARED / r->channels > 16 ? SHARED / r->channels : 16);
    const int64_t pieces = least(RQ_RUNS_PIECES, all / RQ_RUNS_MOST + 1);
    r->by_channel = r->channels >= pieces && inner == 1;
    r->pieces = (int)(r->by_channel ? pieces : least(pieces, (r->rest + r->block - 1) / r->block));
    r->pieces = r->pieces > 0 ? r->pieces : 1;
}

rq_status rq_runs_init(rq_runs *r, const rq_strided *x, int axis, rq_err *err)
{
    const rq_shape *s = &x->shape;
    if (x->dtype != RQ_DTYPE_F32 && x->dtype != RQ_DTYPE_F64 && x->dtype != RQ_DTYPE_F16 && x->dtype != RQ_DTYPE_BF16)
        return rq_fail(err, RQ_BAD_DTYPE, "the numbers are %s, expected f32, f64, f16 or bf16",
                       rq_dtype_name(x->dtype));
    if (axis != RQ_PER_TENSOR && (axis < 0 || axis >= s->rank))
        return rq_fail(err, RQ_BAD_SHAPE, "channels are along axis %d, but the tensor has rank %d", axis, s->rank);
    *r = (rq_runs) { .data = x->data, .dtype = x->dtype, .channels = 1, .rest = 1 };
    for (int i = 0; i < s->rank; i++) {
        const int64_t dim = s->dim[i];
        int64_t stride = x->stride[i];
        if (i == axis) {
            r->channels = dim;
            r->step = stride;
            continue;
        }
        r->rest *= dim;
        if (dim < 2)
            continue;
        if (stride < 0) { /* backwards is forwards from the other end */
            r->data += (dim - 1) * stride * (int64_t)size_of(x->dtype);
            stride = -stride;
        }
        add_axis(r, dim, stride);
    }
    if (!r->n)
        add_axis(r, 1, 1);
    join(r);
    cut(r);
    return RQ_OK;
}

/* ---- walking ---- */

typedef struct walk {
    const rq_runs *r;
    rq_runs_fn fn;
    void *arg;
} walk;

/* Offset of element i of a channel, in elements; *left: how many follow it on the innermost axis, itself included. */
static int64_t offset_of(const rq_runs *r, int64_t i, int64_t *left)
{
    int64_t at = 0;
    *left = r->dim[r->n - 1] - i % r->dim[r->n - 1];
    for (int k = r->n - 1; k >= 0; k--) {
        at += i % r->dim[k] * r->stride[k];
        i /= r->dim[k];
    }
    return at;
}

static void gather(float *dst, const char *src, rq_dtype d, int64_t stride, int64_t n)
{
    switch (d) {
    case RQ_DTYPE_F64:
        for (int64_t i = 0; i < n; i++)
            dst[i] = (float)((const double *)src)[i * stride];
        return;
    case RQ_DTYPE_F16:
        for (int64_t i = 0; i < n; i++)
            dst[i] = rq_convert_f16_to_f32(((const uint16_t *)src)[i * stride]);
        return;
    case RQ_DTYPE_BF16:
        for (int64_t i = 0; i < n; i++)
            dst[i] = rq_convert_bf16_to_f32(((const uint16_t *)src)[i * stride]);
        return;
    default:
        for (int64_t i = 0; i < n; i++)
            dst[i] = ((const float *)src)[i * stride];
    }
}

/* Elements from..to-1 of channel c. */
static void walk_channel(const walk *w, int piece, int64_t c, int64_t from, int64_t to)
{
    const rq_runs *r = w->r;
    const int64_t inner = r->stride[r->n - 1];
    const bool in_place = inner == 1 && r->dtype == RQ_DTYPE_F32;
    float buffer[1024];
    while (from < to) {
        int64_t left, n = least(to - from, r->block);
        const char *src = r->data + (c * r->step + offset_of(r, from, &left)) * (int64_t)size_of(r->dtype);
        if (in_place) {
            n = least(n, left);
            w->fn(w->arg, piece, c, (const float *)src, (size_t)n);
        } else { /* fill the buffer from as many rows as it takes */
            int64_t have = least(n, left);
            gather(buffer, src, r->dtype, inner, have);
            while (have < n) {
                src = r->data + (c * r->step + offset_of(r, from + have, &left)) * (int64_t)size_of(r->dtype);
                left = least(left, n - have);
                gather(buffer + have, src, r->dtype, inner, left);
                have += left;
            }
            w->fn(w->arg, piece, c, buffer, (size_t)n);
        }
        from += n;
    }
}

static void walk_piece(void *arg, int64_t piece)
{
    const walk *w = arg;
    const rq_runs *r = w->r;
    if (r->by_channel) {
        const int64_t to = r->channels * (piece + 1) / r->pieces;
        for (int64_t c = r->channels * piece / r->pieces; c < to; c++)
            walk_channel(w, (int)piece, c, 0, r->rest);
        return;
    }
    const int64_t blocks = (r->rest + r->block - 1) / r->block;
    const int64_t from = blocks * piece / r->pieces * r->block,
                  to = least(r->rest, blocks * (piece + 1) / r->pieces * r->block);
    if (r->stride[r->n - 1] == 1 || r->channels == 1) {
        for (int64_t c = 0; c < r->channels; c++)
            walk_channel(w, (int)piece, c, from, to);
        return;
    }
    for (int64_t at = from; at < to; at += r->block)
        for (int64_t c = 0; c < r->channels; c++)
            walk_channel(w, (int)piece, c, at, least(to, at + r->block));
}

void rq_runs_walk(const rq_runs *r, rq_exec *e, rq_runs_fn fn, void *arg)
{
    walk w = { r, fn, arg };
    if (r->channels * r->rest > 0)
        rq_threads_for(rq_exec_pool(e), r->pieces, walk_piece, &w);
}

/* ---- extremes ---- */

typedef struct extremes {
    rq_kernels k;
    rq_extremes *out; /* [pieces][channels], or [channels] where pieces are channels */
    int64_t channels;
    bool by_channel;
} extremes;

/* NaN and infinities are rare: they are told apart where the kernel missed some. */
static void count_bad(rq_extremes *x, const float *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x->nan += isnan(v[i]) ? 1 : 0;
        x->above += v[i] == INFINITY;
        x->below += v[i] == -INFINITY;
    }
}

static void look(void *arg, int piece, int64_t channel, const float *x, size_t n)
{
    extremes *a = arg;
    rq_extremes *to = &a->out[(a->by_channel ? 0 : piece * a->channels) + channel];
    float lo, hi;
    size_t finite;
    a->k.minmax(x, n, &lo, &hi, &finite);
    to->lo = lo < to->lo ? lo : to->lo;
    to->hi = hi > to->hi ? hi : to->hi;
    to->finite += finite;
    if (finite < n)
        count_bad(to, x, n);
}

rq_status rq_runs_extremes(const rq_runs *r, rq_exec *e, rq_extremes *out)
{
    const int64_t rows = r->by_channel ? 1 : r->pieces;
    extremes a = { .k = rq_exec_kernels(e), .out = out, .channels = r->channels, .by_channel = r->by_channel };
    if (rows > 1 && !(a.out = rq_mem_alloc((size_t)rows, (size_t)r->channels * sizeof *out)))
        return RQ_NO_MEMORY;
    for (int64_t i = 0; i < rows * r->channels; i++)
        a.out[i] = (rq_extremes) { .lo = INFINITY, .hi = -INFINITY };
    rq_runs_walk(r, e, look, &a);
    if (rows == 1)
        return RQ_OK;
    memcpy(out, a.out, (size_t)r->channels * sizeof *out);
    for (int64_t i = 1; i < rows; i++)
        for (int64_t c = 0; c < r->channels; c++) {
            const rq_extremes *x = &a.out[i * r->channels + c];
            out[c].lo = fminf(out[c].lo, x->lo);
            out[c].hi = fmaxf(out[c].hi, x->hi);
            out[c].finite += x->finite;
            out[c].nan += x->nan;
            out[c].above += x->above;
            out[c].below += x->below;
        }
    rq_mem_free(a.out);
    return RQ_OK;
}

/* ---- counts ---- */

typedef struct counts {
    rq_kernels k;
    const rq_bins *b;
    uint64_t *count; /* [pieces][bins] */
} counts;

static void count(void *arg, int piece, int64_t channel, const float *x, size_t n)
{
    counts *a = arg;
    (void)channel;
    a->k.histogram(a->count + (size_t)piece * (size_t)a->b->n, a->b, x, n);
}

rq_status rq_runs_count(const rq_runs *r, rq_exec *e, const rq_bins *b, uint64_t *out)
{
    const size_t bins = (size_t)b->n;
    counts a = { .k = rq_exec_kernels(e), .b = b, .count = out };
    memset(out, 0, bins * sizeof *out);
    if (r->pieces > 1 && !(a.count = rq_mem_zalloc((size_t)r->pieces, bins * sizeof *out)))
        return RQ_NO_MEMORY;
    rq_runs_walk(r, e, count, &a);
    if (r->pieces == 1)
        return RQ_OK;
    for (int i = 0; i < r->pieces; i++)
        for (size_t k = 0; k < bins; k++)
            out[k] += a.count[(size_t)i * bins + k];
    rq_mem_free(a.count);
    return RQ_OK;
}
