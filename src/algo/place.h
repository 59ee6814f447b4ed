/* algo/place.h — which values become codes, which of them share parameters, and what each weight and bias is.
 * Profile ort-cpu: docs/onnx-facts.md 4.6, 5.1, 5.3. docs/numerics.md, "Placement", has the rules in prose.
 *
 * Placing looks at a folded float graph and changes nothing; ptq.c calibrates the groups it names and then applies it. */
#ifndef RQ_ALGO_PLACE_H
#define RQ_ALGO_PLACE_H

#include "graph/graph.h"
#include "ops/op.h"
#include "requant/ptq.h"

/* Values that share one scale and zero point. */
typedef struct rq_place_group {
    rq_id value; /* gives the group its name and settings: the one made first */
    rq_settings s;
    bool unit;     /* a probability: the range is [0, 1], or (no compat) what was seen, rounded up */
    rq_id like;    /* the range is what was seen of this value, or RQ_NONE */
    rq_id clamp;   /* swallowed into this group's range: node that goes if the range allows, or RQ_NONE */
    bool constant; /* `value` is a constant operand: the range is its own */
} rq_place_group;

/* A constant weight; consumers that quantize it alike share it. */
typedef struct rq_place_weight {
    rq_id value;
    rq_dtype dtype;
    bool symmetric;
    int axis;      /* output channels, or RQ_PER_TENSOR */
    rq_settings s; /* the rest */
} rq_place_weight;

/* One use of a weight. */
typedef struct rq_place_use {
    rq_id node;
    int weight; /* index of rq_placement.weights, or -1: input 1 is a group's */
    int in;     /* which input of the node the weight is */
    rq_id bias; /* constant to become s32 with the scale of inputs 0 and 1, or RQ_NONE */
    bool
        float_bias; /* it stays in float, and only the scale of the weight is as if it did not: compat, and the bias that is
                        an Add behind a MatMul */
} rq_place_use;

typedef struct rq_placement {
    rq_arena arena;
    int n_values, n_nodes;
    int32_t *group;      /* [n_values] index of groups, or -1: stays in float */
    bool *integer;       /* [n_nodes] takes part with codes */
    const char **reason; /* [n_nodes] why an operator that could does not; NULL otherwise */
    rq_place_group *groups;
    int n_groups, cap_groups;
    rq_place_weight *weights;
    int n_weights, cap_weights;
    rq_place_use *uses;
    int n_uses, cap_uses;
    rq_id *joins; /* Concat nodes in order, whose outputs have groups */
    int n_joins, cap_joins;
} rq_placement;

/* What the caller forbids: a reason per node (NULL: none) and per value; which operator types and nodes are chosen and left out (lists that
 * end in NULL). Any pointer may be NULL. */
typedef struct rq_place_ban {
    const char *const *node;
    const char *const *value;
    const char *const *ops, *const *nodes, *const *except;
} rq_place_ban;

/* g must be bound and inferred. RQ_NO_MEMORY. */
rq_status rq_placement_create(rq_placement **out, const rq_graph *g, const rq_settings *base, const rq_recipe *recipe,
                              const rq_place_ban *ban, rq_err *err);
void rq_placement_destroy(rq_placement *p);

/* place_ort.c: fill p (arrays allocated, nothing in them) as ONNX Runtime's quantizer would. */
rq_status rq_place_as_ort(rq_placement *p, const rq_graph *g, const rq_settings *base, const rq_recipe *recipe,
                          const rq_place_ban *ban, rq_err *err);
/* place_runtime.c: the same for settings.places other than RQ_PLACES_REACH. */
rq_status rq_place_for_runtime(rq_placement *p, const rq_graph *g, const rq_settings *base, const rq_recipe *recipe,
                               const rq_place_ban *ban, rq_err *err);
/* Why the lists leave this node in float, or NULL. */
const char *rq_place_left_out(const rq_place_ban *ban, const rq_node *n);
/* Is `word` in a list that ends in NULL? */
bool rq_place_in_list(const char *const *list, const char *word);
/* Is `entry` this name, or a pattern with * and ? that fits it? */
bool rq_place_name_fits(const char *entry, const char *name);

/* Bounds of a Relu or Clip whose bounds are known; false when they are not. */
bool rq_place_clamp_bounds(const rq_graph *g, const rq_node *n, double *lo, double *hi);

#endif
