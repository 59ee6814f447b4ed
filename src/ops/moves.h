/* ops/moves.h — what operators that move elements share: any element type, packed ones through a detour. */
#ifndef RQ_OPS_MOVES_H
#define RQ_OPS_MOVES_H

#include "kernels/move.h"
#include "ops/op.h"

/* Bytes of one element; 0 for packed types (4 and 2 bits) and strings. */
size_t rq_moves_size(rq_dtype d);

/* Run fn on tensors of whole bytes: as they are, or, where one is packed, on unpacked U8 copies (outputs are packed
 * again afterwards). RQ_UNSUPPORTED: strings. RQ_NO_MEMORY. */
rq_status rq_moves_run(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a));

/* Row-major strides in elements. */
void rq_moves_strides(const rq_shape *s, int64_t *stride);

/* The same of a tensor that lies channels-last where `last` says so: still by the axes of its shape. */
void rq_moves_strides_of(bool last, const rq_shape *s, int64_t *stride);

/* All of src into dst, which has the same count and type. */
void rq_moves_copy(rq_tensor *dst, const rq_tensor *src);

#endif
