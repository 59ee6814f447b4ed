/* coreml/affine.c — ranges of blocks, scales and zero points, codes. Work is cut by elements, never by threads, so any number of threads gives the
 * same bits. */
#include "coreml/affine.h"

#include <math.h>
#include <string.h>

#include "base/cpu.h"
#include "base/file.h"
#include "base/mem.h"
#include "formats/milblob.h"
#include "kernels/kernels.h"
#include "kernels/quantize.h"
#include "tensor/convert.h"

enum {
    ITEM = 1 << 16,    /* elements that one thread does at a time */
    SLAB = 1 << 21,    /* elements between two releases of pages */
    STAGE = 512,       /* elements in fp32 at a time */
    SHORT = 16,        /* blocks of fewer elements than this are done element by element */
    THREADED = 1 << 19 /* elements from which on threads are worth their making */
};

/* ---- one block ---- */

void rq_coreml_affine_codes(const rq_coreml_affine_type *t, int32_t *lo, int32_t *hi)
{
    const int32_t n = 1 << t->nbits;
    *lo = t->is_signed ? -n / 2 + t->symmetric : 0;
    *hi = t->is_signed ? n / 2 - 1 : n - 1 - t->symmetric;
}

static float step(const rq_coreml_affine_type *t, float x)
{
    return t->half ? rq_convert_f16_to_f32(rq_convert_f32_to_f16(x)) : x;
}

void rq_coreml_affine_params(const rq_coreml_affine_type *t, float lo, float hi, float *scale, int32_t *zp)
{
    int32_t first, last;
    rq_coreml_affine_codes(t, &first, &last);
    if (t->symmetric) {
        const float m = fmaxf(fabsf(lo), fabsf(hi));
        lo = -m;
        hi = m;
    } else {
        lo = lo < 0 ? lo : 0;
        hi = hi > 0 ? hi : 0;
    }
    const float range = step(t, hi - lo);
    *scale = step(t, range / (float)(last - first));
    *zp = 0;
    if (t->symmetric && !t->is_signed)
        *zp = last / 2;
    if (!t->symmetric) {
        const float above = step(t, (float)first * hi), below = step(t, (float)last * lo);
        const float at = step(t, step(t, above - below) / range);
        *zp = isnan(at) ? 0 : rq_quantize_clamp(at, (float)first, (float)last);
    }
}

/* ---- the blocks of a weight ---- */

void rq_coreml_affine_init(rq_coreml_affine *a, const rq_coreml_affine_type *t, int rank, const int64_t *dim,
                           const int64_t *block)
{
    *a = (rq_coreml_affine) { .type = *t, .n = 1, .n_blocks = 1 };
    for (int i = 0; i < rank; i++) {
        const int64_t length = block[i] > 0 ? block[i] : dim[i], count = dim[i] / length;
        a->n *= dim[i];
        a->n_blocks *= count;
        if (a->n_axes && a->axis[a->n_axes - 1].length == 1) {
            a->axis[a->n_axes - 1].count *= count;
            a->axis[a->n_axes - 1].length = length;
        } else if (a->n_axes && count == 1) {
            a->axis[a->n_axes - 1].length *= length;
        } else {
            a->axis[a->n_axes].count = count;
            a->axis[a->n_axes++].length = length;
        }
    }
    if (!a->n_axes) {
        a->n_axes = 1;
        a->axis[0].count = a->axis[0].length = 1;
    }
}

/* The block of the first element of row r: rows are what lies along the last axis. */
static int64_t block_of_row(const rq_coreml_affine *a, int64_t r)
{
    int64_t block = 0, stride = a->axis[a->n_axes - 1].count;
    for (int i = a->n_axes - 2; i >= 0; i--) {
        const int64_t size = a->axis[i].count * a->axis[i].length;
        block += r % size / a->axis[i].length * stride;
        stride *= a->axis[i].count;
        r /= size;
    }
    return block;
}

/* ---- fp16 ---- */

/* Exact: fp16 is multiplied up from numbers of fp32 with the same bits. Infinities become 65536 and more. */
static void widen(float *y, const uint16_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = (uint32_t)(x[i] & 0x7fff) << 13;
        float v;
        memcpy(&v, &bits, sizeof v);
        v *= 0x1p112f;
        y[i] = x[i] & 0x8000 ? -v : v;
    }
}

/* As integers in the order of the numbers: zeros, then away from them, the negative ones below. */
static inline int16_t order_of(uint16_t h)
{
    return (int16_t)(h & 0x8000 ? h ^ 0x7fff : h);
}

static float number_of(int16_t order)
{
    return rq_convert_f16_to_f32((uint16_t)(order < 0 ? order ^ 0x7fff : order));
}

