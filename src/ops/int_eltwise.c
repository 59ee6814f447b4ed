/* ops/int_eltwise.c — Add and Mul on codes, with ONNX Runtime's arithmetic (docs/onnx-facts.md 6.3): floats made of
 * codes, the zero point of the result inside the rounding.
 *
 * An s8 sum with a constant is the exception: there ONNX Runtime on x64 turns the activations into u8 and not the
 * constant, so that the types differ and its Add stays in float between DQ and Q; this one gives the same numbers.
 *
 * A side that stands still along a row of the broadcast is one number of its own in Add, and a short row of copies in
 * Mul. */
#include "ops/bcast.h"
#include "ops/int_ops.h"

#include <math.h>
#include <string.h>

enum {
    COPIES = 256,
    WORTH = 4096, /* codes from which a quick form (kernels/qeltwise.h) is looked for */
};

typedef struct job {
    const rq_op_args *args;
    bool is_mul;
    rq_qadd add;
    float k_swapped; /* add.k where B is taken first */
    rq_qmul mul;
    bool in_pixels; /* channels-last: the sides of Add are those of the order of the file, `swapped` says how */
    bool swapped;
} job;

/* Add along a row of channels-last codes, as the elements would be added in the order of the file. A side that stands still here is copied. */
static void add_pixels(const job *j, uint8_t *y, const uint8_t *a, bool move_a, const uint8_t *b, bool move_b, size_t n)
{
    const rq_kernels *k = j->args->k;
    rq_qadd p = j->add;
    uint8_t copies[COPIES];
    if (j->swapped) {
        const uint8_t *c = a;
        const bool move_c = move_a;
        p = (rq_qadd) { /* which is another sum: its quick form is not known */
                        .ra = p.rb,         .rb = p.ra,         .k = j->k_swapped,
                        .flip_a = p.flip_b, .flip_b = p.flip_a, .flip_y = p.flip_y
        };
        a = b;
        move_a = move_b;
        b = c;
        move_b = move_c;
    }
    if (move_a && move_b) {
        k->qadd(y, a, b, n, &p);
    } else if (move_a) {
        p.k = fmaf((float)(*b ^ p.flip_b), p.rb, p.k);
        k->qadd_one(y, a, n, &p);
    } else {
        memset(copies, *a, sizeof copies);
        for (size_t i = 0; i < n; i += COPIES)
            k->qadd(y + i, copies, b + i, n - i < COPIES ? n - i : COPIES, &p);
    }
}

