/* formats/mil_emit_slices.c — rows of operators that join, cut and pad. Starts and ends that are computed are spread over all axes. */
#include "formats/mil_expr.h"

#include <string.h>
#include "ops/op.h"

typedef rq_mil_expr_val val;

/* ---- joining and cutting ---- */

static rq_status concat(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    val *v = rq_arena_alloc(&e->a, (size_t)n->n_in, sizeof *v);
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    const int axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, 1), out.rank);
    int count = 0;
    if (!v)
        return rq_fail(e->err, RQ_NO_MEMORY, "not enough memory to write the program");
    if (axis < 0)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    for (int i = 0; i < n->n_in && !x.st; i++) {
        v[count] = rq_mil_expr_in(&x, i);
        if (x.st || v[count].shape.dim[axis] != 0) /* empty parts add nothing, and Core ML has none */
            count++;
    }
    if (!x.st && !count)
        rq_mil_expr_is_empty(&x, &out);
    else if (count == 1)
        rq_mil_expr_give(&x, v[0]);
    else if (!x.st)
        rq_mil_expr_concat(rq_mil_expr_last(&x), v, count, axis);
    return x.st;
}

static rq_status split(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const int axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, 0), a.shape.rank);
    int64_t *sizes = rq_arena_alloc(&e->a, (size_t)n->n_out + 1, sizeof *sizes);
    val *v = rq_arena_alloc(&e->a, (size_t)n->n_out + 1, sizeof *v);
    bool known = true;
    if (x.st || axis < 0)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    if (!sizes || !v)
        return rq_fail(e->err, RQ_NO_MEMORY, "not enough memory to write the program");
    const rq_tensor *t = rq_mil_expr_const(&x, 1);
    int n_list = 0;
    const int64_t *list = rq_attr_ints(n, RQ_WORD_split, &n_list);
    for (int i = 0; i < n->n_out; i++) {
        const rq_shape s = rq_mil_expr_out_shape(&x, i);
        v[i] = a;
        sizes[i] = s.rank == a.shape.rank                    ? s.dim[axis]
                   : t && rq_tensor_count(t) == n->n_out     ? rq_tensor_get_int(t, i)
                   : n_list == n->n_out                      ? list[i]
                   : a.shape.dim[axis] >= 0 && !n_list && !t ? a.shape.dim[axis] / n->n_out
                                                             : -1;
        v[i].shape.dim[axis] = sizes[i];
        known &= sizes[i] >= 0;
        if (rq_mil_expr_is_empty(&x, &v[i].shape))
            return x.st;
    }
    if (!known && (rq_mil_expr_has(&x, 1) || n_list))
        return rq_mil_expr_refuse(&x, 0, "parts of sizes that are computed");
    if (n->n_out == 1)
        rq_mil_expr_give(&x, a);
    else if (known)
        rq_mil_expr_op_many(&x, "split", v, n->out, n->n_out,
                            (const rq_mil_expr_arg[]) { EXPR_V("x", &a),
                                                        EXPR_IS("split_sizes", sizes, n->n_out),
                                                        EXPR_I("axis", axis),
                                                        { .kind = RQ_MIL_EXPR_END } });
    else
        rq_mil_expr_op_many(
            &x, "split", v, n->out, n->n_out,
            (const rq_mil_expr_arg[]) {
                EXPR_V("x", &a), EXPR_I("num_splits", n->n_out), EXPR_I("axis", axis), { .kind = RQ_MIL_EXPR_END } });
    return x.st;
}

typedef struct cut {
    int64_t begin[RQ_MAX_RANK], end[RQ_MAX_RANK], step[RQ_MAX_RANK];
    bool begins[RQ_MAX_RANK], ends[RQ_MAX_RANK];
} cut;

/* What [start:end:step] of an axis of this size is, where -1 counts from the end in neither result; size < 0: not known. */
static void cut_axis(cut *c, int i, int64_t start, int64_t end, int64_t step, int64_t size)
{
    const int64_t far = INT32_MAX;
    c->step[i] = step;
    c->begins[i] = c->ends[i] = false;
    if (size >= 0) {
        const int64_t lo = step > 0 ? 0 : -1, hi = step > 0 ? size : size - 1;
        start += start < 0 ? size : 0;
        end += end < 0 ? size : 0;
        start = start < lo ? lo : start > hi ? hi : start;
        end = end < lo ? lo : end > hi ? hi : end;
        c->ends[i] = end < 0;
        c->begin[i] = start;
        c->end[i] = end < 0 ? 0 : end;
        return;
    }
    c->begins[i] = step > 0 ? start == 0 || start <= -far : start >= far || start == -1;
    c->ends[i] = step > 0 ? end >= far : end <= -far;
    c->begin[i] = c->begins[i] ? 0 : start < -far ? -far : start;
    c->end[i] = c->ends[i] ? 0 : end > far ? far : end;
}

