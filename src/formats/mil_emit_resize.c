/* formats/mil_emit_resize.c — rows of operators that resample pictures. Core ML's own are taken where they mean the same; every other
 * Resize is a gather (nearest) or a product with a constant matrix (linear, cubic) along each axis that changes, exactly what ONNX says. */
#include "formats/mil_expr.h"

#include <math.h>
#include <string.h>

#include "ops/resize.h"

typedef rq_mil_expr_val val;

typedef struct resize_job {
    rq_resize_options o;
    rq_resize_axis p[RQ_MAX_RANK];
    int rank;
    bool moves[RQ_MAX_RANK]; /* axes that are resampled */
} resize_job;

static bool open_job(rq_mil_expr *x, resize_job *j, const rq_shape *s)
{
    const rq_tensor in0 = rq_tensor_view(RQ_DTYPE_F32, s, NULL);
    const rq_tensor *in[4] = { &in0 };
    for (int i = 1; i < x->n->n_in && i < 4; i++) {
        in[i] = rq_mil_expr_const(x, i);
        if (rq_mil_expr_has(x, i) && !in[i])
            return !rq_mil_expr_refuse(x, 0, "scales or sizes that are computed");
    }
    const rq_op_args a = { .graph = x->e->g,
                           .node = x->n,
                           .opset = rq_mil_expr_opset(x),
                           .in = in,
                           .n_in = x->n->n_in < 4 ? x->n->n_in : 4,
                           .err = x->e->err };
    memset(j->p, 0, sizeof j->p);
    j->rank = s->rank;
    x->st = rq_resize_plan(&a, &j->o, j->p);
    if (x->st)
        return false;
    const bool crop = j->o.coords == RQ_RESIZE_TF_CROP_AND_RESIZE;
    bool same = true;
    for (int i = 0; i < j->rank; i++)
        same &= j->p[i].in == j->p[i].out;
    for (int i = 0; i < j->rank; i++) {
        const rq_resize_axis *p = &j->p[i];
        j->moves[i] =
            crop ? p->roi0 != 0 || p->roi1 != 1 || p->in != p->out : !same && (p->in != p->out || p->scale != 1);
        for (int64_t k = 0; crop && j->moves[i] && k < p->out; k++)
            if (rq_resize_is_outside(rq_resize_coordinate(p, k, j->o.coords), p))
                return !rq_mil_expr_refuse(x, 0, "extrapolation");
    }
    return true;
}

/* Only the last two axes of a picture [n, c, h, w]? */
static bool is_picture(const resize_job *j)
{
    return j->rank == 4 && !j->moves[0] && !j->moves[1];
}

/* Does nearest repeat each element `scale` times? Tried on an axis of 9, as the rule depends on the size nowhere else. */
static bool repeats(const resize_job *j, int axis)
{
    rq_resize_axis p = j->p[axis];
    const int64_t scale = (int64_t)p.scale;
    if (!j->moves[axis])
        return true;
    if (p.scale != (float)scale || scale < 1 || scale > 1024 || j->o.coords == RQ_RESIZE_TF_CROP_AND_RESIZE)
        return false;
    if (p.in < 0) {
        p.in = 9;
        p.out = 9 * scale;
    }
    bool all = true;
    for (int64_t i = 0; all && i < p.out; i++)
        all = rq_resize_nearest(rq_resize_coordinate(&p, i, j->o.coords), &p, j->o.rounding) == i / scale;
    return all;
}

static val upsample(rq_mil_expr *x, const char *type, val a, const resize_job *j, const rq_shape *out,
                    const bool *align)
{
    return EXPR_OP(x, type, a.d, out, EXPR_V("x", &a),
                   EXPR_I("scale_factor_height", j->moves[2] ? (int64_t)j->p[2].scale : 1),
                   EXPR_I("scale_factor_width", j->moves[3] ? (int64_t)j->p[3].scale : 1),
                   EXPR_WHEN(align, EXPR_B("align_corners", *align)),
                   EXPR_WHEN(align && x->e->target >= RQ_COREML_IOS16, EXPR_B("half_pixel_centers", !*align)));
}

