/* kernels/relayout.c — see relayout.h. An image is cut into tiles of channels by positions that stay in the nearest cache; reals go through such
 * a tile of codes, so that rounding is that of the whole-tensor kernels. */
#include "kernels/relayout.h"

#include "kernels/kernels.h"

enum {
    TILE_C = 64,
    TILE_BYTES = 1 << 14, /* of codes, on the stack where reals are made of them or they of reals */
    ITEM_BYTES = 1 << 16, /* what is worth another thread */
};

typedef struct job {
    const rq_relayout *r;
    uint8_t *last;       /* pixels */
    const uint8_t *from; /* pixels to read */
    uint8_t *codes;      /* planes of codes: one of these two */
    const uint8_t *planes;
    float *reals; /* planes of reals: one of these two */
    const float *real;
    int64_t step, steps; /* positions of one item, items of one image */
} job;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Positions s..s+n-1 of channels c..c+m-1 of image i. */
static void tile(const job *j, int64_t i, int64_t c, int64_t m, int64_t s, int64_t n)
{
    const rq_relayout *r = j->r;
    const struct rq_kernels *k = r->k;
    const int64_t plane = (i * r->c + c) * r->s + s, pixel = (i * r->s + s) * r->c + c;
    const uint8_t flip = r->is_signed ? 0x80 : 0;
    uint8_t tmp[TILE_BYTES];
    if (j->planes) {
        k->transpose8(j->last + pixel, (size_t)r->c, j->planes + plane, (size_t)r->s, (size_t)m, (size_t)n, flip);
    } else if (j->codes) {
        k->transpose8(j->codes + plane, (size_t)r->s, j->from + pixel, (size_t)r->c, (size_t)n, (size_t)m, flip);
    } else if (j->real) {
        for (int64_t row = 0; row < m; row++) {
            const float *x = j->real + plane + row * r->s;
            if (r->is_signed)
                k->quantize_s8((int8_t *)tmp + row * n, x, (size_t)n, r->scale, r->zp, INT8_MIN, INT8_MAX);
            else
                k->quantize_u8(tmp + row * n, x, (size_t)n, r->scale, r->zp, 0, UINT8_MAX);
        }
        k->transpose8(j->last + pixel, (size_t)r->c, tmp, (size_t)n, (size_t)m, (size_t)n, flip);
    } else {
        k->transpose8(tmp, (size_t)n, j->from + pixel, (size_t)r->c, (size_t)n, (size_t)m, r->table ? 0 : flip);
        for (int64_t row = 0; row < m; row++) {
            float *y = j->reals + plane + row * r->s;
            if (r->table)
                k->lut8_f32(y, tmp + row * n, (size_t)n, r->table + (r->per_channel ? c + row : 0));
            else if (r->is_signed)
                k->dequantize_s8(y, (int8_t *)tmp + row * n, (size_t)n, r->scale, r->zp);
            else
                k->dequantize_u8(y, tmp + row * n, (size_t)n, r->scale, r->zp);
        }
    }
}

static void item(void *arg, int64_t at)
{
    const job *j = arg;
    const rq_relayout *r = j->r;
    const int64_t i = at / j->steps, from = at % j->steps * j->step, to = least(from + j->step, r->s);
    const int64_t m = least(r->c, TILE_C), n = TILE_BYTES / m;
    for (int64_t s = from; s < to; s += n)
        for (int64_t c = 0; c < r->c; c += m)
            tile(j, i, c, least(m, r->c - c), s, least(n, to - s));
}

/* Both orders are the same bytes. */
static void flip(void *arg, int64_t at)
{
    const job *j = arg;
    const int64_t from = at * ITEM_BYTES, to = least(from + ITEM_BYTES, j->r->n * j->r->c * j->r->s);
    const uint8_t *restrict x = j->planes ? j->planes : j->from;
    uint8_t *restrict y = j->planes ? j->last : j->codes;
    const uint8_t top = j->r->is_signed ? 0x80 : 0;
    for (int64_t i = from; i < to; i++)
        y[i] = x[i] ^ top;
}

static void run(job *j)
{
    const rq_relayout *r = j->r;
    if (r->n <= 0 || r->c <= 0 || r->s <= 0)
        return;
    if ((r->c == 1 || r->s == 1) && !j->reals && !j->real) {
        rq_threads_for(r->threads, (r->n * r->c * r->s + ITEM_BYTES - 1) / ITEM_BYTES, flip, j);
        return;
    }
    /* whole tiles */
    const int64_t n = TILE_BYTES / least(r->c, TILE_C), tiles = ITEM_BYTES / (n * r->c);
    j->step = n * (tiles > 1 ? tiles : 1);
    j->steps = (r->s + j->step - 1) / j->step;
    rq_threads_for(r->threads, r->n * j->steps, item, j);
}

void rq_relayout_to_last(const rq_relayout *r, uint8_t *y, const uint8_t *x)
{
    run(&(job) { .r = r, .last = y, .planes = x });
}

void rq_relayout_from_last(const rq_relayout *r, uint8_t *y, const uint8_t *x)
{
    run(&(job) { .r = r, .codes = y, .from = x });
}

void rq_relayout_quantize(const rq_relayout *r, uint8_t *y, const float *x)
{
    run(&(job) { .r = r, .last = y, .real = x });
}

void rq_relayout_dequantize(const rq_relayout *r, float *y, const uint8_t *x)
{
    run(&(job) { .r = r, .reals = y, .from = x });
}
