/* coreml/metadata_build.c — from reals and the scales, tables and zeros they were made with back to the integers: code = rne(w / scale) + zero point,
 * index = the nearest entry. Then the operations, as coremltools' converter makes them (docs/coreml-facts.md 10). */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "coreml/element.h"
#include "coreml/metadata.h"
#include "coreml/palette_op.h"

static rq_status no_memory(const rq_metadata *d, rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory with the metadata of '%s'", d->param);
}

/* ---- codes ---- */

/* Element e of a tensor [dim] lies in which block of g? */
static int64_t block_of(const rq_metadata_grid *g, int rank, const int64_t *dim, int64_t e)
{
    int64_t at[RQ_MAX_RANK], i = 0;
    for (int k = rank - 1; k >= 0; k--) {
        at[k] = e % dim[k];
        e /= dim[k];
    }
    for (int k = 0; k < rank; k++)
        i = i * g->dim[k] + at[k] / (dim[k] / g->dim[k]);
    return i;
}

typedef struct codes {
    int16_t *q; /* [n] */
    bool is_signed;
    int nbits; /* of the type: 4 or 8 */
} codes;

/* The type is unsigned where nothing is negative, whatever it was in training. Codes are clamped to the bits that were said. */
static rq_status codes_of(codes *out, const rq_metadata *d, const rq_metadata_grid *w, rq_err *err)
{
    *out = (codes) { .q = rq_mem_alloc((size_t)w->n, sizeof *out->q), .nbits = d->nbits <= 4 ? 4 : 8 };
    float *x = out->q ? rq_mem_alloc((size_t)w->n, sizeof *x) : NULL;
    if (!x)
        return no_memory(d, err);
    for (int64_t e = 0; e < w->n; e++) {
        const int64_t b = block_of(&d->scale, w->rank, w->dim, e);
        x[e] = rintf(w->v[e] / d->scale.v[b]) + (d->zero_point.v ? d->zero_point.v[b] : 0);
        out->is_signed |= !(x[e] >= 0);
    }
    for (int64_t i = 0; d->zero_point.v && i < d->zero_point.n; i++)
        out->is_signed |= d->zero_point.v[i] < 0;
    const float lo = out->is_signed ? -(float)(1 << (d->nbits - 1)) : 0;
    const float hi = (float)((1 << (out->is_signed ? d->nbits - 1 : d->nbits)) - 1);
    for (int64_t e = 0; e < w->n; e++)
        out->q[e] = (int16_t)(x[e] < lo ? lo : x[e] > hi ? hi : x[e] == x[e] ? x[e] : 0);
    rq_mem_free(x);
    return RQ_OK;
}

/* 4 bits are enough. */
static void narrow(codes *c, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (c->q[i] > (c->is_signed ? 7 : 15) || c->q[i] < -8)
            return;
    c->nbits = 4;
}

static const char *type_of(const codes *c)
{
    return c->nbits == 4 ? c->is_signed ? "int4" : "uint4" : c->is_signed ? "int8" : "uint8";
}

/* ---- in the orientation of the constant ---- */

static void turn_dim(int64_t *dst, const int64_t *src, int rank, bool turned)
{
    memcpy(dst, src, (size_t)rank * sizeof *dst);
    if (turned) {
        dst[0] = src[1];
        dst[1] = src[0];
    }
}

/* Where element e of the constant's orientation is in ours; inner: elements of one place (entries of a table). */
static int64_t turned_from(const int64_t *dim, int64_t inner, bool turned, int64_t e)
{
    if (!turned)
        return e;
    const int64_t k = e % inner, place = e / inner, row = place / dim[0], col = place % dim[0];
    return (col * dim[1] + row) * inner + k;
}

static int64_t inner_of(const rq_metadata_grid *g)
{
    int64_t n = 1;
    for (int i = 2; i < g->rank; i++)
        n *= g->dim[i];
    return n;
}

