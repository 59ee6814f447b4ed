/* Descriptors: list D of docs/calibration-facts.md 7, the text forms, and what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "requant/requant.h"

static rq_err err;

static void text_is(const rq_quant_desc *d, const char *want)
{
    char text[256];
    assert_int_equal(rq_quant_desc_text(d, text, sizeof text), strlen(want));
    assert_string_equal(text, want);
}

static void yaml_is(const rq_quant_desc *d, bool compat, const char *want)
{
    char text[512];
    assert_int_equal(rq_quant_desc_to_yaml(d, compat, text, sizeof text), strlen(want));
    assert_string_equal(text, want);
}

/* Written and read back by both forms; what the original's drops is dropped. */
static void round_trips(const rq_quant_desc *d)
{
    char text[1024];
    for (int compat = 0; compat < 2; compat++) {
        rq_quant_desc back, want;
        assert_true(rq_quant_desc_to_yaml(d, compat, text, sizeof text) > 0);
        assert_int_equal(rq_quant_desc_from_yaml(&back, text, &err), RQ_OK);
        assert_int_equal(rq_quant_desc_copy(&want, d), RQ_OK);
        if (compat) {
            want.narrow_range = false;
            want.calib_method = RQ_CALIBRATOR_MAX;
        }
        assert_true(rq_quant_desc_equal(&back, &want));
        rq_quant_desc_release(&back);
        rq_quant_desc_release(&want);
    }
}

/* UTF-8 of one character, surrogates too; returns behind it. */
static char *put_character(char *p, unsigned c)
{
    if (c < 0x80) {
        *p++ = (char)c;
    } else if (c < 0x800) {
        *p++ = (char)(0xC0 | c >> 6);
        *p++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *p++ = (char)(0xE0 | c >> 12);
        *p++ = (char)(0x80 | (c >> 6 & 63));
        *p++ = (char)(0x80 | (c & 63));
    } else {
        *p++ = (char)(0xF0 | c >> 18);
        *p++ = (char)(0x80 | (c >> 12 & 63));
        *p++ = (char)(0x80 | (c >> 6 & 63));
        *p++ = (char)(0x80 | (c & 63));
    }
    return p;
}

/* Every character of Unicode, 256 in a name: what is written loads again as it was. */
static void names_hold_any_character(void **state)
{
    (void)state;
    char name[2048], text[8192], *end;
    for (unsigned first = 0; first <= 0x10FFFF; first += 256) {
        if (first >= 0xD800 && first < 0xE000)
            continue;
        end = name;
        for (unsigned c = first ? first : 1; c < first + 256; c++)
            end = put_character(end, c);
        *end = 0;
        rq_quant_desc d, back;
        rq_quant_desc_init(&d);
        assert_int_equal(rq_quant_desc_set_name(&d, name), RQ_OK);
        assert_in_range(rq_quant_desc_to_yaml(&d, false, text, sizeof text), 1, sizeof text - 1);
        if (rq_quant_desc_from_yaml(&back, text, &err))
            fail_msg("U+%04X...: %s", first, err.text);
        assert_string_equal(back.name, name);
        rq_quant_desc_release(&back);
        rq_quant_desc_release(&d);
    }
}

/* Bytes that are part of no character cannot be written; U+FFFD stands for them, and the rest is as it was. */
static void names_that_are_not_utf8_are_written_as_far_as_they_are(void **state)
{
    (void)state;
    static const struct {
        const char *name, *reads;
    } cases[] = {
        { "a\x81z", "a\xEF\xBF\xBDz" },                                             /* a lone continuation */
        { "a\xC0\x80z", "a\xEF\xBF\xBD\xEF\xBF\xBDz" },                             /* longer than it needs to be */
        { "a\xED\xA0\x80", "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD" },               /* a surrogate */
        { "\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD" }, /* above U+10FFFF */
        { "a\xC3", "a\xEF\xBF\xBD" },                                               /* cut off */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[1024];
        rq_quant_desc d, back;
        rq_quant_desc_init(&d);
        assert_int_equal(rq_quant_desc_set_name(&d, cases[i].name), RQ_OK);
        assert_true(rq_quant_desc_to_yaml(&d, false, text, sizeof text) > 0);
        assert_int_equal(rq_quant_desc_from_yaml(&back, text, &err), RQ_OK);
        assert_string_equal(back.name, cases[i].reads);
        rq_quant_desc_release(&back);
        rq_quant_desc_release(&d);
    }
}

