/* ops/pool_grad.h — backward of the pools of ops/pool.c. */
#ifndef RQ_OPS_POOL_GRAD_H
#define RQ_OPS_POOL_GRAD_H

#include "ops/op.h"

rq_status
rq_pool_grad_max(const rq_op_args *a); /* x and y: of equal elements the first in the window gets it, as in PyTorch */
rq_status rq_pool_grad_sum(const rq_op_args *a); /* AveragePool (only shapes), LpPool (x and y) */
rq_status rq_pool_grad_global_average(const rq_op_args *a);
rq_status rq_pool_grad_global(const rq_op_args *a); /* GlobalMaxPool, GlobalLpPool: x and y */

#endif
