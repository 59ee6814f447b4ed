/* ops/norm.h — what the float and the integer forms of the normalizations share. */
#ifndef RQ_OPS_NORM_H
#define RQ_OPS_NORM_H

#include "ops/op.h"

enum { RQ_NORM_WORK = 8192 }; /* elements worth a thread's while */

/* Rows of n elements that make a piece. */
static inline int64_t rq_norm_piece(int64_t n)
{
    return n < RQ_NORM_WORK ? RQ_NORM_WORK / (n + 1) : 1;
}

/* norm.c: refuses what is not f32. */
rq_status rq_norm_only_f32(const rq_op_args *a);

/* Rows with statistics of their own: y = (x - mean) / sqrt(variance + epsilon) * gain + bias. Gain and bias lie along the row
 * (wide), or are one number per `per` neighbours, `groups` rows making one turn. */
typedef struct rq_norm {
    int64_t n; /* elements of a row */
    float epsilon;
    bool rms; /* no mean is taken off */
    bool wide;
    int64_t per, groups;
    const rq_tensor *gain, *bias; /* NULL: none */
    int at_gain, at_bias;         /* which inputs they are */
} rq_norm;

/* norm.c: the rows of an InstanceNormalization, GroupNormalization, LayerNormalization or RMSNormalization. False where gain or
 * bias are broadcast in some other way. */
bool rq_norm_of(const rq_op_args *a, rq_norm *r);

/* ---- int_norm.c: on codes ---- */
bool rq_int_norm_accepts(const rq_op_args *a, const char **why);
rq_status rq_int_norm_forward(const rq_op_args *a);
size_t rq_int_norm_scratch(const rq_op_args *a);
/* BatchNormalization with constant parameters: a table per channel. */
bool rq_int_batch_accepts(const rq_op_args *a, const char **why);
rq_status rq_int_batch_prepare(const rq_op_args *a, void **state);
rq_status rq_int_batch_forward(const rq_op_args *a);
void rq_int_batch_release(void *state);

#endif
