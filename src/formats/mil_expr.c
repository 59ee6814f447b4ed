/* formats/mil_expr.c — expressions of operations: each call adds one operation whose type and shape follow from what it is made of. */
#include "formats/mil_expr.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "formats/mil_emit_priv.h"
#include "ops/op.h"

static const rq_mil_expr_val nothing = { .id = RQ_NONE, .d = RQ_DTYPE_F32 };

static rq_mil_expr *root(rq_mil_expr *x)
{
    return x->of ? x->of : x;
}

static rq_mil_expr_val fail(rq_mil_expr *x, rq_status st)
{
    if (st && !root(x)->st)
        root(x)->st = st;
    return nothing;
}

rq_status rq_mil_expr_refuse(rq_mil_expr *x, int32_t since, const char *what)
{
    if (!root(x)->st)
        root(x)->st = rq_mil_emit_refuse(x->e, x->n, since, what);
    return root(x)->st;
}

/* ---- inputs and constants ---- */

rq_mil_expr_val rq_mil_expr_value(rq_mil_expr *x, rq_id v)
{
    const rq_mil_dtype *d = v >= 0 ? rq_mil_emit_dtype(x->e, v) : NULL;
    if (root(x)->st)
        return nothing;
    if (!d) {
        rq_mil_expr_refuse(x, 0, v >= 0 ? "elements of this type" : "the operator without all its inputs");
        return nothing;
    }
    const rq_shape *shape = rq_mil_emit_shape(x->e, v);
    if (shape->rank < 0) {
        rq_mil_expr_refuse(x, 0, "an input of a number of axes that is known only when it runs");
        return nothing;
    }
    return (rq_mil_expr_val) { .id = v, .d = d->dtype == RQ_DTYPE_F16 ? RQ_DTYPE_F32 : d->dtype, .shape = *shape };
}

rq_mil_expr_val rq_mil_expr_in(rq_mil_expr *x, int i)
{
    return rq_mil_expr_value(x, rq_node_in(x->n, i));
}

rq_mil_expr_val rq_mil_expr_num(double v, rq_dtype d)
{
    return (rq_mil_expr_val) { .id = RQ_NONE, .num = v, .d = d, .shape = rq_shape_of(0, NULL) };
}

rq_mil_expr_val rq_mil_expr_new(rq_mil_expr *x, rq_dtype d, const rq_shape *shape, rq_tensor **t)
{
    const size_t bytes = rq_shape_check(shape) ? 0 : rq_shape_bytes(shape, d);
    void *data = bytes ? rq_arena_alloc(&x->e->a, bytes, 1) : NULL;
    rq_tensor *own = data ? rq_arena_alloc(&x->e->a, 1, sizeof *own) : NULL;
    *t = NULL;
    if (root(x)->st)
        return nothing;
    if (!own) {
        rq_fail(x->e->err, RQ_NO_MEMORY, "not enough memory to write the program");
        return fail(x, rq_mil_emit_keep(x->e, RQ_NO_MEMORY));
    }
    *own = rq_tensor_view(d, shape, data);
    *t = own;
    return (rq_mil_expr_val) { .id = RQ_NONE,
                               .t = own,
                               .d = rq_dtype_is_float(d) ? RQ_DTYPE_F32
                                    : d == RQ_DTYPE_BOOL ? d
                                                         : RQ_DTYPE_S32,
                               .shape = *shape };
}

const rq_tensor *rq_mil_expr_const(const rq_mil_expr *x, int i)
{
    const rq_id v = rq_node_in(x->n, i);
    return v >= 0 ? rq_mil_emit_const(x->e, v) : NULL;
}

void rq_mil_expr_ints(rq_mil_expr *x, int i, const char *name, int64_t out[RQ_MAX_RANK], int *n)
{
    int count = 0;
    const int64_t *list = name ? rq_attr_as_ints(rq_attr_named(x->n, name), &count) : NULL;
    *n = -1;
    if (rq_mil_expr_has(x, i)) {
        *n = rq_mil_emit_known(x->e, x->n->in[i], out, NULL, RQ_MAX_RANK);
        if (*n < 0)
            rq_mil_expr_refuse(x, 0,
                               rq_mil_expr_const(x, i) ? "a list of so many numbers" : "a setting that is computed");
    } else if (list) {
        if (count > RQ_MAX_RANK) {
            rq_mil_expr_refuse(x, 0, "a list of so many numbers");
            return;
        }
        memcpy(out, list, (size_t)count * sizeof *out);
        *n = count;
    }
}

