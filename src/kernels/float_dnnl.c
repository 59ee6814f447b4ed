/* kernels/float_dnnl.c — float convolutions and products through oneDNN (2.6 and later, 3.x included).
 *
 * A convolution is cut into pieces: a few images, or within an image blocks of output channels (or of groups). All pieces of
 * a convolution have the same size, so one primitive serves them. A 1x1 convolution with stride 1 is a matrix product
 * on plain tensors and needs no reordering at all. */
#include "kernels/float_dnnl.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/float_dnnl_base.h"
#include "kernels/slots.h"

typedef struct conv_mds {
    md src, weights, bias, dst;
} conv_mds;

/* strides etc. as oneDNN counts them: dilation 0 means none. */
static dnnl_status_t conv_pd(dnnl_primitive_desc_t *pd, bool transposed, const conv_mds *m, bool bias,
                             const dnnl_dim_t *strides, const dnnl_dim_t *dilates, const dnnl_dim_t *lo,
                             const dnnl_dim_t *hi, dnnl_primitive_attr_t attr, dnnl_engine_t engine)
{
    md_ref b = bias ? md_get(&m->bias) : NULL;
#if DNNL_VERSION_MAJOR >= 3
    if (transposed)
        return dnnl_deconvolution_forward_primitive_desc_create(
            pd, engine, dnnl_forward_inference, dnnl_deconvolution_direct, md_get(&m->src), md_get(&m->weights), b,
            md_get(&m->dst), strides, dilates, lo, hi, attr);
    return dnnl_convolution_forward_primitive_desc_create(pd, engine, dnnl_forward_inference, dnnl_convolution_auto,
                                                          md_get(&m->src), md_get(&m->weights), b, md_get(&m->dst),
                                                          strides, dilates, lo, hi, attr);
#else
    if (transposed) {
        dnnl_deconvolution_desc_t d;
        dnnl_status_t s = dnnl_dilated_deconvolution_forward_desc_init(
            &d, dnnl_forward_inference, dnnl_deconvolution_direct, md_get(&m->src), md_get(&m->weights), b,
            md_get(&m->dst), strides, dilates, lo, hi);
        return s == dnnl_success ? dnnl_primitive_desc_create(pd, &d, attr, engine, NULL) : s;
    }
    dnnl_convolution_desc_t d;
    dnnl_status_t s =
        dnnl_dilated_convolution_forward_desc_init(&d, dnnl_forward_inference, dnnl_convolution_direct, md_get(&m->src),
                                                   md_get(&m->weights), b, md_get(&m->dst), strides, dilates, lo, hi);
    return s == dnnl_success ? dnnl_primitive_desc_create(pd, &d, attr, engine, NULL) : s;
#endif
}

/* ---- convolution ---- */

typedef enum how { HOW_GEMM, HOW_DIRECT } how;

enum {
    MAX_PIECES = 8,       /* of one image */
    PIECE_MACS = 4000000, /* work that is worth a piece */
    CHANNEL_BLOCK = 16,   /* pieces are whole blocks of channels */
    ALIGN = 64,
    PIECE_BYTES = 1 << 19, /* of images that go through a core's cache together ... */
    PIECES = 16,           /* ... where so many pieces are left */
};

struct rq_float_dnnl_conv {
    rq_conv_geom g;
    how how;
    bool bias, shared_src;
    int64_t images;             /* of a piece */
    int64_t pieces;             /* per image; 1 when there are more images */
    int64_t src_step, dst_step; /* from piece to piece, elements of the plain tensors */
    int64_t w_step, bias_step;
    int64_t in_area, out_area;
    dnnl_engine_t engine;
    dnnl_primitive_t conv, to_src, to_weights, from_dst;
    conv_mds plain;                /* of one piece */
    md_ref src, weights, dst, pad; /* what the primitive wants; owned by pd */
    dnnl_primitive_desc_t pd;
    size_t src_bytes, weights_bytes, dst_bytes, pad_bytes; /* rounded up; 0: used as it is */
    float *packed; /* weights of every piece as the primitive wants them; NULL: not constant */
    int slots;     /* pieces that can run at once */
};

