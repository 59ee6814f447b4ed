/* tests/run/test_layout.c — how networks lie: quantized ones like ResNet, like MobileNetV3 with its squeeze-and-excite, like DenseNet and ShuffleNet, and one whose file is
 * channels-last. The order of codes changes on the way from reals and to reals and nowhere else, nothing is copied that can be made in place, and the
 * bits are those of a plan without any of it. Counts are exact: one more is a plan that got worse. */
#include "run/plan_help.h"

typedef struct net {
    rq_graph *g;
    rq_rng rng;
    rq_dtype d;
    int names;
    int64_t dim[4]; /* of the input */
} net;

static const char *name_of(net *n, char name[16])
{
    snprintf(name, 16, "v%d", n->names++);
    return name;
}

/* `v` on codes that hold about -lo .. hi. */
static rq_id on_codes(net *n, rq_id v, float lo, float hi)
{
    const float scale = (hi + lo) / 255 * (1 + rq_rng_f32(&n->rng) / 8);
    annotate(n->g, v, n->d, scale, (int32_t)(lo / scale) - (n->d == RQ_DTYPE_S8 ? 128 : 0));
    return v;
}

static rq_id node(net *n, const char *op, int n_in, const rq_id *in)
{
    char name[16];
    return build_node(n->g, op, name_of(n, name), RQ_DTYPE_F32, n_in, in);
}

static void ints(net *n, const char *name, int count, const int64_t *v)
{
    assert_int_equal(rq_attr_set_ints(n->g, n->g->n_nodes - 1, name, v, count), RQ_OK);
}

static rq_id conv(net *n, rq_id x, int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t group)
{
    char name[16];
    const int64_t dim[4] = { out, in / group, kernel, kernel }, pad = kernel / 2;
    const rq_shape s = rq_shape_of(4, dim);
    double v[4096];
    const int64_t count = rq_shape_count(&s);
    assert_true(count <= 4096);
    for (int64_t i = 0; i < count; i++)
        v[i] = (double)rq_rng_f32(&n->rng) - 0.5;
    const rq_id w = build_const(n->g, name_of(n, name), RQ_DTYPE_F32, 4, dim, v);
    annotate(n->g, w, RQ_DTYPE_S8, 1 / 254.0f, 0);
    const rq_id y = node(n, "Conv", 2, (rq_id[]) { x, w });
    ints(n, "strides", 2, (int64_t[]) { stride, stride });
    ints(n, "pads", 4, (int64_t[]) { pad, pad, pad, pad });
    assert_int_equal(rq_attr_set_int(n->g, n->g->n_nodes - 1, "group", group), RQ_OK);
    return on_codes(n, y, 4, 4);
}

static rq_id relu(net *n, rq_id x)
{
    return on_codes(n, node(n, "Relu", 1, &x), 0, 3);
}

static rq_id add(net *n, rq_id x, rq_id y)
{
    return on_codes(n, node(n, "Add", 2, (rq_id[]) { x, y }), 4, 4);
}

static rq_id hard_swish(net *n, rq_id x)
{
    return on_codes(n, node(n, "HardSwish", 1, &x), 0.375F, 4);
}

static rq_id concat(net *n, int axis, int n_in, const rq_id *in)
{
    const rq_id y = on_codes(n, node(n, "Concat", n_in, in), 3, 4);
    assert_int_equal(rq_attr_set_int(n->g, n->g->n_nodes - 1, "axis", axis), RQ_OK);
    return y;
}

static rq_id pool(net *n, rq_id x)
{
    const rq_id y = node(n, "MaxPool", 1, &x);
    n->g->values[y].quant = n->g->values[x].quant;
    ints(n, "kernel_shape", 2, (int64_t[]) { 3, 3 });
    ints(n, "pads", 4, (int64_t[]) { 1, 1, 1, 1 });
    return y;
}

/* Mean, [n, c] by a view, and a product. */
static void head(net *n, rq_id x, int64_t c)
{
    double v[64 * 10];
    for (int i = 0; i < 640; i++)
        v[i] = (double)rq_rng_f32(&n->rng) - 0.5;
    const rq_id mean = on_codes(n, node(n, "GlobalAveragePool", 1, &x), 0, 2), flat = node(n, "Flatten", 1, &mean);
    n->g->values[flat].quant = n->g->values[mean].quant;
    const rq_id w = build_const(n->g, "head", RQ_DTYPE_F32, 2, (int64_t[]) { c, 10 }, v);
    annotate(n->g, w, RQ_DTYPE_S8, 1 / 254.0f, 0);
    build_output(n->g, on_codes(n, node(n, "MatMul", 2, (rq_id[]) { flat, w }), 5, 5));
}

