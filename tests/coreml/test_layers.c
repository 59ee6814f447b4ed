/* tests/coreml/test_layers.c — quantized packages beside what they were: one convolution (M1 of the acceptance list) that is run, decompressed and run again;
 * a classifier of coremltools. */
#include <math.h>

#include "coreml/programs.h"
#include "requant/coreml_optimize.h"
#include "requant/session.h"

enum { N_IN = 64 * 10 * 10, N_OUT = 32 * 9 * 9 };

/* M1: 64 to 32 channels, 2x2; half: in fp16 between casts, as coremltools converts it. */
static void make_m1(program *g, int32_t spec, bool half)
{
    static float w[32 * 64 * 4];
    rq_rng rng;
    rq_rng_seed(&rng, 11);
    for (int i = 0; i < 32 * 64 * 4; i++)
        w[i] = (rq_rng_f32(&rng) - 0.5f) / 8; /* as PyTorch begins: 1 / sqrt(256) at most */
    begin(g, spec, false, DIMS(1, 64, 10, 10));
    g->half = half;
    constant(g, "w", DIMS(32, 64, 2, 2), w);
    if (half) {
        rq_mil_op *cast = operation(g, "cast", "x_half", DIMS(1, 64, 10, 10), "x", "x", NULL);
        assert_true(rq_mil_op_bind_value(g->p, cast, "dtype", rq_mil_text(g->p, "fp16")));
    }
    rq_mil_op *conv =
        operation(g, "conv", half ? "y_half" : "y", DIMS(1, 32, 9, 9), "x", half ? "x_half" : "x", "weight", "w", NULL);
    assert_true(rq_mil_op_bind_value(g->p, conv, "pad_type", rq_mil_text(g->p, "valid")));
    g->half = false;
    if (half) {
        rq_mil_op *cast = operation(g, "cast", "y", DIMS(1, 32, 9, 9), "x", "y_half", NULL);
        assert_true(rq_mil_op_bind_value(g->p, cast, "dtype", rq_mil_text(g->p, "fp32")));
    }
    end(g, "y", DIMS(1, 32, 9, 9));
}

static void run(const rq_coreml *m, float y[N_OUT])
{
    static float x[N_IN];
    rq_graph *g;
    rq_session *s;
    rq_tensor out = { 0 };
    rq_rng rng;
    const rq_shape shape = rq_shape_of(4, (int64_t[]) { 1, 64, 10, 10 });
    rq_rng_seed(&rng, 12);
    for (int i = 0; i < N_IN; i++)
        x[i] = rq_rng_f32(&rng);
    const rq_tensor in = rq_tensor_view(RQ_DTYPE_F32, &shape, x);
    OK(rq_coreml_to_graph(&g, m, NULL, &err));
    OK(rq_session_create(&s, g, NULL, &err));
    OK(rq_session_run(s, &(rq_feed) { "x", in }, 1, &out, &err));
    assert_int_equal(rq_tensor_count(&out), N_OUT);
    memcpy(y, out.f32, N_OUT * sizeof *y);
    rq_tensor_release(&out);
    rq_session_destroy(s);
    rq_graph_destroy(g);
}

