/* ops/norm.c — normalizations with statistics of their own: InstanceNormalization, GroupNormalization, LayerNormalization,
 * RMSNormalization and their com.microsoft forms.
 *
 * All are one loop: a row of n neighbours, its mean and variance by the lane tree, then (x - mean) / sqrt(var + epsilon), times a gain,
 * plus a bias. They differ in what a row is and how gain and bias lie along it. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "ops/bcast.h"
#include "ops/eltwise.h"
#include "ops/half.h"
#include "ops/norm.h"
#include "ops/norm_grad.h"
#include "ops/rows.h"
#include "ops/samples.h"

rq_status rq_norm_only_f32(const rq_op_args *a)
{
    if (a->in[0]->dtype != RQ_DTYPE_F32)
        return rq_op_no_form(a, a->in[0]->dtype);
    return RQ_OK;
}

typedef struct row_job {
    const rq_op_args *a;
    const rq_tensor *x; /* what is normalized */
    float *y;
    int64_t n; /* elements of a row */
    float epsilon;
    bool rms; /* no mean is taken off */
    /* gain and bias: along the row (wide), or one number per `per` neighbours, `groups` rows making one turn */
    const float *gain, *bias;
    bool wide;
    int64_t per, groups;
    float *mean, *inv; /* [rows], wanted or NULL */
} row_job;

static void row_span(void *arg, int64_t from, int64_t count)
{
    const row_job *j = arg;
    const rq_kernels *k = j->a->k;
    const size_t n = (size_t)j->n;
    for (int64_t r = from; r < from + count; r++) {
        const float *x = j->x->f32 + r * j->n;
        float *y = j->y + r * j->n;
        const float mean = j->rms ? 0 : k->sum_f32(x, n) / (float)j->n;
        const float var = k->fold[RQ_FOLD_SQUARE](x, n, mean) / (float)j->n;
        const float inv = 1 / sqrtf(var + j->epsilon);
        if (j->mean)
            j->mean[r] = mean;
        if (j->inv)
            j->inv[r] = inv;
        if (j->wide) {
            if (j->rms)
                k->zip[RQ_ZIP_MUL](y, x, 1, &inv, 0, n);
            else {
                k->zip[RQ_ZIP_SUB](y, x, 1, &mean, 0, n);
                k->zip[RQ_ZIP_MUL](y, y, 1, &inv, 0, n);
            }
            if (j->gain)
                k->zip[RQ_ZIP_MUL](y, y, 1, j->gain, 1, n);
            if (j->bias)
                k->zip[RQ_ZIP_ADD](y, y, 1, j->bias, 1, n);
            continue;
        }
        const int64_t first = r % j->groups * (j->n / j->per);
        for (int64_t i = 0, c = first; i < j->n; i += j->per, c++) {
            const float gain = inv * j->gain[c];
            k->zip[RQ_ZIP_SUB](y + i, x + i, 1, &mean, 0, (size_t)j->per);
            k->map[RQ_MAP_LINEAR](y + i, y + i, (size_t)j->per, gain, j->bias[c]);
        }
    }
}

static void run_rows(const row_job *j)
{
    const int64_t total = rq_tensor_count(j->x);
    if (total)
        rq_bcast_spans(j->a->threads, total / j->n, rq_norm_piece(j->n), row_span, (void *)j);
}

/* InstanceNormalization: a row is one channel of one image. */
static rq_status instance_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    RQ_TRY(rq_infer_same(a));
    if (x->rank >= 0 && x->rank < 3)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes, expected at least 3", x->rank);
    for (int i = 1; i < 3; i++) {
        const rq_shape *s = &a->in[i]->shape;
        if (s->rank >= 0 &&
            (s->rank != 1 || (x->rank > 1 && x->dim[1] >= 0 && s->dim[0] >= 0 && s->dim[0] != x->dim[1])))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d does not have one entry per channel", i);
    }
    return RQ_OK;
}

