/* coreml/activations.c — linear_quantize_activations: every conv, linear, add and pool that is not left out takes codes (a quantize and
 * dequantize before it), and what it gives becomes codes where somebody uses it.
 *
 * Operations are made in the order of coremltools, so that all names and the order of users come out as there; docs/coreml-facts.md,
 * "Activations". Inner blocks are left alone. */
#include "coreml/activations.h"

#include <math.h>
#include <string.h>

#include "coreml/config.h"
#include "coreml/raise.h"
#include "coreml/weights.h"
#include "tensor/convert.h"

/* ---- a range to a scale ---- */

static float h(float x)
{
    return rq_convert_f16_to_f32(rq_convert_f32_to_f16(x));
}

static float clamp(double x, double lo, double hi)
{
    return (float)(x < lo ? lo : x > hi ? hi : x);
}

rq_coreml_code rq_coreml_code_of(float lo, float hi, bool symmetric, bool is_signed, bool half)
{
    const float qmin = !is_signed  ? 0
                       : symmetric ? -127
                                   : -128,
                qmax = is_signed   ? 127
                       : symmetric ? 254
                                   : 255,
                steps = qmax - qmin;
    rq_coreml_code c = { .has_zero_point = !symmetric || !is_signed };
    float a = h(lo), b = h(hi);
    if (isinf(a) || isinf(b)) { /* fp16 cannot say it: the range as it is */
        a = lo;
        b = hi;
    }
    if (symmetric) {
        const float top = fmaxf(fabsf(a), fabsf(b));
        a = -top;
        b = top;
    } else {
        a = fminf(0, a);
        b = fmaxf(0, b);
    }
    c.scale = h(h(b - a) / steps);
    if (!(c.scale <= 65504.0f)) /* the difference overflowed */
        c.scale = (float)(((double)b - (double)a) / (double)steps);
    if (half)
        c.scale = h(clamp(c.scale, 0, 65504));
    if (symmetric)
        c.zero_point = is_signed ? 0 : 127;
    else {
        float zero = h(h(h(qmin * b) - h(qmax * a)) / h(b - a));
        if (isinf(h(qmin * b)) || isinf(h(qmax * a)) || isinf(h(b - a)) || isinf(h(h(qmin * b) - h(qmax * a))))
            zero = (float)(((double)qmin * (double)b - (double)qmax * (double)a) / ((double)b - (double)a));
        zero = rintf(zero);
        c.zero_point = isnan(zero) ? 0 : (int)clamp(zero, qmin, qmax);
    }
    if (!(c.scale > 0)) /* always zero, or too small for the type: any scale will do */
        c.scale = 1;
    return c;
}

/* ---- the work on one function ---- */

typedef struct job {
    rq_flow w;
    const rq_coreml_config *config;
    const rq_coreml_ranges *ranges;
    rq_coreml_pairs *made; /* or NULL */
    rq_err *err;
} job;

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory to quantize activations");
}

static bool is_one_of(const char *type, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(type, *list))
            return true;
    return false;
}

static const char *const cores[] = { "conv", "avg_pool", "max_pool", "linear", "add", NULL };

static bool is_core(const rq_flow_op *op)
{
    return is_one_of(op->type, cores) && op->n_outputs == 1;
}

/* Its type as a text that outlives it. */
static const char *kind_of(const rq_flow_op *op)
{
    int i = 0;
    while (cores[i] && strcmp(op->type, cores[i]) != 0)
        i++;
    return cores[i];
}

static bool is_activation(const rq_flow_op *op)
{
    static const char *const types[] = { "leaky_relu",   "tanh", "scaled_tanh", "sigmoid",
                                         "hard_sigmoid", "relu", "relu6",       NULL };
    return is_one_of(op->type, types) && op->n_outputs == 1;
}

