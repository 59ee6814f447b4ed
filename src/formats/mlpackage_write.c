/* formats/mlpackage_write.c — writing a package: a folder with a temporary name, in which files appear one by one, and one
 * rename at the end. Where a package stands already, the two change names in one step (or, where the system cannot do
 * that, in two) and the old one is removed. */
#include "formats/mlpackage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/quote.h"
#include "base/rng.h"
#include "requant/coreml.h"

enum { DEEPEST = 32 };

static rq_status no_memory(rq_err *err, const char *path)
{
    return rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory to write it", path);
}

/* ---- removing ---- */

static void remove_below(int fd, int depth) /* takes fd */
{
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return;
    }
    for (const struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || !unlinkat(fd, e->d_name, 0))
            continue;
        const int sub = depth < DEEPEST ? openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (sub >= 0)
            remove_below(sub, depth + 1);
        unlinkat(fd, e->d_name, AT_REMOVEDIR);
    }
    closedir(d);
}

static void remove_tree(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0)
        remove_below(fd, 0);
    rmdir(path);
}

/* ---- beginning ---- */

/* A package, or an empty folder? */
static bool may_be_replaced(const char *path)
{
    struct stat s;
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool may = fstatat(fd, "Manifest.json", &s, AT_SYMLINK_NOFOLLOW) == 0;
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return may;
    }
    int n = 0;
    while (readdir(d))
        n++;
    closedir(d);
    return may || n <= 2;
}

/* Remember a path of ours, to be removed by a signal. */
static bool note_made(rq_mlpackage_writer *w, char *path)
{
    if (!path || !rq_mem_grow(&w->made, w->n_made, &w->cap_made, sizeof *w->made))
        return false;
    w->made[w->n_made++] = path;
    rq_file_guard(path, true);
    return true;
}

static void release(rq_mlpackage_writer *w)
{
    for (int i = w->n_made - 1; i >= 0; i--)
        rq_file_guard(w->made[i], false);
    rq_mem_free(w->made);
    rq_mem_free(w->paths);
    rq_mem_free(w->path);
    rq_mem_free(w->tmp);
    rq_arena_release(&w->arena);
    *w = (rq_mlpackage_writer) { 0 };
}

/* Nothing, a package or an empty folder may stand there. */
static rq_status check_place(const char *path, const char *real, rq_err *err)
{
    struct stat s;
    if (stat(real, &s) || (S_ISDIR(s.st_mode) && may_be_replaced(real)))
        return RQ_OK;
    return rq_fail(err, RQ_IO, "%s: is %s, which a package does not replace", path,
                   S_ISDIR(s.st_mode) ? "a folder that is no package" : "a file");
}

rq_status rq_mlpackage_check_output(const char *path, rq_err *err)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    char *real = realpath(path, NULL), *folder = real ? rq_mem_strdup(real) : rq_mem_strndup(path, n);
    free(real);
    if (!folder)
        return no_memory(err, path);
    rq_status st = check_place(path, folder, err);
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = 0; /* "/a" is in "/" */
    if (!st && access(slash ? folder : ".", W_OK | X_OK))
        st = rq_fail(err, RQ_IO, "%s: cannot write: %s", path, strerror(errno));
    rq_mem_free(folder);
    return st;
}

rq_status rq_coreml_remove(const char *path, rq_err *err)
{
    struct stat s;
    if (lstat(path, &s))
        return RQ_OK;
    if (!S_ISDIR(s.st_mode) || !may_be_replaced(path))
        return rq_fail(err, RQ_IO, "%s: is no package, and was left alone", path);
    remove_tree(path);
    return lstat(path, &s) ? RQ_OK : rq_fail(err, RQ_IO, "%s: cannot be removed", path);
}

rq_status rq_mlpackage_create(rq_mlpackage_writer *w, const char *path, rq_err *err)
{
    *w = (rq_mlpackage_writer) { 0 };
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    char *real = realpath(path, NULL); /* the target of a link is replaced, not the link */
    w->path = real ? rq_mem_strdup(real) : rq_mem_strndup(path, n);
    free(real);
    const size_t room = w->path ? strlen(w->path) + 48 : 1;
    w->tmp = rq_mem_zalloc(room, 1);
    if (!w->path || !w->tmp) {
        release(w);
        return no_memory(err, path);
    }
    const rq_status st = check_place(path, w->path, err);
    if (st) {
        release(w);
        return st;
    }
    int made = -1;
    for (int i = 0; i < 1000 && made; i++) {
        snprintf(w->tmp, room, "%s.%ld-%d.tmp", w->path, (long)getpid(), i);
        made = mkdir(w->tmp, 0777);
        if (made && errno != EEXIST)
            break;
    }
    if (made) {
        const int why = errno;
        release(w);
        return rq_fail(err, RQ_IO, "%s: cannot write: %s", path, strerror(why));
    }
    if (note_made(w, w->tmp))
        return RQ_OK;
    rmdir(w->tmp);
    release(w);
    return no_memory(err, path);
}

