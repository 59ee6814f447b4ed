/* coreml/prune.c — masks of weights; see prune.h. Quantiles are found without sorting: magnitudes are counted by the upper half of their bits, then
 * those that share the half that is wanted by the lower one. Nothing is kept but the mask. */
#include "coreml/prune.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "coreml/element.h"

enum { HALF = 1 << 16 };

static int64_t count_of(const rq_prune *p)
{
    int64_t n = 1;
    for (int i = 0; i < p->rank; i++)
        n *= p->dim[i];
    return n;
}

static rq_status mask_alloc(rq_prune *p, rq_err *err)
{
    p->n = count_of(p);
    p->mask = rq_mem_zalloc((size_t)(p->n + 7) / 8, 1);
    return p->mask ? RQ_OK
                   : rq_fail(err, RQ_NO_MEMORY, "out of memory pruning a weight of %lld elements", (long long)p->n);
}

static void keep(rq_prune *p, int64_t i)
{
    p->mask[i / 8] = (uint8_t)(p->mask[i / 8] | 1u << (i % 8));
    p->kept++;
}

/* ---- magnitudes ---- */

typedef struct magnitudes {
    const rq_prune *p;
    int64_t block;              /* 0: of elements */
    int64_t outer, axis, inner; /* the weight is [outer][axis][inner]; blocks along axis */
} magnitudes;

static float round_to(const magnitudes *m, float x)
{
    return m->p->dtype == RQ_DTYPE_F16 ? rq_element_round(RQ_DTYPE_F16, x) : x; /* of integers: reals between them */
}

/* L2 norm of the block that element i is in, each step rounded to dtype. */
static float block_norm(const magnitudes *m, int64_t i)
{
    const int64_t inner = i % m->inner, c = i / m->inner % m->axis, o = i / m->inner / m->axis;
    const int64_t from = c / m->block * m->block, to = from + m->block < m->axis ? from + m->block : m->axis;
    float s = 0;
    for (int64_t k = from; k < to; k++) {
        const float v = rq_element_at(m->p->data, m->p->dtype, (o * m->axis + k) * m->inner + inner);
        s = round_to(m, s + round_to(m, v * v));
    }
    return round_to(m, sqrtf(s));
}

static float magnitude(const magnitudes *m, int64_t i)
{
    return m->block ? block_norm(m, i) : fabsf(rq_element_at(m->p->data, m->p->dtype, i));
}

static uint32_t bits_of(float v)
{
    uint32_t b;
    memcpy(&b, &v, sizeof b);
    return b;
}

static float number_of(uint32_t b)
{
    float v;
    memcpy(&v, &b, sizeof v);
    return v;
}

/* The upper and lower halves of the magnitudes at place k and k + 1 in ascending order; bits of numbers that are not negative
 * are ordered as the numbers are, NaN last. */
typedef struct ranks {
    int64_t *upper, *lower; /* [HALF] */
} ranks;

/* Magnitude at place k. `upper` is counted. */
static float at_rank(const ranks *r, const magnitudes *m, int64_t k)
{
    uint32_t hi = 0, lo = 0;
    while (k >= r->upper[hi])
        k -= r->upper[hi++];
    memset(r->lower, 0, HALF * sizeof *r->lower);
    for (int64_t i = 0; i < m->p->n; i++) {
        const uint32_t b = bits_of(magnitude(m, i));
        if (b >> 16 == hi)
            r->lower[b & 0xffff]++;
    }
    while (k >= r->lower[lo])
        k -= r->lower[lo++];
    return number_of(hi << 16 | lo);
}

/* numpy.percentile(magnitudes, 100 share): the place (n - 1) share is computed in f32, the number between its neighbours in dtype. */
static rq_status quantile(float *out, const magnitudes *m, double share, rq_err *err)
{
    ranks r = { rq_mem_zalloc(HALF * 2, sizeof *r.upper), NULL };
    if (!r.upper)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory looking for a quantile of a weight");
    r.lower = r.upper + HALF;
    const int64_t n = m->p->n;
    bool nan = false;
    for (int64_t i = 0; i < n; i++) {
        const float v = magnitude(m, i);
        nan |= isnan(v);
        r.upper[bits_of(v) >> 16]++;
    }
    const float at = (float)(n - 1) * ((float)(share * 100) / 100.0f);
    const int64_t place = (int64_t)at < n - 1 ? (int64_t)at : n - 1;
    const float t = at - (float)place;
    const float a = at_rank(&r, m, place), b = place < n - 1 ? at_rank(&r, m, place + 1) : a;
    const float d = round_to(m, b - a);
    *out = t >= 0.5f ? round_to(m, b - round_to(m, d * (1 - t))) : round_to(m, a + round_to(m, d * t));
    if (nan)
        *out = NAN;
    rq_mem_free(r.upper);
    return RQ_OK;
}

/* ---- the ways ---- */

static void keep_above(rq_prune *p, const magnitudes *m, float threshold)
{
    for (int64_t i = 0; i < p->n; i++)
        if (!(magnitude(m, i) <= threshold) && rq_element_at(p->data, p->dtype, i) != 0)
            keep(p, i);
}

