/* test_bench.c — what benchmarks say, as far as it does not depend on the machine: nothing of a run is lost or counted twice, no product passes
 * the peak, marks stand where they belong. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "kernels/kernels.h"
#include "requant/requant.h"

static const char model[] = "models/digits-cnn.onnx", samples[] = "models/digits-train.npz";

static rq_graph *quantized_of(rq_graph **plain)
{
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_dataset *data = NULL;
    const int64_t rows[] = { 0, 1, 2, 3 };
    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.rows = rows;
    cfg.n_rows = 4;
    cfg.threads = 1;
    if (rq_load(plain, model, &err) || rq_load(&g, model, &err) ||
        rq_dataset_open(&data, samples, g, &(rq_dataset_cfg) { .batch = 4 }, &err) || rq_ptq(g, data, &cfg, NULL, &err))
        fail_msg("%s", err.text);
    rq_dataset_close(data);
    return g;
}

static void sums(const rq_bench_side *s, const rq_bench_side *other, double *all, double *whole)
{
    *all = *whole = 0;
    for (int i = 0; i < s->n_layers; i++) {
        bool both = false;
        for (int k = 0; k < other->n_layers; k++)
            both |= !strcmp(s->layers[i].name, other->layers[k].name);
        *all += s->layers[i].ms;
        *whole += both ? s->layers[i].whole_ms : 0;
    }
}

/* The time of every layer, of those that only one model has too, is in one of the layers that both have. */
static void layers_of_one_model_count_with_those_of_both(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_bench b;
    rq_graph *plain, *g = quantized_of(&plain);
    if (rq_bench_run(&b, g, plain, NULL, &(rq_bench_cfg) { .threads = 1, .runs = 5, .batch = 4 }, &err))
        fail_msg("%s", err.text);
    double all, whole;
    sums(&b.model, &b.against, &all, &whole);
    assert_true(all > 0 && fabs(all - whole) <= 1e-9 * all);
    sums(&b.against, &b.model, &all, &whole);
    assert_true(all > 0 && fabs(all - whole) <= 1e-9 * all);
    assert_true(b.model.n_layers > 4 && b.runs == 5 && b.peak.memory_gbs == 0);
    int n_int = 0, n_macs = 0;
    for (int i = 0; i < b.model.n_layers; i++) {
        const rq_bench_layer *l = &b.model.layers[i];
        n_int += l->integer;
        n_macs += l->gops > 0;
        assert_true(l->share == 0 && (!l->slower || l->integer) && l->whole_ms >= l->ms);
        assert_true(l->gops == 0 || l->gbs == 0);
    }
    assert_true(n_int >= 4 && n_macs >= 3);
    for (int i = 0; i < b.against.n_layers; i++)
        assert_false(b.against.layers[i].integer || b.against.layers[i].slower);
    rq_bench_release(&b);
    rq_graph_destroy(g);
    rq_graph_destroy(plain);
}

/* Every level this machine has: the same work takes the loops of the peak less time than nothing at all only if they were left out. */
static void the_peak_grows_with_the_work(void **state)
{
    (void)state;
    unsigned flags;
    const char *name;
    for (int i = 0; (name = rq_cpu_level(i, &flags)); i++) {
        if ((rq_cpu_detect() & flags) != flags) {
            print_message("this machine lacks %s\n", name);
            continue;
        }
        rq_kernels k;
        rq_kernels_init(&k, flags);
        const rq_peak_fn fns[] = { k.peak_int, k.peak_f32 };
        for (int f = 0; f < 2; f++) {
            const double one = fns[f](1);
            assert_true(one >= 1 && fns[f](1000) == 1000 * one && fns[f](0) == 0);
        }
    }
}

static void the_peak_is_measured(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_peak p;
    if (rq_peak_measure(&p, 1, &err))
        fail_msg("%s", err.text);
    assert_true(p.threads == 1 && p.isa && p.int8_gops > 0.01 && p.f32_gops > 0.01 && p.memory_gbs > 0.01);
    /* 512 bits of s8 products twice a cycle at 10 GHz are 2560 GOP/s; a matrix unit has 16 times as much */
    assert_true(p.int8_gops < 50000 && p.f32_gops < 5000 && p.memory_gbs < 5000);
    assert_int_equal(rq_peak_measure(&p, -1, &err), RQ_BAD_ARG);
}

/* A shape takes the place of the sizes that would be made up, and only where the model leaves them open. */
static void shapes_are_those_that_were_asked_for(void **state)
{
    (void)state;
    rq_err err = { 0 };
    rq_bench b;
    rq_graph *g = NULL;
    assert_int_equal(rq_load(&g, model, &err), RQ_OK);
    const rq_value_info in = rq_graph_input(g, 0);
    rq_bench_shape shape = { .input = in.name, .shape = in.shape };
    assert_int_equal(in.shape.rank, 4);
    assert_true(in.shape.dim[0] < 0);
    shape.shape.dim[0] = 7;
    rq_bench_cfg cfg = { .threads = 1, .runs = 1, .batch = 3, .shapes = &shape, .n_shapes = 1 };
    double work[2];
    for (int i = 0; i < 2; i++) {
        cfg.n_shapes = !i;
        if (rq_bench_run(&b, g, NULL, NULL, &cfg, &err))
            fail_msg("%s", err.text);
        work[i] = 0;
        for (int k = 0; k < b.model.n_layers; k++)
            work[i] += b.model.layers[k].gops * b.model.layers[k].ms;
        rq_bench_release(&b);
    }
    assert_true(work[1] > 0 && fabs(work[0] * 3 / (work[1] * 7) - 1) < 1e-9); /* of 7 and of 3 samples */
    cfg.n_shapes = 1;
    shape.input = "nosuch";
    assert_int_equal(rq_bench_run(&b, g, NULL, NULL, &cfg, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "nosuch"));
    shape.input = in.name;
    shape.shape.dim[1]++;
    assert_int_equal(rq_bench_run(&b, g, NULL, NULL, &cfg, &err), RQ_BAD_ARG);
    shape.shape.rank = 3;
    assert_int_equal(rq_bench_run(&b, g, NULL, NULL, &cfg, &err), RQ_BAD_ARG);
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_are_those_that_were_asked_for),
        cmocka_unit_test(layers_of_one_model_count_with_those_of_both),
        cmocka_unit_test(the_peak_grows_with_the_work),
        cmocka_unit_test(the_peak_is_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
