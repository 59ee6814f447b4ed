/* formats/mil_emit_shapes.c — rows of operators that arrange elements: reshapes, repeats, blocks, triangles (joins, slices and
 * pads: mil_emit_slices.c). Sizes that are known are written
 * as constants; those that are not are computed by the program, from `shape` on. */
#include "formats/mil_expr.h"

#include <string.h>

#include "ops/op.h"

typedef rq_mil_expr_val val;

static int open_sizes(const rq_shape *s)
{
    int n = 0;
    for (int i = 0; i < s->rank; i++)
        n += s->dim[i] < 0;
    return n;
}

/* ---- another shape ---- */

/* Each size of the wanted shape: a constant, or a slice of the sizes of x where it says 0. */
static val wanted_sizes(rq_mil_expr *x, val a, const int64_t *want, int n)
{
    val part[RQ_MAX_RANK];
    const rq_shape all = rq_shape_of(1, (int64_t[]) { a.shape.rank });
    const val sizes = EXPR_OP(x, "shape", RQ_DTYPE_S32, &all, EXPR_V("x", &a));
    for (int i = 0; i < n; i++) {
        rq_tensor *t;
        const rq_shape one = rq_shape_of(1, (int64_t[]) { 1 });
        if (!want[i]) {
            part[i] = rq_mil_expr_slice(x, sizes, 0, i, i + 1);
            continue;
        }
        part[i] = rq_mil_expr_new(x, RQ_DTYPE_S64, &one, &t);
        if (t)
            t->s64[0] = want[i];
    }
    return rq_mil_expr_concat(x, part, n, 0);
}

static val reshape_by(rq_mil_expr *x, val a, val sizes, const rq_shape *out)
{
    return EXPR_OP(x, "reshape", a.d, out, EXPR_V("x", &a), EXPR_V("shape", &sizes));
}

static rq_status reshape(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_movable(&x, rq_mil_expr_in(&x, 0));
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    int64_t want[RQ_MAX_RANK];
    int count = -1;
    if (x.st || rq_mil_expr_is_empty(&x, &out))
        return x.st;
    if (out.rank >= 0 && open_sizes(&out) < 2) {
        rq_mil_expr_reshape(rq_mil_expr_last(&x), a, &out);
        return x.st;
    }
    if (rq_mil_expr_has(&x, 1)) {
        count = rq_mil_emit_known(e, n->in[1], want, NULL, RQ_MAX_RANK);
        if (count < 0) {
            const val sizes = rq_mil_expr_in(&x, 1);
            reshape_by(rq_mil_expr_last(&x), a, sizes, &out);
            return x.st;
        }
    } else {
        rq_mil_expr_ints(&x, 1, "shape", want, &count);
    }
    const val sizes = wanted_sizes(&x, a, want, count);
    reshape_by(rq_mil_expr_last(&x), a, sizes, &out);
    return x.st;
}

/* Two axes: those before `axis`, and the rest. */
static rq_status flatten(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_movable(&x, rq_mil_expr_in(&x, 0));
    rq_shape out = rq_mil_expr_out_shape(&x, 0);
    if (x.st)
        return x.st;
    if (open_sizes(&out) < 2) {
        rq_mil_expr_reshape(rq_mil_expr_last(&x), a, &out);
        return x.st;
    }
    EXPR_OP(rq_mil_expr_last(&x), "flatten2d", a.d, &out, EXPR_V("x", &a),
            EXPR_I("axis", rq_attr_int(n, RQ_WORD_axis, 1)));
    return x.st;
}

static rq_status squeeze(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_movable(&x, rq_mil_expr_in(&x, 0));
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    int64_t axes[RQ_MAX_RANK];
    int count;
    rq_mil_expr_axes(&x, 1, "axes", a.shape.rank, axes, &count);
    if (x.st)
        return x.st;
    if (count < 0)
        for (int i = count = 0; i < a.shape.rank; i++)
            if (a.shape.dim[i] == 1)
                axes[count++] = i;
    if (count)
        EXPR_OP(rq_mil_expr_last(&x), "squeeze", a.d, &out, EXPR_V("x", &a), EXPR_IS("axes", axes, count));
    else
        rq_mil_expr_give(&x, a);
    return x.st;
}

