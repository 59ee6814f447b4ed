/* quant/cells.c — see cells.h. */
#include "quant/cells.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "quant/exec.h"
#include "tensor/strided.h"

rq_status rq_cells_init(rq_cells *c, const rq_strided *x, const int *axes, int n_axes, rq_err *err)
{
    bool keep[RQ_MAX_RANK] = { false };
    const int rank = x->shape.rank;
    char text[RQ_SHAPE_TEXT];
    memset(c, 0, sizeof *c);
    for (int i = 0; i < n_axes; i++) {
        const int axis = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (axis < 0 || axis >= rank)
            return rq_fail(err, RQ_BAD_SHAPE, "axis %d of a tensor %s, expected %d..%d", axes[i],
                           rq_shape_text(&x->shape, text, sizeof text), -rank, rank - 1);
        if (keep[axis])
            return rq_fail(err, RQ_BAD_ARG, "axis %d is named twice", axis);
        keep[axis] = true;
    }
    c->x = *x;
    c->keep = x->shape;
    c->n = c->each = 1;
    for (int i = 0; i < rank; i++) {
        const int64_t d = x->shape.dim[i];
        if (keep[i]) {
            c->kept[c->n_kept++] = i;
            c->n *= d;
        } else {
            c->rest.dim[c->rest.rank] = d;
            c->rest_stride[c->rest.rank++] = x->stride[i];
            c->each *= d;
            c->keep.dim[i] = 1;
        }
    }
    if (c->n == 1)
        c->keep.rank = 0;
    c->per_cell = (c->each + RQ_CELLS_PIECE - 1) / RQ_CELLS_PIECE;
    return RQ_OK;
}

rq_strided rq_cells_at(const rq_cells *c, int64_t i)
{
    rq_strided v = { .dtype = c->x.dtype, .data = c->x.data, .shape = c->rest };
    int64_t offset = 0;
    for (int a = c->n_kept - 1; a >= 0; a--) {
        const int axis = c->kept[a];
        offset += i % c->x.shape.dim[axis] * c->x.stride[axis];
        i /= c->x.shape.dim[axis];
    }
    v.data = (char *)v.data + offset * (rq_dtype_bits(v.dtype) / 8);
    memcpy(v.stride, c->rest_stride, sizeof v.stride);
    return v;
}

/* ---- extremes ---- */

static const rq_extremes nothing = { .lo = INFINITY, .hi = -INFINITY, .least_abs = INFINITY };

static void look_closely(rq_extremes *r, const float *x, size_t n, bool skip_zeros)
{
    uint32_t zeros = 0; /* n is a tile */
    float least = r->least_abs;
    for (size_t i = 0; i < n; i++) {
        const float v = fabsf(x[i]);
        const bool is_zero = v == 0;
        zeros += is_zero;
        least = v < least && !(skip_zeros && is_zero) ? v : least;
    }
    r->zeros += zeros;
    r->least_abs = least;
}

static void add(rq_extremes *r, const rq_extremes *more)
{
    r->lo = fminf(r->lo, more->lo);
    r->hi = fmaxf(r->hi, more->hi);
    r->least_abs = fminf(r->least_abs, more->least_abs);
    r->finite += more->finite;
    r->nan += more->nan;
    r->infinite += more->infinite;
    r->zeros += more->zeros;
}

struct look {
    const rq_cells *c;
    rq_kernels k;
    bool fine, skip_zeros;
    rq_extremes *out; /* [n * per_cell] */
};

static void look_at_piece(void *arg, int64_t item)
{
    const struct look *l = arg;
    const rq_strided v = rq_cells_at(l->c, item / l->c->per_cell);
    const int64_t from = item % l->c->per_cell * RQ_CELLS_PIECE;
    const int64_t to = from + RQ_CELLS_PIECE < l->c->each ? from + RQ_CELLS_PIECE : l->c->each;
    rq_extremes r = nothing;
    float tile[RQ_CELLS_TILE];
    for (int64_t at = from; at < to; at += RQ_CELLS_TILE) {
        const size_t n = (size_t)(to - at < RQ_CELLS_TILE ? to - at : RQ_CELLS_TILE);
        const float *x = rq_strided_read(&v, at, (int64_t)n, tile);
        rq_extremes t = nothing;
        size_t finite;
        l->k.minmax(x, n, &t.lo, &t.hi, &finite);
        t.finite = finite;
        for (size_t i = 0; finite < n && i < n; i++) {
            t.nan += isnan(x[i]) != 0;
            t.infinite += isinf(x[i]) != 0; /* -1 for -infinity */
        }
        if (l->fine)
            look_closely(&t, x, n, l->skip_zeros);
        add(&r, &t);
    }
    l->out[item] = r;
}

