/* tensor/storage.c — counted bytes, and the shelf beside them: a list of what was made of them. A shelf is put up when first asked for, and has
 * the storage and everything on it as holders, so that whoever goes last finds its lock; what lies on it is held by those who asked alone, and
 * taken off with the last of them. */
#include "tensor/storage.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"

typedef struct shelf {
    pthread_mutex_t lock;
    atomic_int refs;
    rq_storage_pack *first; /* under lock, as is everything the list says */
} shelf;

struct rq_storage_pack {
    shelf *on; /* NULL: nobody else finds it */
    rq_storage_pack *next;
    bool found; /* is in the list */
    int refs;
    const void *of; /* the first byte it was made of */
    size_t bytes;
    char *key;
    void *made;
};

struct rq_storage {
    atomic_int refs;
    void *data;
    size_t bytes;
    void (*free_fn)(void *data, void *arg);
    void *arg;
    _Atomic(shelf *) shelf;
};

/* ---- bytes ---- */

static void free_block(void *data, void *arg)
{
    (void)arg;
    rq_mem_free(data);
}

struct rq_storage *rq_storage_create(void *data, size_t bytes, void (*free_fn)(void *, void *), void *arg)
{
    struct rq_storage *s = rq_mem_alloc(1, sizeof *s);
    if (!s)
        return NULL;
    atomic_init(&s->refs, 1);
    atomic_init(&s->shelf, NULL);
    s->data = data;
    s->bytes = bytes;
    s->free_fn = free_fn;
    s->arg = arg;
    return s;
}

struct rq_storage *rq_storage_create_block(void *data, size_t bytes)
{
    return rq_storage_create(data, bytes, free_block, NULL);
}

void rq_storage_hold(struct rq_storage *s)
{
    if (s)
        atomic_fetch_add(&s->refs, 1);
}

static void shelf_release(shelf *h)
{
    if (h && atomic_fetch_sub(&h->refs, 1) == 1) {
        pthread_mutex_destroy(&h->lock);
        rq_mem_free(h);
    }
}

/* What lies on it is not found any more. */
static void shelf_clear(shelf *h)
{
    pthread_mutex_lock(&h->lock);
    for (rq_storage_pack *p = h->first; p; p = p->next)
        p->found = false;
    h->first = NULL;
    pthread_mutex_unlock(&h->lock);
}

void rq_storage_release(struct rq_storage *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    shelf *h = atomic_load(&s->shelf);
    if (h)
        shelf_clear(h);
    shelf_release(h);
    s->free_fn(s->data, s->arg);
    rq_mem_free(s);
}

rq_status rq_tensor_unshare(rq_tensor *t)
{
    struct rq_storage *s = t->storage;
    if (s && atomic_load(&s->refs) == 1 && s->free_fn == free_block) {
        shelf *h = atomic_load(&s->shelf);
        if (h)
            shelf_clear(h);
        return RQ_OK;
    }
    rq_tensor own;
    RQ_TRY(rq_tensor_copy(&own, t));
    rq_tensor_release(t);
    *t = own;
    return RQ_OK;
}

/* ---- packs ---- */

/* The shelf of s, put up unless it is there; NULL: out of memory. */
static shelf *shelf_of(struct rq_storage *s)
{
    shelf *h = atomic_load(&s->shelf);
    if (h)
        return h;
    shelf *made = rq_mem_zalloc(1, sizeof *made);
    if (!made)
        return NULL;
    atomic_init(&made->refs, 1);
    pthread_mutex_init(&made->lock, NULL);
    if (atomic_compare_exchange_strong(&s->shelf, &h, made))
        return made;
    shelf_release(made); /* somebody was faster: h */
    return h;
}

static void pack_free(rq_storage_pack *p)
{
    rq_mem_free(p->made);
    rq_mem_free(p->key);
    rq_mem_free(p);
}

static rq_storage_pack *pack_create(const void *of, const char *key, size_t bytes, rq_storage_fill fill,
                                    const void *arg)
{
    rq_storage_pack *p = rq_mem_zalloc(1, sizeof *p);
    if (!p)
        return NULL;
    *p = (rq_storage_pack) { .refs = 1, .of = of, .bytes = bytes };
    p->key = rq_mem_strdup(key);
    p->made = rq_mem_alloc(bytes, 1);
    if (!p->key || !p->made) {
        pack_free(p);
        return NULL;
    }
    fill(p->made, arg);
    return p;
}

/* Are the bytes of t those of its storage? */
static bool in_storage(const rq_tensor *t)
{
    const struct rq_storage *s = t->storage;
    if (!s)
        return false;
    const uintptr_t from = (uintptr_t)s->data, at = (uintptr_t)t->data;
    return at >= from && at - from <= s->bytes && t->bytes <= s->bytes - (at - from);
}

rq_status rq_storage_pack_get(rq_storage_pack **out, const rq_tensor *t, const char *key, size_t bytes,
                              rq_storage_fill fill, const void *arg)
{
    if (!in_storage(t)) {
        *out = pack_create(t->data, key, bytes, fill, arg);
        return *out ? RQ_OK : RQ_NO_MEMORY;
    }
    shelf *h = shelf_of(t->storage);
    if (!h)
        return RQ_NO_MEMORY;
    pthread_mutex_lock(&h->lock);
    rq_storage_pack *p = h->first;
    while (p && (p->of != t->data || p->bytes != bytes || strcmp(p->key, key) != 0))
        p = p->next;
    if (p) {
        p->refs++;
    } else if ((p = pack_create(t->data, key, bytes, fill, arg))) {
        atomic_fetch_add(&h->refs, 1);
        p->on = h;
        p->found = true;
        p->next = h->first;
        h->first = p;
    }
    pthread_mutex_unlock(&h->lock);
    *out = p;
    return p ? RQ_OK : RQ_NO_MEMORY;
}

const void *rq_storage_pack_bytes(const rq_storage_pack *p)
{
    return p->made;
}

bool rq_storage_pack_found(rq_storage_pack *p)
{
    if (!p->on)
        return false;
    pthread_mutex_lock(&p->on->lock);
    const bool found = p->found;
    pthread_mutex_unlock(&p->on->lock);
    return found;
}

void rq_storage_pack_release(rq_storage_pack *p)
{
    if (!p)
        return;
    shelf *h = p->on;
    if (!h) {
        pack_free(p);
        return;
    }
    pthread_mutex_lock(&h->lock);
    const bool last = --p->refs == 0;
    if (last && p->found) {
        rq_storage_pack **at = &h->first;
        while (*at != p)
            at = &(*at)->next;
        *at = p->next;
    }
    pthread_mutex_unlock(&h->lock);
    if (last) {
        pack_free(p);
        shelf_release(h);
    }
}
