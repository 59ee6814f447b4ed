/* ops/dropout.c — Dropout. Run, the input passes (a node that says training_mode draws by its seed). Trained (training->train), an element is kept with
 * probability 1 - ratio and then divided by that; element i draws number i of a sequence that belongs to node and step, so
 * that backward and a second forward draw the same again, by any thread: nothing is saved. */
#include "base/rng.h"
#include "ops/grad.h"
#include "ops/moves.h"

static rq_status dropout_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_same(a));
    if (a->n_out > 1 && a->opset >= 10)
        a->out_dtype[1] = RQ_DTYPE_BOOL;
    return RQ_OK;
}

static double ratio_of(const rq_op_args *a)
{
    const rq_tensor *ratio = rq_op_input(a->in, a->n_in, 1);
    return ratio && rq_tensor_count(ratio) == 1 ? rq_tensor_get(ratio, 0)
                                                : (double)rq_attr_float(a->node, RQ_WORD_ratio, 0.5f);
}

/* ---- as it is run ---- */

/* What is drawn follows from the attribute seed alone, and is the same in every run. */
static rq_status draw_by_seed(const rq_op_args *a, double ratio)
{
    const rq_tensor *x = a->in[0];
    rq_rng rng;
    if (!rq_dtype_is_float(x->dtype) || !(ratio >= 0 && ratio < 1))
        return rq_op_fail(a, RQ_UNSUPPORTED, "training with ratio %g on elements of type %s", ratio,
                          rq_dtype_name(x->dtype));
    rq_rng_seed(&rng, (uint64_t)rq_attr_int(a->node, RQ_WORD_seed, 0));
    for (int64_t i = 0, n = rq_tensor_count(x); i < n; i++) {
        const bool keep = rq_rng_f32(&rng) >= ratio;
        rq_tensor_set(a->out[0], i, keep ? rq_tensor_get(x, i) / (1 - ratio) : 0);
        if (a->n_out > 1 && a->out[1])
            rq_tensor_set(a->out[1], i, keep);
    }
    return RQ_OK;
}

/* The input passes, and the mask says that all of it did. */
static rq_status pass(const rq_op_args *a)
{
    if (a->in[0]->dtype == RQ_DTYPE_STRING)
        return rq_op_fail(a, RQ_UNSUPPORTED, "tensors of strings are not computed with");
    rq_moves_copy(a->out[0], a->in[0]);
    if (a->n_out > 1 && a->out[1])
        for (int64_t i = 0, n = rq_tensor_count(a->out[1]); i < n; i++)
            rq_tensor_set(a->out[1], i, 1);
    return RQ_OK;
}

/* ---- as it is trained ---- */

enum { PIECE = 16384 };

typedef struct job {
    float *y;
    const float *x;
    uint8_t *mask; /* or NULL */
    int64_t n;
    uint64_t key;
    uint32_t drop; /* of 2^24 numbers, how many drop */
    float scale;
} job;

/* splitmix64 (Steele, Lea, Flood 2014) at position `at`: 24 bits for each of two elements. */
static uint64_t number_at(uint64_t key, uint64_t at)
{
    uint64_t z = key + UINT64_C(0x9e3779b97f4a7c15) * (at + 1);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void drop_piece(void *arg, int64_t piece)
{
    const job *j = arg;
    const int64_t from = piece * PIECE, to = j->n - from < PIECE ? j->n : from + PIECE;
    for (int64_t i = from; i < to; i += 2) {
        const uint64_t z = number_at(j->key, (uint64_t)i / 2);
        const uint32_t u[2] = { (uint32_t)(z >> 40), (uint32_t)(z >> 16) & 0xffffff };
        for (int k = 0; k < 2 && i + k < to; k++) {
            const bool keep = u[k] >= j->drop;
            j->y[i + k] = keep ? j->x[i + k] * j->scale : 0;
            if (j->mask)
                j->mask[i + k] = keep;
        }
    }
}

static rq_status drop(const rq_op_args *a, const rq_tensor *to, const rq_tensor *from, uint8_t *mask)
{
    const double ratio = ratio_of(a);
    if (from->dtype != RQ_DTYPE_F32 || !(ratio >= 0 && ratio <= 1))
        return rq_op_fail(a, RQ_UNSUPPORTED, "training with ratio %g on elements of type %s", ratio,
                          rq_dtype_name(from->dtype));
    job j = {
        .y = to->f32,
        .x = from->f32,
        .mask = mask,
        .n = rq_tensor_count(from),
        .key = a->training->random,
        .drop = (uint32_t)(ratio * 0x1p24 + 0.5),
        .scale = ratio < 1 ? (float)(1 / (1 - ratio)) : 0,
    };
    rq_threads_for(a->threads, (j.n + PIECE - 1) / PIECE, drop_piece, &j);
    return RQ_OK;
}

static rq_status dropout_forward(const rq_op_args *a)
{
    const rq_tensor *training = rq_op_input(a->in, a->n_in, 2);
    const bool masked = a->n_out > 1 && a->out[1];
    if (a->training && a->training->train && a->in[0]->dtype == RQ_DTYPE_F32 &&
        (!masked || rq_dtype_bits(a->out[1]->dtype) == 8))
        return drop(a, a->out[0], a->in[0], masked ? a->out[1]->u8 : NULL);
    if (!a->training && training && rq_tensor_count(training) == 1 && rq_tensor_get(training, 0) != 0 &&
        ratio_of(a) != 0)
        return draw_by_seed(a, ratio_of(a));
    return pass(a);
}

static rq_status dropout_backward(const rq_op_args *a)
{
    if (!rq_grad_out(a, 0) || !rq_grad_in(a, 0) || !a->training->train)
        return rq_grad_pass(a);
    return drop(a, rq_grad_in(a, 0), rq_grad_out(a, 0), NULL);
}

const rq_op rq_op_dropout = {
    .name = "Dropout",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 3,
    .min_out = 1,
    .max_out = 2,
    .flags = RQ_OP_MOVES | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_SAME,
    .infer = dropout_infer,
    .forward = dropout_forward,
    .backward = dropout_backward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0),
};