/* A grid as reals of `type` (fp16, fp32). */
static rq_mil_value *reals_value(const rq_metadata_place *p, const rq_metadata_grid *g, const char *type, int rank)
{
    const rq_mil_dtype *t = rq_mil_dtype_of_name(type);
    int64_t dim[RQ_MAX_RANK];
    void *data = rq_mem_alloc((size_t)g->n, sizeof(float));
    if (!data)
        return NULL;
    for (int64_t i = 0; i < g->n; i++)
        rq_element_put(data, t->dtype, i,
                       rq_element_round(t->dtype, g->v[turned_from(g->dim, inner_of(g), p->turned, i)]));
    turn_dim(dim, g->dim, g->rank, p->turned);
    if (rank == 1) /* squeezed */
        for (int i = 0, k = 0; i < g->rank; i++)
            if (dim[i] > 1)
                dim[k++] = dim[i];
    rq_mil_value *v = rq_coreml_value(p->m, type, rank, dim, data);
    rq_mem_free(data);
    return v;
}

/* Integers, a byte each, as a value of `type`. */
static rq_mil_value *bytes_value(const rq_metadata_place *p, const char *type, int rank, const int64_t *dim,
                                 const uint8_t *q, int64_t n)
{
    const rq_mil_dtype *t = rq_mil_dtype_of_name(type);
    uint8_t *packed = rq_mem_zalloc((size_t)n + 8, 1);
    uint64_t bad;
    if (!packed)
        return NULL;
    if (t->bits < 8)
        rq_mil_dtype_pack(t, packed, q, (uint64_t)n, &bad);
    else
        memcpy(packed, q, (size_t)n);
    rq_mil_value *v = rq_coreml_value(p->m, type, rank, dim, packed);
    rq_mem_free(packed);
    return v;
}

/* Codes of a grid of those sizes; kept: only what the mask has. */
static rq_mil_value *codes_value(const rq_metadata_place *p, const codes *c, const rq_metadata_grid *of,
                                 const rq_prune *kept)
{
    int64_t dim[RQ_MAX_RANK], n = 0;
    uint8_t *q = rq_mem_alloc((size_t)of->n, 1);
    if (!q)
        return NULL;
    for (int64_t i = 0; i < of->n; i++)
        if (!kept || rq_prune_stays(kept, i))
            q[n++] = (uint8_t)c->q[turned_from(of->dim, inner_of(of), p->turned, i)];
    turn_dim(dim, of->dim, of->rank, p->turned);
    rq_mil_value *v = bytes_value(p, type_of(c), kept ? 1 : of->rank, kept ? &n : dim, q, n);
    rq_mem_free(q);
    return v;
}

static bool zero_points_are_zero(const rq_metadata *d)
{
    for (int64_t i = 0; d->zero_point.v && i < d->zero_point.n; i++)
        if (d->zero_point.v[i] != 0)
            return false;
    return true;
}

/* Zero points in the type of the codes; rank 0 and 1: squeezed. */
static rq_mil_value *zero_value(const rq_metadata_place *p, const rq_metadata *d, const codes *c, int rank)
{
    const rq_metadata_grid *g = d->zero_point.v ? &d->zero_point : &d->scale;
    int64_t dim[RQ_MAX_RANK];
    uint8_t *q = rq_mem_zalloc((size_t)g->n, 1);
    if (!q)
        return NULL;
    for (int64_t i = 0; d->zero_point.v && i < g->n; i++)
        q[i] = (uint8_t)(int)g->v[turned_from(g->dim, inner_of(g), p->turned, i)];
    turn_dim(dim, g->dim, g->rank, p->turned);
    if (rank == 1)
        for (int i = 0, k = 0; i < g->rank; i++)
            if (dim[i] > 1)
                dim[k++] = dim[i];
    rq_mil_value *v = bytes_value(p, type_of(c), rank, dim, q, g->n);
    rq_mem_free(q);
    return v;
}

/* ---- operations ---- */

typedef struct build {
    const rq_metadata *d;
    rq_metadata_place *p;
    const char *name, *reals; /* of the constant: its name, fp16 or fp32 */
    rq_coreml_dense dense;    /* its type and sizes */
    int64_t dim[RQ_MIL_MAX_RANK];
    rq_prune mask;   /* in its orientation */
    rq_mil_op *last; /* made last */
    uint64_t bytes;
} build;

