/* kernels/relayout_avx2.c — bytes turned from rows to columns. Where a byte stands is one number, its register's above its place in that; taking
 * register i and the one half of them further by turns moves the number's bits one to the left, top bit to the bottom, and so often
 * enough the row's bits stand where the column's did. Edges are done by blocks that overlap. Compiled with -mavx2. */
#include "kernels/kernels_isa.h"

#ifdef __AVX2__

#include <immintrin.h>

/* One step of the above, of n registers of 16 bytes (or pairs of such). */
#define SHUFFLE(type, prefix, n, t)                                                                                    \
    do {                                                                                                               \
        type u_[n];                                                                                                    \
        for (int i_ = 0; i_ < (n) / 2; i_++) {                                                                         \
            u_[2 * i_] = prefix##_unpacklo_epi8((t)[i_], (t)[i_ + (n) / 2]);                                           \
            u_[2 * i_ + 1] = prefix##_unpackhi_epi8((t)[i_], (t)[i_ + (n) / 2]);                                       \
        }                                                                                                              \
        for (int i_ = 0; i_ < (n); i_++)                                                                               \
            (t)[i_] = u_[i_];                                                                                          \
    } while (0)

/* 16 rows of 32 */
static void block_16_32(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, __m256i flip)
{
    __m256i t[16];
    for (int i = 0; i < 16; i++)
        t[i] = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(x + (size_t)i * ldx)), flip);
    for (int step = 0; step < 4; step++)
        SHUFFLE(__m256i, _mm256, 16, t);
    for (int i = 0; i < 16; i++) {
        _mm_storeu_si128((__m128i *)(y + (size_t)i * ldy), _mm256_castsi256_si128(t[i]));
        _mm_storeu_si128((__m128i *)(y + (size_t)(i + 16) * ldy), _mm256_extracti128_si256(t[i], 1));
    }
}

static void block_16_16(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, __m128i flip)
{
    __m128i t[16];
    for (int i = 0; i < 16; i++)
        t[i] = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(x + (size_t)i * ldx)), flip);
    for (int step = 0; step < 4; step++)
        SHUFFLE(__m128i, _mm, 16, t);
    for (int i = 0; i < 16; i++)
        _mm_storeu_si128((__m128i *)(y + (size_t)i * ldy), t[i]);
}

/* 8 rows of 16 */
static void block_8_16(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, __m128i flip)
{
    __m128i t[8];
    for (int i = 0; i < 8; i++)
        t[i] = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(x + (size_t)i * ldx)), flip);
    for (int step = 0; step < 3; step++)
        SHUFFLE(__m128i, _mm, 8, t);
    for (int i = 0; i < 8; i++) {
        _mm_storel_epi64((__m128i *)(y + (size_t)(2 * i) * ldy), t[i]);
        _mm_storel_epi64((__m128i *)(y + (size_t)(2 * i + 1) * ldy), _mm_unpackhi_epi64(t[i], t[i]));
    }
}

static void store4(uint8_t *y, int v)
{
    _mm_storeu_si32(y, _mm_cvtsi32_si128(v));
}

/* 4 rows of 16 */
static void block_4_16(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, __m128i flip)
{
    __m128i t[4];
    for (int i = 0; i < 4; i++)
        t[i] = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(x + (size_t)i * ldx)), flip);
    for (int step = 0; step < 2; step++)
        SHUFFLE(__m128i, _mm, 4, t);
    for (int i = 0; i < 4; i++, y += 4 * ldy) {
        if (ldy == 4) {
            _mm_storeu_si128((__m128i *)y, t[i]);
            continue;
        }
        store4(y, _mm_extract_epi32(t[i], 0));
        store4(y + ldy, _mm_extract_epi32(t[i], 1));
        store4(y + 2 * ldy, _mm_extract_epi32(t[i], 2));
        store4(y + 3 * ldy, _mm_extract_epi32(t[i], 3));
    }
}

/* 16 rows of 8: two rows per register, so that a row's lowest bit is the top one of a place */
static void block_16_8(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, __m128i flip)
{
    __m128i t[8];
    for (int i = 0; i < 8; i++) {
        const uint8_t *row = x + (size_t)(2 * i) * ldx;
        t[i] = _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i *)row), _mm_loadl_epi64((const __m128i *)(row + ldx)));
        t[i] = _mm_xor_si128(t[i], flip);
    }
    for (int step = 0; step < 4; step++)
        SHUFFLE(__m128i, _mm, 8, t);
    for (int i = 0; i < 8; i++)
        _mm_storeu_si128((__m128i *)(y + (size_t)i * ldy), t[i]);
}

