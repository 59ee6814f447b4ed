/* algo/linear_quantizer_config.h — the config of LinearQuantizer inside: rules in the order they were set. What prepare asks it is in
 * algo/linear_quantizer.h. */
#ifndef RQ_ALGO_LINEAR_QUANTIZER_CONFIG_H
#define RQ_ALGO_LINEAR_QUANTIZER_CONFIG_H

#include <regex.h>

#include "requant/linear_quantizer.h"

/* One of module_type_configs or module_name_configs. */
typedef struct rq_lq_rule {
    char *key;
    bool skip; /* null: not quantized */
    rq_module_linear_quantizer_config m;
    bool fits_nothing; /* compat: it was told when the config met the graph */
    bool is_pattern;   /* of a name: `whole` is the key as a regular expression */
    regex_t whole;
} rq_lq_rule;

typedef struct rq_lq_rules {
    rq_lq_rule *at;
    int n, cap;
} rq_lq_rules;

typedef struct rq_lq_strings {
    char **at;
    int n, cap;
} rq_lq_strings;

struct rq_linear_quantizer_config {
    bool has_global;
    rq_module_linear_quantizer_config global;
    rq_lq_rules types, names;
    rq_lq_strings non_traceable, preserved;
    bool compat, skip_by_default;
    rq_module_linear_quantizer_config
        usual; /* what decides where no rule does: the defaults, scheme and algorithm of the others */
};

/* Do the rules agree with each other? What the public header says of set_global. */
rq_status rq_linear_quantizer_config_check(const rq_linear_quantizer_config *c, rq_err *err);

/* ---- linear_quantizer_config_match.c ---- */

/* Does any module or function go by this spelling ("Conv2d", "torch.nn.Conv2d", "Conv", "operator.add")? */
bool rq_lq_type_is_known(const char *type);
/* RQ_BAD_ARG; the sentence has the nearest. */
rq_status rq_lq_type_unknown(const char *type, rq_err *err);
/* The key as a pattern, where it is one. RQ_NO_MEMORY. */
rq_status rq_lq_rule_compile(rq_lq_rule *r);

#endif