/* Why a value cannot become codes; NULL: it can. */
static const char *hindrance(const job *j, const rq_flow_value *v)
{
    const rq_mil_type *t = v->type;
    if (t->kind != RQ_MIL_TENSOR || (t->dtype->dtype != RQ_DTYPE_F16 && t->dtype->dtype != RQ_DTYPE_F32))
        return "is no float";
    if (!t->rank)
        return "has no axes";
    return rq_coreml_ranges_find(j->ranges, v->name)
               ? NULL
               : "has no range: no sample reached it, or it is an output of the model";
}

/* ---- pairs ---- */

static rq_status note(job *j, const rq_coreml_pair *p)
{
    rq_coreml_pairs *to = j->made;
    if (!to)
        return RQ_OK;
    if (!rq_mem_grow(&to->at, to->n, &to->cap, sizeof *to->at))
        return no_memory(j->err);
    rq_coreml_pair *own = &to->at[to->n];
    *own = *p;
    own->op = rq_arena_strndup(&to->a, p->op, strlen(p->op));
    own->tensor = rq_arena_strndup(&to->a, p->tensor, strlen(p->tensor));
    if (!own->op || !own->tensor)
        return no_memory(j->err);
    to->n++;
    return RQ_OK;
}

static rq_status say_skipped(job *j, const rq_flow_op *op, const rq_flow_value *v, const char *why)
{
    return note(j, &(rq_coreml_pair) { .op = op->name, .type = kind_of(op), .tensor = v->name, .why = why });
}

/* quantize and dequantize of v before `before`; *out is what dequantize gives. */
static rq_status make_pair(job *j, rq_flow_value *v, const rq_coreml_op_config *how, const rq_flow_op *core,
                           bool write_zero, rq_flow_op *before, rq_flow_value **out)
{
    rq_mil_program *p = &j->w.m->program;
    const rq_coreml_seen *seen = rq_coreml_ranges_find(j->ranges, v->name);
    const bool half = v->type->dtype->dtype == RQ_DTYPE_F16;
    const rq_coreml_code c = rq_coreml_code_of(seen->lo, seen->hi, how->symmetric, how->is_signed, half);
    const rq_mil_dtype *code = rq_mil_dtype_of_name(how->is_signed ? "int8" : "uint8");
    const uint16_t half_scale = rq_convert_f32_to_f16(c.scale);
    const int8_t zero = (int8_t)(uint8_t)c.zero_point;
    const bool with_zero = c.has_zero_point || write_zero;
    const rq_mil_value *values[2][2];
    for (int i = 0; i < 2; i++) { /* each operation has constants of its own */
        values[i][0] = rq_mil_immediate(p, rq_mil_tensor_type(p, v->type->dtype, 0, NULL),
                                        half ? (const void *)&half_scale : &c.scale);
        values[i][1] = with_zero ? rq_mil_immediate(p, rq_mil_tensor_type(p, code, 0, NULL), &zero) : NULL;
        if (!values[i][0] || (with_zero && !values[i][1]))
            return no_memory(j->err);
    }
    const rq_mil_value *text = rq_mil_text(p, code->name);
    rq_flow_value *q = text ? rq_coreml_quant_op_place(&j->w,
                                                       &(rq_coreml_quant_op) { .type = "quantize",
                                                                               .input = v,
                                                                               .dtype = code,
                                                                               .new_scale = values[0][0],
                                                                               .new_zero_point = values[0][1],
                                                                               .new_output_dtype = text },
                                                       before)
                            : NULL;
    *out = q ? rq_coreml_quant_op_place(&j->w,
                                        &(rq_coreml_quant_op) { .type = "dequantize",
                                                                .input = q,
                                                                .dtype = v->type->dtype,
                                                                .new_scale = values[1][0],
                                                                .new_zero_point = values[1][1] },
                                        before)
             : NULL;
    if (!*out)
        return no_memory(j->err);
    return note(j, &(rq_coreml_pair) { .op = core->name,
                                       .type = kind_of(core),
                                       .tensor = v->name,
                                       .dtype = code->name,
                                       .lo = seen->lo,
                                       .hi = seen->hi,
                                       .scale = c.scale,
                                       .zero_point = c.zero_point });
}

