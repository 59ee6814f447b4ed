/* tests/algo/linear_quantizer_config_help.h — configs from text: taken, refused, there and back. */
#ifndef RQ_TESTS_ALGO_LINEAR_QUANTIZER_CONFIG_HELP_H
#define RQ_TESTS_ALGO_LINEAR_QUANTIZER_CONFIG_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "requant/requant.h"

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

typedef rq_linear_quantizer_config config;
typedef rq_module_linear_quantizer_config module;

static rq_err err;

static inline config *parse(const char *text)
{
    config *c = NULL;
    if (rq_linear_quantizer_config_from_dict(&c, text, &err))
        fail_msg("%s: %s", text, err.text);
    return c;
}

static inline void refuses(const char *text, const char *sentence)
{
    config *c = NULL;
    const rq_status s = rq_linear_quantizer_config_from_dict(&c, text, &err);
    if (s != RQ_BAD_RECIPE || c || !strstr(err.text, sentence))
        fail_msg("%s: status %d, '%s', expected '%s'", text, (int)s, s ? err.text : "", sentence);
}

/* Written both ways and read back. */
static inline void round_trips(const config *c)
{
    for (int yaml = 0; yaml < 2; yaml++) {
        const int64_t n =
            yaml ? rq_linear_quantizer_config_as_yaml(c, NULL, 0) : rq_linear_quantizer_config_as_dict(c, NULL, 0);
        assert_true(n > 0);
        char *text = malloc((size_t)n + 1);
        config *back = NULL;
        if (yaml)
            rq_linear_quantizer_config_as_yaml(c, text, (size_t)n + 1);
        else
            rq_linear_quantizer_config_as_dict(c, text, (size_t)n + 1);
        assert_int_equal(strlen(text), n);
        if (yaml ? rq_linear_quantizer_config_from_yaml(&back, text, &err)
                 : rq_linear_quantizer_config_from_dict(&back, text, &err))
            fail_msg("%s: %s", text, err.text);
        assert_true(rq_linear_quantizer_config_equal(c, back));
        rq_linear_quantizer_config_destroy(back);
        free(text);
    }
}

#endif
