/* formats/mil_emit_gather.c — rows of operators that pick or put elements at indices. ONNX counts negative ones from the end, Core ML does
 * not from iOS 17 on: constants are made positive here, others by the program. */
#include "formats/mil_expr.h"

#include <string.h>

#include "ops/op.h"

typedef rq_mil_expr_val val;

/* Input i, indices along an axis of this size (< 0: a's axis, by its shape), none of them negative. */
static val positive(rq_mil_expr *x, int i, val a, int axis)
{
    const rq_tensor *t = rq_mil_expr_const(x, i);
    const int64_t size = a.shape.rank ? a.shape.dim[axis] : 1;
    val at = rq_mil_expr_in(x, i);
    bool any = false;
    for (int64_t k = 0, n = t ? rq_tensor_count(t) : 0; k < n && !any; k++)
        any = rq_tensor_get_int(t, k) < 0;
    at = rq_mil_expr_cast(x, at, RQ_DTYPE_S32);
    if (x->st || (t && !any) || (!t && x->e->target < RQ_COREML_IOS17))
        return at;
    if (t && size >= 0) {
        rq_tensor *own;
        at = rq_mil_expr_new(x, RQ_DTYPE_S64, &t->shape, &own);
        for (int64_t k = 0, n = own ? rq_tensor_count(t) : 0; k < n; k++) {
            const int64_t v = rq_tensor_get_int(t, k);
            own->s64[k] = v < 0 ? v + size : v;
        }
        return at;
    }
    val whole = rq_mil_expr_num((double)size, RQ_DTYPE_S32);
    if (size < 0) {
        const rq_shape all = rq_shape_of(1, (int64_t[]) { a.shape.rank });
        whole = rq_mil_expr_slice(x, EXPR_OP(x, "shape", RQ_DTYPE_S32, &all, EXPR_V("x", &a)), 0, axis, axis + 1);
    }
    const val is = rq_mil_expr_bin(x, "greater_equal", at, rq_mil_expr_num(0, RQ_DTYPE_S32)),
              more = rq_mil_expr_bin(x, "add", at, whole);
    return rq_mil_expr_select(x, is, at, more);
}

static rq_status gather(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const int axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, 0), a.shape.rank);
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    if (x.st || axis < 0)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    const val at = positive(&x, 1, a, axis);
    rq_mil_expr_gather(rq_mil_expr_last(&x), a, at, axis, &out);
    return x.st;
}

/* What the operators of Core ML take as elements: 8-bit codes from iOS 17 on, never bools. */
static val elements(rq_mil_expr *x, val a)
{
    const bool code = a.d == RQ_DTYPE_S8 || a.d == RQ_DTYPE_U8;
    return a.d == RQ_DTYPE_BOOL || (code && x->e->target < RQ_COREML_IOS17) ? rq_mil_expr_plain(x, a) : a;
}

static rq_status gather_elements(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    val a = elements(&x, rq_mil_expr_in(&x, 0));
    const int axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, 0), a.shape.rank);
    if (x.st || axis < 0)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    const val at = positive(&x, 1, a, axis);
    for (int i = 0; i < a.shape.rank && !x.st; i++) /* Core ML wants equal sizes; ONNX reads the first ones */
        if (i != axis && at.shape.dim[i] != a.shape.dim[i]) {
            if (at.shape.dim[i] < 0 || a.shape.dim[i] < 0)
                return rq_mil_expr_refuse(&x, 0, "indices of another size that is known only when it runs");
            a = rq_mil_expr_slice(&x, a, i, 0, at.shape.dim[i]);
        }
    const bool later = e->target >= RQ_COREML_IOS17;
    EXPR_OP(rq_mil_expr_last(&x), "gather_along_axis", a.d, &at.shape, EXPR_V("x", &a), EXPR_V("indices", &at),
            EXPR_I("axis", axis), EXPR_WHEN(later, EXPR_B("validate_indices", false)));
    return x.st;
}

