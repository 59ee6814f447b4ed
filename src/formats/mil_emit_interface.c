/* formats/mil_emit_interface.c — what a program takes and gives, in the function and in the description: types that Core ML hands over
 * (casts behind inputs and before outputs), images with scale and bias, shapes that may vary. Labels: mil_emit_labels.c. */
#include <stdio.h>
#include <string.h>

#include "formats/mil_emit_priv.h"
#include "formats/model_input.h"
#include "graph/query.h"

static rq_status out_of_memory(rq_mil_emitter *e)
{
    rq_fail(e->err, RQ_NO_MEMORY, "not enough memory to write the program");
    return rq_mil_emit_keep(e, RQ_NO_MEMORY);
}

/* ---- types ---- */

/* The type in which the application hands over, or gets, a value of type d. */
static const rq_mil_dtype *io_dtype(const rq_mil_emitter *e, rq_dtype d)
{
    if (d == RQ_DTYPE_F16 && e->target >= RQ_COREML_IOS16)
        return rq_mil_dtype_of_name("fp16");
    if (d == RQ_DTYPE_S8 && e->target >= RQ_COREML_IOS26)
        return rq_mil_dtype_of_name("int8");
    return rq_mil_dtype_of_name(rq_dtype_is_integer(d) ? "int32" : "fp32");
}

static int32_t array_dtype(const rq_mil_dtype *d)
{
    switch (d->dtype) {
    case RQ_DTYPE_F16:
        return RQ_COREML_FLOAT16;
    case RQ_DTYPE_S8:
        return RQ_COREML_INT8;
    case RQ_DTYPE_S32:
        return RQ_COREML_INT32;
    default:
        return RQ_COREML_FLOAT32;
    }
}

/* cast(x) -> name; of type d and the sizes of v. */
static rq_status cast(rq_mil_emitter *e, const char *x, const char *name, const rq_mil_dtype *d, const rq_shape *shape)
{
    rq_mil_op *op = rq_mil_emit_named(e, "cast", name, rq_mil_emit_type(e, d, shape));
    rq_mil_emit_bind_name(e, op, "x", x);
    return rq_mil_emit_text(e, op, "dtype", d->name);
}

/* ---- shapes in the description ---- */

static bool may_vary(const rq_mil_input *in, int rank)
{
    bool any = false;
    for (int k = 0; k < rank; k++)
        any = any || in->axis[k].lo != in->axis[k].hi;
    return any;
}

/* Axes from..from+n-1 of an input, as the feature has them. */
static rq_status describe_shape(rq_mil_emitter *e, rq_coreml_feature *f, const rq_mil_input *in, int rank, int from)
{
    rq_arena *a = &e->p->arena;
    const rq_coreml_input *cfg = in->cfg;
    const int n = f->rank = rank - from;
    const bool listed = cfg && cfg->n_listed > 1;
    f->shape = rq_arena_alloc(a, (size_t)n + 1, sizeof *f->shape);
    if (!f->shape)
        return out_of_memory(e);
    for (int k = 0; k < n; k++)
        f->shape[k] = listed ? cfg->listed[from + k] : in->axis[from + k].lo;
    if (listed) {
        f->listed = rq_arena_alloc(a, (size_t)cfg->n_listed, sizeof *f->listed);
        for (int i = 0; f->listed && i < cfg->n_listed; i++) {
            if (!(f->listed[i] = rq_arena_alloc(a, (size_t)n + 1, sizeof **f->listed)))
                return out_of_memory(e);
            memcpy(f->listed[i], cfg->listed + (size_t)i * (size_t)rank + from, (size_t)n * sizeof **f->listed);
            f->n_listed = i + 1;
        }
        return f->listed ? RQ_OK : out_of_memory(e);
    }
    if (!may_vary(in, rank))
        return RQ_OK;
    if (!(f->range = rq_arena_alloc(a, (size_t)n + 1, sizeof *f->range)))
        return out_of_memory(e);
    for (int k = 0; k < n; k++)
        f->range[k] = (rq_coreml_range) { (uint64_t)in->axis[from + k].lo, in->axis[from + k].hi };
    return RQ_OK;
}

/* ---- images ---- */

static const rq_coreml_feature *feature_of(const rq_coreml_features *list, const char *name)
{
    for (int i = 0; i < list->n; i++)
        if (!strcmp(list->at[i].name, name))
            return &list->at[i];
    return NULL;
}

