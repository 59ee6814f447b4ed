/* tests/kernels/test_products_f32.c — float convolutions and products against loops in double, over shapes that take every
 * road inside. Ours also against the chain that they promise, bit for bit, on every instruction set, with one thread and
 * with two; oneDNN's with one and with two. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/conv_f32.h"

static int own_seen[2]; /* shapes that took our own kernels: depthwise, blocks */
static int turned_seen; /* shapes whose vectors ran along output channels, at the widest level */

static float *noise(rq_rng *r, int64_t n)
{
    float *x = malloc((size_t)(n ? n : 1) * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = rq_rng_f32(r) * 2 - 1;
    return x;
}

static int64_t area(const int64_t v[3])
{
    return v[0] * v[1] * v[2];
}

/* Sizes of the output from the rest; false when it would be empty. */
static bool finish(rq_conv_geom *g)
{
    for (int i = 0; i < 3; i++) {
        const int64_t span = (g->kernel[i] - 1) * g->dilation[i] + 1;
        if (g->transposed) {
            g->out[i] = (g->in[i] - 1) * g->stride[i] + span - g->pad_lo[i] - g->pad_hi[i];
        } else {
            const int64_t room = g->in[i] + g->pad_lo[i] + g->pad_hi[i] - span;
            g->out[i] = room < 0 ? 0 : room / g->stride[i] + 1;
        }
        if (g->out[i] < 1)
            return false;
    }
    return true;
}

/* Depthwise and block-wise kernels of our own, where they fit: on every instruction set. */
static void check_own(const rq_conv_geom *g, rq_rng *r, const float *x, const float *w, const float *b,
                      const float *want, rq_threads *two, int64_t ny)
{
    float *one = malloc((size_t)ny * sizeof *one), *y = malloc((size_t)ny * sizeof *y);
    const char *level;
    unsigned flags;
    if (rq_dwconv_f32_fits(g)) {
        rq_kernels k;
        void *scratch = rq_mem_alloc(rq_dwconv_f32_scratch(g, 2), 1);
        rq_kernels_init(&k, 0);
        rq_dwconv_f32_run(&k, g, one, x, w, b, NULL, scratch, 2, NULL);
        for (int64_t i = 0; i < ny; i++)
            if (!(fabs((double)one[i] - want[i]) <= 1e-5))
                fail_msg("depthwise: [%d] is %g, not %g", (int)i, one[i], want[i]);
        for (int i = 0; (level = rq_cpu_level(i, &flags)); i++) {
            if (flags & ~rq_cpu_detect())
                continue;
            rq_kernels_init(&k, flags);
            rq_dwconv_f32_run(&k, g, y, x, w, b, NULL, scratch, 2, two);
            assert_memory_equal(one, y, (size_t)ny * sizeof *y);
        }
        own_seen[0]++;
        rq_mem_free(scratch);
    }
    if (rq_deconv_f32_fits(g)) {
        rq_kernels k;
        void *scratch = rq_mem_alloc(rq_deconv_f32_scratch(g, 2), 1);
        rq_kernels_init(&k, 0);
        assert_int_equal(rq_deconv_f32_run(&k, g, one, x, w, b, scratch, 2, NULL), RQ_OK);
        for (int64_t i = 0; i < ny; i++)
            if (!(fabs((double)one[i] - want[i]) <= 1e-5))
                fail_msg("blocks: [%d] is %g, not %g", (int)i, one[i], want[i]);
        for (int i = 0; (level = rq_cpu_level(i, &flags)); i++) {
            if (flags & ~rq_cpu_detect())
                continue;
            rq_kernels_init(&k, flags);
            assert_int_equal(rq_deconv_f32_run(&k, g, y, x, w, b, scratch, 2, two), RQ_OK);
            assert_memory_equal(one, y, (size_t)ny * sizeof *y);
        }
        own_seen[1]++;
        rq_mem_free(scratch);
    }
    free(one), free(y);
}

/* What conv_f32 promises: one chain from the bias over input channels, then taps; padding is zeros. Transposed: taps without a
 * place in the input's grid are left out. */
static void chains(const rq_conv_geom *g, float *y, const float *x, const float *w, const float *b)
{
    const int64_t icg = g->in_ch / g->groups, ocg = g->out_ch / g->groups, taps = area(g->kernel), out = area(g->out);
    for (int64_t item = 0; item < g->batch * g->out_ch * out; item++) {
        const int64_t at = item % out, oc = item / out % g->out_ch, image = item / out / g->out_ch;
        const int64_t o[3] = { at / (g->out[1] * g->out[2]), at / g->out[2] % g->out[1], at % g->out[2] };
        float sum = b ? b[oc] : 0;
        for (int64_t q = 0; q < icg * taps; q++) {
            const int64_t t = q % taps;
            const int64_t tap[3] = { t / (g->kernel[1] * g->kernel[2]), t / g->kernel[2] % g->kernel[1],
                                     t % g->kernel[2] };
            int64_t from = (image * g->in_ch + oc / ocg * icg + q / taps);
            bool inside = true, meets = true;
            for (int d = 0; d < 3; d++) {
                int64_t i = o[d] * g->stride[d] - g->pad_lo[d] + tap[d] * g->dilation[d];
                if (g->transposed) {
                    const int64_t v = o[d] + g->pad_lo[d] - tap[d] * g->dilation[d];
                    meets = meets && v % g->stride[d] == 0;
                    i = v < 0 ? -1 : v / g->stride[d];
                }
                inside = inside && i >= 0 && i < g->in[d];
                from = from * g->in[d] + i;
            }
            const int64_t wi =
                g->transposed ? ((oc / ocg * icg + q / taps) * ocg + oc % ocg) * taps + t : oc * icg * taps + q;
            if (meets)
                sum = fmaf(w[wi], inside ? x[from] : 0, sum);
        }
        y[item] = sum;
    }
}

static void near(const rq_conv_geom *g, const char *how, const float *got, const float *want, int64_t n)
{
    const double tol = 1e-6 * (double)(g->in_ch / g->groups * area(g->kernel)) + 1e-5;
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tol))
            fail_msg("%s %s: batch %d groups %d channels %d>%d in %d,%d,%d kernel %d,%d,%d: [%d] is %g, not %g", how,
                     g->transposed ? "transposed" : "", (int)g->batch, (int)g->groups, (int)g->in_ch, (int)g->out_ch,
                     (int)g->in[0], (int)g->in[1], (int)g->in[2], (int)g->kernel[0], (int)g->kernel[1],
                     (int)g->kernel[2], (int)i, got[i], want[i]);
}