/* InstanceNormalization, GroupNormalization */
static rq_status channels_wide(const rq_op_args *a)
{
    rq_norm r;
    RQ_TRY(rq_norm_only_f32(a));
    rq_norm_of(a, &r); /* never broadcast in another way */
    assert(r.gain && r.bias);
    row_job j = { .a = a,
                  .x = a->in[0],
                  .y = a->out[0]->f32,
                  .n = r.n,
                  .epsilon = r.epsilon,
                  .gain = r.gain->f32,
                  .bias = r.bias->f32,
                  .per = r.per,
                  .groups = r.groups };
    const rq_norm_saved saved = rq_norm_grad_saved(a);
    j.mean = saved.mean;
    j.inv = saved.inv;
    run_rows(&j);
    return RQ_OK;
}

static rq_status instance_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, channels_wide);
}

/* GroupNormalization: a row is C / num_groups channels. Gain and bias are per group at opset 18, per channel from 21. */
static rq_status group_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    const int64_t groups = rq_attr_int(a->node, RQ_WORD_num_groups, 0);
    RQ_TRY(rq_infer_same(a));
    if (groups < 1)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "num_groups is %lld, expected at least 1", (long long)groups);
    if (x->rank >= 0 && x->rank < 3)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes, expected at least 3", x->rank);
    if (x->rank > 1 && x->dim[1] >= 0 && x->dim[1] % groups != 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%lld channels do not make %lld groups", (long long)x->dim[1],
                             (long long)groups);
    const int64_t want = a->opset < 21 ? groups : x->rank > 1 ? x->dim[1] : -1;
    for (int i = 1; i < 3; i++) {
        const rq_shape *s = &a->in[i]->shape;
        if (s->rank >= 0 && (s->rank != 1 || (want >= 0 && s->dim[0] >= 0 && s->dim[0] != want)))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d does not have one entry per %s", i,
                                 a->opset < 21 ? "group" : "channel");
    }
    return RQ_OK;
}

static rq_status group_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, channels_wide);
}

/* LayerNormalization, RMSNormalization: a row is all axes from `axis` on. */
static bool is_rms(const rq_node *n)
{
    return n->row == &rq_op_rms_normalization || n->row == &rq_op_simplified_layer_normalization ||
           n->row == &rq_op_ms_skip_simplified_layer_normalization;
}

static rq_status layer_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    RQ_TRY(rq_infer_same(a));
    for (int i = 1; i < a->n_out; i++) { /* mean and inverse deviation, always f32 */
        a->out_dtype[i] = RQ_DTYPE_F32;
        a->out_shape[i] = *x;
    }
    if (x->rank < 0)
        return RQ_OK;
    const int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, -1), x->rank);
    if (axis < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld is out of range for an input of %d axes",
                             (long long)rq_attr_int(a->node, RQ_WORD_axis, -1), x->rank);
    for (int i = 1; i < a->n_out; i++)
        for (int d = axis; d < x->rank; d++)
            a->out_shape[i].dim[d] = 1;
    for (int i = 1; i < a->n_in; i++) {
        rq_shape sum;
        char xs[RQ_SHAPE_TEXT], gs[RQ_SHAPE_TEXT];
        if (!a->in[i] || a->in[i]->shape.rank < 0)
            continue;
        bool fits = rq_infer_broadcast_shapes(x, &a->in[i]->shape, &sum) && sum.rank == x->rank;
        for (int d = 0; fits && d < x->rank; d++)
            fits = x->dim[d] < 0 || sum.dim[d] < 0 || x->dim[d] == sum.dim[d];
        if (!fits)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d of shape %s does not broadcast to the input's %s", i,
                                 rq_shape_text(&a->in[i]->shape, gs, sizeof gs), rq_shape_text(x, xs, sizeof xs));
    }
    return RQ_OK;
}

/* Does t run along whole rows: the sizes from `axis` on, ones before? */
static bool along_rows(const rq_tensor *t, const rq_shape *x, int axis)
{
    return rq_tensor_count(t) == rq_shape_span(x, axis, x->rank) &&
           rq_shape_span(&t->shape, 0, t->shape.rank) ==
               rq_shape_span(&t->shape, t->shape.rank > x->rank - axis ? t->shape.rank - (x->rank - axis) : 0,
                             t->shape.rank);
}

