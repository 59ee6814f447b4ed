/* requant/exec.h — where numeric work is done: the instruction set, and the threads.
 *
 * The quantizers of this library (observers, calibrators, fake quantization) take an rq_exec; NULL means the caller's thread
 * and the plain C kernels. No result depends on it: not on the instruction set, not on the number of threads. */
#ifndef REQUANT_EXEC_H
#define REQUANT_EXEC_H

#include <requant/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_exec rq_exec;

/* `threads` threads, the caller's among them (0: one per core; more than 512 are 512), and what this CPU can do (the environment variable RQ_CPU
 * pins it lower). *out is yours until rq_exec_destroy. One rq_exec serves one call at a time.
 * RQ_BAD_ARG: threads is negative, or RQ_CPU names no level of this machine; RQ_NO_MEMORY. err may be NULL. */
RQ_API rq_status rq_exec_create(rq_exec **out, int threads, rq_err *err);
RQ_API void rq_exec_destroy(rq_exec *e);      /* NULL is fine */
RQ_API int rq_exec_threads(const rq_exec *e); /* 1 for NULL */
RQ_API const char *rq_exec_isa(
    const rq_exec
        *e); /* "scalar", "avx2", "avxvnni", "avx512", "vnni", "amx", "neon", "dotprod", "i8mm"; "scalar" for NULL */

#ifdef __cplusplus
}
#endif
#endif
