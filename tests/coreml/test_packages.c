/* tests/coreml/test_packages.c — the acceptance list of coremltools for packages as files (docs/acceptance.md, K): how constexpr_ operations are spelled, what
 * survives being read and written, what goes to weight.bin, where weights are looked for. */
#include <jansson.h>
#include <sys/stat.h>

#include "formats/mlpackage.h"
#include "program_help.h"
#include "requant/edit.h"
#include "requant/session.h"

#define OUT RQ_TEST_TMP "/packages.mlpackage"

static const rq_mil_op *only_of(const rq_coreml *m, const char *type)
{
    const rq_mil_block *b = m->program.functions[0]->block;
    const rq_mil_op *found = NULL;
    for (int i = 0; i < b->n_ops; i++)
        if (!strcmp(b->ops[i]->type, type))
            found = b->ops[i];
    return found;
}

/* P1 (matmul: P3), quantized as the YAML says, written and read again. */
static rq_coreml *quantized(int spec, const char *yaml)
{
    program p;
    rq_coreml_config *c;
    rq_coreml *back;
    program_p1(&p, spec, spec > 8);
    OK(rq_coreml_config_parse(&c, yaml, strlen(yaml), &err));
    OK(rq_coreml_linear_quantize_weights(p.m, c, false, NULL, &err));
    OK(rq_coreml_save(p.m, OUT, &err));
    OK(rq_coreml_open(&back, OUT, &err));
    rq_coreml_config_destroy(c);
    rq_coreml_close(p.m);
    return back;
}

static void k1_attributes_before_ios18_inputs_since(void **state)
{
    (void)state;
    rq_coreml *m = quantized(7, "{config_type: OpLinearQuantizerConfig, global_config: {weight_threshold: 1000}}");
    const rq_mil_op *op = only_of(m, "constexpr_affine_dequantize");
    assert_int_equal(op->n_args, 0);
    assert_int_equal(op->n_attrs, 5); /* its four parameters, and name */
    rq_coreml_close(m);
    m = quantized(9, "{config_type: OpLinearQuantizerConfig, global_config: {mode: linear, weight_threshold: 1000}}");
    op = only_of(m, "constexpr_blockwise_shift_scale");
    assert_int_equal(op->n_attrs, 1);
    assert_int_equal(op->n_args, 3); /* data, scale, offset */
    rq_coreml_close(m);
}

static void k1_sparse_and_shifted_gives_two(void **state)
{
    (void)state;
    program p;
    rq_coreml_config *prune, *quantize;
    const char *half = "{config_type: OpMagnitudePrunerConfig, global_config: {target_sparsity: 0.5}}",
               *codes = "{config_type: OpLinearQuantizerConfig, global_config: {}}";
    program_p1(&p, 9, false);
    OK(rq_coreml_config_parse(&prune, half, strlen(half), &err));
    OK(rq_coreml_config_parse(&quantize, codes, strlen(codes), &err));
    OK(rq_coreml_prune_weights(p.m, prune, false, NULL, &err));
    OK(rq_coreml_linear_quantize_weights(p.m, quantize, true, NULL, &err));
    const rq_mil_op *op = only_of(p.m, "constexpr_sparse_blockwise_shift_scale");
    assert_int_equal(op->n_outputs, 2);
    assert_int_equal(op->n_attrs, 1);
    rq_coreml_config_destroy(prune);
    rq_coreml_config_destroy(quantize);
    rq_coreml_close(p.m);
}

static void k1_two_of_four_bits_are_a_byte(void **state)
{
    (void)state;
    rq_coreml *m;
    OK(rq_coreml_create(&m, 9, &err));
    const uint8_t packed = 0xf7; /* 7, -1 */
    rq_mil_type *t = rq_mil_tensor_type(&m->program, rq_mil_dtype_of_name("int4"), 1, (int64_t[]) { 2 });
    const rq_mil_value *v = rq_mil_immediate(&m->program, t, &packed);
    assert_non_null(v);
    assert_int_equal(v->bytes, 1);
    rq_tensor x;
    OK(rq_coreml_tensor(m, &x, v, &err));
    assert_int_equal(rq_tensor_get(&x, 0), 7);
    assert_int_equal(rq_tensor_get(&x, 1), -1);
    rq_tensor_release(&x);
    rq_coreml_close(m);
}

