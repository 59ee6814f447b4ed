/* tests/interop/image.h — a small Core ML program made here: an image of 8 x 8 with scale and bias, a convolution whose weights go to
 * the weight file, the mean of each channel, softmax, and three labels. */
#ifndef RQ_TESTS_INTEROP_IMAGE_H
#define RQ_TESTS_INTEROP_IMAGE_H

#include "formats/coreml.h"

static inline rq_mil_type *image_type(rq_mil_program *p, int rank, const int64_t *dim)
{
    return rq_mil_tensor_type(p, rq_mil_dtype_of_name("fp32"), rank, dim);
}

/* A const named `name`. */
static inline bool image_const(rq_mil_program *p, rq_mil_block *b, const char *name, rq_mil_value *v)
{
    rq_mil_op *op = rq_mil_op_make(p, "const", name);
    return op && v && rq_mil_op_set_attr(p, op, "val", v) && rq_mil_op_output(p, op, name, v->type) &&
           rq_mil_block_insert(p, b, b->n_ops, op);
}

/* type(x=x, param=name...) -> name, ended by NULL. */
static inline bool image_op(rq_mil_program *p, rq_mil_block *b, const char *type, const char *name, rq_mil_type *t,
                            const char *const *params)
{
    rq_mil_op *op = rq_mil_op_make(p, type, name);
    bool ok = op && rq_mil_op_output(p, op, name, t) && rq_mil_block_insert(p, b, b->n_ops, op);
    for (; ok && *params; params += 2)
        ok = rq_mil_op_bind(p, op, params[0], params[1]);
    return ok;
}

