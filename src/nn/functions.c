/* nn/functions.c — functions of a module's own forward, and what marks a network for quantization in eager mode: stubs, QuantWrapper,
 * FloatFunctional. The last word of a node's name says which of these it is, "/quant/QuantStub", so that a file keeps it. */
#include <stdio.h>
#include <string.h>

#include "nn/nn.h"

static rq_nn_value binary(rq_nn *n, const char *op, rq_nn_value a, rq_nn_value b)
{
    return rq_nn_ok(n) ? rq_nn_apply(n, rq_nn_here(n), NULL, op, (rq_id[]) { a, b }, 2) : RQ_NN_FAILED;
}

rq_nn_value rq_nn_add(rq_nn *n, rq_nn_value a, rq_nn_value b)
{
    return binary(n, "Add", a, b);
}

rq_nn_value rq_nn_sub(rq_nn *n, rq_nn_value a, rq_nn_value b)
{
    return binary(n, "Sub", a, b);
}

rq_nn_value rq_nn_mul(rq_nn *n, rq_nn_value a, rq_nn_value b)
{
    return binary(n, "Mul", a, b);
}

rq_nn_value rq_nn_matmul(rq_nn *n, rq_nn_value a, rq_nn_value b)
{
    return binary(n, "MatMul", a, b);
}

static rq_nn_value cat(rq_nn *n, const char *path, const char *last, int count, const rq_nn_value *x, int axis)
{
    const rq_id node = rq_nn_open(n, path, last, "Concat", x, count, 1);
    rq_nn_set_int(n, node, "axis", axis);
    return rq_nn_close(n, node);
}

rq_nn_value rq_nn_cat(rq_nn *n, int count, const rq_nn_value *x, int axis)
{
    return rq_nn_ok(n) ? cat(n, rq_nn_here(n), NULL, count, x, axis) : RQ_NN_FAILED;
}

rq_nn_value rq_nn_reshape(rq_nn *n, rq_nn_value x, int rank, const int64_t *dim)
{
    if (!rq_nn_ok(n))
        return RQ_NN_FAILED;
    const rq_id shape = rq_nn_ints(n, rq_nn_here(n), "shape", dim, rank);
    return rq_nn_apply(n, rq_nn_here(n), NULL, "Reshape", (rq_id[]) { x, shape }, 2);
}

rq_nn_value rq_nn_permute(rq_nn *n, rq_nn_value x, const int64_t *perm)
{
    const rq_shape s = rq_nn_shape(n, x);
    if (!rq_nn_ok(n))
        return RQ_NN_FAILED;
    if (s.rank < 0)
        return rq_nn_fail(n, RQ_BAD_SHAPE, "axes of a value of unknown shape are permuted");
    const rq_id node = rq_nn_open(n, rq_nn_here(n), NULL, "Transpose", &x, 1, 1);
    rq_nn_set_ints(n, node, "perm", perm, s.rank);
    return rq_nn_close(n, node);
}

rq_nn_value rq_nn_mean(rq_nn *n, rq_nn_value x, int axis, bool keep)
{
    if (!rq_nn_ok(n))
        return RQ_NN_FAILED;
    const rq_id axes = rq_nn_ints(n, rq_nn_here(n), "axes", (const int64_t[]) { axis }, 1);
    const rq_id node = rq_nn_open(n, rq_nn_here(n), NULL, "ReduceMean", (rq_id[]) { x, axes }, 2, 1);
    rq_nn_set_int(n, node, "keepdims", keep);
    return rq_nn_close(n, node);
}

/* ---- stubs ---- */

rq_nn_value rq_nn_quant_stub(rq_nn *n, const char *name, rq_nn_value x)
{
    const rq_nn_module *m = rq_nn_use(n, name, "QuantStub", NULL, 0, &x, 1);
    return m ? rq_nn_apply(n, m->path, "QuantStub", "Identity", &x, 1) : RQ_NN_FAILED;
}

rq_nn_value rq_nn_dequant_stub(rq_nn *n, const char *name, rq_nn_value x)
{
    const rq_nn_module *m = rq_nn_use(n, name, "DeQuantStub", NULL, 0, &x, 1);
    return m ? rq_nn_apply(n, m->path, "DeQuantStub", "Identity", &x, 1) : RQ_NN_FAILED;
}

