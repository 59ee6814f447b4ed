/* tests/formats/test_mil_ops.c — operators of Core ML programs: each row has a case among the golden packages (which tests/golden/case_coreml.c runs),
 * programs that are wrong are refused with a sentence that names the operation, and memory may run out anywhere. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "formats/mil_graph.h"
#include "requant/requant.h"

/* ---- every row has a case ---- */

typedef struct seen {
    bool at[512];
} seen;

static rq_status mark(void *arg, const rq_mil_function *f, const rq_mil_op *op, rq_err *err)
{
    seen *s = arg;
    (void)f;
    (void)err;
    for (int i = 0; rq_mil_row_at(i); i++)
        if (!strcmp(rq_mil_row_at(i)->type, op->type))
            s->at[i] = true;
    return RQ_OK;
}

static void mark_folder(seen *s, const char *folder)
{
    char path[512];
    snprintf(path, sizeof path, "%s/cases.json", folder);
    json_t *file = json_load_file(path, 0, NULL), *c;
    const json_t *list = json_is_array(file) ? file : json_object_get(file, "cases");
    size_t k;
    assert_non_null(list);
    json_array_foreach((json_t *)list, k, c)
    {
        const char *package = json_string_value(json_object_get(c, "package"));
        rq_coreml *m = NULL;
        rq_err err = { 0 };
        if (!package || !json_object_get(c, "outputs"))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, package);
        if (rq_coreml_open(&m, path, &err))
            fail_msg("%s", err.text);
        assert_int_equal(rq_mil_each_op(&m->program, mark, s, NULL), RQ_OK);
        rq_coreml_close(m);
    }
    json_decref(file);
}

static void every_row_has_a_case(void **state)
{
    (void)state;
    static const char *const folders[] = { "tests/golden/coreml_ops", "tests/golden/coreml_constexpr",
                                           "tests/golden/coreml_forms" };
    seen s = { { false } };
    int n = 0, missing = 0;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        mark_folder(&s, folders[i]);
    for (; rq_mil_row_at(n); n++)
        if (!s.at[n]) {
            printf("no package with an expected output has %s\n", rq_mil_row_at(n)->type);
            missing++;
        }
    printf("%d rows\n", n);
    assert_true(n >= 160 && n < 512);
    assert_int_equal(missing, 0);
}

static void rows_are_found(void **state)
{
    (void)state;
    for (int i = 0; rq_mil_row_at(i); i++) {
        assert_ptr_equal(rq_mil_row_find(rq_mil_row_at(i)->type), rq_mil_row_at(i));
        if (i)
            assert_true(strcmp(rq_mil_row_at(i - 1)->type, rq_mil_row_at(i)->type) < 0);
    }
    assert_null(rq_mil_row_find("custom_layer"));
    const char *name, *onnx;
    int n = 0;
    for (; rq_coreml_operator(n, &name, &onnx); n++)
        assert_true(name && onnx && *onnx);
    assert_null(rq_mil_row_at(n));
    assert_false(rq_coreml_operator(-1, &name, &onnx));
}

/* ---- programs that are wrong ---- */

/* x is fp32[2,3,4], n is int32[3]. One operation of this type, its output declared "fp32 2,3"; parameters "name=x" (a value), "name=i:1,2"
 * (int32), "name=b:0,1", "name=f:1.5", "name=s:text"; i, f of one number are scalars, "i,:" vectors. */
typedef struct wrong {
    const char *type, *output, *params, *sentence;
} wrong;

static rq_mil_type *parse_type(rq_mil_program *p, const char *text)
{
    int64_t dim[RQ_MIL_MAX_RANK];
    char name[16];
    int n = 0;
    sscanf(text, "%15s", name);
    for (const char *s = strchr(text, ' '); s && *s; s = strchr(s + 1, ','))
        dim[n++] = strtol(s + 1, NULL, 10);
    return rq_mil_tensor_type(p, rq_mil_dtype_of_name(name), n, dim);
}

