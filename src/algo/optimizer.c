/* algo/optimizer.c — SGD, Adam and AdamW, as PyTorch computes them: the same formulas in the same order, in float32.
 *
 * A step has two passes over pieces of fixed size, which any number of threads may share: the first adds the squares of
 * all gradients (so that one that is not finite is found before anything is changed, and clipping knows the norm), the
 * second updates. Buffers are kept per name: what trains may come and go between steps (fake-quantizers do). */
#include <assert.h>
#include <fnmatch.h>
#include <math.h>
#include <string.h>

#include "base/libm.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "quant/exec.h"
#include "requant/optim.h"

typedef struct slot {
    char *name;
    int64_t count, step;
    float *m, *v; /* SGD: momentum buffer, none; Adam: exp_avg, exp_avg_sq. NULL: not needed, or not yet */
} slot;

typedef struct slots {
    slot *items;
    int n, cap;
} slots;

typedef struct piece {
    int parameter;
    int64_t first, n;
    double squares;
} piece;

/* What a parameter's update needs, as settled for this step; the scalars of PyTorch, in double. */
typedef struct plan {
    slot *slot;
    bool trains;
    double lr, decay;
    double step_size, correction; /* Adam: lr / (1 - beta1^t), sqrt(1 - beta2^t) */
} plan;

struct rq_optimizer {
    rq_optimizer_cfg cfg;
    rq_param_group *groups;
    int n_groups;
    bool checked; /* groups against parameters */
    slots slots;
    plan *plans;
    int cap_plans;
    piece *pieces;
    int n_pieces, cap_pieces;
};

enum { PIECE = 16384 };

rq_optimizer_cfg rq_optimizer_defaults(rq_optimizer_kind kind)
{
    return (rq_optimizer_cfg) { .kind = kind,
                                .lr = kind == RQ_OPTIMIZER_SGD ? 0.01 : 0.001,
                                .beta1 = 0.9,
                                .beta2 = 0.999,
                                .eps = 1e-8,
                                .weight_decay = kind == RQ_OPTIMIZER_ADAMW ? 0.01 : 0,
                                .scale_lr = 1 };
}

/* ---- create, destroy ---- */

static bool sane(double x, double below)
{
    return x >= 0 && x < below;
}

static rq_status check_cfg(const rq_optimizer_cfg *c, rq_err *err)
{
    const struct {
        const char *name;
        double value, below;
    } numbers[] = { { "lr", c->lr, INFINITY },
                    { "momentum", c->momentum, INFINITY },
                    { "dampening", c->dampening, INFINITY },
                    { "beta1", c->beta1, 1 },
                    { "beta2", c->beta2, 1 },
                    { "eps", c->eps, INFINITY },
                    { "weight_decay", c->weight_decay, INFINITY },
                    { "scale_lr", c->scale_lr, INFINITY },
                    { "clip_norm", c->clip_norm, INFINITY },
                    { "clip_value", c->clip_value, INFINITY } };
    if ((int)c->kind < 0 || c->kind >= RQ_N_OPTIMIZERS)
        return rq_fail(err, RQ_BAD_ARG, "there is no optimizer %d", (int)c->kind);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!sane(numbers[i].value, numbers[i].below))
            return rq_fail(err, RQ_BAD_ARG, "%s of the optimizer is %g, expected a number from 0 %s", numbers[i].name,
                           numbers[i].value, numbers[i].below == 1 ? "to below 1" : "up");
    if (c->kind == RQ_OPTIMIZER_SGD && c->nesterov && (c->momentum == 0 || c->dampening != 0))
        return rq_fail(err, RQ_BAD_ARG,
                       "Nesterov momentum wants a momentum above 0 and no dampening; they are %g and %g", c->momentum,
                       c->dampening);
    return RQ_OK;
}

static rq_status copy_groups(rq_optimizer *o, const rq_param_group *groups, int n, rq_err *err)
{
    o->groups = rq_mem_zalloc((size_t)n, sizeof *o->groups);
    if (!o->groups)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for an optimizer");
    for (int i = 0; i < n; i++) {
        rq_param_group *g = &o->groups[i];
        if (!sane(groups[i].lr_factor, INFINITY) || isnan(groups[i].weight_decay))
            return rq_fail(err, RQ_BAD_ARG, "group %d of parameters: lr_factor %g, weight_decay %g; expected numbers",
                           i, groups[i].lr_factor, groups[i].weight_decay);
        *g = groups[i];
        g->name = groups[i].name ? rq_mem_strdup(groups[i].name) : NULL;
        o->n_groups++;
        if (groups[i].name && !g->name)
            return rq_fail(err, RQ_NO_MEMORY, "out of memory for an optimizer");
    }
    return RQ_OK;
}