/* The root is entered as a scope of its own, too, so that the end need not know where it began. */
rq_nn_value rq_nn_quant_wrapper_begin(rq_nn *n, const char *name, rq_nn_value x)
{
    const bool root = name && !name[0];
    if (!rq_nn_ok(n))
        return RQ_NN_FAILED;
    if (root) {
        if (!rq_mem_grow(&n->scopes, n->n_scopes, &n->cap_scopes, sizeof *n->scopes))
            return rq_nn_fail(n, RQ_NO_MEMORY, "not enough memory for a network");
        n->scopes[n->n_scopes] = (rq_nn_scope) { rq_nn_here(n), 0 };
        n->n_scopes++;
    } else
        rq_nn_enter(n, name);
    x = rq_nn_quant_stub(n, "quant", x);
    rq_nn_enter(n, "module");
    return x;
}

rq_nn_value rq_nn_quant_wrapper_end(rq_nn *n, rq_nn_value x)
{
    rq_nn_leave(n);
    x = rq_nn_dequant_stub(n, "dequant", x);
    rq_nn_leave(n);
    return x;
}

/* ---- FloatFunctional ---- */

static rq_nn_value functional(rq_nn *n, const char *name, const char *what, const char *op, const rq_nn_value *x,
                              int count)
{
    char last[64];
    const rq_nn_module *m = rq_nn_use(n, name, "FloatFunctional", NULL, 0, x, count);
    if (!m)
        return RQ_NN_FAILED;
    snprintf(last, sizeof last, "FloatFunctional.%s", what);
    return rq_nn_apply(n, m->path, last, op, x, count);
}

rq_nn_value rq_nn_ff_add(rq_nn *n, const char *name, rq_nn_value a, rq_nn_value b)
{
    return functional(n, name, "add", "Add", (rq_id[]) { a, b }, 2);
}

rq_nn_value rq_nn_ff_mul(rq_nn *n, const char *name, rq_nn_value a, rq_nn_value b)
{
    return functional(n, name, "mul", "Mul", (rq_id[]) { a, b }, 2);
}

rq_nn_value rq_nn_ff_matmul(rq_nn *n, const char *name, rq_nn_value a, rq_nn_value b)
{
    return functional(n, name, "matmul", "MatMul", (rq_id[]) { a, b }, 2);
}

rq_nn_value rq_nn_ff_cat(rq_nn *n, const char *name, int count, const rq_nn_value *x, int axis)
{
    const rq_nn_module *m = rq_nn_use(n, name, "FloatFunctional", NULL, 0, x, count);
    return m ? cat(n, m->path, "FloatFunctional.cat", count, x, axis) : RQ_NN_FAILED;
}

rq_nn_value rq_nn_ff_add_relu(rq_nn *n, const char *name, rq_nn_value a, rq_nn_value b)
{
    const rq_nn_module *m = rq_nn_use(n, name, "FloatFunctional", NULL, 0, (const rq_nn_value[]) { a, b }, 2);
    if (!m)
        return RQ_NN_FAILED;
    const rq_nn_value sum = rq_nn_apply(n, m->path, "FloatFunctional.add_relu", "Add", (rq_id[]) { a, b }, 2);
    return rq_nn_apply(n, m->path, "FloatFunctional.add_relu.relu", "Relu", &sum, 1);
}

static rq_nn_value scalar(rq_nn *n, const char *name, const char *last, const char *op, rq_nn_value x, double c)
{
    const rq_nn_module *m = rq_nn_use(n, name, "FloatFunctional", NULL, 0, &x, 1);
    const float v = (float)c;
    if (!m)
        return RQ_NN_FAILED;
    const rq_id k = rq_nn_floats(n, m->path, "scalar", 0, &v, 1);
    return rq_nn_apply(n, m->path, last, op, (rq_id[]) { x, k }, 2);
}

rq_nn_value rq_nn_ff_add_scalar(rq_nn *n, const char *name, rq_nn_value x, double c)
{
    return scalar(n, name, "FloatFunctional.add_scalar", "Add", x, c);
}

rq_nn_value rq_nn_ff_mul_scalar(rq_nn *n, const char *name, rq_nn_value x, double c)
{
    return scalar(n, name, "FloatFunctional.mul_scalar", "Mul", x, c);
}
