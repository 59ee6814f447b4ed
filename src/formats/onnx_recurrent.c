/* formats/onnx_recurrent.c — DynamicQuantizeGRU and DynamicQuantizeRNN of domain "requant" (ops/recurrent_int.c) as functions of the model in operators of the
 * standard, so that any runtime runs a file that has them (docs/decisions/0013): what the node computes, with the same integers.
 *
 *   the input    quantized as a whole by DynamicQuantizeLinear, times W by MatMulInteger, scaled, the bias on top
 *   a step       in a Scan per direction: the state quantized, times R, scaled, gates. What has ended counts as zeros
 *
 * A function is written for the node that calls it, by its attributes and by which inputs and outputs it has, since functions can neither choose by a string nor ask
 * whether an input is there. Which node calls which: onnx_recurrent_calls.c. */
#include <stdio.h>
#include <string.h>

#include "formats/onnx.h"
#include "formats/onnx_spell.h"
#include "ops/recurrent.h"

enum { BIAS = 3, LENGTHS = 4, STATE = 5, MAX_PREFIX = 2 };

/* The node as its body sees it. */
typedef struct cell {
    rq_recurrent_cell kind;
    int dirs;
    bool reverse, batch_first, behind, bias, lengths, state,
        last; /* behind: linear_before_reset; last: Y_h is wanted */
    float clip;
    rq_recurrent_activation f[RQ_RECURRENT_MAX_ACTIVATIONS];
} cell;

/* ---- what a node says ---- */

static bool is_text(const ProtobufCBinaryData *a, const char *b)
{
    return a->len == strlen(b) && !memcmp(a->data, b, a->len);
}

bool rq_onnx_recurrent_is(const Onnx__NodeProto *n)
{
    return is_text(&n->domain, "requant") &&
           (is_text(&n->op_type, "DynamicQuantizeGRU") || is_text(&n->op_type, "DynamicQuantizeRNN"));
}

static const Onnx__AttributeProto *find_attr(const Onnx__NodeProto *n, const char *name)
{
    for (size_t i = 0; i < n->n_attribute; i++)
        if (is_text(&n->attribute[i]->name, name))
            return n->attribute[i];
    return NULL;
}

static bool is_int(const Onnx__NodeProto *n, const char *name)
{
    const Onnx__AttributeProto *a = find_attr(n, name);
    return a && a->i != 0;
}

/* RQ_BAD_GRAPH: activations that are none; the reader of the node says so in its words. */
static rq_status read_activations(cell *c, const Onnx__NodeProto *n, rq_arena *a)
{
    const Onnx__AttributeProto *names = find_attr(n, "activations"), *alpha = find_attr(n, "activation_alpha"),
                               *beta = find_attr(n, "activation_beta");
    const size_t count = names ? names->n_strings : 0;
    rq_bytes *list = rq_arena_alloc(a, count + 1, sizeof *list);
    const char *bad;
    if (!list)
        return RQ_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const char *text = rq_arena_strndup(a, (const char *)names->strings[i].data, names->strings[i].len);
        if (!text)
            return RQ_NO_MEMORY;
        list[i] = rq_bytes_of(text, strlen(text));
    }
    const rq_recurrent_names said = { .name = names ? list : NULL,
                                      .n = (int)count,
                                      .alpha = alpha ? alpha->floats : NULL,
                                      .n_alpha = alpha ? (int)alpha->n_floats : 0,
                                      .beta = beta ? beta->floats : NULL,
                                      .n_beta = beta ? (int)beta->n_floats : 0 };
    return rq_recurrent_activations(c->kind, c->dirs, &said, c->f, &bad);
}

static bool has_input(const Onnx__NodeProto *n, size_t i)
{
    return i < n->n_input && n->input[i].len;
}

