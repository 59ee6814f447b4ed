/* cli/cmd_quantize.c — requant quantize: a float model and some samples in, an int8 model and a verdict out.
 *
 * The samples are drawn into two parts: one calibrates, the other (a fifth, or --eval) judges. The verdict is about
 * the file: it is read back and run in integers beside the float model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

typedef struct quantize_args {
    cli_common common;
    const char *data, *out, *eval, *json, *output, *ranges;
    cli_ranges how;
    int weights, format; /* positions in the words below */
    int mode, block, weight_method, weight_form, profile;
    cli_ends ends;
    int64_t accuracy_level, opset;
    cli_list ops, nodes, except;
    bool per_row, dynamic_conv;
    int64_t samples, seed;
    double max_drop;
    bool requantize, affine_weights;
    const char *config;
    int64_t weight_threshold;
    bool joint, keep_losers;
} quantize_args;

#define TO(field) offsetof(quantize_args, field)
static const cli_opt opts[] = {
    { CLI_IN, 'd', "data", "DATA", TO(data), "samples: .npz, .npy, or a folder of either or of pictures", NULL, 0, 0 },
    { CLI_OUT, 'o', "out", "OUT", TO(out), "write the int8 model here; the suffix names the format", NULL, 0, 0 },
    { CLI_ENUM, 0, "format", "qdq|qoperator", TO(format),
      "write QuantizeLinear/DequantizeLinear pairs or QLinear operators (default qdq)", "qdq|qoperator", 0, 0 },
    { CLI_ENUM, 0, "profile", "RUNTIME", TO(profile),
      "make the file for this runtime (its settings, unless given; what contradicts it is refused), and list what it "
      "will "
      "run in float: ort-cpu-x64, ort-cpu-arm64, tensorrt, openvino or qnn",
      CLI_PROFILES, 0, 0 },
    { CLI_ENUM, 0, "inputs", "f32|u8|s8", TO(ends.inputs),
      "u8 or s8: the model's inputs become codes; scale and zero point stand in its metadata", "f32|u8|s8", 0, 0 },
    { CLI_ENUM, 0, "outputs", "f32|u8|s8", TO(ends.outputs), "the same for its outputs", "f32|u8|s8", 0, 0 },
    { CLI_STR, 0, "mean", "M,..", TO(ends.mean),
      "with --inputs u8 or s8: the model wants (pixel - mean) / std; both go into its first Conv, and pixels go in as "
      "they are "
      "(default: those of the recipe's preprocess)",
      NULL, 0, 0 },
    { CLI_STR, 0, "std", "S,..", TO(ends.std), "see --mean; one number, or one per channel", NULL, 0, 0 },
    { CLI_NUM, 0, "pixel-scale", "X", TO(ends.pixel),
      "what a step of a pixel means to --mean and --std (default 1/255: they are of pixels from 0 to 1)", NULL, 1e-9,
      1e9 },
    { CLI_INT, 0, "opset", "N", TO(opset), "write opset N (default: as low as model and scales allow)", NULL, 10, 25 },
    { CLI_ENUM, 0, "mode", "MODE", TO(mode),
      "what becomes integers: static (weights and activations, calibrated on DATA; the default), dynamic (inputs of "
      "products are measured as they pass) or weight-only; of a Core ML package also activations alone",
      "static|dynamic|weight-only|activations", 0, 0 },
    CLI_ROWS_RANGES(quantize_args, how),
    { CLI_IN, 0, "ranges", "FILE", TO(ranges),
      "take ranges from here (`requant calibrate`, ONNX Runtime's or TensorRT's calibration) instead of measuring them",
      NULL, 0, 0 },
    { CLI_ENUM, 0, "weights", "TYPE", TO(weights),
      "codes of weights: s8, u8, s4, u4, s16 or u16; s2 or u2 with --mode weight-only (default s8)",
      "s8|u8|s4|u4|s16|u16|s2|u2", 0, 0 },
    { CLI_ENUM, 0, "block-size", "N", TO(block),
      "weight-only: so many weights share a scale; 0: a channel does (default: 32 for 4 and 2 bits, else 0)",
      "0|16|32|64|128|256", 0, 0 },
    { CLI_ENUM, 0, "weight-method", "NAME", TO(weight_method),
      "weight-only: how scales of weights are chosen: mse (default), minmax, or as ONNX Runtime's MatMulNBitsQuantizer "
      "does: ort, rtn, hqq, k-quant",
      "mse|minmax|ort|rtn|hqq|k-quant", 0, 0 },
    { CLI_ENUM, 0, "weight-form", "FORM", TO(weight_form),
      "weight-only: write DequantizeLinear (dq, the default) or ONNX Runtime's MatMulNBits and GatherBlockQuantized "
      "(matmulnbits), which want blocks",
      "dq|matmulnbits", 0, 0 },
    { CLI_IN, 0, "config", "FILE", TO(config),
      "of a .mlpackage: a YAML file as coremltools' OptimizationConfig.from_yaml reads it (global_config, "
      "op_type_configs, op_name_configs)",
      NULL, 0, 0 },
    { CLI_INT, 0, "weight-threshold", "N", TO(weight_threshold),
      "of a .mlpackage, weight-only: weights of more elements than this (default 2048)", NULL, 0, 9e15 },
    { CLI_FLAG, 0, "joint", NULL, TO(joint),
      "of a .mlpackage, weight-only: the tables and numbers of weights that are compressed already, too (iOS 18)", NULL,
      0, 0 },
    { CLI_FLAG, 0, "per-row", NULL, TO(per_row),
      "dynamic: a scale for each row of a product's input, not one for the tensor", NULL, 0, 0 },
    { CLI_FLAG, 0, "dynamic-conv", NULL, TO(dynamic_conv),
      "dynamic: Conv as ConvInteger too (default: only its weights are codes)", NULL, 0, 0 },
    { CLI_INT, 0, "accuracy-level", "N", TO(accuracy_level),
      "weight-only: what MatMulNBits may compute in: 1 f32, 2 f16, 3 bf16, 4 int8 (default 0: left to the runtime)",
      NULL, 0, 4 },
    { CLI_FLAG, 0, "affine-weights", NULL, TO(affine_weights), "weights with a zero point of their own", NULL, 0, 0 },
    { CLI_FLAG, 0, "per-tensor", NULL, TO(how.settings.per_tensor),
      "one scale for a weight, not one per output channel", NULL, 0, 0 },
    { CLI_FLAG, 0, "reduce-range", NULL, TO(how.settings.reduced),
      "weights use half of their codes (s8 -64..64): for processors whose 16-bit sums overflow", NULL, 0, 0 },
    { CLI_FLAG, 0, "restricted-zero-point", NULL, TO(how.settings.restricted),
      "u8 activations: zero point 0, or 128 where the range goes below 0", NULL, 0, 0 },
    { CLI_NUM, 0, "min-range", "X", TO(how.settings.min_range), "widen narrower ranges to X", NULL, 0, 1e30 },
    { CLI_LIST, 0, "op", "TYPE", TO(ops), "quantize operators of this type only; may be repeated", NULL, 0, 0 },
    { CLI_LIST, 0, "node", "NAME", TO(nodes),
      "quantize nodes of this name only (* and ? stand for any letters); may be repeated", NULL, 0, 0 },
    { CLI_LIST, 0, "exclude", "NAME", TO(except), "leave nodes of this name in float, likewise; may be repeated", NULL,
      0, 0 },
    { CLI_FLAG, 0, "keep-losers-float", NULL, TO(keep_losers),
      "time both models on this machine, and leave layers in float that are slower in int8; says which, so that "
      "--exclude can repeat it",
      NULL, 0, 0 },
    { CLI_FLAG, 0, "const-matmul", NULL, TO(how.settings.const_matmul), "products of two activations stay in float",
      NULL, 0, 0 },
    { CLI_FLAG, 0, "float-bias", NULL, TO(how.settings.float_bias), "biases stay in float", NULL, 0, 0 },
    { CLI_FLAG, 0, "weight-pairs", NULL, TO(how.settings.weight_pairs),
      "weights stay in float in the file, behind QuantizeLinear and DequantizeLinear", NULL, 0, 0 },
    { CLI_FLAG, 0, "dedicated-pairs", NULL, TO(how.settings.dedicated_pairs),
      "QuantizeLinear and DequantizeLinear once for each reader of a tensor", NULL, 0, 0 },
    { CLI_FLAG, 0, "keep-relu", NULL, TO(how.settings.keep_clamps), "with --compat: Relu and Clip stay nodes", NULL, 0,
      0 },
    { CLI_FLAG, 0, "force-moves", NULL, TO(how.settings.force_moves),
      "with --compat: MaxPool, Reshape, Transpose ... make codes of an input that has none", NULL, 0, 0 },
    { CLI_INT, 'n', "samples", "N", TO(samples), "calibrate on N samples (default: all that do not judge)", NULL, 1,
      1e15 },
    { CLI_IN, 0, "eval", "DATA", TO(eval), "judge on these samples (default: one fifth of DATA, held out)", NULL, 0,
      0 },
    { CLI_NUM, 0, "max-drop", "X", TO(max_drop),
      "exit 3, and leave OUT as it was, when more than X points of accuracy are lost (of agreement, without labels)",
      NULL, 0, 100 },
    { CLI_STR, 0, "output", "NAME", TO(output), "output whose last axis is the answer (default: the first)", NULL, 0,
      0 },
    { CLI_INT, 0, "seed", "N", TO(seed), "of the draw of samples (default 0)", NULL, 0, 9e15 },
    { CLI_FLAG, 0, "requantize", NULL, TO(requantize),
      "take a model that is quantized already; its old parameters are dropped", NULL, 0, 0 },
    { CLI_OUT, 0, "json", "FILE", TO(json), "write the verdict as JSON (-: standard output, instead of the table)",
      NULL, 0, 0 },
    CLI_ROWS_DATA,
    CLI_ROWS_COMMON,
    { CLI_END, 0, NULL, NULL, 0, NULL, NULL, 0, 0 },
};
#undef TO

