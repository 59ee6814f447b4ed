/* formats/samples.c — finding the files and joining their arrays; see samples.h. Only headers are read here. */
#include "formats/samples.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "requant/dataset.h"

bool rq_samples_is_reference(const char *name)
{
    return !strncmp(name, "ref_", 4);
}

rq_samples_array *rq_samples_find(rq_samples *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->array[i].name, name))
            return &s->array[i];
    return NULL;
}

static rq_status fail_array(rq_err *err, rq_status st, const char *path, const char *name)
{
    if (st == RQ_NO_MEMORY)
        return rq_fail(err, st, "%s: not enough memory", path);
    return name ? rq_fail_in(err, st, "%s: array '%s'", path, name) : rq_fail_in(err, st, "%s", path);
}

static size_t row_bytes(const rq_npy_info *info)
{
    rq_shape row = info->shape;
    if (row.rank > 0)
        row.dim[0] = 1;
    return rq_shape_bytes(&row, info->dtype);
}

static rq_status new_array(rq_samples *s, rq_samples_array **out, const char *name, const rq_npy_info *info)
{
    if (!rq_mem_grow(&s->array, s->n, &s->cap, sizeof *s->array))
        return RQ_NO_MEMORY;
    rq_samples_array *a = &s->array[s->n];
    *a = (rq_samples_array) {
        .dtype = info->dtype, .shape = info->shape, .row_bytes = row_bytes(info), .open_part = -1
    };
    if (a->shape.rank > 0)
        a->shape.dim[0] = 0;
    a->name = rq_arena_strndup(&s->names, name, strlen(name));
    if (!a->name)
        return RQ_NO_MEMORY;
    s->n++;
    *out = a;
    return RQ_OK;
}

rq_status rq_samples_add(rq_samples *s, const char *name, rq_dtype d, const rq_shape *shape,
                         rq_status (*read)(void *source, int64_t first, int64_t n, void *dst, rq_err *err),
                         void *source, rq_err *err)
{
    char text[RQ_SHAPE_TEXT];
    if (rq_samples_find(s, name))
        return rq_fail(err, RQ_BAD_DATA, "array '%s' was given twice", name);
    if (shape->rank < 0 || shape->rank > RQ_MAX_RANK || !rq_shape_is_known(shape) || rq_shape_check(shape))
        return rq_fail(err, RQ_BAD_SHAPE, "array '%s' has shape %s, which no array has", name,
                       rq_shape_text(shape, text, sizeof text));
    if (rq_dtype_bits(d) < 8)
        return rq_fail(err, RQ_BAD_DTYPE, "array '%s' is %s; samples come in types of whole bytes", name,
                       rq_dtype_name(d));
    rq_samples_array *a;
    if (new_array(s, &a, name, &(rq_npy_info) { .dtype = d, .shape = *shape }))
        return rq_fail(err, RQ_NO_MEMORY, "out of memory adding array '%s'", name);
    a->shape = *shape;
    a->read = read;
    a->source = source;
    return RQ_OK;
}

