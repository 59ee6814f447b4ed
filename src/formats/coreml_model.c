/* formats/coreml_model.c — the description of a model: inputs, outputs and states with their types, labels, metadata. Reading
 * and writing side by side; a feature that was read is written as the message it was. */
#include "formats/coreml.h"

#include <inttypes.h>
#include <string.h>

#include "coreml.pb-c.h"

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory for the model's description");
}

static void *zalloc(const rq_coreml *m, size_t n, size_t size)
{
    return rq_arena_alloc((rq_arena *)&m->program.arena, n ? n : 1, size);
}

static rq_status text(rq_coreml *m, const char **out, const ProtobufCBinaryData *b, rq_err *err)
{
    if (b->len && memchr(b->data, 0, b->len))
        return rq_fail(err, RQ_BAD_FILE, "the model's description has a text with a NUL in it");
    *out = rq_arena_strndup(&m->program.arena, b->len ? (const char *)b->data : "", b->len);
    return *out ? RQ_OK : no_memory(err);
}

/* ---- types of features ---- */

static rq_status take_sizes(rq_coreml *m, int64_t **out, const rq_coreml_feature *f, size_t n, const int64_t *sizes,
                            rq_err *err)
{
    if (n != (size_t)f->rank)
        return rq_fail(err, RQ_BAD_FILE, "a shape of %zu axes beside one of %d", n, f->rank);
    *out = zalloc(m, n, sizeof **out);
    if (!*out)
        return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        if (sizes[i] < 0)
            return rq_fail(err, RQ_BAD_FILE, "a shape with the size %" PRId64, sizes[i]);
        (*out)[i] = sizes[i];
    }
    return RQ_OK;
}

static rq_status read_array(rq_coreml *m, rq_coreml_feature *f, const Coreml__ArrayType *a, rq_err *err)
{
    const Coreml__ShapeRange *r = a->shape_range;
    const Coreml__EnumeratedShapes *l = a->enumerated_shapes;
    const size_t rank = a->n_shape ? a->n_shape : r ? r->n_size_ranges : l && l->n_shapes ? l->shapes[0]->n_shape : 0;
    if (rank > RQ_MIL_MAX_RANK)
        return rq_fail(err, RQ_UNSUPPORTED, "it has %zu axes, at most %d are known", rank, RQ_MIL_MAX_RANK);
    f->rank = (int)rank;
    f->dtype = a->data_type;
    if (a->n_shape)
        RQ_TRY(take_sizes(m, &f->shape, f, a->n_shape, a->shape, err));
    if (r) {
        if (r->n_size_ranges != rank)
            return rq_fail(err, RQ_BAD_FILE, "%zu ranges for %zu axes", r->n_size_ranges, rank);
        f->range = zalloc(m, rank, sizeof *f->range);
        for (size_t i = 0; f->range && i < rank; i++)
            f->range[i] = (rq_coreml_range) { r->size_ranges[i]->lower_bound, r->size_ranges[i]->upper_bound };
        if (!f->range)
            return no_memory(err);
    }
    if (l) {
        f->listed = zalloc(m, l->n_shapes, sizeof *f->listed);
        if (!f->listed)
            return no_memory(err);
        for (size_t i = 0; i < l->n_shapes; i++)
            RQ_TRY(take_sizes(m, &f->listed[i], f, l->shapes[i]->n_shape, l->shapes[i]->shape, err));
        f->n_listed = (int)l->n_shapes;
    }
    return RQ_OK;
}

