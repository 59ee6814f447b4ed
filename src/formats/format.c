/* formats/format.c — load and save: find the row, say which file it was. */
#include "formats/format.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "formats/mil_graph.h"
#include "graph/graph.h"
#include "ops/op.h"
#include "ops/upgrade.h"

/* Files that are clearly something else, to say so better than a parser can. */
static const char *other_kind(const uint8_t *p, size_t n)
{
    if (n == 0)
        return "the file is empty";
    if (n > 2 && p[0] == 0x1f && p[1] == 0x8b)
        return "the file is compressed with gzip; unpack it first";
    if (n > 4 && !memcmp(p, "PK\3\4", 4))
        return "the file is a zip archive, not a model";
    if (n > 6 && !memcmp(p, "\x93NUMPY", 6))
        return "the file is a numpy array, not a model";
    return NULL;
}

/* What every graph that was read goes through. Takes g. */
static rq_status finish(rq_graph **out, rq_graph *g, rq_err *err)
{
    rq_status st = rq_graph_check(g, err);
    if (!st)
        st = rq_upgrade_mixed(g, err);
    if (!st)
        st = rq_upgrade_old(g, err);
    if (!st) {
        rq_ops_bind(g);
        st = rq_ops_check(g, false, err);
    }
    if (!st)
        st = rq_ops_infer(g, err);
    if (st) {
        rq_graph_destroy(g);
        return st;
    }
    *out = g;
    return RQ_OK;
}

static rq_status read_bytes(rq_graph **out, const uint8_t *data, size_t size, const char *folder, rq_err *err)
{
    *out = NULL;
    const char *other = other_kind(data, size);
    if (other)
        return rq_fail(err, RQ_BAD_FILE, "%s", other);
    const rq_format *f = NULL;
    for (int i = 0; (f = rq_format_at(i)) && !f->sniff(data, size); i++) {
    }
    if (!f)
        return rq_fail(err, RQ_BAD_FILE, "the file is not a model that requant reads (ONNX)");
    rq_graph *g;
    RQ_TRY(f->read(&g, data, size, folder, err));
    return finish(out, g, err);
}

rq_status rq_coreml_to_graph(rq_graph **out, const rq_coreml *m, const char *function, rq_err *err)
{
    rq_graph *g = NULL;
    *out = NULL;
    const rq_status st = rq_mil_graph(&g, m, function, err);
    return st ? st : finish(out, g, err);
}

/* A Core ML package; its graph keeps copies of the numbers. */
static rq_status read_package(rq_graph **out, const char *path, rq_err *err)
{
    rq_coreml *m;
    RQ_TRY(rq_coreml_open(&m, path, err));
    const rq_status st = rq_coreml_to_graph(out, m, NULL, err);
    rq_coreml_close(m);
    return st;
}

/* Say which file, where the sentence does not begin with it already. */
static rq_status name_file(rq_err *err, rq_status st, const char *path)
{
    if (err && !strncmp(err->text, path, strlen(path)))
        return st;
    return rq_fail_in(err, st, "%s", path);
}

rq_status rq_load(rq_graph **out, const char *path, rq_err *err)
{
    rq_map map;
    *out = NULL;
    if (rq_mlpackage_is(path)) {
        const rq_status read = read_package(out, path, err);
        if (read == RQ_NO_MEMORY)
            rq_fail(err, read, "not enough memory to load it");
        return read ? name_file(err, read, path) : RQ_OK;
    }
    RQ_TRY(rq_file_map(&map, path, err));
    const char *slash = strrchr(path, '/');
    char *folder = slash ? rq_mem_strndup(path, (size_t)(slash - path) + 1) : rq_mem_strdup("");
    rq_status st = folder ? read_bytes(out, map.data, map.size, folder, err) : RQ_NO_MEMORY;
    if (st == RQ_NO_MEMORY)
        rq_fail(err, st, "not enough memory to load it");
    rq_mem_free(folder);
    rq_file_unmap(&map);
    return st ? name_file(err, st, path) : RQ_OK;
}

rq_status rq_load_memory(rq_graph **out, const void *data, size_t size, rq_err *err)
{
    return read_bytes(out, data, size, NULL, err);
}

/* The row whose suffix path ends with; NULL: none. */
static const rq_format *format_of(const char *path)
{
    const rq_format *f;
    size_t n = strlen(path);
    for (int i = 0; (f = rq_format_at(i)); i++) {
        size_t end = n;
        const size_t k = strlen(f->suffix);
        while (f->check_output && end > 1 && path[end - 1] == '/') /* the name of a folder may end so */
            end--;
        if (end > k && !memcmp(path + end - k, f->suffix, k))
            return f;
    }
    return NULL;
}

static rq_status no_format(const char *path, rq_err *err)
{
    return rq_fail(err, RQ_UNSUPPORTED,
                   "%s: the suffix names no format that requant writes; expected .onnx or .mlpackage", path);
}

rq_status rq_save_check(const char *path, rq_err *err)
{
    const rq_format *f = format_of(path);
    /* "out/" is a folder before it is a name without a suffix */
    RQ_TRY(f && f->check_output ? f->check_output(path, err) : rq_file_check_output(path, err));
    return f ? RQ_OK : no_format(path, err);
}

rq_save_cfg rq_save_defaults(void)
{
    return (rq_save_cfg) { .spelling = RQ_SPELLING_KEEP };
}

rq_status rq_save(const rq_graph *g, const char *path, rq_err *err)
{
    return rq_save_as(g, path, NULL, err);
}

rq_status rq_save_as(const rq_graph *g, const char *path, const rq_save_cfg *cfg, rq_err *err)
{
    const rq_save_cfg usual = rq_save_defaults();
    const rq_format *f = format_of(path);
    if (!f)
        return no_format(path, err);
    rq_status st = f->write(g, path, cfg ? cfg : &usual, err);
    if (st == RQ_NO_MEMORY)
        rq_fail(err, st, "not enough memory to write it");
    return st ? name_file(err, st, path) : RQ_OK;
}
