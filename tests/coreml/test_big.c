/* tests/coreml/test_big.c — weights of a package of 1 GB are quantized in less than 300 MB of memory, and half as fast as it is copied, or faster. Takes 3 GB
 * of disk in the folder of the tests: part of `make check`, not of `make test`. */
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "coreml/programs.h"
#include "formats/milblob.h"

#define SOURCE RQ_TEST_TMP "/big-float.mlpackage"
#define COPY RQ_TEST_TMP "/big-copy.mlpackage"
#define RESULT RQ_TEST_TMP "/big-codes.mlpackage"
enum { WIDE = 4096 };

/* A matrix of WIDE x WIDE numbers, made as it is written. */
static rq_status numbers(void *arg, rq_milblob_writer *w, rq_err *e)
{
    program *g = arg;
    static uint8_t row[WIDE * 4];
    uint32_t h = (uint32_t)rq_rng_u64(&g->rng) | 1; /* each matrix is another */
    for (int r = 0; r < WIDE; r++) {
        for (int i = 0; i < WIDE; i++) {
            h ^= h << 13, h ^= h >> 17, h ^= h << 5;
            const float v = (float)(int32_t)h * 0x1p-31f;
            if (g->half)
                ((uint16_t *)(void *)row)[i] = rq_convert_f32_to_f16(v);
            else
                memcpy(row + 4 * i, &v, 4);
        }
        RQ_TRY(rq_milblob_write(w, row, WIDE * (g->half ? 2 : 4), e));
    }
    return RQ_OK;
}

static void make(bool half)
{
    program g;
    char w[16], in[16] = "x", out[16];
    begin(&g, 9, half, DIMS(1, WIDE));
    for (int i = 0; i < (half ? 32 : 16); i++) { /* 1 GiB */
        rq_mil_type *t = rq_mil_tensor_type(g.p, rq_mil_dtype_of_name(float_type(&g)), DIMS(WIDE, WIDE));
        snprintf(w, sizeof w, "w%d", i);
        snprintf(out, sizeof out, "y%d", i);
        small_constant(&g, w, rq_mil_blob_produced(g.p, t, numbers, &g));
        operation(&g, "linear", out, DIMS(1, WIDE), "x", in, "weight", w, NULL);
        memcpy(in, out, sizeof in);
    }
    end(&g, in, DIMS(1, WIDE));
    OK(rq_coreml_save(g.m, SOURCE, &err));
    rq_coreml_close(g.m);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void remove_all(const char *path)
{
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

typedef struct cost {
    double wall, cpu, mb; /* seconds, of one thread after the other, peak */
} cost;

/* Of the child process that was started at `from`. */
static cost wait_for(pid_t child, double from)
{
    struct rusage use;
    int status;
    assert_int_equal(wait4(child, &status, 0, &use), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return (cost) { now() - from,
                    (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                        1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec),
                    (double)use.ru_maxrss / 1000 };
}

static cost copy(void)
{
    remove_all(COPY);
    const double from = now();
    const pid_t child = fork();
    if (!child) {
        execlp("cp", "cp", "-r", SOURCE, COPY, (char *)NULL);
        _exit(1);
    }
    const cost c = wait_for(child, from);
    remove_all(COPY);
    return c;
}

static cost quantize(const char *yaml)
{
    const double from = now();
    const pid_t child = fork();
    if (!child) {
        rq_coreml *m;
        if (rq_coreml_open(&m, SOURCE, &err) || quantize_as(m, yaml, false, NULL) || rq_coreml_save(m, RESULT, &err)) {
            fprintf(stderr, "%s\n", err.text);
            _exit(1);
        }
        _exit(0);
    }
    const cost c = wait_for(child, from);
    remove_all(RESULT);
    return c;
}

/* Each is measured beside a copy, again where other work on the machine was in the way. */
static void a_gigabyte_takes_little_memory(void **state)
{
    (void)state;
    static const char *const configs[] = { "global_config: {}",
                                           "global_config: {mode: linear, dtype: int4, granularity: per_block}",
                                           "global_config: {mode: linear, granularity: per_tensor}" };
    for (int half = 0; half < 2; half++) {
        make(half);
        copy(); /* now the file is in memory */
        for (int i = 0; i < 3; i++) {
            bool fast = false;
            for (int k = 0; k < 5 && !fast; k++) {
                const cost c = copy(), q = quantize(configs[i]);
                printf("%s, %s: %.0f MB, %.2f s (cpu %.2f s); cp %.2f s (cpu %.2f s)\n", half ? "fp16" : "fp32",
                       configs[i], q.mb, q.wall, q.cpu, c.wall, c.cpu);
                assert_true(q.mb < 300);
                fast = q.wall <= 2 * c.wall;
            }
            assert_true(fast);
        }
        remove_all(SOURCE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_gigabyte_takes_little_memory) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
