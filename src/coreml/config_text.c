/* coreml/config_text.c — OptimizationConfig from YAML, of which JSON is a part: from_yaml and from_dict of coremltools.optimize. Each config is of
 * the outer config_type, or of its own; null is "not compressed". What differs: docs/coreml-facts.md 8. */
#include <stdio.h>
#include <string.h>

#include "algo/qconfig_text.h"
#include "base/file.h"
#include "coreml/config.h"

typedef struct reader {
    rq_qconfig_reader in;
    rq_coreml_config *c;
    const yaml_node_t *outer; /* config_type; NULL: not given */
} reader;

/* Where a value of a field goes. */
typedef enum field_kind {
    FIELD_CLASS,
    FIELD_LINEAR_MODE,
    FIELD_PALETTE_MODE,
    FIELD_DTYPE,
    FIELD_GRANULARITY,
    FIELD_BLOCK_SIZES,
    FIELD_THRESHOLD, /* weight_threshold: an integer or null */
    FIELD_NBITS,
    FIELD_INT,
    FIELD_AXIS,
    FIELD_BLOCK,
    FIELD_DIM,
    FIELD_RATIO,
    FIELD_BOOL,
    FIELD_FLOAT,
    FIELD_SPARSITY,
    FIELD_IGNORED, /* an integer that changes no result */
    FIELD_FUNCTION
} field_kind;

enum {
    LINEAR = 1 << RQ_COREML_LINEAR_QUANTIZER,
    PALETTE = 1 << RQ_COREML_PALETTIZER,
    MAGNITUDE = 1 << RQ_COREML_MAGNITUDE_PRUNER,
    THRESHOLD = 1 << RQ_COREML_THRESHOLD_PRUNER,
    ALL = LINEAR | PALETTE | MAGNITUDE | THRESHOLD
};

typedef struct field {
    const char *name;
    unsigned classes;
    field_kind kind;
    size_t at; /* of INT, BOOL, FLOAT in rq_coreml_op_config */
} field;

#define AT(f) offsetof(rq_coreml_op_config, f)
static const field fields[] = {
    { "config_type", ALL, FIELD_CLASS, 0 },
    { "weight_threshold", ALL, FIELD_THRESHOLD, 0 },
    { "mode", LINEAR, FIELD_LINEAR_MODE, 0 },
    { "mode", PALETTE, FIELD_PALETTE_MODE, 0 },
    { "dtype", LINEAR, FIELD_DTYPE, 0 },
    { "granularity", LINEAR | PALETTE, FIELD_GRANULARITY, 0 },
    { "block_size", LINEAR, FIELD_BLOCK_SIZES, 0 },
    { "nbits", PALETTE, FIELD_NBITS, 0 },
    { "lut_function", PALETTE, FIELD_FUNCTION, 0 },
    { "group_size", PALETTE, FIELD_INT, AT(group_size) },
    { "channel_axis", PALETTE, FIELD_AXIS, 0 },
    { "cluster_dim", PALETTE, FIELD_INT, AT(cluster_dim) },
    { "enable_per_channel_scale", PALETTE, FIELD_BOOL, AT(per_channel_scale) },
    { "num_kmeans_workers", PALETTE, FIELD_IGNORED, 0 },
    { "target_sparsity", MAGNITUDE, FIELD_SPARSITY, 0 },
    { "block_size", MAGNITUDE, FIELD_BLOCK, 0 },
    { "n_m_ratio", MAGNITUDE, FIELD_RATIO, 0 },
    { "dim", MAGNITUDE, FIELD_DIM, 0 },
    { "threshold", THRESHOLD, FIELD_FLOAT, AT(threshold) },
    { "minimum_sparsity_percentile", THRESHOLD, FIELD_FLOAT, AT(minimum_sparsity_percentile) },
};
#undef AT
enum { N_FIELDS = sizeof fields / sizeof fields[0] };