static rq_status read_cell(cell *c, const Onnx__NodeProto *n, rq_arena *a)
{
    const Onnx__AttributeProto *direction = find_attr(n, "direction"), *clip = find_attr(n, "clip");
    *c = (cell) { .kind = is_text(&n->op_type, "DynamicQuantizeGRU") ? RQ_RECURRENT_GRU : RQ_RECURRENT_RNN,
                  .dirs = direction && is_text(&direction->s, "bidirectional") ? 2 : 1,
                  .reverse = direction && is_text(&direction->s, "reverse"),
                  .batch_first = is_int(n, "layout"),
                  .bias = has_input(n, BIAS),
                  .lengths = has_input(n, LENGTHS),
                  .state = has_input(n, STATE),
                  .last = n->n_output > 1,
                  .clip = clip ? clip->f : 0 };
    c->behind = c->kind == RQ_RECURRENT_GRU && is_int(n, "linear_before_reset");
    return read_activations(c, n, a);
}

/* ---- a step ---- */

/* A step while it is written, into the body of a Scan. */
typedef struct step {
    rq_onnx_spell s;
    const cell *c;
    const rq_recurrent_activation *f;
    char p; /* what names of its direction begin with */
    int n;  /* of names made up so far */
} step;

/* y = x times the codes of R called `part`: pR, pR_scale, pR_zero. */
static void say_product(step *t, const char *y, const char *x, const char *part)
{
    const char p = t->p;
    rq_onnx_spell_node(&t->s, "%c_%s_codes %c_%s_scale %c_%s_zero = DynamicQuantizeLinear %s", p, y, p, y, p, y, x);
    rq_onnx_spell_node(&t->s, "%c_%s_sums = MatMulInteger %c_%s_codes %c_%s %c_%s_zero %c_%s_zero", p, y, p, y, p, part,
                       p, y, p, part);
    rq_onnx_spell_node(&t->s, "%c_%s_reals = Cast %c_%s_sums to=1", p, y, p, y);
    rq_onnx_spell_node(&t->s, "%c_%s_scales = Mul %c_%s_scale %c_%s_scale", p, y, p, y, p, part);
    rq_onnx_spell_node(&t->s, "%c_%s = Mul %c_%s_reals %c_%s_scales", p, y, p, y, p, y);
}

static void say_parameters(step *t, Onnx__NodeProto *n, const rq_recurrent_activation *f)
{
    const bool beta = f->name == RQ_WORD_HardSigmoid;
    if (beta || f->name == RQ_WORD_LeakyRelu || f->name == RQ_WORD_ThresholdedRelu || f->name == RQ_WORD_Elu)
        rq_onnx_spell_attr_float(&t->s, n, "alpha", f->alpha);
    if (beta)
        rq_onnx_spell_attr_float(&t->s, n, "beta", f->beta);
}

/* y = f(clipped x) */
static void say_activation(step *t, const char *y, const char *x, const rq_recurrent_activation *f)
{
    rq_onnx_spell *s = &t->s;
    char in[32];
    const int n = t->n++;
    snprintf(in, sizeof in, "%c_%s", t->p, x);
    if (t->c->clip > 0) {
        rq_onnx_spell_node(s, "%c_clipped%d = Clip %s clip_lo clip_hi", t->p, n, in);
        snprintf(in, sizeof in, "%c_clipped%d", t->p, n);
    }
    if (f->name != RQ_WORD_Affine && f->name != RQ_WORD_ScaledTanh) {
        say_parameters(t, rq_onnx_spell_node(s, "%c_%s = %s %s", t->p, y, rq_word_text(f->name), in), f);
        return;
    }
    char alpha[32], beta[32];
    snprintf(alpha, sizeof alpha, "%c_alpha%d", t->p, n);
    snprintf(beta, sizeof beta, "%c_beta%d", t->p, n);
    rq_onnx_spell_float(s, alpha, f->alpha);
    rq_onnx_spell_float(s, beta, f->beta);
    if (f->name == RQ_WORD_Affine) {
        rq_onnx_spell_node(s, "%c_times%d = Mul %s %s", t->p, n, alpha, in);
        rq_onnx_spell_node(s, "%c_%s = Add %c_times%d %s", t->p, y, t->p, n, beta);
        return;
    }
    rq_onnx_spell_node(s, "%c_times%d = Mul %s %s", t->p, n, beta, in);
    rq_onnx_spell_node(s, "%c_tanh%d = Tanh %c_times%d", t->p, n, t->p, n);
    rq_onnx_spell_node(s, "%c_%s = Mul %s %c_tanh%d", t->p, y, alpha, t->p, n);
}

