/* algo/recipe.c — a recipe file becomes a list of rules; asking for a tensor's settings applies those that match, the
 * least specific first. libyaml parses; the tables below say which keys there are and what they may hold. */
#include "requant/recipe.h"

#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "algo/recipe_preprocess.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "graph/graph.h"

enum { MOST_BYTES = 1 << 20 }; /* of a recipe file */

static const char *const method_names[RQ_N_METHODS] = {
    [RQ_METHOD_MINMAX] = "minmax",   [RQ_METHOD_EMA] = "ema", [RQ_METHOD_PERCENTILE] = "percentile",
    [RQ_METHOD_ENTROPY] = "entropy", [RQ_METHOD_MSE] = "mse", [RQ_METHOD_AVERAGE] = "average",
};

const char *rq_method_name(rq_method m)
{
    return (unsigned)m < RQ_N_METHODS ? method_names[m] : "?";
}

static const char *const weight_method_names[RQ_N_WEIGHT_METHODS] = {
    [RQ_WEIGHTS_MSE] = "mse", [RQ_WEIGHTS_MINMAX] = "minmax", [RQ_WEIGHTS_ORT] = "ort",
    [RQ_WEIGHTS_RTN] = "rtn", [RQ_WEIGHTS_HQQ] = "hqq",       [RQ_WEIGHTS_K_QUANT] = "k-quant",
};

const char *rq_weight_method_name(rq_weight_method m)
{
    return (unsigned)m < RQ_N_WEIGHT_METHODS ? weight_method_names[m] : "?";
}

rq_settings rq_settings_defaults(void)
{
    return (rq_settings) {
        .method = RQ_METHOD_MSE,
        .percentile = 99.99,
        .decay = 0.99,
        .activations = RQ_DTYPE_U8,
        .weights = RQ_DTYPE_S8,
        .symmetric_weights = true,
        .block_size = -1,
        .weight_method = RQ_WEIGHTS_MSE,
        .symmetric_ranges = RQ_AUTO,
    };
}

rq_status rq_settings_check(const rq_settings *s, rq_err *err)
{
    const char *a = rq_dtype_name(s->activations), *w = rq_dtype_name(s->weights);
    if (s->activations == RQ_DTYPE_S8 && s->weights == RQ_DTYPE_U8)
        return rq_fail(err, RQ_BAD_ARG,
                       "s8 activations with u8 weights run nowhere; use s8 weights, or u8 activations");
    if (rq_dtype_bits(s->activations) < 8 || rq_dtype_bits(s->activations) > 16 || !rq_dtype_is_integer(s->activations))
        return rq_fail(err, RQ_BAD_ARG, "activations cannot be %s, only u8, s8, u16 or s16", a);
    if (rq_dtype_bits(s->weights) < 4 || rq_dtype_bits(s->weights) > 16 || !rq_dtype_is_integer(s->weights))
        return rq_fail(err, RQ_BAD_ARG, "weights of type %s need the mode weight-only", w);
    if (s->restricted && (s->activations != RQ_DTYPE_U8 || s->symmetric_activations))
        return rq_fail(err, RQ_BAD_ARG, "restricted-zero-point is for u8 activations that are not symmetric, not %s%s",
                       s->symmetric_activations ? "symmetric " : "", a);
    const int bins = s->bins ? s->bins : 128, groups = s->groups ? s->groups : 128;
    if (s->method == RQ_METHOD_ENTROPY && s->compat && groups > bins)
        return rq_fail(err, RQ_BAD_ARG, "%d quantized-bins cannot be made of %d bins", groups, bins);
    if ((s->bins || s->groups) && !s->compat)
        return rq_fail(err, RQ_BAD_ARG, "bins and quantized-bins are those of compat: onnxruntime");
    return RQ_OK;
}

/* ---- the keys ---- */

