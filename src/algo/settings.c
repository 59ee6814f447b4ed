/* algo/settings.c — settings: their defaults, which of them contradict each other, and the table of their keys. */
#include "algo/settings.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/number.h"

static const char *const method_names[RQ_N_METHODS + 1] = {
    [RQ_METHOD_MINMAX] = "minmax",   [RQ_METHOD_EMA] = "ema", [RQ_METHOD_PERCENTILE] = "percentile",
    [RQ_METHOD_ENTROPY] = "entropy", [RQ_METHOD_MSE] = "mse", [RQ_METHOD_AVERAGE] = "average",
};

const char *rq_method_name(rq_method m)
{
    return (unsigned)m < RQ_N_METHODS ? method_names[m] : "?";
}

static const char *const weight_method_names[RQ_N_WEIGHT_METHODS + 1] = {
    [RQ_WEIGHTS_MSE] = "mse", [RQ_WEIGHTS_MINMAX] = "minmax", [RQ_WEIGHTS_ORT] = "ort",
    [RQ_WEIGHTS_RTN] = "rtn", [RQ_WEIGHTS_HQQ] = "hqq",       [RQ_WEIGHTS_K_QUANT] = "k-quant",
};

const char *rq_weight_method_name(rq_weight_method m)
{
    return (unsigned)m < RQ_N_WEIGHT_METHODS ? weight_method_names[m] : "?";
}

rq_settings rq_settings_defaults(void)
{
    return (rq_settings) {
        .method = RQ_METHOD_MSE,
        .percentile = 99.99,
        .decay = 0.99,
        .activations = RQ_DTYPE_U8,
        .weights = RQ_DTYPE_S8,
        .symmetric_weights = true,
        .block_size = -1,
        .weight_method = RQ_WEIGHTS_MSE,
        .symmetric_ranges = RQ_AUTO,
    };
}

rq_status rq_settings_check(const rq_settings *s, rq_err *err)
{
    const char *a = rq_dtype_name(s->activations), *w = rq_dtype_name(s->weights);
    if (s->activations == RQ_DTYPE_S8 && s->weights == RQ_DTYPE_U8)
        return rq_fail(err, RQ_BAD_ARG,
                       "s8 activations with u8 weights run nowhere; use s8 weights, or u8 activations");
    if (rq_dtype_bits(s->activations) < 8 || rq_dtype_bits(s->activations) > 16 || !rq_dtype_is_integer(s->activations))
        return rq_fail(err, RQ_BAD_ARG, "activations cannot be %s, only u8, s8, u16 or s16", a);
    if (rq_dtype_bits(s->weights) < 4 || rq_dtype_bits(s->weights) > 16 || !rq_dtype_is_integer(s->weights))
        return rq_fail(err, RQ_BAD_ARG, "weights of type %s need the mode weight-only", w);
    if (s->restricted && (s->activations != RQ_DTYPE_U8 || s->symmetric_activations))
        return rq_fail(err, RQ_BAD_ARG, "restricted-zero-point is for u8 activations that are not symmetric, not %s%s",
                       s->symmetric_activations ? "symmetric " : "", a);
    const int bins = s->bins ? s->bins : 128, groups = s->groups ? s->groups : 128;
    if (s->method == RQ_METHOD_ENTROPY && s->compat && groups > bins)
        return rq_fail(err, RQ_BAD_ARG, "%d quantized-bins cannot be made of %d bins", groups, bins);
    if ((s->bins || s->groups) && !s->compat)
        return rq_fail(err, RQ_BAD_ARG, "bins and quantized-bins are those of compat: onnxruntime");
    if ((s->keep_clamps || s->force_moves) && !s->compat)
        return rq_fail(err, RQ_BAD_ARG, "%s is for compat: onnxruntime", s->keep_clamps ? "keep-relu" : "force-moves");
    return RQ_OK;
}

/* ---- the keys ---- */

enum kind { /* of a row: what its text is, and the type of its field */
            BOOL,
            NOT_BOOL, /* bool, the other way round */
            REAL,     /* double in lo..hi */
            SINGLE,   /* float, lo..hi after rounding */
            INTEGER,  /* int in lo..hi */
            WORD,     /* an enum: position in words */
            TYPE,     /* rq_dtype, one of words */
            BLOCK,    /* int, a block size */
            AUTO,     /* rq_auto */
            TEXT,     /* const char * */
};

static const char *const compat_names[] = { "none", "onnxruntime", "onnxruntime-qoperator", NULL };
static const char *const activation_types[] = { "u8", "s8", "u16", "s16", NULL };
static const char *const weight_types[] = { "s8", "u8", "s4", "u4", "s16", "u16", "s2", "u2", NULL };

