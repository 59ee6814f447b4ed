/* formats/dataset.c — samples for a model, a batch at a time.
 *
 * Opening binds arrays to inputs and settles everything that headers can settle (dataset_bind.c). Reading copies the
 * rows asked for, converts them where that loses nothing that matters, and looks at every value once: a NaN in the data
 * is an error here, not a mystery three layers down. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "formats/dataset_priv.h"
#include "formats/model_input.h"

/* ---- where arrays come from ---- */

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

static rq_status add_given(rq_dataset_opening *o)
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

/* The input that pictures go to: the only one that must be fed. */
static const rq_value *image_input(const rq_dataset_opening *o)
{
    const rq_value *only = NULL;
    for (int i = 0; i < o->g->n_inputs; i++)
        if (!rq_dataset_has_default(o->g, i)) {
            if (only)
                return NULL;
            only = &o->g->values[o->g->inputs[i]];
        }
    return only;
}

/* What the recipe left open: sizes and layout as the model's input has them. */
static void follow_input(rq_preprocess *p, const rq_value *in)
{
    const int64_t channels = p->channels == RQ_IMAGE_GRAY ? 1 : 3;
    if (in->shape.rank != 4)
        return;
    if (in->shape.dim[3] == channels && in->shape.dim[1] != channels)
        p->channels_last = true;
    const int64_t *side = in->shape.dim + (p->channels_last ? 1 : 2);
    if (p->crop_height || p->resize_height || side[0] < 1 || side[1] < 1)
        return;
    if (p->resize_short)
        p->crop_height = side[0], p->crop_width = side[1];
    else
        p->resize_height = side[0], p->resize_width = side[1];
}

/* Sub-folders that are named as the model's labels are these classes. */
static rq_status follow_labels(rq_dataset_opening *o)
{
    rq_images *s = &o->d->images;
    if (!s->n_classes || !rq_model_input_has_labels(o->g))
        return RQ_OK;
    int32_t *place = rq_mem_alloc((size_t)s->n_classes, sizeof *place);
    if (!place)
        return RQ_NO_MEMORY;
    if (rq_model_input_places(o->g, s->class_name, s->n_classes, place))
        for (int i = 0, k = 0; i < s->n; i++) {
            while (i >= s->class_end[k])
                k++;
            s->label[i] = place[k];
        }
    rq_mem_free(place);
    return RQ_OK;
}

static rq_status add_images(rq_dataset_opening *o)
{
    rq_dataset *d = o->d;
    const rq_value *in = image_input(o);
    rq_preprocess p = rq_preprocess_defaults();
    const bool said = in && rq_model_input_image(o->g, in->name, &p);
    if (o->cfg && o->cfg->images)
        p = *o->cfg->images;
    else if (!said)
        return rq_fail(
            o->err, RQ_BAD_DATA,
            "%s: holds pictures; how they become numbers must be said, as the model's training did it: in a "
            "recipe, preprocess: {resize: 256, crop: 224, mean: [...], std: [...]}, or {} for code / 255 at the "
            "model's size",
            d->path);
    if (!in)
        return rq_fail(o->err, RQ_BAD_DATA, "%s: holds pictures, but the model has more than one input", d->path);
    follow_input(&p, in);
    RQ_TRY(rq_images_open(&d->images, d->path, o->err));
    RQ_TRY(follow_labels(o));
    RQ_TRY(rq_images_prepare(&d->images, &p, in->dtype == RQ_DTYPE_U8, o->err));
    rq_shape all = d->images.row;
    memmove(all.dim + 1, all.dim, (size_t)all.rank * sizeof *all.dim);
    all.dim[0] = d->images.n;
    all.rank++;
    RQ_TRY(rq_samples_add(&d->samples, in->name, d->images.codes ? RQ_DTYPE_U8 : RQ_DTYPE_F32, &all, rq_images_read,
                          &d->images, o->err));
    if (!d->images.n_classes)
        return RQ_OK;
    return rq_samples_add(&d->samples, "labels", RQ_DTYPE_S64, &(rq_shape) { 1, { d->images.n } },
                          rq_images_read_labels, &d->images, o->err);
}

