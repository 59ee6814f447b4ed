/* tests/ops/test_samples.c — the rules by which a row says that it treats samples one by one (ops/samples.h), each asked by itself, for each condition one question in
 * which it alone decides. In a graph most are asked twice: an output whose axis 0 is not the samples is refused before its rule is asked
 * (run/test_batch.c runs such graphs). */
#include "ops/samples.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ops/build.h"

typedef bool rule_fn(const rq_samples_args *a);

typedef struct given {
    rq_samples of;
    bool out; /* left out */
    int rank;
    int64_t dim[5];
    int n; /* of content, s64; 0: it is not known */
    int64_t content[8];
} given;

enum { OPEN = -2 }; /* axis 0 of what has the samples */

#define ROWS(...)                                                                                                      \
    {                                                                                                                  \
        .of = RQ_SAMPLES_ROWS, .rank = 1 + COUNT_OF(__VA_ARGS__), .dim = { OPEN, __VA_ARGS__ }                         \
    }
#define ROWS_ALONE                                                                                                     \
    {                                                                                                                  \
        .of = RQ_SAMPLES_ROWS, .rank = 1, .dim = { OPEN }                                                              \
    }
#define FIXED(...)                                                                                                     \
    {                                                                                                                  \
        .rank = COUNT_OF(__VA_ARGS__), .dim = { __VA_ARGS__ }                                                          \
    }
#define NUMBER                                                                                                         \
    {                                                                                                                  \
        .rank = 0                                                                                                      \
    }
#define LIST(...)                                                                                                      \
    {                                                                                                                  \
        .rank = 1, .dim = { COUNT_OF(__VA_ARGS__) }, .n = COUNT_OF(__VA_ARGS__), .content = { __VA_ARGS__ }            \
    }
#define NUMBERS_OF(count)                                                                                              \
    {                                                                                                                  \
        .rank = 1, .dim = { count }                                                                                    \
    } /* which, nobody knows */
#define SAMPLE_COUNT                                                                                                   \
    {                                                                                                                  \
        .of = RQ_SAMPLES_COUNT, .rank = 1, .dim = { 1 }                                                                \
    }
#define OUT                                                                                                            \
    {                                                                                                                  \
        .out = true                                                                                                    \
    }
#define COUNT_OF(...) ((int)(sizeof((int64_t[]) { __VA_ARGS__ }) / sizeof(int64_t)))
#define END INT64_MAX

typedef struct question {
    bool yes;
    rule_fn *rule;
    int rank; /* of the output */
    int n_in;
    given in[5];
    struct {
        const char *name, *text;
        int n; /* a list; 0: the number v[0], or text */
        int64_t v[8];
    } attr[3];
} question;

#define IN(...) .n_in = (int)(sizeof((given[]) { __VA_ARGS__ }) / sizeof(given)), .in = { __VA_ARGS__ }

static bool ask(const question *q)
{
    rq_graph *g = build_graph(18);
    rq_id in[5], y;
    rq_tensor t[5] = { 0 };
    const rq_tensor *view[5];
    rq_samples of[5];
    for (int i = 0; i < q->n_in; i++) {
        const given *x = &q->in[i];
        char name[2] = { (char)('a' + i), 0 };
        in[i] = x->out ? RQ_NONE : build_input(g, name, RQ_DTYPE_F32, 0, NULL);
        of[i] = x->of;
        t[i].dtype = x->n ? RQ_DTYPE_S64 : RQ_DTYPE_F32;
        t[i].shape = x->rank < 0 ? rq_shape_unknown() : rq_shape_of(x->rank, x->dim);
        t[i].data = x->n ? (void *)(uintptr_t)x->content : NULL;
        view[i] = x->out ? NULL : &t[i];
    }
    y = build_node(g, "Any", "y", RQ_DTYPE_F32, q->n_in, in);
    const rq_id n = g->values[y].producer;
    for (int i = 0; i < 3 && q->attr[i].name; i++)
        assert_int_equal(q->attr[i].text ? rq_attr_set_string(g, n, q->attr[i].name, q->attr[i].text)
                         : q->attr[i].n  ? rq_attr_set_ints(g, n, q->attr[i].name, q->attr[i].v, q->attr[i].n)
                                         : rq_attr_set_int(g, n, q->attr[i].name, q->attr[i].v[0]),
                         RQ_OK);
    const rq_shape out = rq_shape_of(q->rank, (int64_t[]) { OPEN, 2, 2, 2, 2 });
    const rq_samples_args a = { .infer = { .graph = g,
                                           .node = &g->nodes[n],
                                           .opset = 18,
                                           .in = view,
                                           .n_in = q->n_in,
                                           .out_shape = (rq_shape *)&out,
                                           .n_out = 1 },
                                .of = of };
    const bool yes = q->rule(&a);
    rq_graph_destroy(g);
    return yes;
}

