/* ops/samples.h — does a graph treat the samples of a batch one by one? Then a batch may be run in parts, whose outputs lie one behind the other
 * (run/batch.h). What each operator does is said in its row (rq_op.samples, by one of the rules below); a row that says nothing mixes them, unless it
 * is elementwise (RQ_OP_TABLE, RQ_OP_COMMUTES).
 *
 * Sizes are inferred with a symbol for the number of samples, so what is found holds for every number up to RQ_SAMPLES_MOST. */
#ifndef RQ_OPS_SAMPLES_H
#define RQ_OPS_SAMPLES_H

#include "ops/op.h"

enum { RQ_SAMPLES_MOST = 1000000000 }; /* exports cut "to the end" there, or behind it */

/* What a value has to do with the samples. */
typedef enum rq_samples {
    RQ_SAMPLES_NONE, /* it is the same for every batch */
    RQ_SAMPLES_COUNT, /* it follows from how many samples there are: the result of Shape, and what is computed from that */
    RQ_SAMPLES_ROWS, /* axis 0 is the samples, one by one; its other sizes are known */
} rq_samples;

/* What a rule is asked. Axis 0 of every output that is wanted is as long as there are samples, whatever their number, and its other sizes are known. */
typedef struct rq_samples_args {
    rq_infer infer;       /* in: their content where it is the same for every batch; out_shape: as inferred */
    const rq_samples *of; /* [n_in]; NONE of an input that is left out */
} rq_samples_args;

/* Rules: is sample i of every output made of nothing but samples i, and what is the same for every batch? */
bool rq_samples_each(const rq_samples_args *a);   /* elementwise, numpy broadcasting of all inputs */
bool rq_samples_first(const rq_samples_args *a);  /* input 0 has the samples, and axis 0 is a batch in its definition */
bool rq_samples_order(const rq_samples_args *a);  /* the elements of input 0 in their order, of another shape */
bool rq_samples_within(const rq_samples_args *a); /* as first, but along attribute "axis" (the last axis by default) */
bool rq_samples_along(const rq_samples_args *a);  /* the same where 0 is the default of "axis" */
bool rq_samples_join(const rq_samples_args *a);   /* Concat */
bool rq_samples_slice(const rq_samples_args *a);
bool rq_samples_pad(const rq_samples_args *a);
bool rq_samples_transpose(const rq_samples_args *a);
bool rq_samples_gather(const rq_samples_args *a);
bool rq_samples_reduce(const rq_samples_args *a);
bool rq_samples_resize(const rq_samples_args *a);
bool rq_samples_fill(const rq_samples_args *a); /* ConstantOfShape */
bool rq_samples_expand(const rq_samples_args *a);
bool rq_samples_matmul(const rq_samples_args *a);
bool rq_samples_gemm(const rq_samples_args *a);
bool rq_samples_pool(
    const rq_samples_args *a); /* as first, without an output of indices, which count from the first sample */
bool rq_samples_plain(
    const rq_samples_args *a); /* as first, of what behaves otherwise while it is trained: BatchNormalization */
bool rq_samples_quantize(const rq_samples_args *a);

/* *apart: for inputs of these types and shapes but for axis 0 (in[n_inputs]; dtype NONE: the input's default), whatever their number, sample i
 * of every output of g depends on samples i of the inputs alone, and every output has axis 0 as long as they. RQ_NO_MEMORY. */
rq_status rq_samples_apart(bool *apart, const rq_graph *g, const rq_tensor *in);

#endif
