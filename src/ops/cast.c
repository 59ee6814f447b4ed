/* ops/cast.c — Cast and CastLike between all numeric types, and from text. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "ops/elements.h"
#include "ops/grad.h"
#include "ops/samples.h"

static rq_status cast_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    const rq_word mode = rq_attr_word(n, RQ_WORD_round_mode, RQ_WORD_up);
    if (mode != RQ_WORD_up && mode != RQ_WORD_down && mode != RQ_WORD_nearest)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "round_mode is '%.32s', expected up, down or nearest",
                            rq_attr_string(n, RQ_WORD_round_mode, ""));
    if (!rq_attr_find(n, RQ_WORD_to))
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "attribute 'to' is missing");
    if (rq_elements_dtype(rq_attr_int(n, RQ_WORD_to, 0)) == RQ_DTYPE_NONE)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "attribute 'to' is %lld, which is no element type",
                            (long long)rq_attr_int(n, RQ_WORD_to, 0));
    return RQ_OK;
}

static rq_status cast_infer(const rq_infer *a)
{
    a->out_dtype[0] = rq_elements_dtype(rq_attr_int(a->node, RQ_WORD_to, 0));
    a->out_shape[0] = a->in[0]->shape;
    return RQ_OK;
}

static rq_status cast_like_infer(const rq_infer *a)
{
    a->out_dtype[0] = a->in[1]->dtype;
    a->out_shape[0] = a->in[0]->shape;
    return RQ_OK;
}

static bool is_number(rq_dtype d)
{
    return d == RQ_DTYPE_BOOL || rq_dtype_is_integer(d) || rq_dtype_is_float(d);
}

/* To F8E8M0, powers of two from 2^-127 to 2^127: the one above, the one below, or the nearer (a tie goes up). */
static uint8_t power_of_two(double v, char mode, bool saturate)
{
    int e;
    if (isnan(v) || (!saturate && !(fabs(v) >= 0x1p-127 && fabs(v) < INFINITY)))
        return 255;
    if (!(fabs(v) >= 0x1p-127))
        return 0;
    if (isinf(v))
        return 254;
    const double m = frexp(fabs(v), &e); /* |v| = m 2^e, m in [0.5, 1) */
    e += (mode == 'u' ? m > 0.5 : mode == 'n' ? m >= 0.75 : false) - 1;
    return e <= 127 ? (uint8_t)(e + 127) : saturate ? 254 : 255;
}

static void cast_to_powers(const rq_op_args *a)
{
    const char mode = rq_attr_string(a->node, RQ_WORD_round_mode, "up")[0];
    const bool saturate = rq_attr_int(a->node, RQ_WORD_saturate, 1) != 0;
    double v[RQ_BLOCK];
    for (int64_t at = 0, n = rq_tensor_count(a->in[0]); at < n; at += RQ_BLOCK) {
        const int m = n - at < RQ_BLOCK ? (int)(n - at) : RQ_BLOCK;
        rq_elements_load_f64(v, a->in[0], at, 1, m);
        for (int i = 0; i < m; i++)
            a->out[0]->u8[at + i] = power_of_two(v[i], mode, saturate);
    }
}

/* Numbers as C writes them, and INF and NaN in any case. */
static rq_status cast_from_text(const rq_op_args *a)
{
    const bool whole = !rq_dtype_is_float(a->out[0]->dtype);
    for (int64_t i = 0, n = rq_tensor_count(a->in[0]); i < n; i++) {
        char buf[128], *end = buf;
        size_t len;
        const char *text = rq_elements_text(a->in[0], i, &len);
        if (len < sizeof buf) {
            memcpy(buf, text, len);
            buf[len] = 0;
            const int64_t k = whole ? strtoll(buf, &end, 10) : 0;
            if (end == buf || *end) {
                const double v = rq_number_parse(buf, &end);
                rq_elements_store_f64(a->out[0], i, &v, 1, true);
            } else {
                rq_elements_store_int(a->out[0], i, &k, 1);
            }
        }
        if (end == buf || *end)
            return rq_op_fail(a, RQ_BAD_DATA, "'%.*s' is not a number", len < 40 ? (int)len : 40, text);
    }
    return RQ_OK;
}

static rq_status cast_forward(const rq_op_args *a)
{
    rq_dtype from = a->in[0]->dtype, to = a->out[0]->dtype;
    if (from == RQ_DTYPE_STRING && is_number(to))
        return cast_from_text(a);
    if (to == RQ_DTYPE_F8E8M0 && from != to && is_number(from)) {
        cast_to_powers(a);
        return RQ_OK;
    }
    if (!is_number(from) || !is_number(to))
        return rq_op_fail(a, RQ_UNSUPPORTED, "casting %s to %s is not supported", rq_dtype_name(from),
                          rq_dtype_name(to));
    rq_elements_convert_in(a, a->out[0], a->in[0], rq_attr_int(a->node, RQ_WORD_saturate, 1) != 0);
    return RQ_OK;
}

const rq_op rq_op_cast = {
    .name = "Cast",
    .domain = "",
    .since = 6,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .check = cast_check,
    .infer = cast_infer,
    .samples = rq_samples_each,
    .forward = cast_forward,
    .backward = rq_grad_pass, /* f32 as f32; into other types no gradient comes back, which is 0 */
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_cast_like = {
    .name = "CastLike",
    .domain = "",
    .since = 15,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = cast_like_infer,
    .forward = cast_forward,
    .backward = rq_grad_pass, /* f32 as f32; into other types no gradient comes back, which is 0 */
    .gradients = RQ_OP_IN(0),
};

/* ---- BitCast: the same bits under another type ---- */

static rq_status bit_cast_infer(const rq_infer *a)
{
    const int64_t to = rq_attr_int(a->node, RQ_WORD_to, 0);
    const rq_dtype d = rq_elements_dtype(to), x = a->in[0]->dtype;
    a->out_dtype[0] = d;
    a->out_shape[0] = a->in[0]->shape;
    if (d == RQ_DTYPE_NONE || d == RQ_DTYPE_STRING || x == RQ_DTYPE_STRING)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "bits cannot be read as type %lld", (long long)to);
    if (x != RQ_DTYPE_NONE && rq_dtype_bits(x) != rq_dtype_bits(d))
        return rq_infer_fail(a, RQ_BAD_DTYPE, "%s has %d bits and %s has %d", rq_dtype_name(x), rq_dtype_bits(x),
                             rq_dtype_name(d), rq_dtype_bits(d));
    return RQ_OK;
}

static rq_status bit_cast_forward(const rq_op_args *a)
{
    if (a->in[0]->bytes)
        memcpy(a->out[0]->data, a->in[0]->data, a->in[0]->bytes);
    return RQ_OK;
}

const rq_op rq_op_bit_cast = {
    .name = "BitCast",
    .domain = "",
    .since = 26,
    .known = 28,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = bit_cast_infer,
    .forward = bit_cast_forward,
};
