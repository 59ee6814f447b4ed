/* formats/mil_chain.c — an operation as several nodes: each step asks whether the one before went well, makes one node or constant,
 * and gives its name. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "formats/mil_rows.h"
#include "formats/onnx.h"
#include "graph/graph.h"
#include "tensor/convert.h"

rq_chain rq_chain_begin(rq_mil_reader *r, const rq_mil_op *op)
{
    return (rq_chain) { .r = r, .op = op, .first = r->g->n_values };
}

const void *rq_chain_fail(rq_chain *c, rq_status st, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!c->st)
        c->st = rq_fail(c->r->err, st, "%s", text);
    return NULL;
}

/* Keep the first failure. */
static bool went(rq_chain *c, rq_status st)
{
    if (!c->st)
        c->st = st;
    return !c->st;
}

static const char *fresh(rq_chain *c, const char *what)
{
    char text[80];
    snprintf(text, sizeof text, "%.60s_%d", what, c->n++);
    const char *name = rq_mil_reader_name(c->r, c->op, text);
    return name ? name : rq_chain_fail(c, RQ_NO_MEMORY, "not enough memory");
}

/* ---- parameters ---- */

const char *rq_chain_maybe(rq_chain *c, const char *param)
{
    const char *v = NULL;
    return !c->st && went(c, rq_mil_reader_input(c->r, c->op, param, &v)) ? v : NULL;
}

const char *rq_chain_in(rq_chain *c, const char *param)
{
    const char *v = rq_chain_maybe(c, param);
    return v || c->st ? v : rq_chain_fail(c, RQ_BAD_FILE, "'%s' is missing", param);
}

const char *rq_chain_list(rq_chain *c, const char *param)
{
    const rq_mil_value *v = rq_mil_reader_const(c->r, c->op, param);
    rq_tensor t, whole;
    const char *name = NULL;
    if (c->st)
        return NULL;
    if (!v)
        return rq_chain_cast(c, rq_chain_in(c, param), RQ_DTYPE_S64);
    if (!went(c, rq_coreml_tensor(c->r->m, &t, v, c->r->err)))
        return NULL;
    if (rq_dtype_is_float(t.dtype))
        rq_chain_fail(c, RQ_BAD_FILE, "'%s' is %s, expected whole numbers", param, v->type->dtype->name);
    else if (rq_tensor_create(&whole, RQ_DTYPE_S64, &t.shape, false))
        rq_chain_fail(c, RQ_NO_MEMORY, "not enough memory");
    else {
        for (int64_t i = 0; i < rq_shape_count(&t.shape); i++)
            whole.s64[i] = rq_tensor_get_int(&t, i);
        name = rq_chain_tensor(c, &whole);
        rq_tensor_release(&whole);
    }
    rq_tensor_release(&t);
    return name;
}

int64_t rq_chain_int(rq_chain *c, const char *param, int64_t fallback)
{
    int64_t v = fallback;
    return !c->st && went(c, rq_mil_reader_int(c->r, c->op, param, &v)) ? v : fallback;
}

float rq_chain_float(rq_chain *c, const char *param, float fallback)
{
    float v = fallback;
    return !c->st && went(c, rq_mil_reader_float(c->r, c->op, param, &v)) ? v : fallback;
}

const char *rq_chain_text(rq_chain *c, const char *param, const char *fallback)
{
    return c->st ? fallback : rq_mil_reader_text(c->r, c->op, param, fallback);
}

int rq_chain_ints(rq_chain *c, const char *param, int64_t out[16])
{
    int n = -1;
    return !c->st && went(c, rq_mil_reader_ints(c->r, c->op, param, out, &n)) ? n : -1;
}

const char *rq_chain_item(rq_chain *c, const rq_mil_arg *arg, int i)
{
    const char *v = NULL;
    return !c->st && went(c, rq_mil_reader_item(c->r, c->op, arg, i, &v)) ? v : NULL;
}

/* ---- nodes ---- */

void rq_chain_nodes(rq_chain *c, const char *onnx, const char *const *in, int n_in, const char **out, int n_out)
{
    for (int i = 0; i < n_out; i++)
        out[i] = c->st ? NULL : fresh(c, onnx);
    if (c->st)
        return;
    while (n_in > 0 && !in[n_in - 1])
        n_in--;
    const rq_edit_node node = { .op = onnx, .name = out[0], .in = in, .out = out, .n_in = n_in, .n_out = n_out };
    went(c, rq_edit_add_node(c->r->g, &node, &c->id, c->r->err));
}

const char *rq_chain_node(rq_chain *c, const char *onnx, const char *const *in, int n_in)
{
    const char *out = NULL;
    rq_chain_nodes(c, onnx, in, n_in, &out, 1);
    return c->st ? NULL : out;
}

void rq_chain_push(rq_chain *c, const char *operand)
{
    assert(c->n_operands < RQ_CHAIN_OPERANDS);
    c->operand[c->n_operands++] = operand;
}

