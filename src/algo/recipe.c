/* algo/recipe.c — a recipe file becomes a list of rules; asking for a tensor's settings applies those that match, the
 * least specific first. libyaml parses; settings.c has the keys and what they may hold. */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "algo/recipe.h"
#include "algo/recipe_preprocess.h"
#include "algo/settings.h"
#include "base/brackets.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "graph/graph.h"

enum { MOST_BYTES = 1 << 20 }; /* of a recipe file */

/* Global keys that are no setting of a tensor: kept as text for whoever runs the command. */
static const char *const option_names[] = {
    "samples", "eval", "max-drop", "seed", "json", "threads", "batch", "dim", "output", "tap", "requantize", "runs",
    "data", "against", "out", "quiet", "verbose", "mode", "weight-form", "accuracy-level", "deterministic", "match",
    "products", "format", "profile", "opset", "per-row", "dynamic-conv", "ranges",
    /* of train and qat */
    "loss", "label-smoothing", "distill", "temperature", "feature", "teacher", "optimizer", "lr", "momentum",
    "nesterov", "weight-decay", "decay-all", "clip-norm", "clip-value", "schedule", "warmup", "lr-min", "every",
    "gamma", "epochs", "augment", "freeze-bn-after", "drop-last", "keep-last", "checkpoint-activations", "checkpoint",
    "checkpoint-steps", "resume", "json-steps", "init", "config", "preset", "weights-bits", "activations-bits",
    "scale-lr", "calibrate-only", "original-lr", "original-epochs", "reestimate-bn"
};
enum { N_OPTIONS = sizeof option_names / sizeof option_names[0] };

/* ---- in memory ---- */

#define BIT(k) (UINT64_C(1) << (k))

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

static rq_status read_key(reader *in, values *v, rq_key k, const yaml_node_t *at)
{
    const char *text;
    RQ_TRY(scalar(in, at, rq_settings_keys[k].name, &text));
    if (v->has & BIT(k))
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: '%s' stands twice", in->r->path, line_of(at),
                       rq_settings_keys[k].name);
    if (!rq_settings_set(&v->s, k, text))
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: '%s' is '%.80s', expected %s", in->r->path, line_of(at),
                       rq_settings_keys[k].name, text, rq_settings_keys[k].expects);
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
        while (k < RQ_N_KEYS && strcmp(word, rq_settings_keys[k].name))
            rq_nearest_try(&near, rq_settings_keys[k++].name);
        if (k == RQ_N_KEYS)
            return unknown_key(in, at, word, " in 'set'", &near);
        RQ_TRY(read_key(in, v, (rq_key)k, node_at(in, p->value)));
    }
    return RQ_OK;
}

/* A share is asked for only by who wants the method that reads it, as with the option. */
static void imply_method(values *v)
{
    if ((v->has & BIT(RQ_KEY_PERCENTILE)) && !(v->has & BIT(RQ_KEY_METHOD))) {
        v->s.method = RQ_METHOD_PERCENTILE;
        v->has |= BIT(RQ_KEY_METHOD);
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
    bool scale = r.set.has & BIT(RQ_KEY_SCALE), zero = r.set.has & BIT(RQ_KEY_ZERO_POINT);
    if (scale && !r.tensor)
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: 'scale' belongs to one tensor: match it by 'tensor'",
                       in->r->path, r.line);
    if (zero && !scale)
        return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: 'zero-point' means nothing without 'scale'", in->r->path,
                       r.line);
    if (scale && !zero) /* what an earlier rule pinned must not stay with another scale */
        r.set.has |= BIT(RQ_KEY_ZERO_POINT);
    if (!rq_mem_grow(&in->r->rules, in->r->n_rules, &in->r->cap_rules, sizeof r))
        return rq_fail(in->err, RQ_NO_MEMORY, "%s: out of memory", in->r->path);
    in->r->rules[in->r->n_rules++] = r;
    return RQ_OK;
}

/* Options that may be a list or a mapping too. */
static bool is_list(const char *option)
{
    return !strcmp(option, "dim") || !strcmp(option, "augment") || !strcmp(option, "feature");
}

/* An option as text; several become one, with commas: dim: {h: 32, w: 320} is "h=32,w=320" (features: a line each). */
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
        if (!is_list(option_names[i]))
            return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: '%s' wants a single value", r->path, line_of(at),
                           option_names[i]);
        for (size_t j = 0; j < n; j++) {
            const char *name = "", *value;
            if (map)
                RQ_TRY(scalar(in, node_at(in, at->data.mapping.pairs.start[j].key), option_names[i], &name));
            RQ_TRY(scalar(in,
                          node_at(in, map ? at->data.mapping.pairs.start[j].value : at->data.sequence.items.start[j]),
                          option_names[i], &value));
            const char *between = !j ? "" : !strcmp(option_names[i], "feature") ? "\n" : ","; /* names have commas */
            size_t size = strlen(text) + strlen(name) + strlen(value) + 3;
            char *joined = rq_arena_alloc(&r->text, size, 1);
            if (!joined)
                return rq_fail(in->err, RQ_NO_MEMORY, "%s: out of memory", r->path);
            snprintf(joined, size, "%s%s%s%s%s", text, between, name, map ? "=" : "", value);
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
        while (k < RQ_N_KEYS && strcmp(word, rq_settings_keys[k].name))
            rq_nearest_try(&near, rq_settings_keys[k++].name);
        while (o < N_OPTIONS && strcmp(word, option_names[o]))
            rq_nearest_try(&near, option_names[o++]);
        if (k == RQ_N_KEYS && o == N_OPTIONS)
            return unknown_key(in, at, word, "", &near);
        if (k < RQ_N_KEYS && rq_settings_keys[k].in_rules_only)
            return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: '%s' belongs into the 'set' of a rule", r->path,
                           line_of(at), word);
        RQ_TRY(k < RQ_N_KEYS ? read_key(in, &r->global, (rq_key)k, value) : read_option(in, o, value));
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
    if (rq_brackets_too_deep((const char *)file->data, file->size))
        return rq_fail(err, RQ_BAD_RECIPE, "%s: more than %d brackets within each other", r->path, RQ_BRACKETS_MOST);
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
    for (int k = 0; k < RQ_N_KEYS; k++)
        if (v->has & BIT(k))
            rq_settings_take(s, &v->s, (rq_key)k);
}

void rq_recipe_apply_global(const rq_recipe *r, rq_settings *s, const char *const *set)
{
    for (int k = 0; k < RQ_N_KEYS; k++) {
        bool kept = false;
        for (const char *const *name = set; name && *name; name++)
            kept |= !strcmp(*name, rq_settings_keys[k].name);
        if (r->global.has & BIT(k) && !kept)
            rq_settings_take(s, &r->global.s, (rq_key)k);
    }
}

int rq_recipe_n_rules(const rq_recipe *r)
{
    return r ? r->n_rules : 0;
}

size_t rq_recipe_apply_rule(const rq_recipe *r, int i, rq_settings *s)
{
    apply(&r->rules[i].set, s);
    return r->rules[i].line;
}

const char *rq_recipe_path(const rq_recipe *r)
{
    return r->path;
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
