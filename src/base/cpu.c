/* base/cpu.c — CPU features: asked of the compiler's runtime, which also checks that the system saves the
 * wide registers; then cut down to what RQ_CPU names. */
#include "base/cpu.h"

#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Lowest first; each level has all of those before it. */
static const struct level {
    const char *name;
    unsigned flags, optional; /* used where the CPU has it */
} levels[] = {
    { "scalar", 0, 0 },
#if defined(__x86_64__)
    { "avx2", RQ_CPU_AVX2, 0 },
    { "avx512", RQ_CPU_AVX2 | RQ_CPU_AVX512, 0 },
    { "vnni", RQ_CPU_AVX2 | RQ_CPU_AVX512 | RQ_CPU_VNNI, RQ_CPU_VBMI },
#elif defined(__aarch64__)
    { "neon", RQ_CPU_NEON, 0 },
#endif
};
enum { N_LEVELS = sizeof levels / sizeof levels[0] };

unsigned rq_cpu_detect(void)
{
    unsigned flags = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        flags |= RQ_CPU_AVX2;
    if ((flags & RQ_CPU_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        flags |= RQ_CPU_AVX512;
    if ((flags & RQ_CPU_AVX512) && __builtin_cpu_supports("avx512vnni"))
        flags |= RQ_CPU_VNNI;
    if ((flags & RQ_CPU_VNNI) && __builtin_cpu_supports("avx512vbmi"))
        flags |= RQ_CPU_VBMI;
#elif defined(__aarch64__)
    flags |= RQ_CPU_NEON; /* part of the base architecture */
#endif
    return flags;
}

rq_status rq_cpu_pinned(unsigned *flags, rq_err *err)
{
    const char *want = getenv("RQ_CPU");
    unsigned have = rq_cpu_detect();
    if (!want || !*want) {
        *flags = have;
        return RQ_OK;
    }
    char known[64] = "";
    for (int i = 0; i < N_LEVELS; i++) {
        if (strcmp(want, levels[i].name) == 0) {
            if ((have & levels[i].flags) != levels[i].flags)
                return rq_fail(err, RQ_BAD_ARG, "RQ_CPU=%s: this machine has no %s", want, want);
            *flags = levels[i].flags | (levels[i].optional & have);
            return RQ_OK;
        }
        strcat(known, i ? ", " : "");
        strcat(known, levels[i].name);
    }
    return rq_fail(err, RQ_BAD_ARG, "RQ_CPU=%.40s: no such level; there are %s", want, known);
}

const char *rq_cpu_level(int i, unsigned *flags)
{
    if (i < 0 || i >= N_LEVELS)
        return NULL;
    *flags = levels[i].flags | (levels[i].optional & rq_cpu_detect());
    return levels[i].name;
}

int rq_cpu_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        int n = CPU_COUNT(&set);
        if (n > 0)
            return n;
    }
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 && n < 1 << 16 ? (int)n : 1;
}
