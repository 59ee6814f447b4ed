/* tests/quant/qconfig_help.h — what the tests of qconfigs share. */
#ifndef RQ_TESTS_QUANT_QCONFIG_HELP_H
#define RQ_TESTS_QUANT_QCONFIG_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "requant/qconfig_mapping.h"

#define N(a) ((int)(sizeof(a) / sizeof((a)[0])))

static inline rq_qconfig pair(const char *activation, const char *weight)
{
    rq_qconfig q;
    assert_int_equal(rq_qconfig_part_named(&q.activation, activation, NULL), RQ_OK);
    assert_int_equal(rq_qconfig_part_named(&q.weight, weight, NULL), RQ_OK);
    return q;
}

#endif
