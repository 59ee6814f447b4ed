/* coreml/canonical.c — the order of a table and the scale of its codes. Core ML before iOS 26 wants codes scaled first and then looked up; from there on
 * the other way round. Numbers stay what they are: a table is repeated where a scale is finer than it (docs/coreml-facts.md 8.4). */
#include <string.h>

#include "coreml/weights.h"

#define LUT "constexpr_lut_to_dense"
#define SCALE "constexpr_blockwise_shift_scale"

typedef struct pair {
    rq_coreml *m;
    const rq_coreml_uses *u;
    rq_mil_block *b;
    rq_mil_op *first, *second; /* as they are */
} pair;

/* A tensor value of the program, its sizes and bytes. */
typedef struct part {
    rq_mil_value *v;
    int rank;
    int64_t dim[RQ_MIL_MAX_RANK];
    const uint8_t *bytes;
} part;

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory ordering tables and scales");
}

static rq_status part_of(const pair *p, const rq_mil_op *op, const char *param, part *out, rq_err *err)
{
    uint64_t n;
    *out = (part) { .v = rq_coreml_param(p->u, op, param) };
    if (!out->v || out->v->type->rank > RQ_MIL_MAX_RANK - 2)
        return RQ_OK;
    out->rank = (int)out->v->type->rank;
    for (int i = 0; i < out->rank; i++)
        out->dim[i] = (int64_t)out->v->type->dim[i].size;
    return rq_coreml_weight_bytes(p->m, out->v, &out->bytes, &n, err);
}

static bool has(const rq_mil_op *op, const char *param)
{
    return rq_mil_op_arg(op, param) != NULL;
}

/* Names that say something go on; others are made of the type. */
static const char *name_for(const pair *p, const rq_mil_op *old, const char *type)
{
    const char *name = rq_mil_op_name(old);
    if (!strstr(name, old->type))
        return name;
    const rq_coreml_weight w = { .m = p->m, .name = type };
    return rq_coreml_weight_name(&w, "_0");
}

static bool copy_arg(const pair *p, rq_mil_op *op, const char *param, const rq_mil_op *from, const char *as)
{
    const rq_mil_arg *a = rq_mil_op_arg(from, as);
    if (!a || a->n != 1)
        return false;
    return a->binding[0].name ? rq_mil_op_bind(&p->m->program, op, param, a->binding[0].name)
                              : rq_mil_op_bind_value(&p->m->program, op, param, a->binding[0].value);
}

/* Element `from` of src to element `to` of dst (zeroed). */
static void copy_element(uint8_t *dst, int64_t to, const uint8_t *src, int64_t from, int bits)
{
    if (bits >= 8) {
        memcpy(dst + to * bits / 8, src + from * bits / 8, (size_t)bits / 8);
        return;
    }
    for (int k = 0; k < bits; k++) {
        const int64_t a = from * bits + k, b = to * bits + k;
        dst[b / 8] = (uint8_t)(dst[b / 8] | (src[a / 8] >> (a % 8) & 1) << (b % 8));
    }
}

/* The table with its first axes as fine as those of the scale. NULL: memory is out. */
static rq_mil_value *repeated(const pair *p, const part *lut, const int64_t *dim)
{
    const rq_mil_dtype *t = lut->v->type->dtype;
    int64_t n = 1, at[RQ_MIL_MAX_RANK] = { 0 };
    for (int i = 0; i < lut->rank; i++)
        if (__builtin_mul_overflow(n, dim[i], &n) || n > INT64_MAX / 64)
            return NULL;
    uint8_t *bytes = rq_arena_alloc(&p->m->program.arena, (size_t)rq_mil_dtype_bytes(t, (uint64_t)n) + 1, 1);
    for (int64_t e = 0; bytes && e < n; e++) {
        int64_t from = 0;
        for (int i = 0; i < lut->rank; i++)
            from = from * lut->dim[i] + at[i] / (dim[i] / lut->dim[i]);
        copy_element(bytes, e, lut->bytes, from, t->bits);
        for (int i = lut->rank - 1; i >= 0 && ++at[i] == dim[i]; i--)
            at[i] = 0;
    }
    rq_mil_type *type = bytes ? rq_mil_tensor_type(&p->m->program, t, lut->rank, dim) : NULL;
    if (!type)
        return NULL;
    return n < 10 ? rq_mil_immediate(&p->m->program, type, bytes) : rq_mil_blob(&p->m->program, type, bytes);
}

