/* graph/words.h — words as numbers. Names of attributes and what they say ("nearest", "SAME_UPPER") come from files as strings, and are looked
 * up once, when they enter a graph; from then on operators compare numbers. A new word is a line of words.inc. */
#ifndef RQ_GRAPH_WORDS_H
#define RQ_GRAPH_WORDS_H

typedef enum rq_word {
    RQ_WORD_NONE, /* one that no operator knows: a program's own, or a mistake */
#define WORD(name) RQ_WORD_##name,
#include "graph/words.inc"
#undef WORD
    RQ_N_WORDS
} rq_word;

rq_word rq_word_of(const char *text);
const char *rq_word_text(rq_word w); /* "" for RQ_WORD_NONE */

#endif
