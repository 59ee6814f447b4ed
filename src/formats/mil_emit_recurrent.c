/* formats/mil_emit_recurrent.c — rows of LSTM, GRU and RNN. Core ML has other orders of gates than ONNX (LSTM: i f o c for i o f c; GRU: r h z
 * for z r h), one bias where ONNX has two, and the directions of an LSTM side by side in one axis. */
#include "formats/mil_expr.h"

#include <string.h>
#include <strings.h>

typedef rq_mil_expr_val val;

enum { LSTM, GRU, RNN };

typedef struct layer {
    int cell, dirs, gates;
    bool batch_first;
    int64_t steps, batch, hidden;
    const rq_tensor *w, *r, *b, *p; /* of all directions; b, p may be NULL */
    const char *f[3];               /* activations as Core ML calls them */
} layer;

/* Rows of gates of direction d in Core ML's order: [gates * hidden][columns] of t [dirs][given * hidden][columns], from its row `from`
 * on; what stands at `also` rows further is added (< 0: nothing). */
static val gates_of(rq_mil_expr *x, const layer *l, const rq_tensor *t, int d, int n_gates, const int *order, int given,
                    int64_t from, int64_t also)
{
    const int64_t h = l->hidden, cols = t->shape.rank > 2 ? t->shape.dim[2] : 1, base = d * given * h * cols;
    const rq_shape shape = t->shape.rank > 2 ? rq_shape_of(2, (int64_t[]) { n_gates * h, cols })
                                             : rq_shape_of(1, (int64_t[]) { n_gates * h });
    rq_tensor *own;
    const val v = rq_mil_expr_new(x, RQ_DTYPE_F32, &shape, &own);
    for (int g = 0; own && g < n_gates; g++)
        for (int64_t i = 0; i < h * cols; i++) {
            const int64_t at = base + (from + order[g] * h) * cols + i;
            double sum = rq_tensor_get(t, at);
            if (also >= 0)
                sum += rq_tensor_get(t, at + also * cols);
            own->f32[g * h * cols + i] = (float)sum;
        }
    return v;
}

/* The activations of a direction; they must be those of all others and take no parameters. */
static bool read_activations(rq_mil_expr *x, layer *l)
{
    static const char *const defaults[][3] = { { "Sigmoid", "Tanh", "Tanh" }, { "Sigmoid", "Tanh" }, { "Tanh" } };
    static const char *const known[][2] = { { "Sigmoid", "sigmoid" }, { "Tanh", "tanh" }, { "Relu", "relu" } };
    const rq_attr *names = rq_attr_find(x->n, RQ_WORD_activations);
    const int each = l->cell == LSTM ? 3 : l->cell == GRU ? 2 : 1;
    for (int i = 0; i < each; i++) {
        const char *name = names && names->n >= each ? names->strings[i].p : defaults[l->cell][i];
        for (int d = 1; names && d < l->dirs && d * each + i < names->n; d++)
            if (strcasecmp(names->strings[d * each + i].p, name) != 0)
                name = "";
        l->f[i] = NULL;
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
            if (!strcasecmp(known[k][0], name))
                l->f[i] = known[k][1];
        if (!l->f[i]) {
            rq_mil_expr_refuse(x, 0, "activations other than sigmoid, tanh and relu, or others in each direction,");
            return false;
        }
    }
    return true;
}

/* Are all sequences as long as the input is? */
static bool whole_sequences(rq_mil_expr *x, int64_t steps)
{
    const rq_tensor *t = rq_mil_expr_const(x, 4);
    bool all = !rq_mil_expr_has(x, 4) || (t && steps >= 0);
    for (int64_t i = 0, n = t ? rq_tensor_count(t) : 0; i < n; i++)
        all &= rq_tensor_get_int(t, i) == steps;
    if (!all)
        rq_mil_expr_refuse(x, 0, "sequence_lens");
    return all;
}

