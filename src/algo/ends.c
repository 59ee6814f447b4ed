/* algo/ends.c — see requant/ends.h. A normalization (v - mean) / std in front of a Conv goes into its weights and bias:
 *
 *   w'[o][c] = w[o][c] / std[c],   b'[o] = b[o] - sum over c of mean[c] / std[c] * sum of w[o][c]
 *
 * Padding is where that goes wrong: the Conv padded its input with 0, which is v = mean[c]. So the pads leave the Conv,
 * and v is padded with mean before it: by one Pad where the mean is the same for every channel, else per channel,
 * between Split and Concat. In real numbers that is the same function; as codes the padding is rounded as every other
 * pixel is. */
#include "algo/ends.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/eval.h"
#include "ops/rewrite.h"
#include "ops/upgrade.h"

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory changing the ends of the graph");
}

static float entry(const float *v, int n, int64_t c)
{
    return v[n == 1 ? 0 : c];
}

static double step_of(const rq_ends *e)
{
    return e->step ? e->step : 1.0 / 255;
}

/* ---- folding ---- */

static bool any_pads(const rq_node *n)
{
    int count;
    const int64_t *pads = rq_attr_ints(n, RQ_WORD_pads, &count);
    for (int i = 0; i < count; i++)
        if (pads[i])
            return true;
    return false;
}

/* Why the normalization of an input with `channels` channels cannot go into this reader of it, or NULL. */
static const char *not_foldable(const rq_graph *g, const rq_node *n, rq_id x, int64_t channels)
{
    const char *pad = rq_attr_string(n, RQ_WORD_auto_pad, "NOTSET");
    if (!rq_rewrite_is(n, "Conv") || n->in[0] != x)
        return "it is no Conv";
    if (n->n_in < 2 || n->in[1] == RQ_NONE || g->values[n->in[1]].shape.rank < 3)
        return "it has no weights";
    if (g->values[n->in[1]].kind != RQ_VALUE_CONST || g->values[n->in[1]].constant.dtype != RQ_DTYPE_F32 ||
        (n->n_in > 2 && n->in[2] != RQ_NONE &&
         (g->values[n->in[2]].kind != RQ_VALUE_CONST || g->values[n->in[2]].constant.dtype != RQ_DTYPE_F32)))
        return "its weights or bias are not constant";
    if (strcmp(pad, "NOTSET") != 0 && strcmp(pad, "VALID") != 0)
        return "its padding depends on the size of the image (auto_pad)";
    if (g->values[n->in[1]].constant.shape.dim[1] * rq_attr_int(n, RQ_WORD_group, 1) != channels)
        return "its weights do not have as many channels";
    return NULL;
}

/* New weights and bias for a Conv. */
static rq_status fold_conv(rq_graph *g, rq_id node, const rq_ends *e, rq_err *err)
{
    const rq_node *n = &g->nodes[node];
    const rq_tensor *w = &g->values[n->in[1]].constant;
    const rq_id b = n->n_in > 2 ? n->in[2] : RQ_NONE;
    const int64_t outputs = w->shape.dim[0], per_group = w->shape.dim[1], group = rq_attr_int(n, RQ_WORD_group, 1),
                  kernel = rq_shape_span(&w->shape, 2, w->shape.rank);
    const rq_shape line = rq_shape_of(1, &outputs);
    rq_tensor weights, bias;
    if (rq_tensor_create(&weights, RQ_DTYPE_F32, &w->shape, false))
        return no_memory(err);
    if (rq_tensor_create(&bias, RQ_DTYPE_F32, &line, true)) {
        rq_tensor_release(&weights);
        return no_memory(err);
    }
    for (int64_t o = 0; o < outputs; o++) {
        double sum = b == RQ_NONE ? 0 : g->values[b].constant.f32[o];
        for (int64_t i = 0; i < per_group; i++) {
            const int64_t c = o / (outputs / group) * per_group + i;
            const double mean = entry(e->mean, e->n_channels, c), std = entry(e->std, e->n_channels, c);
            for (int64_t k = 0; k < kernel; k++) {
                const int64_t at = (o * per_group + i) * kernel + k;
                sum -= w->f32[at] * mean / std;
                weights.f32[at] = (float)(w->f32[at] / std);
            }
        }
        bias.f32[o] = (float)sum;
    }
    const char *base = g->values[n->in[1]].name;
    rq_id made[2];
    const char *names[2] = { rq_rewrite_name(g, base, "_of_pixels"), rq_rewrite_name(g, base, "_of_pixels_bias") };
    rq_status st = names[0] && names[1] ? rq_graph_add_const(g, &made[0], names[0], &weights, err) : no_memory(err);
    if (!st)
        st = rq_graph_add_const(g, &made[1], names[1], &bias, err);
    rq_tensor_release(&weights);
    rq_tensor_release(&bias);
    RQ_TRY(st);
    const rq_id x = g->nodes[node].in[0], in[3] = { x, made[0], made[1] };
    return rq_rewrite_become(g, node, "Conv", in, 3, err);
}

