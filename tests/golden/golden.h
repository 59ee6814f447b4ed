/* golden.h — comparing with numbers that other systems made: what the files of the runner share.
 *
 * A folder holds topics (cases.json with its data); a case has a kind, which follows from its fields. Each
 * case runs in a process of its own, so that a crash or a hang is one failure and hides nothing. */
#ifndef RQ_GOLDEN_H
#define RQ_GOLDEN_H

#include <jansson.h>
#include <stdbool.h>

#include "requant/requant.h"

typedef enum golden_verdict { GOLDEN_PASS, GOLDEN_FAIL, GOLDEN_SKIP } golden_verdict;

typedef struct golden_case {
    const char *topic; /* path from the folder given, as printed */
    const char *dir;   /* folder of its cases.json */
    const char *id;
    const json_t *json;
    int out; /* lines for the user go here */
    bool failed;
} golden_case;

/* Print a line, and for fail: note that the case failed. golden_fail prints "FAIL topic/id <text>". */
void golden_fail(golden_case *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
golden_verdict golden_skip(golden_case *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Run the case in a process of its own (guard.c). A crash, a hang or an early end is a failure that says so. */
golden_verdict golden_guarded(golden_case *c, golden_verdict (*run)(golden_case *c));

/* A string member, or NULL. */
const char *golden_str(const json_t *o, const char *key);
/* <dir>/<name>; the buffer is the caller's. */
const char *golden_path(char *buf, size_t n, const golden_case *c, const char *name);
/* Array `key` of the topic's data.npz. */
bool golden_array(golden_case *c, rq_tensor *out, const char *key);

/* ---- compare.c ---- */

/* Every tolerance key known? Fails the case and returns false when not. */
bool golden_tolerance_known(golden_case *c, const json_t *tolerance);
/* Compare a computed tensor with an expected one under `tolerance`; prints the first metric that does not hold. */
void golden_compare(golden_case *c, const char *output, const rq_tensor *got, const rq_tensor *want,
                    const json_t *tolerance);
/* `t`, stored by numpy for an element type it lacks, as type d (packed integers from bytes; bfloat16, float8 from raw
 * bits). *t is replaced. */
bool golden_retype(rq_tensor *t, rq_dtype d);

/* ---- kinds ---- */
golden_verdict golden_run_model(golden_case *c);  /* model, inputs, outputs */
golden_verdict golden_run_bad(golden_case *c);    /* expect */
golden_verdict golden_run_static(golden_case *c); /* source, quantized, qparams */
golden_verdict golden_run_arrays(golden_case *c); /* arrays */

/* A loaded model ready to run on the case's inputs. */
typedef struct golden_feeds {
    rq_feed *feed;
    int n;
} golden_feeds;
bool golden_feeds_load(golden_case *c, golden_feeds *f, const rq_graph *g, const json_t *inputs);
void golden_feeds_release(golden_feeds *f);
/* Run g on feeds and compare its outputs with the arrays `outputs` names. suffix is put behind output names. in_float
 * (or NULL) takes the place of outputs where no operator ran in integers: what the peer computes without fusing. */
void golden_check_run(golden_case *c, const rq_graph *g, const rq_session_cfg *cfg, const golden_feeds *f,
                      const json_t *outputs, const json_t *in_float, const json_t *tolerance, const char *suffix);

/* ---- static_params.c ---- */

/* Quantize the case's source with our quantizer and compare scales, zero points and weight codes with <id>.json; a
 * skip, with its reason, where ours has no such form. */
golden_verdict golden_check_params(golden_case *c);

/* ---- static_weights.c ---- */

/* The same for what the peer makes without calibration: quantize_dynamic and MatMulNBitsQuantizer. */
golden_verdict golden_check_weights(golden_case *c);

/* ---- scan.c ---- */

/* Operators in a model file by domain and name, without the reader under test: calls fn for each node; false when
 * the bytes are no model. Stops when fn returns false. */
typedef bool (*golden_op_fn)(void *arg, const char *domain, const char *op);
bool golden_scan_ops(const char *path, golden_op_fn fn, void *arg);

/* ---- skips.c ---- */

/* Why this case is skipped, or NULL. */
const char *golden_skip_reason(const golden_case *c);

#endif
