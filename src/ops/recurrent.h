/* ops/recurrent.h — the recurrent cells: recurrent.c reads nodes and walks over directions and steps, recurrent_activations.c has their functions,
 * recurrent_step.c does a step of any cell, recurrent_plain.c one of a cell as most are, recurrent_grad.c goes back, recurrent_int.c has cells whose products
 * are of codes. */
#ifndef RQ_OPS_RECURRENT_H
#define RQ_OPS_RECURRENT_H

#include "kernels/sums.h"
#include "ops/op.h"

typedef struct rq_recurrent_sizes { /* negative: not known */
    int64_t steps, batch, input, hidden;
    int dirs;
    bool batch_first;
} rq_recurrent_sizes;

typedef enum rq_recurrent_cell { RQ_RECURRENT_RNN, RQ_RECURRENT_GRU, RQ_RECURRENT_LSTM } rq_recurrent_cell;

typedef struct rq_recurrent_activation {
    rq_word name;
    rq_map_id id;
    float alpha, beta;
    bool scaled; /* ScaledTanh: alpha tanh(beta x) */
} rq_recurrent_activation;

/* A product of a cell: the input by W; the state by R, but where a GRU resets the state (linear_before_reset 0) only its gates z and r; there the reset state by
 * the rest of R, the columns of gate h. */
typedef enum rq_recurrent_part { RQ_RECURRENT_INPUT, RQ_RECURRENT_STATE, RQ_RECURRENT_RESET } rq_recurrent_part;

/* What a state gives to the gates as sums of codes, for the kernels of cells (kernels/sums.h). */
typedef struct rq_recurrent_sums {
    rq_cell_gates g;    /* of row 0, but for `add`, gate and x */
    int64_t ld;         /* of g.sum */
    const int32_t *add; /* [rows] */
} rq_recurrent_sums;

/* Matrix products of another kind in place of those with W and R. Directions may be asked for from different threads at the same time. */
typedef struct rq_recurrent_codes {
    void *arg;
    /* y, rows ld apart = x [rows][input or hidden] by the weights of direction dir (+ bias, unless it is NULL). */
    void (*product)(void *arg, float *y, int64_t ld, const float *x, const float *bias, int64_t rows, int dir,
                    rq_recurrent_part part, rq_threads *t);
    /* The sums of x by R alone; false: these weights have none that a kernel of cells could take. */
    bool (*sums)(void *arg, rq_recurrent_sums *s, const float *x, int64_t rows, int dir, rq_recurrent_part part);
} rq_recurrent_codes;

/* Scratch of one direction of forward, in floats; every part starts on 64 bytes. */
typedef struct rq_recurrent_room {
    float *pre;         /* [steps][batch][gates * hidden] */
    float *gate;        /* [batch][gates * hidden] */
    float *h, *c, *tmp; /* [batch][hidden] */
    float *bias;        /* [gates * hidden] */
    float
        *turned; /* [hidden][gates * hidden]: R turned over, where steps are many and it was not done before; or NULL */
} rq_recurrent_room;

/* One direction of one node. */
typedef struct rq_recurrent_pass {
    const rq_op_args *a;
    rq_recurrent_cell cell;
    rq_recurrent_sizes z;
    rq_recurrent_room r;
    int dir;
    bool backwards;
    rq_recurrent_activation f[3], all[6]; /* of this direction, of both */
    float clip;                           /* 0: none */
    const float *w, *rec;                 /* [gates * hidden][input], [gates * hidden][hidden] */
    const float *turned;                  /* rec as [hidden][gates * hidden], or NULL */
    const float *rec_bias;                /* GRU with linear_before_reset: [hidden] of the h gate, or NULL */
    const float *peep;                    /* LSTM: [3 * hidden] as i, o, f; or NULL */
    bool input_forget, linear_before_reset;
    bool plain;                      /* a cell that has a kernel, and nothing goes back */
    const rq_recurrent_codes *codes; /* instead of w and rec; or NULL */
    rq_threads *threads;             /* NULL where directions have threads of their own */
    float *saved;                    /* [dirs][steps][batch][rq_recurrent_kept * hidden], or NULL: nothing goes back */
} rq_recurrent_pass;

/* What forward leaves for backward, of each step of each sequence:
 *   LSTM  i o f c (after their activations), cell, activated cell
 *   GRU   z r h (after their activations), state, and with linear_before_reset R h + bias of the h gate
 *   RNN   state */
static inline int rq_recurrent_kept(rq_recurrent_cell c)
{
    return c == RQ_RECURRENT_LSTM ? 6 : c == RQ_RECURRENT_GRU ? 5 : 1;
}

static inline int rq_recurrent_gates(rq_recurrent_cell c)
{
    return c == RQ_RECURRENT_LSTM ? 4 : c == RQ_RECURRENT_GRU ? 3 : 1;
}

/* The row of step s of sequence b of the direction at hand. */
static inline float *rq_recurrent_saved_row(const rq_recurrent_pass *p, int64_t s, int64_t b)
{
    return p->saved + ((p->dir * p->z.steps + s) * p->z.batch + b) * rq_recurrent_kept(p->cell) * p->z.hidden;
}

