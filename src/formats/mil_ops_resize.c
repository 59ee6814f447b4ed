/* formats/mil_ops_resize.c — rows: images of other sizes, and images sampled at given points. */
#include <math.h>
#include <string.h>

#include "formats/mil_rows.h"

typedef rq_mil_reader reader;
typedef rq_chain chain;

/* ---- to a size ---- */

typedef enum grid {         /* which points of an axis of `in` elements are taken for one of `out` */
                    ALIGN,  /* i (in - 1) / (out - 1); one point: the first */
                    CENTRE, /* ALIGN, but one point: the middle */
                    PLAIN,  /* i in / out */
                    OFFSET, /* (i + 0.5) max(1, in - 1) / out */
                    HALF    /* (i + 0.5) in / out - 0.5 */
} grid;

static grid grid_of(chain *c, const char *fallback)
{
    static const char *const names[] = { "STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS",
                                         "UNALIGN_CORNERS" };
    const char *mode = rq_chain_text(c, "sampling_mode", fallback);
    for (int i = 0; i < 5; i++)
        if (!strcmp(mode, names[i]))
            return (grid)i;
    rq_chain_fail(c, RQ_UNSUPPORTED, "sampling_mode '%.60s' is not known", mode);
    return PLAIN;
}

/* x with the n axes of `axes` of these sizes; out: what they are, negative where that is not known. */
static const char *resized(chain *c, const char *x, const char *sizes, const int64_t *axes, const int64_t *out, int n,
                           grid g, bool nearest)
{
    static const char *const names[] = { "align_corners", "align_corners", "asymmetric", "tf_crop_and_resize",
                                         "half_pixel" };
    const char *roi = NULL;
    if (g == OFFSET) { /* the same points as those of a box that leaves half a step free at both ends */
        const rq_shape shape = rq_shape_of(1, (int64_t[]) { 2 * n });
        float box[2 * RQ_MAX_RANK];
        for (int i = 0; i < n; i++) {
            if (out[i] < 1)
                return rq_chain_fail(c, RQ_UNSUPPORTED, "OFFSET_CORNERS to an unknown size is not supported");
            box[i] = 0.5f / (float)out[i];
            box[n + i] = 1 - box[i];
        }
        const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &shape, box);
        roi = rq_chain_tensor(c, &t);
    }
    const char *in[] = { x, roi, NULL, sizes };
    const char *y = rq_chain_node(c, "Resize", in, 4);
    rq_chain_set_ints(c, "axes", axes, n);
    rq_chain_set_text(c, "mode", nearest ? "nearest" : "linear");
    rq_chain_set_text(c, "coordinate_transformation_mode", names[g]);
    if (nearest)
        rq_chain_set_text(c, "nearest_mode", "floor");
    return y;
}

/* The same of known sizes: an axis that becomes one element may need another grid than the others. */
static const char *resized_to(chain *c, const char *x, const int64_t *axes, const int64_t *out, int n, grid g,
                              bool nearest)
{
    for (int i = 0; i < n; i++)
        if (out[i] < 1 || out[i] > (1 << 24))
            return c->st ? NULL : rq_chain_fail(c, RQ_BAD_FILE, "a size of %lld", (long long)out[i]);
    if (g == CENTRE) {
        for (int i = 0; i < n; i++)
            x = resized(c, x, rq_chain_const_ints(c, &out[i], 1), &axes[i], &out[i], 1, out[i] == 1 ? HALF : ALIGN,
                        nearest);
        return x;
    }
    return resized(c, x, rq_chain_const_ints(c, out, n), axes, out, n, g, nearest);
}

/* Axes counted from the end need not be known to ONNX's Resize. */
static void positive(chain *c, const char *x, int64_t axes[], int n)
{
    const int rank = rq_chain_rank(c, x);
    for (int i = 0; i < n; i++)
        axes[i] = rq_chain_axis(c, rank - n + i, rank);
}

/* A factor, whole or not. */
static double factor(chain *c, const char *param)
{
    const rq_mil_value *v = rq_mil_reader_const(c->r, c->op, param);
    if (v && v->type->kind == RQ_MIL_TENSOR && !rq_dtype_is_float(v->type->dtype->dtype))
        return (double)rq_chain_int(c, param, 1);
    return (double)rq_chain_float(c, param, 1);
}

