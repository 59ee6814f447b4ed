/* ops/select.c — operators that pick elements by what they hold: TopK, OneHot, NonZero, Compress, Unique,
 * NonMaxSuppression; and by where they are: Trilu, ReverseSequence. */
#include <math.h>
#include <string.h>

#include "ops/elements.h"
#include "ops/grad.h"
#include "ops/moves.h"

/* ---- TopK ---- */

/* One candidate: keys are ordered like the numbers, whatever their type. */
typedef struct candidate {
    int64_t key, index;
} candidate;

/* Order-preserving: doubles as their bits with negative ones turned over, u64 shifted to start at INT64_MIN. */
static int64_t sort_key(const rq_tensor *t, int64_t i)
{
    if (rq_dtype_is_float(t->dtype)) {
        double v = rq_tensor_get(t, i) + 0.0; /* -0 is 0 */
        int64_t bits;
        memcpy(&bits, &v, sizeof bits);
        return bits < 0 ? bits ^ INT64_MAX : bits;
    }
    int64_t v = rq_tensor_get_int(t, i);
    return t->dtype == RQ_DTYPE_U64 ? (int64_t)((uint64_t)v ^ (UINT64_C(1) << 63)) : v;
}

/* Does a come before b: larger key, then lower index. */
static bool is_before(const candidate *a, const candidate *b)
{
    return a->key != b->key ? a->key > b->key : a->index < b->index;
}

/* Heap whose root is the last of its n entries: restore it below i. */
static void sift(candidate *heap, int64_t n, int64_t i)
{
    for (;;) {
        int64_t last = i;
        for (int64_t c = 2 * i + 1; c <= 2 * i + 2 && c < n; c++)
            if (is_before(&heap[last], &heap[c]))
                last = c;
        if (last == i)
            return;
        candidate t = heap[i];
        heap[i] = heap[last];
        heap[last] = t;
        i = last;
    }
}

static rq_status topk_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    int64_t k = rq_attr_int(a->node, "k", RQ_DIM_UNKNOWN), sym = 0;
    int axis;
    a->out_dtype[0] = a->in[0]->dtype;
    if (a->n_out > 1)
        a->out_dtype[1] = RQ_DTYPE_S64;
    if (a->n_in > 1 && rq_infer_ints_part(a, 1, &k, &sym, 1) != 1)
        k = RQ_DIM_UNKNOWN;
    else if (sym)
        k = sym;
    else if (k < 0 && a->n_in > 1)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "k is %lld", (long long)k);
    if (x->rank < 0)
        return RQ_OK;
    axis = rq_infer_axis(rq_attr_int(a->node, "axis", -1), x->rank);
    if (axis < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes",
                             (long long)rq_attr_int(a->node, "axis", -1), x->rank);
    if (k > x->dim[axis] && x->dim[axis] >= 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "k is %lld, axis %d has size %lld", (long long)k, axis,
                             (long long)x->dim[axis]);
    for (int i = 0; i < a->n_out; i++) {
        a->out_shape[i] = *x;
        a->out_shape[i].dim[axis] = k;
    }
    return RQ_OK;
}

static const rq_tensor *topk_out(const rq_op_args *a)
{
    return a->out[0] ? a->out[0] : a->out[1];
}

static size_t topk_scratch(const rq_op_args *a, bool integer)
{
    const rq_shape *y = &topk_out(a)->shape;
    int axis = rq_infer_axis(rq_attr_int(a->node, "axis", -1), y->rank);
    return ((size_t)y->dim[axis] + 1) * sizeof(candidate);
}

