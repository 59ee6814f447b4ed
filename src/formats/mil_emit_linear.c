/* formats/mil_emit_linear.c — rows of convolutions and products. A product with a constant matrix becomes `linear`, whose weights Core ML
 * quantizes; pads are always spelled out where the sizes are known. */
#include "formats/mil_expr.h"

#include <string.h>

#include "ops/window.h"

typedef rq_mil_expr_val val;

/* ---- convolutions ---- */

typedef struct window_args {
    int64_t kernel[3], stride[3], dilation[3], pad[6];
    const char *pad_type;
    int nd;
    bool short_of; /* a pad is below zero */
} window_args;

static window_args args_of(const rq_window *w, const rq_node *n)
{
    window_args a = { .nd = w->nd, .pad_type = "valid" };
    const char *automatic = rq_attr_string(n, RQ_WORD_auto_pad, "NOTSET");
    for (int i = 0; i < w->nd; i++) {
        const int k = 3 - w->nd + i;
        a.kernel[i] = w->kernel[k];
        a.stride[i] = w->stride[k];
        a.dilation[i] = w->dilation[k];
        a.pad[2 * i] = w->pad_lo[k];
        a.pad[2 * i + 1] = w->pad_hi[k];
        a.short_of |= w->pad_lo[k] < 0 || w->pad_hi[k] < 0;
        if (w->pad_lo[k] || w->pad_hi[k])
            a.pad_type = "custom";
        if (w->in[k] < 0 && w->stride[k] != 1 && !strncmp(automatic, "SAME", 4))
            a.pad_type = !strcmp(automatic, "SAME_UPPER") ? "same" : "same_lower";
    }
    return a;
}

static val conv_op(rq_mil_expr *x, const char *type, val a, val w, const val *bias, const window_args *args,
                   const rq_shape *shape)
{
    return EXPR_OP(x, type, a.d, shape, EXPR_V("x", &a), EXPR_V("weight", &w), EXPR_WHEN(bias, EXPR_V("bias", bias)),
                   EXPR_IS("strides", args->stride, args->nd), EXPR_T("pad_type", args->pad_type),
                   EXPR_IS("pad", args->pad, 2 * args->nd), EXPR_IS("dilations", args->dilation, args->nd),
                   EXPR_I("groups", rq_attr_int(x->n, RQ_WORD_group, 1)));
}

static val relu_like(rq_mil_expr *x, const rq_node *n, val a)
{
    int count = 0;
    const char *name = rq_attr_string(n, RQ_WORD_activation, "");
    const float *p = rq_attr_floats(n, RQ_WORD_activation_params, &count);
    return *name ? rq_mil_expr_activation(x, name, p, count, a) : a;
}

static rq_status conv(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    rq_window win;
    const val a = rq_mil_expr_in(&x, 0), w = rq_mil_expr_in(&x, 1);
    const bool fused = !strcmp(n->op, "FusedConv");
    if (x.st)
        return x.st;
    RQ_TRY(rq_window_conv(&win, n, &a.shape, &w.shape, e->err));
    const window_args args = args_of(&win, n);
    const bool fixed = rq_mil_expr_fixed(&x, n->in[1]);
    if (!fixed)
        for (int i = 0; i < args.nd; i++)
            if (args.dilation[i] != 1)
                return rq_mil_expr_refuse(&x, 0, "a dilated convolution by weights that are computed");
    if (!strcmp(args.pad_type, "same_lower") && e->target < RQ_COREML_IOS16)
        return rq_mil_expr_refuse(&x, RQ_COREML_IOS16, "auto_pad SAME_LOWER of sizes that are known only when it runs");
    const bool has_bias = rq_mil_expr_has(&x, 2),
               inside = has_bias && (rq_mil_expr_fixed(&x, n->in[2]) || e->target >= RQ_COREML_IOS17);
    const val bias = has_bias ? rq_mil_expr_in(&x, 2) : rq_mil_expr_f(0);
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    const bool sum = rq_mil_expr_has(&x, 3), last = !(has_bias && !inside) && !sum && !fused;
    val y = conv_op(last ? rq_mil_expr_last(&x) : &x, "conv", a, w, inside ? &bias : NULL, &args, &out);
    if (last)
        return x.st;
    if (has_bias && !inside)
        y = rq_mil_expr_bin(fused || sum ? &x : rq_mil_expr_last(&x), "add", y,
                            rq_mil_expr_along(&x, bias, out.rank, 1));
    if (sum)
        y = rq_mil_expr_bin(fused ? &x : rq_mil_expr_last(&x), "add", y, rq_mil_expr_in(&x, 3));
    if (fused)
        rq_mil_expr_give(&x, relu_like(&x, n, y));
    return x.st;
}

