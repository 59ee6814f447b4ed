/* formats/mil_graph.c — a program to the graph: inputs, then operations in order, each by its row, then outputs. After each
 * operation the types of what it gives are inferred and held against those that the program declares. */
#include "formats/mil_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "formats/model_input.h"
#include "graph/graph.h"
#include "ops/op.h"

enum { OPSET = 21 };

/* ---- types ---- */

/* What the program declares, as far as it is known; of a list: its items behind one another. */
static rq_status declared(const rq_mil_reader *r, const rq_mil_type *t, rq_dtype *d, rq_shape *shape)
{
    const bool is_list = t->kind == RQ_MIL_LIST;
    while (t->kind == RQ_MIL_STATE || t->kind == RQ_MIL_LIST)
        t = t->part[0];
    *shape = rq_shape_unknown();
    if (t->kind != RQ_MIL_TENSOR || t->rank + is_list > RQ_MAX_RANK)
        return rq_fail(r->err, RQ_UNSUPPORTED, "a value is no tensor, or has more than %d axes", RQ_MAX_RANK);
    *d = t->dtype->dtype;
    if (t->rank >= 0)
        shape->rank = (int)t->rank + is_list;
    if (is_list && shape->rank > 0)
        shape->dim[0] = RQ_DIM_UNKNOWN;
    for (int k = is_list; k < shape->rank; k++) {
        const rq_mil_dim *dim = &t->dim[k - is_list];
        if (dim->variadic)
            shape->rank = RQ_RANK_UNKNOWN;
        shape->dim[k] = dim->known ? (int64_t)dim->size : RQ_DIM_UNKNOWN;
    }
    return RQ_OK;
}

static rq_status contradiction(const rq_mil_reader *r, const rq_value *v, const rq_mil_type *type)
{
    char said[160], is[RQ_SHAPE_TEXT];
    return rq_fail(r->err, RQ_BAD_FILE, "'%.100s' is declared %s, but is of type %s and shape %s", v->name,
                   rq_mil_type_text(type, said, sizeof said), rq_dtype_name(v->dtype),
                   rq_shape_text(&v->shape, is, sizeof is));
}

/* Types and shapes of what the nodes give that were added since the last time. */
static rq_status settle_node(rq_mil_reader *r, rq_graph *g, rq_node *n)
{
    n->row = rq_op_find(n->domain, n->op);
    if (!n->row)
        return RQ_OK;
    rq_tensor *view = rq_mem_zalloc((size_t)n->n_in + 1, sizeof *view);
    const rq_tensor **in = rq_mem_zalloc((size_t)n->n_in + 1, sizeof *in);
    rq_dtype *d = rq_mem_zalloc((size_t)n->n_out + 1, sizeof *d);
    rq_shape *shape = rq_mem_zalloc((size_t)n->n_out + 1, sizeof *shape);
    rq_status st = view && in && d && shape ? RQ_OK : rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
    for (int i = 0; !st && i < n->n_in; i++) {
        if (n->in[i] == RQ_NONE)
            continue;
        const rq_value *v = &g->values[n->in[i]];
        view[i] = (rq_tensor) { .dtype = v->dtype, .shape = v->shape };
        in[i] = v->kind == RQ_VALUE_CONST ? &v->constant : &view[i];
    }
    if (!st)
        st = rq_ops_check_node(g, n, r->err);
    if (!st)
        st = rq_ops_infer_node(g, n, in, d, shape, r->err);
    for (int i = 0; !st && i < n->n_out; i++)
        if (n->out[i] != RQ_NONE) {
            g->values[n->out[i]].dtype = d[i];
            g->values[n->out[i]].shape = shape[i];
        }
    rq_mem_free(view);
    rq_mem_free(in);
    rq_mem_free(d);
    rq_mem_free(shape);
    return st;
}

static rq_status settle(rq_mil_reader *r)
{
    rq_mil_frame *f = r->frame;
    for (; f && f->n_settled < f->g->n_nodes; f->n_settled++)
        if (f->g->nodes[f->n_settled].op)
            RQ_TRY(settle_node(r, f->g, &f->g->nodes[f->n_settled]));
    return RQ_OK;
}

