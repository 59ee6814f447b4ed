/* tests/coreml/programs.h — programs made by hand, to compress: P1, P2 and P3 of the acceptance list, and what one needs to make others. */
#ifndef RQ_TESTS_COREML_PROGRAMS_H
#define RQ_TESTS_COREML_PROGRAMS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "coreml/config.h"
#include "formats/coreml.h"
#include "ok.h"
#include "tensor/convert.h"

typedef struct program {
    rq_coreml *m;
    rq_mil_program *p;
    rq_mil_block *b;
    bool half; /* floats are fp16 */
    rq_rng rng;
} program;

static inline const char *float_type(const program *g)
{
    return g->half ? "fp16" : "fp32";
}

static inline void feature(rq_coreml *m, rq_coreml_features *list, const char *name, int rank, const int64_t *dim)
{
    rq_coreml_feature *f = rq_coreml_add_feature(m, list, name);
    assert_non_null(f);
    f->rank = rank;
    f->dtype = RQ_COREML_FLOAT32;
    f->shape = rq_arena_alloc(&m->program.arena, (size_t)rank, sizeof *f->shape);
    memcpy(f->shape, dim, (size_t)rank * sizeof *dim);
}

#define DIMS(...)                                                                                                      \
    (int)(sizeof((int64_t[]) { __VA_ARGS__ }) / sizeof(int64_t)), (const int64_t[])                                    \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

/* A program of one function, whose input is "x". */
static inline void begin(program *g, int32_t spec, bool half, int rank, const int64_t *dim)
{
    char opset[24];
    *g = (program) { .half = half };
    rq_rng_seed(&g->rng, 7);
    OK(rq_coreml_create(&g->m, spec, &err));
    g->p = &g->m->program;
    snprintf(opset, sizeof opset, "CoreML%d", (int)spec - 1);
    rq_mil_function *f = rq_mil_function_make(g->p, "main", opset);
    rq_coreml_interface *io = rq_coreml_add_interface(g->m, "main");
    assert_true(f && io);
    assert_true(
        rq_mil_function_input(g->p, f, "x", rq_mil_tensor_type(g->p, rq_mil_dtype_of_name(float_type(g)), rank, dim)));
    g->b = f->block;
    feature(g->m, &io->inputs, "x", rank, dim);
}

/* A constant of numbers in a weight file; x NULL: from [0, 1). Its operation and its value are called `name`. */
static inline void constant(program *g, const char *name, int rank, const int64_t *dim, const float *x)
{
    rq_mil_type *t = rq_mil_tensor_type(g->p, rq_mil_dtype_of_name(float_type(g)), rank, dim);
    bool known;
    const uint64_t n = rq_mil_type_count(t, &known);
    float *own = rq_arena_alloc(&g->p->arena, n, sizeof(float));
    for (uint64_t i = 0; i < n; i++) {
        own[i] = x ? x[i] : rq_rng_f32(&g->rng);
        if (g->half)
            ((uint16_t *)(void *)own)[i] = rq_convert_f32_to_f16(own[i]);
    }
    rq_mil_value *v = n < 10 ? rq_mil_immediate(g->p, t, own) : rq_mil_blob(g->p, t, own);
    rq_mil_op *op = rq_mil_op_make(g->p, "const", name);
    assert_true(op && rq_mil_op_set_attr(g->p, op, "val", v) && rq_mil_op_output(g->p, op, name, t) &&
                rq_mil_block_insert(g->p, g->b, g->b->n_ops, op));
}

static inline void small_constant(program *g, const char *name, rq_mil_value *v)
{
    rq_mil_op *op = rq_mil_op_make(g->p, "const", name);
    assert_true(op && v && rq_mil_op_set_attr(g->p, op, "val", v) && rq_mil_op_output(g->p, op, name, v->type) &&
                rq_mil_block_insert(g->p, g->b, g->b->n_ops, op));
}

