/* coreml/activations_passes.c — what becomes of quantize and dequantize after they were put in: reshapes of integers, zero points that vanish,
 * pairs that cancel, scales of additions as ratios. Each in the order coremltools has, since later ones see what earlier ones left
 * (docs/coreml-facts.md). */
#include <math.h>
#include <string.h>

#include "coreml/activations.h"
#include "tensor/convert.h"

/* ---- making ---- */

static rq_mil_type *with_dtype(rq_flow *w, const rq_mil_type *like, const rq_mil_dtype *d)
{
    rq_mil_type *t = rq_arena_alloc(&w->m->program.arena, 1, sizeof *t);
    if (t) {
        *t = *like;
        t->dtype = d;
        t->as_read = NULL;
    }
    return t;
}

rq_flow_value *rq_coreml_quant_op_place(rq_flow *w, const rq_coreml_quant_op *q, rq_flow_op *before)
{
    rq_flow_op *op = rq_flow_make(w, q->type, NULL);
    if (!op)
        return NULL;
    const struct {
        const char *param;
        rq_flow_value *value;
        const rq_mil_value *make;
    } args[] = { { "input", q->input, NULL },
                 { "scale", q->scale, q->new_scale },
                 { "zero_point", q->zero_point, q->new_zero_point },
                 { "axis", q->axis, NULL },
                 { "output_dtype", q->output_dtype, q->new_output_dtype } };
    for (size_t i = 0; i < sizeof args / sizeof args[0]; i++) {
        rq_flow_value *v = args[i].value;
        if (!v && !args[i].make)
            continue;
        if (!v && !(v = rq_flow_make_const(w, op->name, args[i].param, args[i].make, before)))
            return NULL;
        if (!rq_flow_bind(w, op, args[i].param, v))
            return NULL;
    }
    return rq_flow_place(w, op, with_dtype(w, q->input->type, q->dtype), before);
}

/* What a quantize or dequantize of the list takes. */
static rq_coreml_quant_op as_it_is(const rq_flow_op *op)
{
    return (rq_coreml_quant_op) {
        .type = op->type,
        .input = rq_flow_input(op, "input"),
        .scale = rq_flow_input(op, "scale"),
        .zero_point = rq_flow_input(op, "zero_point"),
        .axis = rq_flow_input(op, "axis"),
        .output_dtype = rq_flow_input(op, "output_dtype"),
        .dtype = op->outputs[0]->type->dtype,
    };
}

static bool is_quantize(const rq_flow_op *op)
{
    return !strcmp(op->type, "quantize") && op->n_outputs == 1;
}

static bool is_dequantize(const rq_flow_op *op)
{
    return !strcmp(op->type, "dequantize") && op->n_outputs == 1;
}

/* Settings in the operation itself rather than in constants: left as they are. */
static bool is_ours(const rq_flow_op *op)
{
    for (int i = 0; i < op->n_args; i++)
        if (op->args[i].n != 1 || !op->args[i].value[0])
            return false;
    return rq_flow_input(op, "input") && rq_flow_input(op, "scale");
}

/* ---- numbers of a parameter ---- */

enum { MAX_NUMBERS = 1 << 16 };

/* n numbers of a constant as floats, in the memory of w; NULL: there are none, or too many. */
static const float *numbers(rq_flow *w, const rq_mil_value *v, int64_t *n)
{
    rq_tensor t;
    *n = 0;
    if (!v || v->type->kind != RQ_MIL_TENSOR || v->n > MAX_NUMBERS || rq_coreml_tensor(w->m, &t, v, NULL))
        return NULL;
    float *x = rq_arena_alloc(&w->a, v->n ? v->n : 1, sizeof *x);
    bool ok = x != NULL;
    for (uint64_t i = 0; ok && i < v->n; i++)
        switch (t.dtype) {
        case RQ_DTYPE_F32:
            x[i] = t.f32[i];
            break;
        case RQ_DTYPE_F16:
            x[i] = rq_convert_f16_to_f32(t.u16[i]);
            break;
        case RQ_DTYPE_S8:
            x[i] = t.s8[i];
            break;
        case RQ_DTYPE_U8:
            x[i] = t.u8[i];
            break;
        case RQ_DTYPE_S32:
            x[i] = (float)t.s32[i];
            break;
        default:
            ok = false;
        }
    rq_tensor_release(&t);
    if (ok)
        *n = (int64_t)v->n;
    return ok ? x : NULL;
}

