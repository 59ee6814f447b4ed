/* Networks that coremltools.optimize.torch compressed: an ONNX file and its state dict become the program that coremltools' converter makes of the network
 * itself (tests/golden/coreml_metadata): the same operations around each weight, the same integers. And what is refused. */
#include <math.h>

#include "base/mem.h"
#include "formats/coreml_help.h"

#include "coreml/program_help.h"
#include "formats/mil_constexpr.h"
#include "requant/coreml_optimize.h"
#include "requant/requant.h"

#define FOLDER "tests/golden/coreml_metadata/"

typedef struct side {
    rq_coreml *m;
    rq_mil_constants constants;
    rq_arena a;
    const rq_mil_block *b;
} side;

static void side_of(side *s, rq_coreml *m)
{
    *s = (side) { .m = m, .b = m->program.functions[0]->block };
    OK(rq_mil_constants_of(&s->constants, s->b, NULL, &s->a, &err));
}

static void side_end(side *s)
{
    rq_coreml_close(s->m);
    rq_arena_release(&s->a);
}

static const rq_mil_op *next_constexpr(const side *s, int *i)
{
    while (*i < s->b->n_ops && !rq_mil_is_constexpr(s->b->ops[*i]))
        ++*i;
    return *i < s->b->n_ops ? s->b->ops[(*i)++] : NULL;
}

static const char *differ(const rq_tensor *a, const rq_tensor *b)
{
    if (!a->data != !b->data)
        return "is there in one only";
    if (!a->data)
        return NULL;
    if (a->dtype != b->dtype || !rq_shape_equal(&a->shape, &b->shape))
        return "has another type or shape";
    for (int64_t i = 0; i < rq_tensor_count(a); i++)
        if (rq_tensor_get(a, i) != rq_tensor_get(b, i))
            return "has other numbers";
    return NULL;
}

/* Params of both that are constants. */
static void same_params(const char *name, const side *x, const side *y, const rq_mil_op *p, const rq_mil_op *q)
{
    static const char *const params[] = { "data",         "quantized_data", "scale",        "offset",
                                          "zero_point",   "indices",        "lut",          "mask",
                                          "nonzero_data", "data_mask",      "indices_mask", "indices_nonzero_data" };
    for (size_t i = 0; i < sizeof params / sizeof params[0]; i++) {
        rq_tensor a, b;
        OK(rq_mil_param(&a, x->m, &x->constants, p, params[i], &err));
        OK(rq_mil_param(&b, y->m, &y->constants, q, params[i], &err));
        const char *why = differ(&a, &b);
        if (why)
            fail_msg("%s: %s of %s '%s' %s", name, params[i], p->type, rq_mil_op_name(p), why);
        rq_tensor_release(&a);
        rq_tensor_release(&b);
    }
}

static void same_program(const char *name, const side *x, const side *y)
{
    int i = 0, k = 0;
    for (;;) {
        const rq_mil_op *p = next_constexpr(x, &i), *q = next_constexpr(y, &k);
        if (!p && !q)
            return;
        if (!p || !q || strcmp(p->type, q->type) != 0)
            fail_msg("%s: got %s '%s', expected %s '%s'", name, p ? p->type : "nothing", p ? rq_mil_op_name(p) : "",
                     q ? q->type : "nothing", q ? rq_mil_op_name(q) : "");
        same_params(name, x, y, p, q);
    }
}

static rq_coreml *convert(const char *name, rq_coreml_target target, bool half)
{
    char path[200];
    rq_graph *g;
    rq_coreml *m;
    const rq_coreml_cfg cfg = { .target = target, .compute = half ? RQ_COREML_COMPUTE_F16 : RQ_COREML_COMPUTE_F32 };
    snprintf(path, sizeof path, FOLDER "%s.onnx", name);
    OK(rq_load(&g, path, &err));
    OK(rq_coreml_from_graph(&m, g, &cfg, NULL, &err));
    rq_graph_destroy(g);
    return m;
}

