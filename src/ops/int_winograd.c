/* ops/int_winograd.c — see int_winograd.h.
 *
 *   sum (x - zx) w + b  =  sum x w  +  [b - zx sum w]
 *
 * The bracket is one constant per channel; outside of the image stand zx, so that the identity is true at borders too. */
#include "ops/int_winograd.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/quantize.h"
#include "ops/int_last.h"
#include "ops/int_ops.h"
#include "ops/packs.h"

struct rq_int_winograd {
    rq_winograd g; /* without a batch */
    rq_winograd_weights w;
    void *own;      /* packed weights that are not shared */
    uint8_t *zeros; /* [channels] zx */
    int32_t *add;   /* [columns] */
    float *m;
};

/* f32(sx sw) / sy, of channel c. */
static float multiplier(const rq_op_args *a, int64_t c)
{
    const rq_qparams *w = a->in_q[1];
    return a->in_q[0]->scale[0] * w->scale[c % w->n] / a->out_q[0]->scale[0];
}

static rq_winograd_weights weights_of(const rq_op_args *a)
{
    const rq_tensor *w = a->in[1];
    return (rq_winograd_weights) {
        .at = w->u8, .channels = w->shape.dim[1], .columns = w->shape.dim[0], .flip = rq_int_flip_to_s8(w->dtype)
    };
}

/* The sizes: one image, windows of 3 x 3 next to each other, over all channels. */
static bool is_plain_window(const rq_op_args *a, const rq_window *w)
{
    bool plain =
        w->in[0] == 1 && w->out[0] == 1 && w->kernel[0] == 1 && a->in[0]->shape.dim[1] == a->in[1]->shape.dim[1];
    for (int d = 1; d < 3; d++)
        plain = plain && w->kernel[d] == 3 && w->stride[d] == 1 && w->dilation[d] == 1;
    return plain;
}

bool rq_int_winograd_is(const rq_op_args *a, const rq_window *w)
{
    const rq_qparams *qw = a->in_q[1], *y = a->out_q[0];
    int32_t lo, hi;
    if (!a->k->winograd || a->k->spec || !a->in[1]->data || !y || !is_plain_window(a, w))
        return false;
    const rq_winograd_weights weights = weights_of(a);
    rq_qparams_limits(y, &lo, &hi);
    if (hi != INT8_MAX && hi != UINT8_MAX)
        return false;
    for (int64_t i = 0; i < qw->n; i++)
        if (qw->zero_point[i] != (weights.flip ? 128 : 0))
            return false;
    for (int64_t c = 0; c < weights.columns; c++) {
        const float m = multiplier(a, c);
        if (!(m > -1 && m < 1))
            return false;
    }
    return rq_winograd_pays(a->k->winograd, weights.channels, weights.columns, w->out[1], w->out[2]) &&
           rq_winograd_fits(&weights);
}

void rq_int_winograd_destroy(rq_int_winograd *d)
{
    if (!d)
        return;
    rq_mem_free(d->own);
    rq_mem_free(d->zeros);
    rq_mem_free(d->add);
    rq_mem_free(d);
}

/* ---- weights ---- */

static size_t weights_bytes(const rq_int_winograd *d, const rq_op_args *a)
{
    return rq_mem_round(rq_winograd_w_bytes(a->k->winograd, d->w.channels, d->w.columns));
}

typedef struct pack_args {
    const rq_int_winograd *d;
    const rq_op_args *a;
} pack_args;

/* The weights, then the sum of each column. */
static void pack_all(void *made, const void *arg)
{
    const pack_args *p = arg;
    rq_winograd_pack(p->a->threads, p->a->k->winograd, made, &p->d->w,
                     (int32_t *)(void *)((char *)made + weights_bytes(p->d, p->a)));
}

