/* tensor/strided.c — see requant/strided.h and tensor/strided.h. Elements are visited in row-major order as runs along the
 * last axis that has more than one index; a run has one step, so the loops over it are plain. */
#include "tensor/strided.h"

#include "tensor/convert.h"

rq_strided rq_strided_of(const rq_tensor *t)
{
    rq_strided v = { .dtype = t->dtype, .data = t->data, .shape = t->shape };
    int64_t step = 1;
    for (int i = t->shape.rank - 1; i >= 0; i--) {
        v.stride[i] = step;
        step *= t->shape.dim[i];
    }
    return v;
}

rq_strided rq_strided_floats(float *data, const rq_shape *shape)
{
    rq_tensor t = rq_tensor_view(RQ_DTYPE_F32, shape, data);
    return rq_strided_of(&t);
}

rq_strided rq_strided_vector(float *data, int64_t n)
{
    rq_shape s = rq_shape_of(1, &n);
    return rq_strided_floats(data, &s);
}

rq_strided rq_strided_permute(const rq_strided *v, const int *axis)
{
    rq_strided out = *v;
    for (int i = 0; i < v->shape.rank; i++) {
        out.shape.dim[i] = v->shape.dim[axis[i]];
        out.stride[i] = v->stride[axis[i]];
    }
    return out;
}

rq_strided rq_strided_slice(const rq_strided *v, int axis, int64_t from, int64_t count, int64_t step)
{
    rq_strided out = *v;
    if (count > 0 && v->data) /* an empty slice may start past the end */
        out.data = (char *)v->data + from * v->stride[axis] * (rq_dtype_bits(v->dtype) / 8);
    out.shape.dim[axis] = count;
    out.stride[axis] = v->stride[axis] * step;
    return out;
}

bool rq_strided_is_contiguous(const rq_strided *v)
{
    int64_t step = 1;
    bool in_a_row = true;
    for (int i = v->shape.rank - 1; i >= 0; i--) {
        if (v->shape.dim[i] == 0)
            return true;
        if (v->shape.dim[i] > 1 && v->stride[i] != step)
            in_a_row = false;
        step *= v->shape.dim[i];
    }
    return in_a_row;
}

rq_status rq_strided_check(const rq_strided *v, const char *what, bool floats, rq_err *err)
{
    char text[RQ_SHAPE_TEXT];
    if (rq_shape_check(&v->shape))
        return rq_fail(err, RQ_BAD_SHAPE, "%s has the shape %s, expected known sizes of at most 2^47 elements", what,
                       rq_shape_text(&v->shape, text, sizeof text));
    const rq_dtype d = v->dtype;
    if (floats ? d != RQ_DTYPE_F32 && d != RQ_DTYPE_F64 && d != RQ_DTYPE_F16 && d != RQ_DTYPE_BF16
               : d != RQ_DTYPE_U8 && d != RQ_DTYPE_BOOL)
        return rq_fail(err, RQ_BAD_DTYPE, "%s is %s, expected %s", what, rq_dtype_name(d),
                       floats ? "f32, f64, f16 or bf16" : "u8 or bool");
    if (!v->data && rq_shape_count(&v->shape) > 0)
        return rq_fail(err, RQ_BAD_ARG, "%s has the shape %s and no data", what,
                       rq_shape_text(&v->shape, text, sizeof text));
    return RQ_OK;
}

rq_status rq_strided_check_like(const rq_strided *v, const char *what, const rq_strided *x, const char *like,
                                bool floats, rq_err *err)
{
    char a[RQ_SHAPE_TEXT], b[RQ_SHAPE_TEXT];
    RQ_TRY(rq_strided_check(v, what, floats, err));
    if (!rq_shape_equal(&v->shape, &x->shape))
        return rq_fail(err, RQ_BAD_SHAPE, "%s has the shape %s, expected %s as %s", what,
                       rq_shape_text(&v->shape, a, sizeof a), rq_shape_text(&x->shape, b, sizeof b), like);
    if (floats && v->dtype != x->dtype)
        return rq_fail(err, RQ_BAD_DTYPE, "%s is %s, expected %s as %s", what, rq_dtype_name(v->dtype),
                       rq_dtype_name(x->dtype), like);
    return RQ_OK;
}

