/* base/quote.c — strings of JSON and YAML. Of Unicode, YAML has raw: tab, U+0020 to U+007E, U+00A0 and above without U+2028, U+2029 (breaks of
 * lines, which it folds into spaces), U+FEFF, U+FFFE and U+FFFF. The rest is written \uXXXX. */
#include "base/quote.h"

/* Length of the UTF-8 sequence at p, or 0. No surrogates, nothing longer than it needs to be. */
static size_t utf8_length(const unsigned char *p)
{
    const size_t n = p[0] < 0x80                   ? 1
                     : p[0] >= 0xC2 && p[0] < 0xE0 ? 2
                     : p[0] >= 0xE0 && p[0] < 0xF0 ? 3
                     : p[0] >= 0xF0 && p[0] < 0xF5 ? 4
                                                   : 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    if ((n == 3 && p[0] == 0xE0 && p[1] < 0xA0) || (n == 3 && p[0] == 0xED && p[1] > 0x9F) ||
        (n == 4 && p[0] == 0xF0 && p[1] < 0x90) || (n == 4 && p[0] == 0xF4 && p[1] > 0x8F))
        return 0;
    return n;
}

/* The character of n <= 3 bytes. */
static unsigned character(const unsigned char *p, size_t n)
{
    return n == 1   ? p[0]
           : n == 2 ? (p[0] & 31u) << 6 | (p[1] & 63u)
                    : (p[0] & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
}

static bool needs_escape(unsigned c)
{
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029 || c == 0xFEFF || c == 0xFFFE ||
           c == 0xFFFF;
}

bool rq_quote(rq_buf *b, const char *text)
{
    bool utf8 = true;
    rq_buf_adds(b, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        const size_t n = utf8_length(p);
        if (n == 0) {
            rq_buf_adds(b, "\\ufffd");
            utf8 = false;
        } else if (*p == '"' || *p == '\\') {
            rq_buf_addf(b, "\\%c", *p);
        } else if (n < 4 && needs_escape(character(p, n))) {
            rq_buf_addf(b, "\\u%04x", character(p, n));
        } else {
            rq_buf_add(b, p, n);
        }
        p += n ? n : 1;
    }
    rq_buf_adds(b, "\"");
    return utf8;
}

bool rq_quote_is_utf8(const char *text)
{
    size_t n = 1;
    for (const unsigned char *p = (const unsigned char *)text; *p && n; p += n)
        n = utf8_length(p);
    return n != 0;
}
