/* kernels/conv_f32.c — float convolution as strips of a matrix product (kernels/gemm_f32): rows are output channels, columns
 * are output positions, and the depth runs over input channels, then the kernel's rows and columns. Each output is one
 * chain that starts at its bias.
 *
 * Weights are read where they lie. The pixels are never written out as a matrix: kernels/planes lays the input out so
 * that a row of that matrix is a run at a fixed offset, and a convolution of single pixels reads the input itself. */
#include "kernels/conv_f32_priv.h"

#include <string.h>

#include "base/mem.h"
#include "kernels/float_dnnl.h"
#include "kernels/phases_f32.h"

enum {
    ALIGN = 16,     /* floats */
    LAY = 16384,    /* floats to lay out that are worth an item */
    SLAB = 1 << 20, /* floats of laid-out images at a time, or one image */
};

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

const char *rq_conv_f32_how(const rq_conv_f32 *c)
{
    static const char *const names[2][5] = { { "library", "pixels", "planes", "phases", "plain" },
                                             { "", "pixels turned", "planes turned" } };
    return names[c->turned][c->how];
}

void rq_conv_geom_squeeze(rq_conv_geom *g)
{
    int64_t *const fields[] = { g->in, g->out, g->kernel, g->stride, g->dilation, g->pad_lo, g->pad_hi };
    int to = 2;
    for (int d = 2; d >= 0; d--) {
        if (g->in[d] == 1 && g->out[d] == 1 && g->kernel[d] == 1 && g->pad_lo[d] == 0 && g->pad_hi[d] == 0)
            continue;
        for (int f = 0; f < 7; f++)
            fields[f][to] = fields[f][d];
        to--;
    }
    g->nd = to == 2 ? 1 : 2 - to;
    for (; to >= 0; to--)
        for (int f = 0; f < 7; f++)
            fields[f][to] = f < 5; /* sizes and steps 1, pads 0 */
}

static bool is_pixels(const rq_conv_geom *g)
{
    bool one = true;
    for (int i = 0; i < 3; i++)
        one = one && g->kernel[i] == 1 && g->stride[i] == 1 && g->pad_lo[i] == 0 && g->pad_hi[i] == 0;
    return one;
}

/* How this is computed by strips, or not at all. */
static rq_conv_how choose(const rq_conv_f32 *c)
{
    const rq_conv_geom *g = &c->g;
    if (g->transposed)
        return RQ_CONV_PHASES;
    if (is_pixels(g))
        return RQ_CONV_PIXELS;
    double size = (double)g->in_ch / (double)g->groups;
    for (int d = 0; d < 3; d++) {
        if (g->pad_lo[d] < 0 || g->pad_hi[d] < 0)
            return RQ_CONV_PLAIN;
        size *= (double)(rq_planes_reach(g, d) + g->stride[d]);
    }
    return size < (double)(INT32_MAX / 2) ? RQ_CONV_PLANES : RQ_CONV_PLAIN;
}

static rq_status lay_out(rq_conv_f32 *c)
{
    const rq_conv_geom *g = &c->g;
    rq_planes_init(&c->planes, g);
    c->step = round_up(c->planes.total, ALIGN);
    if (c->step / ALIGN % 2 == 0)
        c->step += ALIGN; /* channels fall into different sets of a cache */
    c->slab = SLAB / (c->step * g->in_ch);
    c->slab = c->slab < 1 ? 1 : c->slab < g->batch ? c->slab : g->batch;
    c->lay = 1 + LAY / c->step;
    c->off = rq_mem_alloc((size_t)c->depth, sizeof *c->off);
    if (!c->off)
        return RQ_NO_MEMORY;
    int64_t n = 0;
    for (int64_t i = 0; i < g->in_ch / g->groups; i++)
        for (int64_t z = 0; z < g->kernel[0]; z++)
            for (int64_t r = 0; r < g->kernel[1]; r++)
                for (int64_t q = 0; q < g->kernel[2]; q++)
                    c->off[n++] = (int32_t)(i * c->step + rq_planes_tap(&c->planes, g, z, r, q));
    return RQ_OK;
}

