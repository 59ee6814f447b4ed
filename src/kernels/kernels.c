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
        .quantize_half = rq_quantize_half_scalar,
        .quantize_u16 = rq_quantize_u16_scalar,
        .quantize_s16 = rq_quantize_s16_scalar,
        .dequantize_u8 = rq_dequantize_u8_scalar,
        .dequantize_s8 = rq_dequantize_s8_scalar,
        .dequantize_u16 = rq_dequantize_u16_scalar,
        .dequantize_s16 = rq_dequantize_s16_scalar,
        .half_to_float = rq_half_to_float_scalar,
        .half_from_float = rq_half_from_float_scalar,
        .half_minmax = rq_half_minmax_scalar,
        .lut8 = rq_lut8_scalar,
        .norm8 = rq_norm8_scalar,
        .sums8 = rq_sums8_scalar,
        .equal_s32 = rq_equal_s32_scalar,
        .lut8_f32 = rq_lut8_f32_scalar,
        .quantize_quotients = rq_quantize_quotients_scalar,
        .transpose8 = rq_transpose8_scalar,
        .requantize_tile = rq_requantize_tile_scalar,
        /* fakequant_*.c */
        .fakequant = rq_fakequant_scalar,
        .fakequant_grad = rq_fakequant_grad_scalar,
        .fakequant_mask_grad = rq_fakequant_mask_grad_scalar,
        .fakequant_relu_grad = rq_fakequant_relu_grad_scalar,
        .fakequant_codes = rq_fakequant_codes_scalar,
        .stream_end = rq_stream_end_scalar,
        /* qgemm_*.c, gemm_f32_*.c, dwlast_*.c, qeltwise_*.c */
        .qgemm = rq_qgemm_scalar,
        .row_sums = rq_row_sums_scalar,
        .gemm_f32 = rq_gemm_f32_scalar,
        .dwlast_s8 = &rq_dwlast_scalar,
        .dwlast_s16 = &rq_dwlast_scalar,
        .qadd = rq_qadd_scalar,
        .qadd_one = rq_qadd_one_scalar,
        .qmul = rq_qmul_scalar,
        /* eltwise_*.c, reduce_*.c */
        .map = rq_map_scalar,
        .zip = rq_zip_scalar,
        .map_grad = rq_map_grad_scalar,
        .taps_f32 = rq_taps_f32_scalar,
        .dwplane_f32 = rq_dwplane_f32_scalar,
        .sum_f32 = rq_sum_f32_scalar,
        .fold = rq_fold_scalar,
        .exp_sum = rq_exp_sum_scalar,
        .learned_grad = rq_learned_grad_scalar,
        .bn = rq_bn_scalar,
        .sums_reals = rq_sums_reals_scalar,
        .lstm_cell = rq_lstm_cell_scalar,
        .gru_cell = rq_gru_cell_scalar,
        .gru_reset = rq_gru_reset_scalar,
        .gru_update = rq_gru_update_scalar,
        .rnn_cell = rq_rnn_cell_scalar,
        .pool_quarters = rq_pool_quarters_scalar,
        .pool_quarters_grad = rq_pool_quarters_grad_scalar,
        /* peak_*.c */
        .peak_int = rq_peak_int_scalar,
        .peak_f32 = rq_peak_f32_scalar,
        .pool8 = &rq_pool8_scalar,
        /* stats_*.c */
        .minmax = rq_minmax_scalar,
        .squares = rq_squares_scalar,
        .histogram = rq_histogram_scalar,
    };
