/* ops/rows.h — the rows by name: an operator that shares functions with others asks which row its node has, `node->row == &rq_op_gemm`. */
#ifndef RQ_OPS_ROWS_H
#define RQ_OPS_ROWS_H

#include "ops/op.h"

#define ROW(name) extern const rq_op rq_op_##name;
#include "ops/rows.inc"
#undef ROW

#endif