rq_status rq_mil_reader_info(rq_mil_reader *r, const char *value, rq_value_info *out)
{
    RQ_TRY(settle(r));
    RQ_TRY(rq_edit_value(r->g, value, out, r->err));
    const rq_value *v = &r->g->values[rq_graph_find(r->g, value)];
    if (v->kind == RQ_VALUE_CONST) {
        out->dtype = v->constant.dtype;
        out->shape = v->constant.shape;
    }
    return RQ_OK;
}

rq_status rq_mil_reader_declare(rq_mil_reader *r, const char *name, const rq_mil_type *type)
{
    rq_shape shape;
    rq_dtype d = RQ_DTYPE_NONE;
    RQ_TRY(settle(r));
    const rq_id id = rq_graph_find(r->g, name);
    RQ_TRY(declared(r, type, &d, &shape));
    if (id == RQ_NONE)
        return rq_fail(r->err, RQ_BAD_FILE, "'%.100s' is not given by this operator", name);
    rq_value *v = &r->g->values[id];
    if (v->dtype == RQ_DTYPE_NONE)
        v->dtype = d;
    if (v->dtype != d || (v->shape.rank >= 0 && shape.rank >= 0 && v->shape.rank != shape.rank))
        return contradiction(r, v, type);
    for (int i = 0; i < shape.rank && v->shape.rank >= 0; i++)
        if (v->shape.dim[i] >= 0 && shape.dim[i] >= 0 && v->shape.dim[i] != shape.dim[i])
            return contradiction(r, v, type);
    if (v->shape.rank < 0)
        v->shape = shape;
    for (int i = 0; i < shape.rank; i++)
        if (v->shape.dim[i] == RQ_DIM_UNKNOWN)
            v->shape.dim[i] = shape.dim[i];
    return RQ_OK;
}

/* ---- operations ---- */

/* One node of the inputs that the row lists. */
static rq_status read_plain(rq_mil_reader *r, const rq_mil_op *op, const rq_mil_row *row)
{
    const char *in[4];
    int n = 0;
    char param[32];
    for (const char *p = row->params; *p && n < 4;) {
        const size_t k = strcspn(p, ",");
        snprintf(param, sizeof param, "%.*s", (int)k, p);
        RQ_TRY(rq_mil_reader_input(r, op, param, &in[n]));
        if (!in[n++])
            return rq_fail(r->err, RQ_BAD_FILE, "'%s' is missing", param);
        p += k + (p[k] == ',');
    }
    return rq_mil_reader_node(r, op, row->onnx, in, n, NULL, NULL);
}

rq_status rq_mil_reader_op(rq_mil_reader *r, const rq_mil_op *op)
{
    const rq_mil_row *row = rq_mil_row_find(op->type);
    rq_status st = RQ_OK;
    if (!row)
        st = rq_fail(r->err, RQ_UNSUPPORTED, "the operator cannot be run");
    else if (!op->n_outputs && strcmp(op->type, "write_state") != 0)
        st = rq_fail(r->err, RQ_BAD_FILE, "it has no outputs, expected at least one");
    else
        st = row->read ? row->read(r, op) : read_plain(r, op, row);
    const bool is_classifier = !strcmp(op->type, "classify"); /* gives a label and a dictionary, which are no tensors */
    for (int i = 0; !st && !is_classifier && i < op->n_outputs; i++)
        st = rq_mil_reader_declare(r, op->outputs[i].name, op->outputs[i].type);
    return st ? rq_fail_in(r->err, st, "operation '%.100s' (%.60s)",
                           op->n_outputs ? op->outputs[0].name : rq_mil_op_name(op), op->type)
              : RQ_OK;
}

/* ---- blocks ---- */

void rq_mil_reader_move(rq_mil_reader *r, rq_mil_frame *f)
{
    r->frame = f;
    r->g = f->g;
    r->consts = &f->consts;
}

static rq_status push_frame(rq_mil_reader *r, rq_mil_frame *f, const rq_mil_block *b)
{
    RQ_TRY(rq_mil_constants_of(&f->consts, b, r->frame ? &r->frame->consts : NULL, &r->a, r->err));
    f->outer = r->frame;
    rq_mil_reader_move(r, f);
    return RQ_OK;
}

rq_status rq_mil_reader_enter(rq_mil_reader *r, rq_mil_frame *f, const rq_mil_block *b)
{
    *f = (rq_mil_frame) { 0 };
    if (rq_graph_create(&f->g))
        return rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
    f->g->outer = r->g;
    f->g->name = "block";
    const rq_status st = push_frame(r, f, b);
    if (st) {
        rq_graph_destroy(f->g);
        f->g = NULL;
    }
    return st;
}