bool rq_norm_of(const rq_op_args *a, rq_norm *r)
{
    const rq_shape *s = &a->in[0]->shape;
    *r = (rq_norm) { .epsilon = rq_attr_float(a->node, RQ_WORD_epsilon, 1e-5f), .at_gain = 1, .at_bias = 2 };
    r->gain = a->in[1];
    r->bias = a->n_in > 2 ? a->in[2] : NULL;
    if (a->node->row == &rq_op_instance_normalization) {
        r->n = r->per = rq_shape_span(s, 2, s->rank);
        r->groups = s->dim[1];
        return true;
    }
    if (a->node->row == &rq_op_group_normalization) {
        r->groups = rq_attr_int(a->node, RQ_WORD_num_groups, 1);
        r->n = s->dim[1] / r->groups * rq_shape_span(s, 2, s->rank);
        r->per = a->opset < 21 ? r->n : rq_shape_span(s, 2, s->rank);
        return true;
    }
    const int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, -1), s->rank);
    r->rms = is_rms(a->node);
    r->wide = true;
    r->n = rq_shape_span(s, axis, s->rank);
    return (!r->gain || along_rows(r->gain, s, axis)) && (!r->bias || along_rows(r->bias, s, axis));
}

static rq_status layer_rows(const rq_op_args *a, const rq_tensor *x, const rq_tensor *gain, const rq_tensor *bias,
                            int axis, float epsilon, float *mean, float *inv)
{
    const rq_shape *s = &x->shape;
    const bool plain = (!gain || along_rows(gain, s, axis)) && (!bias || along_rows(bias, s, axis));
    if ((gain && gain->dtype != RQ_DTYPE_F32) || (bias && bias->dtype != RQ_DTYPE_F32))
        return rq_op_fail(a, RQ_BAD_DTYPE, "scale and bias are not f32, as the input is");
    row_job j = { .a = a,
                  .x = x,
                  .y = a->out[0]->f32,
                  .n = rq_shape_span(s, axis, s->rank),
                  .epsilon = epsilon,
                  .rms = is_rms(a->node),
                  .gain = plain && gain ? gain->f32 : NULL,
                  .bias = plain && bias ? bias->f32 : NULL,
                  .wide = true,
                  .mean = mean,
                  .inv = inv };
    run_rows(&j);
    if (plain)
        return RQ_OK;
    if (gain)
        RQ_TRY(rq_eltwise_zip(a, a->out[0], a->out[0], gain, RQ_ZIP_MUL));
    return bias ? rq_eltwise_zip(a, a->out[0], a->out[0], bias, RQ_ZIP_ADD) : RQ_OK;
}

static rq_status layer_wide(const rq_op_args *a)
{
    RQ_TRY(rq_norm_only_f32(a));
    const int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, -1), a->in[0]->shape.rank);
    const rq_tensor *bias = a->n_in > 2 ? a->in[2] : NULL;
    const bool rms = is_rms(a->node);
    rq_tensor *second = a->n_out > 1 ? a->out[1] : NULL, *third = a->n_out > 2 ? a->out[2] : NULL;
    if (rms) { /* its second output is the inverse deviation */
        third = second;
        second = NULL;
    }
    const rq_norm_saved saved = rq_norm_grad_saved(a);
    float *mean = saved.mean ? saved.mean : second ? second->f32 : NULL;
    float *inv = saved.inv ? saved.inv : third ? third->f32 : NULL;
    RQ_TRY(layer_rows(a, a->in[0], a->in[1], bias, axis, rq_attr_float(a->node, RQ_WORD_epsilon, 1e-5f), mean, inv));
    if (second && mean != second->f32)
        memcpy(second->data, mean, second->bytes);
    if (third && inv != third->f32)
        memcpy(third->data, inv, third->bytes);
    return RQ_OK;
}

