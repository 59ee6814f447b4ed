/* tests/coreml/test_activations.c — linear_quantize_activations against coremltools: of 18 networks every operation of the result, its
 * name, its inputs and its constants, with the ranges that coremltools was given (tests/golden/coreml_activations); scales and zero
 * points of ranges (numbers of the specification); and ranges as they are measured here. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coreml/activations.h"
#include "tensor/convert.h"

#define GOLDEN "tests/golden/coreml_activations/"

/* ---- as coremltools ---- */

static void set_config(rq_coreml_config *c, const json_t *from)
{
    static const char *const where[] = { "global", "types", "names" };
    rq_err err = { 0 };
    for (int i = 0; i < 3; i++) {
        json_t *at = json_object_get(from, where[i]), *one;
        json_t *list = i ? json_incref(at) : json_pack("{s:O?}", "", at);
        const char *key;
        json_object_foreach(list, key, one)
        {
            rq_coreml_op_config op = rq_coreml_op_config_defaults(RQ_COREML_LINEAR_QUANTIZER);
            const bool none = !json_is_object(one);
            if (!none) {
                op.symmetric = !strcmp(json_string_value(json_object_get(one, "mode")), "linear_symmetric");
                op.is_signed = !strcmp(json_string_value(json_object_get(one, "dtype")), "int8");
            }
            const rq_status st = i == 0   ? rq_coreml_config_set_global(c, none ? NULL : &op, &err)
                                 : i == 1 ? rq_coreml_config_set_op_type(c, key, none ? NULL : &op, &err)
                                          : rq_coreml_config_set_op_name(c, key, none ? NULL : &op, &err);
            if (st)
                fail_msg("%s", err.text);
        }
        json_decref(list);
    }
}

static void set_ranges(rq_coreml_ranges *r, json_t *stats)
{
    rq_coreml_seen *s = calloc(json_object_size(stats) + 1, sizeof *s);
    const char *name;
    json_t *one;
    int n = 0;
    rq_err err = { 0 };
    json_object_foreach(stats, name, one)
    {
        s[n++] = (rq_coreml_seen) { .name = name,
                                    .lo = (float)json_number_value(json_object_get(one, "rmin")),
                                    .hi = (float)json_number_value(json_object_get(one, "rmax")) };
    }
    if (rq_coreml_ranges_copy(r, s, n, &err))
        fail_msg("%s", err.text);
    free(s);
}

static void print_const(FILE *f, const rq_mil_value *v)
{
    if (v->kind != RQ_MIL_IMMEDIATE)
        return;
    fputs(" val=", f);
    for (uint64_t i = 0; i < v->n; i++)
        switch (v->type->dtype->store) {
        case RQ_MIL_STORE_STRINGS:
            fprintf(f, "%s,", ((const char *const *)v->data)[i]);
            break;
        case RQ_MIL_STORE_FLOATS:
            fprintf(f, "%.9g,", (double)((const float *)v->data)[i]);
            break;
        case RQ_MIL_STORE_INTS:
            fprintf(f, "%d,", (int)((const int32_t *)v->data)[i]);
            break;
        case RQ_MIL_STORE_BOOLS:
            fprintf(f, "%d,", ((const uint8_t *)v->data)[i]);
            break;
        default:
            break;
        }
    for (uint64_t i = 0; v->type->dtype->store == RQ_MIL_STORE_BYTES && i < v->bytes; i++)
        fprintf(f, "%02x", ((const uint8_t *)v->data)[i]);
}

static int by_param(const void *a, const void *b)
{
    return strcmp(((const rq_mil_arg *)a)->param, ((const rq_mil_arg *)b)->param);
}

