/* requant/image.h — how a JPEG or PNG becomes the numbers a model was trained on: decoded to 8 bits, resized, cropped,
 * scaled, shifted, laid out. Every step is what torchvision and Pillow do, bit for bit where they compute in integers, so that
 * a model calibrates on what it saw in training. */
#ifndef REQUANT_IMAGE_H
#define REQUANT_IMAGE_H

#include <requant/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rq_image_filter {
    RQ_IMAGE_NEAREST,
    RQ_IMAGE_BOX,
    RQ_IMAGE_BILINEAR,
    RQ_IMAGE_BICUBIC, /* a = -0.5 */
    RQ_N_IMAGE_FILTERS
} rq_image_filter;
RQ_API const char *rq_image_filter_name(rq_image_filter f); /* "bilinear" ... */

typedef enum rq_image_channels {
    RQ_IMAGE_RGB,
    RQ_IMAGE_BGR,
    RQ_IMAGE_GRAY, /* one channel: (19595 R + 38470 G + 7471 B + 32768) >> 16 */
    RQ_N_IMAGE_CHANNELS
} rq_image_channels;
/* "rgb" ... */
RQ_API const char *rq_image_channels_name(rq_image_channels c);

/* In the order in which it is done. Sizes in pixels, 0: not done. */
typedef struct rq_preprocess {
    int64_t resize_short;                /* the shorter side becomes this, the other follows, rounded down */
    int64_t resize_height, resize_width; /* or: exactly this, whatever the shape was */
    rq_image_filter filter;              /* of resizing */
    bool antialias;                  /* filter as wide as what it shrinks (Pillow); false: as narrow as when growing */
    int64_t crop_height, crop_width; /* the middle; an image smaller than that is an error */
    rq_image_channels channels;
    double scale;          /* x = code * scale; 0: code / 255 */
    float mean[3], std[3]; /* x = (x - mean) / std, per channel in the order above; std 0 means 1 */
    bool channels_last;    /* rows are [height, width, channels], not [channels, height, width] */
} rq_preprocess;

/* No resizing or cropping, RGB, code / 255, channels first; bilinear with antialiasing for who sets a size. Never fails. */
RQ_API rq_preprocess rq_preprocess_defaults(void);

/* Read one file into out, which is created: [channels, height, width] or [height, width, channels]; f32, or u8 where `codes` is
 * set (then neither scale, mean nor std is applied). Yours to release.
 * RQ_IO; RQ_BAD_FILE: no JPEG or PNG, damaged, or larger than its bytes can hold; RQ_BAD_DATA: smaller than the crop;
 * RQ_BAD_ARG: p; RQ_UNSUPPORTED: CMYK; RQ_NO_MEMORY. The sentence begins with the file. From any thread. */
RQ_API rq_status rq_image_read(rq_tensor *out, const char *path, const rq_preprocess *p, bool codes, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
