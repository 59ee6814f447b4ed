/* quant/histogram_search.c — which bins of a resampled histogram to keep: PyTorch's walk over quantiles from both ends
 * (torch-facts 4.4). The decisions are the original's; the error that it compares is computed in another way.
 *
 * A bin is a uniform density. Kept bins a..b are cut into `levels` cells, and what lies at t (in bins, from the lower edge of
 * a) is at distance t - c(t) from the centre of its cell; beyond the ends, of the last cell. With
 *     F(t) = (t - c)^3 + cell * width^3 / 4,
 * which is continuous and grows by 3 (t - c)^2 dt, the bin from t to t + 1 costs mass * (F(t + 1) - F(t)) / 3, so that one F per edge
 * does what the original does with three terms per bin. */
#include "quant/histogram.h"

#include <float.h>
#include <math.h>

/* v + MAGIC - MAGIC rounds |v| < 2^51 half to even, many at a time where floor() is a call. */
#define MAGIC 6755399441055744.0

/* In squares of the width of a bin. Edges come in blocks, masses are added in lanes, for the sake of vectors. On the edge of two cells either
 * will do, F is the same. */
static double error_of(const rq_histogram *h, double levels, int a, int b)
{
    enum { BLOCK = 256, LANES = 8 };
    const double per_bin = levels / (b - a + 1), width = 1 / per_bin, climb = width * width * width / 4;
    double sum[LANES] = { 0 }, f[BLOCK + 1], all = 0;
    for (int at = 0; at < h->bins; at += BLOCK) {
        const int n = h->bins - at < BLOCK ? h->bins - at : BLOCK;
        for (int i = 0; i <= n; i++) {
            const double t = at + i - a, v = t * per_bin, up = v > 0 ? v : 0, whole = up - 0.5 + MAGIC - MAGIC;
            const double cell = whole < levels - 1 ? whole : levels - 1, e = t - (cell + 0.5) * width;
            f[i] = e * e * e + cell * climb;
        }
        for (int i = 0; i < n; i++)
            sum[i % LANES] += (double)h->mass[at + i] * (f[i + 1] - f[i]);
    }
    for (int l = 0; l < LANES; l++)
        all += sum[l];
    return all / 3;
}

double rq_histogram_error(const rq_histogram *h, double levels, int a, int b)
{
    const double width = ((double)h->hi - h->lo) / h->bins;
    return h->lo < h->hi ? error_of(h, levels, a, b) * width * width : 0;
}

/* The reals of an edge, in f32 as the original has them; in double where its width of a bin is no normal number. */
static float edge_of(const rq_histogram *h, int i)
{
    const float width = (h->hi - h->lo) / (float)h->bins;
    if (width >= FLT_MIN && width <= FLT_MAX)
        return h->lo + width * (float)i;
    return i == h->bins ? h->hi : (float)(h->lo + ((double)h->hi - h->lo) / h->bins * i);
}

/* The mass of bins 0..i as torch.cumsum has it: added in double from the left, then rounded. */
enum { STRIDE = 256 };
typedef struct cumulated {
    const rq_histogram *h;
    double before[65536 / STRIDE]; /* bins below i * STRIDE */
} cumulated;

static double cumulated_init(cumulated *c, const rq_histogram *h)
{
    double sum = 0;
    c->h = h;
    c->before[0] = 0;
    for (int i = 0; i < h->bins; i++) {
        if (i % STRIDE == 0)
            c->before[i / STRIDE] = sum;
        sum += (double)h->mass[i];
    }
    return sum;
}

static float cumulated_at(const cumulated *c, int i)
{
    double sum = c->before[i / STRIDE];
    for (int k = i / STRIDE * STRIDE; k <= i; k++)
        sum += (double)c->h->mass[k];
    return (float)sum;
}

/* alpha and beta only move inwards, so l (the first bin that reaches alpha) and r (the last within beta) do too, and the whole walk
 * visits a bin once from either side. */
rq_histogram_kept rq_histogram_search(const rq_histogram *h, double levels)
{
    const double step = 1e-5;
    rq_histogram_kept kept = { 0, h->bins - 1, h->lo, h->hi, 0 };
    if (!(h->lo < h->hi))
        return kept;
    cumulated c;
    const double total = (float)cumulated_init(&c, h);
    double alpha = 0, beta = 1, best = INFINITY;
    int l = 0, r = h->bins - 1;
    float upto_l = cumulated_at(&c, l), upto_r = cumulated_at(&c, r);
    while (alpha < beta) {
        const float low = (float)((alpha + step) * total), high = (float)((beta - step) * total);
        while (l < kept.b && upto_l < low)
            upto_l = cumulated_at(&c, ++l);
        while (r > kept.a && upto_r > high)
            upto_r = cumulated_at(&c, --r);
        const int left = l < kept.b ? l : kept.b, right = r > kept.a ? r : kept.a; /* the other end came past */
        int a = kept.a, b = kept.b;
        if (left - a > b - right) {
            a = left;
            alpha += step;
        } else {
            b = right;
            beta -= step;
        }
        if (a == kept.a && b == kept.b)
            continue;
        const double error = error_of(h, levels, a, b);
        if (error > best)
            break;
        best = error;
        kept.a = a;
        kept.b = b;
    }
    kept.lo = edge_of(h, kept.a);
    kept.hi = edge_of(h, kept.b + 1);
    kept.error = rq_histogram_error(h, levels, kept.a, kept.b);
    return kept;
}
