/* quant/quant_desc_text.c — descriptors as text: what the original prints, and YAML both ways. libyaml reads; what is written is small and regular enough to be
 * written here. */
#include "quant/quant_desc_text.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/brackets.h"
#include "base/number.h"
#include "base/quote.h"
#include "requant/quant_desc.h"

/* ---- numbers as Python prints them ---- */

/* The fewest digits that read back as v: at most 17, or 9 for an f32. */
static int digits_of(double v, bool f32, char *buf, size_t n)
{
    const int most = f32 ? 9 : 17;
    for (int p = 1; p <= most; p++) {
        rq_number_print(buf, n, "%.*e", p - 1, v);
        const double back = rq_number_parse(buf, NULL);
        if (f32 ? (float)back == (float)v : back == v)
            return p;
    }
    return most;
}

void rq_quant_desc_number(rq_buf *b, double v, bool f32)
{
    char text[40];
    if (v != v || v - v != 0) {
        rq_buf_adds(b, v != v ? "nan" : v > 0 ? "inf" : "-inf");
        return;
    }
    const int digits = digits_of(v, f32, text, sizeof text);
    const int exponent = atoi(strchr(text, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        const int decimals = digits - 1 - exponent;
        rq_number_print(text, sizeof text, "%.*f", decimals > 1 ? decimals : 1, v);
    }
    rq_buf_adds(b, text);
}

/* ---- as the original prints itself ---- */

void rq_quant_desc_axes(rq_buf *b, const rq_quant_desc *d)
{
    if (d->n_axes == 1 && !d->axis_is_list) {
        rq_buf_addf(b, "%d", d->axis[0]);
        return;
    }
    rq_buf_adds(b, "(");
    for (int i = 0; i < d->n_axes; i++)
        rq_buf_addf(b, i ? ", %d" : "%d", d->axis[i]);
    rq_buf_adds(b, d->n_axes == 1 ? ",)" : ")");
}

/* amax from element *at on, as nested lists in brackets. */
static void add_array(rq_buf *b, const rq_tensor *t, int axis, int64_t *at)
{
    if (axis == t->shape.rank) {
        rq_quant_desc_number(b, (double)t->f32[(*at)++], true);
        return;
    }
    rq_buf_adds(b, "[");
    for (int64_t i = 0; i < t->shape.dim[axis]; i++) {
        rq_buf_adds(b, i ? " " : "");
        add_array(b, t, axis + 1, at);
    }
    rq_buf_adds(b, "]");
}

int64_t rq_quant_desc_text(const rq_quant_desc *d, char *buf, size_t n)
{
    rq_buf b = { 0 };
    if (d->name)
        rq_buf_addf(&b, "%s: (", d->name);
    else
        rq_buf_adds(&b, "QuantDescriptor(");
    rq_buf_adds(&b, d->is_unsigned ? "unsigned " : "");
    if (d->e4m3)
        rq_buf_adds(&b, "(4, 3)bit");
    else
        rq_buf_addf(&b, "%dbit", d->num_bits);
    rq_buf_adds(&b, d->fake_quant ? " fake" : " real");
    rq_buf_adds(&b, " axis=");
    if (d->n_axes > 0)
        rq_quant_desc_axes(&b, d);
    else
        rq_buf_adds(&b, " per-tensor");
    if (d->amax.dtype != RQ_DTYPE_NONE) {
        int64_t at = 0;
        rq_buf_adds(&b, " amax=");
        add_array(&b, &d->amax, 0, &at);
        rq_buf_adds(&b, d->narrow_range ? "" : " full_range");
    }
    rq_buf_adds(&b, d->learn_amax ? " learn_amax" : "");
    if (d->has_scale_amax) {
        rq_buf_adds(&b, " scale_amax=");
        rq_quant_desc_number(&b, d->scale_amax, false);
    }
    rq_buf_adds(&b, ")");
    return rq_buf_hand_over(&b, buf, n);
}

/* ---- YAML out ---- */

/* A real that YAML readers take for one: with a point, also before an exponent; .inf and .nan. */
static void add_real(rq_buf *b, double v, bool f32)
{
    rq_buf text = { 0 };
    rq_quant_desc_number(&text, v, f32);
    if (text.failed || !text.data) {
        b->failed = true;
    } else if (strstr(text.data, "n")) { /* nan, inf, -inf */
        const bool minus = text.data[0] == '-';
        rq_buf_addf(b, "%s.%s", minus ? "-" : "", text.data + minus);
    } else {
        const char *e = strchr(text.data, 'e');
        if (e && !strchr(text.data, '.')) {
            rq_buf_add(b, text.data, (size_t)(e - text.data));
            rq_buf_addf(b, ".0%s", e);
        } else {
            rq_buf_adds(b, text.data);
        }
    }
    rq_buf_release(&text);
}

/* amax as nested block lists: "- " before each element, the first on the line of its list. */
static void add_block(rq_buf *b, const rq_tensor *t, int axis, int64_t *at, bool f32)
{
    if (axis == t->shape.rank) {
        add_real(b, (double)t->f32[(*at)++], f32);
        rq_buf_adds(b, "\n");
        return;
    }
    for (int64_t i = 0; i < t->shape.dim[axis]; i++) {
        for (int k = 0; i > 0 && k < axis; k++)
            rq_buf_adds(b, "  ");
        rq_buf_adds(b, "- ");
        add_block(b, t, axis + 1, at, f32);
    }
    if (t->shape.dim[axis] == 0)
        rq_buf_adds(b, "[]\n");
}

static bool is_word(const char *text);

/* A string: plain where it can be nothing else, else in quotes. */
static void add_string(rq_buf *b, const char *text)
{
    if (is_word(text))
        rq_buf_adds(b, text);
    else
        rq_quote(b, text);
}

static void add_flag(rq_buf *b, const char *key, bool value, bool usual, bool compat)
{
    if (!compat || value != usual)
        rq_buf_addf(b, "%s: %s\n", key, value ? "true" : "false");
}

int64_t rq_quant_desc_to_yaml(const rq_quant_desc *d, bool compat, char *buf, size_t n)
{
    rq_buf b = { 0 };
    const bool amax = d->amax.dtype != RQ_DTYPE_NONE;
    int64_t at = 0;
    if (amax && d->amax.shape.rank == 0) {
        rq_buf_adds(&b, "amax: ");
        add_block(&b, &d->amax, 0, &at, !compat);
    } else if (amax) {
        rq_buf_adds(&b, d->amax.shape.dim[0] ? "amax:\n" : "amax: ");
        add_block(&b, &d->amax, 0, &at, !compat);
    } else if (!compat) {
        rq_buf_adds(&b, "amax: null\n");
    }
    if (d->n_axes == 1 && !d->axis_is_list && !compat) {
        rq_buf_addf(&b, "axis: %d\n", d->axis[0]);
    } else if (d->n_axes > 0) {
        rq_buf_adds(&b, "axis:\n");
        for (int i = 0; i < d->n_axes; i++)
            rq_buf_addf(&b, "- %d\n", d->axis[i]);
    } else if (!compat) {
        rq_buf_adds(&b, "axis: null\n");
    }
    if (!compat)
        rq_buf_addf(&b, "calib_method: %s\n", d->calib_method == RQ_CALIBRATOR_HISTOGRAM ? "histogram" : "max");
    add_flag(&b, "fake_quant", d->fake_quant, true, compat);
    add_flag(&b, "learn_amax", d->learn_amax, false, compat);
    rq_buf_adds(&b, "name: ");
    if (d->name)
        add_string(&b, d->name);
    else
        rq_buf_adds(&b, "null");
    rq_buf_adds(&b, "\n");
    if (!compat)
        add_flag(&b, "narrow_range", d->narrow_range, false, false);
    if (d->e4m3)
        rq_buf_adds(&b, compat ? "num_bits:\n- 4\n- 3\n" : "num_bits: e4m3\n");
    else
        rq_buf_addf(&b, "num_bits: %d\n", d->num_bits);
    if (d->has_scale_amax) {
        rq_buf_adds(&b, "scale_amax: ");
        add_real(&b, d->scale_amax, false);
        rq_buf_adds(&b, "\n");
    } else if (!compat) {
        rq_buf_adds(&b, "scale_amax: null\n");
    }
    add_flag(&b, "unsigned", d->is_unsigned, false, compat);
    return rq_buf_hand_over(&b, buf, n);
}

/* ---- YAML in ---- */

typedef struct reader {
    yaml_document_t doc;
    rq_quant_desc *d;
    size_t size; /* of the text: no list is longer, whatever aliases say */
    rq_err *err;
} reader;

static const char *const nulls[] = { "null", "~", "Null", "NULL", "", NULL };
static const char *const trues[] = { "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", NULL };
static const char *const falses[] = { "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", NULL };

static bool among(const char *text, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(text, *list))
            return true;
    return false;
}

