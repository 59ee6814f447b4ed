/* formats/ranges_json.c — ranges as JSON: our own form (requant/ranges.h has it), and what ONNX Runtime's quantizer writes:
 *
 *   save_tensors_data         {"CLS": "TensorsData", "data": {"<name>": {"lowest": A, "highest": A, ...}}, ...}
 *   write_calibration_table   {"<name>": {"lowest": A, "highest": A, ...}, ...}, or {"<name>": [lo, hi], ...}
 *
 * where A is a number, a list with one, or {"data": either, "dtype": ...}. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/quote.h"
#include "formats/json_scan.h"
#include "formats/ranges.h"

static const char form[] = "requant ranges 1";

/* ---- reading ---- */

typedef struct reader {
    rq_json j;
    rq_ranges *r;
    rq_buf key, inner, text; /* text: a string value */
    const char *method;      /* of the whole file */
    char method_text[64];
} reader;

/* A number, however deep ONNX Runtime wrapped it. */
static rq_status read_real(reader *in, double *out)
{
    rq_json *j = &in->j;
    bool more, found = false;
    const int c = rq_json_peek(j);
    if (c != '[' && c != '{')
        return rq_json_number(j, out);
    RQ_TRY(rq_json_open(j, (char)c));
    for (;;) {
        RQ_TRY(c == '{' ? rq_json_key(j, &in->inner, &more) : rq_json_item(j, &more));
        if (!more)
            break;
        if (c == '[' || !strcmp(in->inner.data, "data")) {
            if (found)
                return rq_json_fail(j, "a range of more than one number: it is per channel");
            RQ_TRY(read_real(in, out));
            found = true;
        } else {
            RQ_TRY(rq_json_skip(j));
        }
    }
    return found ? RQ_OK : rq_json_fail(j, "no number in a range");
}

static rq_status read_count(reader *in, uint64_t *out)
{
    double v;
    RQ_TRY(rq_json_number(&in->j, &v));
    if (v < 0 || v != rint(v) || v > 9e15)
        return rq_json_fail(&in->j, "a count that is none");
    *out = (uint64_t)v;
    return RQ_OK;
}

static rq_status read_bool(reader *in, bool *out)
{
    const int c = rq_json_peek(&in->j);
    if (c != 't' && c != 'f')
        return rq_json_fail(&in->j, "expected true or false");
    *out = c == 't';
    return rq_json_skip(&in->j);
}

/* What stands behind a tensor's name. */
static rq_status read_object(reader *in, rq_range_info *info)
{
    rq_json *j = &in->j;
    bool more, lo = false, hi = false;
    RQ_TRY(rq_json_open(j, '{'));
    for (;;) {
        RQ_TRY(rq_json_key(j, &in->key, &more));
        if (!more)
            break;
        const char *k = in->key.data;
        if (!strcmp(k, "lo") || !strcmp(k, "lowest")) {
            RQ_TRY(read_real(in, &info->lo));
            lo = true;
        } else if (!strcmp(k, "hi") || !strcmp(k, "highest")) {
            RQ_TRY(read_real(in, &info->hi));
            hi = true;
        } else if (!strcmp(k, "count")) {
            RQ_TRY(read_count(in, &info->count));
        } else if (!strcmp(k, "bad")) {
            RQ_TRY(read_count(in, &info->bad));
        } else if (!strcmp(k, "magnitude")) {
            RQ_TRY(read_bool(in, &info->magnitude));
        } else if (!strcmp(k, "method")) {
            RQ_TRY(rq_json_string(j, &in->text));
            info->method = in->text.data;
        } else {
            RQ_TRY(rq_json_skip(j));
        }
    }
    return lo && hi ? RQ_OK : rq_json_fail(j, "the range of '%.80s' has no %s", info->tensor, lo ? "hi" : "lo");
}

static rq_status read_pair(reader *in, rq_range_info *info)
{
    bool more;
    RQ_TRY(rq_json_open(&in->j, '['));
    for (int i = 0;; i++) {
        RQ_TRY(rq_json_item(&in->j, &more));
        if (!more)
            return i == 2 ? RQ_OK : rq_json_fail(&in->j, "a range is two numbers, not %d", i);
        RQ_TRY(i < 2 ? read_real(in, i ? &info->hi : &info->lo) : rq_json_skip(&in->j));
    }
}

/* The value of key in->key, which is a tensor's name. */
static rq_status read_tensor(reader *in)
{
    char *name = rq_arena_strndup(&in->r->text, in->key.data, strlen(in->key.data));
    rq_range_info info = { .tensor = name, .method = in->method };
    if (!name)
        return rq_fail(in->j.err, RQ_NO_MEMORY, "%s: out of memory", in->j.name);
    if (strlen(name) != in->key.size)
        return rq_json_fail(&in->j, "a name with a NUL in it");
    RQ_TRY(rq_json_peek(&in->j) == '[' ? read_pair(in, &info) : read_object(in, &info));
    return rq_ranges_append(in->r, &info, in->j.err);
}