static const rq_coreml_feature *like_input(const rq_mil_emitter *e, const char *name)
{
    const rq_coreml *like = rq_mil_emit_state_of(e)->cfg->like;
    return like && like->n_interfaces ? feature_of(&like->interfaces[0].inputs, name) : NULL;
}

/* The color space of input i; 0: an array. */
static int color_of(const rq_mil_emitter *e, int i)
{
    const rq_coreml_input *cfg = rq_mil_emit_state_of(e)->ready->input[i].cfg;
    const char *name = e->g->values[e->g->inputs[i]].name;
    const rq_coreml_feature *like = like_input(e, name);
    rq_preprocess as;
    if (cfg && cfg->color)
        return cfg->color;
    if (rq_model_input_image(e->g, name, &as))
        return as.channels == RQ_IMAGE_RGB   ? RQ_COREML_RGB
               : as.channels == RQ_IMAGE_BGR ? RQ_COREML_BGR
                                             : RQ_COREML_GRAYSCALE;
    return like && like->kind == RQ_COREML_IMAGE ? like->color : 0;
}

static rq_status check_image(rq_mil_emitter *e, const rq_value *v, int color, bool *last)
{
    char text[RQ_SHAPE_TEXT];
    const bool gray = color == RQ_COREML_GRAYSCALE || color == RQ_COREML_GRAYSCALE_FLOAT16;
    const int64_t c = gray ? 1 : 3;
    const rq_shape *s = &v->shape;
    if (!gray && color != RQ_COREML_RGB && color != RQ_COREML_BGR)
        return rq_mil_emit_keep(
            e, rq_fail(e->err, RQ_BAD_ARG, "input '%.120s': there is no color space %d", v->name, color));
    if (color == RQ_COREML_GRAYSCALE_FLOAT16 && e->target < RQ_COREML_IOS16) {
        snprintf(text, sizeof text, "input '%.80s': an image of fp16", v->name);
        return rq_mil_emit_refuse_text(e, RQ_COREML_IOS16, text);
    }
    *last = s->rank == 4 && s->dim[1] != c && s->dim[3] == c;
    if (s->rank != 4 || s->dim[0] != 1 || s->dim[*last ? 3 : 1] != c)
        return rq_mil_emit_keep(
            e, rq_fail(e->err, RQ_BAD_SHAPE, "input '%.120s' %s cannot be an image in %s; expected [1,%d,height,width]",
                       v->name, rq_shape_text(s, text, sizeof text), gray ? "gray" : "colors", (int)c));
    return RQ_OK;
}

/* type(x, y) -> `name`, both floats of d; the name. */
static const char *adjust(rq_mil_emitter *e, const char *type, const char *x, const rq_tensor *y, const char *name,
                          const rq_mil_dtype *d, const rq_shape *shape)
{
    rq_mil_op *op = rq_mil_emit_named(e, type, name, rq_mil_emit_type(e, d, shape));
    rq_mil_emit_bind_name(e, op, "x", x);
    rq_mil_emit_bind_value(e, op, "y", rq_mil_emit_make(e, y, d, NULL, name ? name : ""));
    return name;
}

/* scale * pixel + bias, where they are not 1 and 0. */
static const char *prepare_pixels(rq_mil_emitter *e, const rq_coreml_input *cfg, const char *x, const char *base,
                                  bool gray, const rq_mil_dtype *d, const rq_shape *shape)
{
    const rq_shape one = rq_shape_of(0, NULL), three = rq_shape_of(4, (int64_t[]) { 1, 3, 1, 1 });
    if (cfg && cfg->scale != 0 && cfg->scale != 1) {
        float scale = cfg->scale;
        const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &one, &scale);
        x = adjust(e, "mul", x, &t, rq_mil_emit_name(e, base, "__scaled__"), d, shape);
    }
    if (cfg && cfg->bias && (cfg->bias[0] != 0 || (!gray && (cfg->bias[1] != 0 || cfg->bias[2] != 0)))) {
        float bias[3];
        memcpy(bias, cfg->bias, gray ? sizeof *bias : sizeof bias);
        const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, gray ? &one : &three, bias);
        x = adjust(e, "add", x, &t, rq_mil_emit_name(e, base, "__biased__"), d, shape);
    }
    return x;
}

