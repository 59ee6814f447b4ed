/* ops/sample_grad.c — backward of GridSample and RoiAlign. A point is a weighted sum of pixels: each pixel gets its weight's share of what
 * the point got, and a coordinate what the point's pixels, weighted by the derivatives of their weights, say (as in Jaderberg et al.,
 * Spatial Transformer Networks, NeurIPS 2015, equations 6 and 7). Pixels are summed per image and channel in the order of the points, so
 * threads change nothing. A coordinate that the border stopped has none; nor has one of nearest neighbours. */
#include <math.h>
#include <string.h>

#include "ops/bcast.h"
#include "ops/grad.h"
#include "ops/sample.h"

enum { CHANNELS = 16, POINTS = 64 }; /* channels that share one look at a point; points of an item */

typedef struct job {
    rq_sample_grid g;
    const float *x, *grid, *dy;
    float *dx, *dgrid;
    int64_t blocks; /* of channels */
} job;

/* x of some channels of one image */
static void pixels(void *arg, int64_t item)
{
    const job *j = arg;
    const rq_sample_grid *g = &j->g;
    const int64_t b = item / j->blocks, first = item % j->blocks * CHANNELS;
    const int64_t last = first + CHANNELS < g->channels ? first + CHANNELS : g->channels;
    const float *dy = j->dy + b * g->channels * g->points;
    float *dx = j->dx + b * g->channels * g->image;
    memset(dx + first * g->image, 0, (size_t)((last - first) * g->image) * sizeof *dx);
    for (int64_t at = 0; at < g->points; at++) {
        rq_sample_point p;
        rq_sample_find(g, j->grid + (b * g->points + at) * g->d, &p);
        for (int i = 0; i < p.n[0]; i++)
            for (int r = 0; r < p.n[1]; r++)
                for (int k = 0; k < p.n[2]; k++) {
                    if (p.offset[0][i] < 0 || p.offset[1][r] < 0 || p.offset[2][k] < 0)
                        continue;
                    const float w = p.weight[0][i] * p.weight[1][r] * p.weight[2][k];
                    float *to = dx + p.offset[0][i] + p.offset[1][r] + p.offset[2][k];
                    for (int64_t c = first; c < last; c++)
                        to[c * g->image] += w * dy[c * g->points + at];
                }
    }
}

/* Coordinates of some points. */
static void coordinates(void *arg, int64_t from, int64_t n)
{
    const job *j = arg;
    const rq_sample_grid *g = &j->g;
    for (int64_t at = from; at < from + n; at++) {
        const int64_t b = at / g->points;
        const float *dy = j->dy + b * g->channels * g->points + at % g->points, *x = j->x + b * g->channels * g->image;
        double sum[RQ_SAMPLE_AXES] = { 0 };
        rq_sample_point p;
        rq_sample_find(g, j->grid + at * g->d, &p);
        for (int i = 0; i < p.n[0]; i++)
            for (int r = 0; r < p.n[1]; r++)
                for (int k = 0; k < p.n[2]; k++) {
                    if (p.offset[0][i] < 0 || p.offset[1][r] < 0 || p.offset[2][k] < 0)
                        continue;
                    const float *pixel = x + p.offset[0][i] + p.offset[1][r] + p.offset[2][k];
                    double v = 0;
                    for (int64_t c = 0; c < g->channels; c++)
                        v += (double)dy[c * g->points] * (double)pixel[c * g->image];
                    sum[0] += v * (double)(p.slope[0][i] * p.weight[1][r] * p.weight[2][k]);
                    sum[1] += v * (double)(p.weight[0][i] * p.slope[1][r] * p.weight[2][k]);
                    sum[2] += v * (double)(p.weight[0][i] * p.weight[1][r] * p.slope[2][k]);
                }
        for (int i = 0; i < g->d; i++)
            j->dgrid[at * g->d + g->d - 1 - i] = (float)sum[i];
    }
}

rq_status rq_sample_grad_grid(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0);
    if (!dy || rq_tensor_count(dy) == 0 || rq_tensor_count(a->in[0]) == 0)
        return rq_grad_none(a);
    job j = { .x = a->in[0]->f32, .grid = a->in[1]->f32, .dy = dy->f32 };
    rq_sample_grid_of(a, &j.g);
    j.blocks = (j.g.channels + CHANNELS - 1) / CHANNELS;
    if (rq_grad_in(a, 0)) {
        j.dx = rq_grad_in(a, 0)->f32;
        rq_threads_for(a->threads, j.g.batch * j.blocks, pixels, &j);
    }
    if (rq_grad_in(a, 1)) {
        j.dgrid = rq_grad_in(a, 1)->f32;
        rq_bcast_spans(a->threads, j.g.batch * j.g.points, POINTS, coordinates, &j);
    }
    return RQ_OK;
}

/* ---- RoiAlign ---- */

typedef struct roi_job {
    const rq_op_args *a;
    rq_sample_rois r;
    const float *dy;
    float *dx;
} roi_job;

/* The pixel that the largest product of a bin is of, and its weight. */
static const float *largest(const roi_job *j, const rq_sample_roi *roi, const float *img, int64_t bin, float *weight)
{
    const float *best = NULL;
    float most = -INFINITY;
    for (int64_t s = 0; s < roi->gh * roi->gw; s++) {
        int64_t at[4];
        float w[4];
        rq_sample_in_bin(&j->r, roi, bin, s, at, w);
        for (int k = 0; k < 4; k++)
            if (!best || w[k] * img[at[k]] > most) {
                best = img + at[k];
                *weight = w[k];
                most = w[k] * img[at[k]];
            }
    }
    return best;
}

/* One channel of all images. */
static void roi_channel(void *arg, int64_t c)
{
    const roi_job *j = arg;
    const rq_sample_rois *r = &j->r;
    const int64_t bins = r->oh * r->ow, image = r->h * r->w;
    for (int64_t b = 0; b < r->images; b++)
        memset(j->dx + (b * r->channels + c) * image, 0, (size_t)image * sizeof *j->dx);
    for (int64_t n = 0; n < r->n; n++) {
        rq_sample_roi roi;
        rq_sample_roi_of(j->a, r, n, &roi);
        const float *dy = j->dy + (n * r->channels + c) * bins;
        const float *img = j->a->in[0]->f32 + (roi.image * r->channels + c) * image;
        float *dx = j->dx + (roi.image * r->channels + c) * image;
        const int64_t samples = roi.gh * roi.gw;
        for (int64_t bin = 0; bin < bins; bin++) {
            if (r->largest) {
                float w = 0;
                const float *best = largest(j, &roi, img, bin, &w);
                if (best)
                    dx[best - img] += w * dy[bin];
                continue;
            }
            for (int64_t s = 0; s < samples; s++) {
                int64_t at[4];
                float w[4];
                rq_sample_in_bin(r, &roi, bin, s, at, w);
                for (int k = 0; k < 4; k++)
                    dx[at[k]] += w[k] * (dy[bin] / (float)samples);
            }
        }
    }
}

rq_status rq_sample_grad_rois(const rq_op_args *a)
{
    const rq_tensor *dy = rq_grad_out(a, 0);
    rq_tensor *dx = rq_grad_in(a, 0);
    if (!dy || !dx || rq_tensor_count(dx) == 0)
        return rq_grad_none(a);
    roi_job j = { .a = a, .dy = dy->f32, .dx = dx->f32 };
    RQ_TRY(rq_sample_rois_of(a, &j.r));
    rq_threads_for(a->threads, j.r.channels, roi_channel, &j);
    return RQ_OK;
}
