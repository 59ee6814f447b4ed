/* base/number.h — numbers as text, always with a point. strtod and printf follow LC_NUMERIC, which the program around the
 * library may have set to a comma; what stands in files and sentences must not depend on it. Any thread; the program's
 * locale is left as it is. */
#ifndef RQ_BASE_NUMBER_H
#define RQ_BASE_NUMBER_H

#include <stdarg.h>
#include <stdio.h>

#include "requant/status.h"

/* strtod in the C locale: *end is behind the number, or text where there is none. */
double rq_number_parse(const char *text, char **end);

/* vsnprintf, snprintf and fprintf in the C locale. */
int rq_number_vprint(char *buf, size_t n, const char *fmt, va_list ap);
int rq_number_print(char *buf, size_t n, const char *fmt, ...) RQ_PRINTF(3, 4);
int rq_number_to(FILE *to, const char *fmt, ...) RQ_PRINTF(2, 3);

#endif
