/* formats/mil_emit_elements.c — rows of operators that compute element by element: unary and binary ones, comparisons, logic,
 * casts (activations: mil_emit_activations.c). Integers are int32; an operator that Core ML has for floats alone, or not at all, is an expression of others. */
#include "formats/mil_expr.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef rq_mil_expr_val val;

static const char *name_of(const char *const (*table)[2], const rq_node *n)
{
    while ((*table)[0] && strcmp((*table)[0], n->op) != 0)
        table++;
    return (*table)[1];
}

/* A result of 8 or 16 bits, for which int32 stands: what does not fit wraps. */
static val wrap(rq_mil_expr *x, val a, rq_dtype d)
{
    int64_t lo, hi;
    if (!rq_dtype_is_integer(d) || rq_dtype_bits(d) >= 32)
        return a;
    rq_dtype_limits(d, &lo, &hi);
    a = rq_mil_expr_bin(x, "mod", rq_mil_expr_bin(x, "sub", a, rq_mil_expr_f((double)lo)),
                        rq_mil_expr_f((double)(hi - lo + 1)));
    return rq_mil_expr_bin(x, "add", a, rq_mil_expr_f((double)lo));
}

/* Does the operator give integers of 8 or 16 bits? */
static bool is_narrow(const rq_mil_emitter *e, const rq_node *n)
{
    const rq_dtype d = e->g->values[n->out[0]].dtype;
    return rq_dtype_is_integer(d) && rq_dtype_bits(d) < 32;
}

/* ---- of one input ---- */

static rq_status unary(rq_mil_emitter *e, const rq_node *n)
{
    static const char *const table[][2] = {
        { "Abs", "abs" },           { "Acos", "acos" }, { "Asin", "asin" },       { "Atan", "atan" },
        { "Atanh", "atanh" },       { "Ceil", "ceil" }, { "Cos", "cos" },         { "Cosh", "cosh" },
        { "Erf", "erf" },           { "Exp", "exp" },   { "Floor", "floor" },     { "Round", "round" },
        { "Sign", "sign" },         { "Sin", "sin" },   { "Sinh", "sinh" },       { "Softplus", "softplus" },
        { "Softsign", "softsign" }, { "Sqrt", "sqrt" }, { "Sigmoid", "sigmoid" }, { "Tan", "tan" },
        { "Tanh", "tanh" },         { NULL, NULL },
    };
    const char *type = name_of(table, n);
    rq_mil_expr x = rq_mil_expr_of(e, n);
    val a = rq_mil_expr_in(&x, 0);
    if (strcmp(type, "abs") != 0 && strcmp(type, "sign") != 0)
        a = rq_mil_expr_float(&x, a);
    else
        a = rq_mil_expr_plain(&x, a);
    if (a.d != RQ_DTYPE_F32 && is_narrow(e, n) && !strcmp(type, "abs"))
        rq_mil_expr_give(&x, wrap(&x, rq_mil_expr_un(&x, type, a), e->g->values[n->out[0]].dtype));
    else
        rq_mil_expr_un(rq_mil_expr_last(&x), type, a);
    return x.st;
}

static rq_status neg(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0));
    if (is_narrow(e, n))
        rq_mil_expr_give(&x, wrap(&x, rq_mil_expr_bin(&x, "mul", a, rq_mil_expr_f(-1)), e->g->values[n->out[0]].dtype));
    else
        rq_mil_expr_bin(rq_mil_expr_last(&x), "mul", a, rq_mil_expr_f(-1));
    return x.st;
}

static rq_status reciprocal(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_float(&x, rq_mil_expr_in(&x, 0));
    rq_mil_expr_bin(rq_mil_expr_last(&x), "real_div", rq_mil_expr_f(1), a);
    return x.st;
}

rq_mil_expr_val rq_mil_expr_log(rq_mil_expr *x, rq_mil_expr_val a)
{
    return EXPR_OP(x, "log", a.d, &a.shape, EXPR_V("x", &a), EXPR_F("epsilon", 0));
}

static rq_status log_row(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_float(&x, rq_mil_expr_in(&x, 0));
    rq_mil_expr_log(rq_mil_expr_last(&x), a);
    return x.st;
}

/* asinh x = atanh(x / sqrt(1 + x^2)), and sign(x) log(|x| + sqrt(1 + x^2)) where that is near one. */
static rq_status asinh_row(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_float(&x, rq_mil_expr_in(&x, 0)), size = rq_mil_expr_un(&x, "abs", a);
    const val root =
        rq_mil_expr_un(&x, "sqrt", rq_mil_expr_bin(&x, "add", rq_mil_expr_bin(&x, "mul", a, a), rq_mil_expr_f(1)));
    const val small = rq_mil_expr_un(&x, "atanh", rq_mil_expr_bin(&x, "real_div", a, root));
    const val large = rq_mil_expr_bin(&x, "mul", rq_mil_expr_un(&x, "sign", a),
                                      rq_mil_expr_log(&x, rq_mil_expr_bin(&x, "add", size, root)));
    const val is_small = rq_mil_expr_bin(&x, "less", size, rq_mil_expr_f(0.5));
    rq_mil_expr_select(rq_mil_expr_last(&x), is_small, small, large);
    return x.st;
}

