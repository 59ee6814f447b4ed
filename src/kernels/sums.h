/* kernels/sums.h — sums of integer products that become reals: rows of them, and the gates of recurrent cells, from their sums to the new state in one
 * pass. One template (sums_tmpl.h) at four vector widths; each step is rounded to f32, so all give the same bits. */
#ifndef RQ_KERNELS_SUMS_H
#define RQ_KERNELS_SUMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* y[i * ldy + j] = f32(c[i * ldc + j] + row_add[i] + add[j]) * f32(row_m[i] * m[j]) + bias[j], i < rows and j < n. What is NULL is left out; the sum wraps.
 * in_turn: f32(f32(c + row_add + add) * row_m) * m instead, as two Muls one behind the other round. */
typedef struct rq_sums_reals {
    float *y;
    size_t ldy;
    const int32_t *row_add, *add;
    const float *row_m, *m, *bias;
    bool in_turn;
} rq_sums_reals;
typedef void (*rq_sums_reals_fn)(const rq_sums_reals *o, const int32_t *c, size_t ldc, size_t rows, size_t n);

/* A step of an LSTM of n units; arrays of gates are [4][n] in the order i, o, f, z. What the state gives to gate j is gate[j], or, where it is
 * made by a product of codes (sum not NULL),
 *   f32(sum[j] + add - zero * w_sum[j]) * f32(row * m[j])
 * and x[j] comes on top. Then, with s the sigmoid 1 / (1 + e^-v) and t the hyperbolic tangent, as eltwise.h has them,
 *   c = f32(s(f) c) + f32(s(i) t(z)),  h = s(o) t(c) */
typedef struct rq_lstm_cell {
    size_t n;
    const int32_t *sum, *w_sum;
    int32_t add, zero;
    float row;
    const float *m;
    const float *gate, *x;
    float *h, *c; /* [n] */
} rq_lstm_cell;
typedef void (*rq_lstm_cell_fn)(const rq_lstm_cell *l);

void rq_sums_reals_scalar(const rq_sums_reals *o, const int32_t *c, size_t ldc, size_t rows, size_t n);
void rq_sums_reals_avx2(const rq_sums_reals *o, const int32_t *c, size_t ldc, size_t rows, size_t n);
void rq_sums_reals_avx512(const rq_sums_reals *o, const int32_t *c, size_t ldc, size_t rows, size_t n);
void rq_sums_reals_neon(const rq_sums_reals *o, const int32_t *c, size_t ldc, size_t rows, size_t n);
void rq_lstm_cell_scalar(const rq_lstm_cell *l);
void rq_lstm_cell_avx2(const rq_lstm_cell *l);
void rq_lstm_cell_avx512(const rq_lstm_cell *l);
void rq_lstm_cell_neon(const rq_lstm_cell *l);

#endif
