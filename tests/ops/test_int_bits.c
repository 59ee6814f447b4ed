/* Products of codes of 2 to 16 bits, and of weights with a scale per block, against plain loops over the definition
 * (docs/numerics.md), on every instruction set this machine has, with one and two threads: random sizes, types, zero
 * points. Numbers of other systems are in tests/golden/lowbit. */
#include "int_fixture.h"

#include <math.h>
#include <stdio.h>

#include "base/cpu.h"
#include "kernels/quantize.h"
#include "ops/int_blocks.h"
#include "ops/int_pick.h"
#include "ops/int_product.h"

static rq_threads *pools[2]; /* none, two */

typedef struct form {
    bool (*accepts)(const rq_op_args *a, const char **why);
    rq_status (*prepare)(const rq_op_args *a, void **state);
} form;

static const form conv = { rq_int_pick_conv, rq_int_pick_prepare_conv };
static const form matmul = { rq_int_pick_matmul, rq_int_pick_prepare_matmul };
static const form gemm = { rq_int_pick_gemm, rq_int_pick_prepare_gemm };

static void run(fixture *f, const form *m, unsigned cpu, rq_threads *t, bool constant)
{
    rq_kernels k;
    rq_kernels_init(&k, cpu);
    const rq_tensor *in[MAX_IN] = { NULL }, *planned[MAX_IN] = { NULL };
    const rq_qparams *in_q[MAX_IN] = { NULL }, *out_q[1] = { f->has_q[MAX_IN] ? &f->q[MAX_IN] : NULL };
    rq_tensor *out[1] = { &f->out }, hidden[MAX_IN];
    for (int i = 0; i < f->n_in; i++) {
        in[i] = &f->in[i];
        in_q[i] = f->has_q[i] ? &f->q[i] : NULL;
        hidden[i] = f->in[i];
        if (i == 0 || (i == 1 && !constant))
            hidden[i].data = NULL; /* what a plan does not know */
        planned[i] = &hidden[i];
    }
    rq_packs packs = { 0 };
    rq_op_args a = { .graph = f->g,
                     .node = &f->g->nodes[f->node],
                     .opset = 21,
                     .in = planned,
                     .out = out,
                     .n_in = f->n_in,
                     .n_out = 1,
                     .in_q = in_q,
                     .out_q = out_q,
                     .k = &k,
                     .threads = t,
                     .packs = &packs };
    const char *why = "";
    if (!m->accepts(&a, &why))
        fail_msg("refused: %s", why);
    assert_int_equal(m->prepare(&a, &a.state), RQ_OK);
    a.in = in;
    const size_t bytes = rq_int_pick_scratch(&a);
    a.scratch = rq_mem_alloc(bytes, 1);
    memset(a.scratch, 0xa5, bytes);
    memset(f->out.data, 0x5a, f->out.bytes);
    rq_mem_fail_after(0, false);
    assert_int_equal(rq_int_pick_forward(&a), RQ_OK);
    assert_int_equal(rq_mem_fail_after(0, false), 0); /* a run allocates nothing */
    rq_mem_free(a.scratch);
    rq_int_pick_release(a.state);
    rq_packs_release(&packs);
}

static void on_every_isa(fixture *f, const form *m, bool constant, const double *want, const char *what)
{
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        for (int t = 0; t < 2; t++) {
            run(f, m, flags, pools[t], constant);
            for (int64_t i = 0; i < rq_tensor_count(&f->out); i++)
                if (rq_tensor_get(&f->out, i) != want[i])
                    fail_msg("%s, %s, %d threads: element %lld is %.9g, expected %.9g", what,
                             rq_cpu_level(level, &flags), t + 1, (long long)i, rq_tensor_get(&f->out, i), want[i]);
        }
    }
}

