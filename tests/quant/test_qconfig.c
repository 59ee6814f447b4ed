/* Qconfigs: the presets against what PyTorch makes of them, and the sentence for each one that contradicts itself or that an executor cannot run.
 * Which module gets which: test_qconfig_mapping.c; as text: tests/algo/test_qconfig_text.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "quant/qconfig.h"
#include "quant/qconfig_help.h"

/* ---- presets ---- */

/* What activation() and weight() of PyTorch's qconfigs are: tests/interop/qconfig.py compares them with the PyTorch that is
 * installed (2.15 when this was written; 1.13 and 2.7 are documented to have the same). quant_min, quant_max: after reduce_range. */
typedef struct made {
    const char *fake_quantize, *observer, *dtype, *qscheme;
    int quant_min, quant_max;
    double eps, averaging_constant;
    int dynamic, axis;
    double scale;
    int zero_point;
} made;
static const struct {
    const char *name;
    made activation, weight;
} presets[] = {
    /* clang-format off */
    { "default_activation_only_qconfig", { "FakeQuantize", "MovingAverageMinMaxObserver", "quint8", "per_tensor_affine", 0, 127, 1.1920929e-07, 0.01, 0, -1, 0, 0 },
      { "", "", "", "", 0, 0, 0, 0, 0, -1, 0, 0 } },
    { "default_debug_qconfig", { "", "RecordingObserver", "quint8", "", 0, 0, 0, 0, 0, -1, 0, 0 },
      { "", "MinMaxObserver", "qint8", "per_tensor_symmetric", -128, 127, 1.1920929e-07, 0, 0, -1, 0, 0 } },
    { "default_dynamic_qat_qconfig", { "FakeQuantize", "MovingAverageMinMaxObserver", "quint8", "per_tensor_affine", 0, 255, 1.1920929e-07, 1, 1, -1, 0, 0 },
      { "FakeQuantize", "MovingAverageMinMaxObserver", "qint8", "per_tensor_symmetric", -128, 127, 1.1920929e-07, 0.01, 0, -1, 0, 0 } },
    { "default_dynamic_qconfig", { "", "PlaceholderObserver", "quint8", "per_tensor_affine", 0, 255, 1.1920929e-07, 0, 1, -1, 0, 0 },
      { "", "MinMaxObserver", "qint8", "per_tensor_symmetric", -128, 127, 1.1920929e-07, 0, 0, -1, 0, 0 } },
    { "default_embedding_qat_qconfig", { "", "NoopObserver", "float32", "", 0, 0, 0, 0, 0, -1, 0, 0 },
      { "FakeQuantize", "MovingAveragePerChannelMinMaxObserver", "quint8", "per_channel_affine_float_qparams", 0, 255, 1.1920929e-07, 1, 0, 0, 0, 0 } },
    { "default_embedding_qat_qconfig_4bit", { "", "NoopObserver", "float32", "", 0, 0, 0, 0, 0, -1, 0, 0 },
      { "FakeQuantize", "MovingAveragePerChannelMinMaxObserver", "quint4x2", "per_channel_affine_float_qparams", 0, 15, 1.1920929e-07, 1, 0, 0, 0, 0 } },
    { "default_per_channel_qconfig", { "", "MinMaxObserver", "quint8", "per_tensor_affine", 0, 127, 1.1920929e-07, 0, 0, -1, 0, 0 },
      { "", "PerChannelMinMaxObserver", "qint8", "per_channel_symmetric", -128, 127, 1.1920929e-07, 0, 0, 0, 0, 0 } },
    { "default_per_channel_symmetric_qnnpack_qat_qconfig", { "FusedMovingAvgObsFakeQuantize", "MovingAverageMinMaxObserver", "qint8", "per_tensor_affine", -128, 127, 0.000244140625, 0.01, 0, -1, 0, 0 },
      { "FusedMovingAvgObsFakeQuantize", "MovingAveragePerChannelMinMaxObserver", "qint8", "per_channel_symmetric", -127, 127, 0.000244140625, 0.01, 0, 0, 0, 0 } },
    { "default_per_channel_symmetric_qnnpack_qconfig", { "", "HistogramObserver", "qint8", "per_tensor_affine", -128, 127, 0.000244140625, 0, 0, -1, 0, 0 },
      { "", "PerChannelMinMaxObserver", "qint8", "per_channel_symmetric", -127, 127, 0.000244140625, 0, 0, 0, 0, 0 } },
    { "default_qat_qconfig", { "FakeQuantize", "MovingAverageMinMaxObserver", "quint8", "per_tensor_affine", 0, 127, 1.1920929e-07, 0.01, 0, -1, 0, 0 },
      { "FakeQuantize", "MovingAverageMinMaxObserver", "qint8", "per_tensor_symmetric", -128, 127, 1.1920929e-07, 0.01, 0, -1, 0, 0 } },
    { "default_qat_qconfig_v2", { "FusedMovingAvgObsFakeQuantize", "MovingAverageMinMaxObserver", "quint8", "per_tensor_affine", 0, 255, 1.1920929e-07, 0.01, 0, -1, 0, 0 },
      { "FusedMovingAvgObsFakeQuantize", "MovingAverageMinMaxObserver", "qint8", "per_tensor_symmetric", -128, 127, 1.1920929e-07, 0.01, 0, -1, 0, 0 } },
    { "default_qconfig", { "", "MinMaxObserver", "quint8", "per_tensor_affine", 0, 127, 1.1920929e-07, 0, 0, -1, 0, 0 },
      { "", "MinMaxObserver", "qint8", "per_tensor_symmetric", -128, 127, 1.1920929e-07, 0, 0, -1, 0, 0 } },
    { "default_quint8_weight_qconfig", { "", "HistogramObserver", "quint8", "per_tensor_affine", 0, 255, 1.1920929e-07, 0, 0, -1, 0, 0 },
      { "", "MinMaxObserver", "quint8", "per_tensor_affine", 0, 255, 1.1920929e-07, 0, 0, -1, 0, 0 } },
    { "default_reuse_input_qconfig", { "", "ReuseInputObserver", "quint8", "", 0, 0, 0, 0, 0, -1, 0, 0 },
      { "", "NoopObserver", "float16", "", 0, 0, 0, 0, 0, -1, 0, 0 } },
    { "default_symmetric_qnnpack_qat_qconfig", { "FusedMovingAvgObsFakeQuantize", "MovingAverageMinMaxObserver", "qint8", "per_tensor_affine", -128, 127, 0.000244140625, 0.01, 0, -1, 0, 0 },
      { "FusedMovingAvgObsFakeQuantize", "MovingAverageMinMaxObserver", "qint8", "per_tensor_symmetric", -127, 127, 0.000244140625, 0.01, 0, -1, 0, 0 } },
    { "default_symmetric_qnnpack_qconfig", { "", "HistogramObserver", "qint8", "per_tensor_affine", -128, 127, 0.000244140625, 0, 0, -1, 0, 0 },
      { "", "MinMaxObserver", "qint8", "per_tensor_symmetric", -127, 127, 0.000244140625, 0, 0, -1, 0, 0 } },
    { "default_weight_only_qconfig", { "", "", "", "", 0, 0, 0, 0, 0, -1, 0, 0 },
      { "FakeQuantize", "MovingAverageMinMaxObserver", "qint8", "per_tensor_symmetric", -128, 127, 1.1920929e-07, 0.01, 0, -1, 0, 0 } },
    { "float16_dynamic_qconfig", { "", "PlaceholderObserver", "float16", "per_tensor_affine", 0, 0, 1.1920929e-07, 0, 1, -1, 0, 0 },
      { "", "PlaceholderObserver", "float16", "per_tensor_affine", 0, 0, 1.1920929e-07, 0, 0, -1, 0, 0 } },
    { "float16_static_qconfig", { "", "PlaceholderObserver", "float16", "per_tensor_affine", 0, 0, 1.1920929e-07, 0, 0, -1, 0, 0 },
      { "", "PlaceholderObserver", "float16", "per_tensor_affine", 0, 0, 1.1920929e-07, 0, 0, -1, 0, 0 } },
    { "float_qparams_weight_only_qconfig", { "", "PlaceholderObserver", "float32", "per_tensor_affine", 0, 0, 1.1920929e-07, 0, 0, -1, 0, 0 },
      { "", "PerChannelMinMaxObserver", "quint8", "per_channel_affine_float_qparams", 0, 255, 1.1920929e-07, 0, 0, 0, 0, 0 } },
    { "float_qparams_weight_only_qconfig_4bit", { "", "PlaceholderObserver", "float32", "per_tensor_affine", 0, 0, 1.1920929e-07, 0, 0, -1, 0, 0 },
      { "", "PerChannelMinMaxObserver", "quint4x2", "per_channel_affine_float_qparams", 0, 15, 1.1920929e-07, 0, 0, 0, 0, 0 } },
    { "per_channel_dynamic_qconfig", { "", "PlaceholderObserver", "quint8", "per_tensor_affine", 0, 255, 1.1920929e-07, 0, 1, -1, 0, 0 },
      { "", "PerChannelMinMaxObserver", "qint8", "per_channel_symmetric", -128, 127, 1.1920929e-07, 0, 0, 0, 0, 0 } },
    { "fbgemm", { "", "HistogramObserver", "quint8", "per_tensor_affine", 0, 127, 1.1920929e-07, 0, 0, -1, 0, 0 },
      { "", "PerChannelMinMaxObserver", "qint8", "per_channel_symmetric", -128, 127, 1.1920929e-07, 0, 0, 0, 0, 0 } },
    { "fbgemm_qat_v0", { "FakeQuantize", "MovingAverageMinMaxObserver", "quint8", "per_tensor_affine", 0, 127, 1.1920929e-07, 0.01, 0, -1, 0, 0 },
      { "FakeQuantize", "MovingAveragePerChannelMinMaxObserver", "qint8", "per_channel_symmetric", -128, 127, 1.1920929e-07, 0.01, 0, 0, 0, 0 } },
    { "fbgemm_qat", { "FusedMovingAvgObsFakeQuantize", "MovingAverageMinMaxObserver", "quint8", "per_tensor_affine", 0, 127, 1.1920929e-07, 0.01, 0, -1, 0, 0 },
      { "FusedMovingAvgObsFakeQuantize", "MovingAveragePerChannelMinMaxObserver", "qint8", "per_channel_symmetric", -128, 127, 1.1920929e-07, 0.01, 0, 0, 0, 0 } },
    { "x86", { "", "HistogramObserver", "quint8", "per_tensor_affine", 0, 127, 1.1920929e-07, 0, 0, -1, 0, 0 },
      { "", "PerChannelMinMaxObserver", "qint8", "per_channel_symmetric", -128, 127, 1.1920929e-07, 0, 0, 0, 0, 0 } },
    { "x86_qat_v0", { "FakeQuantize", "MovingAverageMinMaxObserver", "quint8", "per_tensor_affine", 0, 127, 1.1920929e-07, 0.01, 0, -1, 0, 0 },
      { "FakeQuantize", "MovingAveragePerChannelMinMaxObserver", "qint8", "per_channel_symmetric", -128, 127, 1.1920929e-07, 0.01, 0, 0, 0, 0 } },
    { "x86_qat", { "FusedMovingAvgObsFakeQuantize", "MovingAverageMinMaxObserver", "quint8", "per_tensor_affine", 0, 127, 1.1920929e-07, 0.01, 0, -1, 0, 0 },
      { "FusedMovingAvgObsFakeQuantize", "MovingAveragePerChannelMinMaxObserver", "qint8", "per_channel_symmetric", -128, 127, 1.1920929e-07, 0.01, 0, 0, 0, 0 } },
    { "qnnpack", { "", "HistogramObserver", "quint8", "per_tensor_affine", 0, 255, 1.1920929e-07, 0, 0, -1, 0, 0 },
      { "", "MinMaxObserver", "qint8", "per_tensor_symmetric", -128, 127, 1.1920929e-07, 0, 0, -1, 0, 0 } },
    { "qnnpack_qat_v0", { "FakeQuantize", "MovingAverageMinMaxObserver", "quint8", "per_tensor_affine", 0, 255, 1.1920929e-07, 0.01, 0, -1, 0, 0 },
      { "FakeQuantize", "MovingAverageMinMaxObserver", "qint8", "per_tensor_symmetric", -128, 127, 1.1920929e-07, 0.01, 0, -1, 0, 0 } },
    { "qnnpack_qat", { "FusedMovingAvgObsFakeQuantize", "MovingAverageMinMaxObserver", "quint8", "per_tensor_affine", 0, 255, 1.1920929e-07, 0.01, 0, -1, 0, 0 },
      { "FusedMovingAvgObsFakeQuantize", "MovingAverageMinMaxObserver", "qint8", "per_tensor_symmetric", -128, 127, 1.1920929e-07, 0.01, 0, -1, 0, 0 } },
    { "onednn", { "", "HistogramObserver", "quint8", "per_tensor_affine", 0, 255, 1.1920929e-07, 0, 0, -1, 0, 0 },
      { "", "PerChannelMinMaxObserver", "qint8", "per_channel_symmetric", -128, 127, 1.1920929e-07, 0, 0, 0, 0, 0 } },
    { "onednn_qat_v0", { "FakeQuantize", "MovingAverageMinMaxObserver", "quint8", "per_tensor_affine", 0, 255, 1.1920929e-07, 0.01, 0, -1, 0, 0 },
      { "FakeQuantize", "MovingAveragePerChannelMinMaxObserver", "qint8", "per_channel_symmetric", -128, 127, 1.1920929e-07, 0.01, 0, 0, 0, 0 } },
    { "onednn_qat", { "FusedMovingAvgObsFakeQuantize", "MovingAverageMinMaxObserver", "quint8", "per_tensor_affine", 0, 255, 1.1920929e-07, 0.01, 0, -1, 0, 0 },
      { "FusedMovingAvgObsFakeQuantize", "MovingAveragePerChannelMinMaxObserver", "qint8", "per_channel_symmetric", -128, 127, 1.1920929e-07, 0.01, 0, 0, 0, 0 } },
    /* clang-format on */
};