/* One line per operation, as of_json has it. */
static void of_op(FILE *f, const rq_mil_op *op)
{
    rq_mil_arg args[32];
    assert_true(op->n_args <= 32);
    for (int i = 0; i < op->n_args; i++)
        args[i] = op->args[i];
    qsort(args, (size_t)op->n_args, sizeof *args, by_param);
    fprintf(f, "%s %s ->", op->type, rq_mil_op_name(op));
    for (int i = 0; i < op->n_outputs; i++)
        fprintf(f, " %s:%d", op->outputs[i].name, op->outputs[i].type->dtype->code);
    for (int i = 0; i < op->n_args; i++) {
        fprintf(f, " %s=", args[i].param);
        for (int k = 0; k < args[i].n; k++)
            fprintf(f, "%s,", args[i].binding[k].name ? args[i].binding[k].name : "");
    }
    if (!strcmp(op->type, "const"))
        print_const(f, rq_mil_op_attr(op, "val"));
    fputc('\n', f);
}

static void of_json(FILE *f, const json_t *op)
{
    size_t i, k;
    json_t *one, *v;
    const char *param;
    fprintf(f, "%s %s ->", json_string_value(json_object_get(op, "type")),
            json_string_value(json_object_get(op, "name")));
    json_array_foreach(json_object_get(op, "outputs"), i, one) fprintf(
        f, " %s:%d", json_string_value(one), (int)json_integer_value(json_array_get(json_object_get(op, "types"), i)));
    json_object_foreach(json_object_get(op, "inputs"), param, one)
    {
        fprintf(f, " %s=", param);
        json_array_foreach(one, k, v) fprintf(f, "%s,", json_string_value(v));
    }
    const json_t *val = json_object_get(op, "val");
    if (val)
        fputs(" val=", f);
    if (json_is_string(val))
        fputs(json_string_value(val), f);
    json_array_foreach(val, i, v)
    {
        if (json_is_string(v))
            fprintf(f, "%s,", json_string_value(v));
        else if (json_is_real(v))
            fprintf(f, "%.9g,", json_real_value(v));
        else
            fprintf(f, "%d,", json_is_true(v) ? 1 : (int)json_integer_value(v));
    }
    fputc('\n', f);
}

static void compare(const json_t *c, const rq_coreml *m)
{
    char *got = NULL, *want = NULL;
    size_t n_got, n_want, i;
    json_t *one;
    const json_t *expected = json_object_get(c, "expected");
    const rq_mil_function *fn = m->program.functions[0];
    FILE *f = open_memstream(&got, &n_got);
    fprintf(f, "%d %s\n", (int)m->spec, fn->opset);
    for (int k = 0; k < fn->block->n_ops; k++)
        of_op(f, fn->block->ops[k]);
    for (int k = 0; k < fn->block->n_outputs; k++)
        fprintf(f, "%s\n", fn->block->outputs[k]);
    fclose(f);
    f = open_memstream(&want, &n_want);
    fprintf(f, "%d %s\n", (int)json_integer_value(json_object_get(expected, "spec")),
            json_string_value(json_object_get(expected, "opset")));
    json_array_foreach(json_object_get(expected, "operations"), i, one) of_json(f, one);
    json_array_foreach(json_object_get(expected, "outputs"), i, one) fprintf(f, "%s\n", json_string_value(one));
    fclose(f);
    if (strcmp(got, want) != 0) {
        char *config = json_dumps(json_object_get(c, "config"), 0);
        size_t at = 0, line = 0;
        for (; got[at] == want[at]; at++)
            line = got[at] == '\n' ? at + 1 : line;
        fail_msg("%s %s\ngot\n%.1500s\nexpected\n%.1500s", json_string_value(json_object_get(c, "package")), config,
                 got + line, want + line);
    }
    free(got);
    free(want);
}