/* Without the pads that are below zero: what they add has no product in it, only the bias. */
static rq_status conv_transpose(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    rq_window win;
    const val a = rq_mil_expr_in(&x, 0), w = rq_mil_expr_in(&x, 1);
    if (x.st)
        return x.st;
    RQ_TRY(rq_window_deconv(&win, n, &a.shape, &w.shape, e->err));
    window_args args = args_of(&win, n);
    if (strncmp(args.pad_type, "same", 4) == 0)
        return rq_mil_expr_refuse(&x, 0, "auto_pad of sizes that are known only when it runs");
    if (!rq_mil_expr_fixed(&x, n->in[1]) && e->target < RQ_COREML_IOS17)
        return rq_mil_expr_refuse(&x, RQ_COREML_IOS17, "weights that are computed");
    const bool has_bias = rq_mil_expr_has(&x, 2);
    const val bias = has_bias ? rq_mil_expr_in(&x, 2) : rq_mil_expr_f(0);
    const bool inside = has_bias && !args.short_of && (rq_mil_expr_fixed(&x, n->in[2]) || e->target >= RQ_COREML_IOS17);
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    rq_shape made = out;
    int64_t more[2 * RQ_MAX_RANK] = { 0 };
    for (int i = 0; i < args.nd; i++) {
        for (int side = 0; side < 2; side++) {
            int64_t *pad = &args.pad[2 * i + side];
            more[4 + 2 * i + side] = *pad < 0 ? -*pad : 0;
            *pad = *pad < 0 ? 0 : *pad;
        }
        if (made.dim[2 + i] >= 0)
            made.dim[2 + i] -= more[4 + 2 * i] + more[5 + 2 * i];
    }
    const bool after = has_bias && !inside;
    val y = conv_op(!args.short_of && !after ? rq_mil_expr_last(&x) : &x, "conv_transpose", a, w, inside ? &bias : NULL,
                    &args, &made);
    if (args.short_of)
        y = EXPR_OP(after ? &x : rq_mil_expr_last(&x), "pad", y.d, &out, EXPR_V("x", &y),
                    EXPR_IS("pad", more, 2 * out.rank), EXPR_T("mode", "constant"), EXPR_F("constant_val", 0));
    if (after) {
        const val along = rq_mil_expr_along(&x, bias, out.rank, 1);
        rq_mil_expr_bin(rq_mil_expr_last(&x), "add", y, along);
    }
    return x.st;
}

/* ---- products ---- */

/* A matrix [k,n] turned, and multiplied by `by`. */
static val turned(rq_mil_expr *x, const rq_tensor *w, bool turn, double by)
{
    const int64_t rows = w->shape.dim[0], cols = w->shape.dim[1];
    const rq_shape shape = turn ? rq_shape_of(2, (int64_t[]) { cols, rows }) : w->shape;
    rq_tensor *t;
    const val v = rq_mil_expr_new(x, RQ_DTYPE_F32, &shape, &t);
    for (int64_t i = 0; t && i < rows; i++)
        for (int64_t k = 0; k < cols; k++)
            t->f32[turn ? k * rows + i : i * cols + k] = (float)(rq_tensor_get(w, i * cols + k) * by);
    return v;
}

/* `linear` of x [.., k] by weight [n,k]; the bias is zero where there is none. */
static val linear(rq_mil_expr *x, val a, val weight, const val *bias)
{
    rq_shape out = a.shape;
    const int64_t n = weight.shape.dim[0];
    const rq_shape flat = rq_shape_of(1, &n);
    rq_tensor *t;
    const val zeros = bias ? *bias : rq_mil_expr_new(x, RQ_DTYPE_F32, &flat, &t);
    out.dim[out.rank - 1] = n;
    return EXPR_OP(x, "linear", a.d, &out, EXPR_V("x", &a), EXPR_V("weight", &weight), EXPR_V("bias", &zeros));
}

