/* quant/exec.c — a table of kernels and a pool of threads under one name; see requant/exec.h. */
#include "quant/exec.h"

#include "base/cpu.h"
#include "base/mem.h"

struct rq_exec {
    rq_kernels kernels;
    rq_threads *pool;
};

rq_status rq_exec_create(rq_exec **out, int threads, rq_err *err)
{
    unsigned cpu;
    if (threads < 0)
        return rq_fail(err, RQ_BAD_ARG, "%d threads asked for, expected 0 (one per core) or more", threads);
    RQ_TRY(rq_cpu_pinned(&cpu, err));
    rq_exec *e = rq_mem_zalloc(1, sizeof *e);
    if (!e)
        return rq_fail(err, RQ_NO_MEMORY, "no memory for an executor of %d threads", threads);
    rq_kernels_init(&e->kernels, cpu);
    rq_status st = rq_threads_create(&e->pool, threads);
    if (st) {
        rq_mem_free(e);
        return rq_fail(err, st, "no memory for %d threads", threads);
    }
    *out = e;
    return RQ_OK;
}

void rq_exec_destroy(rq_exec *e)
{
    if (!e)
        return;
    rq_threads_destroy(e->pool);
    rq_mem_free(e);
}

int rq_exec_threads(const rq_exec *e)
{
    return e ? rq_threads_count(e->pool) : 1;
}

const char *rq_exec_isa(const rq_exec *e)
{
    return e ? e->kernels.isa : "scalar";
}

rq_kernels rq_exec_kernels(const rq_exec *e)
{
    if (e)
        return e->kernels;
    rq_kernels k;
    rq_kernels_init(&k, 0);
    return k;
}

rq_threads *rq_exec_pool(const rq_exec *e)
{
    return e ? e->pool : NULL;
}