static const rq_dtype x_types[] = { RQ_DTYPE_U8, RQ_DTYPE_S8, RQ_DTYPE_U16, RQ_DTYPE_S16 };
static const rq_dtype w_types[] = { RQ_DTYPE_S2, RQ_DTYPE_U2, RQ_DTYPE_S4,  RQ_DTYPE_U4,
                                    RQ_DTYPE_S8, RQ_DTYPE_U8, RQ_DTYPE_S16, RQ_DTYPE_U16 };

/* Code i without its zero point, that of channel `at`. */
static int64_t centered(const rq_tensor *t, const rq_qparams *q, int64_t i, int64_t at)
{
    return rq_tensor_get_int(t, i) - q->zero_point[q->n > 1 ? at : 0];
}

/* What a sum becomes: the 8-bit way (f32) or the wide one (f64). */
static double finish_sum(const fixture *f, int64_t sum, int64_t c, bool wide, double bias)
{
    const rq_qparams *x = &f->q[0], *w = &f->q[1], *y = f->has_q[MAX_IN] ? &f->q[MAX_IN] : NULL;
    const float sw = w->scale[w->n > 1 ? c : 0];
    int32_t lo, hi;
    if (!wide && !y)
        return (double)((float)(int32_t)sum * (x->scale[0] * sw));
    if (!y)
        return (double)(float)((double)sum * ((double)x->scale[0] * (double)sw) + bias);
    rq_qparams_limits(y, &lo, &hi);
    if (!wide)
        return rq_quantize_acc((int32_t)sum, x->scale[0] * sw / y->scale[0], y->zero_point[0], lo, hi);
    const double m = (double)x->scale[0] * (double)sw / (double)y->scale[0];
    return (double)rq_quantize_real_f64((double)sum * m + bias / (double)y->scale[0], y->zero_point[0], lo, hi);
}

static bool is_wide(rq_dtype d)
{
    return rq_dtype_bits(d) == 16;
}

static void set_any_output(fixture *f, const rq_shape *s, bool real, rq_dtype d, float scale)
{
    if (!real)
        set_q(f, MAX_IN, d, RQ_PER_TENSOR, 1, false, scale);
    set_output(f, real ? RQ_DTYPE_F32 : d, s);
}

/* Steps of y about as long as it takes to fill half of its codes. */
static float step(rq_dtype x, rq_dtype w, rq_dtype y, int64_t depth)
{
    const double reach = (double)(1 << rq_dtype_bits(x)) * (double)(1 << rq_dtype_bits(w)) * (double)depth / 24;
    return (float)(reach * 1e-4 / (double)(1 << rq_dtype_bits(y)));
}

