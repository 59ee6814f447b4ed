/* formats/mil_emit_norms.c — rows of normalizations. Where Core ML's own wants constants (gain, bias, statistics) and the graph has computed
 * ones, they are multiplied and added behind it. */
#include "formats/mil_expr.h"

#include <math.h>
#include <string.h>

#include "ops/op.h"

typedef rq_mil_expr_val val;

/* Are there numbers among gain, bias, mean and variance that fp16 has not? */
static bool leaves_half(rq_mil_expr *x)
{
    bool any = false;
    for (int i = 2; i <= 4; i++)
        if (rq_tensor_count(rq_mil_expr_const(x, i)) != rq_tensor_count(rq_mil_expr_const(x, 1)))
            return false;
    for (int i = 1; i <= 4; i++) {
        const rq_tensor *t = rq_mil_expr_const(x, i);
        for (int64_t k = 0, n = t ? rq_tensor_count(t) : 0; k < n && !any; k++)
            any = fabs(rq_tensor_get(t, k)) >= 65504;
    }
    return any;
}

/* The same with mean 0 and variance 1: what is too large divides what is too small. */
static void combine(rq_mil_expr *x, val p[4], float epsilon)
{
    const rq_tensor *from[4];
    rq_tensor *to[4];
    for (int i = 0; i < 4; i++) {
        from[i] = rq_mil_expr_const(x, i + 1);
        p[i] = rq_mil_expr_new(x, RQ_DTYPE_F32, &from[i]->shape, &to[i]);
    }
    for (int64_t k = 0, n = x->st ? 0 : rq_tensor_count(from[0]); k < n; k++) {
        const double gain = rq_tensor_get(from[0], k) / sqrt(rq_tensor_get(from[3], k) + (double)epsilon);
        to[0]->f32[k] = (float)(gain * sqrt(1 + (double)epsilon));
        to[1]->f32[k] = (float)(rq_tensor_get(from[1], k) - rq_tensor_get(from[2], k) * gain);
        to[3]->f32[k] = 1;
    }
}

static rq_status batch_normalization(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const float epsilon = rq_attr_float(n, RQ_WORD_epsilon, 1e-5f);
    const val a = rq_mil_expr_in(&x, 0);
    val p[4]; /* gain, bias, mean, variance */
    bool all = true;
    if (rq_attr_int(n, RQ_WORD_training_mode, 0) || (rq_mil_expr_opset(&x) < 14 && rq_mil_expr_wants(&x, 1)))
        return rq_mil_expr_refuse(&x, 0, "batch normalization while training");
    for (int i = 0; i < 4; i++) {
        p[i] = rq_mil_expr_in(&x, i + 1);
        all &= rq_mil_expr_const(&x, i + 1) != NULL;
    }
    if (all && a.shape.rank >= 3 && a.shape.rank <= 5) {
        if (e->half && leaves_half(&x))
            combine(&x, p, epsilon);
        EXPR_OP(rq_mil_expr_last(&x), "batch_norm", a.d, &a.shape, EXPR_V("x", &a), EXPR_V("mean", &p[2]),
                EXPR_V("variance", &p[3]), EXPR_V("gamma", &p[0]), EXPR_V("beta", &p[1]), EXPR_F("epsilon", epsilon));
        return x.st;
    }
    const int rank = a.shape.rank;
    const val deviation = rq_mil_expr_un(&x, "sqrt", rq_mil_expr_bin(&x, "add", p[3], rq_mil_expr_f(epsilon)));
    const val gain = rq_mil_expr_bin(&x, "real_div", p[0], deviation);
    const val centred = rq_mil_expr_bin(&x, "sub", a, rq_mil_expr_along(&x, p[2], rank, 1));
    const val scaled = rq_mil_expr_bin(&x, "mul", centred, rq_mil_expr_along(&x, gain, rank, 1));
    const val bias = rq_mil_expr_along(&x, p[1], rank, 1);
    rq_mil_expr_bin(rq_mil_expr_last(&x), "add", scaled, bias);
    return x.st;
}

/* layer_norm over the axes from `axis` on. */
static val layer_norm(rq_mil_expr *x, val a, int axis, float epsilon, const val *gain, const val *bias)
{
    int64_t axes[RQ_MAX_RANK];
    int count = 0;
    for (int i = axis; i < a.shape.rank; i++)
        axes[count++] = i - a.shape.rank;
    return EXPR_OP(x, "layer_norm", a.d, &a.shape, EXPR_V("x", &a), EXPR_IS("axes", axes, count),
                   EXPR_WHEN(gain, EXPR_V("gamma", gain)), EXPR_WHEN(bias, EXPR_V("beta", bias)),
                   EXPR_F("epsilon", epsilon));
}

