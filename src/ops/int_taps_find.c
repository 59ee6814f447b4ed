/* ops/int_taps_find.c — where the pieces of an output pixel begin; see int_taps.h. */
#include "ops/int_taps.h"

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Pixels o2 .. o2 + n - 1 of output row (image, o0, o1). */
static void find_in_row(const rq_int_taps_place *p, const uint8_t **to, int ld, int64_t image, int64_t o0, int64_t o1,
                        int64_t o2, int64_t n)
{
    const rq_int_taps *t = p->t;
    const int64_t pixel = p->x_ld, step = t->stride[2], bytes = step * pixel;
    const int64_t last = t->in[2] - t->span; /* the last place of a piece */
    const int64_t line = image * t->in[0];
    for (int64_t k = 0; k < p->pieces; k++, to += ld) {
        const int64_t *at = t->at[p->first + k];
        const int64_t i0 = o0 * t->stride[0] + at[0], i1 = o1 * t->stride[1] + at[1], i2 = o2 * step + at[2];
        int64_t lo = 0, hi = n;
        if (i0 < 0 || i0 >= t->in[0] || i1 < 0 || i1 >= t->in[1])
            hi = 0;
        while (lo < hi && i2 + lo * step < 0) /* few are outside: a division would take longer */
            lo++;
        while (hi > lo && i2 + (hi - 1) * step > last)
            hi--;
        for (int64_t q = 0; q < lo; q++)
            to[q] = t->zeros;
        const int64_t from = (((line + i0) * t->in[1] + i1) * t->in[2] + i2) * pixel;
        for (int64_t q = lo; q < hi; q++)
            to[q] = p->x + (from + q * bytes);
        for (int64_t q = hi; q < n; q++)
            to[q] = t->zeros;
    }
}

void rq_int_taps_find(const void *arg, const uint8_t **to, int ld, int64_t i, int n)
{
    const rq_int_taps_place *p = arg;
    const int64_t *out = p->t->out;
    int64_t o2 = i % out[2], o1 = i / out[2] % out[1], rest = i / (out[2] * out[1]), o0 = rest % out[0];
    int64_t image = rest / out[0];
    for (int q = 0; q < n; o2 = 0) {
        const int64_t some = min64(out[2] - o2, n - q);
        find_in_row(p, to + q, ld, image, o0, o1, o2, some);
        q += (int)some;
        if (++o1 < out[1])
            continue;
        o1 = 0;
        if (++o0 < out[0])
            continue;
        o0 = 0;
        image++;
    }
}
