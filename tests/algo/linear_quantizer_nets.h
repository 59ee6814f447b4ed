/* linear_quantizer_nets.h — small networks for tests of LinearQuantizer, written down as chains of modules, and what prepare made of them as a line
 * of letters. */
#ifndef RQ_TEST_LINEAR_QUANTIZER_NETS_H
#define RQ_TEST_LINEAR_QUANTIZER_NETS_H

#include <stdbool.h>

#include "algo/linear_quantizer.h"
#include "requant/requant.h"

enum { NET_NAME = 64 };

/* A graph in the making; values have names made here, good until the net is gone. */
typedef struct net {
    rq_graph *g;
    rq_err err;
    int n;
    uint64_t seed;
    char names[256][NET_NAME];
} net;

void net_begin(net *t, int rank, const int64_t *dim); /* input "x" */
rq_graph *net_end(net *t, const char *y);             /* output y; yours */
/* Nodes are called "/<module>/<op>"; module "" is a call of the root. */
const char *net_conv(net *t, const char *module, const char *x, int64_t in, int64_t out, int64_t kernel, int64_t pad);
const char *net_deconv(net *t, const char *module, const char *x, int64_t in, int64_t out, int64_t kernel, int64_t pad);
const char *net_linear(net *t, const char *module, const char *x, int64_t in, int64_t out);
const char *net_norm(net *t, const char *module, const char *x, int64_t channels);
const char *net_call(net *t, const char *op, const char *module, const char *x);
const char *net_pair(net *t, const char *op, const char *module, const char *a, const char *b);
const char *net_cat(net *t, const char *a, const char *b);
const char *net_pool(net *t, const char *module, const char *x, int64_t size);
const char *net_number(net *t, double v); /* a constant that is one number */
/* n numbers around zero, of a fixed seed. */
const char *net_constant(net *t, const char *name, int rank, const int64_t *dim, double spread);
rq_tensor net_numbers(int rank, const int64_t *dim, double spread, uint64_t seed);
/* One of PyTorch's 20 activations ("ReLU", "GLU" ...) as its exporter writes it. */
extern const char *const net_activations[];
enum { NET_ACTIVATIONS = 20 };
const char *net_act(net *t, const char *name, const char *module, const char *x);

/* Prepare g (destroyed) with a config as JSON; NULL: the defaults. Fails the test where it fails. */
rq_linear_quantizer *net_prepare(rq_graph *g, const char *config);
/* A letter per activation_post_process_n: S symmetric, A affine, F fixed; '.' where there is none. Behind ':' which share: the letter of the first. */
const char *net_letters(const rq_linear_quantizer *q, char buf[128]);
/* Observe one batch, finalize, and hold the quantized graph against the plan: an annotation at every place, of the kind that net_letters says and
 * shared as it says, and none elsewhere; weights as codes near the trained numbers; activations kept; batch norms folded; and it computes
 * what training computed, within a step of the output's codes; deep: each layer does so from equal codes at its inputs. */
void net_finalized(rq_linear_quantizer *q, bool deep);

#endif
