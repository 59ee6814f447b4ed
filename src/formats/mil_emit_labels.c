/* formats/mil_emit_labels.c — a classifier: `classify` makes a label, and a dictionary from labels to probabilities, of one output of the
 * graph. The labels are the caller's, or those the graph came with (model_input.h), or those of a package it is to be like. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/mil_emit_priv.h"
#include "formats/model_input.h"
#include "graph/query.h"
#include "ops/op.h"

static rq_status out_of_memory(rq_mil_emitter *e)
{
    rq_fail(e->err, RQ_NO_MEMORY, "not enough memory to write the program");
    return rq_mil_emit_keep(e, RQ_NO_MEMORY);
}

/* ---- which ---- */

/* The classes of the package that this one is to be like, as a JSON list of texts or whole numbers. */
static rq_status like_labels(const rq_coreml *like, rq_buf *b)
{
    const rq_mil_function *f = like && like->program.n_functions ? like->program.functions[0] : NULL;
    for (int i = 0; f && i < f->block->n_ops; i++) {
        const rq_mil_op *op = f->block->ops[i];
        const rq_mil_arg *arg = strcmp(op->type, "classify") ? NULL : rq_mil_op_arg(op, "classes");
        const rq_mil_value *v = arg && arg->n == 1 ? arg->binding[0].value : NULL;
        if (!v || v->kind == RQ_MIL_PAIRS)
            continue;
        for (uint64_t k = 0; k < v->n; k++) {
            rq_buf_adds(b, k ? "," : "[");
            rq_coreml_label(b, v, k);
        }
        rq_buf_adds(b, v->n ? "]" : "");
    }
    return b->failed ? RQ_NO_MEMORY : RQ_OK;
}

static rq_status read_labels(rq_mil_emitter *e)
{
    rq_mil_emit_state *s = rq_mil_emit_state_of(e);
    rq_mil_labels *l = &s->labels;
    rq_buf b = { 0 };
    if (s->cfg->n_labels) {
        l->text = s->cfg->labels;
        l->n = s->cfg->n_labels;
        return RQ_OK;
    }
    rq_status st = rq_model_input_labels(e->g, NULL, &e->a, &l->text, &l->n, &l->whole);
    if (!st && !l->n)
        st = like_labels(s->cfg->like, &b);
    if (!st && b.data)
        st = rq_model_input_labels(e->g, b.data, &e->a, &l->text, &l->n, &l->whole);
    rq_buf_release(&b);
    return st ? out_of_memory(e) : RQ_OK;
}

/* The output whose elements are as many as the labels; -1: none, or several. */
static int labelled_output(const rq_mil_emitter *e, int n)
{
    int at = -1;
    for (int i = 0; i < e->g->n_outputs; i++) {
        const rq_value *v = &e->g->values[e->g->outputs[i]];
        if (v->shape.rank >= 0 && rq_shape_is_known(&v->shape) && rq_shape_count(&v->shape) == n &&
            rq_dtype_is_float(v->dtype))
            at = at == -1 ? i : -2;
    }
    return at < 0 ? -1 : at;
}

/* Names of the label and of the dictionary: as they were, when the graph came from a classifier. */
static rq_status name_labels(rq_mil_emitter *e)
{
    static const char probs[] = "_probs";
    rq_mil_labels *l = &rq_mil_emit_state_of(e)->labels;
    const rq_coreml *like = rq_mil_emit_state_of(e)->cfg->like;
    const char *output = e->g->values[e->g->outputs[l->at]].name, *label = "classLabel", *both = NULL;
    const size_t n = strlen(output), k = sizeof probs - 1;
    if (like && like->n_interfaces && *like->interfaces[0].label && *like->interfaces[0].probabilities) {
        label = like->interfaces[0].label;
        both = like->interfaces[0].probabilities;
    } else if (n > k && !strcmp(output + n - k, probs)) {
        both = output;
        label = rq_arena_strndup(&e->a, output, n - k);
    }
    l->label = label ? rq_mil_emit_name(e, label, "") : NULL;
    l->probabilities = !l->label ? NULL : both ? rq_mil_emit_name(e, both, "") : rq_mil_emit_name(e, l->label, probs);
    return l->probabilities ? RQ_OK : out_of_memory(e);
}

/* Is v what Softmax or Sigmoid gives, perhaps moved, or rounded and back? */
static bool is_probability(const rq_graph *g, rq_id v)
{
    while (v != RQ_NONE && g->values[v].kind == RQ_VALUE_NODE) {
        const rq_node *n = &g->nodes[g->values[v].producer];
        if (rq_node_is(n, "Softmax") || rq_node_is(n, "Sigmoid") || rq_node_is(n, "HardSigmoid"))
            return true;
        if (!rq_node_is(n, "Cast") && !rq_node_is(n, "QuantizeLinear") && !rq_node_is(n, "DequantizeLinear") &&
            !(n->row && n->row->flags & RQ_OP_MOVES))
            return false;
        v = rq_node_in(n, 0);
    }
    return false;
}

