/* algo/report_print.c — the report for a reader: a row per layer, then the verdict in sentences. */
#include <math.h>
#include <string.h>

#include "algo/report_priv.h"
#include "base/number.h"

enum { NAME_MAX_WIDTH = 44, OP_MAX_WIDTH = 18 };

static int width_of(const rq_report *r, bool op)
{
    size_t w = 5;
    for (int i = 0; i < r->n_layers; i++) {
        const char *s = op ? r->layers[i].op : r->layers[i].name[0] ? r->layers[i].name : r->layers[i].value;
        const size_t n = strlen(s);
        w = n > w ? n : w;
    }
    const size_t most = op ? OP_MAX_WIDTH : NAME_MAX_WIDTH;
    return (int)(w < most ? w : most);
}

/* The last `width` bytes of a long name say most. */
static void print_name(FILE *to, const char *s, int width)
{
    const size_t n = strlen(s);
    if (n > (size_t)width)
        fprintf(to, "..%s", s + n - (size_t)width + 2);
    else
        fprintf(to, "%-*s", width, s);
}

static void print_number(FILE *to, int width, int digits, double v)
{
    if (isnan(v))
        fprintf(to, " %*s", width, "-");
    else
        rq_number_to(to, " %*.*f", width, digits, v);
}

static void print_layers(const rq_report *r, FILE *to)
{
    const int name = width_of(r, false), op = width_of(r, true);
    const rq_report_layer *few = NULL; /* the first with fewer bits than its type has */
    fprintf(to, "%-*s  %-*s  type       scale  zero  sqnr dB   cosine   sat %%  used %%  range by\n", name, "layer", op,
            "op");
    for (int i = 0; i < r->n_layers; i++) {
        const rq_report_layer *l = &r->layers[i];
        print_name(to, l->name[0] ? l->name : l->value, name);
        fputs("  ", to);
        print_name(to, l->op, op);
        char type[16] = "f32";
        if (l->dtype != RQ_DTYPE_NONE)
            snprintf(type, sizeof type, l->bits < rq_dtype_bits(l->dtype) ? "%s/%d" : "%s", rq_dtype_name(l->dtype),
                     l->bits);
        if (!few && l->dtype != RQ_DTYPE_NONE && l->bits < rq_dtype_bits(l->dtype))
            few = l;
        if (l->dtype != RQ_DTYPE_NONE && isnan(l->scale)) /* measured as it passes */
            fprintf(to, "  %-4s %11s %5s", type, "-", "-");
        else if (l->dtype != RQ_DTYPE_NONE)
            rq_number_to(to, "  %-4s %11.5g %5d", type, (double)l->scale, (int)l->zero_point);
        else
            fprintf(to, "  %-4s %11s %5s", type, "-", "-");
        print_number(to, 8, 1, l->sqnr_db);
        print_number(to, 8, 5, l->cosine);
        print_number(to, 7, 2, 100 * l->saturated);
        print_number(to, 7, 1, 100 * l->used);
        if (l->method)
            fprintf(to, "  %s", l->method);
        if (l->reason_float)
            fprintf(to, "%s(in float: %s)", l->method ? " " : "  ", l->reason_float);
        fputc('\n', to);
    }
    if (few)
        fprintf(to, "%s/%d: codes of %d bits, kept in %s; sat and used are of these\n", rq_dtype_name(few->dtype),
                few->bits, few->bits, rq_dtype_name(few->dtype));
    fputc('\n', to);
}

static const char *bytes_text(char *buf, size_t n, int64_t bytes)
{
    if (bytes >= 10 * 1000 * 1000)
        rq_number_print(buf, n, "%.1f MB", (double)bytes / 1e6);
    else if (bytes >= 1000 * 1000)
        rq_number_print(buf, n, "%.2f MB", (double)bytes / 1e6);
    else
        rq_number_print(buf, n, "%.1f kB", (double)bytes / 1e3);
    return buf;
}

