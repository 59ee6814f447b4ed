/* tests/coreml/test_activations_bad.c — quantizing activations where something is not as it should be: ranges that are not there, numbers that are none,
 * loops, names that are taken, programs that are quantized already, samples that do not fit; and memory that ends at any allocation. */
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
#include "coreml/weights.h"
#include "ok.h"
#include "requant/dataset.h"

#define GOLDEN "tests/golden/coreml_activations/"
#define WEIGHTS "tests/golden/coreml/weights/"
#define W8A8 "tests/golden/coreml/w8a8/"

static rq_coreml *open_package(const char *path)
{
    rq_coreml *m = NULL;
    OK(rq_coreml_open(&m, path, &err));
    return m;
}

static rq_coreml_config *config_of(int nbits)
{
    rq_coreml_config *c = NULL;
    rq_coreml_op_config op = rq_coreml_op_config_defaults(RQ_COREML_LINEAR_QUANTIZER);
    op.nbits = nbits;
    op.weight_threshold = 0;
    OK(rq_coreml_config_create(&c, &err));
    OK(rq_coreml_config_set_global(c, &op, &err));
    return c;
}

/* Every float value of the first function from -1 to 1, but those called `not_this`. */
static rq_coreml_ranges all_ranges(const rq_coreml *m, const char *not_this)
{
    const rq_mil_function *f = m->program.functions[0];
    rq_coreml_seen *s = calloc((size_t)f->n_inputs + 4 * (size_t)f->block->n_ops + 1, sizeof *s);
    rq_coreml_ranges r;
    int n = 0;
    for (int i = 0; i < f->n_inputs; i++)
        s[n++] = (rq_coreml_seen) { f->inputs[i].name, -1, 1 };
    for (int i = 0; i < f->block->n_ops; i++)
        for (int k = 0; k < f->block->ops[i]->n_outputs && k < 4; k++)
            if (strcmp(f->block->ops[i]->outputs[k].name, not_this) != 0)
                s[n++] = (rq_coreml_seen) { f->block->ops[i]->outputs[k].name, -1, 1 };
    OK(rq_coreml_ranges_copy(&r, s, n, &err));
    free(s);
    return r;
}

static int count_ops(const rq_mil_block *b, const char *type)
{
    int n = 0;
    for (int i = 0; i < b->n_ops; i++) {
        n += !strcmp(b->ops[i]->type, type);
        for (int k = 0; k < b->ops[i]->n_blocks; k++)
            n += count_ops(b->ops[i]->blocks[k], type);
    }
    return n;
}

static int quantize_all(rq_coreml *m, const char *not_this, rq_coreml_pairs *made)
{
    rq_coreml_config *c = config_of(8);
    rq_coreml_ranges r = all_ranges(m, not_this);
    OK(rq_coreml_insert_pairs(m, c, &r, made, &err));
    OK(rq_mil_check(&m->program, &err));
    rq_coreml_ranges_release(&r);
    rq_coreml_config_destroy(c);
    return count_ops(m->program.functions[0]->block, "quantize");
}

static void a_value_without_a_range_stays_float(void **state)
{
    (void)state;
    rq_coreml_pairs made = { 0 };
    rq_coreml *m = open_package(GOLDEN "chain_relu_ios17_f16.mlpackage");
    const int all = quantize_all(m, "", NULL);
    rq_coreml_close(m);
    m = open_package(GOLDEN "chain_relu_ios17_f16.mlpackage");
    const char *name = NULL;
    const rq_mil_block *b = m->program.functions[0]->block;
    for (int i = 0; i < b->n_ops && !name; i++)
        name = !strcmp(b->ops[i]->type, "relu") ? b->ops[i]->outputs[0].name : NULL;
    assert_non_null(name);
    assert_true(quantize_all(m, name, &made) < all);
    int skipped = 0;
    for (int i = 0; i < made.n; i++)
        skipped += made.at[i].why && !strcmp(made.at[i].tensor, name);
    assert_true(skipped > 0);
    rq_coreml_pairs_release(&made);
    rq_coreml_close(m);
}

/* Loops: what is in them stays, what is around them is quantized. */
static void loops_are_left_alone(void **state)
{
    (void)state;
    rq_coreml *m = open_package(WEIGHTS "gru_iOS17_fp32.mlpackage");
    const rq_mil_block *b = m->program.functions[0]->block;
    const int loops = count_ops(b, "while_loop"), linears = count_ops(b, "linear");
    const int pairs = quantize_all(m, "", NULL);
    assert_true(loops > 0);
    b = m->program.functions[0]->block;
    assert_int_equal(count_ops(b, "while_loop"), loops);
    assert_int_equal(count_ops(b, "linear"), linears);
    for (int i = 0; i < b->n_ops; i++)
        for (int k = 0; k < b->ops[i]->n_blocks; k++)
            assert_int_equal(count_ops(b->ops[i]->blocks[k], "quantize"), 0);
    (void)pairs;
    rq_coreml_close(m);
}

