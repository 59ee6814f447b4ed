/* Qconfig mappings as text: there and back, each mistake named with line and path, a program's own observers and fake-quantizers by name, and
 * memory that runs out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "requant/calibrator.h"
#include "requant/qconfig_mapping.h"

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* ---- of one's own ---- */

typedef struct mean_abs {
    double sum;
    uint64_t n;
} mean_abs;

static void *mean_create(void *user)
{
    (void)user;
    return calloc(1, sizeof(mean_abs));
}

static rq_status mean_update(void *state, const float *x, size_t n)
{
    mean_abs *m = state;
    for (size_t i = 0; i < n; i++)
        if (isfinite(x[i]))
            m->sum += fabs((double)x[i]), m->n++;
    return RQ_OK;
}

/* Three times the mean magnitude. */
static rq_status mean_range(void *state, double *lo, double *hi)
{
    const mean_abs *m = state;
    *hi = m->n ? 3 * m->sum / (double)m->n : 0;
    *lo = -*hi;
    return RQ_OK;
}

static rq_status half_choose(void *user, const rq_own_counts *c, int levels, bool symmetric, double *lo, double *hi)
{
    (void)user;
    (void)levels;
    (void)symmetric;
    *lo = c->lo / 2;
    *hi = c->hi / 2;
    return RQ_OK;
}

/* Rounds to whole numbers. */
static void *whole_create(void *user, const rq_fake_quantizer_cfg *cfg)
{
    (void)user;
    (void)cfg;
    return calloc(1, sizeof(int));
}

static rq_status whole_forward(void *state, rq_exec *e, const rq_strided *y, const rq_strided *x, rq_err *err)
{
    (void)e;
    (void)err;
    ++*(int *)state;
    for (int64_t i = 0; i < x->shape.dim[0]; i++)
        ((float *)y->data)[i] = rintf(((const float *)x->data)[i]);
    return RQ_OK;
}

static rq_status whole_qparams(void *state, rq_qparams *out, float *zero_point_f, rq_err *err)
{
    (void)state;
    (void)zero_point_f;
    (void)err;
    return rq_qparams_init_one(out, RQ_DTYPE_S8, 1, 0);
}

static void whole_reset(void *state)
{
    *(int *)state = 0;
}

static rq_status max_collect(void *state, const float *x, const rq_shape *shape)
{
    mean_abs *m = state;
    for (int64_t i = 0; i < rq_shape_count(shape); i++)
        m->sum = fmax(m->sum, fabs((double)x[i]));
    return RQ_OK;
}

static rq_status max_amax(void *state, double *amax)
{
    *amax = ((const mean_abs *)state)->sum;
    return RQ_OK;
}

static const rq_own_observer my_range = {
    .name = "my_range",
    .create = mean_create,
    .update = mean_update,
    .range = mean_range,
    .destroy = free,
};
static const rq_own_observer my_half = { .name = "my_half", .choose = half_choose };
static const rq_own_fake_quantizer my_whole = {
    .name = "my_whole",
    .create = whole_create,
    .destroy = free,
    .forward = whole_forward,
    .qparams = whole_qparams,
    .reset = whole_reset,
};
static const rq_own_calibrator my_max = {
    .name = "my_max",
    .create = mean_create,
    .collect = max_collect,
    .amax = max_amax,
    .destroy = free,
};

static rq_own *make_own(void)
{
    rq_own *o;
    rq_err err = { 0 };
    assert_int_equal(rq_own_create(&o), RQ_OK);
    assert_int_equal(rq_own_add_observer(o, &my_range, &err), RQ_OK);
    assert_int_equal(rq_own_add_observer(o, &my_half, &err), RQ_OK);
    assert_int_equal(rq_own_add_calibrator(o, &my_max, &err), RQ_OK);
    assert_int_equal(rq_own_add_fake_quantizer(o, &my_whole, &err), RQ_OK);
    return o;
}

