/* ops/conv.h — what the halves of Conv and ConvTranspose share: conv.c runs them forward, conv_grad.c backward. */
#ifndef RQ_OPS_CONV_H
#define RQ_OPS_CONV_H

#include "kernels/conv_f32.h"
#include "ops/op.h"

/* Of node a->node with these inputs. */
rq_status rq_conv_geometry(const rq_op_args *a, rq_conv_geom *g);
/* Does a tensor hold nothing? Then y is its bias. */
bool rq_conv_is_empty(const rq_op_args *a);

/* Of the rows: gradients of x, w and bias. */
rq_status rq_conv_backward(const rq_op_args *a);
rq_status rq_conv_prepare_backward(const rq_op_args *a, void **state);
void rq_conv_release_backward(void *state);
size_t rq_conv_scratch_backward(const rq_op_args *a);

#endif
