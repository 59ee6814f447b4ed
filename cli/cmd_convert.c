/* cli/cmd_convert.c — requant convert: the same model in another format, or in another spelling of ONNX. */
#include <stddef.h>
#include <string.h>

#include "cli.h"
#include "cli_convert.h"

typedef struct convert_args {
    cli_common common;
    const char *out, *labels, *metadata;
    bool decompress;
    int format, target, compute;
    int64_t opset;
    cli_list shapes, images;
} convert_args;

#define TO(field) offsetof(convert_args, field)
static const cli_opt opts[] = {
    { CLI_OUT, 'o', "out", "OUT", TO(out), "write the model here; the suffix names the format", NULL, 0, 0 },
    { CLI_ENUM, 0, "target", "ios15..ios26", TO(target),
      "the oldest system that is to read it (default: the oldest that can)", "lowest|ios15|ios16|ios17|ios18|ios26", 0,
      0 },
    { CLI_ENUM, 0, "compute", "f32|f16", TO(compute),
      "floats in the program (default: as in MODEL); inputs and outputs stay f32", "keep|f32|f16", 0, 0 },
    { CLI_LIST, 0, "shape", "NAME:SIZES", TO(shapes),
      "sizes of an input: 1x3x224x224, an axis as a range 1..16, or several shapes after commas; may be repeated", NULL,
      0, 0 },
    { CLI_LIST, 0, "image", "NAME:SCALE:BIAS", TO(images),
      "the application hands over an image; the network sees SCALE * pixel + BIAS (one number or three; :bgr or :gray "
      "at the end for "
      "other colors); may be repeated",
      NULL, 0, 0 },
    { CLI_IN, 0, "labels", "FILE", TO(labels), "a classifier: names of its classes, one a line", NULL, 0, 0 },
    { CLI_IN, 0, "metadata", "FILE", TO(metadata),
      "the network's state dict (.safetensors) with buffers of coremltools.optimize.torch: its weights keep their own "
      "integers",
      NULL, 0, 0 },
    { CLI_FLAG, 0, "decompress", NULL, TO(decompress),
      "MODEL and OUT are packages: compressed weights become plain ones, nothing else changes", NULL, 0, 0 },
    { CLI_ENUM, 0, "format", "qdq|qoperator", TO(format),
      "QuantizeLinear/DequantizeLinear pairs or QLinear operators (default qdq)", "qdq|qoperator", 0, 0 },
    { CLI_INT, 0, "opset", "N", TO(opset), "write opset N (default: as low as model and scales allow)", NULL, 10, 25 },
    CLI_ROWS_COMMON,
    { CLI_END, 0, NULL, NULL, 0, NULL, NULL, 0, 0 },
};
#undef TO

/* Options that say nothing of what is written. */
static int refuse_idle(const convert_args *a)
{
    static const char *const package[] = { "target", "compute", "shape", "image", "labels", "metadata" },
                             *const onnx[] = { "format", "opset" };
    const bool to_package = cli_is_package(a->out);
    const char *const *idle = to_package ? onnx : package;
    for (size_t i = 0; i < (to_package ? 2 : 6); i++)
        if (cli_given(&a->common, idle[i]))
            return cli_usage(&cmd_convert, "--%s says nothing of %s", idle[i],
                             to_package ? "Core ML packages" : "ONNX files; it is for .mlpackage");
    return CLI_OK;
}

/* A package with its weights decompressed; it is no graph on the way. */
static int decompress(const convert_args *a, rq_err *err)
{
    static const char *const idle[] = {
        "target", "compute", "shape", "image", "labels", "metadata", "format", "opset"
    };
    const char *model = a->common.operand[0];
    rq_coreml *m = NULL;
    if (!rq_coreml_is(model) || !cli_is_package(a->out))
        return cli_usage(&cmd_convert, "--decompress is of a package to a package (.mlpackage)");
    for (size_t i = 0; i < sizeof idle / sizeof idle[0]; i++)
        if (cli_given(&a->common, idle[i]))
            return cli_usage(&cmd_convert, "--%s says nothing beside --decompress", idle[i]);
    rq_status s = rq_save_check(a->out, err);
    if (!s)
        s = rq_coreml_open(&m, model, err);
    if (!s)
        s = rq_coreml_decompress_weights(m, err);
    if (!s)
        s = rq_coreml_save(m, a->out, err);
    rq_coreml_close(m);
    return s ? cli_fail("convert", err) : CLI_OK;
}

