/* ops/recurrent_grad.c — backward of RNN, GRU, LSTM, through time.
 *
 * Forward leaves the gates of every step (ops/recurrent.h). From the last step back, each turns the gradient of its state into
 * that of its gates before their activations (`da`), and a product with R takes it to the state before. What the weights get
 * does not depend on the order of steps, so it is made last, for the whole sequence at once: dW = da^T x, dR = da^T h, dX = da W.
 * Rows of sequences that have ended are 0 in all of them. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/gemm_f32.h"
#include "ops/grad.h"
#include "ops/moves.h"
#include "ops/recurrent.h"
#include "ops/reduce.h"
#include "ops/rows.h"

typedef rq_recurrent_pass pass;
typedef rq_recurrent_activation activation;

/* Scratch, rows as [steps][batch]. */
typedef struct room {
    float *x, *dx; /* [rows][input], only when the batch comes first */
    float *da;     /* [rows][gates * hidden] */
    float *rec; /* GRU: [rows][hidden]: what meets R of the h gate: r * h, or with linear_before_reset its gradient */
    float *before;  /* [rows][hidden]: the state before each step */
    float *gate;    /* [batch][gates * hidden]: da of one step */
    float *dh, *dc; /* [batch][hidden] */
    float *tmp;     /* [batch][hidden] */
} room;

static size_t lay_out(const pass *p, void *scratch, room *r)
{
    const rq_recurrent_sizes *z = &p->z;
    const int64_t rows = z->steps * z->batch, gates = rq_recurrent_gates(p->cell) * z->hidden;
    const int64_t state = z->batch * z->hidden;
    char *at = scratch;
    r->x = z->batch_first ? rq_recurrent_take(&at, rows * z->input) : NULL;
    r->dx = z->batch_first ? rq_recurrent_take(&at, rows * z->input) : NULL;
    r->da = rq_recurrent_take(&at, rows * gates);
    r->rec = p->cell == RQ_RECURRENT_GRU ? rq_recurrent_take(&at, rows * z->hidden) : NULL;
    r->before = rq_recurrent_take(&at, rows * z->hidden);
    r->gate = rq_recurrent_take(&at, z->batch * gates);
    r->dh = rq_recurrent_take(&at, state);
    r->dc = rq_recurrent_take(&at, state);
    r->tmp = rq_recurrent_take(&at, state);
    return (size_t)(at - (char *)scratch);
}

/* Sizes alone: no data is looked at. */
static bool sizes_of(const rq_op_args *a, pass *p)
{
    *p = (pass) { .a = a,
                  .cell = a->node->row == &rq_op_lstm  ? RQ_RECURRENT_LSTM
                          : a->node->row == &rq_op_gru ? RQ_RECURRENT_GRU
                                                       : RQ_RECURRENT_RNN };
    return rq_recurrent_sizes_of(a, &p->z) == RQ_OK;
}

size_t rq_recurrent_grad_saved(const rq_op_args *a)
{
    pass p;
    if (!sizes_of(a, &p))
        return 0;
    const rq_recurrent_sizes *z = &p.z;
    return (size_t)(z->dirs * z->steps * z->batch * rq_recurrent_kept(p.cell) * z->hidden) * sizeof(float);
}

size_t rq_recurrent_grad_scratch(const rq_op_args *a)
{
    static char nowhere[1];
    pass p;
    room r;
    return sizes_of(a, &p) ? lay_out(&p, nowhere, &r) : 0;
}

/* ---- activations ---- */

/* f'(x) from y = f(x): each of these functions has one that follows from its value. */
static float slope_at(const activation *f, float y)
{
    switch (f->id) {
    case RQ_MAP_RELU:
        return y > 0;
    case RQ_MAP_TANH:
        return f->scaled ? f->beta * (f->alpha - y * y / f->alpha) : 1 - y * y;
    case RQ_MAP_SIGMOID:
        return y * (1 - y);
    case RQ_MAP_LINEAR:
        return f->alpha;
    case RQ_MAP_LEAKY_RELU:
        return y < 0 ? f->alpha : 1;
    case RQ_MAP_THRESHOLDED_RELU:
        return y != 0;
    case RQ_MAP_HARD_SIGMOID:
        return y > 0 && y < 1 ? f->alpha : 0;
    case RQ_MAP_ELU:
        return y < 0 ? y + f->alpha : 1;
    case RQ_MAP_SOFTSIGN:
        return (1 - fabsf(y)) * (1 - fabsf(y));
    default: /* Softplus: 1 - e^-y */
        return -expm1f(-y);
    }
}