typedef enum key {
    KEY_METHOD,
    KEY_OBSERVER,
    KEY_PERCENTILE,
    KEY_DECAY,
    KEY_ACTIVATIONS,
    KEY_WEIGHTS,
    KEY_SYMMETRIC,
    KEY_AFFINE_WEIGHTS,
    KEY_PER_TENSOR,
    KEY_BLOCK_SIZE,
    KEY_WEIGHT_METHOD,
    KEY_FLOAT,
    KEY_SCALE,
    KEY_ZERO_POINT,
    KEY_LO,
    KEY_HI,
    KEY_AXIS,
    KEY_REDUCE_RANGE,
    KEY_RESTRICTED,
    KEY_MIN_RANGE,
    KEY_SYMMETRIC_RANGES,
    KEY_COMPAT,
    KEY_BINS,
    KEY_GROUPS,
    KEY_FLOAT_BIAS,
    KEY_FLOAT_OUTPUT,
    KEY_WEIGHT_PAIRS,
    KEY_DEDICATED_PAIRS,
    KEY_KEEP_CLAMPS,
    KEY_FORCE_MOVES,
    KEY_CONST_MATMUL,
    N_KEYS,
} key;
#define BIT(k) (UINT64_C(1) << (k))

static const struct {
    const char *name;
    bool in_rules_only;
    const char *expects;
} keys[N_KEYS] = {
    [KEY_METHOD] = { "method", false, "minmax, ema, percentile, entropy, mse or average" },
    [KEY_OBSERVER] = { "observer", false, "the name of an observer that the program brings" },
    [KEY_PERCENTILE] = { "percentile", false, "a number above 0, at most 100" },
    [KEY_DECAY] = { "decay", false, "a number from 0 to below 1" },
    [KEY_ACTIVATIONS] = { "activations", false, "u8, s8, u16 or s16" },
    [KEY_WEIGHTS] = { "weights", false, "s8, u8, s4, u4, s16, u16, s2 or u2" },
    [KEY_SYMMETRIC] = { "symmetric", false, "true or false" },
    [KEY_AFFINE_WEIGHTS] = { "affine-weights", false, "true or false" },
    [KEY_PER_TENSOR] = { "per-tensor", false, "true or false" },
    [KEY_BLOCK_SIZE] = { "block-size", false, "0, 16, 32, 64, 128 or 256" },
    [KEY_WEIGHT_METHOD] = { "weight-method", false, "mse, minmax, ort, rtn, hqq or k-quant" },
    [KEY_FLOAT] = { "float", true, "true or false" },
    [KEY_SCALE] = { "scale", true, "a number above 0" },
    [KEY_ZERO_POINT] = { "zero-point", true, "an integer from -32768 to 65535" },
    [KEY_LO] = { "lo", true, "a number, at most 0" },
    [KEY_HI] = { "hi", true, "a number, at least 0" },
    [KEY_AXIS] = { "axis", true, "an integer from -8 to 7" },
    [KEY_REDUCE_RANGE] = { "reduce-range", false, "true or false" },
    [KEY_RESTRICTED] = { "restricted-zero-point", false, "true or false" },
    [KEY_MIN_RANGE] = { "min-range", false, "a number, at least 0" },
    [KEY_SYMMETRIC_RANGES] = { "symmetric-ranges", false, "true, false or auto" },
    [KEY_COMPAT] = { "compat", false, "none or onnxruntime" },
    [KEY_BINS] = { "bins", false, "an integer from 16 to 65536" },
    [KEY_GROUPS] = { "quantized-bins", false, "an integer from 2 to 65536" },
    [KEY_FLOAT_BIAS] = { "float-bias", false, "true or false" },
    [KEY_FLOAT_OUTPUT] = { "float-output", false, "true or false" },
    [KEY_WEIGHT_PAIRS] = { "weight-pairs", false, "true or false" },
    [KEY_DEDICATED_PAIRS] = { "dedicated-pairs", false, "true or false" },
    [KEY_KEEP_CLAMPS] = { "keep-relu", false, "true or false" },
    [KEY_FORCE_MOVES] = { "force-moves", false, "true or false" },
    [KEY_CONST_MATMUL] = { "const-matmul", false, "true or false" },
};

/* Global keys that are no setting of a tensor: kept as text for whoever runs the command. */
static const char *const option_names[] = { "samples",       "eval",    "max-drop",     "seed",        "json",
                                            "threads",       "batch",   "dim",          "output",      "tap",
                                            "requantize",    "runs",    "data",         "against",     "out",
                                            "quiet",         "verbose", "mode",         "weight-form", "accuracy-level",
                                            "deterministic", "match",   "products",     "format",      "profile",
                                            "opset",         "per-row", "dynamic-conv", "ranges" };
enum { N_OPTIONS = sizeof option_names / sizeof option_names[0] };