/* One way to compute: k's. Results of one thread and of two. */
static void convolve(const rq_kernels *k, const rq_conv_geom *g, const float *x, const float *w, const float *b,
                     bool fixed, float *one, float *y, rq_threads *two, char how[16])
{
    rq_conv_f32 *c;
    assert_int_equal(rq_conv_f32_create(&c, k, g, fixed ? w : NULL, b != NULL, 2), RQ_OK);
    strcpy(how, rq_conv_f32_how(c));
    void *scratch = rq_mem_alloc(rq_conv_f32_scratch(c), 1);
    const size_t bytes = rq_conv_f32_weights(c);
    float *packed = bytes ? rq_mem_alloc(bytes, 1) : NULL;
    if (bytes) {
        assert_true(fixed);
        rq_conv_f32_pack(c, packed, w);
        w = packed;
    }
    assert_int_equal(rq_conv_f32_run(c, one, x, w, b, NULL, scratch, NULL), RQ_OK);
    assert_int_equal(rq_conv_f32_run(c, y, x, w, b, NULL, scratch, two), RQ_OK);
    rq_conv_f32_destroy(c);
    rq_mem_free(packed);
    rq_mem_free(scratch);
}

/* What follows is done to every output once, whoever does it: alone, and behind the sum with a residual. */
static void check_after(const rq_kernels *k, const rq_conv_geom *g, const float *x, const float *w, const float *b,
                        bool fixed, const float *one, float *y, const float *add, int64_t ny, rq_threads *two)
{
    for (int both = 0; both < 2; both++) {
        const rq_conv_after after = { false, both ? add : NULL, k->map[RQ_MAP_CLIP], -0.25f, 0.5f };
        rq_conv_f32 *c;
        assert_int_equal(rq_conv_f32_create(&c, k, g, fixed ? w : NULL, b != NULL, 2), RQ_OK);
        void *scratch = rq_mem_alloc(rq_conv_f32_scratch(c), 1);
        const size_t bytes = rq_conv_f32_weights(c);
        float *packed = bytes ? rq_mem_alloc(bytes, 1) : NULL;
        if (bytes)
            rq_conv_f32_pack(c, packed, w);
        assert_int_equal(rq_conv_f32_run(c, y, x, bytes ? packed : w, b, &after, scratch, two), RQ_OK);
        for (int64_t i = 0; i < ny; i++) {
            const float sum = both ? one[i] + add[i] : one[i], want = sum < -0.25f ? -0.25f : sum > 0.5f ? 0.5f : sum;
            if (y[i] != want)
                fail_msg("%s, what follows: [%d] is %a, not %a", rq_conv_f32_how(c), (int)i, y[i], want);
        }
        rq_conv_f32_destroy(c);
        rq_mem_free(scratch);
        rq_mem_free(packed);
    }
}

