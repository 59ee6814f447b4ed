/* formats/image_decode.h — JPEG and PNG to rows of 8-bit RGB, one row at a time, so that a large picture never stands
 * in memory as a whole where its format does not force it. */
#ifndef RQ_FORMATS_IMAGE_DECODE_H
#define RQ_FORMATS_IMAGE_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "requant/status.h"

typedef struct rq_image_sink {
    /* Called once, before rows; an error ends the decoding. */
    rq_status (*begin)(void *arg, int64_t height, int64_t width, rq_err *err);
    /* Rows in order; rgb is [width][3]. */
    void (*row)(void *arg, int64_t y, const uint8_t *rgb);
    void *arg;
} rq_image_sink;

/* Is it one of the two, by its first bytes? */
bool rq_image_sniff(const uint8_t *data, size_t size);

/* Decode the whole file at data. Memory taken before the first row is at most 64 MiB, or in proportion to `size`: what a header
 * promises is checked against the bytes there are.
 * RQ_BAD_FILE, RQ_UNSUPPORTED (CMYK), RQ_NO_MEMORY, what begin returned. */
rq_status rq_image_decode(const uint8_t *data, size_t size, const rq_image_sink *sink, rq_err *err);

#endif
