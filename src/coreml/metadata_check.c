/* coreml/metadata_check.c — does what PyTorch wrote beside a weight fit that weight and itself: shapes, widths, which compressions go together. */
#include <inttypes.h>

#include "coreml/metadata.h"

static rq_status divides(const rq_metadata *d, const char *what, const rq_metadata_grid *g, const rq_metadata_grid *of,
                         rq_err *err)
{
    for (int i = 0; i < of->rank; i++)
        if (g->dim[i] < 1 || of->dim[i] % g->dim[i])
            return rq_fail(err, RQ_BAD_DATA,
                           "%s: axis %d of its %s has %" PRId64 " blocks, the axis of what it scales %" PRId64
                           " elements",
                           d->param, i, what, g->dim[i], of->dim[i]);
    return RQ_OK;
}

static void widen(rq_metadata_grid *g, int rank)
{
    while (g->rank < rank)
        g->dim[g->rank++] = 1;
}

/* Scale and zero point in blocks of `of`. */
static rq_status check_scale(rq_metadata *d, const rq_metadata_grid *of, bool of_table, rq_err *err)
{
    if (!d->nbits)
        return rq_fail(err, RQ_BAD_DATA, "%s: quantization_n_bits must be specified in quantization.", d->param);
    if (!d->scale.v)
        return rq_fail(err, RQ_BAD_DATA, "%s: quantization_scale must be specified in quantization.", d->param);
    if (of->rank == 4 && d->scale.rank == 2 && !of_table) {
        widen(&d->scale, 4);
        if (d->zero_point.v && d->zero_point.rank == 2)
            widen(&d->zero_point, 4);
    }
    if (d->scale.rank != of->rank)
        return rq_fail(err, RQ_BAD_DATA, "In %s, the `weight` should have same rank as `scale`, but got %d vs %d",
                       d->param, of->rank, d->scale.rank);
    RQ_TRY(divides(d, "quantization_scale", &d->scale, of, err));
    for (int i = of->rank - 2; of_table && i < of->rank; i++)
        if (d->scale.dim[i] != 1)
            return rq_fail(err, RQ_BAD_DATA, "%s: the quantization_scale of a lut is one number for each table",
                           d->param);
    if (of_table && d->palette_scale.v)
        return rq_fail(err, RQ_BAD_DATA,
                       "%s: Unsupported joint compression combination: a quantized lut with a palettization_scale",
                       d->param);
    if (!d->zero_point.v)
        return RQ_OK;
    for (int64_t i = 0; i < d->zero_point.n; i++)
        if (!(d->zero_point.v[i] >= -128 && d->zero_point.v[i] <= 255))
            return rq_fail(err, RQ_BAD_DATA, "%s: its zero_point has a number that no code of 8 bits is", d->param);
    if (d->zero_point.rank != of->rank)
        return rq_fail(err, RQ_BAD_DATA, "In %s, the `weight` should have same rank as `zero_point`, but got %d vs %d",
                       d->param, of->rank, d->zero_point.rank);
    for (int i = 0; i < of->rank; i++)
        if (d->zero_point.dim[i] != d->scale.dim[i])
            return rq_fail(err, RQ_BAD_DATA, "%s: its zero_point and its quantization_scale have other shapes",
                           d->param);
    return RQ_OK;
}

