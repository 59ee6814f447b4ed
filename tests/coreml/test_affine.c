/* tests/coreml/test_affine.c — linear quantization in blocks, number for number: vectors of the specification (computed with numpy), and the round
 * trips of coremltools' own tests. Packages of coremltools are compared in the golden tests. */
#include <math.h>

#include "coreml/affine.h"
#include "coreml/programs.h"
#include "formats/milblob.h"

enum { MOST = 10 * 20 * 30 * 40 };
static float weight[MOST];
static uint16_t half[MOST];
static uint8_t codes[MOST], packed[MOST];
static float scales[MOST];
static int8_t zps[MOST];

/* Quantize weight[] (rounded to fp16 first, where the type says so) in these blocks; codes[], scales[] and zps[] are filled. */
static rq_coreml_affine run(rq_coreml_affine_type t, int rank, const int64_t *dim, const int64_t *block)
{
    rq_coreml_affine a;
    rq_coreml_affine_fault fault;
    const void *w = weight;
    rq_coreml_affine_init(&a, &t, rank, dim, block);
    assert_true(a.n <= MOST);
    a.scale = scales;
    a.zp = rq_coreml_affine_has_zp(&t) ? zps : NULL;
    for (int64_t i = 0; t.half && i < a.n; i++) {
        half[i] = rq_convert_f32_to_f16(weight[i]);
        weight[i] = rq_convert_f16_to_f32(half[i]);
        w = half;
    }
    OK(rq_coreml_affine_measure(&a, w, false, NULL, &fault, &err));
    assert_int_equal(fault, RQ_COREML_AFFINE_FINE);
    rq_coreml_affine_quantize(&a, w, 0, a.n, codes);
    /* what is written to a file is the same */
    rq_milblob_writer to = { .memory = packed, .left = (uint64_t)(t.nbits == 8 ? a.n : (a.n + 1) / 2) };
    OK(rq_coreml_affine_write(&a, w, false, &to, &err));
    assert_int_equal(to.left, 0);
    for (int64_t i = 0; i < a.n; i++) {
        const int code = t.nbits == 8 ? packed[i] : packed[i / 2] >> i % 2 * 4 & 15;
        assert_int_equal(code, codes[i] & (t.nbits == 8 ? 255 : 15));
    }
    return a;
}

static int code_at(const rq_coreml_affine *a, int64_t i)
{
    return a->type.is_signed ? (int8_t)codes[i] : codes[i];
}

static int zp_at(const rq_coreml_affine *a, int64_t block)
{
    return !a->zp ? 0 : a->type.is_signed ? a->zp[block] : (uint8_t)a->zp[block];
}

/* The block of element i, by the definition: coordinates divided by the block sizes. */
static int64_t block_at(int rank, const int64_t *dim, const int64_t *block, int64_t i)
{
    int64_t coordinate[8], at = 0;
    for (int k = rank - 1; k >= 0; k--) {
        coordinate[k] = i % dim[k];
        i /= dim[k];
    }
    for (int k = 0; k < rank; k++)
        at = block[k] ? at * (dim[k] / block[k]) + coordinate[k] / block[k] : at;
    return at;
}

static void check_round_trip(rq_coreml_affine_type t, int rank, const int64_t *dim, const int64_t *block, double tol)
{
    const rq_coreml_affine a = run(t, rank, dim, block);
    for (int64_t i = 0; i < a.n; i++) {
        const int64_t b = block_at(rank, dim, block, i);
        const double got = (double)scales[b] * (code_at(&a, i) - zp_at(&a, b));
        if (!(fabs(got - (double)weight[i]) <= tol + tol * fabs((double)weight[i])))
            fail_msg("element %lld of block %lld: %f, expected %f", (long long)i, (long long)b, got, (double)weight[i]);
    }
}

static void fill(int64_t n, float lo, float hi)
{
    rq_rng rng;
    rq_rng_seed(&rng, 5);
    for (int64_t i = 0; i < n; i++)
        weight[i] = lo + (hi - lo) * rq_rng_f32(&rng);
}

static const float ranges[][2] = { { -1, 1 }, { -3, -1 }, { 1, 3 }, { 0, 0 }, { 1, 1 }, { -1, -1 } };

/* G1 */
static void channels_come_back(void **state)
{
    (void)state;
    const int64_t dim[] = { 10, 20, 30, 40 };
    for (int axis = 0; axis < 4; axis++)
        for (int form = 0; form < 8; form++)
            for (int r = 0; r < 6; r++) {
                int64_t block[4] = { 0 };
                block[axis] = 1;
                fill(MOST, ranges[r][0], ranges[r][1]);
                check_round_trip((rq_coreml_affine_type) { form & 1, form & 2, form & 4, 8 }, 4, dim, block, 1e-2);
            }
}

