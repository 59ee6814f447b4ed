/* kernels/phases_f32.c — see phases_f32.h. Along one axis, output o = r + s q meets tap t at input q + (r + pad - t d) / s
 * where that is whole: `shift` below. All phases read the input from one laid-out copy with enough zeros around it. */
#include "kernels/phases_f32.h"

#include <string.h>

#include "base/mem.h"
#include "kernels/planes.h"

enum {
    ITEM_MACS = 1000000, /* work that is worth an item */
    ALIGN = 16,          /* floats */
    MOST_PHASES = 4096,
};

typedef struct phase {
    int64_t r[3], q[3];    /* remainders; outputs per axis */
    int64_t depth, before; /* of its product; of all earlier phases together */
    int64_t length;        /* columns: rows of one output plane, joined */
} phase;

struct rq_phases_f32 {
    const rq_kernels *k;
    rq_conv_geom g, laid; /* laid: the convolution with stride 1 whose planes hold what every phase reads */
    rq_planes planes;
    int64_t step;  /* floats from channel to channel of a laid-out image */
    int64_t depth; /* of all phases together: input channels of a group times taps */
    phase *phases;
    int64_t n_phases, strips, chunk, chunks; /* panels of an item, items of a phase */
    int32_t *off;                            /* [depth] */
    float *packed; /* [groups][phases][channels][depth of the phase]; NULL: made for every run */
};

static int64_t area(const int64_t v[3])
{
    return v[0] * v[1] * v[2];
}

/* Where tap t of axis d finds its input for output r; false: nowhere. */
static bool shift(const rq_conv_geom *g, int d, int64_t r, int64_t t, int64_t *at)
{
    const int64_t v = r + g->pad_lo[d] - t * g->dilation[d], s = g->stride[d];
    const int64_t down = v >= 0 ? v / s : -((s - 1 - v) / s);
    *at = down;
    return down * s == v;
}

/* Remainders of axis d that some output has; strides may be much larger than what they step over. */
static int64_t remainders(const rq_conv_geom *g, int d)
{
    return g->stride[d] < g->out[d] ? g->stride[d] : g->out[d];
}

/* The planes that hold everything: smallest and largest shift of each axis. */
static void surround(rq_phases_f32 *p)
{
    const rq_conv_geom *g = &p->g;
    p->laid = (rq_conv_geom) { .nd = g->nd, .batch = g->batch, .groups = 1, .in_ch = g->in_ch, .out_ch = g->in_ch };
    for (int d = 0; d < 3; d++) {
        int64_t lo = 0, hi = 0, at;
        for (int64_t r = 0, n = remainders(g, d); r < n; r++)
            for (int64_t t = 0; t < g->kernel[d]; t++)
                if (shift(g, d, r, t, &at)) {
                    lo = at < lo ? at : lo;
                    hi = at > hi ? at : hi;
                }
        p->laid.in[d] = g->in[d];
        p->laid.out[d] = (g->out[d] + g->stride[d] - 1) / g->stride[d];
        p->laid.kernel[d] = hi - lo + 1;
        p->laid.stride[d] = p->laid.dilation[d] = 1;
        p->laid.pad_lo[d] = -lo;
    }
}

/* The places of one phase's taps in ascending order; returns how many. */
static int64_t list_taps(const rq_phases_f32 *p, const int64_t r[3], int32_t *off)
{
    const rq_conv_geom *g = &p->g;
    int64_t n = 0, at[3];
    for (int64_t z = 0; z < g->kernel[0]; z++)
        for (int64_t v = 0; v < g->kernel[1]; v++)
            for (int64_t u = 0; u < g->kernel[2]; u++) {
                if (!shift(g, 0, r[0], z, &at[0]) || !shift(g, 1, r[1], v, &at[1]) || !shift(g, 2, r[2], u, &at[2]))
                    continue;
                for (int d = 0; d < 3; d++)
                    at[d] += p->laid.pad_lo[d];
                off[n++] = (int32_t)(at[0] * p->planes.plane + at[1] * p->planes.pitch + at[2]);
            }
    return n;
}

