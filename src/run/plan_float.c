/* run/plan_float.c — convolutions, and products by a constant, that stay in reals do what follows them: of a MatMul the sum with a bias, of both that with a
 * residual, an activation. FusedConv of com.microsoft and FusedMatMul of "requant" are all of it in one; they do the rest to the outputs they have just
 * made (kernels/conv_f32.h, rq_conv_after; kernels/gemm_f32.h, rq_gemm_f32_after). The bits are those of the steps. */
#include <float.h>
#include <string.h>

#include "run/planner.h"

/* Activations that FusedConv knows, and their parameters as attributes. */
static const struct known {
    const char *op;
    rq_word p, q;
    float p0, q0;
} known[] = {
    { "Relu", RQ_WORD_NONE, RQ_WORD_NONE, 0, 0 },           { "Clip", RQ_WORD_min, RQ_WORD_max, -FLT_MAX, FLT_MAX },
    { "LeakyRelu", RQ_WORD_alpha, RQ_WORD_NONE, 0.01f, 0 }, { "Sigmoid", RQ_WORD_NONE, RQ_WORD_NONE, 0, 0 },
    { "Tanh", RQ_WORD_NONE, RQ_WORD_NONE, 0, 0 },           { "HardSigmoid", RQ_WORD_alpha, RQ_WORD_beta, 0.2f, 0.5f },
    { "HardSwish", RQ_WORD_NONE, RQ_WORD_NONE, 0, 0 },
};

typedef struct chain {
    const char *as, *domain; /* of the operator that does it all */
    int step[3], n;
    int32_t in[4]; /* X, W, B, Z */
    const struct known *f;
    float params[2];
} chain;

/* Tensors that the pass looks at. With fp16 ones each step rounds, so a convolution is told to; products stay as they are. */
static bool is_known_float(rq_dtype d)
{
    return d == RQ_DTYPE_F32 || d == RQ_DTYPE_F16;
}

/* Bound i of a Clip with inputs; false: it may change. */
static bool read_bound(const rq_planner *b, const rq_step *s, int i, float *to)
{
    const int32_t form = i < s->args.n_in ? s->in_form[i] : -1;
    if (form < 0)
        return true;
    const rq_form *f = &b->p->forms[form];
    if (!f->known || !is_known_float(f->t.dtype) || rq_tensor_count(&f->t) != 1)
        return false;
    *to = (float)rq_tensor_get(&f->t, 0);
    return true;
}

static bool read_params(const rq_planner *b, const rq_step *s, chain *c)
{
    const struct known *f = c->f;
    c->params[0] = f->p0;
    c->params[1] = f->q0;
    if (strcmp(f->op, "Clip") == 0 && s->args.opset >= 11)
        return read_bound(b, s, 1, &c->params[0]) && read_bound(b, s, 2, &c->params[1]);
    if (f->p)
        c->params[0] = rq_attr_float(s->args.node, f->p, f->p0);
    if (f->q)
        c->params[1] = rq_attr_float(s->args.node, f->q, f->q0);
    return s->args.n_in == 1;
}

/* A step that multiplies reals, and what of it goes on in c. */
static bool find_product(const rq_planner *b, const rq_step *s, chain *c)
{
    if (s->kind != RQ_STEP_OP || s->mode != RQ_MODE_REAL || s->gone || s->row->domain[0] || s->out_form[0] < 0 ||
        !is_known_float(b->p->forms[s->out_form[0]].t.dtype))
        return false;
    *c = (chain) { .in = { s->in_form[0], s->in_form[1], s->args.n_in > 2 ? s->in_form[2] : -1, -1 } };
    if (strcmp(s->row->name, "Conv") == 0) {
        c->as = "FusedConv";
        c->domain = "com.microsoft";
        return true;
    }
    if (strcmp(s->row->name, "MatMul") != 0 || b->p->forms[s->out_form[0]].t.dtype != RQ_DTYPE_F32)
        return false;
    const rq_form *w = &b->p->forms[s->in_form[1]];
    c->as = "FusedMatMul";
    c->domain = "requant";
    return w->known && w->t.shape.rank == 2 && !s->args.k->library;
}

