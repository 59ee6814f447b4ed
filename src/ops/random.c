/* ops/random.c — RandomNormal, RandomUniform, their -Like forms, Bernoulli, Multinomial. Numbers follow from the `seed`
 * (without one: from the name of the output) and are the same at each run, on every machine and with any number of
 * threads: a quantized model can be compared with its float one. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "ops/elements.h"
#include "ops/rows.h"

static void seed(rq_rng *r, const rq_op_args *a)
{
    const rq_attr *given = rq_attr_find(a->node, RQ_WORD_seed);
    uint64_t s = UINT64_C(14695981039346656037);
    if (given) {
        const float f = rq_attr_float(a->node, RQ_WORD_seed, 0);
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        s = bits;
    } else {
        const char *name = a->node->out[0] >= 0 ? a->graph->values[a->node->out[0]].name : "";
        for (; *name; name++)
            s = (s ^ (uint8_t)*name) * UINT64_C(1099511628211);
    }
    rq_rng_seed(r, s);
}

/* Uniform in [0, 1), 53 bits. */
static double uniform(rq_rng *r)
{
    return (double)(rq_rng_u64(r) >> 11) * 0x1p-53;
}

/* Box and Muller (1958). */
static double normal(rq_rng *r)
{
    double u = 1 - uniform(r), c = 2 * 3.14159265358979323846 * uniform(r);
    rq_map_f64[RQ_MAP_LOG](&u, &u, 1, 0, 0);
    rq_map_f64[RQ_MAP_COS](&c, &c, 1, 0, 0);
    return sqrt(-2 * u) * c;
}

/* ---- numbers of a shape ---- */

static bool is_like(const rq_node *n)
{
    return n->row == &rq_op_random_normal_like || n->row == &rq_op_random_uniform_like;
}

static rq_status random_infer(const rq_infer *a)
{
    int n;
    const int64_t type = rq_attr_int(a->node, RQ_WORD_dtype, 0);
    if (is_like(a->node)) {
        a->out_dtype[0] = a->in[0]->dtype;
        a->out_shape[0] = a->in[0]->shape;
    } else {
        const int64_t *dim = rq_attr_ints(a->node, RQ_WORD_shape, &n);
        a->out_dtype[0] = RQ_DTYPE_F32;
        if (!dim || n > RQ_MAX_RANK)
            return rq_infer_fail(a, RQ_BAD_GRAPH, "the shape is missing or has more than %d axes", RQ_MAX_RANK);
        a->out_shape[0] = rq_shape_of(n, dim);
        for (int i = 0; i < n; i++)
            if (dim[i] < 0)
                return rq_infer_fail(a, RQ_BAD_SHAPE, "the shape holds %lld", (long long)dim[i]);
    }
    if (type)
        a->out_dtype[0] = rq_elements_dtype(type);
    if (a->out_dtype[0] != RQ_DTYPE_NONE && !rq_dtype_is_float(a->out_dtype[0]))
        return rq_infer_fail(a, RQ_BAD_DTYPE, "numbers of type %s, expected floats", rq_dtype_name(a->out_dtype[0]));
    return RQ_OK;
}

static rq_status random_forward(const rq_op_args *a)
{
    const bool is_normal = a->node->row == &rq_op_random_normal || a->node->row == &rq_op_random_normal_like;
    const double low = rq_attr_float(a->node, RQ_WORD_low, 0), high = rq_attr_float(a->node, RQ_WORD_high, 1);
    const double mean = rq_attr_float(a->node, RQ_WORD_mean, 0), scale = rq_attr_float(a->node, RQ_WORD_scale, 1);
    rq_rng r;
    seed(&r, a);
    for (int64_t i = 0, n = rq_tensor_count(a->out[0]); i < n; i++) {
        const double v = is_normal ? mean + scale * normal(&r) : low + (high - low) * uniform(&r);
        rq_elements_store_f64(a->out[0], i, &v, 1, true);
    }
    return RQ_OK;
}

/* ---- Bernoulli: 1 with the probability that the input says ---- */

static rq_status bernoulli_infer(const rq_infer *a)
{
    const int64_t type = rq_attr_int(a->node, RQ_WORD_dtype, 0);
    RQ_TRY(rq_infer_same(a));
    if (type)
        a->out_dtype[0] = rq_elements_dtype(type);
    const rq_dtype d = a->out_dtype[0];
    if (type && !rq_dtype_is_float(d) && !rq_dtype_is_integer(d) && d != RQ_DTYPE_BOOL)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "dtype %lld is no type of numbers", (long long)type);
    return RQ_OK;
}