/* g[i] *= f'(y[i]); 0 where the argument was cut off at clip (not for the cell's own activation, which sees no clip). */
static void through(const pass *p, int which, bool clipped, float *g, const float *y, int64_t n)
{
    const activation *f = &p->f[which];
    if (f->id == RQ_MAP_SIGMOID)
        for (int64_t i = 0; i < n; i++)
            g[i] *= y[i] * (1 - y[i]);
    else if (f->id == RQ_MAP_TANH && !f->scaled)
        for (int64_t i = 0; i < n; i++)
            g[i] *= 1 - y[i] * y[i];
    else
        for (int64_t i = 0; i < n; i++)
            g[i] *= slope_at(f, y[i]);
    if (!clipped || !(p->clip > 0))
        return;
    float ends[2] = { -p->clip, p->clip };
    rq_recurrent_apply(p->a->k, f, ends, ends, 2);
    for (int64_t i = 0; i < n; i++)
        if (!(y[i] > ends[0] && y[i] < ends[1]) && f->alpha >= 0)
            g[i] = 0;
}

/* ---- one step of one sequence ---- */

/* State before step s, and the cell of an LSTM. NULL: zeros. */
static const float *state_before(const pass *p, int64_t s, int64_t b)
{
    const rq_tensor *first = rq_op_input(p->a->in, p->a->n_in, 5);
    if (s == 0)
        return first ? rq_recurrent_state(p, first, b) : NULL;
    return rq_recurrent_saved_row(p, s - 1, b) + (p->cell == RQ_RECURRENT_GRU ? 3 * p->z.hidden : 0);
}

static const float *cell_before(const pass *p, int64_t s, int64_t b)
{
    const rq_tensor *first = rq_op_input(p->a->in, p->a->n_in, 6);
    if (s == 0)
        return first ? rq_recurrent_state(p, first, b) : NULL;
    return rq_recurrent_saved_row(p, s - 1, b) + 4 * p->z.hidden;
}

static void copy_state(const pass *p, int64_t s, int64_t b, float *to)
{
    const int64_t n = p->z.hidden;
    if (p->cell == RQ_RECURRENT_LSTM && s > 0) { /* o times the activated cell */
        const float *row = rq_recurrent_saved_row(p, s - 1, b);
        p->a->k->zip[RQ_ZIP_MUL](to, row + n, 1, row + 5 * n, 1, (size_t)n);
        return;
    }
    const float *from = state_before(p, s, b);
    if (from)
        memcpy(to, from, (size_t)n * sizeof *to);
    else
        memset(to, 0, (size_t)n * sizeof *to);
}

/* g [i o f c] from dh and dc; dc becomes that of the cell before. dp: of the peepholes, or NULL. */
static void lstm_row(const pass *p, const float *row, const float *c_before, float *g, const float *dh, float *dc,
                     float *dp)
{
    const int64_t n = p->z.hidden;
    const float *i = row, *o = row + n, *f = row + 2 * n, *z = row + 3 * n, *c = row + 4 * n, *t = row + 5 * n;
    float *di = g, *d_o = g + n, *df = g + 2 * n, *dz = g + 3 * n;
    for (int64_t k = 0; k < n; k++) {
        d_o[k] = dh[k] * t[k];
        di[k] = dh[k] * o[k]; /* for now: of the activated cell */
    }
    through(p, 2, false, di, t, n);
    through(p, 0, true, d_o, o, n);
    for (int64_t k = 0; k < n; k++)
        dc[k] += di[k];
    for (int64_t k = 0; p->peep && k < n; k++)
        dc[k] += d_o[k] * p->peep[n + k];
    for (int64_t k = 0; k < n; k++) {
        const float before = c_before ? c_before[k] : 0;
        di[k] = dc[k] * z[k];
        dz[k] = dc[k] * i[k];
        df[k] = dc[k] * before;
        dc[k] *= f[k];
    }
    if (p->input_forget) /* f = 1 - i */
        for (int64_t k = 0; k < n; k++) {
            di[k] -= df[k];
            df[k] = 0;
        }
    else
        through(p, 0, true, df, f, n);
    through(p, 0, true, di, i, n);
    through(p, 1, true, dz, z, n);
    for (int64_t k = 0; p->peep && k < n; k++)
        dc[k] += di[k] * p->peep[k] + df[k] * p->peep[2 * n + k];
    for (int64_t k = 0; dp && k < n; k++) {
        dp[k] += di[k] * (c_before ? c_before[k] : 0);
        dp[n + k] += d_o[k] * c[k];
        dp[2 * n + k] += df[k] * (c_before ? c_before[k] : 0);
    }
}

