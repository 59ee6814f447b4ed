/* graph/words.c — see graph/words.h. The list is sorted, so half of what is left is out with each look. */
#include "graph/words.h"

#include <string.h>

static const char *const texts[] = {
    [RQ_WORD_NONE] = "",
#define WORD(name) [RQ_WORD_##name] = #name,
#include "graph/words.inc"
#undef WORD
};

rq_word rq_word_of(const char *text)
{
    int lo = RQ_WORD_NONE + 1, hi = RQ_N_WORDS;
    while (lo < hi) {
        const int mid = (lo + hi) / 2, d = strcmp(text, texts[mid]);
        if (d == 0)
            return (rq_word)mid;
        if (d < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return RQ_WORD_NONE;
}

const char *rq_word_text(rq_word w)
{
    return texts[w];
}