/* floor(in * factor); where that is a matter of rounding, as the program has it. */
static int64_t scaled_size(const rq_mil_op *op, int axis, int64_t in, double by)
{
    const rq_mil_type *t = op->outputs[0].type;
    const double exact = (double)in * by, slack = 1e-6 * exact;
    if (t->kind == RQ_MIL_TENSOR && axis < t->rank && t->dim[axis].known) {
        const double said = (double)t->dim[axis].size;
        if (said <= exact + slack && said > exact - 1 - slack)
            return (int64_t)said;
    }
    return (int64_t)floor(exact);
}

static rq_status upsample(reader *r, const rq_mil_op *op)
{
    const bool nearest = !strcmp(op->type, "upsample_nearest_neighbor");
    int64_t axes[2], out[2];
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const double factors[] = { factor(&c, "scale_factor_height"), factor(&c, "scale_factor_width") };
    const int64_t align = rq_chain_int(&c, "align_corners", 1), half = rq_chain_int(&c, "half_pixel_centers", !align);
    const grid g = nearest ? PLAIN : align ? ALIGN : half ? HALF : PLAIN;
    positive(&c, x, axes, 2);
    bool is_known = true;
    for (int i = 0; i < 2 && !c.st; i++) {
        const int64_t in = rq_chain_size(&c, x, (int)axes[i]);
        if (!(factors[i] > 0 && factors[i] < 65536))
            rq_chain_fail(&c, RQ_BAD_FILE, "a scale factor that is not between 0 and 65536");
        is_known = is_known && in >= 0;
        out[i] = in >= 0 ? scaled_size(op, (int)axes[i], in, factors[i]) : RQ_DIM_UNKNOWN;
    }
    if (c.st)
        return c.st;
    if (is_known)
        return rq_chain_end(&c, 0, resized_to(&c, x, axes, out, 2, g, nearest));
    float scales[] = { (float)factors[0], (float)factors[1] };
    const rq_shape shape = rq_shape_of(1, (int64_t[]) { 2 });
    const rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, &shape, scales);
    const char *sizes = rq_n3(&c, "Slice", rq_n1(&c, "Shape", x), rq_chain_const_ints(&c, (const int64_t[]) { -2 }, 1),
                              rq_chain_const_ints(&c, (const int64_t[]) { INT64_MAX }, 1));
    sizes = rq_n2(&c, "Mul", rq_chain_cast(&c, sizes, RQ_DTYPE_F32), rq_chain_tensor(&c, &t));
    sizes = rq_chain_cast(&c, rq_n1(&c, "Floor", sizes), RQ_DTYPE_S64);
    return rq_chain_end(&c, 0, resized(&c, x, sizes, axes, out, 2, g, nearest));
}

static rq_status resize_two(reader *r, const rq_mil_op *op)
{
    const bool nearest = !strcmp(op->type, "resize_nearest_neighbor");
    int64_t axes[2];
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int64_t out[] = { rq_chain_int(&c, "target_size_height", 1), rq_chain_int(&c, "target_size_width", 1) };
    const grid g = nearest ? PLAIN : grid_of(&c, "DEFAULT");
    positive(&c, x, axes, 2);
    return rq_chain_end(&c, 0, resized_to(&c, x, axes, out, 2, g, nearest));
}

