/* algo/linear_quantizer.h — LinearQuantizer inside: what its config answers, where fake-quantizers go, and the object.
 *
 * prepare is three passes that can be looked at one by one: groups (which nodes count as one layer), positions (where a fake-quantizer
 * stands, and which positions share one), and the rewrite. docs/coreml-facts.md has the rules with the numbers that comments cite. */
#ifndef RQ_ALGO_LINEAR_QUANTIZER_H
#define RQ_ALGO_LINEAR_QUANTIZER_H

#include "graph/graph.h"
#include "requant/linear_quantizer.h"
#include "requant/ptq.h"

/* ---- what the config answers (linear_quantizer_config.c) ---- */

/* Which rule decided. */
typedef enum rq_lq_level {
    RQ_LQ_GLOBAL,
    RQ_LQ_TYPE,
    RQ_LQ_ANCESTOR, /* a name of module_name_configs that the module is in */
    RQ_LQ_NAME,
} rq_lq_level;

/* The settings of a layer, or NULL: it is not quantized. module is its path ("" for the root's own calls; NULL: names do not count), types[n] the
 * names it answers to (rq_module_types), the one that modules go by first. A name decides before those around it, from the inside out; each as it
 * stands, then as a pattern (compat: as it stands alone); then types; then global_config; without one the built-in defaults with the scheme and
 * algorithm of the others, or nothing where the config says skip_by_default. Lives as long as c. */
const rq_module_linear_quantizer_config *rq_linear_quantizer_config_lookup(const rq_linear_quantizer_config *c,
                                                                           const char *module, const char *const *types,
                                                                           int n);
/* The same, and which rule it was; level may be NULL. */
const rq_module_linear_quantizer_config *rq_linear_quantizer_config_find(const rq_linear_quantizer_config *c,
                                                                         const char *module, const char *const *types,
                                                                         int n, rq_lq_level *level);
/* Rules of types and names, types first; the one that decides for a layer, or -1: none does. *skip: it leaves the layer in float. */
int rq_linear_quantizer_config_rules(const rq_linear_quantizer_config *c);
int rq_linear_quantizer_config_deciding(const rq_linear_quantizer_config *c, const char *module,
                                        const char *const *types, int n, bool *skip);
/* A note for each rule that decides[] nothing. RQ_NO_MEMORY. */
struct rq_notes;
rq_status rq_linear_quantizer_config_idle(const rq_linear_quantizer_config *c, const bool *decides,
                                          struct rq_notes *notes);
/* The settings that milestones and scheme are taken from: global, else the first type's, else the first name's, else the defaults. */
const rq_module_linear_quantizer_config *rq_linear_quantizer_config_common(const rq_linear_quantizer_config *c);
/* Is the module, or one around it, kept as one float region (non_traceable_module_names)? */
bool rq_linear_quantizer_config_is_opaque(const rq_linear_quantizer_config *c, const char *module);
bool rq_linear_quantizer_config_is_compat(const rq_linear_quantizer_config *c);
rq_status rq_linear_quantizer_config_copy(rq_linear_quantizer_config **out, const rq_linear_quantizer_config *c);
/* Check c, and that each of its rules fits a module of g; a key that is a module's name is none's pattern from then on. RQ_NOT_FOUND: the first
 * that fits none, with the nearest name. With compat that is a note. notes may be NULL. */
rq_status rq_linear_quantizer_config_match(rq_linear_quantizer_config *c, const rq_graph *g, struct rq_notes *notes,
                                           rq_err *err);

/* ---- groups (linear_quantizer_group.c) ---- */