void rq_mil_expr_axes(rq_mil_expr *x, int i, const char *name, int rank, int64_t out[RQ_MAX_RANK], int *n)
{
    rq_mil_expr_ints(x, i, name, out, n);
    for (int k = 0; k < *n && !root(x)->st; k++) {
        out[k] = rq_infer_axis(out[k], rank);
        if (out[k] < 0)
            rq_mil_expr_refuse(x, 0, "an axis that is not there");
    }
}

double rq_mil_expr_number(rq_mil_expr *x, int i, double fallback)
{
    const rq_tensor *t = rq_mil_expr_const(x, i);
    if (!rq_mil_expr_has(x, i))
        return fallback;
    if (t && rq_tensor_count(t) == 1)
        return rq_tensor_get(t, 0);
    rq_mil_expr_refuse(x, 0, "a setting that is computed");
    return fallback;
}

int64_t rq_mil_expr_whole(rq_mil_expr *x, int i, int64_t fallback)
{
    const rq_tensor *t = rq_mil_expr_const(x, i);
    int64_t v = fallback;
    if (t && rq_tensor_count(t) == 1 && rq_dtype_is_integer(t->dtype))
        v = rq_tensor_get_int(t, 0);
    else if (rq_mil_expr_has(x, i))
        v = (int64_t)fmin(fmax(rq_mil_expr_number(x, i, 0), INT32_MIN), INT32_MAX);
    return v < INT32_MIN ? INT32_MIN : v > INT32_MAX ? INT32_MAX : v;
}

bool rq_mil_expr_fixed(const rq_mil_expr *x, rq_id v)
{
    if (v < 0)
        return false;
    if (rq_mil_emit_const(x->e, v))
        return true;
    const rq_value *value = &x->e->g->values[v];
    if (value->kind != RQ_VALUE_NODE || value->producer < 0)
        return false;
    const rq_node *n = &x->e->g->nodes[value->producer];
    bool all = n->op && !strcmp(n->op, "DequantizeLinear");
    for (int i = 0; all && i < n->n_in; i++)
        all = n->in[i] < 0 || rq_mil_emit_const(x->e, n->in[i]);
    return all;
}

bool rq_mil_expr_static(rq_mil_expr *x, const rq_shape *s)
{
    if (!root(x)->st && !rq_shape_is_known(s))
        rq_mil_expr_refuse(x, 0, "a tensor of sizes that are known only when it runs");
    return !root(x)->st;
}

bool rq_mil_expr_is_empty(rq_mil_expr *x, const rq_shape *s)
{
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] == 0) {
            rq_mil_expr_refuse(x, 0, "an empty tensor");
            return true;
        }
    return false;
}

rq_shape rq_mil_expr_out_shape(const rq_mil_expr *x, int i)
{
    const rq_id v = rq_node_out(x->n, i);
    return v >= 0 ? x->e->g->values[v].shape : rq_shape_unknown();
}

int64_t rq_mil_expr_opset(const rq_mil_expr *x)
{
    return rq_graph_opset(x->e->g, x->n->domain);
}

/* ---- operations ---- */

static void bind(rq_mil_expr *x, rq_mil_op *op, const rq_mil_expr_arg *a)
{
    rq_mil_emitter *e = x->e;
    const rq_mil_expr_val *v = a->v;
    rq_status st = RQ_OK;
    switch (a->kind) {
    case RQ_MIL_EXPR_VAL:
        if (v->id >= 0)
            st = rq_mil_emit_bind(e, op, a->param, v->id);
        else if (v->name)
            st = rq_mil_emit_bind_name(e, op, a->param, v->name);
        else if (v->t)
            st = rq_mil_emit_tensor(e, op, a->param, v->t);
        else if (v->d == RQ_DTYPE_F32)
            st = rq_mil_emit_float(e, op, a->param, (float)v->num);
        else if (v->d == RQ_DTYPE_BOOL)
            st = rq_mil_emit_bool(e, op, a->param, v->num != 0);
        else
            st = rq_mil_emit_int(e, op, a->param, (int64_t)v->num);
        break;
    case RQ_MIL_EXPR_INT:
        st = rq_mil_emit_int(e, op, a->param, a->i);
        break;
    case RQ_MIL_EXPR_INTS:
        st = rq_mil_emit_ints(e, op, a->param, a->ints, a->n);
        break;
    case RQ_MIL_EXPR_FLOAT:
        st = rq_mil_emit_float(e, op, a->param, a->f);
        break;
    case RQ_MIL_EXPR_BOOL:
        st = rq_mil_emit_bool(e, op, a->param, a->i != 0);
        break;
    case RQ_MIL_EXPR_BOOLS:
        st = rq_mil_emit_bools(e, op, a->param, a->bools, a->n);
        break;
    case RQ_MIL_EXPR_TEXT:
        st = rq_mil_emit_text(e, op, a->param, a->text);
        break;
    case RQ_MIL_EXPR_SKIP:
    case RQ_MIL_EXPR_END:
        break;
    }
    if (st)
        fail(x, st);
}

