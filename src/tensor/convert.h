/* tensor/convert.h — one number from and to the narrow float formats (IEEE half, bfloat16, and the
 * 8- and 4-bit ones of the OCP and ONNX tables). Decoding is exact; encoding rounds half to even. */
#ifndef RQ_TENSOR_CONVERT_H
#define RQ_TENSOR_CONVERT_H

#include <stdbool.h>
#include <stdint.h>

#include "requant/tensor.h"

float rq_convert_f16_to_f32(uint16_t h);
uint16_t rq_convert_f32_to_f16(float f);
/* n of them; dst and src do not overlap. */
void rq_convert_f16_to_f32_each(float *dst, const uint16_t *src, int64_t n);
void rq_convert_f32_to_f16_each(uint16_t *dst, const float *src, int64_t n);
float rq_convert_bf16_to_f32(uint16_t h);
uint16_t rq_convert_f32_to_bf16(float f);
/* d: one of the F8* types or F4E2M1 (low 4 bits of code). */
float rq_convert_f8_to_f32(rq_dtype d, uint8_t code);
/* saturate: values past the largest finite one become it (infinities too); otherwise NaN, or infinity
 * where the format has one (docs/onnx-facts.md 2.2). F4E2M1 and F8E8M0 always saturate. */
uint8_t rq_convert_f32_to_f8(rq_dtype d, float f, bool saturate);

#endif