static rq_status topk_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    rq_tensor *y = a->out[0], *at = a->n_out > 1 ? a->out[1] : NULL;
    int rank = x->shape.rank, axis = rq_infer_axis(rq_attr_int(a->node, "axis", -1), rank);
    int64_t rows = rq_shape_span(&x->shape, 0, axis), inner = rq_shape_span(&x->shape, axis + 1, rank);
    int64_t n = x->shape.dim[axis], k = topk_out(a)->shape.dim[axis];
    int64_t flip = rq_attr_int(a->node, "largest", 1) ? 0 : -1;
    size_t elem = rq_moves_size(x->dtype);
    candidate *heap = a->scratch;
    int64_t *kept = a->training ? a->training->saved : NULL;
    if (!elem)
        return rq_op_fail(a, RQ_UNSUPPORTED, "the input is %s", rq_dtype_name(x->dtype));
    for (int64_t r = 0; r < rows && k; r++)
        for (int64_t j = 0; j < inner; j++) {
            for (int64_t i = 0; i < n; i++) {
                candidate c = { sort_key(x, (r * n + i) * inner + j) ^ flip, i };
                if (i < k) {
                    heap[i] = c;
                    if (i + 1 == k)
                        for (int64_t h = k / 2; h >= 0; h--)
                            sift(heap, k, h);
                } else if (is_before(&c, &heap[0])) {
                    heap[0] = c;
                    sift(heap, k, 0);
                }
            }
            for (int64_t i = k - 1; i >= 0; i--) { /* the root is the last one left */
                candidate c = heap[0];
                heap[0] = heap[i];
                sift(heap, i, 0);
                int64_t to = (r * k + i) * inner + j;
                if (y)
                    memcpy((char *)y->data + (size_t)to * elem,
                           (const char *)x->data + (size_t)((r * n + c.index) * inner + j) * elem, elem);
                if (at)
                    at->s64[to] = c.index;
                else if (kept)
                    kept[to] = c.index;
            }
        }
    return RQ_OK;
}

/* Positions, where they are no output. */
static size_t topk_saved(const rq_op_args *a)
{
    return a->n_out > 1 && a->out[1] ? 0 : (size_t)rq_tensor_count(a->out[0]) * sizeof(int64_t);
}

/* Every value goes back to where it was; the rest is 0. */
static rq_status topk_backward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    rq_grad_zero(dx);
    if (!dx || !dy)
        return RQ_OK;
    const int64_t *at = a->n_out > 1 && a->out[1] ? a->out[1]->s64 : a->training->saved;
    const int rank = dx->shape.rank, axis = rq_infer_axis(rq_attr_int(a->node, "axis", -1), rank);
    const int64_t inner = rq_shape_span(&dx->shape, axis + 1, rank), n = dx->shape.dim[axis], k = dy->shape.dim[axis];
    for (int64_t i = 0, count = rq_tensor_count(dy); i < count; i++)
        dx->f32[(i / inner / k * n + at[i]) * inner + i % inner] = dy->f32[i];
    return RQ_OK;
}

/* ---- OneHot ---- */

static rq_status one_hot_infer(const rq_infer *a)
{
    const rq_shape *in = &a->in[0]->shape;
    int64_t depth = RQ_DIM_UNKNOWN, axis_attr = rq_attr_int(a->node, "axis", -1);
    a->out_dtype[0] = a->in[2]->dtype;
    if (a->in[1]->data && rq_shape_is_known(&a->in[1]->shape) && rq_tensor_count(a->in[1]) == 1) {
        depth =
            rq_dtype_is_float(a->in[1]->dtype) ? (int64_t)rq_tensor_get(a->in[1], 0) : rq_tensor_get_int(a->in[1], 0);
        if (depth < 0)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "depth is %lld", (long long)depth);
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
    int axis = rq_infer_axis(rq_attr_int(a->node, "axis", -1), y->shape.rank);
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
    if (!rq_attr_find(a->node, "axis")) {
        a->out_shape[0] = rq_shape_of(1, (int64_t[]) { RQ_DIM_UNKNOWN });
        return RQ_OK;
    }
    if (x->rank < 0)
        return RQ_OK;
    int axis = rq_infer_axis(rq_attr_int(a->node, "axis", 0), x->rank);
    if (axis < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes",
                             (long long)rq_attr_int(a->node, "axis", 0), x->rank);
    a->out_shape[0] = *x;
    a->out_shape[0].dim[axis] = RQ_DIM_UNKNOWN;
    return RQ_OK;
}

