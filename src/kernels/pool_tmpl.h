/* kernels/pool_tmpl.h — kernels/pool.h in plain loops, which the compiler makes vectors of for each instruction set. The including file sets
 * SUFFIX. */
#include "kernels/pool.h"

static inline float larger(float a, float b)
{
    return b > a ? b : b != b ? b : a;
}

static inline void row(float *restrict y, const float *restrict u, const float *restrict l, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = larger(larger(u[2 * i], l[2 * i]), larger(u[2 * i + 1], l[2 * i + 1]));
}

/* Is x what was found, or both no number? */
static inline int is_found(float x, float y)
{
    return (x == y) | ((x != x) & (y != y));
}

static inline void grad_row(float *restrict du, float *restrict dl, const float *restrict dy, const float *restrict u,
                            const float *restrict l, const float *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const int a = is_found(u[2 * i], y[i]), b = is_found(u[2 * i + 1], y[i]) & !a;
        const int c = is_found(l[2 * i], y[i]) & !a & !b, d = is_found(l[2 * i + 1], y[i]) & !a & !b & !c;
        du[2 * i] = a ? dy[i] : 0;
        du[2 * i + 1] = b ? dy[i] : 0;
        dl[2 * i] = c ? dy[i] : 0;
        dl[2 * i + 1] = d ? dy[i] : 0;
    }
}

#define NAME_(a, b) a##b
#define NAME(a, b) NAME_(a, b)
void NAME(rq_pool_quarters_, SUFFIX)(float *y, const float *x, int64_t rows, int64_t columns, int64_t width)
{
    for (int64_t r = 0; r < rows; r++)
        row(y + r * columns, x + 2 * r * width, x + (2 * r + 1) * width, columns);
}

void NAME(rq_pool_quarters_grad_, SUFFIX)(float *dx, const float *dy, const float *x, const float *y, int64_t rows,
                                          int64_t columns, int64_t width)
{
    for (int64_t r = 0; r < rows; r++) {
        float *upper = dx + 2 * r * width, *lower = upper + width;
        const float *u = x + 2 * r * width;
        grad_row(upper, lower, dy + r * columns, u, u + width, y + r * columns, columns);
        for (int64_t i = 2 * columns; i < width; i++)
            upper[i] = lower[i] = 0;
    }
}
