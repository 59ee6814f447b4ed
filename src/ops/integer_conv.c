/* ops/integer_conv.c — ConvInteger (s32 sums, docs/onnx-facts.md 2.6), and QLinearConv (2.7) as far as it could not be
 * raised into an annotated Conv, because a scale is computed. ConvIntegerScaled of the domain "requant" is what plans make of ConvInteger and what
 * follows it (run/plan_dynamic.c): f32(f32(sum) scale) + bias in reals, each of both one number or one per output channel.
 *
 * All are Conv on codes (int_conv.c) whose parameters are ordinary inputs. What is constant is packed and folded when
 * the plan is; the rest before each run, in place. */
#include "ops/int_ops.h"
#include "ops/integer.h"
#include "ops/rows.h"
#include "ops/samples.h"
#include "ops/window.h"

enum { SCALED_BIAS = 5 }; /* of ConvIntegerScaled: no part of the sums */

static bool is_scaled(const rq_node *n)
{
    return n->row == &rq_op_conv_integer_scaled;
}

static const rq_integer_roles *roles_of(const rq_node *n)
{
    static const rq_integer_roles integer = { 0, -1, 2, 1, -1, 3, -1, -1, -1 };
    static const rq_integer_roles scaled = { 0, -1, 3, 1, 2, 4, -1, -1, -1 };
    static const rq_integer_roles qlinear = { 0, 1, 2, 3, 4, 5, 6, 7, 8 };
    return n->op[0] == 'Q' ? &qlinear : is_scaled(n) ? &scaled : &integer;
}

/* The scale and the bias are f32. */
static rq_status check_reals(const rq_infer *a)
{
    for (int i = 2; i <= SCALED_BIAS; i += SCALED_BIAS - 2) {
        const rq_tensor *t = rq_op_input(a->in, a->n_in, i);
        if (t && t->dtype != RQ_DTYPE_NONE && t->dtype != RQ_DTYPE_F32)
            return rq_infer_fail(a, RQ_BAD_DTYPE, "input %d is %s, expected f32", i, rq_dtype_name(t->dtype));
    }
    a->out_dtype[0] = RQ_DTYPE_F32;
    return RQ_OK;
}

static rq_status conv_infer(const rq_infer *a)
{
    const rq_integer_roles *r = roles_of(a->node);
    const rq_shape *x = &a->in[r->x]->shape, *w = &a->in[r->w]->shape;
    rq_window win;
    int64_t group;
    RQ_TRY(rq_integer_check_types(a, r));
    if (is_scaled(a->node))
        RQ_TRY(check_reals(a));
    RQ_TRY(rq_window_group(a->node, &group, a->err));
    if (x->rank < 0 || w->rank < 0)
        return RQ_OK;
    if (w->rank != x->rank)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "input has %d axes and weight %d, expected as many", x->rank, w->rank);
    RQ_TRY(rq_window_conv(&win, a->node, x, w, a->err));
    if (x->dim[1] >= 0 && w->dim[1] >= 0 && (x->dim[1] != w->dim[1] * group || w->dim[0] % group))
        return rq_infer_fail(a, RQ_BAD_SHAPE,
                             "weight %lld x %lld in %lld groups does not fit an input of %lld channels",
                             (long long)w->dim[0], (long long)w->dim[1], (long long)group, (long long)x->dim[1]);
    a->out_shape[0] = rq_window_out_shape(&win, x, w->dim[0]);
    return RQ_OK;
}

/* ---- preparing ---- */

typedef struct conv_state {
    rq_qparams x, w, y;  /* what the inputs say */
    void *conv;          /* of int_conv.c */
    bool packed, folded; /* for good */
} conv_state;

static void conv_release(void *state)
{
    conv_state *s = state;
    if (!s)
        return;
    rq_int_conv_release(s->conv);
    rq_qparams_release(&s->x);
    rq_qparams_release(&s->w);
    rq_qparams_release(&s->y);
    rq_mem_free(s);
}

static bool is_known(const rq_op_args *a, int i)
{
    const rq_tensor *t = rq_integer_input(a, i);
    return !t || t->data;
}

/* Scales and zero points of q from their tensors (NULL: 1 and 0; one entry serves all), where they are known. */
static void read_params(rq_qparams *q, const rq_tensor *scale, const rq_tensor *zero)
{
    for (int64_t i = 0; i < q->n; i++) {
        q->scale[i] = scale && scale->data ? (float)rq_tensor_get(scale, rq_tensor_count(scale) == 1 ? 0 : i) : 1;
        q->zero_point[i] =
            zero && zero->data ? (int32_t)rq_tensor_get_int(zero, rq_tensor_count(zero) == 1 ? 0 : i) : 0;
    }
}

static void read_all(const rq_op_args *a, conv_state *s)
{
    const rq_integer_roles *r = roles_of(a->node);
    read_params(&s->x, rq_integer_input(a, r->x_scale), rq_integer_input(a, r->x_zero));
    read_params(&s->w, rq_integer_input(a, r->w_scale), rq_integer_input(a, r->w_zero));
    if (s->y.n)
        read_params(&s->y, rq_integer_input(a, r->y_scale), rq_integer_input(a, r->y_zero));
}

/* The node as a Conv of codes. */
typedef struct as_conv {
    rq_op_args a;
    const rq_tensor *in[3];
    const rq_qparams *in_q[3], *out_q[1];
} as_conv;

