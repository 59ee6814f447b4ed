/* nn/nn.c — networks under construction: values, scopes, modules by name, nodes. Layers are nn/layers.c and its neighbours. */
#include "nn/nn.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ops/op.h"

enum { OPSET = 20 };

rq_status rq_nn_create(rq_nn **out, uint64_t seed)
{
    *out = NULL;
    rq_nn *n = rq_mem_zalloc(1, sizeof *n);
    if (!n)
        return RQ_NO_MEMORY;
    n->seed = seed;
    if (rq_graph_create(&n->g) || rq_graph_set_opset(n->g, "", OPSET) ||
        !rq_mem_grow(&n->scopes, 0, &n->cap_scopes, sizeof *n->scopes)) {
        rq_nn_destroy(n);
        return RQ_NO_MEMORY;
    }
    n->scopes[n->n_scopes++] = (rq_nn_scope) { "", 0 };
    *out = n;
    return RQ_OK;
}

void rq_nn_destroy(rq_nn *n)
{
    if (!n)
        return;
    rq_graph_destroy(n->g);
    rq_mem_free(n->modules);
    rq_mem_free(n->scopes);
    rq_arena_release(&n->text);
    rq_mem_free(n);
}

rq_status rq_nn_finish(rq_nn *n, rq_graph **out, rq_err *err)
{
    if (!n)
        return rq_fail(err, RQ_NO_MEMORY, "not enough memory for a network");
    if (rq_nn_ok(n) && n->n_scopes > 1)
        rq_nn_fail(n, RQ_BAD_ARG, "'%s' was entered and never left", rq_nn_here(n));
    if (rq_nn_ok(n) && !n->g->n_outputs)
        rq_nn_fail(n, RQ_BAD_GRAPH, "the network has no output");
    if (rq_nn_ok(n)) {
        rq_ops_bind(n->g);
        const rq_status s = rq_graph_check(n->g, &n->err);
        n->err.code = s;
    }
    const rq_status s = n->err.code;
    if (s) {
        if (err)
            *err = n->err;
    } else {
        *out = n->g;
        n->g = NULL;
    }
    rq_nn_destroy(n);
    return s;
}

/* ---- mistakes ---- */

rq_nn_value rq_nn_fail(rq_nn *n, rq_status code, const char *fmt, ...)
{
    if (!rq_nn_ok(n))
        return RQ_NN_FAILED;
    char text[sizeof n->err.text];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    (void)rq_fail(&n->err, code, "%s", text);
    n->err.code = code;
    return RQ_NN_FAILED;
}

rq_nn_value rq_nn_bad(rq_nn *n, const rq_nn_module *m, rq_status code, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return rq_nn_fail(n, code, "module '%s' (%s): %s", m->path, m->type, text);
}

static void no_memory(rq_nn *n)
{
    rq_nn_fail(n, RQ_NO_MEMORY, "not enough memory for a network");
}

/* What a call into the graph said. */
static void take(rq_nn *n, rq_status s, const rq_err *err)
{
    if (s == RQ_NO_MEMORY)
        no_memory(n);
    else if (s)
        rq_nn_fail(n, s, "%s", err->text);
}

static bool is_value(const rq_nn *n, rq_nn_value x)
{
    return x >= 0 && x < n->g->n_values && n->g->values[x].kind != RQ_VALUE_DEAD;
}

/* ---- ends and scopes ---- */

static bool grow_list(rq_nn *n, rq_id **list, int *count, int *cap, rq_id id)
{
    if (!rq_mem_grow(list, *count, cap, sizeof **list)) {
        no_memory(n);
        return false;
    }
    (*list)[(*count)++] = id;
    return true;
}