/* y = the units from..to (names of bounds) of x, along its last axis. */
static void say_units(step *t, const char *y, const char *x, const char *from, const char *to)
{
    rq_onnx_spell_node(&t->s, "%c_%s = Slice %c_%s %s %s last", t->p, y, t->p, x, from, to);
}

static void say_gru(step *t, const char *seen)
{
    rq_onnx_spell *s = &t->s;
    const char p = t->p;
    say_product(t, "given", seen, "r");
    say_units(t, "x_zr", "x", "zero", "double");
    say_units(t, "x_h", "x", "double", "triple");
    if (t->c->behind) {
        say_units(t, "given_zr", "given", "zero", "double");
        say_units(t, "given_h", "given", "double", "triple");
    }
    rq_onnx_spell_node(s, "%c_zr_in = Add %c_%s %c_x_zr", p, p, t->c->behind ? "given_zr" : "given", p);
    say_activation(t, "zr", "zr_in", &t->f[0]);
    say_units(t, "z", "zr", "zero", "hidden");
    say_units(t, "reset", "zr", "hidden", "double");
    if (t->c->behind) {
        if (t->c->bias)
            rq_onnx_spell_node(s, "%c_inside = Add %c_given_h %c_r_bias", p, p, p);
        rq_onnx_spell_node(s, "%c_k = Mul %c_reset %c_%s", p, p, p, t->c->bias ? "inside" : "given_h");
    } else {
        char kept[16];
        snprintf(kept, sizeof kept, "%c_kept", p);
        rq_onnx_spell_node(s, "%s = Mul %c_reset %c_state", kept, p, p);
        if (t->c->lengths) {
            rq_onnx_spell_node(s, "%c_kept_alive = Where %c_alive %s nothing", p, p, kept);
            snprintf(kept, sizeof kept, "%c_kept_alive", p);
        }
        say_product(t, "k", kept, "rk");
    }
    rq_onnx_spell_node(s, "%c_h_in = Add %c_k %c_x_h", p, p, p);
    say_activation(t, "h", "h_in", &t->f[1]);
    rq_onnx_spell_node(s, "%c_rest = Sub real_one %c_z", p, p);
    rq_onnx_spell_node(s, "%c_fresh = Mul %c_rest %c_h", p, p, p);
    rq_onnx_spell_node(s, "%c_old = Mul %c_z %c_state", p, p, p);
    rq_onnx_spell_node(s, "%c_new = Add %c_fresh %c_old", p, p, p);
}

static void say_rnn(step *t, const char *seen)
{
    say_product(t, "given", seen, "r");
    rq_onnx_spell_node(&t->s, "%c_in = Add %c_given %c_x", t->p, t->p, t->p);
    say_activation(t, "new", "in", &t->f[0]);
}

/* Inputs: the state [1, batch, hidden], the input's share [batch, gates * hidden], with lengths the number of the step. Outputs: the state, the state [batch, hidden]
 * or zeros where the sequence has ended. */
static void say_step(step *t)
{
    rq_onnx_spell *s = &t->s;
    const char p = t->p;
    char seen[16];
    snprintf(seen, sizeof seen, "%c_%s", p, t->c->lengths ? "seen" : "state");
    if (t->c->lengths) {
        rq_onnx_spell_node(s, "%c_alive = Less %c_at ends", p, p);
        rq_onnx_spell_node(s, "%s = Where %c_alive %c_state nothing", seen, p, p);
    }
    if (t->c->kind == RQ_RECURRENT_GRU)
        say_gru(t, seen);
    else
        say_rnn(t, seen);
    if (t->c->lengths) {
        rq_onnx_spell_node(s, "%c_next = Where %c_alive %c_new %c_state", p, p, p, p);
        rq_onnx_spell_node(s, "%c_shown = Where %c_alive %c_new nothing", p, p, p);
    }
    rq_onnx_spell_node(s, "%c_y_row = Gather %c_%s first axis=0", p, p, t->c->lengths ? "shown" : "new");
}

