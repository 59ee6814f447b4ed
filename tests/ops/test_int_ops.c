/* Integer forms of operators against plain loops over the definition (docs/onnx-facts.md 6.2, 6.3), on every
 * instruction set this machine has, with one and two threads: random shapes, types, zero points. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "kernels/quantize.h"
#include "ops/int_fixture.h"
#include "ops/int_ops.h"
#include "ops/window.h"

/* The functions of a form. */
typedef struct form {
    bool (*accepts)(const rq_op_args *a, const char **why);
    rq_status (*prepare)(const rq_op_args *a, void **state);
    rq_status (*forward)(const rq_op_args *a);
    size_t (*scratch)(const rq_op_args *a);
    void (*release)(void *state);
} form;

static const form conv = { rq_int_conv_accepts, rq_int_conv_prepare, rq_int_conv_forward, rq_int_conv_scratch,
                           rq_int_conv_release };
static const form matmul = { rq_int_matmul_accepts, rq_int_matmul_prepare, rq_int_matmul_forward, rq_int_matmul_scratch,
                             rq_int_matmul_release };
static const form gemm = { rq_int_gemm_accepts, rq_int_gemm_prepare, rq_int_matmul_forward, rq_int_matmul_scratch,
                           rq_int_matmul_release };
static const form add = { rq_int_eltwise_accepts, rq_int_add_prepare, rq_int_add_forward, NULL, rq_int_zip_release };
static const form average = { rq_int_pool_accepts, NULL, rq_int_average_pool_forward, NULL, NULL };
static const form global_average = { rq_int_pool_accepts, NULL, rq_int_global_average_pool_forward, NULL, NULL };
static const form concat = { rq_int_concat_accepts, NULL, rq_int_concat_forward, NULL, NULL };
static const form table = { rq_int_table_accepts, rq_int_table_prepare, rq_int_table_forward, NULL,
                            rq_int_table_release };
static const form mul = { rq_int_eltwise_accepts, rq_int_mul_prepare, rq_int_mul_forward, NULL, rq_int_zip_release };

/* The threads of all tests: none, two. */
static rq_threads *pools[2];

/* What is done behind a product in half of its runs: a table, then the sum with a residual; by the kernels of k. */
typedef struct residual {
    uint8_t table[256], *other;
    rq_post post[2];
} residual;

static void residual_init(residual *r, int64_t n)
{
    r->other = malloc((size_t)n);
    for (int64_t i = 0; i < n; i++)
        r->other[i] = (uint8_t)(i * 13 + 5);
    for (int i = 0; i < 256; i++)
        r->table[i] = (uint8_t)(i * 7 + 3);
    r->post[0] = (rq_post) { .kind = RQ_POST_TABLE, .table = r->table };
    r->post[1] = (rq_post) {
        .kind = RQ_POST_ADD, .other = r->other, .add = { .ra = 0.25f, .rb = 0.5f, .k = 3 }, .second = true
    };
}

static void run(fixture *f, const form *m, unsigned cpu, rq_threads *t, bool constant_weight, const residual *posts)
{
    rq_kernels k;
    rq_kernels_init(&k, cpu);
    const rq_tensor *in[MAX_IN] = { NULL };
    const rq_qparams *in_q[MAX_IN] = { NULL }, *out_q[1] = { f->has_q[MAX_IN] ? &f->q[MAX_IN] : NULL };
    rq_tensor *out[1] = { &f->out }, hidden[MAX_IN];
    const rq_tensor *plan_in[MAX_IN] = { NULL };
    for (int i = 0; i < f->n_in; i++) {
        in[i] = &f->in[i];
        in_q[i] = f->has_q[i] ? &f->q[i] : NULL;
        hidden[i] = f->in[i];
        if (i == 0 || !constant_weight)
            hidden[i].data = NULL; /* what a plan does not know */
        plan_in[i] = &hidden[i];
    }
    rq_packs packs = { 0 };
    rq_op_args a = { .graph = f->g,
                     .node = &f->g->nodes[f->node],
                     .opset = 17,
                     .in = plan_in,
                     .out = out,
                     .n_in = f->n_in,
                     .n_out = 1,
                     .in_q = in_q,
                     .out_q = out_q,
                     .k = &k,
                     .threads = t,
                     .post = posts ? posts->post : NULL,
                     .n_post = posts ? 2 : 0,
                     .packs = &packs };
    const char *why = "";
    if (!m->accepts(&a, &why))
        fail_msg("refused: %s", why);
    if (m->prepare)
        assert_int_equal(m->prepare(&a, &a.state), RQ_OK);
    a.in = in;
    const size_t bytes = m->scratch ? m->scratch(&a) : 0;
    a.scratch = rq_mem_alloc(bytes, 1);
    memset(a.scratch, 0xa5, bytes);
    memset(f->out.data, 0x5a, f->out.bytes);
    assert_int_equal(m->forward(&a), RQ_OK);
    rq_mem_free(a.scratch);
    if (m->release)
        m->release(a.state);
    rq_packs_release(&packs);
}

