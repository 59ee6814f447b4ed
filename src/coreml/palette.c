/* coreml/palette.c — tables of weights, and the indices into them; see palette.h. Elements are read in pieces, as reals in f32, which every
 * dtype here fits exactly. */
#include "coreml/palette.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "coreml/element.h"

enum { PIECE = 1024, UNIQUE_MAX = 256, SLOTS = 1024 };

/* Element (o, c, i) for `n` values of i on. */
static void read_run(const rq_palette *p, float *dst, int64_t o, int64_t c, int64_t i, int64_t n)
{
    const int64_t at = (o * p->channels + c) * p->inner + i;
    for (int64_t k = 0; k < n; k++)
        dst[k] = rq_element_at(p->data, p->dtype, at + k);
    if (p->scale)
        for (int64_t k = 0; k < n; k++)
            dst[k] = rq_element_round(p->dtype, dst[k] / rq_element_at(p->scale, p->dtype, o * p->inner + i + k));
}

void rq_palette_values(const rq_palette *p, int64_t g, float *dst, int64_t from, int64_t n)
{
    while (n > 0) {
        const int64_t i = from % p->inner, c = from / p->inner % p->group, o = from / p->inner / p->group;
        const int64_t run = p->inner - i < n ? p->inner - i : n;
        read_run(p, dst, o, g * p->group + c, i, run);
        dst += run, from += run, n -= run;
    }
}

/* Vectors of channels c, c + 1 .. c + cluster - 1 at (o, i) for n values of i on. */
static void read_vectors(const rq_palette *p, float *dst, int64_t o, int64_t c, int64_t i, int64_t n)
{
    float run[PIECE];
    for (int64_t k = 0; k < n; k += PIECE) {
        const int64_t m = n - k < PIECE ? n - k : PIECE;
        for (int64_t j = 0; j < p->cluster; j++) {
            read_run(p, run, o, c + j, i + k, m);
            for (int64_t r = 0; r < m; r++)
                dst[(k + r) * p->cluster + j] = run[r];
        }
    }
}

void rq_palette_vectors(const rq_palette *p, int64_t g, float *dst, int64_t from, int64_t n)
{
    const int64_t per = p->group / p->cluster;
    while (n > 0) {
        const int64_t i = from % p->inner, v = from / p->inner % per, o = from / p->inner / per;
        const int64_t run = p->inner - i < n ? p->inner - i : n;
        read_vectors(p, dst, o, g * p->group + v * p->cluster, i, run);
        dst += run * p->cluster, from += run, n -= run;
    }
}

/* ---- what stands in the weight ---- */

static int64_t group_count(const rq_palette *p)
{
    return p->outer * p->group * p->inner;
}

/* Smallest and largest of a group; false where an element is not finite. */
static bool group_range(const rq_palette *p, int64_t g, float *lo, float *hi)
{
    float v[PIECE];
    *lo = INFINITY, *hi = -INFINITY;
    for (int64_t at = 0, n = group_count(p); at < n; at += PIECE) {
        const int64_t m = n - at < PIECE ? n - at : PIECE;
        rq_palette_values(p, g, v, at, m);
        for (int64_t i = 0; i < m; i++) {
            if (!isfinite(v[i]))
                return false;
            *lo = v[i] < *lo ? v[i] : *lo;
            *hi = v[i] > *hi ? v[i] : *hi;
        }
    }
    return true;
}

/* ---- unique ---- */

typedef struct distinct {
    float *value; /* [UNIQUE_MAX][cluster] */
    int n;
    int16_t slot[SLOTS]; /* index + 1 */
} distinct;

static bool same(const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (a[i] != b[i]) /* -0 is 0 */
            return false;
    return true;
}

/* false: there is no room for one more. */
static bool distinct_add(distinct *d, const float *v, int64_t cluster)
{
    uint32_t h = 2166136261u;
    for (int64_t i = 0; i < cluster; i++) {
        const float x = v[i] + 0.0f;
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        h = (h ^ bits) * 16777619u;
        h ^= h >> 15;
    }
    for (uint32_t s = h % SLOTS;; s = (s + 1) % SLOTS) {
        if (!d->slot[s]) {
            if (d->n == UNIQUE_MAX)
                return false;
            for (int64_t i = 0; i < cluster; i++)
                d->value[d->n * cluster + i] = v[i] + 0.0f;
            d->slot[s] = (int16_t)++d->n;
            return true;
        }
        if (same(d->value + (d->slot[s] - 1) * cluster, v, cluster))
            return true;
    }
}

static int compare(const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return 0;
}

/* Ascending, the first component first; few, so by insertion. */
static void distinct_sort(distinct *d, int64_t cluster, float *spare)
{
    for (int i = 1; i < d->n; i++) {
        memcpy(spare, d->value + i * cluster, (size_t)cluster * sizeof *spare);
        int k = i;
        for (; k > 0 && compare(spare, d->value + (k - 1) * cluster, cluster) < 0; k--)
            memcpy(d->value + k * cluster, d->value + (k - 1) * cluster, (size_t)cluster * sizeof *spare);
        memcpy(d->value + k * cluster, spare, (size_t)cluster * sizeof *spare);
    }
}

