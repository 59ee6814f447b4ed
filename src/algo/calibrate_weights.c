/* algo/calibrate_weights.c — rq_calibrate_weights over the weights of a graph. */
#include <string.h>

#include "algo/weights.h"
#include "base/mem.h"
#include "requant/calibrator.h"

static bool takes_part(const rq_node *n)
{
    static const char *const ops[] = { "Conv", "ConvTranspose", "Gemm", "MatMul" };
    for (size_t i = 0; n->op && (!n->domain[0] || !strcmp(n->domain, "ai.onnx")) && i < sizeof ops / sizeof ops[0]; i++)
        if (!strcmp(n->op, ops[i]))
            return true;
    return false;
}

static rq_status calibrate(rq_state *out, rq_exec *e, const rq_value *v, int axis, const rq_weights_cfg *cfg,
                           rq_err *err)
{
    const rq_strided w = rq_strided_of(&v->constant);
    rq_tensor amax;
    rq_status st = rq_calibrate_weights(&amax, e, &w, axis, cfg, NULL, err);
    if (st)
        return rq_fail_in(err, st, "weight '%s'", v->name);
    st = rq_state_set(out, NULL, v->name, &amax);
    rq_tensor_release(&amax);
    return st ? rq_fail(err, st, "no memory for the amax of '%s'", v->name) : RQ_OK;
}

rq_status rq_calibrate_graph_weights(rq_state *out, rq_exec *e, const rq_graph *g, const rq_weights_cfg *cfg,
                                     rq_err *err)
{
    bool *done = rq_mem_zalloc((size_t)g->n_values, sizeof *done);
    rq_status st = done ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "no memory for a list of weights");
    for (int i = 0; !st && i < g->n_nodes; i++) {
        rq_weight_site sites[2];
        const rq_node *n = &g->nodes[i];
        const int count = takes_part(n) ? rq_weight_sites(g, n, sites) : 0;
        for (int k = 0; !st && k < count; k++) {
            const rq_id id = n->in[sites[k].in];
            if (!done[id])
                st = calibrate(out, e, &g->values[id], sites[k].channel, cfg, err);
            done[id] = true;
        }
    }
    rq_mem_free(done);
    return st;
}
