/* tensor/state.c — named tensors in the order they were set; see requant/state.h. A list that is searched from its start: a state has
 * tens or hundreds of names, and is made and read once. Files are formats/state_file.c. */
#include "requant/state.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/nearest.h"

typedef struct item {
    char *name;
    rq_tensor tensor;
} item;

struct rq_state {
    item *items;
    int n, cap;
};

rq_status rq_state_create(rq_state **out)
{
    rq_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    *out = s;
    return RQ_OK;
}

void rq_state_destroy(rq_state *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n; i++) {
        rq_mem_free(s->items[i].name);
        rq_tensor_release(&s->items[i].tensor);
    }
    rq_mem_free(s->items);
    rq_mem_free(s);
}

int rq_state_count(const rq_state *s)
{
    return s->n;
}

const char *rq_state_name(const rq_state *s, int i)
{
    return s->items[i].name;
}

const rq_tensor *rq_state_tensor(const rq_state *s, int i)
{
    return &s->items[i].tensor;
}

static const char *or_empty(const char *prefix)
{
    return prefix ? prefix : "";
}

/* The place of "<prefix><name>", or -1. */
static int find(const rq_state *s, const char *prefix, const char *name)
{
    const size_t n = strlen(prefix);
    for (int i = 0; i < s->n; i++)
        if (!strncmp(s->items[i].name, prefix, n) && !strcmp(s->items[i].name + n, name))
            return i;
    return -1;
}

const rq_tensor *rq_state_find(const rq_state *s, const char *name)
{
    const int i = find(s, "", name);
    return i < 0 ? NULL : &s->items[i].tensor;
}

static char *joined(const char *prefix, const char *name)
{
    const size_t a = strlen(prefix), b = strlen(name) + 1;
    char *text = rq_mem_alloc(a + b, 1);
    if (text) {
        memcpy(text, prefix, a);
        memcpy(text + a, name, b);
    }
    return text;
}

rq_status rq_state_set(rq_state *s, const char *prefix, const char *name, const rq_tensor *t)
{
    prefix = or_empty(prefix);
    const int at = find(s, prefix, name);
    rq_tensor copy;
    RQ_TRY(rq_tensor_copy(&copy, t));
    if (at >= 0) {
        rq_tensor_release(&s->items[at].tensor);
        s->items[at].tensor = copy;
        return RQ_OK;
    }
    char *full = joined(prefix, name);
    if (!full || !rq_mem_grow(&s->items, s->n, &s->cap, sizeof *s->items)) {
        rq_mem_free(full);
        rq_tensor_release(&copy);
        return RQ_NO_MEMORY;
    }
    s->items[s->n++] = (item) { full, copy };
    return RQ_OK;
}

static rq_status set_row(rq_state *s, const char *prefix, const char *name, rq_dtype d, const void *data, int64_t n)
{
    const rq_shape shape = rq_shape_of(1, &n);
    void *p;
    memcpy(&p, &data, sizeof p); /* a view of what is only read */
    const rq_tensor t = rq_tensor_view(d, &shape, p);
    return rq_state_set(s, prefix, name, &t);
}

rq_status rq_state_set_floats(rq_state *s, const char *prefix, const char *name, const float *x, int64_t n)
{
    return set_row(s, prefix, name, RQ_DTYPE_F32, x, n);
}

rq_status rq_state_set_ints(rq_state *s, const char *prefix, const char *name, const int64_t *x, int64_t n)
{
    return set_row(s, prefix, name, RQ_DTYPE_S64, x, n);
}

rq_status rq_state_set_text(rq_state *s, const char *prefix, const char *name, const char *text)
{
    return set_row(s, prefix, name, RQ_DTYPE_U8, text, (int64_t)strlen(text));
}

rq_status rq_state_get(const rq_state *s, const char *prefix, const char *name, rq_dtype d, int rank,
                       const rq_tensor **out, rq_err *err)
{
    prefix = or_empty(prefix);
    const int at = find(s, prefix, name);
    if (at < 0) {
        char full[200], hint[RQ_NEAREST_HINT];
        snprintf(full, sizeof full, "%s%s", prefix, name);
        rq_nearest near = rq_nearest_to(full);
        for (int i = 0; i < s->n; i++)
            rq_nearest_try(&near, s->items[i].name);
        return rq_fail(err, RQ_NOT_FOUND, "the state holds no '%s'%s", full, rq_nearest_hint(&near, hint));
    }
    const rq_tensor *t = &s->items[at].tensor;
    char text[RQ_SHAPE_TEXT];
    if (t->dtype != d)
        return rq_fail(err, RQ_BAD_DTYPE, "'%s' of the state is %s, expected %s", s->items[at].name,
                       rq_dtype_name(t->dtype), rq_dtype_name(d));
    if (rank >= 0 && t->shape.rank != rank)
        return rq_fail(err, RQ_BAD_SHAPE, "'%s' of the state has shape %s, expected rank %d", s->items[at].name,
                       rq_shape_text(&t->shape, text, sizeof text), rank);
    *out = t;
    return RQ_OK;
}