static bool all_are(rq_flow *w, const rq_mil_value *v, float what)
{
    int64_t n;
    const float *x = numbers(w, v, &n);
    for (int64_t i = 0; x && i < n; i++)
        if (x[i] != what)
            return false;
    return x && n > 0;
}

/* Numbers equal, whatever their types; both absent counts. */
static bool same_numbers(rq_flow *w, const rq_flow_op *a, const rq_flow_op *b, const char *param)
{
    const rq_mil_value *p = rq_flow_const(a, param), *q = rq_flow_const(b, param);
    if (!p || !q)
        return !p && !q;
    int64_t n, k;
    const float *x = numbers(w, p, &n), *y = numbers(w, q, &k);
    if (!x || !y || (n != k && n != 1 && k != 1))
        return false;
    for (int64_t i = 0; i < n || i < k; i++)
        if (x[n == 1 ? 0 : i] != y[k == 1 ? 0 : i])
            return false;
    return true;
}

/* ---- a. reshapes ---- */

static bool reshape_codes(rq_flow *w, rq_flow_op *op)
{
    rq_flow_value *x = rq_flow_input(op, "x"), *shape = rq_flow_input(op, "shape");
    rq_flow_op *q = rq_flow_only_user(op, "quantize");
    if (!x || !shape || !q || !x->op || !is_dequantize(x->op) || !rq_flow_input(x->op, "input") ||
        rq_flow_is_output(w, op->outputs[0]))
        return true;
    rq_flow_value *codes = rq_flow_input(x->op, "input");
    rq_flow_op *now = rq_flow_make(w, "reshape", q->outputs[0]->name);
    rq_flow_value *v = NULL;
    if (now && rq_flow_bind(w, now, "x", codes) && rq_flow_bind(w, now, "shape", shape))
        v = rq_flow_place(w, now, with_dtype(w, op->outputs[0]->type, codes->type->dtype), op);
    if (!v || !rq_flow_replace(w, q, NULL, q->outputs[0], v))
        return false;
    rq_flow_remove(w, q);
    rq_flow_remove(w, op);
    return true;
}

static bool reshape_all(rq_flow *w)
{
    rq_flow_op **list = rq_flow_list(w);
    for (; list && *list; list++)
        if (!(*list)->removed && !strcmp((*list)->type, "reshape") && (*list)->n_outputs == 1 &&
            !reshape_codes(w, *list))
            return false;
    return list != NULL;
}

/* ---- b. zero points ---- */

static bool drop_zero(rq_flow *w, rq_flow_op *op)
{
    if (!all_are(w, rq_flow_const(op, "zero_point"), 0))
        return true;
    rq_coreml_quant_op q = as_it_is(op);
    q.zero_point = NULL;
    rq_flow_value *v = rq_coreml_quant_op_place(w, &q, op);
    if (!v || !rq_flow_replace(w, op, NULL, op->outputs[0], v))
        return false;
    rq_flow_remove(w, op);
    return true;
}

