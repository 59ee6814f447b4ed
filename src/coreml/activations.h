/* coreml/activations.h — the parts of linear_quantize_activations: ranges seen while the program runs, pairs put in, and what is tidied up after. */
#ifndef RQ_COREML_ACTIVATIONS_H
#define RQ_COREML_ACTIVATIONS_H

#include "coreml/flow.h"
#include "coreml/pairs.h"
#include "requant/coreml_optimize.h"

/* What was seen of a value. */
typedef struct rq_coreml_seen {
    const char *name;
    float lo, hi; /* lo > hi: nothing */
} rq_coreml_seen;

typedef struct rq_coreml_ranges {
    rq_coreml_seen *at; /* by name */
    int n;
    rq_arena a;
} rq_coreml_ranges;

/* ---- activations_calibrate.c ---- */

/* Run the program on rows[0..n_rows) of d (NULL: all) and keep the range of every value that leads to an output of the first function: its inputs, and what
 * operations give, but no constants, outputs of the model, or values that are neither float nor int32. Values that a concat joins
 * share a range. RQ_UNSUPPORTED: an operator that cannot be run; RQ_BAD_DATA. */
rq_status rq_coreml_ranges_measure(rq_coreml_ranges *out, const rq_coreml *m, rq_dataset *d, const int64_t *rows,
                                   int64_t n_rows, rq_err *err);
/* Ranges from somewhere else: names and numbers are copied. RQ_NO_MEMORY. */
rq_status rq_coreml_ranges_copy(rq_coreml_ranges *out, const rq_coreml_seen *from, int n, rq_err *err);
const rq_coreml_seen *rq_coreml_ranges_find(const rq_coreml_ranges *r,
                                            const char *name); /* NULL: none, or nothing seen */
void rq_coreml_ranges_release(rq_coreml_ranges *r);
/* One more: lo and hi of the numbers that are finite. */
void rq_coreml_seen_fold(rq_coreml_seen *s, const float *x, int64_t n);

/* ---- activations.c ---- */

/* The scale and zero point of a range, in the arithmetic of coremltools: fp16, and wider where that overflows. */
typedef struct rq_coreml_code {
    float scale;
    int zero_point;
    bool has_zero_point; /* false: it is 0 and not written */
} rq_coreml_code;
/* half: the scale is fp16. */
rq_coreml_code rq_coreml_code_of(float lo, float hi, bool symmetric, bool is_signed, bool half);

/* Pairs into every function, and the passes behind; specification 8 or more. made: is added to, or NULL. */
rq_status rq_coreml_insert_pairs(rq_coreml *m, const rq_coreml_config *c, const rq_coreml_ranges *ranges,
                                 rq_coreml_pairs *made, rq_err *err);

/* ---- activations_passes.c: NO_MEMORY is all that can go wrong ---- */

/* A quantize or dequantize (zero_point, axis, output_dtype NULL: without) before `before`; what it gives. */
typedef struct rq_coreml_quant_op {
    const char *type;
    rq_flow_value *input, *scale, *zero_point, *axis, *output_dtype;
    const rq_mil_dtype *dtype;                                         /* of what it gives */
    const rq_mil_value *new_scale, *new_zero_point, *new_output_dtype; /* constants to be made for it */
} rq_coreml_quant_op;
rq_flow_value *rq_coreml_quant_op_place(rq_flow *w, const rq_coreml_quant_op *q, rq_flow_op *before);

/* dequantize and quantize behind it with equal parameters go. */
bool rq_coreml_drop_equal_pairs(rq_flow *w);
/* All that follows insertion, in order. */
bool rq_coreml_after_pairs(rq_flow *w);

#endif