static void d1_widths_and_defaults(void **state)
{
    (void)state;
    rq_quant_desc d;
    rq_quant_desc_init(&d);
    assert_true(d.num_bits == 8 && !d.e4m3 && d.n_axes == 0 && d.amax.dtype == RQ_DTYPE_NONE && !d.learn_amax &&
                d.fake_quant && !d.is_unsigned && !d.narrow_range && !d.name && !d.has_scale_amax);
    for (d.num_bits = 0; d.num_bits < 16; d.num_bits++) {
        assert_int_equal(rq_quant_desc_check(&d, &err), RQ_OK);
        round_trips(&d);
    }
    d.num_bits = -1;
    assert_int_equal(rq_quant_desc_check(&d, &err), RQ_BAD_ARG);
}

static void d2_what_is_given_is_kept(void **state)
{
    (void)state;
    rq_quant_desc d;
    rq_quant_desc_init(&d);
    assert_int_equal(rq_quant_desc_set_axes(&d, (int[]) { 0, 1, 3 }, 3, &err), RQ_OK);
    assert_true(d.n_axes == 3 && d.axis[2] == 3);
    round_trips(&d);
    rq_quant_desc_init(&d);
    assert_int_equal(rq_quant_desc_set_amax(&d, (float[]) { 0.7f }, NULL), RQ_OK);
    assert_true(d.amax.f32[0] == 0.7f && d.amax.shape.rank == 0);
    d.is_unsigned = true;
    d.learn_amax = true;
    assert_int_equal(rq_quant_desc_check(&d, &err), RQ_OK);
    round_trips(&d);
    rq_quant_desc_release(&d);
}

static void refuses(const char *yaml, const char *sentence)
{
    rq_quant_desc d;
    assert_int_equal(rq_quant_desc_from_yaml(&d, yaml, &err), RQ_BAD_ARG);
    if (!strstr(err.text, sentence))
        fail_msg("%s: %s", yaml, err.text);
}

static void d3_what_is_refused(void **state)
{
    (void)state;
    refuses("amax: oops", "must be float, list or ndarray");
    refuses("{amax: oops, learn_amax: true}", "must be float, list or ndarray");
    refuses("{axis: 1, learn_amax: true}", "axis is ignored and must be None");
    refuses("{axis: [0, 1], learn_amax: true, amax: 1.5}", "axis is ignored and must be None");
    refuses("name: 5", "name must be a string or None");
    refuses("name: [a]", "name must be a string or None");
    refuses("num_bits: 8.0", "num_bits must be");
    refuses("num_bits: [5, 2]", "(4, 3)");
    refuses("num_bits: [4, 3, 1]", "num_bits must be");
    refuses("num_bits: -3", "expected 0 or more");
    refuses("bits: 8", "Unused keys: bits");
    refuses("calib_method: mean", "max or histogram");
    refuses("fake_quant: 1", "true or false");
    refuses("axis: one", "axis must be");
    refuses("axis: [0, 0]", "twice");
    refuses("axis: [0,1,2,3,4,5,6,7,8]", "axis must be");
    refuses("amax: [[1, 2], [3]]", "lists of one length");
    refuses("amax: &a [*a]", "amax must be");
    refuses("amax: [[[[[[[[[1]]]]]]]]]", "levels");
    refuses("{a: &a [1,1,1,1,1,1,1,1,1,1], amax: [*a]}", "Unused keys");
    refuses("amax: 0x10", "float, list or ndarray");
    refuses("scale_amax: much", "scale_amax must be");
    refuses("scale_amax: .nan", "not a finite number");
    refuses("{amax: [1, 2], learn_amax: true}", "a single amax");
    refuses("- 8", "a map of keys and values");
    refuses("", "a map of keys and values");
    refuses("num_bits: [", "line");
}

