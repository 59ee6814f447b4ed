/* ops/widen.h — models of 16-bit floats on their way through a library that quantizes and runs integers between f32 reals.
 *
 * rq_widen makes every F16 and BF16 value F32, but for the graph's inputs and outputs, behind and before which a Cast stands;
 * rq_narrow is the way back, for writing. graph.real remembers that there is one: where all floats of the model were of one
 * 16-bit type. Scales of annotations are then kept to numbers that type has (rq_widen_scale), so that nothing changes on the
 * way: a file with scales of its floats' own type (docs/onnx-facts.md 2.2, opset 19). */
#ifndef RQ_OPS_WIDEN_H
#define RQ_OPS_WIDEN_H

#include "graph/graph.h"

enum { RQ_WIDEN_OPSET = 19 }; /* the first whose scales may have 16 bits */

/* Without 16-bit floats: no change. RQ_NO_MEMORY, RQ_BAD_GRAPH; g is then half converted. */
rq_status rq_widen(rq_graph *g, rq_err *err);
/* The same where some QuantizeLinear or DequantizeLinear has a 16-bit scale: what raising begins with. */
rq_status rq_widen_quantized(rq_graph *g, rq_err *err);
/* Back to graph.real, when it is set and every operator there is can take it; else the model stays f32 inside. Needs a graph
 * without annotations. */
rq_status rq_narrow(rq_graph *g, rq_err *err);
/* Constants that rq_narrow will round get their rounded numbers now, so that g computes what its file will. */
rq_status rq_widen_round(rq_graph *g, rq_err *err);
/* The least number of type d that is not below s (s itself when d is NONE). */
float rq_widen_scale(rq_dtype d, float s);

#endif