/* All distinct entries of group g in d; false: too many. */
static bool distinct_of(const rq_palette *p, int64_t g, distinct *d, float *piece)
{
    d->n = 0;
    memset(d->slot, 0, sizeof d->slot);
    for (int64_t at = 0, n = group_count(p) / p->cluster; at < n; at += PIECE) {
        const int64_t m = n - at < PIECE ? n - at : PIECE;
        rq_palette_vectors(p, g, piece, at, m);
        for (int64_t i = 0; i < m; i++)
            if (!distinct_add(d, piece + i * p->cluster, p->cluster))
                return false;
    }
    return true;
}

static int nbits_for(int n, bool no_three)
{
    static const int nbits[] = { 1, 2, 3, 4, 6, 8 };
    int i = 0;
    while (n > 1 << nbits[i] || (no_three && nbits[i] == 3))
        i++;
    return nbits[i];
}

/* ---- tables ---- */

static bool tables_alloc(rq_palette *p)
{
    const size_t n = (size_t)p->n_groups << p->nbits;
    size_t floats;
    if (!rq_mem_mul(n, (size_t)p->cluster, &floats))
        return false;
    p->table = rq_mem_zalloc(floats, sizeof *p->table);
    p->bound = p->table ? rq_mem_zalloc(n, sizeof *p->bound) : NULL;
    p->used = p->bound ? rq_mem_zalloc((size_t)p->n_groups, sizeof *p->used) : NULL;
    return p->used != NULL;
}

static void unique_table(rq_palette *p, int64_t g, const distinct *d)
{
    const int64_t entries = (int64_t)1 << p->nbits;
    p->used[g] = d->n;
    memcpy(p->table + g * entries * p->cluster, d->value, (size_t)d->n * (size_t)p->cluster * sizeof(float));
    for (int64_t i = 0; i < entries && p->cluster == 1; i++)
        p->bound[g * entries + i] = i < d->n ? d->value[i] : INFINITY;
}

static rq_status make_unique(rq_palette *p, char *why, rq_err *err)
{
    size_t floats;
    distinct *d = rq_mem_zalloc(1, sizeof *d);
    float *piece = rq_mem_mul(PIECE, (size_t)p->cluster, &floats) ? rq_mem_alloc(floats, sizeof *piece) : NULL;
    if (d && piece)
        d->value = rq_mem_alloc(floats, sizeof *d->value);
    rq_status s = d && piece && d->value ? RQ_OK : RQ_NO_MEMORY;
    int most = 0;
    for (int64_t g = 0; !s && !*why && g < p->n_groups; g++) {
        if (!distinct_of(p, g, d, piece))
            snprintf(why, RQ_PALETTE_WHY, "Unique values in weight cannot be represented by 8 bits palettization.");
        most = d->n > most ? d->n : most;
    }
    if (!s && !*why) {
        p->nbits = nbits_for(most, p->no_three);
        s = tables_alloc(p) ? RQ_OK : RQ_NO_MEMORY;
    }
    for (int64_t g = 0; !s && !*why && g < p->n_groups; g++) {
        distinct_of(p, g, d, piece);
        distinct_sort(d, p->cluster, piece);
        unique_table(p, g, d);
    }
    if (d)
        rq_mem_free(d->value);
    rq_mem_free(d);
    rq_mem_free(piece);
    return s ? rq_fail(err, s, "out of memory looking for unique values of a weight") : RQ_OK;
}

static rq_status make_uniform(rq_palette *p)
{
    const int last = (1 << p->nbits) - 1;
    p->lo = rq_mem_alloc((size_t)p->n_groups, sizeof *p->lo);
    p->hi = p->lo ? rq_mem_alloc((size_t)p->n_groups, sizeof *p->hi) : NULL;
    if (!p->hi)
        return RQ_NO_MEMORY;
    const bool whole = p->dtype == RQ_DTYPE_S8 || p->dtype == RQ_DTYPE_U8;
    for (int64_t g = 0; g < p->n_groups; g++) {
        group_range(p, g, p->lo + g, p->hi + g);
        double scale = ((double)p->hi[g] - p->lo[g]) / last;
        if (!whole) {
            const float range = rq_element_round(p->dtype, p->hi[g] - p->lo[g]);
            scale = rq_element_round(p->dtype, range / (float)last);
        }
        for (int i = 0; i <= last; i++)
            p->table[(g << p->nbits) + i] = rq_element_round(p->dtype, i * scale + p->lo[g]);
        p->used[g] = last + 1;
    }
    return RQ_OK;
}

static int uniform_index(const rq_palette *p, int64_t g, float v)
{
    const int last = (1 << p->nbits) - 1;
    if (!(p->hi[g] > p->lo[g]))
        return 0;
    double q;
    if (p->dtype == RQ_DTYPE_S8 || p->dtype == RQ_DTYPE_U8) {
        q = ((double)v - p->lo[g]) / ((double)p->hi[g] - p->lo[g]) * last;
    } else {
        const float range = rq_element_round(p->dtype, p->hi[g] - p->lo[g]);
        const float share = rq_element_round(p->dtype, rq_element_round(p->dtype, v - p->lo[g]) / range);
        q = rq_element_round(p->dtype, share * (float)last);
    }
    q = rint(q);
    return q > 0 ? q < last ? (int)q : last : 0; /* a range that overflows gives 0 / infinity, or NaN */
}

