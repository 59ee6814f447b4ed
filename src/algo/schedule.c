/* algo/schedule.c — the learning rate of a step: constant, in steps, or along half a cosine, after a linear warm-up. */
#include "base/libm.h"
#include "requant/optim.h"

/* cos(pi x) for x in [0, 1], with the same bits on every machine: Taylor's series of sine and cosine within pi / 4 of their
 * zero or extremum, where ten terms leave less than the last place. */
static double cos_pi(double x)
{
    const double pi = 3.14159265358979323846;
    const bool low = x > 0.5;
    const double y = low ? 1 - x : x; /* cos(pi x) = -cos(pi (1 - x)) */
    const bool sine = y > 0.25;
    const double a = pi * (sine ? 0.5 - y : y); /* cos(pi y) = sin(pi (1/2 - y)) */
    double term = sine ? a : 1, sum = term;
    for (int k = sine ? 1 : 0; k < 22; k += 2) {
        term *= -a * a / ((k + 1) * (k + 2));
        sum += term;
    }
    return low ? -sum : sum;
}

double rq_schedule_lr(const rq_schedule *s, int64_t t)
{
    t = t < 0 ? 0 : t;
    if (t < s->warmup)
        return s->lr * (double)t / (double)s->warmup;
    t -= s->warmup > 0 ? s->warmup : 0;
    if (s->kind == RQ_SCHEDULE_STEP)
        return s->every > 0 ? s->lr * rq_libm_powi(s->gamma, t / s->every) : s->lr;
    if (s->kind == RQ_SCHEDULE_COSINE) {
        const int64_t all = s->total - (s->warmup > 0 ? s->warmup : 0);
        if (all < 1 || t >= all)
            return s->lr_min;
        return s->lr_min + (s->lr - s->lr_min) * (1 + cos_pi((double)t / (double)all)) / 2;
    }
    return s->lr;
}
