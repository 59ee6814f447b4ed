/* algo/linear_quantizer_config_text.c — LinearQuantizerConfig from YAML, of which JSON is a part: the keys and spellings of Core ML Tools, types as strict as its
 * constructors have them (docs/coreml-facts.md 1). With `compat: true` what the original's dictionaries let pass, passes. */
#include <ctype.h>
#include <stdio.h>

#include "algo/linear_quantizer_config.h"
#include "algo/qconfig_text.h"
#include "base/file.h"
#include "base/number.h"

typedef struct reader {
    rq_qconfig_reader in;
    rq_linear_quantizer_config *c;
} reader;

typedef enum key {
    KEY_ALGORITHM,
    KEY_WEIGHT_DTYPE,
    KEY_WEIGHT_OBSERVER,
    KEY_WEIGHT_PER_CHANNEL,
    KEY_ACTIVATION_DTYPE,
    KEY_ACTIVATION_OBSERVER,
    KEY_SCHEME,
    KEY_MILESTONES,
    KEY_ACTIVATION_N_BITS,
    KEY_WEIGHT_N_BITS, /* derived, never given */
    N_KEYS
} key;

static const char *const keys[N_KEYS] = {
    [KEY_ALGORITHM] = "algorithm",
    [KEY_WEIGHT_DTYPE] = "weight_dtype",
    [KEY_WEIGHT_OBSERVER] = "weight_observer",
    [KEY_WEIGHT_PER_CHANNEL] = "weight_per_channel",
    [KEY_ACTIVATION_DTYPE] = "activation_dtype",
    [KEY_ACTIVATION_OBSERVER] = "activation_observer",
    [KEY_SCHEME] = "quantization_scheme",
    [KEY_MILESTONES] = "milestones",
    [KEY_ACTIVATION_N_BITS] = "activation_n_bits",
    [KEY_WEIGHT_N_BITS] = "weight_n_bits",
};

