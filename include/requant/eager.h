/* requant/eager.h — eager mode: qconfigs go down a network's modules, fake-quantizers go where they say, it is trained, and becomes integers
 * (docs/torch-facts.md 7).
 *
 *   rq_nn_fuse_modules(g, RQ_NN_FUSE_QAT, ...);             requant/nn.h; layers with their batch norms and ReLUs
 *   rq_prepare_qat(&e, g, mapping, false, &err);
 *   cfg.fakes and n_fakes of rq_autograd_create(&a, rq_eager_model(e), &cfg, &err) are those of rq_eager_fakes
 *   for (...) { train; rq_eager_enable_observer(e, false); rq_autograd_freeze_batch_norm(a, NULL, true, &err); when it is time }
 *   rq_convert(e, &q, &err);                                a graph that rq_save and rq_session take
 *
 * One thread at a time. */
#ifndef REQUANT_EAGER_H
#define REQUANT_EAGER_H

#include <requant/fake_quantizer.h>
#include <requant/graph.h>
#include <requant/qconfig_mapping.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_eager rq_eager;

/* A copy of g with fake-quantizers: behind stubs, layers and FloatFunctionals, and on the weights of Conv2d, Conv3d, Linear and what was fused with a batch
 * norm, as the qconfig says that each module gets from m by the rules of eager mode (rq_qconfig_mapping_propagate). A module that is applied
 * more than once has one fake-quantizer for all. Sigmoid, Hardsigmoid, Softmax and Tanh have their fixed scales. A batch norm behind a layer it was
 * fused with (RQ_NN_FUSE_QAT) scales that layer's weights before they are quantized. compat: the originals' numbers (docs/numerics.md, "Departures from the
 * originals"). g and m need not live on.
 * RQ_BAD_ARG: a qconfig that observes instead of fake-quantizing; RQ_UNSUPPORTED: one that measures activations while it runs; RQ_NOT_FOUND, and what
 * rq_qconfig_mapping_propagate says; RQ_NO_MEMORY. */
RQ_API rq_status rq_prepare_qat(rq_eager **out, const rq_graph *g, const rq_qconfig_mapping *m, bool compat,
                                rq_err *err);
RQ_API void rq_eager_destroy(rq_eager *e); /* NULL is fine */

/* The prepared network, owned by e: what is trained. */
RQ_API rq_graph *rq_eager_model(rq_eager *e);
/* Its fake-quantizers, by the attribute "slot" of FakeQuantize nodes, and what they are called: "conv1.weight_fake_quant",
 * "conv1.activation_post_process". Both lists are e's and live as long as it does. Returns how many. */
RQ_API int rq_eager_fakes(const rq_eager *e, rq_fake_quantizer *const **fakes, const char *const **names);
/* All of them at once. */
RQ_API void rq_eager_enable_observer(rq_eager *e, bool on);
RQ_API void rq_eager_enable_fake_quant(rq_eager *e, bool on);

/* The network in integers, yours: batch norms folded with their running statistics, weights as codes, outputs of modules annotated with what their
 * fake-quantizers say (rq_fake_quantizer_qparams); what a pool, Flatten or the like makes of codes keeps their parameters until a DeQuantStub. The weight's
 * fake-quantizers see the folded weights once more, so that an observer that is still on moves a last time. Biases stay float. e can be trained on.
 * RQ_BAD_DATA: a fake-quantizer has seen nothing (named); RQ_NUMERIC, RQ_NO_MEMORY. */
RQ_API rq_status rq_convert(rq_eager *e, rq_graph **out, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
