/* formats/mil_emit_activations.c — rows of activations: what Core ML has under a name of its own, and what is an expression of others. */
#include "formats/mil_expr.h"

#include <math.h>
#include <string.h>

typedef rq_mil_expr_val val;

static rq_status relu(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0));
    if (a.d == RQ_DTYPE_F32)
        rq_mil_expr_un(rq_mil_expr_last(&x), "relu", a);
    else
        rq_mil_expr_bin(rq_mil_expr_last(&x), "maximum", a, rq_mil_expr_f(0));
    return x.st;
}

/* ---- with numbers of their own ---- */

static val two_floats(rq_mil_expr *x, const char *type, val a, double alpha, double beta)
{
    return EXPR_OP(x, type, a.d, &a.shape, EXPR_V("x", &a), EXPR_F("alpha", (float)alpha), EXPR_F("beta", (float)beta));
}

static val one_float(rq_mil_expr *x, const char *type, val a, double alpha)
{
    return EXPR_OP(x, type, a.d, &a.shape, EXPR_V("x", &a), EXPR_F("alpha", (float)alpha));
}

static rq_status with_alpha(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const bool elu = !strcmp(n->op, "Elu");
    one_float(rq_mil_expr_last(&x), elu ? "elu" : "leaky_relu", a, rq_attr_float(n, RQ_WORD_alpha, elu ? 1 : 0.01f));
    return x.st;
}

static rq_status selu(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0),
              u = one_float(&x, "elu", a, rq_attr_float(n, RQ_WORD_alpha, 1.67326319217681884765625f));
    rq_mil_expr_bin(rq_mil_expr_last(&x), "mul", u,
                    rq_mil_expr_f(rq_attr_float(n, RQ_WORD_gamma, 1.05070102214813232421875f)));
    return x.st;
}

/* max(0, x) + min(0, alpha (exp(x / alpha) - 1)) */
static rq_status celu(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const float alpha = rq_attr_float(n, RQ_WORD_alpha, 1);
    const val a = rq_mil_expr_in(&x, 0), scaled = rq_mil_expr_bin(&x, "real_div", a, rq_mil_expr_f(alpha));
    rq_mil_expr_bin(rq_mil_expr_last(&x), "mul", one_float(&x, "elu", scaled, 1), rq_mil_expr_f(alpha));
    return x.st;
}

static val gelu_of(rq_mil_expr *x, val a, const char *mode)
{
    return EXPR_OP(x, "gelu", a.d, &a.shape, EXPR_V("x", &a), EXPR_T("mode", mode));
}

static rq_status gelu(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const bool fast = !strcmp(n->op, "FastGelu") || !strcmp(rq_attr_string(n, RQ_WORD_approximate, "none"), "tanh");
    val a = rq_mil_expr_in(&x, 0);
    if (rq_mil_expr_has(&x, 1)) /* BiasGelu, FastGelu */
        a = rq_mil_expr_bin(&x, "add", a, rq_mil_expr_in(&x, 1));
    gelu_of(rq_mil_expr_last(&x), a, fast ? "TANH_APPROXIMATION" : "EXACT");
    return x.st;
}

static rq_status quick_gelu(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const bool swish = !strcmp(n->op, "Swish");
    const float alpha = rq_attr_float(n, RQ_WORD_alpha, swish ? 1 : 1.702f);
    const val a = rq_mil_expr_in(&x, 0);
    if (alpha == 1) {
        rq_mil_expr_un(rq_mil_expr_last(&x), "silu", a);
        return x.st;
    }
    const val gate = rq_mil_expr_un(&x, "sigmoid", rq_mil_expr_bin(&x, "mul", a, rq_mil_expr_f(alpha)));
    rq_mil_expr_bin(rq_mil_expr_last(&x), "mul", a, gate);
    return x.st;
}

static rq_status hard_sigmoid(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    two_floats(rq_mil_expr_last(&x), "sigmoid_hard", a, rq_attr_float(n, RQ_WORD_alpha, 0.2f),
               rq_attr_float(n, RQ_WORD_beta, 0.5f));
    return x.st;
}

