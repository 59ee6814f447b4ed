/* coreml/raise.c — specification N is opset CoreML<N-1>; a function has one block then, of that name. Operators of
 * a version are those of the last where their parameters agree. */
#include "coreml/raise.h"

#include <stdio.h>
#include <string.h>

rq_status rq_coreml_raise(rq_coreml *m, int32_t spec, rq_err *err)
{
    rq_mil_program *p = &m->program;
    char text[24];
    if (m->spec < spec)
        m->spec = spec;
    const int n = snprintf(text, sizeof text, "CoreML%d", (int)m->spec - 1);
    const char *opset = rq_arena_strndup(&p->arena, text, (size_t)n);
    if (!opset)
        return rq_fail(err, RQ_NO_MEMORY, "not enough memory to raise the specification");
    for (int i = 0; i < p->n_functions; i++) {
        rq_mil_function *f = p->functions[i];
        f->opset = opset;
        f->special[0] =
            (rq_mil_special) { opset, f->block }; /* blocks for other versions are not compressed: they go */
        f->n_special = 1;
    }
    for (int i = 0; i < p->n_attrs; i++)
        if (!strcmp(p->attrs[i].name, "buildInfo")) {
            memmove(p->attrs + i, p->attrs + i + 1, (size_t)(p->n_attrs - i - 1) * sizeof *p->attrs);
            p->n_attrs--;
            break;
        }
    return RQ_OK;
}