static bool read_double(const char *text, double *out)
{
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    return end != text && !*end && isfinite(*out);
}

static bool read_bool(const char *text, bool *out)
{
    static const char *const yes[] = { "true", "True", "yes", "on" }, *const no[] = { "false", "False", "no", "off" };
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
        if (!strcmp(text, yes[i]) || !strcmp(text, no[i])) {
            *out = !strcmp(text, yes[i]);
            return true;
        }
    return false;
}

/* One of n types by name. */
static bool read_type(const char *text, const rq_dtype *types, int n, rq_dtype *out)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(text, rq_dtype_name(types[i]))) {
            *out = types[i];
            return true;
        }
    return false;
}

static bool read_int(const char *text, double lo, double hi, int *out)
{
    double v;
    if (!read_double(text, &v) || v != rint(v) || v < lo || v > hi)
        return false;
    *out = (int)v;
    return true;
}

static bool read_block_size(const char *text, int *out)
{
    double v;
    if (!read_double(text, &v) || !(v == 0 || v == 16 || v == 32 || v == 64 || v == 128 || v == 256))
        return false;
    *out = (int)v;
    return true;
}

static bool read_weight_method(const char *text, rq_weight_method *out)
{
    for (int m = 0; m < RQ_N_WEIGHT_METHODS; m++)
        if (!strcmp(text, weight_method_names[m])) {
            *out = (rq_weight_method)m;
            return true;
        }
    return false;
}

/* Put `text` where key k belongs; false: it is not what the key expects. */
static bool set_key(rq_settings *s, key k, const char *text)
{
    double v = 0;
    bool b = false;
    switch (k) {
    case KEY_METHOD:
        for (int m = 0; m < RQ_N_METHODS; m++)
            if (!strcmp(text, method_names[m])) {
                s->method = (rq_method)m;
                return true;
            }
        return false;
    case KEY_OBSERVER:
        s->observer = text; /* kept by the recipe */
        return text[0] != 0;
    case KEY_PERCENTILE:
        if (!read_double(text, &v) || !(v > 0 && v <= 100))
            return false;
        s->percentile = v;
        return true;
    case KEY_DECAY:
        if (!read_double(text, &v) || !(v >= 0 && v < 1))
            return false;
        s->decay = v;
        return true;
    case KEY_ACTIVATIONS:
        return read_type(text, (const rq_dtype[]) { RQ_DTYPE_U8, RQ_DTYPE_S8, RQ_DTYPE_U16, RQ_DTYPE_S16 }, 4,
                         &s->activations);
    case KEY_WEIGHTS:
        return read_type(text,
                         (const rq_dtype[]) { RQ_DTYPE_S8, RQ_DTYPE_U8, RQ_DTYPE_S4, RQ_DTYPE_U4, RQ_DTYPE_S16,
                                              RQ_DTYPE_U16, RQ_DTYPE_S2, RQ_DTYPE_U2 },
                         8, &s->weights);
    case KEY_SYMMETRIC:
        return read_bool(text, &s->symmetric_activations);
    case KEY_AFFINE_WEIGHTS:
        if (!read_bool(text, &b))
            return false;
        s->symmetric_weights = !b;
        return true;
    case KEY_PER_TENSOR:
        return read_bool(text, &s->per_tensor);
    case KEY_BLOCK_SIZE:
        return read_block_size(text, &s->block_size);
    case KEY_WEIGHT_METHOD:
        return read_weight_method(text, &s->weight_method);
    case KEY_FLOAT:
        return read_bool(text, &s->keep_float);
    case KEY_SCALE:
        if (!read_double(text, &v) || !((float)v > 0 && isfinite((float)v)))
            return false;
        s->scale = (float)v;
        s->pinned = true;
        return true;
    case KEY_ZERO_POINT:
        return read_int(text, -32768, 65535, &s->zero_point);
    case KEY_LO:
        s->has_lo = true;
        return read_double(text, &s->lo) && s->lo <= 0;
    case KEY_HI:
        s->has_hi = true;
        return read_double(text, &s->hi) && s->hi >= 0;
    case KEY_AXIS:
        s->has_axis = true;
        return read_int(text, -RQ_MAX_RANK, RQ_MAX_RANK - 1, &s->axis);
    case KEY_REDUCE_RANGE:
        return read_bool(text, &s->reduced);
    case KEY_RESTRICTED:
        return read_bool(text, &s->restricted);
    case KEY_MIN_RANGE:
        return read_double(text, &s->min_range) && s->min_range >= 0;
    case KEY_SYMMETRIC_RANGES:
        s->symmetric_ranges = RQ_AUTO;
        if (!strcmp(text, "auto"))
            return true;
        if (!read_bool(text, &b))
            return false;
        s->symmetric_ranges = b ? RQ_YES : RQ_NO;
        return true;
    case KEY_COMPAT:
        s->compat = !strcmp(text, "onnxruntime") ? RQ_COMPAT_ONNXRUNTIME : RQ_COMPAT_NONE;
        return s->compat || !strcmp(text, "none");
    case KEY_BINS:
        return read_int(text, 16, 65536, &s->bins);
    case KEY_GROUPS:
        return read_int(text, 2, 65536, &s->groups);
    case KEY_FLOAT_BIAS:
        return read_bool(text, &s->float_bias);
    case KEY_FLOAT_OUTPUT:
        return read_bool(text, &s->float_output);
    case KEY_WEIGHT_PAIRS:
        return read_bool(text, &s->weight_pairs);
    case KEY_DEDICATED_PAIRS:
        return read_bool(text, &s->dedicated_pairs);
    case KEY_KEEP_CLAMPS:
        return read_bool(text, &s->keep_clamps);
    case KEY_FORCE_MOVES:
        return read_bool(text, &s->force_moves);
    case KEY_CONST_MATMUL:
        return read_bool(text, &s->const_matmul);
    case N_KEYS:
        break;
    }
    return false;
}

