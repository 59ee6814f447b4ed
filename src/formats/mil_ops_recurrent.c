/* formats/mil_ops_recurrent.c — rows: lstm, gru, rnn. Gates stand in another order than ONNX's, states of both directions side by
 * side; a single direction that is reversed gives its results in the order in which it made them. */
#include <string.h>

#include "formats/mil_rows.h"
#include "graph/graph.h"

typedef rq_mil_reader reader;
typedef rq_chain chain;

enum { I, F, O, Z }; /* gates of lstm as programs have them */

/* The rows of w [n h, ...] in another order of blocks; [1, n h, ...]. */
static const char *ordered(chain *c, const char *w, const int *order, int n, int64_t h)
{
    int64_t *rows = c->st ? NULL : rq_arena_alloc(&c->r->a, (size_t)(n * h), sizeof *rows);
    if (!rows)
        return c->st ? NULL : rq_chain_fail(c, RQ_NO_MEMORY, "not enough memory");
    for (int64_t i = 0; i < n * h; i++)
        rows[i] = order[i / h] * h + i % h;
    const char *list = rq_chain_const_ints(c, rows, (int)(n * h));
    const char *y = rq_n2(c, "Gather", w, list);
    rq_chain_set_int(c, "axis", 0);
    return rq_n2(c, "Unsqueeze", y, rq_chain_const_ints(c, (const int64_t[]) { 0 }, 1));
}

static const char *joined(chain *c, const char *a, const char *b, int64_t axis)
{
    if (!b)
        return a;
    const char *y = rq_n2(c, "Concat", a, b);
    rq_chain_set_int(c, "axis", axis);
    return y;
}

typedef struct cell {
    const char *onnx;
    const int *order; /* of ONNX's gates among the program's */
    int n_gates;
    int n_dirs;
    int64_t h;
    const char *x;
} cell;

/* A matrix or vector of all directions. */
static const char *weights(chain *c, const cell *k, const char *param, const char *back, const int *order, int n)
{
    const char *names[] = { param, back }, *out[2] = { NULL, NULL };
    for (int i = 0; i < k->n_dirs; i++) {
        const char *w = rq_chain_maybe(c, names[i]);
        if (!w)
            return NULL;
        if (rq_chain_size(c, w, 0) != n * k->h)
            return c->st ? NULL
                         : rq_chain_fail(c, RQ_BAD_FILE, "'%s' has %lld rows, expected %lld", names[i],
                                         (long long)rq_chain_size(c, w, 0), (long long)(n * k->h));
        out[i] = ordered(c, rq_chain_cast(c, w, rq_chain_dtype(c, k->x)), order, n, k->h);
    }
    return joined(c, out[0], out[1], 0);
}

/* [1, n h] zeros for each direction that has no bias. */
static const char *no_bias(chain *c, const cell *k)
{
    const char *zero = rq_chain_const(c, rq_chain_dtype(c, k->x), 0);
    const char *shape = rq_chain_const_ints(c, (const int64_t[]) { k->n_dirs, k->n_gates * k->h }, 2);
    return rq_n2(c, "Expand", zero, shape);
}

static const char *permuted(chain *c, const char *x, const int64_t *perm, int n)
{
    const char *y = rq_n1(c, "Transpose", x);
    rq_chain_set_ints(c, "perm", perm, n);
    return y;
}

/* [b, dirs h] to [dirs, b, h], and back. */
static const char *state_in(chain *c, const cell *k, const char *v)
{
    const int64_t apart[] = { 0, k->n_dirs, k->h };
    v = rq_n2(c, "Reshape", rq_chain_cast(c, v, rq_chain_dtype(c, k->x)), rq_chain_const_ints(c, apart, 3));
    return permuted(c, v, (const int64_t[]) { 1, 0, 2 }, 3);
}

static const char *state_out(chain *c, const cell *k, const char *v)
{
    v = permuted(c, v, (const int64_t[]) { 1, 0, 2 }, 3);
    return rq_n2(c, "Reshape", v, rq_chain_const_ints(c, (const int64_t[]) { 0, k->n_dirs * k->h }, 2));
}