static rq_mil_value *parse_value(rq_mil_program *p, const char *text)
{
    int32_t v[16];
    uint8_t flags[16];
    int n = 0;
    const char *numbers = strchr(text, ':') + 1;
    if (*text == 's')
        return rq_mil_text(p, numbers);
    if (*text == 'f')
        return rq_mil_float(p, strtof(numbers, NULL));
    for (const char *s = numbers; *s && n < 16; s = strchr(s, ',') ? strchr(s, ',') + 1 : "") {
        v[n] = (int32_t)strtol(s, NULL, 10);
        flags[n] = (uint8_t)v[n];
        n++;
    }
    if (*text == 'b')
        return rq_mil_immediate(p, rq_mil_tensor_type(p, rq_mil_dtype_of_name("bool"), 1, (int64_t[]) { n }), flags);
    return n == 1 && text[1] != ',' ? rq_mil_int(p, v[0]) : rq_mil_ints(p, v, n);
}

static rq_coreml *program_of(const wrong *w)
{
    rq_coreml *m = NULL;
    char params[512], *rest = NULL;
    assert_int_equal(rq_coreml_create(&m, 9, NULL), RQ_OK);
    rq_mil_program *p = &m->program;
    rq_mil_function *f = rq_mil_function_make(p, "main", "CoreML8");
    rq_mil_op *op = rq_mil_op_make(p, w->type, "tested");
    assert_true(f && op && rq_mil_function_input(p, f, "x", parse_type(p, "fp32 2,3,4")) &&
                rq_mil_function_input(p, f, "n", parse_type(p, "int32 3")));
    snprintf(params, sizeof params, "%s", w->params);
    for (char *s = strtok_r(params, " ", &rest); s; s = strtok_r(NULL, " ", &rest)) {
        char *is = strchr(s, '=');
        *is++ = 0;
        assert_true(strchr(is, ':') ? rq_mil_op_bind_value(p, op, s, parse_value(p, is))
                                    : rq_mil_op_bind(p, op, s, is));
    }
    if (*w->output)
        assert_true(rq_mil_op_output(p, op, "y", parse_type(p, w->output)));
    assert_true(rq_mil_block_insert(p, f->block, 0, op));
    if (*w->output)
        assert_true(rq_mil_block_output(p, f->block, "y"));
    return m;
}

