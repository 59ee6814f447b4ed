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

/* ---- an LSTM ---- */

/* Units j.. of gate g before its activation. */
INLINE vf gate(const rq_lstm_cell *l, size_t g, size_t j, const size_t n)
{
    const size_t at = g * l->n + j;
    vf v;
    if (l->sum) {
        const vi s = viadd(sums(l->sum + at, n), visplat(l->add));
        v = vreal(visub(s, vimul(visplat(l->zero), sums(l->w_sum + at, n))));
        v = vmul(v, vmul(vsplat(l->row), reals(l->m + at, n)));
    } else {
        v = reals(l->gate + at, n);
    }
    return vadd(v, reals(l->x + at, n));
}

INLINE void lstm_part(const rq_lstm_cell *l, size_t j, const size_t n)
{
    const vf i = vsigmoid(gate(l, 0, j, n)), o = vsigmoid(gate(l, 1, j, n)), f = vsigmoid(gate(l, 2, j, n)),
             z = vtanh(gate(l, 3, j, n)), c = vadd(vmul(f, reals(l->c + j, n)), vmul(i, z));
    put(l->c + j, c, n);
    put(l->h + j, vmul(o, vtanh(c)), n);
}

void JOIN(rq_lstm_cell_, SUFFIX)(const rq_lstm_cell *l)
{
    size_t j = 0;
    for (; j + VEC_WIDTH <= l->n; j += VEC_WIDTH)
        lstm_part(l, j, VEC_WIDTH);
    if (j < l->n)
        lstm_part(l, j, l->n - j);
}
