/* coreml/config.c — settings for operators of a program: defaults, ranges, rules by name and type. The YAML of it is config_text.c. */
#include "coreml/config.h"

#include <fnmatch.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/number.h"

const char *const rq_coreml_granularities[] = { [RQ_COREML_PER_TENSOR] = "per_tensor",
                                                [RQ_COREML_PER_GROUPED_CHANNEL] = "per_grouped_channel",
                                                [RQ_COREML_PER_CHANNEL] = "per_channel",
                                                [RQ_COREML_PER_BLOCK] = "per_block",
                                                NULL };
const char *const rq_coreml_palettes[] = {
    [RQ_COREML_KMEANS] = "kmeans", [RQ_COREML_UNIFORM] = "uniform", [RQ_COREML_UNIQUE] = "unique", NULL
};
const char *const rq_coreml_classes[] = { [RQ_COREML_LINEAR_QUANTIZER] = "OpLinearQuantizerConfig",
                                          [RQ_COREML_PALETTIZER] = "OpPalettizerConfig",
                                          [RQ_COREML_MAGNITUDE_PRUNER] = "OpMagnitudePrunerConfig",
                                          [RQ_COREML_THRESHOLD_PRUNER] = "OpThresholdPrunerConfig",
                                          NULL };

const char *rq_coreml_algorithm_class(rq_coreml_algorithm a)
{
    return rq_coreml_classes[a];
}

rq_coreml_op_config rq_coreml_op_config_defaults(rq_coreml_algorithm algorithm)
{
    const bool palette = algorithm == RQ_COREML_PALETTIZER;
    return (rq_coreml_op_config) {
        .algorithm = algorithm,
        .weight_threshold = 2048,
        .symmetric = true,
        .nbits = palette ? 0 : 8,
        .is_signed = true,
        .granularity = palette ? RQ_COREML_PER_TENSOR : RQ_COREML_PER_CHANNEL,
        .block_size = { 32 },
        .n_block_size = 1,
        .palette = RQ_COREML_KMEANS,
        .group_size = 32,
        .channel_axis = RQ_COREML_AXIS_OF_OP,
        .cluster_dim = 1,
        .threshold = 1e-12,
        .minimum_sparsity_percentile = 0.5,
        .target_sparsity = -1,
        .dim = -1,
    };
}

const char *rq_coreml_op_config_dtype(const rq_coreml_op_config *op)
{
    return op->nbits == 4 ? op->is_signed ? "int4" : "uint4" : op->is_signed ? "int8" : "uint8";
}

/* ---- ranges ---- */

static rq_status check_linear(const rq_coreml_op_config *op, rq_err *err)
{
    if (op->nbits != 4 && op->nbits != 8)
        return rq_fail(err, RQ_BAD_ARG, "Invalid dtype. Should be int4/8 or uint4/8, but got %sint%d",
                       op->is_signed ? "" : "u", op->nbits);
    if (op->granularity == RQ_COREML_PER_GROUPED_CHANNEL)
        return rq_fail(err, RQ_BAD_ARG,
                       "\"granularity\" must be one of per_tensor, per_channel, per_block, but got "
                       "per_grouped_channel");
    if (op->n_block_size < 0 || op->n_block_size > 16 || (!op->block_size_is_list && op->n_block_size != 1))
        return rq_fail(err, RQ_BAD_ARG, "block_size: %d numbers, expected one, or one for each axis", op->n_block_size);
    for (int i = 0; i < op->n_block_size; i++)
        if (op->block_size[i] < 0 && op->block_size_is_list)
            return rq_fail(err, RQ_BAD_ARG, "All values in block_size must be non-negative values, but got %lld",
                           (long long)op->block_size[i]);
        else if (op->block_size[i] < 0)
            return rq_fail(err, RQ_BAD_ARG, "The block_size must be non-negative values, but got %lld",
                           (long long)op->block_size[i]);
    return RQ_OK;
}