static val slice_op(rq_mil_expr *x, val a, const val *begin, const val *end, const cut *c, const rq_shape *out)
{
    const int rank = a.shape.rank;
    const rq_mil_expr_arg b =
        begin ? (rq_mil_expr_arg)EXPR_V("begin", begin) : (rq_mil_expr_arg)EXPR_IS("begin", c->begin, rank);
    const rq_mil_expr_arg t = end ? (rq_mil_expr_arg)EXPR_V("end", end) : (rq_mil_expr_arg)EXPR_IS("end", c->end, rank);
    return rq_mil_expr_op(x, "slice_by_index", a.d, out,
                          (const rq_mil_expr_arg[]) { EXPR_V("x", &a),
                                                      b,
                                                      t,
                                                      EXPR_IS("stride", c->step, rank),
                                                      EXPR_BS("begin_mask", c->begins, rank),
                                                      EXPR_BS("end_mask", c->ends, rank),
                                                      { .kind = RQ_MIL_EXPR_END } });
}

/* Starts or ends that are computed, spread over all axes. */
static val spread(rq_mil_expr *x, int input, int rank, const int64_t *axes, int n, const int64_t *fixed)
{
    val part[RQ_MAX_RANK];
    const val list = rq_mil_expr_in(x, input);
    const rq_shape one = rq_shape_of(1, (int64_t[]) { 1 });
    bool whole = n == rank;
    for (int i = 0; i < rank; i++) {
        int at = -1;
        for (int k = 0; k < n; k++)
            at = axes[k] == i ? k : at;
        whole &= at == i;
        rq_tensor *t;
        if (at >= 0 && n > 1)
            part[i] = rq_mil_expr_slice(x, list, 0, at, at + 1);
        else if (at >= 0)
            part[i] = list;
        else {
            part[i] = rq_mil_expr_new(x, RQ_DTYPE_S64, &one, &t);
            if (t)
                t->s64[0] = fixed[i];
        }
    }
    return whole || rank == 1 ? list : rq_mil_expr_concat(x, part, rank, 0);
}

static rq_status slice(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_movable(&x, rq_mil_expr_in(&x, 0));
    const int rank = a.shape.rank;
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    int64_t start[RQ_MAX_RANK], end[RQ_MAX_RANK], axes[RQ_MAX_RANK], steps[RQ_MAX_RANK];
    int n_start = -1, n_end = -1, n_axes, n_steps;
    bool start_known[RQ_MAX_RANK], end_known[RQ_MAX_RANK];
    const bool inputs = rq_mil_expr_has(&x, 1);
    cut c = { .step = { 0 } };
    if (inputs) {
        n_start = rq_mil_emit_known(e, n->in[1], start, start_known, RQ_MAX_RANK);
        n_end = rq_mil_emit_known(e, rq_node_in(n, 2), end, end_known, RQ_MAX_RANK);
    } else {
        rq_mil_expr_ints(&x, 1, "starts", start, &n_start);
        rq_mil_expr_ints(&x, 2, "ends", end, &n_end);
    }
    rq_mil_expr_axes(&x, 3, "axes", rank, axes, &n_axes);
    rq_mil_expr_ints(&x, 4, NULL, steps, &n_steps);
    if (x.st || rq_mil_expr_is_empty(&x, &out))
        return x.st;
    bool computed_start = n_start < 0, computed_end = n_end < 0;
    if (inputs && (computed_start || computed_end)) {
        const rq_id list = rq_node_in(n, computed_start ? 1 : 2);
        const rq_shape *s = list >= 0 ? rq_mil_emit_shape(e, list) : NULL;
        const int64_t count = s && s->rank == 1 ? s->dim[0] : -1;
        if (count < 0 || count > RQ_MAX_RANK)
            return rq_mil_expr_refuse(&x, 0, "a slice of a computed number of axes");
        n_start = computed_start ? (int)count : n_start;
        n_end = computed_end ? (int)count : n_end;
    }
    if (n_start != n_end || n_start > rank || (n_axes >= 0 && n_axes != n_start) ||
        (n_steps >= 0 && n_steps != n_start))
        return rq_mil_expr_refuse(&x, 0, "lists of unequal length");
    for (int i = 0; inputs && i < n_start; i++) {
        computed_start |= computed_start || !start_known[i];
        computed_end |= computed_end || !end_known[i];
    }
    for (int i = 0; i < rank; i++)
        cut_axis(&c, i, 0, INT64_MAX, 1, a.shape.dim[i]);
    for (int i = 0; i < rank; i++)
        c.begins[i] = c.ends[i] = true; /* axes that stay whole */
    for (int k = 0; k < n_start; k++) {
        const int64_t axis = n_axes < 0 ? k : axes[k];
        axes[k] = axis;
        cut_axis(&c, (int)axis, computed_start ? 0 : start[k], computed_end ? INT64_MAX : end[k],
                 n_steps < 0 ? 1 : steps[k], computed_start || computed_end ? -1 : a.shape.dim[axis]);
        c.begins[axis] &= !computed_start;
        c.ends[axis] &= !computed_end;
    }
    val from = a, to = a;
    if (computed_start)
        from = spread(&x, 1, rank, axes, n_start, c.begin);
    if (computed_end)
        to = spread(&x, 2, rank, axes, n_end, c.end);
    slice_op(rq_mil_expr_last(&x), a, computed_start ? &from : NULL, computed_end ? &to : NULL, &c, &out);
    return x.st;
}