static rq_status compress_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *c = a->in[1];
    bool flat = !rq_attr_find(a->node, "axis");
    int axis = flat ? 0 : rq_infer_axis(rq_attr_int(a->node, "axis", 0), x->shape.rank);
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
    if (a->n_out > 2 && x->rank >= 0 && rq_shape_is_known(x) && !rq_attr_find(a->node, "axis"))
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
            int64_t p = sort_key(s->x, (r * s->n + i) * s->inner + k);
            int64_t q = sort_key(s->x, (r * s->n + j) * s->inner + k);
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
    bool flat = !rq_attr_find(a->node, "axis");
    rq_shape list = rq_shape_of(1, &found), all = rq_shape_of(1, &s->n), out = flat ? list : x->shape;
    size_t run = (size_t)s->inner * rq_moves_size(x->dtype);
    if (!flat)
        out.dim[rq_infer_axis(rq_attr_int(a->node, "axis", 0), x->shape.rank)] = found;
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
    bool flat = !rq_attr_find(a->node, "axis"), sorted = rq_attr_int(a->node, "sorted", 1) != 0;
    int axis = flat ? 0 : rq_infer_axis(rq_attr_int(a->node, "axis", 0), x->shape.rank);
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

/* ---- NonMaxSuppression ---- */

static rq_status nms_infer(const rq_infer *a)
{
    const rq_shape *b = &a->in[0]->shape, *s = &a->in[1]->shape;
    a->out_dtype[0] = RQ_DTYPE_S64;
    a->out_shape[0] = rq_shape_of(2, (int64_t[]) { RQ_DIM_UNKNOWN, 3 });
    if ((b->rank >= 0 && b->rank != 3) || (s->rank >= 0 && s->rank != 3) ||
        (b->rank == 3 && b->dim[2] >= 0 && b->dim[2] != 4) ||
        (b->rank == 3 && s->rank == 3 &&
         !(rq_infer_dim_join(&(int64_t) { b->dim[0] }, s->dim[0]) &&
           rq_infer_dim_join(&(int64_t) { b->dim[1] }, s->dim[2])))) {
        char t[2][RQ_SHAPE_TEXT];
        return rq_infer_fail(a, RQ_BAD_SHAPE, "boxes %s and scores %s, expected [B,N,4] and [B,C,N]",
                             rq_shape_text(b, t[0], sizeof t[0]), rq_shape_text(s, t[1], sizeof t[1]));
    }
    return RQ_OK;
}

typedef struct box {
    float x0, y0, x1, y1;
} box;

static box read_box(const float *b, bool center)
{
    if (center)
        return (box) { b[0] - b[2] / 2, b[1] - b[3] / 2, b[0] + b[2] / 2, b[1] + b[3] / 2 };
    return (box) { fminf(b[1], b[3]), fminf(b[0], b[2]), fmaxf(b[1], b[3]), fmaxf(b[0], b[2]) };
}

/* Is intersection over union above the threshold? */
static bool overlaps(const box *a, const box *b, float threshold)
{
    float x0 = fmaxf(a->x0, b->x0), x1 = fminf(a->x1, b->x1), y0 = fmaxf(a->y0, b->y0), y1 = fminf(a->y1, b->y1);
    if (x1 <= x0 || y1 <= y0)
        return false;
    float both = (x1 - x0) * (y1 - y0), area_a = (a->x1 - a->x0) * (a->y1 - a->y0);
    float area_b = (b->x1 - b->x0) * (b->y1 - b->y0), either = area_a + area_b - both;
    return area_a > 0 && area_b > 0 && either > 0 && both / either > threshold;
}

/* Best first, the chosen boxes of one class: writes their indices to chosen[], returns how many. */
static int64_t suppress(const float *boxes, const rq_tensor *scores, int64_t from, int64_t n, int64_t most, float iou,
                        const float *least, bool center, candidate *heap, int64_t *chosen)
{
    int64_t m = 0, n_chosen = 0;
    for (int64_t i = 0; i < n; i++)
        if (!least || scores->f32[from + i] > *least)
            heap[m++] = (candidate) { ~sort_key(scores, from + i), -i }; /* turned round: the root is the first */
    for (int64_t h = m / 2; h >= 0; h--)
        sift(heap, m, h);
    while (m > 0 && n_chosen < most) {
        int64_t best = -heap[0].index;
        heap[0] = heap[--m];
        sift(heap, m, 0);
        box b = read_box(boxes + best * 4, center);
        bool keep = true;
        for (int64_t i = 0; i < n_chosen && keep; i++) {
            box c = read_box(boxes + chosen[i] * 4, center);
            keep = !overlaps(&b, &c, iou);
        }
        if (keep)
            chosen[n_chosen++] = best;
    }
    return n_chosen;
}