/* want: reals of what the output must hold, as codes or floats. */
static void expect(const fixture *f, const double *want, const char *what)
{
    for (int64_t i = 0; i < rq_tensor_count(&f->out); i++) {
        const double got = f->out.dtype == RQ_DTYPE_F32 ? (double)f->out.f32[i] : code(&f->out, i);
        if (got != want[i])
            fail_msg("%s: element %lld is %.9g, expected %.9g", what, (long long)i, got, want[i]);
    }
}

/* As `want` says, then with the residual. */
static void with_posts(fixture *f, const form *m, unsigned cpu, rq_threads *t, bool constant_weight, const double *want,
                       const char *what)
{
    const int64_t n = rq_tensor_count(&f->out);
    residual r;
    residual_init(&r, n);
    run(f, m, cpu, t, constant_weight, &r);
    rq_kernels k;
    rq_kernels_init(&k, 0);
    for (int64_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)(int)want[i];
        r.post[1].other = r.other + i;
        rq_post_run(&k, r.post, 2, &byte, 0, 1);
        if (f->out.u8[i] != byte)
            fail_msg("%s, with posts: element %lld is %d, expected %d", what, (long long)i, f->out.u8[i], byte);
    }
    free(r.other);
}

static void on_every_isa(fixture *f, const form *m, bool constant_weight, const double *want, const char *what)
{
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        for (int t = 0; t < 2; t++) {
            char label[200];
            snprintf(label, sizeof label, "%s, %s, %s", what, rq_cpu_level(level, &flags), t ? "two threads" : "one");
            run(f, m, flags, pools[t], constant_weight, NULL);
            expect(f, want, label);
            if ((m == &matmul || m == &gemm) && f->has_q[MAX_IN])
                with_posts(f, m, flags, pools[t], constant_weight, want, label);
        }
    }
}

static double finished(const fixture *f, int32_t acc, float scale)
{
    if (!f->has_q[MAX_IN])
        return (double)((float)acc * scale);
    const rq_qparams *y = &f->q[MAX_IN];
    int32_t lo, hi;
    rq_qparams_limits(y, &lo, &hi);
    return rq_quantize_acc(acc, scale / y->scale[0], y->zero_point[0], lo, hi);
}