/* 16 rows of 4 */
static void block_16_4(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, __m128i flip)
{
    __m128i t[4];
    for (int i = 0; i < 4; i++, x += 4 * ldx) {
        if (ldx == 4)
            t[i] = _mm_loadu_si128((const __m128i *)x);
        else
            t[i] = _mm_unpacklo_epi64(_mm_unpacklo_epi32(_mm_loadu_si32(x), _mm_loadu_si32(x + ldx)),
                                      _mm_unpacklo_epi32(_mm_loadu_si32(x + 2 * ldx), _mm_loadu_si32(x + 3 * ldx)));
        t[i] = _mm_xor_si128(t[i], flip);
    }
    for (int step = 0; step < 4; step++)
        SHUFFLE(__m128i, _mm, 4, t);
    for (int i = 0; i < 4; i++)
        _mm_storeu_si128((__m128i *)(y + (size_t)i * ldy), t[i]);
}

#define O (-1) /* gives 0 */

/* 3 rows of 16 to 48 bytes that lie together */
static void block_3_16(uint8_t *y, const uint8_t *x, size_t ldx, __m128i flip)
{
    const __m128i a = _mm_loadu_si128((const __m128i *)x), b = _mm_loadu_si128((const __m128i *)(x + ldx)),
                  c = _mm_loadu_si128((const __m128i *)(x + 2 * ldx));
    const __m128i put[3][3] = {
        { _mm_setr_epi8(0, O, O, 1, O, O, 2, O, O, 3, O, O, 4, O, O, 5),
          _mm_setr_epi8(O, 0, O, O, 1, O, O, 2, O, O, 3, O, O, 4, O, O),
          _mm_setr_epi8(O, O, 0, O, O, 1, O, O, 2, O, O, 3, O, O, 4, O) },
        { _mm_setr_epi8(O, O, 6, O, O, 7, O, O, 8, O, O, 9, O, O, 10, O),
          _mm_setr_epi8(5, O, O, 6, O, O, 7, O, O, 8, O, O, 9, O, O, 10),
          _mm_setr_epi8(O, 5, O, O, 6, O, O, 7, O, O, 8, O, O, 9, O, O) },
        { _mm_setr_epi8(O, 11, O, O, 12, O, O, 13, O, O, 14, O, O, 15, O, O),
          _mm_setr_epi8(O, O, 11, O, O, 12, O, O, 13, O, O, 14, O, O, 15, O),
          _mm_setr_epi8(10, O, O, 11, O, O, 12, O, O, 13, O, O, 14, O, O, 15) },
    };
    for (int i = 0; i < 3; i++) {
        const __m128i v = _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(a, put[i][0]), _mm_shuffle_epi8(b, put[i][1])),
                                       _mm_shuffle_epi8(c, put[i][2]));
        _mm_storeu_si128((__m128i *)(y + 16 * i), _mm_xor_si128(v, flip));
    }
}

/* 16 rows of 3 that lie together */
static void block_16_3(uint8_t *y, size_t ldy, const uint8_t *x, __m128i flip)
{
    const __m128i a = _mm_loadu_si128((const __m128i *)x), b = _mm_loadu_si128((const __m128i *)(x + 16)),
                  c = _mm_loadu_si128((const __m128i *)(x + 32));
    const __m128i get[3][3] = {
        { _mm_setr_epi8(0, 3, 6, 9, 12, 15, O, O, O, O, O, O, O, O, O, O),
          _mm_setr_epi8(O, O, O, O, O, O, 2, 5, 8, 11, 14, O, O, O, O, O),
          _mm_setr_epi8(O, O, O, O, O, O, O, O, O, O, O, 1, 4, 7, 10, 13) },
        { _mm_setr_epi8(1, 4, 7, 10, 13, O, O, O, O, O, O, O, O, O, O, O),
          _mm_setr_epi8(O, O, O, O, O, 0, 3, 6, 9, 12, 15, O, O, O, O, O),
          _mm_setr_epi8(O, O, O, O, O, O, O, O, O, O, O, 2, 5, 8, 11, 14) },
        { _mm_setr_epi8(2, 5, 8, 11, 14, O, O, O, O, O, O, O, O, O, O, O),
          _mm_setr_epi8(O, O, O, O, O, 1, 4, 7, 10, 13, O, O, O, O, O, O),
          _mm_setr_epi8(O, O, O, O, O, O, O, O, O, O, 0, 3, 6, 9, 12, 15) },
    };
    for (int i = 0; i < 3; i++) {
        const __m128i v = _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(a, get[i][0]), _mm_shuffle_epi8(b, get[i][1])),
                                       _mm_shuffle_epi8(c, get[i][2]));
        _mm_storeu_si128((__m128i *)(y + (size_t)i * ldy), _mm_xor_si128(v, flip));
    }
}
#undef O

