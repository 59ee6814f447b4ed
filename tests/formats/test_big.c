/* tests/formats/test_big.c — a model of more than 2 GiB is written with its weights beside it, read back, and quantized
 * to a file that is smaller. Takes 3 GiB of disk in the folder of the tests and some minutes: part of `make check`, not
 * of `make test`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "requant/requant.h"

#define MODEL RQ_TEST_TMP "/big.onnx"
#define SMALL RQ_TEST_TMP "/big-int8.onnx"
enum { LAYERS = 9, WIDE = 8192 };

static rq_err err;

static void must(rq_status st)
{
    if (st)
        fail_msg("%s", err.text);
}

/* Nine square products: 2.25 GiB of weights, all pages of zeros but the numbers set here. */
static rq_graph *big_model(void)
{
    rq_graph *g;
    const rq_shape x = { 2, { 1, WIDE } }, square = { 2, { WIDE, WIDE } };
    assert_int_equal(rq_graph_create(&g), RQ_OK);
    must(rq_edit_set_opset(g, "", 17, &err));
    must(rq_edit_add_input(g, "y0", RQ_DTYPE_F32, &x, &err));
    for (int i = 0; i < LAYERS; i++) {
        const size_t bytes = (size_t)WIDE * WIDE * sizeof(float);
        char w[16], in[16], out[16];
        float *numbers = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert_true(numbers != MAP_FAILED); /* gone with the process */
        numbers[0] = 2;
        numbers[(size_t)WIDE * WIDE - 1] = (float)(i + 1);
        const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &square, numbers);
        snprintf(w, sizeof w, "w%d", i);
        snprintf(in, sizeof in, "y%d", i);
        snprintf(out, sizeof out, "y%d", i + 1);
        must(rq_edit_add_constant(g, w, &t, &err));
        const rq_edit_node n = {
            .op = "MatMul", .in = (const char *[]) { in, w }, .n_in = 2, .out = (const char *[]) { out }, .n_out = 1
        };
        must(rq_edit_add_node(g, &n, NULL, &err));
    }
    must(rq_edit_add_output(g, "y9", &err));
    must(rq_edit_check(g, &err));
    return g;
}

static void a_model_beyond_2_gib_goes_out_and_comes_back(void **state)
{
    rq_graph *g = big_model();
    struct stat st;
    rq_tensor w;
    must(rq_save(g, MODEL, &err));
    rq_graph_destroy(g);
    assert_int_equal(stat(MODEL ".data", &st), 0);
    assert_true(st.st_size > (int64_t)1 << 31);
    must(rq_load(&g, MODEL, &err));
    must(rq_edit_constant(g, "w8", &w, &err));
    assert_true(w.f32[0] == 2 && w.f32[(size_t)WIDE * WIDE - 1] == 9 && w.f32[77] == 0);
    rq_tensor_release(&w);

    rq_ptq_cfg cfg = rq_ptq_defaults();
    cfg.mode = RQ_MODE_WEIGHT_ONLY;
    cfg.settings.weight_method = RQ_WEIGHTS_MINMAX;
    must(rq_ptq(g, NULL, &cfg, NULL, &err));
    must(rq_save(g, SMALL, &err));
    rq_graph_destroy(g);
    assert_int_equal(stat(SMALL, &st), 0);
    assert_true(st.st_size < (int64_t)1 << 30);

    /* what a corner of it computes: 2 at [0][0] of every layer */
    rq_session *s;
    static float x[WIDE] = { 0.5f };
    rq_tensor y;
    must(rq_load(&g, SMALL, &err));
    must(rq_session_create(&s, g, NULL, &err));
    const rq_feed in = { "y0", rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 2, { 1, WIDE } }, x) };
    must(rq_session_run(s, &in, 1, &y, &err));
    assert_true(y.f32[0] > 255.9f && y.f32[0] < 256.1f && y.f32[1] == 0);
    rq_tensor_release(&y);
    rq_session_destroy(s);
    rq_graph_destroy(g);
    unlink(MODEL);
    unlink(MODEL ".data");
    unlink(SMALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_model_beyond_2_gib_goes_out_and_comes_back) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
