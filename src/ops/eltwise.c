/* ops/eltwise.c — Add, Sub, Mul, Div, Pow, Mod, PRelu, Min, Max, Sum, Mean: two and more operands with numpy
 * broadcasting, in f32, f64 and the eight integer types; f16 and bf16 through f32. */
#include "ops/eltwise.h"

#include <string.h>

#include "ops/bcast.h"
#include "ops/eltwise_grad.h"
#include "ops/half.h"
#include "ops/int_ops.h"
#include "ops/last.h"
#include "ops/rows.h"

/* ---- any type ---- */

const rq_eltwise_int *rq_eltwise_ints(rq_dtype d)
{
    static const rq_eltwise_int *const table[RQ_N_DTYPES] = {
        [RQ_DTYPE_S8] = &rq_eltwise_s8,   [RQ_DTYPE_U8] = &rq_eltwise_u8,   [RQ_DTYPE_S16] = &rq_eltwise_s16,
        [RQ_DTYPE_U16] = &rq_eltwise_u16, [RQ_DTYPE_S32] = &rq_eltwise_s32, [RQ_DTYPE_U32] = &rq_eltwise_u32,
        [RQ_DTYPE_S64] = &rq_eltwise_s64, [RQ_DTYPE_U64] = &rq_eltwise_u64,
    };
    return d >= 0 && d < RQ_N_DTYPES ? table[d] : NULL;
}

typedef struct map_job {
    rq_tensor *y;
    const rq_tensor *x;
    rq_map_fn f32;
    rq_map_f64_fn f64;
    double p, q;
} map_job;

static void map_span(void *arg, int64_t from, int64_t n)
{
    const map_job *j = arg;
    if (j->f32)
        j->f32(j->y->f32 + from, j->x->f32 + from, (size_t)n, (float)j->p, (float)j->q);
    else
        j->f64(j->y->f64 + from, j->x->f64 + from, (size_t)n, j->p, j->q);
}

rq_status rq_eltwise_map(const rq_op_args *a, rq_tensor *y, const rq_tensor *x, rq_map_id f, double p, double q)
{
    const int64_t n = rq_tensor_count(x);
    const rq_eltwise_int *ints = rq_eltwise_ints(x->dtype);
    if (ints) {
        if (!ints->map[f])
            return rq_op_no_form(a, x->dtype);
        rq_shape one = { .rank = 0 };
        int64_t pv, qv; /* one element of x's type each */
        rq_tensor pt = rq_tensor_view(x->dtype, &one, &pv), qt = rq_tensor_view(x->dtype, &one, &qv);
        rq_tensor_set(&pt, 0, p);
        rq_tensor_set(&qt, 0, q);
        ints->map[f](y->data, x->data, (size_t)n, &pv, &qv);
        return RQ_OK;
    }
    map_job j = { .y = y, .x = x, .p = p, .q = q };
    if (x->dtype == RQ_DTYPE_F32)
        j.f32 = a->k->map[f];
    else if (x->dtype == RQ_DTYPE_F64)
        j.f64 = rq_map_f64[f];
    else
        return rq_op_no_form(a, x->dtype);
    rq_bcast_spans(a->threads, n, RQ_BCAST_PIECE, map_span, &j);
    return RQ_OK;
}

typedef struct zip_job {
    char *y;
    const char *u, *v;
    int64_t size; /* bytes of an element */
    rq_zip_fn f32;
    rq_zip_f64_fn f64;
    void (*ints)(void *y, const void *a, int sa, const void *b, int sb, size_t n);
} zip_job;

static void zip_row(void *arg, int64_t y, int64_t u, int su, int64_t v, int sv, int64_t n)
{
    const zip_job *j = arg;
    void *to = j->y + y * j->size;
    const void *from = j->u + u * j->size, *other = j->v + v * j->size;
    if (j->f32)
        j->f32(to, from, su, other, sv, (size_t)n);
    else if (j->f64)
        j->f64(to, from, su, other, sv, (size_t)n);
    else
        j->ints(to, from, su, other, sv, (size_t)n);
}

