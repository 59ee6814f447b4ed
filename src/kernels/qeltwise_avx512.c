/* kernels/qeltwise_avx512.c — Add and Mul on codes, 16 at a time (Add of two 64, whose codes are packed together), the tail under a mask (and
 * only the tail: masked accesses cost more). Compiled with AVX-512 F, BW, DQ and VL: a quick sum with the multiply-add of VNNI takes 8 % less
 * where nothing but it is done, which is not worth a kernel. */
#include "kernels/kernels_isa.h"

#ifdef __AVX512BW__

#include <immintrin.h>

static inline __mmask16 mask_of(size_t left)
{
    return (__mmask16)((1u << left) - 1);
}

/* The 16 u8 codes of x, flipped, as integers. */
static inline __m512i widen(__m128i x, __m128i flip)
{
    return _mm512_cvtepu8_epi32(_mm_xor_si128(x, flip));
}

/* clamp(rne(v)) as bytes; v is clamped as float first, NaN gives 0 */
static inline __m128i narrow(__m512 v, __m128i flip)
{
    v = _mm512_min_ps(_mm512_max_ps(v, _mm512_setzero_ps()), _mm512_set1_ps(255));
    return _mm_xor_si128(_mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)), flip);
}

typedef struct flips {
    __m128i a, b, y;
} flips;

static inline flips flips_of(uint8_t a, uint8_t b, uint8_t y)
{
    return (flips) { _mm_set1_epi8((char)a), _mm_set1_epi8((char)b), _mm_set1_epi8((char)y) };
}

/* Codes to be of 16 elements. What is above 255 is cut here, what is below 0, and NaN, where they are packed. */
static inline __m512i sum16(const uint8_t *a, const uint8_t *b, const flips *f, __m512 ra, __m512 rb, __m512 k)
{
    const __m512 va = _mm512_cvtepi32_ps(widen(_mm_loadu_si128((const __m128i *)a), f->a)),
                 vb = _mm512_cvtepi32_ps(widen(_mm_loadu_si128((const __m128i *)b), f->b));
    /* of two operands one of which is NaN, min gives the second */
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(255), _mm512_fmadd_ps(va, ra, _mm512_fmadd_ps(vb, rb, k))));
}

static inline __m128i add16(__m128i a, __m128i b, const flips *f, __m512 ra, __m512 rb, __m512 k)
{
    const __m512 sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(widen(b, f->b)), rb, k);
    return narrow(_mm512_fmadd_ps(_mm512_cvtepi32_ps(widen(a, f->a)), ra, sum), f->y);
}

/* The quick form (qeltwise.h). Bytes of a and b are interleaved, then pairs of even and of odd place get a dword each, so that the low
 * words of both join where the codes belong. */
typedef struct quick {
    __m512i w, bits, even, odd, flip_ab, flip_y;
    __m512 step, base;
} quick;

static inline quick quick_of(const rq_qadd *p)
{
    const rq_qadd_quick *q = &p->quick;
    return (quick) {
        _mm512_set1_epi32((int32_t)((uint32_t)(uint16_t)q->wb << 16 | (uint16_t)q->wa)),
        _mm512_set1_epi32(q->bits),
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1)),
        _mm512_broadcast_i32x4(_mm_setr_epi8(2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1)),
        _mm512_set1_epi16((int16_t)(p->flip_b << 8 | p->flip_a)),
        _mm512_set1_epi8((char)p->flip_y),
        _mm512_set1_ps(q->step),
        _mm512_set1_ps(q->base),
    };
}

static inline __m512i quick16(__m512i words, const quick *q)
{
    const __m512i sum = _mm512_add_epi32(_mm512_madd_epi16(words, q->w), q->bits);
    return _mm512_castps_si512(_mm512_fmadd_ps(_mm512_castsi512_ps(sum), q->step, q->base));
}

/* Of 32 interleaved pairs, words that are to be packed. */
static inline __m512i quick32(__m512i ab, const quick *q, const bool flip)
{
    const __m512i pairs = flip ? _mm512_xor_si512(ab, q->flip_ab) : ab;
    const __m512i even = quick16(_mm512_shuffle_epi8(pairs, q->even), q),
                  odd = quick16(_mm512_shuffle_epi8(pairs, q->odd), q);
    return _mm512_mask_mov_epi16(even, 0xaaaaaaaa, _mm512_slli_epi32(odd, 16));
}

