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

enum { GOLDEN_MAX_OUTPUTS = 1024 };

typedef struct golden_case {
    const char *topic; /* path from the folder given, as printed */
    const char *dir;   /* folder of its cases.json */
    const char *id;
    const json_t *json;
    const rq_state *arrays; /* of the topic's data.npz; NULL: read one by one */
    int out;                /* lines for the user go here */
    bool failed;
    int moved; /* linear_quantizer: number of the run whose inputs are moved by units in the last place; 0: none is */
    uint64_t
        seen[GOLDEN_MAX_OUTPUTS /
             64]; /* op cases: outputs that were compared, or skipped with a reason; bit i: the i-th of `outputs` */
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

/* ---- case_quant.c: one function or object of a quantizer (op, params, inputs, outputs, tol) ----
 * A file quant_*.c has the functions, the table in case_quant.c a row per op. Every output must be compared or skipped by
 * name, with a reason; what is left over fails the case. */
golden_verdict golden_run_op(golden_case *c);
/* A member of params; the fallback where it is absent or null. */
int64_t golden_param_int(const golden_case *c, const char *key, int64_t fallback);
double golden_param_number(const golden_case *c, const char *key, double fallback);
bool golden_param_bool(const golden_case *c, const char *key, bool fallback);
const char *golden_param_str(const golden_case *c, const char *key); /* NULL: absent or null */
bool golden_param_has(const golden_case *c, const char *key);        /* there and not null */
/* The array that inputs[what], outputs[what] names; yours to release. Fails the case and returns false when it cannot be read. */
bool golden_in(golden_case *c, rq_tensor *out, const char *what);
bool golden_want(golden_case *c, rq_tensor *out, const char *what);
bool golden_has(const golden_case *c, const char *what); /* does the case have this output? */
/* The tolerance of an output: the first member of tol that matches its name (* is a wildcard), then "default", or tol itself. */
const json_t *golden_tol(const golden_case *c, const char *what);
/* Compare a result with outputs[what] under its tolerance: "exact" (bits; any NaN equals any NaN; integers of any type by value), abs / rel (either is
 * enough), mismatch, mass_moved, rms_rel. Shapes agree but for axes of size 1. bins and objective_rel are the caller's. */
void golden_check(golden_case *c, const char *what, const rq_tensor *got);
void golden_check_under(golden_case *c, const char *what, const rq_tensor *got, const json_t *tol);
void golden_check_floats(golden_case *c, const char *what, const float *got, int64_t n);
void golden_check_ints(golden_case *c, const char *what, const int32_t *got, int64_t n);
/* got [rows][fields][...] with a tolerance per field (an object of objects). */
void golden_check_rows(golden_case *c, const char *what, const rq_tensor *got, const char *const *fields, int n);
/* n numbers, each under "rel"; where late[i] is set under "rel_after_fake_quant_on" (if the tolerance has it). */
void golden_check_phases(golden_case *c, const char *what, const double *got, const bool *late, int64_t n);
/* Say that an output, or one field of it, is not compared, and why. golden_mark: it was, by other means. */
void golden_field_skipped(golden_case *c, const char *what, const char *field, const char *reason);
void golden_mark(golden_case *c, const char *what);

/* ---- case_grad.c ---- */
golden_verdict golden_gradient(golden_case *c);

/* ---- quant_fake_quantizer.c ---- */
golden_verdict golden_fake_quantize_module(golden_case *c);
golden_verdict golden_fused_fake_quantize(golden_case *c);
golden_verdict golden_core_ml_learnable(golden_case *c);

/* ---- quant_eager_qat.c ---- */
golden_verdict golden_eager_qat(golden_case *c);

/* ---- quant_linear_quantizer.c ---- */
golden_verdict golden_linear_quantizer(golden_case *c);

/* ---- quant_learned.c ---- */
golden_verdict golden_learnable_per_tensor(golden_case *c);
golden_verdict golden_learnable_per_channel(golden_case *c);

/* ---- quant_histogram_observer.c ---- */
golden_verdict golden_histogram_observer(golden_case *c);

/* ---- quant_fake_quantize.c ---- */
golden_verdict golden_fake_quantize_per_tensor(golden_case *c);
golden_verdict golden_fake_quantize_per_channel(golden_case *c);
golden_verdict golden_fake_tensor_quant(golden_case *c);
golden_verdict golden_scaled_e4m3(golden_case *c);
golden_verdict golden_tensor_quantizer(golden_case *c);
golden_verdict golden_histogram_calibrator(golden_case *c);
golden_verdict golden_mse_calibrator(golden_case *c);

/* ---- quant_observers.c ---- */
golden_verdict golden_min_max_observer(golden_case *c);
golden_verdict golden_moving_average_observer(golden_case *c);
golden_verdict golden_ema_observer(golden_case *c);
golden_verdict golden_fixed_observer(golden_case *c);
golden_verdict golden_choose_qparams(golden_case *c);
/* What the params say of an observer of this kind, with compat; false: the case failed. */
bool golden_observer_cfg(golden_case *c, rq_observer_kind kind, rq_observer_cfg *out);
/* Compare scale and zero_point. */
void golden_check_qparams(golden_case *c, const rq_observer *o);

/* ---- levels.c ---- */

/* The case's model at every level of RQ_CPU of this machine: prints its row, fails only when it does not run. What has no model passes. */
golden_verdict golden_run_levels(golden_case *c);

/* ---- kinds ---- */
golden_verdict golden_run_model(golden_case *c);  /* model, inputs, outputs */
golden_verdict golden_run_bad(golden_case *c);    /* expect */
golden_verdict golden_run_static(golden_case *c); /* source, quantized, qparams */
golden_verdict golden_run_arrays(golden_case *c); /* arrays */
golden_verdict golden_run_coreml(golden_case *c); /* package, op_types */

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

#endif
