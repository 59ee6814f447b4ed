/* linear_quantizer_final.c — the state of the peer's finalized model beside the graph that finalize gave: scale and zero point of every place,
 * rounded weights, biases with batch norm folded in, and what Core ML's metadata says of weights. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "linear_quantizer.h"

enum { MAX_NAME = 200 };

/* Inputs 1 and 2 of the product that the module is. */
typedef struct layer {
    const char *weight, *bias;
} layer;

static layer find_layer(const rq_graph *g, const char *module, size_t n)
{
    static const char *const products[] = { "Conv", "ConvTranspose", "Gemm" };
    char name[MAX_NAME];
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        snprintf(name, sizeof name, "/%.*s/%s", (int)n, module, products[i]);
        const int id = rq_edit_find_node(g, name);
        if (id >= 0)
            return (layer) { rq_edit_node_in(g, id, 1), rq_edit_node_in(g, id, 2) };
    }
    return (layer) { NULL, NULL };
}

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

/* A constant as reals; *step its largest scale, 0 for floats. */
static bool reals_of(golden_case *c, const rq_graph *g, const char *name, rq_tensor *out, double *step)
{
    rq_value_info info;
    rq_tensor t;
    rq_err err = { 0 };
    *step = 0;
    if (!name || rq_edit_value(g, name, &info, &err) || rq_edit_constant(g, name, &t, &err)) {
        golden_fail(c, "constant %s: %s", name ? name : "(none)", err.text);
        return false;
    }
    bool ok = !rq_tensor_create(out, RQ_DTYPE_F32, &t.shape, false);
    const rq_qparams *q = info.quant;
    const int64_t inner = q && q->axis >= 0 ? rq_shape_span(&t.shape, q->axis + 1, t.shape.rank) : 1;
    for (int64_t i = 0, n = rq_tensor_count(&t); ok && i < n; i++) {
        const int64_t at = q && q->n > 1 ? i / inner % q->n : 0;
        const double v = rq_tensor_get(&t, i);
        rq_tensor_set(out, i, q ? (v - q->zero_point[at]) * (double)q->scale[at] : v);
        if (q && (double)q->scale[at] > *step)
            *step = (double)q->scale[at];
    }
    rq_tensor_release(&t);
    return ok;
}

static double tol_number(const golden_case *c, const char *of, const char *field, const char *key)
{
    const json_t *t = golden_tol(c, of);
    return json_number_value(json_object_get(field ? json_object_get(t, field) : t, key));
}

/* Numbers within the tolerance that the set has for trained parameters; a rounded weight may have gone to the next code where that tolerance
 * decides which is nearer: as many as outputs may miss. */
static void check_numbers(golden_case *c, const rq_graph *g, const char *what, const char *name)
{
    rq_tensor got, want;
    double step;
    golden_mark(c, what);
    if (!reals_of(c, g, name, &got, &step))
        return;
    if (!golden_want(c, &want, what)) {
        rq_tensor_release(&got);
        return;
    }
    const double abs = tol_number(c, "final/x", NULL, "abs"), rel = tol_number(c, "final/x", NULL, "rel");
    const int64_t n = rq_tensor_count(&want);
    int64_t off = 0, far = 0;
    if (rq_tensor_count(&got) != n)
        golden_fail(c, "%s: %lld numbers, want %lld", what, (long long)rq_tensor_count(&got), (long long)n);
    for (int64_t i = 0; i < n && n == rq_tensor_count(&got); i++) {
        const double w = rq_tensor_get(&want, i), d = fabs(rq_tensor_get(&got, i) - w);
        const bool near = d <= abs || d <= rel * fabs(w);
        off += !near;
        far += !(near || d <= abs + step * 1.01);
    }
    if (far || (double)off > tol_number(c, "y0", NULL, "mismatch") * (double)n + (step > 0))
        golden_fail(c, "%s: %lld of %lld are off, %lld by more than a code", what, (long long)off, (long long)n,
                    (long long)far);
    rq_tensor_release(&got);
    rq_tensor_release(&want);
}

