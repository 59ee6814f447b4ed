/* kernels/conv_f32_plain.c — what a convolution is, in loops of double: the definition that tests compare with, and the way
 * out for what no library has a kernel for. */
#include "kernels/conv_f32.h"

static int64_t area(const int64_t v[3])
{
    return v[0] * v[1] * v[2];
}

typedef struct plain_job {
    const rq_conv_geom *g;
    float *y;
    const float *x, *w, *bias;
} plain_job;

/* One channel of one image. */
static void plain_item(void *arg, int64_t item)
{
    const plain_job *j = arg;
    const rq_conv_geom *g = j->g;
    const int64_t image = item / g->out_ch, oc = item % g->out_ch, icg = g->in_ch / g->groups;
    const int64_t ocg = g->out_ch / g->groups, group = oc / ocg, k = area(g->kernel), in_area = area(g->in);
    const float *x = j->x + (image * g->in_ch + group * icg) * in_area;
    float *y = j->y + item * area(g->out);
    int64_t o[3], t[3];
    for (o[0] = 0; o[0] < g->out[0]; o[0]++)
        for (o[1] = 0; o[1] < g->out[1]; o[1]++)
            for (o[2] = 0; o[2] < g->out[2]; o[2]++) {
                double sum = j->bias ? j->bias[oc] : 0;
                for (t[0] = 0; t[0] < g->kernel[0]; t[0]++)
                    for (t[1] = 0; t[1] < g->kernel[1]; t[1]++)
                        for (t[2] = 0; t[2] < g->kernel[2]; t[2]++) {
                            int64_t at = 0;
                            bool inside = true;
                            for (int d = 0; d < 3; d++) {
                                int64_t i;
                                if (g->transposed) { /* o + pad = i * stride + t * dilation */
                                    const int64_t v = o[d] + g->pad_lo[d] - t[d] * g->dilation[d];
                                    inside = inside && v >= 0 && v % g->stride[d] == 0;
                                    i = v / g->stride[d];
                                } else {
                                    i = o[d] * g->stride[d] - g->pad_lo[d] + t[d] * g->dilation[d];
                                }
                                inside = inside && i >= 0 && i < g->in[d];
                                at = at * g->in[d] + i;
                            }
                            if (!inside)
                                continue;
                            const int64_t tap = (t[0] * g->kernel[1] + t[1]) * g->kernel[2] + t[2];
                            for (int64_t c = 0; c < icg; c++) {
                                const int64_t wi = g->transposed ? ((group * icg + c) * ocg + oc % ocg) * k + tap
                                                                 : (oc * icg + c) * k + tap;
                                sum += (double)x[c * in_area + at] * (double)j->w[wi];
                            }
                        }
                *y++ = (float)sum;
            }
}

void rq_conv_f32_plain(const rq_conv_geom *g, float *y, const float *x, const float *w, const float *bias,
                       rq_threads *t)
{
    plain_job j = { .g = g, .y = y, .x = x, .w = w, .bias = bias };
    rq_threads_for(t, g->batch * g->out_ch, plain_item, &j);
}