/* The constant row behind a MatMul; its Add, or NULL. */
static const rq_step *find_bias(const rq_planner *b, const rq_plan_uses *u, int at, chain *c)
{
    const int32_t y = b->seg->steps[at].out_form[0];
    const rq_shape *s = &b->p->forms[y].t.shape;
    const rq_step *add = rq_plan_follower(b, u, at, "Add");
    const int32_t bias = add ? rq_plan_other_operand(b, add, y) : -1;
    const rq_shape *row = bias < 0 ? NULL : &b->p->forms[bias].t.shape;
    if (!row || s->rank < 2 || row->rank < 1 || row->rank > s->rank || row->dim[row->rank - 1] != s->dim[s->rank - 1] ||
        rq_shape_count(row) != s->dim[s->rank - 1])
        return NULL;
    c->in[2] = bias;
    return add;
}

static bool find(const rq_planner *b, const rq_plan_uses *u, int at, chain *c)
{
    const rq_step *steps = b->seg->steps;
    if (!find_product(b, &steps[at], c))
        return false;
    const rq_step *add = c->in[2] < 0 && *c->domain == 'r' ? find_bias(b, u, at, c) : NULL;
    if (add)
        c->step[c->n++] = at = (int)(add - steps);
    const int32_t sum = steps[at].out_form[0];
    add = rq_plan_follower(b, u, at, "Add");
    const int32_t z = add ? rq_plan_other_operand(b, add, sum) : -1;
    if (z >= 0 && rq_shape_equal(&b->p->forms[z].t.shape, &b->p->forms[add->out_form[0]].t.shape)) {
        c->in[3] = z;
        c->step[c->n++] = at = (int)(add - steps);
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const rq_step *s = rq_plan_follower(b, u, at, known[i].op);
        if (!s)
            continue;
        c->f = &known[i];
        if (s->in_form[0] == steps[at].out_form[0] && read_params(b, s, c))
            c->step[c->n++] = (int)(s - steps);
        else
            c->f = NULL;
        break;
    }
    return c->n > 0;
}

static rq_status join(rq_planner *b, int at, const chain *c)
{
    rq_arena *a = &b->seg->arena;
    rq_node n = *b->seg->steps[at].args.node;
    rq_attr *attr = rq_arena_alloc(a, (size_t)n.n_attr + 3, sizeof *attr);
    float *params = rq_arena_alloc(a, 2, sizeof *params);
    if (!attr || !params)
        return rq_plan_no_memory(b);
    for (int i = 0; i < n.n_attr; i++)
        attr[i] = n.attr[i];
    memcpy(params, c->params, sizeof c->params);
    n.op = c->as;
    n.domain = c->domain;
    n.n_in = 4;
    n.attr = attr;
    if (b->p->forms[b->seg->steps[at].out_form[0]].t.dtype == RQ_DTYPE_F16)
        attr[n.n_attr++] =
            (rq_attr) { .name = "round_mode", .word = RQ_WORD_round_mode, .type = RQ_ATTR_INT, .n = 1, .i = 1 };
    if (c->f) {
        attr[n.n_attr++] = (rq_attr) { .name = "activation",
                                       .word = RQ_WORD_activation,
                                       .type = RQ_ATTR_STRING,
                                       .n = 1,
                                       .s = rq_bytes_of(c->f->op, strlen(c->f->op)) };
        attr[n.n_attr++] = (rq_attr) { .name = "activation_params",
                                       .word = RQ_WORD_activation_params,
                                       .type = RQ_ATTR_FLOATS,
                                       .n = 2,
                                       .floats = params };
    }
    return rq_plan_merge(b, &n, c->in, at, c->step, c->n);
}

rq_status rq_plan_float(rq_planner *b, rq_arena *work)
{
    rq_plan_uses u = { 0 };
    chain c;
    RQ_TRY(rq_plan_count_uses(b, work, &u));
    for (int i = 0; i < b->seg->n_steps; i++)
        if (find(b, &u, i, &c))
            RQ_TRY(join(b, i, &c));
    return RQ_OK;
}