rq_nn_value rq_nn_input(rq_nn *n, const char *name, rq_dtype d, int rank, const int64_t *dim)
{
    rq_id id = RQ_NONE;
    rq_err err = { 0 };
    if (!rq_nn_ok(n))
        return RQ_NN_FAILED;
    if (!name || !name[0] || rank < 0 || rank > RQ_MAX_RANK)
        return rq_nn_fail(n, RQ_BAD_ARG, "an input needs a name and 0 to %d axes, not %d", RQ_MAX_RANK, rank);
    const rq_shape s = rq_shape_of(rank, dim);
    take(n, rq_graph_add_value(n->g, &id, RQ_VALUE_INPUT, name, d, &s, &err), &err);
    return rq_nn_ok(n) && grow_list(n, &n->g->inputs, &n->g->n_inputs, &n->g->cap_inputs, id) ? id : RQ_NN_FAILED;
}

int64_t rq_nn_dim(rq_nn *n, const char *name)
{
    if (!rq_nn_ok(n))
        return RQ_DIM_UNKNOWN;
    const int64_t dim = rq_graph_symbol(n->g, name);
    if (dim == RQ_DIM_UNKNOWN)
        no_memory(n);
    return dim;
}

void rq_nn_output(rq_nn *n, const char *name, rq_nn_value x)
{
    rq_err err = { 0 };
    if (!rq_nn_ok(n))
        return;
    if (!is_value(n, x) || !name || !name[0]) {
        rq_nn_fail(n, RQ_BAD_ARG, "output '%s' is given no value of the network", name ? name : "");
        return;
    }
    if (n->g->values[x].kind != RQ_VALUE_NODE || rq_graph_is_output(n->g, x)) /* under a name of its own */
        x = rq_nn_apply(n, rq_nn_here(n), NULL, "Identity", &x, 1);
    if (rq_nn_ok(n))
        take(n, rq_graph_rename(n->g, x, name, &err), &err);
    if (rq_nn_ok(n))
        grow_list(n, &n->g->outputs, &n->g->n_outputs, &n->g->cap_outputs, x);
}

rq_shape rq_nn_shape(const rq_nn *n, rq_nn_value x)
{
    return rq_nn_ok(n) && is_value(n, x) ? n->g->values[x].shape : rq_shape_unknown();
}

const char *rq_nn_here(const rq_nn *n)
{
    return n->scopes[n->n_scopes - 1].path;
}

/* "<scope>.<name>", with a number where the name is NULL; NULL: a mistake. */
static const char *path_of(rq_nn *n, const char *name)
{
    char number[16], path[RQ_NN_PATH];
    rq_nn_scope *s = &n->scopes[n->n_scopes - 1];
    if (name &&
        (!name[0] || strchr(name, '/') || name[0] == '.' || name[strlen(name) - 1] == '.' || strstr(name, ".."))) {
        rq_nn_fail(n, RQ_BAD_ARG, "'%s' is no name of a module: words with dots between them, without '/'", name);
        return NULL;
    }
    snprintf(number, sizeof number, "%d", s->next++);
    const int len = snprintf(path, sizeof path, "%s%s%s", s->path, s->path[0] ? "." : "", name ? name : number);
    if (len >= (int)sizeof path) {
        rq_nn_fail(n, RQ_BAD_ARG, "'%.60s...' is too long a name: at most %d bytes with what it lies in", path,
                   RQ_NN_PATH - 1);
        return NULL;
    }
    const char *kept = rq_arena_strndup(&n->text, path, (size_t)len);
    if (!kept)
        no_memory(n);
    return kept;
}

void rq_nn_enter(rq_nn *n, const char *name)
{
    if (!rq_nn_ok(n))
        return;
    const char *path = path_of(n, name);
    if (!path)
        return;
    if (!rq_mem_grow(&n->scopes, n->n_scopes, &n->cap_scopes, sizeof *n->scopes))
        no_memory(n);
    else
        n->scopes[n->n_scopes++] = (rq_nn_scope) { path, 0 };
}

void rq_nn_leave(rq_nn *n)
{
    if (!rq_nn_ok(n))
        return;
    if (n->n_scopes == 1)
        rq_nn_fail(n, RQ_BAD_ARG, "the network is left more often than something was entered");
    else
        n->n_scopes--;
}