/* Pad of v with one number: *out. */
static rq_status add_pad(rq_graph *g, rq_id v, const int64_t *pads, int n_pads, float value, const char *suffix,
                         rq_id *out, rq_err *err)
{
    const char *base = g->values[v].name;
    rq_id in[3] = { v, RQ_NONE, RQ_NONE };
    RQ_TRY(rq_rewrite_ints(g, pads, n_pads, base, "_pads", &in[1], err));
    RQ_TRY(rq_rewrite_float(g, value, base, "_pad_value", &in[2], err));
    return rq_rewrite_add(g, "Pad", in, 3, base, suffix, RQ_DTYPE_F32, out, NULL, err);
}

/* The pads of the Conv, in front of it. */
static rq_status pad_before(rq_graph *g, rq_id node, rq_id v, const rq_ends *e, rq_err *err)
{
    int count;
    const int64_t *pads = rq_attr_ints(&g->nodes[node], RQ_WORD_pads, &count);
    int64_t all[2 * RQ_MAX_RANK] = { 0 }, none[2 * RQ_MAX_RANK] = { 0 };
    const int n = count / 2;
    rq_id padded;
    bool same = true;
    for (int c = 1; c < e->n_channels; c++)
        same &= e->mean[c] == e->mean[0];
    for (int i = 0; i < n; i++) {
        all[2 + i] = pads[i];
        all[2 + n + 2 + i] = pads[n + i];
    }
    if (same) {
        RQ_TRY(add_pad(g, v, all, 2 * (n + 2), e->mean[0], "_padded", &padded, err));
    } else {
        rq_id part[RQ_ENDS_CHANNELS], in[2] = { v, RQ_NONE }, split, concat;
        int64_t ones[RQ_ENDS_CHANNELS];
        for (int c = 0; c < e->n_channels; c++) {
            const char *name = rq_rewrite_name(g, g->values[v].name, "_channel");
            if (!name)
                return no_memory(err);
            RQ_TRY(rq_graph_add_value(g, &part[c], RQ_VALUE_NODE, name, RQ_DTYPE_F32, NULL, err));
            ones[c] = 1;
        }
        RQ_TRY(rq_rewrite_ints(g, ones, e->n_channels, g->values[v].name, "_split", &in[1], err));
        const char *name = rq_rewrite_name(g, g->values[v].name, "_Split");
        if (!name)
            return no_memory(err);
        RQ_TRY(rq_graph_add_node(g, &split, "Split", "", name, in, 2, part, e->n_channels, err));
        if (rq_attr_set_int(g, split, "axis", 1))
            return no_memory(err);
        for (int c = 0; c < e->n_channels; c++)
            RQ_TRY(add_pad(g, part[c], all, 2 * (n + 2), e->mean[c], "_padded", &part[c], err));
        RQ_TRY(rq_rewrite_add(g, "Concat", part, e->n_channels, g->values[v].name, "_padded", RQ_DTYPE_F32, &padded,
                              &concat, err));
        if (rq_attr_set_int(g, concat, "axis", 1))
            return no_memory(err);
        g->values[padded].pixels = true;
    }
    return rq_graph_set_input(g, node, 0, padded) || rq_attr_set_ints(g, node, "pads", none, count) ? no_memory(err)
                                                                                                    : RQ_OK;
}