/* Names, types and codes of 4 bits are the same after another round. */
static void k2_written_and_read_it_is_the_same(void **state)
{
    (void)state;
    rq_coreml *m = quantized(9, "{config_type: OpLinearQuantizerConfig, global_config: {dtype: uint4, mode: linear, "
                                "granularity: per_block, block_size: 1, weight_threshold: 1000}}"),
              *back;
    assert_true(rq_coreml_set_metadata(m, "changed", "yes"));
    OK(rq_coreml_save(m, RQ_TEST_TMP "/packages-again.mlpackage", &err));
    OK(rq_coreml_open(&back, RQ_TEST_TMP "/packages-again.mlpackage", &err));
    const rq_mil_block *a = m->program.functions[0]->block, *b = back->program.functions[0]->block;
    int n = 0;
    assert_int_equal(a->n_ops, b->n_ops);
    for (int i = 0; i < a->n_ops; i++) {
        char one[64], other[64];
        rq_tensor x, y;
        assert_string_equal(a->ops[i]->type, b->ops[i]->type);
        assert_string_equal(rq_mil_op_name(a->ops[i]), rq_mil_op_name(b->ops[i]));
        assert_string_equal(a->ops[i]->outputs[0].name, b->ops[i]->outputs[0].name);
        assert_string_equal(rq_mil_type_text(a->ops[i]->outputs[0].type, one, sizeof one),
                            rq_mil_type_text(b->ops[i]->outputs[0].type, other, sizeof other));
        const rq_mil_arg *p = rq_mil_op_arg(a->ops[i], "data"), *q = rq_mil_op_arg(b->ops[i], "data");
        if (!p)
            continue;
        assert_string_equal(p->binding[0].value->type->dtype->name, "uint4");
        assert_string_equal(q->binding[0].value->type->dtype->name, "uint4");
        OK(rq_coreml_tensor(m, &x, p->binding[0].value, &err));
        OK(rq_coreml_tensor(back, &y, q->binding[0].value, &err));
        assert_int_equal(rq_tensor_count(&x), rq_tensor_count(&y));
        for (int64_t k = 0; k < rq_tensor_count(&x); k++)
            assert_true(rq_tensor_get(&x, k) == rq_tensor_get(&y, k));
        rq_tensor_release(&x);
        rq_tensor_release(&y);
        n++;
    }
    assert_int_equal(n, 4);
    rq_coreml_close(m);
    rq_coreml_close(back);
}

/* What Create ML writes: pad stands in the operation itself. */
static void k2_pads_that_stand_in_the_operation(void **state)
{
    (void)state;
    program p;
    rq_mil_program *mil;
    rq_graph *g;
    const float ones[9] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    program_begin(&p, 7, DIMS(1, 1, 3, 3));
    mil = &p.m->program;
    program_const(&p, "w", ones, DIMS(1, 1, 3, 3));
    rq_mil_op *op = program_op(&p, "conv", "y", "x", "weight", "w", DIMS(1, 1, 3, 3));
    assert_true(rq_mil_op_bind_value(mil, op, "pad_type", rq_mil_text(mil, "custom")) &&
                rq_mil_op_bind_value(mil, op, "pad", rq_mil_ints(mil, (int32_t[]) { 1, 1, 1, 1 }, 4)));
    OK(rq_coreml_save(p.m, OUT, &err));
    rq_coreml_close(p.m);
    OK(rq_load(&g, OUT, &err));
    rq_session *s;
    rq_tensor x, y = { 0 };
    float v[9] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
    const rq_shape shape = rq_shape_of(4, (int64_t[]) { 1, 1, 3, 3 });
    x = rq_tensor_view(RQ_DTYPE_F32, &shape, v);
    OK(rq_session_create(&s, g, NULL, &err));
    OK(rq_session_run(s, &(rq_feed) { "x", x }, 1, &y, &err));
    assert_true(y.f32[0] == 12 && y.f32[4] == 45 && y.f32[8] == 28);
    rq_tensor_release(&y);
    rq_session_destroy(s);
    rq_graph_destroy(g);
}

