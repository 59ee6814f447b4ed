/* ops/logic.c — comparisons, boolean and bitwise operators, and Where. Types are read in blocks as f64 (exact for every
 * float type) or as 64-bit integers. */
#include <math.h>
#include <string.h>

#include "ops/bcast.h"
#include "ops/elements.h"
#include "ops/eltwise_grad.h"
#include "ops/grad.h"
#include "ops/int_ops.h"
#include "ops/moves.h"
#include "ops/last.h"
#include "ops/samples.h"

/* ---- two operands to booleans or integers ---- */

typedef enum relation { EQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL } relation;

typedef struct compare {
    const rq_tensor *x, *y;
    uint8_t *out;
    relation rel;
} compare;

static inline __attribute__((always_inline)) bool holds_f64(double x, double y, relation rel)
{
    return rel == EQUAL ? x == y : rel == LESS ? x < y : rel == LESS_EQUAL ? x <= y : rel == GREATER ? x > y : x >= y;
}

static inline __attribute__((always_inline)) bool holds_int(int64_t x, int64_t y, relation rel)
{
    return rel == EQUAL ? x == y : rel == LESS ? x < y : rel == LESS_EQUAL ? x <= y : rel == GREATER ? x > y : x >= y;
}

/* Inlined with a constant relation: one loop each. */
static inline __attribute__((always_inline)) void compare_f64_by(uint8_t *out, const double *x, const double *y, int n,
                                                                 relation rel)
{
    for (int i = 0; i < n; i++)
        out[i] = holds_f64(x[i], y[i], rel);
}

static inline __attribute__((always_inline)) void compare_int_by(uint8_t *out, const int64_t *x, const int64_t *y,
                                                                 int n, relation rel)
{
    for (int i = 0; i < n; i++)
        out[i] = holds_int(x[i], y[i], rel);
}

static void compare_f64(uint8_t *out, const double *x, const double *y, int n, relation rel)
{
    switch (rel) {
    case EQUAL:
        compare_f64_by(out, x, y, n, EQUAL);
        break;
    case LESS:
        compare_f64_by(out, x, y, n, LESS);
        break;
    case LESS_EQUAL:
        compare_f64_by(out, x, y, n, LESS_EQUAL);
        break;
    case GREATER:
        compare_f64_by(out, x, y, n, GREATER);
        break;
    default:
        compare_f64_by(out, x, y, n, GREATER_EQUAL);
    }
}

static void compare_int(uint8_t *out, const int64_t *x, const int64_t *y, int n, relation rel)
{
    switch (rel) {
    case EQUAL:
        compare_int_by(out, x, y, n, EQUAL);
        break;
    case LESS:
        compare_int_by(out, x, y, n, LESS);
        break;
    case LESS_EQUAL:
        compare_int_by(out, x, y, n, LESS_EQUAL);
        break;
    case GREATER:
        compare_int_by(out, x, y, n, GREATER);
        break;
    default:
        compare_int_by(out, x, y, n, GREATER_EQUAL);
    }
}

/* Equality of S32, what models of bytes and tokens compare most: straight from memory. */
static void equal_s32_run(void *arg, int64_t o, int64_t x, int sx, int64_t y, int sy, int64_t n)
{
    const rq_op_args *a = arg;
    const int32_t *p = a->in[0]->s32 + x, *q = a->in[1]->s32 + y;
    if (sx || sy)
        a->k->equal_s32(a->out[0]->u8 + o, p, sx, q, sy, (size_t)n);
    else
        memset(a->out[0]->u8 + o, *p == *q, (size_t)n);
}

static void compare_text(const compare *c, int64_t o, const int64_t *at, const int64_t *step, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        size_t nx, ny;
        const char *x = rq_elements_text(c->x, at[0] + i * step[0], &nx);
        const char *y = rq_elements_text(c->y, at[1] + i * step[1], &ny);
        c->out[o + i] = nx == ny && memcmp(x, y, nx) == 0;
    }
}

