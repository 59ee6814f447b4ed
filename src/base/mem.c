/* base/mem.c — malloc with a 64-byte header that holds the size; see mem.h. */
#include "base/mem.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 64 }; /* keeps the block 64-byte aligned; the size sits in its first 8 bytes */

static atomic_size_t live, peak, calls, countdown;
static atomic_bool sticky;

static bool told_to_fail(void)
{
    atomic_fetch_add(&calls, 1);
    size_t n = atomic_load(&countdown);
    while (n) {
        size_t left = n == 1 && atomic_load(&sticky) ? 1 : n - 1;
        if (atomic_compare_exchange_weak(&countdown, &n, left))
            return n == 1;
    }
    return false;
}

static void count(size_t add, size_t sub)
{
    size_t now = atomic_fetch_add(&live, add - sub) + (add - sub);
    size_t top = atomic_load(&peak);
    while (now > top && now < SIZE_MAX / 2 && !atomic_compare_exchange_weak(&peak, &top, now)) {
    }
}

void *rq_mem_alloc(size_t n, size_t size)
{
    size_t bytes, all;
    if (!rq_mem_mul(n, size, &bytes) || __builtin_add_overflow(bytes, (size_t)2 * HEADER, &all) || told_to_fail())
        return NULL;
    all &= ~(size_t)(HEADER - 1); /* header + bytes, rounded up to the alignment */
    char *p = aligned_alloc(HEADER, all);
    if (!p)
        return NULL;
    memcpy(p, &bytes, sizeof bytes);
    count(bytes, 0);
    return p + HEADER;
}

void *rq_mem_zalloc(size_t n, size_t size)
{
    void *p = rq_mem_alloc(n, size);
    if (p)
        memset(p, 0, n * size);
    return p;
}

static size_t size_of(const void *p)
{
    size_t bytes;
    memcpy(&bytes, (const char *)p - HEADER, sizeof bytes);
    return bytes;
}

void *rq_mem_realloc(void *p, size_t n, size_t size)
{
    void *q = rq_mem_alloc(n, size);
    if (!q || !p)
        return q;
    size_t old = size_of(p), now = n * size;
    memcpy(q, p, old < now ? old : now);
    rq_mem_free(p);
    return q;
}

void rq_mem_free(void *p)
{
    if (!p)
        return;
    count(0, size_of(p));
    free((char *)p - HEADER);
}

char *rq_mem_strndup(const char *s, size_t n)
{
    char *p = rq_mem_alloc(n + 1, 1);
    if (p) {
        memcpy(p, s, n);
        p[n] = 0;
    }
    return p;
}

char *rq_mem_strdup(const char *s)
{
    return rq_mem_strndup(s, strlen(s));
}

size_t rq_mem_fail_after(size_t n, bool on)
{
    atomic_store(&sticky, on);
    atomic_store(&countdown, n);
    return atomic_exchange(&calls, 0);
}

size_t rq_mem_live(void)
{
    return atomic_load(&live);
}

size_t rq_mem_peak(void)
{
    return atomic_load(&peak);
}

bool rq_mem_grow(void *items_ptr, int n, int *cap, size_t size)
{
    assert(n >= 0 && n <= *cap);
    if (n < *cap)
        return true;
    if (*cap > INT32_MAX / 2 - 4)
        return false;
    int more = *cap ? *cap * 2 : 4;
    void *items;
    memcpy(&items, items_ptr, sizeof items);
    items = rq_mem_realloc(items, (size_t)more, size);
    if (!items)
        return false;
    memcpy(items_ptr, &items, sizeof items);
    *cap = more;
    return true;
}

struct rq_arena_block {
    struct rq_arena_block *next;
    size_t used, size; /* bytes of data, which follows at offset 32 */
};
enum { ARENA_DATA = 32, ARENA_STEP = 16384 };

void *rq_arena_alloc(rq_arena *a, size_t n, size_t size)
{
    size_t bytes;
    if (!rq_mem_mul(n, size, &bytes) || bytes > SIZE_MAX / 2)
        return NULL;
    bytes = (bytes + 15) & ~(size_t)15;
    if (!a->head || bytes > a->head->size - a->head->used) {
        size_t want = bytes > ARENA_STEP ? bytes : ARENA_STEP;
        struct rq_arena_block *b = rq_mem_alloc(want + ARENA_DATA, 1);
        if (!b)
            return NULL;
        b->next = a->head;
        b->used = 0;
        b->size = want;
        a->head = b;
    }
    void *p = (char *)a->head + ARENA_DATA + a->head->used;
    a->head->used += bytes;
    memset(p, 0, bytes);
    return p;
}

char *rq_arena_strndup(rq_arena *a, const char *s, size_t n)
{
    char *p = rq_arena_alloc(a, n + 1, 1);
    if (p && n)
        memcpy(p, s, n);
    return p;
}

void rq_arena_release(rq_arena *a)
{
    while (a->head) {
        struct rq_arena_block *next = a->head->next;
        rq_mem_free(a->head);
        a->head = next;
    }
}
