/* fold/transpose.h — take the layout changes out of a graph that was exported from a channels-last framework. */
#ifndef RQ_FOLD_TRANSPOSE_H
#define RQ_FOLD_TRANSPOSE_H

#include "graph/graph.h"

/* Push every Transpose towards the outputs, past operators that do not care about the order of axes (elementwise,
 * Concat, Pad, Reduce with kept sizes), and cancel those that meet their inverse. The graph computes the same numbers; values that
 * keep their name keep their layout. Shapes must be inferred and constants folded before (rq_ops_infer).
 * *gone (may be NULL): Transposes fewer than before. */
rq_status rq_push_transposes(rq_graph *g, int *gone, rq_err *err);

#endif
