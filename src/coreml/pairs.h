/* coreml/pairs.h — what quantizing activations did, for its report. */
#ifndef RQ_COREML_PAIRS_H
#define RQ_COREML_PAIRS_H

#include "base/buf.h"
#include "base/mem.h"

/* A pair that was put in for an operation, or why not. */
typedef struct rq_coreml_pair {
    const char *op, *type, *tensor; /* the operation, its type; the value that becomes codes */
    const char *why;                /* it stays float; NULL: it does not */
    const char *dtype;              /* "int8" */
    float lo, hi, scale;
    int zero_point;
} rq_coreml_pair;

typedef struct rq_coreml_pairs {
    rq_coreml_pair *at;
    int n, cap;
    rq_arena a;
} rq_coreml_pairs;
void rq_coreml_pairs_release(rq_coreml_pairs *p);
/* How many values became codes, how many operations stay float because of a value. */
int rq_coreml_pairs_made(const rq_coreml_pairs *p);
/* A line each; with `all` those that stay float, too. And a list of objects. */
void rq_coreml_pairs_text(const rq_coreml_pairs *p, bool all, rq_buf *b);
void rq_coreml_pairs_json(const rq_coreml_pairs *p, rq_buf *b);

#endif