/* G2 */
static void blocks_come_back(void **state)
{
    (void)state;
    const int64_t dim[] = { 32, 64 }, sizes[] = { 0, 1, 2, 8, 32 };
    for (int s = 0; s < 5; s++)
        for (int form = 0; form < 16; form++)
            for (int r = 0; r < 5; r++) {
                const int64_t block[] = { 1, sizes[s] };
                const int nbits = form & 8 ? 8 : 4;
                if (ranges[r][0] == 0)
                    continue;
                fill(32 * 64, ranges[r][0], ranges[r][1]);
                check_round_trip((rq_coreml_affine_type) { form & 1, form & 2, form & 4, nbits }, 2, dim, block,
                                 nbits == 8 && sizes[s] && sizes[s] < 3 ? 1e-2 : 0.2);
            }
}

/* G3: numbers that are codes come back, but for a few that are one off. */
static void codes_come_back(void **state)
{
    (void)state;
    const int64_t dim[] = { 32, 64 }, sizes[] = { 1, 2, 8, 32 };
    rq_rng rng;
    rq_rng_seed(&rng, 3);
    for (int s = 0; s < 4; s++)
        for (int form = 0; form < 8; form++) {
            const int64_t block[] = { 1, sizes[s] };
            const int nbits = form & 4 ? 8 : 4, ends = 1 << (nbits - 1);
            const rq_coreml_affine_type t = { form & 1, form & 2, false, nbits };
            int other = 0;
            for (int i = 0; i < 32 * 64; i++)
                weight[i] = (float)((int)rq_rng_below(&rng, (uint64_t)(2 * ends - 2)) - ends + 2);
            const rq_coreml_affine a = run(t, 2, dim, block);
            for (int i = 0; i < 32 * 64; i++) {
                const int64_t b = block_at(2, dim, block, i);
                const float got = rintf(scales[b] * (float)(code_at(&a, i) - zp_at(&a, b)));
                assert_true(fabsf(got - weight[i]) <= 1);
                other += got != weight[i];
            }
            assert_true(other < 32 * 64 * 3 / 100);
        }
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* G4, and appendix A.1, A.2: codes, zero points and the bits of scales. */
static void numbers_are_those_of_numpy(void **state)
{
    (void)state;
    static const float w[] = { 0.5f, -1, 0.25f, 0, 0.1f, 0.2f, 0.3f, 0.4f };
    static const struct {
        int nbits;
        bool is_signed, symmetric;
        int q[8], zp[2];
        uint32_t scale[2];
        uint16_t half[2];
        int first_half; /* q[0] of fp16 weights */
    } cases[] = {
        { 8,
          true,
          true,
          { 64, -127, 32, 0, 32, 64, 95, 127 },
          { 0 },
          { 0x3c010204, 0x3b4e69a0 },
          { 0x2008, 0x1a73 },
          64 },
        { 8,
          true,
          false,
          { 127, -128, 84, 42, -64, 0, 63, 127 },
          { 42, -128 },
          { 0x3bc0c0c1, 0x3acd9a67 },
          { 0x1e06, 0x166c },
          127 },
        { 8,
          false,
          true,
          { 191, 0, 159, 127, 159, 191, 222, 254 },
          { 127, 127 },
          { 0x3c010204, 0x3b4e69a0 },
          { 0x2008, 0x1a73 },
          191 },
        { 8,
          false,
          false,
          { 255, 0, 212, 170, 64, 128, 191, 255 },
          { 170, 0 },
          { 0x3bc0c0c1, 0x3acd9a67 },
          { 0x1e06, 0x166c },
          255 },
        { 4, true, true, { 3, -7, 2, 0, 2, 4, 5, 7 }, { 0 }, { 0x3e124925, 0x3d6a0ea1 }, { 0x3092, 0x2b50 }, 4 },
        { 4, true, false, { 7, -8, 4, 2, -4, 0, 3, 7 }, { 2, -8 }, { 0x3dcccccd, 0x3cda740e }, { 0x2e66, 0x26d3 }, 7 },
        { 4,
          false,
          true,
          { 10, 0, 9, 7, 9, 11, 12, 14 },
          { 7, 7 },
          { 0x3e124925, 0x3d6a0ea1 },
          { 0x3092, 0x2b50 },
          11 },
        { 4,
          false,
          false,
          { 15, 0, 12, 10, 4, 8, 11, 15 },
          { 10, 0 },
          { 0x3dcccccd, 0x3cda740e },
          { 0x2e66, 0x26d3 },
          15 },
    };
    const int64_t dim[] = { 2, 4 }, rows[] = { 1, 0 }, pairs[] = { 1, 2 };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int h = 0; h < 2; h++) {
            memcpy(weight, w, sizeof w);
            const rq_coreml_affine a = run(
                (rq_coreml_affine_type) { cases[i].symmetric, cases[i].is_signed, h, cases[i].nbits }, 2, dim, rows);
            assert_int_equal(a.n_blocks, 2);
            for (int k = 0; k < 8; k++)
                assert_int_equal(code_at(&a, k), k == 0 && h ? cases[i].first_half : cases[i].q[k]);
            for (int k = 0; k < 2; k++) {
                assert_int_equal(zp_at(&a, k), cases[i].zp[k]);
                assert_int_equal(h ? rq_convert_f32_to_f16(scales[k]) : bits_of(scales[k]),
                                 h ? cases[i].half[k] : cases[i].scale[k]);
            }
        }
    static const int q[] = { 3, -7, 7, 0, 4, 7, 5, 7 };
    static const uint32_t s[] = { 0x3e124925, 0x3d124925, 0x3cea0ea1, 0x3d6a0ea1 };
    memcpy(weight, w, sizeof w);
    rq_coreml_affine a = run((rq_coreml_affine_type) { true, true, false, 4 }, 2, dim, pairs);
    for (int k = 0; k < 8; k++)
        assert_int_equal(code_at(&a, k), q[k]);
    for (int k = 0; k < 4; k++)
        assert_int_equal(bits_of(scales[k]), s[k]);
    /* a scale that fp16 has no number for */
    weight[0] = 1e-6f;
    weight[1] = -1e-6f;
    a = run((rq_coreml_affine_type) { true, true, true, 8 }, 1, (const int64_t[]) { 2 }, (const int64_t[]) { 0 });
    assert_true(scales[0] == 0 && code_at(&a, 0) == 127 && code_at(&a, 1) == -127);
    /* rounding before the zero point is added */
    memcpy(weight, (const float[]) { -2, -10, 6, -3 }, 4 * sizeof(float));
    a = run((rq_coreml_affine_type) { false, true, false, 4 }, 1, (const int64_t[]) { 4 }, (const int64_t[]) { 4 });
    assert_true(code_at(&a, 0) == -1 && code_at(&a, 1) == -8 && code_at(&a, 2) == 7 && code_at(&a, 3) == -2);
}

