/* ops/select.c — operators that pick elements by what they hold: OneHot, NonZero, Compress, Unique. (TopK,
 * NonMaxSuppression: ops/topk.c.) */
#include <math.h>
#include <string.h>

#include "ops/elements.h"
#include "ops/grad.h"
#include "ops/moves.h"
#include "ops/samples.h"

/* ---- OneHot ---- */

static rq_status one_hot_infer(const rq_infer *a)
{
    const rq_shape *in = &a->in[0]->shape;
    int64_t depth = RQ_DIM_UNKNOWN, axis_attr = rq_attr_int(a->node, RQ_WORD_axis, -1);
    a->out_dtype[0] = a->in[2]->dtype;
    if (a->in[1]->data && rq_shape_is_known(&a->in[1]->shape) && rq_tensor_count(a->in[1]) == 1) {
        const double given = rq_tensor_get(a->in[1], 0);
        if (!(given >= 0 && given < 0x1p62))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "depth is %g", given);
        depth = rq_dtype_is_float(a->in[1]->dtype) ? (int64_t)given : rq_tensor_get_int(a->in[1], 0);
    }
    if (in->rank < 0)
        return RQ_OK;
    if (in->rank + 1 > RQ_MAX_RANK)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "the output has more than %d axes", RQ_MAX_RANK);
    int axis = rq_infer_axis(axis_attr, in->rank + 1);
    if (axis < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes", (long long)axis_attr, in->rank + 1);
    rq_shape out = { .rank = in->rank + 1 };
    for (int i = 0, k = 0; i < out.rank; i++)
        out.dim[i] = i == axis ? depth : in->dim[k++];
    a->out_shape[0] = out;
    return RQ_OK;
}

static rq_status one_hot_forward(const rq_op_args *a)
{
    const rq_tensor *in = a->in[0], *values = a->in[2];
    rq_tensor *y = a->out[0];
    int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, -1), y->shape.rank);
    int64_t depth = y->shape.dim[axis], rows = rq_shape_span(&in->shape, 0, axis);
    int64_t inner = rq_shape_span(&in->shape, axis, in->shape.rank);
    size_t elem = rq_moves_size(values->dtype);
    if (!elem || rq_tensor_count(values) != 2)
        return rq_op_fail(a, RQ_BAD_SHAPE, "values is a %s tensor of %lld elements, expected 2 numbers",
                          rq_dtype_name(values->dtype), (long long)rq_tensor_count(values));
    rq_move_fill(y->data, values->data, elem, rq_tensor_count(y));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < inner; j++) {
            double v = rq_tensor_get(in, r * inner + j);
            v = v < 0 ? v + (double)depth : v;
            if (v >= 0 && v < (double)depth) /* elsewhere: no element is on */
                memcpy((char *)y->data + (size_t)((r * depth + (int64_t)v) * inner + j) * elem,
                       (const char *)values->data + elem, elem);
        }
    return RQ_OK;
}

/* Of the two values: sums over where each of them went. */
static rq_status one_hot_backward(const rq_op_args *a)
{
    rq_tensor *dvalues = rq_grad_in(a, 2);
    const rq_tensor *in = a->in[0], *dy = rq_grad_out(a, 0);
    if (!dvalues || !dy || !rq_tensor_count(dy))
        return rq_grad_none(a);
    const int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, -1), dy->shape.rank);
    const int64_t depth = dy->shape.dim[axis], inner = rq_shape_span(&in->shape, axis, in->shape.rank);
    double all = 0, on = 0;
    for (int64_t i = 0, n = rq_tensor_count(dy); i < n; i++)
        all += (double)dy->f32[i];
    for (int64_t i = 0, n = rq_tensor_count(in); i < n; i++) {
        const double at = rq_tensor_get(in, i), v = at < 0 ? at + (double)depth : at;
        if (v >= 0 && v < (double)depth)
            on += (double)dy->f32[(i / inner * depth + (int64_t)v) * inner + i % inner];
    }
    dvalues->f32[0] = (float)(all - on);
    dvalues->f32[1] = (float)on;
    return RQ_OK;
}

/* ---- NonZero, Compress ---- */

static rq_status non_zero_infer(const rq_infer *a)
{
    a->out_dtype[0] = RQ_DTYPE_S64;
    a->out_shape[0] = rq_shape_of(
        2, (int64_t[]) { a->in[0]->shape.rank < 0 ? RQ_DIM_UNKNOWN : a->in[0]->shape.rank, RQ_DIM_UNKNOWN });
    return RQ_OK;
}

