/* kernels/dwlast_ymm.h — depthwise rows on 256 bits, 16 channels at a time, for files that set KR (2: taps widened to s16; 4: s8 weights, bytes woven as
 * they are) and dot(s, c, w). The last block overlaps the one before it; a pixel of less than 16 channels goes through a buffer. Gives `taps` and
 * `window`. */
#include <immintrin.h>
#include <string.h>

#define NAME(f) f
#define VECTORS 2
#define HELD 1
#define LANES 8
#define VEC __m256i
#define PART size_t

static inline __m256i none(void)
{
    return _mm256_setzero_si256();
}

static inline __m256i load(const int32_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

static inline __m128i fetch16(const uint8_t *p, size_t part)
{
    uint8_t x[16] = { 0 };
    if (part == 16)
        return _mm_loadu_si128((const __m128i *)p);
    memcpy(x, p, part);
    return _mm_loadu_si128((const __m128i *)x);
}

#if KR == 2

#define RAW __m256i

static inline __m256i fetch(const uint8_t *p, size_t part)
{
    return _mm256_cvtepu8_epi16(fetch16(p, part));
}

static inline __m256i nothing(void)
{
    return _mm256_setzero_si256();
}

static inline void weave(__m256i *c, const __m256i *x)
{
    c[0] = _mm256_unpacklo_epi16(x[0], x[1]);
    c[1] = _mm256_unpackhi_epi16(x[0], x[1]);
}

#else

#define RAW __m128i

static inline __m128i fetch(const uint8_t *p, size_t part)
{
    return fetch16(p, part);
}

static inline __m128i nothing(void)
{
    return _mm_setzero_si128();
}

/* Eight channels of two taps in each half. */
static inline __m256i pairs_of(__m128i a, __m128i b)
{
    return _mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b));
}

static inline void weave(__m256i *c, const __m128i *x)
{
    const __m256i a = pairs_of(x[0], x[1]), b = pairs_of(x[2], x[3]);
    c[0] = _mm256_unpacklo_epi16(a, b);
    c[1] = _mm256_unpackhi_epi16(a, b);
}

#endif

/* rne of the real, no larger than hi - zp: the operand that is NaN passes, and becomes the lowest s32 as what is too small does */
static inline __m256i round_to(__m256i s, const int32_t *m, int32_t most)
{
    const __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(s), _mm256_loadu_ps((const float *)m));
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps((float)most), v));
}

static inline void store(const rq_dwlast_row *g, uint8_t *y, size_t part, const __m256i *s, const int32_t *m)
{
    const int32_t most = g->hi - g->zp;
    const __m256i q = _mm256_adds_epi16(_mm256_packs_epi32(round_to(s[0], m, most), round_to(s[1], m + LANES, most)),
                                        _mm256_set1_epi16((short)g->zp));
    __m128i b = _mm_packus_epi16(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    b = _mm_max_epu8(b, _mm_set1_epi8((char)g->lo));
    if (part == 16)
        _mm_storeu_si128((__m128i *)y, b);
    else
        memcpy(y, &b, part);
}

#include "kernels/dwlast_tmpl.h"

/* A block; size 0: tap by tap. Once for blocks that are whole, whose loads and stores ask nothing. */
static inline __attribute__((always_inline)) void block(const rq_dwlast_row *g, int64_t first, size_t part,
                                                        const int32_t *w, const int32_t *finish, int size, int stride)
{
    const rq_dwlast_row own = *g; /* which stores of bytes cannot change: what is made of it stays */
    if (size)
        block_window(&own, first, part, w, finish, size, stride);
    else
        block_taps(&own, first, part, w, finish);
}

static __attribute__((noinline)) void whole(const rq_dwlast_row *g, int64_t first, const int32_t *w,
                                            const int32_t *finish, int size, int stride)
{
    block(g, first, 16, w, finish, size, stride);
}

static __attribute__((noinline)) void narrow(const rq_dwlast_row *g, const int32_t *w, const int32_t *finish, int size,
                                             int stride)
{
    block(g, 0, (size_t)g->channels, w, finish, size, stride);
}

static void blocks(const rq_dwlast_row *g, int columns, int size, int stride)
{
    const int groups = (g->height + KR - 1) / KR * columns;
    const int32_t *w = g->w, *finish = g->finish;
    for (int64_t at = 0; at < g->channels; at += 16) {
        if (g->channels < 16)
            narrow(g, w, finish, size, stride);
        else
            whole(g, at + 16 > g->channels ? g->channels - 16 : at, w, finish, size, stride);
        w += (ptrdiff_t)16 * groups;
        finish += g->y ? 32 : 0;
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