static void check_part(const char *name, const rq_qconfig_part *p, const made *want)
{
    const rq_observer_cfg *o = rq_qconfig_observer(p);
    if (!want->observer[0]) {
        assert_null(o);
        return;
    }
    print_message("%s\n", name);
    assert_non_null(o);
    static const rq_fake_quantizer_kind kinds[] = { RQ_FAKE_QUANTIZER_STANDARD, RQ_FAKE_QUANTIZER_FUSED };
    assert_int_equal(p->form == RQ_QCONFIG_FAKE_QUANTIZER, want->fake_quantize[0] != 0);
    if (want->fake_quantize[0])
        assert_int_equal(p->fake_quantizer.kind, kinds[want->fake_quantize[2] == 's']);
    rq_observer_kind kind;
    assert_int_equal(rq_observer_kind_parse(&kind, want->observer, NULL), RQ_OK);
    assert_int_equal(o->kind, kind);
    assert_int_equal(p->dynamic, want->dynamic);
    if (!strncmp(want->dtype, "float", 5)) {
        assert_int_equal(o->type.dtype, want->dtype[5] == '1' ? RQ_DTYPE_F16 : RQ_DTYPE_F32);
        return;
    }
    rq_qtype type;
    assert_int_equal(rq_qtype_parse(&type, want->dtype, NULL), RQ_OK);
    assert_int_equal(o->type.dtype, type.dtype);
    if (!rq_qconfig_finds_scale(o))
        return;
    const rq_qtype codes = rq_qconfig_codes(o);
    assert_int_equal(codes.lo, want->quant_min);
    assert_int_equal(codes.hi, want->quant_max);
    rq_qscheme scheme;
    assert_int_equal(rq_qscheme_parse(&scheme, want->qscheme, NULL), RQ_OK);
    assert_int_equal(o->scheme, scheme);
    assert_true(o->eps == (float)want->eps);
    assert_int_equal(o->axis, want->axis);
    if (o->kind == RQ_OBSERVER_MOVING_AVERAGE)
        assert_true(o->averaging_constant == want->averaging_constant);
}

