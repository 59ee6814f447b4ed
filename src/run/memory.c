/* run/memory.c — where the tensors of a plan live: one block, each tensor at the lowest place that is free while
 * it is in use, largest first (greedy by size: Pisarchyk and Lee, arXiv:2001.03288). */
#include "run/memory.h"

#include <stdlib.h>

#include "run/program.h"

enum { ALIGN = 64 };

static int by_size(const void *a, const void *b)
{
    const rq_placed *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_offset(const void *a, const void *b)
{
    const rq_placed *const *x = a, *const *y = b;
    return (*x)->offset < (*y)->offset ? -1 : (*x)->offset > (*y)->offset;
}

/* The lowest offset at which item i overlaps none of 0..i-1 that live at the same time. busy: room for i pointers. */
static size_t lowest_gap(rq_placed *items, int i, rq_placed **busy)
{
    int n = 0;
    for (int k = 0; k < i; k++)
        if (items[k].def <= items[i].last && items[i].def <= items[k].last)
            busy[n++] = &items[k];
    qsort(busy, (size_t)n, sizeof *busy, by_offset);
    size_t at = 0;
    for (int k = 0; k < n; k++) {
        if (busy[k]->offset >= at && busy[k]->offset - at >= items[i].bytes)
            break;
        size_t end = busy[k]->offset + busy[k]->bytes;
        if (end > at)
            at = end;
    }
    return at;
}

rq_status rq_memory_place(rq_placed *items, int n, size_t *block)
{
    rq_placed **busy = rq_mem_alloc((size_t)n + 1, sizeof *busy);
    *block = 0;
    if (!busy)
        return RQ_NO_MEMORY;
    for (int i = 0; i < n; i++) {
        const size_t bytes = (items[i].bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
        items[i].bytes = bytes ? bytes : ALIGN;
    }
    qsort(items, (size_t)n, sizeof *items, by_size);
    for (int i = 0; i < n; i++) {
        items[i].offset = lowest_gap(items, i, busy);
        if (items[i].offset + items[i].bytes > *block)
            *block = items[i].offset + items[i].bytes;
    }
    rq_mem_free(busy);
    return RQ_OK;
}

rq_status rq_memory_plan(rq_program *p, rq_segment *seg)
{
    rq_status st = RQ_NO_MEMORY;
    rq_placed *items = rq_mem_alloc((size_t)seg->n_made + 1, sizeof *items);
    size_t block = 0, scratch = 0;
    int n = 0;
    if (!items)
        return RQ_NO_MEMORY;
    for (int i = 0; i < seg->n_made; i++) {
        const rq_form *f = &p->forms[seg->made[i]];
        if (rq_form_has_place(f) && f->takes < 0)
            items[n++] = (rq_placed) { seg->made[i], f->t.bytes, 0, f->def, f->last };
    }
    if (rq_memory_place(items, n, &block))
        goto done;
    for (int i = 0; i < seg->n_steps; i++)
        if (seg->steps[i].scratch > scratch)
            scratch = seg->steps[i].scratch;
    seg->block = rq_mem_alloc(block, 1);
    seg->scratch = rq_mem_alloc(scratch, 1);
    seg->block_bytes = block + scratch;
    seg->scratch_bytes = scratch;
    if (!seg->block || !seg->scratch)
        goto done;
    for (int i = 0; i < n; i++) {
        p->forms[items[i].id].offset = items[i].offset;
        p->forms[items[i].id].t.data = (char *)seg->block + items[i].offset;
    }
    for (int i = 0; i < seg->n_made; i++) {
        rq_form *f = &p->forms[seg->made[i]];
        if (rq_form_has_place(f) && f->takes >= 0) {
            f->offset = p->forms[f->takes].offset;
            f->t.data = p->forms[f->takes].t.data;
        }
    }
    for (int i = 0; i < seg->n_steps; i++)
        seg->steps[i].args.scratch = seg->scratch;
    st = RQ_OK;
done:
    rq_mem_free(items);
    return st;
}