/* Input i is a constant of exactly the sizes that are normalized, ones before them aside; *v is it without those. */
static bool fits_rows(rq_mil_expr *x, int i, const rq_shape *s, int axis, val *v)
{
    const rq_tensor *t = rq_mil_expr_const(x, i);
    const int rows = s->rank - axis;
    if (!t || v->shape.rank < rows)
        return false;
    for (int k = 0; k < v->shape.rank; k++) {
        const int at = k - (v->shape.rank - rows);
        if (v->shape.dim[k] != (at < 0 ? 1 : s->dim[axis + at]))
            return false;
    }
    if (v->shape.rank > rows) {
        rq_tensor *own;
        const rq_shape shape = rq_shape_of(rows, s->dim + axis);
        *v = rq_mil_expr_new(x, RQ_DTYPE_F32, &shape, &own);
        for (int64_t k = 0, count = rq_shape_count(&shape); own && k < count; k++)
            own->f32[k] = (float)rq_tensor_get(t, k);
    }
    return true;
}

static rq_status layer_normalization(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const int axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, -1), a.shape.rank);
    if (rq_mil_expr_wants(&x, 1) || rq_mil_expr_wants(&x, 2))
        return rq_mil_expr_refuse(&x, 0, "the outputs Mean and InvStdDev");
    if (x.st || axis < 0)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    const bool has_gain = rq_mil_expr_has(&x, 1), has_bias = rq_mil_expr_has(&x, 2);
    val gain = has_gain ? rq_mil_expr_in(&x, 1) : a, bias = has_bias ? rq_mil_expr_in(&x, 2) : a;
    const bool gain_in = has_gain && fits_rows(&x, 1, &a.shape, axis, &gain);
    const bool bias_in = has_bias && (gain_in || !has_gain) && fits_rows(&x, 2, &a.shape, axis, &bias);
    const bool gain_after = has_gain && !gain_in, bias_after = has_bias && !bias_in;
    val y = layer_norm(gain_after || bias_after ? &x : rq_mil_expr_last(&x), a, axis,
                       rq_attr_float(n, RQ_WORD_epsilon, 1e-5f), gain_in ? &gain : NULL, bias_in ? &bias : NULL);
    if (gain_after)
        y = rq_mil_expr_bin(bias_after ? &x : rq_mil_expr_last(&x), "mul", y, gain);
    if (bias_after)
        rq_mil_expr_bin(rq_mil_expr_last(&x), "add", y, bias);
    return x.st;
}

/* x / sqrt(mean x^2 + epsilon) over the axes from `axis` on. */
static val rms(rq_mil_expr *x, val a, int axis, float epsilon)
{
    int64_t axes[RQ_MAX_RANK];
    int count = 0;
    for (int i = axis; i < a.shape.rank; i++)
        axes[count++] = i;
    const val mean = rq_mil_expr_reduce(x, "reduce_mean", rq_mil_expr_un(x, "square", a), axes, count, true);
    const val inverse = EXPR_OP(x, "rsqrt", a.d, &mean.shape, EXPR_V("x", &mean), EXPR_F("epsilon", epsilon));
    return rq_mil_expr_bin(x, "mul", a, inverse);
}

static rq_status rms_normalization(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const int axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, -1), a.shape.rank);
    if (rq_mil_expr_wants(&x, 1))
        return rq_mil_expr_refuse(&x, 0, "the output InvStdVar");
    if (x.st || axis < 0)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    const val y = rms(&x, a, axis, rq_attr_float(n, RQ_WORD_epsilon, 1e-5f)), gain = rq_mil_expr_in(&x, 1);
    rq_mil_expr_bin(rq_mil_expr_last(&x), "mul", y, gain);
    return x.st;
}