rq_status rq_cells_extremes(const rq_cells *c, rq_exec *e, bool fine, bool skip_zeros, rq_extremes *out)
{
    struct look l = { .c = c, .k = rq_exec_kernels(e), .fine = fine, .skip_zeros = skip_zeros, .out = out };
    if (c->per_cell > 1) {
        l.out = rq_mem_alloc((size_t)(c->n * c->per_cell), sizeof *l.out);
        if (!l.out)
            return RQ_NO_MEMORY;
    }
    for (int64_t i = 0; i < c->n; i++)
        out[i] = nothing;
    rq_threads_for(rq_exec_pool(e), c->n * c->per_cell, look_at_piece, &l);
    if (l.out != out) {
        for (int64_t i = 0; i < c->n * c->per_cell; i++)
            add(&out[i / c->per_cell], &l.out[i]);
        rq_mem_free(l.out);
    }
    return RQ_OK;
}

/* ---- counts ---- */

struct tally {
    const rq_cells *c;
    const rq_histogram *h;
    rq_kernels k;
    float lo, hi;
    bool skip_zeros;
    int lanes;
    uint64_t *count; /* [lanes][h->n] */
};

static size_t without_zeros(float *dst, const float *x, size_t n)
{
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        dst[m] = x[i]; /* may be in place */
        m += x[i] != 0;
    }
    return m;
}

static void tally_lane(void *arg, int64_t lane)
{
    const struct tally *t = arg;
    float tile[RQ_CELLS_TILE];
    uint64_t *count = t->count + lane * t->h->n;
    for (int64_t item = lane; item < t->c->n * t->c->per_cell; item += t->lanes) {
        const rq_strided v = rq_cells_at(t->c, item / t->c->per_cell);
        const int64_t from = item % t->c->per_cell * RQ_CELLS_PIECE;
        const int64_t to = from + RQ_CELLS_PIECE < t->c->each ? from + RQ_CELLS_PIECE : t->c->each;
        const int64_t step = !t->skip_zeros && rq_strided_direct(&v, from) ? to - from : RQ_CELLS_TILE;
        for (int64_t at = from; at < to; at += step) {
            size_t n = (size_t)(to - at < step ? to - at : step);
            const float *x = rq_strided_read(&v, at, (int64_t)n, tile);
            if (t->skip_zeros) {
                n = without_zeros(tile, x, n);
                x = tile;
            }
            rq_histogram_tally(t->h, &t->k, count, t->lo, t->hi, x, n);
        }
    }
}

void rq_cells_tally(const rq_cells *c, const rq_kernels *k, rq_threads *pool, rq_histogram *h, float lo, float hi,
                    bool skip_zeros)
{
    struct tally t = { .c = c, .h = h, .k = *k, .lo = lo, .hi = hi, .skip_zeros = skip_zeros };
    const int64_t pieces = c->n * c->per_cell;
    t.lanes = pieces < RQ_CELLS_LANES ? (int)pieces : RQ_CELLS_LANES;
    t.count = rq_threads_count(pool) > 1 && t.lanes > 1 ? rq_mem_zalloc((size_t)t.lanes * (size_t)h->n, sizeof *t.count)
                                                        : NULL;
    if (!t.count) {
        t.lanes = 1;
        t.count = h->count;
        tally_lane(&t, 0);
        return;
    }
    rq_threads_for(pool, t.lanes, tally_lane, &t);
    for (int64_t lane = 0; lane < t.lanes; lane++)
        for (int i = 0; i < h->n; i++)
            h->count[i] += t.count[lane * h->n + i];
    rq_mem_free(t.count);
}
