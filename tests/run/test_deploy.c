/* tests/run/test_deploy.c — sessions in somebody's program: loaded from files and bytes, what goes in and out, buffers of the caller's read and written in
 * place without an allocation, plans ahead of the first run, sessions that share a model, on threads of their own (built with the thread
 * sanitizer by tools/check.sh races). What a session computes is compared with what rq_session_run gives; its numbers are the golden runner's. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "requant/session.h"

#define QUANTIZED "tests/golden/onnx/static_quant/depthwise_qdq_u8s8.onnx"      /* x f32[n,1,8,8] -> y f32[n,10] */
#define FIXED "tests/golden/onnx/qdq/chain_conv_relu_conv_pool_flatten_u8.onnx" /* x f32[1,3,8,8] -> y */
#define FLOAT "models/digits-cnn.onnx" /* image f32[batch,1,8,8] -> logits f32[batch,10] */

enum { MOST = 9, IN = 64, OUT = 10, THREADS = 2 };

static float pictures[MOST * IN];
static float answers[2][MOST * OUT]; /* of each model, picture by picture */

static rq_tensor batch(float *data, int n, bool in)
{
    const rq_shape x = rq_shape_of(4, (int64_t[]) { n, 1, 8, 8 }), y = rq_shape_of(2, (int64_t[]) { n, OUT });
    return rq_tensor_view(RQ_DTYPE_F32, in ? &x : &y, data);
}

static rq_session *load(const char *path, int threads)
{
    rq_session *s = NULL;
    rq_err err = { 0 };
    const rq_session_cfg cfg = { .threads = threads };
    if (rq_session_load(&s, path, &cfg, &err))
        fail_msg("%s", err.text);
    return s;
}

static void bind(rq_session *s, float *in, float *out, int n)
{
    rq_err err = { 0 };
    const rq_tensor x = batch(in, n, true), y = batch(out, n, false);
    if (rq_session_bind_input(s, rq_session_input(s, 0).name, &x, &err) ||
        rq_session_bind_output(s, rq_session_output(s, 0).name, &y, &err))
        fail_msg("%s", err.text);
}

static int make_answers(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 7);
    for (int i = 0; i < MOST * IN; i++)
        pictures[i] = rq_rng_f32(&rng);
    for (int m = 0; m < 2; m++) {
        rq_session *s = load(m ? FLOAT : QUANTIZED, 1);
        for (int i = 0; i < MOST; i++) {
            rq_tensor y;
            const rq_feed x = { rq_session_input(s, 0).name, batch(pictures + (ptrdiff_t)i * IN, 1, true) };
            assert_int_equal(rq_session_run(s, &x, 1, &y, NULL), RQ_OK);
            assert_int_equal(y.bytes, OUT * sizeof(float));
            memcpy(answers[m] + (ptrdiff_t)i * OUT, y.data, y.bytes);
            rq_tensor_release(&y);
        }
        rq_session_destroy(s);
    }
    return 0;
}

/* ---- loading, asking ---- */

static void a_file_and_its_bytes_are_one_model(void **state)
{
    (void)state;
    const size_t before = rq_mem_live();
    FILE *f = fopen(QUANTIZED, "rb");
    assert_non_null(f);
    static char bytes[1 << 20];
    const size_t size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    rq_session *s = NULL;
    rq_err err = { 0 };
    assert_int_equal(rq_session_load_memory(&s, bytes, size, NULL, &err), RQ_OK);
    memset(bytes, 0, sizeof bytes); /* they were copied */
    float y[OUT];
    bind(s, pictures, y, 1);
    assert_int_equal(rq_session_run_bound(s, &err), RQ_OK);
    assert_memory_equal(y, answers[0], sizeof y);
    rq_session_destroy(s);
    assert_int_equal(rq_session_load(&s, "models/none.onnx", NULL, &err), RQ_IO);
    assert_non_null(strstr(err.text, "models/none.onnx"));
    assert_int_equal(rq_session_load_memory(&s, bytes, size, NULL, &err), RQ_BAD_FILE);
    assert_int_equal(rq_mem_live(), before);
}