/* [1, n, 1, ..] for numpy broadcasting along axis 1. */
static rq_status add_line(rq_graph *g, const float *v, int n, int rank, const char *base, const char *suffix, rq_id *id,
                          rq_err *err)
{
    RQ_TRY(rq_rewrite_floats(g, v, n, base, suffix, id, err));
    rq_shape s = { .rank = rank };
    for (int i = 0; i < rank; i++)
        s.dim[i] = i == 1 ? n : 1;
    g->values[*id].constant.shape = s;
    g->values[*id].shape = s;
    return RQ_OK;
}

/* x -> Mul(std) -> Add(mean): *out. */
static rq_status denormalize(rq_graph *g, rq_id x, const float *mean, const float *std, int n, rq_id *out, rq_err *err)
{
    const int rank = g->values[x].shape.rank;
    const char *base = g->values[x].name;
    rq_id in[2] = { x, RQ_NONE }, scaled;
    RQ_TRY(add_line(g, std, n, rank, base, "_std", &in[1], err));
    RQ_TRY(rq_rewrite_add(g, "Mul", in, 2, base, "_times_std", RQ_DTYPE_F32, &scaled, NULL, err));
    in[0] = scaled;
    RQ_TRY(add_line(g, mean, n, rank, base, "_mean", &in[1], err));
    RQ_TRY(rq_rewrite_add(g, "Add", in, 2, base, "_pixels", RQ_DTYPE_F32, out, NULL, err));
    g->values[*out].shape = g->values[x].shape;
    g->values[*out].pixels = true;
    return RQ_OK;
}

static rq_status fold_input(rq_graph *g, rq_id x, const rq_ends *e, rq_err *err)
{
    const rq_value *value = &g->values[x];
    const char *name = value->name;
    const int64_t channels = value->shape.rank >= 3 ? value->shape.dim[1] : -1;
    rq_id user[64], v;
    const int n = rq_graph_uses(g, x, user, 64);
    if (channels < 1 || (e->n_channels != 1 && channels != e->n_channels))
        return rq_fail(err, RQ_UNSUPPORTED, "input '%s': %d means were given, its axis 1 has %lld channels", name,
                       e->n_channels, (long long)channels);
    if (n < 1 || n > 64 || rq_graph_is_output(g, x))
        return rq_fail(err, RQ_UNSUPPORTED, "input '%s' is not read by Convs only", name);
    for (int i = 0; i < n; i++) {
        const char *why = not_foldable(g, &g->nodes[user[i]], x, channels);
        if (why)
            return rq_fail(err, RQ_UNSUPPORTED,
                           "mean and std of input '%s' cannot go into node '%s' (%s), which reads it: %s", name,
                           g->nodes[user[i]].name, g->nodes[user[i]].op, why);
    }
    RQ_TRY(denormalize(g, x, e->mean, e->std, e->n_channels, &v, err));
    for (int i = 0; i < n; i++) {
        bool zero = true;
        for (int c = 0; c < e->n_channels; c++)
            zero &= e->mean[c] == 0;
        if (rq_graph_set_input(g, user[i], 0, v))
            return no_memory(err);
        RQ_TRY(fold_conv(g, user[i], e, err));
        if (any_pads(&g->nodes[user[i]]) && !zero)
            RQ_TRY(pad_before(g, user[i], v, e, err));
    }
    return RQ_OK;
}

rq_status rq_ends_fold(rq_graph *g, const rq_ends *e, rq_err *err)
{
    if (!e || !e->inputs || !e->n_channels)
        return RQ_OK;
    for (int c = 0; c < e->n_channels; c++)
        if (!isfinite(e->mean[c]) || !(e->std[c] > 0) || !isfinite(e->std[c]))
            return rq_fail(err, RQ_BAD_ARG, "mean %g and std %g of channel %d: expected finite numbers, std above 0",
                           (double)e->mean[c], (double)e->std[c], c);
    RQ_TRY(rq_eval_constants(g, err));
    if (rq_graph_opset(g, "") < 13)
        RQ_TRY(rq_upgrade(g, 13, err));
    int folded = 0;
    for (int i = 0, n = g->n_inputs; i < n; i++) {
        const rq_id x = g->inputs[i];
        if (g->values[x].dtype != RQ_DTYPE_F32)
            continue;
        if (rq_ends_pixels(g, x) == x) /* else g is a copy of a graph that was folded before */
            RQ_TRY(fold_input(g, x, e, err));
        folded++;
    }
    rq_ops_bind(g);
    return folded ? RQ_OK : rq_fail(err, RQ_UNSUPPORTED, "the model has no float input that pixels could go into");
}