static void check(const question *q, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ask(&q[i]) != q[i].yes)
            fail_msg("question %d of %d: the rule says %s", (int)i + 1, (int)n, q[i].yes ? "no" : "yes");
}

#define CHECK(...)                                                                                                     \
    do {                                                                                                               \
        static const question q[] = { __VA_ARGS__ };                                                                   \
        check(q, sizeof q / sizeof *q);                                                                                \
    } while (0)

#define YES .yes = true, .rule =
#define NO .rule =

static void elementwise(void **state)
{
    (void)state;
    CHECK({ YES rq_samples_each, 3, IN(ROWS(4, 6), ROWS(4, 6)) },
          { YES rq_samples_each, 3, IN(ROWS(4, 6), FIXED(4, 6)) },
          { YES rq_samples_each, 3, IN(FIXED(1, 4, 6), ROWS(4, 6)) },
          { YES rq_samples_each, 3, IN(ROWS(4, 6), NUMBER) }, { YES rq_samples_each, 3, IN(ROWS(4, 6), OUT, FIXED(6)) },
          { NO rq_samples_each, 3, IN(ROWS(4, 6), ROWS(6)) },        /* its samples are spread along axis 1 */
          { NO rq_samples_each, 3, IN(ROWS(4, 6), FIXED(5, 4, 6)) }, /* one for each of five samples */
          { NO rq_samples_each, 3, IN(ROWS(4, 6), SAMPLE_COUNT) },
          { NO rq_samples_each, 3, IN(ROWS(4, 6), { .rank = -1 }) },
          { NO rq_samples_each, 3, IN(ROWS(4, 6), FIXED(1, 1, 4, 6)) });
}

static void the_first_input_has_the_samples(void **state)
{
    (void)state;
    CHECK({ YES rq_samples_first, 3, IN(ROWS(4, 6)) }, { YES rq_samples_first, 3, IN(ROWS(4, 6), FIXED(4), OUT) },
          { NO rq_samples_first, 3, IN(FIXED(4, 6)) }, { NO rq_samples_first, 3, IN(FIXED(4, 6), ROWS(4)) },
          { NO rq_samples_first, 3, IN(ROWS(4, 6), ROWS(4)) }, { NO rq_samples_first, 3, IN(ROWS(4, 6), SAMPLE_COUNT) },
          { NO rq_samples_first, 3, IN(ROWS(4, 6), FIXED(4), ROWS(4)) }, { NO rq_samples_first, 3, IN(SAMPLE_COUNT) },
          { YES rq_samples_order, 2, IN(ROWS(4, 6), LIST(0, -1)) },
          { YES rq_samples_order, 2, IN(ROWS(4, 6), SAMPLE_COUNT) }, { YES rq_samples_order, 2, IN(ROWS(4, 6)) },
          { NO rq_samples_order, 2, IN(ROWS(4, 6), ROWS_ALONE) },
          { NO rq_samples_order, 2, IN(FIXED(4, 6), LIST(0, -1)) },
          { NO rq_samples_order, 2, IN(FIXED(4, 6), SAMPLE_COUNT) });
}

