/* kernels/gemm_avx2.c — the integer tile on AVX2: 4 rows by 16 columns, depth in steps of 2. Compiled with -mavx2.
 *
 * Both sides are widened to s16 (A when it is packed) and multiplied by vpmaddwd, whose pair sum is at most
 * 2 * 128 * 255: nothing saturates. vpmaddubsw would do twice the work per instruction and saturate in the corners
 * (docs/onnx-facts.md 6.4). One register of C holds 8 columns; the pair that vpmaddwd adds is the step of depth. */
#ifdef __AVX2__
#include "kernels/kernels_isa.h"

#include <immintrin.h>
#include <string.h>

enum { MR = 4, LANES = 8, KR = 2, MAX_VECTORS = 2 };

/* One row of C: named parts, not an array, so that no compiler puts them in memory. */
typedef struct row {
    __m256i v0, v1;
} row;

static inline __attribute__((always_inline)) row row_zero(void)
{
    return (row) { _mm256_setzero_si256(), _mm256_setzero_si256() };
}

/* r += the pair of A at a times a step of B */
static inline __attribute__((always_inline)) row row_step(row r, const int16_t *a, row x, const int vectors)
{
    int32_t pair;
    memcpy(&pair, a, sizeof pair);
    const __m256i w = _mm256_set1_epi32(pair);
    r.v0 = _mm256_add_epi32(r.v0, _mm256_madd_epi16(x.v0, w));
    if (vectors > 1)
        r.v1 = _mm256_add_epi32(r.v1, _mm256_madd_epi16(x.v1, w));
    return r;
}

static inline __attribute__((always_inline)) void row_store(int32_t *c, row r, const int vectors)
{
    _mm256_storeu_si256((__m256i *)c, r.v0);
    if (vectors > 1)
        _mm256_storeu_si256((__m256i *)(c + LANES), r.v1);
}

static inline __m256i load(const uint8_t *b)
{
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)b));
}

/* Inlined into one copy per (rows, vectors), so that C stays in registers. */
static inline __attribute__((always_inline)) void tile_of(int32_t *c, size_t ldc, const int16_t *a, const uint8_t *b,
                                                          size_t steps, const int rows, const int vectors)
{
    row r0 = row_zero(), r1 = r0, r2 = r0, r3 = r0;
    for (size_t s = 0; s < steps; s++) {
        row x = row_zero();
        x.v0 = load(b);
        if (vectors > 1)
            x.v1 = load(b + LANES * KR);
        r0 = row_step(r0, a, x, vectors);
        if (rows > 1)
            r1 = row_step(r1, a + KR, x, vectors);
        if (rows > 2) {
            r2 = row_step(r2, a + 2 * KR, x, vectors);
            r3 = row_step(r3, a + 3 * KR, x, vectors);
        }
        a += rows * KR;
        b += vectors * LANES * KR;
    }
    row_store(c, r0, vectors);
    if (rows > 1)
        row_store(c + ldc, r1, vectors);
    if (rows > 2) {
        row_store(c + 2 * ldc, r2, vectors);
        row_store(c + 3 * ldc, r3, vectors);
    }
}

static inline __attribute__((always_inline)) void tile_rows(int32_t *c, size_t ldc, const int16_t *a, const uint8_t *b,
                                                            size_t steps, const int rows, int vectors)
{
    if (vectors == 2)
        tile_of(c, ldc, a, b, steps, rows, 2);
    else
        tile_of(c, ldc, a, b, steps, rows, 1);
}

static void tile(int32_t *c, size_t ldc, const void *a, const uint8_t *b, size_t steps, int rows, int vectors)
{
    if (rows == 4)
        tile_rows(c, ldc, a, b, steps, 4, vectors);
    else if (rows == 2)
        tile_rows(c, ldc, a, b, steps, 2, vectors);
    else
        tile_rows(c, ldc, a, b, steps, 1, vectors);
}

static void interleave(uint8_t *dst, const uint8_t *const *rows, size_t n, uint8_t flip)
{
    const __m128i f = _mm_set1_epi8((char)flip);
    size_t j = 0;
    for (; j + 16 <= n; j += 16) {
        const __m128i r0 = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(rows[0] + j)), f);
        const __m128i r1 = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(rows[1] + j)), f);
        _mm_storeu_si128((__m128i *)(dst + j * KR), _mm_unpacklo_epi8(r0, r1));
        _mm_storeu_si128((__m128i *)(dst + j * KR + 16), _mm_unpackhi_epi8(r0, r1));
    }
    for (; j < n; j++) {
        dst[j * KR] = rows[0][j] ^ flip;
        dst[j * KR + 1] = rows[1][j] ^ flip;
    }
    for (; j % LANES; j++)
        dst[j * KR] = dst[j * KR + 1] = 0;
}

const rq_gemm_isa rq_gemm_avx2 = {
    .mr = MR,
    .lanes = LANES,
    .max_vectors = MAX_VECTORS,
    .kr = KR,
    .a_bytes = 2,
    .tile = tile,
    .interleave = interleave,
};

#endif
