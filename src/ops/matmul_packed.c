/* ops/matmul_packed.c — MatMul and Gemm in reals by a constant: its columns are packed once for all plans and all sessions of a model. FusedMatMul of the
 * domain "requant" is such a product with what follows it, which is done to sums that are in the cache still (run/plan_float.c). */
#include <stdio.h>

#include "kernels/gemm_f32.h"
#include "ops/eltwise.h"
#include "ops/half.h"
#include "ops/matmul.h"
#include "ops/packs.h"
#include "ops/rows.h"

int64_t rq_matmul_join_rows(rq_matmul_product *p)
{
    const int64_t count = rq_shape_count(&p->yb);
    if (p->ta || p->lda != p->k || rq_shape_count(&p->wb) != 1 || rq_shape_count(&p->xb) != count)
        return count;
    p->m *= count;
    return 1;
}

typedef struct pack_args {
    const rq_kernels *k;
    const float *w;
    int64_t depth, columns;
    bool trans;
} pack_args;

static void pack(void *made, const void *arg)
{
    const pack_args *p = arg;
    rq_gemm_f32_pack_columns(p->k, made, p->w, p->trans ? 1 : p->columns, p->trans ? p->depth : 1, p->columns,
                             p->depth);
}

rq_status rq_matmul_pack(const rq_op_args *a, bool trans, int64_t k, int64_t n, void **packed)
{
    const rq_tensor *x = a->in[0], *w = a->in[1];
    const void *made;
    /* trained weights change; two constants meet once; few columns go with vectors along the rows */
    if (a->training || !a->packs || a->k->library || x->data || !w->data || w->dtype != RQ_DTYPE_F32 || k < 1 ||
        n < a->k->gemm_f32.lanes)
        return RQ_OK;
    const pack_args p = { a->k, w->f32, k, n, trans };
    char key[96];
    snprintf(key, sizeof key, "gemm_f32 %s %lld %lld %d", a->k->isa, (long long)k, (long long)n, trans);
    RQ_TRY(rq_packs_get(a, w, key, (size_t)rq_gemm_f32_packed_columns(a->k, n, k) * sizeof(float), pack, &p, &made));
    *packed = (void *)made;
    return RQ_OK;
}

/* ---- FusedMatMul(X, W, B?, Z?) of "requant": y = activation(f32(f32(X W + B) + Z)), B a row (other axes 1), Z of y's shape ---- */

static rq_status fused_infer(const rq_infer *a)
{
    RQ_TRY(rq_matmul_infer(a));
    const rq_shape *y = &a->out_shape[0];
    for (int i = 2; y->rank > 0 && i < a->n_in; i++) {
        const rq_shape *z = a->in[i] ? &a->in[i]->shape : NULL;
        bool fits = !z || z->rank < 0 || (i == 2 ? z->rank > 0 && z->rank <= y->rank : z->rank == y->rank);
        for (int d = 1; z && fits && d <= z->rank; d++) { /* from the last axis on */
            const int64_t size = z->dim[z->rank - d], want = i == 2 && d > 1 ? 1 : y->dim[y->rank - d];
            fits = size < 0 || want < 0 || size == want;
        }
        if (!fits)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d is not of the shape of %s", i,
                                 i == 2 ? "a row of the product" : "the product");
    }
    return RQ_OK;
}

typedef struct fused_state {
    void *packed;
    rq_eltwise_then then;
} fused_state;

static void fused_release(void *state)
{
    rq_mem_free(state);
}

static rq_status fused_prepare(const rq_op_args *a, void **state)
{
    rq_matmul_product p;
    fused_state *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    rq_status status = rq_eltwise_read_then(a, &s->then);
    rq_matmul_product_of(a, &p);
    if (status == RQ_OK && a->in[0]->dtype == RQ_DTYPE_F32 && rq_matmul_join_rows(&p) == 1 && !p.ta)
        status = rq_matmul_pack(a, p.tb, p.k, p.n, &s->packed);
    if (status != RQ_OK) {
        fused_release(s);
        return status;
    }
    *state = s;
    return RQ_OK;
}

static rq_status fused_wide(const rq_op_args *a)
{
    const fused_state *s = a->state;
    const rq_tensor *b = rq_op_input(a->in, a->n_in, 2), *z = rq_op_input(a->in, a->n_in, 3);
    rq_tensor *y = a->out[0];
    if (s->packed) {
        rq_matmul_product p;
        rq_matmul_product_of(a, &p);
        rq_matmul_join_rows(&p);
        const rq_gemm_f32_after after = { .alpha = p.alpha,
                                          .bias = b ? b->f32 : NULL,
                                          .add = z ? z->f32 : NULL,
                                          .f = s->then.active ? a->k->map[s->then.f] : NULL,
                                          .p = s->then.p,
                                          .q = s->then.q };
        rq_gemm_f32_packed(a->k, y->f32, p.n, a->in[0]->f32, p.lda, s->packed, p.m, p.n, p.k, &after, a->threads);
        return RQ_OK;
    }
    rq_op_args product = *a;
    product.state = NULL;
    RQ_TRY(rq_matmul_wide(&product));
    if (b)
        RQ_TRY(rq_eltwise_zip(a, y, y, b, RQ_ZIP_ADD));
    if (z)
        RQ_TRY(rq_eltwise_zip(a, y, y, z, RQ_ZIP_ADD));
    return s->then.active ? rq_eltwise_map(a, y, y, s->then.f, s->then.p, s->then.q) : RQ_OK;
}

static rq_status fused_forward(const rq_op_args *a)
{
    return rq_half_run(a, fused_wide);
}

const rq_op rq_op_fused_matmul = {
    .name = "FusedMatMul",
    .domain = "requant",
    .since = 1,
    .known = 1,
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = fused_infer,
    .forward = fused_forward,
    .prepare = fused_prepare,
    .release = fused_release,
    .macs = rq_matmul_macs,
};
