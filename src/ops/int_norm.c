/* ops/int_norm.c — normalizations on codes. The sums of a row's codes and of their squares are exact integers, so its
 * mean and variance are those of the numbers that the codes stand for, whatever the order; each code is then (q - mean)
 * * inv * gain + bias in f32, in one order on every machine, and rounded once. Where gain and bias are one number for
 * more neighbours than there are codes, that is a table of 256. No runtime has such kernels (docs/onnx-facts.md 5.1):
 * theirs add in f32, within whose rounding this is. */
#include "ops/norm.h"

#include <math.h>
#include <string.h>

#include "ops/bcast.h"
#include "ops/int_ops.h"
#include "quant/codes.h"

enum { TILE = 256, WORK = 16384, MOST = 1 << 23 /* elements of a row whose variance fits 64 bits */ };

bool rq_int_norm_accepts(const rq_op_args *a, const char **why)
{
    rq_norm r;
    *why = "input is not quantized";
    if (!a->in_q[0] || !rq_int_is_activation(a->in_q[0], why))
        return false;
    *why = "its statistics are wanted";
    for (int i = 1; i < a->n_out; i++)
        if (a->out[i])
            return false;
    *why = "scale or bias is not one row";
    if (!rq_norm_of(a, &r))
        return false;
    *why = "a row is too long";
    if (r.n > MOST)
        return false;
    *why = "scale or bias is not f32";
    if ((r.gain && !a->in_q[r.at_gain] && r.gain->dtype != RQ_DTYPE_F32) ||
        (r.bias && !a->in_q[r.at_bias] && r.bias->dtype != RQ_DTYPE_F32))
        return false;
    return rq_int_is_output(a->out_q[0], a->out[0], false, why);
}

size_t rq_int_norm_scratch(const rq_op_args *a)
{
    rq_norm r;
    if (!rq_norm_of(a, &r))
        return 0;
    return (size_t)((r.gain ? rq_tensor_count(r.gain) : 0) + (r.bias ? rq_tensor_count(r.bias) : 0)) * sizeof(float);
}

typedef struct job {
    const rq_op_args *a;
    rq_norm r;
    const float *gain, *bias; /* in reals; NULL: none */
    uint8_t flip;             /* makes s8 codes order as bytes */
    int32_t zero;             /* zero point of such bytes */
    double scale, epsilon;
    int32_t lo, hi;
} job;

/* Mean, in codes, and what a step from it is worth: scale / sqrt(variance + epsilon). */
static void statistics(const job *j, const uint8_t *x, float *mean, float *inv)
{
    enum { BLOCK = 1 << 15 }; /* 255^2 of each still fit */
    const int64_t n = j->r.n;
    uint64_t sum = 0, squares = 0;
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t to = n - at < BLOCK ? n : at + BLOCK;
        uint32_t s, q;
        j->a->k->sums8(&s, &q, x + at, (size_t)(to - at), j->flip);
        sum += s;
        squares += q;
    }
    double variance;
    if (j->r.rms) {
        const int64_t z = j->zero, about = (int64_t)squares - 2 * z * (int64_t)sum + n * z * z;
        variance = (double)about / (double)n;
        *mean = (float)z;
    } else {
        variance = (double)((uint64_t)n * squares - sum * sum) / ((double)n * (double)n);
        *mean = (float)((double)sum / (double)n);
    }
    *inv = (float)(j->scale / sqrt(variance * j->scale * j->scale + j->epsilon));
}

/* A row with gain and bias along it, codes of 8 bits. */
static void normalize_row(const job *j, uint8_t *y, const uint8_t *x, float mean, float inv)
{
    const rq_qparams *q = j->a->out_q[0];
    rq_norm8 p = {
        .flip = j->flip, .inv = inv, .gain = j->gain, .bias = j->bias, .scale = q->scale[0], .zp = q->zero_point[0]
    };
    const float whole = rintf(mean); /* as below */
    p.whole = (int32_t)whole;
    p.rest = (whole - mean) * inv;
    rq_qparams_limits(q, &p.lo, &p.hi);
    j->a->k->norm8(y, x, (size_t)j->r.n, &p);
}

