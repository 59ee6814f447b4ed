/* coreml/fold.c — operations that only lay a weight out anew, behind a constexpr_affine_dequantize that nothing else reads: done to the codes. A transpose
 * of any, with the axis of the scales; reshape, expand_dims and squeeze where there is one scale. */
#include <string.h>

#include "base/mem.h"
#include "coreml/weights.h"

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory to compress weights");
}

/* A vector of int32 that is a permutation of 0 .. rank-1, negative ones counted from the end. */
static bool permutation(const rq_mil_value *v, int64_t rank, int32_t perm[RQ_MIL_MAX_RANK])
{
    uint32_t seen = 0;
    if (!v || v->kind != RQ_MIL_IMMEDIATE || v->type->dtype->store != RQ_MIL_STORE_INTS || (int64_t)v->n != rank)
        return false;
    for (int64_t i = 0; i < rank; i++) {
        const int32_t at = ((const int32_t *)v->data)[i];
        perm[i] = at < 0 ? at + (int32_t)rank : at;
        if (perm[i] < 0 || perm[i] >= rank)
            return false;
        seen |= 1U << perm[i];
    }
    return seen == (1U << rank) - 1;
}

/* The codes with axis i where perm[i] was. */
static void transpose(uint8_t *to, const uint8_t *from, int rank, const rq_mil_dim *dim, const int32_t *perm)
{
    int64_t stride[RQ_MIL_MAX_RANK] = { 0 }, at[RQ_MIL_MAX_RANK] = { 0 }, n = 1;
    for (int i = rank - 1; i >= 0; i--) {
        stride[i] = n;
        n *= (int64_t)dim[i].size;
    }
    int64_t source = 0;
    for (int64_t i = 0; i < n; i++) {
        to[i] = from[source];
        for (int k = rank - 1; k >= 0; k--) {
            source += stride[perm[k]];
            if (++at[k] < (int64_t)dim[perm[k]].size)
                break;
            source -= at[k] * stride[perm[k]];
            at[k] = 0;
        }
    }
}

static bool is_scalar(const rq_mil_value *v)
{
    return v && v->type->rank == 0;
}

/* The operation that can be done to the codes of op: its only reader; NULL: there is none. perm[0] -1: the codes stay in their order. */
static rq_mil_op *foldable(const rq_coreml_uses *u, const rq_mil_op *op, int32_t perm[RQ_MIL_MAX_RANK])
{
    const rq_coreml_def *d = rq_coreml_uses_of(u, op, 0);
    if (!d || d->n_uses != 1 || !d->use[0].op || d->use[0].block != d->block)
        return NULL;
    rq_mil_op *next = d->use[0].op;
    bool known;
    if (next->n_outputs != 1 || strcmp(next->args[d->use[0].arg].param, "x") != 0)
        return NULL;
    rq_mil_type_count(next->outputs[0].type, &known);
    if (!known || next->outputs[0].type->rank < 1)
        return NULL;
    perm[0] = -1;
    if (!strcmp(next->type, "transpose"))
        return permutation(rq_coreml_param(u, next, "perm"), op->outputs[0].type->rank, perm) ? next : NULL;
    if (strcmp(next->type, "reshape") != 0 && strcmp(next->type, "expand_dims") != 0 &&
        strcmp(next->type, "squeeze") != 0)
        return NULL;
    return is_scalar(rq_mil_op_attr(op, "scale")) && is_scalar(rq_mil_op_attr(op, "zero_point")) ? next : NULL;
}

static rq_status fold(rq_coreml *m, rq_mil_block *b, const rq_mil_op *op, rq_mil_op *next, const int32_t *perm,
                      rq_err *err)
{
    rq_mil_program *p = &m->program;
    rq_mil_value *v = rq_mil_op_attr(op, "quantized_data"), *axis = rq_mil_op_attr(op, "axis");
    const rq_mil_type *was = v->type, *is = next->outputs[0].type;
    const uint8_t *codes;
    uint64_t n;
    int64_t dim[RQ_MIL_MAX_RANK] = { 0 };
    RQ_TRY(rq_coreml_weight_bytes(m, v, &codes, &n, err));
    bool known;
    if (rq_mil_type_count(is, &known) != v->n || n != v->n)
        return rq_fail(err, RQ_BAD_FILE, "'%.100s' gives another number of elements than it takes",
                       rq_mil_op_name(next));
    for (int64_t i = 0; i < is->rank; i++)
        dim[i] = (int64_t)is->dim[i].size;
    uint8_t *moved = rq_mem_alloc((size_t)n, 1);
    if (!moved)
        return no_memory(err);
    if (perm[0] < 0)
        memcpy(moved, codes, (size_t)n);
    else
        transpose(moved, codes, (int)was->rank, was->dim, perm);
    int32_t along = axis->n == 1 ? *(const int32_t *)axis->data : 0;
    along += along < 0 ? (int32_t)was->rank : 0;
    for (int i = 0; perm[0] >= 0 && i < is->rank; i++)
        if (perm[i] == along) {
            along = i;
            break;
        }
    rq_mil_op *made = rq_mil_op_make(p, op->type, rq_mil_op_name(next));
    const bool ok = made && rq_mil_op_set_attr(p, made, "axis", rq_mil_int(p, perm[0] < 0 ? 0 : along)) &&
                    rq_mil_op_set_attr(p, made, "quantized_data",
                                       rq_coreml_value(m, was->dtype->name, (int)is->rank, dim, moved)) &&
                    rq_mil_op_set_attr(p, made, "scale", rq_mil_op_attr(op, "scale")) &&
                    rq_mil_op_set_attr(p, made, "zero_point", rq_mil_op_attr(op, "zero_point")) &&
                    rq_mil_op_output(p, made, next->outputs[0].name, next->outputs[0].type);
    rq_mem_free(moved);
    if (!ok)
        return no_memory(err);
    b->ops[rq_coreml_uses_position(b, next)] = made;
    rq_coreml_uses_remove(b, op);
    return RQ_OK;
}

rq_status rq_coreml_fold_layout(rq_coreml *m, const rq_coreml_uses *u, rq_mil_block *b, bool *changed, rq_err *err)
{
    for (int i = 0; i < b->n_ops; i++) {
        const rq_mil_op *op = b->ops[i];
        const rq_mil_value *v = rq_mil_op_attr(op, "quantized_data"), *axis = rq_mil_op_attr(op, "axis");
        int32_t perm[RQ_MIL_MAX_RANK] = { 0 };
        if (strcmp(op->type, "constexpr_affine_dequantize") != 0 || op->n_outputs != 1 || !v || !axis ||
            axis->kind != RQ_MIL_IMMEDIATE || axis->type->dtype->store != RQ_MIL_STORE_INTS ||
            v->type->kind != RQ_MIL_TENSOR || v->type->dtype->bits != 8 || v->type->rank != op->outputs[0].type->rank)
            continue;
        rq_mil_op *next = foldable(u, op, perm);
        if (!next)
            continue;
        *changed = true;
        return fold(m, b, op, next, perm, err); /* look again: operations moved */
    }
    return RQ_OK;
}
