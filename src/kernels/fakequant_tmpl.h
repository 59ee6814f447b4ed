/* kernels/fakequant_tmpl.h — the fake-quantizing loops over vectors, compiled once per instruction set by fakequant_<isa>.c.
 * Operation for operation what fakequant.h defines, so the bits are the same.
 *
 * Such a file sets VEC_WIDTH and SUFFIX and defines, before including this, on vectors of VEC_WIDTH:
 *     void put_mask(uint8_t *p, vm m)              a byte 0 or 1 for each element
 *     vm get_mask(const uint8_t *p)                which bytes are not 0
 *     vm get_equal(const uint8_t *p, uint8_t v)    which bytes are v
 *     void put_codes(uint8_t *p, vf c, bool stream)    low bytes of whole numbers
 *     void fence(void)                             what was streamed is seen by other threads afterwards */
#include "kernels/kernels_isa.h"
#include "kernels/vec.h"

#include <stdbool.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define KERNEL(name) JOIN(JOIN(rq_, name), JOIN(_, SUFFIX))
#define ALWAYS static inline __attribute__((always_inline))

enum { W = VEC_WIDTH, AHEAD = 1024 }; /* floats to fetch ahead: a page, where the hardware stops by itself */

typedef struct numbers {
    vf in, out, inside, after, back, lo, hi;
} numbers;

ALWAYS numbers numbers_of(const rq_fakequant *p)
{
    return (numbers) { .in = vsplat(p->in),
                       .out = vsplat(p->out),
                       .inside = vsplat(p->inside),
                       .after = vsplat(p->after),
                       .back = vsplat(p->back),
                       .lo = vsplat(p->lo),
                       .hi = vsplat(p->hi) };
}

/* The numbers of elements i..i+W-1. */
ALWAYS void take_rows(numbers *e, const rq_fakequant *p, size_t i)
{
    e->in = vload(p->in_row + i);
    e->out = vload(p->out_row + i);
    if (p->zp_row) {
        const vf zp = vload(p->zp_row + i);
        if (p->zp_inside)
            e->inside = zp;
        else
            e->after = zp;
        e->back = vneg(zp);
    }
}

ALWAYS vf landing(vf x, const numbers *e, bool divide)
{
    const vf v = divide ? vdiv(x, e->in) : vmul(x, e->in);
    return vadd(vround(vadd(v, e->inside)), e->after);
}

ALWAYS vm passes(vf t, const numbers *e)
{
    return vand(vle(e->lo, t), vle(t, e->hi));
}

ALWAYS vf code(vf t, const numbers *e, bool compat)
{
    vf c = vsel(vlt(t, e->lo), e->lo, t);
    c = vsel(vlt(e->hi, c), e->hi, c);
    return compat ? vsel(vlt(t, vsplat(0x1p63f)), c, e->lo) : c;
}

ALWAYS vf meaning(vf c, const numbers *e, bool undivide)
{
    const vf d = vadd(c, e->back);
    return undivide ? vdiv(d, e->out) : vmul(d, e->out);
}

/* Elements before y is aligned to a vector, at most n. */
static inline size_t misaligned(const void *y, size_t element, size_t n)
{
    const size_t line = W * element, head = (line - (uintptr_t)y % line) % line / element;
    return head < n ? head : n;
}

/* p from element i on. */
static inline rq_fakequant later(const rq_fakequant *p, size_t i)
{
    rq_fakequant q = *p;
    if (q.in_row) {
        q.in_row += i;
        q.out_row += i;
    }
    if (q.zp_row)
        q.zp_row += i;
    return q;
}

/* ---- forward ---- */

/* The same behind a rectifier: what that stops is 2. */
static void relu_loop(float *y, uint8_t *mask, const float *x, size_t n, const rq_fakequant *p)
{
    const vf zero = vsplat(0), one = vsplat(1), two = vsplat(2);
    numbers e = numbers_of(p);
    for (size_t i = 0; i < n; i += W) {
        if (p->in_row)
            take_rows(&e, p, i);
        vf v = vload(x + i);
        v = vsel(vlt(v, zero), zero, v);
        const vf t = landing(v, &e, p->divide);
        if (mask)
            put_codes(mask + i, vsel(vle(v, zero), two, vsel(passes(t, &e), one, zero)), false);
        vstore(y + i, meaning(code(t, &e, p->compat), &e, p->undivide));
    }
}

