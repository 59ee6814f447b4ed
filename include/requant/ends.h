/* requant/ends.h — models whose inputs and outputs are codes: what a camera gives goes in as it is, and nothing is
 * converted at the borders.
 *
 * What the codes mean stands in the model's metadata_props, per input or output NAME, as one JSON object:
 *   quantization.NAME   {"dtype": "u8", "scale": s, "zero_point": z, "mean": [..], "std": [..]}
 *   real = (code - z) * s; with mean and std, the float model had (real - mean[c]) / std[c] there, c along axis 1. */
#ifndef REQUANT_ENDS_H
#define REQUANT_ENDS_H

#include <requant/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { RQ_ENDS_CHANNELS = 16 };

/* What rq_ptq does with the ends of the graph; all zero: nothing. */
typedef struct rq_ends {
    bool inputs, outputs; /* float ones become codes of the activations' type */
    /* inputs: the model was trained on (pixel * step - mean[c]) / std[c]; this goes into its first layer, which must be a
     * Conv, and pixels from 0 to 255 go in. n_channels 0: nothing of the kind, codes have the range that calibration saw. */
    int n_channels; /* 1: the same for every channel */
    float mean[RQ_ENDS_CHANNELS], std[RQ_ENDS_CHANNELS];
    double step; /* 0: 1 / 255 */
} rq_ends;

/* A graph with codes at its ends, with real numbers there again: inputs are normalized and quantized, outputs dequantized, as
 * its metadata say. For judging it on the samples of the float model. Ends without metadata stay. On error g is unchanged.
 * RQ_BAD_GRAPH: metadata that do not fit; RQ_NO_MEMORY. */
RQ_API rq_status rq_ends_restore(rq_graph *g, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
