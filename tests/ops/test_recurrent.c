/* tests/ops/test_recurrent.c — a cell as most are goes through a kernel of its own, one with anything unusual about it does not: `clip` so far out that
 * it cuts nothing makes the same numbers the other way, bit for bit. LSTM, RNN, and GRU which resets its state before the product or behind it. In floats and with weights in codes, on every instruction set, with R a constant
 * (turned over once) and an input (turned over in each run), and on one thread and two. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "ops/build.h"
#include "run/program.h"

enum { MAX_INPUTS = 12, MAX_OUT = 3 };

typedef enum cell { LSTM, RNN, GRU, GRU_BEHIND, N_CELLS } cell; /* BEHIND: linear_before_reset */

static const struct {
    const char *name, *coded;
    int gates, n_out;
    int scales; /* the first input of those */
} cells[N_CELLS] = { [LSTM] = { "LSTM", "DynamicQuantizeLSTM", 4, 3, 8 },
                     [RNN] = { "RNN", "DynamicQuantizeRNN", 1, 2, 6 },
                     [GRU] = { "GRU", "DynamicQuantizeGRU", 3, 2, 6 },
                     [GRU_BEHIND] = { "GRU", "DynamicQuantizeGRU", 3, 2, 6 } };

typedef enum zeros { NO_ZERO, ONE_ZERO, ZERO_PER_COLUMN, N_ZEROS } zeros;

typedef struct layer {
    int64_t steps, batch, input, hidden;
    const char *direction;
    rq_dtype w; /* F32: reals; else codes */
    zeros zero;
    bool per_column; /* scales */
    bool lengths;    /* sequences of different length */
    bool fed;        /* W and R are inputs of the graph, not constants */
    bool batch_first;
    cell cell;
} layer;

static int dirs_of(const layer *l)
{
    return strcmp(l->direction, "bidirectional") == 0 ? 2 : 1;
}

static rq_id tensor(rq_graph *g, rq_rng *rng, const char *name, rq_dtype d, int rank, const int64_t *dim, double size,
                    rq_tensor *fed)
{
    const rq_shape s = rq_shape_of(rank, dim);
    rq_tensor t;
    rq_id id;
    assert_int_equal(rq_tensor_create(&t, d, &s, true), RQ_OK);
    for (int64_t i = 0; i < rq_tensor_count(&t); i++) {
        const double u = (double)rq_rng_f32(rng) - 0.5;
        rq_tensor_set(&t, i, d == RQ_DTYPE_F32 ? u * size : (int)(u * 255) + (d == RQ_DTYPE_U8 ? 128 : 0));
    }
    if (fed) {
        *fed = t;
        return build_input(g, name, d, rank, dim);
    }
    assert_int_equal(rq_graph_add_const(g, &id, name, &t, NULL), RQ_OK);
    rq_tensor_release(&t);
    return id;
}

