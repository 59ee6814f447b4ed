/* kernels/peak.h — the most a core can multiply and add: loops that keep everything in registers, so that what they reach is a limit that no
 * product can pass. Each instruction set does it with the instructions that its products are made of. */
#ifndef RQ_KERNELS_PEAK_H
#define RQ_KERNELS_PEAK_H

#include <stdint.h>

/* Do `steps` rounds; returns the multiply-adds that were done. */
typedef double (*rq_peak_fn)(int64_t steps);

/* The compiler must take v, in a register of class c, for changed here: nothing is moved, joined or left out across it. */
#define RQ_PEAK_OPAQUE(c, v) __asm__ volatile("" : "+" c(v))

#endif