static void conv_case(rq_rng *rng, int number)
{
    fixture f;
    start(&f, rng, "Conv");
    const int nd = (int)draw(&f, 1, 3), kind = (int)draw(&f, 0, 3);
    const int64_t group = kind == 0 ? draw(&f, 2, 5) : kind == 1 ? 2 : 1;
    const int64_t per_in = kind == 0 ? 1 : draw(&f, 1, 9), per_out = kind == 0 ? draw(&f, 1, 2) : draw(&f, 1, 20);
    int64_t x[5] = { draw(&f, 1, 2), group * per_in }, w[5] = { group * per_out, per_in };
    int64_t stride[3], dilation[3], pads[6];
    for (int i = 0; i < nd; i++) {
        stride[i] = draw(&f, 1, 3);
        dilation[i] = draw(&f, 1, 2);
        pads[i] = draw(&f, 0, 2);
        pads[nd + i] = draw(&f, 0, 2);
        w[2 + i] = draw(&f, 1, kind == 3 ? 1 : 3);
        x[2 + i] = (w[2 + i] - 1) * dilation[i] + 1 + draw(&f, 0, i == nd - 1 ? 40 : 6);
        if (kind == 3)
            stride[i] = 1, pads[i] = pads[nd + i] = 0;
    }
    set_ints(&f, "strides", stride, nd);
    set_ints(&f, "dilations", dilation, nd);
    set_ints(&f, "pads", pads, 2 * nd);
    set_int(&f, "group", group);
    const rq_dtype xd = byte_types[draw(&f, 0, 1)], wd = byte_types[draw(&f, 0, 1)];
    const bool per_channel = draw(&f, 0, 1), bias = draw(&f, 0, 1), real = draw(&f, 0, 4) == 0;
    add_input(&f, xd, nd + 2, x);
    add_input(&f, wd, nd + 2, w);
    if (bias)
        add_input(&f, RQ_DTYPE_S32, 1, w);
    set_q(&f, 0, xd, RQ_PER_TENSOR, 1, false, 0.02f);
    set_q(&f, 1, wd, per_channel ? 0 : RQ_PER_TENSOR, per_channel ? w[0] : 1, draw(&f, 0, 1), 0.01f);
    rq_window win;
    assert_int_equal(rq_window_conv(&win, &f.g->nodes[f.node], &f.in[0].shape, &f.in[1].shape, NULL), RQ_OK);
    const rq_shape y = rq_window_out_shape(&win, &f.in[0].shape, w[0]);
    if (!real)
        set_q(&f, MAX_IN, byte_types[draw(&f, 0, 1)], RQ_PER_TENSOR, 1, false, 0.1f);
    set_output(&f, real ? RQ_DTYPE_F32 : f.q[MAX_IN].dtype, &y);

    double *want = malloc((size_t)rq_shape_count(&y) * sizeof *want), *next = want;
    const int64_t plane = rq_window_span(win.in), taps = rq_window_span(win.kernel);
    for (int64_t n = 0; n < x[0]; n++)
        for (int64_t c = 0; c < w[0]; c++)
            for (int64_t o = 0; o < rq_window_span(win.out); o++) {
                const int64_t at[3] = { o / (win.out[1] * win.out[2]), o / win.out[2] % win.out[1], o % win.out[2] };
                const int64_t zc = f.q[1].n > 1 ? c : 0;
                int32_t acc = bias ? f.in[2].s32[c] : 0;
                for (int64_t k = 0; k < per_in * taps; k++) {
                    const int64_t r = k % taps;
                    const int64_t t[3] = { r / (win.kernel[1] * win.kernel[2]), r / win.kernel[2] % win.kernel[1],
                                           r % win.kernel[2] };
                    int64_t from = n * x[1] * plane + (c / per_out * per_in + k / taps) * plane, offset = 0;
                    bool inside = true;
                    for (int i = 0; i < 3; i++) {
                        const int64_t p = at[i] * win.stride[i] - win.pad_lo[i] + t[i] * win.dilation[i];
                        inside = inside && p >= 0 && p < win.in[i];
                        offset = offset * win.in[i] + p;
                    }
                    if (inside)
                        acc += (code(&f.in[0], from + offset) - f.q[0].zero_point[0]) *
                               (code(&f.in[1], c * per_in * taps + k) - f.q[1].zero_point[zc]);
                }
                *next++ = finished(&f, acc, f.q[0].scale[0] * f.q[1].scale[zc]);
            }
    char what[160];
    snprintf(what, sizeof what, "conv %d: %d axes, group %d, %d to %d channels, %s x %s", number, nd, (int)group,
             (int)x[1], (int)w[0], rq_dtype_name(xd), rq_dtype_name(wd));
    on_every_isa(&f, &conv, true, want, what);
    free(want);
    finish(&f);
}

static void convolutions(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 1);
    for (int i = 0; i < 400; i++)
        conv_case(&rng, i);
}

