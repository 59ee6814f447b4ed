/* ops/norm_batch.c — BatchNormalization outside training: mean and variance are inputs, so that a channel is x * gain + shift. With
 * statistics of the batch: ops/batch_train.h. */
#include <math.h>

#include "ops/batch_train.h"
#include "ops/bcast.h"
#include "ops/half.h"
#include "ops/norm.h"
#include "ops/samples.h"

static rq_status batch_infer(const rq_infer *a)
{
    static const char *const what[] = { "", "scale", "bias", "mean", "variance" };
    const rq_shape *x = &a->in[0]->shape;
    if (a->opset >= 14 && a->n_out > 1 && !rq_attr_int(a->node, RQ_WORD_training_mode, 0))
        return rq_infer_fail(a, RQ_BAD_GRAPH, "%d outputs without training_mode, expected 1", a->n_out);
    if (a->opset < 9 && !rq_attr_int(a->node, RQ_WORD_spatial, 1))
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
    RQ_TRY(rq_norm_only_f32(a));
    for (int i = 1; i < 5; i++)
        if (a->in[i]->dtype != RQ_DTYPE_F32)
            return rq_op_fail(a, RQ_UNSUPPORTED, "input %d has type %s, expected f32", i,
                              rq_dtype_name(a->in[i]->dtype));
    const int64_t c = s->rank > 1 ? s->dim[1] : 1, area = s->rank > 1 ? rq_shape_span(s, 2, s->rank) : 1;
    const float epsilon = rq_attr_float(a->node, RQ_WORD_epsilon, 1e-5f);
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
    rq_bcast_spans(a->threads, rows, rq_norm_piece(area), batch_span, &j);
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
    .samples = rq_samples_plain,
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