static bool insert(build *b, rq_mil_op *op)
{
    b->last = op;
    return rq_mil_block_insert(&b->p->m->program, b->p->block, rq_coreml_uses_position(b->p->block, b->p->op), op);
}

static const char *step_name(const build *b, const char *suffix)
{
    const rq_coreml_weight w = { .m = b->p->m, .name = b->name };
    return rq_coreml_weight_name(&w, suffix);
}

static rq_mil_type *whole_type(const build *b, const char *elements)
{
    return rq_mil_tensor_type(&b->p->m->program, rq_mil_dtype_of_name(elements), b->dense.rank, b->dim);
}

/* The mask of what is more than the eps of fp16. */
static rq_status make_mask(build *b, rq_err *err)
{
    const rq_metadata_grid *w = &b->p->weight;
    float *x = rq_mem_alloc((size_t)w->n, sizeof *x);
    rq_coreml_op_config c = rq_coreml_op_config_defaults(RQ_COREML_THRESHOLD_PRUNER);
    char why[RQ_PRUNE_WHY];
    if (!x)
        return no_memory(b->d, err);
    for (int64_t i = 0; i < w->n; i++)
        x[i] = w->v[turned_from(w->dim, inner_of(w), b->p->turned, i)];
    c.threshold = 0x1p-10;
    c.minimum_sparsity_percentile = 0;
    b->mask = (rq_prune) { .data = x, .dtype = RQ_DTYPE_F32, .rank = b->dense.rank, .dim = b->dim };
    const rq_status s = rq_prune_make(&b->mask, &c, why, err);
    b->mask.data = NULL;
    rq_mem_free(x);
    b->bytes += (uint64_t)(w->n + 7) / 8;
    return s;
}

/* constexpr_sparse_to_dense of what the operation before gives, or of the reals that stay. */
static bool put_spread(build *b, const rq_mil_op *masked)
{
    rq_coreml *m = b->p->m;
    rq_mil_op *op = rq_coreml_sparse_op(m, b->name, b->name, &b->dense);
    if (!op)
        return false;
    if (masked)
        return rq_mil_op_bind(&m->program, op, "nonzero_data", masked->outputs[1].name) &&
               rq_mil_op_bind(&m->program, op, "mask", masked->outputs[0].name) && insert(b, op);
    const rq_metadata_grid *w = &b->p->weight;
    void *x = rq_mem_alloc((size_t)w->n, sizeof(float));
    if (!x)
        return false;
    for (int64_t i = 0; i < w->n; i++)
        rq_element_put(x, b->dense.type->dtype, i,
                       rq_element_round(b->dense.type->dtype, w->v[turned_from(w->dim, inner_of(w), b->p->turned, i)]));
    rq_coreml_dense d = b->dense;
    d.data = x;
    rq_mil_value *v = rq_coreml_kept_value(m, &b->mask, &d, true);
    rq_mem_free(x);
    b->bytes += (uint64_t)b->mask.kept * (uint64_t)b->dense.type->bits / 8;
    return rq_coreml_op_set(m, op, "nonzero_data", v) &&
           rq_coreml_op_set(m, op, "mask", rq_coreml_mask_value(m, &b->mask, &b->dense)) && insert(b, op);
}

static bool put_affine(build *b, const codes *c)
{
    rq_mil_program *prog = &b->p->m->program;
    int64_t dim[RQ_MAX_RANK];
    int axis = 0, finer = 0;
    turn_dim(dim, b->d->scale.dim, b->d->scale.rank, b->p->turned);
    for (int i = b->d->scale.rank - 1; i >= 0; i--)
        if (dim[i] > 1)
            axis = i, finer = 1;
    rq_mil_op *op = rq_mil_op_make(prog, "constexpr_affine_dequantize", b->name);
    rq_mil_value *q = op ? codes_value(b->p, c, &b->p->weight, NULL) : NULL;
    rq_mil_value *s = q ? reals_value(b->p, &b->d->scale, b->reals, finer) : NULL;
    rq_mil_value *z = s ? zero_value(b->p, b->d, c, finer) : NULL;
    rq_mil_value *a = z ? rq_mil_int(prog, axis) : NULL;
    return a && rq_mil_op_set_attr(prog, op, "quantized_data", q) && rq_mil_op_set_attr(prog, op, "zero_point", z) &&
           rq_mil_op_set_attr(prog, op, "scale", s) && rq_mil_op_set_attr(prog, op, "axis", a) &&
           rq_mil_op_output(prog, op, b->name, whole_type(b, b->reals)) && insert(b, op);
}

