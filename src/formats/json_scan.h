/* formats/json_scan.h — JSON read token by token, never as a tree: memory does not grow with what a hostile file holds, and
 * what nobody asks for is stepped over.
 *
 *   RQ_TRY(rq_json_open(&j, '{'));
 *   for (bool more; ...;) { RQ_TRY(rq_json_key(&j, &name, &more)); if (!more) break; ... read or rq_json_skip ... }
 */
#ifndef RQ_FORMATS_JSON_SCAN_H
#define RQ_FORMATS_JSON_SCAN_H

#include "base/buf.h"
#include "requant/status.h"

enum { RQ_JSON_DEPTH = 32, RQ_JSON_LONGEST = 64 << 10 }; /* of nesting; of a string in bytes */

typedef struct rq_json {
    const char *begin, *p, *end;
    const char *name; /* of the file */
    int depth;
    bool first; /* nothing of the list or object that is open was read yet */
    rq_err *err;
} rq_json;

rq_json rq_json_of(const void *data, size_t n, const char *name, rq_err *err);
/* The next character that is no white space; 0 at the end. */
int rq_json_peek(rq_json *j);
/* '{' or '['. RQ_BAD_FILE: it is not there, or too deep. */
rq_status rq_json_open(rq_json *j, char bracket);
/* Of an open object: the next key, its value comes next. *more false: it is closed. */
rq_status rq_json_key(rq_json *j, rq_buf *key, bool *more);
/* Of an open list: is there another value? *more false: it is closed. */
rq_status rq_json_item(rq_json *j, bool *more);
/* Values. A string becomes UTF-8 without NUL; NaN and Infinity are no numbers. out NULL: stepped over. */
rq_status rq_json_string(rq_json *j, rq_buf *out);
rq_status rq_json_number(rq_json *j, double *out);
rq_status rq_json_skip(rq_json *j);
/* Nothing but white space is left. */
rq_status rq_json_end(rq_json *j);
/* "name: byte 17: sentence"; returns RQ_BAD_FILE. */
rq_status rq_json_fail(rq_json *j, const char *fmt, ...) RQ_PRINTF(2, 3);

#endif
