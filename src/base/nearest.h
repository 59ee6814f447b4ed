/* base/nearest.h — "did you mean": of the names that exist, the one most like the word that does not.
 *
 *   rq_nearest n = rq_nearest_to(word);
 *   for (...) rq_nearest_try(&n, name);
 *   rq_fail(err, ..., "no value '%s'%s", word, rq_nearest_hint(&n, buf));
 */
#ifndef RQ_BASE_NEAREST_H
#define RQ_BASE_NEAREST_H

#include <stddef.h>

typedef struct rq_nearest {
    const char *word, *best; /* borrowed; best NULL: none is like it */
    int distance;
} rq_nearest;

rq_nearest rq_nearest_to(const char *word);
/* Fewest insertions, deletions, replacements and swaps of neighbours wins (case counts half of one); of equals the first. A name
 * further away than half its length is no suggestion. */
void rq_nearest_try(rq_nearest *n, const char *name);
/* "; the nearest is 'x'", or "" when there is none. Returns buf. */
enum { RQ_NEAREST_HINT = 160 };
const char *rq_nearest_hint(const rq_nearest *n, char buf[RQ_NEAREST_HINT]);

#endif
