/* kernels/float_dnnl_grad_run.c — gradients of a convolution through oneDNN: one run, and its scratch. What is computed:
 * float_dnnl_grad.h. */
#include <stdatomic.h>

#include "base/mem.h"
#include "kernels/float_dnnl_grad.h"
#include "kernels/slots.h"

enum { SUM_ITEM = 16384 }; /* elements of weight gradients that a thread adds at a time */

/* Where the channels of a side begin in cut c of maker m, in elements. */
static int64_t cut_at(const rq_float_dnnl_grad *g, const maker *m, int which, int64_t c)
{
    const rq_conv_geom *q = &g->g;
    const bool grouped = q->groups > 1;
    const int64_t per = q->in_ch / q->groups * g->area[W];
    switch (which) {
    case S:
        return grouped || m->out == S ? c * (q->in_ch / m->cuts) * g->area[S] : 0;
    case T:
        return grouped || m->out != S ? c * (q->out_ch / m->cuts) * g->area[T] : 0;
    default:
        return grouped || m->out != S ? c * (q->out_ch / m->cuts) * per : c * (q->in_ch / m->cuts) * g->area[W];
    }
}

/* Scratch: [weights of DATA: cuts of full pieces, cuts of the last][weight gradients of every piece but one][slots]. A slot: [s][w][t]
 * [scratchpad], and where one piece does both: its s, w, t, then the other's. */
static size_t weights_bytes(const rq_float_dnnl_grad *c)
{
    if (!(c->have & RQ_CONV_GRAD_X))
        return 0;
    return (c->maker[0][DATA].side[W].bytes + c->maker[1][DATA].side[W].bytes) * (size_t)c->cuts[DATA];
}

static int64_t weights_count(const rq_float_dnnl_grad *c)
{
    return c->g.out_ch * (c->g.in_ch / c->g.groups) * c->area[W];
}

static size_t partial_bytes(const rq_float_dnnl_grad *c)
{
    return c->have & RQ_CONV_GRAD_W ? rq_mem_round((size_t)weights_count(c) * sizeof(float)) : 0;
}

static size_t maker_bytes(const maker *m, bool weights)
{
    return m->side[S].bytes + m->side[T].bytes + (weights ? m->side[W].bytes : 0) + m->pad_bytes;
}

static size_t slot_bytes(const rq_float_dnnl_grad *c)
{
    size_t most = 0;
    for (int i = 0; i < 2; i++) {
        const size_t n = maker_bytes(&c->maker[i][DATA], false) + maker_bytes(&c->maker[i][WEIGHTS], true);
        most = n > most ? n : most;
    }
    return most;
}

size_t rq_float_dnnl_grad_scratch(const rq_float_dnnl_grad *c)
{
    return weights_bytes(c) + partial_bytes(c) * (size_t)(c->pieces - 1) + slot_bytes(c) * (size_t)c->slots;
}

typedef struct grad_job {
    const rq_float_dnnl_grad *c;
    float *dx, *dw;
    const float *dy, *x, *w;
    bool want[N_MAKERS];
    char *packed, *partial, *scratch;
    rq_slots slots;
    atomic_int failed;
} grad_job;

static void fail(grad_job *j, dnnl_status_t s)
{
    if (s != dnnl_success)
        atomic_store(&j->failed, (int)status_of(s));
}

/* Weights in the order DATA wants: cut `item` of full pieces, then of the last. */
static char *packed_at(const grad_job *j, int last, int64_t cut)
{
    const rq_float_dnnl_grad *c = j->c;
    const size_t full = c->maker[0][DATA].side[W].bytes;
    return j->packed +
           (last ? full * (size_t)c->cuts[DATA] + c->maker[1][DATA].side[W].bytes * (size_t)cut : full * (size_t)cut);
}

static void pack_item(void *arg, int64_t item)
{
    grad_job *j = arg;
    const rq_float_dnnl_grad *c = j->c;
    const int last = (int)(item / c->cuts[DATA]);
    const int64_t cut = item % c->cuts[DATA];
    const maker *m = &c->maker[last][DATA];
    const side *w = &m->side[W];
    if (!w->move)
        return;
    dnnl_stream_t stream;
    const int omp = omp_enter();
    dnnl_status_t s = dnnl_stream_create(&stream, c->engine, dnnl_stream_default_flags);
    if (s == dnnl_success) {
        s = reorder(c->engine, stream, w->move, md_get(&w->plain), j->w + cut_at(c, m, W, cut), w->want,
                    packed_at(j, last, cut));
        dnnl_stream_destroy(stream);
    }
    fail(j, s);
    omp_leave(omp);
}

/* Run m: at[] are the plain tensors; `ready` (may be NULL) are sides that already are as m wants them; what had to be moved is left in
 * moved[]. Takes scratch from *mine. */
static dnnl_status_t run_maker(const rq_float_dnnl_grad *c, const maker *m, dnnl_stream_t stream,
                               void *const at[N_SIDES], void *const ready[N_SIDES], void *moved[N_SIDES], char **mine)
{
    static const int in_args[N_SIDES] = { DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST };
    static const int out_args[N_SIDES] = { DNNL_ARG_DIFF_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DST };
    dnnl_exec_arg_t args[N_SIDES + 1];
    dnnl_status_t s = dnnl_success;
    for (int i = 0; i < N_SIDES; i++) {
        const side *d = &m->side[i];
        void *p = at[i];
        if (ready[i]) {
            p = ready[i];
        } else if (d->move) {
            p = *mine;
            *mine += d->bytes;
            if (i != m->out && s == dnnl_success)
                s = reorder(c->engine, stream, d->move, md_get(&d->plain), at[i], d->want, p);
        }
        moved[i] = p;
        args[i] = (dnnl_exec_arg_t) { i == m->out ? out_args[i] : in_args[i], wrap(c->engine, d->want, p) };
    }
    args[N_SIDES] = (dnnl_exec_arg_t) { DNNL_ARG_SCRATCHPAD, wrap(c->engine, m->pad, *mine) };
    *mine += m->pad_bytes;
    for (int i = 0; i <= N_SIDES; i++)
        if (!args[i].memory)
            s = dnnl_out_of_memory;
    if (s == dnnl_success)
        s = dnnl_primitive_execute(m->run, stream, N_SIDES + 1, args);
    if (s == dnnl_success)
        s = dnnl_stream_wait(stream);
    for (int i = 0; i <= N_SIDES; i++)
        unwrap(args[i].memory);
    const side *o = &m->side[m->out];
    if (s == dnnl_success && o->move)
        s = reorder(c->engine, stream, o->move, o->want, moved[m->out], md_get(&o->plain), at[m->out]);
    return s;
}

