/* coreml/report.c — what compression did to each constant, as text and as JSON. */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "base/quote.h"
#include "coreml/weights.h"

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory for the report");
}

rq_status rq_coreml_report_create(rq_coreml_report **out, const char *what, rq_err *err)
{
    rq_coreml_report *r = rq_mem_zalloc(1, sizeof *r);
    if (!r)
        return no_memory(err);
    r->what = what;
    *out = r;
    return RQ_OK;
}

void rq_coreml_report_destroy(rq_coreml_report *r)
{
    if (!r)
        return;
    rq_mem_free(r->entry);
    rq_mem_free(r->note);
    rq_coreml_pairs_release(&r->pairs);
    rq_arena_release(&r->a);
    rq_mem_free(r);
}

static bool keep(rq_coreml_report *r, const char **s)
{
    if (*s)
        *s = rq_arena_strndup(&r->a, *s, strlen(*s));
    return *s != NULL;
}

rq_status rq_coreml_report_add(rq_coreml_report *r, const rq_coreml_entry_of *e, rq_err *err)
{
    rq_coreml_entry_of own = *e;
    const bool done = own.op != NULL;
    if (!keep(r, &own.name) || !keep(r, &own.type) || !keep(r, &own.user) || !keep(r, &own.user_type) ||
        !keep(r, &own.why) || !keep(r, &own.config) || (!keep(r, &own.op) && done) ||
        !rq_mem_grow(&r->entry, r->n, &r->cap, sizeof *r->entry))
        return no_memory(err);
    r->entry[r->n++] = own;
    return RQ_OK;
}

rq_status rq_coreml_report_note(rq_coreml_report *r, rq_err *err, const char *fmt, ...)
{
    va_list ap;
    char text[600];
    va_start(ap, fmt);
    rq_number_vprint(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *s = text;
    if (!keep(r, &s) || !rq_mem_grow(&r->note, r->n_notes, &r->cap_notes, sizeof *r->note))
        return no_memory(err);
    r->note[r->n_notes++] = s;
    return RQ_OK;
}

typedef struct sums {
    int done, warned;
    uint64_t before, after;
} sums;

static sums add_up(const rq_coreml_report *r)
{
    sums s = { 0 };
    for (int i = 0; i < r->n; i++) {
        s.warned += r->entry[i].warning;
        if (!r->entry[i].op)
            continue;
        s.done++;
        s.before += r->entry[i].before;
        s.after += r->entry[i].after;
    }
    return s;
}

int rq_coreml_report_done(const rq_coreml_report *r)
{
    return add_up(r).done + rq_coreml_pairs_made(&r->pairs);
}

int64_t rq_coreml_report_text(const rq_coreml_report *r, bool all, char *buf, size_t n)
{
    rq_buf b = { 0 };
    const sums s = add_up(r);
    if (r->pairs.n)
        rq_buf_addf(&b, "%s: %d of the operators' inputs and outputs are 8-bit codes", r->what,
                    rq_coreml_pairs_made(&r->pairs));
    else
        rq_buf_addf(&b, "%s: %d of %d constants compressed", r->what, s.done, r->n);
    if (s.done)
        rq_buf_addf(&b, ", %" PRIu64 " bytes become %" PRIu64 " (%.1f times fewer)", s.before, s.after,
                    s.after ? (double)s.before / (double)s.after : 0.0);
    rq_buf_adds(&b, "\n");
    for (int i = 0; i < r->n; i++) {
        const rq_coreml_entry_of *e = &r->entry[i];
        if (!e->op && !e->warning && !all)
            continue;
        rq_buf_addf(&b, "  %s %s", e->name, e->type);
        if (*e->user_type)
            rq_buf_addf(&b, " of %s '%s'", e->user_type, e->user);
        if (e->op)
            rq_buf_addf(&b, ": %s, %" PRIu64 " to %" PRIu64 " bytes, %s\n", e->op, e->before, e->after, e->config);
        else
            rq_buf_addf(&b, ": %sleft as it is: %s\n", e->warning ? "warning: " : "", e->why);
    }
    rq_coreml_pairs_text(&r->pairs, all, &b);
    for (int i = 0; i < r->n_notes; i++)
        rq_buf_addf(&b, "note: %s\n", r->note[i]);
    return rq_buf_hand_over(&b, buf, n);
}

static void add_string(rq_buf *b, const char *key, const char *value)
{
    rq_buf_addf(b, ", \"%s\": ", key);
    rq_quote(b, value);
}

int64_t rq_coreml_report_json(const rq_coreml_report *r, char *buf, size_t n)
{
    rq_buf b = { 0 };
    const sums s = add_up(r);
    rq_buf_addf(&b, "{\"what\": \"%s\", \"compressed\": %d, \"bytes_before\": %" PRIu64 ", \"bytes_after\": %" PRIu64,
                r->what, s.done, s.before, s.after);
    rq_buf_adds(&b, ", \"constants\": [");
    for (int i = 0; i < r->n; i++) {
        const rq_coreml_entry_of *e = &r->entry[i];
        rq_buf_adds(&b, i ? ",\n{\"name\": " : "\n{\"name\": ");
        rq_quote(&b, e->name);
        add_string(&b, "type", e->type);
        add_string(&b, "user", e->user);
        add_string(&b, "user_type", e->user_type);
        if (e->op) {
            add_string(&b, "op", e->op);
            add_string(&b, "config", e->config);
            rq_buf_addf(&b, ", \"bytes_before\": %" PRIu64 ", \"bytes_after\": %" PRIu64, e->before, e->after);
        } else {
            add_string(&b, "left", e->why);
            rq_buf_addf(&b, ", \"warning\": %s", e->warning ? "true" : "false");
        }
        rq_buf_adds(&b, "}");
    }
    rq_buf_adds(&b, "], \"pairs\": ");
    rq_coreml_pairs_json(&r->pairs, &b);
    rq_buf_adds(&b, ", \"notes\": [");
    for (int i = 0; i < r->n_notes; i++) {
        rq_buf_adds(&b, i ? ", " : "");
        rq_quote(&b, r->note[i]);
    }
    rq_buf_adds(&b, "]}\n");
    return rq_buf_hand_over(&b, buf, n);
}
