/* ops/norm.c — normalizations: BatchNormalization, InstanceNormalization, GroupNormalization, LayerNormalization,
 * RMSNormalization and their com.microsoft forms, LpNormalization, LRN, MeanVarianceNormalization.
 *
 * Most are one loop: a row of n neighbours, its mean and variance by the lane tree, then (x - mean) / sqrt(var +
 * epsilon), times a gain, plus a bias. They differ in what a row is and how gain and bias lie along it. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "ops/batch_train.h"
#include "ops/bcast.h"
#include "ops/eltwise.h"
#include "ops/half.h"
#include "ops/norm.h"
#include "ops/norm_grad.h"
#include "ops/reduce.h"

enum { WORK = 8192 }; /* elements worth a thread's while */

static rq_status only_f32(const rq_op_args *a)
{
    if (a->in[0]->dtype != RQ_DTYPE_F32)
        return rq_op_fail(a, RQ_UNSUPPORTED, "has no form for elements of type %s", rq_dtype_name(a->in[0]->dtype));
    return RQ_OK;
}

static int64_t piece_of(int64_t row)
{
    return row < WORK ? WORK / (row + 1) : 1;
}

/* ---- BatchNormalization ---- */

/* Mean and variance are inputs, so a channel is x * gain + shift. */
static rq_status batch_infer(const rq_infer *a)
{
    static const char *const what[] = { "", "scale", "bias", "mean", "variance" };
    const rq_shape *x = &a->in[0]->shape;
    if (a->opset >= 14 && a->n_out > 1 && !rq_attr_int(a->node, "training_mode", 0))
        return rq_infer_fail(a, RQ_BAD_GRAPH, "%d outputs without training_mode, expected 1", a->n_out);
    if (a->opset < 9 && !rq_attr_int(a->node, "spatial", 1))
        return rq_infer_fail(a, RQ_UNSUPPORTED, "spatial = 0 is not supported");
    RQ_TRY(rq_infer_same(a));
    RQ_TRY(rq_batch_train_infer(a));
    if (x->rank == 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input is a scalar");
    for (int i = 1; i < 5; i++) {
        const rq_shape *s = &a->in[i]->shape;
        if (s->rank >= 0 && s->rank != 1)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "%s has %d axes, expected 1", what[i], s->rank);
        const int64_t c = x->rank > 1 ? x->dim[1] : x->rank == 1 ? 1 : -1;
        if (s->rank == 1 && s->dim[0] >= 0 && c >= 0 && s->dim[0] != c)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "%s has %lld entries, the input has %lld channels", what[i],
                                 (long long)s->dim[0], (long long)c);
    }
    return RQ_OK;
}

typedef struct batch_job {
    const rq_op_args *a;
    const float *gain, *shift;
    int64_t channels, area;
} batch_job;

static void batch_span(void *arg, int64_t from, int64_t n)
{
    const batch_job *j = arg;
    for (int64_t i = from; i < from + n; i++) {
        const float *x = j->a->in[0]->f32 + i * j->area;
        float *y = j->a->out[0]->f32 + i * j->area;
        const int64_t c = i % j->channels;
        j->a->k->map[RQ_MAP_LINEAR](y, x, (size_t)j->area, j->gain[c], j->shift[c]);
    }
}

static rq_status batch_wide(const rq_op_args *a)
{
    const rq_shape *s = &a->in[0]->shape;
    RQ_TRY(only_f32(a));
    for (int i = 1; i < 5; i++)
        if (a->in[i]->dtype != RQ_DTYPE_F32)
            return rq_op_fail(a, RQ_UNSUPPORTED, "input %d has type %s, expected f32", i,
                              rq_dtype_name(a->in[i]->dtype));
    const int64_t c = s->rank > 1 ? s->dim[1] : 1, area = s->rank > 1 ? rq_shape_span(s, 2, s->rank) : 1;
    const float epsilon = rq_attr_float(a->node, "epsilon", 1e-5f);
    float *gain = a->scratch, *shift = gain + c;
    for (int64_t i = 0; i < c; i++) {
        gain[i] = a->in[1]->f32[i] / sqrtf(a->in[4]->f32[i] + epsilon);
        shift[i] = a->in[2]->f32[i] - a->in[3]->f32[i] * gain[i];
    }
    const int64_t rows = rq_shape_count(s) / (area ? area : 1);
    if (area == 1 && c > 1) { /* [rows][c]: gain and shift run along */
        for (int64_t r = 0; r < rows / c; r++) {
            float *y = a->out[0]->f32 + r * c;
            a->k->zip[RQ_ZIP_MUL](y, a->in[0]->f32 + r * c, 1, gain, 1, (size_t)c);
            a->k->zip[RQ_ZIP_ADD](y, y, 1, shift, 1, (size_t)c);
        }
        return RQ_OK;
    }
    batch_job j = { .a = a, .gain = gain, .shift = shift, .channels = c, .area = area };
    rq_bcast_spans(a->threads, rows, piece_of(area), batch_span, &j);
    return RQ_OK;
}