/* Indices of a Gather, 12 of them: at a specification, do they lie in weight.bin? */
static bool indices_are_a_blob(rq_coreml_target target)
{
    rq_graph *g;
    rq_coreml *m;
    const rq_shape shape = rq_shape_of(2, (int64_t[]) { 1, 12 }), list = rq_shape_of(1, (int64_t[]) { 12 });
    rq_tensor indices;
    int id;
    OK(rq_graph_create(&g));
    OK(rq_edit_set_opset(g, "", 17, &err));
    OK(rq_edit_add_input(g, "x", RQ_DTYPE_F32, &shape, &err));
    OK(rq_tensor_create(&indices, RQ_DTYPE_S64, &list, true));
    OK(rq_edit_add_constant(g, "numbers", &indices, &err));
    rq_tensor_release(&indices);
    const rq_edit_node node = { .op = "Gather",
                                .name = "pick",
                                .in = (const char *const[]) { "x", "numbers" },
                                .out = (const char *const[]) { "y" },
                                .n_in = 2,
                                .n_out = 1 };
    OK(rq_edit_add_node(g, &node, &id, &err));
    OK(rq_edit_set_int(g, id, "axis", 1, &err));
    OK(rq_edit_add_output(g, "y", &err));
    const rq_coreml_cfg cfg = { .target = target };
    OK(rq_coreml_from_graph(&m, g, &cfg, NULL, &err));
    const rq_mil_block *b = m->program.functions[0]->block;
    const rq_mil_value *numbers = NULL;
    for (int i = 0; i < b->n_ops; i++) {
        const rq_mil_value *val = rq_mil_op_attr(b->ops[i], "val");
        if (val && val->n == 12)
            numbers = val;
    }
    assert_non_null(numbers);
    const bool blob = numbers->kind == RQ_MIL_BLOB;
    rq_coreml_close(m);
    rq_graph_destroy(g);
    return blob;
}

static void k2_integers_in_weight_files(void **state)
{
    (void)state;
    assert_false(indices_are_a_blob(RQ_COREML_IOS16));
    assert_false(indices_are_a_blob(RQ_COREML_IOS17));
    assert_true(indices_are_a_blob(RQ_COREML_IOS18));
}

/* ---- the folder ---- */

/* Put `to` where the item of the weights says `from`. */
static void spoil_weights(const char *from, const char *to)
{
    const char *path = OUT "/Manifest.json";
    json_t *all = json_load_file(path, 0, NULL), *items = json_object_get(all, "itemInfoEntries"), *item;
    const char *key;
    json_object_foreach(items, key, item)
    {
        if (!strcmp(json_string_value(json_object_get(item, "name")), "weights"))
            json_object_set_new(item, from, json_string(to));
    }
    assert_int_equal(json_dump_file(all, path, 0), 0);
    json_decref(all);
}

/* A program that names blobs, and no item of its author for them. */
static void k3_weights_are_of_their_author(void **state)
{
    (void)state;
    struct stat s;
    rq_coreml *m = quantized(7, "{config_type: OpLinearQuantizerConfig, global_config: {weight_threshold: 1000}}");
    rq_coreml_close(m);
    assert_int_equal(stat(OUT "/Data/com.apple.CoreML/weights/weight.bin", &s), 0);
    spoil_weights("author", "someone else");
    assert_int_equal(rq_coreml_open(&m, OUT, &err), RQ_BAD_FILE);
    assert_null(m);
    spoil_weights("author", "com.apple.CoreML");
    OK(rq_coreml_open(&m, OUT, &err));
    rq_coreml_close(m);
    spoil_weights("description", "whatever");
    OK(rq_coreml_open(&m, OUT, &err));
    rq_coreml_close(m);
    spoil_weights("name", "heavy");
    assert_int_equal(rq_coreml_open(&m, OUT, &err), RQ_BAD_FILE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(k1_attributes_before_ios18_inputs_since), cmocka_unit_test(k1_sparse_and_shifted_gives_two),
        cmocka_unit_test(k1_two_of_four_bits_are_a_byte),          cmocka_unit_test(k2_written_and_read_it_is_the_same),
        cmocka_unit_test(k2_pads_that_stand_in_the_operation),     cmocka_unit_test(k2_integers_in_weight_files),
        cmocka_unit_test(k3_weights_are_of_their_author),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
