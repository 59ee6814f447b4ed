/* ops/reduce.c — Reduce*, ArgMax, ArgMin, CumSum.
 *
 * Axes of Reduce* are an attribute at first and an input later (ReduceSum from opset 13, the others from 18); no axes
 * means all, or none with noop_with_empty_axes, where each element is then a group of its own. */
#include "ops/reduce.h"

#include <assert.h>
#include <string.h>

#include "kernels/quantize.h"
#include "ops/bcast.h"
#include "ops/eltwise.h"
#include "ops/grad.h"
#include "ops/half.h"
#include "ops/int_ops.h"

/* ---- axes ---- */

static bool axes_are_input(const rq_node *n, int64_t opset)
{
    return opset >= (strcmp(n->op, "ReduceSum") == 0 ? 13 : 18);
}

/* Which axes of a tensor of `rank` a list names; false: one is out of range. */
static bool mark_axes(const rq_node *n, const int64_t *axes, int count, int rank, bool *reduced)
{
    const bool all = count == 0 && !rq_attr_int(n, "noop_with_empty_axes", 0);
    for (int i = 0; i < rank; i++)
        reduced[i] = all;
    for (int i = 0; i < count; i++) {
        const int axis = rq_infer_axis(axes[i], rank);
        if (axis < 0)
            return false;
        reduced[axis] = true;
    }
    return true;
}

static rq_status reduce_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    const bool keep = rq_attr_int(a->node, "keepdims", 1) != 0;
    int64_t axes[RQ_MAX_RANK * 2];
    int n = 0;
    a->out_dtype[0] = a->in[0]->dtype;
    if (axes_are_input(a->node, a->opset)) {
        if (a->n_in > 1 && a->in[1])
            n = rq_infer_ints(a, 1, axes, RQ_MAX_RANK * 2);
    } else {
        int count;
        const int64_t *given = rq_attr_ints(a->node, "axes", &count);
        if (count > RQ_MAX_RANK * 2)
            return rq_infer_fail(a, RQ_BAD_GRAPH, "attribute axes has %d entries", count);
        n = count;
        if (n)
            memcpy(axes, given, (size_t)n * sizeof *axes);
    }
    if (x->rank < 0)
        return RQ_OK;
    if (n < 0) { /* axes come at run time; how many there are may be known */
        if (keep) {
            a->out_shape[0].rank = x->rank;
            for (int i = 0; i < x->rank; i++)
                a->out_shape[0].dim[i] = RQ_DIM_UNKNOWN;
        }
        return RQ_OK;
    }
    bool reduced[RQ_MAX_RANK];
    if (!mark_axes(a->node, axes, n, x->rank, reduced))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "an axis is out of range for an input of %d axes", x->rank);
    rq_shape *y = &a->out_shape[0];
    y->rank = 0;
    for (int i = 0; i < x->rank; i++)
        if (!reduced[i])
            y->dim[y->rank++] = x->dim[i];
        else if (keep)
            y->dim[y->rank++] = 1;
    return RQ_OK;
}

static const struct named {
    const char *op;
    rq_reduce kind;
} kinds[] = {
    { "ReduceSum", RQ_REDUCE_SUM },        { "ReduceMean", RQ_REDUCE_MEAN },
    { "ReduceMax", RQ_REDUCE_MAX },        { "ReduceMin", RQ_REDUCE_MIN },
    { "ReduceProd", RQ_REDUCE_PROD },      { "ReduceL1", RQ_REDUCE_L1 },
    { "ReduceL2", RQ_REDUCE_L2 },          { "ReduceSumSquare", RQ_REDUCE_SUM_SQUARE },
    { "ReduceLogSum", RQ_REDUCE_LOG_SUM }, { "ReduceLogSumExp", RQ_REDUCE_LOG_SUM_EXP },
};

static rq_reduce kind_of(const rq_node *n)
{
    size_t i = 0;
    while (i + 1 < sizeof kinds / sizeof kinds[0] && strcmp(kinds[i].op, n->op) != 0)
        i++;
    return kinds[i].kind; /* every row below is listed */
}