static rq_status bernoulli_forward(const rq_op_args *a)
{
    rq_rng r;
    if (!rq_dtype_is_float(a->in[0]->dtype))
        return rq_op_fail(a, RQ_UNSUPPORTED, "probabilities of type %s", rq_dtype_name(a->in[0]->dtype));
    seed(&r, a);
    for (int64_t i = 0, n = rq_tensor_count(a->out[0]); i < n; i++)
        rq_tensor_set(a->out[0], i, uniform(&r) < rq_tensor_get(a->in[0], i) ? 1 : 0);
    return RQ_OK;
}

/* ---- Multinomial: classes drawn by their logarithms of (unscaled) probabilities, [N,C] -> [N,sample_size] ---- */

static rq_status multinomial_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    const int64_t n = rq_attr_int(a->node, RQ_WORD_sample_size, 1), type = rq_attr_int(a->node, RQ_WORD_dtype, 6);
    a->out_dtype[0] = rq_elements_dtype(type);
    if (a->out_dtype[0] != RQ_DTYPE_S32 && a->out_dtype[0] != RQ_DTYPE_S64)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "dtype is %lld, expected s32 or s64", (long long)type);
    if (n < 0 || n > INT32_MAX)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "sample_size is %lld", (long long)n);
    if (x->rank >= 0 && (x->rank != 2 || x->dim[1] == 0))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input is not [batch, classes]");
    a->out_shape[0] = rq_shape_of(2, (int64_t[]) { x->rank < 0 ? RQ_DIM_UNKNOWN : x->dim[0], n });
    return RQ_OK;
}

static rq_status multinomial_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    const int64_t classes = x->shape.dim[1], n = a->out[0]->shape.dim[1];
    rq_rng r;
    if (!rq_dtype_is_float(x->dtype))
        return rq_op_no_form(a, x->dtype);
    double *sum = rq_mem_alloc((size_t)classes, sizeof *sum);
    if (!sum)
        return RQ_NO_MEMORY;
    seed(&r, a);
    for (int64_t b = 0; b < x->shape.dim[0]; b++) {
        double most = -INFINITY, so_far = 0;
        for (int64_t c = 0; c < classes; c++) {
            sum[c] = rq_tensor_get(x, b * classes + c);
            most = sum[c] > most ? sum[c] : most;
        }
        for (int64_t c = 0; c < classes; c++) {
            double e = sum[c] - most;
            rq_map_f64[RQ_MAP_EXP](&e, &e, 1, 0, 0);
            so_far += e > 0 ? e : 0; /* not a number: never drawn */
            sum[c] = so_far;
        }
        for (int64_t i = 0; i < n; i++) {
            const double v = uniform(&r) * so_far;
            int64_t c = 0;
            while (c + 1 < classes && v >= sum[c])
                c++;
            rq_tensor_set(a->out[0], b * n + i, (double)c);
        }
    }
    rq_mem_free(sum);
    return RQ_OK;
}

#define RANDOM_ROW(id, op, ins, first)                                                                                 \
    const rq_op rq_op_##id = {                                                                                         \
        .name = op,                                                                                                    \
        .domain = "",                                                                                                  \
        .since = first,                                                                                                \
        .known = 25,                                                                                                   \
        .min_in = ins,                                                                                                 \
        .max_in = ins,                                                                                                 \
        .min_out = 1,                                                                                                  \
        .max_out = 1,                                                                                                  \
        .flags = RQ_OP_KEEP,                                                                                           \
        .place = RQ_PLACE_FLOAT,                                                                                       \
        .infer = random_infer,                                                                                         \
        .forward = random_forward,                                                                                     \
    }

RANDOM_ROW(random_normal, "RandomNormal", 0, 1);
RANDOM_ROW(random_normal_like, "RandomNormalLike", 1, 1);
RANDOM_ROW(random_uniform, "RandomUniform", 0, 1);
RANDOM_ROW(random_uniform_like, "RandomUniformLike", 1, 1);

const rq_op rq_op_bernoulli = {
    .name = "Bernoulli",
    .domain = "",
    .since = 15,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_KEEP,
    .place = RQ_PLACE_FLOAT,
    .infer = bernoulli_infer,
    .forward = bernoulli_forward,
};

const rq_op rq_op_multinomial = {
    .name = "Multinomial",
    .domain = "",
    .since = 7,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_KEEP,
    .place = RQ_PLACE_FLOAT,
    .infer = multinomial_infer,
    .forward = multinomial_forward,
};
