/* coreml/prune_weights.c — prune_weights: small weights become zeros, and what stays is stored without them (docs/coreml-facts.md 8.6). With `joint`,
 * weights that are quantized or palettized already lose codes instead: what is pruned is what they decompress to. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "coreml/palette_op.h"
#include "coreml/weights.h"
#include "formats/mil_constexpr.h"

static rq_status no_memory(const rq_coreml_weight *w, rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory pruning '%s'", w->name);
}

/* Blocks and n:m are for weights of conv and linear. */
static bool is_weight_of_layer(const rq_coreml_weight *w)
{
    for (int i = 0; w->def && i < w->def->n_uses; i++) {
        const rq_coreml_use *u = &w->def->use[i];
        if (!u->op || (strcmp(u->op->type, "conv") != 0 && strcmp(u->op->type, "linear") != 0) ||
            strcmp(u->op->args[u->arg].param, "weight") != 0)
            return false;
    }
    return w->def != NULL;
}

static rq_coreml_dense dense_of(const rq_mil_type *t, int64_t dim[RQ_MIL_MAX_RANK])
{
    for (int i = 0; i < t->rank; i++)
        dim[i] = (int64_t)t->dim[i].size;
    return (rq_coreml_dense) { .type = t->dtype, .rank = (int)t->rank, .dim = dim };
}

static uint64_t bytes_of(const rq_prune *p, int bits)
{
    return (uint64_t)(p->n + 7) / 8 + ((uint64_t)p->kept * (uint64_t)bits + 7) / 8;
}

/* ---- a constant ---- */

static rq_status put_constant(rq_coreml_weight *w, const rq_prune *p, const rq_coreml_dense *d, rq_err *err)
{
    rq_coreml *m = w->m;
    const char *name = rq_coreml_weight_name(w, "_sparsified");
    const char *output = name ? rq_coreml_weight_output(w, name) : NULL;
    rq_mil_op *op = output ? rq_coreml_sparse_op(m, name, output, d) : NULL;
    if (!op || !rq_coreml_op_set(m, op, "nonzero_data", rq_coreml_kept_value(m, p, d, false)) ||
        !rq_coreml_op_set(m, op, "mask", rq_coreml_mask_value(m, p, d)))
        return no_memory(w, err);
    RQ_TRY(rq_coreml_weight_replace(w, op, 0, NULL, err));
    return rq_coreml_weight_done(w, op->type, bytes_of(p, d->type->bits), err);
}

/* ---- a weight that is compressed ---- */

typedef struct way {
    const char *op, *sparse;        /* from, to */
    const char *data, *kept, *mask; /* its elements; of what it becomes */
    const char *copied[4];          /* parameters that stay */
} way;

static const way ways[] = {
    { "constexpr_blockwise_shift_scale",
      "constexpr_sparse_blockwise_shift_scale",
      "data",
      "nonzero_data",
      "data_mask",
      { "scale", "offset" } },
    { "constexpr_lut_to_dense",
      "constexpr_lut_to_sparse",
      "indices",
      "indices_nonzero_data",
      "indices_mask",
      { "lut", "vector_axis" } },
};

/* "constexpr_lut_to_sparse_0", or the first that is free. */
static const char *free_name(const rq_coreml_weight *w, const char *type)
{
    rq_coreml_weight named = *w;
    named.name = type;
    for (int i = 0;; i++) {
        char suffix[16];
        snprintf(suffix, sizeof suffix, "_%d", i);
        const char *name = rq_coreml_weight_name(&named, suffix);
        if (!name || strlen(name) == strlen(type) + strlen(suffix))
            return name;
    }
}

static rq_status put_masked(rq_coreml_weight *w, const rq_prune *p, const rq_coreml_dense *d, const way *how,
                            rq_err *err)
{
    rq_coreml *m = w->m;
    rq_mil_value *codes = rq_coreml_param(&w->walk->uses, w->op, how->data);
    int64_t dim[RQ_MIL_MAX_RANK];
    if (!codes || codes->type->rank != d->rank || codes->n != (uint64_t)p->n)
        return rq_coreml_weight_left(w, true, err, "its %s are not constants of its own shape", how->data);
    rq_coreml_dense data = dense_of(codes->type, dim);
    const uint8_t *bytes;
    uint64_t size;
    RQ_TRY(rq_coreml_weight_bytes(m, codes, &bytes, &size, err));
    data.data = bytes;
    const char *name = free_name(w, how->sparse), *spread = rq_coreml_weight_name(w, "_sparsified");
    const char *output = spread ? rq_coreml_weight_output(w, spread) : NULL;
    rq_mil_op *op =
        output && name ? rq_coreml_masked_op(m, how->sparse, name, d->rank, d->dim, d->type, p->kept) : NULL;
    rq_mil_op *dense = op ? rq_coreml_sparse_op(m, spread, output, d) : NULL;
    if (!dense || !rq_coreml_op_set(m, op, how->mask, rq_coreml_mask_value(m, p, d)) ||
        !rq_coreml_op_set(m, op, how->kept, rq_coreml_kept_value(m, p, &data, false)) ||
        !rq_mil_op_bind(&m->program, dense, "nonzero_data", op->outputs[1].name) ||
        !rq_mil_op_bind(&m->program, dense, "mask", op->outputs[0].name))
        return no_memory(w, err);
    for (int i = 0; how->copied[i]; i++)
        if (rq_mil_op_arg(w->op, how->copied[i]) && !rq_coreml_op_copy(m, op, how->copied[i], w->op, how->copied[i]))
            return no_memory(w, err);
    RQ_TRY(rq_coreml_weight_replace(w, dense, 0, NULL, err));
    if (!rq_mil_block_insert(&m->program, w->block, rq_coreml_uses_position(w->block, dense), op))
        return no_memory(w, err);
    return rq_coreml_weight_done(w, op->type, bytes_of(p, data.type->bits), err);
}

