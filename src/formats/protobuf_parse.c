/* formats/protobuf_parse.c — protobuf-c on a leash: scan first, then parse into memory with a limit.
 *
 * A parsed message is larger than its bytes: an empty submessage is 2 bytes in the file and some 300 in memory. Real
 * models grow little, for nearly all their bytes are numbers; models that are all structure are small. So the
 * limit is twice the file, plus 64 times the file or 512 MiB, whichever is less.
 *
 * Nothing is freed one by one but the parser's own large scratch: the whole goes at once. */
#include "formats/protobuf.h"

#include <string.h>

enum { LARGE = 4096, RECENT = 32 };

static void *mem_alloc(void *data, size_t size)
{
    rq_protobuf_mem *m = data;
    size_t cost = size + 16;
    if (cost < size || cost > m->limit - m->used) {
        m->over = true;
        return NULL;
    }
    if (size < LARGE) {
        void *p = rq_arena_alloc(&m->small, size, 1);
        m->used += p ? cost : 0;
        return p;
    }
    if (!rq_mem_grow(&m->large, m->n_large, &m->cap_large, sizeof *m->large))
        return NULL;
    void *p = rq_mem_alloc(size, 1);
    if (p) {
        m->large[m->n_large++] = p;
        m->used += cost;
    }
    return p;
}

/* The parser gives back its scratch, which is among the last it took; the rest may wait for the end. */
static void mem_free(void *data, void *p)
{
    rq_protobuf_mem *m = data;
    for (int i = m->n_large - 1; i >= 0 && i >= m->n_large - RECENT; i--)
        if (m->large[i] == p) {
            rq_mem_free(p);
            memmove(m->large + i, m->large + i + 1, (size_t)(m->n_large - 1 - i) * sizeof *m->large);
            m->n_large--;
            return;
        }
}

rq_status rq_protobuf_parse(ProtobufCMessage **out, rq_protobuf_mem *m, const ProtobufCMessageDescriptor *desc,
                            const uint8_t *data, size_t size, rq_err *err)
{
    RQ_TRY(rq_protobuf_scan(data, size, desc, err));
    const size_t structure = size < (8u << 20) ? size * 64 : (size_t)512 << 20;
    m->limit = m->used + 65536 + 2 * size + structure;
    ProtobufCAllocator allocator = { .alloc = mem_alloc, .free = mem_free, .allocator_data = m };
    *out = protobuf_c_message_unpack(desc, &allocator, size, data);
    if (*out)
        return RQ_OK;
    if (m->over)
        return rq_fail(err, RQ_BAD_FILE,
                       "the file has %zu bytes, and would need more than %zu in memory: it is not a model", size,
                       m->limit);
    /* the scan has accepted the bytes, so what remains is memory */
    return rq_fail(err, RQ_NO_MEMORY, "not enough memory to parse %zu bytes", size);
}

/* Tensors are asked for in the order they were parsed, so the search goes on where it ended. */
bool rq_protobuf_mem_take(rq_protobuf_mem *m, const void *data)
{
    for (int k = 0; k < m->n_large; k++) {
        int i = (m->hint + k) % m->n_large;
        if (m->large[i] == data && data) {
            m->large[i] = NULL;
            m->hint = i + 1;
            return true;
        }
    }
    return false;
}

void *rq_protobuf_mem_alloc(rq_protobuf_mem *m, size_t n, size_t size)
{
    size_t bytes;
    if (!rq_mem_mul(n, size, &bytes))
        return NULL;
    void *p = mem_alloc(m, bytes);
    if (p)
        memset(p, 0, bytes);
    return p;
}

void rq_protobuf_mem_release(rq_protobuf_mem *m)
{
    for (int i = 0; i < m->n_large; i++)
        rq_mem_free(m->large[i]);
    rq_mem_free(m->large);
    rq_arena_release(&m->small);
    *m = (rq_protobuf_mem) { 0 };
}

rq_status rq_protobuf_keep(rq_protobuf_fields *out, rq_arena *a, const ProtobufCMessage *m)
{
    *out = (rq_protobuf_fields) { 0 };
    if (!m->n_unknown_fields)
        return RQ_OK;
    out->field = rq_arena_alloc(a, m->n_unknown_fields, sizeof *out->field);
    if (!out->field)
        return RQ_NO_MEMORY;
    for (size_t i = 0; i < m->n_unknown_fields; i++) {
        out->field[i] = m->unknown_fields[i];
        out->field[i].data = rq_arena_alloc(a, m->unknown_fields[i].len, 1);
        if (!out->field[i].data)
            return RQ_NO_MEMORY;
        memcpy(out->field[i].data, m->unknown_fields[i].data, m->unknown_fields[i].len);
    }
    out->n = m->n_unknown_fields;
    return RQ_OK;
}

rq_status rq_protobuf_keep_message(rq_protobuf_fields *out, rq_arena *a, uint32_t tag, const ProtobufCMessage *m)
{
    size_t size = protobuf_c_message_get_packed_size(m), at = 0;
    ProtobufCMessageUnknownField *f = rq_arena_alloc(a, 1, sizeof *f);
    uint8_t *data = f ? rq_arena_alloc(a, size + 10, 1) : NULL;
    if (!data)
        return RQ_NO_MEMORY;
    for (size_t left = size;; left >>= 7) { /* the length stands before the bytes */
        data[at++] = (uint8_t)((left & 127) | (left > 127 ? 128 : 0));
        if (left <= 127)
            break;
    }
    protobuf_c_message_pack(m, data + at);
    *f = (ProtobufCMessageUnknownField) {
        .tag = tag, .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED, .len = at + size, .data = data
    };
    *out = (rq_protobuf_fields) { .n = 1, .field = f };
    return RQ_OK;
}