/* y[b][i][j] of MatMul or Gemm by strides: batch steps of A and B are given by broadcasting at most two axes. */
static void matmul_case(rq_rng *rng, int number)
{
    fixture f;
    start(&f, rng, "MatMul");
    const int64_t m = draw(&f, 1, 20), k = draw(&f, 1, 70), n = draw(&f, 1, 60);
    const int kind =
        (int)draw(&f, 0, 4); /* 2-D; 3-D x 2-D; 4-D broadcast both ways; vector x matrix; matrix x vector */
    int64_t a[4] = { 2, 1, m, k }, b[4] = { 1, 3, k, n }, y[4] = { 2, 3, m, n };
    const int batch = kind == 1 ? 1 : kind == 2 ? 2 : 0, b_rank = kind == 2 ? 4 : kind == 4 ? 1 : 2;
    const int a_rank = kind == 3 ? 1 : 2 + batch;
    if (kind == 1)
        a[1] = y[1] = 3;
    const int64_t b_vector[1] = { k };
    const int64_t rows = kind == 3 ? 1 : m, columns = kind == 4 ? 1 : n;
    const bool constant = draw(&f, 0, 1), per_column = kind != 4 && draw(&f, 0, 1);
    const rq_dtype ad = byte_types[draw(&f, 0, 1)], bd = byte_types[draw(&f, 0, 1)];
    add_input(&f, ad, a_rank, a + 4 - a_rank);
    add_input(&f, bd, b_rank, kind == 4 ? b_vector : b + 4 - b_rank);
    set_q(&f, 0, ad, RQ_PER_TENSOR, 1, false, 0.02f);
    set_q(&f, 1, bd, per_column ? b_rank - 1 : RQ_PER_TENSOR, per_column ? n : 1, draw(&f, 0, 1), 0.01f);
    const bool real = draw(&f, 0, 3) == 0;
    if (!real)
        set_q(&f, MAX_IN, byte_types[draw(&f, 0, 1)], RQ_PER_TENSOR, 1, false, 0.1f);
    rq_shape ys = rq_shape_of(2 + batch, y + 2 - batch);
    if (kind == 3)
        ys = rq_shape_of(1, &n);
    if (kind == 4)
        ys = rq_shape_of(1, &m);
    set_output(&f, real ? RQ_DTYPE_F32 : f.q[MAX_IN].dtype, &ys);
    double *want = malloc((size_t)rq_shape_count(&ys) * sizeof *want);
    const int64_t batches = kind == 1 ? 3 : kind == 2 ? 6 : 1;
    for (int64_t z = 0; z < batches; z++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++) {
                const int64_t za = kind == 2 ? z / 3 : z, zb = kind == 2 ? z % 3 : 0, at = f.q[1].n > 1 ? j : 0;
                int32_t acc = 0;
                for (int64_t l = 0; l < k; l++)
                    acc += (code(&f.in[0], (za * rows + i) * k + l) - f.q[0].zero_point[0]) *
                           (code(&f.in[1], (zb * k + l) * columns + j) - f.q[1].zero_point[at]);
                want[(z * rows + i) * columns + j] = finished(&f, acc, f.q[0].scale[0] * f.q[1].scale[at]);
            }
    char what[160];
    snprintf(what, sizeof what, "matmul %d: kind %d, %d x %d x %d, %s x %s, B %s", number, kind, (int)m, (int)k, (int)n,
             rq_dtype_name(ad), rq_dtype_name(bd), constant ? "constant" : "variable");
    on_every_isa(&f, &matmul, constant, want, what);
    free(want);
    finish(&f);
}

static void products(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 2);
    for (int i = 0; i < 300; i++)
        matmul_case(&rng, i);
}

