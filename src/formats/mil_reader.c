/* formats/mil_reader.c — what rows read: parameters as settings, constants and values, and the nodes they make. Constants are
 * added when something uses them as a tensor; those that are settings of an operator (strides, axes) never become values. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/mil_graph.h"
#include "graph/graph.h"
#include "tensor/convert.h"

static rq_status no_memory(const rq_mil_reader *r)
{
    return rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
}

/* ---- constants ---- */

static const rq_mil_value *const_named(const rq_mil_reader *r, const char *name)
{
    const rq_mil_constant *c = rq_mil_constants_find(r->consts, name);
    return c && !rq_mil_is_constexpr(c->op) ? rq_mil_op_attr(c->op, "val") : NULL;
}

const rq_mil_value *rq_mil_reader_const(const rq_mil_reader *r, const rq_mil_op *op, const char *param)
{
    const rq_mil_arg *arg = rq_mil_op_arg(op, param);
    if (!arg)
        return rq_mil_op_attr(op, param);
    if (arg->n != 1)
        return NULL;
    return arg->binding[0].value ? arg->binding[0].value : const_named(r, arg->binding[0].name);
}

bool rq_mil_reader_has(const rq_mil_op *op, const char *param)
{
    return rq_mil_op_arg(op, param) || rq_mil_op_attr(op, param);
}

rq_status rq_mil_reader_ints(const rq_mil_reader *r, const rq_mil_op *op, const char *param, int64_t out[16], int *n)
{
    const rq_mil_value *v = rq_mil_reader_const(r, op, param);
    rq_tensor t;
    *n = -1;
    if (!rq_mil_reader_has(op, param))
        return RQ_OK;
    if (!v || v->n > 16)
        return rq_fail(r->err, RQ_UNSUPPORTED, "'%s' is %s", param, v ? "too long" : "computed, expected a constant");
    RQ_TRY(rq_coreml_tensor(r->m, &t, v, r->err));
    rq_status st = RQ_OK;
    for (uint64_t i = 0; !st && i < v->n; i++) {
        if (t.dtype == RQ_DTYPE_S32)
            out[i] = t.s32[i];
        else if (t.dtype == RQ_DTYPE_BOOL || t.dtype == RQ_DTYPE_U8)
            out[i] = t.u8[i];
        else if (t.dtype == RQ_DTYPE_S8)
            out[i] = t.s8[i];
        else if (t.dtype == RQ_DTYPE_S16 || t.dtype == RQ_DTYPE_U16)
            out[i] = t.dtype == RQ_DTYPE_S16 ? t.s16[i] : t.u16[i];
        else if (t.dtype == RQ_DTYPE_U32)
            out[i] = t.u32[i];
        else
            st = rq_fail(r->err, RQ_BAD_FILE, "'%s' is %s, expected whole numbers", param, v->type->dtype->name);
    }
    rq_tensor_release(&t);
    *n = (int)v->n;
    return st;
}

rq_status rq_mil_reader_int(const rq_mil_reader *r, const rq_mil_op *op, const char *param, int64_t *v)
{
    int64_t list[16];
    int n;
    RQ_TRY(rq_mil_reader_ints(r, op, param, list, &n));
    if (n == 1)
        *v = list[0];
    return n == 1 || n < 0 ? RQ_OK : rq_fail(r->err, RQ_BAD_FILE, "'%s' has %d numbers, expected one", param, n);
}

rq_status rq_mil_reader_float(const rq_mil_reader *r, const rq_mil_op *op, const char *param, float *v)
{
    const rq_mil_value *c = rq_mil_reader_const(r, op, param);
    rq_tensor t;
    if (!rq_mil_reader_has(op, param))
        return RQ_OK;
    if (!c)
        return rq_fail(r->err, RQ_UNSUPPORTED, "'%s' is computed, expected a constant", param);
    RQ_TRY(rq_coreml_tensor(r->m, &t, c, r->err));
    const bool one = c->n == 1 && (t.dtype == RQ_DTYPE_F32 || t.dtype == RQ_DTYPE_F16);
    if (one)
        *v = t.dtype == RQ_DTYPE_F32 ? t.f32[0] : rq_convert_f16_to_f32(t.u16[0]);
    rq_tensor_release(&t);
    return one ? RQ_OK : rq_fail(r->err, RQ_BAD_FILE, "'%s' is no single float", param);
}

const char *rq_mil_reader_text(const rq_mil_reader *r, const rq_mil_op *op, const char *param, const char *fallback)
{
    const rq_mil_value *v = rq_mil_reader_const(r, op, param);
    const char *text = v && v->type->kind == RQ_MIL_TENSOR ? rq_mil_value_text(v) : NULL;
    return text ? text : fallback;
}

/* ---- values and nodes ---- */

const char *rq_mil_reader_name(rq_mil_reader *r, const rq_mil_op *op, const char *what)
{
    const char *own = op->n_outputs ? op->outputs[0].name : rq_mil_op_name(op);
    const size_t n = strlen(own) + strlen(what) + 2;
    char *name = rq_arena_alloc(&r->a, n, 1);
    if (name)
        snprintf(name, n, "%s.%s", own, what);
    return name;
}