/* g [z r h], but for what comes through the reset: r is 0 yet unless linear_before_reset. dh becomes what the state before gets
 * directly. */
static void gru_row(const pass *p, const float *row, const float *before, float *g, float *dh)
{
    const int64_t n = p->z.hidden;
    const float *z = row, *h = row + 2 * n;
    float *dz = g, *d_h = g + 2 * n;
    for (int64_t k = 0; k < n; k++) {
        dz[k] = dh[k] * ((before ? before[k] : 0) - h[k]);
        d_h[k] = dh[k] * (1 - z[k]);
        dh[k] *= z[k];
    }
    through(p, 0, true, dz, z, n);
    through(p, 1, true, d_h, h, n);
}

/* ---- one direction ---- */

/* y [batch][hidden] = g [batch][columns] (rows ld apart) x rows first.. of R */
static rq_status recur(const pass *p, float *y, const float *g, int64_t ld, int64_t first, int64_t columns)
{
    const int64_t n = p->z.hidden;
    return rq_gemm_f32(p->a->k, y, g, p->rec + first * n, false, false, p->z.batch, n, columns, 1, ld, n, 0, n,
                       p->a->threads);
}

static void add(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

/* The reset of a GRU, and the state before it. */
static rq_status gru_reset(const pass *p, const room *r, int64_t s)
{
    const int64_t n = p->z.hidden, batch = p->z.batch;
    assert(r->rec);              /* a GRU has it */
    if (!p->linear_before_reset) /* to r * h */
        RQ_TRY(recur(p, r->tmp, r->gate + 2 * n, 3 * n, 2 * n, n));
    for (int64_t b = 0; b < batch; b++) {
        const int64_t t = rq_recurrent_time(p, s, b);
        if (t < 0)
            continue;
        const float *row = rq_recurrent_saved_row(p, s, b), *before = state_before(p, s, b), *reset = row + n;
        float *g = r->gate + b * 3 * n, *dr = g + n, *d_h = g + 2 * n, *dh = r->dh + b * n;
        float *rec = r->rec + (t * batch + b) * n;
        for (int64_t k = 0; k < n; k++) {
            const float h = before ? before[k] : 0;
            if (p->linear_before_reset) { /* h gate = x + r (R h + bias) */
                dr[k] = d_h[k] * row[4 * n + k];
                rec[k] = d_h[k] * reset[k];
            } else {
                const float d = r->tmp[b * n + k];
                dr[k] = d * h;
                dh[k] += d * reset[k];
                rec[k] = reset[k] * h;
            }
        }
        through(p, 0, true, dr, reset, n);
        memcpy(r->da + (t * batch + b) * 3 * n, g, (size_t)(3 * n) * sizeof *g);
        if (p->linear_before_reset) /* what R sees of it */
            memcpy(d_h, rec, (size_t)n * sizeof *rec);
    }
    return recur(p, r->tmp, r->gate, 3 * n, 0, p->linear_before_reset ? 3 * n : 2 * n);
}

static rq_status step(const pass *p, const room *r, int64_t s, float *dp)
{
    const rq_recurrent_sizes *z = &p->z;
    const int64_t n = z->hidden, gates = rq_recurrent_gates(p->cell) * n;
    const rq_tensor *dy = rq_grad_out(p->a, 0);
    memset(r->gate, 0, (size_t)(z->batch * gates) * sizeof(float));
    for (int64_t b = 0; b < z->batch; b++) {
        const int64_t t = rq_recurrent_time(p, s, b);
        if (t < 0)
            continue;
        const float *row = rq_recurrent_saved_row(p, s, b);
        float *g = r->gate + b * gates, *dh = r->dh + b * n;
        if (dy)
            add(dh, dy->f32 + rq_recurrent_output_row(p, t, b) * n, n);
        copy_state(p, s, b, r->before + (t * z->batch + b) * n);
        if (p->cell == RQ_RECURRENT_LSTM) {
            lstm_row(p, row, cell_before(p, s, b), g, dh, r->dc + b * n, dp);
        } else if (p->cell == RQ_RECURRENT_GRU) {
            gru_row(p, row, state_before(p, s, b), g, dh);
            continue; /* not done yet */
        } else {
            memcpy(g, dh, (size_t)n * sizeof *g);
            through(p, 0, true, g, row, n);
        }
        memcpy(r->da + (t * z->batch + b) * gates, g, (size_t)gates * sizeof *g);
    }
    RQ_TRY(p->cell == RQ_RECURRENT_GRU ? gru_reset(p, r, s) : recur(p, r->tmp, r->gate, gates, 0, gates));
    for (int64_t b = 0; b < z->batch; b++) {
        if (rq_recurrent_time(p, s, b) < 0)
            continue;
        if (p->cell == RQ_RECURRENT_GRU)
            add(r->dh + b * n, r->tmp + b * n, n);
        else
            memcpy(r->dh + b * n, r->tmp + b * n, (size_t)n * sizeof *r->dh);
    }
    return RQ_OK;
}

/* y [columns] = sums of x [rows][columns] (rows ld apart) */
static rq_status sum_rows(const rq_op_args *a, float *y, const float *x, int64_t rows, int64_t ld, int64_t columns)
{
    const rq_reduce_plan p = { .n_kept = 1,
                               .n_red = 1,
                               .kept = { columns },
                               .kept_stride = { 1 },
                               .red = { rows },
                               .red_stride = { ld },
                               .outputs = columns,
                               .group = rows,
                               .row = 1 };
    const rq_tensor in = rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 1, { rows * ld } }, (void *)x);
    rq_tensor out = rq_tensor_view(RQ_DTYPE_F32, &(rq_shape) { 1, { columns } }, y);
    return rq_reduce_run(a, &p, RQ_REDUCE_SUM, &out, &in);
}

