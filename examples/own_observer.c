/* own_observer.c — quantize with two ways of choosing ranges that are not in the library, and judge each.
 *
 *   cc own_observer.c $(pkg-config --cflags --libs requant) -lm -o own_observer
 *   ./own_observer digits-cnn.onnx digits-train.npz digits-test.npz */
#include <math.h>
#include <requant/requant.h>
#include <stdlib.h>

/* One with a state: four standard deviations to each side of the mean. */
typedef struct moments {
    double n, sum, squares;
} moments;

static void *moments_create(void *user)
{
    return calloc(1, sizeof(moments));
}

static rq_status moments_update(void *state, const float *x, size_t n)
{
    moments *m = state;
    for (size_t i = 0; i < n; i++)
        if (isfinite(x[i]))
            m->n++, m->sum += x[i], m->squares += (double)x[i] * x[i];
    return RQ_OK;
}

static rq_status moments_range(void *state, double *lo, double *hi)
{
    const moments *m = state;
    double mean = m->sum / m->n, std = sqrt(m->squares / m->n - mean * mean);
    *lo = mean - 4 * std;
    *hi = mean + 4 * std;
    return RQ_OK;
}

/* One that looks at the library's histogram: drop outer bins as long as they hold less than a thousandth of all elements. */
static rq_status trim(void *user, const rq_own_counts *c, int levels, bool symmetric, double *lo, double *hi)
{
    uint64_t low = 0, high = 0;
    int first = 0, last = c->n - 1;
    while (first < last && (low += c->count[first]) * 1000 < c->total)
        first++;
    while (last > first && (high += c->count[last]) * 1000 < c->total)
        last--;
    *lo = c->n ? c->first + first * c->width : 0;
    *hi = c->n ? c->first + (last + 1) * c->width : 0;
    return RQ_OK;
}

int main(int argc, char **argv)
{
    static const rq_own_observer mine[] = {
        { .name = "moments",
          .create = moments_create,
          .update = moments_update,
          .range = moments_range,
          .destroy = free },
        { .name = "trim", .choose = trim },
    };
    rq_err err = { .text = "usage: own_observer MODEL CALIBRATION SAMPLES" };
    rq_graph *model = NULL, *g = NULL;
    rq_dataset *train = NULL, *test = NULL;
    rq_own *own = NULL;
    int failed = argc != 4 || rq_own_create(&own) || rq_own_add_observer(own, &mine[0], &err) ||
                 rq_own_add_observer(own, &mine[1], &err) || rq_load(&model, argv[1], &err) ||
                 rq_own_attach(model, own, &err) || rq_dataset_open(&train, argv[2], model, NULL, &err) ||
                 rq_dataset_open(&test, argv[3], model, NULL, &err);
    for (int i = 0; i < 2 && !failed; i++) {
        rq_ptq_cfg cfg = rq_ptq_defaults();
        rq_report r = { 0 };
        cfg.settings.observer = mine[i].name;
        failed = rq_graph_copy(&g, model) || rq_ptq(g, train, &cfg, NULL, &err) ||
                 rq_report_compare(&r, model, g, test, NULL, &err);
        if (!failed)
            printf("%s: float %.2f %%, int8 %.2f %%\n", mine[i].name, 100 * r.model.accuracy,
                   100 * r.quantized.accuracy);
        rq_report_release(&r);
        rq_graph_destroy(g);
        g = NULL;
    }
    if (failed)
        fprintf(stderr, "%s\n", err.text);
    rq_dataset_close(test), rq_dataset_close(train), rq_graph_destroy(model), rq_own_unref(&own);
    return failed;
}
