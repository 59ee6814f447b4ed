/* kernels/kernels.c — fills the table: complete with the definitions first, then faster versions as far as the CPU
 * flags go. */
#include "kernels/kernels.h"

#include "base/cpu.h"
#include "kernels/kernels_isa.h"

void rq_kernels_init(rq_kernels *k, unsigned cpu)
{
    *k = (rq_kernels) {
        .isa = "scalar",
        .cpu = cpu,
        /* quantize_*.c */
        .quantize_u8 = rq_quantize_u8_scalar,
        .quantize_s8 = rq_quantize_s8_scalar,
        .quantize_u16 = rq_quantize_u16_scalar,
        .quantize_s16 = rq_quantize_s16_scalar,
        .dequantize_u8 = rq_dequantize_u8_scalar,
        .dequantize_s8 = rq_dequantize_s8_scalar,
        .lut8 = rq_lut8_scalar,
        /* stats_*.c */
        .minmax = rq_minmax_scalar,
        .histogram = rq_histogram_scalar,
    };
#if RQ_X86
    if (!(cpu & RQ_CPU_AVX2))
        return;
    k->isa = "avx2";
    k->minmax = rq_minmax_avx2;
    k->histogram = rq_histogram_avx2;
    if (!(cpu & RQ_CPU_AVX512))
        return;
    k->minmax = rq_minmax_avx512;
    k->histogram = rq_histogram_avx512;
    if (!(cpu & RQ_CPU_VNNI))
        return;
    k->isa = "vnni";
#endif
}
