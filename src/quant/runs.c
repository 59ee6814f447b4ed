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

/* Elements from..to-1 of channels c..c_end-1: a piece. */
typedef struct part {
    int64_t c, c_end, from, to;
} part;

static part part_of(const rq_runs *r, int64_t piece)
{
    const int64_t blocks = (r->rest + r->block - 1) / r->block;
    if (r->by_channel)
        return (part) { r->channels * piece / r->pieces, r->channels * (piece + 1) / r->pieces, 0, r->rest };
    return (part) { 0, r->channels, blocks * piece / r->pieces * r->block,
                    least(r->rest, blocks * (piece + 1) / r->pieces * r->block) };
}

static void walk_piece(void *arg, int64_t piece)
{
    const walk *w = arg;
    const rq_runs *r = w->r;
    const part p = part_of(r, piece);
    const bool by_turns = !r->by_channel && step_of(r) != 1 && r->channels > 1;
    const int64_t turn = by_turns ? r->block : p.to - p.from;
    for (int64_t at = p.from; at < p.to; at += turn)
        for (int64_t c = p.c; c < p.c_end; c++)
            walk_channel(w, (int)piece, c, at, least(p.to, at + turn));
}

void rq_runs_walk(const rq_runs *r, rq_exec *e, rq_runs_fn fn, void *arg)
{
    walk w = { r, fn, arg };
    if (r->channels * r->rest > 0)
        rq_threads_for(rq_exec_pool(e), r->pieces, walk_piece, &w);
}

/* ---- extremes ---- */

typedef struct extremes {
    const rq_runs *r;
    rq_kernels k;
    rq_extremes *out; /* [pieces][channels], or [channels] where pieces are channels */
    bool near_zero;
} extremes;

/* Of channel 0, as this piece keeps them. */
static rq_extremes *extremes_of(const extremes *a, int64_t piece)
{
    return a->out + (a->r->by_channel ? 0 : piece * a->r->channels);
}

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
    const extremes *a = arg;
    rq_extremes *to = extremes_of(a, piece) + channel;
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

/* ---- extremes of channels that lie in a row: all of a row at once ---- */

enum { GROUP = 16, WIDE = 16 * GROUP };

static bool in_rows(const rq_runs *r)
{
    const rq_runs_axes *o = &r->outer;
    return r->x.dtype == RQ_DTYPE_F32 && o->n && o->stride[o->n - 1] == 1 && o->dim[o->n - 1] >= GROUP &&
           (step_of(r) != 1 || r->rest == 1);
}

static void fold_row(float *restrict lo, float *restrict hi, const float *restrict x, int64_t n)
{
    int64_t i = 0;
    for (; i + GROUP <= n; i += GROUP)
        for (int k = 0; k < GROUP; k++) {
            lo[i + k] = x[i + k] < lo[i + k] ? x[i + k] : lo[i + k];
            hi[i + k] = x[i + k] > hi[i + k] ? x[i + k] : hi[i + k];
        }
    for (; i < n; i++) {
        lo[i] = x[i] < lo[i] ? x[i] : lo[i];
        hi[i] = x[i] > hi[i] ? x[i] : hi[i];
    }
}

/* Elements of n <= WIDE channels in a row, from c on. */
static void look_at_row(const extremes *a, rq_extremes *out, const part *p, int64_t c, int64_t n)
{
    const char *channel = a->r->data + offset_of(&a->r->outer, c) * (int64_t)sizeof(float);
    float lo[WIDE], hi[WIDE], low, high;
    for (int i = 0; i < WIDE; i++) {
        lo[i] = INFINITY;
        hi[i] = -INFINITY;
    }
    for (int64_t at = p->from; at < p->to; at++) {
        int64_t left;
        size_t finite;
        const float *x = (const float *)element(a->r, channel, at, &left);
        a->k.minmax(x, (size_t)n, &low, &high, &finite);
        if (finite == (size_t)n) {
            fold_row(lo, hi, x, n);
            continue;
        }
        for (int64_t i = 0; i < n; i++) {
            if (isfinite(x[i])) {
                fold_row(lo + i, hi + i, x + i, 1);
            } else {
                count_bad(&out[c + i], x + i, 1);
                out[c + i].finite--; /* of all that are added below */
            }
        }
    }
    for (int64_t i = 0; i < n; i++) {
        out[c + i].lo = lo[i];
        out[c + i].hi = hi[i];
        out[c + i].finite += (uint64_t)(p->to - p->from);
    }
}

static void look_at_rows(void *arg, int64_t piece)
{
    const extremes *a = arg;
    const int64_t row = a->r->outer.dim[a->r->outer.n - 1];
    const part p = part_of(a->r, piece);
    for (int64_t c = p.c, n; c < p.c_end; c += n) {
        n = least(least(row - c % row, p.c_end - c), WIDE);
        look_at_row(a, extremes_of(a, piece), &p, c, n);
    }
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
    extremes a = { .r = r, .k = rq_exec_kernels(e), .out = out, .near_zero = near_zero };
    if (rows > 1 && !(a.out = rq_mem_alloc((size_t)rows, (size_t)r->channels * sizeof *out)))
        return RQ_NO_MEMORY;
    for (int64_t i = 0; i < rows * r->channels; i++)
        a.out[i] = (rq_extremes) { .lo = INFINITY, .hi = -INFINITY, .least_abs = INFINITY };
    if (in_rows(r) && !near_zero && r->rest > 0)
        rq_threads_for(rq_exec_pool(e), r->pieces, look_at_rows, &a);
    else
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