static void sizes_are_open_until_planned(void **state)
{
    (void)state;
    rq_session *s = load(QUANTIZED, 1);
    assert_int_equal(rq_session_n_inputs(s), 1);
    assert_int_equal(rq_session_n_outputs(s), 1);
    rq_value_info x = rq_session_input(s, 0), y = rq_session_output(s, 0);
    assert_string_equal(x.name, "x");
    assert_string_equal(y.name, "y");
    assert_int_equal(x.dtype, RQ_DTYPE_F32);
    assert_int_equal(y.dtype, RQ_DTYPE_F32);
    assert_int_equal(x.shape.rank, 4);
    assert_true(x.shape.dim[0] < 0 && x.shape.dim[3] == 8);
    assert_string_equal(rq_graph_dim_name(rq_session_graph(s), x.shape.dim[0]), "n");
    const rq_feed three = { "x", batch(NULL, 3, true) };
    assert_int_equal(rq_session_prepare(s, &three, 1, NULL), RQ_OK);
    assert_int_equal(rq_session_input(s, 0).shape.dim[0], 3);
    y = rq_session_output(s, 0);
    assert_true(y.shape.rank == 2 && y.shape.dim[0] == 3 && y.shape.dim[1] == OUT);
    assert_true(rq_session_arena_bytes(s) > 0);
    rq_session_destroy(s);
}

/* A model that states its sizes is planned when it is loaded: its first run asks for no memory. A graph that a session is made for is not. */
static void what_states_its_sizes_is_planned_at_once(void **state)
{
    (void)state;
    const size_t before = rq_mem_live();
    rq_session *s = load(FIXED, 1);
    rq_err err = { 0 };
    assert_true(rq_session_arena_bytes(s) > 0);
    const rq_value_info x = rq_session_input(s, 0), y = rq_session_output(s, 0);
    assert_true(x.dtype == RQ_DTYPE_F32 && y.dtype == RQ_DTYPE_F32 && rq_shape_is_known(&y.shape));
    float in[512], first[512], again[512];
    assert_true(rq_shape_count(&x.shape) <= 512 && rq_shape_count(&y.shape) <= 512);
    for (int i = 0; i < 512; i++)
        in[i] = pictures[i % (MOST * IN)];
    const rq_tensor from = rq_tensor_view(x.dtype, &x.shape, in), to = rq_tensor_view(y.dtype, &y.shape, first);
    assert_int_equal(rq_session_bind_input(s, x.name, &from, &err), RQ_OK);
    assert_int_equal(rq_session_bind_output(s, y.name, &to, &err), RQ_OK);
    rq_mem_fail_after(1, true);
    const rq_status st = rq_session_run_bound(s, &err);
    const size_t asked = rq_mem_fail_after(0, false);
    assert_int_equal(st, RQ_OK);
    assert_int_equal(asked, 0);
    rq_graph *g;
    rq_session *late;
    rq_tensor out;
    assert_int_equal(rq_load(&g, FIXED, &err), RQ_OK);
    assert_int_equal(rq_session_create(&late, g, NULL, &err), RQ_OK);
    assert_int_equal(rq_session_arena_bytes(late), 0);
    assert_int_equal(rq_session_run(late, &(rq_feed) { x.name, from }, 1, &out, &err), RQ_OK);
    memcpy(again, out.data, out.bytes);
    assert_memory_equal(again, first, to.bytes);
    rq_tensor_release(&out);
    rq_session_destroy(late);
    rq_graph_destroy(g);
    rq_session_destroy(s);
    assert_int_equal(rq_mem_live(), before);
}

/* One that leaves only the number of samples open is planned for one of them, which its sizes do not show; plans for others keep what was packed. */
static void what_leaves_the_batch_open_is_planned_for_one(void **state)
{
    (void)state;
    for (int m = 0; m < 2; m++) {
        rq_session *s = load(m ? FLOAT : QUANTIZED, 1);
        float out[OUT];
        assert_true(rq_session_arena_bytes(s) > 0);
        assert_true(rq_session_input(s, 0).shape.dim[0] < 0);
        assert_true(rq_session_output(s, 0).shape.dim[0] < 0);
        bind(s, pictures, out, 1);
        rq_mem_fail_after(1, true);
        const rq_status st = rq_session_run_bound(s, NULL);
        const size_t asked = rq_mem_fail_after(0, false);
        assert_int_equal(st, RQ_OK);
        assert_int_equal(asked, 0);
        assert_memory_equal(out, answers[m], sizeof out);
        assert_int_equal(rq_session_input(s, 0).shape.dim[0], 1);
        rq_session_destroy(s);
    }
}

/* ---- buffers ---- */

