/* onnx_tests.h — the backend test cases of ONNX: what the files of the runner share. */
#ifndef RQ_ONNX_TESTS_H
#define RQ_ONNX_TESTS_H

#include "../golden/golden.h"

/* A case is a folder: model.onnx and test_data_set_N/{input,output}_i.pb; golden_case.dir is that folder. */
golden_verdict onnx_case_run(golden_case *c);
/* The same, with the model written as a Core ML package and read back between; not run: what no package can express. */
golden_verdict onnx_case_run_package(golden_case *c);
/* What packages are made with, and where they are saved, too (NULL: nowhere). Both must live on. */
void onnx_case_packages(const rq_coreml_cfg *cfg, const char *folder);

/* What stands in the way of running the model at `path`, as its file says, without loading it: `op` is the operator (or
 * "several"), and the reason is NULL when nothing does. */
typedef struct onnx_look {
    char op[64];
    const char *reason;
} onnx_look;
onnx_look onnx_look_at(const char *path);

/* An operator of the list of those not run that the library runs by now, or NULL. */
const char *onnx_stale_reason(void);

#endif