/* int8 around -128 is uint8 around 0, and the reverse. */
static bool shift_pair(rq_flow *w, rq_flow_op *op, bool *changed)
{
    const rq_mil_value *zero = rq_flow_const(op, "zero_point");
    const bool low = all_are(w, zero, -128), high = !low && all_are(w, zero, 128);
    rq_flow_op *back = low || high ? rq_flow_only_user(op, "dequantize") : NULL;
    if (!back || !is_ours(back) || back->n_outputs != 1 || rq_flow_is_output(w, op->outputs[0]) ||
        !all_are(w, rq_flow_const(back, "zero_point"), low ? -128 : 128))
        return true;
    const char *type = low ? "uint8" : "int8";
    rq_coreml_quant_op q = as_it_is(op), dq = as_it_is(back);
    q.zero_point = dq.zero_point = q.output_dtype = NULL;
    q.dtype = rq_mil_dtype_of_name(type);
    q.new_output_dtype = rq_mil_text(&w->m->program, type);
    dq.input = q.new_output_dtype ? rq_coreml_quant_op_place(w, &q, back) : NULL;
    rq_flow_value *v = dq.input ? rq_coreml_quant_op_place(w, &dq, back) : NULL;
    if (!v || !rq_flow_replace(w, back, NULL, back->outputs[0], v))
        return false;
    rq_flow_remove(w, back);
    rq_flow_remove(w, op);
    *changed = true;
    return true;
}

static bool drop_zero_points(rq_flow *w)
{
    for (bool changed = true; changed;) {
        changed = false;
        rq_flow_op **list = rq_flow_list(w);
        if (!list)
            return false;
        for (; *list; list++) {
            rq_flow_op *op = *list;
            if (op->removed || (!is_quantize(op) && !is_dequantize(op)) || !is_ours(op))
                continue;
            if (!drop_zero(w, op) || (!op->removed && is_quantize(op) && !shift_pair(w, op, &changed)))
                return false;
        }
    }
    return true;
}

/* ---- c. pairs that cancel ---- */

static bool cancels(rq_flow *w, const rq_flow_op *dq, const rq_flow_op *q)
{
    return !q->within && is_quantize(q) && same_numbers(w, dq, q, "scale") && same_numbers(w, dq, q, "zero_point") &&
           same_numbers(w, dq, q, "axis");
}

/* The list of users shrinks while it is walked, and the walk skips one each time, as there. */
static bool cancel(rq_flow *w, rq_flow_op *op, bool *changed)
{
    rq_flow_value *v = op->outputs[0], *codes = rq_flow_input(op, "input");
    bool any = false;
    if (rq_flow_is_output(w, v) || !codes)
        return true;
    for (int i = 0; i < v->n_users; i++) {
        rq_flow_op *q = v->users[i];
        if (!cancels(w, op, q))
            continue;
        if (!rq_flow_replace(w, q, NULL, q->outputs[0], codes))
            return false;
        rq_flow_remove(w, q);
        any = true;
    }
    if (any && !v->n_users)
        rq_flow_remove(w, op);
    *changed |= any;
    return true;
}

bool rq_coreml_drop_equal_pairs(rq_flow *w)
{
    for (bool changed = true; changed;) {
        changed = false;
        rq_flow_op **list = rq_flow_list(w);
        if (!list)
            return false;
        for (; *list; list++)
            if (!(*list)->removed && is_dequantize(*list) && !cancel(w, *list, &changed))
                return false;
    }
    return true;
}

/* ---- d. scales of additions ---- */

typedef struct sum {
    rq_flow_op *op, *x, *y, *z; /* dequantize, dequantize, quantize */
} sum;

static bool find_sum(const rq_flow *w, rq_flow_op *op, sum *s)
{
    rq_flow_op *tail = rq_flow_only_user(op, "relu");
    const rq_flow_value *x = rq_flow_input(op, "x"), *y = rq_flow_input(op, "y");
    if ((strcmp(op->type, "add") != 0 && strcmp(op->type, "sub") != 0) || op->n_outputs != 1 || !x || !y || !x->op ||
        !y->op || !is_dequantize(x->op) || !is_dequantize(y->op))
        return false;
    tail = tail && tail->n_outputs == 1 ? tail : op;
    *s = (sum) { .op = op, .x = x->op, .y = y->op, .z = rq_flow_only_user(tail, "quantize") };
    return s->z && is_quantize(s->z) && is_ours(s->x) && is_ours(s->y) && is_ours(s->z) && !rq_flow_is_output(w, x) &&
           !rq_flow_is_output(w, y) && !rq_flow_is_output(w, op->outputs[0]) && !rq_flow_is_output(w, tail->outputs[0]);
}

