/* formats/mil_ops.c — the rows of all families, found by name, and what they share. How each operator of a program becomes nodes of
 * ONNX's operators is in mil_ops_*.c. Semantics: docs/coreml-package.md. */
#include <string.h>

#include "formats/mil_rows.h"

rq_status rq_mil_rows_inputs(rq_mil_reader *r, const rq_mil_op *op, int n, const char *const *params, const char **in)
{
    for (int i = 0; i < n; i++)
        RQ_TRY(rq_mil_reader_input(r, op, params[i], &in[i]));
    return in[0] ? RQ_OK : rq_fail(r->err, RQ_BAD_FILE, "'%s' is missing", params[0]);
}

static const rq_mil_row *const families[] = { rq_mil_rows_linear,  rq_mil_rows_norm,   rq_mil_rows_elements,
                                              rq_mil_rows_shapes,  rq_mil_rows_slices, rq_mil_rows_pick,
                                              rq_mil_rows_reduce,  rq_mil_rows_resize, rq_mil_rows_recurrent,
                                              rq_mil_rows_control, rq_mil_rows_quant };
enum { N_FAMILIES = sizeof families / sizeof families[0] };

const rq_mil_row *rq_mil_row_find(const char *type)
{
    for (int i = 0; i < N_FAMILIES; i++)
        for (const rq_mil_row *row = families[i]; row->type; row++)
            if (!strcmp(row->type, type))
                return row;
    return NULL;
}

/* The families are merged: of what follows the row before, the first. */
const rq_mil_row *rq_mil_row_at(int i)
{
    const rq_mil_row *at[N_FAMILIES], *row = NULL;
    memcpy(at, families, sizeof at);
    for (int k = 0; k <= i; k++) {
        int next = -1;
        for (int f = 0; f < N_FAMILIES; f++)
            if (at[f]->type && (next < 0 || strcmp(at[f]->type, at[next]->type) < 0))
                next = f;
        if (next < 0)
            return NULL;
        row = at[next]++;
    }
    return row;
}

bool rq_coreml_operator(int i, const char **name, const char **onnx)
{
    const rq_mil_row *row = i < 0 ? NULL : rq_mil_row_at(i);
    *name = row ? row->type : NULL;
    *onnx = row ? row->onnx : NULL;
    return row != NULL;
}