static void bound_buffers_are_read_and_written_in_place(void **state)
{
    (void)state;
    for (int m = 0; m < 2; m++)
        for (int threads = 1; threads <= 2; threads++) {
            rq_session *s = load(m ? FLOAT : QUANTIZED, threads);
            rq_err err = { 0 };
            float in[4 * IN], out[5 * OUT];
            for (int n = 4; n >= 1; n--) {
                bind(s, in, out, n);
                assert_int_equal(rq_session_prepare(s, NULL, 0, &err), RQ_OK);
                for (int round = 0; round < 3; round++) {
                    memcpy(in, pictures + (ptrdiff_t)round * IN, (size_t)n * IN * sizeof *in);
                    memset(out, 0xee, sizeof out);
                    const float beyond = out[4 * OUT];
                    const size_t live = rq_mem_live();
                    rq_mem_fail_after(1, true); /* whatever is asked for, is not given */
                    const rq_status st = rq_session_run_bound(s, &err);
                    const size_t asked = rq_mem_fail_after(0, false);
                    assert_int_equal(st, RQ_OK);
                    assert_int_equal(asked, 0);
                    assert_int_equal(rq_mem_live(), live);
                    assert_memory_equal(out, answers[m] + (ptrdiff_t)round * OUT, (size_t)n * OUT * sizeof *out);
                    assert_memory_equal(&out[(ptrdiff_t)n * OUT], &beyond, sizeof beyond);
                }
            }
            /* and out of it again: a tensor of its own, while the buffer stays as it is */
            memset(out, 0xee, sizeof out);
            rq_tensor y;
            const rq_feed x = { rq_session_input(s, 0).name, batch(pictures, 1, true) };
            assert_int_equal(rq_session_run(s, &x, 1, &y, &err), RQ_OK);
            assert_memory_equal(y.data, answers[m], y.bytes);
            for (size_t i = 0; i < sizeof out; i++)
                assert_int_equal(((uint8_t *)out)[i], 0xee);
            rq_tensor_release(&y);
            rq_session_destroy(s);
        }
}

static void what_does_not_fit_is_said(void **state)
{
    (void)state;
    rq_session *s = load(QUANTIZED, 1);
    rq_err err = { 0 };
    float in[2 * IN], out[2 * OUT];
    rq_tensor x = batch(in, 2, true), y = batch(out, 2, false);
    assert_int_equal(rq_session_run_bound(s, &err), RQ_BAD_DATA);
    assert_string_equal(err.text, "nothing is bound to input 'x'");
    assert_int_equal(rq_session_prepare(s, NULL, 0, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "input 'x' has shape [?,1,8,8] in the model"));
    assert_int_equal(rq_session_bind_input(s, "X", &x, &err), RQ_NOT_FOUND);
    assert_non_null(strstr(err.text, "the model has no input 'X'"));
    assert_int_equal(rq_session_bind_output(s, "x", &y, &err), RQ_NOT_FOUND);
    assert_int_equal(rq_session_bind_input(s, "x", &y, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "input 'x' has shape [2,10], the model wants [?,1,8,8]"));
    rq_tensor t = x;
    t.dtype = RQ_DTYPE_U8;
    assert_int_equal(rq_session_bind_input(s, "x", &t, &err), RQ_BAD_DATA);
    assert_string_equal(err.text, "input 'x' is u8, the model wants f32");
    t = x;
    t.bytes--;
    assert_int_equal(rq_session_bind_input(s, "x", &t, &err), RQ_BAD_DATA);
    assert_string_equal(err.text, "what is bound to input 'x' has 511 bytes, its type and shape take 512");
    t = x;
    t.data = (char *)in + 2;
    assert_int_equal(rq_session_bind_input(s, "x", &t, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "not a multiple of 4"));
    t.data = NULL;
    assert_int_equal(rq_session_bind_input(s, "x", &t, &err), RQ_BAD_DATA);
    /* an output of another batch size: before anything ran */
    bind(s, pictures, out, 2);
    x = batch(pictures, 1, true);
    assert_int_equal(rq_session_bind_input(s, "x", &x, &err), RQ_OK);
    memset(out, 0xee, sizeof out);
    assert_int_equal(rq_session_run_bound(s, &err), RQ_BAD_SHAPE);
    assert_string_equal(err.text, "output 'y' is f32 [1,10], but what is bound to it is f32 [2,10]");
    for (size_t i = 0; i < sizeof out; i++)
        assert_int_equal(((uint8_t *)out)[i], 0xee);
    /* nothing bound to an output: it is left out */
    assert_int_equal(rq_session_bind_output(s, "y", NULL, &err), RQ_OK);
    assert_int_equal(rq_session_run_bound(s, &err), RQ_OK);
    assert_int_equal(rq_session_bind_input(s, "x", NULL, &err), RQ_OK);
    assert_int_equal(rq_session_run_bound(s, &err), RQ_BAD_DATA);
    rq_session_destroy(s);
}

