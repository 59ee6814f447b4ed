/* bench/bench_quant.c — the quantizers beside what memory allows, one thread.
 *
 *   bench_quant [--json] [--mib N] [--rounds N] [WORD...]     only rows whose name holds a WORD
 *
 * A row is measured in turn with its yardstick, on the same buffers, all of them touched before; the fastest of `rounds` calls
 * counts on both sides, so that a busy machine disturbs little. Yardsticks:
 *   copy      memcpy of x to y. The C library copies this much with stores that pass the caches by; so do we (the
 *             threshold stands in quant/fake_quantize.h)
 *   read      a loop that reads x
 *   read 4:1  a loop that reads x and writes a quarter as much: 16 bytes of each line of 64
 * Rates count bytes moved: what is read and what is written, once each (the gradient: two read, one written). Rows without a
 * yardstick have a rate or a time of their own to reach. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "quant/calibrate.h"
#include "requant/requant.h"

typedef struct bench {
    rq_kernels k;
    rq_exec *e;
    size_t n;         /* elements of x */
    float *x, *y, *z; /* [n] */
    float *relu;      /* [n] x with what is negative set to zero */
    uint8_t *codes;   /* [n] */
    uint64_t *count;  /* of bins */
    rq_histogram hist;
    rq_observer *seen[4];
    rq_calibrator *calibrator;
    volatile uint64_t sink;
} bench;

typedef struct row {
    const char *name;
    void (*run)(bench *b);
    void (*yardstick)(bench *b); /* NULL: `target` is a rate or a time */
    const char *beside;
    double bytes, yard_bytes; /* per element of x */
    double target;            /* least share of the yardstick's rate; least G elements/s; most ms */
    int in_ms;
} row;

