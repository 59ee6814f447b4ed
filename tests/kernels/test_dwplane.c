/* tests/kernels/test_dwplane.c — depthwise convolution of a plane of floats: every width, kernel, stride and border against plain loops, bit by bit, on
 * every instruction set; buffers have exactly their size, so that the address sanitizer sees what is read beside them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/kernels.h"

static float *random_floats(rq_rng *rng, int64_t n)
{
    float *x = malloc((size_t)(n ? n : 1) * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)rq_rng_below(rng, 4001) * 1e-3f - 2;
    return x;
}

static float one(const rq_dwplane *g, const float *x, const float *w, float bias, int64_t i, int64_t j)
{
    float sum = bias;
    for (int r = 0; r < g->kernel[0]; r++)
        for (int c = 0; c < g->kernel[1]; c++) {
            const int64_t row = i * g->stride[0] + r * g->dilation - g->pad[0],
                          column = j * g->stride[1] + c - g->pad[1];
            const bool inside = row >= 0 && row < g->in[0] && column >= 0 && column < g->in[1];
            const float product = w[r * g->kernel[1] + c] * (inside ? x[row * g->in[1] + column] : 0);
            sum = sum + product;
        }
    return sum;
}

static void check(rq_rng *rng, const rq_dwplane *g)
{
    const int64_t n_in = g->in[0] * g->in[1], n_out = g->out[0] * g->out[1];
    float *x = random_floats(rng, n_in), *w = random_floats(rng, (int64_t)g->kernel[0] * g->kernel[1]),
          *want = malloc((size_t)n_out * sizeof *want);
    const float bias = rq_rng_below(rng, 4) ? 0.37f : -0.0f;
    for (int64_t i = 0; i < n_out; i++)
        want[i] = one(g, x, w, bias, i / g->out[1], i % g->out[1]);
    unsigned flags;
    const char *level;
    for (int i = 0; (level = rq_cpu_level(i, &flags)); i++) {
        if (flags & ~rq_cpu_detect())
            continue;
        rq_kernels k;
        rq_kernels_init(&k, flags);
        float *y = malloc((size_t)n_out * sizeof *y);
        memset(y, 0x7f, (size_t)n_out * sizeof *y);
        k.dwplane_f32(g, y, x, w, bias);
        if (memcmp(y, want, (size_t)n_out * sizeof *y))
            fail_msg("%s: in %dx%d, kernel %dx%d, stride %d %d, pad %d %d, dilation %d", level, (int)g->in[0],
                     (int)g->in[1], g->kernel[0], g->kernel[1], g->stride[0], g->stride[1], (int)g->pad[0],
                     (int)g->pad[1], g->dilation);
        free(y);
    }
    free(x), free(w), free(want);
}

static void planes_match_plain_loops_on_every_isa(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 11);
    int seen = 0;
    for (int64_t width = 1; width <= 70; width++)
        for (int round = 0; round < 120; round++) {
            const bool usual = round & 1;
            const int side = usual ? 3 + 2 * (int)rq_rng_below(&rng, 2) : 1 + (int)rq_rng_below(&rng, RQ_DWPLANE_MAX);
            rq_dwplane g = { .in = { 1 + (int64_t)rq_rng_below(&rng, 9), width },
                             .pad = { (int64_t)rq_rng_below(&rng, 4) - !usual,
                                      (int64_t)rq_rng_below(&rng, 4) - !usual },
                             .kernel = { side, usual ? side : 1 + (int)rq_rng_below(&rng, RQ_DWPLANE_MAX) },
                             .stride = { 1 + (int)rq_rng_below(&rng, 3), 1 + (int)rq_rng_below(&rng, 2) },
                             .dilation = 1 + (int)rq_rng_below(&rng, 2) };
            for (int d = 0; d < 2; d++) {
                const int64_t reach = (g.kernel[d] - 1) * (d ? 1 : g.dilation) + 1,
                              seen_by = g.in[d] + g.pad[d] + (int64_t)rq_rng_below(&rng, 4) - reach;
                g.out[d] = seen_by < 0 ? 0 : seen_by / g.stride[d] + 1;
            }
            if (g.out[0] > 0 && g.out[1] > 0) {
                check(&rng, &g);
                seen++;
            }
        }
    assert_true(seen > 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(planes_match_plain_loops_on_every_isa) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
