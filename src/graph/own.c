/* graph/own.c — holding and letting go of a program's own operators. */
#include "graph/own.h"

rq_status rq_own_create(rq_own **out)
{
    rq_own *o = rq_mem_zalloc(1, sizeof *o);
    if (!o)
        return RQ_NO_MEMORY;
    atomic_init(&o->holders, 1);
    *out = o;
    return RQ_OK;
}

rq_own *rq_own_ref(rq_own *o)
{
    if (o)
        atomic_fetch_add(&o->holders, 1);
    return o;
}

void rq_own_unref(rq_own **o)
{
    rq_own *mine = o ? *o : NULL;
    if (!mine)
        return;
    *o = NULL;
    if (atomic_fetch_sub(&mine->holders, 1) > 1)
        return;
    for (int i = 0; i < mine->n_ops; i++)
        rq_mem_free(mine->op[i]);
    rq_mem_free(mine->op);
    rq_arena_release(&mine->names);
    rq_mem_free(mine);
}
