/* tests/fuzz/fuzz_run.c — any bytes as a model, and what loads is run on small numbers, raised to integers and
 * literally. Models with large tensors or loops are left alone: they are slow, not wrong. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "graph/graph.h"

enum { MOST_ELEMENTS = 1 << 14, MOST_SIDE = 1 << 20, MOST_INPUTS = 16 };

static bool is_small(const rq_graph *g)
{
    for (int i = 0; i < g->n_values; i++) {
        const rq_value *v = &g->values[i];
        if (v->kind == RQ_VALUE_DEAD)
            continue;
        if (!rq_shape_is_known(&v->shape) || rq_shape_count(&v->shape) > MOST_ELEMENTS)
            return false;
        for (int d = 0; d < v->shape.rank; d++) /* of an empty tensor */
            if (v->shape.dim[d] > MOST_SIDE)
                return false;
    }
    for (int i = 0; i < g->n_nodes; i++)
        for (int a = 0; g->nodes[i].op && a < g->nodes[i].n_attr; a++) {
            const rq_attr *at = &g->nodes[i].attr[a];
            if (at->type == RQ_ATTR_GRAPH || at->type == RQ_ATTR_GRAPHS)
                return false;
            for (int k = 0; at->type == RQ_ATTR_INTS && k < at->n; k++)
                if (at->ints[k] > 64 || at->ints[k] < -64)
                    return false;
        }
    return g->n_inputs <= MOST_INPUTS && g->n_outputs <= MOST_INPUTS;
}

static void run(const rq_graph *g, bool literal)
{
    rq_err err = { 0 };
    rq_session *s = NULL;
    rq_feed feed[MOST_INPUTS];
    rq_tensor out[MOST_INPUTS];
    int n = 0;
    for (int i = 0; i < rq_graph_n_inputs(g); i++) {
        const rq_value_info in = rq_graph_input(g, i);
        if (in.dtype == RQ_DTYPE_NONE || in.dtype == RQ_DTYPE_STRING ||
            rq_tensor_create(&feed[n].tensor, in.dtype, &in.shape, true))
            continue;
        for (int64_t k = 0; k < rq_tensor_count(&feed[n].tensor); k++)
            rq_tensor_set(&feed[n].tensor, k, (double)(k % 7) - 2);
        feed[n++].name = in.name;
    }
    const rq_session_cfg cfg = { .threads = 1, .literal = literal };
    if (!fuzz_status(rq_session_create(&s, g, &cfg, &err), &err, "a session") &&
        !fuzz_status(rq_session_run(s, feed, n, out, &err), &err, "a run"))
        for (int i = 0; i < rq_graph_n_outputs(g); i++)
            rq_tensor_release(&out[i]);
    for (int i = 0; i < n; i++)
        rq_tensor_release(&feed[i].tensor);
    rq_session_destroy(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t live = rq_mem_live();
    rq_err err = { 0 };
    rq_graph *g;
    if (fuzz_status(rq_load_memory(&g, data, size, &err), &err, "a model"))
        return 0;
    if (is_small(g)) {
        run(g, false);
        run(g, true);
    }
    rq_graph_destroy(g);
    fuzz_nothing_left(live);
    return 0;
}