static inline bool image_fill(rq_coreml *m)
{
    static const int64_t pixels[] = { 1, 3, 8, 8 }, maps[] = { 1, 3, 6, 6 }, means[] = { 1, 3 },
                         bias_shape[] = { 1, 3, 1, 1 };
    static const float bias[] = { -0.5f, -0.25f, 0.125f };
    static float weights[3 * 3 * 3 * 3];
    static const char *const names[] = { "cat", "dog", "a \"bird\"" };
    static int64_t size[] = { 8, 8 };
    for (int i = 0; i < 81; i++)
        weights[i] = (float)(i % 7 - 3) / 8;
    rq_mil_program *p = &m->program;
    rq_mil_type *x = image_type(p, 4, pixels), *y = image_type(p, 4, maps), *z = image_type(p, 2, means);
    rq_mil_function *f = rq_mil_function_make(p, "main", "CoreML7");
    rq_coreml_interface *io = rq_coreml_add_interface(m, "main");
    rq_coreml_feature *in = io ? rq_coreml_add_feature(m, &io->inputs, "image") : NULL;
    rq_coreml_feature *label = in ? rq_coreml_add_feature(m, &io->outputs, "classLabel") : NULL;
    rq_coreml_feature *probs = label ? rq_coreml_add_feature(m, &io->outputs, "classLabel_probs") : NULL;
    if (!x || !y || !z || !f || !probs)
        return false;
    in = &io->inputs.at[0];
    *in = (rq_coreml_feature) { .name = in->name,
                                .doc = "8 x 8 pixels",
                                .kind = RQ_COREML_IMAGE,
                                .shape = size,
                                .rank = 2,
                                .color = RQ_COREML_RGB };
    io->outputs.at[0].kind = RQ_COREML_STRING;
    io->outputs.at[1].kind = RQ_COREML_DICTIONARY;
    io->outputs.at[1].text_keys = true;
    io->label = "classLabel";
    io->probabilities = "classLabel_probs";
    m->doc = "made by a test";
    m->author = "requant";
    rq_mil_block *b = f->block;
    bool ok =
        rq_mil_function_input(p, f, "image", x) && image_const(p, b, "scale", rq_mil_float(p, 0.0078125f)) &&
        image_op(p, b, "mul", "image__scaled__", x, (const char *const[]) { "x", "image", "y", "scale", NULL }) &&
        image_const(p, b, "bias", rq_mil_immediate(p, image_type(p, 4, bias_shape), bias)) &&
        image_op(p, b, "add", "image__biased__", x,
                 (const char *const[]) { "x", "image__scaled__", "y", "bias", NULL }) &&
        image_const(p, b, "weight", rq_mil_blob(p, image_type(p, 4, (const int64_t[]) { 3, 3, 3, 3 }), weights)) &&
        image_const(p, b, "strides", rq_mil_ints(p, (const int32_t[]) { 1, 1 }, 2)) &&
        image_const(p, b, "pad", rq_mil_ints(p, (const int32_t[]) { 0, 0, 0, 0 }, 4)) &&
        image_const(p, b, "pad_type", rq_mil_text(p, "valid")) && image_const(p, b, "groups", rq_mil_int(p, 1)) &&
        image_op(p, b, "conv", "conv_0", y,
                 (const char *const[]) { "x", "image__biased__", "weight", "weight", "strides", "strides", "pad_type",
                                         "pad_type", "pad", "pad", "dilations", "strides", "groups", "groups",
                                         NULL }) &&
        image_const(p, b, "axes", rq_mil_ints(p, (const int32_t[]) { 2, 3 }, 2)) &&
        image_const(p, b, "keep_dims", rq_mil_bool(p, false)) &&
        image_op(p, b, "reduce_mean", "mean", z,
                 (const char *const[]) { "x", "conv_0", "axes", "axes", "keep_dims", "keep_dims", NULL }) &&
        image_const(p, b, "axis", rq_mil_int(p, -1)) &&
        image_op(p, b, "softmax", "probs", z, (const char *const[]) { "x", "mean", "axis", "axis", NULL });
    rq_mil_type *text = rq_mil_tensor_type(p, rq_mil_dtype_of_name("string"), 0, NULL);
    rq_mil_type *real = rq_mil_tensor_type(p, rq_mil_dtype_of_name("fp64"), 0, NULL);
    rq_mil_type *list = rq_arena_alloc(&p->arena, 1, sizeof *list), *dict = rq_arena_alloc(&p->arena, 1, sizeof *dict);
    rq_mil_type **part = rq_arena_alloc(&p->arena, 3, sizeof(rq_mil_type *));
    rq_mil_value *labels = rq_arena_alloc(&p->arena, 1, sizeof *labels);
    rq_mil_value **values = rq_arena_alloc(&p->arena, 3, sizeof(rq_mil_value *));
    rq_mil_op *classify = rq_mil_op_make(p, "classify", "classify_0");
    if (!ok || !text || !real || !list || !dict || !part || !labels || !values || !classify)
        return false;
    part[0] = part[1] = text;
    part[2] = real;
    *list = (rq_mil_type) { .kind = RQ_MIL_LIST, .part = part, .n_parts = 1, .length = { .known = true, .size = 3 } };
    *dict = (rq_mil_type) { .kind = RQ_MIL_DICTIONARY, .part = part + 1, .n_parts = 2 };
    for (int i = 0; i < 3; i++)
        if (!(values[i] = rq_mil_text(p, names[i])))
            return false;
    *labels = (rq_mil_value) { .kind = RQ_MIL_VALUES, .type = list, .n = 3, .value = values };
    return rq_mil_op_bind(p, classify, "probabilities", "probs") &&
           rq_mil_op_bind_value(p, classify, "classes", labels) && rq_mil_op_output(p, classify, "classLabel", text) &&
           rq_mil_op_output(p, classify, "classLabel_probs", dict) && rq_mil_block_insert(p, b, b->n_ops, classify) &&
           rq_mil_block_output(p, b, "classLabel") && rq_mil_block_output(p, b, "classLabel_probs");
}

static inline rq_status image_model(rq_coreml **out, rq_err *err)
{
    RQ_TRY(rq_coreml_create(out, 8, err));
    return image_fill(*out) ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "not enough memory");
}

#endif
