/* quant/fq_codes.c — fake quantization stopped half way: the codes themselves, of any storage, and back; packing of 4 and 2
 * bits. Dequantizing the codes of x gives what fake quantization gives (but for the sign of zeros and for NaN, which codes
 * do not have). Pieces, spans and tiles as in fake_quantize.c; a piece holds whole bytes of packed codes. */
#include <math.h>

#include "quant/exec.h"
#include "quant/fake_quantize.h"
#include "tensor/convert.h"
#include "tensor/pack.h"
#include "tensor/strided.h"

typedef struct job job;
struct job {
    rq_kernels k;
    rq_fq_plan plan;
    const rq_strided *v; /* the reals */
    uint8_t *codes;
    int bits; /* of a code */
    bool is_signed;
    /* n <= RQ_FQ_TILE, unless reals lie in a row and codes are bytes */
    void (*span)(const job *j, int64_t at, int64_t n, const rq_fakequant *p);
    bool direct;
};

/* ---- to codes ---- */

static void put_integers(const job *j, int64_t at, int64_t n, const int32_t *q)
{
    uint8_t bytes[RQ_FQ_TILE];
    if (j->bits == 16) {
        uint16_t *to = (uint16_t *)(void *)j->codes + at;
        for (int64_t i = 0; i < n; i++)
            to[i] = (uint16_t)q[i];
        return;
    }
    uint8_t *to = j->bits == 8 ? j->codes + at : bytes;
    for (int64_t i = 0; i < n; i++)
        to[i] = (uint8_t)q[i];
    if (j->bits < 8)
        rq_pack_put(j->codes, at, n, bytes, j->bits);
}

/* 16 bits: what fake quantization gives for a scale of 1 and no zero point on the way back is the code itself. */
static void quantize_16(const job *j, int64_t at, int64_t n, const float *x, const rq_fakequant *p)
{
    int32_t q[RQ_FQ_TILE];
    if (p->in_row || p->wide) {
        rq_fakequant_integers(q, x, (size_t)n, p);
    } else {
        float c[RQ_FQ_TILE];
        rq_fakequant same = *p;
        same.out = 1;
        same.back = -0.0f;
        same.undivide = false;
        j->k.fakequant(c, NULL, x, (size_t)n, &same);
        for (int64_t i = 0; i < n; i++)
            q[i] = (int32_t)(c[i] == c[i] ? c[i] : p->lo);
    }
    put_integers(j, at, n, q);
}

static void quantize_f32(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    float tile[RQ_FQ_TILE];
    const float *x = rq_strided_read(j->v, at, n, tile);
    if (j->bits == 16) {
        quantize_16(j, at, n, x, p);
        return;
    }
    uint8_t bytes[RQ_FQ_TILE];
    j->k.fakequant_codes(j->bits == 8 ? j->codes + at : bytes, x, (size_t)n, p);
    if (j->bits < 8)
        rq_pack_put(j->codes, at, n, bytes, j->bits);
}

static void quantize_f64(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    double x[RQ_FQ_TILE];
    int32_t q[RQ_FQ_TILE];
    rq_strided_read_f64(j->v, at, n, x);
    rq_fakequant_integers_f64(q, x, (size_t)n, p);
    put_integers(j, at, n, q);
}

static void quantize_float8(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    float tile[RQ_FQ_TILE];
    const float *x = rq_strided_read(j->v, at, n, tile);
    rq_fakequant e = *p;
    for (int64_t i = 0; i < n; i++) {
        rq_fakequant_move(&e, p, (size_t)i);
        j->codes[at + i] = rq_convert_f32_to_f8(j->plan.f->type.dtype, rq_fakequant_scaled(x[i], &e), true);
    }
}

/* ---- to reals ---- */

/* Codes of at most 8 bits at..at+n-1, a byte each: theirs, or in tile. */
static const uint8_t *get_bytes(const job *j, int64_t at, int64_t n, uint8_t *tile)
{
    if (j->bits == 8)
        return j->codes + at;
    rq_pack_get(tile, j->codes, at, n, j->bits, j->is_signed);
    return tile;
}

