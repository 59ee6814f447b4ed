/* coreml/affine.c — ranges of blocks, scales and zero points, codes. Work is cut by elements, never by threads, so any number of threads gives the
 * same bits. */
#include "coreml/affine.h"

#include <math.h>
#include <string.h>

#include "base/cpu.h"
#include "base/file.h"
#include "base/mem.h"
#include "formats/milblob.h"
#include "kernels/quantize.h"
#include "tensor/convert.h"

enum {
    ITEM = 1 << 16,    /* elements that one thread does at a time */
    SLAB = 1 << 21,    /* elements between two releases of pages */
    STAGE = 512,       /* elements in fp32 at a time */
    BLOCKS = 256,      /* whose ranges become scales at a time */
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

/* Arithmetic in the type: each step is done to all blocks, then rounded. */
static void rounded(const rq_kernels *k, const rq_coreml_affine_type *t, float *x, size_t n)
{
    uint16_t half[BLOCKS];
    if (!t->half)
        return;
    k->half_from_float(half, x, n);
    k->half_to_float(x, half, n);
}

/* n <= BLOCKS */
static void params_of(const rq_kernels *k, const rq_coreml_affine_type *t, size_t n, const float *lo, const float *hi,
                      float *restrict scale, int8_t *restrict zp)
{
    int32_t first, last;
    float range[BLOCKS], above[BLOCKS], below[BLOCKS]; /* above: what becomes the zero point */
    rq_coreml_affine_codes(t, &first, &last);
    const float f = (float)first, l = (float)last;
    for (size_t i = 0; i < n; i++) {
        const float least = lo[i] < 0 ? lo[i] : 0, most = hi[i] > 0 ? hi[i] : 0;
        const float ends = most >= -least ? most : -least; /* 0, not -0, where all are zeros */
        range[i] = t->symmetric ? ends + ends : most - least;
        above[i] = f * most;
        below[i] = l * least;
    }
    rounded(k, t, range, n);
    for (size_t i = 0; i < n; i++)
        scale[i] = range[i] / (l - f);
    rounded(k, t, scale, n);
    if (!zp)
        return;
    if (t->symmetric) {
        memset(zp, t->is_signed ? 0 : last / 2, n);
        return;
    }
    rounded(k, t, above, n);
    rounded(k, t, below, n);
    for (size_t i = 0; i < n; i++)
        above[i] -= below[i];
    rounded(k, t, above, n);
    for (size_t i = 0; i < n; i++)
        above[i] /= range[i];
    rounded(k, t, above, n);
    for (size_t i = 0; i < n; i++) {
        const int32_t code = rq_quantize_wide((double)above[i], 0, first, last);
        zp[i] = (int8_t)(uint8_t)(above[i] == above[i] ? code : 0); /* NaN: of a block of zeros */
    }
}

void rq_coreml_affine_params(const rq_kernels *k, const rq_coreml_affine_type *t, size_t n, const float *lo,
                             const float *hi, float *scale, int8_t *zp)
{
    for (size_t i = 0; i < n; i += BLOCKS)
        params_of(k, t, n - i < BLOCKS ? n - i : BLOCKS, lo + i, hi + i, scale + i, zp ? zp + i : NULL);
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

/* ---- ranges ---- */

typedef struct measure {
    rq_coreml_affine *a;
    const void *w;
    rq_kernels k;
    float *lo, *hi;           /* [n_blocks] where no item sees a block as a whole, else NULL */
    int64_t first, end;       /* elements of the slab */
    int64_t before;           /* where the slab before it began */
    int64_t item;             /* elements of an item */
    bool mapped;              /* pages of slabs that are done may go */
    float *part_lo, *part_hi; /* [items of a slab] where blocks are longer than items */
    bool *bad;                /* [items of a slab] */
} measure;

/* Of n blocks of this length from element `from` on. False: an element is no real. */
static bool ranges_of(const measure *m, int64_t from, int64_t n, int64_t length, float *lo, float *hi)
{
    bool fine = true;
    if (!m->a->type.half) {
        for (int64_t i = 0; i < n; i++) {
            size_t finite;
            m->k.minmax((const float *)m->w + from + i * length, (size_t)length, &lo[i], &hi[i], &finite);
            fine &= finite == (size_t)length;
        }
        return fine;
    }
    uint16_t least[BLOCKS], most[BLOCKS];
    m->k.half_minmax(least, most, (const uint16_t *)m->w + from, (size_t)n, (size_t)length);
    m->k.half_to_float(lo, least, (size_t)n);
    m->k.half_to_float(hi, most, (size_t)n);
    for (int64_t i = 0; i < n; i++)
        fine &= hi[i] <= 65504 && lo[i] >= -65504;
    return fine;
}

static void forget(const rq_coreml_affine *a, const void *w, int64_t from, int64_t to, bool mapped)
{
    const int64_t size = a->type.half ? 2 : 4;
    if (mapped)
        rq_file_forget((const char *)w + from * size, (size_t)((to - from) * size));
}

/* One axis: blocks lie one behind another. An item is a part of a block, or some blocks; item 0 clears up behind the slab before. */
static void measure_item(void *arg, int64_t item)
{
    const measure *m = arg;
    const rq_coreml_affine *a = m->a;
    const int64_t length = a->axis[0].length, i = item - 1;
    const int64_t from = m->first + i * m->item, to = from + m->item < m->end ? from + m->item : m->end;
    if (item == 0) {
        forget(a, m->w, m->before, m->first, m->mapped);
        return;
    }
    if (length > ITEM) {
        m->bad[i] =
            !ranges_of(m, from, 1, to - from, &m->part_lo[i], &m->part_hi[i]); /* the slab ends with the block */
        return;
    }
    m->bad[i] = false;
    for (int64_t block = from / length, end = to / length; block < end; block += BLOCKS) {
        float lo[BLOCKS] = { 0 }, hi[BLOCKS] = { 0 };
        const int64_t n = end - block < BLOCKS ? end - block : BLOCKS;
        m->bad[i] |= !ranges_of(m, block * length, n, length, lo, hi);
        rq_coreml_affine_params(&m->k, &a->type, (size_t)n, lo, hi, a->scale + block, a->zp ? a->zp + block : NULL);
    }
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

/* Blocks longer than an item begin with an item of their own: items then never reach over the end of a block. */
static rq_coreml_affine_fault measure_row(measure *m, rq_threads *t)
{
    const int64_t length = m->a->axis[0].length, n = m->a->n;
    rq_coreml_affine_fault fault = RQ_COREML_AFFINE_FINE;
    m->item = length > ITEM ? ITEM : ITEM / length * length;
    for (m->first = 0; m->first < n && fault == RQ_COREML_AFFINE_FINE; m->before = m->first, m->first = m->end) {
        int64_t most = SLAB / m->item * m->item;
        if (length > ITEM && most > length - m->first % length)
            most = length - m->first % length;
        m->end = n - m->first < most ? n : m->first + most;
        const int64_t items = (m->end - m->first + m->item - 1) / m->item;
        rq_threads_for(t, 1 + items, measure_item, m);
        for (int64_t i = 0; i < items; i++) {
            if (length > ITEM) {
                float *lo = &m->lo[m->first / length], *hi = &m->hi[m->first / length];
                *lo = m->part_lo[i] < *lo ? m->part_lo[i] : *lo;
                *hi = m->part_hi[i] > *hi ? m->part_hi[i] : *hi;
            }
            if (m->bad[i] && fault != RQ_COREML_AFFINE_INF)
                fault = fault_in(m, m->first, m->end);
        }
    }
    forget(m->a, m->w, m->before, m->first, m->mapped);
    return fault;
}

/* Several axes: element by element along the last one. */
static rq_coreml_affine_fault measure_rows(measure *m)
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
            forget(a, m->w, kept, at + row, m->mapped);
            kept = at + row;
        }
    }
    return RQ_COREML_AFFINE_FINE;
}