rq_status rq_eltwise_zip(const rq_op_args *a, rq_tensor *y, const rq_tensor *u, const rq_tensor *v, rq_zip_id f)
{
    const rq_eltwise_int *ints = rq_eltwise_ints(u->dtype);
    if (u->dtype != v->dtype)
        return rq_op_fail(a, RQ_BAD_DTYPE, "operands have types %s and %s", rq_dtype_name(u->dtype),
                          rq_dtype_name(v->dtype));
    zip_job j = { .y = y->data, .u = u->data, .v = v->data, .size = rq_dtype_bits(u->dtype) / 8 };
    if (u->dtype == RQ_DTYPE_F32)
        j.f32 = a->k->zip[f];
    else if (u->dtype == RQ_DTYPE_F64)
        j.f64 = rq_zip_f64[f];
    else if (ints)
        j.ints = ints->zip[f];
    if (!j.f32 && !j.f64 && !j.ints)
        return rq_op_no_form(a, u->dtype);
    rq_bcast p;
    rq_bcast_init(&p, &y->shape, &u->shape, &v->shape);
    rq_bcast_for(&p, a->threads, zip_row, &j);
    return RQ_OK;
}

/* ---- operators ---- */

static rq_status same_types_infer(const rq_infer *a)
{
    for (int i = 1; i < a->n_in; i++)
        if (a->in[0] && a->in[i] && a->in[0]->dtype != RQ_DTYPE_NONE && a->in[i]->dtype != RQ_DTYPE_NONE &&
            a->in[i]->dtype != a->in[0]->dtype)
            return rq_infer_fail(a, RQ_BAD_DTYPE, "input %d has type %s, input 0 has %s", i,
                                 rq_dtype_name(a->in[i]->dtype), rq_dtype_name(a->in[0]->dtype));
    return rq_infer_broadcast(a);
}

static rq_status binary_wide(const rq_op_args *a)
{
    return rq_eltwise_zip(a, a->out[0], a->in[0], a->in[1], (rq_zip_id)a->node->row->which);
}

static rq_status binary_forward(const rq_op_args *a)
{
    return rq_half_run_each(a, binary_wide);
}

/* Min, Max, Sum, Mean of any number of operands, folded from the left in the output. */
static rq_status variadic_wide(const rq_op_args *a)
{
    rq_tensor *y = a->out[0];
    const rq_zip_id f = (rq_zip_id)a->node->row->which;
    if (a->n_in == 1)
        memcpy(y->data, a->in[0]->data, y->bytes);
    for (int i = 1; i < a->n_in; i++) {
        if (i > 1)
            RQ_TRY(rq_eltwise_zip(a, y, y, a->in[i], f));
        else
            RQ_TRY(rq_eltwise_zip(a, y, a->in[0], a->in[1], f));
    }
    if (a->node->row == &rq_op_mean && a->n_in > 1) {
        rq_shape one = { .rank = 0 };
        double count = 0;
        rq_tensor n = rq_tensor_view(y->dtype, &one, &count);
        rq_tensor_set(&n, 0, a->n_in);
        RQ_TRY(rq_eltwise_zip(a, y, y, &n, RQ_ZIP_DIV));
    }
    return RQ_OK;
}

static rq_status variadic_forward(const rq_op_args *a)
{
    return rq_half_run_each(a, variadic_wide);
}

/* The slope's axes are broadcast to the input's, never the other way. */
static rq_status prelu_infer(const rq_infer *a)
{
    RQ_TRY(same_types_infer(a));
    const rq_shape *x = &a->in[0]->shape;
    if (x->rank >= 0 && a->out_shape[0].rank >= 0) {
        bool fits = a->out_shape[0].rank == x->rank;
        for (int i = 0; fits && i < x->rank; i++)
            fits = x->dim[i] < 0 || a->out_shape[0].dim[i] < 0 || x->dim[i] == a->out_shape[0].dim[i];
        if (!fits) {
            char xs[RQ_SHAPE_TEXT], ss[RQ_SHAPE_TEXT];
            return rq_infer_fail(a, RQ_BAD_SHAPE, "a slope of shape %s does not broadcast to the input's %s",
                                 rq_shape_text(&a->in[1]->shape, ss, sizeof ss), rq_shape_text(x, xs, sizeof xs));
        }
        a->out_shape[0] = *x;
    }
    return RQ_OK;
}