static rq_status batch_forward(const rq_op_args *a)
{
    if (a->training || rq_batch_train_is(a->node, a->opset))
        return rq_batch_train_forward(a);
    return rq_half_run_single(a, batch_wide);
}

static size_t batch_scratch(const rq_op_args *a, bool integer)
{
    const rq_shape *s = &a->in[0]->shape;
    const size_t c = s->rank > 1 ? (size_t)s->dim[1] : 1, run = 2 * c * sizeof(float),
                 train = rq_batch_train_scratch(a);
    return integer ? 0 : run > train ? run : train;
}

/* ---- rows with statistics of their own ---- */

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
        rq_bcast_spans(j->a->threads, total / j->n, piece_of(j->n), row_span, (void *)j);
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
    RQ_TRY(only_f32(a));
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
    const int64_t groups = rq_attr_int(a->node, "num_groups", 0);
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
    return strcmp(n->op, "RMSNormalization") == 0 || strcmp(n->op, "SimplifiedLayerNormalization") == 0 ||
           strcmp(n->op, "SkipSimplifiedLayerNormalization") == 0;
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
    const int axis = rq_infer_axis(rq_attr_int(a->node, "axis", -1), x->rank);
    if (axis < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld is out of range for an input of %d axes",
                             (long long)rq_attr_int(a->node, "axis", -1), x->rank);
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
    *r = (rq_norm) { .epsilon = rq_attr_float(a->node, "epsilon", 1e-5f), .at_gain = 1, .at_bias = 2 };
    r->gain = a->in[1];
    r->bias = a->n_in > 2 ? a->in[2] : NULL;
    if (strcmp(a->node->op, "InstanceNormalization") == 0) {
        r->n = r->per = rq_shape_span(s, 2, s->rank);
        r->groups = s->dim[1];
        return true;
    }
    if (strcmp(a->node->op, "GroupNormalization") == 0) {
        r->groups = rq_attr_int(a->node, "num_groups", 1);
        r->n = s->dim[1] / r->groups * rq_shape_span(s, 2, s->rank);
        r->per = a->opset < 21 ? r->n : rq_shape_span(s, 2, s->rank);
        return true;
    }
    const int axis = rq_infer_axis(rq_attr_int(a->node, "axis", -1), s->rank);
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
    RQ_TRY(only_f32(a));
    const int axis = rq_infer_axis(rq_attr_int(a->node, "axis", -1), a->in[0]->shape.rank);
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
    RQ_TRY(layer_rows(a, a->in[0], a->in[1], bias, axis, rq_attr_float(a->node, "epsilon", 1e-5f), mean, inv));
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

static rq_status skip_wide(const rq_op_args *a)
{
    RQ_TRY(only_f32(a));
    const bool rms = is_rms(a->node);
    const rq_tensor *beta = !rms && a->n_in > 3 ? a->in[3] : NULL;
    const rq_tensor *bias = rms ? (a->n_in > 3 ? a->in[3] : NULL) : a->n_in > 4 ? a->in[4] : NULL;
    const rq_shape *s = &a->in[0]->shape;
    rq_tensor own = rq_tensor_view(RQ_DTYPE_F32, s, a->scratch);
    rq_tensor *sum = a->n_out > 3 && a->out[3] ? a->out[3] : &own;
    RQ_TRY(rq_eltwise_zip(a, sum, a->in[0], a->in[1], RQ_ZIP_ADD));
    if (bias)
        RQ_TRY(rq_eltwise_zip(a, sum, sum, bias, RQ_ZIP_ADD));
    return layer_rows(a, sum, a->in[2], beta, s->rank - 1, rq_attr_float(a->node, "epsilon", 1e-12f),
                      a->n_out > 1 && a->out[1] ? a->out[1]->f32 : NULL,
                      a->n_out > 2 && a->out[2] ? a->out[2]->f32 : NULL);
}

static rq_status skip_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, skip_wide);
}

static size_t skip_scratch(const rq_op_args *a, bool integer)
{
    return (size_t)rq_shape_count(&a->in[0]->shape) * sizeof(float);
}

