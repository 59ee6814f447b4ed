/* ops/packs.h — what prepare makes of constants (weights packed for an instruction set, sums of their columns), made once for all plans and all
 * sessions that share the constant's bytes. It hangs on the storage of the bytes it was made from (tensor/storage.h), counted: the program that
 * asked for it holds it until it is destroyed, so a new plan for another batch size finds it again. */
#ifndef RQ_OPS_PACKS_H
#define RQ_OPS_PACKS_H

#include "ops/op.h"
#include "tensor/storage.h"

/* What somebody holds: a segment of a plan; and the program behind it, which takes over what would be found again when a segment goes.
 * Zero-initialize. One thread. */
typedef struct rq_packs {
    rq_storage_pack **held;
    int n, cap;
} rq_packs;

/* Fills made[bytes] (64-byte aligned, not cleared). Any thread; asks for no pack itself. */
typedef rq_storage_fill rq_pack_fn;

/* The pack of t (which has data) of this kind, made by fn(arg) unless it is there already. Two packs of one tensor are the same when `key` (a
 * NUL-terminated name of what it is and of everything it depends on besides t's bytes: instruction set, sizes, flips) and `bytes` are. The answer
 * lives as long as the plan that asked (a->packs, not NULL), is shared by threads and must not be written. t is the tensor as the row got it: bytes
 * that are not its storage's (a copy made for a moment) work too, but are shared with nobody. RQ_NO_MEMORY. */
rq_status rq_packs_get(const rq_op_args *a, const rq_tensor *t, const char *key, size_t bytes, rq_pack_fn fn,
                       const void *arg, const void **out);

/* `from` becomes empty: what would be found again goes to `to`, the rest is let go. To be called when the tensors of the plan are gone. */
void rq_packs_hand_on(rq_packs *to, rq_packs *from);
void rq_packs_release(rq_packs *p);

#endif
