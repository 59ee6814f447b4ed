/* kernels/sums_tmpl.h — kernels/sums.h, once for every vector width. The including file sets VEC_WIDTH and SUFFIX. What is left behind the last
 * whole vector goes through padded buffers, so that it takes the same instructions. */
#include <string.h>

#include "kernels/sums.h"
#include "kernels/vec_int.h"
#include "kernels/vec_own.h"

#define INLINE static inline __attribute__((always_inline))
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

/* The first n numbers at p, a whole vector where n says so; the others 0. */
INLINE vf reals(const float *p, const size_t n)
{
    if (n == VEC_WIDTH)
        return vload(p);
    float t[VEC_WIDTH] = { 0 };
    memcpy(t, p, n * sizeof *t);
    return vload(t);
}

INLINE vi sums(const int32_t *p, const size_t n)
{
    if (n == VEC_WIDTH)
        return viload(p);
    int32_t t[VEC_WIDTH] = { 0 };
    memcpy(t, p, n * sizeof *t);
    return viload(t);
}

INLINE void put(float *p, vf v, const size_t n)
{
    if (n == VEC_WIDTH) {
        vstore(p, v);
        return;
    }
    float t[VEC_WIDTH];
    vstore(t, v);
    memcpy(p, t, n * sizeof *t);
}

/* ---- rows ---- */

/* Columns j.. of all rows: what is the same for them is read once. */
INLINE void columns_part(const rq_sums_reals *o, const int32_t *c, size_t ldc, size_t rows, size_t j, const size_t n)
{
    const vf m = o->m ? reals(o->m + j, n) : vsplat(1), bias = o->bias ? reals(o->bias + j, n) : m;
    const vi add = o->add ? sums(o->add + j, n) : visplat(0);
    for (size_t i = 0; i < rows; i++) {
        const vi sum = viadd(sums(c + i * ldc + j, n), add);
        vf v = vreal(o->row_add ? viadd(sum, visplat(o->row_add[i])) : sum);
        if (o->row_m && o->in_turn)
            v = vmul(vmul(v, vsplat(o->row_m[i])), m);
        else
            v = vmul(v, o->row_m ? vmul(vsplat(o->row_m[i]), m) : m);
        put(o->y + i * o->ldy + j, o->bias ? vadd(v, bias) : v, n);
    }
}

void JOIN(rq_sums_reals_, SUFFIX)(const rq_sums_reals *o, const int32_t *c, size_t ldc, size_t rows, size_t n)
{
    size_t j = 0;
    for (; j + VEC_WIDTH <= n; j += VEC_WIDTH)
        columns_part(o, c, ldc, rows, j, VEC_WIDTH);
    if (j < n)
        columns_part(o, c, ldc, rows, j, n - j);
}

/* ---- cells ---- */

/* What the state gives to units `at` and on, counted through all gates. */
INLINE vf of_state(const rq_cell_gates *g, size_t at, const size_t n)
{
    if (!g->sum)
        return reals(g->gate + at, n);
    const vi s = viadd(sums(g->sum + at, n), visplat(g->add));
    const vf v = vreal(visub(s, vimul(visplat(g->zero), sums(g->w_sum + at, n))));
    return vmul(v, vmul(vsplat(g->row), reals(g->m + at, n)));
}

/* The same with the input's share. */
INLINE vf gate(const rq_cell_gates *g, size_t at, const size_t n)
{
    return vadd(of_state(g, at, n), reals(g->x + at, n));
}

INLINE void lstm_part(const rq_lstm_cell *l, size_t j, const size_t n)
{
    const vf i = vsigmoid(gate(&l->g, j, n)), o = vsigmoid(gate(&l->g, l->n + j, n)),
             f = vsigmoid(gate(&l->g, 2 * l->n + j, n)), z = vtanh(gate(&l->g, 3 * l->n + j, n)),
             c = vadd(vmul(f, reals(l->c + j, n)), vmul(i, z));
    put(l->c + j, c, n);
    put(l->h + j, vmul(o, vtanh(c)), n);
}

/* (1 - z) k + z h */
INLINE void gru_mix(const rq_gru_cell *c, vf z, vf k, size_t j, const size_t n)
{
    put(c->h + j, vadd(vmul(vsub(vsplat(1), z), k), vmul(z, reals(c->h + j, n))), n);
}

INLINE void gru_part(const rq_gru_cell *c, size_t j, const size_t n)
{
    const size_t at = 2 * c->n + j;
    const vf z = vsigmoid(gate(&c->g, j, n)), r = vsigmoid(gate(&c->g, c->n + j, n)), state = of_state(&c->g, at, n),
             k = c->bias ? vadd(state, reals(c->bias + j, n)) : state;
    gru_mix(c, z, vtanh(vadd(vmul(r, k), reals(c->g.x + at, n))), j, n);
}

INLINE void gru_reset_part(const rq_gru_cell *c, size_t j, const size_t n)
{
    const vf z = vsigmoid(gate(&c->g, j, n)), r = vsigmoid(gate(&c->g, c->n + j, n));
    put(c->z + j, z, n);
    put(c->reset + j, vmul(r, reals(c->h + j, n)), n);
}

INLINE void gru_update_part(const rq_gru_cell *c, size_t j, const size_t n)
{
    gru_mix(c, reals(c->z + j, n), vtanh(gate(&c->g, j, n)), j, n);
}

INLINE void rnn_part(const rq_rnn_cell *c, size_t j, const size_t n)
{
    put(c->h + j, vtanh(gate(&c->g, j, n)), n);
}

void JOIN(rq_lstm_cell_, SUFFIX)(const rq_lstm_cell *c)
{
    size_t j = 0;
    for (; j + VEC_WIDTH <= c->n; j += VEC_WIDTH)
        lstm_part(c, j, VEC_WIDTH);
    if (j < c->n)
        lstm_part(c, j, c->n - j);
}

void JOIN(rq_gru_cell_, SUFFIX)(const rq_gru_cell *c)
{
    size_t j = 0;
    for (; j + VEC_WIDTH <= c->n; j += VEC_WIDTH)
        gru_part(c, j, VEC_WIDTH);
    if (j < c->n)
        gru_part(c, j, c->n - j);
}

void JOIN(rq_gru_reset_, SUFFIX)(const rq_gru_cell *c)
{
    size_t j = 0;
    for (; j + VEC_WIDTH <= c->n; j += VEC_WIDTH)
        gru_reset_part(c, j, VEC_WIDTH);
    if (j < c->n)
        gru_reset_part(c, j, c->n - j);
}

void JOIN(rq_gru_update_, SUFFIX)(const rq_gru_cell *c)
{
    size_t j = 0;
    for (; j + VEC_WIDTH <= c->n; j += VEC_WIDTH)
        gru_update_part(c, j, VEC_WIDTH);
    if (j < c->n)
        gru_update_part(c, j, c->n - j);
}

void JOIN(rq_rnn_cell_, SUFFIX)(const rq_rnn_cell *c)
{
    size_t j = 0;
    for (; j + VEC_WIDTH <= c->n; j += VEC_WIDTH)
        rnn_part(c, j, VEC_WIDTH);
    if (j < c->n)
        rnn_part(c, j, c->n - j);
}
