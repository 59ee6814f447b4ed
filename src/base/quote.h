/* base/quote.h — text in quotes, as JSON and YAML both read it: what either takes for something else, or refuses, is escaped. Whatever writes one
 * of the two writes its strings with this. */
#ifndef RQ_BASE_QUOTE_H
#define RQ_BASE_QUOTE_H

#include "base/buf.h"

/* Text as a string, quotes included. False: it is not UTF-8; each byte that is part of no character stands as U+FFFD. */
bool rq_quote(rq_buf *b, const char *text);
/* Is text UTF-8, what rq_quote writes as it is? */
bool rq_quote_is_utf8(const char *text);

#endif