static rq_status unsqueeze(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_movable(&x, rq_mil_expr_in(&x, 0));
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    int64_t axes[RQ_MAX_RANK];
    int count;
    rq_mil_expr_axes(&x, 1, "axes", out.rank, axes, &count);
    if (!x.st && count > 0)
        EXPR_OP(rq_mil_expr_last(&x), "expand_dims", a.d, &out, EXPR_V("x", &a), EXPR_IS("axes", axes, count));
    else if (!x.st)
        rq_mil_expr_give(&x, a);
    return x.st;
}

static rq_status transpose(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_movable(&x, rq_mil_expr_in(&x, 0));
    const int rank = a.shape.rank;
    int count;
    const int64_t *given = rq_attr_ints(n, RQ_WORD_perm, &count);
    int64_t perm[RQ_MAX_RANK];
    if (x.st || (given && count != rank))
        return rq_mil_expr_refuse(&x, 0, "a permutation of another number of axes");
    for (int i = 0; i < rank; i++) {
        perm[i] = given ? rq_infer_axis(given[i], rank) : rank - 1 - i;
        if (perm[i] < 0)
            return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    }
    if (rank < 2)
        rq_mil_expr_give(&x, a);
    else
        rq_mil_expr_transpose(rq_mil_expr_last(&x), a, perm);
    return x.st;
}

/* ---- repeating ---- */

static rq_status tile(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const val in = a.d == RQ_DTYPE_S8 || a.d == RQ_DTYPE_U8 ? rq_mil_expr_plain(&x, a) : a;
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    int64_t reps[RQ_MAX_RANK];
    const int count = x.st ? -1 : rq_mil_emit_known(e, rq_node_in(n, 1), reps, NULL, RQ_MAX_RANK);
    if (x.st || rq_mil_expr_is_empty(&x, &out))
        return x.st;
    const val list = rq_mil_expr_in(&x, 1);
    if (count >= 0)
        EXPR_OP(rq_mil_expr_last(&x), "tile", in.d, &out, EXPR_V("x", &in), EXPR_IS("reps", reps, count));
    else
        EXPR_OP(rq_mil_expr_last(&x), "tile", in.d, &out, EXPR_V("x", &in), EXPR_V("reps", &list));
    return x.st;
}

static rq_status expand(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    val a = rq_mil_expr_in(&x, 0);
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    const int lead = out.rank - a.shape.rank;
    int64_t reps[RQ_MAX_RANK], ones[RQ_MAX_RANK];
    bool known = out.rank >= 0 && lead >= 0, same = true;
    if (x.st || rq_mil_expr_is_empty(&x, &out))
        return x.st;
    for (int i = 0; i < out.rank && known; i++) {
        const int64_t from = i < lead ? 1 : a.shape.dim[i - lead], to = out.dim[i];
        reps[i] = from == 1 && to >= 0 ? to : 1;
        known &= from == 1 ? to >= 0 : from >= 0 || from == to;
        same &= reps[i] == 1;
        ones[i] = i;
    }
    if (!known) { /* by the sizes that the program computes */
        const val sizes = rq_mil_expr_in(&x, 1), in = rq_mil_expr_plain(&x, a);
        rq_shape filled = rq_shape_of(0, NULL);
        filled.rank = sizes.shape.rank == 1 && sizes.shape.dim[0] >= 0 && sizes.shape.dim[0] <= RQ_MAX_RANK
                          ? (int)sizes.shape.dim[0]
                          : out.rank;
        for (int i = 0; i < filled.rank; i++)
            filled.dim[i] = RQ_DIM_UNKNOWN;
        const val one = rq_mil_expr_num(1, in.d);
        const val all = EXPR_OP(&x, "fill", in.d, &filled, EXPR_V("shape", &sizes), EXPR_V("value", &one));
        rq_mil_expr_bin(rq_mil_expr_last(&x), "mul", in, all);
        return x.st;
    }
    if (a.d == RQ_DTYPE_S8 || a.d == RQ_DTYPE_U8)
        a = rq_mil_expr_plain(&x, a);
    if (lead) {
        rq_shape with = a.shape;
        memmove(with.dim + lead, with.dim, (size_t)a.shape.rank * sizeof *with.dim);
        with.rank += lead;
        for (int i = 0; i < lead; i++)
            with.dim[i] = 1;
        a = a.shape.rank ? EXPR_OP(same ? rq_mil_expr_last(&x) : &x, "expand_dims", a.d, &with, EXPR_V("x", &a),
                                   EXPR_IS("axes", ones, lead))
                         : rq_mil_expr_reshape(same ? rq_mil_expr_last(&x) : &x, a, &with);
    } else if (same) {
        rq_mil_expr_give(&x, a);
    }
    if (!same)
        EXPR_OP(rq_mil_expr_last(&x), "tile", a.d, &out, EXPR_V("x", &a), EXPR_IS("reps", reps, out.rank));
    return x.st;
}

