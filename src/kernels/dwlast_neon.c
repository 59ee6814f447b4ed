/* kernels/dwlast_neon.c — depthwise rows on any 64-bit ARM: codes widened to s16, one multiply-add into s32 a tap. */
#ifdef __aarch64__
#include "kernels/kernels_isa.h"

#define KR 2
#include "kernels/dwlast_arm.h"

const rq_dwlast_isa rq_dwlast_neon = {
    .name = "16x2", .kr = 2, .channels = 16, .least = 16, .vectors = 4, .overlaps = true, .taps = taps, .window = window
};

#endif
