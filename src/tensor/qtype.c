/* tensor/qtype.c — a storage and the codes of it that are used; the names other systems give them. */
#include "requant/qtype.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/nearest.h"

static const rq_dtype storages[] = { RQ_DTYPE_S8,  RQ_DTYPE_U8,       RQ_DTYPE_S16,   RQ_DTYPE_U16,
                                     RQ_DTYPE_S32, RQ_DTYPE_S4,       RQ_DTYPE_U4,    RQ_DTYPE_S2,
                                     RQ_DTYPE_U2,  RQ_DTYPE_F8E4M3FN, RQ_DTYPE_F8E5M2 };
enum { N_STORAGES = sizeof storages / sizeof *storages };

/* Other spellings of types. Widths that are no storage of their own ("int6") are read by their number. */
static const struct {
    const char *name;
    rq_dtype dtype;
} names[] = {
    { "quint4x2", RQ_DTYPE_U4 },         { "quint2x4", RQ_DTYPE_U2 },     { "e4m3", RQ_DTYPE_F8E4M3FN },
    { "e4m3fn", RQ_DTYPE_F8E4M3FN },     { "fp8", RQ_DTYPE_F8E4M3FN },    { "fp8_e4m3", RQ_DTYPE_F8E4M3FN },
    { "fp8_e4m3fn", RQ_DTYPE_F8E4M3FN }, { "f8e4m3", RQ_DTYPE_F8E4M3FN }, { "float8_e4m3fn", RQ_DTYPE_F8E4M3FN },
    { "e5m2", RQ_DTYPE_F8E5M2 },         { "fp8_e5m2", RQ_DTYPE_F8E5M2 }, { "float8_e5m2", RQ_DTYPE_F8E5M2 },
};

/* Words before a width. */
static const struct {
    const char *word;
    bool is_signed;
} prefixes[] = {
    { "quint", false }, { "uint", false }, { "qint", true }, { "int", true }, { "u", false }, { "s", true }
};

static bool is_storage(rq_dtype d)
{
    for (int i = 0; i < N_STORAGES; i++)
        if (storages[i] == d)
            return true;
    return false;
}

rq_qtype rq_qtype_of(rq_dtype d)
{
    int64_t lo, hi;
    rq_dtype_limits(d, &lo, &hi);
    if (!is_storage(d))
        lo = hi = 0;
    return (rq_qtype) { d, (int32_t)lo, (int32_t)hi };
}

rq_status rq_qtype_bits(rq_qtype *out, int bits, bool is_signed, bool narrow, rq_err *err)
{
    if (bits < 2 || bits > 16)
        return rq_fail(err, RQ_BAD_ARG, "a type of %d bits, expected 2 to 16", bits);
    rq_dtype s = bits == 2 ? RQ_DTYPE_S2 : bits <= 4 ? RQ_DTYPE_S4 : bits <= 8 ? RQ_DTYPE_S8 : RQ_DTYPE_S16;
    rq_dtype u = bits == 2 ? RQ_DTYPE_U2 : bits <= 4 ? RQ_DTYPE_U4 : bits <= 8 ? RQ_DTYPE_U8 : RQ_DTYPE_U16;
    const int32_t half = 1 << (bits - 1);
    *out = is_signed ? (rq_qtype) { s, narrow ? 1 - half : -half, half - 1 } : (rq_qtype) { u, 0, 2 * half - 1 };
    return RQ_OK;
}

rq_status rq_qtype_range(rq_qtype *out, rq_dtype d, int64_t lo, int64_t hi, rq_err *err)
{
    if (!is_storage(d) || rq_dtype_is_float(d))
        return rq_fail(err, RQ_BAD_DTYPE, "%s holds no codes, expected s8, u8, s16, u16, s32, s4, u4, s2 or u2",
                       rq_dtype_name(d));
    const rq_qtype all = rq_qtype_of(d);
    if (lo >= hi)
        return rq_fail(err, RQ_BAD_ARG, "codes %lld to %lld of %s: the first must be less than the last", (long long)lo,
                       (long long)hi, rq_dtype_name(d));
    if (lo < all.lo || hi > all.hi)
        return rq_fail(err, RQ_BAD_ARG, "codes %lld to %lld do not fit into %s, which holds %d to %d", (long long)lo,
                       (long long)hi, rq_dtype_name(d), (int)all.lo, (int)all.hi);
    *out = (rq_qtype) { d, (int32_t)lo, (int32_t)hi };
    return RQ_OK;
}

/* v / 2, rounded down */
static int32_t halved(int32_t v)
{
    return v >= 0 ? v / 2 : -(int32_t)((1 - (int64_t)v) / 2);
}

rq_qtype rq_qtype_reduced(const rq_qtype *t)
{
    return (rq_qtype) { t->dtype, halved(t->lo), halved(t->hi) };
}

int rq_qtype_width(const rq_qtype *t)
{
    if (rq_qtype_is_float(t))
        return 8;
    for (int b = 1; b < 32; b++) {
        const int64_t half = (int64_t)1 << (b - 1);
        if (t->lo >= 0 ? t->hi < 2 * half : t->lo >= -half && t->hi < half)
            return b;
    }
    return 32;
}

bool rq_qtype_is_signed(const rq_qtype *t)
{
    return rq_qtype_of(t->dtype).lo < 0 || rq_qtype_is_float(t);
}

bool rq_qtype_is_float(const rq_qtype *t)
{
    return rq_dtype_is_float(t->dtype);
}

