/* formats/npz.c — arrays in a .npz read piece by piece, and a .npz written with the same bytes for the same arrays:
 * stored, in the order given, dated 1980-01-01.
 *
 * An entry is believed only when its size is what its own header says, and, when deflated, what deflate can make
 * of its compressed size (at most 1032 bytes of one), so a small file cannot claim a large array. */
#include "formats/npy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "requant/dataset.h"

struct rq_npy {
    rq_npy_info info;
    uint64_t size; /* of header and data */
    int fd;        /* of a .npy, or -1 */
    zip_t *zip;    /* of a .npz, or NULL */
    zip_file_t *file;
    zip_uint64_t index;
    uint64_t at; /* where the next byte of file comes from */
    bool stored; /* can be read at any place */
};

/* ---- reading ---- */

static rq_status open_zip(zip_t **out, const char *path, rq_err *err)
{
    int code;
    *out = zip_open(path, ZIP_RDONLY, &code);
    if (*out)
        return RQ_OK;
    zip_error_t e;
    zip_error_init_with_code(&e, code);
    rq_status st = rq_fail(err, code == ZIP_ER_OPEN || code == ZIP_ER_NOENT ? RQ_IO : RQ_BAD_FILE,
                           "cannot be opened as a zip archive: %s", zip_error_strerror(&e));
    zip_error_fini(&e);
    return st;
}

/* Name of entry i without ".npy"; NULL when it is not an array or memory is out (then *no_memory). */
static char *array_name(zip_t *z, zip_uint64_t i, bool *no_memory)
{
    const char *name = zip_get_name(z, i, ZIP_FL_ENC_RAW);
    size_t n = name ? strlen(name) : 0;
    if (n < 5 || strcmp(name + n - 4, ".npy") != 0)
        return NULL;
    char *own = rq_mem_strndup(name, n - 4);
    *no_memory |= !own;
    return own;
}

