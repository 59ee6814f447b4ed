/* Attention on codes: every element within one step of what dequantized operands give in double, and the same bits on every
 * instruction set this machine has, with one and two threads. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "kernels/quantize.h"
#include "ops/int_fixture.h"
#include "requant/requant.h"

static rq_threads *pools[2];

/* Sizes and options of one case. */
typedef struct setup {
    int64_t batch, heads, kv_heads, queries, keys, size, v_size;
    bool flat, causal, masks, flags, codes_out;
    float softcap;
} setup;

static double real(const fixture *f, int i, int64_t at)
{
    return ((double)code(&f->in[i], at) - f->q[i].zero_point[0]) * (double)f->q[i].scale[0];
}

static int64_t where(const setup *s, int64_t b, int64_t h, int64_t row, int64_t heads, int64_t rows, int64_t size)
{
    return s->flat ? ((b * rows + row) * heads + h) * size : ((b * heads + h) * rows + row) * size;
}

/* want[v_size] of one query, by the definition. */
static void expect_row(const fixture *f, const setup *s, int64_t b, int64_t h, int64_t i, double *want)
{
    const int64_t kv = h / (s->heads / s->kv_heads);
    const int64_t q = where(s, b, h, i, s->heads, s->queries, s->size);
    double *e = malloc((size_t)s->keys * sizeof *e), most = -INFINITY, sum = 0;
    for (int64_t j = 0; j < s->keys; j++) {
        const int64_t k = where(s, b, kv, j, s->kv_heads, s->keys, s->size);
        e[j] = 0;
        for (int64_t d = 0; d < s->size; d++)
            e[j] += real(f, 0, q + d) * real(f, 1, k + d);
        e[j] /= sqrt((double)s->size);
        if (s->softcap > 0)
            e[j] = (double)s->softcap * tanh(e[j] / (double)s->softcap);
        if (s->masks)
            e[j] = s->flags ? (f->in[3].u8[i * s->keys + j] ? e[j] : -INFINITY)
                            : e[j] + (double)f->in[3].f32[i * s->keys + j];
        if (s->causal && j > i)
            e[j] = -INFINITY;
        most = e[j] > most ? e[j] : most;
    }
    for (int64_t j = 0; j < s->keys; j++) {
        e[j] = most == -INFINITY ? 0 : exp(e[j] - most);
        sum += e[j];
    }
    for (int64_t d = 0; d < s->v_size; d++) {
        want[d] = 0;
        for (int64_t j = 0; j < s->keys && sum > 0; j++)
            want[d] += e[j] / sum * real(f, 2, where(s, b, kv, j, s->kv_heads, s->keys, s->v_size) + d);
    }
    free(e);
}

static void check(const fixture *f, const setup *s)
{
    double *want = malloc((size_t)s->v_size * sizeof *want);
    for (int64_t b = 0; b < s->batch; b++)
        for (int64_t h = 0; h < s->heads; h++)
            for (int64_t i = 0; i < s->queries; i++) {
                expect_row(f, s, b, h, i, want);
                for (int64_t d = 0; d < s->v_size; d++) {
                    const int64_t at = where(s, b, h, i, s->heads, s->queries, s->v_size) + d;
                    double got, step;
                    if (s->codes_out) {
                        const rq_qparams *y = &f->q[MAX_IN];
                        int32_t lo, hi;
                        rq_qparams_limits(y, &lo, &hi);
                        got = code(&f->out, at);
                        want[d] = fmin(fmax(rint(want[d] / (double)y->scale[0]) + y->zero_point[0], lo), hi);
                        step = 1;
                    } else { /* shares are rounded to 16 bits: far less than a step of v */
                        got = (double)f->out.f32[at];
                        step = 0.02 * (double)f->q[2].scale[0];
                    }
                    if (!(fabs(got - want[d]) <= step))
                        fail_msg("head %d query %d element %d is %.9g, expected %.9g", (int)h, (int)i, (int)d, got,
                                 want[d]);
                }
            }
    free(want);
}