static void defaults(void *args)
{
    quantize_args *a = args;
    cli_ranges_defaults(&a->how);
    a->weight_method = (int)a->how.settings.weight_method;
    a->max_drop = -1;
    a->profile = -1; /* none */
    a->weight_threshold = 2048;
}

/* The settings of every tensor: defaults, then the recipe, then the command line. */
static rq_settings settle(quantize_args *a)
{
    static const rq_dtype weights[] = { RQ_DTYPE_S8,  RQ_DTYPE_U8,  RQ_DTYPE_S4, RQ_DTYPE_U4,
                                        RQ_DTYPE_S16, RQ_DTYPE_U16, RQ_DTYPE_S2, RQ_DTYPE_U2 };
    static const int blocks[] = { 0, 16, 32, 64, 128, 256 };
    rq_settings *s = &a->how.settings;
    s->weights = weights[a->weights];
    if (cli_given(&a->common, "block-size"))
        s->block_size = blocks[a->block];
    s->weight_method = (rq_weight_method)a->weight_method;
    s->symmetric_weights = !a->affine_weights;
    if (a->profile >= 0) { /* what it wants, where nobody says otherwise */
        const rq_settings p = rq_profile_settings((rq_profile)a->profile);
        if (!cli_given(&a->common, "activations"))
            cli_ranges_activations(&a->how, p.activations);
        s->symmetric_activations |= p.symmetric_activations;
        s->float_bias |= p.float_bias;
        s->min_range = cli_given(&a->common, "min-range") ? s->min_range : p.min_range;
        s->places = p.places;
    }
    rq_settings settled = cli_ranges_settle(&a->how, &a->common);
    settled.softmax_256 |= settled.compat && a->format;
    if (settled.compat && a->format)
        settled.compat = RQ_COMPAT_ONNXRUNTIME_QOPERATOR;
    return settled;
}