/* The last sizes of a list, 0: as x has it. */
static rq_status resize(reader *r, const rq_mil_op *op)
{
    int64_t axes[RQ_MAX_RANK], out[16];
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const bool nearest = !strcmp(rq_chain_text(&c, "interpolation_mode", "LINEAR"), "NEAREST_NEIGHBOR");
    const grid g = grid_of(&c, "DEFAULT");
    const int rank = rq_chain_rank(&c, x);
    const int64_t n = rq_chain_int(&c, "resized_dims", 0);
    if (n < 0 || n > rank)
        return c.st ? c.st : rq_fail(r->err, RQ_BAD_FILE, "'resized_dims' is %lld of %d axes", (long long)n, rank);
    if (!n)
        return rq_chain_end(&c, 0, x);
    positive(&c, x, axes, (int)n);
    if (rq_mil_reader_const(r, op, "shape")) {
        const int given = rq_chain_ints(&c, "shape", out);
        if (given < n && !c.st)
            rq_chain_fail(&c, RQ_BAD_FILE, "'shape' has %d numbers, expected at least %lld", given, (long long)n);
        bool is_known = true;
        for (int i = 0; i < n && !c.st; i++) {
            out[i] = out[given - n + i] ? out[given - n + i] : rq_chain_size(&c, x, (int)axes[i]);
            is_known = is_known && out[i] >= 0;
        }
        if (is_known)
            return rq_chain_end(&c, 0, resized_to(&c, x, axes, out, (int)n, g, nearest));
    }
    for (int i = 0; i < n; i++)
        out[i] = RQ_DIM_UNKNOWN;
    const char *from = rq_chain_const_ints(&c, (const int64_t[]) { -n }, 1),
               *to = rq_chain_const_ints(&c, (const int64_t[]) { INT64_MAX }, 1);
    const char *asked = rq_n3(&c, "Slice", rq_chain_list(&c, "shape"), from, to);
    const char *own = rq_n3(&c, "Slice", rq_n1(&c, "Shape", x), from, to);
    const char *keep = rq_n2(&c, "Equal", asked, rq_chain_const_int(&c, 0));
    const char *sizes = rq_n3(&c, "Where", keep, own, asked);
    return rq_chain_end(&c, 0, resized(&c, x, sizes, axes, out, (int)n, g == CENTRE ? ALIGN : g, nearest));
}

/* ---- at points ---- */

static const char *sampled(chain *c, const char *x, const char *points, const char *mode, const char *padding,
                           int align)
{
    const char *y = rq_n2(c, "GridSample", x, points);
    rq_chain_set_text(c, "mode", mode);
    rq_chain_set_text(c, "padding_mode", padding);
    rq_chain_set_int(c, "align_corners", align);
    return y;
}

/* a x + b of vectors (of the last axis) or scalars. */
static const char *scaled(chain *c, const char *x, const float *a, const float *b, int n)
{
    const rq_shape shape = rq_shape_of(1, (int64_t[]) { n });
    const rq_tensor ta = rq_tensor_view(RQ_DTYPE_F32, &shape, (void *)a),
                    tb = rq_tensor_view(RQ_DTYPE_F32, &shape, (void *)b);
    return rq_n2(c, "Add", rq_n2(c, "Mul", x, rq_chain_tensor(c, &ta)), rq_chain_tensor(c, &tb));
}

static rq_status resample(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const rq_dtype d = rq_chain_dtype(&c, x);
    const char *points = rq_chain_cast(&c, rq_chain_in(&c, "coordinates"), RQ_DTYPE_F32);
    const char *mode = rq_chain_text(&c, "sampling_mode", "bilinear"),
               *pad = rq_chain_text(&c, "padding_mode", "constant"),
               *units = rq_chain_text(&c, "coordinates_mode", "normalized_minus_one_to_one");
    const float fill = rq_chain_float(&c, "padding_value", 0);
    const int64_t align = rq_chain_int(&c, "align_corners", 0);
    const float size[] = { (float)rq_chain_size(&c, x, 3), (float)rq_chain_size(&c, x, 2) };
    if (rq_chain_rank(&c, x) != 4)
        rq_chain_fail(&c, RQ_BAD_FILE, "'x' is to have 4 axes");
    else if (size[0] < 1 || size[1] < 1)
        rq_chain_fail(&c, RQ_UNSUPPORTED, "an image of unknown size is not supported");
    /* to pixels, 0 .. size - 1, then to what ONNX takes: it mirrors at the middle of the last pixel, or at its edge */
    const bool edge = !strcmp(pad, "symmetric"), unit = !strcmp(units, "normalized_zero_to_one");
    float a[2], b[2];
    for (int i = 0; i < 2; i++) {
        const float span = align ? size[i] - 1 : size[i], shift = align ? 0 : -0.5f;
        a[i] = !strcmp(units, "unnormalized") ? 1 : unit ? span : span / 2;
        b[i] = !strcmp(units, "unnormalized") ? 0 : unit ? shift : span / 2 + shift;
        const float room = edge ? size[i] : size[i] > 1 ? size[i] - 1 : 1;
        a[i] = 2 * a[i] / room;
        b[i] = 2 * (b[i] + (edge ? 0.5f : 0)) / room - 1;
    }
    if (strcmp(mode, "bilinear") != 0 && strcmp(mode, "nearest") != 0)
        rq_chain_fail(&c, RQ_UNSUPPORTED, "sampling_mode '%.60s' is not known", mode);
    const char *padding = !strcmp(pad, "constant")             ? "zeros"
                          : !strcmp(pad, "border")             ? "border"
                          : edge || !strcmp(pad, "reflection") ? "reflection"
                                                               : NULL;
    if (!padding)
        rq_chain_fail(&c, RQ_UNSUPPORTED, "padding_mode '%.60s' is not known", pad);
    const char *image = rq_chain_cast(&c, x, RQ_DTYPE_F32);
    const bool lifted = !strcmp(pad, "constant") && fill != 0;
    if (lifted)
        image = rq_n2(&c, "Sub", image, rq_chain_const(&c, RQ_DTYPE_F32, (double)fill));
    const char *y = sampled(&c, image, scaled(&c, points, a, b, 2), !strcmp(mode, "nearest") ? "nearest" : "linear",
                            padding ? padding : "zeros", !edge);
    if (lifted)
        y = rq_n2(&c, "Add", y, rq_chain_const(&c, RQ_DTYPE_F32, (double)fill));
    return rq_chain_end(&c, 0, rq_chain_cast(&c, y, d));
}

