/* ops/elements.h — runs of elements of any type as doubles or 64-bit integers, for operators that take many types:
 * read a block, work on it, write a block. */
#ifndef RQ_OPS_ELEMENTS_H
#define RQ_OPS_ELEMENTS_H

#include "ops/op.h"

enum { RQ_BLOCK = 256 }; /* elements worked on at once */

/* The element type with this number in ONNX (TensorProto.DataType, docs/onnx-facts.md 1.3); NONE: there is none. */
rq_dtype rq_elements_dtype(int64_t onnx);

/* dst[i] = t[from + i * step], i < n. Integer loads take integer and boolean types (U64 as its bits). */
void rq_elements_load_f64(double *dst, const rq_tensor *t, int64_t from, int64_t step, int n);
void rq_elements_load_int(int64_t *dst, const rq_tensor *t, int64_t from, int64_t step, int n);
/* t[from + i] = src[i], i < n. Integers keep their low bits, floats are rounded to even; into 8-bit floats overflow
 * becomes the largest number when `saturate`, otherwise NaN or infinity. */
void rq_elements_store_f64(rq_tensor *t, int64_t from, const double *src, int n, bool saturate);
void rq_elements_store_int(rq_tensor *t, int64_t from, const int64_t *src, int n);

/* All of src as dst's type, same count: floats to integers are cut towards zero, out of range keeping low bits; to
 * BOOL: not zero. Neither may be STRING or complex. */
void rq_elements_convert(rq_tensor *dst, const rq_tensor *src, bool saturate);
/* The same by the kernels and threads of a running operator. */
void rq_elements_convert_in(const rq_op_args *a, rq_tensor *dst, const rq_tensor *src, bool saturate);

/* A number that is ordered as t[i] is among elements of its type. */
int64_t rq_elements_key(const rq_tensor *t, int64_t i);

/* String i of a STRING tensor and its length; not NUL-terminated. */
const char *rq_elements_text(const rq_tensor *t, int64_t i, size_t *n);

/* Run fn with every input and output of certain types standing as a copy of another: for operators that know one type of a
 * kind. What has no data (while a plan is made) is not converted. RQ_NO_MEMORY, and what fn returns. */
typedef struct rq_elements_as {
    bool (*takes)(rq_dtype d);
    rq_dtype dtype; /* of the copies */
    void (*load)(rq_tensor *copy, const rq_tensor *t, const rq_op_args *a);
    void (*store)(rq_tensor *t, const rq_tensor *copy, const rq_op_args *a);
} rq_elements_as;
rq_status rq_elements_run_as(const rq_op_args *a, const rq_elements_as *as, rq_status (*fn)(const rq_op_args *a));

/* Bytes that rq_elements_run_as takes behind scratch (rq_op_args.room_at) rather than allocate. */
size_t rq_elements_room(const rq_op_args *a);

/* Run fn with every input and output of a float type other than F32 standing as an F32 copy: how operators that compute
 * in F32 take the others. */
rq_status rq_elements_run_f32(const rq_op_args *a, rq_status (*fn)(const rq_op_args *a));

/* Broadcasting as runs: for each of them fn(arg, o, at, step, n): output elements o..o+n-1 come from elements
 * at[k] + i * step[k] of operand k. in[n_in] broadcast to out; n_in <= 3. */
typedef void (*rq_elements_run_fn)(void *arg, int64_t o, const int64_t *at, const int64_t *step, int64_t n);
void rq_elements_broadcast(const rq_shape *out, const rq_shape *const *in, int n_in, rq_elements_run_fn fn, void *arg);

#endif
