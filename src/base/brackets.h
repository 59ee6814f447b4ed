/* base/brackets.h — how deep brackets are nested in a text, before a parser sees it whose time or stack grows with that. */
#ifndef RQ_BASE_BRACKETS_H
#define RQ_BASE_BRACKETS_H

#include <stddef.h>

/* More than any file of ours has a reason for. */
enum { RQ_BRACKETS_MOST = 200 };

/* Most [ and { that are open at a time in text[n]; quotes are not looked at, so this may be too many. */
static inline size_t rq_brackets_deepest(const char *text, size_t n)
{
    size_t depth = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '[' || text[i] == '{')
            most = ++depth > most ? depth : most;
        else if ((text[i] == ']' || text[i] == '}') && depth)
            depth--;
    }
    return most;
}

#endif