/* ---- modules ---- */

rq_nn_module *rq_nn_use(rq_nn *n, const char *name, const char *type, const int64_t *key, int n_key,
                        const rq_nn_value *x, int n_x)
{
    if (!rq_nn_ok(n))
        return NULL;
    const char *path = path_of(n, name);
    if (!path)
        return NULL;
    for (int i = 0; i < n_x; i++)
        if (!is_value(n, x[i])) {
            rq_nn_fail(n, RQ_BAD_ARG, "module '%s' (%s) is applied to %d, which is no value of the network", path, type,
                       x[i]);
            return NULL;
        }
    for (int i = 0; i < n->n_modules; i++) {
        rq_nn_module *m = n->modules[i];
        if (strcmp(m->path, path))
            continue;
        if (strcmp(m->type, type))
            rq_nn_fail(n, RQ_BAD_ARG, "module '%s' is a %s, it cannot be applied as a %s", path, m->type, type);
        else if (m->n_key != n_key || (n_key && memcmp(m->key, key, (size_t)n_key * sizeof *key) != 0))
            rq_nn_bad(n, m, RQ_BAD_ARG,
                      "it is applied again with other settings, or to other sizes, than it was made with");
        return rq_nn_ok(n) ? m : NULL;
    }
    rq_nn_module *m = rq_arena_alloc(&n->text, 1, sizeof *m);
    if (!m || !rq_mem_grow(&n->modules, n->n_modules, &n->cap_modules, sizeof(rq_nn_module *))) {
        no_memory(n);
        return NULL;
    }
    *m = (rq_nn_module) { .path = path, .type = type, .n_key = n_key };
    for (int i = 0; i < n_key; i++)
        m->key[i] = key[i];
    for (int i = 0; i < RQ_NN_PARAMS; i++)
        m->param[i] = RQ_NONE;
    n->modules[n->n_modules++] = m;
    return m;
}

/* A new f32 constant "<path>.<name>", cleared. */
static rq_id new_constant(rq_nn *n, const char *full, rq_tensor *t, int rank, const int64_t *dim, rq_dtype d)
{
    rq_id id = RQ_NONE;
    rq_err err = { 0 };
    const rq_shape s = rq_shape_of(rank, dim);
    if (rq_shape_check(&s)) {
        rq_nn_fail(n, RQ_BAD_SHAPE, "'%s' would have too many elements, or a negative number", full);
        return RQ_NONE;
    }
    if (rq_tensor_create(t, d, &s, true)) {
        no_memory(n);
        return RQ_NONE;
    }
    take(n, rq_graph_add_const(n->g, &id, full, t, &err), &err);
    return rq_nn_ok(n) ? id : RQ_NONE;
}

static rq_id parameter(rq_nn *n, rq_nn_module *m, int slot, const char *name, int rank, const int64_t *dim,
                       rq_nn_start start, rq_trainable trainable)
{
    char full[RQ_NN_PATH + 64];
    rq_tensor t = { 0 };
    if (!rq_nn_ok(n))
        return RQ_NONE;
    if (m->param[slot] != RQ_NONE)
        return m->param[slot];
    snprintf(full, sizeof full, "%s.%s", m->path, name);
    const rq_id id = new_constant(n, full, &t, rank, dim, RQ_DTYPE_F32);
    if (id != RQ_NONE) {
        n->g->values[id].trainable = trainable;
        m->param[slot] = id;
        const rq_status s = rq_nn_fill(&t, start, n->seed, full);
        if (s)
            rq_nn_bad(n, m, s, "'%s' cannot be initialized", full);
    }
    rq_tensor_release(&t);
    return id;
}

rq_id rq_nn_param(rq_nn *n, rq_nn_module *m, int slot, const char *name, int rank, const int64_t *dim,
                  rq_nn_start start)
{
    return parameter(n, m, slot, name, rank, dim, start, RQ_TRAINABLE_YES);
}

