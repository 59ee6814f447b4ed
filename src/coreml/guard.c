/* coreml/guard.c — indices of gathers: from iOS 17 on a negative index does not count from the end, so coremltools puts in front of every gather
 *
 *     not_negative = select(indices >= 0, indices, indices + size)
 *
 * and does it once more behind every compression, whether it is there already or not. docs/coreml-facts.md 8.4. */
#include <stdio.h>
#include <string.h>

#include "coreml/weights.h"

enum { OPSET_IOS17 = 7 };

typedef struct guard {
    rq_mil_program *p;
    const rq_coreml_uses *u;
    rq_mil_block *b;
    int at; /* where the next operation goes */
    int taken;
    rq_err *err;
} guard;

static rq_status no_memory(const guard *g)
{
    return rq_fail(g->err, RQ_NO_MEMORY, "not enough memory");
}

typedef struct search {
    const char *name;
    bool found;
} search;

static rq_status has_name(void *arg, const rq_mil_function *f, const rq_mil_op *op, rq_err *err)
{
    search *s = arg;
    (void)f;
    (void)err;
    s->found |= !strcmp(rq_mil_op_name(op), s->name);
    for (int i = 0; i < op->n_outputs; i++)
        s->found |= !strcmp(op->outputs[i].name, s->name);
    return RQ_OK;
}

/* A number k such that none of the names "<stem>_<k>" is taken. */
static int free_number(const guard *g)
{
    static const char *const stems[] = { "cast", "greater_equal", "add", "select", "slice_by_index" };
    for (int k = g->taken;; k++) {
        bool used = false;
        for (size_t i = 0; i < sizeof stems / sizeof stems[0] && !used; i++) {
            char name[64];
            search s = { .name = name };
            snprintf(name, sizeof name, "%s_%d", stems[i], k);
            rq_mil_each_op(g->p, has_name, &s, NULL);
            used = s.found;
        }
        if (!used)
            return k;
    }
}

/* A const "<name>" of v. */
static bool put_const(guard *g, const char *name, rq_mil_value *v)
{
    rq_mil_op *op = rq_mil_op_make(g->p, "const", name);
    return v && op && rq_mil_op_set_attr(g->p, op, "val", v) && rq_mil_op_output(g->p, op, name, v->type) &&
           rq_mil_block_insert(g->p, g->b, g->at++, op);
}

/* type(..) of up to three values by parameter name, which gives `name`. */
static bool put(guard *g, const char *type, const char *name, const char *const (*in)[2], int n, rq_mil_type *gives)
{
    rq_mil_op *op = rq_mil_op_make(g->p, type, name);
    for (int i = 0; i < n; i++)
        if (!op || !rq_mil_op_bind(g->p, op, in[i][0], in[i][1]))
            return false;
    return op && rq_mil_op_output(g->p, op, name, gives) && rq_mil_block_insert(g->p, g->b, g->at++, op);
}

/* The sizes that indices count along: of one axis, or of the first `n` (gather_nd); NULL: not known. */
static rq_mil_value *sizes(const guard *g, const rq_mil_op *op, const rq_mil_type *x, const rq_mil_type *indices)
{
    int32_t v[RQ_MIL_MAX_RANK];
    if (x->kind != RQ_MIL_TENSOR || x->rank < 1 || x->rank > RQ_MIL_MAX_RANK)
        return NULL;
    for (int64_t i = 0; i < x->rank; i++) {
        if (!x->dim[i].known || x->dim[i].size > INT32_MAX)
            return NULL;
        v[i] = (int32_t)x->dim[i].size;
    }
    if (!strcmp(op->type, "gather")) {
        const rq_mil_value *axis = rq_coreml_param(g->u, op, "axis");
        const bool is_int =
            axis && axis->kind == RQ_MIL_IMMEDIATE && axis->n == 1 && axis->type->dtype->store == RQ_MIL_STORE_INTS;
        int64_t k = is_int ? *(const int32_t *)axis->data : 0;
        k += k < 0 ? x->rank : 0;
        return k >= 0 && k < x->rank ? rq_mil_int(g->p, v[k]) : NULL;
    }
    if (indices->rank < 1 || !indices->dim[indices->rank - 1].known ||
        indices->dim[indices->rank - 1].size > (uint64_t)x->rank)
        return NULL;
    return rq_mil_ints(g->p, v, (int)indices->dim[indices->rank - 1].size);
}

