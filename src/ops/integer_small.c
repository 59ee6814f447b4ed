/* ops/integer_small.c — the rarer integer operators of com.microsoft (docs/onnx-facts.md 2.9): MatMulInteger16,
 * MulInteger, ReduceSumInteger. Exact in 64 bits, the low 32 of which are the result. */
#include "ops/bcast.h"
#include "ops/elements.h"
#include "ops/int_ops.h"
#include "ops/integer.h"

#include <string.h>

static rq_status expect_types(const rq_infer *a, rq_dtype d, rq_dtype or_d, int first, int last)
{
    for (int i = first; i <= last && i < a->n_in; i++)
        if (a->in[i] && a->in[i]->dtype != RQ_DTYPE_NONE && a->in[i]->dtype != d && a->in[i]->dtype != or_d)
            return rq_infer_fail(a, RQ_BAD_DTYPE, "input %d is %s, expected %s or %s", i,
                                 rq_dtype_name(a->in[i]->dtype), rq_dtype_name(d), rq_dtype_name(or_d));
    a->out_dtype[0] = RQ_DTYPE_S32;
    return RQ_OK;
}

/* ---- MatMulInteger16: s16 x s16 (or u16), numpy's rules ---- */

static rq_status matmul16_infer(const rq_infer *a)
{
    RQ_TRY(expect_types(a, RQ_DTYPE_S16, RQ_DTYPE_U16, 0, 1));
    return rq_integer_matmul_shape(a, &a->in[0]->shape, &a->in[1]->shape, &a->out_shape[0]);
}

typedef struct products {
    const rq_tensor *x, *w;
    int32_t *y;
    int64_t rows, depth, columns;
} products;

static inline int64_t code16(const rq_tensor *t, int64_t i)
{
    return t->dtype == RQ_DTYPE_S16 ? t->s16[i] : t->u16[i];
}

/* Matrix a of x times matrix b of w, n times, to y (element counts are matrices). */
static void run_products(void *arg, int64_t y, int64_t a, int sa, int64_t b, int sb, int64_t n)
{
    const products *p = arg;
    for (int64_t m = 0; m < n; m++, y++, a += sa, b += sb)
        for (int64_t i = 0; i < p->rows; i++)
            for (int64_t j = 0; j < p->columns; j++) {
                int64_t sum = 0;
                for (int64_t k = 0; k < p->depth; k++)
                    sum += code16(p->x, (a * p->rows + i) * p->depth + k) *
                           code16(p->w, (b * p->depth + k) * p->columns + j);
                p->y[(y * p->rows + i) * p->columns + j] = (int32_t)(uint32_t)(uint64_t)sum;
            }
}

static rq_status matmul16_forward(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape, *w = &a->in[1]->shape;
    const rq_shape xb = rq_shape_of(x->rank > 2 ? x->rank - 2 : 0, x->dim),
                   wb = rq_shape_of(w->rank > 2 ? w->rank - 2 : 0, w->dim);
    rq_shape yb;
    products p = { .x = a->in[0],
                   .w = a->in[1],
                   .y = a->out[0]->s32,
                   .rows = x->rank > 1 ? x->dim[x->rank - 2] : 1,
                   .depth = x->dim[x->rank - 1],
                   .columns = w->rank > 1 ? w->dim[w->rank - 1] : 1 };
    rq_bcast b;
    if (rq_tensor_count(a->out[0]) == 0 || !rq_infer_broadcast_shapes(&xb, &wb, &yb))
        return RQ_OK;
    rq_bcast_init(&b, &yb, &xb, &wb);
    rq_bcast_for(&b, a->threads, run_products, &p);
    return RQ_OK;
}

/* ---- MulInteger: (A - za)(B - zb) ---- */

static rq_status mul_infer(const rq_infer *a)
{
    RQ_TRY(expect_types(a, RQ_DTYPE_U8, RQ_DTYPE_S8, 0, 3));
    const int of[2] = { 0, 2 };
    for (int i = 0; i < 2; i++) {
        const rq_tensor *z = of[i] + 1 < a->n_in ? a->in[of[i] + 1] : NULL;
        if (z && rq_shape_is_known(&z->shape) && rq_shape_count(&z->shape) != 1)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "zero point %d has %lld entries, expected 1", i,
                                 (long long)rq_shape_count(&z->shape));
    }
    if (a->in[0]->shape.rank < 0 || a->in[2]->shape.rank < 0)
        return RQ_OK;
    if (!rq_infer_broadcast_shapes(&a->in[0]->shape, &a->in[2]->shape, &a->out_shape[0]))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the shapes of A and B do not broadcast");
    return RQ_OK;
}

typedef struct factors {
    const rq_tensor *x, *w;
    int32_t *y, zx, zw;
} factors;