static rq_status affine(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const rq_dtype d = rq_chain_dtype(&c, x);
    const char *m = rq_chain_cast(&c, rq_chain_in(&c, "transform_matrix"), RQ_DTYPE_F32);
    const int64_t h = rq_chain_int(&c, "output_height", 0), w = rq_chain_int(&c, "output_width", 0),
                  n = rq_chain_size(&c, x, 0), ch = rq_chain_size(&c, x, 1);
    if (h < 1 || w < 1 || n < 1 || ch < 1)
        rq_chain_fail(&c, RQ_UNSUPPORTED, "an image of unknown size is not supported");
    if (strcmp(rq_chain_text(&c, "padding_mode", "constant"), "constant") != 0 ||
        rq_chain_float(&c, "padding_value", 0) != 0 ||
        strcmp(rq_chain_text(&c, "coordinates_mode", ""), "normalized_minus_one_to_one") != 0 ||
        strcmp(rq_chain_text(&c, "sampling_mode", "bilinear"), "bilinear") != 0 ||
        !rq_chain_int(&c, "align_corners", 1))
        rq_chain_fail(&c, RQ_UNSUPPORTED,
                      "another affine than a bilinear one with zeros around and aligned corners is not supported");
    m = rq_n2(&c, "Reshape", m, rq_chain_const_ints(&c, (const int64_t[]) { -1, 2, 3 }, 3));
    m = rq_n2(&c, "Expand", m, rq_chain_const_ints(&c, (const int64_t[]) { n, 2, 3 }, 3));
    const char *points = rq_n2(&c, "AffineGrid", m, rq_chain_const_ints(&c, (const int64_t[]) { n, ch, h, w }, 4));
    rq_chain_set_int(&c, "align_corners", 1);
    const char *y = sampled(&c, rq_chain_cast(&c, x, RQ_DTYPE_F32), points, "linear", "zeros", 1);
    return rq_chain_end(&c, 0, rq_chain_cast(&c, y, d));
}

/* Points of one axis of the boxes, [N, out], moved to 0 .. in - 1 where they lie outside, as -1 .. 1; from, to: [N, 1]. */
static const char *box_points(chain *c, const char *from, const char *to, int64_t out, int64_t in, grid g,
                              const char **outside)
{
    const rq_shape shape = rq_shape_of(1, (int64_t[]) { out });
    rq_tensor t;
    *outside = NULL;
    if (c->st)
        return NULL;
    if (rq_tensor_create(&t, RQ_DTYPE_F32, &shape, true))
        return rq_chain_fail(c, RQ_NO_MEMORY, "not enough memory");
    /* a point is from + share (to - from), shares of the way as the grid has them */
    for (int64_t i = 0; i < out; i++)
        t.f32[i] = g == ALIGN || g == CENTRE ? out > 1       ? (float)i / (float)(out - 1)
                                               : g == CENTRE ? 0.5f
                                                             : 0
                   : g == PLAIN              ? (float)i / (float)out
                                             : ((float)i + 0.5f) / (float)out;
    const char *share = rq_chain_tensor(c, &t);
    rq_tensor_release(&t);
    const char *way = rq_n2(c, "Sub", to, from), *one = rq_chain_const(c, RQ_DTYPE_F32, 1);
    if (g == PLAIN || g == HALF) /* of whole pixels, not of the way between their middles */
        way = rq_n2(c, "Add", way, one);
    const char *at = rq_n2(c, "Add", from, rq_n2(c, "Mul", share, way));
    if (g == HALF)
        at = rq_n2(c, "Sub", at, rq_chain_const(c, RQ_DTYPE_F32, 0.5));
    const char *inside =
        rq_n3(c, "Clip", at, rq_chain_const(c, RQ_DTYPE_F32, 0), rq_chain_const(c, RQ_DTYPE_F32, (double)(in - 1)));
    *outside = rq_n1(c, "Not", rq_n2(c, "Equal", at, inside));
    const float a = 2 / (float)(in > 1 ? in - 1 : 1), b = -1;
    return scaled(c, inside, &a, &b, 1);
}

