/* formats/ranges.c — ranges of tensors: the store, and which reader a file belongs to. Kept in the order they come,
 * sorted once all are there. */
#include "formats/ranges.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

rq_status rq_ranges_create(rq_ranges **out)
{
    rq_ranges *r = rq_mem_zalloc(1, sizeof *r);
    if (!r)
        return RQ_NO_MEMORY;
    r->path = "ranges";
    *out = r;
    return RQ_OK;
}

void rq_ranges_destroy(rq_ranges *r)
{
    if (!r)
        return;
    rq_mem_free(r->items);
    rq_arena_release(&r->text);
    rq_mem_free(r);
}

rq_status rq_ranges_append(rq_ranges *r, const rq_range_info *info, rq_err *err)
{
    if (!info->tensor || !info->tensor[0])
        return rq_fail(err, RQ_BAD_DATA, "%s: a range of a tensor without a name", r->path);
    if (!(info->lo <= info->hi) || !isfinite(info->lo) || !isfinite(info->hi))
        return rq_fail(err, RQ_BAD_DATA, "%s: '%.80s' from %g to %g is no range", r->path, info->tensor, info->lo,
                       info->hi);
    if (r->n >= RQ_RANGES_MOST)
        return rq_fail(err, RQ_BAD_DATA, "%s: more than %d tensors", r->path, RQ_RANGES_MOST);
    rq_range_info made = *info;
    const char *method = info->method ? info->method : "given";
    made.lo = fmin(info->lo, 0);
    made.hi = fmax(info->hi, 0);
    /* a file names few methods: mostly that of the one before */
    made.method = r->n && !strcmp(r->items[r->n - 1].method, method)
                      ? r->items[r->n - 1].method
                      : rq_arena_strndup(&r->text, method, strlen(method));
    if (!made.method || !rq_mem_grow(&r->items, r->n, &r->cap, sizeof *r->items))
        return rq_fail(err, RQ_NO_MEMORY, "%s: out of memory", r->path);
    r->items[r->n++] = made;
    r->sorted = false;
    return RQ_OK;
}

rq_status rq_ranges_add(rq_ranges *r, const rq_range_info *info, rq_err *err)
{
    if (info->tensor && rq_ranges_find(r, info->tensor))
        return rq_fail(err, RQ_BAD_DATA, "%s: '%.80s' stands twice", r->path, info->tensor);
    rq_range_info made = *info;
    if (info->tensor && !(made.tensor = rq_arena_strndup(&r->text, info->tensor, strlen(info->tensor))))
        return rq_fail(err, RQ_NO_MEMORY, "%s: out of memory", r->path);
    return rq_ranges_append(r, &made, err);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const rq_range_info *)a)->tensor, ((const rq_range_info *)b)->tensor);
}

rq_status rq_ranges_sort(rq_ranges *r, rq_err *err)
{
    if (r->n)
        qsort(r->items, (size_t)r->n, sizeof *r->items, by_name);
    for (int i = 1; i < r->n; i++)
        if (!by_name(&r->items[i - 1], &r->items[i]))
            return rq_fail(err, RQ_BAD_DATA, "%s: '%.80s' stands twice", r->path, r->items[i].tensor);
    r->sorted = true;
    return RQ_OK;
}

int rq_ranges_count(const rq_ranges *r)
{
    return r->n;
}

const rq_range_info *rq_ranges_at(const rq_ranges *r, int i)
{
    return &r->items[i];
}

const rq_range_info *rq_ranges_find(const rq_ranges *r, const char *tensor)
{
    const rq_range_info key = { .tensor = tensor };
    if (r->sorted)
        return r->n ? bsearch(&key, r->items, (size_t)r->n, sizeof key, by_name) : NULL;
    for (int i = 0; i < r->n; i++)
        if (!by_name(&key, &r->items[i]))
            return &r->items[i];
    return NULL;
}

rq_status rq_ranges_parse(rq_ranges **out, const void *data, size_t n, const char *name, rq_err *err)
{
    rq_ranges *r;
    if (n > RQ_RANGES_MOST_BYTES)
        return rq_fail(err, RQ_BAD_FILE, "%s: %zu bytes are too many for ranges", name, n);
    if (rq_ranges_create(&r))
        return rq_fail(err, RQ_NO_MEMORY, "%s: out of memory", name);
    r->path = rq_arena_strndup(&r->text, name, strlen(name));
    rq_status s = r->path ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "%s: out of memory", name);
    if (!s)
        s = rq_ranges_is_trt(data, n) ? rq_ranges_read_trt(r, data, n, name, err)
                                      : rq_ranges_read_json(r, data, n, name, err);
    if (!s)
        s = rq_ranges_sort(r, err);
    if (!s && r->n == 0)
        s = rq_fail(err, RQ_BAD_FILE, "%s: there is no range in it", name);
    if (s) {
        rq_ranges_destroy(r);
        return s == RQ_BAD_DATA ? RQ_BAD_FILE : s;
    }
    *out = r;
    return RQ_OK;
}

rq_status rq_ranges_load(rq_ranges **out, const char *path, rq_err *err)
{
    rq_map file;
    RQ_TRY(rq_file_map(&file, path, err));
    const rq_status s = rq_ranges_parse(out, file.data, file.size, path, err);
    rq_file_unmap(&file);
    return s;
}

static bool ends_in(const char *s, const char *tail)
{
    const size_t n = strlen(s), m = strlen(tail);
    return n >= m && !strcmp(s + n - m, tail);
}

rq_status rq_ranges_save(const rq_ranges *r, const char *path, rq_err *err)
{
    rq_ranges copy = { .n = r->n, .model = r->model, .samples = r->samples, .path = path };
    rq_buf b = { 0 };
    copy.items = rq_mem_alloc((size_t)r->n + 1, sizeof *copy.items);
    if (!copy.items)
        return rq_fail(err, RQ_NO_MEMORY, "%s: out of memory", path);
    if (r->n)
        memcpy(copy.items, r->items, (size_t)r->n * sizeof *copy.items);
    rq_status s = rq_ranges_sort(&copy, err);
    if (!s)
        s = ends_in(path, ".cache") ? rq_ranges_write_trt(&copy, &b, err) : rq_ranges_write_json(&copy, &b, err);
    if (!s && b.failed)
        s = rq_fail(err, RQ_NO_MEMORY, "%s: out of memory", path);
    if (!s)
        s = rq_file_write_all(path, b.data, b.size, err);
    rq_buf_release(&b);
    rq_mem_free(copy.items);
    return s;
}