rq_status rq_optimizer_create(rq_optimizer **out, const rq_optimizer_cfg *cfg, const rq_param_group *groups,
                              int n_groups, rq_err *err)
{
    const rq_optimizer_cfg defaults = rq_optimizer_defaults(RQ_OPTIMIZER_SGD);
    cfg = cfg ? cfg : &defaults;
    RQ_TRY(check_cfg(cfg, err));
    rq_optimizer *o = rq_mem_zalloc(1, sizeof *o);
    if (!o)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for an optimizer");
    o->cfg = *cfg;
    const rq_status st = copy_groups(o, groups, n_groups, err);
    if (st)
        rq_optimizer_destroy(o);
    else
        *out = o;
    return st;
}

static void release_slots(slots *s)
{
    for (int i = 0; i < s->n; i++) {
        rq_mem_free(s->items[i].name);
        rq_mem_free(s->items[i].m);
        rq_mem_free(s->items[i].v);
    }
    rq_mem_free(s->items);
    *s = (slots) { 0 };
}

void rq_optimizer_destroy(rq_optimizer *o)
{
    if (!o)
        return;
    for (int i = 0; i < o->n_groups; i++)
        rq_mem_free((char *)o->groups[i].name);
    rq_mem_free(o->groups);
    release_slots(&o->slots);
    rq_mem_free(o->plans);
    rq_mem_free(o->pieces);
    rq_mem_free(o);
}

/* ---- groups ---- */

static bool fits(const rq_param_group *g, const rq_parameter *p)
{
    return (g->role < 0 || g->role == (int)p->role) && (!g->name || fnmatch(g->name, p->name, 0) == 0);
}

static rq_status check_groups(const rq_optimizer *o, const rq_parameter *p, int n, rq_err *err)
{
    for (int i = 0; i < o->n_groups; i++) {
        const rq_param_group *g = &o->groups[i];
        int k = 0;
        while (k < n && !fits(g, &p[k]))
            k++;
        if (k < n)
            continue;
        if (!g->name)
            return rq_fail(err, RQ_NOT_FOUND, "group %d of parameters fits none of %d: none has its role", i, n);
        rq_nearest near = rq_nearest_to(g->name);
        char hint[RQ_NEAREST_HINT];
        for (k = 0; k < n; k++)
            rq_nearest_try(&near, p[k].name);
        return rq_fail(err, RQ_NOT_FOUND, "group %d of parameters: '%.80s' fits none of %d%s", i, g->name, n,
                       rq_nearest_hint(&near, hint));
    }
    return RQ_OK;
}

static bool is_of_quantizer(const rq_parameter *p)
{
    return p->role == RQ_PARAMETER_SCALE || p->role == RQ_PARAMETER_ZERO_POINT;
}

/* Rate and decay of a parameter. */
static void settle(const rq_optimizer *o, const rq_parameter *p, double lr, plan *out)
{
    const rq_param_group *g = NULL;
    for (int i = 0; i < o->n_groups && !g; i++)
        g = fits(&o->groups[i], p) ? &o->groups[i] : NULL;
    const double factor = (g ? g->lr_factor : 1) * (is_of_quantizer(p) ? o->cfg.scale_lr : 1);
    out->lr = lr * factor;
    out->decay = g && g->weight_decay >= 0                            ? g->weight_decay
                 : o->cfg.decay_all || p->role == RQ_PARAMETER_WEIGHT ? o->cfg.weight_decay
                                                                      : 0;
    out->trains = factor > 0 && p->count > 0 && p->data && p->grad;
}

/* ---- buffers ---- */

static slot *find_slot(slots *s, const char *name, int guess)
{
    if (guess < s->n && !strcmp(s->items[guess].name, name))
        return &s->items[guess];
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->items[i].name, name))
            return &s->items[i];
    return NULL;
}

