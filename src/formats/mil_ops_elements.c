/* formats/mil_ops_elements.c — rows: operators on elements: arithmetic, comparisons, activations. */
#include "formats/mil_rows.h"

#include <string.h>

typedef rq_mil_reader reader;
typedef rq_chain chain;

/* The entry of a list of operators that op is; the last one when it is none. */
static int kind_of(const rq_mil_op *op, const char *const *names, int n)
{
    int k = 0;
    while (k + 1 < n && strcmp(names[k], op->type) != 0)
        k++;
    return k;
}

/* ---- arithmetic ---- */

static bool is_real(rq_dtype d)
{
    return d == RQ_DTYPE_F32 || d == RQ_DTYPE_F16;
}

/* Is the sign of a, which is not 0, another than that of y? */
static const char *signs_differ(chain *c, const char *a, const char *y, const char *zero)
{
    const char *other = rq_n2(c, "Xor", rq_n2(c, "Less", a, zero), rq_n2(c, "Less", y, zero));
    return rq_n2(c, "And", rq_n1(c, "Not", rq_n2(c, "Equal", a, zero)), other);
}

/* x - y floor(x / y), of the sign of y. */
static const char *modulo(chain *c, const char *x, const char *y)
{
    const rq_dtype d = rq_chain_dtype(c, x);
    const char *rest = rq_n2(c, "Mod", x, y);
    if (!is_real(d))
        return rest;
    rq_chain_set_int(c, "fmod", 1); /* of the sign of x */
    const char *zero = rq_chain_const(c, d, 0);
    return rq_n3(c, "Where", signs_differ(c, rest, y, zero), rq_n2(c, "Add", rest, y), rest);
}

static rq_status mod(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *y = rq_chain_in(&c, "y");
    return rq_chain_end(&c, 0, modulo(&c, x, y));
}

/* floor(x / y), without the rounding of that quotient: (x - x mod y) / y is whole but for its last bits. */
static rq_status floor_div(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *y = rq_chain_in(&c, "y");
    const char *q = rq_n2(&c, "Div", rq_n2(&c, "Sub", x, modulo(&c, x, y)), y);
    return rq_chain_end(&c, 0, is_real(rq_chain_dtype(&c, x)) ? rq_n1(&c, "Round", q) : q);
}

static rq_status not_equal(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *y = rq_chain_in(&c, "y");
    return rq_chain_end(&c, 0, rq_n1(&c, "Not", rq_n2(&c, "Equal", x, y)));
}

static rq_status square(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    return rq_chain_end(&c, 0, rq_n2(&c, "Mul", x, x));
}

static rq_status power_of_two(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const rq_dtype d = rq_chain_dtype(&c, x), real = is_real(d) ? d : RQ_DTYPE_F32;
    const char *two = rq_chain_const(&c, real, 2);
    return rq_chain_end(&c, 0, rq_chain_cast(&c, rq_n2(&c, "Pow", two, rq_chain_cast(&c, x, real)), d));
}

/* 1 / (x + epsilon), log(x + epsilon), 1 / sqrt(x + epsilon); what epsilon is when it is not said was chosen before 16-bit floats. */
static rq_status with_epsilon(reader *r, const rq_mil_op *op)
{
    static const char *const names[] = { "inverse", "log", "rsqrt" };
    static const float usual[] = { 1e-4f, 1e-45f, 1e-12f };
    const int k = kind_of(op, names, 3);
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const float epsilon = rq_chain_float(&c, "epsilon", usual[k]);
    const rq_dtype d = rq_chain_dtype(&c, x);
    if (epsilon != 0 && (d != RQ_DTYPE_F16 || epsilon > 2.9e-8f || epsilon < -2.9e-8f)) /* half of the least fp16 */
        x = rq_n2(&c, "Add", x, rq_chain_const(&c, d, (double)epsilon));
    const char *y = rq_n1(&c, k == 1 ? "Log" : k == 2 ? "Sqrt" : "Reciprocal", x);
    return rq_chain_end(&c, 0, k == 2 ? rq_n1(&c, "Reciprocal", y) : y);
}

/* ---- limits ---- */

static rq_status clip(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *low = rq_chain_in(&c, "alpha"), *high = rq_chain_in(&c, "beta");
    const rq_dtype d = rq_chain_dtype(&c, x);
    return rq_chain_end(&c, 0, rq_n3(&c, "Clip", x, rq_chain_cast(&c, low, d), rq_chain_cast(&c, high, d)));
}

