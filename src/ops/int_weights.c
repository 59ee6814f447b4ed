/* ops/int_weights.c — see int_weights.h. */
#include "ops/int_weights.h"

#include <stdio.h>

#include "base/mem.h"
#include "ops/packs.h"

typedef struct pack_args {
    const rq_kernels *k;
    rq_threads *threads;
    const rq_int_weights *w;
    const uint8_t *src;
    const rq_int_matrices *m;
} pack_args;

/* made: the matrices, then their sums. */
static void pack_all(void *made, const void *arg)
{
    const pack_args *p = arg;
    const rq_int_weights *w = p->w;
    const rq_int_matrices *m = p->m;
    int32_t *sum = (int32_t *)((char *)made + (size_t)m->n * w->w_bytes);
    for (int64_t i = 0; i < m->n; i++)
        rq_qgemm_pack_on(p->threads, &p->k->qgemm, (char *)made + (size_t)i * w->w_bytes,
                         p->src + m->first + i * m->step, 0, m->k_stride, m->col_stride, 1, w->depth, w->columns,
                         w->flip, sum + i * w->columns);
}

rq_status rq_int_weights_init(rq_int_weights *w, const rq_op_args *a, const rq_tensor *t, const rq_int_matrices *m)
{
    *w = (rq_int_weights) { .depth = m->depth, .columns = m->columns, .flip = t->dtype == RQ_DTYPE_U8 ? 0x80 : 0 };
    w->w_bytes = rq_mem_round(rq_qgemm_w_bytes(&a->k->qgemm, 1, m->depth, m->columns));
    if (!t->data)
        return RQ_OK;
    const size_t all = (size_t)m->n * w->w_bytes, bytes = all + (size_t)(m->n * m->columns) * sizeof(int32_t);
    const pack_args p = { a->k, a->threads, w, t->u8, m };
    const void *made;
    if (a->packs) {
        char key[200];
        snprintf(key, sizeof key, "product %s %lld %lld %lld %lld %lld %lld %lld %d", a->k->isa, (long long)m->n,
                 (long long)m->depth, (long long)m->columns, (long long)m->first, (long long)m->step,
                 (long long)m->k_stride, (long long)m->col_stride, w->flip);
        RQ_TRY(rq_packs_get(a, t, key, bytes, pack_all, &p, &made));
    } else {
        if (!(w->own = rq_mem_alloc(1, bytes)))
            return RQ_NO_MEMORY;
        pack_all(w->own, &p);
        made = w->own;
    }
    w->w = made;
    w->sum = (const int32_t *)((const char *)made + all);
    return RQ_OK;
}

void rq_int_weights_release(rq_int_weights *w)
{
    rq_mem_free(w->own);
    *w = (rq_int_weights) { 0 };
}

void rq_int_weights_fold(int32_t *add, const int32_t *sum, int64_t depth, int64_t columns, int32_t zx, int32_t zero,
                         const int32_t *col_zero)
{
    const uint32_t k = (uint32_t)depth * (uint32_t)zx;
    for (int64_t j = 0; zx && j < columns; j++)
        add[j] = (int32_t)((uint32_t)add[j] + k * (uint32_t)(col_zero ? col_zero[j] : zero) -
                           (uint32_t)zx * (uint32_t)sum[j]);
}

/* ---- rows ---- */

typedef struct move_args {
    uint8_t *to, flip;
    const uint8_t *x;
    int64_t row_stride, k_stride, rows, depth, each;
} move_args;

static void move_rows(void *arg, int64_t item)
{
    const move_args *m = arg;
    const int64_t from = item * m->each, to = from + m->each < m->rows ? from + m->each : m->rows;
    for (int64_t i = from; i < to; i++) {
        const uint8_t *src = m->x + i * m->row_stride;
        uint8_t *dst = m->to + i * m->depth;
        if (m->k_stride == 1)
            for (int64_t k = 0; k < m->depth; k++)
                dst[k] = src[k] ^ m->flip;
        else
            for (int64_t k = 0; k < m->depth; k++)
                dst[k] = src[k * m->k_stride] ^ m->flip;
    }
}

bool rq_int_rows_move(rq_dtype d, int64_t k_stride)
{
    return d == RQ_DTYPE_S8 || k_stride != 1;
}

const uint8_t *rq_int_rows(uint8_t *room, const uint8_t *x, rq_dtype d, int64_t row_stride, int64_t k_stride,
                           int64_t rows, int64_t depth, int64_t *stride, rq_threads *t)
{
    enum { EACH = 1 << 16 }; /* bytes of an item, or a row */
    *stride = row_stride;
    if (!rq_int_rows_move(d, k_stride))
        return x;
    *stride = depth;
    move_args m = { room, d == RQ_DTYPE_S8 ? 0x80 : 0, x, row_stride, k_stride, rows, depth, EACH / (depth + 1) + 1 };
    rq_threads_for(rows * depth < 2 * EACH ? NULL : t, (rows + m.each - 1) / m.each, move_rows, &m);
    return room;
}