static slot *add_slot(slots *s, const char *name, size_t n)
{
    char *copy = rq_mem_strndup(name, n);
    if (!copy || !rq_mem_grow(&s->items, s->n, &s->cap, sizeof *s->items)) {
        rq_mem_free(copy);
        return NULL;
    }
    s->items[s->n] = (slot) { .name = copy };
    return &s->items[s->n++];
}

/* Room for its buffers, cleared. */
static rq_status make_buffers(const rq_optimizer *o, slot *s, int64_t count)
{
    const bool adam = o->cfg.kind != RQ_OPTIMIZER_SGD;
    s->count = count; /* first: memory may run out between the two */
    if (!s->m && (adam || o->cfg.momentum != 0) && !(s->m = rq_mem_zalloc((size_t)count, sizeof *s->m)))
        return RQ_NO_MEMORY;
    if (!s->v && adam && !(s->v = rq_mem_zalloc((size_t)count, sizeof *s->v)))
        return RQ_NO_MEMORY;
    return RQ_OK;
}

static rq_status add_pieces(rq_optimizer *o, int parameter, int64_t count)
{
    for (int64_t at = 0; at < count; at += PIECE) {
        if (!rq_mem_grow(&o->pieces, o->n_pieces, &o->cap_pieces, sizeof *o->pieces))
            return RQ_NO_MEMORY;
        o->pieces[o->n_pieces++] =
            (piece) { .parameter = parameter, .first = at, .n = count - at < PIECE ? count - at : PIECE };
    }
    return RQ_OK;
}

static rq_status prepare(rq_optimizer *o, const rq_parameter *p, int n, double lr, rq_err *err)
{
    o->n_pieces = 0;
    if (n > o->cap_plans) {
        plan *more = rq_mem_realloc(o->plans, (size_t)n, sizeof *more);
        if (!more)
            return rq_fail(err, RQ_NO_MEMORY, "out of memory for a step of the optimizer");
        o->plans = more;
        o->cap_plans = n;
    }
    for (int i = 0; i < n; i++) {
        settle(o, &p[i], lr, &o->plans[i]);
        if (!o->plans[i].trains)
            continue;
        slot *s = find_slot(&o->slots, p[i].name, i);
        if (!s && !(s = add_slot(&o->slots, p[i].name, strlen(p[i].name))))
            return rq_fail(err, RQ_NO_MEMORY, "out of memory for a step of the optimizer");
        if (s->count && s->count != p[i].count)
            return rq_fail(err, RQ_BAD_SHAPE, "parameter '%.80s' has %lld numbers; the optimizer knew it with %lld",
                           p[i].name, (long long)p[i].count, (long long)s->count);
        if (make_buffers(o, s, p[i].count) || add_pieces(o, i, p[i].count))
            return rq_fail(err, RQ_NO_MEMORY, "out of memory for the momentum of '%.80s'", p[i].name);
    }
    for (int i = 0; i < n; i++) /* when no slot moves any more */
        if (o->plans[i].trains)
            o->plans[i].slot = find_slot(&o->slots, p[i].name, i);
    return RQ_OK;
}

/* ---- the step ---- */

typedef struct step {
    rq_optimizer *o;
    const rq_parameter *p;
    float clip;       /* gradients are multiplied with it; 1: they are not */
    float clip_value; /* INFINITY: none */
} step;

static float clamped(float g, float bound)
{
    return g > bound ? bound : g < -bound ? -bound : g;
}