/* An operation that gives `name`, floats of this shape; then pairs of a parameter and a value's name, ended by NULL. */
static inline rq_mil_op *operation(program *g, const char *type, const char *name, int rank, const int64_t *dim, ...)
{
    rq_mil_op *op = rq_mil_op_make(g->p, type, name);
    assert_non_null(op);
    va_list ap;
    va_start(ap, dim);
    for (const char *param; (param = va_arg(ap, const char *));)
        assert_true(rq_mil_op_bind(g->p, op, param, va_arg(ap, const char *)));
    va_end(ap);
    assert_true(
        rq_mil_op_output(g->p, op, name, rq_mil_tensor_type(g->p, rq_mil_dtype_of_name(float_type(g)), rank, dim)) &&
        rq_mil_block_insert(g->p, g->b, g->b->n_ops, op));
    return op;
}

static inline void end(program *g, const char *output, int rank, const int64_t *dim)
{
    assert_true(rq_mil_block_output(g->p, g->b, output));
    feature(g->m, &g->m->interfaces[0].outputs, output, rank, dim);
    OK(rq_mil_check(g->p, &err));
}

/* P1: conv w[90,30,2,2], linear w[70,81], conv_transpose w[30,4,21,10]. P3: matmul y[2,1,70,35] behind linear, too. */
static inline void make_p1(program *g, int32_t spec, bool half, bool p3)
{
    begin(g, spec, half, DIMS(1, 30, 10, 10));
    constant(g, "conv_w", DIMS(90, 30, 2, 2), NULL);
    operation(g, "conv", "conv", DIMS(1, 90, 9, 9), "x", "x", "weight", "conv_w", NULL);
    operation(g, "reshape", "reshape_0", DIMS(1, 90, 81), "x", "conv", NULL);
    constant(g, "linear_w", DIMS(70, 81), NULL);
    operation(g, "linear", "linear", DIMS(1, 90, 70), "x", "reshape_0", "weight", "linear_w", NULL);
    if (p3) {
        constant(g, "matmul_y", DIMS(2, 1, 70, 35), NULL);
        operation(g, "matmul", "matmul", DIMS(2, 1, 90, 35), "x", "linear", "y", "matmul_y", NULL);
    }
    operation(g, "reshape", "reshape_1", DIMS(1, 30, 21, 10), "x", p3 ? "matmul" : "linear", NULL);
    constant(g, "conv_transpose_w", DIMS(30, 4, 21, 10), NULL);
    operation(g, "conv_transpose", "conv_transpose", DIMS(1, 4, 41, 19), "x", "reshape_1", "weight", "conv_transpose_w",
              NULL);
    end(g, "conv_transpose", DIMS(1, 4, 41, 19));
}

/* P2: conv1 to conv3, linear1, linear2, conv_transpose. */
static inline void make_p2(program *g, int32_t spec, bool half)
{
    begin(g, spec, half, DIMS(1, 30, 10, 10));
    constant(g, "conv1_w", DIMS(40, 30, 2, 2), NULL);
    operation(g, "conv", "conv1", DIMS(1, 40, 9, 9), "x", "x", "weight", "conv1_w", NULL);
    constant(g, "conv2_w", DIMS(50, 40, 3, 3), NULL);
    operation(g, "conv", "conv2", DIMS(1, 50, 7, 7), "x", "conv1", "weight", "conv2_w", NULL);
    constant(g, "conv3_w", DIMS(60, 50, 2, 4), NULL);
    operation(g, "conv", "conv3", DIMS(1, 60, 6, 4), "x", "conv2", "weight", "conv3_w", NULL);
    operation(g, "reshape", "reshape_0", DIMS(6, 4, 60), "x", "conv3", NULL);
    constant(g, "linear1_w", DIMS(80, 60), NULL);
    operation(g, "linear", "linear1", DIMS(6, 4, 80), "x", "reshape_0", "weight", "linear1_w", NULL);
    constant(g, "linear2_w", DIMS(90, 80), NULL);
    operation(g, "linear", "linear2", DIMS(6, 4, 90), "x", "linear1", "weight", "linear2_w", NULL);
    operation(g, "reshape", "reshape_1", DIMS(1, 30, 6, 12), "x", "linear2", NULL);
    constant(g, "conv_transpose_w", DIMS(60, 30, 6, 10), NULL);
    operation(g, "conv_transpose", "conv_transpose", DIMS(1, 30, 11, 21), "x", "reshape_1", "weight",
              "conv_transpose_w", NULL);
    end(g, "conv_transpose", DIMS(1, 30, 11, 21));
}

