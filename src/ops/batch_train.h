/* ops/batch_train.h — BatchNormalization in training mode, for its row in ops/norm.c. */
#ifndef RQ_OPS_BATCH_TRAIN_H
#define RQ_OPS_BATCH_TRAIN_H

#include "ops/op.h"

bool rq_batch_train_is(const rq_node *n, int64_t opset);
/* Types and shapes of the outputs behind the first. */
rq_status rq_batch_train_infer(const rq_infer *a);
rq_status rq_batch_train_forward(const rq_op_args *a);

#endif
