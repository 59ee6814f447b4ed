/* ops/trilu.c — operators that look at where an element is and not at what it holds: Trilu keeps a triangle, ReverseSequence turns the
 * beginning of each row. */
#include <string.h>

#include "ops/grad.h"
#include "ops/moves.h"

static rq_status trilu_infer(const rq_infer *a)
{
    if (a->in[0]->shape.rank >= 0 && a->in[0]->shape.rank < 2)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes, expected at least 2", a->in[0]->shape.rank);
    return rq_infer_same(a);
}

static rq_status trilu_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *diagonals = rq_op_input(a->in, a->n_in, 1);
    rq_tensor *y = a->out[0];
    int rank = x->shape.rank;
    bool upper = rq_attr_int(a->node, RQ_WORD_upper, 1) != 0;
    int64_t rows = x->shape.dim[rank - 2], cols = x->shape.dim[rank - 1],
            k = diagonals && rq_tensor_count(diagonals) > 0 ? rq_tensor_get_int(diagonals, 0) : 0;
    size_t elem = rq_moves_size(x->dtype);
    if (!elem)
        return rq_op_fail(a, RQ_UNSUPPORTED, "the input is %s", rq_dtype_name(x->dtype));
    k = k < -rows ? -rows : k > cols ? cols : k;
    rq_moves_copy(y, x);
    for (int64_t i = 0, n = rq_shape_span(&x->shape, 0, rank - 1); i < n; i++) {
        int64_t diagonal = i % rows + k, from = upper ? 0 : diagonal + 1, to = upper ? diagonal : cols;
        from = from < 0 ? 0 : from;
        to = to > cols ? cols : to;
        if (from < to)
            memset((char *)y->data + (size_t)(i * cols + from) * elem, 0, (size_t)(to - from) * elem);
    }
    return RQ_OK;
}

static rq_status reverse_sequence_infer(const rq_infer *a)
{
    const int64_t batch = rq_attr_int(a->node, RQ_WORD_batch_axis, 1),
                  time = rq_attr_int(a->node, RQ_WORD_time_axis, 0);
    const int rank = a->in[0]->shape.rank;
    if ((rank >= 0 && rank < 2) || batch < 0 || batch > 1 || time != 1 - batch)
        return rq_infer_fail(a, RQ_BAD_SHAPE,
                             "batch_axis %lld and time_axis %lld of a tensor with %d axes, expected 0 and 1",
                             (long long)batch, (long long)time, rank);
    return rq_infer_same(a);
}

static rq_status reverse_sequence_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *lens = a->in[1];
    int64_t batch_axis = rq_attr_int(a->node, RQ_WORD_batch_axis, 1), time_axis = 1 - batch_axis;
    int rank = x->shape.rank;
    int64_t batches = x->shape.dim[batch_axis], steps = x->shape.dim[time_axis];
    size_t run = (size_t)rq_shape_span(&x->shape, 2, rank) * rq_moves_size(x->dtype);
    int64_t b_step = batch_axis ? 1 : steps, t_step = batch_axis ? batches : 1;
    if (rq_tensor_count(lens) != batches || !rq_moves_size(x->dtype))
        return rq_op_fail(a, RQ_BAD_SHAPE, "%lld lengths for %lld sequences of %s", (long long)rq_tensor_count(lens),
                          (long long)batches, rq_dtype_name(x->dtype));
    for (int64_t b = 0; b < batches; b++) {
        int64_t len = rq_tensor_get_int(lens, b);
        if (len < 0 || len > steps)
            return rq_op_fail(a, RQ_BAD_DATA, "length %lld of a sequence of %lld", (long long)len, (long long)steps);
        for (int64_t t = 0; t < steps && run; t++) {
            int64_t from = t < len ? len - 1 - t : t;
            memcpy((char *)a->out[0]->data + (size_t)(b * b_step + t * t_step) * run,
                   (const char *)x->data + (size_t)(b * b_step + from * t_step) * run, run);
        }
    }
    return RQ_OK;
}

/* Both are their own transposes: what forward does to x, this does to dy. */
static rq_status as_forward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    if (!dx || !dy)
        return rq_grad_none(a);
    rq_op_args b = *a;
    b.in = (const rq_tensor *[]) { dy, a->n_in > 1 ? a->in[1] : NULL };
    b.out = (rq_tensor *[]) { dx };
    b.training = NULL;
    return a->node->row->forward(&b);
}

const rq_op rq_op_trilu = {
    .name = "Trilu",
    .domain = "",
    .since = 14,
    .known = 25,
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = trilu_infer,
    .forward = trilu_forward,
    .backward = as_forward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_ms_trilu = {
    .name = "Trilu",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = trilu_infer,
    .forward = trilu_forward,
    .backward = as_forward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_reverse_sequence = {
    .name = "ReverseSequence",
    .domain = "",
    .since = 10,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_MOVES,
    .place = RQ_PLACE_SAME,
    .infer = reverse_sequence_infer,
    .forward = reverse_sequence_forward,
    .backward = as_forward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0),
};