/* in[3]: what is fed, x first. */
static rq_graph *build(const layer *l, bool clip, rq_tensor in[3], int *n_fed)
{
    const int64_t d = dirs_of(l), gates = cells[l->cell].gates * l->hidden,
                  steps = l->batch_first ? l->batch : l->steps, batch = l->batch_first ? l->steps : l->batch;
    const bool coded = l->w != RQ_DTYPE_F32;
    const int64_t w_dim[3] = { d, coded ? l->input : gates, coded ? gates : l->input },
                  r_dim[3] = { d, coded ? l->hidden : gates, coded ? gates : l->hidden };
    rq_graph *g = build_graph(17);
    rq_rng rng;
    rq_id id[MAX_INPUTS], out[MAX_OUT], node;
    rq_rng_seed(&rng, 77);
    for (int i = 0; i < MAX_INPUTS; i++)
        id[i] = RQ_NONE;
    *n_fed = l->fed ? 3 : 1;
    id[0] = tensor(g, &rng, "x", RQ_DTYPE_F32, 3, (int64_t[]) { steps, batch, l->input }, 4, &in[0]);
    id[1] = tensor(g, &rng, "w", l->w, 3, w_dim, 0.4, l->fed ? &in[1] : NULL);
    id[2] = tensor(g, &rng, "r", l->w, 3, r_dim, 0.4, l->fed ? &in[2] : NULL);
    id[3] = tensor(g, &rng, "b", RQ_DTYPE_F32, 2, (int64_t[]) { d, 2 * gates }, 1, NULL);
    if (l->lengths) {
        double v[8];
        for (int64_t i = 0; i < l->batch; i++)
            v[i] = (double)(i % 2 ? l->steps : l->steps / 2);
        id[4] = build_const(g, "lengths", RQ_DTYPE_S32, 1, &l->batch, v);
    }
    if (coded) {
        const int64_t dim[2] = { d, gates };
        for (int i = 0; i < 2; i++) {
            char name[8];
            snprintf(name, sizeof name, "s%d", i);
            id[cells[l->cell].scales + 2 * i] = tensor(g, &rng, name, RQ_DTYPE_F32, 1 + l->per_column, dim, 0.01, NULL);
            snprintf(name, sizeof name, "z%d", i);
            double *v = calloc((size_t)(d * gates), sizeof *v);
            for (int64_t k = 0; k < d * gates; k++)
                v[k] = l->zero == NO_ZERO ? 0 : l->zero == ONE_ZERO ? 3 : (double)(k % 5);
            id[cells[l->cell].scales + 1 + 2 * i] =
                build_const(g, name, l->w, 1 + (l->zero == ZERO_PER_COLUMN), dim, v);
            free(v);
        }
    }
    static const char *const names[MAX_OUT] = { "Y", "Y_h", "Y_c" };
    const int n_out = cells[l->cell].n_out;
    const char *domain = !coded ? "" : l->cell == LSTM ? "com.microsoft" : "requant";
    for (int i = 0; i < n_out; i++)
        assert_int_equal(rq_graph_add_value(g, &out[i], RQ_VALUE_NODE, names[i], RQ_DTYPE_F32, NULL, NULL), RQ_OK);
    assert_int_equal(rq_graph_add_node(g, &node, coded ? cells[l->cell].coded : cells[l->cell].name, domain, "cell", id,
                                       coded ? cells[l->cell].scales + 4 : 5, out, n_out, NULL),
                     RQ_OK);
    if (coded)
        assert_int_equal(rq_graph_set_opset(g, domain, 1), RQ_OK);
    if (l->cell == GRU_BEHIND)
        assert_int_equal(rq_attr_set_int(g, node, "linear_before_reset", 1), RQ_OK);
    assert_int_equal(rq_attr_set_int(g, node, "hidden_size", l->hidden), RQ_OK);
    assert_int_equal(rq_attr_set_string(g, node, "direction", l->direction), RQ_OK);
    if (l->batch_first)
        assert_int_equal(rq_attr_set_int(g, node, "layout", 1), RQ_OK);
    if (clip)
        assert_int_equal(rq_attr_set_float(g, node, "clip", 1e30f), RQ_OK);
    for (int i = 0; i < n_out; i++)
        build_output(g, out[i]);
    return g;
}

/* The second of two runs with one plan. */
static void run(const layer *l, bool clip, unsigned flags, int threads, rq_tensor out[MAX_OUT])
{
    const rq_session_cfg cfg = { 0 };
    rq_tensor in[3];
    rq_kernels k;
    rq_threads *t = NULL;
    rq_program *p;
    rq_err err = { 0 };
    int n_fed;
    rq_graph *g = build(l, clip, in, &n_fed);
    rq_kernels_init(&k, flags);
    rq_ops_bind(g);
    assert_int_equal(rq_threads_create(&t, threads), RQ_OK);
    if (rq_program_create(&p, g, &cfg, &k, t, NULL, &err))
        fail_msg("%s", err.text);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; round && i < cells[l->cell].n_out; i++)
            rq_tensor_release(&out[i]);
        if (rq_program_run(p, in, out, &err))
            fail_msg("%s", err.text);
    }
    rq_program_destroy(p);
    rq_threads_destroy(t);
    for (int i = 0; i < n_fed; i++)
        rq_tensor_release(&in[i]);
    rq_graph_destroy(g);
}