/* Options that say nothing beside others: a sentence rather than silence. */
static int refuse_idle(const cli_command *c, const quantize_args *a)
{
    static const char *const calibrated[] = { "method",
                                              "percentile",
                                              "decay",
                                              "bins",
                                              "quantized-bins",
                                              "symmetric-ranges",
                                              "activations",
                                              "symmetric",
                                              "restricted-zero-point",
                                              "float-bias",
                                              "const-matmul",
                                              "weight-pairs",
                                              "dedicated-pairs",
                                              "keep-relu",
                                              "force-moves",
                                              "format",
                                              "keep-losers-float",
                                              NULL };
    static const char *const dynamic[] = { "per-row", "dynamic-conv", NULL };
    static const char *const packages[] = { "config", "weight-threshold", "joint", NULL };
    static const char *const weights[] = { "block-size", "weight-method", "weight-form", "accuracy-level", NULL };
    static const char *const measuring[] = { "method",           "percentile", "decay", "bins", "quantized-bins",
                                             "symmetric-ranges", "samples",    "seed",  NULL };
    const struct {
        const char *const *names;
        bool idle;
        const char *why;
    } sets[] = { { calibrated, a->mode != RQ_MODE_STATIC, "it belongs to --mode static" },
                 { dynamic, a->mode != RQ_MODE_DYNAMIC, "it belongs to --mode dynamic" },
                 { weights, a->mode != RQ_MODE_WEIGHT_ONLY, "it belongs to --mode weight-only" },
                 { packages, true, "it belongs to Core ML packages" },
                 { measuring, a->ranges && a->mode == RQ_MODE_STATIC, "with --ranges nothing is measured" } };
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
        for (const char *const *n = sets[i].names; sets[i].idle && *n; n++)
            for (int k = 0; k < a->common.n_given; k++)
                if (!strcmp(a->common.given[k], *n))
                    return cli_usage(c, "--%s says nothing here: %s", *n, sets[i].why);
    return CLI_OK;
}

