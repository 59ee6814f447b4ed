/* run/feeds.c — see run/feeds.h. */
#include "run/feeds.h"

#include <string.h>

#include "base/nearest.h"

static rq_status no_such_input(const rq_graph *g, const char *name, rq_err *err)
{
    char hint[RQ_NEAREST_HINT];
    rq_nearest near = rq_nearest_to(name);
    for (int i = 0; i < g->n_inputs; i++)
        rq_nearest_try(&near, g->values[g->inputs[i]].name);
    return rq_fail(err, RQ_BAD_DATA, "the model has no input '%s'%s", name, rq_nearest_hint(&near, hint));
}

/* Sizes that share a symbol are compared by the operators. */
rq_status rq_feeds_check(const rq_value *v, const char *what, const rq_tensor *t, rq_err *err)
{
    char want[RQ_SHAPE_TEXT], got[RQ_SHAPE_TEXT];
    if (v->dtype != RQ_DTYPE_NONE && t->dtype != v->dtype)
        return rq_fail(err, RQ_BAD_DATA, "%s '%s' is %s, the model wants %s", what, v->name, rq_dtype_name(t->dtype),
                       rq_dtype_name(v->dtype));
    bool fits = !rq_shape_check(&t->shape) && (v->shape.rank < 0 || v->shape.rank == t->shape.rank);
    for (int i = 0; fits && i < v->shape.rank; i++)
        fits = v->shape.dim[i] < 0 || v->shape.dim[i] == t->shape.dim[i];
    if (!fits)
        return rq_fail(err, RQ_BAD_DATA, "%s '%s' has shape %s, the model wants %s", what, v->name,
                       rq_shape_text(&t->shape, got, sizeof got), rq_shape_text(&v->shape, want, sizeof want));
    return RQ_OK;
}

static uint64_t hash_of(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 0x100000001b3u;
    return h;
}

/* n_inputs: none. */
static int input_of(const rq_graph *g, const char *name, rq_feed_name *seen)
{
    const uint64_t hash = hash_of(name);
    if (seen && seen->name == name && seen->hash == hash)
        return seen->input;
    int i = 0;
    while (i < g->n_inputs && strcmp(g->values[g->inputs[i]].name, name) != 0)
        i++;
    if (seen && i < g->n_inputs)
        *seen = (rq_feed_name) { name, hash, i };
    return i;
}

rq_status rq_feeds_match(const rq_graph *g, const rq_feed *in, int n_in, rq_feed_name *names, rq_tensor *feeds,
                         rq_err *err)
{
    memset(feeds, 0, (size_t)g->n_inputs * sizeof *feeds);
    for (int k = 0; k < n_in; k++) {
        const int i = input_of(g, in[k].name, k < g->n_inputs ? &names[k] : NULL);
        if (i == g->n_inputs)
            return no_such_input(g, in[k].name, err);
        RQ_TRY(rq_feeds_check(&g->values[g->inputs[i]], "input", &in[k].tensor, err));
        feeds[i] = in[k].tensor;
    }
    for (int i = 0; i < g->n_inputs; i++)
        if (feeds[i].dtype == RQ_DTYPE_NONE && g->values[g->inputs[i]].constant.dtype == RQ_DTYPE_NONE)
            return rq_fail(err, RQ_BAD_DATA, "input '%s' is missing", g->values[g->inputs[i]].name);
    return RQ_OK;
}

rq_status rq_feeds_no_value(const rq_graph *g, const char *name, rq_err *err)
{
    char hint[RQ_NEAREST_HINT];
    rq_nearest near = rq_nearest_to(name);
    for (int i = 0; i < g->n_values; i++)
        if (g->values[i].kind != RQ_VALUE_DEAD && g->values[i].name[0])
            rq_nearest_try(&near, g->values[i].name);
    return rq_fail(err, RQ_NOT_FOUND, "no value '%s' in the graph%s", name, rq_nearest_hint(&near, hint));
}