/* An image input: as Core ML hands it over [1,C,H,W], scaled, and turned where the graph wants [1,H,W,C]. */
static rq_status add_image(rq_mil_emitter *e, int i, int color, const char *name, rq_coreml_feature *f,
                           const rq_mil_dtype **d)
{
    const rq_mil_input *in = &rq_mil_emit_state_of(e)->ready->input[i];
    const rq_id v = e->g->inputs[i];
    rq_shape s = e->g->values[v].shape;
    rq_mil_input turned = *in;
    bool last = false;
    RQ_TRY(check_image(e, &e->g->values[v], color, &last));
    if (last && in->cfg && in->cfg->n_listed > 1)
        return rq_mil_emit_refuse_text(e, 0, "an image whose channels are the last axis and whose shapes are listed");
    if (last)
        for (int k = 1; k < 4; k++) {
            s.dim[k] = e->g->values[v].shape.dim[k == 1 ? 3 : k - 1];
            turned.axis[k] = in->axis[k == 1 ? 3 : k - 1];
        }
    *d = rq_mil_dtype_of_name(color == RQ_COREML_GRAYSCALE_FLOAT16 ? "fp16" : "fp32");
    rq_mil_type *t = rq_mil_emit_type(e, *d, &s);
    f->kind = RQ_COREML_IMAGE;
    f->color = color;
    RQ_TRY(describe_shape(e, f, &turned, 4, 2));
    if (!t || !rq_mil_function_input(e->p, rq_mil_emit_state_of(e)->f, name, t))
        return out_of_memory(e);
    e->name[v] = prepare_pixels(e, in->cfg, name, name,
                                color == RQ_COREML_GRAYSCALE || color == RQ_COREML_GRAYSCALE_FLOAT16, *d, &s);
    if (last) {
        const char *was = e->name[v];
        e->name[v] = rq_mil_emit_name(e, name, "_transposed");
        rq_mil_op *op = rq_mil_emit_named(e, "transpose", e->name[v], rq_mil_emit_type(e, *d, &e->g->values[v].shape));
        rq_mil_emit_bind_name(e, op, "x", was);
        rq_mil_emit_ints(e, op, "perm", (int64_t[]) { 0, 2, 3, 1 }, 4);
    }
    return rq_mil_emit_state_of(e)->st;
}

/* ---- inputs ---- */

/* A single number is an array of one for who calls: Core ML describes no input without axes. */
static rq_status add_number(rq_mil_emitter *e, rq_id v, const char *name, const rq_mil_dtype *d)
{
    const rq_shape one = rq_shape_of(1, (int64_t[]) { 1 }), none = rq_shape_of(0, NULL);
    rq_mil_type *t = rq_mil_emit_type(e, d, &one), *number = rq_mil_emit_type(e, d, &none);
    if (!t || !number || !rq_mil_function_input(e->p, rq_mil_emit_state_of(e)->f, name, t))
        return out_of_memory(e);
    e->name[v] = rq_mil_emit_name(e, name, "_number");
    rq_mil_op *op = rq_mil_emit_named(e, "squeeze", e->name[v], number);
    rq_mil_emit_bind_name(e, op, "x", name);
    return rq_mil_emit_ints(e, op, "axes", (int64_t[]) { 0 }, 1);
}

static rq_status add_array(rq_mil_emitter *e, int i, const char *name, rq_coreml_feature *f, const rq_mil_dtype **d)
{
    const rq_id v = e->g->inputs[i];
    const rq_value *x = &e->g->values[v];
    *d = io_dtype(e, x->dtype);
    rq_mil_type *t = rq_mil_emit_type(e, *d, &x->shape);
    f->dtype = array_dtype(*d);
    RQ_TRY(describe_shape(e, f, &rq_mil_emit_state_of(e)->ready->input[i], x->shape.rank, 0));
    if (!x->shape.rank) {
        f->shape[0] = 1;
        f->rank = 1;
        return add_number(e, v, name, *d);
    }
    if (!t || !rq_mil_function_input(e->p, rq_mil_emit_state_of(e)->f, name, t))
        return out_of_memory(e);
    e->name[v] = name;
    return RQ_OK;
}

/* Below iOS 18 one input may have shapes from a list. */
static rq_status check_listed(rq_mil_emitter *e)
{
    int n = 0;
    for (int i = 0; i < e->g->n_inputs; i++) {
        const rq_coreml_input *cfg = rq_mil_emit_state_of(e)->ready->input[i].cfg;
        n += cfg && cfg->n_listed > 1;
    }
    return n > 1 && e->target < RQ_COREML_IOS18
               ? rq_mil_emit_refuse_text(e, RQ_COREML_IOS18, "more than one input whose shapes are listed")
               : RQ_OK;
}

