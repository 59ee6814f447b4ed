/* requant/own.h — operators, observers, calibrators and fake-quantizers of your own, beside the library's.
 *
 * They live in a set that you make, fill and attach to a graph; copies of the graph and sessions made from it hold the set
 * too, so it may be let go of right after attaching. Nothing is global: two graphs may know different operators of one name.
 * Filling a set is for one thread; once attached it is only read, from any thread. */
#ifndef REQUANT_OWN_H
#define REQUANT_OWN_H

#include <requant/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_own rq_own;

/* An empty set, yours until rq_own_unref. RQ_NO_MEMORY. */
RQ_API rq_status rq_own_create(rq_own **out);
/* Let go of *o and null it; the set goes with its last holder. NULL and a pointer to NULL are fine. */
RQ_API void rq_own_unref(rq_own **o);

/* ---- operators ---- */

/* One call of an operator. Tensors live during the call only. */
typedef struct rq_own_call {
    const rq_tensor *const
        *in; /* [n_in] NULL: omitted. In infer: data NULL unless the content is known before running */
    int n_in, n_out;
    const struct rq_own_node *node; /* for rq_own_attr_*, rq_own_fail and rq_own_parallel */
} rq_own_call;

/* An attribute of the node, or `fallback` when it is absent or of another type. Strings and lists live as long as the
 * graph. */
RQ_API int64_t rq_own_attr_int(const rq_own_call *c, const char *name, int64_t fallback);
RQ_API float rq_own_attr_float(const rq_own_call *c, const char *name, float fallback);
RQ_API const char *rq_own_attr_string(const rq_own_call *c, const char *name, const char *fallback);
/* The list and *n; NULL and 0 when absent. */
RQ_API const int64_t *rq_own_attr_ints(const rq_own_call *c, const char *name, int *n);
RQ_API const float *rq_own_attr_floats(const rq_own_call *c, const char *name, int *n);
RQ_API const rq_tensor *rq_own_attr_tensor(const rq_own_call *c, const char *name); /* NULL when absent */

/* Fail with a sentence; "node 'x' (Op): " is put before it. Returns `code`. */
RQ_API rq_status rq_own_fail(const rq_own_call *c, rq_status code, const char *fmt, ...) RQ_PRINTF(3, 4);

/* In forward: call fn(arg, i) once for every i in 0..n-1 on the threads of the session, in any order; returns when all
 * are done. */
RQ_API void rq_own_parallel(const rq_own_call *c, int64_t n, void (*fn)(void *arg, int64_t i), void *arg);

typedef struct rq_own_op {
    const char *domain; /* "com.example"; not "" */
    const char *name;
    int min_in, max_in; /* max_in -1: any number */
    int n_out;
    /* Types and shapes of the outputs from those of the inputs; sizes may be negative (rq_shape), those of the outputs then
     * too. They are exact when all inputs' are. Runs at loading and before running. Required. */
    rq_status (*infer)(void *user, const rq_own_call *c, rq_dtype *out_dtype, rq_shape *out_shape);
    /* Compute out[n_out], allocated with the inferred shapes, never an input. Required. */
    rq_status (*forward)(void *user, const rq_own_call *c, rq_tensor *const *out);
    /* One input, one output, out[i] depends on in[i] alone, f32: where both are quantized the operator then runs in integers,
     * by a table of forward over all codes. */
    bool elementwise;
    void *user; /* handed to both; must outlive the set. Sessions may call at the same time */
} rq_own_op;

/* Add an operator; op is copied, its strings too.
 * RQ_BAD_ARG: a field is missing or out of its range, the domain is the default one, or the name is there already;
 * RQ_NO_MEMORY. err may be NULL. */
RQ_API rq_status rq_own_add_op(rq_own *o, const rq_own_op *op, rq_err *err);

/* ---- observers: how the range of an activation is chosen ---- */

/* What calibration counted of one tensor: equal bins; bin i holds how many elements lay in
 * [first + i * width, first + (i + 1) * width). */
typedef struct rq_own_counts {
    const uint64_t *count; /* [n] */
    int n;                 /* 0: nothing but zeros was seen */
    double first, width;   /* width > 0, or 0 with n 0 */
    double lo, hi;         /* smallest and largest finite element, exactly */
    uint64_t total, bad;   /* finite elements; NaN and infinities, which are not counted */
} rq_own_counts;

/* One of two forms. Either a state per tensor that sees every element (create, update, range, destroy), or `choose` alone, which is
 * given the library's histogram of the tensor. Ranges are of reals; the library makes them include 0, and finds scale and
 * zero point. A range that is not finite or upside down is an error (RQ_NUMERIC) that names observer and tensor. */
typedef struct rq_own_observer {
    const char *name; /* what settings (`observer`) and recipes (`observer: NAME`) call it */
    /* An empty state for one tensor; NULL: out of memory. */
    void *(*create)(void *user);
    /* n elements more, in no order that means anything; NaN and infinities are among them. Calls for one state never overlap. */
    rq_status (*update)(void *state, const float *x, size_t n);
    rq_status (*range)(void *state, double *lo, double *hi);
    void (*destroy)(void *state);
    /* levels: codes there are (256); symmetric: the codes want lo = -hi. */
    rq_status (*choose)(void *user, const rq_own_counts *c, int levels, bool symmetric, double *lo, double *hi);
    void *user; /* handed to create and choose; must outlive the set */
} rq_own_observer;

/* Add an observer; copied, its name too. One named like an observer of the library comes before it. RQ_BAD_ARG: no name, neither or both forms, or the name is there already;
 * RQ_NO_MEMORY. err may be NULL. */
RQ_API rq_status rq_own_add_observer(rq_own *o, const rq_own_observer *observer, rq_err *err);

/* Add a calibrator (requant/calibrator.h), a fake-quantizer (requant/fake_quantizer.h): copied, the name too. Qconfig files name
 * them; a calibrator is named as an observer there (`observer: NAME`), in settings and in recipes, where no observer of the program has that name: it collects
 * tensors in pieces, as rows of numbers, and the range is -amax..amax.
 * RQ_BAD_ARG: no name, a function that is required is missing, or the name is there already; RQ_NO_MEMORY. err may be NULL. */
struct rq_own_calibrator;
struct rq_own_fake_quantizer;
RQ_API rq_status rq_own_add_calibrator(rq_own *o, const struct rq_own_calibrator *calibrator, rq_err *err);
RQ_API rq_status rq_own_add_fake_quantizer(rq_own *o, const struct rq_own_fake_quantizer *fake_quantizer, rq_err *err);

/* What was added under that name; as long as the set lives. RQ_NOT_FOUND: nothing was; the sentence lists what is there. */
RQ_API rq_status rq_own_find_observer(const rq_own *o, const char *name, const rq_own_observer **out, rq_err *err);
RQ_API rq_status rq_own_find_calibrator(const rq_own *o, const char *name, const struct rq_own_calibrator **out,
                                        rq_err *err);
RQ_API rq_status rq_own_find_fake_quantizer(const rq_own *o, const char *name, const struct rq_own_fake_quantizer **out,
                                            rq_err *err);

/* From here on g knows what is in o, and o may not be added to. Its nodes are checked and shapes inferred again; an
 * operator of the library is never replaced. A graph has one set: the one before is let go of.
 * RQ_BAD_GRAPH, RQ_BAD_SHAPE, RQ_BAD_DTYPE, RQ_UNSUPPORTED: a node does not fit the operator, named; then g knows o no
 * more than before. RQ_NO_MEMORY. */
RQ_API rq_status rq_own_attach(rq_graph *g, rq_own *o, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
