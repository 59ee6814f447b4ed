/* kernels/qeltwise.c — finding the quick form of a sum of codes (qeltwise.h).
 *
 * The sum is a * ra + b * rb + k. Two weights of 15 bits cannot be ra and rb, which have 24, but their ratio can be that of ra to rb within some 2^-26,
 * by continued fractions; the float `step` is what both are multiplied with. What is left are errors of the size of the definition's own roundings,
 * 2^-17 of a code. They matter where a sum is as near to half a code, which of 65536 pairs hardly one is: the first guess is right more often than not,
 * else one whose step or addend is a little larger or smaller. A guess is believed when it has been tried on all pairs. */
#include "kernels/qeltwise.h"

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/kernels_isa.h"

enum {
    CODES = 256,
    SPARE = 1 << 19,                                      /* units of `bits` for the fraction of the addend */
    MOST_WEIGHTS = ((1 << 23) - SPARE) / (CODES - 1) - 1, /* wa + wb: the sum stays below the next exponent */
    MOST_SUM = 32000,                                     /* of codes before they are cut: fits s16 */
    TURNS = 24,
};

static const double unit_at = 1 << 23;       /* from here floats are integers */
static const double integers_at = 3 << 22;   /* and the low bits of those from here are theirs */
static const double fine = 1.0 / (1 << 21);  /* of a code: the weights' ratio may be wrong by so much */
static const double nudge = 1.0 / (1 << 19); /* of a code */

/* wa / wb near ra / rb: the first convergent of its continued fraction that is near enough, else the last that fits, or what lies between it and the
 * next. False: there is none, one of the two hardly counts. */
static bool weigh(const rq_qadd *p, int *wa, int *wb)
{
    const double ratio = (double)p->ra / (double)p->rb;
    double h0 = 0, h = 1, k0 = 1, k = 0, rest = ratio; /* h / k is the convergent */
    for (;;) {
        const double whole = floor(rest), h2 = whole * h + h0, k2 = whole * k + k0;
        if (!(h2 + k2 <= MOST_WEIGHTS)) {
            const double part = floor((MOST_WEIGHTS - h0 - k0) / (h + k)), hp = part * h + h0, kp = part * k + k0;
            if (kp > 0 && (k == 0 || fabs(ratio - hp / kp) < fabs(ratio - h / k)))
                h = hp, k = kp;
            break;
        }
        h0 = h, h = h2;
        k0 = k, k = k2;
        if (rest == whole || (CODES - 1) * (double)p->rb * fabs(ratio - h / k) < fine)
            break;
        rest = 1 / (rest - whole);
    }
    *wa = (int)h;
    *wb = (int)k;
    return h > 0 && k > 0 && h <= INT16_MAX && k <= INT16_MAX;
}

/* How often to take wa and wb, so that the step, which is `once` for them as they are, loses least when it becomes a float. Large weights
 * make small steps, which the addend needs. */
static int times(double once, int sum)
{
    const int most = MOST_WEIGHTS / sum;
    double least = INFINITY;
    int best = most;
    for (int m = most; m > most / 2; m--) {
        const double step = once / m, lost = fabs((double)(float)step / step - 1);
        if (lost < least) {
            least = lost;
            best = m;
        }
    }
    return best;
}

/* bits and base such that no codes but their addend give k. base is an integer: what k has behind the point is a number of steps, those of the
 * next integers too, of which one fits best. False: steps are too small for that. */
static bool place(rq_qadd_quick *q, double k)
{
    const double step = (double)q->step, all = k - unit_at * step, whole = floor(all), part = all - whole;
    double least = INFINITY;
    for (int turn = 0; turn < TURNS; turn++) {
        const double steps = rint((part + turn) / step), wrong = fabs(steps * step - part - turn);
        if (steps > SPARE)
            break;
        if (wrong < least) {
            least = wrong;
            q->bits = 0x4b000000 + (int32_t)steps;
            q->base = (float)(integers_at + whole - turn);
        }
    }
    return least < INFINITY;
}

/* Does quick give the codes of p for all a and b? *at: the code a to begin with, and where it ended: what was wrong once is likely to be again. */
static bool is_same(const rq_kernels *k, const rq_qadd *p, const rq_qadd_quick *quick, int *at)
{
    uint8_t a[CODES], b[CODES], want[CODES], got[CODES];
    rq_qadd both = *p;
    both.quick = *quick;
    for (int i = 0; i < CODES; i++)
        b[i] = (uint8_t)i;
    for (int i = 0; i < CODES; i++) {
        memset(a, *at, sizeof a);
        k->qadd(want, a, b, CODES, p);
        k->qadd(got, a, b, CODES, &both);
        if (memcmp(want, got, CODES) != 0)
            return false;
        *at = (*at + 1) % CODES;
    }
    return true;
}

void rq_qadd_quicken(const rq_kernels *k, rq_qadd *p)
{
    static const int nudges[] = { 0, 1, -1, 2, -2, 3, -3, 4, -4, 6, -6, 8, -8 };
    const double ra = (double)p->ra, rb = (double)p->rb;
    int wa, wb, at = 0;
    if (k->qadd == rq_qadd_scalar || !(ra > 0) || !(rb > 0) ||
        !((CODES - 1) * (ra + rb) + fabs((double)p->k) < MOST_SUM) || !weigh(p, &wa, &wb))
        return;
    const double once = (ra * wa + rb * wb) / ((double)wa * wa + (double)wb * wb);
    const int m = times(once, wa + wb);
    rq_qadd_quick q = { .wa = (int16_t)(wa * m), .wb = (int16_t)(wb * m) };
    const float step = (float)(once / m), steps[] = { step, nextafterf(step, 1), nextafterf(step, 0) };
    for (size_t i = 0; i < sizeof nudges / sizeof nudges[0]; i++)
        for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
            q.step = steps[s];
            if (place(&q, (double)p->k + nudges[i] * nudge) && is_same(k, p, &q, &at)) {
                p->quick = q;
                return;
            }
        }
}
