/* formats/trt_cache.c — TensorRT's calibration cache: a line of text that says which version and calibrator made it, then
 * a line per tensor: name, colon, space, and the bits of an f32 as eight hexadecimal digits, the highest first. The number
 * is the scale of s8 codes, so the tensor reaches 127 scales from zero either way. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "formats/ranges.h"

static const char head[] = "TRT-";

bool rq_ranges_is_trt(const void *data, size_t n)
{
    return n >= sizeof head - 1 && !memcmp(data, head, sizeof head - 1);
}

/* A line without its end; *p moves behind it. */
static bool next_line(const char **p, const char *end, const char **line, size_t *n)
{
    if (*p == end)
        return false;
    const char *stop = memchr(*p, '\n', (size_t)(end - *p));
    *line = *p;
    *n = (size_t)((stop ? stop : end) - *p);
    *p = stop ? stop + 1 : end;
    if (*n && (*line)[*n - 1] == '\r')
        --*n;
    return true;
}

/* "TRT-8601-EntropyCalibration2": digits, then a word. */
static bool read_head(const char *line, size_t n, char method[64])
{
    size_t i = sizeof head - 1, digits = i;
    while (i < n && line[i] >= '0' && line[i] <= '9')
        i++;
    if (i == digits || i >= n || line[i] != '-' || n - i - 1 > 40)
        return false;
    const size_t word = i + 1;
    for (i = word; i < n; i++)
        if (!((line[i] >= 'a' && line[i] <= 'z') || (line[i] >= 'A' && line[i] <= 'Z') ||
              (line[i] >= '0' && line[i] <= '9')))
            return false;
    snprintf(method, 64, "tensorrt %.*s", (int)(n - word), line + word);
    return n > word;
}

static bool read_hex(const char *p, uint32_t *out)
{
    uint32_t v = 0;
    for (int i = 0; i < 8; i++) {
        const char c = p[i];
        const int d = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
        if (d < 0)
            return false;
        v = v << 4 | (uint32_t)d;
    }
    *out = v;
    return true;
}

static rq_status read_line(rq_ranges *r, const char *line, size_t n, int number, const char *method, rq_err *err)
{
    uint32_t bits;
    float scale;
    size_t digits = 0;
    while (digits < n && line[n - 1 - digits] != ' ')
        digits++;
    if (digits == n || n < digits + 3 || line[n - digits - 2] != ':')
        return rq_fail(err, RQ_BAD_FILE, "%s:%d: expected '<tensor>: <8 hexadecimal digits>'", r->path, number);
    if (digits != 8 || !read_hex(line + n - 8, &bits))
        return rq_fail(err, RQ_BAD_FILE, "%s:%d: '%.*s' is not 8 hexadecimal digits%s", r->path, number,
                       (int)(digits < 20 ? digits : 20), line + n - digits,
                       digits < 8 ? ": is the file cut short?" : "");
    memcpy(&scale, &bits, sizeof scale);
    if (!(scale >= 0 && isfinite(scale)))
        return rq_fail(err, RQ_BAD_FILE, "%s:%d: the scale %08" PRIx32 " is %g, expected a finite number, at least 0",
                       r->path, number, bits, (double)scale);
    const size_t length = n - digits - 2;
    if (memchr(line, 0, length))
        return rq_fail(err, RQ_BAD_FILE, "%s:%d: a name with a NUL in it", r->path, number);
    const char *name = rq_arena_strndup(&r->text, line, length);
    if (!name)
        return rq_fail(err, RQ_NO_MEMORY, "%s: out of memory", r->path);
    const double most = (double)scale * 127;
    const rq_range_info info = { .tensor = name, .lo = -most, .hi = most, .method = method, .magnitude = true };
    return rq_ranges_append(r, &info, err);
}

rq_status rq_ranges_read_trt(rq_ranges *r, const void *data, size_t n, const char *name, rq_err *err)
{
    const char *p = data, *end = p + n, *line = ""; /* what an empty file's first line is */
    char method[64];
    size_t length = 0;
    if (!next_line(&p, end, &line, &length) || !read_head(line, length, method))
        return rq_fail(err, RQ_BAD_FILE,
                       "%s:1: a calibration cache begins 'TRT-<version>-<calibrator>', this one '%.*s'", name,
                       (int)(length < 40 ? length : 40), line);
    for (int number = 2; next_line(&p, end, &line, &length); number++)
        if (length)
            RQ_TRY(read_line(r, line, length, number, method, err));
    return RQ_OK;
}

rq_status rq_ranges_write_trt(const rq_ranges *r, rq_buf *b, rq_err *err)
{
    rq_buf_adds(b, "TRT-8601-EntropyCalibration2\n");
    for (int i = 0; i < r->n; i++) {
        const rq_range_info *t = &r->items[i];
        const double most = fmax(-t->lo, t->hi);
        float scale = (float)(most / 127);
        uint32_t bits;
        if (scale == 0) /* nothing but zeros: any scale holds them, but 0 is none */
            scale = 1;
        if (strpbrk(t->tensor, "\r\n"))
            return rq_fail(err, RQ_BAD_DATA,
                           "%s: the name '%.80s' has a line break, which a calibration cache cannot hold", r->path,
                           t->tensor);
        if (!isfinite(scale))
            return rq_fail(err, RQ_BAD_DATA,
                           "%s: '%.80s' reaches %g, and a calibration cache holds ranges up to %g (127 times the "
                           "largest f32)",
                           r->path, t->tensor, most, 127 * (double)FLT_MAX);
        memcpy(&bits, &scale, sizeof bits);
        rq_buf_addf(b, "%s: %08" PRIx32 "\n", t->tensor, bits);
    }
    return RQ_OK;
}