/* ---- LpNormalization ---- */

static rq_status lp_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_same(a));
    const int64_t axis = rq_attr_int(a->node, "axis", -1), p = rq_attr_int(a->node, "p", 2);
    if (p != 1 && p != 2)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "p is %lld, expected 1 or 2", (long long)p);
    if (a->in[0]->shape.rank >= 0 && rq_infer_axis(axis, a->in[0]->shape.rank) < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld is out of range for an input of %d axes", (long long)axis,
                             a->in[0]->shape.rank);
    return RQ_OK;
}

static rq_status lp_wide(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    const int axis = rq_infer_axis(rq_attr_int(a->node, "axis", -1), x->shape.rank);
    bool reduced[RQ_MAX_RANK] = { false };
    reduced[axis] = true;
    rq_reduce_plan plan;
    rq_reduce_plan_init(&plan, &x->shape, reduced);
    rq_shape s = x->shape;
    s.dim[axis] = 1;
    rq_tensor norm;
    RQ_TRY(rq_tensor_create(&norm, x->dtype, &s, false));
    const rq_reduce kind = rq_attr_int(a->node, "p", 2) == 1 ? RQ_REDUCE_L1 : RQ_REDUCE_L2;
    rq_status status = rq_reduce_run(a, &plan, kind, &norm, x);
    for (int64_t i = 0, n = rq_tensor_count(&norm); status == RQ_OK && i < n; i++)
        if (rq_tensor_get(&norm, i) == 0) /* a row of zeros stays one */
            rq_tensor_set(&norm, i, 1);
    if (status == RQ_OK)
        status = rq_eltwise_zip(a, a->out[0], x, &norm, RQ_ZIP_DIV);
    rq_tensor_release(&norm);
    return status;
}

static rq_status lp_forward(const rq_op_args *a)
{
    return rq_half_run(a, lp_wide);
}

/* ---- LRN: x / (bias + alpha / size * sum of squares over `size` channels around) ^ beta ---- */

static rq_status lrn_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_same(a));
    if (a->in[0]->shape.rank >= 0 && a->in[0]->shape.rank < 2)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes, expected at least 2", a->in[0]->shape.rank);
    if (rq_attr_int(a->node, "size", 0) < 1)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "attribute size is missing or below 1");
    return RQ_OK;
}

static rq_status lrn_wide(const rq_op_args *a)
{
    RQ_TRY(only_f32(a));
    const rq_shape *s = &a->in[0]->shape;
    const int64_t size = rq_attr_int(a->node, "size", 1), c = s->dim[1], area = rq_shape_span(s, 2, s->rank);
    const float alpha = rq_attr_float(a->node, "alpha", 1e-4f), beta = rq_attr_float(a->node, "beta", 0.75f);
    const float bias = rq_attr_float(a->node, "bias", 1), minus_beta = -beta;
    const size_t n = (size_t)area;
    float *square = a->scratch;
    for (int64_t image = 0; image < s->dim[0]; image++)
        for (int64_t i = 0; i < c; i++) {
            const float *x = a->in[0]->f32 + image * c * area;
            float *y = a->out[0]->f32 + (image * c + i) * area;
            const int64_t lo = i - (size - 1) / 2, hi = i + size / 2;
            memset(y, 0, n * sizeof *y);
            for (int64_t k = lo < 0 ? 0 : lo; k <= hi && k < c; k++) {
                a->k->map[RQ_MAP_SQUARE](square, x + k * area, n, 0, 0);
                a->k->zip[RQ_ZIP_ADD](y, y, 1, square, 1, n);
            }
            a->k->map[RQ_MAP_LINEAR](y, y, n, alpha / (float)size, bias);
            a->k->zip[RQ_ZIP_POW](y, y, 1, &minus_beta, 0, n);
            a->k->zip[RQ_ZIP_MUL](y, y, 1, x + i * area, 1, n);
        }
    return RQ_OK;
}

static rq_status lrn_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, lrn_wide);
}

static size_t lrn_scratch(const rq_op_args *a, bool integer)
{
    const rq_shape *s = &a->in[0]->shape;
    return (size_t)rq_shape_span(s, 2, s->rank) * sizeof(float);
}

/* ---- MeanVarianceNormalization: (x - mean) / (deviation + 1e-9) over `axes` (default 0, 2, 3) ---- */

