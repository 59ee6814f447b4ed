/* ops/attend.c — scaled dot-product attention (ops/attend.h).
 *
 * Work is cut into blocks of queries of one head. Scores of a block live in scratch: made by a product with all keys that
 * any of its queries may see, masked, turned into shares row by row, and multiplied by v, before the next block. So
 * memory grows with the number of keys and of threads, never with queries x keys. */
#include "ops/attend.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/gemm_f32.h"
#include "kernels/slots.h"
#include "ops/bcast.h"
#include "tensor/convert.h"

#define MOST_BYTES ((size_t)1 << 52) /* more than there is, and 64 of them are still a size */
enum { BLOCK = 64, BLOCK_SCORES = 1 << 18, ALONE = 1 << 15 };

/* Queries of one block: from sizes alone. */
static int64_t block_of(const rq_attend *a)
{
    const int64_t fit = BLOCK_SCORES / (a->keys > 0 ? a->keys : 1), most = fit < 8 ? 8 : fit < BLOCK ? fit : BLOCK;
    return a->queries < most ? a->queries : most;
}

/* Room of one block: no less for more keys, as fewer keys may come than room was made for. (Blocks get smaller as keys
 * get more, so the scores of a block alone do not grow steadily.) */
static size_t block_bytes(const rq_attend *a)
{
    const size_t keys = (size_t)a->keys + 1, rows = (size_t)(a->queries < BLOCK ? a->queries : BLOCK);
    size_t n, most, least;
    if (!rq_mem_mul(rows, keys, &n) || !rq_mem_mul(8, keys, &least))
        return MOST_BYTES;
    most = least > BLOCK_SCORES + BLOCK ? least : BLOCK_SCORES + BLOCK;
    n = n < most ? n : most;
    if (!rq_mem_mul(n, sizeof(float), &n) || n > MOST_BYTES)
        return MOST_BYTES;
    n = rq_mem_round(n);
    return a->codes ? n + rq_int_attend_scratch(a, block_of(a)) : n;
}

static int slots_of(rq_threads *t)
{
    const int n = rq_threads_count(t);
    return n < RQ_SLOTS_MAX ? n : RQ_SLOTS_MAX;
}

size_t rq_attend_scratch(const rq_attend *a, rq_threads *t)
{
    return block_bytes(a) * (size_t)slots_of(t);
}

typedef struct job {
    const rq_attend *a;
    int64_t block, blocks; /* queries of one, blocks of a head */
    rq_slots slots;
    atomic_int failed;
} job;

/* Queries from..from+n-1 of a head: what they look at. */
typedef struct span {
    int64_t b, h, from, n, offset;
    int64_t lo, hi; /* keys that some of them may see */
} span;

static bool kept(const rq_tensor *t, int64_t i)
{
    if (t->dtype == RQ_DTYPE_S32)
        return t->s32[i] > 0;
    return t->dtype == RQ_DTYPE_S64 ? t->s64[i] > 0 : t->u8[i] != 0;
}

static void hide(float *s, int64_t from, int64_t to, float by)
{
    for (int64_t j = from; j < to; j++)
        s[j] = by == -INFINITY ? by : s[j] + by;
}

/* s[j - lo] += mask at row i, lo <= j < hi. Minus infinity hides whatever the score is. */
static void add_mask(const rq_attend_mask *m, const span *p, int64_t i, float *s)
{
    const int64_t at = m->first + p->b * m->batch + p->h * m->head + i * m->row;
    const int64_t end = p->hi < m->columns ? p->hi : m->columns;
    if (m->t->dtype == RQ_DTYPE_F32)
        for (int64_t j = p->lo; j < end; j++) {
            const float by = m->t->f32[at + j * m->column];
            s[j - p->lo] = by == -INFINITY ? by : s[j - p->lo] + by;
        }
    else
        for (int64_t j = p->lo; j < end; j++)
            if (!kept(m->t, at + j * m->column))
                hide(s, j - p->lo, j - p->lo + 1, m->hide);
    if (end < p->hi)
        hide(s, (end > p->lo ? end : p->lo) - p->lo, p->hi - p->lo, -INFINITY);
}

/* Everything that hides or shifts the scores of query i. */
static void mask_row(const rq_attend *a, const span *p, int64_t i, float *s)
{
    const int64_t n = p->hi - p->lo, at = p->offset + i - p->lo; /* own position among the keys at hand */
    for (int m = 0; m < a->n_masks; m++)
        add_mask(&a->mask[m], p, i, s);
    int64_t from = a->from ? a->from[p->b] - p->lo : 0, until = a->until ? a->until[p->b] - p->lo : n;
    from = from < 0 ? 0 : from < n ? from : n;
    until = until < from ? from : until < n ? until : n;
    hide(s, 0, from, a->hide_keys);
    hide(s, until, n, a->hide_keys);
    int64_t first = a->left >= 0 ? at - a->left : 0, last = a->right >= 0 ? at + a->right : n - 1;
    if (a->causal && last > at)
        last = at;
    first = first < 0 ? 0 : first < n ? first : n;
    last = last < -1 ? -1 : last < n ? last : n - 1;
    const float far = a->hide_far < 0 ? a->hide_far : -INFINITY;
    hide(s, 0, first, far);
    hide(s, last + 1, n, far);
}

