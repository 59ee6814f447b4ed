/* formats/images.c — listing a folder of pictures, and reading them when they are asked for; nothing is kept decoded. */
#include "formats/images.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static bool has_suffix(const char *s, const char *end)
{
    const size_t n = strlen(s), k = strlen(end);
    return n > k && !strcasecmp(s + n - k, end);
}

static bool is_picture(const char *name)
{
    return has_suffix(name, ".jpg") || has_suffix(name, ".jpeg") || has_suffix(name, ".png");
}

/* ---- names in a folder ---- */

typedef struct listing {
    char **name;
    int n, cap;
} listing;

static void listing_release(listing *l)
{
    for (int i = 0; i < l->n; i++)
        rq_mem_free(l->name[i]);
    rq_mem_free(l->name);
    *l = (listing) { 0 };
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_folder(const char *folder, const char *name)
{
    char path[4096];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && n < (int)sizeof path && !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* Everything in the folder but hidden names, sorted by bytes: the same everywhere. */
static rq_status list(listing *l, const char *folder, rq_err *err)
{
    *l = (listing) { 0 };
    DIR *d = opendir(folder);
    if (!d)
        return rq_fail(err, RQ_IO, "%s: cannot be opened: %s", folder, strerror(errno));
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        ok = rq_mem_grow(&l->name, l->n, &l->cap, sizeof *l->name);
        if (ok && (l->name[l->n] = rq_mem_strdup(e->d_name)))
            l->n++;
        else
            ok = false;
    }
    closedir(d);
    if (!ok) {
        listing_release(l);
        return rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory to list it", folder);
    }
    if (l->n)
        qsort(l->name, (size_t)l->n, sizeof *l->name, by_name);
    return RQ_OK;
}

bool rq_images_are_in(const char *folder)
{
    listing l, in;
    bool found = false, numpy = false;
    if (list(&l, folder, NULL))
        return false;
    for (int i = 0; i < l.n; i++) {
        numpy |= has_suffix(l.name[i], ".npy") || has_suffix(l.name[i], ".npz");
        found |= is_picture(l.name[i]);
        if (found || numpy || !is_folder(folder, l.name[i]))
            continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, l.name[i]);
        if (list(&in, path, NULL))
            continue;
        for (int k = 0; k < in.n && !found; k++)
            found = is_picture(in.name[k]);
        listing_release(&in);
    }
    listing_release(&l);
    return found && !numpy;
}

/* ---- opening ---- */

static rq_status add(rq_images *s, const char *folder, const char *name, int label, rq_err *err)
{
    const size_t room = strlen(folder) + strlen(name) + 2;
    const int cap = s->cap;
    char *path = rq_arena_alloc(&s->names, room, 1);
    if (!path || !rq_mem_grow(&s->path, s->n, &s->cap, sizeof *s->path))
        return rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory to list it", folder);
    if (s->cap != cap) {
        int32_t *grown = rq_mem_realloc(s->label, (size_t)s->cap, sizeof *s->label);
        if (!grown) {
            s->cap = cap;
            return rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory to list it", folder);
        }
        s->label = grown;
    }
    snprintf(path, room, "%s/%s", folder, name);
    s->path[s->n] = path;
    s->label[s->n++] = label;
    return RQ_OK;
}

/* A name like 7 or 10 as its number; -1: it is none. */
static int number_of(const char *name)
{
    int v = 0;
    for (const char *c = name; *c; c++) {
        if (*c < '0' || *c > '9' || v > 99999999)
            return -1;
        v = v * 10 + (*c - '0');
    }
    return name[0] && (name[0] != '0' || !name[1]) ? v : -1;
}