#if RQ_X86
    if (!(cpu & RQ_CPU_AVX2))
        return;
    k->isa = "avx2";
    k->quantize_u8 = rq_quantize_u8_avx2;
    k->quantize_s8 = rq_quantize_s8_avx2;
    k->quantize_half = rq_quantize_half_avx2;
    k->dequantize_u8 = rq_dequantize_u8_avx2;
    k->dequantize_s8 = rq_dequantize_s8_avx2;
    k->quantize_u16 = rq_quantize_u16_avx2;
    k->quantize_quotients = rq_quantize_quotients_avx2;
    k->quantize_s16 = rq_quantize_s16_avx2;
    k->dequantize_u16 = rq_dequantize_u16_avx2;
    k->dequantize_s16 = rq_dequantize_s16_avx2;
    k->half_to_float = rq_half_to_float_avx2;
    k->half_from_float = rq_half_from_float_avx2;
    k->half_minmax = rq_half_minmax_avx2;
    k->requantize_tile = rq_requantize_tile_avx2;
    k->lut8 = rq_lut8_avx2;
    k->norm8 = rq_norm8_avx2;
    k->sums8 = rq_sums8_avx2;
    k->equal_s32 = rq_equal_s32_avx2;
    k->transpose8 = rq_transpose8_avx2;
    k->qgemm = rq_qgemm_avx2;
    k->winograd = &rq_winograd_avx2;
    k->row_sums = rq_row_sums_avx2;
    k->gemm_f32 = rq_gemm_f32_avx2;
    k->peak_int = rq_peak_int_avx2;
    k->peak_f32 = rq_peak_f32_avx2;
    k->dwlast_s8 = k->dwlast_s16 = &rq_dwlast_avx2;
    k->qadd = rq_qadd_avx2;
    k->qadd_one = rq_qadd_one_avx2;
    k->qmul = rq_qmul_avx2;
    k->map = rq_map_avx2;
    k->zip = rq_zip_avx2;
    k->map_grad = rq_map_grad_avx2;
    k->taps_f32 = rq_taps_f32_avx2;
    k->dwplane_f32 = rq_dwplane_f32_avx2;
    k->sum_f32 = rq_sum_f32_avx2;
    k->fold = rq_fold_avx2;
    k->exp_sum = rq_exp_sum_avx2;
    k->learned_grad = rq_learned_grad_avx2;
    k->bn = rq_bn_avx2;
    k->sums_reals = rq_sums_reals_avx2;
    k->lstm_cell = rq_lstm_cell_avx2;
    k->gru_cell = rq_gru_cell_avx2;
    k->gru_reset = rq_gru_reset_avx2;
    k->gru_update = rq_gru_update_avx2;
    k->rnn_cell = rq_rnn_cell_avx2;
    k->pool_quarters = rq_pool_quarters_avx2;
    k->pool_quarters_grad = rq_pool_quarters_grad_avx2;
    k->pool8 = &rq_pool8_avx2;
    k->minmax = rq_minmax_avx2;
    k->squares = rq_squares_avx2;
    k->histogram = rq_histogram_avx2;
    k->fakequant = rq_fakequant_avx2;
    k->fakequant_grad = rq_fakequant_grad_avx2;
    k->fakequant_mask_grad = rq_fakequant_mask_grad_avx2;
    k->fakequant_relu_grad = rq_fakequant_relu_grad_avx2;
    k->fakequant_codes = rq_fakequant_codes_avx2;
    k->stream_end = rq_stream_end_avx2;
    if (cpu & RQ_CPU_AVXVNNI) {
        k->isa = "avxvnni";
        k->qgemm = rq_qgemm_avxvnni;
        k->winograd = NULL;
        k->dwlast_s8 = &rq_dwlast_avxvnni;
        k->peak_int = rq_peak_int_avxvnni;
    }
    if (!(cpu & RQ_CPU_AVX512))
        return;
    k->quantize_u8 = rq_quantize_u8_avx512;
    k->norm8 = rq_norm8_avx512;
    k->sums8 = rq_sums8_avx512;
    k->equal_s32 = rq_equal_s32_avx512;
    k->quantize_s8 = rq_quantize_s8_avx512;
    k->quantize_half = rq_quantize_half_avx512;
    k->dequantize_u8 = rq_dequantize_u8_avx512;
    k->dequantize_s8 = rq_dequantize_s8_avx512;
    k->quantize_u16 = rq_quantize_u16_avx512;
    k->quantize_quotients = rq_quantize_quotients_avx512;
    k->quantize_s16 = rq_quantize_s16_avx512;
    k->dequantize_u16 = rq_dequantize_u16_avx512;
    k->dequantize_s16 = rq_dequantize_s16_avx512;
    k->half_to_float = rq_half_to_float_avx512;
    k->half_from_float = rq_half_from_float_avx512;
    k->half_minmax = rq_half_minmax_avx512;
    k->requantize_tile = rq_requantize_tile_avx512;
    k->isa = "avx512";
    k->qgemm = rq_qgemm_avx512;
    k->winograd = &rq_winograd_avx512;
    k->gemm_f32 = rq_gemm_f32_avx512;
    k->peak_int = rq_peak_int_avx512;
    k->peak_f32 = rq_peak_f32_avx512;
    k->dwlast_s8 = k->dwlast_s16 = &rq_dwlast_avx512;
    k->qadd = rq_qadd_avx512;
    k->qadd_one = rq_qadd_one_avx512;
    k->qmul = rq_qmul_avx512;
    k->map = rq_map_avx512;
    k->zip = rq_zip_avx512;
    k->map_grad = rq_map_grad_avx512;
    k->taps_f32 = rq_taps_f32_avx512;
    k->dwplane_f32 = rq_dwplane_f32_avx512;
    k->sum_f32 = rq_sum_f32_avx512;
    k->fold = rq_fold_avx512;
    k->exp_sum = rq_exp_sum_avx512;
    k->learned_grad = rq_learned_grad_avx512;
    k->bn = rq_bn_avx512;
    k->sums_reals = rq_sums_reals_avx512;
    k->lstm_cell = rq_lstm_cell_avx512;
    k->gru_cell = rq_gru_cell_avx512;
    k->gru_reset = rq_gru_reset_avx512;
    k->gru_update = rq_gru_update_avx512;
    k->rnn_cell = rq_rnn_cell_avx512;
    k->pool_quarters = rq_pool_quarters_avx512;
    k->pool_quarters_grad = rq_pool_quarters_grad_avx512;
    k->pool8 = &rq_pool8_avx512;
    k->minmax = rq_minmax_avx512;
    k->squares = rq_squares_avx512;
    k->histogram = rq_histogram_avx512;
    k->fakequant = rq_fakequant_avx512;
    k->fakequant_grad = rq_fakequant_grad_avx512;
    k->fakequant_mask_grad = rq_fakequant_mask_grad_avx512;
    k->fakequant_relu_grad = rq_fakequant_relu_grad_avx512;
    k->fakequant_codes = rq_fakequant_codes_avx512;
    k->stream_end = rq_stream_end_avx512;
    if (!(cpu & RQ_CPU_VNNI))
        return;
    k->isa = "vnni";
    k->qgemm = rq_qgemm_vnni;
    k->winograd = &rq_winograd_vnni;
    k->dwlast_s8 = &rq_dwlast_vnni;
    k->peak_int = rq_peak_int_vnni;
    if (cpu & RQ_CPU_VBMI) {
        k->lut8 = rq_lut8_vbmi;
        k->lut8_f32 = rq_lut8_f32_vbmi;
    }
    if (cpu & RQ_CPU_AMX) {
        k->isa = "amx";
        k->qgemm = rq_qgemm_amx;
        k->winograd = NULL;
        k->peak_int = rq_peak_int_amx;
    }
