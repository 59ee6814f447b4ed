/* ops/int_last.h — inputs and outputs of rows that compute channels-last, whatever the order their tensors have (args.last). */
#ifndef RQ_OPS_INT_LAST_H
#define RQ_OPS_INT_LAST_H

#include "ops/op.h"

/* Bytes of an element of output 0: codes, or f32 or s32. */
static inline size_t rq_int_last_element(const rq_op_args *a)
{
    return a->out_q[0] ? 1 : 4;
}
/* Bytes of scratch for input 0 and output 0 in that order; 0 where they have it. */
size_t rq_int_last_in_bytes(const rq_op_args *a);
size_t rq_int_last_out_bytes(const rq_op_args *a);
/* Input 0 as u8, channels-last: it, or what was made in scratch. */
const uint8_t *rq_int_last_in(const rq_op_args *a, void *scratch);
/* Output 0 from `made`, which lies channels-last, where it has another order. */
void rq_int_last_out(const rq_op_args *a, const void *made);
/* Elements from a pixel of output 0 to the next. */
static inline int64_t rq_int_last_ld(const rq_op_args *a)
{
    return a->out_ld ? a->out_ld : a->out[0]->shape.dim[1];
}
/* The posts of a on n pixels of output 0, from pixel `first` on; on all of it. */
void rq_int_last_posts_on(const rq_op_args *a, int64_t first, int64_t n);
void rq_int_last_posts(const rq_op_args *a);

#endif
