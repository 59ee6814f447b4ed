/* kernels/dwlast_zmm.h — depthwise rows on AVX-512, blocks of 64 channels and, at the end, of up to 32 on half vectors, the last ones under a mask.
 * Bytes are unpacked twice, which leaves each 128-bit lane with four vectors of its own sixteen channels; packing twice undoes that.
 *
 * The file that includes it says KR (4: s8 weights, one byte unpack and one of words; 2: s16 ones, two byte unpacks) and DOT(width, s, c, w), and
 * gets `taps` and `window`. */
#include <immintrin.h>
#include <string.h>

#define VECTORS 4
#define HELD 12

/* One width: OP(f) names the intrinsic. */
#define DW_OPS(SI)                                                                                                                      \
    static inline VEC NAME(none)(void)                                                                                                  \
    {                                                                                                                                   \
        return OP(setzero_##SI)();                                                                                                      \
    }                                                                                                                                   \
    static inline VEC NAME(nothing)(void)                                                                                               \
    {                                                                                                                                   \
        return OP(setzero_##SI)();                                                                                                      \
    }                                                                                                                                   \
    static inline VEC NAME(load)(const int32_t *p)                                                                                      \
    {                                                                                                                                   \
        return OP(loadu_epi32)(p);                                                                                                      \
    }                                                                                                                                   \
    static inline VEC NAME(fetch)(const uint8_t *p, PART part)                                                                          \
    {                                                                                                                                   \
        return OP(maskz_loadu_epi8)(part, p);                                                                                           \
    }                                                                                                                                   \
    static inline VEC NAME(dot)(VEC s, VEC c, VEC w)                                                                                    \
    {                                                                                                                                   \
        return DOT(OP, s, c, w);                                                                                                        \
    }                                                                                                                                   \
    static inline void NAME(weave)(VEC * c, const VEC *x)                                                                               \
    {                                                                                                                                   \
        const VEC low = OP(unpacklo_epi8)(x[0], x[1]), high = OP(unpackhi_epi8)(x[0], x[1]);                                            \
        const VEC low2 = KR == 4 ? OP(unpacklo_epi8)(x[KR - 2], x[KR - 1]) : NAME(none)(),                                              \
                  high2 = KR == 4 ? OP(unpackhi_epi8)(x[KR - 2], x[KR - 1]) : NAME(none)();                                             \
        c[0] = KR == 4 ? OP(unpacklo_epi16)(low, low2) : OP(unpacklo_epi8)(low, low2);                                                  \
        c[1] = KR == 4 ? OP(unpackhi_epi16)(low, low2) : OP(unpackhi_epi8)(low, low2);                                                  \
        c[2] = KR == 4 ? OP(unpacklo_epi16)(high, high2) : OP(unpacklo_epi8)(high, high2);                                              \
        c[3] = KR == 4 ? OP(unpackhi_epi16)(high, high2) : OP(unpackhi_epi8)(high, high2);                                              \
    }                                                                                                                                   \
    /* rne of the real, no larger than hi - zp: the operand that is NaN passes, and becomes the lowest s32 as what is too small does */ \
    static inline VEC NAME(round)(VEC s, const int32_t *m, int32_t most)                                                                \
    {                                                                                                                                   \
        const VECF v = OP(mul_ps)(OP(cvtepi32_ps)(s), OP(loadu_ps)((const float *)m));                                                  \
        return OP(cvtps_epi32)(OP(min_ps)(OP(set1_ps)((float)most), v));                                                                \
    }                                                                                                                                   \
    static inline void NAME(store)(const rq_dwlast_row *g, uint8_t *y, PART part, const VEC *s, const int32_t *m)                       \
    {                                                                                                                                   \
        const int32_t most = g->hi - g->zp;                                                                                             \
        const VEC zp = OP(set1_epi16)((short)g->zp);                                                                                    \
        const VEC a = OP(packs_epi32)(NAME(round)(s[0], m, most), NAME(round)(s[1], m + LANES, most)),                                  \
                  b = OP(packs_epi32)(NAME(round)(s[2], m + 2 * LANES, most), NAME(round)(s[3], m + 3 * LANES, most));                  \
        const VEC q = OP(packus_epi16)(OP(adds_epi16)(a, zp), OP(adds_epi16)(b, zp));                                                   \
        OP(mask_storeu_epi8)(y, part, OP(max_epu8)(q, OP(set1_epi8)((char)g->lo)));                                                     \
    }

#define NAME(f) f##_512
#define OP(f) _mm512_##f
#define VEC __m512i
#define VECF __m512
#define RAW __m512i
#define PART __mmask64
#define LANES 16
DW_OPS(si512)
#include "kernels/dwlast_tmpl.h"
#undef NAME
#undef OP
#undef VEC
#undef VECF
#undef RAW
#undef PART
#undef LANES

#define NAME(f) f##_256
#define OP(f) _mm256_##f
#define VEC __m256i
#define VECF __m256
#define RAW __m256i
#define PART __mmask32
#define LANES 8
DW_OPS(si256)
#include "kernels/dwlast_tmpl.h"
#undef NAME
#undef OP
#undef VEC
#undef VECF
#undef RAW
#undef PART
#undef LANES

/* All blocks; size 0: tap by tap. */
static void blocks(const rq_dwlast_row *g, int columns, int size, int stride)
{
    const int groups = (g->height + KR - 1) / KR * columns;
    const int32_t *w = g->w, *finish = g->finish;
    for (int64_t at = 0; at < g->channels;) {
        const int64_t left = g->channels - at;
        const int wide = left <= 32 ? 32 : 64;
        const __mmask64 all = left >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;
        if (wide == 64 && size)
            block_window_512(g, at, all, w, finish, size, stride);
        else if (wide == 64)
            block_taps_512(g, at, all, w, finish);
        else if (size)
            block_window_256(g, at, (__mmask32)all, w, finish, size, stride);
        else
            block_taps_256(g, at, (__mmask32)all, w, finish);
        w += (ptrdiff_t)wide * groups;
        finish += g->y ? (ptrdiff_t)wide * 2 : 0;
        at += wide;
    }
}

static void taps(const rq_dwlast_row *g)
{
    blocks(g, 1, 0, 0);
}

static void window(const rq_dwlast_row *g, int size, int stride)
{
    blocks(g, size, size, stride);
}