/* ---- ranges ---- */

typedef struct measure {
    rq_coreml_affine *a;
    const void *w;
    rq_kernels k;
    float *lo, *hi; /* [n_blocks] */
    int64_t first;  /* element that the slab begins with */
    int64_t item;   /* elements of an item */
    int64_t end;
    float *part_lo, *part_hi; /* [items of a slab] where blocks are longer than items */
    bool *bad;                /* [items of a slab] */
} measure;

static void range_of(const measure *m, int64_t from, int64_t n, float *lo, float *hi, bool *bad)
{
    *lo = INFINITY;
    *hi = -INFINITY;
    if (!m->a->type.half) {
        size_t finite;
        m->k.minmax((const float *)m->w + from, (size_t)n, lo, hi, &finite);
        *bad |= finite < (size_t)n;
        return;
    }
    const uint16_t *h = (const uint16_t *)m->w + from;
    int16_t least = INT16_MAX, most = INT16_MIN;
    for (int64_t i = 0; i < n; i++) {
        const int16_t v = order_of(h[i]);
        least = v < least ? v : least;
        most = v > most ? v : most;
    }
    *lo = number_of(least);
    *hi = number_of(most);
    *bad |= !(*hi <= 65504) || !(*lo >= -65504);
}

/* One axis: blocks lie one behind another. An item is a part of a block, or some blocks. */
static void measure_item(void *arg, int64_t i)
{
    const measure *m = arg;
    const int64_t length = m->a->axis[0].length;
    const int64_t from = m->first + i * m->item, to = from + m->item < m->end ? from + m->item : m->end;
    m->bad[i] = false;
    if (length > ITEM) {
        range_of(m, from, to - from, &m->part_lo[i], &m->part_hi[i], &m->bad[i]); /* the slab ends with the block */
        return;
    }
    for (int64_t at = from; at < to; at += length)
        range_of(m, at, length, &m->lo[at / length], &m->hi[at / length], &m->bad[i]);
}

static rq_coreml_affine_fault fault_in(const measure *m, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) {
        const float v = m->a->type.half ? rq_convert_f16_to_f32(((const uint16_t *)m->w)[i]) : ((const float *)m->w)[i];
        if (isinf(v))
            return RQ_COREML_AFFINE_INF;
    }
    return RQ_COREML_AFFINE_NAN;
}

static void forget(const rq_coreml_affine *a, const void *w, int64_t from, int64_t to, bool mapped)
{
    const int64_t size = a->type.half ? 2 : 4;
    if (mapped)
        rq_file_forget((const char *)w + from * size, (size_t)((to - from) * size));
}

/* Blocks longer than an item begin with an item of their own: items then never reach over the end of a block. */
static rq_coreml_affine_fault measure_row(measure *m, bool mapped, rq_threads *t)
{
    const int64_t length = m->a->axis[0].length, n = m->a->n;
    rq_coreml_affine_fault fault = RQ_COREML_AFFINE_FINE;
    m->item = length > ITEM ? ITEM : ITEM / length * length;
    for (m->first = 0; m->first < n && fault == RQ_COREML_AFFINE_FINE; m->first = m->end) {
        int64_t most = SLAB / m->item * m->item;
        if (length > ITEM && most > length - m->first % length)
            most = length - m->first % length;
        m->end = n - m->first < most ? n : m->first + most;
        const int64_t items = (m->end - m->first + m->item - 1) / m->item;
        rq_threads_for(t, items, measure_item, m);
        for (int64_t i = 0; i < items; i++) {
            if (length > ITEM) {
                float *lo = &m->lo[m->first / length], *hi = &m->hi[m->first / length];
                *lo = m->part_lo[i] < *lo ? m->part_lo[i] : *lo;
                *hi = m->part_hi[i] > *hi ? m->part_hi[i] : *hi;
            }
            if (m->bad[i] && fault != RQ_COREML_AFFINE_INF)
                fault = fault_in(m, m->first, m->end);
        }
        forget(m->a, m->w, m->first, m->end, mapped);
    }
    return fault;
}