/* Codes at..at+n-1 as floats, which hold them exactly. */
static void get_codes(const job *j, int64_t at, int64_t n, float *c)
{
    if (j->bits == 16) {
        const uint16_t *w = (const uint16_t *)(const void *)j->codes + at;
        for (int64_t i = 0; i < n; i++)
            c[i] = j->is_signed ? (float)(int16_t)w[i] : (float)w[i];
        return;
    }
    uint8_t tile[RQ_FQ_TILE];
    const uint8_t *b = get_bytes(j, at, n, tile);
    for (int64_t i = 0; i < n; i++)
        c[i] = j->is_signed ? (float)(int8_t)b[i] : (float)b[i];
}

static void dequantize_f32(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    float tile[RQ_FQ_TILE];
    float *y = rq_strided_direct(j->v, at);
    if (!y)
        y = tile;
    if (j->bits <= 8 && !p->in_row && !p->undivide && !p->wide) {
        const int32_t zp = (int32_t)-p->back;
        uint8_t bytes[RQ_FQ_TILE];
        const uint8_t *c = get_bytes(j, at, n, bytes);
        if (j->is_signed)
            j->k.dequantize_s8(y, (const int8_t *)c, (size_t)n, p->out, zp);
        else
            j->k.dequantize_u8(y, c, (size_t)n, p->out, zp);
    } else {
        get_codes(j, at, n, y);
        rq_fakequant e = *p;
        for (int64_t i = 0; i < n; i++) {
            rq_fakequant_move(&e, p, (size_t)i);
            y[i] = rq_fakequant_real(y[i], &e);
        }
    }
    if (y == tile)
        rq_strided_write(j->v, at, n, tile);
}

static void dequantize_f64(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    float c[RQ_FQ_TILE];
    double y[RQ_FQ_TILE];
    get_codes(j, at, n, c);
    rq_fakequant e = *p;
    for (int64_t i = 0; i < n; i++) {
        rq_fakequant_move(&e, p, (size_t)i);
        y[i] = rq_fakequant_real_f64((double)c[i], &e);
    }
    rq_strided_write_f64(j->v, at, n, y);
}

static void dequantize_float8(const job *j, int64_t at, int64_t n, const rq_fakequant *p)
{
    float tile[RQ_FQ_TILE];
    rq_fakequant e = *p;
    for (int64_t i = 0; i < n; i++) {
        rq_fakequant_move(&e, p, (size_t)i);
        tile[i] = rq_fakequant_real(j->plan.float8[j->codes[at + i]], &e);
    }
    rq_strided_write(j->v, at, n, tile);
}

/* ---- tensors ---- */

static void piece(void *arg, int64_t i)
{
    const job *j = arg;
    int64_t at = i * RQ_FQ_PIECE;
    const int64_t left = j->plan.count - at, end = at + (left < RQ_FQ_PIECE ? left : RQ_FQ_PIECE);
    while (at < end) {
        rq_fakequant p;
        const int64_t n = rq_fq_plan_span(&j->plan, at, j->direct || end - at < RQ_FQ_TILE ? end - at : RQ_FQ_TILE, &p);
        j->span(j, at, n, &p);
        at += n;
    }
    if (j->plan.base.stream)
        j->k.stream_end();
}

/* Checks both sides, makes the plan and runs. spans: of f32, f64 and float8. */
static rq_status run(job *j, rq_exec *e, const rq_tensor *codes, const rq_strided *v, const char *what, const rq_fq *f,
                     void (*const spans[3])(const job *, int64_t, int64_t, const rq_fakequant *), rq_err *err)
{
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    RQ_TRY(rq_strided_check(v, what, true, err));
    RQ_TRY(rq_fq_check(f, &v->shape, err));
    RQ_TRY(rq_fq_plan_init(&j->plan, f, &v->shape, err));
    rq_status st = RQ_OK;
    if (codes->dtype != f->type.dtype)
        st = rq_fail(err, RQ_BAD_DTYPE, "codes of %s, expected %s", rq_dtype_name(codes->dtype),
                     rq_dtype_name(f->type.dtype));
    else if (!rq_shape_equal(&codes->shape, &v->shape))
        st = rq_fail(err, RQ_BAD_SHAPE, "codes of the shape %s, expected %s as %s",
                     rq_shape_text(&codes->shape, a, sizeof a), rq_shape_text(&v->shape, b, sizeof b), what);
    else if (!codes->data && j->plan.count)
        st = rq_fail(err, RQ_BAD_ARG, "codes of the shape %s have no data", rq_shape_text(&codes->shape, a, sizeof a));
    if (!st) {
        j->k = rq_exec_kernels(e);
        j->v = v;
        j->codes = codes->u8;
        j->bits = rq_dtype_bits(codes->dtype);
        j->is_signed = rq_qtype_is_signed(&f->type);
        j->direct = j->bits == 8 && !rq_qtype_is_float(&f->type) && rq_strided_direct(v, 0);
        j->plan.base.stream = j->direct && 5 * j->plan.count >= RQ_FQ_STREAM_BYTES;
        j->span = spans[rq_qtype_is_float(&f->type) ? 2 : v->dtype == RQ_DTYPE_F64 ? 1 : 0];
        rq_threads_for(rq_exec_pool(e), (j->plan.count + RQ_FQ_PIECE - 1) / RQ_FQ_PIECE, piece, j);
    }
    rq_fq_plan_release(&j->plan);
    return st;
}

