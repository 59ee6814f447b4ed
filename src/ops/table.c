/* ops/table.c — every operator the library knows: the rows of ops/rows.inc, found by domain and name, and the
 * support table that `requant ops` prints. */
#include <string.h>

#include "ops/rows.h"
#include "requant/ops.h"

static const rq_op *const rows[] = {
#define ROW(name) &rq_op_##name,
#include "ops/rows.inc"
#undef ROW
};

enum { N_ROWS = sizeof rows / sizeof rows[0] };

const rq_op *rq_op_find(const char *domain, const char *name)
{
    if (!name)
        return NULL;
    if (!domain || strcmp(domain, "ai.onnx") == 0)
        domain = "";
    for (int i = 0; i < N_ROWS; i++)
        if (strcmp(rows[i]->name, name) == 0 && strcmp(rows[i]->domain, domain) == 0)
            return rows[i];
    return NULL;
}

const rq_op *rq_op_at(int i)
{
    return i >= 0 && i < N_ROWS ? rows[i] : NULL;
}

static const char *integer_form(const rq_op *row)
{
    if (row->flags & RQ_OP_MOVES)
        return "moves codes";
    if (row->forward_int)
        return "own";
    if (row->flags & RQ_OP_TABLE)
        return "table";
    return "";
}

bool rq_ops_support(int i, rq_op_support *out)
{
    static const char *const place[] = {
        [RQ_PLACE_FLOAT] = "float",       [RQ_PLACE_WEIGHTED] = "weighted", [RQ_PLACE_OWN] = "own parameters",
        [RQ_PLACE_SAME] = "as input",     [RQ_PLACE_JOIN] = "joined",       [RQ_PLACE_CLAMP] = "into range",
        [RQ_PLACE_UNIT] = "range [0, 1]",
    };
    const rq_op *row = rq_op_at(i);
    if (!row)
        return false;
    *out = (rq_op_support) {
        .domain = row->domain,
        .name = row->name,
        .since = row->since,
        .known = row->known,
        .runs = row->forward != NULL,
        .gradient = row->backward != NULL,
        .integer = integer_form(row),
        .placement = place[row->place],
    };
    return true;
}