/* The axes, where a->in has the content of their list. */
static rq_status find_reduced(const rq_op_args *a, bool *reduced)
{
    const rq_tensor *x = a->in[0];
    int64_t axes[RQ_MAX_RANK * 2];
    int n = 0;
    if (!axes_are_input(a->node, a->opset)) {
        const int64_t *given = rq_attr_ints(a->node, "axes", &n);
        if (n)
            memcpy(axes, given, (size_t)n * sizeof *axes); /* infer has seen to the count */
    } else if (a->n_in > 1 && a->in[1]) {
        if (rq_tensor_count(a->in[1]) > RQ_MAX_RANK * 2)
            return rq_op_fail(a, RQ_BAD_SHAPE, "%lld axes are given", (long long)rq_tensor_count(a->in[1]));
        n = (int)rq_tensor_count(a->in[1]);
        for (int i = 0; i < n; i++)
            axes[i] = rq_tensor_get_int(a->in[1], i);
    }
    if (!mark_axes(a->node, axes, n, x->shape.rank, reduced))
        return rq_op_fail(a, RQ_BAD_SHAPE, "an axis is out of range for an input of %d axes", x->shape.rank);
    return RQ_OK;
}

static rq_status plan(const rq_op_args *a, rq_reduce_plan *p)
{
    bool reduced[RQ_MAX_RANK];
    RQ_TRY(find_reduced(a, reduced));
    rq_reduce_plan_init(p, &a->in[0]->shape, reduced);
    return RQ_OK;
}

static rq_status reduce_wide(const rq_op_args *a)
{
    rq_reduce_plan p;
    RQ_TRY(plan(a, &p));
    return rq_reduce_run(a, &p, kind_of(a->node), a->out[0], a->in[0]);
}

static rq_status reduce_forward(const rq_op_args *a)
{
    return rq_half_run(a, reduce_wide);
}

/* ---- backward: dx is a function of x, y and dy, the latter two repeated along the reduced axes ---- */

/* The shape of y with reduced axes kept as 1; *group: elements behind each output. */
static rq_status kept_shape(const rq_op_args *a, rq_shape *kept, rq_reduce_plan *p)
{
    bool reduced[RQ_MAX_RANK];
    RQ_TRY(find_reduced(a, reduced));
    *kept = a->in[0]->shape;
    for (int i = 0; i < kept->rank; i++)
        if (reduced[i])
            kept->dim[i] = 1;
    rq_reduce_plan_init(p, &a->in[0]->shape, reduced);
    return RQ_OK;
}

typedef struct spread {
    const rq_kernels *k;
    rq_reduce kind;
    float n;
    float *dx;
    const float *x, *y, *dy; /* x, y: NULL where not needed */
    const float *ties;       /* of Max, Min: how many elements are the result */
} spread;

static float slope_at(const spread *j, float x, float y)
{
    switch (j->kind) {
    case RQ_REDUCE_L1:
        return x > 0 ? 1 : x < 0 ? -1 : 0;
    case RQ_REDUCE_L2:
        return y == 0 ? 0 : x / y;
    case RQ_REDUCE_SUM_SQUARE:
        return 2 * x;
    default: /* Max, Min */
        return x == y;
    }
}

static void spread_row(void *arg, int64_t at, int64_t unused, int su, int64_t o, int so, int64_t n)
{
    const spread *j = arg;
    float *dx = j->dx + at;
    const float *dy = j->dy + o, *y = j->y ? j->y + o : NULL, *x = j->x ? j->x + at : NULL;
    switch (j->kind) {
    case RQ_REDUCE_SUM:
        for (int64_t i = 0; i < n; i++)
            dx[i] = dy[i * so];
        break;
    case RQ_REDUCE_MEAN:
        j->k->zip[RQ_ZIP_DIV](dx, dy, so, &j->n, 0, (size_t)n);
        break;
    case RQ_REDUCE_LOG_SUM: /* 1 / sum x */
        j->k->map[RQ_MAP_EXP](dx, y, so ? (size_t)n : 1, 0, 0);
        for (int64_t i = n - 1; i >= 0; i--)
            dx[i] = dy[i * so] / dx[i * so];
        break;
    case RQ_REDUCE_LOG_SUM_EXP:
        j->k->zip[RQ_ZIP_SUB](dx, x, 1, y, so, (size_t)n);
        j->k->map[RQ_MAP_EXP](dx, dx, (size_t)n, 0, 0);
        j->k->zip[RQ_ZIP_MUL](dx, dx, 1, dy, so, (size_t)n);
        break;
    default:
        assert(x); /* the row saves it */
        for (int64_t i = 0; i < n; i++) {
            const float slope = slope_at(j, x[i], y ? y[i * so] : 0);
            dx[i] = j->ties ? slope * (dy[i * so] / j->ties[o + i * so]) : slope * dy[i * so];
        }
    }
}