typedef enum rq_lq_kind {
    RQ_LQ_FLOAT, /* no part of it is quantized: its outputs are floats, and its inputs stay as they come */
    RQ_LQ_WEIGHTED, /* Conv, ConvTranspose, Gemm, MatMul by a constant (and its Add), with BatchNormalization and activation */
    RQ_LQ_TABLE,   /* Gather from a constant: an embedding. Its weight alone is quantized */
    RQ_LQ_PAIR,    /* Add, Mul, Sub, MatMul, Einsum of activations, with an activation */
    RQ_LQ_UNARY,   /* an activation alone, a batch norm (and its Relu) */
    RQ_LQ_SHARE,   /* output and input have one fake-quantizer: pools, Concat, Reshape ... */
    RQ_LQ_DROPOUT, /* passes on what it gets */
} rq_lq_kind;

/* Codes that follow from the kind of operator alone. */
typedef enum rq_lq_range {
    RQ_LQ_ANY,          /* ordinary */
    RQ_LQ_NON_NEGATIVE, /* Relu, Clip from 0 */
    RQ_LQ_UNIT,         /* 1/256 from 0: Sigmoid, HardSigmoid, Softmax */
    RQ_LQ_TANH,         /* 2/256 around 128 */
} rq_lq_range;

typedef struct rq_lq_group {
    rq_lq_kind kind;
    rq_lq_range range;                            /* of what it gives */
    rq_id root;                                   /* first node: the product, the pair, the activation */
    rq_id bias_add;                               /* Add of a constant bias behind a MatMul, or RQ_NONE */
    rq_id norm;                                   /* BatchNormalization, or RQ_NONE */
    rq_id act;                                    /* the node whose output is the activation's, or RQ_NONE */
    rq_id last;                                   /* the node whose output 0 the group gives */
    const char *op;                               /* of the activation: "Relu" ...; NULL: none */
    const char *module;                           /* of root */
    const rq_module_linear_quantizer_config *cfg; /* NULL: not quantized */
    rq_lq_level level;                            /* of the rule that cfg is from */
    bool fixed;                                   /* an activation by itself whose range is given */
    bool deconv;                                  /* root is a ConvTranspose */
    int weight_in;                                /* which input of root the weight is; -1: none */
    int weight_axis;                              /* channels of it */
    int weight;                                   /* object of its fake-quantizer, or -1 */
} rq_lq_group;

/* ---- positions (linear_quantizer_place.c, linear_quantizer_compat.c) ---- */

typedef enum rq_lq_policy {
    RQ_LQ_ORDINARY, /* scheme and observer of the config */
    RQ_LQ_AFFINE,   /* non-negative: affine where the scheme is symmetric */
    RQ_LQ_FIXED,    /* scale and zero point given */
    RQ_LQ_WEIGHT,
} rq_lq_policy;

/* One fake-quantizer; several positions may share it. */
typedef struct rq_lq_object {
    const char *name; /* "activation_post_process_3", "conv.weight_fake_quant" */
    rq_lq_policy policy;
    rq_lq_range range;                            /* FIXED: which */
    const rq_module_linear_quantizer_config *cfg; /* whose observer */
    int group;                                    /* that it was made for */
    int axis;                                     /* WEIGHT: channels, or RQ_PER_TENSOR */
    int slot;                                     /* in the list of fake-quantizers; -1: no position uses it any more */
    int primary; /* place that it was made anew for, behind which it is registered last; -1 */
} rq_lq_object;

/* One place in the graph where a fake-quantizer stands: behind `value`. */
typedef struct rq_lq_place {
    int index;    /* n of activation_post_process_n; -1: a weight */
    rq_id value;  /* what is quantized */
    int producer; /* group that gives it; -1: graph input, constant, float operator */
    bool output;  /* behind its producer: everybody reads it. Else only the groups that asked for it */
    int object;
    bool removed; /* behind a dropout: its readers read the dropout's output */
} rq_lq_place;

/* Input i of group `group`, at input `in` of node `node`, is read through place `place`. */
typedef struct rq_lq_use {
    int place, group;
    rq_id node;
    int in;
} rq_lq_use;