/* A number is what stands without quotes, or an integer in quotes, as the constructors of the original take it. */
static bool is_plain(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE && n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static const char *shown(const yaml_node_t *n)
{
    return n->type == YAML_MAPPING_NODE ? "keys and values" : n->type == YAML_SEQUENCE_NODE ? "a list" : text_of(n);
}

static rq_status fail_with(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, const char *before,
                           const char *after)
{
    char sentence[360];
    snprintf(sentence, sizeof sentence, "%s%.60s%s", before, shown(n), after);
    return rq_qconfig_fail(&r->in, n, at, sentence);
}

/* Position of the text among words; -1: it is none. */
static int position(const char *text, const char *const *words, bool any_case)
{
    for (int i = 0; words[i]; i++) {
        const char *a = text, *b = words[i];
        while (*a && (*a == *b || (any_case && *a >= 'A' && *a <= 'Z' && *a + 32 == *b)))
            a++, b++;
        if (!*a && !*b)
            return i;
    }
    return -1;
}

static rq_status read_integer(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, int64_t *out)
{
    const char *text = text_of(n);
    if (text && strlen(text) == n->data.scalar.length && rq_qconfig_is_integer(text, out))
        return RQ_OK;
    return fail_with(r, n, at, "'", "', expected an integer");
}

static rq_status read_class(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, rq_coreml_algorithm *out)
{
    const char *text;
    RQ_TRY(rq_qconfig_read_text(&r->in, n, at, &text));
    rq_nearest near = rq_nearest_to(text);
    const int i = position(text, rq_coreml_classes, false);
    for (int k = 0; i < 0 && rq_coreml_classes[k]; k++)
        rq_nearest_try(&near, rq_coreml_classes[k]);
    if (i < 0)
        return rq_qconfig_unknown(&r->in, n, at, text, "no config class", &near);
    *out = (rq_coreml_algorithm)i;
    return RQ_OK;
}

/* ---- fields ---- */

static rq_status read_mode(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, bool palette,
                           rq_coreml_op_config *op)
{
    static const char *const modes[] = { "linear_symmetric", "linear", NULL };
    const char *text;
    RQ_TRY(rq_qconfig_read_text(&r->in, n, at, &text));
    const int i = position(text, palette ? rq_coreml_palettes : modes, true);
    if (palette && i < 0 && position(text, (const char *const[]) { "custom", NULL }, true) == 0)
        return rq_qconfig_fail(&r->in, n, at, "custom needs a \"lut_function\", which a file cannot hold");
    if (i < 0)
        return palette ? fail_with(r, n, at,
                                   "Only modes ('KMEANS', 'UNIFORM', 'UNIQUE') are supported for weight palettization. "
                                   "Got \"mode\": \"",
                                   "\".")
                       : fail_with(r, n, at,
                                   "Only mode ('LINEAR_SYMMETRIC', 'LINEAR') supported for weight affine quantization. "
                                   "Got mode: \"",
                                   "\".");
    if (palette)
        op->palette = (rq_coreml_palette)i;
    else
        op->symmetric = i == 0;
    return RQ_OK;
}

static rq_status read_dtype(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, rq_coreml_op_config *op)
{
    static const char *const words[] = { "int8", "uint8", "int4", "uint4", NULL };
    static const char *const others[] = { "int16",  "int32",  "int64", "uint1", "uint2", "uint3", "uint6", "uint16",
                                          "uint32", "uint64", "fp16",  "fp32",  "fp64",  "bool",  "float", NULL };
    const char *text;
    RQ_TRY(rq_qconfig_read_text(&r->in, n, at, &text));
    const int i = position(text, words, false);
    if (i < 0 && position(text, others, false) >= 0)
        return fail_with(r, n, at, "Invalid dtype. Should be int4/8 or uint4/8, but got ", "");
    if (i < 0)
        return fail_with(r, n, at, "Invalid dtype ", ". Only support int8/uint8/int4/uint4.");
    op->nbits = i < 2 ? 8 : 4;
    op->is_signed = i % 2 == 0;
    return RQ_OK;
}

static rq_status read_block_sizes(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, rq_coreml_op_config *op)
{
    op->block_size_is_list = n->type == YAML_SEQUENCE_NODE;
    op->n_block_size = 1;
    if (!op->block_size_is_list) {
        if (is_plain(n) && rq_qconfig_is_integer(text_of(n), &op->block_size[0]))
            return RQ_OK;
        return fail_with(r, n, at, "The block_size should be int or list/tuple of int, but got ", "");
    }
    const yaml_node_item_t *i = n->data.sequence.items.start, *const end = n->data.sequence.items.top;
    if (end - i > (int)(sizeof op->block_size / sizeof op->block_size[0]))
        return rq_qconfig_fail(&r->in, n, at, "more than 16 numbers");
    for (op->n_block_size = 0; i < end; i++) {
        const yaml_node_t *item = node(&r->in, *i);
        if (!is_plain(item) || !rq_qconfig_is_integer(text_of(item), &op->block_size[op->n_block_size++]))
            return fail_with(r, item, at, "All values in block_size must be non-negative values, but there is ", "");
    }
    return RQ_OK;
}

static rq_status read_ratio(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, rq_coreml_op_config *op)
{
    const yaml_node_item_t *i = n->type == YAML_SEQUENCE_NODE ? n->data.sequence.items.start : NULL;
    if (!i || n->data.sequence.items.top - i != 2)
        return rq_qconfig_fail(&r->in, n, at, "\"n_m_ratio\" must be a tuple of two integers (n, m). n <= m.");
    RQ_TRY(read_integer(r, node(&r->in, i[0]), at, &op->n_m_ratio[0]));
    RQ_TRY(read_integer(r, node(&r->in, i[1]), at, &op->n_m_ratio[1]));
    return op->n_m_ratio[1] > 0 ? RQ_OK : rq_qconfig_fail(&r->in, n, at, "\"n_m_ratio\": m must be positive");
}

/* rq_qconfig_read_number has no word for infinity, which is no number that a file means. */
static rq_status read_float(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, double *out)
{
    return rq_qconfig_read_number(&r->in, n, at, -1e300, 1e300, false, out);
}

static rq_status read_value(reader *r, const field *f, const yaml_node_t *n, const rq_qconfig_place *at,
                            rq_coreml_op_config *op)
{
    const bool is_null = is_plain(n) && rq_qconfig_is_null(n);
    char *to = (char *)op + f->at;
    const char *text;
    int64_t v = 0;
    switch (f->kind) {
    case FIELD_CLASS:
        return RQ_OK; /* read before */
    case FIELD_LINEAR_MODE:
    case FIELD_PALETTE_MODE:
        return read_mode(r, n, at, f->kind == FIELD_PALETTE_MODE, op);
    case FIELD_DTYPE:
        return read_dtype(r, n, at, op);
    case FIELD_GRANULARITY:
        RQ_TRY(rq_qconfig_read_text(&r->in, n, at, &text));
        v = position(text, rq_coreml_granularities, false);
        if (v < 0)
            return fail_with(r, n, at, "Invalid granularity=", "");
        op->granularity = (rq_coreml_granularity)v;
        return RQ_OK;
    case FIELD_BLOCK_SIZES:
        return read_block_sizes(r, n, at, op);
    case FIELD_THRESHOLD:
        op->weight_threshold = -1;
        if (is_null)
            return RQ_OK;
        RQ_TRY(read_integer(r, n, at, &op->weight_threshold));
        return op->weight_threshold >= 0
                   ? RQ_OK
                   : fail_with(r, n, at, "\"weight_threshold\" must be a non-negative integer. Got ", ".");
    case FIELD_NBITS:
        op->nbits = 0;
        if (is_null)
            return RQ_OK;
        RQ_TRY(read_integer(r, n, at, &v));
        op->nbits = v >= 1 && v <= 8 ? (int)v : 5; /* 5: what the check refuses */
        return op->nbits != 5 ? RQ_OK
                              : fail_with(r, n, at, "Invalid value of \"nbits\" (",
                                          ") for palettization. Supported \"nbits\" are 1, 2, 3, 4, 6, 8");
    case FIELD_INT:
        return read_integer(r, n, at, (int64_t *)(void *)to);
    case FIELD_AXIS:
        op->channel_axis = RQ_COREML_AXIS_OF_OP;
        if (is_null)
            return RQ_OK;
        RQ_TRY(read_integer(r, n, at, &op->channel_axis));
        return op->channel_axis >= -16 && op->channel_axis < 16
                   ? RQ_OK
                   : fail_with(r, n, at, "axis ", ", expected -16 to 15, or null");
    case FIELD_BLOCK:
        op->block = 0;
        if (is_null)
            return RQ_OK;
        RQ_TRY(read_integer(r, n, at, &op->block));
        return op->block > 1 ? RQ_OK : fail_with(r, n, at, "\"block_size\" must be an integer > 1. Got ", ".");
    case FIELD_DIM:
        op->dim = -1;
        if (is_null)
            return RQ_OK;
        RQ_TRY(read_integer(r, n, at, &op->dim));
        return op->dim == 0 || op->dim == 1 ? RQ_OK : fail_with(r, n, at, "\"dim\" must be 1 or 0. Got ", ".");
    case FIELD_RATIO:
        return is_null ? RQ_OK : read_ratio(r, n, at, op);
    case FIELD_BOOL:
        return rq_qconfig_read_bool(&r->in, n, at, (bool *)(void *)to);
    case FIELD_FLOAT:
        return read_float(r, n, at, (double *)(void *)to);
    case FIELD_SPARSITY:
        op->target_sparsity = -1;
        if (is_null)
            return RQ_OK;
        RQ_TRY(read_float(r, n, at, &op->target_sparsity));
        return op->target_sparsity >= 0 && op->target_sparsity <= 1
                   ? RQ_OK
                   : fail_with(r, n, at, "Invalid value of \"target_sparsity\": ", ". Needs to be in [0, 1].");
    case FIELD_IGNORED:
        return read_integer(r, n, at, &v);
    default:
        return rq_qconfig_fail(&r->in, n, at, "a function cannot stand in a file");
    }
}

/* ---- a config of one operator ---- */

static rq_status unknown_field(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, const char *word,
                               rq_coreml_algorithm a)
{
    char what[80];
    rq_nearest near = rq_nearest_to(word);
    for (int i = 0; i < N_FIELDS; i++)
        if (fields[i].classes & 1U << a)
            rq_nearest_try(&near, fields[i].name);
    snprintf(what, sizeof what, "%s has no field", rq_coreml_algorithm_class(a));
    return rq_qconfig_unknown(&r->in, n, at, word, what, &near);
}

/* config_type in the map itself, or in the one that it takes keys from by `<<`. */
static const yaml_node_t *find(reader *r, const yaml_node_t *map, const char *word, bool merged)
{
    const yaml_node_t *found = NULL;
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *value = node(&r->in, p->value);
        const char *key = text_of(node(&r->in, p->key));
        if (key && !strcmp(key, word))
            return value;
        if (key && !merged && !strcmp(key, "<<") && is_map(value))
            found = find(r, value, word, true);
    }
    return found;
}