static void wrong_programs_are_refused(void **state)
{
    (void)state;
    static const wrong programs[] = {
        { "relu", "fp32 2,3,5", "x=x", "is declared fp32[2,3,5], but is of type f32 and shape [2,3,4]" },
        { "relu", "fp16 2,3,4", "x=x", "is declared fp16[2,3,4], but is of type f32" },
        { "relu", "fp32 2,3", "x=x", "is declared fp32[2,3]" },
        { "relu", "fp32 2,3,4", "", "'x' is missing" },
        { "no_such_operator", "fp32 2", "x=x", "the operator cannot be run" },
        { "relu", "", "x=x", "it has no outputs" },
        { "cast", "", "x=x dtype=s:fp16", "it has no outputs" },
        { "make_list", "", "init_length=i:1", "it has no outputs" },
        { "upsample_bilinear", "", "x=x", "it has no outputs" },
        { "transpose", "fp32 2,3,4", "x=x perm=i:0,1", "perm" },
        { "transpose", "fp32 2,3,4", "x=x perm=i:0,1,7", "perm" },
        { "transpose", "fp32 2,3,4", "x=x", "'perm' is missing" },
        { "reshape", "fp32 5,5", "x=x shape=i:5,5", "" },
        { "reshape", "fp32 24", "x=x", "'shape' is missing" },
        { "squeeze", "fp32 2,3,4", "x=x axes=i,:9", "axis 9 of a tensor with 3 axes" },
        { "expand_dims", "fp32 1,2,3,4", "x=x", "'axes' is missing" },
        { "softmax", "fp32 2,3,4", "x=x axis=i:-7", "" },
        { "reduce_sum", "fp32 2", "x=x axes=i:5,6", "" },
        { "reduce_sum", "fp32 2", "x=x axes=n", "'axes' is computed, expected a constant" },
        { "reduce_argmax", "int32 2,3", "x=x output_dtype=s:int4", "expected int32 or uint16" },
        { "cumsum", "fp32 2,3,4", "x=x axis=i:12", "" },
        { "topk", "fp32 2,3,4", "x=x axis=i:5", "" },
        { "concat", "fp32 2", "axis=i:0", "'values' is missing" },
        { "concat", "fp32 2,3,8", "values=x axis=i:8 interleave=b:1", "axis 8 of a tensor with 3 axes" },
        { "stack", "fp32 2", "axis=i:0", "'values' is missing" },
        { "split", "fp32 2,3,2", "x=x axis=i:2 num_splits=i:3", "'num_splits' is 3, but there are 1 outputs" },
        { "slice_by_index", "fp32 1,3,4", "x=x begin=i:0,0 end=i:1,3,4",
          "'begin' has 2 numbers and 'end' 3, expected 3" },
        { "slice_by_index", "fp32 1,3,4", "x=x begin=i:0,0,0 end=i:1,3,4 end_mask=b:1",
          "'end_mask' has 1 numbers, expected 3" },
        { "slice_by_index", "fp32 1,3,4", "x=x begin=i:0,0,0 end=i:1,3,4 stride=i:0,1,1", "" },
        { "slice_by_size", "fp32 1,3,4", "x=x begin=i:0,0,0", "'size' is missing" },
        { "slice_update", "fp32 2,3,4", "x=x begin=i:0,0,0 end=i:1,1,1", "'update' is missing" },
        { "gather", "fp32 3,3,4", "x=x indices=n axis=i:4", "axis 4 of a tensor with 3 axes" },
        { "gather", "fp32 3,3,4", "x=x indices=n batch_dims=i:2 axis=i:2", "batch axes do not fit" },
        { "gather_nd", "fp32 4", "x=x indices=n batch_dims=i:77", "" },
        { "scatter", "fp32 2,3,4", "data=x indices=n updates=x mode=s:xor", "mode 'xor' is not known" },
        { "scatter_along_axis", "fp32 2,3,4", "data=x indices=n updates=x axis=i:3", "axis 3 of a tensor" },
        { "reverse_sequence", "fp32 2,3,4", "x=x lengths=n seq_axis=i:1 batch_axis=i:1", "are both 1" },
        { "sliding_windows", "fp32 2,3,1,9", "x=x axis=i:2 size=i:9",
          "windows of 9 elements, 1 apart, on an axis of 4" },
        { "sliding_windows", "fp32 2,3,1,4", "x=x axis=i:2 size=i:2 stride=i:0", "windows of 2 elements, 0 apart" },
        { "pad", "fp32 2,3,4", "x=x pad=i:1,1,1", "'pad' has 3 numbers" },
        { "pad", "fp32 2,3,4", "x=x pad=i:1,1 mode=s:circular", "mode 'circular' is not known" },
        { "crop", "fp32 2,3,4", "x=x crop_height=i:1,1 crop_width=i:-1,0", "a negative number of pixels" },
        { "tile", "fp32 2,3,4", "x=x", "'reps' is missing" },
        { "fill", "fp32 3", "", "'shape' is missing" },
        { "band_part", "fp32 2,3,5", "x=x lower=i:1", "is declared fp32[2,3,5]" },
        { "conv", "fp32 2,3,4", "x=x", "'weight' is missing" },
        { "conv", "fp32 2,3,4", "x=x weight=x groups=i:0", "" },
        { "conv", "fp32 2,3,4", "x=x weight=x strides=i:1,1,1", "'strides' has 3 numbers, expected 1" },
        { "conv", "fp32 2,3,4", "x=x weight=x pad_type=s:custom pad=i:1,1,1", "'pad' has 3 numbers, expected 2" },
        { "conv", "fp32 2,3,4", "x=x weight=x pad_type=s:odd", "pad_type 'odd' is not known" },
        { "conv_transpose", "fp32 2,3,4", "x=x weight=n", "'weight' has 1 axes, expected 3 to 5" },
        { "conv_transpose", "fp32 2,3,4", "x=x weight=x output_shape=i:1,2",
          "'output_shape' has 2 numbers, expected 3" },
        { "linear", "fp32 2,3,4", "x=x", "'weight' is missing" },
        { "matmul", "fp32 2,3,3", "x=x y=n transpose_y=i:1", "a tensor with 1 axes cannot be transposed" },
        { "einsum", "fp32 2", "values=x equation=s:a,b->c", "'values' has 1 tensors, expected 2" },
        { "max_pool", "fp32 2,3,4", "x=x pad_type=s:valid", "'kernel_sizes' is missing" },
        { "max_pool", "fp32 2,3,4", "x=x kernel_sizes=i:0,0 pad_type=s:valid", "" },
        { "batch_norm", "fp32 2,3,4", "x=x", "'mean' is missing" },
        { "layer_norm", "fp32 2,3,4", "x=x axes=i:3,4", "axis 3 of a tensor with 3 axes" },
        { "local_response_norm", "fp32 2,3,4", "x=x size=i:0", "'size' is 0, expected at least 1" },
        { "l2_norm", "int32 3", "x=n", "'x' has fewer than 3 axes" },
        { "gelu", "fp32 2,3,4", "x=x mode=s:ROUGH", "mode 'ROUGH' is not known" },
        { "pixel_shuffle", "fp32 2,3,4", "x=x upscale_factor=i:-2", "'upscale_factor' is -2" },
        { "pixel_unshuffle", "fp32 2,3,4", "x=x downscale_factor=i:99999", "'downscale_factor' is 99999" },
        { "space_to_batch", "fp32 2,3,4", "x=x block_shape=i:2,2 paddings=i:0,0,0,0",
          "blocks of 2 axes of a tensor with 4" },
        { "upsample_bilinear", "fp32 2,3,4", "x=x scale_factor_height=f:-1", "a scale factor that is not between" },
        { "upsample_nearest_neighbor", "fp32 2,3,4", "x=x scale_factor_height=f:nan",
          "a scale factor that is not between" },
        { "resize_bilinear", "fp32 2,0,4", "x=x target_size_height=i:0", "a size of 0" },
        { "resize_bilinear", "fp32 2,3,4", "x=x sampling_mode=s:BEST", "sampling_mode 'BEST' is not known" },
        { "resize", "fp32 2,3,4", "x=x shape=i:1,2 resized_dims=i:3", "'shape' has 2 numbers, expected at least 3" },
        { "crop_resize", "fp32 2,3,4", "x=x roi=x", "'x' is to have 4 axes" },
        { "crop_resize", "fp32 2,3,4", "x=x roi=x target_height=i:2147483647", "'x' is to have 4 axes" },
        { "affine", "fp32 2,3,4", "x=x transform_matrix=x", "an image of unknown size" },
        { "resample", "fp32 2,3,4", "x=x coordinates=x", "'x' is to have 4 axes" },
        { "non_maximum_suppression", "fp32 2,3,4", "boxes=x scores=x max_boxes=i:0", "0 boxes at most" },
        { "scaled_dot_product_attention", "fp32 2,3,4", "query=x key=n value=x",
          "a tensor with 1 axes cannot be transposed" },
        { "lstm", "fp32 2,3,4", "x=x initial_h=x initial_c=x weight_ih=x weight_hh=x", "has 2 rows, expected 12" },
        { "lstm", "fp32 2,3,4", "x=x weight_hh=n", "weights of unknown size" },
        { "gru", "fp32 2,3,4", "x=x weight_hh=x direction=s:both", "direction 'both' is not supported" },
        { "cond", "fp32 2,3,4", "pred=x", "a condition and 2 blocks are expected" },
        { "while_loop", "fp32 2,3,4", "loop_vars=x", "2 blocks of 1 values are expected" },
        { "make_list", "fp32 2,3,4", "init_length=i:1", "a list of items of unknown shape" },
        { "read_state", "fp32 2,3,4", "input=x", "'input' is no state of the function" },
        { "write_state", "", "input=x data=x", "'input' is no state of the function" },
        { "range_1d", "int32 3", "start=n end=n", "'step' is missing" },
        { "one_hot", "fp32 3,4", "indices=n", "'one_hot_vector_size' is missing" },
        { "reshape_like", "fp32 2,3,4", "x=x ref_tensors=x begins=i:0", "'ends' has 0 values, expected 1" },
        { "classify", "fp32 2,3,4", "probabilities=x", "a classifier has 1 outputs" },
    };
    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        const wrong *w = &programs[i];
        rq_coreml *m = program_of(w);
        rq_graph *g = NULL;
        rq_err err = { 0 };
        const size_t live = rq_mem_live();
        const rq_status st = rq_mil_graph(&g, m, "main", &err);
        if (!st)
            fail_msg("%s %s was read, expected: %s", w->type, w->params, w->sentence);
        assert_null(g);
        assert_int_equal(rq_mem_live(), live);
        if (!strstr(err.text, w->sentence) || strncmp(err.text, "operation '", 11) != 0 || !strstr(err.text, w->type) ||
            strchr(err.text, '\n') || strlen(err.text) < strlen(w->type) + 20)
            fail_msg("%s %s said: %s\nexpected: %s", w->type, w->params, err.text, w->sentence);
        rq_coreml_close(m);
    }
    printf("%zu programs were refused\n", sizeof programs / sizeof programs[0]);
}