static void programs_are_those_of_coremltools(void **state)
{
    (void)state;
    json_t *cases = json_load_file(GOLDEN "programs.json", 0, NULL), *c;
    size_t i;
    rq_err err = { 0 };
    assert_non_null(cases);
    json_array_foreach(cases, i, c)
    {
        char path[512];
        rq_coreml *m = NULL;
        rq_coreml_config *config = NULL;
        rq_coreml_ranges ranges;
        snprintf(path, sizeof path, GOLDEN "%s", json_string_value(json_object_get(c, "package")));
        if (rq_coreml_open(&m, path, &err) || rq_coreml_config_create(&config, &err))
            fail_msg("%s", err.text);
        set_config(config, json_object_get(c, "config"));
        set_ranges(&ranges, json_object_get(c, "stats"));
        if (rq_coreml_insert_pairs(m, config, &ranges, NULL, &err))
            fail_msg("%s", err.text);
        if (rq_mil_check(&m->program, &err))
            fail_msg("%s", err.text);
        compare(c, m);
        rq_coreml_ranges_release(&ranges);
        rq_coreml_config_destroy(config);
        rq_coreml_close(m);
    }
    assert_true(i > 100);
    json_decref(cases);
}

/* ---- scales and zero points ---- */

typedef struct code_case {
    float lo, hi;
    bool symmetric, is_signed;
    uint16_t scale;
    int zero;
    bool has_zero;
} code_case;