static bool is_plain(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE && n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static bool is_null(const yaml_node_t *n)
{
    return is_plain(n) && rq_qconfig_is_null(n);
}

static bool same_word(const char *a, const char *b, bool any_case)
{
    if (!any_case)
        return !strcmp(a, b);
    for (; *a && tolower((unsigned char)*a) == *b; a++)
        b++;
    return !*a && !*b;
}

/* ---- values ---- */

/* Position of the value among words (lower case, ends in NULL); the first n_compat are the original's, which it takes as they are written. */
static rq_status read_word(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, const char *const *words,
                           int n_compat, int *out)
{
    const char *text;
    char sentence[300];
    RQ_TRY(rq_qconfig_read_text(&r->in, n, at, &text));
    for (*out = 0; words[*out]; ++*out)
        if (same_word(text, words[*out], !r->c->compat) && (!r->c->compat || *out < n_compat))
            return RQ_OK;
    size_t used = (size_t)snprintf(sentence, sizeof sentence, "'%.40s', expected one of", text);
    for (int i = 0; (i < n_compat || !r->c->compat) && used < sizeof sentence && words[i]; i++)
        used += (size_t)snprintf(sentence + used, sizeof sentence - used, "%s %s", i ? "," : "", words[i]);
    return rq_qconfig_fail(&r->in, n, at, sentence);
}

/* "true", and what else YAML has for it; a text in quotes is none. compat: any value, by Python's truth. */
static rq_status read_flag(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, bool *out)
{
    static const char *const words[] = { "true", "yes", "on", "false", "no", "off" };
    const char *text = text_of(n);
    for (int i = 0; i < 6 && text && is_plain(n); i++)
        if (same_word(text, words[i], true)) {
            *out = i < 3;
            return RQ_OK;
        }
    if (!r->c->compat) {
        char sentence[100];
        snprintf(sentence, sizeof sentence, "%s%.40s%s, expected true or false",
                 !text         ? ""
                 : is_plain(n) ? "'"
                               : "the text '",
                 text ? text : "a list", text ? "'" : "");
        return rq_qconfig_fail(&r->in, n, at, sentence);
    }
    char *end;
    if (!text)
        *out = n->type == YAML_MAPPING_NODE ? n->data.mapping.pairs.top > n->data.mapping.pairs.start
                                            : n->data.sequence.items.top > n->data.sequence.items.start;
    else if (is_plain(n))
        *out = !is_null(n) && (rq_number_parse(text, &end) != 0 || *end || end == text);
    else
        *out = *text;
    return RQ_OK;
}

/* compat: also "12" and 4.0. */
static rq_status read_integer(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, int64_t *out)
{
    const char *text = text_of(n);
    char sentence[120], *end;
    if (text && (is_plain(n) || r->c->compat) && rq_qconfig_is_integer(text, out))
        return RQ_OK;
    const double v = text ? rq_number_parse(text, &end) : 0;
    if (text && r->c->compat && is_plain(n) && end != text && !*end && v > -9e15 && v < 9e15) {
        *out = (int64_t)v;
        return RQ_OK;
    }
    if (!text)
        return rq_qconfig_fail(&r->in, n, at, "expected an integer");
    snprintf(sentence, sizeof sentence, "%s%.40s%s, expected an integer", is_plain(n) ? "'" : "the text '", text, "'");
    return rq_qconfig_fail(&r->in, n, at, sentence);
}

static rq_status read_milestones(reader *r, const yaml_node_t *n, const rq_qconfig_place *at,
                                 rq_module_linear_quantizer_config *m)
{
    char sentence[160];
    m->has_milestones = !is_null(n);
    if (!m->has_milestones)
        return RQ_OK;
    if (n->type != YAML_SEQUENCE_NODE) {
        snprintf(sentence, sizeof sentence, "%s%.40s%s, expected a list of 4 integers", text_of(n) ? "'" : "",
                 text_of(n) ? text_of(n) : "keys and values", text_of(n) ? "'" : "");
        return rq_qconfig_fail(&r->in, n, at, sentence);
    }
    const yaml_node_item_t *i = n->data.sequence.items.start;
    const int count = (int)(n->data.sequence.items.top - i);
    if (count != 4) {
        snprintf(sentence, sizeof sentence,
                 "%d entries, expected 4: steps at which observers go on, fake-quantize goes on, observers go off, "
                 "batch norms freeze",
                 count);
        return rq_qconfig_fail(&r->in, n, at, sentence);
    }
    for (int k = 0; k < 4; k++)
        RQ_TRY(read_integer(r, node(&r->in, i[k]), at, &m->milestones[k]));
    return RQ_OK;
}

/* "qint4", "int4", 4, "torch.qint8", "float32" as dtype and bits. plain: without quotes, so that a number is one. */
static bool is_dtype(const char *text, bool plain, bool compat, rq_dtype *dtype, int *bits)
{
    static const char *const originals[] = { "qint8",   "quint8",      "qint4",        "quint4",
                                             "float32", "torch.qint8", "torch.quint8", "torch.float32" };
    char word[16];
    size_t n = 0;
    bool known = !compat;
    for (size_t i = 0; i < sizeof originals / sizeof originals[0]; i++)
        known |= !strcmp(text, originals[i]);
    if (!known)
        return false;
    if (plain && isdigit((unsigned char)text[0]) && !text[1]) {
        *dtype = RQ_DTYPE_S8;
        *bits = text[0] - '0';
        return *bits >= 2 && *bits <= 8;
    }
    for (; n < sizeof word - 1 && text[n]; n++)
        word[n] = (char)tolower((unsigned char)text[n]);
    word[n] = 0;
    if (text[n])
        return false;
    const char *p = strncmp(word, "torch.", 6) ? word : word + 6;
    if (!strcmp(p, "float32") || !strcmp(p, "float")) {
        *dtype = RQ_DTYPE_F32;
        *bits = 32;
        return true;
    }
    p += *p == 'q';
    *dtype = *p == 'u' ? RQ_DTYPE_U8 : RQ_DTYPE_S8;
    p += *p == 'u';
    *bits = strncmp(p, "int", 3) ? 0 : p[3] - '0';
    return *bits >= 2 && *bits <= 8 && !p[4];
}

static rq_status read_dtype(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, bool of_weight,
                            rq_dtype *dtype, int *bits)
{
    const char *text;
    char sentence[260];
    RQ_TRY(rq_qconfig_read_text(&r->in, n, at, &text));
    if (of_weight && is_dtype(text, is_plain(n), r->c->compat, dtype, bits))
        return RQ_OK;
    const bool known = !of_weight && is_dtype(text, is_plain(n), false, dtype, bits),
               number = isdigit((unsigned char)text[0]);
    if (known && number)
        *dtype = RQ_DTYPE_U8;
    if (known && r->c->compat && *dtype == RQ_DTYPE_U8 && (text[0] | 32) == 'q' && (*bits == 4 || *bits == 8)) {
        *bits = 8; /* the original keeps the container and forgets the bits */
        return RQ_OK;
    }
    if (known && (*dtype == RQ_DTYPE_F32 || (*dtype == RQ_DTYPE_U8 && *bits == 8 && !r->c->compat)))
        return RQ_OK;
    if (known && *dtype == RQ_DTYPE_U8 && !r->c->compat) {
        snprintf(sentence, sizeof sentence,
                 "'%.40s', expected quint8 or float32; 'activation_n_bits: %d' gives activations %d bits", text, *bits,
                 *bits);
        return rq_qconfig_fail(&r->in, n, at, sentence);
    }
    snprintf(sentence, sizeof sentence, "'%.40s' is not supported, expected %s", text,
             of_weight ? "qint8, quint8, qint4, quint4 (or another width from 2 to 8) or float32"
                       : "quint8 or float32");
    return rq_qconfig_fail(&r->in, n, at, sentence);
}

/* ---- a module's config ---- */

static rq_status read_observer(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, rq_observer_kind *out)
{
    static const char *const words[] = {
        "moving_average_min_max", "min_max", "ema_min_max", "ema_percentile", "mse", "ema_mse", "lsq", "lsq_plus", NULL
    };
    int i;
    RQ_TRY(read_word(r, n, at, words, 3, &i));
    return rq_observer_kind_parse(out, words[i], r->in.err);
}

static rq_status read_key(reader *r, key k, const yaml_node_t *n, const rq_qconfig_place *at,
                          rq_module_linear_quantizer_config *m)
{
    static const char *const algorithms[] = { "vanilla", "learnable", NULL }, *const schemes[] = { "symmetric",
                                                                                                   "affine", NULL };
    int i, bits = 8;
    int64_t v;
    char sentence[60];
    switch (k) {
    case KEY_ALGORITHM:
        RQ_TRY(read_word(r, n, at, algorithms, 2, &i));
        m->learnable = i == 1;
        return RQ_OK;
    case KEY_WEIGHT_DTYPE:
        return read_dtype(r, n, at, true, &m->weight_dtype, &m->weight_n_bits);
    case KEY_WEIGHT_OBSERVER:
        return read_observer(r, n, at, &m->weight_observer);
    case KEY_WEIGHT_PER_CHANNEL:
        return read_flag(r, n, at, &m->weight_per_channel);
    case KEY_ACTIVATION_DTYPE:
        return read_dtype(r, n, at, false, &m->activation_dtype, &bits);
    case KEY_ACTIVATION_OBSERVER:
        return read_observer(r, n, at, &m->activation_observer);
    case KEY_SCHEME:
        RQ_TRY(read_word(r, n, at, schemes, 2, &i));
        m->quantization_scheme = i ? RQ_QSCHEME_PER_TENSOR_AFFINE : RQ_QSCHEME_PER_TENSOR_SYMMETRIC;
        return RQ_OK;
    case KEY_MILESTONES:
        return read_milestones(r, n, at, m);
    case KEY_ACTIVATION_N_BITS:
        RQ_TRY(read_integer(r, n, at, &v));
        if (v < 2 || v > 8) {
            snprintf(sentence, sizeof sentence, "%lld bits, expected 2 to 8", (long long)v);
            return rq_qconfig_fail(&r->in, n, at, sentence);
        }
        m->activation_n_bits = (int)v;
        return RQ_OK;
    default:
        return rq_qconfig_fail(&r->in, n, at, "follows from weight_dtype and is never given");
    }
}

static rq_status unknown_key(reader *r, const yaml_node_t *n, const rq_qconfig_place *at, const char *word,
                             const char *const *known, int n_known)
{
    char hint[RQ_NEAREST_HINT], sentence[400];
    rq_nearest near = rq_nearest_to(word);
    for (int i = 0; i < n_known; i++)
        rq_nearest_try(&near, known[i]);
    if (!*rq_nearest_hint(&near, hint)) { /* nothing is like it */
        int used = snprintf(sentence, sizeof sentence, "unknown key '%.40s'; there are", word);
        for (int i = 0; i < n_known && used < (int)sizeof sentence; i++)
            used += snprintf(sentence + used, sizeof sentence - (size_t)used, "%s %s", i ? "," : "", known[i]);
        return rq_qconfig_fail(&r->in, n, at, sentence);
    }
    return rq_qconfig_unknown(&r->in, n, at, word, "unknown key", &near);
}

/* `<<: *other` takes the keys of another map that are not given here; one level, as people write it. */
static rq_status read_module(reader *r, const yaml_node_t *map, const rq_qconfig_place *at, bool ignores_unknown,
                             bool merged, rq_module_linear_quantizer_config *m)
{
    if (!is_map(map))
        return rq_qconfig_fail(&r->in, map, at, "expected the keys of a config, or null");
    RQ_TRY(rq_qconfig_check_keys(&r->in, map, at));
    const yaml_node_pair_t *p, *const end = map->data.mapping.pairs.top;
    for (p = map->data.mapping.pairs.start; p < end; p++)
        if (!merged && !strcmp(text_of(node(&r->in, p->key)), "<<"))
            RQ_TRY(read_module(r, node(&r->in, p->value), at, ignores_unknown, true, m));
    for (p = map->data.mapping.pairs.start; p < end; p++) {
        const char *word = text_of(node(&r->in, p->key));
        int k = 0;
        while (k < N_KEYS && strcmp(keys[k], word) != 0)
            k++;
        if (k < N_KEYS)
            RQ_TRY(read_key(r, (key)k, node(&r->in, p->value), &(rq_qconfig_place) { at, word }, m));
        else if (!ignores_unknown && (merged || strcmp(word, "<<") != 0))
            return unknown_key(r, node(&r->in, p->key), at, word, keys, KEY_WEIGHT_N_BITS);
    }
    return RQ_OK;
}

/* ---- the whole ---- */

typedef rq_status setter(rq_linear_quantizer_config *c, const char *key, const rq_module_linear_quantizer_config *m,
                         rq_err *err);

static rq_status read_rules(reader *r, const yaml_node_t *map, const rq_qconfig_place *at, bool types)
{
    setter *const set = types ? rq_linear_quantizer_config_set_module_type : rq_linear_quantizer_config_set_module_name;
    if (!is_map(map))
        return rq_qconfig_fail(&r->in, map, at, types ? "expected types and configs" : "expected names and configs");
    RQ_TRY(rq_qconfig_check_keys(&r->in, map, at));
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *value = node(&r->in, p->value), *where = node(&r->in, p->key);
        const char *word = text_of(where);
        rq_module_linear_quantizer_config m = rq_module_linear_quantizer_defaults();
        if (!is_null(value))
            RQ_TRY(read_module(r, value, &(rq_qconfig_place) { at, word }, types && r->c->compat, false, &m));
        const rq_status s = set(r->c, word, is_null(value) ? NULL : &m, r->in.err);
        if (s != RQ_OK)
            return rq_fail_in(r->in.err, s == RQ_NO_MEMORY ? s : RQ_BAD_RECIPE, "%s:%zu", r->in.source,
                              where->start_mark.line + 1);
    }
    return RQ_OK;
}

