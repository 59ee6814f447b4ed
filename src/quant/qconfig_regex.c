/* quant/qconfig_regex.c — Python's \d, \w, \s and (?:...) become what POSIX calls them; what POSIX has no name for (look-around, lazy
 * repetition, back references, named groups) is refused rather than matched as something else. Names are ASCII here, so \w is. */
#include "quant/qconfig_regex.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

enum { MOST_COPIES = 10000 };

/* The class that `\c` stands for: its content, and whether it is the complement. */
static const char *class_of(char c, bool *negated)
{
    *negated = c == 'D' || c == 'W' || c == 'S';
    return c == 'd' || c == 'D'   ? "0-9"
           : c == 'w' || c == 'W' ? "A-Za-z0-9_"
           : c == 's' || c == 'S' ? " \t\n\r\f\v"
                                  : NULL;
}

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

static rq_status refuse(const char *pattern, const char *at, const char *why, rq_err *err)
{
    return rq_fail(err, RQ_BAD_ARG, "pattern '%.80s': '%.12s' %s", pattern, at, why);
}

/* A [...]. *p at its '['; leaves it behind the ']'. Within it POSIX has no escapes: classes are written out, '-' goes to the end. */
static rq_status translate_set(rq_buf *out, const char *pattern, const char **p, rq_err *err)
{
    const char *s = *p, *const start = s + 1 + (s[1] == '^');
    bool minus = false;
    rq_buf_add(out, s, (size_t)(start - s));
    for (s = start; *s && (*s != ']' || s == start); s++) {
        if (*s == '[' && (s[1] == ':' || s[1] == '.' || s[1] == '=')) /* to Python just two characters */
            return refuse(pattern, s, "inside [] is not known here", err);
        if (*s != '\\') {
            rq_buf_add(out, s, 1);
            continue;
        }
        bool negated;
        const char c = *++s, *class = class_of(c, &negated);
        if (!c || negated || c == ']' || c == '^' || c == '[' || (!class && is_alnum(c)))
            return refuse(pattern, s - 1, "inside [] is not known here", err);
        if (class)
            rq_buf_adds(out, class);
        else if (c == '-')
            minus = true;
        else
            rq_buf_add(out, &c, 1);
    }
    if (!*s)
        return refuse(pattern, *p, "is not closed", err);
    rq_buf_adds(out, minus ? "-]" : "]");
    *p = s + 1;
    return RQ_OK;
}

/* What a repetition {n,m} at s multiplies the work by: its larger number. */
static long repeats(const char *s)
{
    char *end;
    const long n = strtol(s + 1, &end, 10), m = *end == ',' ? strtol(end + 1, &end, 10) : 0;
    return m > n ? m : n > 1 ? n : 1;
}

static rq_status translate(rq_buf *out, const char *pattern, rq_err *err)
{
    int open = 0;
    double copies = 1; /* repetitions are written out by the C library, one within the other */
    for (const char *s = pattern; *s;) {
        open += *s == '(';
        open -= *s == ')';
        if (open < 0) /* would close what the pattern is put into */
            return refuse(pattern, s, "closes what was not opened", err);
        if (*s == '{' && (copies *= (double)repeats(s)) > MOST_COPIES)
            return refuse(pattern, s, "repeats too often, all repetitions together", err);
        if (*s == '[') {
            RQ_TRY(translate_set(out, pattern, &s, err));
        } else if (*s == '\\') {
            bool negated;
            const char *class = class_of(s[1], &negated);
            if (class)
                rq_buf_addf(out, negated ? "[^%s]" : "[%s]", class);
            else if (!s[1] || is_alnum(s[1]))
                return refuse(pattern, s, "is not known here", err);
            else if (strchr(".[(){}*+?|^$\\", s[1]))
                rq_buf_add(out, s, 2);
            else /* itself; \< and the like mean something to some C libraries */
                rq_buf_add(out, s + 1, 1);
            s += 2;
        } else if (*s == '(' && s[1] == '?') {
            if (s[2] != ':')
                return refuse(pattern, s, "is not known here", err);
            rq_buf_add(out, "(", 1);
            s += 3;
        } else if ((*s == '*' || *s == '+' || *s == '?' || *s == '}') && s[1] && strchr("?+*{", s[1])) {
            return refuse(pattern, s, "is not known here", err); /* lazy, possessive, or a repetition repeated */
        } else {
            rq_buf_add(out, s++, 1);
        }
    }
    return RQ_OK;
}

static rq_status compile_one(regex_t *re, const char *pattern, const char *posix, const char *form, rq_err *err)
{
    rq_buf text = { 0 };
    rq_buf_adds(&text, "^(");
    rq_buf_adds(&text, posix);
    rq_buf_adds(&text, form);
    if (text.failed) {
        rq_buf_release(&text);
        return rq_fail(err, RQ_NO_MEMORY, "out of memory reading pattern '%.80s'", pattern);
    }
    const int rc = regcomp(re, text.data, REG_EXTENDED | REG_NOSUB);
    rq_buf_release(&text);
    if (rc == 0)
        return RQ_OK;
    char why[120];
    regerror(rc, re, why, sizeof why);
    return rq_fail(err, rc == REG_ESPACE ? RQ_NO_MEMORY : RQ_BAD_ARG, "pattern '%.80s' is no regular expression: %s",
                   pattern, why);
}

rq_status rq_qconfig_regex_compile(regex_t *whole, regex_t *beginning, const char *pattern, rq_err *err)
{
    rq_buf posix = { 0 };
    rq_status s = translate(&posix, pattern, err);
    if (s == RQ_OK && posix.failed)
        s = rq_fail(err, RQ_NO_MEMORY, "out of memory reading pattern '%.80s'", pattern);
    const char *text = posix.data ? posix.data : "";
    if (s == RQ_OK)
        s = compile_one(whole, pattern, text, ")$", err);
    if (s == RQ_OK && (s = compile_one(beginning, pattern, text, ")", err)) != RQ_OK)
        regfree(whole);
    rq_buf_release(&posix);
    return s;
}
