/* requant/strided.h — numbers with a stride per axis: how the quantizers see a tensor, whole or a slice, transposed or not.
 *
 * Element [i0, i1, ...] lies stride[0]*i0 + stride[1]*i1 + ... elements after `data`. Strides may be negative, and 0 for what is
 * only read (broadcasting). Nothing is owned. */
#ifndef REQUANT_STRIDED_H
#define REQUANT_STRIDED_H

#include <requant/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_strided {
    rq_dtype dtype; /* F32; F64, F16, BF16 where a function says so */
    void *data;
    rq_shape shape;              /* known */
    int64_t stride[RQ_MAX_RANK]; /* in elements */
} rq_strided;

/* All of t, row-major. */
RQ_API rq_strided rq_strided_of(const rq_tensor *t);
/* n f32 numbers in a row; a shape of f32 numbers, row-major. */
RQ_API rq_strided rq_strided_vector(float *data, int64_t n);
RQ_API rq_strided rq_strided_floats(float *data, const rq_shape *shape);
/* Axes in another order: axis i of the answer is axis[i] of v (a permutation). */
RQ_API rq_strided rq_strided_permute(const rq_strided *v, const int *axis);
/* Indices from, from + step ... of one axis, count of them; step may be negative. The caller keeps them inside. */
RQ_API rq_strided rq_strided_slice(const rq_strided *v, int axis, int64_t from, int64_t count, int64_t step);
/* Row-major without gaps? */
RQ_API bool rq_strided_is_contiguous(const rq_strided *v);

#ifdef __cplusplus
}
#endif
#endif
