/* Integer forms that only the definition defines: each against its row's own float form between DequantizeLinear and
 * QuantizeLinear, on every instruction set this machine has and with one and two threads, which must agree to the bit. */
#include <math.h>
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
#include "quant/codes.h"

enum { OPSET = 20 };

static rq_threads *pools[2]; /* none, two */
static bool spec;            /* integers by the definition (rq_kernels.spec) */

static void start_row(fixture *f, rq_rng *rng, const char *op)
{
    start(f, rng, op);
    f->g->nodes[f->node].row = rq_op_find("", op);
    assert_int_equal(rq_graph_set_opset(f->g, "", OPSET), RQ_OK);
}

/* Codes at input i with parameters of their own: bytes of either type. */
static void add_codes(fixture *f, int rank, const int64_t *dim)
{
    const int i = f->n_in;
    const rq_dtype d = byte_types[draw(f, 0, 1)];
    add_input(f, d, rank, dim);
    set_q(f, i, d, RQ_PER_TENSOR, 1, false, 0.02f);
}

static void add_ints(fixture *f, const int64_t *v, int n)
{
    add_input(f, RQ_DTYPE_S64, 1, (const int64_t[]) { n });
    memcpy(f->in[f->n_in - 1].s64, v, (size_t)n * sizeof *v);
}

static void add_reals(fixture *f, int rank, const int64_t *dim, float lo, float hi)
{
    add_input(f, RQ_DTYPE_F32, rank, dim);
    rq_tensor *t = &f->in[f->n_in - 1];
    for (int64_t i = 0; i < rq_tensor_count(t); i++)
        t->f32[i] = lo + (hi - lo) * rq_rng_f32(f->rng);
}

/* Call the row on these tensors, in floats or on codes. Constant inputs are those from `constant` on. */
static void call(const fixture *f, bool on_codes, const rq_tensor *const *in, rq_tensor *out, unsigned cpu,
                 rq_threads *t, int constant)
{
    rq_kernels k;
    rq_kernels_init(&k, cpu);
    k.spec = spec;
    const rq_op *row = f->g->nodes[f->node].row;
    rq_tensor hidden[MAX_IN];
    const rq_tensor *plan_in[MAX_IN] = { NULL };
    const rq_qparams *in_q[MAX_IN] = { NULL }, *out_q[1] = { on_codes ? &f->q[MAX_IN] : NULL };
    for (int i = 0; i < f->n_in; i++) {
        hidden[i] = *in[i];
        if (i < constant)
            hidden[i].data = NULL; /* what a plan does not know */
        plan_in[i] = &hidden[i];
        in_q[i] = on_codes && f->has_q[i] ? &f->q[i] : NULL;
    }
    rq_packs packs = { 0 };
    rq_op_args a = { .graph = f->g,
                     .node = &f->g->nodes[f->node],
                     .opset = OPSET,
                     .in = plan_in,
                     .out = &out,
                     .n_in = f->n_in,
                     .n_out = 1,
                     .in_q = in_q,
                     .out_q = out_q,
                     .k = &k,
                     .threads = t,
                     .packs = &packs };
    const char *why = "";
    if (on_codes && !row->accepts_int(&a, &why))
        fail_msg("%s refused: %s", row->name, why);
    rq_status (*prepare)(const rq_op_args *, void **) = on_codes ? row->prepare_int : row->prepare;
    if (prepare)
        assert_int_equal(prepare(&a, &a.state), RQ_OK);
    a.in = in;
    const size_t bytes = row->scratch ? row->scratch(&a, on_codes) : 0;
    a.scratch = rq_mem_alloc(bytes, 1);
    memset(a.scratch, 0xa5, bytes);
    memset(out->data, 0x5a, out->bytes);
    assert_int_equal((on_codes ? row->forward_int : row->forward)(&a), RQ_OK);
    rq_mem_free(a.scratch);
    void (*release)(void *) = on_codes ? row->release_int : row->release;
    if (a.state && release)
        release(a.state);
    rq_packs_release(&packs);
}

/* Compare. The output's type and parameters are drawn; `scale` is about its step. At most a share of `off` of the codes
 * differs, by one. */