/* A program of fp16 with codes is computed in f32 throughout (docs/coreml-package.md), one without rounds to fp16: near, but not the same. */
static void m1_runs_as_its_decompressed_self(void **state)
{
    static float whole[N_OUT], codes[N_OUT], numbers[N_OUT];
    for (int i = 0; i < 8; i++) {
        const bool half = i & 4;
        const float near = half ? 1e-3f : 1e-7f;
        program g;
        char yaml[100], type[40];
        make_m1(&g, 6, half);
        run(g.m, whole);
        snprintf(yaml, sizeof yaml, "global_config: {mode: %s, dtype: %s}", i & 1 ? "linear" : "linear_symmetric",
                 i & 2 ? "uint8" : "int8");
        QUANTIZE(g.m, yaml);
        ASSERT_OPS(g.m, half ? "A cast conv cast" : "A conv");
        snprintf(type, sizeof type, "%s[32,64,2,2]", i & 2 ? "uint8" : "int8");
        ASSERT_TYPE(g.m, "w_quantized", "quantized_data", type);
        const rq_coreml_interface *io = &g.m->interfaces[0];
        assert_true(io->inputs.n == 1 && io->outputs.n == 1);
        assert_string_equal(io->inputs.at[0].name, "x");
        assert_string_equal(io->outputs.at[0].name, "y");
        assert_true(io->inputs.at[0].dtype == RQ_COREML_FLOAT32 && io->outputs.at[0].dtype == RQ_COREML_FLOAT32);
        run(g.m, codes);
        OK(rq_coreml_decompress_weights(g.m, &err));
        ASSERT_OPS(g.m, half ? "cast conv cast" : "conv");
        run(g.m, numbers);
        bool changed = false;
        for (int k = 0; k < N_OUT; k++) {
            assert_true(fabsf(codes[k] - numbers[k]) <= near * fabsf(numbers[k]) + (half ? near : 0));
            assert_true(fabsf(codes[k] - whole[k]) < 0.05f);
            changed |= codes[k] != whole[k];
        }
        assert_true(changed);
        rq_coreml_close(g.m);
    }
    (void)state;
}

static void m1_in_blocks_is_near(void **state)
{
    static float whole[N_OUT], codes[N_OUT];
    static const int blocks[] = { 0, 1, 2, 4 };
    program g;
    make_m1(&g, 9, false);
    run(g.m, whole);
    rq_coreml_close(g.m);
    for (int i = 0; i < 4; i++)
        for (int form = 0; form < 8; form++) {
            const int nbits = form & 4 ? 8 : 4;
            char yaml[200], type[40];
            make_m1(&g, 9, false);
            snprintf(yaml, sizeof yaml,
                     "global_config: {mode: %s, dtype: %sint%d, granularity: per_block, block_size: %d}",
                     form & 1 ? "linear" : "linear_symmetric", form & 2 ? "u" : "", nbits, blocks[i]);
            QUANTIZE(g.m, yaml);
            ASSERT_OPS(g.m, "B conv");
            snprintf(type, sizeof type, "%sint%d[32,64,2,2]", form & 2 ? "u" : "", nbits);
            ASSERT_TYPE(g.m, "w_quantized", "data", type);
            snprintf(type, sizeof type, "fp32[32,%d,1,1]", blocks[i] ? 64 / blocks[i] : 1);
            ASSERT_TYPE(g.m, "w_quantized", "scale", type);
            run(g.m, codes);
            const float least = nbits == 8 && blocks[i] == 1 ? 1e-2f : 0.4f;
            for (int k = 0; k < N_OUT; k++)
                assert_true(fabsf(codes[k] - whole[k]) <= least);
            rq_coreml_close(g.m);
        }
    (void)state;
}

static void a_classifier_keeps_biases_and_labels(void **state)
{
    static const char *const packages[] = { "names_fp32", "numbers_fp32", "names_fp16", "numbers_fp16" };
    for (int i = 0; i < 4; i++) {
        char path[100];
        rq_coreml *m;
        snprintf(path, sizeof path, "tests/golden/coreml_forms/classifier_%s.mlpackage", packages[i]);
        OK(rq_coreml_open(&m, path, &err));
        QUANTIZE(m, "global_config: {weight_threshold: 0}");
        ASSERT_OPS(m, i < 2 ? "A A conv relu reduce_mean linear softmax classify"
                            : "A conv relu reduce_mean A linear softmax cast classify");
        const rq_mil_block *b = m->program.functions[0]->block;
        for (int k = 0; k < b->n_ops; k++)
            if (rq_mil_op_arg(b->ops[k], "bias"))
                assert_null(strstr(rq_mil_op_arg(b->ops[k], "bias")->binding[0].name, "quantized"));
        rq_coreml_close(m);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(m1_runs_as_its_decompressed_self),
        cmocka_unit_test(m1_in_blocks_is_near),
        cmocka_unit_test(a_classifier_keeps_biases_and_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