/* 128 * 946 is more than fp16 holds, and so is 127 * 688: coremltools' zero point is infinity less infinity. */
static void wide_halves_keep_their_codes(void **state)
{
    (void)state;
    memcpy(weight, (const float[]) { -688, 946, 344, -516 }, 4 * sizeof(float));
    const rq_coreml_affine a =
        run((rq_coreml_affine_type) { false, true, true, 8 }, 1, (const int64_t[]) { 4 }, (const int64_t[]) { 0 });
    static const int want[] = { -107, 127, 54, -81 }; /* w / 6.40625, without NaN */
    assert_true(scales[0] == 6.40625f && zp_at(&a, 0) == 0);
    for (int k = 0; k < 4; k++)
        assert_int_equal(code_at(&a, k), want[k]);
}

/* G6: how many scales there are, and which have zero points. */
static void scales_are_one_a_block(void **state)
{
    (void)state;
    static const int64_t blocks[][2] = { { 1, 2 }, { 1, 6 }, { 2, 6 } };
    static const int counts[] = { 12, 4, 2 };
    for (int i = 0; i < 3; i++) {
        fill(24, -1, 1);
        const rq_coreml_affine a =
            run((rq_coreml_affine_type) { true, true, false, 8 }, 2, (const int64_t[]) { 4, 6 }, blocks[i]);
        assert_int_equal(a.n_blocks, counts[i]);
    }
    assert_false(rq_coreml_affine_has_zp(&(rq_coreml_affine_type) { true, true, false, 8 }));
    assert_true(rq_coreml_affine_has_zp(&(rq_coreml_affine_type) { true, false, false, 8 }));
    assert_true(rq_coreml_affine_has_zp(&(rq_coreml_affine_type) { false, true, false, 8 }));
}