/* ---- pads ---- */

/* The element that index i shows. */
static int64_t shown(int64_t i, int64_t n, char mode)
{
    if (i >= 0 && i < n)
        return i;
    if (mode == 'e' || n == 1)
        return i < 0 ? 0 : n - 1;
    if (mode == 'r') {
        i = i < 0 ? -i : i;
        return i < n ? i : 2 * (n - 1) - i;
    }
    i %= n;
    return i < 0 ? i + n : i;
}

/* One axis in a mode that shows other elements: a gather, which has no bounds. */
static val pad_shown(rq_mil_expr *x, val a, int axis, int64_t lo, int64_t hi, char mode)
{
    const int64_t size = a.shape.dim[axis], n = size + lo + hi;
    const rq_shape list = rq_shape_of(1, &n);
    rq_shape out = a.shape;
    rq_tensor *t;
    out.dim[axis] = n;
    const val at = rq_mil_expr_new(x, RQ_DTYPE_S64, &list, &t);
    for (int64_t i = 0; t && i < n; i++)
        t->s64[i] = shown(i - lo, size, mode);
    return rq_mil_expr_gather(x, a, at, axis, &out);
}

/* One axis of integers: numbers before and behind it. */
static val pad_joined(rq_mil_expr *x, val a, int axis, int64_t lo, int64_t hi, double v)
{
    val part[3];
    int n = 0;
    for (int side = 0; side < 3; side++) {
        rq_shape s = a.shape;
        rq_tensor *t;
        s.dim[axis] = side == 0 ? lo : hi;
        if (side == 1)
            part[n++] = a;
        else if (s.dim[axis] > 0) {
            part[n++] = rq_mil_expr_new(x, a.d == RQ_DTYPE_BOOL ? a.d : RQ_DTYPE_S32, &s, &t);
            for (int64_t i = 0, count = t ? rq_shape_count(&s) : 0; i < count; i++)
                rq_tensor_set(t, i, v);
        }
    }
    return n > 1 ? rq_mil_expr_concat(x, part, n, axis) : a;
}