static const rq_mil_type *type_of(const guard *g, const rq_mil_op *op, const char *param, bool *computed)
{
    const rq_mil_arg *arg = rq_mil_op_arg(op, param);
    for (int i = 0; arg && i < g->u->n; i++)
        for (int k = 0; k < g->u->def[i].n_uses; k++)
            if (g->u->def[i].use[k].op == op && &op->args[g->u->def[i].use[k].arg] == arg) {
                const rq_mil_op *made = g->u->def[i].op;
                *computed = !made || (strcmp(made->type, "const") != 0 && strncmp(made->type, "constexpr_", 10) != 0);
                return g->u->def[i].type;
            }
    return NULL;
}

static rq_status guard_gather(guard *g, rq_mil_op *op)
{
    bool computed = false, unused;
    const rq_mil_type *indices = type_of(g, op, "indices", &computed), *x = type_of(g, op, "x", &unused);
    if (!indices || !x || !computed || indices->kind != RQ_MIL_TENSOR || indices->rank < 0 ||
        indices->rank > RQ_MIL_MAX_RANK || indices->dtype->name[0] == 'u')
        return RQ_OK;
    rq_mil_value *size = sizes(g, op, x, indices);
    if (!size)
        return RQ_OK;
    const int k = g->taken = free_number(g);
    char zero[64], cast[32], cond[32], size_name[32], plus[32], chosen[32], to[48];
    snprintf(cast, sizeof cast, "cast_%d", k);
    snprintf(to, sizeof to, "cast_%d_dtype_0", k);
    snprintf(cond, sizeof cond, "greater_equal_%d", k);
    snprintf(zero, sizeof zero, "greater_equal_%d_y_0", k);
    snprintf(size_name, sizeof size_name, "slice_by_index_%d", k);
    snprintf(plus, sizeof plus, "add_%d", k);
    snprintf(chosen, sizeof chosen, "select_%d", k);
    int64_t dim[RQ_MIL_MAX_RANK];
    for (int64_t i = 0; i < indices->rank; i++)
        dim[i] = indices->dim[i].known ? (int64_t)indices->dim[i].size : -1;
    const rq_mil_dtype *s32 = rq_mil_dtype_of_name("int32");
    rq_mil_type *whole = rq_mil_tensor_type(g->p, s32, (int)indices->rank, dim),
                *yes = rq_mil_tensor_type(g->p, rq_mil_dtype_of_name("bool"), (int)indices->rank, dim);
    const char *from = rq_mil_op_arg(op, "indices")->binding[0].name;
    g->at = rq_coreml_uses_position(g->b, op);
    if (!whole || !yes)
        return no_memory(g);
    if (indices->dtype != s32) {
        if (!put_const(g, to, rq_mil_text(g->p, "int32")) ||
            !put(g, "cast", cast, (const char *const[][2]) { { "x", from }, { "dtype", to } }, 2, whole))
            return no_memory(g);
        from = cast;
    }
    const bool ok =
        put_const(g, zero, rq_mil_int(g->p, 0)) &&
        put(g, "greater_equal", cond, (const char *const[][2]) { { "x", from }, { "y", zero } }, 2, yes) &&
        put_const(g, size_name, size) &&
        put(g, "add", plus, (const char *const[][2]) { { "x", from }, { "y", size_name } }, 2, whole) &&
        put(g, "select", chosen, (const char *const[][2]) { { "cond", cond }, { "a", from }, { "b", plus } }, 3, whole);
    const char *name = ok ? g->b->ops[g->at - 1]->outputs[0].name : NULL;
    if (!name)
        return no_memory(g);
    rq_mil_op_arg(op, "indices")->binding[0].name = name;
    g->taken++;
    return RQ_OK;
}

static rq_status guard_block(guard *g, rq_mil_block *b)
{
    for (int i = 0; i < b->n_ops; i++) {
        rq_mil_op *op = b->ops[i];
        for (int k = 0; k < op->n_blocks; k++)
            RQ_TRY(guard_block(g, op->blocks[k]));
        g->b = b;
        if (!strcmp(op->type, "gather") || !strcmp(op->type, "gather_nd"))
            RQ_TRY(guard_gather(g, op));
        i = rq_coreml_uses_position(b, op);
    }
    return RQ_OK;
}

rq_status rq_coreml_guard_gathers(rq_coreml *m, rq_err *err)
{
    rq_coreml_uses u;
    RQ_TRY(rq_coreml_uses_init(&u, &m->program, err));
    guard g = { .p = &m->program, .u = &u, .err = err };
    rq_status st = RQ_OK;
    for (int i = 0; !st && i < m->program.n_functions && m->spec > OPSET_IOS17; i++)
        st = guard_block(&g, m->program.functions[i]->block);
    rq_coreml_uses_release(&u);
    return st;
}
