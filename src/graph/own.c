/* graph/own.c — holding and letting go of a program's own operators. */
#include "graph/own.h"

#include <string.h>

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
    for (int i = 0; i < mine->n_observers; i++)
        rq_mem_free(mine->observer[i]);
    rq_mem_free(mine->op);
    rq_mem_free(mine->observer);
    rq_arena_release(&mine->names);
    rq_mem_free(mine);
}

const rq_own_observer *rq_own_observer_of(const rq_own *o, const char *name)
{
    for (int i = 0; o && i < o->n_observers; i++)
        if (!strcmp(o->observer[i]->name, name))
            return o->observer[i];
    return NULL;
}

rq_status rq_own_add_observer(rq_own *o, const rq_own_observer *observer, rq_err *err)
{
    const bool keeps = observer->create || observer->update || observer->range || observer->destroy;
    if (!observer->name || !observer->name[0])
        return rq_fail(err, RQ_BAD_ARG, "an observer of one's own needs a name");
    if (keeps && !(observer->create && observer->update && observer->range && observer->destroy))
        return rq_fail(err, RQ_BAD_ARG, "observer '%s' needs all of create, update, range and destroy", observer->name);
    if (keeps == (observer->choose != NULL))
        return rq_fail(err, RQ_BAD_ARG, "observer '%s' needs either choose, or create, update, range and destroy",
                       observer->name);
    if (rq_own_observer_of(o, observer->name))
        return rq_fail(err, RQ_BAD_ARG, "observer '%s' is there already", observer->name);
    const char *name = rq_arena_strndup(&o->names, observer->name, strlen(observer->name));
    rq_own_observer *mine = rq_mem_alloc(1, sizeof *mine);
    if (!name || !mine || !rq_mem_grow(&o->observer, o->n_observers, &o->cap_observers, sizeof *o->observer)) {
        rq_mem_free(mine);
        return rq_fail(err, RQ_NO_MEMORY, "out of memory adding observer '%s'", observer->name);
    }
    *mine = *observer;
    mine->name = name;
    o->observer[o->n_observers++] = mine;
    return RQ_OK;
}