static void along_an_axis(void **state)
{
    (void)state;
    CHECK({ YES rq_samples_within, 3, IN(ROWS(4, 6)) },
          { NO rq_samples_within, 1, IN(ROWS_ALONE) }, /* the last axis is the first */
          { YES rq_samples_within, 3, IN(ROWS(4, 6)), { { "axis", .v = { 1 } } } },
          { NO rq_samples_within, 3, IN(ROWS(4, 6)), { { "axis", .v = { 0 } } } },
          { NO rq_samples_within, 3, IN(ROWS(4, 6)), { { "axis", .v = { -3 } } } },
          { NO rq_samples_within, 3, IN(ROWS(4, 6)), { { "axis", .v = { 3 } } } },
          { NO rq_samples_within, 3, IN(ROWS(4, 6), ROWS(4)), { { "axis", .v = { 1 } } } },
          { NO rq_samples_along, 3, IN(ROWS(4, 6)) },
          { YES rq_samples_along, 3, IN(ROWS(4, 6)), { { "axis", .v = { 2 } } } },
          { NO rq_samples_along, 3, IN(ROWS(4, 6)), { { "axis", .v = { -3 } } } },
          { NO rq_samples_along, 3, IN(ROWS(4, 6), ROWS(4)), { { "axis", .v = { 2 } } } },
          { NO rq_samples_along, 3, IN(FIXED(4, 6)), { { "axis", .v = { 1 } } } },
          { YES rq_samples_join, 3, IN(ROWS(4, 6), ROWS(4, 6)), { { "axis", .v = { 1 } } } },
          { NO rq_samples_join, 3, IN(ROWS(4, 6), ROWS(4, 6)), { { "axis", .v = { 0 } } } },
          { NO rq_samples_join, 3, IN(ROWS(4, 6), ROWS(4, 6)) },
          { NO rq_samples_join, 3, IN(ROWS(4, 6), FIXED(7, 4, 6)), { { "axis", .v = { 1 } } } },
          { NO rq_samples_join, 3, IN(FIXED(7, 4, 6), ROWS(4, 6)), { { "axis", .v = { 1 } } } });
}

/* All of axis 0, in its order. */
static void cut(void **state)
{
    (void)state;
    CHECK({ YES rq_samples_slice, 3, IN(ROWS(4, 6), LIST(1), LIST(3), LIST(1)) },
          { YES rq_samples_slice, 3, IN(ROWS(4, 6), LIST(0), LIST(END), LIST(0)) },
          { YES rq_samples_slice, 3, IN(ROWS(4, 6), LIST(0), LIST(RQ_SAMPLES_MOST), LIST(0)) },
          { NO rq_samples_slice, 3, IN(ROWS(4, 6), LIST(0), LIST(RQ_SAMPLES_MOST - 1), LIST(0)) },
          { NO rq_samples_slice, 3, IN(ROWS(4, 6), LIST(1), LIST(END), LIST(0)) },
          { NO rq_samples_slice, 3, IN(ROWS(4, 6), LIST(0), LIST(END), LIST(-3), LIST(2)) },
          { NO rq_samples_slice, 3, IN(ROWS(4, 6), LIST(0), LIST(-1), LIST(-3)) },
          { YES rq_samples_slice, 3, IN(ROWS(4, 6), LIST(0), LIST(END), LIST(0), LIST(1)) },
          { YES rq_samples_slice, 3, IN(ROWS(4, 6), LIST(5), LIST(END), LIST(2), LIST(-1)) },
          { NO rq_samples_slice, 3, IN(ROWS(4, 6), LIST(1, 0), LIST(3, 5), LIST(1, 0)) },
          { YES rq_samples_slice, 3, IN(ROWS(4, 6), LIST(0, 1), LIST(END, 3)) }, /* axes 0 and 1 */
          { NO rq_samples_slice, 3, IN(ROWS(4, 6), LIST(1), LIST(3)) },
          { NO rq_samples_slice, 3, IN(ROWS(4, 6), LIST(0), LIST(END), LIST(3)) },
          { NO rq_samples_slice, 3, IN(FIXED(5, 4, 6), LIST(1), LIST(3), LIST(1)) },
          { NO rq_samples_slice, 3, IN(ROWS(4, 6), SAMPLE_COUNT, LIST(3), LIST(1)) },
          { NO rq_samples_slice, 3, IN(ROWS(4, 6), NUMBERS_OF(1), LIST(3), LIST(1)) },
          { NO rq_samples_slice, 3, IN(ROWS(4, 6), LIST(1), NUMBERS_OF(1), LIST(1)) },
          { NO rq_samples_slice, 3, IN(ROWS(4, 6), LIST(1), LIST(3), NUMBERS_OF(1)) },
          { NO rq_samples_slice, 3, IN(ROWS(4, 6), LIST(1), LIST(3), LIST(1), NUMBERS_OF(1)) },
          { NO rq_samples_slice, 3, IN(ROWS(4, 6), LIST(1), LIST(3, 3), LIST(1)) },
          { NO rq_samples_slice, 3, IN(ROWS(4, 6), LIST(1), LIST(3), LIST(1, 1)) },
          /* lists as attributes, as before opset 10 */
          { YES rq_samples_slice,
            3,
            IN(ROWS(4, 6)),
            { { "starts", .n = 1, .v = { 1 } }, { "ends", .n = 1, .v = { 3 } }, { "axes", .n = 1, .v = { 1 } } } },
          { NO rq_samples_slice,
            3,
            IN(ROWS(4, 6)),
            { { "starts", .n = 1, .v = { 1 } }, { "ends", .n = 1, .v = { 3 } } } },
          { NO rq_samples_slice,
            3,
            IN(ROWS(4, 6)),
            { { "starts", .n = 1, .v = { 1 } }, { "ends", .n = 1, .v = { 3 } }, { "axes", .n = 1, .v = { 0 } } } });
}

