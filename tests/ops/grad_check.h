/* tests/ops/grad_check.h — is the backward of a row the derivative of its forward? One harness for all rows.
 *
 *   grad g;
 *   grad_start(&g, "Conv", "", 21, "grouped");
 *   grad_set_int(&g, "group", 2);
 *   grad_random(&g, -1, 1, 4, 2, 4, 5, 5);        input 0: [2,4,5,5], numbers in -1..1
 *   grad_random(&g, -1, 1, 4, 6, 2, 3, 3);
 *   grad_finish(&g, 1);                           1 output: run, compare, release
 *
 * A case is one node. Its forward runs as in training (training set, `saved` there), the gradient of sum(dy * y) for random dy is
 * taken by backward and by differences of forwards, (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12h summed in double, and
 * - all gradients together, each alone, and with each output's dy missing (NULL: zero) must be right;
 * - backward writes over NaN, gets only what the row `saves` (the rest is NaN, then NULL), and must not write to what it reads;
 * - the bits are the same with one thread and two, alone and together, in place where the row says so (RQ_OP_GRAD_IN_PLACE), and,
 *   without oneDNN, on every instruction set;
 * - when an allocation fails it says RQ_NO_MEMORY.
 * Which inputs: floats, as far as row->gradients says. Numbers must lie 2h away from kinks: grad_random keeps them away from those of
 * grad_kink, grad_distinct gives numbers that differ by more than 4h.
 *
 * Cases live in tests/ops/grad_*.c, one function void grad_NAME(void) each, listed in tests/ops/grad_cases.inc; test_grad runs
 * them and then checks that no row with a backward is without a case. */
#ifndef TEST_OPS_GRAD_CHECK_H
#define TEST_OPS_GRAD_CHECK_H

#include "ops/op.h"

enum { GRAD_MAX_IN = 16, GRAD_MAX_OUT = 8, GRAD_MAX_KINKS = 8 };

typedef struct grad {
    const char *label;
    rq_graph *g;
    const rq_op *row;
    const char *op, *domain;
    int64_t opset;
    rq_tensor in[GRAD_MAX_IN]; /* dtype NONE: omitted */
    int n_in;
    rq_id node;
    float kinks[GRAD_MAX_KINKS];
    int n_kinks;
    bool absent[GRAD_MAX_OUT]; /* outputs that are not wanted */
    /* to be changed between grad_start and grad_finish */
    bool eval;       /* evaluation instead of train mode */
    bool onednn;     /* products by oneDNN; false: ours */
    double h;        /* step; 1/64 */
    double tol;      /* |got - want| <= tol * (1 + |want|); 1e-3 */
    int every;       /* only each so many-th element is compared with differences; 1 */
    uint64_t seed;   /* of dy */
    uint64_t random; /* rq_op_training.random */
    struct rq_fake_quantizer *const *fakes;
    int n_fakes;
    struct rq_exec *exec;
} grad;

/* A case of this operator (domain "" is ONNX's); label: what is special about it. */
void grad_start(grad *g, const char *op, const char *domain, int64_t opset, const char *label);
void grad_set_int(grad *g, const char *name, int64_t v);
void grad_set_float(grad *g, const char *name, float v);
void grad_set_string(grad *g, const char *name, const char *v);
void grad_set_strings(grad *g, const char *name, int n, const char *const *v); /* v must outlive the case */
void grad_set_ints(grad *g, const char *name, int n, const int64_t *v);
/* The next inputs keep 3h away from this number. */
void grad_kink(grad *g, float at);

/* The next input. Sizes follow as int. */
rq_tensor *grad_random(grad *g, float lo, float hi, int rank, ...); /* uniform, multiples of 2^-12 */
rq_tensor *grad_distinct(grad *g, int rank, ...);               /* no two closer than 5h, in random order, around 0 */
rq_tensor *grad_floats(grad *g, const float *v, int rank, ...); /* these numbers */
rq_tensor *grad_ints(grad *g, rq_dtype d, const int64_t *v, int rank,
                     ...); /* of an integer type or bool; no gradient */
void grad_omit(grad *g);

/* Infer, run, compare, release. Outputs 0..n_out-1; those that are not f32 get no dy. */
void grad_finish(grad *g, int n_out);

/* The derivatives at one point, where differences do not say (kinks): dy all 1, gradient of input `i` must be exactly want[count]. */
void grad_exactly(grad *g, int n_out, int i, const float *want);

/* The forward at one point: output `output` must be exactly want[count], on every instruction set. */
void grad_output(grad *g, int n_out, int output, const float *want);

/* For rows whose gradient is no derivative (straight-through): says that another test has it, which one. */
void grad_elsewhere(const char *op, const char *domain, const char *test);

/* Is there a case of this row? For test_grad.c. */
bool grad_has(const rq_op *row);
#define GRAD(name) void grad_##name(void);
#include "ops/grad_cases.inc"
#undef GRAD
void grad_begin(void);
void grad_end(void);

#endif