rq_id rq_ends_pixels(const rq_graph *g, rq_id x)
{
    rq_id user, v = x;
    for (int i = 0; i < 2 && v != RQ_NONE && rq_graph_uses(g, v, &user, 1) == 1; i++)
        v = g->nodes[user].out[0];
    return v != RQ_NONE && g->values[v].pixels ? v : x;
}

static void pin(rq_placement *p, rq_id v, double step)
{
    int64_t lo, hi;
    if (p->group[v] < 0)
        return;
    rq_settings *s = &p->groups[p->group[v]].s;
    rq_dtype_limits(s->activations, &lo, &hi);
    s->pinned = true;
    s->scale = (float)step;
    s->zero_point = (int32_t)lo;
}

void rq_ends_pin(rq_placement *p, const rq_graph *g, const rq_ends *e)
{
    if (!e || !e->inputs || !e->n_channels)
        return;
    for (rq_id v = 0; v < g->n_values; v++)
        if (g->values[v].pixels && g->values[v].kind != RQ_VALUE_DEAD)
            pin(p, v, step_of(e));
}

/* ---- stripping ---- */

static rq_status note_meaning(rq_graph *g, const char *name, const rq_qparams *q, const rq_ends *e, rq_err *err)
{
    json_t *o = json_pack("{s:s, s:f, s:i}", "dtype", rq_dtype_name(q->dtype), "scale", (double)q->scale[0],
                          "zero_point", (int)q->zero_point[0]);
    if (e && o) {
        json_t *mean = json_array(), *std = json_array();
        for (int c = 0; c < e->n_channels; c++) {
            json_array_append_new(mean, json_real((double)e->mean[c]));
            json_array_append_new(std, json_real((double)e->std[c]));
        }
        json_object_set_new(o, "mean", mean);
        json_object_set_new(o, "std", std);
    }
    char *text = o ? json_dumps(o, JSON_REAL_PRECISION(9)) : NULL;
    json_decref(o);
    const size_t n = strlen(name) + sizeof "quantization.";
    char *key = text ? rq_arena_alloc(&g->names, n, 1) : NULL;
    rq_status st = RQ_NO_MEMORY;
    if (key) {
        snprintf(key, n, "quantization.%s", name);
        st = rq_graph_set_meta(g, key, text);
    }
    free(text);
    return st ? no_memory(err) : RQ_OK;
}

/* A Q or DQ of v's parameters, which stay v's own: raise.h calls it free. in or out is new. */
static rq_status add_free(rq_graph *g, const char *op, rq_id in, rq_id out, const rq_qparams *q, const char *base,
                          rq_err *err)
{
    rq_id ins[3] = { in, RQ_NONE, RQ_NONE }, node;
    const rq_shape scalar = rq_shape_of(0, NULL);
    rq_tensor zero;
    RQ_TRY(rq_rewrite_float(g, q->scale[0], base, "_scale", &ins[1], err));
    const char *name = rq_rewrite_name(g, base, "_zero_point"),
               *node_name = rq_rewrite_name(g, base, op[0] == 'Q' ? "_QuantizeLinear" : "_DequantizeLinear");
    if (!name || !node_name || rq_tensor_create(&zero, q->dtype, &scalar, true))
        return no_memory(err);
    rq_tensor_set(&zero, 0, q->zero_point[0]);
    rq_status st = rq_graph_add_const(g, &ins[2], name, &zero, err);
    rq_tensor_release(&zero);
    RQ_TRY(st);
    return rq_graph_add_node(g, &node, op, "", node_name, ins, 3, &out, 1, err);
}

/* The annotation that value v has, once per tensor and in 8 bits. */
static const rq_qparams *plain_codes(const rq_graph *g, rq_id v)
{
    const rq_qparams *q = v == RQ_NONE ? NULL : rq_graph_qparams(g, v);
    return q && q->axis == RQ_PER_TENSOR && rq_dtype_bits(q->dtype) <= 16 ? q : NULL;
}

