/* kernels/gemm_f32_packed.c — float products by a constant matrix that stands in panels of columns. A panel passes by over the depth in the order in which
 * it lies, so the processor fetches it ahead from wherever it is, and nothing is packed in a run; rows are read where they lie. What a strip of
 * rows has summed is finished (bias, residual, activation) on its way to the output. */
#include "kernels/gemm_f32.h"
#include "kernels/kernels.h"

enum {
    DEPTH = 512,         /* of a panel at a time */
    ITEM_MACS = 2000000, /* work that is worth an item */
    LEAST_ROWS = 16,     /* a strip of fewer takes as long as one of these: it waits for the panel */
};

typedef struct packed_job {
    const rq_kernels *k;
    const rq_gemm_f32_after *after;
    float *c;
    const float *a, *b;
    int64_t m, n, depth, lda, ldc;
    int64_t strips, units, per_item; /* units: a panel and a strip of rows each */
} packed_job;

/* Where the rows of a tile and a panel of `ld` columns go on, for each step of the depth. */
typedef struct offsets {
    int ld;
    int32_t a[DEPTH], b[DEPTH];
} offsets;

static void fill_offsets(offsets *o, int ld, int64_t depth)
{
    if (o->ld == ld)
        return;
    o->ld = ld;
    for (int k = 0; k < DEPTH && k < depth; k++) {
        o->a[k] = k;
        o->b[k] = k * ld;
    }
}

/* acc [rows][ld] = the chains of `rows` rows from a on against a panel. */
static void sum(const packed_job *j, const offsets *o, float *acc, const float *a, const float *panel, int rows)
{
    static const float zeros[RQ_GEMM_F32_ROWS];
    const rq_gemm_f32_isa *g = &j->k->gemm_f32;
    const int tiles = (rows + g->rows - 1) / g->rows;
    int64_t k0 = 0;
    do { /* once at least: a depth of 0 gives zeros */
        const size_t depth = (size_t)(j->depth - k0 < DEPTH ? j->depth - k0 : DEPTH);
        for (int i = 0, t = 0; t < tiles; t++) {
            const int take = (rows - i) / (tiles - t);
            g->tile(acc + (ptrdiff_t)i * o->ld, (size_t)o->ld, k0 ? NULL : zeros, a + i * j->lda + k0, j->lda, o->a,
                    panel + k0 * o->ld, o->b, depth, take, o->ld / g->lanes);
            i += take;
        }
        k0 += DEPTH;
    } while (k0 < j->depth);
}

/* c, at row r and column q, from the chains of a strip. */
static void finish(const packed_job *j, int64_t r, int64_t q, float *acc, int ld, int rows, int columns)
{
    const rq_gemm_f32_isa *g = &j->k->gemm_f32;
    const rq_gemm_f32_after *a = j->after;
    float *c = j->c + r * j->ldc + q;
    if (!a) {
        g->copy(c, j->ldc, acc, ld, rows, columns);
        return;
    }
    if (a->alpha != 1)
        for (int i = 0; i < rows * ld; i++)
            acc[i] *= a->alpha;
    const float *bias = a->bias ? a->bias + q : NULL, *add = a->add ? a->add + r * j->ldc + q : NULL;
    if (!a->f) {
        g->finish(c, j->ldc, acc, ld, bias, add, j->ldc, rows, columns);
        return;
    }
    g->finish(acc, ld, acc, ld, bias, add, j->ldc, rows, columns);
    a->f(acc, acc, (size_t)rows * (size_t)ld, a->p, a->q);
    g->copy(c, j->ldc, acc, ld, rows, columns);
}

static void packed_item(void *arg, int64_t item)
{
    const packed_job *j = arg;
    const int64_t end = (item + 1) * j->per_item;
    offsets o = { 0 };
    _Alignas(64) float acc[RQ_GEMM_F32_ROWS * 48] = { 0 };
    for (int64_t at = item * j->per_item; at < end && at < j->units; at++) {
        const int64_t panel = at / j->strips, r = at % j->strips * RQ_GEMM_F32_ROWS;
        const int64_t q0 = rq_gemm_f32_panel_at(j->k, j->n, panel), q1 = rq_gemm_f32_panel_at(j->k, j->n, panel + 1);
        const int rows = (int)(j->m - r < RQ_GEMM_F32_ROWS ? j->m - r : RQ_GEMM_F32_ROWS);
        fill_offsets(&o, (int)(q1 - q0), j->depth);
        sum(j, &o, acc, j->a + r * j->lda, j->b + q0 * j->depth, rows);
        finish(j, r, q0, acc, o.ld, rows, (int)((q1 < j->n ? q1 : j->n) - q0));
    }
}

void rq_gemm_f32_packed(const rq_kernels *K, float *c, int64_t ldc, const float *a, int64_t lda, const float *packed,
                        int64_t m, int64_t n, int64_t k, const rq_gemm_f32_after *after, rq_threads *t)
{
    const int64_t strips = (m + RQ_GEMM_F32_ROWS - 1) / RQ_GEMM_F32_ROWS, panels = rq_gemm_f32_panels(K, n);
    const double rows = (double)m / (double)strips,
                 macs = (rows < LEAST_ROWS ? LEAST_ROWS : rows) * (double)n * (double)k / (double)panels;
    packed_job j = { .k = K,
                     .after = after,
                     .c = c,
                     .a = a,
                     .b = packed,
                     .m = m,
                     .n = n,
                     .depth = k,
                     .lda = lda,
                     .ldc = ldc,
                     .strips = strips,
                     .units = strips * panels,
                     .per_item = macs >= ITEM_MACS ? 1 : 1 + (int64_t)(ITEM_MACS / macs) };
    rq_threads_for(t, (j.units + j.per_item - 1) / j.per_item, packed_item, &j);
}