static void axes_that_are_named(void **state)
{
    (void)state;
    CHECK({ YES rq_samples_reduce, 3, IN(ROWS(4, 6), LIST(-1, 1)) },
          { NO rq_samples_reduce, 3, IN(ROWS(4, 6), LIST(2, 0)) },
          { NO rq_samples_reduce, 3, IN(ROWS(4, 6), LIST(-3)) }, { NO rq_samples_reduce, 3, IN(ROWS(4, 6), LIST(3)) },
          { NO rq_samples_reduce, 3, IN(ROWS(4, 6)) }, { NO rq_samples_reduce, 3, IN(ROWS(4, 6), NUMBERS_OF(1)) },
          { NO rq_samples_reduce, 3, IN(FIXED(4, 6), LIST(1)) },
          { NO rq_samples_reduce, 3, IN(ROWS(4, 6), ROWS_ALONE) },
          { YES rq_samples_reduce, 3, IN(ROWS(4, 6)), { { "axes", .n = 2, .v = { 1, 2 } } } },
          { NO rq_samples_reduce, 3, IN(ROWS(4, 6)), { { "axes", .n = 2, .v = { 1, 0 } } } },
          { YES rq_samples_pad, 3, IN(ROWS(4, 6), LIST(0, 1, 2, 0, 3, 4)) },
          { NO rq_samples_pad, 3, IN(ROWS(4, 6), LIST(1, 0, 0, 0, 0, 0)) },
          { NO rq_samples_pad, 3, IN(ROWS(4, 6), LIST(0, 0, 0, -1, 0, 0)) },
          { NO rq_samples_pad, 3, IN(ROWS(4, 6), LIST(0, 1, 0, 1)) },
          { NO rq_samples_pad, 3, IN(ROWS(4, 6), NUMBERS_OF(6)) },
          { NO rq_samples_pad, 3, IN(FIXED(5, 4, 6), LIST(0, 1, 2, 0, 3, 4)) },
          { NO rq_samples_pad, 3, IN(ROWS(4, 6), LIST(0, 1, 2, 0, 3, 4), ROWS_ALONE) },
          { YES rq_samples_pad, 3, IN(ROWS(4, 6), LIST(1, 2), OUT, LIST(1)) },
          { NO rq_samples_pad, 3, IN(ROWS(4, 6), LIST(1, -1), OUT, LIST(0)) },
          { NO rq_samples_pad, 3, IN(ROWS(4, 6), LIST(0, 0, 0, 0, 0, 0), OUT, NUMBERS_OF(3)) },
          { YES rq_samples_pad, 3, IN(ROWS(4, 6)), { { "pads", .n = 6, .v = { 0, 1, 2, 0, 3, 4 } } } },
          { NO rq_samples_pad, 3, IN(ROWS(4, 6)), { { "pads", .n = 6, .v = { 0, 1, 2, 1, 3, 4 } } } },
          { YES rq_samples_transpose, 3, IN(ROWS(4, 6)), { { "perm", .n = 3, .v = { 0, 2, 1 } } } },
          { NO rq_samples_transpose, 3, IN(ROWS(4, 6)), { { "perm", .n = 3, .v = { 1, 0, 2 } } } },
          { NO rq_samples_transpose, 3, IN(ROWS(4, 6)) }, /* reversed */
          { NO rq_samples_transpose, 3, IN(FIXED(5, 4, 6)), { { "perm", .n = 3, .v = { 0, 2, 1 } } } });
}