static void check_conv(const rq_conv_geom *g, rq_rng *r, bool bias, bool fixed, rq_threads *two, int how_seen[4])
{
    const int64_t nx = g->batch * g->in_ch * area(g->in), ny = g->batch * g->out_ch * area(g->out);
    const int64_t nw = g->in_ch / g->groups * g->out_ch * area(g->kernel);
    float *x = noise(r, nx), *w = noise(r, nw), *some = noise(r, g->out_ch), *b = bias ? some : NULL;
    float *want = noise(r, ny), *one = noise(r, ny), *y = noise(r, ny), *chain = noise(r, ny);
    rq_conv_f32_plain(g, want, x, w, b, NULL);
    check_own(g, r, x, w, b, want, two, ny);
    const char *level;
    unsigned flags;
    char how[16];
    rq_kernels k;
    for (int i = 0; (level = rq_cpu_level(i, &flags)); i++) {
        if (flags & ~rq_cpu_detect())
            continue;
        rq_kernels_init(&k, flags);
        convolve(&k, g, x, w, b, fixed, one, y, two, how);
        assert_memory_equal(one, y, (size_t)ny * sizeof *y);
        if (i == 0) {
            near(g, how, one, want, ny);
            chains(g, chain, x, w, b);
        }
        for (int64_t n = 0; n < ny; n++)
            if (memcmp(&one[n], &chain[n], sizeof *one) != 0)
                fail_msg("%s %s: [%d] is %a, the chain says %a", level, how, (int)n, one[n], chain[n]);
        check_after(&k, g, x, w, b, fixed, one, y, want, ny, two);
    }
    how_seen[strncmp(how, "pixels", 6) == 0 ? 0 : strncmp(how, "planes", 6) == 0 ? 1 : 2]++;
    turned_seen += strstr(how, "turned") != NULL;
    assert_string_not_equal(how, "plain");
    k.library = true;
    convolve(&k, g, x, w, b, fixed, one, y, two, how);
    near(g, how, one, want, ny);
    assert_memory_equal(one, y, (size_t)ny * sizeof *y);
    how_seen[3] += strcmp(how, "library") == 0;
    free(x), free(w), free(some), free(want), free(one), free(y), free(chain);
}

