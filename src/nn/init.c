/* nn/init.c — how parameters start: PyTorch's initializations by their papers. Numbers come from the seed and the parameter's name, so that
 * they do not depend on what else a network has; only +, -, *, /, sqrt and base/libm make them, so that they are the same everywhere. */
#include <math.h>
#include <string.h>

#include "base/libm.h"
#include "base/rng.h"
#include "nn/nn.h"

static uint64_t seed_of(uint64_t seed, const char *name)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 1099511628211u;
    return seed * 0x9e3779b97f4a7c15u ^ h;
}

double rq_nn_fan_in(const rq_shape *weight)
{
    return weight->rank >= 2 ? (double)rq_shape_span(weight, 1, weight->rank) : 0;
}

static double fan_out(const rq_shape *s)
{
    return (double)s->dim[0] * (double)rq_shape_span(s, 2, s->rank);
}

static void uniform(float *x, int64_t n, double lo, double hi, rq_rng *r)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(lo + (hi - lo) * (double)rq_rng_f32(r));
}

/* Two numbers of N(0, 1) by Marsaglia's polar method (SIAM Review 6(3), 1964): logarithm and root only. */
static void normal_pair(rq_rng *r, double out[2])
{
    double u, v, s;
    do {
        u = 2 * (double)(rq_rng_u64(r) >> 11) * 0x1p-53 - 1;
        v = 2 * (double)(rq_rng_u64(r) >> 11) * 0x1p-53 - 1;
        s = u * u + v * v;
    } while (s >= 1 || s <= 0);
    const double k = sqrt(-2 * rq_libm_log(s) / s);
    out[0] = u * k;
    out[1] = v * k;
}

static void normal(float *x, int64_t n, double mean, double deviation, rq_rng *r)
{
    double two[2] = { 0 };
    for (int64_t i = 0; i < n; i++) {
        if (i % 2 == 0)
            normal_pair(r, two);
        x[i] = (float)(mean + deviation * two[i % 2]);
    }
}

/* The shorter side's vectors made orthonormal by Gram and Schmidt, twice each, which is enough ("twice is enough", Giraud et al., 2005). */
static rq_status orthogonal(rq_tensor *t, double gain, rq_rng *r)
{
    const int64_t rows = t->shape.dim[0], cols = rq_shape_span(&t->shape, 1, t->shape.rank);
    const int64_t count = rows < cols ? rows : cols, length = rows < cols ? cols : rows;
    double *q = rq_mem_alloc((size_t)count, (size_t)length * sizeof *q);
    if (!q)
        return RQ_NO_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        double *v = q + i * length, two[2] = { 0 };
        for (int64_t k = 0; k < length; k++) {
            if (k % 2 == 0)
                normal_pair(r, two);
            v[k] = two[k % 2];
        }
        for (int64_t j = 0; j < 2 * i; j++) {
            const double *u = q + j % i * length;
            double dot = 0;
            for (int64_t k = 0; k < length; k++)
                dot += u[k] * v[k];
            for (int64_t k = 0; k < length; k++)
                v[k] -= dot * u[k];
        }
        double square = 0;
        for (int64_t k = 0; k < length; k++)
            square += v[k] * v[k];
        const double scale = square > 0 ? 1 / sqrt(square) : 0;
        for (int64_t k = 0; k < length; k++)
            v[k] *= scale;
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < cols; k++)
            t->f32[i * cols + k] = (float)(gain * (rows < cols ? q[i * length + k] : q[k * length + i]));
    rq_mem_free(q);
    return RQ_OK;
}

rq_status rq_nn_fill(rq_tensor *t, rq_nn_start start, uint64_t seed, const char *name)
{
    const int64_t n = rq_tensor_count(t);
    rq_rng r;
    rq_rng_seed(&r, seed_of(seed, name));
    const bool fans = start.init >= RQ_NN_INIT_KAIMING_UNIFORM;
    if (fans && t->shape.rank < 2)
        return RQ_BAD_SHAPE;
    const double in = fans ? rq_nn_fan_in(&t->shape) : 1, out = fans ? fan_out(&t->shape) : 1;
    const double gain = sqrt(2 / (1 + start.a * start.a));
    double bound;
    switch (start.init) {
    case RQ_NN_INIT_CONSTANT:
        for (int64_t i = 0; i < n; i++)
            t->f32[i] = (float)start.a;
        return RQ_OK;
    case RQ_NN_INIT_UNIFORM:
        uniform(t->f32, n, start.a, start.b, &r);
        return RQ_OK;
    case RQ_NN_INIT_NORMAL:
        normal(t->f32, n, start.a, start.b, &r);
        return RQ_OK;
    case RQ_NN_INIT_KAIMING_UNIFORM:
        bound = gain * sqrt(3 / in);
        uniform(t->f32, n, -bound, bound, &r);
        return RQ_OK;
    case RQ_NN_INIT_KAIMING_NORMAL:
        normal(t->f32, n, 0, gain / sqrt(in), &r);
        return RQ_OK;
    case RQ_NN_INIT_XAVIER_UNIFORM:
        bound = start.a * sqrt(6 / (in + out));
        uniform(t->f32, n, -bound, bound, &r);
        return RQ_OK;
    case RQ_NN_INIT_XAVIER_NORMAL:
        normal(t->f32, n, 0, start.a * sqrt(2 / (in + out)), &r);
        return RQ_OK;
    case RQ_NN_INIT_ORTHOGONAL:
        return orthogonal(t, start.a, &r);
    case RQ_N_NN_INITS:
        break;
    }
    return RQ_BAD_ARG;
}

/* Does name fit a pattern of * and ? */
static bool fits(const char *pattern, const char *name)
{
    const char *star = NULL, *from = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            from = name;
        } else if (*pattern == '?' || *pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star + 1;
            name = ++from;
        } else
            return false;
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

rq_status rq_nn_initialize(rq_graph *g, const char *pattern, rq_nn_init init, double a, double b, uint64_t seed,
                           rq_err *err)
{
    int found = 0;
    if (init < 0 || init >= RQ_N_NN_INITS)
        return rq_fail(err, RQ_BAD_ARG, "%d is no initialization", (int)init);
    for (int pass = 0; pass < 2; pass++) /* nothing is changed before all of it can be */
        for (rq_id i = 0; i < g->n_values; i++) {
            rq_value *v = &g->values[i];
            rq_tensor t;
            if (v->kind != RQ_VALUE_CONST || v->constant.dtype != RQ_DTYPE_F32 || !fits(pattern, v->name))
                continue;
            found++;
            if (init >= RQ_NN_INIT_KAIMING_UNIFORM && v->constant.shape.rank < 2)
                return rq_fail(err, RQ_BAD_SHAPE, "'%s' has %d axes; that initialization is for weights of 2 and more",
                               v->name, v->constant.shape.rank);
            if (!pass)
                continue;
            rq_status s = rq_tensor_create(&t, RQ_DTYPE_F32, &v->constant.shape, false);
            if (!s && (s = rq_nn_fill(&t, (rq_nn_start) { init, a, b }, seed, v->name)))
                rq_tensor_release(&t);
            if (s)
                return rq_fail(err, s, "'%s': not enough memory to initialize it", v->name);
            rq_tensor_release(&v->constant);
            v->constant = t;
        }
    return found ? RQ_OK : rq_fail(err, RQ_NOT_FOUND, "no float constant has a name that fits '%s'", pattern);
}
