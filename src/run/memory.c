/* run/memory.c — where the tensors of a segment live: one block, each tensor at the lowest place that is free while
 * it is in use, largest first (greedy by size: Pisarchyk and Lee, arXiv:2001.03288). */
#include <stdlib.h>

#include "run/program.h"

enum { ALIGN = 64 };

typedef struct placed {
    int32_t form;
    size_t bytes, offset;
    int def, last;
} placed;

static int by_size(const void *a, const void *b)
{
    const placed *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->form < y->form ? -1 : x->form > y->form;
}

static int by_offset(const void *a, const void *b)
{
    const placed *const *x = a, *const *y = b;
    return (*x)->offset < (*y)->offset ? -1 : (*x)->offset > (*y)->offset;
}

/* The lowest offset at which item i overlaps none of 0..i-1 that live at the same time. busy: room for i pointers. */
static size_t lowest_gap(placed *items, int i, placed **busy)
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

rq_status rq_memory_plan(rq_program *p, rq_segment *seg)
{
    rq_status st = RQ_NO_MEMORY;
    placed *items = rq_mem_alloc((size_t)seg->n_made + 1, sizeof *items);
    placed **busy = rq_mem_alloc((size_t)seg->n_made + 1, sizeof *busy);
    size_t block = 0, scratch = 0;
    int n = 0;
    if (!items || !busy)
        goto done;
    for (int i = 0; i < seg->n_made; i++) {
        const rq_form *f = &p->forms[seg->made[i]];
        if (f->known || f->made_late || f->view_of >= 0)
            continue;
        size_t bytes = (f->t.bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
        items[n++] = (placed) { seg->made[i], bytes ? bytes : ALIGN, 0, f->def, f->last };
    }
    qsort(items, (size_t)n, sizeof *items, by_size);
    for (int i = 0; i < n; i++) {
        items[i].offset = lowest_gap(items, i, busy);
        if (items[i].offset + items[i].bytes > block)
            block = items[i].offset + items[i].bytes;
    }
    for (int i = 0; i < seg->n_steps; i++)
        if (seg->steps[i].scratch > scratch)
            scratch = seg->steps[i].scratch;
    seg->block = rq_mem_alloc(block, 1);
    seg->scratch = rq_mem_alloc(scratch, 1);
    seg->block_bytes = block + scratch;
    if (!seg->block || !seg->scratch)
        goto done;
    for (int i = 0; i < n; i++) {
        p->forms[items[i].form].offset = items[i].offset;
        p->forms[items[i].form].t.data = (char *)seg->block + items[i].offset;
    }
    for (int i = 0; i < seg->n_steps; i++)
        seg->steps[i].args.scratch = seg->scratch;
    st = RQ_OK;
done:
    rq_mem_free(items);
    rq_mem_free(busy);
    return st;
}
