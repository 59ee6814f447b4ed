/* coreml/palette_op.c — see palette_op.h. */
#include "coreml/palette_op.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "coreml/element.h"
#include "coreml/weights.h"

enum { PIECE = 1 << 16, FEW = 10 };

bool rq_coreml_op_set(rq_coreml *m, rq_mil_op *op, const char *param, rq_mil_value *v)
{
    if (!v)
        return false;
    return rq_coreml_is_ios18(m) ? rq_mil_op_bind_value(&m->program, op, param, v)
                                 : rq_mil_op_set_attr(&m->program, op, param, v);
}

bool rq_coreml_op_copy(rq_coreml *m, rq_mil_op *op, const char *param, const rq_mil_op *from, const char *from_param)
{
    const rq_mil_arg *a = rq_mil_op_arg(from, from_param);
    if (!a || a->n != 1)
        return false;
    return a->binding[0].name ? rq_mil_op_bind(&m->program, op, param, a->binding[0].name)
                              : rq_mil_op_bind_value(&m->program, op, param, a->binding[0].value);
}

static int64_t count_of(int rank, const int64_t *dim)
{
    int64_t n = 1;
    for (int i = 0; i < rank; i++)
        n *= dim[i];
    return n;
}

static const rq_mil_dtype *unsigned_of(int nbits)
{
    char name[16];
    snprintf(name, sizeof name, "uint%d", nbits);
    return rq_mil_dtype_of_name(name);
}

/* Type of codes in the form of the version: a tensor of its own type, or bytes. */
static rq_mil_type *codes_type(rq_coreml *m, const rq_mil_dtype *t, int rank, const int64_t *dim)
{
    if (rq_coreml_is_ios18(m))
        return rq_mil_tensor_type(&m->program, t, rank, dim);
    const int64_t bytes = (int64_t)rq_mil_dtype_bytes(t, (uint64_t)count_of(rank, dim));
    return rq_mil_tensor_type(&m->program, rq_mil_dtype_of_name("uint8"), 1, &bytes);
}

static int64_t type_count(const rq_mil_type *t)
{
    bool known;
    return (int64_t)rq_mil_type_count(t, &known);
}

/* Packed bytes in the program's memory as a value. */
static rq_mil_value *value_of(rq_coreml *m, rq_mil_type *type, const void *packed)
{
    return type_count(type) < FEW ? rq_mil_immediate(&m->program, type, packed)
                                  : rq_mil_blob(&m->program, type, packed);
}

rq_mil_value *rq_coreml_codes_value(rq_coreml *m, int nbits, int rank, const int64_t *dim, const uint8_t *codes)
{
    const rq_mil_dtype *t = unsigned_of(nbits);
    const uint64_t n = (uint64_t)count_of(rank, dim);
    rq_mil_type *type = codes_type(m, t, rank, dim);
    uint8_t *packed = type ? rq_arena_alloc(&m->program.arena, rq_mil_dtype_bytes(t, n) + 1, 1) : NULL;
    uint64_t bad;
    if (!packed)
        return NULL;
    if (nbits == 8)
        memcpy(packed, codes, n);
    else
        rq_mil_dtype_pack(t, packed, codes, n, &bad);
    return value_of(m, type, packed);
}

/* ---- indices ---- */

typedef struct index_source {
    rq_palette p;
    int64_t n;
    size_t forget; /* bytes of the weight, where it lies in a mapped file */
} index_source;

static rq_status write_indices(void *arg, struct rq_milblob_writer *w, rq_err *err)
{
    const index_source *s = arg;
    uint8_t *codes = rq_mem_alloc(PIECE, 2);
    if (!codes)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory writing the indices of a weight");
    uint8_t *packed = codes + PIECE;
    const rq_mil_dtype *t = unsigned_of(s->p.nbits);
    rq_status st = RQ_OK;
    for (int64_t at = 0; !st && at < s->n; at += PIECE) {
        const int64_t n = s->n - at < PIECE ? s->n - at : PIECE;
        uint64_t bad;
        rq_palette_indices(&s->p, codes, at, n);
        if (s->p.nbits < 8)
            rq_mil_dtype_pack(t, packed, codes, (uint64_t)n, &bad);
        st = rq_milblob_write(w, s->p.nbits < 8 ? packed : codes, rq_mil_dtype_bytes(t, (uint64_t)n), err);
    }
    if (s->forget)
        rq_file_forget(s->p.data, s->forget);
    rq_mem_free(codes);
    return st;
}

