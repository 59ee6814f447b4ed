/* static_weights.c — our weight-only and dynamic modes on the source of a case, with the options of ONNX Runtime's
 * MatMulNBitsQuantizer and quantize_dynamic: every constant that the peer's quantizer made must be ours too, scales within
 * scale_rel, zero points and codes alike, and our model must give the peer's outputs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "golden.h"
#include "graph/graph.h"

/* ---- options ---- */

static bool is_text(const json_t *params, const char *key, const char *text)
{
    const char *v = golden_str(params, key);
    return v && !strcmp(v, text);
}

static rq_ptq_cfg weight_only_cfg(const json_t *params)
{
    rq_ptq_cfg cfg = rq_ptq_defaults();
    const char *bits = golden_str(params, "bits"), *block = golden_str(params, "block_size"),
               *level = golden_str(params, "accuracy_level");
    const bool symmetric = is_text(params, "is_symmetric", "True"), qdq = is_text(params, "quant_format", "QDQ");
    rq_settings *s = &cfg.settings;
    cfg.mode = RQ_MODE_WEIGHT_ONLY;
    cfg.weight_form = qdq ? RQ_WEIGHT_FORM_DQ : RQ_WEIGHT_FORM_MATMULNBITS;
    cfg.accuracy_level = level ? atoi(level) : 0;
    s->weights = bits && !strcmp(bits, "8") ? RQ_DTYPE_U8 : qdq && symmetric ? RQ_DTYPE_S4 : RQ_DTYPE_U4;
    s->symmetric_weights = symmetric;
    s->block_size = block ? atoi(block) : 128;
    s->weight_method = is_text(params, "algo", "rtn")       ? RQ_WEIGHTS_RTN
                       : is_text(params, "algo", "hqq")     ? RQ_WEIGHTS_HQQ
                       : is_text(params, "algo", "k_quant") ? RQ_WEIGHTS_K_QUANT
                                                            : RQ_WEIGHTS_ORT;
    return cfg;
}

/* Its operators include Conv; it leaves weights of others alone. */
static rq_ptq_cfg dynamic_cfg(const json_t *params)
{
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.mode = RQ_MODE_DYNAMIC;
    cfg.dynamic_conv = true;
    cfg.settings.compat = RQ_COMPAT_ONNXRUNTIME;
    cfg.settings.weights = is_text(params, "weight", "QUInt8") ? RQ_DTYPE_U8 : RQ_DTYPE_S8;
    cfg.settings.symmetric_weights = cfg.settings.weights == RQ_DTYPE_S8;
    cfg.settings.per_tensor = !json_is_true(json_object_get(params, "per_channel"));
    cfg.settings.reduced = json_is_true(json_object_get(params, "reduce_range"));
    return cfg;
}

/* ---- comparing constants ---- */

