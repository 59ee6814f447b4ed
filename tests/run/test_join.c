/* tests/run/test_join.c — which parts of a Concat are made in its place (run/plan_join.c), and which may not be: for each condition a graph in which it alone stands
 * in the way. Bits are those of a plan with a place for each, and what is copied and what leaves room between pixels is counted exactly. */
#include "run/net_help.h"

typedef struct expected {
    void (*build)(net *n);
    int copies, spread, posts; /* Concats that are left; parts side by side; tables behind products */
} expected;

static void run_both(const expected *e)
{
    for (int s8 = 0; s8 < 2; s8++) {
        const ran got = run_built(e->build, s8 ? RQ_DTYPE_S8 : RQ_DTYPE_U8, false, 0);
        if (got.copies != e->copies || got.spread != e->spread || got.posts != e->posts)
            fail_msg("%d copies, %d spread, %d posts; expected %d, %d, %d", got.copies, got.spread, got.posts,
                     e->copies, e->spread, e->posts);
    }
}

/* ---- one behind the other, side by side ---- */

static void build_behind(net *n)
{
    const rq_id a = product(n, n->x), b = other(n);
    build_output(n->g, like(n, concat(n, 0, 2, (rq_id[]) { a, like(n, b, a) }), a));
}

static void build_beside(net *n)
{
    const rq_id a = product(n, n->x), b = product(n, other(n));
    build_output(n->g, concat(n, 1, 2, (rq_id[]) { a, b }));
}

/* Rows of an image: neither. */
static void build_rows(net *n)
{
    const rq_id a = product(n, n->x), b = product(n, other(n));
    build_output(n->g, concat(n, 2, 2, (rq_id[]) { a, b }));
}

static void build_beside_pair(net *n)
{
    const rq_id a = product(n, n->x), b = pair(n);
    build_output(n->g, like(n, concat(n, 1, 2, (rq_id[]) { a, like(n, b, a) }), a));
}

static void parts_are_made_in_the_whole(void **state)
{
    (void)state;
    run_both(&(expected) { build_behind, .copies = 0 }); /* whoever makes them */
    run_both(&(expected) { build_beside, .copies = 0, .spread = 2, .posts = 2 });
    run_both(&(expected) { build_rows, .copies = 1 });
    run_both(&(expected) { build_beside_pair, .copies = 1, .spread = 1 });
}

/* Functions of codes that two read are steps of their own; they leave room, and change the parameters by another table. */
static void build_tables(net *n)
{
    const rq_id o = other(n), a = node(n, "Sigmoid", 1, &o), b = node(n, "Tanh", 1, &o);
    build_output(n->g, concat(n, 1, 2, (rq_id[]) { a, b }));
}

/* Of codes of two bytes: tables that are none of bytes, which a Concat looks up once more. */
static void build_wide(net *n, int axis)
{
    char name[16];
    const rq_id in[2] = { product(n, n->x), n->x };
    const rq_id o = as_codes(n, build_node(n->g, "Mul", name_of(n, name), RQ_DTYPE_F32, 2, in), RQ_DTYPE_U16);
    const rq_id a = node(n, "Sigmoid", 1, &o), b = node(n, "Tanh", 1, &o);
    build_output(n->g, concat(n, axis, 2, (rq_id[]) { a, b }));
}

static void build_wide_behind(net *n)
{
    build_wide(n, 0);
}

static void build_wide_beside(net *n)
{
    build_wide(n, 1);
}

static void tables_leave_room(void **state)
{
    (void)state;
    run_both(&(expected) { build_tables, .copies = 0, .spread = 2 });
    assert_int_equal(run_built(build_tables, RQ_DTYPE_U8, false, 0).taken, 0); /* they have a place */
    run_both(&(expected) { build_wide_beside, .copies = 1 });
    run_both(&(expected) { build_wide_behind, .copies = 1 });
}

/* ---- parts that others read ---- */

/* Behind, with the whole's parameters, a part may be read by others, too. */
static void build_read_twice(net *n)
{
    const rq_id a = product(n, n->x), b = product(n, other(n));
    build_output(n->g, like(n, concat(n, 0, 2, (rq_id[]) { a, like(n, b, a) }), a));
    build_output(n->g, node(n, "Mul", 2, (rq_id[]) { a, a }));
}

static void build_read_twice_beside(net *n)
{
    const rq_id a = product(n, n->x), b = product(n, other(n));
    build_output(n->g, concat(n, 1, 2, (rq_id[]) { a, b }));
    build_output(n->g, node(n, "Mul", 2, (rq_id[]) { a, a }));
}

/* Not where its parameters would change. */
static void build_read_twice_changed(net *n)
{
    const rq_id a = product(n, n->x), b = product(n, other(n));
    build_output(n->g, concat(n, 0, 2, (rq_id[]) { a, b }));
    build_output(n->g, node(n, "Mul", 2, (rq_id[]) { a, a }));
}

