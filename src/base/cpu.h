/* base/cpu.h — what this CPU can do, and the level RQ_CPU pins. The only file that reads an environment
 * variable. */
#ifndef RQ_BASE_CPU_H
#define RQ_BASE_CPU_H

#include "requant/status.h"

enum {
    RQ_CPU_AVX2 = 1u << 0,    /* with FMA */
    RQ_CPU_AVX512 = 1u << 1,  /* F, BW, DQ, VL */
    RQ_CPU_VNNI = 1u << 2,    /* AVX-512 VNNI, with all of AVX512 */
    RQ_CPU_VBMI = 1u << 3,    /* AVX-512 VBMI: byte permutations; part of the level vnni where the CPU has it */
    RQ_CPU_AVXVNNI = 1u << 4, /* AVX-VNNI: VNNI in 256 bits, without AVX-512 */
    RQ_CPU_AMX = 1u << 5,     /* AMX tiles of bytes, with all of VNNI; the system granted them */
    RQ_CPU_NEON = 1u << 8,
    RQ_CPU_DOTPROD = 1u << 9, /* sdot and udot */
    RQ_CPU_I8MM = 1u << 10,   /* 8-bit matrix products, with DOTPROD */
};

/* What the CPU and the system offer; measured once. */
unsigned rq_cpu_detect(void);

/* The flags to use: rq_cpu_detect() cut down to RQ_CPU=scalar|avx2|avxvnni|avx512|vnni|amx, on arm64 scalar|neon|dotprod|i8mm (unset: all).
 * RQ_BAD_ARG: the variable names no level, or one that this machine lacks. */
rq_status rq_cpu_pinned(unsigned *flags, rq_err *err);

/* The levels by name, lowest first: name and the flags it means; NULL past the last. A test loops over
 * these and skips, saying so, what rq_cpu_detect() lacks. */
const char *rq_cpu_level(int i, unsigned *flags);

/* Logical cores this process may use; at least 1. */
int rq_cpu_cores(void);

#endif
