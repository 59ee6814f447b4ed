/* algo/weights.c — see weights.h. Groups of weights that share a scale are gathered into rows, quantized there
 * (quant/blocks.h) and scattered back. */
#include "algo/weights.h"

#include <math.h>
#include <string.h>

#include "kernels/quantize.h"
#include "quant/blocks.h"
#include "quant/codes.h"

/* ---- where ---- */

static bool is_weight(const rq_graph *g, const rq_node *n, int in)
{
    if (in >= n->n_in || n->in[in] == RQ_NONE)
        return false;
    const rq_value *v = &g->values[n->in[in]];
    return v->kind == RQ_VALUE_CONST && v->quant == RQ_NONE && v->constant.dtype == RQ_DTYPE_F32 &&
           v->constant.shape.rank >= 2 && rq_tensor_count(&v->constant) > 0;
}

static int rank_of(const rq_graph *g, const rq_node *n, int in)
{
    return is_weight(g, n, in) ? g->values[n->in[in]].constant.shape.rank : 2;
}

int rq_weight_sites(const rq_graph *g, const rq_node *n, rq_weight_site *out)
{
    rq_weight_site sites[2];
    int k = 0, kept = 0;
    if (!n->op)
        return 0;
    const bool standard = !n->domain[0] || !strcmp(n->domain, "ai.onnx");
    if (standard && !strcmp(n->op, "MatMul")) {
        const int a = rank_of(g, n, 0), b = rank_of(g, n, 1);
        sites[k++] = (rq_weight_site) { 1, b - 1, b - 2 };
        sites[k++] = (rq_weight_site) { 0, a - 2, a - 1 };
    } else if (standard && !strcmp(n->op, "Gemm")) {
        const bool t = rq_attr_int(n, RQ_WORD_transB, 0) != 0;
        sites[k++] = (rq_weight_site) { 1, t ? 0 : 1, t ? 1 : 0 };
    } else if (standard && !strcmp(n->op, "Conv")) {
        sites[k++] = (rq_weight_site) { 1, 0, 1 };
    } else if (standard && !strcmp(n->op, "ConvTranspose")) {
        sites[k++] = (rq_weight_site) { 1, 1, 0 };
    } else if (standard && !strcmp(n->op, "Gather")) {
        const int r = rank_of(g, n, 0);
        int64_t axis = rq_attr_int(n, RQ_WORD_axis, 0);
        axis += axis < 0 ? r : 0;
        if (axis >= 0 && axis < r) /* what is picked has a scale; blocks lie within it */
            sites[k++] = (rq_weight_site) { 0, (int)axis, axis == r - 1 ? 0 : r - 1 };
    } else if (standard && (!strcmp(n->op, "LSTM") || !strcmp(n->op, "GRU") || !strcmp(n->op, "RNN"))) {
        sites[k++] = (rq_weight_site) { 1, 1, 2 };
        sites[k++] = (rq_weight_site) { 2, 1, 2 };
    } else if (!strcmp(n->domain, "com.microsoft") &&
               (!strcmp(n->op, "Attention") || !strcmp(n->op, "FusedMatMul") || !strcmp(n->op, "FusedGemm"))) {
        const bool t = rq_attr_int(n, RQ_WORD_transB, 0) != 0;
        const int b = rank_of(g, n, 1);
        sites[k++] = (rq_weight_site) { 1, t ? b - 2 : b - 1, t ? b - 1 : b - 2 };
    }
    for (int i = 0; i < k; i++)
        if (is_weight(g, n, sites[i].in))
            out[kept++] = sites[i];
    return kept;
}

/* ---- what ---- */

bool rq_weight_same(const rq_weight *a, const rq_weight *b)
{
    return a->value == b->value && a->gates == b->gates && a->site.channel == b->site.channel &&
           a->site.block == b->site.block && a->s.weights == b->s.weights &&
           a->s.symmetric_weights == b->s.symmetric_weights && a->s.per_tensor == b->s.per_tensor &&
           a->s.block_size == b->s.block_size && a->s.reduced == b->s.reduced && a->s.min_range == b->s.min_range &&
           a->s.weight_method == b->s.weight_method;
}

