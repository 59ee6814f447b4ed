/* ops/det.c — Det, and Inverse of com.microsoft: matrices [..., n, n] by elimination with the largest pivot, in double. */
#include <math.h>

#include "ops/elements.h"
#include "ops/rows.h"

static rq_status det_infer(const rq_infer *a)
{
    const rq_shape *x = &a->in[0]->shape;
    const bool inverse = a->node->row == &rq_op_ms_inverse;
    RQ_TRY(rq_infer_same(a));
    if (x->rank < 0)
        return RQ_OK;
    if (x->rank < 2 ||
        (x->dim[x->rank - 1] >= 0 && x->dim[x->rank - 2] >= 0 && x->dim[x->rank - 1] != x->dim[x->rank - 2])) {
        char text[RQ_SHAPE_TEXT];
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input has shape %s, expected square matrices",
                             rq_shape_text(x, text, sizeof text));
    }
    if (!inverse)
        a->out_shape[0].rank = x->rank - 2;
    return RQ_OK;
}

static void swap_rows(double *m, int64_t width, int64_t i, int64_t j)
{
    for (int64_t c = 0; c < width; c++) {
        const double t = m[i * width + c];
        m[i * width + c] = m[j * width + c];
        m[j * width + c] = t;
    }
}

/* m [n][width], the first n columns the matrix: made triangular (`whole`: the identity). Returns the determinant. */
static double eliminate(double *m, int64_t n, int64_t width, bool whole)
{
    double det = 1;
    for (int64_t k = 0; k < n; k++) {
        int64_t best = k;
        for (int64_t i = k + 1; i < n; i++)
            if (fabs(m[i * width + k]) > fabs(m[best * width + k]))
                best = i;
        if (best != k) {
            swap_rows(m, width, best, k);
            det = -det;
        }
        const double pivot = m[k * width + k];
        det *= pivot;
        if (pivot == 0)
            return 0;
        for (int64_t i = whole ? 0 : k + 1; i < n; i++) {
            const double by = m[i * width + k] / pivot;
            for (int64_t c = k; i != k && c < width; c++)
                m[i * width + c] -= by * m[k * width + c];
        }
        for (int64_t c = 0; whole && c < width; c++)
            m[k * width + c] /= pivot;
    }
    return det;
}

static rq_status det_forward(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape;
    const bool inverse = a->node->row == &rq_op_ms_inverse;
    const int64_t n = x->dim[x->rank - 1], count = rq_shape_span(x, 0, x->rank - 2), width = inverse ? 2 * n : n;
    if (!rq_dtype_is_float(a->in[0]->dtype))
        return rq_op_no_form(a, a->in[0]->dtype);
    double *m = rq_mem_alloc((size_t)n * (size_t)width, sizeof *m);
    if (!m)
        return RQ_NO_MEMORY;
    rq_status s = RQ_OK;
    for (int64_t b = 0; s == RQ_OK && b < count; b++) {
        for (int64_t i = 0; i < n; i++)
            for (int64_t c = 0; c < width; c++)
                m[i * width + c] = c < n ? rq_tensor_get(a->in[0], (b * n + i) * n + c) : c - n == i;
        const double det = eliminate(m, n, width, inverse);
        if (!inverse)
            rq_elements_store_f64(a->out[0], b, &det, 1, true);
        else if (det == 0)
            s = rq_op_fail(a, RQ_BAD_ARG, "matrix %lld has no inverse", (long long)b);
        for (int64_t i = 0; inverse && i < n * n; i++)
            rq_elements_store_f64(a->out[0], b * n * n + i, m + i / n * width + n + i % n, 1, true);
    }
    rq_mem_free(m);
    return s;
}

const rq_op rq_op_det = {
    .name = "Det",
    .domain = "",
    .since = 11,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = det_infer,
    .forward = det_forward,
};

const rq_op rq_op_ms_inverse = {
    .name = "Inverse",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = det_infer,
    .forward = det_forward,
};