rq_status rq_palette_make(rq_palette *p, char why[RQ_PALETTE_WHY], rq_err *err)
{
    static const bool valid[9] = { [1] = true, [2] = true, [3] = true, [4] = true, [6] = true, [8] = true };
    *why = '\0';
    p->group = p->group ? p->group : p->channels;
    if (p->mode != RQ_COREML_UNIQUE && (p->nbits < 0 || p->nbits > 8 || !valid[p->nbits]))
        return rq_fail(err, RQ_BAD_ARG, "Invalid nbits. Support (1, 2, 3, 4, 6, 8), but got %d", p->nbits);
    if (p->mode == RQ_COREML_UNIFORM && p->cluster > 1)
        return rq_fail(err, RQ_BAD_ARG, "Vector palettization (cluster_dim > 1) doesn't support UNIFORM mode.");
    if (p->cluster > PIECE) {
        snprintf(why, RQ_PALETTE_WHY, "vectors of more than %d elements are not made", (int)PIECE);
        return RQ_OK;
    }
    if (p->cluster < 1 || p->group < 1 || p->group > p->channels || p->channels % p->group || p->group % p->cluster)
        return rq_fail(err, RQ_INTERNAL, "groups of %lld channels of %lld in clusters of %lld", (long long)p->group,
                       (long long)p->channels, (long long)p->cluster);
    p->n_groups = p->channels / p->group;
    for (int64_t g = 0; g < p->n_groups; g++) {
        float lo, hi;
        if (!group_range(p, g, &lo, &hi)) {
            snprintf(why, RQ_PALETTE_WHY, "it has values that are not finite");
            return RQ_OK;
        }
    }
    if (p->mode == RQ_COREML_UNIQUE)
        return make_unique(p, why, err);
    rq_status s = tables_alloc(p) ? RQ_OK : RQ_NO_MEMORY;
    if (!s && p->mode == RQ_COREML_UNIFORM)
        s = make_uniform(p);
    for (int64_t g = 0; !s && p->mode == RQ_COREML_KMEANS && g < p->n_groups; g++)
        s = p->cluster == 1 ? rq_palette_scalar(p, g) : rq_palette_vector(p, g);
    return s ? rq_fail(err, s, "out of memory making tables of a weight") : RQ_OK;
}

void rq_palette_release(rq_palette *p)
{
    rq_mem_free(p->table);
    rq_mem_free(p->bound);
    rq_mem_free(p->used);
    rq_mem_free(p->lo);
    rq_mem_free(p->hi);
    p->table = p->bound = p->lo = p->hi = NULL;
    p->used = NULL;
}

/* ---- indices ---- */

/* The first entry whose values reach v. */
static int bound_index(const float *bound, int n, float v)
{
    int lo = 0, hi = n - 1;
    while (lo < hi) {
        const int mid = (lo + hi) / 2;
        if (bound[mid] < v)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int nearest_index(const float *table, int n, const float *v, int64_t cluster)
{
    int best = 0;
    float least = INFINITY;
    for (int k = 0; k < n; k++) {
        float d = 0;
        for (int64_t j = 0; j < cluster; j++) {
            const float e = v[j] - table[k * cluster + j];
            d += e * e;
        }
        if (d < least)
            least = d, best = k;
    }
    return best;
}

static void scalar_indices(const rq_palette *p, uint8_t *dst, int64_t g, const float *v, int64_t n)
{
    const float *bound = p->bound + (g << p->nbits);
    for (int64_t i = 0; i < n; i++)
        dst[i] =
            (uint8_t)(p->mode == RQ_COREML_UNIFORM ? uniform_index(p, g, v[i]) : bound_index(bound, p->used[g], v[i]));
}

void rq_palette_indices(const rq_palette *p, uint8_t *dst, int64_t from, int64_t n)
{
    const int64_t vectors = p->channels / p->cluster, per = p->group / p->cluster;
    float v[PIECE];
    while (n > 0) {
        const int64_t i = from % p->inner, c = from / p->inner % vectors, o = from / p->inner / vectors, g = c / per;
        int64_t run = p->inner - i < n ? p->inner - i : n;
        run = run < PIECE ? run : PIECE;
        if (p->cluster == 1) {
            read_run(p, v, o, c, i, run);
            scalar_indices(p, dst, g, v, run);
        } else {
            /* one vector at a time: its components lie `inner` apart */
            for (int64_t k = 0; k < run; k++) {
                float *x = v;
                for (int64_t j = 0; j < p->cluster; j++)
                    read_run(p, x + j, o, c * p->cluster + j, i + k, 1);
                dst[k] = (uint8_t)nearest_index(p->table + (g << p->nbits) * p->cluster, p->used[g], x, p->cluster);
            }
        }
        dst += run, from += run, n -= run;
    }
}