static void convolutions_match_plain_loops(void **state)
{
    rq_rng r;
    rq_threads *two;
    int how[4] = { 0 };
    rq_rng_seed(&r, 7);
    assert_int_equal(rq_threads_create(&two, 2), RQ_OK);
    for (int n = 0; n < 600; n++) {
        rq_conv_geom g = { .nd = 1 + (int)rq_rng_below(&r, 3),
                           .batch = 1 + (int64_t)rq_rng_below(&r, 3),
                           .transposed = rq_rng_below(&r, 4) == 0 };
        static const int64_t groups[] = { 1, 1, 1, 2, 3, 16 }, channels[] = { 1, 2, 3, 8, 16, 17 };
        g.groups = groups[rq_rng_below(&r, 6)];
        g.in_ch = g.groups * (g.groups > 3 ? 1 : channels[rq_rng_below(&r, 6)]);
        g.out_ch = g.groups * (g.groups > 3 ? 1 : channels[rq_rng_below(&r, 6)]);
        for (int i = 0; i < 3; i++) {
            const bool used = i >= 3 - g.nd;
            g.in[i] = used ? 1 + (int64_t)rq_rng_below(&r, 9) : 1;
            g.kernel[i] = used ? 1 + (int64_t)rq_rng_below(&r, 3) : 1;
            g.stride[i] = used ? 1 + (int64_t)rq_rng_below(&r, 3) : 1;
            g.dilation[i] = used ? 1 + (int64_t)rq_rng_below(&r, 2) : 1;
            g.pad_lo[i] = used ? (int64_t)rq_rng_below(&r, 3) : 0;
            g.pad_hi[i] = used ? (int64_t)rq_rng_below(&r, 3) : 0;
            if (used && g.transposed && rq_rng_below(&r, 3) == 0)
                g.pad_hi[i] = -(int64_t)rq_rng_below(&r, (uint64_t)g.stride[i] + 1);
        }
        const uint64_t kind = rq_rng_below(&r, 12);
        for (int i = 0; i < 3 && kind < 2; i++) { /* 1x1, and blocks */
            g.kernel[i] = kind == 0 || g.transposed == 0 ? 1 : g.stride[i];
            g.stride[i] = kind == 0 ? 1 : g.kernel[i];
            g.dilation[i] = 1;
            g.pad_lo[i] = g.pad_hi[i] = 0;
        }
        if (finish(&g))
            check_conv(&g, &r, rq_rng_below(&r, 2), rq_rng_below(&r, 3) != 0, two, how);
    }
    print_message("pixels %d, planes %d, phases %d, oneDNN %d; depthwise %d, blocks %d\n", how[0], how[1], how[2],
                  how[3], own_seen[0], own_seen[1]);
    assert_true(how[0] > 0 && how[1] > 0 && how[3] > 0 && own_seen[0] > 10 && own_seen[1] > 5);
    print_message("turned %d\n", turned_seen);
    if (rq_cpu_detect())
        assert_true(turned_seen > 20);
    rq_threads_destroy(two);
}

/* Steps far beyond the output, which only has some of their remainders; and as many phases as there are. */
static void strides_may_be_larger_than_what_is_there(void **state)
{
    static const int64_t strides[] = { INT32_MAX, 3000, 5000 };
    rq_rng r;
    rq_threads *two;
    int how[4] = { 0 };
    rq_rng_seed(&r, 9);
    assert_int_equal(rq_threads_create(&two, 2), RQ_OK);
    for (int n = 0; n < 3; n++)
        for (int64_t pad = 0; pad < 3; pad++) {
            rq_conv_geom g = { .nd = 2,
                               .batch = 1,
                               .groups = 1,
                               .in_ch = 2,
                               .out_ch = 3,
                               .in = { 1, 1, n ? 2 : 1 },
                               .kernel = { 1, 2, 20 },
                               .stride = { 1, 1 + pad, strides[n] },
                               .dilation = { 1, 1, 3 },
                               .pad_lo = { 0, 0, n == 2 ? 2000 : pad },
                               .pad_hi = { 0, 1, pad },
                               .transposed = true };
            assert_true(finish(&g));
            check_conv(&g, &r, true, true, two, how);
        }
    rq_threads_destroy(two);
}

/* Large enough to be cut into pieces; strips of output channels: more rows than a band, more depth than is packed at once, steps, few rows read in place,
 * wide rows, panels of two rows. */