/* `<<: *other` takes the keys of another map that are not given here; one level, as people write it. */
static rq_status read_fields(reader *r, const yaml_node_t *map, const rq_qconfig_place *at, bool merged,
                             rq_coreml_op_config *op)
{
    if (!is_map(map))
        return rq_qconfig_fail(&r->in, map, at, "expected the fields of a config, or null");
    RQ_TRY(rq_qconfig_check_keys(&r->in, map, at));
    const yaml_node_pair_t *p, *const end = map->data.mapping.pairs.top;
    for (p = map->data.mapping.pairs.start; p < end; p++)
        if (!merged && !strcmp(text_of(node(&r->in, p->key)), "<<"))
            RQ_TRY(read_fields(r, node(&r->in, p->value), at, true, op));
    for (p = map->data.mapping.pairs.start; p < end; p++) {
        const char *word = text_of(node(&r->in, p->key));
        int i = 0;
        while (i < N_FIELDS && (strcmp(fields[i].name, word) != 0 || !(fields[i].classes & 1U << op->algorithm)))
            i++;
        if (i < N_FIELDS)
            RQ_TRY(read_value(r, &fields[i], node(&r->in, p->value), &(rq_qconfig_place) { at, word }, op));
        else if (merged || strcmp(word, "<<") != 0)
            return unknown_field(r, node(&r->in, p->key), at, word, op->algorithm);
    }
    return RQ_OK;
}

