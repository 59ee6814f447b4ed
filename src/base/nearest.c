/* base/nearest.c — edit distance (Damerau's, restricted to one swap) over three rows on the stack; see nearest.h. */
#include "base/nearest.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST = 256 }; /* what is longer is compared by its first bytes */
enum { STEP = 2 };      /* one edit; another case of the same letter is half of one */

static int least(int a, int b)
{
    return a < b ? a : b;
}

static int distance(const char *a, const char *b)
{
    int rows[3][LONGEST + 1];
    int n_a = (int)strnlen(a, LONGEST), n_b = (int)strnlen(b, LONGEST);
    int *before = rows[0], *last = rows[1], *now = rows[2];
    for (int j = 0; j <= n_b; j++)
        last[j] = j * STEP;
    for (int i = 1; i <= n_a; i++) {
        now[0] = i * STEP;
        for (int j = 1; j <= n_b; j++) {
            unsigned char p = (unsigned char)a[i - 1], q = (unsigned char)b[j - 1];
            int cost = p == q ? 0 : tolower(p) == tolower(q) ? STEP / 2 : STEP;
            now[j] = least(last[j - 1] + cost, least(last[j], now[j - 1]) + STEP);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], before[j - 2] + STEP);
        }
        int *spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[n_b];
}

rq_nearest rq_nearest_to(const char *word)
{
    return (rq_nearest) { .word = word };
}

void rq_nearest_try(rq_nearest *n, const char *name)
{
    size_t size = strlen(name), other = strlen(n->word), longest = size > other ? size : other;
    if (size == 0)
        return;
    int d = distance(n->word, name);
    if ((size_t)d > longest * STEP / 2)
        return;
    if (n->best && d >= n->distance)
        return;
    n->best = name;
    n->distance = d;
}

const char *rq_nearest_hint(const rq_nearest *n, char buf[RQ_NEAREST_HINT])
{
    buf[0] = 0;
    if (n->best)
        snprintf(buf, RQ_NEAREST_HINT, "; the nearest is '%.120s'", n->best);
    return buf;
}
