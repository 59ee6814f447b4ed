/* formats/mlpackage.c — reading a package. Everything below it is listed once, without following links; from then on a path
 * of the manifest is only ever looked up in that list, so that nothing a file says can lead outside. */
#include "formats/mlpackage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

#include "base/beneath.h"
#include "formats/json_scan.h"

enum { MOST_ENTRIES = 100000, DEEPEST = 16, MOST_MANIFEST = 16 << 20 };
#define MANIFEST "Manifest.json"

/* path without empty parts and "."; NULL when it could leave the folder, or is no path. */
static char *clean_path(rq_arena *a, const char *path, bool *no_memory)
{
    char *own = rq_arena_strndup(a, path, strlen(path)), *to = own;
    *no_memory = !own;
    if (!own || path[0] == '/' || strchr(path, '\\') || (path[0] && path[1] == ':'))
        return NULL;
    for (const char *p = path; *p;) {
        const size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return NULL;
        if (n && !(n == 1 && p[0] == '.')) {
            if (to > own)
                *to++ = '/';
            memmove(to, p, n);
            to += n;
        }
        p += n + (p[n] == '/');
    }
    *to = 0;
    return own;
}

static rq_mlpackage_entry *add_entry(rq_mlpackage *p, const char *path, rq_status *st, rq_err *err)
{
    if (p->n_entries >= MOST_ENTRIES) {
        *st = rq_fail(err, RQ_BAD_FILE, "holds more than %d files", MOST_ENTRIES);
        return NULL;
    }
    if (!path || !rq_mem_grow(&p->entries, p->n_entries, &p->cap_entries, sizeof *p->entries)) {
        *st = RQ_NO_MEMORY;
        return NULL;
    }
    rq_mlpackage_entry *e = &p->entries[p->n_entries++];
    *e = (rq_mlpackage_entry) { .path = path };
    return e;
}

/* ---- a folder ---- */

static rq_status list_folder(rq_mlpackage *p, int fd, const char *prefix, int depth, rq_err *err);

static rq_status list_one(rq_mlpackage *p, int folder, const char *prefix, const char *name, int depth, rq_err *err)
{
    struct stat s;
    char text[1024];
    const int n = snprintf(text, sizeof text, "%s%s", prefix, name);
    if (n < 0 || n + 2 > (int)sizeof text || depth >= DEEPEST)
        return rq_fail(err, RQ_BAD_FILE, "'%.200s' lies more than %d folders deep or has too long a path", name,
                       DEEPEST);
    if (fstatat(folder, name, &s, AT_SYMLINK_NOFOLLOW))
        return rq_fail(err, RQ_IO, "cannot look at '%s': %s", text, strerror(errno));
    rq_status st = RQ_OK;
    rq_mlpackage_entry *e = add_entry(p, rq_arena_strndup(&p->arena, text, (size_t)n), &st, err);
    if (!e)
        return st;
    e->kind = S_ISREG(s.st_mode) ? RQ_MLPACKAGE_FILE : S_ISDIR(s.st_mode) ? RQ_MLPACKAGE_FOLDER : RQ_MLPACKAGE_OTHER;
    if (e->kind != RQ_MLPACKAGE_FOLDER)
        return RQ_OK;
    const int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return rq_fail(err, RQ_IO, "cannot open the folder '%s': %s", text, strerror(errno));
    text[n] = '/';
    text[n + 1] = 0;
    return list_folder(p, fd, text, depth + 1, err);
}