static void matmul_and_gemm_take_codes_of_any_width(void **state)
{
    rq_rng rng;
    rq_rng_seed(&rng, 41);
    for (int n = 0; n < 160; n++) {
        fixture f;
        const bool is_gemm = n % 2, real = n % 5 == 0, bias = is_gemm && n % 3 == 0;
        start(&f, &rng, is_gemm ? "Gemm" : "MatMul");
        const rq_dtype x = x_types[draw(&f, 0, 3)], w = w_types[n / 2 % 8], y = x_types[draw(&f, 0, 3)];
        const bool constant = rq_dtype_bits(w) < 8 || draw(&f, 0, 2) > 0 || bias;
        const int64_t m = draw(&f, 1, 9), k = draw(&f, 1, 70), c = draw(&f, 1, 50);
        const bool trans = is_gemm && draw(&f, 0, 1), columns = draw(&f, 0, 1);
        add_input(&f, x, 2, (int64_t[]) { m, k });
        add_input(&f, w, 2, trans ? (int64_t[]) { c, k } : (int64_t[]) { k, c });
        set_q(&f, 0, x, RQ_PER_TENSOR, 1, false, 0.01f);
        set_q(&f, 1, w, columns ? (trans ? 0 : 1) : RQ_PER_TENSOR, columns ? c : 1, n % 4 == 0, 0.01f);
        if (trans)
            set_int(&f, "transB", 1);
        if (bias) {
            add_input(&f, RQ_DTYPE_F32, 1, &c);
            for (int64_t j = 0; j < c; j++)
                f.in[2].f32[j] = (float)draw(&f, -100, 100) * 0.01f;
        }
        const bool wide = is_wide(x) || is_wide(w) || (!real && is_wide(y)) || (bias && rq_dtype_bits(w) < 8);
        const rq_shape s = rq_shape_of(2, (int64_t[]) { m, c });
        set_any_output(&f, &s, real, y, step(x, w, y, k));
        if (bias && !wide) { /* counted in units of the sums: test_int_ops has that */
            finish(&f);
            continue;
        }
        double *want = rq_mem_alloc((size_t)(m * c), sizeof *want);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < c; j++) {
                int64_t sum = 0;
                for (int64_t q = 0; q < k; q++)
                    sum += centered(&f.in[0], &f.q[0], i * k + q, 0) *
                           centered(&f.in[1], &f.q[1], trans ? j * k + q : q * c + j, j);
                want[i * c + j] = finish_sum(&f, sum, j, wide, bias ? (double)f.in[2].f32[j] : 0);
            }
        char what[160];
        snprintf(what, sizeof what, "%s %s x %s to %s, %lld x %lld x %lld", is_gemm ? "Gemm" : "MatMul",
                 rq_dtype_name(x), rq_dtype_name(w), rq_dtype_name(f.out.dtype), (long long)m, (long long)k,
                 (long long)c);
        on_every_isa(&f, is_gemm ? &gemm : &matmul, constant, want, what);
        rq_mem_free(want);
        finish(&f);
    }
}

static void conv_takes_codes_of_any_width(void **state)
{
    rq_rng rng;
    rq_rng_seed(&rng, 42);
    for (int n = 0; n < 96; n++) {
        fixture f;
        start(&f, &rng, "Conv");
        const rq_dtype x = x_types[draw(&f, 0, 3)], w = w_types[n % 8], y = x_types[draw(&f, 0, 3)];
        const bool real = n % 7 == 0, depthwise = n % 3 == 0;
        const int64_t group = depthwise ? draw(&f, 2, 5) : draw(&f, 1, 2), each = depthwise ? 1 : draw(&f, 1, 5);
        const int64_t out = group * draw(&f, 1, 3), size = draw(&f, 3, 9), pad = draw(&f, 0, 1), batch = draw(&f, 1, 2);
        const int64_t os = size + 2 * pad - 2;
        add_input(&f, x, 3, (int64_t[]) { batch, group * each, size });
        add_input(&f, w, 3, (int64_t[]) { out, each, 3 });
        set_q(&f, 0, x, RQ_PER_TENSOR, 1, false, 0.01f);
        set_q(&f, 1, w, 0, out, n % 2, 0.01f);
        set_int(&f, "group", group);
        set_ints(&f, "pads", (int64_t[]) { pad, pad }, 2);
        const rq_shape s = rq_shape_of(3, (int64_t[]) { batch, out, os });
        set_any_output(&f, &s, real, y, step(x, w, y, each * 3));
        const bool wide = is_wide(x) || is_wide(w) || (!real && is_wide(y));
        double *want = rq_mem_alloc((size_t)(batch * out * os), sizeof *want);
        for (int64_t b = 0; b < batch; b++)
            for (int64_t c = 0; c < out; c++)
                for (int64_t i = 0; i < os; i++) {
                    int64_t sum = 0;
                    for (int64_t q = 0; q < each * 3; q++) {
                        const int64_t at = i + q % 3 - pad, ch = c / (out / group) * each + q / 3;
                        if (at >= 0 && at < size)
                            sum += centered(&f.in[0], &f.q[0], (b * group * each + ch) * size + at, 0) *
                                   centered(&f.in[1], &f.q[1], c * each * 3 + q, c);
                    }
                    want[(b * out + c) * os + i] = finish_sum(&f, sum, c, wide, 0);
                }
        char what[160];
        snprintf(what, sizeof what, "Conv %s x %s to %s, %lld groups", rq_dtype_name(x), rq_dtype_name(w),
                 rq_dtype_name(f.out.dtype), (long long)group);
        on_every_isa(&f, &conv, true, want, what);
        rq_mem_free(want);
        finish(&f);
    }
}

