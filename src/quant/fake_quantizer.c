/* quant/fake_quantizer.c — what all fake-quantizers share: creation, the order of a forward, switches, parameters. The kinds
 * themselves are rows (quant/fake_quantizer.h): fake_quantizer_plain.c, fake_quantizer_learnable.c, fake_quantizer_own.c. */
#include "quant/fake_quantizer.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "quant/exec.h"
#include "quant/fake_quantize.h"
#include "quant/observer_row.h"
#include "tensor/strided.h"

static const rq_fake_quantizer_row *const rows[RQ_N_FAKE_QUANTIZERS] = {
    [RQ_FAKE_QUANTIZER_STANDARD] = &rq_fake_quantizer_standard,
    [RQ_FAKE_QUANTIZER_FUSED] = &rq_fake_quantizer_fused,
    [RQ_FAKE_QUANTIZER_FIXED] = &rq_fake_quantizer_fixed,
    [RQ_FAKE_QUANTIZER_LEARNABLE] = &rq_fake_quantizer_learnable,
    [RQ_FAKE_QUANTIZER_OWN] = &rq_fake_quantizer_own,
};

/* ---- making ---- */

const char *rq_fake_quantizer_kind_name(rq_fake_quantizer_kind kind)
{
    return (unsigned)kind < RQ_N_FAKE_QUANTIZERS ? rows[kind]->name : "?";
}

rq_fake_quantizer_cfg rq_fake_quantizer_defaults(rq_fake_quantizer_kind kind)
{
    rq_fake_quantizer_cfg c = {
        .kind = kind,
        .observer =
            rq_observer_defaults(kind == RQ_FAKE_QUANTIZER_FIXED ? RQ_OBSERVER_FIXED : RQ_OBSERVER_MOVING_AVERAGE),
        .rule = RQ_LEARNED_TORCH,
    };
    if (kind == RQ_FAKE_QUANTIZER_FIXED)
        c.observer.scale = 1 / 256.0f;
    return c;
}

static rq_status check(const rq_fake_quantizer_cfg *c, rq_err *err)
{
    const rq_observer_kind o = c->observer.kind;
    const bool fixed = c->kind == RQ_FAKE_QUANTIZER_FIXED;
    if ((unsigned)c->kind >= RQ_N_FAKE_QUANTIZERS)
        return rq_fail(err, RQ_BAD_ARG, "no fake-quantizer has kind %d", (int)c->kind);
    if (c->kind == RQ_FAKE_QUANTIZER_OWN) {
        if (!c->own || !c->own->name || !c->own->create || !c->own->destroy || !c->own->forward || !c->own->qparams ||
            !c->own->reset)
            return rq_fail(err, RQ_BAD_ARG,
                           "an own fake-quantizer needs name, create, destroy, forward, qparams and reset");
        return RQ_OK;
    }
    if (rq_qtype_width(&c->observer.type) > 16 || rq_qtype_is_float(&c->observer.type))
        return rq_fail(err, RQ_BAD_DTYPE, "fake quantization in training wants integers of up to 16 bits, not %s",
                       rq_dtype_name(c->observer.type.dtype));
    if (o == RQ_OBSERVER_PLACEHOLDER || o == RQ_OBSERVER_RECORDING || o == RQ_OBSERVER_NOOP ||
        o == RQ_OBSERVER_REUSE_INPUT)
        return rq_fail(err, RQ_BAD_ARG, "the observer %s finds no scale and zero point; %s needs one that does",
                       rq_observer_kind_name(o), rows[c->kind]->name);
    if (fixed != (o == RQ_OBSERVER_FIXED))
        return rq_fail(err, RQ_BAD_ARG, "the observer %s and %s do not go together", rq_observer_kind_name(o),
                       rows[c->kind]->name);
    if (c->kind == RQ_FAKE_QUANTIZER_FUSED && o != RQ_OBSERVER_MINMAX && o != RQ_OBSERVER_MOVING_AVERAGE)
        return rq_fail(err, RQ_BAD_ARG, "%s works with extremes or their moving average, not with the observer %s",
                       rows[c->kind]->name, rq_observer_kind_name(o));
    const bool floats = c->observer.scheme == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS;
    if (floats && c->kind != RQ_FAKE_QUANTIZER_STANDARD)
        return rq_fail(err, RQ_BAD_ARG, "%s has no real zero points (scheme %s)", rows[c->kind]->name,
                       rq_qscheme_name(c->observer.scheme));
    if (c->kind != RQ_FAKE_QUANTIZER_LEARNABLE)
        return RQ_OK;
    if ((unsigned)c->rule >= RQ_N_LEARNED_RULES)
        return rq_fail(err, RQ_BAD_ARG, "no rule of learned quantization has number %d", (int)c->rule);
    if (c->scale != 0 && !(isnormal(c->scale) && c->scale > 0))
        return rq_fail(err, RQ_BAD_ARG, "the scale to start from is %g; a normal number above 0, or 0, is expected",
                       c->scale);
    if (!isfinite(c->zero_point))
        return rq_fail(err, RQ_BAD_ARG, "the zero point to start from is %g; a finite number is expected",
                       c->zero_point);
    if (c->channels < 0 || (c->channels > 1 && c->observer.axis == RQ_PER_TENSOR))
        return rq_fail(err, RQ_BAD_ARG, "%d channels where axis is %d", c->channels, c->observer.axis);
    return RQ_OK;
}