static bool open_layer(rq_mil_expr *x, layer *l, val *in)
{
    const rq_node *n = x->n;
    *l = (layer) { .cell = !strcmp(n->op, "LSTM") ? LSTM : !strcmp(n->op, "GRU") ? GRU : RNN };
    l->dirs = !strcmp(rq_attr_string(n, RQ_WORD_direction, "forward"), "bidirectional") ? 2 : 1;
    l->gates = l->cell == LSTM ? 4 : l->cell == GRU ? 3 : 1;
    l->batch_first = rq_attr_int(n, RQ_WORD_layout, 0) != 0;
    *in = rq_mil_expr_in(x, 0);
    l->w = rq_mil_expr_const(x, 1);
    l->r = rq_mil_expr_const(x, 2);
    l->b = rq_mil_expr_const(x, 3);
    l->p = rq_mil_expr_const(x, 7);
    if (x->st || in->shape.rank != 3)
        return !rq_mil_expr_refuse(x, 0, "an input of other than three axes");
    if (!l->w || !l->r || (rq_mil_expr_has(x, 3) && !l->b) || (rq_mil_expr_has(x, 7) && !l->p))
        return !rq_mil_expr_refuse(x, 0, "weights that are computed");
    if (x->e->half && x->e->target < RQ_COREML_IOS17)
        return !rq_mil_expr_refuse(x, RQ_COREML_IOS17, "a recurrent layer in fp16");
    if (rq_attr_find(n, RQ_WORD_clip))
        return !rq_mil_expr_refuse(x, 0, "clip");
    if (rq_attr_int(n, RQ_WORD_input_forget, 0))
        return !rq_mil_expr_refuse(x, 0, "input_forget");
    l->hidden = l->r->shape.rank == 3 ? l->r->shape.dim[2] : -1;
    const int64_t rows = l->gates * l->hidden;
    if (l->hidden < 1 || l->w->shape.rank != 3 || l->w->shape.dim[0] != l->dirs || l->w->shape.dim[1] != rows ||
        rq_tensor_count(l->r) != l->dirs * rows * l->hidden || (l->b && rq_tensor_count(l->b) != 2 * l->dirs * rows) ||
        (l->p && rq_tensor_count(l->p) != 3 * l->dirs * l->hidden))
        return !rq_mil_expr_refuse(x, 0, "weights of sizes that do not fit");
    if (l->batch_first)
        *in = rq_mil_expr_transpose(x, *in, (const int64_t[]) { 1, 0, 2 });
    l->steps = in->shape.dim[0];
    l->batch = in->shape.dim[1];
    return whole_sequences(x, l->steps) && read_activations(x, l);
}

/* The state [batch, dirs * hidden] that a layer begins with: input i, or zeros. */
static val first_state(rq_mil_expr *x, const layer *l, val in, int i, int dir, int dirs)
{
    rq_shape shape = rq_shape_of(2, (int64_t[]) { l->batch, dirs * l->hidden });
    rq_tensor *t;
    if (!rq_mil_expr_has(x, i)) {
        if (l->batch >= 0)
            return rq_mil_expr_new(x, RQ_DTYPE_F32, &shape, &t);
        const rq_shape all = rq_shape_of(1, (int64_t[]) { 3 }), one = rq_shape_of(1, (int64_t[]) { 1 });
        const val sizes = EXPR_OP(x, "shape", RQ_DTYPE_S32, &all, EXPR_V("x", &in));
        val part[2] = { rq_mil_expr_slice(x, sizes, 0, 1, 2), rq_mil_expr_new(x, RQ_DTYPE_S64, &one, &t) };
        if (t)
            t->s64[0] = dirs * l->hidden;
        const val list = rq_mil_expr_concat(x, part, 2, 0), zero = rq_mil_expr_num(0, RQ_DTYPE_F32);
        return EXPR_OP(x, "fill", RQ_DTYPE_F32, &shape, EXPR_V("shape", &list), EXPR_V("value", &zero));
    }
    const val given = rq_mil_expr_in(x, i); /* [dirs, batch, hidden], or batch first */
    const int axis = l->batch_first ? 1 : 0;
    val part[2];
    shape.dim[1] = l->hidden;
    for (int d = 0; d < dirs; d++) {
        const val one = l->dirs > 1 ? rq_mil_expr_slice(x, given, axis, dir + d, dir + d + 1) : given;
        part[d] = EXPR_OP(x, "squeeze", one.d, &shape, EXPR_V("x", &one), EXPR_IS("axes", &(int64_t) { axis }, 1));
    }
    return dirs > 1 ? rq_mil_expr_concat(x, part, 2, 1) : part[0];
}

