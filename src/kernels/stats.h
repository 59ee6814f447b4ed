/* kernels/stats.h — the stats family per instruction set; reached through rq_kernels only. */
#ifndef RQ_KERNELS_STATS_H
#define RQ_KERNELS_STATS_H

#include "kernels/kernels.h"

void rq_minmax_scalar(const float *x, size_t n, float *lo, float *hi, size_t *finite);
void rq_histogram_scalar(uint64_t *h, const rq_bins *b, const float *x, size_t n);

void rq_minmax_avx2(const float *x, size_t n, float *lo, float *hi, size_t *finite);
void rq_histogram_avx2(uint64_t *h, const rq_bins *b, const float *x, size_t n);

void rq_minmax_avx512(const float *x, size_t n, float *lo, float *hi, size_t *finite);
void rq_histogram_avx512(uint64_t *h, const rq_bins *b, const float *x, size_t n);

#endif