/* Take from `from` what key k says. */
static void copy_key(rq_settings *to, const rq_settings *from, key k)
{
    switch (k) {
    case KEY_METHOD:
        to->method = from->method;
        break;
    case KEY_OBSERVER:
        to->observer = from->observer;
        break;
    case KEY_PERCENTILE:
        to->percentile = from->percentile;
        break;
    case KEY_DECAY:
        to->decay = from->decay;
        break;
    case KEY_ACTIVATIONS:
        to->activations = from->activations;
        break;
    case KEY_WEIGHTS:
        to->weights = from->weights;
        break;
    case KEY_SYMMETRIC:
        to->symmetric_activations = from->symmetric_activations;
        break;
    case KEY_AFFINE_WEIGHTS:
        to->symmetric_weights = from->symmetric_weights;
        break;
    case KEY_PER_TENSOR:
        to->per_tensor = from->per_tensor;
        break;
    case KEY_BLOCK_SIZE:
        to->block_size = from->block_size;
        break;
    case KEY_WEIGHT_METHOD:
        to->weight_method = from->weight_method;
        break;
    case KEY_FLOAT:
        to->keep_float = from->keep_float;
        break;
    case KEY_SCALE:
        to->scale = from->scale;
        to->pinned = true;
        break;
    case KEY_ZERO_POINT:
        to->zero_point = from->zero_point;
        break;
    case KEY_LO:
        to->lo = from->lo;
        to->has_lo = true;
        break;
    case KEY_HI:
        to->hi = from->hi;
        to->has_hi = true;
        break;
    case KEY_AXIS:
        to->axis = from->axis;
        to->has_axis = true;
        break;
    case KEY_REDUCE_RANGE:
        to->reduced = from->reduced;
        break;
    case KEY_RESTRICTED:
        to->restricted = from->restricted;
        break;
    case KEY_MIN_RANGE:
        to->min_range = from->min_range;
        break;
    case KEY_SYMMETRIC_RANGES:
        to->symmetric_ranges = from->symmetric_ranges;
        break;
    case KEY_COMPAT:
        to->compat = from->compat;
        break;
    case KEY_BINS:
        to->bins = from->bins;
        break;
    case KEY_GROUPS:
        to->groups = from->groups;
        break;
    case KEY_FLOAT_BIAS:
        to->float_bias = from->float_bias;
        break;
    case KEY_FLOAT_OUTPUT:
        to->float_output = from->float_output;
        break;
    case KEY_WEIGHT_PAIRS:
        to->weight_pairs = from->weight_pairs;
        break;
    case KEY_DEDICATED_PAIRS:
        to->dedicated_pairs = from->dedicated_pairs;
        break;
    case KEY_KEEP_CLAMPS:
        to->keep_clamps = from->keep_clamps;
        break;
    case KEY_FORCE_MOVES:
        to->force_moves = from->force_moves;
        break;
    case KEY_CONST_MATMUL:
        to->const_matmul = from->const_matmul;
        break;
    case N_KEYS:
        break;
    }
}

