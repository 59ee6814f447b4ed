/* base/libm.c — see libm.h. */
#include "base/libm.h"

#include <sleef.h>

double rq_libm_log(double x)
{
    return Sleef_cinz_logd1_u10purec(x);
}

double rq_libm_log2(double x)
{
    return Sleef_cinz_log2d1_u10purec(x);
}

double rq_libm_log10(double x)
{
    return Sleef_cinz_log10d1_u10purec(x);
}

double rq_libm_exp(double x)
{
    return Sleef_cinz_expd1_u10purec(x);
}

float rq_libm_powf(float x, float y)
{
    return Sleef_cinz_powf1_u10purec(x, y);
}

double rq_libm_powi(double x, int64_t n)
{
    double y = 1;
    for (; n > 0; n >>= 1, x *= x)
        y = n & 1 ? y * x : y;
    return y;
}