/* ---- around the steps ---- */

/* What all directions share. */
static void say_shared(rq_onnx_spell *s, const cell *c)
{
    const int64_t numbers[] = { 0, 1, 2, 3, -1 }, row[] = { 1, -1, 1 };
    static const char *const names[] = { "zero", "one", "two", "three", "last" };
    const char *x = c->batch_first ? "x" : "X";
    for (int i = 0; i < 5; i++)
        rq_onnx_spell_ints(s, names[i], &numbers[i], 1);
    rq_onnx_spell_int(s, "first", 0);
    rq_onnx_spell_int(s, "second", 1);
    if (c->batch_first)
        rq_onnx_spell_node(s, "x = Transpose X perm=1,0,2");
    rq_onnx_spell_node(s, "x_shape = Shape %s", x);
    rq_onnx_spell_node(s, "r_shape = Shape R");
    rq_onnx_spell_node(s, "steps = Slice x_shape zero one");
    rq_onnx_spell_node(s, "batch = Slice x_shape one two");
    rq_onnx_spell_node(s, "hidden = Slice r_shape one two");
    rq_onnx_spell_node(s, "columns = Slice r_shape two three");
    rq_onnx_spell_node(s, "y_shape = Concat steps one batch hidden axis=0");
    if (c->kind == RQ_RECURRENT_GRU) {
        rq_onnx_spell_float(s, "real_one", 1);
        rq_onnx_spell_node(s, "double = Add hidden hidden");
        rq_onnx_spell_node(s, "triple = Add double hidden");
    }
    if (c->bias)
        rq_onnx_spell_node(s, "twice = Add columns columns");
    if (c->lengths) {
        rq_onnx_spell_ints(s, "row", row, 3);
        rq_onnx_spell_float(s, "nothing", 0);
        rq_onnx_spell_node(s, "lengths = Cast sequence_lens to=7");
        rq_onnx_spell_node(s, "ends = Reshape lengths row");
        rq_onnx_spell_node(s, "count = Gather x_shape first axis=0");
        rq_onnx_spell_node(s, "times = Range first count second");
    }
    if (c->clip > 0) {
        rq_onnx_spell_float(s, "clip_lo", -c->clip);
        rq_onnx_spell_float(s, "clip_hi", c->clip);
    }
    if (!c->state) {
        rq_onnx_spell_node(s, "state_shape = Concat one batch hidden axis=0");
        rq_onnx_spell_node(s, "states = ConstantOfShape state_shape");
    } else if (c->batch_first) {
        rq_onnx_spell_node(s, "states = Transpose initial_h perm=1,0,2");
    }
    rq_onnx_spell_node(s, "x_codes x_scale x_zero = DynamicQuantizeLinear %s", x);
}

/* Bias of W and R together, but for the part of R that stays inside the reset. */
static void say_bias(rq_onnx_spell *s, const cell *c, char p, const char *at)
{
    rq_onnx_spell_node(s, "%c_b = Gather B %s axis=0", p, at);
    rq_onnx_spell_node(s, "%c_bw = Slice %c_b zero columns", p, p);
    rq_onnx_spell_node(s, "%c_br = Slice %c_b columns twice", p, p);
    if (!c->behind) {
        rq_onnx_spell_node(s, "%c_bias = Add %c_bw %c_br", p, p, p);
        return;
    }
    rq_onnx_spell_node(s, "%c_bw_zr = Slice %c_bw zero double", p, p);
    rq_onnx_spell_node(s, "%c_br_zr = Slice %c_br zero double", p, p);
    rq_onnx_spell_node(s, "%c_bw_h = Slice %c_bw double triple", p, p);
    rq_onnx_spell_node(s, "%c_r_bias = Slice %c_br double triple", p, p);
    rq_onnx_spell_node(s, "%c_b_zr = Add %c_bw_zr %c_br_zr", p, p, p);
    rq_onnx_spell_node(s, "%c_bias = Concat %c_b_zr %c_bw_h axis=0", p, p, p);
}

