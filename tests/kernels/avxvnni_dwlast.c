/* avxvnni_dwlast.c — the file of AVX-VNNI with its one instruction in the encoding of AVX-512 VNNI, for machines that have only that: the same product of the
 * same registers. */
#include <immintrin.h>

#ifdef __AVX512VNNI__
#define __AVXVNNI__ 1
#define _mm256_dpbusd_avx_epi32 _mm256_dpbusd_epi32
#define rq_dwlast_avxvnni rq_dwlast_avxvnni_evex
#include "kernels/dwlast_avxvnni.c"
#endif
