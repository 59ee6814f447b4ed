/* cli/quantize_coreml.c — requant quantize IN.mlpackage -o OUT.mlpackage: what coremltools.optimize.coreml does, by its own YAML or by our options. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* Options that say something here; the others belong to other models, and would be passed over in silence. */
static int refuse_idle(const cli_command *c, const cli_coreml_quantize *a)
{
    static const char *const known[] = {
        "out",   "mode", "config", "weights", "affine-weights", "per-tensor", "block-size", "weight-threshold",
        "joint", "op",   "node",   "exclude", "json",           "quiet",      "verbose",    "help",
        NULL
    };
    static const char *const running[] = { "data",   "eval",    "samples",  "seed",          "max-drop",
                                           "output", "threads", "products", "deterministic", "match",
                                           "dim",    "batch",   "recipe",   "activations",   NULL };
    const bool runs = a->mode != RQ_MODE_WEIGHT_ONLY;
    static const char *const settings[] = { "weights",    "affine-weights",   "per-tensor",
                                            "block-size", "weight-threshold", "op",
                                            "node",       "exclude",          "activations",
                                            NULL };
    for (int i = 0; i < a->common->n_given; i++) {
        const char *given = a->common->given[i];
        bool is_known = false;
        for (int k = 0; known[k]; k++)
            is_known |= !strcmp(known[k], given);
        for (int k = 0; runs && running[k]; k++)
            is_known |= !strcmp(running[k], given);
        if (!is_known)
            return cli_usage(c, "--%s says nothing of a Core ML package%s", given,
                             runs ? ", whose scales are those of coremltools"
                                  : " whose weights alone are quantized: nothing is run (requant compare judges)");
        for (int k = 0; a->config && settings[k]; k++)
            if (!strcmp(settings[k], given))
                return cli_usage(c, "--%s says nothing beside --config, which has it for each operator", given);
    }
    if (a->weights > 3)
        return cli_usage(c, "weights of a Core ML package are s8, u8, s4 or u4");
    if (a->per_tensor && a->block > 0)
        return cli_usage(c, "--per-tensor and --block-size contradict each other");
    return CLI_OK;
}

/* The config that our options mean. */
static rq_status config_of_options(rq_coreml_config **out, const cli_coreml_quantize *a, bool activations, rq_err *err)
{
    static const int blocks[] = { 0, 16, 32, 64, 128, 256 };
    rq_coreml_op_config op = rq_coreml_op_config_defaults(RQ_COREML_LINEAR_QUANTIZER);
    op.symmetric = !a->affine_weights;
    op.nbits = a->weights < 2 ? 8 : 4;
    op.is_signed = a->weights % 2 == 0;
    op.weight_threshold = a->weight_threshold;
    if (a->per_tensor)
        op.granularity = RQ_COREML_PER_TENSOR;
    if (blocks[a->block]) {
        op.granularity = RQ_COREML_PER_BLOCK;
        op.block_size[0] = blocks[a->block];
    }
    if (activations) {
        op = rq_coreml_op_config_defaults(RQ_COREML_LINEAR_QUANTIZER);
        op.is_signed = !a->unsigned_activations;
    }
    RQ_TRY(rq_coreml_config_create(out, err));
    if (!a->ops.n && !a->nodes.n)
        RQ_TRY(rq_coreml_config_set_global(*out, &op, err));
    for (int i = 0; i < a->ops.n; i++)
        RQ_TRY(rq_coreml_config_set_op_type(*out, a->ops.items[i], &op, err));
    for (int i = 0; i < a->nodes.n; i++)
        RQ_TRY(rq_coreml_config_set_op_name(*out, a->nodes.items[i], &op, err));
    for (int i = 0; i < a->except.n; i++)
        RQ_TRY(rq_coreml_config_set_op_name(*out, a->except.items[i], NULL, err));
    return RQ_OK;
}

rq_status cli_coreml_config(rq_coreml_config **out, const cli_coreml_quantize *a, bool activations, rq_err *err)
{
    return a->config ? rq_coreml_config_load(out, a->config, err) : config_of_options(out, a, activations, err);
}

/* Made in two calls. */
char *cli_coreml_report(const rq_coreml_report *r, bool json, bool all)
{
    const int64_t n = json ? rq_coreml_report_json(r, NULL, 0) : rq_coreml_report_text(r, all, NULL, 0);
    char *text = n < 0 ? NULL : malloc((size_t)n + 1);
    if (text && json)
        rq_coreml_report_json(r, text, (size_t)n + 1);
    else if (text)
        rq_coreml_report_text(r, all, text, (size_t)n + 1);
    return text;
}

static rq_status show(const rq_coreml_report *r, const cli_coreml_quantize *a, rq_err *err)
{
    char *json = a->json ? cli_coreml_report(r, true, true) : NULL,
         *text = cli_coreml_report(r, false, a->common->verbose);
    rq_status s = text && (json || !a->json) ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "out of memory");
    if (!s && !a->common->quiet && !cli_is_stdout(a->json))
        fputs(text, stdout);
    if (!s && json)
        s = rq_file_write_all(a->json, json, strlen(json), err);
    free(json);
    free(text);
    return s;
}

static rq_status work(const cli_coreml_quantize *a, rq_coreml **m, rq_coreml_config **config, rq_coreml_report **report,
                      rq_err *err)
{
    RQ_TRY(rq_coreml_open(m, a->common->operand[0], err));
    RQ_TRY(cli_coreml_config(config, a, false, err));
    RQ_TRY(rq_coreml_compress_weights(*m, *config, a->joint, report, err));
    if (!rq_coreml_report_done(*report) && !rq_coreml_config_is_empty(*config)) {
        char *why = cli_coreml_report(*report, false, true);
        if (!a->common->quiet && why)
            fputs(why, stderr);
        free(why);
        return rq_fail(err, RQ_BAD_ARG, "no weight was compressed, so %s was not written", a->out);
    }
    RQ_TRY(rq_coreml_save(*m, a->out, err));
    return show(*report, a, err);
}

int cli_quantize_coreml(const cli_command *c, const cli_coreml_quantize *a)
{
    rq_err err = { 0 };
    rq_coreml *m = NULL;
    rq_coreml_config *config = NULL;
    rq_coreml_report *report = NULL;
    const int idle = refuse_idle(c, a);
    if (idle)
        return idle;
    if (a->mode != RQ_MODE_WEIGHT_ONLY && !a->data)
        return cli_usage(c, "samples are missing: -d DATA (--mode weight-only can do without)");
    if (rq_save_check(a->out, &err) || (a->json && rq_file_check_output(a->json, &err)))
        return cli_fail(c->name, &err);
    if (a->mode != RQ_MODE_WEIGHT_ONLY)
        return cli_quantize_coreml_run(c, a);
    const rq_status s = work(a, &m, &config, &report, &err);
    rq_coreml_report_destroy(report);
    rq_coreml_config_destroy(config);
    rq_coreml_close(m);
    return s ? cli_fail(c->name, &err) : CLI_OK;
}
