/* cli/cmd_qconfigs.c — requant qconfigs: the tables of presets, constructors and executors, from the rows that the library uses; and a file of
 * qconfigs, checked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

typedef struct qconfigs_args {
    cli_common common;
} qconfigs_args;

static const cli_opt opts[] = {
    CLI_ROWS_COMMON,
    { CLI_END, 0, NULL, NULL, 0, NULL, NULL, 0, 0 },
};

static void print_presets(void)
{
    rq_qconfig_preset_row row;
    printf("%-50s %-45s %s\n", "qconfig", "activation", "weight");
    for (int i = 0; rq_qconfig_preset(i, &row); i++)
        printf("%-50s %-45s %s\n", row.name, row.activation, row.weight);
}

static const char *codes_of(const rq_observer_cfg *o, char *buf, size_t n)
{
    const rq_qtype codes = o->reduce_range ? rq_qtype_reduced(&o->type) : o->type;
    if (codes.lo >= codes.hi)
        return "-";
    snprintf(buf, n, "%d..%d", (int)codes.lo, (int)codes.hi);
    return buf;
}

static void print_constructors(void)
{
    rq_qconfig_constructor_row row;
    printf("\n%-53s %-30s %-24s %-5s %-9s %s\n", "constructor", "fake-quantizer", "observer", "type", "codes",
           "scheme");
    for (int i = 0; rq_qconfig_constructor(i, &row); i++) {
        char codes[32];
        const rq_observer_cfg *o = rq_qconfig_observer(&row.part);
        if (!o) {
            printf("%s\n", row.name);
            continue;
        }
        const bool sees = o->kind != RQ_OBSERVER_NOOP && o->kind != RQ_OBSERVER_REUSE_INPUT;
        printf("%-53s %-30s %-24s %-5s %-9s %s%s\n", row.name,
               row.part.form == RQ_QCONFIG_FAKE_QUANTIZER ? rq_fake_quantizer_kind_name(row.part.fake_quantizer.kind)
                                                          : "-",
               rq_observer_kind_name(o->kind), rq_dtype_name(o->type.dtype), codes_of(o, codes, sizeof codes),
               sees ? rq_qscheme_name(o->scheme) : "-", row.part.dynamic ? ", dynamic" : "");
    }
}

static void print_executors(void)
{
    rq_qconfig_executor x;
    printf("\n%-12s %-13s %-25s %-8s %-12s %-8s %-6s %-6s %s\n", "executor", "activations", "weights", "affine",
           "transposed", "float16", "real", "half", "");
    printf("%-12s %-13s %-25s %-8s %-12s %-8s %-6s %-6s %s\n", "", "", "", "weights", "per channel", "weights", "zero",
           "layers", "");
    for (int i = 0; rq_qconfig_executor_row(i, &x); i++) {
        const char *const words[] = { "-", "yes" };
        printf("%-12s %-13s %-25s %-8s %-12s %-8s %-6s %-6s %s\n", x.name, x.activations, x.weights,
               words[x.affine_weights], words[x.transposed_channels], words[x.half], words[x.real_zero_points],
               words[x.partial], x.note);
    }
    for (int i = 0; rq_qconfig_executor_row(i, &x); i++)
        if (x.dynamic[0])
            printf("%-12s measures activations of %s%s\n", x.name, x.dynamic,
                   x.dynamic_reduced ? ", in a reduced range too" : "");
}

static bool quantizes(const rq_qconfig_mapping *m)
{
    for (int i = 0; i < rq_qconfig_mapping_count(m); i++)
        if (rq_qconfig_mapping_entry(m, i).qconfig)
            return true;
    return false;
}

/* The file as the library understands it. */
static rq_status print_file(const char *path, rq_err *err)
{
    rq_qconfig_mapping *m;
    size_t size;
    RQ_TRY(rq_qconfig_mapping_load(&m, path, NULL, err));
    if (!quantizes(m)) {
        rq_qconfig_mapping_destroy(m);
        return rq_fail(err, RQ_BAD_RECIPE, "%s: nothing would be quantized: no entry has a qconfig", path);
    }
    rq_status s = rq_qconfig_mapping_text(m, NULL, 0, &size);
    char *text = s == RQ_OK ? malloc(size) : NULL;
    if (s == RQ_OK)
        s = text ? rq_qconfig_mapping_text(m, text, size, NULL) : RQ_NO_MEMORY;
    if (s == RQ_OK)
        fputs(text, stdout);
    else
        rq_fail(err, s, "%s: %s", path, rq_status_text(s));
    free(text);
    rq_qconfig_mapping_destroy(m);
    return s;
}

static int run(void *args)
{
    const qconfigs_args *a = args;
    rq_err err = { 0 };
    if (a->common.n_operands) {
        if (print_file(a->common.operand[0], &err))
            return cli_fail("qconfigs", &err);
    } else if (!a->common.quiet) {
        print_presets();
        print_constructors();
        print_executors();
    }
    return CLI_OK;
}

const cli_command cmd_qconfigs = {
    .name = "qconfigs",
    .synopsis = "[FILE] [OPTION]...",
    .summary = "how layers can be quantized",
    .about =
        "Lists the qconfigs that have names, the observers and fake-quantizers they are made of, and what each "
        "executor "
        "honours. With FILE, a mapping from modules to qconfigs in YAML or JSON: reads it, says what is wrong with "
        "it, or prints it as the library understands it, as JSON.",
    .min_operands = 0,
    .max_operands = 1,
    .args_size = sizeof(qconfigs_args),
    .opts = opts,
    .run = run,
};
