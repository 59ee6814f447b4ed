/* kernels/stats_scalar.c — what calibration looks at: smallest and largest element, counts per bin.
 * These loops are the definition; the other files give the same numbers faster. */
#include "kernels/kernels_isa.h"

#include <math.h>

void rq_minmax_scalar(const float *x, size_t n, float *lo, float *hi, size_t *finite)
{
    float least = INFINITY, most = -INFINITY;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (!(fabsf(x[i]) < INFINITY)) /* NaN too */
            continue;
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
        count++;
    }
    *lo = least + 0.0f; /* -0 becomes +0: which zero came first is no result */
    *hi = most + 0.0f;
    *finite = count;
}

void rq_histogram_scalar(uint64_t *h, const rq_bins *b, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = b->take_abs ? fabsf(x[i]) : x[i];
        if (!(v >= b->lo && v <= b->hi)) /* NaN too */
            continue;
        h[rq_bins_at(b, v)]++;
    }
}

double rq_squares_scalar(const float *x, const float *y, size_t n)
{
    double lane[8] = { 0 };
    for (size_t i = 0; i < n; i++) {
        const double d = (double)x[i] - (double)y[i];
        lane[i % 8] += d * d;
    }
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}