/* a / b as a constant of a's type and shape; *fits: fp16 can hold all of it. */
static const rq_mil_value *ratio(rq_flow *w, const rq_mil_value *a, float b, bool *fits)
{
    int64_t n;
    const float *x = numbers(w, a, &n);
    float *f = x ? rq_arena_alloc(&w->a, (size_t)n, sizeof *f) : NULL;
    uint16_t *h = f ? rq_arena_alloc(&w->a, (size_t)n, sizeof *h) : NULL;
    *fits = h != NULL;
    if (!h)
        return NULL;
    for (int64_t i = 0; i < n; i++) {
        f[i] = x[i] / b;
        h[i] = rq_convert_f32_to_f16(f[i]);
        *fits &= fabsf(f[i]) <= 65504.0f && fabsf(f[i]) >= 0x1p-24f;
    }
    const bool half = a->type->dtype->dtype == RQ_DTYPE_F16;
    return rq_mil_immediate(&w->m->program, a->type, half ? (const void *)h : f);
}

static bool scale_sum(rq_flow *w, sum s)
{
    const rq_mil_value *x = NULL, *z = NULL, *y;
    bool fits = false, fits_z = false;
    for (int turn = 0; turn < 2 && !fits; turn++) {
        int64_t n;
        if (turn) {
            rq_flow_op *swap = s.x;
            s.x = s.y;
            s.y = swap;
        }
        const float *scale = numbers(w, rq_flow_const(s.y, "scale"), &n);
        if (!scale || n != 1 || rq_flow_input(s.y, "axis"))
            continue;
        x = ratio(w, rq_flow_const(s.x, "scale"), scale[0], &fits);
        z = ratio(w, rq_flow_const(s.z, "scale"), scale[0], &fits_z);
        fits &= fits_z;
    }
    if (!fits)
        return true;
    rq_coreml_quant_op dx = as_it_is(s.x), dy = as_it_is(s.y), qz = as_it_is(s.z);
    const bool half = dy.scale->type->dtype->dtype == RQ_DTYPE_F16;
    const uint16_t one_half = rq_convert_f32_to_f16(1);
    const float one = 1;
    y = rq_mil_immediate(&w->m->program, dy.scale->type, half ? (const void *)&one_half : &one);
    dx.scale = dy.scale = qz.scale = NULL;
    dx.new_scale = x;
    dy.new_scale = y;
    qz.new_scale = z;
    if (!x || !y || !z)
        return false;
    rq_flow_value *vx = rq_coreml_quant_op_place(w, &dx, s.op), *vy = rq_coreml_quant_op_place(w, &dy, s.op),
                  *vz = rq_coreml_quant_op_place(w, &qz, s.z);
    if (!vx || !vy || !vz || !rq_flow_replace(w, vx->op, s.op, s.x->outputs[0], vx) ||
        !rq_flow_replace(w, vy->op, s.op, s.y->outputs[0], vy) || !rq_flow_replace(w, s.z, NULL, s.z->outputs[0], vz))
        return false;
    rq_flow_remove(w, s.z);
    return true;
}

static bool scale_sums(rq_flow *w)
{
    sum s;
    rq_flow_op **list = rq_flow_list(w);
    for (; list && *list; list++)
        if (!(*list)->removed && find_sum(w, *list, &s) && !scale_sum(w, s))
            return false;
    return list != NULL;
}

/* ---- all ---- */

bool rq_coreml_after_pairs(rq_flow *w)
{
    if (!rq_coreml_drop_equal_pairs(w) || !reshape_all(w) || !drop_zero_points(w) || !rq_coreml_drop_equal_pairs(w) ||
        !scale_sums(w) || !rq_flow_merge_equal(w) || !rq_flow_unique_names(w))
        return false;
    rq_flow_drop_dead(w);
    if (!rq_flow_unique_names(w) || !rq_flow_merge_equal(w) || !rq_flow_move_late(w))
        return false;
    rq_flow_drop_dead(w);
    return rq_flow_unique_names(w);
}