static rq_status open_all(rq_dataset_opening *o)
{
    rq_dataset *d = o->d;
    d->bind = rq_mem_zalloc((size_t)o->g->n_inputs, sizeof *d->bind);
    d->feeds = rq_mem_zalloc((size_t)o->g->n_inputs, sizeof *d->feeds);
    o->n_symbols = o->g->n_symbols;
    o->symbol = rq_mem_zalloc((size_t)o->n_symbols, sizeof *o->symbol);
    if (!d->path || !d->bind || !d->feeds || !o->symbol)
        return RQ_NO_MEMORY;
    RQ_TRY(rq_dataset_take_sizes(o));
    if (d->given)
        RQ_TRY(add_given(o));
    else if (rq_images_are_in(d->path))
        RQ_TRY(add_images(o));
    else
        RQ_TRY(rq_samples_open(&d->samples, d->path, o->err));
    return rq_dataset_bind(o);
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
    rq_dataset_opening o = { .d = d, .g = g, .cfg = cfg, .err = err };
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
    rq_mem_free(d->target.buf);
    rq_mem_free(d->target.raw);
    rq_samples_close(&d->samples);
    rq_images_close(&d->images);
    rq_mem_free(d->bind);
    rq_mem_free(d->feeds);
    rq_mem_free(d->labels);
    rq_mem_free(d->given);
    rq_mem_free(d->path);
    rq_mem_free(d);
}

int rq_dataset_classes(const rq_dataset *d)
{
    return d->images.n_classes;
}

int64_t rq_dataset_count(const rq_dataset *d)
{
    return d->count;
}

int64_t rq_dataset_batch_size(const rq_dataset *d)
{
    return d->batch;
}

int64_t rq_dataset_unit(const rq_dataset *d)
{
    return d->fixed ? d->batch : 1;
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

int64_t rq_dataset_convert(void *dst, rq_dtype to, const void *src, rq_dtype from, int64_t n)
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

static rq_status make_room(rq_dataset_binding *b, int64_t n)
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
static rq_status read_rows(rq_dataset *d, rq_dataset_binding *b, const int64_t *rows, int64_t n, rq_err *err)
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
    int64_t bad = b->raw ? rq_dataset_convert(b->buf, b->dtype, b->raw, a->dtype, all) : -1;
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

static rq_status check_rows(const rq_dataset *d, const int64_t *rows, int64_t n, rq_err *err)
{
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
    return RQ_OK;
}

static rq_status read_binding(rq_dataset *d, rq_dataset_binding *b, const int64_t *rows, int64_t n, rq_tensor *out,
                              rq_err *err)
{
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
    *out = rq_tensor_view(b->dtype, &shape, b->buf);
    return RQ_OK;
}

bool rq_dataset_has_target(const rq_dataset *d)
{
    return d->target.array != NULL;
}

rq_status rq_dataset_read_target(rq_dataset *d, const int64_t *rows, int64_t n, rq_tensor *out, rq_err *err)
{
    if (!d->target.array)
        return rq_fail(err, RQ_NOT_FOUND, "%s: has no array 'target'", d->path);
    RQ_TRY(check_rows(d, rows, n, err));
    return read_binding(d, &d->target, rows, n, out, err);
}

rq_status rq_dataset_read(rq_dataset *d, const int64_t *rows, int64_t n, const rq_feed **feeds, int *n_feeds,
                          rq_err *err)
{
    *feeds = NULL;
    *n_feeds = 0;
    RQ_TRY(check_rows(d, rows, n, err));
    for (int i = 0; i < d->n_bind; i++) {
        rq_dataset_binding *b = &d->bind[i];
        d->feeds[i].name = b->name;
        RQ_TRY(read_binding(d, b, rows, n, &d->feeds[i].tensor, err));
    }
    *feeds = d->feeds;
    *n_feeds = d->n_bind;
    return RQ_OK;
}