static rq_status non_zero_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    int64_t n = rq_tensor_count(x), found = 0, k = 0;
    for (int64_t i = 0; i < n; i++)
        found += rq_tensor_get(x, i) != 0;
    rq_shape out = rq_shape_of(2, (int64_t[]) { x->shape.rank, found });
    rq_status s = rq_tensor_create(a->out[0], RQ_DTYPE_S64, &out, false);
    if (s != RQ_OK)
        return rq_op_fail(a, s, "no memory for %lld positions", (long long)found);
    for (int64_t i = 0; i < n; i++) {
        if (rq_tensor_get(x, i) == 0)
            continue;
        int64_t rest = i;
        for (int d = x->shape.rank - 1; d >= 0; d--) {
            a->out[0]->s64[d * found + k] = rest % x->shape.dim[d];
            rest /= x->shape.dim[d];
        }
        k++;
    }
    return RQ_OK;
}

static rq_status compress_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    a->out_dtype[0] = a->in[0]->dtype;
    if (a->n_in > 1 && a->in[1]->dtype != RQ_DTYPE_NONE && a->in[1]->dtype != RQ_DTYPE_BOOL)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the condition is %s, expected bool", rq_dtype_name(a->in[1]->dtype));
    if (!rq_attr_find(a->node, RQ_WORD_axis)) {
        a->out_shape[0] = rq_shape_of(1, (int64_t[]) { RQ_DIM_UNKNOWN });
        return RQ_OK;
    }
    if (x->rank < 0)
        return RQ_OK;
    int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), x->rank);
    if (axis < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes",
                             (long long)rq_attr_int(a->node, RQ_WORD_axis, 0), x->rank);
    a->out_shape[0] = *x;
    a->out_shape[0].dim[axis] = RQ_DIM_UNKNOWN;
    return RQ_OK;
}

static rq_status compress_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *c = a->in[1];
    bool flat = !rq_attr_find(a->node, RQ_WORD_axis);
    int axis = flat ? 0 : rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), x->shape.rank);
    int64_t rows = flat ? 1 : rq_shape_span(&x->shape, 0, axis), n = flat ? rq_tensor_count(x) : x->shape.dim[axis];
    int64_t inner = flat ? 1 : rq_shape_span(&x->shape, axis + 1, x->shape.rank), kept = 0;
    int64_t len = rq_tensor_count(c) < n ? rq_tensor_count(c) : n;
    size_t run = (size_t)inner * rq_moves_size(x->dtype);
    if (!rq_moves_size(x->dtype))
        return rq_op_fail(a, RQ_UNSUPPORTED, "the input is %s", rq_dtype_name(x->dtype));
    for (int64_t i = 0; i < len; i++)
        kept += c->u8[i] != 0;
    rq_shape out = flat ? rq_shape_of(1, &kept) : x->shape;
    out.dim[axis] = kept;
    rq_status s = rq_tensor_create(a->out[0], x->dtype, &out, false);
    if (s != RQ_OK)
        return rq_op_fail(a, s, "no memory for the output");
    char *dst = a->out[0]->data;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < len; i++)
            if (c->u8[i] && run) {
                memcpy(dst, (const char *)x->data + (size_t)(r * n + i) * run, run);
                dst += run;
            }
    return RQ_OK;
}

/* ---- Unique ---- */

static rq_status unique_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    RQ_TRY(compress_infer(a));
    for (int i = 1; i < a->n_out; i++) {
        a->out_dtype[i] = RQ_DTYPE_S64;
        a->out_shape[i] = rq_shape_of(1, (int64_t[]) { RQ_DIM_UNKNOWN });
    }
    if (a->n_out > 2 && x->rank >= 0 && rq_shape_is_known(x) && !rq_attr_find(a->node, RQ_WORD_axis))
        a->out_shape[2].dim[0] = rq_shape_count(x);
    return RQ_OK;
}

/* Slices i and j of x along an axis, as [rows][n][inner]: <0, 0, >0. */
typedef struct slices {
    const rq_tensor *x;
    int64_t rows, n, inner;
} slices;

static int compare_slices(const slices *s, int64_t i, int64_t j)
{
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t k = 0; k < s->inner; k++) {
            int64_t p = rq_elements_key(s->x, (r * s->n + i) * s->inner + k);
            int64_t q = rq_elements_key(s->x, (r * s->n + j) * s->inner + k);
            if (p != q)
                return p < q ? -1 : 1;
        }
    return 0;
}

/* Stable merge sort of order[0..n) by slice. */
static void sort_slices(const slices *s, int64_t *order, int64_t *other, int64_t n)
{
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t lo = 0; lo < n; lo += 2 * width) {
            int64_t mid = lo + width < n ? lo + width : n, hi = mid + width < n ? mid + width : n;
            for (int64_t i = lo, j = mid, k = lo; k < hi; k++)
                other[k] = j >= hi || (i < mid && compare_slices(s, order[i], order[j]) <= 0) ? order[i++] : order[j++];
        }
        memcpy(order, other, (size_t)n * sizeof *order);
    }
}

