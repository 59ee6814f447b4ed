/* formats/protobuf.h — what the formats that speak protobuf share: a guard that walks the bytes first, protobuf-c in memory
 * with a limit, and the fields a schema of ours does not name, kept as they came. */
#ifndef RQ_FORMATS_PROTOBUF_H
#define RQ_FORMATS_PROTOBUF_H

#include <protobuf-c/protobuf-c.h>

#include "base/mem.h"
#include "requant/status.h"

enum {
    RQ_PROTOBUF_MAX_DEPTH = 100,     /* messages inside messages, as in Google's parsers */
    RQ_PROTOBUF_MAX_SIZE = INT32_MAX /* bytes of one protobuf message */
};

/* ---- protobuf_scan.c ---- */

/* Walk the bytes of a message of type `desc` without allocating: nesting, wire types, lengths and numbers are
 * such that protobuf-c will take them. RQ_BAD_FILE: the sentence gives the byte and the field. */
rq_status rq_protobuf_scan(const uint8_t *data, size_t size, const ProtobufCMessageDescriptor *desc, rq_err *err);

/* ---- protobuf_parse.c ---- */

/* Memory of one parsed file: small blocks in an arena, large ones (tensors) on their own so that they can be
 * kept without a copy. Has a limit, so that a small file cannot ask for much. */
typedef struct rq_protobuf_mem {
    rq_arena small;
    void **large;
    int n_large, cap_large, hint;
    size_t used, limit;
    bool over; /* the limit was hit (otherwise a failed allocation is the system's) */
} rq_protobuf_mem;

/* Scan and parse. The message lives until rq_protobuf_mem_release. RQ_BAD_FILE, RQ_NO_MEMORY. */
rq_status rq_protobuf_parse(ProtobufCMessage **out, rq_protobuf_mem *m, const ProtobufCMessageDescriptor *desc,
                            const uint8_t *data, size_t size, rq_err *err);
/* Take the block `data` out of m: the caller frees it with rq_mem_free. False: it is not a block of its own. */
bool rq_protobuf_mem_take(rq_protobuf_mem *m, const void *data);
/* Memory that goes with m, within its limit; cleared. NULL: out of memory. */
void *rq_protobuf_mem_alloc(rq_protobuf_mem *m, size_t n, size_t size);
void rq_protobuf_mem_release(rq_protobuf_mem *m);

/* Fields of a message as they came, for which our schema has no name. */
typedef struct rq_protobuf_fields {
    size_t n;
    ProtobufCMessageUnknownField *field;
} rq_protobuf_fields;

/* Copy the unknown fields of a message to a. RQ_NO_MEMORY. */
rq_status rq_protobuf_keep(rq_protobuf_fields *out, rq_arena *a, const ProtobufCMessage *m);
/* The whole message as one field with this tag. */
rq_status rq_protobuf_keep_message(rq_protobuf_fields *out, rq_arena *a, uint32_t tag, const ProtobufCMessage *m);

#endif