static void presets_are_what_pytorch_makes(void **state)
{
    (void)state;
    for (int i = 0; i < N(presets); i++) {
        rq_qconfig q;
        assert_int_equal(rq_qconfig_named(&q, presets[i].name, NULL), RQ_OK);
        check_part(presets[i].name, &q.activation, &presets[i].activation);
        check_part(presets[i].name, &q.weight, &presets[i].weight);
        assert_int_equal(rq_qconfig_check(&q, NULL, NULL, NULL), RQ_OK);
    }
    /* and there is none that was not compared, but those of Core ML Tools */
    rq_qconfig_preset_row row;
    for (int i = 0; rq_qconfig_preset(i, &row); i++) {
        bool found = !strncmp(row.name, "linear_quantizer", 16);
        for (int k = 0; k < N(presets); k++)
            found |= !strcmp(row.name, presets[k].name);
        if (!found)
            print_message("%s was not compared\n", row.name);
        assert_true(found);
    }
}

static void presets_make_instances(void **state)
{
    (void)state;
    rq_qconfig_preset_row row;
    for (int i = 0; rq_qconfig_preset(i, &row); i++) {
        rq_qconfig_made a, w;
        rq_err err = { 0 };
        print_message("%s\n", row.name);
        assert_int_equal(rq_qconfig_make_activation(&row.qconfig, &a, &err), RQ_OK);
        assert_int_equal(rq_qconfig_make_weight(&row.qconfig, "ConvTranspose2d", &w, &err), RQ_OK);
        assert_int_equal(a.observer != NULL, row.qconfig.activation.form == RQ_QCONFIG_OBSERVER);
        assert_int_equal(a.fake_quantizer != NULL, row.qconfig.activation.form == RQ_QCONFIG_FAKE_QUANTIZER);
        if (w.observer && rq_qscheme_is_per_channel(row.qconfig.weight.observer.scheme))
            assert_int_equal(rq_observer_cfg_of(w.observer)->axis, 1); /* output channels of a transposed convolution */
        rq_qconfig_made_release(&a);
        rq_qconfig_made_release(&w);
        assert_null(a.observer);
    }
    /* two layers have two observers */
    rq_qconfig q;
    rq_qconfig_made one, two;
    assert_int_equal(rq_qconfig_named(&q, "default_qconfig", NULL), RQ_OK);
    assert_int_equal(rq_qconfig_make_activation(&q, &one, NULL), RQ_OK);
    assert_int_equal(rq_qconfig_make_activation(&q, &two, NULL), RQ_OK);
    assert_true(one.observer != two.observer);
    rq_qconfig_made_release(&one);
    rq_qconfig_made_release(&two);
}