/* *given: false for null. */
static rq_status read_config(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, rq_coreml_op_config *op,
                             bool *given)
{
    rq_coreml_algorithm class;
    *given = !(is_plain(n) && rq_qconfig_is_null(n));
    if (!*given)
        return RQ_OK;
    const yaml_node_t *own = is_map(n) ? find(r, n, "config_type", false) : NULL;
    RQ_TRY(read_class(r, own ? own : r->outer, own ? at : NULL, &class));
    *op = rq_coreml_op_config_defaults(class);
    return read_fields(r, n, at, false, op);
}

/* ---- the whole ---- */

static rq_status read_rules(reader *r, const yaml_node_t *map, const rq_qconfig_place *at, bool types)
{
    if (is_plain(map) && rq_qconfig_is_null(map))
        return RQ_OK;
    if (!is_map(map))
        return fail_with(
            r, map, NULL,
            types ? "op_type_configs must be type of dict. Got " : "op_name_configs must be type of dict. Got ", "");
    RQ_TRY(rq_qconfig_check_keys(&r->in, map, at));
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *where = node(&r->in, p->key);
        const rq_qconfig_place here = { at, text_of(where) };
        rq_coreml_op_config op;
        bool given;
        RQ_TRY(read_config(r, node(&r->in, p->value), &here, &op, &given));
        const rq_status s = (types ? rq_coreml_config_set_op_type
                                   : rq_coreml_config_set_op_name)(r->c, here.key, given ? &op : NULL, r->in.err);
        if (s != RQ_OK)
            return rq_qconfig_fail_in(&r->in, where, &here, s);
    }
    return RQ_OK;
}

