/* kernels/qeltwise.c — finding the quick forms of sums and products of codes (qeltwise.h). A product needs nothing but another step, now and then.
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

/* A sum or a product, as it is defined and as a guess has it. */
typedef struct guess {
    rq_qadd add, quick_add;
    rq_qmul mul, quick_mul;
    bool is_mul;
    int at; /* the code a to begin with: what was wrong once is likely to be again */
} guess;

/* Does it give the codes of the definition for all a and b? */
static bool is_same(const rq_kernels *k, guess *g)
{
    uint8_t a[CODES], b[CODES], want[CODES], got[CODES];
    for (int i = 0; i < CODES; i++)
        b[i] = (uint8_t)i;
    for (int i = 0; i < CODES; i++) {
        memset(a, g->at, sizeof a);
        if (g->is_mul) {
            k->qmul(want, a, b, CODES, &g->mul);
            k->qmul(got, a, b, CODES, &g->quick_mul);
        } else {
            k->qadd(want, a, b, CODES, &g->add);
            k->qadd(got, a, b, CODES, &g->quick_add);
        }
        if (memcmp(want, got, CODES) != 0)
            return false;
        g->at = (g->at + 1) % CODES;
    }
    return true;
}

void rq_qadd_quicken(const rq_kernels *k, rq_qadd *p)
{
    static const int nudges[] = { 0, 1, -1, 2, -2, 3, -3, 4, -4, 6, -6, 8, -8 };
    const double ra = (double)p->ra, rb = (double)p->rb;
    int wa, wb;
    if (k->qadd == rq_qadd_scalar || !(ra > 0) || !(rb > 0) ||
        !((CODES - 1) * (ra + rb) + fabs((double)p->k) < MOST_SUM) || !weigh(p, &wa, &wb))
        return;
    const double once = (ra * wa + rb * wb) / ((double)wa * wa + (double)wb * wb);
    const int m = times(once, wa + wb);
    guess g = { .add = *p, .quick_add = *p };
    rq_qadd_quick q = { .wa = (int16_t)(wa * m), .wb = (int16_t)(wb * m) };
    const float step = (float)(once / m), steps[] = { step, nextafterf(step, 1), nextafterf(step, 0) };
    for (size_t i = 0; i < sizeof nudges / sizeof nudges[0]; i++)
        for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
            q.step = steps[s];
            if (!place(&q, (double)p->k + nudges[i] * nudge))
                continue;
            g.quick_add.quick = q;
            if (is_same(k, &g)) {
                p->quick = q;
                return;
            }
        }
}

void rq_qmul_quicken(const rq_kernels *k, rq_qmul *p)
{
    static const int ulps[] = { 0, 1, -1, 2, -2, 3, -3, 4, -4 };
    const float most = (CODES - 1) * (CODES - 1);
    if (k->qmul == rq_qmul_scalar || !(p->r > 0) || !(most * p->r + fabsf(p->zc) < MOST_SUM) || p->zc != rintf(p->zc))
        return;
    guess g = { .mul = *p, .quick_mul = *p, .is_mul = true };
    int exponent;
    (void)frexpf(p->r, &exponent);
    for (size_t i = 0; i < sizeof ulps / sizeof ulps[0]; i++) {
        g.quick_mul.step = p->r + ldexpf((float)ulps[i], exponent - 24);
        if (g.quick_mul.step > 0 && is_same(k, &g)) {
            p->step = g.quick_mul.step;
            return;
        }
    }
}