static void check(const layer *l)
{
    rq_tensor want[MAX_OUT], got[MAX_OUT];
    const int n_out = cells[l->cell].n_out;
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        for (int way = 0; way < 3; way++) { /* the definition first */
            run(l, way == 0 && level == 0, flags, 1 + (way == 2), level == 0 && way == 0 ? want : got);
            for (int i = 0; (level || way) && i < n_out; i++) {
                if (memcmp(got[i].data, want[i].data, want[i].bytes) != 0)
                    fail_msg("level %d, %s, %s %s, output %d: %lld steps of %lld, %lld units, zero %d, way %d", level,
                             cells[l->cell].name, l->direction, rq_dtype_name(l->w), i, (long long)l->steps,
                             (long long)l->batch, (long long)l->hidden, l->zero, way);
                rq_tensor_release(&got[i]);
            }
        }
    }
    for (int i = 0; i < n_out; i++)
        rq_tensor_release(&want[i]);
}

static void floats_have_the_bits_of_their_functions(void **state)
{
    static const char *const directions[] = { "forward", "reverse", "bidirectional" };
    (void)state;
    for (int d = 0; d < 3; d++)
        for (int more = 0; more < 8 * N_CELLS; more++) {
            const cell c = (cell)(more / 8);
            check(&(layer) { 3, 2, 5, 17, directions[d], RQ_DTYPE_F32, .lengths = more & 1, .fed = (more & 2) != 0,
                             .batch_first = (more & 4) != 0, .cell = c });
            check(&(layer) { 9, 1 + more % 3, 8, 3, directions[d], RQ_DTYPE_F32, .lengths = more & 1,
                             .fed = (more & 2) != 0, .cell = c });
        }
}

static void codes_have_the_bits_of_their_functions(void **state)
{
    static const char *const directions[] = { "forward", "reverse", "bidirectional" };
    (void)state;
    for (int d = 0; d < 3; d++)
        for (int w = 0; w < 2; w++)
            for (int zero = 0; zero < N_ZEROS; zero++)
                for (int more = 0; more < 8 * N_CELLS; more++)
                    check(&(layer) { 4, 1 + more % 3, 6, 13 + d, directions[d], w ? RQ_DTYPE_S8 : RQ_DTYPE_U8,
                                     (zeros)zero, .per_column = more & 1, .lengths = (more & 2) != 0,
                                     .fed = (more & 4) != 0, .cell = (cell)(more / 8) });
}

/* Enough work for a thread each. */
static void directions_run_apart(void **state)
{
    (void)state;
    check(&(layer) { 20, 2, 16, 96, "bidirectional", RQ_DTYPE_F32, .zero = NO_ZERO });
    check(&(layer) { 20, 2, 16, 96, "bidirectional", RQ_DTYPE_S8, .zero = ONE_ZERO });
    check(&(layer) { 20, 2, 16, 96, "bidirectional", RQ_DTYPE_U8, .zero = ZERO_PER_COLUMN });
    check(&(layer) { 25, 2, 16, 96, "bidirectional", RQ_DTYPE_S8, .zero = ONE_ZERO, .cell = GRU });
    check(&(layer) { 25, 2, 16, 96, "bidirectional", RQ_DTYPE_S8, .zero = ONE_ZERO, .cell = GRU_BEHIND });
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(floats_have_the_bits_of_their_functions),
                                        cmocka_unit_test(codes_have_the_bits_of_their_functions),
                                        cmocka_unit_test(directions_run_apart) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
