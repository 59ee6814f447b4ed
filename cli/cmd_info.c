/* cli/cmd_info.c — requant info: what is in a model. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { RQ_INFO_NAME = 520 };

typedef struct info_args {
    cli_common common;
    const char *json;
    bool modules;
} info_args;

static const cli_opt opts[] = {
    { CLI_OUT, 0, "json", "FILE", offsetof(info_args, json), "write the result as JSON (-: standard output)", NULL, 0,
      0 },
    { CLI_FLAG, 0, "modules", NULL, offsetof(info_args, modules), "list the modules, by whose names and types rules go",
      NULL, 0, 0 },
    CLI_ROWS_COMMON,
    { CLI_END, 0, NULL, NULL, 0, NULL, NULL, 0, 0 },
};

typedef struct facts {
    rq_graph *g;
    rq_graph_summary sum;
    rq_op_count *ops;
    int n_ops;
    rq_module *modules;
    int n_modules;
} facts;

/* "[N,3,224,?]", with the names of symbolic sizes. */
static void print_shape(const rq_graph *g, const rq_shape *s)
{
    if (s->rank < 0) {
        printf("of any shape");
        return;
    }
    putchar('[');
    for (int i = 0; i < s->rank; i++) {
        printf("%s", i ? "," : "");
        if (s->dim[i] >= 0)
            printf("%" PRId64, s->dim[i]);
        else
            printf("%s", rq_graph_dim_name(g, s->dim[i]));
    }
    putchar(']');
}

static void print_value(const rq_graph *g, const char *kind, const rq_value_info *v)
{
    printf("%-11s %s %s", kind, v->name, rq_dtype_name(v->dtype));
    print_shape(g, &v->shape);
    if (v->quant && v->quant->n > 0)
        printf(" as %s, scale %g, zero point %d%s", rq_dtype_name(v->quant->dtype), (double)v->quant->scale[0],
               v->quant->zero_point[0], v->quant->n > 1 ? " ..." : "");
    putchar('\n');
}

static void print_facts(const facts *f)
{
    for (int i = 0; i < rq_graph_n_inputs(f->g); i++) {
        rq_value_info v = rq_graph_input(f->g, i);
        print_value(f->g, "input", &v);
    }
    for (int i = 0; i < rq_graph_n_outputs(f->g); i++) {
        rq_value_info v = rq_graph_output(f->g, i);
        print_value(f->g, "output", &v);
    }
    printf("%-11s %d nodes:", "operators", f->sum.n_nodes);
    for (int i = 0; i < f->n_ops; i++) {
        const rq_op_count *op = &f->ops[i];
        printf(" %s%s%s", op->domain[0] ? op->domain : "", op->domain[0] ? "." : "", op->op);
        if (op->count > 1)
            printf(" x%d", op->count);
    }
    const char *head = "\nnot run    ";
    for (int i = 0; i < f->n_ops; i++)
        if (!f->ops[i].runs) {
            printf("%s %s%s%s", head, f->ops[i].domain, f->ops[i].domain[0] ? "." : "", f->ops[i].op);
            head = "";
        }
    printf("\n%-11s %" PRId64 ", %" PRId64 " bytes\n", "parameters", f->sum.n_parameters, f->sum.parameter_bytes);
    printf("%-11s %" PRId64 ", IR version %" PRId64 ", made by %s\n", "opset", f->sum.opset, f->sum.ir_version,
           f->sum.producer && f->sum.producer[0] ? f->sum.producer : "(unknown)");
    if (f->sum.is_quantized)
        printf("%-11s yes, %d tensors\n", "quantized", f->sum.n_quantized_values);
    else
        printf("%-11s no\n", "quantized");
}

static void print_modules(const facts *f)
{
    printf("\n%-32s %-20s %-20s %s\n", "module", "type", "operator", "nodes");
    for (int i = 0; i < f->n_modules; i++) {
        const rq_module *m = &f->modules[i];
        char name[RQ_INFO_NAME];
        snprintf(name, sizeof name, m->call ? "(%s)" : "%s", m->call && !m->name[0] ? "root" : m->name);
        printf("%-32s %-20s %-20s %d\n", name, m->type, m->op, m->n_nodes);
    }
}

static json_t *json_of_modules(const facts *f)
{
    json_t *list = json_array();
    for (int i = 0; i < f->n_modules; i++) {
        const rq_module *m = &f->modules[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:i, s:b}", "name", m->name, "type", m->type, "operator",
                                              m->op, "nodes", m->n_nodes, "call", (int)m->call));
    }
    return list;
}

static json_t *json_of_values(const rq_graph *g, int n, rq_value_info (*get)(const rq_graph *, int))
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        rq_value_info v = get(g, i);
        json_t *shape = v.shape.rank < 0 ? json_null() : json_array(), *quant = json_null();
        for (int k = 0; k < v.shape.rank; k++)
            json_array_append_new(shape, v.shape.dim[k] >= 0 ? json_integer(v.shape.dim[k])
                                                             : json_string(rq_graph_dim_name(g, v.shape.dim[k])));
        if (v.quant && v.quant->n > 0)
            quant = json_pack("{s:s, s:f, s:i}", "dtype", rq_dtype_name(v.quant->dtype), "scale",
                              (double)v.quant->scale[0], "zero_point", v.quant->zero_point[0]);
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o}", "name", v.name, "dtype", rq_dtype_name(v.dtype),
                                              "shape", shape, "quantization", quant));
    }
    return list;
}