static bool text_is_int(const char *text, int *out)
{
    char *end;
    const long v = strtol(text, &end, 10);
    if (end == text || *end || v < INT_MIN || v > INT_MAX)
        return false;
    *out = (int)v;
    return true;
}

static bool text_is_real(const char *text, double *out)
{
    char *end;
    const bool minus = text[0] == '-';
    if (!strcmp(text + minus, ".inf"))
        return *out = minus ? -HUGE_VAL : HUGE_VAL, true;
    if (!strcmp(text, ".nan"))
        return *out = (double)NAN, true;
    if (!isdigit((unsigned char)text[minus]) && text[minus] != '.')
        return false; /* no inf, nan or hexadecimals that strtod knows */
    *out = rq_number_parse(text, &end);
    return end != text && !*end && !strpbrk(text, "xX");
}

/* May it stand without quotes: letters, digits, _ - . /, beginning with a letter, and not a word that means something. */
static bool is_word(const char *text)
{
    if (!isalpha((unsigned char)*text) && *text != '_')
        return false;
    for (const char *c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("_-./", *c))
            return false;
    static const char *const letters[] = { "y", "Y", "n", "N", NULL };
    return !among(text, nulls) && !among(text, trues) && !among(text, falses) && !among(text, letters);
}

static yaml_node_t *node_at(reader *in, int index)
{
    return yaml_document_get_node(&in->doc, index);
}