#elif RQ_ARM64
    if (!(cpu & RQ_CPU_NEON))
        return;
    k->isa = "neon";
    k->qgemm = rq_qgemm_neon;
    k->row_sums = rq_row_sums_neon;
    k->dwlast_s8 = k->dwlast_s16 = &rq_dwlast_neon;
    k->gemm_f32 = rq_gemm_f32_neon;
    k->dwplane_f32 = rq_dwplane_f32_neon;
    k->peak_int = rq_peak_int_neon;
    k->peak_f32 = rq_peak_f32_neon;
    k->quantize_u8 = rq_quantize_u8_neon;
    k->quantize_s8 = rq_quantize_s8_neon;
    k->quantize_half = rq_quantize_half_neon;
    k->dequantize_u8 = rq_dequantize_u8_neon;
    k->dequantize_s8 = rq_dequantize_s8_neon;
    k->quantize_u16 = rq_quantize_u16_neon;
    k->quantize_s16 = rq_quantize_s16_neon;
    k->dequantize_u16 = rq_dequantize_u16_neon;
    k->dequantize_s16 = rq_dequantize_s16_neon;
    k->quantize_quotients = rq_quantize_quotients_neon;
    k->half_to_float = rq_half_to_float_neon;
    k->half_from_float = rq_half_from_float_neon;
    k->half_minmax = rq_half_minmax_neon;
    k->requantize_tile = rq_requantize_tile_neon;
    k->lut8 = rq_lut8_neon;
    k->norm8 = rq_norm8_neon;
    k->transpose8 = rq_transpose8_neon;
    k->qadd = rq_qadd_neon;
    k->qadd_one = rq_qadd_one_neon;
    k->qmul = rq_qmul_neon;
    k->map = rq_map_neon;
    k->zip = rq_zip_neon;
    k->map_grad = rq_map_grad_neon;
    k->taps_f32 = rq_taps_f32_neon;
    k->sum_f32 = rq_sum_f32_neon;
    k->fold = rq_fold_neon;
    k->exp_sum = rq_exp_sum_neon;
    k->pool_quarters = rq_pool_quarters_neon;
    k->pool_quarters_grad = rq_pool_quarters_grad_neon;
    k->pool8 = &rq_pool8_neon;
    k->minmax = rq_minmax_neon;
    k->squares = rq_squares_neon;
    k->histogram = rq_histogram_neon;
    k->learned_grad = rq_learned_grad_neon;
    k->bn = rq_bn_neon;
    k->sums_reals = rq_sums_reals_neon;
    k->lstm_cell = rq_lstm_cell_neon;
    k->gru_cell = rq_gru_cell_neon;
    k->gru_reset = rq_gru_reset_neon;
    k->gru_update = rq_gru_update_neon;
    k->rnn_cell = rq_rnn_cell_neon;
    k->fakequant = rq_fakequant_neon;
    k->fakequant_grad = rq_fakequant_grad_neon;
    k->fakequant_mask_grad = rq_fakequant_mask_grad_neon;
    k->fakequant_relu_grad = rq_fakequant_relu_grad_neon;
    k->fakequant_codes = rq_fakequant_codes_neon;
    k->stream_end = rq_stream_end_neon;
    if (!(cpu & RQ_CPU_DOTPROD))
        return;
    k->isa = "dotprod";
    k->qgemm = rq_qgemm_dotprod;
    k->peak_int = rq_peak_int_dotprod;
    if (!(cpu & RQ_CPU_I8MM))
        return;
    k->isa = "i8mm";
    k->qgemm = rq_qgemm_i8mm;
    k->peak_int = rq_peak_int_i8mm;
    k->dwlast_s8 = &rq_dwlast_i8mm;
#endif
}