/* Several axes: element by element along the last one. */
static rq_coreml_affine_fault measure_rows(measure *m, bool mapped)
{
    const rq_coreml_affine *a = m->a;
    const int64_t count = a->axis[a->n_axes - 1].count, length = a->axis[a->n_axes - 1].length, row = count * length;
    float stage[STAGE];
    bool bad = false;
    int64_t kept = 0;
    for (int64_t at = 0; at < a->n; at += row) {
        const int64_t first = block_of_row(a, at / row);
        for (int64_t i = 0; i < row; i += STAGE) {
            const int64_t some = row - i < STAGE ? row - i : STAGE;
            const float *x = (const float *)m->w + at + i;
            if (a->type.half) {
                widen(stage, (const uint16_t *)m->w + at + i, some);
                x = stage;
            }
            int64_t block = first + i / length, left = length - i % length;
            for (int64_t k = 0; k < some; k++) {
                const float v = x[k];
                m->lo[block] = v < m->lo[block] ? v : m->lo[block];
                m->hi[block] = v > m->hi[block] ? v : m->hi[block];
                bad |= !(fabsf(v) <= (a->type.half ? 65504.0f : 0x1.fffffep127f));
                if (--left == 0) {
                    block++;
                    left = length;
                }
            }
        }
        if (at + row - kept >= SLAB || at + row == a->n) {
            if (bad)
                return fault_in(m, kept, at + row);
            forget(a, m->w, kept, at + row, mapped);
            kept = at + row;
        }
    }
    return RQ_COREML_AFFINE_FINE;
}

rq_status rq_coreml_affine_measure(rq_coreml_affine *a, const void *w, bool mapped, rq_threads *t,
                                   rq_coreml_affine_fault *fault, rq_err *err)
{
    unsigned cpu;
    measure m = { .a = a, .w = w };
    const size_t items = SLAB;
    m.lo = rq_mem_alloc((size_t)a->n_blocks, sizeof(float));
    m.hi = rq_mem_alloc((size_t)a->n_blocks, sizeof(float));
    m.part_lo = rq_mem_alloc(items / ITEM * 2 + 2, sizeof(float));
    m.part_hi = rq_mem_alloc(items / ITEM * 2 + 2, sizeof(float));
    m.bad = rq_mem_alloc(items / ITEM * 2 + 2, sizeof(bool));
    rq_kernels_init(&m.k, rq_cpu_pinned(&cpu, NULL) ? 0 : cpu);
    const bool ok = m.lo && m.hi && m.part_lo && m.part_hi && m.bad;
    if (ok) {
        for (int64_t i = 0; i < a->n_blocks; i++) {
            m.lo[i] = INFINITY;
            m.hi[i] = -INFINITY;
        }
        *fault = a->n_axes == 1 ? measure_row(&m, mapped, a->n >= THREADED ? t : NULL) : measure_rows(&m, mapped);
        for (int64_t i = 0; i < a->n_blocks && *fault == RQ_COREML_AFFINE_FINE; i++) {
            int32_t zp;
            rq_coreml_affine_params(&a->type, m.lo[i], m.hi[i], &a->scale[i], &zp);
            if (a->zp)
                a->zp[i] = (int8_t)(uint8_t)zp;
        }
    }
    rq_mem_free(m.lo);
    rq_mem_free(m.hi);
    rq_mem_free(m.part_lo);
    rq_mem_free(m.part_hi);
    rq_mem_free(m.bad);
    return ok ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "not enough memory to quantize a weight");
}

/* ---- codes ---- */

static int32_t zp_of(const rq_coreml_affine *a, int64_t block)
{
    return !a->zp ? 0 : a->type.is_signed ? a->zp[block] : (uint8_t)a->zp[block];
}

/* A scale that fp16 or fp32 has no number for is 0: what is not 0 goes to an end. */
static uint8_t at_end(float x, int32_t lo, int32_t hi)
{
    return x > 0 ? (uint8_t)hi : x < 0 ? (uint8_t)lo : 0;
}

typedef struct coder {
    const rq_coreml_affine *a;
    const void *w;
    rq_kernels k;
    int32_t lo, hi;
} coder;

static float element(const coder *c, int64_t i)
{
    return c->a->type.half ? rq_convert_f16_to_f32(((const uint16_t *)c->w)[i]) : ((const float *)c->w)[i];
}

/* n elements from `from` on, all of one block. */
static void encode_block(const coder *c, int64_t from, int64_t n, int64_t block, uint8_t *codes)
{
    const rq_coreml_affine *a = c->a;
    const int32_t zp = zp_of(a, block);
    const float scale = a->scale[block];
    if (scale == 0)
        for (int64_t i = 0; i < n; i++)
            codes[i] = at_end(element(c, from + i), c->lo, c->hi);
    else if (a->type.half)
        c->k.quantize_half(codes, (const uint16_t *)c->w + from, (size_t)n, scale, zp, c->lo, c->hi);
    else if (a->type.is_signed)
        c->k.quantize_s8((int8_t *)codes, (const float *)c->w + from, (size_t)n, scale, zp, c->lo, c->hi);
    else
        c->k.quantize_u8(codes, (const float *)c->w + from, (size_t)n, scale, zp, c->lo, c->hi);
}

