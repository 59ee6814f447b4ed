/* formats/model_input.c — pictures and labels of a model as metadata of its graph. */
#include "formats/model_input.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char image_key[] = "requant.image.", labels_key[] = "requant.labels";

bool rq_model_input_owns(const char *key)
{
    return !strncmp(key, image_key, sizeof image_key - 1) || !strcmp(key, labels_key);
}

static const char *meta_of(const rq_graph *g, const char *prefix, const char *name)
{
    const size_t n = strlen(prefix);
    for (int i = 0; i < g->n_meta; i++)
        if (!strncmp(g->meta[i].key, prefix, n) && !strcmp(g->meta[i].key + n, name))
            return g->meta[i].value;
    return NULL;
}

/* ---- pictures ---- */

rq_status rq_model_input_set_image(rq_graph *g, const char *input, rq_image_channels channels, int64_t height,
                                   int64_t width, rq_err *err)
{
    rq_buf key = { 0 };
    char value[64];
    snprintf(value, sizeof value, "%s %" PRId64 "x%" PRId64, rq_image_channels_name(channels), height, width);
    rq_buf_adds(&key, image_key);
    rq_buf_adds(&key, input);
    const rq_status st = key.failed ? RQ_NO_MEMORY : rq_graph_set_meta(g, key.data, value);
    rq_buf_release(&key);
    return st ? rq_fail(err, st, "not enough memory") : RQ_OK;
}

bool rq_model_input_image(const rq_graph *g, const char *input, rq_preprocess *out)
{
    enum { LARGEST = 1 << 15 };
    const char *value = meta_of(g, image_key, input);
    for (int c = 0; value && c < RQ_N_IMAGE_CHANNELS; c++) {
        const char *name = rq_image_channels_name((rq_image_channels)c);
        const size_t n = strlen(name);
        char *end;
        if (strncmp(value, name, n) != 0 || value[n] != ' ')
            continue;
        const long height = strtol(value + n + 1, &end, 10);
        const long width = *end == 'x' ? strtol(end + 1, &end, 10) : 0;
        if (*end || height < 1 || width < 1 || height > LARGEST || width > LARGEST)
            return false;
        *out = rq_preprocess_defaults();
        out->channels = (rq_image_channels)c;
        out->resize_height = height;
        out->resize_width = width;
        out->scale = 1;
        return true;
    }
    return false;
}

/* ---- labels ---- */

rq_status rq_model_input_set_labels(rq_graph *g, const char *labels, rq_err *err)
{
    const rq_status st = rq_graph_set_meta(g, labels_key, labels);
    return st ? rq_fail(err, st, "not enough memory") : RQ_OK;
}

bool rq_model_input_has_labels(const rq_graph *g)
{
    return meta_of(g, labels_key, "") != NULL;
}

rq_status rq_model_input_labels(const rq_graph *g, const char *json, rq_arena *a, const char *const **texts, int *n,
                                bool *whole)
{
    const char *text = json ? json : meta_of(g, labels_key, "");
    json_t *list = text ? json_loads(text, 0, NULL) : NULL, *label;
    const size_t count = json_array_size(list);
    const char **out = count && count < INT32_MAX ? rq_arena_alloc(a, count, sizeof *out) : NULL;
    bool numbers = true, strings = true, ok = out != NULL;
    char number[24];
    size_t i;
    *n = 0;
    json_array_foreach(list, i, label)
    {
        numbers = numbers && json_is_integer(label);
        strings = strings && json_is_string(label);
        if (!ok || (!numbers && !strings))
            break;
        if (numbers)
            snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(label));
        const char *own = numbers ? number : json_string_value(label);
        ok = (out[i] = rq_arena_strndup(a, own, strlen(own))) != NULL;
    }
    json_decref(list);
    *texts = out;
    *whole = numbers;
    if (ok && (numbers || strings))
        *n = (int)count;
    return count && !ok ? RQ_NO_MEMORY : RQ_OK;
}

static bool is_label(const json_t *label, const char *name)
{
    char number[24];
    if (json_is_string(label))
        return !strcmp(json_string_value(label), name);
    if (!json_is_integer(label))
        return false;
    snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(label));
    return !strcmp(number, name);
}

bool rq_model_input_places(const rq_graph *g, const char *const *names, int n, int32_t *place)
{
    const char *text = meta_of(g, labels_key, "");
    json_t *list = text ? json_loads(text, 0, NULL) : NULL, *label;
    bool all = json_is_array(list);
    for (int k = 0; all && k < n; k++) {
        size_t i;
        place[k] = -1;
        json_array_foreach(list, i, label)
        {
            if (place[k] < 0 && is_label(label, names[k]))
                place[k] = (int32_t)i;
        }
        all = place[k] >= 0;
    }
    json_decref(list);
    return all;
}