static rq_status strip_input(rq_graph *g, int at, const rq_ends *e, rq_err *err)
{
    const rq_id x = g->inputs[at], v = e->n_channels ? rq_ends_pixels(g, x) : x;
    const char *name = g->values[x].name;
    const rq_qparams *q = plain_codes(g, v);
    if (!q)
        return rq_fail(err, RQ_UNSUPPORTED, "input '%s' cannot be codes: what reads it runs in float", name);
    const rq_shape shape = g->values[x].shape;
    const rq_value was = g->values[x];
    rq_id codes;
    const char *inner = rq_rewrite_name(g, name, "_real");
    if (!inner)
        return no_memory(err);
    RQ_TRY(note_meaning(g, name, q, v == x ? NULL : e, err));
    RQ_TRY(rq_graph_rename(g, x, inner, err));
    RQ_TRY(rq_graph_add_value(g, &codes, RQ_VALUE_INPUT, was.name, q->dtype, &shape, err));
    g->values[codes].doc = was.doc;
    g->inputs[at] = codes;
    if (v != x) { /* the value is made by the DequantizeLinear from now on; what made it goes with the old input */
        rq_id made = g->values[v].producer, dead;
        RQ_TRY(rq_graph_add_value(g, &dead, RQ_VALUE_NODE, NULL, RQ_DTYPE_F32, NULL, err));
        g->nodes[made].out[0] = dead;
        g->values[dead].producer = made;
        g->values[v].producer = RQ_NONE;
    } else {
        g->values[x].kind = RQ_VALUE_NODE;
        g->values[x].producer = RQ_NONE;
        g->values[x].extra = NULL;
    }
    RQ_TRY(add_free(g, "DequantizeLinear", codes, v, plain_codes(g, v), was.name, err));
    if (v != x) {
        rq_graph_prune(g);
        if (rq_graph_uses(g, x, NULL, 0) == 0)
            rq_graph_remove_value(g, x);
    }
    return RQ_OK;
}

static rq_status strip_output(rq_graph *g, int at, rq_err *err)
{
    const rq_id y = g->outputs[at];
    const rq_qparams *q = plain_codes(g, y);
    const char *name = g->values[y].name;
    if (!q || g->values[y].kind != RQ_VALUE_NODE)
        return rq_fail(err, RQ_UNSUPPORTED, "output '%s' cannot be codes: it is made in float and not quantized", name);
    const rq_shape shape = g->values[y].shape;
    rq_id codes;
    const char *inner = rq_rewrite_name(g, name, "_real");
    if (!inner)
        return no_memory(err);
    RQ_TRY(note_meaning(g, name, q, NULL, err));
    RQ_TRY(rq_graph_rename(g, y, inner, err));
    RQ_TRY(rq_graph_add_value(g, &codes, RQ_VALUE_NODE, name, q->dtype, &shape, err));
    RQ_TRY(add_free(g, "QuantizeLinear", y, codes, plain_codes(g, y), name, err));
    for (int i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == y)
            g->outputs[i] = codes;
    return RQ_OK;
}

rq_status rq_ends_strip(rq_graph *g, const rq_ends *e, rq_err *err)
{
    for (int i = 0; e && e->inputs && i < g->n_inputs; i++)
        if (g->values[g->inputs[i]].dtype == RQ_DTYPE_F32)
            RQ_TRY(strip_input(g, i, e, err));
    for (int i = 0; e && e->outputs && i < g->n_outputs; i++)
        if (g->values[g->outputs[i]].dtype == RQ_DTYPE_F32)
            RQ_TRY(strip_output(g, i, err));
    if (e && (e->inputs || e->outputs))
        rq_ops_bind(g);
    return RQ_OK;
}

/* ---- back again ---- */

static const char *meaning_of(const rq_graph *g, const char *name)
{
    for (int i = 0; i < g->n_meta; i++)
        if (!strncmp(g->meta[i].key, "quantization.", 13) && !strcmp(g->meta[i].key + 13, name))
            return g->meta[i].value;
    return NULL;
}