static void gemm_case(rq_rng *rng, int number)
{
    fixture f;
    start(&f, rng, "Gemm");
    const int64_t m = draw(&f, 1, 20), k = draw(&f, 1, 70), n = draw(&f, 1, 60), ta = draw(&f, 0, 1),
                  tb = draw(&f, 0, 1);
    const int64_t a[2] = { ta ? k : m, ta ? m : k }, b[2] = { tb ? n : k, tb ? k : n }, y[2] = { m, n };
    const int64_t c[5][2] = { { 0 }, { 1, n }, { m, n }, { m, 1 }, { 1, 1 } };
    const int bias = (int)draw(&f, 0, 4);
    set_int(&f, "transA", ta);
    set_int(&f, "transB", tb);
    const rq_dtype ad = byte_types[draw(&f, 0, 1)], bd = byte_types[draw(&f, 0, 1)];
    const bool per_column = draw(&f, 0, 1), constant = draw(&f, 0, 1) || bias == 4;
    add_input(&f, ad, 2, a);
    add_input(&f, bd, 2, b);
    if (bias == 1 && draw(&f, 0, 1))
        add_input(&f, RQ_DTYPE_S32, 1, &n);
    else if (bias)
        add_input(&f, RQ_DTYPE_S32, 2, c[bias]);
    set_q(&f, 0, ad, RQ_PER_TENSOR, 1, false, 0.02f);
    set_q(&f, 1, bd, per_column ? !tb : RQ_PER_TENSOR, per_column ? n : 1, draw(&f, 0, 1), 0.01f);
    set_q(&f, MAX_IN, byte_types[draw(&f, 0, 1)], RQ_PER_TENSOR, 1, false, 0.1f);
    const rq_shape ys = rq_shape_of(2, y);
    set_output(&f, f.q[MAX_IN].dtype, &ys);
    double *want = malloc((size_t)rq_shape_count(&ys) * sizeof *want);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            const int64_t at = f.q[1].n > 1 ? j : 0;
            int32_t acc = 0;
            if (bias)
                acc = f.in[2].s32[(c[bias][0] == 1 ? 0 : i) * c[bias][1] + (c[bias][1] == 1 ? 0 : j)];
            for (int64_t l = 0; l < k; l++)
                acc += (code(&f.in[0], ta ? l * m + i : i * k + l) - f.q[0].zero_point[0]) *
                       (code(&f.in[1], tb ? j * k + l : l * n + j) - f.q[1].zero_point[at]);
            want[i * n + j] = finished(&f, acc, f.q[0].scale[0] * f.q[1].scale[at]);
        }
    char what[160];
    snprintf(what, sizeof what, "gemm %d: %d x %d x %d, transA %d, transB %d, bias %d, B %s", number, (int)m, (int)k,
             (int)n, (int)ta, (int)tb, bias, constant ? "constant" : "variable");
    on_every_isa(&f, &gemm, constant, want, what);
    free(want);
    finish(&f);
}

static void products_with_bias(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 3);
    for (int i = 0; i < 300; i++)
        gemm_case(&rng, i);
}

/* Elements of an operand broadcast to y. */
static int64_t broadcast_index(const rq_shape *s, const rq_shape *y, int64_t i)
{
    int64_t at = 0, step = 1;
    for (int d = 1; d <= y->rank; d++) {
        const int64_t k = i % y->dim[y->rank - d];
        i /= y->dim[y->rank - d];
        if (d > s->rank)
            continue;
        const int64_t n = s->dim[s->rank - d];
        at += (n == 1 ? 0 : k) * step;
        step *= n;
    }
    return at;
}

static void eltwise_case(rq_rng *rng, int number)
{
    fixture f;
    const bool is_mul = number % 2;
    start(&f, rng, is_mul ? "Mul" : "Add");
    const int kind = (int)draw(&f, 0, 4);
    const int64_t c = draw(&f, 2, 5), h = draw(&f, 1, 9) * (draw(&f, 0, 1) ? 1 : 9), w = draw(&f, 2, 70);
    const int64_t full[4] = { 2, c, h, w }, channel[3] = { c, 1, 1 }, row[1] = { w }, one[1] = { 1 },
                  cross[4] = { 2, c, 1, w };
    const rq_dtype ad = byte_types[draw(&f, 0, 1)], bd = byte_types[draw(&f, 0, 1)];
    add_input(&f, ad, 4, full);
    if (kind == 0)
        add_input(&f, bd, 4, full);
    else if (kind == 1)
        add_input(&f, bd, 3, channel);
    else if (kind == 2)
        add_input(&f, bd, 1, row);
    else if (kind == 3)
        add_input(&f, bd, 1, one);
    else
        add_input(&f, bd, 4, cross);
    set_q(&f, 0, ad, RQ_PER_TENSOR, 1, false, 0.02f);
    set_q(&f, 1, bd, RQ_PER_TENSOR, 1, false, 0.02f);
    if (draw(&f, 0, 1)) { /* the other way round */
        const rq_tensor t = f.in[0];
        const rq_qparams q = f.q[0];
        f.in[0] = f.in[1], f.q[0] = f.q[1];
        f.in[1] = t, f.q[1] = q;
    }
    set_q(&f, MAX_IN, byte_types[draw(&f, 0, 1)], RQ_PER_TENSOR, 1, false, is_mul ? 0.05f : 0.04f);
    const rq_shape ys = rq_shape_of(4, full);
    set_output(&f, f.q[MAX_IN].dtype, &ys);
    double *want = malloc((size_t)rq_shape_count(&ys) * sizeof *want);
    const rq_qparams *qa = &f.q[0], *qb = &f.q[1], *qc = &f.q[MAX_IN];
    int32_t lo, hi;
    rq_qparams_limits(qc, &lo, &hi);
    for (int64_t i = 0; i < rq_shape_count(&ys); i++) {
        const int32_t a = code(&f.in[0], broadcast_index(&f.in[0].shape, &ys, i)),
                      b = code(&f.in[1], broadcast_index(&f.in[1].shape, &ys, i));
        if (is_mul) {
            const float both = qa->scale[0] * qb->scale[0], r = both / qc->scale[0];
            const float v = (float)((a - qa->zero_point[0]) * (b - qb->zero_point[0])) * r;
            const int32_t shift = qc->dtype == RQ_DTYPE_S8 ? 128 : 0; /* rounded as u8 */
            want[i] = rq_quantize_zp_inside(v + (float)(qc->zero_point[0] + shift), 0, 255) - shift;
        } else { /* in double: the form may differ where it rounds, so only near ties */
            want[i] =
                ((double)(a - qa->zero_point[0]) * qa->scale[0] + (double)(b - qb->zero_point[0]) * qb->scale[0]) /
                    qc->scale[0] +
                qc->zero_point[0];
        }
    }
    uint8_t *first = malloc(f.out.bytes);
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        for (int t = 0; t < 2; t++) {
            run(&f, is_mul ? &mul : &add, flags, pools[t], false, NULL);
            if (is_mul) {
                expect(&f, want, "mul");
                continue;
            }
            for (int64_t i = 0; i < rq_shape_count(&ys); i++) {
                const double v = want[i] < lo ? lo : want[i] > hi ? hi : want[i];
                if (!(fabs(code(&f.out, i) - v) <= 0.5 + 1e-4))
                    fail_msg("add %d: element %lld is %d, expected about %.6f", number, (long long)i, code(&f.out, i),
                             v);
            }
            if (level == 0 && t == 0)
                memcpy(first, f.out.data, f.out.bytes);
            assert_memory_equal(f.out.data, first, f.out.bytes);
        }
    }
    free(want);
    free(first);
    finish(&f);
}

