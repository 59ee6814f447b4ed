/* run/batch.c — see run/batch.h. */
#include "run/batch.h"

#include <string.h>

#include "ops/samples.h"

/* Of a part, the block for each thread: about what stays in caches while weights pass by (docs/performance.md). */
enum { BLOCK_BYTES = 4 << 20 };

rq_status rq_batch_init(rq_batch *b, const rq_graph *g)
{
    b->seen = rq_mem_zalloc((size_t)g->n_inputs + 1, sizeof *b->seen);
    b->in = rq_mem_zalloc((size_t)g->n_inputs + 1, sizeof *b->in);
    b->out = rq_mem_zalloc((size_t)g->n_outputs + 1, sizeof *b->out);
    return b->seen && b->in && b->out ? RQ_OK : RQ_NO_MEMORY;
}

void rq_batch_release(rq_batch *b)
{
    rq_program_destroy(b->rest);
    rq_mem_free(b->seen);
    rq_mem_free(b->in);
    rq_mem_free(b->out);
}

/* ---- may it be run in parts? ---- */

/* Samples of a batch that may be cut: the model leaves their number open in every input. 0: it may not. */
static int64_t samples_of(const rq_program *p, const rq_tensor *in)
{
    int64_t n = 0;
    if (p->n_taps || p->cfg->samples_at_once < 0)
        return 0;
    for (int i = 0; i < p->g->n_inputs; i++) {
        const rq_shape *s = &in[i].shape, *model = &p->g->values[p->g->inputs[i]].shape;
        if (in[i].dtype == RQ_DTYPE_NONE)
            continue;
        if (s->rank < 1 || (model->rank > 0 && model->dim[0] >= 0) || (n && s->dim[0] != n) ||
            rq_dtype_bits(in[i].dtype) < 8)
            return 0;
        n = s->dim[0];
    }
    return n > RQ_SAMPLES_MOST ? 0 : n;
}

/* Sizes of one slice, of which nothing is bound yet. */
static rq_tensor slice_of(const rq_tensor *t, int64_t samples)
{
    rq_shape s = t->shape;
    if (t->dtype == RQ_DTYPE_NONE)
        return (rq_tensor) { 0 };
    s.dim[0] = samples;
    return rq_tensor_view(t->dtype, &s, NULL);
}

static bool is_settled(const rq_batch *b, const rq_program *p, const rq_tensor *in)
{
    for (int i = 0; i < p->g->n_inputs && b->settled; i++) {
        const rq_tensor one = slice_of(&in[i], 1);
        if (one.dtype != b->seen[i].dtype || !rq_shape_equal(&one.shape, &b->seen[i].shape))
            return false;
    }
    return b->settled;
}

/* A product of oneDNN, whose order of sums may depend on how many rows it has. */
static bool is_the_librarys(const rq_program *p, const rq_step *s)
{
    return p->k->library && s->kind == RQ_STEP_OP && !s->gone && s->row->macs && s->args.n_in && s->args.in[0] &&
           rq_dtype_is_float(s->args.in[0]->dtype);
}

/* Is the plan of one sample one that can be run over slices? */
static bool plan_fits(const rq_program *p)
{
    if (p->n_segs != 1 || p->segs[0]->next_node != p->n_order)
        return false;
    for (int i = 0; i < p->segs[0]->n_steps; i++)
        if (is_the_librarys(p, &p->segs[0]->steps[i]))
            return false;
    for (int i = 0; i < p->g->n_outputs; i++) {
        const rq_form *f = &p->forms[rq_form_id(p->g->outputs[i], RQ_FORM_REAL)];
        if (!f->exists || rq_dtype_bits(f->t.dtype) < 8 || f->t.shape.rank < 1 || f->t.shape.dim[0] != 1)
            return false;
    }
    return true;
}

/* Find out for inputs of these types and sizes, and what one sample takes. */
static rq_status settle(rq_batch *b, rq_program *p, const rq_tensor *in)
{
    if (is_settled(b, p, in))
        return RQ_OK;
    b->settled = false;
    RQ_TRY(rq_samples_apart(&b->apart, p->g, in));
    for (int i = 0; i < p->g->n_inputs; i++)
        b->seen[i] = slice_of(&in[i], 1);
    if (b->apart) {
        const rq_status st = rq_program_plan(p, b->seen, NULL);
        if (st == RQ_NO_MEMORY)
            return st;
        b->apart = !st && plan_fits(p);
        b->one = b->apart ? p->segs[0]->block_bytes : 0;
    }
    b->settled = true;
    return RQ_OK;
}

/* How many samples of n to run at once: parts of nearly the same size. */
static int64_t part_of(const rq_batch *b, const rq_program *p, int64_t n)
{
    const int64_t fit = (int64_t)((size_t)BLOCK_BYTES * (size_t)rq_threads_count(p->threads) / (b->one + 1)),
                  most = p->cfg->samples_at_once ? p->cfg->samples_at_once
                         : fit > 1               ? fit
                                                 : 1;
    const int64_t parts = (n + most - 1) / most;
    return (n + parts - 1) / parts;
}

