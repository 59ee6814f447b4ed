/* quant/qconfig_mapping.h — the inside of a mapping, for the files that check it and write it. */
#ifndef RQ_QUANT_QCONFIG_MAPPING_H
#define RQ_QUANT_QCONFIG_MAPPING_H

#include "base/mem.h"
#include "quant/qconfig.h"
#include "quant/qconfig_regex.h"
#include "requant/qconfig_mapping.h"

typedef struct rq_qconfig_rule {
    rq_qconfig_level level;
    const char *name, *type; /* NULL where the level has none */
    int index;
    const rq_qconfig *qconfig; /* NULL: do not quantize */
    bool optional;
    regex_t whole, beginning; /* of a pattern */
} rq_qconfig_rule;

struct rq_qconfig_mapping {
    rq_arena text; /* names and qconfigs */
    rq_qconfig_rule *entry;
    int n, cap;
    bool compat;
    const char *base; /* the preset whose default mapping it started as; NULL: none. Not ours */
};

/* Set the entry that has the level, name, type and index of `key`. Errors as rq_qconfig_mapping_set_global. */
rq_status rq_qconfig_mapping_set(rq_qconfig_mapping *m, const rq_qconfig_rule *key, const rq_qconfig *q, rq_err *err);
/* Does a pattern or a module name match the module of this name, or one above it? */
bool rq_qconfig_rule_fits(const rq_qconfig_mapping *m, const rq_qconfig_rule *r, const char *name);
bool rq_qconfig_rule_is_order_of(const rq_qconfig_rule *r, const rq_qconfig_site *site);

#endif