/* The corners of the boxes, h_start, w_start, h_end, w_end, in pixels: [N, 1] each. */
static void corners(chain *c, const char *roi, const char *corner[4], int64_t h, int64_t w)
{
    static const char *const modes[] = { "CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST",
                                         "CENTER_SIZE_WIDTH_FIRST" };
    const char *mode = rq_chain_text(c, "box_coordinate_mode", modes[0]), *part[4] = { NULL };
    const float scale = rq_chain_float(c, "spatial_scale", 1);
    const int64_t normalized = rq_chain_int(c, "normalized_coordinates", 0);
    int k = 0;
    while (k < 4 && strcmp(mode, modes[k]) != 0)
        k++;
    if (k == 4) {
        rq_chain_fail(c, RQ_UNSUPPORTED, "box_coordinate_mode '%.60s' is not known", mode);
        return;
    }
    rq_chain_nodes(c, "Split", &roi, 1, part, 4);
    rq_chain_set_int(c, "axis", 1);
    rq_chain_set_int(c, "num_outputs", 4);
    for (int i = 0; i < 4; i++) { /* height first */
        const double span = (double)((i % 2 ? w : h) - 1);
        corner[i] = rq_n2(c, "Mul", part[k % 2 ? i ^ 1 : i],
                          rq_chain_const(c, RQ_DTYPE_F32, (double)scale * (normalized ? span : 1)));
    }
    if (k < 2)
        return;
    for (int i = 0; i < 2; i++) {
        const char *half = rq_n2(c, "Mul", corner[i + 2], rq_chain_const(c, RQ_DTYPE_F32, 0.5)), *centre = corner[i];
        corner[i] = rq_n2(c, "Sub", centre, half);
        corner[i + 2] = rq_n2(c, "Add", centre, half);
    }
}