static void picked(void **state)
{
    (void)state;
    CHECK({ YES rq_samples_gather, 3, IN(ROWS(4, 6), LIST(2, 0)), { { "axis", .v = { 1 } } } },
          { NO rq_samples_gather, 3, IN(ROWS(4, 6), LIST(2, 0)), { { "axis", .v = { 0 } } } },
          { NO rq_samples_gather, 3, IN(ROWS(4, 6), LIST(2, 0)) },
          { NO rq_samples_gather, 3, IN(FIXED(5, 6), LIST(2, 0)), { { "axis", .v = { 1 } } } },
          { YES rq_samples_gather, 3, IN(FIXED(5, 6), ROWS(4)) },
          { NO rq_samples_gather, 3, IN(FIXED(5, 6), ROWS(4)), { { "axis", .v = { 1 } } } },
          { NO rq_samples_gather, 3, IN(ROWS(4, 6), ROWS(4)) },
          { NO rq_samples_gather, 3, IN(ROWS(4, 6), ROWS(4)), { { "axis", .v = { 1 } } } },
          { NO rq_samples_gather, 3, IN(FIXED(5, 6), SAMPLE_COUNT) });
}

static void made_larger(void **state)
{
    (void)state;
    CHECK({ YES rq_samples_resize, 3, IN(ROWS(4, 6), OUT, FIXED(3)) },
          { YES rq_samples_resize, 3, IN(ROWS(4, 6), OUT, OUT, SAMPLE_COUNT) },
          { NO rq_samples_resize, 3, IN(FIXED(5, 4, 6), OUT, FIXED(3)) },
          { NO rq_samples_resize, 3, IN(ROWS(4, 6), ROWS_ALONE, FIXED(3)) },
          { NO rq_samples_resize, 3, IN(ROWS(4, 6), SAMPLE_COUNT, FIXED(3)) },
          { NO rq_samples_resize, 3, IN(ROWS(4, 6), OUT, ROWS_ALONE) },
          { NO rq_samples_resize, 3, IN(ROWS(4, 6), OUT, OUT, ROWS_ALONE) },
          { NO rq_samples_resize,
            3,
            IN(ROWS(4, 6), OUT, FIXED(3)),
            { { .name = "coordinate_transformation_mode", .text = "tf_crop_and_resize" } } },
          { YES rq_samples_resize,
            3,
            IN(ROWS(4, 6), OUT, FIXED(3)),
            { { .name = "coordinate_transformation_mode", .text = "asymmetric" } } },
          { NO rq_samples_resize,
            3,
            IN(ROWS(4, 6), OUT, FIXED(3)),
            { { .name = "keep_aspect_ratio_policy", .text = "not_larger" } } },
          { YES rq_samples_resize,
            3,
            IN(ROWS(4, 6), OUT, FIXED(3)),
            { { .name = "keep_aspect_ratio_policy", .text = "stretch" } } },
          { YES rq_samples_fill, 2, IN(SAMPLE_COUNT) }, { NO rq_samples_fill, 2, IN(ROWS_ALONE) },
          { NO rq_samples_fill, 2, IN(LIST(3, 4)) }, { YES rq_samples_expand, 3, IN(FIXED(1, 4, 1), SAMPLE_COUNT) },
          { YES rq_samples_expand, 3, IN(ROWS(4, 1), SAMPLE_COUNT) },
          { NO rq_samples_expand, 3, IN(FIXED(1, 4, 1), ROWS_ALONE) },
          { NO rq_samples_expand, 3, IN(FIXED(5, 4, 1), SAMPLE_COUNT) },
          { NO rq_samples_expand, 3, IN(ROWS(1), SAMPLE_COUNT) });
}