rq_status rq_weight_check(const rq_settings *s, rq_err *err)
{
    const int bits = rq_dtype_bits(s->weights);
    if (!rq_dtype_is_integer(s->weights) || bits > 8)
        return rq_fail(err, RQ_BAD_ARG, "weights cannot be %s; s8, u8, s4, u4, s2 and u2 can be",
                       rq_dtype_name(s->weights));
    if (s->block_size > 0 && (s->block_size < 16 || s->block_size > 256 || (s->block_size & (s->block_size - 1))))
        return rq_fail(err, RQ_BAD_ARG, "a block of %d weights; 0, 16, 32, 64, 128 and 256 are possible",
                       s->block_size);
    if (s->block_size > 0 && s->per_tensor)
        return rq_fail(err, RQ_BAD_ARG, "one scale per tensor and blocks of %d weights contradict each other",
                       s->block_size);
    if (s->symmetric_weights && (s->weight_method == RQ_WEIGHTS_HQQ || s->weight_method == RQ_WEIGHTS_K_QUANT))
        return rq_fail(err, RQ_BAD_ARG, "the weight method %s has zero points: it needs affine weights",
                       rq_weight_method_name(s->weight_method));
    return RQ_OK;
}

int rq_weight_block(const rq_graph *g, const rq_weight *w)
{
    const int bits = rq_dtype_bits(w->s.weights), block = w->s.block_size >= 0 ? w->s.block_size : bits < 8 ? 32 : 0;
    const rq_shape *s = &g->values[w->value].constant.shape;
    const int64_t size = s->dim[w->site.block];
    if (w->s.per_tensor || !block || (s->rank > 2 && size < 16))
        return 0;
    if (!w->even)
        return block;
    if (size <= block)
        return (int)size;
    for (int b = block; b > block / 2; b--)
        if (size % b == 0)
            return b;
    for (int b = block + 1; b <= 2 * block; b++)
        if (size % b == 0)
            return b;
    return block;
}

/* Axis, block and number of scales. */
static void layout(const rq_graph *g, const rq_weight *w, int *axis, int *block, int64_t *n)
{
    const rq_shape *s = &g->values[w->value].constant.shape;
    if (w->gates) {
        *axis = w->s.per_tensor ? 0 : 2;
        *block = w->s.per_tensor ? 0 : (int)s->dim[2];
        *n = w->s.per_tensor ? s->dim[0] : s->dim[0] * s->dim[1];
        return;
    }
    *block = rq_weight_block(g, w);
    *axis = w->s.per_tensor ? RQ_PER_TENSOR : *block ? w->site.block : w->site.channel;
    *n = *axis == RQ_PER_TENSOR ? 1
         : *block               ? rq_shape_count(s) / s->dim[*axis] * ((s->dim[*axis] + *block - 1) / *block)
                                : s->dim[*axis];
}

bool rq_weight_pays(const rq_graph *g, const rq_weight *w)
{
    const rq_tensor *t = &g->values[w->value].constant;
    int axis, block;
    int64_t n;
    layout(g, w, &axis, &block, &n);
    const int64_t count = rq_tensor_count(t);
    return (double)count * rq_dtype_bits(w->s.weights) / 8 + (double)n * 5 < (double)count * 4;
}

/* ---- codes ---- */

typedef struct gathered {
    rq_blocks b;
    float *x;
    int64_t *fill; /* [n] */
} gathered;

static rq_status gather(gathered *r, const rq_tensor *t, const rq_qparams *q)
{
    const int64_t count = rq_tensor_count(t);
    r->b.n = q->n;
    r->b.len = q->block ? q->block : count / q->n;
    const size_t n = (size_t)r->b.n, all = n * (size_t)r->b.len;
    r->x = rq_mem_zalloc(all, sizeof *r->x);
    r->b.code = rq_mem_zalloc(all, sizeof *r->b.code);
    r->b.scale = rq_mem_zalloc(n, sizeof *r->b.scale);
    r->b.zero = rq_mem_zalloc(n, sizeof *r->b.zero);
    r->fill = rq_mem_zalloc(n, sizeof *r->fill);
    if (!r->x || !r->b.code || !r->b.scale || !r->b.zero || !r->fill)
        return RQ_NO_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        const int64_t k = rq_codes_scale_index(q, &t->shape, i);
        r->x[k * r->b.len + r->fill[k]++] = t->f32[i];
    }
    r->b.x = r->x;
    return RQ_OK;
}

