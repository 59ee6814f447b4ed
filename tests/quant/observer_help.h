/* tests/quant/observer_help.h — observers made, fed and asked in a line. */
#ifndef RQ_TESTS_QUANT_OBSERVER_HELP_H
#define RQ_TESTS_QUANT_OBSERVER_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "requant/fake_quantizer.h"

static rq_err err;

static inline rq_observer *make(const rq_observer_cfg *cfg)
{
    rq_observer *o = NULL;
    if (rq_observer_create(&o, cfg, &err))
        fail_msg("%s", err.text);
    return o;
}

static inline void see(rq_observer *o, const float *x, int64_t n)
{
    const rq_strided v = rq_strided_vector((float *)(uintptr_t)x, n);
    if (rq_observer_update(o, NULL, &v, &err))
        fail_msg("%s", err.text);
}

/* A configuration as the tables name it: type, scheme and what was asked for; compat, since they are the original's. */
static inline rq_observer_cfg config(rq_observer_kind kind, const char *type, rq_qscheme scheme)
{
    rq_observer_cfg cfg = rq_observer_defaults(kind);
    assert_int_equal(rq_qtype_parse(&cfg.type, type, &err), RQ_OK);
    cfg.scheme = scheme;
    cfg.custom_range = strchr(type, '[') != NULL;
    cfg.compat = true;
    return cfg;
}

#define AFFINE RQ_QSCHEME_PER_TENSOR_AFFINE
#define SYMMETRIC RQ_QSCHEME_PER_TENSOR_SYMMETRIC

static inline rq_strided matrix(float *x, int64_t rows, int64_t columns)
{
    const rq_shape s = rq_shape_of(2, (int64_t[]) { rows, columns });
    return rq_strided_floats(x, &s);
}

#endif