static void check(fixture *f, float scale, int constant, double off)
{
    const rq_node *n = &f->g->nodes[f->node];
    const rq_tensor *in[MAX_IN], *codes[MAX_IN];
    rq_tensor real[MAX_IN] = { 0 }, y = { 0 }, want = { 0 };
    rq_kernels k;
    rq_kernels_init(&k, 0);
    f->g->nodes[f->node].n_in = f->n_in;
    for (int i = 0; i < f->n_in; i++) {
        in[i] = codes[i] = &f->in[i];
        if (!f->has_q[i])
            continue;
        assert_int_equal(rq_tensor_create(&real[i], RQ_DTYPE_F32, &f->in[i].shape, true), RQ_OK);
        rq_codes_to_reals(&real[i], &f->in[i], &f->q[i], &k);
        in[i] = &real[i];
    }
    rq_dtype d = RQ_DTYPE_NONE;
    rq_shape ys;
    rq_err err = { 0 };
    if (rq_ops_infer_node(f->g, n, in, &d, &ys, &err))
        fail_msg("%s", err.text);
    assert_int_equal(rq_tensor_create(&y, RQ_DTYPE_F32, &ys, true), RQ_OK);
    if (!f->has_q[MAX_IN])
        set_q(f, MAX_IN, byte_types[draw(f, 0, 1)], RQ_PER_TENSOR, 1, false, scale);
    set_output(f, f->q[MAX_IN].dtype, &ys);
    assert_int_equal(rq_tensor_create(&want, f->q[MAX_IN].dtype, &ys, true), RQ_OK);
    call(f, false, in, &y, 0, NULL, constant);
    rq_codes_from_reals(&want, &y, &f->q[MAX_IN], &k);
    uint8_t *first = malloc(f->out.bytes + 1);
    unsigned flags;
    for (int level = 0; rq_cpu_level(level, &flags); level++) {
        if ((rq_cpu_detect() & flags) != flags)
            continue;
        for (int t = 0; t < 2; t++) {
            call(f, true, codes, &f->out, flags, pools[t], constant);
            if (level == 0 && t == 0)
                memcpy(first, f->out.data, f->out.bytes);
            if (memcmp(first, f->out.data, f->out.bytes) != 0)
                fail_msg("%s: %s differs", n->op, rq_cpu_level(level, &flags));
        }
    }
    int64_t different = 0, all = rq_tensor_count(&f->out);
    for (int64_t i = 0; i < all; i++) {
        const int32_t got = code(&f->out, i), expected = code(&want, i), by = abs(got - expected);
        different += by != 0;
        if (by > (off > 0))
            fail_msg("%s: element %lld of %lld is %d, expected %d", n->op, (long long)i, (long long)all, got, expected);
    }
    if ((double)different > off * (double)all + (off > 0))
        fail_msg("%s: %lld of %lld codes differ", n->op, (long long)different, (long long)all);
    free(first);
    for (int i = 0; i < MAX_IN; i++)
        rq_tensor_release(&real[i]);
    rq_tensor_release(&y);
    rq_tensor_release(&want);
    finish(f);
}

/* ---- two operands ---- */

static void zip_case(rq_rng *rng, const char *op)
{
    fixture f;
    start_row(&f, rng, op);
    const int64_t c = draw(&f, 1, 5), h = draw(&f, 1, 9), w = draw(&f, 1, 400);
    const int64_t shapes[5][4] = { { 2, c, h, w }, { 1, c, 1, 1 }, { 1, 1, 1, w }, { 1, 1, 1, 1 }, { 2, c, 1, w } };
    const int other = (int)draw(&f, 0, 4);
    const bool swapped = strcmp(op, "PRelu") != 0 && draw(&f, 0, 1), real = draw(&f, 0, 3) == 0;
    int constant = 2;
    for (int i = 0; i < 2; i++) {
        const int64_t *shape = shapes[(i == 0) == swapped ? other : 0];
        if (real && (i == 0) == swapped)
            add_reals(&f, 4, shape, -2, 2);
        else
            add_codes(&f, 4, shape);
        if (!swapped && i == 1 && draw(&f, 0, 1))
            constant = 1;
    }
    check(&f, 0.03f, constant, 0);
}

