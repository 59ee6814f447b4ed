/* kernels/float_dnnl_grad.c — gradients of a convolution through oneDNN.
 *
 * One convolution relates three tensors, s [batch][channels][in], w and t [batch][filters][out]; each of them is computed from the other
 * two: t by a forward, the gradient of s by a backward-data, that of w by a backward-weights. A transposed convolution is the same
 * triple read from the other end: what it takes is t, what it makes is s, so its gradients are a forward and a backward-weights.
 *
 * The batch is cut into pieces of a few images, which stay in a core's cache while they are brought into the order that the primitive
 * wants; where there are few images or many weights, channels are cut too. Every piece of the batch makes a gradient of the weights
 * of its own; they are added in order. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/float_dnnl.h"
#include "kernels/float_dnnl_base.h"
#include "kernels/slots.h"

enum {
    MAX_PIECES = 16,       /* in all */
    PIECE_BYTES = 1 << 19, /* or that many of input and output */
    PIECE_MACS = 4000000,  /* work that is worth a piece */
    CHANNEL_BLOCK = 16,    /* channels are cut in whole blocks */
    PARTIAL_BYTES =
        1 << 20,      /* of weight gradients that wait to be added; more only where half the activations are more */
    SUM_ITEM = 16384, /* of their elements */
};

enum { S, W, T, N_SIDES };

/* One of the three tensors, in one piece. */
typedef struct side {
    md plain;              /* as it lies outside */
    md_ref want;           /* as the primitive wants it; owned by pd */
    dnnl_primitive_t move; /* between the two; NULL: they are one */
    size_t bytes;          /* of `want`, when moved */
} side;

/* A primitive that computes side `out` from the two others. */
typedef struct maker {
    int out;
    int64_t cuts; /* of the channels (filters, groups) */
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t run;
    side side[N_SIDES];
    md_ref pad;
    size_t pad_bytes;
} maker;

enum { DATA, WEIGHTS, N_MAKERS };

struct rq_float_dnnl_grad {
    rq_conv_geom g;         /* of the convolution, never transposed */
    bool transposed;        /* what was asked for */
    unsigned have;          /* RQ_CONV_GRAD_X, _W */
    int64_t images, pieces; /* of a piece; of the batch */
    bool tail;              /* the last has fewer */
    int64_t area[N_SIDES];  /* of one channel; W: the taps */
    int64_t cuts[N_MAKERS];
    dnnl_engine_t engine;
    maker maker[2][N_MAKERS]; /* of full pieces; of the last one, where it is smaller */
    int slots;
};

static int64_t area_of(const int64_t v[3])
{
    return v[0] * v[1] * v[2];
}

/* ---- building ---- */

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

static dnnl_status_t describe(const rq_float_dnnl_grad *g, maker *m, int64_t batch, md any[N_SIDES])
{
    const rq_conv_geom *q = &g->g;
    const int nd = q->nd, at = 3 - nd;
    const bool grouped = q->groups > 1, by_filter = m->out != S;
    const int64_t groups = grouped ? q->groups / m->cuts : 1;
    const int64_t icg = grouped || by_filter ? q->in_ch / q->groups : q->in_ch / m->cuts;
    const int64_t ocg = grouped || !by_filter ? q->out_ch / q->groups : q->out_ch / m->cuts;
    dnnl_dims_t s = { batch, groups * icg }, t = { batch, groups * ocg }, w = { 0 };
    dnnl_dims_t ss = { q->in_ch * g->area[S], g->area[S] }, ts = { q->out_ch * g->area[T], g->area[T] }, ws = { 0 };
    int n = 0;
    if (grouped) {
        w[n] = groups;
        ws[n++] = ocg * icg * g->area[W];
    }
    w[n] = ocg;
    ws[n++] = q->in_ch / q->groups * g->area[W];
    w[n] = icg;
    ws[n++] = g->area[W];
    int64_t s_step = g->area[S], t_step = g->area[T], w_step = g->area[W];
    for (int i = 0; i < nd; i++) {
        ss[2 + i] = s_step /= s[2 + i] = q->in[at + i];
        ts[2 + i] = t_step /= t[2 + i] = q->out[at + i];
        ws[n] = w_step /= w[n] = q->kernel[at + i];
        n++;
    }
    dnnl_status_t st = md_strided(&m->side[S].plain, 2 + nd, s, ss);
    if (st == dnnl_success)
        st = md_strided(&m->side[T].plain, 2 + nd, t, ts);
    if (st == dnnl_success)
        st = md_strided(&m->side[W].plain, n, w, ws);
    if (st == dnnl_success)
        st = md_any(&any[S], 2 + nd, s);
    if (st == dnnl_success)
        st = md_any(&any[T], 2 + nd, t);
    if (st == dnnl_success)
        st = md_any(&any[W], n, w);
    return st;
}

