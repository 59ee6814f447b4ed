/* algo/linear_quantizer_report.c — report() of LinearQuantizer. Weights are sent through a copy of their fake-quantizer, so that the table is of
 * exactly what training computes and changes nothing. */
#include "requant/linear_quantizer_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "algo/linear_quantizer.h"
#include "base/buf.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "base/number.h"
#include "base/quote.h"
#include "graph/modules.h"
#include "graph/query.h"
#include "ops/eval.h"

typedef rq_linear_quantizer_row row;

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory reporting on the quantizer");
}

/* The tensor that a value made of constants is; nothing in *out where it is more than that. */
static rq_status value_of(const rq_graph *g, rq_id v, int depth, rq_tensor *out, rq_err *err)
{
    *out = (rq_tensor) { 0 };
    if (rq_graph_is_const(g, v)) {
        rq_tensor_share(out, &g->values[v].constant);
        return RQ_OK;
    }
    const rq_node *n = g->values[v].kind == RQ_VALUE_NODE ? &g->nodes[g->values[v].producer] : NULL;
    if (!n || depth > 16 || n->n_in > 4 || n->n_out != 1)
        return RQ_OK;
    rq_kernels k;
    unsigned cpu;
    rq_tensor in[4] = { { 0 } };
    const rq_tensor *at[4];
    bool whole = true;
    rq_status s = RQ_OK;
    for (int i = 0; i < n->n_in; i++) {
        at[i] = n->in[i] >= 0 ? &in[i] : NULL;
        if (s == RQ_OK && at[i])
            s = value_of(g, n->in[i], depth + 1, &in[i], err);
        whole &= !at[i] || in[i].dtype != RQ_DTYPE_NONE;
    }
    rq_kernels_init(&k, rq_cpu_pinned(&cpu, NULL) ? 0 : cpu);
    if (s == RQ_OK && whole)
        s = rq_eval_node(g, n, at, out, (size_t)1 << 40, &k, err);
    for (int i = 0; i < n->n_in; i++)
        rq_tensor_release(&in[i]);
    return s;
}

/* A fake-quantizer that remembers what slot's does, sees nothing, and quantizes. */
static rq_status copy_fake(const rq_linear_quantizer *q, int slot, rq_fake_quantizer **out, rq_err *err)
{
    rq_state *state = NULL;
    RQ_TRY(rq_fake_quantizer_create(out, &q->fake_cfgs[slot], err));
    rq_status s = rq_state_create(&state);
    if (s == RQ_OK)
        s = rq_fake_quantizer_save(q->fakes[slot], state, "");
    if (s == RQ_OK)
        s = rq_fake_quantizer_load(*out, state, "", err);
    rq_state_destroy(state);
    if (s != RQ_OK) {
        rq_fake_quantizer_destroy(*out);
        return s == RQ_NO_MEMORY ? no_memory(err) : s;
    }
    rq_fake_quantizer_enable_observer(*out, false);
    rq_fake_quantizer_enable_fake_quant(*out, true);
    return RQ_OK;
}

static void measure(row *r, const float *w, const float *y, int64_t n)
{
    double noise = 0, signal = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)w[i] - (double)y[i];
        noise += d * d;
        signal += (double)w[i] * (double)w[i];
    }
    r->error = n ? sqrt(noise / (double)n) : 0;
    r->sqnr_db = noise > 0 ? 10 * log10(signal / noise) : (double)INFINITY;
}

/* error and sqnr of weight w (shared; F32) in slot. */
static rq_status weigh(const rq_linear_quantizer *q, int slot, const rq_tensor *w, row *r, rq_err *err)
{
    rq_fake_quantizer *f;
    rq_tensor y;
    if (rq_linear_quantizer_config_is_compat(q->config) && !rq_fake_quantizer_fake_quant_enabled(q->fakes[slot])) {
        r->error = 0;
        r->sqnr_db = (double)INFINITY;
        return RQ_OK;
    }
    RQ_TRY(copy_fake(q, slot, &f, err));
    rq_status s = rq_tensor_create(&y, RQ_DTYPE_F32, &w->shape, false) ? no_memory(err) : RQ_OK;
    if (s == RQ_OK) {
        const rq_strided from = rq_strided_of(w), to = rq_strided_of(&y);
        s = rq_fake_quantizer_forward(f, NULL, &to, &from, NULL);
        if (s == RQ_OK)
            measure(r, w->f32, y.f32, rq_tensor_count(w));
        rq_tensor_release(&y);
        if (s == RQ_NO_MEMORY)
            no_memory(err);
        else if (s != RQ_OK)
            s = RQ_OK; /* nothing was seen: NaN */
    }
    rq_fake_quantizer_destroy(f);
    return s;
}

