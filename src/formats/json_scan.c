/* formats/json_scan.c — see json_scan.h. */
#include "formats/json_scan.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "base/quote.h"

rq_json rq_json_of(const void *data, size_t n, const char *name, rq_err *err)
{
    return (rq_json) { .begin = data, .p = data, .end = (const char *)data + n, .name = name, .err = err };
}

rq_status rq_json_fail(rq_json *j, const char *fmt, ...)
{
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return rq_fail(j->err, RQ_BAD_FILE, "%s: byte %zu: %s", j->name, (size_t)(j->p - j->begin), text);
}

int rq_json_peek(rq_json *j)
{
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\t' || *j->p == '\n' || *j->p == '\r'))
        j->p++;
    return j->p < j->end ? (unsigned char)*j->p : 0;
}

static rq_status wrong(rq_json *j, const char *expected)
{
    const int c = rq_json_peek(j);
    if (!c && j->p == j->end)
        return rq_json_fail(j, "the file ends where %s was expected", expected);
    return c >= 32 && c < 127 ? rq_json_fail(j, "'%c' where %s was expected", c, expected)
                              : rq_json_fail(j, "byte 0x%02x where %s was expected", (unsigned)c, expected);
}

rq_status rq_json_open(rq_json *j, char bracket)
{
    if (rq_json_peek(j) != bracket)
        return wrong(j, bracket == '{' ? "an object" : "a list");
    if (++j->depth > RQ_JSON_DEPTH)
        return rq_json_fail(j, "nested deeper than %d", RQ_JSON_DEPTH);
    j->p++;
    j->first = true;
    return RQ_OK;
}

/* Between two values, or at the end. */
static rq_status separate(rq_json *j, char close, bool *more)
{
    const int c = rq_json_peek(j);
    *more = false;
    if (c == close) {
        j->p++;
        j->depth--;
        j->first = false;
        return RQ_OK;
    }
    if (!j->first) {
        if (c != ',')
            return wrong(j, close == '}' ? "',' or '}'" : "',' or ']'");
        j->p++;
    }
    j->first = false;
    *more = true;
    return RQ_OK;
}

rq_status rq_json_item(rq_json *j, bool *more)
{
    return separate(j, ']', more);
}

rq_status rq_json_key(rq_json *j, rq_buf *key, bool *more)
{
    RQ_TRY(separate(j, '}', more));
    if (!*more)
        return RQ_OK;
    RQ_TRY(rq_json_string(j, key));
    if (rq_json_peek(j) != ':')
        return wrong(j, "':'");
    j->p++;
    return RQ_OK;
}

