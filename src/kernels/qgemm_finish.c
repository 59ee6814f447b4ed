/* kernels/qgemm_finish.c — what becomes of the sums of an integer product, and of the codes that are made of them; see qgemm.h. */
#include "kernels/kernels.h"
#include "kernels/quantize.h"

#include <string.h>

enum { PART = RQ_QGEMM_MAX_COLUMNS };

/* s from C: everything that is added. Modulo 2^32, so that the order does not matter. */
static void correct(const rq_qgemm_out *o, int32_t *restrict c, int64_t i, int64_t j0, int64_t n)
{
    const uint32_t row = o->row_add ? (uint32_t)o->row_add[i] : 0;
    if (o->col_add) {
        const int32_t *add = o->col_add + j0;
        for (int64_t j = 0; j < n; j++)
            c[j] = (int32_t)((uint32_t)c[j] + (uint32_t)add[j] + row);
    } else if (row) {
        for (int64_t j = 0; j < n; j++)
            c[j] = (int32_t)((uint32_t)c[j] + row);
    }
    if (o->col_zero) {
        const uint32_t sum = (uint32_t)o->row_sum[i];
        const int32_t *zero = o->col_zero + j0;
        for (int64_t j = 0; j < n; j++)
            c[j] = (int32_t)((uint32_t)c[j] - sum * (uint32_t)zero[j]);
    }
    if (o->row_zero) {
        const uint32_t zero = (uint32_t)o->row_zero[i];
        const int32_t *sum = o->col_sum + j0;
        for (int64_t j = 0; j < n; j++)
            c[j] = (int32_t)((uint32_t)c[j] - zero * (uint32_t)sum[j]);
    }
    if (o->add) {
        const int32_t *add = o->add + i * o->add_row + j0 * o->add_col;
        for (int64_t j = 0; j < n; j++)
            c[j] = (int32_t)((uint32_t)c[j] + (uint32_t)add[j * o->add_col]);
    }
}

/* The multipliers of a part of a row: where they are, or put together in m. */
static const float *multipliers(const rq_qgemm_out *o, float *restrict m, int64_t i, int64_t j0, int64_t n)
{
    if (!o->row_m)
        return o->col_m + j0;
    const float row = o->row_m[i];
    for (int64_t j = 0; j < n; j++)
        m[j] = o->col_m ? row * o->col_m[j0 + j] : row;
    return m;
}

/* y = round( (sum unit + bias) / y_scale ): the product of a 32 bit sum and two f32 scales is off by 2^-53 at most. */
static void finish_exact(const rq_qgemm_out *o, const int32_t *c, int64_t i, int64_t j0, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        double v = c[j] * o->col_unit[j0 + j];
        v += o->col_bias ? (double)o->col_bias[j0 + j] : 0;
        if (o->kind == RQ_QGEMM_F32)
            ((float *)o->y)[i * o->ld + j0 + j] = (float)v;
        else
            ((uint8_t *)o->y)[i * o->ld + j0 + j] = (uint8_t)rq_quantize_real_f64(v / o->y_scale, o->zp, o->lo, o->hi);
    }
}

static void finish_part(const rq_kernels *k, const rq_qgemm_out *o, int32_t *c, int64_t i, int64_t j0, int64_t n)
{
    float m[PART];
    correct(o, c, i, j0, n);
    if (o->kind == RQ_QGEMM_S32)
        memcpy((int32_t *)o->y + i * o->ld + j0, c, (size_t)n * sizeof *c);
    else if (o->col_unit)
        finish_exact(o, c, i, j0, n);
    else if (o->kind == RQ_QGEMM_F32) /* two roundings (docs/onnx-facts.md 6.2) */
        k->sums_reals(&(rq_sums_reals) { .y = (float *)o->y + i * o->ld + j0,
                                         .row_m = o->row_m ? o->row_m + i : NULL,
                                         .m = o->col_m ? o->col_m + j0 : NULL,
                                         .bias = o->col_bias ? o->col_bias + j0 : NULL,
                                         .in_turn = o->in_turn },
                      c, 0, 1, (size_t)n);
    else
        k->requantize_tile((uint8_t *)o->y + i * o->ld + j0, 0, c, 0, 1, (size_t)n, NULL, multipliers(o, m, i, j0, n),
                           o->zp, o->lo, o->hi);
}

void rq_qgemm_finish(const rq_kernels *k, const rq_qgemm_out *o, int32_t *c, int64_t i, int64_t j0, int64_t n)
{
    for (int64_t j = 0; j < n; j += PART)
        finish_part(k, o, c + j, i, j0 + j, n - j < PART ? n - j : PART);
}

static void post(const rq_kernels *k, const rq_post *p, uint8_t *y, const uint8_t *other, size_t n)
{
    if (p->kind == RQ_POST_TABLE)
        k->lut8(y, y, n, p->table);
    else if (p->second)
        k->qadd(y, other, y, n, &p->add);
    else
        k->qadd(y, y, other, n, &p->add);
}

void rq_post_run(const rq_kernels *k, const rq_post *posts, int n_post, uint8_t *y, size_t p, size_t n)
{
    for (int i = 0; i < n_post; i++)
        post(k, &posts[i], y + p, posts[i].kind == RQ_POST_ADD ? posts[i].other + p : NULL, n);
}

void rq_post_rows(const rq_kernels *k, const rq_post *posts, int n_post, uint8_t *y, int64_t ld, int64_t i,
                  int64_t rows, int64_t j, int64_t n)
{
    bool whole = n == ld;
    for (int q = 0; q < n_post; q++)
        whole = whole && (!posts[q].other_ld || posts[q].other_ld == ld);
    if (whole) {
        rq_post_run(k, posts, n_post, y, (size_t)(i * ld), (size_t)(rows * ld));
        return;
    }
    for (int64_t row = i; row < i + rows; row++)
        for (int q = 0; q < n_post; q++) {
            const rq_post *p = &posts[q];
            const int64_t at = row * (p->other_ld ? p->other_ld : ld) + j;
            post(k, p, y + row * ld + j, p->kind == RQ_POST_ADD ? p->other + at : NULL, (size_t)n);
        }
}
