/* formats/dataset_bind.c — everything about samples that headers can settle: which array feeds which input, types, shapes, the
 * number of samples, the batch, labels. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "formats/dataset_priv.h"

enum { DEFAULT_BATCH = 16 };

typedef rq_dataset_binding binding;
typedef rq_dataset_opening opening;

static rq_status check_types(const opening *o, const binding *b)
{
    const rq_dtype from = b->array->dtype, to = b->dtype;
    const bool whole_from = rq_dtype_is_integer(from) || from == RQ_DTYPE_BOOL;
    if (from == to || (rq_dtype_is_float(from) && rq_dtype_is_float(to)) || (whole_from && rq_dtype_is_integer(to)))
        return RQ_OK;
    const char *hint = "";
    if (whole_from && rq_dtype_is_float(to))
        hint = "; convert it as the model expects, for images often x.astype('float32') / 255";
    return rq_fail(o->err, RQ_BAD_DATA, "%s: array '%s' holds %s, input '%s' wants %s%s", o->d->path, b->array->name,
                   rq_dtype_name(from), b->name, rq_dtype_name(to), hint);
}

/* ---- binding arrays to inputs ---- */

static binding *find_binding(rq_dataset *d, const rq_samples_array *a)
{
    for (int i = 0; i < d->n_bind; i++)
        if (d->bind[i].array == a)
            return &d->bind[i];
    return NULL;
}

bool rq_dataset_has_default(const rq_graph *g, int input)
{
    return g->values[g->inputs[input]].constant.dtype != RQ_DTYPE_NONE;
}

/* Arrays that are about the samples, not for the model. */
static bool is_aside(const char *name)
{
    return rq_samples_is_reference(name) || !strcmp(name, "labels") || !strcmp(name, "target");
}

/* The one array that can only be meant for the one input, whatever its name; or NULL. */
static rq_samples_array *lone_array(opening *o)
{
    int needed = 0;
    for (int i = 0; i < o->g->n_inputs; i++)
        needed += !rq_dataset_has_default(o->g, i);
    rq_samples_array *lone = NULL;
    for (int i = 0; i < o->d->samples.n; i++) {
        rq_samples_array *a = &o->d->samples.array[i];
        if (!o->d->samples.is_npy && is_aside(a->name))
            continue;
        if (lone)
            return NULL;
        lone = a;
    }
    return needed == 1 ? lone : NULL;
}

/* No array for an input: name the nearest, or else what there is. */
static rq_status fail_missing(opening *o, const char *input)
{
    const rq_samples *all = &o->d->samples;
    rq_nearest near = rq_nearest_to(input);
    char hint[RQ_NEAREST_HINT], found[160] = "";
    size_t n = 0;
    for (int k = 0; k < all->n; k++) {
        rq_nearest_try(&near, all->array[k].name);
        if (n < sizeof found - 1)
            n += (size_t)snprintf(found + n, sizeof found - n, "%s'%.40s'", k ? ", " : "; found ", all->array[k].name);
    }
    const char *end = rq_nearest_hint(&near, hint);
    return rq_fail(o->err, RQ_BAD_DATA, "%s: no array for input '%s'%s", o->d->path, input, *end ? end : found);
}

static rq_status bind_inputs(opening *o)
{
    rq_dataset *d = o->d;
    const rq_graph *g = o->g;
    rq_samples_array *lone = lone_array(o);
    for (int i = 0; i < g->n_inputs; i++) {
        const rq_value *v = &g->values[g->inputs[i]];
        rq_samples_array *a = rq_samples_find(&d->samples, v->name);
        if (!a && !rq_dataset_has_default(g, i))
            a = lone;
        if (!a && rq_dataset_has_default(g, i))
            continue;
        if (!a)
            return fail_missing(o, v->name);
        binding *b = &d->bind[d->n_bind++];
        *b = (binding) { .array = a, .dtype = v->dtype == RQ_DTYPE_NONE ? a->dtype : v->dtype };
        b->name = rq_arena_strndup(&d->samples.names, v->name, strlen(v->name));
        if (!b->name)
            return RQ_NO_MEMORY;
        RQ_TRY(check_types(o, b));
    }
    return RQ_OK;
}

static rq_status check_unknown(opening *o)
{
    rq_dataset *d = o->d;
    for (int i = 0; i < d->samples.n; i++) {
        const rq_samples_array *a = &d->samples.array[i];
        if (find_binding(d, a) || is_aside(a->name))
            continue;
        rq_nearest near = rq_nearest_to(a->name);
        char hint[RQ_NEAREST_HINT];
        for (int k = 0; k < o->g->n_inputs; k++)
            rq_nearest_try(&near, o->g->values[o->g->inputs[k]].name);
        rq_nearest_try(&near, "labels");
        rq_nearest_try(&near, "target");
        rq_nearest_hint(&near, hint);
        return rq_fail(o->err, RQ_BAD_DATA, "%s: array '%s' is no input of the model%s", d->path, a->name,
                       *hint ? hint : "; what its outputs should be is called 'labels' (classes) or 'target'");
    }
    return RQ_OK;
}