static bool same_memory(const void *a, const void *b, size_t n)
{
    return (!a && !b) || (a && b && !memcmp(a, b, n));
}

/* Equal weights, cut alike, with equal tables. */
static bool same_indices(const index_source *a, const index_source *b)
{
    const rq_palette *p = &a->p, *q = &b->p;
    if (a->n != b->n || p->dtype != q->dtype || p->outer != q->outer || p->channels != q->channels ||
        p->inner != q->inner || p->group != q->group || p->cluster != q->cluster || p->mode != q->mode ||
        p->nbits != q->nbits || p->n_groups != q->n_groups)
        return false;
    const size_t size = rq_dtype_bits(p->dtype) / 8U, groups = (size_t)p->n_groups, entries = groups << p->nbits;
    return same_memory(p->scale, q->scale, (size_t)(p->outer * p->inner) * size) &&
           same_memory(p->table, q->table, entries * (size_t)p->cluster * sizeof *p->table) &&
           same_memory(p->used, q->used, groups * sizeof *p->used) &&
           same_memory(p->lo, q->lo, groups * sizeof *p->lo) && same_memory(p->hi, q->hi, groups * sizeof *p->hi) &&
           rq_coreml_same_bytes(p->data, q->data, (uint64_t)(a->n * p->cluster) * size, a->forget && b->forget);
}

/* A copy of n bytes in the program's memory; p NULL: NULL. */
static void *keep(rq_coreml *m, const void *p, size_t n, bool *ok)
{
    void *c = p ? rq_arena_alloc(&m->program.arena, n + 1, 1) : NULL;
    if (c)
        memcpy(c, p, n);
    *ok &= c || !p;
    return c;
}

static bool keep_palette(rq_coreml *m, rq_palette *p)
{
    const size_t entries = (size_t)p->n_groups << p->nbits, groups = (size_t)p->n_groups;
    bool ok = true;
    p->scale = keep(m, p->scale, (size_t)(p->outer * p->inner) * rq_dtype_bits(p->dtype) / 8, &ok);
    p->table = keep(m, p->table, entries * (size_t)p->cluster * sizeof *p->table, &ok);
    p->bound = keep(m, p->bound, entries * sizeof *p->bound, &ok);
    p->used = keep(m, p->used, groups * sizeof *p->used, &ok);
    p->lo = keep(m, p->lo, groups * sizeof *p->lo, &ok);
    p->hi = keep(m, p->hi, groups * sizeof *p->hi, &ok);
    return ok;
}

rq_mil_value *rq_coreml_indices_value(rq_coreml *m, rq_palette *p, const rq_coreml_dense *w, int axis)
{
    int64_t dim[RQ_MIL_MAX_RANK];
    memcpy(dim, w->dim, (size_t)w->rank * sizeof *dim);
    dim[axis] /= p->cluster;
    const int64_t n = count_of(w->rank, dim);
    rq_mil_type *type = codes_type(m, unsigned_of(p->nbits), w->rank, dim);
    if (!type)
        return NULL;
    if (type_count(type) < FEW) {
        uint8_t codes[FEW * 8];
        rq_palette_indices(p, codes, 0, n);
        return rq_coreml_codes_value(m, p->nbits, w->rank, dim, codes);
    }
    index_source *s = rq_arena_alloc(&m->program.arena, 1, sizeof *s);
    if (!s)
        return NULL;
    *s = (index_source) { .p = *p, .n = n };
    for (int i = 0; i < m->n_weights; i++) {
        const uint8_t *file = m->weights[i].map.data, *data = w->data;
        if (data >= file && data < file + m->weights[i].map.size)
            s->forget = (size_t)(n * p->cluster) * rq_dtype_bits(p->dtype) / 8;
    }
    return keep_palette(m, &s->p) ? rq_mil_blob_produced(&m->program, type, write_indices, s) : NULL;
}

/* Elements of a table as its type stores them. */
static void put_elements(void *dst, const rq_mil_dtype *t, const float *v, size_t n)
{
    uint8_t *bytes = dst;
    uint64_t bad;
    if (t->bits >= 8) {
        for (size_t i = 0; i < n; i++)
            rq_element_put(dst, t->dtype, (int64_t)i, v[i]);
        return;
    }
    for (size_t i = 0; i < n; i += 8) { /* 8 elements are whole bytes */
        uint8_t code[8] = { 0 };
        const size_t m = n - i < 8 ? n - i : 8;
        for (size_t k = 0; k < m; k++)
            code[k] = (uint8_t)(int8_t)v[i + k];
        rq_mil_dtype_pack(t, bytes + i * (size_t)t->bits / 8, code, m, &bad);
    }
}