/* Slot 1 with a scale and zero point per block along `axis`. */
static void set_blocks(fixture *f, rq_dtype d, int axis, int64_t block)
{
    const rq_shape *s = &f->in[1].shape;
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++)
        n *= i == axis ? (s->dim[i] + block - 1) / block : s->dim[i];
    set_q(f, 1, d, axis, n, false, 0.01f);
    f->q[1].block = block;
}

/* The sums of blocks, scaled and added one after the other. */
static float add_block(float sum, int64_t part, float sx, float sw)
{
    return sum + (float)(int32_t)part * (sx * sw);
}

static double finish_real(const fixture *f, float v)
{
    const rq_qparams *y = f->has_q[MAX_IN] ? &f->q[MAX_IN] : NULL;
    int32_t lo, hi;
    if (!y)
        return (double)v;
    rq_qparams_limits(y, &lo, &hi);
    return rq_quantize_one(v, y->scale[0], y->zero_point[0], lo, hi);
}

static void weights_in_blocks_are_summed_in_order(void **state)
{
    rq_rng rng;
    rq_rng_seed(&rng, 43);
    for (int n = 0; n < 60; n++) {
        fixture f;
        const bool is_gemm = n % 2, real = n % 3 == 0;
        start(&f, &rng, is_gemm ? "Gemm" : "MatMul");
        const rq_dtype x = x_types[n / 2 % 2], w = w_types[n % 6], y = x_types[draw(&f, 0, 3)];
        const int64_t m = draw(&f, 1, 70), k = draw(&f, 1, 90), c = draw(&f, 1, 60), block = draw(&f, 1, 40);
        add_input(&f, x, 2, (int64_t[]) { m, k });
        add_input(&f, w, 2, is_gemm ? (int64_t[]) { c, k } : (int64_t[]) { k, c });
        set_q(&f, 0, x, RQ_PER_TENSOR, 1, false, 0.01f);
        set_blocks(&f, w, is_gemm, block);
        if (is_gemm)
            set_int(&f, "transB", 1);
        const rq_shape s = rq_shape_of(2, (int64_t[]) { m, c });
        set_any_output(&f, &s, real, y, step(x, w, y, k));
        const int64_t blocks = (k + block - 1) / block;
        double *want = rq_mem_alloc((size_t)(m * c), sizeof *want);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < c; j++) {
                float sum = 0;
                for (int64_t b = 0; b < blocks; b++) {
                    const int64_t at = is_gemm ? j * blocks + b : b * c + j;
                    int64_t part = 0;
                    for (int64_t q = b * block; q < k && q < (b + 1) * block; q++)
                        part += centered(&f.in[0], &f.q[0], i * k + q, 0) *
                                (rq_tensor_get_int(&f.in[1], is_gemm ? j * k + q : q * c + j) - f.q[1].zero_point[at]);
                    sum = add_block(sum, part, f.q[0].scale[0], f.q[1].scale[at]);
                }
                want[i * c + j] = finish_real(&f, sum);
            }
        char what[160];
        snprintf(what, sizeof what, "%s %s x %s in blocks of %lld, %lld x %lld x %lld", is_gemm ? "Gemm" : "MatMul",
                 rq_dtype_name(x), rq_dtype_name(w), (long long)block, (long long)m, (long long)k, (long long)c);
        on_every_isa(&f, is_gemm ? &gemm : &matmul, true, want, what);
        rq_mem_free(want);
        finish(&f);
    }
}

