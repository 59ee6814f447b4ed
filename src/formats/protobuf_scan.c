/* formats/protobuf_scan.c — the guard in front of protobuf-c, which recurses as deep as a file tells it to.
 *
 * The generated descriptors drive the walk, so the guard knows exactly the schema that protobuf-c will apply:
 * a known field must have the wire type of its declaration, every length must fit what is left of its parent, and
 * messages nest at most RQ_PROTOBUF_MAX_DEPTH deep. Fields the schema does not name are stepped over by their lengths,
 * as protobuf-c does. Nothing is allocated; time is linear in the size of the file. */
#include "formats/protobuf.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/cursor.h"

typedef struct scan {
    const uint8_t *start;
    bool onnx; /* or Core ML */
    rq_err *err;
} scan;

enum { WIRE_VARINT, WIRE_64, WIRE_BYTES, WIRE_GROUP, WIRE_END_GROUP, WIRE_32 };

static const char *const wire_names[8] = { "a varint",           "8 bytes", "a length and bytes", "a group",
                                           "the end of a group", "4 bytes", "wire type 6",        "wire type 7" };

static rq_status fail(const scan *s, const uint8_t *at, const ProtobufCMessageDescriptor *desc,
                      const ProtobufCFieldDescriptor *field, const char *what)
{
    return rq_fail(s->err, RQ_BAD_FILE, "byte %zu, %s%s%s: %s", (size_t)(at - s->start), desc->short_name,
                   field ? "." : "", field ? field->name : "", what);
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *desc, uint64_t id)
{
    for (unsigned i = 0; i < desc->n_fields; i++)
        if (desc->fields[i].id == id)
            return &desc->fields[i];
    return NULL;
}

/* Wire type of one value of this declared type. */
static int wire_of(ProtobufCType t)
{
    switch (t) {
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return WIRE_32;
    case PROTOBUF_C_TYPE_DOUBLE:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return WIRE_64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_BYTES;
    default:
        return WIRE_VARINT;
    }
}

/* A packed list: whole values up to its end. */
static rq_status scan_packed(const scan *s, rq_cursor c, int wire, const ProtobufCMessageDescriptor *desc,
                             const ProtobufCFieldDescriptor *field)
{
    size_t size = (size_t)(c.end - c.p);
    if (wire == WIRE_32 || wire == WIRE_64) {
        if (size % (wire == WIRE_32 ? 4 : 8))
            return fail(s, c.p, desc, field, "a packed list ends inside a number");
        return RQ_OK;
    }
    while (c.p < c.end) {
        const uint8_t *at = c.p;
        uint64_t v;
        if (rq_cursor_varint(&c, &v))
            return fail(s, at, desc, field, "a packed list ends inside a number, or a number has more than 10 bytes");
    }
    return RQ_OK;
}

static rq_status scan_message(const scan *s, rq_cursor c, const ProtobufCMessageDescriptor *desc, int depth);

static rq_status scan_field(const scan *s, rq_cursor *c, const ProtobufCMessageDescriptor *desc, int depth)
{
    const uint8_t *at = c->p;
    uint64_t key, v;
    if (rq_cursor_varint(c, &key) || c->p - at > 5 || key > UINT32_MAX)
        return fail(s, at, desc, NULL, "a field number is cut short or too long");
    const unsigned wire = key & 7;
    const ProtobufCFieldDescriptor *field = find_field(desc, key >> 3);
    if (key >> 3 == 0)
        return fail(s, at, desc, NULL,
                    s->onnx ? "field number 0 does not exist; this is not an ONNX model, or a damaged one"
                            : "field number 0 does not exist; this is not a Core ML model, or a damaged one");
    if (wire == WIRE_GROUP || wire == WIRE_END_GROUP || wire > WIRE_32)
        return fail(s, at, desc, field,
                    wire > WIRE_32 ? "a wire type that does not exist"
                    : s->onnx      ? "a group, which ONNX does not use"
                                   : "a group, which Core ML does not use");
    if (field) {
        unsigned want = (unsigned)wire_of(field->type);
        bool packed = field->label == PROTOBUF_C_LABEL_REPEATED && want != WIRE_BYTES && wire == WIRE_BYTES;
        if (wire != want && !packed) {
            char what[80];
            snprintf(what, sizeof what, "holds %s, expected %s", wire_names[wire], wire_names[want]);
            return fail(s, at, desc, field, what);
        }
    }
    rq_cursor part;
    switch (wire) {
    case WIRE_VARINT:
        if (rq_cursor_varint(c, &v))
            return fail(s, at, desc, field, "a number is cut short or has more than 10 bytes");
        return RQ_OK;
    case WIRE_64:
    case WIRE_32:
        if (rq_cursor_part(c, wire == WIRE_64 ? 8 : 4, &part))
            return fail(s, at, desc, field, "a number is cut short");
        return RQ_OK;
    default:
        break;
    }
    const uint8_t *length_at = c->p;
    if (rq_cursor_varint(c, &v) || c->p - length_at > 5 || v > RQ_PROTOBUF_MAX_SIZE)
        return fail(s, at, desc, field, "a length is cut short or beyond 2 GiB");
    if (rq_cursor_part(c, v, &part)) {
        char what[120];
        snprintf(what, sizeof what, "is %llu bytes long, but only %zu are left; the file is cut short or damaged",
                 (unsigned long long)v, (size_t)(c->end - c->p));
        return fail(s, at, desc, field, what);
    }
    if (!field)
        return RQ_OK;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        if (depth >= RQ_PROTOBUF_MAX_DEPTH)
            return fail(s, at, desc, field, "messages are nested more than 100 deep");
        return scan_message(s, part, field->descriptor, depth + 1);
    }
    int want = wire_of(field->type);
    return want == WIRE_BYTES ? RQ_OK : scan_packed(s, part, want, desc, field);
}

static rq_status scan_message(const scan *s, rq_cursor c, const ProtobufCMessageDescriptor *desc, int depth)
{
    while (c.p < c.end)
        RQ_TRY(scan_field(s, &c, desc, depth));
    return RQ_OK;
}

rq_status rq_protobuf_scan(const uint8_t *data, size_t size, const ProtobufCMessageDescriptor *desc, rq_err *err)
{
    if (size > RQ_PROTOBUF_MAX_SIZE)
        return rq_fail(err, RQ_BAD_FILE, "the file has %zu bytes; a protobuf message has at most 2147483647", size);
    const scan s = { .start = data, .onnx = !strcmp(desc->package_name, "onnx"), .err = err };
    return scan_message(&s, (rq_cursor) { data, data + size }, desc, 1);
}