/* The names of ONNX for those of the program, for each direction. */
static void activations(chain *c, const cell *k, const char *const *param, const char *const *usual, int n)
{
    static const struct {
        const char *mil, *onnx;
        float alpha, beta;
    } known[] = { { "sigmoid", "Sigmoid", 0, 0 },
                  { "tanh", "Tanh", 0, 0 },
                  { "relu", "Relu", 0, 0 },
                  { "linear", "Affine", 1, 0 },
                  { "scaled_tanh", "ScaledTanh", 1, 1 },
                  { "hard_sigmoid", "HardSigmoid", 0.2f, 0.5f },
                  { "sigmoid_hard", "HardSigmoid", 0.2f, 0.5f } };
    enum { N_KNOWN = sizeof known / sizeof known[0] };
    const char *node_names[6] = { NULL };
    float alpha[6] = { 0 }, beta[6] = { 0 };
    int n_floats = 0; /* one for each activation that has some, in order */
    for (int i = 0; i < n * k->n_dirs; i++) {
        const char *name = rq_chain_text(c, param[i % n], usual[i % n]);
        int j = 0;
        while (j < N_KNOWN && strcmp(known[j].mil, name) != 0)
            j++;
        if (j == N_KNOWN) {
            rq_chain_fail(c, RQ_UNSUPPORTED, "activation '%.60s' is not known", name);
            return;
        }
        node_names[i] = known[j].onnx;
        if (known[j].alpha != 0) {
            alpha[n_floats] = known[j].alpha;
            beta[n_floats++] = known[j].beta;
        }
    }
    rq_chain_set_texts(c, "activations", node_names, n * k->n_dirs);
    if (n_floats) {
        rq_chain_set_floats(c, "activation_alpha", alpha, n_floats);
        rq_chain_set_floats(c, "activation_beta", beta, n_floats);
    }
}

static const char *backwards(chain *c, const char *x)
{
    const char *in[] = { x, rq_chain_const_ints(c, (const int64_t[]) { INT64_MAX }, 1),
                         rq_chain_const_ints(c, (const int64_t[]) { INT64_MIN }, 1),
                         rq_chain_const_ints(c, (const int64_t[]) { 0 }, 1),
                         rq_chain_const_ints(c, (const int64_t[]) { -1 }, 1) };
    return rq_chain_node(c, "Slice", in, 5);
}

/* x, the size of the state, and the direction. */
static cell cell_of(chain *c, const char *onnx, const int *order, int n_gates)
{
    const char *direction = rq_chain_text(c, "direction", "forward");
    cell k = { .onnx = onnx, .order = order, .n_gates = n_gates, .n_dirs = 1, .x = rq_chain_in(c, "x") };
    k.h = rq_chain_size(c, rq_chain_in(c, "weight_hh"), 1);
    if (k.h < 1 || k.h > (1 << 24))
        rq_chain_fail(c, RQ_UNSUPPORTED, "weights of unknown size are not supported");
    if (!strcmp(direction, "bidirectional") && n_gates == 4) {
        k.n_dirs = 2;
    } else if (!strcmp(direction, "reverse")) { /* backwards in, and out in the order of making */
        k.x = backwards(c, k.x);
    } else if (strcmp(direction, "forward") != 0) {
        rq_chain_fail(c, RQ_UNSUPPORTED, "direction '%.60s' is not supported", direction);
    }
    return k;
}

/* Y [s, dirs, b, h] as [s, b, dirs h], or the last states alone as [1, b, dirs h]. */
static void give_sequence(chain *c, const cell *k, const char *y, const char *last)
{
    const int64_t front[] = { 0 };
    if (!rq_chain_int(c, "output_sequence", 0)) {
        rq_chain_end(c, 0, rq_n2(c, "Unsqueeze", last, rq_chain_const_ints(c, front, 1)));
        return;
    }
    y = permuted(c, y, (const int64_t[]) { 0, 2, 1, 3 }, 4);
    const int64_t together[] = { 0, 0, k->n_dirs * k->h };
    rq_chain_end(c, 0, rq_n2(c, "Reshape", y, rq_chain_const_ints(c, together, 3)));
}