/* Near ties with one operand a single number, codes by ONNX Runtime 1.31.1: the constant of the sum is made with a fused
 * multiply-add, and B is taken first where A is the single one (docs/onnx-facts.md 6.3). */
static void sums_with_a_single_number(void **state)
{
    (void)state;
    static const struct {
        bool a_is_one;
        float sa, sb, sc;
        int32_t za, zb, zc;
        uint8_t a, b, y;
    } rows[] = {
        { false, 0.12109375f, 0.0390625f, 0.140625f, 160, 45, 36, 246, 169, 145 },
        { false, 0.1875f, 0.015625f, 0.15625f, 222, 86, 162, 90, 55, 1 },
        { true, 0.22265625f, 0.24609375f, 0.0546875f, 156, 8, 44, 51, 94, 3 },
        { true, 0.1640625f, 0.2265625f, 0.171875f, 225, 199, 145, 237, 86, 8 },
    };
    enum { N = 37 };
    rq_rng rng;
    rq_rng_seed(&rng, 5);
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        fixture f;
        const int64_t many[1] = { N }, one[1] = { 1 };
        start(&f, &rng, "Add");
        for (int i = 0; i < 2; i++) {
            const bool is_one = rows[r].a_is_one == (i == 0);
            add_input(&f, RQ_DTYPE_U8, 1, is_one ? one : many);
            memset(f.in[i].data, i ? rows[r].b : rows[r].a, is_one ? 1 : N);
            set_q(&f, i, RQ_DTYPE_U8, RQ_PER_TENSOR, 1, false, 1);
        }
        set_q(&f, MAX_IN, RQ_DTYPE_U8, RQ_PER_TENSOR, 1, false, 1);
        f.q[0].scale[0] = rows[r].sa, f.q[0].zero_point[0] = rows[r].za;
        f.q[1].scale[0] = rows[r].sb, f.q[1].zero_point[0] = rows[r].zb;
        f.q[MAX_IN].scale[0] = rows[r].sc, f.q[MAX_IN].zero_point[0] = rows[r].zc;
        const rq_shape ys = rq_shape_of(1, many);
        set_output(&f, RQ_DTYPE_U8, &ys);
        unsigned flags;
        for (int level = 0; rq_cpu_level(level, &flags); level++) {
            if ((rq_cpu_detect() & flags) != flags)
                continue;
            run(&f, &add, flags, pools[0], false, NULL);
            for (int64_t i = 0; i < N; i++)
                assert_int_equal(code(&f.out, i), rows[r].y);
        }
        finish(&f);
    }
}