/* Switches and parameters of an object that has seen nothing. Where there is a block for them, nothing can fail. */
static rq_status start(rq_fake_quantizer *q, rq_err *err)
{
    const rq_fake_quantizer_cfg *c = &q->cfg;
    const bool learnable = c->kind == RQ_FAKE_QUANTIZER_LEARNABLE;
    q->observer_on = q->fake_quant_on = q->requires_grad = true;
    q->learning = q->watching = false;
    if (c->kind == RQ_FAKE_QUANTIZER_FIXED)
        return q->n ? RQ_OK : rq_fake_quantizer_take(q, err);
    q->n = 0;
    q->known = learnable && c->scale > 0;
    const int n = c->kind == RQ_FAKE_QUANTIZER_OWN ? 0 : c->observer.axis == RQ_PER_TENSOR ? 1 : c->channels;
    return n ? rq_fake_quantizer_set_channels(q, n, err) : RQ_OK;
}

rq_status rq_fake_quantizer_create(rq_fake_quantizer **out, const rq_fake_quantizer_cfg *cfg, rq_err *err)
{
    RQ_TRY(check(cfg, err));
    rq_fake_quantizer *q = rq_mem_zalloc(1, sizeof *q);
    if (!q)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory making a fake-quantizer");
    q->cfg = *cfg;
    q->cfg.observer.compat |= cfg->compat;
    q->row = rows[cfg->kind];
    q->type = cfg->observer.type;
    rq_status s = RQ_OK;
    if (cfg->kind == RQ_FAKE_QUANTIZER_OWN) {
        q->state = cfg->own->create(cfg->own->user, cfg);
        if (!q->state)
            s = rq_fail(err, RQ_NO_MEMORY, "out of memory making the fake-quantizer %s", cfg->own->name);
    } else {
        s = rq_observer_create(&q->observer, &q->cfg.observer, err);
        if (!s)
            q->type = rq_observer_type(q->observer);
    }
    if (!s)
        s = start(q, err);
    if (s) {
        rq_fake_quantizer_destroy(q);
        return s;
    }
    *out = q;
    return RQ_OK;
}

void rq_fake_quantizer_destroy(rq_fake_quantizer *q)
{
    if (!q)
        return;
    if (q->state)
        q->cfg.own->destroy(q->state);
    rq_observer_destroy(q->observer);
    rq_mem_free(q->scale);
    rq_mem_free(q);
}

void rq_fake_quantizer_reset(rq_fake_quantizer *q)
{
    if (q->observer)
        rq_observer_reset(q->observer);
    else
        q->cfg.own->reset(q->state);
    (void)!start(q, NULL);
}

/* ---- parameters ---- */

/* What an empty object has. */
static void fill(rq_fake_quantizer *q)
{
    const bool learnable = q->cfg.kind == RQ_FAKE_QUANTIZER_LEARNABLE;
    for (int c = 0; c < q->n; c++) {
        q->scale[c] = learnable && q->cfg.scale > 0 ? q->cfg.scale : 1;
        q->zero_point[c] = learnable ? q->cfg.zero_point : 0;
    }
    rq_fake_quantizer_zero_grad(q);
}

rq_status rq_fake_quantizer_set_channels(rq_fake_quantizer *q, int n, rq_err *err)
{
    if (q->n == n)
        return RQ_OK;
    if (n > q->room) {
        float *block = rq_mem_alloc((size_t)n, 6 * sizeof(float) + sizeof(int32_t));
        if (!block)
            return rq_fail(err, RQ_NO_MEMORY, "out of memory for %d scales", n);
        rq_mem_free(q->scale);
        q->scale = block;
        q->room = n;
    }
    float *const after = q->scale;
    const size_t r = (size_t)q->room;
    q->zero_point = after + r, q->dscale = after + 2 * r, q->dzero_point = after + 3 * r, q->spare = after + 4 * r;
    q->code = (int32_t *)(after + 6 * r);
    q->n = n;
    fill(q);
    return RQ_OK;
}