typedef struct steps {
    dnnl_dims_t stride, dilate, lo, hi;
} steps;

/* As oneDNN counts them: dilation 0 means none, and the windows end where the pads end. False: it has no such. */
static bool steps_of(const rq_conv_geom *g, steps *s)
{
    const int at = 3 - g->nd;
    for (int i = 0; i < g->nd; i++) {
        const int d = at + i;
        const int64_t span = (g->kernel[d] - 1) * g->dilation[d] + 1;
        const int64_t need = (g->out[d] - 1) * g->stride[d] + span - g->in[d] - g->pad_lo[d];
        s->stride[i] = g->stride[d];
        s->dilate[i] = g->dilation[d] - 1;
        s->lo[i] = g->pad_lo[d];
        s->hi[i] = need > 0 ? need : 0;
        if (g->pad_lo[d] < 0 || -need >= g->stride[d])
            return false;
    }
    return true;
}

static dnnl_status_t make_pd(dnnl_primitive_desc_t *pd, int out, const md d[N_SIDES], const steps *p,
                             dnnl_primitive_attr_t attr, dnnl_primitive_desc_t hint, dnnl_engine_t engine)
{
    md_ref s = md_get(&d[S]), w = md_get(&d[W]), t = md_get(&d[T]);
#if DNNL_VERSION_MAJOR >= 3
    switch (out) {
    case T:
        return dnnl_convolution_forward_primitive_desc_create(pd, engine, dnnl_forward_training,
                                                              dnnl_convolution_direct, s, w, NULL, t, p->stride,
                                                              p->dilate, p->lo, p->hi, attr);
    case S:
        return dnnl_convolution_backward_data_primitive_desc_create(pd, engine, dnnl_convolution_direct, s, w, t,
                                                                    p->stride, p->dilate, p->lo, p->hi, hint, attr);
    default:
        return dnnl_convolution_backward_weights_primitive_desc_create(
            pd, engine, dnnl_convolution_direct, s, w, NULL, t, p->stride, p->dilate, p->lo, p->hi, hint, attr);
    }
#else
    dnnl_convolution_desc_t c;
    dnnl_status_t st;
    switch (out) {
    case T:
        st = dnnl_dilated_convolution_forward_desc_init(&c, dnnl_forward_training, dnnl_convolution_direct, s, w, NULL,
                                                        t, p->stride, p->dilate, p->lo, p->hi);
        break;
    case S:
        st = dnnl_dilated_convolution_backward_data_desc_init(&c, dnnl_convolution_direct, s, w, t, p->stride,
                                                              p->dilate, p->lo, p->hi);
        break;
    default:
        st = dnnl_dilated_convolution_backward_weights_desc_init(&c, dnnl_convolution_direct, s, w, NULL, t, p->stride,
                                                                 p->dilate, p->lo, p->hi);
    }
    return st == dnnl_success ? dnnl_primitive_desc_create(pd, &c, attr, engine, hint) : st;
#endif
}

/* The reorder of one side, where there is one. */
static dnnl_status_t settle(const rq_float_dnnl_grad *g, maker *m, int which, dnnl_query_t query)
{
    side *s = &m->side[which];
    s->want = dnnl_primitive_desc_query_md(m->pd, query, 0);
    if (dnnl_memory_desc_equal(s->want, md_get(&s->plain)))
        return dnnl_success;
    s->bytes = rq_mem_round(dnnl_memory_desc_get_size(s->want));
    return which == m->out ? make_reorder(&s->move, s->want, md_get(&s->plain), g->engine)
                           : make_reorder(&s->move, md_get(&s->plain), s->want, g->engine);
}