/* SkipLayerNormalization(x, skip, gain, beta?, bias?), SkipSimplified...(x, skip, gain, bias?); output 3 is the sum. */
static rq_status skip_normalization(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const bool simple = !strcmp(n->op, "SkipSimplifiedLayerNormalization");
    const int at_bias = simple ? 3 : 4;
    const bool has_bias = rq_mil_expr_has(&x, at_bias), has_beta = !simple && rq_mil_expr_has(&x, 3),
               wants = rq_mil_expr_wants(&x, 3);
    const float epsilon = rq_attr_float(n, RQ_WORD_epsilon, 1e-12f);
    if (rq_mil_expr_wants(&x, 1) || rq_mil_expr_wants(&x, 2))
        return rq_mil_expr_refuse(&x, 0, "the outputs mean and inv_std_var");
    val sum = rq_mil_expr_in(&x, 0);
    sum = rq_mil_expr_bin(wants && !has_bias ? rq_mil_expr_last_at(&x, 3) : &x, "add", sum, rq_mil_expr_in(&x, 1));
    if (has_bias)
        sum = rq_mil_expr_bin(wants ? rq_mil_expr_last_at(&x, 3) : &x, "add", sum, rq_mil_expr_in(&x, at_bias));
    val gain = rq_mil_expr_in(&x, 2), beta = has_beta ? rq_mil_expr_in(&x, 3) : sum;
    const int axis = sum.shape.rank - 1;
    if (x.st)
        return x.st;
    if (simple) {
        const val y = rms(&x, sum, axis, epsilon);
        rq_mil_expr_bin(rq_mil_expr_last(&x), "mul", y, gain);
        return x.st;
    }
    const bool gain_in = fits_rows(&x, 2, &sum.shape, axis, &gain);
    const bool beta_in = gain_in && has_beta && fits_rows(&x, 3, &sum.shape, axis, &beta),
               beta_after = has_beta && !beta_in;
    val y = layer_norm(gain_in && !beta_after ? rq_mil_expr_last(&x) : &x, sum, axis, epsilon, gain_in ? &gain : NULL,
                       beta_in ? &beta : NULL);
    if (!gain_in)
        y = rq_mil_expr_bin(beta_after ? &x : rq_mil_expr_last(&x), "mul", y, gain);
    if (beta_after)
        rq_mil_expr_bin(rq_mil_expr_last(&x), "add", y, beta);
    return x.st;
}

static rq_status instance_normalization(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const float epsilon = rq_attr_float(n, RQ_WORD_epsilon, 1e-5f);
    const val a = rq_mil_expr_in(&x, 0), gain = rq_mil_expr_in(&x, 1), bias = rq_mil_expr_in(&x, 2);
    const bool inside = rq_mil_expr_const(&x, 1) && rq_mil_expr_const(&x, 2), flat = a.shape.rank > 4;
    if (x.st)
        return x.st;
    val in = a;
    if (flat) {
        if (!rq_mil_expr_static(&x, &a.shape))
            return x.st;
        in = rq_mil_expr_reshape_dims(
            &x, a, 3, (int64_t[]) { a.shape.dim[0], a.shape.dim[1], rq_shape_span(&a.shape, 2, a.shape.rank) });
    }
    val y = EXPR_OP(!flat && inside ? rq_mil_expr_last(&x) : &x, "instance_norm", a.d, &in.shape, EXPR_V("x", &in),
                    EXPR_WHEN(inside, EXPR_V("gamma", &gain)), EXPR_WHEN(inside, EXPR_V("beta", &bias)),
                    EXPR_F("epsilon", epsilon));
    if (flat)
        y = rq_mil_expr_reshape(inside ? rq_mil_expr_last(&x) : &x, y, &a.shape);
    if (!inside) {
        y = rq_mil_expr_bin(&x, "mul", y, rq_mil_expr_along(&x, gain, a.shape.rank, 1));
        const val shift = rq_mil_expr_along(&x, bias, a.shape.rank, 1);
        rq_mil_expr_bin(rq_mil_expr_last(&x), "add", y, shift);
    }
    return x.st;
}