/* ---- Mod ---- */

static rq_status mod_wide(const rq_op_args *a)
{
    const bool fmod = rq_attr_int(a->node, RQ_WORD_fmod, 0) != 0;
    if (!fmod && a->opset < 28 && rq_dtype_is_float(a->in[0]->dtype))
        return rq_op_fail(a, RQ_BAD_DTYPE, "before opset 28, floats need attribute fmod = 1");
    return rq_eltwise_zip(a, a->out[0], a->in[0], a->in[1], fmod ? RQ_ZIP_FMOD : RQ_ZIP_MOD);
}

static rq_status mod_forward(const rq_op_args *a)
{
    return rq_half_run_each(a, mod_wide);
}

/* ---- Pow: the exponent may have a type of its own (12) ---- */

/* x as f32 or f64 in *t; a share where it has that type already. */
static rq_status as_float(rq_tensor *t, const rq_tensor *x, rq_dtype d)
{
    if (x->dtype == d) {
        *t = rq_tensor_view(d, &x->shape, x->data);
        return RQ_OK;
    }
    RQ_TRY(rq_tensor_create(t, d, &x->shape, false));
    for (int64_t i = 0, n = rq_tensor_count(x); i < n; i++)
        rq_tensor_set(t, i, rq_tensor_get(x, i));
    return RQ_OK;
}

/* An exponent that is one number and needs no logarithm: exact, and what networks mostly ask for. */
static bool pow_simple(const rq_op_args *a, rq_tensor *y, const rq_tensor *x, const rq_tensor *e, rq_status *s)
{
    if (rq_tensor_count(e) != 1 || rq_tensor_count(x) != rq_tensor_count(y))
        return false;
    const double p = rq_tensor_get(e, 0);
    if (p == 2)
        *s = rq_eltwise_map(a, y, x, RQ_MAP_SQUARE, 0, 0);
    else if (p == -1)
        *s = rq_eltwise_map(a, y, x, RQ_MAP_RECIPROCAL, 0, 0);
    else if (p == 1)
        *s = rq_eltwise_map(a, y, x, RQ_MAP_LINEAR, 1, 0);
    else if (p == 3) {
        *s = rq_eltwise_map(a, y, x, RQ_MAP_SQUARE, 0, 0);
        if (*s == RQ_OK) {
            rq_tensor flat = rq_tensor_view(x->dtype, &y->shape, x->data);
            *s = rq_eltwise_zip(a, y, y, &flat, RQ_ZIP_MUL);
        }
    } else
        return false;
    return true;
}

static rq_status pow_wide(const rq_op_args *a)
{
    rq_tensor *y = a->out[0];
    const rq_tensor *x = a->in[0], *e = a->in[1];
    const bool ints = rq_eltwise_ints(x->dtype) != NULL;
    if (!ints && x->dtype != RQ_DTYPE_F32 && x->dtype != RQ_DTYPE_F64)
        return rq_op_no_form(a, x->dtype);
    if (ints && x->dtype == e->dtype)
        return rq_eltwise_zip(a, y, x, e, RQ_ZIP_POW);
    const rq_dtype d = x->dtype == RQ_DTYPE_F32 ? RQ_DTYPE_F32 : RQ_DTYPE_F64;
    rq_status s;
    if (!ints && pow_simple(a, y, x, e, &s))
        return s;
    rq_tensor xt = { 0 }, et = { 0 }, yt = { 0 };
    s = as_float(&xt, x, d);
    if (s == RQ_OK)
        s = as_float(&et, e, d);
    if (s == RQ_OK && ints)
        s = rq_tensor_create(&yt, d, &y->shape, false);
    if (s == RQ_OK)
        s = rq_eltwise_zip(a, ints ? &yt : y, &xt, &et, RQ_ZIP_POW);
    for (int64_t i = 0, n = s == RQ_OK && ints ? rq_tensor_count(y) : 0; i < n; i++)
        rq_tensor_set(y, i, __builtin_trunc(yt.f64[i]));
    rq_tensor_release(&xt);
    rq_tensor_release(&et);
    rq_tensor_release(&yt);
    return s;
}