/* The text of a plain scalar, or NULL: a list, or in quotes. */
static const char *plain(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE && n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE
               ? (const char *)n->data.scalar.value
               : NULL;
}

static bool is_null(const yaml_node_t *n)
{
    return plain(n) && among(plain(n), nulls);
}

static int length(const yaml_node_t *n)
{
    return n->type == YAML_SEQUENCE_NODE ? (int)(n->data.sequence.items.top - n->data.sequence.items.start) : -1;
}

static rq_status bad(const reader *in, const char *key, const char *expected)
{
    return rq_fail(in->err, RQ_BAD_ARG, "%s must be %s", key, expected);
}

static rq_status read_bits(reader *in, const yaml_node_t *n)
{
    int format[2];
    const char *text = n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
    if (text && (!strcmp(text, "e4m3") || !strcmp(text, "E4M3"))) {
        in->d->e4m3 = true;
        return RQ_OK;
    }
    if (length(n) == 2) {
        for (int i = 0; i < 2; i++) {
            const char *item = plain(node_at(in, n->data.sequence.items.start[i]));
            if (!item || !text_is_int(item, &format[i]))
                return bad(in, "num_bits", "a number of bits or (4, 3)");
        }
        return rq_quant_desc_set_float(in->d, format[0], format[1], in->err);
    }
    if (!plain(n) || !text_is_int(text, &in->d->num_bits))
        return bad(in, "num_bits", "a number of bits or (4, 3)");
    return RQ_OK;
}