static void bind_all(rq_mil_expr *x, rq_mil_op *op, const rq_mil_expr_arg *args)
{
    for (; !root(x)->st && args->kind != RQ_MIL_EXPR_END; args++)
        bind(x, op, args);
}

/* What tmp values are named after: an output that there is. */
static rq_id base_of(const rq_node *n)
{
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] >= 0)
            return n->out[i];
    return RQ_NONE;
}

rq_mil_expr_val rq_mil_expr_op(rq_mil_expr *x, const char *type, rq_dtype d, const rq_shape *shape,
                               const rq_mil_expr_arg *args)
{
    rq_mil_expr_val v = { .id = RQ_NONE, .d = d, .shape = *shape };
    const rq_id out = x->out >= 0 ? rq_node_out(x->n, x->out) : RQ_NONE;
    const int slot = x->out;
    x->out = -1;
    if (root(x)->st)
        return nothing;
    rq_mil_op *op;
    const rq_mil_dtype *as = out >= 0 ? rq_mil_emit_dtype(x->e, out) : NULL;
    if (out >= 0 && !as) {
        rq_mil_expr_refuse(x, 0, "elements of this type");
        return nothing;
    }
    const bool direct = as && (as->dtype == RQ_DTYPE_F16 ? RQ_DTYPE_F32 : as->dtype) == d;
    if (direct)
        op = rq_mil_emit_op(x->e, type, out);
    else
        op = rq_mil_emit_tmp(x->e, type, base_of(x->n), type, d, shape, &v.name);
    bind_all(x, op, args);
    if (!op)
        return fail(x, rq_mil_emit_keep(x->e, RQ_NO_MEMORY));
    if (direct)
        v.id = out;
    else if (out >= 0) {
        x->out = slot;
        return rq_mil_expr_cast(x, v, as->dtype);
    }
    return root(x)->st ? nothing : v;
}

void rq_mil_expr_op_many(rq_mil_expr *x, const char *type, rq_mil_expr_val *out, const rq_id *id, int n,
                         const rq_mil_expr_arg *args)
{
    rq_mil_op *op = NULL;
    x->out = -1;
    for (int i = 0; i < n && !root(x)->st; i++) {
        out[i].id = id[i];
        out[i].t = NULL;
        if (!i)
            op = id[i] >= 0 ? rq_mil_emit_op(x->e, type, id[i])
                            : rq_mil_emit_tmp(x->e, type, base_of(x->n), type, out[i].d, &out[i].shape, &out[i].name);
        else
            fail(x, id[i] >= 0
                        ? rq_mil_emit_output(x->e, op, id[i])
                        : rq_mil_emit_output_tmp(x->e, op, base_of(x->n), type, out[i].d, &out[i].shape, &out[i].name));
        if (!op)
            fail(x, rq_mil_emit_keep(x->e, RQ_NO_MEMORY));
    }
    bind_all(x, op, args);
    if (root(x)->st)
        for (int i = 0; i < n; i++)
            out[i] = nothing;
}

rq_mil_expr_val rq_mil_expr_un(rq_mil_expr *x, const char *type, rq_mil_expr_val a)
{
    return EXPR_OP(x, type, a.d, &a.shape, EXPR_V("x", &a));
}

static bool gives_bool(const char *type)
{
    static const char *const types[] = { "equal", "not_equal", "less", "less_equal", "greater", "greater_equal" };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (!strcmp(types[i], type))
            return true;
    return false;
}

static rq_shape joined(rq_mil_expr *x, const rq_shape *a, const rq_shape *b)
{
    rq_shape s = rq_shape_of(0, NULL);
    if (!root(x)->st && !rq_infer_broadcast_shapes(a, b, &s))
        rq_mil_expr_refuse(x, 0, "tensors of sizes that do not fit");
    return s;
}

