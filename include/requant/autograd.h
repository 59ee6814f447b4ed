/* requant/autograd.h — run a graph forward and backward: outputs, and the gradients of its parameters.
 *
 *   rq_autograd *a;
 *   rq_autograd_create(&a, g, NULL, &err);
 *   for (...) {
 *       rq_autograd_forward(a, feeds, n, y, &err);         y: views into a
 *       loss and its gradient dy from y
 *       rq_autograd_zero_grad(a);
 *       rq_autograd_backward(a, dy, &err);
 *       update the parameters: rq_autograd_parameters, requant/optim.h
 *   }
 *
 * Parameters are the graph's own constants, trained where they lie: what trains a graph is at any time what rq_save would write. Memory
 * is planned per input shape: a tensor lives from the step that makes it to the last that reads it, forward or backward, and shares
 * its bytes with others before and after. Float products by oneDNN unless cfg says otherwise.
 * One thread at a time; the work is shared by cfg.threads, and (on one machine) no result depends on how many. */
#ifndef REQUANT_AUTOGRAD_H
#define REQUANT_AUTOGRAD_H

#include <requant/fake_quantizer.h>
#include <requant/graph.h>
#include <requant/session.h>
#include <requant/state.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_autograd rq_autograd;

typedef struct rq_autograd_cfg {
    int threads; /* 0: one per core */
    bool onednn; /* float products by oneDNN; false: ours, the same bits on every CPU */
    /* Keep only what crosses from one block of the network to the next, and compute the rest again for backward: a third more
     * work, memory of about the square root. Same bits. */
    bool checkpoint_activations;
    rq_fake_quantizer *const
        *fakes; /* what FakeQuantize nodes stand for (their attribute "slot"); borrowed, must outlive */
    int n_fakes;
    uint64_t seed; /* of dropout */
} rq_autograd_cfg;
/* One thread per core, oneDNN, nothing computed twice. Never fails. */
RQ_API rq_autograd_cfg rq_autograd_defaults(void);

/* Make one for g, which must outlive it. g's trained constants become private to it (no copy of g shares them) and are changed in place;
 * nothing else of g may change meanwhile. cfg NULL: defaults.
 * RQ_UNSUPPORTED: an operator cannot run or has a body (If, Loop, Scan), or stands between a parameter and an output and has no gradient
 * (the sentence names all such); RQ_BAD_GRAPH, RQ_NO_MEMORY. */
RQ_API rq_status rq_autograd_create(rq_autograd **out, rq_graph *g, const rq_autograd_cfg *cfg, rq_err *err);
RQ_API void rq_autograd_destroy(rq_autograd *a); /* NULL is fine */

/* Train mode (as created): batch norms use their batch and move their running statistics, dropout drops. Evaluation: neither. */
RQ_API void rq_autograd_train(rq_autograd *a, bool on);
RQ_API bool rq_autograd_is_training(const rq_autograd *a);
/* Batch norms stay in evaluation, whatever the mode: those whose node name is given, or all (NULL). RQ_NOT_FOUND. */
RQ_API rq_status rq_autograd_freeze_batch_norm(rq_autograd *a, const char *node, bool on, rq_err *err);

/* One forward. in as rq_session_run; out[rq_graph_n_outputs] become views that live until the next forward. In train mode what backward
 * needs is kept. New input shapes make a new plan. RQ_BAD_DATA: name, type or shape does not fit; errors of fake-quantizers. */
RQ_API rq_status rq_autograd_forward(rq_autograd *a, const rq_feed *in, int n_in, rq_tensor *out, rq_err *err);
/* Add the gradients of sum(dy * y) of the forward just made (in train mode, or with rq_autograd_keep) to those of the parameters. dy[n_outputs]: f32, of
 * the shape of y; dtype NONE: none. Once per forward. RQ_BAD_ARG: no forward to go back through; RQ_BAD_SHAPE. */
RQ_API rq_status rq_autograd_backward(rq_autograd *a, const rq_tensor *dy, rq_err *err);
/* Evaluation keeps what backward needs, too. */
RQ_API void rq_autograd_keep(rq_autograd *a, bool on);
/* Gradient of graph input `name` by the last backward, as a view that lives until the next forward; asked for with rq_autograd_want_input
 * before. RQ_NOT_FOUND. */
RQ_API rq_status rq_autograd_want_input(rq_autograd *a, const char *name, rq_err *err);
RQ_API rq_status rq_autograd_input_grad(const rq_autograd *a, const char *name, rq_tensor *out, rq_err *err);

/* What a parameter is to an optimizer's groups. */
typedef enum rq_parameter_role {
    RQ_PARAMETER_WEIGHT,     /* of a convolution, a product, an embedding, a recurrent layer */
    RQ_PARAMETER_BIAS,       /* of these */
    RQ_PARAMETER_NORM,       /* weight and bias of a normalization */
    RQ_PARAMETER_SCALE,      /* of a learnable fake-quantizer */
    RQ_PARAMETER_ZERO_POINT, /* of one */
    RQ_PARAMETER_OTHER,
} rq_parameter_role;

typedef struct rq_parameter {
    const char *name; /* of the graph's constant; "<fake-quantize node>.scale", ".zero_point" */
    rq_parameter_role role;
    rq_shape shape;
    int64_t count;
    float *data, *grad; /* [count], row-major; of a fake-quantizer that has seen nothing: count 0, NULL */
} rq_parameter;
/* All of them, in the order of the graph; *out lives until the next call of this or the end of a. Data and grad of constants stay
 * where they are; of fake-quantizers they may move in the first forward: ask again after it. Returns their number. */
RQ_API int rq_autograd_parameters(rq_autograd *a, rq_parameter **out);
/* Set all gradients to 0, those of fake-quantizers too. */
RQ_API void rq_autograd_zero_grad(rq_autograd *a);

/* See a value of the graph in every forward, as rq_session_tap. RQ_NOT_FOUND. */
RQ_API rq_status rq_autograd_tap(rq_autograd *a, const char *value, rq_tap_fn fn, void *arg, rq_err *err);
/* Give the gradient of a value in the next backwards beside what comes from the outputs: added from `dy` (f32 of the value's shape), which is read in
 * backward and must live until then; NULL: no longer. For losses on inner values (distillation). The first time for a value that is not tapped it
 * has to come before the forward: the plan is made anew. RQ_NOT_FOUND. */
RQ_API rq_status rq_autograd_add_grad(rq_autograd *a, const char *value, const float *dy, rq_err *err);

/* Bytes that the plan of the last forward holds for activations and their gradients. */
RQ_API size_t rq_autograd_bytes(const rq_autograd *a);
/* What draws (dropout) goes on from here: kept in checkpoints. */
RQ_API uint64_t rq_autograd_random_state(const rq_autograd *a);
RQ_API void rq_autograd_set_random_state(rq_autograd *a, uint64_t state);

#ifdef __cplusplus
}
#endif
#endif
