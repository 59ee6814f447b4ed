/* ops/raise.h — what the parts of raise share. The steps, in the order rq_raise takes them:
 *
 *   raise_qoperator.c  QLinearConv and its kin become plain operators between DequantizeLinear and QuantizeLinear
 *   raise_qdq.c        QuantizeLinear/DequantizeLinear pairs become annotations
 *   raise_spread.c     annotations reach as far as they can without changing a bit: along operators that only move
 *                      elements, through Relu and Clip that the code range makes superfluous
 *
 * What a raised graph looks like, whatever it was before:
 *   - a float value with an annotation is stored as codes; there is no pair around it;
 *   - QuantizeLinear from an annotated value with equal parameters to an integer value, and DequantizeLinear from an
 *     integer value to an annotated value with equal parameters, are free: the same codes under another type. They
 *     stand where integer tensors enter or leave: graph inputs and outputs, ordinary operators on integers;
 *   - Requantize (domain "requant") is where a value changes its parameters, or is rounded for some of its
 *     consumers only;
 *   - QuantizeLinear and DequantizeLinear with parameters that are not constant, of types other than f32 and integers,
 *     or with scales that are not positive normal numbers (activations only) are left alone. */
#ifndef RQ_OPS_RAISE_H
#define RQ_OPS_RAISE_H

#include "ops/op.h"

/* What the two parameters of a Q or DQ (values of the graph; zero_point may be RQ_NONE) became. */
typedef struct rq_raise_entry {
    rq_id scale, zero_point;
    rq_dtype dtype;
    int axis;
    int64_t block;
    rq_id quant;
} rq_raise_entry;

typedef struct rq_raise_state {
    rq_graph *g;
    rq_kernels kernels;
    rq_raise_entry *entry;
    int n_entries, cap_entries;
    int n_raised;
    rq_err *err;
} rq_raise_state;

/* Content of a constant, or NULL. */
const rq_tensor *rq_raise_const(const rq_graph *g, rq_id v);
/* Is node `op` of the standard domain or of com.microsoft (when `ms`)? */
bool rq_raise_is(const rq_node *n, const char *op, bool ms);
/* The annotation for codes of type d with these parameters, made once per pair; RQ_NONE in *quant when they are not
 * constant or not representable. axis is what the node says, possibly negative; shape is that of the codes (as far as
 * known); a single scale is per tensor whatever the axis. */
rq_status rq_raise_params(rq_raise_state *r, rq_id scale, rq_id zero_point, rq_dtype d, int64_t axis, int64_t block,
                          const rq_shape *shape, rq_id *quant);
/* Per tensor, with a scale that is a positive normal number: rounding twice is rounding once, and codes order as reals
 * do. */
bool rq_raise_is_plain(const rq_qparams *q);
/* Every scale a positive normal number? */
bool rq_raise_is_sound(const rq_qparams *q);
/* A float value for the integer value `codes`: the output of a DequantizeLinear with these parameters, there already or new.
 * axis RQ_PER_TENSOR: one scale. */
rq_status rq_raise_real(rq_raise_state *r, rq_id codes, rq_id scale, rq_id zero_point, int64_t axis, int64_t block,
                        rq_id *real);

rq_status rq_raise_qoperator(rq_raise_state *r);
rq_status rq_raise_qdq(rq_raise_state *r);
rq_status rq_raise_spread(rq_raise_state *r);
/* For a graph that is run, not written: what a Relu or Clip reads is rounded as what it gives, where the operator before it has quantized inputs and so may run in
 * integers. Rounding is monotonic, so that the codes behind it are the same: round(clip(x)) = clip(round(x)). */
void rq_raise_clamps(rq_graph *g);

/* The first two steps on their own, for those who take the annotations off again. */
rq_status rq_raise_annotate(rq_graph *g, int *n_raised, rq_err *err);

#endif