static bool is_number(const rq_mil_expr_val *v)
{
    return v->id == RQ_NONE && !v->name && !v->t;
}

/* A number is of the type of what it meets. */
static void meet(rq_mil_expr_val *a, rq_mil_expr_val *b)
{
    const bool number_a = is_number(a), number_b = is_number(b);
    if (number_b)
        b->d = a->d;
    else if (number_a)
        a->d = b->d;
}

rq_mil_expr_val rq_mil_expr_bin(rq_mil_expr *x, const char *type, rq_mil_expr_val a, rq_mil_expr_val b)
{
    meet(&a, &b);
    const rq_shape s = joined(x, &a.shape, &b.shape);
    return EXPR_OP(x, type, gives_bool(type) ? RQ_DTYPE_BOOL : a.d, &s, EXPR_V("x", &a), EXPR_V("y", &b));
}

rq_mil_expr_val rq_mil_expr_cast(rq_mil_expr *x, rq_mil_expr_val a, rq_dtype d)
{
    const char *name = d == RQ_DTYPE_F32 || d == RQ_DTYPE_F16 ? rq_mil_emit_floats(x->e)->name
                       : d == RQ_DTYPE_BOOL                   ? "bool"
                       : d == RQ_DTYPE_S8                     ? "int8"
                       : d == RQ_DTYPE_U8                     ? "uint8"
                                                              : "int32";
    if (d == RQ_DTYPE_F16)
        d = RQ_DTYPE_F32;
    if (a.d == d) {
        if (x->out >= 0)
            rq_mil_expr_give(x, a);
        return a;
    }
    if (is_number(&a)) {
        a.d = d;
        return a;
    }
    return EXPR_OP(x, "cast", d, &a.shape, EXPR_V("x", &a), EXPR_T("dtype", name));
}

/* A tensor of the number v of this shape, or where that is not known, of the shape of `like`. */
static rq_mil_expr_val filled(rq_mil_expr *x, rq_mil_expr_val v, const rq_shape *shape, rq_mil_expr_val like)
{
    if (rq_shape_is_known(shape))
        return EXPR_OP(x, "fill", v.d, shape, EXPR_IS("shape", shape->dim, shape->rank), EXPR_V("value", &v));
    if (!rq_shape_equal(shape, &like.shape)) {
        rq_mil_expr_refuse(x, 0, "a choice between tensors of sizes that are known only when it runs");
        return v;
    }
    const rq_shape all = rq_shape_of(1, (int64_t[]) { shape->rank });
    const rq_mil_expr_val sizes = EXPR_OP(x, "shape", RQ_DTYPE_S32, &all, EXPR_V("x", &like));
    return EXPR_OP(x, "fill", v.d, shape, EXPR_V("shape", &sizes), EXPR_V("value", &v));
}

/* What is chosen from has all axes of the result (coremltools does not look at those of the condition): a number is filled in, a
 * tensor repeated. */
rq_mil_expr_val rq_mil_expr_select(rq_mil_expr *x, rq_mil_expr_val c, rq_mil_expr_val a, rq_mil_expr_val b)
{
    meet(&a, &b);
    const rq_shape ab = joined(x, &a.shape, &b.shape), s = joined(x, &c.shape, &ab);
    rq_mil_expr inner = rq_mil_expr_of(x->e, x->n);
    inner.of = root(x);
    if (!root(x)->st && !rq_shape_equal(&s, &ab)) {
        if (is_number(&b))
            b = filled(&inner, b, &s, c);
        else if (is_number(&a))
            a = filled(&inner, a, &s, c);
        else if (b.d == RQ_DTYPE_BOOL)
            b = rq_mil_expr_bin(&inner, "logical_or", b, filled(&inner, rq_mil_expr_num(0, b.d), &s, c));
        else
            b = rq_mil_expr_bin(&inner, "add", b, filled(&inner, rq_mil_expr_num(0, b.d), &s, c));
    }
    return EXPR_OP(x, "select", a.d, &s, EXPR_V("cond", &c), EXPR_V("a", &a), EXPR_V("b", &b));
}