static void build_same_part(net *n)
{
    const rq_id a = product(n, n->x);
    build_output(n->g, like(n, concat(n, 0, 2, (rq_id[]) { a, a }), a));
}

static void build_same_part_beside(net *n)
{
    const rq_id a = product(n, n->x);
    build_output(n->g, like(n, concat(n, 1, 2, (rq_id[]) { a, a }), a));
}

/* In two wholes: it lies in one. */
static void build_two_wholes(net *n)
{
    const rq_id a = product(n, n->x), b = like(n, product(n, other(n)), a), c = like(n, other(n), a);
    build_output(n->g, like(n, concat(n, 0, 2, (rq_id[]) { a, b }), a));
    build_output(n->g, like(n, concat(n, 0, 2, (rq_id[]) { c, a }), a));
}

static void who_else_reads_a_part_reads_what_it_was(void **state)
{
    (void)state;
    run_both(&(expected) { build_read_twice, .copies = 0 });
    run_both(&(expected) { build_read_twice_beside, .copies = 1, .spread = 1, .posts = 1 });
    run_both(&(expected) { build_read_twice_changed, .copies = 1, .posts = 1 });
    run_both(&(expected) { build_same_part, .copies = 1 });
    run_both(&(expected) { build_same_part_beside, .copies = 1 });
    run_both(&(expected) { build_two_wholes, .copies = 1 });
}

/* o is the second operand of a sum behind a, which no step reads. */
static void build_operand(net *n)
{
    const rq_id o = product(n, other(n)), a = product(n, n->x), y = add(n, a, o);
    build_output(n->g, concat(n, 1, 2, (rq_id[]) { o, product(n, y) }));
}

/* The same, as it is in the whole: it is added from there. */
static void build_operand_alike(net *n)
{
    const rq_id o = product(n, other(n)), a = product(n, n->x), y = add(n, a, o);
    build_output(n->g, like(n, concat(n, 1, 2, (rq_id[]) { o, like(n, product(n, y), o) }), o));
}

/* A part whose product adds what lies without room. */
static void build_sum_beside(net *n)
{
    const rq_id o = other(n), a = add(n, product(n, n->x), o), b = product(n, o);
    build_output(n->g, concat(n, 1, 2, (rq_id[]) { a, b }));
}

static void operands_of_sums_lie_with_room_or_without(void **state)
{
    (void)state;
    run_both(&(expected) { build_operand, .copies = 1, .spread = 1, .posts = 2 });
    run_both(&(expected) { build_operand_alike, .copies = 0, .spread = 2, .posts = 1 });
    run_both(&(expected) { build_sum_beside, .copies = 0, .spread = 2, .posts = 3 });
}

/* NonZero ends a segment: what stands behind it reads a as it is, and puts b, which the first one made, beside what it makes. */
static rq_id later(net *n)
{
    const rq_id at = build_node(n->g, "NonZero", "at", RQ_DTYPE_S64, 1, &n->x);
    return build_node(n->g, "Shape", "count", RQ_DTYPE_S64, 1, &at);
}

static void build_kept_beside(net *n)
{
    const rq_id a = product(n, n->x), b = like(n, product(n, other(n)), a);
    build_output(n->g, like(n, concat(n, 1, 2, (rq_id[]) { a, b }), a));
    build_output(n->g, later(n));
    build_output(n->g, product(n, a));
}

static void build_kept_changed(net *n)
{
    const rq_id a = product(n, n->x), b = product(n, other(n));
    build_output(n->g, concat(n, 0, 2, (rq_id[]) { a, b }));
    build_output(n->g, later(n));
    build_output(n->g, product(n, a));
}

static void build_made_before(net *n)
{
    const rq_id a = product(n, n->x), b = like(n, product(n, other(n)), a);
    build_output(n->g, later(n));
    build_output(n->g, product(n, b));
    build_output(n->g, like(n, concat(n, 0, 2, (rq_id[]) { a, like(n, product(n, b), a) }), a));
}

static void segments_leave_each_others_codes_alone(void **state)
{
    (void)state;
    run_both(&(expected) { build_kept_beside, .copies = 1, .spread = 1 });
    run_both(&(expected) { build_kept_changed, .copies = 1, .posts = 1 });
    run_both(&(expected) { build_made_before, .copies = 1 });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_are_made_in_the_whole),
        cmocka_unit_test(tables_leave_room),
        cmocka_unit_test(who_else_reads_a_part_reads_what_it_was),
        cmocka_unit_test(operands_of_sums_lie_with_room_or_without),
        cmocka_unit_test(segments_leave_each_others_codes_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