static void add_row(const job *j, uint8_t *y, const uint8_t *a, bool move_a, const uint8_t *b, bool move_b, size_t n)
{
    const rq_kernels *k = j->args->k;
    rq_qadd p = j->add;
    if (move_a && move_b) {
        k->qadd(y, a, b, n, &p);
    } else if (move_a) {
        p.k = fmaf((float)(*b ^ p.flip_b), p.rb, p.k);
        k->qadd_one(y, a, n, &p);
    } else {
        p.k = fmaf((float)(*a ^ p.flip_a), p.ra, j->k_swapped); /* ONNX Runtime exchanges the two */
        p.ra = p.rb;
        p.flip_a = p.flip_b;
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
    (j->is_mul      ? mul_row
     : j->in_pixels ? add_pixels
                    : add_row)(j, t->out[0]->u8 + y, pa, move_a, pb, move_b, (size_t)n);
}

static rq_status run(job *j)
{
    rq_bcast p;
    const rq_op_args *t = j->args;
    if (rq_tensor_count(t->out[0]) == 0)
        return RQ_OK;
    rq_bcast_init(&p, &t->out[0]->shape, &t->in[0]->shape, &t->in[1]->shape);
    if (t->last) {
        const bool sa = p.sa[p.rank - 1] != 0, sb = p.sb[p.rank - 1] != 0;
        j->in_pixels = true;
        j->swapped = !sa && sb;
        rq_int_zip_plan(&p, t);
    }
    rq_bcast_for(&p, t->threads, row, j);
    return RQ_OK;
}

bool rq_int_eltwise_accepts(const rq_op_args *a, const char **why)
{
    return rq_int_zip_accepts(a, why);
}

/* Does ONNX Runtime have a kernel for these operands, and does it matter? */
static bool has_recipe(const rq_op_args *a)
{
    const char *why;
    if (a->k->spec)
        return false;
    for (int i = 0; i < 2; i++)
        if (!a->in_q[i] || !rq_int_is_activation(a->in_q[i], &why))
            return false;
    return rq_int_is_activation(a->out_q[0], &why);
}

/* Zero point of the codes after flipping. */
static int32_t zero_of(const rq_qparams *q)
{
    return q->zero_point[0] + (rq_int_flip_to_u8(q->dtype) ? 128 : 0);
}

static bool is_constant(const rq_op_args *a, int i)
{
    return a->graph->values[a->node->in[i]].kind == RQ_VALUE_CONST;
}

/* ONNX Runtime's sum; what the zero points amount to where b is taken first. */
static float add_of(const rq_op_args *a, rq_qadd *p)
{
    const rq_qparams *qa = a->in_q[0], *qb = a->in_q[1], *qc = a->out_q[0];
    p->ra = qa->scale[0] / qc->scale[0];
    p->rb = qb->scale[0] / qc->scale[0];
    const float za = (float)zero_of(qa), zb = (float)zero_of(qb), zc = (float)zero_of(qc);
    p->k = zc - fmaf(p->ra, za, p->rb * zb);
    p->flip_a = rq_int_flip_to_u8(qa->dtype);
    p->flip_b = rq_int_flip_to_u8(qb->dtype);
    p->flip_y = rq_int_flip_to_u8(qc->dtype);
    return zc - fmaf(p->rb, zb, p->ra * za);
}

/* The type of the codes is that of the model: channels-last they are u8 (args.last). */
static bool adds_as_onnxruntime(const rq_op_args *a)
{
    const rq_qparams *q = rq_graph_qparams(a->graph, a->node->out[0]);
    const rq_dtype d = q ? q->dtype : a->out_q[0]->dtype;
    return has_recipe(a) && !(d == RQ_DTYPE_S8 && (is_constant(a, 0) || is_constant(a, 1)));
}

/* What Add knows of its operands; none where it does not add as ONNX Runtime does. */
typedef struct add_state {
    rq_qadd add;
    float k_swapped;
} add_state;

rq_status rq_int_add_prepare(const rq_op_args *a, void **state)
{
    if (!adds_as_onnxruntime(a))
        return RQ_OK;
    add_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    s->k_swapped = add_of(a, &s->add);
    if (rq_tensor_count(a->out[0]) >= WORTH)
        rq_qadd_quicken(a->k, &s->add);
    *state = s;
    return RQ_OK;
}

bool rq_int_add_is_plain(const rq_op_args *a, rq_qadd *p)
{
    if (a->node->row->forward_int != rq_int_add_forward || !a->state)
        return false;
    *p = ((const add_state *)a->state)->add;
    return true;
}

rq_status rq_int_add_forward(const rq_op_args *a)
{
    const add_state *s = a->state;
    if (!s)
        return rq_int_zip_run(a, RQ_ZIP_ADD);
    job j = { .args = a, .add = s->add, .k_swapped = s->k_swapped };
    return run(&j);
}

rq_status rq_int_mul_prepare(const rq_op_args *a, void **state)
{
    const rq_qparams *qa = a->in_q[0], *qb = a->in_q[1], *qc = a->out_q[0];
    if (!has_recipe(a))
        return RQ_OK;
    rq_qmul *p = rq_mem_zalloc(1, sizeof *p);
    if (!p)
        return RQ_NO_MEMORY;
    const float both = qa->scale[0] * qb->scale[0];
    p->r = both / qc->scale[0];
    p->za = zero_of(qa);
    p->zb = zero_of(qb);
    p->zc = (float)zero_of(qc);
    p->flip_a = rq_int_flip_to_u8(qa->dtype);
    p->flip_b = rq_int_flip_to_u8(qb->dtype);
    p->flip_y = rq_int_flip_to_u8(qc->dtype);
    if (rq_tensor_count(a->out[0]) >= WORTH)
        rq_qmul_quicken(a->k, p);
    *state = p;
    return RQ_OK;
}

rq_status rq_int_mul_forward(const rq_op_args *a)
{
    if (!a->state)
        return rq_int_zip_run(a, RQ_ZIP_MUL);
    job j = { .args = a, .is_mul = true, .mul = *(const rq_qmul *)a->state };
    return run(&j);
}