/* One piece of the batch, one cut of its channels. */
static void grad_item(void *arg, int64_t item)
{
    grad_job *j = arg;
    const rq_float_dnnl_grad *c = j->c;
    const int64_t most = most_cuts(c);
    const int64_t piece = item / most, cut = item % most;
    const int last = c->tail && piece == c->pieces - 1;
    const int slot = rq_slots_take(&j->slots);
    char *mine = j->scratch + (size_t)slot * slot_bytes(c);
    float *dw = piece == 0 ? j->dw : (float *)(j->partial + (size_t)(piece - 1) * partial_bytes(c));
    /* the batch offset of s and t, and what lies there: x and dy, or dy and x */
    const int64_t s_at = piece * c->images * c->g.in_ch * c->area[S],
                  t_at = piece * c->images * c->g.out_ch * c->area[T];
    const float *sx = c->transposed ? j->dy : j->x, *tx = c->transposed ? j->x : j->dy;
    dnnl_stream_t stream = NULL;
    const int omp = omp_enter();
    dnnl_status_t s = dnnl_stream_create(&stream, c->engine, dnnl_stream_default_flags);
    void *moved[N_SIDES] = { NULL }, *ready[N_SIDES] = { NULL };
    const int dy = c->transposed ? S : T;
    const maker *d = &c->maker[last][DATA], *w = &c->maker[last][WEIGHTS];
    if (j->want[DATA] && cut < c->cuts[DATA] && s == dnnl_success) {
        float *sp = d->out == S ? j->dx : (float *)sx, *tp = d->out == T ? j->dx : (float *)tx;
        void *at[N_SIDES] = { sp + s_at + cut_at(c, d, S, cut), (float *)j->w + cut_at(c, d, W, cut),
                              tp + t_at + cut_at(c, d, T, cut) };
        if (d->side[W].move)
            ready[W] = packed_at(j, last, cut);
        s = run_maker(c, d, stream, at, ready, moved, &mine);
        ready[W] = NULL;
        /* dy is as backward-weights wants it, too */
        if (j->want[WEIGHTS] && most == 1 && d->side[dy].move && w->side[dy].move &&
            dnnl_memory_desc_equal(d->side[dy].want, w->side[dy].want))
            ready[dy] = moved[dy];
    }
    if (j->want[WEIGHTS] && cut < c->cuts[WEIGHTS] && s == dnnl_success) {
        void *at[N_SIDES] = { (float *)sx + s_at + cut_at(c, w, S, cut), dw + cut_at(c, w, W, cut),
                              (float *)tx + t_at + cut_at(c, w, T, cut) };
        s = run_maker(c, w, stream, at, ready, moved, &mine);
    }
    if (stream)
        dnnl_stream_destroy(stream);
    omp_leave(omp);
    fail(j, s);
    rq_slots_give(&j->slots, slot);
}

/* Add the weight gradients of the pieces, in order, to the first. */
static void sum_item(void *arg, int64_t item)
{
    const grad_job *j = arg;
    const int64_t n = weights_count(j->c), first = item * SUM_ITEM, end = first + SUM_ITEM < n ? first + SUM_ITEM : n;
    for (int64_t p = 1; p < j->c->pieces; p++) {
        const float *restrict from = (const float *)(j->partial + (size_t)(p - 1) * partial_bytes(j->c));
        float *restrict to = j->dw;
        int64_t i = first;
        for (; i + 16 <= end; i += 16)
            for (int v = 0; v < 16; v++)
                to[i + v] += from[i + v];
        for (; i < end; i++)
            to[i] += from[i];
    }
}

rq_status rq_float_dnnl_grad_run(const rq_float_dnnl_grad *c, float *dx, float *dw, const float *dy, const float *x,
                                 const float *w, void *scratch, rq_threads *t)
{
    grad_job j = { .c = c, .dx = dx, .dw = dw, .dy = dy, .x = x, .w = w };
    j.want[DATA] = dx && c->have & RQ_CONV_GRAD_X;
    j.want[WEIGHTS] = dw && c->have & RQ_CONV_GRAD_W;
    j.packed = scratch;
    j.partial = j.packed + weights_bytes(c);
    j.scratch = j.partial + partial_bytes(c) * (size_t)(c->pieces - 1);
    j.slots.n = c->slots;
    if (j.want[DATA])
        rq_threads_for(t, c->cuts[DATA] * (c->tail ? 2 : 1), pack_item, &j);
    if (j.want[DATA] || j.want[WEIGHTS])
        rq_threads_for(t, c->pieces * most_cuts(c), grad_item, &j);
    if (j.want[WEIGHTS] && c->pieces > 1)
        rq_threads_for(t, (weights_count(c) + SUM_ITEM - 1) / SUM_ITEM, sum_item, &j);
    return (rq_status)atomic_load(&j.failed);
}