static rq_status check_palette(const rq_coreml_op_config *op, rq_err *err)
{
    const char *mode = rq_coreml_palettes[op->palette];
    if (op->nbits == 0 && op->palette != RQ_COREML_UNIQUE)
        return rq_fail(err, RQ_BAD_ARG, "\"nbits\" must be provided for %s mode", mode);
    if (op->nbits != 0 && op->palette == RQ_COREML_UNIQUE)
        return rq_fail(err, RQ_BAD_ARG, "\"nbits\" must NOT be provided for %s mode", mode);
    if (op->nbits != 0 && (op->nbits < 1 || op->nbits > 8 || op->nbits == 5 || op->nbits == 7))
        return rq_fail(err, RQ_BAD_ARG,
                       "Invalid value of \"nbits\" (%d) for palettization. Supported \"nbits\" are 1, 2, 3, 4, 6, 8",
                       op->nbits);
    if (op->granularity != RQ_COREML_PER_TENSOR && op->granularity != RQ_COREML_PER_GROUPED_CHANNEL)
        return rq_fail(err, RQ_BAD_ARG, "\"granularity\" must be one of per_tensor, per_grouped_channel, but got %s",
                       rq_coreml_granularities[op->granularity]);
    if (op->group_size < 0)
        return rq_fail(err, RQ_BAD_ARG, "\"group_size\" must be a non-negative integer. Got %lld.",
                       (long long)op->group_size);
    if (op->cluster_dim < 1)
        return rq_fail(err, RQ_BAD_ARG, "\"cluster_dim\" must be a positive integer. Got %lld.",
                       (long long)op->cluster_dim);
    if (op->cluster_dim > 1 && op->palette == RQ_COREML_UNIFORM)
        return rq_fail(err, RQ_BAD_ARG, "Vector palettization (cluster_dim > 1) doesn't support UNIFORM mode");
    return RQ_OK;
}

static rq_status check_magnitude(const rq_coreml_op_config *op, rq_err *err)
{
    const bool ratio = op->n_m_ratio[0] != 0 || op->n_m_ratio[1] != 0, sparsity = op->target_sparsity >= 0;
    if (ratio == sparsity)
        return rq_fail(err, RQ_BAD_ARG,
                       "Either \"target_sparsity\" or \"n_m_ratio\" need to be set. They cannot be set at the same "
                       "time.");
    if (sparsity && op->target_sparsity > 1)
        return rq_fail(err, RQ_BAD_ARG, "Invalid value of \"target_sparsity\": %.10g. Needs to be in [0, 1].",
                       op->target_sparsity);
    if (op->block != 0 && ratio)
        return rq_fail(err, RQ_BAD_ARG, "\"block_size\" and \"n_m_ratio\" cannot be set at the same time.");
    if (op->block != 0 && op->block <= 1)
        return rq_fail(err, RQ_BAD_ARG, "\"block_size\" must be an integer > 1. Got %lld.", (long long)op->block);
    if (ratio && (op->n_m_ratio[0] < 0 || op->n_m_ratio[0] > op->n_m_ratio[1]))
        return rq_fail(err, RQ_BAD_ARG,
                       "\"n_m_ratio\" must be a tuple of two integers (n, m). n <= m. Got (%lld, %lld)",
                       (long long)op->n_m_ratio[0], (long long)op->n_m_ratio[1]);
    if (op->dim != -1 && op->block == 0 && !ratio)
        return rq_fail(err, RQ_BAD_ARG, "\"dim\" can only be set along with \"block_size\" or \"n_m_ratio\".");
    if (op->dim < -1 || op->dim > 1)
        return rq_fail(err, RQ_BAD_ARG, "\"dim\" must be 1 or 0. Got %lld.", (long long)op->dim);
    return RQ_OK;
}