rq_status rq_mil_emit_inputs(rq_mil_emitter *e)
{
    rq_mil_emit_state *s = rq_mil_emit_state_of(e);
    rq_coreml_interface *io = &e->m->interfaces[0];
    RQ_TRY(check_listed(e));
    for (int i = 0; i < e->g->n_inputs; i++) {
        const rq_id v = e->g->inputs[i];
        const rq_value *x = &e->g->values[v];
        const char *name = e->name[v];
        const rq_mil_dtype *d, *want = rq_mil_emit_dtype(e, v);
        const int color = color_of(e, i);
        const rq_coreml_feature *like = like_input(e, x->name);
        rq_coreml_feature *f = rq_coreml_add_feature(e->m, &io->inputs, name);
        if (!want)
            return rq_mil_emit_keep(e, rq_fail(e->err, RQ_UNSUPPORTED,
                                               "input '%.120s' is of type %s, which Core ML has not", x->name,
                                               rq_dtype_name(x->dtype)));
        if (!f || (like && !(f->doc = rq_arena_strndup(&e->p->arena, like->doc, strlen(like->doc)))))
            return out_of_memory(e);
        RQ_TRY(color ? add_image(e, i, color, name, f, &d) : add_array(e, i, name, f, &d));
        if (x->dtype == RQ_DTYPE_F16 && !color && d->dtype != RQ_DTYPE_F16)
            rq_mil_note(s->notes, "input '%.120s' is fp32 in the package: Core ML takes fp16 from iOS 16 on", x->name);
        if (d == want)
            continue;
        char suffix[32];
        snprintf(suffix, sizeof suffix, "_to_%s", want->name);
        if (want->bits == 8 && want->dtype != RQ_DTYPE_BOOL && e->target < RQ_COREML_IOS17)
            return rq_mil_emit_refuse_text(e, RQ_COREML_IOS17, "an input of codes");
        const char *was = e->name[v];
        e->name[v] = rq_mil_emit_name(e, name, suffix);
        RQ_TRY(cast(e, was, e->name[v], want, &x->shape));
    }
    return s->st;
}

/* ---- outputs ---- */

/* Is output i the first with its value, and one that an operation gives? */
static bool is_own(const rq_graph *g, int i)
{
    bool own = g->values[g->outputs[i]].kind == RQ_VALUE_NODE;
    for (int k = 0; k < i; k++)
        own = own && g->outputs[k] != g->outputs[i];
    return own;
}

/* What a copy that gives output v copies, where nothing else reads that: it can have the output's name. */
static rq_id copied(const rq_mil_emitter *e, rq_id v)
{
    const rq_graph *g = e->g;
    const rq_node *n = &g->nodes[g->values[v].producer];
    if (!rq_mil_emit_is_copy(e, n) || g->values[n->in[0]].kind != RQ_VALUE_NODE ||
        rq_graph_uses(g, n->in[0], NULL, 0) != 1 || rq_mil_emit_dtype(e, n->in[0]) != rq_mil_emit_dtype(e, v))
        return RQ_NONE;
    return n->in[0];
}

static const char *reserve(rq_mil_emitter *e, const char *kind, const char *name)
{
    const char *legal = rq_mil_emit_name(e, name, "");
    if (legal && strcmp(legal, name) != 0)
        rq_mil_note(rq_mil_emit_state_of(e)->notes,
                    "%s '%.120s' is called '%.120s' in the package: Core ML does not take that name, or it is taken",
                    kind, name, legal);
    return legal;
}

