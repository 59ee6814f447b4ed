/* coreml/palette_vector.c — tables of vectors: k-means++ with the best of a few candidates for each centre (Arthur and Vassilvitskii, 2007), then
 * Lloyd's algorithm. Seeded, in one order: the same table on every machine with any number of threads. More than 2^18 vectors are
 * sampled at equal distances; their indices are computed of all.
 *
 *   x [n][d], centre [k][d], all f32; sums in f64. O(n k d) a round. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "coreml/element.h"
#include "coreml/palette.h"

enum { SAMPLE = 1 << 18, ROUNDS = 300, STARTS = 3 };

typedef struct means {
    const float *x;
    int64_t n, d;
    int k;
    float *centre;                /* [k][d] */
    double *sum;                  /* [k][d] */
    int64_t *count;               /* [k] */
    float *near, *trial, *better; /* [n] squared distance to the nearest centre so far; with one more */
    uint8_t *label;               /* [n] */
} means;

static float distance(const float *a, const float *b, int64_t d)
{
    float s = 0;
    for (int64_t j = 0; j < d; j++)
        s += (a[j] - b[j]) * (a[j] - b[j]);
    return s;
}

/* A vector drawn with probability in proportion to its squared distance. */
static int64_t draw(const means *m, double total, rq_rng *r)
{
    const double at = (double)(rq_rng_u64(r) >> 11) * 0x1p-53 * total;
    double s = 0;
    for (int64_t i = 0; i < m->n; i++) {
        s += m->near[i];
        if (s > at)
            return i;
    }
    return m->n - 1;
}

/* Distances when vector c is a centre, too; their sum. */
static double with_centre(const means *m, float *out, int64_t c)
{
    double total = 0;
    for (int64_t i = 0; i < m->n; i++) {
        const float d = distance(m->x + i * m->d, m->x + c * m->d, m->d);
        out[i] = d < m->near[i] ? d : m->near[i];
        total += out[i];
    }
    return total;
}

static void swap(float **a, float **b)
{
    float *t = *a;
    *a = *b;
    *b = t;
}

/* Returns how many centres there are: fewer than k where there are not as many distinct vectors. */
static int seed(means *m, rq_rng *r)
{
    const int candidates = 2 + (int)log(m->k);
    for (int64_t i = 0; i < m->n; i++)
        m->near[i] = INFINITY;
    int64_t at = (int64_t)rq_rng_below(r, (uint64_t)m->n);
    double total = with_centre(m, m->better, at);
    for (int c = 0;; c++) {
        swap(&m->near, &m->better);
        memcpy(m->centre + c * m->d, m->x + at * m->d, (size_t)m->d * sizeof(float));
        if (c == m->k - 1 || !(total > 0))
            return c + 1;
        const double now = total;
        total = INFINITY;
        for (int t = 0; t < candidates; t++) {
            const int64_t i = draw(m, now, r);
            const double s = with_centre(m, m->trial, i);
            if (s < total) {
                total = s, at = i;
                swap(&m->trial, &m->better);
            }
        }
    }
}

/* Every vector to its nearest centre; the sum of squared distances. */
static double assign(means *m, int k)
{
    double total = 0;
    for (int64_t i = 0; i < m->n; i++) {
        int best = 0;
        float least = INFINITY;
        for (int c = 0; c < k; c++) {
            const float d = distance(m->x + i * m->d, m->centre + c * m->d, m->d);
            if (d < least)
                least = d, best = c;
        }
        m->label[i] = (uint8_t)best;
        m->near[i] = least;
        total += least;
    }
    return total;
}

/* A centre without vectors goes to the vector that is furthest from its own. */
static void refill(means *m, int c)
{
    int64_t far = 0;
    for (int64_t i = 1; i < m->n; i++)
        if (m->near[i] > m->near[far])
            far = i;
    memcpy(m->centre + c * m->d, m->x + far * m->d, (size_t)m->d * sizeof(float));
    m->near[far] = 0;
}