rq_status rq_mil_emit_find_labels(rq_mil_emitter *e)
{
    rq_mil_emit_state *s = rq_mil_emit_state_of(e);
    s->labels.at = -1;
    RQ_TRY(read_labels(e));
    if (!s->labels.n)
        return RQ_OK;
    s->labels.at = labelled_output(e, s->labels.n);
    if (s->labels.at >= 0) {
        const rq_id v = e->g->outputs[s->labels.at];
        if (!is_probability(e->g, v))
            rq_mil_note(
                s->notes,
                "output '%.120s' has the labels, but no Softmax or Sigmoid makes it: what the application gets as "
                "probabilities are its numbers as they are",
                e->g->values[v].name);
        return name_labels(e);
    }
    if (s->cfg->n_labels)
        return rq_mil_emit_keep(e, rq_fail(e->err, RQ_BAD_ARG,
                                           "there are %d labels, expected one for each element of one output",
                                           s->labels.n));
    rq_mil_note(s->notes, "the %d labels of the model are left out: no output, or more than one, has as many elements",
                s->labels.n);
    return RQ_OK;
}

/* ---- the operation ---- */

static rq_mil_type *make_type(rq_mil_emitter *e, rq_mil_kind kind, rq_mil_type *a, rq_mil_type *b, int n)
{
    rq_mil_type *t = rq_arena_alloc(&e->p->arena, 1, sizeof *t);
    rq_mil_type **part = rq_arena_alloc(&e->p->arena, 2, sizeof(rq_mil_type *));
    if (!t || !part || !a || (kind == RQ_MIL_DICTIONARY && !b))
        return NULL;
    part[0] = a;
    part[1] = b;
    *t = (rq_mil_type) {
        .kind = kind, .part = part, .n_parts = b ? 2 : 1, .length = { .known = true, .size = (uint64_t)n }
    };
    return t;
}

static rq_mil_value *make_label(rq_mil_emitter *e, rq_mil_type *type, const char *text)
{
    const int64_t number = rq_mil_emit_state_of(e)->labels.whole ? strtoll(text, NULL, 10) : 0;
    return rq_mil_emit_state_of(e)->labels.whole ? rq_mil_immediate(e->p, type, &number) : rq_mil_text(e->p, text);
}

static rq_status describe(rq_mil_emitter *e, const char *name, rq_coreml_kind kind)
{
    const rq_mil_labels *l = &rq_mil_emit_state_of(e)->labels;
    rq_coreml_feature *f = rq_coreml_add_feature(e->m, &e->m->interfaces[0].outputs, name);
    if (!f || !rq_mil_block_output(e->p, e->b, name))
        return out_of_memory(e);
    f->kind = kind;
    f->text_keys = kind == RQ_COREML_DICTIONARY && !l->whole;
    return RQ_OK;
}

rq_status rq_mil_emit_classify(rq_mil_emitter *e, const char *tensor)
{
    const rq_mil_labels *l = &rq_mil_emit_state_of(e)->labels;
    rq_mil_program *p = e->p;
    rq_coreml_interface *io = &e->m->interfaces[0];
    rq_mil_type *label = rq_mil_tensor_type(p, rq_mil_dtype_of_name(l->whole ? "int64" : "string"), 0, NULL);
    rq_mil_type *real = rq_mil_tensor_type(p, rq_mil_dtype_of_name("fp64"), 0, NULL);
    rq_mil_type *list = make_type(e, RQ_MIL_LIST, label, NULL, l->n),
                *dict = make_type(e, RQ_MIL_DICTIONARY, label, real, 0);
    rq_mil_value *classes = rq_arena_alloc(&p->arena, 1, sizeof *classes);
    rq_mil_value **values = rq_arena_alloc(&p->arena, (size_t)l->n, sizeof(rq_mil_value *));
    if (!list || !dict || !classes || !values)
        return out_of_memory(e);
    for (int k = 0; k < l->n; k++)
        if (!(values[k] = make_label(e, label, l->text[k])))
            return out_of_memory(e);
    *classes = (rq_mil_value) { .kind = RQ_MIL_VALUES, .type = list, .n = (uint64_t)l->n, .value = values };
    rq_mil_op *op = rq_mil_emit_named(e, "classify", l->label, label);
    if (!op || !rq_mil_op_output(p, op, l->probabilities, dict) || !rq_mil_op_bind_value(p, op, "classes", classes))
        return out_of_memory(e);
    RQ_TRY(rq_mil_emit_bind_name(e, op, "probabilities", tensor));
    io->label = rq_arena_strndup(&p->arena, l->label, strlen(l->label));
    io->probabilities = rq_arena_strndup(&p->arena, l->probabilities, strlen(l->probabilities));
    if (!io->label || !io->probabilities) {
        io->label = io->probabilities = "";
        return out_of_memory(e);
    }
    RQ_TRY(describe(e, l->label, l->whole ? RQ_COREML_INT64 : RQ_COREML_STRING));
    return describe(e, l->probabilities, RQ_COREML_DICTIONARY);
}