static void pieces_give_the_same_bits(void **state)
{
    static const struct {
        int nd, batch, groups, in_ch, out_ch, in[2], kernel[2], stride, pad_lo[2], pad_hi[2];
        bool transposed;
    } cases[] = {
        { 2, 1, 1, 64, 128, { 28, 28 }, { 3, 3 }, 1, { 1, 1 }, { 1, 1 }, false },
        { 2, 3, 1, 64, 64, { 28, 28 }, { 3, 3 }, 2, { 0, 0 }, { 1, 1 }, false },
        { 2, 1, 1, 256, 256, { 14, 14 }, { 1, 1 }, 1, { 0, 0 }, { 0, 0 }, false },
        { 2, 5, 1, 32, 32, { 14, 14 }, { 3, 3 }, 1, { 0, 0 }, { 0, 0 }, false },
        { 2, 1, 96, 96, 96, { 112, 112 }, { 3, 3 }, 2, { 1, 1 }, { 1, 1 }, false },
        { 2, 1, 4, 128, 128, { 28, 28 }, { 3, 3 }, 1, { 0, 0 }, { 0, 0 }, false },
        { 2, 1, 1, 64, 64, { 20, 20 }, { 2, 2 }, 2, { 0, 0 }, { 0, 0 }, true },
        { 1, 1, 1, 64, 256, { 1, 500 }, { 1, 5 }, 1, { 0, 2 }, { 0, 2 }, false },
        { 2, 1, 1, 70, 300, { 20, 20 }, { 1, 1 }, 1, { 0, 0 }, { 0, 0 }, false },
        { 2, 2, 1, 900, 24, { 12, 12 }, { 1, 1 }, 1, { 0, 0 }, { 0, 0 }, false },
        { 2, 1, 1, 40, 80, { 57, 57 }, { 1, 1 }, 2, { 0, 0 }, { 0, 0 }, false },
        { 2, 1, 2, 140, 16, { 16, 16 }, { 1, 1 }, 1, { 0, 0 }, { 0, 0 }, false },
        { 2, 1, 1, 20, 24, { 6, 150 }, { 3, 3 }, 1, { 1, 1 }, { 1, 1 }, false },
        { 2, 1, 1, 200, 2, { 16, 17 }, { 1, 1 }, 1, { 0, 0 }, { 0, 0 }, false },
    };
    rq_rng r;
    rq_threads *two;
    int how[4] = { 0 };
    rq_rng_seed(&r, 8);
    assert_int_equal(rq_threads_create(&two, 2), RQ_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int fixed = 0; fixed < 2; fixed++) {
            rq_conv_geom g = { .nd = cases[i].nd,
                               .batch = cases[i].batch,
                               .groups = cases[i].groups,
                               .in_ch = cases[i].in_ch,
                               .out_ch = cases[i].out_ch,
                               .transposed = cases[i].transposed };
            for (int d = 0; d < 3; d++) {
                g.in[d] = d ? cases[i].in[d - 1] : 1;
                g.kernel[d] = d ? cases[i].kernel[d - 1] : 1;
                g.stride[d] = d ? cases[i].stride : 1;
                g.dilation[d] = 1;
                g.pad_lo[d] = d ? cases[i].pad_lo[d - 1] : 0;
                g.pad_hi[d] = d ? cases[i].pad_hi[d - 1] : 0;
            }
            assert_true(finish(&g));
            check_conv(&g, &r, true, fixed, two, how);
        }
    rq_threads_destroy(two);
}

