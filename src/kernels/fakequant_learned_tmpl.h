/* kernels/fakequant_learned_tmpl.h — kernels/fakequant_learned.h, once for every vector width.
 *
 * Work goes in blocks of sixteen elements, one per lane. A block that is only partly there is padded in a copy; of its terms only
 * those that are there are added. */
#include <string.h>

#include "kernels/kernels_isa.h"
#include "kernels/vec.h"

enum { LANES = RQ_LEARNED_LANES };

typedef struct row_v {
    vf scale, inv, zero_point, lo, hi;
} row_v;

/* Of VEC_WIDTH elements: dx, and what they add to both sums. */
static inline __attribute__((always_inline)) void terms(vf *dx, vf *ds, vf *dz, vf dy, vf x, const row_v *r,
                                                        rq_learned_form form)
{
    const vf zero = vsplat(0), one = vsplat(1);
    const vf t = form == RQ_LEARNED_FORM_DIVIDE ? vdiv(x, r->scale) : vmul(x, r->inv);
    vf v = form == RQ_LEARNED_FORM_BEFORE  ? vadd(vround(t), r->zero_point)
           : form == RQ_LEARNED_FORM_AFTER ? vround(vfma(x, r->inv, r->zero_point))
                                           : vround(vadd(t, r->zero_point));
    if (form == RQ_LEARNED_FORM_AFTER) { /* converted to 64 bits there */
        const vf far = vsplat(-0x1p63f), too_much = vsplat(0x1p63f);
        v = vsel(vnan(v), far, vsel(vlt(v, too_much), v, far));
    }
    const vm below = vlt(v, r->lo), above = vlt(r->hi, v), nan = vnan(v), out = vor(vor(below, above), nan);
    const vf q = vsub(vsel(below, r->lo, vsel(above, r->hi, v)), r->zero_point);
    *dx = vmul(dy, vsel(out, zero, one));
    const vf inside =
        form == RQ_LEARNED_FORM_DIVIDE ? vmul(dy, vsub(q, t)) : vmul(vmul(dy, vfma(q, r->scale, vneg(x))), r->inv);
    *ds = vsel(nan, zero, vsel(out, vmul(dy, q), inside));
    *dz = vsel(nan, zero, vsel(out, vmul(vneg(dy), r->scale), zero));
}

/* Less than a block: n elements, the first in lane `from`. */
static inline __attribute__((always_inline)) void part(float *dx, rq_learned_sums *s, const float *dy, const float *x,
                                                       size_t from, size_t n, const row_v *r, rq_learned_form form)
{
    float tdx[LANES], tdy[LANES] = { 0 }, tx[LANES] = { 0 }, ds[LANES], dz[LANES];
    memcpy(tdy + from, dy, n * sizeof *dy);
    memcpy(tx + from, x, n * sizeof *x);
    for (int i = 0; i < LANES; i += VEC_WIDTH) {
        vf a, b, c;
        terms(&a, &b, &c, vload(tdy + i), vload(tx + i), r, form);
        vstore(tdx + i, a);
        vstore(ds + i, b);
        vstore(dz + i, c);
    }
    for (size_t i = from; i < from + n; i++) {
        s->dscale[i] += ds[i];
        s->dzero_point[i] += dz[i];
    }
    memcpy(dx, tdx + from, n * sizeof *dx);
}

static inline __attribute__((always_inline)) void loop(float *dx, rq_learned_sums *s, const float *dy, const float *x,
                                                       size_t n, size_t lane, const rq_learned_row *p,
                                                       rq_learned_form form, bool stream)
{
    enum { VECTORS = LANES / VEC_WIDTH };
    const row_v r = { vsplat(p->scale), vsplat(p->inv), vsplat(p->zero_point), vsplat(p->lo), vsplat(p->hi) };
    size_t i = 0;
    if (lane && n) {
        i = n < LANES - lane ? n : LANES - lane;
        part(dx, s, dy, x, lane, i, &r, form);
    }
    vd dscale[VECTORS], dzero_point[VECTORS]; /* in registers */
    for (int k = 0; k < VECTORS; k++) {
        dscale[k] = vdload(s->dscale + k * VEC_WIDTH);
        dzero_point[k] = vdload(s->dzero_point + k * VEC_WIDTH);
    }
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < VECTORS; k++) {
            vf a, b, c;
            terms(&a, &b, &c, vload(dy + i + k * VEC_WIDTH), vload(x + i + k * VEC_WIDTH), &r, form);
            if (stream)
                vstream(dx + i + k * VEC_WIDTH, a);
            else
                vstore(dx + i + k * VEC_WIDTH, a);
            dscale[k] = vdadd(dscale[k], b);
            dzero_point[k] = vdadd(dzero_point[k], c);
        }
    for (int k = 0; k < VECTORS; k++) {
        vdstore(s->dscale + k * VEC_WIDTH, dscale[k]);
        vdstore(s->dzero_point + k * VEC_WIDTH, dzero_point[k]);
    }
    if (i < n)
        part(dx + i, s, dy + i, x + i, 0, n - i, &r, form);
}

#define NAME_(a, b) a##b
#define NAME(a, b) NAME_(a, b)
void NAME(rq_learned_grad_, SUFFIX)(float *dx, rq_learned_sums *s, const float *dy, const float *x, size_t n,
                                    size_t lane, const rq_learned_row *p)
{
    /* whole blocks begin where the lane is 0 */
    const bool aligned = (uintptr_t)(dx + (LANES - lane) % LANES) % (VEC_WIDTH * sizeof *dx) == 0,
               stream = p->stream && aligned;
    if (p->form == RQ_LEARNED_FORM_BEFORE && stream)
        loop(dx, s, dy, x, n, lane, p, RQ_LEARNED_FORM_BEFORE, true);
    else if (p->form == RQ_LEARNED_FORM_BEFORE)
        loop(dx, s, dy, x, n, lane, p, RQ_LEARNED_FORM_BEFORE, false);
    else if (p->form == RQ_LEARNED_FORM_AFTER && stream)
        loop(dx, s, dy, x, n, lane, p, RQ_LEARNED_FORM_AFTER, true);
    else if (p->form == RQ_LEARNED_FORM_AFTER)
        loop(dx, s, dy, x, n, lane, p, RQ_LEARNED_FORM_AFTER, false);
    else if (stream)
        loop(dx, s, dy, x, n, lane, p, RQ_LEARNED_FORM_DIVIDE, true);
    else
        loop(dx, s, dy, x, n, lane, p, RQ_LEARNED_FORM_DIVIDE, false);
}
