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

/* What goes into the activations of the gates of a recurrent cell of n units; arrays are [gates][n]. What the state gives to gate j is gate[j], or, where it is
 * made by a product of codes (sum not NULL),
 *   f32(sum[j] + add - zero * w_sum[j]) * f32(row * m[j])
 * and x[j], the input's share, comes on top. */
typedef struct rq_cell_gates {
    const int32_t *sum, *w_sum;
    int32_t add, zero;
    float row;
    const float *m;
    const float *gate, *x;
} rq_cell_gates;

/* A step of an LSTM of n units, gates in the order i, o, f, z. With s the sigmoid 1 / (1 + e^-v) and t the hyperbolic tangent, as eltwise.h has them,
 *   c = f32(s(f) c) + f32(s(i) t(z)),  h = s(o) t(c) */
typedef struct rq_lstm_cell {
    size_t n;
    rq_cell_gates g;
    float *h, *c; /* [n] */
} rq_lstm_cell;
typedef void (*rq_lstm_cell_fn)(const rq_lstm_cell *l);

/* A step of a GRU of n units, gates in the order z, r, k.
 *   gru_cell    k's share of the state is reset: h = (1 - s(z)) t(s(r) (k + bias) + x) + s(z) h, x being the input's share of k
 * or the state is, in two halves, with the product of the reset one between them:
 *   gru_reset   gates z and r: z = s(z), reset = s(r) h
 *   gru_update  one gate, k: h = (1 - z) t(k) + z h */
typedef struct rq_gru_cell {
    size_t n;
    rq_cell_gates g;
    const float *bias; /* [n], or NULL: gru_cell */
    float *h;          /* [n] */
    float *z, *reset;  /* [n]: gru_reset, gru_update */
} rq_gru_cell;
typedef void (*rq_gru_cell_fn)(const rq_gru_cell *c);

/* A step of n units with a hyperbolic tangent each. */
typedef struct rq_rnn_cell {
    size_t n;
    rq_cell_gates g;
    float *h; /* [n] */
} rq_rnn_cell;
typedef void (*rq_rnn_cell_fn)(const rq_rnn_cell *c);

#define RQ_SUMS_KERNELS(level)                                                                                         \
    void rq_sums_reals_##level(const rq_sums_reals *o, const int32_t *c, size_t ldc, size_t rows, size_t n);           \
    void rq_lstm_cell_##level(const rq_lstm_cell *l);                                                                  \
    void rq_gru_cell_##level(const rq_gru_cell *c);                                                                    \
    void rq_gru_reset_##level(const rq_gru_cell *c);                                                                   \
    void rq_gru_update_##level(const rq_gru_cell *c);                                                                  \
    void rq_rnn_cell_##level(const rq_rnn_cell *c);
RQ_SUMS_KERNELS(scalar)
RQ_SUMS_KERNELS(avx2)
RQ_SUMS_KERNELS(avx512)
RQ_SUMS_KERNELS(neon)
#undef RQ_SUMS_KERNELS

#endif
