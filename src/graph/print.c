/* graph/print.c — a graph as text, for people and for tests that compare graphs. One line per input, constant and
 * node; annotations in braces after the value: %x:u8[1,3,8,8]{u8 s=0.0039 z=0}. */
#include <stdio.h>

#include "base/number.h"
#include "graph/graph.h"

static void print_name(const rq_graph *g, rq_id id, FILE *to)
{
    if (id == RQ_NONE)
        fputs("_", to);
    else if (g->values[id].name[0])
        fprintf(to, "%%%s", g->values[id].name);
    else
        fprintf(to, "%%#%d", id);
}

static void print_typed(const rq_graph *g, rq_id id, FILE *to)
{
    print_name(g, id, to);
    if (id == RQ_NONE)
        return;
    const rq_value *v = &g->values[id];
    fprintf(to, ":%s", rq_dtype_name(v->dtype));
    if (v->shape.rank < 0) {
        fputs("[...]", to);
    } else {
        fputc('[', to);
        for (int i = 0; i < v->shape.rank; i++) {
            if (i)
                fputc(',', to);
            if (v->shape.dim[i] >= 0)
                fprintf(to, "%lld", (long long)v->shape.dim[i]);
            else
                fputs(rq_graph_symbol_name(g, v->shape.dim[i]), to);
        }
        fputc(']', to);
    }
    const rq_qparams *q = rq_graph_qparams(g, id);
    if (!q)
        return;
    fprintf(to, "{%s", rq_dtype_name(q->dtype));
    if (q->axis != RQ_PER_TENSOR)
        fprintf(to, " axis=%d", q->axis);
    if (q->block)
        fprintf(to, " block=%lld", (long long)q->block);
    rq_number_to(to, " s=%.9g%s z=%d #%d}", (double)q->scale[0], q->n > 1 ? ".." : "", q->zero_point[0], v->quant);
}

static void print_graph(const rq_graph *g, int depth, FILE *to);

static void print_bytes(rq_bytes b, FILE *to)
{
    fputc('"', to);
    for (size_t i = 0; i < b.n; i++) {
        unsigned char c = (unsigned char)b.p[i];
        if (c < 32 || c == '"' || c == '\\' || c == 127)
            fprintf(to, "\\x%02x", c);
        else
            fputc(c, to);
    }
    fputc('"', to);
}

static void print_attr(const rq_attr *a, int depth, FILE *to)
{
    char text[RQ_SHAPE_TEXT];
    fprintf(to, " %s=", a->name);
    if (a->ref) {
        fprintf(to, "@%s", a->ref);
        return;
    }
    switch (a->type) {
    case RQ_ATTR_FLOAT:
        rq_number_to(to, "%.9g", (double)a->f);
        break;
    case RQ_ATTR_INT:
        fprintf(to, "%lld", (long long)a->i);
        break;
    case RQ_ATTR_STRING:
        print_bytes(a->s, to);
        break;
    case RQ_ATTR_TENSOR:
    case RQ_ATTR_TENSORS:
        for (int i = 0; i < a->n; i++)
            fprintf(to, "%s%s%s", i ? "," : "", rq_dtype_name(a->t[i].dtype),
                    rq_shape_text(&a->t[i].shape, text, sizeof text));
        break;
    case RQ_ATTR_FLOATS:
        fputc('[', to);
        for (int i = 0; i < a->n; i++)
            rq_number_to(to, "%s%.9g", i ? "," : "", (double)a->floats[i]);
        fputc(']', to);
        break;
    case RQ_ATTR_INTS:
        fputc('[', to);
        for (int i = 0; i < a->n; i++)
            fprintf(to, "%s%lld", i ? "," : "", (long long)a->ints[i]);
        fputc(']', to);
        break;
    case RQ_ATTR_STRINGS:
        fputc('[', to);
        for (int i = 0; i < a->n; i++) {
            if (i)
                fputc(',', to);
            print_bytes(a->strings[i], to);
        }
        fputc(']', to);
        break;
    case RQ_ATTR_GRAPH:
    case RQ_ATTR_GRAPHS:
        for (int i = 0; i < a->n; i++) {
            fputs("{\n", to);
            print_graph(a->g[i], depth + 1, to);
            fprintf(to, "%*s}", 2 * depth, "");
        }
        break;
    case RQ_ATTR_OPAQUE:
        fputs("(kept)", to);
        break;
    case RQ_ATTR_NONE:
        fputs("(none)", to);
        break;
    }
}

static void print_graph(const rq_graph *g, int depth, FILE *to)
{
    rq_id *order = NULL;
    int n = 0, pad = 2 * depth;
    bool sorted = rq_order(g, &order, &n, NULL) == RQ_OK;
    fprintf(to, "%*sgraph %s\n", pad, "", g->name);
    for (int i = 0; i < g->n_inputs; i++) {
        fprintf(to, "%*sinput ", pad, "");
        print_typed(g, g->inputs[i], to);
        fputc('\n', to);
    }
    for (int i = 0; i < g->n_values; i++) {
        const rq_value *v = &g->values[i];
        if (v->kind != RQ_VALUE_CONST && v->kind != RQ_VALUE_CAPTURED)
            continue;
        fprintf(to, "%*s%s ", pad, "", v->kind == RQ_VALUE_CONST ? "const" : "captured");
        print_typed(g, i, to);
        if (v->kind == RQ_VALUE_CONST && v->constant.dtype != v->dtype)
            fprintf(to, " held as %s", rq_dtype_name(v->constant.dtype));
        fputc('\n', to);
    }
    for (int k = 0; k < (sorted ? n : g->n_nodes); k++) {
        const rq_node *node = &g->nodes[sorted ? order[k] : k];
        if (!node->op)
            continue;
        fprintf(to, "%*s", pad, "");
        for (int i = 0; i < node->n_out; i++) {
            if (i)
                fputs(", ", to);
            print_typed(g, node->out[i], to);
        }
        fprintf(to, " = %s%s%s(", node->domain, node->domain[0] ? "::" : "", node->op);
        for (int i = 0; i < node->n_in; i++) {
            if (i)
                fputs(", ", to);
            print_name(g, node->in[i], to);
        }
        fputc(')', to);
        for (int i = 0; i < node->n_attr; i++)
            print_attr(&node->attr[i], depth, to);
        if (node->name[0])
            fprintf(to, "  # %s", node->name);
        fputc('\n', to);
    }
    for (int i = 0; i < g->n_outputs; i++) {
        fprintf(to, "%*soutput ", pad, "");
        print_name(g, g->outputs[i], to);
        fputc('\n', to);
    }
    rq_mem_free(order);
}

rq_status rq_graph_print(const rq_graph *g, FILE *to)
{
    for (int i = 0; i < g->n_opsets; i++)
        fprintf(to, "opset %s %lld\n", g->opsets[i].domain[0] ? g->opsets[i].domain : "ai.onnx",
                (long long)g->opsets[i].version);
    for (int i = 0; i < g->n_meta; i++)
        fprintf(to, "meta %s = %s\n", g->meta[i].key, g->meta[i].value);
    print_graph(g, 0, to);
    return ferror(to) ? RQ_IO : RQ_OK;
}