rq_status rq_coreml_op_config_check(const rq_coreml_op_config *op, rq_err *err)
{
    if (op->algorithm < RQ_COREML_LINEAR_QUANTIZER || op->algorithm > RQ_COREML_THRESHOLD_PRUNER)
        return rq_fail(err, RQ_BAD_ARG, "config must be type of OpCompressorConfig. Got algorithm %d.",
                       (int)op->algorithm);
    if (op->granularity < RQ_COREML_PER_TENSOR || op->granularity > RQ_COREML_PER_BLOCK ||
        op->palette < RQ_COREML_KMEANS || op->palette > RQ_COREML_UNIQUE)
        return rq_fail(err, RQ_BAD_ARG, "a granularity or mode that there is not");
    if (op->weight_threshold < -1)
        return rq_fail(err, RQ_BAD_ARG, "\"weight_threshold\" must be a non-negative integer. Got %lld.",
                       (long long)op->weight_threshold);
    switch (op->algorithm) {
    case RQ_COREML_LINEAR_QUANTIZER:
        return check_linear(op, err);
    case RQ_COREML_PALETTIZER:
        return check_palette(op, err);
    case RQ_COREML_MAGNITUDE_PRUNER:
        return check_magnitude(op, err);
    default:
        break;
    }
    if (!(op->threshold >= 0))
        return rq_fail(err, RQ_BAD_ARG, "Invalid value of \"threshold\": %.10g. Needs to be in [0, inf)",
                       op->threshold);
    if (!(op->minimum_sparsity_percentile >= 0 && op->minimum_sparsity_percentile <= 1))
        return rq_fail(err, RQ_BAD_ARG,
                       "Invalid value of \"minimum_sparsity_percentile\": %.10g. Needs to be in [0, 1]",
                       op->minimum_sparsity_percentile);
    return RQ_OK;
}

bool rq_coreml_op_config_equal(const rq_coreml_op_config *a, const rq_coreml_op_config *b)
{
    if (!a || !b)
        return a == b;
    if (a->algorithm != b->algorithm || a->weight_threshold != b->weight_threshold)
        return false;
    switch (a->algorithm) {
    case RQ_COREML_LINEAR_QUANTIZER:
        return a->symmetric == b->symmetric && a->nbits == b->nbits && a->is_signed == b->is_signed &&
               a->granularity == b->granularity && a->block_size_is_list == b->block_size_is_list &&
               a->n_block_size == b->n_block_size &&
               !memcmp(a->block_size, b->block_size, (size_t)a->n_block_size * sizeof a->block_size[0]);
    case RQ_COREML_PALETTIZER:
        return a->palette == b->palette && a->nbits == b->nbits && a->granularity == b->granularity &&
               a->group_size == b->group_size && a->channel_axis == b->channel_axis &&
               a->cluster_dim == b->cluster_dim && a->per_channel_scale == b->per_channel_scale;
    case RQ_COREML_MAGNITUDE_PRUNER:
        return a->target_sparsity == b->target_sparsity && a->block == b->block && a->dim == b->dim &&
               a->n_m_ratio[0] == b->n_m_ratio[0] && a->n_m_ratio[1] == b->n_m_ratio[1];
    default:
        return a->threshold == b->threshold && a->minimum_sparsity_percentile == b->minimum_sparsity_percentile;
    }
}

/* ---- rules ---- */

rq_status rq_coreml_config_create(rq_coreml_config **out, rq_err *err)
{
    rq_coreml_config *c = rq_mem_zalloc(1, sizeof *c);
    if (!c)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for a config");
    *out = c;
    return RQ_OK;
}

static void release(rq_coreml_rules *r)
{
    for (int i = 0; i < r->n; i++)
        rq_mem_free(r->at[i].key);
    rq_mem_free(r->at);
}

void rq_coreml_config_destroy(rq_coreml_config *c)
{
    if (!c)
        return;
    release(&c->types);
    release(&c->names);
    rq_mem_free(c);
}

