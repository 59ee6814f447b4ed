/* coreml/element.h — one element of a weight as a real in f32, which each of these types fits exactly, and back. */
#ifndef RQ_COREML_ELEMENT_H
#define RQ_COREML_ELEMENT_H

#include <math.h>

#include "tensor/convert.h"

/* F16, F32, S8, U8. */
static inline float rq_element_at(const void *data, rq_dtype dtype, int64_t i)
{
    switch (dtype) {
    case RQ_DTYPE_F16:
        return rq_convert_f16_to_f32(((const uint16_t *)data)[i]);
    case RQ_DTYPE_S8:
        return ((const int8_t *)data)[i];
    case RQ_DTYPE_U8:
        return ((const uint8_t *)data)[i];
    default:
        return ((const float *)data)[i];
    }
}

/* x as dtype has it: rounded to even; cut, where it is an integer. */
static inline float rq_element_round(rq_dtype dtype, double x)
{
    switch (dtype) {
    case RQ_DTYPE_F16:
        return rq_convert_f16_to_f32(rq_convert_f32_to_f16((float)x));
    case RQ_DTYPE_S8:
    case RQ_DTYPE_U8:
        return (float)trunc(x);
    default:
        return (float)x;
    }
}

/* data[i] = x, which rq_element_round gave. */
static inline void rq_element_put(void *data, rq_dtype dtype, int64_t i, float x)
{
    switch (dtype) {
    case RQ_DTYPE_F16:
        ((uint16_t *)data)[i] = rq_convert_f32_to_f16(x);
        return;
    case RQ_DTYPE_S8:
        ((int8_t *)data)[i] = (int8_t)x;
        return;
    case RQ_DTYPE_U8:
        ((uint8_t *)data)[i] = (uint8_t)x;
        return;
    default:
        ((float *)data)[i] = x;
    }
}

#endif