rq_mil_value *rq_coreml_table_value(rq_coreml *m, const rq_palette *p, const rq_mil_dtype *type, int rank, int axis)
{
    int64_t dim[RQ_MIL_MAX_RANK + 2];
    const bool ios18 = rq_coreml_is_ios18(m);
    for (int i = 0; i < rank; i++)
        dim[i] = i == axis ? p->n_groups : 1;
    dim[rank] = (int64_t)1 << p->nbits;
    dim[rank + 1] = p->cluster;
    const size_t n = ((size_t)p->n_groups << p->nbits) * (size_t)p->cluster;
    rq_mil_type *t = ios18 ? rq_mil_tensor_type(&m->program, type, rank + 2, dim)
                           : rq_mil_tensor_type(&m->program, type, 1, dim + rank);
    uint8_t *packed = t ? rq_arena_alloc(&m->program.arena, rq_mil_dtype_bytes(type, n) + 8, 1) : NULL;
    if (!packed)
        return NULL;
    put_elements(packed, type, p->table, n);
    return value_of(m, t, packed);
}

static bool set_shape(rq_coreml *m, rq_mil_op *op, const rq_coreml_dense *w)
{
    uint32_t shape[RQ_MIL_MAX_RANK];
    for (int i = 0; i < w->rank; i++)
        shape[i] = (uint32_t)w->dim[i];
    const int64_t rank = w->rank;
    rq_mil_type *t = rq_mil_tensor_type(&m->program, rq_mil_dtype_of_name("uint32"), 1, &rank);
    rq_mil_value *v = t ? rq_mil_immediate(&m->program, t, shape) : NULL;
    return v && rq_mil_op_set_attr(&m->program, op, "shape", v);
}

static bool set_output(rq_coreml *m, rq_mil_op *op, const char *output, const rq_mil_dtype *t, int rank,
                       const int64_t *dim)
{
    rq_mil_type *type = rq_mil_tensor_type(&m->program, t, rank, dim);
    return type && rq_mil_op_output(&m->program, op, output, type);
}

rq_mil_op *rq_coreml_lut_op(rq_coreml *m, const char *name, const char *output, const rq_coreml_dense *w,
                            rq_mil_value *indices, rq_mil_value *lut, int vector_axis)
{
    rq_mil_op *op = rq_mil_op_make(&m->program, "constexpr_lut_to_dense", name);
    bool ok = op && rq_coreml_op_set(m, op, "indices", indices) && rq_coreml_op_set(m, op, "lut", lut);
    if (ok && vector_axis >= 0)
        ok = rq_coreml_op_set(m, op, "vector_axis", rq_mil_int(&m->program, vector_axis));
    if (ok && !rq_coreml_is_ios18(m))
        ok = set_shape(m, op, w);
    return ok && set_output(m, op, output, w->type, w->rank, w->dim) ? op : NULL;
}

/* ---- what stays ---- */

typedef struct kept_source {
    rq_prune p;
    const rq_mil_dtype *type;
    bool forget;
} kept_source;

/* Elements that stay, among `from` to `to`, as bytes of their type (8 bits and more). */
static size_t gather(const rq_prune *p, int64_t from, int64_t to, size_t size, uint8_t *dst)
{
    size_t n = 0;
    for (int64_t i = from; i < to; i++)
        if (rq_prune_stays(p, i))
            memcpy(dst + size * n++, (const uint8_t *)p->data + size * (size_t)i, size);
    return n * size;
}

static rq_status write_kept(void *arg, struct rq_milblob_writer *w, rq_err *err)
{
    const kept_source *s = arg;
    const size_t size = (size_t)s->type->bits / 8;
    uint8_t *piece = rq_mem_alloc(PIECE, size);
    if (!piece)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory writing what stays of a weight");
    rq_status st = RQ_OK;
    for (int64_t at = 0; !st && at < s->p.n; at += PIECE) {
        const int64_t to = at + PIECE < s->p.n ? at + PIECE : s->p.n;
        st = rq_milblob_write(w, piece, gather(&s->p, at, to, size, piece), err);
    }
    if (s->forget)
        rq_file_forget(s->p.data, (size_t)s->p.n * size);
    rq_mem_free(piece);
    return st;
}

