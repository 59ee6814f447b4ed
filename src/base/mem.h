/* base/mem.h — every byte the library allocates comes through here: 64-byte aligned, sizes multiplied
 * with an overflow check, counted, and made to fail on purpose by the tests.
 *
 * Blocks start with a hidden header, so they go back only through rq_mem_free. Thread-safe. */
#ifndef RQ_BASE_MEM_H
#define RQ_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* n * size bytes, 64-byte aligned, not cleared; NULL when memory is out or the product overflows.
 * A block of 0 bytes is a valid pointer. */
void *rq_mem_alloc(size_t n, size_t size);

/* The same, cleared. */
void *rq_mem_zalloc(size_t n, size_t size);

/* Grow or shrink p (NULL: allocate), keeping its content; on NULL p is untouched. */
void *rq_mem_realloc(void *p, size_t n, size_t size);

/* NULL is fine. */
void rq_mem_free(void *p);

/* A copy of s (strndup: of its first n bytes, then a NUL). NULL when memory is out. */
char *rq_mem_strdup(const char *s);
char *rq_mem_strndup(const char *s, size_t n);

/* *out = a * b, false on overflow. */
static inline bool rq_mem_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* n rounded up to 64, as blocks are aligned: where the next part of a scratch may begin. */
static inline size_t rq_mem_round(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* For tests: the n-th allocation from now (1 = the next) returns NULL, and all after it when `on` is
 * set; 0 turns it off. Returns how many allocations there were since the last call. */
size_t rq_mem_fail_after(size_t n, bool on);

/* Bytes handed out and not freed, and the highest this has been. */
size_t rq_mem_live(void);
size_t rq_mem_peak(void);

/* Grow *items (of n used, *cap allocated) so that one more fits; false when memory is out. */
bool rq_mem_grow(void *items_ptr, int n, int *cap, size_t size);

/* An arena: many small blocks freed together. Zero-initialize before first use. */
typedef struct rq_arena {
    struct rq_arena_block *head;
} rq_arena;
void *rq_arena_alloc(rq_arena *a, size_t n, size_t size); /* 16-byte aligned, cleared; NULL: out of memory */
char *rq_arena_strndup(rq_arena *a, const char *s, size_t n);
void rq_arena_release(rq_arena *a);

#endif