/* What the constructor of a class fills in: of a pruner in blocks or n:m, the axis. */
static void settle(rq_coreml_op_config *op)
{
    if (op->algorithm == RQ_COREML_MAGNITUDE_PRUNER && op->dim == -1 && (op->block || op->n_m_ratio[1]))
        op->dim = op->block ? 0 : 1;
}

static rq_status set(rq_coreml_rules *r, const char *key, const rq_coreml_op_config *op, rq_err *err)
{
    if (op)
        RQ_TRY(rq_coreml_op_config_check(op, err));
    rq_coreml_rule *rule = (rq_coreml_rule *)rq_coreml_rules_find(r, key);
    if (!rule) {
        char *copy = rq_mem_strdup(key);
        if (!copy || !rq_mem_grow(&r->at, r->n, &r->cap, sizeof *r->at)) {
            rq_mem_free(copy);
            return rq_fail(err, RQ_NO_MEMORY, "out of memory for a config");
        }
        rule = &r->at[r->n++];
        *rule = (rq_coreml_rule) { .key = copy };
    }
    rule->skip = !op;
    rule->op = op ? *op : (rq_coreml_op_config) { 0 };
    settle(&rule->op);
    return RQ_OK;
}

rq_status rq_coreml_config_set_global(rq_coreml_config *c, const rq_coreml_op_config *op, rq_err *err)
{
    if (op)
        RQ_TRY(rq_coreml_op_config_check(op, err));
    c->has_global = op != NULL;
    c->global = op ? *op : (rq_coreml_op_config) { 0 };
    settle(&c->global);
    return RQ_OK;
}

rq_status rq_coreml_config_set_op_type(rq_coreml_config *c, const char *type, const rq_coreml_op_config *op,
                                       rq_err *err)
{
    if (op && op->algorithm == RQ_COREML_MAGNITUDE_PRUNER && (op->block || op->n_m_ratio[1]) &&
        strcmp(type, "conv") != 0 && strcmp(type, "linear") != 0)
        return rq_fail(err, RQ_BAD_ARG, "block sparsity or n:m pruning does not support op type %.80s.", type);
    return set(&c->types, type, op, err);
}

rq_status rq_coreml_config_set_op_name(rq_coreml_config *c, const char *name, const rq_coreml_op_config *op,
                                       rq_err *err)
{
    return set(&c->names, name, op, err);
}

const rq_coreml_rule *rq_coreml_rules_find(const rq_coreml_rules *r, const char *key)
{
    for (int i = 0; i < r->n; i++)
        if (!strcmp(r->at[i].key, key))
            return &r->at[i];
    return NULL;
}

bool rq_coreml_name_fits(const char *key, const char *name)
{
    return !strcmp(key, name) || fnmatch(key, name, 0) == 0;
}

const rq_coreml_rule *rq_coreml_config_name(const rq_coreml_config *c, const char *name)
{
    const rq_coreml_rule *exact = rq_coreml_rules_find(&c->names, name);
    for (int i = c->names.n; !exact && i > 0; i--)
        if (rq_coreml_name_fits(c->names.at[i - 1].key, name))
            exact = &c->names.at[i - 1];
    return exact;
}

const rq_coreml_op_config *rq_coreml_config_of(const rq_coreml_config *c, const char *name, const char *type)
{
    const rq_coreml_rule *r = rq_coreml_config_name(c, name);
    if (!r)
        r = rq_coreml_rules_find(&c->types, type);
    if (r)
        return r->skip ? NULL : &r->op;
    return c->has_global ? &c->global : NULL;
}

bool rq_coreml_config_is_empty(const rq_coreml_config *c)
{
    bool empty = !c->has_global;
    for (int i = 0; i < c->types.n; i++)
        empty &= c->types.at[i].skip;
    for (int i = 0; i < c->names.n; i++)
        empty &= c->names.at[i].skip;
    return empty;
}

