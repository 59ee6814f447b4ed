/* algo/bench_show.c — what rq_bench_run measured, for a reader and as JSON. */
#include <jansson.h>
#include <string.h>

#include "algo/report_priv.h"
#include "base/number.h"

enum { NAME_WIDTH = 40 };

static const rq_bench_layer *same_layer(const rq_bench_side *s, const char *name)
{
    for (int i = 0; i < s->n_layers; i++)
        if (!strcmp(s->layers[i].name, name))
            return &s->layers[i];
    return NULL;
}

static void print_side(const char *what, const rq_bench_side *s, FILE *to)
{
    rq_number_to(to, "%s: median %.4g ms, fastest %.4g, 95 %% within %.4g\n", what, s->median_ms, s->min_ms, s->p95_ms);
}

static void print_rate(double v, int width, int digits, FILE *to)
{
    if (v > 0)
        rq_number_to(to, " %*.*f", width, digits, v);
    else
        fprintf(to, " %*s", width, "");
}

static void print_layer(const rq_bench_layer *l, const rq_bench_layer *o, bool has_peak, FILE *to)
{
    const size_t n = strlen(l->name);
    rq_number_to(to, "%-*s  %-16.16s  %-5s %9.4f", NAME_WIDTH, n > NAME_WIDTH ? l->name + n - NAME_WIDTH : l->name,
                 l->op, l->integer ? "int" : "float", l->ms);
    print_rate(l->gops, 8, 2, to);
    print_rate(l->gbs, 7, 2, to);
    if (has_peak)
        print_rate(100 * l->share, 6, 1, to);
    if (o)
        rq_number_to(to, "   %9.4f", o->ms);
    if (o && (l->slower || o->slower))
        rq_number_to(to, "  int8 is slower than float here (%.4f to %.4f, with what follows)",
                     l->slower ? l->whole_ms : o->whole_ms, l->slower ? o->whole_ms : l->whole_ms);
    fputc('\n', to);
}

void rq_bench_print(const rq_bench *b, FILE *to)
{
    const bool has_peak = b->peak.memory_gbs > 0;
    fprintf(to, "%-*s  %-16s  %-5s %9s %8s %7s%s%s\n", NAME_WIDTH, "layer", "op", "runs", "ms", "GOP/s", "GB/s",
            has_peak ? " % peak" : "", b->has_against ? "   against ms" : "");
    for (int i = 0; i < b->model.n_layers; i++)
        print_layer(&b->model.layers[i], same_layer(&b->against, b->model.layers[i].name), has_peak, to);
    fprintf(to, "\n");
    if (has_peak)
        rq_number_to(to, "peak of %d thread%s at level %s: %.0f GOP/s of int8, %.0f of f32; %.1f GB/s of memory\n",
                     b->peak.threads, b->peak.threads == 1 ? "" : "s", b->peak.isa, b->peak.int8_gops, b->peak.f32_gops,
                     b->peak.memory_gbs);
    fprintf(to, "%d runs%s\n", b->runs, b->has_against ? " of each, in turn" : "");
    print_side("model", &b->model, to);
    if (b->has_against) {
        print_side("against", &b->against, to);
        rq_number_to(to, "the first takes %.2f times the time of the second\n",
                     b->model.median_ms / b->against.median_ms);
    }
}

static json_t *side_json(const rq_bench_side *s)
{
    json_t *layers = json_array();
    for (int i = 0; i < s->n_layers; i++) {
        const rq_bench_layer *l = &s->layers[i];
        json_array_append_new(layers, json_pack("{s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:b}", "name",
                                                rq_report_json_text(l->name), "op", rq_report_json_text(l->op),
                                                "integer", l->integer, "ms", rq_report_json_real(l->ms), "gops",
                                                rq_report_json_real(l->gops), "gbs", rq_report_json_real(l->gbs),
                                                "share", rq_report_json_real(l->share), "whole_ms",
                                                rq_report_json_real(l->whole_ms), "slower", l->slower));
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "median_ms", rq_report_json_real(s->median_ms), "min_ms",
                     rq_report_json_real(s->min_ms), "p95_ms", rq_report_json_real(s->p95_ms), "layers", layers);
}

rq_status rq_bench_save_json(const rq_bench *b, const char *path, rq_err *err)
{
    json_t *root = side_json(&b->model);
    if (root) {
        json_object_set_new(root, "runs", json_integer(b->runs));
        if (b->has_against)
            json_object_set_new(root, "against", side_json(&b->against));
        if (b->peak.memory_gbs > 0)
            json_object_set_new(root, "peak",
                                json_pack("{s:s, s:i, s:o, s:o, s:o}", "isa", b->peak.isa, "threads", b->peak.threads,
                                          "int8_gops", rq_report_json_real(b->peak.int8_gops), "f32_gops",
                                          rq_report_json_real(b->peak.f32_gops), "memory_gbs",
                                          rq_report_json_real(b->peak.memory_gbs)));
    }
    return rq_report_json_write(root, path, err);
}
