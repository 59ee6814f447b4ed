/* tests/run/test_parts.c — how many samples of a batch are run at once (run/batch.h): as many as the caches hold, and found out anew when types, sizes or what is fed
 * change. What may be cut at all: test_batch.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "run/batch_cases.h"
#include "run/session_priv.h"

enum { BLOCK = 4 << 20 }; /* of a part, for each thread */

static rq_session *session_of(const rq_graph *g, const rq_session_cfg *cfg)
{
    rq_session *s;
    rq_err err = { 0 };
    if (rq_session_create(&s, g, cfg, &err))
        fail_msg("%s", err.text);
    return s;
}

static rq_tensor filled(rq_dtype d, int rank, const int64_t *dim)
{
    const rq_shape s = rq_shape_of(rank, dim);
    rq_tensor t;
    assert_int_equal(rq_tensor_create(&t, d, &s, true), RQ_OK);
    for (size_t i = 0; d != RQ_DTYPE_F32 && i < t.bytes; i++)
        t.u8[i] = (uint8_t)(i * 29 + 7);
    for (int64_t i = 0; d == RQ_DTYPE_F32 && i < rq_tensor_count(&t); i++)
        t.f32[i] = (float)(i % 61) - 30;
    return t;
}

/* Runs x, alone, on s; its output, of f32, is that of `whole`. How many samples at once; 0: all. */
static int64_t run(rq_session *s, rq_session *whole, rq_tensor x)
{
    const rq_feed in = { "x", x };
    rq_tensor want, got;
    rq_err err = { 0 };
    if (rq_session_run(whole, &in, 1, &want, &err) || rq_session_run(s, &in, 1, &got, &err))
        fail_msg("%s", err.text);
    assert_true(rq_shape_equal(&want.shape, &got.shape));
    assert_memory_equal(want.data, got.data, want.bytes);
    rq_tensor_release(&want), rq_tensor_release(&got), rq_tensor_release(&x);
    return s->batch.n ? s->batch.part : 0;
}

/* x [n, open, 6, 6] -> Reshape [-1, 144]: one by one for four channels, not for two. */
static void sizes_that_change_are_asked_about_again(void **state)
{
    (void)state;
    rq_graph *g = build_graph(18);
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, (int64_t[]) { RQ_DIM_UNKNOWN, RQ_DIM_UNKNOWN, S, S });
    build_output(g, op(g, "Relu", BUILD_IN(reshape_rest(g, x))));
    rq_session *s = session_of(g, &(rq_session_cfg) { .threads = 1, .samples_at_once = 2 }),
               *whole = session_of(g, &(rq_session_cfg) { .threads = 1, .samples_at_once = RQ_ALL_SAMPLES });
    static const int64_t runs[][3] = { /* samples, channels, at once */
                                       { 6, 4, 2 }, { 6, 2, 0 }, { 6, 4, 2 }, { 1, 4, 0 }, { 8, 4, 2 },
                                       { 2, 4, 0 }, { 5, 4, 2 }, { 4, 4, 2 }, { 7, 4, 2 }
    };
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++)
        assert_int_equal(run(s, whole, filled(RQ_DTYPE_F32, 4, (int64_t[]) { runs[i][0], runs[i][1], S, S })),
                         runs[i][2]);
    rq_session_destroy(s), rq_session_destroy(whole);
    rq_graph_destroy(g);
}

/* An input with a default that is not fed has no samples to cut. */
static void defaults_stay_whole(void **state)
{
    (void)state;
    rq_graph *g = build_graph(18);
    const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, (int64_t[]) { RQ_DIM_UNKNOWN, C, S, S }),
                y = build_input(g, "y", RQ_DTYPE_F32, 4, (int64_t[]) { 1, C, S, S });
    rq_tensor own = filled(RQ_DTYPE_F32, 4, (int64_t[]) { 1, C, S, S });
    assert_int_equal(rq_tensor_copy(&g->values[y].constant, &own), RQ_OK);
    rq_tensor_release(&own);
    build_output(g, op(g, "Sub", BUILD_IN(x, y)));
    rq_session *s = session_of(g, &(rq_session_cfg) { .threads = 1, .samples_at_once = 2 }),
               *whole = session_of(g, &(rq_session_cfg) { .threads = 1, .samples_at_once = RQ_ALL_SAMPLES });
    for (int64_t batch = 7; batch >= 1; batch--)
        assert_int_equal(run(s, whole, filled(RQ_DTYPE_F32, 4, (int64_t[]) { batch, C, S, S })), batch > 2 ? 2 : 0);
    rq_session_destroy(s), rq_session_destroy(whole);
    rq_graph_destroy(g);
}

