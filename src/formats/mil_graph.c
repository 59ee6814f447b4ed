/* formats/mil_graph.c — a program to the graph: inputs, then operations in order, each by its row, then outputs. Constants are
 * added when something uses them as a tensor; those that are settings of an operator (strides, axes) never become values. */
#include "formats/mil_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/convert.h"

enum { OPSET = 21 };

rq_status rq_mil_reader_refuse(const rq_mil_reader *r, const char *what)
{
    return rq_fail(r->err, RQ_UNSUPPORTED, "%s is not supported", what);
}

static rq_status no_memory(const rq_mil_reader *r)
{
    return rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
}

/* ---- constants ---- */

static const char *const_name(const rq_mil_op *op)
{
    return op->outputs[0].name;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(const_name(*(const rq_mil_op *const *)a), const_name(*(const rq_mil_op *const *)b));
}

static int against_name(const void *key, const void *b)
{
    return strcmp(key, const_name(*(const rq_mil_op *const *)b));
}

static const rq_mil_value *const_named(const rq_mil_reader *r, const char *name)
{
    const rq_mil_op **op =
        r->n_consts ? bsearch(name, r->consts, (size_t)r->n_consts, sizeof(rq_mil_op *), against_name) : NULL;
    return op ? rq_mil_op_attr(*op, "val") : NULL;
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

static bool is_there(const rq_mil_op *op, const char *param)
{
    return rq_mil_op_arg(op, param) || rq_mil_op_attr(op, param);
}

rq_status rq_mil_reader_ints(const rq_mil_reader *r, const rq_mil_op *op, const char *param, int64_t out[16], int *n)
{
    const rq_mil_value *v = rq_mil_reader_const(r, op, param);
    rq_tensor t;
    *n = -1;
    if (!is_there(op, param))
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
    if (!is_there(op, param))
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

rq_status rq_mil_reader_list(rq_mil_reader *r, const rq_mil_op *op, const char *what, const int64_t *v, int n,
                             const char **out)
{
    const rq_shape shape = rq_shape_of(1, (int64_t[]) { n });
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_S64, &shape, (void *)v);
    return rq_mil_reader_tensor(r, op, what, &t, out);
}

static rq_status add_value(rq_mil_reader *r, const char *name, const rq_mil_value *v)
{
    rq_tensor t;
    RQ_TRY(rq_coreml_tensor(r->m, &t, v, r->err));
    const rq_status st = add_const(r, name, &t);
    rq_tensor_release(&t);
    return st;
}

rq_status rq_mil_reader_input(rq_mil_reader *r, const rq_mil_op *op, const char *param, const char **out)
{
    const rq_mil_arg *arg = rq_mil_op_arg(op, param);
    const rq_mil_value *v = arg ? arg->n ? arg->binding[0].value : NULL : rq_mil_op_attr(op, param);
    *out = NULL;
    if (arg && arg->n != 1)
        return rq_fail(r->err, RQ_BAD_FILE, "'%s' has %d values, expected one", param, arg->n);
    if (v) {
        *out = rq_mil_reader_name(r, op, param);
        return add_value(r, *out, v);
    }
    if (!arg)
        return RQ_OK;
    *out = arg->binding[0].name;
    v = const_named(r, *out);
    rq_value_info info;
    if (v && rq_edit_value(r->g, *out, &info, NULL))
        return add_value(r, *out, v);
    return RQ_OK;
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

/* ---- the program ---- */

/* One node of the inputs that the row lists. */
static rq_status read_plain(rq_mil_reader *r, const rq_mil_op *op, const rq_mil_row *row)
{
    const char *in[4];
    int n = 0;
    char param[32];
    for (const char *p = row->params; *p && n < 4;) {
        const size_t k = strcspn(p, ",");
        snprintf(param, sizeof param, "%.*s", (int)k, p);
        RQ_TRY(rq_mil_reader_input(r, op, param, &in[n]));
        if (!in[n++])
            return rq_fail(r->err, RQ_BAD_FILE, "'%s' is missing", param);
        p += k + (p[k] == ',');
    }
    return rq_mil_reader_node(r, op, row->onnx, in, n, NULL, NULL);
}

static rq_status read_op(rq_mil_reader *r, const rq_mil_op *op)
{
    const rq_mil_row *row = rq_mil_row_find(op->type);
    rq_status st = RQ_OK;
    if (!op->n_outputs || !row)
        st = rq_fail(r->err, RQ_UNSUPPORTED, "the operator cannot be run");
    else
        st = row->read ? row->read(r, op) : read_plain(r, op, row);
    return st ? rq_fail_in(r->err, st, "operation '%.100s' (%.60s)", op->n_outputs ? op->outputs[0].name : "", op->type)
              : RQ_OK;
}

static rq_status read_inputs(rq_mil_reader *r, const rq_mil_function *f)
{
    for (int i = 0; i < f->n_inputs; i++) {
        const rq_mil_type *t = f->inputs[i].type;
        rq_shape shape = rq_shape_unknown();
        if (t->kind != RQ_MIL_TENSOR || t->rank > RQ_MAX_RANK)
            return rq_fail(r->err, RQ_UNSUPPORTED, "input '%.100s' is no tensor, or has too many axes",
                           f->inputs[i].name);
        if (t->rank >= 0)
            shape.rank = (int)t->rank;
        for (int k = 0; k < shape.rank; k++)
            shape.dim[k] = t->dim[k].known ? (int64_t)t->dim[k].size : RQ_DIM_UNKNOWN;
        RQ_TRY(rq_edit_add_input(r->g, f->inputs[i].name, t->dtype->dtype, &shape, r->err));
    }
    return RQ_OK;
}

static rq_status read_function(rq_mil_reader *r, const rq_mil_function *f)
{
    const rq_mil_block *b = f->block;
    r->consts = rq_arena_alloc(&r->a, b->n_ops ? (size_t)b->n_ops : 1, sizeof(rq_mil_op *));
    if (!r->consts)
        return no_memory(r);
    for (int i = 0; i < b->n_ops; i++)
        if (!strcmp(b->ops[i]->type, "const") && b->ops[i]->n_outputs == 1)
            r->consts[r->n_consts++] = b->ops[i];
    qsort(r->consts, (size_t)r->n_consts, sizeof(rq_mil_op *), by_name);
    RQ_TRY(rq_edit_set_opset(r->g, "", OPSET, r->err));
    RQ_TRY(read_inputs(r, f));
    for (int i = 0; i < b->n_ops; i++)
        if (strcmp(b->ops[i]->type, "const") != 0)
            RQ_TRY(read_op(r, b->ops[i]));
    for (int i = 0; i < b->n_outputs; i++)
        RQ_TRY(rq_edit_add_output(r->g, b->outputs[i], r->err));
    return RQ_OK;
}

rq_status rq_mil_graph(rq_graph **out, const rq_coreml *m, const char *name, rq_err *err)
{
    if (!name)
        name = *m->default_function ? m->default_function : m->program.functions[0]->name;
    const rq_mil_function *f = rq_mil_function_find(&m->program, name);
    *out = NULL;
    if (!f)
        return rq_fail(err, RQ_NOT_FOUND, "the program has no function '%.100s'", name);
    rq_mil_reader r = { .m = m, .err = err };
    rq_status st = rq_graph_create(&r.g);
    if (!st)
        st = read_function(&r, f);
    rq_arena_release(&r.a);
    if (st)
        rq_graph_destroy(r.g);
    else
        *out = r.g;
    return st;
}