/* 255 * 255 * 33025 is the last that s32 holds. */
static void blocks_end_where_sums_leave_their_type(void **state)
{
    rq_rng rng;
    rq_rng_seed(&rng, 44);
    for (int64_t k = 33025; k <= 33026; k++) {
        fixture f;
        start(&f, &rng, "MatMul");
        add_input(&f, RQ_DTYPE_U8, 2, (int64_t[]) { 1, k });
        add_input(&f, RQ_DTYPE_U8, 2, (int64_t[]) { k, 1 });
        set_q(&f, 0, RQ_DTYPE_U8, RQ_PER_TENSOR, 1, true, 1);
        set_blocks(&f, RQ_DTYPE_U8, 0, 40000);
        f.q[0].scale[0] = f.q[1].scale[0] = 1;
        f.q[1].zero_point[0] = 0;
        for (int i = 0; i < 2; i++)
            memset(f.in[i].data, 255, f.in[i].bytes);
        set_output(&f, RQ_DTYPE_F32, &(rq_shape) { 2, { 1, 1 } });
        const double want = (double)(float)(255 * 255 * k);
        const rq_tensor *in[2] = { &f.in[0], &f.in[1] };
        const rq_qparams *in_q[2] = { &f.q[0], &f.q[1] }, *out_q[1] = { NULL };
        rq_tensor *out[1] = { &f.out };
        const rq_op_args a = { .graph = f.g,
                               .node = &f.g->nodes[f.node],
                               .in = in,
                               .out = out,
                               .n_in = 2,
                               .n_out = 1,
                               .in_q = in_q,
                               .out_q = out_q };
        const char *why = "";
        if (k == 33025)
            on_every_isa(&f, &matmul, true, &want, "a block as long as can be");
        else
            assert_false(matmul.accepts(&a, &why));
        assert_int_equal(rq_int_blocked_matmul.accepts(&a, &why), k == 33025);
        assert_true(k == 33025 || !strcmp(why, "blocks are too long for exact sums"));
        finish(&f);
    }
}

static void blocks_of_channels_are_summed_tap_by_tap(void **state)
{
    rq_rng rng;
    rq_rng_seed(&rng, 44);
    for (int n = 0; n < 36; n++) {
        fixture f;
        start(&f, &rng, "Conv");
        const rq_dtype x = x_types[n % 2], w = w_types[n % 6], y = x_types[draw(&f, 0, 3)];
        const int64_t group = draw(&f, 1, 2), each = draw(&f, 1, 9), block = draw(&f, 1, 5);
        const int64_t out = group * draw(&f, 1, 4), size = draw(&f, 3, 9), pad = draw(&f, 0, 1),
                      os = size + 2 * pad - 2;
        add_input(&f, x, 3, (int64_t[]) { 2, group * each, size });
        add_input(&f, w, 3, (int64_t[]) { out, each, 3 });
        set_q(&f, 0, x, RQ_PER_TENSOR, 1, false, 0.01f);
        set_blocks(&f, w, 1, block);
        set_int(&f, "group", group);
        set_ints(&f, "pads", (int64_t[]) { pad, pad }, 2);
        const rq_shape s = rq_shape_of(3, (int64_t[]) { 2, out, os });
        set_any_output(&f, &s, n % 3 == 0, y, step(x, w, y, each * 3));
        const int64_t blocks = (each + block - 1) / block;
        double *want = rq_mem_alloc((size_t)(2 * out * os), sizeof *want);
        for (int64_t i = 0; i < 2 * out * os; i++) {
            const int64_t b = i / os / out, c = i / os % out, o = i % os;
            float sum = 0;
            for (int64_t tap = 0; tap < 3; tap++)
                for (int64_t k = 0; k < blocks; k++) {
                    const int64_t at = (c * blocks + k) * 3 + tap, from = o + tap - pad;
                    int64_t part = 0;
                    for (int64_t q = k * block; q < each && q < (k + 1) * block && from >= 0 && from < size; q++)
                        part += centered(&f.in[0], &f.q[0],
                                         (b * group * each + c / (out / group) * each + q) * size + from, 0) *
                                (rq_tensor_get_int(&f.in[1], (c * each + q) * 3 + tap) - f.q[1].zero_point[at]);
                    sum = add_block(sum, part, f.q[0].scale[0], f.q[1].scale[at]);
                }
            want[i] = finish_real(&f, sum);
        }
        char what[160];
        snprintf(what, sizeof what, "Conv %s x %s in blocks of %lld of %lld channels", rq_dtype_name(x),
                 rq_dtype_name(w), (long long)block, (long long)each);
        on_every_isa(&f, &conv, true, want, what);
        rq_mem_free(want);
        finish(&f);
    }
}

