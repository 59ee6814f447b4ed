/* coreml/palette_op.h — operations of a program that look weights up in tables, and that spread what is not zero, in the form of the program's
 * version: parameters as attributes and bits packed into bytes before iOS 18, tensors of few bits as inputs from there on. */
#ifndef RQ_COREML_PALETTE_OP_H
#define RQ_COREML_PALETTE_OP_H

#include "coreml/palette.h"
#include "coreml/prune.h"
#include "formats/coreml.h"

/* A dense weight of a program. */
typedef struct rq_coreml_dense {
    const rq_mil_dtype *type;
    int rank;
    const int64_t *dim;
    const void *data; /* packed; lives until the model is saved */
} rq_coreml_dense;

/* A parameter of a constexpr_ operation, in the form of the model's version. */
bool rq_coreml_op_set(rq_coreml *m, rq_mil_op *op, const char *param, rq_mil_value *v);
/* The same value or name that `param` of `from` is bound to. false: memory is out, or there is no such parameter. */
bool rq_coreml_op_copy(rq_coreml *m, rq_mil_op *op, const char *param, const rq_mil_op *from, const char *from_param);

/* uint<nbits> elements from bytes, one each (not kept); before iOS 18 as packed bytes. NULL: out of memory. */
rq_mil_value *rq_coreml_codes_value(rq_coreml *m, int nbits, int rank, const int64_t *dim, const uint8_t *codes);
/* The indices of a palette made of `w` along `axis`, computed when the file is written; p moves into the program's memory (release it either way).
 * In place of w.data nothing may be temporary. */
rq_mil_value *rq_coreml_indices_value(rq_coreml *m, rq_palette *p, const rq_coreml_dense *w, int axis);
/* The tables, [1 .. groups at `axis` .. 1][2^nbits][cluster] of type `type`; before iOS 18 [2^nbits]. */
rq_mil_value *rq_coreml_table_value(rq_coreml *m, const rq_palette *p, const rq_mil_dtype *type, int rank, int axis);
/* constexpr_lut_to_dense; axis of vectors, -1: of numbers. */
rq_mil_op *rq_coreml_lut_op(rq_coreml *m, const char *name, const char *output, const rq_coreml_dense *w,
                            rq_mil_value *indices, rq_mil_value *lut, int vector_axis);

/* What stays of w, as a vector of its type: now for few or for temporary data, else when the file is written. The mask is copied. */
rq_mil_value *rq_coreml_kept_value(rq_coreml *m, const rq_prune *p, const rq_coreml_dense *w, bool now);
/* Will these values, both made when the file is written, have the same bytes? true: they are of this file, of equal weights and settings. */
bool rq_coreml_same_made(const rq_mil_value *a, const rq_mil_value *b);
/* uint1 of w's shape; before iOS 18 packed bytes. */
rq_mil_value *rq_coreml_mask_value(rq_coreml *m, const rq_prune *p, const rq_coreml_dense *w);
/* constexpr_sparse_to_dense without its data and mask. */
rq_mil_op *rq_coreml_sparse_op(rq_coreml *m, const char *name, const char *output, const rq_coreml_dense *w);
/* An operation of two outputs "<name>_0", "<name>_1": the mask (of `mask`'s shape) and n numbers of `type`. */
rq_mil_op *rq_coreml_masked_op(rq_coreml *m, const char *op_type, const char *name, int rank, const int64_t *mask,
                               const rq_mil_dtype *type, int64_t n);

#endif