/* `bare`: of the whole file, where members that are no tensors stand beside them. */
static rq_status read_tensors(reader *in, bool bare)
{
    bool more;
    RQ_TRY(rq_json_open(&in->j, '{'));
    for (;;) {
        RQ_TRY(rq_json_key(&in->j, &in->key, &more));
        if (!more)
            return RQ_OK;
        if (bare && (rq_json_peek(&in->j) == '"' || !strcmp(in->key.data, "calibration_method")))
            RQ_TRY(rq_json_skip(&in->j));
        else
            RQ_TRY(read_tensor(in));
    }
}

static rq_status read_model(reader *in)
{
    char *end;
    RQ_TRY(rq_json_string(&in->j, &in->text));
    in->r->model = strtoull(in->text.data, &end, 16);
    if (*end || in->text.size != 16)
        return rq_json_fail(&in->j, "'model' is no hash of 16 hexadecimal digits");
    return RQ_OK;
}

/* Which form is it? The members that tell are looked for first, since objects have no order. */
typedef enum dialect { BARE, OURS, TENSORS_DATA } dialect;

static rq_status find_dialect(reader *in, dialect *d)
{
    rq_json *j = &in->j;
    bool more;
    *d = BARE;
    RQ_TRY(rq_json_open(j, '{'));
    for (;;) {
        RQ_TRY(rq_json_key(j, &in->key, &more));
        if (!more)
            break;
        const bool text = rq_json_peek(j) == '"';
        if (text && !strcmp(in->key.data, "format")) {
            RQ_TRY(rq_json_string(j, &in->text));
            if (strcmp(in->text.data, form) != 0)
                return rq_json_fail(j, "format '%.40s', expected '%s'", in->text.data, form);
            *d = OURS;
        } else if (text && !strcmp(in->key.data, "CLS")) {
            RQ_TRY(rq_json_string(j, &in->text));
            if (!strcmp(in->text.data, "TensorsData"))
                *d = TENSORS_DATA;
        } else {
            RQ_TRY(rq_json_skip(j));
        }
    }
    RQ_TRY(rq_json_end(j));
    *j = rq_json_of(j->begin, (size_t)(j->end - j->begin), j->name, j->err);
    return RQ_OK;
}

static rq_status read_ours(reader *in, dialect d)
{
    rq_json *j = &in->j;
    const char *tensors = d == OURS ? "tensors" : "data";
    bool more;
    RQ_TRY(rq_json_open(j, '{'));
    for (;;) {
        RQ_TRY(rq_json_key(j, &in->key, &more));
        if (!more)
            return RQ_OK;
        uint64_t n = 0;
        if (!strcmp(in->key.data, tensors)) {
            RQ_TRY(read_tensors(in, false));
        } else if (d == OURS && !strcmp(in->key.data, "model")) {
            RQ_TRY(read_model(in));
        } else if (d == OURS && !strcmp(in->key.data, "samples")) {
            RQ_TRY(read_count(in, &n));
            in->r->samples = (int64_t)n;
        } else {
            RQ_TRY(rq_json_skip(j));
        }
    }
}

rq_status rq_ranges_read_json(rq_ranges *r, const void *data, size_t n, const char *name, rq_err *err)
{
    reader in = { .j = rq_json_of(data, n, name, err), .r = r };
    dialect d;
    rq_status s;
    if (rq_json_peek(&in.j) != '{')
        return rq_fail(err, RQ_BAD_FILE, "%s: neither JSON nor a calibration cache of TensorRT", name);
    s = find_dialect(&in, &d);
    in.method = d == OURS ? "given" : "onnxruntime";
    if (!s)
        s = d == BARE ? read_tensors(&in, true) : read_ours(&in, d);
    rq_buf_release(&in.key);
    rq_buf_release(&in.inner);
    rq_buf_release(&in.text);
    return s;
}

/* ---- writing ---- */

rq_status rq_ranges_write_json(const rq_ranges *r, rq_buf *b, rq_err *err)
{
    rq_buf_addf(b, "{\n \"format\": \"%s\",\n", form);
    if (r->model)
        rq_buf_addf(b, " \"model\": \"%016" PRIx64 "\",\n", r->model);
    if (r->samples)
        rq_buf_addf(b, " \"samples\": %" PRId64 ",\n", r->samples);
    rq_buf_adds(b, " \"tensors\": {");
    for (int i = 0; i < r->n; i++) {
        const rq_range_info *t = &r->items[i];
        rq_buf_adds(b, i ? ",\n  " : "\n  ");
        if (!rq_quote(b, t->tensor))
            return rq_fail(err, RQ_BAD_DATA, "%s: the name '%.80s' is not UTF-8, which JSON cannot hold", r->path,
                           t->tensor);
        rq_buf_addf(b, ": {\"lo\": %.17g, \"hi\": %.17g, \"method\": ", t->lo, t->hi);
        if (!rq_quote(b, t->method))
            return rq_fail(err, RQ_BAD_DATA, "%s: the method of '%.80s' is not UTF-8", r->path, t->tensor);
        if (t->count)
            rq_buf_addf(b, ", \"count\": %" PRIu64 ", \"bad\": %" PRIu64, t->count, t->bad);
        rq_buf_adds(b, t->magnitude ? ", \"dtype\": \"f32\", \"magnitude\": true}" : ", \"dtype\": \"f32\"}");
    }
    rq_buf_adds(b, "\n }\n}\n");
    return RQ_OK;
}