typedef rq_status adder(rq_linear_quantizer_config *c, const char *name, rq_err *err);

static rq_status read_names(reader *r, const yaml_node_t *list, const rq_qconfig_place *at, adder *add)
{
    if (list->type != YAML_SEQUENCE_NODE)
        return rq_qconfig_fail(&r->in, list, at, "expected a list of names");
    if (list->data.sequence.items.top - list->data.sequence.items.start > RQ_QCONFIG_MOST_KEYS)
        return rq_qconfig_fail(&r->in, list, at, "more than 10000 entries");
    for (const yaml_node_item_t *i = list->data.sequence.items.start; i < list->data.sequence.items.top; i++) {
        const char *name;
        RQ_TRY(rq_qconfig_read_text(&r->in, node(&r->in, *i), at, &name));
        const rq_status s = add(r->c, name, r->in.err);
        if (s != RQ_OK)
            return rq_qconfig_fail_in(&r->in, list, at, s);
    }
    return RQ_OK;
}

static const char *const top_keys[] = { "global_config",        "module_type_configs",
                                        "module_name_configs",  "non_traceable_module_names",
                                        "preserved_attributes", "compat",
                                        "skip_by_default" };
enum { N_TOP_KEYS = sizeof top_keys / sizeof top_keys[0] };

