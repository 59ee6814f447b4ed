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

static bool is_plain(const rq_step *s, const char *op, int n_in)
{
    return s->kind == RQ_STEP_OP && s->mode == RQ_MODE_REAL && strcmp(s->row->name, op) == 0 && !s->row->domain[0] &&
           s->args.n_in == n_in && s->args.n_out == 1 && s->out_form[0] >= 0;
}

static const rq_tensor *tensor_of(const rq_planner *b, int32_t form)
{
    return &b->p->forms[form].t;
}

/* The one step that reads what step `at` makes, which nobody else wants; NULL: there is none of this kind. */
static rq_step *follower(const rq_planner *b, const rq_plan_uses *u, int at, const char *op, int n_in)
{
    const int32_t y = b->seg->steps[at].out_form[0];
    if (u->kept[y] || u->n_readers[y] != 1)
        return NULL;
    rq_step *s = &b->seg->steps[u->reader[y]];
    return is_plain(s, op, n_in) && tensor_of(b, s->out_form[0])->dtype == RQ_DTYPE_F32 ? s : NULL;
}

/* The other operand of an operator that keeps the shape of x, f32; -1: it is another case. */
static int32_t other_operand(const rq_planner *b, const rq_step *s, int32_t x)
{
    const int32_t other = s->in_form[s->in_form[0] == x];
    if (other < 0 || other == x || tensor_of(b, other)->dtype != RQ_DTYPE_F32 ||
        !rq_shape_equal(&tensor_of(b, x)->shape, &tensor_of(b, s->out_form[0])->shape))
        return -1;
    return other;
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
    const rq_step *cast = follower(b, u, at, "Cast", 1);
    if (!cast)
        return false;
    c->step[c->n++] = (int)(cast - b->seg->steps);
    const rq_step *mul = follower(b, u, c->step[0], "Mul", 2);
    const int32_t scale = mul ? other_operand(b, mul, cast->out_form[0]) : -1;
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
    const rq_step *add = follower(b, u, c->step[1], "Add", 2);
    const int32_t bias = add ? other_operand(b, add, mul->out_form[0]) : -1;
    if (bias >= 0 && is_row(&tensor_of(b, bias)->shape, y)) {
        c->step[c->n++] = (int)(add - b->seg->steps);
        c->in[BIAS] = bias;
    }
    return true;
}

/* The chain's last step does all of it. */
static rq_status join(rq_planner *b, int at, const chain *c)
{
    rq_segment *seg = b->seg;
    rq_step *product = &seg->steps[at], *last = &seg->steps[c->step[c->n - 1]];
    rq_node *n = rq_arena_alloc(&seg->arena, 1, sizeof *n);
    if (!n)
        return rq_plan_no_memory(b);
    *n = *product->args.node;
    n->op = "MatMulIntegerToFloat";
    n->domain = "com.microsoft";
    n->row = rq_op_find(n->domain, n->op);
    n->n_in = N_INPUTS;
    n->in = rq_arena_alloc(&seg->arena, N_INPUTS, sizeof *n->in);
    if (!n->in)
        return rq_plan_no_memory(b);
    for (int i = 0; i < N_INPUTS; i++)
        n->in[i] = c->in[i] < 0 ? RQ_NONE : c->in[i] / RQ_N_FORMS;
    n->out = last->args.node->out;
    rq_step whole = { .kind = RQ_STEP_OP, .mode = RQ_MODE_REAL };
    RQ_TRY(rq_plan_fill_step(b, &whole, n));
    for (int i = 0; i < N_INPUTS; i++) {
        whole.in_form[i] = c->in[i];
        if (c->in[i] >= 0)
            rq_plan_use_form(b, c->in[i], (int)(last - seg->steps));
    }
    whole.out_form[0] = last->out_form[0];
    ((rq_tensor **)whole.args.out)[0] = &b->p->forms[whole.out_form[0]].t;
    b->p->forms[product->out_form[0]].exists = false;
    for (int i = 0; i < c->n - 1; i++)
        b->p->forms[seg->steps[c->step[i]].out_form[0]].exists = false;
    product->gone = true;
    for (int i = 0; i < c->n - 1; i++)
        seg->steps[c->step[i]].gone = true;
    rq_plan_release_state(product);
    rq_plan_release_state(last);
    *last = whole;
    return rq_plan_prepare(b, last);
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
