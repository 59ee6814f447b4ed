/* observe.c — watch a tensor, choose its range by four methods, and see what each costs in eight bits.
 *     cc observe.c $(pkg-config --cflags --libs requant) -lm -o observe && ./observe */
#include <math.h>
#include <requant/requant.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 10000, BATCHES = 10 };

static void must(rq_status s, const rq_err *err)
{
    if (s != RQ_OK) {
        fprintf(stderr, "observe: %s\n", err->text[0] ? err->text : rq_status_text(s));
        exit(1);
    }
}

/* Activations as networks have them: most of them small, a few far out. */
static void fill(float *x, int n, unsigned seed)
{
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < 4; k++)
            sum += (double)((seed = seed * 1664525u + 1013904223u) >> 8) / (1 << 24) - 0.5;
        x[i] = (float)(sum + (i % 5000 == 0 ? 12 : 0));
    }
}

int main(void)
{
    static float x[BATCH * BATCHES], y[BATCH * BATCHES];
    static const struct method {
        const char *name;
        rq_observer_kind kind;
        rq_choice choice;
    } methods[] = {
        { "min_max", RQ_OBSERVER_MINMAX, RQ_CHOICE_MINMAX },
        { "moving_average_min_max", RQ_OBSERVER_MOVING_AVERAGE, RQ_CHOICE_MINMAX },
        { "percentile 99.9", RQ_OBSERVER_COUNTS, RQ_CHOICE_PERCENTILE },
        { "mse", RQ_OBSERVER_COUNTS, RQ_CHOICE_MSE },
    };
    rq_err err = { 0 };
    rq_exec *exec = NULL;
    fill(x, BATCH * BATCHES, 1);
    must(rq_exec_create(&exec, 0, &err), &err);
    printf("%-24s %9s %9s %11s %5s %11s\n", "method", "lowest", "highest", "scale", "zero", "rms error");
    for (size_t m = 0; m < sizeof methods / sizeof methods[0]; m++) {
        rq_observer *o = NULL;
        rq_range range;
        rq_qparams q;
        rq_observer_cfg cfg = rq_observer_defaults(methods[m].kind); /* u8, per tensor, affine */
        cfg.choice = methods[m].choice;
        cfg.percentile = 99.9;
        must(rq_observer_create(&o, &cfg, &err), &err);
        for (int b = 0; b < BATCHES; b++) {
            const rq_strided batch = rq_strided_vector(x + b * BATCH, BATCH);
            must(rq_observer_update(o, exec, &batch, &err), &err);
        }
        must(rq_observer_range(o, &range, 1), &err);
        must(rq_observer_qparams(o, &q, NULL, &err), &err);
        const rq_fq fq = { .type = cfg.type,
                           .rule = RQ_FQ_RECIPROCAL,
                           .axis = RQ_PER_TENSOR,
                           .n = 1,
                           .scale = q.scale,
                           .zero_point = q.zero_point };
        const rq_strided in = rq_strided_vector(x, BATCH * BATCHES), out = rq_strided_vector(y, BATCH * BATCHES);
        must(rq_fake_quantize(exec, &out, NULL, &in, &fq, &err), &err);
        double sum = 0;
        for (int i = 0; i < BATCH * BATCHES; i++)
            sum += pow((double)y[i] - x[i], 2);
        printf("%-24s %9.4f %9.4f %11.6f %5d %11.6f\n", methods[m].name, range.lo, range.hi, q.scale[0],
               q.zero_point[0], sqrt(sum / (BATCH * BATCHES)));
        rq_qparams_release(&q);
        rq_observer_destroy(o);
    }
    rq_exec_destroy(exec);
    return 0;
}
