/* base/threads.c — pthreadpool behind three functions. Every loop asks its workers to sleep in the kernel
 * afterwards instead of spinning for the next one: a process that waits for input uses no core. */
#include "base/threads.h"

#include <pthreadpool.h>

#include "base/cpu.h"
#include "base/mem.h"

enum { MAX_THREADS = 512 };

struct rq_threads {
    pthreadpool_t pool; /* NULL: one thread, the caller's */
    int n;
};

static void nothing(void *arg, size_t i)
{
}

rq_status rq_threads_create(rq_threads **out, int n)
{
    if (n < 0)
        return RQ_BAD_ARG;
    if (n == 0)
        n = rq_cpu_cores();
    if (n > MAX_THREADS)
        n = MAX_THREADS;
    rq_threads *t = rq_mem_zalloc(1, sizeof *t);
    if (!t)
        return RQ_NO_MEMORY;
    t->n = n;
    if (n > 1) {
        t->pool = pthreadpool_create((size_t)n);
        if (!t->pool) {
            rq_mem_free(t);
            return RQ_NO_MEMORY;
        }
        /* a new pool's workers spin while they wait for their first loop: give them one */
        pthreadpool_parallelize_1d(t->pool, nothing, NULL, (size_t)n, PTHREADPOOL_FLAG_YIELD_WORKERS);
    }
    *out = t;
    return RQ_OK;
}

void rq_threads_destroy(rq_threads *t)
{
    if (!t)
        return;
    if (t->pool)
        pthreadpool_destroy(t->pool);
    rq_mem_free(t);
}

int rq_threads_count(const rq_threads *t)
{
    return t ? t->n : 1;
}

/* The thread sanitizer does not see the pool's own ordering (the library is not built with it), so it is told. */
#if defined(__SANITIZE_THREAD__)
void __tsan_acquire(void *p);
void __tsan_release(void *p);
#define HAPPENS_AFTER(p) __tsan_acquire(p)
#define HAPPENS_BEFORE(p) __tsan_release(p)
#else
#define HAPPENS_AFTER(p) ((void)(p))
#define HAPPENS_BEFORE(p) ((void)(p))
#endif

struct call {
    rq_threads_fn fn;
    void *arg;
};

static void run_item(void *context, size_t i)
{
    const struct call *c = context;
    HAPPENS_AFTER(context);
    c->fn(c->arg, (int64_t)i);
    HAPPENS_BEFORE(context);
}

void rq_threads_for(rq_threads *t, int64_t n, rq_threads_fn fn, void *arg)
{
    if (!t || !t->pool || n <= 1) {
        for (int64_t i = 0; i < n; i++)
            fn(arg, i);
        return;
    }
    struct call c = { fn, arg };
    HAPPENS_BEFORE(&c);
    pthreadpool_parallelize_1d(t->pool, run_item, &c, (size_t)n, PTHREADPOOL_FLAG_YIELD_WORKERS);
    HAPPENS_AFTER(&c);
}