static const yaml_node_t *value_of(reader *r, const yaml_node_t *map, const char *word)
{
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++)
        if (!strcmp(text_of(node(&r->in, p->key)), word))
            return node(&r->in, p->value);
    return NULL;
}

/* In the order of top_keys, whatever the order in the text: compat says how the rest is read, and what comes from global_config is held against the
 * rules as they come. */
static rq_status read_top(reader *r, const yaml_node_t *map)
{
    if (!is_map(map))
        return rq_qconfig_fail(&r->in, map, NULL, "a config is keys and values");
    RQ_TRY(rq_qconfig_check_keys(&r->in, map, NULL));
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *at = node(&r->in, p->key);
        bool known = false;
        for (int i = 0; i < N_TOP_KEYS; i++)
            known |= !strcmp(text_of(at), top_keys[i]);
        if (!known)
            return unknown_key(r, at, NULL, text_of(at), top_keys, N_TOP_KEYS);
    }
    rq_qconfig_place at[N_TOP_KEYS];
    const yaml_node_t *value[N_TOP_KEYS];
    for (int i = 0; i < N_TOP_KEYS; i++) {
        at[i] = (rq_qconfig_place) { NULL, top_keys[i] };
        value[i] = value_of(r, map, top_keys[i]);
    }
    if (value[5])
        RQ_TRY(read_flag(r, value[5], &at[5], &r->c->compat));
    if (value[6])
        RQ_TRY(read_flag(r, value[6], &at[6], &r->c->skip_by_default));
    if (value[0] && !is_null(value[0])) {
        rq_module_linear_quantizer_config m = rq_module_linear_quantizer_defaults();
        RQ_TRY(read_module(r, value[0], &at[0], false, false, &m));
        const rq_status s = rq_linear_quantizer_config_set_global(r->c, &m, r->in.err);
        if (s != RQ_OK)
            return rq_qconfig_fail_in(&r->in, value[0], NULL, s);
    }
    for (int i = 1; i < 3; i++)
        if (value[i])
            RQ_TRY(read_rules(r, value[i], &at[i], i == 1));
    if (value[3])
        RQ_TRY(read_names(r, value[3], &at[3], rq_linear_quantizer_config_add_non_traceable));
    if (value[4])
        RQ_TRY(read_names(r, value[4], &at[4], rq_linear_quantizer_config_add_preserved));
    return RQ_OK;
}