static rq_status add_part(rq_samples *s, const char *name, const char *path, bool is_npz, rq_err *err)
{
    rq_npy *npy;
    const char *shown = is_npz ? name : NULL;
    rq_status st = rq_npy_open(&npy, path, is_npz ? name : NULL, err);
    if (st && st != RQ_NO_MEMORY && st != RQ_IO && is_npz && rq_samples_is_reference(name))
        return RQ_OK; /* somebody's text, say */
    if (st)
        return fail_array(err, st, path, shown);
    const rq_npy_info info = *rq_npy_info_of(npy);
    rq_npy_close(npy);
    rq_samples_array *a = rq_samples_find(s, name);
    if (!a && new_array(s, &a, name, &info))
        return fail_array(err, RQ_NO_MEMORY, path, NULL);
    rq_shape like = a->shape;
    if (like.rank > 0)
        like.dim[0] = info.shape.dim[0];
    char found[RQ_SHAPE_TEXT], before[RQ_SHAPE_TEXT];
    if (info.dtype != a->dtype || !rq_shape_equal(&like, &info.shape)) {
        if (rq_samples_is_reference(name))
            return RQ_OK;
        rq_fail(err, RQ_BAD_DATA, "is %s %s, but %s %s in the files before", rq_dtype_name(info.dtype),
                rq_shape_text(&info.shape, found, sizeof found), rq_dtype_name(a->dtype),
                rq_shape_text(&like, before, sizeof before));
        return fail_array(err, RQ_BAD_DATA, path, shown);
    }
    rq_samples_part part = { .is_npz = is_npz };
    part.path = rq_arena_strndup(&s->names, path, strlen(path));
    if (!part.path || !rq_mem_grow(&a->part, a->n_parts, &a->cap_parts, sizeof *a->part))
        return fail_array(err, RQ_NO_MEMORY, path, NULL);
    if (info.shape.rank > 0) {
        part.first = a->shape.dim[0];
        part.rows = info.shape.dim[0];
        if (part.rows > INT64_MAX / 2 - part.first)
            return fail_array(err, rq_fail(err, RQ_BAD_DATA, "holds too many rows"), path, shown);
        a->shape.dim[0] += part.rows;
    }
    a->part[a->n_parts++] = part;
    return RQ_OK;
}

static rq_status add_npz(rq_samples *s, const char *path, rq_err *err)
{
    char **names;
    int n;
    RQ_TRY(rq_npz_names(path, &names, &n, err));
    rq_status st = RQ_OK;
    for (int i = 0; i < n && !st; i++) {
        for (int k = 0; k < i && !st; k++)
            if (!strcmp(names[i], names[k]))
                st = rq_fail(err, RQ_BAD_FILE, "%s: holds array '%s' twice", path, names[i]);
        if (!st)
            st = add_part(s, names[i], path, true, err);
    }
    if (!st && n == 0)
        st = rq_fail(err, RQ_BAD_DATA, "%s: holds no arrays", path);
    rq_mem_free(names);
    return st;
}

/* The file's name without folder and suffix names a .npy. */
static rq_status add_npy(rq_samples *s, const char *path, rq_err *err)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const size_t n = strlen(base);
    const bool suffix = n > 4 && !strcmp(base + n - 4, ".npy");
    const char *name = rq_arena_strndup(&s->names, base, suffix ? n - 4 : n);
    return name ? add_part(s, name, path, false, err) : fail_array(err, RQ_NO_MEMORY, path, NULL);
}

/* ---- folders ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), k = strlen(end);
    return n > k && !strcmp(s + n - k, end);
}

/* Names of the .npy and .npz files, sorted, in the arena. */
static rq_status list_folder(rq_samples *s, const char *path, char ***out, int *n_out, rq_err *err)
{
    DIR *d = opendir(path);
    if (!d)
        return rq_fail(err, RQ_IO, "%s: cannot be opened: %s", path, strerror(errno));
    char **names = NULL;
    int n = 0, cap = 0;
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(d));) {
        if (e->d_name[0] == '.' || (!ends_with(e->d_name, ".npy") && !ends_with(e->d_name, ".npz")))
            continue;
        char *name = rq_arena_strndup(&s->names, e->d_name, strlen(e->d_name));
        ok = name && rq_mem_grow(&names, n, &cap, sizeof *names);
        if (ok)
            names[n++] = name;
    }
    closedir(d);
    if (!ok) {
        rq_mem_free(names);
        return fail_array(err, RQ_NO_MEMORY, path, NULL);
    }
    if (n)
        qsort(names, (size_t)n, sizeof *names, compare_names);
    *out = names;
    *n_out = n;
    return RQ_OK;
}

static rq_status add_folder(rq_samples *s, const char *path, rq_err *err)
{
    char **names = NULL;
    int n = 0, n_npz = 0;
    RQ_TRY(list_folder(s, path, &names, &n, err));
    for (int i = 0; i < n; i++)
        n_npz += ends_with(names[i], ".npz");
    rq_status st = RQ_OK;
    if (!n)
        st = rq_fail(err, RQ_BAD_DATA, "%s: holds no .npz, no .npy and no pictures", path);
    else if (n_npz && n_npz < n)
        st = rq_fail(err, RQ_BAD_DATA, "%s: holds both .npz and .npy files; expected one kind", path);
    for (int i = 0; i < n && !st; i++) {
        const size_t room = strlen(path) + strlen(names[i]) + 2;
        char *full = rq_arena_alloc(&s->names, room, 1);
        if (!full) {
            st = fail_array(err, RQ_NO_MEMORY, path, NULL);
            break;
        }
        snprintf(full, room, "%s/%s", path, names[i]);
        st = n_npz ? add_npz(s, full, err) : add_npy(s, full, err);
    }
    rq_mem_free(names);
    return st;
}