static void operators_of_two_operands(void **state)
{
    (void)state;
    static const char *const ops[] = { "Sub", "Div", "Min", "Max", "PRelu" };
    rq_rng rng;
    rq_rng_seed(&rng, 1);
    for (int i = 0; i < 200; i++)
        zip_case(&rng, ops[i % 5]);
}

/* A constant number first, the codes second: a table looked up with input 1. */
static void constant_first(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 2);
    for (int i = 0; i < 20; i++) {
        fixture f;
        start_row(&f, &rng, i % 2 ? "Sub" : "Div");
        add_reals(&f, 0, NULL, 1, 2);
        add_codes(&f, 2, (const int64_t[]) { 3, 70 });
        check(&f, 0.03f, 0, 0);
    }
}

static void powers(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 3);
    for (int i = 0; i < 10; i++) {
        fixture f;
        start_row(&f, &rng, "Pow");
        add_codes(&f, 2, (const int64_t[]) { 5, 70 });
        add_input(&f, RQ_DTYPE_F32, 0, NULL);
        f.in[1].f32[0] = (float)(i % 4) - 1;
        check(&f, 0.05f, 1, 0);
    }
}

static void choices(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 4);
    for (int i = 0; i < 40; i++) {
        fixture f;
        start_row(&f, &rng, "Where");
        const int64_t c = draw(&f, 1, 5), w = draw(&f, 1, 80), full[3] = { c, 4, w }, row[1] = { w },
                      column[2] = { 4, 1 };
        add_input(&f, RQ_DTYPE_BOOL, i % 3 ? 3 : 2, i % 3 ? full : column);
        for (size_t k = 0; k < f.in[0].bytes; k++)
            f.in[0].u8[k] &= 1;
        add_codes(&f, 3, full);
        add_codes(&f, i % 2 ? 1 : 3, i % 2 ? row : full);
        check(&f, 0.03f, 3, 0);
    }
}

/* ---- reductions ---- */

static void reductions(void **state)
{
    (void)state;
    static const char *const ops[] = { "ReduceSum", "ReduceMean", "ReduceMax",       "ReduceMin",
                                       "ReduceL1",  "ReduceL2",   "ReduceSumSquare", "ReduceLogSum" };
    rq_rng rng;
    rq_rng_seed(&rng, 5);
    for (int i = 0; i < 240; i++) {
        const char *op = ops[i % 8];
        fixture f;
        const bool most = !strcmp(op, "ReduceMax") || !strcmp(op, "ReduceMin");
        start_row(&f, &rng, op);
        const int64_t x[4] = { draw(&f, 1, 3), draw(&f, 1, 9), draw(&f, 1, 40), draw(&f, 1, 90) };
        int64_t axes[4], n = 0;
        for (int a = 0; a < 4; a++)
            if (draw(&f, 0, 1))
                axes[n++] = draw(&f, 0, 1) ? a : a - 4;
        add_codes(&f, 4, x);
        if (n) /* at opset 19 the axes are an input of every one */
            add_ints(&f, axes, (int)n);
        set_int(&f, "keepdims", draw(&f, 0, 1));
        if (!strcmp(op, "ReduceLogSum")) /* of positive numbers */
            f.q[0].zero_point[0] = f.q[0].dtype == RQ_DTYPE_S8 ? -128 : 0;
        double group = 1;
        for (int64_t a = 0; a < n; a++)
            group *= (double)x[axes[a] < 0 ? axes[a] + 4 : axes[a]];
        if (!n)
            group = (double)(x[0] * x[1] * x[2] * x[3]);
        const bool sums = !strcmp(op, "ReduceSum") || !strcmp(op, "ReduceL1") || !strcmp(op, "ReduceSumSquare");
        check(&f,
              sums                      ? (float)(0.02 * group)
              : !strcmp(op, "ReduceL2") ? (float)(0.02 * sqrt(group))
                                        : 0.02f,
              1, most ? 0 : 0.02);
    }
}

/* ---- windows ---- */