/* ---- in memory ---- */

typedef struct values {
    uint64_t has; /* bit per key */
    rq_settings s;
} values;

typedef struct rule {
    const char *name, *type, *tensor; /* patterns; NULL: anything */
    values set;
    size_t line;
} rule;

struct rq_recipe {
    rq_arena text;
    const char *path;
    values global;
    const char *option[N_OPTIONS];
    rule *rules; /* least specific first; among equals in file order */
    int n_rules, cap_rules;
    rq_preprocess preprocess;
    bool has_preprocess;
};

const rq_preprocess *rq_recipe_preprocess(const rq_recipe *r)
{
    return r && r->has_preprocess ? &r->preprocess : NULL;
}

void rq_recipe_destroy(rq_recipe *r)
{
    if (!r)
        return;
    rq_mem_free(r->rules);
    rq_arena_release(&r->text);
    rq_mem_free(r);
}

/* ---- reading ---- */

typedef struct reader {
    rq_recipe *r;
    yaml_document_t doc;
    rq_err *err;
} reader;

static size_t line_of(const yaml_node_t *n)
{
    return n->start_mark.line + 1;
}

static yaml_node_t *node_at(reader *in, int index)
{
    return yaml_document_get_node(&in->doc, index);
}

/* The text of a scalar, kept by the recipe. */
static rq_status scalar(reader *in, const yaml_node_t *n, const char *what, const char **out)
{
    if (n->type != YAML_SCALAR_NODE)
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: '%s' wants a single value", in->r->path, line_of(n), what);
    *out = rq_arena_strndup(&in->r->text, (const char *)n->data.scalar.value, n->data.scalar.length);
    if (!*out)
        return rq_fail(in->err, RQ_NO_MEMORY, "%s: out of memory", in->r->path);
    return RQ_OK;
}

static rq_status unknown_key(reader *in, const yaml_node_t *n, const char *word, const char *where, rq_nearest *near)
{
    char hint[RQ_NEAREST_HINT];
    return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: unknown key '%.80s'%s%s", in->r->path, line_of(n), word, where,
                   rq_nearest_hint(near, hint));
}

static rq_status read_key(reader *in, values *v, key k, const yaml_node_t *at)
{
    const char *text;
    RQ_TRY(scalar(in, at, keys[k].name, &text));
    if (v->has & BIT(k))
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: '%s' stands twice", in->r->path, line_of(at), keys[k].name);
    if (!set_key(&v->s, k, text))
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: '%s' is '%.80s', expected %s", in->r->path, line_of(at),
                       keys[k].name, text, keys[k].expects);
    v->has |= BIT(k);
    return RQ_OK;
}

static rq_status read_set(reader *in, values *v, const yaml_node_t *map)
{
    if (map->type != YAML_MAPPING_NODE || map->data.mapping.pairs.start == map->data.mapping.pairs.top)
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: 'set' wants keys and values", in->r->path, line_of(map));
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *at = node_at(in, p->key);
        const char *word;
        RQ_TRY(scalar(in, at, "a key", &word));
        rq_nearest near = rq_nearest_to(word);
        int k = 0;
        while (k < N_KEYS && strcmp(word, keys[k].name))
            rq_nearest_try(&near, keys[k++].name);
        if (k == N_KEYS)
            return unknown_key(in, at, word, " in 'set'", &near);
        RQ_TRY(read_key(in, v, (key)k, node_at(in, p->value)));
    }
    return RQ_OK;
}

/* A share is asked for only by who wants the method that reads it, as with the option. */
static void imply_method(values *v)
{
    if ((v->has & BIT(KEY_PERCENTILE)) && !(v->has & BIT(KEY_METHOD))) {
        v->s.method = RQ_METHOD_PERCENTILE;
        v->has |= BIT(KEY_METHOD);
    }
}