/* Everything that can be refused before the work begins. */
static int refuse(const cli_command *c, const quantize_args *a)
{
    rq_err err = { 0 };
    const int idle = refuse_idle(c, a);
    if (idle)
        return idle;
    if (!a->data && !a->ranges && a->mode == RQ_MODE_STATIC)
        return cli_usage(c, "samples are missing: -d DATA (--ranges, --mode dynamic and weight-only can do without)");
    if (a->ranges && a->mode != RQ_MODE_STATIC)
        return cli_usage(c, "--ranges is for --mode static");
    if (a->keep_losers && !a->data)
        return cli_usage(c, "--keep-losers-float runs both models: it needs samples, -d DATA");
    if (a->keep_losers && (a->ends.inputs || a->ends.outputs))
        return cli_usage(
            c, "--keep-losers-float compares models with the same inputs and outputs: not with --inputs or --outputs");
    if (!a->data && !a->eval && (a->max_drop >= 0 || a->json))
        return cli_usage(c, "--%s needs samples to judge on: -d DATA", a->json ? "json" : "max-drop");
    if (!a->out)
        return cli_usage(c, "the output is missing: -o OUT");
    if (rq_save_check(a->out, &err) || (a->json && rq_file_check_output(a->json, &err)))
        return cli_fail(c->name, &err);
    return CLI_OK;
}

static rq_status open_float(rq_graph **out, const quantize_args *a, bool *was_quantized, rq_err *err)
{
    const char *model = a->common.operand[0];
    rq_graph_summary sum;
    RQ_TRY(cli_load(out, model, &a->common, err));
    RQ_TRY(cli_spare_weights(*out, model, a->out, err));
    RQ_TRY(cli_spare_weights(*out, model, a->json, err));
    RQ_TRY(rq_graph_summarize(*out, &sum, err));
    if (!sum.is_quantized)
        return RQ_OK;
    if (!a->requantize)
        return rq_fail(err, RQ_BAD_GRAPH,
                       "%s is quantized already; --requantize drops its parameters and chooses new ones", model);
    *was_quantized = true;
    return rq_dequantize(*out, err);
}

/* Samples to calibrate and to judge on, as far as there are any. */
static rq_status open_samples(const quantize_args *a, const rq_graph *g, rq_dataset **data, rq_dataset **other,
                              rq_split *split, rq_err *err)
{
    if (a->eval)
        RQ_TRY(cli_open_data(other, a->eval, g, &a->common, err));
    if (!a->data)
        return RQ_OK;
    RQ_TRY(cli_open_data(data, a->data, g, &a->common, err));
    if (a->ranges) /* nothing calibrates: all of them judge */
        return RQ_OK;
    return rq_dataset_split(split, *data, (uint64_t)a->seed, a->eval ? 0 : 0.2, a->samples, rq_dataset_unit(*data),
                            err);
}

/* ---- the work ---- */

