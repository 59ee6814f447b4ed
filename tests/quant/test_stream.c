/* Tensors that are larger than the caches: what is streamed is what the plain loops give, on one thread and on two, also where rows
 * and results begin in the middle of a line. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "quant/fake_quantize.h"
#include "requant/requant.h"

enum { ROWS = 1031, COLUMNS = 8191, COUNT = ROWS * COLUMNS, MOST_SHIFT = 8 };

typedef struct big {
    float *x, *dy, *want, *store, *scale;
    uint8_t *mask, *want_mask;
    int32_t *zero_point;
} big;

static big make(void)
{
    big b = { .x = malloc(COUNT * sizeof(float)), .dy = malloc(COUNT * sizeof(float)) };
    b.want = malloc(COUNT * sizeof(float));
    b.store = malloc((COUNT + MOST_SHIFT) * sizeof(float));
    b.mask = malloc(COUNT);
    b.want_mask = malloc(COUNT);
    b.scale = malloc(ROWS * sizeof(float));
    b.zero_point = malloc(ROWS * sizeof(int32_t));
    rq_rng r;
    rq_rng_seed(&r, 3);
    for (int64_t i = 0; i < COUNT; i++) {
        b.x[i] = 10 * (rq_rng_f32(&r) - 0.5f);
        b.dy[i] = rq_rng_f32(&r) - 0.5f;
    }
    b.x[5] = NAN;
    b.x[COUNT - 1] = INFINITY;
    for (int i = 0; i < ROWS; i++) {
        b.scale[i] = 0.01f + 0.0001f * (float)(i % 300);
        b.zero_point[i] = i % 11 - 5;
    }
    return b;
}

static void release(big *b)
{
    free(b->x), free(b->dy), free(b->want), free(b->store), free(b->mask), free(b->want_mask), free(b->scale);
    free(b->zero_point);
}

static void check(rq_exec *e, big *b, bool channels, int shift)
{
    rq_err err = { 0 };
    const rq_shape shape = { .rank = 2, .dim = { ROWS, COLUMNS } };
    float *out = b->store + shift;
    const rq_strided x = rq_strided_floats(b->x, &shape), dy = rq_strided_floats(b->dy, &shape),
                     want = rq_strided_floats(b->want, &shape), got = rq_strided_floats(out, &shape);
    rq_strided mask = x, want_mask = x;
    mask.dtype = want_mask.dtype = RQ_DTYPE_U8;
    mask.data = b->mask;
    want_mask.data = b->want_mask;
    const rq_fq f = { .type = rq_qtype_of(RQ_DTYPE_S8),
                      .rule = channels ? RQ_FQ_DIVIDE : RQ_FQ_RECIPROCAL,
                      .axis = channels ? 0 : RQ_PER_TENSOR,
                      .n = channels ? ROWS : 1,
                      .scale = b->scale,
                      .zero_point = b->zero_point };
    assert_int_equal(rq_fake_quantize(NULL, &want, &want_mask, &x, &f, &err), RQ_OK);
    assert_int_equal(rq_fake_quantize(e, &got, &mask, &x, &f, &err), RQ_OK);
    assert_memory_equal(b->want, out, COUNT * sizeof(float));
    assert_memory_equal(b->want_mask, b->mask, COUNT);
    assert_int_equal(rq_fake_quantize_backward(NULL, &want, &dy, &x, &f, &err), RQ_OK);
    assert_int_equal(rq_fake_quantize_backward(e, &got, &dy, &x, &f, &err), RQ_OK);
    assert_memory_equal(b->want, out, COUNT * sizeof(float));
    assert_int_equal(rq_fake_quantize_backward_mask(e, &got, &dy, &mask, &err), RQ_OK);
    assert_memory_equal(b->want, out, COUNT * sizeof(float));
    rq_tensor codes = { .dtype = RQ_DTYPE_S8, .shape = shape, .s8 = (int8_t *)b->mask + shift };
    codes.shape.dim[0] = ROWS - 1; /* room for the shift */
    const rq_strided some = rq_strided_floats(b->x, &codes.shape);
    rq_fq g = f;
    g.n = channels ? ROWS - 1 : 1;
    rq_tensor want_codes = codes;
    want_codes.s8 = (int8_t *)b->want_mask;
    assert_int_equal(rq_fq_quantize(NULL, &want_codes, &some, &g, &err), RQ_OK);
    assert_int_equal(rq_fq_quantize(e, &codes, &some, &g, &err), RQ_OK);
    assert_memory_equal(want_codes.s8, codes.s8, COUNT - COLUMNS);
    static float dscale[2][ROWS], dzero_point[2][ROWS];
    const rq_learned l = { .type = f.type, .axis = f.axis, .n = f.n, .scale = b->scale, .grad_factor = 1 };
    assert_int_equal(rq_learned_quantize_backward(NULL, &want, dscale[0], dzero_point[0], &dy, &x, &l, &err), RQ_OK);
    assert_int_equal(rq_learned_quantize_backward(e, &got, dscale[1], dzero_point[1], &dy, &x, &l, &err), RQ_OK);
    assert_memory_equal(b->want, out, COUNT * sizeof(float));
    assert_memory_equal(dscale[0], dscale[1], (size_t)l.n * sizeof(float));
    assert_memory_equal(dzero_point[0], dzero_point[1], (size_t)l.n * sizeof(float));
}

static void large_tensors_are_as_small_ones(void **state)
{
    (void)state;
    assert_true(COUNT * INT64_C(5) > RQ_FQ_STREAM_BYTES);
    big b = make();
    for (int threads = 1; threads <= 2; threads++) {
        rq_exec *e = NULL;
        assert_int_equal(rq_exec_create(&e, threads, NULL), RQ_OK);
        check(e, &b, threads == 2, threads == 2 ? 3 : 0);
        rq_exec_destroy(e);
    }
    release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_tensors_are_as_small_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
