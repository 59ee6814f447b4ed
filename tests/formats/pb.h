/* tests/formats/pb.h — protobuf bytes by hand, so that tests say what is in a file without the code under test. */
#ifndef RQ_TESTS_PB_H
#define RQ_TESTS_PB_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

typedef struct pb {
    uint8_t b[16384];
    size_t n;
} pb;

static inline void pb_raw(pb *m, const void *data, size_t n)
{
    assert(n <= sizeof m->b - m->n);
    if (n)
        memcpy(m->b + m->n, data, n);
    m->n += n;
}

static inline void pb_varint(pb *m, uint64_t v)
{
    do {
        uint8_t byte = (uint8_t)((v & 127) | (v > 127 ? 128 : 0));
        pb_raw(m, &byte, 1);
    } while (v >>= 7);
}

static inline void pb_int(pb *m, int id, int64_t v)
{
    pb_varint(m, (uint64_t)id << 3);
    pb_varint(m, (uint64_t)v);
}

static inline void pb_bytes(pb *m, int id, const void *data, size_t n)
{
    pb_varint(m, (uint64_t)id << 3 | 2);
    pb_varint(m, n);
    pb_raw(m, data, n);
}

static inline void pb_str(pb *m, int id, const char *s)
{
    pb_bytes(m, id, s, strlen(s));
}

static inline void pb_msg(pb *m, int id, const pb *sub)
{
    pb_bytes(m, id, sub->b, sub->n);
}

/* A StringStringEntryProto as field id. */
static inline void pb_entry(pb *m, int id, const char *key, const char *value)
{
    pb e = { .n = 0 };
    pb_str(&e, 1, key);
    pb_str(&e, 2, value);
    pb_msg(m, id, &e);
}

/* ValueInfoProto: f32 of these sizes (0: the end). */
static inline pb pb_value(const char *name, int64_t d0, int64_t d1)
{
    pb v = { .n = 0 }, type = { .n = 0 }, tensor = { .n = 0 }, shape = { .n = 0 };
    for (int i = 0; i < 2; i++) {
        pb dim = { .n = 0 };
        int64_t d = i ? d1 : d0;
        if (d == 0)
            break;
        pb_int(&dim, 1, d);
        pb_msg(&shape, 1, &dim);
    }
    pb_int(&tensor, 1, 1);
    pb_msg(&tensor, 2, &shape);
    pb_msg(&type, 1, &tensor);
    pb_str(&v, 1, name);
    pb_msg(&v, 2, &type);
    return v;
}

/* NodeProto without attributes; b NULL: one input. */
static inline pb pb_node(const char *op, const char *a, const char *b, const char *y)
{
    pb n = { .n = 0 };
    pb_str(&n, 1, a);
    if (b)
        pb_str(&n, 1, b);
    pb_str(&n, 2, y);
    pb_str(&n, 3, y); /* name */
    pb_str(&n, 4, op);
    return n;
}

/* ModelProto around a graph. */
static inline pb pb_model(const pb *graph, int64_t ir, int64_t opset)
{
    pb m = { .n = 0 }, import = { .n = 0 };
    pb_int(&m, 1, ir);
    pb_msg(&m, 7, graph);
    pb_str(&import, 1, "");
    pb_int(&import, 2, opset);
    pb_msg(&m, 8, &import);
    return m;
}

#endif
