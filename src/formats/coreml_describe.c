/* formats/coreml_describe.c — the description of a model as its message: what coreml_model.c reads. */
#include "formats/coreml.h"

#include <string.h>

#include "coreml.pb-c.h"

typedef struct writer {
    rq_arena *a;
    rq_err *err;
} writer;

static rq_status no_memory(const writer *w)
{
    return rq_fail(w->err, RQ_NO_MEMORY, "not enough memory to write the model's description");
}

static void *message(const writer *w, const ProtobufCMessageDescriptor *d, const void *as_read)
{
    void *m = rq_arena_alloc(w->a, 1, d->sizeof_message);
    if (m && as_read)
        memcpy(m, as_read, d->sizeof_message);
    else if (m)
        protobuf_c_message_init(d, m);
    return m;
}

#define NEW(w, name, as_read) message(w, &coreml__##name##__descriptor, as_read)

static void *list(const writer *w, int n)
{
    return rq_arena_alloc(w->a, n > 0 ? (size_t)n : 1, sizeof(void *));
}

/* An empty text is left out, unless it stood in the file. */
static void set_text(protobuf_c_boolean *has, ProtobufCBinaryData *to, const char *s)
{
    *has = *has || *s;
    *to = (ProtobufCBinaryData) { .len = strlen(s), .data = (uint8_t *)s };
}

static Coreml__SizeRange *build_range(const writer *w, const rq_coreml_range *r)
{
    Coreml__SizeRange *m = NEW(w, size_range, NULL);
    if (m) {
        m->has_lower_bound = r->lo != 0;
        m->lower_bound = r->lo;
        m->has_upper_bound = r->hi != 0;
        m->upper_bound = r->hi;
    }
    return m;
}

static Coreml__ArrayType *build_array(const writer *w, const rq_coreml_feature *f)
{
    Coreml__ArrayType *m = NEW(w, array_type, NULL);
    if (!m)
        return NULL;
    m->n_shape = f->shape ? (size_t)f->rank : 0;
    m->shape = f->shape;
    m->has_data_type = true;
    m->data_type = f->dtype;
    if (f->listed) {
        Coreml__EnumeratedShapes *l = m->enumerated_shapes = NEW(w, enumerated_shapes, NULL);
        if (!l || !(l->shapes = list(w, f->n_listed)))
            return NULL;
        for (; l->n_shapes < (size_t)f->n_listed; l->n_shapes++) {
            Coreml__ArrayShape *s = l->shapes[l->n_shapes] = NEW(w, array_shape, NULL);
            if (!s)
                return NULL;
            s->n_shape = (size_t)f->rank;
            s->shape = f->listed[l->n_shapes];
        }
    } else if (f->range) {
        Coreml__ShapeRange *r = m->shape_range = NEW(w, shape_range, NULL);
        if (!r || !(r->size_ranges = list(w, f->rank)))
            return NULL;
        for (; r->n_size_ranges < (size_t)f->rank; r->n_size_ranges++)
            if (!(r->size_ranges[r->n_size_ranges] = build_range(w, &f->range[r->n_size_ranges])))
                return NULL;
    }
    return m;
}

static Coreml__ImageType *build_image(const writer *w, const rq_coreml_feature *f)
{
    Coreml__ImageType *m = NEW(w, image_type, NULL);
    if (!m)
        return NULL;
    m->has_height = m->has_width = m->has_color_space = true;
    m->height = f->shape[0];
    m->width = f->shape[1];
    m->color_space = f->color;
    if (f->listed) {
        Coreml__EnumeratedSizes *l = m->enumerated_sizes = NEW(w, enumerated_sizes, NULL);
        if (!l || !(l->sizes = list(w, f->n_listed)))
            return NULL;
        for (; l->n_sizes < (size_t)f->n_listed; l->n_sizes++) {
            Coreml__ImageSize *s = l->sizes[l->n_sizes] = NEW(w, image_size, NULL);
            if (!s)
                return NULL;
            s->has_height = s->has_width = true;
            s->height = (uint64_t)f->listed[l->n_sizes][0];
            s->width = (uint64_t)f->listed[l->n_sizes][1];
        }
    } else if (f->range) {
        Coreml__ImageSizeRange *r = m->image_size_range = NEW(w, image_size_range, NULL);
        if (!r || !(r->height_range = build_range(w, &f->range[0])) || !(r->width_range = build_range(w, &f->range[1])))
            return NULL;
    }
    return m;
}

static bool build_kind(const writer *w, Coreml__FeatureType *t, const rq_coreml_feature *f)
{
    switch (f->kind) {
    case RQ_COREML_ARRAY:
        return (t->multi_array_type = build_array(w, f)) != NULL;
    case RQ_COREML_IMAGE:
        return (t->image_type = build_image(w, f)) != NULL;
    case RQ_COREML_STATE:
        return (t->state_type = NEW(w, state_feature, NULL)) && (t->state_type->array_type = build_array(w, f));
    case RQ_COREML_INT64:
        return (t->int64_type = NEW(w, empty, NULL)) != NULL;
    case RQ_COREML_NUMBER:
        return (t->double_type = NEW(w, empty, NULL)) != NULL;
    case RQ_COREML_STRING:
        return (t->string_type = NEW(w, empty, NULL)) != NULL;
    case RQ_COREML_SEQUENCE:
        return (t->sequence_type = NEW(w, empty, NULL)) != NULL;
    default:
        if (!(t->dictionary_type = NEW(w, dictionary_feature, NULL)))
            return false;
        return (*(f->text_keys ? &t->dictionary_type->string_key : &t->dictionary_type->int64_key) =
                    NEW(w, empty, NULL)) != NULL;
    }
}