rq_status rq_norm_mvn_axes(const rq_node *n, int rank, bool *reduced)
{
    static const int64_t usual[] = { 0, 2, 3 };
    int count;
    const int64_t *axes = rq_attr_ints(n, "axes", &count);
    if (!axes) {
        axes = usual;
        count = 3;
    }
    memset(reduced, 0, RQ_MAX_RANK * sizeof *reduced);
    for (int i = 0; i < count; i++) {
        const int axis = rq_infer_axis(axes[i], rank);
        if (axis < 0)
            return RQ_BAD_SHAPE;
        reduced[axis] = true;
    }
    return RQ_OK;
}

static rq_status mvn_infer(const rq_infer *a)
{
    bool reduced[RQ_MAX_RANK];
    RQ_TRY(rq_infer_same(a));
    if (a->in[0]->shape.rank >= 0 && rq_norm_mvn_axes(a->node, a->in[0]->shape.rank, reduced))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "an axis is out of range for an input of %d axes", a->in[0]->shape.rank);
    return RQ_OK;
}

static rq_status mvn_wide(const rq_op_args *a)
{
    RQ_TRY(only_f32(a));
    const rq_tensor *x = a->in[0];
    rq_tensor *y = a->out[0], stat;
    bool reduced[RQ_MAX_RANK];
    RQ_TRY(rq_norm_mvn_axes(a->node, x->shape.rank, reduced));
    rq_reduce_plan plan;
    rq_reduce_plan_init(&plan, &x->shape, reduced);
    rq_shape s = x->shape;
    for (int i = 0; i < s.rank; i++)
        if (reduced[i])
            s.dim[i] = 1;
    RQ_TRY(rq_tensor_create(&stat, x->dtype, &s, false));
    rq_status status = rq_reduce_run(a, &plan, RQ_REDUCE_MEAN, &stat, x);
    if (status == RQ_OK)
        status = rq_eltwise_zip(a, y, x, &stat, RQ_ZIP_SUB);
    if (status == RQ_OK)
        status = rq_reduce_run(a, &plan, RQ_REDUCE_SUM_SQUARE, &stat, y);
    for (int64_t i = 0; status == RQ_OK && i < plan.outputs; i++)
        stat.f32[i] = sqrtf(stat.f32[i] / (float)plan.group) + 1e-9f;
    if (status == RQ_OK)
        status = rq_eltwise_zip(a, y, y, &stat, RQ_ZIP_DIV);
    rq_tensor_release(&stat);
    return status;
}

static rq_status mvn_forward(const rq_op_args *a)
{
    return rq_half_run_single(a, mvn_wide);
}

/* ---- rows ---- */

static size_t norm_scratch(const rq_op_args *a, bool integer)
{
    return integer ? rq_int_norm_scratch(a) : 0;
}

const rq_op rq_op_batch_normalization = {
    .name = "BatchNormalization",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 5,
    .max_in = 5,
    .min_out = 1,
    .max_out = 5,
    .place = RQ_PLACE_FLOAT,
    .flags = RQ_OP_GRAD_IN_PLACE,
    .infer = batch_infer,
    .forward = batch_forward,
    .backward = rq_batch_train_backward,
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0) | RQ_OP_IN(1) | RQ_OP_IN(2),
    .parameters = RQ_OP_IN(1) | RQ_OP_IN(2),
    .statistics = RQ_OP_IN(3) | RQ_OP_IN(4),
    .saved = rq_batch_train_saved,
    .scratch_backward = rq_batch_train_scratch_backward,
    .accepts_int = rq_int_batch_accepts,
    .prepare_int = rq_int_batch_prepare,
    .forward_int = rq_int_batch_forward,
    .release_int = rq_int_batch_release,
    .scratch = batch_scratch,
};

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
    .scratch = skip_scratch,
};

const rq_op rq_op_lp_normalization = {
    .name = "LpNormalization",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = lp_infer,
    .forward = lp_forward,
    .backward = rq_norm_grad_lp,
    .saves = RQ_OP_IN(0),
};

const rq_op rq_op_lrn = {
    .name = "LRN",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = lrn_infer,
    .forward = lrn_forward,
    .backward = rq_norm_grad_lrn,
    .saves = RQ_OP_IN(0),
    .scratch_backward = rq_norm_grad_lrn_scratch,
    .scratch = lrn_scratch,
};

const rq_op rq_op_mean_variance_normalization = {
    .name = "MeanVarianceNormalization",
    .domain = "",
    .since = 9,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = mvn_infer,
    .forward = mvn_forward,
    .backward = rq_norm_grad_mvn,
    .saves = RQ_OP_IN(0),
    .scratch_backward = rq_norm_grad_mvn_scratch,
};
