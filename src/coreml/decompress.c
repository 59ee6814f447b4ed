/* coreml/decompress.c — decompress_weights: what constexpr_ operations make becomes constants under the same names. Numbers are made when the model is
 * saved, one weight at a time, by the operations that stood there. */
#include <string.h>

#include "base/mem.h"
#include "coreml/raise.h"
#include "coreml/weights.h"
#include "formats/mil_constexpr.h"

enum { FEW = 10 };

typedef struct source {
    const rq_coreml *m;
    const rq_mil_constants *constants;
    const rq_mil_op *op;
    int output;
} source;

static rq_status no_memory(rq_err *err)
{
    return rq_fail(err, RQ_NO_MEMORY, "out of memory decompressing weights");
}

/* The output's elements as its type stores them. */
static rq_status packed(const source *s, rq_tensor *t, rq_err *err)
{
    const rq_mil_type *type = s->op->outputs[s->output].type;
    bool known;
    RQ_TRY(rq_mil_constexpr(t, s->m, s->constants, s->op, s->output, err));
    const uint64_t n = rq_mil_type_count(type, &known);
    if (known && n == (uint64_t)rq_tensor_count(t) && type->dtype->dtype == t->dtype && type->dtype->bits >= 8)
        return RQ_OK;
    return rq_fail(err, RQ_BAD_FILE, "'%s' does not make what its type says", rq_mil_op_name(s->op));
}

static rq_status write_weight(void *arg, struct rq_milblob_writer *w, rq_err *err)
{
    const source *s = arg;
    rq_tensor t = { 0 };
    rq_status st = packed(s, &t, err);
    if (!st)
        st = rq_milblob_write(w, t.data, (size_t)rq_tensor_count(&t) * rq_dtype_bits(t.dtype) / 8, err);
    rq_tensor_release(&t);
    return st;
}

static rq_status value_of(rq_coreml *m, const source *s, rq_mil_value **out, rq_err *err)
{
    rq_mil_type *type = s->op->outputs[s->output].type;
    rq_tensor t = { 0 };
    bool known;
    if (!type->dtype || !type->dtype->blob || type->dtype->bits < 8)
        return rq_fail(err, RQ_UNSUPPORTED, "'%s' (%s) makes elements that no constant of a program has",
                       rq_mil_op_name(s->op), s->op->type);
    rq_status st = packed(s, &t, err); /* all of it is checked now: nothing may fail while the model is written */
    if (!st && rq_mil_type_count(type, &known) < FEW) {
        *out = rq_mil_immediate(&m->program, type, t.data);
    } else if (!st) {
        source *own = rq_arena_alloc(&m->program.arena, 1, sizeof *own);
        if (own)
            *own = *s;
        *out = own ? rq_mil_blob_produced(&m->program, type, write_weight, own) : NULL;
    }
    rq_tensor_release(&t);
    return st ? st : *out ? RQ_OK : no_memory(err);
}

/* Is the value read by anything that stays? */
static bool is_needed(const rq_coreml_def *d)
{
    for (int i = 0; i < d->n_uses; i++)
        if (!d->use[i].op || !rq_mil_is_constexpr(d->use[i].op))
            return true;
    return false;
}

static rq_status replace(rq_coreml *m, const rq_coreml_uses *u, rq_mil_block *b, rq_mil_op *op,
                         const rq_mil_constants *constants, rq_err *err)
{
    rq_mil_program *p = &m->program;
    for (int i = 0; i < op->n_outputs; i++) {
        const rq_coreml_def *d = rq_coreml_uses_of(u, op, i);
        const source s = { m, constants, op, i };
        rq_mil_value *v;
        if (!d || !is_needed(d))
            continue;
        RQ_TRY(value_of(m, &s, &v, err));
        rq_mil_op *c = rq_mil_op_make(p, "const", op->outputs[i].name);
        if (!c || !rq_mil_op_set_attr(p, c, "val", v) ||
            !rq_mil_op_output(p, c, op->outputs[i].name, op->outputs[i].type) ||
            !rq_mil_block_insert(p, b, rq_coreml_uses_position(b, op), c))
            return no_memory(err);
    }
    rq_coreml_uses_remove(b, op);
    return RQ_OK;
}

static rq_status decompress(rq_coreml *m, const rq_coreml_uses *u, rq_mil_block *b, const rq_mil_constants *around,
                            int *n, rq_err *err)
{
    rq_arena *a = &m->program.arena;
    rq_mil_constants *own = rq_arena_alloc(a, 1, sizeof *own);
    if (!own)
        return no_memory(err);
    RQ_TRY(rq_mil_constants_of(own, b, around, a, err));
    for (int i = 0; i < b->n_ops; i++)
        for (int k = 0; k < b->ops[i]->n_blocks; k++)
            RQ_TRY(decompress(m, u, b->ops[i]->blocks[k], own, n, err));
    for (int i = b->n_ops - 1; i >= 0; i--) /* what is put in takes place i and on */
        if (rq_mil_is_constexpr(b->ops[i])) {
            RQ_TRY(replace(m, u, b, b->ops[i], own, err));
            (*n)++;
        }
    return RQ_OK;
}

rq_status rq_coreml_decompress_weights(rq_coreml *m, rq_err *err)
{
    rq_coreml_uses u;
    int n = 0;
    RQ_TRY(rq_coreml_one_function(m, "decompress_weights", err));
    RQ_TRY(rq_coreml_uses_init(&u, &m->program, err));
    const rq_status s = decompress(m, &u, m->program.functions[0]->block, NULL, &n, err);
    rq_coreml_uses_release(&u);
    if (s || !n)
        return s;
    RQ_TRY(rq_coreml_raise(m, RQ_COREML_IOS16, err));
    return rq_coreml_cleanup(m, err);
}
