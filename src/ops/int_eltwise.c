/* ops/int_eltwise.c — Add and Mul on codes, with ONNX Runtime's arithmetic (spec onnx.md 6.3): floats made of codes,
 * the zero point of the result inside the rounding.
 *
 * Broadcasting is folded into runs: along the innermost axes both sides move, or one of them stands still. A side that
 * stands still is one number of its own in Add, and in Mul a short row of copies. */
#include "ops/int_ops.h"

#include <string.h>

enum { RUN_BYTES = 1 << 14, COPIES = 256 };

/* The axes of the result, merged where both sides keep step; innermost last. Steps in elements, 0: stands still. */
typedef struct axes {
    int n;
    int64_t dim[RQ_MAX_RANK], a[RQ_MAX_RANK], b[RQ_MAX_RANK];
} axes;

static void axes_of(const rq_op_args *args, axes *x)
{
    const rq_shape *y = &args->out[0]->shape;
    const rq_shape *in[2] = { &args->in[0]->shape, &args->in[1]->shape };
    int64_t step[2] = { 1, 1 };
    x->n = 0;
    axes r = { 0 }; /* innermost first */
    for (int i = 0; i < y->rank; i++) {
        const int64_t d = y->dim[y->rank - 1 - i];
        int64_t s[2];
        for (int k = 0; k < 2; k++) {
            const int64_t dk = i < in[k]->rank ? in[k]->dim[in[k]->rank - 1 - i] : 1;
            s[k] = dk == 1 ? 0 : step[k];
            step[k] *= dk;
        }
        if (d == 1)
            continue;
        const int last = r.n - 1;
        if (r.n && s[0] == (r.a[last] ? r.a[last] * r.dim[last] : 0) &&
            s[1] == (r.b[last] ? r.b[last] * r.dim[last] : 0)) {
            r.dim[last] *= d; /* keeps step with the axis inside it */
            continue;
        }
        r.dim[r.n] = d;
        r.a[r.n] = s[0];
        r.b[r.n++] = s[1];
    }
    if (r.n == 0) {
        r.n = 1;
        r.dim[0] = r.a[0] = r.b[0] = 1; /* one element */
    }
    x->n = r.n;
    for (int i = 0; i < r.n; i++) {
        x->dim[i] = r.dim[r.n - 1 - i];
        x->a[i] = r.a[r.n - 1 - i];
        x->b[i] = r.b[r.n - 1 - i];
    }
}

typedef struct job {
    const rq_op_args *args;
    axes x;
    bool is_mul;
    rq_qadd add;
    rq_qmul mul;
    int64_t run, runs_per_item, chunks; /* elements of a run, runs of an item; chunks of a run when an item is one */
    int64_t runs;
} job;

static float code_of(uint8_t v, int is_signed)
{
    return is_signed ? (float)(int8_t)v : (float)v;
}

/* n elements along the innermost axis. */
static void run_some(const job *j, uint8_t *y, const uint8_t *a, const uint8_t *b, int64_t n)
{
    const rq_kernels *k = j->args->k;
    const bool move_a = j->x.a[j->x.n - 1] != 0, move_b = j->x.b[j->x.n - 1] != 0;
    if (j->is_mul) {
        uint8_t copies[COPIES];
        if (move_a && move_b) {
            k->qmul(y, a, b, (size_t)n, &j->mul);
            return;
        }
        memset(copies, move_a ? *b : *a, sizeof copies);
        for (int64_t i = 0; i < n; i += COPIES) {
            const size_t some = (size_t)(n - i < COPIES ? n - i : COPIES);
            k->qmul(y + i, move_a ? a + i : copies, move_a ? copies : b + i, some, &j->mul);
        }
        return;
    }
    rq_qadd p = j->add;
    if (move_a && move_b) {
        k->qadd(y, a, b, (size_t)n, &p);
    } else if (move_a) {
        p.k += code_of(*b, p.b_signed) * p.rb;
        k->qadd_one(y, a, (size_t)n, &p);
    } else {
        p.k += code_of(*a, p.a_signed) * p.ra;
        p.ra = p.rb;
        p.a_signed = p.b_signed;
        k->qadd_one(y, b, (size_t)n, &p);
    }
}

static void run_item(void *arg, int64_t item)
{
    const job *j = arg;
    const int inner = j->x.n - 1;
    const int64_t first = item / j->chunks * j->runs_per_item;
    for (int64_t r = first; r < first + j->runs_per_item && r < j->runs; r++) {
        int64_t at = r, a = 0, b = 0;
        for (int i = inner - 1; i >= 0; i--) {
            a += at % j->x.dim[i] * j->x.a[i];
            b += at % j->x.dim[i] * j->x.b[i];
            at /= j->x.dim[i];
        }
        const int64_t from = item % j->chunks * RUN_BYTES, left = j->run - from;
        const int64_t n = j->chunks > 1 && left > RUN_BYTES ? RUN_BYTES : left;
        run_some(j, j->args->out[0]->u8 + r * j->run + from, j->args->in[0]->u8 + a + (j->x.a[inner] ? from : 0),
                 j->args->in[1]->u8 + b + (j->x.b[inner] ? from : 0), n);
    }
}

static rq_status run(job *j)
{
    if (rq_tensor_count(j->args->out[0]) == 0)
        return RQ_OK;
    axes_of(j->args, &j->x);
    j->run = j->x.dim[j->x.n - 1];
    j->runs = rq_tensor_count(j->args->out[0]) / j->run;
    j->chunks = (j->run + RUN_BYTES - 1) / RUN_BYTES;
    j->runs_per_item = j->chunks > 1 ? 1 : RUN_BYTES / j->run;
    rq_threads_for(j->args->threads, (j->runs + j->runs_per_item - 1) / j->runs_per_item * j->chunks, run_item, j);
    return RQ_OK;
}

bool rq_int_eltwise_accepts(const rq_op_args *a, const char **why)
{
    *why = "an input is not quantized";
    if (!a->in_q[0] || !a->in_q[1] || !rq_int_is_activation(a->in_q[0], why) || !rq_int_is_activation(a->in_q[1], why))
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