/* Bits of fp16 scales and zero points that coremltools gives these ranges. */
static void codes_are_chosen_in_fp16(void **state)
{
    (void)state;
    static const code_case cases[] = {
        { 0, 1, true, true, 0x2008, 0, false },          { 0, 1, true, false, 0x2008, 127, true },
        { 0, 1, false, true, 0x1c04, -128, true },       { 0, 1, false, false, 0x1c04, 0, true },
        { -1, 3, true, true, 0x260c, 0, false },         { -1, 3, true, false, 0x260c, 127, true },
        { -1, 3, false, true, 0x2404, -64, true },       { -1, 3, false, false, 0x2404, 64, true },
        { -2.5f, 0.75f, true, true, 0x250a, 0, false },  { -2.5f, 0.75f, true, false, 0x250a, 127, true },
        { -2.5f, 0.75f, false, true, 0x2287, 68, true }, { -2.5f, 0.75f, false, false, 0x2287, 196, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const code_case *c = &cases[i];
        const rq_coreml_code got = rq_coreml_code_of(c->lo, c->hi, c->symmetric, c->is_signed, true);
        assert_int_equal(rq_convert_f32_to_f16(got.scale), c->scale);
        assert_int_equal(got.zero_point, c->zero);
        assert_int_equal(got.has_zero_point, c->has_zero);
    }
}

/* Where fp16 overflows on the way coremltools gives infinite scales and wrong zero points; here what the formula means. */
static void wide_ranges_have_their_zero_point(void **state)
{
    (void)state;
    rq_coreml_code c = rq_coreml_code_of(-600, 600, false, true, true);
    assert_int_equal(c.zero_point, 0); /* (-128 * 600 + 127 * 600) / 1200 = -0.5, to even */
    c = rq_coreml_code_of(-600, 600, false, false, true);
    assert_int_equal(c.zero_point, 128); /* 127.5 */
    c = rq_coreml_code_of(-300, 900, false, true, true);
    assert_int_equal(c.zero_point, -64); /* (-128 * 900 + 127 * 300) / 1200 = -64.25 */
    c = rq_coreml_code_of(-60000, 60000, true, true, true);
    assert_float_equal(c.scale, 120000.0 / 254, 0.3);
    c = rq_coreml_code_of(-1e6f, 3e6f, false, false, false);
    assert_float_equal(c.scale, 4e6 / 255, 4e6 / 255 / 1000);
    assert_int_equal(c.zero_point, 64);
    for (int i = 0; i < 4; i++) {
        c = rq_coreml_code_of(0, 0, i & 1, i & 2, true);
        assert_true(c.scale == 1);
    }
}

/* ---- ranges ---- */

/* [0,5,10], [2,3,5], [-1,7,15]: what the specification of the interface says comes out after each. */
static void ranges_grow_with_samples(void **state)
{
    (void)state;
    static const float samples[3][3] = { { 0, 5, 10 }, { 2, 3, 5 }, { -1, 7, 15 } };
    static const float want[3][2] = { { 0, 10 }, { 0, 10 }, { -1, 15 } };
    rq_coreml_seen s = { .lo = INFINITY, .hi = -INFINITY };
    for (int i = 0; i < 3; i++) {
        rq_coreml_seen_fold(&s, samples[i], 3);
        assert_true(s.lo == want[i][0] && s.hi == want[i][1]);
    }
}

typedef struct calibration {
    rq_coreml *m;
    rq_graph *g;
    rq_dataset *d;
} calibration;

static calibration open_calibration(const char *package, const char *data)
{
    calibration c = { 0 };
    rq_err err = { 0 };
    if (rq_coreml_open(&c.m, package, &err) || rq_load(&c.g, package, &err) ||
        rq_dataset_open(&c.d, data, c.g, NULL, &err))
        fail_msg("%s", err.text);
    return c;
}

static void close_calibration(calibration *c)
{
    rq_dataset_close(c->d);
    rq_graph_destroy(c->g);
    rq_coreml_close(c->m);
}

/* Those that torch finds, all of them, and no output of the model among them. */
static void ranges_are_those_of_torch(void **state)
{
    (void)state;
    calibration c = open_calibration(GOLDEN "branches_ios17_f32.mlpackage", GOLDEN "calibration.npz");
    json_t *json = json_load_file(GOLDEN "calibration.json", 0, NULL), *ranges = json_object_get(json, "ranges"), *one;
    rq_coreml_ranges got;
    rq_err err = { 0 };
    const char *name;
    size_t i;
    if (rq_coreml_ranges_measure(&got, c.m, c.d, NULL, 0, &err))
        fail_msg("%s", err.text);
    assert_int_equal(got.n, json_object_size(ranges));
    json_object_foreach(ranges, name, one)
    {
        const rq_coreml_seen *s = rq_coreml_ranges_find(&got, name);
        assert_non_null(s);
        assert_float_equal(s->lo, json_real_value(json_array_get(one, 0)), 1e-5);
        assert_float_equal(s->hi, json_real_value(json_array_get(one, 1)), 1e-5);
    }
    json_array_foreach(json_object_get(json, "outputs"), i, one)
        assert_null(rq_coreml_ranges_find(&got, json_string_value(one)));
    rq_coreml_ranges_release(&got);
    json_decref(json);
    close_calibration(&c);
}

/* logical_and of two comparisons of linear layers: calibrated, and its linears get pairs. */
static void bools_are_passed_over(void **state)
{
    (void)state;
    calibration c = open_calibration(GOLDEN "bools_ios17_f16.mlpackage", GOLDEN "bools.npz");
    rq_coreml_config *config;
    rq_coreml_op_config op = rq_coreml_op_config_defaults(RQ_COREML_LINEAR_QUANTIZER);
    rq_err err = { 0 };
    int n = 0;
    if (rq_coreml_config_create(&config, &err) || rq_coreml_config_set_global(config, &op, &err) ||
        rq_coreml_linear_quantize_activations(c.m, config, c.d, NULL, 0, NULL, &err))
        fail_msg("%s", err.text);
    const rq_mil_block *b = c.m->program.functions[0]->block;
    for (int i = 0; i < b->n_ops; i++)
        n += !strcmp(b->ops[i]->type, "quantize");
    assert_true(n >= 1);
    rq_coreml_config_destroy(config);
    close_calibration(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_are_those_of_coremltools), cmocka_unit_test(codes_are_chosen_in_fp16),
        cmocka_unit_test(ranges_grow_with_samples),          cmocka_unit_test(bools_are_passed_over),
        cmocka_unit_test(ranges_are_those_of_torch),         cmocka_unit_test(wide_ranges_have_their_zero_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
