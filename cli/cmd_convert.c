/* cli/cmd_convert.c — requant convert: the same quantized model, spelled otherwise. No number of it changes. */
#include "cli.h"

typedef struct convert_args {
    cli_common common;
    const char *out;
    int format;
    int64_t opset;
} convert_args;

#define TO(field) offsetof(convert_args, field)
static const cli_opt opts[] = {
    { CLI_OUT, 'o', "out", "OUT", TO(out), "write the model here; the suffix names the format", NULL, 0, 0 },
    { CLI_ENUM, 0, "format", "qdq|qoperator", TO(format),
      "QuantizeLinear/DequantizeLinear pairs or QLinear operators (default qdq)", "qdq|qoperator", 0, 0 },
    { CLI_INT, 0, "opset", "N", TO(opset), "write opset N (default: as low as model and scales allow)", NULL, 10, 25 },
    CLI_ROWS_COMMON,
    { CLI_END, 0, NULL, NULL, 0, NULL, NULL, 0, 0 },
};
#undef TO

static int run(void *args)
{
    convert_args *a = args;
    const char *model = a->common.operand[0];
    if (!a->out)
        return cli_usage(&cmd_convert, "the output is missing: -o OUT");
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_graph_summary sum;
    int rc = CLI_FAILED;
    rq_save_cfg form = rq_save_defaults();
    form.spelling = a->format ? RQ_SPELLING_QOPERATOR : RQ_SPELLING_QDQ;
    form.opset = a->opset;
    if (rq_save_check(a->out, &err) || cli_load(&g, model, &a->common, &err) || rq_graph_summarize(g, &sum, &err))
        goto done;
    if (!sum.is_quantized) {
        rq_fail(&err, RQ_BAD_GRAPH, "%s is not quantized; `requant quantize` does that", model);
        goto done;
    }
    if (rq_save_as(g, a->out, &form, &err))
        goto done;
    rc = CLI_OK;
done:
    if (rc)
        cli_fail("convert", &err);
    rq_graph_destroy(g);
    return rc;
}

const cli_command cmd_convert = {
    .name = "convert",
    .synopsis = "MODEL -o OUT [--format qdq|qoperator]",
    .summary = "write a quantized model in the other spelling",
    .about = "Reads MODEL, whoever quantized it, and writes it to OUT as QuantizeLinear/DequantizeLinear pairs or as "
             "QLinear "
             "operators. Scales, zero points and codes stay what they are; run in integers, both give the same bits.",
    .min_operands = 1,
    .max_operands = 1,
    .args_size = sizeof(convert_args),
    .opts = opts,
    .run = run,
};
