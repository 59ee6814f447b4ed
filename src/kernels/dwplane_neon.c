/* kernels/dwplane_neon.c — 4 columns at a time. */
#ifdef __aarch64__
#define VEC_WIDTH 4
#define AT_ONCE 4
#define SUFFIX neon
#include "kernels/vec.h"

#include "kernels/dwplane_part.h"

static inline vf vevens(vf a, vf b)
{
    return vuzp1q_f32(a, b);
}

#include "kernels/dwplane_tmpl.h"
#endif
