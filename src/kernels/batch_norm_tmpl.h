/* kernels/batch_norm_tmpl.h — kernels/batch_norm.h, once for every vector width. What is left of a run behind its last sixteen elements is
 * padded with what adds nothing. */
#include <string.h>

#include "kernels/batch_norm.h"
#include "kernels/vec.h"

enum { LANES = RQ_BN_LANES, PARTS = LANES / VEC_WIDTH };

static inline __attribute__((always_inline)) void moments_add(vf *a, vf *b, const float *x, vf shift)
{
    for (int p = 0; p < PARTS; p++) {
        const vf d = vsub(vload(x + p * VEC_WIDTH), shift);
        a[p] = vadd(a[p], d);
        b[p] = vadd(b[p], vmul(d, d));
    }
}

static inline __attribute__((always_inline)) void products_add(vf *a, vf *b, const float *dy, const float *x, vf shift)
{
    for (int p = 0; p < PARTS; p++) {
        const vf g = vload(dy + p * VEC_WIDTH);
        a[p] = vadd(a[p], g);
        b[p] = vadd(b[p], vmul(g, vsub(vload(x + p * VEC_WIDTH), shift)));
    }
}

static inline void sums_add(rq_bn_sums *s, const vf *a, const vf *b)
{
    for (int p = 0; p < PARTS; p++) {
        vdstore(s->a + p * VEC_WIDTH, vdadd(vdload(s->a + p * VEC_WIDTH), a[p]));
        vdstore(s->b + p * VEC_WIDTH, vdadd(vdload(s->b + p * VEC_WIDTH), b[p]));
    }
}

static void moments(rq_bn_sums *s, const float *x, size_t n, float shift, size_t ahead)
{
    const vf c = vsplat(shift);
    for (size_t from = 0; from < n; from += RQ_BN_BLOCK) {
        const size_t end = n - from < RQ_BN_BLOCK ? n : from + RQ_BN_BLOCK;
        vf a[PARTS], b[PARTS];
        for (int p = 0; p < PARTS; p++)
            a[p] = b[p] = vsplat(0);
        size_t i = from;
        for (; i + LANES <= end; i += LANES) {
            __builtin_prefetch(x + i + ahead);
            moments_add(a, b, x + i, c);
        }
        if (i < end) {
            float t[LANES];
            for (size_t j = 0; j < LANES; j++)
                t[j] = i + j < end ? x[i + j] : shift;
            moments_add(a, b, t, c);
        }
        sums_add(s, a, b);
    }
}

static void products(rq_bn_sums *s, const float *dy, const float *x, size_t n, float shift, size_t ahead)
{
    const vf c = vsplat(shift);
    for (size_t from = 0; from < n; from += RQ_BN_BLOCK) {
        const size_t end = n - from < RQ_BN_BLOCK ? n : from + RQ_BN_BLOCK;
        vf a[PARTS], b[PARTS];
        for (int p = 0; p < PARTS; p++)
            a[p] = b[p] = vsplat(0);
        size_t i = from;
        for (; i + LANES <= end; i += LANES) {
            __builtin_prefetch(x + i + ahead);
            __builtin_prefetch(dy + i + ahead);
            products_add(a, b, dy + i, x + i, c);
        }
        if (i < end) {
            float t[LANES], g[LANES];
            for (size_t j = 0; j < LANES; j++) {
                t[j] = i + j < end ? x[i + j] : shift;
                g[j] = i + j < end ? dy[i + j] : 0;
            }
            products_add(a, b, g, t, c);
        }
        sums_add(s, a, b);
    }
}

static inline __attribute__((always_inline)) void unfold_add(vf *a, float *y, const float *x, vf k, vf bias)
{
    for (int p = 0; p < PARTS; p++) {
        const vf v = vadd(vdiv(vload(x + p * VEC_WIDTH), k), bias);
        vstore(y + p * VEC_WIDTH, v);
        a[p] = vadd(a[p], v);
    }
}

static void unfold(rq_bn_sums *s, float *y, const float *x, size_t n, float k, float bias, size_t ahead)
{
    const vf by = vsplat(k), more = vsplat(bias);
    for (size_t from = 0; from < n; from += RQ_BN_BLOCK) {
        const size_t end = n - from < RQ_BN_BLOCK ? n : from + RQ_BN_BLOCK;
        vf a[PARTS];
        for (int p = 0; p < PARTS; p++)
            a[p] = vsplat(0);
        size_t i = from;
        for (; i + LANES <= end; i += LANES) {
            __builtin_prefetch(x + i + ahead);
            __builtin_prefetch(y + i + ahead, 1);
            unfold_add(a, y + i, x + i, by, more);
        }
        if (i < end) {
            float t[LANES] = { 0 };
            for (; i < end; i++)
                t[i % LANES] = y[i] = x[i] / k + bias;
            for (int p = 0; p < PARTS; p++)
                a[p] = vadd(a[p], vload(t + p * VEC_WIDTH));
        }
        for (int p = 0; p < PARTS; p++)
            vdstore(s->a + p * VEC_WIDTH, vdadd(vdload(s->a + p * VEC_WIDTH), a[p]));
    }
}

static void apply(float *y, const float *x, size_t n, float shift, float scale, float add)
{
    const vf c = vsplat(shift), m = vsplat(scale), b = vsplat(add);
    size_t i = 0;
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
        vstore(y + i, vadd(vmul(vsub(vload(x + i), c), m), b));
    for (; i < n; i++)
        y[i] = (x[i] - shift) * scale + add;
}

static void grad(float *dx, const float *dy, const float *x, size_t n, float shift, float scale, float mean,
                 float slope)
{
    const vf c = vsplat(shift), m = vsplat(scale), g = vsplat(mean), k = vsplat(slope);
    size_t i = 0;
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
        vstore(dx + i, vmul(m, vsub(vsub(vload(dy + i), g), vmul(k, vsub(vload(x + i), c)))));
    for (; i < n; i++)
        dx[i] = scale * ((dy[i] - mean) - slope * (x[i] - shift));
}

#define NAME_(a, b) a##b
#define NAME(a, b) NAME_(a, b)
const rq_bn_isa
    NAME(rq_bn_, SUFFIX) = { .moments = moments, .unfold = unfold, .products = products, .apply = apply, .grad = grad };
