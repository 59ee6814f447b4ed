/* requant/agreement.h — simulation equals execution: what a network computed with fake-quantizers while it was trained, beside what its quantized
 * form computes in integers, layer by layer on the same samples.
 *
 *   rq_linear_quantizer_finalize(q, &quantized, &err);
 *   n = rq_linear_quantizer_fakes(q, &fakes, NULL);
 *   rq_agreement_measure(&a, rq_linear_quantizer_model(q), fakes, n, quantized, data, NULL, &err);
 *   rq_agreement_print(&a, stdout);
 *   rq_agreement_release(&a);
 *
 * One thread at a time; the work is shared by cfg.threads, and no number depends on how many. */
#ifndef REQUANT_AGREEMENT_H
#define REQUANT_AGREEMENT_H

#include <stdio.h>

#include <requant/autograd.h>
#include <requant/dataset.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One quantized value. */
typedef struct rq_agreement_layer {
    char *name;    /* of the node that makes it; of an input its own */
    char *value;   /* of the quantized graph */
    int64_t codes; /* compared; 0: the integers never make this value (it is part of another) */
    /* The layer by itself, from the same codes at its inputs: not the same; of these off by more than one step; the largest difference in steps. */
    int64_t differ, far;
    int32_t worst;
    int64_t differ_in_all; /* not the same when the simulation runs by itself, so with what differs before it */
    bool named;            /* a larger share differs than cfg.limit allows, or one is far */
} rq_agreement_layer;

typedef struct rq_agreement {
    rq_agreement_layer *layers; /* in the order of the prepared graph */
    int n;
    int64_t samples, codes, differ, differ_in_all; /* over all layers */
    int n_named;
    double limit;
} rq_agreement;

typedef struct rq_agreement_cfg {
    const int64_t *rows; /* samples, ascending; NULL: all */
    int64_t n_rows;
    double limit; /* share of codes of a layer that may differ: a sum that lies on a tie is rounded either way; 0.001 */
    int threads;  /* 0: one per core */
    bool onednn;  /* float products of the simulation by oneDNN */
} rq_agreement_cfg;
/* All samples, 0.1 %, one thread per core, oneDNN. */
RQ_API rq_agreement_cfg rq_agreement_defaults(void);

/* Run both on data: `prepared`, a graph with FakeQuantize nodes for fakes[n_fakes] (evaluation, everything quantized, nothing observed; their switches are
 * put back), and `quantized`, what was made of it, in integers. Values are matched by name: that of a FakeQuantize node's output, else of its input.
 * cfg NULL: defaults. *out is yours: rq_agreement_release; on error it is empty. Where only weights are quantized there are no layers. RQ_BAD_DATA: no value is in both, or a fake-quantizer has seen nothing;
 * what rq_autograd_create, rq_session_create, their runs and data say. */
RQ_API rq_status rq_agreement_measure(rq_agreement *out, rq_graph *prepared, rq_fake_quantizer *const *fakes,
                                      int n_fakes, const rq_graph *quantized, rq_dataset *data,
                                      const rq_agreement_cfg *cfg, rq_err *err);
RQ_API void rq_agreement_release(rq_agreement *a);
/* A table, and a sentence for each layer that is named. */
RQ_API void rq_agreement_print(const rq_agreement *a, FILE *to);
/* As JSON on one line into buf[n] (NUL-terminated, cut at n); returns the length it takes, -1: memory is out. */
RQ_API int64_t rq_agreement_json(const rq_agreement *a, char *buf, size_t n);

#ifdef __cplusplus
}
#endif
#endif
