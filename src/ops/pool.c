/* ops/pool.c — MaxPool (any type, codes too), AveragePool, LpPool, GlobalAveragePool, GlobalMaxPool, GlobalLpPool. */
#include <math.h>
#include <string.h>

#include "ops/bcast.h"
#include "ops/eltwise.h"
#include "ops/half.h"
#include "ops/int_ops.h"
#include "ops/last.h"
#include "ops/pool_grad.h"
#include "ops/samples.h"
#include "ops/window.h"

enum { MAX_ROW = 4096 }; /* elements of a row that is joined on the stack */

/* Where tap t of window o lies in the input plane; -1: in the padding. */
static int64_t position(const rq_window *w, const int64_t o[3], const int64_t t[3])
{
    int64_t at = 0;
    for (int d = 0; d < 3; d++) {
        const int64_t v = o[d] * w->stride[d] - w->pad_lo[d] + t[d] * w->dilation[d];
        if (v < 0 || v >= w->in[d])
            return -1;
        at = at * w->in[d] + v;
    }
    return at;
}

/* A row-major position in the plane counted column by column instead (storage_order 1: first axis fastest). */
static int64_t by_columns(const rq_window *w, int64_t at)
{
    const int64_t x = at % w->in[2], y = at / w->in[2] % w->in[1], z = at / (w->in[2] * w->in[1]);
    return (x * w->in[1] + y) * w->in[0] + z;
}

static rq_status pool_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    rq_window w;
    a->out_dtype[0] = a->in[0]->dtype;
    if (a->n_out > 1)
        a->out_dtype[1] = RQ_DTYPE_S64;
    if (x->rank < 0)
        return RQ_OK;
    RQ_TRY(rq_window_pool(&w, a->node, x, a->err));
    for (int i = 0; i < a->n_out; i++)
        a->out_shape[i] = rq_window_out_shape(&w, x, x->dim[1]);
    return RQ_OK;
}

static double pool_macs(const rq_op_args *a)
{
    rq_window w;
    if (rq_window_pool(&w, a->node, &a->in[0]->shape, NULL) != RQ_OK)
        return 0;
    return (double)rq_shape_count(&a->out[0]->shape) * (double)rq_window_span(w.kernel);
}

/* ---- MaxPool ---- */

typedef struct max_job {
    const rq_kernels *k;
    const rq_window *w;
    void *y;
    const void *x;
    int64_t *index;
    bool columns;
} max_job;

/* Codes, the common case: loops so plain that they become vector code. */
static void larger_row_u8(uint8_t *restrict acc, const uint8_t *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        acc[i] = x[i] > acc[i] ? x[i] : acc[i];
}

static void larger_row_s8(int8_t *restrict acc, const int8_t *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        acc[i] = x[i] > acc[i] ? x[i] : acc[i];
}

#define T float
#define SUFFIX f32
#define LOWEST -INFINITY
#define IS_NAN(v) isnan(v)
#define ROW_MAX(k, acc, x, n) (k)->zip[RQ_ZIP_MAX](acc, acc, 1, x, 1, n)
#include "ops/pool_tmpl.h"

#define T double
#define SUFFIX f64
#define LOWEST -INFINITY
#define IS_NAN(v) isnan(v)
#define ROW_MAX(k, acc, x, n) rq_zip_f64[RQ_ZIP_MAX](acc, acc, 1, x, 1, n)
#include "ops/pool_tmpl.h"

#define T int8_t
#define SUFFIX s8
#define LOWEST INT8_MIN
#define IS_NAN(v) 0
#define ROW_MAX(k, acc, x, n) larger_row_s8(acc, x, n)
#include "ops/pool_tmpl.h"

#define T uint8_t
#define SUFFIX u8
#define LOWEST 0
#define IS_NAN(v) 0
#define ROW_MAX(k, acc, x, n) larger_row_u8(acc, x, n)
#include "ops/pool_tmpl.h"

#define T int16_t
#define SUFFIX s16
#define LOWEST INT16_MIN
#define IS_NAN(v) 0
#define ROW_MAX(k, acc, x, n) rq_eltwise_s16.zip[RQ_ZIP_MAX](acc, acc, 1, x, 1, n)
#include "ops/pool_tmpl.h"

