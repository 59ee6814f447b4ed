/* kernels/reduce_tmpl.h — the lane tree of kernels/reduce.h, once for every vector width.
 *
 * Sixteen lanes live in 16, 2 or 1 vectors. The last n % 16 elements are padded with a value whose contribution
 * is neutral, which every width does alike. */
#include <math.h>

#include "kernels/reduce.h"
#include "kernels/vec.h"
#include "kernels/vec_own.h"

enum { LANES = 16, PARTS = LANES / VEC_WIDTH };

typedef vf (*term_v)(vf x, vf c); /* what an element contributes */
typedef vf (*join_v)(vf a, vf b); /* how contributions meet */

static inline vf same_v(vf x, vf c)
{
    return x;
}

static inline vf abs_v(vf x, vf c)
{
    return vabs(x);
}

static inline vf square_v(vf x, vf c)
{
    const vf d = vsub(x, c);
    return vmul(d, d);
}

static inline vf exp_v(vf x, vf c)
{
    return vexp(vsub(x, c));
}

/* pad: an element that contributes nothing. y: where the contributions are stored, or NULL. */
static inline __attribute__((always_inline)) real fold_loop(real *y, const real *x, size_t n, real c, real neutral,
                                                            real pad, term_v term, join_v join)
{
    const vf vc = vsplat(c);
    vf acc[PARTS];
    for (int p = 0; p < PARTS; p++)
        acc[p] = vsplat(neutral);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int p = 0; p < PARTS; p++) {
            const vf t = term(vload(x + i + p * VEC_WIDTH), vc);
            if (y)
                vstore(y + i + p * VEC_WIDTH, t);
            acc[p] = join(acc[p], t);
        }
    if (i < n) {
        real tail[LANES];
        for (size_t j = 0; j < LANES; j++)
            tail[j] = i + j < n ? x[i + j] : pad;
        for (int p = 0; p < PARTS; p++) {
            const vf t = term(vload(tail + p * VEC_WIDTH), vc);
            vstore(tail + p * VEC_WIDTH, t);
            acc[p] = join(acc[p], t);
        }
        if (y)
            memcpy(y + i, tail, (n - i) * sizeof *y);
    }
    /* lanes `apart` from each other, across vectors and then within one, whose lanes behind the first `apart` do not count */
    for (int apart = PARTS / 2; apart; apart /= 2)
        for (int p = 0; p < apart; p++)
            acc[p] = join(acc[p], acc[p + apart]);
#pragma GCC unroll 4
    for (int apart = VEC_WIDTH / 2; apart; apart /= 2)
        acc[0] = join(acc[0], vflip(acc[0], apart));
    real lane[VEC_WIDTH];
    vstore(lane, acc[0]);
    return lane[0];
}

static real fold_sum(const real *x, size_t n, real c)
{
    return fold_loop(NULL, x, n, c, 0, 0, same_v, vadd);
}

static real fold_abs(const real *x, size_t n, real c)
{
    return fold_loop(NULL, x, n, c, 0, 0, abs_v, vadd);
}

static real fold_square(const real *x, size_t n, real c)
{
    return fold_loop(NULL, x, n, c, 0, c, square_v, vadd);
}

static real fold_exp(const real *x, size_t n, real c)
{
    return fold_loop(NULL, x, n, c, 0, -INFINITY, exp_v, vadd);
}

static real fold_max(const real *x, size_t n, real c)
{
    return fold_loop(NULL, x, n, c, -INFINITY, -INFINITY, same_v, vmax);
}

static real fold_min(const real *x, size_t n, real c)
{
    return fold_loop(NULL, x, n, c, INFINITY, INFINITY, same_v, vmin);
}

static real fold_prod(const real *x, size_t n, real c)
{
    return fold_loop(NULL, x, n, c, 1, 1, same_v, vmul);
}

#ifdef VEC_F64
#define FOLD_FN rq_fold_f64_fn
#else
#define FOLD_FN rq_fold_fn
#endif
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

const FOLD_FN JOIN(rq_fold_, SUFFIX)[RQ_N_FOLDS] = {
    [RQ_FOLD_SUM] = fold_sum, [RQ_FOLD_ABS] = fold_abs, [RQ_FOLD_SQUARE] = fold_square, [RQ_FOLD_EXP] = fold_exp,
    [RQ_FOLD_MAX] = fold_max, [RQ_FOLD_MIN] = fold_min, [RQ_FOLD_PROD] = fold_prod,
};

#ifndef VEC_F64
real JOIN(rq_exp_sum_, SUFFIX)(real *y, const real *x, size_t n, real c)
{
    return fold_loop(y, x, n, c, 0, -INFINITY, exp_v, vadd);
}

real JOIN(rq_sum_f32_, SUFFIX)(const real *x, size_t n)
{
    return fold_loop(NULL, x, n, 0, 0, 0, same_v, vadd);
}
#endif
