/* tests/ops/test_float_ops.c — float operators over random shapes against plain loops in double: broadcasting, reductions,
 * pools, products, softmax, normalization. Each is run on every instruction set of this machine, on one thread and
 * on two, and must give the same bits each time. (Against other systems: tests/golden/onnx/float_ops.) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "ops/op.h"
#include "ops/packs.h"

enum { MAX_IN = 4, MAX_OUT = 2 };

/* One node and its tensors. */
typedef struct fixture {
    rq_graph *g;
    rq_id node;
    const rq_op *row;
    int64_t opset;
    rq_tensor in[MAX_IN], out[MAX_OUT];
    int n_in, n_out;
} fixture;

static rq_rng rng;
static rq_threads *two;

static int64_t draw(int64_t lo, int64_t hi)
{
    return lo + (int64_t)rq_rng_below(&rng, (uint64_t)(hi - lo + 1));
}

static void start(fixture *f, const char *op, int64_t opset, int n_in, int n_out)
{
    memset(f, 0, sizeof *f);
    f->opset = opset;
    f->n_out = n_out;
    f->row = rq_op_find("", op);
    assert_non_null(f->row);
    assert_int_equal(rq_graph_create(&f->g), RQ_OK);
    assert_int_equal(rq_graph_set_opset(f->g, "", opset), RQ_OK);
    rq_id in[MAX_IN], out[MAX_OUT];
    for (int i = 0; i < n_in; i++)
        assert_int_equal(rq_graph_add_value(f->g, &in[i], RQ_VALUE_INPUT, "", RQ_DTYPE_F32, NULL, NULL), RQ_OK);
    for (int i = 0; i < n_out; i++)
        assert_int_equal(rq_graph_add_value(f->g, &out[i], RQ_VALUE_NODE, "", RQ_DTYPE_F32, NULL, NULL), RQ_OK);
    assert_int_equal(rq_graph_add_node(f->g, &f->node, op, "", "n", in, n_in, out, n_out, NULL), RQ_OK);
    rq_ops_bind(f->g);
}

static void set_ints(fixture *f, const char *name, const int64_t *v, int n)
{
    assert_int_equal(rq_attr_set_ints(f->g, f->node, name, v, n), RQ_OK);
}

static void set_int(fixture *f, const char *name, int64_t v)
{
    assert_int_equal(rq_attr_set_int(f->g, f->node, name, v), RQ_OK);
}

/* Random content: floats in -2..2, integers in -9..9 (0..9 unsigned). */
static rq_tensor *add_input(fixture *f, rq_dtype d, const rq_shape *s)
{
    rq_tensor *t = &f->in[f->n_in++];
    assert_int_equal(rq_tensor_create(t, d, s, false), RQ_OK);
    int64_t lo = -9, hi = 9, least, most;
    if (rq_dtype_is_integer(d) && rq_dtype_bits(d) <= 32) {
        rq_dtype_limits(d, &least, &most);
        lo = least < 0 ? lo : 0;
    }
    for (int64_t i = 0, n = rq_tensor_count(t); i < n; i++)
        rq_tensor_set(t, i, rq_dtype_is_float(d) ? rq_rng_f32(&rng) * 4 - 2 : (double)draw(lo, hi));
    return t;
}

static void add_ints(fixture *f, const int64_t *v, int n)
{
    const rq_shape s = rq_shape_of(1, (int64_t[]) { n });
    rq_tensor *t = &f->in[f->n_in++];
    assert_int_equal(rq_tensor_create(t, RQ_DTYPE_S64, &s, false), RQ_OK);
    memcpy(t->s64, v, (size_t)n * sizeof *v);
}

static void run_once(fixture *f, unsigned cpu, rq_threads *t)
{
    rq_kernels k;
    rq_kernels_init(&k, cpu);
    const rq_tensor *in[MAX_IN];
    rq_tensor *out[MAX_OUT];
    for (int i = 0; i < f->n_in; i++)
        in[i] = &f->in[i];
    for (int i = 0; i < f->n_out; i++)
        out[i] = &f->out[i];
    rq_err err = { 0 };
    rq_packs packs = { 0 };
    rq_op_args a = { .graph = f->g,
                     .node = &f->g->nodes[f->node],
                     .opset = f->opset,
                     .in = in,
                     .out = out,
                     .n_in = f->n_in,
                     .n_out = f->n_out,
                     .k = &k,
                     .threads = t,
                     .packs = &packs,
                     .err = &err };
    void *state = NULL;
    if (f->row->prepare && f->row->prepare(&a, &state))
        fail_msg("%s", err.text);
    a.state = state;
    a.scratch = rq_mem_alloc(f->row->scratch ? f->row->scratch(&a, false) : 0, 1);
    if (f->row->forward(&a))
        fail_msg("%s", err.text);
    rq_mem_free(a.scratch);
    if (state && f->row->release)
        f->row->release(state);
    rq_packs_release(&packs);
}