/* constexpr_blockwise_shift_scale of codes, or of what the operation before gives (`data`). */
static bool put_blocks(build *b, const codes *c, const char *data, const rq_metadata_grid *scale, bool zero)
{
    rq_mil_program *prog = &b->p->m->program;
    rq_mil_op *op = rq_mil_op_make(prog, "constexpr_blockwise_shift_scale", b->name);
    if (!op || !(data ? rq_mil_op_bind(prog, op, "data", data)
                      : rq_coreml_op_set(b->p->m, op, "data", codes_value(b->p, c, &b->p->weight, NULL))))
        return false;
    if (!rq_coreml_op_set(b->p->m, op, "scale", reals_value(b->p, scale, b->reals, b->dense.rank)))
        return false;
    if (zero && !rq_coreml_op_set(b->p->m, op, "offset", zero_value(b->p, b->d, c, b->dense.rank)))
        return false;
    return rq_mil_op_output(prog, op, b->name, whole_type(b, b->reals)) && insert(b, op);
}

static bool put_sparse_codes(build *b, const codes *c)
{
    rq_coreml *m = b->p->m;
    const char *name = step_name(b, "_quantized");
    rq_mil_op *op = name ? rq_coreml_masked_op(m, "constexpr_sparse_blockwise_shift_scale", name, b->dense.rank, b->dim,
                                               b->dense.type, b->mask.kept)
                         : NULL;
    if (!op || !rq_coreml_op_set(m, op, "data_mask", rq_coreml_mask_value(m, &b->mask, &b->dense)) ||
        !rq_coreml_op_set(m, op, "nonzero_data", codes_value(b->p, c, &b->p->weight, &b->mask)) ||
        !rq_coreml_op_set(m, op, "scale", reals_value(b->p, &b->d->scale, b->reals, b->dense.rank)))
        return false;
    if (b->d->zero_point.v && !rq_coreml_op_set(m, op, "offset", zero_value(b->p, b->d, c, b->dense.rank)))
        return false;
    return insert(b, op) && put_spread(b, op);
}

static rq_status quantize(build *b, rq_err *err)
{
    codes c = { 0 };
    rq_status s = codes_of(&c, b->d, &b->p->weight, err);
    bool ok = true;
    if (!s && b->mask.mask) {
        ok = put_sparse_codes(b, &c);
        b->bytes += (uint64_t)b->mask.kept * (uint64_t)c.nbits / 8;
    } else if (!s && !rq_coreml_is_ios18(b->p->m)) {
        ok = put_affine(b, &c);
        b->bytes += (uint64_t)b->p->weight.n;
    } else if (!s) {
        narrow(&c, b->p->weight.n);
        ok = put_blocks(b, &c, NULL, &b->d->scale, !zero_points_are_zero(b->d));
        b->bytes += (uint64_t)b->p->weight.n * (uint64_t)c.nbits / 8;
    }
    rq_mem_free(c.q);
    return s ? s : ok ? RQ_OK : no_memory(b->d, err);
}

/* ---- tables ---- */

/* The table with its entries filled up to a power of two, by zeros. */
static rq_status filled(rq_metadata_grid *out, const rq_metadata *d, int rank, rq_err *err)
{
    const rq_metadata_grid *t = &d->lut;
    const int64_t was = t->dim[rank], now = (int64_t)1 << rq_metadata_bits(was), vector = t->dim[rank + 1];
    *out = *t;
    out->dim[rank] = now;
    out->n = t->n / was * now;
    out->v = rq_mem_zalloc((size_t)out->n, sizeof *out->v);
    if (!out->v)
        return no_memory(d, err);
    for (int64_t g = 0; g < t->n / was / vector; g++)
        memcpy(out->v + g * now * vector, t->v + g * was * vector, (size_t)(was * vector) * sizeof *out->v);
    return RQ_OK;
}

