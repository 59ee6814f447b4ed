/* ops/signal.c — DFT and STFT on ops/fft.h, the windows they are used with (Hann, Hamming, Blackman), MelWeightMatrix.
 * All in double, rounded once. */
#include <math.h>
#include <string.h>

#include "ops/elements.h"
#include "ops/fft.h"

enum { MOST_WINDOW = 1 << 28 }; /* elements of a window or a mel matrix: more is a mistake */

static double sine(double x)
{
    double y;
    rq_map_f64[RQ_MAP_SIN](&y, &x, 1, 0, 0);
    return y;
}

static double cosine(double x)
{
    double y;
    rq_map_f64[RQ_MAP_COS](&y, &x, 1, 0, 0);
    return y;
}

static rq_status check_scalar(const rq_infer *a, int i, const char *what)
{
    const rq_tensor *t = rq_op_input(a->in, a->n_in, i);
    if (!t)
        return RQ_OK;
    if (t->dtype != RQ_DTYPE_NONE && t->dtype != RQ_DTYPE_S32 && t->dtype != RQ_DTYPE_S64)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "%s has type %s, expected s32 or s64", what, rq_dtype_name(t->dtype));
    if (t->shape.rank > 1 || (rq_shape_is_known(&t->shape) && rq_shape_count(&t->shape) != 1))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%s is not one number", what);
    return RQ_OK;
}

/* ---- DFT ---- */

typedef struct dft {
    int axis;
    int64_t length;      /* of the transform; negative: not known */
    bool inverse, sided; /* sided: only the first half of the frequencies is there */
} dft;

static rq_status dft_of(const rq_infer *a, dft *d)
{
    const rq_shape *x = &a->in[0]->shape;
    int64_t axis = a->opset < 20 ? rq_attr_int(a->node, RQ_WORD_axis, 1) : -2, length;
    d->axis = -1;
    d->length = RQ_DIM_UNKNOWN;
    d->inverse = rq_attr_int(a->node, RQ_WORD_inverse, 0) != 0;
    d->sided = rq_attr_int(a->node, RQ_WORD_onesided, 0) != 0;
    if (a->opset >= 20 && rq_op_input(a->in, a->n_in, 2) && rq_infer_ints(a, 2, &axis, 1) != 1)
        return RQ_OK;
    if (x->rank < 0)
        return RQ_OK;
    if (x->rank < 2 || (x->dim[x->rank - 1] >= 0 && x->dim[x->rank - 1] != 1 && x->dim[x->rank - 1] != 2))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the input does not end in an axis of 1 or 2 parts");
    d->axis = rq_infer_axis(axis, x->rank);
    if (d->axis < 0 || d->axis == x->rank - 1)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %lld is out of range for an input of %d axes", (long long)axis,
                             x->rank);
    if (rq_op_input(a->in, a->n_in, 1)) {
        if (rq_infer_ints(a, 1, &length, 1) != 1)
            return RQ_OK;
        d->length = length;
        if (length < 1)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "dft_length is %lld, expected at least 1", (long long)length);
    } else {
        const int64_t n = x->dim[d->axis];
        d->length = d->inverse && d->sided && n >= 0 ? 2 * (n - 1) : n;
        if (n >= 0 && d->length < 1)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "axis %d has %lld elements, too few to transform", d->axis,
                                 (long long)n);
    }
    return RQ_OK;
}

static rq_status dft_infer(const rq_infer *a)
{
    dft d;
    RQ_TRY(check_scalar(a, 1, "dft_length"));
    if (a->opset >= 20)
        RQ_TRY(check_scalar(a, 2, "axis"));
    a->out_dtype[0] = a->in[0]->dtype;
    RQ_TRY(dft_of(a, &d));
    rq_shape *y = &a->out_shape[0];
    *y = a->in[0]->shape;
    if (y->rank < 0)
        return RQ_OK;
    y->dim[y->rank - 1] = d.inverse && d.sided ? 1 : 2;
    if (d.axis < 0)
        for (int i = 0; i < y->rank - 1; i++)
            y->dim[i] = RQ_DIM_UNKNOWN;
    else
        y->dim[d.axis] = d.sided && !d.inverse ? (d.length < 0 ? RQ_DIM_UNKNOWN : d.length / 2 + 1) : d.length;
    return RQ_OK;
}

/* Elements from..from+n*step of t as complex numbers, the rest of [length] zeros. */
static void load(double *c, const rq_tensor *t, int64_t from, int64_t step, int parts, int64_t n, int64_t length)
{
    memset(c, 0, (size_t)length * 2 * sizeof *c);
    for (int64_t i = 0; i < n && i < length; i++)
        rq_elements_load_f64(c + 2 * i, t, from + i * step, 1, parts);
}