/* ---- sessions of one model ---- */

static void sessions_of_a_model_hold_its_weights_once(void **state)
{
    (void)state;
    const size_t before = rq_mem_live();
    rq_session *a = load(FLOAT, 1), *b = NULL;
    rq_err err = { 0 };
    float out[2 * OUT];
    const rq_session_cfg other = { .literal = true };
    assert_int_equal(rq_session_share(&b, a, &other, &err), RQ_BAD_ARG);
    const size_t first = rq_mem_live() - before;
    assert_int_equal(rq_session_share(&b, a, NULL, &err), RQ_OK);
    const size_t second = rq_mem_live() - before - first;
    assert_true(second < first / 4); /* 23194 weights of 4 bytes, and a graph */
    bind(a, pictures, out, 1);
    bind(b, pictures + IN, out + OUT, 1);
    assert_int_equal(rq_session_prepare(a, NULL, 0, &err), RQ_OK);
    assert_int_equal(rq_session_prepare(b, NULL, 0, &err), RQ_OK);
    assert_int_equal(rq_session_run_bound(b, &err), RQ_OK);
    assert_int_equal(rq_session_run_bound(a, &err), RQ_OK);
    assert_memory_equal(out, answers[1], sizeof out);
    rq_session_destroy(a); /* in any order */
    memset(out, 0, sizeof out);
    assert_int_equal(rq_session_run_bound(b, &err), RQ_OK);
    assert_memory_equal(out + OUT, answers[1] + OUT, OUT * sizeof *out);
    rq_session_destroy(b);
    assert_int_equal(rq_mem_live(), before);
}

typedef struct worker {
    pthread_t thread;
    rq_session *s;
    const float *want;
    int threads;
    const char *wrong;
} worker;

/* Batches of all sizes, each planned anew. */
static void *work(void *arg)
{
    worker *w = arg;
    rq_err err = { 0 };
    float in[MOST * IN], out[MOST * OUT];
    for (int round = 0; round < 12 && !w->wrong; round++) {
        const int n = 1 + (round * 5) % MOST;
        const rq_tensor x = batch(in, n, true), y = batch(out, n, false);
        memcpy(in, pictures, x.bytes);
        if (rq_session_bind_input(w->s, rq_session_input(w->s, 0).name, &x, &err) ||
            rq_session_bind_output(w->s, rq_session_output(w->s, 0).name, &y, &err) ||
            (round % 3 && rq_session_prepare(w->s, NULL, 0, &err)) || rq_session_run_bound(w->s, &err))
            w->wrong = "refused";
        else if (memcmp(out, w->want, y.bytes) != 0)
            w->wrong = "other bits";
    }
    return NULL;
}

static void together(worker w[THREADS])
{
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(w[i].thread, NULL), 0);
        if (w[i].wrong)
            fail_msg("thread %d: %s", i, w[i].wrong);
    }
}

static void sessions_run_at_the_same_time(void **state)
{
    (void)state;
    for (int m = 0; m < 2; m++)
        for (int threads = 1; threads <= 2; threads++) {
            rq_session *s = load(m ? FLOAT : QUANTIZED, threads);
            worker w[THREADS] = { { .s = s, .want = answers[m] }, { .want = answers[m] } };
            assert_int_equal(rq_session_share(&w[1].s, s, NULL, NULL), RQ_OK);
            together(w);
            rq_session_destroy(s);
            rq_session_destroy(w[1].s);
            /* of one graph, which is the caller's */
            rq_graph *g;
            const rq_session_cfg cfg = { .threads = threads };
            assert_int_equal(rq_load(&g, m ? FLOAT : QUANTIZED, NULL), RQ_OK);
            for (int i = 0; i < THREADS; i++)
                assert_int_equal(rq_session_create(&w[i].s, g, &cfg, NULL), RQ_OK);
            together(w);
            for (int i = 0; i < THREADS; i++)
                rq_session_destroy(w[i].s);
            rq_graph_destroy(g);
        }
}