/* Four hexadecimal digits; -1: they are none. */
static long hex4(const rq_json *j, const char *p)
{
    long v = 0;
    for (int i = 0; i < 4; i++) {
        if (p + i >= j->end)
            return -1;
        const char c = p[i];
        const int d = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

static void put_utf8(rq_buf *b, long v)
{
    char t[4];
    int n = 0;
    if (v < 0x80) {
        t[n++] = (char)v;
    } else if (v < 0x800) {
        t[n++] = (char)(0xC0 | v >> 6);
        t[n++] = (char)(0x80 | (v & 63));
    } else if (v < 0x10000) {
        t[n++] = (char)(0xE0 | v >> 12);
        t[n++] = (char)(0x80 | (v >> 6 & 63));
        t[n++] = (char)(0x80 | (v & 63));
    } else {
        t[n++] = (char)(0xF0 | v >> 18);
        t[n++] = (char)(0x80 | (v >> 12 & 63));
        t[n++] = (char)(0x80 | (v >> 6 & 63));
        t[n++] = (char)(0x80 | (v & 63));
    }
    rq_buf_add(b, t, (size_t)n);
}

/* What stands behind a backslash; j->p is on it. */
static rq_status escape(rq_json *j, rq_buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char c = j->p < j->end ? *j->p : 0;
    const char *at = c ? strchr(from, c) : NULL;
    if (at) {
        j->p++;
        rq_buf_add(out, &to[at - from], 1);
        return RQ_OK;
    }
    if (c != 'u')
        return rq_json_fail(j, "no escape begins like this");
    long v = hex4(j, j->p + 1);
    if (v <= 0)
        return rq_json_fail(j, v ? "\\u wants four hexadecimal digits" : "a string with a NUL in it");
    j->p += 5;
    if (v >= 0xD800 && v < 0xDC00 && j->end - j->p >= 6 && j->p[0] == '\\' && j->p[1] == 'u') {
        const long low = hex4(j, j->p + 2);
        if (low >= 0xDC00 && low < 0xE000) {
            v = 0x10000 + ((v - 0xD800) << 10) + (low - 0xDC00);
            j->p += 6;
        }
    }
    if (v >= 0xD800 && v < 0xE000)
        return rq_json_fail(j, "half of a surrogate pair");
    put_utf8(out, v);
    return RQ_OK;
}

rq_status rq_json_string(rq_json *j, rq_buf *out)
{
    rq_buf none = { .failed = true }; /* takes nothing */
    out = out ? out : &none;
    out->size = 0;
    if (rq_json_peek(j) != '"')
        return wrong(j, "a string");
    const char *begin = ++j->p;
    for (;;) {
        const char *run = j->p;
        while (j->p < j->end && *j->p != '"' && *j->p != '\\' && (unsigned char)*j->p >= 32)
            j->p++;
        if (j->p - begin > RQ_JSON_LONGEST)
            return rq_json_fail(j, "a string longer than %d bytes", RQ_JSON_LONGEST);
        rq_buf_add(out, run, (size_t)(j->p - run));
        if (j->p == j->end)
            return rq_json_fail(j, "the file ends inside a string");
        const char c = *j->p++;
        if (c == '"')
            break;
        if (c != '\\') {
            j->p--;
            return rq_json_fail(j, "a control character inside a string");
        }
        RQ_TRY(escape(j, out));
    }
    rq_buf_add(out, "", 0);
    if (out != &none && out->failed)
        return rq_fail(j->err, RQ_NO_MEMORY, "%s: out of memory", j->name);
    if (out != &none && !rq_quote_is_utf8(out->data))
        return rq_json_fail(j, "the string before this is not UTF-8");
    return RQ_OK;
}

rq_status rq_json_number(rq_json *j, double *out)
{
    char text[64];
    size_t n = 0;
    rq_json_peek(j);
    while (j->p + n < j->end && n + 1 < sizeof text && strchr("+-.0123456789eE", j->p[n]) && j->p[n])
        n++;
    if (n == 0 || n + 1 == sizeof text)
        return wrong(j, "a finite number");
    memcpy(text, j->p, n);
    text[n] = 0;
    char *end;
    const double v = rq_number_parse(text, &end);
    if (*end || !isfinite(v))
        return wrong(j, "a finite number");
    j->p += n;
    if (out)
        *out = v;
    return RQ_OK;
}

static rq_status skip_word(rq_json *j)
{
    static const char *const words[] = { "true", "false", "null", "NaN", "Infinity", "-Infinity" };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const size_t n = strlen(words[i]);
        if ((size_t)(j->end - j->p) >= n && !memcmp(j->p, words[i], n)) {
            j->p += n;
            return RQ_OK;
        }
    }
    return rq_json_number(j, NULL);
}

rq_status rq_json_skip(rq_json *j)
{
    const int c = rq_json_peek(j);
    bool more = true;
    if (c == '"')
        return rq_json_string(j, NULL);
    if (c != '{' && c != '[')
        return skip_word(j);
    RQ_TRY(rq_json_open(j, (char)c));
    for (;;) { /* no deeper than RQ_JSON_DEPTH calls */
        RQ_TRY(c == '{' ? rq_json_key(j, NULL, &more) : rq_json_item(j, &more));
        if (!more)
            return RQ_OK;
        RQ_TRY(rq_json_skip(j));
    }
}

rq_status rq_json_end(rq_json *j)
{
    return rq_json_peek(j) || j->p < j->end ? wrong(j, "the end") : RQ_OK;
}
