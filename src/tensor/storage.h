/* tensor/storage.h — who holds the bytes of a tensor, and what was made of them and is kept beside them. */
#ifndef RQ_TENSOR_STORAGE_H
#define RQ_TENSOR_STORAGE_H

#include "requant/tensor.h"

struct rq_storage;

/* A storage of `bytes` at data, held once; free_fn(data, arg) when the last holder goes. NULL: out of memory, nothing was taken. */
struct rq_storage *rq_storage_create(void *data, size_t bytes, void (*free_fn)(void *data, void *arg), void *arg);
/* The same for a block of base/mem. */
struct rq_storage *rq_storage_create_block(void *data, size_t bytes);
/* Both are fine with NULL: bytes that belong to the caller. */
void rq_storage_hold(struct rq_storage *s);
void rq_storage_release(struct rq_storage *s);

/* The bytes of t become its own, to be changed: they are copied unless no other tensor holds them and the library made them (those of a
 * mapped file are not). What was made of them is not found any more. RQ_NO_MEMORY: as it was. */
rq_status rq_tensor_unshare(rq_tensor *t);

/* ---- what is made of the bytes of a tensor (ops/packs.h says what and for whom): bytes, counted, found by a name ---- */

typedef struct rq_storage_pack rq_storage_pack;

/* Fills made[bytes] (64-byte aligned, not cleared). Any thread; asks for no pack of the same tensor. */
typedef void (*rq_storage_fill)(void *made, const void *arg);

/* Hold the pack of t's bytes with this key and size, made by fill(arg) unless it is there: threads that ask at once wait for one of them.
 * A tensor whose bytes are not those of its storage (a view of the caller's) gets one that nobody else finds. RQ_NO_MEMORY. */
rq_status rq_storage_pack_get(rq_storage_pack **out, const rq_tensor *t, const char *key, size_t bytes,
                              rq_storage_fill fill, const void *arg);
const void *rq_storage_pack_bytes(const rq_storage_pack *p);
/* Would it be found again? Not once the bytes it was made of are gone or may change. */
bool rq_storage_pack_found(rq_storage_pack *p);
void rq_storage_pack_release(rq_storage_pack *p);

#endif
