/* coreml/palettize.c — palettize_weights: weights become indices into tables (docs/coreml-facts.md 8.5). Of a quantized weight the codes are
 * palettized, of a sparse one the dense weight with its zeros; then the indices of what stays are kept. */
#include <string.h>

#include "base/mem.h"
#include "coreml/element.h"
#include "coreml/palette_op.h"
#include "coreml/weights.h"

typedef struct work {
    rq_coreml_weight *w;
    const rq_coreml_op_config *c;
    rq_coreml_dense dense; /* what is palettized */
    uint64_t bytes;        /* of it, as it is stored */
    int64_t dim[RQ_MIL_MAX_RANK];
    int64_t count;
    void *own;     /* dense.data, where it was made for this (elements of a byte and more) */
    rq_prune mask; /* of a sparse weight */
    bool sparse;
    rq_dtype elements; /* of dense.data */
    int axis;
    void *scale;
    int64_t scale_dim[RQ_MIL_MAX_RANK];
    rq_palette p;
} work;

static rq_status no_memory(const rq_coreml_weight *w, rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory palettizing '%s'", w->name);
}

/* ---- the weight ---- */

static void set_dim(work *k, const rq_mil_type *t)
{
    k->dense.rank = (int)t->rank;
    k->dense.dim = k->dim;
    k->count = 1;
    for (int i = 0; i < k->dense.rank; i++)
        k->count *= k->dim[i] = (int64_t)t->dim[i].size;
}

/* Codes of less than 8 bits as bytes. */
static rq_status unpack(work *k, rq_err *err)
{
    const rq_mil_dtype *t = k->dense.type;
    k->elements = t->dtype;
    if (t->bits >= 8)
        return RQ_OK;
    k->own = rq_mem_alloc((size_t)k->count + 1, 1);
    if (!k->own)
        return no_memory(k->w, err);
    rq_mil_dtype_unpack(t, k->own, k->dense.data, (uint64_t)k->count);
    k->elements = t->dtype == RQ_DTYPE_S4 ? RQ_DTYPE_S8 : RQ_DTYPE_U8;
    return RQ_OK;
}

/* The dense weight of a sparse one: its mask in k->mask, zeros where nothing stays. */
static rq_status spread(work *k, const rq_mil_op *op, rq_err *err)
{
    rq_coreml *m = k->w->m;
    rq_mil_value *mask = rq_coreml_param(&k->w->walk->uses, op, "mask");
    const uint8_t *bits, *kept = k->dense.data;
    uint64_t bytes;
    if (!mask || mask->type->rank > RQ_MIL_MAX_RANK)
        return rq_fail(err, RQ_UNSUPPORTED, "'%s': its mask is not a constant", k->w->name);
    RQ_TRY(rq_coreml_weight_bytes(m, mask, &bits, &bytes, err));
    const size_t size = (size_t)k->dense.type->bits / 8;
    const int64_t given = k->count;
    set_dim(k, mask->type);
    k->own = rq_mem_zalloc((size_t)k->count + 1, size ? size : 1);
    k->mask = (rq_prune) { .n = k->count, .mask = (uint8_t *)rq_mem_zalloc((size_t)(k->count + 7) / 8 + 1, 1) };
    if (!k->own || !k->mask.mask)
        return no_memory(k->w, err);
    memcpy(k->mask.mask, bits, (size_t)(k->count + 7) / 8);
    for (int64_t i = 0; i < k->count; i++) {
        if (!rq_prune_stays(&k->mask, i))
            continue;
        if (k->mask.kept == given || !size)
            return rq_fail(err, RQ_BAD_FILE, "'%s': its mask does not fit its data", k->w->name);
        memcpy((uint8_t *)k->own + (size_t)i * size, kept + (size_t)k->mask.kept++ * size, size);
    }
    k->sparse = true;
    k->elements = k->dense.type->dtype;
    return RQ_OK;
}

static rq_status read_weight(work *k, rq_err *err)
{
    rq_coreml_weight *w = k->w;
    const uint8_t *data;
    RQ_TRY(rq_coreml_weight_bytes(w->m, w->value, &data, &k->bytes, err));
    k->dense = (rq_coreml_dense) { .type = w->value->type->dtype, .data = data };
    set_dim(k, w->value->type);
    if (w->param && !strcmp(w->op->type, "constexpr_sparse_to_dense"))
        return spread(k, w->op, err);
    const rq_mil_op *user = w->walk->joint && w->n_users == 1 ? w->user : NULL;
    if (user && !strcmp(user->type, "constexpr_sparse_to_dense"))
        return spread(k, user, err);
    return unpack(k, err);
}