static rq_status dft_forward(const rq_op_args *a)
{
    const rq_infer i = {
        .graph = a->graph, .node = a->node, .opset = a->opset, .in = a->in, .n_in = a->n_in, .err = a->err
    };
    const rq_tensor *x = a->in[0];
    rq_tensor *y = a->out[0];
    dft d;
    RQ_TRY(dft_of(&i, &d));
    if (!rq_dtype_is_float(x->dtype))
        return rq_op_no_form(a, x->dtype);
    const int last = x->shape.rank - 1, parts = (int)x->shape.dim[last], parts_y = (int)y->shape.dim[last];
    const int64_t inner = rq_shape_span(&x->shape, d.axis + 1, last), outer = rq_shape_span(&x->shape, 0, d.axis);
    const int64_t n = x->shape.dim[d.axis], n_y = y->shape.dim[d.axis];
    rq_fft *f = NULL;
    double *c = rq_mem_alloc((size_t)d.length, 2 * sizeof *c);
    rq_status s = c ? rq_fft_create(&f, d.length) : RQ_NO_MEMORY;
    for (int64_t o = 0; s == RQ_OK && o < outer * inner; o++) {
        const int64_t out = o / inner, in = o % inner, used = d.inverse && d.sided ? d.length / 2 + 1 : d.length;
        load(c, x, (out * n * inner + in) * parts, inner * parts, parts, n < used ? n : used, d.length);
        if (d.inverse && d.sided) { /* the other half mirrors the first; what has no mirror is real */
            c[1] = 0;
            if (d.length % 2 == 0)
                c[d.length + 1] = 0;
            for (int64_t k = d.length / 2 + 1; k < d.length; k++) {
                c[2 * k] = c[2 * (d.length - k)];
                c[2 * k + 1] = -c[2 * (d.length - k) + 1];
            }
        }
        rq_fft_run(f, c, d.inverse);
        for (int64_t k = 0; k < n_y; k++)
            rq_elements_store_f64(y, ((out * n_y + k) * inner + in) * parts_y, c + 2 * k, parts_y, true);
    }
    rq_fft_destroy(f);
    rq_mem_free(c);
    return s;
}

/* ---- STFT: signal [B,L,1 or 2], frame_step, window?, frame_length? ---- */

static rq_status stft_infer(const rq_infer *a)
{
    const rq_tensor *w = rq_op_input(a->in, a->n_in, 2), *l = rq_op_input(a->in, a->n_in, 3);
    const rq_shape *x = &a->in[0]->shape;
    int64_t step, length = RQ_DIM_UNKNOWN;
    RQ_TRY(check_scalar(a, 1, "frame_step"));
    RQ_TRY(check_scalar(a, 3, "frame_length"));
    a->out_dtype[0] = a->in[0]->dtype;
    if (x->rank >= 0 && (x->rank != 3 || (x->dim[2] >= 0 && x->dim[2] != 1 && x->dim[2] != 2)))
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the signal is not [batch, length, 1 or 2]");
    if (!w && !l)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "neither window nor frame_length is given");
    if (w && w->shape.rank >= 0 && w->shape.rank != 1)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "the window has %d axes, expected 1", w->shape.rank);
    if (w && w->shape.rank == 1)
        length = w->shape.dim[0];
    if (l) {
        int64_t given;
        const bool known = rq_infer_ints(a, 3, &given, 1) == 1;
        if (known && given < 1) /* it would pass for a symbol */
            return rq_infer_fail(a, RQ_BAD_SHAPE, "frame_length is %lld, expected at least 1", (long long)given);
        if (known && !rq_infer_dim_join(&length, given))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "frame_length is %lld and the window %lld long", (long long)given,
                                 (long long)length);
    }
    if (length == 0 || length < RQ_DIM_UNKNOWN)
        return length ? RQ_OK : rq_infer_fail(a, RQ_BAD_SHAPE, "frames have no elements");
    if (rq_infer_ints(a, 1, &step, 1) != 1)
        step = RQ_DIM_UNKNOWN;
    else if (step < 1)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "frame_step is %lld, expected at least 1", (long long)step);
    if (x->rank == 3 && x->dim[1] >= 0 && length > x->dim[1])
        return rq_infer_fail(a, RQ_BAD_SHAPE, "a frame of %lld is longer than the signal of %lld", (long long)length,
                             (long long)x->dim[1]);
    const bool known = x->rank == 3 && x->dim[1] >= 0 && length > 0 && step > 0;
    const bool sided = rq_attr_int(a->node, RQ_WORD_onesided, 1) != 0;
    a->out_shape[0] = rq_shape_of(4, (int64_t[]) { x->rank == 3 ? x->dim[0] : RQ_DIM_UNKNOWN,
                                                   known ? 1 + (x->dim[1] - length) / step : RQ_DIM_UNKNOWN,
                                                   length < 0 ? RQ_DIM_UNKNOWN
                                                   : sided    ? length / 2 + 1
                                                              : length,
                                                   2 });
    return RQ_OK;
}

