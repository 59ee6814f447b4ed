/* formats/mil_emit_model.c — rq_coreml_from_graph: the graph is made ready once, then written for one target after another, the lowest
 * first, until one can express it. */
#include <stdio.h>
#include <string.h>

#include "formats/format.h"
#include "formats/mil_emit_priv.h"
#include "formats/model_input.h"
#include "graph/query.h"
#include "requant/ops.h"

static const rq_mil_emit_row *const tables[] = { rq_mil_emit_quant,    rq_mil_emit_weights,     rq_mil_emit_linear,
                                                 rq_mil_emit_elements, rq_mil_emit_activations, rq_mil_emit_shapes,
                                                 rq_mil_emit_slices,   rq_mil_emit_reduce,      rq_mil_emit_recurrent,
                                                 rq_mil_emit_pools,    rq_mil_emit_norms,       rq_mil_emit_gather,
                                                 rq_mil_emit_resize,   rq_mil_emit_einsum,      rq_mil_emit_attention };

static const rq_mil_emit_row *row_named(const char *domain, const char *op)
{
    domain = strcmp(domain, "ai.onnx") != 0 ? domain : "";
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        for (const rq_mil_emit_row *r = tables[i]; r->op; r++)
            if (!strcmp(r->op, op) && !strcmp(r->domain ? r->domain : "", domain))
                return r;
    return NULL;
}

static const rq_mil_emit_row *row_of(const rq_node *n)
{
    return row_named(n->domain, n->op);
}

rq_coreml_target rq_coreml_writes(const char *domain, const char *name)
{
    const rq_mil_emit_row *row = row_named(domain, name);
    if (!row || row->form < 0)
        return RQ_COREML_LOWEST;
    if (row->form)
        return (rq_coreml_target)row->form;
    return row->since > RQ_COREML_MIN_SPEC ? (rq_coreml_target)row->since : RQ_COREML_IOS15;
}

/* One operation, its parameters from the node's inputs. */
static rq_status emit_plain(rq_mil_emitter *e, const rq_node *n, const rq_mil_emit_row *row)
{
    char param[32];
    int i = 0;
    rq_mil_op *op = rq_mil_emit_op(e, row->mil, n->out[0]);
    for (const char *p = row->params; *p; i++) {
        const size_t k = strcspn(p, ",");
        snprintf(param, sizeof param, "%.*s", (int)k, p);
        if (rq_node_in(n, i) != RQ_NONE)
            rq_mil_emit_bind(e, op, param, n->in[i]);
        p += k + (p[k] == ',');
    }
    return rq_mil_emit_state_of(e)->st;
}

static rq_status emit_node(rq_mil_emitter *e, const rq_node *n)
{
    const rq_mil_emit_row *row = row_of(n);
    if (rq_mil_emit_is_copy(e, n)) {
        rq_mil_emit_keep(e, rq_mil_emit_alias(e, n->out[0], n->in[0]));
        return rq_mil_emit_flush(e);
    }
    if (!row || !n->n_out)
        return rq_mil_emit_refuse(e, n, 0, "the operator");
    if (row->since > e->target)
        return rq_mil_emit_refuse(e, n, row->since, "the operator");
    const rq_status st = row->emit ? row->emit(e, n) : emit_plain(e, n, row);
    rq_mil_emit_keep(e, st);
    return rq_mil_emit_flush(e);
}

static rq_status out_of_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory to write the program");
}

/* ---- metadata ---- */

static rq_status take_metadata(rq_coreml *m, const rq_mil_ready *r, const rq_coreml *like, rq_err *err)
{
    const char **const to[] = { &m->doc, &m->version, &m->author, &m->license };
    const char *const from[] = { like ? like->doc : r->g->doc, like ? like->version : NULL, like ? like->author : NULL,
                                 like ? like->license : NULL };
    for (size_t i = 0; i < 4; i++)
        if (from[i] && !(*to[i] = rq_arena_strndup(&m->program.arena, from[i], strlen(from[i]))))
            return out_of_memory(err);
    for (int i = 0; like && i < like->n_metadata; i++)
        if (!rq_coreml_set_metadata(m, like->metadata[i].key, like->metadata[i].value))
            return out_of_memory(err);
    for (int i = 0; i < r->g->n_meta; i++)
        if (!rq_model_input_owns(r->g->meta[i].key) && /* a description has places of its own for them */
            !rq_coreml_set_metadata(m, r->g->meta[i].key, r->g->meta[i].value))
            return out_of_memory(err);
    const char *producer = r->g->producer ? r->g->producer : "",
               *version = r->g->producer_version ? r->g->producer_version : "";
    char source[200];
    snprintf(source, sizeof source, "%.80s%s%.80s", producer, *producer && *version ? " " : "", version);
    if (*producer && !rq_coreml_set_metadata(m, "requant.source", source))
        return out_of_memory(err);
    return rq_coreml_set_metadata(m, "requant.version", rq_version()) ? RQ_OK : out_of_memory(err);
}

/* ---- one target ---- */

