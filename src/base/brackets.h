/* base/brackets.h — how deep lists and maps of a YAML text lie within each other, before a loader sees it whose time and stack grow with that. */
#ifndef RQ_BASE_BRACKETS_H
#define RQ_BASE_BRACKETS_H

#include <stdbool.h>
#include <stddef.h>

/* More than any file of ours has a reason for. */
enum { RQ_BRACKETS_MOST = 200 };

/* Does text[n] have more than RQ_BRACKETS_MOST lists and maps within each other? Text that is no YAML behind them: false, the loader says what. */
bool rq_brackets_too_deep(const char *text, size_t n);

#endif