static void products_match_plain_loops(void **state)
{
    rq_rng r;
    rq_threads *two;
    rq_rng_seed(&r, 9);
    assert_int_equal(rq_threads_create(&two, 2), RQ_OK);
    for (int n = 0; n < 60; n++) {
        const bool large = n >= 54, ta = rq_rng_below(&r, 2), tb = rq_rng_below(&r, 2);
        const int64_t m = large ? 33 + (int64_t)rq_rng_below(&r, 400) : 1 + (int64_t)rq_rng_below(&r, 40);
        const int64_t cols = large ? 100 + (int64_t)rq_rng_below(&r, 300) : 1 + (int64_t)rq_rng_below(&r, 40);
        const int64_t k = large ? 300 : (int64_t)rq_rng_below(&r, 40);
        const float alpha = n % 3 ? 1 : 0.5f, beta = n % 4 ? 0 : 2;
        float *a = noise(&r, m * k), *b = noise(&r, k * cols), *c = noise(&r, m * cols);
        float *one = malloc((size_t)(m * cols) * sizeof *one), *y = malloc((size_t)(m * cols) * sizeof *y);
        float *chain = malloc((size_t)(m * cols) * sizeof *chain);
        const int64_t lda = ta ? m : k, ldb = tb ? k : cols;
        const char *level;
        unsigned flags;
        rq_kernels kernels;
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < cols; j++) {
                float sum = 0, *to = &chain[i * cols + j];
                for (int64_t q = 0; q < k; q++)
                    sum = fmaf(a[ta ? q * m + i : i * k + q], b[tb ? j * k + q : q * cols + j], sum);
                const float scaled = alpha * sum, kept = beta * c[i * cols + j];
                *to = k == 0 ? (beta == 0 ? 0 : kept) : beta == 0 ? scaled : kept + scaled;
            }
        for (int l = 0; (level = rq_cpu_level(l, &flags)); l++) {
            if (flags & ~rq_cpu_detect())
                continue;
            rq_kernels_init(&kernels, flags);
            memcpy(one, c, (size_t)(m * cols) * sizeof *c);
            memcpy(y, c, (size_t)(m * cols) * sizeof *c);
            assert_int_equal(rq_gemm_f32(&kernels, one, a, b, ta, tb, m, cols, k, alpha, lda, ldb, beta, cols, NULL),
                             RQ_OK);
            assert_int_equal(rq_gemm_f32(&kernels, y, a, b, ta, tb, m, cols, k, alpha, lda, ldb, beta, cols, two),
                             RQ_OK);
            assert_memory_equal(one, y, (size_t)(m * cols) * sizeof *y);
            for (int64_t i = 0; i < m * cols; i++)
                if (memcmp(&one[i], &chain[i], sizeof *one) != 0)
                    fail_msg("%s: %d x %d x %d, %d%d: [%d] is %a, the chain says %a", level, (int)m, (int)cols, (int)k,
                             ta, tb, (int)i, one[i], chain[i]);
        }
        kernels.library = true;
        memcpy(one, c, (size_t)(m * cols) * sizeof *c);
        memcpy(y, c, (size_t)(m * cols) * sizeof *c);
        assert_int_equal(rq_gemm_f32(&kernels, one, a, b, ta, tb, m, cols, k, alpha, lda, ldb, beta, cols, NULL),
                         RQ_OK);
        assert_int_equal(rq_gemm_f32(&kernels, y, a, b, ta, tb, m, cols, k, alpha, lda, ldb, beta, cols, two), RQ_OK);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < cols; j++) {
                double sum = 0;
                for (int64_t q = 0; q < k; q++)
                    sum += (double)a[ta ? q * m + i : i * k + q] * (double)b[tb ? j * k + q : q * cols + j];
                const double want = alpha * sum + (double)beta * c[i * cols + j];
                if (!(fabs(one[i * cols + j] - want) <= 1e-6 * (double)k + 1e-5))
                    fail_msg("%d x %d x %d, %d%d: [%d][%d] is %g, not %g", (int)m, (int)cols, (int)k, ta, tb, (int)i,
                             (int)j, one[i * cols + j], want);
            }
        assert_memory_equal(one, y, (size_t)(m * cols) * sizeof *y);
        free(a), free(b), free(c), free(one), free(y), free(chain);
    }
    rq_threads_destroy(two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strides_may_be_larger_than_what_is_there),
        cmocka_unit_test(convolutions_match_plain_loops),
        cmocka_unit_test(pieces_give_the_same_bits),
        cmocka_unit_test(products_match_plain_loops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
