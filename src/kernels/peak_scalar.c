/* kernels/peak_scalar.c — one multiply-add at a time. */
#include "kernels/kernels_isa.h"

#if RQ_X86
#define FLOATS "x"
#elif RQ_ARM64
#define FLOATS "w"
#else
#define FLOATS "m"
#endif

enum { SUMS = 8 };

double rq_peak_int_scalar(int64_t steps)
{
    int32_t sum[SUMS] = { 0 }, a = 3, b = 5;
    for (int64_t s = 0; s < steps; s++)
        for (int i = 0; i < SUMS; i++) {
            RQ_PEAK_OPAQUE("r", a);
            sum[i] += a * b;
            RQ_PEAK_OPAQUE("r", sum[i]);
        }
    return (double)steps * SUMS;
}

double rq_peak_f32_scalar(int64_t steps)
{
    float sum[SUMS] = { 0 }, a = 3, b = 5;
    for (int64_t s = 0; s < steps; s++)
        for (int i = 0; i < SUMS; i++) {
            RQ_PEAK_OPAQUE(FLOATS, a);
            sum[i] += a * b;
            RQ_PEAK_OPAQUE(FLOATS, sum[i]);
        }
    return (double)steps * SUMS;
}
