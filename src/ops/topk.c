/* ops/topk.c — operators that take candidates in the order of a key: TopK, the largest or smallest along an axis, and NonMaxSuppression,
 * of boxes that overlap the one with the best score. Both keep a heap. */
#include <math.h>
#include <string.h>

#include "ops/elements.h"
#include "ops/grad.h"
#include "ops/moves.h"
#include "ops/samples.h"

/* One candidate: keys are ordered like the numbers, whatever their type. */
typedef struct candidate {
    int64_t key, index;
} candidate;

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

/* ---- TopK ---- */

static rq_status topk_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    int64_t k = rq_attr_int(a->node, RQ_WORD_k, RQ_DIM_UNKNOWN), sym = 0;
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
    axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, -1), x->rank);
    if (axis < 0)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld of a tensor with %d axes",
                             (long long)rq_attr_int(a->node, RQ_WORD_axis, -1), x->rank);
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
    int axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, -1), y->rank);
    return ((size_t)y->dim[axis] + 1) * sizeof(candidate);
}

static rq_status topk_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0];
    rq_tensor *y = a->out[0], *at = a->n_out > 1 ? a->out[1] : NULL;
    int rank = x->shape.rank, axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, -1), rank);
    int64_t rows = rq_shape_span(&x->shape, 0, axis), inner = rq_shape_span(&x->shape, axis + 1, rank);
    int64_t n = x->shape.dim[axis], k = topk_out(a)->shape.dim[axis];
    int64_t flip = rq_attr_int(a->node, RQ_WORD_largest, 1) ? 0 : -1;
    size_t elem = rq_moves_size(x->dtype);
    candidate *heap = a->scratch;
    int64_t *kept = a->training ? a->training->saved : NULL;
    if (!elem)
        return rq_op_fail(a, RQ_UNSUPPORTED, "the input is %s", rq_dtype_name(x->dtype));
    for (int64_t r = 0; r < rows && k; r++)
        for (int64_t j = 0; j < inner; j++) {
            for (int64_t i = 0; i < n; i++) {
                candidate c = { rq_elements_key(x, (r * n + i) * inner + j) ^ flip, i };
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
    const int rank = dx->shape.rank, axis = rq_infer_axis(rq_attr_int(a->node, RQ_WORD_axis, -1), rank);
    const int64_t inner = rq_shape_span(&dx->shape, axis + 1, rank), n = dx->shape.dim[axis], k = dy->shape.dim[axis];
    for (int64_t i = 0, count = rq_tensor_count(dy); i < count; i++)
        dx->f32[(i / inner / k * n + at[i]) * inner + i % inner] = dy->f32[i];
    return RQ_OK;
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
            heap[m++] =
                (candidate) { ~rq_elements_key(scores, from + i), -i }; /* turned round: the root is the first */
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
    bool center = rq_attr_int(a->node, RQ_WORD_center_point_box, 0) != 0;
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
    .samples = rq_samples_within,
    .forward = topk_forward,
    .backward = topk_backward,
    .saves = RQ_OP_OUT(1),
    .gradients = RQ_OP_IN(0),
    .saved = topk_saved,
    .scratch = topk_scratch,
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
