/* ops/recurrent_plain.c — a step of a cell as most are: the usual activations, no clip, no peepholes. It goes from the sums of its product to the new state in
 * one pass of a kernel (kernels/sums.h), with the roundings of recurrent_step.c. */
#include <string.h>

#include "ops/recurrent.h"

typedef rq_recurrent_pass pass;

static bool is_usual(const rq_recurrent_activation *f, rq_map_id id)
{
    return f->id == id && !f->scaled;
}

bool rq_recurrent_is_plain(const pass *p)
{
    if (p->saved || p->clip > 0)
        return false;
    if (p->cell == RQ_RECURRENT_RNN)
        return is_usual(&p->f[0], RQ_MAP_TANH);
    return is_usual(&p->f[0], RQ_MAP_SIGMOID) && is_usual(&p->f[1], RQ_MAP_TANH) &&
           (p->cell == RQ_RECURRENT_GRU || (!p->peep && !p->input_forget && is_usual(&p->f[2], RQ_MAP_TANH)));
}

/* What goes into the activations of row b, from gate `first` on. */
static rq_cell_gates gates_of(const pass *p, const rq_recurrent_sums *sums, int64_t t, int64_t b, int64_t first)
{
    const int64_t gates = rq_recurrent_gates(p->cell) * p->z.hidden, at = first * p->z.hidden;
    rq_cell_gates g = sums->g;
    if (p->codes) {
        g.sum += b * sums->ld;
        g.add = sums->add[b];
    } else {
        g.gate = p->r.gate + b * gates + at;
    }
    g.x = p->r.pre + (t * p->z.batch + b) * gates + at;
    return g;
}

/* The product of `state` and this part of R, as sums or reals. */
static rq_status multiply(const pass *p, rq_recurrent_sums *sums, const float *state, rq_recurrent_part part,
                          bool *done)
{
    const int64_t n = p->z.hidden;
    *sums = (rq_recurrent_sums) { .ld = 0 };
    *done = !p->codes || p->codes->sums(p->codes->arg, sums, state, p->z.batch, p->dir, part);
    if (p->codes)
        return RQ_OK;
    return rq_recurrent_by_r(p, p->r.gate + (part == RQ_RECURRENT_RESET ? 2 * n : 0), rq_recurrent_gates(p->cell) * n,
                             state, part);
}

/* The other half of a GRU that resets its state; z of row b stands where its gates began. */
static rq_status update(const pass *p, int64_t s)
{
    const int64_t n = p->z.hidden;
    rq_recurrent_sums sums;
    bool done;
    RQ_TRY(multiply(p, &sums, p->r.tmp, RQ_RECURRENT_RESET, &done));
    for (int64_t b = 0; b < p->z.batch; b++) {
        const int64_t t = rq_recurrent_time(p, s, b);
        if (t >= 0)
            p->a->k->gru_update(&(rq_gru_cell) {
                .n = (size_t)n, .g = gates_of(p, &sums, t, b, 2), .h = p->r.h + b * n, .z = p->r.gate + b * 3 * n });
    }
    return RQ_OK;
}

rq_status rq_recurrent_step_plain(const pass *p, int64_t s, bool *done)
{
    const int64_t n = p->z.hidden;
    const bool resets = rq_recurrent_resets(p);
    const rq_kernels *k = p->a->k;
    rq_recurrent_sums sums;
    RQ_TRY(multiply(p, &sums, rq_recurrent_state_at(p, s), RQ_RECURRENT_STATE, done));
    if (!*done)
        return RQ_OK;
    for (int64_t b = 0; b < p->z.batch; b++) {
        const int64_t t = rq_recurrent_time(p, s, b);
        float *h = p->r.h + b * n, *reset = p->r.tmp + b * n;
        if (t < 0) {
            if (resets) /* what has ended gives zeros to the second product */
                memset(reset, 0, (size_t)n * sizeof *reset);
            continue;
        }
        const rq_cell_gates g = gates_of(p, &sums, t, b, 0);
        if (p->cell == RQ_RECURRENT_LSTM)
            k->lstm_cell(&(rq_lstm_cell) { (size_t)n, g, h, p->r.c + b * n });
        else if (p->cell == RQ_RECURRENT_RNN)
            k->rnn_cell(&(rq_rnn_cell) { (size_t)n, g, h });
        else if (resets)
            k->gru_reset(&(rq_gru_cell) { (size_t)n, g, .h = h, .z = p->r.gate + b * 3 * n, .reset = reset });
        else
            k->gru_cell(&(rq_gru_cell) { (size_t)n, g, p->rec_bias, .h = h });
    }
    return resets ? update(p, s) : RQ_OK;
}