static void compare_run(void *arg, int64_t o, const int64_t *at, const int64_t *step, int64_t n)
{
    const compare *c = arg;
    if (c->x->dtype == RQ_DTYPE_STRING) {
        compare_text(c, o, at, step, n);
        return;
    }
    for (int64_t i = 0; i < n; i += RQ_BLOCK) {
        int m = n - i < RQ_BLOCK ? (int)(n - i) : RQ_BLOCK;
        if (rq_dtype_is_float(c->x->dtype)) {
            double x[RQ_BLOCK], y[RQ_BLOCK];
            rq_elements_load_f64(x, c->x, at[0] + i * step[0], step[0], m);
            rq_elements_load_f64(y, c->y, at[1] + i * step[1], step[1], m);
            compare_f64(c->out + o + i, x, y, m, c->rel);
        } else {
            int64_t x[RQ_BLOCK], y[RQ_BLOCK];
            rq_elements_load_int(x, c->x, at[0] + i * step[0], step[0], m);
            rq_elements_load_int(y, c->y, at[1] + i * step[1], step[1], m);
            if (c->x->dtype == RQ_DTYPE_U64)
                for (int k = 0; k < m; k++) { /* the same order, seen as signed numbers */
                    x[k] = (int64_t)((uint64_t)x[k] ^ (UINT64_C(1) << 63));
                    y[k] = (int64_t)((uint64_t)y[k] ^ (UINT64_C(1) << 63));
                }
            compare_int(c->out + o + i, x, y, m, c->rel);
        }
    }
}

static rq_status compare_forward(const rq_op_args *a, relation rel)
{
    const rq_tensor *x = a->in[0], *y = a->in[1];
    if (x->dtype != y->dtype)
        return rq_op_fail(a, RQ_BAD_DTYPE, "input 0 is %s, input 1 is %s", rq_dtype_name(x->dtype),
                          rq_dtype_name(y->dtype));
    if (x->dtype == RQ_DTYPE_STRING && rel != EQUAL)
        return rq_op_fail(a, RQ_BAD_DTYPE, "strings have no order here");
    if (x->dtype == RQ_DTYPE_S32 && rel == EQUAL) {
        rq_bcast p;
        rq_bcast_init(&p, &a->out[0]->shape, &x->shape, &y->shape);
        rq_bcast_for(&p, a->threads, equal_s32_run, (void *)a);
        return RQ_OK;
    }
    compare c = { .x = x, .y = y, .out = a->out[0]->u8, .rel = rel };
    rq_elements_broadcast(&a->out[0]->shape, (const rq_shape *[]) { &x->shape, &y->shape }, 2, compare_run, &c);
    return RQ_OK;
}

static rq_status equal_forward(const rq_op_args *a)
{
    return compare_forward(a, EQUAL);
}

static rq_status less_forward(const rq_op_args *a)
{
    return compare_forward(a, LESS);
}

static rq_status less_equal_forward(const rq_op_args *a)
{
    return compare_forward(a, LESS_EQUAL);
}

static rq_status greater_forward(const rq_op_args *a)
{
    return compare_forward(a, GREATER);
}

static rq_status greater_equal_forward(const rq_op_args *a)
{
    return compare_forward(a, GREATER_EQUAL);
}

static rq_status compare_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_broadcast(a));
    a->out_dtype[0] = RQ_DTYPE_BOOL;
    return RQ_OK;
}

typedef enum bits { AND, OR, XOR, SHIFT_LEFT, SHIFT_RIGHT, SHIFT_RIGHT_SIGNED } bits;

typedef struct combine {
    const rq_tensor *x, *y;
    rq_tensor *out;
    bits op;
} combine;

static int64_t combine_one(int64_t x, int64_t y, bits op, int width)
{
    switch (op) {
    case AND:
        return x & y;
    case OR:
        return x | y;
    case XOR:
        return x ^ y;
    case SHIFT_LEFT:
        return y < 0 || y >= width ? 0 : (int64_t)((uint64_t)x << y);
    case SHIFT_RIGHT:
        return y < 0 || y >= width ? 0 : (int64_t)((uint64_t)x >> y);
    default: /* of signed numbers, opset 28: what comes in from above is the sign */
        return x < 0 ? ~(y < 0 || y >= width ? 0 : ~x >> y) : y < 0 || y >= width ? 0 : x >> y;
    }
}

