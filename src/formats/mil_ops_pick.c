/* formats/mil_ops_pick.c — rows: elements picked by indices and put back by them, and boxes that are kept. */
#include <math.h>
#include <string.h>

#include "formats/mil_rows.h"

typedef rq_mil_reader reader;
typedef rq_chain chain;

static const char *permuted(chain *c, const char *x, const int64_t *perm, int n)
{
    bool moves = false;
    for (int i = 0; i < n; i++)
        moves = moves || perm[i] != i;
    if (!moves)
        return x;
    const char *y = rq_n1(c, "Transpose", x);
    rq_chain_set_ints(c, "perm", perm, n);
    return y;
}

/* ---- gather ---- */

/* Batch axes of x and of the indices are walked together: the axis moves behind them, and what was picked moves to where it was. */
static const char *gather_batches(chain *c, const char *x, const char *indices, int axis, int batch)
{
    int64_t perm[RQ_MAX_RANK], back[RQ_MAX_RANK];
    const int rank = rq_chain_rank(c, x), n_picked = rq_chain_rank(c, indices) - batch;
    if (n_picked < 0 || axis < batch || rank - 1 + n_picked > RQ_MAX_RANK)
        return c->st ? NULL : rq_chain_fail(c, RQ_BAD_FILE, "%d batch axes do not fit axis %d", batch, axis);
    for (int i = 0; i < rank; i++)
        perm[i] = i < batch ? i : i == batch ? axis : i <= axis ? i - 1 : i;
    const char *where = rq_n2(c, "Unsqueeze", indices, rq_chain_const_ints(c, (const int64_t[]) { -1 }, 1));
    const char *y = rq_n2(c, "GatherND", permuted(c, x, perm, rank), where);
    rq_chain_set_int(c, "batch_dims", batch);
    const int n = rank - 1 + n_picked; /* batch, picked, between, behind -> batch, between, picked, behind */
    for (int i = 0; i < n; i++)
        back[i] = i < batch || i >= axis + n_picked ? i : i < axis ? i + n_picked : i - (axis - batch);
    return permuted(c, y, back, n);
}

static rq_status gather(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *indices = rq_chain_list(&c, "indices");
    const int axis = rq_chain_axis(&c, rq_chain_int(&c, "axis", 0), rq_chain_rank(&c, x));
    const int64_t batch = rq_chain_int(&c, "batch_dims", 0);
    if (batch < 0 || batch > RQ_MAX_RANK)
        rq_chain_fail(&c, RQ_BAD_FILE, "'batch_dims' is %lld", (long long)batch);
    if (batch && !c.st)
        return rq_chain_end(&c, 0, gather_batches(&c, x, indices, axis, (int)batch));
    const char *y = rq_n2(&c, "Gather", x, indices);
    rq_chain_set_int(&c, "axis", axis);
    return rq_chain_end(&c, 0, y);
}

static rq_status gather_along_axis(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *indices = rq_chain_list(&c, "indices");
    const int64_t axis = rq_chain_int(&c, "axis", 0);
    const char *y = rq_n2(&c, "GatherElements", x, indices);
    rq_chain_set_int(&c, "axis", axis);
    return rq_chain_end(&c, 0, y);
}

static rq_status gather_nd(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *indices = rq_chain_list(&c, "indices");
    const int64_t batch = rq_chain_int(&c, "batch_dims", 0);
    const char *y = rq_n2(&c, "GatherND", x, indices);
    rq_chain_set_int(&c, "batch_dims", batch);
    return rq_chain_end(&c, 0, y);
}

/* ---- scatter ---- */

/* One node that scatters, axis < 0: ScatterND. */
static const char *put(chain *c, const char *data, const char *indices, const char *updates, int axis,
                       const char *reduction)
{
    const char *y = rq_n3(c, axis < 0 ? "ScatterND" : "ScatterElements", data, indices, updates);
    if (axis >= 0)
        rq_chain_set_int(c, "axis", axis);
    rq_chain_set_text(c, "reduction", reduction);
    return y;
}