static void transposed_convolution(rq_rng *rng, int number)
{
    fixture f;
    start_row(&f, rng, "ConvTranspose");
    const int nd = (int)draw(&f, 1, 3);
    const int64_t group = number % 4 == 0 ? draw(&f, 2, 4) : 1, per_in = draw(&f, 1, 9), per_out = draw(&f, 1, 9);
    int64_t x[5] = { draw(&f, 1, 2), group * per_in }, w[5] = { group * per_in, per_out };
    int64_t stride[3], dilation[3], pads[6] = { 0 }, extra[3];
    for (int i = 0; i < nd; i++) {
        stride[i] = draw(&f, 1, 4);
        dilation[i] = draw(&f, 1, 3);
        w[2 + i] = draw(&f, 1, 4);
        x[2 + i] = draw(&f, 1, i == nd - 1 ? 30 : 5);
        extra[i] = draw(&f, 0, stride[i] - 1);
        if (number % 3 == 0) /* kernel = stride */
            w[2 + i] = stride[i], dilation[i] = 1, extra[i] = 0;
        const int64_t full = stride[i] * (x[2 + i] - 1) + (w[2 + i] - 1) * dilation[i] + 1;
        if (number % 3)
            for (int side = 0; side < 2; side++)
                pads[side * nd + i] = draw(&f, 0, (full - 1) / 2 < 3 ? (full - 1) / 2 : 3);
    }
    set_ints(&f, "strides", stride, nd);
    set_ints(&f, "dilations", dilation, nd);
    set_ints(&f, "pads", pads, 2 * nd);
    set_ints(&f, "output_padding", extra, nd);
    set_int(&f, "group", group);
    add_codes(&f, 2 + nd, x);
    add_codes(&f, 2 + nd, w);
    const bool per_channel = draw(&f, 0, 1);
    rq_qparams_release(&f.q[1]);
    set_q(&f, 1, f.in[1].dtype, per_channel ? 1 : RQ_PER_TENSOR, per_channel ? per_out : 1, draw(&f, 0, 1), 0.02f);
    if (draw(&f, 0, 1))
        add_reals(&f, 1, (const int64_t[]) { group * per_out }, -5, 5);
    check(&f, 0.3f, 1, 0.01);
}

static void transposed_convolutions(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 6);
    for (int i = 0; i < 300; i++)
        transposed_convolution(&rng, i);
}

/* Work per phase grows with their number: too many are left to the float form. */
static void a_stride_of_too_many_phases_is_refused(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 13);
    for (int64_t stride = 4096; stride < 100000000; stride *= 100) {
        fixture f;
        start_row(&f, &rng, "ConvTranspose");
        set_ints(&f, "strides", &stride, 1);
        add_codes(&f, 3, (const int64_t[]) { 1, 1, 1 });
        add_codes(&f, 3, (const int64_t[]) { 1, 1, stride > 4096 ? 30000 : 8000 });
        set_q(&f, MAX_IN, RQ_DTYPE_U8, RQ_PER_TENSOR, 1, false, 1);
        const rq_tensor *in[2] = { &f.in[0], &f.in[1] };
        const rq_qparams *in_q[2] = { &f.q[0], &f.q[1] }, *out_q[1] = { &f.q[MAX_IN] };
        rq_tensor *out[1] = { &f.out };
        const rq_op_args a = { .graph = f.g,
                               .node = &f.g->nodes[f.node],
                               .opset = OPSET,
                               .in = in,
                               .out = out,
                               .n_in = 2,
                               .n_out = 1,
                               .in_q = in_q,
                               .out_q = out_q };
        const char *why = "";
        f.g->nodes[f.node].n_in = 2;
        if (stride == 4096) {
            if (!rq_op_find("", "ConvTranspose")->accepts_int(&a, &why))
                fail_msg("refused: %s", why);
        } else {
            assert_false(rq_op_find("", "ConvTranspose")->accepts_int(&a, &why));
            assert_string_equal(why, "strides make too many phases");
        }
        finish(&f);
    }
}