static rq_status hard_swish(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0), gate = two_floats(&x, "sigmoid_hard", a, 1.0f / 6, 0.5f);
    rq_mil_expr_bin(rq_mil_expr_last(&x), "mul", a, gate);
    return x.st;
}

static rq_status mish(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0), gate = rq_mil_expr_un(&x, "tanh", rq_mil_expr_un(&x, "softplus", a));
    rq_mil_expr_bin(rq_mil_expr_last(&x), "mul", a, gate);
    return x.st;
}

/* x where x > alpha; Core ML's own thresholded_relu keeps x == alpha, too. */
static rq_status thresholded_relu(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0),
              is = rq_mil_expr_bin(&x, "greater", a, rq_mil_expr_f(rq_attr_float(n, RQ_WORD_alpha, 1)));
    rq_mil_expr_select(rq_mil_expr_last(&x), is, a, rq_mil_expr_f(0));
    return x.st;
}

/* x + bias below -lambd, x - bias above lambd, else zero. */
static rq_status shrink(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const float bias = rq_attr_float(n, RQ_WORD_bias, 0), lambd = rq_attr_float(n, RQ_WORD_lambd, 0.5f);
    const val a = rq_mil_expr_float(&x, rq_mil_expr_in(&x, 0));
    const val below = rq_mil_expr_bin(&x, "less", a, rq_mil_expr_f(-lambd)),
              above = rq_mil_expr_bin(&x, "greater", a, rq_mil_expr_f(lambd));
    const val up = rq_mil_expr_select(&x, above, rq_mil_expr_bin(&x, "sub", a, rq_mil_expr_f(bias)), rq_mil_expr_f(0));
    rq_mil_expr_select(rq_mil_expr_last(&x), below, rq_mil_expr_bin(&x, "add", a, rq_mil_expr_f(bias)), up);
    return x.st;
}

static rq_status prelu(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const rq_tensor *slope = rq_mil_expr_const(&x, 1);
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0)), s = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 1));
    const int64_t count = slope ? rq_tensor_count(slope) : 0;
    if (a.d == RQ_DTYPE_F32 && count == 1) {
        one_float(rq_mil_expr_last(&x), "leaky_relu", a, rq_tensor_get(slope, 0));
        return x.st;
    }
    /* one number per channel of a picture */
    if (a.d == RQ_DTYPE_F32 && a.shape.rank == 4 && count > 1 && s.shape.rank >= 3 && s.shape.rank <= 4 &&
        s.shape.dim[s.shape.rank - 3] == count && a.shape.dim[1] == count) {
        rq_tensor *t;
        const rq_shape flat = rq_shape_of(1, &count);
        const val alpha = rq_mil_expr_new(&x, RQ_DTYPE_F32, &flat, &t);
        for (int64_t i = 0; t && i < count; i++)
            t->f32[i] = (float)rq_tensor_get(slope, i);
        EXPR_OP(rq_mil_expr_last(&x), "prelu", a.d, &a.shape, EXPR_V("x", &a), EXPR_V("alpha", &alpha));
        return x.st;
    }
    const val below = rq_mil_expr_bin(&x, "less", a, rq_mil_expr_f(0));
    rq_mil_expr_select(rq_mil_expr_last(&x), below, rq_mil_expr_bin(&x, "mul", a, s), a);
    return x.st;
}