bool rq_fake_quantizer_has_seen(const rq_fake_quantizer *q)
{
    return q->cfg.kind == RQ_FAKE_QUANTIZER_FIXED || rq_observer_has_seen(q->observer);
}

rq_status rq_fake_quantizer_unseen(rq_err *err)
{
    return rq_fail(
        err, RQ_BAD_DATA,
        "a fake-quantizer that has seen nothing has no scale: expected a forward with its observer on, a state, "
        "or scale and zero point set");
}

rq_status rq_fake_quantizer_take(rq_fake_quantizer *q, rq_err *err)
{
    rq_qparams p;
    const bool seen = rq_fake_quantizer_has_seen(q);
    if (!seen && !q->cfg.compat)
        return RQ_OK;
    const int channels = rq_observer_channels(q->observer);
    RQ_TRY(rq_fake_quantizer_set_channels(q, seen && channels ? channels : 1, err));
    RQ_TRY(rq_observer_qparams(q->observer, &p, q->spare, err));
    for (int c = 0; c < q->n; c++) {
        q->scale[c] = p.scale[p.n == 1 ? 0 : c];
        q->zero_point[c] = q->spare[p.n == 1 ? 0 : c];
    }
    rq_qparams_release(&p);
    q->known |= seen;
    return RQ_OK;
}

rq_status rq_fake_quantizer_stored(const rq_fake_quantizer *q, rq_qparams *out, float *zero_point_f, rq_err *err)
{
    rq_qparams p;
    if (q->cfg.observer.scheme == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS && !zero_point_f)
        return rq_fail(err, RQ_BAD_ARG, "zero points that are reals need a place to go: zero_point_f is NULL");
    for (int c = 0; c < q->n; c++)
        if (!isfinite(q->scale[c]) || isnan(q->zero_point[c]))
            return rq_fail(err, RQ_NUMERIC, "scale %d is %g and its zero point %g, expected finite numbers", c,
                           q->scale[c], q->zero_point[c]);
    if (rq_qparams_init(&p, q->type.dtype, q->cfg.observer.axis, 0, q->n))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for %d scales", q->n);
    for (int c = 0; c < q->n; c++) {
        p.scale[c] = q->scale[c];
        p.zero_point[c] = rq_learned_zero_point(&q->type, q->zero_point[c]);
        if (zero_point_f)
            zero_point_f[c] = q->zero_point[c];
    }
    *out = p;
    return RQ_OK;
}

rq_status rq_fake_quantizer_set_qparams(rq_fake_quantizer *q, const float *scale, const float *zero_point, int n,
                                        rq_err *err)
{
    if (q->cfg.kind == RQ_FAKE_QUANTIZER_OWN || q->cfg.kind == RQ_FAKE_QUANTIZER_FIXED)
        return rq_fail(err, RQ_BAD_ARG, "scale and zero point of %s are not set from outside", q->row->name);
    const int seen = rq_observer_channels(q->observer), want = seen ? seen : q->n;
    if (n < 1 || (want && n != want))
        return rq_fail(err, RQ_BAD_ARG, "%d scales for %d channels", n, want ? want : 1);
    const bool floats =
        q->cfg.kind == RQ_FAKE_QUANTIZER_LEARNABLE || q->cfg.observer.scheme == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS;
    for (int c = 0; c < n; c++) {
        const float z = zero_point ? zero_point[c] : 0;
        if (!(isnormal(scale[c]) && scale[c] > 0))
            return rq_fail(err, RQ_NUMERIC, "scale %d is %g; a normal number above 0 is expected", c, scale[c]);
        if (!isfinite(z) || (!floats && (z != rintf(z) || z < (float)q->type.lo || z > (float)q->type.hi)))
            return rq_fail(err, RQ_NUMERIC, "zero point %d is %g; %s is expected", c, z,
                           floats ? "a finite number" : "one of the codes");
    }
    RQ_TRY(rq_fake_quantizer_set_channels(q, n, err));
    memcpy(q->scale, scale, (size_t)n * sizeof *scale);
    for (int c = 0; c < n; c++)
        q->zero_point[c] = zero_point ? zero_point[c] : 0;
    q->known = true;
    return RQ_OK;
}

rq_status rq_fake_quantizer_qparams(const rq_fake_quantizer *q, rq_qparams *out, float *zero_point_f, rq_err *err)
{
    return q->row->qparams(q, out, zero_point_f, err);
}

/* ---- forward and backward ---- */