/* Twice: names that are taken are not given again, and what is quantized gets no second pair. */
static void quantizing_twice_changes_little(void **state)
{
    (void)state;
    static const char *const packages[] = { GOLDEN "residual_ios17_f16.mlpackage", GOLDEN "pools_ios17_f16.mlpackage",
                                            W8A8 "conv_affine_wqint8_aquint8_pc_iOS17_fp32.mlpackage" };
    for (size_t i = 0; i < sizeof packages / sizeof packages[0]; i++) {
        rq_coreml *m = open_package(packages[i]);
        const int once = quantize_all(m, "", NULL), twice = quantize_all(m, "", NULL);
        assert_true(once > 0 && twice >= once && twice <= once + once);
        rq_coreml_close(m);
    }
}

static void four_bits_are_refused(void **state)
{
    (void)state;
    rq_coreml *m = open_package(GOLDEN "conv_ios17_f16.mlpackage");
    rq_coreml_config *c = config_of(4);
    rq_coreml_ranges r = all_ranges(m, "");
    assert_int_equal(rq_coreml_insert_pairs(m, c, &r, NULL, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "8 bits"));
    rq_coreml_ranges_release(&r);
    rq_coreml_config_destroy(c);
    rq_coreml_close(m);
}

static void infinities_and_nan_do_not_count(void **state)
{
    (void)state;
    rq_coreml_seen s = { "x", INFINITY, -INFINITY };
    rq_coreml_seen_fold(&s, (const float[]) { NAN, -INFINITY, 2, INFINITY, -3 }, 5);
    assert_true(s.lo == -3 && s.hi == 2);
    for (int i = 0; i < 4; i++)
        for (int half = 0; half < 2; half++) {
            const rq_coreml_code c = rq_coreml_code_of(-3.4e38f, 3.4e38f, i & 1, i & 2, half);
            assert_true(isfinite(c.scale) && c.scale > 0);
            assert_true(c.zero_point >= -128 && c.zero_point <= 255);
        }
}

/* ---- the config ---- */

static rq_status quantize_by(const char *yaml, rq_coreml_report **report)
{
    rq_graph *g = NULL;
    rq_dataset *d = NULL;
    rq_coreml_config *c = NULL;
    float x[48] = { 0 };
    OK(rq_load(&g, GOLDEN "adds_ios17_f16.mlpackage", &err));
    const rq_shape shape = { 5, { 1, 1, 3, 4, 4 } };
    const rq_dataset_array both[2] = { { .name = "x0", .dtype = RQ_DTYPE_F32, .shape = shape, .data = x },
                                       { .name = "x1", .dtype = RQ_DTYPE_F32, .shape = shape, .data = x } };
    OK(rq_dataset_create(&d, both, 2, g, NULL, &err));
    rq_coreml *m = open_package(GOLDEN "adds_ios17_f16.mlpackage");
    OK(rq_coreml_config_parse(&c, yaml, strlen(yaml), &err));
    const rq_status s = rq_coreml_linear_quantize_activations(m, c, d, NULL, 0, report, &err);
    rq_coreml_config_destroy(c);
    rq_coreml_close(m);
    rq_dataset_close(d);
    rq_graph_destroy(g);
    return s;
}

/* As for weights: what matches nothing is an error, what says nothing is a note. */
static void settings_of_nothing_are_said(void **state)
{
    (void)state;
    rq_coreml_report *report = NULL;
    char text[4000];
    assert_int_equal(quantize_by("{config_type: OpLinearQuantizerConfig, op_type_configs: {ad: null}}", &report),
                     RQ_BAD_ARG);
    assert_non_null(
        strstr(err.text, "op_type_configs: the program has no operator of type 'ad'; the nearest is 'add'"));
    assert_null(report);
    assert_int_equal(
        quantize_by("{config_type: OpLinearQuantizerConfig, global_config: {}, op_name_configs: {nobody: null}}",
                    &report),
        RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "op_name_configs: the program has no operator or constant 'nobody'"));
    OK(quantize_by("{config_type: OpLinearQuantizerConfig, global_config: {}, "
                   "op_type_configs: {matmul: {}, relu: null, add: {}}}",
                   &report));
    assert_true(rq_coreml_report_done(report) > 0);
    assert_true(rq_coreml_report_text(report, true, text, sizeof text) > 0);
    assert_non_null(strstr(text, "note: the program has no operator of type matmul"));
    assert_non_null(strstr(text, "note: what the config says of 'relu' counts for its weights only"));
    assert_null(strstr(text, "'add' counts"));
    rq_coreml_report_destroy(report);
}

/* ---- samples ---- */