/* Large weights alone in codes give what their dequantized copy gives, to the bit: both are one chain per output. */
static void weights_alone_are_decoded_in_panels(void **state)
{
    rq_rng rng;
    rq_rng_seed(&rng, 45);
    for (int n = 0; n < 8; n++) {
        fixture f;
        const bool is_gemm = n % 2;
        start(&f, &rng, is_gemm ? "Gemm" : "MatMul");
        const rq_dtype w = w_types[n];
        const int64_t m = 3, k = 301, c = 907;
        add_input(&f, RQ_DTYPE_F32, 2, (int64_t[]) { m, k });
        for (int64_t i = 0; i < m * k; i++)
            f.in[0].f32[i] = rq_rng_f32(&rng) - 0.5f;
        add_input(&f, w, 2, is_gemm ? (int64_t[]) { c, k } : (int64_t[]) { k, c });
        if (n < 4)
            set_blocks(&f, w, is_gemm, 32);
        else
            set_q(&f, 1, w, n < 6 ? !is_gemm : RQ_PER_TENSOR, n < 6 ? c : 1, false, 0.01f);
        if (is_gemm)
            set_int(&f, "transB", 1);
        const rq_shape s = rq_shape_of(2, (int64_t[]) { m, c });
        set_output(&f, RQ_DTYPE_F32, &s);
        double *want = rq_mem_alloc((size_t)(m * c), sizeof *want);
        const int64_t blocks = (k + 31) / 32;
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < c; j++) {
                float sum = 0;
                for (int64_t q = 0; q < k; q++) {
                    const int64_t at = n < 4 ? (is_gemm ? j * blocks + q / 32 : q / 32 * c + j) : n < 6 ? j : 0;
                    const int64_t code = rq_tensor_get_int(&f.in[1], is_gemm ? j * k + q : q * c + j);
                    sum = fmaf(f.in[0].f32[i * k + q],
                               rq_dequantize_one((int32_t)code, f.q[1].scale[at], f.q[1].zero_point[at]), sum);
                }
                want[i * c + j] = (double)sum;
            }
        on_every_isa(&f, is_gemm ? &gemm : &matmul, true, want, rq_dtype_name(w));
        rq_mem_free(want);
        finish(&f);
    }
}

