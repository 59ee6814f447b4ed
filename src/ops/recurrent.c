/* ops/recurrent.c — RNN, GRU, LSTM: all options of opsets 7 to 25.
 *
 * What the input contributes to the gates does not depend on the state, so it is one matrix product over the whole
 * sequence, made first; each step then adds the product of the state and R, [batch][hidden] x [hidden][gates], and
 * applies the activations, which are the kernels' (the same bits at every vector width). */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/gemm_f32.h"
#include "ops/elements.h"
#include "ops/moves.h"
#include "ops/packs.h"
#include "ops/recurrent.h"
#include "ops/rows.h"

typedef rq_recurrent_cell cell;

static cell cell_of(const rq_node *n)
{
    return n->row == &rq_op_lstm || n->row == &rq_op_ms_dynamic_quantize_lstm ? RQ_RECURRENT_LSTM
           : n->row == &rq_op_gru || n->row == &rq_op_dynamic_quantize_gru    ? RQ_RECURRENT_GRU
                                                                              : RQ_RECURRENT_RNN;
}

/* With weights in codes: W is [dirs][input][gates * hidden], R [dirs][hidden][gates * hidden], types are their own. */
static bool is_coded(const rq_node *n)
{
    return n->row && n->row->domain[0] != 0;
}

static rq_status read_activations(const rq_node *n, int n_dirs, rq_recurrent_activation *out, const char **bad)
{
    const rq_attr *names = rq_attr_find(n, RQ_WORD_activations);
    rq_recurrent_names said = { .name = names ? names->strings : NULL, .n = names ? names->n : 0 };
    said.alpha = rq_attr_floats(n, RQ_WORD_activation_alpha, &said.n_alpha);
    said.beta = rq_attr_floats(n, RQ_WORD_activation_beta, &said.n_beta);
    return rq_recurrent_activations(cell_of(n), n_dirs, &said, out, bad);
}

/* ---- shapes ---- */

static int n_directions(const rq_node *n)
{
    return rq_attr_word(n, RQ_WORD_direction, RQ_WORD_forward) == RQ_WORD_bidirectional ? 2 : 1;
}

rq_status rq_recurrent_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    const rq_word d = rq_attr_word(n, RQ_WORD_direction, RQ_WORD_forward);
    const char *bad;
    rq_recurrent_activation f[RQ_RECURRENT_MAX_ACTIVATIONS];
    if (d != RQ_WORD_forward && d != RQ_WORD_reverse && d != RQ_WORD_bidirectional)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "direction is '%.32s', expected forward, reverse or bidirectional",
                            rq_attr_string(n, RQ_WORD_direction, ""));
    if (read_activations(n, n_directions(n), f, &bad))
        return bad ? rq_node_fail(g, n, err, RQ_UNSUPPORTED, "activation '%.32s' is not known", bad)
                   : rq_node_fail(g, n, err, RQ_BAD_GRAPH, "the number of activations is wrong for direction '%s'",
                                  rq_word_text(d));
    return RQ_OK;
}

typedef rq_recurrent_sizes sizes;

/* Input i must have these sizes (negative: any). */
static rq_status expect(const rq_infer *a, int i, const char *what, int rank, const int64_t *dim)
{
    char t[2][RQ_SHAPE_TEXT];
    if (i >= a->n_in || !a->in[i] || a->in[i]->shape.rank < 0)
        return RQ_OK;
    rq_shape want = rq_shape_of(rank, dim);
    bool fits = a->in[i]->shape.rank == rank;
    for (int k = 0; k < rank && fits; k++)
        fits = rq_infer_dim_join(&(int64_t) { dim[k] }, a->in[i]->shape.dim[k]);
    if (!fits)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%s has shape %s, expected %s", what,
                             rq_shape_text(&a->in[i]->shape, t[0], sizeof t[0]),
                             rq_shape_text(&want, t[1], sizeof t[1]));
    return RQ_OK;
}

