/* quant/runs.c — see runs.h. */
#include "quant/runs.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "requant/qparams.h"
#include "tensor/convert.h"

/* ---- cutting ---- */

enum { BUFFER = 1024 }; /* numbers gathered at a time */

static size_t size_of(rq_dtype d)
{
    return (size_t)rq_dtype_bits(d) / 8;
}

static void add_axis(rq_runs_axes *a, int at, int64_t dim, int64_t stride)
{
    for (int i = a->n++; i > at; i--) {
        a->dim[i] = a->dim[i - 1];
        a->stride[i] = a->stride[i - 1];
    }
    a->dim[at] = dim;
    a->stride[at] = stride;
}

/* Behind those of larger stride; one that is repeated (stride 0) goes outermost. */
static int by_stride(const rq_runs_axes *a, int64_t stride)
{
    int at = a->n;
    while (at > 0 && (!stride || (a->stride[at - 1] && a->stride[at - 1] < stride)))
        at--;
    return at;
}

/* Axes that continue one another become one. */
static void join(rq_runs_axes *a)
{
    int n = 0;
    for (int i = 1; i < a->n; i++) {
        if (a->stride[n] == a->stride[i] * a->dim[i])
            a->dim[n] *= a->dim[i];
        else
            a->dim[++n] = a->dim[i];
        a->stride[n] = a->stride[i];
    }
    a->n = a->n ? n + 1 : 0;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t step_of(const rq_runs *r)
{
    return r->inner.stride[r->inner.n - 1];
}

static bool in_place(const rq_runs *r)
{
    return step_of(r) == 1 && r->x.dtype == RQ_DTYPE_F32;
}

/* Long runs where a channel lies in one place; where channels lie beside each other, few enough elements of each that the lines they
 * share stay in the cache until the last channel has had its turn. */
static void cut(rq_runs *r)
{
    enum { SHARED = 1 << 14 };
    const bool apart = step_of(r) == 1, short_ones = r->rest <= BUFFER;
    const int64_t pieces = least(RQ_RUNS_PIECES, r->channels * r->rest / RQ_RUNS_MOST + 1);
    r->by_channel = r->channels >= pieces && (apart || short_ones);
    r->block = in_place(r) ? RQ_RUNS_MOST : BUFFER;
    if (!apart && !r->by_channel && r->channels > 1)
        r->block = least(BUFFER, SHARED / r->channels > 16 ? SHARED / r->channels : 16);
    r->pieces = (int)(r->by_channel ? pieces : least(pieces, (r->rest + r->block - 1) / r->block));
    r->pieces = r->pieces > 0 ? r->pieces : 1;
}

static rq_status keep_axes(rq_runs *r, const int *axes, int n_axes, rq_err *err)
{
    const rq_shape *s = &r->x.shape;
    char text[RQ_SHAPE_TEXT];
    for (int i = 0; i < n_axes; i++) {
        const int axis = axes[i] < 0 ? axes[i] + s->rank : axes[i];
        if (axis < 0 || axis >= s->rank)
            return rq_fail(err, RQ_BAD_SHAPE, "axis %d of a tensor %s, expected %d..%d", axes[i],
                           rq_shape_text(s, text, sizeof text), -s->rank, s->rank - 1);
        if (r->kept[axis])
            return rq_fail(err, RQ_BAD_ARG, "axis %d is named twice", axis);
        r->kept[axis] = true;
    }
    return RQ_OK;
}

rq_status rq_runs_init(rq_runs *r, const rq_strided *x, const int *axes, int n_axes, rq_err *err)
{
    if (x->dtype != RQ_DTYPE_F32 && x->dtype != RQ_DTYPE_F64 && x->dtype != RQ_DTYPE_F16 && x->dtype != RQ_DTYPE_BF16)
        return rq_fail(err, RQ_BAD_DTYPE, "the numbers are %s, expected f32, f64, f16 or bf16",
                       rq_dtype_name(x->dtype));
    *r = (rq_runs) { .x = *x, .keep = x->shape, .data = x->data, .channels = 1, .rest = 1 };
    RQ_TRY(keep_axes(r, axes, n_axes, err));
    for (int i = 0; i < x->shape.rank; i++) {
        const int64_t dim = x->shape.dim[i];
        int64_t stride = x->stride[i];
        if (r->kept[i]) {
            r->channels *= dim;
            if (dim > 1)
                add_axis(&r->outer, r->outer.n, dim, stride);
            continue;
        }
        r->keep.dim[i] = 1;
        r->rest *= dim;
        if (dim < 2)
            continue;
        if (stride < 0) { /* backwards is forwards from the other end */
            r->data += (dim - 1) * stride * (int64_t)size_of(x->dtype);
            stride = -stride;
        }
        add_axis(&r->inner, by_stride(&r->inner, stride), dim, stride);
    }
    if (!r->inner.n)
        add_axis(&r->inner, 0, 1, 1);
    join(&r->outer);
    join(&r->inner);
    cut(r);
    return RQ_OK;
}

/* Offset of element i of these axes, in elements. */
static int64_t offset_of(const rq_runs_axes *a, int64_t i)
{
    int64_t at = 0;
    for (int k = a->n - 1; k > 0; k--) {
        at += i % a->dim[k] * a->stride[k];
        i /= a->dim[k];
    }
    return a->n ? at + i * a->stride[0] : at;
}

rq_strided rq_runs_channel(const rq_runs *r, int64_t c)
{
    rq_strided v = { .dtype = r->x.dtype };
    v.data = (char *)r->x.data + offset_of(&r->outer, c) * (int64_t)size_of(v.dtype);
    for (int i = 0; i < r->x.shape.rank; i++)
        if (!r->kept[i]) {
            v.shape.dim[v.shape.rank] = r->x.shape.dim[i];
            v.stride[v.shape.rank++] = r->x.stride[i];
        }
    return v;
}

/* ---- walking ---- */

typedef struct walk {
    const rq_runs *r;
    rq_runs_fn fn;
    void *arg;
} walk;

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

/* Where element i of a channel lies; *left: how many follow it on the innermost axis, itself included. */
static const char *element(const rq_runs *r, const char *channel, int64_t i, int64_t *left)
{
    const int64_t row = r->inner.dim[r->inner.n - 1];
    *left = row - i % row;
    return channel + offset_of(&r->inner, i) * (int64_t)size_of(r->x.dtype);
}

/* Elements from..to-1 of channel c. */
static void walk_channel(const walk *w, int piece, int64_t c, int64_t from, int64_t to)
{
    const rq_runs *r = w->r;
    const char *channel = r->data + offset_of(&r->outer, c) * (int64_t)size_of(r->x.dtype);
    float buffer[BUFFER];
    while (from < to) {
        int64_t left, n = least(to - from, r->block);
        if (in_place(r)) {
            const char *src = element(r, channel, from, &left);
            n = least(n, left);
            w->fn(w->arg, piece, c, (const float *)src, (size_t)n);
        } else { /* fill the buffer from as many rows as it takes */
            for (int64_t have = 0; have < n; have += left) {
                const char *src = element(r, channel, from + have, &left);
                left = least(left, n - have);
                gather(buffer + have, src, r->x.dtype, step_of(r), left);
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
    if (step_of(r) == 1 || r->channels == 1) {
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
    bool by_channel, near_zero;
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

static void look_near_zero(rq_extremes *x, const float *v, size_t n)
{
    uint32_t zeros = 0; /* n is a run */
    float least_abs = x->least_abs;
    for (size_t i = 0; i < n; i++) {
        const float m = fabsf(v[i]);
        zeros += m == 0;
        least_abs = m < least_abs && m != 0 ? m : least_abs;
    }
    x->zeros += zeros;
    x->least_abs = least_abs;
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
    if (a->near_zero)
        look_near_zero(to, x, n);
}

static void add(rq_extremes *x, const rq_extremes *more)
{
    x->lo = fminf(x->lo, more->lo);
    x->hi = fmaxf(x->hi, more->hi);
    x->least_abs = fminf(x->least_abs, more->least_abs);
    x->finite += more->finite;
    x->nan += more->nan;
    x->above += more->above;
    x->below += more->below;
    x->zeros += more->zeros;
}

rq_status rq_runs_extremes(const rq_runs *r, rq_exec *e, bool near_zero, rq_extremes *out)
{
    const int64_t rows = r->by_channel ? 1 : r->pieces;
    extremes a = { .k = rq_exec_kernels(e),
                   .near_zero = near_zero,
                   .out = out,
                   .channels = r->channels,
                   .by_channel = r->by_channel };
    if (rows > 1 && !(a.out = rq_mem_alloc((size_t)rows, (size_t)r->channels * sizeof *out)))
        return RQ_NO_MEMORY;
    for (int64_t i = 0; i < rows * r->channels; i++)
        a.out[i] = (rq_extremes) { .lo = INFINITY, .hi = -INFINITY, .least_abs = INFINITY };
    rq_runs_walk(r, e, look, &a);
    if (rows == 1)
        return RQ_OK;
    memcpy(out, a.out, (size_t)r->channels * sizeof *out);
    for (int64_t i = r->channels; i < rows * r->channels; i++)
        add(&out[i % r->channels], &a.out[i]);
    rq_mem_free(a.out);
    return RQ_OK;
}

/* ---- counts ---- */

typedef struct counts {
    rq_runs_count_fn fn;
    const void *arg;
    uint64_t *count; /* [pieces][bins] */
    size_t bins;
} counts;

static void count(void *arg, int piece, int64_t channel, const float *x, size_t n)
{
    const counts *a = arg;
    (void)channel;
    a->fn(a->arg, a->count + (size_t)piece * a->bins, x, n);
}

void rq_runs_count(const rq_runs *r, rq_exec *e, rq_runs_count_fn fn, const void *arg, uint64_t *out, int bins)
{
    enum { MOST_COUNTS = 16 }; /* that are kept beside each other */
    counts a = { .fn = fn, .arg = arg, .bins = (size_t)bins };
    rq_runs cut = *r; /* a count does not depend on pieces */
    cut.pieces = r->pieces < MOST_COUNTS ? r->pieces : MOST_COUNTS;
    if (cut.pieces > 1 && rq_threads_count(rq_exec_pool(e)) > 1)
        a.count = rq_mem_zalloc((size_t)cut.pieces, a.bins * sizeof *out);
    if (!a.count) {
        cut.pieces = 1;
        a.count = out;
    }
    rq_runs_walk(&cut, e, count, &a);
    if (a.count == out)
        return;
    for (size_t i = 0; i < (size_t)cut.pieces * a.bins; i++)
        out[i % a.bins] += a.count[i];
    rq_mem_free(a.count);
}

typedef struct histogram {
    rq_kernels k;
    const rq_bins *b;
} histogram;

static void count_bins(const void *arg, uint64_t *count, const float *x, size_t n)
{
    const histogram *h = arg;
    h->k.histogram(count, h->b, x, n);
}

void rq_runs_histogram(const rq_runs *r, rq_exec *e, const rq_bins *b, uint64_t *out)
{
    const histogram h = { rq_exec_kernels(e), b };
    memset(out, 0, (size_t)b->n * sizeof *out);
    rq_runs_count(r, e, count_bins, &h, out, b->n);
}
