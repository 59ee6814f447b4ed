/* ops/int_weight_only.c — MatMul and Gemm of floats by a large constant weight that is codes: the weight stays in its
 * codes, of 2 to 16 bits, and becomes floats a panel of columns at a time inside the product (weight_only.h). Values are
 * those of DequantizeLinear. Smaller weights, and those of Conv, are dequantized once when the plan is made. */

#include "kernels/quantize.h"
#include "ops/int_pick.h"
#include "ops/rows.h"
#include "ops/weight_only.h"

enum { LARGE = 1 << 18 }; /* elements from which a float copy is not made */

static bool is_trans(const rq_node *n, rq_word name)
{
    return n->row == &rq_op_gemm && rq_attr_int(n, name, 0);
}

static bool only_accepts(const rq_op_args *a, const char **why)
{
    const rq_qparams *q = a->in_q[1];
    const rq_tensor *w = a->in[1], *c = a->n_in > 2 ? a->in[2] : NULL;
    const bool gemm = a->node->row == &rq_op_gemm;
    *why = "input is not quantized";
    if (a->in_q[0] || !q || !w->data || a->out_q[0] || rq_tensor_count(w) < LARGE)
        return false;
    if (a->in[0]->dtype != RQ_DTYPE_F32 || w->shape.rank != 2 || rq_dtype_bits(q->dtype) > 16)
        return false;
    if (gemm && (is_trans(a->node, RQ_WORD_transA) || rq_attr_float(a->node, RQ_WORD_alpha, 1) != 1))
        return false;
    return !c || (!a->in_q[2] && c->dtype == RQ_DTYPE_F32 && rq_attr_float(a->node, RQ_WORD_beta, 1) == 1 &&
                  c->shape.rank >= 1 && rq_tensor_count(c) == w->shape.dim[!is_trans(a->node, RQ_WORD_transB)] &&
                  c->shape.dim[c->shape.rank - 1] == rq_tensor_count(c));
}

typedef struct decoder {
    const rq_tensor *w;
    const rq_qparams *q;
    bool trans; /* w is [columns][depth] */
} decoder;

enum { PART = 256 };

/* Row `row` of w as stored, from column c on, n of them, `step` floats apart. */
static void decode_row(const decoder *d, float *dst, int64_t step, int64_t row, int64_t c, int64_t n)
{
    const rq_qparams *q = d->q;
    const int64_t columns = d->w->shape.dim[1], blocks = q->block ? (columns + q->block - 1) / q->block : 0;
    const bool in_row = q->axis == 1 && q->block; /* a scale for each block of the row */
    const int64_t each = (q->axis == 1 && !q->block) || (q->axis == 0 && q->block); /* one for each column */
    int32_t codes[PART];
    for (const int64_t end = c + n; c < end;) {
        int64_t some = end - c < PART ? end - c : PART, s = 0;
        if (in_row) {
            const int64_t left = q->block - c % q->block;
            some = some < left ? some : left;
            s = row * blocks + c / q->block;
        } else if (q->axis == 0) {
            s = q->block ? row / q->block * columns + c : row;
        } else if (q->axis == 1) {
            s = c;
        }
        rq_int_unpack(codes, d->w, row * columns + c, some);
        const float *scale = q->scale + s;
        const int32_t *zero = q->zero_point + s;
        if (each)
            for (int64_t k = 0; k < some; k++)
                dst[k * step] = rq_dequantize_one(codes[k], scale[k], zero[k]);
        else
            for (int64_t k = 0; k < some; k++)
                dst[k * step] = rq_dequantize_one(codes[k], *scale, *zero);
        dst += some * step;
        c += some;
    }
}

/* Panel as [column][depth], whichever way w is stored. */
static void fill(const void *arg, float *dst, int64_t j0, int64_t n)
{
    const decoder *d = arg;
    const int64_t depth = d->w->shape.dim[d->trans];
    if (d->trans)
        for (int64_t j = 0; j < n; j++)
            decode_row(d, dst + j * depth, 1, j0 + j, 0, depth);
    else
        for (int64_t k = 0; k < depth; k++)
            decode_row(d, dst + k, depth, k, j0, n);
}

static rq_status only_prepare(const rq_op_args *a, void **state)
{
    *state = NULL; /* everything is in the graph */
    return RQ_OK;
}

static size_t only_scratch(const rq_op_args *a)
{
    const bool trans = is_trans(a->node, RQ_WORD_transB);
    return rq_weight_only_scratch(a->in[1]->shape.dim[trans], a->in[1]->shape.dim[!trans],
                                  rq_threads_count(a->threads));
}

static rq_status only_forward(const rq_op_args *a)
{
    const bool trans = is_trans(a->node, RQ_WORD_transB);
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

const rq_int_form rq_int_weight_only = { only_accepts, only_prepare, only_forward, only_scratch, NULL, false };