/* ---- files and folders ---- */

static bool is_noted(const rq_mlpackage_writer *w, const char *path)
{
    for (int i = 0; i < w->n_paths; i++)
        if (!strcmp(w->paths[i], path))
            return true;
    return false;
}

rq_status rq_mlpackage_omit(rq_mlpackage_writer *w, const char *path, rq_err *err)
{
    if (is_noted(w, path))
        return RQ_OK;
    char *own = rq_arena_strndup(&w->arena, path, strlen(path));
    if (!own || !rq_mem_grow(&w->paths, w->n_paths, &w->cap_paths, sizeof *w->paths))
        return no_memory(err, w->path);
    w->paths[w->n_paths++] = own;
    return RQ_OK;
}

static char *real_path(rq_mlpackage_writer *w, const char *path)
{
    const size_t n = strlen(w->tmp) + strlen(path) + 2;
    char *text = rq_arena_alloc(&w->arena, n, 1);
    if (text)
        snprintf(text, n, "%s/%s", w->tmp, path);
    return text;
}

/* The folders of path up to its last slash. */
static rq_status make_parents(rq_mlpackage_writer *w, const char *path, rq_err *err)
{
    char *real = real_path(w, path);
    if (!real)
        return no_memory(err, w->path);
    for (char *slash = real + strlen(w->tmp) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        const int made = mkdir(real, 0777);
        if (made && errno != EEXIST)
            return rq_fail(err, RQ_IO, "%s: cannot write '%s': %s", w->path, path, strerror(errno));
        if (!made && !note_made(w, rq_arena_strndup(&w->arena, real, strlen(real))))
            return no_memory(err, w->path);
        *slash = '/';
    }
    return RQ_OK;
}

rq_status rq_mlpackage_folder(rq_mlpackage_writer *w, const char *path, rq_err *err)
{
    const size_t n = strlen(path);
    char *with_slash = rq_arena_alloc(&w->arena, n + 2, 1);
    if (!with_slash)
        return no_memory(err, w->path);
    memcpy(with_slash, path, n);
    with_slash[n] = '/';
    RQ_TRY(make_parents(w, with_slash, err));
    return rq_mlpackage_omit(w, path, err);
}

rq_status rq_mlpackage_file_begin(rq_mlpackage_writer *w, const char *path, rq_file *f, rq_err *err)
{
    *f = (rq_file) { .fd = -1 };
    RQ_TRY(make_parents(w, path, err));
    const char *real = real_path(w, path);
    return real ? rq_file_create(f, real, err) : no_memory(err, w->path);
}

rq_status rq_mlpackage_file_end(rq_mlpackage_writer *w, const char *path, rq_file *f, rq_err *err)
{
    char *real = real_path(w, path);
    if (!real || rq_mlpackage_omit(w, path, NULL)) {
        rq_file_abandon(f);
        return no_memory(err, w->path);
    }
    RQ_TRY(rq_file_commit(f, err));
    return note_made(w, real) ? RQ_OK : no_memory(err, w->path);
}

rq_status rq_mlpackage_file_all(rq_mlpackage_writer *w, const char *path, const void *data, size_t n, rq_err *err)
{
    rq_file f;
    RQ_TRY(rq_mlpackage_file_begin(w, path, &f, err));
    const rq_status st = rq_file_write(&f, data, n, err);
    if (!st)
        return rq_mlpackage_file_end(w, path, &f, err);
    rq_file_abandon(&f);
    return st;
}

/* A mapped file, piece by piece, so that it never is in memory as a whole. */
static rq_status copy_map(rq_mlpackage_writer *w, const char *path, const rq_map *map, rq_err *err)
{
    const size_t piece = (size_t)4 << 20;
    rq_file f;
    RQ_TRY(rq_mlpackage_file_begin(w, path, &f, err));
    rq_status st = RQ_OK;
    for (size_t at = 0; !st && at < map->size; at += piece) {
        const size_t n = map->size - at < piece ? map->size - at : piece;
        st = rq_file_write(&f, map->data + at, n, err);
        rq_file_forget(map->data + at, n);
    }
    if (!st)
        return rq_mlpackage_file_end(w, path, &f, err);
    rq_file_abandon(&f);
    return st;
}

rq_status rq_mlpackage_copy_rest(rq_mlpackage_writer *w, const rq_mlpackage *src, rq_err *err)
{
    for (int i = 0; i < src->n_entries; i++) {
        const rq_mlpackage_entry *e = &src->entries[i];
        if (is_noted(w, e->path))
            continue;
        if (e->kind == RQ_MLPACKAGE_FOLDER) {
            RQ_TRY(rq_mlpackage_folder(w, e->path, err));
            continue;
        }
        if (e->kind == RQ_MLPACKAGE_OTHER)
            return rq_fail(err, RQ_UNSUPPORTED, "%s: '%s' is neither file nor folder, and cannot be copied", src->path,
                           e->path);
        rq_map map;
        rq_status st = rq_mlpackage_map(src, &map, e->path, err);
        if (st)
            return rq_fail_in(err, st, "%s", src->path);
        st = copy_map(w, e->path, &map, err);
        rq_file_unmap(&map);
        RQ_TRY(st);
    }
    return RQ_OK;
}