/* acosh x = 2 atanh(sqrt((x - 1) / (x + 1))), and log(x + sqrt(x^2 - 1)) where that is near one. */
static rq_status acosh_row(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_float(&x, rq_mil_expr_in(&x, 0));
    const val down = rq_mil_expr_bin(&x, "sub", a, rq_mil_expr_f(1)),
              up = rq_mil_expr_bin(&x, "add", a, rq_mil_expr_f(1));
    const val half = rq_mil_expr_un(&x, "atanh", rq_mil_expr_un(&x, "sqrt", rq_mil_expr_bin(&x, "real_div", down, up)));
    const val small = rq_mil_expr_bin(&x, "mul", half, rq_mil_expr_f(2));
    const val large = rq_mil_expr_log(
        &x, rq_mil_expr_bin(&x, "add", a, rq_mil_expr_un(&x, "sqrt", rq_mil_expr_bin(&x, "mul", down, up))));
    const val is_small = rq_mil_expr_bin(&x, "less", a, rq_mil_expr_f(2));
    rq_mil_expr_select(rq_mil_expr_last(&x), is_small, small, large);
    return x.st;
}

static rq_status not_row(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    rq_mil_expr_un(rq_mil_expr_last(&x), "logical_not", a);
    return x.st;
}

/* -1 - x: two's complement. */
static rq_status bitwise_not(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const rq_dtype d = e->g->values[n->in[0]].dtype;
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0));
    int64_t lo, hi;
    rq_dtype_limits(d, &lo, &hi);
    if (!lo && (d == RQ_DTYPE_U32 || d == RQ_DTYPE_U64))
        return rq_mil_expr_refuse(&x, 0, "the operator on unsigned integers");
    rq_mil_expr_bin(rq_mil_expr_last(&x), "sub", rq_mil_expr_f(lo ? -1 : (double)hi), a);
    return x.st;
}

static rq_status is_nan(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    rq_mil_expr_bin(rq_mil_expr_last(&x), "not_equal", a, a);
    return x.st;
}

static rq_status is_inf(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const bool below = rq_attr_int(n, RQ_WORD_detect_negative, 1), above = rq_attr_int(n, RQ_WORD_detect_positive, 1);
    const double most = e->half ? 65504 : FLT_MAX;
    const val a = rq_mil_expr_in(&x, 0), size = below && above ? rq_mil_expr_un(&x, "abs", a) : a;
    if (above)
        rq_mil_expr_bin(rq_mil_expr_last(&x), "greater", size, rq_mil_expr_f(most));
    else if (below)
        rq_mil_expr_bin(rq_mil_expr_last(&x), "less", size, rq_mil_expr_f(-most));
    else
        rq_mil_expr_bin(rq_mil_expr_last(&x), "less", rq_mil_expr_un(&x, "abs", a), rq_mil_expr_f(-1));
    return x.st;
}

static rq_status identity(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    if (rq_mil_expr_wants(&x, 1))
        return rq_mil_expr_refuse(&x, 0, "a second output (a mask)");
    const val a = rq_mil_expr_in(&x, 0);
    rq_mil_expr_give(&x, a);
    return x.st;
}

/* Dropout in training is refused: the row above would say that it does nothing. */
static rq_status dropout(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const rq_tensor *t = rq_mil_expr_const(&x, 2);
    if (rq_mil_expr_has(&x, 2) && (!t || rq_tensor_count(t) != 1 || rq_tensor_get(t, 0) != 0))
        return rq_mil_expr_refuse(&x, 0, "dropout while training");
    return identity(e, n);
}

static rq_status cast(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const rq_dtype to = e->g->values[n->out[0]].dtype, from = e->g->values[n->in[0]].dtype;
    if (rq_dtype_is_float(to) && rq_dtype_bits(to) < 16)
        return rq_mil_expr_refuse(&x, 0, "rounding to floats of 8 bits and less");
    val a = rq_mil_expr_in(&x, 0);
    int64_t lo, hi, from_lo = INT64_MIN, from_hi = INT64_MAX;
    if (!is_narrow(e, n) || from == RQ_DTYPE_BOOL) {
        rq_mil_expr_give(&x, a);
        return x.st;
    }
    rq_dtype_limits(to, &lo, &hi);
    if (rq_dtype_is_integer(from))
        rq_dtype_limits(from, &from_lo, &from_hi);
    if (from_lo < lo || from_hi > hi)
        a = wrap(&x, rq_mil_expr_cast(&x, a, RQ_DTYPE_S32), to);
    else if (!rq_dtype_is_integer(from))
        a = rq_mil_expr_cast(&x, a, RQ_DTYPE_S32);
    rq_mil_expr_give(&x, a);
    return x.st;
}