/* Three codes of four bits: the second sample begins within a byte. */
static void samples_that_begin_within_a_byte_are_not_cut(void **state)
{
    (void)state;
    for (int bits = 4; bits <= 8; bits += 4) {
        const rq_dtype d = bits == 4 ? RQ_DTYPE_U4 : RQ_DTYPE_U8;
        rq_graph *g = build_graph(21);
        const rq_id x = build_input(g, "x", d, 2, (int64_t[]) { RQ_DIM_UNKNOWN, 3 });
        build_output(g, op(g, "DequantizeLinear", BUILD_IN(x, build_scalar(g, "scale", RQ_DTYPE_F32, 0.5))));
        rq_session *s = session_of(g, &(rq_session_cfg) { .threads = 1, .samples_at_once = 2, .literal = true }),
                   *whole = session_of(
                       g, &(rq_session_cfg) { .threads = 1, .samples_at_once = RQ_ALL_SAMPLES, .literal = true });
        assert_int_equal(run(s, whole, filled(d, 2, (int64_t[]) { 6, 3 })), bits == 4 ? 0 : 2);
        rq_session_destroy(s), rq_session_destroy(whole);
        rq_graph_destroy(g);
    }
}

/* Parts are as large as the caches hold, for each thread, and nearly the same; one sample at least. */
static void parts_fit_the_caches(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2; threads++)
        for (int64_t side = 16; side <= 1024; side *= side == 16 ? 16 : 4) {
            rq_graph *g = build_graph(18);
            const rq_id x = build_input(g, "x", RQ_DTYPE_F32, 4, (int64_t[]) { RQ_DIM_UNKNOWN, 1, side, side });
            build_output(g, op(g, "GlobalMaxPool", BUILD_IN(op(g, "Exp", BUILD_IN(x)))));
            rq_session *s = session_of(g, &(rq_session_cfg) { .threads = threads }),
                       *whole = session_of(g, &(rq_session_cfg) { .samples_at_once = RQ_ALL_SAMPLES });
            const int64_t batch = side < 1024 ? 50 : 3, one = side * side * (int64_t)sizeof(float),
                          part = run(s, whole, filled(RQ_DTYPE_F32, 4, (int64_t[]) { batch, 1, side, side })),
                          most = threads * (int64_t)BLOCK / one; /* a little more than one sample takes besides */
            if (side == 16) {
                assert_int_equal(part, 0); /* all of them fit */
            } else if (side == 1024) {
                assert_int_equal(part, 1); /* one does not */
            } else {
                assert_true(part <= most);
                const int64_t parts = (batch + part - 1) / part;
                assert_true(parts <= (batch + most - 3) / (most - 2)); /* and no more of them than need be */
                assert_true(part * parts - batch < parts);
            }
            rq_session_destroy(s), rq_session_destroy(whole);
            rq_graph_destroy(g);
        }
}

/* oneDNN's float products are not cut; what is computed from codes is our own, and is. */
static void codes_are_cut_beside_a_library(void **state)
{
    (void)state;
    rq_session *s, *whole;
    const char *const model = "tests/golden/onnx/static_quant/depthwise_qdq_u8s8.onnx";
    const rq_session_cfg some = { .threads = 1, .samples_at_once = 2, .onednn = true },
                         all = { .threads = 1, .samples_at_once = RQ_ALL_SAMPLES, .onednn = true };
    assert_int_equal(rq_session_load(&s, model, &some, NULL), RQ_OK);
    assert_int_equal(rq_session_load(&whole, model, &all, NULL), RQ_OK);
    assert_int_equal(run(s, whole, filled(RQ_DTYPE_F32, 4, (int64_t[]) { 6, 1, 8, 8 })), 2);
    rq_session_destroy(s), rq_session_destroy(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_change_are_asked_about_again),
        cmocka_unit_test(defaults_stay_whole),
        cmocka_unit_test(samples_that_begin_within_a_byte_are_not_cut),
        cmocka_unit_test(parts_fit_the_caches),
        cmocka_unit_test(codes_are_cut_beside_a_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