static void sums_and_products_of_elements(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 4);
    for (int i = 0; i < 400; i++)
        eltwise_case(&rng, i);
}

static void pool_case(rq_rng *rng, int number)
{
    fixture f;
    start(&f, rng, "AveragePool");
    const int nd = (int)draw(&f, 1, 3);
    int64_t x[5] = { draw(&f, 1, 2), draw(&f, 1, 3) }, kernel[3], stride[3], dilation[3], pads[6];
    for (int i = 0; i < nd; i++) {
        kernel[i] = draw(&f, 1, 4);
        stride[i] = draw(&f, 1, 3);
        dilation[i] = draw(&f, 1, 2);
        pads[i] = draw(&f, 0, kernel[i] - 1);
        pads[nd + i] = draw(&f, 0, kernel[i] - 1);
        x[2 + i] = (kernel[i] - 1) * dilation[i] + 1 + draw(&f, 0, i == nd - 1 ? 300 : 5);
    }
    const bool include = draw(&f, 0, 1);
    set_ints(&f, "kernel_shape", kernel, nd);
    set_ints(&f, "strides", stride, nd);
    set_ints(&f, "dilations", dilation, nd);
    set_ints(&f, "pads", pads, 2 * nd);
    set_int(&f, "count_include_pad", include);
    set_int(&f, "ceil_mode", draw(&f, 0, 1));
    const rq_dtype xd = byte_types[draw(&f, 0, 1)], yd = byte_types[draw(&f, 0, 1)];
    add_input(&f, xd, nd + 2, x);
    set_q(&f, 0, xd, RQ_PER_TENSOR, 1, false, 0.02f);
    set_q(&f, MAX_IN, yd, RQ_PER_TENSOR, 1, false, 0.02f);
    rq_window w;
    assert_int_equal(rq_window_pool(&w, &f.g->nodes[f.node], &f.in[0].shape, NULL), RQ_OK);
    const rq_shape y = rq_window_out_shape(&w, &f.in[0].shape, x[1]);
    set_output(&f, yd, &y);
    double *want = malloc((size_t)rq_shape_count(&y) * sizeof *want), *next = want;
    const int32_t shift = yd == RQ_DTYPE_S8 ? 128 : 0; /* rounded as u8 */
    for (int64_t p = 0; p < x[0] * x[1]; p++)
        for (int64_t o = 0; o < rq_window_span(w.out); o++) {
            const int64_t at[3] = { o / (w.out[1] * w.out[2]), o / w.out[2] % w.out[1], o % w.out[2] };
            float sum = 0;
            int64_t inside = 0, padded = 0;
            for (int64_t t = 0; t < rq_window_span(w.kernel); t++) {
                const int64_t tap[3] = { t / (w.kernel[1] * w.kernel[2]), t / w.kernel[2] % w.kernel[1],
                                         t % w.kernel[2] };
                bool in = true, near = true;
                int64_t from = p;
                for (int i = 0; i < 3; i++) {
                    const int64_t v = at[i] * w.stride[i] - w.pad_lo[i] + tap[i] * w.dilation[i];
                    in = in && v >= 0 && v < w.in[i];
                    near = near && v < w.in[i] + w.pad_hi[i];
                    from = from * w.in[i] + v;
                }
                padded += near;
                inside += in;
                if (in)
                    sum += rq_dequantize_one(code(&f.in[0], from), f.q[0].scale[0], f.q[0].zero_point[0]);
            }
            const int64_t count = include ? padded : inside;
            const float mean = count ? sum / (float)count : 0, zy = (float)(f.q[MAX_IN].zero_point[0] + shift);
            *next++ = rq_quantize_zp_inside(mean / f.q[MAX_IN].scale[0] + zy, 0, 255) - shift;
        }
    char what[80];
    snprintf(what, sizeof what, "pool %d: %d axes", number, nd);
    on_every_isa(&f, &average, false, want, what);
    int64_t plane = rq_window_span(w.in);
    const int64_t one[5] = { x[0], x[1], 1, 1, 1 };
    const rq_shape gs = rq_shape_of(nd + 2, one);
    rq_tensor_release(&f.out);
    set_output(&f, yd, &gs);
    for (int64_t p = 0; p < x[0] * x[1]; p++) {
        int32_t sum = 0, lo, hi;
        for (int64_t i = 0; i < plane; i++)
            sum += code(&f.in[0], p * plane + i) - f.q[0].zero_point[0];
        const float per = f.q[MAX_IN].scale[0] * (float)plane;
        rq_qparams_limits(&f.q[MAX_IN], &lo, &hi);
        want[p] = rq_quantize_acc(sum, f.q[0].scale[0] / per, f.q[MAX_IN].zero_point[0], lo, hi);
    }
    on_every_isa(&f, &global_average, false, want, what);
    free(want);
    finish(&f);
}