rq_status rq_mil_reader_block_input(rq_mil_reader *r, const rq_mil_var *v)
{
    rq_shape shape;
    rq_dtype d = RQ_DTYPE_NONE;
    RQ_TRY(declared(r, v->type, &d, &shape));
    return rq_edit_add_input(r->g, v->name, d, &shape, r->err);
}

void rq_mil_reader_leave(rq_mil_reader *r)
{
    rq_mil_reader_move(r, r->frame->outer);
}

rq_status rq_mil_reader_ops(rq_mil_reader *r, const rq_mil_block *b)
{
    for (int i = 0; i < b->n_ops; i++)
        if (strcmp(b->ops[i]->type, "const") != 0 && !rq_mil_is_constexpr(b->ops[i]))
            RQ_TRY(rq_mil_reader_op(r, b->ops[i]));
    return RQ_OK;
}

rq_status rq_mil_reader_outputs(rq_mil_reader *r, const rq_mil_op *op, const char *const *name, int n)
{
    char what[48];
    int depth = 0; /* of a graph in a graph: names are not used again inside */
    for (const rq_mil_frame *f = r->frame; f; f = f->outer)
        depth++;
    for (int i = 0; i < n; i++) {
        const char *out = name[i];
        RQ_TRY(rq_mil_reader_value(r, out));
        const rq_id id = rq_graph_find(r->g, out);
        if (r->g->values[id].kind != RQ_VALUE_NODE || rq_graph_is_output(r->g, id)) {
            snprintf(what, sizeof what, "result_%d_%d", depth, i);
            const char *copy = rq_mil_reader_name(r, op, what);
            if (!copy)
                return rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
            RQ_TRY(rq_mil_reader_node(r, op, "Identity", &out, 1, copy, NULL));
            out = copy;
        }
        RQ_TRY(rq_edit_add_output(r->g, out, r->err));
    }
    return settle(r);
}

/* ---- the program ---- */

/* What is kept between calls is fed, zeros by default, and given back as "<state>.new". */
static rq_status read_state(rq_mil_reader *r, const char *name)
{
    rq_value *v = &r->g->values[rq_graph_find(r->g, name)];
    if (rq_shape_check(&v->shape) || !rq_shape_is_known(&v->shape))
        return rq_fail(r->err, RQ_UNSUPPORTED, "state '%.100s' has no fixed shape", name);
    if (rq_tensor_create(&v->constant, v->dtype, &v->shape, true))
        return rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
    r->states[r->n_states++] = (rq_mil_kept) { name, name };
    return RQ_OK;
}

static rq_status read_inputs(rq_mil_reader *r, const rq_mil_function *f)
{
    r->states = rq_arena_alloc(&r->a, (size_t)f->n_inputs + 1, sizeof *r->states);
    if (!r->states)
        return rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
    for (int i = 0; i < f->n_inputs; i++) {
        const rq_mil_type *t = f->inputs[i].type;
        rq_shape shape;
        rq_dtype d = RQ_DTYPE_NONE;
        rq_status st =
            t->kind == RQ_MIL_TENSOR || t->kind == RQ_MIL_STATE ? declared(r, t, &d, &shape) : RQ_UNSUPPORTED;
        if (st)
            return rq_fail(r->err, st, "input '%.100s' is no tensor, or has too many axes", f->inputs[i].name);
        RQ_TRY(rq_edit_add_input(r->g, f->inputs[i].name, d, &shape, r->err));
        if (t->kind == RQ_MIL_STATE)
            RQ_TRY(read_state(r, f->inputs[i].name));
    }
    return RQ_OK;
}

/* The label that a classifier gives beside its probabilities: no tensor. */
static bool is_label(const rq_mil_block *b, const char *name)
{
    bool yes = false;
    for (int i = 0; i < b->n_ops && !yes; i++)
        yes = !strcmp(b->ops[i]->type, "classify") && b->ops[i]->n_outputs > 0 &&
              !strcmp(b->ops[i]->outputs[0].name, name);
    return yes;
}

/* ---- what the description says ---- */

