/* base/cpu.c — CPU features: asked of the compiler's runtime, which also checks that the system saves the
 * wide registers (on arm64 of the system itself); then cut down to what RQ_CPU names. */
#include "base/cpu.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif
#endif

/* Lowest first; each level has all of those before it, but that avx512 does without avxvnni. */
static const struct level {
    const char *name;
    unsigned flags, optional; /* used where the CPU has it */
} levels[] = {
    { "scalar", 0, 0 },
#if defined(__x86_64__)
    { "avx2", RQ_CPU_AVX2, 0 },
    { "avxvnni", RQ_CPU_AVX2 | RQ_CPU_AVXVNNI, 0 },
    { "avx512", RQ_CPU_AVX2 | RQ_CPU_AVX512, 0 },
    { "vnni", RQ_CPU_AVX2 | RQ_CPU_AVX512 | RQ_CPU_VNNI, RQ_CPU_VBMI },
    { "amx", RQ_CPU_AVX2 | RQ_CPU_AVX512 | RQ_CPU_VNNI | RQ_CPU_AMX, RQ_CPU_VBMI },
#elif defined(__aarch64__)
    { "neon", RQ_CPU_NEON, 0 },
    { "dotprod", RQ_CPU_NEON | RQ_CPU_DOTPROD, 0 },
    { "i8mm", RQ_CPU_NEON | RQ_CPU_DOTPROD | RQ_CPU_I8MM, 0 },
#endif
};
enum { N_LEVELS = sizeof levels / sizeof levels[0] };

#define ASKED (1u << 31) /* beside the flags in what rq_cpu_detect keeps */

#if defined(__x86_64__)
/* Tiles of bytes are there (CPUID 7: TILE and INT8), the system saves them (XCR0 bits 17 and 18) and lets this process use them: Linux wants to be
 * asked for 8 KiB of state per thread, and may say no. To ask again is harmless. */
static bool amx_granted(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d >> 24 & 3) != 3)
        return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low >> 17 & 3) == 3 && syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XTILEDATA) == 0;
#else
    return false;
#endif
}

#endif
static unsigned detect(void)
{
    unsigned flags = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    unsigned a, b, c, d;
    const bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1); /* a name that not every compiler knows */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c)
        flags |= RQ_CPU_AVX2;
    if ((flags & RQ_CPU_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        flags |= RQ_CPU_AVX512;
    if ((flags & RQ_CPU_AVX512) && __builtin_cpu_supports("avx512vnni"))
        flags |= RQ_CPU_VNNI;
    if ((flags & RQ_CPU_VNNI) && __builtin_cpu_supports("avx512vbmi"))
        flags |= RQ_CPU_VBMI;
    if ((flags & RQ_CPU_AVX2) && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1))
        flags |= RQ_CPU_AVXVNNI;
    if ((flags & RQ_CPU_VNNI) && amx_granted())
        flags |= RQ_CPU_AMX;
#elif defined(__aarch64__)
    flags |= RQ_CPU_NEON; /* part of the base architecture */
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
        flags |= RQ_CPU_DOTPROD;
    if ((flags & RQ_CPU_DOTPROD) && (getauxval(AT_HWCAP2) & HWCAP2_I8MM))
        flags |= RQ_CPU_I8MM;
#endif
    return flags;
}

unsigned rq_cpu_detect(void)
{
    static atomic_uint known; /* the flags and ASKED: the answer does not change */
    unsigned flags = atomic_load_explicit(&known, memory_order_relaxed);
    if (!flags) {
        flags = detect() | ASKED;
        atomic_store_explicit(&known, flags, memory_order_relaxed);
    }
    return flags & ~ASKED;
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