/* Both where the first stood. */
static rq_status put(const pair *p, rq_mil_op *a, rq_mil_op *b, rq_err *err)
{
    const int at = rq_coreml_uses_position(p->b, p->first);
    if (!rq_mil_block_insert(&p->m->program, p->b, at, b) || !rq_mil_block_insert(&p->m->program, p->b, at, a))
        return no_memory(err);
    rq_coreml_uses_remove(p->b, p->first);
    rq_coreml_uses_remove(p->b, p->second);
    return RQ_OK;
}

static bool bind_scale(const pair *p, rq_mil_op *op, const part *scale, const part *offset, int rank)
{
    int64_t dim[RQ_MIL_MAX_RANK + 2] = { 0 };
    for (int i = 0; i < rank; i++)
        dim[i] = i < scale->rank ? scale->dim[i] : 1;
    rq_mil_value *s = rq_coreml_value(p->m, scale->v->type->dtype->name, rank, dim, scale->bytes);
    if (!s || !rq_mil_op_bind_value(&p->m->program, op, "scale", s))
        return false;
    rq_mil_value *o = offset->v ? rq_coreml_value(p->m, offset->v->type->dtype->name, rank, dim, offset->bytes) : NULL;
    return !offset->v || (o && rq_mil_op_bind_value(&p->m->program, op, "offset", o));
}

/* look up, scale -> scale the table, look up. */
static rq_status scale_first(const pair *p, const part *lut, const part *scale, const part *offset, rq_err *err)
{
    rq_mil_program *prog = &p->m->program;
    int64_t dim[RQ_MIL_MAX_RANK];
    bool finer = false;
    for (int i = 0; i < lut->rank; i++) {
        const int64_t s = i < scale->rank ? scale->dim[i] : 1;
        dim[i] = s > lut->dim[i] ? s : lut->dim[i];
        if (lut->dim[i] <= 0 || s <= 0 || dim[i] % lut->dim[i] || dim[i] % s)
            return RQ_OK;
        finer |= dim[i] != lut->dim[i];
    }
    const char *name = name_for(p, p->first, SCALE), *last = name_for(p, p->second, LUT);
    rq_mil_op *a = name ? rq_mil_op_make(prog, SCALE, name) : NULL;
    rq_mil_op *b = a && last ? rq_mil_op_make(prog, LUT, last) : NULL;
    rq_mil_type *t = b ? rq_mil_tensor_type(prog, scale->v->type->dtype, lut->rank, dim) : NULL;
    rq_mil_value *fine = t && finer ? repeated(p, lut, dim) : NULL;
    if (!t || (finer && !fine) ||
        !(fine ? rq_mil_op_bind_value(prog, a, "data", fine) : copy_arg(p, a, "data", p->first, "lut")))
        return no_memory(err);
    if (!bind_scale(p, a, scale, offset, lut->rank) || !rq_mil_op_output(prog, a, name, t) ||
        !copy_arg(p, b, "indices", p->first, "indices") || !rq_mil_op_bind(prog, b, "lut", name) ||
        (has(p->first, "vector_axis") && !copy_arg(p, b, "vector_axis", p->first, "vector_axis")) ||
        !rq_mil_op_output(prog, b, p->second->outputs[0].name, p->second->outputs[0].type))
        return no_memory(err);
    return put(p, a, b, err);
}