enum { BINS = 2048, COLUMNS = 1024 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- yardsticks ---- */

#if defined(__x86_64__) && defined(__linux__)
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default"))) /* vectors of this CPU */
#else
#define WIDEST
#endif
typedef uint64_t line __attribute__((vector_size(64)));
typedef uint64_t quarter __attribute__((vector_size(16)));

static void copy(bench *b)
{
    memcpy(b->y, b->x, b->n * sizeof *b->x);
}

WIDEST static uint64_t read_all(const float *x, size_t n)
{
    const line *v = (const line *)x;
    line a = { 0 }, c = { 0 }, d = { 0 }, e = { 0 };
    for (size_t i = 0; i < n / 16; i += 4) {
        a |= v[i];
        c |= v[i + 1];
        d |= v[i + 2];
        e |= v[i + 3];
    }
    a |= c | d | e;
    return a[0] | a[1] | a[2] | a[3] | a[4] | a[5] | a[6] | a[7];
}

static void just_read(bench *b)
{
    b->sink = read_all(b->x, b->n);
}

static void read_four_write_one(bench *b)
{
    const quarter *v = (const quarter *)b->x;
    quarter *q = (quarter *)b->codes;
    for (size_t i = 0; i < b->n / 16; i++)
        q[i] = v[4 * i];
}

/* ---- rows ---- */

/* Calls are checked: a bench of a refusal measures nothing. */
static void must(rq_status st, const rq_err *err)
{
    if (st) {
        fprintf(stderr, "bench_quant: %s\n", err->text);
        exit(1);
    }
}

static void codes(bench *b, rq_fq_rule rule)
{
    const float scale = 0.03f;
    rq_err err = { 0 };
    const rq_fq f = { .type = rq_qtype_of(RQ_DTYPE_S8), .rule = rule, .axis = RQ_PER_TENSOR, .n = 1, .scale = &scale };
    const rq_strided x = rq_strided_vector(b->x, (int64_t)b->n);
    rq_tensor t = { .dtype = RQ_DTYPE_S8, .shape = x.shape, .s8 = (int8_t *)b->codes };
    must(rq_fq_quantize(b->e, &t, &x, &f, &err), &err);
}

static void codes_reciprocal(bench *b)
{
    codes(b, RQ_FQ_RECIPROCAL);
}
static void codes_divide(bench *b)
{
    codes(b, RQ_FQ_DIVIDE);
}

static void quantize_s8(bench *b)
{
    b->k.quantize_s8((int8_t *)b->codes, b->x, b->n, 0.03f, 0, -128, 127);
}

static void minmax(bench *b)
{
    float lo, hi;
    size_t finite;
    b->k.minmax(b->x, b->n, &lo, &hi, &finite);
    b->sink = finite;
}

static void histogram(bench *b)
{
    const rq_bins bins = { .n = BINS, .first = -BINS / 2, .lo = -4, .hi = 4, .mul = BINS / 8, .div = 1 };
    b->k.histogram(b->count, &bins, b->x, b->n);
}

static void histogram_abs(bench *b)
{
    const rq_bins bins = { .n = BINS, .hi = 4, .mul = BINS, .div = 4.01f, .take_abs = 1 };
    b->k.histogram(b->count, &bins, b->x, b->n);
}

static void histogram_relu(bench *b)
{
    const rq_bins bins = { .n = BINS, .hi = 4, .mul = BINS, .div = 4.01f, .take_abs = 1 };
    b->k.histogram(b->count, &bins, b->relu, b->n);
}

static void fake_quantize(bench *b, rq_fq_rule rule, bool channels, bool backward, bool compat)
{
    static float scale[1 << 20];
    static int32_t zero_point[1 << 20];
    rq_err err = { 0 };
    const int64_t rows = (int64_t)b->n / COLUMNS;
    const rq_shape shape = { .rank = 2, .dim = { rows, COLUMNS } };
    for (int64_t i = 0; i < (channels ? rows : 1); i++) {
        scale[i] = rule == RQ_FQ_MULTIPLIER ? 127 / 3.7f : 0.03f + (float)i / 1e7f;
        zero_point[i] = rule == RQ_FQ_MULTIPLIER ? 0 : (int32_t)(i % 7) - 3;
    }
    const rq_fq f = { .type = rq_qtype_of(RQ_DTYPE_S8),
                      .rule = rule,
                      .axis = channels ? 0 : RQ_PER_TENSOR,
                      .n = channels ? rows : 1,
                      .scale = scale,
                      .zero_point = zero_point,
                      .compat = compat };
    const rq_strided x = rq_strided_floats(b->x, &shape), y = rq_strided_floats(b->y, &shape),
                     dy = rq_strided_floats(b->z, &shape);
    if (backward)
        must(rq_fake_quantize_backward(b->e, &y, &dy, &x, &f, &err), &err);
    else
        must(rq_fake_quantize(b->e, &y, NULL, &x, &f, &err), &err);
}

static void per_tensor(bench *b)
{
    fake_quantize(b, RQ_FQ_RECIPROCAL, false, false, false);
}
static void per_tensor_compat(bench *b)
{
    fake_quantize(b, RQ_FQ_RECIPROCAL, false, false, true);
}
static void per_tensor_divide(bench *b)
{
    fake_quantize(b, RQ_FQ_DIVIDE, false, false, false);
}
static void per_tensor_multiplier(bench *b)
{
    fake_quantize(b, RQ_FQ_MULTIPLIER, false, false, false);
}
static void per_channel(bench *b)
{
    fake_quantize(b, RQ_FQ_RECIPROCAL, true, false, false);
}
static void per_tensor_backward(bench *b)
{
    fake_quantize(b, RQ_FQ_RECIPROCAL, false, true, false);
}
static void per_channel_backward(bench *b)
{
    fake_quantize(b, RQ_FQ_RECIPROCAL, true, true, false);
}

static void learned(bench *b, bool channels, bool backward)
{
    static float scale[1 << 20], zero_point[1 << 20], dscale[1 << 20], dzero_point[1 << 20];
    rq_err err = { 0 };
    const int64_t rows = (int64_t)b->n / COLUMNS;
    const rq_shape shape = { .rank = 2, .dim = { rows, COLUMNS } };
    for (int64_t i = 0; i < (channels ? rows : 1); i++) {
        scale[i] = 0.03f;
        zero_point[i] = (float)(i % 7) - 3;
    }
    const rq_learned l = { .type = rq_qtype_of(RQ_DTYPE_S8),
                           .axis = channels ? 0 : RQ_PER_TENSOR,
                           .n = channels ? rows : 1,
                           .scale = scale,
                           .zero_point = zero_point,
                           .grad_factor = 1 };
    const rq_strided x = rq_strided_floats(b->x, &shape), y = rq_strided_floats(b->y, &shape),
                     dy = rq_strided_floats(b->z, &shape);
    if (backward)
        must(rq_learned_quantize_backward(b->e, &y, dscale, dzero_point, &dy, &x, &l, &err), &err);
    else
        must(rq_learned_quantize(b->e, &y, &x, &l, &err), &err);
}

static void learned_per_tensor(bench *b)
{
    learned(b, false, false);
}
static void learned_per_tensor_backward(bench *b)
{
    learned(b, false, true);
}
static void learned_per_channel(bench *b)
{
    learned(b, true, false);
}
static void learned_per_channel_backward(bench *b)
{
    learned(b, true, true);
}

static rq_observer *observer(rq_observer_kind kind, int axis)
{
    rq_observer *o;
    rq_err err = { 0 };
    rq_observer_cfg cfg = rq_observer_defaults(kind);
    cfg.axis = axis;
    if (axis != RQ_PER_TENSOR)
        cfg.scheme = RQ_QSCHEME_PER_CHANNEL_AFFINE;
    must(rq_observer_create(&o, &cfg, &err), &err);
    return o;
}

/* x as rows of COLUMNS elements goes to the observer. */
static void observe(bench *b, rq_observer *o)
{
    rq_err err = { 0 };
    const rq_shape shape = { .rank = 2, .dim = { (int64_t)b->n / COLUMNS, COLUMNS } };
    const rq_strided x = rq_strided_floats(b->x, &shape);
    must(rq_observer_update(o, b->e, &x, &err), &err);
}

/* An observer that is made and sees x before anything is timed, and is kept. */
static void observe_more(bench *b, rq_observer **o, rq_observer_kind kind, int axis)
{
    if (!*o)
        *o = observer(kind, axis);
    observe(b, *o);
}

static void observe_minmax(bench *b)
{
    observe_more(b, &b->seen[0], RQ_OBSERVER_MINMAX, RQ_PER_TENSOR);
}
static void observe_average(bench *b)
{
    observe_more(b, &b->seen[1], RQ_OBSERVER_MOVING_AVERAGE, RQ_PER_TENSOR);
}
static void observe_channels(bench *b)
{
    observe_more(b, &b->seen[2], RQ_OBSERVER_MINMAX, 0);
}
static void observe_histogram(bench *b)
{
    observe_more(b, &b->seen[3], RQ_OBSERVER_HISTOGRAM, RQ_PER_TENSOR);
}
static void histogram_range(bench *b)
{
    rq_range r;
    const rq_err none = { .text = "no range" };
    if (!b->seen[3])
        observe_histogram(b);
    must(rq_observer_range(b->seen[3], &r, 1), &none);
    b->sink = r.lo < r.hi;
}

static void collect_histogram(bench *b)
{
    rq_err err = { 0 };
    const rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_HISTOGRAM);
    const rq_strided x = rq_strided_vector(b->x, (int64_t)b->n);
    if (!b->calibrator)
        must(rq_calibrator_create(&b->calibrator, &cfg, &err), &err);
    must(rq_calibrator_collect(b->calibrator, b->e, &x, &err), &err);
}