static void mark_row(void *arg, int64_t at, int64_t unused, int su, int64_t o, int so, int64_t n)
{
    const spread *j = arg;
    for (int64_t i = 0; i < n; i++)
        j->dx[at + i] = j->x[at + i] == j->y[o + i * so];
}

typedef struct products {
    const rq_reduce_plan *p;
    const float *x, *dy;
    float *dx;
} products;

/* Element k of the group that starts at element `from`. */
static int64_t member(const rq_reduce_plan *p, int64_t from, int64_t k)
{
    for (int i = p->n_red - 1; i >= 0; i--) {
        from += k % p->red[i] * p->red_stride[i];
        k /= p->red[i];
    }
    return from;
}

/* The product of all others: y / x, but where some element is 0. */
static void products_span(void *arg, int64_t first, int64_t n)
{
    const products *j = arg;
    const rq_reduce_plan *p = j->p;
    for (int64_t o = first; o < first + n; o++) {
        int64_t from = 0, rest = o, zeros = 0;
        double all = 1;
        for (int i = p->n_kept - 1; i >= 0; i--) {
            from += rest % p->kept[i] * p->kept_stride[i];
            rest /= p->kept[i];
        }
        for (int64_t k = 0; k < p->group; k++) {
            const float x = j->x[member(p, from, k)];
            zeros += x == 0;
            all *= x == 0 ? 1 : (double)x;
        }
        for (int64_t k = 0; k < p->group; k++) {
            const int64_t at = member(p, from, k);
            const double x = j->x[at], others = x == 0 ? (zeros == 1 ? all : 0) : zeros ? 0 : all / x;
            j->dx[at] = (float)(j->dy[o] * others);
        }
    }
}

static rq_status reduce_backward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0), *x = a->in[0];
    const rq_reduce kind = kind_of(a->node);
    rq_reduce_plan p;
    rq_shape kept;
    rq_bcast walk;
    if (!dx || !dy)
        return rq_grad_none(a);
    RQ_TRY(kept_shape(a, &kept, &p));
    if (kind == RQ_REDUCE_PROD) {
        products j = { .p = &p, .x = x->f32, .dy = dy->f32, .dx = dx->f32 };
        rq_bcast_spans(a->threads, p.outputs, RQ_BCAST_PIECE / (p.group + 1) + 1, products_span, &j);
        return RQ_OK;
    }
    spread j = {
        .k = a->k, .kind = kind, .n = (float)p.group, .dx = dx->f32, .x = x->f32, .dy = dy->f32, .y = a->out[0]->f32
    };
    rq_bcast_init(&walk, &x->shape, &x->shape, &kept);
    if (kind == RQ_REDUCE_MAX || kind == RQ_REDUCE_MIN) {
        rq_tensor ties = rq_tensor_view(RQ_DTYPE_F32, &dy->shape, a->scratch);
        rq_bcast_for(&walk, a->threads, mark_row, &j);
        RQ_TRY(rq_reduce_run(a, &p, RQ_REDUCE_SUM, &ties, dx));
        j.ties = ties.f32;
    }
    rq_bcast_for(&walk, a->threads, spread_row, &j);
    return RQ_OK;
}

static size_t reduce_scratch_backward(const rq_op_args *a)
{
    const rq_reduce kind = kind_of(a->node);
    return kind == RQ_REDUCE_MAX || kind == RQ_REDUCE_MIN ? (size_t)rq_tensor_count(a->out[0]) * sizeof(float) : 0;
}

static bool reduce_accepts_int(const rq_op_args *a, const char **why)
{
    return rq_int_reduce_accepts(a, kind_of(a->node), why);
}

static rq_status reduce_forward_int(const rq_op_args *a)
{
    rq_reduce_plan p;
    RQ_TRY(plan(a, &p));
    rq_int_reduce_run(a, &p, kind_of(a->node));
    return RQ_OK;
}

/* ---- ArgMax, ArgMin ---- */

static rq_status arg_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    const bool keep = rq_attr_int(a->node, "keepdims", 1) != 0;
    a->out_dtype[0] = RQ_DTYPE_S64;
    if (x->rank < 0)
        return RQ_OK;
    const int axis = rq_infer_axis(rq_attr_int(a->node, "axis", 0), x->rank);
    if (axis < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld is out of range for an input of %d axes",
                             (long long)rq_attr_int(a->node, "axis", 0), x->rank);
    if (x->dim[axis] == 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %d is empty", axis);
    rq_shape *y = &a->out_shape[0];
    y->rank = 0;
    for (int i = 0; i < x->rank; i++)
        if (i != axis)
            y->dim[y->rank++] = x->dim[i];
        else if (keep)
            y->dim[y->rank++] = 1;
    return RQ_OK;
}