/* dnnl_unimplemented: oneDNN has none, or only the one that is meant for comparing with. */
static dnnl_status_t make(const rq_float_dnnl_grad *g, maker *m, int64_t batch, const steps *p)
{
    md any[N_SIDES] = { 0 };
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t hint = NULL;
    const char *name = NULL;
    dnnl_status_t s = describe(g, m, batch, any);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_create(&attr);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (s == dnnl_success && m->out != T)
        s = make_pd(&hint, T, any, p, attr, NULL, g->engine);
    if (s == dnnl_success)
        s = make_pd(&m->pd, m->out, any, p, attr, hint, g->engine);
    if (s == dnnl_invalid_arguments)
        s = dnnl_unimplemented;
    if (s == dnnl_success)
        s = dnnl_primitive_desc_query(m->pd, dnnl_query_impl_info_str, 0, &name);
    if (s == dnnl_success && name && strncmp(name, "ref", 3) == 0)
        s = dnnl_unimplemented;
    if (s == dnnl_success)
        s = settle(g, m, S, m->out == S ? dnnl_query_diff_src_md : dnnl_query_src_md);
    if (s == dnnl_success)
        s = settle(g, m, W, m->out == W ? dnnl_query_diff_weights_md : dnnl_query_weights_md);
    if (s == dnnl_success)
        s = settle(g, m, T, m->out == T ? dnnl_query_dst_md : dnnl_query_diff_dst_md);
    if (s == dnnl_success) {
        m->pad = dnnl_primitive_desc_query_md(m->pd, dnnl_query_scratchpad_md, 0);
        m->pad_bytes = rq_mem_round(dnnl_memory_desc_get_size(m->pad));
        s = dnnl_primitive_create(&m->run, m->pd);
    }
    if (hint)
        dnnl_primitive_desc_destroy(hint);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    for (int i = 0; i < N_SIDES; i++)
        md_free(&any[i]);
    return s;
}

static void unmake(maker *m)
{
    for (int i = 0; i < N_SIDES; i++) {
        if (m->side[i].move)
            dnnl_primitive_destroy(m->side[i].move);
        md_free(&m->side[i].plain);
    }
    if (m->run)
        dnnl_primitive_destroy(m->run);
    if (m->pd)
        dnnl_primitive_desc_destroy(m->pd);
    memset(m, 0, sizeof *m);
}

static int64_t cuts_of(const rq_conv_geom *g, int64_t channels, int64_t want)
{
    const bool depthwise = g->groups == g->in_ch && g->groups == g->out_ch;
    int64_t best = 1;
    for (int64_t n = 2; n <= want; n *= 2) {
        const int64_t parts = g->groups > 1 ? g->groups : channels;
        if (parts % n || ((g->groups == 1 || depthwise) && parts / n % CHANNEL_BLOCK))
            break;
        best = n;
    }
    return best;
}

/* Pieces, by sizes alone. */
static void cut(rq_float_dnnl_grad *c)
{
    const rq_conv_geom *g = &c->g;
    const int64_t icg = g->in_ch / g->groups, product = g->out_ch * icg * c->area[W],
                  weights = product > 1 ? product : 1;
    const double macs = (double)g->batch * (double)weights * (double)c->area[T];
    const int64_t active = (g->in_ch * c->area[S] + g->out_ch * c->area[T]) * g->batch * (int64_t)sizeof(float);
    const double worth = fmax(macs / PIECE_MACS, (double)active / PIECE_BYTES);
    const int64_t want = worth >= MAX_PIECES ? MAX_PIECES : worth < 2 ? 1 : (int64_t)worth;
    const int64_t room = (active / 2 > PARTIAL_BYTES ? active / 2 : PARTIAL_BYTES) / (weights * (int64_t)sizeof(float));
    int64_t n = want < g->batch ? want : g->batch; /* at most */
    n = n < room ? n : room;
    int64_t parts = 1; /* a power of two shares out evenly */
    while (parts <= n / 2)
        parts *= 2;
    c->images = (g->batch + parts - 1) / parts;
    c->pieces = (g->batch + c->images - 1) / c->images;
    c->tail = c->images * c->pieces != g->batch;
    const int64_t rest = c->pieces > 1 ? want / c->pieces : want;
    c->cuts[DATA] = cuts_of(g, c->transposed ? g->out_ch : g->in_ch, rest);
    c->cuts[WEIGHTS] = cuts_of(g, g->out_ch, rest);
}

