/* kernels/im2col.c — see im2col.h. */
#include "kernels/im2col.h"

#include <assert.h>
#include <string.h>

/* Runs are copied in chunks of this many bytes, so that many short runs cost a load and a store each; what a chunk
 * reads or writes beyond its run is overwritten by the next, or never looked at. */
enum { CHUNK = 16, SLACK = 64 };

static int64_t clamp(int64_t v, int64_t lo, int64_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

void rq_im2col_init(rq_im2col *g)
{
    g->direct = true;
    for (int i = 0; i < 3; i++)
        g->direct = g->direct && g->kernel[i] == 1 && g->stride[i] == 1 && g->pad[i] == 0 && g->in[i] == g->out[i];
    for (int i = 0; i < 2; i++) {
        /* with a single tap the rows between two output rows are not copied at all */
        g->step[i] = g->kernel[i] == 1 ? 1 : g->stride[i];
        g->rows[i] =
            g->kernel[i] == 1 ? g->out[i] : (g->out[i] - 1) * g->stride[i] + (g->kernel[i] - 1) * g->dilation[i] + 1;
    }
    const int64_t reach = (g->kernel[2] - 1) * g->dilation[2]; /* of the last tap */
    g->phases = reach + 1 < g->stride[2] ? reach + 1 : g->stride[2];
    g->width = g->out[2] + reach / g->stride[2];
    if (g->direct) {
        g->phases = 1;
        g->width = g->in[2];
    }
    g->row_stride = g->phases * g->width;
    g->channel_stride = g->rows[0] * g->rows[1] * g->row_stride;
}

size_t rq_im2col_bytes(const rq_im2col *g)
{
    return g->direct ? 0 : (size_t)g->channels * (size_t)g->channel_stride + SLACK;
}

int64_t rq_im2col_tap(const rq_im2col *g, int64_t c, const int64_t k[3])
{
    const int64_t x = k[2] * g->dilation[2];
    return c * g->channel_stride + (k[0] * g->dilation[0] * g->rows[1] + k[1] * g->dilation[1]) * g->row_stride +
           x % g->stride[2] * g->width + x / g->stride[2];
}

/* One padded row from the input row src (NULL: all border). */
static void pad_row(const rq_im2col *g, uint8_t *restrict dst, const uint8_t *restrict src, uint8_t flip, uint8_t fill)
{
    const int64_t s = g->stride[2];
    if (!src) {
        memset(dst, fill, (size_t)g->row_stride);
        return;
    }
    for (int64_t p = 0; p < g->phases; p++, dst += g->width) {
        /* dst[i] is input column i * s + offset */
        const int64_t offset = p - g->pad[2];
        const int64_t lo = offset < 0 ? clamp((-offset + s - 1) / s, 0, g->width) : 0;
        const int64_t hi = g->in[2] > offset ? clamp((g->in[2] - offset + s - 1) / s, lo, g->width) : lo;
        const uint8_t *from = src + lo * s + offset;
        uint8_t *to = dst + lo;
        const int64_t n = hi - lo;
        memset(dst, fill, (size_t)lo);
        memset(dst + hi, fill, (size_t)(g->width - hi));
        if (s == 1 && !flip && n > 0)
            memcpy(to, from, (size_t)n);
        else if (s == 1)
            for (int64_t i = 0; i < n; i++)
                to[i] = from[i] ^ flip;
        else if (s == 2) /* told apart so that it becomes vector code */
            for (int64_t i = 0; i < n; i++)
                to[i] = from[2 * i] ^ flip;
        else
            for (int64_t i = 0; i < n; i++)
                to[i] = from[i * s] ^ flip;
    }
}

typedef struct pad_args {
    const rq_im2col *g;
    uint8_t *dst;
    const uint8_t *src;
    int64_t per; /* channels of one item */
    uint8_t flip, fill;
} pad_args;

static void pad_channels(void *arg, int64_t item)
{
    const pad_args *a = arg;
    const rq_im2col *g = a->g;
    const int64_t plane = g->in[0] * g->in[1] * g->in[2];
    const int64_t mul[2] = { g->kernel[0] == 1 ? g->stride[0] : 1, g->kernel[1] == 1 ? g->stride[1] : 1 };
    for (int64_t c = item * a->per; c < g->channels && c < (item + 1) * a->per; c++) {
        uint8_t *dst = a->dst + c * g->channel_stride;
        for (int64_t r0 = 0; r0 < g->rows[0]; r0++)
            for (int64_t r1 = 0; r1 < g->rows[1]; r1++, dst += g->row_stride) {
                const int64_t i0 = r0 * mul[0] - g->pad[0], i1 = r1 * mul[1] - g->pad[1];
                const bool inside = i0 >= 0 && i0 < g->in[0] && i1 >= 0 && i1 < g->in[1];
                pad_row(g, dst, inside ? a->src + c * plane + (i0 * g->in[1] + i1) * g->in[2] : NULL, a->flip, a->fill);
            }
    }
}

void rq_im2col_pad(const rq_im2col *g, uint8_t *dst, const uint8_t *src, uint8_t flip, uint8_t fill, rq_threads *t)
{
    enum { ITEM_BYTES = 1 << 15 };
    pad_args a = { .g = g, .dst = dst, .src = src, .flip = flip, .fill = fill };
    a.per = ITEM_BYTES / (g->channel_stride + 1) + 1;
    rq_threads_for(t, (g->channels + a.per - 1) / a.per, pad_channels, &a);
    memset(dst + g->channels * g->channel_stride, fill, SLACK);
}

/* The runs that n output positions from `first` consist of, one per output row that they touch. */
typedef struct run {
    int64_t from, n;
} run;

static int runs_of(const rq_im2col *g, int64_t first, int64_t n, run *runs)
{
    if (g->direct) {
        runs[0] = (run) { first, n };
        return 1;
    }
    int count = 0;
    while (n > 0) {
        const int64_t row = first / g->out[2], x = first % g->out[2];
        const int64_t len = g->out[2] - x < n ? g->out[2] - x : n;
        runs[count++] = (run) { rq_im2col_row(g, row / g->out[1], row % g->out[1]) + x, len };
        first += len;
        n -= len;
    }
    return count;
}

void rq_im2col_panel(const rq_im2col *g, const rq_gemm_isa *isa, uint8_t *panel, const uint8_t *base,
                     const int64_t *tap, int64_t depth, int64_t first, int64_t n, uint8_t flip)
{
    assert(n > 0);
    run runs[RQ_GEMM_MAX_COLUMNS];
    const int n_runs = runs_of(g, first, n, runs);
    const int64_t step_bytes = (n + isa->lanes - 1) / isa->lanes * isa->lanes * isa->kr;
    uint8_t row[RQ_GEMM_MAX_KR][RQ_GEMM_MAX_COLUMNS + CHUNK], zero[RQ_GEMM_MAX_COLUMNS];
    memset(zero, flip, sizeof zero);
    for (int64_t k = 0; k < depth; k += isa->kr, panel += step_bytes) {
        const uint8_t *rows[RQ_GEMM_MAX_KR];
        for (int r = 0; r < isa->kr; r++) {
            if (k + r >= depth) {
                rows[r] = zero;
                continue;
            }
            const uint8_t *from = base + tap[k + r];
            rows[r] = from + runs[0].from;
            if (n_runs == 1)
                continue;
            uint8_t *to = row[r];
            rows[r] = to;
            for (int i = 0; i < n_runs; to += runs[i++].n)
                for (int64_t j = 0; j < runs[i].n; j += CHUNK)
                    memcpy(to + j, from + runs[i].from + j, CHUNK);
        }
        isa->interleave(panel, rows, (size_t)n, flip);
    }
}