/* What the fake-quantizer of this slot is and has. */
static rq_status describe(const rq_linear_quantizer *q, int slot, row *r)
{
    const rq_fake_quantizer_cfg *c = &q->fake_cfgs[slot];
    const rq_qtype type = c->observer.type;
    rq_qparams p;
    r->learnable = c->kind == RQ_FAKE_QUANTIZER_LEARNABLE;
    r->symmetric = rq_qscheme_is_symmetric(c->observer.scheme);
    r->per_channel = rq_qscheme_is_per_channel(c->observer.scheme);
    snprintf(r->dtype, sizeof r->dtype, "%s", rq_qtype_is_signed(&type) ? "qint8" : "quint8");
    r->qmin = (int)type.lo;
    r->qmax = (int)type.hi;
    r->n_bits = rq_qtype_width(&type);
    if (r->per_channel)
        snprintf(r->granularity, sizeof r->granularity, "per_channel(%d)", c->observer.axis);
    else
        snprintf(r->granularity, sizeof r->granularity, "per_tensor");
    const rq_status s = rq_fake_quantizer_qparams(q->fakes[slot], &p, NULL, NULL);
    if (s != RQ_OK)
        return s == RQ_NO_MEMORY ? s : RQ_OK; /* nothing was seen */
    r->n_scales = p.n;
    r->scale_lo = r->scale_hi = p.scale[0];
    r->zero_point_lo = r->zero_point_hi = p.zero_point[0];
    for (int64_t i = 1; i < p.n; i++) {
        r->scale_lo = fminf(r->scale_lo, p.scale[i]);
        r->scale_hi = fmaxf(r->scale_hi, p.scale[i]);
        r->zero_point_lo = p.zero_point[i] < r->zero_point_lo ? p.zero_point[i] : r->zero_point_lo;
        r->zero_point_hi = p.zero_point[i] > r->zero_point_hi ? p.zero_point[i] : r->zero_point_hi;
    }
    rq_qparams_release(&p);
    return RQ_OK;
}

static row blank(const char *name, bool is_weight)
{
    return (row) { .name = name,
                   .is_weight = is_weight,
                   .device = "cpu",
                   .error = (double)NAN,
                   .n_params = -1,
                   .sqnr_db = (double)NAN };
}

/* The group whose weight node `node` reads, or NULL. */
static const rq_lq_group *group_of_root(const rq_linear_quantizer *q, rq_id node)
{
    for (int i = 0; i < q->plan.n_groups; i++)
        if (q->plan.groups[i].root == node && q->plan.groups[i].weight_in >= 0)
            return &q->plan.groups[i];
    return NULL;
}

static rq_status add_weight(const rq_linear_quantizer *q, const rq_lq_group *gr, rq_linear_quantizer_report *out,
                            rq_err *err)
{
    const rq_graph *g = q->model;
    const rq_id read = g->nodes[gr->root].in[gr->weight_in];
    const rq_id raw = rq_module_constant(g, read);
    row *r = &out->rows[out->n];
    *r = blank(gr->module, true);
    out->n++;
    if (raw >= 0)
        r->n_params = rq_tensor_count(&g->values[raw].constant);
    if (gr->weight < 0) {
        snprintf(r->dtype, sizeof r->dtype, "float32");
        r->learnable = gr->cfg->learnable;
        r->symmetric = rq_qscheme_is_symmetric(gr->cfg->quantization_scheme);
        r->n_bits = 32;
        r->error = 0;
        r->sqnr_db = (double)INFINITY;
        return RQ_OK;
    }
    const int slot = q->plan.objects[gr->weight].slot;
    rq_tensor w = { 0 };
    if (describe(q, slot, r) != RQ_OK)
        return no_memory(err);
    rq_status s = RQ_OK;
    if (rq_linear_quantizer_config_is_compat(q->config) && raw >= 0)
        rq_tensor_share(&w, &g->values[raw].constant);
    else if (g->values[read].kind == RQ_VALUE_NODE)
        s = value_of(g, g->nodes[g->values[read].producer].in[0], 0, &w, err);
    if (s == RQ_OK && w.dtype == RQ_DTYPE_F32)
        s = weigh(q, slot, &w, r, err);
    rq_tensor_release(&w);
    return s;
}

