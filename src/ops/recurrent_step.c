/* ops/recurrent_step.c — one step of a recurrent cell: the product of the state and R, and the activations, whatever its options. recurrent_plain.c has the
 * roundings of the functions here. */
#include <string.h>

#include "kernels/gemm_f32.h"
#include "ops/recurrent.h"

typedef rq_recurrent_pass pass;

enum { TILE = 16 };

static void clamp(const pass *p, float *x, int64_t n)
{
    if (p->clip > 0)
        p->a->k->map[RQ_MAP_CLIP](x, x, (size_t)n, -p->clip, p->clip);
}

/* y += x */
static void add(const pass *p, float *y, const float *x, int64_t n)
{
    p->a->k->zip[RQ_ZIP_ADD](y, y, 1, x, 1, (size_t)n);
}

static void activate(const pass *p, int f, float *x, int64_t n)
{
    clamp(p, x, n);
    rq_recurrent_apply(p->a->k, &p->f[f], x, x, n);
}

rq_status rq_recurrent_by_r(const pass *p, float *y, int64_t ld, const float *state, rq_recurrent_part part)
{
    const int64_t h = p->z.hidden, gates = rq_recurrent_gates(p->cell) * h,
                  first = part == RQ_RECURRENT_RESET ? 2 * h : 0,
                  n = (rq_recurrent_resets(p) && !first ? 2 * h : gates) - first;
    if (p->codes) {
        p->codes->product(p->codes->arg, y, ld, state, NULL, p->z.batch, p->dir, part, p->threads);
        return RQ_OK;
    }
    if (p->turned)
        return rq_gemm_f32(p->a->k, y, state, p->turned + first, false, false, p->z.batch, n, h, 1, h, gates, 0, ld,
                           p->threads);
    return rq_gemm_f32(p->a->k, y, state, p->rec + first * h, false, true, p->z.batch, n, h, 1, h, h, 0, ld,
                       p->threads);
}

void rq_recurrent_turn_over(float *dst, const float *rec, int64_t gates, int64_t k)
{
    for (int64_t from = 0; from < gates; from += TILE) {
        const int64_t to = from + TILE < gates ? from + TILE : gates;
        for (int64_t i = 0; i < k; i++)
            for (int64_t g = from; g < to; g++)
                dst[i * gates + g] = rec[g * k + i];
    }
}

/* The new state of one row from its gates [i o f c], x holding the input's share. */
static void lstm_row(const pass *p, float *g, const float *x, float *h, float *c, float *tmp)
{
    int64_t n = p->z.hidden;
    float *i = g, *o = g + n, *f = g + 2 * n, *z = g + 3 * n;
    add(p, g, x, 4 * n);
    for (int64_t k = 0; p->peep && k < n; k++) {
        i[k] += p->peep[k] * c[k];
        f[k] += p->peep[2 * n + k] * c[k];
    }
    activate(p, 0, i, n);
    if (p->input_forget)
        for (int64_t k = 0; k < n; k++)
            f[k] = 1 - i[k];
    else
        activate(p, 0, f, n);
    activate(p, 1, z, n);
    for (int64_t k = 0; k < n; k++)
        c[k] = f[k] * c[k] + i[k] * z[k];
    for (int64_t k = 0; p->peep && k < n; k++)
        o[k] += p->peep[n + k] * c[k];
    activate(p, 0, o, n);
    rq_recurrent_apply(p->a->k, &p->f[2], tmp, c, n);
    for (int64_t k = 0; k < n; k++)
        h[k] = o[k] * tmp[k];
}

/* z and r of one row; leaves r * h (or r * (R h + bias) + x) where the h gate is computed next. */
static void gru_row_zr(const pass *p, float *g, const float *x, const float *h, float *tmp, float *product)
{
    int64_t n = p->z.hidden;
    float *r = g + n, *candidate = g + 2 * n;
    add(p, g, x, 2 * n);
    activate(p, 0, g, 2 * n);
    if (!p->linear_before_reset) {
        for (int64_t k = 0; k < n; k++)
            tmp[k] = r[k] * h[k];
        return;
    }
    if (p->rec_bias)
        add(p, candidate, p->rec_bias, n);
    if (product)
        memcpy(product, candidate, (size_t)n * sizeof *product);
    for (int64_t k = 0; k < n; k++)
        candidate[k] = r[k] * candidate[k];
}