/* Is element i better than j? `last`: an equal one is. Doubles hold every type but 64-bit integers. */
static bool better(const rq_tensor *x, int64_t i, int64_t j, bool least, bool last)
{
    if (x->dtype == RQ_DTYPE_S64 || x->dtype == RQ_DTYPE_U64) {
        const uint64_t flip = x->dtype == RQ_DTYPE_S64 ? UINT64_C(1) << 63 : 0;
        const uint64_t u = x->u64[i] ^ flip, v = x->u64[j] ^ flip;
        return u == v ? last : (u < v) == least;
    }
    const double u = rq_tensor_get(x, i), v = rq_tensor_get(x, j);
    return u == v ? last : least ? u < v : u > v;
}

enum { ARG_TILE = 256 };

/* m <= ARG_TILE columns of n bytes, `step` apart: where each is largest, flipped to order as wanted. Whole rows at a time. */
static void arg_bytes(int64_t *y, const uint8_t *x, int64_t n, int64_t step, int64_t m, uint8_t flip, bool last)
{
    uint8_t most[ARG_TILE];
    int32_t at[ARG_TILE] = { 0 };
    for (int64_t i = 0; i < m; i++)
        most[i] = x[i] ^ flip;
    for (int64_t k = 1; k < n; k++) {
        const uint8_t *row = x + k * step;
        for (int64_t i = 0; i < m; i++) {
            const uint8_t v = row[i] ^ flip;
            const bool better = last ? v >= most[i] : v > most[i];
            most[i] = better ? v : most[i];
            at[i] = better ? (int32_t)k : at[i];
        }
    }
    for (int64_t i = 0; i < m; i++)
        y[i] = at[i];
}

static rq_status arg_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    if (!rq_dtype_is_integer(x->dtype) && !rq_dtype_is_float(x->dtype) && x->dtype != RQ_DTYPE_BOOL)
        return rq_op_fail(a, RQ_UNSUPPORTED, "has no form for elements of type %s", rq_dtype_name(x->dtype));
    const bool least = strcmp(a->node->op, "ArgMin") == 0;
    const bool last = a->opset >= 12 && rq_attr_int(a->node, "select_last_index", 0) != 0;
    const int axis = rq_infer_axis(rq_attr_int(a->node, "axis", 0), x->shape.rank);
    const int64_t n = x->shape.dim[axis], inner = rq_shape_span(&x->shape, axis + 1, x->shape.rank);
    const int64_t outer = rq_shape_span(&x->shape, 0, axis);
    int64_t *y = a->out[0]->s64;
    if (x->dtype == RQ_DTYPE_U8 || x->dtype == RQ_DTYPE_S8) {
        for (int64_t o = 0; o < outer; o++)
            for (int64_t i = 0; i < inner; i += ARG_TILE)
                arg_bytes(y + o * inner + i, x->u8 + o * n * inner + i, n, inner,
                          inner - i < ARG_TILE ? inner - i : ARG_TILE,
                          (x->dtype == RQ_DTYPE_S8 ? 0x80 : 0) ^ (least ? 0xff : 0), last);
        return RQ_OK;
    }
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++, y++) {
            const int64_t base = o * n * inner + i;
            int64_t best = 0;
            if (x->dtype == RQ_DTYPE_F32) {
                const float *v = x->f32 + base;
                for (int64_t k = 1; k < n; k++) {
                    const float u = v[k * inner], w = v[best * inner];
                    if (least ? u < w : u > w)
                        best = k;
                    else if (last && u == w)
                        best = k;
                }
            } else {
                for (int64_t k = 1; k < n; k++)
                    if (better(x, base + k * inner, base + best * inner, least, last))
                        best = k;
            }
            *y = best;
        }
    return RQ_OK;
}

/* On codes: they order as the reals do, and equal reals have equal codes. */
static bool arg_accepts_int(const rq_op_args *a, const char **why)
{
    *why = "input is not quantized";
    if (!a->in_q[0] || !rq_int_is_codes(a->in_q[0], why))
        return false;
    *why = "scale is not positive";
    return a->in_q[0]->scale[0] > 0;
}

/* ---- CumSum ---- */