static void resizing(void **state)
{
    (void)state;
    static const char *const modes[] = { "linear", "cubic", "nearest" }, *const ways[] = {
        "half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"
    };
    rq_rng rng;
    rq_rng_seed(&rng, 7);
    for (int i = 0; i < 120; i++) {
        fixture f;
        start_row(&f, &rng, "Resize");
        const int axes = (int)draw(&f, 1, 3); /* the last ones change */
        int64_t x[4] = { 1, draw(&f, 1, 20), draw(&f, 1, 12), draw(&f, 1, 30) }, y[4];
        float scale[4];
        for (int d = 0; d < 4; d++) {
            y[d] = d >= 4 - axes ? draw(&f, 1, 3 * x[d]) : x[d];
            scale[d] = (float)y[d] / (float)x[d] + 0.001f;
        }
        assert_int_equal(rq_attr_set_string(f.g, f.node, "mode", modes[i % 3]), RQ_OK);
        assert_int_equal(rq_attr_set_string(f.g, f.node, "coordinate_transformation_mode", ways[i % 4]), RQ_OK);
        if (i % 5 == 0)
            set_int(&f, "antialias", 1);
        add_codes(&f, 4, x);
        add_input(&f, RQ_DTYPE_F32, 1, (const int64_t[]) { 0 }); /* no region */
        add_input(&f, RQ_DTYPE_F32, 1, (const int64_t[]) { i % 2 ? 4 : 0 });
        if (i % 2)
            memcpy(f.in[2].f32, scale, sizeof scale);
        else
            add_ints(&f, y, 4);
        check(&f, 0.02f, 1, 0);
    }
}

static void softmaxes(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 8);
    for (int i = 0; i < 80; i++) {
        fixture f;
        spec = i % 2;
        start_row(&f, &rng, i % 4 < 2 ? "Softmax" : "LogSoftmax");
        const int64_t x[3] = { draw(&f, 1, 5), draw(&f, 1, i % 5 ? 30 : 600), draw(&f, 1, 30) };
        set_int(&f, "axis", draw(&f, -3, 2));
        add_codes(&f, 3, x);
        set_q(&f, MAX_IN, byte_types[draw(&f, 0, 1)], RQ_PER_TENSOR, 1, false, 1.f / 256);
        if (i % 4 < 2 && !spec) /* ONNX Runtime's arithmetic, where 1 is a whole number of steps */
            f.q[MAX_IN].scale[0] = 1.f / 256;
        check(&f, 0, 1, 0.01);
    }
    spec = false;
}

/* Every code against the definition, one element at a time: sums of four lanes in double, then one quotient. Rows short and long, of few
 * and of all codes, beside each other and across an image. */
static void softmax_of_codes_by_the_definition(void **state)
{
    (void)state;
    static const int64_t sizes[] = { 1, 2, 3, 5, 15, 16, 17, 64, 255, 256, 257, 300, 1000, 20000 };
    rq_rng rng;
    rq_rng_seed(&rng, 21);
    for (int i = 0; i < 84; i++) {
        fixture f;
        start_row(&f, &rng, i % 3 ? "Softmax" : "LogSoftmax");
        const int64_t n = sizes[i % 14], inner = i % 4 < 2 ? 1 : n > 1000 ? 3 : draw(&f, 2, 150);
        set_int(&f, "axis", 1);
        add_codes(&f, 3, (const int64_t[]) { 2, n, inner });
        if (i % 5 == 0)
            memset(f.in[0].u8, i % 2 ? 0x80 : 0xff, f.in[0].bytes);
        set_q(&f, MAX_IN, byte_types[i / 2 % 2], RQ_PER_TENSOR, 1, false, i % 3 ? 1.f / 256 : 0.1f);
        assert_int_equal(rq_tensor_create(&f.out, f.q[MAX_IN].dtype, &f.in[0].shape, true), RQ_OK);
        rq_tensor *out[1] = { &f.out };
        const rq_tensor *in[1] = { &f.in[0] };
        const rq_qparams *xq = &f.q[0], *yq = &f.q[MAX_IN], *in_q[1] = { xq }, *out_q[1] = { yq };
        unsigned flags;
        for (int level = 0; rq_cpu_level(level, &flags); level++) {
            if ((rq_cpu_detect() & flags) != flags)
                continue;
            rq_kernels k;
            rq_kernels_init(&k, flags);
            k.spec = i % 2;
            const rq_op_args a = { .graph = f.g,
                                   .node = &f.g->nodes[f.node],
                                   .opset = OPSET,
                                   .in = in,
                                   .out = out,
                                   .n_in = 1,
                                   .n_out = 1,
                                   .in_q = in_q,
                                   .out_q = out_q,
                                   .k = &k };
            assert_int_equal(rq_op_find("", f.g->nodes[f.node].op)->forward_int(&a), RQ_OK);
            const bool recipe = !k.spec && i % 3 && xq->dtype == yq->dtype;
            const double steps = recipe ? (double)floorf(1.0f / yq->scale[0]) : 1, scale = recipe ? 1 : yq->scale[0];
            const uint8_t flip = xq->dtype == RQ_DTYPE_S8 ? 0x80 : 0;
            double d[256], e[256];
            int32_t lo, hi;
            rq_qparams_limits(yq, &lo, &hi);
            for (int t = 0; t < 256; t++)
                d[t] = -(double)t * xq->scale[0];
            rq_map_f64[RQ_MAP_EXP](e, d, 256, 0, 0);
            for (int64_t row = 0; row < 2 * inner; row++) {
                const uint8_t *x = f.in[0].u8 + row / inner * n * inner + row % inner;
                const uint8_t *y = f.out.u8 + row / inner * n * inner + row % inner;
                int most = 0;
                double lane[4] = { 0 }, log_sum;
                for (int64_t t = 0; t < n; t++)
                    most = (x[t * inner] ^ flip) > most ? x[t * inner] ^ flip : most;
                for (int64_t t = 0; t < n; t++)
                    lane[t % 4] += e[most - (x[t * inner] ^ flip)];
                const double sum = (lane[0] + lane[1]) + (lane[2] + lane[3]);
                rq_map_f64[RQ_MAP_LOG](&log_sum, &sum, 1, 0, 0);
                for (int64_t t = 0; t < n; t++) {
                    const int far = most - (x[t * inner] ^ flip);
                    const double v = i % 3 ? e[far] * steps / sum : d[far] - log_sum;
                    const uint8_t want = (uint8_t)rq_quantize_real_f64(v / scale, yq->zero_point[0], lo, hi);
                    if (y[t * inner] != want)
                        fail_msg("case %d, level %d, row %d: %d, expected %d", i, level, (int)row, y[t * inner], want);
                }
            }
        }
        finish(&f);
    }
}

