/* base/clock.h — how long things take. */
#ifndef RQ_BASE_CLOCK_H
#define RQ_BASE_CLOCK_H

#include <time.h>

/* Milliseconds of a clock that only goes forward; where it starts means nothing. */
static inline double rq_clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

#endif