/* ---- shapes ---- */

static rq_status fail_shape(const opening *o, const binding *b, const rq_shape *want, const char *why)
{
    char found[RQ_SHAPE_TEXT], wanted[RQ_SHAPE_TEXT];
    return rq_fail(o->err, RQ_BAD_DATA, "%s: array '%s' has shape %s, input '%s' wants %s: %s", o->d->path,
                   b->array->name, rq_shape_text(&b->array->shape, found, sizeof found), b->name,
                   rq_shape_text(want, wanted, sizeof wanted), why);
}

/* Does a size fit what the input says of that axis? A symbol takes the first size it meets. */
static bool fit_dim(opening *o, int64_t want, int64_t have)
{
    if (want >= 0 || want == RQ_DIM_UNKNOWN)
        return want < 0 || want == have;
    const int64_t k = -2 - want;
    if (k >= o->n_symbols)
        return true;
    if (!o->symbol[k])
        o->symbol[k] = have;
    return o->symbol[k] == have;
}

/* The rule: as many axes as the input, and the first is cut into batches; or one more, and a row is a whole feed. */
static rq_status bind_shape(opening *o, binding *b, const rq_shape *want, bool first)
{
    rq_dataset *d = o->d;
    const rq_shape *have = &b->array->shape;
    b->constant = have->rank == 0 && want->rank <= 0;
    if (b->constant)
        return RQ_OK;
    const bool whole = want->rank >= 0 && have->rank == want->rank + 1;
    if (have->rank == 0 || (want->rank >= 0 && have->rank != want->rank && !whole))
        return fail_shape(o, b, want,
                          "expected as many axes (the first is cut into batches), or one more (a row is a whole feed)");
    if (!first && whole != d->whole)
        return fail_shape(o, b, want,
                          d->whole ? "other arrays have one axis more than their inputs, a whole feed per row"
                                   : "other arrays have as many axes as their inputs, a sample per row");
    d->whole = whole;
    b->row = (rq_shape) { .rank = have->rank - 1 };
    memcpy(b->row.dim, have->dim + 1, (size_t)b->row.rank * sizeof *b->row.dim);
    const int shift = whole ? 0 : 1; /* the input's axis that row axis 0 stands for */
    for (int i = 0; want->rank >= 0 && i < b->row.rank; i++)
        if (!fit_dim(o, want->dim[i + shift], b->row.dim[i])) {
            char why[80];
            snprintf(why, sizeof why, "axis %d of the array has size %" PRId64, i + 1, b->row.dim[i]);
            return fail_shape(o, b, want, why);
        }
    return RQ_OK;
}

/* Size the model, or the caller's --dim, gives the batch axis; 0: any. */
static rq_status fixed_batch(opening *o, int64_t *out)
{
    *out = 0;
    for (int i = 0; i < o->d->n_bind; i++) {
        const rq_value *v = &o->g->values[rq_graph_find(o->g, o->d->bind[i].name)];
        if (o->d->bind[i].constant || v->shape.rank < 1)
            continue;
        int64_t size = v->shape.dim[0];
        if (size < RQ_DIM_UNKNOWN && -2 - size < o->n_symbols)
            size = o->symbol[-2 - size];
        if (size <= 0)
            continue;
        if (*out && *out != size)
            return rq_fail(o->err, RQ_BAD_DATA,
                           "%s: the inputs of the model have first axes of %" PRId64 " and %" PRId64
                           ", so they cannot be cut into batches; give every array one axis more, a whole feed per row",
                           o->d->path, *out, size);
        *out = size;
    }
    return RQ_OK;
}

static rq_status settle_batch(opening *o)
{
    rq_dataset *d = o->d;
    const int64_t asked = o->cfg ? o->cfg->batch : 0;
    int64_t fixed;
    d->batch = 1;
    if (d->whole)
        return RQ_OK;
    RQ_TRY(fixed_batch(o, &fixed));
    d->fixed = fixed > 0;
    if (fixed && asked > 0 && asked != fixed)
        return rq_fail(o->err, RQ_BAD_DATA, "%s: batches of %" PRId64 " were asked for, the model takes %" PRId64,
                       d->path, asked, fixed);
    d->batch = fixed ? fixed : asked > 0 ? asked : DEFAULT_BATCH;
    return RQ_OK;
}

/* All arrays have as many rows; what a fixed batch cannot use is left out. */
static rq_status settle_count(opening *o)
{
    rq_dataset *d = o->d;
    const rq_samples_array *first = NULL;
    for (int i = 0; i < d->n_bind; i++) {
        const rq_samples_array *a = d->bind[i].array;
        if (d->bind[i].constant)
            continue;
        if (first && a->shape.dim[0] != first->shape.dim[0])
            return rq_fail(o->err, RQ_BAD_DATA, "%s: array '%s' has %" PRId64 " rows, array '%s' has %" PRId64, d->path,
                           a->name, a->shape.dim[0], first->name, first->shape.dim[0]);
        first = first ? first : a;
    }
    d->count = first ? first->shape.dim[0] : 1;
    if (d->count == 0)
        return rq_fail(o->err, RQ_BAD_DATA, "%s: holds no samples", d->path);
    if (d->fixed && d->count < d->batch)
        return rq_fail(o->err, RQ_BAD_DATA, "%s: holds %" PRId64 " samples, the model takes batches of %" PRId64,
                       d->path, d->count, d->batch);
    d->left_out = d->fixed ? d->count % d->batch : 0;
    d->count -= d->left_out;
    return RQ_OK;
}