static rq_status add_rows(const rq_linear_quantizer *q, const rq_id *order, int n, bool *seen,
                          rq_linear_quantizer_report *out, rq_err *err)
{
    for (int i = 0; i < n; i++) {
        const rq_node *node = &q->model->nodes[order[i]];
        const rq_lq_group *gr = group_of_root(q, order[i]);
        if (gr && gr->cfg)
            RQ_TRY(add_weight(q, gr, out, err));
        if (!rq_node_is_requant(node, "FakeQuantize"))
            continue;
        const int64_t slot = rq_attr_int(node, RQ_WORD_slot, -1);
        if (slot < 0 || slot >= q->n_fakes || seen[slot])
            continue;
        seen[slot] = true;
        bool weight = false;
        for (int k = 0; k < q->plan.n_objects; k++)
            weight |= q->plan.objects[k].slot == slot && q->plan.objects[k].policy == RQ_LQ_WEIGHT;
        if (weight)
            continue;
        row *r = &out->rows[out->n++];
        *r = blank(q->names[slot], false);
        if (describe(q, (int)slot, r) != RQ_OK)
            return no_memory(err);
    }
    return RQ_OK;
}

rq_status rq_linear_quantizer_report_make(rq_linear_quantizer_report *out, const rq_linear_quantizer *q, rq_err *err)
{
    rq_id *order;
    int n;
    *out = (rq_linear_quantizer_report) { 0 };
    if (!q->model)
        return rq_fail(err, RQ_BAD_ARG, "the quantizer was not prepared, so there is nothing to report");
    RQ_TRY(rq_order(q->model, &order, &n, err));
    bool *seen = rq_mem_zalloc((size_t)q->n_fakes + 1, sizeof *seen);
    out->rows = rq_mem_zalloc((size_t)q->n_fakes + (size_t)q->plan.n_groups + 1, sizeof *out->rows);
    const rq_status s = seen && out->rows ? add_rows(q, order, n, seen, out, err) : no_memory(err);
    rq_mem_free(order);
    rq_mem_free(seen);
    if (s != RQ_OK)
        rq_linear_quantizer_report_release(out);
    return s;
}

void rq_linear_quantizer_report_release(rq_linear_quantizer_report *r)
{
    rq_mem_free(r->rows);
    *r = (rq_linear_quantizer_report) { 0 };
}

/* ---- as text ---- */

enum { N_COLUMNS = 16, CELL = 160 };

static const char *const columns[N_COLUMNS] = { "name",        "type",        "device",     "algorithm",
                                                "qscheme",     "per_channel", "dtype",      "qmin",
                                                "qmax",        "error",       "#params",    "n_bits",
                                                "granularity", "scale",       "zero_point", "sqnr_db" };

static void between(char *buf, size_t n, const char *fmt, double lo, double hi)
{
    const int used = rq_number_print(buf, n, fmt, lo);
    if (lo != hi && used > 0 && (size_t)used + 4 < n) {
        snprintf(buf + used, n - (size_t)used, " .. ");
        rq_number_print(buf + used + 4, n - (size_t)used - 4, fmt, hi);
    }
}