/* ---- looking at what came out ---- */

/* Types of all operations but const, in order: A affine, B blockwise, L table, S sparse, LS sparse table, SB sparse blockwise stand for the constexpr_
 * ones. */
static inline const char *ops_of(const rq_coreml *m, char *buf, size_t n)
{
    static const char *const shorts[][2] = {
        { "constexpr_affine_dequantize", "A" }, { "constexpr_blockwise_shift_scale", "B" },
        { "constexpr_lut_to_dense", "L" },      { "constexpr_sparse_to_dense", "S" },
        { "constexpr_lut_to_sparse", "LS" },    { "constexpr_sparse_blockwise_shift_scale", "SB" }
    };
    const rq_mil_block *b = m->program.functions[0]->block;
    buf[0] = 0;
    for (int i = 0; i < b->n_ops; i++) {
        const char *type = b->ops[i]->type;
        for (size_t k = 0; k < sizeof shorts / sizeof shorts[0]; k++)
            type = strcmp(type, shorts[k][0]) ? type : shorts[k][1];
        if (strcmp(type, "const") != 0)
            snprintf(buf + strlen(buf), n - strlen(buf), "%s%s", *buf ? " " : "", type);
    }
    return buf;
}

static inline rq_mil_op *find_op(const rq_coreml *m, const char *name)
{
    const rq_mil_block *b = m->program.functions[0]->block;
    for (int i = 0; i < b->n_ops; i++)
        if (!strcmp(rq_mil_op_name(b->ops[i]), name))
            return b->ops[i];
    return NULL;
}

/* A parameter of an operation, by value or as an attribute. */
static inline rq_mil_value *param(const rq_coreml *m, const char *name, const char *what)
{
    const rq_mil_op *op = find_op(m, name);
    if (!op)
        fail_msg("there is no operation '%s'", name);
    const rq_mil_arg *a = rq_mil_op_arg(op, what);
    return a ? a->binding[0].value : rq_mil_op_attr(op, what);
}

/* "int8[90,30,2,2]"; "" where it is not there. */
static inline const char *param_type(const rq_coreml *m, const char *name, const char *what, char *buf, size_t n)
{
    const rq_mil_value *v = param(m, name, what);
    buf[0] = 0;
    return v ? rq_mil_type_text(v->type, buf, n) : buf;
}

#define ASSERT_TYPE(m, name, what, want)                                                                               \
    do {                                                                                                               \
        char type_[100];                                                                                               \
        assert_string_equal(param_type(m, name, what, type_, sizeof type_), want);                                     \
    } while (0)
#define ASSERT_OPS(m, want)                                                                                            \
    do {                                                                                                               \
        char ops_[1000];                                                                                               \
        assert_string_equal(ops_of(m, ops_, sizeof ops_), want);                                                       \
    } while (0)

/* The config that this YAML says, in one line without its first key. */
static inline rq_coreml_config *linear_config(const char *yaml)
{
    rq_coreml_config *c;
    char text[2000];
    snprintf(text, sizeof text, "{config_type: OpLinearQuantizerConfig, %s}", yaml);
    OK(rq_coreml_config_parse(&c, text, strlen(text), &err));
    return c;
}

/* Quantize, and have the program checked; with `joint` or not. */
static inline rq_status quantize_as(rq_coreml *m, const char *yaml, bool joint, rq_coreml_report **report)
{
    rq_coreml_config *c = linear_config(yaml);
    const rq_status s = rq_coreml_linear_quantize_weights(m, c, joint, report, &err);
    rq_coreml_config_destroy(c);
    if (s == RQ_OK)
        OK(rq_mil_check(&m->program, &err));
    return s;
}

#define QUANTIZE(m, yaml) OK(quantize_as(m, yaml, false, NULL))

#endif