static rq_status layer_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, layer_wide);
}

/* SkipLayerNormalization(x, skip, gamma, beta?, bias?) and SkipSimplified...(x, skip, gamma, bias?): the sum of x, skip
 * and bias is normalized along its last axis, and is output 3. */
rq_norm_skip rq_norm_skip_of(const rq_node *n)
{
    return is_rms(n) ? (rq_norm_skip) { -1, 3 } : (rq_norm_skip) { 3, 4 };
}

static rq_status skip_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_same(a));
    for (int i = 1; i < a->n_out && i < 3; i++) { /* mean and inverse deviation: for training, never written here */
        a->out_dtype[i] = RQ_DTYPE_F32;
        if (a->out_shape[i].rank > 0)
            a->out_shape[i].dim[a->out_shape[i].rank - 1] = 1;
    }
    const rq_shape *x = &a->in[0]->shape;
    if (x->rank == 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input is a scalar");
    for (int i = 1; i < a->n_in; i++) {
        rq_shape sum;
        if (a->in[i] &&
            (!rq_infer_broadcast_shapes(x, &a->in[i]->shape, &sum) || (sum.rank >= 0 && sum.rank != x->rank)))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d does not broadcast to the input", i);
    }
    return RQ_OK;
}

rq_status rq_norm_skip_sum(const rq_op_args *a, rq_tensor *sum)
{
    const rq_tensor *bias = rq_op_input(a->in, a->n_in, rq_norm_skip_of(a->node).bias);
    RQ_TRY(rq_eltwise_zip(a, sum, a->in[0], a->in[1], RQ_ZIP_ADD));
    return bias ? rq_eltwise_zip(a, sum, sum, bias, RQ_ZIP_ADD) : RQ_OK;
}

static rq_status skip_wide(const rq_op_args *a)
{
    RQ_TRY(rq_norm_only_f32(a));
    const rq_norm_saved saved = rq_norm_grad_saved(a);
    const rq_tensor *beta = rq_op_input(a->in, a->n_in, rq_norm_skip_of(a->node).beta);
    const rq_shape *s = &a->in[0]->shape;
    rq_tensor own = rq_tensor_view(RQ_DTYPE_F32, s, a->scratch);
    rq_tensor *sum = a->n_out > 3 && a->out[3] ? a->out[3] : &own;
    rq_tensor *second = a->n_out > 1 ? a->out[1] : NULL, *third = a->n_out > 2 ? a->out[2] : NULL;
    float *mean = saved.mean ? saved.mean : second ? second->f32 : NULL;
    float *inv = saved.inv ? saved.inv : third ? third->f32 : NULL;
    RQ_TRY(rq_norm_skip_sum(a, sum));
    RQ_TRY(layer_rows(a, sum, a->in[2], beta, s->rank - 1, rq_attr_float(a->node, RQ_WORD_epsilon, 1e-12f), mean, inv));
    if (second && mean != second->f32)
        memcpy(second->data, mean, second->bytes);
    if (third && inv != third->f32)
        memcpy(third->data, inv, third->bytes);
    return RQ_OK;
}

static rq_status skip_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, skip_wide);
}

static size_t skip_scratch(const rq_op_args *a, bool integer)
{
    return (size_t)rq_shape_count(&a->in[0]->shape) * sizeof(float);
}

/* ---- rows ---- */

static size_t norm_scratch(const rq_op_args *a, bool integer)
{
    return integer ? rq_int_norm_scratch(a) : 0;
}

const rq_op rq_op_instance_normalization = {
    .name = "InstanceNormalization",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_FLOAT,
    .infer = instance_infer,
    .samples = rq_samples_first,
    .forward = instance_forward,
    .backward = rq_norm_grad_rows,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .parameters = RQ_OP_IN(1) | RQ_OP_IN(2),
    .saved = rq_norm_grad_saved_bytes,
    .scratch_backward = rq_norm_grad_rows_scratch,
    .accepts_int = rq_int_norm_accepts,
    .forward_int = rq_int_norm_forward,
    .scratch = norm_scratch,
};

