/* tests/coreml/program_help.h — over programs.h, for palettes, pruning and chains of both: operations that nothing has to run, in one call each; the weight
 * of a layer and its parameters; algorithms from YAML. */
#ifndef RQ_TESTS_PROGRAM_HELP_H
#define RQ_TESTS_PROGRAM_HELP_H

#include "coreml/programs.h"
#include "coreml/weights.h"
#include "requant/coreml_optimize.h"

/* spec 7: iOS 16; 9: iOS 18. */
static inline void program_begin(program *p, int spec, int rank, const int64_t *dim)
{
    begin(p, spec, false, rank, dim);
}

/* A const fp32 of these numbers (NULL: random). */
static inline void program_const(program *p, const char *name, const float *v, int rank, const int64_t *dim)
{
    constant(p, name, rank, dim, v);
}

/* An operation that reads x and one more; it becomes the output of the function. */
static inline rq_mil_op *program_op(program *p, const char *type, const char *name, const char *x, const char *param,
                                    const char *value, int rank, const int64_t *dim)
{
    rq_mil_program *mil = &p->m->program;
    rq_mil_op *op = rq_mil_op_make(mil, type, name);
    assert_true(op && rq_mil_op_bind(mil, op, "x", x));
    assert_true(!param || rq_mil_op_bind(mil, op, param, value));
    assert_true(rq_mil_op_output(mil, op, name, rq_mil_tensor_type(mil, rq_mil_dtype_of_name("fp32"), rank, dim)) &&
                rq_mil_block_insert(mil, p->b, p->b->n_ops, op));
    p->b->n_outputs = 0;
    assert_true(rq_mil_block_output(mil, p->b, op->outputs[0].name));
    return op;
}

/* P1, or with matmul P3. */
static inline void program_p1(program *p, int spec, bool matmul)
{
    make_p1(p, spec, false, matmul);
}

static inline void program_p2(program *p)
{
    make_p2(p, 7, false);
}

/* Types of all operations but const, in the short forms of ops_of. */
static inline void program_is(const program *p, const char *types)
{
    ASSERT_OPS(p->m, types);
}

/* The operation that gives what `name` reads as its weight (or y). */
static inline const rq_mil_op *program_weight(const program *p, const char *name)
{
    for (int i = 0; i < p->b->n_ops; i++) {
        const rq_mil_op *op = p->b->ops[i];
        if (strcmp(rq_mil_op_name(op), name) != 0 || !strncmp(op->type, "const", 5))
            continue;
        const rq_mil_arg *arg = rq_mil_op_arg(op, "weight") ? rq_mil_op_arg(op, "weight") : rq_mil_op_arg(op, "y");
        assert_non_null(arg);
        for (int k = 0; k < p->b->n_ops; k++)
            for (int o = 0; o < p->b->ops[k]->n_outputs; o++)
                if (!strcmp(p->b->ops[k]->outputs[o].name, arg->binding[0].name))
                    return p->b->ops[k];
    }
    fail_msg("no weight of '%s'", name);
    return NULL;
}

/* An inline parameter or attribute as text of its type: "fp32[1,1,16,1]". */
static inline const char *program_param(const rq_mil_op *op, const char *param, char *buf, size_t n)
{
    const rq_mil_arg *arg = rq_mil_op_arg(op, param);
    const rq_mil_value *v = arg ? arg->binding[0].value : rq_mil_op_attr(op, param);
    return v ? rq_mil_type_text(v->type, buf, n) : "none";
}

static inline void param_is(const program *p, const char *layer, const char *param, const char *type)
{
    char buf[120];
    assert_string_equal(program_param(program_weight(p, layer), param, buf, sizeof buf), type);
}

/* A config from YAML. */
static inline rq_coreml_config *config_of(const char *text)
{
    rq_coreml_config *c;
    OK(rq_coreml_config_parse(&c, text, strlen(text), &err));
    return c;
}

typedef rq_status (*program_algorithm)(rq_coreml *m, const rq_coreml_config *c, bool joint, rq_coreml_report **report,
                                       rq_err *err);

/* Run an algorithm; what the report says of everything, in `said` (1000 bytes; or NULL). */
static inline rq_status program_try(program *p, program_algorithm run, const char *yaml, bool joint, char *said)
{
    rq_coreml_config *c = config_of(yaml);
    rq_coreml_report *report = NULL;
    const rq_status s = run(p->m, c, joint, &report, &err);
    if (!s && said)
        assert_true(rq_coreml_report_text(report, true, said, 4000) >= 0);
    rq_coreml_report_destroy(report);
    rq_coreml_config_destroy(c);
    p->b = p->m->program.functions[0]->block;
    return s;
}

static inline void program_run(program *p, program_algorithm run, const char *yaml)
{
    OK(program_try(p, run, yaml, false, NULL));
}

static inline void program_end(program *p)
{
    rq_coreml_close(p->m);
    p->m = NULL;
}

#endif
