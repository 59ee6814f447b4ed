/* coreml/uses.c — a walk through the program with a table of the names that can be seen: a name found in it is what mil_check says it is. Blocks
 * hide names of those around them and take theirs back when they end, so the table is a stack. */
#include "coreml/uses.h"

#include <string.h>

#include "base/mem.h"

enum { SLOTS = 4096 };

typedef struct builder {
    rq_coreml_uses *u;
    const rq_mil_function *f;
    int slot[SLOTS]; /* newest definition of this hash, -1: none */
} builder;

static unsigned slot_of(const char *name)
{
    uint32_t h = 2166136261U;
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 16777619U;
    return (h ^ h >> 12) % SLOTS;
}

static bool define(builder *b, rq_mil_block *block, rq_mil_op *op, int output, const rq_mil_var *v)
{
    rq_coreml_uses *u = b->u;
    if (!rq_mem_grow(&u->def, u->n, &u->cap, sizeof *u->def))
        return false;
    const unsigned at = slot_of(v->name);
    u->def[u->n] = (rq_coreml_def) {
        .f = b->f,
        .block = block,
        .op = op,
        .output = output,
        .name = v->name,
        .type = v->type,
        .shadowed = b->slot[at],
    };
    b->slot[at] = u->n++;
    return true;
}

static int find(const builder *b, const char *name)
{
    int i = b->slot[slot_of(name)];
    while (i >= 0 && strcmp(b->u->def[i].name, name) != 0)
        i = b->u->def[i].shadowed;
    return i;
}

static bool read(builder *b, rq_mil_block *block, rq_mil_op *op, int arg, int at, const char *name)
{
    const int def = find(b, name);
    if (def < 0)
        return true;
    if (!rq_mem_grow(&b->u->use, b->u->n_uses, &b->u->cap_uses, sizeof *b->u->use))
        return false;
    b->u->use[b->u->n_uses++] = (rq_coreml_use) { block, op, arg, at, def };
    return true;
}

static bool walk(builder *b, rq_mil_block *block);

/* What is defined within a block is not seen behind it; of one hash the newest is hidden first. */
static bool walk_inner(builder *b, rq_mil_block *block)
{
    const int first = b->u->n;
    for (int i = 0; i < block->n_inputs; i++)
        if (!define(b, block, NULL, i, &block->inputs[i]))
            return false;
    if (!walk(b, block))
        return false;
    for (int i = b->u->n - 1; i >= first; i--) {
        const unsigned at = slot_of(b->u->def[i].name);
        if (b->slot[at] >= first)
            b->slot[at] = b->u->def[b->slot[at]].shadowed;
    }
    return true;
}

static bool walk(builder *b, rq_mil_block *block)
{
    for (int i = 0; i < block->n_ops; i++) {
        rq_mil_op *op = block->ops[i];
        for (int a = 0; a < op->n_args; a++)
            for (int k = 0; k < op->args[a].n; k++)
                if (op->args[a].binding[k].name && !read(b, block, op, a, k, op->args[a].binding[k].name))
                    return false;
        for (int k = 0; k < op->n_blocks; k++)
            if (!walk_inner(b, op->blocks[k]))
                return false;
        for (int k = 0; k < op->n_outputs; k++)
            if (!define(b, block, op, k, &op->outputs[k]))
                return false;
    }
    for (int i = 0; i < block->n_outputs; i++)
        if (!read(b, block, NULL, i, 0, block->outputs[i]))
            return false;
    return true;
}

/* Uses of one definition beside each other, in the order they were found. */
static bool group(rq_coreml_uses *u)
{
    rq_coreml_use *sorted = rq_mem_alloc((size_t)u->n_uses + 1, sizeof *sorted);
    int *at = rq_mem_zalloc((size_t)u->n + 1, sizeof *at);
    if (sorted && at) {
        for (int i = 0; i < u->n_uses; i++)
            at[u->use[i].def + 1]++;
        for (int i = 0; i < u->n; i++)
            at[i + 1] += at[i];
        for (int i = 0; i < u->n_uses; i++)
            sorted[at[u->use[i].def]++] = u->use[i];
        for (int i = 0; i < u->n_uses; i++) {
            rq_coreml_def *d = &u->def[sorted[i].def];
            if (!d->n_uses++)
                d->use = &sorted[i];
            d->n_readers += sorted[i].op != NULL;
        }
        rq_mem_free(u->use);
        u->use = sorted;
        u->cap_uses = u->n_uses;
    } else {
        rq_mem_free(sorted);
    }
    rq_mem_free(at);
    return sorted && at;
}

rq_status rq_coreml_uses_init(rq_coreml_uses *u, const rq_mil_program *p, rq_err *err)
{
    *u = (rq_coreml_uses) { 0 };
    builder *b = rq_mem_zalloc(1, sizeof *b);
    bool ok = b != NULL;
    for (int k = 0; ok && k < p->n_functions; k++) {
        rq_mil_function *f = p->functions[k];
        b->u = u;
        b->f = f;
        for (int i = 0; i < SLOTS; i++)
            b->slot[i] = -1;
        for (int i = 0; ok && i < f->n_inputs; i++)
            ok = define(b, f->block, NULL, i, &f->inputs[i]);
        for (int i = 0; ok && i < f->block->n_inputs; i++)
            ok = define(b, f->block, NULL, i, &f->block->inputs[i]);
        ok = ok && walk(b, f->block);
    }
    rq_mem_free(b);
    if (ok && group(u))
        return RQ_OK;
    rq_coreml_uses_release(u);
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory to look through the program");
}

void rq_coreml_uses_release(rq_coreml_uses *u)
{
    rq_mem_free(u->def);
    rq_mem_free(u->use);
    *u = (rq_coreml_uses) { 0 };
}

rq_coreml_def *rq_coreml_uses_of(const rq_coreml_uses *u, const rq_mil_op *op, int i)
{
    for (int k = 0; k < u->n; k++)
        if (u->def[k].op == op && u->def[k].output == i)
            return &u->def[k];
    return NULL;
}

bool rq_coreml_def_is_output(const rq_coreml_def *d)
{
    for (int i = 0; i < d->n_uses; i++)
        if (!d->use[i].op && d->use[i].block == d->f->block)
            return true;
    return false;
}

void rq_coreml_def_rename(const rq_coreml_def *d, const char *name, bool readers_only)
{
    for (int i = 0; i < d->n_uses; i++) {
        const rq_coreml_use *u = &d->use[i];
        if (u->op)
            u->op->args[u->arg].binding[u->at].name = name;
        else if (!readers_only)
            u->block->outputs[u->arg] = name;
    }
}

int rq_coreml_uses_position(const rq_mil_block *b, const rq_mil_op *op)
{
    for (int i = 0; i < b->n_ops; i++)
        if (b->ops[i] == op)
            return i;
    return -1;
}

void rq_coreml_uses_remove(rq_mil_block *b, const rq_mil_op *op)
{
    const int at = rq_coreml_uses_position(b, op);
    if (at < 0)
        return;
    memmove(&b->ops[at], &b->ops[at + 1], (size_t)(b->n_ops - at - 1) * sizeof(rq_mil_op *));
    b->n_ops--;
}
