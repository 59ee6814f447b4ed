/* algo/report_sums.c — the numbers of the report, from sums alone. */
#include "algo/report_priv.h"

#include <math.h>
#include <stdlib.h>

#include "base/libm.h"

enum { DB_LIMIT = 200, LANES = 4, STRIP = 1024 };

void rq_sums_add_one(rq_sums *s, double a, double b)
{
    if (!isfinite(a) || !isfinite(b)) {
        s->nonfinite++;
        s->lost += isfinite(a);
        return;
    }
    s->aa += a * a;
    s->bb += b * b;
    s->ab += a * b;
    s->ee += (a - b) * (a - b);
    s->n++;
}

/* Is none of n infinite or NaN? Such a one times 0 is NaN, and so is every sum that holds it. */
static bool all_finite(const float *a, const float *b, int64_t n)
{
    float sum[LANES] = { 0 };
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++)
            sum[k] += a[i + k] * 0 + b[i + k] * 0;
    for (; i < n; i++)
        sum[0] += a[i] * 0 + b[i] * 0;
    return sum[0] + sum[1] + sum[2] + sum[3] == 0;
}

static void add_strip(rq_sums *s, const float *a, const float *b, int64_t m)
{
    const bool finite = all_finite(a, b, m);
    double aa[LANES] = { 0 }, bb[LANES] = { 0 }, ab[LANES] = { 0 }, ee[LANES] = { 0 };
    int64_t i = 0;
    for (; finite && i + LANES <= m; i += LANES)
        for (int k = 0; k < LANES; k++) {
            const double x = a[i + k], y = b[i + k];
            aa[k] += x * x;
            bb[k] += y * y;
            ab[k] += x * y;
            ee[k] += (x - y) * (x - y);
        }
    for (int k = 0; k < LANES; k++) {
        s->aa += aa[k];
        s->bb += bb[k];
        s->ab += ab[k];
        s->ee += ee[k];
    }
    s->n += i;
    for (; i < m; i++)
        rq_sums_add_one(s, a[i], b[i]);
}

void rq_sums_add_f32(rq_sums *s, const float *a, const float *b, int64_t n)
{
    for (int64_t at = 0; at < n; at += STRIP)
        add_strip(s, a + at, b + at, n - at < STRIP ? n - at : STRIP);
}

rq_status rq_sums_add(rq_sums *s, const rq_tensor *a, const rq_tensor *b)
{
    const int64_t n = rq_tensor_count(a);
    if (n != rq_tensor_count(b))
        return RQ_BAD_SHAPE;
    if (a->dtype == RQ_DTYPE_F32 && b->dtype == RQ_DTYPE_F32)
        rq_sums_add_f32(s, a->f32, b->f32, n);
    else
        for (int64_t i = 0; i < n; i++)
            rq_sums_add_one(s, rq_tensor_get(a, i), rq_tensor_get(b, i));
    return RQ_OK;
}

double rq_sums_sqnr_db(const rq_sums *s)
{
    if (!s->n)
        return NAN;
    if (s->ee <= 0)
        return DB_LIMIT;
    const double db = s->aa > 0 ? 10 * rq_libm_log10(s->aa / s->ee) : -DB_LIMIT;
    return db > DB_LIMIT ? DB_LIMIT : db < -DB_LIMIT ? -DB_LIMIT : db;
}

double rq_sums_cosine(const rq_sums *s)
{
    if (!s->n)
        return NAN;
    if (s->aa <= 0 && s->bb <= 0)
        return 1;
    if (s->aa <= 0 || s->bb <= 0)
        return 0;
    return s->ab / (sqrt(s->aa) * sqrt(s->bb));
}

int64_t rq_sums_top1(const rq_tensor *t, int64_t first, int64_t n)
{
    int64_t best = -1;
    double top = 0;
    for (int64_t i = 0; i < n; i++) {
        const double v = rq_tensor_get(t, first + i);
        if (!isnan(v) && (best < 0 || v > top)) {
            top = v;
            best = i;
        }
    }
    return n == 1 && best == 0 ? top > 0.5 : best;
}

void rq_sums_wilson(int64_t k, int64_t n, double *lo, double *hi)
{
    if (n <= 0) {
        *lo = *hi = NAN;
        return;
    }
    const double z = 1.959963984540054, m = (double)n, p = (double)k / m;
    const double mid = (p + z * z / (2 * m)) / (1 + z * z / m);
    const double half = z / (1 + z * z / m) * sqrt(p * (1 - p) / m + z * z / (4 * m * m));
    *lo = mid - half < 0 ? 0 : mid - half;
    *hi = mid + half > 1 ? 1 : mid + half;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double rq_sums_quantile(double *v, int64_t n, double share)
{
    if (n <= 0)
        return NAN;
    qsort(v, (size_t)n, sizeof *v, ascending);
    if (share == 0.5)
        return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
    int64_t i = (int64_t)ceil(share * (double)n) - 1;
    return v[i < 0 ? 0 : i >= n ? n - 1 : i];
}
