/* quant/exec.h — what an rq_exec holds, for those who compute with it. */
#ifndef RQ_QUANT_EXEC_H
#define RQ_QUANT_EXEC_H

#include "base/threads.h"
#include "kernels/kernels.h"
#include "requant/exec.h"

/* Its kernels, by value (a table of pointers); the definitions for NULL. */
rq_kernels rq_exec_kernels(const rq_exec *e);
/* Its threads, for rq_threads_for; NULL for NULL. */
rq_threads *rq_exec_pool(const rq_exec *e);

#endif