/* lstm with 'clip': each direction by itself, then side by side. */
static rq_status clipped(chain *c, const cell *k, const char *const *params, const char *const *usual)
{
    static const char *const names[2][4] = { { "weight_ih", "weight_hh", "bias", "peephole" },
                                             { "weight_ih_back", "weight_hh_back", "bias_back", "peephole_back" } };
    const rq_dtype d = rq_chain_dtype(c, k->x);
    const char *h[2] = { rq_chain_cast(c, rq_chain_in(c, "initial_h"), d), NULL },
               *s[2] = { rq_chain_cast(c, rq_chain_in(c, "initial_c"), d), NULL }, *out[2][3] = { { NULL }, { NULL } };
    const float clip = rq_chain_float(c, "clip", 0);
    if (!(clip > 0))
        rq_chain_fail(c, RQ_BAD_FILE, "'clip' is to be above 0");
    for (int i = 0; i < 2 && k->n_dirs == 2; i++) {
        const char *both = i ? s[0] : h[0];
        rq_chain_nodes(c, "Split", &both, 1, i ? s : h, 2);
        rq_chain_set_int(c, "axis", 1);
        rq_chain_set_int(c, "num_outputs", 2);
    }
    for (int i = 0; i < k->n_dirs; i++) {
        const char *w[4];
        for (int j = 0; j < 4; j++) {
            w[j] = rq_chain_maybe(c, names[i][j]);
            if (w[j])
                w[j] = rq_chain_cast(c, w[j], d);
        }
        if (!c->st &&
            (!w[0] || !w[1] || rq_chain_size(c, w[0], 0) != 4 * k->h || rq_chain_size(c, w[1], 0) != 4 * k->h))
            rq_chain_fail(c, RQ_BAD_FILE, "weights are missing, or do not have %lld rows", (long long)(4 * k->h));
        rq_clipped one = { .x = i ? backwards(c, k->x) : k->x,
                           .w = w[0],
                           .u = w[1],
                           .b = w[2],
                           .p = w[3],
                           .state_h = h[i],
                           .state_c = s[i],
                           .h = k->h,
                           .dtype = d,
                           .clip = clip };
        for (int j = 0; j < 3; j++)
            one.acts[j] = rq_chain_text(c, params[j], usual[j]);
        if (!c->st)
            rq_clipped_lstm(c, &one, out[i]);
    }
    const bool two = k->n_dirs == 2;
    const char *all = joined(c, out[0][2], two ? backwards(c, out[1][2]) : NULL, 2);
    const char *last = joined(c, out[0][0], two ? out[1][0] : NULL, 1);
    const char *cells = joined(c, out[0][1], two ? out[1][1] : NULL, 1);
    rq_chain_end(c, 2, cells);
    rq_chain_end(c, 0,
                 rq_chain_int(c, "output_sequence", 0)
                     ? all
                     : rq_n2(c, "Unsqueeze", last, rq_chain_const_ints(c, (const int64_t[]) { 0 }, 1)));
    return rq_chain_end(c, 1, last);
}

static rq_status lstm(reader *r, const rq_mil_op *op)
{
    static const int gates[] = { I, O, F, Z }, peeps[] = { I, O, F };
    static const char *const params[] = { "recurrent_activation", "cell_activation", "activation" }, *const usual[] = {
        "sigmoid", "tanh", "tanh"
    };
    const char *out[3] = { NULL, NULL, NULL };
    chain c = rq_chain_begin(r, op);
    const cell k = cell_of(&c, "LSTM", gates, 4);
    if (rq_mil_reader_has(op, "clip") && !c.st)
        return clipped(&c, &k, params, usual);
    const char *w = weights(&c, &k, "weight_ih", "weight_ih_back", gates, 4),
               *u = weights(&c, &k, "weight_hh", "weight_hh_back", gates, 4),
               *b = weights(&c, &k, "bias", "bias_back", gates, 4),
               *p = weights(&c, &k, "peephole", "peephole_back", peeps, 3);
    const char *h = state_in(&c, &k, rq_chain_in(&c, "initial_h")), *s = state_in(&c, &k, rq_chain_in(&c, "initial_c"));
    if (!w || !u)
        return c.st ? c.st : rq_fail(r->err, RQ_BAD_FILE, "weights are missing");
    const char *in[] = { k.x, w, u, b ? joined(&c, b, no_bias(&c, &k), 1) : NULL, NULL, h, s, p };
    rq_chain_nodes(&c, k.onnx, in, 8, out, 3);
    rq_chain_set_int(&c, "hidden_size", k.h);
    rq_chain_set_text(&c, "direction", k.n_dirs == 2 ? "bidirectional" : "forward");
    activations(&c, &k, params, usual, 3);
    const char *last = state_out(&c, &k, out[1]);
    give_sequence(&c, &k, out[0], last);
    rq_chain_end(&c, 2, state_out(&c, &k, out[2]));
    return rq_chain_end(&c, 1, last);
}