/* What a target could not express. */
typedef struct refusal {
    int32_t wants; /* the lowest that can; 0: none, or it failed otherwise */
    char what[400];
} refusal;

static rq_status write_for(rq_coreml **out, const rq_mil_ready *r, const rq_coreml_cfg *cfg, int32_t target,
                           rq_buf *notes, refusal *no, rq_err *err)
{
    char opset[24];
    rq_mil_emit_state s = { .ready = r, .cfg = cfg, .notes = notes };
    rq_mil_emitter e = { .g = r->g, .target = target, .priv = &s, .err = err };
    e.half = cfg->compute == RQ_COREML_COMPUTE_KEEP ? r->half : cfg->compute == RQ_COREML_COMPUTE_F16;
    snprintf(opset, sizeof opset, "CoreML%d", (int)target - 1);
    rq_status st = rq_coreml_create(&e.m, target, err);
    if (st)
        return st;
    e.p = &e.m->program;
    e.name = rq_arena_alloc(&e.a, (size_t)r->g->n_values + 1, sizeof *e.name);
    s.f = rq_mil_function_make(e.p, "main", opset);
    if (!e.name || !s.f || !rq_coreml_add_interface(e.m, "main"))
        st = out_of_memory(err);
    if (!st) {
        e.b = s.f->block;
        st = rq_mil_emit_reserve(&e);
    }
    if (!st)
        st = rq_mil_emit_inputs(&e);
    for (int i = 0; !st && i < r->n_order; i++)
        st = emit_node(&e, &r->g->nodes[r->order[i]]);
    if (!st)
        st = rq_mil_emit_outputs(&e);
    if (!st)
        st = take_metadata(e.m, r, cfg->like, err);
    if (!st)
        st = rq_mil_check(e.p, err);
    rq_arena_release(&e.a);
    no->wants = st == RQ_UNSUPPORTED ? s.wants : 0;
    memcpy(no->what, s.refused, sizeof no->what);
    if (st)
        rq_coreml_close(e.m);
    else
        *out = e.m;
    return st;
}

/* The target that was asked for, or the lowest that can. One that cannot is refused with the one that can express all of the model. */
static rq_status write_lowest(rq_coreml **out, const rq_mil_ready *r, const rq_coreml_cfg *cfg, rq_buf *notes,
                              rq_err *err)
{
    const int32_t asked = (int32_t)cfg->target;
    int32_t target = asked ? asked : RQ_COREML_MIN_SPEC;
    refusal first = { 0 }, no = { 0 };
    rq_status st = write_for(out, r, cfg, target, notes, &no, err);
    first = no;
    while (st == RQ_UNSUPPORTED && no.wants > target) {
        target = no.wants;
        rq_buf_release(notes);
        st = write_for(out, r, cfg, target, notes, &no, err);
    }
    if (st || !asked || target == asked)
        return st;
    rq_coreml_close(*out);
    *out = NULL;
    return rq_mil_refuse(err, asked, target, first.what);
}

rq_status rq_coreml_from_graph(rq_coreml **out, const rq_graph *g, const rq_coreml_cfg *cfg, char **notes, rq_err *err)
{
    static const rq_coreml_cfg usual = { 0 };
    rq_mil_ready r;
    rq_buf said = { 0 };
    rq_coreml *m = NULL;
    *out = NULL;
    if (notes)
        *notes = NULL;
    cfg = cfg ? cfg : &usual;
    const int target = (int)cfg->target;
    if (target && (target < RQ_COREML_MIN_SPEC || target > RQ_COREML_MAX_SPEC))
        return rq_fail(err, RQ_BAD_ARG, "there is no target with specification %d; expected 6 to 10", target);
    rq_status st = rq_mil_ready_make(&r, g, cfg, err);
    if (!st)
        st = write_lowest(&m, &r, cfg, &said, err);
    if (!st && notes) {
        rq_buf_adds(&r.notes, said.data ? said.data : "");
        if (r.notes.failed || said.failed || !(*notes = rq_mem_strdup(r.notes.data ? r.notes.data : "")))
            st = out_of_memory(err);
    }
    if (st)
        rq_coreml_close(m);
    else
        *out = m;
    rq_buf_release(&said);
    rq_mil_ready_release(&r);
    return st;
}

/* ---- the row ---- */

static bool sniff(const uint8_t *p, size_t n)
{
    (void)p;
    (void)n;
    return false; /* a folder: rq_load knows it by that */
}

static rq_status write_package(const rq_graph *g, const char *path, const rq_save_cfg *cfg, rq_err *err)
{
    rq_coreml *m;
    (void)cfg; /* spellings and opsets are those of ONNX */
    RQ_TRY(rq_coreml_from_graph(&m, g, NULL, NULL, err));
    const rq_status st = rq_coreml_save(m, path, err);
    rq_coreml_close(m);
    return st;
}

extern const rq_format rq_format_mlpackage;
const rq_format rq_format_mlpackage = { .name = "mlpackage",
                                        .suffix = ".mlpackage",
                                        .sniff = sniff,
                                        .check_output = rq_mlpackage_check_output,
                                        .write = write_package };