static void products(void **state)
{
    (void)state;
    CHECK({ YES rq_samples_matmul, 2, IN(ROWS(6), FIXED(6, 3)) }, { YES rq_samples_matmul, 1, IN(ROWS(6), FIXED(6)) },
          { YES rq_samples_matmul, 3, IN(ROWS(4, 6), FIXED(6, 3)) },
          { NO rq_samples_matmul, 1, IN(ROWS_ALONE, FIXED(6, 3)) }, { NO rq_samples_matmul, 2, IN(ROWS(6), NUMBER) },
          { NO rq_samples_matmul, 3, IN(ROWS(6), FIXED(4, 6, 3)) },
          { YES rq_samples_matmul, 4, IN(ROWS(2, 4, 6), FIXED(2, 6, 3)) },
          { YES rq_samples_matmul, 3, IN(ROWS(4, 6), FIXED(1, 6, 3)) },
          { NO rq_samples_matmul, 3, IN(ROWS(4, 6), FIXED(5, 6, 3)) },
          { YES rq_samples_matmul, 3, IN(ROWS(4, 6), ROWS(6, 3)) },
          { YES rq_samples_matmul, 3, IN(FIXED(4, 6), ROWS(6, 3)) },
          { NO rq_samples_matmul, 2, IN(FIXED(4, 6), ROWS(3)) },
          { NO rq_samples_matmul, 2, IN(ROWS(6), ROWS(3)) }, /* one matrix of all samples */
          { NO rq_samples_matmul, 4, IN(ROWS(4, 6), ROWS(2, 6, 3)) },
          { NO rq_samples_matmul, 4, IN(ROWS(2, 4, 6), ROWS(6, 3)) },
          { NO rq_samples_matmul, 2, IN(SAMPLE_COUNT, FIXED(1, 3)) },
          { NO rq_samples_matmul, 2, IN(FIXED(4, 6), FIXED(6, 3)) },
          /* zero points: of a, one number; of b, of columns */
          { YES rq_samples_matmul, 2, IN(ROWS(6), FIXED(6, 3), NUMBER, FIXED(3)) },
          { YES rq_samples_matmul, 2, IN(ROWS(6), FIXED(6, 3), OUT, FIXED(3)) },
          { YES rq_samples_matmul, 2, IN(ROWS(6), FIXED(6, 3), FIXED(1)) },
          { NO rq_samples_matmul, 2, IN(ROWS(6), FIXED(6, 3), FIXED(5)) },
          { NO rq_samples_matmul, 2, IN(ROWS(6), FIXED(6, 3), ROWS_ALONE) },
          { NO rq_samples_matmul, 2, IN(ROWS(6), FIXED(6, 3), NUMBER, ROWS_ALONE) },
          { YES rq_samples_gemm, 2, IN(ROWS(6), FIXED(6, 3)) },
          { YES rq_samples_gemm, 2, IN(ROWS(6), FIXED(6, 3), FIXED(3)) },
          { YES rq_samples_gemm, 2, IN(ROWS(6), FIXED(6, 3), ROWS(3)) },
          { NO rq_samples_gemm, 2, IN(ROWS(6), FIXED(6, 3), ROWS_ALONE) },
          { NO rq_samples_gemm, 2, IN(ROWS(6), FIXED(6, 3), FIXED(5, 1)) },
          { NO rq_samples_gemm, 2, IN(ROWS(6), ROWS(3)) }, { NO rq_samples_gemm, 2, IN(FIXED(6, 6), FIXED(6, 3)) },
          { NO rq_samples_gemm, 2, IN(ROWS(6), FIXED(6, 3)), { { "transA", .v = { 1 } } } },
          { YES rq_samples_gemm, 2, IN(ROWS(6), FIXED(3, 6)), { { "transB", .v = { 1 } } } });
}

static void what_else_is_asked(void **state)
{
    (void)state;
    CHECK({ YES rq_samples_pool, 4, IN(ROWS(4, 6, 6)) }, { NO rq_samples_pool, 4, IN(FIXED(5, 4, 6, 6)) },
          { YES rq_samples_plain, 4, IN(ROWS(4, 6, 6), FIXED(4)) },
          { NO rq_samples_plain, 4, IN(ROWS(4, 6, 6), ROWS_ALONE) },
          { NO rq_samples_plain, 4, IN(ROWS(4, 6, 6), FIXED(4)), { { "training_mode", .v = { 1 } } } },
          { YES rq_samples_quantize, 3, IN(ROWS(4, 6), NUMBER) },
          { YES rq_samples_quantize, 3, IN(ROWS(4, 6), FIXED(1)), { { "axis", .v = { 0 } } } },
          { YES rq_samples_quantize, 3, IN(ROWS(4, 6), FIXED(4)) },
          { NO rq_samples_quantize, 3, IN(ROWS(4, 6), FIXED(4)), { { "axis", .v = { 0 } } } },
          { NO rq_samples_quantize, 3, IN(ROWS(4, 6)) }, { NO rq_samples_quantize, 3, IN(FIXED(4, 6), NUMBER) },
          { NO rq_samples_quantize, 3, IN(ROWS(4, 6), ROWS_ALONE) });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elementwise),         cmocka_unit_test(the_first_input_has_the_samples),
        cmocka_unit_test(along_an_axis),       cmocka_unit_test(cut),
        cmocka_unit_test(axes_that_are_named), cmocka_unit_test(picked),
        cmocka_unit_test(made_larger),         cmocka_unit_test(products),
        cmocka_unit_test(what_else_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