static rq_status read_top(reader *r, const yaml_node_t *map)
{
    static const char *const keys[] = { "config_type", "global_config", "op_type_configs", "op_name_configs" };
    const yaml_node_t *value[4] = { NULL };
    if (!is_map(map))
        return rq_qconfig_fail(&r->in, map, NULL, "a config is keys and values");
    RQ_TRY(rq_qconfig_check_keys(&r->in, map, NULL));
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *at = node(&r->in, p->key);
        rq_nearest near = rq_nearest_to(text_of(at));
        int i = 0;
        for (; i < 4 && strcmp(text_of(at), keys[i]) != 0; i++)
            rq_nearest_try(&near, keys[i]);
        if (i == 4)
            return rq_qconfig_unknown(&r->in, at, NULL, text_of(at),
                                      "to construct an OptimizationConfig object config_type, global_config, "
                                      "op_type_configs and op_name_configs are there. Invalid key",
                                      &near);
        value[i] = node(&r->in, p->value);
    }
    int64_t number;
    if (!value[0] || value[0]->type != YAML_SCALAR_NODE ||
        (is_plain(value[0]) && (rq_qconfig_is_null(value[0]) || rq_qconfig_is_integer(text_of(value[0]), &number))))
        return rq_qconfig_fail(&r->in, value[0] ? value[0] : map, NULL,
                               "config_type must be provided with type of string.");
    r->outer = value[0];
    rq_coreml_algorithm class;
    RQ_TRY(read_class(r, r->outer, &(rq_qconfig_place) { NULL, keys[0] }, &class));
    if (value[1]) {
        const rq_qconfig_place at = { NULL, keys[1] };
        rq_coreml_op_config op;
        bool given;
        RQ_TRY(read_config(r, value[1], &at, &op, &given));
        const rq_status s = rq_coreml_config_set_global(r->c, given ? &op : NULL, r->in.err);
        if (s != RQ_OK)
            return rq_qconfig_fail_in(&r->in, value[1], &at, s);
    }
    for (int i = 2; i < 4; i++)
        if (value[i])
            RQ_TRY(read_rules(r, value[i], &(rq_qconfig_place) { NULL, keys[i] }, i == 2));
    return RQ_OK;
}

static rq_status parse(rq_coreml_config **out, const char *text, size_t n, const char *name, rq_err *err)
{
    reader r = { .in = { .source = name, .err = err } };
    RQ_TRY(rq_coreml_config_create(&r.c, err));
    rq_status s = rq_qconfig_open(&r.in, text, n, "a config");
    if (s == RQ_OK) {
        const yaml_node_t *root = yaml_document_get_root_node(&r.in.doc);
        s = root ? read_top(&r, root)
                 : rq_fail(err, RQ_BAD_RECIPE, "%s: config_type must be provided with type of string.", name);
        yaml_document_delete(&r.in.doc);
    }
    if (s != RQ_OK) {
        rq_coreml_config_destroy(r.c);
        return s;
    }
    *out = r.c;
    return RQ_OK;
}

rq_status rq_coreml_config_parse(rq_coreml_config **out, const char *text, size_t n, rq_err *err)
{
    return parse(out, text, n, "config", err);
}

rq_status rq_coreml_config_load(rq_coreml_config **out, const char *path, rq_err *err)
{
    rq_map file;
    RQ_TRY(rq_file_map(&file, path, err));
    const rq_status s = parse(out, (const char *)file.data, file.size, path, err);
    rq_file_unmap(&file);
    return s;
}