/* A histogram of |x| with BINS bins, made anew where b->hist.n is 0. */
static const rq_histogram *hist_of(bench *b)
{
    const rq_err none = { .text = "no memory" };
    if (!b->hist.n) {
        must(rq_histogram_init(&b->hist, BINS, true), &none);
        must(rq_histogram_update(&b->hist, &b->k, b->x, b->n), &none);
    }
    return &b->hist;
}

static void entropy(bench *b)
{
    int at;
    rq_calibrate_amax_entropy(hist_of(b), 128, 128, 1, &at);
    b->sink = (uint64_t)at;
}

static void mse(bench *b)
{
    int at;
    rq_calibrate_amax_mse(hist_of(b), 127, 128, 1, &at);
    b->sink = (uint64_t)at;
}

static const row rows[] = {
    { "fake_quantize per tensor", per_tensor, copy, "copy", 8, 8, 0.8, 0 },
    { "fake_quantize per tensor, compat", per_tensor_compat, copy, "copy", 8, 8, 0.8, 0 },
    { "fake_quantize per tensor, divide", per_tensor_divide, copy, "copy", 8, 8, 0.8, 0 },
    { "fake_quantize per tensor, amax", per_tensor_multiplier, copy, "copy", 8, 8, 0.8, 0 },
    { "fake_quantize per channel", per_channel, copy, "copy", 8, 8, 0.75, 0 },
    { "backward per tensor", per_tensor_backward, copy, "copy", 12, 8, 0.7, 0 },
    { "backward per channel", per_channel_backward, copy, "copy", 12, 8, 0.7, 0 },
    { "learned per tensor", learned_per_tensor, copy, "copy", 8, 8, 0.8, 0 },
    { "learned per tensor, backward", learned_per_tensor_backward, copy, "copy", 12, 8, 0.7, 0 },
    { "learned per channel", learned_per_channel, copy, "copy", 8, 8, 0.75, 0 },
    { "learned per channel, backward", learned_per_channel_backward, copy, "copy", 12, 8, 0.7, 0 },
    { "quantize s8", codes_reciprocal, read_four_write_one, "read 4:1", 5, 5, 0.8, 0 },
    { "quantize s8, divide", codes_divide, read_four_write_one, "read 4:1", 5, 5, 0.8, 0 },
    { "quantize s8, kernel", quantize_s8, read_four_write_one, "read 4:1", 5, 5, 0.8, 0 },
    { "minmax", minmax, just_read, "read", 4, 4, 0.9, 0 },
    { "histogram", histogram, NULL, NULL, 4, 0, 1, 0 },
    { "histogram |x|", histogram_abs, NULL, NULL, 4, 0, 1, 0 },
    { "histogram |x| after Relu", histogram_relu, NULL, NULL, 4, 0, 1, 0 },
    { "MinMaxObserver", observe_minmax, just_read, "read", 4, 4, 0.9, 0 },
    { "MovingAverageMinMaxObserver", observe_average, just_read, "read", 4, 4, 0.9, 0 },
    { "PerChannelMinMaxObserver", observe_channels, just_read, "read", 4, 4, 0.9, 0 },
    { "HistogramObserver", observe_histogram, NULL, NULL, 4, 0, 1, 0 },
    { "HistogramObserver, range", histogram_range, NULL, NULL, 0, 0, 5, 1 },
    { "HistogramCalibrator", collect_histogram, NULL, NULL, 4, 0, 1, 0 },
    { "entropy search", entropy, NULL, NULL, 0, 0, 5, 1 },
    { "mse search", mse, NULL, NULL, 0, 0, 5, 1 },
};