static rq_status crop_resize(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const bool ios17 = rq_mil_reader_has(op, "boxes");
    const char *x = rq_chain_in(&c, "x"), *corner[4] = { NULL };
    const char *roi = rq_chain_cast(&c, rq_chain_in(&c, ios17 ? "boxes" : "roi"), RQ_DTYPE_F32);
    const rq_dtype d = rq_chain_dtype(&c, x);
    const int64_t h = rq_chain_int(&c, "target_height", 1), w = rq_chain_int(&c, "target_width", 1);
    const int64_t size[] = { rq_chain_size(&c, x, 0), rq_chain_size(&c, x, 1), rq_chain_size(&c, x, 2),
                             rq_chain_size(&c, x, 3) };
    const grid g = grid_of(&c, "DEFAULT");
    const int64_t n_boxes = rq_chain_size(&c, roi, 0), n_numbers = ios17 ? 4 : rq_chain_size(&c, roi, 2);
    if (rq_chain_rank(&c, x) != 4 || h < 1 || w < 1 || h > 65536 || w > 65536)
        rq_chain_fail(&c, RQ_BAD_FILE, "'x' is to have 4 axes, and the boxes at least one pixel");
    else if (size[0] < 1 || size[1] < 1 || size[2] < 1 || size[3] < 1 || n_boxes < 1 || n_numbers < 4 || n_numbers > 5)
        rq_chain_fail(&c, RQ_UNSUPPORTED, "images or boxes of unknown number or size are not supported");
    x = rq_chain_cast(&c, x, RQ_DTYPE_F32);
    roi = rq_n2(&c, "Reshape", roi, rq_chain_const_ints(&c, (const int64_t[]) { n_boxes, n_numbers }, 2));
    const char *which = ios17 ? rq_chain_maybe(&c, "box_indices") : NULL;
    if (ios17 && !which) /* each box of the image of its own number */
        which =
            rq_n3(&c, "Range", rq_chain_const_int(&c, 0), rq_chain_const_int(&c, n_boxes), rq_chain_const_int(&c, 1));
    if (n_numbers == 5) {
        const char *pair[2] = { NULL, NULL };
        const char *sizes = rq_chain_const_ints(&c, (const int64_t[]) { 1, 4 }, 2);
        rq_chain_nodes(&c, "Split", (const char *const[]) { roi, sizes }, 2, pair, 2);
        rq_chain_set_int(&c, "axis", 1);
        which = pair[0];
        roi = pair[1];
    }
    corners(&c, roi, corner, size[2], size[3]);
    const char *far_y, *far_x;
    const char *ys = box_points(&c, corner[0], corner[2], h, size[2], g, &far_y),
               *xs = box_points(&c, corner[1], corner[3], w, size[3], g, &far_x);
    const char *whole = rq_chain_const_ints(&c, (const int64_t[]) { n_boxes, h, w, 1 }, 4);
    ys = rq_n2(&c, "Unsqueeze", ys, rq_chain_const_ints(&c, (const int64_t[]) { 2, 3 }, 2));
    xs = rq_n2(&c, "Unsqueeze", xs, rq_chain_const_ints(&c, (const int64_t[]) { 1, 3 }, 2));
    const char *both[] = { rq_n2(&c, "Expand", xs, whole), rq_n2(&c, "Expand", ys, whole) };
    const char *points = rq_chain_node(&c, "Concat", both, 2);
    rq_chain_set_int(&c, "axis", 3);
    /* every box of every image, or of the one that it names: the images of a box as channels of one */
    const int64_t n_ch = which ? size[1] : size[0] * size[1], n_images = which ? 1 : size[0];
    if (which) {
        which = rq_chain_cast(&c, rq_n2(&c, "Reshape", which, rq_chain_const_ints(&c, (const int64_t[]) { -1 }, 1)),
                              RQ_DTYPE_S64);
        x = rq_n2(&c, "Gather", x, which);
        rq_chain_set_int(&c, "axis", 0);
    } else {
        x = rq_n2(&c, "Reshape", x, rq_chain_const_ints(&c, (const int64_t[]) { 1, n_ch, size[2], size[3] }, 4));
        x = rq_n2(&c, "Expand", x, rq_chain_const_ints(&c, (const int64_t[]) { n_boxes, 1, 1, 1 }, 4));
    }
    const char *y = sampled(&c, x, points, "linear", "border", 1);
    if (ios17) { /* pixels whose point lies outside of the image */
        far_y = rq_n2(&c, "Unsqueeze", far_y, rq_chain_const_ints(&c, (const int64_t[]) { 1, 3 }, 2));
        far_x = rq_n2(&c, "Unsqueeze", far_x, rq_chain_const_ints(&c, (const int64_t[]) { 1, 2 }, 2));
        const char *fill = rq_chain_const(&c, RQ_DTYPE_F32, (double)rq_chain_float(&c, "pad_value", 0));
        y = rq_n3(&c, "Where", rq_n2(&c, "Or", far_y, far_x), fill, y);
    } else
        y = rq_n2(&c, "Reshape", y, rq_chain_const_ints(&c, (const int64_t[]) { n_boxes, n_images, size[1], h, w }, 5));
    return rq_chain_end(&c, 0, rq_chain_cast(&c, y, d));
}

const rq_mil_row rq_mil_rows_resize[] = {
    { "affine", affine, "AffineGrid, GridSample", NULL },
    { "crop_resize", crop_resize, "GridSample", NULL },
    { "resample", resample, "GridSample", NULL },
    { "resize", resize, "Resize", NULL },
    { "resize_bilinear", resize_two, "Resize", NULL },
    { "resize_nearest_neighbor", resize_two, "Resize", NULL },
    { "upsample_bilinear", upsample, "Resize", NULL },
    { "upsample_nearest_neighbor", upsample, "Resize", NULL },
    { NULL, NULL, NULL, NULL },
};