/* What a network is like, and what its plan must be. */
typedef struct expected {
    void (*build)(net *n, rq_id x);
    bool nhwc;                               /* of the file's input */
    int copies, spread, apart, taken, steps; /* with u8 codes */
    int turns;                               /* of those, changes of the order on the way */
    bool crowded;                            /* most is in use at a place where nothing lies apart */
    int flips;                               /* steps more with s8 ones, whose top bit changes between the orders */
} expected;

static void run_net(const expected *e, bool s8)
{
    net n = { .d = s8 ? RQ_DTYPE_S8 : RQ_DTYPE_U8, .dim = { 2, 3, 12, 12 } };
    rq_rng_seed(&n.rng, 3);
    n.g = build_graph(17);
    if (e->nhwc)
        n.dim[1] = 12, n.dim[3] = 3;
    const rq_id x = on_codes(&n, build_input(n.g, "x", RQ_DTYPE_F32, 4, n.dim), 2, 2);
    e->build(&n, x);
    const rq_shape s = rq_shape_of(4, n.dim);
    rq_tensor t = random_reals(&n.rng, &s);
    ran want, got, alone;
    run_plan(n.g, RQ_PLAIN_NO_LAST | RQ_PLAIN_STEPS | RQ_PLAIN_PLACES, RQ_NONE, &t, &want);
    run_plan(n.g, RQ_PLAIN_PLACES, RQ_NONE, &t, &alone);
    run_plan(n.g, 0, RQ_NONE, &t, &got);
    assert_same(&want, &got);
    assert_same(&want, &alone);
    assert_int_equal(got.relayouts, e->turns + (s8 ? e->flips : 0));
    assert_int_equal(got.quantizes, 1);
    assert_int_equal(got.dequantizes, 1);
    assert_int_equal(got.copies, e->copies);
    assert_int_equal(got.spread, e->spread);
    assert_int_equal(got.apart, e->apart);
    assert_int_equal(got.taken, e->taken);
    assert_int_equal(got.steps, e->steps + (s8 ? e->flips : 0));
    assert_true(got.bytes <= alone.bytes - (e->crowded ? 0 : 64 * (size_t)e->spread));
    assert_true(alone.bytes <= want.bytes);
    release(&want), release(&got), release(&alone);
    rq_tensor_release(&t);
    rq_graph_destroy(n.g);
}

static void run_both(const expected *e)
{
    run_net(e, false);
    run_net(e, true);
}

/* ---- the networks ---- */

static void build_resnet(net *n, rq_id x)
{
    x = pool(n, relu(n, conv(n, x, 3, 16, 3, 1, 1)));
    for (int i = 0; i < 3; i++) {
        const int64_t stride = i == 1 ? 2 : 1;
        const rq_id side = i == 1 ? conv(n, x, 16, 16, 1, 2, 1) : x;
        const rq_id a = relu(n, conv(n, x, 16, 8, 1, 1, 1)), b = relu(n, conv(n, a, 8, 8, 3, stride, 1));
        x = relu(n, add(n, conv(n, b, 8, 16, 1, 1, 1), side));
    }
    head(n, x, 16);
}

static void resnet_changes_order_at_its_ends(void **state)
{
    (void)state;
    /* reals to codes, convolution, pool, three blocks of three and a side, mean, product, codes to reals; s8: the mean, n c codes */
    run_both(&(expected) { .build = build_resnet, .steps = 16, .flips = 1 });
}

/* x * HardSigmoid(conv(relu(conv(mean(x))))) */
static rq_id squeeze(net *n, rq_id x, int64_t c)
{
    const rq_id mean = on_codes(n, node(n, "GlobalAveragePool", 1, &x), 0, 2);
    const rq_id a = relu(n, conv(n, mean, c, 8, 1, 1, 1)), b = conv(n, a, 8, c, 1, 1, 1);
    const rq_id gate = on_codes(n, node(n, "HardSigmoid", 1, &b), 0, 1);
    return on_codes(n, node(n, "Mul", 2, (rq_id[]) { x, gate }), 2, 3);
}

static void build_mobilenet(net *n, rq_id x)
{
    x = hard_swish(n, conv(n, x, 3, 16, 3, 2, 1));
    for (int i = 0; i < 2; i++) {
        const rq_id up = hard_swish(n, conv(n, x, 16, 32, 1, 1, 1));
        const rq_id deep = hard_swish(n, conv(n, up, 32, 32, 3, 1, 32));
        x = add(n, x, conv(n, squeeze(n, deep, 32), 32, 16, 1, 1, 1));
    }
    head(n, hard_swish(n, conv(n, x, 16, 32, 1, 1, 1)), 32);
}

static void mobilenet_changes_order_at_its_ends(void **state)
{
    (void)state;
    /* a block: up, deep, mean, two products of the squeeze, the gate over what it scales, down */
    run_both(&(expected) { .build = build_mobilenet, .taken = 2, .steps = 1 + 1 + 2 * 7 + 1 + 2 + 1, .flips = 1 });
}

