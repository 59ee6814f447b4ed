/* ops/int_weight_only.c — MatMul and Gemm of floats by a large constant weight that is codes: the weight stays in its
 * codes, of 2 to 16 bits, and becomes floats a panel of columns at a time inside the product (weight_only.h). Values are
 * those of DequantizeLinear. Smaller weights, and those of Conv, are dequantized once when the plan is made. */
#include <string.h>

#include "kernels/quantize.h"
#include "ops/int_pick.h"
#include "ops/weight_only.h"

enum { LARGE = 1 << 18 }; /* elements from which a float copy is not made */

static bool is_trans(const rq_node *n, const char *name)
{
    return strcmp(n->op, "Gemm") == 0 && rq_attr_int(n, name, 0);
}

static bool only_accepts(const rq_op_args *a, const char **why)
{
    const rq_qparams *q = a->in_q[1];
    const rq_tensor *w = a->in[1], *c = a->n_in > 2 ? a->in[2] : NULL;
    const bool gemm = strcmp(a->node->op, "Gemm") == 0;
    *why = "input is not quantized";
    if (a->in_q[0] || !q || !w->data || a->out_q[0] || rq_tensor_count(w) < LARGE)
        return false;
    if (a->in[0]->dtype != RQ_DTYPE_F32 || w->shape.rank != 2 || rq_dtype_bits(q->dtype) > 16)
        return false;
    if (gemm && (is_trans(a->node, "transA") || rq_attr_float(a->node, "alpha", 1) != 1))
        return false;
    return !c || (!a->in_q[2] && c->dtype == RQ_DTYPE_F32 && rq_attr_float(a->node, "beta", 1) == 1 &&
                  c->shape.rank >= 1 && rq_tensor_count(c) == w->shape.dim[!is_trans(a->node, "transB")] &&
                  c->shape.dim[c->shape.rank - 1] == rq_tensor_count(c));
}

typedef struct decoder {
    const rq_tensor *w;
    const rq_qparams *q;
    bool trans; /* w is [columns][depth] */
} decoder;

/* Index of the scale of w[i][j], row and column as stored. */
static inline int64_t scale_at(const decoder *d, int64_t i, int64_t j)
{
    const rq_qparams *q = d->q;
    const int64_t columns = d->w->shape.dim[1];
    if (q->axis == RQ_PER_TENSOR)
        return 0;
    if (!q->block)
        return q->axis == 0 ? i : j;
    return q->axis == 0 ? i / q->block * columns + j : i * ((columns + q->block - 1) / q->block) + j / q->block;
}

enum { PART = 256 };

/* Panel as [column][depth], whichever way w is stored. */
static void fill(const void *arg, float *dst, int64_t j0, int64_t n)
{
    const decoder *d = arg;
    const int64_t depth = d->w->shape.dim[d->trans], columns = d->w->shape.dim[1];
    int32_t codes[PART];
    for (int64_t r = 0; r < (d->trans ? n : depth); r++) { /* rows as stored */
        const int64_t row = d->trans ? j0 + r : r, first = d->trans ? 0 : j0, last = d->trans ? depth : j0 + n;
        for (int64_t c = first; c < last; c += PART) {
            const int64_t some = last - c < PART ? last - c : PART;
            rq_int_unpack(codes, d->w, row * columns + c, some);
            for (int64_t k = 0; k < some; k++) {
                const int64_t s = scale_at(d, row, c + k);
                const int64_t to = d->trans ? r * depth + c + k : (c - j0 + k) * depth + r;
                dst[to] = rq_dequantize_one(codes[k], d->q->scale[s], d->q->zero_point[s]);
            }
        }
    }
}

static rq_status only_prepare(const rq_op_args *a, void **state)
{
    *state = NULL; /* everything is in the graph */
    return RQ_OK;
}

static size_t only_scratch(const rq_op_args *a)
{
    const bool trans = is_trans(a->node, "transB");
    return rq_weight_only_scratch(a->in[1]->shape.dim[trans], a->in[1]->shape.dim[!trans],
                                  rq_threads_count(a->threads));
}

static rq_status only_forward(const rq_op_args *a)
{
    const bool trans = is_trans(a->node, "transB");
    const decoder d = { a->in[1], a->in_q[1], trans };
    const rq_weight_only p = { .k = a->k,
                               .rows = rq_shape_span(&a->in[0]->shape, 0, a->in[0]->shape.rank - 1),
                               .depth = a->in[1]->shape.dim[trans],
                               .columns = a->in[1]->shape.dim[!trans],
                               .x = a->in[0]->f32,
                               .y = a->out[0]->f32,
                               .bias = a->n_in > 2 && a->in[2] ? a->in[2]->f32 : NULL,
                               .fill = fill,
                               .arg = &d };
    return rq_weight_only_run(&p, a->scratch, a->threads);
}

const rq_int_form rq_int_weight_only = { only_accepts, only_prepare, only_forward, only_scratch, NULL };
