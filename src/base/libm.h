/* base/libm.h — logarithms and powers of single numbers with the same bits on every machine. The C library's own differ
 * in the last one with its version and with what the CPU has; nothing that decides a scale, a code or an output may
 * call them. (sqrt, fma, rint, floor, frexp and ldexp are exact everywhere and need no stand-in.) Within 1 unit in the
 * last place: SLEEF's `cinz_` functions in plain C. */
#ifndef RQ_BASE_LIBM_H
#define RQ_BASE_LIBM_H

#include <stdint.h>

double rq_libm_log(double x);
double rq_libm_log2(double x);
double rq_libm_log10(double x);
double rq_libm_exp(double x);
float rq_libm_powf(float x, float y);
/* x to the n-th, n >= 0, by squaring: n's bits, lowest first. */
double rq_libm_powi(double x, int64_t n);

#endif
