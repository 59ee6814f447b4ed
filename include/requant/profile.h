/* requant/profile.h — the runtimes a file can be made for: what each wants (settings, spelling), and which operators of a
 * given file it will run in integers. Sources: docs/onnx-facts.md 5.1 to 5.5. */
#ifndef REQUANT_PROFILE_H
#define REQUANT_PROFILE_H

#include <requant/ptq.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rq_profile {
    RQ_PROFILE_ORT_CPU_X64, /* ONNX Runtime's CPU provider */
    RQ_PROFILE_ORT_CPU_ARM64,
    RQ_PROFILE_TENSORRT,
    RQ_PROFILE_OPENVINO,
    RQ_PROFILE_QNN,
    RQ_N_PROFILES
} rq_profile;

/* "ort-cpu-x64" ... */
RQ_API const char *rq_profile_name(rq_profile p);
/* The profile of that name; false: there is none. */
RQ_API bool rq_profile_find(const char *name, rq_profile *out);

/* The settings that fit the runtime; change what rq_profile_check lets you. */
RQ_API rq_settings rq_profile_settings(rq_profile p);
/* Do settings and spelling fit the runtime? RQ_BAD_ARG: the sentence says which does not, and why. */
RQ_API rq_status rq_profile_check(rq_profile p, const rq_settings *s, const rq_save_cfg *form, rq_err *err);

/* The same for a whole configuration; for the modes dynamic and weight-only what those need of the runtime counts in place of what
 * codes of activations need. Each rule of cfg->recipe that quantizes is checked too; the sentence gives its line. */
RQ_API rq_status rq_profile_check_cfg(rq_profile p, const rq_ptq_cfg *cfg, const rq_save_cfg *form, rq_err *err);

/* Where an operator of a file will run. */
typedef enum rq_lint_runs {
    RQ_LINT_INTEGER,
    RQ_LINT_FLOAT,
    RQ_LINT_GONE,    /* the runtime drops it: a Relu whose work saturation does */
    RQ_LINT_REFUSED, /* the runtime will not load a model that has it */
} rq_lint_runs;

typedef struct rq_lint_node {
    char *name, *op;
    rq_lint_runs runs;
    const char *rule; /* section and rule of docs/onnx-facts.md, "5.1 rule 3"; NULL: runs in integers */
    char *why;        /* half a sentence; NULL: runs in integers */
} rq_lint_node;

typedef struct rq_lint {
    rq_profile profile;
    rq_lint_node *nodes; /* operators on real numbers, in the order of the file; shapes and indices are left out */
    int n, cap;
    int n_integer, n_float, n_gone, n_refused;
} rq_lint;

/* What the runtime will do with g, which is as it was read from a file. *out is yours: rq_lint_release; on error it is
 * empty. RQ_NO_MEMORY. */
RQ_API rq_status rq_lint_graph(rq_lint *out, const rq_graph *g, rq_profile p, rq_err *err);
RQ_API void rq_lint_release(rq_lint *l);
/* The operators that do not run in integers, alike ones together, and how many do. */
RQ_API void rq_lint_print(const rq_lint *l, FILE *to);
/* An object with profile, integer, float, gone, refused (counts) and nodes (name, op, runs, rule, why). RQ_IO,
 * RQ_NO_MEMORY. */
RQ_API rq_status rq_lint_save_json(const rq_lint *l, const char *path, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