static rq_status stft_forward(const rq_op_args *a)
{
    const rq_tensor *x = a->in[0], *w = rq_op_input(a->in, a->n_in, 2), *l = rq_op_input(a->in, a->n_in, 3);
    rq_tensor *y = a->out[0];
    if (!rq_dtype_is_float(x->dtype) || (w && !rq_dtype_is_float(w->dtype)))
        return rq_op_no_form(a, x->dtype);
    const int64_t step = rq_tensor_get_int(a->in[1], 0), length = w ? w->shape.dim[0] : rq_tensor_get_int(l, 0);
    const int64_t frames = y->shape.dim[1], bins = y->shape.dim[2];
    const int parts = (int)x->shape.dim[2];
    rq_fft *f = NULL;
    double *c = rq_mem_alloc((size_t)length, 2 * sizeof *c);
    rq_status s = c ? rq_fft_create(&f, length) : RQ_NO_MEMORY;
    for (int64_t o = 0; s == RQ_OK && o < x->shape.dim[0] * frames; o++) {
        load(c, x, (o / frames * x->shape.dim[1] + o % frames * step) * parts, parts, parts, length, length);
        for (int64_t i = 0; w && i < length; i++) {
            const double by = rq_tensor_get(w, i);
            c[2 * i] *= by;
            c[2 * i + 1] *= by;
        }
        rq_fft_run(f, c, false);
        for (int64_t k = 0; k < bins; k++)
            rq_elements_store_f64(y, (o * bins + k) * 2, c + 2 * k, 2, true);
    }
    rq_fft_destroy(f);
    rq_mem_free(c);
    return s;
}

/* ---- windows ---- */

static rq_status window_infer(const rq_infer *a)
{
    int64_t n;
    RQ_TRY(check_scalar(a, 0, "the size"));
    const int64_t type = rq_attr_int(a->node, RQ_WORD_output_datatype, 1);
    a->out_dtype[0] = rq_elements_dtype(type);
    if (!rq_dtype_is_float(a->out_dtype[0]) && !rq_dtype_is_integer(a->out_dtype[0]))
        return rq_infer_fail(a, RQ_BAD_GRAPH, "output_datatype %lld is no type of numbers", (long long)type);
    a->out_shape[0] = rq_shape_of(1, (int64_t[]) { RQ_DIM_UNKNOWN });
    if (rq_infer_ints(a, 0, &n, 1) != 1)
        return RQ_OK;
    if (n < 0 || n > MOST_WINDOW)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "a window of %lld elements", (long long)n);
    a->out_shape[0].dim[0] = n;
    return RQ_OK;
}

/* a0 - a1 cos(2 pi i / n) + a2 cos(4 pi i / n) */
static rq_status window_forward(const rq_op_args *a)
{
    const char *op = a->node->op;
    const int64_t n = rq_tensor_count(a->out[0]), periodic = rq_attr_int(a->node, RQ_WORD_periodic, 1);
    const double pi = 3.14159265358979323846, over = (double)(periodic ? n : n - 1);
    for (int64_t i = 0; i < n; i++) {
        const double t = over > 0 ? (double)i / over : 0;
        double v;
        if (op[1] == 'l') /* Blackman */
            v = 0.42 - 0.5 * cosine(2 * pi * t) + 0.08 * cosine(4 * pi * t);
        else if (op[2] == 'n') /* Hann */
            v = sine(pi * t) * sine(pi * t);
        else /* Hamming, with its exact coefficients */
            v = 25.0 / 46 - 21.0 / 46 * cosine(2 * pi * t);
        rq_elements_store_f64(a->out[0], i, &v, 1, true);
    }
    return RQ_OK;
}

/* ---- MelWeightMatrix ---- */

