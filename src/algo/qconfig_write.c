/* algo/qconfig_write.c — a qconfig mapping as JSON that qconfig_text.c reads back to the same. Pairs and constructors that have names are written
 * by them; of the rest, what differs from the observer's defaults. */
#include <string.h>

#include "algo/qconfig_text.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/number.h"
#include "base/quote.h"
#include "quant/qconfig_mapping.h"

static void put_number(rq_buf *b, const char *fmt, double v)
{
    char text[64];
    rq_number_print(text, sizeof text, fmt, v);
    rq_buf_adds(b, text);
}

static void put_key(rq_buf *b, const char *key)
{
    rq_buf_adds(b, b->size && b->data[b->size - 1] == '{' ? "\"" : ", \"");
    rq_buf_adds(b, key);
    rq_buf_adds(b, "\": ");
}

/* False: the text is not UTF-8. */
static bool put_text(rq_buf *b, const char *key, const char *text)
{
    put_key(b, key);
    return rq_quote(b, text);
}

static const char *type_name(rq_dtype d, char *buf, size_t n)
{
    const rq_qtype full = rq_qtype_of(d);
    return d == RQ_DTYPE_F16 ? "float16" : d == RQ_DTYPE_F32 ? "float32" : rq_qtype_text(&full, buf, n);
}

static const size_t sizes[] = { [RQ_FIELD_BOOL] = sizeof(bool),
                                [RQ_FIELD_INT] = sizeof(int),
                                [RQ_FIELD_FLOAT] = sizeof(float),
                                [RQ_FIELD_DOUBLE] = sizeof(double),
                                [RQ_FIELD_RULE] = sizeof(rq_learned_rule) };

/* ---- what the form has words for ---- */

static bool in_interval(const rq_qconfig_field *f, const void *at)
{
    const double v = f->type == RQ_FIELD_INT      ? *(const int *)at
                     : f->type == RQ_FIELD_FLOAT  ? (double)*(const float *)at
                     : f->type == RQ_FIELD_DOUBLE ? *(const double *)at
                                                  : f->lo;
    return v >= f->lo && v <= f->hi;
}

/* The fields of *cfg, one of the two structs, to *said, which has the usual ones. False: one of them would not be read. */
static bool say_fields(void *said, const void *cfg, bool of_fake_quantizer)
{
    for (const rq_qconfig_field *f = rq_qconfig_fields; f->name; f++) {
        const void *at = (const char *)cfg + f->at;
        void *to = (char *)said + f->at;
        if (f->of_fake_quantizer != of_fake_quantizer || !memcmp(at, to, sizes[f->type]))
            continue;
        if (!in_interval(f, at))
            return false;
        memcpy(to, at, sizes[f->type]);
    }
    return true;
}

static bool is_named(const rq_qconfig_part *p, rq_qconfig_constructor_row *row)
{
    for (int i = 0; rq_qconfig_constructor(i, row); i++)
        if (rq_qconfig_part_equal(&row->part, p))
            return true;
    return false;
}

static bool is_preset(const rq_qconfig *q, rq_qconfig_preset_row *row)
{
    for (int i = 0; rq_qconfig_preset(i, row); i++)
        if (rq_qconfig_equal(&row->qconfig, q))
            return true;
    return false;
}

static int usual_axis(const rq_observer_cfg *o)
{
    return rq_qscheme_is_per_channel(o->scheme) ? 0 : RQ_PER_TENSOR;
}