static rq_status read_name(reader *in, const yaml_node_t *n)
{
    int whole;
    double real;
    if (is_null(n))
        return RQ_OK;
    const char *text = n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
    if (!text)
        return bad(in, "name", "a string or None");
    if (plain(n) &&
        (text_is_int(text, &whole) || text_is_real(text, &real) || among(text, trues) || among(text, falses)))
        return bad(in, "name", "a string or None");
    if (strlen(text) != n->data.scalar.length)
        return bad(in, "name", "a string without a NUL");
    return rq_quant_desc_set_name(in->d, text);
}

static rq_status read_flag(reader *in, const char *key, const yaml_node_t *n, bool *out)
{
    const char *word = plain(n);
    if (!word || (!among(word, trues) && !among(word, falses)))
        return bad(in, key, "true or false");
    *out = among(word, trues);
    return RQ_OK;
}

static rq_status read_axis(reader *in, const yaml_node_t *n)
{
    int axis[RQ_MAX_RANK];
    if (is_null(n))
        return RQ_OK;
    if (plain(n) && text_is_int(plain(n), &axis[0])) {
        rq_quant_desc_set_axis(in->d, axis[0]);
        return RQ_OK;
    }
    const int count = length(n);
    if (count < 0 || count > RQ_MAX_RANK)
        return bad(in, "axis", "an axis, a list of at most 8, or None");
    for (int i = 0; i < count; i++) {
        const char *item = plain(node_at(in, n->data.sequence.items.start[i]));
        if (!item || !text_is_int(item, &axis[i]))
            return bad(in, "axis", "an axis, a list of at most 8, or None");
    }
    return rq_quant_desc_set_axes(in->d, axis, count, in->err);
}

/* A list of lists, as deep as its first elements say; every list of a depth has one length. */
static rq_status amax_shape(reader *in, const yaml_node_t *n, rq_shape *shape)
{
    *shape = (rq_shape) { .rank = 0 };
    while (n->type == YAML_SEQUENCE_NODE) {
        if (shape->rank == RQ_MAX_RANK)
            return bad(in, "amax", "lists of at most 8 levels");
        shape->dim[shape->rank++] = length(n);
        if (length(n) == 0)
            break;
        n = node_at(in, n->data.sequence.items.start[0]);
    }
    return rq_shape_check(shape) || (size_t)rq_shape_count(shape) > in->size ? bad(in, "amax", "smaller") : RQ_OK;
}

static rq_status read_amaxs(reader *in, const yaml_node_t *n, const rq_shape *shape, int axis, rq_tensor *t,
                            int64_t *at)
{
    double v;
    if (axis == shape->rank) {
        if (!plain(n) || !text_is_real(plain(n), &v))
            return bad(in, "amax", "float, list or ndarray");
        t->f32[(*at)++] = (float)v;
        return RQ_OK;
    }
    if (length(n) != shape->dim[axis])
        return bad(in, "amax", "lists of one length");
    for (int i = 0; i < length(n); i++)
        RQ_TRY(read_amaxs(in, node_at(in, n->data.sequence.items.start[i]), shape, axis + 1, t, at));
    return RQ_OK;
}

static rq_status read_amax(reader *in, const yaml_node_t *n)
{
    rq_shape shape;
    int64_t at = 0;
    if (is_null(n))
        return RQ_OK;
    RQ_TRY(amax_shape(in, n, &shape));
    rq_tensor_release(&in->d->amax);
    if (rq_tensor_create(&in->d->amax, RQ_DTYPE_F32, &shape, true))
        return rq_fail(in->err, RQ_NO_MEMORY, "no memory for amax");
    return read_amaxs(in, n, &shape, 0, &in->d->amax, &at);
}