static void combine_run(void *arg, int64_t o, const int64_t *at, const int64_t *step, int64_t n)
{
    const combine *c = arg;
    int width = rq_dtype_bits(c->out->dtype);
    for (int64_t i = 0; i < n; i += RQ_BLOCK) {
        int m = n - i < RQ_BLOCK ? (int)(n - i) : RQ_BLOCK;
        int64_t x[RQ_BLOCK], y[RQ_BLOCK];
        rq_elements_load_int(x, c->x, at[0] + i * step[0], step[0], m);
        rq_elements_load_int(y, c->y, at[1] + i * step[1], step[1], m);
        for (int k = 0; k < m; k++)
            x[k] = combine_one(x[k], y[k], c->op, width);
        rq_elements_store_int(c->out, o + i, x, m);
    }
}

static rq_status combine_forward(const rq_op_args *a, bits op, bool boolean)
{
    const rq_tensor *x = a->in[0], *y = a->in[1];
    if (x->dtype != y->dtype || boolean != (x->dtype == RQ_DTYPE_BOOL) || !(boolean || rq_dtype_is_integer(x->dtype)))
        return rq_op_fail(a, RQ_BAD_DTYPE, "the inputs are %s and %s, expected %s", rq_dtype_name(x->dtype),
                          rq_dtype_name(y->dtype), boolean ? "bool" : "one integer type");
    combine c = { .x = x, .y = y, .out = a->out[0], .op = op };
    rq_elements_broadcast(&a->out[0]->shape, (const rq_shape *[]) { &x->shape, &y->shape }, 2, combine_run, &c);
    return RQ_OK;
}

static rq_status and_forward(const rq_op_args *a)
{
    return combine_forward(a, AND, true);
}

static rq_status or_forward(const rq_op_args *a)
{
    return combine_forward(a, OR, true);
}

static rq_status xor_forward(const rq_op_args *a)
{
    return combine_forward(a, XOR, true);
}

static rq_status bitwise_and_forward(const rq_op_args *a)
{
    return combine_forward(a, AND, false);
}

static rq_status bitwise_or_forward(const rq_op_args *a)
{
    return combine_forward(a, OR, false);
}

static rq_status bitwise_xor_forward(const rq_op_args *a)
{
    return combine_forward(a, XOR, false);
}

static rq_status bit_shift_check(const rq_graph *g, const rq_node *n, int64_t opset, rq_err *err)
{
    const rq_word d = rq_attr_word(n, RQ_WORD_direction, RQ_WORD_NONE);
    if (d != RQ_WORD_LEFT && d != RQ_WORD_RIGHT)
        return rq_node_fail(g, n, err, RQ_BAD_GRAPH, "direction is '%.32s', expected LEFT or RIGHT",
                            rq_attr_string(n, RQ_WORD_direction, ""));
    return RQ_OK;
}

static rq_status bit_shift_forward(const rq_op_args *a)
{
    bool left = rq_attr_word(a->node, RQ_WORD_direction, RQ_WORD_NONE) == RQ_WORD_LEFT;
    int64_t lo, hi;
    rq_dtype_limits(a->in[0]->dtype, &lo, &hi);
    const bool is_signed = lo < 0;
    return combine_forward(a, left ? SHIFT_LEFT : is_signed ? SHIFT_RIGHT_SIGNED : SHIFT_RIGHT, false);
}

/* ---- one operand ---- */

static rq_status not_forward(const rq_op_args *a)
{
    for (int64_t i = 0, n = rq_tensor_count(a->in[0]); i < n; i++)
        a->out[0]->u8[i] = !a->in[0]->u8[i];
    return RQ_OK;
}

static rq_status not_infer(const rq_infer *a)
{
    if (a->in[0]->dtype != RQ_DTYPE_NONE && a->in[0]->dtype != RQ_DTYPE_BOOL)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the input is %s, expected bool", rq_dtype_name(a->in[0]->dtype));
    return rq_infer_same(a);
}

