/* formats/safetensors.h — named tensors as Hugging Face stores them, to and from a state (requant/state.h). */
#ifndef RQ_FORMATS_SAFETENSORS_H
#define RQ_FORMATS_SAFETENSORS_H

#include "base/buf.h"
#include "requant/state.h"

/* The bytes of a file as a state; `name` is what errors call it. RQ_BAD_FILE, RQ_NO_MEMORY. */
rq_status rq_safetensors_parse(rq_state **out, const void *data, size_t size, const char *name, rq_err *err);
/* The header of a file with the tensors of s, its length in front; offset[i]: where tensor i lies behind it. RQ_BAD_DTYPE: a type that the format has
 * not; RQ_BAD_ARG: a name is not UTF-8, or the format's own; RQ_NO_MEMORY. */
rq_status rq_safetensors_header(const rq_state *s, rq_buf *header, size_t *offset, rq_err *err);
rq_status rq_safetensors_save(const rq_state *s, const char *path, rq_err *err);
rq_status rq_safetensors_load(rq_state **out, const char *path, rq_err *err);

#endif
