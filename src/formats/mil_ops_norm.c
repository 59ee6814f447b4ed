/* formats/mil_ops_norm.c — rows: pools and normalization. */
#include "formats/mil_rows.h"

#include <string.h>

typedef rq_mil_reader reader;
typedef rq_chain chain;

/* ---- pools ---- */

static rq_status pool(reader *r, const rq_mil_op *op)
{
    const bool average = !strcmp(op->type, "avg_pool"), squares = !strcmp(op->type, "l2_pool");
    int64_t size[16];
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int64_t ceil_mode = rq_chain_int(&c, "ceil_mode", 0),
                  exclude = rq_chain_int(&c, "exclude_padding_from_average", 0);
    const int n = rq_chain_ints(&c, "kernel_sizes", size);
    if (n < 1 && !c.st)
        rq_chain_fail(&c, RQ_BAD_FILE, "'kernel_sizes' is missing");
    const char *y = rq_n1(&c, average ? "AveragePool" : squares ? "LpPool" : "MaxPool", x);
    rq_chain_set_ints(&c, "kernel_shape", size, n > 0 ? n : 0);
    rq_chain_set_int(&c, "ceil_mode", ceil_mode);
    if (average)
        rq_chain_set_int(&c, "count_include_pad", !exclude);
    rq_chain_windows(&c, n);
    return rq_chain_end(&c, 0, y);
}

/* ---- normalization ---- */

/* A parameter as elements of type d, or n times `fill`; NULL when it is absent and n is not known. */
static const char *vector(chain *c, const char *param, rq_dtype d, const rq_shape *shape, float fill)
{
    const char *v = rq_chain_maybe(c, param);
    rq_tensor t;
    if (v || c->st)
        return v ? rq_chain_cast(c, v, d) : NULL;
    if (rq_shape_check(shape) || !rq_shape_is_known(shape))
        return rq_chain_fail(c, RQ_UNSUPPORTED, "the operator without '%s' on axes of unknown size is not supported",
                             param);
    if (rq_tensor_create(&t, RQ_DTYPE_F32, shape, true))
        return rq_chain_fail(c, RQ_NO_MEMORY, "not enough memory");
    for (int64_t i = 0; i < rq_shape_count(shape); i++)
        t.f32[i] = fill;
    v = rq_chain_tensor(c, &t);
    rq_tensor_release(&t);
    return rq_chain_cast(c, v, d);
}

static rq_status batch_norm(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const rq_dtype d = rq_chain_dtype(&c, x);
    const char *mean = rq_chain_cast(&c, rq_chain_in(&c, "mean"), d);
    const char *variance = rq_chain_cast(&c, rq_chain_in(&c, "variance"), d);
    const rq_shape channels = rq_shape_of(1, (int64_t[]) { rq_chain_size(&c, mean, 0) });
    const char *gamma = vector(&c, "gamma", d, &channels, 1), *beta = vector(&c, "beta", d, &channels, 0);
    const float epsilon = rq_chain_float(&c, "epsilon", 1e-5f);
    const char *y =
        rq_chain_node(&c, "BatchNormalization", (const char *const[]) { x, gamma, beta, mean, variance }, 5);
    rq_chain_set_float(&c, "epsilon", epsilon);
    return rq_chain_end(&c, 0, y);
}

static rq_status instance_norm(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const rq_dtype d = rq_chain_dtype(&c, x);
    const rq_shape channels = rq_shape_of(1, (int64_t[]) { rq_chain_size(&c, x, 1) });
    const char *gamma = vector(&c, "gamma", d, &channels, 1), *beta = vector(&c, "beta", d, &channels, 0);
    const float epsilon = rq_chain_float(&c, "epsilon", 1e-5f);
    const char *y = rq_n3(&c, "InstanceNormalization", x, gamma, beta);
    rq_chain_set_float(&c, "epsilon", epsilon);
    return rq_chain_end(&c, 0, y);
}

/* x / sqrt(sum of squares over the last three axes + epsilon) */
static rq_status l2_norm(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const float epsilon = rq_chain_float(&c, "epsilon", 1e-6f);
    const rq_dtype d = rq_chain_dtype(&c, x);
    if (rq_chain_rank(&c, x) < 3)
        rq_chain_fail(&c, RQ_BAD_FILE, "'x' has fewer than 3 axes");
    const char *sum = rq_n2(&c, "ReduceSumSquare", x, rq_chain_const_ints(&c, (const int64_t[]) { -3, -2, -1 }, 3));
    const char *root = rq_n1(&c, "Sqrt", rq_n2(&c, "Add", sum, rq_chain_const(&c, d, (double)epsilon)));
    return rq_chain_end(&c, 0, rq_n2(&c, "Div", x, root));
}