/* Infer, run, and run again on each instruction set with one and two threads. */
static void run(fixture *f)
{
    rq_dtype d[MAX_OUT];
    rq_shape s[MAX_OUT];
    const rq_tensor *in[MAX_IN];
    rq_err err = { 0 };
    for (int i = 0; i < f->n_in; i++)
        in[i] = &f->in[i];
    if (rq_ops_infer_node(f->g, &f->g->nodes[f->node], in, d, s, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < f->n_out; i++)
        assert_int_equal(rq_tensor_create(&f->out[i], d[i], &s[i], true), RQ_OK);
    run_once(f, 0, NULL);
    rq_tensor first[MAX_OUT];
    for (int i = 0; i < f->n_out; i++)
        assert_int_equal(rq_tensor_copy(&first[i], &f->out[i]), RQ_OK);
    const char *level;
    unsigned flags;
    for (int l = 0; (level = rq_cpu_level(l, &flags)); l++)
        for (int threads = 1; threads <= 2; threads++) {
            if (flags & ~rq_cpu_detect())
                continue;
            for (int i = 0; i < f->n_out; i++)
                memset(f->out[i].data, 0xa5, f->out[i].bytes);
            run_once(f, flags, threads == 2 ? two : NULL);
            for (int i = 0; i < f->n_out; i++)
                if (memcmp(first[i].data, f->out[i].data, first[i].bytes))
                    fail_msg("%s: other bits on %s with %d threads", f->row->name, level, threads);
        }
    for (int i = 0; i < f->n_out; i++)
        rq_tensor_release(&first[i]);
}

static void finish(fixture *f)
{
    for (int i = 0; i < MAX_IN; i++)
        rq_tensor_release(&f->in[i]);
    for (int i = 0; i < MAX_OUT; i++)
        rq_tensor_release(&f->out[i]);
    rq_graph_destroy(f->g);
}

static void expect(const fixture *f, int out, int64_t i, double want, double tol)
{
    const double got = rq_tensor_get(&f->out[out], i);
    if (!(fabs(got - want) <= tol) && !(got == want) && !(isnan(got) && isnan(want))) {
        char text[RQ_SHAPE_TEXT];
        fail_msg("%s (%s, input %s): element %lld is %.9g, not %.9g", f->row->name, rq_dtype_name(f->in[0].dtype),
                 rq_shape_text(&f->in[0].shape, text, sizeof text), (long long)i, got, want);
    }
}

static rq_shape random_shape(int lo, int hi, int64_t size)
{
    rq_shape s = { .rank = (int)draw(lo, hi) };
    for (int i = 0; i < s.rank; i++)
        s.dim[i] = draw(1, size);
    return s;
}

/* Coordinates of element i of s. */
static void unravel(const rq_shape *s, int64_t i, int64_t *at)
{
    for (int d = s->rank - 1; d >= 0; d--) {
        at[d] = i % s->dim[d];
        i /= s->dim[d];
    }
}

/* The element of t that broadcasts to coordinates `at` of a shape of `rank` axes. */
static double broadcast_get(const rq_tensor *t, const int64_t *at, int rank)
{
    int64_t i = 0;
    for (int d = 0; d < t->shape.rank; d++) {
        const int64_t k = at[d + rank - t->shape.rank];
        i = i * t->shape.dim[d] + (t->shape.dim[d] == 1 ? 0 : k);
    }
    return rq_tensor_get(t, i);
}

/* ---- broadcasting ---- */

static double apply(const char *op, rq_dtype d, double a, double b)
{
    const bool whole = rq_dtype_is_integer(d);
    if (strcmp(op, "Add") == 0)
        return a + b;
    if (strcmp(op, "Sub") == 0)
        return a - b;
    if (strcmp(op, "Mul") == 0)
        return a * b;
    if (strcmp(op, "Div") == 0)
        return whole ? (b == 0 ? 0 : trunc(a / b)) : a / b;
    if (strcmp(op, "Max") == 0)
        return a > b ? a : b;
    if (strcmp(op, "Min") == 0)
        return a < b ? a : b;
    return a < 0 ? a * b : a; /* PRelu */
}

static void operands_broadcast_as_in_numpy(void **state)
{
    static const char *const ops[] = { "Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu" };
    static const rq_dtype types[] = {
        RQ_DTYPE_F32, RQ_DTYPE_F32, RQ_DTYPE_F64, RQ_DTYPE_S32, RQ_DTYPE_S64, RQ_DTYPE_F16
    };
    for (int n = 0; n < 400; n++) {
        fixture f;
        const char *op = ops[draw(0, 6)];
        const rq_dtype d = types[draw(0, 5)];
        const bool large = n % 50 == 0;
        rq_shape y = large ? rq_shape_of(3, (int64_t[]) { 3, 130, 257 }) : random_shape(0, 5, 6), a = y, b = y;
        const int cut = (int)draw(0, y.rank); /* b lacks leading axes; both have ones where the other has a size */
        b = rq_shape_of(y.rank - cut, y.dim + cut);
        for (int i = 0; i < b.rank; i++)
            b.dim[i] = draw(0, 1) ? 1 : b.dim[i];
        for (int i = 0; i < a.rank && strcmp(op, "PRelu"); i++)
            a.dim[i] = draw(0, 3) ? a.dim[i] : 1;
        start(&f, op, 17, 2, 1);
        add_input(&f, d, &a);
        add_input(&f, d, &b);
        run(&f);
        int64_t at[RQ_MAX_RANK];
        for (int64_t i = 0; i < rq_tensor_count(&f.out[0]); i++) {
            unravel(&f.out[0].shape, i, at);
            const double u = broadcast_get(&f.in[0], at, f.out[0].shape.rank);
            const double v = broadcast_get(&f.in[1], at, f.out[0].shape.rank), want = apply(op, d, u, v);
            const double unit = d == RQ_DTYPE_F64 ? 1e-15 : d == RQ_DTYPE_F32 ? 6e-8 : d == RQ_DTYPE_F16 ? 5e-4 : 0;
            expect(&f, 0, i, want, unit * fabs(want) + (d == RQ_DTYPE_F16 ? 1e-7 : 0));
        }
        finish(&f);
    }
}

/* ---- reductions ---- */

static void reductions_agree_for_all_axes(void **state)
{
    static const char *const ops[] = { "ReduceSum", "ReduceMean", "ReduceMax",       "ReduceMin",      "ReduceProd",
                                       "ReduceL1",  "ReduceL2",   "ReduceSumSquare", "ReduceLogSumExp" };
    static const rq_dtype types[] = { RQ_DTYPE_F32, RQ_DTYPE_F32, RQ_DTYPE_F64, RQ_DTYPE_S32 };
    for (int n = 0; n < 500; n++) {
        fixture f;
        const int kind = (int)draw(0, 8);
        rq_dtype d = types[draw(0, 3)];
        if (d == RQ_DTYPE_S32 && kind > 5)
            d = RQ_DTYPE_F32;
        const rq_shape x = n % 50 == 0 ? rq_shape_of(4, (int64_t[]) { 2, 70, 19, 70 }) : random_shape(1, 5, 5);
        bool reduced[RQ_MAX_RANK] = { false };
        int64_t axes[RQ_MAX_RANK];
        int count = 0;
        for (int i = 0; i < x.rank; i++)
            if (draw(0, 1)) {
                axes[count++] = draw(0, 1) ? i : i - x.rank;
                reduced[i] = true;
            }
        for (int i = 0; i < x.rank && count == 0; i++)
            reduced[i] = true;
        const bool keep = draw(0, 1);
        start(&f, ops[kind], 18, 2, 1);
        set_int(&f, "keepdims", keep);
        add_input(&f, d, &x);
        add_ints(&f, axes, count);
        run(&f);

        const int64_t outputs = rq_tensor_count(&f.out[0]);
        double *mag = calloc((size_t)outputs, sizeof *mag);
        long double *acc = malloc((size_t)outputs * sizeof *acc); /* 186200 squares in doubles are off by 1e-13 */
        for (int64_t i = 0; i < outputs; i++)
            acc[i] = kind == 2 ? -INFINITY : kind == 3 ? INFINITY : kind == 4;
        int64_t at[RQ_MAX_RANK], group = rq_shape_count(&x) / outputs;
        for (int64_t i = 0; i < rq_shape_count(&x); i++) {
            unravel(&x, i, at);
            int64_t o = 0;
            for (int a = 0; a < x.rank; a++)
                if (!reduced[a])
                    o = o * x.dim[a] + at[a];
            const double v = rq_tensor_get(&f.in[0], i);
            mag[o] += fabs(v) * (kind > 5 ? fabs(v) : 1);
            switch (kind) {
            case 0:
            case 1:
                acc[o] += v;
                break;
            case 2:
                acc[o] = v > acc[o] ? v : acc[o];
                break;
            case 3:
                acc[o] = v < acc[o] ? v : acc[o];
                break;
            case 4:
                acc[o] *= v;
                break;
            case 5:
                acc[o] += fabs(v);
                break;
            case 8:
                acc[o] += exp(v);
                break;
            default:
                acc[o] += v * v;
            }
        }
        for (int64_t o = 0; o < outputs; o++) {
            double want = (double)acc[o];
            if (kind == 1)
                want = d == RQ_DTYPE_S32 ? trunc(want / (double)group) : want / (double)group;
            else if (kind == 6)
                want = sqrt(want);
            else if (kind == 8)
                want = log(want);
            if (d == RQ_DTYPE_S32 && fabs(want) > INT32_MAX)
                continue; /* wraps */
            const double unit = d == RQ_DTYPE_S32 ? 0 : d == RQ_DTYPE_F64 ? 1e-13 : 1e-6;
            /* Sums may cancel. So may c + log(sum e^(x - c)): the sum is off by some units in its last place, which is as much of the logarithm
             * whatever it comes to (ONNX Runtime's of three numbers around -1.2 is off by 2.2e-7 at most, but by 0.5 % of itself). */
            const double size = fabs(want) + (kind < 2 ? mag[o] : kind == 8 ? 0.5 : 1e-30);
            expect(&f, 0, o, want, unit * size);
        }
        free(acc), free(mag);
        finish(&f);
    }
}

/* ---- pools ---- */

static void pools_agree_with_plain_windows(void **state)
{
    static const rq_dtype types[] = { RQ_DTYPE_F32, RQ_DTYPE_F32, RQ_DTYPE_U8, RQ_DTYPE_S8, RQ_DTYPE_F64 };
    for (int n = 0; n < 500; n++) {
        fixture f;
        const bool average = draw(0, 1), ceil_mode = draw(0, 1), with_pad = draw(0, 1),
                   index = !average && draw(0, 2) == 0;
        const rq_dtype d = average ? RQ_DTYPE_F32 : types[draw(0, 4)];
        const int nd = (int)draw(1, 3);
        rq_shape x = { .rank = nd + 2, .dim = { draw(1, 2), draw(1, 3) } };
        int64_t k[3], s[3], dil[3], pads[6];
        for (int i = 0; i < nd; i++) {
            k[i] = draw(1, 3);
            s[i] = draw(1, 3);
            dil[i] = draw(1, 2);
            x.dim[2 + i] = draw((k[i] - 1) * dil[i] + 1, 20);
            pads[i] = draw(0, k[i] - 1);
            pads[nd + i] = draw(0, k[i] - 1);
        }
        start(&f, average ? "AveragePool" : "MaxPool", 19, 1, index ? 2 : 1);
        set_ints(&f, "kernel_shape", k, nd);
        set_ints(&f, "strides", s, nd);
        set_ints(&f, "dilations", dil, nd);
        set_ints(&f, "pads", pads, 2 * nd);
        set_int(&f, "ceil_mode", ceil_mode);
        if (average)
            set_int(&f, "count_include_pad", with_pad);
        add_input(&f, d, &x);
        run(&f);
        const rq_shape *y = &f.out[0].shape;
        for (int i = 0; i < nd; i++) { /* the rule of opset 22 */
            const int64_t room = x.dim[2 + i] + pads[i] + pads[nd + i] - (k[i] - 1) * dil[i] - 1;
            int64_t out = (ceil_mode ? (room + s[i] - 1) / s[i] : room / s[i]) + 1;
            if (ceil_mode && (out - 1) * s[i] >= x.dim[2 + i] + pads[i])
                out--;
            assert_int_equal(y->dim[2 + i], out);
        }
        int64_t taps = 1, at[RQ_MAX_RANK];
        for (int i = 0; i < nd; i++)
            taps *= k[i];
        for (int64_t o = 0; o < rq_shape_count(y); o++) {
            unravel(y, o, at);
            double best = -INFINITY, sum = 0;
            int64_t where = -1, count = 0;
            for (int64_t t = 0; t < taps; t++) {
                int64_t rest = t, pos = at[0] * x.dim[1] + at[1], step[3];
                bool inside = true, counted = true;
                for (int i = nd - 1; i >= 0; i--) {
                    step[i] = rest % k[i];
                    rest /= k[i];
                }
                for (int i = 0; i < nd; i++) {
                    const int64_t v = at[2 + i] * s[i] - pads[i] + step[i] * dil[i];
                    inside = inside && v >= 0 && v < x.dim[2 + i];
                    counted = counted && v < x.dim[2 + i] + pads[nd + i];
                    pos = pos * x.dim[2 + i] + v;
                }
                count += with_pad ? counted : inside;
                if (!inside)
                    continue;
                const double v = rq_tensor_get(&f.in[0], pos);
                sum += v;
                if (v > best) {
                    best = v;
                    where = pos;
                }
            }
            if (average && count == 0)
                continue;
            if (where < 0)
                continue; /* nothing but padding: every system has an answer of its own */
            expect(&f, 0, o, average ? sum / (double)count : best, average ? 1e-6 : 0);
            if (index)
                expect(&f, 1, o, (double)where, 0);
        }
        finish(&f);
    }
}

/* ---- products ---- */

static void products_broadcast_their_batches(void **state)
{
    for (int n = 0; n < 200; n++) {
        fixture f;
        const rq_shape batch = random_shape(0, 3, 3);
        const int64_t m = draw(1, 9), k = draw(1, 9), cols = draw(1, 9);
        rq_shape a = { .rank = 0 }, b = { .rank = 0 };
        const bool row = draw(0, 5) == 0, column = draw(0, 5) == 0;
        for (int i = 0; i < batch.rank && !row; i++)
            a.dim[a.rank++] = draw(0, 2) ? batch.dim[i] : 1;
        for (int i = (int)draw(0, batch.rank); i < batch.rank && !column; i++)
            b.dim[b.rank++] = draw(0, 2) ? batch.dim[i] : 1;
        if (!row)
            a.dim[a.rank++] = m;
        a.dim[a.rank++] = k;
        b.dim[b.rank++] = k;
        if (!column)
            b.dim[b.rank++] = cols;
        start(&f, "MatMul", 13, 2, 1);
        add_input(&f, RQ_DTYPE_F32, &a);
        add_input(&f, RQ_DTYPE_F32, &b);
        run(&f);
        /* coordinates of y with the axes that vectors lost put back */
        rq_shape y = f.out[0].shape;
        int64_t at[RQ_MAX_RANK + 2];
        for (int64_t o = 0; o < rq_shape_count(&y); o++) {
            unravel(&y, o, at);
            int rank = y.rank;
            const int64_t j = column ? 0 : at[--rank], i = row ? 0 : at[--rank];
            int64_t pa = 0, pb = 0;
            for (int e = 0, ra = row ? 0 : a.rank - 2; e < ra; e++)
                pa = pa * a.dim[e] + (a.dim[e] == 1 ? 0 : at[e + rank - ra]);
            for (int e = 0, rb = column ? 0 : b.rank - 2; e < rb; e++)
                pb = pb * b.dim[e] + (b.dim[e] == 1 ? 0 : at[e + rank - rb]);
            double sum = 0;
            for (int64_t q = 0; q < k; q++)
                sum += (double)f.in[0].f32[(pa * (row ? 1 : m) + i) * k + q] *
                       (double)f.in[1].f32[(pb * k + q) * (column ? 1 : cols) + j];
            expect(&f, 0, o, sum, 1e-5);
        }
        finish(&f);
    }
}

/* ---- softmax and layer normalization ---- */

static void softmax_reads_its_axis_by_opset(void **state)
{
    for (int n = 0; n < 200; n++) {
        fixture f;
        const bool old = draw(0, 1), log_form = draw(0, 1);
        const rq_shape x = n % 20 == 0 ? rq_shape_of(3, (int64_t[]) { 3, 40, 300 }) : random_shape(1, 4, 7);
        const int axis = (int)draw(0, x.rank - 1);
        start(&f, log_form ? "LogSoftmax" : "Softmax", old ? 11 : 13, 1, 1);
        set_int(&f, "axis", draw(0, 1) ? axis : axis - x.rank);
        add_input(&f, RQ_DTYPE_F32, &x);
        run(&f);
        const int64_t outer = rq_shape_span(&x, 0, axis), inner = old ? 1 : rq_shape_span(&x, axis + 1, x.rank);
        const int64_t len = rq_shape_count(&x) / outer / inner;
        for (int64_t o = 0; o < outer; o++)
            for (int64_t i = 0; i < inner; i++) {
                double sum = 0;
                for (int64_t t = 0; t < len; t++)
                    sum += exp(f.in[0].f32[(o * len + t) * inner + i]);
                for (int64_t t = 0; t < len; t++) {
                    const int64_t at = (o * len + t) * inner + i;
                    const double p = exp(f.in[0].f32[at]) / sum;
                    expect(&f, 0, at, log_form ? log(p) : p, log_form ? 2e-6 : 1e-6 * p);
                }
            }
        finish(&f);
    }
}

static void layer_normalization_is_what_it_says(void **state)
{
    for (int n = 0; n < 100; n++) {
        fixture f;
        const rq_shape x = random_shape(1, 4, 9);
        const int axis = (int)draw(0, x.rank - 1);
        const rq_shape rest = rq_shape_of(x.rank - axis, x.dim + axis);
        start(&f, "LayerNormalization", 17, 3, 1);
        set_int(&f, "axis", axis);
        add_input(&f, RQ_DTYPE_F32, &x);
        add_input(&f, RQ_DTYPE_F32, &rest);
        add_input(&f, RQ_DTYPE_F32, &rest);
        run(&f);
        const int64_t len = rq_shape_count(&rest);
        for (int64_t o = 0; o < rq_shape_count(&x) / len; o++) {
            const float *row = f.in[0].f32 + o * len;
            double mean = 0, var = 0;
            for (int64_t i = 0; i < len; i++)
                mean += row[i] / (double)len;
            for (int64_t i = 0; i < len; i++)
                var += (row[i] - mean) * (row[i] - mean) / (double)len;
            for (int64_t i = 0; i < len; i++) {
                const double y = (row[i] - mean) / sqrt(var + 1e-5);
                expect(&f, 0, o * len + i, y * f.in[1].f32[i] + f.in[2].f32[i], 1e-5 + 2e-4 * (len == 1));
            }
        }
        finish(&f);
    }
}

/* ---- resizing ---- */

/* No part of the image is at a coordinate that is no number, or beyond every integer: the value for outside. */
static void a_roi_that_makes_no_sense_is_outside(void **state)
{
    static const float lo[] = { NAN, -INFINITY, 1e30f, -1e30f, 1e38f }, hi[] = { 1, INFINITY, 2e30f, 1e30f, -1e38f };
    static const char *const modes[] = { "nearest", "linear", "cubic" };
    for (size_t i = 0; i < 3 * sizeof lo / sizeof lo[0]; i++) {
        fixture f;
        start(&f, "Resize", 18, 4, 1);
        assert_int_equal(rq_attr_set_string(f.g, f.node, "mode", modes[i % 3]), RQ_OK);
        assert_int_equal(rq_attr_set_string(f.g, f.node, "coordinate_transformation_mode", "tf_crop_and_resize"),
                         RQ_OK);
        assert_int_equal(rq_attr_set_float(f.g, f.node, "extrapolation_value", 7), RQ_OK);
        assert_int_equal(rq_attr_set_ints(f.g, f.node, "axes", (int64_t[]) { 1 }, 1), RQ_OK);
        add_input(&f, RQ_DTYPE_F32, &(rq_shape) { .rank = 2, .dim = { 2, 5 } });
        rq_tensor *roi = add_input(&f, RQ_DTYPE_F32, &(rq_shape) { .rank = 1, .dim = { 2 } });
        roi->f32[0] = lo[i / 3];
        roi->f32[1] = hi[i / 3];
        add_input(&f, RQ_DTYPE_F32, &(rq_shape) { .rank = 1, .dim = { 0 } });
        add_ints(&f, (int64_t[]) { 4 }, 1);
        run(&f);
        for (int64_t k = 0; k < 8; k++)
            expect(&f, 0, k, 7, 0);
        finish(&f);
    }
}

/* Rows against one number from either side, as a one-hot has them, and against each other. */
static void equality_broadcasts(void **state)
{
    static const int64_t dims[][2][2] = { { { 300, 1 }, { 1, 257 } },   { { 1, 70 }, { 9, 1 } },
                                          { { 40, 500 }, { 40, 500 } }, { { 1, 1 }, { 3, 33 } },
                                          { { 5, 1 }, { 1, 1 } },       { { 7, 65 }, { 1, 65 } } };
    for (int n = 0; n < 6; n++) {
        fixture f;
        const rq_shape a = rq_shape_of(2, dims[n][0]), b = rq_shape_of(2, dims[n][1]);
        start(&f, "Equal", 17, 2, 1);
        add_input(&f, RQ_DTYPE_S32, &a);
        add_input(&f, RQ_DTYPE_S32, &b);
        run(&f);
        int64_t at[2];
        for (int64_t i = 0; i < rq_tensor_count(&f.out[0]); i++) {
            unravel(&f.out[0].shape, i, at);
            expect(&f, 0, i, broadcast_get(&f.in[0], at, 2) == broadcast_get(&f.in[1], at, 2), 0);
        }
        finish(&f);
    }
}

/* ---- padding ---- */

/* Constants in front, behind, or, with pads below zero, less of the input. */
static void pads_frame_with_a_constant(void **state)
{
    static const rq_dtype types[] = { RQ_DTYPE_F32, RQ_DTYPE_U8, RQ_DTYPE_S64, RQ_DTYPE_F16 };
    for (int n = 0; n < 300; n++) {
        fixture f;
        const rq_dtype d = types[n % 4];
        const rq_shape s = n % 60 ? random_shape(0, 5, 6) : rq_shape_of(4, (int64_t[]) { 2, 5, 80, 90 });
        int64_t pads[2 * RQ_MAX_RANK];
        for (int i = 0; i < s.rank; i++) {
            const int64_t least = draw(0, 2) ? 0 : 1 - s.dim[i];
            pads[i] = draw(0, 1) ? draw(least, 3) : 0;
            pads[i + s.rank] = draw(0, 1) ? draw(pads[i] < 0 ? least - pads[i] : least, 3) : 0;
        }
        start(&f, "Pad", 13, 3, 1);
        add_input(&f, d, &s);
        add_ints(&f, pads, 2 * s.rank);
        add_input(&f, d, &(rq_shape) { 0 });
        run(&f);
        const rq_shape *y = &f.out[0].shape;
        const double constant = rq_tensor_get(&f.in[2], 0);
        for (int64_t i = 0; i < rq_tensor_count(&f.out[0]); i++) {
            int64_t at[RQ_MAX_RANK], from = 0;
            bool inside = true;
            unravel(y, i, at);
            for (int k = 0; k < s.rank; k++) {
                const int64_t x = at[k] - pads[k];
                inside &= x >= 0 && x < s.dim[k];
                from = from * s.dim[k] + x;
            }
            expect(&f, 0, i, inside ? rq_tensor_get(&f.in[0], from) : constant, 0);
        }
        finish(&f);
    }
}

static int set_up(void **state)
{
    rq_rng_seed(&rng, 11);
    return rq_threads_create(&two, 2);
}

static int tear_down(void **state)
{
    rq_threads_destroy(two);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operands_broadcast_as_in_numpy),       cmocka_unit_test(reductions_agree_for_all_axes),
        cmocka_unit_test(pools_agree_with_plain_windows),       cmocka_unit_test(products_broadcast_their_batches),
        cmocka_unit_test(softmax_reads_its_axis_by_opset),      cmocka_unit_test(layer_normalization_is_what_it_says),
        cmocka_unit_test(a_roi_that_makes_no_sense_is_outside), cmocka_unit_test(equality_broadcasts),
        cmocka_unit_test(pads_frame_with_a_constant),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