static rq_status mel_infer(const rq_infer *a)
{
    int64_t bins, length;
    RQ_TRY(check_scalar(a, 0, "num_mel_bins"));
    RQ_TRY(check_scalar(a, 1, "dft_length"));
    RQ_TRY(check_scalar(a, 2, "sample_rate"));
    for (int i = 3; i < 5; i++)
        if (rq_shape_is_known(&a->in[i]->shape) && rq_shape_count(&a->in[i]->shape) != 1)
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d is not one number", i);
    const int64_t type = rq_attr_int(a->node, RQ_WORD_output_datatype, 1);
    a->out_dtype[0] = rq_elements_dtype(type);
    if (!rq_dtype_is_float(a->out_dtype[0]) && !rq_dtype_is_integer(a->out_dtype[0]))
        return rq_infer_fail(a, RQ_BAD_GRAPH, "output_datatype %lld is no type of numbers", (long long)type);
    a->out_shape[0] = rq_shape_of(2, (int64_t[]) { RQ_DIM_UNKNOWN, RQ_DIM_UNKNOWN });
    if (rq_infer_ints(a, 0, &bins, 1) != 1 || rq_infer_ints(a, 1, &length, 1) != 1)
        return RQ_OK;
    if (bins < 0 || length < 0 || bins > MOST_WINDOW / 2 || length > MOST_WINDOW ||
        (length / 2 + 1) * (bins + 1) > MOST_WINDOW)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "a matrix of %lld bins for a length of %lld", (long long)bins,
                             (long long)length);
    a->out_shape[0].dim[0] = length / 2 + 1;
    a->out_shape[0].dim[1] = bins;
    return RQ_OK;
}

static double of_mel(double mel)
{
    const double x = mel / 2595 * 2.302585092994045684;
    double e;
    rq_map_f64[RQ_MAP_EXP](&e, &x, 1, 0, 0);
    return 700 * (e - 1);
}

static double to_mel(double hertz)
{
    const double x = 1 + hertz / 700;
    double l;
    rq_map_f64[RQ_MAP_LOG](&l, &x, 1, 0, 0);
    return 2595 * l / 2.302585092994045684;
}

/* Triangles over neighbouring edges, which lie at equal distances in mel. */
static rq_status mel_forward(const rq_op_args *a)
{
    const int64_t rate = rq_tensor_get_int(a->in[2], 0), length = rq_tensor_get_int(a->in[1], 0);
    const double low = rq_tensor_get(a->in[3], 0), high = rq_tensor_get(a->in[4], 0);
    rq_tensor *y = a->out[0];
    const int64_t rows = y->shape.dim[0], bins = y->shape.dim[1];
    if (rate < 1 || !(low >= 0) || !(high >= low) || !(high < 1e12))
        return rq_op_fail(a, RQ_BAD_ARG, "edges %g to %g Hz at %lld samples a second", low, high, (long long)rate);
    memset(y->data, 0, y->bytes);
    const double from = to_mel(low), step = (to_mel(high) - from) / (double)(bins + 2);
    for (int64_t i = 0; i < bins; i++) {
        double edge[3];
        for (int k = 0; k < 3; k++)
            edge[k] = floor((double)(length + 1) * of_mel((double)(i + k) * step + from) / (double)rate);
        if (!(edge[2] <= (double)rows)) /* its last element is 0 and may lie one behind */
            return rq_op_fail(a, RQ_BAD_ARG, "bin %lld reaches above half the sample rate", (long long)i);
        const int64_t left = (int64_t)edge[0], top = (int64_t)edge[1], right = (int64_t)edge[2];
        const double one = 1;
        if (top == left && top < rows)
            rq_elements_store_f64(y, top * bins + i, &one, 1, true);
        for (int64_t j = left; left < top && j <= top && j < rows; j++) {
            const double v = (double)(j - left) / (double)(top - left);
            rq_elements_store_f64(y, j * bins + i, &v, 1, true);
        }
        for (int64_t j = top; j < right && j < rows; j++) {
            const double v = (double)(right - j) / (double)(right - top);
            rq_elements_store_f64(y, j * bins + i, &v, 1, true);
        }
    }
    return RQ_OK;
}

const rq_op rq_op_dft = {
    .name = "DFT",
    .domain = "",
    .since = 17,
    .known = 25,
    .min_in = 1,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = dft_infer,
    .forward = dft_forward,
};

const rq_op rq_op_stft = {
    .name = "STFT",
    .domain = "",
    .since = 17,
    .known = 25,
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = stft_infer,
    .forward = stft_forward,
};

const rq_op rq_op_hann_window = {
    .name = "HannWindow",
    .domain = "",
    .since = 17,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = window_infer,
    .forward = window_forward,
};

const rq_op rq_op_hamming_window = {
    .name = "HammingWindow",
    .domain = "",
    .since = 17,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = window_infer,
    .forward = window_forward,
};

const rq_op rq_op_blackman_window = {
    .name = "BlackmanWindow",
    .domain = "",
    .since = 17,
    .known = 25,
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = window_infer,
    .forward = window_forward,
};

const rq_op rq_op_mel_weight_matrix = {
    .name = "MelWeightMatrix",
    .domain = "",
    .since = 17,
    .known = 25,
    .min_in = 5,
    .max_in = 5,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = mel_infer,
    .forward = mel_forward,
};