static rq_status bitwise_not_forward(const rq_op_args *a)
{
    if (!rq_dtype_is_integer(a->in[0]->dtype))
        return rq_op_fail(a, RQ_BAD_DTYPE, "the input is %s, expected integers", rq_dtype_name(a->in[0]->dtype));
    for (size_t i = 0, n = rq_shape_bytes(&a->in[0]->shape, a->in[0]->dtype); i < n; i++)
        a->out[0]->u8[i] = (uint8_t)~a->in[0]->u8[i];
    return RQ_OK;
}

static rq_status to_bool_infer(const rq_infer *a)
{
    a->out_dtype[0] = RQ_DTYPE_BOOL;
    a->out_shape[0] = a->in[0]->shape;
    return RQ_OK;
}

static rq_status is_nan_forward(const rq_op_args *a)
{
    double x[RQ_BLOCK];
    for (int64_t i = 0, n = rq_tensor_count(a->in[0]); i < n; i += RQ_BLOCK) {
        int m = n - i < RQ_BLOCK ? (int)(n - i) : RQ_BLOCK;
        rq_elements_load_f64(x, a->in[0], i, 1, m);
        for (int k = 0; k < m; k++)
            a->out[0]->u8[i + k] = isnan(x[k]) != 0;
    }
    return RQ_OK;
}

static rq_status is_inf_forward(const rq_op_args *a)
{
    bool up = rq_attr_int(a->node, RQ_WORD_detect_positive, 1), down = rq_attr_int(a->node, RQ_WORD_detect_negative, 1);
    double x[RQ_BLOCK];
    for (int64_t i = 0, n = rq_tensor_count(a->in[0]); i < n; i += RQ_BLOCK) {
        int m = n - i < RQ_BLOCK ? (int)(n - i) : RQ_BLOCK;
        rq_elements_load_f64(x, a->in[0], i, 1, m);
        for (int k = 0; k < m; k++)
            a->out[0]->u8[i + k] = (up && x[k] == INFINITY) || (down && x[k] == -INFINITY);
    }
    return RQ_OK;
}

/* ---- Where ---- */

typedef struct choose {
    const uint8_t *c;
    const char *x, *y;
    char *out;
    size_t elem;
    rq_threads *threads;
    int64_t o, at[3], step[3], n; /* the run at hand */
} choose;

/* By masks, for a condition cannot be guessed: with steps of 0 and 1 that are known, a loop that becomes vectors. */
#define CHOOSE(bits)                                                                                                   \
    static inline __attribute__((always_inline)) void choose_##bits(                                                   \
        char *out, const uint8_t *c, const char *x, const char *y, int64_t n, int64_t sc, int64_t sx, int64_t sy)      \
    {                                                                                                                  \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const bits take = (bits)(0 - (bits)(c[i * sc] != 0));                                                      \
            bits vx, vy;                                                                                               \
            memcpy(&vx, x + i * sx * (int64_t)sizeof vx, sizeof vx);                                                   \
            memcpy(&vy, y + i * sy * (int64_t)sizeof vy, sizeof vy);                                                   \
            vx = (bits)((vx & take) | (vy & (bits)~take));                                                             \
            memcpy(out + i * (int64_t)sizeof vx, &vx, sizeof vx);                                                      \
        }                                                                                                              \
    }                                                                                                                  \
    static void choose_run_##bits(char *out, const uint8_t *c, const char *x, const char *y, int64_t n,                \
                                  const int64_t *step)                                                                 \
    {                                                                                                                  \
        if (step[0] == 1 && step[1] == 1 && step[2] == 1)                                                              \
            choose_##bits(out, c, x, y, n, 1, 1, 1);                                                                   \
        else if (step[0] == 1 && step[1] == 0 && step[2] == 1)                                                         \
            choose_##bits(out, c, x, y, n, 1, 0, 1);                                                                   \
        else if (step[0] == 1 && step[1] == 1 && step[2] == 0)                                                         \
            choose_##bits(out, c, x, y, n, 1, 1, 0);                                                                   \
        else                                                                                                           \
            choose_##bits(out, c, x, y, n, step[0], step[1], step[2]);                                                 \
    }
