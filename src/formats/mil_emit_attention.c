/* formats/mil_emit_attention.c — Attention of ONNX as products and a softmax; what a mask hides is the lowest number before the softmax and
 * zero behind it, so that a row with everything hidden is zero, as ONNX says. */
#include "formats/mil_expr.h"

#include <float.h>
#include <math.h>

typedef rq_mil_expr_val val;

enum { Q, K, V, MASK, PAST_K, PAST_V, LENGTHS, Y = 0, PRESENT_K, PRESENT_V, SCORES };
enum { RAW, CAPPED, MASKED, SHARES }; /* qk_matmul_output_mode */

/* [batch, rows, heads * size] as [batch, heads, rows, size]. */
static val by_heads(rq_mil_expr *x, val a, int64_t heads)
{
    const rq_shape *s = &a.shape;
    const val v = rq_mil_expr_reshape_dims(x, a, 4, (int64_t[]) { s->dim[0], s->dim[1], heads, s->dim[2] / heads });
    return rq_mil_expr_transpose(x, v, (const int64_t[]) { 0, 2, 1, 3 });
}

/* Keys or values with those of the past before them; the present is given away where it is wanted. */
static val with_past(rq_mil_expr *x, val a, int past, int present)
{
    if (rq_mil_expr_has(x, past)) {
        const val both[2] = { rq_mil_expr_in(x, past), a };
        return rq_mil_expr_concat(rq_mil_expr_wants(x, present) ? rq_mil_expr_last_at(x, present) : x, both, 2, 2);
    }
    if (rq_mil_expr_wants(x, present))
        EXPR_OP(rq_mil_expr_last_at(x, present), "identity", a.d, &a.shape, EXPR_V("x", &a));
    return a;
}

/* Each head of keys for `times` heads of queries that stand together. */
static val repeated(rq_mil_expr *x, val a, int64_t times)
{
    const rq_shape s = a.shape;
    if (times == 1)
        return a;
    rq_shape wide = rq_shape_of(5, (int64_t[]) { s.dim[0], s.dim[1], 1, s.dim[2], s.dim[3] });
    val v = EXPR_OP(x, "expand_dims", a.d, &wide, EXPR_V("x", &a), EXPR_IS("axes", (const int64_t[]) { 2 }, 1));
    wide.dim[2] = times;
    v = EXPR_OP(x, "tile", a.d, &wide, EXPR_V("x", &v), EXPR_IS("reps", ((const int64_t[]) { 1, 1, times, 1, 1 }), 5));
    return rq_mil_expr_reshape_dims(x, v, 4, (int64_t[]) { s.dim[0], s.dim[1] * times, s.dim[2], s.dim[3] });
}

/* Keys that a query may see by its place: causal, and within a window. *none: every one. */
static val by_place(rq_mil_expr *x, int64_t queries, int64_t keys, int64_t past, bool *none)
{
    const bool causal = rq_attr_int(x->n, RQ_WORD_is_causal, 0) != 0;
    const int64_t left = rq_attr_int(x->n, RQ_WORD_left_window_size, -1),
                  right = rq_attr_int(x->n, RQ_WORD_right_window_size, -1);
    const rq_shape s = rq_shape_of(2, (int64_t[]) { queries, keys });
    rq_tensor *t;
    *none = !causal && left < 0 && right < 0;
    if (*none)
        return rq_mil_expr_num(1, RQ_DTYPE_BOOL);
    const val v = rq_mil_expr_new(x, RQ_DTYPE_BOOL, &s, &t);
    for (int64_t i = 0; t && i < queries * keys; i++) {
        const int64_t at = i / keys + past, k = i % keys;
        t->u8[i] = (!causal || k <= at) && (left < 0 || k >= at - left) && (right < 0 || k <= at + right);
    }
    return v;
}

/* A mask shorter than the keys hides the rest. */
static val whole_mask(rq_mil_expr *x, val mask, int64_t keys)
{
    const int last = mask.shape.rank - 1;
    rq_shape rest = mask.shape;
    rq_tensor *t;
    if (last < 0 || mask.shape.dim[last] >= keys || (mask.shape.dim[last] == 1 && rq_mil_expr_opset(x) < 24))
        return mask;
    rest.dim[last] = keys - mask.shape.dim[last];
    if (!rq_mil_expr_static(x, &rest))
        return mask;
    const val more = rq_mil_expr_new(x, mask.d, &rest, &t), both[2] = { mask, more };
    for (int64_t i = 0, n = t && mask.d == RQ_DTYPE_F32 ? rq_shape_count(&rest) : 0; i < n; i++)
        t->f32[i] = -INFINITY;
    return rq_mil_expr_concat(x, both, 2, last);
}