static void print_loss(const rq_report *r, FILE *to)
{
    const rq_report_side *a = &r->model, *b = &r->quantized;
    fprintf(to, "Verdict on %lld sample%s: ", (long long)r->samples, r->samples == 1 ? "" : "s");
    if (!isnan(a->accuracy)) {
        if (r->drop > 0)
            rq_number_to(to, "the int8 model loses %.2f points of accuracy", r->drop);
        else if (r->drop < 0)
            rq_number_to(to, "the int8 model gains %.2f points of accuracy", -r->drop);
        else
            fputs("the int8 model loses no accuracy", to);
        rq_number_to(
            to,
            " (float %.2f %%, 95 %% interval %.1f to %.1f; int8 %.2f %%, %.1f to %.1f); both give the same answer "
            "for %.2f %%.\n",
            100 * a->accuracy, 100 * a->lo, 100 * a->hi, 100 * b->accuracy, 100 * b->lo, 100 * b->hi,
            100 * r->agreement);
    } else if (isnan(r->agreement)) {
        fputs("no labels, and the judged output has no axis of classes: neither accuracy nor agreement is measured.\n",
              to);
    } else {
        fprintf(
            to,
            "the int8 model gives the float model's top-1 answer for %.2f %% (no labels: accuracy is not measured).\n",
            100 * r->agreement);
    }
    for (int i = 0; i < r->n_outputs; i++) {
        const rq_report_output *o = &r->outputs[i];
        if (!isnan(o->sqnr_db))
            rq_number_to(to, "  output '%s': %.1f dB signal to quantization noise, cosine %.6f\n", o->name, o->sqnr_db,
                         o->cosine);
        if (o->nonfinite)
            fprintf(to, "  output '%s': nonfinite outputs: %lld NaN or infinite, %lld of them in the int8 model only\n",
                    o->name, (long long)o->nonfinite, (long long)o->lost);
    }
}

/* "2.31 times faster", but "as fast" within 2 %. */
static void print_ratio(FILE *to, double ratio, const char *more, const char *less, const char *same)
{
    if (ratio > 1 / 1.02 && ratio < 1.02)
        fprintf(to, "as %s.\n", same);
    else
        rq_number_to(to, "%.2f times %s.\n", ratio > 1 ? ratio : 1 / ratio, ratio > 1 ? more : less);
}

static void print_gain(const rq_report *r, FILE *to)
{
    char a[32], b[32];
    const rq_report_side *f = &r->model, *q = &r->quantized;
    if (f->bytes > 0 && q->bytes > 0) {
        fprintf(to, "Size: %s instead of %s, ", bytes_text(a, sizeof a, q->bytes), bytes_text(b, sizeof b, f->bytes));
        print_ratio(to, (double)f->bytes / (double)q->bytes, "smaller", "larger", "large");
    } else if (q->bytes > 0) {
        fprintf(to, "Size: %s.\n", bytes_text(a, sizeof a, q->bytes));
    }
    if (q->ms > 0 && f->ms > 0) {
        rq_number_to(to, "Time: %.3g ms a batch instead of %.3g, ", q->ms, f->ms);
        print_ratio(to, f->ms / q->ms, "faster", "slower", "fast");
    }
}

/* Layers that stayed float, a line for each reason. */
static void print_float(const rq_report *r, FILE *to)
{
    int n_float = 0;
    for (int i = 0; i < r->n_layers; i++)
        n_float += r->layers[i].reason_float != NULL;
    if (!n_float) {
        fprintf(to, "All %d layers run in integers.\n", r->n_layers);
        return;
    }
    fprintf(to, "%d of %d layers stay in float:\n", n_float, r->n_layers);
    for (int i = 0; i < r->n_layers; i++) {
        const char *why = r->layers[i].reason_float;
        bool seen = !why;
        for (int k = 0; k < i && !seen; k++)
            seen = r->layers[k].reason_float && !strcmp(r->layers[k].reason_float, why);
        if (seen)
            continue;
        int same = 0;
        fprintf(to, "  %s:", why);
        for (int k = i; k < r->n_layers; k++) {
            const rq_report_layer *l = &r->layers[k];
            if (!l->reason_float || strcmp(l->reason_float, why))
                continue;
            if (++same <= 4)
                fprintf(to, "%s %s '%s'", same > 1 ? "," : "", l->op, l->name[0] ? l->name : l->value);
        }
        if (same > 4)
            fprintf(to, " and %d more", same - 4);
        fputc('\n', to);
    }
}

void rq_report_print(const rq_report *r, FILE *to)
{
    int worst[3];
    if (r->n_layers)
        print_layers(r, to);
    print_loss(r, to);
    print_gain(r, to);
    if (r->n_layers)
        print_float(r, to);
    const int n = rq_report_worst(r, worst);
    if (n) {
        fputs("Most harm is done by", to);
        for (int i = 0; i < n; i++) {
            const rq_report_layer *l = &r->layers[worst[i]];
            rq_number_to(to, "%s %s '%s' (%.1f dB after it)", i ? "," : "", l->op, l->name[0] ? l->name : l->value,
                         l->sqnr_db);
        }
        fputs(".\n", to);
    }
    if (r->warnings.n)
        fputs("Suspicions:\n", to);
    for (int i = 0; i < r->warnings.n; i++)
        fprintf(to, "  %s\n", r->warnings.text[i]);
}