static void move_centres(means *m, int k)
{
    memset(m->sum, 0, (size_t)k * (size_t)m->d * sizeof *m->sum);
    memset(m->count, 0, (size_t)k * sizeof *m->count);
    for (int64_t i = 0; i < m->n; i++) {
        m->count[m->label[i]]++;
        for (int64_t j = 0; j < m->d; j++)
            m->sum[m->label[i] * m->d + j] += m->x[i * m->d + j];
    }
    for (int c = 0; c < k; c++) {
        if (!m->count[c]) {
            refill(m, c);
            continue;
        }
        for (int64_t j = 0; j < m->d; j++)
            m->centre[c * m->d + j] = (float)(m->sum[c * m->d + j] / (double)m->count[c]);
    }
}

/* Until a round gains less than a part in 100000. Returns the sum of squared distances. */
static double lloyd(means *m, int k)
{
    double before = assign(m, k);
    for (int round = 0; round < ROUNDS; round++) {
        move_centres(m, k);
        const double now = assign(m, k);
        if (!(before - now > 1e-5 * before))
            return now;
        before = now;
    }
    return before;
}

static bool means_alloc(means *m)
{
    const size_t n = (size_t)m->n, kd = (size_t)m->k * (size_t)m->d;
    m->centre = rq_mem_alloc(kd, sizeof *m->centre);
    m->sum = rq_mem_alloc(kd, sizeof *m->sum);
    m->count = rq_mem_alloc((size_t)m->k, sizeof *m->count);
    m->near = rq_mem_alloc(n, sizeof *m->near);
    m->trial = rq_mem_alloc(n, sizeof *m->trial);
    m->better = rq_mem_alloc(n, sizeof *m->better);
    m->label = rq_mem_alloc(n, sizeof *m->label);
    return m->centre && m->sum && m->count && m->near && m->trial && m->better && m->label;
}

static void means_release(means *m)
{
    rq_mem_free(m->centre);
    rq_mem_free(m->sum);
    rq_mem_free(m->count);
    rq_mem_free(m->near);
    rq_mem_free(m->trial);
    rq_mem_free(m->better);
    rq_mem_free(m->label);
}

static void put_table(rq_palette *p, int64_t g, const means *m, int k)
{
    float *table = p->table + (g << p->nbits) * p->cluster;
    for (int64_t i = 0; i < k * m->d; i++)
        table[i] = rq_element_round(p->dtype, m->centre[i]);
    p->used[g] = k;
}

/* The best of a few starts. */
static void cluster(rq_palette *p, int64_t g, means *m)
{
    double least = INFINITY;
    for (int start = 0; start < STARTS; start++) {
        rq_rng r;
        rq_rng_seed(&r, (uint64_t)start);
        const int k = seed(m, &r);
        const double total = lloyd(m, k);
        if (total < least) {
            least = total;
            put_table(p, g, m, k);
        }
    }
}

rq_status rq_palette_vector(rq_palette *p, int64_t g)
{
    const int64_t all = p->outer * (p->group / p->cluster) * p->inner;
    means m = { .n = all < SAMPLE ? all : SAMPLE, .d = p->cluster, .k = 1 << p->nbits };
    size_t floats;
    float *x = rq_mem_mul((size_t)m.n, (size_t)m.d, &floats) ? rq_mem_alloc(floats, sizeof *x) : NULL;
    rq_status s = x && means_alloc(&m) ? RQ_OK : RQ_NO_MEMORY;
    if (!s) {
        if (all == m.n)
            rq_palette_vectors(p, g, x, 0, all);
        for (int64_t i = 0; i < m.n && all != m.n; i++)
            rq_palette_vectors(p, g, x + i * m.d, (int64_t)((double)i * ((double)all / (double)m.n)), 1);
        m.x = x;
        cluster(p, g, &m);
    }
    means_release(&m);
    rq_mem_free(x);
    return s;
}
