/* formats/image.c — one picture through a preprocess: where the middle is, what a code becomes, in which order. */
#include "requant/image.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "formats/image_decode.h"
#include "formats/image_scale.h"

enum { MOST_PIXELS = 1 << 26 }; /* of the resized picture */

static const char *const filter_names[RQ_N_IMAGE_FILTERS] = {
    [RQ_IMAGE_NEAREST] = "nearest",
    [RQ_IMAGE_BOX] = "box",
    [RQ_IMAGE_BILINEAR] = "bilinear",
    [RQ_IMAGE_BICUBIC] = "bicubic",
};
static const char *const channel_names[RQ_N_IMAGE_CHANNELS] = {
    [RQ_IMAGE_RGB] = "rgb",
    [RQ_IMAGE_BGR] = "bgr",
    [RQ_IMAGE_GRAY] = "gray",
};

const char *rq_image_filter_name(rq_image_filter f)
{
    return (unsigned)f < RQ_N_IMAGE_FILTERS ? filter_names[f] : "?";
}

const char *rq_image_channels_name(rq_image_channels c)
{
    return (unsigned)c < RQ_N_IMAGE_CHANNELS ? channel_names[c] : "?";
}

rq_preprocess rq_preprocess_defaults(void)
{
    return (rq_preprocess) { .filter = RQ_IMAGE_BILINEAR, .antialias = true };
}

static rq_status check(const rq_preprocess *p, rq_err *err)
{
    const int64_t size[] = { p->resize_short, p->resize_height, p->resize_width, p->crop_height, p->crop_width };
    for (size_t i = 0; i < sizeof size / sizeof size[0]; i++)
        if (size[i] < 0 || size[i] > 1 << 15)
            return rq_fail(err, RQ_BAD_ARG, "preprocess: size %lld, expected at most %d", (long long)size[i], 1 << 15);
    if (!p->resize_height != !p->resize_width || !p->crop_height != !p->crop_width)
        return rq_fail(err, RQ_BAD_ARG, "preprocess: one side of a size is given, the other is not");
    if (p->resize_short && p->resize_height)
        return rq_fail(err, RQ_BAD_ARG, "preprocess: both the shorter side and the whole size are to be resized to");
    if ((unsigned)p->filter >= RQ_N_IMAGE_FILTERS || (unsigned)p->channels >= RQ_N_IMAGE_CHANNELS)
        return rq_fail(err, RQ_BAD_ARG, "preprocess: no such filter or channels");
    for (int c = 0; c < 3; c++)
        if (!isfinite(p->mean[c]) || !isfinite(p->std[c]) || p->std[c] < 0)
            return rq_fail(err, RQ_BAD_ARG, "preprocess: mean and std want finite numbers, std above 0");
    return isfinite(p->scale) ? RQ_OK : rq_fail(err, RQ_BAD_ARG, "preprocess: scale is not finite");
}

/* ---- decoding into the scaler ---- */

typedef struct work {
    const rq_preprocess *p;
    rq_image_scale scale;
    int64_t top, left, height, width; /* what is kept of the resized picture */
} work;

/* Half of a difference, a tie to the even one (torchvision's CenterCrop). */
static int64_t middle(int64_t have, int64_t want)
{
    const int64_t d = have - want, half = d / 2;
    return d % 2 ? half + half % 2 : half;
}

static rq_status begin(void *arg, int64_t h, int64_t w, rq_err *err)
{
    work *k = arg;
    const rq_preprocess *p = k->p;
    int64_t out_h = p->resize_height ? p->resize_height : h, out_w = p->resize_width ? p->resize_width : w;
    if (p->resize_short) {
        const int64_t s = p->resize_short;
        out_h = h <= w ? s : s * h / w;
        out_w = h <= w ? s * w / h : s;
    }
    if (out_h > MOST_PIXELS / out_w)
        return rq_fail(err, RQ_BAD_FILE, "would be %lld x %lld pixels after resizing", (long long)out_w,
                       (long long)out_h);
    k->height = p->crop_height ? p->crop_height : out_h;
    k->width = p->crop_width ? p->crop_width : out_w;
    if (k->height > out_h || k->width > out_w)
        return rq_fail(err, RQ_BAD_DATA, "is %lld x %lld pixels after resizing, smaller than the crop of %lld x %lld",
                       (long long)out_w, (long long)out_h, (long long)k->width, (long long)k->height);
    k->top = middle(out_h, k->height);
    k->left = middle(out_w, k->width);
    return rq_image_scale_init(&k->scale, h, w, out_h, out_w, p->filter, p->antialias);
}

static void take_row(void *arg, int64_t y, const uint8_t *rgb)
{
    rq_image_scale_row(&((work *)arg)->scale, y, rgb);
}

/* ---- codes to numbers ---- */

/* Code v of channel c as the model gets it. */
static float number(const rq_preprocess *p, int c, int v)
{
    float x = p->scale != 0 ? (float)(v * p->scale) : (float)v / 255.0f;
    return (x - p->mean[c]) / (p->std[c] != 0 ? p->std[c] : 1.0f);
}

static int pick(const rq_preprocess *p, const uint8_t *rgb, int c)
{
    if (p->channels == RQ_IMAGE_GRAY)
        return (int)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 0x8000u) >> 16);
    return rgb[p->channels == RQ_IMAGE_BGR ? 2 - c : c];
}

static rq_status fill(rq_tensor *out, const work *k, bool codes)
{
    const rq_preprocess *p = k->p;
    const int n = p->channels == RQ_IMAGE_GRAY ? 1 : 3;
    const int64_t area = k->height * k->width;
    float table[3][256];
    const rq_shape shape =
        p->channels_last ? (rq_shape) { 3, { k->height, k->width, n } } : (rq_shape) { 3, { n, k->height, k->width } };
    RQ_TRY(rq_tensor_create(out, codes ? RQ_DTYPE_U8 : RQ_DTYPE_F32, &shape, false));
    uint8_t *row = rq_mem_alloc((size_t)k->scale.out_w, 3);
    if (!row) {
        rq_tensor_release(out);
        return RQ_NO_MEMORY;
    }
    for (int c = 0; c < n; c++)
        for (int v = 0; v < 256; v++)
            table[c][v] = number(p, c, v);
    for (int64_t y = 0; y < k->height; y++) {
        rq_image_scale_result(&k->scale, k->top + y, row);
        for (int64_t x = 0; x < k->width; x++)
            for (int c = 0; c < n; c++) {
                const int v = pick(p, row + (k->left + x) * 3, c);
                const int64_t at = y * k->width + x, to = p->channels_last ? at * n + c : c * area + at;
                if (codes)
                    out->u8[to] = (uint8_t)v;
                else
                    out->f32[to] = table[c][v];
            }
    }
    rq_mem_free(row);
    return RQ_OK;
}

rq_status rq_image_read(rq_tensor *out, const char *path, const rq_preprocess *p, bool codes, rq_err *err)
{
    rq_map map;
    work k = { .p = p };
    const rq_image_sink sink = { begin, take_row, &k };
    *out = (rq_tensor) { 0 };
    RQ_TRY(check(p, err));
    RQ_TRY(rq_file_map(&map, path, err));
    if (err)
        err->text[0] = 0;
    rq_status st = rq_image_decode(map.data, map.size, &sink, err);
    if (st == RQ_OK)
        st = fill(out, &k, codes);
    rq_image_scale_release(&k.scale);
    rq_file_unmap(&map);
    if (st == RQ_NO_MEMORY)
        return rq_fail(err, st, "%s: not enough memory to decode it", path);
    return st ? rq_fail_in(err, st, "%s", path) : RQ_OK;
}