static void gru_row_h(const pass *p, float *g, const float *x, float *h)
{
    int64_t n = p->z.hidden;
    float *z = g, *candidate = g + 2 * n;
    add(p, candidate, x + 2 * n, n);
    activate(p, 1, candidate, n);
    for (int64_t k = 0; k < n; k++)
        h[k] = (1 - z[k]) * candidate[k] + z[k] * h[k];
}

/* A quantized state is looked at in all rows together, of which some may have ended: zeros do not widen its range. DynamicQuantizeLSTM is as in ONNX Runtime,
 * which keeps the state among the outputs of all steps, when those are wanted, where sequences that had ended at the step before have zeros. */
const float *rq_recurrent_state_at(const pass *p, int64_t s)
{
    const int64_t n = p->z.hidden, ended = p->cell == RQ_RECURRENT_LSTM ? s - 1 : s;
    const bool given = p->cell == RQ_RECURRENT_LSTM ? p->a->out[0] != NULL : p->a->n_in > 4 && p->a->in[4];
    if (!p->codes || !given || ended < 0)
        return p->r.h;
    for (int64_t b = 0; b < p->z.batch; b++)
        if (rq_recurrent_time(p, ended, b) < 0)
            memset(p->r.tmp + b * n, 0, (size_t)n * sizeof(float));
        else
            memcpy(p->r.tmp + b * n, p->r.h + b * n, (size_t)n * sizeof(float));
    return p->r.tmp;
}

rq_status rq_recurrent_step(const rq_recurrent_pass *p, int64_t s)
{
    const rq_recurrent_cell kind = p->cell;
    const rq_recurrent_sizes *z = &p->z;
    int64_t n = z->hidden, gates = rq_recurrent_gates(kind) * n;
    bool done = false;
    if (p->plain)
        RQ_TRY(rq_recurrent_step_plain(p, s, &done));
    if (done)
        return RQ_OK;
    RQ_TRY(rq_recurrent_by_r(p, p->r.gate, gates, rq_recurrent_state_at(p, s), RQ_RECURRENT_STATE));
    if (rq_recurrent_resets(p)) /* what has ended gives zeros to the second product */
        memset(p->r.tmp, 0, (size_t)(z->batch * n) * sizeof(float));
    for (int64_t b = 0; b < z->batch; b++) {
        int64_t t = rq_recurrent_time(p, s, b);
        float *g = p->r.gate + b * gates, *h = p->r.h + b * n;
        if (t < 0)
            continue;
        const float *x = p->r.pre + (t * z->batch + b) * gates;
        if (kind == RQ_RECURRENT_LSTM) {
            lstm_row(p, g, x, h, p->r.c + b * n, p->r.tmp);
            if (p->saved) {
                float *row = rq_recurrent_saved_row(p, s, b);
                memcpy(row, g, (size_t)(4 * n) * sizeof *row);
                memcpy(row + 4 * n, p->r.c + b * n, (size_t)n * sizeof *row);
                memcpy(row + 5 * n, p->r.tmp, (size_t)n * sizeof *row);
            }
        } else if (kind == RQ_RECURRENT_RNN) {
            add(p, g, x, n);
            activate(p, 0, g, n);
            memcpy(h, g, (size_t)n * sizeof *h);
            if (p->saved)
                memcpy(rq_recurrent_saved_row(p, s, b), h, (size_t)n * sizeof *h);
        } else {
            gru_row_zr(p, g, x, h, p->r.tmp + b * n, p->saved ? rq_recurrent_saved_row(p, s, b) + 4 * n : NULL);
        }
    }
    if (kind != RQ_RECURRENT_GRU)
        return RQ_OK;
    if (rq_recurrent_resets(p))
        RQ_TRY(rq_recurrent_by_r(p, p->r.gate + 2 * n, gates, p->r.tmp, RQ_RECURRENT_RESET));
    for (int64_t b = 0; b < z->batch; b++) {
        int64_t t = rq_recurrent_time(p, s, b);
        float *g = p->r.gate + b * gates, *h = p->r.h + b * n;
        if (t < 0)
            continue;
        gru_row_h(p, g, p->r.pre + (t * z->batch + b) * gates, h);
        if (p->saved) {
            float *row = rq_recurrent_saved_row(p, s, b);
            memcpy(row, g, (size_t)(3 * n) * sizeof *row);
            memcpy(row + 3 * n, h, (size_t)n * sizeof *row);
        }
    }
    return RQ_OK;
}