static void normalizations(void **state)
{
    (void)state;
    static const char *const ops[] = { "LayerNormalization", "RMSNormalization", "InstanceNormalization",
                                       "GroupNormalization", "BatchNormalization" };
    rq_rng rng;
    rq_rng_seed(&rng, 11);
    for (int i = 0; i < 150; i++) {
        fixture f;
        start_row(&f, &rng, ops[i % 5]);
        const int64_t groups = draw(&f, 1, 3), c = groups * draw(&f, 1, 4);
        const int64_t x[4] = { draw(&f, 1, 3), c, draw(&f, 1, 20), draw(&f, 1, 40) };
        const int axis = (int)draw(&f, 1, 3);
        add_codes(&f, 4, x);
        if (i % 5 < 2) {
            set_int(&f, "axis", draw(&f, 0, 1) ? axis : axis - 4);
            add_reals(&f, 4 - axis, x + axis, -1, 2);
            if (i % 5 == 0 && draw(&f, 0, 1))
                add_reals(&f, 4 - axis, x + axis, -1, 1);
        } else {
            set_int(&f, "num_groups", groups);
            for (int k = 0; k < (i % 5 == 4 ? 4 : 2); k++)
                add_reals(&f, 1, i % 5 == 3 ? &groups : &c, k == 3 ? 0.1f : -1, 2);
        }
        if (i % 5 < 2 && draw(&f, 0, 1)) { /* the gain in codes, too */
            rq_tensor_release(&f.in[1]);
            f.n_in--;
            const int64_t n = f.n_in;
            const rq_tensor bias = f.in[2];
            f.n_in = 1;
            add_codes(&f, 4 - axis, x + axis);
            if (n > 1)
                f.in[2] = bias, f.n_in = 3;
        }
        check(&f, 0.03f, 1, i % 5 == 4 ? 0 : 0.01);
    }
}

