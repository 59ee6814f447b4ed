/* coreml_program.h — a Core ML program against what coremltools lists of it. Each fails the case with what differs. */
#ifndef RQ_GOLDEN_COREML_PROGRAM_H
#define RQ_GOLDEN_COREML_PROGRAM_H

#include "formats/coreml.h"
#include "golden.h"

/* Every operation in order: type, name, outputs, inputs, constants, blocks; `file` is <package>.ops.json. */
void golden_coreml_operations(golden_case *c, const rq_coreml *m, const char *file);
/* The types of all operations but constants, in order. */
void golden_coreml_op_types(golden_case *c, const rq_coreml *m, const json_t *types);
/* Plain constants by name, bit for bit. */
void golden_coreml_constants(golden_case *c, const rq_coreml *m, const json_t *constants);
/* Quantized weights by name, and no others: operator, codes, scale, zero point, axis, who uses them. */
void golden_coreml_weights(golden_case *c, const rq_coreml *m, const json_t *weights);
/* Dense numbers of compressed weights by the name of what they give, bit for bit. */
void golden_coreml_decompressed(golden_case *c, const rq_coreml *m, const json_t *dense);
/* The scale of the last `quantize`; 0: there is none. */
double golden_coreml_last_scale(const rq_coreml *m);

#endif