/* What the input gives to the gates of all steps: p_share. */
static void say_input(rq_onnx_spell *s, const cell *c, char p, const char *at)
{
    rq_onnx_spell_node(s, "%c_w = Gather W %s axis=0", p, at);
    rq_onnx_spell_node(s, "%c_w_scale = Gather W_scale %s axis=0", p, at);
    rq_onnx_spell_node(s, "%c_w_zero = Gather W_zero_point %s axis=0", p, at);
    rq_onnx_spell_node(s, "%c_sums = MatMulInteger x_codes %c_w x_zero %c_w_zero", p, p, p);
    rq_onnx_spell_node(s, "%c_reals = Cast %c_sums to=1", p, p);
    rq_onnx_spell_node(s, "%c_scales = Mul x_scale %c_w_scale", p, p);
    rq_onnx_spell_node(s, "%c_%s = Mul %c_reals %c_scales", p, c->bias ? "part" : "share", p, p);
    if (c->bias) {
        say_bias(s, c, p, at);
        rq_onnx_spell_node(s, "%c_share = Add %c_part %c_bias", p, p, p);
    }
}

/* R with its scale and zero point: p_r; where a GRU resets its state p_r of gates z and r, p_rk of the third. */
static void say_recurrence(rq_onnx_spell *s, const cell *c, char p, const char *at)
{
    if (c->kind != RQ_RECURRENT_GRU || c->behind) {
        rq_onnx_spell_node(s, "%c_r = Gather R %s axis=0", p, at);
        rq_onnx_spell_node(s, "%c_r_scale = Gather R_scale %s axis=0", p, at);
        rq_onnx_spell_node(s, "%c_r_zero = Gather R_zero_point %s axis=0", p, at);
        return;
    }
    rq_onnx_spell_node(s, "%c_all = Gather R %s axis=0", p, at);
    rq_onnx_spell_node(s, "%c_some_scale = Gather R_scale %s axis=0", p, at);
    rq_onnx_spell_node(s, "%c_some_zero = Gather R_zero_point %s axis=0", p, at);
    rq_onnx_spell_node(s, "%c_all_scale = Expand %c_some_scale columns", p, p);
    rq_onnx_spell_node(s, "%c_all_zero = Expand %c_some_zero columns", p, p);
    for (int i = 0; i < 2; i++) {
        const char *part = i ? "rk" : "r", *bounds = i ? "double triple" : "zero double";
        rq_onnx_spell_node(s, "%c_%s = Slice %c_all %s last", p, part, p, bounds);
        rq_onnx_spell_node(s, "%c_%s_scale = Slice %c_all_scale %s", p, part, p, bounds);
        rq_onnx_spell_node(s, "%c_%s_zero = Slice %c_all_zero %s", p, part, p, bounds);
    }
}