static rq_status add_class(rq_images *s, const char *folder, const char *name, int label, rq_err *err)
{
    const size_t room = strlen(folder) + strlen(name) + 2;
    char *path = rq_arena_alloc(&s->names, room, 1);
    if (!path)
        return rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory to list it", folder);
    snprintf(path, room, "%s/%s", folder, name);
    listing l;
    RQ_TRY(list(&l, path, err));
    const int before = s->n;
    rq_status st = RQ_OK;
    for (int i = 0; i < l.n && !st; i++)
        if (is_picture(l.name[i]))
            st = add(s, path, l.name[i], label, err);
    listing_release(&l);
    if (!st && s->n == before)
        st = rq_fail(err, RQ_BAD_DATA, "%s: is taken for a class, but holds no .jpg, .jpeg or .png", path);
    if (!st && (!rq_mem_grow(&s->class_name, s->n_classes, &s->cap_classes, sizeof *s->class_name) ||
                !rq_mem_grow(&s->class_end, s->n_classes, &s->cap_ends, sizeof *s->class_end)))
        st = rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory to list it", folder);
    if (!st) {
        s->class_name[s->n_classes] = path + strlen(folder) + 1;
        s->class_end[s->n_classes++] = s->n;
    }
    return st;
}

rq_status rq_images_open(rq_images *s, const char *folder, rq_err *err)
{
    listing l;
    *s = (rq_images) { 0 };
    RQ_TRY(list(&l, folder, err));
    rq_status st = RQ_OK;
    int n_beside = 0;
    bool numbers = true;
    for (int i = 0; i < l.n; i++)
        numbers &= !is_folder(folder, l.name[i]) || number_of(l.name[i]) >= 0;
    for (int i = 0; i < l.n && !st; i++) {
        if (is_folder(folder, l.name[i])) {
            st = add_class(s, folder, l.name[i], numbers ? number_of(l.name[i]) : s->n_classes, err);
        } else if (is_picture(l.name[i])) {
            st = add(s, folder, l.name[i], -1, err);
            n_beside++;
        }
    }
    if (!st && n_beside && s->n_classes)
        st = rq_fail(err, RQ_BAD_DATA,
                     "%s: holds pictures both beside and inside sub-folders; expected one or the other", folder);
    if (!st && !s->n)
        st = rq_fail(err, RQ_BAD_DATA, "%s: holds no .jpg, .jpeg or .png", folder);
    listing_release(&l);
    return st;
}

rq_status rq_images_prepare(rq_images *s, const rq_preprocess *p, bool codes, rq_err *err)
{
    rq_tensor first;
    s->p = *p;
    s->codes = codes;
    RQ_TRY(rq_image_read(&first, s->path[0], p, codes, err));
    s->row = first.shape;
    rq_tensor_release(&first);
    return RQ_OK;
}

void rq_images_close(rq_images *s)
{
    rq_mem_free(s->path);
    rq_mem_free(s->label);
    rq_mem_free(s->class_name);
    rq_mem_free(s->class_end);
    rq_arena_release(&s->names);
    *s = (rq_images) { 0 };
}

/* ---- reading ---- */

rq_status rq_images_read(void *images, int64_t first, int64_t n, void *dst, rq_err *err)
{
    const rq_images *s = images;
    char got[RQ_SHAPE_TEXT], want[RQ_SHAPE_TEXT];
    uint8_t *to = dst;
    for (int64_t i = first; i < first + n; i++) {
        rq_tensor t;
        RQ_TRY(rq_image_read(&t, s->path[i], &s->p, s->codes, err));
        rq_status st = RQ_OK;
        if (rq_shape_equal(&t.shape, &s->row))
            memcpy(to, t.data, t.bytes);
        else
            st = rq_fail(err, RQ_BAD_DATA,
                         "%s: becomes %s, the first picture %s; preprocess with resize or crop makes all alike",
                         s->path[i], rq_shape_text(&t.shape, got, sizeof got),
                         rq_shape_text(&s->row, want, sizeof want));
        to += t.bytes;
        rq_tensor_release(&t);
        RQ_TRY(st);
    }
    return RQ_OK;
}

rq_status rq_images_read_labels(void *images, int64_t first, int64_t n, void *dst, rq_err *err)
{
    const rq_images *s = images;
    int64_t *to = dst;
    (void)err;
    for (int64_t i = 0; i < n; i++)
        to[i] = s->label[first + i];
    return RQ_OK;
}
