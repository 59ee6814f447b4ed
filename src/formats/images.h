/* formats/images.h — a folder of JPEG and PNG as arrays of samples. */
#ifndef RQ_FORMATS_IMAGES_H
#define RQ_FORMATS_IMAGES_H

#include "base/mem.h"
#include "requant/image.h"

/* Files in the folder itself, or one level down: then a sub-folder is a class. Where all are named by whole numbers, these are
 * the labels; otherwise classes are numbered in the order of their names. Files come in the order of their names, class by
 * class. */
typedef struct rq_images {
    rq_arena names;
    const char **path; /* [n] */
    int32_t *label;    /* [n]; -1: no classes */
    int n, cap;
    const char **class_name; /* [n_classes] sub-folders */
    int *class_end;          /* [n_classes] the first file behind it */
    int n_classes, cap_classes, cap_ends;
    rq_preprocess p;
    bool codes;   /* rows are u8 */
    rq_shape row; /* of every sample, with p applied */
} rq_images;

/* Does the folder hold pictures (and no numpy files)? */
bool rq_images_are_in(const char *folder);
/* List the folder. *s is overwritten; fine to close after an error. RQ_IO; RQ_BAD_DATA: a class without pictures, or pictures
 * both beside and inside sub-folders; RQ_NO_MEMORY. */
rq_status rq_images_open(rq_images *s, const char *folder, rq_err *err);
/* Settle how they are read and what shape they have: that of the first. Errors of rq_image_read. */
rq_status rq_images_prepare(rq_images *s, const rq_preprocess *p, bool codes, rq_err *err);
void rq_images_close(rq_images *s);

/* Rows for rq_samples_add: pictures and their classes (s64). RQ_BAD_DATA: a picture comes out with another shape. */
rq_status rq_images_read(void *images, int64_t first, int64_t n, void *dst, rq_err *err);
rq_status rq_images_read_labels(void *images, int64_t first, int64_t n, void *dst, rq_err *err);

#endif