static void scatters_and_sums(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 12);
    for (int i = 0; i < 60; i++) {
        fixture f;
        const bool scatter = i % 2;
        start_row(&f, &rng, scatter ? "ScatterElements" : "CumSum");
        const int64_t x[3] = { draw(&f, 1, 4), draw(&f, 1, 9), draw(&f, 1, 9) }, one = 1;
        add_codes(&f, 3, x);
        if (scatter) {
            static const char *const ways[] = { "none", "max", "min" };
            assert_int_equal(rq_attr_set_string(f.g, f.node, "reduction", ways[i / 2 % 3]), RQ_OK);
            set_int(&f, "axis", 1);
            add_input(&f, RQ_DTYPE_S64, 3, (const int64_t[]) { x[0], one, x[2] });
            for (int64_t k = 0; k < x[0] * x[2]; k++)
                f.in[1].s64[k] = draw(&f, -x[1], x[1] - 1);
            add_codes(&f, 3, (const int64_t[]) { x[0], one, x[2] });
        } else {
            add_input(&f, RQ_DTYPE_S64, 0, NULL);
            f.in[1].s64[0] = draw(&f, -3, 2);
            set_int(&f, "exclusive", draw(&f, 0, 1));
            set_int(&f, "reverse", draw(&f, 0, 1));
        }
        /* where scatters meet, ties of the float form may fall to either of two reals with one code */
        check(&f, 0.04f, 3, scatter && i / 2 % 3 == 0 ? 0 : 0.02);
    }
}

/* Scales below zero, and sizes of 0: what the float form makes of them. */
static void odd_scales_and_sizes(void **state)
{
    (void)state;
    static const char *const ops[] = { "Sub",        "Max",         "Where",
                                       "ReduceMean", "ReduceL2",    "LayerNormalization",
                                       "Resize",     "CumSum",      "BatchNormalization",
                                       "ReduceMax",  "AveragePool", "InstanceNormalization" };
    rq_rng rng;
    rq_rng_seed(&rng, 13);
    for (int i = 0; i < 96; i++) {
        const char *op = ops[i % 12];
        const bool empty = i / 12 % 2, chooses = !strcmp(op, "ReduceMax"); /* which needs an order */
        const int64_t x[4] = { empty ? 0 : 2, 3, 4, 5 }, c = 3;
        fixture f;
        start_row(&f, &rng, op);
        if (!strcmp(op, "Where")) {
            add_input(&f, RQ_DTYPE_BOOL, 4, x);
            for (size_t k = 0; k < f.in[0].bytes; k++)
                f.in[0].u8[k] &= 1;
        }
        add_codes(&f, 4, x);
        if (!strcmp(op, "Sub") || !strcmp(op, "Max") || !strcmp(op, "Where"))
            add_codes(&f, 4, x);
        else if (!strncmp(op, "Reduce", 6))
            add_ints(&f, (const int64_t[]) { 2, -1 }, 2);
        else if (!strcmp(op, "LayerNormalization"))
            add_reals(&f, 1, &x[3], -1, 1);
        else if (!strcmp(op, "CumSum"))
            add_ints(&f, (const int64_t[]) { 1 }, 1);
        else if (!strcmp(op, "AveragePool"))
            set_ints(&f, "kernel_shape", (const int64_t[]) { 2, 2 }, 2), spec = true;
        else if (strstr(op, "Normalization"))
            for (int k = 0; k < (op[0] == 'B' ? 4 : 2); k++)
                add_reals(&f, 1, &c, 0.1f, 1);
        else {
            assert_int_equal(rq_attr_set_string(f.g, f.node, "mode", "linear"), RQ_OK);
            add_input(&f, RQ_DTYPE_F32, 1, (const int64_t[]) { 0 });
            add_input(&f, RQ_DTYPE_F32, 1, (const int64_t[]) { 0 });
            add_ints(&f, (const int64_t[]) { x[0], 3, 7, 8 }, 4);
        }
        for (int k = 0; k < f.n_in; k++)
            if (f.has_q[k] && !chooses && draw(&f, 0, 1))
                f.q[k].scale[0] = -f.q[k].scale[0];
        set_q(&f, MAX_IN, byte_types[draw(&f, 0, 1)], RQ_PER_TENSOR, 1, false, 0.04f);
        if (draw(&f, 0, 1))
            f.q[MAX_IN].scale[0] = -f.q[MAX_IN].scale[0];
        check(&f, 0, 1, 0.03);
        spec = false;
    }
}