static void own_ones_are_found_by_name(void **state)
{
    (void)state;
    rq_own *o = make_own();
    rq_err err = { 0 };
    const rq_own_observer *observer;
    const rq_own_calibrator *calibrator;
    const rq_own_fake_quantizer *fake_quantizer;
    assert_int_equal(rq_own_find_observer(o, "my_half", &observer, &err), RQ_OK);
    assert_ptr_equal(observer->choose, half_choose);
    assert_ptr_not_equal(observer->name, my_half.name); /* copied */
    assert_int_equal(rq_own_find_calibrator(o, "my_max", &calibrator, &err), RQ_OK);
    assert_int_equal(rq_own_find_fake_quantizer(o, "my_whole", &fake_quantizer, &err), RQ_OK);
    assert_int_equal(rq_own_find_observer(o, "my_max", &observer, &err), RQ_NOT_FOUND);
    assert_string_equal(err.text, "no observer of one's own is named 'my_max'; there are my_range, my_half");
    assert_int_equal(rq_own_find_calibrator(NULL, "x", &calibrator, &err), RQ_NOT_FOUND);
    assert_string_equal(err.text, "no calibrator of one's own is named 'x'; there is none");
    assert_int_equal(rq_own_add_calibrator(o, &my_max, &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "calibrator 'my_max' is there already");
    rq_own_calibrator half = my_max;
    half.name = "half";
    half.amax = NULL;
    assert_int_equal(rq_own_add_calibrator(o, &half, &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "calibrator 'half' needs all of create, collect, amax and destroy");
    rq_own_fake_quantizer nameless = my_whole;
    nameless.name = "";
    assert_int_equal(rq_own_add_fake_quantizer(o, &nameless, &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "a fake-quantizer of one's own needs a name");
    rq_own_unref(&o);
}

static void own_ones_work_from_a_file(void **state)
{
    (void)state;
    rq_own *o = make_own();
    rq_err err = { 0 };
    rq_qconfig_mapping *m;
    assert_int_equal(rq_qconfig_mapping_parse(&m,
                                              "module_name:\n"
                                              "  a: {activation: {observer: my_range, dtype: qint8, qscheme: "
                                              "per_tensor_symmetric}, weight: {fake_quantize: my_whole}}\n"
                                              "  b: {activation: {observer: my_half}, weight: null}\n",
                                              "own.yaml", o, &err),
                     RQ_OK);
    float x[4] = { -1, 0.5F, 1.5F, 1 }, y[4];
    const rq_strided in = rq_strided_vector(x, 4), out = rq_strided_vector(y, 4);
    const rq_qconfig *q = rq_qconfig_mapping_lookup(m, &(rq_qconfig_site) { "a.fc", "Linear", NULL, 0 }, NULL);
    rq_qconfig_made made;
    assert_int_equal(rq_qconfig_make_activation(q, &made, &err), RQ_OK);
    assert_int_equal(rq_observer_update(made.observer, NULL, &in, &err), RQ_OK);
    rq_range r;
    assert_int_equal(rq_observer_range(made.observer, &r, 1), RQ_OK);
    assert_true(r.lo == -3 && r.hi == 3);
    rq_qparams p;
    assert_int_equal(rq_observer_qparams(made.observer, &p, NULL, &err), RQ_OK);
    assert_true(fabsf(p.scale[0] - 3 / 127.5F) < 1e-8F);
    rq_qparams_release(&p);
    rq_qconfig_made_release(&made);
    assert_int_equal(rq_qconfig_make_weight(q, "Linear", &made, &err), RQ_OK);
    assert_int_equal(rq_fake_quantizer_forward(made.fake_quantizer, NULL, &out, &in, &err), RQ_OK);
    assert_true(y[0] == -1 && y[1] == 0 && y[2] == 2 && y[3] == 1);
    rq_qconfig_made_release(&made);
    /* `choose` alone: the library counts */
    q = rq_qconfig_mapping_lookup(m, &(rq_qconfig_site) { "b", "Linear", NULL, 0 }, NULL);
    assert_int_equal(rq_qconfig_make_activation(q, &made, &err), RQ_OK);
    assert_int_equal(rq_observer_update(made.observer, NULL, &in, &err), RQ_OK);
    assert_int_equal(rq_observer_range(made.observer, &r, 1), RQ_OK);
    assert_true(r.lo == -0.5 && r.hi == 0.75);
    rq_qconfig_made_release(&made);
    rq_qconfig_mapping_destroy(m);
    /* a calibrator stands for the range from -amax to amax, and is written by its name */
    assert_int_equal(
        rq_qconfig_mapping_parse(&m, "global: {activation: {observer: my_max}, weight: null}", "own.yaml", o, &err),
        RQ_OK);
    rq_qconfig_mapping *back;
    char text[1000];
    assert_int_equal(rq_qconfig_mapping_text(m, text, sizeof text, NULL), RQ_OK);
    assert_non_null(strstr(text, "\"my_max\""));
    assert_int_equal(rq_qconfig_mapping_parse(&back, text, "text", o, &err), RQ_OK);
    assert_true(rq_qconfig_equal(rq_qconfig_mapping_entry(m, 0).qconfig, rq_qconfig_mapping_entry(back, 0).qconfig));
    rq_qconfig_mapping_destroy(back);
    assert_int_equal(rq_qconfig_make_activation(rq_qconfig_mapping_entry(m, 0).qconfig, &made, &err), RQ_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rq_observer_update(made.observer, NULL, &in, &err), RQ_OK);
        assert_int_equal(rq_observer_range(made.observer, &r, 1), RQ_OK);
        assert_true(r.lo == (i ? -9.5 : -1.5) && r.hi == (i ? 9.5 : 1.5));
        x[1] = 9.5F;
    }
    rq_qconfig_made_release(&made);
    rq_qconfig_mapping_destroy(m);
    /* a name that nobody has */
    assert_int_equal(
        rq_qconfig_mapping_parse(&m, "global: {activation: {observer: my_rage}, weight: null}", "own.yaml", o, &err),
        RQ_BAD_RECIPE);
    assert_string_equal(err.text, "own.yaml:1: global.activation.observer: there is no observer 'my_rage'; the nearest "
                                  "is 'average'; the program brings my_range, my_half");
    assert_int_equal(rq_qconfig_mapping_parse(&m, "global: {activation: my_range, weight: null}", "own.yaml", o, &err),
                     RQ_BAD_RECIPE);
    assert_string_equal(err.text,
                        "own.yaml:1: global.activation: an observer of the program: write {observer: its name}");
    assert_int_equal(rq_qconfig_mapping_parse(&m, "global: {activation: null, weight: {fake_quantize: my_hole}}",
                                              "own.yaml", o, &err),
                     RQ_BAD_RECIPE);
    assert_string_equal(err.text, "own.yaml:1: global.weight.fake_quantize: neither the library nor the program has a "
                                  "fake-quantizer 'my_hole'; the nearest is 'my_whole'");
    rq_own_unref(&o);
}

/* The same observer, asked about NVIDIA's counts of |x|; and a calibrator of one's own. */
static void own_ones_calibrate(void **state)
{
    (void)state;
    rq_own *o = make_own();
    rq_err err = { 0 };
    const rq_own_observer *half, *range;
    assert_int_equal(rq_own_find_observer(o, "my_half", &half, &err), RQ_OK);
    assert_int_equal(rq_own_find_observer(o, "my_range", &range, &err), RQ_OK);
    rq_calibrator_cfg cfg = rq_calibrator_defaults(RQ_CALIBRATOR_HISTOGRAM);
    rq_calibrator *c;
    rq_tensor amax;
    float x[5] = { -4, 0.5F, 1.5F, 1, NAN };
    const rq_strided in = rq_strided_vector(x, 5);
    assert_int_equal(rq_calibrator_create(&c, &cfg, &err), RQ_OK);
    assert_int_equal(rq_calibrator_choose(c, half, &amax, &err), RQ_NOT_FOUND);
    assert_int_equal(rq_calibrator_collect(c, NULL, &in, &err), RQ_OK);
    assert_int_equal(rq_calibrator_choose(c, half, &amax, &err), RQ_OK);
    assert_true(amax.f32[0] == 2);
    rq_tensor_release(&amax);
    assert_int_equal(rq_calibrator_choose(c, range, &amax, &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "observer 'my_range' sees elements itself: it does not choose from counts");
    rq_calibrator_destroy(c);
    cfg = rq_calibrator_defaults(RQ_CALIBRATOR_OWN);
    assert_int_equal(rq_own_find_calibrator(o, "my_max", &cfg.own, &err), RQ_OK);
    assert_int_equal(rq_calibrator_create(&c, &cfg, &err), RQ_OK);
    assert_int_equal(rq_calibrator_choose(c, half, &amax, &err), RQ_BAD_ARG);
    const rq_strided finite = rq_strided_vector(x, 4);
    assert_int_equal(rq_calibrator_collect(c, NULL, &finite, &err), RQ_OK);
    assert_int_equal(rq_calibrator_amax(c, RQ_AMAX_MAX, NULL, &amax, &err), RQ_OK);
    assert_true(amax.f32[0] == 4);
    rq_tensor_release(&amax);
    rq_calibrator_destroy(c);
    rq_own_unref(&o);
}

/* ---- there and back ---- */

static const char everything[] =
    "default: fbgemm\n"
    "global: qnnpack\n"
    "object_type:\n"
    "  Linear: default_dynamic_qconfig\n"
    "  nn.Conv2d:\n"
    "    activation: {observer: HistogramObserver, dtype: quint8, reduce_range: true, bins: 512, upsample_rate: 8}\n"
    "    weight: {observer: PerChannelMinMaxObserver, dtype: qint8, qscheme: torch.per_channel_symmetric, quant_min: "
    "-127, quant_max: 127, eps: 0.000244140625, ch_axis: 1}\n"
    "  Embedding: float_qparams_weight_only_qconfig\n"
    "module_name_regex: {\"block\\\\.[0-9]+\\\\.fc\": null, 'x\"y': onednn}\n"
    "module_name:\n"
    "  head: {activation: {observer: my_range}, weight: default_weight_observer}\n"
    "  tail: {activation: {fake_quantize: FusedMovingAvgObsFakeQuantize, averaging_constant: 0.1}, weight: "
    "{fake_quantize: my_whole, dtype: int6}}\n"
    "  neck: {algorithm: learnable, weight_dtype: qint4, weight_observer: ema_min_max, weight_per_channel: false, "
    "activation_dtype: float32, quantization_scheme: affine}\n"
    "  foot: {activation: {observer: FixedQParamsObserver, scale: 0.1, zero_point: 3}, weight: null}\n"
    "module_name_object_type_order:\n"
    "  - [block, Linear, 1, null]\n"
    "  - [\"\", relu, 0, default_reuse_input_qconfig]\n"
    "compat: true\n";

static void assert_same(const rq_qconfig_mapping *a, const rq_qconfig_mapping *b)
{
    assert_int_equal(rq_qconfig_mapping_count(a), rq_qconfig_mapping_count(b));
    for (int i = 0; i < rq_qconfig_mapping_count(a); i++) {
        const rq_qconfig_entry x = rq_qconfig_mapping_entry(a, i);
        bool found = false;
        for (int k = 0; k < rq_qconfig_mapping_count(b); k++) {
            const rq_qconfig_entry y = rq_qconfig_mapping_entry(b, k);
            found |= x.level == y.level && x.index == y.index && !x.name == !y.name && !x.type == !y.type &&
                     (!x.name || !strcmp(x.name, y.name)) && (!x.type || !strcmp(x.type, y.type)) &&
                     x.optional == y.optional && rq_qconfig_equal(x.qconfig, y.qconfig);
        }
        if (!found)
            print_message("%s %s %s\n", rq_qconfig_level_name(x.level), x.name ? x.name : "", x.type ? x.type : "");
        assert_true(found);
    }
}

/* q, global in a mapping, as text and back. */
static rq_status around(const rq_qconfig *q)
{
    rq_qconfig_mapping *m, *back;
    rq_err err = { 0 };
    char text[2000];
    assert_int_equal(rq_qconfig_mapping_create(&m, &err), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_set_global(m, q, &err), RQ_OK);
    const rq_status s = rq_qconfig_mapping_text(m, text, sizeof text, NULL);
    if (!s) {
        assert_int_equal(rq_qconfig_mapping_parse(&back, text, "text", NULL, &err), RQ_OK);
        assert_same(m, back);
        rq_qconfig_mapping_destroy(back);
    } else {
        assert_int_equal(rq_qconfig_mapping_save(m, RQ_TEST_TMP "/unsaid.json", &err), s);
        assert_non_null(strstr(err.text, "has a setting that files have no key for"));
    }
    rq_qconfig_mapping_destroy(m);
    return s;
}

/* A text that is read back is the same, or there is none. */
static void what_texts_have_no_key_for(void **state)
{
    (void)state;
    rq_observer_cfg o = rq_observer_defaults(RQ_OBSERVER_HISTOGRAM);
    rq_qconfig q = { rq_qconfig_observes(&o), rq_qconfig_nothing() };
    q.activation.observer.torch_1 = true;
    q.activation.observer.upsample_rate = 128;
    rq_qconfig other = q;
    other.activation.observer.torch_1 = false;
    assert_false(rq_qconfig_equal(&q, &other));
    assert_int_equal(around(&q), RQ_OK);
    q.activation.observer.most = 5;
    assert_int_equal(around(&q), RQ_UNSUPPORTED);
    q.activation.observer = rq_observer_defaults(RQ_OBSERVER_COUNTS);
    assert_int_equal(around(&q), RQ_OK);
    q.activation.observer.choice = RQ_CHOICE_ENTROPY;
    assert_int_equal(around(&q), RQ_UNSUPPORTED);
    q.activation.observer = rq_observer_defaults(RQ_OBSERVER_MINMAX);
    q.activation.observer.bins = 1 << 20; /* more than a file may ask for */
    assert_int_equal(around(&q), RQ_UNSUPPORTED);
    q.activation.observer = rq_observer_defaults(RQ_OBSERVER_MINMAX);
    q.activation.observer.type.hi = 126; /* nobody asked for it */
    assert_int_equal(around(&q), RQ_UNSUPPORTED);
    q.activation.observer.custom_range = true;
    assert_int_equal(around(&q), RQ_OK);
    rq_fake_quantizer_cfg f = rq_fake_quantizer_defaults(RQ_FAKE_QUANTIZER_STANDARD);
    f.compat = true;
    q.activation = rq_qconfig_fake_quantizes(&f);
    assert_int_equal(around(&q), RQ_UNSUPPORTED);
    f.observer.compat = true;
    q.activation = rq_qconfig_fake_quantizes(&f);
    assert_int_equal(around(&q), RQ_OK);
}

/* Characters that YAML does not take as they are. */
static void odd_names_come_back(void **state)
{
    (void)state;
    static const char *const names[] = { "a\x7f",        "a\xc2\x80z",   "a\xc2\x85z",       "a\xe2\x80\xa8z",
                                         "\xef\xbb\xbf", "\xef\xbf\xbf", "\xf0\x9f\x98\x80", "\xc3\xa4",
                                         "\n\t\"\\ " };
    rq_qconfig_mapping *m, *back;
    rq_err err = { 0 };
    char text[2000];
    assert_int_equal(rq_qconfig_mapping_create(&m, &err), RQ_OK);
    for (int i = 0; i < N(names); i++)
        assert_int_equal(rq_qconfig_mapping_set_module_name(m, names[i], NULL, &err), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_text(m, text, sizeof text, NULL), RQ_OK);
    const rq_status s = rq_qconfig_mapping_parse(&back, text, "text", NULL, &err);
    if (s)
        print_message("%s\n%s\n", text, err.text);
    assert_int_equal(s, RQ_OK);
    assert_same(m, back);
    rq_qconfig_mapping_destroy(back);
    assert_int_equal(rq_qconfig_mapping_set_module_name(m, "\xff", NULL, &err), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_text(m, text, sizeof text, NULL), RQ_BAD_ARG);
    rq_qconfig_mapping_destroy(m);
}

static void text_comes_back_the_same(void **state)
{
    (void)state;
    rq_own *o = make_own();
    rq_err err = { 0 };
    rq_qconfig_mapping *m, *back;
    const rq_status s = rq_qconfig_mapping_parse(&m, everything, "q.yaml", o, &err);
    if (s != RQ_OK)
        print_message("%s\n", err.text);
    assert_int_equal(s, RQ_OK);
    size_t size;
    char head[8];
    assert_int_equal(rq_qconfig_mapping_text(m, head, sizeof head, &size), RQ_OK);
    char *text = malloc(size);
    assert_int_equal(rq_qconfig_mapping_text(m, text, size, NULL), RQ_OK);
    assert_int_equal(strlen(text), size - 1);
    assert_memory_equal(text, head, 7);
    const rq_status r = rq_qconfig_mapping_parse(&back, text, "text", o, &err);
    if (r != RQ_OK)
        print_message("%s\n%s\n", text, err.text);
    assert_int_equal(r, RQ_OK);
    assert_same(m, back);
    rq_qconfig_mapping_destroy(back);
    assert_int_equal(rq_qconfig_mapping_save(m, RQ_TEST_TMP "/qconfig.json", &err), RQ_OK);
    assert_int_equal(rq_qconfig_mapping_load(&back, RQ_TEST_TMP "/qconfig.json", o, &err), RQ_OK);
    assert_same(m, back);
    rq_qconfig_mapping_destroy(back);
    rq_qconfig_mapping_destroy(m);
    free(text);
    /* every preset, whatever its fields */
    rq_qconfig_preset_row row;
    for (int i = 0; rq_qconfig_preset(i, &row); i++) {
        char one[2000];
        assert_int_equal(rq_qconfig_mapping_create(&m, &err), RQ_OK);
        rq_qconfig changed = row.qconfig; /* so that it is not written by its name */
        rq_observer_cfg *a = (rq_observer_cfg *)(uintptr_t)rq_qconfig_observer(&changed.activation);
        if (a)
            a->eps = 0x1p-20f;
        assert_int_equal(rq_qconfig_mapping_set_global(m, &changed, &err), RQ_OK);
        assert_int_equal(rq_qconfig_mapping_text(m, one, sizeof one, &size), RQ_OK);
        assert_true(size <= sizeof one);
        const rq_status t = rq_qconfig_mapping_parse(&back, one, "text", NULL, &err);
        if (t != RQ_OK)
            print_message("%s %s\n%s\n", row.name, one, err.text);
        assert_int_equal(t, RQ_OK);
        if (!rq_qconfig_equal(rq_qconfig_mapping_entry(back, 0).qconfig, &changed))
            print_message("%s %s\n", row.name, one);
        assert_same(m, back);
        rq_qconfig_mapping_destroy(back);
        rq_qconfig_mapping_destroy(m);
    }
    rq_own_unref(&o);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        { "object_typ: {}", "q:1: unknown key 'object_typ'; the nearest is 'object_type'" },
        { "global: fbgem", "q:1: global: no qconfig is named 'fbgem'; the nearest is 'fbgemm'" },
        { "default: fbgem", "q:1: default: no backend's default is named 'fbgem'; the nearest is 'fbgemm'" },
        { "object_type:\n  Linear: {activation: default_observer, weigth: null}",
          "q:2: object_type.Linear: unknown key 'weigth'; the nearest is 'weight'" },
        { "object_type:\n  Linear: {activation: default_observer}",
          "q:2: object_type.Linear: no 'weight'; null leaves it in float" },
        { "global: {activation: {observer: MinMaxObserver, quant_min: 0}, weight: null}",
          "q:1: global.activation.quant_min: given without quant_max" },
        { "global: {activation: {observer: MinMaxObserver, quant_max: 127}, weight: null}",
          "q:1: global.activation.quant_max: given without quant_min" },
        { "global: {activation: {observer: MinMaxObserver, quantmin: 0}, weight: null}",
          "q:1: global.activation: unknown key 'quantmin'; the nearest is 'quant_min'" },
        { "global: {activation: {observer: MinMaxObsever}, weight: null}",
          "q:1: global.activation.observer: there is no observer 'MinMaxObsever'; the nearest is 'MinMaxObserver'" },
        { "global: {activation: {dtype: quint8}, weight: null}",
          "q:1: global.activation: expected 'observer' or 'fake_quantize'" },
        { "global: {activation: {observer: min_max, eps: small}, weight: null}",
          "q:1: global.activation.eps: 'small', expected a number from 0 to 0.5" },
        { "global: {activation: {observer: min_max, bins: 2.5}, weight: null}",
          "q:1: global.activation.bins: '2.5', expected an integer from 1 to 65536" },
        { "global: {activation: {observer: min_max, reduce_range: maybe}, weight: null}",
          "q:1: global.activation.reduce_range: expected true or false" },
        { "global: {activation: {observer: min_max, learned_rule: lsq}, weight: null}",
          "q:1: global.activation.learned_rule: an argument of fake-quantizers" },
        { "global: {activation: {fake_quantize: FakeQuantise}, weight: null}",
          "q:1: global.activation.fake_quantize: there is no fake-quantizer 'FakeQuantise'; the nearest is "
          "'FakeQuantize'" },
        { "global: {activation: null, weight: {observer: PerChannelMinMaxObserver, qscheme: per_tensor_affine}}",
          "q:1: global.weight.qscheme: a per-channel observer wants a per-channel scheme" },
        { "global: {activation: default_observr, weight: null}",
          "q:1: global.activation: no observer or fake-quantizer is named 'default_observr'; the nearest is "
          "'default_observer'" },
        { "global: {algorithm: learnable, weight_dtype: int8}",
          "q:1: global.weight_dtype: 'int8', expected one of qint8, quint8, qint4, quint4, float32" },
        { "global: {algorithm: vanila}", "q:1: global.algorithm: 'vanila', expected one of vanilla, learnable" },
        { "global: {algorithm: vanilla, milestones: [0, 1, 2, 3]}", "q:1: global: unknown key 'milestones'" },
        { "global: {activation: {observer: min_max, qscheme: per_channel_affine}, weight: null}",
          "q:1: global: activation: per_channel_affine: activations have one scale per tensor; only weights have one "
          "per channel" },
        { "module_name: {a: fbgemm, a: x86}", "q:1: module_name.a: stands twice" },
        { "module_name: [[a, fbgemm], [b]]", "q:1: module_name: expected [key, qconfig]" },
        { "module_name_object_type_order: {a: fbgemm}",
          "q:1: module_name_object_type_order: expected a list of [name, type, index, qconfig]" },
        { "module_name_object_type_order: [[a, Linear, -1, fbgemm]]",
          "q:1: module_name_object_type_order.a: '-1', expected an integer from 0 to 1000000" },
        { "module_name_regex: {'a(?=b)': fbgemm}",
          "q:1: module_name_regex.a(?=b): pattern 'a(?=b)': '(?=b)' is not known here" },
        { "module_name: 5", "q:1: module_name: expected keys and qconfigs" },
        { "[]", "q:1: a qconfig mapping is keys and values" },
    };
    for (int i = 0; i < N(cases); i++) {
        rq_qconfig_mapping *m = NULL;
        rq_err err = { 0 };
        print_message("%s\n", cases[i].text);
        assert_int_equal(rq_qconfig_mapping_parse(&m, cases[i].text, "q", NULL, &err), RQ_BAD_RECIPE);
        assert_string_equal(err.text, cases[i].sentence);
        assert_null(m);
    }
    rq_qconfig_mapping *m;
    rq_err err = { 0 };
    assert_int_equal(rq_qconfig_mapping_parse(&m, "", "q", NULL, &err), RQ_OK); /* asks for nothing */
    assert_int_equal(rq_qconfig_mapping_count(m), 0);
    rq_qconfig_mapping_destroy(m);
    assert_int_equal(rq_qconfig_mapping_parse(&m, "a: [", "q", NULL, &err), RQ_BAD_RECIPE);
    assert_int_not_equal(rq_qconfig_mapping_load(&m, RQ_TEST_TMP "/not-there.yaml", NULL, &err), RQ_OK);
}

/* Files that would cost more than they say. */
static void hostile_files_end_at_once(void **state)
{
    (void)state;
    enum { MANY = 1000000 };
    char *text = malloc(MANY + 100), *at = text;
    rq_qconfig_mapping *m = NULL;
    rq_err err = { 0 };
    memset(text, '[', MANY);
    text[MANY] = 0;
    assert_int_equal(rq_qconfig_mapping_parse(&m, text, "q", NULL, &err), RQ_BAD_RECIPE);
    assert_string_equal(err.text, "q: more than 200 brackets within each other");
    at += sprintf(at, "module_name: {");
    for (int i = 0; i <= 10000; i++)
        at += sprintf(at, "m%d: ,", i);
    sprintf(at, "}");
    assert_int_equal(rq_qconfig_mapping_parse(&m, text, "q", NULL, &err), RQ_BAD_RECIPE);
    assert_string_equal(err.text, "q:1: module_name: more than 10000 keys");
    at = text + sprintf(text, "module_name: [");
    for (int i = 0; i <= 10000; i++)
        at += sprintf(at, "[m%d,],", i);
    sprintf(at, "]");
    assert_int_equal(rq_qconfig_mapping_parse(&m, text, "q", NULL, &err), RQ_BAD_RECIPE);
    assert_string_equal(err.text, "q:1: module_name: more than 10000 entries");
    assert_null(m);
    free(text);
}

/* PyTorch's QConfigMapping.to_dict as JSON: lists of pairs, "" for the global one. */
static void dictionaries_are_read(void **state)
{
    (void)state;
    rq_qconfig_mapping *m;
    rq_err err = { 0 };
    assert_int_equal(
        rq_qconfig_mapping_parse(&m,
                                 "{\"\": \"default_qconfig\", \"object_type\": [[\"torch.nn.Linear\", null]],\n"
                                 " \"module_name_regex\": [], \"module_name\": [[\"a\", \"fbgemm\"]],\n"
                                 " \"module_name_object_type_order\": [[\"a\", \"relu\", 0, null]]}",
                                 "dict", NULL, &err),
        RQ_OK);
    assert_int_equal(rq_qconfig_mapping_count(m), 4);
    assert_null(rq_qconfig_mapping_lookup(m, &(rq_qconfig_site) { "b", "Linear", NULL, 0 }, NULL));
    assert_non_null(rq_qconfig_mapping_lookup(m, &(rq_qconfig_site) { "a.x", "Linear", NULL, 0 }, NULL));
    assert_null(rq_qconfig_mapping_lookup(m, &(rq_qconfig_site) { "a", "Block", "relu", 0 }, NULL));
    rq_qconfig_mapping_destroy(m);
}

static void memory_runs_out(void **state)
{
    (void)state;
    rq_own *o = make_own();
    rq_err err = { 0 };
    const size_t live = rq_mem_live();
    for (int on = 0; on < 2; on++) {
        bool done = false;
        for (size_t n = 1; !done && n < 5000; n++) {
            rq_qconfig_mapping *m = NULL;
            char text[6000];
            rq_mem_fail_after(n, on);
            rq_status s = rq_qconfig_mapping_parse(&m, everything, "q.yaml", o, &err);
            const rq_status parsed = s;
            if (s == RQ_OK)
                s = rq_qconfig_mapping_text(m, text, sizeof text, NULL);
            const bool failed = rq_mem_fail_after(0, false) >= n;
            if (failed)
                assert_int_equal(s, RQ_NO_MEMORY);
            else
                assert_int_equal(s, RQ_OK);
            if (parsed == RQ_OK)
                rq_qconfig_mapping_destroy(m);
            assert_int_equal(rq_mem_live(), live);
            done = !failed;
        }
        assert_true(done);
    }
    rq_own_unref(&o);
    /* adding to a set */
    for (size_t n = 1; n < 20; n++) {
        assert_int_equal(rq_own_create(&o), RQ_OK);
        rq_mem_fail_after(n, false);
        const rq_status a = rq_own_add_calibrator(o, &my_max, &err), b = rq_own_add_fake_quantizer(o, &my_whole, &err);
        const bool failed = rq_mem_fail_after(0, false) >= n;
        assert_int_equal(failed, a != RQ_OK || b != RQ_OK);
        rq_own_unref(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_ones_are_found_by_name), cmocka_unit_test(own_ones_work_from_a_file),
        cmocka_unit_test(own_ones_calibrate),         cmocka_unit_test(text_comes_back_the_same),
        cmocka_unit_test(mistakes_are_named),         cmocka_unit_test(what_texts_have_no_key_for),
        cmocka_unit_test(odd_names_come_back),        cmocka_unit_test(hostile_files_end_at_once),
        cmocka_unit_test(dictionaries_are_read),      cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