/* Takes fd. */
static rq_status list_folder(rq_mlpackage *p, int fd, const char *prefix, int depth, rq_err *err)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return rq_fail(err, RQ_IO, "cannot be listed: %s", strerror(errno));
    }
    rq_status st = RQ_OK;
    for (const struct dirent *e; !st && (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            st = list_one(p, fd, prefix, e->d_name, depth, err);
    closedir(d);
    return st;
}

/* ---- a zip ---- */

/* Where the package begins in the archive: "" or "Name.mlpackage/", the folder of the manifest that lies highest. */
static rq_status zip_prefix(const char **out, size_t *n, struct zip *z, rq_err *err)
{
    const size_t k = strlen(MANIFEST);
    *out = NULL;
    for (zip_int64_t i = 0, all = zip_get_num_entries(z, 0); i < all; i++) {
        const char *name = zip_get_name(z, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        const size_t len = name ? strlen(name) : 0;
        if (len < k || strcmp(name + len - k, MANIFEST) != 0 || (len > k && name[len - k - 1] != '/'))
            continue;
        const char *slash = memchr(name, '/', len);
        if (slash && slash != name + len - k - 1)
            continue; /* deeper than one folder */
        if (!*out || len - k < *n) {
            *out = name;
            *n = len - k;
        }
    }
    return *out ? RQ_OK : rq_fail(err, RQ_BAD_FILE, "the archive holds no " MANIFEST ", so it is no Core ML package");
}

static rq_status list_zip(rq_mlpackage *p, rq_err *err)
{
    const char *prefix = "";
    size_t n = 0;
    rq_status st = zip_prefix(&prefix, &n, p->zip, err);
    for (zip_int64_t i = 0, all = zip_get_num_entries(p->zip, 0); !st && i < all; i++) {
        const char *name = zip_get_name(p->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        if (!name || strncmp(name, prefix, n) != 0 || !strncmp(name, "__MACOSX/", 9))
            continue;
        bool no_memory;
        const char *path = clean_path(&p->arena, name + n, &no_memory);
        if (!path && !no_memory)
            return rq_fail(err, RQ_BAD_FILE, "the archive holds '%.200s', which leaves the package", name);
        if (path && !*path)
            continue;
        if (path && rq_mlpackage_entry_at(p, path))
            return rq_fail(err, RQ_BAD_FILE, "the archive holds '%.200s' twice", path);
        rq_mlpackage_entry *e = add_entry(p, path, &st, err);
        if (!e)
            break;
        e->kind = name[strlen(name) - 1] == '/' ? RQ_MLPACKAGE_FOLDER : RQ_MLPACKAGE_FILE;
        e->index = (uint64_t)i;
    }
    return st;
}

static rq_status open_zip(rq_mlpackage *p, rq_err *err)
{
    int code;
    p->zip = zip_open(p->path, ZIP_RDONLY, &code);
    if (p->zip)
        return list_zip(p, err);
    zip_error_t e;
    zip_error_init_with_code(&e, code);
    rq_status st = rq_fail(err, code == ZIP_ER_OPEN || code == ZIP_ER_NOENT ? RQ_IO : RQ_BAD_FILE,
                           "cannot be opened as a zip archive: %s", zip_error_strerror(&e));
    zip_error_fini(&e);
    return st;
}

/* A file without a name, on disk rather than in memory where there is such a place. */
static int nameless_file(void)
{
    int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    FILE *f = tmpfile();
    fd = f ? fcntl(fileno(f), F_DUPFD_CLOEXEC, 0) : -1;
    if (f)
        fclose(f);
    return fd;
}

static rq_status unpack(zip_file_t *in, int fd, uint64_t size, rq_err *err)
{
    uint8_t piece[65536];
    for (uint64_t done = 0; done < size;) {
        const uint64_t want = size - done < sizeof piece ? size - done : sizeof piece;
        const zip_int64_t got = zip_fread(in, piece, want);
        if (got <= 0)
            return rq_fail(err, RQ_BAD_FILE, "cannot be unpacked: %s",
                           got < 0 ? zip_file_strerror(in) : "it ends early");
        for (size_t at = 0; at < (size_t)got;) {
            const ssize_t did = write(fd, piece + at, (size_t)got - at);
            if (did < 0 && errno == EINTR)
                continue;
            if (did < 0)
                return rq_fail(err, RQ_IO, "cannot be unpacked: %s", strerror(errno));
            at += (size_t)did;
        }
        done += (uint64_t)got;
    }
    return RQ_OK;
}

static rq_status map_zip(const rq_mlpackage *p, rq_map *out, const rq_mlpackage_entry *e, rq_err *err)
{
    zip_stat_t s;
    if (zip_stat_index(p->zip, e->index, 0, &s) || !(s.valid & ZIP_STAT_SIZE) || !(s.valid & ZIP_STAT_COMP_SIZE) ||
        s.size > INT64_MAX)
        return rq_fail(err, RQ_BAD_FILE, "has a damaged entry in its archive");
    if ((s.valid & ZIP_STAT_ENCRYPTION_METHOD) && s.encryption_method != ZIP_EM_NONE)
        return rq_fail(err, RQ_UNSUPPORTED, "is encrypted");
    if (s.size / 1032 > s.comp_size)
        return rq_fail(err, RQ_BAD_FILE, "claims %" PRIu64 " bytes from %" PRIu64 ", more than deflate can do",
                       (uint64_t)s.size, (uint64_t)s.comp_size);
    if (!s.size)
        return RQ_OK;
    zip_file_t *in = zip_fopen_index(p->zip, e->index, 0);
    const int fd = in ? nameless_file() : -1;
    rq_status st = RQ_OK;
    if (!in)
        st = rq_fail(err, RQ_BAD_FILE, "cannot be unpacked: %s", zip_strerror(p->zip));
    else if (fd < 0)
        st = rq_fail(err, RQ_IO, "cannot be unpacked to a temporary file: %s", strerror(errno));
    else
        st = unpack(in, fd, s.size, err);
    if (!st) {
        void *data = mmap(NULL, (size_t)s.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            st = rq_fail(err, RQ_IO, "cannot be mapped: %s", strerror(errno));
        else
            *out = (rq_map) { data, (size_t)s.size };
    }
    if (fd >= 0)
        close(fd);
    if (in)
        zip_fclose(in);
    return st;
}

/* ---- the manifest ---- */

/* A string of the manifest, kept. */
static rq_status read_text(rq_mlpackage *p, rq_json *j, const char **out)
{
    rq_buf text = { 0 };
    rq_status st = rq_json_string(j, &text);
    if (!st) {
        *out = rq_arena_strndup(&p->arena, text.size ? text.data : "", text.size);
        if (!*out || text.failed)
            st = RQ_NO_MEMORY;
    }
    rq_buf_release(&text);
    return st;
}

static rq_status read_item(rq_mlpackage *p, rq_json *j, const char *id)
{
    rq_mlpackage_item item = { .id = id };
    const struct {
        const char *key, **to;
    } keys[] = {
        { "author", &item.author }, { "description", &item.description }, { "name", &item.name }, { "path", &item.path }
    };
    rq_buf key = { 0 };
    rq_status st = rq_json_open(j, '{');
    for (bool more = true; !st;) {
        st = rq_json_key(j, &key, &more);
        if (st || !more)
            break;
        size_t k = 0;
        while (k < 4 && (key.failed || strcmp(key.data, keys[k].key) != 0))
            k++;
        st = key.failed ? RQ_NO_MEMORY : k < 4 ? read_text(p, j, keys[k].to) : rq_json_skip(j);
    }
    rq_buf_release(&key);
    RQ_TRY(st);
    for (size_t k = 0; k < 4; k++)
        if (!*keys[k].to)
            return rq_json_fail(j, "item '%.80s' lacks '%s'", id, keys[k].key);
    bool no_memory;
    const char *clean = clean_path(&p->arena, item.path, &no_memory);
    if (!clean)
        return no_memory
                   ? RQ_NO_MEMORY
                   : rq_json_fail(j, "item '%.80s' has the path '%.200s', which leaves the package", id, item.path);
    char *path = rq_arena_alloc(&p->arena, strlen(clean) + 6, 1);
    if (!path || !rq_mem_grow(&p->items, p->n_items, &p->cap_items, sizeof *p->items))
        return RQ_NO_MEMORY;
    snprintf(path, strlen(clean) + 6, "Data/%s", clean);
    item.path = path;
    p->items[p->n_items++] = item;
    return RQ_OK;
}

static rq_status read_items(rq_mlpackage *p, rq_json *j)
{
    rq_buf key = { 0 };
    rq_status st = rq_json_open(j, '{');
    for (bool more = true; !st;) {
        st = rq_json_key(j, &key, &more);
        if (st || !more)
            break;
        const char *id = key.failed ? NULL : rq_arena_strndup(&p->arena, key.data, key.size);
        for (int i = 0; id && !st && i < p->n_items; i++)
            if (!strcmp(p->items[i].id, id))
                st = rq_json_fail(j, "there are two items '%.80s'", id);
        if (!st)
            st = id ? read_item(p, j, id) : RQ_NO_MEMORY;
    }
    rq_buf_release(&key);
    return st;
}

/* Versions are read as the system does: the first two numbers may be at most 1.0, and the third must be 0 when the second
 * is. */
static rq_status check_version(const char *text, rq_err *err)
{
    unsigned v[3];
    int used = 0;
    const bool three = sscanf(text, "%5u.%5u.%5u%n", &v[0], &v[1], &v[2], &used) == 3 && !text[used];
    if (!three || strspn(text, "0123456789.") != strlen(text))
        return rq_fail(err, RQ_BAD_FILE, MANIFEST ": '%.40s' is no format version; expected three numbers as in 1.0.0",
                       text);
    if (v[0] > 1 || (v[0] == 1 && v[1] > 0) || (v[1] == 0 && v[2] > 0))
        return rq_fail(err, RQ_UNSUPPORTED, MANIFEST ": format version %s is newer than 1.0.0", text);
    return RQ_OK;
}

static rq_status parse_manifest(rq_mlpackage *p, const rq_map *map, rq_err *err)
{
    rq_json j = rq_json_of(map->data, map->size, MANIFEST, err);
    const char *version = NULL, *root = NULL;
    rq_buf key = { 0 };
    rq_status st = rq_json_open(&j, '{');
    for (bool more = true; !st;) {
        st = rq_json_key(&j, &key, &more);
        if (st || !more)
            break;
        if (key.failed)
            st = RQ_NO_MEMORY;
        else if (!strcmp(key.data, "fileFormatVersion"))
            st = read_text(p, &j, &version);
        else if (!strcmp(key.data, "rootModelIdentifier"))
            st = read_text(p, &j, &root);
        else if (!strcmp(key.data, "itemInfoEntries"))
            st = read_items(p, &j);
        else
            st = rq_json_skip(&j);
    }
    rq_buf_release(&key);
    if (!st)
        st = rq_json_end(&j);
    RQ_TRY(st);
    if (!version)
        return rq_fail(err, RQ_BAD_FILE, MANIFEST ": lacks 'fileFormatVersion'");
    RQ_TRY(check_version(version, err));
    if (!root)
        return rq_fail(err, RQ_BAD_FILE,
                       MANIFEST ": lacks 'rootModelIdentifier', so which file is the model is not said");
    while (p->root < p->n_items && strcmp(p->items[p->root].id, root) != 0)
        p->root++;
    if (p->root == p->n_items)
        return rq_fail(err, RQ_BAD_FILE, MANIFEST ": the root model '%.80s' is none of its %d items", root, p->n_items);
    return RQ_OK;
}

/* Is there a file or folder at path? A zip may hold a folder only through its files. */
static bool exists(const rq_mlpackage *p, const char *path)
{
    const size_t n = strlen(path);
    for (int i = 0; i < p->n_entries; i++)
        if (!strncmp(p->entries[i].path, path, n) && (!p->entries[i].path[n] || p->entries[i].path[n] == '/'))
            return p->entries[i].kind != RQ_MLPACKAGE_OTHER;
    return false;
}

static rq_status check_items(const rq_mlpackage *p, rq_err *err)
{
    for (int i = 0; i < p->n_items; i++) {
        const rq_mlpackage_item *a = &p->items[i];
        if (!exists(p, a->path))
            return rq_fail(err, RQ_BAD_FILE, MANIFEST ": item '%.80s' is at '%.200s', where there is no file or folder",
                           a->name, a->path);
        for (int k = 0; k < i; k++)
            if (!strcmp(a->name, p->items[k].name) && !strcmp(a->author, p->items[k].author))
                return rq_fail(err, RQ_BAD_FILE, MANIFEST ": there are two items '%.80s' by '%.80s'", a->name,
                               a->author);
    }
    const rq_mlpackage_entry *e = rq_mlpackage_entry_at(p, p->items[p->root].path);
    if (!e || e->kind != RQ_MLPACKAGE_FILE)
        return rq_fail(err, RQ_BAD_FILE, MANIFEST ": the root model at '%.200s' is no file", p->items[p->root].path);
    return RQ_OK;
}

static rq_status read_manifest(rq_mlpackage *p, rq_err *err)
{
    rq_map map = { 0 };
    RQ_TRY(rq_mlpackage_map(p, &map, MANIFEST, err));
    rq_status st = map.size > MOST_MANIFEST
                       ? rq_fail(err, RQ_BAD_FILE, MANIFEST ": has %zu bytes, which is no manifest", map.size)
                       : parse_manifest(p, &map, err);
    rq_file_unmap(&map);
    return st ? st : check_items(p, err);
}

/* ---- all of it ---- */

static bool has_suffix(const char *path)
{
    static const char suffix[] = ".mlpackage";
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n >= sizeof suffix - 1 && !strncmp(path + n - (sizeof suffix - 1), suffix, sizeof suffix - 1);
}

bool rq_mlpackage_is(const char *path)
{
    struct stat s;
    if (has_suffix(path))
        return true;
    if (stat(path, &s))
        return false;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    char head[4] = { 0 };
    bool is = false;
    if (S_ISDIR(s.st_mode))
        is = fstatat(fd, MANIFEST, &s, AT_SYMLINK_NOFOLLOW) == 0;
    else if (S_ISREG(s.st_mode))
        is = pread(fd, head, 4, 0) == 4 && !memcmp(head, "PK\3\4", 4);
    close(fd);
    return is;
}

static rq_status open_package(rq_mlpackage *p, rq_err *err)
{
    struct stat s;
    if (stat(p->path, &s))
        return rq_fail(err, RQ_IO, "cannot open: %s", strerror(errno));
    if (!S_ISDIR(s.st_mode)) {
        RQ_TRY(open_zip(p, err));
        return read_manifest(p, err);
    }
    const int fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return rq_fail(err, RQ_IO, "cannot open: %s", strerror(errno));
    RQ_TRY(list_folder(p, fd, "", 0, err));
    return read_manifest(p, err);
}

rq_status rq_mlpackage_open(rq_mlpackage **out, const char *path, rq_err *err)
{
    *out = NULL;
    rq_mlpackage *p = rq_mem_zalloc(1, sizeof *p);
    rq_status st = p && (p->path = rq_mem_strdup(path)) ? open_package(p, err) : RQ_NO_MEMORY;
    if (!st) {
        *out = p;
        return RQ_OK;
    }
    if (st == RQ_NO_MEMORY)
        rq_fail(err, st, "not enough memory to open it");
    rq_mlpackage_close(p);
    return rq_fail_in(err, st, "%s", path);
}

void rq_mlpackage_close(rq_mlpackage *p)
{
    if (!p)
        return;
    if (p->zip)
        zip_discard(p->zip);
    rq_mem_free(p->entries);
    rq_mem_free(p->items);
    rq_mem_free(p->path);
    rq_arena_release(&p->arena);
    rq_mem_free(p);
}

const rq_mlpackage_item *rq_mlpackage_find(const rq_mlpackage *p, const char *name)
{
    for (int i = 0; i < p->n_items; i++)
        if (!strcmp(p->items[i].name, name) && !strcmp(p->items[i].author, "com.apple.CoreML"))
            return &p->items[i];
    return NULL;
}

const rq_mlpackage_entry *rq_mlpackage_entry_at(const rq_mlpackage *p, const char *path)
{
    for (int i = 0; i < p->n_entries; i++)
        if (!strcmp(p->entries[i].path, path))
            return &p->entries[i];
    return NULL;
}

rq_status rq_mlpackage_map(const rq_mlpackage *p, rq_map *out, const char *path, rq_err *err)
{
    const rq_mlpackage_entry *e = rq_mlpackage_entry_at(p, path);
    *out = (rq_map) { .data = (const uint8_t *)"" };
    if (!e)
        return rq_fail(err, RQ_BAD_FILE, "holds no file '%.200s'", path);
    if (e->kind != RQ_MLPACKAGE_FILE)
        return rq_fail(err, RQ_BAD_FILE, "'%.200s' is a folder or a link, expected a file", path);
    rq_status st = p->zip ? map_zip(p, out, e, err) : rq_beneath_map(out, p->path, path, err);
    return st ? rq_fail_in(err, st, "%s", path) : RQ_OK;
}
