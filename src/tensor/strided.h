/* tensor/strided.h — reading and writing tensors with strides in tiles, so that loops see numbers in a row.
 *
 * "Element i" is the i-th in row-major order of the shape, wherever it lies. A user walks 0..count-1 in tiles of its own
 * size:
 *
 *   float tile[1024];
 *   const float *x = rq_strided_read(v, at, n, tile);     (the tensor's own memory where it can be)
 */
#ifndef RQ_TENSOR_STRIDED_H
#define RQ_TENSOR_STRIDED_H

#include "requant/strided.h"

/* Known shape that passes rq_shape_check, and element type F32, F64, F16 or BF16 (floats) or U8, BOOL (not). `what` names
 * it in the sentence: "x". RQ_BAD_SHAPE, RQ_BAD_DTYPE; RQ_BAD_ARG: elements, but no data. */
rq_status rq_strided_check(const rq_strided *v, const char *what, bool floats, rq_err *err);
/* That, and v is of x's shape, and of its type where floats; `like` names x. RQ_BAD_SHAPE and RQ_BAD_DTYPE with both. */
rq_status rq_strided_check_like(const rq_strided *v, const char *what, const rq_strided *x, const char *like,
                                bool floats, rq_err *err);

/* Elements at..at+n-1 as f32 (F64 rounded once): in place when they are f32 in a row, else copied to tile[n], which may not
 * overlap v. */
const float *rq_strided_read(const rq_strided *v, int64_t at, int64_t n, float *tile);
/* The memory of elements at..at+n-1 when they are f32 (bytes: U8, BOOL) in a row, else NULL. */
float *rq_strided_direct(const rq_strided *v, int64_t at);
uint8_t *rq_strided_direct_u8(const rq_strided *v, int64_t at);
/* src[n] to elements at..at+n-1, rounded to v's type; nothing to do when src is that memory. */
void rq_strided_write(const rq_strided *v, int64_t at, int64_t n, const float *src);

/* The same in f64 (widened exactly on reading) and in bytes; always copied. */
void rq_strided_read_f64(const rq_strided *v, int64_t at, int64_t n, double *dst);
void rq_strided_write_f64(const rq_strided *v, int64_t at, int64_t n, const double *src);
void rq_strided_read_u8(const rq_strided *v, int64_t at, int64_t n, uint8_t *dst);
void rq_strided_write_u8(const rq_strided *v, int64_t at, int64_t n, const uint8_t *src);

#endif