/* Output `at` of the node: one value per direction, each with a new axis. */
static void give(rq_mil_expr *x, const layer *l, int at, const val *v, int axis)
{
    val part[2];
    if (!rq_mil_expr_wants(x, at) || x->st)
        return;
    for (int d = 0; d < l->dirs; d++) {
        rq_shape wide = v[d].shape;
        for (int i = wide.rank; i > axis; i--)
            wide.dim[i] = wide.dim[i - 1];
        wide.rank++;
        wide.dim[axis] = 1;
        part[d] = EXPR_OP(l->dirs == 1 ? rq_mil_expr_last_at(x, at) : x, "expand_dims", v[d].d, &wide,
                          EXPR_V("x", &v[d]), EXPR_IS("axes", &(int64_t) { axis }, 1));
    }
    if (l->dirs > 1)
        rq_mil_expr_concat(rq_mil_expr_last_at(x, at), part, l->dirs, axis);
}

static void give_all(rq_mil_expr *x, const layer *l, val *seq, const val *h, const val *c)
{
    for (int d = 0; d < l->dirs && l->batch_first && rq_mil_expr_wants(x, 0); d++)
        seq[d] = rq_mil_expr_transpose(x, seq[d], (const int64_t[]) { 1, 0, 2 });
    give(x, l, 0, seq, l->batch_first ? 2 : 1);
    give(x, l, 1, h, l->batch_first ? 1 : 0);
    if (c)
        give(x, l, 2, c, l->batch_first ? 1 : 0);
}

static void outputs_of(const layer *l, int dirs, val out[3])
{
    for (int i = 0; i < 3; i++)
        out[i] = (val) { .id = RQ_NONE,
                         .d = RQ_DTYPE_F32,
                         .shape = i ? rq_shape_of(2, (int64_t[]) { l->batch, dirs * l->hidden })
                                    : rq_shape_of(3, (int64_t[]) { l->steps, l->batch, dirs * l->hidden }) };
}

/* A direction that is reversed is a forward one of reversed input: what Core ML calls "reverse" gives its steps in the order of making. */
static bool is_reversed(const layer *l, const rq_node *n, int d)
{
    return l->dirs > 1 ? d == 1 : !strcmp(rq_attr_string(n, RQ_WORD_direction, "forward"), "reverse");
}

static val reversed(rq_mil_expr *x, val a)
{
    return EXPR_OP(x, "reverse", a.d, &a.shape, EXPR_V("x", &a), EXPR_IS("axes", &(int64_t) { 0 }, 1));
}

static const rq_id none[3] = { RQ_NONE, RQ_NONE, RQ_NONE };

/* Both directions are one operation. */
static rq_status lstm(rq_mil_emitter *e, const rq_node *n)
{
    static const int order[] = { 0, 2, 1, 3 }, peep[] = { 0, 2, 1 };
    rq_mil_expr x = rq_mil_expr_of(e, n);
    layer l;
    val in, w[2], r[2], b[2], p[2], out[3], seq[2], h[2], c[2];
    if (!open_layer(&x, &l, &in))
        return x.st;
    const val h0 = first_state(&x, &l, in, 5, 0, l.dirs), c0 = first_state(&x, &l, in, 6, 0, l.dirs);
    for (int d = 0; d < l.dirs; d++) {
        w[d] = gates_of(&x, &l, l.w, d, 4, order, 4, 0, -1);
        r[d] = gates_of(&x, &l, l.r, d, 4, order, 4, 0, -1);
        b[d] = l.b ? gates_of(&x, &l, l.b, d, 4, order, 8, 0, 4 * l.hidden) : in;
        p[d] = l.p ? gates_of(&x, &l, l.p, d, 3, peep, 3, 0, -1) : in;
    }
    const bool two = l.dirs > 1, turned = !two && is_reversed(&l, n, 0);
    if (turned)
        in = reversed(&x, in);
    outputs_of(&l, l.dirs, out);
    rq_mil_expr_op_many(&x, "lstm", out, none, 3,
                        (const rq_mil_expr_arg[]) { EXPR_V("x", &in),
                                                    EXPR_V("initial_h", &h0),
                                                    EXPR_V("initial_c", &c0),
                                                    EXPR_V("weight_ih", &w[0]),
                                                    EXPR_V("weight_hh", &r[0]),
                                                    EXPR_WHEN(l.b, EXPR_V("bias", &b[0])),
                                                    EXPR_WHEN(l.p, EXPR_V("peephole", &p[0])),
                                                    EXPR_WHEN(two, EXPR_V("weight_ih_back", &w[1])),
                                                    EXPR_WHEN(two, EXPR_V("weight_hh_back", &r[1])),
                                                    EXPR_WHEN(two && l.b, EXPR_V("bias_back", &b[1])),
                                                    EXPR_WHEN(two && l.p, EXPR_V("peephole_back", &p[1])),
                                                    EXPR_T("direction", two ? "bidirectional" : "forward"),
                                                    EXPR_B("output_sequence", true),
                                                    EXPR_T("recurrent_activation", l.f[0]),
                                                    EXPR_T("cell_activation", l.f[1]),
                                                    EXPR_T("activation", l.f[2]),
                                                    { .kind = RQ_MIL_EXPR_END } });
    for (int d = 0; d < l.dirs; d++) {
        const int64_t from = d * l.hidden, to = from + l.hidden;
        seq[d] = two && rq_mil_expr_wants(&x, 0) ? rq_mil_expr_slice(&x, out[0], 2, from, to) : out[0];
        h[d] = two && rq_mil_expr_wants(&x, 1) ? rq_mil_expr_slice(&x, out[1], 1, from, to) : out[1];
        c[d] = two && rq_mil_expr_wants(&x, 2) ? rq_mil_expr_slice(&x, out[2], 1, from, to) : out[2];
    }
    if (turned && rq_mil_expr_wants(&x, 0))
        seq[0] = reversed(&x, seq[0]);
    give_all(&x, &l, seq, h, c);
    return x.st;
}