static rq_status threshold(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *low = rq_chain_in(&c, "alpha");
    return rq_chain_end(&c, 0, rq_n2(&c, "Max", x, rq_chain_cast(&c, low, rq_chain_dtype(&c, x))));
}

static rq_status relu6(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const rq_dtype d = rq_chain_dtype(&c, x);
    return rq_chain_end(&c, 0, rq_n3(&c, "Clip", x, rq_chain_const(&c, d, 0), rq_chain_const(&c, d, 6)));
}

/* min(beta, x >= 0 ? x : alpha x) */
static rq_status clamped_relu(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const float alpha = rq_chain_float(&c, "alpha", 1), beta = rq_chain_float(&c, "beta", 1);
    const char *y = rq_n1(&c, "LeakyRelu", x);
    rq_chain_set_float(&c, "alpha", alpha);
    return rq_chain_end(&c, 0, rq_n2(&c, "Min", y, rq_chain_const(&c, rq_chain_dtype(&c, x), (double)beta)));
}

/* x where x >= alpha, else 0; ONNX's own asks x > alpha. */
static rq_status thresholded_relu(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const float alpha = rq_chain_float(&c, "alpha", 1);
    const rq_dtype d = rq_chain_dtype(&c, x);
    const char *kept = rq_n2(&c, "GreaterOrEqual", x, rq_chain_const(&c, d, (double)alpha));
    return rq_chain_end(&c, 0, rq_n3(&c, "Where", kept, x, rq_chain_const(&c, d, 0)));
}

/* ---- activations ---- */

/* One float setting, or two. */
static rq_status with_floats(reader *r, const rq_mil_op *op)
{
    static const char *const names[] = { "leaky_relu", "elu", "sigmoid_hard" }, *const onnx[] = { "LeakyRelu", "Elu",
                                                                                                  "HardSigmoid" };
    const int k = kind_of(op, names, 3);
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const float alpha = rq_chain_float(&c, "alpha", 1), beta = rq_chain_float(&c, "beta", 0);
    const char *y = rq_n1(&c, onnx[k], x);
    rq_chain_set_float(&c, "alpha", alpha);
    if (k == 2)
        rq_chain_set_float(&c, "beta", beta);
    return rq_chain_end(&c, 0, y);
}

/* alpha x + beta; alpha tanh(beta x) */
static rq_status with_factors(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const rq_dtype d = rq_chain_dtype(&c, x);
    const char *alpha = rq_chain_const(&c, d, (double)rq_chain_float(&c, "alpha", 1));
    const char *beta = rq_chain_const(&c, d, (double)rq_chain_float(&c, "beta", 0));
    if (!strcmp(op->type, "linear_activation"))
        return rq_chain_end(&c, 0, rq_n2(&c, "Add", rq_n2(&c, "Mul", x, alpha), beta));
    return rq_chain_end(&c, 0, rq_n2(&c, "Mul", rq_n1(&c, "Tanh", rq_n2(&c, "Mul", x, beta)), alpha));
}

static rq_status silu(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    return rq_chain_end(&c, 0, rq_n2(&c, "Mul", x, rq_n1(&c, "Sigmoid", x)));
}

static rq_status gelu(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *mode = rq_chain_text(&c, "mode", "EXACT");
    if (!strcmp(mode, "SIGMOID_APPROXIMATION")) {
        const char *factor = rq_chain_const(&c, rq_chain_dtype(&c, x), 1.702);
        return rq_chain_end(&c, 0, rq_n2(&c, "Mul", x, rq_n1(&c, "Sigmoid", rq_n2(&c, "Mul", x, factor))));
    }
    if (strcmp(mode, "EXACT") != 0 && strcmp(mode, "TANH_APPROXIMATION") != 0)
        rq_chain_fail(&c, RQ_UNSUPPORTED, "mode '%.60s' is not known", mode);
    const char *y = rq_n1(&c, "Gelu", x);
    if (!strcmp(mode, "TANH_APPROXIMATION"))
        rq_chain_set_text(&c, "approximate", "tanh");
    return rq_chain_end(&c, 0, y);
}

static rq_status softmax(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int64_t axis = rq_chain_int(&c, "axis", -1);
    const char *y = rq_n1(&c, "Softmax", x);
    rq_chain_set_int(&c, "axis", axis);
    return rq_chain_end(&c, 0, y);
}