static void backends_have_defaults(void **state)
{
    (void)state;
    static const char *const backends[] = { "fbgemm", "x86", "qnnpack", "onednn" };
    for (int i = 0; i < N(backends); i++) {
        char name[32];
        rq_qconfig q, named;
        assert_int_equal(rq_qconfig_default(&q, backends[i], 0, NULL), RQ_OK);
        assert_int_equal(rq_qconfig_named(&named, backends[i], NULL), RQ_OK);
        assert_true(rq_qconfig_equal(&q, &named));
        for (int version = 0; version < 2; version++) {
            snprintf(name, sizeof name, "%s_qat%s", backends[i], version ? "" : "_v0");
            assert_int_equal(rq_qconfig_default_qat(&q, backends[i], version, NULL), RQ_OK);
            assert_int_equal(rq_qconfig_named(&named, name, NULL), RQ_OK);
            assert_true(rq_qconfig_equal(&q, &named));
            assert_false(rq_qconfig_watches_input(&q));
        }
    }
    rq_qconfig q;
    rq_err err = { 0 };
    assert_int_equal(rq_qconfig_default(&q, "fbgem", 0, &err), RQ_NOT_FOUND);
    assert_string_equal(err.text,
                        "unknown backend 'fbgem', expected fbgemm, x86, qnnpack or onednn; the nearest is 'fbgemm'");
    assert_int_equal(rq_qconfig_default(&q, "fbgemm", 1, &err), RQ_BAD_ARG);
    assert_string_equal(err.text,
                        "backend fbgemm has no default qconfig of version 1 for post-training quantization, only 0");
    assert_int_equal(rq_qconfig_default_qat(&q, "x86", 2, &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "backend x86 has no default qconfig of version 2 for training, only 0 and 1");
    assert_int_equal(rq_qconfig_named(&q, "default_qat_qconfg", &err), RQ_NOT_FOUND);
    assert_string_equal(err.text, "no qconfig is named 'default_qat_qconfg'; the nearest is 'default_qat_qconfig'");
    assert_int_equal(rq_qconfig_named(&q, "default_dynamic_qat_qconfig", NULL), RQ_OK);
    assert_true(rq_qconfig_watches_input(&q));
}

/* Core ML Tools: the defaults, and each field. */
static void linear_quantizer_configs(void **state)
{
    (void)state;
    rq_qconfig_linear c = rq_qconfig_linear_defaults();
    rq_qconfig q;
    rq_err err = { 0 };
    assert_int_equal(rq_qconfig_of_linear(&q, &c, &err), RQ_OK);
    const rq_observer_cfg *w = rq_qconfig_observer(&q.weight), *a = rq_qconfig_observer(&q.activation);
    assert_int_equal(q.weight.form, RQ_QCONFIG_FAKE_QUANTIZER);
    assert_int_equal(w->kind, RQ_OBSERVER_MOVING_AVERAGE);
    assert_int_equal(w->type.dtype, RQ_DTYPE_S8);
    assert_int_equal(w->type.lo, -128);
    assert_int_equal(w->type.hi, 127);
    assert_false(w->custom_range);
    assert_int_equal(w->scheme, RQ_QSCHEME_PER_CHANNEL_SYMMETRIC);
    assert_true(w->averaging_constant == 0.01);
    assert_int_equal(a->type.dtype, RQ_DTYPE_U8);
    assert_int_equal(a->scheme, RQ_QSCHEME_PER_TENSOR_SYMMETRIC);
    c.nonnegative = true; /* behind a ReLU: affine, so that 0..255 are used */
    assert_int_equal(rq_qconfig_of_linear(&q, &c, &err), RQ_OK);
    assert_int_equal(rq_qconfig_observer(&q.activation)->scheme, RQ_QSCHEME_PER_TENSOR_AFFINE);
    assert_int_equal(rq_qconfig_observer(&q.weight)->scheme, RQ_QSCHEME_PER_CHANNEL_SYMMETRIC);
    c = rq_qconfig_linear_defaults();
    c.learnable = c.affine = true;
    c.weight_per_channel = false;
    c.weight_observer = RQ_OBSERVER_EMA;
    c.weight = (rq_qtype) { RQ_DTYPE_U4, 0, 15 };
    assert_int_equal(rq_qconfig_of_linear(&q, &c, &err), RQ_OK);
    w = rq_qconfig_observer(&q.weight);
    assert_int_equal(q.weight.fake_quantizer.kind, RQ_FAKE_QUANTIZER_LEARNABLE);
    assert_int_equal(w->kind, RQ_OBSERVER_EMA);
    assert_true(w->ema_ratio == 0.9);
    assert_int_equal(w->type.dtype, RQ_DTYPE_U8); /* 4 bits live in bytes */
    assert_int_equal(w->type.hi, 15);
    assert_true(w->custom_range);
    assert_int_equal(w->scheme, RQ_QSCHEME_PER_TENSOR_AFFINE);
    c.weight.dtype = RQ_DTYPE_F32;
    c.activation = RQ_DTYPE_F32;
    assert_int_equal(rq_qconfig_of_linear(&q, &c, &err), RQ_OK);
    assert_null(rq_qconfig_observer(&q.weight));
    assert_null(rq_qconfig_observer(&q.activation));
    c.activation = RQ_DTYPE_S8;
    assert_int_equal(rq_qconfig_of_linear(&q, &c, &err), RQ_BAD_ARG);
    assert_string_equal(err.text, "activation_dtype is s8, expected quint8 or float32");
    c = rq_qconfig_linear_defaults();
    c.weight_observer = RQ_OBSERVER_HISTOGRAM;
    assert_int_equal(rq_qconfig_of_linear(&q, &c, &err), RQ_BAD_ARG);
    assert_string_equal(err.text,
                        "weight_observer is 'histogram', expected moving_average_min_max, min_max or ema_min_max");
    rq_qconfig preset;
    c = rq_qconfig_linear_defaults();
    assert_int_equal(rq_qconfig_of_linear(&q, &c, &err), RQ_OK);
    assert_int_equal(rq_qconfig_named(&preset, "linear_quantizer", &err), RQ_OK);
    assert_true(rq_qconfig_equal(&q, &preset));
}

/* ---- what is refused ---- */

static void refused(const rq_qconfig *q, const char *type, const char *executor, rq_status status, const char *sentence)
{
    rq_err err = { 0 };
    const rq_status got = rq_qconfig_check(q, type, executor, &err);
    assert_string_equal(err.text, sentence);
    assert_int_equal(got, status);
}

static void contradictions_are_errors(void **state)
{
    (void)state;
    rq_qconfig q = pair("default_observer", "default_weight_observer");
    q.activation.observer = rq_observer_defaults(RQ_OBSERVER_MINMAX);
    q.activation.observer.scheme = RQ_QSCHEME_PER_TENSOR_SYMMETRIC;
    q.activation.observer.reduce_range = true;
    refused(&q, NULL, NULL, RQ_BAD_ARG,
            "activation: symmetric unsigned codes have their zero in the middle of u8, which reduce_range moves; take "
            "per_tensor_affine, or a signed type");
    q = pair("default_observer", "default_weight_observer");
    q.activation.observer.scheme = RQ_QSCHEME_PER_CHANNEL_AFFINE;
    q.activation.observer.axis = 1;
    refused(&q, NULL, NULL, RQ_BAD_ARG,
            "activation: per_channel_affine: activations have one scale per tensor; only weights have one per channel");
    q = pair("default_observer", "default_weight_observer");
    q.weight.observer.axis = 0;
    refused(&q, NULL, NULL, RQ_BAD_ARG, "weight: per_tensor_symmetric with a channel axis");
    q = pair("default_observer", "default_per_channel_weight_observer");
    q.weight.observer.axis = RQ_PER_TENSOR;
    refused(&q, NULL, NULL, RQ_BAD_ARG, "weight: per_channel_symmetric without a channel axis");
    q = pair("default_observer", "default_weight_observer");
    q.weight.observer.type = rq_qtype_of(RQ_DTYPE_S32);
    refused(&q, NULL, NULL, RQ_BAD_ARG, "weight: codes of 32 bits are for biases, not for layers; at most 16 are");
    q = pair("default_observer", "default_weight_observer");
    q.activation.observer.type = (rq_qtype) { RQ_DTYPE_U8, 1, 127 };
    refused(&q, NULL, NULL, RQ_BAD_ARG,
            "activation: codes u8[1,127] leave 0 out: quant_min is at most 0 and quant_max at least 0");
    q = pair("default_observer", "default_weight_observer");
    q.activation.observer.type.hi = 300; /* a quint8 of 0..1000, which the original takes */
    rq_err err = { 0 };
    assert_int_not_equal(rq_qconfig_check(&q, NULL, NULL, &err), RQ_OK);
    assert_memory_equal(err.text, "activation: ", 12);
    q = pair("default_observer", "default_float_qparams_observer");
    refused(&q, "Linear", NULL, RQ_BAD_ARG,
            "weight: real zero points are for Embedding and EmbeddingBag, not for Linear");
    assert_int_equal(rq_qconfig_check(&q, "nn.Embedding", NULL, NULL), RQ_OK);
    q.weight.observer.type = rq_qtype_of(RQ_DTYPE_S8);
    refused(&q, "Embedding", NULL, RQ_BAD_ARG, "weight: real zero points are for unsigned codes from 0, not s8");
    q = pair("default_observer", "default_weight_observer");
    q.weight.dynamic = true;
    refused(&q, NULL, NULL, RQ_BAD_ARG,
            "weight: a weight is known before the layer runs: only activations are dynamic");
    q = pair("default_observer", "default_weight_observer");
    q.weight.observer = rq_observer_defaults(RQ_OBSERVER_HISTOGRAM);
    q.weight.observer.scheme = RQ_QSCHEME_PER_CHANNEL_SYMMETRIC;
    q.weight.observer.axis = 0;
    refused(&q, NULL, NULL, RQ_BAD_ARG, "weight: observer histogram knows one range per tensor, not one per channel");
    q = pair("default_observer", "default_fused_wt_fake_quant");
    q.weight.fake_quantizer.observer.kind = RQ_OBSERVER_EMA;
    refused(&q, NULL, NULL, RQ_BAD_ARG,
            "weight: the fused fake-quantizer has a moving average built in, not ema_min_max");
    q = pair("default_fixed_qparams_range_0to1_fake_quant", "identity");
    q.activation.fake_quantizer.kind = RQ_FAKE_QUANTIZER_STANDARD;
    refused(&q, NULL, NULL, RQ_BAD_ARG,
            "activation: the fake-quantizer of fixed scale and the observer 'fixed' go together, not with another "
            "fake-quantizer");
    q = pair("default_observer", "default_weight_observer");
    q.activation.observer.averaging_constant = 1.5;
    refused(&q, NULL, NULL, RQ_BAD_ARG, "activation: averaging_constant is 1.5, expected 0 to 1");
    q = pair("default_observer", "default_weight_observer");
    q.activation.observer.ema_ratio = NAN;
    refused(&q, NULL, NULL, RQ_BAD_ARG, "activation: ema_ratio is nan, expected 0 to below 1");
    q = pair("default_fake_quant", "default_weight_fake_quant");
    q.weight.fake_quantizer.rule = RQ_N_LEARNED_RULES;
    refused(&q, NULL, NULL, RQ_BAD_ARG, "weight: rule 2 of learned quantization is none");
    q = pair("default_fake_quant", "default_weight_fake_quant");
    q.activation.fake_quantizer.kind = RQ_N_FAKE_QUANTIZERS;
    refused(&q, NULL, NULL, RQ_BAD_ARG, "activation: fake-quantizer 5 is none");
    q = pair("default_observer", "default_weight_observer");
    q.weight.observer.kind = RQ_OBSERVER_FIXED;
    refused(&q, NULL, NULL, RQ_BAD_ARG, "weight: observer fixed is for activations");
}

static void what_an_executor_cannot_is_an_error(void **state)
{
    (void)state;
    rq_qconfig q;
    refused(NULL, NULL, "fbgem", RQ_NOT_FOUND, "unknown executor 'fbgem'; the nearest is 'fbgemm'");
    assert_int_equal(rq_qconfig_check(NULL, "Linear", "fbgemm", NULL), RQ_OK);
    /* every backend can run its own defaults, and what is said to be for it */
    rq_qconfig_preset_row row;
    for (int i = 0; rq_qconfig_preset(i, &row); i++)
        if (row.backend) {
            rq_err err = { 0 };
            assert_int_equal(rq_qconfig_check(&row.qconfig, "Linear", row.backend, &err), RQ_OK);
            assert_int_equal(rq_qconfig_check(&row.qconfig, "Conv2d", "requant", &err), RQ_OK);
        }
    q = pair("histogram_observer_qint8_eps_2_12", "weight_observer_range_neg_127_to_127");
    assert_int_equal(rq_qconfig_check(&q, "Conv2d", "qnnpack", NULL), RQ_OK);
    assert_int_equal(rq_qconfig_check(&q, "Conv2d", "requant", NULL), RQ_OK);
    assert_int_equal(rq_qconfig_check(&q, "Linear", "onednn", NULL), RQ_OK);
    refused(&q, "Conv2d", "onednn", RQ_UNSUPPORTED, "onednn takes activations of type u8, not s8");
    refused(&q, "Linear", "fbgemm", RQ_UNSUPPORTED, "fbgemm takes activations of type u8, not s8");
    refused(&q, "Linear", "x86", RQ_UNSUPPORTED, "x86 takes activations of type u8, not s8");
    q.weight.observer.eps = 0x1p-23f;
    refused(&q, "Conv2d", "qnnpack", RQ_UNSUPPORTED,
            "with s8 activations qnnpack takes symmetric weights in -127..127, and eps of at least 2^-12 for both; "
            "default_symmetric_qnnpack_qconfig is such");
    q = pair("histogram_observer", "default_per_channel_weight_observer");
    refused(&q, "torch.nn.ConvTranspose2d", "fbgemm", RQ_UNSUPPORTED,
            "fbgemm has no ConvTranspose with a scale per channel; take per_tensor_symmetric");
    assert_int_equal(rq_qconfig_check(&q, "ConvTranspose2d", "requant", NULL), RQ_OK);
    q.weight.observer.scheme = RQ_QSCHEME_PER_CHANNEL_AFFINE;
    refused(&q, "Linear", "onednn", RQ_UNSUPPORTED, "onednn takes symmetric weights only, not per_channel_affine");
    assert_int_equal(rq_qconfig_check(&q, "Linear", "fbgemm", NULL), RQ_OK);
    q = pair("histogram_observer", "default_quint8_weight_observer");
    refused(&q, "Linear", "x86", RQ_UNSUPPORTED, "x86 takes weights of type s8, not u8");
    assert_int_equal(rq_qconfig_check(&q, "PReLU", "x86", NULL), RQ_OK);
    q = pair("histogram_observer_qint8_eps_2_12", "default_quint8_weight_observer");
    refused(&q, "Linear", "onnxruntime", RQ_UNSUPPORTED,
            "onnxruntime takes s8 activations with signed weights only, not u8");
    q = pair("default_observer", "default_weight_observer");
    q.activation.observer.type.hi = 15;
    refused(&q, "Linear", "fbgemm", RQ_UNSUPPORTED,
            "activations in u8[0,15] cannot be kept there: fbgemm saturates at the ends of u8 (a reduced range is a "
            "choice of scale, and allowed)");
    q.activation.observer.type = rq_qtype_of(RQ_DTYPE_F8E4M3FN);
    refused(&q, "Linear", "requant", RQ_UNSUPPORTED,
            "no executor multiplies f8e4m3fn: it can be emulated in training only");
    assert_int_equal(rq_qconfig_check(&q, "Linear", NULL, NULL), RQ_OK);
    q = pair("default_debug_observer", "default_weight_observer");
    refused(&q, "Linear", "requant", RQ_UNSUPPORTED,
            "observer recording of the activation finds no scale: nothing can run by it");
    q = pair("float16_observer", "float16_observer");
    refused(&q, "Linear", "fbgemm", RQ_UNSUPPORTED, "fbgemm runs float16 only where activations are measured");
    q = pair("float16_dynamic_observer", "float16_observer");
    assert_int_equal(rq_qconfig_check(&q, "Linear", "fbgemm", NULL), RQ_OK);
    refused(&q, "Linear", "qnnpack", RQ_UNSUPPORTED, "qnnpack has no float16 weights");
    q = pair("default_dynamic_quant_observer", "default_weight_observer");
    assert_int_equal(rq_qconfig_check(&q, "LSTM", "qnnpack", NULL), RQ_OK);
    refused(
        &q, "Conv2d", "fbgemm", RQ_UNSUPPORTED,
        "fbgemm measures no activations of Conv2d, only of Linear,LinearReLU,LSTM,GRU,LSTMCell,RNNCell,GRUCell,linear");
    refused(&q, NULL, "coreml", RQ_UNSUPPORTED, "coreml measures no activations of any layer");
    q.activation.observer.reduce_range = true;
    refused(&q, "Linear", "qnnpack", RQ_UNSUPPORTED, "qnnpack ignores reduce_range of measured activations");
    assert_int_equal(rq_qconfig_check(&q, "Linear", "fbgemm", NULL), RQ_OK);
    q = pair("default_placeholder_observer", "default_float_qparams_observer");
    assert_int_equal(rq_qconfig_check(&q, "Embedding", "fbgemm", NULL), RQ_OK);
    refused(&q, "Embedding", "requant", RQ_UNSUPPORTED, "requant has no zero points that are real numbers");
    q = pair("default_placeholder_observer", "default_per_channel_weight_observer");
    refused(&q, "Embedding", "qnnpack", RQ_UNSUPPORTED,
            "qnnpack takes embedding weights with real zero points only, not per_channel_symmetric");
    assert_int_equal(rq_qconfig_check(&q, "Embedding", "requant", NULL), RQ_OK);
    q = pair("identity", "default_weight_fake_quant");
    refused(&q, "Linear", "fbgemm", RQ_UNSUPPORTED, "fbgemm has no Linear with only its weight in codes");
    assert_int_equal(rq_qconfig_check(&q, "Linear", "requant", NULL), RQ_OK);
    q = pair("default_fake_quant", "identity");
    refused(&q, "Conv2d", "x86", RQ_UNSUPPORTED, "x86 has no Conv2d with only its activation in codes");
    assert_int_equal(rq_qconfig_named(&q, "linear_quantizer", NULL), RQ_OK);
    assert_int_equal(rq_qconfig_check(&q, "Conv2d", "coreml", NULL), RQ_OK);
    q = pair("histogram_observer_reduced", "default_weight_observer");
    refused(&q, "Conv2d", "coreml", RQ_UNSUPPORTED,
            "activations in u8[0,127] cannot be kept there: coreml saturates at the ends of u8 (a reduced range is a "
            "choice of scale, and allowed)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_are_what_pytorch_makes), cmocka_unit_test(presets_make_instances),
        cmocka_unit_test(backends_have_defaults),         cmocka_unit_test(linear_quantizer_configs),
        cmocka_unit_test(contradictions_are_errors),      cmocka_unit_test(what_an_executor_cannot_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