CHOOSE(uint8_t)
CHOOSE(uint16_t)
CHOOSE(uint32_t)
CHOOSE(uint64_t)

enum { CHOOSE_PIECE = 1 << 15 };

static void choose_piece(void *arg, int64_t item)
{
    const choose *w = arg;
    const int64_t from = item * CHOOSE_PIECE, n = w->n - from < CHOOSE_PIECE ? w->n - from : CHOOSE_PIECE;
    const size_t elem = w->elem;
    const uint8_t *c = w->c + w->at[0] + from * w->step[0];
    const char *x = w->x + (size_t)(w->at[1] + from * w->step[1]) * elem,
               *y = w->y + (size_t)(w->at[2] + from * w->step[2]) * elem;
    char *out = w->out + (size_t)(w->o + from) * elem;
    switch (elem) {
    case 1:
        choose_run_uint8_t(out, c, x, y, n, w->step);
        break;
    case 2:
        choose_run_uint16_t(out, c, x, y, n, w->step);
        break;
    case 4:
        choose_run_uint32_t(out, c, x, y, n, w->step);
        break;
    case 8:
        choose_run_uint64_t(out, c, x, y, n, w->step);
        break;
    default:
        for (int64_t i = 0; i < n; i++)
            memcpy(out + (size_t)i * elem,
                   c[i * w->step[0]] ? x + (size_t)(i * w->step[1]) * elem : y + (size_t)(i * w->step[2]) * elem, elem);
    }
}

static void choose_run(void *arg, int64_t o, const int64_t *at, const int64_t *step, int64_t n)
{
    choose *w = arg;
    const int64_t items = (n + CHOOSE_PIECE - 1) / CHOOSE_PIECE;
    w->o = o;
    w->n = n;
    memcpy(w->at, at, sizeof w->at);
    memcpy(w->step, step, sizeof w->step);
    rq_threads_for(items > 1 ? w->threads : NULL, items, choose_piece, w);
}

static rq_status where_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_broadcast(a));
    a->out_dtype[0] = a->in[1]->dtype != RQ_DTYPE_NONE ? a->in[1]->dtype : a->in[2]->dtype;
    if (a->in[0]->dtype != RQ_DTYPE_NONE && a->in[0]->dtype != RQ_DTYPE_BOOL)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the condition is %s, expected bool", rq_dtype_name(a->in[0]->dtype));
    if (a->in[1]->dtype != RQ_DTYPE_NONE && a->in[2]->dtype != RQ_DTYPE_NONE && a->in[1]->dtype != a->in[2]->dtype)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "the choices are %s and %s", rq_dtype_name(a->in[1]->dtype),
                             rq_dtype_name(a->in[2]->dtype));
    return RQ_OK;
}

static rq_status where_move(const rq_op_args *a)
{
    choose w = { .c = a->in[0]->u8,
                 .x = a->in[1]->data,
                 .y = a->in[2]->data,
                 .out = a->out[0]->data,
                 .elem = rq_moves_size(a->in[1]->dtype),
                 .threads = a->threads };
    rq_elements_broadcast(&a->out[0]->shape,
                          (const rq_shape *[]) { &a->in[0]->shape, &a->in[1]->shape, &a->in[2]->shape }, 3, choose_run,
                          &w);
    return RQ_OK;
}

static rq_status where_forward(const rq_op_args *a)
{
    return rq_moves_run(a, where_move);
}

typedef struct chosen {
    const uint8_t *c;
    float *t;
    const float *dy;
    bool taken; /* dy goes where the condition is this */
} chosen;

static void chosen_row(void *arg, int64_t y, int64_t at, int step, int64_t unused, int su, int64_t n)
{
    const chosen *j = arg;
    for (int64_t i = 0; i < n; i++)
        j->t[y + i] = (j->c[at + i * step] != 0) == j->taken ? j->dy[y + i] : 0;
}