rq_status rq_qtype_check(const rq_qtype *t, rq_err *err)
{
    rq_qtype same;
    if (!rq_qtype_is_float(t))
        return rq_qtype_range(&same, t->dtype, t->lo, t->hi, err);
    if (!is_storage(t->dtype))
        return rq_fail(err, RQ_BAD_DTYPE, "numbers are not quantized to %s; the float types are f8e4m3fn and f8e5m2",
                       rq_dtype_name(t->dtype));
    if (t->lo || t->hi)
        return rq_fail(err, RQ_BAD_ARG, "codes %d to %d of %s: a float type has no range of codes", (int)t->lo,
                       (int)t->hi, rq_dtype_name(t->dtype));
    return RQ_OK;
}

/* The type called word[n], without a range. */
static bool by_name(rq_qtype *out, const char *word, size_t n)
{
    for (int i = 0; i < N_STORAGES; i++)
        if (strlen(rq_dtype_name(storages[i])) == n && !strncasecmp(word, rq_dtype_name(storages[i]), n)) {
            *out = rq_qtype_of(storages[i]);
            return true;
        }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].name) == n && !strncasecmp(word, names[i].name, n)) {
            *out = rq_qtype_of(names[i].dtype);
            return true;
        }
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        const size_t len = strlen(prefixes[i].word);
        if (n <= len || n > len + 2 || strncasecmp(word, prefixes[i].word, len))
            continue;
        int bits = 0;
        for (size_t k = len; k < n; k++) {
            if (word[k] < '0' || word[k] > '9' || (k == len && word[k] == '0'))
                return false;
            bits = bits * 10 + (word[k] - '0');
        }
        if (bits == 32 && prefixes[i].is_signed) {
            *out = rq_qtype_of(RQ_DTYPE_S32);
            return true;
        }
        return rq_qtype_bits(out, bits, prefixes[i].is_signed, false, NULL) == RQ_OK;
    }
    return false;
}

/* A whole number at *text, which moves past it. */
static bool read_number(const char **text, int64_t *v)
{
    char *end;
    const char *p = *text;
    if (*p != '-' && (*p < '0' || *p > '9'))
        return false;
    *v = strtoll(p, &end, 10); /* past the ends of 64 bits it saturates, which no storage holds */
    *text = end;
    return end != p;
}

rq_status rq_qtype_parse(rq_qtype *out, const char *text, rq_err *err)
{
    const char *word = strncasecmp(text, "torch.", 6) ? text : text + 6;
    const size_t n = strcspn(word, "[");
    rq_qtype t;
    if (!by_name(&t, word, n)) {
        char hint[RQ_NEAREST_HINT];
        rq_nearest near = rq_nearest_to(word);
        for (int i = 0; i < N_STORAGES; i++)
            rq_nearest_try(&near, rq_dtype_name(storages[i]));
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            rq_nearest_try(&near, names[i].name);
        return rq_fail(err, RQ_BAD_ARG,
                       "no quantized type '%.60s'%s; a type is s8, u4, int6, qint8, quint4x2, e4m3 and the like", text,
                       rq_nearest_hint(&near, hint));
    }
    if (word[n]) {
        const char *p = word + n + 1;
        int64_t lo, hi;
        if (!read_number(&p, &lo) || *p++ != ',' || !read_number(&p, &hi) || strcmp(p, "]") != 0)
            return rq_fail(err, RQ_BAD_ARG, "the range of '%.60s' is not of the form [-127,127]", text);
        return rq_qtype_range(out, t.dtype, lo, hi, err);
    }
    *out = t;
    return RQ_OK;
}

const char *rq_qtype_text(const rq_qtype *t, char *buf, size_t n)
{
    const rq_qtype all = rq_qtype_of(t->dtype);
    if (t->lo == all.lo && t->hi == all.hi)
        snprintf(buf, n, "%s", rq_dtype_name(t->dtype));
    else
        snprintf(buf, n, "%s[%d,%d]", rq_dtype_name(t->dtype), (int)t->lo, (int)t->hi);
    return buf;
}

/* ---- schemes ---- */

static const char *const schemes[RQ_N_QSCHEMES] = {
    [RQ_QSCHEME_PER_TENSOR_AFFINE] = "per_tensor_affine",
    [RQ_QSCHEME_PER_TENSOR_SYMMETRIC] = "per_tensor_symmetric",
    [RQ_QSCHEME_PER_CHANNEL_AFFINE] = "per_channel_affine",
    [RQ_QSCHEME_PER_CHANNEL_SYMMETRIC] = "per_channel_symmetric",
    [RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS] = "per_channel_affine_float_qparams",
};

const char *rq_qscheme_name(rq_qscheme s)
{
    return (unsigned)s < RQ_N_QSCHEMES ? schemes[s] : "?";
}

rq_status rq_qscheme_parse(rq_qscheme *out, const char *text, rq_err *err)
{
    const char *word = strncmp(text, "torch.", 6) ? text : text + 6;
    rq_nearest near = rq_nearest_to(word);
    for (int i = 0; i < RQ_N_QSCHEMES; i++) {
        if (!strcmp(word, schemes[i])) {
            *out = (rq_qscheme)i;
            return RQ_OK;
        }
        rq_nearest_try(&near, schemes[i]);
    }
    char hint[RQ_NEAREST_HINT];
    return rq_fail(err, RQ_BAD_ARG, "no scheme '%.60s'%s", text, rq_nearest_hint(&near, hint));
}

bool rq_qscheme_is_per_channel(rq_qscheme s)
{
    return s == RQ_QSCHEME_PER_CHANNEL_AFFINE || s == RQ_QSCHEME_PER_CHANNEL_SYMMETRIC ||
           s == RQ_QSCHEME_PER_CHANNEL_FLOAT_QPARAMS;
}

bool rq_qscheme_is_symmetric(rq_qscheme s)
{
    return s == RQ_QSCHEME_PER_TENSOR_SYMMETRIC || s == RQ_QSCHEME_PER_CHANNEL_SYMMETRIC;
}
