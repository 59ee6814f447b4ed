/* formats/image_scale.h — a picture resized while its rows come in. */
#ifndef RQ_FORMATS_IMAGE_SCALE_H
#define RQ_FORMATS_IMAGE_SCALE_H

#include <stddef.h>
#include <stdint.h>

#include "requant/image.h"

typedef struct rq_image_scale {
    int64_t in_h, in_w, out_h, out_w;
    rq_image_filter filter;
    struct rq_image_taps *across, *down; /* NULL: that side keeps its size */
    uint8_t *wide;                       /* [in_h][out_w][3]: every row, already as wide as it will be */
} rq_image_scale;

/* *s is overwritten; fine to release after an error. Takes 3 * in_h * out_w bytes. RQ_NO_MEMORY. */
rq_status rq_image_scale_init(rq_image_scale *s, int64_t in_h, int64_t in_w, int64_t out_h, int64_t out_w,
                              rq_image_filter filter, bool antialias);
/* Row y of the picture, rgb[in_w][3]. */
void rq_image_scale_row(rq_image_scale *s, int64_t y, const uint8_t *rgb);
/* Row y of the result to rgb[out_w][3], once all rows are in. */
void rq_image_scale_result(const rq_image_scale *s, int64_t y, uint8_t *rgb);
void rq_image_scale_release(rq_image_scale *s);

#endif
