/* ops/attention_int.c — see attention_int.h (docs/onnx-facts.md 2.9). Constant weights are packed once. */
#include "ops/attention_int.h"

#include "ops/int_ops.h"
#include "ops/int_product.h"

enum { X, W, BIAS, X_SCALE, W_SCALE, X_ZERO = 6, W_ZERO };

rq_status rq_attention_int_check(const rq_infer *a)
{
    const int at[4] = { X_SCALE, X_ZERO, W_SCALE, W_ZERO };
    const rq_tensor *x = a->in[X], *w = rq_op_input(a->in, a->n_in, W);
    if (!w || !rq_op_input(a->in, a->n_in, BIAS) || !rq_op_input(a->in, a->n_in, X_SCALE) ||
        !rq_op_input(a->in, a->n_in, W_SCALE))
        return rq_infer_fail(a, RQ_BAD_GRAPH, "weights, bias or a scale are missing");
    if ((x->dtype != RQ_DTYPE_NONE && !rq_int_is_byte(x->dtype)) ||
        (w->dtype != RQ_DTYPE_NONE && !rq_int_is_byte(w->dtype)))
        return rq_infer_fail(a, RQ_BAD_DTYPE, "input and weights are %s and %s, expected u8 or s8",
                             rq_dtype_name(x->dtype), rq_dtype_name(w->dtype));
    const int64_t columns = w->shape.rank == 2 ? w->shape.dim[1] : -1;
    for (int i = 0; i < 4; i++) {
        const rq_tensor *t = rq_op_input(a->in, a->n_in, at[i]), *of = i < 2 ? x : w;
        if (!t)
            continue;
        if (i % 2 == 0 && t->dtype != RQ_DTYPE_NONE && !rq_dtype_is_float(t->dtype))
            return rq_infer_fail(a, RQ_BAD_DTYPE, "input %d, a scale, is %s", at[i], rq_dtype_name(t->dtype));
        if (i % 2 && t->dtype != RQ_DTYPE_NONE && of->dtype != RQ_DTYPE_NONE && t->dtype != of->dtype)
            return rq_infer_fail(a, RQ_BAD_DTYPE, "input %d, a zero point, is %s, the codes %s", at[i],
                                 rq_dtype_name(t->dtype), rq_dtype_name(of->dtype));
        const int64_t n = rq_shape_is_known(&t->shape) ? rq_shape_count(&t->shape) : 1;
        if (n != 1 && (i < 2 || (columns >= 0 && n != columns)))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d has %lld entries, expected 1%s", at[i], (long long)n,
                                 i < 2 ? "" : " or one per column of the weights");
    }
    return RQ_OK;
}

rq_status rq_attention_int_prepare(const rq_op_args *a, void **state)
{
    const rq_shape *x = &a->in[X]->shape, *w = &a->in[W]->shape;
    rq_product *p = rq_mem_zalloc(1, sizeof *p);
    if (!p)
        return RQ_NO_MEMORY;
    const rq_status st =
        rq_product_init(p, a, a->in[X]->dtype, a->in[W], 1, x->dim[0] * x->dim[1], w->dim[0], w->dim[1]);
    if (st)
        rq_mem_free(p);
    else
        *state = p;
    return st;
}

void rq_attention_int_release(void *state)
{
    if (state)
        rq_product_release(state);
    rq_mem_free(state);
}

size_t rq_attention_int_scratch(const rq_op_args *a)
{
    return rq_product_scratch(a->state);
}

static rq_tensor share(const rq_op_args *a, int i)
{
    const rq_tensor *t = rq_op_input(a->in, a->n_in, i);
    const rq_tensor none = { 0 };
    return t ? rq_tensor_view(t->dtype, &t->shape, t->data) : none;
}

void rq_attention_int_project(const rq_op_args *a, float *y, void *scratch)
{
    const rq_product *p = a->state;
    const rq_product_job j = { .x = a->in[X]->u8,
                               .w = a->in[W]->u8,
                               .rows = p->rows,
                               .x_scale = share(a, X_SCALE),
                               .x_zero = share(a, X_ZERO),
                               .w_scale = share(a, W_SCALE),
                               .w_zero = share(a, W_ZERO),
                               .bias = a->in[BIAS]->f32,
                               .y = y,
                               .y_dtype = RQ_DTYPE_F32 };
    if (p->rows && p->columns)
        rq_product_run(p, &j, scratch, a->threads);
}