/* n elements from `from` on: the first is element `in` of `block`, of this length; blocks follow one another. */
static void encode_short(const coder *c, int64_t from, int64_t n, int64_t block, int64_t in, int64_t length,
                         uint8_t *codes)
{
    const rq_coreml_affine *a = c->a;
    for (int64_t i = 0; i < n; i++) {
        const float scale = a->scale[block];
        const int32_t zp = zp_of(a, block);
        if (scale == 0)
            codes[i] = at_end(element(c, from + i), c->lo, c->hi);
        else if (a->type.half)
            c->k.quantize_half(&codes[i], (const uint16_t *)c->w + from + i, 1, scale, zp, c->lo, c->hi);
        else
            codes[i] = (uint8_t)rq_quantize_one(((const float *)c->w)[from + i], scale, zp, c->lo, c->hi);
        if (++in == length) {
            in = 0;
            block++;
        }
    }
}

static void encode(const coder *c, int64_t from, int64_t to, uint8_t *codes)
{
    const rq_coreml_affine *a = c->a;
    const int64_t length = a->axis[a->n_axes - 1].length, row = a->axis[a->n_axes - 1].count * length;
    while (from < to) {
        const int64_t in_row = from % row, end = from - in_row + row < to ? from - in_row + row : to;
        int64_t block = block_of_row(a, from / row) + in_row / length, in = in_row % length;
        if (length < SHORT) {
            encode_short(c, from, end - from, block, in, length, codes);
            codes += end - from;
            from = end;
            continue;
        }
        for (; from < end; block++, in = 0) {
            const int64_t n = end - from < length - in ? end - from : length - in;
            encode_block(c, from, n, block, codes);
            codes += n;
            from += n;
        }
    }
}

static coder coder_of(const rq_coreml_affine *a, const void *w)
{
    unsigned cpu;
    coder c = { .a = a, .w = w };
    rq_kernels_init(&c.k, rq_cpu_pinned(&cpu, NULL) ? 0 : cpu);
    rq_coreml_affine_codes(&a->type, &c.lo, &c.hi);
    return c;
}

void rq_coreml_affine_quantize(const rq_coreml_affine *a, const void *w, int64_t from, int64_t to, uint8_t *codes)
{
    const coder c = coder_of(a, w);
    encode(&c, from, to, codes);
}

/* ---- writing ---- */

typedef struct writing {
    coder c;
    int64_t first, end;
    uint8_t *out; /* packed codes of the slab */
} writing;

static void write_item(void *arg, int64_t i)
{
    const writing *w = arg;
    const int64_t from = w->first + i * ITEM, to = from + ITEM < w->end ? from + ITEM : w->end;
    uint8_t codes[4096] = { 0 };
    if (w->c.a->type.nbits == 8) {
        encode(&w->c, from, to, w->out + i * ITEM);
        return;
    }
    for (int64_t at = from; at < to; at += (int64_t)sizeof codes) {
        const int64_t n = to - at < (int64_t)sizeof codes ? to - at : (int64_t)sizeof codes;
        uint8_t *out = w->out + (at - w->first) / 2;
        encode(&w->c, at, at + n, codes);
        if (n % 2)
            codes[n] = 0;
        for (int64_t k = 0; k < n; k += 2)
            out[k / 2] = (uint8_t)((codes[k] & 15) | codes[k + 1] << 4);
    }
}

rq_status rq_coreml_affine_write(const rq_coreml_affine *a, const void *w, bool mapped, rq_milblob_writer *to,
                                 rq_err *err)
{
    writing s = { .c = coder_of(a, w) };
    rq_threads *t = NULL;
    const int64_t most = a->n < SLAB ? a->n : SLAB;
    s.out = rq_mem_alloc((size_t)most, 1);
    if (!s.out || (a->n >= THREADED && rq_threads_create(&t, 0) != RQ_OK)) {
        rq_mem_free(s.out);
        return rq_fail(err, RQ_NO_MEMORY, "not enough memory to quantize a weight");
    }
    rq_status st = RQ_OK;
    for (s.first = 0; !st && s.first < a->n; s.first = s.end) {
        s.end = a->n - s.first < SLAB ? a->n : s.first + SLAB;
        const int64_t n = s.end - s.first;
        rq_threads_for(t, (n + ITEM - 1) / ITEM, write_item, &s);
        st = rq_milblob_write(to, s.out, (size_t)(a->type.nbits == 8 ? n : (n + 1) / 2), err);
        forget(a, w, s.first, s.end, mapped);
    }
    rq_threads_destroy(t);
    rq_mem_free(s.out);
    return st;
}
