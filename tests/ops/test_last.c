/* Rows that take channels-last codes give the bytes they give of codes in the order of the file: every row with `last`, in its forms. A row without a
 * case here fails. */
#include "ops/last_check.h"

enum { ROUNDS = 60 };

/* [N, C, d1 ..] of rank 3 to 5, small and odd; channels 1 and more than a vector among them. */
static int shape_of(last_case *c, int64_t *dim)
{
    static const int64_t channels[] = { 1, 2, 3, 5, 8, 16, 17, 33, 64, 70 };
    const int rank = (int)last_draw(c, 0, 5) ? 4 : (int)last_draw(c, 3, 5);
    dim[0] = last_draw(c, 1, 2);
    dim[1] = channels[last_draw(c, 0, 9)];
    for (int i = 2; i < rank; i++)
        dim[i] = last_draw(c, 1, rank == 5 ? 4 : 7);
    return rank;
}

static int any_image(last_case *c, int64_t *dim)
{
    const int rank = shape_of(c, dim);
    last_image(c, rank, dim);
    return rank;
}

static void ints(last_case *c, rq_id node, const char *name, int n, const int64_t *v)
{
    assert_int_equal(rq_attr_set_ints(c->g, node, name, v, n), RQ_OK);
}

static void integer(last_case *c, rq_id node, const char *name, int64_t v)
{
    assert_int_equal(rq_attr_set_int(c->g, node, name, v), RQ_OK);
}

static void text(last_case *c, rq_id node, const char *name, const char *v)
{
    assert_int_equal(rq_attr_set_string(c->g, node, name, v), RQ_OK);
}

/* ---- one input ---- */

static void plain(last_case *c)
{
    int64_t dim[5];
    any_image(c, dim);
    last_node(c, 1, false);
}

static void pool(last_case *c)
{
    int64_t dim[5], kernel[3], stride[3], pads[6];
    const int nd = any_image(c, dim) - 2;
    const rq_id n = last_node(c, 1, false);
    for (int i = 0; i < nd; i++) {
        kernel[i] = last_draw(c, 1, dim[i + 2] < 3 ? dim[i + 2] : 3);
        stride[i] = last_draw(c, 1, 2);
        pads[i] = last_draw(c, 0, kernel[i] - 1);
        pads[i + nd] = last_draw(c, 0, kernel[i] - 1);
    }
    ints(c, n, "kernel_shape", nd, kernel);
    ints(c, n, "strides", nd, stride);
    ints(c, n, "pads", 2 * nd, pads);
    integer(c, n, "ceil_mode", last_draw(c, 0, 1));
    if (!strcmp(c->op, "AveragePool"))
        integer(c, n, "count_include_pad", last_draw(c, 0, 1));
}

static void softmax(last_case *c)
{
    int64_t dim[5];
    const int rank = any_image(c, dim);
    const rq_id n = last_node(c, 1, false);
    integer(c, n, "axis", last_draw(c, 0, 2) ? 1 : last_draw(c, -rank, rank - 1));
}

static void arg(last_case *c)
{
    int64_t dim[5];
    const int rank = any_image(c, dim);
    const rq_id n = last_node(c, 1, true);
    integer(c, n, "axis", last_draw(c, 0, 2) ? 1 : last_draw(c, -rank, rank - 1));
    integer(c, n, "keepdims", last_draw(c, 0, 1));
    integer(c, n, "select_last_index", last_draw(c, 0, 1));
}

static void reduce(last_case *c)
{
    int64_t dim[5], axes[5];
    double as_input[5];
    int n_axes = 0;
    const int rank = any_image(c, dim), spatial = (int)last_draw(c, 0, 1);
    for (int i = 0; i < rank; i++)
        if (spatial ? i >= 2 : last_draw(c, 0, 1)) {
            as_input[n_axes] = i;
            axes[n_axes++] = i;
        }
    const bool by_input = !strcmp(c->op, "ReduceSum");
    if (by_input)
        last_list(c, RQ_DTYPE_S64, n_axes, as_input);
    const rq_id n = last_node(c, 1, false);
    if (!by_input && n_axes)
        ints(c, n, "axes", n_axes, axes);
    integer(c, n, "keepdims", last_draw(c, 0, 2) != 0);
}