rq_id rq_nn_fixed(rq_nn *n, rq_nn_module *m, int slot, const char *name, int rank, const int64_t *dim, double value)
{
    return parameter(n, m, slot, name, rank, dim, (rq_nn_start) { RQ_NN_INIT_CONSTANT, value, 0 }, RQ_TRAINABLE_NO);
}

/* "/a/b/<last>" of path "a.b". */
static void node_name(char *buf, size_t n, const char *path, const char *last)
{
    const int len = snprintf(buf, n, "/%s%s%s", path, path[0] ? "/" : "", last);
    for (int i = 1; i < len - (int)strlen(last) && i < (int)n; i++)
        if (buf[i] == '.')
            buf[i] = '/';
}

static rq_id spelled(rq_nn *n, const char *path, const char *name, rq_tensor *t, int rank, const int64_t *dim,
                     rq_dtype d)
{
    char full[RQ_NN_PATH + 64];
    if (!rq_nn_ok(n))
        return RQ_NONE;
    node_name(full, sizeof full, path, name);
    const char *fresh = rq_graph_fresh_name(n->g, full);
    if (!fresh) {
        no_memory(n);
        return RQ_NONE;
    }
    const rq_id id = new_constant(n, fresh, t, rank, dim, d);
    if (id != RQ_NONE)
        n->g->values[id].trainable = RQ_TRAINABLE_NO;
    return id;
}

rq_id rq_nn_floats(rq_nn *n, const char *path, const char *name, int rank, const float *v, int64_t count)
{
    rq_tensor t = { 0 };
    const rq_id id = spelled(n, path, name, &t, rank, &count, RQ_DTYPE_F32);
    if (id != RQ_NONE)
        memcpy(t.data, v, (size_t)(rank ? count : 1) * sizeof *v);
    rq_tensor_release(&t);
    return id;
}

rq_id rq_nn_ints(rq_nn *n, const char *path, const char *name, const int64_t *v, int64_t count)
{
    rq_tensor t = { 0 };
    const rq_id id = spelled(n, path, name, &t, 1, &count, RQ_DTYPE_S64);
    if (id != RQ_NONE)
        memcpy(t.data, v, (size_t)count * sizeof *v);
    rq_tensor_release(&t);
    return id;
}

/* ---- nodes ---- */

static bool node_is_called(const rq_graph *g, const char *name)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && !strcmp(g->nodes[i].name, name))
            return true;
    return false;
}

rq_id rq_nn_open(rq_nn *n, const char *path, const char *last, const char *op, const rq_id *in, int n_in, int n_out)
{
    enum { MOST_OUT = 4 };
    char base[RQ_NN_PATH + 64], name[RQ_NN_PATH + 96], value[RQ_NN_PATH + 128];
    rq_id out[MOST_OUT], node = RQ_NONE;
    rq_err err = { 0 };
    if (!rq_nn_ok(n))
        return RQ_NONE;
    for (int i = 0; i < n_in; i++)
        if (in[i] != RQ_NONE && !is_value(n, in[i])) {
            rq_nn_fail(n, RQ_BAD_ARG, "%s in '%s' is applied to %d, which is no value of the network", op, path, in[i]);
            return RQ_NONE;
        }
    node_name(base, sizeof base, path, last ? last : op);
    snprintf(name, sizeof name, "%s", base);
    for (int i = 1; node_is_called(n->g, name); i++)
        snprintf(name, sizeof name, "%s_%d", base, i);
    const rq_shape unknown = rq_shape_unknown();
    for (int i = 0; i < n_out && rq_nn_ok(n); i++) {
        snprintf(value, sizeof value, "%s_output_%d", name, i);
        const char *fresh = rq_graph_fresh_name(n->g, value);
        if (!fresh)
            no_memory(n);
        else
            take(n, rq_graph_add_value(n->g, &out[i], RQ_VALUE_NODE, fresh, RQ_DTYPE_NONE, &unknown, &err), &err);
    }
    if (rq_nn_ok(n))
        take(n, rq_graph_add_node(n->g, &node, op, "", name, in, n_in, out, n_out, &err), &err);
    return rq_nn_ok(n) ? node : RQ_NONE;
}