#define IN(field) offsetof(rq_settings, field), sizeof(((rq_settings *)0)->field)
#define GIVEN(flag) offsetof(rq_settings, flag)
#define FLAG(name, field)                                                                                              \
    {                                                                                                                  \
        name, false, "true or false", BOOL, IN(field), 0, 0, 0, NULL                                                   \
    }

const rq_settings_key rq_settings_keys[RQ_N_KEYS] = {
    [RQ_KEY_METHOD] = { "method", false, "minmax, ema, percentile, entropy, mse or average", WORD, IN(method), 0, 0, 0,
                        method_names },
    [RQ_KEY_OBSERVER] = { "observer", false,
                          "the name of an observer: min_max, moving_average_min_max, ema_min_max, histogram, "
                          "ema_percentile, mse or ema_mse, or one that the program brings",
                          TEXT, IN(observer), 0, 0, 0, NULL },
    [RQ_KEY_PERCENTILE] = { "percentile", false, "a number above 0, at most 100", REAL, IN(percentile), 0, DBL_TRUE_MIN,
                            100, NULL },
    [RQ_KEY_DECAY] = { "decay", false, "a number from 0 to below 1", REAL, IN(decay), 0, 0, 1 - DBL_EPSILON / 2, NULL },
    [RQ_KEY_ACTIVATIONS] = { "activations", false, "u8, s8, u16 or s16", TYPE, IN(activations), 0, 0, 0,
                             activation_types },
    [RQ_KEY_WEIGHTS] = { "weights", false, "s8, u8, s4, u4, s16, u16, s2 or u2", TYPE, IN(weights), 0, 0, 0,
                         weight_types },
    [RQ_KEY_SYMMETRIC] = FLAG("symmetric", symmetric_activations),
    [RQ_KEY_AFFINE_WEIGHTS] = { "affine-weights", false, "true or false", NOT_BOOL, IN(symmetric_weights), 0, 0, 0,
                                NULL },
    [RQ_KEY_PER_TENSOR] = FLAG("per-tensor", per_tensor),
    [RQ_KEY_BLOCK_SIZE] = { "block-size", false, "0, 16, 32, 64, 128 or 256", BLOCK, IN(block_size), 0, 0, 256, NULL },
    [RQ_KEY_WEIGHT_METHOD] = { "weight-method", false, "mse, minmax, ort, rtn, hqq or k-quant", WORD, IN(weight_method),
                               0, 0, 0, weight_method_names },
    [RQ_KEY_FLOAT] = { "float", true, "true or false", BOOL, IN(keep_float), 0, 0, 0, NULL },
    [RQ_KEY_SCALE] = { "scale", true, "a number above 0", SINGLE, IN(scale), GIVEN(pinned), FLT_TRUE_MIN, FLT_MAX,
                       NULL },
    [RQ_KEY_ZERO_POINT] = { "zero-point", true, "an integer from -32768 to 65535", INTEGER, IN(zero_point), 0, -32768,
                            65535, NULL },
    [RQ_KEY_LO] = { "lo", true, "a number, at most 0", REAL, IN(lo), GIVEN(has_lo), -DBL_MAX, 0, NULL },
    [RQ_KEY_HI] = { "hi", true, "a number, at least 0", REAL, IN(hi), GIVEN(has_hi), 0, DBL_MAX, NULL },
    [RQ_KEY_AXIS] = { "axis", true, "an integer from -8 to 7", INTEGER, IN(axis), GIVEN(has_axis), -RQ_MAX_RANK,
                      RQ_MAX_RANK - 1, NULL },
    [RQ_KEY_REDUCE_RANGE] = FLAG("reduce-range", reduced),
    [RQ_KEY_RESTRICTED] = FLAG("restricted-zero-point", restricted),
    [RQ_KEY_MIN_RANGE] = { "min-range", false, "a number, at least 0", REAL, IN(min_range), 0, 0, DBL_MAX, NULL },
    [RQ_KEY_SYMMETRIC_RANGES] = { "symmetric-ranges", false, "true, false or auto", AUTO, IN(symmetric_ranges), 0, 0, 0,
                                  NULL },
    [RQ_KEY_COMPAT] = { "compat", false, "none, onnxruntime or onnxruntime-qoperator", WORD, IN(compat), 0, 0, 0,
                        compat_names },
    [RQ_KEY_BINS] = { "bins", false, "an integer from 16 to 65536", INTEGER, IN(bins), 0, 16, 65536, NULL },
    [RQ_KEY_GROUPS] = { "quantized-bins", false, "an integer from 2 to 65536", INTEGER, IN(groups), 0, 2, 65536, NULL },
    [RQ_KEY_FLOAT_BIAS] = FLAG("float-bias", float_bias),
    [RQ_KEY_FLOAT_OUTPUT] = FLAG("float-output", float_output),
    [RQ_KEY_WEIGHT_PAIRS] = FLAG("weight-pairs", weight_pairs),
    [RQ_KEY_DEDICATED_PAIRS] = FLAG("dedicated-pairs", dedicated_pairs),
    [RQ_KEY_KEEP_CLAMPS] = FLAG("keep-relu", keep_clamps),
    [RQ_KEY_FORCE_MOVES] = FLAG("force-moves", force_moves),
    [RQ_KEY_CONST_MATMUL] = FLAG("const-matmul", const_matmul),
};