/* scale the table, look up -> look up, scale. */
static rq_status look_up_first(const pair *p, const part *scale, const part *offset, rq_err *err)
{
    rq_mil_program *prog = &p->m->program;
    const rq_mil_type *whole = p->second->outputs[0].type;
    rq_mil_value *codes = rq_coreml_param(p->u, p->first, "data");
    int64_t dim[RQ_MIL_MAX_RANK];
    if (!codes || scale->rank != whole->rank + 2 || scale->dim[scale->rank - 1] != 1 ||
        scale->dim[scale->rank - 2] != 1)
        return RQ_OK;
    for (int i = 0; i < whole->rank; i++)
        dim[i] = (int64_t)whole->dim[i].size;
    const char *name = name_for(p, p->first, LUT), *last = name_for(p, p->second, SCALE);
    rq_mil_op *a = name ? rq_mil_op_make(prog, LUT, name) : NULL;
    rq_mil_op *b = a && last ? rq_mil_op_make(prog, SCALE, last) : NULL;
    rq_mil_type *t = b ? rq_mil_tensor_type(prog, codes->type->dtype, (int)whole->rank, dim) : NULL;
    if (!t || !copy_arg(p, a, "indices", p->second, "indices") || !copy_arg(p, a, "lut", p->first, "data") ||
        (has(p->second, "vector_axis") && !copy_arg(p, a, "vector_axis", p->second, "vector_axis")) ||
        !rq_mil_op_output(prog, a, name, t) || !rq_mil_op_bind(prog, b, "data", name) ||
        !bind_scale(p, b, scale, offset, (int)whole->rank) ||
        !rq_mil_op_output(prog, b, p->second->outputs[0].name, p->second->outputs[0].type))
        return no_memory(err);
    return put(p, a, b, err);
}

static rq_status reorder(pair *p, bool from_lut, rq_err *err)
{
    part lut, scale, offset;
    const rq_mil_op *scaling = from_lut ? p->second : p->first;
    RQ_TRY(part_of(p, scaling, "scale", &scale, err));
    RQ_TRY(part_of(p, scaling, "offset", &offset, err));
    if (!scale.bytes || (has(scaling, "offset") && !offset.bytes) || (offset.v && offset.v->n != scale.v->n))
        return RQ_OK;
    if (!from_lut)
        return look_up_first(p, &scale, &offset, err);
    RQ_TRY(part_of(p, p->first, "lut", &lut, err));
    return lut.bytes && lut.rank == scale.rank + 2 ? scale_first(p, &lut, &scale, &offset, err) : RQ_OK;
}

/* The only operation that reads what op gives, as `param`; NULL: there are others, or none. */
static rq_mil_op *only_reader(const rq_coreml_uses *u, const rq_mil_op *op, const char *type, const char *param)
{
    const rq_coreml_def *d = op->n_outputs == 1 ? rq_coreml_uses_of(u, op, 0) : NULL;
    if (!d || d->n_uses != 1 || !d->use[0].op || d->use[0].block != d->block)
        return NULL;
    rq_mil_op *reader = d->use[0].op;
    return !strcmp(reader->type, type) && !strcmp(reader->args[d->use[0].arg].param, param) ? reader : NULL;
}

static rq_status canonicalize(rq_coreml *m, const rq_coreml_uses *u, rq_mil_block *b, rq_err *err)
{
    const bool from_lut = m->spec < RQ_COREML_IOS26;
    for (int i = 0; i < b->n_ops; i++) {
        pair p = { m, u, b, b->ops[i], NULL };
        for (int k = 0; k < p.first->n_blocks; k++)
            RQ_TRY(canonicalize(m, u, p.first->blocks[k], err));
        if (!strcmp(p.first->type, from_lut ? LUT : SCALE))
            p.second = only_reader(u, p.first, from_lut ? SCALE : LUT, from_lut ? "data" : "lut");
        if (p.second)
            RQ_TRY(reorder(&p, from_lut, err));
    }
    return RQ_OK;
}

rq_status rq_coreml_canonicalize(rq_coreml *m, rq_err *err)
{
    rq_coreml_uses u;
    if (!rq_coreml_is_ios18(m))
        return RQ_OK;
    RQ_TRY(rq_coreml_uses_init(&u, &m->program, err));
    rq_status s = RQ_OK;
    for (int i = 0; !s && i < m->program.n_functions; i++)
        s = canonicalize(m, &u, m->program.functions[i]->block, err);
    rq_coreml_uses_release(&u);
    return s;
}
