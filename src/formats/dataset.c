/* formats/dataset.c — samples for a model, a batch at a time.
 *
 * Opening binds arrays to inputs and settles everything that headers can settle: types, shapes, the number of samples,
 * the batch. Reading copies the rows asked for, converts them where that loses nothing that matters, and looks at every
 * value once: a NaN in the data is an error here, not a mystery three layers down. */
#include "requant/dataset.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "formats/samples.h"
#include "graph/graph.h"

enum { DEFAULT_BATCH = 16 };

typedef struct binding {
    const char *name; /* of the input */
    rq_samples_array *array;
    rq_dtype dtype; /* of the input */
    rq_shape row;   /* of the array, without its first axis */
    bool constant;  /* one number for every feed */
    void *buf;      /* of dtype, room for `room` rows */
    void *raw;      /* of the array's type, where it differs */
    int64_t room;
} binding;

struct rq_dataset {
    char *path;
    rq_samples samples;
    binding *bind;
    rq_feed *feeds;
    int n_bind;
    int64_t count, batch, left_out;
    bool whole, fixed;
    int64_t *labels;
    rq_dataset_array *given; /* [n_given] of rq_dataset_create */
    int n_given;
};

/* What opening needs and reading does not. */
typedef struct opening {
    rq_dataset *d;
    const rq_graph *g;
    const rq_dataset_cfg *cfg;
    int64_t *symbol; /* size of each symbol, or 0 */
    int n_symbols;
    rq_err *err;
} opening;

/* ---- types ---- */

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

/* n elements of type `from` at src to type `to` at dst; the index of the first that does not fit, or -1. */
static int64_t convert(void *dst, rq_dtype to, const void *src, rq_dtype from, int64_t n)
{
    const rq_shape shape = { .rank = 1, .dim = { n } };
    const rq_tensor x = rq_tensor_view(from, &shape, (void *)src);
    rq_tensor y = rq_tensor_view(to, &shape, dst);
    if (from == RQ_DTYPE_F64 && to == RQ_DTYPE_F32) {
        for (int64_t i = 0; i < n; i++)
            y.f32[i] = (float)x.f64[i];
        return -1;
    }
    if (rq_dtype_is_float(to)) {
        for (int64_t i = 0; i < n; i++)
            rq_tensor_set(&y, i, rq_tensor_get(&x, i));
        return -1;
    }
    const bool wide = rq_dtype_bits(to) == 64;
    int64_t lo = to == RQ_DTYPE_U64 ? 0 : INT64_MIN, hi = INT64_MAX;
    if (!wide)
        rq_dtype_limits(to, &lo, &hi);
    for (int64_t i = 0; i < n; i++) {
        const int64_t v = rq_tensor_get_int(&x, i);
        if (v < lo || v > hi || (from == RQ_DTYPE_U64 && v < 0))
            return i;
        if (wide)
            y.s64[i] = v;
        else
            rq_tensor_set(&y, i, (double)v);
    }
    return -1;
}

static int64_t find_nan(const void *data, rq_dtype d, int64_t n)
{
    const rq_shape shape = { .rank = 1, .dim = { n } };
    const rq_tensor x = rq_tensor_view(d, &shape, (void *)data);
    if (d == RQ_DTYPE_F32) {
        for (int64_t i = 0; i < n; i++)
            if (isnan(x.f32[i]))
                return i;
    } else if (rq_dtype_is_float(d)) {
        for (int64_t i = 0; i < n; i++)
            if (isnan(rq_tensor_get(&x, i)))
                return i;
    }
    return -1;
}

/* ---- binding arrays to inputs ---- */

static binding *find_binding(rq_dataset *d, const rq_samples_array *a)
{
    for (int i = 0; i < d->n_bind; i++)
        if (d->bind[i].array == a)
            return &d->bind[i];
    return NULL;
}

static bool has_default(const rq_graph *g, int input)
{
    return g->values[g->inputs[input]].constant.dtype != RQ_DTYPE_NONE;
}

