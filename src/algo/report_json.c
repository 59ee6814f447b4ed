/* algo/report_json.c — the report for programs: the same numbers as JSON. What cannot be measured is null. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "algo/report_priv.h"
#include "base/file.h"
#include "base/mem.h"

json_t *rq_report_json_real(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

json_t *rq_report_json_text(const char *s)
{
    json_t *text = s ? json_string(s) : json_null();
    if (text)
        return text;
    char *clean = rq_mem_strdup(s); /* not UTF-8, or out of memory */
    if (!clean)
        return NULL;
    for (char *p = clean; *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    text = json_string(clean);
    rq_mem_free(clean);
    return text;
}

rq_status rq_report_json_write(json_t *root, const char *path, rq_err *err)
{
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    if (!text)
        return rq_fail(err, RQ_NO_MEMORY, "%s: out of memory for the JSON", path);
    const size_t n = strlen(text);
    text[n] = '\n'; /* a text file ends in one; it takes the place of the 0 */
    rq_status status = rq_file_write_all(path, text, n + 1, err);
    free(text);
    return status;
}

static json_t *side_json(const rq_report_side *s)
{
    return json_pack("{s:o, s:[o,o], s:o, s:I}", "accuracy", rq_report_json_real(s->accuracy), "interval",
                     rq_report_json_real(s->lo), rq_report_json_real(s->hi), "ms", rq_report_json_real(s->ms), "bytes",
                     (json_int_t)s->bytes);
}

static json_t *layer_json(const rq_report_layer *l)
{
    const bool quantized = l->dtype != RQ_DTYPE_NONE;
    return json_pack("{s:o, s:o, s:o, s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name",
                     rq_report_json_text(l->name), "op", rq_report_json_text(l->op), "value",
                     rq_report_json_text(l->value), "dtype", quantized ? rq_dtype_name(l->dtype) : "f32", "bits",
                     l->bits, "scale", quantized ? rq_report_json_real((double)l->scale) : json_null(), "zero_point",
                     quantized ? json_integer(l->zero_point) : json_null(), "sqnr_db", rq_report_json_real(l->sqnr_db),
                     "cosine", rq_report_json_real(l->cosine), "saturated", rq_report_json_real(l->saturated), "used",
                     rq_report_json_real(l->used), "harm", rq_report_json_real(l->harm), "ms",
                     rq_report_json_real(l->ms), "method", rq_report_json_text(l->method), "reason_float",
                     rq_report_json_text(l->reason_float));
}

static json_t *report_json(const rq_report *r)
{
    json_t *outputs = json_object(), *layers = json_array(), *warnings = json_array();
    for (int i = 0; i < r->n_outputs; i++) {
        json_t *one = json_pack("{s:o, s:o, s:I, s:I}", "sqnr_db", rq_report_json_real(r->outputs[i].sqnr_db), "cosine",
                                rq_report_json_real(r->outputs[i].cosine), "nonfinite",
                                (json_int_t)r->outputs[i].nonfinite, "lost", (json_int_t)r->outputs[i].lost);
        json_t *name = rq_report_json_text(r->outputs[i].name);
        if (!one || !name || json_object_set_new(outputs, json_string_value(name), one))
            json_decref(one);
        json_decref(name);
    }
    for (int i = 0; i < r->n_layers; i++)
        json_array_append_new(layers, layer_json(&r->layers[i]));
    for (int i = 0; i < r->warnings.n; i++)
        json_array_append_new(warnings, rq_report_json_text(r->warnings.text[i]));
    return json_pack("{s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "float", side_json(&r->model), "int8",
                     side_json(&r->quantized), "samples", (json_int_t)r->samples, "agreement",
                     rq_report_json_real(r->agreement), "drop", rq_report_json_real(r->drop), "outputs", outputs,
                     "layers", layers, "warnings", warnings, "peak_rss_mb", rq_report_json_real(r->peak_rss_mb),
                     "seconds", rq_report_json_real(r->seconds));
}

rq_status rq_report_save_json(const rq_report *r, const char *path, rq_err *err)
{
    return rq_report_json_write(report_json(r), path, err);
}

int64_t rq_report_json(const rq_report *r, char *buf, size_t n)
{
    json_t *root = report_json(r);
    char *text = root ? json_dumps(root, JSON_REAL_PRECISION(9)) : NULL;
    const int64_t size = text ? (int64_t)strlen(text) : -1;
    json_decref(root);
    if (n)
        snprintf(buf, n, "%s", text ? text : "");
    free(text);
    return size;
}
