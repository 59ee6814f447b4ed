/* formats/npy.c — the header of a .npy: a magic number, a version, a length, and a Python dictionary as text
 * (numpy, NEP 1), read through a cursor. */
#include "formats/npy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cursor.h"

typedef struct numpy_type {
    const char *text; /* without the byte order */
    rq_dtype dtype;
} numpy_type;

static const numpy_type types[] = {
    { "f4", RQ_DTYPE_F32 }, { "f8", RQ_DTYPE_F64 },   { "f2", RQ_DTYPE_F16 }, { "i1", RQ_DTYPE_S8 },
    { "u1", RQ_DTYPE_U8 },  { "i2", RQ_DTYPE_S16 },   { "u2", RQ_DTYPE_U16 }, { "i4", RQ_DTYPE_S32 },
    { "u4", RQ_DTYPE_U32 }, { "i8", RQ_DTYPE_S64 },   { "u8", RQ_DTYPE_U64 }, { "b1", RQ_DTYPE_BOOL },
    { "c8", RQ_DTYPE_C64 }, { "c16", RQ_DTYPE_C128 },
};
enum { N_TYPES = sizeof types / sizeof types[0] };

static const char magic[6] = { '\x93', 'N', 'U', 'M', 'P', 'Y' };

rq_status rq_npy_header_size(uint64_t *out, const uint8_t *p, size_t n, rq_err *err)
{
    if (n < 10 || memcmp(p, magic, sizeof magic) != 0)
        return rq_fail(err, RQ_BAD_FILE, "is not a numpy array");
    if (p[6] < 1 || p[6] > 3 || (p[6] > 1 && n < 12))
        return rq_fail(err, RQ_BAD_FILE, "is a numpy array of format version %d.%d; expected 1.0, 2.0 or 3.0", p[6],
                       p[7]);
    *out = p[6] == 1 ? 10 + (uint64_t)(p[8] | p[9] << 8)
                     : 12 + (p[8] | (uint64_t)p[9] << 8 | (uint64_t)p[10] << 16 | (uint64_t)p[11] << 24);
    if (*out > RQ_NPY_MAX_HEADER)
        return rq_fail(err, RQ_BAD_FILE, "has a numpy header of %" PRIu64 " bytes", *out);
    return RQ_OK;
}

/* ---- the dictionary ---- */

static void skip_space(rq_cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\t' || *c->p == '\r'))
        c->p++;
}

/* Step over `ch`; false when something else stands there. */
static bool take(rq_cursor *c, char ch)
{
    skip_space(c);
    if (c->p == c->end || *c->p != (uint8_t)ch)
        return false;
    c->p++;
    return true;
}

static bool take_word(rq_cursor *c, const char *word)
{
    const size_t n = strlen(word);
    skip_space(c);
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0)
        return false;
    c->p += n;
    return true;
}

/* A quoted string without escapes. */
static bool take_string(rq_cursor *c, char *buf, size_t size)
{
    skip_space(c);
    if (c->p == c->end || (*c->p != '\'' && *c->p != '"'))
        return false;
    const uint8_t quote = *c->p++;
    size_t n = 0;
    for (; c->p < c->end && *c->p != quote; c->p++)
        if (n + 1 < size)
            buf[n++] = (char)*c->p;
    buf[n] = 0;
    return take(c, (char)quote);
}