static rq_status parse(rq_linear_quantizer_config **out, const char *text, size_t n, const char *name, rq_err *err)
{
    reader r = { .in = { .source = name, .err = err } };
    if (rq_linear_quantizer_config_create(&r.c) != RQ_OK)
        return rq_fail(err, RQ_NO_MEMORY, "%s: out of memory", name);
    rq_status s = rq_qconfig_open(&r.in, text, n, "a config");
    if (s == RQ_OK) {
        const yaml_node_t *root = yaml_document_get_root_node(&r.in.doc);
        if (root && !is_null(root))
            s = read_top(&r, root);
        yaml_document_delete(&r.in.doc);
    }
    if (s != RQ_OK) {
        rq_linear_quantizer_config_destroy(r.c);
        return s;
    }
    *out = r.c;
    return RQ_OK;
}

rq_status rq_linear_quantizer_config_from_dict(rq_linear_quantizer_config **out, const char *json, rq_err *err)
{
    return parse(out, json, strlen(json), "config", err);
}

rq_status rq_linear_quantizer_config_from_yaml(rq_linear_quantizer_config **out, const char *yaml, rq_err *err)
{
    return parse(out, yaml, strlen(yaml), "config", err);
}

rq_status rq_linear_quantizer_config_load(rq_linear_quantizer_config **out, const char *path, rq_err *err)
{
    rq_map file;
    RQ_TRY(rq_file_map(&file, path, err));
    const rq_status s = parse(out, (const char *)file.data, file.size, path, err);
    rq_file_unmap(&file);
    return s;
}
