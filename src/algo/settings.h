/* algo/settings.h — settings by the names they have in recipes: a row per key says what it may hold and where it goes. */
#ifndef RQ_ALGO_SETTINGS_H
#define RQ_ALGO_SETTINGS_H

#include "requant/recipe.h"

typedef enum rq_key {
    RQ_KEY_METHOD,
    RQ_KEY_OBSERVER,
    RQ_KEY_PERCENTILE,
    RQ_KEY_DECAY,
    RQ_KEY_ACTIVATIONS,
    RQ_KEY_WEIGHTS,
    RQ_KEY_SYMMETRIC,
    RQ_KEY_AFFINE_WEIGHTS,
    RQ_KEY_PER_TENSOR,
    RQ_KEY_BLOCK_SIZE,
    RQ_KEY_WEIGHT_METHOD,
    RQ_KEY_FLOAT,
    RQ_KEY_SCALE,
    RQ_KEY_ZERO_POINT,
    RQ_KEY_LO,
    RQ_KEY_HI,
    RQ_KEY_AXIS,
    RQ_KEY_REDUCE_RANGE,
    RQ_KEY_RESTRICTED,
    RQ_KEY_MIN_RANGE,
    RQ_KEY_SYMMETRIC_RANGES,
    RQ_KEY_COMPAT,
    RQ_KEY_BINS,
    RQ_KEY_GROUPS,
    RQ_KEY_FLOAT_BIAS,
    RQ_KEY_FLOAT_OUTPUT,
    RQ_KEY_WEIGHT_PAIRS,
    RQ_KEY_DEDICATED_PAIRS,
    RQ_KEY_KEEP_CLAMPS,
    RQ_KEY_FORCE_MOVES,
    RQ_KEY_CONST_MATMUL,
    RQ_N_KEYS, /* at most 64 */
} rq_key;

typedef struct rq_settings_key {
    const char *name;
    bool in_rules_only;
    const char *expects; /* in words */
    int kind;            /* settings.c */
    size_t at, size;     /* the field */
    size_t flag;         /* the bool that says it was given, or 0 (the field at 0 has none) */
    double lo, hi;
    const char *const *words;
} rq_settings_key;
extern const rq_settings_key rq_settings_keys[RQ_N_KEYS];

/* Put `text` where key k belongs, which may keep the pointer; false: it is not what the key expects. */
bool rq_settings_set(rq_settings *s, rq_key k, const char *text);
/* Take from `from` what key k says. */
void rq_settings_take(rq_settings *to, const rq_settings *from, rq_key k);

#endif