rq_mil_expr_val rq_mil_expr_reshape(rq_mil_expr *x, rq_mil_expr_val a, const rq_shape *to)
{
    int64_t dim[RQ_MAX_RANK];
    int open = 0;
    for (int i = 0; i < to->rank; i++) {
        dim[i] = to->dim[i] < 0 ? -1 : to->dim[i];
        open += dim[i] < 0;
    }
    if (open > 1)
        rq_mil_expr_refuse(x, 0, "a reshape with several sizes that are known only when it runs");
    return EXPR_OP(x, "reshape", a.d, to, EXPR_V("x", &a), EXPR_IS("shape", dim, to->rank));
}

rq_mil_expr_val rq_mil_expr_reshape_dims(rq_mil_expr *x, rq_mil_expr_val a, int rank, const int64_t *dim)
{
    const rq_shape to = rq_shape_of(rank, dim);
    return rq_mil_expr_reshape(x, a, &to);
}

rq_mil_expr_val rq_mil_expr_transpose(rq_mil_expr *x, rq_mil_expr_val a, const int64_t *perm)
{
    rq_shape s = a.shape;
    for (int i = 0; i < s.rank; i++)
        s.dim[i] = a.shape.dim[perm[i]];
    return EXPR_OP(x, "transpose", a.d, &s, EXPR_V("x", &a), EXPR_IS("perm", perm, s.rank));
}

rq_mil_expr_val rq_mil_expr_reduce(rq_mil_expr *x, const char *type, rq_mil_expr_val a, const int64_t *axes, int n,
                                   bool keep)
{
    rq_shape s = { .rank = 0 };
    for (int i = 0; i < a.shape.rank; i++) {
        bool gone = false;
        for (int k = 0; k < n; k++)
            gone |= axes[k] == i;
        if (!gone || keep)
            s.dim[s.rank++] = gone ? 1 : a.shape.dim[i];
    }
    return EXPR_OP(x, type, a.d, &s, EXPR_V("x", &a), EXPR_IS("axes", axes, n), EXPR_B("keep_dims", keep));
}

rq_mil_expr_val rq_mil_expr_matmul(rq_mil_expr *x, rq_mil_expr_val a, rq_mil_expr_val b, bool turn_a, bool turn_b)
{
    rq_shape s = rq_shape_of(0, NULL), p = a.shape, q = b.shape;
    if (root(x)->st)
        return nothing;
    if (p.rank < 2 || q.rank < 2) {
        rq_mil_expr_refuse(x, 0, "a product of vectors");
        return nothing;
    }
    const int64_t rows = p.dim[p.rank - 1 - !turn_a], cols = q.dim[q.rank - 1 - turn_b];
    p.rank -= 2;
    q.rank -= 2;
    s = joined(x, &p, &q);
    s.dim[s.rank++] = rows;
    s.dim[s.rank++] = cols;
    return EXPR_OP(x, "matmul", a.d, &s, EXPR_V("x", &a), EXPR_V("y", &b), EXPR_B("transpose_x", turn_a),
                   EXPR_B("transpose_y", turn_b));
}

rq_mil_expr_val rq_mil_expr_concat(rq_mil_expr *x, const rq_mil_expr_val *v, int n, int axis)
{
    rq_mil_expr_arg *args = rq_arena_alloc(&x->e->a, (size_t)n + 3, sizeof *args);
    if (root(x)->st)
        return nothing;
    if (!args) {
        rq_fail(x->e->err, RQ_NO_MEMORY, "not enough memory to write the program");
        return fail(x, rq_mil_emit_keep(x->e, RQ_NO_MEMORY));
    }
    rq_shape s = v[0].shape;
    s.dim[axis] = 0;
    for (int i = 0; i < n; i++) {
        args[i] = (rq_mil_expr_arg)EXPR_V("values", &v[i]);
        s.dim[axis] = rq_infer_dim_add(s.dim[axis], v[i].shape.dim[axis]);
    }
    args[n] = (rq_mil_expr_arg)EXPR_I("axis", axis);
    args[n + 1] = (rq_mil_expr_arg)EXPR_B("interleave", false);
    args[n + 2] = (rq_mil_expr_arg) { .kind = RQ_MIL_EXPR_END };
    return rq_mil_expr_op(x, "concat", v[0].d, &s, args);
}

rq_mil_expr_val rq_mil_expr_softmax(rq_mil_expr *x, rq_mil_expr_val a, int64_t axis)
{
    return EXPR_OP(x, "softmax", a.d, &a.shape, EXPR_V("x", &a), EXPR_I("axis", axis));
}