static void run(fixture *f, unsigned cpu, rq_threads *t)
{
    rq_kernels k;
    rq_kernels_init(&k, cpu);
    const rq_tensor *in[MAX_IN] = { NULL };
    const rq_qparams *in_q[MAX_IN] = { NULL }, *out_q[1] = { f->has_q[MAX_IN] ? &f->q[MAX_IN] : NULL };
    rq_tensor *out[1] = { &f->out };
    for (int i = 0; i < f->n_in; i++) {
        in[i] = &f->in[i];
        in_q[i] = f->has_q[i] ? &f->q[i] : NULL;
    }
    const rq_op *row = rq_op_find("", "Attention");
    rq_packs packs = { 0 };
    rq_op_args a = { .graph = f->g,
                     .node = &f->g->nodes[f->node],
                     .opset = 23,
                     .in = in,
                     .out = out,
                     .n_in = f->n_in,
                     .n_out = 1,
                     .in_q = in_q,
                     .out_q = out_q,
                     .k = &k,
                     .threads = t,
                     .packs = &packs };
    const char *why = "";
    if (!row->accepts_int(&a, &why))
        fail_msg("refused: %s", why);
    const size_t bytes = row->scratch(&a, true);
    a.scratch = rq_mem_alloc(bytes, 1);
    memset(a.scratch, 0xa5, bytes);
    memset(f->out.data, 0x5a, f->out.bytes);
    assert_int_equal(row->forward_int(&a), RQ_OK);
    rq_mem_free(a.scratch);
    rq_packs_release(&packs);
}

static void add_operand(fixture *f, const setup *s, rq_dtype d, int64_t heads, int64_t rows, int64_t size)
{
    const int64_t flat[3] = { s->batch, rows, heads * size }, deep[4] = { s->batch, heads, rows, size };
    const int i = f->n_in;
    add_input(f, d, s->flat ? 3 : 4, s->flat ? flat : deep);
    set_q(f, i, d, RQ_PER_TENSOR, 1, false, 0.02f);
}

static void one(rq_rng *rng, const setup *s, const rq_dtype types[4])
{
    fixture f;
    start(&f, rng, "Attention");
    set_int(&f, "is_causal", s->causal);
    assert_int_equal(rq_attr_set_float(f.g, f.node, "softcap", s->softcap), RQ_OK);
    if (s->flat) {
        set_int(&f, "q_num_heads", s->heads);
        set_int(&f, "kv_num_heads", s->kv_heads);
    }
    add_operand(&f, s, types[0], s->heads, s->queries, s->size);
    add_operand(&f, s, types[1], s->kv_heads, s->keys, s->size);
    add_operand(&f, s, types[2], s->kv_heads, s->keys, s->v_size);
    if (s->masks) {
        add_input(&f, s->flags ? RQ_DTYPE_BOOL : RQ_DTYPE_F32, 2, (int64_t[]) { s->queries, s->keys });
        for (int64_t i = 0; i < s->queries * s->keys; i++)
            if (s->flags)
                f.in[3].u8[i] = draw(&f, 0, 3) > 0;
            else
                f.in[3].f32[i] = draw(&f, 0, 3) > 0 ? rq_rng_f32(rng) : -INFINITY;
    }
    rq_shape y = rq_shape_of(4, (int64_t[]) { s->batch, s->heads, s->queries, s->v_size });
    if (s->flat)
        y = rq_shape_of(3, (int64_t[]) { s->batch, s->queries, s->heads * s->v_size });
    set_output(&f, s->codes_out ? types[3] : RQ_DTYPE_F32, &y);
    if (s->codes_out)
        set_q(&f, MAX_IN, types[3], RQ_PER_TENSOR, 1, false, 0.02f);
    uint8_t *first = malloc(f.out.bytes + 1);
    bool any = false;
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        for (int t = 0; t < 2; t++) {
            run(&f, flags, pools[t]);
            if (!any)
                memcpy(first, f.out.data, f.out.bytes);
            any = true;
            assert_memory_equal(f.out.data, first, f.out.bytes);
        }
    }
    check(&f, s);
    free(first);
    finish(&f);
}

