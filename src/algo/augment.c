/* algo/augment.c — pictures flipped and moved at random while a network is trained.
 *
 * What happens to a sample is a function of seed, epoch and sample: nothing is remembered, so that an interrupted run goes on as if it
 * had not been. A moved picture is copied plane by plane through a scratch of one picture. */
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "requant/train.h"

typedef struct layout {
    int64_t planes, h, w;
    size_t pixel; /* bytes of an element of a plane: of all channels where those come last */
} layout;

static layout layout_of(const rq_tensor *x)
{
    const int64_t *d = x->shape.dim;
    const size_t size = ((size_t)rq_dtype_bits(x->dtype) + 7) / 8;
    if ((d[3] == 1 || d[3] == 3) && d[1] != 1 && d[1] != 3)
        return (layout) { .planes = 1, .h = d[1], .w = d[2], .pixel = size * (size_t)d[3] };
    return (layout) { .planes = d[1], .h = d[2], .w = d[3], .pixel = size };
}

/* dst[y][x] = src[y + dy][x + dx], from the right when `flip`; 0 outside. */
static void move_plane(const layout *l, uint8_t *dst, const uint8_t *src, int64_t dy, int64_t dx, bool flip)
{
    for (int64_t y = 0; y < l->h; y++)
        for (int64_t x = 0; x < l->w; x++, dst += l->pixel) {
            const int64_t sy = y + dy, sx = (flip ? l->w - 1 - x : x) + dx;
            if (sy < 0 || sy >= l->h || sx < 0 || sx >= l->w)
                memset(dst, 0, l->pixel);
            else
                memcpy(dst, src + (size_t)(sy * l->w + sx) * l->pixel, l->pixel);
        }
}

rq_status rq_augment_apply(const rq_augment *a, rq_tensor *x, const int64_t *rows, int64_t n, uint64_t seed,
                           int64_t epoch, rq_err *err)
{
    if (!a->flip && a->crop <= 0)
        return RQ_OK;
    if (x->shape.rank != 4 || x->shape.dim[0] != n)
        return rq_fail(err, RQ_BAD_SHAPE, "pictures to be flipped or moved have four axes; these samples have %d",
                       x->shape.rank);
    const layout l = layout_of(x);
    const size_t plane = (size_t)(l.h * l.w) * l.pixel;
    uint8_t *copy = rq_mem_alloc((size_t)l.planes, plane), *at = x->data;
    if (!copy)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for a picture");
    for (int64_t i = 0; i < n; i++, at += (size_t)l.planes * plane) {
        rq_rng r;
        rq_rng_seed(&r, seed + 0x9e3779b97f4a7c15u *
                                   (uint64_t)(epoch + 1)); /* two rounds: neighbours have nothing in common */
        rq_rng_seed(&r, rq_rng_u64(&r) + (uint64_t)rows[i]);
        const bool flip = a->flip && (rq_rng_u64(&r) >> 63);
        const uint64_t span = a->crop > 0 ? 2 * (uint64_t)a->crop + 1 : 1;
        const int64_t dy = (int64_t)rq_rng_below(&r, span) - (int64_t)(span / 2);
        const int64_t dx = (int64_t)rq_rng_below(&r, span) - (int64_t)(span / 2);
        if (!flip && !dy && !dx)
            continue;
        memcpy(copy, at, (size_t)l.planes * plane);
        for (int64_t p = 0; p < l.planes; p++)
            move_plane(&l, at + (size_t)p * plane, copy + (size_t)p * plane, dy, dx, flip);
    }
    rq_mem_free(copy);
    return RQ_OK;
}
