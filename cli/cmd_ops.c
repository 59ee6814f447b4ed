/* cli/cmd_ops.c — requant ops: the support table, from the rows that do the work. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

typedef struct ops_args {
    cli_common common;
    const char *json;
} ops_args;

static const cli_opt opts[] = {
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

static rq_status save_json(const char *path, rq_err *err)
{
    rq_op_support op;
    json_t *all = json_array();
    for (int i = 0; rq_ops_support(i, &op); i++)
        json_array_append_new(all,
                              json_pack("{s:s, s:s, s:i, s:i, s:b, s:b, s:s, s:s}", "domain", op.domain, "name",
                                        op.name, "since", op.since, "known", op.known, "runs", (int)op.runs, "gradient",
                                        (int)op.gradient, "integer", op.integer, "placement", op.placement));
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
        print_table();
    if (a->json && save_json(a->json, &err))
        return cli_fail("ops", &err);
    return CLI_OK;
}

const cli_command cmd_ops = {
    .name = "ops",
    .synopsis = "[--json FILE] [OPTION]...",
    .summary = "the support table",
    .about = "Lists every operator there is a row for: the opsets whose meaning of it is implemented, whether it runs "
             "in float, whether gradients go through it, how it "
             "runs in integers (`own`: a kernel, `table`: a 256-entry table, `moves codes`: the float code moves "
             "bytes), and what "
             "the quantizer does with it.",
    .min_operands = 0,
    .max_operands = 0,
    .args_size = sizeof(ops_args),
    .opts = opts,
    .run = run,
};
