/* run/plan_last.c — who runs on channels-last codes (docs/decisions/0009-channels-last.md). Rows that want them get them; rows that can take either
 * order take the one in which most of their input lies, so that a network changes order where it begins and where it ends. */
#include "run/planner.h"

void rq_plan_image(const rq_shape *shape, int64_t *n, int64_t *c, int64_t *s)
{
    *n = shape->dim[0];
    *c = shape->dim[1];
    *s = 1;
    for (int i = 2; i < shape->rank; i++)
        *s *= shape->dim[i];
}

/* Do both orders have the same bytes, but for the top bit of s8? */
static bool is_either(const rq_shape *shape)
{
    int64_t n, c, s;
    rq_plan_image(shape, &n, &c, &s);
    return c == 1 || s == 1;
}

rq_form_kind rq_plan_code_form(const rq_step *step, const rq_shape *shape, bool known)
{
    return step->args.last && shape->rank >= 3 && !known ? RQ_FORM_LAST : RQ_FORM_CODE;
}

static bool is_byte(const rq_qparams *q)
{
    return q->axis == RQ_PER_TENSOR && (q->dtype == RQ_DTYPE_U8 || q->dtype == RQ_DTYPE_S8);
}

/* Input i may lie channels-last: annotated, of rank 3 or more, no constant. */
static bool is_image(const rq_op_args *a, int i)
{
    return a->in[i] && a->in_q[i] && !a->in[i]->data && a->in[i]->shape.rank >= 3;
}

static bool is_image_made(const rq_op_args *a, int i)
{
    return a->out[i] && a->out_q[i] && a->out[i]->shape.rank >= 3;
}

static rq_last last_of(const rq_planner *b, const rq_step *step)
{
    const rq_op_args *a = &step->args;
    bool any = false;
    if (b->p->plain & RQ_PLAIN_NO_LAST)
        return RQ_LAST_NO;
    for (int i = 0; i < a->n_in; i++) {
        if (is_image(a, i) && !is_byte(a->in_q[i]))
            return RQ_LAST_NO;
        any |= is_image(a, i);
    }
    for (int i = 0; i < a->n_out; i++)
        if (is_image_made(a, i) && !is_byte(a->out_q[i]))
            return RQ_LAST_NO;
    if (!any)
        return RQ_LAST_NO;
    rq_last last = step->mode == RQ_MODE_TABLE ? RQ_LAST_CAN : step->row->last ? step->row->last(a) : RQ_LAST_NO;
    return last == RQ_LAST_CAN && b->p->plain & RQ_PLAIN_ALL_LAST ? RQ_LAST_WANTS : last;
}

/* Does a product read v, maybe behind others that can run channels-last? */
static bool is_wanted_last(rq_planner *b, rq_id v, int depth)
{
    enum { DEEP = 6, USERS = 8 };
    const rq_graph *g = b->p->g;
    rq_id user[USERS];
    for (int i = 0; i < USERS; i++)
        user[i] = RQ_NONE;
    int n = v == RQ_NONE || depth == DEEP ? 0 : rq_graph_uses(g, v, user, USERS);
    for (int i = 0; i < n && i < USERS; i++) {
        const rq_node *u = user[i] < 0 ? NULL : &g->nodes[user[i]];
        if (!u || !u->row || !u->row->last || u->in[0] != v || !rq_graph_qparams(g, u->out[0]))
            continue;
        if (u->row->flags & RQ_OP_POSTS || is_wanted_last(b, u->out[0], depth + 1))
            return true;
    }
    return false;
}

/* More bytes of its inputs lie channels-last alone than in the order of the file alone. Reals can be rounded to either. */
static bool comes_last(rq_planner *b, const rq_op_args *a)
{
    bool raw = true;
    size_t last = 0, code = 0;
    for (int i = 0; i < a->n_in; i++) {
        if (!is_image(a, i))
            continue;
        const rq_id v = a->node->in[i];
        const bool is_last = rq_plan_form(b, v, RQ_FORM_LAST)->exists,
                   is_code = rq_plan_form(b, v, RQ_FORM_CODE)->exists;
        raw = raw && !is_last && !is_code;
        const size_t bytes = is_either(&a->in[i]->shape) ? 1 : a->in[i]->bytes;
        if (is_last && !is_code)
            last += bytes;
        if (is_code && !is_last)
            code += bytes;
    }
    return raw ? is_wanted_last(b, a->node->out[0], 0) : last > code;
}

/* q for u8 codes: s8 ones have their top bit flipped. */
static rq_status flip_q(rq_planner *b, const rq_qparams **q)
{
    if ((*q)->dtype == RQ_DTYPE_U8)
        return RQ_OK;
    rq_qparams *u = rq_arena_alloc(&b->seg->arena, 1, sizeof *u);
    int32_t *zero = rq_arena_alloc(&b->seg->arena, 1, sizeof *zero);
    if (!u || !zero)
        return rq_plan_no_memory(b);
    *u = **q;
    *zero = (*q)->zero_point[0] + 128;
    u->dtype = RQ_DTYPE_U8;
    u->zero_point = zero;
    *q = u;
    return RQ_OK;
}

rq_status rq_plan_choose_last(rq_planner *b, rq_step *step)
{
    rq_op_args *a = &step->args;
    const rq_last last = last_of(b, step);
    if (last == RQ_LAST_NO || (last == RQ_LAST_CAN && !comes_last(b, a)))
        return RQ_OK;
    a->last = true;
    for (int i = 0; i < a->n_in; i++)
        if (is_image(a, i))
            RQ_TRY(flip_q(b, (const rq_qparams **)&a->in_q[i]));
    for (int i = 0; i < a->n_out; i++)
        if (is_image_made(a, i))
            RQ_TRY(flip_q(b, (const rq_qparams **)&a->out_q[i]));
    return RQ_OK;
}