rq_status rq_fq_quantize(rq_exec *e, rq_tensor *codes, const rq_strided *x, const rq_fq *f, rq_err *err)
{
    job j = { 0 };
    return run(&j, e, codes, x, "x", f,
               (void (*const[3])(const job *, int64_t, int64_t, const rq_fakequant *)) { quantize_f32, quantize_f64,
                                                                                         quantize_float8 },
               err);
}

rq_status rq_fq_dequantize(rq_exec *e, const rq_strided *y, const rq_tensor *codes, const rq_fq *f, rq_err *err)
{
    job j = { 0 };
    return run(&j, e, codes, y, "y", f,
               (void (*const[3])(const job *, int64_t, int64_t, const rq_fakequant *)) { dequantize_f32, dequantize_f64,
                                                                                         dequantize_float8 },
               err);
}

/* ---- packing ---- */

/* `whole` has a code per byte, `packed` fewer bits; both one shape and sign. */
static rq_status check_pack(const rq_tensor *whole, const rq_tensor *packed, rq_err *err)
{
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    const rq_qtype w = rq_qtype_of(whole->dtype), p = rq_qtype_of(packed->dtype);
    if (rq_dtype_bits(w.dtype) != 8 || w.hi == 0 || rq_dtype_bits(p.dtype) > 4 || p.hi == 0 ||
        rq_qtype_is_signed(&w) != rq_qtype_is_signed(&p))
        return rq_fail(err, RQ_BAD_DTYPE,
                       "%s and %s: packed are s4 or s2 beside s8, and u4 or u2 beside u8, on the other side",
                       rq_dtype_name(w.dtype), rq_dtype_name(p.dtype));
    if (rq_shape_check(&whole->shape) || !rq_shape_equal(&whole->shape, &packed->shape))
        return rq_fail(err, RQ_BAD_SHAPE, "codes of the shape %s and packed ones of %s, expected the same",
                       rq_shape_text(&whole->shape, a, sizeof a), rq_shape_text(&packed->shape, b, sizeof b));
    if (rq_tensor_count(whole) && (!whole->data || !packed->data))
        return rq_fail(err, RQ_BAD_ARG, "codes of the shape %s have no data",
                       rq_shape_text(&whole->shape, a, sizeof a));
    return RQ_OK;
}

rq_status rq_fq_pack(rq_tensor *dst, const rq_tensor *src, rq_err *err)
{
    RQ_TRY(check_pack(src, dst, err));
    const rq_qtype t = rq_qtype_of(dst->dtype);
    const int64_t n = rq_tensor_count(src);
    for (int64_t i = 0; i < n; i++) {
        const int v = t.lo < 0 ? src->s8[i] : src->u8[i];
        if (v < t.lo || v > t.hi)
            return rq_fail(err, RQ_NUMERIC, "code %lld is %d, expected %d to %d to pack it as %s", (long long)i, v,
                           (int)t.lo, (int)t.hi, rq_dtype_name(dst->dtype));
    }
    const int bits = rq_dtype_bits(dst->dtype);
    if (n % (8 / bits))
        dst->u8[n * bits / 8] = 0; /* what no code fills is 0 */
    rq_pack_put(dst->u8, 0, n, src->u8, bits);
    return RQ_OK;
}

rq_status rq_fq_unpack(rq_tensor *dst, const rq_tensor *src, rq_err *err)
{
    RQ_TRY(check_pack(dst, src, err));
    const rq_qtype t = rq_qtype_of(src->dtype);
    rq_pack_get(dst->u8, src->u8, 0, rq_tensor_count(src), rq_dtype_bits(src->dtype), t.lo < 0);
    return RQ_OK;
}
