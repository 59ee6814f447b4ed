/* quant/qconfig_regex.h — patterns over module names: Python's spelling, as far as people use it, run by POSIX regular expressions. */
#ifndef RQ_QUANT_QCONFIG_REGEX_H
#define RQ_QUANT_QCONFIG_REGEX_H

#include <regex.h>
#include <stdbool.h>

#include "requant/status.h"

/* Compile `pattern` anchored at both ends, and at the beginning alone. RQ_BAD_ARG: not a pattern, or one that POSIX cannot say (the sentence
 * shows the part); RQ_NO_MEMORY. Then neither is to be freed. */
rq_status rq_qconfig_regex_compile(regex_t *whole, regex_t *beginning, const char *pattern, rq_err *err);

#endif