static rq_status biases(const pass *p, const room *r)
{
    rq_tensor *db = rq_grad_in(p->a, 3);
    const int64_t n = p->z.hidden, gates = rq_recurrent_gates(p->cell) * n, rows = p->z.steps * p->z.batch;
    if (!db)
        return RQ_OK;
    float *w = db->f32 + p->dir * 2 * gates, *rec = w + gates;
    RQ_TRY(sum_rows(p->a, w, r->da, rows, gates, gates));
    memcpy(rec, w, (size_t)gates * sizeof *w);
    return p->linear_before_reset ? sum_rows(p->a, rec + 2 * n, r->rec, rows, n, n) : RQ_OK;
}

/* dR = da^T h; the h gate of a GRU meets something else. */
static rq_status recurrent_weights(const pass *p, const room *r)
{
    const int64_t n = p->z.hidden, gates = rq_recurrent_gates(p->cell) * n, rows = p->z.steps * p->z.batch;
    const rq_kernels *k = p->a->k;
    rq_threads *t = p->a->threads;
    if (!rq_grad_in(p->a, 2))
        return RQ_OK;
    float *dr = rq_grad_in(p->a, 2)->f32 + p->dir * gates * n;
    const int64_t m = p->cell == RQ_RECURRENT_GRU ? 2 * n : gates;
    RQ_TRY(rq_gemm_f32(k, dr, r->da, r->before, true, false, m, n, rows, 1, gates, n, 0, n, t));
    if (p->cell != RQ_RECURRENT_GRU)
        return RQ_OK;
    dr += 2 * n * n;
    return p->linear_before_reset
               ? rq_gemm_f32(k, dr, r->rec, r->before, true, false, n, n, rows, 1, n, n, 0, n, t)
               : rq_gemm_f32(k, dr, r->da + 2 * n, r->rec, true, false, n, n, rows, 1, gates, n, 0, n, t);
}