/* Indices [.., depth] into the axes of a from `from` on, none of them negative. */
static val positive_nd(rq_mil_expr *x, int i, val a, int from)
{
    const rq_tensor *t = rq_mil_expr_const(x, i);
    val at = rq_mil_expr_cast(x, rq_mil_expr_in(x, i), RQ_DTYPE_S32);
    const int64_t depth = at.shape.rank ? at.shape.dim[at.shape.rank - 1] : -1;
    bool any = false;
    for (int64_t k = 0, n = t ? rq_tensor_count(t) : 0; k < n && !any; k++)
        any = rq_tensor_get_int(t, k) < 0;
    if (x->st || (t && !any) || (!t && x->e->target < RQ_COREML_IOS17))
        return at;
    rq_shape s = a.shape;
    if (depth < 1 || depth > s.rank - from) {
        rq_mil_expr_refuse(x, 0, "indices of this depth");
        return at;
    }
    const rq_shape list = rq_shape_of(1, &depth);
    rq_tensor *own;
    const val sizes = rq_mil_expr_new(x, RQ_DTYPE_S64, &list, &own);
    for (int64_t k = 0; own && k < depth; k++) {
        if (s.dim[from + k] < 0) {
            rq_mil_expr_refuse(x, 0, "indices into sizes that are known only when it runs");
            return at;
        }
        own->s64[k] = s.dim[from + k];
    }
    const val is = rq_mil_expr_bin(x, "greater_equal", at, rq_mil_expr_num(0, RQ_DTYPE_S32)),
              more = rq_mil_expr_bin(x, "add", at, sizes);
    return rq_mil_expr_select(x, is, at, more);
}

static rq_status gather_nd(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = elements(&x, rq_mil_expr_in(&x, 0));
    const int64_t batch = rq_attr_int(n, RQ_WORD_batch_dims, 0);
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    if (batch && e->target < RQ_COREML_IOS16)
        return rq_mil_expr_refuse(&x, RQ_COREML_IOS16, "batch_dims");
    const val at = positive_nd(&x, 1, a, (int)batch);
    EXPR_OP(rq_mil_expr_last(&x), "gather_nd", a.d, &out, EXPR_V("x", &a), EXPR_V("indices", &at),
            EXPR_WHEN(e->target >= RQ_COREML_IOS16, EXPR_I("batch_dims", batch)),
            EXPR_WHEN(e->target >= RQ_COREML_IOS17, EXPR_B("validate_indices", false)));
    return x.st;
}

static const char *mode_of(rq_mil_expr *x)
{
    static const char *const modes[][2] = {
        { "none", "update" }, { "add", "add" }, { "mul", "mul" }, { "max", "max" }, { "min", "min" }
    };
    const char *mode = rq_attr_string(x->n, RQ_WORD_reduction, "none");
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (!strcmp(modes[i][0], mode))
            return modes[i][1];
    rq_mil_expr_refuse(x, 0, "a reduction of this kind");
    return "update";
}

static rq_status scatter_elements(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0)), updates = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 2));
    const int axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, 0), a.shape.rank);
    if (x.st || axis < 0)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    const val at = positive(&x, 1, a, axis);
    for (int i = 0; i < a.shape.rank; i++)
        if (i != axis && at.shape.dim[i] != a.shape.dim[i])
            return rq_mil_expr_refuse(&x, 0, "indices of other sizes than the data beside the axis");
    EXPR_OP(rq_mil_expr_last(&x), "scatter_along_axis", a.d, &a.shape, EXPR_V("data", &a), EXPR_V("indices", &at),
            EXPR_V("updates", &updates), EXPR_I("axis", axis), EXPR_T("mode", mode_of(&x)),
            EXPR_WHEN(e->target >= RQ_COREML_IOS17, EXPR_B("validate_indices", false)));
    return x.st;
}

static rq_status scatter_nd(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 0)), updates = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 2));
    const val at = positive_nd(&x, 1, a, 0);
    EXPR_OP(rq_mil_expr_last(&x), "scatter_nd", a.d, &a.shape, EXPR_V("data", &a), EXPR_V("indices", &at),
            EXPR_V("updates", &updates), EXPR_T("mode", mode_of(&x)),
            EXPR_WHEN(e->target >= RQ_COREML_IOS17, EXPR_B("validate_indices", false)));
    return x.st;
}