#define T uint16_t
#define SUFFIX u16
#define LOWEST 0
#define IS_NAN(v) 0
#define ROW_MAX(k, acc, x, n) rq_eltwise_u16.zip[RQ_ZIP_MAX](acc, acc, 1, x, 1, n)
#include "ops/pool_tmpl.h"
#include "ops/rows.h"

/* Windows of 2 x 2 side by side. */
static void quarters_item(void *arg, int64_t i)
{
    const max_job *j = arg;
    const rq_window *w = j->w;
    const int64_t in = w->in[1] * w->in[2], out = w->out[1] * w->out[2];
    for (int64_t z = i * w->in[0]; z < (i + 1) * w->in[0]; z++)
        j->k->pool_quarters((float *)j->y + z * out, (const float *)j->x + z * in, w->out[1], w->out[2], w->in[2]);
}

static rq_status max_wide(const rq_op_args *a)
{
    static void (*const items[RQ_N_DTYPES])(void *, int64_t) = {
        [RQ_DTYPE_F32] = max_item_f32, [RQ_DTYPE_F64] = max_item_f64, [RQ_DTYPE_S8] = max_item_s8,
        [RQ_DTYPE_U8] = max_item_u8,   [RQ_DTYPE_S16] = max_item_s16, [RQ_DTYPE_U16] = max_item_u16,
    };
    const rq_tensor *x = a->in[0];
    rq_window w;
    if (!items[x->dtype])
        return rq_op_no_form(a, x->dtype);
    RQ_TRY(rq_window_pool(&w, a->node, &x->shape, a->err));
    if (rq_tensor_count(a->out[0]) == 0)
        return RQ_OK;
    max_job j = { .k = a->k,
                  .w = &w,
                  .y = a->out[0]->data,
                  .x = x->data,
                  .index = a->n_out > 1 && a->out[1] ? a->out[1]->s64 : NULL,
                  .columns = rq_attr_int(a->node, RQ_WORD_storage_order, 0) != 0 };
    const bool quarters = x->dtype == RQ_DTYPE_F32 && !j.index && rq_window_are_quarters(&w);
    rq_threads_for(a->threads, x->shape.dim[0] * x->shape.dim[1], quarters ? quarters_item : items[x->dtype], &j);
    return RQ_OK;
}

/* Positions are told in the order of the file. */
static rq_last max_last(const rq_op_args *a)
{
    return a->n_out > 1 && a->out[1] ? RQ_LAST_NO : rq_int_window_last(a);
}

static rq_status max_forward(const rq_op_args *a)
{
    if (a->last)
        return rq_int_max_pool_run(a);
    return rq_half_run(a, max_wide);
}

/* ---- AveragePool, LpPool: a sum over the window, then one function of it. The average adds the rows of a window first,
 * then across, as the runtimes do that it is compared with: codes that meet in a tie round alike. ---- */

typedef struct sum_job {
    const rq_kernels *k;
    const rq_window *w;
    float *y;
    const float *x;
    bool with_pad; /* AveragePool: padding counts (as zeros) in the divisor */
    float p;       /* LpPool: the norm; 0: AveragePool */
} sum_job;

/* Taps of window o along axis d: within the input, and within input and padding. */
static void taps(const rq_window *w, int d, int64_t o, int64_t *inside, int64_t *padded)
{
    *inside = *padded = 0;
    for (int64_t t = 0; t < w->kernel[d]; t++) {
        const int64_t v = o * w->stride[d] - w->pad_lo[d] + t * w->dilation[d];
        *inside += v >= 0 && v < w->in[d];
        *padded += v < w->in[d] + w->pad_hi[d];
    }
}

/* LpPool, and rows too long to join: one element at a time. */
static float window_sum(const sum_job *j, const float *x, const int64_t o[3])
{
    const rq_window *w = j->w;
    int64_t t[3];
    float sum = 0;
    for (t[0] = 0; t[0] < w->kernel[0]; t[0]++)
        for (t[1] = 0; t[1] < w->kernel[1]; t[1]++)
            for (t[2] = 0; t[2] < w->kernel[2]; t[2]++) {
                const int64_t at = position(w, o, t);
                if (at < 0)
                    continue;
                float v = x[at];
                if (j->p == 2) {
                    v = v * v;
                } else if (j->p != 0) {
                    v = fabsf(v);
                    if (j->p != 1)
                        j->k->zip[RQ_ZIP_POW](&v, &v, 1, &j->p, 0, 1);
                }
                sum += v;
            }
    return sum;
}

