/* formats/split.c — which samples calibrate and which judge: drawn, so that data sorted by class gives both
 * parts every class, and by a seed, so that the same command gives the same model. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "requant/dataset.h"

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Rows of the groups order[0..n), ascending. */
static int64_t *rows_of(int64_t *order, int64_t n, int64_t unit)
{
    qsort(order, (size_t)n, sizeof *order, by_value);
    int64_t *rows = rq_mem_alloc((size_t)n, (size_t)unit * sizeof *rows);
    for (int64_t i = 0; rows && i < n * unit; i++)
        rows[i] = order[i / unit] * unit + i % unit;
    return rows;
}

rq_status rq_dataset_split(rq_split *out, const rq_dataset *d, uint64_t seed, double share, int64_t n, int64_t unit,
                           rq_err *err)
{
    *out = (rq_split) { 0 };
    if (unit < 1)
        unit = 1;
    const int64_t count = rq_dataset_count(d), groups = count / unit;
    const char *path = rq_dataset_path(d);
    int64_t n_judge = (int64_t)((double)groups * share);
    if (share > 0 && n_judge == 0)
        n_judge = 1;
    const int64_t left = groups - n_judge;
    if (left < 1 && share > 0)
        return rq_fail(err, RQ_BAD_DATA,
                       "%s: %lld samples are too few: %lld calibrate and %lld judge the result at the least (or give "
                       "others with --eval)",
                       path, (long long)count, (long long)unit, (long long)unit);
    if (left < 1)
        return rq_fail(err, RQ_BAD_DATA, "%s: %lld samples are too few, the model wants %lld at a time", path,
                       (long long)count, (long long)unit);
    int64_t want = n > 0 ? (n + unit - 1) / unit : left;
    const long long most = left * unit;
    if (want > left)
        return rq_fail(err, RQ_BAD_DATA, "%s: %lld samples to calibrate on were asked for, there are %lld%s", path,
                       (long long)n, most, share > 0 ? " beside those that judge" : "");
    int64_t *order = rq_mem_alloc((size_t)groups, sizeof *order);
    if (!order)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    rq_rng r;
    rq_rng_seed(&r, seed);
    rq_rng_shuffle(&r, order, groups);
    out->judge = rows_of(order, n_judge, unit);
    out->calibrate = rows_of(order + n_judge, want, unit);
    rq_mem_free(order);
    if (!out->judge || !out->calibrate) {
        rq_split_release(out);
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    }
    out->n_judge = n_judge * unit;
    out->n_calibrate = want * unit;
    return RQ_OK;
}

void rq_split_release(rq_split *s)
{
    rq_mem_free(s->calibrate);
    rq_mem_free(s->judge);
    *s = (rq_split) { 0 };
}