static rq_status read_match(reader *in, rule *r, const yaml_node_t *map)
{
    if (map->type != YAML_MAPPING_NODE || map->data.mapping.pairs.start == map->data.mapping.pairs.top)
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: 'match' wants name, type or tensor", in->r->path, line_of(map));
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        static const char *const names[] = { "name", "type", "tensor" };
        const char **const to[] = { &r->name, &r->type, &r->tensor };
        const yaml_node_t *at = node_at(in, p->key);
        const char *word;
        RQ_TRY(scalar(in, at, "a key", &word));
        rq_nearest near = rq_nearest_to(word);
        int i = 0;
        while (i < 3 && strcmp(word, names[i]))
            rq_nearest_try(&near, names[i++]);
        if (i == 3)
            return unknown_key(in, at, word, " in 'match'", &near);
        RQ_TRY(scalar(in, node_at(in, p->value), word, to[i]));
    }
    return RQ_OK;
}

static rq_status read_rule(reader *in, const yaml_node_t *map)
{
    if (map->type != YAML_MAPPING_NODE)
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: a rule is {match: {...}, set: {...}}", in->r->path,
                       line_of(map));
    rule r = { .line = line_of(map), .set.s = rq_settings_defaults() };
    bool has_match = false, has_set = false;
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *at = node_at(in, p->key), *value = node_at(in, p->value);
        const char *word;
        RQ_TRY(scalar(in, at, "a key", &word));
        if (!strcmp(word, "match") && !has_match) {
            RQ_TRY(read_match(in, &r, value));
            has_match = true;
        } else if (!strcmp(word, "set") && !has_set) {
            RQ_TRY(read_set(in, &r.set, value));
            imply_method(&r.set);
            has_set = true;
        } else {
            rq_nearest near = rq_nearest_to(word);
            rq_nearest_try(&near, "match");
            rq_nearest_try(&near, "set");
            return unknown_key(in, at, word, " in a rule", &near);
        }
    }
    if (!has_match || !has_set)
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: a rule needs both 'match' and 'set'", in->r->path, r.line);
    bool scale = r.set.has & BIT(KEY_SCALE), zero = r.set.has & BIT(KEY_ZERO_POINT);
    if (scale && !r.tensor)
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: 'scale' belongs to one tensor: match it by 'tensor'",
                       in->r->path, r.line);
    if (zero && !scale)
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: 'zero-point' means nothing without 'scale'", in->r->path,
                       r.line);
    if (scale && !zero) /* what an earlier rule pinned must not stay with another scale */
        r.set.has |= BIT(KEY_ZERO_POINT);
    if (!rq_mem_grow(&in->r->rules, in->r->n_rules, &in->r->cap_rules, sizeof r))
        return rq_fail(in->err, RQ_NO_MEMORY, "%s: out of memory", in->r->path);
    in->r->rules[in->r->n_rules++] = r;
    return RQ_OK;
}

/* An option as text; several become one, with commas: dim: {h: 32, w: 320} is "h=32,w=320". */
static rq_status read_option(reader *in, int i, const yaml_node_t *at)
{
    rq_recipe *r = in->r;
    const char *text = "";
    if (at->type == YAML_SCALAR_NODE) {
        RQ_TRY(scalar(in, at, option_names[i], &text));
    } else {
        bool map = at->type == YAML_MAPPING_NODE;
        size_t n = map ? (size_t)(at->data.mapping.pairs.top - at->data.mapping.pairs.start)
                       : (size_t)(at->data.sequence.items.top - at->data.sequence.items.start);
        if (strcmp(option_names[i], "dim"))
            return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: '%s' wants a single value", r->path, line_of(at),
                           option_names[i]);
        for (size_t j = 0; j < n; j++) {
            const char *name = "", *value;
            if (map)
                RQ_TRY(scalar(in, node_at(in, at->data.mapping.pairs.start[j].key), "dim", &name));
            RQ_TRY(scalar(in,
                          node_at(in, map ? at->data.mapping.pairs.start[j].value : at->data.sequence.items.start[j]),
                          "dim", &value));
            size_t size = strlen(text) + strlen(name) + strlen(value) + 3;
            char *joined = rq_arena_alloc(&r->text, size, 1);
            if (!joined)
                return rq_fail(in->err, RQ_NO_MEMORY, "%s: out of memory", r->path);
            snprintf(joined, size, "%s%s%s%s%s", text, j ? "," : "", name, map ? "=" : "", value);
            text = joined;
        }
    }
    if (r->option[i])
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: '%s' stands twice", r->path, line_of(at), option_names[i]);
    r->option[i] = text;
    return RQ_OK;
}