/* A zero point and scale per row and per column, weights packed or not. */
static void products_take_parameters_of_each_run(void **state)
{
    rq_rng rng;
    rq_rng_seed(&rng, 46);
    for (int n = 0; n < 64; n++) {
        fixture f;
        start(&f, &rng, "MatMulInteger");
        const rq_dtype x = byte_types[n % 2], w = byte_types[n / 2 % 2],
                       y = n % 3 ? byte_types[n / 4 % 2] : RQ_DTYPE_S32;
        const int64_t m = draw(&f, 1, 70), k = draw(&f, 0, 60), c = draw(&f, 1, 50);
        const int64_t mx = n % 4 ? m : 1, cw = n % 5 ? c : 1;
        add_input(&f, x, 2, (int64_t[]) { m, k });
        add_input(&f, w, 2, (int64_t[]) { k, c });
        set_q(&f, 0, x, 0, mx, false, 0.01f);
        set_q(&f, 1, w, 1, cw, false, 0.01f);
        set_q(&f, MAX_IN, y == RQ_DTYPE_S32 ? RQ_DTYPE_U8 : y, RQ_PER_TENSOR, 1, false, 0.3f);
        const rq_shape s = rq_shape_of(2, (int64_t[]) { m, c }), sx = rq_shape_of(1, &mx), sw = rq_shape_of(1, &cw),
                       one = rq_shape_of(0, NULL);
        set_output(&f, y, &s);
        unsigned flags;
        for (int level = 0; rq_cpu_level(level, &flags); level++) {
            if ((rq_cpu_detect() & flags) != flags)
                continue;
            rq_kernels kernels;
            rq_product p;
            rq_tensor wt = f.in[1];
            rq_kernels_init(&kernels, flags);
            if (n % 7 == 0)
                wt.data = NULL;
            const rq_op_args args = { .k = &kernels };
            assert_int_equal(rq_product_init(&p, &args, x, &wt, 1, m, k, c), RQ_OK);
            const rq_product_job j = { .x = f.in[0].u8,
                                       .w = f.in[1].u8,
                                       .rows = m,
                                       .x_scale = rq_tensor_view(RQ_DTYPE_F32, &sx, f.q[0].scale),
                                       .x_zero = rq_tensor_view(RQ_DTYPE_S32, &sx, f.q[0].zero_point),
                                       .w_scale = rq_tensor_view(RQ_DTYPE_F32, &sw, f.q[1].scale),
                                       .w_zero = rq_tensor_view(RQ_DTYPE_S32, &sw, f.q[1].zero_point),
                                       .y_scale = rq_tensor_view(RQ_DTYPE_F32, &one, f.q[MAX_IN].scale),
                                       .y_zero = rq_tensor_view(RQ_DTYPE_S32, &one, f.q[MAX_IN].zero_point),
                                       .y = f.out.data,
                                       .y_dtype = y };
            void *scratch = rq_mem_alloc(rq_product_scratch(&p), 1);
            rq_product_run(&p, &j, scratch, pools[n % 2]);
            rq_mem_free(scratch);
            rq_product_release(&p);
            for (int64_t i = 0; i < m * c; i++) {
                int64_t sum = 0;
                const int64_t row = i / c, col = i % c;
                for (int64_t q = 0; q < k; q++)
                    sum += (code(&f.in[0], row * k + q) - f.q[0].zero_point[mx > 1 ? row : 0]) *
                           (code(&f.in[1], q * c + col) - f.q[1].zero_point[cw > 1 ? col : 0]);
                int64_t want = sum;
                int64_t lo, hi;
                rq_dtype_limits(y, &lo, &hi);
                if (y != RQ_DTYPE_S32)
                    want = rq_quantize_acc((int32_t)sum,
                                           f.q[0].scale[mx > 1 ? row : 0] * f.q[1].scale[cw > 1 ? col : 0] /
                                               f.q[MAX_IN].scale[0],
                                           f.q[MAX_IN].zero_point[0], (int32_t)lo, (int32_t)hi);
                assert_int_equal(rq_tensor_get_int(&f.out, i), want);
            }
        }
        finish(&f);
    }
}

static int make_pools(void **state)
{
    return rq_threads_create(&pools[1], 2) == RQ_OK ? 0 : 1;
}

static int drop_pools(void **state)
{
    rq_threads_destroy(pools[1]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmul_and_gemm_take_codes_of_any_width),
        cmocka_unit_test(conv_takes_codes_of_any_width),
        cmocka_unit_test(weights_in_blocks_are_summed_in_order),
        cmocka_unit_test(blocks_end_where_sums_leave_their_type),
        cmocka_unit_test(blocks_of_channels_are_summed_tap_by_tap),
        cmocka_unit_test(weights_alone_are_decoded_in_panels),
        cmocka_unit_test(products_take_parameters_of_each_run),
    };
    return cmocka_run_group_tests(tests, make_pools, drop_pools);
}