static rq_status read_image(rq_coreml *m, rq_coreml_feature *f, const Coreml__ImageType *i, rq_err *err)
{
    const int64_t size[2] = { i->height, i->width };
    f->rank = 2;
    f->color = i->color_space;
    RQ_TRY(take_sizes(m, &f->shape, f, 2, size, err));
    if (i->image_size_range) {
        const Coreml__SizeRange *axes[2] = { i->image_size_range->height_range, i->image_size_range->width_range };
        f->range = zalloc(m, 2, sizeof *f->range);
        if (!f->range)
            return no_memory(err);
        for (int k = 0; k < 2; k++)
            if (axes[k])
                f->range[k] = (rq_coreml_range) { axes[k]->lower_bound, axes[k]->upper_bound };
    }
    if (i->enumerated_sizes) {
        f->listed = zalloc(m, i->enumerated_sizes->n_sizes, sizeof *f->listed);
        if (!f->listed)
            return no_memory(err);
        for (size_t k = 0; k < i->enumerated_sizes->n_sizes; k++) {
            const Coreml__ImageSize *s = i->enumerated_sizes->sizes[k];
            const int64_t listed[2] = { (int64_t)s->height, (int64_t)s->width };
            RQ_TRY(take_sizes(m, &f->listed[k], f, 2, listed, err));
            f->n_listed = (int)k + 1;
        }
    }
    return RQ_OK;
}

static rq_status read_type(rq_coreml *m, rq_coreml_feature *f, const Coreml__FeatureType *t, rq_err *err)
{
    const int members = t ? !!t->int64_type + !!t->double_type + !!t->string_type + !!t->image_type +
                                !!t->multi_array_type + !!t->dictionary_type + !!t->sequence_type + !!t->state_type
                          : 0;
    if (members != 1)
        return rq_fail(err, RQ_BAD_FILE, "its type is missing, or it has %d", members);
    f->optional = t->is_optional;
    if (t->multi_array_type)
        return read_array(m, f, t->multi_array_type, err);
    if (t->image_type) {
        f->kind = RQ_COREML_IMAGE;
        return read_image(m, f, t->image_type, err);
    }
    if (t->state_type) {
        f->kind = RQ_COREML_STATE;
        return t->state_type->array_type ? read_array(m, f, t->state_type->array_type, err) : RQ_OK;
    }
    f->kind = t->int64_type        ? RQ_COREML_INT64
              : t->double_type     ? RQ_COREML_NUMBER
              : t->string_type     ? RQ_COREML_STRING
              : t->dictionary_type ? RQ_COREML_DICTIONARY
                                   : RQ_COREML_SEQUENCE;
    f->text_keys = t->dictionary_type && t->dictionary_type->string_key;
    return RQ_OK;
}

static rq_status read_features(rq_coreml *m, rq_coreml_features *out, size_t n, Coreml__FeatureDescription *const *list,
                               rq_err *err)
{
    out->at = zalloc(m, n, sizeof *out->at);
    if (!out->at)
        return no_memory(err);
    out->cap = (int)n;
    for (size_t i = 0; i < n; i++) {
        rq_coreml_feature *f = &out->at[i];
        f->as_read = list[i];
        RQ_TRY(text(m, &f->name, &list[i]->name, err));
        RQ_TRY(text(m, &f->doc, &list[i]->short_description, err));
        const rq_status st = read_type(m, f, list[i]->type, err);
        if (st)
            return rq_fail_in(err, st, "input or output '%s'", f->name);
        out->n = (int)i + 1;
    }
    return RQ_OK;
}

/* ---- all of it ---- */

static rq_status read_metadata(rq_coreml *m, const Coreml__Metadata *d, rq_err *err)
{
    if (!d)
        return RQ_OK;
    RQ_TRY(text(m, &m->doc, &d->short_description, err));
    RQ_TRY(text(m, &m->version, &d->version_string, err));
    RQ_TRY(text(m, &m->author, &d->author, err));
    RQ_TRY(text(m, &m->license, &d->license, err));
    for (size_t i = 0; i < d->n_user_defined; i++) {
        if (!rq_mem_grow(&m->metadata, m->n_metadata, &m->cap_metadata, sizeof *m->metadata))
            return no_memory(err);
        rq_coreml_entry *e = &m->metadata[m->n_metadata];
        RQ_TRY(text(m, &e->key, &d->user_defined[i]->key, err));
        RQ_TRY(text(m, &e->value, &d->user_defined[i]->value, err));
        m->n_metadata++;
    }
    return RQ_OK;
}

