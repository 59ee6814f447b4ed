/* tests/ops/test_edges.c — operators at sizes that few files have and a hostile one may: room made for more than comes,
 * sums that leave their type, chains that are long. */
#include "build.h"
#include "ops/op.h"
#include "ops/packs.h"
#include "ops/sequence.h"

enum { MAX_IN = 9 };

/* A node of com.microsoft with one output, and its tensors. */
typedef struct fixture {
    rq_graph *g;
    rq_id node;
    rq_tensor in[MAX_IN], out;
} fixture;

static void start(fixture *f, const char *op, int n_in)
{
    rq_id in[MAX_IN], y;
    *f = (fixture) { .g = build_graph(17) };
    assert_int_equal(rq_graph_set_opset(f->g, "com.microsoft", 1), RQ_OK);
    for (int i = 0; i < n_in; i++)
        assert_int_equal(rq_graph_add_value(f->g, &in[i], RQ_VALUE_INPUT, "", RQ_DTYPE_NONE, NULL, NULL), RQ_OK);
    assert_int_equal(rq_graph_add_value(f->g, &y, RQ_VALUE_NODE, "y", RQ_DTYPE_F32, NULL, NULL), RQ_OK);
    assert_int_equal(rq_graph_add_node(f->g, &f->node, op, "com.microsoft", "n", in, n_in, &y, 1, NULL), RQ_OK);
    rq_ops_bind(f->g);
    assert_non_null(f->g->nodes[f->node].row);
}

static void set_int(fixture *f, const char *name, int64_t v)
{
    assert_int_equal(rq_attr_set_int(f->g, f->node, name, v), RQ_OK);
}

static rq_tensor *add(rq_tensor *t, rq_dtype d, int rank, const int64_t *dim)
{
    const rq_shape s = rq_shape_of(rank, dim);
    assert_int_equal(rq_tensor_create(t, d, &s, true), RQ_OK);
    return t;
}

static void call(fixture *f)
{
    const rq_node *n = &f->g->nodes[f->node];
    const rq_op *row = n->row;
    const rq_tensor *in[MAX_IN];
    rq_tensor *out = &f->out;
    rq_kernels k;
    rq_err err = { 0 };
    rq_kernels_init(&k, 0);
    for (int i = 0; i < n->n_in; i++)
        in[i] = &f->in[i];
    rq_packs packs = { 0 };
    rq_op_args a = { .graph = f->g,
                     .node = n,
                     .opset = 1,
                     .in = in,
                     .out = &out,
                     .n_in = n->n_in,
                     .n_out = 1,
                     .k = &k,
                     .packs = &packs,
                     .err = &err };
    if (row->prepare)
        assert_int_equal(row->prepare(&a, &a.state), RQ_OK);
    a.scratch = rq_mem_alloc(row->scratch ? row->scratch(&a, false) : 0, 1);
    if (row->forward(&a))
        fail_msg("%s", err.text);
    rq_mem_free(a.scratch);
    if (a.state && row->release)
        row->release(a.state);
    rq_packs_release(&packs);
}

static void finish(fixture *f)
{
    for (int i = 0; i < MAX_IN; i++)
        rq_tensor_release(&f->in[i]);
    rq_tensor_release(&f->out);
    rq_graph_destroy(f->g);
}