typedef struct rq_lq_plan {
    rq_arena arena; /* of names */
    rq_lq_group *groups;
    int n_groups, cap_groups;
    int *group_of;  /* [n_nodes] group that a node is in, or -1 */
    bool *positive; /* [n_nodes] a layer ends here that is computed in float and gives nothing below zero */
    bool *decides;  /* [rq_linear_quantizer_config_rules] rules that a layer answered to */
    int n_nodes;
    rq_id *order; /* [n_order] nodes as they run */
    int n_order;
    rq_lq_object *objects;
    int n_objects, cap_objects;
    rq_lq_place *places; /* in the order they were made: of activations, then of weights */
    int n_places, cap_places;
    rq_lq_use *uses; /* of places that are not `output`, and of operands that a group reads */
    int n_uses, cap_uses;
} rq_lq_plan;

/* The scale of this fake-quantizer was given: no milestone switches its observer on. */
void rq_lq_hold(rq_linear_quantizer *q, int slot);

rq_status rq_lq_no_memory(rq_err *err);
/* Groups of g, which is bound and inferred. */
rq_status rq_lq_find_groups(rq_lq_plan *p, rq_graph *g, const rq_linear_quantizer_config *c, rq_err *err);
/* norm[n_nodes]: nodes of normalizations that were written out as arithmetic become true (linear_quantizer_norm.c). */
void rq_lq_find_norms(const rq_graph *g, bool *norm);
/* Positions, objects and uses from groups; objects of weights too, and names. */
rq_status rq_lq_find_places(rq_lq_plan *p, const rq_graph *g, const rq_linear_quantizer_config *c, rq_err *err);
/* All of it; g gets bound and inferred. */
rq_status rq_lq_plan_make(rq_lq_plan *p, rq_graph *g, const rq_linear_quantizer_config *c, rq_err *err);
void rq_lq_plan_release(rq_lq_plan *p);
/* Place behind value v that its producer has, or -1; the operand of group `group` at input `in` of `node`, or -1. */
int rq_lq_place_behind(const rq_lq_plan *p, rq_id v);
int rq_lq_place_read(const rq_lq_plan *p, rq_id node, int in);
/* A new object; -1: memory is out. */
int rq_lq_add_object(rq_lq_plan *p, rq_lq_object o);

/* linear_quantizer_compat.c: which objects become affine, and fixed ranges behind products, as the original decides it. */
rq_status rq_lq_sign_as_original(rq_lq_plan *p, const rq_graph *g, bool symmetric, rq_err *err);
/* linear_quantizer_sign.c: as docs/numerics.md has it. */
rq_status rq_lq_sign(rq_lq_plan *p, const rq_graph *g, bool symmetric, rq_err *err);

/* linear_quantizer_rewrite.c: g, a copy of the graph that the plan is of, gets the nodes. */
rq_status rq_lq_rewrite(rq_graph *g, const rq_lq_plan *p, rq_err *err);
/* What object o is made from. */
rq_fake_quantizer_cfg rq_lq_fake_cfg(const rq_lq_plan *p, const rq_lq_object *o, bool compat);

/* linear_quantizer_finalize.c: the tensor that value v of the prepared graph is, computed from constants; yours. RQ_UNSUPPORTED: it is none. */
struct rq_kernels;
rq_status rq_lq_value_of(const rq_linear_quantizer *q, rq_id v, const struct rq_kernels *k, rq_tensor *out,
                         rq_err *err);

struct rq_linear_quantizer {
    rq_graph *float_graph; /* as it was given; values and nodes have the same ids in `model` */
    rq_graph *model;       /* prepared; NULL before */
    rq_linear_quantizer_config *config;
    rq_notes notes; /* rules that fit nothing, which the original takes; of prepare: rules that decide nothing */
    rq_lq_plan plan;
    rq_fake_quantizer **fakes; /* [n_fakes] by slot */
    rq_fake_quantizer_cfg *fake_cfgs;
    const char **names;
    bool *held; /* [n_fakes] its scale was given: its observer stays off */
    int n_fakes;
    int64_t steps;
    bool frozen; /* batch norms */
};

#endif