ALWAYS void forward_loop(float *y, uint8_t *mask, const float *x, size_t n, const rq_fakequant *p, bool divide,
                         bool stream)
{
    const bool undivide = p->undivide, compat = p->compat, rows = p->in_row != NULL;
    numbers e = numbers_of(p);
    for (size_t i = 0; i < n; i += W) {
        if (stream)
            __builtin_prefetch(x + i + AHEAD);
        if (rows)
            take_rows(&e, p, i);
        const vf t = landing(vload(x + i), &e, divide);
        if (mask)
            put_mask(mask + i, passes(t, &e));
        const vf v = meaning(code(t, &e, compat), &e, undivide);
        if (stream)
            vstream(y + i, v);
        else
            vstore(y + i, v);
    }
}

/* n < W elements. */
static void forward_few(float *y, uint8_t *mask, const float *x, size_t n, const rq_fakequant *p)
{
    float v[W] = { 0 };
    uint8_t bits[W];
    if (p->in_row) {
        rq_fakequant_scalar(y, mask, x, n, p);
        return;
    }
    memcpy(v, x, n * sizeof *v);
    forward_loop(v, mask ? bits : NULL, v, W, p, p->divide, false);
    memcpy(y, v, n * sizeof *y);
    if (mask)
        memcpy(mask, bits, n);
}

void KERNEL(fakequant)(float *y, uint8_t *mask, const float *x, size_t n, const rq_fakequant *p)
{
    if (p->wide) { /* fused, and in f64: rare */
        rq_fakequant_scalar(y, mask, x, n, p);
        return;
    }
    if (p->relu) {
        const size_t most = n / W * W;
        relu_loop(y, mask, x, most, p);
        const rq_fakequant rest = later(p, most);
        rq_fakequant_scalar(y + most, mask ? mask + most : NULL, x + most, n - most, &rest);
        return;
    }
    size_t i = 0;
    if (p->stream) {
        i = misaligned(y, sizeof *y, n);
        forward_few(y, mask, x, i, p);
    }
    const size_t whole = (n - i) / W * W;
    const rq_fakequant q = later(p, i);
    uint8_t *m = mask ? mask + i : NULL;
    if (p->stream && p->divide)
        forward_loop(y + i, m, x + i, whole, &q, true, true);
    else if (p->stream)
        forward_loop(y + i, m, x + i, whole, &q, false, true);
    else if (p->divide)
        forward_loop(y + i, m, x + i, whole, &q, true, false);
    else
        forward_loop(y + i, m, x + i, whole, &q, false, false);
    i += whole;
    const rq_fakequant r = later(p, i);
    forward_few(y + i, mask ? mask + i : NULL, x + i, n - i, &r);
}

/* ---- backward ---- */

ALWAYS void grad_loop(float *dx, const float *dy, const float *x, size_t n, const rq_fakequant *p, bool divide,
                      bool stream)
{
    const bool rows = p->in_row != NULL;
    const vf one = vsplat(1), zero = vsplat(0);
    numbers e = numbers_of(p);
    for (size_t i = 0; i < n; i += W) {
        if (stream) {
            __builtin_prefetch(x + i + AHEAD);
            __builtin_prefetch(dy + i + AHEAD);
        }
        if (rows)
            take_rows(&e, p, i);
        const vm m = passes(landing(vload(x + i), &e, divide), &e);
        const vf v = vmul(vload(dy + i), vsel(m, one, zero));
        if (stream)
            vstream(dx + i, v);
        else
            vstore(dx + i, v);
    }
}

static void grad_few(float *dx, const float *dy, const float *x, size_t n, const rq_fakequant *p)
{
    float v[W] = { 0 }, d[W] = { 0 };
    if (p->in_row) {
        rq_fakequant_grad_scalar(dx, dy, x, n, p);
        return;
    }
    memcpy(v, x, n * sizeof *v);
    memcpy(d, dy, n * sizeof *d);
    grad_loop(d, d, v, W, p, p->divide, false);
    memcpy(dx, d, n * sizeof *dx);
}