static rq_status pack(rq_int_winograd *d, const rq_op_args *a)
{
    const pack_args p = { d, a };
    const size_t bytes = weights_bytes(d, a) + (size_t)d->w.columns * sizeof(int32_t);
    if (!a->packs) {
        d->own = rq_mem_alloc(bytes, 1);
        if (!d->own)
            return RQ_NO_MEMORY;
        pack_all(d->own, &p);
        d->g.w = d->own;
        return RQ_OK;
    }
    char key[160];
    snprintf(key, sizeof key, "winograd %s %lld channels, %lld columns, %d", a->k->winograd->name,
             (long long)d->w.channels, (long long)d->w.columns, d->w.flip);
    return rq_packs_get(a, a->in[1], key, bytes, pack_all, &p, &d->g.w);
}

static void fold(rq_int_winograd *d, const rq_op_args *a)
{
    const rq_qparams *x = a->in_q[0], *w = a->in_q[1];
    const int32_t zx = x->zero_point[0] + (rq_int_flip_to_u8(x->dtype) ? 128 : 0);
    const int32_t *sum = (const int32_t *)(const void *)((const char *)d->g.w + weights_bytes(d, a));
    const rq_tensor *b = a->n_in > 2 ? a->in[2] : NULL;
    memset(d->zeros, zx, (size_t)d->w.channels);
    for (int64_t c = 0; c < d->w.columns; c++) {
        uint32_t add = 0U - (uint32_t)zx * (uint32_t)sum[c];
        if (b)
            add += b->dtype == RQ_DTYPE_S32
                       ? (uint32_t)b->s32[c]
                       : (uint32_t)rq_quantize_bias_f32(b->f32[c], x->scale[0], w->scale[c % w->n]);
        d->add[c] = (int32_t)add;
        d->m[c] = multiplier(a, c);
    }
}

rq_status rq_int_winograd_create(rq_int_winograd **out, const rq_op_args *a, const rq_window *w)
{
    rq_int_winograd *d = rq_mem_zalloc(1, sizeof *d);
    if (!d)
        return RQ_NO_MEMORY;
    d->w = weights_of(a);
    d->zeros = rq_mem_alloc((size_t)d->w.channels, 1);
    d->add = rq_mem_alloc((size_t)d->w.columns, sizeof *d->add + sizeof *d->m);
    const rq_status s = d->zeros && d->add ? pack(d, a) : RQ_NO_MEMORY;
    if (s) {
        rq_int_winograd_destroy(d);
        return s;
    }
    d->m = (float *)(d->add + d->w.columns);
    fold(d, a);
    rq_winograd *g = &d->g;
    g->k = a->k;
    g->channels = d->w.channels;
    g->columns = d->w.columns;
    for (int i = 0; i < 2; i++) {
        g->in[i] = w->in[i + 1];
        g->out[i] = w->out[i + 1];
        g->pad[i] = w->pad_lo[i + 1];
    }
    g->zeros = d->zeros;
    g->add = d->add;
    g->m = d->m;
    g->zp = a->out_q[0]->zero_point[0];
    rq_qparams_limits(a->out_q[0], &g->lo, &g->hi);
    *out = d;
    return RQ_OK;
}

/* ---- running ---- */

static rq_winograd job_of(const rq_int_winograd *d, const rq_op_args *a)
{
    rq_winograd g = d->g;
    g.batch = a->in[0]->shape.dim[0];
    g.ld = rq_int_last_ld(a);
    return g;
}

size_t rq_int_winograd_scratch(const rq_int_winograd *d, const rq_op_args *a)
{
    const rq_winograd g = job_of(d, a);
    return rq_winograd_room(&g);
}

void rq_int_winograd_run(const rq_int_winograd *d, const rq_op_args *a, const uint8_t *x, int64_t x_ld, uint8_t *y,
                         void *scratch)
{
    rq_winograd g = job_of(d, a);
    g.x = x;
    g.x_ld = x_ld;
    g.y = y;
    g.room = scratch;
    rq_winograd_run(&g, a->threads);
    rq_int_last_posts(a);
}