static rq_status read_sizes(const rq_infer *a, sizes *z)
{
    const rq_shape *x = &a->in[0]->shape, *r = &a->in[2]->shape;
    int64_t g = rq_recurrent_gates(cell_of(a->node)),
            stated = rq_attr_int(a->node, RQ_WORD_hidden_size, RQ_DIM_UNKNOWN);
    *z = (sizes) { RQ_DIM_UNKNOWN,        RQ_DIM_UNKNOWN,
                   RQ_DIM_UNKNOWN,        stated > 0 ? stated : RQ_DIM_UNKNOWN,
                   n_directions(a->node), rq_attr_int(a->node, RQ_WORD_layout, 0) != 0 };
    if (stated > INT32_MAX)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "hidden_size is %lld, expected at most %d", (long long)stated, INT32_MAX);
    RQ_TRY(expect(a, 0, "X", 3, (int64_t[]) { -1, -1, -1 }));
    const bool transposed = is_coded(a->node);
    if (!transposed)
        RQ_TRY(expect(a, 2, "R", 3, (int64_t[]) { z->dirs, -1, z->hidden }));
    if (x->rank == 3) {
        z->steps = x->dim[z->batch_first];
        z->batch = x->dim[!z->batch_first];
        z->input = x->dim[2];
    }
    if (r->rank == 3)
        rq_infer_dim_join(&z->hidden, r->dim[transposed ? 1 : 2]);
    int64_t d = z->dirs, b = z->batch, h = z->hidden, gates = h < 0 ? -1 : g * h;
    int64_t first = z->batch_first ? b : d, second = z->batch_first ? d : b;
    RQ_TRY(expect(a, 1, "W", 3, (int64_t[]) { d, transposed ? z->input : gates, transposed ? gates : z->input }));
    RQ_TRY(expect(a, 2, "R", 3, (int64_t[]) { d, transposed ? h : gates, transposed ? gates : h }));
    RQ_TRY(expect(a, 3, "B", 2, (int64_t[]) { d, gates < 0 ? -1 : 2 * gates }));
    RQ_TRY(expect(a, 4, "sequence_lens", 1, (int64_t[]) { b }));
    RQ_TRY(expect(a, 5, "initial_h", 3, (int64_t[]) { first, second, h }));
    if (cell_of(a->node) != RQ_RECURRENT_LSTM) /* scales and zero points follow, or nothing */
        return RQ_OK;
    RQ_TRY(expect(a, 6, "initial_c", 3, (int64_t[]) { first, second, h }));
    return expect(a, 7, "P", 2, (int64_t[]) { d, h < 0 ? -1 : 3 * h });
}

rq_status rq_recurrent_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_one_type(a, is_coded(a->node) ? 3 : 1, 4));
    RQ_TRY(rq_infer_one_type(a, 5, cell_of(a->node) == RQ_RECURRENT_LSTM ? 8 : 6));
    sizes z;
    RQ_TRY(read_sizes(a, &z));
    for (int i = 0; i < a->n_out; i++) {
        a->out_dtype[i] = a->in[0]->dtype;
        if (i == 0)
            a->out_shape[0] = z.batch_first ? rq_shape_of(4, (int64_t[]) { z.batch, z.steps, z.dirs, z.hidden })
                                            : rq_shape_of(4, (int64_t[]) { z.steps, z.dirs, z.batch, z.hidden });
        else
            a->out_shape[i] = z.batch_first ? rq_shape_of(3, (int64_t[]) { z.batch, z.dirs, z.hidden })
                                            : rq_shape_of(3, (int64_t[]) { z.dirs, z.batch, z.hidden });
    }
    return RQ_OK;
}

/* ---- running ---- */

typedef rq_recurrent_room room;

float *rq_recurrent_take(char **at, int64_t n)
{
    float *p = (float *)*at;
    *at += rq_mem_round((size_t)n * sizeof(float));
    return p;
}

enum {
    MANY_STEPS = 8,       /* from here on it pays to turn R over, which makes products of few rows half as long */
    APART_MACS = 1 << 20, /* multiply-adds of the steps from which directions run on threads of their own */
};

/* *x: [steps][batch][input], only when batch comes first. */
static size_t lay_out(const sizes *z, cell c, bool turns, void *scratch, float **x, room r[2])
{
    char *at = scratch;
    int64_t gates = rq_recurrent_gates(c) * z->hidden, rows = z->steps * z->batch, state = z->batch * z->hidden;
    *x = z->batch_first ? rq_recurrent_take(&at, rows * z->input) : NULL;
    for (int i = 0; i < z->dirs; i++) {
        r[i].pre = rq_recurrent_take(&at, rows * gates);
        r[i].gate = rq_recurrent_take(&at, z->batch * gates);
        r[i].h = rq_recurrent_take(&at, state);
        r[i].c = rq_recurrent_take(&at, state);
        r[i].tmp = rq_recurrent_take(&at, state);
        r[i].bias = rq_recurrent_take(&at, gates);
        r[i].turned = turns && z->steps >= MANY_STEPS ? rq_recurrent_take(&at, z->hidden * gates) : NULL;
    }
    return (size_t)(at - (char *)scratch);
}

rq_status rq_recurrent_sizes_of(const rq_op_args *a, sizes *z)
{
    rq_infer as_infer = {
        .graph = a->graph, .node = a->node, .opset = a->opset, .in = a->in, .n_in = a->n_in, .err = a->err
    };
    return read_sizes(&as_infer, z);
}