static const rq_tensor *optional(const rq_op_args *a, int i)
{
    return i < a->n_in && a->in[i] && rq_tensor_count(a->in[i]) > 0 ? a->in[i] : NULL;
}

static rq_status nms_forward(const rq_op_args *a)
{
    const rq_tensor *boxes = a->in[0], *scores = a->in[1];
    int64_t batches = scores->shape.dim[0], classes = scores->shape.dim[1], n = scores->shape.dim[2], found = 0;
    int64_t most = optional(a, 2) ? rq_tensor_get_int(a->in[2], 0) : 0;
    float iou = optional(a, 3) ? (float)rq_tensor_get(a->in[3], 0) : 0;
    float least = optional(a, 4) ? (float)rq_tensor_get(a->in[4], 0) : 0;
    bool center = rq_attr_int(a->node, "center_point_box", 0) != 0;
    if (boxes->dtype != RQ_DTYPE_F32 || scores->dtype != RQ_DTYPE_F32)
        return rq_op_fail(a, RQ_UNSUPPORTED, "boxes are %s and scores %s, expected f32", rq_dtype_name(boxes->dtype),
                          rq_dtype_name(scores->dtype));
    most = most > n ? n : most < 0 ? 0 : most;
    size_t room = (size_t)(batches * classes) * (size_t)most;
    candidate *heap = rq_mem_alloc((size_t)n + 1, sizeof *heap);
    int64_t *chosen = rq_mem_alloc(room + 1, sizeof *chosen);
    int64_t *count = rq_mem_zalloc((size_t)(batches * classes) + 1, sizeof *count);
    rq_status s = heap && chosen && count ? RQ_OK : RQ_NO_MEMORY;
    for (int64_t c = 0; s == RQ_OK && c < batches * classes; c++) {
        count[c] = suppress(boxes->f32 + c / classes * n * 4, scores, c * n, n, most, iou,
                            optional(a, 4) ? &least : NULL, center, heap, chosen + found);
        found += count[c];
    }
    if (s == RQ_OK)
        s = rq_tensor_create(a->out[0], RQ_DTYPE_S64, &(rq_shape) { .rank = 2, .dim = { found, 3 } }, false);
    for (int64_t c = 0, i = 0; s == RQ_OK && c < batches * classes; c++)
        for (int64_t k = 0; k < count[c]; k++, i++) {
            a->out[0]->s64[3 * i] = c / classes;
            a->out[0]->s64[3 * i + 1] = c % classes;
            a->out[0]->s64[3 * i + 2] = chosen[i];
        }
    rq_mem_free(heap);
    rq_mem_free(chosen);
    rq_mem_free(count);
    return s == RQ_OK ? s : rq_op_fail(a, s, "out of memory");
}

/* ---- Trilu, ReverseSequence ---- */

static rq_status trilu_infer(const rq_infer *a)
{
    if (a->in[0]->shape.rank >= 0 && a->in[0]->shape.rank < 2)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has %d axes, expected at least 2", a->in[0]->shape.rank);
    return rq_infer_same(a);
}

static rq_status trilu_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    rq_tensor *y = a->out[0];
    int rank = x->shape.rank;
    bool upper = rq_attr_int(a->node, "upper", 1) != 0;
    int64_t rows = x->shape.dim[rank - 2], cols = x->shape.dim[rank - 1],
            k = optional(a, 1) ? rq_tensor_get_int(a->in[1], 0) : 0;
    size_t elem = rq_moves_size(x->dtype);
    if (!elem)
        return rq_op_fail(a, RQ_UNSUPPORTED, "the input is %s", rq_dtype_name(x->dtype));
    k = k < -rows ? -rows : k > cols ? cols : k;
    rq_moves_copy(y, x);
    for (int64_t i = 0, n = rq_shape_span(&x->shape, 0, rank - 1); i < n; i++) {
        int64_t diagonal = i % rows + k, from = upper ? 0 : diagonal + 1, to = upper ? diagonal : cols;
        from = from < 0 ? 0 : from;
        to = to > cols ? cols : to;
        if (from < to)
            memset((char *)y->data + (size_t)(i * cols + from) * elem, 0, (size_t)(to - from) * elem);
    }
    return RQ_OK;
}