/* Would the part be read as it is? */
static bool sayable_part(const rq_qconfig_part *p)
{
    rq_qconfig_constructor_row row;
    const rq_observer_cfg *o = rq_qconfig_observer(p);
    if (!o || is_named(p, &row))
        return true;
    const bool plain_float = o->type.dtype == RQ_DTYPE_F16 || o->type.dtype == RQ_DTYPE_F32;
    if (!plain_float && rq_qtype_check(&o->type, NULL))
        return false;
    rq_observer_cfg said = rq_observer_defaults(o->kind);
    said.type = (rq_qtype) { .dtype = o->type.dtype };
    if (o->custom_range)
        said.type = o->type;
    else if (!plain_float)
        said.type = rq_qtype_of(o->type.dtype);
    said.custom_range = o->custom_range;
    said.scheme = o->scheme;
    said.axis = o->axis;
    said.own = o->own;
    if (o->own && o->own->choose)
        said.choice = RQ_CHOICE_OWN;
    if (!say_fields(&said, o, false))
        return false;
    rq_qconfig_part all = rq_qconfig_observes(&said);
    if (p->form == RQ_QCONFIG_FAKE_QUANTIZER) {
        rq_fake_quantizer_cfg f = rq_fake_quantizer_defaults(p->fake_quantizer.kind);
        f.observer = said;
        f.compat = said.compat;
        f.own = p->fake_quantizer.own;
        if (!say_fields(&f, &p->fake_quantizer, true))
            return false;
        all = rq_qconfig_fake_quantizes(&f);
    }
    all.dynamic = p->dynamic;
    return rq_qconfig_part_equal(&all, p);
}

static bool sayable(const rq_qconfig *q)
{
    rq_qconfig_preset_row row;
    return !q || is_preset(q, &row) || (sayable_part(&q->activation) && sayable_part(&q->weight));
}

/* ---- writing ---- */

/* The fields of *cfg, one of the two structs, that differ from *usual. */
static void put_fields(rq_buf *b, const void *cfg, const void *usual, bool of_fake_quantizer)
{
    for (const rq_qconfig_field *f = rq_qconfig_fields; f->name; f++) {
        const void *at = (const char *)cfg + f->at;
        if (f->of_fake_quantizer != of_fake_quantizer || !memcmp(at, (const char *)usual + f->at, sizes[f->type]))
            continue;
        put_key(b, f->name);
        switch (f->type) {
        case RQ_FIELD_BOOL:
            rq_buf_adds(b, *(const bool *)at ? "true" : "false");
            break;
        case RQ_FIELD_INT:
            rq_buf_addf(b, "%d", *(const int *)at);
            break;
        case RQ_FIELD_FLOAT:
            put_number(b, "%.9g", (double)*(const float *)at);
            break;
        case RQ_FIELD_DOUBLE:
            put_number(b, "%.17g", *(const double *)at);
            break;
        case RQ_FIELD_RULE:
            rq_buf_addf(b, "\"%s\"", rq_qconfig_rules[*(const rq_learned_rule *)at]);
            break;
        }
    }
}

static bool put_observer(rq_buf *b, const rq_observer_cfg *o)
{
    const rq_observer_cfg usual = rq_observer_defaults(o->kind);
    char type[RQ_QTYPE_TEXT];
    bool ok = put_text(b, "observer", o->own ? o->own->name : rq_observer_kind_name(o->kind));
    ok &= put_text(b, "dtype", type_name(o->type.dtype, type, sizeof type));
    ok &= put_text(b, "qscheme", rq_qscheme_name(o->scheme));
    if (o->custom_range) {
        put_key(b, "quant_min");
        rq_buf_addf(b, "%d", (int)o->type.lo);
        put_key(b, "quant_max");
        rq_buf_addf(b, "%d", (int)o->type.hi);
    }
    if (o->axis != usual_axis(o)) {
        put_key(b, "ch_axis");
        rq_buf_addf(b, "%d", o->axis);
    }
    put_fields(b, o, &usual, false);
    return ok;
}

static bool put_part(rq_buf *b, const char *key, const rq_qconfig_part *p)
{
    const rq_fake_quantizer_cfg *f = &p->fake_quantizer;
    put_key(b, key);
    if (p->form == RQ_QCONFIG_NOTHING) {
        rq_buf_adds(b, "null");
        return true;
    }
    rq_qconfig_constructor_row row;
    if (is_named(p, &row))
        return rq_quote(b, row.name);
    bool ok = true;
    rq_buf_adds(b, "{");
    if (p->form == RQ_QCONFIG_FAKE_QUANTIZER)
        ok = put_text(b, "fake_quantize", f->own ? f->own->name : rq_fake_quantizer_kind_name(f->kind));
    ok &= put_observer(b, rq_qconfig_observer(p));
    if (p->form == RQ_QCONFIG_FAKE_QUANTIZER) {
        const rq_fake_quantizer_cfg usual = rq_fake_quantizer_defaults(f->kind);
        put_fields(b, f, &usual, true);
    }
    if (p->dynamic) {
        put_key(b, "is_dynamic");
        rq_buf_adds(b, "true");
    }
    rq_buf_adds(b, "}");
    return ok;
}