typedef struct job {
    const quantize_args *a;
    struct timespec begin;
    rq_ends ends;
    rq_ptq_cfg cfg;
    rq_save_cfg form;
    cli_progress progress;
    cli_trial trial;
    const char *where; /* the file that is judged: OUT, or one on trial */
    rq_graph *original, *g, *saved;
    bool was_quantized; /* so that the float form is in no file */
    rq_dataset *data, *other;
    rq_split split;
    rq_ranges *ranges;
    rq_notes notes;
    rq_report report;
    rq_lint lint;
} job;

/* What was asked for, as the library takes it; CLI_OK, or what stands against it was said. */
static int settle_job(job *j, quantize_args *a)
{
    const int rc = refuse(&cmd_quantize, a);
    rq_err err = { 0 };
    *j = (job) { .a = a, .cfg = rq_ptq_defaults(), .form = rq_save_defaults() };
    rq_ptq_cfg *cfg = &j->cfg;
    if (rc)
        return rc;
    cfg->mode = (rq_mode)a->mode;
    cfg->weight_form = (rq_weight_form)a->weight_form;
    cfg->accuracy_level = (int)a->accuracy_level;
    cfg->per_row = a->per_row;
    cfg->dynamic_conv = a->dynamic_conv;
    cfg->settings = settle(a);
    cfg->ends = &j->ends;
    cfg->ops = a->ops.items;
    cfg->nodes = a->nodes.items;
    cfg->except = a->except.items;
    cfg->recipe = a->common.recipe;
    cfg->threads = (int)a->common.threads;
    cfg->onednn = cli_onednn(&a->common);
    cfg->match = (rq_match)a->common.match;
    cfg->progress = cli_progress_step;
    cfg->progress_arg = &j->progress;
    j->form.spelling = a->format                   ? RQ_SPELLING_QOPERATOR
                       : a->mode == RQ_MODE_STATIC ? RQ_SPELLING_QDQ
                                                   : RQ_SPELLING_KEEP;
    j->form.opset = a->opset;
    if (a->format && a->mode != RQ_MODE_STATIC)
        return cli_usage(&cmd_quantize, "--format qoperator is for --mode static");
    const int ends = cli_ends_settle(&j->ends, &cmd_quantize, &a->ends, a->mode, &cfg->settings, a->common.recipe);
    if (ends)
        return ends;
    if (a->profile >= 0 && rq_profile_check_cfg((rq_profile)a->profile, cfg, &j->form, &err))
        return cli_fail("quantize", &err);
    return CLI_OK;
}

/* ONNX Runtime loads no float biases between codes below opset 11 (docs/onnx-facts.md 5.1 rule 4). */
static rq_status warn_of_old_opset(job *j, rq_err *err)
{
    rq_lint l = { 0 };
    RQ_TRY(rq_lint_graph(&l, j->saved, RQ_PROFILE_ORT_CPU_X64, err));
    const int n = l.n_refused;
    rq_lint_release(&l);
    if (n && rq_notes_add(&j->notes, "ONNX Runtime will not load this file: %d float biases at opset %d, expected 11",
                          n, (int)j->a->opset))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    return RQ_OK;
}

/* Layers that are slower in int8 stay in float; which, stands in the verdict. */
static rq_status keep_losers(job *j, rq_err *err)
{
    rq_losers l;
    RQ_TRY(rq_ptq_keep_losers(&l, &j->g, j->original, j->data, &j->cfg, &j->notes, err));
    const rq_status st = rq_losers_note(&l, &j->notes);
    rq_losers_release(&l);
    return st ? rq_fail(err, st, "out of memory") : RQ_OK;
}