/* Scales or zero points under the tolerance of a fake-quantizer's. */
static void check_params(golden_case *c, const char *what, const rq_qparams *q, bool zero)
{
    const char *fq = "fq/x/scale_zp_min_max", *field = zero ? "zero_point" : "scale";
    rq_tensor want;
    golden_mark(c, what);
    if (!golden_want(c, &want, what))
        return;
    const int64_t n = rq_tensor_count(&want);
    const double abs = tol_number(c, fq, field, "abs"), rel = tol_number(c, fq, field, "rel");
    if (!q || q->n != n)
        golden_fail(c, "%s: %lld, want %lld", what, q ? (long long)q->n : 0, (long long)n);
    for (int64_t i = 0; q && q->n == n && i < n; i++) {
        const double g = zero ? q->zero_point[i] : (double)q->scale[i], w = rq_tensor_get(&want, i);
        if (!(fabs(g - w) <= abs || fabs(g - w) <= rel * fabs(w))) {
            golden_fail(c, "%s: [%lld]: got %.9g, want %.9g", what, (long long)i, g, w);
            break;
        }
    }
    rq_tensor_release(&want);
}

static void check_int(golden_case *c, const char *what, int64_t got)
{
    rq_tensor want;
    golden_mark(c, what);
    if (!golden_want(c, &want, what))
        return;
    if (rq_tensor_count(&want) != 1 || rq_tensor_get_int(&want, 0) != got)
        golden_fail(c, "%s: got %lld, want %lld", what, (long long)got, (long long)rq_tensor_get_int(&want, 0));
    rq_tensor_release(&want);
}

static const rq_qparams *params_of(const rq_graph *g, const char *name)
{
    rq_value_info info;
    return name && !rq_edit_value(g, name, &info, NULL) ? info.quant : NULL;
}

/* "<module>.weight" and what belongs to it. */
static void check_layer(golden_case *c, const rq_graph *g, const char *what, const char *plain)
{
    static const char *const ends[] = { ".weight", ".bias", ".weight_scale", ".weight_zero_point", ".weight_axis" };
    const char *meta = strstr(plain, "._COREML_/weight/");
    size_t n = meta ? (size_t)(meta - plain) : 0;
    for (size_t i = 0; !n && i < sizeof ends / sizeof ends[0]; i++)
        if (ends_with(plain, ends[i]))
            n = strlen(plain) - strlen(ends[i]);
    const layer l = find_layer(g, plain, n);
    const rq_qparams *q = params_of(g, l.weight);
    const char *key = plain + n + (meta ? strlen("._COREML_/weight/") : 1);
    if (!strcmp(key, "weight") || !strcmp(key, "bias"))
        check_numbers(c, g, what, key[0] == 'w' ? l.weight : l.bias);
    else if (!strcmp(key, "weight_scale") || !strcmp(key, "quantization_scale"))
        check_params(c, what, q, false);
    else if (!strcmp(key, "weight_zero_point") || !strcmp(key, "zero_point"))
        check_params(c, what, q, true);
    else if (!strcmp(key, "weight_axis")) /* the peer says 0 for one scale */
        check_int(c, what, q && q->axis != RQ_PER_TENSOR ? q->axis : 0);
    else if (!strcmp(key, "quantization_n_bits"))
        check_int(c, what, q ? rq_dtype_bits(q->dtype) : 0);
    else if (!strcmp(key, "compression_type")) /* 3: quantization */
        check_int(c, what, q ? 3 : 0);
    else
        golden_fail(c, "%s: nothing here knows what it is", what);
}

void golden_check_finalized(golden_case *c, const rq_graph *g, const char *const *places)
{
    const char *what;
    json_t *name;
    int n_scale = 0, n_zero = 0;
    char plain[MAX_NAME];
    json_object_foreach(json_object_get(c->json, "outputs"), what, name)
    {
        if (strncmp(what, "finalized/", 10))
            continue;
        const char *key = what + 10;
        golden_plain_name(key, plain, sizeof plain);
        if (!strcmp(key, "_COREML_/metadata_version"))
            golden_field_skipped(c, what, NULL, "belongs to the file that Core ML Tools writes");
        else if (strstr(key, "_scale_") && !strchr(key, '.')) /* of activations, in the order of their numbers */
            check_params(c, what, params_of(g, places[n_scale++]), false);
        else if (strstr(key, "_zero_point_") && !strchr(key, '.'))
            check_params(c, what, params_of(g, places[n_zero++]), true);
        else
            check_layer(c, g, what, plain);
    }
}
