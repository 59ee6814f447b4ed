/* tests/quant/tensor_quantizer_help.h — quantizers made, run and printed in a line. */
#ifndef RQ_TESTS_QUANT_TENSOR_QUANTIZER_HELP_H
#define RQ_TESTS_QUANT_TENSOR_QUANTIZER_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "quant/tensor_quant_help.h"
#include "requant/requant.h"

static inline rq_tensor tensor_of(float *x, int rank, const int64_t *dim)
{
    const rq_shape s = rq_shape_of(rank, dim);
    return rq_tensor_view(RQ_DTYPE_F32, &s, x);
}

static inline rq_tensor_quantizer *make(const char *yaml, const rq_tensor_quantizer_cfg *cfg)
{
    rq_quant_desc d;
    rq_tensor_quantizer *q = NULL;
    assert_int_equal(rq_quant_desc_from_yaml(&d, yaml, &err), RQ_OK);
    if (rq_tensor_quantizer_create(&q, &d, cfg, &err))
        fail_msg("%s", err.text);
    rq_quant_desc_release(&d);
    return q;
}

static inline void forward(rq_tensor_quantizer *q, float *y, const rq_strided *x)
{
    rq_strided sy = *x;
    sy.data = y;
    if (rq_tensor_quantizer_forward(q, NULL, &sy, x, &err))
        fail_msg("%s", err.text);
}

static inline void text_is(const rq_tensor_quantizer *q, const char *want)
{
    char text[256];
    assert_int_equal(rq_tensor_quantizer_text(q, text, sizeof text), strlen(want));
    assert_string_equal(text, want);
}

#endif