static void d4_a_list_is_an_array(void **state)
{
    (void)state;
    rq_quant_desc d;
    assert_int_equal(rq_quant_desc_from_yaml(&d, "{amax: [1.3, 1.4], axis: 0}", &err), RQ_OK);
    assert_true(d.amax.dtype == RQ_DTYPE_F32 && d.amax.shape.rank == 1 && d.amax.f32[0] == 1.3f &&
                d.amax.f32[1] == 1.4f);
    round_trips(&d);
    text_is(&d, "QuantDescriptor(8bit fake axis=0 amax=[1.3 1.4] full_range)");
    rq_quant_desc_release(&d);
    assert_int_equal(rq_quant_desc_from_yaml(&d, "amax: [[1, 2.5], [-3, 1e-05]]", &err), RQ_OK);
    assert_true(d.amax.shape.rank == 2 && d.amax.f32[3] == 1e-5f);
    yaml_is(&d, true, "amax:\n- - 1.0\n  - 2.5\n- - -3.0\n  - 9.999999747378752e-06\nname: null\nnum_bits: 8\n");
    round_trips(&d);
    rq_quant_desc_release(&d);
}

static void d5_round_trips(void **state)
{
    (void)state;
    rq_quant_desc d;
    rq_quant_desc_init(&d);
    d.num_bits = 2;
    assert_int_equal(rq_quant_desc_set_name(&d, "a name"), RQ_OK);
    assert_int_equal(rq_quant_desc_set_axes(&d, (int[]) { 1, 2 }, 2, &err), RQ_OK);
    assert_int_equal(rq_quant_desc_set_amax(&d, (float[]) { 3.1415926536f }, NULL), RQ_OK);
    round_trips(&d);
    rq_quant_desc_release(&d);
    d.num_bits = 2;
    d.is_unsigned = true;
    assert_int_equal(rq_quant_desc_set_amax(&d, (float[]) { 0.1f }, NULL), RQ_OK);
    round_trips(&d);
    d.narrow_range = true;
    d.calib_method = RQ_CALIBRATOR_HISTOGRAM;
    d.has_scale_amax = true;
    d.scale_amax = 0.1;
    d.fake_quant = false;
    rq_quant_desc_set_axis(&d, -2);
    round_trips(&d);
    rq_quant_desc_release(&d);
    static const char *const names[] = { "null",        "5",   "true", "a: b",         "\"quoted\"",
                                         "back\\slash", "#",   "",     "line\nbreak",  "- x",
                                         "n",           "1e3", "[x]",  "conv1.weight", "été",
                                         "\x01",        "e4m3" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(rq_quant_desc_set_name(&d, names[i]), RQ_OK);
        round_trips(&d);
    }
    rq_quant_desc_release(&d);
}

/* What the original prints and writes. */
static void texts_of_the_original(void **state)
{
    (void)state;
    rq_quant_desc d;
    rq_quant_desc_init(&d);
    text_is(&d, "QuantDescriptor(8bit fake axis= per-tensor)");
    yaml_is(&d, true, "name: null\nnum_bits: 8\n");
    rq_quant_desc_set_axis(&d, 0);
    assert_int_equal(rq_quant_desc_set_name(&d, "w"), RQ_OK);
    text_is(&d, "w: (8bit fake axis=0)");
    rq_quant_desc_release(&d);
    d.num_bits = 4;
    d.is_unsigned = true;
    d.fake_quant = false;
    assert_int_equal(rq_quant_desc_set_axes(&d, (int[]) { 0, 1 }, 2, &err), RQ_OK);
    text_is(&d, "QuantDescriptor(unsigned 4bit real axis=(0, 1))");
    yaml_is(&d, true, "axis:\n- 0\n- 1\nfake_quant: false\nname: null\nnum_bits: 4\nunsigned: true\n");
    rq_quant_desc_init(&d);
    d.learn_amax = true;
    d.has_scale_amax = true;
    d.scale_amax = 0.9;
    assert_int_equal(rq_quant_desc_set_amax(&d, (float[]) { 1.5f }, NULL), RQ_OK);
    text_is(&d, "QuantDescriptor(8bit fake axis= per-tensor amax=1.5 full_range learn_amax scale_amax=0.9)");
    yaml_is(&d, true, "amax: 1.5\nlearn_amax: true\nname: null\nnum_bits: 8\nscale_amax: 0.9\n");
    rq_quant_desc_release(&d);
    assert_int_equal(rq_quant_desc_set_float(&d, 4, 3, &err), RQ_OK);
    text_is(&d, "QuantDescriptor((4, 3)bit fake axis= per-tensor)");
    round_trips(&d);
    /* ours says everything */
    rq_quant_desc_set_axis(&d, 1);
    yaml_is(
        &d, false,
        "amax: null\naxis: 1\ncalib_method: max\nfake_quant: true\nlearn_amax: false\nname: null\nnarrow_range: false\n"
        "num_bits: e4m3\nscale_amax: null\nunsigned: false\n");
    assert_int_equal(rq_quant_desc_set_float(&d, 5, 2, &err), RQ_BAD_ARG);
    assert_int_equal(rq_quant_desc_set_float(&d, 7, 3, &err), RQ_BAD_ARG);
    /* cut, as snprintf does */
    char six[6];
    assert_int_equal(rq_quant_desc_text(&d, six, sizeof six), strlen("QuantDescriptor((4, 3)bit fake axis=1)"));
    assert_string_equal(six, "Quant");
    assert_int_equal(rq_quant_desc_text(&d, NULL, 0), strlen("QuantDescriptor((4, 3)bit fake axis=1)"));
}