/* A walk over elements in row-major order: a run is what is left of the last axis. */
typedef struct walk {
    const rq_strided *v;
    int last;                    /* axis of the runs; -1: rank 0 */
    int64_t index[RQ_MAX_RANK];  /* of the axes before it */
    int64_t base, i, size, step; /* offset of index 0 of that axis; the index; how many there are and how far apart */
} walk;

static walk walk_from(const rq_strided *v, int64_t at)
{
    walk w = { .v = v, .last = v->shape.rank - 1, .size = 1 };
    while (w.last > 0 && v->shape.dim[w.last] == 1)
        w.last--;
    if (w.last < 0 || rq_shape_count(&v->shape) == 0)
        return w;
    w.size = v->shape.dim[w.last];
    w.step = v->stride[w.last];
    w.i = at % w.size;
    at /= w.size;
    for (int k = w.last - 1; k >= 0; k--) {
        w.index[k] = at % v->shape.dim[k];
        at /= v->shape.dim[k];
        w.base += w.index[k] * v->stride[k];
    }
    return w;
}

/* At most `want` elements of the run: how many; the first one's offset goes to *offset, and the walk moves past them. */
static int64_t walk_take(walk *w, int64_t want, int64_t *offset)
{
    const int64_t left = w->size - w->i, n = want < left ? want : left;
    *offset = w->base + w->i * w->step;
    w->i += n;
    if (n < left)
        return n;
    w->i = 0;
    for (int k = w->last - 1; k >= 0; k--) {
        const int64_t stride = w->v->stride[k];
        w->base += stride;
        if (++w->index[k] < w->v->shape.dim[k])
            break;
        w->base -= stride * w->v->shape.dim[k];
        w->index[k] = 0;
    }
    return n;
}

/* ---- tiles ---- */

static void read_run(float *dst, const rq_strided *v, int64_t at, int64_t n, int64_t step)
{
    switch (v->dtype) {
    case RQ_DTYPE_F32: {
        const float *x = (const float *)v->data + at;
        for (int64_t i = 0; i < n; i++)
            dst[i] = x[i * step];
        return;
    }
    case RQ_DTYPE_F64: {
        const double *x = (const double *)v->data + at;
        for (int64_t i = 0; i < n; i++)
            dst[i] = (float)x[i * step];
        return;
    }
    case RQ_DTYPE_F16: {
        const uint16_t *x = (const uint16_t *)v->data + at;
        if (step == 1)
            rq_convert_f16_to_f32_each(dst, x, n);
        for (int64_t i = 0; i < n && step != 1; i++)
            dst[i] = rq_convert_f16_to_f32(x[i * step]);
        return;
    }
    default: {
        const uint16_t *x = (const uint16_t *)v->data + at;
        for (int64_t i = 0; i < n; i++)
            dst[i] = rq_convert_bf16_to_f32(x[i * step]);
    }
    }
}

static void write_run(const float *src, const rq_strided *v, int64_t at, int64_t n, int64_t step)
{
    switch (v->dtype) {
    case RQ_DTYPE_F32: {
        float *y = (float *)v->data + at;
        for (int64_t i = 0; i < n; i++)
            y[i * step] = src[i];
        return;
    }
    case RQ_DTYPE_F64: {
        double *y = (double *)v->data + at;
        for (int64_t i = 0; i < n; i++)
            y[i * step] = src[i];
        return;
    }
    case RQ_DTYPE_F16: {
        uint16_t *y = (uint16_t *)v->data + at;
        if (step == 1)
            rq_convert_f32_to_f16_each(y, src, n);
        for (int64_t i = 0; i < n && step != 1; i++)
            y[i * step] = rq_convert_f32_to_f16(src[i]);
        return;
    }
    default: {
        uint16_t *y = (uint16_t *)v->data + at;
        for (int64_t i = 0; i < n; i++)
            y[i * step] = rq_convert_f32_to_bf16(src[i]);
    }
    }
}

