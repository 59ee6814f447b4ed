/* kernels/pool8.h — what pools over channels-last codes do: vectors run over channels, each tap is a row of bytes. Scalar versions are the definition. */
#ifndef RQ_KERNELS_POOL8_H
#define RQ_KERNELS_POOL8_H

#include <stddef.h>
#include <stdint.h>

/* An average as ONNX Runtime makes it (docs/onnx-facts.md 6.3): reals added in the order of the taps, the zero point inside the rounding. */
typedef struct rq_pool8_mean {
    float scale; /* of x */
    int32_t zero;
    float count; /* what the sum is divided by */
    float y_scale, y_zero;
} rq_pool8_mean;

typedef struct rq_pool8_isa {
    /* y[i] = the largest x[t][i], t < taps (1 or more), i < n */
    void (*max)(uint8_t *y, const uint8_t *const *x, size_t taps, size_t n);
    /* y[i] = clamp(rne(f32(sum over t of (x[t][i] - zero) * scale) / count / y_scale + y_zero)) to 0..255; every step is rounded to f32 */
    void (*mean)(uint8_t *y, const uint8_t *const *x, size_t taps, size_t n, const rq_pool8_mean *p);
    /* sum[i] += x[r * pitch + i], r < rows, i < n; modulo 2^32 */
    void (*sum)(uint32_t *sum, const uint8_t *x, size_t pitch, size_t rows, size_t n);
} rq_pool8_isa;

#endif