/* n <= TILE codes from x; gain and bias along them, or the one number of each. */
static void normalize(const job *j, uint8_t *y, const uint8_t *x, int64_t n, float mean, float inv, const float *gain,
                      const float *bias, int step)
{
    const rq_kernels *k = j->a->k;
    float v[TILE];
    /* (q - mean) inv by the nearest integer to the mean, then what is left of it */
    const float whole = rintf(mean), rest = (whole - mean) * inv;
    if (j->flip)
        k->dequantize_s8(v, (const int8_t *)x, (size_t)n, inv, (int32_t)whole - 128);
    else
        k->dequantize_u8(v, x, (size_t)n, inv, (int32_t)whole);
    if (rest != 0)
        k->zip[RQ_ZIP_ADD](v, v, 1, &rest, 0, (size_t)n);
    if (gain)
        k->zip[RQ_ZIP_MUL](v, v, 1, gain, step, (size_t)n);
    if (bias)
        k->zip[RQ_ZIP_ADD](v, v, 1, bias, step, (size_t)n);
    rq_tensor to = { .dtype = j->a->out_q[0]->dtype, .data = y };
    rq_int_from_reals(k, &to, 0, v, n, j->a->out_q[0]);
}

/* A stretch with one gain and one bias. */
static void stretch(const job *j, uint8_t *y, const uint8_t *x, int64_t n, float mean, float inv, const float *gain,
                    const float *bias)
{
    if (n <= TILE) {
        normalize(j, y, x, n, mean, inv, gain, bias, 0);
        return;
    }
    uint8_t all[256], table[256];
    for (int i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    normalize(j, table, all, 256, mean, inv, gain, bias, 0);
    j->a->k->lut8(y, x, (size_t)n, table);
}

static void row_span(void *arg, int64_t from, int64_t count)
{
    const job *j = arg;
    const rq_norm *r = &j->r;
    for (int64_t row = from; row < from + count; row++) {
        const uint8_t *x = j->a->in[0]->u8 + row * r->n;
        uint8_t *y = j->a->out[0]->u8 + row * r->n;
        float mean, inv;
        statistics(j, x, &mean, &inv);
        if (!r->wide) {
            const int64_t first = row % r->groups * (r->n / r->per);
            for (int64_t i = 0, c = first; i < r->n; i += r->per, c++)
                stretch(j, y + i, x + i, r->per, mean, inv, j->gain + c, j->bias + c);
        } else if (!j->gain && !j->bias) {
            stretch(j, y, x, r->n, mean, inv, NULL, NULL);
        } else if (rq_dtype_bits(j->a->out_q[0]->dtype) == 8) {
            normalize_row(j, y, x, mean, inv);
        } else {
            for (int64_t i = 0; i < r->n; i += TILE)
                normalize(j, y + i, x + i, r->n - i < TILE ? r->n - i : TILE, mean, inv, j->gain ? j->gain + i : NULL,
                          j->bias ? j->bias + i : NULL, 1);
        }
    }
}

/* Input i in reals: as it stands, or dequantized to *room. */
static const float *reals(const rq_op_args *a, const rq_tensor *t, int i, float **room)
{
    if (!t)
        return NULL;
    if (!a->in_q[i])
        return t->f32;
    rq_tensor to = rq_tensor_view(RQ_DTYPE_F32, &t->shape, *room);
    rq_codes_to_reals(&to, t, a->in_q[i], a->k);
    *room += rq_tensor_count(t);
    return to.f32;
}

rq_status rq_int_norm_forward(const rq_op_args *a)
{
    const rq_qparams *q = a->in_q[0];
    float *room = a->scratch;
    job j = { .a = a, .flip = rq_int_flip_to_u8(q->dtype), .scale = q->scale[0] };
    const int64_t total = rq_tensor_count(a->in[0]);
    if (!rq_norm_of(a, &j.r) || total == 0)
        return RQ_OK;
    j.epsilon = j.r.epsilon;
    j.zero = q->zero_point[0] + (j.flip ? 128 : 0);
    j.gain = reals(a, j.r.gain, j.r.at_gain, &room);
    j.bias = reals(a, j.r.bias, j.r.at_bias, &room);
    rq_bcast_spans(a->threads, total / j.r.n, j.r.n < WORK ? WORK / (j.r.n + 1) : 1, row_span, &j);
    return RQ_OK;
}

/* ---- BatchNormalization: gain and shift are known, so a channel is a table ---- */

bool rq_int_batch_accepts(const rq_op_args *a, const char **why)
{
    *why = "input is not quantized";
    if (!a->in_q[0] || !rq_int_is_activation(a->in_q[0], why))
        return false;
    *why = "it is trained";
    if (rq_attr_int(a->node, RQ_WORD_training_mode, 0) || a->n_out > 1)
        return false;
    *why = "its parameters are not constants of f32";
    for (int i = 1; i < 5; i++)
        if (!a->in[i]->data || a->in_q[i] || a->in[i]->dtype != RQ_DTYPE_F32)
            return false;
    return rq_int_is_output(a->out_q[0], a->out[0], false, why);
}

rq_status rq_int_batch_prepare(const rq_op_args *a, void **state)
{
    const rq_shape *s = &a->in[0]->shape;
    const int64_t channels = s->rank > 1 ? s->dim[1] : 1;
    const float epsilon = rq_attr_float(a->node, RQ_WORD_epsilon, 1e-5f);
    uint8_t(*table)[256] = rq_mem_alloc((size_t)channels + 1, sizeof *table), all[256];
    float real[256], v[256];
    if (!table)
        return RQ_NO_MEMORY;
    const rq_shape shape = rq_shape_of(1, (const int64_t[]) { 256 });
    rq_tensor codes = rq_tensor_view(a->in_q[0]->dtype, &shape, all);
    for (int i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    rq_int_to_reals(a->k, real, &codes, 0, 256, a->in_q[0]);
    for (int64_t c = 0; c < channels; c++) { /* as the float form has it */
        const float gain = a->in[1]->f32[c] / sqrtf(a->in[4]->f32[c] + epsilon);
        rq_tensor y = rq_tensor_view(a->out_q[0]->dtype, &shape, table[c]);
        a->k->map[RQ_MAP_LINEAR](v, real, 256, gain, a->in[2]->f32[c] - a->in[3]->f32[c] * gain);
        rq_int_from_reals(a->k, &y, 0, v, 256, a->out_q[0]);
    }
    *state = table;
    return RQ_OK;
}

void rq_int_batch_release(void *state)
{
    rq_mem_free(state);
}

static void batch_span(void *arg, int64_t from, int64_t n)
{
    const rq_op_args *a = arg;
    const uint8_t(*table)[256] = a->state;
    const rq_shape *s = &a->in[0]->shape;
    const int64_t channels = s->rank > 1 ? s->dim[1] : 1, area = s->rank > 1 ? rq_shape_span(s, 2, s->rank) : 1;
    for (int64_t i = from; i < from + n; i++)
        a->k->lut8(a->out[0]->u8 + i * area, a->in[0]->u8 + i * area, (size_t)area, table[i % channels]);
}

rq_status rq_int_batch_forward(const rq_op_args *a)
{
    const rq_shape *s = &a->in[0]->shape;
    const int64_t area = s->rank > 1 ? rq_shape_span(s, 2, s->rank) : 1, planes = area ? rq_shape_count(s) / area : 0;
    rq_bcast_spans(a->threads, planes, WORK / (area + 1) + 1, batch_span, (void *)a);
    return RQ_OK;
}