/* on where the index is, off elsewhere; indices outside [-depth, depth) are nowhere. */
static rq_status one_hot(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const rq_tensor *values = rq_mil_expr_const(&x, 2);
    const int64_t depth = rq_mil_expr_whole(&x, 1, 1);
    val at = rq_mil_expr_in(&x, 0);
    const int axis = rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, -1), at.shape.rank + 1);
    if (x.st || axis < 0 || depth < 1 || at.shape.rank >= RQ_MAX_RANK)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    at = rq_mil_expr_cast(&x, at, RQ_DTYPE_S32);
    const val is = rq_mil_expr_bin(&x, "less", at, rq_mil_expr_num(0, RQ_DTYPE_S32));
    at = rq_mil_expr_select(&x, is, rq_mil_expr_bin(&x, "add", at, rq_mil_expr_num((double)depth, RQ_DTYPE_S32)), at);
    /* compared with the numbers 0 .. depth - 1 along the axis: what is out of range meets none */
    rq_shape wide = at.shape, along = rq_shape_of(0, NULL);
    for (int i = wide.rank; i > axis; i--)
        wide.dim[i] = wide.dim[i - 1];
    wide.rank++;
    wide.dim[axis] = 1;
    along.rank = wide.rank;
    for (int i = 0; i < along.rank; i++)
        along.dim[i] = i == axis ? depth : 1;
    rq_tensor *t;
    const val numbers = rq_mil_expr_new(&x, RQ_DTYPE_S64, &along, &t);
    for (int64_t i = 0; t && i < depth; i++)
        t->s64[i] = i;
    const val spread =
        EXPR_OP(&x, "expand_dims", at.d, &wide, EXPR_V("x", &at), EXPR_IS("axes", &(int64_t) { axis }, 1));
    const val equal = rq_mil_expr_bin(&x, "equal", spread, numbers);
    val on, off;
    if (values && rq_tensor_count(values) == 2) {
        const rq_dtype d = rq_dtype_is_float(values->dtype) ? RQ_DTYPE_F32
                           : values->dtype == RQ_DTYPE_BOOL ? RQ_DTYPE_BOOL
                                                            : RQ_DTYPE_S32;
        on = rq_mil_expr_num(rq_tensor_get(values, 1), d);
        off = rq_mil_expr_num(rq_tensor_get(values, 0), d);
    } else {
        const val both = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, 2));
        off = rq_mil_expr_slice(&x, both, 0, 0, 1);
        on = rq_mil_expr_slice(&x, both, 0, 1, 2);
    }
    rq_mil_expr_select(rq_mil_expr_last(&x), equal, on, off);
    return x.st;
}

/* Core ML gives one row per element, ONNX one column. */
static rq_status non_zero(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0);
    const rq_shape rows = rq_shape_of(2, (int64_t[]) { RQ_DIM_UNKNOWN, a.shape.rank });
    const val at = EXPR_OP(&x, "non_zero", RQ_DTYPE_S32, &rows, EXPR_V("x", &a));
    rq_mil_expr_transpose(rq_mil_expr_last(&x), at, (const int64_t[]) { 1, 0 });
    return x.st;
}

/* Compress by a condition that is a constant: a gather. */
static rq_status compress(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    val a = rq_mil_expr_in(&x, 0);
    const rq_tensor *t = rq_mil_expr_const(&x, 1);
    const bool flat = !rq_attr_find(n, RQ_WORD_axis);
    const int axis = flat ? 0 : rq_infer_axis(rq_attr_int(n, RQ_WORD_axis, 0), a.shape.rank);
    int64_t count = 0;
    if (!t)
        return rq_mil_expr_refuse(&x, 0, "a condition that is computed");
    if (x.st || axis < 0)
        return rq_mil_expr_refuse(&x, 0, "an axis that is not there");
    if (flat) {
        if (!rq_mil_expr_static(&x, &a.shape))
            return x.st;
        a = rq_mil_expr_reshape_dims(&x, a, 1, (int64_t[]) { rq_shape_count(&a.shape) });
    }
    for (int64_t i = 0; i < rq_tensor_count(t); i++)
        count += rq_tensor_get(t, i) != 0;
    if (!count)
        return rq_mil_expr_refuse(&x, 0, "an empty tensor");
    const rq_shape list = rq_shape_of(1, &count);
    rq_shape out = a.shape;
    rq_tensor *own;
    const val at = rq_mil_expr_new(&x, RQ_DTYPE_S64, &list, &own);
    for (int64_t i = 0, k = 0; own && i < rq_tensor_count(t); i++)
        if (rq_tensor_get(t, i) != 0)
            own->s64[k++] = i;
    if (x.st)
        return x.st;
    out.dim[axis] = count;
    rq_mil_expr_gather(rq_mil_expr_last(&x), a, at, axis, &out);
    return x.st;
}

const rq_mil_emit_row rq_mil_emit_gather[] = {
    { .op = "Compress", .emit = compress },
    { .op = "Gather", .emit = gather },
    { .op = "GatherElements", .emit = gather_elements },
    { .op = "GatherND", .emit = gather_nd },
    { .op = "NonZero", .emit = non_zero },
    { .op = "OneHot", .emit = one_hot },
    { .op = "Scatter", .emit = scatter_elements },
    { .op = "ScatterElements", .emit = scatter_elements },
    { .op = "ScatterND", .emit = scatter_nd },
    { .op = NULL },
};