static void samples_that_do_not_fit_are_said(void **state)
{
    (void)state;
    rq_graph *g = NULL;
    rq_dataset *d = NULL;
    float x[2 * 48] = { 0 };
    OK(rq_load(&g, GOLDEN "adds_ios17_f16.mlpackage", &err));
    const rq_dataset_array one = { .name = "x0", .dtype = RQ_DTYPE_F32, .shape = { 5, { 2, 1, 3, 4, 4 } }, .data = x };
    assert_int_equal(rq_dataset_create(&d, &one, 1, g, NULL, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "x1"));
    rq_dataset_array both[2] = { one, one };
    both[1].name = "x1";
    x[50] = NAN;
    OK(rq_dataset_create(&d, both, 2, g, NULL, &err));
    rq_coreml *m = open_package(GOLDEN "adds_ios17_f16.mlpackage");
    rq_coreml_config *c = config_of(8);
    assert_int_equal(rq_coreml_linear_quantize_activations(m, c, d, NULL, 0, NULL, &err), RQ_BAD_DATA);
    const int64_t first = 0;
    assert_int_equal(rq_coreml_linear_quantize_activations(m, c, d, &first, 0, NULL, &err), RQ_BAD_DATA); /* none */
    rq_coreml_report *report = NULL;
    OK(rq_coreml_linear_quantize_activations(m, c, d, &first, 1, &report, &err));
    assert_true(rq_coreml_report_done(report) > 0);
    rq_coreml_report_destroy(report);
    assert_int_equal(rq_coreml_linear_quantize_activations(m, c, d, &first, 1, NULL, &err), RQ_BAD_ARG); /* once more */
    assert_non_null(strstr(err.text, "is quantized already"));
    rq_coreml_config_destroy(c);
    rq_coreml_close(m);
    rq_dataset_close(d);
    rq_graph_destroy(g);
}

/* ---- memory ---- */

static rq_status whole(rq_err *e)
{
    rq_coreml *m = NULL;
    rq_graph *g = NULL;
    rq_dataset *d = NULL;
    rq_coreml_config *c = NULL;
    rq_coreml_report *report = NULL;
    char *text = NULL;
    rq_coreml_op_config op = rq_coreml_op_config_defaults(RQ_COREML_LINEAR_QUANTIZER);
    static const float x[16] = { 1, -1, 0.5f, 2 };
    const rq_dataset_array a = { .name = "x0", .dtype = RQ_DTYPE_F32, .shape = { 3, { 1, 2, 8 } }, .data = x };
    op.weight_threshold = 0;
    rq_status st = rq_coreml_open(&m, GOLDEN "mlp_ios17_f32.mlpackage", e);
    if (!st)
        st = rq_load(&g, GOLDEN "mlp_ios17_f32.mlpackage", e);
    if (!st)
        st = rq_dataset_create(&d, &a, 1, g, NULL, e);
    if (!st)
        st = rq_coreml_config_create(&c, e);
    if (!st)
        st = rq_coreml_config_set_global(c, &op, e);
    if (!st)
        st = rq_coreml_linear_quantize_activations(m, c, d, NULL, 0, &report, e);
    if (!st && (rq_coreml_report_text(report, true, NULL, 0) < 0 || rq_coreml_report_json(report, NULL, 0) < 0))
        st = rq_fail(e, RQ_NO_MEMORY, "no memory for the report");
    free(text);
    rq_coreml_report_destroy(report);
    rq_coreml_config_destroy(c);
    rq_dataset_close(d);
    rq_graph_destroy(g);
    rq_coreml_close(m);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    OK(whole(&err)); /* what is made once and kept */
    rq_mem_fail_after(0, false);
    const size_t live = rq_mem_live();
    OK(whole(&err));
    assert_int_equal(rq_mem_live(), live);
    const size_t n = rq_mem_fail_after(0, false), step = n / 700 + 1;
    for (int all = 0; all < 2; all++)
        for (size_t i = 1; i <= n; i += step) {
            err = (rq_err) { 0 };
            rq_mem_fail_after(i, all);
            const rq_status st = whole(&err);
            rq_mem_fail_after(0, false);
            if (st && (st != RQ_NO_MEMORY || !err.text[0]))
                fail_msg("allocation %zu of %zu: %s (%s)", i, n, rq_status_text(st), err.text);
            if (rq_mem_live() != live)
                fail_msg("allocation %zu of %zu: %zd bytes are not given back", i, n, (ssize_t)(rq_mem_live() - live));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_without_a_range_stays_float), cmocka_unit_test(loops_are_left_alone),
        cmocka_unit_test(quantizing_twice_changes_little),     cmocka_unit_test(four_bits_are_refused),
        cmocka_unit_test(infinities_and_nan_do_not_count),     cmocka_unit_test(settings_of_nothing_are_said),
        cmocka_unit_test(samples_that_do_not_fit_are_said),    cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
