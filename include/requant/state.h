/* requant/state.h — named tensors: what an observer, a quantizer or a module remembers, to be kept in a file and put back.
 *
 * A state dict, as PyTorch calls it: names with dots, in the order they were set. */
#ifndef REQUANT_STATE_H
#define REQUANT_STATE_H

#include <requant/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_state rq_state;

/* An empty one, yours until rq_state_destroy. RQ_NO_MEMORY. */
RQ_API rq_status rq_state_create(rq_state **out);
RQ_API void rq_state_destroy(rq_state *s); /* NULL is fine */

/* Names in it. */
RQ_API int rq_state_count(const rq_state *s);
/* Name and tensor i, 0 <= i < count, as long as s is not changed. */
RQ_API const char *rq_state_name(const rq_state *s, int i);
RQ_API const rq_tensor *rq_state_tensor(const rq_state *s, int i);
/* The tensor of that name, or NULL. */
RQ_API const rq_tensor *rq_state_find(const rq_state *s, const char *name);

/* Keep a copy of t under "<prefix><name>" (prefix may be NULL); one of that name is replaced. RQ_NO_MEMORY: s is as it was. */
RQ_API rq_status rq_state_set(rq_state *s, const char *prefix, const char *name, const rq_tensor *t);
RQ_API rq_status rq_state_set_floats(rq_state *s, const char *prefix, const char *name, const float *x, int64_t n);
RQ_API rq_status rq_state_set_ints(rq_state *s, const char *prefix, const char *name, const int64_t *x, int64_t n);
/* A text, kept as its bytes (U8). */
RQ_API rq_status rq_state_set_text(rq_state *s, const char *prefix, const char *name, const char *text);

/* The tensor "<prefix><name>" as type d; `rank` -1: any shape. RQ_NOT_FOUND, RQ_BAD_DTYPE, RQ_BAD_SHAPE, each with a sentence that names it. */
RQ_API rq_status rq_state_get(const rq_state *s, const char *prefix, const char *name, rq_dtype d, int rank,
                              const rq_tensor **out, rq_err *err);

/* To and from a file: .safetensors by its suffix (Hugging Face's; metadata is left out, RQ_BAD_DTYPE: types below 8 bits), else an .npz (uncompressed zip of .npy arrays; numpy reads it). Written to a temporary name, then renamed.
 * What numpy has no type for is stored as rq_npz_save does: below 8 bits widened to bytes, bfloat16 and float8 as unsigned integers of their bits.
 * RQ_IO, RQ_BAD_FILE, RQ_NO_MEMORY; RQ_BAD_ARG: s is empty. On error *out is untouched and the file as it was. */
RQ_API rq_status rq_state_save(const rq_state *s, const char *path, rq_err *err);
RQ_API rq_status rq_state_load(rq_state **out, const char *path, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