static rq_status unique_outputs(const rq_op_args *a, const slices *s, const int64_t *first, int64_t found,
                                const int64_t *group, const int64_t *count)
{
    const rq_tensor *x = s->x;
    bool flat = !rq_attr_find(a->node, RQ_WORD_axis);
    rq_shape list = rq_shape_of(1, &found), all = rq_shape_of(1, &s->n), out = flat ? list : x->shape;
    size_t run = (size_t)s->inner * rq_moves_size(x->dtype);
    if (!flat)
        out.dim[rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), x->shape.rank)] = found;
    for (int i = 0; i < a->n_out; i++)
        if (a->out[i])
            RQ_TRY(rq_tensor_create(a->out[i], i ? RQ_DTYPE_S64 : x->dtype,
                                    i == 0   ? &out
                                    : i == 2 ? &all
                                             : &list,
                                    false));
    for (int64_t r = 0; a->out[0] && run && r < s->rows; r++)
        for (int64_t i = 0; i < found; i++)
            memcpy((char *)a->out[0]->data + (size_t)(r * found + i) * run,
                   (const char *)x->data + (size_t)(r * s->n + first[i]) * run, run);
    for (int64_t i = 0; a->n_out > 1 && a->out[1] && i < found; i++)
        a->out[1]->s64[i] = first[i];
    for (int64_t i = 0; a->n_out > 2 && a->out[2] && i < s->n; i++)
        a->out[2]->s64[i] = group[i];
    for (int64_t i = 0; a->n_out > 3 && a->out[3] && i < found; i++)
        a->out[3]->s64[i] = count[i];
    return RQ_OK;
}

static rq_status unique_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    bool flat = !rq_attr_find(a->node, RQ_WORD_axis), sorted = rq_attr_int(a->node, RQ_WORD_sorted, 1) != 0;
    int axis = flat ? 0 : rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, 0), x->shape.rank);
    slices s = { x, flat ? 1 : rq_shape_span(&x->shape, 0, axis), flat ? rq_tensor_count(x) : x->shape.dim[axis],
                 flat ? 1 : rq_shape_span(&x->shape, axis + 1, x->shape.rank) };
    if (!rq_moves_size(x->dtype))
        return rq_op_fail(a, RQ_UNSUPPORTED, "the input is %s", rq_dtype_name(x->dtype));
    size_t n = (size_t)s.n;
    int64_t *mem = rq_mem_alloc(5 * n + 1, sizeof *mem), found = 0;
    if (!mem)
        return rq_op_fail(a, RQ_NO_MEMORY, "out of memory");
    int64_t *order = mem, *other = mem + n, *first = mem + 2 * n, *group = mem + 3 * n, *count = mem + 4 * n;
    for (int64_t i = 0; i < s.n; i++)
        order[i] = i;
    sort_slices(&s, order, other, s.n);
    for (int64_t i = 0; i < s.n; i++) { /* the first of each group of equals has the lowest index */
        if (i == 0 || compare_slices(&s, order[i - 1], order[i]) != 0) {
            first[found] = order[i];
            count[found++] = 0;
        }
        group[order[i]] = found - 1;
        count[found - 1]++;
    }
    if (!sorted) { /* renumber by first occurrence */
        int64_t next = 0;
        for (int64_t i = 0; i < s.n; i++)
            if (first[group[i]] == i)
                other[group[i]] = next++;
        for (int64_t i = 0; i < s.n; i++)
            group[i] = other[group[i]];
        for (int64_t i = 0; i < found; i++)
            order[other[i]] = count[i];
        memcpy(count, order, (size_t)found * sizeof *count);
        for (int64_t i = s.n - 1; i >= 0; i--)
            first[group[i]] = i;
    }
    rq_status st = unique_outputs(a, &s, first, found, group, count);
    rq_mem_free(mem);
    return st == RQ_OK ? st : rq_op_fail(a, st, "no memory for the outputs");
}

/* ---- rows ---- */

const rq_op rq_op_one_hot = {
    .name = "OneHot",
    .domain = "",
    .since = 9,
    .known = 25,
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = one_hot_infer,
    .samples = rq_samples_first,
    .forward = one_hot_forward,
    .backward = one_hot_backward,
    .saves = RQ_OP_IN(0),
    .gradients = RQ_OP_IN(2),
};

const rq_op rq_op_non_zero = {
    .name = "NonZero",
    .domain = "",
    .since = 9,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_DYNAMIC,
    .place = RQ_PLACE_FLOAT,
    .infer = non_zero_infer,
    .forward = non_zero_forward,
};

const rq_op rq_op_compress = {
    .name = "Compress",
    .domain = "",
    .since = 9,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_DYNAMIC,
    .place = RQ_PLACE_FLOAT,
    .infer = compress_infer,
    .forward = compress_forward,
};

const rq_op rq_op_unique = {
    .name = "Unique",
    .domain = "",
    .since = 11,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 4,
    .flags = RQ_OP_DYNAMIC,
    .place = RQ_PLACE_FLOAT,
    .infer = unique_infer,
    .forward = unique_forward,
};