static rq_state *state_of(const char *name)
{
    char path[200];
    rq_state *s;
    snprintf(path, sizeof path, FOLDER "%s.safetensors", name);
    OK(rq_state_load(&s, path, &err));
    return s;
}

static void run_case(const json_t *c)
{
    const char *name = json_string_value(json_object_get(c, "name"));
    const bool new = !strcmp(json_string_value(json_object_get(c, "target")), "ios18");
    const bool half = json_is_true(json_object_get(c, "half"));
    const char *package = json_string_value(json_object_get(c, "package"));
    rq_coreml *m = convert(name, new ? RQ_COREML_IOS18 : RQ_COREML_IOS16, half), *want;
    rq_state *state = state_of(name);
    const rq_status s = rq_coreml_apply_metadata(m, state, false, NULL, &err);
    rq_state_destroy(state);
    if (!package) {
        if (!s)
            fail_msg("%s: coremltools refuses: %s", name, json_string_value(json_object_get(c, "error")));
        rq_coreml_close(m);
        return;
    }
    if (s)
        fail_msg("%s: %s", name, err.text);
    char path[300], got[200];
    snprintf(path, sizeof path, FOLDER "%s", package);
    snprintf(got, sizeof got, "%s/metadata.mlpackage", RQ_TEST_TMP);
    OK(rq_coreml_save(m, got, &err));
    rq_coreml_close(m);
    OK(rq_coreml_open(&m, got, &err));
    OK(rq_coreml_open(&want, path, &err));
    side x, y;
    side_of(&x, m);
    side_of(&y, want);
    same_program(package, &x, &y);
    side_end(&x);
    side_end(&y);
}

static void integers_are_those_of_coremltools(void **state)
{
    json_t *cases = json_load_file(FOLDER "programs.json", 0, NULL);
    const char *only = getenv("METADATA");
    assert_non_null(cases);
    for (size_t i = 0; i < json_array_size(cases); i++)
        if (!only || strstr(json_string_value(json_object_get(json_array_get(cases, i), "name")), only))
            run_case(json_array_get(cases, i));
    json_decref(cases);
    (void)state;
}

/* ---- by hand ---- */

static void set(rq_state *s, const char *name, rq_dtype d, int rank, const int64_t *dim, const void *data)
{
    const rq_shape shape = rq_shape_of(rank, dim);
    rq_tensor t = rq_tensor_view(d, &shape, (void *)data);
    OK(rq_state_set(s, NULL, name, &t));
}

#define ONE(x)                                                                                                         \
    RQ_DTYPE_S64, 1, (const int64_t[]) { 1 }, &(const int64_t)                                                         \
    {                                                                                                                  \
        x                                                                                                              \
    }

/* [4, 6]: the columns of a matmul's constant [6, 4]. */
static const float scales[4] = { 0.5f, 0.25f, 1, 2 };

static void fill(float *w, float *turned)
{
    for (int o = 0; o < 4; o++)
        for (int i = 0; i < 6; i++)
            turned[i * 4 + o] = w[o * 6 + i] = (float)((o * 7 + i * 5) % 15 - 7) * scales[o];
}

static void program_matmul(program *p, const float *turned)
{
    program_begin(p, 9, DIMS(1, 6));
    program_const(p, "onnx__MatMul_7", turned, DIMS(6, 4));
    program_op(p, "matmul", "product", "x", "y", "onnx__MatMul_7", DIMS(1, 4));
}