typedef struct meaning {
    rq_qparams q;
    int n;
    float mean[RQ_ENDS_CHANNELS], std[RQ_ENDS_CHANNELS];
} meaning;

/* False: no such text. */
static bool read_meaning(const char *text, rq_dtype d, float *scale, int32_t *zero, meaning *m)
{
    json_t *o = json_loads(text, 0, NULL), *mean = json_object_get(o, "mean"), *std = json_object_get(o, "std");
    const char *type = json_string_value(json_object_get(o, "dtype"));
    const size_t n = json_array_size(mean);
    *scale = (float)json_number_value(json_object_get(o, "scale"));
    *zero = (int32_t)json_integer_value(json_object_get(o, "zero_point"));
    bool fine = type && !strcmp(type, rq_dtype_name(d)) && *scale > 0 && isfinite(*scale) &&
                n == json_array_size(std) && n <= RQ_ENDS_CHANNELS;
    m->n = fine ? (int)n : 0;
    for (size_t i = 0; fine && i < n; i++) {
        m->mean[i] = (float)json_number_value(json_array_get(mean, i));
        m->std[i] = (float)json_number_value(json_array_get(std, i));
    }
    json_decref(o);
    return fine;
}

static rq_status restore_input(rq_graph *g, int at, meaning *m, rq_err *err)
{
    const rq_id codes = g->inputs[at];
    const rq_value was = g->values[codes];
    rq_id x, v;
    const char *inner = rq_rewrite_name(g, was.name, "_codes");
    if (!inner)
        return no_memory(err);
    RQ_TRY(rq_graph_rename(g, codes, inner, err));
    RQ_TRY(rq_graph_add_value(g, &x, RQ_VALUE_INPUT, was.name, RQ_DTYPE_F32, &was.shape, err));
    g->inputs[at] = v = x;
    if (m->n)
        RQ_TRY(denormalize(g, x, m->mean, m->std, m->n, &v, err));
    g->values[codes].kind = RQ_VALUE_NODE;
    g->values[codes].producer = RQ_NONE;
    g->values[codes].extra = NULL;
    return add_free(g, "QuantizeLinear", v, codes, &m->q, was.name, err);
}

static rq_status restore_output(rq_graph *g, int at, meaning *m, rq_err *err)
{
    const rq_id codes = g->outputs[at];
    const rq_value was = g->values[codes];
    rq_id y;
    const char *inner = rq_rewrite_name(g, was.name, "_codes");
    if (!inner)
        return no_memory(err);
    RQ_TRY(rq_graph_rename(g, codes, inner, err));
    RQ_TRY(rq_graph_add_value(g, &y, RQ_VALUE_NODE, was.name, RQ_DTYPE_F32, &was.shape, err));
    g->outputs[at] = y;
    return add_free(g, "DequantizeLinear", codes, y, &m->q, was.name, err);
}

static rq_status restore_all(rq_graph *g, rq_err *err)
{
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < (side ? g->n_outputs : g->n_inputs); i++) {
            const rq_value *v = &g->values[side ? g->outputs[i] : g->inputs[i]];
            const char *text = meaning_of(g, v->name);
            meaning m = { .n = 0 };
            float scale;
            int32_t zero;
            if (!text || !rq_dtype_is_integer(v->dtype))
                continue;
            if (!read_meaning(text, v->dtype, &scale, &zero, &m) || (m.n && v->shape.rank < 2))
                return rq_fail(err, RQ_BAD_GRAPH, "what the metadata say about '%s' does not fit it: %s", v->name,
                               text);
            if (rq_qparams_init_one(&m.q, v->dtype, scale, zero))
                return no_memory(err);
            rq_status st = side ? restore_output(g, i, &m, err) : restore_input(g, i, &m, err);
            rq_qparams_release(&m.q);
            RQ_TRY(st);
        }
    rq_ops_bind(g);
    return rq_ops_infer(g, err);
}

rq_status rq_ends_restore(rq_graph *g, rq_err *err)
{
    rq_graph *copy;
    if (rq_graph_copy(&copy, g))
        return no_memory(err);
    rq_status st = restore_all(copy, err);
    if (!st)
        rq_graph_swap(g, copy);
    rq_graph_destroy(copy);
    return st;
}