static Coreml__FeatureDescription *build_feature(const writer *w, const rq_coreml_feature *f)
{
    if (f->as_read)
        return (Coreml__FeatureDescription *)f->as_read;
    Coreml__FeatureDescription *m = NEW(w, feature_description, NULL);
    if (!m || !(m->type = NEW(w, feature_type, NULL)) || !build_kind(w, m->type, f))
        return NULL;
    m->type->has_is_optional = m->type->is_optional = f->optional;
    set_text(&m->has_name, &m->name, f->name);
    set_text(&m->has_short_description, &m->short_description, f->doc);
    return m;
}

static rq_status build_features(const writer *w, size_t *n, Coreml__FeatureDescription ***out,
                                const rq_coreml_features *f)
{
    *n = 0;
    if (!(*out = list(w, f->n)))
        return no_memory(w);
    for (; *n < (size_t)f->n; (*n)++)
        if (!((*out)[*n] = build_feature(w, &f->at[*n])))
            return no_memory(w);
    return RQ_OK;
}

static rq_status build_metadata(const writer *w, Coreml__Metadata **out, const rq_coreml *m)
{
    const char *const texts[] = { m->doc, m->version, m->author, m->license };
    bool any = *out || m->n_metadata;
    for (int i = 0; i < 4; i++)
        any = any || *texts[i];
    if (!any)
        return RQ_OK;
    Coreml__Metadata *d = *out = NEW(w, metadata, *out);
    if (!d || !(d->user_defined = list(w, m->n_metadata)))
        return no_memory(w);
    set_text(&d->has_short_description, &d->short_description, m->doc);
    set_text(&d->has_version_string, &d->version_string, m->version);
    set_text(&d->has_author, &d->author, m->author);
    set_text(&d->has_license, &d->license, m->license);
    for (d->n_user_defined = 0; d->n_user_defined < (size_t)m->n_metadata; d->n_user_defined++) {
        Coreml__StringEntry *e = d->user_defined[d->n_user_defined] = NEW(w, string_entry, NULL);
        if (!e)
            return no_memory(w);
        e->has_key = e->has_value = true;
        set_text(&e->has_key, &e->key, m->metadata[d->n_user_defined].key);
        set_text(&e->has_value, &e->value, m->metadata[d->n_user_defined].value);
    }
    return RQ_OK;
}

static rq_status build_one(const writer *w, Coreml__ModelDescription *d, const rq_coreml_interface *from)
{
    set_text(&d->has_predicted_feature_name, &d->predicted_feature_name, from->label);
    set_text(&d->has_predicted_probabilities_name, &d->predicted_probabilities_name, from->probabilities);
    RQ_TRY(build_features(w, &d->n_input, &d->input, &from->inputs));
    RQ_TRY(build_features(w, &d->n_output, &d->output, &from->outputs));
    return build_features(w, &d->n_state, &d->state, &from->states);
}

static rq_status build_function(const writer *w, Coreml__FunctionDescription **out, const rq_coreml_interface *from)
{
    Coreml__FunctionDescription *d = *out = NEW(w, function_description, *out);
    if (!d)
        return no_memory(w);
    set_text(&d->has_name, &d->name, from->name);
    set_text(&d->has_predicted_feature_name, &d->predicted_feature_name, from->label);
    set_text(&d->has_predicted_probabilities_name, &d->predicted_probabilities_name, from->probabilities);
    RQ_TRY(build_features(w, &d->n_input, &d->input, &from->inputs));
    RQ_TRY(build_features(w, &d->n_output, &d->output, &from->outputs));
    return build_features(w, &d->n_state, &d->state, &from->states);
}

/* The message a function's interface was read from. */
static const Coreml__FunctionDescription *read_as(const Coreml__ModelDescription *was, const char *name)
{
    const size_t n = strlen(name);
    for (size_t i = 0; was && i < was->n_functions; i++)
        if (was->functions[i]->name.len == n && (!n || !memcmp(was->functions[i]->name.data, name, n)))
            return was->functions[i];
    return NULL;
}

rq_status rq_coreml_build_description(void **out, const rq_coreml *m, rq_arena *a, rq_err *err)
{
    const writer self = { a, err }, *w = &self;
    const Coreml__ModelDescription *was = m->as_read ? ((const Coreml__Model *)m->as_read)->description : NULL;
    Coreml__ModelDescription *d = NEW(w, model_description, was);
    if (!d || !(d->functions = list(w, m->n_interfaces)))
        return no_memory(w);
    *out = d;
    RQ_TRY(build_metadata(w, &d->metadata, m));
    set_text(&d->has_default_function_name, &d->default_function_name, m->default_function);
    d->n_functions = 0;
    if (m->n_interfaces == 1 && !(was && was->n_functions) && !*m->default_function)
        return build_one(w, d, &m->interfaces[0]);
    for (; d->n_functions < (size_t)m->n_interfaces; d->n_functions++) {
        const rq_coreml_interface *from = &m->interfaces[d->n_functions];
        Coreml__FunctionDescription **to = &d->functions[d->n_functions];
        *to = (Coreml__FunctionDescription *)read_as(was, from->name);
        RQ_TRY(build_function(w, to, from));
    }
    return RQ_OK;
}