static void a_transposed_weight_is_found_by_its_numbers(void **state)
{
    float w[24], turned[24];
    program p;
    rq_state *s;
    fill(w, turned);
    program_matmul(&p, turned);
    OK(rq_state_create(&s));
    set(s, "fc.weight", RQ_DTYPE_F32, DIMS(4, 6), w);
    set(s, "fc._COREML_/weight/compression_type", ONE(3));
    set(s, "fc._COREML_/weight/quantization_n_bits", ONE(4));
    set(s, "fc._COREML_/weight/quantization_scale", RQ_DTYPE_F32, DIMS(4, 1), scales);
    set(s, "_COREML_/metadata_version", ONE(1));
    OK(rq_coreml_apply_metadata(p.m, s, false, NULL, &err));
    const rq_mil_op *op = program_weight(&p, "product");
    char buf[100];
    assert_string_equal(op->type, "constexpr_blockwise_shift_scale");
    assert_string_equal(program_param(op, "data", buf, sizeof buf), "int4[6,4]");
    assert_string_equal(program_param(op, "scale", buf, sizeof buf), "fp32[1,4]");
    assert_string_equal(program_param(op, "offset", buf, sizeof buf), "none");
    rq_arena a = { 0 };
    rq_mil_constants c;
    rq_tensor t;
    OK(rq_mil_constants_of(&c, p.b, NULL, &a, &err));
    OK(rq_mil_constexpr(&t, p.m, &c, op, 0, &err));
    assert_memory_equal(t.data, turned, sizeof turned);
    rq_tensor_release(&t);
    rq_arena_release(&a);
    rq_state_destroy(s);
    program_end(&p);
    (void)state;
}

static void pruned_palettized_and_quantized(void **state)
{
    static const float table[4] = { 0, -0.5f, 0.25f, 1 };
    float w[24], turned[24];
    program p;
    rq_state *s;
    for (int i = 0; i < 24; i++)
        turned[i % 6 * 4 + i / 6] = w[i] = table[i * 5 % 4];
    program_matmul(&p, turned);
    OK(rq_state_create(&s));
    set(s, "fc.weight", RQ_DTYPE_F32, DIMS(4, 6), w);
    set(s, "fc._COREML_/weight/compression_type", RQ_DTYPE_S64, DIMS(3), (const int64_t[]) { 1, 2, 3 });
    set(s, "fc._COREML_/weight/quantization_n_bits", ONE(8));
    set(s, "fc._COREML_/weight/quantization_scale", RQ_DTYPE_F32, DIMS(1, 1, 1, 1), &(const float) { 0.25f });
    set(s, "fc._COREML_/weight/lut", RQ_DTYPE_F32, DIMS(1, 1, 4), table);
    OK(rq_coreml_apply_metadata(p.m, s, false, NULL, &err));
    program_is(&p, "B LS S matmul");
    rq_arena a = { 0 };
    rq_mil_constants c;
    rq_tensor t;
    OK(rq_mil_constants_of(&c, p.b, NULL, &a, &err));
    OK(rq_mil_constexpr(&t, p.m, &c, program_weight(&p, "product"), 0, &err));
    assert_memory_equal(t.data, turned, sizeof turned);
    rq_tensor_release(&t);
    rq_arena_release(&a);
    rq_state_destroy(s);
    program_end(&p);
    (void)state;
}

