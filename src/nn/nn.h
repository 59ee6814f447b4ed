/* nn/nn.h — a network under construction, for the files that have its layers: a module is looked up or made, its parameters are
 * made once, nodes are opened, given attributes, and closed, which infers their shapes. The first mistake stays; after it all of
 * this does nothing. */
#ifndef RQ_NN_NN_H
#define RQ_NN_NN_H

#include "graph/graph.h"
#include "requant/nn.h"

enum { RQ_NN_KEY = 24, RQ_NN_PARAMS = 16, RQ_NN_PATH = 512 };

typedef struct rq_nn_module {
    const char *path, *type;
    int64_t key[RQ_NN_KEY]; /* what it was made with: another use must say the same */
    int n_key;
    rq_id param[RQ_NN_PARAMS]; /* RQ_NONE: not made yet */
} rq_nn_module;

typedef struct rq_nn_scope {
    const char *path;
    int next; /* number of the next module without a name */
} rq_nn_scope;

struct rq_nn {
    rq_graph *g;
    uint64_t seed;
    rq_err err; /* the first; code RQ_OK: none */
    rq_arena text;
    rq_nn_module **modules;
    int n_modules, cap_modules;
    rq_nn_scope *scopes; /* [0]: the root */
    int n_scopes, cap_scopes;
};

/* How a parameter starts: rq_nn_initialize's numbers. */
typedef struct rq_nn_start {
    rq_nn_init init;
    double a, b;
} rq_nn_start;

/* Note a mistake, unless there was one; always RQ_NN_FAILED. n NULL is fine. */
rq_nn_value rq_nn_fail(rq_nn *n, rq_status code, const char *fmt, ...) RQ_PRINTF(3, 4);
/* The same of a module: "module 'fc' (Linear): " first. */
rq_nn_value rq_nn_bad(rq_nn *n, const rq_nn_module *m, rq_status code, const char *fmt, ...) RQ_PRINTF(4, 5);
static inline bool rq_nn_ok(const rq_nn *n)
{
    return n && n->err.code == RQ_OK;
}

/* The module of this name (NULL: the next number) in the scope that is open, made of `type` and key[n_key] if it is new. NULL: a mistake, now
 * or before, or one of x[n_x] is none. */
rq_nn_module *rq_nn_use(rq_nn *n, const char *name, const char *type, const int64_t *key, int n_key,
                        const rq_nn_value *x, int n_x);
/* Its parameter `slot`, made as "<path>.<name>" if it is new; RQ_NONE after a mistake. */
rq_id rq_nn_param(rq_nn *n, rq_nn_module *m, int slot, const char *name, int rank, const int64_t *dim,
                  rq_nn_start start);
/* One that is not trained: running statistics, and what stands for an affine part that is none. */
rq_id rq_nn_fixed(rq_nn *n, rq_nn_module *m, int slot, const char *name, int rank, const int64_t *dim, double value);
/* A constant that is part of how an operator is spelled, "/<path>/<name>". */
rq_id rq_nn_floats(rq_nn *n, const char *path, const char *name, int rank, const float *v, int64_t count);
rq_id rq_nn_ints(rq_nn *n, const char *path, const char *name, const int64_t *v, int64_t count);

/* Add a node "/<path>/<last>" (last NULL: the operator), with n_out outputs; RQ_NONE after a mistake. */
rq_id rq_nn_open(rq_nn *n, const char *path, const char *last, const char *op, const rq_id *in, int n_in, int n_out);
void rq_nn_set_int(rq_nn *n, rq_id node, const char *name, int64_t v);
void rq_nn_set_float(rq_nn *n, rq_id node, const char *name, double v);
void rq_nn_set_ints(rq_nn *n, rq_id node, const char *name, const int64_t *v, int count);
void rq_nn_set_string(rq_nn *n, rq_id node, const char *name, const char *v);
/* Shapes of its outputs; output 0. */
rq_nn_value rq_nn_close(rq_nn *n, rq_id node);
/* A node without attributes, whole. */
rq_nn_value rq_nn_apply(rq_nn *n, const char *path, const char *last, const char *op, const rq_id *in, int n_in);
/* Path of the scope that is open: where functions are called. */
const char *rq_nn_here(const rq_nn *n);

/* Size of an axis that parameters depend on; 0 and a mistake: it is not known, or x has no such axis. */
int64_t rq_nn_size(rq_nn *n, const rq_nn_module *m, rq_nn_value x, int axis);

/* x @ weight^T + bias, weight [out, in]: a Gemm, or what stands for one where x is not of rank 2. bias RQ_NONE: none.
 * nn/layers.c */
rq_nn_value rq_nn_product(rq_nn *n, const char *path, rq_nn_value x, rq_id weight, rq_id bias);

/* ---- nn/init.c ---- */

/* Fill t (f32) from the seed and the name. fan_in 0: of t's own shape. RQ_BAD_SHAPE, RQ_NO_MEMORY. */
rq_status rq_nn_fill(rq_tensor *t, rq_nn_start start, uint64_t seed, const char *name);
/* Elements of the weight that go into one output: dim[1] times the window. */
double rq_nn_fan_in(const rq_shape *weight);

#endif