/* A key for an operator: its name, with the domain when that is not the default one. */
static void add_op(json_t *ops, json_t *not_run, const rq_op_count *op)
{
    char key[256];
    snprintf(key, sizeof key, "%s%s%s", op->domain, op->domain[0] ? "." : "", op->op);
    json_object_set_new(ops, key, json_integer(op->count));
    if (!op->runs)
        json_array_append_new(not_run, json_string(key));
}

static rq_status save_json(const facts *f, const char *path, bool modules, rq_err *err)
{
    json_t *ops = json_object(), *not_run = json_array();
    for (int i = 0; i < f->n_ops; i++)
        add_op(ops, not_run, &f->ops[i]);
    json_t *all =
        json_pack("{s:o, s:o, s:o, s:o, s:i, s:I, s:I, s:I, s:I, s:s, s:b, s:i}", "inputs",
                  json_of_values(f->g, rq_graph_n_inputs(f->g), rq_graph_input), "outputs",
                  json_of_values(f->g, rq_graph_n_outputs(f->g), rq_graph_output), "operators", ops, "not_run", not_run,
                  "nodes", f->sum.n_nodes, "parameters", (json_int_t)f->sum.n_parameters, "parameter_bytes",
                  (json_int_t)f->sum.parameter_bytes, "opset", (json_int_t)f->sum.opset, "ir_version",
                  (json_int_t)f->sum.ir_version, "producer", f->sum.producer ? f->sum.producer : "", "quantized",
                  (int)f->sum.is_quantized, "quantized_values", f->sum.n_quantized_values);
    if (all && modules)
        json_object_set_new(all, "modules", json_of_modules(f));
    char *text = all ? json_dumps(all, JSON_INDENT(1)) : NULL;
    json_decref(all);
    if (!text)
        return rq_fail(err, RQ_BAD_GRAPH, "%s: a name in the model is not UTF-8, so it cannot stand in JSON", path);
    size_t n = strlen(text);
    text[n] = '\n'; /* over the NUL: files end in a newline */
    rq_status s = rq_file_write_all(path, text, n + 1, err);
    free(text);
    return s;
}

/* A text that the library makes: asked for twice, for its length and for itself. */
static char *text_of(const rq_coreml *m, bool json, bool all)
{
    const int64_t n = json ? rq_coreml_json(m, NULL, 0) : rq_coreml_text(m, all, NULL, 0);
    char *text = n < 0 ? NULL : malloc((size_t)n + 1);
    if (text && (json ? rq_coreml_json(m, text, (size_t)n + 1) : rq_coreml_text(m, all, text, (size_t)n + 1)) != n) {
        free(text);
        return NULL;
    }
    return text;
}

/* A Core ML package. */
static int run_coreml(const info_args *a)
{
    const char *path = a->common.operand[0];
    rq_err err = { 0 };
    rq_coreml *m = NULL;
    char *text = NULL, *json = NULL;
    int rc = CLI_FAILED;
    if (a->modules) {
        rq_fail(&err, RQ_UNSUPPORTED, "%s: --modules is not known of Core ML packages", path);
        goto done;
    }
    if (rq_coreml_open(&m, path, &err))
        goto done;
    if (!(text = text_of(m, false, a->common.verbose)) || !(json = text_of(m, true, true))) {
        rq_fail(&err, RQ_NO_MEMORY, "%s: not enough memory", path);
        goto done;
    }
    if (!a->common.quiet && !cli_is_stdout(a->json))
        fputs(text, stdout);
    if (a->json && rq_file_write_all(a->json, json, strlen(json), &err))
        goto done;
    rc = CLI_OK;
done:
    if (rc)
        cli_fail("info", &err);
    free(text);
    free(json);
    rq_coreml_close(m);
    return rc;
}

static int run(void *args)
{
    info_args *a = args;
    rq_err err = { 0 };
    facts f = { 0 };
    int rc = CLI_FAILED;
    if (rq_coreml_is(a->common.operand[0]))
        return run_coreml(a);
    if (cli_load(&f.g, a->common.operand[0], &a->common, &err) || rq_graph_summarize(f.g, &f.sum, &err))
        goto done;
    if (rq_graph_count_ops(f.g, &f.ops, &f.n_ops))
        goto done;
    if (a->modules && rq_graph_modules(f.g, &f.modules, &f.n_modules))
        goto done;
    if (!a->common.quiet && !cli_is_stdout(a->json)) {
        print_facts(&f);
        if (a->modules)
            print_modules(&f);
        if (a->common.verbose)
            rq_graph_print(f.g, stdout);
    }
    if (a->json && save_json(&f, a->json, a->modules, &err))
        goto done;
    rc = CLI_OK;
done:
    if (rc)
        cli_fail("info", &err);
    rq_free(f.ops);
    rq_free(f.modules);
    rq_graph_destroy(f.g);
    return rc;
}

const cli_command cmd_info = {
    .name = "info",
    .synopsis = "MODEL [--modules] [--json FILE] [OPTION]...",
    .summary = "inputs, outputs, operators, parameters, opset, quantization",
    .about = "Says what is in MODEL without running it. With -v the whole graph follows, a line per value and node. "
             "MODEL may "
             "be a Core ML package, too, or a zip of one: its functions, inputs (images with scale and bias), labels, "
             "operators, weights and metadata; -v lists every weight. "
             "--modules lists the layers by the names and types that the program which made the model gave them, as "
             "far as its node "
             "names tell; a call of a function stands in parentheses, with the module that makes it.",
    .min_operands = 1,
    .max_operands = 1,
    .args_size = sizeof(info_args),
    .opts = opts,
    .run = run,
};