/* One number per channel, axis 1. */
static rq_status prelu(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    return rq_chain_end(&c, 0, rq_n2(&c, "PRelu", x, rq_chain_channels(&c, rq_chain_in(&c, "alpha"), x)));
}

/* alpha log(1 + exp(beta x)) */
static rq_status softplus_parametric(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const char *alpha = rq_chain_channels(&c, rq_chain_in(&c, "alpha"), x);
    const char *beta = rq_chain_channels(&c, rq_chain_in(&c, "beta"), x);
    return rq_chain_end(&c, 0, rq_n2(&c, "Mul", rq_n1(&c, "Softplus", rq_n2(&c, "Mul", x, beta)), alpha));
}

const rq_mil_row rq_mil_rows_elements[] = {
    { "abs", NULL, "Abs", "x" },
    { "acos", NULL, "Acos", "x" },
    { "add", NULL, "Add", "x,y" },
    { "asin", NULL, "Asin", "x" },
    { "atan", NULL, "Atan", "x" },
    { "atanh", NULL, "Atanh", "x" },
    { "ceil", NULL, "Ceil", "x" },
    { "clamped_relu", clamped_relu, "LeakyRelu, Min", NULL },
    { "clip", clip, "Clip", NULL },
    { "cos", NULL, "Cos", "x" },
    { "cosh", NULL, "Cosh", "x" },
    { "elu", with_floats, "Elu", NULL },
    { "equal", NULL, "Equal", "x,y" },
    { "erf", NULL, "Erf", "x" },
    { "exp", NULL, "Exp", "x" },
    { "exp2", power_of_two, "Pow", NULL },
    { "floor", NULL, "Floor", "x" },
    { "floor_div", floor_div, "Mod, Sub, Div, Round", NULL },
    { "gelu", gelu, "Gelu; Mul, Sigmoid", NULL },
    { "greater", NULL, "Greater", "x,y" },
    { "greater_equal", NULL, "GreaterOrEqual", "x,y" },
    { "inverse", with_epsilon, "Add, Reciprocal", NULL },
    { "leaky_relu", with_floats, "LeakyRelu", NULL },
    { "less", NULL, "Less", "x,y" },
    { "less_equal", NULL, "LessOrEqual", "x,y" },
    { "linear_activation", with_factors, "Mul, Add", NULL },
    { "log", with_epsilon, "Add, Log", NULL },
    { "logical_and", NULL, "And", "x,y" },
    { "logical_not", NULL, "Not", "x" },
    { "logical_or", NULL, "Or", "x,y" },
    { "logical_xor", NULL, "Xor", "x,y" },
    { "maximum", NULL, "Max", "x,y" },
    { "minimum", NULL, "Min", "x,y" },
    { "mod", mod, "Mod", NULL },
    { "mul", NULL, "Mul", "x,y" },
    { "not_equal", not_equal, "Equal, Not", NULL },
    { "pow", NULL, "Pow", "x,y" },
    { "prelu", prelu, "PRelu", NULL },
    { "real_div", NULL, "Div", "x,y" },
    { "relu", NULL, "Relu", "x" },
    { "relu6", relu6, "Clip", NULL },
    { "round", NULL, "Round", "x" },
    { "rsqrt", with_epsilon, "Add, Sqrt, Reciprocal", NULL },
    { "scaled_tanh", with_factors, "Mul, Tanh, Mul", NULL },
    { "select", NULL, "Where", "cond,a,b" },
    { "sigmoid", NULL, "Sigmoid", "x" },
    { "sigmoid_hard", with_floats, "HardSigmoid", NULL },
    { "sign", NULL, "Sign", "x" },
    { "silu", silu, "Sigmoid, Mul", NULL },
    { "sin", NULL, "Sin", "x" },
    { "sinh", NULL, "Sinh", "x" },
    { "softmax", softmax, "Softmax", NULL },
    { "softplus", NULL, "Softplus", "x" },
    { "softplus_parametric", softplus_parametric, "Mul, Softplus, Mul", NULL },
    { "softsign", NULL, "Softsign", "x" },
    { "sqrt", NULL, "Sqrt", "x" },
    { "square", square, "Mul", NULL },
    { "sub", NULL, "Sub", "x,y" },
    { "tan", NULL, "Tan", "x" },
    { "tanh", NULL, "Tanh", "x" },
    { "threshold", threshold, "Max", NULL },
    { "thresholded_relu", thresholded_relu, "GreaterOrEqual, Where", NULL },
    { NULL, NULL, NULL, NULL },
};
