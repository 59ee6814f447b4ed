/* algo/lint_priv.h — what stands around each operator of a file, and the rules of each runtime about it. */
#ifndef RQ_ALGO_LINT_PRIV_H
#define RQ_ALGO_LINT_PRIV_H

#include "graph/graph.h"
#include "ops/op.h"
#include "requant/profile.h"

/* The codes on the other side of a QuantizeLinear or DequantizeLinear. */
typedef struct rq_lint_codes {
    rq_id node; /* the Q or DQ; RQ_NONE: there is none */
    rq_dtype dtype;
    bool constant; /* scales and zero points are constants */
    bool weight;   /* the codes are a constant */
    int axis;      /* RQ_PER_TENSOR, or what the scales lie along */
    int64_t block;
    float scale; /* the first */
    int32_t zero_point;
    bool symmetric; /* every zero point is 0 */
    bool positive;  /* every scale is positive and finite */
} rq_lint_codes;

typedef struct rq_lint_view {
    const rq_graph *g;
    rq_profile profile;
    rq_lint_codes *from; /* [n_values] what a value was dequantized from */
    rq_id *reader;       /* [n_values] the one node that reads it; RQ_NONE: none, several, or an output of the model */
    int32_t *uses;       /* [n_values] */
} rq_lint_view;

typedef struct rq_lint_answer {
    rq_lint_runs runs;
    const char *rule;
    char why[240];
} rq_lint_answer;

/* Always false, so that a rule can end in it. */
bool rq_lint_say(rq_lint_answer *a, rq_lint_runs runs, const char *rule, const char *fmt, ...) RQ_PRINTF(4, 5);

/* The codes that a QuantizeLinear, the only reader of v, makes of it; node RQ_NONE: there is no such. */
rq_lint_codes rq_lint_to(const rq_lint_view *view, rq_id v);
/* Why v is not what a DequantizeLinear made, said about node's input i. */
bool rq_lint_say_no_dq(const rq_lint_view *view, rq_id node, int i, const char *rule, rq_lint_answer *a);
/* The same for an output that is not read by one QuantizeLinear alone. */
bool rq_lint_say_no_q(const rq_lint_view *view, rq_id v, const char *rule, rq_lint_answer *a);
bool rq_lint_same(const rq_lint_codes *a, const rq_lint_codes *b);
bool rq_lint_is_moving(const rq_node *n);

/* Rules: each decides about one operator on reals; *a is RQ_LINT_INTEGER before. */
typedef void (*rq_lint_fn)(const rq_lint_view *view, rq_id node, rq_lint_answer *a);
void rq_lint_ort(const rq_lint_view *view, rq_id node, rq_lint_answer *a); /* lint_ort.c */
/* lint_other.c */
void rq_lint_tensorrt(const rq_lint_view *view, rq_id node, rq_lint_answer *a);
void rq_lint_openvino(const rq_lint_view *view, rq_id node, rq_lint_answer *a);
/* Will OpenVINO read the node, of any kind, at all? */
bool rq_lint_openvino_takes(const rq_lint_view *view, rq_id node, rq_lint_answer *a);
void rq_lint_qnn(const rq_lint_view *view, rq_id node, rq_lint_answer *a);

#endif
