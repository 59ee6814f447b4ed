/* ops/int_eltwise.c — Add and Mul on codes, with ONNX Runtime's arithmetic (spec onnx.md 6.3): floats made of codes,
 * the zero point of the result inside the rounding.
 *
 * A side that stands still along a row of the broadcast is one number of its own in Add, and a short row of copies in
 * Mul. */
#include "ops/bcast.h"
#include "ops/int_ops.h"

#include <string.h>

enum { COPIES = 256 };

typedef struct job {
    const rq_op_args *args;
    bool is_mul;
    rq_qadd add;
    rq_qmul mul;
} job;

static float code_of(uint8_t v, int is_signed)
{
    return is_signed ? (float)(int8_t)v : (float)v;
}

static void add_row(const job *j, uint8_t *y, const uint8_t *a, bool move_a, const uint8_t *b, bool move_b, size_t n)
{
    const rq_kernels *k = j->args->k;
    rq_qadd p = j->add;
    if (move_a && move_b) {
        k->qadd(y, a, b, n, &p);
    } else if (move_a) {
        p.k += code_of(*b, p.b_signed) * p.rb;
        k->qadd_one(y, a, n, &p);
    } else {
        p.k += code_of(*a, p.a_signed) * p.ra;
        p.ra = p.rb;
        p.a_signed = p.b_signed;
        k->qadd_one(y, b, n, &p);
    }
}

static void mul_row(const job *j, uint8_t *y, const uint8_t *a, bool move_a, const uint8_t *b, bool move_b, size_t n)
{
    const rq_kernels *k = j->args->k;
    uint8_t copies[COPIES];
    if (move_a && move_b) {
        k->qmul(y, a, b, n, &j->mul);
        return;
    }
    memset(copies, move_a ? *b : *a, sizeof copies);
    for (size_t i = 0; i < n; i += COPIES)
        k->qmul(y + i, move_a ? a + i : copies, move_a ? copies : b + i, n - i < COPIES ? n - i : COPIES, &j->mul);
}

static void row(void *arg, int64_t y, int64_t a, int sa, int64_t b, int sb, int64_t n)
{
    const job *j = arg;
    const rq_op_args *t = j->args;
    const bool move_a = sa || !sb, move_b = sb || !sa; /* one element: as if both moved */
    const uint8_t *pa = t->in[0]->u8 + a, *pb = t->in[1]->u8 + b;
    (j->is_mul ? mul_row : add_row)(j, t->out[0]->u8 + y, pa, move_a, pb, move_b, (size_t)n);
}

static rq_status run(job *j)
{
    rq_bcast p;
    if (rq_tensor_count(j->args->out[0]) == 0)
        return RQ_OK;
    rq_bcast_init(&p, &j->args->out[0]->shape, &j->args->in[0]->shape, &j->args->in[1]->shape);
    rq_bcast_for(&p, j->args->threads, row, j);
    return RQ_OK;
}

bool rq_int_eltwise_accepts(const rq_op_args *a, const char **why)
{
    *why = "an input is not quantized";
    if (!a->in_q[0] || !a->in_q[1] || !rq_int_is_activation(a->in_q[0], why) || !rq_int_is_activation(a->in_q[1], why))
        return false;
    /* on x86 ONNX Runtime makes u8 of s8 activations, not of constants: the types differ and it stays with f32 */
    *why = "a constant s8 operand";
    for (int i = 0; i < 2; i++)
        if (a->in[i]->data && a->in_q[i]->dtype == RQ_DTYPE_S8)
            return false;
    return rq_int_is_output(a->out_q[0], a->out[0], false, why);
}

rq_status rq_int_add_forward(const rq_op_args *a)
{
    const rq_qparams *qa = a->in_q[0], *qb = a->in_q[1], *qc = a->out_q[0];
    job j = { .args = a };
    rq_qadd *p = &j.add;
    p->ra = qa->scale[0] / qc->scale[0];
    p->rb = qb->scale[0] / qc->scale[0];
    const float fa = p->ra * (float)qa->zero_point[0], fb = p->rb * (float)qb->zero_point[0], zeros = fa + fb;
    p->k = (float)qc->zero_point[0] - zeros;
    p->a_signed = qa->dtype == RQ_DTYPE_S8;
    p->b_signed = qb->dtype == RQ_DTYPE_S8;
    rq_qparams_limits(qc, &p->lo, &p->hi);
    return run(&j);
}

rq_status rq_int_mul_forward(const rq_op_args *a)
{
    const rq_qparams *qa = a->in_q[0], *qb = a->in_q[1], *qc = a->out_q[0];
    job j = { .args = a, .is_mul = true };
    rq_qmul *p = &j.mul;
    const float both = qa->scale[0] * qb->scale[0];
    p->r = both / qc->scale[0];
    p->za = qa->zero_point[0];
    p->zb = qb->zero_point[0];
    p->zc = (float)qc->zero_point[0];
    p->a_signed = qa->dtype == RQ_DTYPE_S8;
    p->b_signed = qb->dtype == RQ_DTYPE_S8;
    rq_qparams_limits(qc, &p->lo, &p->hi);
    return run(&j);
}