/* All modes; what ONNX has no reduction for: differences as sums of negatives, quotients by the product of the divisors. */
static const char *scattered(chain *c, const char *data, const char *indices, const char *updates, int axis)
{
    static const char *const modes[][2] = {
        { "update", "none" }, { "add", "add" }, { "mul", "mul" }, { "max", "max" }, { "min", "min" }
    };
    const char *mode = rq_chain_text(c, "mode", "add");
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (!strcmp(mode, modes[i][0]))
            return put(c, data, indices, updates, axis, modes[i][1]);
    if (!strcmp(mode, "sub"))
        return put(c, data, indices, rq_n1(c, "Neg", updates), axis, "add");
    if (strcmp(mode, "div") != 0)
        return c->st ? NULL : rq_chain_fail(c, RQ_UNSUPPORTED, "mode '%.60s' is not known", mode);
    const char *ones = rq_n2(c, "Expand", rq_chain_const(c, rq_chain_dtype(c, data), 1), rq_n1(c, "Shape", data));
    return rq_n2(c, "Div", data, put(c, ones, indices, updates, axis, "mul"));
}

/* Slices along an axis: it moves to the front, and back. */
static rq_status scatter(reader *r, const rq_mil_op *op)
{
    int64_t perm[RQ_MAX_RANK], back[RQ_MAX_RANK];
    chain c = rq_chain_begin(r, op);
    const char *data = rq_chain_in(&c, "data"), *indices = rq_chain_list(&c, "indices"),
               *updates = rq_chain_in(&c, "updates");
    const int rank = rq_chain_rank(&c, data), axis = rq_chain_axis(&c, rq_chain_int(&c, "axis", 0), rank);
    if (axis && rq_chain_rank(&c, indices) != 1)
        rq_chain_fail(&c, RQ_UNSUPPORTED, "indices of %d axes on axis %d are not supported", rq_chain_rank(&c, indices),
                      axis);
    for (int i = 0; i < rank; i++)
        perm[i] = i == 0 ? axis : i <= axis ? i - 1 : i;
    for (int i = 0; i < rank; i++)
        back[perm[i]] = i;
    const char *where = rq_n2(&c, "Unsqueeze", indices, rq_chain_const_ints(&c, (const int64_t[]) { -1 }, 1));
    if (axis) {
        updates = permuted(&c, updates, perm, rank);
        data = permuted(&c, data, perm, rank);
    }
    const char *y = scattered(&c, data, where, updates, -1);
    return rq_chain_end(&c, 0, permuted(&c, y, back, rank));
}

static rq_status scatter_along_axis(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *data = rq_chain_in(&c, "data"), *indices = rq_chain_list(&c, "indices"),
               *updates = rq_chain_in(&c, "updates");
    const int axis = rq_chain_axis(&c, rq_chain_int(&c, "axis", 0), rq_chain_rank(&c, data));
    return rq_chain_end(&c, 0, scattered(&c, data, indices, updates, axis));
}

static rq_status scatter_nd(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *data = rq_chain_in(&c, "data"), *indices = rq_chain_list(&c, "indices"),
               *updates = rq_chain_in(&c, "updates");
    return rq_chain_end(&c, 0, scattered(&c, data, indices, updates, -1));
}

/* ---- others ---- */

static rq_status one_hot(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const rq_dtype d = rq_chain_declared(&c, 0);
    const char *indices = rq_chain_list(&c, "indices"), *size = rq_chain_list(&c, "one_hot_vector_size");
    const int64_t axis = rq_chain_int(&c, "axis", -1);
    const char *on = rq_chain_maybe(&c, "on_value"), *off = rq_chain_maybe(&c, "off_value");
    const char *one = rq_chain_const_ints(&c, (const int64_t[]) { 1 }, 1);
    on = on ? rq_chain_cast(&c, on, d) : rq_chain_const(&c, d, 1);
    off = off ? rq_chain_cast(&c, off, d) : rq_chain_const(&c, d, 0);
    const char *pair[] = { rq_n2(&c, "Reshape", off, one), rq_n2(&c, "Reshape", on, one) };
    const char *values = rq_chain_node(&c, "Concat", pair, 2);
    rq_chain_set_int(&c, "axis", 0);
    const char *y = rq_n3(&c, "OneHot", indices, size, values);
    rq_chain_set_int(&c, "axis", axis);
    return rq_chain_end(&c, 0, y);
}

static rq_status non_zero(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *y = permuted(&c, rq_n1(&c, "NonZero", rq_chain_in(&c, "x")), (const int64_t[]) { 1, 0 }, 2);
    return rq_chain_end(&c, 0, rq_chain_cast(&c, y, RQ_DTYPE_S32));
}