static rq_status weights(const pass *p, const room *r, const float *x, float *dx)
{
    const int64_t n = p->z.hidden, gates = rq_recurrent_gates(p->cell) * n, rows = p->z.steps * p->z.batch,
                  input = p->z.input;
    const rq_kernels *k = p->a->k;
    rq_threads *t = p->a->threads;
    if (rq_grad_in(p->a, 1))
        RQ_TRY(rq_gemm_f32(k, rq_grad_in(p->a, 1)->f32 + p->dir * gates * input, r->da, x, true, false, gates, input,
                           rows, 1, gates, input, 0, input, t));
    if (dx)
        RQ_TRY(rq_gemm_f32(k, dx, r->da, p->w, false, false, rows, input, gates, 1, gates, input, p->dir ? 1 : 0, input,
                           t));
    RQ_TRY(recurrent_weights(p, r));
    return biases(p, r);
}

/* [batch][hidden] of this direction from a gradient (NULL: zero), or to one that is wanted. */
static void load(const pass *p, float *to, const rq_tensor *t)
{
    const size_t bytes = (size_t)p->z.hidden * sizeof *to;
    for (int64_t b = 0; b < p->z.batch; b++)
        if (t)
            memcpy(to + b * p->z.hidden, rq_recurrent_state(p, t, b), bytes);
        else
            memset(to + b * p->z.hidden, 0, bytes);
}

static void store(const pass *p, rq_tensor *t, const float *from)
{
    for (int64_t b = 0; t && b < p->z.batch; b++)
        memcpy(rq_recurrent_state(p, t, b), from + b * p->z.hidden, (size_t)p->z.hidden * sizeof *from);
}

static rq_status direction(const pass *p, const room *r, const float *x, float *dx)
{
    const rq_recurrent_sizes *z = &p->z;
    const int64_t rows = z->steps * z->batch, n = z->hidden, gates = rq_recurrent_gates(p->cell) * n;
    rq_tensor *dp = p->cell == RQ_RECURRENT_LSTM ? rq_grad_in(p->a, 7) : NULL;
    memset(r->da, 0, (size_t)(rows * gates) * sizeof(float));
    memset(r->before, 0, (size_t)(rows * n) * sizeof(float));
    if (r->rec)
        memset(r->rec, 0, (size_t)(rows * n) * sizeof(float));
    if (dp)
        memset(dp->f32 + p->dir * 3 * n, 0, (size_t)(3 * n) * sizeof(float));
    load(p, r->dh, rq_grad_out(p->a, 1));
    load(p, r->dc, p->cell == RQ_RECURRENT_LSTM ? rq_grad_out(p->a, 2) : NULL);
    for (int64_t s = rq_recurrent_longest(p) - 1; s >= 0; s--)
        RQ_TRY(step(p, r, s, dp ? dp->f32 + p->dir * 3 * n : NULL));
    store(p, rq_grad_in(p->a, 5), r->dh);
    store(p, p->cell == RQ_RECURRENT_LSTM ? rq_grad_in(p->a, 6) : NULL, r->dc);
    return weights(p, r, x, dx);
}

rq_status rq_recurrent_grad_backward(const rq_op_args *a)
{
    pass p;
    room r;
    bool any = false;
    for (int i = 0; i < a->n_out; i++)
        any = any || rq_grad_out(a, i);
    if (!any || !rq_tensor_count(a->in[0]) || !rq_tensor_count(a->in[2]))
        return rq_grad_none(a);
    RQ_TRY(rq_recurrent_open(a, &p));
    p.saved = a->training->saved;
    lay_out(&p, a->scratch, &r);
    const rq_recurrent_sizes *z = &p.z;
    rq_tensor *dx_out = rq_grad_in(a, 0);
    const float *x = a->in[0]->f32;
    float *dx = !dx_out ? NULL : z->batch_first ? r.dx : dx_out->f32;
    const int64_t dim[] = { z->steps, z->batch, z->input }, rows[] = { z->batch * z->input, z->input, 1 },
                  images[] = { z->input, z->steps * z->input, 1 };
    if (z->batch_first) {
        rq_move_nd(r.x, x, sizeof(float), 3, dim, rows, images);
        x = r.x;
    }
    for (int dir = 0; dir < z->dirs; dir++) {
        rq_recurrent_turn(&p, dir);
        const rq_status s = direction(&p, &r, x, dx);
        if (s != RQ_OK)
            return rq_op_fail(a, s, "a matrix product failed");
    }
    if (dx && z->batch_first)
        rq_move_nd(dx_out->data, dx, sizeof(float), 3, dim, images, rows);
    return RQ_OK;
}