/* How many activations a cell has in each direction. */
static inline int rq_recurrent_functions(rq_recurrent_cell c)
{
    return c == RQ_RECURRENT_LSTM ? 3 : c == RQ_RECURRENT_GRU ? 2 : 1;
}

/* Does a GRU reset its state before the product with R? */
static inline bool rq_recurrent_resets(const rq_recurrent_pass *p)
{
    return p->cell == RQ_RECURRENT_GRU && !p->linear_before_reset;
}

/* Sizes, options and activations of a node. */
rq_status rq_recurrent_describe(const rq_op_args *a, rq_recurrent_pass *p);
/* The same, lengths of sequences checked. */
rq_status rq_recurrent_open(const rq_op_args *a, rq_recurrent_pass *p);
/* Turn to direction dir: activations, weights (of f32), peepholes. */
void rq_recurrent_turn(rq_recurrent_pass *p, int dir);
/* Step s of sequence b is at this time; -1: it has ended. */
static inline int64_t rq_recurrent_time(const rq_recurrent_pass *p, int64_t s, int64_t b)
{
    const rq_tensor *lens = p->a->n_in > 4 ? p->a->in[4] : NULL;
    const int64_t len = lens ? rq_tensor_get_int(lens, b) : p->z.steps;
    return s >= len ? -1 : p->backwards ? len - 1 - s : s;
}
/* Steps until the last sequence has ended. */
int64_t rq_recurrent_longest(const rq_recurrent_pass *p);
/* Row of [steps][batch][..] or its like with the batch first, which time t of sequence b is in X, and in Y. */
int64_t rq_recurrent_output_row(const rq_recurrent_pass *p, int64_t t, int64_t b);
/* [hidden] of this direction in a state tensor, [dirs][batch][hidden] or [batch][dirs][hidden]. */
float *rq_recurrent_state(const rq_recurrent_pass *p, const rq_tensor *t, int64_t b);
/* The next n floats of scratch, on 64 bytes. */
float *rq_recurrent_take(char **at, int64_t n);

/* ---- recurrent_activations.c ---- */

enum { RQ_RECURRENT_MAX_ACTIVATIONS = 6 }; /* two directions of an LSTM */

/* What a node says of them: names (NULL: the usual ones), parameters of those that have some, in order. */
typedef struct rq_recurrent_names {
    const rq_bytes *name;
    const float *alpha, *beta;
    int n, n_alpha, n_beta;
} rq_recurrent_names;

/* The activations of all directions, in order. RQ_BAD_GRAPH: *bad is a name not known, or NULL when their number is wrong. */
rq_status rq_recurrent_activations(rq_recurrent_cell cell, int dirs, const rq_recurrent_names *said,
                                   rq_recurrent_activation *out, const char **bad);
/* y = f(x), n numbers; y may be x. */
void rq_recurrent_apply(const rq_kernels *k, const rq_recurrent_activation *f, float *y, const float *x, int64_t n);
/* ---- recurrent_step.c ---- */
/* dst [k][gates] = rec [gates][k], of one direction */
void rq_recurrent_turn_over(float *dst, const float *rec, int64_t gates, int64_t k);
/* Step s of the direction at hand: state and cell of all sequences that have not ended. */
rq_status rq_recurrent_step(const rq_recurrent_pass *p, int64_t s);
/* y [batch], rows ld apart = state [batch][hidden] by this part of R. */
rq_status rq_recurrent_by_r(const rq_recurrent_pass *p, float *y, int64_t ld, const float *state,
                            rq_recurrent_part part);
/* The state that the products of step s see. */
const float *rq_recurrent_state_at(const rq_recurrent_pass *p, int64_t s);

/* ---- recurrent_plain.c ---- */
/* Has the direction at hand a kernel for its cell? */
bool rq_recurrent_is_plain(const rq_recurrent_pass *p);
/* Step s of such a one. *done false: its weights are codes with zero points that the kernel does not know. */
rq_status rq_recurrent_step_plain(const rq_recurrent_pass *p, int64_t s, bool *done);

/* ---- recurrent_grad.c ---- */
size_t rq_recurrent_grad_saved(const rq_op_args *a);
size_t rq_recurrent_grad_scratch(const rq_op_args *a);
rq_status rq_recurrent_grad_backward(const rq_op_args *a);

rq_status rq_recurrent_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err);
rq_status rq_recurrent_infer(const rq_infer *a);
rq_status rq_recurrent_sizes_of(const rq_op_args *a, rq_recurrent_sizes *z);
/* turns: without codes, and R was not turned over when the plan was made. */
size_t rq_recurrent_scratch(const rq_op_args *a, bool turns);
/* The node in f32, with its own weights (codes NULL; turned: R turned over, [dirs][hidden][gates * hidden], or NULL) or with codes. Uses the first
 * rq_recurrent_scratch bytes of a->scratch. */
rq_status rq_recurrent_run(const rq_op_args *a, const float *turned, const rq_recurrent_codes *codes);
double rq_recurrent_macs(const rq_op_args *a);

#endif