/* n bytes that stay in their order */
static void row_of(uint8_t *y, const uint8_t *x, size_t n, __m128i flip)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm_storeu_si128((__m128i *)(y + i), _mm_xor_si128(_mm_loadu_si128((const __m128i *)(x + i)), flip));
    for (; i < n; i++)
        y[i] = x[i] ^ (uint8_t)_mm_cvtsi128_si32(flip);
}

/* The start of the block behind the one at i, of `step` each: the last one ends at n, which is n - step or more. */
static size_t next_block(size_t i, size_t step, size_t n)
{
    i += step;
    return i >= n || i + step <= n ? i : n - step;
}

/* 16 rows and more, 4 columns and more */
static void tall(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, size_t rows, size_t cols, __m128i flip)
{
    const __m256i flips = _mm256_broadcastsi128_si256(flip);
    for (size_t i = 0; i < rows; i = next_block(i, 16, rows)) {
        const uint8_t *from = x + i * ldx;
        size_t j = 0;
        for (; j + 32 <= cols; j += 32)
            block_16_32(y + j * ldy + i, ldy, from + j, ldx, flips);
        if (cols >= 16)
            for (; j < cols; j = next_block(j, 16, cols)) {
                j = j + 16 <= cols ? j : cols - 16;
                block_16_16(y + j * ldy + i, ldy, from + j, ldx, flip);
            }
        else if (cols >= 8)
            for (; j < cols; j = next_block(j, 8, cols))
                block_16_8(y + j * ldy + i, ldy, from + j, ldx, flip);
        else
            for (; j < cols; j = next_block(j, 4, cols))
                block_16_4(y + j * ldy + i, ldy, from + j, ldx, flip);
    }
}

/* 4 to 15 rows, 16 columns and more */
static void flat(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, size_t rows, size_t cols, __m128i flip)
{
    for (size_t j = 0; j < cols; j = next_block(j, 16, cols))
        if (rows >= 8)
            for (size_t i = 0; i < rows; i = next_block(i, 8, rows))
                block_8_16(y + j * ldy + i, ldy, x + i * ldx + j, ldx, flip);
        else
            for (size_t i = 0; i < rows; i = next_block(i, 4, rows))
                block_4_16(y + j * ldy + i, ldy, x + i * ldx + j, ldx, flip);
}

void rq_transpose8_avx2(uint8_t *y, size_t ldy, const uint8_t *x, size_t ldx, size_t rows, size_t cols, uint8_t flip)
{
    const __m128i flips = _mm_set1_epi8((char)flip);
    if (rows == 1 && ldy == 1)
        row_of(y, x, cols, flips);
    else if (cols == 1 && ldx == 1)
        row_of(y, x, rows, flips);
    else if (rows >= 16 && cols >= 4)
        tall(y, ldy, x, ldx, rows, cols, flips);
    else if (rows >= 4 && cols >= 16)
        flat(y, ldy, x, ldx, rows, cols, flips);
    else if (rows == 3 && ldy == 3 && cols >= 16)
        for (size_t j = 0; j < cols; j = next_block(j, 16, cols))
            block_3_16(y + 3 * j, x + j, ldx, flips);
    else if (cols == 3 && ldx == 3 && rows >= 16)
        for (size_t i = 0; i < rows; i = next_block(i, 16, rows))
            block_16_3(y + i, ldy, x + 3 * i, flips);
    else
        for (size_t j = 0; j < cols; j++)
            for (size_t i = 0; i < rows; i++)
                y[j * ldy + i] = x[i * ldx + j] ^ flip;
}

#endif