/* Index of the nearest entry for each element (of each vector along the axis), in the orientation of the metadata. */
static void nearest(uint8_t *dst, const build *b, const rq_metadata_grid *t, const int64_t *dim, int64_t n)
{
    const rq_metadata_grid *w = &b->p->weight, *ps = &b->d->palette_scale;
    const int64_t entries = t->dim[w->rank], vector = t->dim[w->rank + 1];
    const int axis = b->d->vector_axis;
    int64_t step = 1;
    for (int i = axis + 1; i < w->rank; i++)
        step *= w->dim[i];
    for (int64_t e = 0; e < n; e++) {
        const float *table = t->v + block_of(t, w->rank, dim, e) * entries * vector;
        const int64_t inner = e % step, c = e / step % dim[axis], o = e / step / dim[axis];
        float least = INFINITY;
        int64_t best = 0;
        for (int64_t k = 0; k < entries; k++) {
            float sum = 0;
            for (int64_t j = 0; j < vector; j++) {
                const int64_t at = (o * w->dim[axis] + c * vector + j) * step + inner;
                const float x = ps->v ? w->v[at] / ps->v[block_of(ps, w->rank, w->dim, at)] : w->v[at];
                const float diff = fabsf(x - table[k * vector + j]);
                sum = vector == 1 ? diff : sum + diff * diff;
            }
            if (sum < least)
                least = sum, best = k;
        }
        dst[e] = (uint8_t)best;
    }
}

/* Table and indices; where the table is quantized, its codes, and the scale behind. */
static bool put_lookup(build *b, const rq_metadata_grid *t, const uint8_t *index, const int64_t *dim, int64_t n,
                       codes *c)
{
    rq_coreml *m = b->p->m;
    const int rank = b->dense.rank, nbits = rq_metadata_bits(t->dim[rank]);
    const bool vectors = t->dim[rank + 1] > 1, quantized = c->q != NULL, scaled = b->d->palette_scale.v != NULL;
    int64_t turned[RQ_MAX_RANK], kept = 0;
    int axis = vectors ? b->d->vector_axis : -1;
    if (b->p->turned && vectors && axis < 2)
        axis = 1 - axis;
    uint8_t *q = rq_mem_alloc((size_t)n, 1);
    if (!q)
        return false;
    for (int64_t i = 0; i < n; i++)
        if (!b->mask.mask || rq_prune_stays(&b->mask, i))
            q[kept++] = index[turned_from(dim, rank > 2 ? n / dim[0] / dim[1] : 1, b->p->turned, i)];
    turn_dim(turned, dim, rank, b->p->turned);
    rq_mil_value *indices =
        b->mask.mask ? rq_coreml_codes_value(m, nbits, 1, &kept, q) : rq_coreml_codes_value(m, nbits, rank, turned, q);
    rq_mem_free(q);
    rq_mil_value *lut = quantized               ? codes_value(b->p, c, t, NULL)
                        : rq_coreml_is_ios18(m) ? reals_value(b->p, t, b->reals, rank + 2)
                                                : NULL;
    if (!lut && !quantized) { /* one table of numbers */
        rq_metadata_grid flat = { .v = t->v, .rank = 1, .dim = { t->n }, .n = t->n };
        rq_metadata_place straight = *b->p;
        straight.turned = false;
        lut = reals_value(&straight, &flat, b->reals, 1);
    }
    b->bytes += ((uint64_t)kept * (uint64_t)nbits + 7) / 8 + (uint64_t)t->n * 2;
    if (!indices || !lut)
        return false;
    if (b->mask.mask) {
        const char *name = step_name(b, "_palettized");
        rq_mil_op *op =
            name ? rq_coreml_masked_op(m, "constexpr_lut_to_sparse", name, rank, b->dim, b->dense.type, kept) : NULL;
        if (op && quantized) { /* the table is scaled before: constexpr_blockwise_shift_scale gives it */
            const char *of = step_name(b, "_lut");
            rq_mil_op *scale = of ? rq_mil_op_make(&m->program, "constexpr_blockwise_shift_scale", of) : NULL;
            int64_t tdim[RQ_MAX_RANK];
            turn_dim(tdim, t->dim, t->rank, b->p->turned);
            rq_mil_type *type = scale ? rq_mil_tensor_type(&m->program, b->dense.type, t->rank, tdim) : NULL;
            if (!type || !rq_coreml_op_set(m, scale, "data", lut) ||
                !rq_coreml_op_set(m, scale, "scale", reals_value(b->p, &b->d->scale, b->reals, t->rank)) ||
                (!zero_points_are_zero(b->d) &&
                 !rq_coreml_op_set(m, scale, "offset", zero_value(b->p, b->d, c, t->rank))) ||
                !rq_mil_op_output(&m->program, scale, of, type) || !insert(b, scale) ||
                !rq_mil_op_bind(&m->program, op, "lut", of))
                return false;
        }
        return op && rq_coreml_op_set(m, op, "indices_mask", rq_coreml_mask_value(m, &b->mask, &b->dense)) &&
               rq_coreml_op_set(m, op, "indices_nonzero_data", indices) &&
               (quantized || rq_coreml_op_set(m, op, "lut", lut)) && insert(b, op) && put_spread(b, op);
    }
    const bool more = quantized || scaled;
    const char *name = more ? step_name(b, "_palettized") : b->name;
    rq_coreml_dense dense = b->dense;
    if (quantized)
        dense.type = rq_mil_dtype_of_name(type_of(c));
    rq_mil_op *op = name ? rq_coreml_lut_op(m, name, name, &dense, indices, lut, axis) : NULL;
    if (!op || !insert(b, op))
        return false;
    if (quantized) {
        rq_metadata_grid scale = b->d->scale;
        scale.rank = rank; /* its last two sizes are 1 */
        return put_blocks(b, c, name, &scale, b->d->zero_point.v != NULL);
    }
    return !scaled || put_blocks(b, NULL, name, &b->d->palette_scale, false);
}

