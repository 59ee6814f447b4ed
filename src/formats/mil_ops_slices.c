/* formats/mil_ops_slices.c — rows: parts of tensors, and tensors that are larger or made of nothing. */
#include <string.h>

#include "formats/mil_rows.h"

typedef rq_mil_reader reader;
typedef rq_chain chain;

/* ---- x[begin:end:stride] ---- */

typedef struct cut {
    const char *begins, *ends, *strides; /* [rank] of int64 */
    int64_t squeezed[RQ_MAX_RANK];
    int n_squeezed;
} cut;

static void mask_of(chain *c, const char *param, bool mask[RQ_MAX_RANK], int rank)
{
    int64_t v[16];
    const int n = rq_chain_ints(c, param, v);
    for (int i = 0; i < rank; i++)
        mask[i] = n > i && v[i];
    if (n >= 0 && n != rank)
        rq_chain_fail(c, RQ_BAD_FILE, "'%s' has %d numbers, expected %d", param, n, rank);
}

/* Where mask says so fixed[i], else v[i]; fixed alone where v is not needed. */
static const char *choose(chain *c, const bool *mask, const int64_t *fixed, const char *v, int n)
{
    uint8_t bytes[RQ_MAX_RANK];
    bool any = false;
    const rq_shape shape = rq_shape_of(1, (int64_t[]) { n });
    for (int i = 0; i < n; i++) {
        bytes[i] = mask[i];
        any = any || mask[i];
    }
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_BOOL, &shape, bytes);
    return any ? rq_n3(c, "Where", rq_chain_tensor(c, &t), rq_chain_const_ints(c, fixed, n), v) : v;
}

/* begin, end, stride and the masks, of a tensor with these axes. Sizes of none of them need to be known: INT64_MAX and INT64_MIN
 * mean the end and what is before the beginning. */
static cut cut_of(chain *c, int rank)
{
    bool from_start[RQ_MAX_RANK], to_end[RQ_MAX_RANK], squeeze[RQ_MAX_RANK];
    int64_t b[16], e[16], s[16], first[RQ_MAX_RANK], last[RQ_MAX_RANK];
    cut out = { 0 };
    mask_of(c, "begin_mask", from_start, rank);
    mask_of(c, "end_mask", to_end, rank);
    mask_of(c, "squeeze_mask", squeeze, rank);
    int n = rq_chain_ints(c, "stride", s);
    if (n >= 0 && n != rank)
        rq_chain_fail(c, RQ_BAD_FILE, "'stride' has %d numbers, expected %d", n, rank);
    if (c->st)
        return out;
    for (int i = 0; i < rank; i++) {
        if (n < 0 || squeeze[i])
            s[i] = 1;
        first[i] = s[i] < 0 ? INT64_MAX : 0;
        last[i] = s[i] < 0 ? INT64_MIN : INT64_MAX;
        from_start[i] = from_start[i] && !squeeze[i];
        to_end[i] = to_end[i] && !squeeze[i];
        if (squeeze[i])
            out.squeezed[out.n_squeezed++] = i;
    }
    out.strides = rq_chain_const_ints(c, s, rank);
    const bool fixed = rq_mil_reader_const(c->r, c->op, "begin") && rq_mil_reader_const(c->r, c->op, "end");
    if (fixed) {
        const int n_b = rq_chain_ints(c, "begin", b), n_e = rq_chain_ints(c, "end", e);
        if (!c->st && (n_b != rank || n_e != rank))
            rq_chain_fail(c, RQ_BAD_FILE, "'begin' has %d numbers and 'end' %d, expected %d", n_b, n_e, rank);
        for (int i = 0; i < rank && !c->st; i++) {
            e[i] = to_end[i] ? last[i] : squeeze[i] ? b[i] == -1 ? INT64_MAX : b[i] + 1 : e[i];
            b[i] = from_start[i] ? first[i] : b[i];
        }
        out.begins = rq_chain_const_ints(c, b, rank);
        out.ends = rq_chain_const_ints(c, e, rank);
        return out;
    }
    const char *begin = rq_chain_list(c, "begin"), *end = rq_chain_list(c, "end");
    if (out.n_squeezed) { /* end is begin + 1 there, but for the last element counted from the end */
        const char *one = rq_chain_const_int(c, 1), *minus = rq_chain_const_int(c, -1);
        const char *next = rq_n3(c, "Where", rq_n2(c, "Equal", begin, minus), rq_chain_const_int(c, INT64_MAX),
                                 rq_n2(c, "Add", begin, one));
        uint8_t bytes[RQ_MAX_RANK];
        for (int i = 0; i < rank; i++)
            bytes[i] = squeeze[i];
        const rq_shape shape = rq_shape_of(1, (int64_t[]) { rank });
        const rq_tensor t = rq_tensor_view(RQ_DTYPE_BOOL, &shape, bytes);
        end = rq_n3(c, "Where", rq_chain_tensor(c, &t), next, end);
    }
    out.begins = choose(c, from_start, first, begin, rank);
    out.ends = choose(c, to_end, last, end, rank);
    return out;
}