static rq_status note_images(rq_mil_reader *r, const rq_coreml_interface *about)
{
    for (int i = 0; i < about->inputs.n; i++) {
        const rq_coreml_feature *f = &about->inputs.at[i];
        const rq_image_channels channels = f->color == RQ_COREML_RGB   ? RQ_IMAGE_RGB
                                           : f->color == RQ_COREML_BGR ? RQ_IMAGE_BGR
                                                                       : RQ_IMAGE_GRAY;
        if (f->kind == RQ_COREML_IMAGE && f->rank == 2)
            RQ_TRY(rq_model_input_set_image(r->g, f->name, channels, f->shape[0], f->shape[1], r->err));
    }
    return RQ_OK;
}

static rq_status note_labels(rq_mil_reader *r, const rq_mil_block *block)
{
    for (int i = 0; i < block->n_ops; i++) {
        const rq_mil_op *op = block->ops[i];
        const rq_mil_value *v = !strcmp(op->type, "classify") ? rq_mil_reader_const(r, op, "classes") : NULL;
        rq_buf b = { 0 };
        if (!v || v->kind == RQ_MIL_PAIRS)
            continue;
        rq_buf_adds(&b, "[");
        for (uint64_t k = 0; k < v->n; k++) {
            rq_buf_adds(&b, k ? ", " : "");
            rq_coreml_label(&b, v, k);
        }
        rq_buf_adds(&b, "]");
        const rq_status st = b.failed ? rq_fail(r->err, RQ_NO_MEMORY, "not enough memory")
                                      : rq_model_input_set_labels(r->g, b.data, r->err);
        rq_buf_release(&b);
        RQ_TRY(st);
    }
    return RQ_OK;
}

static rq_status note_description(rq_mil_reader *r, const rq_mil_function *f)
{
    for (int i = 0; i < r->m->n_interfaces; i++) {
        const rq_coreml_interface *about = &r->m->interfaces[i];
        if (r->m->n_interfaces == 1 || !strcmp(about->name, f->name))
            RQ_TRY(note_images(r, about));
    }
    return note_labels(r, f->block);
}

static rq_status read_function(rq_mil_reader *r, const rq_mil_function *f, rq_mil_frame *frame)
{
    const rq_mil_block *b = f->block;
    RQ_TRY(push_frame(r, frame, b));
    RQ_TRY(rq_edit_set_opset(r->g, "", OPSET, r->err));
    RQ_TRY(read_inputs(r, f));
    RQ_TRY(rq_mil_reader_ops(r, b));
    for (int i = 0; i < b->n_outputs; i++) {
        if (is_label(b, b->outputs[i]))
            continue;
        RQ_TRY(rq_mil_reader_value(r, b->outputs[i]));
        if (rq_graph_is_output(r->g, rq_graph_find(r->g, b->outputs[i])))
            continue; /* coremltools lists a value twice that two of its outputs are */
        RQ_TRY(rq_edit_add_output(r->g, b->outputs[i], r->err));
    }
    for (int i = 0; i < r->n_states; i++) {
        const rq_mil_op state = { .type = "state",
                                  .outputs = &(rq_mil_var) { .name = r->states[i].name },
                                  .n_outputs = 1 };
        const char *in = r->states[i].value, *out = rq_mil_reader_name(r, &state, "new");
        if (!out)
            return rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
        RQ_TRY(rq_mil_reader_node(r, &state, "Identity", &in, 1, out, NULL));
        RQ_TRY(rq_edit_add_output(r->g, out, r->err));
    }
    return note_description(r, f);
}

rq_status rq_mil_graph(rq_graph **out, const rq_coreml *m, const char *name, rq_err *err)
{
    if (!name)
        name = *m->default_function ? m->default_function : m->program.functions[0]->name;
    const rq_mil_function *f = rq_mil_function_find(&m->program, name);
    *out = NULL;
    if (!f)
        return rq_fail(err, RQ_NOT_FOUND, "the program has no function '%.100s'", name);
    rq_mil_frame frame = { 0 };
    RQ_TRY(rq_graph_create(&frame.g));
    rq_mil_reader r = { .m = m, .err = err, .g = frame.g };
    const rq_status st = read_function(&r, f, &frame);
    rq_arena_release(&r.a);
    if (st)
        rq_graph_destroy(frame.g);
    else
        *out = frame.g;
    return st;
}
