/* Scales and zero points that onnxruntime's quantize_static chose for 7 networks, from the ranges it had calibrated
 * (tests/golden/onnx/static_quant): ours from the same ranges must agree. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "quant/calibrate.h"

#define DIR "tests/golden/onnx/static_quant/"

static json_t *read_json(const char *name)
{
    char path[256];
    json_error_t e;
    snprintf(path, sizeof path, DIR "%s", name);
    json_t *j = json_load_file(path, 0, &e);
    if (!j)
        fail_msg("%s:%d: %s", path, e.line, e.text);
    return j;
}

static const char *text(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static bool dtype_of(const char *name, rq_dtype *d)
{
    static const struct {
        const char *name;
        rq_dtype d;
    } types[] = {
        { "UINT8", RQ_DTYPE_U8 }, { "INT8", RQ_DTYPE_S8 }, { "UINT16", RQ_DTYPE_U16 }, { "INT16", RQ_DTYPE_S16 }
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (!strcmp(name, types[i].name)) {
            *d = types[i].d;
            return true;
        }
    return false;
}

/* Options that change a range before it becomes parameters, or choose other parameters: not ours to match. */
static bool has_plain_options(const json_t *options)
{
    static const char *const other[] = { "CalibTensorRangeSymmetric", "ActivationRestrictedAsymmetric",
                                         "MinimumRealRange", "CalibMovingAverage", "CalibPercentile" };
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++)
        if (json_object_get(options, other[i]))
            return false;
    return true;
}

static void parameters_are_those_of_the_peer(void **state)
{
    json_t *cases = read_json("cases.json");
    size_t i, compared = 0;
    json_t *c;
    json_array_foreach(cases, i, c)
    {
        const json_t *params = json_object_get(c, "params"), *options = json_object_get(params, "extra_options");
        const char *method = text(params, "calibrate");
        if (strcmp(text(params, "api"), "quantize_static") != 0 || strcmp(text(params, "format"), "QDQ") != 0 ||
            !has_plain_options(options))
            continue;
        char name[128];
        snprintf(name, sizeof name, "%s_ranges.json", text(params, "net"));
        json_t *all = read_json(name), *qparams = read_json(text(c, "qparams")), *q;
        const json_t *ranges = json_object_get(all, !strcmp(method, "MinMax")    ? "minmax"
                                                    : !strcmp(method, "Entropy") ? "entropy"
                                                                                 : "percentile");
        const bool symmetric = json_is_true(json_object_get(options, "ActivationSymmetric"));
        const char *tensor;
        json_object_foreach(qparams, tensor, q)
        {
            const json_t *range = json_object_get(ranges, tensor), *scale = json_object_get(q, "scale");
            rq_dtype d;
            /* a Softmax has a fixed range; one before a Relu may have been given the Relu's */
            if (!range || !json_is_number(scale) || !dtype_of(text(q, "type"), &d) || strstr(tensor, "Softmax") ||
                strstr(tensor, "/Conv_output") || strstr(tensor, "/Gemm_output"))
                continue;
            const rq_range r = { json_number_value(json_array_get(range, 0)),
                                 json_number_value(json_array_get(range, 1)) };
            float s;
            int32_t z;
            rq_calibrate_qparams(r, d, symmetric, &s, &z);
            const double want = json_number_value(scale);
            if (!(fabs(s - want) <= 1e-6 * want) || z != json_integer_value(json_object_get(q, "zero_point")))
                fail_msg("%s %s: %.9g %d, expected %.9g %d", text(c, "id"), tensor, s, z, want,
                         (int)json_integer_value(json_object_get(q, "zero_point")));
            compared++;
        }
        json_decref(all);
        json_decref(qparams);
    }
    json_decref(cases);
    print_message("%zu tensors\n", compared);
    assert_true(compared > 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_those_of_the_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