static rq_status pow_forward(const rq_op_args *a)
{
    return rq_half_run_each(a, pow_wide);
}

/* ---- rows ---- */

#define BINARY(id, op_name, f, where, accepts, prepare, run_int, ...)                                                  \
    const rq_op rq_op_##id = { .name = op_name,                                                                        \
                               .domain = "",                                                                           \
                               .which = f,                                                                             \
                               .since = 1,                                                                             \
                               .known = 25,                                                                            \
                               .min_in = 2,                                                                            \
                               .max_in = 2,                                                                            \
                               .min_out = 1,                                                                           \
                               .max_out = 1,                                                                           \
                               .flags = RQ_OP_COMMUTES | RQ_OP_GRAD_IN_PLACE | RQ_OP_IN_PLACE,                         \
                               .place = where,                                                                         \
                               .infer = same_types_infer,                                                              \
                               .forward = binary_forward,                                                              \
                               .accepts_int = accepts,                                                                 \
                               .last = rq_last_broadcast,                                                              \
                               .prepare_int = prepare,                                                                 \
                               .forward_int = run_int,                                                                 \
                               .release_int = rq_int_zip_release,                                                      \
                               .scratch_backward = rq_eltwise_grad_scratch,                                            \
                               __VA_ARGS__ }
#define BOTH (RQ_OP_IN(0) | RQ_OP_IN(1))
/* Sub and Div run on codes where a model has them so; the profile's runtime has no kernels (docs/onnx-facts.md 5.1), so
 * the quantizer leaves them in float. */
BINARY(add, "Add", RQ_ZIP_ADD, RQ_PLACE_OWN, rq_int_eltwise_accepts, rq_int_add_prepare, rq_int_add_forward,
       .backward = rq_eltwise_grad_add);
BINARY(sub, "Sub", RQ_ZIP_SUB, RQ_PLACE_FLOAT, rq_int_zip_accepts, rq_int_zip_prepare, rq_int_zip_forward,
       .backward = rq_eltwise_grad_sub);
BINARY(mul, "Mul", RQ_ZIP_MUL, RQ_PLACE_OWN, rq_int_eltwise_accepts, rq_int_mul_prepare, rq_int_mul_forward,
       .backward = rq_eltwise_grad_mul, .saves = BOTH);
BINARY(div, "Div", RQ_ZIP_DIV, RQ_PLACE_FLOAT, rq_int_zip_accepts, rq_int_zip_prepare, rq_int_zip_forward,
       .backward = rq_eltwise_grad_div, .saves = BOTH);
#undef BINARY

#define VARIADIC(id, op_name, f, ...)                                                                                  \
    const rq_op rq_op_##id = { .name = op_name,                                                                        \
                               .domain = "",                                                                           \
                               .which = f,                                                                             \
                               .since = 1,                                                                             \
                               .known = 25,                                                                            \
                               .min_in = 1,                                                                            \
                               .max_in = -1,                                                                           \
                               .min_out = 1,                                                                           \
                               .max_out = 1,                                                                           \
                               .flags = RQ_OP_COMMUTES | RQ_OP_GRAD_IN_PLACE,                                          \
                               .place = RQ_PLACE_FLOAT,                                                                \
                               .infer = same_types_infer,                                                              \
                               .forward = variadic_forward,                                                            \
                               __VA_ARGS__ }
#define ON_CODES                                                                                                       \
    .accepts_int = rq_int_zip_accepts, .last = rq_last_broadcast, .prepare_int = rq_int_zip_prepare,                   \
    .forward_int = rq_int_zip_forward, .release_int = rq_int_zip_release
#define EXTREME                                                                                                        \
    .backward = rq_eltwise_grad_extreme, .saves = (RQ_OP_OUT(0) - 1) | RQ_OP_OUT(0), /* all inputs */                  \
        .scratch_backward = rq_eltwise_grad_scratch_ties