const char *rq_chain_pop(rq_chain *c, const char *onnx, int n)
{
    const char *in[3];
    assert(n <= 3 && n <= c->n_operands);
    for (int i = 0; i < n; i++)
        in[i] = c->operand[--c->n_operands];
    return rq_chain_node(c, onnx, in, n);
}

void rq_chain_set_int(rq_chain *c, const char *name, int64_t v)
{
    if (!c->st)
        went(c, rq_edit_set_int(c->r->g, c->id, name, v, c->r->err));
}

void rq_chain_set_float(rq_chain *c, const char *name, float v)
{
    if (!c->st)
        went(c, rq_edit_set_float(c->r->g, c->id, name, v, c->r->err));
}

void rq_chain_set_text(rq_chain *c, const char *name, const char *v)
{
    if (!c->st)
        went(c, rq_edit_set_string(c->r->g, c->id, name, v, c->r->err));
}

void rq_chain_set_ints(rq_chain *c, const char *name, const int64_t *v, int n)
{
    if (!c->st)
        went(c, rq_edit_set_ints(c->r->g, c->id, name, v, n, c->r->err));
}

/* A list attribute that requant/edit.h has no function for; *list has room for n. */
static rq_attr *list_attr(rq_chain *c, const char *name, rq_attr_type type, void **list, int n, size_t size)
{
    rq_graph *g = c->r->g;
    *list = c->st ? NULL : rq_arena_alloc(&g->names, (size_t)n + 1, size);
    rq_attr *a = *list ? rq_attr_add(g, c->id, name, type) : NULL;
    if (a)
        a->n = n;
    else
        rq_chain_fail(c, RQ_NO_MEMORY, "not enough memory");
    return a;
}

void rq_chain_set_texts(rq_chain *c, const char *name, const char *const *v, int n)
{
    void *list;
    rq_attr *a = list_attr(c, name, RQ_ATTR_STRINGS, &list, n, sizeof(rq_bytes));
    if (!a)
        return;
    a->strings = list;
    for (int i = 0; i < n; i++) {
        const char *kept = rq_graph_str(c->r->g, v[i]);
        a->strings[i] = rq_bytes_of(kept ? kept : "", kept ? strlen(kept) : 0);
        if (!kept)
            rq_chain_fail(c, RQ_NO_MEMORY, "not enough memory");
    }
}

void rq_chain_set_floats(rq_chain *c, const char *name, const float *v, int n)
{
    void *list;
    rq_attr *a = list_attr(c, name, RQ_ATTR_FLOATS, &list, n, sizeof *v);
    if (!a)
        return;
    a->floats = list;
    memcpy(list, v, (size_t)n * sizeof *v);
}

const char *rq_chain_tensor(rq_chain *c, const rq_tensor *t)
{
    rq_tensor own;
    const char *name = c->st ? NULL : fresh(c, "const");
    if (c->st)
        return NULL;
    if (rq_tensor_copy(&own, t))
        return rq_chain_fail(c, RQ_NO_MEMORY, "not enough memory");
    went(c, rq_edit_add_constant(c->r->g, name, &own, c->r->err));
    rq_tensor_release(&own);
    return c->st ? NULL : name;
}

const char *rq_chain_const_ints(rq_chain *c, const int64_t *v, int n)
{
    const rq_shape shape = rq_shape_of(1, (int64_t[]) { n });
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_S64, &shape, (void *)v);
    return rq_chain_tensor(c, &t);
}

const char *rq_chain_const_int(rq_chain *c, int64_t v)
{
    const rq_shape shape = { .rank = 0 };
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_S64, &shape, &v);
    return rq_chain_tensor(c, &t);
}

const char *rq_chain_const(rq_chain *c, rq_dtype d, double v)
{
    const rq_shape shape = { .rank = 0 };
    union {
        float f32;
        uint16_t u16;
        int32_t s32;
        int64_t s64;
        uint8_t u8;
    } x = { 0 };
    switch (d) {
    case RQ_DTYPE_F32:
        x.f32 = (float)v;
        break;
    case RQ_DTYPE_F16:
        x.u16 = rq_convert_f32_to_f16((float)v);
        break;
    case RQ_DTYPE_S32:
        x.s32 = v >= -0x1p31 && v < 0x1p31 ? (int32_t)v : v > 0 ? INT32_MAX : INT32_MIN;
        break;
    case RQ_DTYPE_S64:
        x.s64 = (int64_t)v;
        break;
    case RQ_DTYPE_BOOL:
        x.u8 = v != 0;
        break;
    default:
        return c->st ? NULL
                     : rq_chain_fail(c, RQ_UNSUPPORTED, "elements of type %s are not supported", rq_dtype_name(d));
    }
    const rq_tensor t = rq_tensor_view(d, &shape, &x);
    return rq_chain_tensor(c, &t);
}

const char *rq_chain_cast(rq_chain *c, const char *v, rq_dtype d)
{
    if (c->st || rq_chain_dtype(c, v) == d)
        return v;
    const char *y = rq_n1(c, "Cast", v);
    rq_chain_set_int(c, "to", rq_onnx_dtype_code(d));
    return y;
}