static float window_norm(const sum_job *j, float sum)
{
    if (j->p == 1)
        return sum;
    if (j->p == 2)
        return sqrtf(sum);
    const float root = 1 / j->p;
    j->k->zip[RQ_ZIP_POW](&sum, &sum, 1, &root, 0, 1);
    return sum;
}

/* The rows that output line o[0], o[1] covers, added up; false when the row is too long for that. */
static bool join_rows(const sum_job *j, float *joined, const float *x, const int64_t o[3])
{
    const rq_window *w = j->w;
    const int64_t width = w->in[2];
    if (width > MAX_ROW || j->p != 0)
        return false;
    memset(joined, 0, (size_t)width * sizeof *joined);
    int64_t t[2];
    for (t[0] = 0; t[0] < w->kernel[0]; t[0]++)
        for (t[1] = 0; t[1] < w->kernel[1]; t[1]++) {
            const int64_t z = o[0] * w->stride[0] - w->pad_lo[0] + t[0] * w->dilation[0];
            const int64_t v = o[1] * w->stride[1] - w->pad_lo[1] + t[1] * w->dilation[1];
            if (z >= 0 && z < w->in[0] && v >= 0 && v < w->in[1])
                j->k->zip[RQ_ZIP_ADD](joined, joined, 1, x + (z * w->in[1] + v) * width, 1, (size_t)width);
        }
    return true;
}

static void sum_item(void *arg, int64_t item)
{
    const sum_job *j = arg;
    const rq_window *w = j->w;
    const float *x = j->x + item * rq_window_span(w->in);
    float *y = j->y + item * rq_window_span(w->out), joined[MAX_ROW];
    int64_t o[3];
    for (o[0] = 0; o[0] < w->out[0]; o[0]++)
        for (o[1] = 0; o[1] < w->out[1]; o[1]++) {
            int64_t rows[2], padded_rows[2];
            taps(w, 0, o[0], &rows[0], &padded_rows[0]);
            taps(w, 1, o[1], &rows[1], &padded_rows[1]);
            const bool fast = join_rows(j, joined, x, o);
            for (o[2] = 0; o[2] < w->out[2]; o[2]++) {
                float sum = 0;
                int64_t columns, padded;
                if (fast) {
                    int64_t at = o[2] * w->stride[2] - w->pad_lo[2];
                    for (int64_t t = 0; t < w->kernel[2]; t++, at += w->dilation[2])
                        if (at >= 0 && at < w->in[2])
                            sum += joined[at];
                } else {
                    sum = window_sum(j, x, o);
                }
                if (j->p != 0) {
                    *y++ = window_norm(j, sum);
                    continue;
                }
                taps(w, 2, o[2], &columns, &padded);
                *y++ =
                    sum / (float)(j->with_pad ? padded_rows[0] * padded_rows[1] * padded : rows[0] * rows[1] * columns);
            }
        }
}

static rq_status sum_wide(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    rq_window w;
    if (x->dtype != RQ_DTYPE_F32)
        return rq_op_no_form(a, x->dtype);
    RQ_TRY(rq_window_pool(&w, a->node, &x->shape, a->err));
    if (rq_tensor_count(a->out[0]) == 0)
        return RQ_OK;
    sum_job j = { .k = a->k, .w = &w, .y = a->out[0]->f32, .x = x->f32 };
    if (a->node->row == &rq_op_lp_pool)
        j.p = (float)rq_attr_int(a->node, RQ_WORD_p, 2);
    else
        j.with_pad = rq_attr_int(a->node, RQ_WORD_count_include_pad, 0) != 0;
    rq_threads_for(a->threads, x->shape.dim[0] * x->shape.dim[1], sum_item, &j);
    return RQ_OK;
}

static rq_status sum_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, sum_wide);
}

static rq_status lp_pool_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    const int64_t p = rq_attr_int(n, RQ_WORD_p, 2);
    if (p < 1)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "p is %lld, expected at least 1", (long long)p);
    return RQ_OK;
}

/* ---- global pools: one window, the whole plane ---- */