rq_mil_expr_val rq_mil_expr_slice(rq_mil_expr *x, rq_mil_expr_val a, int axis, int64_t begin, int64_t end)
{
    int64_t from[RQ_MAX_RANK] = { 0 }, to[RQ_MAX_RANK] = { 0 }, step[RQ_MAX_RANK];
    bool begins[RQ_MAX_RANK], ends[RQ_MAX_RANK];
    rq_shape s = a.shape;
    for (int i = 0; i < s.rank; i++) {
        begins[i] = ends[i] = i != axis;
        to[i] = s.dim[i] > 0 ? s.dim[i] : 0;
        step[i] = 1;
    }
    from[axis] = begin;
    to[axis] = end;
    s.dim[axis] = end - begin;
    return EXPR_OP(x, "slice_by_index", a.d, &s, EXPR_V("x", &a), EXPR_IS("begin", from, s.rank),
                   EXPR_IS("end", to, s.rank), EXPR_IS("stride", step, s.rank), EXPR_BS("begin_mask", begins, s.rank),
                   EXPR_BS("end_mask", ends, s.rank));
}

rq_mil_expr_val rq_mil_expr_gather(rq_mil_expr *x, rq_mil_expr_val a, rq_mil_expr_val at, int axis, const rq_shape *out)
{
    const bool later = x->e->target >= RQ_COREML_IOS17;
    rq_mil_expr inner = rq_mil_expr_of(x->e, x->n);
    inner.of = root(x);
    if (a.d == RQ_DTYPE_BOOL || (!later && (a.d == RQ_DTYPE_S8 || a.d == RQ_DTYPE_U8)))
        return rq_mil_expr_cast(x, rq_mil_expr_gather(&inner, rq_mil_expr_plain(&inner, a), at, axis, out), a.d);
    return EXPR_OP(x, "gather", a.d, out, EXPR_V("x", &a), EXPR_V("indices", &at), EXPR_I("axis", axis),
                   EXPR_WHEN(x->e->target >= RQ_COREML_IOS16, EXPR_I("batch_dims", 0)),
                   EXPR_WHEN(later, EXPR_B("validate_indices", false)));
}

rq_mil_expr_val rq_mil_expr_float(rq_mil_expr *x, rq_mil_expr_val a)
{
    const int out = x->out;
    x->out = -1;
    a = rq_mil_expr_cast(x, a, RQ_DTYPE_F32);
    x->out = out;
    return a;
}

rq_mil_expr_val rq_mil_expr_plain(rq_mil_expr *x, rq_mil_expr_val a)
{
    const int out = x->out;
    x->out = -1;
    a = rq_mil_expr_cast(x, a, a.d == RQ_DTYPE_F32 ? RQ_DTYPE_F32 : RQ_DTYPE_S32);
    x->out = out;
    return a;
}

rq_mil_expr_val rq_mil_expr_movable(rq_mil_expr *x, rq_mil_expr_val a)
{
    return x->e->target >= RQ_COREML_IOS17 || (a.d != RQ_DTYPE_S8 && a.d != RQ_DTYPE_U8) ? a : rq_mil_expr_plain(x, a);
}

rq_mil_expr_val rq_mil_expr_along(rq_mil_expr *x, rq_mil_expr_val a, int rank, int axis)
{
    rq_shape s = rq_shape_of(0, NULL);
    s.rank = rank;
    for (int i = 0; i < rank; i++)
        s.dim[i] = 1;
    if (a.shape.rank == 1)
        s.dim[axis] = a.shape.dim[0];
    return a.shape.rank == 0 || (a.shape.rank == 1 && axis == rank - 1) ? a : rq_mil_expr_reshape(x, a, &s);
}

void rq_mil_expr_give(rq_mil_expr *x, rq_mil_expr_val a)
{
    x->out = x->out < 0 ? 0 : x->out;
    const rq_id out = rq_node_out(x->n, x->out);
    const rq_mil_dtype *as = out >= 0 ? rq_mil_emit_dtype(x->e, out) : NULL;
    if (!root(x)->st && as && (as->dtype == RQ_DTYPE_F16 ? RQ_DTYPE_F32 : as->dtype) != a.d)
        rq_mil_expr_cast(x, a, as->dtype);
    else if (!root(x)->st && out >= 0 && a.id >= 0 && a.id != out)
        fail(x, rq_mil_emit_alias(x->e, out, a.id));
    else
        EXPR_OP(x, "identity", a.d, &a.shape, EXPR_V("x", &a));
    x->out = -1;
}
