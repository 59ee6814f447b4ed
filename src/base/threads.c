/* base/threads.c — a pool whose workers are invited, never waited for: a loop is open while items are left, whoever comes in time takes part, and the
 * caller waits only for those who did. So a small loop costs two atomic operations, and a worker that is slow to wake delays nobody.
 *
 * Items are cut into one range per thread. Its owner takes them from the front, so that a thread finds in its cache what it wrote in the loop
 * before; who is done takes from the back of the others'. For some tens of microseconds after a loop a worker looks for the next one without
 * sleeping (the layers of a network follow each other in less), then it sleeps in the kernel; where there are more threads than cores it sleeps
 * at once.
 *
 * `state` says everything about the loop: its number, whether it is open, how many workers are in it. A worker goes in by adding itself to a
 * state that is open; that it could says that the loop's fields are those of that loop until it leaves. */
#include "base/threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"

enum { MAX_THREADS = 512, LINE = 64, LOOK = 32 }; /* LOOK: pauses between two looks at the clock */

#define SPIN_MS 0.04 /* of a worker for the next loop, and of the caller for the last worker */

/* state: bits 0..15 workers inside, bit 16 open, above: number of the loop */
#define OPEN ((uint64_t)1 << 16)
#define INSIDE(s) ((s) & (OPEN - 1))
#define LOOP(s) ((s) >> 17)

typedef struct range {
    atomic_llong left, end; /* items not taken; one behind the last of them */
    int64_t first;          /* the owner's */
    char fill[LINE - 24];
} range;

struct rq_threads {
    int n;
    double spin_ms;
    rq_threads_fn fn; /* of the loop */
    void *arg;
    int n_ranges;
    char fill[LINE];
    _Atomic uint64_t state;
    char fill2[LINE - 8];
    atomic_int sleepers;     /* workers that wait for `more` */
    atomic_bool stop, waits; /* the caller waits for `done` */
    pthread_mutex_t lock;
    pthread_cond_t more, done;
    struct worker *workers; /* [n] the first is the caller */
    int n_started;
    range *ranges; /* [n] */
};

typedef struct worker {
    rq_threads *t;
    pthread_t thread;
    int id;
} worker;

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* ---- a loop ---- */

static void take_part(rq_threads *t, int me)
{
    rq_threads_fn fn = t->fn;
    void *arg = t->arg;
    const int n = t->n_ranges;
    if (me < n)
        for (range *r = &t->ranges[me]; atomic_fetch_sub(&r->left, 1) > 0;)
            fn(arg, r->first++);
    for (int k = 1; k <= n; k++) {
        range *r = &t->ranges[(me + k) % n];
        while (atomic_load(&r->left) > 0 && atomic_fetch_sub(&r->left, 1) > 0)
            fn(arg, atomic_fetch_sub(&r->end, 1) - 1);
    }
}

/* Go into the loop, if one is open that *seen is not; false: there is none. */
static bool enter(rq_threads *t, uint64_t *seen)
{
    uint64_t s = atomic_load(&t->state);
    while (s & OPEN && LOOP(s) != *seen)
        if (atomic_compare_exchange_weak(&t->state, &s, s + 1)) {
            *seen = LOOP(s);
            return true;
        }
    return false;
}

static void leave(rq_threads *t)
{
    const uint64_t s = atomic_fetch_sub(&t->state, 1) - 1;
    if (INSIDE(s) || s & OPEN || !atomic_load(&t->waits))
        return;
    pthread_mutex_lock(&t->lock);
    pthread_cond_signal(&t->done);
    pthread_mutex_unlock(&t->lock);
}

static bool asked_to_stop(rq_threads *t)
{
    return atomic_load_explicit(&t->stop, memory_order_relaxed);
}

/* Look for a loop for a while, then sleep until there is one. */
static bool next_loop(rq_threads *t, uint64_t *seen)
{
    const double until = t->spin_ms > 0 ? rq_clock_ms() + t->spin_ms : 0;
    for (int k = 1; t->spin_ms > 0; k++) {
        if (enter(t, seen))
            return true;
        if (asked_to_stop(t))
            return false;
        relax();
        if (k % LOOK == 0 && rq_clock_ms() > until)
            break;
    }
    bool in = false;
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->sleepers, 1); /* before the look: who opens a loop afterwards sees it */
    while (!asked_to_stop(t) && !(in = enter(t, seen)))
        pthread_cond_wait(&t->more, &t->lock);
    atomic_fetch_sub(&t->sleepers, 1);
    pthread_mutex_unlock(&t->lock);
    return in;
}