size_t rq_recurrent_scratch(const rq_op_args *a, bool turns)
{
    static char nowhere[1];
    sizes z;
    room r[2];
    float *x;
    return rq_recurrent_sizes_of(a, &z) == RQ_OK ? lay_out(&z, cell_of(a->node), turns, nowhere, &x, r) : 0;
}

typedef rq_recurrent_pass pass;

/* Bias of W and R together, but for the part of R that linear_before_reset keeps inside the reset. */
static void read_bias(pass *p)
{
    const cell kind = p->cell;
    int64_t gates = rq_recurrent_gates(kind) * p->z.hidden, apart = p->linear_before_reset ? 2 * p->z.hidden : gates;
    const rq_tensor *b = p->a->n_in > 3 ? p->a->in[3] : NULL;
    memset(p->r.bias, 0, (size_t)gates * sizeof *p->r.bias);
    p->rec_bias = NULL;
    if (!b)
        return;
    const float *v = b->f32 + p->dir * 2 * gates;
    memcpy(p->r.bias, v, (size_t)gates * sizeof *v);
    p->a->k->zip[RQ_ZIP_ADD](p->r.bias, v, 1, v + gates, 1, (size_t)apart);
    if (apart < gates)
        p->rec_bias = v + gates + apart;
}

float *rq_recurrent_state(const pass *p, const rq_tensor *t, int64_t b)
{
    int64_t row = p->z.batch_first ? b * p->z.dirs + p->dir : p->dir * p->z.batch + b;
    return t->f32 + row * p->z.hidden;
}

static void load_state(const pass *p, float *to, int i)
{
    const rq_tensor *t = i < p->a->n_in ? p->a->in[i] : NULL;
    size_t bytes = (size_t)p->z.hidden * sizeof *to;
    for (int64_t b = 0; b < p->z.batch; b++)
        if (t)
            memcpy(to + b * p->z.hidden, rq_recurrent_state(p, t, b), bytes);
        else
            memset(to + b * p->z.hidden, 0, bytes);
}

static void store_state(const pass *p, const float *from, int i)
{
    rq_tensor *t = i < p->a->n_out ? p->a->out[i] : NULL;
    for (int64_t b = 0; t && b < p->z.batch; b++)
        memcpy(rq_recurrent_state(p, t, b), from + b * p->z.hidden, (size_t)p->z.hidden * sizeof *from);
}

int64_t rq_recurrent_output_row(const pass *p, int64_t t, int64_t b)
{
    const sizes *z = &p->z;
    return z->batch_first ? (b * z->steps + t) * z->dirs + p->dir : (t * z->dirs + p->dir) * z->batch + b;
}

static void store_step(const pass *p, int64_t s)
{
    rq_tensor *y = p->a->out[0];
    const sizes *z = &p->z;
    for (int64_t b = 0; y && b < z->batch; b++) {
        int64_t t = rq_recurrent_time(p, s, b);
        if (t >= 0)
            memcpy(y->f32 + rq_recurrent_output_row(p, t, b) * z->hidden, p->r.h + b * z->hidden,
                   (size_t)z->hidden * sizeof(float));
    }
}

int64_t rq_recurrent_longest(const pass *p)
{
    const rq_tensor *lens = p->a->n_in > 4 ? p->a->in[4] : NULL;
    int64_t most = 0;
    if (!lens)
        return p->z.steps;
    for (int64_t b = 0; b < p->z.batch; b++)
        most = rq_tensor_get_int(lens, b) > most ? rq_tensor_get_int(lens, b) : most;
    return most;
}

/* What the input gives to the gates of all steps, bias and all. */
static rq_status run_input(pass *p, const float *x)
{
    const sizes *z = &p->z;
    const bool whole = p->codes && p->cell != RQ_RECURRENT_LSTM; /* X is quantized as one tensor, past the ends too */
    const int64_t gates = rq_recurrent_gates(p->cell) * z->hidden,
                  rows = (whole ? z->steps : rq_recurrent_longest(p)) * z->batch;
    read_bias(p);
    if (rows == 0 || gates == 0)
        return RQ_OK;
    if (p->codes) {
        p->codes->product(p->codes->arg, p->r.pre, gates, x, p->r.bias, rows, p->dir, RQ_RECURRENT_INPUT,
                          p->a->threads);
        return RQ_OK;
    }
    if (p->r.turned) {
        rq_recurrent_turn_over(p->r.turned, p->rec, gates, z->hidden);
        p->turned = p->r.turned;
    }
    RQ_TRY(rq_gemm_f32(p->a->k, p->r.pre, x, p->w, false, true, rows, gates, z->input, 1, z->input, z->input, 0, gates,
                       p->a->threads));
    for (int64_t i = 0; i < rows; i++)
        p->a->k->zip[RQ_ZIP_ADD](p->r.pre + i * gates, p->r.pre + i * gates, 1, p->r.bias, 1, (size_t)gates);
    return RQ_OK;
}