static rq_status global_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_same(a));
    const rq_shape *x = &a->in[0]->shape;
    if (x->rank >= 0 && x->rank < 3)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes, expected at least 3", x->rank);
    for (int i = 2; i < x->rank; i++)
        a->out_shape[0].dim[i] = 1;
    return RQ_OK;
}

static rq_status global_lp_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    const float p = opset < 2 ? rq_attr_float(n, RQ_WORD_p, 2) : (float)rq_attr_int(n, RQ_WORD_p, 2);
    if (!(p > 0))
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "p is %g, expected a number above 0", (double)p);
    return RQ_OK;
}

typedef struct global_job {
    const rq_op_args *a;
    int64_t area;
    bool max;
    float p; /* GlobalLpPool: the norm; 0: no norm */
} global_job;

static float norm_of(const rq_kernels *k, const float *x, size_t n, float p)
{
    if (p == 1)
        return k->fold[RQ_FOLD_ABS](x, n, 0);
    if (p == 2)
        return sqrtf(k->fold[RQ_FOLD_SQUARE](x, n, 0));
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        float v = fabsf(x[i]);
        k->zip[RQ_ZIP_POW](&v, &v, 1, &p, 0, 1);
        sum += v;
    }
    const float root = 1 / p;
    k->zip[RQ_ZIP_POW](&sum, &sum, 1, &root, 0, 1);
    return sum;
}

/* A sum in PyTorch's order, whatever the processor: vectors of 8 in four interleaved chains; a chain adds 16 of them (more in very long sums), hands
 * that to the level above, and so on over four levels; then the levels, the chains, and the lanes one after the other behind what fills no vector.
 * In training an average of codes falls on a tie between two codes once in as many times as it has elements, and its last bit decides. */
static float sum_as_trained(const float *x, int64_t n)
{
    enum { LANES = 8, CHAINS = 4, ROW = LANES * CHAINS, LEVELS = 4 };
    float part[LEVELS][ROW] = { { 0 } }, sum = 0;
    const int64_t vectors = n / LANES, rows = vectors / CHAINS;
    int power = 4;
    while (power < 15 && rows > (int64_t)1 << (4 * power + 3))
        power++; /* a quarter of the logarithm, at least 4 */
    for (int64_t i = 0; i < rows;) {
        for (int l = 0; l < ROW; l++)
            part[0][l] += x[i * ROW + l];
        i++;
        for (int level = 1; level < LEVELS && i % ((int64_t)1 << (level * power)) == 0; level++)
            for (int l = 0; l < ROW; l++) {
                part[level][l] += part[level - 1][l];
                part[level - 1][l] = 0;
            }
    }
    for (int level = 1; level < LEVELS; level++)
        for (int l = 0; l < ROW; l++)
            part[0][l] += part[level][l];
    for (int64_t v = rows * CHAINS; v < vectors; v++)
        for (int l = 0; l < LANES; l++)
            part[0][l] += x[v * LANES + l];
    for (int64_t i = vectors * LANES; i < n; i++)
        sum += x[i];
    for (int l = 0; l < LANES; l++)
        sum += ((part[0][l] + part[0][LANES + l]) + part[0][2 * LANES + l]) + part[0][3 * LANES + l];
    return sum;
}

static void global_span(void *arg, int64_t from, int64_t n)
{
    const global_job *j = arg;
    const rq_kernels *k = j->a->k;
    for (int64_t i = from; i < from + n; i++) {
        const float *x = j->a->in[0]->f32 + i * j->area;
        j->a->out[0]->f32[i] = j->p             ? norm_of(k, x, (size_t)j->area, j->p)
                               : j->max         ? k->fold[RQ_FOLD_MAX](x, (size_t)j->area, 0)
                               : j->a->training ? sum_as_trained(x, j->area) / (float)j->area
                                                : k->sum_f32(x, (size_t)j->area) / (float)j->area;
    }
}