const rq_op rq_op_group_normalization = {
    .name = "GroupNormalization",
    .domain = "",
    .since = 18,
    .known = 25,
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_FLOAT,
    .infer = group_infer,
    .samples = rq_samples_first,
    .forward = group_forward,
    .backward = rq_norm_grad_rows,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .parameters = RQ_OP_IN(1) | RQ_OP_IN(2),
    .saved = rq_norm_grad_saved_bytes,
    .scratch_backward = rq_norm_grad_rows_scratch,
    .accepts_int = rq_int_norm_accepts,
    .forward_int = rq_int_norm_forward,
    .scratch = norm_scratch,
};

const rq_op rq_op_layer_normalization = {
    .name = "LayerNormalization",
    .domain = "",
    .since = 1, /* 17; runtimes accept the operator under older opsets, and exporters write it there */
    .known = 25,
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 3,
    .flags = RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_FLOAT,
    .infer = layer_infer,
    .samples = rq_samples_within,
    .forward = layer_forward,
    .backward = rq_norm_grad_rows,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .parameters = RQ_OP_IN(1) | RQ_OP_IN(2),
    .saved = rq_norm_grad_saved_bytes,
    .scratch_backward = rq_norm_grad_rows_scratch,
    .accepts_int = rq_int_norm_accepts,
    .forward_int = rq_int_norm_forward,
    .scratch = norm_scratch,
};

const rq_op rq_op_rms_normalization = {
    .name = "RMSNormalization",
    .domain = "",
    .since = 23,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_FLOAT,
    .infer = layer_infer,
    .samples = rq_samples_within,
    .forward = layer_forward,
    .backward = rq_norm_grad_rows,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .parameters = RQ_OP_IN(1),
    .saved = rq_norm_grad_saved_bytes,
    .scratch_backward = rq_norm_grad_rows_scratch,
    .accepts_int = rq_int_norm_accepts,
    .forward_int = rq_int_norm_forward,
    .scratch = norm_scratch,
};

const rq_op rq_op_simplified_layer_normalization = {
    /* ONNX Runtime's own, in the default domain */
    .name = "SimplifiedLayerNormalization",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 2,
    .flags = RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_FLOAT,
    .infer = layer_infer,
    .samples = rq_samples_within,
    .forward = layer_forward,
    .backward = rq_norm_grad_rows,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .parameters = RQ_OP_IN(1),
    .saved = rq_norm_grad_saved_bytes,
    .scratch_backward = rq_norm_grad_rows_scratch,
    .accepts_int = rq_int_norm_accepts,
    .forward_int = rq_int_norm_forward,
    .scratch = norm_scratch,
};

const rq_op rq_op_ms_skip_layer_normalization = {
    .name = "SkipLayerNormalization",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 3,
    .max_in = 5,
    .min_out = 1,
    .max_out = 4,
    .place = RQ_PLACE_FLOAT,
    .infer = skip_infer,
    .forward = skip_forward,
    .backward = rq_norm_grad_skip,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3) | RQ_OP_IN(4),
    .parameters = RQ_OP_IN(2) | RQ_OP_IN(3) | RQ_OP_IN(4),
    .saved = rq_norm_grad_saved_bytes,
    .scratch_backward = rq_norm_grad_skip_scratch,
    .scratch = skip_scratch,
};

const rq_op rq_op_ms_skip_simplified_layer_normalization = {
    .name = "SkipSimplifiedLayerNormalization",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 3,
    .max_in = 4,
    .min_out = 1,
    .max_out = 4,
    .place = RQ_PLACE_FLOAT,
    .infer = skip_infer,
    .forward = skip_forward,
    .backward = rq_norm_grad_skip,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3) | RQ_OP_IN(4),
    .parameters = RQ_OP_IN(2) | RQ_OP_IN(3) | RQ_OP_IN(4),
    .saved = rq_norm_grad_saved_bytes,
    .scratch_backward = rq_norm_grad_skip_scratch,
    .scratch = skip_scratch,
};
