/* base/status.c — texts of the statuses, and the two ways to fill in a sentence. */
#include "requant/status.h"

#include <stdio.h>
#include <string.h>

#include "base/number.h"

const char *rq_status_text(rq_status s)
{
    static const char *const text[] = {
#define RQ_STATUS_TEXT(name, text) [RQ_##name] = text,
        RQ_STATUS_MAP(RQ_STATUS_TEXT)
#undef RQ_STATUS_TEXT
    };
    if ((unsigned)s >= sizeof text / sizeof text[0])
        return "unknown status";
    return text[s];
}

rq_status(rq_fail)(rq_err *err, rq_status code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->code = code;
        rq_number_vprint(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return code;
}

rq_status rq_fail_in(rq_err *err, rq_status code, const char *fmt, ...)
{
    if (!err)
        return code;
    char was[sizeof err->text], head[160];
    va_list ap;
    va_start(ap, fmt);
    rq_number_vprint(head, sizeof head, fmt, ap);
    va_end(ap);
    memcpy(was, err->text, sizeof was);
    if (!was[0])
        snprintf(was, sizeof was, "%s", rq_status_text(code));
    err->code = code;
    snprintf(err->text, sizeof err->text, "%s: %.340s", head, was);
    return code;
}
