/* coreml/raise.h — a newer specification for a model that is compressed: version, opsets, and what only the old one said. */
#ifndef RQ_COREML_RAISE_H
#define RQ_COREML_RAISE_H

#include "formats/coreml.h"

/* At least `spec`, and every function in its opset. The program's buildInfo, which tells of another program, goes. RQ_NO_MEMORY. */
rq_status rq_coreml_raise(rq_coreml *m, int32_t spec, rq_err *err);

#endif
