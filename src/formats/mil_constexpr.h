/* formats/mil_constexpr.h — numbers that are known before a program runs: `const` operations, and what the constexpr_ operations
 * make of them (scale and shift, look up, spread out). See docs/coreml-package.md.
 *
 * A list of the constants of a block answers by name; a constexpr_ operation is computed when it is asked for, never kept. */
#ifndef RQ_FORMATS_MIL_CONSTEXPR_H
#define RQ_FORMATS_MIL_CONSTEXPR_H

#include "formats/coreml.h"

typedef struct rq_mil_constant {
    const char *name;
    const rq_mil_op *op; /* const or constexpr_ */
    int output;
} rq_mil_constant;

/* The constants of one block, by name; `around`: of the block it stands in, or NULL. */
typedef struct rq_mil_constants {
    const struct rq_mil_constants *around;
    rq_mil_constant *at;
    int n;
} rq_mil_constants;

/* Everything is in `a`; the block's operations are pointed to. RQ_NO_MEMORY. */
rq_status rq_mil_constants_of(rq_mil_constants *out, const rq_mil_block *b, const rq_mil_constants *around, rq_arena *a,
                              rq_err *err);
/* NULL: the name is no constant. */
const rq_mil_constant *rq_mil_constants_find(const rq_mil_constants *c, const char *name);

/* Is it one of the operators constexpr_...? */
bool rq_mil_is_constexpr(const rq_mil_op *op);

/* What parameter `param` of an operation is, wherever it stands: an attribute, a value in the call, a const, what a constexpr_
 * operation makes. NULL in out->data: the parameter is absent, or computed when the program runs. A view that lives
 * as long as m, or memory of its own; release it either way. 1, 3 and 6 bits are a byte each. */
rq_status rq_mil_param(rq_tensor *out, const rq_coreml *m, const rq_mil_constants *c, const rq_mil_op *op,
                       const char *param, rq_err *err);

/* Output `output` of a constexpr_ operation, decompressed: tensors of the output's type, masks as bytes 0 and 1. scale *
 * (data - offset) in the scale's type: each step rounded to it, or once (constexpr_affine_dequantize). RQ_BAD_FILE: shapes or indices that do
 * not fit; RQ_UNSUPPORTED: an operator that is not known, or more than 8 of them behind each other. */
rq_status rq_mil_constexpr(rq_tensor *out, const rq_coreml *m, const rq_mil_constants *c, const rq_mil_op *op,
                           int output, rq_err *err);

#endif
