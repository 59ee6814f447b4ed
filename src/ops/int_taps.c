/* ops/int_taps.c — see int_taps.h. */
#include "ops/int_taps.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/quantize.h"
#include "ops/int_last.h"
#include "ops/int_ops.h"
#include "ops/packs.h"

enum {
    SMALL_STEP = 8,      /* up to this depth of a step pieces are filled up to whole ones */
    FINISH_COST = 8,     /* of a vector of columns, in steps of a tile */
    PIECE_COST = 2,      /* of finding a piece, the same */
    SMALL_WORK = 1 << 16 /* bytes from which moving is shared by threads */
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t span_of(const int64_t v[3])
{
    return v[0] * v[1] * v[2];
}

/* ---- making ---- */

/* Groups of a product: the number that makes a pixel cheapest. One more group costs nothing while it fits into a vector and a step. */
static int64_t join_groups(const rq_int_taps *t, const rq_qgemm_isa *g)
{
    int64_t best = 1;
    double least = 0;
    for (int64_t n = 1; n <= t->group && (n == 1 || n * t->per_in * t->span <= 1024); n++) {
        if (t->group % n)
            continue;
        const int64_t steps = (n * t->per_in * t->span + g->kr - 1) / g->kr,
                      vectors = (n * t->per_out * t->members + g->lanes - 1) / g->lanes;
        const double cost =
            ((double)t->pieces * ((double)(steps * vectors) + PIECE_COST) + FINISH_COST * (double)vectors) / (double)n;
        if (n == 1 || cost < least)
            least = cost, best = n;
    }
    return best;
}

static int64_t parts_of(const rq_int_taps *t)
{
    return t->pieces <= RQ_QGEMM_MAX_RUNS ? 1 : (t->pieces + RQ_QGEMM_MAX_RUNS - 1) / RQ_QGEMM_MAX_RUNS;
}

/* Do the weights of a group stand as [columns][depth] already? */
static bool is_plain(const rq_int_taps *t)
{
    return t->pieces == 1 && t->span == 1 && t->joined == 1 && t->members == 1 && t->run == t->per_in;
}

void rq_int_taps_release(rq_int_taps *t)
{
    rq_mem_free(t->at);
    rq_mem_free(t->tap);
    rq_mem_free(t->zeros);
    rq_mem_free(t->own);
    rq_mem_free(t->plain);
    rq_mem_free(t->unit);
    *t = (rq_int_taps) { 0 };
}

/* ---- weights ---- */

/* The output channel of column j of product p. */
static int64_t channel_of(const rq_int_taps *t, int64_t p, int64_t j)
{
    const int64_t each = t->joined * t->per_out;
    return p * each + j % each;
}

/* Column j of product p to dst [pieces][run]; codes of other groups are `other`, what fills up is `nothing`. */
static void copy_column(const rq_int_taps *t, uint8_t *dst, const uint8_t *w, int64_t p, int64_t j, uint8_t other,
                        uint8_t nothing)
{
    const int64_t each = t->joined * t->per_out, f = j / each, mine = j % each / t->per_out;
    const int64_t *tap = t->tap + f * t->pieces;
    const int64_t pixel = t->joined * t->per_in, step = t->in_step, n = t->per_in;
    w += (p * t->joined + mine) * t->group_step + j % t->per_out * t->out_step;
    for (int64_t k = 0; k < t->pieces; k++, dst += t->run) {
        if (t->joined > 1)
            memset(dst, other, (size_t)(t->span * pixel));
        memset(dst + t->span * pixel, nothing, (size_t)(t->run - t->span * pixel));
        for (int64_t s = 0; s < t->span; s++) {
            uint8_t *restrict to = dst + s * pixel + mine * n;
            const uint8_t *restrict from = w + tap[k] + s;
            for (int64_t c = 0; c < n; c++)
                to[c] = from[c * step];
        }
    }
}

typedef struct columns_job {
    const rq_int_taps *t;
    const uint8_t *w;
    int64_t p, some; /* columns of an item */
    uint8_t flip;
} columns_job;

static void copy_some(void *arg, int64_t item)
{
    const columns_job *c = arg;
    const rq_int_taps *t = c->t;
    for (int64_t j = item * c->some; j < t->columns && j < (item + 1) * c->some; j++)
        copy_column(t, t->plain + j * t->pieces * t->run, c->w, c->p, j,
                    (uint8_t)t->zero[c->p * t->columns + j] ^ c->flip, c->flip);
}

/* Product p to dst, its sums to sum. */
static void pack_product(rq_int_taps *t, const rq_op_args *a, int64_t p, char *dst, int32_t *sum)
{
    const rq_qgemm_isa *g = &a->k->qgemm;
    const uint8_t flip = rq_int_flip_to_s8(a->in_q[1]->dtype);
    const uint8_t *src = a->in[1]->u8 + p * t->group_step + t->tap[0];
    int64_t k_stride = t->in_step, col_stride = t->out_step;
    int32_t *part = t->add; /* which is made later */
    if (t->plain) {
        columns_job c = { t, a->in[1]->u8, p, 0, flip };
        c.some = SMALL_WORK / (t->pieces * t->run + 1) + 1;
        rq_threads_for(a->threads, (t->columns + c.some - 1) / c.some, copy_some, &c);
        src = t->plain;
        k_stride = 1;
        col_stride = t->pieces * t->run;
    }
    for (int64_t i = 0; i < parts_of(t); i++) {
        const int64_t first = i * RQ_QGEMM_MAX_RUNS, pieces = min64(t->pieces - first, RQ_QGEMM_MAX_RUNS);
        rq_qgemm_pack_on(a->threads, g, dst + (size_t)i * t->part_bytes, src + first * t->run, t->run, k_stride,
                         col_stride, pieces, t->run, t->columns, flip, i ? part : sum);
        for (int64_t j = 0; i && j < t->columns; j++)
            sum[j] = (int32_t)((uint32_t)sum[j] + (uint32_t)part[j]);
    }
}

typedef struct pack_args {
    rq_int_taps *t;
    const rq_op_args *a;
} pack_args;

static void pack_all(void *made, const void *arg)
{
    const pack_args *p = arg;
    rq_int_taps *t = p->t;
    int32_t *sum = (int32_t *)((char *)made + (size_t)t->products * t->w_bytes);
    if (t->run == 0 || t->pieces == 0)
        memset(sum, 0, (size_t)(t->products * t->columns) * sizeof *sum);
    else
        for (int64_t i = 0; i < t->products; i++)
            pack_product(t, p->a, i, (char *)made + (size_t)i * t->w_bytes, sum + i * t->columns);
}

static void read_zeros(rq_int_taps *t, const rq_op_args *a)
{
    const rq_qparams *q = a->in_q[1];
    t->any_zero = false;
    for (int64_t p = 0; p < t->products; p++)
        for (int64_t j = 0; j < t->columns; j++) {
            const int32_t zero = q->zero_point[channel_of(t, p, j) % q->n] - (rq_int_flip_to_s8(q->dtype) ? 128 : 0);
            t->zero[p * t->columns + j] = zero;
            t->any_zero = t->any_zero || zero;
        }
}

static size_t made_bytes(const rq_int_taps *t)
{
    return (size_t)t->products * t->w_bytes + (size_t)(t->products * t->columns) * sizeof *t->sum;
}

static void use(rq_int_taps *t, const void *made)
{
    t->w = made;
    t->sum = (const int32_t *)((const char *)made + (size_t)t->products * t->w_bytes);
}

void rq_int_taps_pack(rq_int_taps *t, const rq_op_args *a)
{
    const pack_args p = { t, a };
    read_zeros(t, a);
    pack_all(t->own, &p);
}

/* Weights that are there: shared with whoever needs the same, unless what stands between joined groups depends on zero points. */
static rq_status pack_constant(rq_int_taps *t, const rq_op_args *a, const char *name)
{
    const rq_qgemm_isa *g = &a->k->qgemm;
    const pack_args p = { t, a };
    read_zeros(t, a);
    if (a->packs && (t->joined == 1 || !t->any_zero)) {
        char key[640];
        const void *made;
        snprintf(key, sizeof key,
                 "taps %s %d %d %d %d, %d, %lld groups %lld joined steps %lld %lld %lld, %lld pieces of %lld, %s",
                 a->k->isa, g->lanes, g->max_vectors, g->kr, g->w_bytes, rq_int_flip_to_s8(a->in_q[1]->dtype),
                 (long long)t->group, (long long)t->joined, (long long)t->in_step, (long long)t->out_step,
                 (long long)t->group_step, (long long)t->pieces, (long long)t->run, name);
        RQ_TRY(rq_packs_get(a, a->in[1], key, made_bytes(t), pack_all, &p, &made));
        use(t, made);
    } else {
        t->own = rq_mem_alloc(made_bytes(t), 1);
        if (!t->own)
            return RQ_NO_MEMORY;
        pack_all(t->own, &p);
        use(t, t->own);
    }
    rq_mem_free(t->plain);
    t->plain = NULL;
    return RQ_OK;
}

/* A pixel, as far as the last product sees it. */
static size_t zeros_bytes(const rq_int_taps *t)
{
    return (size_t)((t->products - 1) * t->joined * t->per_in + t->run);
}

void rq_int_taps_fold(rq_int_taps *t, const rq_op_args *a)
{
    const rq_qparams *x = a->in_q[0], *w = a->in_q[1], *y = a->out_q[0];
    const int32_t zx = x->zero_point[0] + (rq_int_flip_to_u8(x->dtype) ? 128 : 0);
    const rq_tensor *b = a->n_in > 2 ? a->in[2] : NULL;
    memset(t->zeros, zx, zeros_bytes(t));
    for (int64_t p = 0; p < t->products; p++)
        for (int64_t j = 0; j < t->columns; j++) {
            const int64_t i = p * t->columns + j, c = channel_of(t, p, j), at = c % w->n;
            const float scale = x->scale[0] * w->scale[at];
            uint32_t add = (uint32_t)t->depth * (uint32_t)(zx * t->zero[i]) - (uint32_t)zx * (uint32_t)t->sum[i];
            if (b && b->dtype == RQ_DTYPE_S32)
                add += (uint32_t)b->s32[c];
            else if (b && !a->k->spec)
                add += (uint32_t)rq_quantize_bias_f32(b->f32[c], x->scale[0], w->scale[at]);
            t->add[i] = (int32_t)add;
            t->m[i] = y ? scale / y->scale[0] : scale;
            t->unit[i] = (double)x->scale[0] * w->scale[at];
            t->bias[i] = b && b->dtype == RQ_DTYPE_F32 ? b->f32[c] : 0;
        }
}

void rq_int_taps_scaled(rq_int_taps *t, const float *bias)
{
    t->scaled = true;
    t->behind = bias;
}

rq_status rq_int_taps_init(rq_int_taps *t, const rq_op_args *a, const char *name, bool fill)
{
    const rq_qgemm_isa *g = &a->k->qgemm;
    t->joined = join_groups(t, g);
    t->products = t->group / t->joined;
    t->columns = t->members * t->joined * t->per_out;
    t->run = t->span * t->joined * t->per_in;
    t->depth = t->pieces * t->run;
    if (fill && g->kr <= SMALL_STEP)
        t->run = (t->run + g->kr - 1) / g->kr * g->kr;
    t->any_zero = true;
    t->part_bytes = rq_mem_round(rq_qgemm_w_bytes(g, min64(t->pieces, RQ_QGEMM_MAX_RUNS), t->run, t->columns));
    t->w_bytes = t->part_bytes * (size_t)parts_of(t);
    const size_t n = (size_t)(t->products * t->columns);
    t->zeros = rq_mem_alloc(zeros_bytes(t) + 1, 1);
    t->unit = rq_mem_alloc(n, sizeof *t->unit + 4 * sizeof *t->add);
    if (!is_plain(t))
        t->plain = rq_mem_alloc((size_t)t->columns, (size_t)(t->pieces * t->run));
    if (!t->zeros || !t->unit || (!is_plain(t) && !t->plain))
        return RQ_NO_MEMORY;
    t->add = (int32_t *)(t->unit + n);
    t->zero = t->add + n;
    t->m = (float *)(t->zero + n);
    t->bias = t->m + n;
    if (a->in[1]->data) {
        RQ_TRY(pack_constant(t, a, name));
        rq_int_taps_fold(t, a);
        return RQ_OK;
    }
    t->own = rq_mem_alloc(made_bytes(t), 1);
    if (!t->own)
        return RQ_NO_MEMORY;
    use(t, t->own);
    return RQ_OK;
}

/* ---- sums of rows, for weights with zero points ---- */

/* Is output pixel i simply input pixel i? */
static bool is_matrix(const rq_int_taps *t)
{
    bool same = t->pieces == 1 && t->span == 1;
    for (int i = 0; i < 3; i++)
        same = same && t->in[i] == t->out[i] && t->stride[i] == 1 && t->at[0][i] == 0;
    return same;
}

typedef struct sums {
    const rq_int_taps *t;
    const int32_t *pixel; /* of each input pixel */
    int32_t *row;
    int32_t border;
} sums;

/* One row of output pixels. */
static void sum_row(void *arg, int64_t item)
{
    const sums *s = arg;
    const rq_int_taps *t = s->t;
    const int64_t o1 = item % t->out[1], o0 = item / t->out[1] % t->out[0], image = item / (t->out[1] * t->out[0]);
    for (int64_t o2 = 0; o2 < t->out[2]; o2++) {
        uint32_t sum = 0;
        for (int64_t k = 0; k < t->pieces; k++) {
            const int64_t i0 = o0 * t->stride[0] + t->at[k][0], i1 = o1 * t->stride[1] + t->at[k][1];
            const int64_t i2 = o2 * t->stride[2] + t->at[k][2];
            const bool inside = i0 >= 0 && i0 < t->in[0] && i1 >= 0 && i1 < t->in[1];
            for (int64_t j = i2; j < i2 + t->span; j++)
                sum += (uint32_t)(inside && j >= 0 && j < t->in[2]
                                      ? s->pixel[((image * t->in[0] + i0) * t->in[1] + i1) * t->in[2] + j]
                                      : s->border);
        }
        s->row[item * t->out[2] + o2] = (int32_t)sum;
    }
}

/* Scratch: sums of input pixels, of rows, then s32 products of parts, turn by turn. */
typedef struct layout {
    size_t row, part[2], bytes;
} layout;

static layout layout_of(const rq_int_taps *t, int64_t batch)
{
    const size_t rows = (size_t)(batch * span_of(t->out)), parts = (size_t)parts_of(t);
    const size_t part = parts > 1 ? rq_mem_round(rows * (size_t)t->columns * sizeof(int32_t)) : 0;
    layout l = { 0 };
    l.row = t->any_zero ? rq_mem_round((size_t)(batch * span_of(t->in)) * sizeof(int32_t)) : 0;
    l.part[0] = l.row + (t->any_zero ? rq_mem_round(rows * sizeof(int32_t)) : 0);
    l.part[1] = l.part[0] + part;
    l.bytes = l.part[1] + (parts > 2 ? part : 0);
    return l;
}

size_t rq_int_taps_scratch(const rq_int_taps *t, int64_t batch)
{
    return layout_of(t, batch).bytes;
}

static const int32_t *sums_of(const rq_int_taps *t, const rq_op_args *a, const uint8_t *x, int64_t x_ld, char *scratch)
{
    const int64_t batch = a->in[0]->shape.dim[0], channels = t->joined * t->per_in;
    sums s = { .t = t,
               .pixel = (int32_t *)scratch,
               .row = (int32_t *)(scratch + layout_of(t, batch).row),
               .border = (int32_t)channels * t->zeros[0] };
    a->k->row_sums((int32_t *)scratch, x, (size_t)x_ld, (size_t)(batch * span_of(t->in)), (size_t)channels);
    if (is_matrix(t))
        return s.pixel;
    rq_threads_for(batch * span_of(t->out) * t->pieces < SMALL_WORK ? NULL : a->threads, batch * t->out[0] * t->out[1],
                   sum_row, &s);
    return s.row;
}

/* ---- products ---- */

static rq_qgemm_out finishing(const rq_int_taps *t, const rq_op_args *a, int64_t p)
{
    rq_qgemm_out o = { .kind = a->out[0]->dtype == RQ_DTYPE_S32 ? RQ_QGEMM_S32 : RQ_QGEMM_F32 };
    const int64_t first = p * t->columns;
    if (a->out_q[0]) {
        o.kind = RQ_QGEMM_CODES;
        o.zp = a->out_q[0]->zero_point[0];
        rq_qparams_limits(a->out_q[0], &o.lo, &o.hi);
    }
    o.col_add = t->add + first;
    o.col_m = t->m + first;
    if (t->any_zero)
        o.col_zero = t->zero + first;
    if (t->scaled) {
        o.col_bias = t->behind ? t->behind + first : NULL;
    } else if (a->k->spec && o.kind != RQ_QGEMM_S32) {
        o.col_unit = t->unit + first;
        o.col_bias = t->bias + first;
        o.y_scale = a->out_q[0] ? (double)a->out_q[0]->scale[0] : 1;
    }
    return o;
}

/* Nothing is summed: the bias alone. */
static void run_empty(const rq_qgemm *g)
{
    int32_t zeros[RQ_QGEMM_MAX_COLUMNS];
    for (int64_t i = 0; i < g->rows; i++)
        for (int64_t j = 0; j < g->columns; j += RQ_QGEMM_MAX_COLUMNS) {
            memset(zeros, 0, sizeof zeros);
            rq_qgemm_finish(g->k, &g->out, zeros, i, j, min64(g->columns - j, RQ_QGEMM_MAX_COLUMNS));
        }
}

/* Are all products one job of the kernels, which finds the pieces once for all? */
static bool is_one_job(const rq_int_taps *t)
{
    return t->products == 1 || (!t->any_zero && t->run && t->pieces && parts_of(t) == 1);
}

static void run_product(const rq_int_taps *t, const rq_op_args *a, int64_t p, const uint8_t *x, int64_t x_ld,
                        const rq_qgemm_out *out, char *scratch)
{
    const int64_t batch = a->in[0]->shape.dim[0], parts = parts_of(t);
    const layout l = layout_of(t, batch);
    rq_int_taps_place at = { .t = t, .x = x, .x_ld = x_ld };
    for (int64_t i = 0; i < parts; i++) {
        at.first = i * RQ_QGEMM_MAX_RUNS;
        at.pieces = min64(t->pieces - at.first, RQ_QGEMM_MAX_RUNS);
        rq_qgemm g = { .k = a->k,
                       .rows = batch * span_of(t->out),
                       .runs = at.pieces,
                       .run = t->run,
                       .columns = t->columns,
                       .products = is_one_job(t) ? t->products : 1,
                       .x_step = t->joined * t->per_in,
                       .w_step = (int64_t)t->w_bytes,
                       .w = (char *)t->w + (size_t)p * t->w_bytes + (size_t)i * t->part_bytes,
                       .find = rq_int_taps_find,
                       .find_arg = &at,
                       .out = *out };
        if (is_matrix(t)) {
            g.x = x;
            g.x_stride = x_ld;
        }
        if (i + 1 < parts)
            g.out = (rq_qgemm_out) { .kind = RQ_QGEMM_S32, .y = scratch + l.part[i % 2], .ld = t->columns };
        if (i) {
            g.out.add = (const int32_t *)(scratch + l.part[(i - 1) % 2]);
            g.out.add_row = t->columns;
            g.out.add_col = 1;
        }
        if (t->run && t->pieces)
            rq_qgemm_run(&g, a->threads);
        else
            run_empty(&g);
    }
}

void rq_int_taps_run(const rq_int_taps *t, const rq_op_args *a, const uint8_t *x, int64_t x_ld, void *y, int64_t ld,
                     bool posts, void *scratch)
{
    const bool one = is_one_job(t);
    for (int64_t p = 0; p < (one ? 1 : t->products); p++) {
        const uint8_t *from = x + p * t->joined * t->per_in;
        rq_qgemm_out o = finishing(t, a, p);
        o.y = (char *)y + (size_t)(p * t->columns) * rq_int_last_element(a);
        o.ld = ld;
        if (posts && one) {
            o.post = a->post;
            o.n_post = a->n_post;
        }
        if (t->any_zero)
            o.row_sum = sums_of(t, a, from, x_ld, scratch);
        run_product(t, a, p, from, x_ld, &o, scratch);
    }
    if (posts && !one)
        rq_int_last_posts(a);
}