/* rel of the value, or of `least` where that is larger: a zero between codes counts in codes. */
static void compare_reals(golden_case *c, const char *name, const rq_tensor *got, const rq_tensor *want, double rel,
                          double least)
{
    const int64_t n = rq_tensor_count(want);
    if (rq_tensor_count(got) != n) {
        golden_fail(c, "%s scales=%lld allowed=%lld", name, (long long)rq_tensor_count(got), (long long)n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const double g = rq_tensor_get(got, i), w = rq_tensor_get(want, i);
        if (!(fabs(g - w) <= rel * fmax(fabs(w), least))) {
            golden_fail(c, "%s scale_rel=%.3g allowed=%.3g at [%lld]: got %.9g, want %.9g", name, fabs(g - w) / fabs(w),
                        rel, (long long)i, g, w);
            return;
        }
    }
}

/* Codes, or bytes that hold `bits` wide ones. */
static void compare_codes(golden_case *c, const char *name, const rq_tensor *got, const rq_tensor *want, int bits,
                          double may_off)
{
    const int64_t n = rq_tensor_count(want);
    int64_t off = 0, worst = 0, all = 0;
    if (got->dtype != want->dtype || rq_tensor_count(got) != n) {
        golden_fail(c, "%s codes=%lld of %s allowed=%lld of %s", name, (long long)rq_tensor_count(got),
                    rq_dtype_name(got->dtype), (long long)n, rq_dtype_name(want->dtype));
        return;
    }
    const int wide = rq_dtype_bits(want->dtype);
    for (int64_t i = 0; i < n; i++)
        for (int b = 0; b < wide; b += bits, all++) {
            const int64_t mask = bits < wide ? (1 << bits) - 1 : -1,
                          d = llabs((rq_tensor_get_int(got, i) >> b & mask) - (rq_tensor_get_int(want, i) >> b & mask));
            off += d != 0;
            worst = d > worst ? d : worst;
        }
    if (worst > 1 || !((double)off <= may_off * (double)all))
        golden_fail(c, "%s weight_codes=%lld off, most by %lld, allowed=%.4f of %lld by 1", name, (long long)off,
                    (long long)worst, may_off, (long long)all);
}

typedef struct limits {
    double scale_rel, may_off;
    int bits;
} limits;

static const rq_tensor *constant(const rq_graph *g, const char *name)
{
    const rq_id v = rq_graph_find(g, name);
    return v >= 0 && g->values[v].kind == RQ_VALUE_CONST ? &g->values[v].constant : NULL;
}

/* Where the peer's name ends in `from`, ours ends in `to`. */
static bool renamed(char *ours, size_t n, const char *theirs, const char *from, const char *to)
{
    const char *tail = strstr(theirs, from);
    if (!tail || tail[strlen(from)])
        return false;
    snprintf(ours, n, "%.*s%s", (int)(tail - theirs), theirs, to);
    return true;
}

/* The constant of ours that stands for the peer's constant `name`; NULL: it is none of the quantizer's. */
static bool name_of_ours(char *ours, size_t n, const char *name)
{
    static const struct {
        const char *from, *to;
    } names[] = {
        { "_quantized", "_quantized" },
        { "_zero_point", "_zero_point" },
        { "_Q4", "_Q4" },
        { "_Q8", "_Q8" },
        { "_Q4G32", "_Q4" },
        { "_scales", "_scales" },
        { "_scale", "_scales" },
        { "_zero_points", "_zero_points" },
        { "_zp", "_zero_points" },
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (renamed(ours, n, name, names[i].from, names[i].to))
            return true;
    return false;
}

/* Ours, as annotations: W stands for W_DQ_Q4, W_DQ_scales, W_DQ_zero_points. False: not of this kind. */
static bool compare_annotated(golden_case *c, const rq_graph *ours, const char *name, const rq_tensor *want,
                              const limits *l)
{
    char base[512];
    const bool codes = renamed(base, sizeof base, name, "_DQ_Q4", ""),
               scales = !codes && renamed(base, sizeof base, name, "_DQ_scales", ""),
               zeros = !codes && !scales && renamed(base, sizeof base, name, "_DQ_zero_points", "");
    if (!codes && !scales && !zeros)
        return false;
    const rq_id v = rq_graph_find(ours, base);
    const rq_qparams *q = v >= 0 ? rq_graph_qparams(ours, v) : NULL;
    if (!q) {
        golden_fail(c, "%s annotations=0 allowed=1: the value is not quantized", base);
        return true;
    }
    if (codes) {
        compare_codes(c, name, &ours->values[v].constant, want, rq_dtype_bits(want->dtype), l->may_off);
        return true;
    }
    const rq_shape shape = rq_shape_of(1, &q->n);
    if (scales) {
        const rq_tensor got = rq_tensor_view(RQ_DTYPE_F32, &shape, q->scale);
        compare_reals(c, name, &got, want, l->scale_rel, 0);
        return true;
    }
    for (int64_t i = 0; i < q->n && i < rq_tensor_count(want); i++)
        if (q->zero_point[i] != rq_tensor_get_int(want, i)) {
            golden_fail(c, "%s zero_point=%d allowed=%lld at [%lld]", name, (int)q->zero_point[i],
                        (long long)rq_tensor_get_int(want, i), (long long)i);
            return true;
        }
    return true;
}

/* Every constant that the peer's quantizer made: how many there were. */
static int compare_all(golden_case *c, const rq_graph *ours, const rq_graph *theirs, const rq_graph *source,
                       const limits *l)
{
    int n = 0;
    for (rq_id v = 0; v < theirs->n_values; v++) {
        const rq_value *t = &theirs->values[v];
        char name[512];
        if (t->kind != RQ_VALUE_CONST || rq_graph_find(source, t->name) != RQ_NONE)
            continue;
        if (compare_annotated(c, ours, t->name, &t->constant, l)) {
            n++;
            continue;
        }
        if (!name_of_ours(name, sizeof name, t->name))
            continue;
        n++;
        const rq_tensor *got = constant(ours, name);
        if (!got)
            got = constant(ours, t->name);
        if (!got)
            golden_fail(c, "%s constants=0 allowed=1: we have no %s", t->name, name);
        else if (t->constant.dtype == RQ_DTYPE_F32)
            compare_reals(c, t->name, got, &t->constant, l->scale_rel, strstr(t->name, "_zero") ? 1 : 0);
        else
            compare_codes(c, t->name, got, &t->constant, l->bits, strstr(t->name, "_z") ? 0 : l->may_off);
    }
    return n;
}

static void check_outputs(golden_case *c, const rq_graph *ours)
{
    golden_feeds feeds = { 0 };
    if (golden_feeds_load(c, &feeds, ours, json_object_get(c->json, "inputs")))
        golden_check_run(c, ours, &(rq_session_cfg) { .threads = 1 }, &feeds, json_object_get(c->json, "outputs"), NULL,
                         json_object_get(c->json, "tolerance"), " (ours)");
    golden_feeds_release(&feeds);
}

/* What the peer's tool was told to leave alone (it cannot pack an odd number of blocks, docs/onnx-facts.md 2.10) is no part of params:
 * constants of products that are in its file as they were. A recipe that leaves them in float; *recipe NULL: none. */
static bool left_alone(golden_case *c, const rq_graph *source, const rq_graph *theirs, rq_recipe **recipe)
{
    const char *tmp = getenv("TMPDIR");
    char path[4096];
    rq_err err = { 0 };
    int n = 0;
    snprintf(path, sizeof path, "%s/golden-%ld.yaml", tmp ? tmp : "/tmp", (long)getpid());
    FILE *f = fopen(path, "w");
    if (!f)
        return true;
    fputs("rules:\n", f);
    for (rq_id i = 0; i < source->n_nodes; i++) {
        const rq_node *node = &source->nodes[i];
        const rq_id w = node->op && !strcmp(node->op, "MatMul") ? node->in[1] : RQ_NONE;
        if (w == RQ_NONE || source->values[w].kind != RQ_VALUE_CONST || !constant(theirs, source->values[w].name))
            continue;
        fprintf(f, "  - match: {tensor: \"%s\"}\n    set: {float: true}\n", source->values[w].name);
        n++;
    }
    fclose(f);
    const bool good = !n || !rq_recipe_load(recipe, path, &err);
    if (!good)
        golden_fail(c, "recipe: %s", err.text);
    unlink(path);
    return good;
}

golden_verdict golden_check_weights(golden_case *c)
{
    const json_t *params = json_object_get(c->json, "params"), *tol = json_object_get(c->json, "tolerance");
    rq_ptq_cfg cfg = is_text(params, "api", "quantize_dynamic") ? dynamic_cfg(params) : weight_only_cfg(params);
    char path[4096];
    rq_err err = { 0 };
    rq_graph *ours = NULL, *theirs = NULL, *source = NULL;
    rq_recipe *recipe = NULL;
    const limits l = { .scale_rel = json_number_value(json_object_get(tol, "scale_rel")),
                       .may_off = json_number_value(json_object_get(tol, "weight_codes_max_fraction_off_by_one")),
                       .bits = rq_dtype_bits(cfg.settings.weights) };
    if (rq_load(&source, golden_path(path, sizeof path, c, golden_str(c->json, "source")), &err) ||
        rq_load(&theirs, golden_path(path, sizeof path, c, golden_str(c->json, "quantized")), &err))
        golden_fail(c, "load: %s", err.text);
    else if (cfg.mode == RQ_MODE_DYNAMIC || left_alone(c, source, theirs, &recipe)) {
        cfg.recipe = recipe;
        if (rq_graph_copy(&ours, source) || rq_ptq(ours, NULL, &cfg, NULL, &err)) {
            golden_fail(c, "quantize: %s", err.text);
            goto done;
        }
        if (!compare_all(c, ours, theirs, source, &l))
            golden_fail(c, "constants=0 allowed=1: there is nothing of the peer's quantizer to compare");
        check_outputs(c, ours);
    }
done:
    rq_recipe_destroy(recipe);
    rq_graph_destroy(ours);
    rq_graph_destroy(theirs);
    rq_graph_destroy(source);
    return c->failed ? GOLDEN_FAIL : GOLDEN_PASS;
}