static rq_status settle_shapes(opening *o)
{
    bool first = true;
    for (int i = 0; i < o->d->n_bind; i++) {
        binding *b = &o->d->bind[i];
        RQ_TRY(bind_shape(o, b, &o->g->values[rq_graph_find(o->g, b->name)].shape, first));
        first = first && b->constant;
    }
    RQ_TRY(settle_batch(o));
    return settle_count(o);
}

/* ---- labels, sizes ---- */

static rq_status read_labels(opening *o)
{
    rq_dataset *d = o->d;
    rq_samples_array *a = rq_samples_find(&d->samples, "labels");
    if (!a || find_binding(d, a))
        return RQ_OK;
    char text[RQ_SHAPE_TEXT];
    const int64_t n = a->shape.rank > 0 ? a->shape.dim[0] : 0;
    if (!rq_dtype_is_integer(a->dtype))
        return rq_fail(o->err, RQ_BAD_DATA, "%s: labels are %s; expected integers", d->path, rq_dtype_name(a->dtype));
    if (n != d->count + d->left_out || rq_shape_count(&a->shape) != n)
        return rq_fail(o->err, RQ_BAD_DATA,
                       "%s: labels have shape %s; expected one number for each of %" PRId64 " samples", d->path,
                       rq_shape_text(&a->shape, text, sizeof text), d->count + d->left_out);
    void *raw = rq_mem_alloc((size_t)n, a->row_bytes);
    d->labels = rq_mem_alloc((size_t)n, sizeof *d->labels);
    rq_status st = raw && d->labels ? rq_samples_read(a, 0, n, raw, o->err) : RQ_NO_MEMORY;
    int64_t bad = st ? -1 : rq_dataset_convert(d->labels, RQ_DTYPE_S64, raw, a->dtype, n);
    rq_mem_free(raw);
    if (bad >= 0)
        return rq_fail(o->err, RQ_BAD_DATA, "%s: label %" PRId64 " is beyond 2^63", d->path, bad);
    return st;
}

/* What training wants the model to give, a row for each sample. */
static rq_status bind_target(opening *o)
{
    rq_dataset *d = o->d;
    rq_samples_array *a = rq_samples_find(&d->samples, "target");
    if (!a || find_binding(d, a))
        return RQ_OK;
    char text[RQ_SHAPE_TEXT];
    if (!rq_dtype_is_integer(a->dtype) && !rq_dtype_is_float(a->dtype))
        return rq_fail(o->err, RQ_BAD_DATA, "%s: target is %s; expected numbers", d->path, rq_dtype_name(a->dtype));
    if (a->shape.rank < 1 || a->shape.dim[0] != d->count + d->left_out)
        return rq_fail(o->err, RQ_BAD_DATA, "%s: target has shape %s; expected a row for each of %" PRId64 " samples",
                       d->path, rq_shape_text(&a->shape, text, sizeof text), d->count + d->left_out);
    rq_dataset_binding *b = &d->target;
    *b = (binding) { .name = a->name,
                     .array = a,
                     .dtype = rq_dtype_is_integer(a->dtype) ? RQ_DTYPE_S64 : RQ_DTYPE_F32,
                     .row = a->shape };
    memmove(b->row.dim, b->row.dim + 1, (size_t)--b->row.rank * sizeof *b->row.dim);
    return RQ_OK;
}

rq_status rq_dataset_take_sizes(opening *o)
{
    for (int i = 0; o->cfg && i < o->cfg->n_dims; i++) {
        const rq_dim_value *v = &o->cfg->dims[i];
        rq_nearest near = rq_nearest_to(v->name);
        char hint[RQ_NEAREST_HINT];
        int k = 0;
        for (; k < o->n_symbols && strcmp(o->g->symbols[k], v->name) != 0; k++)
            rq_nearest_try(&near, o->g->symbols[k]);
        if (k == o->n_symbols)
            return rq_fail(o->err, RQ_BAD_ARG, "the model has no axis called '%s'%s", v->name,
                           rq_nearest_hint(&near, hint));
        if (v->size < 1)
            return rq_fail(o->err, RQ_BAD_ARG, "axis '%s' cannot have size %" PRId64, v->name, v->size);
        o->symbol[k] = v->size;
    }
    return RQ_OK;
}

rq_status rq_dataset_bind(opening *o)
{
    RQ_TRY(bind_inputs(o));
    RQ_TRY(check_unknown(o));
    RQ_TRY(settle_shapes(o));
    RQ_TRY(bind_target(o));
    return read_labels(o);
}
