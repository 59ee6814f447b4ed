/* cli/cmd_lint.c — requant lint: which operators of a file a runtime will run in integers, and why not the others. */
#include <stdio.h>

#include "cli.h"

typedef struct lint_args {
    cli_common common;
    const char *json;
    int profile;
} lint_args;

#define TO(field) offsetof(lint_args, field)
static const cli_opt opts[] = {
    { CLI_ENUM, 0, "profile", CLI_PROFILES, TO(profile), "the runtime (default ort-cpu-x64)", CLI_PROFILES, 0, 0 },
    { CLI_OUT, 0, "json", "FILE", TO(json), "write the result as JSON (-: standard output)", NULL, 0, 0 },
    CLI_ROWS_COMMON,
    { CLI_END, 0, NULL, NULL, 0, NULL, NULL, 0, 0 },
};
#undef TO

static int run(void *args)
{
    lint_args *a = args;
    const char *model = a->common.operand[0];
    rq_err err = { 0 };
    rq_graph *g = NULL;
    rq_lint lint = { 0 };
    int rc = CLI_FAILED;
    if ((a->json && rq_file_check_output(a->json, &err)) || rq_load(&g, model, &err) ||
        rq_lint_graph(&lint, g, (rq_profile)a->profile, &err))
        goto done;
    if (!a->common.quiet && !cli_is_stdout(a->json))
        rq_lint_print(&lint, stdout);
    if (a->json && rq_lint_save_json(&lint, a->json, &err))
        goto done;
    rc = lint.n_refused ? CLI_MISSED : CLI_OK;
done:
    if (rc == CLI_FAILED)
        cli_fail("lint", &err);
    rq_lint_release(&lint);
    rq_graph_destroy(g);
    return rc;
}

const cli_command cmd_lint = {
    .name = "lint",
    .synopsis = "MODEL [--profile RUNTIME] [--json FILE]",
    .summary = "which operators a runtime will run in integers, and why not the others",
    .about = "Applies the rules by which the runtime fuses QuantizeLinear and DequantizeLinear into integer operators "
             "to MODEL, as it "
             "is in its file, and lists the operators that will run in float with the rule each falls under "
             "(docs/onnx-facts.md, section 5). Exit code 3: the runtime will refuse the file.",
    .min_operands = 1,
    .max_operands = 1,
    .args_size = sizeof(lint_args),
    .opts = opts,
    .run = run,
};