/* ---- the manifest ---- */

/* A UUID of version 4's form. */
static void make_id(char out[37], uint64_t seed, const char *name)
{
    rq_rng r;
    uint64_t h = seed ^ 0xcbf29ce484222325u;
    for (const char *p = name; *p; p++)
        h = (h ^ (uint8_t)*p) * 0x100000001b3u;
    rq_rng_seed(&r, h);
    const uint64_t a = rq_rng_u64(&r), b = rq_rng_u64(&r);
    snprintf(out, 37, "%08x-%04x-4%03x-%04x-%012llx", (unsigned)(a >> 32), (unsigned)(a >> 16) & 0xffff,
             (unsigned)a & 0xfff, 0x8000u | ((unsigned)(b >> 48) & 0x3fff), (unsigned long long)(b & 0xffffffffffffu));
}

typedef struct listed {
    char made[37]; /* where the item has no id */
    const rq_mlpackage_item *item;
} listed;

static const char *id_of(const listed *l)
{
    return l->item->id ? l->item->id : l->made;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(id_of(a), id_of(b));
}

static void print_manifest(rq_buf *b, const listed *all, int n, const char *root)
{
    rq_buf_adds(b, "{\n    \"fileFormatVersion\": \"1.0.0\",\n    \"itemInfoEntries\": {");
    for (int i = 0; i < n; i++) {
        const rq_mlpackage_item *it = all[i].item;
        rq_buf_adds(b, i ? ",\n        " : "\n        ");
        rq_quote(b, id_of(&all[i]));
        rq_buf_adds(b, ": {\n            \"author\": ");
        rq_quote(b, it->author);
        rq_buf_adds(b, ",\n            \"description\": ");
        rq_quote(b, it->description);
        rq_buf_adds(b, ",\n            \"name\": ");
        rq_quote(b, it->name);
        rq_buf_adds(b, ",\n            \"path\": ");
        rq_quote(b, it->path + (strncmp(it->path, "Data/", 5) == 0 ? 5 : 0));
        rq_buf_adds(b, "\n        }");
    }
    rq_buf_adds(b, "\n    },\n    \"rootModelIdentifier\": ");
    rq_quote(b, root);
    rq_buf_adds(b, "\n}\n");
}

rq_status rq_mlpackage_manifest(rq_mlpackage_writer *w, const rq_mlpackage_item *items, int n, int root, uint64_t seed,
                                rq_err *err)
{
    listed *all = rq_mem_zalloc((size_t)n, sizeof *all);
    if (!all)
        return no_memory(err, w->path);
    for (int i = 0; i < n; i++) {
        all[i].item = &items[i];
        make_id(all[i].made, seed, items[i].name);
    }
    const listed root_item = all[root];
    qsort(all, (size_t)n, sizeof *all, by_id);
    rq_buf text = { 0 };
    print_manifest(&text, all, n, id_of(&root_item));
    rq_status st =
        text.failed ? no_memory(err, w->path) : rq_mlpackage_file_all(w, "Manifest.json", text.data, text.size, err);
    rq_buf_release(&text);
    rq_mem_free(all);
    return st;
}

/* ---- the end ---- */

rq_status rq_mlpackage_commit(rq_mlpackage_writer *w, rq_err *err)
{
    struct stat s;
    rq_status st = RQ_OK;
    const bool exists = stat(w->path, &s) == 0;
    if (exists && renameat2(AT_FDCWD, w->tmp, AT_FDCWD, w->path, RENAME_EXCHANGE) == 0) {
        remove_tree(w->tmp); /* the old package, now under the temporary name */
    } else if (exists) {
        const size_t n = strlen(w->tmp) + 5;
        char *old = rq_arena_alloc(&w->arena, n, 1);
        if (old)
            snprintf(old, n, "%s.old", w->tmp);
        if (!old)
            st = no_memory(err, w->path);
        else if (rename(w->path, old))
            st = rq_fail(err, RQ_IO, "%s: cannot replace it: %s", w->path, strerror(errno));
        else if (rename(w->tmp, w->path)) {
            st = rq_fail(err, RQ_IO, "%s: cannot write: %s", w->path, strerror(errno));
            (void)!rename(old, w->path);
        } else {
            remove_tree(old);
        }
    } else if (rename(w->tmp, w->path)) {
        st = rq_fail(err, RQ_IO, "%s: cannot write: %s", w->path, strerror(errno));
    }
    if (st)
        remove_tree(w->tmp);
    release(w);
    return st;
}

void rq_mlpackage_abandon(rq_mlpackage_writer *w)
{
    if (w->tmp)
        remove_tree(w->tmp);
    release(w);
}