/* ---- of two inputs, or more ---- */

/* x / y towards zero. */
static val int_div(rq_mil_expr *x, val a, val b)
{
    const val sign = rq_mil_expr_bin(x, "mul", rq_mil_expr_un(x, "sign", a), rq_mil_expr_un(x, "sign", b));
    return rq_mil_expr_bin(x, "mul", sign,
                           rq_mil_expr_bin(x, "floor_div", rq_mil_expr_un(x, "abs", a), rq_mil_expr_un(x, "abs", b)));
}

static rq_status binary(rq_mil_emitter *e, const rq_node *n)
{
    static const char *const table[][2] = {
        { "Add", "add" },         { "Sub", "sub" },
        { "Mul", "mul" },         { "Equal", "equal" },
        { "Greater", "greater" }, { "GreaterOrEqual", "greater_equal" },
        { "Less", "less" },       { "LessOrEqual", "less_equal" },
        { NULL, NULL },
    };
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0)), b = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 1));
    if (is_narrow(e, n))
        rq_mil_expr_give(&x, wrap(&x, rq_mil_expr_bin(&x, name_of(table, n), a, b), e->g->values[n->out[0]].dtype));
    else
        rq_mil_expr_bin(rq_mil_expr_last(&x), name_of(table, n), a, b);
    return x.st;
}

static rq_status div_row(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0)), b = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 1));
    if (a.d == RQ_DTYPE_F32)
        rq_mil_expr_bin(rq_mil_expr_last(&x), "real_div", a, b);
    else
        rq_mil_expr_give(&x, wrap(&x, int_div(&x, a, b), e->g->values[n->out[0]].dtype));
    return x.st;
}

static rq_status mod_row(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0)), b = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 1));
    if (!rq_attr_int(n, RQ_WORD_fmod, 0)) {
        rq_mil_expr_bin(rq_mil_expr_last(&x), "mod", a, b);
        return x.st;
    }
    /* as C's fmod: the sign of the dividend */
    const val rest = rq_mil_expr_bin(&x, "mod", rq_mil_expr_un(&x, "abs", a), rq_mil_expr_un(&x, "abs", b));
    rq_mil_expr_bin(rq_mil_expr_last(&x), "mul", rq_mil_expr_un(&x, "sign", a), rest);
    return x.st;
}

static rq_status pow_row(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const rq_tensor *t = rq_mil_expr_const(&x, 1);
    val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0)), b = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 1));
    const double y = t && rq_tensor_count(t) == 1 ? rq_tensor_get(t, 0) : 0;
    const bool fits = b.shape.rank <= a.shape.rank;
    if (y == 2 && fits)
        rq_mil_expr_un(rq_mil_expr_last(&x), "square", a);
    else if (y == 0.5 && fits && a.d == RQ_DTYPE_F32)
        rq_mil_expr_un(rq_mil_expr_last(&x), "sqrt", a);
    else if (a.d == b.d && (a.d == RQ_DTYPE_F32 || (t && y >= 0)))
        rq_mil_expr_bin(rq_mil_expr_last(&x), "pow", a, b);
    else /* ONNX rounds what it computed in floats towards zero */
        rq_mil_expr_bin(rq_mil_expr_last(&x), "pow", rq_mil_expr_float(&x, a), rq_mil_expr_float(&x, b));
    return x.st;
}

static rq_status logic(rq_mil_emitter *e, const rq_node *n)
{
    static const char *const table[][2] = {
        { "And", "logical_and" }, { "Or", "logical_or" }, { "Xor", "logical_xor" }, { NULL, NULL }
    };
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0), b = rq_mil_expr_in(&x, 1);
    rq_mil_expr_bin(rq_mil_expr_last(&x), name_of(table, n), a, b);
    return x.st;
}

