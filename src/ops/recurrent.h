/* ops/recurrent.h — the recurrent cells: recurrent.c reads nodes and walks over directions and steps, recurrent_step.c does a step, recurrent_grad.c goes
 * back, recurrent_int.c has an LSTM whose products are of codes. */
#ifndef RQ_OPS_RECURRENT_H
#define RQ_OPS_RECURRENT_H

#include "ops/op.h"

typedef struct rq_recurrent_sizes { /* negative: not known */
    int64_t steps, batch, input, hidden;
    int dirs;
    bool batch_first;
} rq_recurrent_sizes;

typedef enum rq_recurrent_cell { RQ_RECURRENT_RNN, RQ_RECURRENT_GRU, RQ_RECURRENT_LSTM } rq_recurrent_cell;

typedef struct rq_recurrent_activation {
    rq_map_id id;
    float alpha, beta;
    bool scaled; /* ScaledTanh: alpha tanh(beta x) */
} rq_recurrent_activation;

/* The state's share of the gates of an LSTM as sums of codes: what rq_lstm_cell takes. */
typedef struct rq_recurrent_sums {
    const int32_t *sum; /* [rows][ld] */
    int64_t ld;
    const int32_t *add; /* [rows] */
    const int32_t *w_sum;
    int32_t zero;
    float row;
    const float *m;
} rq_recurrent_sums;

/* Matrix products of another kind in place of those with W and R. Directions may be asked for from different threads at the same time. */
typedef struct rq_recurrent_codes {
    void *arg;
    /* y [rows][4 * hidden] = x by the weights of direction dir (+ bias, unless it is NULL): W, x being [rows][input], or (`recurrent`) R, x being
     * [rows][hidden]. */
    void (*product)(void *arg, float *y, const float *x, const float *bias, int64_t rows, int dir, bool recurrent,
                    rq_threads *t);
    /* The sums of x by R alone; false: these weights have none that rq_lstm_cell could take. */
    bool (*sums)(void *arg, rq_recurrent_sums *s, const float *x, int64_t rows, int dir);
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
    bool plain;                      /* an LSTM that rq_kernels.lstm_cell knows, and nothing goes back */
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

/* Sizes, options and activations of a node, lengths of sequences checked. */
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
/* y = f(x), n numbers; y may be x. */
void rq_recurrent_apply(const rq_kernels *k, const rq_recurrent_activation *f, float *y, const float *x, int64_t n);
/* The next n floats of scratch, on 64 bytes. */
float *rq_recurrent_take(char **at, int64_t n);

/* ---- recurrent_step.c ---- */
/* dst [k][gates] = rec [gates][k], of one direction */
void rq_recurrent_turn_over(float *dst, const float *rec, int64_t gates, int64_t k);
/* Step s of the direction at hand: state and cell of all sequences that have not ended. */
rq_status rq_recurrent_step(const rq_recurrent_pass *p, int64_t s);

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
