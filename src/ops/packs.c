/* ops/packs.c — lists of packs held. What a pack is, and how it is found, is the storage's business. */
#include "ops/packs.h"

#include <assert.h>

#include "base/mem.h"

/* p holds it, once; false: out of memory. The list takes the caller's hold. */
static bool keep(rq_packs *p, rq_storage_pack *pack)
{
    for (int i = 0; i < p->n; i++)
        if (p->held[i] == pack) {
            rq_storage_pack_release(pack);
            return true;
        }
    if (!rq_mem_grow(&p->held, p->n, &p->cap, sizeof(rq_storage_pack *)))
        return false;
    p->held[p->n++] = pack;
    return true;
}

rq_status rq_packs_get(const rq_op_args *a, const rq_tensor *t, const char *key, size_t bytes, rq_pack_fn fn,
                       const void *arg, const void **out)
{
    rq_storage_pack *pack = NULL;
    assert(a->packs && t->data);
    RQ_TRY(rq_storage_pack_get(&pack, t, key, bytes, fn, arg));
    const void *made = rq_storage_pack_bytes(pack);
    if (!keep(a->packs, pack)) {
        rq_storage_pack_release(pack);
        return RQ_NO_MEMORY;
    }
    *out = made;
    return RQ_OK;
}

void rq_packs_hand_on(rq_packs *to, rq_packs *from)
{
    for (int i = 0; i < from->n; i++) /* without memory for the list it is made again next time */
        if (!rq_storage_pack_found(from->held[i]) || !keep(to, from->held[i]))
            rq_storage_pack_release(from->held[i]);
    from->n = 0;
    rq_packs_release(from);
}

void rq_packs_release(rq_packs *p)
{
    for (int i = 0; i < p->n; i++)
        rq_storage_pack_release(p->held[i]);
    rq_mem_free(p->held);
    *p = (rq_packs) { 0 };
}