/* G7 */
static void codes_are_packed(void **state)
{
    (void)state;
    uint8_t out[3], back[5];
    uint64_t bad;
    const uint8_t s[] = { 0xf8, 7, 3, 4, 0xfe }, u[] = { 1, 2, 3, 4, 5 };
    assert_true(rq_mil_dtype_pack(rq_mil_dtype_of_name("int4"), out, s, 5, &bad));
    assert_memory_equal(out, ((uint8_t[]) { 120, 67, 14 }), 3);
    assert_true(rq_mil_dtype_pack(rq_mil_dtype_of_name("uint4"), out, u, 5, &bad));
    assert_memory_equal(out, ((uint8_t[]) { 33, 67, 5 }), 3);
    static const char *const types[] = { "uint1", "uint2", "uint3", "uint4", "int4", "uint6", "uint8", "int8" };
    static const int bits[] = { 1, 2, 3, 4, 3, 6, 8, 7 }; /* that are not a sign */
    for (int t = 0; t < 6; t++)
        for (int n = 1; n <= 5; n++) {
            uint8_t in[5], packed_codes[5];
            for (int i = 0; i < n; i++)
                in[i] = (uint8_t)(i * 37 % (1 << bits[t]));
            const rq_mil_dtype *d = rq_mil_dtype_of_name(types[t]);
            assert_true(rq_mil_dtype_pack(d, packed_codes, in, (uint64_t)n, &bad));
            rq_mil_dtype_unpack(d, back, packed_codes, (uint64_t)n);
            assert_memory_equal(in, back, n);
        }
}

/* Zeros, infinities, NaN, and blocks that lie across the pieces that threads do: the same as one element after another. */
static void zeros_infinities_and_threads(void **state)
{
    (void)state;
    const int64_t dim[] = { 3, 70000 };
    rq_coreml_affine_fault fault;
    rq_threads *t;
    rq_kernels kernels;
    OK(rq_threads_create(&t, 3));
    rq_kernels_init(&kernels, 0);
    fill(210000, -1, 1);
    memset(weight + 70000, 0, 70000 * sizeof(float));
    rq_coreml_affine a = run((rq_coreml_affine_type) { false, true, false, 8 }, 2, dim, (const int64_t[]) { 1, 0 });
    float one[3];
    memcpy(one, scales, sizeof one);
    assert_true(one[1] == 0 && zps[1] == 0);
    for (int i = 70000; i < 140000; i++)
        assert_int_equal(codes[i], 0);
    OK(rq_coreml_affine_measure(&a, weight, false, t, &fault, &err));
    assert_memory_equal(one, scales, sizeof one);
    for (int i = 0; i < 3; i++) {
        float lo = 0, hi = 0;
        int8_t zp;
        for (int k = 0; k < 70000; k++) {
            lo = fminf(lo, weight[i * 70000 + k]);
            hi = fmaxf(hi, weight[i * 70000 + k]);
        }
        rq_coreml_affine_params(&kernels, &a.type, 1, &lo, &hi, &one[i], &zp);
        assert_true(one[i] == scales[i]);
    }
    for (int i = 0; i < 4; i++) { /* the scale of zeros is 0, not -0 */
        rq_coreml_affine_type t0 = { i % 2, true, i / 2, 8 };
        const float nothing[] = { 0, -0.0f };
        for (int k = 0; k < 4; k++) {
            float scale = 1;
            int8_t zp = 1;
            rq_coreml_affine_params(&kernels, &t0, 1, &nothing[k / 2], &nothing[k % 2], &scale,
                                    t0.symmetric ? NULL : &zp);
            assert_true(scale == 0 && !signbit(scale));
            assert_int_equal(zp, t0.symmetric);
        }
    }
    weight[139999] = INFINITY;
    OK(rq_coreml_affine_measure(&a, weight, false, t, &fault, &err));
    assert_int_equal(fault, RQ_COREML_AFFINE_INF);
    weight[139999] = NAN;
    OK(rq_coreml_affine_measure(&a, weight, false, t, &fault, &err));
    assert_int_equal(fault, RQ_COREML_AFFINE_NAN);
    rq_threads_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(channels_come_back),
        cmocka_unit_test(blocks_come_back),
        cmocka_unit_test(codes_come_back),
        cmocka_unit_test(numbers_are_those_of_numpy),
        cmocka_unit_test(wide_halves_keep_their_codes),
        cmocka_unit_test(scales_are_one_a_block),
        cmocka_unit_test(codes_are_packed),
        cmocka_unit_test(zeros_infinities_and_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