static rq_status global_wide(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    const rq_shape *s = &x->shape;
    global_job j = { .a = a, .area = rq_shape_span(s, 2, s->rank), .max = a->node->row == &rq_op_global_max_pool };
    const int64_t planes = s->dim[0] * s->dim[1];
    if (a->node->row == &rq_op_global_lp_pool) /* p was a float at opset 1 */
        j.p = a->opset < 2 ? rq_attr_float(a->node, RQ_WORD_p, 2) : (float)rq_attr_int(a->node, RQ_WORD_p, 2);
    if (x->dtype == RQ_DTYPE_F32) {
        rq_bcast_spans(a->threads, planes, RQ_BCAST_PIECE / (j.area + 1), global_span, &j);
        return RQ_OK;
    }
    if (!j.max || rq_dtype_bits(x->dtype) > 32 || rq_dtype_bits(x->dtype) < 8)
        return rq_op_no_form(a, x->dtype);
    if (rq_dtype_bits(x->dtype) == 8) {
        const uint8_t flip = x->dtype == RQ_DTYPE_S8 ? 0x80 : 0; /* makes s8 order as bytes */
        for (int64_t i = 0; i < planes && j.area; i++) {
            const uint8_t *v = x->u8 + i * j.area;
            uint8_t most = 0;
            for (int64_t q = 0; q < j.area; q++)
                most = (v[q] ^ flip) > most ? v[q] ^ flip : most;
            a->out[0]->u8[i] = most ^ flip;
        }
        return RQ_OK;
    }
    for (int64_t i = 0; i < planes; i++) {
        double most = -INFINITY;
        for (int64_t q = 0; q < j.area; q++) {
            const double v = rq_tensor_get(x, i * j.area + q);
            most = v > most ? v : most;
        }
        rq_tensor_set(a->out[0], i, most);
    }
    return RQ_OK;
}

static rq_status global_forward(const rq_op_args *a)
{
    if (a->last) /* which is GlobalMaxPool: the others do not move codes */
        return rq_int_global_max_pool_run(a);
    return rq_half_run_single(a, global_wide);
}

static double global_macs(const rq_op_args *a)
{
    return (double)rq_shape_count(&a->in[0]->shape);
}

/* ---- rows ---- */

const rq_op rq_op_max_pool = {
    .name = "MaxPool",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 2,
    .flags = RQ_OP_MOVES | RQ_OP_OUT_LD, /* the largest code is the code of the largest real */
    .place = RQ_PLACE_SAME,
    .infer = pool_infer,
    .samples = rq_samples_pool,
    .forward = max_forward,
    .last = max_last,
    .backward = rq_pool_grad_max,
    .saves = RQ_OP_IN(0) | RQ_OP_OUT(0),
    .macs = pool_macs,
};

const rq_op rq_op_average_pool = {
    .name = "AveragePool",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_OUT_LD,
    .place = RQ_PLACE_SAME,
    .infer = pool_infer,
    .samples = rq_samples_first,
    .forward = sum_forward,
    .backward = rq_pool_grad_sum,
    .accepts_int = rq_int_pool_accepts,
    .last = rq_int_average_pool_last,
    .forward_int = rq_int_average_pool_forward,
    .macs = pool_macs,
};

const rq_op rq_op_lp_pool = {
    .name = "LpPool",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .check = lp_pool_check,
    .infer = pool_infer,
    .samples = rq_samples_first,
    .forward = sum_forward,
    .backward = rq_pool_grad_sum,
    .saves = RQ_OP_IN(0) | RQ_OP_OUT(0),
    .macs = pool_macs,
};

const rq_op rq_op_global_average_pool = {
    .name = "GlobalAveragePool",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_OWN,
    .infer = global_infer,
    .samples = rq_samples_first,
    .forward = global_forward,
    .backward = rq_pool_grad_global_average,
    .accepts_int = rq_int_pool_accepts,
    .last = rq_last_can,
    .forward_int = rq_int_global_average_pool_forward,
    .macs = global_macs,
};

const rq_op rq_op_global_max_pool = {
    .name = "GlobalMaxPool",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_MOVES,
    .place = RQ_PLACE_FLOAT,
    .infer = global_infer,
    .samples = rq_samples_first,
    .forward = global_forward,
    .last = rq_last_can,
    .backward = rq_pool_grad_global,
    .saves = RQ_OP_IN(0) | RQ_OP_OUT(0),
    .macs = global_macs,
};

const rq_op rq_op_global_lp_pool = {
    .name = "GlobalLpPool",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .check = global_lp_check,
    .infer = global_infer,
    .samples = rq_samples_first,
    .forward = global_forward,
    .backward = rq_pool_grad_global,
    .saves = RQ_OP_IN(0) | RQ_OP_OUT(0),
    .macs = global_macs,
};
