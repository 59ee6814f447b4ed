/* ops/reduce.c — Reduce*, forward and backward. (ArgMax, ArgMin: ops/argmax.c; CumSum, CumProd: ops/cumsum.c.)
 *
 * Axes of Reduce* are an attribute at first and an input later (ReduceSum from opset 13, the others from 18); no axes
 * means all, or none with noop_with_empty_axes, where each element is then a group of its own. */
#include "ops/reduce.h"

#include <assert.h>
#include <string.h>

#include "ops/bcast.h"
#include "ops/grad.h"
#include "ops/half.h"
#include "ops/int_ops.h"
#include "ops/last.h"
#include "ops/samples.h"

/* ---- axes ---- */

static rq_reduce kind_of(const rq_node *n)
{
    return (rq_reduce)n->row->which;
}

static bool axes_are_input(const rq_node *n, int64_t opset)
{
    return opset >= (kind_of(n) == RQ_REDUCE_SUM ? 13 : 18);
}

/* Which axes of a tensor of `rank` a list names; false: one is out of range. */
static bool mark_axes(const rq_node *n, const int64_t *axes, int count, int rank, bool *reduced)
{
    const bool all = count == 0 && !rq_attr_int(n, RQ_WORD_noop_with_empty_axes, 0);
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
    const bool keep = rq_attr_int(a->node, RQ_WORD_keepdims, 1) != 0;
    int64_t axes[RQ_MAX_RANK * 2];
    int n = 0;
    a->out_dtype[0] = a->in[0]->dtype;
    if (axes_are_input(a->node, a->opset)) {
        if (a->n_in > 1 && a->in[1])
            n = rq_infer_ints(a, 1, axes, RQ_MAX_RANK * 2);
    } else {
        int count;
        const int64_t *given = rq_attr_ints(a->node, RQ_WORD_axes, &count);
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

/* The axes, where a->in has the content of their list. */
static rq_status find_reduced(const rq_op_args *a, bool *reduced)
{
    const rq_tensor *x = a->in[0];
    int64_t axes[RQ_MAX_RANK * 2];
    int n = 0;
    if (!axes_are_input(a->node, a->opset)) {
        const int64_t *given = rq_attr_ints(a->node, RQ_WORD_axes, &n);
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
    bool lies[RQ_MAX_RANK] = { false };
    const rq_shape x = rq_last_shape(a->last, &a->in[0]->shape);
    RQ_TRY(find_reduced(a, reduced));
    for (int i = 0; i < x.rank; i++)
        lies[rq_last_axis(a->last, i, x.rank)] = reduced[i];
    rq_reduce_plan_init(p, &x, lies);
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

/* What is kept lies as the output does: with all its axes, or in an order that is the file's, too. */
static rq_last reduce_last(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape, *y = &a->out[0]->shape;
    bool reduced[RQ_MAX_RANK];
    if (find_reduced(a, reduced) != RQ_OK || x->rank < 3)
        return RQ_LAST_NO;
    if (y->rank == x->rank)
        return RQ_LAST_CAN;
    bool all = true;
    for (int i = 2; i < x->rank; i++)
        all = all && reduced[i];
    return y->rank < 3 && (all || reduced[1]) ? RQ_LAST_CAN : RQ_LAST_NO;
}

static rq_status reduce_forward_int(const rq_op_args *a)
{
    rq_reduce_plan p;
    RQ_TRY(plan(a, &p));
    rq_int_reduce_run(a, &p, kind_of(a->node));
    return RQ_OK;
}

/* ---- rows ---- */

#define REDUCE(id, op_name, kind, data)                                                                                \
    const rq_op rq_op_##id = {                                                                                         \
        .name = op_name,                                                                                               \
        .domain = "",                                                                                                  \
        .which = kind,                                                                                                 \
        .since = 1,                                                                                                    \
        .known = 25,                                                                                                   \
        .min_in = 1,                                                                                                   \
        .max_in = 2,                                                                                                   \
        .min_out = 1,                                                                                                  \
        .max_out = 1,                                                                                                  \
        .place = RQ_PLACE_FLOAT,                                                                                       \
        .infer = reduce_infer,                                                                                         \
        .samples = rq_samples_reduce,                                                                                  \
        .forward = reduce_forward,                                                                                     \
        .backward = reduce_backward,                                                                                   \
        .saves = RQ_OP_IN(1) | (data),                                                                                 \
        .gradients = RQ_OP_IN(0),                                                                                      \
        .scratch_backward = reduce_scratch_backward,                                                                   \
        .accepts_int = reduce_accepts_int,                                                                             \
        .last = reduce_last,                                                                                           \
        .forward_int = reduce_forward_int,                                                                             \
    }
REDUCE(reduce_l1, "ReduceL1", RQ_REDUCE_L1, RQ_OP_IN(0));
REDUCE(reduce_l2, "ReduceL2", RQ_REDUCE_L2, RQ_OP_IN(0) | RQ_OP_OUT(0));
REDUCE(reduce_log_sum, "ReduceLogSum", RQ_REDUCE_LOG_SUM, RQ_OP_OUT(0));
REDUCE(reduce_log_sum_exp, "ReduceLogSumExp", RQ_REDUCE_LOG_SUM_EXP, RQ_OP_IN(0) | RQ_OP_OUT(0));
REDUCE(reduce_max, "ReduceMax", RQ_REDUCE_MAX, RQ_OP_IN(0) | RQ_OP_OUT(0));
REDUCE(reduce_mean, "ReduceMean", RQ_REDUCE_MEAN, 0);
REDUCE(reduce_min, "ReduceMin", RQ_REDUCE_MIN, RQ_OP_IN(0) | RQ_OP_OUT(0));
REDUCE(reduce_prod, "ReduceProd", RQ_REDUCE_PROD, RQ_OP_IN(0));
REDUCE(reduce_sum, "ReduceSum", RQ_REDUCE_SUM, 0);
REDUCE(reduce_sum_square, "ReduceSumSquare", RQ_REDUCE_SUM_SQUARE, RQ_OP_IN(0));
#undef REDUCE