static rq_status read_top(reader *in, const yaml_node_t *map)
{
    rq_recipe *r = in->r;
    if (map->type != YAML_MAPPING_NODE)
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: a recipe is keys and values", r->path, line_of(map));
    bool has_rules = false;
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *at = node_at(in, p->key), *value = node_at(in, p->value);
        const char *word;
        RQ_TRY(scalar(in, at, "a key", &word));
        if (!strcmp(word, "rules")) {
            if (has_rules || value->type != YAML_SEQUENCE_NODE)
                return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: 'rules' is one list", r->path, line_of(at));
            has_rules = true;
            for (yaml_node_item_t *i = value->data.sequence.items.start; i < value->data.sequence.items.top; i++)
                RQ_TRY(read_rule(in, node_at(in, *i)));
            continue;
        }
        if (!strcmp(word, "preprocess") && !r->has_preprocess) {
            RQ_TRY(rq_recipe_read_preprocess(&r->preprocess, &in->doc, value, r->path, in->err));
            r->has_preprocess = true;
            continue;
        }
        rq_nearest near = rq_nearest_to(word);
        rq_nearest_try(&near, "rules");
        rq_nearest_try(&near, "preprocess");
        int k = 0, o = 0;
        while (k < N_KEYS && strcmp(word, keys[k].name))
            rq_nearest_try(&near, keys[k++].name);
        while (o < N_OPTIONS && strcmp(word, option_names[o]))
            rq_nearest_try(&near, option_names[o++]);
        if (k == N_KEYS && o == N_OPTIONS)
            return unknown_key(in, at, word, "", &near);
        if (k < N_KEYS && keys[k].in_rules_only)
            return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: '%s' belongs into the 'set' of a rule", r->path,
                           line_of(at), word);
        RQ_TRY(k < N_KEYS ? read_key(in, &r->global, (key)k, value) : read_option(in, o, value));
    }
    imply_method(&r->global);
    return RQ_OK;
}

static int weight(const rule *r)
{
    return 4 * !!r->tensor + 2 * !!r->name + !!r->type;
}

/* Insertion keeps equals in file order. */
static void sort_rules(rq_recipe *r)
{
    for (int i = 1; i < r->n_rules; i++) {
        rule moved = r->rules[i];
        int j = i;
        for (; j > 0 && weight(&r->rules[j - 1]) > weight(&moved); j--)
            r->rules[j] = r->rules[j - 1];
        r->rules[j] = moved;
    }
}

static rq_status parse(rq_recipe *r, const rq_map *file, rq_err *err)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return rq_fail(err, RQ_NO_MEMORY, "%s: out of memory", r->path);
    yaml_parser_set_input_string(&parser, file->data, file->size);
    reader in = { .r = r, .err = err };
    rq_status s;
    if (!yaml_parser_load(&parser, &in.doc)) {
        s = rq_fail(err, RQ_BAD_RECIPE, "%s:%zu: not YAML: %s", r->path, parser.problem_mark.line + 1,
                    parser.problem ? parser.problem : "unreadable");
        yaml_parser_delete(&parser);
        return s;
    }
    const yaml_node_t *root = yaml_document_get_root_node(&in.doc);
    s = root ? read_top(&in, root) : RQ_OK; /* an empty file asks for nothing */
    yaml_document_delete(&in.doc);
    yaml_parser_delete(&parser);
    return s;
}

rq_status rq_recipe_load(rq_recipe **out, const char *path, rq_err *err)
{
    rq_map file;
    RQ_TRY(rq_file_map(&file, path, err));
    rq_status s = RQ_NO_MEMORY;
    rq_recipe *r = rq_mem_zalloc(1, sizeof *r);
    if (!r || !(r->path = rq_arena_strndup(&r->text, path, strlen(path)))) {
        rq_fail(err, RQ_NO_MEMORY, "%s: out of memory", path);
        goto done;
    }
    if (file.size > MOST_BYTES) {
        s = rq_fail(err, RQ_BAD_RECIPE, "%s: %zu bytes are too many for a recipe", path, file.size);
        goto done;
    }
    r->global.s = rq_settings_defaults();
    s = parse(r, &file, err);
done:
    rq_file_unmap(&file);
    if (s != RQ_OK) {
        rq_recipe_destroy(r);
        return s;
    }
    sort_rules(r);
    *out = r;
    return RQ_OK;
}