static rq_status reverse_sequence_infer(const rq_infer *a)
{
    const int64_t batch = rq_attr_int(a->node, "batch_axis", 1), time = rq_attr_int(a->node, "time_axis", 0);
    const int rank = a->in[0]->shape.rank;
    if ((rank >= 0 && rank < 2) || batch < 0 || batch > 1 || time != 1 - batch)
        return rq_infer_fail(a, RQ_BAD_SHAPE,
                             "batch_axis %lld and time_axis %lld of a tensor with %d axes, expected 0 and 1",
                             (long long)batch, (long long)time, rank);
    return rq_infer_same(a);
}

static rq_status reverse_sequence_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *lens = a->in[1];
    int64_t batch_axis = rq_attr_int(a->node, "batch_axis", 1), time_axis = 1 - batch_axis;
    int rank = x->shape.rank;
    int64_t batches = x->shape.dim[batch_axis], steps = x->shape.dim[time_axis];
    size_t run = (size_t)rq_shape_span(&x->shape, 2, rank) * rq_moves_size(x->dtype);
    int64_t b_step = batch_axis ? 1 : steps, t_step = batch_axis ? batches : 1;
    if (rq_tensor_count(lens) != batches || !rq_moves_size(x->dtype))
        return rq_op_fail(a, RQ_BAD_SHAPE, "%lld lengths for %lld sequences of %s", (long long)rq_tensor_count(lens),
                          (long long)batches, rq_dtype_name(x->dtype));
    for (int64_t b = 0; b < batches; b++) {
        int64_t len = rq_tensor_get_int(lens, b);
        if (len < 0 || len > steps)
            return rq_op_fail(a, RQ_BAD_DATA, "length %lld of a sequence of %lld", (long long)len, (long long)steps);
        for (int64_t t = 0; t < steps && run; t++) {
            int64_t from = t < len ? len - 1 - t : t;
            memcpy((char *)a->out[0]->data + (size_t)(b * b_step + t * t_step) * run,
                   (const char *)x->data + (size_t)(b * b_step + from * t_step) * run, run);
        }
    }
    return RQ_OK;
}

/* Both are their own transposes: what forward does to x, this does to dy. */
static rq_status as_forward(const rq_op_args *a)
{
    rq_tensor *dx = rq_grad_in(a, 0);
    const rq_tensor *dy = rq_grad_out(a, 0);
    if (!dx || !dy)
        return rq_grad_none(a);
    rq_op_args b = *a;
    b.in = (const rq_tensor *[]) { dy, a->n_in > 1 ? a->in[1] : NULL };
    b.out = (rq_tensor *[]) { dx };
    b.training = NULL;
    return a->node->row->forward(&b);
}

/* ---- rows ---- */

const rq_op rq_op_topk = {
    .name = "TopK",
    .domain = "",
    .since = 1,
    .known = 25,
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 2,
    .flags = RQ_OP_MOVES,
    .place = RQ_PLACE_SAME,
    .infer = topk_infer,
    .forward = topk_forward,
    .backward = topk_backward,
    .saves = RQ_OP_OUT(1),
    .gradients = RQ_OP_IN(0),
    .saved = topk_saved,
    .scratch = topk_scratch,
};

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
    .forward = one_hot_forward,
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

const rq_op rq_op_non_max_suppression = {
    .name = "NonMaxSuppression",
    .domain = "",
    .since = 10,
    .known = 25,
    .min_in = 2,
    .max_in = 5,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_DYNAMIC,
    .place = RQ_PLACE_FLOAT,
    .infer = nms_infer,
    .forward = nms_forward,
};

const rq_op rq_op_trilu = {
    .name = "Trilu",
    .domain = "",
    .since = 14,
    .known = 25,
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = trilu_infer,
    .forward = trilu_forward,
    .backward = as_forward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_ms_trilu = {
    .name = "Trilu",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = trilu_infer,
    .forward = trilu_forward,
    .backward = as_forward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0),
};

const rq_op rq_op_reverse_sequence = {
    .name = "ReverseSequence",
    .domain = "",
    .since = 10,
    .known = 25,
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .flags = RQ_OP_MOVES,
    .place = RQ_PLACE_SAME,
    .infer = reverse_sequence_infer,
    .forward = reverse_sequence_forward,
    .backward = as_forward,
    .saves = RQ_OP_IN(1),
    .gradients = RQ_OP_IN(0),
};