static rq_status accept(const rq_coreml_op_config *op, unsigned classes, const char *what, rq_err *err)
{
    char names[120] = "";
    if (classes & 1U << op->algorithm)
        return RQ_OK;
    for (int i = 0; rq_coreml_classes[i]; i++)
        if (classes & 1U << i) {
            const size_t used = strlen(names);
            rq_number_print(names + used, sizeof names - used, "%s%s", used ? ", " : "", rq_coreml_classes[i]);
        }
    return rq_fail(err, RQ_BAD_ARG, "%s only accept %s type config. Got %s.", what, names,
                   rq_coreml_classes[op->algorithm]);
}

rq_status rq_coreml_config_accept(const rq_coreml_config *c, unsigned classes, const char *what, rq_err *err)
{
    if (c->has_global)
        RQ_TRY(accept(&c->global, classes, what, err));
    for (int i = 0; i < c->types.n; i++)
        if (!c->types.at[i].skip)
            RQ_TRY(accept(&c->types.at[i].op, classes, what, err));
    for (int i = 0; i < c->names.n; i++)
        if (!c->names.at[i].skip)
            RQ_TRY(accept(&c->names.at[i].op, classes, what, err));
    return RQ_OK;
}

/* ---- text ---- */

static void add_linear(rq_buf *b, const rq_coreml_op_config *op)
{
    rq_buf_addf(b, "mode=%s, dtype=%s, granularity=%s", op->symmetric ? "linear_symmetric" : "linear",
                rq_coreml_op_config_dtype(op), rq_coreml_granularities[op->granularity]);
    if (op->granularity != RQ_COREML_PER_BLOCK)
        return;
    rq_buf_adds(b, op->block_size_is_list ? ", block_size=[" : ", block_size=");
    for (int i = 0; i < op->n_block_size; i++)
        rq_buf_addf(b, "%s%lld", i ? ", " : "", (long long)op->block_size[i]);
    rq_buf_adds(b, op->block_size_is_list ? "]" : "");
}

const char *rq_coreml_op_config_text(const rq_coreml_op_config *op, char *buf, size_t n)
{
    rq_buf b = { 0 };
    if (!op) {
        rq_number_print(buf, n, "None");
        return buf;
    }
    rq_buf_addf(&b, "%s(", rq_coreml_classes[op->algorithm]);
    switch (op->algorithm) {
    case RQ_COREML_LINEAR_QUANTIZER:
        add_linear(&b, op);
        break;
    case RQ_COREML_PALETTIZER:
        rq_buf_addf(&b, "mode=%s, nbits=%d, granularity=%s, group_size=%lld, cluster_dim=%lld",
                    rq_coreml_palettes[op->palette], op->nbits, rq_coreml_granularities[op->granularity],
                    (long long)op->group_size, (long long)op->cluster_dim);
        break;
    case RQ_COREML_MAGNITUDE_PRUNER:
        if (op->n_m_ratio[1])
            rq_buf_addf(&b, "n_m_ratio=(%lld, %lld), dim=%lld", (long long)op->n_m_ratio[0],
                        (long long)op->n_m_ratio[1], (long long)op->dim);
        else
            rq_buf_addf(&b, "target_sparsity=%.10g", op->target_sparsity);
        if (op->block)
            rq_buf_addf(&b, ", block_size=%lld, dim=%lld", (long long)op->block, (long long)op->dim);
        break;
    default:
        rq_buf_addf(&b, "threshold=%.10g, minimum_sparsity_percentile=%.10g", op->threshold,
                    op->minimum_sparsity_percentile);
    }
    if (op->weight_threshold < 0)
        rq_buf_adds(&b, ", weight_threshold=None)");
    else
        rq_buf_addf(&b, ", weight_threshold=%lld)", (long long)op->weight_threshold);
    rq_buf_hand_over(&b, buf, n);
    return buf;
}
