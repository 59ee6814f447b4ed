/* tests/ok.h — a call that must succeed; where it does not, the library's own sentence is the failure. Include it behind <cmocka.h>. */
#ifndef RQ_TESTS_OK_H
#define RQ_TESTS_OK_H

#include "requant/status.h"

static rq_err err; /* handed to the calls */

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        const rq_status ok_ = (call);                                                                                  \
        if (ok_)                                                                                                       \
            fail_msg("%s: %s", #call, err.text);                                                                       \
    } while (0)

#endif
