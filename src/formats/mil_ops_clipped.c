/* formats/mil_ops_clipped.c — lstm whose cell is bounded: c = clip(f c + i z) after each step, which ONNX's LSTM does not do (its clip bounds what goes into
 * the gates). The products with x are made at once; a Loop does the steps. */
#include <string.h>

#include "formats/mil_rows.h"
#include "graph/graph.h"

typedef rq_chain chain;

static const char *applied(chain *c, const char *name, const char *x)
{
    static const char *const names[][2] = { { "sigmoid", "Sigmoid" },
                                            { "tanh", "Tanh" },
                                            { "scaled_tanh", "Tanh" }, /* its factors are 1 in a recurrent layer */
                                            { "relu", "Relu" },
                                            { "linear", "Identity" },
                                            { "hard_sigmoid", "HardSigmoid" },
                                            { "sigmoid_hard", "HardSigmoid" } };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!strcmp(names[i][0], name)) {
            const char *y = rq_n1(c, names[i][1], x);
            if (i >= 5) {
                rq_chain_set_float(c, "alpha", 0.2f);
                rq_chain_set_float(c, "beta", 0.5f);
            }
            return y;
        }
    return c->st ? NULL : rq_chain_fail(c, RQ_UNSUPPORTED, "activation '%.60s' is not known", name);
}

/* gate + peephole * cell, where there is a peephole */
static const char *peeped(chain *c, const char *gate, const char *peephole, const char *cell)
{
    return peephole ? rq_n2(c, "Add", gate, rq_n2(c, "Mul", peephole, cell)) : gate;
}

/* The body: turn, go_on, h, c -> go_on, h, c, h once more for the sequence. gates [s, b, 4 h], turned_u [h, 4 h], peep[3]: values around it. */
static void body(chain *c, const rq_clipped *k, const char *gates, const char *turned_u, const char *const peep[3])
{
    static const rq_shape scalar = { .rank = 0 };
    const rq_shape state = { .rank = 2, .dim = { RQ_DIM_UNKNOWN, k->h } };
    const rq_dtype d = k->dtype;
    const char *in[4], *gate[4] = { NULL };
    static const char *const names[] = { "turn", "go_on", "h", "c" };
    for (int i = 0; i < 4 && !c->st; i++) {
        if (!(in[i] = rq_mil_reader_name(c->r, c->op, names[i])))
            rq_chain_fail(c, RQ_NO_MEMORY, "not enough memory");
        else
            c->st = rq_edit_add_input(c->r->g, in[i],
                                      i == 0   ? RQ_DTYPE_S64
                                      : i == 1 ? RQ_DTYPE_BOOL
                                               : d,
                                      i < 2 ? &scalar : &state, c->r->err);
    }
    const char *outer[] = { gates, turned_u, peep[0], peep[1], peep[2] };
    for (int i = 0; i < 5 && !c->st; i++)
        if (outer[i])
            c->st = rq_mil_reader_value(c->r, outer[i]);
    if (c->st)
        return;
    const char *all = rq_n2(c, "Gather", gates, in[0]);
    rq_chain_set_int(c, "axis", 0);
    all = rq_n2(c, "Add", all, rq_n2(c, "MatMul", in[2], turned_u));
    rq_chain_nodes(c, "Split", &all, 1, gate, 4);
    rq_chain_set_int(c, "axis", 1);
    rq_chain_set_int(c, "num_outputs", 4);
    const char *i = applied(c, k->acts[0], peeped(c, gate[0], peep[0], in[3]));
    const char *f = applied(c, k->acts[0], peeped(c, gate[1], peep[1], in[3]));
    const char *z = applied(c, k->acts[1], gate[3]);
    const char *s = rq_n2(c, "Add", rq_n2(c, "Mul", f, in[3]), rq_n2(c, "Mul", i, z));
    s = rq_n3(c, "Clip", s, rq_chain_const(c, d, -(double)k->clip), rq_chain_const(c, d, (double)k->clip));
    const char *o = applied(c, k->acts[0], peeped(c, gate[2], peep[2], s));
    const char *h = rq_n2(c, "Mul", o, applied(c, k->acts[2], s));
    const char *out[] = { in[1], h, s, h };
    if (!c->st)
        c->st = rq_mil_reader_outputs(c->r, c->op, out, 4);
}

void rq_clipped_lstm(chain *c, const rq_clipped *k, const char *out[3])
{
    static const rq_mil_block nothing = { 0 };
    const char *peep[3] = { NULL, NULL, NULL };
    const char *gates = rq_n1(c, "Transpose", k->w), *turned_u = rq_n1(c, "Transpose", k->u);
    gates = rq_n2(c, "MatMul", k->x, gates);
    if (k->b)
        gates = rq_n2(c, "Add", gates, k->b);
    if (k->p) {
        rq_chain_nodes(c, "Split", &k->p, 1, peep, 3);
        rq_chain_set_int(c, "axis", 0);
        rq_chain_set_int(c, "num_outputs", 3);
    }
    const char *steps = rq_n2(c, "Gather", rq_n1(c, "Shape", k->x), rq_chain_const_int(c, 0));
    const char *in[] = { steps, NULL, k->state_h, k->state_c };
    rq_mil_frame f;
    if (!c->st)
        rq_chain_dtype(c, gates); /* types of what stands outside are known inside */
    if (c->st || (c->st = rq_mil_reader_enter(c->r, &f, &nothing)))
        return;
    chain inside = rq_chain_begin(c->r, c->op);
    inside.n = c->n; /* names are not used again inside */
    body(&inside, k, gates, turned_u, peep);
    rq_mil_reader_leave(c->r);
    c->n = inside.n;
    c->st = inside.st;
    rq_chain_nodes(c, "Loop", in, 4, out, 3);
    rq_graph **list = c->st ? NULL : rq_arena_alloc(&c->r->g->names, 1, sizeof *list);
    rq_attr *a = list ? rq_attr_add(c->r->g, c->id, "body", RQ_ATTR_GRAPH) : NULL;
    if (!a) {
        rq_graph_destroy(f.g);
        rq_chain_fail(c, RQ_NO_MEMORY, "not enough memory");
        return;
    }
    list[0] = f.g;
    a->g = list;
}