/* The one array that can only be meant for the one input, whatever its name; or NULL. */
static rq_samples_array *lone_array(opening *o)
{
    int needed = 0;
    for (int i = 0; i < o->g->n_inputs; i++)
        needed += !has_default(o->g, i);
    rq_samples_array *lone = NULL;
    for (int i = 0; i < o->d->samples.n; i++) {
        rq_samples_array *a = &o->d->samples.array[i];
        if (!o->d->samples.is_npy && (rq_samples_is_reference(a->name) || !strcmp(a->name, "labels")))
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
        if (!a && !has_default(g, i))
            a = lone;
        if (!a && has_default(g, i))
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
        if (find_binding(d, a) || rq_samples_is_reference(a->name) || !strcmp(a->name, "labels"))
            continue;
        rq_nearest near = rq_nearest_to(a->name);
        char hint[RQ_NEAREST_HINT];
        for (int k = 0; k < o->g->n_inputs; k++)
            rq_nearest_try(&near, o->g->values[o->g->inputs[k]].name);
        return rq_fail(o->err, RQ_BAD_DATA, "%s: array '%s' is no input of the model%s", d->path, a->name,
                       rq_nearest_hint(&near, hint));
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
    int64_t bad = st ? -1 : convert(d->labels, RQ_DTYPE_S64, raw, a->dtype, n);
    rq_mem_free(raw);
    if (bad >= 0)
        return rq_fail(o->err, RQ_BAD_DATA, "%s: label %" PRId64 " is beyond 2^63", d->path, bad);
    return st;
}

static rq_status take_sizes(opening *o)
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

/* ---- public ---- */

/* Arrays that are in memory, or that a function of the program brings. */
static rq_status read_given(void *source, int64_t first, int64_t n, void *dst, rq_err *err)
{
    const rq_dataset_array *a = source;
    if (!a->data)
        return a->read(a->arg, first, n, dst, err);
    rq_shape row = a->shape;
    if (row.rank > 0)
        row.dim[0] = 1;
    const size_t bytes = rq_shape_bytes(&row, a->dtype);
    memcpy(dst, (const uint8_t *)a->data + (size_t)first * bytes, (size_t)n * bytes);
    return RQ_OK;
}

static rq_status add_given(opening *o)
{
    rq_dataset *d = o->d;
    for (int i = 0; i < d->n_given; i++) {
        rq_dataset_array *a = &d->given[i];
        if (!a->name || (!a->data && !a->read && rq_shape_count(&a->shape) > 0))
            return rq_fail(o->err, RQ_BAD_ARG, "array %d ('%s') has neither data nor a function that reads it", i,
                           a->name ? a->name : "");
        RQ_TRY(rq_samples_add(&d->samples, a->name, a->dtype, &a->shape, read_given, a, o->err));
    }
    return d->n_given ? RQ_OK : rq_fail(o->err, RQ_BAD_DATA, "no arrays were given");
}

static rq_status open_all(opening *o)
{
    rq_dataset *d = o->d;
    d->bind = rq_mem_zalloc((size_t)o->g->n_inputs, sizeof *d->bind);
    d->feeds = rq_mem_zalloc((size_t)o->g->n_inputs, sizeof *d->feeds);
    o->n_symbols = o->g->n_symbols;
    o->symbol = rq_mem_zalloc((size_t)o->n_symbols, sizeof *o->symbol);
    if (!d->path || !d->bind || !d->feeds || !o->symbol)
        return RQ_NO_MEMORY;
    RQ_TRY(take_sizes(o));
    if (d->given)
        RQ_TRY(add_given(o));
    else
        RQ_TRY(rq_samples_open(&d->samples, d->path, o->err));
    RQ_TRY(bind_inputs(o));
    RQ_TRY(check_unknown(o));
    RQ_TRY(settle_shapes(o));
    return read_labels(o);
}

static rq_status open_dataset(rq_dataset **out, const char *path, const rq_dataset_array *arrays, int n,
                              const rq_graph *g, const rq_dataset_cfg *cfg, rq_err *err)
{
    *out = NULL;
    rq_dataset *d = rq_mem_zalloc(1, sizeof *d);
    if (d && arrays)
        d->given = rq_mem_alloc((size_t)n, sizeof *d->given);
    if (!d || (arrays && !d->given)) {
        rq_mem_free(d);
        return rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory to open it", path);
    }
    if (arrays && n > 0)
        memcpy(d->given, arrays, (size_t)n * sizeof *arrays);
    d->n_given = n;
    d->path = rq_mem_strdup(path);
    opening o = { .d = d, .g = g, .cfg = cfg, .err = err };
    rq_status st = open_all(&o);
    rq_mem_free(o.symbol);
    if (st == RQ_NO_MEMORY)
        rq_fail(err, st, "%s: not enough memory to open it", path);
    if (st)
        rq_dataset_close(d);
    else
        *out = d;
    return st;
}

rq_status rq_dataset_open(rq_dataset **out, const char *path, const rq_graph *g, const rq_dataset_cfg *cfg, rq_err *err)
{
    return open_dataset(out, path, NULL, 0, g, cfg, err);
}

rq_status rq_dataset_create(rq_dataset **out, const rq_dataset_array *arrays, int n, const rq_graph *g,
                            const rq_dataset_cfg *cfg, rq_err *err)
{
    static const rq_dataset_array none;
    return open_dataset(out, "samples of the program", n > 0 ? arrays : &none, n > 0 ? n : 0, g, cfg, err);
}

void rq_dataset_close(rq_dataset *d)
{
    if (!d)
        return;
    for (int i = 0; i < d->n_bind; i++) {
        rq_mem_free(d->bind[i].buf);
        rq_mem_free(d->bind[i].raw);
    }
    rq_samples_close(&d->samples);
    rq_mem_free(d->bind);
    rq_mem_free(d->feeds);
    rq_mem_free(d->labels);
    rq_mem_free(d->given);
    rq_mem_free(d->path);
    rq_mem_free(d);
}

int64_t rq_dataset_count(const rq_dataset *d)
{
    return d->count;
}

int64_t rq_dataset_batch_size(const rq_dataset *d)
{
    return d->batch;
}

int64_t rq_dataset_left_out(const rq_dataset *d)
{
    return d->left_out;
}

bool rq_dataset_whole_feeds(const rq_dataset *d)
{
    return d->whole;
}

const char *rq_dataset_path(const rq_dataset *d)
{
    return d->path;
}

const int64_t *rq_dataset_labels(const rq_dataset *d)
{
    return d->labels;
}

/* ---- reading ---- */

static rq_status make_room(binding *b, int64_t n)
{
    if (b->buf && n <= b->room)
        return RQ_OK;
    const size_t elements = b->constant ? 1 : (size_t)rq_shape_count(&b->row);
    const bool converts = b->dtype != b->array->dtype;
    rq_mem_free(b->buf);
    rq_mem_free(b->raw);
    b->raw = NULL;
    b->room = 0; /* until both are there */
    size_t all;
    if (!rq_mem_mul((size_t)n, elements, &all)) {
        b->buf = NULL;
        return RQ_NO_MEMORY;
    }
    b->buf = rq_mem_alloc(all, ((size_t)rq_dtype_bits(b->dtype) + 7) / 8);
    if (converts)
        b->raw = rq_mem_alloc(all, ((size_t)rq_dtype_bits(b->array->dtype) + 7) / 8);
    if (!b->buf || (converts && !b->raw))
        return RQ_NO_MEMORY;
    b->room = n;
    return RQ_OK;
}

/* Rows of one array; neighbours are read together. */
static rq_status read_rows(rq_dataset *d, binding *b, const int64_t *rows, int64_t n, rq_err *err)
{
    rq_samples_array *a = b->array;
    uint8_t *dst = b->raw ? b->raw : b->buf;
    if (b->constant)
        RQ_TRY(rq_samples_read(a, 0, 1, dst, err));
    for (int64_t i = 0; i < n && !b->constant;) {
        int64_t run = 1;
        while (i + run < n && rows[i + run] == rows[i] + run)
            run++;
        RQ_TRY(rq_samples_read(a, rows[i], run, dst + (size_t)i * a->row_bytes, err));
        i += run;
    }
    const int64_t per = b->constant ? 1 : rq_shape_count(&b->row), all = b->constant ? 1 : n * per;
    int64_t bad = b->raw ? convert(b->buf, b->dtype, b->raw, a->dtype, all) : -1;
    if (bad >= 0)
        return rq_fail(err, RQ_BAD_DATA, "%s: row %" PRId64 " of array '%s' holds %" PRId64 ", which %s cannot hold",
                       d->path, b->constant ? 0 : rows[bad / per], a->name,
                       rq_tensor_get_int(&(rq_tensor) { .dtype = a->dtype, .data = b->raw }, bad),
                       rq_dtype_name(b->dtype));
    bad = find_nan(b->buf, b->dtype, all);
    if (bad >= 0)
        return rq_fail(err, RQ_BAD_DATA, "%s: row %" PRId64 " of array '%s' holds a NaN", d->path,
                       b->constant ? 0 : rows[bad / per], a->name);
    return RQ_OK;
}

rq_status rq_dataset_read(rq_dataset *d, const int64_t *rows, int64_t n, const rq_feed **feeds, int *n_feeds,
                          rq_err *err)
{
    *feeds = NULL;
    *n_feeds = 0;
    if (n < 1 || n > d->batch)
        return rq_fail(err, RQ_BAD_ARG, "%s: %" PRId64 " samples were asked for at once; batches have 1 to %" PRId64,
                       d->path, n, d->batch);
    if (d->fixed && n != d->batch)
        return rq_fail(err, RQ_BAD_DATA,
                       "%s: the model takes batches of %" PRId64 ", and only %" PRId64 " samples are left", d->path,
                       d->batch, n);
    for (int64_t i = 0; i < n; i++)
        if (rows[i] < 0 || rows[i] >= d->count)
            return rq_fail(err, RQ_BAD_ARG, "%s: sample %" PRId64 " was asked for; there are %" PRId64, d->path,
                           rows[i], d->count);
    for (int i = 0; i < d->n_bind; i++) {
        binding *b = &d->bind[i];
        if (make_room(b, n))
            return rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory for %" PRId64 " rows of array '%s'", d->path, n,
                           b->array->name);
        RQ_TRY(read_rows(d, b, rows, n, err));
        rq_shape shape = b->row;
        if (b->constant) {
            shape = (rq_shape) { .rank = 0 };
        } else if (!d->whole) {
            memmove(shape.dim + 1, shape.dim, (size_t)shape.rank * sizeof *shape.dim);
            shape.dim[0] = n;
            shape.rank++;
        }
        d->feeds[i] = (rq_feed) { .name = b->name, .tensor = rq_tensor_view(b->dtype, &shape, b->buf) };
    }
    *feeds = d->feeds;
    *n_feeds = d->n_bind;
    return RQ_OK;
}