static void *touched(size_t bytes)
{
    void *p = aligned_alloc(4096, (bytes + 4095) & ~(size_t)4095);
    if (!p) {
        fprintf(stderr, "bench_quant: no memory\n");
        exit(1);
    }
    memset(p, 1, bytes);
    return p;
}

static void bench_init(bench *b, size_t n)
{
    memset(b, 0, sizeof *b);
    unsigned flags;
    rq_err err = { 0 };
    if (rq_cpu_pinned(&flags, &err)) {
        fprintf(stderr, "bench_quant: %s\n", err.text);
        exit(2);
    }
    rq_kernels_init(&b->k, flags);
    must(rq_exec_create(&b->e, 1, &err), &err);
    b->n = n;
    b->x = touched(n * sizeof *b->x), b->y = touched(n * sizeof *b->x), b->z = touched(n * sizeof *b->x);
    b->relu = touched(n * sizeof *b->x), b->codes = touched(n), b->count = touched((BINS + 1) * sizeof *b->count);
    rq_rng r;
    rq_rng_seed(&r, 1);
    for (size_t i = 0; i < n; i++) { /* near a normal distribution of deviation 1 */
        float sum = 0;
        for (int k = 0; k < 12; k++)
            sum += rq_rng_f32(&r);
        b->x[i] = sum - 6;
        b->relu[i] = b->x[i] > 0 ? b->x[i] : 0;
        b->z[i] = rq_rng_f32(&r);
    }
}