/* s[j] = e^(s[j] - largest), 1 at most; returns their sum, 0 where nothing is to look at. *rest: the share of the sink. */
static float weigh_row(const rq_attend *a, float sink, float *s, size_t n, float *rest)
{
    float most = a->k->fold[RQ_FOLD_MAX](s, n, 0);
    *rest = 0;
    if (most == -INFINITY) {
        memset(s, 0, n * sizeof *s);
        return 0;
    }
    if (sink > most)
        most = sink;
    const float sum = a->k->exp_sum(s, s, n, most);
    if (a->sink) {
        *rest = sink - most;
        a->k->map[RQ_MAP_EXP](rest, rest, 1, 0, 0);
    }
    return sum;
}

static void round_row(rq_dtype d, float *s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        s[i] = d == RQ_DTYPE_F16 ? rq_convert_f16_to_f32(rq_convert_f32_to_f16(s[i]))
                                 : rq_convert_bf16_to_f32(rq_convert_f32_to_bf16(s[i]));
}

static void tap(const rq_attend *a, const span *p, const float *s, rq_attend_tap which)
{
    if (a->scores && a->tap == which)
        memcpy(a->scores + ((p->b * a->heads + p->h) * a->queries + p->from) * a->keys, s,
               (size_t)(p->n * a->keys) * sizeof *s);
}

/* The keys that a block can see at all; everything when scores are wanted. */
static void see(const rq_attend *a, span *p)
{
    p->lo = 0;
    p->hi = a->keys;
    if (a->scores)
        return;
    const int64_t first = p->offset + p->from, last = first + p->n - 1; /* positions */
    if (a->causal && p->hi > last + 1)
        p->hi = last + 1;
    if (a->right >= 0 && a->right < a->keys && p->hi > last + a->right + 1)
        p->hi = last + a->right + 1;
    if (a->until && a->hide_keys == -INFINITY && p->hi > a->until[p->b])
        p->hi = a->until[p->b];
    if (a->left >= 0 && a->left < a->keys && p->lo < first - a->left)
        p->lo = first - a->left;
    if (p->lo >= p->hi)
        p->lo = p->hi = 0;
}

/* s [n][keys] = scale q k^T */
static rq_status score(const rq_attend *a, const rq_attend_block *p, float *s, void *codes)
{
    if (a->codes) {
        rq_int_attend_scores(a, p, s, codes);
        return RQ_OK;
    }
    const float *q = a->q + p->b * a->q_at.batch + p->h * a->q_at.head + p->from * a->q_at.row;
    const float *key = a->key + p->b * a->key_at.batch + p->kv * a->key_at.head + p->lo * a->key_at.row;
    return rq_gemm_f32(a->k, s, q, key, false, true, p->n, p->keys, a->size, a->scale, a->q_at.row, a->key_at.row, 0,
                       p->keys, NULL);
}