rq_status rq_samples_open(rq_samples *s, const char *path, rq_err *err)
{
    struct stat st;
    *s = (rq_samples) { 0 };
    if (stat(path, &st))
        return rq_fail(err, RQ_IO, "%s: cannot be opened: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return add_folder(s, path, err);
    if (!S_ISREG(st.st_mode))
        return rq_fail(err, RQ_IO, "%s: is neither a file nor a folder", path);
    uint8_t head[6] = { 0 };
    FILE *f = fopen(path, "rb");
    if (!f)
        return rq_fail(err, RQ_IO, "%s: cannot be opened: %s", path, strerror(errno));
    const size_t n = fread(head, 1, sizeof head, f);
    fclose(f);
    if (n == 6 && !memcmp(head, "\x93NUMPY", 6)) {
        s->is_npy = true;
        return add_npy(s, path, err);
    }
    if (n >= 4 && head[0] == 'P' && head[1] == 'K')
        return add_npz(s, path, err);
    if (n == 0)
        return rq_fail(err, RQ_BAD_FILE, "%s: is empty; expected a .npz or a .npy", path);
    return rq_fail(err, RQ_BAD_FILE, "%s: is neither a .npz nor a .npy", path);
}

void rq_samples_close(rq_samples *s)
{
    for (int i = 0; i < s->n; i++) {
        rq_npy_close(s->array[i].open);
        rq_mem_free(s->array[i].part);
    }
    rq_mem_free(s->array);
    rq_arena_release(&s->names);
    *s = (rq_samples) { 0 };
}

static rq_status read_part(rq_samples_array *a, int p, int64_t first, int64_t n, void *dst, rq_err *err)
{
    const rq_samples_part *part = &a->part[p];
    rq_status st = RQ_OK;
    if (a->open_part != p) {
        rq_npy_close(a->open);
        a->open = NULL;
        a->open_part = -1;
        st = rq_npy_open(&a->open, part->path, part->is_npz ? a->name : NULL, err);
        if (!st) {
            const rq_npy_info *now = rq_npy_info_of(a->open);
            if (now->dtype != a->dtype || now->shape.rank != a->shape.rank ||
                (now->shape.rank > 0 && (now->shape.dim[0] != part->rows || row_bytes(now) != a->row_bytes)))
                st = rq_fail(err, RQ_BAD_DATA, "has changed since it was opened");
        }
        if (!st)
            a->open_part = p;
    }
    if (!st)
        st = rq_npy_read(a->open, (uint64_t)first * a->row_bytes, dst, (size_t)n * a->row_bytes, err);
    return st ? fail_array(err, st, part->path, part->is_npz ? a->name : NULL) : RQ_OK;
}

rq_status rq_samples_read(rq_samples_array *a, int64_t first, int64_t n, void *dst, rq_err *err)
{
    if (a->read)
        return a->read(a->source, first, n, dst, err);
    if (a->shape.rank == 0)
        return read_part(a, 0, 0, 1, dst, err);
    int lo = 0, hi = a->n_parts; /* the last part that begins at or before first */
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (a->part[mid].first <= first)
            lo = mid;
        else
            hi = mid;
    }
    uint8_t *to = dst;
    for (int p = lo; n > 0; p++) {
        const int64_t at = first - a->part[p].first, left = a->part[p].rows - at, take = n < left ? n : left;
        if (take <= 0)
            continue; /* an empty part */
        RQ_TRY(read_part(a, p, at, take, to, err));
        to += (size_t)take * a->row_bytes;
        first += take;
        n -= take;
    }
    return RQ_OK;
}