/* The bias of a Gemm as one number per column, times beta; false: it is none of the kind. */
static bool row_of(rq_mil_expr *x, const rq_tensor *c, int64_t n, float beta, val *out)
{
    const int64_t count = c ? rq_tensor_count(c) : 0;
    const rq_shape flat = rq_shape_of(1, &n);
    rq_tensor *t;
    if (!c || (count != 1 && count != n) || (count == n && n > 1 && c->shape.dim[c->shape.rank - 1] != n))
        return false;
    *out = rq_mil_expr_new(x, RQ_DTYPE_F32, &flat, &t);
    for (int64_t i = 0; t && i < n; i++)
        t->f32[i] = (float)rq_tensor_get(c, count == 1 ? 0 : i) * beta;
    return true;
}

static rq_status gemm(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const float alpha = rq_attr_float(n, RQ_WORD_alpha, 1), beta = rq_attr_float(n, RQ_WORD_beta, 1);
    const bool turn_a = rq_attr_int(n, RQ_WORD_transA, 0) != 0, turn_b = rq_attr_int(n, RQ_WORD_transB, 0) != 0;
    const bool has_c = rq_mil_expr_has(&x, 2) && beta != 0, fused = !strcmp(n->op, "FusedGemm");
    const rq_tensor *w = rq_mil_expr_const(&x, 1);
    val a = rq_mil_expr_in(&x, 0), b = rq_mil_expr_in(&x, 1), c = has_c ? rq_mil_expr_in(&x, 2) : rq_mil_expr_f(0), y;
    if (x.st)
        return x.st;
    if (a.d != RQ_DTYPE_F32)
        return rq_mil_expr_refuse(&x, 0, "a product of integers with scales");
    const bool matrix = b.shape.rank == 2 && b.shape.dim[0] > 0 && b.shape.dim[1] > 0;
    const bool codes = matrix && !w && turn_b && alpha == 1 && rq_mil_expr_fixed(&x, n->in[1]);
    if (matrix && (w || codes)) {
        const int64_t cols = b.shape.dim[!turn_b];
        val row = c;
        const bool own =
            has_c && rq_mil_expr_fixed(&x, n->in[2]) && beta == 1 && c.shape.rank == 1 && c.shape.dim[0] == cols;
        const bool inside = own || (has_c && row_of(&x, rq_mil_expr_const(&x, 2), cols, beta, &row));
        const val weight = codes || (turn_b && alpha == 1) ? b : turned(&x, w, !turn_b, alpha);
        if (turn_a)
            a = rq_mil_expr_transpose(&x, a, (const int64_t[]) { 1, 0 });
        const bool last = !fused && (!has_c || inside);
        y = linear(last ? rq_mil_expr_last(&x) : &x, a, weight, inside ? &row : NULL);
        if (last)
            return x.st;
        if (has_c && !inside) {
            c = beta != 1 ? rq_mil_expr_bin(&x, "mul", c, rq_mil_expr_f(beta)) : c;
            y = rq_mil_expr_bin(fused ? &x : rq_mil_expr_last(&x), "add", y, c);
        }
    } else {
        y = rq_mil_expr_matmul(!has_c && alpha == 1 && !fused ? rq_mil_expr_last(&x) : &x, a, b, turn_a, turn_b);
        if (alpha != 1)
            y = rq_mil_expr_bin(!has_c && !fused ? rq_mil_expr_last(&x) : &x, "mul", y, rq_mil_expr_f(alpha));
        if (has_c) {
            c = beta != 1 ? rq_mil_expr_bin(&x, "mul", c, rq_mil_expr_f(beta)) : c;
            y = rq_mil_expr_bin(fused ? &x : rq_mil_expr_last(&x), "add", y, c);
        }
    }
    if (fused) {
        const float p[2] = { rq_attr_float(n, RQ_WORD_activation_alpha, 0),
                             rq_attr_float(n, RQ_WORD_activation_beta, 0) };
        const int count = rq_attr_find(n, RQ_WORD_activation_beta)    ? 2
                          : rq_attr_find(n, RQ_WORD_activation_alpha) ? 1
                                                                      : 0;
        rq_mil_expr_give(&x, rq_mil_expr_activation(&x, rq_attr_string(n, RQ_WORD_activation, ""), p, count, y));
    }
    return x.st;
}