static bool take_number(rq_cursor *c, int64_t *out)
{
    skip_space(c);
    const uint8_t *start = c->p;
    int64_t v = 0;
    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++) {
        if (v > (INT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (*c->p - '0');
    }
    *out = v;
    const bool any = c->p > start;
    take(c, 'L'); /* Python 2 */
    return any;
}

static rq_status take_shape(rq_cursor *c, rq_shape *s, rq_err *err)
{
    s->rank = 0;
    if (!take(c, '('))
        return rq_fail(err, RQ_BAD_FILE, "has a numpy header without a shape");
    while (!take(c, ')')) {
        int64_t n;
        if (!take_number(c, &n))
            return rq_fail(err, RQ_BAD_FILE, "has a numpy header with a shape that is not a list of numbers");
        if (s->rank == RQ_MAX_RANK)
            return rq_fail(err, RQ_UNSUPPORTED, "has more than %d axes", RQ_MAX_RANK);
        s->dim[s->rank++] = n;
        if (!take(c, ',')) {
            if (!take(c, ')'))
                return rq_fail(err, RQ_BAD_FILE, "has a numpy header with an open shape");
            break;
        }
    }
    return rq_shape_check(s) ? rq_fail(err, RQ_BAD_FILE, "has a shape of too many elements") : RQ_OK;
}

static rq_status take_type(rq_cursor *c, rq_dtype *out, rq_err *err)
{
    char text[32];
    if (!take_string(c, text, sizeof text))
        return rq_fail(err, RQ_UNSUPPORTED, "holds records; expected an array of plain numbers");
    const char order = text[0], *type = text + 1;
    if (order == '>' && strcmp(type, "i1") != 0 && strcmp(type, "u1") != 0)
        return rq_fail(err, RQ_UNSUPPORTED,
                       "holds big-endian numbers ('%s'); save it with x.astype(x.dtype.newbyteorder('<'))", text);
    if (strchr("<|=>", order) && order)
        for (int i = 0; i < N_TYPES; i++)
            if (!strcmp(types[i].text, type)) {
                *out = types[i].dtype;
                return RQ_OK;
            }
    if (strchr("OUSV", order ? type[0] : 'V') && order && type[0])
        return rq_fail(err, RQ_UNSUPPORTED, "holds %s ('%s'); expected numbers",
                       type[0] == 'O'   ? "Python objects"
                       : type[0] == 'V' ? "records"
                                        : "text",
                       text);
    return rq_fail(err, RQ_UNSUPPORTED, "holds numbers of type '%s', which are not read", text);
}

rq_status rq_npy_parse(rq_npy_info *out, const uint8_t *p, size_t n, rq_err *err)
{
    uint64_t size;
    RQ_TRY(rq_npy_header_size(&size, p, n, err));
    if (size > n)
        return rq_fail(err, RQ_BAD_FILE, "ends inside its numpy header");
    rq_cursor c = { p + (p[6] == 1 ? 10 : 12), p + size };
    bool type = false, shape = false, fortran = false;
    *out = (rq_npy_info) { .data_at = size };
    if (!take(&c, '{'))
        return rq_fail(err, RQ_BAD_FILE, "has a numpy header that is not a dictionary");
    while (!take(&c, '}')) {
        char key[32];
        if (!take_string(&c, key, sizeof key) || !take(&c, ':'))
            return rq_fail(err, RQ_BAD_FILE, "has a damaged numpy header");
        if (!strcmp(key, "descr")) {
            RQ_TRY(take_type(&c, &out->dtype, err));
            type = true;
        } else if (!strcmp(key, "shape")) {
            RQ_TRY(take_shape(&c, &out->shape, err));
            shape = true;
        } else if (!strcmp(key, "fortran_order") && (take_word(&c, "False") || (fortran = take_word(&c, "True")))) {
        } else {
            return rq_fail(err, RQ_BAD_FILE, "has a numpy header with '%s', which is not understood", key);
        }
        take(&c, ',');
    }
    if (!type || !shape)
        return rq_fail(err, RQ_BAD_FILE, "has a numpy header without a type or a shape");
    if (fortran && out->shape.rank > 1)
        return rq_fail(err, RQ_UNSUPPORTED, "is in Fortran order; save it with numpy.ascontiguousarray(x)");
    return RQ_OK;
}

size_t rq_npy_write(uint8_t buf[RQ_NPY_WRITTEN], rq_dtype d, const rq_shape *shape)
{
    const char *type = NULL;
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].dtype == d)
            type = types[i].text;
    if (!type)
        return 0;
    char text[RQ_NPY_WRITTEN];
    size_t n = (size_t)snprintf(text, sizeof text, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                                rq_dtype_bits(d) == 8 ? '|' : '<', type);
    for (int i = 0; i < shape->rank; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%" PRId64, i ? ", " : "", shape->dim[i]);
    n += (size_t)snprintf(text + n, sizeof text - n, "%s), }", shape->rank == 1 ? "," : "");
    const size_t size = (10 + n + 1 + 63) / 64 * 64;
    memcpy(buf, magic, sizeof magic);
    buf[6] = 1;
    buf[7] = 0;
    buf[8] = (uint8_t)((size - 10) & 255);
    buf[9] = (uint8_t)((size - 10) >> 8);
    memcpy(buf + 10, text, n);
    memset(buf + 10 + n, ' ', size - 10 - n);
    buf[size - 1] = '\n';
    return size;
}