/* The same, then the end of the session, on this thread, while others of its model run. */
static void *work_and_end(void *arg)
{
    worker *w = arg;
    work(arg);
    rq_session_destroy(w->s);
    return NULL;
}

/* Sessions that are made of one that runs, and end when they are done: the first one before those made of it, and after. */
static void sessions_come_and_go_while_others_run(void **state)
{
    (void)state;
    enum { SHARED = 3 };
    const size_t before = rq_mem_live();
    for (int m = 0; m < 2; m++)
        for (int first_ends = 0; first_ends < 2; first_ends++) {
            worker w[1 + SHARED] = { { .s = load(m ? FLOAT : QUANTIZED, 1) } };
            for (int i = 0; i <= SHARED; i++)
                w[i].want = answers[m];
            /* one for later: the first must be there while it is shared, and may be gone after that */
            assert_int_equal(rq_session_share(&w[SHARED].s, w[0].s, NULL, NULL), RQ_OK);
            assert_int_equal(pthread_create(&w[0].thread, NULL, first_ends ? work_and_end : work, &w[0]), 0);
            for (int i = 1; i < SHARED; i++) {
                assert_int_equal(rq_session_share(&w[i].s, first_ends ? w[SHARED].s : w[0].s, NULL, NULL), RQ_OK);
                assert_int_equal(pthread_create(&w[i].thread, NULL, work_and_end, &w[i]), 0);
            }
            assert_int_equal(pthread_create(&w[SHARED].thread, NULL, work_and_end, &w[SHARED]), 0);
            for (int i = 0; i <= SHARED; i++) {
                assert_int_equal(pthread_join(w[i].thread, NULL), 0);
                if (w[i].wrong)
                    fail_msg("session %d: %s", i, w[i].wrong);
            }
            if (!first_ends)
                rq_session_destroy(w[0].s);
            assert_int_equal(rq_mem_live(), before);
        }
}

static rq_status everything(const char *path, rq_err *err)
{
    rq_session *a = NULL, *b = NULL;
    float out[2 * OUT];
    const rq_session_cfg one = { .threads = 1 };
    const rq_tensor x = batch(pictures, 2, true), y = batch(out, 2, false);
    rq_status st = rq_session_load(&a, path, &one, err);
    if (!st)
        st = rq_session_share(&b, a, NULL, err);
    for (int i = 0; i < 2 && !st; i++) {
        rq_session *s = i ? b : a;
        st = rq_session_bind_input(s, rq_session_input(s, 0).name, &x, err);
        if (!st)
            st = rq_session_bind_output(s, rq_session_output(s, 0).name, &y, err);
        if (!st)
            st = rq_session_prepare(s, NULL, 0, err);
        if (!st)
            st = rq_session_run_bound(s, err);
    }
    if (!st)
        assert_memory_equal(out, answers[0], sizeof out);
    rq_session_destroy(a);
    rq_session_destroy(b);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const size_t before = rq_mem_live();
    rq_err err = { 0 };
    rq_mem_fail_after(0, false);
    assert_int_equal(everything(QUANTIZED, &err), RQ_OK);
    const size_t all = rq_mem_fail_after(0, false);
    const size_t step = all / 400 + 1;
    for (size_t n = 1; n <= all; n += step) {
        rq_mem_fail_after(n, n % 2);
        const rq_status st = everything(QUANTIZED, &err);
        rq_mem_fail_after(0, false);
        assert_true(st == RQ_OK || st == RQ_NO_MEMORY);
        assert_int_equal(rq_mem_live(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_and_its_bytes_are_one_model),
        cmocka_unit_test(sizes_are_open_until_planned),
        cmocka_unit_test(what_states_its_sizes_is_planned_at_once),
        cmocka_unit_test(what_leaves_the_batch_open_is_planned_for_one),
        cmocka_unit_test(bound_buffers_are_read_and_written_in_place),
        cmocka_unit_test(what_does_not_fit_is_said),
        cmocka_unit_test(sessions_of_a_model_hold_its_weights_once),
        cmocka_unit_test(sessions_run_at_the_same_time),
        cmocka_unit_test(sessions_come_and_go_while_others_run),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, make_answers, NULL);
}