static void pad(last_case *c)
{
    static const char *const modes[] = { "constant", "reflect", "edge" };
    int64_t dim[5];
    double pads[10];
    const char *mode = modes[last_draw(c, 0, 2)];
    const int rank = any_image(c, dim);
    for (int i = 0; i < 2 * rank; i++) {
        const int64_t most = mode[0] == 'r' ? dim[i % rank] - 1 : 3;
        pads[i] = last_draw(c, 0, 1) ? 0 : (double)last_draw(c, 0, most < 2 ? most : 2);
    }
    last_list(c, RQ_DTYPE_S64, 2 * rank, pads);
    const rq_id n = last_node(c, 1, false);
    c->g->values[c->g->nodes[n].out[0]].quant = c->g->values[c->in[0]].quant;
    text(c, n, "mode", mode);
}

static void slice(last_case *c)
{
    int64_t dim[5];
    double start[5], end[5], axes[5], step[5];
    const int rank = any_image(c, dim);
    for (int i = 0; i < rank; i++) {
        const int64_t from = last_draw(c, 0, dim[i] - 1);
        const bool back = last_draw(c, 0, 3) == 0;
        axes[i] = i;
        step[i] = (double)(back ? -1 : last_draw(c, 1, 2));
        start[i] = (double)(back ? dim[i] - 1 : from);
        end[i] = (double)(back ? (from ? from - 1 : -100) : dim[i]);
    }
    last_list(c, RQ_DTYPE_S64, rank, start);
    last_list(c, RQ_DTYPE_S64, rank, end);
    last_list(c, RQ_DTYPE_S64, rank, axes);
    last_list(c, RQ_DTYPE_S64, rank, step);
    last_node(c, 1, false);
}

static void split(last_case *c)
{
    int64_t dim[5];
    const int rank = shape_of(c, dim), axis = last_draw(c, 0, 1) ? 1 : (int)last_draw(c, 0, rank - 1);
    const int64_t parts[3] = { last_draw(c, 1, 5), last_draw(c, 1, 20), last_draw(c, 1, 3) };
    dim[axis] = parts[0] + parts[1] + parts[2];
    last_image(c, rank, dim);
    last_list(c, RQ_DTYPE_S64, 3, (const double[]) { (double)parts[0], (double)parts[1], (double)parts[2] });
    const rq_id n = last_node(c, 3, false);
    integer(c, n, "axis", axis);
}

static void transpose(last_case *c)
{
    int64_t dim[5], perm[5] = { 0, 1, 2, 3, 4 };
    const int rank = any_image(c, dim);
    for (int i = 0; i < rank; i++) {
        const int64_t k = last_draw(c, i, rank - 1), t = perm[i];
        perm[i] = perm[k];
        perm[k] = t;
    }
    const rq_id n = last_node(c, 1, false);
    ints(c, n, "perm", rank, perm);
}

static void blocks(last_case *c)
{
    const int64_t b = last_draw(c, 1, 3);
    const bool to_space = !strcmp(c->op, "DepthToSpace");
    int64_t dim[4] = { last_draw(c, 1, 2), last_draw(c, 1, 9), last_draw(c, 1, 4), last_draw(c, 1, 4) };
    dim[1] *= to_space ? b * b : 1;
    dim[2] *= to_space ? 1 : b;
    dim[3] *= to_space ? 1 : b;
    last_image(c, 4, dim);
    const rq_id n = last_node(c, 1, false);
    integer(c, n, "blocksize", b);
    if (to_space)
        text(c, n, "mode", last_draw(c, 0, 1) ? "CRD" : "DCR");
}

static void resize(last_case *c)
{
    static const char *const coords[] = { "half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel" };
    static const char *const modes[] = { "nearest", "linear", "cubic" };
    static const char *const rounding[] = { "round_prefer_floor", "floor", "ceil" };
    int64_t dim[5];
    double scale[5];
    const char *mode = modes[last_draw(c, 0, 3) % 3];
    const int rank = any_image(c, dim);
    for (int i = 0; i < rank; i++)
        scale[i] = i < 2 && last_draw(c, 0, 5) ? 1 : (double)last_draw(c, 2, 6) / 2;
    c->in[c->n_in++] = RQ_NONE;
    last_list(c, RQ_DTYPE_F32, rank, scale);
    const rq_id n = last_node(c, 1, false);
    text(c, n, "mode", mode);
    text(c, n, "coordinate_transformation_mode", coords[last_draw(c, 0, 3)]);
    text(c, n, "nearest_mode", rounding[last_draw(c, 0, 2)]);
}