static size_t round_up(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static int64_t area(const int64_t v[3])
{
    return v[0] * v[1] * v[2];
}

static bool is_gemm(const rq_conv_geom *g)
{
    bool one = !g->transposed;
    for (int i = 0; i < 3; i++)
        one = one && g->kernel[i] == 1 && g->stride[i] == 1 && g->pad_lo[i] == 0 && g->pad_hi[i] == 0;
    return one && g->out_ch / g->groups >= 4;
}

/* Blocks of output channels or groups per image, by size alone: enough work each, whole blocks of channels. */
static int64_t choose_pieces(const rq_conv_geom *g)
{
    const int64_t depth = g->in_ch / g->groups;
    const double macs = (double)g->out_ch * (double)depth * (double)area(g->kernel) *
                        (double)(g->transposed ? area(g->in) : area(g->out));
    int64_t best = 1;
    if (g->batch >= 4)
        return 1;
    for (int64_t n = 2; n <= MAX_PIECES; n *= 2) {
        const int64_t parts = g->groups > 1 ? g->groups : g->out_ch;
        const bool depthwise = g->groups == g->in_ch && g->groups == g->out_ch;
        if (parts % n || ((g->groups == 1 || depthwise) && parts / n % CHANNEL_BLOCK))
            break;
        if (macs / (double)n < PIECE_MACS)
            break;
        best = n;
    }
    return best;
}

/* Images of a piece: a divisor of the batch. */
static int64_t choose_images(const rq_float_dnnl_conv *c)
{
    const int64_t bytes = (c->g.in_ch * c->in_area + c->g.out_ch * c->out_area) * (int64_t)sizeof(float);
    int64_t best = 1;
    if (c->pieces > 1)
        return 1;
    for (int64_t n = 2; n * bytes <= PIECE_BYTES && n * PIECES <= c->g.batch; n++)
        if (c->g.batch % n == 0)
            best = n;
    return best;
}

/* Dims and plain layouts of one piece. */
static dnnl_status_t describe(rq_float_dnnl_conv *c)
{
    const rq_conv_geom *g = &c->g;
    const int nd = g->nd, at = 3 - nd;
    const bool grouped = g->groups > 1;
    const int64_t groups = grouped ? g->groups / c->pieces : 1;
    const int64_t icg = g->in_ch / g->groups, ocg = grouped ? g->out_ch / g->groups : g->out_ch / c->pieces;
    const int64_t k = area(g->kernel);
    dnnl_dims_t src = { c->images, groups * icg }, dst = { c->images, groups * ocg }, w, ws;
    for (int i = 0; i < nd; i++) {
        src[2 + i] = g->in[at + i];
        dst[2 + i] = g->out[at + i];
    }
    int n = 0;
    if (grouped) {
        w[n] = groups;
        ws[n++] = icg * ocg * k;
    }
    w[n] = ocg;
    ws[n++] = g->transposed ? k : icg * k;
    w[n] = icg;
    ws[n++] = g->transposed ? g->out_ch / g->groups * k : k;
    int64_t step = k;
    for (int i = 0; i < nd; i++) {
        step /= g->kernel[at + i];
        w[n] = g->kernel[at + i];
        ws[n++] = step;
    }
    const dnnl_dims_t bias = { groups * ocg };
    dnnl_status_t s = md_plain(&c->plain.src, 2 + nd, src);
    if (s == dnnl_success)
        s = md_plain(&c->plain.dst, 2 + nd, dst);
    if (s == dnnl_success)
        s = md_strided(&c->plain.weights, n, w, ws);
    if (s == dnnl_success)
        s = md_plain(&c->plain.bias, 1, bias);
    if (s != dnnl_success)
        return s;

    conv_mds any = { 0 };
    dnnl_dims_t strides, dilates, lo, hi;
    for (int i = 0; i < nd; i++) {
        strides[i] = g->stride[at + i];
        dilates[i] = g->dilation[at + i] - 1;
        lo[i] = g->pad_lo[at + i];
        hi[i] = g->pad_hi[at + i];
    }
    s = md_any(&any.src, 2 + nd, src);
    if (s == dnnl_success)
        s = md_any(&any.dst, 2 + nd, dst);
    if (s == dnnl_success)
        s = md_any(&any.weights, n, w);
    if (s == dnnl_success)
        s = md_plain(&any.bias, 1, bias);
    dnnl_primitive_attr_t attr = NULL;
    if (s == dnnl_success)
        s = dnnl_primitive_attr_create(&attr);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (s == dnnl_success)
        s = conv_pd(&c->pd, g->transposed, &any, c->bias, strides, dilates, lo, hi, attr, c->engine);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    md_free(&any.src);
    md_free(&any.dst);
    md_free(&any.weights);
    md_free(&any.bias);
    return s;
}

/* The primitive, and the reorders around it. */
static dnnl_status_t build(rq_float_dnnl_conv *c)
{
    dnnl_status_t s = dnnl_primitive_create(&c->conv, c->pd);
    if (s != dnnl_success)
        return s;
    c->src = dnnl_primitive_desc_query_md(c->pd, dnnl_query_src_md, 0);
    c->weights = dnnl_primitive_desc_query_md(c->pd, dnnl_query_weights_md, 0);
    c->dst = dnnl_primitive_desc_query_md(c->pd, dnnl_query_dst_md, 0);
    c->pad = dnnl_primitive_desc_query_md(c->pd, dnnl_query_scratchpad_md, 0);
    c->pad_bytes = round_up(dnnl_memory_desc_get_size(c->pad));
    if (!dnnl_memory_desc_equal(c->src, md_get(&c->plain.src))) {
        c->src_bytes = round_up(dnnl_memory_desc_get_size(c->src));
        s = make_reorder(&c->to_src, md_get(&c->plain.src), c->src, c->engine);
    }
    if (s == dnnl_success && !dnnl_memory_desc_equal(c->dst, md_get(&c->plain.dst))) {
        c->dst_bytes = round_up(dnnl_memory_desc_get_size(c->dst));
        s = make_reorder(&c->from_dst, c->dst, md_get(&c->plain.dst), c->engine);
    }
    if (s == dnnl_success && !dnnl_memory_desc_equal(c->weights, md_get(&c->plain.weights))) {
        c->weights_bytes = round_up(dnnl_memory_desc_get_size(c->weights));
        s = make_reorder(&c->to_weights, md_get(&c->plain.weights), c->weights, c->engine);
    }
    return s;
}

static dnnl_status_t pack_weights(const rq_float_dnnl_conv *c, float *to, const float *w)
{
    dnnl_stream_t stream;
    dnnl_status_t s = dnnl_stream_create(&stream, c->engine, dnnl_stream_default_flags);
    if (s != dnnl_success)
        return s;
    for (int64_t p = 0; s == dnnl_success && p < c->pieces; p++)
        s = reorder(c->engine, stream, c->to_weights, md_get(&c->plain.weights), w + p * c->w_step, c->weights,
                    (char *)to + (size_t)p * c->weights_bytes);
    dnnl_stream_destroy(stream);
    return s;
}

rq_status rq_float_dnnl_conv_create(rq_float_dnnl_conv **out, const rq_conv_geom *geom, const float *w, bool bias,
                                    int threads)
{
#if !defined(__x86_64__)
    if (geom->transposed && geom->groups > 1) /* oneDNN 2.6.3 has a kernel on arm64, whose sums are wrong */
        return RQ_UNSUPPORTED;
#endif
    rq_float_dnnl_conv *c = rq_mem_zalloc(1, sizeof *c);
    if (!c)
        return RQ_NO_MEMORY;
    c->g = *geom;
    const rq_conv_geom *g = &c->g;
    c->bias = bias;
    c->in_area = area(g->in);
    c->out_area = area(g->out);
    c->pieces = choose_pieces(g);
    const int64_t k = area(g->kernel), icg = g->in_ch / g->groups;
    c->dst_step = g->out_ch / c->pieces * c->out_area;
    c->bias_step = g->out_ch / c->pieces;
    if (g->groups > 1) {
        c->src_step = g->in_ch / c->pieces * c->in_area;
        c->w_step = g->groups / c->pieces * icg * (g->out_ch / g->groups) * k;
    } else {
        c->w_step = g->out_ch / c->pieces * (g->transposed ? k : icg * k);
    }
    c->shared_src = g->groups == 1 && c->pieces > 1;
    c->images = is_gemm(g) ? 1 : choose_images(c);
    const int64_t items = g->batch / c->images * c->pieces;
    c->slots = (int)(items < threads ? items : threads);
    if (c->slots > RQ_SLOTS_MAX)
        c->slots = RQ_SLOTS_MAX;
    c->how = HOW_GEMM;
    if (is_gemm(g)) {
        *out = c;
        return RQ_OK;
    }
    rq_status status = RQ_OK;
    const int omp = omp_enter();
    c->how = HOW_DIRECT;
    dnnl_status_t s = dnnl_engine_create(&c->engine, dnnl_cpu, 0);
    if (s == dnnl_success && describe(c) != dnnl_success)
        status = RQ_UNSUPPORTED; /* no kernel for this: negative pads, odd dilations */
    else if (s == dnnl_success)
        s = build(c);
    if (status == RQ_OK && s == dnnl_success && w) {
        const size_t bytes =
            c->weights_bytes ? c->weights_bytes * (size_t)c->pieces : (size_t)(g->out_ch * icg * k) * sizeof *w;
        c->packed = rq_mem_alloc(bytes, 1);
        if (!c->packed)
            status = RQ_NO_MEMORY;
        else if (c->weights_bytes)
            s = pack_weights(c, c->packed, w);
        else
            memcpy(c->packed, w, bytes);
    }
    omp_leave(omp);
    if (status == RQ_OK)
        status = status_of(s);
    if (status != RQ_OK) {
        rq_float_dnnl_conv_destroy(c);
        return status;
    }
    *out = c;
    return RQ_OK;
}

void rq_float_dnnl_conv_destroy(rq_float_dnnl_conv *c)
{
    if (!c)
        return;
    dnnl_primitive_t all[] = { c->conv, c->to_src, c->to_weights, c->from_dst };
    for (int i = 0; i < 4; i++)
        if (all[i])
            dnnl_primitive_destroy(all[i]);
    if (c->pd)
        dnnl_primitive_desc_destroy(c->pd);
    md_free(&c->plain.src);
    md_free(&c->plain.weights);
    md_free(&c->plain.bias);
    md_free(&c->plain.dst);
    if (c->engine)
        dnnl_engine_destroy(c->engine);
    rq_mem_free(c->packed);
    rq_mem_free(c);
}

/* Scratch: [weights of all pieces][src of every image, when pieces share it][slots: src, dst, scratchpad]. */
static size_t slot_bytes(const rq_float_dnnl_conv *c)
{
    return (c->shared_src ? 0 : c->src_bytes) + c->dst_bytes + c->pad_bytes;
}

size_t rq_float_dnnl_conv_scratch(const rq_float_dnnl_conv *c)
{
    if (c->how != HOW_DIRECT)
        return 0;
    size_t n = slot_bytes(c) * (size_t)c->slots;
    if (!c->packed)
        n += c->weights_bytes * (size_t)c->pieces;
    if (c->shared_src)
        n += c->src_bytes * (size_t)c->g.batch;
    return n;
}

typedef struct conv_job {
    const rq_float_dnnl_conv *c;
    float *y;
    const float *x, *w, *bias;
    char *shared, *scratch; /* src of every image; a part for each slot */
    rq_slots slots;
    atomic_int failed;
} conv_job;

static void fail(conv_job *j, dnnl_status_t s)
{
    if (s != dnnl_success)
        atomic_store(&j->failed, (int)status_of(s));
}

static void share_src(void *arg, int64_t image)
{
    conv_job *j = arg;
    const rq_float_dnnl_conv *c = j->c;
    dnnl_stream_t stream;
    const int omp = omp_enter();
    dnnl_status_t s = dnnl_stream_create(&stream, c->engine, dnnl_stream_default_flags);
    if (s == dnnl_success) {
        s = reorder(c->engine, stream, c->to_src, md_get(&c->plain.src), j->x + image * c->g.in_ch * c->in_area, c->src,
                    j->shared + (size_t)image * c->src_bytes);
        dnnl_stream_destroy(stream);
    }
    fail(j, s);
    omp_leave(omp);
}

static void conv_item(void *arg, int64_t item)
{
    conv_job *j = arg;
    const rq_float_dnnl_conv *c = j->c;
    const int64_t image = item / c->pieces * c->images, p = item % c->pieces;
    const float *x = j->x + image * c->g.in_ch * c->in_area + p * c->src_step;
    float *y = j->y + image * c->g.out_ch * c->out_area + p * c->dst_step;
    const float *w =
        c->weights_bytes ? (const float *)((const char *)j->w + (size_t)p * c->weights_bytes) : j->w + p * c->w_step;
    const int slot = rq_slots_take(&j->slots);
    char *mine = j->scratch + (size_t)slot * slot_bytes(c);
    const int omp = omp_enter();
    dnnl_stream_t stream;
    dnnl_status_t s = dnnl_stream_create(&stream, c->engine, dnnl_stream_default_flags);
    const void *src = x;
    void *dst = y;
    if (c->src_bytes && c->shared_src) {
        src = j->shared + (size_t)image * c->src_bytes;
    } else if (c->src_bytes) {
        src = mine;
        if (s == dnnl_success)
            s = reorder(c->engine, stream, c->to_src, md_get(&c->plain.src), x, c->src, mine);
        mine += c->src_bytes;
    }
    if (c->dst_bytes) {
        dst = mine;
        mine += c->dst_bytes;
    }
    int n = 0;
    dnnl_exec_arg_t args[5];
    args[n++] = (dnnl_exec_arg_t) { DNNL_ARG_SRC, wrap(c->engine, c->src, src) };
    args[n++] = (dnnl_exec_arg_t) { DNNL_ARG_WEIGHTS, wrap(c->engine, c->weights, w) };
    args[n++] = (dnnl_exec_arg_t) { DNNL_ARG_DST, wrap(c->engine, c->dst, dst) };
    args[n++] = (dnnl_exec_arg_t) { DNNL_ARG_SCRATCHPAD, wrap(c->engine, c->pad, mine) };
    if (c->bias)
        args[n++] =
            (dnnl_exec_arg_t) { DNNL_ARG_BIAS, wrap(c->engine, md_get(&c->plain.bias), j->bias + p * c->bias_step) };
    for (int i = 0; i < n; i++)
        if (!args[i].memory)
            s = dnnl_out_of_memory;
    if (s == dnnl_success)
        s = dnnl_primitive_execute(c->conv, stream, n, args);
    if (s == dnnl_success)
        s = dnnl_stream_wait(stream);
    for (int i = 0; i < n; i++)
        unwrap(args[i].memory);
    if (s == dnnl_success && c->dst_bytes)
        s = reorder(c->engine, stream, c->from_dst, c->dst, dst, md_get(&c->plain.dst), y);
    if (stream)
        dnnl_stream_destroy(stream);
    omp_leave(omp);
    fail(j, s);
    rq_slots_give(&j->slots, slot);
}

/* 1x1: for each image and group, y [out_ch/groups][area] = w x, cut into blocks of output channels. */
static void gemm_item(void *arg, int64_t item)
{
    conv_job *j = arg;
    const rq_float_dnnl_conv *c = j->c;
    const rq_conv_geom *g = &c->g;
    const int64_t per_image = g->groups > 1 ? g->groups : c->pieces;
    const int64_t image = item / per_image, p = item % per_image;
    const int64_t m = g->out_ch / per_image, k = g->in_ch / g->groups, n = c->out_area;
    const float *x = j->x + image * g->in_ch * n + (g->groups > 1 ? p * k * n : 0);
    float *y = j->y + (image * g->out_ch + p * m) * n;
    if (c->bias)
        for (int64_t i = 0; i < m; i++) {
            const float b = j->bias[p * m + i];
            for (int64_t q = 0; q < n; q++)
                y[i * n + q] = b;
        }
    const int omp = omp_enter();
    fail(j, dnnl_sgemm('N', 'N', m, n, k, 1, j->w + p * m * k, k, x, n, c->bias ? 1 : 0, y, n));
    omp_leave(omp);
}

rq_status rq_float_dnnl_conv_run(const rq_float_dnnl_conv *c, float *y, const float *x, const float *w,
                                 const float *bias, void *scratch, rq_threads *t)
{
    const rq_conv_geom *g = &c->g;
    conv_job j = { .c = c, .y = y, .x = x, .w = w, .bias = bias };
    if (c->how == HOW_GEMM) {
        rq_threads_for(t, g->batch * (g->groups > 1 ? g->groups : c->pieces), gemm_item, &j);
        return (rq_status)atomic_load(&j.failed);
    }
    char *at = scratch;
    if (c->packed) {
        j.w = c->packed;
    } else if (c->weights_bytes) {
        const int omp = omp_enter();
        const dnnl_status_t s = pack_weights(c, (float *)at, w);
        omp_leave(omp);
        RQ_TRY(status_of(s));
        j.w = (const float *)at;
        at += c->weights_bytes * (size_t)c->pieces;
    }
    if (c->shared_src && c->src_bytes) {
        j.shared = at;
        at += c->src_bytes * (size_t)g->batch;
        rq_threads_for(t, g->batch, share_src, &j);
    }
    j.scratch = at;
    j.slots.n = c->slots;
    rq_threads_for(t, g->batch / c->images * c->pieces, conv_item, &j);
    return (rq_status)atomic_load(&j.failed);
}

/* ---- matrix products ---- */

typedef struct gemm_job {
    float *c;
    const float *a, *b;
    const int64_t *c_at, *a_at, *b_at; /* NULL: one product */
    int64_t m, n, k, lda, ldb, ldc;
    int64_t cuts, m_step, n_step; /* pieces of one product */
    float alpha, beta;
    bool trans_a, trans_b;
    atomic_int failed;
} gemm_job;

static void product_item(void *arg, int64_t item)
{
    gemm_job *j = arg;
    const int64_t which = item / j->cuts, cut = item % j->cuts;
    const int64_t r = j->m_step ? cut * j->m_step : 0, q = j->n_step ? cut * j->n_step : 0;
    int64_t m = j->m - r, n = j->n - q;
    if (j->m_step && m > j->m_step)
        m = j->m_step;
    if (j->n_step && n > j->n_step)
        n = j->n_step;
    const float *a = j->a + (j->a_at ? j->a_at[which] : 0) + (j->trans_a ? r : r * j->lda);
    const float *b = j->b + (j->b_at ? j->b_at[which] : 0) + (j->trans_b ? q * j->ldb : q);
    float *c = j->c + (j->c_at ? j->c_at[which] : 0) + r * j->ldc + q;
    const int omp = omp_enter();
    const dnnl_status_t s = dnnl_sgemm(j->trans_a ? 'T' : 'N', j->trans_b ? 'T' : 'N', m, n, j->k, j->alpha, a, j->lda,
                                       b, j->ldb, j->beta, c, j->ldc);
    omp_leave(omp);
    if (s != dnnl_success)
        atomic_store(&j->failed, (int)status_of(s));
}

rq_status rq_float_dnnl_gemm(float *c, const float *a, const float *b, const int64_t *c_at, const int64_t *a_at,
                             const int64_t *b_at, int64_t count, bool trans_a, bool trans_b, int64_t m, int64_t n,
                             int64_t k, float alpha, int64_t lda, int64_t ldb, float beta, int64_t ldc, rq_threads *t)
{
    gemm_job j = { .c = c,
                   .a = a,
                   .b = b,
                   .c_at = c_at,
                   .a_at = a_at,
                   .b_at = b_at,
                   .m = m,
                   .n = n,
                   .k = k,
                   .lda = lda,
                   .ldb = ldb,
                   .ldc = ldc,
                   .cuts = 1,
                   .alpha = alpha,
                   .beta = beta,
                   .trans_a = trans_a,
                   .trans_b = trans_b };
    if (alpha == 0) {
        for (int64_t i = 0; i < count; i++)
            for (int64_t r = 0; r < m; r++)
                for (int64_t q = 0; q < n; q++) {
                    float *at = c + (c_at ? c_at[i] : 0) + r * ldc + q;
                    *at = beta == 0 ? 0 : *at * beta;
                }
        return RQ_OK;
    }
    /* Pieces of at least PIECE_MACS, at most MAX_PIECES: rows in blocks of 16, or columns in blocks of 64 where there
     * are too few rows to share the packing of b. */
    const double macs = (double)m * (double)n * (double)k;
    int64_t want = macs >= (double)PIECE_MACS * MAX_PIECES ? MAX_PIECES : (int64_t)(macs / PIECE_MACS);
    if (want > 1) {
        if (m >= 32 * want || m >= n) {
            j.m_step = ((m + want - 1) / want + 15) / 16 * 16;
            j.cuts = (m + j.m_step - 1) / j.m_step;
        } else {
            j.n_step = ((n + want - 1) / want + 63) / 64 * 64;
            j.cuts = (n + j.n_step - 1) / j.n_step;
        }
    }
    rq_threads_for(t, count * j.cuts, product_item, &j);
    return (rq_status)atomic_load(&j.failed);
}

const char *rq_float_dnnl_version(void)
{
#define TEXT_(v) #v
#define TEXT(v) TEXT_(v)
    return TEXT(DNNL_VERSION_MAJOR) "." TEXT(DNNL_VERSION_MINOR) "." TEXT(DNNL_VERSION_PATCH);
}