static rq_status local_response_norm(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int64_t size = rq_chain_int(&c, "size", 0);
    const float alpha = rq_chain_float(&c, "alpha", 1e-4f), beta = rq_chain_float(&c, "beta", 0.75f),
                k = rq_chain_float(&c, "k", 1);
    if (size < 1)
        rq_chain_fail(&c, RQ_BAD_FILE, "'size' is %lld, expected at least 1", (long long)size);
    const char *y = rq_n1(&c, "LRN", x);
    rq_chain_set_int(&c, "size", size);
    rq_chain_set_float(&c, "alpha", alpha);
    rq_chain_set_float(&c, "beta", beta);
    rq_chain_set_float(&c, "bias", k);
    return rq_chain_end(&c, 0, y);
}

/* gamma or beta, of the normalized axes, with axes of size 1 for the others. */
static const char *spread(chain *c, const char *param, const char *x, const bool *is_normalized, int rank)
{
    int64_t shape[RQ_MAX_RANK];
    const char *v = rq_chain_maybe(c, param);
    for (int i = 0; i < rank; i++)
        shape[i] = is_normalized[i] ? rq_chain_size(c, x, i) : 1;
    for (int i = 0; i < rank && v; i++)
        if (shape[i] < 0)
            return rq_chain_fail(c, RQ_UNSUPPORTED, "normalization of axes of unknown size is not supported");
    if (!v)
        return NULL;
    return rq_n2(c, "Reshape", rq_chain_cast(c, v, rq_chain_dtype(c, x)), rq_chain_const_ints(c, shape, rank));
}

/* Over any axes: mean and variance by themselves. */
static const char *norm_by_parts(chain *c, const char *x, const bool *is_normalized, int rank, float epsilon)
{
    int64_t axes[RQ_MAX_RANK];
    int n = 0;
    for (int i = 0; i < rank; i++)
        if (is_normalized[i])
            axes[n++] = i;
    const char *list = rq_chain_const_ints(c, axes, n);
    const char *centred = rq_n2(c, "Sub", x, rq_n2(c, "ReduceMean", x, list));
    const char *variance = rq_n2(c, "ReduceMean", rq_n2(c, "Mul", centred, centred), list);
    const char *e = rq_chain_const(c, rq_chain_dtype(c, x), (double)epsilon);
    const char *y = rq_n2(c, "Div", centred, rq_n1(c, "Sqrt", rq_n2(c, "Add", variance, e)));
    const char *gamma = spread(c, "gamma", x, is_normalized, rank), *beta = spread(c, "beta", x, is_normalized, rank);
    if (gamma)
        y = rq_n2(c, "Mul", y, gamma);
    return beta ? rq_n2(c, "Add", y, beta) : y;
}

static rq_status layer_norm(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const float epsilon = rq_chain_float(&c, "epsilon", 1e-5f);
    const rq_dtype d = rq_chain_dtype(&c, x);
    int64_t axes[16];
    bool is_normalized[RQ_MAX_RANK] = { false };
    const int rank = rq_chain_rank(&c, x), n = rq_chain_ints(&c, "axes", axes);
    for (int i = 0; i < (n < 0 ? rank : n) && !c.st; i++)
        is_normalized[n < 0 ? i : rq_chain_axis(&c, axes[i], rank)] = true;
    int first = 0;
    while (first < rank && !is_normalized[first])
        first++;
    bool is_tail = first < rank, is_known = true;
    rq_shape tail = { .rank = 0 };
    for (int i = first; i < rank && !c.st; i++) {
        is_tail = is_tail && is_normalized[i];
        tail.dim[tail.rank++] = rq_chain_size(&c, x, i);
        is_known = is_known && tail.dim[tail.rank - 1] >= 0;
    }
    if (!is_tail || (!is_known && !rq_mil_reader_has(op, "gamma")))
        return rq_chain_end(&c, 0, norm_by_parts(&c, x, is_normalized, rank, epsilon));
    const char *gamma = vector(&c, "gamma", d, &tail, 1), *beta = rq_chain_maybe(&c, "beta");
    const char *y = rq_n3(&c, "LayerNormalization", x, gamma, beta ? rq_chain_cast(&c, beta, d) : NULL);
    rq_chain_set_int(&c, "axis", first);
    rq_chain_set_float(&c, "epsilon", epsilon);
    return rq_chain_end(&c, 0, y);
}

const rq_mil_row rq_mil_rows_norm[] = {
    { "avg_pool", pool, "AveragePool", NULL },
    { "batch_norm", batch_norm, "BatchNormalization", NULL },
    { "instance_norm", instance_norm, "InstanceNormalization", NULL },
    { "l2_norm", l2_norm, "ReduceSumSquare, Add, Sqrt, Div", NULL },
    { "l2_pool", pool, "LpPool", NULL },
    { "layer_norm", layer_norm, "LayerNormalization; ReduceMean, Sub, Mul, Sqrt, Div, Add", NULL },
    { "local_response_norm", local_response_norm, "LRN", NULL },
    { "max_pool", pool, "MaxPool", NULL },
    { NULL, NULL, NULL, NULL },
};