/* ---- how it is cut ---- */

/* Do all convolutions that read it have whole vectors in each of their groups? */
static bool vectors_fit(const work *k)
{
    const rq_coreml_def *d = k->w->def;
    for (int i = 0; d && i < d->n_uses; i++) {
        const rq_mil_op *op = d->use[i].op;
        if (!op || (strcmp(op->type, "conv") != 0 && strcmp(op->type, "conv_transpose") != 0))
            continue;
        const rq_mil_value *v = rq_coreml_param(&k->w->walk->uses, op, "groups");
        const int64_t groups =
            v && v->kind == RQ_MIL_IMMEDIATE && v->type->dtype->store == RQ_MIL_STORE_INTS && v->n == 1
                ? ((const int32_t *)v->data)[0]
                : 1;
        const int64_t n = k->axis == 0 && groups > 1 ? k->dim[0] / groups : k->dim[k->axis];
        if (n % k->c->cluster_dim)
            return false;
    }
    return true;
}

/* Channel axis, groups, vectors. *ok false: it was said why not. */
static rq_status cut(work *k, bool *ok, rq_err *err)
{
    rq_coreml_weight *w = k->w;
    int64_t block[RQ_MIL_MAX_RANK];
    RQ_TRY(rq_coreml_weight_blocks(w, k->dense.rank, k->dim, block, ok, err));
    if (!*ok)
        return RQ_OK;
    *ok = false;
    const bool grouped = k->c->granularity == RQ_COREML_PER_GROUPED_CHANNEL;
    k->axis = w->output_axis;
    if (grouped && k->c->channel_axis != RQ_COREML_AXIS_OF_OP)
        k->axis = (int)(k->c->channel_axis < 0 ? k->c->channel_axis + k->dense.rank : k->c->channel_axis);
    if (k->axis < 0 || k->axis >= k->dense.rank)
        return rq_coreml_weight_left(w, true, err, "Invalid channel_axis. Should be in range [0, %d), but got %d",
                                     k->dense.rank, k->axis);
    const int64_t channels = k->dim[k->axis];
    int64_t group = block[k->axis] && block[k->axis] != channels ? block[k->axis] : channels;
    if (channels % group)
        return rq_coreml_weight_left(w, true, err,
                                     "Can't perform palettization: The number of channels at %dth axis (%lld) is not "
                                     "divisible by channel_group_size (%lld).",
                                     k->axis, (long long)channels, (long long)group);
    if (k->c->cluster_dim > 1 && !vectors_fit(k))
        return rq_coreml_weight_left(w, true, err, "The `cluster_dim` is invalid for %s. Skipped this op.", w->name);
    if (group % k->c->cluster_dim)
        return rq_coreml_weight_left(w, true, err,
                                     "Can't perform palettization: The channel_group_size at %dth axis (%lld) is not "
                                     "divisible by cluster_dim (%lld).",
                                     k->axis, (long long)group, (long long)k->c->cluster_dim);
    k->p = (rq_palette) {
        .data = k->own ? k->own : k->dense.data,
        .dtype = k->elements,
        .outer = 1,
        .channels = channels,
        .inner = 1,
        .group = group,
        .cluster = k->c->cluster_dim,
        .mode = k->c->palette,
        .nbits = k->c->nbits,
        .no_three = !rq_coreml_is_ios18(w->m),
    };
    for (int i = 0; i < k->dense.rank; i++)
        *(i < k->axis ? &k->p.outer : &k->p.inner) *= i == k->axis ? 1 : k->dim[i];
    *ok = true;
    return RQ_OK;
}

/* The largest |w| over the channels, for each place of all other axes; 1 where all are 0. The reference takes the maximum along the channel axis,
 * so it is no scale per channel; docs/numerics.md. */
static rq_status measure(work *k, rq_err *err)
{
    rq_palette *p = &k->p;
    k->scale = rq_mem_alloc((size_t)(p->outer * p->inner) + 1, sizeof(float));
    if (!k->scale)
        return no_memory(k->w, err);
    for (int64_t o = 0; o < p->outer; o++)
        for (int64_t i = 0; i < p->inner; i++) {
            float most = 0;
            for (int64_t c = 0; c < p->channels; c++) {
                const float v = fabsf(rq_element_at(p->data, p->dtype, (o * p->channels + c) * p->inner + i));
                most = v > most ? v : most;
            }
            rq_element_put(k->scale, p->dtype, o * p->inner + i, most > 0 ? most : 1);
        }
    p->scale = k->scale;
    for (int i = 0; i < k->dense.rank; i++)
        k->scale_dim[i] = i == k->axis ? 1 : k->dim[i];
    return RQ_OK;
}

