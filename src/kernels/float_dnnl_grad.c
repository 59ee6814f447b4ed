/* kernels/float_dnnl_grad.c — gradients of a convolution through oneDNN: how the work is cut, and the primitives of each piece. What
 * they compute: float_dnnl_grad.h. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/float_dnnl_grad.h"
#include "kernels/slots.h"

enum {
    MAX_PIECES = 16,       /* in all */
    PIECE_BYTES = 1 << 19, /* or that many of input and output */
    PIECE_MACS = 4000000,  /* work that is worth a piece */
    CHANNEL_BLOCK = 16,    /* channels are cut in whole blocks */
    PARTIAL_BYTES =
        1 << 20, /* of weight gradients that wait to be added; more only where half the activations are more */
};

static int64_t area_of(const int64_t v[3])
{
    return v[0] * v[1] * v[2];
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

/* Weights of a depthwise convolution of a kind that oneDNN has no kernel for (5x5): a matrix product of one row per channel, which takes ten times
 * as long as kernels/dwconv_grad. */
static bool is_slow(const rq_float_dnnl_grad *g, const maker *m, const char *name)
{
    const rq_conv_geom *q = &g->g;
    return m->out == W && q->groups > 1 && q->groups == q->in_ch && q->groups == q->out_ch && !strstr(name, "dw");
}

/* dnnl_unimplemented: oneDNN has none, only the one that is meant for comparing with, or one that is slower than ours. */
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
    if (s == dnnl_success && name && (strncmp(name, "ref", 3) == 0 || is_slow(g, m, name)))
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