/* One operation per direction. With linear_before_reset the biases of both sides stay apart, which iOS 18 has names for. */
static rq_status gru_or_rnn(rq_mil_emitter *e, const rq_node *n)
{
    static const int order[] = { 1, 2, 0 }, one[] = { 0 };
    rq_mil_expr x = rq_mil_expr_of(e, n);
    layer l;
    val in, seq[2], h[2];
    if (!open_layer(&x, &l, &in))
        return x.st;
    const bool gru = l.cell == GRU, after = gru && rq_attr_int(n, RQ_WORD_linear_before_reset, 0);
    const int *gates = gru ? order : one;
    if (after && e->target < RQ_COREML_IOS18)
        return rq_mil_expr_refuse(&x, RQ_COREML_IOS18, "linear_before_reset");
    for (int d = 0; d < l.dirs; d++) {
        const val h0 = first_state(&x, &l, in, 5, d, 1);
        const val w = gates_of(&x, &l, l.w, d, l.gates, gates, l.gates, 0, -1);
        const val r = gates_of(&x, &l, l.r, d, l.gates, gates, l.gates, 0, -1);
        const int64_t side = l.gates * l.hidden;
        const val b = !l.b    ? in
                      : after ? gates_of(&x, &l, l.b, d, l.gates, gates, 2 * l.gates, side, -1)
                              : gates_of(&x, &l, l.b, d, l.gates, gates, 2 * l.gates, 0, side);
        const val own = l.b && after ? gates_of(&x, &l, l.b, d, l.gates, gates, 2 * l.gates, 0, -1) : in;
        val out[3];
        const bool turned = is_reversed(&l, n, d);
        const val from = turned ? reversed(&x, in) : in;
        outputs_of(&l, 1, out);
        rq_mil_expr_op_many(&x, gru ? "gru" : "rnn", out, none, 2,
                            (const rq_mil_expr_arg[]) { EXPR_V("x", &from),
                                                        EXPR_V("initial_h", &h0),
                                                        EXPR_V("weight_ih", &w),
                                                        EXPR_V("weight_hh", &r),
                                                        EXPR_WHEN(l.b, EXPR_V("bias", &b)),
                                                        EXPR_T("direction", "forward"),
                                                        EXPR_B("output_sequence", true),
                                                        EXPR_WHEN(gru, EXPR_T("recurrent_activation", l.f[0])),
                                                        EXPR_T("activation", l.f[gru ? 1 : 0]),
                                                        EXPR_WHEN(after, EXPR_B("reset_after", true)),
                                                        EXPR_WHEN(after && l.b, EXPR_V("input_bias", &own)),
                                                        { .kind = RQ_MIL_EXPR_END } });
        seq[d] = turned && rq_mil_expr_wants(&x, 0) ? reversed(&x, out[0]) : out[0];
        h[d] = out[1];
    }
    give_all(&x, &l, seq, h, NULL);
    return x.st;
}

const rq_mil_emit_row rq_mil_emit_recurrent[] = {
    { .op = "GRU", .emit = gru_or_rnn },
    { .op = "LSTM", .emit = lstm },
    { .op = "RNN", .emit = gru_or_rnn },
    { .op = NULL },
};