static rq_status cumsum_infer(const rq_infer *a)
{
    int64_t axis;
    RQ_TRY(rq_infer_same(a));
    if (a->in[0]->shape.rank >= 0 && rq_infer_ints(a, 1, &axis, 1) == 1 &&
        rq_infer_axis(axis, a->in[0]->shape.rank) < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld is out of range for an input of %d axes", (long long)axis,
                             a->in[0]->shape.rank);
    return RQ_OK;
}

/* What nothing sums or multiplies to. */
static void neutral(rq_tensor *y, int64_t at, int64_t n, bool product)
{
    for (int64_t i = 0; i < n; i++)
        rq_tensor_set(y, at + i, product);
}

static rq_status cumulate(const rq_op_args *a, rq_tensor *y, const rq_tensor *x, bool reverse)
{
    if (rq_tensor_count(a->in[1]) != 1)
        return rq_op_fail(a, RQ_BAD_SHAPE, "the axis has %lld elements, expected 1",
                          (long long)rq_tensor_count(a->in[1]));
    const int64_t given = rq_tensor_get_int(a->in[1], 0);
    const int axis = rq_infer_axis(given, x->shape.rank);
    if (axis < 0)
        return rq_op_fail(a, RQ_BAD_SHAPE, "axis %lld is out of range for an input of %d axes", (long long)given,
                          x->shape.rank);
    const rq_eltwise_int *ints = rq_eltwise_ints(x->dtype);
    if (x->dtype != RQ_DTYPE_F32 && x->dtype != RQ_DTYPE_F64 && !ints)
        return rq_op_fail(a, RQ_UNSUPPORTED, "has no form for elements of type %s", rq_dtype_name(x->dtype));
    const bool product = strcmp(a->node->op, "CumProd") == 0;
    const rq_zip_id zip = product ? RQ_ZIP_MUL : RQ_ZIP_ADD;
    const bool exclusive = rq_attr_int(a->node, "exclusive", 0) != 0;
    const int64_t n = x->shape.dim[axis], inner = rq_shape_span(&x->shape, axis + 1, x->shape.rank);
    const int64_t outer = rq_shape_span(&x->shape, 0, axis);
    const size_t row = (size_t)inner * (size_t)rq_dtype_bits(x->dtype) / 8;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t k = 0; k < n; k++) {
            const int64_t at = o * n + (reverse ? n - 1 - k : k), before = k == 0 ? at : reverse ? at + 1 : at - 1;
            char *to = (char *)y->data + (size_t)at * row;
            const char *sum = (const char *)y->data + (size_t)before * row;
            const char *from = (const char *)x->data + (size_t)(exclusive ? before : at) * row;
            if (k == 0 && exclusive)
                neutral(y, at * inner, inner, product);
            else if (k == 0)
                memcpy(to, from, row);
            else if (x->dtype == RQ_DTYPE_F32)
                a->k->zip[zip]((float *)to, (const float *)sum, 1, (const float *)from, 1, (size_t)inner);
            else if (x->dtype == RQ_DTYPE_F64)
                rq_zip_f64[zip]((double *)to, (const double *)sum, 1, (const double *)from, 1, (size_t)inner);
            else
                ints->zip[zip](to, sum, 1, from, 1, (size_t)inner);
        }
    return RQ_OK;
}

static rq_status cumsum_wide(const rq_op_args *a)
{
    return cumulate(a, a->out[0], a->in[0], rq_attr_int(a->node, "reverse", 0) != 0);
}

static rq_status cumsum_forward(const rq_op_args *a)
{
    return rq_half_run(a, cumsum_wide);
}

/* What comes after instead of what came before. */
static rq_status cumsum_backward(const rq_op_args *a)
{
    if (!rq_grad_in(a, 0) || !rq_grad_out(a, 0))
        return rq_grad_none(a);
    return cumulate(a, rq_grad_in(a, 0), rq_grad_out(a, 0), rq_attr_int(a->node, "reverse", 0) == 0);
}

static bool cumsum_accepts_int(const rq_op_args *a, const char **why)
{
    *why = "input is not quantized";
    if (!a->in_q[0] || !rq_int_is_activation(a->in_q[0], why))
        return false;
    return rq_int_is_output(a->out_q[0], a->out[0], false, why);
}

