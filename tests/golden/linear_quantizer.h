/* linear_quantizer.h — what the files of the golden trajectories share. */
#ifndef RQ_GOLDEN_LINEAR_QUANTIZER_H
#define RQ_GOLDEN_LINEAR_QUANTIZER_H

#include "golden.h"

/* The network of the case, with its initial parameters, and the values that fake-quantizers stand behind (by number; NULL ends). NULL: the
 * case failed. */
/* Each element one unit in the last place up, down, or as it is, by the seed; 0: all as they are. */
void golden_move_last_bits(rq_tensor *x, int seed);
rq_graph *golden_net(golden_case *c, const char *const **places);

/* Compare everything under finalized/ with the graph that finalize gave. */
void golden_check_finalized(golden_case *c, const rq_graph *g, const char *const *places);

/* The name that a parameter or fake-quantizer of the peer has here: what its fused modules add to paths is taken out ("conv1.conv.bn.weight" is
 * "bn1.weight"). Returns buf. */
const char *golden_plain_name(const char *peer, char *buf, size_t n);

#endif