/* What a group without a number but 0 gets, as elsewhere. */
static void settle_dead(gathered *r)
{
    for (int64_t k = 0; k < r->b.n; k++)
        if (!(fabsf(r->b.scale[k]) >= 1.17549435e-38f))
            r->b.scale[k] = 1;
}

static void finish(rq_weight *w, const rq_tensor *t, gathered *r)
{
    const bool is_signed = w->s.weights == RQ_DTYPE_S8 || w->s.weights == RQ_DTYPE_S4 || w->s.weights == RQ_DTYPE_S2;
    const bool peer = w->s.weight_method != RQ_WEIGHTS_MSE && w->s.weight_method != RQ_WEIGHTS_MINMAX;
    const int32_t shift = is_signed && peer ? 1 << (rq_dtype_bits(w->s.weights) - 1) : 0; /* their codes are unsigned */
    int32_t lo, hi;
    rq_qparams_limits(&w->q, &lo, &hi);
    for (int64_t i = 0; i < w->q.n; i++) {
        w->q.scale[i] = r->b.scale[i];
        const float zero = rintf(r->b.zero[i]) - (float)shift;
        w->q.zero_point[i] = (int32_t)(zero < (float)lo ? (float)lo : zero > (float)hi ? (float)hi : zero);
    }
    memset(r->fill, 0, (size_t)r->b.n * sizeof *r->fill);
    rq_tensor *codes = w->s.weight_method == RQ_WEIGHTS_HQQ ? &w->fine : &w->codes;
    for (int64_t i = 0, n = rq_tensor_count(t); i < n; i++) {
        const int64_t at = rq_codes_scale_index(&w->q, &t->shape, i);
        rq_tensor_set(codes, i, r->b.code[at * r->b.len + r->fill[at]++] - shift);
    }
    if (codes == &w->codes)
        return;
    w->zero = r->b.zero;
    r->b.zero = NULL;
    for (int64_t i = 0, n = rq_tensor_count(t); i < n; i++) {
        const int64_t at = rq_codes_scale_index(&w->q, &t->shape, i);
        rq_tensor_set(&w->codes, i, rq_quantize_one(t->f32[i], w->q.scale[at], w->q.zero_point[at], lo, hi));
    }
}

rq_status rq_weight_compute(rq_weight *w, const rq_graph *g, rq_err *err)
{
    const rq_value *v = &g->values[w->value];
    const rq_tensor *t = &v->constant;
    gathered r = { 0 };
    const rq_code_form form = { w->s.weights, w->s.symmetric_weights, w->s.reduced, false, w->s.min_range };
    int axis, block;
    int64_t n;
    if (w->codes.dtype != RQ_DTYPE_NONE)
        return RQ_OK;
    for (int64_t i = 0, count = rq_tensor_count(t); i < count; i++)
        if (!isfinite(t->f32[i]))
            return rq_fail(err, RQ_NUMERIC, "weight '%s' holds a number that is not finite", v->name);
    layout(g, w, &axis, &block, &n);
    rq_status s = rq_qparams_init(&w->q, w->s.weights, axis, block, n);
    if (!s)
        s = rq_tensor_create(&w->codes, w->s.weights, &t->shape, true);
    if (!s && w->s.weight_method == RQ_WEIGHTS_HQQ)
        s = rq_tensor_create(&w->fine, w->s.weights, &t->shape, true);
    if (!s)
        s = gather(&r, t, &w->q);
    if (!s)
        s = rq_blocks_quantize(&r.b, w->s.weight_method, &form);
    if (!s) {
        if (w->s.weight_method != RQ_WEIGHTS_ORT) /* its scale of zeros is 0 */
            settle_dead(&r);
        finish(w, t, &r);
    }
    rq_mem_free(r.x);
    rq_mem_free(r.b.code);
    rq_mem_free(r.b.scale);
    rq_mem_free(r.b.zero);
    rq_mem_free(r.fill);
    if (s)
        rq_weight_release(w);
    return s == RQ_NO_MEMORY ? rq_fail(err, s, "out of memory quantizing weight '%s'", v->name) : s;
}

void rq_weight_release(rq_weight *w)
{
    rq_tensor_release(&w->codes);
    rq_tensor_release(&w->fine);
    rq_qparams_release(&w->q);
    rq_mem_free(w->zero);
    w->zero = NULL;
}