/* Each layer reads all before it; a transition ends the block. */
static void build_densenet(net *n, rq_id x)
{
    rq_id part[4] = { relu(n, conv(n, x, 3, 16, 3, 1, 1)) };
    part[1] = relu(n, conv(n, part[0], 16, 8, 3, 1, 1));
    part[2] = relu(n, conv(n, part[1], 8, 8, 5, 1, 8));
    part[3] = pool(n, part[2]);
    const rq_id both[2] = { relu(n, conv(n, part[0], 16, 12, 1, 1, 1)), relu(n, conv(n, part[3], 8, 20, 3, 1, 1)) };
    const rq_id y = concat(n, 1, 2, both);
    head(n, relu(n, conv(n, y, 32, 16, 1, 1, 1)), 16);
}

static void parts_are_made_in_the_whole(void **state)
{
    (void)state;
    /* two convolutions leave room for each other and change parameters as they write; nothing is copied */
    run_both(&(expected) { .build = build_densenet, .spread = 2, .steps = 11, .flips = 1 });
}

/* The parts of a Concat of one network have the parameters of what it makes, as the quantizer gives them. */
static rq_id alike(net *n, rq_id x, rq_id as)
{
    n->g->values[x].quant = n->g->values[as].quant;
    return x;
}

static void split(net *n, rq_id x, rq_id half[2])
{
    char name[16];
    rq_id id;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rq_graph_add_value(n->g, &half[i], RQ_VALUE_NODE, name_of(n, name), RQ_DTYPE_F32, NULL, NULL),
                         RQ_OK);
        alike(n, half[i], x);
    }
    assert_int_equal(rq_graph_add_node(n->g, &id, "Split", "", name_of(n, name), &x, 1, half, 2, NULL), RQ_OK);
    assert_int_equal(rq_attr_set_int(n->g, id, "axis", 1), RQ_OK);
}

/* As YOLO has them: halves of a product, and two bottlenecks with a residual, each of which the next one reads and the Concat, too. */
static void build_csp(net *n, rq_id x)
{
    rq_id part[4];
    x = relu(n, conv(n, x, 3, 16, 3, 1, 1));
    const rq_id as = hard_swish(n, conv(n, x, 16, 16, 1, 1, 1));
    split(n, as, part);
    for (int i = 1; i < 3; i++) {
        const rq_id a = relu(n, conv(n, part[i], 8, 8, 3, 1, 1)), b = conv(n, a, 8, 8, 3, 1, 1);
        part[i + 1] = alike(n, add(n, part[i], b), as);
    }
    x = alike(n, concat(n, 1, 4, part), as);
    head(n, relu(n, conv(n, x, 32, 16, 1, 1, 1)), 16);
}

static void blocks_of_parts_are_made_in_one_place(void **state)
{
    (void)state;
    /* nothing is cut and nothing is put together: three steps leave room, two read channels among others and two add them */
    run_both(&(expected) { .build = build_csp, .spread = 3, .apart = 4, .steps = 1 + 2 + 4 + 1 + 2 + 1, .flips = 1 });
}

/* As ShuffleNet: one half goes through products, the other as it is; then channels change places. */
static void build_shuffle(net *n, rq_id x)
{
    x = relu(n, conv(n, x, 3, 16, 3, 1, 1));
    for (int i = 0; i < 2; i++) {
        rq_id half[2];
        split(n, x, half);
        const rq_id a = relu(n, conv(n, half[1], 8, 8, 1, 1, 1)), b = conv(n, a, 8, 8, 3, 1, 8);
        half[1] = alike(n, relu(n, conv(n, b, 8, 8, 1, 1, 1)), x);
        x = alike(n, concat(n, 1, 2, half), x);
        const rq_id apart = build_const(n->g, i ? "apart1" : "apart0", RQ_DTYPE_S64, 1, (int64_t[]) { 5 },
                                        (double[]) { 2, 2, 8, 12, 12 }),
                    back = build_const(n->g, i ? "back1" : "back0", RQ_DTYPE_S64, 1, (int64_t[]) { 4 },
                                       (double[]) { 2, 16, 12, 12 });
        rq_id y = alike(n, node(n, "Reshape", 2, (rq_id[]) { x, apart }), x);
        y = alike(n, node(n, "Transpose", 1, &y), x);
        ints(n, "perm", 5, (int64_t[]) { 0, 2, 1, 3, 4 });
        x = alike(n, node(n, "Reshape", 2, (rq_id[]) { y, back }), x);
    }
    head(n, relu(n, conv(n, x, 16, 16, 1, 1, 1)), 16);
}