VARIADIC(min, "Min", RQ_ZIP_MIN, ON_CODES, EXTREME);
VARIADIC(max, "Max", RQ_ZIP_MAX, ON_CODES, EXTREME);
VARIADIC(sum, "Sum", RQ_ZIP_ADD, ON_CODES, .backward = rq_eltwise_grad_add);
VARIADIC(mean, "Mean", RQ_ZIP_ADD, .backward = rq_eltwise_grad_mean);
#undef EXTREME
#undef ON_CODES
#undef VARIADIC

/* ---- behind a fused product ---- */

rq_status rq_eltwise_read_then(const rq_op_args *a, rq_eltwise_then *t)
{
    static const struct {
        rq_word name;
        rq_map_id f;
        float p, q;
    } known[] = {
        { RQ_WORD_Relu, RQ_MAP_RELU, 0, 0 },
        { RQ_WORD_Tanh, RQ_MAP_TANH, 0, 0 },
        { RQ_WORD_Sigmoid, RQ_MAP_SIGMOID, 0, 0 },
        { RQ_WORD_LeakyRelu, RQ_MAP_LEAKY_RELU, 0.01f, 0 },
        { RQ_WORD_Clip, RQ_MAP_CLIP, 0, 0 },
        { RQ_WORD_HardSigmoid, RQ_MAP_HARD_SIGMOID, 0.2f, 0.5f },
        { RQ_WORD_HardSwish, RQ_MAP_HARD_SWISH, 0, 0 },
    };
    const char *name = rq_attr_string(a->node, RQ_WORD_activation, "");
    const rq_word word = rq_attr_word(a->node, RQ_WORD_activation, RQ_WORD_NONE);
    *t = (rq_eltwise_then) { 0 };
    if (!*name)
        return RQ_OK;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (known[i].name != word)
            continue;
        int n;
        const float *params = rq_attr_floats(a->node, RQ_WORD_activation_params, &n);
        t->active = true;
        t->f = known[i].f;
        t->p = n > 0 ? params[0] : known[i].p;
        t->q = n > 1 ? params[1] : known[i].q;
        return RQ_OK;
    }
    return rq_op_fail(a, RQ_UNSUPPORTED, "activation '%s' is not supported", name);
}

const rq_op rq_op_pow = {
    .name = "Pow",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_COMMUTES,
    .place = RQ_PLACE_FLOAT,
    .infer = rq_infer_broadcast,
    .forward = pow_forward,
    .backward = rq_eltwise_grad_pow,
    .saves = BOTH,
    .scratch_backward = rq_eltwise_grad_scratch,
    .accepts_int = rq_int_table_accepts, /* an exponent that is one constant number */
    .last = rq_int_table_last,
    .prepare_int = rq_int_table_prepare,
    .forward_int = rq_int_table_forward,
    .release_int = rq_int_table_release,
};

const rq_op rq_op_mod = {
    .name = "Mod",
    .domain = "",
    .since = 10,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_COMMUTES,
    .place = RQ_PLACE_FLOAT,
    .infer = same_types_infer,
    .forward = mod_forward,
    .backward = rq_eltwise_grad_mod,
    .saves = BOTH,
    .scratch_backward = rq_eltwise_grad_scratch,
};

const rq_op rq_op_prelu = {
    .name = "PRelu",
    .domain = "",
    .which = RQ_ZIP_PRELU,
    .since = 1,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_COMMUTES,
    .place = RQ_PLACE_FLOAT,
    .infer = prelu_infer,
    .forward = binary_forward,
    .backward = rq_eltwise_grad_prelu,
    .saves = BOTH,
    .parameters = RQ_OP_IN(1),
    .scratch_backward = rq_eltwise_grad_scratch,
    .accepts_int = rq_int_zip_accepts,
    .last = rq_last_broadcast,
    .prepare_int = rq_int_zip_prepare,
    .forward_int = rq_int_zip_forward,
    .release_int = rq_int_zip_release,
};