/* The reset gate works on the state before the product, unless reset_after says otherwise (iOS 18), which is ONNX's
 * linear_before_reset. */
static rq_status gru(reader *r, const rq_mil_op *op)
{
    static const int gates[] = { 2, 0, 1 }; /* r, o, z to z, r, h */
    static const char *const params[] = { "recurrent_activation", "activation" }, *const usual[] = { "sigmoid",
                                                                                                     "tanh" };
    const char *out[2] = { NULL, NULL };
    chain c = rq_chain_begin(r, op);
    const cell k = cell_of(&c, "GRU", gates, 3);
    const int64_t after = rq_chain_int(&c, "reset_after", 0);
    const char *w = weights(&c, &k, "weight_ih", NULL, gates, 3), *u = weights(&c, &k, "weight_hh", NULL, gates, 3);
    const char *b = weights(&c, &k, "bias", NULL, gates, 3), *b_in = weights(&c, &k, "input_bias", NULL, gates, 3);
    const char *h = state_in(&c, &k, rq_chain_in(&c, "initial_h"));
    if (!w || !u)
        return c.st ? c.st : rq_fail(r->err, RQ_BAD_FILE, "weights are missing");
    const char *both = NULL;
    if (b || b_in) /* what there is of a bias is of the state with input_bias, else of the input */
        both = b_in || after ? joined(&c, b_in ? b_in : no_bias(&c, &k), b ? b : no_bias(&c, &k), 1)
                             : joined(&c, b, no_bias(&c, &k), 1);
    const char *in[] = { k.x, w, u, both, NULL, h };
    rq_chain_nodes(&c, k.onnx, in, 6, out, 2);
    rq_chain_set_int(&c, "hidden_size", k.h);
    rq_chain_set_int(&c, "linear_before_reset", after != 0);
    activations(&c, &k, params, usual, 2);
    const char *last = state_out(&c, &k, out[1]);
    give_sequence(&c, &k, out[0], last);
    return rq_chain_end(&c, 1, last);
}

static rq_status rnn(reader *r, const rq_mil_op *op)
{
    static const int gates[] = { 0 };
    static const char *const params[] = { "activation" }, *const usual[] = { "tanh" };
    const char *out[2] = { NULL, NULL };
    chain c = rq_chain_begin(r, op);
    const cell k = cell_of(&c, "RNN", gates, 1);
    const char *w = weights(&c, &k, "weight_ih", NULL, gates, 1), *u = weights(&c, &k, "weight_hh", NULL, gates, 1),
               *b = weights(&c, &k, "bias", NULL, gates, 1);
    const char *h = state_in(&c, &k, rq_chain_in(&c, "initial_h"));
    if (!w || !u)
        return c.st ? c.st : rq_fail(r->err, RQ_BAD_FILE, "weights are missing");
    const char *in[] = { k.x, w, u, b ? joined(&c, b, no_bias(&c, &k), 1) : NULL, NULL, h };
    rq_chain_nodes(&c, k.onnx, in, 6, out, 2);
    rq_chain_set_int(&c, "hidden_size", k.h);
    activations(&c, &k, params, usual, 1);
    const char *last = state_out(&c, &k, out[1]);
    give_sequence(&c, &k, out[0], last);
    return rq_chain_end(&c, 1, last);
}

const rq_mil_row rq_mil_rows_recurrent[] = {
    { "gru", gru, "GRU", NULL },
    { "lstm", lstm, "LSTM; Loop", NULL },
    { "rnn", rnn, "RNN", NULL },
    { NULL, NULL, NULL, NULL },
};