enum { PIECE = 65536, TILE = 1024 };

typedef struct copy_job {
    const rq_strided *to, *from;
    int64_t count;
} copy_job;

static void copy_piece(void *arg, int64_t piece)
{
    const copy_job *j = arg;
    const int64_t from = piece * PIECE, to = j->count - from < PIECE ? j->count : from + PIECE;
    float tile[TILE];
    double wide[TILE];
    for (int64_t at = from; at < to; at += TILE) {
        const int64_t n = to - at < TILE ? to - at : TILE;
        if (j->to->dtype == RQ_DTYPE_F64) {
            rq_strided_read_f64(j->from, at, n, wide);
            rq_strided_write_f64(j->to, at, n, wide);
        } else {
            rq_strided_write(j->to, at, n, rq_strided_read(j->from, at, n, tile));
        }
    }
}

/* What neither quantizes nor moves. */
static rq_status copy(rq_exec *e, const rq_strided *to, const rq_strided *from, const char *what, rq_err *err)
{
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    RQ_TRY(rq_strided_check(from, "x", true, err));
    RQ_TRY(rq_strided_check(to, what, true, err));
    if (!rq_shape_equal(&to->shape, &from->shape))
        return rq_fail(err, RQ_BAD_SHAPE, "%s has shape %s where x has %s", what,
                       rq_shape_text(&to->shape, a, sizeof a), rq_shape_text(&from->shape, b, sizeof b));
    if (to->dtype != from->dtype)
        return rq_fail(err, RQ_BAD_DTYPE, "%s is %s where x is %s", what, rq_dtype_name(to->dtype),
                       rq_dtype_name(from->dtype));
    if (to->data == from->data && !memcmp(to->stride, from->stride, (size_t)to->shape.rank * sizeof *to->stride))
        return RQ_OK;
    copy_job j = { to, from, rq_shape_count(&from->shape) };
    rq_threads_for(rq_exec_pool(e), (j.count + PIECE - 1) / PIECE, copy_piece, &j);
    return RQ_OK;
}

/* Does y differ from x? */
static bool quantizes(const rq_fake_quantizer *q, const rq_strided *x)
{
    return q->fake_quant_on && !(q->observer && !rq_shape_count(&x->shape));
}

static rq_status observe(rq_fake_quantizer *q, rq_exec *e, const rq_strided *x, rq_err *err)
{
    if (!q->observer)
        return q->cfg.own->observe ? q->cfg.own->observe(q->state, e, x, err) : RQ_OK;
    RQ_TRY(rq_observer_update(q->observer, e, x, err));
    return q->row->follow ? q->row->follow(q, err) : RQ_OK;
}

static rq_status run(rq_fake_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *mask, const rq_strided *x,
                     rq_err *err)
{
    if (q->observer_on && !q->again)
        RQ_TRY(observe(q, e, x, err));
    if (!quantizes(q, x))
        return q->relu ? rq_fake_quantize_relu(e, y, mask, x, NULL, err) : copy(e, y, x, "y", err);
    return q->row->forward(q, e, y, mask, x, err);
}

rq_status rq_fake_quantizer_forward(rq_fake_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *x,
                                    rq_err *err)
{
    return run(q, e, y, NULL, x, err);
}

rq_status rq_fake_quantizer_backward(rq_fake_quantizer *q, rq_exec *e, const rq_strided *dx, const rq_strided *dy,
                                     const rq_strided *x, rq_err *err)
{
    if (!quantizes(q, x))
        return copy(e, dx, dy, "dx", err);
    return q->row->backward(q, e, dx, dy, x, err);
}

/* ---- one pass of several ---- */

bool rq_fake_quantizer_masks(const rq_fake_quantizer *q)
{
    return q->row->masks;
}

int rq_fake_quantizer_pass_room(const rq_fake_quantizer *q, const rq_shape *x)
{
    const int axis = q->cfg.observer.axis;
    const int64_t n = q->cfg.kind == RQ_FAKE_QUANTIZER_OWN || axis < 0 || axis >= x->rank ? 1 : x->dim[axis];
    return n > q->n && n < INT32_MAX ? (int)n : q->n > 1 ? q->n : 1;
}

/* The numbers of the object, for the time of a call: those of the pass. */
static void swap_numbers(rq_fake_quantizer *q, const rq_fake_quantizer_pass *p)
{
    for (int c = 0; c < p->n && q->observer; c++) {
        const float scale = q->scale[c], zero_point = q->zero_point[c];
        q->scale[c] = p->scale[c], q->zero_point[c] = p->zero_point[c];
        p->scale[c] = scale, p->zero_point[c] = zero_point;
    }
}