static bool same_kept(const kept_source *a, const kept_source *b)
{
    return a->type == b->type && a->p.n == b->p.n && a->p.kept == b->p.kept &&
           !memcmp(a->p.mask, b->p.mask, (size_t)(a->p.n + 7) / 8) &&
           rq_coreml_same_bytes(a->p.data, b->p.data, (uint64_t)a->p.n * ((uint64_t)a->type->bits / 8),
                                a->forget && b->forget);
}

bool rq_coreml_same_made(const rq_mil_value *a, const rq_mil_value *b)
{
    if (a->produce != b->produce)
        return false;
    return a->produce == write_indices ? same_indices(a->produce_arg, b->produce_arg)
           : a->produce == write_kept  ? same_kept(a->produce_arg, b->produce_arg)
                                       : false;
}

/* Elements of less than 8 bits that stay, packed. */
static void gather_packed(const rq_prune *p, const rq_mil_dtype *t, const uint8_t *data, uint8_t *dst)
{
    int64_t n = 0;
    for (int64_t i = 0; i < p->n; i++) {
        if (!rq_prune_stays(p, i))
            continue;
        for (int b = 0; b < t->bits; b++) {
            const int64_t from = i * t->bits + b, to = n * t->bits + b;
            dst[to / 8] = (uint8_t)(dst[to / 8] | (data[from / 8] >> (from % 8) & 1) << (to % 8));
        }
        n++;
    }
}

rq_mil_value *rq_coreml_kept_value(rq_coreml *m, const rq_prune *p, const rq_coreml_dense *w, bool now)
{
    rq_mil_type *t = rq_mil_tensor_type(&m->program, w->type, 1, &p->kept);
    if (!t)
        return NULL;
    if (now || p->kept < FEW || w->type->bits < 8) {
        uint8_t *packed = rq_arena_alloc(&m->program.arena, rq_mil_dtype_bytes(w->type, (uint64_t)p->kept) + 1, 1);
        if (!packed)
            return NULL;
        rq_prune q = *p;
        q.data = w->data;
        if (w->type->bits < 8)
            gather_packed(p, w->type, w->data, packed);
        else
            gather(&q, 0, p->n, (size_t)w->type->bits / 8, packed);
        return value_of(m, t, packed);
    }
    kept_source *s = rq_arena_alloc(&m->program.arena, 1, sizeof *s);
    bool ok = s != NULL;
    if (ok) {
        *s = (kept_source) { .p = *p, .type = w->type };
        s->p.data = w->data;
        s->p.mask = keep(m, p->mask, (size_t)(p->n + 7) / 8, &ok);
        for (int i = 0; i < m->n_weights; i++) {
            const uint8_t *file = m->weights[i].map.data, *data = w->data;
            s->forget |= data >= file && data < file + m->weights[i].map.size;
        }
    }
    return ok ? rq_mil_blob_produced(&m->program, t, write_kept, s) : NULL;
}

rq_mil_value *rq_coreml_mask_value(rq_coreml *m, const rq_prune *p, const rq_coreml_dense *w)
{
    bool ok = true;
    rq_mil_type *type = codes_type(m, unsigned_of(1), w->rank, w->dim);
    const uint8_t *mask = keep(m, p->mask, (size_t)(p->n + 7) / 8, &ok);
    return ok && type ? value_of(m, type, mask) : NULL;
}

rq_mil_op *rq_coreml_sparse_op(rq_coreml *m, const char *name, const char *output, const rq_coreml_dense *w)
{
    rq_mil_op *op = rq_mil_op_make(&m->program, "constexpr_sparse_to_dense", name);
    if (!op || (!rq_coreml_is_ios18(m) && !set_shape(m, op, w)))
        return NULL;
    return set_output(m, op, output, w->type, w->rank, w->dim) ? op : NULL;
}

rq_mil_op *rq_coreml_masked_op(rq_coreml *m, const char *op_type, const char *name, int rank, const int64_t *mask,
                               const rq_mil_dtype *type, int64_t n)
{
    char output[512];
    rq_mil_op *op = rq_mil_op_make(&m->program, op_type, name);
    if (!op || snprintf(output, sizeof output, "%s_0", name) >= (int)sizeof output)
        return NULL;
    if (!set_output(m, op, output, unsigned_of(1), rank, mask))
        return NULL;
    output[strlen(output) - 1] = '1';
    return set_output(m, op, output, type, 1, &n) ? op : NULL;
}