/* ---- before operations ---- */

static bool is_const(const rq_flow_value *v)
{
    return v->op && !strcmp(v->op->type, "const");
}

static rq_status before_op(job *j, rq_flow_op *op)
{
    const rq_coreml_op_config *how = rq_coreml_config_of(j->config, op->name, op->type);
    const bool two = !strcmp(op->type, "add");
    const char *const params[] = { "x", "y" };
    rq_flow_value *in[2] = { 0 }, *out[2];
    if (!how)
        return RQ_OK;
    if (how->nbits != 8)
        return rq_fail(j->err, RQ_BAD_ARG, "activations become codes of 8 bits; operation '%.100s' (%.60s) asks for %d",
                       op->name, op->type, how->nbits);
    for (int i = 0; i < 1 + two; i++)
        in[i] = rq_flow_input(op, params[i]);
    if (!in[0] || is_const(in[0]))
        return RQ_OK;
    for (int i = 0; i < 1 + two; i++) {
        const char *why = in[i] && !is_const(in[i]) ? hindrance(j, in[i]) : NULL;
        if (why)
            return say_skipped(j, op, in[i], why);
    }
    for (int i = 0; i < 1 + two; i++) {
        if (!in[i] || is_const(in[i])) /* a pair made for x alone leads nowhere, and goes */
            return RQ_OK;
        RQ_TRY(make_pair(j, in[i], how, op, false, op, &out[i]));
    }
    for (int i = 0; i < 1 + two; i++)
        if (!rq_flow_rebind(&j->w, op, params[i], out[i]))
            return no_memory(j->err);
    return rq_flow_renew(&j->w, op) ? RQ_OK : no_memory(j->err);
}

static rq_status before_all(job *j)
{
    rq_flow_op **list = rq_flow_list(&j->w);
    if (!list)
        return no_memory(j->err);
    for (; *list; list++)
        if (is_core(*list))
            RQ_TRY(before_op(j, *list));
    return RQ_OK;
}

/* ---- behind operations ---- */

static bool is_given_by(const rq_flow_value *v, const char *type)
{
    return v && v->op && !strcmp(v->op->type, type);
}

/* Behind what a dequantize feeds, or behind the activation that follows. */
static rq_status behind(job *j, const rq_flow_op *dq)
{
    rq_flow *w = &j->w;
    const rq_flow_value *v = dq->outputs[0];
    rq_flow_op *core = v->n_users == 1 && !v->users[0]->within ? v->users[0] : NULL;
    if (!core || !is_core(core) ||
        (!strcmp(core->type, "add") && (!is_given_by(rq_flow_input(core, "x"), "dequantize") ||
                                        !is_given_by(rq_flow_input(core, "y"), "dequantize"))))
        return RQ_OK;
    const rq_coreml_op_config *how = rq_coreml_config_of(j->config, core->name, core->type);
    if (!how || rq_flow_only_user(core, "quantize") || !core->outputs[0]->n_users)
        return RQ_OK;
    rq_flow_op *tail = core, *next = core->outputs[0]->users[0];
    if (!next->within && is_activation(next) && next->outputs[0]->n_users) {
        if (rq_flow_only_user(next, "quantize"))
            return RQ_OK;
        tail = next;
    }
    rq_flow_value *out = tail->outputs[0], *codes;
    const char *why = hindrance(j, out);
    if (why)
        return say_skipped(j, core, out, why);
    if (!rq_flow_renew_inputs(w, tail))
        return no_memory(j->err);
    RQ_TRY(make_pair(j, out, how, core, true, tail->next, &codes));
    codes->op->seen = rq_flow_input(codes->op, "input")->op->seen = true;
    const size_t n = strlen(codes->name) + sizeof "__post__dequant";
    char *name = rq_arena_alloc(&w->m->program.arena, n, 1);
    if (!name || !rq_flow_replace(w, codes->op, tail, out, codes))
        return no_memory(j->err);
    memcpy(name, codes->name, strlen(codes->name));
    memcpy(name + strlen(codes->name), "__post__dequant", sizeof "__post__dequant");
    codes->name = name;
    return RQ_OK;
}

