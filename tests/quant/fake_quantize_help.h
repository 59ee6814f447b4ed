/* tests/quant/fake_quantize_help.h — what the tests of fake quantization share. */
#ifndef RQ_TESTS_QUANT_FAKE_QUANTIZE_HELP_H
#define RQ_TESTS_QUANT_FAKE_QUANTIZE_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "requant/fake_quantize.h"

static inline rq_fq torch_fq(rq_dtype d, int32_t lo, int32_t hi, const float *scale, const int32_t *zp)
{
    return (rq_fq) { .type = { d, lo, hi },
                     .rule = RQ_FQ_RECIPROCAL,
                     .axis = RQ_PER_TENSOR,
                     .n = 1,
                     .scale = scale,
                     .zero_point = zp,
                     .compat = true };
}

#endif
