/* formats/mil_constexpr_priv.h — what the files of mil_constexpr share. */
#ifndef RQ_FORMATS_MIL_CONSTEXPR_PRIV_H
#define RQ_FORMATS_MIL_CONSTEXPR_PRIV_H

#include "formats/mil_constexpr.h"

typedef struct rq_constexpr_scope {
    const rq_coreml *m;
    const rq_mil_constants *c;
    rq_err *err;
    int depth;
} rq_constexpr_scope;

/* A parameter; data NULL: it is not there, or no constant. needed: RQ_BAD_FILE then. */
rq_status rq_constexpr_param(const rq_constexpr_scope *s, const rq_mil_op *op, const char *name, rq_tensor *out);
rq_status rq_constexpr_needed(const rq_constexpr_scope *s, const rq_mil_op *op, const char *name, rq_tensor *out);
bool rq_constexpr_is_real(const rq_tensor *t);
/* Integers as bytes, one each; *t is replaced. RQ_BAD_FILE: other elements. */
rq_status rq_constexpr_bytes(const rq_constexpr_scope *s, const char *name, rq_tensor *t);
/* Zeros. RQ_BAD_FILE: too many. */
rq_status rq_constexpr_create(const rq_constexpr_scope *s, rq_tensor *out, rq_dtype d, const rq_shape *shape);

typedef struct rq_constexpr_walk {
    rq_shape shape;              /* of the weights */
    int64_t block[RQ_MAX_RANK];  /* elements of it along an axis that share a number */
    int64_t stride[RQ_MAX_RANK]; /* between the numbers of two blocks */
    int64_t at[RQ_MAX_RANK];     /* the row that the walk is at; the last axis is the caller's */
} rq_constexpr_walk;

/* per: how many blocks there are along each axis, the first `shape->rank` sizes of it; unit: numbers per block. */
rq_status rq_constexpr_grid(const rq_constexpr_scope *s, rq_constexpr_walk *g, const rq_shape *shape,
                            const rq_shape *per, int64_t unit);
/* Where the numbers of this row's first block are; on to the next row. */
int64_t rq_constexpr_row(const rq_constexpr_walk *g);
void rq_constexpr_next(rq_constexpr_walk *g);

/* data becomes scale * (data - offset) in the scale's type, the difference too (stepwise) or only the product; offset may be empty. Shapes of
 * scale and offset are blocks. All three are replaced. */
rq_status rq_constexpr_shift_scale(const rq_constexpr_scope *s, rq_tensor *data, rq_tensor *scale, rq_tensor *offset,
                                   bool stepwise);

/* The operators of mil_constexpr_table.c. */
rq_status rq_constexpr_lut_to_dense(const rq_constexpr_scope *s, const rq_mil_op *op, rq_tensor *out);
rq_status rq_constexpr_sparse_to_dense(const rq_constexpr_scope *s, const rq_mil_op *op, rq_tensor *out);
rq_status rq_constexpr_lut_to_sparse(const rq_constexpr_scope *s, const rq_mil_op *op, int output, rq_tensor *out);
rq_status rq_constexpr_sparse_blockwise(const rq_constexpr_scope *s, const rq_mil_op *op, int output, rq_tensor *out);

#endif