/* a b as numpy does: vectors get an axis, which goes again. */
static val product(rq_mil_expr *x, val a, val b, bool turn_a, bool turn_b, const rq_shape *out)
{
    const bool row = a.shape.rank == 1, column = b.shape.rank == 1;
    rq_mil_expr inner = *x;
    inner.out = -1;
    inner.of = x->of ? x->of : x;
    if (!row && !column)
        return rq_mil_expr_matmul(x, a, b, turn_a, turn_b);
    if (row)
        a = rq_mil_expr_reshape_dims(&inner, a, 2, (int64_t[]) { 1, a.shape.dim[0] });
    if (column)
        b = rq_mil_expr_reshape_dims(&inner, b, 2, (int64_t[]) { b.shape.dim[0], 1 });
    const val y = rq_mil_expr_matmul(&inner, a, b, turn_a && !row, turn_b && !column);
    return rq_mil_expr_reshape(x, y, out);
}

static rq_status matmul(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const rq_tensor *w = rq_mil_expr_const(&x, 1);
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0)), b = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 1));
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    if (x.st)
        return x.st;
    if (a.d == RQ_DTYPE_F32 && w && b.shape.rank == 2 && a.shape.rank >= 2 && a.shape.rank <= 3 &&
        rq_tensor_count(w) > 0)
        linear(rq_mil_expr_last(&x), a, turned(&x, w, true, 1), NULL);
    else
        product(rq_mil_expr_last(&x), a, b, false, false, &out);
    return x.st;
}

/* FusedMatMul, TransposeMatMul: alpha a b, their last axes turned, or with transBatch the batch axes behind the rows. */
static rq_status fused_matmul(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const float alpha = rq_attr_float(n, RQ_WORD_alpha, 1);
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    val in[2] = { rq_mil_expr_in(&x, 0), rq_mil_expr_in(&x, 1) };
    if (x.st)
        return x.st;
    for (int i = 0; i < 2; i++) {
        const int rank = in[i].shape.rank;
        int64_t perm[RQ_MAX_RANK];
        if (!rq_attr_int(n, i ? RQ_WORD_transBatchB : RQ_WORD_transBatchA, 0) || rank < 3)
            continue;
        for (int k = 0; k < rank - 1; k++) /* [rows, batch.., cols] */
            perm[k] = k + 1 < rank - 1 ? k + 1 : 0;
        perm[rank - 1] = rank - 1;
        in[i] = rq_mil_expr_transpose(&x, in[i], perm);
    }
    const val y = product(alpha == 1 ? rq_mil_expr_last(&x) : &x, in[0], in[1], rq_attr_int(n, RQ_WORD_transA, 0) != 0,
                          rq_attr_int(n, RQ_WORD_transB, 0) != 0, &out);
    if (alpha != 1)
        rq_mil_expr_bin(rq_mil_expr_last(&x), "mul", y, rq_mil_expr_f(alpha));
    return x.st;
}

/* (a - zero point) (b - zero point) in int32. */
static rq_status matmul_integer(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    val in[2];
    for (int i = 0; i < 2; i++) {
        in[i] = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, i));
        if (!rq_mil_expr_has(&x, i + 2))
            continue;
        val zero = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, i + 2));
        if (!i && zero.shape.rank == 1 && zero.shape.dim[0] != 1) /* one per row */
            zero = rq_mil_expr_reshape_dims(&x, zero, 2, (int64_t[]) { zero.shape.dim[0], 1 });
        in[i] = rq_mil_expr_bin(&x, "sub", in[i], zero);
    }
    product(rq_mil_expr_last(&x), in[0], in[1], false, false, &out);
    return x.st;
}

const rq_mil_emit_row rq_mil_emit_linear[] = {
    { .op = "Conv", .emit = conv },
    { .op = "ConvTranspose", .emit = conv_transpose },
    { .op = "Gemm", .emit = gemm },
    { .op = "MatMul", .emit = matmul },
    { .op = "MatMulInteger", .emit = matmul_integer },
    { .op = "FusedConv", .domain = "com.microsoft", .emit = conv },
    { .op = "FusedGemm", .domain = "com.microsoft", .emit = gemm },
    { .op = "FusedMatMul", .domain = "com.microsoft", .emit = fused_matmul },
    { .op = "TransposeMatMul", .domain = "com.microsoft", .emit = fused_matmul },
    { .op = NULL },
};
