/* base/notes.c — a growing list of sentences (requant/ptq.h). */
#include <stdarg.h>

#include "base/mem.h"
#include "base/number.h"
#include "requant/ptq.h"

rq_status rq_notes_add(rq_notes *notes, const char *fmt, ...)
{
    if (!notes)
        return RQ_OK;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    rq_number_vprint(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!rq_mem_grow(&notes->text, notes->n, &notes->cap, sizeof *notes->text))
        return RQ_NO_MEMORY;
    char *copy = rq_mem_strdup(text);
    if (!copy)
        return RQ_NO_MEMORY;
    notes->text[notes->n++] = copy;
    return RQ_OK;
}

void rq_notes_release(rq_notes *notes)
{
    for (int i = 0; i < notes->n; i++)
        rq_mem_free(notes->text[i]);
    rq_mem_free(notes->text);
    *notes = (rq_notes) { 0 };
}
