/* cli/cmd_ops.c — requant ops: the support table, from the rows that do the work. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

typedef struct ops_args {
    cli_common common;
    const char *json;
    bool coreml;
} ops_args;

static const cli_opt opts[] = {
    { CLI_FLAG, 0, "coreml", NULL, offsetof(ops_args, coreml), "operators of Core ML programs, and what they become",
      NULL, 0, 0 },
    { CLI_OUT, 0, "json", "FILE", offsetof(ops_args, json), "write the result as JSON (-: standard output)", NULL, 0,
      0 },
    CLI_ROWS_COMMON,
    { CLI_END, 0, NULL, NULL, 0, NULL, NULL, 0, 0 },
};

static void print_table(void)
{
    rq_op_support op;
    int n = 0, n_int = 0;
    printf("%-46s %-6s %-6s %-9s %-13s %s\n", "operator", "opsets", "float", "gradient", "integer", "quantizer");
    for (int i = 0; rq_ops_support(i, &op); i++, n++) {
        char name[128], opsets[24];
        snprintf(name, sizeof name, "%s%s%s", op.domain, op.domain[0] ? "." : "", op.name);
        snprintf(opsets, sizeof opsets, "%d-%d", op.since, op.known);
        printf("%-46s %-6s %-6s %-9s %-13s %s\n", name, opsets, op.runs ? "yes" : "-", op.gradient ? "yes" : "-",
               op.integer[0] ? op.integer : "-", op.placement);
        n_int += op.integer[0] != 0;
    }
    printf("%d operators, %d of them in integers\n", n, n_int);
}

static void print_coreml(void)
{
    const char *name, *onnx;
    int n = 0;
    printf("%-40s %s\n", "operator", "becomes");
    for (; rq_coreml_operator(n, &name, &onnx); n++)
        printf("%-40s %s\n", name, onnx);
    printf("%d operators of Core ML programs\n", n);
    rq_op_support op;
    int written = 0;
    printf("\n%-16s %-36s %s\n", "domain", "operator of ONNX", "written");
    for (int i = 0; rq_ops_support(i, &op); i++) {
        const rq_coreml_target target = rq_coreml_writes(op.domain, op.name);
        if (target)
            printf("%-16s %-36s iOS %d\n", *op.domain ? op.domain : "ai.onnx", op.name,
                   (int)target + (target > 9 ? 16 : 9));
        written += target != RQ_COREML_LOWEST;
    }
    printf("%d operators of ONNX can be written, from that system on\n", written);
}

static json_t *json_of_coreml(void)
{
    const char *name, *onnx;
    json_t *all = json_array();
    for (int i = 0; rq_coreml_operator(i, &name, &onnx); i++)
        json_array_append_new(all, json_pack("{s:s, s:s}", "name", name, "becomes", onnx));
    return all;
}

static json_t *json_of_onnx(void)
{
    rq_op_support op;
    json_t *all = json_array();
    for (int i = 0; rq_ops_support(i, &op); i++)
        json_array_append_new(all,
                              json_pack("{s:s, s:s, s:i, s:i, s:b, s:b, s:s, s:s}", "domain", op.domain, "name",
                                        op.name, "since", op.since, "known", op.known, "runs", (int)op.runs, "gradient",
                                        (int)op.gradient, "integer", op.integer, "placement", op.placement));
    return all;
}

static rq_status save_json(const char *path, json_t *all, rq_err *err)
{
    char *text = json_dumps(all, JSON_INDENT(1));
    json_decref(all);
    if (!text)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    size_t n = strlen(text);
    text[n] = '\n'; /* over the NUL: files end in a newline */
    rq_status s = rq_file_write_all(path, text, n + 1, err);
    free(text);
    return s;
}

static int run(void *args)
{
    ops_args *a = args;
    rq_err err = { 0 };
    if (!a->common.quiet && !cli_is_stdout(a->json))
        a->coreml ? print_coreml() : print_table();
    if (a->json && save_json(a->json, a->coreml ? json_of_coreml() : json_of_onnx(), &err))
        return cli_fail("ops", &err);
    return CLI_OK;
}

const cli_command cmd_ops = {
    .name = "ops",
    .synopsis = "[--coreml] [--json FILE] [OPTION]...",
    .summary = "the support table",
    .about = "Lists every operator there is a row for: the opsets whose meaning of it is implemented, whether it runs "
             "in float, whether gradients go through it, how it "
             "runs in integers (`own`: a kernel, `table`: a 256-entry table, `moves codes`: the float code moves "
             "bytes), and what "
             "the quantizer does with it. With --coreml: the operators of Core ML programs that can be read, and the "
             "operators of ONNX that they become; then the operators of ONNX that can be written as such, and for "
             "which system "
             "at least.",
    .min_operands = 0,
    .max_operands = 0,
    .args_size = sizeof(ops_args),
    .opts = opts,
    .run = run,
};