float *rq_strided_direct(const rq_strided *v, int64_t at)
{
    return v->dtype == RQ_DTYPE_F32 && rq_strided_is_contiguous(v) ? (float *)v->data + at : NULL;
}

uint8_t *rq_strided_direct_u8(const rq_strided *v, int64_t at)
{
    return rq_dtype_bits(v->dtype) == 8 && rq_strided_is_contiguous(v) ? (uint8_t *)v->data + at : NULL;
}

const float *rq_strided_read(const rq_strided *v, int64_t at, int64_t n, float *tile)
{
    const float *direct = rq_strided_direct(v, at);
    if (direct)
        return direct;
    walk w = walk_from(v, at);
    for (int64_t i = 0, offset; i < n;) {
        const int64_t run = walk_take(&w, n - i, &offset);
        read_run(tile + i, v, offset, run, w.step);
        i += run;
    }
    return tile;
}

void rq_strided_write(const rq_strided *v, int64_t at, int64_t n, const float *src)
{
    if (src == rq_strided_direct(v, at))
        return;
    walk w = walk_from(v, at);
    for (int64_t i = 0, offset; i < n;) {
        const int64_t run = walk_take(&w, n - i, &offset);
        write_run(src + i, v, offset, run, w.step);
        i += run;
    }
}

void rq_strided_read_f64(const rq_strided *v, int64_t at, int64_t n, double *dst)
{
    walk w = walk_from(v, at);
    for (int64_t i = 0, offset; i < n;) {
        const int64_t run = walk_take(&w, n - i, &offset);
        if (v->dtype == RQ_DTYPE_F64)
            for (int64_t k = 0; k < run; k++)
                dst[i + k] = ((const double *)v->data)[offset + k * w.step];
        else
            for (int64_t k = 0; k < run; k++) {
                float f;
                read_run(&f, v, offset + k * w.step, 1, 1);
                dst[i + k] = (double)f;
            }
        i += run;
    }
}

void rq_strided_write_f64(const rq_strided *v, int64_t at, int64_t n, const double *src)
{
    walk w = walk_from(v, at);
    for (int64_t i = 0, offset; i < n;) {
        const int64_t run = walk_take(&w, n - i, &offset);
        if (v->dtype == RQ_DTYPE_F64)
            for (int64_t k = 0; k < run; k++)
                ((double *)v->data)[offset + k * w.step] = src[i + k];
        else
            for (int64_t k = 0; k < run; k++) {
                const float f = (float)src[i + k];
                write_run(&f, v, offset + k * w.step, 1, 1);
            }
        i += run;
    }
}

void rq_strided_read_u8(const rq_strided *v, int64_t at, int64_t n, uint8_t *dst)
{
    walk w = walk_from(v, at);
    for (int64_t i = 0, offset; i < n;) {
        const int64_t run = walk_take(&w, n - i, &offset);
        for (int64_t k = 0; k < run; k++)
            dst[i + k] = ((const uint8_t *)v->data)[offset + k * w.step];
        i += run;
    }
}

void rq_strided_write_u8(const rq_strided *v, int64_t at, int64_t n, const uint8_t *src)
{
    walk w = walk_from(v, at);
    for (int64_t i = 0, offset; i < n;) {
        const int64_t run = walk_take(&w, n - i, &offset);
        for (int64_t k = 0; k < run; k++)
            ((uint8_t *)v->data)[offset + k * w.step] = src[i + k];
        i += run;
    }
}
