/* ops/int_winograd.h — Conv on channels-last codes by windows of 3 x 3 with fewer multiplications (kernels/winograd.h), where that gives the same codes
 * and is worth it. Part of the integer form of Conv (ops/int_conv.c). */
#ifndef RQ_OPS_INT_WINOGRAD_H
#define RQ_OPS_INT_WINOGRAD_H

#include "ops/op.h"
#include "ops/window.h"

typedef struct rq_int_winograd rq_int_winograd;

/* Is this Conv, with window w, such a one? Known when it is prepared: weights, their zero points (0) and all scales; that no sum of products leaves
 * what comes out exactly; and from the sizes of an image that it is faster, whatever the number of images and threads, so that plans for other
 * batches ask for the same weights. */
bool rq_int_winograd_is(const rq_op_args *a, const rq_window *w);
/* RQ_NO_MEMORY. */
rq_status rq_int_winograd_create(rq_int_winograd **out, const rq_op_args *a, const rq_window *w);
void rq_int_winograd_destroy(rq_int_winograd *d);
/* Bytes that run needs. */
size_t rq_int_winograd_scratch(const rq_int_winograd *d, const rq_op_args *a);
/* x [N][in][x_ld] u8, of which the first C count, to y [N][out][ld] codes; then the posts of a. */
void rq_int_winograd_run(const rq_int_winograd *d, const rq_op_args *a, const uint8_t *x, int64_t x_ld, uint8_t *y,
                         void *scratch);

#endif
