/* coreml/config.h — OptimizationConfig of coremltools.optimize inside: which settings an operator of a program gets. A name counts before a type,
 * a type before the global one; NULL settings say "not compressed". */
#ifndef RQ_COREML_CONFIG_H
#define RQ_COREML_CONFIG_H

#include "requant/coreml_optimize.h"

typedef struct rq_coreml_rule {
    char *key;
    bool skip; /* null: not compressed */
    rq_coreml_op_config op;
} rq_coreml_rule;

typedef struct rq_coreml_rules {
    rq_coreml_rule *at; /* in the order they were set */
    int n, cap;
} rq_coreml_rules;

struct rq_coreml_config {
    bool has_global;
    rq_coreml_op_config global;
    rq_coreml_rules types, names;
};

/* The rule with this key; NULL: there is none. */
const rq_coreml_rule *rq_coreml_rules_find(const rq_coreml_rules *r, const char *key);
/* The rule of an operator that is no constant: of this name, or the last pattern (* and ?) that fits it; NULL: there is none. */
const rq_coreml_rule *rq_coreml_config_name(const rq_coreml_config *c, const char *name);
bool rq_coreml_name_fits(const char *key, const char *name);
/* What an operator that is no constant gets; NULL: nothing. */
const rq_coreml_op_config *rq_coreml_config_of(const rq_coreml_config *c, const char *name, const char *type);
/* Are all fields that a config of this class has the same? NULL is the same as NULL only. */
bool rq_coreml_op_config_equal(const rq_coreml_op_config *a, const rq_coreml_op_config *b);
/* The fields are in their ranges. RQ_BAD_ARG. */
rq_status rq_coreml_op_config_check(const rq_coreml_op_config *op, rq_err *err);
/* All rules are of the classes in `classes` (bit 1 << rq_coreml_algorithm); `what`: "linear_quantize_weights". RQ_BAD_ARG. */
rq_status rq_coreml_config_accept(const rq_coreml_config *c, unsigned classes, const char *what, rq_err *err);
/* "OpLinearQuantizerConfig" */
const char *rq_coreml_algorithm_class(rq_coreml_algorithm a);
/* "int4", "uint8" */
const char *rq_coreml_op_config_dtype(const rq_coreml_op_config *op);
/* "mode=linear, dtype=int8, granularity=per_channel, weight_threshold=2048"; returns buf. */
const char *rq_coreml_op_config_text(const rq_coreml_op_config *op, char *buf, size_t n);
/* Words of enumerations, ended by NULL. */
extern const char *const rq_coreml_granularities[], *const rq_coreml_palettes[], *const rq_coreml_classes[];

#endif
