/* ops/int_pool.c — AveragePool and GlobalAveragePool on codes, with ONNX Runtime's arithmetic (spec onnx.md 6.3):
 *   AveragePool        f32 mean of dequantized values, summed in window order; rne(mean / sy + zy), the zero point
 *                      inside the rounding
 *   GlobalAveragePool  s32 sum of (code - zx), then rne(sum * (sx / (sy * count))) + zy */
#include "kernels/quantize.h"
#include "ops/int_ops.h"
#include "ops/window.h"

bool rq_int_pool_accepts(const rq_op_args *a, const char **why)
{
    *why = "input is not quantized";
    if (!a->in_q[0] || !rq_int_is_activation(a->in_q[0], why))
        return false;
    *why = "more than three spatial axes";
    if (a->in[0]->shape.rank < 3 || a->in[0]->shape.rank > 5)
        return false;
    return rq_int_is_output(a->out_q[0], a->out[0], false, why);
}

typedef struct pool_args {
    const rq_op_args *a;
    rq_window w;
    bool include_pad;
    float real[256]; /* of each code */
    uint8_t flip;    /* of the result: it is rounded as u8, see kernels/qeltwise.h */
} pool_args;

/* Taps of window position o along axis i: those inside the input (first..last), and how many count as elements when
 * padding does. */
typedef struct reach {
    int64_t from, to, all; /* input index of tap t is from0 + t * dilation; from..to are tap numbers */
    int64_t start;
} reach;

static reach reach_of(const rq_window *w, int i, int64_t o)
{
    reach r = { .from = w->kernel[i], .to = 0, .start = o * w->stride[i] - w->pad_lo[i] };
    for (int64_t t = 0; t < w->kernel[i]; t++) {
        const int64_t at = r.start + t * w->dilation[i];
        if (at < w->in[i] + w->pad_hi[i])
            r.all++;
        if (at >= 0 && at < w->in[i]) {
            r.from = t < r.from ? t : r.from;
            r.to = t + 1;
        }
    }
    return r;
}

/* One channel of one image. */
static void average_plane(void *arg, int64_t plane)
{
    const pool_args *p = arg;
    const rq_window *w = &p->w;
    const uint8_t *x = p->a->in[0]->u8 + plane * rq_window_span(w->in);
    uint8_t *y = p->a->out[0]->u8 + plane * rq_window_span(w->out);
    const float sy = p->a->out_q[0]->scale[0], zy = (float)(p->a->out_q[0]->zero_point[0] + (p->flip ? 128 : 0));
    for (int64_t o0 = 0; o0 < w->out[0]; o0++) {
        const reach r0 = reach_of(w, 0, o0);
        for (int64_t o1 = 0; o1 < w->out[1]; o1++) {
            const reach r1 = reach_of(w, 1, o1);
            for (int64_t o2 = 0; o2 < w->out[2]; o2++) {
                const reach r2 = reach_of(w, 2, o2);
                float sum = 0;
                int64_t count = 0;
                for (int64_t t0 = r0.from; t0 < r0.to; t0++)
                    for (int64_t t1 = r1.from; t1 < r1.to; t1++) {
                        const uint8_t *row =
                            x +
                            ((r0.start + t0 * w->dilation[0]) * w->in[1] + r1.start + t1 * w->dilation[1]) * w->in[2] +
                            r2.start;
                        for (int64_t t2 = r2.from; t2 < r2.to; t2++, count++)
                            sum += p->real[row[t2 * w->dilation[2]]];
                    }
                if (p->include_pad)
                    count = r0.all * r1.all * r2.all;
                const float mean = count ? sum / (float)count : 0;
                *y++ = (uint8_t)rq_quantize_zp_inside(mean / sy + zy, 0, 255) ^ p->flip;
            }
        }
    }
}

rq_status rq_int_average_pool_forward(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape;
    const rq_qparams *q = a->in_q[0];
    pool_args p = { .a = a, .include_pad = rq_attr_int(a->node, "count_include_pad", 0) != 0 };
    RQ_TRY(rq_window_pool(&p.w, a->node, x, a->err));
    for (int i = 0; i < 256; i++)
        p.real[i] = rq_dequantize_one(q->dtype == RQ_DTYPE_S8 ? (int8_t)(uint8_t)i : i, q->scale[0], q->zero_point[0]);
    p.flip = rq_int_flip_to_u8(a->out_q[0]->dtype);
    rq_threads_for(a->threads, x->dim[0] * x->dim[1], average_plane, &p);
    return RQ_OK;
}

rq_status rq_int_global_average_pool_forward(const rq_op_args *a)
{
    const rq_shape *x = &a->in[0]->shape;
    const rq_qparams *xq = a->in_q[0], *yq = a->out_q[0];
    const int64_t planes = x->dim[0] * x->dim[1], n = rq_shape_span(x, 2, x->rank);
    const uint8_t flip = rq_int_flip_to_u8(xq->dtype);
    const uint32_t zx = (uint32_t)(xq->zero_point[0] + (flip ? 128 : 0));
    const float per = yq->scale[0] * (float)n, m = xq->scale[0] / per;
    int32_t lo, hi;
    rq_qparams_limits(yq, &lo, &hi);
    for (int64_t p = 0; p < planes; p++) {
        const uint8_t *v = a->in[0]->u8 + p * n;
        uint32_t sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += v[i] ^ flip;
        a->out[0]->u8[p] = (uint8_t)rq_quantize_acc((int32_t)(sum - zx * (uint32_t)n), m, yq->zero_point[0], lo, hi);
    }
    return RQ_OK;
}