/* The steps of a direction: p_y [steps, 1, batch, hidden], p_last [1, batch, hidden]. Backwards, sequences of their own lengths are turned around each. */
static void say_direction(rq_onnx_spell *s, const cell *c, int dir)
{
    const char p = dir ? 'b' : 'f';
    const bool backwards = dir || c->reverse, turned = backwards && c->lengths;
    const char *at = dir ? "second" : "first", *share = turned ? "turned" : "share", *order = "";
    step t = { .s = { .a = s->a }, .c = c, .f = c->f + dir * rq_recurrent_functions(c->kind), .p = p };
    char inputs[64], outputs[64];
    say_input(s, c, p, at);
    say_recurrence(s, c, p, at);
    if (!c->state)
        rq_onnx_spell_node(s, "%c_begin = Identity states", p);
    else
        rq_onnx_spell_node(s, "%c_begin = Slice %s %s", p, c->batch_first ? "states" : "initial_h",
                           dir ? "one two" : "zero one");
    if (turned)
        rq_onnx_spell_node(s, "%c_turned = ReverseSequence %c_share lengths batch_axis=1 time_axis=0", p, p);
    else if (backwards)
        order = " scan_input_directions=1, scan_output_directions=1,";
    say_step(&t);
    Onnx__NodeProto *scan = rq_onnx_spell_node(s, "%c_last %c_rows = Scan %c_begin %c_%s%s num_scan_inputs=%d%s", p, p,
                                               p, p, share, c->lengths ? " times" : "", 1 + c->lengths, order);
    snprintf(inputs, sizeof inputs, c->lengths ? "%c_state %c_x %c_at" : "%c_state %c_x", p, p, p);
    snprintf(outputs, sizeof outputs, "%c_%s %c_y_row", p, c->lengths ? "next" : "new", p);
    rq_onnx_spell_attr_graph(s, scan, "body", &t.s, inputs, outputs);
    if (turned)
        rq_onnx_spell_node(s, "%c_back = ReverseSequence %c_rows lengths batch_axis=1 time_axis=0", p, p);
    rq_onnx_spell_node(s, "%c_y = Reshape %c_%s y_shape", p, p, turned ? "back" : "rows");
}

static void say_outputs(rq_onnx_spell *s, const cell *c)
{
    rq_onnx_spell_node(s, "%s = Concat f_y%s axis=1", c->batch_first ? "y_all" : "Y", c->dirs > 1 ? " b_y" : "");
    if (c->batch_first)
        rq_onnx_spell_node(s, "Y = Transpose y_all perm=2,0,1,3");
    if (!c->last) /* a call has the outputs of its function */
        return;
    rq_onnx_spell_node(s, "%s = Concat f_last%s axis=0", c->batch_first ? "y_last" : "Y_h",
                       c->dirs > 1 ? " b_last" : "");
    if (c->batch_first)
        rq_onnx_spell_node(s, "Y_h = Transpose y_last perm=1,0,2");
}

/* ---- functions ---- */

rq_status rq_onnx_recurrent_spell(Onnx__FunctionProto **out, const Onnx__NodeProto *n, int64_t opset, rq_arena *a)
{
    rq_onnx_spell s = { .a = a };
    cell c;
    RQ_TRY(read_cell(&c, n, a));
    Onnx__FunctionProto *f = rq_arena_alloc(a, 1, sizeof *f);
    Onnx__OperatorSetIdProto *import = rq_arena_alloc(a, 1, sizeof *import),
                             **imports = rq_arena_alloc(a, 1, sizeof import);
    if (!f || !import || !imports)
        return RQ_NO_MEMORY;
    say_shared(&s, &c);
    for (int dir = 0; dir < c.dirs; dir++)
        say_direction(&s, &c, dir);
    say_outputs(&s, &c);
    onnx__function_proto__init(f);
    f->name = n->op_type;
    f->domain = n->domain;
    f->has_name = f->has_domain = true;
    f->input = rq_onnx_spell_names(&s, "X W R B sequence_lens initial_h W_scale W_zero_point R_scale R_zero_point",
                                   &f->n_input);
    f->output = rq_onnx_spell_names(&s, c.last ? "Y Y_h" : "Y", &f->n_output);
    f->node = s.node;
    f->n_node = s.n;
    onnx__operator_set_id_proto__init(import);
    import->has_domain = import->has_version = true;
    import->domain = rq_onnx_spell_text("");
    import->version = opset;
    *imports = import;
    f->opset_import = imports;
    f->n_opset_import = 1;
    *out = f;
    return s.failed ? RQ_NO_MEMORY : RQ_OK;
}