static void real(char *buf, const char *fmt, double v)
{
    if (isnan(v) || isinf(v))
        snprintf(buf, CELL, "%s", isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
    else
        rq_number_print(buf, CELL, fmt, v);
}

/* Column c of r in words; "-": it has none. */
static void cell(const row *r, int c, char buf[CELL])
{
    const bool quantized = r->granularity[0];
    snprintf(buf, CELL, "-");
    switch (c) {
    case 0:
        snprintf(buf, CELL, "%s", r->name);
        break;
    case 1:
        snprintf(buf, CELL, "%s", r->is_weight ? "weight" : "activation");
        break;
    case 2:
        snprintf(buf, CELL, "%s", r->device);
        break;
    case 3:
        snprintf(buf, CELL, "%s", r->learnable ? "learnable" : "vanilla");
        break;
    case 4:
        snprintf(buf, CELL, "%s", r->symmetric ? "symmetric" : "affine");
        break;
    case 5:
        snprintf(buf, CELL, "%s", r->per_channel ? "True" : "False");
        break;
    case 6:
        snprintf(buf, CELL, "%s", r->dtype);
        break;
    case 7:
        if (quantized)
            snprintf(buf, CELL, "%d", r->qmin);
        break;
    case 8:
        if (quantized)
            snprintf(buf, CELL, "%d", r->qmax);
        break;
    case 9:
        real(buf, "%.5f", r->error);
        break;
    case 10:
        snprintf(buf, CELL, "%lld", (long long)r->n_params);
        break;
    case 11:
        snprintf(buf, CELL, "%d", r->n_bits);
        break;
    case 12:
        if (quantized)
            snprintf(buf, CELL, "%s", r->granularity);
        break;
    case 13:
        if (r->n_scales)
            between(buf, CELL, "%.6g", (double)r->scale_lo, (double)r->scale_hi);
        break;
    case 14:
        if (r->n_scales)
            between(buf, CELL, "%.0f", r->zero_point_lo, r->zero_point_hi);
        break;
    default:
        real(buf, "%.2f", r->sqnr_db);
    }
}

void rq_linear_quantizer_report_print(const rq_linear_quantizer_report *r, FILE *to)
{
    size_t width[N_COLUMNS];
    char text[CELL];
    if (!r->n)
        return;
    for (int c = 0; c < N_COLUMNS; c++) {
        width[c] = strlen(columns[c]);
        for (int i = 0; i < r->n; i++) {
            cell(&r->rows[i], c, text);
            width[c] = strlen(text) > width[c] ? strlen(text) : width[c];
        }
    }
    for (int c = 0; c < N_COLUMNS; c++)
        fprintf(to, "%s%*s", c ? " | " : "", (int)width[c], columns[c]);
    fputs("\n", to);
    for (int c = 0; c < N_COLUMNS; c++) {
        fputs(c ? " | " : "", to);
        for (size_t i = 0; i < width[c]; i++)
            fputc('-', to);
    }
    fputs("\n", to);
    for (int i = 0; i < r->n; i++) {
        for (int c = 0; c < N_COLUMNS; c++) {
            cell(&r->rows[i], c, text);
            fprintf(to, "%s%*s", c ? " | " : "", (int)width[c], text);
        }
        fputs("\n", to);
    }
}

/* A number of JSON; null for what is none. */
static void put_real(rq_buf *b, const char *key, double v)
{
    char text[40];
    rq_number_print(text, sizeof text, "%.9g", v);
    rq_buf_addf(b, ", \"%s\": %s", key, isfinite(v) ? text : "null");
}

int64_t rq_linear_quantizer_report_json(const rq_linear_quantizer_report *r, char *buf, size_t n)
{
    rq_buf b = { 0 };
    rq_buf_adds(&b, "{");
    for (int i = 0; i < r->n; i++) {
        const row *at = &r->rows[i];
        const bool quantized = at->granularity[0];
        rq_buf_adds(&b, i ? ",\n " : "\n ");
        rq_quote(&b, at->name);
        rq_buf_addf(&b,
                    ": {\"type\": \"%s\", \"device\": \"%s\", \"algorithm\": \"%s\", \"qscheme\": \"%s\", "
                    "\"per_channel\": %s, \"dtype\": \"%s\"",
                    at->is_weight ? "weight" : "activation", at->device, at->learnable ? "learnable" : "vanilla",
                    at->symmetric ? "symmetric" : "affine", at->per_channel ? "true" : "false", at->dtype);
        if (quantized)
            rq_buf_addf(&b, ", \"qmin\": %d, \"qmax\": %d", at->qmin, at->qmax);
        else
            rq_buf_adds(&b, ", \"qmin\": null, \"qmax\": null");
        put_real(&b, "error", at->error);
        rq_buf_addf(&b, ", \"#params\": %lld, \"n_bits\": %d", (long long)at->n_params, at->n_bits);
        if (quantized)
            rq_buf_addf(&b, ", \"granularity\": \"%s\"", at->granularity);
        else
            rq_buf_adds(&b, ", \"granularity\": null");
        rq_buf_addf(&b, ", \"n_scales\": %lld", (long long)at->n_scales);
        put_real(&b, "scale_min", at->n_scales ? (double)at->scale_lo : (double)NAN);
        put_real(&b, "scale_max", at->n_scales ? (double)at->scale_hi : (double)NAN);
        put_real(&b, "zero_point_min", at->n_scales ? at->zero_point_lo : (double)NAN);
        put_real(&b, "zero_point_max", at->n_scales ? at->zero_point_hi : (double)NAN);
        put_real(&b, "sqnr_db", at->sqnr_db);
        rq_buf_adds(&b, "}");
    }
    rq_buf_adds(&b, "\n}\n");
    return rq_buf_hand_over(&b, buf, n);
}
