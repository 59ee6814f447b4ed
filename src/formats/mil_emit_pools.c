/* formats/mil_emit_pools.c — rows of pools. Core ML rounds sizes up only under equal pads and in two dimensions; more padding behind the
 * input does the same where it is not counted. */
#include "formats/mil_expr.h"

#include <string.h>

#include "ops/window.h"

typedef rq_mil_expr_val val;

typedef struct pool_args {
    int64_t kernel[3], stride[3], pad[6];
    const char *pad_type;
    int nd;
    int64_t volume; /* of the kernel */
    bool ceil_mode;
} pool_args;

/* Where windows reach behind the padding: `extend` says that more padding is harmless, else ceil_mode has to do. */
static bool read_args(rq_mil_expr *x, const rq_shape *shape, bool extend, pool_args *p)
{
    const rq_node *n = x->n;
    const char *automatic = rq_attr_string(n, RQ_WORD_auto_pad, "NOTSET");
    rq_window w;
    if (x->st)
        return false;
    x->st = rq_window_pool(&w, n, shape, x->e->err);
    if (x->st)
        return false;
    *p = (pool_args) { .nd = w.nd, .pad_type = "valid", .volume = 1 };
    bool even = true, beyond = false, open = false;
    for (int i = 0; i < w.nd; i++) {
        const int k = 3 - w.nd + i;
        int64_t hi = w.pad_hi[k];
        if (w.dilation[k] != 1) {
            rq_mil_expr_refuse(x, 0, "a pool with dilations");
            return false;
        }
        open |= w.in[k] < 0;
        const int64_t need = w.in[k] < 0 ? 0 : (w.out[k] - 1) * w.stride[k] + w.kernel[k] - w.in[k] - w.pad_lo[k];
        beyond |= need > hi;
        hi = extend && need > hi ? need : hi;
        even &= w.pad_lo[k] == w.pad_hi[k];
        p->kernel[i] = w.kernel[k];
        p->stride[i] = w.stride[k];
        p->pad[2 * i] = w.pad_lo[k];
        p->pad[2 * i + 1] = hi;
        p->volume *= w.kernel[k];
        if (w.pad_lo[k] || hi)
            p->pad_type = "custom";
        if (w.in[k] < 0 && w.stride[k] != 1 && !strncmp(automatic, "SAME", 4))
            p->pad_type = !strcmp(automatic, "SAME_UPPER") ? "same" : "same_lower";
    }
    p->ceil_mode = (beyond && !extend) || (open && rq_attr_int(n, RQ_WORD_ceil_mode, 0));
    if (p->ceil_mode && (!even || p->nd > 2 || !strncmp(p->pad_type, "same", 4)))
        rq_mil_expr_refuse(x, 0, "ceil_mode with unequal pads or in three dimensions");
    if (!strcmp(p->pad_type, "same_lower") && x->e->target < RQ_COREML_IOS16)
        rq_mil_expr_refuse(x, RQ_COREML_IOS16, "auto_pad SAME_LOWER of sizes that are known only when it runs");
    return !x->st;
}

static val pool_op(rq_mil_expr *x, const char *type, val a, const pool_args *p, const bool *exclude)
{
    const rq_shape out = rq_mil_expr_out_shape(x, 0);
    return EXPR_OP(x, type, a.d, &out, EXPR_V("x", &a), EXPR_IS("kernel_sizes", p->kernel, p->nd),
                   EXPR_IS("strides", p->stride, p->nd), EXPR_T("pad_type", p->pad_type),
                   EXPR_IS("pad", p->pad, 2 * p->nd), EXPR_B("ceil_mode", p->ceil_mode),
                   EXPR_WHEN(exclude, EXPR_B("exclude_padding_from_average", *exclude)));
}

static rq_status max_pool(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_float(&x, rq_mil_expr_in(&x, 0));
    pool_args p;
    if (rq_mil_expr_wants(&x, 1))
        return rq_mil_expr_refuse(&x, 0, "a second output (indices)");
    if (read_args(&x, &a.shape, true, &p))
        pool_op(rq_mil_expr_last(&x), "max_pool", a, &p, NULL);
    return x.st;
}

static rq_status average_pool(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const bool exclude = !rq_attr_int(n, RQ_WORD_count_include_pad, 0);
    pool_args p;
    if (read_args(&x, &a.shape, exclude, &p))
        pool_op(rq_mil_expr_last(&x), "avg_pool", a, &p, &exclude);
    return x.st;
}

/* (sum |x|^p)^(1/p): the average times the number of its elements. */
static rq_status lp_pool(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const int64_t order = rq_attr_int(n, RQ_WORD_p, 2);
    const bool include = false;
    pool_args p;
    if (!read_args(&x, &a.shape, false, &p))
        return x.st;
    if (p.ceil_mode)
        return rq_mil_expr_refuse(&x, 0, "ceil_mode of this pool");
    if (order == 2 && p.nd < 3) {
        pool_op(rq_mil_expr_last(&x), "l2_pool", a, &p, NULL);
        return x.st;
    }
    const val size = rq_mil_expr_un(&x, "abs", a);
    const val powers = order == 1 ? size : rq_mil_expr_bin(&x, "pow", size, rq_mil_expr_f((double)order));
    const val mean = pool_op(&x, "avg_pool", powers, &p, &include);
    const val sum =
        rq_mil_expr_bin(order == 1 ? rq_mil_expr_last(&x) : &x, "mul", mean, rq_mil_expr_f((double)p.volume));
    if (order != 1)
        rq_mil_expr_bin(rq_mil_expr_last(&x), "pow", sum, rq_mil_expr_f(1.0 / (double)order));
    return x.st;
}

static rq_status global_pool(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0));
    const int64_t p = rq_attr_int(n, RQ_WORD_p, 2);
    int64_t axes[RQ_MAX_RANK];
    int count = 0;
    for (int i = 2; i < a.shape.rank; i++)
        axes[count++] = i;
    if (!count)
        rq_mil_expr_give(&x, strcmp(n->op, "GlobalLpPool") != 0 ? a : rq_mil_expr_un(&x, "abs", a));
    else if (!strcmp(n->op, "GlobalAveragePool"))
        rq_mil_expr_reduce(rq_mil_expr_last(&x), "reduce_mean", a, axes, count, true);
    else if (!strcmp(n->op, "GlobalMaxPool"))
        rq_mil_expr_reduce(rq_mil_expr_last(&x), "reduce_max", a, axes, count, true);
    else if (p == 1 || p == 2)
        rq_mil_expr_reduce(rq_mil_expr_last(&x), p == 1 ? "reduce_l1_norm" : "reduce_l2_norm", a, axes, count, true);
    else {
        const val powers = rq_mil_expr_bin(&x, "pow", rq_mil_expr_un(&x, "abs", a), rq_mil_expr_f((double)p));
        const val sum = rq_mil_expr_reduce(&x, "reduce_sum", powers, axes, count, true);
        rq_mil_expr_bin(rq_mil_expr_last(&x), "pow", sum, rq_mil_expr_f(1.0 / (double)p));
    }
    return x.st;
}

const rq_mil_emit_row rq_mil_emit_pools[] = {
    { .op = "AveragePool", .emit = average_pool },
    { .op = "GlobalAveragePool", .emit = global_pool },
    { .op = "GlobalLpPool", .emit = global_pool },
    { .op = "GlobalMaxPool", .emit = global_pool },
    { .op = "LpPool", .emit = lp_pool },
    { .op = "MaxPool", .emit = max_pool },
    { .op = NULL },
};