static rq_strided mask_of(const rq_fake_quantizer_pass *p, const rq_shape *shape)
{
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_U8, shape, p->mask);
    return rq_strided_of(&t);
}

rq_status rq_fake_quantizer_forward_pass(rq_fake_quantizer *q, rq_exec *e, const rq_strided *y, const rq_strided *x,
                                         rq_fake_quantizer_pass *p, bool again, rq_err *err)
{
    const rq_strided mask = mask_of(p, &x->shape), *to = p->mask ? &mask : NULL;
    const bool on = q->fake_quant_on;
    rq_status st;
    q->relu = p->relu && to;
    if (again) {
        q->again = true;
        q->fake_quant_on = p->quantized;
        swap_numbers(q, p);
        st = run(q, e, y, to, x, err);
        swap_numbers(q, p);
        q->fake_quant_on = on;
        q->again = q->relu = false;
        return st;
    }
    st = run(q, e, y, to, x, err);
    q->relu = false;
    RQ_TRY(st);
    p->quantized = quantizes(q, x);
    p->n = !p->quantized || !q->observer ? 0 : q->n < p->room ? q->n : p->room;
    for (int c = 0; c < p->n; c++) {
        p->scale[c] = q->scale[c];
        p->zero_point[c] = q->zero_point[c];
    }
    return RQ_OK;
}

rq_status rq_fake_quantizer_backward_pass(rq_fake_quantizer *q, rq_exec *e, const rq_strided *dx, const rq_strided *dy,
                                          const rq_strided *x, rq_fake_quantizer_pass *p, rq_err *err)
{
    const rq_strided mask = mask_of(p, &dy->shape);
    if (p->mask && !dx)
        return RQ_OK;
    if (p->mask && p->relu)
        return rq_fake_quantize_relu_backward(e, dx, dy, &mask, err);
    if (!p->quantized)
        return dx ? copy(e, dx, dy, "dx", err) : RQ_OK;
    if (p->mask)
        return rq_fake_quantize_backward_mask(e, dx, dy, &mask, err);
    swap_numbers(q, p);
    const rq_status st = q->row->backward(q, e, dx, dy, x, err);
    swap_numbers(q, p);
    return st;
}

/* ---- switches ---- */

void rq_fake_quantizer_enable_observer(rq_fake_quantizer *q, bool on)
{
    q->observer_on = on;
    q->watching = false;
}

void rq_fake_quantizer_enable_fake_quant(rq_fake_quantizer *q, bool on)
{
    q->fake_quant_on = on;
}

bool rq_fake_quantizer_observer_enabled(const rq_fake_quantizer *q)
{
    return q->observer_on;
}

bool rq_fake_quantizer_fake_quant_enabled(const rq_fake_quantizer *q)
{
    return q->fake_quant_on;
}

/* ---- looking ---- */

typedef struct own_params {
    int n;
    float *scale, *zero_point, *dscale, *dzero_point;
} own_params;

static own_params params_of(const rq_fake_quantizer *q)
{
    own_params p = { q->n, q->scale, q->zero_point, q->dscale, q->dzero_point };
    if (q->state) {
        p = (own_params) { 0 };
        if (q->cfg.own->params)
            q->cfg.own->params(q->state, &p.n, &p.scale, &p.zero_point, &p.dscale, &p.dzero_point);
    }
    return p.n ? p : (own_params) { 0 };
}

int rq_fake_quantizer_channels(const rq_fake_quantizer *q)
{
    return params_of(q).n;
}

float *rq_fake_quantizer_scale(rq_fake_quantizer *q)
{
    return params_of(q).scale;
}

float *rq_fake_quantizer_zero_point(rq_fake_quantizer *q)
{
    return params_of(q).zero_point;
}

float *rq_fake_quantizer_dscale(rq_fake_quantizer *q)
{
    return params_of(q).dscale;
}

float *rq_fake_quantizer_dzero_point(rq_fake_quantizer *q)
{
    return params_of(q).dzero_point;
}

void rq_fake_quantizer_zero_grad(rq_fake_quantizer *q)
{
    const own_params p = params_of(q);
    if (p.dscale)
        memset(p.dscale, 0, (size_t)p.n * sizeof *p.dscale);
    if (p.dzero_point)
        memset(p.dzero_point, 0, (size_t)p.n * sizeof *p.dzero_point);
}

const rq_observer *rq_fake_quantizer_observer(const rq_fake_quantizer *q)
{
    return q->observer;
}

rq_qtype rq_fake_quantizer_type(const rq_fake_quantizer *q)
{
    return q->type;
}