static rq_status clip(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0)), lo = rq_mil_expr_f(-INFINITY), hi = rq_mil_expr_f(INFINITY);
    const rq_tensor *l = rq_mil_expr_const(&x, 1), *h = rq_mil_expr_const(&x, 2);
    bool has_lo = rq_mil_expr_has(&x, 1), has_hi = rq_mil_expr_has(&x, 2);
    if (!has_lo && rq_attr_find(n, RQ_WORD_min))
        lo.num = rq_attr_float(n, RQ_WORD_min, 0);
    if (!has_hi && rq_attr_find(n, RQ_WORD_max))
        hi.num = rq_attr_float(n, RQ_WORD_max, 0);
    const double lo_num = l && rq_tensor_count(l) == 1 ? rq_tensor_get(l, 0) : lo.num;
    const double hi_num = h && rq_tensor_count(h) == 1 ? rq_tensor_get(h, 0) : hi.num;
    if (has_lo)
        lo = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 1));
    if (has_hi)
        hi = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 2));
    has_lo |= isfinite(lo.num) && rq_attr_find(n, RQ_WORD_min);
    has_hi |= isfinite(hi.num) && rq_attr_find(n, RQ_WORD_max);
    const bool numbers = (!rq_mil_expr_has(&x, 1) || l) && (!rq_mil_expr_has(&x, 2) || h);
    if (a.d == RQ_DTYPE_F32 && numbers && isfinite(lo_num) && isfinite(hi_num) && lo_num < hi_num) {
        if (lo_num == 0 && hi_num == 6)
            rq_mil_expr_un(rq_mil_expr_last(&x), "relu6", a);
        else
            two_floats(rq_mil_expr_last(&x), "clip", a, lo_num, hi_num);
        return x.st;
    }
    if (has_lo)
        a = rq_mil_expr_bin(has_hi ? &x : rq_mil_expr_last(&x), "maximum", a, lo);
    if (has_hi)
        rq_mil_expr_bin(rq_mil_expr_last(&x), "minimum", a, hi);
    if (!has_lo && !has_hi)
        rq_mil_expr_give(&x, a);
    return x.st;
}

rq_mil_expr_val rq_mil_expr_activation(rq_mil_expr *x, const char *name, const float *p, int n, rq_mil_expr_val a)
{
    static const char *const plain[][2] = { { "Relu", "relu" },         { "Tanh", "tanh" },
                                            { "Sigmoid", "sigmoid" },   { "Softsign", "softsign" },
                                            { "Softplus", "softplus" }, { NULL, NULL } };
    for (int i = 0; plain[i][0]; i++)
        if (!strcmp(plain[i][0], name))
            return rq_mil_expr_un(x, plain[i][1], a);
    if (!strcmp(name, "LeakyRelu"))
        return one_float(x, "leaky_relu", a, n > 0 ? p[0] : 0.01f);
    if (!strcmp(name, "Elu"))
        return one_float(x, "elu", a, n > 0 ? p[0] : 1);
    if (!strcmp(name, "HardSigmoid"))
        return two_floats(x, "sigmoid_hard", a, n > 0 ? p[0] : 0.2f, n > 1 ? p[1] : 0.5f);
    if (!strcmp(name, "HardSwish"))
        return rq_mil_expr_bin(x, "mul", a, two_floats(x, "sigmoid_hard", a, 1.0f / 6, 0.5f));
    if (!strcmp(name, "Clip") && n > 1 && p[0] < p[1])
        return two_floats(x, "clip", a, p[0], p[1]);
    rq_mil_expr_refuse(x, 0, "an activation of this kind");
    return a;
}

const rq_mil_emit_row rq_mil_emit_activations[] = {
    { .op = "Celu", .emit = celu },
    { .op = "Clip", .emit = clip },
    { .op = "Elu", .emit = with_alpha },
    { .op = "Gelu", .emit = gelu },
    { .op = "HardSigmoid", .emit = hard_sigmoid },
    { .op = "HardSwish", .emit = hard_swish },
    { .op = "LeakyRelu", .emit = with_alpha },
    { .op = "Mish", .emit = mish },
    { .op = "PRelu", .emit = prelu },
    { .op = "Relu", .emit = relu },
    { .op = "Selu", .emit = selu },
    { .op = "Shrink", .emit = shrink },
    { .op = "Swish", .emit = quick_gelu },
    { .op = "ThresholdedRelu", .emit = thresholded_relu },
    { .op = "BiasGelu", .domain = "com.microsoft", .emit = gelu },
    { .op = "FastGelu", .domain = "com.microsoft", .emit = gelu },
    { .op = "Gelu", .domain = "com.microsoft", .emit = gelu },
    { .op = "QuickGelu", .domain = "com.microsoft", .emit = quick_gelu },
    { .op = NULL },
};