/* ONNX's own knows only axes 0 and 1. */
static rq_status reverse_sequence(reader *r, const rq_mil_op *op)
{
    int64_t perm[RQ_MAX_RANK], back[RQ_MAX_RANK];
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *lengths = rq_chain_list(&c, "lengths");
    const int rank = rq_chain_rank(&c, x), time = rq_chain_axis(&c, rq_chain_int(&c, "seq_axis", 0), rank),
              batch = rq_chain_axis(&c, rq_chain_int(&c, "batch_axis", 0), rank);
    if (time == batch)
        return c.st ? c.st : rq_fail(r->err, RQ_BAD_FILE, "'seq_axis' and 'batch_axis' are both %d", time);
    perm[0] = time;
    perm[1] = batch;
    for (int i = 0, n = 2; i < rank; i++)
        if (i != time && i != batch)
            perm[n++] = i;
    for (int i = 0; i < rank; i++)
        back[perm[i]] = i;
    const char *y = rq_n2(&c, "ReverseSequence", permuted(&c, x, perm, rank), lengths);
    rq_chain_set_int(&c, "time_axis", 0);
    rq_chain_set_int(&c, "batch_axis", 1);
    return rq_chain_end(&c, 0, permuted(&c, y, back, rank));
}

/* ---- boxes ---- */

/* Which boxes survive: [n, boxes], their score or -inf. Boxes of several classes that are kept apart are of that where their score
 * is largest, and never suppress one another. */
static const char *survivors(chain *c, const char *boxes, const char *scores, int64_t n_classes, float iou, float least,
                             bool apart)
{
    const char *last = rq_chain_const_ints(c, (const int64_t[]) { 2 }, 1);
    const char *best = rq_n2(c, "ReduceMax", scores, last); /* [n, boxes, 1] */
    const char *low = rq_chain_const(c, RQ_DTYPE_F32, -INFINITY), *of_class = best;
    if (apart && n_classes > 1) {
        const char *which = rq_n1(c, "ArgMax", scores);
        rq_chain_set_int(c, "axis", 2);
        rq_chain_set_int(c, "keepdims", 1);
        const char *classes =
            rq_n3(c, "Range", rq_chain_const_int(c, 0), rq_chain_const_int(c, n_classes), rq_chain_const_int(c, 1));
        of_class = rq_n3(c, "Where", rq_n2(c, "Equal", which, classes), best, low);
    }
    of_class = permuted(c, of_class, (const int64_t[]) { 0, 2, 1 }, 3);
    const char *flat = rq_chain_const_ints(c, (const int64_t[]) { -1 }, 1);
    const char *n_boxes =
        rq_n2(c, "Gather", rq_n1(c, "Shape", boxes), rq_chain_const_ints(c, (const int64_t[]) { 1 }, 1));
    /* ONNX keeps what is above the threshold, Core ML what is not below it */
    const char *in[] = {
        boxes, of_class, n_boxes, rq_n2(c, "Reshape", rq_chain_const(c, RQ_DTYPE_F32, (double)iou), flat),
        rq_n2(c, "Reshape", rq_chain_const(c, RQ_DTYPE_F32, (double)nextafterf(least, -INFINITY)), flat)
    };
    const char *picked = rq_chain_node(c, "NonMaxSuppression", in, 5); /* [m, 3]: batch, class, box */
    rq_chain_set_int(c, "center_point_box", 1);
    const char *where = rq_n2(c, "Gather", picked, rq_chain_const_ints(c, (const int64_t[]) { 0, 2 }, 2));
    rq_chain_set_int(c, "axis", 1);
    const char *score = rq_n2(c, "Squeeze", best, last);
    const char *none = rq_n2(c, "Expand", low, rq_n1(c, "Shape", score));
    return rq_n3(c, "ScatterND", none, where, rq_n2(c, "GatherND", score, where));
}

/* The rows of x [n, boxes, k] that were chosen, zeros where there are no more. */
static const char *chosen(chain *c, const char *x, const char *where, const char *is_there)
{
    const char *rows = rq_n2(c, "GatherND", x, where);
    rq_chain_set_int(c, "batch_dims", 1);
    return rq_n3(c, "Where", is_there, rows, rq_chain_const(c, RQ_DTYPE_F32, 0));
}