static rq_status pad(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    val a = rq_mil_expr_in(&x, 0);
    const int rank = a.shape.rank;
    const char mode = rq_attr_string(n, RQ_WORD_mode, "constant")[0];
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    int64_t given[2 * RQ_MAX_RANK] = { 0 }, axes[RQ_MAX_RANK], lo[RQ_MAX_RANK] = { 0 }, hi[RQ_MAX_RANK] = { 0 };
    int n_given = -1, n_axes;
    if (x.st || rq_mil_expr_is_empty(&x, &out))
        return x.st;
    if (rq_mil_expr_has(&x, 1)) {
        n_given = rq_mil_emit_known(e, n->in[1], given, NULL, 2 * RQ_MAX_RANK);
    } else {
        const int64_t *list =
            rq_attr_ints(n, rq_attr_find(n, RQ_WORD_pads) ? RQ_WORD_pads : RQ_WORD_paddings, &n_given);
        for (int i = 0; i < n_given && i < 2 * RQ_MAX_RANK; i++)
            given[i] = list[i];
    }
    rq_mil_expr_axes(&x, 3, NULL, rank, axes, &n_axes);
    const int count = n_axes < 0 ? rank : n_axes;
    const double v = mode == 'c' ? rq_mil_expr_number(&x, 2, rq_attr_float(n, RQ_WORD_value, 0)) : 0;
    if (x.st || n_given != 2 * count)
        return rq_mil_expr_refuse(&x, 0, n_given < 0 ? "pads that are computed" : "pads of another number of axes");
    bool before = false, any = false; /* pads before the last two axes */
    for (int k = 0; k < count; k++) {
        const int64_t axis = n_axes < 0 ? k : axes[k];
        lo[axis] = given[k];
        hi[axis] = given[k + count];
        before |= axis < rank - 2 && (lo[axis] || hi[axis]);
    }
    if (a.d == RQ_DTYPE_S8 || a.d == RQ_DTYPE_U8)
        a = rq_mil_expr_plain(&x, a);
    for (int i = 0; i < rank; i++) {
        const bool cuts = lo[i] < 0 || hi[i] < 0;
        if (!cuts || mode != 'c')
            continue;
        if (a.shape.dim[i] < 0)
            return rq_mil_expr_refuse(&x, 0, "pads below zero of sizes that are known only when it runs");
        a = rq_mil_expr_slice(&x, a, i, lo[i] < 0 ? -lo[i] : 0, a.shape.dim[i] + (hi[i] < 0 ? hi[i] : 0));
        lo[i] = lo[i] < 0 ? 0 : lo[i];
        hi[i] = hi[i] < 0 ? 0 : hi[i];
    }
    bool plain = a.d == RQ_DTYPE_F32 && mode != 'w' && (mode == 'c' || !before);
    for (int i = 0; i < rank; i++) {
        any |= lo[i] || hi[i];
        plain &= mode == 'c' || (lo[i] >= 0 && hi[i] >= 0);
        if (mode == 'r' || mode == 'e')
            plain &= a.shape.dim[i] < 0 ||
                     (lo[i] <= a.shape.dim[i] - (mode == 'r') && hi[i] <= a.shape.dim[i] - (mode == 'r'));
    }
    if (!any) {
        rq_mil_expr_give(&x, a);
    } else if (plain) {
        int64_t pairs[2 * RQ_MAX_RANK];
        const int first = mode == 'c' ? 0 : rank > 2 ? rank - 2 : 0;
        for (int i = first; i < rank; i++) {
            pairs[2 * (i - first)] = lo[i];
            pairs[2 * (i - first) + 1] = hi[i];
        }
        EXPR_OP(rq_mil_expr_last(&x), "pad", a.d, &out, EXPR_V("x", &a), EXPR_IS("pad", pairs, 2 * (rank - first)),
                EXPR_T("mode", mode == 'c'   ? "constant"
                               : mode == 'r' ? "reflect"
                                             : "replicate"),
                EXPR_F("constant_val", (float)v));
    } else if (rq_mil_expr_static(&x, &a.shape)) {
        for (int i = 0; i < rank; i++)
            if (lo[i] || hi[i])
                a = mode == 'c' ? pad_joined(&x, a, i, lo[i], hi[i], v) : pad_shown(&x, a, i, lo[i], hi[i], mode);
        rq_mil_expr_give(&x, a);
    }
    return x.st;
}

/* Cut, or pad with zeros, about the middle. */
static rq_status center_crop_pad(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0));
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    int64_t pairs[2 * RQ_MAX_RANK] = { 0 };
    bool pads = false;
    if (!rq_mil_expr_static(&x, &a.shape) || !rq_mil_expr_static(&x, &out) || rq_mil_expr_is_empty(&x, &out))
        return x.st;
    for (int i = 0; i < out.rank; i++) {
        const int64_t more = out.dim[i] - a.shape.dim[i];
        if (more < 0) {
            const int64_t at = -more / 2;
            a = rq_mil_expr_slice(&x, a, i, at, at + out.dim[i]);
        } else if (more) {
            pairs[2 * i] = more / 2;
            pairs[2 * i + 1] = more - more / 2;
            pads = true;
        }
    }
    if (!pads) {
        rq_mil_expr_give(&x, a);
    } else if (a.d == RQ_DTYPE_F32) {
        EXPR_OP(rq_mil_expr_last(&x), "pad", a.d, &out, EXPR_V("x", &a), EXPR_IS("pad", pairs, 2 * out.rank),
                EXPR_T("mode", "constant"), EXPR_F("constant_val", 0));
    } else {
        for (int i = 0; i < out.rank; i++)
            a = pad_joined(&x, a, i, pairs[2 * i], pairs[2 * i + 1], 0);
        rq_mil_expr_give(&x, a);
    }
    return x.st;
}

const rq_mil_emit_row rq_mil_emit_slices[] = {
    { .op = "CenterCropPad", .emit = center_crop_pad },
    { .op = "Concat", .emit = concat },
    { .op = "Pad", .emit = pad },
    { .op = "Slice", .emit = slice },
    { .op = "Split", .emit = split },
    { .op = NULL },
};