rq_status rq_conv_f32_create(rq_conv_f32 **out, const rq_kernels *k, const rq_conv_geom *geom, const float *w,
                             bool bias, int threads)
{
    rq_conv_f32 *c = rq_mem_zalloc(1, sizeof *c);
    if (!c)
        return RQ_NO_MEMORY;
    c->k = k;
    c->g = *geom;
    rq_conv_geom_squeeze(&c->g);
    c->depth = c->g.in_ch / c->g.groups * rq_conv_area(c->g.kernel);
    c->how = RQ_CONV_LIBRARY;
    rq_status s = k->library ? rq_float_dnnl_conv_create(&c->library, &c->g, w, bias, threads) : RQ_UNSUPPORTED;
    if (s == RQ_UNSUPPORTED) {
        s = RQ_OK;
        c->how = choose(c);
        if (c->how == RQ_CONV_PLANES)
            s = lay_out(c);
        if (c->how == RQ_CONV_PHASES)
            s = rq_phases_f32_create(&c->phases, k, &c->g, w);
        if (s == RQ_UNSUPPORTED) {
            s = RQ_OK;
            c->how = RQ_CONV_PLAIN;
        }
        if (c->how == RQ_CONV_PIXELS || (c->how == RQ_CONV_PLANES && s == RQ_OK)) {
            c->packed = w != NULL;
            if (!rq_conv_f32_turn(c))
                rq_conv_f32_cut(c);
        }
    }
    if (s != RQ_OK) {
        rq_conv_f32_destroy(c);
        return s;
    }
    *out = c;
    return RQ_OK;
}

void rq_conv_f32_destroy(rq_conv_f32 *c)
{
    if (!c)
        return;
    rq_float_dnnl_conv_destroy(c->library);
    rq_phases_f32_destroy(c->phases);
    rq_mem_free(c->off);
    rq_mem_free(c);
}

size_t rq_conv_f32_weights(const rq_conv_f32 *c)
{
    const int64_t rows = c->g.out_ch / c->g.groups;
    if (!c->packed)
        return 0;
    return (size_t)c->g.groups * sizeof(float) *
           (size_t)(c->turned ? rq_gemm_f32_packed_columns(c->k, rows, c->depth)
                              : rq_gemm_f32_packed_rows(c->k, (int)rows, c->depth));
}

void rq_conv_f32_pack(const rq_conv_f32 *c, float *to, const float *w)
{
    const int64_t rows = c->g.out_ch / c->g.groups;
    for (int64_t group = 0; group < c->g.groups; group++, w += rows * c->depth) {
        if (c->turned) {
            rq_gemm_f32_pack_columns(c->k, to, w, 1, c->depth, rows, c->depth);
            to += rq_gemm_f32_packed_columns(c->k, rows, c->depth);
            continue;
        }
        for (int64_t first = 0; first < rows; first += RQ_GEMM_F32_ROWS) {
            const int some = (int)(rows - first < RQ_GEMM_F32_ROWS ? rows - first : RQ_GEMM_F32_ROWS);
            rq_gemm_f32_pack_rows(c->k, to, w + first * c->depth, some, c->depth);
            to += rq_gemm_f32_packed_rows(c->k, some, c->depth);
        }
    }
}

/* Behind the last plane: what the last panel reads of nothing. */
static int64_t slab_floats(const rq_conv_f32 *c)
{
    return c->step * c->g.in_ch * c->slab + RQ_GEMM_F32_COLUMNS;
}

size_t rq_conv_f32_scratch(const rq_conv_f32 *c)
{
    if (c->how == RQ_CONV_LIBRARY)
        return rq_float_dnnl_conv_scratch(c->library);
    if (c->how == RQ_CONV_PHASES)
        return rq_phases_f32_scratch(c->phases);
    return c->how == RQ_CONV_PLANES ? (size_t)slab_floats(c) * sizeof(float) : 0;
}

static void round_to_halves(const rq_kernels *k, float *y, int64_t n)
{
    enum { PIECE = 1024 };
    uint16_t half[PIECE];
    for (int64_t i = 0; i < n; i += PIECE) {
        const size_t some = (size_t)(n - i < PIECE ? n - i : PIECE);
        k->half_from_float(half, y + i, some);
        k->half_to_float(y + i, half, some);
    }
}

