/* graph/own.c — holding and letting go of a program's own operators, observers, calibrators and fake-quantizers. */
#include "graph/own.h"

#include <stdio.h>
#include <string.h>

#include "requant/calibrator.h"
#include "requant/fake_quantizer.h"

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
    for (int i = 0; i < mine->n_calibrators; i++)
        rq_mem_free(mine->calibrator[i]);
    for (int i = 0; i < mine->n_fake_quantizers; i++)
        rq_mem_free(mine->fake_quantizer[i]);
    rq_mem_free(mine->op);
    rq_mem_free(mine->observer);
    rq_mem_free(mine->calibrator);
    rq_mem_free(mine->fake_quantizer);
    rq_arena_release(&mine->names);
    rq_mem_free(mine);
}

/* ---- entries that are structs of functions, their name first ---- */

typedef struct shelf {
    const rq_own *o; /* NULL is empty */
    int n;
    const char *(*name)(const rq_own *o, int i);
    const char *what;
} shelf;

/* Where it stands; -1: nowhere. */
static int find(const shelf *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->name(s->o, i), name))
            return i;
    return -1;
}

static rq_status not_found(const shelf *s, const char *name, rq_err *err)
{
    char list[300];
    size_t used = 0;
    list[0] = 0;
    for (int i = 0; i < s->n && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%.60s", i ? ", " : "", s->name(s->o, i));
    return rq_fail(err, RQ_NOT_FOUND, "no %s of one's own is named '%.80s'; there %s %s", s->what, name,
                   s->n > 1 ? "are" : "is", s->n ? list : "none");
}

/* A copy of the struct of `size` bytes, with a name of its own. */
static rq_status add(rq_own *o, const shelf *s, const void *item, size_t size, void **out, rq_err *err)
{
    const char *name = *(const char *const *)item;
    if (find(s, name) >= 0)
        return rq_fail(err, RQ_BAD_ARG, "%s '%s' is there already", s->what, name);
    const char *copy = rq_arena_strndup(&o->names, name, strlen(name));
    void *mine = rq_mem_alloc(1, size);
    if (!copy || !mine) {
        rq_mem_free(mine);
        return rq_fail(err, RQ_NO_MEMORY, "out of memory adding %s '%s'", s->what, name);
    }
    memcpy(mine, item, size);
    *(const char **)mine = copy;
    *out = mine;
    return RQ_OK;
}

static rq_status needs_name(const char *name, const char *what, rq_err *err)
{
    return name && name[0] ? RQ_OK : rq_fail(err, RQ_BAD_ARG, "a %s of one's own needs a name", what);
}

/* ---- calibrators as observers ---- */

typedef struct calibrator {
    rq_own_calibrator calibrator;
    rq_own_observer observer; /* what files get by its name: -amax..amax */
} calibrator;

typedef struct calibrating {
    const rq_own_calibrator *own;
    void *state;
} calibrating;

static void *calibrating_create(void *user)
{
    const rq_own_calibrator *own = user;
    calibrating *c = rq_mem_alloc(1, sizeof *c);
    if (!c)
        return NULL;
    *c = (calibrating) { own, own->create(own->user) };
    if (c->state)
        return c;
    rq_mem_free(c);
    return NULL;
}

static rq_status calibrating_update(void *state, const float *x, size_t n)
{
    const calibrating *c = state;
    const rq_shape row = rq_shape_of(1, &(int64_t) { (int64_t)n });
    return c->own->collect(c->state, x, &row);
}

static rq_status calibrating_range(void *state, double *lo, double *hi)
{
    const calibrating *c = state;
    RQ_TRY(c->own->amax(c->state, hi));
    *lo = -*hi;
    return RQ_OK;
}

static void calibrating_destroy(void *state)
{
    calibrating *c = state;
    c->own->destroy(c->state);
    rq_mem_free(c);
}

static void observe_by(calibrator *c)
{
    c->observer = (rq_own_observer) {
        .name = c->calibrator.name,
        .create = calibrating_create,
        .update = calibrating_update,
        .range = calibrating_range,
        .destroy = calibrating_destroy,
        .user = &c->calibrator,
    };
}

static const char *calibrator_name(const rq_own *o, int i)
{
    return o->calibrator[i]->name;
}

static shelf calibrators(const rq_own *o)
{
    return (shelf) { o, o ? o->n_calibrators : 0, calibrator_name, "calibrator" };
}

static const rq_own_observer *of_calibrator(const rq_own *o, const char *name)
{
    const shelf s = calibrators(o);
    const int i = find(&s, name);
    return i >= 0 ? &((const calibrator *)(const void *)o->calibrator[i])->observer : NULL;
}

/* ---- observers ---- */

static const char *observer_name(const rq_own *o, int i)
{
    return o->observer[i]->name;
}

static shelf observers(const rq_own *o)
{
    return (shelf) { o, o ? o->n_observers : 0, observer_name, "observer" };
}

const rq_own_observer *rq_own_observer_of(const rq_own *o, const char *name)
{
    const shelf s = observers(o);
    const int i = find(&s, name);
    return i >= 0 ? o->observer[i] : of_calibrator(o, name);
}

rq_status rq_own_find_observer(const rq_own *o, const char *name, const rq_own_observer **out, rq_err *err)
{
    const shelf s = observers(o);
    const int i = find(&s, name);
    *out = i >= 0 ? o->observer[i] : NULL;
    return *out ? RQ_OK : not_found(&s, name, err);
}

rq_status rq_own_add_observer(rq_own *o, const rq_own_observer *observer, rq_err *err)
{
    const bool keeps = observer->create || observer->update || observer->range || observer->destroy;
    const shelf s = observers(o);
    void *mine;
    if (!observer->name || !observer->name[0])
        return rq_fail(err, RQ_BAD_ARG, "an observer of one's own needs a name");
    if (keeps && !(observer->create && observer->update && observer->range && observer->destroy))
        return rq_fail(err, RQ_BAD_ARG, "observer '%s' needs all of create, update, range and destroy", observer->name);
    if (keeps == (observer->choose != NULL))
        return rq_fail(err, RQ_BAD_ARG, "observer '%s' needs either choose, or create, update, range and destroy",
                       observer->name);
    RQ_TRY(add(o, &s, observer, sizeof *observer, &mine, err));
    if (!rq_mem_grow(&o->observer, o->n_observers, &o->cap_observers, sizeof *o->observer)) {
        rq_mem_free(mine);
        return rq_fail(err, RQ_NO_MEMORY, "out of memory adding observer '%s'", observer->name);
    }
    o->observer[o->n_observers++] = mine;
    return RQ_OK;
}

/* ---- calibrators ---- */

rq_status rq_own_find_calibrator(const rq_own *o, const char *name, const rq_own_calibrator **out, rq_err *err)
{
    const shelf s = calibrators(o);
    const int i = find(&s, name);
    *out = i >= 0 ? o->calibrator[i] : NULL;
    return *out ? RQ_OK : not_found(&s, name, err);
}

rq_status rq_own_add_calibrator(rq_own *o, const rq_own_calibrator *c, rq_err *err)
{
    const shelf s = calibrators(o);
    const calibrator entry = { .calibrator = *c };
    void *mine;
    RQ_TRY(needs_name(c->name, s.what, err));
    if (!c->create || !c->collect || !c->amax || !c->destroy)
        return rq_fail(err, RQ_BAD_ARG, "calibrator '%s' needs all of create, collect, amax and destroy", c->name);
    RQ_TRY(add(o, &s, &entry, sizeof entry, &mine, err));
    observe_by(mine);
    if (!rq_mem_grow(&o->calibrator, o->n_calibrators, &o->cap_calibrators, sizeof *o->calibrator)) {
        rq_mem_free(mine);
        return rq_fail(err, RQ_NO_MEMORY, "out of memory adding calibrator '%s'", c->name);
    }
    o->calibrator[o->n_calibrators++] = mine;
    return RQ_OK;
}

/* ---- fake-quantizers ---- */

static const char *fake_quantizer_name(const rq_own *o, int i)
{
    return o->fake_quantizer[i]->name;
}

static shelf fake_quantizers(const rq_own *o)
{
    return (shelf) { o, o ? o->n_fake_quantizers : 0, fake_quantizer_name, "fake-quantizer" };
}

rq_status rq_own_find_fake_quantizer(const rq_own *o, const char *name, const rq_own_fake_quantizer **out, rq_err *err)
{
    const shelf s = fake_quantizers(o);
    const int i = find(&s, name);
    *out = i >= 0 ? o->fake_quantizer[i] : NULL;
    return *out ? RQ_OK : not_found(&s, name, err);
}

rq_status rq_own_add_fake_quantizer(rq_own *o, const rq_own_fake_quantizer *f, rq_err *err)
{
    const shelf s = fake_quantizers(o);
    void *mine;
    RQ_TRY(needs_name(f->name, s.what, err));
    if (!f->create || !f->destroy || !f->forward || !f->qparams || !f->reset)
        return rq_fail(err, RQ_BAD_ARG, "fake-quantizer '%s' needs all of create, destroy, forward, qparams and reset",
                       f->name);
    RQ_TRY(add(o, &s, f, sizeof *f, &mine, err));
    if (!rq_mem_grow(&o->fake_quantizer, o->n_fake_quantizers, &o->cap_fake_quantizers, sizeof *o->fake_quantizer)) {
        rq_mem_free(mine);
        return rq_fail(err, RQ_NO_MEMORY, "out of memory adding fake-quantizer '%s'", f->name);
    }
    o->fake_quantizer[o->n_fake_quantizers++] = mine;
    return RQ_OK;
}
