/* algo/trainer_metrics.c — a file of JSON lines: one object per epoch, and per so many steps. A resumed run cuts off what stands behind its
 * checkpoint and goes on from there, so that the file tells of one run. */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "algo/trainer.h"
#include "base/buf.h"
#include "base/number.h"

/* Written as it stands, not opened anew: it may be appended to, or a socket. */
static bool is_stdout(const char *path)
{
    return !strcmp(path, "-") || !strcmp(path, "/dev/stdout");
}

rq_status rq_trainer_metrics_open(rq_trainer *t, int64_t at, rq_err *err)
{
    const char *path = t->cfg.metrics;
    if (!path || is_stdout(path))
        return RQ_OK;
    t->metrics = at > 0 ? fopen(path, "r+") : NULL;
    if (!t->metrics)
        t->metrics = fopen(path, "w");
    struct stat st;
    if (!t->metrics || fstat(fileno(t->metrics), &st))
        return rq_fail(err, RQ_IO, "%s: cannot be written", path);
    if (at > 0 && S_ISREG(st.st_mode) &&
        (ftruncate(fileno(t->metrics), at < st.st_size ? at : st.st_size) || fseek(t->metrics, 0, SEEK_END)))
        return rq_fail(err, RQ_IO, "%s: cannot be cut to where the checkpoint was", path);
    return RQ_OK;
}

int64_t rq_trainer_metrics_at(const rq_trainer *t)
{
    const long at = t->metrics ? ftell(t->metrics) : 0;
    return at > 0 ? at : 0;
}

static void add_real(rq_buf *b, const char *key, double x)
{
    char text[40];
    rq_number_print(text, sizeof text, "%.9g", x);
    rq_buf_addf(b, ", \"%s\": %s", key, isfinite(x) ? text : "null");
}

static rq_status write_line(rq_trainer *t, rq_buf *b, rq_err *err)
{
    FILE *to = t->metrics ? t->metrics : stdout;
    rq_buf_adds(b, "}\n");
    const bool failed = b->failed;
    const bool written = !failed && fwrite(b->data, 1, b->size, to) == b->size && !fflush(to);
    rq_buf_release(b);
    if (failed)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory for a line of metrics");
    return written ? RQ_OK : rq_fail(err, RQ_IO, "%s: cannot be written", t->cfg.metrics);
}

rq_status rq_trainer_metrics_epoch(rq_trainer *t, const rq_train_epoch *e, rq_err *err)
{
    rq_buf b = { 0 };
    if (!t->cfg.metrics)
        return RQ_OK;
    rq_buf_addf(&b, "{\"epoch\": %" PRId64 ", \"epochs\": %" PRId64 ", \"step\": %" PRId64, e->epoch, e->epochs,
                e->step);
    add_real(&b, "lr", e->lr);
    add_real(&b, "loss", e->loss);
    add_real(&b, "accuracy", e->accuracy);
    add_real(&b, "eval_loss", e->eval_loss);
    add_real(&b, "eval_accuracy", e->eval_accuracy);
    if (t->q)
        rq_buf_addf(&b, ", \"quantized\": %s", e->quantized ? "true" : "false");
    rq_buf_addf(&b, ", \"best\": %s", e->best ? "true" : "false");
    add_real(&b, "seconds", e->seconds);
    return write_line(t, &b, err);
}

rq_status rq_trainer_metrics_step(rq_trainer *t, double lr, double loss, rq_err *err)
{
    rq_buf b = { 0 };
    if (!t->cfg.metrics)
        return RQ_OK;
    rq_buf_addf(&b, "{\"step\": %" PRId64 ", \"epoch\": %" PRId64, t->step, t->epoch + 1);
    add_real(&b, "lr", lr);
    add_real(&b, "loss", loss);
    return write_line(t, &b, err);
}