static bool put_qconfig(rq_buf *b, const rq_qconfig *q)
{
    if (!q) {
        rq_buf_adds(b, "null");
        return true;
    }
    rq_qconfig_preset_row row;
    if (is_preset(q, &row))
        return rq_quote(b, row.name);
    rq_buf_adds(b, "{");
    const bool ok = put_part(b, "activation", &q->activation) && put_part(b, "weight", &q->weight);
    rq_buf_adds(b, "}");
    return ok;
}

static bool put_entry(rq_buf *b, const rq_qconfig_entry *e)
{
    if (e->level == RQ_QCONFIG_GLOBAL)
        return put_qconfig(b, e->qconfig);
    rq_buf_adds(b, "[");
    bool ok = rq_quote(b, e->name ? e->name : e->type);
    if (e->level == RQ_QCONFIG_NAME_TYPE_ORDER) {
        rq_buf_adds(b, ", ");
        ok &= rq_quote(b, e->type);
        rq_buf_addf(b, ", %d", e->index);
    }
    rq_buf_adds(b, ", ");
    ok &= put_qconfig(b, e->qconfig);
    rq_buf_adds(b, "]");
    return ok;
}

static rq_status write(rq_buf *b, const rq_qconfig_mapping *m)
{
    bool ok = true, any = m->base != NULL;
    rq_buf_adds(b, "{");
    if (any)
        rq_buf_addf(b, "\n \"default\": \"%s\"", m->base);
    for (int level = 0; level < RQ_N_QCONFIG_LEVELS; level++) {
        bool open = false;
        for (int i = 0; i < rq_qconfig_mapping_count(m); i++) {
            const rq_qconfig_entry e = rq_qconfig_mapping_entry(m, i);
            if ((int)e.level != level || e.optional) /* optional: part of the default */
                continue;
            if (!sayable(e.qconfig))
                return RQ_UNSUPPORTED;
            if (!open)
                rq_buf_addf(b, "%s\n \"%s\": %s", any ? "," : "", rq_qconfig_level_name(e.level),
                            level == RQ_QCONFIG_GLOBAL ? "" : "[\n  ");
            else
                rq_buf_adds(b, ",\n  ");
            any = open = true;
            ok &= put_entry(b, &e);
        }
        if (open && level != RQ_QCONFIG_GLOBAL)
            rq_buf_adds(b, "]");
    }
    if (m->compat)
        rq_buf_addf(b, "%s\n \"compat\": true", any ? "," : "");
    rq_buf_adds(b, "\n}\n");
    return b->failed ? RQ_NO_MEMORY : ok ? RQ_OK : RQ_BAD_ARG;
}

rq_status rq_qconfig_mapping_text(const rq_qconfig_mapping *m, char *buf, size_t n, size_t *size)
{
    rq_buf b = { 0 };
    const rq_status s = write(&b, m);
    if (s == RQ_OK) {
        if (size)
            *size = b.size + 1;
        if (n) {
            const size_t taken = b.size < n ? b.size : n - 1;
            memcpy(buf, b.data, taken);
            buf[taken] = 0;
        }
    }
    rq_buf_release(&b);
    return s;
}

rq_status rq_qconfig_mapping_save(const rq_qconfig_mapping *m, const char *path, rq_err *err)
{
    rq_buf b = { 0 };
    rq_status s = write(&b, m);
    if (s == RQ_OK)
        s = rq_file_write_all(path, b.data, b.size, err);
    else
        rq_fail(err, s,
                s == RQ_NO_MEMORY     ? "%s: out of memory"
                : s == RQ_UNSUPPORTED ? "%s: a qconfig of the mapping has a setting that files have no key for"
                                      : "%s: a name in the mapping is not UTF-8",
                path);
    rq_buf_release(&b);
    return s;
}