static void list_phases(rq_phases_f32 *p)
{
    const rq_conv_geom *g = &p->g;
    const int64_t icg = g->in_ch / g->groups;
    int64_t r[3], longest = 1;
    for (r[0] = 0; r[0] < remainders(g, 0); r[0]++)
        for (r[1] = 0; r[1] < remainders(g, 1); r[1]++)
            for (r[2] = 0; r[2] < remainders(g, 2); r[2]++) {
                phase *f = &p->phases[p->n_phases];
                *f = (phase) { .before = p->depth };
                for (int d = 0; d < 3; d++) {
                    f->r[d] = r[d];
                    f->q[d] = (g->out[d] - r[d] + g->stride[d] - 1) / g->stride[d];
                }
                int32_t *off = p->off + p->depth;
                const int64_t taps = list_taps(p, r, off);
                for (int64_t i = 1; i < icg; i++)
                    for (int64_t t = 0; t < taps; t++)
                        off[i * taps + t] = (int32_t)(off[t] + i * p->step);
                f->depth = icg * taps;
                f->length = (f->q[1] - 1) * p->planes.pitch + f->q[2];
                longest = f->length * f->q[0] > longest ? f->length * f->q[0] : longest;
                p->depth += f->depth;
                p->n_phases++;
            }
    const int64_t rows = g->out_ch / g->groups, panel = rq_gemm_f32_panel(p->k, rows);
    const int64_t most = (longest + panel - 1) / panel + p->laid.out[0];
    p->strips = (rows + RQ_GEMM_F32_ROWS - 1) / RQ_GEMM_F32_ROWS;
    const int64_t macs =
        (rows < RQ_GEMM_F32_ROWS ? rows : RQ_GEMM_F32_ROWS) * panel * (1 + p->depth / (p->n_phases ? p->n_phases : 1));
    p->chunk = ITEM_MACS / macs < 1 ? 1 : ITEM_MACS / macs;
    p->chunks = (most + p->chunk - 1) / p->chunk;
}

/* Weights [in_ch][channels of a group][taps], phase by phase. */
static void pack(const rq_phases_f32 *p, float *to, const float *w)
{
    const rq_conv_geom *g = &p->g;
    const int64_t icg = g->in_ch / g->groups, ocg = g->out_ch / g->groups, k = area(g->kernel);
    for (int64_t group = 0; group < g->groups; group++)
        for (int64_t f = 0; f < p->n_phases; f++) {
            float *row = to + (group * p->depth + p->phases[f].before) * ocg;
            const int64_t taps = p->phases[f].depth / icg;
            int64_t n = 0, at[3];
            for (int64_t t = 0; t < k && n < taps; t++) {
                const int64_t tap[3] = { t / (g->kernel[1] * g->kernel[2]), t / g->kernel[2] % g->kernel[1],
                                         t % g->kernel[2] };
                bool meets = true;
                for (int d = 0; d < 3; d++)
                    meets = meets && shift(g, d, p->phases[f].r[d], tap[d], &at[d]);
                if (!meets)
                    continue;
                for (int64_t c = 0; c < ocg; c++)
                    for (int64_t i = 0; i < icg; i++)
                        row[c * p->phases[f].depth + i * taps + n] = w[((group * icg + i) * ocg + c) * k + t];
                n++;
            }
        }
}

static size_t packed_floats(const rq_phases_f32 *p)
{
    return (size_t)(p->g.out_ch * p->depth);
}

rq_status rq_phases_f32_create(rq_phases_f32 **out, const rq_kernels *k, const rq_conv_geom *g, const float *w)
{
    const double phases = (double)remainders(g, 0) * (double)remainders(g, 1) * (double)remainders(g, 2);
    if (phases > MOST_PHASES)
        return RQ_UNSUPPORTED;
    rq_phases_f32 *p = rq_mem_zalloc(1, sizeof *p);
    if (!p)
        return RQ_NO_MEMORY;
    p->k = k;
    p->g = *g;
    surround(p);
    double size = (double)g->in_ch;
    for (int d = 0; d < 3; d++)
        size *= (double)(rq_planes_reach(&p->laid, d) + 1);
    rq_status s = size < INT32_MAX / 2 ? RQ_NO_MEMORY : RQ_UNSUPPORTED;
    if (s == RQ_UNSUPPORTED)
        goto done;
    rq_planes_init(&p->planes, &p->laid);
    p->step = (p->planes.total + ALIGN - 1) / ALIGN * ALIGN;
    if (p->step / ALIGN % 2 == 0)
        p->step += ALIGN; /* channels fall into different sets of a cache */
    p->phases = rq_mem_alloc((size_t)phases, sizeof *p->phases);
    p->off = rq_mem_alloc((size_t)(g->in_ch / g->groups * area(g->kernel)), sizeof *p->off);
    if (!p->phases || !p->off)
        goto done;
    list_phases(p);
    if (w) {
        p->packed = rq_mem_alloc(packed_floats(p) + 1, sizeof *p->packed);
        if (!p->packed)
            goto done;
        pack(p, p->packed, w);
    }
    s = RQ_OK;
    *out = p;
done:
    if (s != RQ_OK)
        rq_phases_f32_destroy(p);
    return s;
}

void rq_phases_f32_destroy(rq_phases_f32 *p)
{
    if (!p)
        return;
    rq_mem_free(p->phases);
    rq_mem_free(p->off);
    rq_mem_free(p->packed);
    rq_mem_free(p);
}

/* One image, and behind it what the last panel reads of nothing. */
static size_t image_floats(const rq_phases_f32 *p)
{
    return (size_t)(p->step * p->g.in_ch + RQ_GEMM_F32_COLUMNS);
}

