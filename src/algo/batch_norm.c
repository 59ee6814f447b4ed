/* algo/batch_norm.c — re-estimation of running statistics. A forward in train mode leaves r1 = m r0 + (1 - m) b of a batch's b where r0 was; b is taken from
 * that, and r0 put back, so that no batch sees what an earlier one left. */
#include "requant/batch_norm.h"

#include <string.h>

#include "algo/report_priv.h"
#include "base/mem.h"
#include "graph/graph.h"
#include "graph/query.h"
#include "ops/op.h"

/* A running mean or variance. */
typedef struct statistic {
    float *at; /* [n] in the graph */
    int64_t n;
    double momentum;
    float *before; /* [n] */
    double *sum;   /* [n] of batches */
} statistic;

typedef struct work {
    statistic *s;
    int n;
    rq_err *err;
} work;

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory for statistics of batch norms");
}

static bool is_known(const work *w, const float *at)
{
    for (int i = 0; i < w->n; i++)
        if (w->s[i].at == at)
            return true;
    return false;
}

static rq_status add(work *w, const rq_node *n, const rq_tensor *t)
{
    if (t->dtype != RQ_DTYPE_F32 || is_known(w, t->f32))
        return RQ_OK;
    statistic *s = &w->s[w->n++];
    s->at = t->f32;
    s->n = rq_tensor_count(t);
    s->momentum = (double)rq_attr_float(n, RQ_WORD_momentum, 0.9f);
    s->before = rq_mem_alloc((size_t)s->n, sizeof *s->before);
    s->sum = rq_mem_zalloc((size_t)s->n, sizeof *s->sum);
    if (!s->before || !s->sum)
        return no_memory(w->err);
    memcpy(s->before, s->at, (size_t)s->n * sizeof *s->at);
    return RQ_OK;
}

static rq_status find(work *w, const rq_graph *g)
{
    w->s = rq_mem_zalloc((size_t)g->n_nodes * 2 + 1, sizeof *w->s);
    if (!w->s)
        return no_memory(w->err);
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *n = &g->nodes[i];
        const unsigned mask = n->op && n->row ? n->row->statistics : 0;
        int found = 0;
        for (int k = 0; k < n->n_in && mask; k++)
            if ((mask & RQ_OP_IN(k)) && rq_graph_is_const(g, n->in[k]) && found++ < 2)
                RQ_TRY(add(w, n, &g->values[n->in[k]].constant));
    }
    return RQ_OK;
}

/* After a forward: the batch's part to the sums, the running numbers as they were. */
static void take(work *w)
{
    for (int i = 0; i < w->n; i++) {
        statistic *s = &w->s[i];
        for (int64_t c = 0; c < s->n; c++) {
            const double r0 = (double)s->before[c], r1 = (double)s->at[c];
            s->sum[c] += s->at[c] == s->before[c] ? r0 : (r1 - s->momentum * r0) / (1 - s->momentum);
            s->at[c] = s->before[c];
        }
    }
}

static void put(work *w, int64_t batches)
{
    for (int i = 0; i < w->n; i++)
        for (int64_t c = 0; c < w->s[i].n; c++)
            w->s[i].at[c] = (float)(w->s[i].sum[c] / (double)batches);
}

static rq_status measure(work *w, rq_autograd *a, int n_out, rq_dataset *data, int64_t batches, int64_t *done)
{
    rq_walk walk = { 0 };
    rq_tensor *y = rq_mem_zalloc((size_t)n_out + 1, sizeof *y);
    rq_status s = y && !rq_walk_init(&walk, data, NULL, 0, 0) ? RQ_OK : no_memory(w->err);
    *done = 0;
    while (s == RQ_OK && (batches <= 0 || *done < batches)) {
        const rq_feed *feeds;
        const int64_t *rows;
        int n_feeds;
        int64_t n;
        s = rq_walk_next(&walk, &feeds, &n_feeds, &rows, &n, w->err);
        if (s || !n ||
            (*done && n < walk.step)) /* the statistics of a small last batch would count as much as others' */
            break;
        s = rq_autograd_forward(a, feeds, n_feeds, y, w->err);
        take(w);
        *done += s == RQ_OK;
    }
    rq_walk_release(&walk);
    rq_mem_free(y);
    return s;
}

rq_status rq_batch_norm_reestimate(rq_autograd *a, rq_graph *g, rq_dataset *data, int64_t batches, int64_t *done,
                                   rq_err *err)
{
    work w = { .err = err };
    int64_t n = 0;
    const bool train = rq_autograd_is_training(a);
    const uint64_t random = rq_autograd_random_state(a);
    rq_status s = find(&w, g);
    if (s == RQ_OK && w.n) {
        rq_autograd_train(a, true);
        s = measure(&w, a, rq_graph_n_outputs(g), data, batches, &n);
        rq_autograd_train(a, train);
        rq_autograd_set_random_state(a, random);
        if (s == RQ_OK && n)
            put(&w, n);
        else if (s == RQ_OK)
            s = rq_fail(err, RQ_BAD_DATA, "no samples to take the statistics of batch norms from");
    }
    for (int i = 0; i < w.n; i++) {
        rq_mem_free(w.s[i].before);
        rq_mem_free(w.s[i].sum);
    }
    rq_mem_free(w.s);
    if (s == RQ_OK && done)
        *done = n;
    return s;
}