static inline __m512i quick64(__m512i a, __m512i b, const quick *q, const bool flip)
{
    const __m512i y =
        _mm512_packus_epi16(quick32(_mm512_unpacklo_epi8(a, b), q, flip), quick32(_mm512_unpackhi_epi8(a, b), q, flip));
    return flip ? _mm512_xor_si512(y, q->flip_y) : y;
}

static inline __attribute__((always_inline)) void add_quickly(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n,
                                                              const rq_qadd *p, const bool flip)
{
    const quick q = quick_of(p);
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        _mm512_storeu_si512(y + i, quick64(_mm512_loadu_si512(a + i), _mm512_loadu_si512(b + i), &q, flip));
    if (i < n) {
        const __mmask64 m = (1ull << (n - i)) - 1;
        const __m512i va = _mm512_maskz_loadu_epi8(m, a + i), vb = _mm512_maskz_loadu_epi8(m, b + i);
        _mm512_mask_storeu_epi8(y + i, m, quick64(va, vb, &q, flip));
    }
}

static void add_as_defined(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qadd *p)
{
    const __m512 ra = _mm512_set1_ps(p->ra), rb = _mm512_set1_ps(p->rb), k = _mm512_set1_ps(p->k);
    const flips f = flips_of(p->flip_a, p->flip_b, p->flip_y);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
                  flip = _mm512_broadcast_i32x4(f.y);
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        const __m512i low = _mm512_packs_epi32(sum16(a + i, b + i, &f, ra, rb, k),
                                               sum16(a + i + 16, b + i + 16, &f, ra, rb, k)),
                      high = _mm512_packs_epi32(sum16(a + i + 32, b + i + 32, &f, ra, rb, k),
                                                sum16(a + i + 48, b + i + 48, &f, ra, rb, k));
        const __m512i q = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high));
        _mm512_storeu_si512(y + i, _mm512_xor_si512(q, flip));
    }
    for (; i + 16 <= n; i += 16) {
        const __m128i va = _mm_loadu_si128((const __m128i *)(a + i)), vb = _mm_loadu_si128((const __m128i *)(b + i));
        _mm_storeu_si128((__m128i *)(y + i), add16(va, vb, &f, ra, rb, k));
    }
    if (i < n) {
        const __mmask16 m = mask_of(n - i);
        const __m128i va = _mm_maskz_loadu_epi8(m, a + i), vb = _mm_maskz_loadu_epi8(m, b + i);
        _mm_mask_storeu_epi8(y + i, m, add16(va, vb, &f, ra, rb, k));
    }
}

void rq_qadd_avx512(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qadd *p)
{
    if (!rq_qadd_is_quick(p))
        add_as_defined(y, a, b, n, p);
    else if (p->flip_a || p->flip_b || p->flip_y)
        add_quickly(y, a, b, n, p, true);
    else
        add_quickly(y, a, b, n, p, false);
}

void rq_qadd_one_avx512(uint8_t *y, const uint8_t *a, size_t n, const rq_qadd *p)
{
    const __m512 ra = _mm512_set1_ps(p->ra), k = _mm512_set1_ps(p->k);
    const flips f = flips_of(p->flip_a, 0, p->flip_y);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m512 va = _mm512_cvtepi32_ps(widen(_mm_loadu_si128((const __m128i *)(a + i)), f.a));
        _mm_storeu_si128((__m128i *)(y + i), narrow(_mm512_fmadd_ps(va, ra, k), f.y));
    }
    if (i < n) {
        const __mmask16 m = mask_of(n - i);
        const __m512 va = _mm512_cvtepi32_ps(widen(_mm_maskz_loadu_epi8(m, a + i), f.a));
        _mm_mask_storeu_epi8(y + i, m, narrow(_mm512_fmadd_ps(va, ra, k), f.y));
    }
}

/* Differences of codes and their products are integers below 2^24: exact as floats. */
static inline __m128i mul16(__m128i a, __m128i b, const flips *f, __m512i za, __m512i zb, __m512 r, __m512 zc)
{
    const __m512 va = _mm512_cvtepi32_ps(_mm512_sub_epi32(widen(a, f->a), za));
    const __m512 vb = _mm512_cvtepi32_ps(_mm512_sub_epi32(widen(b, f->b), zb));
    return narrow(_mm512_add_ps(_mm512_mul_ps(_mm512_mul_ps(va, vb), r), zc), f->y);
}

