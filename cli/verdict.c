/* cli/verdict.c — the end of qat's JSON lines: an object a line, behind those of the epochs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli_train.h"

typedef int64_t (*text_fn)(const void *of, char *buf, size_t n);
static int64_t report_text(const void *of, char *buf, size_t n)
{
    return rq_report_json(of, buf, n);
}
static int64_t agreement_text(const void *of, char *buf, size_t n)
{
    return rq_agreement_json(of, buf, n);
}
static int64_t quantizer_text(const void *of, char *buf, size_t n)
{
    return rq_linear_quantizer_report_json(of, buf, n);
}

/* {"KEY": OBJECT}, with members in front of those that OBJECT has. */
static bool write_object(FILE *to, const char *key, const char *members, text_fn text, const void *of)
{
    const int64_t n = text(of, NULL, 0);
    char *buf = n > 0 ? malloc((size_t)n + 1) : NULL;
    const bool made = buf && text(of, buf, (size_t)n + 1) == n;
    for (char *p = buf; made && *p; p++) /* a line */
        *p = *p == '\n' ? ' ' : *p;
    if (made)
        fprintf(to, "{\"%s\": {%s%s}\n", key, members, buf + 1);
    free(buf);
    return made;
}

static void print_real(char *buf, size_t n, double x)
{
    if (isfinite(x))
        snprintf(buf, n, "%.9g", x);
    else
        snprintf(buf, n, "null");
}

rq_status cli_verdict_write(const cli_verdict *v, rq_err *err)
{
    char members[160], epoch[32] = "null", loss[40], accuracy[40];
    const char *path = v->path;
    if (v->epoch)
        snprintf(epoch, sizeof epoch, "%lld", (long long)v->epoch);
    print_real(loss, sizeof loss, v->ptq_loss);
    print_real(accuracy, sizeof accuracy, v->ptq_accuracy);
    snprintf(members, sizeof members, "\"epoch\": %s, \"ptq\": {\"loss\": %s, \"accuracy\": %s}, ", epoch, loss,
             accuracy);
    FILE *to = cli_is_stdout(path) ? stdout : fopen(path, v->append ? "a" : "w");
    if (!to)
        return rq_fail(err, RQ_IO, "%s: cannot be written", path);
    const bool made = write_object(to, "verdict", members, report_text, v->report) &&
                      write_object(to, "simulation", "", agreement_text, v->agreement) &&
                      write_object(to, "quantizer", "", quantizer_text, v->quantizer);
    const bool written = !fflush(to) && !ferror(to);
    if (to != stdout && (fclose(to) || !written))
        return rq_fail(err, RQ_IO, "%s: cannot be written", path);
    return made ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "out of memory for the JSON");
}