/* What ONNX Runtime rounds elsewhere than the definition. */
static void by_the_definition(void **state)
{
    (void)state;
    rq_rng rng;
    rq_rng_seed(&rng, 9);
    spec = true;
    for (int i = 0; i < 60; i++)
        zip_case(&rng, i % 2 ? "Add" : "Mul");
    for (int i = 0; i < 60; i++) {
        fixture f;
        start_row(&f, &rng, i % 2 ? "AveragePool" : "GlobalAveragePool");
        add_codes(&f, 4, (const int64_t[]) { 2, 3, draw(&f, 3, 9), draw(&f, 3, 40) });
        set_ints(&f, "kernel_shape", (const int64_t[]) { 3, 2 }, 2);
        check(&f, 0.02f, 1, i % 2 ? 0 : 0.01);
    }
    for (int i = 0; i < 60; i++) {
        fixture f;
        start_row(&f, &rng, i % 2 ? "Gemm" : "MatMul");
        const int64_t k = draw(&f, 1, 70), n = draw(&f, 1, 30);
        add_codes(&f, 2, (const int64_t[]) { draw(&f, 1, 9), k });
        add_codes(&f, 2, (const int64_t[]) { k, n });
        if (i % 2)
            add_reals(&f, 1, &n, -1, 1);
        check(&f, 0.1f, 1, 0.01);
    }
    spec = false;
}

/* Half a step between codes, and a zero point that is odd: rounded before it is added, or after (docs/onnx-facts.md 6.3). */
static void ties(void **state)
{
    (void)state;
    static const char *const ops[] = { "Add", "Mul", "AveragePool" };
    rq_rng rng;
    rq_rng_seed(&rng, 10);
    for (int i = 0; i < 6; i++) {
        const int64_t shape[4] = { 1, 1, 1, 2 }, one[4] = { 1, 1, 1, 1 };
        fixture f;
        start_row(&f, &rng, ops[i / 2]);
        spec = i % 2;
        for (int k = 0; k < (i / 2 == 2 ? 1 : 2); k++) {
            add_input(&f, RQ_DTYPE_U8, 4, shape);
            f.in[k].u8[0] = (uint8_t)(i / 2 != 0 || k == 0);
            f.in[k].u8[1] = 0;
            set_q(&f, k, RQ_DTYPE_U8, RQ_PER_TENSOR, 1, true, 1);
            f.q[k].scale[0] = i / 2 != 1 ? 0.5f : k ? 1 : 0.5f;
        }
        if (i / 2 == 2) {
            f.in[0].u8[0] = 2;
            set_ints(&f, "kernel_shape", (const int64_t[]) { 1, 2 }, 2);
        }
        set_q(&f, MAX_IN, RQ_DTYPE_U8, RQ_PER_TENSOR, 1, true, 1);
        f.q[MAX_IN].scale[0] = 1;
        f.q[MAX_IN].zero_point[0] = 1;
        f.g->nodes[f.node].n_in = f.n_in;
        const rq_shape ys = rq_shape_of(4, i / 2 == 2 ? one : shape);
        set_output(&f, RQ_DTYPE_U8, &ys);
        const rq_tensor *in[MAX_IN] = { &f.in[0], &f.in[1] };
        call(&f, true, in, &f.out, 0, NULL, 2);
        assert_int_equal(f.out.u8[0], spec ? 1 : 2); /* 1/2: rne(1/2) + 1, or rne(1/2 + 1) */
        finish(&f);
    }
    spec = false;
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
        cmocka_unit_test(operators_of_two_operands),
        cmocka_unit_test(constant_first),
        cmocka_unit_test(powers),
        cmocka_unit_test(choices),
        cmocka_unit_test(reductions),
        cmocka_unit_test(transposed_convolutions),
        cmocka_unit_test(a_stride_of_too_many_phases_is_refused),
        cmocka_unit_test(resizing),
        cmocka_unit_test(softmaxes),
        cmocka_unit_test(softmax_of_codes_by_the_definition),
        cmocka_unit_test(normalizations),
        cmocka_unit_test(scatters_and_sums),
        cmocka_unit_test(odd_scales_and_sizes),
        cmocka_unit_test(by_the_definition),
        cmocka_unit_test(ties),
    };
    return cmocka_run_group_tests(tests, make_pools, drop_pools);
}