static int write_package(const convert_args *a, const rq_graph *g, rq_err *err)
{
    static const rq_coreml_target targets[] = { RQ_COREML_LOWEST, RQ_COREML_IOS15, RQ_COREML_IOS16,
                                                RQ_COREML_IOS17,  RQ_COREML_IOS18, RQ_COREML_IOS26 };
    static const rq_coreml_compute computes[] = { RQ_COREML_COMPUTE_KEEP, RQ_COREML_COMPUTE_F32,
                                                  RQ_COREML_COMPUTE_F16 };
    cli_inputs in = { 0 };
    int rc = cli_inputs_parse(&in, g, &cmd_convert, &a->shapes, &a->images);
    if (!rc && a->labels && cli_inputs_labels(&in, a->labels, err))
        rc = cli_fail("convert", err);
    const rq_coreml_cfg cfg = { .target = targets[a->target],
                                .compute = computes[a->compute],
                                .input = in.at,
                                .n_inputs = in.n,
                                .labels = in.label,
                                .n_labels = in.n_labels };
    if (!rc && cli_save_package(g, a->out, a->common.operand[0], &cfg, a->metadata, "convert", a->common.quiet, err))
        rc = cli_fail("convert", err);
    cli_inputs_release(&in);
    return rc;
}

static int run(void *args)
{
    convert_args *a = args;
    const char *model = a->common.operand[0];
    rq_err err = { 0 };
    rq_graph *g = NULL;
    if (a->out && a->common.n_operands > 1)
        return cli_usage(&cmd_convert, "two outputs: %s and --out %s", a->common.operand[1], a->out);
    if (a->common.n_operands > 1)
        a->out = a->common.operand[1];
    if (!a->out)
        return cli_usage(&cmd_convert, "the output is missing: convert MODEL OUT");
    if (!strcmp(a->out, model) || rq_file_same(a->out, model))
        return cli_usage(&cmd_convert, "the output is the model itself: %s would be overwritten; name another file",
                         a->out);
    if (a->decompress)
        return decompress(a, &err);
    int rc = refuse_idle(a);
    if (rc)
        return rc;
    rc = CLI_FAILED;
    const rq_save_cfg form = { .spelling = a->format ? RQ_SPELLING_QOPERATOR : RQ_SPELLING_QDQ, .opset = a->opset };
    if (rq_save_check(a->out, &err) || cli_load(&g, model, &a->common, &err) ||
        cli_spare_weights(g, model, a->out, &err))
        cli_fail("convert", &err);
    else if (cli_is_package(a->out))
        rc = write_package(a, g, &err);
    else
        rc = rq_save_as(g, a->out, &form, &err) ? cli_fail("convert", &err) : CLI_OK;
    rq_graph_destroy(g);
    return rc;
}

const cli_command cmd_convert = {
    .name = "convert",
    .synopsis =
        "MODEL OUT [--target ios16] [--compute f16] [--shape NAME:SIZES] [--image NAME:SCALE:BIAS] [--labels FILE] "
        "[--metadata FILE] [--decompress]",
    .summary = "write a model in another format: ONNX, Core ML package",
    .about =
        "Reads MODEL (.onnx or .mlpackage, quantized or not, whoever quantized it) and writes it to OUT, whose suffix "
        "names the format. "
        "Scales, zero points and codes stay what they are.\n"
        "A Core ML package is made for the oldest system that can express the model, unless --target names one; what "
        "that cannot "
        "express is refused before anything is written, with the oldest that can. Quantized weights need iOS 16, "
        "quantized "
        "activations iOS 17, 4 bits and blocks iOS 18. What was decided on the way, or will not run well, is said.\n"
        "Where coremltools.optimize.torch compressed the network, its state dict says with which integers: --metadata "
        "finds "
        "its weights in MODEL by their names or numbers.\n"
        "As ONNX, quantized values are QuantizeLinear/DequantizeLinear pairs, or QLinear operators; run in integers, "
        "both give the "
        "same bits.",
    .min_operands = 1,
    .max_operands = 2,
    .args_size = sizeof(convert_args),
    .opts = opts,
    .run = run,
};