/* Does Core ML's bilinear grid, whose scale is that of the sizes, mean the same? */
static bool is_native_linear(const resize_job *j, bool *align)
{
    bool ok = j->o.method == RQ_RESIZE_LINEAR && !j->o.antialias && !j->o.exclude_outside && is_picture(j);
    *align = j->o.coords == RQ_RESIZE_ALIGN_CORNERS;
    const bool half = j->o.coords == RQ_RESIZE_HALF_PIXEL || j->o.coords == RQ_RESIZE_PYTORCH_HALF_PIXEL ||
                      j->o.coords == RQ_RESIZE_HALF_PIXEL_SYMMETRIC;
    for (int i = 2; ok && i < 4; i++) {
        const rq_resize_axis *p = &j->p[i];
        ok = !j->moves[i] || p->in < 0 || (float)p->in * p->scale == (float)p->out;
        ok = ok && (p->out != 1 || (!*align && j->o.coords != RQ_RESIZE_PYTORCH_HALF_PIXEL));
    }
    return ok && (*align || half);
}

static bool whole_scales(const resize_job *j)
{
    for (int i = 2; i < 4; i++)
        if (j->moves[i] && (j->p[i].scale != floorf(j->p[i].scale) || j->p[i].scale < 1))
            return false;
    return true;
}

/* One axis by its taps: gather, or a product with [out][in] numbers. */
static val along_axis(rq_mil_expr *x, val a, const resize_job *j, int axis)
{
    const rq_resize_axis *p = &j->p[axis];
    const int rank = a.shape.rank;
    rq_shape out = a.shape;
    rq_tensor *t;
    out.dim[axis] = p->out;
    if (p->in < 0 || p->out < 0) {
        rq_mil_expr_refuse(x, 0, "this way of resampling sizes that are known only when it runs");
        return a;
    }
    if (j->o.method == RQ_RESIZE_NEAREST) {
        const rq_shape list = rq_shape_of(1, &p->out);
        const val at = rq_mil_expr_new(x, RQ_DTYPE_S64, &list, &t);
        for (int64_t i = 0; t && i < p->out; i++)
            t->s64[i] = rq_resize_nearest(rq_resize_coordinate(p, i, j->o.coords), p, j->o.rounding);
        return rq_mil_expr_gather(x, a, at, axis, &out);
    }
    const bool rows = axis == rank - 2; /* matrix before x, else behind it, turned */
    const int most = rq_resize_most_taps(p->in, p->out);
    const rq_shape sizes =
        rows ? rq_shape_of(2, (int64_t[]) { p->out, p->in }) : rq_shape_of(2, (int64_t[]) { p->in, p->out });
    int64_t *index = rq_arena_alloc(&x->e->a, (size_t)most, sizeof *index);
    float *weight = rq_arena_alloc(&x->e->a, (size_t)most, sizeof *weight);
    const val matrix = rq_mil_expr_new(x, RQ_DTYPE_F32, &sizes, &t);
    if (x->st)
        return a;
    if (!index || !weight) {
        x->st = rq_fail(x->e->err, RQ_NO_MEMORY, "not enough memory to write the program");
        return a;
    }
    for (int64_t i = 0; i < p->out; i++) {
        const int n = rq_resize_taps(p, &j->o, i, index, weight, most);
        for (int k = 0; k < n; k++)
            t->f32[rows ? i * p->in + index[k] : index[k] * p->out + i] += weight[k];
    }
    if (rows)
        return rq_mil_expr_matmul(x, matrix, a, false, false);
    if (axis == rank - 1)
        return rank > 1 ? rq_mil_expr_matmul(x, a, matrix, false, false)
                        : rq_mil_expr_reshape(
                              x,
                              rq_mil_expr_matmul(x, rq_mil_expr_reshape_dims(x, a, 2, (int64_t[]) { 1, p->in }), matrix,
                                                 false, false),
                              &out);
    int64_t perm[RQ_MAX_RANK];
    for (int i = 0; i < rank; i++)
        perm[i] = i == axis ? rank - 1 : i == rank - 1 ? axis : i;
    return rq_mil_expr_transpose(x, rq_mil_expr_matmul(x, rq_mil_expr_transpose(x, a, perm), matrix, false, false),
                                 perm);
}

