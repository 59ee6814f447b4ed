/* run/plan_dynamic.c — sums of codes that become reals at once. Dynamic quantization is spelt MatMulInteger or ConvInteger -> Cast -> Mul by the scales ->
 * Add of a bias; with a scale per row there are two Muls, rows first. MatMulIntegerScaled and ConvIntegerScaled of the domain "requant" are those in
 * one, with their roundings: f32(f32(f32(sum) scale) scale), then + bias. It stands where the last of them stood, because all that any of
 * them reads is there then. The other steps are left out; the bits are the same. */
#include <string.h>

#include "run/planner.h"

/* Inputs of what stands for a chain. */
enum { A, B, A_SCALE, B_SCALE, A_ZERO, B_ZERO, BIAS, N_MATMUL };                 /* MatMulIntegerScaled */
enum { X, W, SCALE, X_ZERO, W_ZERO, CONV_BIAS, N_CONV, MOST_INPUTS = N_MATMUL }; /* ConvIntegerScaled */

/* What was found from a product on. */
typedef struct chain {
    bool conv;
    int step[4], n; /* Cast, Mul, maybe another, maybe Add */
    int32_t in[MOST_INPUTS];
    int32_t made; /* by the last of them */
} chain;

static const rq_shape *shape_of(const rq_planner *b, int32_t form)
{
    return &b->p->forms[form].t.shape;
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

/* One number for each channel of y, along axis 1? */
static bool is_channel(const rq_shape *t, const rq_shape *y)
{
    const int at = t->rank - (y->rank - 1);
    return at >= 0 && at <= 1 && rq_shape_count(t) == y->dim[1] && t->dim[at] == y->dim[1];
}

static bool is_product(const rq_planner *b, const rq_step *s, chain *c)
{
    if (s->kind != RQ_STEP_OP || s->mode != RQ_MODE_REAL || s->gone || s->out_form[0] < 0 || s->row->domain[0])
        return false;
    *c = (chain) { .conv = strcmp(s->row->name, "ConvInteger") == 0, .made = s->out_form[0] };
    if (!c->conv && strcmp(s->row->name, "MatMulInteger") != 0)
        return false;
    for (int i = 0; i < MOST_INPUTS; i++)
        c->in[i] = i < 2 ? s->in_form[i] : -1;
    for (int i = 2; i < s->args.n_in; i++)
        c->in[(c->conv ? X_ZERO : A_ZERO) + i - 2] = s->in_form[i];
    const rq_shape *y = shape_of(b, c->made);
    return rq_shape_count(y) > 0 && (c->conv || (y->rank >= 1 && shape_of(b, s->in_form[1])->rank == 2));
}

/* The step of two operands behind those found; *other: its second operand. NULL: there is none. */
static const rq_step *next(const rq_planner *b, const rq_plan_uses *u, const chain *c, const char *op, int32_t *other)
{
    const rq_step *s = rq_plan_follower(b, u, c->step[c->n - 1], op);
    *other = s ? rq_plan_other_operand(b, s, c->made) : -1;
    return *other >= 0 ? s : NULL;
}

static void take(const rq_planner *b, chain *c, const rq_step *s)
{
    c->step[c->n++] = (int)(s - b->seg->steps);
    c->made = s->out_form[0];
}

/* May m be a factor of the sums; which input it is. */
static bool is_factor(const rq_planner *b, const chain *c, int32_t m, bool first, int *input)
{
    const rq_shape *t = shape_of(b, m), *y = shape_of(b, c->made);
    const bool one = rq_shape_count(t) == 1;
    if (c->conv)
        return *input = SCALE, first && (one || is_channel(t, y));
    *input = first && !one && !is_row(t, y) ? A_SCALE : B_SCALE;
    return one || (*input == B_SCALE ? is_row(t, y) : is_column(t, y));
}

static bool find(const rq_planner *b, const rq_plan_uses *u, int at, chain *c)
{
    int input;
    int32_t other;
    if (!is_product(b, &b->seg->steps[at], c))
        return false;
    const rq_step *s = rq_plan_follower(b, u, at, "Cast");
    if (!s)
        return false;
    take(b, c, s);
    s = next(b, u, c, "Mul", &other);
    if (!s || !is_factor(b, c, other, true, &input))
        return false;
    c->in[input] = other;
    take(b, c, s);
    s = c->conv ? NULL : next(b, u, c, "Mul", &other);
    const bool turn = c->in[A_SCALE] >= 0 || (!c->conv && rq_shape_count(shape_of(b, c->in[B_SCALE])) == 1);
    if (s && turn && is_factor(b, c, other, false, &input)) { /* the first of two is A's, multiplied before B's */
        if (c->in[A_SCALE] < 0)
            c->in[A_SCALE] = c->in[B_SCALE];
        c->in[B_SCALE] = other;
        take(b, c, s);
    }
    s = next(b, u, c, "Add", &other);
    if (s && (c->conv ? is_channel : is_row)(shape_of(b, other), shape_of(b, c->made))) {
        c->in[c->conv ? CONV_BIAS : BIAS] = other;
        take(b, c, s);
    }
    return true;
}

static rq_status join(rq_planner *b, int at, const chain *c)
{
    rq_node n = *b->seg->steps[at].args.node;
    n.op = c->conv ? "ConvIntegerScaled" : "MatMulIntegerScaled";
    n.domain = "requant";
    n.n_in = c->conv ? N_CONV : N_MATMUL;
    return rq_plan_merge(b, &n, c->in, at, c->step, c->n);
}

rq_status rq_plan_dynamic(rq_planner *b, rq_arena *work)
{
    rq_plan_uses u = { 0 };
    chain c;
    bool any = false;
    for (int i = 0; i < b->seg->n_steps && !any; i++)
        any = is_product(b, &b->seg->steps[i], &c);
    if (!any)
        return RQ_OK;
    RQ_TRY(rq_plan_count_uses(b, work, &u));
    for (int i = 0; i < b->seg->n_steps; i++)
        if (find(b, &u, i, &c))
            RQ_TRY(join(b, i, &c));
    return RQ_OK;
}
