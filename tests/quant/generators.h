/* quant/generators.h — data that any language can make: docs/calibration-facts.md 0. */
#ifndef RQ_TESTS_GENERATORS_H
#define RQ_TESTS_GENERATORS_H

#include <stdint.h>
#include <stdlib.h>

static inline uint32_t gen_lcg(uint32_t *x)
{
    return *x = 1664525u * *x + 1013904223u;
}

/* U(seed, n): uniform in [0, 1). */
static inline void gen_u(float *v, int64_t n, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)(gen_lcg(&seed) >> 8) / 16777216;
}

static inline int gen_bell(uint32_t *seed)
{
    int s = 0;
    for (int j = 0; j < 4; j++)
        s += (int)(gen_lcg(seed) >> 16);
    return s - 131070;
}

/* B(seed, n): a bell within [-2, 2]. */
static inline void gen_b(float *v, int64_t n, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)gen_bell(&seed) / 65536;
}

/* T(seed, n): a heavy tail. */
static inline void gen_t(float *v, int64_t n, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        const int k = gen_bell(&seed);
        v[i] = (float)((double)k * abs(k) / 4294967296.0);
    }
}

/* O(a): elements 1023, 2047 ... times 8. */
static inline void gen_o(float *v, int64_t n)
{
    for (int64_t i = 1023; i < n; i += 1024)
        v[i] *= 8;
}

/* R(a): max(a, 0). */
static inline void gen_r(float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        v[i] = v[i] > 0 ? v[i] : 0;
}

/* ramp(n): i / 128. */
static inline void gen_ramp(float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)i / 128;
}

/* torch-facts 4.5: R(n, lo, hi), n numbers from lo to hi in equal steps; L, uniform in [lo, hi); G, nearly normal. */
static inline void gen_steps(float *v, int64_t n, double lo, double hi)
{
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)(lo + (hi - lo) * (double)i / (double)(n - 1));
}

static inline double gen_draw(uint32_t *seed)
{
    return (double)(gen_lcg(seed) >> 8) / 16777216;
}

static inline void gen_l(float *v, int64_t n, uint32_t seed, double lo, double hi)
{
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)(lo + (hi - lo) * gen_draw(&seed));
}

static inline void gen_g(float *v, int64_t n, uint32_t seed, double k)
{
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int j = 0; j < 12; j++)
            sum += gen_draw(&seed);
        v[i] = (float)((sum - 6) * k);
    }
}

#endif