/* Each group of channels is a row of [N, groups, rest]. Gain and bias are one number per group at opset 18, per channel later. */
static rq_status group_normalization(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const int64_t groups = rq_attr_int(n, RQ_WORD_num_groups, 1);
    const rq_shape *s = &a.shape;
    if (!rq_mil_expr_static(&x, s))
        return x.st;
    const bool per_group = rq_mil_expr_opset(&x) < 21;
    const int64_t rest = s->dim[1] / groups * rq_shape_span(s, 2, s->rank);
    val y = rq_mil_expr_reshape_dims(&x, a, 3, (int64_t[]) { s->dim[0], groups, rest });
    y = layer_norm(&x, y, 2, rq_attr_float(n, RQ_WORD_epsilon, 1e-5f), NULL, NULL);
    if (per_group) {
        y = rq_mil_expr_bin(&x, "mul", y, rq_mil_expr_along(&x, rq_mil_expr_in(&x, 1), 3, 1));
        y = rq_mil_expr_bin(&x, "add", y, rq_mil_expr_along(&x, rq_mil_expr_in(&x, 2), 3, 1));
        rq_mil_expr_reshape(rq_mil_expr_last(&x), y, s);
        return x.st;
    }
    y = rq_mil_expr_reshape(&x, y, s);
    y = rq_mil_expr_bin(&x, "mul", y, rq_mil_expr_along(&x, rq_mil_expr_in(&x, 1), s->rank, 1));
    const val bias = rq_mil_expr_along(&x, rq_mil_expr_in(&x, 2), s->rank, 1);
    rq_mil_expr_bin(rq_mil_expr_last(&x), "add", y, bias);
    return x.st;
}

static rq_status lrn(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const int64_t size = rq_attr_int(n, RQ_WORD_size, 1);
    if (size % 2 == 0)
        return rq_mil_expr_refuse(&x, 0, "an even size");
    EXPR_OP(rq_mil_expr_last(&x), "local_response_norm", a.d, &a.shape, EXPR_V("x", &a), EXPR_I("size", size),
            EXPR_F("alpha", rq_attr_float(n, RQ_WORD_alpha, 1e-4f)),
            EXPR_F("beta", rq_attr_float(n, RQ_WORD_beta, 0.75f)), EXPR_F("k", rq_attr_float(n, RQ_WORD_bias, 1)));
    return x.st;
}

/* x / norm; a row of zeros stays one. */
static rq_status lp_normalization(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const int64_t axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, -1), a.shape.rank);
    if (x.st || axis < 0)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    const val norm = rq_mil_expr_reduce(&x, rq_attr_int(n, RQ_WORD_p, 2) == 1 ? "reduce_l1_norm" : "reduce_l2_norm", a,
                                        &axis, 1, true);
    const val is_zero = rq_mil_expr_bin(&x, "equal", norm, rq_mil_expr_f(0));
    const val by = rq_mil_expr_select(&x, is_zero, rq_mil_expr_f(1), norm);
    rq_mil_expr_bin(rq_mil_expr_last(&x), "real_div", a, by);
    return x.st;
}

/* (x - mean) / (deviation + 1e-9) */
static rq_status mean_variance_normalization(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    int64_t axes[RQ_MAX_RANK] = { 0, 2, 3 };
    int count;
    rq_mil_expr_axes(&x, n->n_in, "axes", a.shape.rank, axes, &count);
    if (count < 0 && a.shape.rank != 4)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    count = count < 0 ? 3 : count;
    const val centred = rq_mil_expr_bin(&x, "sub", a, rq_mil_expr_reduce(&x, "reduce_mean", a, axes, count, true));
    const val variance =
        rq_mil_expr_reduce(&x, "reduce_mean", rq_mil_expr_un(&x, "square", centred), axes, count, true);
    const val deviation = rq_mil_expr_bin(&x, "add", rq_mil_expr_un(&x, "sqrt", variance), rq_mil_expr_f(1e-9));
    rq_mil_expr_bin(rq_mil_expr_last(&x), "real_div", centred, deviation);
    return x.st;
}

const rq_mil_emit_row rq_mil_emit_norms[] = {
    { .op = "BatchNormalization", .emit = batch_normalization },
    { .op = "GroupNormalization", .emit = group_normalization },
    { .op = "InstanceNormalization", .emit = instance_normalization },
    { .op = "LRN", .emit = lrn },
    { .op = "LayerNormalization", .emit = layer_normalization },
    { .op = "LpNormalization", .emit = lp_normalization },
    { .op = "MeanVarianceNormalization", .emit = mean_variance_normalization },
    { .op = "RMSNormalization", .emit = rms_normalization },
    { .op = "SimplifiedLayerNormalization", .emit = rms_normalization },
    { .op = "SkipLayerNormalization", .domain = "com.microsoft", .emit = skip_normalization },
    { .op = "SkipSimplifiedLayerNormalization", .domain = "com.microsoft", .emit = skip_normalization },
    { .op = NULL },
};