static void predefined(void **state)
{
    (void)state;
    for (int i = 0; i < RQ_N_QUANT_DESCS; i++) {
        const char *name = rq_quant_desc_preset_name((rq_quant_desc_kind)i);
        rq_quant_desc_kind back;
        assert_int_equal(rq_quant_desc_preset_parse(&back, name, &err), RQ_OK);
        assert_int_equal(back, i);
        rq_quant_desc d = rq_quant_desc_preset((rq_quant_desc_kind)i), plain;
        rq_quant_desc_init(&plain);
        assert_int_equal(rq_quant_desc_check(&d, &err), RQ_OK);
        plain.is_unsigned = strstr(name, "UNSIGNED");
        if (strstr(name, "WEIGHT"))
            rq_quant_desc_set_axis(&plain, strstr(name, "TRANSPOSE") ? 1 : 0);
        assert_true(rq_quant_desc_equal(&d, &plain));
        plain.narrow_range = true;
        assert_false(rq_quant_desc_equal(&d, &plain));
    }
    rq_quant_desc_kind back;
    assert_int_equal(rq_quant_desc_preset_parse(&back, "QUANT_DESC_9BIT", &err), RQ_BAD_ARG);
}

static void equality(void **state)
{
    (void)state;
    rq_quant_desc a, b;
    assert_int_equal(rq_quant_desc_from_yaml(&a, "{amax: [1, 2], name: w, axis: 0}", &err), RQ_OK);
    assert_int_equal(rq_quant_desc_copy(&b, &a), RQ_OK);
    assert_true(rq_quant_desc_equal(&a, &b));
    b.amax.f32[1] = 3;
    assert_false(rq_quant_desc_equal(&a, &b));
    b.amax.f32[1] = 2;
    assert_int_equal(rq_quant_desc_set_name(&b, NULL), RQ_OK);
    assert_false(rq_quant_desc_equal(&a, &b));
    rq_quant_desc_release(&a);
    rq_quant_desc_release(&b);
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    const size_t live = rq_mem_live();
    for (size_t n = 1;; n++) {
        rq_quant_desc d, copy;
        rq_quant_desc_init(&copy);
        char text[256];
        rq_mem_fail_after(n, false);
        rq_status st = rq_quant_desc_from_yaml(&d, "{amax: [[1, 2], [3, 4]], name: a name, axis: [0, 1]}", &err);
        if (!st)
            st = rq_quant_desc_copy(&copy, &d);
        if (!st && rq_quant_desc_to_yaml(&copy, false, text, sizeof text) < 0)
            st = RQ_NO_MEMORY;
        if (!st && rq_quant_desc_text(&copy, text, sizeof text) < 0)
            st = RQ_NO_MEMORY;
        rq_mem_fail_after(0, false);
        if (st)
            assert_int_equal(st, RQ_NO_MEMORY);
        rq_quant_desc_release(&d);
        rq_quant_desc_release(&copy);
        assert_int_equal(rq_mem_live(), live);
        if (!st) {
            assert_true(n > 6);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_hold_any_character),
        cmocka_unit_test(names_that_are_not_utf8_are_written_as_far_as_they_are),
        cmocka_unit_test(d1_widths_and_defaults),
        cmocka_unit_test(d2_what_is_given_is_kept),
        cmocka_unit_test(d3_what_is_refused),
        cmocka_unit_test(d4_a_list_is_an_array),
        cmocka_unit_test(d5_round_trips),
        cmocka_unit_test(texts_of_the_original),
        cmocka_unit_test(predefined),
        cmocka_unit_test(equality),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
