/* algo/report_bits.c — codes of fewer bits than the bytes they are kept in.
 *
 * A file has activations of 8 bits, or 16; one of 4 is a byte behind a Clip whose bounds are the ends of 16 codes. A Clip is taken for
 * that only where its bounds are codes to within a thousandth of a step, and an interval of 2 to 7 bits: what a ReLU6 leaves of
 * 8 bits is no such thing but by chance. What stands before such a Clip alone, and what only moves its codes on, has its bits. */
#include <math.h>
#include <string.h>

#include "algo/place.h"
#include "algo/report_priv.h"
#include "base/mem.h"
#include "graph/graph.h"
#include "graph/query.h"
#include "ops/op.h"

static bool same_codes(const rq_graph *g, rq_id a, rq_id b)
{
    const rq_qparams *p = a >= 0 ? rq_graph_qparams(g, a) : NULL, *q = b >= 0 ? rq_graph_qparams(g, b) : NULL;
    return p && q && p->n == 1 && q->n == 1 && p->dtype == q->dtype && p->scale[0] == q->scale[0] &&
           p->zero_point[0] == q->zero_point[0];
}

/* The code that real x is, if it is one. */
static bool code_at(const rq_qparams *q, double x, int32_t *code)
{
    const double c = x / (double)q->scale[0];
    if (!(fabs(c) < 1 << 20) || fabs(c - nearbyint(c)) > 1e-3)
        return false;
    *code = (int32_t)nearbyint(c) + q->zero_point[0];
    return true;
}

/* Bits of the codes lo..hi: 2^b of them, or one less around zero; 0: no such interval. */
static int bits_of(const rq_qparams *q, int32_t lo, int32_t hi)
{
    const int32_t n = hi - lo + 1, zero = q->zero_point[0];
    for (int b = 2; b < 8; b++)
        if (n == 1 << b || (n == (1 << b) - 1 && hi - zero == zero - lo))
            return b;
    return 0;
}

static void look_at(const rq_graph *g, const rq_node *n, rq_report_codes *of)
{
    double lo, hi;
    rq_report_codes c = { 0 };
    const rq_id x = rq_node_in(n, 0), y = n->n_out ? n->out[0] : RQ_NONE;
    if (!same_codes(g, x, y))
        return;
    const rq_qparams *q = rq_graph_qparams(g, y);
    if (n->row && (n->row->flags & RQ_OP_MOVES)) {
        of[y] = of[x];
    } else if (!strcmp(n->op, "Clip") && rq_place_clamp_bounds(g, n, &lo, &hi) && isfinite(lo) && isfinite(hi) &&
               code_at(q, lo, &c.lo) && code_at(q, hi, &c.hi) && (c.bits = bits_of(q, c.lo, c.hi))) {
        of[y] = c;
        if (rq_graph_uses(g, x, NULL, 0) == 1 && !rq_graph_is_output(g, x))
            of[x] = c;
    }
}

rq_status rq_report_find_bits(rq_report_codes **out, const rq_graph *g, rq_err *err)
{
    rq_id *order;
    int n;
    RQ_TRY(rq_order(g, &order, &n, err));
    rq_report_codes *of = rq_mem_zalloc((size_t)g->n_values + 1, sizeof *of);
    for (int i = 0; of && i < n; i++)
        if (g->nodes[order[i]].op)
            look_at(g, &g->nodes[order[i]], of);
    rq_mem_free(order);
    if (!of)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for the report");
    *out = of;
    return RQ_OK;
}