rq_status rq_coreml_affine_measure(rq_coreml_affine *a, const void *w, bool mapped, rq_threads *t,
                                   rq_coreml_affine_fault *fault, rq_err *err)
{
    unsigned cpu;
    measure m = { .a = a, .w = w, .mapped = mapped };
    const bool apart = a->n_axes > 1 || a->axis[0].length > ITEM; /* blocks are put together from pieces */
    const size_t items = SLAB / ITEM * 2 + 2, blocks = apart ? (size_t)a->n_blocks : 1;
    m.lo = rq_mem_alloc(blocks, sizeof(float));
    m.hi = rq_mem_alloc(blocks, sizeof(float));
    m.part_lo = rq_mem_alloc(items, sizeof(float));
    m.part_hi = rq_mem_alloc(items, sizeof(float));
    m.bad = rq_mem_alloc(items, sizeof(bool));
    rq_kernels_init(&m.k, rq_cpu_pinned(&cpu, NULL) ? 0 : cpu);
    const bool ok = m.lo && m.hi && m.part_lo && m.part_hi && m.bad;
    if (ok) {
        for (size_t i = 0; i < blocks; i++) {
            m.lo[i] = INFINITY;
            m.hi[i] = -INFINITY;
        }
        *fault = a->n_axes == 1 ? measure_row(&m, a->n >= THREADED ? t : NULL) : measure_rows(&m);
        if (apart && *fault == RQ_COREML_AFFINE_FINE)
            rq_coreml_affine_params(&m.k, &a->type, blocks, m.lo, m.hi, a->scale, a->zp);
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
    int64_t first, end;  /* elements of the slab */
    uint8_t *out;        /* their codes, packed */
    int64_t before;      /* where the slab before it began */
    const uint8_t *made; /* its codes, which nobody has yet */
    rq_milblob_writer *to;
    bool mapped;
    rq_status status;
    rq_err *err;
} writing;

static int64_t packed_bytes(const writing *w, int64_t n)
{
    return w->c.a->type.nbits == 8 ? n : (n + 1) / 2;
}

/* The slab before this one. */
static void hand_over(writing *w)
{
    const int64_t n = w->first - w->before;
    if (n)
        w->status = rq_milblob_write(w->to, w->made, (size_t)packed_bytes(w, n), w->err);
    forget(w->c.a, w->c.w, w->before, w->first, w->mapped);
}

static void pack(uint8_t *restrict out, const uint8_t *restrict codes, int64_t pairs)
{
    for (int64_t i = 0; i < pairs; i++)
        out[i] = (uint8_t)((codes[2 * i] & 15) | codes[2 * i + 1] << 4);
}

/* Item 0 hands over while the others are at the next slab. */
static void write_item(void *arg, int64_t item)
{
    writing *w = arg;
    if (item == 0) {
        hand_over(w);
        return;
    }
    const int64_t i = item - 1, from = w->first + i * ITEM, to = from + ITEM < w->end ? from + ITEM : w->end;
    uint8_t codes[4096] = { 0 };
    if (w->c.a->type.nbits == 8) {
        encode(&w->c, from, to, w->out + i * ITEM);
        return;
    }
    for (int64_t at = from; at < to; at += (int64_t)sizeof codes) {
        const int64_t n = to - at < (int64_t)sizeof codes ? to - at : (int64_t)sizeof codes;
        encode(&w->c, at, at + n, codes);
        if (n % 2)
            codes[n] = 0;
        pack(w->out + (at - w->first) / 2, codes, (n + 1) / 2);
    }
}

rq_status rq_coreml_affine_write(const rq_coreml_affine *a, const void *w, bool mapped, rq_milblob_writer *to,
                                 rq_err *err)
{
    writing s = { .c = coder_of(a, w), .to = to, .mapped = mapped, .err = err };
    rq_threads *t = NULL;
    const int64_t most = a->n < SLAB ? a->n : SLAB;
    uint8_t *room = rq_mem_alloc((size_t)most, a->n > SLAB ? 2 : 1); /* two slabs take turns */
    if (!room || (a->n >= THREADED && rq_threads_create(&t, 0) != RQ_OK)) {
        rq_mem_free(room);
        return rq_fail(err, RQ_NO_MEMORY, "not enough memory to quantize a weight");
    }
    for (s.out = room; s.status == RQ_OK && s.first < a->n; s.before = s.first, s.first = s.end) {
        s.end = a->n - s.first < SLAB ? a->n : s.first + SLAB;
        rq_threads_for(t, 1 + (s.end - s.first + ITEM - 1) / ITEM, write_item, &s);
        s.made = s.out;
        s.out = a->n > SLAB && s.out == room ? room + most : room;
    }
    if (s.status == RQ_OK)
        hand_over(&s);
    rq_threads_destroy(t);
    rq_mem_free(room);
    return s.status;
}