static rq_status non_maximum_suppression(reader *r, const rq_mil_op *op)
{
    const char *top[2] = { NULL, NULL };
    const bool boxes_last = !rq_mil_reader_has(op, "score_threshold"); /* iOS 17: [n, 4, boxes], and no count */
    const int64_t turn[] = { 0, 2, 1 };
    chain c = rq_chain_begin(r, op);
    const char *boxes = rq_chain_in(&c, "boxes"), *scores = rq_chain_in(&c, "scores");
    const rq_dtype d = rq_chain_dtype(&c, boxes), d_scores = rq_chain_dtype(&c, scores);
    const float iou = rq_chain_float(&c, "iou_threshold", 0),
                least = rq_chain_float(&c, "score_threshold", -3.4028234e38f);
    const int64_t most = rq_chain_int(&c, "max_boxes", 0), apart = rq_chain_int(&c, "per_class_suppression", 0);
    if (most < 1 || most > (1 << 24) || rq_chain_rank(&c, boxes) != 3 || rq_chain_rank(&c, scores) != 3)
        rq_chain_fail(&c, RQ_BAD_FILE, "%lld boxes at most, of tensors that are to have 3 axes", (long long)most);
    boxes = rq_chain_cast(&c, boxes_last ? permuted(&c, boxes, turn, 3) : boxes, RQ_DTYPE_F32);
    scores = rq_chain_cast(&c, boxes_last ? permuted(&c, scores, turn, 3) : scores, RQ_DTYPE_F32);
    const int64_t n_classes = rq_chain_size(&c, scores, 2);
    if (apart && n_classes < 0)
        rq_chain_fail(&c, RQ_UNSUPPORTED, "suppression in an unknown number of classes is not supported");
    const char *kept = survivors(&c, boxes, scores, n_classes, iou, least, apart != 0);
    /* room for as many as are asked for, then the best of them */
    const char *pads = rq_chain_const_ints(&c, (const int64_t[]) { 0, 0, 0, most }, 4);
    kept = rq_n3(&c, "Pad", kept, pads, rq_chain_const(&c, RQ_DTYPE_F32, -INFINITY));
    rq_chain_nodes(&c, "TopK", (const char *const[]) { kept, rq_chain_const_ints(&c, &most, 1) }, 2, top, 2);
    rq_chain_set_int(&c, "axis", 1);
    const char *is_there = rq_n2(&c, "Greater", top[0], rq_chain_const(&c, RQ_DTYPE_F32, -INFINITY));
    const char *behind = rq_chain_const_ints(&c, (const int64_t[]) { -1 }, 1);
    const char *first = rq_n3(&c, "Where", is_there, top[1], rq_chain_const_int(&c, 0));
    const char *where = rq_n2(&c, "Unsqueeze", first, behind), *wide = rq_n2(&c, "Unsqueeze", is_there, behind);
    const char *out[2] = { chosen(&c, boxes, where, wide), chosen(&c, scores, where, wide) };
    for (int i = 0; i < 2; i++)
        rq_chain_end(&c, i, rq_chain_cast(&c, boxes_last ? permuted(&c, out[i], turn, 3) : out[i], i ? d_scores : d));
    const char *index = rq_n3(&c, "Where", is_there, top[1], rq_chain_const_int(&c, -1));
    rq_chain_end(&c, 2, rq_chain_cast(&c, index, RQ_DTYPE_S32));
    const char *count = rq_n2(&c, "ReduceSum", rq_chain_cast(&c, is_there, RQ_DTYPE_S32),
                              rq_chain_const_ints(&c, (const int64_t[]) { 1 }, 1));
    rq_chain_set_int(&c, "keepdims", 0);
    return rq_chain_end(&c, 3, count);
}

const rq_mil_row rq_mil_rows_pick[] = {
    { "gather", gather, "Gather; GatherND", NULL },
    { "gather_along_axis", gather_along_axis, "GatherElements", NULL },
    { "gather_nd", gather_nd, "GatherND", NULL },
    { "non_maximum_suppression", non_maximum_suppression, "NonMaxSuppression, TopK, GatherND", NULL },
    { "non_zero", non_zero, "NonZero", NULL },
    { "one_hot", one_hot, "OneHot", NULL },
    { "reverse_sequence", reverse_sequence, "ReverseSequence", NULL },
    { "scatter", scatter, "ScatterND", NULL },
    { "scatter_along_axis", scatter_along_axis, "ScatterElements", NULL },
    { "scatter_nd", scatter_nd, "ScatterND", NULL },
    { NULL, NULL, NULL, NULL },
};