/* What coremltools writes when two outputs are one value. */
static void an_output_may_be_listed_twice(void **state)
{
    (void)state;
    rq_coreml *m = program_of(&(wrong) { "relu", "fp32 2,3,4", "x=x", "" });
    rq_graph *g = NULL;
    rq_err err = { 0 };
    assert_true(rq_mil_block_output(&m->program, m->program.functions[0]->block, "y"));
    if (rq_mil_graph(&g, m, "main", &err))
        fail_msg("%s", err.text);
    assert_int_equal(rq_graph_n_outputs(g), 1);
    rq_graph_destroy(g);
    rq_coreml_close(m);
}

/* ---- memory ---- */

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const packages[] = { "control_iOS18", "recurrent_iOS17_fp16", "states" };
    for (size_t k = 0; k < sizeof packages / sizeof packages[0]; k++) {
        char path[256];
        rq_coreml *m = NULL;
        snprintf(path, sizeof path, "tests/golden/coreml_ops/%s.mlpackage.zip", packages[k]);
        assert_int_equal(rq_coreml_open(&m, path, NULL), RQ_OK);
        rq_status st = RQ_NO_MEMORY;
        for (size_t i = 1; st; i += 1 + i / 50) {
            rq_graph *g = NULL;
            rq_err err = { 0 };
            const size_t live = rq_mem_live();
            rq_mem_fail_after(i, true);
            st = rq_mil_graph(&g, m, NULL, &err);
            rq_mem_fail_after(0, false);
            rq_graph_destroy(g);
            assert_int_equal(rq_mem_live(), live);
            if (st && st != RQ_NO_MEMORY)
                fail_msg("allocation %zu: %s", i, err.text);
        }
        rq_coreml_close(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(rows_are_found), cmocka_unit_test(every_row_has_a_case),
                                        cmocka_unit_test(wrong_programs_are_refused),
                                        cmocka_unit_test(an_output_may_be_listed_twice),
                                        cmocka_unit_test(every_allocation_may_fail) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