static void add_squares(void *arg, int64_t i)
{
    const step *s = arg;
    piece *w = &s->o->pieces[i];
    const float *g = s->p[w->parameter].grad + w->first, bound = s->clip_value;
    double sum[8] = { 0 };
    for (int64_t k = 0; k < w->n; k++) {
        const double v = isfinite(g[k]) ? clamped(g[k], bound) : g[k];
        sum[k & 7] += v * v;
    }
    w->squares = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

/* p, with the gradient g of n numbers */
static void step_sgd(const rq_optimizer_cfg *c, const plan *t, const step *s, float *restrict p,
                     const float *restrict grad, float *restrict m, int64_t n)
{
    const float decay = (float)t->decay, lr = (float)-t->lr, mu = (float)c->momentum;
    const float in = (float)(1 - c->dampening), clip = s->clip, bound = s->clip_value;
    const bool first = t->slot->step == 1, nesterov = c->nesterov;
    for (int64_t i = 0; i < n; i++) {
        float g = clamped(grad[i], bound) * clip;
        g = decay != 0 ? g + decay * p[i] : g;
        if (m) {
            m[i] = first ? g : mu * m[i] + in * g;
            g = nesterov ? g + mu * m[i] : m[i];
        }
        p[i] += lr * g;
    }
}

static void step_adam(const rq_optimizer_cfg *c, const plan *t, const step *s, float *restrict p,
                      const float *restrict grad, float *restrict m, float *restrict v, int64_t n)
{
    const bool decoupled = c->kind == RQ_OPTIMIZER_ADAMW;
    const float decay = decoupled ? 0 : (float)t->decay, keep = decoupled ? (float)(1 - t->lr * t->decay) : 1;
    const float w1 = (float)(1 - c->beta1), b1 = (float)c->beta1, b2 = (float)c->beta2, w2 = (float)(1 - c->beta2);
    const float root = (float)t->correction, eps = (float)c->eps, size = (float)-t->step_size;
    const float clip = s->clip, bound = s->clip_value;
    const bool near_start = w1 < 0.5f; /* PyTorch's lerp: from the nearer end */
    for (int64_t i = 0; i < n; i++) {
        float g = clamped(grad[i], bound) * clip;
        const float x = p[i] * keep;
        g = decay != 0 ? g + decay * x : g;
        m[i] = near_start ? m[i] + w1 * (g - m[i]) : g - (g - m[i]) * b1;
        v[i] = v[i] * b2 + w2 * g * g;
        p[i] = x + size * m[i] / (sqrtf(v[i]) / root + eps);
    }
}

static void update(void *arg, int64_t i)
{
    const step *s = arg;
    const piece *w = &s->o->pieces[i];
    const plan *t = &s->o->plans[w->parameter];
    const rq_parameter *p = &s->p[w->parameter];
    float *m = t->slot->m ? t->slot->m + w->first : NULL;
    if (s->o->cfg.kind == RQ_OPTIMIZER_SGD)
        step_sgd(&s->o->cfg, t, s, p->data + w->first, p->grad + w->first, m, w->n);
    else {
        assert(m && t->slot->v);
        step_adam(&s->o->cfg, t, s, p->data + w->first, p->grad + w->first, m, t->slot->v + w->first, w->n);
    }
}

/* Add up what add_squares found; a gradient that is not finite is said by the name of its parameter. */
static rq_status settle_norm(step *s, rq_err *err)
{
    double all = 0;
    for (int i = 0; i < s->o->n_pieces; i++) {
        const piece *w = &s->o->pieces[i];
        if (!isfinite(w->squares))
            return rq_fail(
                err, RQ_NUMERIC,
                "the gradient of '%.100s' is not finite: the steps before were too long (a lower learning rate or "
                "clipping may "
                "help), or an operator has no finite gradient at its input (Sqrt and Log at 0, a division by 0)",
                s->p[w->parameter].name);
        all += w->squares;
    }
    if (s->o->cfg.clip_norm > 0) { /* PyTorch's clip_grad_norm_ */
        const double factor = s->o->cfg.clip_norm / (sqrt(all) + 1e-6);
        s->clip = factor < 1 ? (float)factor : 1;
    }
    return RQ_OK;
}

rq_status rq_optimizer_step(rq_optimizer *o, rq_parameter *p, int n, double lr, rq_err *err)
{
    step s = { .o = o, .p = p, .clip = 1, .clip_value = o->cfg.clip_value > 0 ? (float)o->cfg.clip_value : INFINITY };
    rq_threads *pool = rq_exec_pool(o->cfg.exec);
    if (!isfinite(lr))
        return rq_fail(err, RQ_BAD_ARG, "the learning rate is %g, expected a number", lr);
    if (!o->checked)
        RQ_TRY(check_groups(o, p, n, err));
    o->checked = true;
    lr = lr < 0 ? o->cfg.lr : lr;
    RQ_TRY(prepare(o, p, n, lr, err));
    rq_threads_for(pool, o->n_pieces, add_squares, &s);
    RQ_TRY(settle_norm(&s, err));
    for (int i = 0; i < n; i++) {
        plan *t = &o->plans[i];
        if (!t->trains)
            continue;
        const int64_t k = ++t->slot->step;
        t->step_size = t->lr / (1 - rq_libm_powi(o->cfg.beta1, k));
        t->correction = sqrt(1 - rq_libm_powi(o->cfg.beta2, k));
    }
    rq_threads_for(pool, o->n_pieces, update, &s);
    return RQ_OK;
}

/* ---- state ---- */

static rq_status save_part(rq_state *to, const char *prefix, const slot *s, const char *part, const float *x)
{
    const size_t room = strlen(s->name) + strlen(part) + 2;
    char *name = rq_mem_alloc(room, 1);
    if (!name)
        return RQ_NO_MEMORY;
    strcpy(name, s->name);
    strcat(strcat(name, "."), part);
    const rq_status st =
        x ? rq_state_set_floats(to, prefix, name, x, s->count) : rq_state_set_ints(to, prefix, name, &s->step, 1);
    rq_mem_free(name);
    return st;
}

rq_status rq_optimizer_save(const rq_optimizer *o, rq_state *s, const char *prefix)
{
    const bool adam = o->cfg.kind != RQ_OPTIMIZER_SGD;
    for (int i = 0; i < o->slots.n; i++) {
        const slot *k = &o->slots.items[i];
        RQ_TRY(save_part(s, prefix, k, "step", NULL));
        if (k->m)
            RQ_TRY(save_part(s, prefix, k, adam ? "exp_avg" : "momentum_buffer", k->m));
        if (k->v)
            RQ_TRY(save_part(s, prefix, k, "exp_avg_sq", k->v));
    }
    return RQ_OK;
}

/* One tensor "<name>.<part>" into its slot. */
static rq_status load_part(const rq_optimizer *o, slots *to, const char *full, const rq_tensor *t, rq_err *err)
{
    const bool adam = o->cfg.kind != RQ_OPTIMIZER_SGD;
    const char *dot = strrchr(full, '.'), *part = dot ? dot + 1 : "";
    const bool is_step = !strcmp(part, "step"), is_m = !strcmp(part, adam ? "exp_avg" : "momentum_buffer"),
               is_v = adam && !strcmp(part, "exp_avg_sq");
    const int64_t n = rq_tensor_count(t);
    if (!(is_step || is_m || is_v) || t->dtype != (is_step ? RQ_DTYPE_S64 : RQ_DTYPE_F32) || (is_step && n != 1))
        return rq_fail(err, RQ_BAD_DATA, "'%.100s' is nothing that this optimizer keeps", full);
    slot *s = NULL;
    for (int i = 0; i < to->n && !s; i++)
        if (strlen(to->items[i].name) == (size_t)(dot - full) &&
            !strncmp(to->items[i].name, full, (size_t)(dot - full)))
            s = &to->items[i];
    if (!s && !(s = add_slot(to, full, (size_t)(dot - full))))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the state of the optimizer");
    if (is_step) {
        s->step = t->s64[0];
        return s->step >= 0 && s->step < INT64_MAX
                   ? RQ_OK
                   : rq_fail(err, RQ_BAD_DATA, "'%.100s' is %lld, no number of steps made", full, (long long)s->step);
    }
    if (s->count && s->count != n)
        return rq_fail(err, RQ_BAD_DATA, "'%.100s' has %lld numbers, others of it have %lld", full, (long long)n,
                       (long long)s->count);
    s->count = n;
    float **x = is_m ? &s->m : &s->v;
    rq_mem_free(*x);
    if (!(*x = rq_mem_alloc((size_t)n, sizeof **x)))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the state of the optimizer");
    memcpy(*x, t->f32, (size_t)n * sizeof **x);
    return RQ_OK;
}

rq_status rq_optimizer_load(rq_optimizer *o, const rq_state *s, const char *prefix, rq_err *err)
{
    slots loaded = { 0 };
    const size_t skip = prefix ? strlen(prefix) : 0;
    for (int i = 0; i < rq_state_count(s); i++) {
        const char *name = rq_state_name(s, i);
        if (skip && strncmp(name, prefix, skip) != 0)
            continue;
        const rq_status st = load_part(o, &loaded, name + skip, rq_state_tensor(s, i), err);
        if (st) {
            release_slots(&loaded);
            return st;
        }
    }
    release_slots(&o->slots);
    o->slots = loaded;
    return RQ_OK;
}