static void upsample(last_case *c)
{
    int64_t dim[5];
    double scale[5];
    const int rank = any_image(c, dim);
    for (int i = 0; i < rank; i++)
        scale[i] = i < 2 ? 1 : (double)last_draw(c, 1, 3);
    assert_int_equal(rq_graph_set_opset(c->g, "", 9), RQ_OK);
    last_list(c, RQ_DTYPE_F32, rank, scale);
    const rq_id n = last_node(c, 1, false);
    text(c, n, "mode", last_draw(c, 0, 1) ? "linear" : "nearest");
}

/* ---- more inputs ---- */

/* An operand that broadcasts against [N, C, d1 ..]: an image, one number per channel, per position, per image; of a lower rank; a constant. */
static void operand(last_case *c, int rank, const int64_t *whole, bool reals)
{
    int64_t dim[5];
    const int kind = (int)last_draw(c, 0, 7);
    int from = 0;
    for (int i = 0; i < rank; i++) {
        const bool keep = kind <= 1   ? true
                          : kind == 2 ? i < 2
                          : kind == 3 ? i == 1
                          : kind == 4 ? i != 1
                          : kind == 5 ? i == 0
                                      : last_draw(c, 0, 1);
        dim[i] = keep ? whole[i] : 1;
    }
    if (kind == 6)
        from = (int)last_draw(c, 0, rank - 1);
    if (last_draw(c, 0, 2) == 0)
        last_const(c, rank - from, dim + from, !reals || last_draw(c, 0, 1));
    else
        last_image(c, rank - from, dim + from);
}

static void two(last_case *c)
{
    int64_t dim[5];
    const int rank = shape_of(c, dim);
    const bool reals = !strcmp(c->op, "Sub") || !strcmp(c->op, "Div");
    if (last_draw(c, 0, 1)) {
        last_image(c, rank, dim);
        operand(c, rank, dim, reals);
    } else {
        operand(c, rank, dim, reals);
        last_image(c, rank, dim);
    }
    last_node(c, 1, false);
}

static void prelu(last_case *c)
{
    int64_t dim[5];
    const int rank = any_image(c, dim);
    const int64_t slope[4] = { dim[1], 1, 1, 1 };
    last_const(c, last_draw(c, 0, 2) ? rank - 1 : 0, slope, last_draw(c, 0, 1));
    last_node(c, 1, false);
}

static void power(last_case *c)
{
    int64_t dim[5];
    any_image(c, dim);
    c->in[c->n_in++] = build_scalar(c->g, "exponent", RQ_DTYPE_F32, 2);
    last_node(c, 1, false);
}

static void where(last_case *c)
{
    int64_t dim[5];
    const int rank = shape_of(c, dim);
    int64_t cond[5];
    for (int i = 0; i < rank; i++)
        cond[i] = i == 1 || last_draw(c, 0, 1) ? 1 : dim[i];
    const rq_shape s = rq_shape_of(rank, cond);
    double *v = malloc((size_t)rq_shape_count(&s) * sizeof *v);
    for (int64_t i = 0; i < rq_shape_count(&s); i++)
        v[i] = (double)last_draw(c, 0, 1);
    c->in[c->n_in++] = build_const(c->g, "cond", RQ_DTYPE_BOOL, rank, cond, v);
    free(v);
    last_image(c, rank, dim);
    operand(c, rank, dim, false);
    last_node(c, 1, false);
}

static void concat(last_case *c)
{
    int64_t dim[5];
    const int rank = shape_of(c, dim), axis = last_draw(c, 0, 2) ? 1 : (int)last_draw(c, 0, rank - 1);
    const int n_in = (int)last_draw(c, 1, 4);
    for (int i = 0; i < n_in; i++) {
        dim[axis] = last_draw(c, 1, 20);
        if (last_draw(c, 0, 7) == 0)
            last_const(c, rank, dim, true);
        else
            last_image(c, rank, dim);
    }
    const rq_id n = last_node(c, 1, false);
    integer(c, n, "axis", axis);
    if (last_draw(c, 0, 1)) /* of one set: copied */
        for (int i = 0; i < n_in; i++)
            c->g->values[c->in[i]].quant = c->g->values[c->g->nodes[n].out[0]].quant;
}