static const char *slice(chain *c, const char *x, const cut *k, int rank)
{
    int64_t axes[RQ_MAX_RANK];
    for (int i = 0; i < rank; i++)
        axes[i] = i;
    if (!rank)
        return x;
    const char *in[] = { x, k->begins, k->ends, rq_chain_const_ints(c, axes, rank), k->strides };
    return rq_chain_node(c, "Slice", in, 5);
}

static rq_status slice_by_index(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int rank = rq_chain_rank(&c, x);
    const cut k = cut_of(&c, rank);
    const char *y = slice(&c, x, &k, rank);
    if (k.n_squeezed)
        y = rq_n2(&c, "Squeeze", y, rq_chain_const_ints(&c, k.squeezed, k.n_squeezed));
    return rq_chain_end(&c, 0, y);
}

static rq_status slice_by_size(reader *r, const rq_mil_op *op)
{
    int64_t axes[RQ_MAX_RANK];
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *begin = rq_chain_list(&c, "begin"), *size = rq_chain_list(&c, "size");
    const int rank = rq_chain_rank(&c, x);
    for (int i = 0; i < rank; i++)
        axes[i] = i;
    const char *rest = rq_n2(&c, "Equal", size, rq_chain_const_int(&c, -1));
    const char *end = rq_n3(&c, "Where", rest, rq_chain_const_int(&c, INT64_MAX), rq_n2(&c, "Add", begin, size));
    const char *in[] = { x, begin, end, rq_chain_const_ints(&c, axes, rank) };
    return rq_chain_end(&c, 0, rq_chain_node(&c, "Slice", in, 4));
}

/* x with a slice of it replaced: the same slice of the elements' numbers says where the update goes. */
static rq_status slice_update(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *update = rq_chain_in(&c, "update");
    const int rank = rq_chain_rank(&c, x);
    const cut k = cut_of(&c, rank);
    const char *flat = rq_chain_const_ints(&c, (const int64_t[]) { -1 }, 1);
    const char *shape = rq_n1(&c, "Shape", x);
    const char *numbers =
        rq_n3(&c, "Range", rq_chain_const_int(&c, 0), rq_n1(&c, "Size", x), rq_chain_const_int(&c, 1));
    const char *where = slice(&c, rq_n2(&c, "Reshape", numbers, shape), &k, rank);
    where = rq_n2(&c, "Reshape", where, flat);
    update = rq_n2(&c, "Reshape", update, flat);
    const char *y = rq_n3(&c, "ScatterElements", rq_n2(&c, "Reshape", x, flat), where, update);
    rq_chain_set_int(&c, "axis", 0);
    return rq_chain_end(&c, 0, rq_n2(&c, "Reshape", y, shape));
}