/* As a feature pyramid: a map made larger, one moved into a frame, and a residual. */
static void build_neck(net *n, rq_id x)
{
    const rq_id low = relu(n, conv(n, x, 3, 16, 3, 2, 1)), fine = relu(n, conv(n, x, 3, 8, 3, 1, 1));
    const rq_id sizes = build_const(n->g, "sizes", RQ_DTYPE_S64, 1, (int64_t[]) { 4 }, (double[]) { 2, 16, 12, 12 }),
                pads = build_const(n->g, "pads", RQ_DTYPE_S64, 1, (int64_t[]) { 8 },
                                   (double[]) { 0, 0, 1, 1, 0, 0, 1, 1 });
    rq_id part[3] = { alike(n, node(n, "Resize", 4, (rq_id[]) { low, RQ_NONE, RQ_NONE, sizes }), low) };
    const rq_id inner = alike(n, node(n, "MaxPool", 1, &fine), low);
    ints(n, "kernel_shape", 2, (int64_t[]) { 3, 3 });
    part[1] = alike(n, node(n, "Pad", 2, (rq_id[]) { inner, pads }), low);
    part[2] = alike(n, add(n, fine, conv(n, fine, 8, 8, 1, 1, 1)), low);
    const rq_id y = alike(n, concat(n, 1, 3, part), low);
    head(n, relu(n, conv(n, y, 32, 16, 1, 1, 1)), 16);
}

static void larger_maps_frames_and_residuals_are_parts(void **state)
{
    (void)state;
    /* two products of x, Resize, MaxPool, Pad, the residual, the product of all */
    run_both(&(expected) { .build = build_neck, .spread = 3, .steps = 1 + 2 + 4 + 1 + 2 + 1, .flips = 1 });
}

static void halves_are_read_where_they_are(void **state)
{
    (void)state;
    /* the first Split is gone, and its Concat copies the half that nobody makes; a shuffle is in the order of the file, and the second Split behind it */
    run_both(&(expected) { .build = build_shuffle,
                           .copies = 5,
                           .spread = 1,
                           .apart = 3,
                           .steps = 21,
                           .turns = 4,
                           .crowded = true,
                           .flips = 1 });
}

/* Rows that can take either order stand before the first convolution: reals are rounded to the order that it wants. */
static void build_late(net *n, rq_id x)
{
    x = pool(n, hard_swish(n, x));
    const rq_id lo = build_const(n->g, "lo", RQ_DTYPE_S64, 1, (int64_t[]) { 2 }, (double[]) { 0, -100 }),
                hi = build_const(n->g, "hi", RQ_DTYPE_S64, 1, (int64_t[]) { 2 }, (double[]) { 100, 12 });
    const rq_id all = node(n, "Slice", 3, (rq_id[]) { x, lo, hi }); /* of the first two axes, all there is */
    n->g->values[all].quant = n->g->values[x].quant;
    head(n, relu(n, conv(n, all, 3, 16, 3, 1, 1)), 16);
}

static void reals_are_rounded_to_the_order_that_is_wanted(void **state)
{
    (void)state;
    /* reals to codes, a table, pool, convolution, mean, product, codes to reals; the table works in place */
    run_both(&(expected) { .build = build_late, .taken = 1, .steps = 7, .flips = 1 });
}

/* A file of another system: its pictures lie channels-last, and so does the code of its convolutions, between two Transposes each. */
static void build_turned(net *n, rq_id x)
{
    for (int i = 0; i < 2; i++) {
        const rq_id in = node(n, "Transpose", 1, &x);
        n->g->values[in].quant = n->g->values[x].quant;
        ints(n, "perm", 4, (int64_t[]) { 0, 3, 1, 2 });
        const rq_id y = relu(n, conv(n, in, i ? 16 : 3, 16, 3, 1, 1));
        x = node(n, "Transpose", 1, &y);
        n->g->values[x].quant = n->g->values[y].quant;
        ints(n, "perm", 4, (int64_t[]) { 0, 2, 3, 1 });
    }
    const rq_id shape = build_node(n->g, "Shape", "shape", RQ_DTYPE_S64, 1, &x);
    build_output(n->g, shape);
    build_output(n->g, x);
}

static void files_that_lie_so_are_not_turned(void **state)
{
    (void)state;
    run_both(&(expected) { .build = build_turned, .nhwc = true, .steps = 4, .flips = 4 });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resnet_changes_order_at_its_ends),
        cmocka_unit_test(mobilenet_changes_order_at_its_ends),
        cmocka_unit_test(parts_are_made_in_the_whole),
        cmocka_unit_test(reals_are_rounded_to_the_order_that_is_wanted),
        cmocka_unit_test(files_that_lie_so_are_not_turned),
        cmocka_unit_test(blocks_of_parts_are_made_in_one_place),
        cmocka_unit_test(halves_are_read_where_they_are),
        cmocka_unit_test(larger_maps_frames_and_residuals_are_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