/* ---- what it becomes ---- */

static uint64_t bytes_of(const work *k)
{
    const uint64_t n = (uint64_t)(k->sparse ? k->mask.kept : k->count / k->p.cluster);
    const uint64_t table = (uint64_t)(k->p.n_groups << k->p.nbits) * (uint64_t)k->p.cluster;
    return (n * (uint64_t)k->p.nbits + 7) / 8 + rq_mil_dtype_bytes(k->dense.type, table);
}

/* All indices, one a byte. */
static uint8_t *indices_of(const work *k)
{
    uint8_t *codes = rq_mem_alloc((size_t)(k->count / k->p.cluster) + 1, 1);
    if (codes)
        rq_palette_indices(&k->p, codes, 0, k->count / k->p.cluster);
    return codes;
}

static rq_mil_value *indices_value(work *k)
{
    if (!k->own)
        return rq_coreml_indices_value(k->w->m, &k->p, &k->dense, k->axis);
    int64_t dim[RQ_MIL_MAX_RANK];
    memcpy(dim, k->dim, sizeof dim);
    dim[k->axis] /= k->p.cluster;
    uint8_t *codes = indices_of(k);
    rq_mil_value *v = codes ? rq_coreml_codes_value(k->w->m, k->p.nbits, k->dense.rank, dim, codes) : NULL;
    rq_mem_free(codes);
    return v;
}

static rq_status put_dense(work *k, rq_err *err)
{
    rq_coreml_weight *w = k->w;
    rq_coreml *m = w->m;
    const bool vectors = k->p.cluster > 1, scaled = k->scale != NULL;
    const char *name = rq_coreml_weight_name(w, "_palettized");
    const char *output = name && !scaled ? rq_coreml_weight_output(w, name) : name;
    rq_mil_value *indices = output ? indices_value(k) : NULL;
    rq_mil_value *lut = indices ? rq_coreml_table_value(m, &k->p, k->dense.type, k->dense.rank, k->axis) : NULL;
    rq_mil_op *op = lut ? rq_coreml_lut_op(m, name, output, &k->dense, indices, lut, vectors ? k->axis : -1) : NULL;
    if (!op)
        return no_memory(w, err);
    if (!scaled) {
        RQ_TRY(rq_coreml_weight_replace(w, op, 0, NULL, err));
        return rq_coreml_weight_done(w, op->type, bytes_of(k), err);
    }
    const char *again = rq_coreml_weight_name(w, "_palettized_pcs");
    rq_mil_op *by = again ? rq_mil_op_make(&m->program, "constexpr_blockwise_shift_scale", again) : NULL;
    rq_mil_value *scale = by ? rq_coreml_value(m, k->dense.type->name, k->dense.rank, k->scale_dim, k->scale) : NULL;
    rq_mil_type *t = scale ? rq_mil_tensor_type(&m->program, k->dense.type, k->dense.rank, k->dim) : NULL;
    const char *given = t ? rq_coreml_weight_output(w, again) : NULL;
    if (!given || !rq_mil_op_bind(&m->program, by, "data", output) ||
        !rq_mil_op_bind_value(&m->program, by, "scale", scale) || !rq_mil_op_output(&m->program, by, given, t))
        return no_memory(w, err);
    RQ_TRY(rq_coreml_weight_replace(w, by, 0, NULL, err));
    const int at = rq_coreml_uses_position(w->block, by);
    if (!rq_mil_block_insert(&m->program, w->block, at, op))
        return no_memory(w, err);
    return rq_coreml_weight_done(w, op->type, bytes_of(k) + rq_mil_dtype_bytes(k->dense.type, scale->n), err);
}

/* Indices of what stays, in row order. */
static rq_mil_value *kept_indices(work *k)
{
    uint8_t *codes = indices_of(k);
    if (!codes)
        return NULL;
    int64_t n = 0;
    for (int64_t i = 0; i < k->count; i++)
        if (rq_prune_stays(&k->mask, i))
            codes[n++] = codes[i];
    rq_mil_value *v = rq_coreml_codes_value(k->w->m, k->p.nbits, 1, &n, codes);
    rq_mem_free(codes);
    return v;
}