/* Read, quantize, write; read back what was written, and look at it as the runtime will. */
static rq_status make(job *j, rq_err *err)
{
    const quantize_args *a = j->a;
    RQ_TRY(open_float(&j->original, a, &j->was_quantized, err));
    if (rq_graph_copy(&j->g, j->original))
        return rq_fail(err, RQ_NO_MEMORY, "%s: out of memory copying the model", a->common.operand[0]);
    RQ_TRY(rq_report_check_output(j->original, a->output, err));
    RQ_TRY(open_samples(a, j->g, &j->data, &j->other, &j->split, err));
    if (a->max_drop >= 0 && !rq_dataset_labels(j->other ? j->other : j->data) &&
        !rq_report_has_classes(j->original, a->output))
        return rq_fail(
            err, RQ_BAD_ARG,
            "--max-drop counts top-1 answers, and the judged output has no axis of classes; name one that has "
            "with --output, or give labels with the samples");
    if (a->ranges)
        RQ_TRY(rq_ranges_load(&j->ranges, a->ranges, err));
    j->cfg.ranges = j->ranges;
    j->cfg.rows = j->split.calibrate;
    j->cfg.n_rows = j->split.n_calibrate;
    j->where = a->max_drop >= 0 ? cli_trial_begin(&j->trial, a->out) : a->out;
    if (!j->where)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    RQ_TRY(rq_ptq(j->g, j->data, &j->cfg, &j->notes, err));
    if (a->keep_losers)
        RQ_TRY(keep_losers(j, err));
    RQ_TRY(cli_save(j->g, j->where, a->common.operand[0], &j->form, "quantize", a->common.quiet, err));
    RQ_TRY(cli_load_saved(&j->saved, j->g, j->where, err));
    if (a->profile >= 0)
        RQ_TRY(rq_lint_graph(&j->lint, j->saved, (rq_profile)a->profile, err));
    if (a->opset && a->opset < 11 && j->cfg.settings.float_bias && a->profile != RQ_PROFILE_TENSORRT)
        RQ_TRY(warn_of_old_opset(j, err));
    return rq_ends_restore(j->saved, err); /* samples are those of the float model */
}

/* The file beside the float model. */
static rq_status judge(job *j, rq_err *err)
{
    const quantize_args *a = j->a;
    const bool all = a->eval || a->ranges;
    const rq_report_cfg how = {
        .rows = all ? NULL : j->split.judge,
        .n_rows = all ? 0 : j->split.n_judge,
        .output = a->output,
        .threads = j->cfg.threads,
        .onednn = j->cfg.onednn,
        .match = j->cfg.match,
        .layers = true,
        .origin = j->g,
        .progress = cli_progress_step,
        .progress_arg = &j->progress,
    };
    rq_report *r = &j->report;
    struct timespec end;
    RQ_TRY(rq_report_compare(r, j->original, j->saved, j->other ? j->other : j->data, &how, err));
    r->model.bytes = j->was_quantized ? 0 : cli_model_bytes(a->common.operand[0], j->original);
    r->quantized.bytes = cli_model_bytes(j->where, j->saved);
    for (int i = 0; i < j->notes.n; i++)
        if (rq_notes_add(&r->warnings, "%s", j->notes.text[i]))
            return rq_fail(err, RQ_NO_MEMORY, "out of memory");
    clock_gettime(CLOCK_MONOTONIC, &end);
    r->seconds = (double)(end.tv_sec - j->begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - j->begin.tv_nsec);
    r->peak_rss_mb = rq_file_peak_rss_mb();
    return RQ_OK;
}

/* Without samples: what was done, and that nobody knows what it costs. */
static void print_unjudged(const job *j)
{
    const char *model = j->a->common.operand[0];
    for (int i = 0; i < j->notes.n; i++)
        printf("%s\n", j->notes.text[i]);
    printf("%s: %.2f MB; %s: %.2f MB\n", model, (double)cli_model_bytes(model, j->original) / 1e6, j->a->out,
           (double)cli_model_bytes(j->a->out, j->saved) / 1e6);
    printf("not judged: no samples were given (-d DATA, or --eval DATA)\n");
}

int cli_quantize_verdict(const rq_report *r, double max_drop, const char *out)
{
    if (max_drop < 0 || r->drop <= max_drop)
        return CLI_OK;
    fflush(stdout);
    if (isnan(r->drop)) {
        fprintf(stderr,
                "requant quantize: --max-drop has neither accuracy nor agreement to go by; %s was not written\n", out);
        return CLI_MISSED;
    }
    fprintf(stderr, "requant quantize: %.2f points lost, --max-drop allows %.2f; %s was not written\n", r->drop,
            max_drop, out);
    int worst[3], n = rq_report_worst(r, worst);
    for (int i = 0; i < n; i++) {
        const rq_report_layer *l = &r->layers[worst[i]];
        fprintf(stderr, "%s%s (%s, %.1f dB)", i ? ", " : "  most harmful: ", l->name && l->name[0] ? l->name : l->value,
                l->op, l->sqnr_db);
    }
    if (n)
        fputc('\n', stderr);
    return CLI_MISSED;
}