static rq_status crop(reader *r, const rq_mil_op *op)
{
    int64_t h[16], w[16];
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int n_h = rq_chain_ints(&c, "crop_height", h), n_w = rq_chain_ints(&c, "crop_width", w);
    if (n_h != 2 || n_w != 2)
        return c.st ? c.st : rq_fail(r->err, RQ_BAD_FILE, "'crop_height' and 'crop_width' are to have 2 numbers each");
    for (int i = 0; i < 2; i++)
        if (h[i] < 0 || w[i] < 0)
            rq_chain_fail(&c, RQ_BAD_FILE, "a crop of a negative number of pixels");
    const int64_t begins[] = { h[0], w[0] }, axes[] = { -2, -1 },
                  ends[] = { h[1] ? -h[1] : INT64_MAX, w[1] ? -w[1] : INT64_MAX };
    const char *in[] = { x, rq_chain_const_ints(&c, begins, 2), rq_chain_const_ints(&c, ends, 2),
                         rq_chain_const_ints(&c, axes, 2) };
    return rq_chain_end(&c, 0, rq_chain_node(&c, "Slice", in, 4));
}

static rq_status reverse(reader *r, const rq_mil_op *op)
{
    int64_t axes[16], begins[16], ends[16], steps[16];
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    int n = rq_chain_ints(&c, "axes", axes);
    const bool all = n < 0;
    if (all)
        n = rq_chain_rank(&c, x);
    for (int i = 0; i < n; i++) {
        axes[i] = all ? i : axes[i];
        begins[i] = INT64_MAX;
        ends[i] = INT64_MIN;
        steps[i] = -1;
    }
    if (!n)
        return rq_chain_end(&c, 0, x);
    const char *in[] = { x, rq_chain_const_ints(&c, begins, n), rq_chain_const_ints(&c, ends, n),
                         rq_chain_const_ints(&c, axes, n), rq_chain_const_ints(&c, steps, n) };
    return rq_chain_end(&c, 0, rq_chain_node(&c, "Slice", in, 5));
}

/* ---- larger ---- */

/* Pairs of the last axes become all begins, then all ends, of all axes. */
static const char *pads_of(chain *c, int rank)
{
    int64_t v[16], pads[2 * RQ_MAX_RANK] = { 0 };
    if (!rq_mil_reader_const(c->r, c->op, "pad")) {
        const char *list =
            rq_n2(c, "Reshape", rq_chain_list(c, "pad"), rq_chain_const_ints(c, (const int64_t[]) { rank, 2 }, 2));
        list = rq_n1(c, "Transpose", list);
        rq_chain_set_ints(c, "perm", (const int64_t[]) { 1, 0 }, 2);
        return rq_n2(c, "Reshape", list, rq_chain_const_ints(c, (const int64_t[]) { -1 }, 1));
    }
    const int n = rq_chain_ints(c, "pad", v);
    if (n < 0 || n % 2 || n > 2 * rank)
        return rq_chain_fail(c, RQ_BAD_FILE, "'pad' has %d numbers, expected at most %d, in pairs", n, 2 * rank);
    for (int i = 0; i < n / 2; i++) {
        pads[rank - n / 2 + i] = v[2 * i];
        pads[2 * rank - n / 2 + i] = v[2 * i + 1];
    }
    return rq_chain_const_ints(c, pads, 2 * rank);
}

static rq_status pad(reader *r, const rq_mil_op *op)
{
    static const char *const modes[][2] = { { "constant", "constant" },
                                            { "reflect", "reflect" },
                                            { "replicate", "edge" } };
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *mode = rq_chain_text(&c, "mode", "constant");
    const float fill = rq_chain_float(&c, "constant_val", 0);
    int k = 0;
    while (k < 3 && strcmp(modes[k][0], mode) != 0)
        k++;
    if (k == 3)
        return rq_fail(r->err, RQ_UNSUPPORTED, "mode '%.60s' is not known", mode);
    const char *pads = pads_of(&c, rq_chain_rank(&c, x));
    const char *y = rq_n3(&c, "Pad", x, pads, k ? NULL : rq_chain_const(&c, rq_chain_dtype(&c, x), (double)fill));
    rq_chain_set_text(&c, "mode", modes[k < 3 ? k : 0][1]);
    return rq_chain_end(&c, 0, y);
}

static rq_status tile(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    return rq_chain_end(&c, 0, rq_n2(&c, "Tile", x, rq_chain_list(&c, "reps")));
}

