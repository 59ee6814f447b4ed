/* ops/fft.c — discrete Fourier transforms (ops/fft.h): powers of two by halving, in place; other lengths as a convolution
 * with a chirp, which is three transforms of a power of two (Bluestein 1970). */
#include "ops/fft.h"

#include "base/mem.h"
#include "kernels/eltwise.h"

struct rq_fft {
    int64_t n, m;          /* m: the power of two at work; m == n where n is one */
    double *turn;          /* [m / 2][2] e^(-2 pi i k / m) */
    double *chirp;         /* [n][2] e^(-pi i k^2 / n); NULL where n is a power of two */
    double *filter, *work; /* [m][2] transform of the conjugate chirp; scratch */
};

static void angle(double *out, int64_t k, int64_t n)
{
    const double a = -2 * 3.14159265358979323846 * ((double)k / (double)n);
    rq_map_f64[RQ_MAP_COS](&out[0], &a, 1, 0, 0);
    rq_map_f64[RQ_MAP_SIN](&out[1], &a, 1, 0, 0);
}

/* a *= b, or its conjugate. */
static void multiply(double *a, const double *b, bool conjugate)
{
    const double re = b[0], im = conjugate ? -b[1] : b[1], x = a[0], y = a[1];
    a[0] = x * re - y * im;
    a[1] = x * im + y * re;
}

/* x [m][2] in place, m a power of two; not divided by m. */
static void halve(const rq_fft *f, double *x, bool inverse)
{
    const int64_t m = f->m;
    for (int64_t i = 1, j = 0; i < m; i++) {
        int64_t bit = m >> 1;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j ^= bit;
        if (i < j)
            for (int c = 0; c < 2; c++) {
                const double t = x[2 * i + c];
                x[2 * i + c] = x[2 * j + c];
                x[2 * j + c] = t;
            }
    }
    for (int64_t half = 1; half < m; half *= 2)
        for (int64_t from = 0; from < m; from += 2 * half)
            for (int64_t k = 0; k < half; k++) {
                double *a = x + 2 * (from + k), *b = a + 2 * half, t[2] = { b[0], b[1] };
                multiply(t, f->turn + 2 * (k * (m / (2 * half))), inverse);
                b[0] = a[0] - t[0];
                b[1] = a[1] - t[1];
                a[0] += t[0];
                a[1] += t[1];
            }
}

void rq_fft_destroy(rq_fft *f)
{
    if (!f)
        return;
    rq_mem_free(f->turn);
    rq_mem_free(f->chirp);
    rq_mem_free(f->filter);
    rq_mem_free(f->work);
    rq_mem_free(f);
}

static rq_status make(rq_fft *f)
{
    const bool whole = (f->n & (f->n - 1)) == 0;
    f->m = 1;
    while (f->m < (whole ? f->n : 2 * f->n - 1))
        f->m *= 2;
    f->turn = rq_mem_zalloc((size_t)f->m / 2 + 1, 2 * sizeof *f->turn);
    if (!f->turn)
        return RQ_NO_MEMORY;
    for (int64_t k = 0; k < f->m / 2; k++)
        angle(f->turn + 2 * k, k, f->m);
    if (whole)
        return RQ_OK;
    f->chirp = rq_mem_alloc((size_t)f->n, 2 * sizeof *f->chirp);
    f->filter = rq_mem_zalloc((size_t)f->m, 2 * sizeof *f->filter);
    f->work = rq_mem_alloc((size_t)f->m, 2 * sizeof *f->work);
    if (!f->chirp || !f->filter || !f->work)
        return RQ_NO_MEMORY;
    int64_t square = 0; /* k^2 mod 2n */
    for (int64_t k = 0; k < f->n; k++) {
        angle(f->chirp + 2 * k, square, 2 * f->n);
        square = (square + 2 * k + 1) % (2 * f->n);
        double *at[2] = { f->filter + 2 * k, f->filter + 2 * (k ? f->m - k : 0) };
        for (int i = 0; i < 2; i++) {
            at[i][0] = f->chirp[2 * k];
            at[i][1] = -f->chirp[2 * k + 1];
        }
    }
    halve(f, f->filter, false);
    return RQ_OK;
}

rq_status rq_fft_create(rq_fft **out, int64_t n)
{
    rq_fft *f = n < INT64_C(1) << 40 ? rq_mem_zalloc(1, sizeof *f) : NULL;
    if (!f)
        return RQ_NO_MEMORY;
    f->n = n;
    if (make(f) != RQ_OK) {
        rq_fft_destroy(f);
        return RQ_NO_MEMORY;
    }
    *out = f;
    return RQ_OK;
}

void rq_fft_run(rq_fft *f, double *x, bool inverse)
{
    const int64_t n = f->n, m = f->m;
    if (!f->chirp) {
        halve(f, x, inverse);
    } else { /* the inverse is the transform of the conjugate, conjugated */
        double *w = f->work;
        for (int64_t k = 0; k < m; k++) {
            w[2 * k] = k < n ? x[2 * k] : 0;
            w[2 * k + 1] = k < n ? (inverse ? -x[2 * k + 1] : x[2 * k + 1]) : 0;
            if (k < n)
                multiply(w + 2 * k, f->chirp + 2 * k, false);
        }
        halve(f, w, false);
        for (int64_t k = 0; k < m; k++)
            multiply(w + 2 * k, f->filter + 2 * k, false);
        halve(f, w, true);
        for (int64_t k = 0; k < n; k++) {
            multiply(w + 2 * k, f->chirp + 2 * k, false);
            x[2 * k] = w[2 * k] / (double)m;
            x[2 * k + 1] = (inverse ? -w[2 * k + 1] : w[2 * k + 1]) / (double)m;
        }
    }
    for (int64_t i = 0; inverse && i < 2 * n; i++)
        x[i] /= (double)n;
}
