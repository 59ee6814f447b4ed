/* scan.c — which operators a model file uses, read straight from its protobuf bytes: only tags and lengths,
 * so that the list of skips does not depend on the reader that is tested.
 * ModelProto.graph 7, .functions 25; GraphProto.node 1; NodeProto.op_type 4, .domain 7, .attribute 5;
 * AttributeProto.g 6, .graphs 11; FunctionProto.node 7. */
#include "golden.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cursor.h"

typedef struct scan {
    golden_op_fn fn;
    void *arg;
    bool stop;
} scan;

typedef struct field {
    uint64_t number;
    rq_cursor part; /* wire type 2 only; empty otherwise */
} field;

static bool varint(rq_cursor *c, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t b;
        if (rq_cursor_read(c, &b, 1))
            return false;
        *out |= (uint64_t)(b & 127) << shift;
        if (!(b & 128))
            return true;
    }
    return false;
}

static bool next(rq_cursor *c, field *f)
{
    uint64_t tag, n;
    rq_cursor skip;
    f->part = (rq_cursor) { c->p, c->p };
    if (c->p == c->end || !varint(c, &tag))
        return false;
    f->number = tag >> 3;
    switch (tag & 7) {
    case 0:
        return varint(c, &n);
    case 1:
        return !rq_cursor_part(c, 8, &skip);
    case 2:
        return varint(c, &n) && !rq_cursor_part(c, n, &f->part);
    case 5:
        return !rq_cursor_part(c, 4, &skip);
    default:
        return false;
    }
}

static void text(char *buf, size_t cap, rq_cursor part)
{
    size_t n = (size_t)(part.end - part.p);
    n = n < cap ? n : cap - 1;
    memcpy(buf, part.p, n);
    buf[n] = 0;
}

static void scan_nodes(scan *s, rq_cursor graph, uint64_t node_field, int depth);

static void scan_node(scan *s, rq_cursor node, int depth)
{
    char op[128] = "", domain[128] = "";
    field f, a;
    for (rq_cursor c = node; next(&c, &f);) {
        if (f.number == 4)
            text(op, sizeof op, f.part);
        else if (f.number == 7)
            text(domain, sizeof domain, f.part);
        else if (f.number == 5)
            for (rq_cursor d = f.part; next(&d, &a);)
                if (a.number == 6 || a.number == 11)
                    scan_nodes(s, a.part, 1, depth + 1);
    }
    if (!s->stop && !s->fn(s->arg, domain, op))
        s->stop = true;
}

static void scan_nodes(scan *s, rq_cursor graph, uint64_t node_field, int depth)
{
    field f;
    if (depth < 16)
        for (rq_cursor c = graph; !s->stop && next(&c, &f);)
            if (f.number == node_field)
                scan_node(s, f.part, depth);
}

bool golden_scan_ops(const char *path, golden_op_fn fn, void *arg)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) || st.st_size <= 0) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    const size_t n = (size_t)st.st_size;
    uint8_t *p = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return false;
    scan s = { fn, arg, false };
    field f;
    bool graph = false;
    for (rq_cursor c = { p, p + n }; next(&c, &f);) {
        if (f.number == 7 || f.number == 25)
            scan_nodes(&s, f.part, f.number == 7 ? 1 : 7, 0);
        graph |= f.number == 7;
    }
    munmap(p, n);
    return graph;
}