/* One buffer is spoilt, or one more there: the sentence. */
static void what_is_refused(void **state)
{
    static const int64_t three[] = { 3, 1 }, four[] = { 1, 2, 3, 3 }, two = 2, nine = 9;
    static const float half = 2.5f;
    static const float bad[6] = { 1, 1, 1, 1, 1, 1 };
    static const struct {
        const char *name; /* NULL: nothing is set */
        rq_dtype d;
        int rank;
        int64_t dim[3];
        const void *data;
        int spec;
        const char *want;
    } cases[] = {
        { "fc._COREML_/weight/colour", RQ_DTYPE_S64, 1, { 1 }, three, 9, "there is no buffer 'colour' of compression" },
        { "fc._COREML_/weight/quantization_nbits",
          RQ_DTYPE_S64,
          1,
          { 1 },
          three,
          9,
          "the nearest is 'quantization_n_bits'" },
        { "fc._COREML_weight", RQ_DTYPE_S64, 1, { 1 }, three, 9, "expected [<module>.]_COREML_/<parameter>/<key>" },
        { "fc._COREML_/weight/compression_type", RQ_DTYPE_S64, 1, { 4 }, four, 9, "has too many values" },
        { "fc._COREML_/weight/compression_type",
          RQ_DTYPE_S64,
          1,
          { 2 },
          three,
          9,
          "Unsupported joint compression combination" },
        { "fc._COREML_/weight/compression_type", RQ_DTYPE_F32, 1, { 1 }, &half, 9, "expected an integer" },
        { "fc._COREML_/weight/compression_type", RQ_DTYPE_S64, 1, { 1 }, &two, 9, "Missing lut" },
        { "fc._COREML_/weight/quantization_n_bits", RQ_DTYPE_S64, 1, { 1 }, &nine, 9, "from 1 to 8" },
        { "fc._COREML_/weight/quantization_scale", RQ_DTYPE_F32, 1, { 4 }, bad, 9, "same rank as `scale`" },
        { "fc._COREML_/weight/quantization_scale", RQ_DTYPE_F32, 2, { 4, 4 }, bad, 9, NULL },
        { "fc._COREML_/weight/zero_point", RQ_DTYPE_F32, 2, { 1, 1 }, bad, 9, "have other shapes" },
        { "other._COREML_/weight/compression_type", RQ_DTYPE_S64, 1, { 1 }, three, 9, "no constant of this name" },
        { NULL, RQ_DTYPE_F32, 0, { 0 }, NULL, 7, "quantization in this form needs iOS 18, the package is for iOS 16" },
    };
    float w[24], turned[24], many[16] = { 0 };
    fill(w, turned);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        program p;
        rq_state *s;
        program_matmul(&p, turned);
        p.m->spec = cases[i].spec;
        OK(rq_state_create(&s));
        set(s, "fc.weight", RQ_DTYPE_F32, DIMS(4, 6), w);
        set(s, "fc._COREML_/weight/compression_type", ONE(3));
        set(s, "fc._COREML_/weight/quantization_n_bits", ONE(4));
        set(s, "fc._COREML_/weight/quantization_scale", RQ_DTYPE_F32, DIMS(4, 1), scales);
        if (cases[i].name)
            set(s, cases[i].name, cases[i].d, cases[i].rank, cases[i].dim, cases[i].want ? cases[i].data : many);
        const rq_status st = rq_coreml_apply_metadata(p.m, s, false, NULL, &err);
        const char *want = cases[i].want ? cases[i].want : "has 4 blocks, the axis of what it scales 6 elements";
        if (!st || !strstr(err.text, want))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, st ? err.text : "done", want);
        rq_state_destroy(s);
        program_end(&p);
    }
    program p;
    rq_state *s;
    program_matmul(&p, turned);
    OK(rq_state_create(&s));
    set(s, "fc.weight", RQ_DTYPE_F32, DIMS(4, 6), w);
    assert_int_equal(rq_coreml_apply_metadata(p.m, s, false, NULL, &err), RQ_NOT_FOUND);
    set(s, "fc._COREML_/weight/quantization_n_bits", ONE(4));
    assert_int_equal(rq_coreml_apply_metadata(p.m, s, false, NULL, &err), RQ_BAD_DATA);
    assert_non_null(strstr(err.text, "the 'compression_type' is not set"));
    rq_state_destroy(s);
    program_end(&p);
    (void)state;
}

static void each_allocation_may_fail(void **state)
{
    static const char *const names[] = { "ptq_int4_blocks", "palette4_int8", "sparse_quantized", "sparse_palette" };
    for (int i = 0; i < 4; i++) {
        rq_state *state_dict = state_of(names[i]);
        rq_status s = RQ_NO_MEMORY;
        for (size_t n = 1; s; n += n < 40 ? 1 : n / 6) {
            rq_coreml *m = convert(names[i], RQ_COREML_IOS18, false);
            rq_mem_fail_after(n, true);
            s = rq_coreml_apply_metadata(m, state_dict, false, NULL, &err);
            rq_mem_fail_after(0, false);
            if (s && s != RQ_NO_MEMORY)
                fail_msg("%s, allocation %zu: %s", names[i], n, err.text);
            rq_coreml_close(m);
        }
        rq_state_destroy(state_dict);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_those_of_coremltools),
        cmocka_unit_test(a_transposed_weight_is_found_by_its_numbers),
        cmocka_unit_test(pruned_palettized_and_quantized),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
