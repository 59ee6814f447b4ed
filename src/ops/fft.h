/* ops/fft.h — discrete Fourier transforms of any length, in double. */
#ifndef RQ_OPS_FFT_H
#define RQ_OPS_FFT_H

#include <stdbool.h>
#include <stdint.h>

#include "requant/status.h"

typedef struct rq_fft rq_fft;

/* Get ready for transforms of length n >= 1. RQ_NO_MEMORY (also where n is beyond any memory). */
rq_status rq_fft_create(rq_fft **out, int64_t n);
void rq_fft_destroy(rq_fft *f); /* NULL is fine */
/* x [n][2], real and imaginary parts, becomes sum over t of x[t] e^(-2 pi i k t / n); `inverse`: e^(+...), divided by n.
 * Uses scratch of f: one thread at a time. The same bits on every machine. */
void rq_fft_run(rq_fft *f, double *x, bool inverse);

#endif