static bool read_double(const char *text, double *out)
{
    char *end;
    errno = 0;
    *out = rq_number_parse(text, &end);
    return end != text && !*end && isfinite(*out);
}

static bool read_bool(const char *text, bool *out)
{
    static const char *const yes[] = { "true", "True", "yes", "on" }, *const no[] = { "false", "False", "no", "off" };
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
        if (!strcmp(text, yes[i]) || !strcmp(text, no[i])) {
            *out = !strcmp(text, yes[i]);
            return true;
        }
    return false;
}

/* Position of text in words, which end in NULL; -1: it is not there. */
static int find(const char *const *words, const char *text)
{
    for (int i = 0; words[i]; i++)
        if (!strcmp(words[i], text))
            return i;
    return -1;
}

static rq_dtype type_of(const char *name)
{
    static const rq_dtype types[] = { RQ_DTYPE_S2, RQ_DTYPE_U2, RQ_DTYPE_S4,  RQ_DTYPE_U4,
                                      RQ_DTYPE_S8, RQ_DTYPE_U8, RQ_DTYPE_S16, RQ_DTYPE_U16 };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (!strcmp(name, rq_dtype_name(types[i])))
            return types[i];
    return RQ_DTYPE_NONE;
}

static bool read_number(const rq_settings_key *row, const char *text, double *v)
{
    if (!read_double(text, v))
        return false;
    if (row->kind == SINGLE)
        *v = (double)(float)*v;
    if (row->kind == BLOCK && !(*v == 0 || *v == 16 || *v == 32 || *v == 64 || *v == 128 || *v == 256))
        return false;
    return *v >= row->lo && *v <= row->hi && (row->kind == REAL || row->kind == SINGLE || *v == rint(*v));
}

bool rq_settings_set(rq_settings *s, rq_key k, const char *text)
{
    const rq_settings_key *row = &rq_settings_keys[k];
    char *to = (char *)s + row->at;
    bool b = false;
    double v = 0;
    int n = 0;
    switch ((enum kind)row->kind) {
    case BOOL:
    case NOT_BOOL:
        if (!read_bool(text, &b))
            return false;
        *(bool *)to = b == (row->kind == BOOL);
        break;
    case REAL:
        if (!read_number(row, text, &v))
            return false;
        *(double *)(void *)to = v;
        break;
    case SINGLE:
        if (!read_number(row, text, &v))
            return false;
        *(float *)(void *)to = (float)v;
        break;
    case INTEGER:
    case BLOCK:
        if (!read_number(row, text, &v))
            return false;
        *(int *)(void *)to = (int)v;
        break;
    case AUTO:
        if (strcmp(text, "auto") != 0 && !read_bool(text, &b))
            return false;
        *(rq_auto *)(void *)to = !strcmp(text, "auto") ? RQ_AUTO : b ? RQ_YES : RQ_NO;
        break;
    case WORD:
        n = find(row->words, text);
        if (n < 0)
            return false;
        memcpy(to, &n, sizeof n); /* an enum is an int */
        break;
    case TYPE:
        if (find(row->words, text) < 0)
            return false;
        *(rq_dtype *)(void *)to = type_of(text);
        break;
    case TEXT:
        if (!text[0])
            return false;
        *(const char **)(void *)to = text;
        break;
    }
    if (row->flag)
        *((bool *)s + row->flag) = true;
    return true;
}

void rq_settings_take(rq_settings *to, const rq_settings *from, rq_key k)
{
    const rq_settings_key *row = &rq_settings_keys[k];
    memcpy((char *)to + row->at, (const char *)from + row->at, row->size);
    if (row->flag)
        *((bool *)to + row->flag) = true;
}