/* ---- shapes as numbers ---- */

static rq_status shape(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const int rank = a.shape.rank;
    int64_t start = rq_attr_int(n, RQ_WORD_start, 0), end = rq_attr_int(n, RQ_WORD_end, rank);
    start += start < 0 ? rank : 0;
    end += end < 0 ? rank : 0;
    start = start < 0 ? 0 : start > rank ? rank : start;
    end = end < start ? start : end > rank ? rank : end;
    const rq_shape all = rq_shape_of(1, (int64_t[]) { rank });
    const bool whole = start == 0 && end == rank;
    if (start == end)
        return rq_mil_expr_refuse(&x, 0, "an empty tensor");
    const val sizes = EXPR_OP(whole ? rq_mil_expr_last(&x) : &x, "shape", RQ_DTYPE_S32, &all, EXPR_V("x", &a));
    if (!whole)
        rq_mil_expr_slice(rq_mil_expr_last(&x), sizes, 0, start, end);
    return x.st;
}

static rq_status size(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const rq_shape all = rq_shape_of(1, (int64_t[]) { a.shape.rank });
    const val sizes = EXPR_OP(&x, "shape", RQ_DTYPE_S32, &all, EXPR_V("x", &a));
    rq_mil_expr_reduce(rq_mil_expr_last(&x), "reduce_prod", sizes, (const int64_t[]) { 0 }, 1, false);
    return x.st;
}

static rq_status constant_of_shape(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val sizes = rq_mil_expr_in(&x, 0);
    const rq_tensor *t = rq_attr_tensor(n, RQ_WORD_value);
    const rq_dtype d = t ? t->dtype : RQ_DTYPE_F32;
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    const val v =
        rq_mil_expr_num(t && rq_tensor_count(t) > 0 ? rq_tensor_get(t, 0) : 0, rq_dtype_is_float(d) ? RQ_DTYPE_F32
                                                                               : d == RQ_DTYPE_BOOL ? d
                                                                                                    : RQ_DTYPE_S32);
    if (!rq_mil_expr_is_empty(&x, &out))
        EXPR_OP(rq_mil_expr_last(&x), "fill", v.d, &out, EXPR_V("shape", &sizes), EXPR_V("value", &v));
    return x.st;
}

static rq_status range(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val start = rq_mil_expr_in(&x, 0), end = rq_mil_expr_in(&x, 1), step = rq_mil_expr_in(&x, 2);
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    if (!rq_mil_expr_is_empty(&x, &out))
        EXPR_OP(rq_mil_expr_last(&x), "range_1d", start.d, &out, EXPR_V("end", &end), EXPR_V("start", &start),
                EXPR_V("step", &step));
    return x.st;
}

/* ---- blocks and triangles ---- */

