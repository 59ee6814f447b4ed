/* ops/attend.h — scaled dot-product attention, the one core under every operator that has it:
 *
 *   scores = cap(scale q k^T) + masks;   y = softmax(scores) v
 *
 * for each image of the batch and each head. Operands are read where they lie: an operator says how far apart heads and
 * rows are, so [B,S,H*D] and [B,H,S,D] and packed projections need no transposing. Heads of q may share heads of k and
 * v (heads / kv_heads neighbours each). */
#ifndef RQ_OPS_ATTEND_H
#define RQ_OPS_ATTEND_H

#include "ops/op.h"

/* Where [batch][head][row][column] lies: elements from one to the next; columns are neighbours. */
typedef struct rq_attend_at {
    int64_t batch, head, row;
} rq_attend_at;

/* What is added to scores: f32 numbers, or flags (bool, or whole numbers above 0: keep; else `hide` is added). */
typedef struct rq_attend_mask {
    const rq_tensor *t;
    int64_t batch, head, row, column; /* steps in elements; 0: repeated */
    int64_t first;                    /* element of [0][0][0][0] */
    int64_t columns;                  /* keys beyond are hidden */
    float hide;
} rq_attend_mask;

/* Operands as codes of 8 bits with one pair of parameters each; y as codes too, or f32 where y_q is NULL. */
typedef struct rq_attend_codes {
    const uint8_t *q, *key, *v;
    const rq_qparams *q_q, *key_q, *v_q, *y_q;
    rq_tensor *y;
} rq_attend_codes;

enum { RQ_ATTEND_CODE_KEYS = 32768 }; /* most keys of codes: their sums stay within s32 */

typedef enum rq_attend_tap { /* what `scores` gets */
                             RQ_ATTEND_RAW,
                             RQ_ATTEND_CAPPED,
                             RQ_ATTEND_MASKED,
                             RQ_ATTEND_SHARES, /* after the softmax */
} rq_attend_tap;

typedef struct rq_attend {
    const rq_kernels *k;
    rq_threads *threads;
    int64_t batch, heads, kv_heads, queries, keys, size, v_size;
    const rq_attend_codes *codes; /* NULL: floats, */
    const float *q, *key, *v;     /* which are these */
    float *y;
    rq_attend_at q_at, key_at, v_at, y_at;
    float scale;
    float softcap; /* above 0: scores become softcap tanh(scores / softcap) */
    rq_attend_mask mask[2];
    int n_masks;
    const int64_t *from, *until; /* [batch] or NULL: keys outside from..until-1 get `hide_keys` added */
    float hide_keys;
    /* Query i stands at position offset[b] + i (offset NULL: 0). causal: later keys are hidden; left, right: so are keys
     * further away than that (negative: no limit). These are hidden whatever other masks say. */
    bool causal;
    int64_t left, right;
    const int64_t *offset;
    float hide_far;    /* what is added there; 0 means -inf */
    const float *sink; /* [heads] or NULL: e^sink joins the denominator of each row */
    float *scores;     /* [batch][heads][queries][keys] or NULL: what `tap` says */
    rq_attend_tap tap;
    rq_dtype precision; /* F16, BF16: softmax is of scores rounded to that, and so are its results */
    void *scratch;      /* rq_attend_scratch() bytes, 64-byte aligned */
} rq_attend;

/* One block of queries of one head of image b: rows from..from+n-1 against keys lo..lo+keys-1. */
typedef struct rq_attend_block {
    int64_t b, h, kv, from, n, lo, keys;
} rq_attend_block;

/* ---- int_attend.c: the two products in integers. Sums of codes are exact; the shares in between stand in 16 bits,
 * relative to the largest of their row, as two planes of bytes. ---- */
size_t rq_int_attend_scratch(const rq_attend *a, int64_t rows);
/* s [n][keys] = scale q k^T */
void rq_int_attend_scores(const rq_attend *a, const rq_attend_block *p, float *s, void *scratch);
/* y = (sum of shares e [n][keys], 0..1, times v) / (sum of shares + rest[n]); a row without any share is 0. */
void rq_int_attend_values(const rq_attend *a, const rq_attend_block *p, const float *e, const float *rest,
                          void *scratch);

/* ---- attend.c ---- */

/* Bytes for the scores of a few rows, once per thread that works on them. Only the sizes of a are read; in
 * floats, room for more keys serves fewer. */
size_t rq_attend_scratch(const rq_attend *a, rq_threads *t);
/* A row with every key hidden by -inf is 0. Results do not depend on the number of threads. RQ_INTERNAL: the float
 * product failed. */
rq_status rq_attend_run(const rq_attend *a);

/* ---- attend_grad.c: backward, from q, key and v as forward saw them. Scores are made again, so nothing is kept between. ---- */
typedef struct rq_attend_grad {
    rq_attend *a;          /* as for rq_attend_run; y and scores are not looked at, y_at says where dy lies */
    const float *dy;       /* where y would be */
    float *dq, *dkey, *dv; /* written over, where q, key and v lie; NULL: not wanted */
    rq_tensor *dmask;      /* what broadcasts to [batch][heads][queries][keys], or NULL: of a mask of numbers */
    float *dsink;          /* [heads] or NULL: of the sinks */
    void *scratch;         /* rq_attend_grad_scratch() bytes, beside what a->scratch needs */
} rq_attend_grad;
size_t rq_attend_grad_scratch(const rq_attend *a);
/* RQ_INTERNAL: a float product failed. The same bits with any number of threads. */
rq_status rq_attend_grad_run(const rq_op_args *args, const rq_attend_grad *g);

/* Keys, or values, so far: dst [batch][heads][total][columns] gets the first `past` rows of old [..][old_rows][columns]
 * (NULL when past is 0), then `rows` rows of x, then zeros. */
typedef struct rq_attend_cache {
    float *dst;
    const float *old, *x;
    rq_attend_at x_at;
    int64_t batch, heads, old_rows, past, rows, total, columns;
} rq_attend_cache;
void rq_attend_append(rq_threads *t, const rq_attend_cache *c);

/* The mask that t is when broadcast to [batch][heads][queries][keys] (rank at most 4, sizes checked by infer: 1 or
 * equal). `cut`: a last axis shorter than keys hides the rest, even when it is 1. */
rq_attend_mask rq_attend_mask_of(const rq_tensor *t, int64_t keys, bool cut, float hide);

#endif