size_t rq_phases_f32_scratch(const rq_phases_f32 *p)
{
    return (image_floats(p) + (p->packed ? 0 : packed_floats(p))) * sizeof(float);
}

typedef struct job {
    const rq_phases_f32 *p;
    float *y, *laid; /* of one image */
    const float *x, *packed, *bias;
} job;

static void lay_item(void *arg, int64_t channel)
{
    const job *j = arg;
    const rq_phases_f32 *p = j->p;
    float *to = j->laid + channel * p->step;
    rq_planes_fill(&p->planes, &p->laid, to, j->x + channel * area(p->g.in));
    memset(to + p->planes.total, 0, (size_t)(p->step - p->planes.total) * sizeof *to);
}

/* Columns j0..j0+columns-1 of output plane z of a phase for `rows` channels at y. */
static void put(const rq_phases_f32 *p, const phase *f, float *y, const float *acc, int ld, int rows, int64_t z,
                int64_t j0, int columns)
{
    const rq_conv_geom *g = &p->g;
    const int64_t pitch = p->planes.pitch, s = g->stride[2];
    y += ((z * g->stride[0] + f->r[0]) * g->out[1] + f->r[1]) * g->out[2] + f->r[2];
    for (int64_t at = j0, end = j0 + columns; at < end;) {
        const int64_t row = at / pitch, q = at % pitch, left = f->q[2] - q, most = end - at;
        const int64_t n = left < most ? left : most;
        for (int i = 0; i < rows; i++) {
            float *to = y + i * area(g->out) + row * g->stride[1] * g->out[2] + q * s;
            const float *from = acc + i * ld + (at - j0);
            for (int64_t u = 0; u < n; u++)
                to[u * s] = from[u];
        }
        at = (row + 1) * pitch;
    }
}

static void strip_item(void *arg, int64_t item)
{
    const job *j = arg;
    const rq_phases_f32 *p = j->p;
    const rq_conv_geom *g = &p->g;
    const int64_t chunk = item % p->chunks, which = item / p->chunks % p->n_phases;
    const int64_t strip = item / p->chunks / p->n_phases % p->strips,
                  group = item / p->chunks / p->n_phases / p->strips;
    const phase *f = &p->phases[which];
    const int64_t ocg = g->out_ch / g->groups, icg = g->in_ch / g->groups, first = strip * RQ_GEMM_F32_ROWS;
    const int rows = (int)(ocg - first < RQ_GEMM_F32_ROWS ? ocg - first : RQ_GEMM_F32_ROWS);
    const int lanes = p->k->gemm_f32.lanes, most = rq_gemm_f32_panel(p->k, ocg) / lanes;
    const int64_t vectors = (f->length + lanes - 1) / lanes, panels = (vectors + most - 1) / most;
    const int64_t all = f->q[0] * panels, end = (chunk + 1) * p->chunk < all ? (chunk + 1) * p->chunk : all;
    const float *bias = j->bias ? j->bias + group * ocg + first : NULL;
    rq_gemm_f32_strip s = { .k = p->k,
                            .a = j->packed + (group * p->depth + f->before) * ocg + first * f->depth,
                            .a_row = f->depth,
                            .a_k = 1,
                            .off = p->off + f->before,
                            .depth = f->depth };
    _Alignas(64) float acc[RQ_GEMM_F32_ROWS * 48];
    for (int64_t at = chunk * p->chunk; at < end; at++) {
        const int64_t z = at / panels, n = at % panels;
        const int64_t j0 = vectors * n / panels * lanes, j1 = vectors * (n + 1) / panels * lanes;
        const int columns = (int)((j1 < f->length ? j1 : f->length) - j0), ld = (columns + lanes - 1) / lanes * lanes;
        s.b = j->laid + group * icg * p->step + z * p->planes.plane + j0;
        rq_gemm_f32_strip_run(&s, acc, (size_t)ld, bias, rows, columns);
        put(p, f, j->y + (group * ocg + first) * area(g->out), acc, ld, rows, z, j0, columns);
    }
}

void rq_phases_f32_run(const rq_phases_f32 *p, float *y, const float *x, const float *w, const float *bias,
                       void *scratch, rq_threads *t)
{
    const rq_conv_geom *g = &p->g;
    job j = { .p = p, .laid = scratch, .packed = p->packed, .bias = bias };
    if (!p->packed) {
        float *mine = j.laid + image_floats(p);
        pack(p, mine, w);
        j.packed = mine;
    }
    memset(j.laid + p->step * g->in_ch, 0, RQ_GEMM_F32_COLUMNS * sizeof *j.laid);
    for (int64_t image = 0; image < g->batch; image++) {
        j.x = x + image * g->in_ch * area(g->in);
        j.y = y + image * g->out_ch * area(g->out);
        rq_threads_for(t, g->in_ch, lay_item, &j);
        rq_threads_for(t, g->groups * p->strips * p->n_phases * p->chunks, strip_item, &j);
    }
}