static rq_status read_one(rq_coreml *m, rq_coreml_interface *to, const Coreml__ModelDescription *d, rq_err *err)
{
    RQ_TRY(text(m, &to->label, &d->predicted_feature_name, err));
    RQ_TRY(text(m, &to->probabilities, &d->predicted_probabilities_name, err));
    RQ_TRY(read_features(m, &to->inputs, d->n_input, d->input, err));
    RQ_TRY(read_features(m, &to->outputs, d->n_output, d->output, err));
    return read_features(m, &to->states, d->n_state, d->state, err);
}

static rq_status read_function(rq_coreml *m, rq_coreml_interface *to, const Coreml__FunctionDescription *d, rq_err *err)
{
    RQ_TRY(text(m, &to->name, &d->name, err));
    RQ_TRY(text(m, &to->label, &d->predicted_feature_name, err));
    RQ_TRY(text(m, &to->probabilities, &d->predicted_probabilities_name, err));
    RQ_TRY(read_features(m, &to->inputs, d->n_input, d->input, err));
    RQ_TRY(read_features(m, &to->outputs, d->n_output, d->output, err));
    return read_features(m, &to->states, d->n_state, d->state, err);
}

rq_status rq_coreml_read_description(rq_coreml *m, rq_err *err)
{
    const Coreml__ModelDescription *d = ((const Coreml__Model *)m->as_read)->description;
    if (!d)
        return rq_fail(err, RQ_BAD_FILE, "the model has no description of its inputs and outputs");
    RQ_TRY(read_metadata(m, d->metadata, err));
    RQ_TRY(text(m, &m->default_function, &d->default_function_name, err));
    if (!d->n_functions) {
        rq_coreml_interface *to =
            rq_coreml_add_interface(m, m->program.n_functions ? m->program.functions[0]->name : "main");
        return to ? read_one(m, to, d, err) : no_memory(err);
    }
    for (size_t i = 0; i < d->n_functions; i++) {
        rq_coreml_interface *to = rq_coreml_add_interface(m, "");
        if (!to)
            return no_memory(err);
        RQ_TRY(read_function(m, to, d->functions[i], err));
    }
    return RQ_OK;
}

const char *rq_coreml_metadata(const rq_coreml *m, const char *key)
{
    for (int i = 0; i < m->n_metadata; i++)
        if (!strcmp(m->metadata[i].key, key))
            return m->metadata[i].value;
    return NULL;
}

/* ---- making ---- */

static const char *copy(rq_coreml *m, const char *s)
{
    return rq_arena_strndup(&m->program.arena, s, strlen(s));
}

rq_coreml_interface *rq_coreml_add_interface(rq_coreml *m, const char *function)
{
    const char *own = copy(m, function);
    if (!own || !rq_mem_grow(&m->interfaces, m->n_interfaces, &m->cap_interfaces, sizeof *m->interfaces))
        return NULL;
    rq_coreml_interface *to = &m->interfaces[m->n_interfaces++];
    *to = (rq_coreml_interface) { .name = own, .label = "", .probabilities = "" };
    return to;
}

rq_coreml_feature *rq_coreml_add_feature(rq_coreml *m, rq_coreml_features *list, const char *name)
{
    const char *own = copy(m, name);
    if (list->n == list->cap) {
        const int cap = list->cap ? list->cap * 2 : 4;
        rq_coreml_feature *more = zalloc(m, (size_t)cap, sizeof *more);
        if (!more)
            return NULL;
        if (list->n)
            memcpy(more, list->at, (size_t)list->n * sizeof *more);
        list->at = more;
        list->cap = cap;
    }
    if (!own)
        return NULL;
    list->at[list->n] = (rq_coreml_feature) { .name = own, .doc = "" };
    return &list->at[list->n++];
}

bool rq_coreml_set_metadata(rq_coreml *m, const char *key, const char *value)
{
    const char *own = copy(m, key), *v = copy(m, value);
    if (!own || !v)
        return false;
    for (int i = 0; i < m->n_metadata; i++)
        if (!strcmp(m->metadata[i].key, key)) {
            m->metadata[i].value = v;
            return true;
        }
    if (!rq_mem_grow(&m->metadata, m->n_metadata, &m->cap_metadata, sizeof *m->metadata))
        return false;
    m->metadata[m->n_metadata++] = (rq_coreml_entry) { own, v };
    return true;
}
