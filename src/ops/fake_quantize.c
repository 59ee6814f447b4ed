/* ops/fake_quantize.c — FakeQuantize of the domain "requant": where a tensor goes to codes and back while a graph is trained. What it counts in
 * (rq_fake_quantizer) is handed to the executor by the caller; attribute `slot` says which. One object may stand at several nodes:
 * each keeps for its own backward the scale that was in force and, where that is enough, a mask of what lay inside, so that
 * its input need not live on.
 *
 *   saved   header | scale[room] | zero_point[room] | mask[count]     (the mask begins at a multiple of 64) */
#include <string.h>

#include "ops/grad.h"
#include "quant/fake_quantizer.h"

static rq_fake_quantizer *object_of(const rq_op_args *a)
{
    const int64_t slot = rq_attr_int(a->node, RQ_WORD_slot, -1);
    return a->training && slot >= 0 && slot < a->training->n_fakes ? a->training->fakes[slot] : NULL;
}

static rq_status fake_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    (void)opset;
    if (rq_attr_int(n, RQ_WORD_slot, -1) < 0)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "the attribute slot is missing or negative");
    return RQ_OK;
}

static rq_status fake_infer(const rq_infer *a)
{
    if (a->in[0]->dtype != RQ_DTYPE_F32 && a->in[0]->dtype != RQ_DTYPE_NONE)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the input is %s, expected f32", rq_dtype_name(a->in[0]->dtype));
    return rq_infer_same(a);
}

/* ---- what one forward leaves ---- */

enum { HEADER = 64 };

static size_t kept_bytes(const rq_op_args *a)
{
    const rq_fake_quantizer *q = object_of(a);
    return q ? rq_mem_round(HEADER + 2 * sizeof(float) * (size_t)rq_fake_quantizer_pass_room(q, &a->in[0]->shape)) : 0;
}

static size_t saved_bytes(const rq_op_args *a)
{
    const rq_fake_quantizer *q = object_of(a);
    return kept_bytes(a) + (q && rq_fake_quantizer_masks(q) ? (size_t)rq_tensor_count(a->in[0]) : 0);
}

static unsigned saves_of(const rq_op_args *a)
{
    const rq_fake_quantizer *q = object_of(a);
    return q && rq_fake_quantizer_masks(q) ? 0 : RQ_OP_IN(0);
}

/* The pass as the bytes of `saved` hold it. */
static rq_fake_quantizer_pass pass_of(const rq_op_args *a, const rq_fake_quantizer *q)
{
    char *saved = a->training->saved;
    const int room = rq_fake_quantizer_pass_room(q, &a->in[0]->shape);
    rq_fake_quantizer_pass p;
    memcpy(&p, saved, sizeof p);
    p.room = room;
    p.scale = (float *)(void *)(saved + HEADER);
    p.zero_point = p.scale + room;
    p.mask = rq_fake_quantizer_masks(q) ? (uint8_t *)saved + kept_bytes(a) : NULL;
    return p;
}

/* ---- forward and backward ---- */

static rq_status fake_forward(const rq_op_args *a)
{
    rq_fake_quantizer *q = object_of(a);
    const rq_op_training *t = a->training;
    rq_err err = { 0 };
    if (!q)
        return rq_op_fail(a, RQ_UNSUPPORTED,
                          "runs while a graph is trained alone, with the fake-quantizers given there");
    const rq_strided x = rq_strided_of(a->in[0]), y = rq_strided_of(a->out[0]);
    rq_status st;
    if (t->saved) {
        _Static_assert(sizeof(rq_fake_quantizer_pass) <= HEADER, "the header of `saved` holds it");
        if (!t->again)
            memset(t->saved, 0, HEADER);
        rq_fake_quantizer_pass p = pass_of(a, q);
        p.relu = t->relu;
        st = rq_fake_quantizer_forward_pass(q, t->exec, &y, &x, &p, t->again, &err);
        memcpy(t->saved, &p, sizeof p);
    } else {
        st = rq_fake_quantizer_forward(q, t->exec, &y, &x, &err);
    }
    return st ? rq_op_fail(a, st, "%s", err.code ? err.text : rq_status_text(st)) : RQ_OK;
}

static rq_status fake_backward(const rq_op_args *a)
{
    rq_fake_quantizer *q = object_of(a);
    const rq_op_training *t = a->training;
    rq_err err = { 0 };
    if (!q || !t->saved)
        return RQ_INTERNAL;
    rq_tensor *dx = t->grad_in[0];
    if (!t->grad_out[0]) {
        rq_grad_zeros(a);
        return RQ_OK;
    }
    const rq_strided x = rq_strided_of(a->in[0]), u = rq_strided_of(t->grad_out[0]);
    const rq_strided v = dx ? rq_strided_of(dx) : u;
    rq_fake_quantizer_pass p = pass_of(a, q);
    const rq_status st = rq_fake_quantizer_backward_pass(q, t->exec, dx ? &v : NULL, &u, &x, &p, &err);
    return st ? rq_op_fail(a, st, "%s", err.code ? err.text : rq_status_text(st)) : RQ_OK;
}

const rq_op rq_op_fake_quantize = {
    .name = "FakeQuantize",
    .domain = "requant",
    .since = 1,
    .known = 1,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_KEEP | RQ_OP_IN_PLACE | RQ_OP_GRAD_IN_PLACE,
    .place = RQ_PLACE_FLOAT,
    .check = fake_check,
    .infer = fake_infer,
    .forward = fake_forward,
    .backward = fake_backward,
    .saves_of = saves_of,
    .saved = saved_bytes,
    .kept = kept_bytes,
};