static rq_status blocks(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_float(&x, rq_mil_expr_in(&x, 0));
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    const bool to_depth = !strcmp(n->op, "SpaceToDepth"), crd = !strcmp(rq_attr_string(n, RQ_WORD_mode, "DCR"), "CRD");
    const int64_t block = rq_attr_int(n, RQ_WORD_blocksize, 1), depth = out.rank == 4 ? out.dim[1] : -1;
    if (to_depth && crd) { /* channels before the places in a block: those of DCR in another order */
        rq_tensor *t;
        const rq_shape list = rq_shape_of(1, &depth);
        if (depth < 0)
            return rq_mil_expr_refuse(&x, 0, "a number of channels that is known only when it runs");
        const val at = rq_mil_expr_new(&x, RQ_DTYPE_S64, &list, &t),
                  dcr = EXPR_OP(&x, "space_to_depth", a.d, &out, EXPR_V("x", &a), EXPR_I("block_size", block));
        for (int64_t i = 0; t && i < depth; i++)
            t->s64[i] = i % (block * block) * (depth / (block * block)) + i / (block * block);
        rq_mil_expr_gather(rq_mil_expr_last(&x), dcr, at, 1, &out);
        return x.st;
    }
    EXPR_OP(rq_mil_expr_last(&x),
            to_depth ? "space_to_depth"
            : crd    ? "pixel_shuffle"
                     : "depth_to_space",
            a.d, &out, EXPR_V("x", &a), EXPR_I(crd && !to_depth ? "upscale_factor" : "block_size", block));
    return x.st;
}

/* The triangle on and above diagonal k, or on and below it. */
static rq_status trilu(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0));
    const bool upper = rq_attr_int(n, RQ_WORD_upper, 1) != 0;
    const int64_t k = rq_mil_expr_whole(&x, 1, 0);
    const int rank = a.shape.rank;
    if (x.st)
        return x.st;
    if (upper ? k <= 0 : k >= 0) {
        EXPR_OP(rq_mil_expr_last(&x), "band_part", a.d, &a.shape, EXPR_V("x", &a), EXPR_I("lower", upper ? -k : -1),
                EXPR_I("upper", upper ? -1 : k));
        return x.st;
    }
    rq_shape matrix = rq_shape_of(2, a.shape.dim + rank - 2);
    rq_tensor *t;
    if (!rq_mil_expr_static(&x, &matrix))
        return x.st;
    const val mask = rq_mil_expr_new(&x, RQ_DTYPE_BOOL, &matrix, &t);
    for (int64_t i = 0; t && i < matrix.dim[0] * matrix.dim[1]; i++) {
        const int64_t off = i % matrix.dim[1] - i / matrix.dim[1];
        t->u8[i] = upper ? off >= k : off <= k;
    }
    rq_mil_expr_select(rq_mil_expr_last(&x), mask, a, rq_mil_expr_num(0, a.d));
    return x.st;
}

static rq_status reverse_sequence(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_movable(&x, rq_mil_expr_in(&x, 0)), lengths = rq_mil_expr_in(&x, 1);
    EXPR_OP(rq_mil_expr_last(&x), "reverse_sequence", a.d, &a.shape, EXPR_V("x", &a), EXPR_V("lengths", &lengths),
            EXPR_I("seq_axis", rq_attr_int(n, RQ_WORD_time_axis, 0)),
            EXPR_I("batch_axis", rq_attr_int(n, RQ_WORD_batch_axis, 1)));
    return x.st;
}

const rq_mil_emit_row rq_mil_emit_shapes[] = {
    { .op = "ConstantOfShape", .emit = constant_of_shape },
    { .op = "DepthToSpace", .emit = blocks },
    { .op = "Expand", .emit = expand },
    { .op = "Flatten", .emit = flatten },
    { .op = "Range", .emit = range },
    { .op = "Reshape", .emit = reshape },
    { .op = "ReverseSequence", .emit = reverse_sequence },
    { .op = "Shape", .emit = shape },
    { .op = "Size", .emit = size },
    { .op = "SpaceToDepth", .emit = blocks },
    { .op = "Squeeze", .emit = squeeze },
    { .op = "Tile", .emit = tile },
    { .op = "Transpose", .emit = transpose },
    { .op = "Trilu", .emit = trilu },
    { .op = "Unsqueeze", .emit = unsqueeze },
    { .op = "Trilu", .domain = "com.microsoft", .emit = trilu },
    { .op = NULL },
};