/* 64 new rows after 4032 old ones, which lie in a buffer of `room` rows. */
static void attend(fixture *f, int64_t room)
{
    enum { ROWS = 64, OLD = 4032, SIZE = 8 };
    const int64_t now[] = { 1, ROWS, SIZE }, past[] = { 1, 1, room, SIZE }, angles[] = { ROWS + OLD, SIZE / 2 };
    start(f, "GroupQueryAttention", 9);
    set_int(f, "num_heads", 1);
    set_int(f, "kv_num_heads", 1);
    set_int(f, "do_rotary", 1);
    for (int i = 0; i < 3; i++) {
        add(&f->in[i], RQ_DTYPE_F32, 3, now);
        for (int64_t k = 0; k < ROWS * SIZE; k++)
            f->in[i].f32[k] = (float)((k * 7 + i * 5) % 23) / 16 - 0.5f;
    }
    for (int i = 3; i < 5; i++) {
        add(&f->in[i], RQ_DTYPE_F32, 4, past);
        for (int64_t k = 0; k < OLD * SIZE; k++)
            f->in[i].f32[k] = (float)((k * 11 + i * 3) % 29) / 16 - 0.75f;
    }
    add(&f->in[5], RQ_DTYPE_S32, 1, (int64_t[]) { 1 })->s32[0] = OLD + ROWS - 1;
    add(&f->in[6], RQ_DTYPE_S32, 1, (int64_t[]) { 1 })->s32[0] = OLD + ROWS;
    for (int i = 7; i < 9; i++) {
        add(&f->in[i], RQ_DTYPE_F32, 2, angles);
        for (int64_t k = 0; k < rq_tensor_count(&f->in[i]); k++)
            f->in[i].f32[k] = (float)((k * 5 + i) % 17) / 16 - 0.5f;
    }
    add(&f->out, RQ_DTYPE_F32, 3, now);
    call(f);
}

/* Blocks of queries get larger as keys get fewer: what a block needs must not outgrow the room made for all keys. */
static void a_buffer_that_is_not_full_changes_nothing(void **state)
{
    (void)state;
    fixture a, b;
    attend(&a, 4032);
    attend(&b, 7904);
    assert_memory_equal(a.out.data, b.out.data, a.out.bytes);
    finish(&a);
    finish(&b);
}

/* 254 * 127 * 2^17 leaves s32: integers must not be asked for. */
static void a_sum_over_a_very_long_block_is_right(void **state)
{
    (void)state;
    const int64_t depth = 1 << 17;
    fixture f;
    start(&f, "MatMulNBits", 4);
    set_int(&f, "K", depth);
    set_int(&f, "N", 1);
    set_int(&f, "bits", 8);
    set_int(&f, "block_size", depth);
    set_int(&f, "accuracy_level", 4);
    add(&f.in[0], RQ_DTYPE_F32, 2, (int64_t[]) { 1, depth });
    add(&f.in[1], RQ_DTYPE_U8, 3, (int64_t[]) { 1, 1, depth });
    for (int64_t i = 0; i < depth; i++) {
        f.in[0].f32[i] = 1;
        f.in[1].u8[i] = 254;
    }
    add(&f.in[2], RQ_DTYPE_F32, 1, (int64_t[]) { 1 })->f32[0] = 0.5f;
    add(&f.in[3], RQ_DTYPE_U8, 1, (int64_t[]) { 1 })->u8[0] = 0;
    add(&f.out, RQ_DTYPE_F32, 2, (int64_t[]) { 1, 1 });
    call(&f);
    assert_true(f.out.f32[0] == (float)(127 * depth)); /* exact in floats, too */
    finish(&f);
}

/* As many Optionals in each other as a file can hold: no stack is as deep. */
static void optionals_in_optionals_are_seen_through(void **state)
{
    (void)state;
    enum { DEEP = 300000 };
    rq_graph *g = build_graph(18);
    rq_id x = build_input(g, "x", RQ_DTYPE_F32, 1, (int64_t[]) { 3 });
    for (int i = 0; i < DEEP; i++)
        x = build_node(g, "Optional", "", RQ_DTYPE_NONE, 1, &x);
    x = build_node(g, "OptionalGetElement", "y", RQ_DTYPE_NONE, 1, &x);
    build_output(g, x);
    int n = 0;
    assert_int_equal(rq_sequence_dissolve(g, &n, NULL), RQ_OK);
    assert_int_equal(n, 1);
    assert_int_equal(count_op(g, "Optional"), 0);
    assert_int_equal(count_op(g, "Identity"), 1);
    rq_graph_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_that_is_not_full_changes_nothing),
        cmocka_unit_test(a_sum_over_a_very_long_block_is_right),
        cmocka_unit_test(optionals_in_optionals_are_seen_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