rq_status rq_mil_emit_reserve(rq_mil_emitter *e)
{
    rq_mil_emit_state *s = rq_mil_emit_state_of(e);
    const rq_graph *g = e->g;
    char suffix[48];
    s->output = rq_arena_alloc(&e->a, (size_t)g->n_outputs + 1, sizeof *s->output);
    if (!s->output)
        return out_of_memory(e);
    RQ_TRY(rq_mil_emit_find_labels(e));
    for (int i = 0; i < g->n_inputs; i++)
        if (!(e->name[g->inputs[i]] = reserve(e, "input", g->values[g->inputs[i]].name)))
            return s->st;
    for (int i = 0; i < g->n_outputs; i++) { /* before others become like them */
        const char *name = g->values[g->outputs[i]].name;
        if (i != s->labels.at && rq_mil_emit_legal(name) && !(s->output[i] = reserve(e, "output", name)))
            return s->st;
    }
    for (int i = 0; i < g->n_outputs; i++) {
        const rq_value *v = &g->values[g->outputs[i]];
        const rq_mil_dtype *io = io_dtype(e, v->dtype), *is = rq_mil_emit_dtype(e, g->outputs[i]);
        if (!is)
            return rq_mil_emit_keep(e, rq_fail(e->err, RQ_UNSUPPORTED,
                                               "output '%.120s' is of type %s, which Core ML has not", v->name,
                                               rq_dtype_name(v->dtype)));
        /* what the labels belong to is no output itself */
        if (!s->output[i])
            s->output[i] = i == s->labels.at ? rq_mil_emit_name(e, v->name, "") : reserve(e, "output", v->name);
        if (!s->output[i])
            return s->st;
        if (!is_own(g, i))
            continue;
        snprintf(suffix, sizeof suffix, "__pre__output__%s__cast", io->name);
        const char *name = io == is ? s->output[i] : rq_mil_emit_name(e, s->output[i], suffix);
        e->name[g->outputs[i]] = name;
        const rq_id from = copied(e, g->outputs[i]);
        if (from != RQ_NONE)
            e->name[from] = name;
    }
    return s->st;
}

static rq_status describe_output(rq_mil_emitter *e, const char *name, const rq_shape *shape, const rq_mil_dtype *d)
{
    const rq_coreml *like = rq_mil_emit_state_of(e)->cfg->like;
    rq_coreml_interface *io = &e->m->interfaces[0];
    rq_coreml_feature *f = rq_coreml_add_feature(e->m, &io->outputs, name);
    const rq_coreml_feature *was = like && like->n_interfaces ? feature_of(&like->interfaces[0].outputs, name) : NULL;
    if (!f || (was && !(f->doc = rq_arena_strndup(&e->p->arena, was->doc, strlen(was->doc)))))
        return out_of_memory(e);
    f->dtype = array_dtype(d);
    if (shape->rank <= 0 || !rq_shape_is_known(shape))
        return RQ_OK;
    f->rank = shape->rank;
    if (!(f->shape = rq_arena_alloc(&e->p->arena, (size_t)shape->rank, sizeof *f->shape)))
        return out_of_memory(e);
    memcpy(f->shape, shape->dim, (size_t)shape->rank * sizeof *f->shape);
    return RQ_OK;
}

static rq_status add_output(rq_mil_emitter *e, int i)
{
    rq_mil_emit_state *s = rq_mil_emit_state_of(e);
    const rq_id v = e->g->outputs[i];
    const rq_value *x = &e->g->values[v];
    const rq_mil_dtype *io = io_dtype(e, x->dtype), *is = rq_mil_emit_dtype(e, v);
    const char *name = rq_mil_emit_value(e, v);
    if (!name)
        return s->st;
    if (io != is) {
        if (is->bits == 8 && is->dtype != RQ_DTYPE_BOOL && e->target < RQ_COREML_IOS17)
            return rq_mil_emit_refuse_text(e, RQ_COREML_IOS17, "an output of codes");
        RQ_TRY(cast(e, name, s->output[i], io, &x->shape));
    } else if (!is_own(e->g, i)) {
        rq_mil_op *op = rq_mil_emit_named(e, "identity", s->output[i], rq_mil_emit_type(e, is, &x->shape));
        RQ_TRY(rq_mil_emit_bind_name(e, op, "x", name));
    }
    return s->st;
}

/* ---- all of them ---- */

rq_status rq_mil_emit_outputs(rq_mil_emitter *e)
{
    rq_mil_emit_state *s = rq_mil_emit_state_of(e);
    for (int i = 0; i < e->g->n_outputs; i++)
        RQ_TRY(add_output(e, i));
    if (s->labels.at >= 0)
        RQ_TRY(rq_mil_emit_classify(e, s->output[s->labels.at]));
    for (int i = 0; i < e->g->n_outputs; i++) {
        const rq_value *v = &e->g->values[e->g->outputs[i]];
        if (i == s->labels.at)
            continue;
        RQ_TRY(describe_output(e, s->output[i], &v->shape, io_dtype(e, v->dtype)));
        if (!rq_mil_block_output(e->p, e->b, s->output[i]))
            return out_of_memory(e);
    }
    return rq_mil_emit_flush(e);
}