static rq_status where_backward(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0), *c = a->in[0];
    rq_bcast walk;
    if (!dy)
        return rq_grad_none(a);
    rq_bcast_init(&walk, &a->out[0]->shape, &c->shape, &c->shape);
    for (int i = 1; i <= 2; i++) {
        rq_tensor *dx = rq_grad_in(a, i), whole = rq_tensor_view(RQ_DTYPE_F32, &a->out[0]->shape, a->scratch);
        if (!dx)
            continue;
        rq_tensor *to = rq_tensor_count(dx) == rq_tensor_count(dy) ? dx : &whole;
        chosen j = { .c = c->u8, .t = to->f32, .dy = dy->f32, .taken = i == 1 };
        rq_bcast_for(&walk, a->threads, chosen_row, &j);
        RQ_TRY(rq_grad_sum(a, dx, to));
    }
    return RQ_OK;
}

/* ---- rows ---- */

#define TWO                                                                                                            \
    .domain = "", .known = 25, .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1, .place = RQ_PLACE_FLOAT,          \
    .samples = rq_samples_each
#define ONE                                                                                                            \
    .domain = "", .known = 25, .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .place = RQ_PLACE_FLOAT,          \
    .samples = rq_samples_each

const rq_op rq_op_equal = { .name = "Equal", .since = 7, TWO, .infer = compare_infer, .forward = equal_forward };
const rq_op rq_op_less = { .name = "Less", .since = 7, TWO, .infer = compare_infer, .forward = less_forward };
const rq_op rq_op_less_or_equal = {
    .name = "LessOrEqual", .since = 12, TWO, .infer = compare_infer, .forward = less_equal_forward
};
const rq_op rq_op_greater = { .name = "Greater", .since = 7, TWO, .infer = compare_infer, .forward = greater_forward };
const rq_op rq_op_greater_or_equal = {
    .name = "GreaterOrEqual", .since = 12, TWO, .infer = compare_infer, .forward = greater_equal_forward
};
const rq_op rq_op_and = { .name = "And", .since = 7, TWO, .infer = rq_infer_broadcast, .forward = and_forward };
const rq_op rq_op_or = { .name = "Or", .since = 7, TWO, .infer = rq_infer_broadcast, .forward = or_forward };
const rq_op rq_op_xor = { .name = "Xor", .since = 7, TWO, .infer = rq_infer_broadcast, .forward = xor_forward };
const rq_op rq_op_bitwise_and = {
    .name = "BitwiseAnd", .since = 18, TWO, .infer = rq_infer_broadcast, .forward = bitwise_and_forward
};
const rq_op rq_op_bitwise_or = {
    .name = "BitwiseOr", .since = 18, TWO, .infer = rq_infer_broadcast, .forward = bitwise_or_forward
};
const rq_op rq_op_bitwise_xor = {
    .name = "BitwiseXor", .since = 18, TWO, .infer = rq_infer_broadcast, .forward = bitwise_xor_forward
};
const rq_op rq_op_bit_shift = {
    .name = "BitShift",
    .since = 11,
    TWO,
    .check = bit_shift_check,
    .infer = rq_infer_broadcast,
    .forward = bit_shift_forward,
};
const rq_op rq_op_not = { .name = "Not", .since = 1, ONE, .infer = not_infer, .forward = not_forward };
const rq_op rq_op_bitwise_not = {
    .name = "BitwiseNot", .since = 18, ONE, .infer = rq_infer_same, .forward = bitwise_not_forward
};
const rq_op rq_op_is_nan = { .name = "IsNaN", .since = 9, ONE, .infer = to_bool_infer, .forward = is_nan_forward };
const rq_op rq_op_is_inf = { .name = "IsInf", .since = 10, ONE, .infer = to_bool_infer, .forward = is_inf_forward };

const rq_op rq_op_where = {
    .name = "Where",
    .domain = "",
    .since = 9,
    .known = 25,
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = where_infer,
    .samples = rq_samples_each,
    .forward = where_forward,
    .backward = where_backward,
    .saves = RQ_OP_IN(0),
    .gradients = RQ_OP_IN(1) | RQ_OP_IN(2),
    .scratch_backward = rq_eltwise_grad_scratch,
    .accepts_int = rq_int_where_accepts,
    .last = rq_last_broadcast,
    .forward_int = rq_int_where_forward,
};
