/* run/plan_dynamic.c — sums of codes that become reals at once. Dynamic quantization is spelt MatMulInteger -> Cast -> Mul by the scales -> Add of a bias;
 * MatMulIntegerToFloat of com.microsoft is those four in one, with their roundings: f32(f32(sum) scale), then + bias. It stands where the last of
 * them stood, because all that any of them reads is there then. The other steps are left out; the bits are the same. */
#include <string.h>

#include "run/planner.h"

enum { A, B, A_SCALE, B_SCALE, A_ZERO, B_ZERO, BIAS, N_INPUTS }; /* of MatMulIntegerToFloat */

/* What was found from a product on. */
typedef struct chain {
    int step[3], n; /* Cast, Mul, maybe Add */
    int32_t in[N_INPUTS];
} chain;

static const rq_tensor *tensor_of(const rq_planner *b, int32_t form)
{
    return &b->p->forms[form].t;
}

/* Runs t, beside something of shape y, along y's last axis and nothing else? */
static bool is_row(const rq_shape *t, const rq_shape *y)
{
    const int64_t n = y->dim[y->rank - 1];
    return t->rank >= 1 && t->rank <= y->rank && rq_shape_count(t) == n && t->dim[t->rank - 1] == n;
}

/* One number for each row of y? */
static bool is_column(const rq_shape *t, const rq_shape *y)
{
    return t->rank == y->rank && t->dim[t->rank - 1] == 1 &&
           rq_shape_count(t) * y->dim[y->rank - 1] == rq_shape_count(y);
}

static bool find(const rq_planner *b, const rq_plan_uses *u, int at, chain *c)
{
    const rq_step *product = &b->seg->steps[at];
    if (product->kind != RQ_STEP_OP || product->mode != RQ_MODE_REAL || product->gone ||
        strcmp(product->row->name, "MatMulInteger") != 0 || product->out_form[0] < 0)
        return false;
    const rq_shape *y = &tensor_of(b, product->out_form[0])->shape, *w = &tensor_of(b, product->in_form[1])->shape;
    if (w->rank != 2 || y->rank < 1 || rq_shape_count(y) == 0)
        return false;
    *c = (chain) { .in = { product->in_form[0], product->in_form[1], -1, -1, -1, -1, -1 } };
    for (int i = 2; i < product->args.n_in; i++)
        c->in[A_ZERO + i - 2] = product->in_form[i];
    const rq_step *cast = rq_plan_follower(b, u, at, "Cast");
    if (!cast)
        return false;
    c->step[c->n++] = (int)(cast - b->seg->steps);
    const rq_step *mul = rq_plan_follower(b, u, c->step[0], "Mul");
    const int32_t scale = mul ? rq_plan_other_operand(b, mul, cast->out_form[0]) : -1;
    if (scale < 0)
        return false;
    const rq_shape *m = &tensor_of(b, scale)->shape;
    c->step[c->n++] = (int)(mul - b->seg->steps);
    if (rq_shape_count(m) == 1 || is_row(m, y))
        c->in[B_SCALE] = scale;
    else if (is_column(m, y))
        c->in[A_SCALE] = scale;
    else
        return false;
    const rq_step *add = rq_plan_follower(b, u, c->step[1], "Add");
    const int32_t bias = add ? rq_plan_other_operand(b, add, mul->out_form[0]) : -1;
    if (bias >= 0 && is_row(&tensor_of(b, bias)->shape, y)) {
        c->step[c->n++] = (int)(add - b->seg->steps);
        c->in[BIAS] = bias;
    }
    return true;
}

static rq_status join(rq_planner *b, int at, const chain *c)
{
    rq_node n = *b->seg->steps[at].args.node;
    n.op = "MatMulIntegerToFloat";
    n.domain = "com.microsoft";
    n.n_in = N_INPUTS;
    return rq_plan_merge(b, &n, c->in, at, c->step, c->n);
}

rq_status rq_plan_dynamic(rq_planner *b, rq_arena *work)
{
    rq_plan_uses u = { 0 };
    chain c;
    bool any = false;
    for (int i = 0; i < b->seg->n_steps && !any; i++)
        any = b->seg->steps[i].kind == RQ_STEP_OP && strcmp(b->seg->steps[i].row->name, "MatMulInteger") == 0;
    if (!any)
        return RQ_OK;
    RQ_TRY(rq_plan_count_uses(b, work, &u));
    for (int i = 0; i < b->seg->n_steps; i++)
        if (find(b, &u, i, &c))
            RQ_TRY(join(b, i, &c));
    return RQ_OK;
}