static void averages(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 5);
    for (int i = 0; i < 200; i++)
        pool_case(&rng, i);
}

/* Concat of three, the second with the output's own parameters; then Relu as a table. */
static void tables(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 6);
    for (int number = 0; number < 40; number++) {
        fixture f;
        start(&f, &rng, "Concat");
        f.g->nodes[f.node].n_in = 3;
        set_int(&f, "axis", 1);
        const rq_dtype d = byte_types[number % 2];
        double *want = malloc(2 * 60 * 7 * sizeof *want);
        int64_t channels = 0;
        set_q(&f, MAX_IN, d, RQ_PER_TENSOR, 1, false, 0.03f);
        for (int i = 0; i < 3; i++) {
            const int64_t x[3] = { 2, draw(&f, 1, 20), 7 };
            add_input(&f, i == 2 ? byte_types[1 - number % 2] : d, 3, x);
            if (i == 1) {
                assert_int_equal(rq_qparams_copy(&f.q[1], &f.q[MAX_IN]), RQ_OK);
                f.has_q[1] = true;
            } else {
                set_q(&f, i, f.in[i].dtype, RQ_PER_TENSOR, 1, false, 0.02f);
            }
            channels += x[1];
        }
        const int64_t y[3] = { 2, channels, 7 };
        const rq_shape ys = rq_shape_of(3, y);
        set_output(&f, d, &ys);
        int32_t lo, hi;
        rq_qparams_limits(&f.q[MAX_IN], &lo, &hi);
        double *next = want;
        for (int64_t n = 0; n < 2; n++)
            for (int i = 0; i < 3; i++)
                for (int64_t k = 0, per = rq_tensor_count(&f.in[i]) / 2; k < per; k++) {
                    const float real =
                        rq_dequantize_one(code(&f.in[i], n * per + k), f.q[i].scale[0], f.q[i].zero_point[0]);
                    *next++ = rq_quantize_one(real, f.q[MAX_IN].scale[0], f.q[MAX_IN].zero_point[0], lo, hi);
                }
        on_every_isa(&f, &concat, false, want, "concat");
        /* one input, through the row's own forward */
        f.g->nodes[f.node].op = "Relu";
        f.g->nodes[f.node].row = rq_op_find("", "Relu");
        f.g->nodes[f.node].n_in = f.n_in = 1;
        rq_tensor_release(&f.out);
        set_output(&f, d, &f.in[0].shape);
        for (int64_t k = 0; k < rq_tensor_count(&f.in[0]); k++) {
            const float real = rq_dequantize_one(code(&f.in[0], k), f.q[0].scale[0], f.q[0].zero_point[0]);
            want[k] = rq_quantize_one(real > 0 ? real : 0, f.q[MAX_IN].scale[0], f.q[MAX_IN].zero_point[0], lo, hi);
        }
        on_every_isa(&f, &table, false, want, "table");
        free(want);
        finish(&f);
    }
}

static int make_pools(void **state)
{
    (void)state;
    return rq_threads_create(&pools[1], 2);
}

static int drop_pools(void **state)
{
    (void)state;
    rq_threads_destroy(pools[1]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions),
        cmocka_unit_test(products),
        cmocka_unit_test(products_with_bias),
        cmocka_unit_test(sums_with_a_single_number),
        cmocka_unit_test(sums_and_products_of_elements),
        cmocka_unit_test(averages),
        cmocka_unit_test(tables),
    };
    return cmocka_run_group_tests(tests, make_pools, drop_pools);
}