static rq_status find_entry(rq_npy *a, const char *entry, rq_err *err)
{
    rq_nearest near = rq_nearest_to(entry);
    char hint[RQ_NEAREST_HINT];
    bool no_memory = false, found = false;
    zip_int64_t n = zip_get_num_entries(a->zip, 0);
    for (zip_int64_t i = 0; i < n && !found; i++) {
        const char *name = zip_get_name(a->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        size_t len = name ? strlen(name) : 0;
        if (len > 4 && len - 4 == strlen(entry) && !memcmp(name, entry, len - 4) && !strcmp(name + len - 4, ".npy")) {
            a->index = (zip_uint64_t)i;
            found = true;
        }
    }
    if (found)
        return RQ_OK;
    char **names = n > 0 ? rq_mem_zalloc((size_t)n, sizeof *names) : NULL;
    for (zip_int64_t i = 0; names && i < n; i++)
        if ((names[i] = array_name(a->zip, (zip_uint64_t)i, &no_memory)))
            rq_nearest_try(&near, names[i]);
    rq_status st = rq_fail(err, RQ_NOT_FOUND, "holds no array '%s'%s", entry, rq_nearest_hint(&near, hint));
    for (zip_int64_t i = 0; names && i < n; i++)
        rq_mem_free(names[i]);
    rq_mem_free(names);
    return st;
}

static rq_status fail_read(const rq_npy *a, rq_err *err)
{
    if (a->file)
        return rq_fail(err, RQ_BAD_FILE, "cannot be read: %s", zip_file_strerror(a->file));
    return rq_fail(err, RQ_IO, "cannot be read: %s", errno ? strerror(errno) : "it ends too early");
}

/* n bytes from where file stands; dst NULL: step over them. */
static rq_status inflate(rq_npy *a, void *dst, uint64_t n, rq_err *err)
{
    uint8_t skipped[8192];
    for (uint64_t done = 0; done < n;) {
        uint64_t want = n - done;
        if (!dst && want > sizeof skipped)
            want = sizeof skipped;
        zip_int64_t got = zip_fread(a->file, dst ? (uint8_t *)dst + done : skipped, want);
        if (got <= 0)
            return fail_read(a, err);
        done += (uint64_t)got;
        a->at += (uint64_t)got;
    }
    return RQ_OK;
}

/* Bytes of the file, header included. */
static rq_status read_at(rq_npy *a, uint64_t at, void *dst, size_t n, rq_err *err)
{
    if (a->fd >= 0) {
        for (size_t done = 0; done < n;) {
            errno = 0;
            ssize_t got = pread(a->fd, (char *)dst + done, n - done, (off_t)(at + done));
            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                return fail_read(a, err);
            done += (size_t)got;
        }
        return RQ_OK;
    }
    if (a->file && a->stored && at != a->at) {
        if (zip_fseek(a->file, (zip_int64_t)at, SEEK_SET) == 0)
            a->at = at;
        else
            a->stored = false; /* then step by step */
    }
    if (!a->file || a->at > at) {
        if (a->file)
            zip_fclose(a->file);
        a->at = 0;
        a->file = zip_fopen_index(a->zip, a->index, 0);
        if (!a->file)
            return rq_fail(err, RQ_BAD_FILE, "cannot be read: %s", zip_strerror(a->zip));
    }
    RQ_TRY(inflate(a, NULL, at - a->at, err));
    return inflate(a, dst, n, err);
}

static rq_status stat_entry(rq_npy *a, rq_err *err)
{
    zip_stat_t s;
    if (zip_stat_index(a->zip, a->index, 0, &s) || !(s.valid & ZIP_STAT_SIZE) || !(s.valid & ZIP_STAT_COMP_SIZE) ||
        !(s.valid & ZIP_STAT_COMP_METHOD))
        return rq_fail(err, RQ_BAD_FILE, "has a damaged entry in its archive");
    if ((s.valid & ZIP_STAT_ENCRYPTION_METHOD) && s.encryption_method != ZIP_EM_NONE)
        return rq_fail(err, RQ_UNSUPPORTED, "is encrypted");
    if (s.comp_method != ZIP_CM_STORE && s.comp_method != ZIP_CM_DEFLATE)
        return rq_fail(err, RQ_UNSUPPORTED, "is compressed by a method that numpy does not use");
    a->stored = s.comp_method == ZIP_CM_STORE;
    a->size = s.size;
    if (s.size / 1032 > s.comp_size)
        return rq_fail(err, RQ_BAD_FILE, "claims %" PRIu64 " bytes from %" PRIu64 ", more than deflate can do",
                       (uint64_t)s.size, (uint64_t)s.comp_size);
    return RQ_OK;
}

static rq_status open_file(rq_npy *a, const char *path, const char *entry, rq_err *err)
{
    if (entry) {
        RQ_TRY(open_zip(&a->zip, path, err));
        RQ_TRY(find_entry(a, entry, err));
        return stat_entry(a, err);
    }
    struct stat s;
    a->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe in the folder is refused, not waited for */
    if (a->fd < 0 || fstat(a->fd, &s))
        return rq_fail(err, RQ_IO, "cannot be opened: %s", strerror(errno));
    if (!S_ISREG(s.st_mode))
        return rq_fail(err, RQ_IO, "is not a regular file");
    a->size = (uint64_t)s.st_size;
    return RQ_OK;
}

static rq_status read_header(rq_npy *a, rq_err *err)
{
    uint8_t prefix[RQ_NPY_PREFIX];
    const size_t have = a->size < sizeof prefix ? (size_t)a->size : sizeof prefix;
    uint64_t size;
    char text[RQ_SHAPE_TEXT];
    RQ_TRY(read_at(a, 0, prefix, have, err));
    RQ_TRY(rq_npy_header_size(&size, prefix, have, err));
    if (size > a->size)
        return rq_fail(err, RQ_BAD_FILE, "ends inside its numpy header");
    uint8_t *header = rq_mem_alloc(size, 1);
    if (!header)
        return RQ_NO_MEMORY;
    rq_status st = read_at(a, 0, header, size, err);
    if (!st)
        st = rq_npy_parse(&a->info, header, size, err);
    rq_mem_free(header);
    RQ_TRY(st);
    const uint64_t want = rq_shape_bytes(&a->info.shape, a->info.dtype);
    if (want != a->size - size)
        return rq_fail(err, RQ_BAD_FILE, "has %" PRIu64 " bytes of data; %s %s needs %" PRIu64, a->size - size,
                       rq_dtype_name(a->info.dtype), rq_shape_text(&a->info.shape, text, sizeof text), want);
    return RQ_OK;
}

rq_status rq_npy_open(rq_npy **out, const char *path, const char *entry, rq_err *err)
{
    *out = NULL;
    rq_npy *a = rq_mem_zalloc(1, sizeof *a);
    if (!a)
        return rq_fail(err, RQ_NO_MEMORY, "not enough memory to open it");
    a->fd = -1;
    rq_status st = open_file(a, path, entry, err);
    if (!st)
        st = read_header(a, err);
    if (st)
        rq_npy_close(a);
    else
        *out = a;
    return st;
}

const rq_npy_info *rq_npy_info_of(const rq_npy *a)
{
    return &a->info;
}

rq_status rq_npy_read(rq_npy *a, uint64_t at, void *dst, size_t n, rq_err *err)
{
    return n ? read_at(a, a->info.data_at + at, dst, n, err) : RQ_OK;
}

void rq_npy_close(rq_npy *a)
{
    if (!a)
        return;
    if (a->file)
        zip_fclose(a->file);
    if (a->zip)
        zip_discard(a->zip);
    if (a->fd >= 0)
        close(a->fd);
    rq_mem_free(a);
}

/* ---- the public readers ---- */

rq_status rq_npz_load(rq_tensor *out, const char *path, const char *name, rq_err *err)
{
    rq_npy *a;
    *out = (rq_tensor) { 0 };
    rq_status st = rq_npy_open(&a, path, name, err);
    if (!st) {
        st = rq_tensor_create(out, a->info.dtype, &a->info.shape, false);
        if (st)
            rq_fail(err, st, "not enough memory for %" PRIu64 " bytes", a->size);
        else if ((st = rq_npy_read(a, 0, out->data, out->bytes, err)))
            rq_tensor_release(out);
        rq_npy_close(a);
    }
    if (!st)
        return RQ_OK;
    return name && st != RQ_NOT_FOUND && st != RQ_IO ? rq_fail_in(err, st, "%s: array '%s'", path, name)
                                                     : rq_fail_in(err, st, "%s", path);
}

static rq_status read_array(rq_npy *a, rq_tensor *out, rq_err *err)
{
    RQ_TRY(stat_entry(a, err));
    RQ_TRY(read_header(a, err));
    if (rq_tensor_create(out, a->info.dtype, &a->info.shape, false))
        return rq_fail(err, RQ_NO_MEMORY, "not enough memory for %" PRIu64 " bytes", a->size);
    return rq_npy_read(a, 0, out->data, out->bytes, err);
}

rq_status rq_npz_each(const char *path, rq_npz_fn fn, void *arg, rq_err *err)
{
    zip_t *z;
    rq_status st = open_zip(&z, path, err);
    if (st)
        return rq_fail_in(err, st, "%s", path);
    const zip_int64_t all = zip_get_num_entries(z, 0);
    for (zip_int64_t i = 0; !st && i < all; i++) {
        bool no_memory = false;
        rq_npy a = { .fd = -1, .zip = z, .index = (zip_uint64_t)i };
        rq_tensor t = { 0 };
        char *name = array_name(z, a.index, &no_memory);
        if (no_memory)
            st = rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory for its names", path);
        if (!name)
            continue;
        st = read_array(&a, &t, err);
        if (!st && (st = fn(arg, name, &t)))
            rq_fail(err, st, "%s", rq_status_text(st));
        if (st)
            rq_fail_in(err, st, "%s: array '%s'", path, name);
        if (a.file)
            zip_fclose(a.file);
        rq_tensor_release(&t);
        rq_mem_free(name);
    }
    zip_discard(z);
    return st;
}

rq_status rq_npz_names(const char *path, char ***names, int *n, rq_err *err)
{
    zip_t *z;
    *names = NULL;
    *n = 0;
    rq_status st = open_zip(&z, path, err);
    if (st)
        return rq_fail_in(err, st, "%s", path);
    const zip_int64_t all = zip_get_num_entries(z, 0);
    size_t bytes = 0;
    for (zip_int64_t i = 0; i < all; i++) {
        const char *name = zip_get_name(z, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        size_t len = name ? strlen(name) : 0;
        bytes += sizeof(char *) + len + 1;
    }
    char **list = rq_mem_alloc(bytes + 1, 1);
    char *text = list ? (char *)(list + all) : NULL;
    for (zip_int64_t i = 0; list && i < all; i++) {
        const char *name = zip_get_name(z, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        size_t len = name ? strlen(name) : 0;
        if (len < 5 || strcmp(name + len - 4, ".npy") != 0)
            continue; /* not an array */
        memcpy(text, name, len - 4);
        text[len - 4] = 0;
        list[(*n)++] = text;
        text += len - 3;
    }
    zip_discard(z);
    *names = list;
    return list ? RQ_OK : rq_fail(err, RQ_NO_MEMORY, "%s: not enough memory for its names", path);
}