static rq_status variadic(rq_mil_emitter *e, const rq_node *n)
{
    static const char *const table[][2] = {
        { "Sum", "add" }, { "Mean", "add" }, { "Max", "maximum" }, { "Min", "minimum" }, { NULL, NULL }
    };
    const char *type = name_of(table, n);
    const bool mean = !strcmp(n->op, "Mean");
    rq_mil_expr x = rq_mil_expr_of(e, n);
    val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0));
    for (int i = 1; i < n->n_in; i++)
        a = rq_mil_expr_bin(i == n->n_in - 1 && !mean ? rq_mil_expr_last(&x) : &x, type, a,
                            rq_mil_expr_plain(&x, rq_mil_expr_in(&x, i)));
    if (mean && n->n_in > 1)
        rq_mil_expr_bin(rq_mil_expr_last(&x), "real_div", a, rq_mil_expr_f(n->n_in));
    else if (n->n_in == 1)
        rq_mil_expr_give(&x, a);
    return x.st;
}

static rq_status where(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    val c = rq_mil_expr_in(&x, 0), a = rq_mil_expr_in(&x, 1), b = rq_mil_expr_in(&x, 2);
    if (a.d == RQ_DTYPE_S8 || a.d == RQ_DTYPE_U8 || a.d != b.d) {
        a = rq_mil_expr_plain(&x, a);
        b = rq_mil_expr_plain(&x, b);
    }
    rq_mil_expr_select(rq_mil_expr_last(&x), c, a, b);
    return x.st;
}

/* x 2^y, or x / 2^y rounded down. */
static rq_status bit_shift(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const bool left = !strcmp(rq_attr_string(n, RQ_WORD_direction, ""), "LEFT");
    const rq_dtype d = e->g->values[n->in[0]].dtype;
    int64_t lo, hi;
    rq_dtype_limits(d, &lo, &hi);
    if (rq_dtype_bits(d) >= 32 || (lo && !left))
        return rq_mil_expr_refuse(&x, 0, "shifting integers of 32 bits and more, or to the right with a sign,");
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0)), b = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 1));
    const val power =
        rq_mil_expr_cast(&x, rq_mil_expr_bin(&x, "pow", rq_mil_expr_f(2), rq_mil_expr_float(&x, b)), RQ_DTYPE_S32);
    const val v = rq_mil_expr_bin(&x, left ? "mul" : "floor_div", a, power);
    rq_mil_expr_give(&x, left ? wrap(&x, v, d) : v);
    return x.st;
}

const rq_mil_emit_row rq_mil_emit_elements[] = {
    { .op = "Abs", .emit = unary },
    { .op = "Acos", .emit = unary },
    { .op = "Acosh", .emit = acosh_row },
    { .op = "Add", .emit = binary },
    { .op = "And", .emit = logic },
    { .op = "Asin", .emit = unary },
    { .op = "Asinh", .emit = asinh_row },
    { .op = "Atan", .emit = unary },
    { .op = "Atanh", .emit = unary },
    { .op = "BitShift", .emit = bit_shift },
    { .op = "BitwiseNot", .emit = bitwise_not },
    { .op = "Cast", .emit = cast },
    { .op = "CastLike", .emit = cast },
    { .op = "Ceil", .emit = unary },
    { .op = "Cos", .emit = unary },
    { .op = "Cosh", .emit = unary },
    { .op = "Div", .emit = div_row },
    { .op = "Dropout", .emit = dropout },
    { .op = "Equal", .emit = binary },
    { .op = "Erf", .emit = unary },
    { .op = "Exp", .emit = unary },
    { .op = "Floor", .emit = unary },
    { .op = "Greater", .emit = binary },
    { .op = "GreaterOrEqual", .emit = binary },
    { .op = "Identity", .emit = identity },
    { .op = "IsInf", .emit = is_inf },
    { .op = "IsNaN", .emit = is_nan },
    { .op = "Less", .emit = binary },
    { .op = "LessOrEqual", .emit = binary },
    { .op = "Log", .emit = log_row },
    { .op = "Max", .emit = variadic },
    { .op = "Mean", .emit = variadic },
    { .op = "Min", .emit = variadic },
    { .op = "Mod", .emit = mod_row },
    { .op = "Mul", .emit = binary },
    { .op = "Neg", .emit = neg },
    { .op = "Not", .emit = not_row },
    { .op = "Or", .emit = logic },
    { .op = "Pow", .emit = pow_row },
    { .op = "Reciprocal", .emit = reciprocal },
    { .op = "Round", .emit = unary },
    { .op = "Sigmoid", .emit = unary },
    { .op = "Sign", .emit = unary },
    { .op = "Sin", .emit = unary },
    { .op = "Sinh", .emit = unary },
    { .op = "Softplus", .emit = unary },
    { .op = "Softsign", .emit = unary },
    { .op = "Sqrt", .emit = unary },
    { .op = "Sub", .emit = binary },
    { .op = "Sum", .emit = variadic },
    { .op = "Tan", .emit = unary },
    { .op = "Tanh", .emit = unary },
    { .op = "Where", .emit = where },
    { .op = "Xor", .emit = logic },
    { .op = NULL },
};