static rq_status resize(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    val a = rq_mil_expr_in(&x, 0);
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    resize_job j = { .rank = 0 };
    bool align = false, any = false;
    if (x.st || !open_job(&x, &j, &a.shape))
        return x.st;
    for (int i = 0; i < j.rank; i++)
        any |= j.moves[i];
    if (!any) {
        rq_mil_expr_give(&x, a);
        return x.st;
    }
    if (a.d != RQ_DTYPE_F32 && j.o.method != RQ_RESIZE_NEAREST)
        return rq_mil_expr_refuse(&x, 0, "blending integers");
    if (j.o.method == RQ_RESIZE_NEAREST && is_picture(&j) && repeats(&j, 2) && repeats(&j, 3)) {
        upsample(rq_mil_expr_last(&x), "upsample_nearest_neighbor", rq_mil_expr_float(&x, a), &j, &out, NULL);
        return x.st;
    }
    if (is_native_linear(&j, &align) && whole_scales(&j)) {
        upsample(rq_mil_expr_last(&x), "upsample_bilinear", a, &j, &out, &align);
        return x.st;
    }
    if (is_native_linear(&j, &align) && out.dim[2] > 0 && out.dim[3] > 0) {
        EXPR_OP(rq_mil_expr_last(&x), "resize_bilinear", a.d, &out, EXPR_V("x", &a),
                EXPR_I("target_size_height", out.dim[2]), EXPR_I("target_size_width", out.dim[3]),
                EXPR_T("sampling_mode", align ? "STRICT_ALIGN_CORNERS" : "UNALIGN_CORNERS"));
        return x.st;
    }
    for (int i = 0; i < j.rank && !x.st; i++)
        if (j.moves[i])
            a = along_axis(&x, a, &j, i);
    rq_mil_expr_give(&x, a);
    return x.st;
}

static rq_status grid_sample(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val a = rq_mil_expr_in(&x, 0), grid = rq_mil_expr_in(&x, 1);
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    const char *mode = rq_attr_string(n, RQ_WORD_mode, "linear"),
               *pad = rq_attr_string(n, RQ_WORD_padding_mode, "zeros");
    const bool nearest = !strcmp(mode, "nearest"), align = rq_attr_int(n, RQ_WORD_align_corners, 0) != 0;
    if (x.st)
        return x.st;
    if (a.shape.rank != 4)
        return rq_mil_expr_refuse(&x, 0, "sampling volumes");
    if (!nearest && strcmp(mode, "linear") != 0 && strcmp(mode, "bilinear") != 0)
        return rq_mil_expr_refuse(&x, 0, "cubic sampling");
    EXPR_OP(rq_mil_expr_last(&x), "resample", a.d, &out, EXPR_V("x", &a), EXPR_V("coordinates", &grid),
            EXPR_T("sampling_mode", nearest ? "nearest" : "bilinear"),
            EXPR_T("padding_mode", !strcmp(pad, "zeros")    ? "constant"
                                   : !strcmp(pad, "border") ? "border"
                                   : align                  ? "reflection"
                                                            : "symmetric"),
            EXPR_F("padding_value", 0), EXPR_T("coordinates_mode", "normalized_minus_one_to_one"),
            EXPR_B("align_corners", align));
    return x.st;
}

/* theta applied to a grid of points, which is a constant. */
static rq_status affine_grid(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    const val theta = rq_mil_expr_in(&x, 0);
    const rq_shape out = rq_mil_expr_out_shape(&x, 0);
    const bool align = rq_attr_int(n, RQ_WORD_align_corners, 0) != 0;
    if (x.st || !rq_mil_expr_static(&x, &out))
        return x.st;
    const int nd = out.rank - 2;
    const int64_t points = rq_shape_span(&out, 1, nd + 1);
    const rq_shape sizes = rq_shape_of(2, (int64_t[]) { points, nd + 1 });
    rq_tensor *t;
    const val base = rq_mil_expr_new(&x, RQ_DTYPE_F32, &sizes, &t);
    for (int64_t i = 0; t && i < points; i++) {
        int64_t rest = i;
        for (int d = nd - 1; d >= 0; d--) { /* the last axis is x, which comes first */
            const int64_t size = out.dim[1 + d], at = rest % size;
            rest /= size;
            t->f32[i * (nd + 1) + nd - 1 - d] =
                align ? size > 1 ? 2 * (float)at / (float)(size - 1) - 1 : 0 : (2 * (float)at + 1) / (float)size - 1;
        }
        t->f32[i * (nd + 1) + nd] = 1;
    }
    const val grid = rq_mil_expr_matmul(&x, base, theta, false, true);
    rq_mil_expr_reshape(rq_mil_expr_last(&x), grid, &out);
    return x.st;
}

const rq_mil_emit_row rq_mil_emit_resize[] = {
    { .op = "AffineGrid", .emit = affine_grid },
    { .op = "GridSample", .emit = grid_sample },
    { .op = "Resize", .emit = resize },
    { .op = "Upsample", .emit = resize },
    { .op = "GridSample", .domain = "com.microsoft", .emit = grid_sample },
    { .op = NULL },
};