/* The quick form of a product: differences of codes as words, of which every other is multiplied at a time, and then as sums are. */
typedef struct quick_mul {
    __m512i za, zb, flip_a, flip_b, flip_y;
    __m512 step, base;
} quick_mul;

static inline __m512i product16(__m512i a, __m512i b, const quick_mul *q)
{
    const __m512 product = _mm512_cvtepi32_ps(_mm512_madd_epi16(a, b));
    return _mm512_castps_si512(_mm512_fmadd_ps(product, q->step, q->base));
}

/* Of 32 pairs, widened, words that are to be packed. */
static inline __m512i product32(__m512i a, __m512i b, const quick_mul *q)
{
    const __m512i va = _mm512_sub_epi16(a, q->za), vb = _mm512_sub_epi16(b, q->zb);
    const __m512i even = product16(_mm512_maskz_mov_epi16(0x55555555, va), vb, q),
                  odd = product16(_mm512_maskz_mov_epi16(0xaaaaaaaa, va), vb, q);
    return _mm512_mask_mov_epi16(even, 0xaaaaaaaa, _mm512_slli_epi32(odd, 16));
}

static inline __m512i product64(__m512i a, __m512i b, const quick_mul *q)
{
    const __m512i va = _mm512_xor_si512(a, q->flip_a), vb = _mm512_xor_si512(b, q->flip_b),
                  zero = _mm512_setzero_si512();
    const __m512i low = product32(_mm512_unpacklo_epi8(va, zero), _mm512_unpacklo_epi8(vb, zero), q),
                  high = product32(_mm512_unpackhi_epi8(va, zero), _mm512_unpackhi_epi8(vb, zero), q);
    return _mm512_xor_si512(_mm512_packus_epi16(low, high), q->flip_y);
}

static void mul_quickly(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qmul *p)
{
    const quick_mul q = {
        .za = _mm512_set1_epi16((int16_t)p->za),
        .zb = _mm512_set1_epi16((int16_t)p->zb),
        .flip_a = _mm512_set1_epi8((char)p->flip_a),
        .flip_b = _mm512_set1_epi8((char)p->flip_b),
        .flip_y = _mm512_set1_epi8((char)p->flip_y),
        .step = _mm512_set1_ps(p->step),
        .base = _mm512_set1_ps(0x1.8p23f + p->zc),
    };
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        _mm512_storeu_si512(y + i, product64(_mm512_loadu_si512(a + i), _mm512_loadu_si512(b + i), &q));
    if (i < n) {
        const __mmask64 m = (1ull << (n - i)) - 1;
        const __m512i va = _mm512_maskz_loadu_epi8(m, a + i), vb = _mm512_maskz_loadu_epi8(m, b + i);
        _mm512_mask_storeu_epi8(y + i, m, product64(va, vb, &q));
    }
}

static void mul_as_defined(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qmul *p)
{
    const __m512i za = _mm512_set1_epi32(p->za), zb = _mm512_set1_epi32(p->zb);
    const __m512 r = _mm512_set1_ps(p->r), zc = _mm512_set1_ps(p->zc);
    const flips f = flips_of(p->flip_a, p->flip_b, p->flip_y);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m128i va = _mm_loadu_si128((const __m128i *)(a + i)), vb = _mm_loadu_si128((const __m128i *)(b + i));
        _mm_storeu_si128((__m128i *)(y + i), mul16(va, vb, &f, za, zb, r, zc));
    }
    if (i < n) {
        const __mmask16 m = mask_of(n - i);
        const __m128i va = _mm_maskz_loadu_epi8(m, a + i), vb = _mm_maskz_loadu_epi8(m, b + i);
        _mm_mask_storeu_epi8(y + i, m, mul16(va, vb, &f, za, zb, r, zc));
    }
}

void rq_qmul_avx512(uint8_t *y, const uint8_t *a, const uint8_t *b, size_t n, const rq_qmul *p)
{
    (p->step > 0 ? mul_quickly : mul_as_defined)(y, a, b, n, p);
}

#endif
