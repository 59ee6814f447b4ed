/* algo/qconfig_text.h — what the reader and the writer of qconfig mappings share: the YAML document with the place in it, for sentences, and the
 * arguments of constructors. */
#ifndef RQ_ALGO_QCONFIG_TEXT_H
#define RQ_ALGO_QCONFIG_TEXT_H

#include <string.h>
#include <yaml.h>

#include "base/nearest.h"
#include "requant/own.h"
#include "requant/qconfig_mapping.h"

/* An argument of a constructor that is a number: its place in rq_observer_cfg or rq_fake_quantizer_cfg, and the interval it may be from. */
typedef enum rq_field_type {
    RQ_FIELD_BOOL,
    RQ_FIELD_INT,
    RQ_FIELD_FLOAT,
    RQ_FIELD_DOUBLE,
    RQ_FIELD_RULE
} rq_field_type;
typedef struct rq_qconfig_field {
    const char *name; /* NULL: the end */
    rq_field_type type;
    bool of_fake_quantizer;
    size_t at;
    double lo, hi;
} rq_qconfig_field;
extern const rq_qconfig_field rq_qconfig_fields[];

/* RULE: what learns scales, rq_learned_rule; ends in NULL. */
extern const char *const rq_qconfig_rules[];

/* ---- reading ---- */

/* Entries of one level, keys of one map: each is compared with those before it. */
enum { RQ_QCONFIG_MOST_KEYS = 10000 };

typedef struct rq_qconfig_reader {
    yaml_document_t doc;
    const char *source;
    const rq_own *own;
    rq_qconfig_mapping *m;
    rq_err *err;
} rq_qconfig_reader;

/* Where in the document: the keys down to here. */
typedef struct rq_qconfig_place {
    const struct rq_qconfig_place *above;
    const char *key;
} rq_qconfig_place;

static inline yaml_node_t *node(rq_qconfig_reader *in, int index)
{
    return yaml_document_get_node(&in->doc, index);
}

/* The text of a scalar, else NULL. */
static inline const char *text_of(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}

static inline bool is_map(const yaml_node_t *n)
{
    return n->type == YAML_MAPPING_NODE;
}

/* in->doc from YAML (JSON is a part of it), to be deleted; source and err are set, `what` ends the sentence "too many for". An empty text has no
 * root. */
rq_status rq_qconfig_open(rq_qconfig_reader *in, const char *text, size_t n, const char *what);

/* "source:line: path: sentence". RQ_BAD_RECIPE. */
rq_status rq_qconfig_fail(const rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at,
                          const char *sentence);
/* Line and path before the sentence that is there. RQ_BAD_RECIPE, or RQ_NO_MEMORY where s is. */
rq_status rq_qconfig_fail_in(const rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at,
                             rq_status s);
/* "what 'word'; the nearest is ...". */
rq_status rq_qconfig_unknown(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at, const char *word,
                             const char *what, const rq_nearest *near);

bool rq_qconfig_is_null(const yaml_node_t *n);
rq_status rq_qconfig_read_text(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at,
                               const char **out);
rq_status rq_qconfig_read_bool(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at, bool *out);
rq_status rq_qconfig_read_number(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at, double lo,
                                 double hi, bool whole, double *out);
/* Decimal digits with a sign, underscores between them as YAML 1.1 has it; "0x10" and "010" mean other numbers to other readers. */
bool rq_qconfig_is_integer(const char *text, int64_t *out);
/* Keys of a map are single values, each there once. */
rq_status rq_qconfig_check_keys(rq_qconfig_reader *in, const yaml_node_t *map, const rq_qconfig_place *at);

/* qconfig_part.c: *out is q, or NULL for null. */
rq_status rq_qconfig_read(rq_qconfig_reader *in, const yaml_node_t *n, const rq_qconfig_place *at, rq_qconfig *q,
                          const rq_qconfig **out);

#endif
