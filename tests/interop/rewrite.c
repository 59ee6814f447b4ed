/* rewrite.c — rewrite LIST: a job per line, `JOB IN OUT`: read IN and write it to OUT
 *   copy        as it was
 *   raise       raised to annotations and lowered again
 *   qoperator   spelled with QLinear operators
 *   fold        folded for quantization
 *   dequantize  without its quantization
 *   opset-N     in the words of opset N
 * Prints a line per job, "ok" or why not; exit 0 when the list could be read.
 * For tests/interop/check.py, which compares what comes out with what went in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fold/fold.h"
#include "graph/graph.h"
#include "ops/op.h"
#include "ops/upgrade.h"
#include "requant/requant.h"

static rq_status job(const char *what, const char *in, const char *out, rq_err *err)
{
    rq_graph *g = NULL;
    rq_status status = rq_load(&g, in, err);
    if (!status && !strcmp(what, "raise")) {
        status = rq_ops_infer(g, err);
        if (!status)
            status = rq_raise(g, NULL, err);
        if (!status)
            status = rq_graph_check(g, err);
        if (!status)
            status = rq_lower_qdq(g, err);
    } else if (!status && !strcmp(what, "fold")) {
        status = rq_fold_graph(g, NULL, err);
    } else if (!status && !strcmp(what, "dequantize")) {
        status = rq_dequantize(g, err);
        if (!status && rq_graph_is_quantized(g))
            status = rq_fail(err, RQ_INTERNAL, "it is quantized still");
    } else if (!status && !strncmp(what, "opset-", 6)) {
        status = rq_ops_infer(g, err);
        if (!status && rq_graph_opset(g, "") < atoi(what + 6))
            status = rq_upgrade(g, atoi(what + 6), err);
    }
    if (!status)
        status = rq_graph_check(g, err);
    if (!status)
        status = rq_save_as(
            g, out,
            &(rq_save_cfg) { .spelling = !strcmp(what, "qoperator") ? RQ_SPELLING_QOPERATOR : RQ_SPELLING_KEEP }, err);
    rq_graph_destroy(g);
    return status;
}

int main(int argc, char **argv)
{
    char what[16], in[2048], out[2048];
    FILE *list = argc == 2 ? fopen(argv[1], "r") : NULL;
    if (!list) {
        fprintf(stderr, "usage: rewrite LIST\n");
        return 2;
    }
    while (fscanf(list, "%15s %2047s %2047s", what, in, out) == 3) {
        rq_err err = { 0 };
        rq_status status = job(what, in, out, &err);
        printf("%s\n", status ? err.text[0] ? err.text : rq_status_text(status) : "ok");
        fflush(stdout);
    }
    fclose(list);
    return 0;
}