static int64_t most_cuts(const rq_float_dnnl_grad *c)
{
    return c->cuts[DATA] > c->cuts[WEIGHTS] ? c->cuts[DATA] : c->cuts[WEIGHTS];
}

static rq_status build(rq_float_dnnl_grad *c, int kind)
{
    steps p;
    if (!steps_of(&c->g, &p))
        return RQ_UNSUPPORTED;
    dnnl_status_t s = dnnl_success;
    for (int i = 0; i < 2 && s == dnnl_success; i++) {
        maker *m = &c->maker[i][kind];
        m->out = kind == WEIGHTS ? W : c->transposed ? T : S;
        m->cuts = c->cuts[kind];
        if (i == 0 || c->tail)
            s = make(c, m, i ? c->g.batch - c->images * (c->pieces - 1) : c->images, &p);
    }
    if (s != dnnl_success) {
        unmake(&c->maker[0][kind]);
        unmake(&c->maker[1][kind]);
    }
    return s == dnnl_unimplemented ? RQ_UNSUPPORTED : status_of(s);
}

rq_status rq_float_dnnl_grad_create(rq_float_dnnl_grad **out, unsigned *have, const rq_conv_geom *geom, unsigned want,
                                    int threads)
{
    rq_float_dnnl_grad *c = rq_mem_zalloc(1, sizeof *c);
    if (!c)
        return RQ_NO_MEMORY;
    c->g = *geom;
    c->transposed = geom->transposed;
    if (c->transposed) {
        c->g.transposed = false;
        c->g.in_ch = geom->out_ch;
        c->g.out_ch = geom->in_ch;
        memcpy(c->g.in, geom->out, sizeof c->g.in);
        memcpy(c->g.out, geom->in, sizeof c->g.out);
    }
    c->area[S] = area_of(c->g.in);
    c->area[T] = area_of(c->g.out);
    c->area[W] = area_of(c->g.kernel);
    cut(c);
    const int64_t items = c->pieces * most_cuts(c);
    c->slots = (int)(items < threads ? items : threads);
    c->slots = c->slots < 1 ? 1 : c->slots > RQ_SLOTS_MAX ? RQ_SLOTS_MAX : c->slots;
    const int omp = omp_enter();
    rq_status s = status_of(dnnl_engine_create(&c->engine, dnnl_cpu, 0));
    for (int kind = 0; kind < N_MAKERS && s == RQ_OK; kind++) {
        const unsigned bit = kind == DATA ? RQ_CONV_GRAD_X : RQ_CONV_GRAD_W;
        if (!(want & bit))
            continue;
        s = build(c, kind);
        if (s == RQ_OK)
            c->have |= bit;
        s = s == RQ_UNSUPPORTED ? RQ_OK : s;
    }
    omp_leave(omp);
    if (s == RQ_OK && !c->have)
        s = RQ_UNSUPPORTED;
    if (s != RQ_OK) {
        rq_float_dnnl_grad_destroy(c);
        return s;
    }
    *have = c->have;
    *out = c;
    return RQ_OK;
}

void rq_float_dnnl_grad_destroy(rq_float_dnnl_grad *c)
{
    if (!c)
        return;
    for (int i = 0; i < 2 * N_MAKERS; i++)
        unmake(&c->maker[i / N_MAKERS][i % N_MAKERS]);
    if (c->engine)
        dnnl_engine_destroy(c->engine);
    rq_mem_free(c);
}

/* ---- running ---- */

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