void KERNEL(fakequant_grad)(float *dx, const float *dy, const float *x, size_t n, const rq_fakequant *p)
{
    if (p->wide) {
        rq_fakequant_grad_scalar(dx, dy, x, n, p);
        return;
    }
    size_t i = 0;
    if (p->stream) {
        i = misaligned(dx, sizeof *dx, n);
        grad_few(dx, dy, x, i, p);
    }
    const size_t whole = (n - i) / W * W;
    const rq_fakequant q = later(p, i);
    if (p->stream && p->divide)
        grad_loop(dx + i, dy + i, x + i, whole, &q, true, true);
    else if (p->stream)
        grad_loop(dx + i, dy + i, x + i, whole, &q, false, true);
    else if (p->divide)
        grad_loop(dx + i, dy + i, x + i, whole, &q, true, false);
    else
        grad_loop(dx + i, dy + i, x + i, whole, &q, false, false);
    i += whole;
    const rq_fakequant r = later(p, i);
    grad_few(dx + i, dy + i, x + i, n - i, &r);
}

ALWAYS void mask_grad_loop(float *dx, const float *dy, const uint8_t *mask, size_t n, bool stream)
{
    const vf one = vsplat(1), zero = vsplat(0);
    for (size_t i = 0; i < n; i += W) {
        const vf v = vmul(vload(dy + i), vsel(get_mask(mask + i), one, zero));
        if (stream) {
            __builtin_prefetch(dy + i + AHEAD);
            vstream(dx + i, v);
        } else {
            vstore(dx + i, v);
        }
    }
}

void KERNEL(fakequant_mask_grad)(float *dx, const float *dy, const uint8_t *mask, size_t n, bool stream)
{
    size_t i = 0;
    if (stream) {
        i = misaligned(dx, sizeof *dx, n);
        rq_fakequant_mask_grad_scalar(dx, dy, mask, i, false);
    }
    const size_t whole = (n - i) / W * W;
    if (stream)
        mask_grad_loop(dx + i, dy + i, mask + i, whole, true);
    else
        mask_grad_loop(dx + i, dy + i, mask + i, whole, false);
    i += whole;
    rq_fakequant_mask_grad_scalar(dx + i, dy + i, mask + i, n - i, false);
}

void KERNEL(fakequant_relu_grad)(float *dx, const float *dy, const uint8_t *mask, size_t n)
{
    const vf one = vsplat(1), zero = vsplat(0);
    size_t i = 0;
    for (; i + W <= n; i += W) {
        const vf v = vmul(vload(dy + i), vsel(get_mask(mask + i), one, zero));
        vstore(dx + i, vsel(get_equal(mask + i, 2), zero, v));
    }
    rq_fakequant_relu_grad_scalar(dx + i, dy + i, mask + i, n - i);
}

/* ---- codes ---- */

ALWAYS void codes_loop(uint8_t *q, const float *x, size_t n, const rq_fakequant *p, bool divide, bool stream)
{
    const bool compat = p->compat, rows = p->in_row != NULL;
    numbers e = numbers_of(p);
    for (size_t i = 0; i < n; i += W) {
        if (stream)
            __builtin_prefetch(x + i + AHEAD);
        if (rows)
            take_rows(&e, p, i);
        const vf c = code(landing(vload(x + i), &e, divide), &e, compat);
        put_codes(q + i, vsel(vnan(c), e.lo, c), stream);
    }
}

static void codes_few(uint8_t *q, const float *x, size_t n, const rq_fakequant *p)
{
    float v[W] = { 0 };
    uint8_t c[W];
    if (p->in_row) {
        rq_fakequant_codes_scalar(q, x, n, p);
        return;
    }
    memcpy(v, x, n * sizeof *v);
    codes_loop(c, v, W, p, p->divide, false);
    memcpy(q, c, n);
}

void KERNEL(fakequant_codes)(uint8_t *q, const float *x, size_t n, const rq_fakequant *p)
{
    if (p->wide) {
        rq_fakequant_codes_scalar(q, x, n, p);
        return;
    }
    size_t i = 0;
    if (p->stream) {
        i = misaligned(q, sizeof *q, n);
        codes_few(q, x, i, p);
    }
    const size_t whole = (n - i) / W * W;
    const rq_fakequant s = later(p, i);
    if (p->stream && p->divide)
        codes_loop(q + i, x + i, whole, &s, true, true);
    else if (p->stream)
        codes_loop(q + i, x + i, whole, &s, false, true);
    else if (p->divide)
        codes_loop(q + i, x + i, whole, &s, true, false);
    else
        codes_loop(q + i, x + i, whole, &s, false, false);
    i += whole;
    const rq_fakequant r = later(p, i);
    codes_few(q + i, x + i, n - i, &r);
}

void KERNEL(stream_end)(void)
{
    fence();
}