/* ---- asking ---- */

static void apply(const values *v, rq_settings *s)
{
    for (int k = 0; k < N_KEYS; k++)
        if (v->has & BIT(k))
            copy_key(s, &v->s, (key)k);
}

void rq_recipe_apply_global(const rq_recipe *r, rq_settings *s, const char *const *set)
{
    for (int k = 0; k < N_KEYS; k++) {
        bool kept = false;
        for (const char *const *name = set; name && *name; name++)
            kept |= !strcmp(*name, keys[k].name);
        if (r->global.has & BIT(k) && !kept)
            copy_key(s, &r->global.s, (key)k);
    }
}

static bool fits(const char *pattern, const char *name)
{
    return !pattern || (name && *name && fnmatch(pattern, name, 0) == 0);
}

rq_settings rq_recipe_resolve(const rq_recipe *r, const rq_settings *base, const char *op, const char *node,
                              const char *tensor)
{
    rq_settings s = *base;
    for (int i = 0; r && i < r->n_rules; i++) {
        const rule *u = &r->rules[i];
        if (fits(u->type, op) && fits(u->name, node) && fits(u->tensor, tensor))
            apply(&u->set, &s);
    }
    return s;
}

static bool matches_node(const rule *u, const rq_graph *g, const rq_node *n)
{
    if (!fits(u->type, n->op) || !fits(u->name, n->name))
        return false;
    if (!u->tensor)
        return true;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] >= 0 && fits(u->tensor, g->values[n->in[i]].name))
            return true;
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] >= 0 && fits(u->tensor, g->values[n->out[i]].name))
            return true;
    return false;
}

/* Which of the patterns nothing fits, and the closest thing to it. */
static rq_status nothing_matches(const rq_recipe *r, const rule *u, const rq_graph *g, rq_err *err)
{
    const char *const patterns[] = { u->tensor, u->name, u->type };
    static const char *const kinds[] = { "tensor", "node name", "operator type" };
    for (int k = 0; k < 3; k++) {
        if (!patterns[k])
            continue;
        rq_nearest near = rq_nearest_to(patterns[k]);
        bool found = false;
        for (int i = 0; k == 0 && i < g->n_values; i++)
            if (g->values[i].kind != RQ_VALUE_DEAD) {
                found |= fits(patterns[k], g->values[i].name);
                rq_nearest_try(&near, g->values[i].name);
            }
        for (int i = 0; k > 0 && i < g->n_nodes; i++)
            if (g->nodes[i].op) {
                const char *name = k == 1 ? g->nodes[i].name : g->nodes[i].op;
                found |= fits(patterns[k], name);
                rq_nearest_try(&near, name);
            }
        if (found)
            continue;
        char hint[RQ_NEAREST_HINT];
        return rq_fail(err, RQ_BAD_RECIPE, "%s:%zu: this rule matches nothing: no %s fits '%.80s'%s", r->path, u->line,
                       kinds[k], patterns[k], rq_nearest_hint(&near, hint));
    }
    return rq_fail(err, RQ_BAD_RECIPE,
                   "%s:%zu: this rule matches nothing: each pattern fits something, but no node fits all", r->path,
                   u->line);
}

rq_status rq_recipe_check(const rq_recipe *r, const rq_graph *g, rq_err *err)
{
    for (int i = 0; i < r->n_rules; i++) {
        bool found = false;
        for (int n = 0; n < g->n_nodes && !found; n++)
            found = g->nodes[n].op && matches_node(&r->rules[i], g, &g->nodes[n]);
        if (!found)
            return nothing_matches(r, &r->rules[i], g, err);
    }
    return RQ_OK;
}

bool rq_recipe_names_tensor(const rq_recipe *r, const char *tensor)
{
    for (int i = 0; r && i < r->n_rules; i++)
        if (r->rules[i].tensor && fits(r->rules[i].tensor, tensor))
            return true;
    return false;
}

bool rq_recipe_has_rules(const rq_recipe *r)
{
    return r->n_rules > 0;
}

const char *rq_recipe_option(const rq_recipe *r, const char *name)
{
    for (int i = 0; i < N_OPTIONS; i++)
        if (!strcmp(option_names[i], name))
            return r->option[i];
    return NULL;
}