static void attention(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 11);
    for (int i = 0; i < 40; i++) {
        const int64_t shared = 1 + (int64_t)rq_rng_below(&rng, 2);
        const setup s = { .batch = 1 + (int64_t)rq_rng_below(&rng, 2),
                          .kv_heads = 1 + (int64_t)rq_rng_below(&rng, 2),
                          .heads = 0,
                          .queries = 1 + (int64_t)rq_rng_below(&rng, 80),
                          .keys = 1 + (int64_t)rq_rng_below(&rng, 90),
                          .size = 1 + (int64_t)rq_rng_below(&rng, 33),
                          .v_size = 1 + (int64_t)rq_rng_below(&rng, 20),
                          .flat = i & 1,
                          .causal = i & 2,
                          .masks = i & 4,
                          .flags = i & 8,
                          .codes_out = i & 16,
                          .softcap = i % 5 ? 0 : 2 };
        setup t = s;
        rq_dtype types[4];
        t.heads = t.kv_heads * shared;
        for (int k = 0; k < 4; k++)
            types[k] = byte_types[rq_rng_below(&rng, 2)];
        one(&rng, &t, types);
    }
}

/* Many shares, each far below a step of 1/255: they may not vanish. */
static void many_keys(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 12);
    const setup s = { 1, 1, 1, 3, 3000, 4, 5, .codes_out = false };
    one(&rng, &s, (rq_dtype[]) { RQ_DTYPE_S8, RQ_DTYPE_U8, RQ_DTYPE_U8, RQ_DTYPE_U8 });
}

/* Models of tests/ops/peer run their products in integers; what they compute, the golden runner compares. */
static void models_between_q_and_dq(void **state)
{
    (void)state;
    static const struct {
        const char *file, *layers[3];
    } models[] = {
        { "fused", { "attend" } }, { "fused_causal", { "attend" } }, { "fused_shared", { "attend" } },
        { "multi", { "attend" } }, { "multi_causal", { "attend" } }, { "apart", { "scores", "softmax", "values" } },
    };
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        char path[200];
        rq_graph *g;
        rq_session *s;
        rq_err err = { 0 };
        snprintf(path, sizeof path, "tests/ops/peer/attention_qdq/%s.onnx", models[m].file);
        assert_int_equal(rq_load(&g, path, &err), RQ_OK);
        assert_int_equal(rq_session_create(&s, g, &(rq_session_cfg) { .threads = 1 }, &err), RQ_OK);
        rq_feed feeds[3];
        rq_tensor out;
        for (int i = 0; i < 3; i++) {
            const rq_value *v = &g->values[g->inputs[i]];
            feeds[i].name = v->name;
            assert_int_equal(rq_tensor_create(&feeds[i].tensor, RQ_DTYPE_F32, &v->shape, true), RQ_OK);
        }
        assert_int_equal(rq_session_run(s, feeds, 3, &out, &err), RQ_OK);
        const rq_layer_info *layers;
        const int n = rq_session_layers(s, &layers);
        for (int k = 0; k < 3 && models[m].layers[k]; k++) {
            bool found = false;
            for (int i = 0; i < n; i++)
                if (strcmp(layers[i].name, models[m].layers[k]) == 0) {
                    found = true;
                    if (!layers[i].integer)
                        fail_msg("%s: '%s' runs in float: %s", path, layers[i].name, layers[i].reason_float);
                }
            assert_true(found);
        }
        rq_tensor_release(&out);
        for (int i = 0; i < 3; i++)
            rq_tensor_release(&feeds[i].tensor);
        rq_session_destroy(s);
        rq_graph_destroy(g);
    }
}

static int make_pools(void **state)
{
    (void)state;
    return rq_threads_create(&pools[1], 2);
}

static int drop_pools(void **state)
{
    (void)state;
    rq_threads_destroy(pools[1]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(attention), cmocka_unit_test(many_keys),
                                        cmocka_unit_test(models_between_q_and_dq) };
    return cmocka_run_group_tests(tests, make_pools, drop_pools);
}