static inline int32_t code8(const rq_tensor *t, int64_t i)
{
    return t->dtype == RQ_DTYPE_S8 ? t->s8[i] : t->u8[i];
}

static void run_factors(void *arg, int64_t y, int64_t a, int sa, int64_t b, int sb, int64_t n)
{
    const factors *f = arg;
    for (int64_t i = 0; i < n; i++)
        f->y[y + i] = (code8(f->x, a + i * sa) - f->zx) * (code8(f->w, b + i * sb) - f->zw);
}

static rq_status mul_forward(const rq_op_args *a)
{
    const rq_tensor *zx = a->in[1], *zw = a->n_in > 3 ? a->in[3] : NULL;
    factors f = { a->in[0], a->in[2], a->out[0]->s32, zx ? code8(zx, 0) : 0, zw ? code8(zw, 0) : 0 };
    rq_bcast b;
    if (rq_tensor_count(a->out[0]) == 0)
        return RQ_OK;
    rq_bcast_init(&b, &a->out[0]->shape, &a->in[0]->shape, &a->in[2]->shape);
    rq_bcast_for(&b, a->threads, run_factors, &f);
    return RQ_OK;
}

/* MulInteger needs inputs 0 and 2. */
static rq_status mul_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    if (n->n_in < 3 || n->in[2] == RQ_NONE)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "input 2, the second factor, is left out");
    return RQ_OK;
}

/* ---- ReduceSumInteger ---- */

/* Which axes go. */
static rq_status axes_of(const rq_infer *a, bool gone[RQ_MAX_RANK])
{
    int n;
    const int64_t *axes = rq_attr_ints(a->node, RQ_WORD_axes, &n);
    memset(gone, 0, RQ_MAX_RANK * sizeof *gone);
    if (!axes)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "attribute axes is missing");
    for (int i = 0; i < n; i++) {
        const int at = rq_infer_axis(axes[i], a->in[0]->shape.rank);
        if (at < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes", (long long)axes[i],
                                 a->in[0]->shape.rank);
        gone[at] = true;
    }
    return RQ_OK;
}

static rq_status sum_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    bool gone[RQ_MAX_RANK];
    RQ_TRY(expect_types(a, RQ_DTYPE_U8, RQ_DTYPE_S8, 0, 0));
    if (x->rank < 0)
        return RQ_OK;
    RQ_TRY(axes_of(a, gone));
    rq_shape *y = &a->out_shape[0];
    y->rank = 0;
    const bool keep = rq_attr_int(a->node, RQ_WORD_keepdims, 1) != 0;
    for (int i = 0; i < x->rank; i++)
        if (!gone[i] || keep)
            y->dim[y->rank++] = gone[i] ? 1 : x->dim[i];
    return RQ_OK;
}

static rq_status sum_forward(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape;
    const rq_infer as_infer = {
        .graph = a->graph, .node = a->node, .opset = a->opset, .in = a->in, .n_in = a->n_in, .err = a->err
    };
    bool gone[RQ_MAX_RANK];
    int64_t step[RQ_MAX_RANK], size = 1; /* in y; 0 along axes that go */
    RQ_TRY(axes_of(&as_infer, gone));
    for (int i = x->rank - 1; i >= 0; i--) {
        step[i] = gone[i] ? 0 : size;
        size *= gone[i] ? 1 : x->dim[i];
    }
    uint32_t *y = a->out[0]->u32;
    memset(y, 0, a->out[0]->bytes);
    for (int64_t i = 0, n = rq_tensor_count(a->in[0]); i < n; i++) {
        int64_t at = 0, rest = i;
        for (int d = x->rank - 1; d >= 0; d--) {
            at += rest % x->dim[d] * step[d];
            rest /= x->dim[d];
        }
        y[at] += (uint32_t)code8(a->in[0], i);
    }
    return RQ_OK;
}

/* ---- rows ---- */

#define SMALL .domain = "com.microsoft", .since = 1, .known = 1, .min_out = 1, .max_out = 1, .place = RQ_PLACE_FLOAT

const rq_op rq_op_ms_matmul_integer16 = {
    .name = "MatMulInteger16", SMALL, .min_in = 2, .max_in = 2, .infer = matmul16_infer, .forward = matmul16_forward
};
const rq_op rq_op_ms_mul_integer = { .name = "MulInteger",
                                     SMALL,
                                     .min_in = 1,
                                     .max_in = 4,
                                     .check = mul_check,
                                     .infer = mul_infer,
                                     .forward = mul_forward };
const rq_op rq_op_ms_reduce_sum_integer = {
    .name = "ReduceSumInteger", SMALL, .min_in = 1, .max_in = 1, .infer = sum_infer, .forward = sum_forward
};