static void to_conv(as_conv *c, const rq_op_args *a, conv_state *s)
{
    const rq_integer_roles *r = roles_of(a->node);
    *c = (as_conv) { .a = *a,
                     .in = { a->in[r->x], a->in[r->w], rq_integer_input(a, r->bias) },
                     .in_q = { &s->x, &s->w, NULL },
                     .out_q = { s->y.n ? &s->y : NULL } };
    c->a.in = c->in;
    c->a.n_in = c->in[2] ? 3 : 2;
    c->a.in_q = c->in_q;
    c->a.out_q = c->out_q;
    c->a.state = s->conv;
}

static rq_status check_params(const rq_op_args *a, int64_t *n)
{
    const rq_integer_roles *r = roles_of(a->node);
    const rq_tensor *bias = rq_integer_input(a, r->bias);
    const int64_t outputs = a->in[r->w]->shape.dim[0], scales = rq_integer_count(rq_integer_input(a, r->w_scale)),
                  zeros = rq_integer_count(rq_integer_input(a, r->w_zero));
    RQ_TRY(rq_integer_check_scalars(a, r, false));
    *n = scales > zeros ? scales : zeros;
    if ((scales != 1 && scales != outputs) || (zeros != 1 && zeros != outputs))
        return rq_op_fail(a, RQ_UNSUPPORTED, "%lld scales and %lld zero points of the weight, expected 1 or %lld",
                          (long long)scales, (long long)zeros, (long long)outputs);
    if (bias && (bias->dtype != RQ_DTYPE_S32 || rq_tensor_count(bias) != outputs))
        return rq_op_fail(a, RQ_BAD_SHAPE, "the bias is %s of %lld, expected s32 of %lld", rq_dtype_name(bias->dtype),
                          (long long)rq_tensor_count(bias), (long long)outputs);
    const rq_tensor *behind = is_scaled(a->node) ? rq_integer_input(a, SCALED_BIAS) : NULL;
    if (behind && rq_tensor_count(behind) != outputs)
        return rq_op_fail(a, RQ_BAD_SHAPE, "the bias has %lld entries, expected %lld",
                          (long long)rq_tensor_count(behind), (long long)outputs);
    return RQ_OK;
}

static rq_status conv_prepare(const rq_op_args *a, void **state)
{
    const rq_integer_roles *r = roles_of(a->node);
    const rq_tensor *w = a->in[r->w];
    int64_t n;
    as_conv c;
    RQ_TRY(check_params(a, &n));
    conv_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    rq_status st = rq_qparams_init_one(&s->x, a->in[r->x]->dtype, 1, 0);
    if (!st)
        st = rq_qparams_init(&s->w, w->dtype, n == 1 ? RQ_PER_TENSOR : 0, 0, n);
    if (!st && r->y_scale >= 0)
        st = rq_qparams_init_one(&s->y, a->out[0]->dtype, 1, 0);
    if (!st) {
        rq_tensor unseen = *w;
        unseen.data = NULL;
        to_conv(&c, a, s);
        c.in[1] = &unseen;
        st = rq_int_conv_prepare(&c.a, &s->conv);
    }
    if (st) {
        conv_release(s);
        return st;
    }
    read_all(a, s);
    to_conv(&c, a, s);
    s->packed = w->data && is_known(a, r->w_zero);
    s->folded = s->packed && is_known(a, r->x_scale) && is_known(a, r->x_zero) && is_known(a, r->w_scale) &&
                is_known(a, r->y_scale) && is_known(a, r->y_zero) && is_known(a, r->bias);
    if (s->packed)
        rq_int_conv_pack(&c.a);
    if (s->folded)
        rq_int_conv_fold(&c.a);
    *state = s;
    return RQ_OK;
}

static size_t conv_scratch(const rq_op_args *a, bool integer)
{
    as_conv c;
    to_conv(&c, a, a->state);
    return rq_int_conv_scratch(&c.a);
}

static rq_status conv_forward(const rq_op_args *a)
{
    conv_state *s = a->state;
    as_conv c;
    to_conv(&c, a, s);
    if (!s->folded) {
        read_all(a, s);
        if (!s->packed)
            rq_int_conv_pack(&c.a);
        rq_int_conv_fold(&c.a);
    }
    if (is_scaled(a->node)) {
        const rq_tensor *bias = rq_integer_input(a, SCALED_BIAS);
        rq_int_conv_scaled(&c.a, bias ? bias->f32 : NULL);
    }
    return rq_int_conv_forward(&c.a);
}

/* ---- rows ---- */

#define CONV(d, first, newest)                                                                                         \
    .domain = (d), .since = (first), .known = (newest), .min_out = 1, .max_out = 1, .place = RQ_PLACE_FLOAT,           \
    .infer = conv_infer, .samples = rq_samples_first, .prepare = conv_prepare, .forward = conv_forward,                \
    .release = conv_release, .scratch = conv_scratch

const rq_op rq_op_conv_integer = { .name = "ConvInteger", .min_in = 2, .max_in = 4, CONV("", 10, 25) };
const rq_op rq_op_qlinear_conv = { .name = "QLinearConv", .min_in = 8, .max_in = 9, CONV("", 10, 25) };
const rq_op rq_op_conv_integer_scaled = {
    .name = "ConvIntegerScaled", .min_in = 3, .max_in = 6, CONV("requant", 1, 1)
};