static rq_status check_table(rq_metadata *d, const rq_metadata_grid *w, rq_err *err)
{
    static const bool valid[9] = { [1] = true, [2] = true, [3] = true, [4] = true, [6] = true, [8] = true };
    rq_metadata_grid *t = &d->lut;
    if (!t->v)
        return rq_fail(err, RQ_BAD_DATA, "%s: Missing lut in compression info. Please register a buffer for lut.",
                       d->param);
    if (t->rank == w->rank + 1)
        widen(t, w->rank + 2);
    if (t->rank != w->rank + 2)
        return rq_fail(
            err, RQ_BAD_DATA,
            "In %s, The rank of lut is invalid. It should match weight's rank where lut.rank == weight.rank + 2). "
            "Got lut.rank %d and weight.rank %d",
            d->param, t->rank, w->rank);
    const int nbits = rq_metadata_bits(t->dim[w->rank]);
    if (nbits > 8 || !valid[nbits])
        return rq_fail(err, RQ_BAD_DATA, "%s: its lut has %" PRId64 " entries: tables have 2, 4, 8, 16, 64 or 256",
                       d->param, t->dim[w->rank]);
    rq_metadata_grid codes = *w;
    const int64_t vector = t->dim[w->rank + 1];
    if (d->has_vector_axis && (d->vector_axis < -w->rank || d->vector_axis >= w->rank))
        return rq_fail(err, RQ_BAD_DATA, "%s: Invalid vector_axis (%d)", d->param, d->vector_axis);
    d->vector_axis += d->vector_axis < 0 ? w->rank : 0;
    if (vector < 1 || codes.dim[d->vector_axis] % vector)
        return rq_fail(err, RQ_BAD_DATA,
                       "%s: The data dim on %dth axis (%" PRId64 ") must be divisible by vector_size (%" PRId64 ")",
                       d->param, d->vector_axis, codes.dim[d->vector_axis], vector);
    codes.dim[d->vector_axis] /= vector;
    RQ_TRY(divides(d, "lut", t, &codes, err));
    if (!d->palette_scale.v)
        return RQ_OK;
    if (w->rank == 4 && d->palette_scale.rank == 2)
        widen(&d->palette_scale, 4);
    if (d->palette_scale.rank != w->rank)
        return rq_fail(err, RQ_BAD_DATA, "In %s, the scale should have the same rank as weight, but got %d vs %d.",
                       d->param, d->palette_scale.rank, w->rank);
    return divides(d, "palettization_scale", &d->palette_scale, w, err);
}

static int finer_axes(const rq_metadata_grid *g, int rank)
{
    int n = 0;
    for (int i = 0; i < rank; i++)
        n += g->dim[i] > 1;
    return n;
}

rq_status rq_metadata_check(rq_metadata *d, const rq_metadata_grid *weight, int32_t *spec, rq_err *err)
{
    const bool prune = rq_metadata_has(d, RQ_METADATA_PRUNING), table = rq_metadata_has(d, RQ_METADATA_PALETTIZATION);
    const bool quantize = rq_metadata_has(d, RQ_METADATA_QUANTIZATION);
    for (int i = 1; i < d->n_types; i++)
        if (d->type[i] <= d->type[i - 1])
            return rq_fail(
                err, RQ_BAD_DATA,
                "%s: Unsupported joint compression combination. Please check the value of 'compression_type': "
                "pruning (1), palettization (2) and quantization (3) are applied in this order, each once",
                d->param);
    *spec = d->n_types > 1 ? RQ_COREML_IOS18 : RQ_COREML_IOS16;
    if (weight->rank < 1 || weight->rank > RQ_MAX_RANK - 2 || weight->n < 1)
        return rq_fail(err, RQ_BAD_DATA, "%s: a weight of %d axes cannot be compressed", d->param, weight->rank);
    if (table) {
        RQ_TRY(check_table(d, weight, err));
        const rq_metadata_grid *t = &d->lut;
        if (prune && t->dim[weight->rank + 1] > 1)
            return rq_fail(err, RQ_BAD_DATA, "%s: vectors of a sparse weight cannot be palettized", d->param);
        if (finer_axes(t, weight->rank) || t->dim[weight->rank + 1] > 1 || d->palette_scale.v ||
            rq_metadata_bits(t->dim[weight->rank]) == 3)
            *spec = RQ_COREML_IOS18;
    }
    if (quantize) {
        RQ_TRY(check_scale(d, table ? &d->lut : weight, table, err));
        const int finer = finer_axes(&d->scale, d->scale.rank);
        bool whole = true; /* one number, or one for each channel of one axis */
        for (int i = 0; i < d->scale.rank; i++)
            whole &= d->scale.dim[i] == 1 || d->scale.dim[i] == (table ? &d->lut : weight)->dim[i];
        if (d->nbits <= 4 || finer > 1 || !whole)
            *spec = RQ_COREML_IOS18;
    }
    return RQ_OK;
}