/* Sets b->n and b->part. */
static rq_status choose(rq_batch *b, rq_program *p, const rq_tensor *in, rq_err *err)
{
    const int64_t n = samples_of(p, in);
    b->n = 0;
    if (n < 2)
        return RQ_OK;
    const rq_status st = settle(b, p, in);
    if (st)
        return rq_fail(err, st, "out of memory planning the graph");
    if (!b->apart)
        return RQ_OK;
    b->part = part_of(b, p, n);
    b->n = b->part < n ? n : 0;
    if (b->rest && !rq_batch_has_rest(b))
        rq_program_forget(b->rest);
    if (!b->rest && rq_batch_has_rest(b))
        return rq_program_create(&b->rest, p->g, p->cfg, p->k, p->threads, NULL, err);
    return RQ_OK;
}

/* ---- in parts ---- */

static void take(const rq_batch *b, const rq_program *p, const rq_tensor *in, int64_t samples)
{
    for (int i = 0; i < p->g->n_inputs; i++)
        b->in[i] = slice_of(&in[i], samples);
}

static rq_status plan_parts(rq_batch *b, rq_program *p, const rq_tensor *in, rq_err *err)
{
    take(b, p, in, b->part);
    RQ_TRY(rq_program_plan(p, b->in, err));
    if (!rq_batch_has_rest(b))
        return RQ_OK;
    take(b, p, in, b->n % b->part);
    return rq_program_plan(b->rest, b->in, err);
}

rq_status rq_batch_plan(rq_batch *b, rq_program *p, const rq_tensor *in, rq_err *err)
{
    RQ_TRY(choose(b, p, in, err));
    return b->n ? plan_parts(b, p, in, err) : rq_program_plan(p, in, err);
}

/* Point slices at sample `at` of whole tensors. */
static void point(rq_tensor *slice, const rq_tensor *whole, int n, int64_t samples, int64_t at)
{
    for (int i = 0; i < n; i++) {
        slice[i] = whole[i].data || whole[i].bytes == 0 ? slice_of(&whole[i], samples) : (rq_tensor) { 0 };
        if (whole[i].data && samples)
            slice[i].data = (char *)whole[i].data + slice[i].bytes / (size_t)samples * (size_t)at;
    }
}

static rq_status run_parts(rq_batch *b, rq_program *p, const rq_tensor *in, const rq_tensor *out, rq_err *err)
{
    for (int64_t at = 0; at < b->n; at += b->part) {
        const int64_t samples = b->n - at < b->part ? b->n - at : b->part;
        rq_program *by = samples == b->part ? p : b->rest;
        point(b->in, in, p->g->n_inputs, samples, at);
        point(b->out, out, p->g->n_outputs, samples, at);
        const rq_tensor *bound = by->bound;
        by->bound = b->out;
        by->adds = by == p && at > 0;
        const rq_status st = rq_program_run(by, b->in, NULL, err);
        by->bound = bound;
        by->adds = false;
        RQ_TRY(st);
    }
    return RQ_OK;
}

/* The type and shape of output i of the whole, as planned. */
static rq_tensor whole_output(const rq_batch *b, const rq_program *p, int i)
{
    return slice_of(&p->forms[rq_form_id(p->g->outputs[i], RQ_FORM_REAL)].t, b->n);
}

/* Into tensors of their own. */
static rq_status run_into(rq_batch *b, rq_program *p, const rq_tensor *in, rq_tensor *out, rq_err *err)
{
    rq_status st = RQ_OK;
    for (int i = 0; i < p->g->n_outputs && !st; i++) {
        const rq_tensor t = whole_output(b, p, i);
        st = rq_tensor_create(&out[i], t.dtype, &t.shape, false);
        if (st)
            rq_fail(err, st, "out of memory making output '%s'", p->g->values[p->g->outputs[i]].name);
    }
    if (!st)
        st = run_parts(b, p, in, out, err);
    for (int i = 0; i < p->g->n_outputs && st; i++)
        rq_tensor_release(&out[i]);
    return st;
}

rq_status rq_batch_run(rq_batch *b, rq_program *p, const rq_tensor *in, rq_tensor *out, rq_err *err)
{
    RQ_TRY(choose(b, p, in, err));
    if (!b->n)
        return rq_program_run(p, in, out, err);
    RQ_TRY(plan_parts(b, p, in, err));
    if (out)
        return run_into(b, p, in, out, err);
    for (int i = 0; i < p->g->n_outputs; i++) {
        const rq_tensor t = whole_output(b, p, i);
        if (p->bound[i].data)
            RQ_TRY(rq_bind_check(p, i, &t, &p->bound[i], err));
    }
    return run_parts(b, p, in, p->bound, err);
}
