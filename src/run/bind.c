/* run/bind.c — outputs in the caller's memory. The form that owns an output's bytes is pointed there for a run, so that the operator that makes it
 * writes it in place; views follow it, as they do in every run. What cannot lie elsewhere (an input or a constant as it is, what a dynamic operator
 * made, codes, bytes that two outputs share) is copied in the end. */
#include <string.h>

#include "run/program.h"

/* The form that owns all bytes of output i, where it is one of seg's block; -1 otherwise. */
static int32_t root_of(const rq_program *p, const rq_segment *seg, int i)
{
    int32_t id = rq_form_id(p->g->outputs[i], RQ_FORM_REAL);
    if (!p->forms[id].exists)
        return -1;
    for (; p->forms[id].view_of >= 0; id = p->forms[id].view_of)
        if (p->forms[p->forms[id].view_of].t.bytes != p->forms[id].t.bytes)
            return -1; /* a part */
    const rq_form *f = &p->forms[id];
    if (f->known || f->fed || f->made_late || id % RQ_N_FORMS != RQ_FORM_REAL) /* of codes, steps keep addresses */
        return -1;
    for (int k = 0; k < seg->n_made; k++)
        if (seg->made[k] == id)
            return id;
    return -1;
}

rq_status rq_bind_plan(const rq_program *p, rq_segment *seg)
{
    seg->out_root = rq_arena_alloc(&seg->arena, (size_t)p->g->n_outputs, sizeof *seg->out_root);
    if (!seg->out_root)
        return RQ_NO_MEMORY;
    for (int i = 0; i < p->g->n_outputs; i++) {
        seg->out_root[i] = root_of(p, seg, i);
        for (int k = 0; k < i; k++)
            if (seg->out_root[k] == seg->out_root[i])
                seg->out_root[i] = -1;
    }
    return RQ_OK;
}

/* Does the owner of bytes that are viewed lie in one place for all runs? */
static bool is_still(const rq_program *p, const rq_segment *seg, int32_t owner)
{
    if (!rq_form_has_place(&p->forms[owner]))
        return p->forms[owner].known;
    for (int k = 0; k <= p->n_segs; k++)
        for (int i = 0; i < p->g->n_outputs; i++)
            if ((k < p->n_segs ? p->segs[k] : seg)->out_root[i] == owner)
                return false;
    return true;
}

rq_status rq_bind_views(rq_program *p, rq_segment *seg)
{
    seg->view = rq_arena_alloc(&seg->arena, (size_t)seg->n_made + 1, sizeof *seg->view);
    if (!seg->view)
        return RQ_NO_MEMORY;
    for (int i = 0; i < seg->n_made; i++) {
        rq_form *f = &p->forms[seg->made[i]];
        if (!f->exists || f->known || f->view_of < 0)
            continue;
        for (int32_t up = p->forms[f->view_of].view_of; up >= 0; up = p->forms[up].view_of) {
            f->at += p->forms[f->view_of].at;
            f->view_of = up;
        }
        if (is_still(p, seg, f->view_of))
            f->t.data = (char *)p->forms[f->view_of].t.data + f->at;
        else
            seg->view[seg->n_view++] = seg->made[i];
    }
    return RQ_OK;
}

rq_status rq_bind_check(const rq_program *p, int i, const rq_tensor *made, const rq_tensor *t, rq_err *err)
{
    char is[RQ_SHAPE_TEXT], wants[RQ_SHAPE_TEXT];
    if (made->dtype == t->dtype && rq_shape_equal(&made->shape, &t->shape))
        return RQ_OK;
    return rq_fail(err, RQ_BAD_SHAPE, "output '%s' is %s %s, but what is bound to it is %s %s",
                   p->g->values[p->g->outputs[i]].name, rq_dtype_name(made->dtype),
                   rq_shape_text(&made->shape, is, sizeof is), rq_dtype_name(t->dtype),
                   rq_shape_text(&t->shape, wants, sizeof wants));
}

rq_status rq_bind_outputs(rq_program *p, const rq_segment *seg, const rq_tensor *bound, rq_err *err)
{
    for (int i = 0; i < p->g->n_outputs; i++) {
        if (seg->out_root[i] < 0)
            continue;
        rq_form *f = &p->forms[seg->out_root[i]];
        f->t.data = (char *)seg->block + f->offset;
        if (!bound || !bound[i].data)
            continue;
        RQ_TRY(rq_bind_check(p, i, &p->forms[rq_form_id(p->g->outputs[i], RQ_FORM_REAL)].t, &bound[i], err));
        f->t.data = bound[i].data;
    }
    return RQ_OK;
}

rq_status rq_bind_take(const rq_program *p, const rq_tensor *bound, rq_err *err)
{
    for (int i = 0; bound && i < p->g->n_outputs; i++) {
        const rq_form *f = &p->forms[rq_form_id(p->g->outputs[i], RQ_FORM_REAL)];
        if (!bound[i].data || f->t.data == bound[i].data)
            continue;
        if (!f->exists)
            return rq_fail(err, RQ_INTERNAL, "output '%s' was not made", p->g->values[p->g->outputs[i]].name);
        RQ_TRY(rq_bind_check(p, i, &f->t, &bound[i], err));
        memcpy(bound[i].data, f->t.data, bound[i].bytes);
    }
    return RQ_OK;
}
