/* ops/int_zip.c — operators of two operands on codes as their definition has it: a tile of each is dequantized, the float
 * kernel runs on the tiles, and the result is rounded once. No tensor of reals is written, and every element is what
 * DequantizeLinear, the operator and QuantizeLinear give, to the bit: what ONNX Runtime computes where it has no
 * integer kernel (docs/onnx-facts.md 5.1). An operand may hold reals. Where the other operand is one known number, the
 * whole is a table of 256 codes. */
#include "ops/bcast.h"
#include "ops/int_ops.h"
#include "ops/last.h"

enum { TILE = 256 };

typedef struct job {
    const rq_op_args *a;
    rq_zip_fn f;
} job;

static void row(void *arg, int64_t y, int64_t a, int sa, int64_t b, int sb, int64_t n)
{
    const job *j = arg;
    const rq_op_args *t = j->a;
    float ra[TILE], rb[TILE];
    for (int64_t i = 0; i < n; i += TILE) {
        const int64_t some = n - i < TILE ? n - i : TILE;
        if (sa || i == 0)
            rq_int_to_reals(t->k, ra, t->in[0], a + i * sa, sa ? some : 1, t->in_q[0]);
        if (sb || i == 0)
            rq_int_to_reals(t->k, rb, t->in[1], b + i * sb, sb ? some : 1, t->in_q[1]);
        float made[TILE];
        j->f(made, ra, sa, rb, sb, (size_t)some);
        rq_int_from_reals(t->k, t->out[0], y + i, made, some, t->out_q[0]);
    }
}

void rq_int_zip_plan(rq_bcast *p, const rq_op_args *a)
{
    const int rank = a->out[0]->shape.rank;
    const rq_shape y = rq_last_shape(a->last, &a->out[0]->shape), s0 = rq_last_operand(a->last, &a->in[0]->shape, rank),
                   s1 = rq_last_operand(a->last, &a->in[1]->shape, rank);
    rq_bcast_init(p, &y, &s0, &s1);
}

rq_status rq_int_zip_run(const rq_op_args *a, rq_zip_id f)
{
    rq_bcast p;
    job j = { .a = a, .f = a->k->zip[f] };
    if (rq_tensor_count(a->out[0]) == 0)
        return RQ_OK;
    rq_int_zip_plan(&p, a);
    rq_bcast_for(&p, a->threads, row, &j);
    return RQ_OK;
}

bool rq_int_zip_accepts(const rq_op_args *a, const char **why)
{
    *why = "more than two operands";
    if (a->n_in != 2)
        return false;
    for (int i = 0; i < 2; i++) {
        *why = "an input is neither quantized nor f32";
        if (!a->in_q[i] && a->in[i]->dtype != RQ_DTYPE_F32)
            return false;
        if (a->in_q[i] && !rq_int_is_codes(a->in_q[i], why))
            return false;
    }
    *why = "output is not quantized";
    return a->out_q[0] && rq_int_is_codes(a->out_q[0], why);
}

/* The operand that never changes and is one number, beside one of 8 bits that has the result's shape; -1: none. */
static int fixed_operand(const rq_op_args *a)
{
    for (int i = 0; i < 2; i++) {
        const int x = 1 - i;
        if (a->in[i]->data && rq_tensor_count(a->in[i]) == 1 && a->in_q[x] && rq_int_is_byte(a->in_q[x]->dtype) &&
            rq_int_is_byte(a->out_q[0]->dtype) && rq_tensor_count(a->in[x]) == rq_tensor_count(a->out[0]))
            return i;
    }
    return -1;
}

typedef struct table_state {
    int operand; /* the one that is looked up */
    uint8_t code[256];
} table_state;

rq_status rq_int_zip_prepare(const rq_op_args *a, void **state)
{
    const int fixed = fixed_operand(a), x = 1 - fixed;
    if (fixed < 0)
        return RQ_OK;
    table_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    s->operand = x;
    uint8_t all[256]; /* entry i is for the code whose bits are i */
    for (int i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    const rq_shape shape = rq_shape_of(1, (const int64_t[]) { 256 });
    rq_tensor codes = rq_tensor_view(a->in_q[x]->dtype, &shape, all);
    rq_tensor made = rq_tensor_view(a->out_q[0]->dtype, &shape, s->code);
    const rq_tensor *in[2] = { a->in[0], a->in[1] };
    in[x] = &codes;
    rq_op_args b = *a;
    b.in = in;
    b.out = (rq_tensor *[]) { &made };
    job j = { .a = &b, .f = a->k->zip[(rq_zip_id)a->node->row->which] };
    row(&j, 0, 0, x == 0, 0, x == 1, 256);
    *state = s;
    return RQ_OK;
}

void rq_int_zip_release(void *state)
{
    rq_mem_free(state);
}

static void look_up(void *arg, int64_t from, int64_t n)
{
    const rq_op_args *a = arg;
    const table_state *s = a->state;
    a->k->lut8(a->out[0]->u8 + from, a->in[s->operand]->u8 + from, (size_t)n, s->code);
}

rq_status rq_int_zip_forward(const rq_op_args *a)
{
    if (!a->state)
        return rq_int_zip_run(a, (rq_zip_id)a->node->row->which);
    rq_bcast_spans(a->threads, rq_tensor_count(a->out[0]), RQ_BCAST_PIECE, look_up, (void *)a);
    return RQ_OK;
}