static rq_value_info info(rq_chain *c, const char *v)
{
    rq_value_info out = { .shape = rq_shape_unknown() };
    if (!c->st)
        went(c, rq_mil_reader_info(c->r, v, &out));
    return out;
}

rq_dtype rq_chain_dtype(rq_chain *c, const char *v)
{
    return info(c, v).dtype;
}

rq_dtype rq_chain_declared(rq_chain *c, int i)
{
    const rq_mil_type *t = i < c->op->n_outputs ? c->op->outputs[i].type : NULL;
    if (t && t->kind == RQ_MIL_TENSOR)
        return t->dtype->dtype;
    rq_chain_fail(c, RQ_BAD_FILE, "output %d is no tensor", i);
    return RQ_DTYPE_NONE;
}

int rq_chain_rank(rq_chain *c, const char *v)
{
    const int rank = info(c, v).shape.rank;
    if (rank < 0)
        rq_chain_fail(c, RQ_UNSUPPORTED, "a tensor whose number of axes is not known is not supported");
    return rank < 0 ? 0 : rank;
}

int64_t rq_chain_size(rq_chain *c, const char *v, int axis)
{
    const rq_shape shape = info(c, v).shape;
    return axis >= 0 && axis < shape.rank ? shape.dim[axis] : RQ_DIM_UNKNOWN;
}

int rq_chain_axis(rq_chain *c, int64_t axis, int rank)
{
    if (axis >= -rank && axis < rank)
        return (int)(axis < 0 ? axis + rank : axis);
    rq_chain_fail(c, RQ_BAD_FILE, "axis %lld of a tensor with %d axes", (long long)axis, rank);
    return 0;
}

const char *rq_chain_channels(rq_chain *c, const char *v, const char *x)
{
    int64_t axes[RQ_MAX_RANK];
    const int rank = rq_chain_rank(c, x);
    v = rq_chain_cast(c, v, rq_chain_dtype(c, x));
    for (int i = 0; i < rank - 2; i++)
        axes[i] = i + 1;
    return rank > 2 ? rq_n2(c, "Unsqueeze", v, rq_chain_const_ints(c, axes, rank - 2)) : v;
}

void rq_chain_windows(rq_chain *c, int n)
{
    static const char *const lists[] = { "strides", "dilations" };
    const char *type = rq_chain_text(c, "pad_type", "valid");
    int64_t v[16], pads[16];
    for (int i = 0; i < 2; i++) {
        const int n_list = rq_chain_ints(c, lists[i], v);
        if (n_list >= 0 && n_list != n)
            rq_chain_fail(c, RQ_BAD_FILE, "'%s' has %d numbers, expected %d", lists[i], n_list, n);
        else if (n_list > 0)
            rq_chain_set_ints(c, lists[i], v, n_list);
    }
    if (!strcmp(type, "same") || !strcmp(type, "same_lower")) {
        rq_chain_set_text(c, "auto_pad", !strcmp(type, "same") ? "SAME_UPPER" : "SAME_LOWER");
    } else if (!strcmp(type, "custom")) {
        const int n_pad = rq_chain_ints(c, "pad", v);
        if (n_pad >= 0 && n_pad != 2 * n)
            rq_chain_fail(c, RQ_BAD_FILE, "'pad' has %d numbers, expected %d", n_pad, 2 * n);
        for (int i = 0; i < n_pad; i++)
            pads[i / 2 + i % 2 * (n_pad / 2)] = v[i];
        if (n_pad > 0)
            rq_chain_set_ints(c, "pads", pads, n_pad);
    } else if (strcmp(type, "valid") != 0) {
        rq_chain_fail(c, RQ_UNSUPPORTED, "pad_type '%.60s' is not known", type);
    }
}

/* The value gets the name that the program has for it, its node (that of the first output) the operation's. */
static rq_status rename_to(rq_chain *c, rq_id id, const char *name)
{
    rq_graph *g = c->r->g;
    const char *own = name == c->op->outputs[0].name ? rq_mil_op_name(c->op) : ""; /* one node has it, of several */
    const char *node = rq_graph_str(g, *own ? own : name);
    if (!node)
        return rq_fail(c->r->err, RQ_NO_MEMORY, "not enough memory");
    g->nodes[g->values[id].producer].name = node;
    return rq_graph_rename(g, id, name, c->r->err);
}

rq_status rq_chain_end(rq_chain *c, int i, const char *v)
{
    if (c->st)
        return c->st;
    if (i >= c->op->n_outputs)
        return RQ_OK;
    const char *name = c->op->outputs[i].name;
    const rq_id id = rq_graph_find(c->r->g, v);
    if (id >= c->first && c->r->g->values[id].kind == RQ_VALUE_NODE)
        went(c, rename_to(c, id, name));
    else
        went(c, rq_mil_reader_node(c->r, c->op, "Identity", &v, 1, name, NULL));
    return c->st;
}