typedef struct steps_job {
    pass p[2];
    rq_status status[2];
} steps_job;

static rq_status run_steps(pass *p)
{
    load_state(p, p->r.h, 5);
    if (p->cell == RQ_RECURRENT_LSTM)
        load_state(p, p->r.c, 6);
    for (int64_t s = 0; s < p->z.steps; s++) {
        RQ_TRY(rq_recurrent_step(p, s));
        store_step(p, s);
    }
    store_state(p, p->r.h, 1);
    store_state(p, p->r.c, 2);
    return RQ_OK;
}

static void run_direction(void *arg, int64_t dir)
{
    steps_job *j = arg;
    j->status[dir] = run_steps(&j->p[dir]);
}

rq_status rq_recurrent_describe(const rq_op_args *a, pass *p)
{
    const char *bad;
    *p = (pass) { .a = a,
                  .cell = cell_of(a->node),
                  .clip = rq_attr_float(a->node, RQ_WORD_clip, 0),
                  .input_forget = rq_attr_int(a->node, RQ_WORD_input_forget, 0) != 0 };
    p->linear_before_reset = p->cell == RQ_RECURRENT_GRU && rq_attr_int(a->node, RQ_WORD_linear_before_reset, 0) != 0;
    RQ_TRY(rq_recurrent_sizes_of(a, &p->z));
    return read_activations(a->node, p->z.dirs, p->all, &bad);
}

rq_status rq_recurrent_open(const rq_op_args *a, pass *p)
{
    RQ_TRY(rq_recurrent_describe(a, p));
    for (int64_t b = 0; a->n_in > 4 && a->in[4] && b < p->z.batch; b++)
        if (rq_tensor_get_int(a->in[4], b) < 0 || rq_tensor_get_int(a->in[4], b) > p->z.steps)
            return rq_op_fail(a, RQ_BAD_DATA, "sequence_lens has %lld for a sequence of %lld",
                              (long long)rq_tensor_get_int(a->in[4], b), (long long)p->z.steps);
    return RQ_OK;
}

void rq_recurrent_turn(pass *p, int dir)
{
    const rq_op_args *a = p->a;
    const int64_t gates = rq_recurrent_gates(p->cell) * p->z.hidden;
    const int per_dir = rq_recurrent_functions(p->cell);
    p->dir = dir;
    p->backwards = dir == 1 || rq_attr_word(a->node, RQ_WORD_direction, RQ_WORD_forward) == RQ_WORD_reverse;
    memcpy(p->f, p->all + dir * per_dir, (size_t)per_dir * sizeof *p->f);
    if (!p->codes) {
        p->w = a->in[1]->f32 + dir * gates * p->z.input;
        p->rec = a->in[2]->f32 + dir * gates * p->z.hidden;
    }
    p->peep = p->cell == RQ_RECURRENT_LSTM && a->n_in > 7 && a->in[7] ? a->in[7]->f32 + dir * 3 * p->z.hidden : NULL;
    p->plain = rq_recurrent_is_plain(p);
}

rq_status rq_recurrent_run(const rq_op_args *a, const float *turned, const rq_recurrent_codes *codes)
{
    steps_job j = { .status = { RQ_OK, RQ_OK } };
    pass p;
    room r[2];
    float *moved;
    RQ_TRY(rq_recurrent_open(a, &p));
    p.codes = codes;
    p.saved = a->training ? a->training->saved : NULL;
    const sizes *z = &p.z;
    const int64_t gates = rq_recurrent_gates(p.cell) * z->hidden;
    lay_out(z, p.cell, !codes && !turned, a->scratch, &moved, r);
    const float *x = a->in[0]->f32;
    if (z->batch_first) {
        rq_move_nd(moved, x, sizeof(float), 3, (int64_t[]) { z->steps, z->batch, z->input },
                   (int64_t[]) { z->batch * z->input, z->input, 1 }, (int64_t[]) { z->input, z->steps * z->input, 1 });
        x = moved;
    }
    if (a->out[0]) /* what lies past the end of a short sequence is 0 */
        memset(a->out[0]->data, 0, rq_shape_bytes(&a->out[0]->shape, RQ_DTYPE_F32));
    const double macs = (double)(z->dirs * z->steps * z->batch) * (double)(gates * z->hidden);
    const bool apart = z->dirs == 2 && macs >= APART_MACS;
    p.threads = apart ? NULL : a->threads;
    for (int dir = 0; dir < z->dirs; dir++) {
        p.r = r[dir];
        p.turned = turned ? turned + dir * z->hidden * gates : NULL;
        rq_recurrent_turn(&p, dir);
        j.p[dir] = p;
        const rq_status s = run_input(&j.p[dir], x);
        if (s != RQ_OK)
            return rq_op_fail(a, s, "a matrix product failed");
    }
    rq_threads_for(apart ? a->threads : NULL, z->dirs, run_direction, &j);
    for (int dir = 0; dir < z->dirs; dir++)
        if (j.status[dir] != RQ_OK)
            return rq_op_fail(a, j.status[dir], "a matrix product failed");
    return RQ_OK;
}