/* A convolution of each kind: plain, in groups, one channel per group and one or more outputs of each. */
static void conv(last_case *c)
{
    const bool transposed = !strcmp(c->op, "ConvTranspose");
    int64_t dim[5], w[5], stride[3], dilation[3], pads[6];
    const int rank = shape_of(c, dim), nd = rank - 2;
    const int64_t group = last_draw(c, 0, 2) ? dim[1] : last_draw(c, 0, 1) && dim[1] % 2 == 0 ? 2 : 1;
    const int64_t times = last_draw(c, 0, 2) ? 1 : last_draw(c, 1, 3), square = last_draw(c, 0, 1) ? 3 : 5;
    w[0] = transposed ? dim[1] : group * times;
    w[1] = transposed ? times : dim[1] / group;
    for (int i = 0; i < nd; i++) {
        w[i + 2] = last_draw(c, 0, 2) ? square : last_draw(c, 1, 4);
        dilation[i] = last_draw(c, 0, 3) ? 1 : 2;
        stride[i] = last_draw(c, 1, 3);
        pads[i] = last_draw(c, 0, 2);
        pads[i + nd] = last_draw(c, 0, 2);
        const int64_t least = (w[i + 2] - 1) * dilation[i] + 1 - pads[i] - pads[i + nd];
        dim[i + 2] = !transposed && dim[i + 2] < least ? least : dim[i + 2];
        if (transposed)
            pads[i] = pads[i + nd] = 0;
    }
    while (w[0] * w[1] * (nd > 1 ? w[2] * w[3] : w[2]) * (nd > 2 ? w[4] : 1) > 4096)
        w[2] = w[2] > 1 ? 1 : (w[3] = 1);
    last_image(c, rank, dim);
    last_const(c, rank, w, true);
    if (last_draw(c, 0, 1))
        last_const(c, 1, (int64_t[]) { transposed ? times * group : w[0] }, false);
    const rq_id n = last_node(c, 1, false);
    ints(c, n, "strides", nd, stride);
    ints(c, n, "dilations", nd, dilation);
    ints(c, n, "pads", 2 * nd, pads);
    integer(c, n, "group", group);
}

/* ---- all of them ---- */

static const struct {
    const char *op;
    last_build build;
} cases[] = {
    { "Identity", plain },
    { "GlobalAveragePool", plain },
    { "GlobalMaxPool", plain },
    { "MaxPool", pool },
    { "AveragePool", pool },
    { "Softmax", softmax },
    { "LogSoftmax", softmax },
    { "ArgMax", arg },
    { "ArgMin", arg },
    { "ReduceMean", reduce },
    { "ReduceSum", reduce },
    { "ReduceMax", reduce },
    { "ReduceMin", reduce },
    { "ReduceL1", reduce },
    { "ReduceL2", reduce },
    { "ReduceLogSum", reduce },
    { "ReduceLogSumExp", NULL }, /* no integer form */
    { "ReduceProd", NULL },
    { "ReduceSumSquare", reduce },
    { "Pad", pad },
    { "Slice", slice },
    { "Split", split },
    { "Transpose", transpose },
    { "DepthToSpace", blocks },
    { "SpaceToDepth", blocks },
    { "Resize", resize },
    { "Upsample", upsample },
    { "Add", two },
    { "Sub", two },
    { "Mul", two },
    { "Div", two },
    { "Min", two },
    { "Max", two },
    { "Sum", two },
    { "PRelu", prelu },
    { "Pow", power },
    { "Where", where },
    { "Concat", concat },
    { "Conv", conv },
    { "ConvTranspose", conv },
};

static void rows_give_the_same_bytes_in_both_orders(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (cases[i].build)
            last_check(cases[i].op, cases[i].build, ROUNDS);
}

static void every_row_has_a_case(void **state)
{
    (void)state;
    const rq_op *row;
    for (int i = 0; (row = rq_op_at(i)) != NULL; i++) {
        bool found = !row->last;
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
            found = found || !strcmp(cases[k].op, row->name);
        if (!found)
            fail_msg("%s takes channels-last codes and has no case", row->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(rows_give_the_same_bytes_in_both_orders),
                                        cmocka_unit_test(every_row_has_a_case) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