/* Windows of `size` elements, `stride` apart, on a new axis behind the one they slide along. */
static rq_status sliding_windows(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int axis = rq_chain_axis(&c, rq_chain_int(&c, "axis", 0), rq_chain_rank(&c, x));
    const int64_t size = rq_chain_int(&c, "size", 0), stride = rq_chain_int(&c, "stride", 1),
                  d = rq_chain_size(&c, x, axis);
    if (size < 1 || stride < 1 || d < size || (d - size) / stride + 1 > (1 << 24) / size)
        return c.st ? c.st
                    : rq_fail(r->err, RQ_BAD_FILE, "windows of %lld elements, %lld apart, on an axis of %lld",
                              (long long)size, (long long)stride, (long long)d);
    const rq_shape shape = rq_shape_of(2, (int64_t[]) { (d - size) / stride + 1, size });
    rq_tensor t;
    if (rq_tensor_create(&t, RQ_DTYPE_S64, &shape, false))
        return rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
    for (int64_t i = 0; i < rq_shape_count(&shape); i++)
        t.s64[i] = i / size * stride + i % size;
    const char *where = rq_chain_tensor(&c, &t);
    rq_tensor_release(&t);
    const char *y = rq_n2(&c, "Gather", x, where);
    rq_chain_set_int(&c, "axis", axis);
    return rq_chain_end(&c, 0, y);
}

/* ---- made of nothing ---- */

/* A tensor of this shape, all of one number. */
static const char *filled(chain *c, const char *shape)
{
    const rq_dtype d = rq_chain_declared(c, 0);
    const char *value = rq_mil_reader_has(c->op, "value") ? rq_chain_in(c, "value") : rq_chain_const(c, d, 0);
    return rq_n2(c, "Expand", rq_chain_cast(c, value, d), shape);
}

static rq_status fill(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    return rq_chain_end(&c, 0, filled(&c, rq_chain_list(&c, "shape")));
}

static rq_status fill_like(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    return rq_chain_end(&c, 0, filled(&c, rq_n1(&c, "Shape", rq_chain_in(&c, "ref_tensor"))));
}

static rq_status range_1d(reader *r, const rq_mil_op *op)
{
    static const char *const names[] = { "start", "end", "step" };
    const char *in[3];
    chain c = rq_chain_begin(r, op);
    const rq_dtype d = rq_chain_declared(&c, 0), own = d == RQ_DTYPE_F16 ? RQ_DTYPE_F32 : d;
    for (int i = 0; i < 3; i++) {
        in[i] = rq_chain_cast(&c, rq_chain_in(&c, names[i]), own);
        if (!c.st && rq_chain_rank(&c, in[i]) > 0) /* a scalar of the function has the shape [1] */
            in[i] = rq_n1(&c, "Squeeze", in[i]);
    }
    return rq_chain_end(&c, 0, rq_chain_cast(&c, rq_n3(&c, "Range", in[0], in[1], in[2]), d));
}

/* Elements at most `lower` below the diagonal and `upper` above it; negative: all. */
static rq_status band_part(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int64_t below = rq_chain_int(&c, "lower", -1), above = rq_chain_int(&c, "upper", -1);
    if (below >= 0) {
        x = rq_n2(&c, "Trilu", x, rq_chain_const_int(&c, -below));
        rq_chain_set_int(&c, "upper", 1);
    }
    if (above >= 0) {
        x = rq_n2(&c, "Trilu", x, rq_chain_const_int(&c, above));
        rq_chain_set_int(&c, "upper", 0);
    }
    return rq_chain_end(&c, 0, x);
}

const rq_mil_row rq_mil_rows_slices[] = {
    { "band_part", band_part, "Trilu", NULL },
    { "crop", crop, "Slice", NULL },
    { "fill", fill, "Expand", NULL },
    { "fill_like", fill_like, "Shape, Expand", NULL },
    { "pad", pad, "Pad", NULL },
    { "range_1d", range_1d, "Range", NULL },
    { "reverse", reverse, "Slice", NULL },
    { "slice_by_index", slice_by_index, "Slice, Squeeze", NULL },
    { "slice_by_size", slice_by_size, "Slice", NULL },
    { "slice_update", slice_update, "Range, Slice, ScatterElements", NULL },
    { "sliding_windows", sliding_windows, "Gather", NULL },
    { "tile", tile, "Tile", NULL },
    { NULL, NULL, NULL, NULL },
};