/* ---- rows ---- */

typedef struct turn_args {
    const float *rec;
    int64_t dirs, gates, hidden;
} turn_args;

static void turn_all(void *made, const void *arg)
{
    const turn_args *t = arg;
    const int64_t n = t->gates * t->hidden;
    for (int64_t i = 0; i < t->dirs; i++)
        rq_recurrent_turn_over((float *)made + i * n, t->rec + i * n, t->gates, t->hidden);
}

/* A constant R that is not trained is turned over once: the state. */
static rq_status recurrent_prepare(const rq_op_args *a, void **state)
{
    const rq_tensor *r = a->in[2];
    sizes z;
    if (!r->data || r->dtype != RQ_DTYPE_F32 || a->training || !a->packs || rq_recurrent_sizes_of(a, &z))
        return RQ_OK;
    const turn_args t = { r->f32, z.dirs, rq_recurrent_gates(cell_of(a->node)) * z.hidden, z.hidden };
    const void *made;
    char key[64];
    snprintf(key, sizeof key, "turned %lld %lld", (long long)t.gates, (long long)t.hidden);
    RQ_TRY(rq_packs_get(a, r, key, (size_t)rq_tensor_count(r) * sizeof(float), turn_all, &t, &made));
    *state = (void *)made;
    return RQ_OK;
}

static rq_status recurrent_f32(const rq_op_args *a)
{
    return rq_recurrent_run(a, a->state, NULL);
}

static size_t recurrent_scratch(const rq_op_args *a, bool integer)
{
    return rq_recurrent_scratch(a, !a->state);
}

static rq_status recurrent_forward(const rq_op_args *a)
{
    if (!rq_dtype_is_float(a->in[0]->dtype))
        return rq_op_fail(a, RQ_BAD_DTYPE, "the input is %s", rq_dtype_name(a->in[0]->dtype));
    return rq_elements_run_f32(a, recurrent_f32);
}

double rq_recurrent_macs(const rq_op_args *a)
{
    sizes z;
    if (rq_recurrent_sizes_of(a, &z))
        return 0;
    return (double)z.dirs * (double)(z.steps * z.batch) * (double)(rq_recurrent_gates(cell_of(a->node)) * z.hidden) *
           (double)(z.input + z.hidden);
}

#define RECURRENT                                                                                                      \
    .domain = "", .since = 7, .known = 25, .min_in = 3, .min_out = 0, .place = RQ_PLACE_FLOAT,                         \
    .check = rq_recurrent_check, .infer = rq_recurrent_infer, .prepare = recurrent_prepare,                            \
    .forward = recurrent_forward, .scratch = recurrent_scratch, .macs = rq_recurrent_macs,                             \
    .backward = rq_recurrent_grad_backward,                                                                            \
    .saves = RQ_OP_IN(0) | RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(4) | RQ_OP_IN(5) | RQ_OP_IN(6) | RQ_OP_IN(7),          \
    .gradients = RQ_OP_IN(0) | RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3) | RQ_OP_IN(5) | RQ_OP_IN(6) | RQ_OP_IN(7),      \
    .parameters = RQ_OP_IN(1) | RQ_OP_IN(2) | RQ_OP_IN(3) | RQ_OP_IN(7), .saved = rq_recurrent_grad_saved,             \
    .scratch_backward = rq_recurrent_grad_scratch

const rq_op rq_op_rnn = { .name = "RNN", .max_in = 6, .max_out = 2, RECURRENT };
const rq_op rq_op_gru = { .name = "GRU", .max_in = 6, .max_out = 2, RECURRENT };
const rq_op rq_op_lstm = { .name = "LSTM", .max_in = 8, .max_out = 3, RECURRENT };
