/* requant/ops.h — what the library can do, printed from its own rows. */
#ifndef REQUANT_OPS_H
#define REQUANT_OPS_H

#include <requant/status.h>
#include <stdbool.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_op_support {
    const char *domain, *name;
    int since, known; /* opsets */
    bool runs;        /* float forward */
    bool gradient;
    const char *integer; /* "own", "moves codes", "table", or "" */
    const char *placement;
} rq_op_support;
/* Row i; false past the last. */
RQ_API bool rq_ops_support(int i, rq_op_support *out);

/* "0.1.0", the commit it was built from, and one line per linked library and CPU feature. */
RQ_API const char *rq_version(void);
RQ_API void rq_version_print(FILE *to);

#ifdef __cplusplus
}
#endif
#endif