static rq_status run_block(const rq_attend *a, span *p, float *s)
{
    const int64_t kv = p->h / (a->heads / a->kv_heads);
    see(a, p);
    const int64_t n = p->hi - p->lo, space = (block_of(a) * (a->keys + 1) + 15) / 16 * 16;
    float *rest = s + block_of(a) * a->keys; /* [p->n], behind the scores; then what codes need */
    char *codes = (char *)(s + space);
    const rq_attend_block block = { p->b, p->h, kv, p->from, p->n, p->lo, n };
    if (n == 0 && a->codes) {
        memset(rest, 0, (size_t)p->n * sizeof *rest);
        rq_int_attend_values(a, &block, s, rest, codes);
        return RQ_OK;
    }
    float *y = a->codes ? NULL : a->y + p->b * a->y_at.batch + p->h * a->y_at.head + p->from * a->y_at.row;
    if (n == 0) {
        for (int64_t i = 0; i < p->n; i++)
            memset(y + i * a->y_at.row, 0, (size_t)a->v_size * sizeof *y);
        return RQ_OK;
    }
    RQ_TRY(score(a, &block, s, codes));
    tap(a, p, s, RQ_ATTEND_RAW);
    if (a->softcap > 0) {
        const size_t all = (size_t)(p->n * n);
        a->k->zip[RQ_ZIP_DIV](s, s, 1, &a->softcap, 0, all);
        a->k->map[RQ_MAP_TANH](s, s, all, 0, 0);
        a->k->zip[RQ_ZIP_MUL](s, s, 1, &a->softcap, 0, all);
    }
    tap(a, p, s, RQ_ATTEND_CAPPED);
    for (int64_t i = 0; i < p->n; i++)
        mask_row(a, p, p->from + i, s + i * n);
    tap(a, p, s, RQ_ATTEND_MASKED);
    const bool rounds = a->precision == RQ_DTYPE_F16 || a->precision == RQ_DTYPE_BF16;
    if (rounds)
        round_row(a->precision, s, p->n * n);
    for (int64_t i = 0; i < p->n; i++) {
        const float sum = weigh_row(a, a->sink ? a->sink[p->h] : -INFINITY, s + i * n, (size_t)n, &rest[i]) + rest[i];
        if (sum != 0 && !a->codes)
            a->k->zip[RQ_ZIP_DIV](s + i * n, s + i * n, 1, &sum, 0, (size_t)n);
    }
    if (a->codes) {
        rq_int_attend_values(a, &block, s, rest, codes);
        return RQ_OK;
    }
    if (rounds)
        round_row(a->precision, s, p->n * n);
    tap(a, p, s, RQ_ATTEND_SHARES);
    const float *v = a->v + p->b * a->v_at.batch + kv * a->v_at.head + p->lo * a->v_at.row;
    return rq_gemm_f32(a->k, y, s, v, false, false, p->n, a->v_size, n, 1, n, a->v_at.row, 0, a->y_at.row, NULL);
}

static void run_item(void *arg, int64_t item)
{
    job *j = arg;
    const rq_attend *a = j->a;
    span p = { .from = item % j->blocks * j->block };
    p.h = item / j->blocks % a->heads;
    p.b = item / j->blocks / a->heads;
    p.n = a->queries - p.from < j->block ? a->queries - p.from : j->block;
    p.offset = a->offset ? a->offset[p.b] : 0;
    const int slot = rq_slots_take(&j->slots);
    const rq_status s = run_block(a, &p, (float *)((char *)a->scratch + (size_t)slot * block_bytes(a)));
    rq_slots_give(&j->slots, slot);
    if (s != RQ_OK)
        atomic_store(&j->failed, (int)s);
}

rq_status rq_attend_run(const rq_attend *a)
{
    if (a->batch == 0 || a->heads == 0 || a->queries == 0)
        return RQ_OK;
    job j = { .a = a, .block = block_of(a) };
    j.blocks = (a->queries + j.block - 1) / j.block;
    const double work =
        (double)a->batch * (double)a->heads * (double)a->queries * (double)a->keys * (double)(a->size + a->v_size);
    rq_threads *t = work < ALONE ? NULL : a->threads;
    j.slots.n = slots_of(a->threads);
    rq_threads_for(t, a->batch * a->heads * j.blocks, run_item, &j);
    return (rq_status)atomic_load(&j.failed);
}

/* ---- keys and values so far ---- */

static void append_span(void *arg, int64_t from, int64_t n)
{
    const rq_attend_cache *c = arg;
    const size_t row = (size_t)c->columns * sizeof *c->dst;
    for (int64_t i = from; i < from + n; i++) {
        float *y = c->dst + i * c->total * c->columns;
        const float *x = c->x + i / c->heads * c->x_at.batch + i % c->heads * c->x_at.head;
        if (c->past)
            memcpy(y, c->old + i * c->old_rows * c->columns, (size_t)c->past * row);
        y += c->past * c->columns;
        for (int64_t r = 0; r < c->rows; r++)
            memcpy(y + r * c->columns, x + r * c->x_at.row, row);
        memset(y + c->rows * c->columns, 0, (size_t)(c->total - c->past - c->rows) * row);
    }
}

void rq_attend_append(rq_threads *t, const rq_attend_cache *c)
{
    const int64_t one = c->total * c->columns;
    if (one)
        rq_bcast_spans(t, c->batch * c->heads, RQ_BCAST_PIECE / one + 1, append_span, (void *)c);
}

rq_attend_mask rq_attend_mask_of(const rq_tensor *t, int64_t keys, bool cut, float hide)
{
    rq_attend_mask m = { .t = t, .columns = keys, .hide = hide };
    int64_t *const step[] = { &m.column, &m.row, &m.head, &m.batch };
    int64_t at = 1;
    for (int d = t->shape.rank - 1, i = 0; d >= 0 && i < 4; d--, i++) {
        *step[i] = t->shape.dim[d] == 1 ? 0 : at;
        at *= t->shape.dim[d];
    }
    if (t->shape.rank > 0 && cut) {
        m.columns = t->shape.dim[t->shape.rank - 1];
        m.column = 1;
    }
    return m;
}