/* Say what came out: the table, and what the runtime that the file is for will do with it; keep the file, if it may be kept. */
static int finish(job *j, bool judged, rq_err *err)
{
    const quantize_args *a = j->a;
    cli_progress_end(&j->progress);
    if (!a->common.quiet && !cli_is_stdout(a->json)) {
        if (judged)
            rq_report_print(&j->report, stdout);
        else
            print_unjudged(j);
        if (a->profile >= 0) {
            putchar('\n');
            rq_lint_print(&j->lint, stdout);
        }
    }
    if (!judged)
        return CLI_OK;
    if (a->json && rq_report_save_json(&j->report, a->json, err))
        return CLI_FAILED;
    const int rc = cli_quantize_verdict(&j->report, a->max_drop, a->out);
    if (rc == CLI_OK && j->where != a->out &&
        cli_save(j->g, a->out, a->common.operand[0], &j->form, "quantize", true, err))
        return CLI_FAILED;
    return rc;
}

static void release(job *j)
{
    cli_trial_end(&j->trial);
    rq_lint_release(&j->lint);
    rq_report_release(&j->report);
    rq_ranges_destroy(j->ranges);
    rq_notes_release(&j->notes);
    rq_split_release(&j->split);
    rq_dataset_close(j->other);
    rq_dataset_close(j->data);
    rq_graph_destroy(j->saved);
    rq_graph_destroy(j->g);
    rq_graph_destroy(j->original);
}

static int run(void *args)
{
    job j;
    rq_err err = { 0 };
    const quantize_args *a = args;
    if (rq_coreml_is(a->common.operand[0]) && a->out && cli_is_package(a->out) && a->mode != RQ_MODE_DYNAMIC &&
        !a->ranges && !a->requantize && a->profile < 0)
        return cli_quantize_coreml(
            &cmd_quantize, &(cli_coreml_quantize) {
                               .common = &a->common,
                               .data = a->data,
                               .out = a->out,
                               .json = a->json,
                               .config = a->config,
                               .eval = a->eval,
                               .output = a->output,
                               .samples = a->samples,
                               .seed = a->seed,
                               .max_drop = a->max_drop,
                               .unsigned_activations = cli_given(&a->common, "activations") && a->how.activations == 0,
                               .mode = a->mode,
                               .weights = a->weights,
                               .block = a->block,
                               .affine_weights = a->affine_weights,
                               .per_tensor = a->how.settings.per_tensor,
                               .joint = a->joint,
                               .weight_threshold = a->weight_threshold,
                               .ops = a->ops,
                               .nodes = a->nodes,
                               .except = a->except,
                           });
    if (a->mode == CLI_MODE_ACTIVATIONS)
        return cli_usage(&cmd_quantize, "--mode activations is for a Core ML package that becomes one (.mlpackage)");
    int rc = settle_job(&j, args);
    if (rc)
        return rc;
    clock_gettime(CLOCK_MONOTONIC, &j.begin);
    cli_progress_init(&j.progress, &j.a->common);
    rq_status s = make(&j, &err);
    const bool judged = j.data || j.other;
    if (!s && judged)
        s = judge(&j, &err);
    rc = s ? CLI_FAILED : finish(&j, judged, &err);
    cli_progress_end(&j.progress);
    if (rc == CLI_FAILED)
        cli_fail("quantize", &err);
    release(&j);
    return rc;
}

const cli_command cmd_quantize = {
    .name = "quantize",
    .synopsis = "MODEL -d DATA -o OUT [OPTION]...",
    .summary = "make an int8 model, and say what it lost and gained",
    .about =
        "Calibrates MODEL on the samples in DATA, writes an int8 model to OUT, reads it back, and runs both on samples "
        "that did not calibrate: a row per layer, then the verdict. The modes dynamic and weight-only need no samples; "
        "with samples they are judged alike, and layers that harm the outputs much are left alone.\n"
        "A Core ML package (.mlpackage) that becomes one is quantized as coremltools.optimize.coreml does it, by its "
        "YAML (--config) or by the options that have a meaning there: weights alone (weight-only; palettes and pruning "
        "too), activations alone (activations), or both (static).",
    .min_operands = 1,
    .max_operands = 1,
    .args_size = sizeof(quantize_args),
    .opts = opts,
    .defaults = defaults,
    .run = run,
};