/* The graph's own copy. */
static rq_status add_const(rq_mil_reader *r, const char *name, const rq_tensor *t)
{
    rq_tensor own;
    if (!name || rq_tensor_copy(&own, t))
        return no_memory(r);
    const rq_status st = rq_edit_add_constant(r->g, name, &own, r->err);
    rq_tensor_release(&own);
    return st;
}

rq_status rq_mil_reader_tensor(rq_mil_reader *r, const rq_mil_op *op, const char *what, const rq_tensor *t,
                               const char **out)
{
    *out = rq_mil_reader_name(r, op, what);
    return add_const(r, *out, t);
}

static rq_status add_value(rq_mil_reader *r, const char *name, const rq_mil_value *v)
{
    rq_tensor t;
    RQ_TRY(rq_coreml_tensor(r->m, &t, v, r->err));
    const rq_status st = add_const(r, name, &t);
    rq_tensor_release(&t);
    return st;
}

/* A constant of the block of frame f becomes a value of its graph. */
static rq_status add_constant(rq_mil_reader *r, rq_mil_frame *f, const rq_mil_constant *c)
{
    const rq_mil_value *v = rq_mil_is_constexpr(c->op) ? NULL : rq_mil_op_attr(c->op, "val");
    rq_mil_frame *here = r->frame;
    rq_mil_reader_move(r, f);
    const rq_status st = v ? add_value(r, c->name, v) : rq_mil_reader_op(r, c->op);
    rq_mil_reader_move(r, here);
    return st;
}

/* The value as seen from f's graph; RQ_NONE: nobody defines it. */
static rq_status resolve(rq_mil_reader *r, rq_mil_frame *f, rq_id *out, const char *name)
{
    *out = rq_graph_find(f->g, name);
    if (*out != RQ_NONE)
        return RQ_OK;
    rq_mil_constants own = f->consts;
    own.around = NULL;
    const rq_mil_constant *c = rq_mil_constants_find(&own, name);
    if (c) {
        RQ_TRY(add_constant(r, f, c));
        *out = rq_graph_find(f->g, name);
        return RQ_OK;
    }
    if (!f->outer)
        return RQ_OK;
    rq_id outer;
    RQ_TRY(resolve(r, f->outer, &outer, name));
    if (outer == RQ_NONE)
        return RQ_OK;
    const rq_value *from = &f->outer->g->values[outer];
    const rq_shape shape = from->kind == RQ_VALUE_CONST ? from->constant.shape : from->shape;
    const rq_dtype d = from->kind == RQ_VALUE_CONST ? from->constant.dtype : from->dtype;
    RQ_TRY(rq_graph_add_value(f->g, out, RQ_VALUE_CAPTURED, name, d, &shape, r->err));
    f->g->values[*out].outer = outer;
    return RQ_OK;
}

rq_status rq_mil_reader_value(rq_mil_reader *r, const char *name)
{
    rq_id id;
    RQ_TRY(resolve(r, r->frame, &id, name));
    return id != RQ_NONE ? RQ_OK : rq_fail(r->err, RQ_NOT_FOUND, "'%.100s' is no tensor that can be used here", name);
}

rq_status rq_mil_reader_item(rq_mil_reader *r, const rq_mil_op *op, const rq_mil_arg *arg, int i, const char **out)
{
    char what[64];
    const rq_mil_binding *b = &arg->binding[i];
    *out = b->name;
    if (!b->value)
        return rq_mil_reader_value(r, b->name);
    snprintf(what, sizeof what, arg->n == 1 ? "%.40s" : "%.40s_%d", arg->param, i);
    *out = rq_mil_reader_name(r, op, what);
    return add_value(r, *out, b->value);
}

rq_status rq_mil_reader_input(rq_mil_reader *r, const rq_mil_op *op, const char *param, const char **out)
{
    const rq_mil_arg *arg = rq_mil_op_arg(op, param);
    const rq_mil_value *v = arg ? NULL : rq_mil_op_attr(op, param);
    *out = NULL;
    if (arg && arg->n != 1)
        return rq_fail(r->err, RQ_BAD_FILE, "'%s' has %d values, expected one", param, arg->n);
    if (arg)
        return rq_mil_reader_item(r, op, arg, 0, out);
    if (!v)
        return RQ_OK;
    *out = rq_mil_reader_name(r, op, param);
    return add_value(r, *out, v);
}

rq_status rq_mil_reader_node(rq_mil_reader *r, const rq_mil_op *op, const char *onnx, const char *const *in, int n_in,
                             const char *out, int *id)
{
    const char *name = rq_mil_op_name(op);
    const char *const outs[1] = { out ? out : op->outputs[0].name };
    while (n_in > 0 && !in[n_in - 1])
        n_in--;
    const rq_edit_node node = {
        .op = onnx, .name = *name && !out ? name : outs[0], .in = in, .out = outs, .n_in = n_in, .n_out = 1
    };
    return rq_edit_add_node(r->g, &node, id, r->err);
}