static rq_status palettize(build *b, rq_err *err)
{
    rq_metadata_grid t;
    codes c = { 0 };
    int64_t dim[RQ_MAX_RANK];
    const rq_metadata_grid *w = &b->p->weight;
    RQ_TRY(filled(&t, b->d, w->rank, err));
    memcpy(dim, w->dim, sizeof dim);
    dim[b->d->vector_axis] /= t.dim[w->rank + 1];
    const int64_t n = w->n / t.dim[w->rank + 1];
    uint8_t *index = rq_mem_alloc((size_t)n, 1);
    rq_status s = index ? RQ_OK : no_memory(b->d, err);
    if (!s) {
        nearest(index, b, &t, dim, n);
        if (rq_metadata_has(b->d, RQ_METADATA_QUANTIZATION)) {
            s = codes_of(&c, b->d, &t, err);
            if (!s)
                narrow(&c, t.n);
        }
    }
    if (!s && !put_lookup(b, &t, index, dim, n, &c))
        s = no_memory(b->d, err);
    rq_mem_free(c.q);
    rq_mem_free(index);
    rq_mem_free(t.v);
    return s;
}

rq_status rq_metadata_build(const rq_metadata *d, rq_metadata_place *p, const char **op, uint64_t *bytes, rq_err *err)
{
    const rq_mil_type *t = p->op->outputs[0].type;
    build b = { .d = d, .p = p, .name = p->op->outputs[0].name, .reals = t->dtype->name };
    b.dense = (rq_coreml_dense) { .type = t->dtype, .rank = (int)t->rank, .dim = b.dim };
    for (int i = 0; i < b.dense.rank; i++)
        b.dim[i] = (int64_t)t->dim[i].size;
    rq_status s = rq_metadata_has(d, RQ_METADATA_PRUNING) ? make_mask(&b, err) : RQ_OK;
    if (!s && rq_metadata_has(d, RQ_METADATA_PALETTIZATION))
        s = palettize(&b, err);
    else if (!s && rq_metadata_has(d, RQ_METADATA_QUANTIZATION))
        s = quantize(&b, err);
    else if (!s && !put_spread(&b, NULL))
        s = no_memory(d, err);
    rq_prune_release(&b.mask);
    if (s)
        return s;
    rq_coreml_uses_remove(p->block, p->op);
    *op = b.last->type;
    *bytes = b.bytes;
    return RQ_OK;
}
