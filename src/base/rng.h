/* base/rng.h — seeded random numbers, the same on every machine (xoshiro256**, seeded by splitmix64). */
#ifndef RQ_BASE_RNG_H
#define RQ_BASE_RNG_H

#include <stdint.h>

typedef struct rq_rng {
    uint64_t s[4];
} rq_rng;

void rq_rng_seed(rq_rng *r, uint64_t seed);
uint64_t rq_rng_u64(rq_rng *r);
/* Uniform in 0..n-1, n > 0, without bias. */
uint64_t rq_rng_below(rq_rng *r, uint64_t n);
/* Uniform in [0, 1), 24 bits. */
float rq_rng_f32(rq_rng *r);
/* A random order of 0..n-1 (Fisher-Yates). */
void rq_rng_shuffle(rq_rng *r, int64_t *order, int64_t n);

#endif
