/* algo/report_sums.c — the numbers of the report, from sums alone. */
#include "algo/report_priv.h"

#include <math.h>
#include <stdlib.h>

#include "base/libm.h"

enum { DB_LIMIT = 200 };

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

rq_status rq_sums_add(rq_sums *s, const rq_tensor *a, const rq_tensor *b)
{
    const int64_t n = rq_tensor_count(a);
    if (n != rq_tensor_count(b))
        return RQ_BAD_SHAPE;
    if (a->dtype == RQ_DTYPE_F32 && b->dtype == RQ_DTYPE_F32)
        for (int64_t i = 0; i < n; i++)
            rq_sums_add_one(s, a->f32[i], b->f32[i]);
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
