/* ops/attend_grad.c — backward of scaled dot-product attention (ops/attend.h).
 *
 * With shares p = softmax(s), s = cap(scale q k^T) + masks, y = p v:
 *   dv = p^T dy;  dp = dy v^T;  ds = p (dp - sum p dp);  dq = scale ds k;  dk = scale ds^T q
 * and through the cap ds times 1 - (capped / cap)^2. A sink, whose share 1 - sum p weighs nothing, gets -(1 - sum p) sum p dp. A head of keys is one item of work: the heads of queries that share it
 * add to its dk and dv in order. Shares, then ds, take queries x keys of scratch for every head. */
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/gemm_f32.h"
#include "ops/attend.h"
#include "ops/grad.h"

typedef struct room {
    float *y, *shares, *ds, *capped, *sink; /* sink: [batch][heads] */
} room;

static size_t lay_out(const rq_attend *a, char *at, room *r)
{
    const size_t rows = (size_t)(a->batch * a->heads * a->queries);
    const size_t scores = rq_mem_round(rows * (size_t)a->keys * sizeof(float));
    const size_t y = rq_mem_round(rows * (size_t)a->v_size * sizeof(float));
    *r = (room) { .y = (float *)at,
                  .shares = (float *)(at + y),
                  .ds = (float *)(at + y + scores),
                  .capped = (float *)(at + y + 2 * scores) };
    const size_t all = y + (a->softcap > 0 ? 3 : 2) * scores;
    r->sink = (float *)(at + all);
    return all + rq_mem_round((size_t)(a->batch * a->heads) * sizeof(float));
}

size_t rq_attend_grad_scratch(const rq_attend *a)
{
    static char nowhere[1];
    room r;
    return lay_out(a, nowhere, &r);
}

typedef struct job {
    const rq_attend_grad *g;
    room r;
    atomic_int failed;
} job;

/* ds of one head from dp in its place: [queries][keys]; returns what its sink gets. */
static float through_softmax(const rq_attend *a, float *ds, const float *shares)
{
    double sink = 0;
    for (int64_t i = 0; i < a->queries; i++, ds += a->keys, shares += a->keys) {
        double sum = 0, rest = 1;
        for (int64_t j = 0; j < a->keys; j++) {
            sum += (double)shares[j] * (double)ds[j];
            rest -= (double)shares[j];
        }
        const float mean = (float)sum;
        sink -= rest * sum;
        for (int64_t j = 0; j < a->keys; j++)
            ds[j] = shares[j] * (ds[j] - mean);
    }
    return (float)sink;
}

/* shares = ds (1 - (capped / cap)^2): the shares themselves are needed no more. */
static void through_cap(const rq_attend *a, float *shares, const float *ds, const float *capped)
{
    for (int64_t i = 0, n = a->queries * a->keys; i < n; i++) {
        const float t = capped[i] / a->softcap;
        shares[i] = ds[i] * (1 - t * t);
    }
}

/* One head of queries; `fresh`: the first that writes to its head of keys. */
static rq_status head(const job *j, int64_t b, int64_t h, bool fresh)
{
    const rq_attend_grad *g = j->g;
    const rq_attend *a = g->a;
    const int64_t kv = h / (a->heads / a->kv_heads), m = a->queries, n = a->keys, at = (b * a->heads + h) * m * n;
    const int64_t q_at = b * a->q_at.batch + h * a->q_at.head, key_at = b * a->key_at.batch + kv * a->key_at.head,
                  v_at = b * a->v_at.batch + kv * a->v_at.head;
    const float *dy = g->dy + b * a->y_at.batch + h * a->y_at.head, beta = fresh ? 0 : 1;
    float *shares = j->r.shares + at, *ds = j->r.ds + at, *through = ds;
    if (g->dv)
        RQ_TRY(rq_gemm_f32(a->k, g->dv + v_at, shares, dy, true, false, n, a->v_size, m, 1, n, a->y_at.row, beta,
                           a->v_at.row, NULL));
    if (!g->dq && !g->dkey && !g->dmask && !g->dsink)
        return RQ_OK;
    RQ_TRY(
        rq_gemm_f32(a->k, ds, dy, a->v + v_at, false, true, m, n, a->v_size, 1, a->y_at.row, a->v_at.row, 0, n, NULL));
    j->r.sink[b * a->heads + h] = through_softmax(a, ds, shares);
    if (a->softcap > 0) {
        through_cap(a, shares, ds, j->r.capped + at);
        through = shares;
    }
    if (g->dq)
        RQ_TRY(rq_gemm_f32(a->k, g->dq + q_at, through, a->key + key_at, false, false, m, a->size, n, a->scale, n,
                           a->key_at.row, 0, a->q_at.row, NULL));
    if (g->dkey)
        RQ_TRY(rq_gemm_f32(a->k, g->dkey + key_at, through, a->q + q_at, true, false, n, a->size, m, a->scale, n,
                           a->q_at.row, beta, a->key_at.row, NULL));
    return RQ_OK;
}

static void run_item(void *arg, int64_t i)
{
    job *j = arg;
    const rq_attend *a = j->g->a;
    const int64_t group = a->heads / a->kv_heads, b = i / a->kv_heads, first = i % a->kv_heads * group;
    rq_status s = RQ_OK;
    for (int64_t h = 0; h < group && s == RQ_OK; h++)
        s = head(j, b, first + h, h == 0);
    if (s != RQ_OK)
        atomic_store(&j->failed, (int)s);
}

rq_status rq_attend_grad_run(const rq_op_args *args, const rq_attend_grad *g)
{
    job j = { .g = g };
    rq_attend a = *g->a;
    lay_out(&a, g->scratch, &j.r);
    const rq_shape scores = rq_shape_of(4, (int64_t[]) { a.batch, a.heads, a.queries, a.keys });
    a.y = j.r.y;
    a.y_at = (rq_attend_at) { a.heads * a.queries * a.v_size, a.queries * a.v_size, a.v_size };
    a.scores = j.r.shares;
    a.tap = RQ_ATTEND_SHARES;
    RQ_TRY(rq_attend_run(&a));
    if (a.softcap > 0) {
        a.scores = j.r.capped;
        a.tap = RQ_ATTEND_CAPPED;
        RQ_TRY(rq_attend_run(&a));
    }
    rq_threads_for(a.threads, a.batch * a.kv_heads, run_item, &j);
    RQ_TRY((rq_status)atomic_load(&j.failed));
    for (int64_t h = 0; g->dsink && h < a.heads; h++) {
        double sum = 0;
        for (int64_t b = 0; b < a.batch; b++)
            sum += (double)j.r.sink[b * a.heads + h];
        g->dsink[h] = (float)sum;
    }
    if (!g->dmask)
        return RQ_OK;
    const rq_tensor ds = rq_tensor_view(RQ_DTYPE_F32, &scores, j.r.ds);
    return rq_grad_sum(args, g->dmask, &ds);
}
