/* kernels/qgemm_amx.c — the tile of integer products on AMX. Compiled with -mamx-tile -mamx-int8. */
#if (defined(__AMX_TILE__) && defined(__AMX_INT8__)) ||                                                                \
    (defined(__AMXTILE__) && defined(__AMXINT8__)) /* gcc; clang 14 */
#include <immintrin.h>

/* GCC's intrinsics do not say that they read memory: what was stored must be there before. */
#define STORED() __asm__ volatile("" ::: "memory")
#define TILE_CONFIG(config)                                                                                            \
    do {                                                                                                               \
        STORED();                                                                                                      \
        _tile_loadconfig(config);                                                                                      \
    } while (0)
#define TILE_LOAD(t, base, stride)                                                                                     \
    do {                                                                                                               \
        STORED();                                                                                                      \
        _tile_loadd(t, base, stride);                                                                                  \
    } while (0)
#define TILE_DOT(c, a, b) _tile_dpbusd(c, a, b)
#define TILE_STORE(t, base, stride) _tile_stored(t, base, stride)
#define TILE_RELEASE() _tile_release()

#include "kernels/qgemm_amx_tmpl.h"

const rq_qgemm_isa rq_qgemm_amx = QGEMM_AMX;

#endif