static void took_attr(rq_nn *n, rq_status s)
{
    if (s)
        no_memory(n);
}

void rq_nn_set_int(rq_nn *n, rq_id node, const char *name, int64_t v)
{
    if (node != RQ_NONE && rq_nn_ok(n))
        took_attr(n, rq_attr_set_int(n->g, node, name, v));
}

void rq_nn_set_float(rq_nn *n, rq_id node, const char *name, double v)
{
    if (node != RQ_NONE && rq_nn_ok(n))
        took_attr(n, rq_attr_set_float(n->g, node, name, (float)v));
}

void rq_nn_set_ints(rq_nn *n, rq_id node, const char *name, const int64_t *v, int count)
{
    if (node != RQ_NONE && rq_nn_ok(n))
        took_attr(n, rq_attr_set_ints(n->g, node, name, v, count));
}

void rq_nn_set_string(rq_nn *n, rq_id node, const char *name, const char *v)
{
    if (node != RQ_NONE && rq_nn_ok(n))
        took_attr(n, rq_attr_set_string(n->g, node, name, v));
}

rq_nn_value rq_nn_close(rq_nn *n, rq_id node)
{
    enum { MOST_IN = 16, MOST_OUT = 4 };
    rq_tensor t[MOST_IN];
    const rq_tensor *in[MOST_IN];
    rq_dtype d[MOST_OUT] = { RQ_DTYPE_NONE };
    rq_shape s[MOST_OUT];
    rq_err err = { 0 };
    if (node == RQ_NONE || !rq_nn_ok(n))
        return RQ_NN_FAILED;
    rq_node *at = &n->g->nodes[node];
    at->row = rq_op_find(at->domain, at->op);
    for (int i = 0; i < at->n_in && i < MOST_IN; i++) {
        in[i] = NULL;
        if (at->in[i] == RQ_NONE)
            continue;
        const rq_value *v = &n->g->values[at->in[i]];
        t[i] = v->kind == RQ_VALUE_CONST ? v->constant : (rq_tensor) { .dtype = v->dtype, .shape = v->shape };
        in[i] = &t[i];
    }
    if (at->n_in <= MOST_IN) { /* a longer Concat is not looked into */
        for (int i = 0; i < MOST_OUT; i++)
            s[i] = rq_shape_unknown();
        take(n, rq_ops_infer_node(n->g, at, in, d, s, &err), &err);
        for (int i = 0; i < at->n_out && rq_nn_ok(n); i++) {
            n->g->values[at->out[i]].dtype = d[i];
            n->g->values[at->out[i]].shape = s[i];
        }
    }
    return rq_nn_ok(n) ? at->out[0] : RQ_NN_FAILED;
}

rq_nn_value rq_nn_apply(rq_nn *n, const char *path, const char *last, const char *op, const rq_id *in, int n_in)
{
    return rq_nn_close(n, rq_nn_open(n, path, last, op, in, n_in, 1));
}

int64_t rq_nn_size(rq_nn *n, const rq_nn_module *m, rq_nn_value x, int axis)
{
    char text[RQ_SHAPE_TEXT];
    const rq_shape *s = &n->g->values[x].shape;
    if (axis < 0)
        axis += s->rank;
    if (s->rank >= 0 && axis >= 0 && axis < s->rank && s->dim[axis] > 0)
        return s->dim[axis];
    if (s->rank < 0)
        rq_nn_bad(n, m, RQ_BAD_SHAPE, "the shape of its input is not known");
    else
        rq_nn_bad(n, m, RQ_BAD_SHAPE, "its input has shape %s; the size of axis %d must be known, and more than 0",
                  rq_shape_text(s, text, sizeof text), axis);
    return 0;
}
