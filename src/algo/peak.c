/* algo/peak.c — what this machine can do at most: multiply-adds of codes and of floats in registers (kernels/peak.h), and copying more than
 * the caches hold. Each of the three is the best of many short tries, so that other work on the machine disturbs little. */
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "requant/report.h"

enum { COPY_BYTES = 32 << 20, PAGE = 4096 }; /* each thread has two blocks of so many */
static const double try_ms = 2, macs_ms = 600, memory_ms = 800;

typedef struct job {
    rq_peak_fn fn;
    int64_t steps;
    uint8_t *block; /* [threads][2][COPY_BYTES] */
    double *macs;   /* [threads] */
} job;

static void multiply(void *arg, int64_t i)
{
    const job *j = arg;
    j->macs[i] = j->fn(j->steps);
}

static void copy(void *arg, int64_t i)
{
    const job *j = arg;
    uint8_t *to = j->block + (size_t)i * 2 * COPY_BYTES;
    memcpy(to, to + COPY_BYTES, COPY_BYTES);
}

/* Giga multiply-adds per second of all threads together. */
static double most_macs(rq_threads *pool, job *j, rq_peak_fn fn)
{
    const double begin = rq_clock_ms();
    const int n = rq_threads_count(pool);
    double best = 0;
    j->fn = fn;
    j->steps = 1024;
    for (double at = begin; at - begin < macs_ms;) {
        rq_threads_for(pool, n, multiply, j);
        const double end = rq_clock_ms(), ms = end - at;
        double sum = 0;
        for (int i = 0; i < n; i++)
            sum += j->macs[i];
        if (ms > 0 && sum / ms > best)
            best = sum / ms;
        if (ms < try_ms)
            j->steps += j->steps;
        at = end;
    }
    return best / 1e6;
}

/* Gigabytes read and written per second of all threads together. */
static double most_memory(rq_threads *pool, job *j)
{
    const double begin = rq_clock_ms();
    const int n = rq_threads_count(pool);
    double best = 0;
    for (double at = begin; at - begin < memory_ms;) {
        rq_threads_for(pool, n, copy, j);
        const double end = rq_clock_ms(), ms = end - at;
        if (ms > 0 && 2.0 * COPY_BYTES * n / ms > best)
            best = 2.0 * COPY_BYTES * n / ms;
        at = end;
    }
    return best / 1e6;
}

rq_status rq_peak_measure(rq_peak *out, int threads, rq_err *err)
{
    rq_kernels k;
    rq_threads *pool = NULL;
    unsigned flags;
    job j = { 0 };
    RQ_TRY(rq_cpu_pinned(&flags, err));
    rq_kernels_init(&k, flags);
    rq_status st = rq_threads_create(&pool, threads);
    if (st)
        return rq_fail(err, st, st == RQ_NO_MEMORY ? "out of memory for threads" : "a machine has no %d threads",
                       threads);
    const size_t n = (size_t)rq_threads_count(pool), bytes = n * 2 * COPY_BYTES;
    j.block = rq_mem_alloc(bytes, 1);
    j.macs = rq_mem_zalloc(n, sizeof *j.macs);
    if (j.block && j.macs) {
        for (size_t i = 0; i < bytes; i += PAGE) /* pages are given out when touched */
            j.block[i] = (uint8_t)i;
        *out = (rq_peak) { .isa = k.isa, .threads = (int)n };
        out->int8_gops = 2 * most_macs(pool, &j, k.peak_int);
        out->f32_gops = 2 * most_macs(pool, &j, k.peak_f32);
        out->memory_gbs = most_memory(pool, &j);
    } else {
        st = rq_fail(err, RQ_NO_MEMORY, "out of memory for the measurement");
    }
    rq_mem_free(j.block);
    rq_mem_free(j.macs);
    rq_threads_destroy(pool);
    return st;
}