/* What w decompresses to. */
static rq_status evaluate(const rq_coreml_weight *w, rq_tensor *out, rq_err *err)
{
    rq_arena a = { 0 };
    rq_mil_constants top, inner;
    const rq_mil_block *outer = w->def->f->block;
    rq_status s = rq_mil_constants_of(&top, outer, NULL, &a, err);
    if (!s)
        s = rq_mil_constants_of(&inner, w->block, &top, &a, err);
    if (!s)
        s = rq_mil_constexpr(out, w->m, &inner, w->op, 0, err);
    rq_arena_release(&a);
    return s;
}

static rq_status prune_compressed(rq_coreml_weight *w, rq_prune *p, rq_tensor *t, rq_err *err)
{
    char why[RQ_PRUNE_WHY];
    int64_t dim[RQ_MIL_MAX_RANK];
    const way *how = !strcmp(w->op->type, ways[0].op) ? &ways[0] : &ways[1];
    rq_coreml_dense d = dense_of(w->op->outputs[0].type, dim);
    RQ_TRY(evaluate(w, t, err));
    if (t->dtype != RQ_DTYPE_F32 && t->dtype != RQ_DTYPE_F16)
        return rq_coreml_weight_left(w, true, err, "it does not decompress to reals");
    *p = (rq_prune) { .data = t->data, .dtype = t->dtype, .rank = d.rank, .dim = dim };
    RQ_TRY(rq_prune_make(p, w->config, why, err));
    return *why ? rq_coreml_weight_left(w, true, err, "%s", why) : put_masked(w, p, &d, how, err);
}

static rq_status prune_constant(rq_coreml_weight *w, rq_prune *p, rq_err *err)
{
    char why[RQ_PRUNE_WHY];
    int64_t dim[RQ_MIL_MAX_RANK];
    const uint8_t *data;
    uint64_t bytes;
    rq_coreml_dense d = dense_of(w->value->type, dim);
    if (d.type->bits < 8)
        return rq_coreml_weight_left(w, true, err, "its elements have less than 8 bits");
    RQ_TRY(rq_coreml_weight_bytes(w->m, w->value, &data, &bytes, err));
    d.data = data;
    *p = (rq_prune) { .data = data, .dtype = d.type->dtype, .rank = d.rank, .dim = dim };
    RQ_TRY(rq_prune_make(p, w->config, why, err));
    rq_coreml_weight_forget(w->value, data, bytes);
    return *why ? rq_coreml_weight_left(w, true, err, "%s", why) : put_constant(w, p, &d, err);
}

static rq_status compress(rq_coreml_weight *w, void *arg, rq_err *err)
{
    const rq_coreml_op_config *c = w->config;
    const bool structural = c->algorithm == RQ_COREML_MAGNITUDE_PRUNER && (c->block > 0 || c->n_m_ratio[1] > 0);
    rq_prune p = { 0 };
    rq_tensor t = { 0 };
    (void)arg;
    if (structural && !is_weight_of_layer(w) && !rq_coreml_rules_find(&w->walk->config->names, w->name))
        return rq_coreml_weight_left(
            w, true, err, "blocks and n:m are for weights of conv and linear, unless its own name is configured");
    const rq_status s = w->value ? prune_constant(w, &p, err) : prune_compressed(w, &p, &t, err);
    rq_prune_release(&p);
    rq_tensor_release(&t);
    return s;
}

static const char *const joint_ops[] = { "constexpr_blockwise_shift_scale", "constexpr_lut_to_dense", NULL };

rq_status rq_coreml_prune_weights(rq_coreml *m, const rq_coreml_config *c, bool together, rq_coreml_report **report,
                                  rq_err *err)
{
    static const rq_coreml_weights_row row = {
        .what = "prune_weights",
        .suffix = "_sparsified",
        .classes = 1u << RQ_COREML_MAGNITUDE_PRUNER | 1u << RQ_COREML_THRESHOLD_PRUNER,
        .joint_ops = joint_ops,
        .compress = compress,
    };
    return rq_coreml_weights_run(m, c, &row, together, NULL, report, err);
}
