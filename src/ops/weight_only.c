/* ops/weight_only.c — see weight_only.h. Threads share the panels, each with scratch for one of them. */
#include "ops/weight_only.h"

#include <stdatomic.h>

#include "base/mem.h"
#include "kernels/gemm_f32.h"
#include "kernels/slots.h"

enum {
    PANEL_FLOATS = 1 << 16, /* a panel that stays in the second cache */
    LEAST = 16,
    MOST = 256, /* columns */
};

static int64_t panel_columns(int64_t depth, int64_t columns)
{
    int64_t n = PANEL_FLOATS / (depth ? depth : 1) / LEAST * LEAST;
    n = n < LEAST ? LEAST : n > MOST ? MOST : n;
    return n < columns ? n : columns;
}

static size_t panel_bytes(int64_t depth, int64_t columns)
{
    return rq_mem_round((size_t)panel_columns(depth, columns) * (size_t)depth * sizeof(float));
}

static int slots_of(int threads)
{
    return threads < RQ_SLOTS_MAX ? threads : RQ_SLOTS_MAX;
}

size_t rq_weight_only_scratch(int64_t depth, int64_t columns, int threads)
{
    return (size_t)slots_of(threads) * panel_bytes(depth, columns);
}

typedef struct job {
    const rq_weight_only *p;
    char *scratch;
    rq_slots slots;
    atomic_int status;
} job;

static void run_panel(void *arg, int64_t item)
{
    job *j = arg;
    const rq_weight_only *p = j->p;
    const int64_t most = panel_columns(p->depth, p->columns), first = item * most;
    const int64_t n = p->columns - first < most ? p->columns - first : most;
    const int slot = rq_slots_take(&j->slots);
    float *w = (float *)(j->scratch + (size_t)slot * panel_bytes(p->depth, p->columns));
    p->fill(p->arg, w, first, n);
    const rq_status st = rq_gemm_f32(p->k, p->y + first, p->x, w, false, true, p->rows, n, p->depth, 1, p->depth,
                                     p->depth, 0, p->columns, NULL);
    rq_slots_give(&j->slots, slot);
    if (st)
        atomic_store(&j->status, (int)st);
    for (int64_t i = 0; p->bias && i < p->rows; i++)
        for (int64_t c = first; c < first + n; c++)
            p->y[i * p->columns + c] += p->bias[c];
}

rq_status rq_weight_only_run(const rq_weight_only *p, void *scratch, rq_threads *t)
{
    const int64_t each = panel_columns(p->depth, p->columns);
    job j = { .p = p, .scratch = scratch, .slots = { .n = slots_of(rq_threads_count(t)) } };
    if (p->rows == 0 || p->columns == 0)
        return RQ_OK;
    rq_threads_for(t, (p->columns + each - 1) / each, run_panel, &j);
    return (rq_status)atomic_load(&j.status);
}