static void print(const bench *b, const row *r, double ours, double yard, int json)
{
    const double elements = 1e-9 * (double)b->n / ours, rate = elements * r->bytes,
                 yard_rate = yard > 0 ? 1e-9 * (double)b->n * r->yard_bytes / yard : 0;
    const double got = r->yardstick ? rate / yard_rate : r->in_ms ? 1e3 * ours : elements;
    const int met = r->in_ms ? got <= r->target : got >= r->target;
    const char *unit = r->yardstick ? "ratio" : r->in_ms ? "ms" : "gel_s";
    if (json) {
        printf("{\"row\": \"%s\", \"isa\": \"%s\", \"ms\": %.4f, \"gb_s\": %.2f, \"gel_s\": %.3f, ", r->name, b->k.isa,
               1e3 * ours, rate, elements);
        if (r->yardstick)
            printf("\"yardstick\": \"%s\", \"yardstick_gb_s\": %.2f, ", r->beside, yard_rate);
        if (r->yardstick)
            printf("\"ratio\": %.3f, ", got);
        printf("\"target\": %g, \"met\": %s}\n", r->target, met ? "true" : "false");
    } else {
        char beside[32] = "";
        if (r->yardstick)
            snprintf(beside, sizeof beside, "%s %.1f", r->beside, yard_rate);
        printf("%-34s %9.3f %7.1f %7.2f   %-15s %7.2f %-5s %s %g%s\n", r->name, 1e3 * ours, rate, elements, beside, got,
               unit, r->in_ms ? "<=" : ">=", r->target, met ? "" : "  missed");
    }
    fflush(stdout);
}

static int wanted(const char *name, char **word, int n)
{
    for (int i = 0; i < n; i++)
        if (strstr(name, word[i]))
            return 1;
    return n == 0;
}

int main(int argc, char **argv)
{
    int json = 0, rounds = 15, mib = 64, at = 1;
    for (; at < argc && !strncmp(argv[at], "--", 2); at++) {
        if (!strcmp(argv[at], "--json"))
            json = 1;
        else if (!strcmp(argv[at], "--mib") && at + 1 < argc)
            mib = atoi(argv[++at]);
        else if (!strcmp(argv[at], "--rounds") && at + 1 < argc)
            rounds = atoi(argv[++at]);
        else
            at = argc;
    }
    if (at > argc || mib < 1 || mib > 1024 || rounds < 1) {
        fprintf(stderr, "usage: bench_quant [--json] [--mib 1..1024] [--rounds N] [WORD...]\n");
        return 2;
    }
    static bench b;
    bench_init(&b, (size_t)mib << 18);
    if (!json)
        printf("%d MiB of floats, one thread, %s, best of %d\n%-34s %9s %7s %7s   %s\n", mib, b.k.isa, rounds, "row",
               "ms", "GB/s", "Gel/s", "yardstick GB/s");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const row *r = &rows[i];
        if (!wanted(r->name, argv + at, argc - at))
            continue;
        double ours = 1e9, yard = r->yardstick ? 1e9 : 0;
        for (int k = 0; k <= rounds; k++) { /* the first is not counted */
            double t = now();
            r->run(&b);
            t = now() - t;
            ours = k && t < ours ? t : ours;
            if (r->yardstick) {
                t = now();
                r->yardstick(&b);
                t = now() - t;
                yard = k && t < yard ? t : yard;
            }
        }
        print(&b, r, ours, yard, json);
    }
    return 0;
}