/* Sums of q - z, exact; each rounded once. */
static rq_status cumsum_forward_int(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    const rq_qparams *xq = a->in_q[0], *yq = a->out_q[0];
    const int axis = rq_infer_axis(rq_tensor_get_int(a->in[1], 0), x->shape.rank);
    if (rq_tensor_count(a->in[1]) != 1 || axis < 0)
        return rq_op_fail(a, RQ_BAD_SHAPE, "its axis is not one of the input's %d", x->shape.rank);
    const bool exclusive = rq_attr_int(a->node, "exclusive", 0) != 0, reverse = rq_attr_int(a->node, "reverse", 0) != 0;
    const int64_t n = x->shape.dim[axis], inner = rq_shape_span(&x->shape, axis + 1, x->shape.rank);
    int32_t lo, hi;
    rq_qparams_limits(yq, &lo, &hi);
    for (int64_t o = 0; o < rq_shape_span(&x->shape, 0, axis); o++)
        for (int64_t i = 0; i < inner; i++) {
            int64_t sum = 0;
            for (int64_t k = 0; k < n; k++) {
                const int64_t at = (o * n + (reverse ? n - 1 - k : k)) * inner + i, before = sum;
                sum += (xq->dtype == RQ_DTYPE_S8 ? x->s8[at] : x->u8[at]) - xq->zero_point[0];
                const float real = (float)((double)(exclusive ? before : sum) * xq->scale[0]);
                a->out[0]->u8[at] = (uint8_t)rq_quantize_one(real, yq->scale[0], yq->zero_point[0], lo, hi);
            }
        }
    return RQ_OK;
}

/* ---- rows ---- */

#define REDUCE(id, op_name, data)                                                                                      \
    const rq_op rq_op_##id = {                                                                                         \
        .name = op_name,                                                                                               \
        .domain = "",                                                                                                  \
        .since = 1,                                                                                                    \
        .known = 25,                                                                                                   \
        .min_in = 1,                                                                                                   \
        .max_in = 2,                                                                                                   \
        .min_out = 1,                                                                                                  \
        .max_out = 1,                                                                                                  \
        .place = RQ_PLACE_FLOAT,                                                                                       \
        .infer = reduce_infer,                                                                                         \
        .forward = reduce_forward,                                                                                     \
        .backward = reduce_backward,                                                                                   \
        .saves = RQ_OP_IN(1) | (data),                                                                                 \
        .gradients = RQ_OP_IN(0),                                                                                      \
        .scratch_backward = reduce_scratch_backward,                                                                   \
        .accepts_int = reduce_accepts_int,                                                                             \
        .forward_int = reduce_forward_int,                                                                             \
    }
REDUCE(reduce_l1, "ReduceL1", RQ_OP_IN(0));
REDUCE(reduce_l2, "ReduceL2", RQ_OP_IN(0) | RQ_OP_OUT(0));
REDUCE(reduce_log_sum, "ReduceLogSum", RQ_OP_OUT(0));
REDUCE(reduce_log_sum_exp, "ReduceLogSumExp", RQ_OP_IN(0) | RQ_OP_OUT(0));
REDUCE(reduce_max, "ReduceMax", RQ_OP_IN(0) | RQ_OP_OUT(0));
REDUCE(reduce_mean, "ReduceMean", 0);
REDUCE(reduce_min, "ReduceMin", RQ_OP_IN(0) | RQ_OP_OUT(0));
REDUCE(reduce_prod, "ReduceProd", RQ_OP_IN(0));
REDUCE(reduce_sum, "ReduceSum", 0);
REDUCE(reduce_sum_square, "ReduceSumSquare", RQ_OP_IN(0));
#undef REDUCE

const rq_op rq_op_arg_max = {
    .name = "ArgMax",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT, /* it reads codes where they are; of reals rounded on its account more would be equal */
    .infer = arg_infer,
    .forward = arg_forward,
    .accepts_int = arg_accepts_int,
    .forward_int = arg_forward,
};

const rq_op rq_op_arg_min = {
    .name = "ArgMin",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = arg_infer,
    .forward = arg_forward,
    .accepts_int = arg_accepts_int,
    .forward_int = arg_forward,
};

const rq_op rq_op_cumsum = {
    .name = "CumSum",
    .domain = "",
    .since = 11,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = cumsum_infer,
    .forward = cumsum_forward,
    .backward = cumsum_backward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0),
    .accepts_int = cumsum_accepts_int,
    .forward_int = cumsum_forward_int,
};

const rq_op rq_op_cumprod = {
    .name = "CumProd",
    .domain = "",
    .since = 26,
    .known = 28,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = cumsum_infer,
    .forward = cumsum_forward,
};
