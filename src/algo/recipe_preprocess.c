/* algo/recipe_preprocess.c — preprocess: {resize: 256, crop: 224, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224,
 * 0.225]}. Keys are in the order of requant/image.h; a size is one number or [height, width]. */
#include "algo/recipe_preprocess.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/nearest.h"
#include "base/number.h"

typedef struct reader {
    rq_preprocess *p;
    yaml_document_t *doc;
    const char *path;
    rq_err *err;
} reader;

static rq_status expected(const reader *in, const yaml_node_t *at, const char *key, const char *what)
{
    return rq_fail(in->err, RQ_BAD_RECIPE, "%s:%zu: preprocess: '%s' wants %s", in->path, at->start_mark.line + 1, key,
                   what);
}

static const char *text_of(const yaml_node_t *n)
{
    return n && n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}

static bool number_of(const yaml_node_t *n, double *out)
{
    const char *text = text_of(n);
    char *end;
    errno = 0;
    *out = text ? rq_number_parse(text, &end) : 0;
    return text && end != text && !*end && isfinite(*out);
}

/* One number, or a list of exactly `n`; *is_list says which it was. */
static bool numbers(const reader *in, const yaml_node_t *at, int n, double *out, bool *is_list)
{
    *is_list = at->type == YAML_SEQUENCE_NODE;
    if (!*is_list)
        return number_of(at, out);
    yaml_node_item_t *i = at->data.sequence.items.start;
    if (at->data.sequence.items.top - i != n)
        return false;
    for (int k = 0; k < n; k++)
        if (!number_of(yaml_document_get_node(in->doc, i[k]), &out[k]))
            return false;
    return true;
}

static bool is_size(double v)
{
    return v >= 1 && v <= 32768 && v == floor(v);
}

static rq_status read_resize(const reader *in, const yaml_node_t *at)
{
    double v[2];
    bool pair;
    if (!numbers(in, at, 2, v, &pair) || !is_size(v[0]) || (pair && !is_size(v[1])))
        return expected(in, at, "resize", "the shorter side in pixels, or [height, width]");
    if (pair)
        in->p->resize_height = (int64_t)v[0], in->p->resize_width = (int64_t)v[1];
    else
        in->p->resize_short = (int64_t)v[0];
    return RQ_OK;
}

static rq_status read_crop(const reader *in, const yaml_node_t *at)
{
    double v[2];
    bool pair;
    if (!numbers(in, at, 2, v, &pair) || !is_size(v[0]) || (pair && !is_size(v[1])))
        return expected(in, at, "crop", "a side in pixels, or [height, width]");
    in->p->crop_height = (int64_t)v[0];
    in->p->crop_width = (int64_t)v[pair];
    return RQ_OK;
}

static rq_status read_filter(const reader *in, const yaml_node_t *at)
{
    for (int f = 0; f < RQ_N_IMAGE_FILTERS; f++)
        if (text_of(at) && !strcmp(text_of(at), rq_image_filter_name((rq_image_filter)f))) {
            in->p->filter = (rq_image_filter)f;
            return RQ_OK;
        }
    return expected(in, at, "filter", "nearest, box, bilinear or bicubic");
}

static rq_status read_antialias(const reader *in, const yaml_node_t *at)
{
    const char *t = text_of(at);
    if (!t || (strcmp(t, "true") && strcmp(t, "false")))
        return expected(in, at, "antialias", "true or false");
    in->p->antialias = !strcmp(t, "true");
    return RQ_OK;
}

static rq_status read_channels(const reader *in, const yaml_node_t *at)
{
    for (int c = 0; c < RQ_N_IMAGE_CHANNELS; c++)
        if (text_of(at) && !strcmp(text_of(at), rq_image_channels_name((rq_image_channels)c))) {
            in->p->channels = (rq_image_channels)c;
            return RQ_OK;
        }
    return expected(in, at, "channels", "rgb, bgr or gray");
}

static rq_status read_scale(const reader *in, const yaml_node_t *at)
{
    if (!number_of(at, &in->p->scale) || in->p->scale == 0)
        return expected(in, at, "scale", "a number that is not 0; without it codes are divided by 255");
    return RQ_OK;
}

static rq_status read_three(const reader *in, const yaml_node_t *at, float out[3], const char *key, bool positive)
{
    double v[3];
    bool list;
    if (at->type == YAML_SEQUENCE_NODE && at->data.sequence.items.top - at->data.sequence.items.start == 1)
        at = yaml_document_get_node(in->doc, at->data.sequence.items.start[0]); /* a list of one is that one */
    if (!numbers(in, at, 3, v, &list) || (positive && (v[0] <= 0 || (list && (v[1] <= 0 || v[2] <= 0)))))
        return expected(in, at, key, positive ? "a number above 0, or three" : "a number, or three");
    for (int c = 0; c < 3; c++)
        out[c] = (float)v[list ? c : 0];
    return RQ_OK;
}

static rq_status read_mean(const reader *in, const yaml_node_t *at)
{
    return read_three(in, at, in->p->mean, "mean", false);
}

static rq_status read_std(const reader *in, const yaml_node_t *at)
{
    return read_three(in, at, in->p->std, "std", true);
}

static rq_status read_layout(const reader *in, const yaml_node_t *at)
{
    const char *t = text_of(at);
    if (!t || (strcmp(t, "nchw") && strcmp(t, "nhwc")))
        return expected(in, at, "layout", "nchw or nhwc");
    in->p->channels_last = !strcmp(t, "nhwc");
    return RQ_OK;
}

static const struct {
    const char *name;
    rq_status (*read)(const reader *in, const yaml_node_t *at);
} keys[] = {
    { "resize", read_resize },       { "crop", read_crop },         { "filter", read_filter },
    { "antialias", read_antialias }, { "channels", read_channels }, { "scale", read_scale },
    { "mean", read_mean },           { "std", read_std },           { "layout", read_layout },
};
enum { N_KEYS = sizeof keys / sizeof keys[0] };

rq_status rq_recipe_read_preprocess(rq_preprocess *out, yaml_document_t *doc, const yaml_node_t *map, const char *path,
                                    rq_err *err)
{
    unsigned seen = 0;
    *out = rq_preprocess_defaults();
    const reader in = { out, doc, path, err };
    if (map->type == YAML_SCALAR_NODE && !map->data.scalar.length)
        return RQ_OK;
    if (map->type != YAML_MAPPING_NODE)
        return rq_fail(err, RQ_BAD_RECIPE, "%s:%zu: 'preprocess' wants keys and values", path,
                       map->start_mark.line + 1);
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        const yaml_node_t *at = yaml_document_get_node(doc, p->key);
        const char *word = text_of(at);
        rq_nearest near = rq_nearest_to(word ? word : "");
        char hint[RQ_NEAREST_HINT];
        int k = 0;
        while (k < N_KEYS && (!word || strcmp(word, keys[k].name)))
            rq_nearest_try(&near, keys[k++].name);
        if (k == N_KEYS)
            return rq_fail(err, RQ_BAD_RECIPE, "%s:%zu: unknown key '%.80s' in 'preprocess'%s", path,
                           at->start_mark.line + 1, word ? word : "", rq_nearest_hint(&near, hint));
        if (seen & 1u << k)
            return rq_fail(err, RQ_BAD_RECIPE, "%s:%zu: '%s' stands twice", path, at->start_mark.line + 1, word);
        seen |= 1u << k;
        RQ_TRY(keys[k].read(&in, yaml_document_get_node(doc, p->value)));
    }
    return RQ_OK;
}
