/* kernels/conv_f32_priv.h — what the two ways to cut a float convolution into tiles share: strips of output channels with vectors along pixels
 * (conv_f32_strips.c), and blocks of pixels with vectors along output channels (conv_f32_turned.c). */
#ifndef RQ_KERNELS_CONV_F32_PRIV_H
#define RQ_KERNELS_CONV_F32_PRIV_H

#include "kernels/conv_f32.h"
#include "kernels/planes.h"

enum { RQ_CONV_F32_ITEM = 1000000 }; /* multiply-adds that are worth an item */

typedef enum rq_conv_how { RQ_CONV_LIBRARY, RQ_CONV_PIXELS, RQ_CONV_PLANES, RQ_CONV_PHASES, RQ_CONV_PLAIN } rq_conv_how;

struct rq_conv_f32 {
    const rq_kernels *k;
    rq_conv_geom g;
    rq_conv_how how;
    struct rq_float_dnnl_conv *library;
    struct rq_phases_f32 *phases;
    rq_planes planes;
    int32_t *off;        /* [depth] of a group: where a tap finds the first output position */
    int64_t depth, step; /* step: floats from channel to channel of a laid-out image */
    int64_t slab, lay;   /* images laid out at a time, channels of an item of that */
    bool packed;         /* weights come from rq_conv_f32_pack */
    /* strips */
    int64_t runs, length;  /* columns: this many runs per image, of this many elements */
    bool tight;            /* a run is one in the output too; else it holds whole output rows with nothing between */
    int64_t panels, bands; /* panels of a run; bands of rows */
    int64_t chunk, chunks; /* panels of an item, whatever their run; items of a band */
    /* blocks */
    bool turned;
    int64_t lines, width;  /* an image is this many lines of outputs, each a run in the input */
    int64_t block, blocks; /* lines of a block; or, of one line, that many blocks share it evenly */
    int64_t units;         /* pairs of a panel and a block that are worth an item */
};

typedef struct rq_conv_job {
    const rq_conv_f32 *c;
    const rq_conv_after *after;
    float *y0;       /* of the first image of all */
    float *y, *laid; /* laid: the images of a slab */
    const float *x, *w, *bias;
    int64_t images, channels; /* of a slab */
} rq_conv_job;

static inline int64_t rq_conv_area(const int64_t v[3])
{
    return v[0] * v[1] * v[2];
}

/* Runs, panels, items of strips. */
void rq_conv_f32_cut(rq_conv_f32 *c);
int64_t rq_conv_f32_strip_items(const rq_conv_f32 *c, int64_t images);
void rq_conv_f32_strip_item(void *job, int64_t item);

/* Is c better turned? Then it is cut so. */
bool rq_conv_f32_turn(rq_conv_f32 *c);
int64_t rq_conv_f32_turned_items(const rq_conv_f32 *c, int64_t images);
void rq_conv_f32_turned_item(void *job, int64_t item);

#endif
