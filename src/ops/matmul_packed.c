/* ops/matmul_packed.c — MatMul and Gemm in reals by a constant: its columns are packed once for all plans and all sessions of a model. */
#include <stdio.h>

#include "kernels/gemm_f32.h"
#include "ops/matmul.h"
#include "ops/packs.h"

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