void rq_conv_after_run(const rq_kernels *k, const rq_conv_after *a, float *y, int64_t at, int64_t n)
{
    if (a && a->add) {
        if (a->halves)
            round_to_halves(k, y + at, n);
        k->zip[RQ_ZIP_ADD](y + at, y + at, 1, a->add + at, 1, (size_t)n);
    }
    if (a && a->f) {
        if (a->halves)
            round_to_halves(k, y + at, n);
        a->f(y + at, y + at, (size_t)n, a->p, a->q);
    }
}

/* A few channels of a slab. */
static void lay_item(void *arg, int64_t item)
{
    const rq_conv_job *j = arg;
    const rq_conv_f32 *c = j->c;
    const int64_t first = item * c->lay, end = first + c->lay < j->channels ? first + c->lay : j->channels;
    for (int64_t i = first; i < end; i++) {
        float *to = j->laid + i * c->step;
        rq_planes_fill(&c->planes, &c->g, to, j->x + i * rq_conv_area(c->g.in));
        memset(to + c->planes.total, 0, (size_t)(c->step - c->planes.total) * sizeof *to);
    }
}

/* What follows, plane by plane. */
static void plane_item(void *arg, int64_t item)
{
    const rq_conv_job *j = arg;
    const int64_t n = rq_conv_area(j->c->g.out);
    rq_conv_after_run(j->c->k, j->after, j->y, item * n, n);
}

static int64_t items_of(const rq_conv_f32 *c, int64_t images)
{
    return c->turned ? rq_conv_f32_turned_items(c, images) : rq_conv_f32_strip_items(c, images);
}

rq_status rq_conv_f32_run(const rq_conv_f32 *c, float *y, const float *x, const float *w, const float *bias,
                          const rq_conv_after *after, void *scratch, rq_threads *t)
{
    const rq_conv_geom *g = &c->g;
    rq_conv_job j = { .c = c, .after = after, .y0 = y, .y = y, .x = x, .w = w, .bias = bias, .laid = scratch };
    if (after && after->halves) { /* tiles do not round on the way */
        RQ_TRY(rq_conv_f32_run(c, y, x, w, bias, NULL, scratch, t));
        rq_threads_for(t, g->batch * g->out_ch, plane_item, &j);
        return RQ_OK;
    }
    if (c->how != RQ_CONV_PIXELS && c->how != RQ_CONV_PLANES) {
        if (c->how == RQ_CONV_LIBRARY)
            RQ_TRY(rq_float_dnnl_conv_run(c->library, y, x, w, bias, scratch, t));
        else if (c->how == RQ_CONV_PHASES)
            rq_phases_f32_run(c->phases, y, x, w, bias, scratch, t);
        else
            rq_conv_f32_plain(g, y, x, w, bias, t);
        if (after)
            rq_threads_for(t, g->batch * g->out_ch, plane_item, &j);
        return RQ_OK;
    }
    const rq_threads_fn item = c->turned ? rq_conv_f32_turned_item : rq_conv_f32_strip_item;
    if (c->how == RQ_CONV_PIXELS) {
        j.images = g->batch;
        rq_threads_for(t, items_of(c, g->batch), item, &j);
        return RQ_OK;
    }
    memset(j.laid + slab_floats(c) - RQ_GEMM_F32_COLUMNS, 0, RQ_GEMM_F32_COLUMNS * sizeof *j.laid);
    for (int64_t image = 0; image < g->batch; image += c->slab) {
        const int64_t n = g->batch - image < c->slab ? g->batch - image : c->slab;
        j.x = x + image * g->in_ch * rq_conv_area(g->in);
        j.y = y + image * g->out_ch * rq_conv_area(g->out);
        j.channels = n * g->in_ch;
        rq_threads_for(t, (j.channels + c->lay - 1) / c->lay, lay_item, &j);
        j.images = n;
        rq_threads_for(t, items_of(c, n), item, &j);
    }
    return RQ_OK;
}