static rq_status read_scale_amax(reader *in, const yaml_node_t *n)
{
    if (is_null(n))
        return RQ_OK;
    if (!plain(n) || !text_is_real(plain(n), &in->d->scale_amax))
        return bad(in, "scale_amax", "a number or None");
    in->d->has_scale_amax = true;
    return RQ_OK;
}

static rq_status read_method(reader *in, const yaml_node_t *n)
{
    const char *text = n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : "";
    if (strcmp(text, "max") && strcmp(text, "histogram"))
        return bad(in, "calib_method", "max or histogram");
    in->d->calib_method = strcmp(text, "max") ? RQ_CALIBRATOR_HISTOGRAM : RQ_CALIBRATOR_MAX;
    return RQ_OK;
}

static rq_status read_key(reader *in, const char *key, const yaml_node_t *n)
{
    const struct {
        const char *key;
        rq_status (*read)(reader *in, const yaml_node_t *n);
        bool *flag;
    } keys[] = {
        { "num_bits", read_bits, NULL },
        { "name", read_name, NULL },
        { "axis", read_axis, NULL },
        { "amax", read_amax, NULL },
        { "scale_amax", read_scale_amax, NULL },
        { "calib_method", read_method, NULL },
        { "fake_quant", NULL, &in->d->fake_quant },
        { "learn_amax", NULL, &in->d->learn_amax },
        { "unsigned", NULL, &in->d->is_unsigned },
        { "narrow_range", NULL, &in->d->narrow_range },
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (!strcmp(key, keys[i].key))
            return keys[i].flag ? read_flag(in, key, n, keys[i].flag) : keys[i].read(in, n);
    return rq_fail(in->err, RQ_BAD_ARG, "Unused keys: %.100s", key);
}

static rq_status read_document(reader *in)
{
    const yaml_node_t *root = yaml_document_get_root_node(&in->doc);
    if (!root || root->type != YAML_MAPPING_NODE)
        return rq_fail(in->err, RQ_BAD_ARG, "a descriptor is a map of keys and values");
    for (yaml_node_pair_t *p = root->data.mapping.pairs.start; p < root->data.mapping.pairs.top; p++) {
        const yaml_node_t *key = node_at(in, p->key);
        if (key->type != YAML_SCALAR_NODE)
            return rq_fail(in->err, RQ_BAD_ARG, "a key is a word");
        RQ_TRY(read_key(in, (const char *)key->data.scalar.value, node_at(in, p->value)));
    }
    return rq_quant_desc_check(in->d, in->err);
}

rq_status rq_quant_desc_from_yaml(rq_quant_desc *d, const char *text, rq_err *err)
{
    reader in = { .d = d, .size = strlen(text), .err = err };
    yaml_parser_t parser;
    rq_quant_desc_init(d);
    if (rq_brackets_too_deep(text, in.size))
        return rq_fail(err, RQ_BAD_ARG, "more than %d brackets within each other", RQ_BRACKETS_MOST);
    if (!yaml_parser_initialize(&parser))
        return rq_fail(err, RQ_NO_MEMORY, "no memory to read a descriptor");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, in.size);
    rq_status st;
    if (!yaml_parser_load(&parser, &in.doc)) {
        st = parser.error == YAML_MEMORY_ERROR ? rq_fail(err, RQ_NO_MEMORY, "no memory to read a descriptor")
                                               : rq_fail(err, RQ_BAD_ARG, "line %zu: %s", parser.problem_mark.line + 1,
                                                         parser.problem ? parser.problem : "not YAML");
    } else {
        st = read_document(&in);
        if (st == RQ_NO_MEMORY)
            rq_fail(err, st, "no memory to read a descriptor");
        yaml_document_delete(&in.doc);
    }
    yaml_parser_delete(&parser);
    if (st)
        rq_quant_desc_release(d);
    return st;
}
