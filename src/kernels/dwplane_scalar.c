/* kernels/dwplane_scalar.c — the definition. */
#define VEC_WIDTH 1
#define AT_ONCE 1
#define SUFFIX scalar
#include "kernels/vec.h"

#include "kernels/dwplane_part.h"

static inline vf vevens(vf a, vf b)
{
    (void)b;
    return a;
}

#include "kernels/dwplane_tmpl.h"