static rq_status behind_all(job *j)
{
    rq_flow_op **list = rq_flow_list(&j->w);
    if (!list)
        return no_memory(j->err);
    for (; *list; list++)
        if (!(*list)->seen && !strcmp((*list)->type, "dequantize") && (*list)->n_outputs == 1)
            RQ_TRY(behind(j, *list));
    return RQ_OK;
}

/* ---- all of it ---- */

static rq_status rewrite(job *j, rq_coreml *m, rq_mil_function *f, rq_flow_counts *counts)
{
    rq_status st = rq_flow_open(&j->w, m, f, counts, j->err);
    if (!st)
        st = before_all(j);
    if (!st)
        st = behind_all(j);
    if (!st && !rq_coreml_after_pairs(&j->w))
        st = no_memory(j->err);
    if (!st)
        st = rq_flow_write(&j->w, j->err);
    rq_flow_release(&j->w);
    return st;
}

rq_status rq_coreml_insert_pairs(rq_coreml *m, const rq_coreml_config *c, const rq_coreml_ranges *ranges,
                                 rq_coreml_pairs *made, rq_err *err)
{
    enum { SPEC = RQ_COREML_IOS17 }; /* the first with quantize */
    rq_arena names = { 0 };
    rq_flow_counts counts = { .a = &names };
    job j = { .config = c, .ranges = ranges, .made = made, .err = err };
    rq_status st = rq_coreml_raise(m, SPEC, err);
    for (int i = 0; !st && i < m->program.n_functions; i++)
        st = rewrite(&j, m, m->program.functions[i], &counts);
    rq_arena_release(&names);
    return st ? st : rq_coreml_cleanup(m, err);
}

/* Ranges of values that are codes already would be those of the codes' reals, and a second pair would round them once more. */
static rq_status refuse_quantized(const rq_coreml *m, const char *what, rq_err *err)
{
    int n = 0;
    for (int i = 0; i < m->program.n_functions; i++) {
        const rq_mil_block *b = m->program.functions[i]->block;
        for (int k = 0; b && k < b->n_ops; k++)
            n += !strcmp(b->ops[k]->type, "quantize");
    }
    return n ? rq_fail(err, RQ_BAD_ARG, "%s: the program is quantized already, it has %d operation%s 'quantize'", what,
                       n, n == 1 ? "" : "s")
             : RQ_OK;
}

rq_status rq_coreml_linear_quantize_activations(rq_coreml *m, const rq_coreml_config *c, rq_dataset *d,
                                                const int64_t *rows, int64_t n_rows, rq_coreml_report **report,
                                                rq_err *err)
{
    static const char what[] = "linear_quantize_activations";
    rq_coreml_ranges ranges = { 0 };
    rq_coreml_report *own = NULL;
    if (report)
        *report = NULL;
    RQ_TRY(rq_coreml_config_accept(c, 1u << RQ_COREML_LINEAR_QUANTIZER, what, err));
    RQ_TRY(refuse_quantized(m, what, err));
    rq_status st = rq_coreml_report_create(&own, what, err);
    if (!st)
        st = rq_coreml_check_keys(m, c, NULL, 0, cores, own, err);
    if (!st)
        st = rq_coreml_ranges_measure(&ranges, m, d, rows, n_rows, err);
    if (!st)
        st = rq_coreml_insert_pairs(m, c, &ranges, &own->pairs, err);
    rq_coreml_ranges_release(&ranges);
    if (!st && report)
        *report = own;
    else
        rq_coreml_report_destroy(own);
    return st;
}