static void give_scores(rq_mil_expr *x, int tap, int mode, val s)
{
    if (tap == mode && rq_mil_expr_wants(x, SCORES))
        EXPR_OP(rq_mil_expr_last_at(x, SCORES), "identity", s.d, &s.shape, EXPR_V("x", &s));
}

static rq_status attention(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    val q = rq_mil_expr_in(&x, Q), k = rq_mil_expr_in(&x, K), v = rq_mil_expr_in(&x, V);
    const rq_shape out = rq_mil_expr_out_shape(&x, Y);
    const int mode = (int)rq_attr_int(n, RQ_WORD_qk_matmul_output_mode, 0);
    if (!rq_mil_expr_static(&x, &q.shape) || !rq_mil_expr_static(&x, &k.shape) || !rq_mil_expr_static(&x, &v.shape))
        return x.st;
    if (rq_mil_expr_has(&x, LENGTHS))
        return rq_mil_expr_refuse(&x, 0, "nonpad_kv_seqlen");
    const bool flat = q.shape.rank == 3;
    if (flat) {
        const int64_t heads = rq_attr_int(n, RQ_WORD_q_num_heads, 1), kv = rq_attr_int(n, RQ_WORD_kv_num_heads, 1);
        q = by_heads(&x, q, heads);
        k = by_heads(&x, k, kv);
        v = by_heads(&x, v, kv);
    }
    const int64_t rows = k.shape.dim[2], times = k.shape.dim[1] > 0 ? q.shape.dim[1] / k.shape.dim[1] : 1;
    k = with_past(&x, k, PAST_K, PRESENT_K);
    v = with_past(&x, v, PAST_V, PRESENT_V);
    if (x.st || !rq_mil_expr_static(&x, &k.shape) || !rq_mil_expr_static(&x, &v.shape))
        return x.st;
    const int64_t keys = k.shape.dim[2], queries = q.shape.dim[2];
    k = repeated(&x, k, times);
    v = repeated(&x, v, times);
    const float scale = rq_attr_float(n, RQ_WORD_scale, 1 / sqrtf((float)q.shape.dim[3])),
                cap = rq_attr_float(n, RQ_WORD_softcap, 0);
    val s = rq_mil_expr_matmul(&x, rq_mil_expr_bin(&x, "mul", q, rq_mil_expr_f((double)scale)), k, false, true);
    give_scores(&x, RAW, mode, s);
    if (cap > 0) {
        s = rq_mil_expr_un(&x, "tanh", rq_mil_expr_bin(&x, "real_div", s, rq_mil_expr_f((double)cap)));
        s = rq_mil_expr_bin(&x, "mul", s, rq_mil_expr_f((double)cap));
    }
    give_scores(&x, CAPPED, mode, s);
    bool none;
    val seen = by_place(&x, queries, keys, keys - rows, &none);
    if (rq_mil_expr_has(&x, MASK)) {
        const val mask = whole_mask(&x, rq_mil_expr_in(&x, MASK), keys);
        if (mask.d == RQ_DTYPE_BOOL) {
            seen = none ? mask : rq_mil_expr_bin(&x, "logical_and", mask, seen);
            none = false;
        } else { /* what is minus infinity hides, too */
            const val is = rq_mil_expr_bin(&x, "greater", mask, rq_mil_expr_f(e->half ? -65504 : -(double)FLT_MAX));
            s = rq_mil_expr_bin(&x, "add", s, rq_mil_expr_select(&x, is, mask, rq_mil_expr_f(0)));
            seen = none ? is : rq_mil_expr_bin(&x, "logical_and", is, seen);
            none = false;
        }
    }
    if (!none && mode == MASKED && rq_mil_expr_wants(&x, SCORES))
        give_scores(&x, MASKED, mode, rq_mil_expr_select(&x, seen, s, rq_mil_expr_f(-INFINITY)));
    else if (none)
        give_scores(&x, MASKED, mode, s);
    if (!none)
        s = rq_mil_expr_select(&x, seen, s, rq_mil_expr_f(e->half ? -65504 : -(double)FLT_MAX));
    s = rq_mil_expr_softmax(&x, s, -1);
    if (!none)
        s = rq_mil_expr_select(&x, seen, s, rq_mil_expr_f(0));
    give_scores(&x, SHARES, mode, s);
    if (!flat) {
        rq_mil_expr_matmul(rq_mil_expr_last(&x), s, v, false, false);
        return x.st;
    }
    const val y =
        rq_mil_expr_transpose(&x, rq_mil_expr_matmul(&x, s, v, false, false), (const int64_t[]) { 0, 2, 1, 3 });
    rq_mil_expr_reshape(rq_mil_expr_last(&x), y, &out);
    return x.st;
}

const rq_mil_emit_row rq_mil_emit_attention[] = {
    { .op = "Attention", .emit = attention },
    { .op = NULL },
};