static rq_status by_threshold(rq_prune *p, const rq_coreml_op_config *c, char *why, rq_err *err)
{
    RQ_TRY(mask_alloc(p, err));
    const magnitudes m = { .p = p };
    keep_above(p, &m, p->dtype == RQ_DTYPE_F16 ? rq_element_round(RQ_DTYPE_F16, c->threshold) : (float)c->threshold);
    const double sparsity = (double)(p->n - p->kept) / (double)p->n;
    if (sparsity < c->minimum_sparsity_percentile)
        rq_number_print(why, RQ_PRUNE_WHY, "weight value has sparsity of %.6g < minimum_sparsity_percentile %.6g",
                        sparsity, c->minimum_sparsity_percentile);
    return RQ_OK;
}

static bool along(magnitudes *m, const rq_prune *p, int64_t axis)
{
    if (p->rank < 2 || p->rank > 5 || axis < 0 || axis > 1)
        return false;
    m->outer = axis ? p->dim[0] : 1;
    m->axis = p->dim[axis];
    m->inner = 1;
    for (int64_t i = axis + 1; i < p->rank; i++)
        m->inner *= p->dim[i];
    return true;
}

static rq_status by_magnitude(rq_prune *p, const rq_coreml_op_config *c, char *why, rq_err *err)
{
    magnitudes m = { .p = p, .block = c->block };
    if (c->block && !along(&m, p, c->dim < 0 ? 0 : c->dim)) {
        snprintf(why, RQ_PRUNE_WHY, "block sparsity only supports weights of rank 2 to 5, it has %d", p->rank);
        return RQ_OK;
    }
    if (c->block && 2 * (double)c->block > (double)m.axis) {
        snprintf(why, RQ_PRUNE_WHY,
                 "block_size > channel / 2 is not applicable for block sparsity. Got block_size = %lld, channel = %lld",
                 (long long)c->block, (long long)m.axis);
        return RQ_OK;
    }
    RQ_TRY(mask_alloc(p, err));
    const double percent = c->target_sparsity * 100;
    if (percent >= 100)
        return RQ_OK;
    float threshold = -1;
    if (percent > 0)
        RQ_TRY(quantile(&threshold, &m, c->target_sparsity, err));
    keep_above(p, &m, threshold);
    return RQ_OK;
}

typedef struct candidate {
    float magnitude;
    int64_t at; /* along the axis; behind its end: filled up */
} candidate;

static int by_size(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    const bool nx = isnan(x->magnitude), ny = isnan(y->magnitude);
    if (nx != ny)
        return nx - ny;
    if (x->magnitude != y->magnitude && !nx)
        return x->magnitude < y->magnitude ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

/* One group of m along the axis, at (o, ., i). */
static void keep_largest(rq_prune *p, const magnitudes *g, candidate *of, int64_t from, int64_t n, int64_t m,
                         int64_t base)
{
    for (int64_t k = 0; k < m; k++) {
        const bool there = from + k < g->axis;
        of[k] =
            (candidate) { there ? fabsf(rq_element_at(p->data, p->dtype, base + (from + k) * g->inner)) : 0, from + k };
    }
    qsort(of, (size_t)m, sizeof *of, by_size);
    for (int64_t k = n; k < m; k++)
        if (of[k].at < g->axis && of[k].magnitude != 0)
            keep(p, base + of[k].at * g->inner);
}

static rq_status by_ratio(rq_prune *p, const rq_coreml_op_config *c, char *why, rq_err *err)
{
    const int64_t n = c->n_m_ratio[0], m = c->n_m_ratio[1];
    magnitudes g = { .p = p };
    if (!along(&g, p, c->dim < 0 ? 1 : c->dim)) {
        snprintf(why, RQ_PRUNE_WHY, "n:m pruning only supports weights of rank 2 to 5, it has %d", p->rank);
        return RQ_OK;
    }
    if (2 * (double)m > (double)g.axis) {
        snprintf(why, RQ_PRUNE_WHY, "m > channel / 2 is not applicable for n:m pruning. Got m = %lld, channel = %lld",
                 (long long)m, (long long)g.axis);
        return RQ_OK;
    }
    RQ_TRY(mask_alloc(p, err));
    candidate *of = rq_mem_alloc((size_t)m, sizeof *of);
    if (!of)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory pruning a weight");
    for (int64_t o = 0; o < g.outer; o++)
        for (int64_t i = 0; i < g.inner; i++)
            for (int64_t from = 0; from < g.axis; from += m)
                keep_largest(p, &g, of, from, n < 0 ? 0 : n, m, o * g.axis * g.inner + i);
    rq_mem_free(of);
    return RQ_OK;
}

rq_status rq_prune_make(rq_prune *p, const rq_coreml_op_config *c, char why[RQ_PRUNE_WHY], rq_err *err)
{
    *why = '\0';
    if (c->algorithm == RQ_COREML_THRESHOLD_PRUNER)
        return by_threshold(p, c, why, err);
    return c->n_m_ratio[1] > 0 ? by_ratio(p, c, why, err) : by_magnitude(p, c, why, err);
}

rq_status rq_prune_zeros(rq_prune *p, rq_err *err)
{
    RQ_TRY(mask_alloc(p, err));
    const magnitudes m = { .p = p };
    keep_above(p, &m, 0);
    return RQ_OK;
}

void rq_prune_release(rq_prune *p)
{
    rq_mem_free(p->mask);
    p->mask = NULL;
}