/* constexpr_lut_to_sparse before the constexpr_sparse_to_dense that spreads it, which takes both of its outputs. */
static rq_status put_sparse(work *k, rq_err *err)
{
    rq_coreml_weight *w = k->w;
    rq_coreml *m = w->m;
    rq_mil_op *dense = w->param ? w->op : w->user;
    if (k->p.cluster > 1)
        return rq_coreml_weight_left(w, true, err, "vectors of a sparse weight cannot be palettized");
    const char *name = rq_coreml_weight_name(w, "_palettized");
    rq_mil_op *op = name ? rq_coreml_masked_op(m, "constexpr_lut_to_sparse", name, k->dense.rank, k->dim, k->dense.type,
                                               k->mask.kept)
                         : NULL;
    rq_mil_value *indices = op ? kept_indices(k) : NULL;
    rq_mil_value *lut = indices ? rq_coreml_table_value(m, &k->p, k->dense.type, k->dense.rank, k->axis) : NULL;
    if (!lut || !rq_coreml_op_copy(m, op, "indices_mask", dense, "mask") ||
        !rq_coreml_op_set(m, op, "indices_nonzero_data", indices) || !rq_coreml_op_set(m, op, "lut", lut))
        return no_memory(w, err);
    rq_mil_arg *mask = rq_mil_op_arg(dense, "mask");
    RQ_TRY(rq_coreml_weight_replace(w, op, 1, dense, err));
    mask->binding[0] = (rq_mil_binding) { .name = op->outputs[0].name };
    return rq_coreml_weight_done(w, op->type, bytes_of(k), err);
}

static rq_status make(work *k, rq_err *err)
{
    bool ok;
    char why[RQ_PALETTE_WHY];
    RQ_TRY(read_weight(k, err));
    RQ_TRY(cut(k, &ok, err));
    if (!ok)
        return RQ_OK;
    if (k->c->per_channel_scale) {
        if (k->elements != RQ_DTYPE_F16 && k->elements != RQ_DTYPE_F32)
            return rq_coreml_weight_left(k->w, true, err, "codes of a quantized weight have no scale per channel");
        RQ_TRY(measure(k, err));
    }
    RQ_TRY(rq_palette_make(&k->p, why, err));
    rq_coreml_weight_forget(k->w->value, k->dense.data, k->bytes);
    if (*why)
        return rq_coreml_weight_left(k->w, true, err, "Cannot perform palettization on %s: %s", k->w->name, why);
    return k->sparse ? put_sparse(k, err) : put_dense(k, err);
}

static rq_status needs_ios18(const rq_coreml_weight *w, const char *what, rq_err *err)
{
    return rq_fail(err, RQ_UNSUPPORTED,
                   "'%s': The %s palettization is supported since iOS18. Please re-convert your model with "
                   "minimum_deployment_target set to at least ct.target.iOS18.",
                   w->name, what);
}

static rq_status compress(rq_coreml_weight *w, void *arg, rq_err *err)
{
    (void)arg;
    const rq_coreml_op_config *c = w->config;
    if (!rq_coreml_is_ios18(w->m)) {
        if (c->granularity == RQ_COREML_PER_GROUPED_CHANNEL)
            return needs_ios18(w, "per_grouped_channel", err);
        if (c->cluster_dim > 1)
            return needs_ios18(w, "vector", err);
        if (c->per_channel_scale)
            return needs_ios18(w, "per-channel-scale", err);
        if (c->palette != RQ_COREML_UNIQUE && c->nbits == 3)
            return needs_ios18(w, "3-bit", err);
    }
    work k = { .w = w, .c = c };
    const rq_status s = make(&k, err);
    rq_palette_release(&k.p);
    rq_prune_release(&k.mask);
    rq_mem_free(k.own);
    rq_mem_free(k.scale);
    return s;
}

static const char *const joint[][2] = { { "constexpr_sparse_to_dense", "nonzero_data" },
                                        { "constexpr_blockwise_shift_scale", "data" },
                                        { NULL, NULL } };

rq_status rq_coreml_palettize_weights(rq_coreml *m, const rq_coreml_config *c, bool together, rq_coreml_report **report,
                                      rq_err *err)
{
    static const rq_coreml_weights_row row = {
        .what = "palettize_weights",
        .suffix = "_palettized",
        .classes = 1u << RQ_COREML_PALETTIZER,
        .joint = joint,
        .compress = compress,
    };
    return rq_coreml_weights_run(m, c, &row, together, NULL, report, err);
}
