/* base/number.c — see number.h. A locale object is made for each call and kept nowhere: for "C" the C libraries hand out one
 * that is part of them, without allocating, so that it costs a comparison or two and cannot fail. uselocale changes the
 * calling thread alone. */
#include "base/number.h"

#include <locale.h>
#include <stdlib.h>

typedef struct pinned {
    locale_t ours, was;
} pinned;

/* Where there were no C locale after all, the thread keeps its own. */
static pinned pin(void)
{
    pinned p = { .ours = newlocale(LC_ALL_MASK, "C", (locale_t)0) };
    if (p.ours)
        p.was = uselocale(p.ours);
    return p;
}

static void unpin(pinned p)
{
    if (!p.ours)
        return;
    uselocale(p.was);
    freelocale(p.ours);
}

double rq_number_parse(const char *text, char **end)
{
    const pinned p = pin();
    const double v = strtod(text, end);
    unpin(p);
    return v;
}

int rq_number_vprint(char *buf, size_t n, const char *fmt, va_list ap)
{
    const pinned p = pin();
    const int length = vsnprintf(buf, n, fmt, ap);
    unpin(p);
    return length;
}

int rq_number_print(char *buf, size_t n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int length = rq_number_vprint(buf, n, fmt, ap);
    va_end(ap);
    return length;
}

int rq_number_to(FILE *to, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const pinned p = pin();
    const int length = vfprintf(to, fmt, ap);
    unpin(p);
    va_end(ap);
    return length;
}