static void *work(void *arg)
{
    const worker *w = arg;
    uint64_t seen = 0;
    while (next_loop(w->t, &seen)) {
        take_part(w->t, w->id);
        leave(w->t);
    }
    return NULL;
}

/* Close the loop and see the last worker out. */
static void close_loop(rq_threads *t)
{
    uint64_t s = atomic_fetch_and(&t->state, ~OPEN) & ~OPEN;
    const double until = INSIDE(s) && t->spin_ms > 0 ? rq_clock_ms() + t->spin_ms : 0;
    for (int k = 1; INSIDE(s) && t->spin_ms > 0; k++) {
        relax();
        s = atomic_load(&t->state);
        if (k % LOOK == 0 && rq_clock_ms() > until)
            break;
    }
    if (!INSIDE(s))
        return;
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->waits, true);
    while (INSIDE(atomic_load(&t->state)))
        pthread_cond_wait(&t->done, &t->lock);
    atomic_store(&t->waits, false);
    pthread_mutex_unlock(&t->lock);
}

void rq_threads_for(rq_threads *t, int64_t n, rq_threads_fn fn, void *arg)
{
    if (!t || t->n == 1 || n <= 1) {
        for (int64_t i = 0; i < n; i++)
            fn(arg, i);
        return;
    }
    t->fn = fn;
    t->arg = arg;
    t->n_ranges = n < t->n ? (int)n : t->n;
    for (int i = 0; i < t->n_ranges; i++) { /* range i begins at i n / n_ranges, without the product */
        const int64_t each = n / t->n_ranges, more = n % t->n_ranges;
        range *r = &t->ranges[i];
        r->first = i * each + (i < more ? i : more);
        atomic_store_explicit(&r->left, each + (i < more), memory_order_relaxed);
        atomic_store_explicit(&r->end, r->first + each + (i < more), memory_order_relaxed);
    }
    const uint64_t last = atomic_load_explicit(&t->state, memory_order_relaxed);
    atomic_store(&t->state, (LOOP(last) + 1) << 17 | OPEN);
    if (atomic_load(&t->sleepers) > 0) {
        pthread_mutex_lock(&t->lock);
        if (t->n_ranges == t->n)
            pthread_cond_broadcast(&t->more);
        else
            for (int i = 1; i < t->n_ranges; i++)
                pthread_cond_signal(&t->more);
        pthread_mutex_unlock(&t->lock);
    }
    take_part(t, 0);
    close_loop(t);
}

/* ---- the pool ---- */

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
    t->spin_ms = n <= rq_cpu_cores() ? SPIN_MS : 0;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->more, NULL);
    pthread_cond_init(&t->done, NULL);
    t->ranges = rq_mem_zalloc((size_t)n, sizeof *t->ranges);
    t->workers = rq_mem_zalloc((size_t)n, sizeof *t->workers);
    bool ok = t->ranges && t->workers;
    for (int i = 1; i < n && ok; i++) {
        t->workers[i].t = t;
        t->workers[i].id = i;
        ok = !pthread_create(&t->workers[i].thread, NULL, work, &t->workers[i]);
        t->n_started += ok;
    }
    if (!ok) {
        rq_threads_destroy(t);
        return RQ_NO_MEMORY;
    }
    *out = t;
    return RQ_OK;
}

void rq_threads_destroy(rq_threads *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->stop, true);
    pthread_cond_broadcast(&t->more);
    pthread_mutex_unlock(&t->lock);
    for (int i = 1; i <= t->n_started; i++)
        pthread_join(t->workers[i].thread, NULL);
    pthread_cond_destroy(&t->more);
    pthread_cond_destroy(&t->done);
    pthread_mutex_destroy(&t->lock);
    rq_mem_free(t->workers);
    rq_mem_free(t->ranges);
    rq_mem_free(t);
}

int rq_threads_count(const rq_threads *t)
{
    return t ? t->n : 1;
}
