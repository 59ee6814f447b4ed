/* formats/npz_write.c — a .npz through libzip into a file of base/file, which appears only when it is whole. libzip
 * writes to a source of ours; it may go back to complete a header, so the source can seek. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

#include "base/file.h"
#include "base/mem.h"
#include "formats/npy.h"
#include "requant/dataset.h"

typedef struct sink {
    rq_file *file;
    zip_error_t error;
    rq_err *err;
    rq_status st;
} sink;

static zip_int64_t sink_seek(sink *s, void *data, zip_uint64_t len)
{
    zip_source_args_seek_t *a = ZIP_SOURCE_GET_ARGS(zip_source_args_seek_t, data, len, &s->error);
    if (!a || lseek(s->file->fd, (off_t)a->offset, a->whence) < 0) {
        zip_error_set(&s->error, ZIP_ER_SEEK, errno);
        return -1;
    }
    return 0;
}

static zip_int64_t sink_call(void *user, void *data, zip_uint64_t len, zip_source_cmd_t cmd)
{
    sink *s = user;
    switch (cmd) {
    case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT,
                                              ZIP_SOURCE_ERROR, ZIP_SOURCE_FREE, ZIP_SOURCE_SEEK, ZIP_SOURCE_TELL,
                                              ZIP_SOURCE_SUPPORTS, ZIP_SOURCE_REMOVE, ZIP_SOURCE_BEGIN_WRITE,
                                              ZIP_SOURCE_WRITE, ZIP_SOURCE_COMMIT_WRITE, ZIP_SOURCE_ROLLBACK_WRITE,
                                              ZIP_SOURCE_SEEK_WRITE, ZIP_SOURCE_TELL_WRITE, -1);
    case ZIP_SOURCE_STAT: /* as a file that does not exist yet */
        zip_error_set(&s->error, ZIP_ER_READ, ENOENT);
        return -1;
    case ZIP_SOURCE_ERROR:
        return zip_error_to_data(&s->error, data, len);
    case ZIP_SOURCE_WRITE:
        if (!s->st)
            s->st = rq_file_write(s->file, data, len, s->err);
        if (s->st) {
            zip_error_set(&s->error, ZIP_ER_WRITE, EIO);
            return -1;
        }
        return (zip_int64_t)len;
    case ZIP_SOURCE_SEEK_WRITE:
        return sink_seek(s, data, len);
    case ZIP_SOURCE_TELL_WRITE:
        return (zip_int64_t)lseek(s->file->fd, 0, SEEK_CUR);
    case ZIP_SOURCE_BEGIN_WRITE:
    case ZIP_SOURCE_COMMIT_WRITE:
    case ZIP_SOURCE_ROLLBACK_WRITE:
    case ZIP_SOURCE_FREE:
        return 0;
    default:
        zip_error_set(&s->error, ZIP_ER_OPNOTSUPP, 0);
        return -1;
    }
}

/* numpy has no numbers below 8 bits, nor bfloat16 and float8: integers are widened, bits of floats stand as
 * unsigned integers. *own is set when a new tensor was made. */
static rq_status numpy_form(rq_tensor *out, bool *own, const rq_tensor *t, rq_err *err)
{
    const int bits = rq_dtype_bits(t->dtype);
    *own = false;
    *out = *t;
    if (t->dtype == RQ_DTYPE_STRING || t->dtype == RQ_DTYPE_NONE)
        return rq_fail(err, RQ_UNSUPPORTED, "holds %s, which are not written to .npz",
                       t->dtype == RQ_DTYPE_NONE ? "nothing" : "strings");
    if (bits >= 8) {
        if (t->dtype == RQ_DTYPE_BF16)
            out->dtype = RQ_DTYPE_U16;
        else if (rq_dtype_is_float(t->dtype) && bits == 8)
            out->dtype = RQ_DTYPE_U8;
        return RQ_OK;
    }
    const bool is_signed = t->dtype == RQ_DTYPE_S4 || t->dtype == RQ_DTYPE_S2;
    RQ_TRY(rq_tensor_create(out, is_signed ? RQ_DTYPE_S8 : RQ_DTYPE_U8, &t->shape, false));
    *own = true;
    rq_tensor codes = *t;
    if (rq_dtype_is_float(t->dtype))
        codes.dtype = RQ_DTYPE_U4;
    for (int64_t i = 0, n = rq_tensor_count(t); i < n; i++)
        out->u8[i] = (uint8_t)rq_tensor_get_int(&codes, i);
    return RQ_OK;
}

typedef struct entry {
    rq_tensor t;
    bool own;
    uint8_t header[RQ_NPY_WRITTEN];
    zip_buffer_fragment_t part[2];
} entry;

static rq_status add(zip_t *z, entry *e, const rq_feed *a, rq_err *err)
{
    RQ_TRY(numpy_form(&e->t, &e->own, &a->tensor, err));
    const size_t n = rq_npy_write(e->header, e->t.dtype, &e->t.shape);
    if (!n)
        return rq_fail(err, RQ_UNSUPPORTED, "holds %s, for which numpy has no type", rq_dtype_name(a->tensor.dtype));
    e->part[0] = (zip_buffer_fragment_t) { .data = e->header, .length = n };
    e->part[1] = (zip_buffer_fragment_t) { .data = e->t.data, .length = e->t.bytes };
    zip_source_t *src = zip_source_buffer_fragment(z, e->part, e->t.bytes ? 2 : 1, 0);
    char *name = rq_mem_alloc(strlen(a->name) + 5, 1);
    if (!src || !name) {
        zip_source_free(src);
        rq_mem_free(name);
        return RQ_NO_MEMORY;
    }
    sprintf(name, "%s.npy", a->name);
    zip_int64_t i = zip_file_add(z, name, src, ZIP_FL_ENC_UTF_8);
    rq_mem_free(name);
    if (i < 0) {
        zip_source_free(src);
        return rq_fail(err, RQ_BAD_ARG, "cannot be added: %s", zip_strerror(z));
    }
    enum { JANUARY_1_1980 = 1 << 5 | 1 };
    if (zip_set_file_compression(z, (zip_uint64_t)i, ZIP_CM_STORE, 0) ||
        zip_file_set_dostime(z, (zip_uint64_t)i, 0, JANUARY_1_1980, 0))
        return rq_fail(err, RQ_INTERNAL, "cannot be stored: %s", zip_strerror(z));
    return RQ_OK;
}

/* The archive goes to s, which stays the caller's. */
static rq_status write_zip(sink *s, entry *e, const rq_feed *arrays, int n, rq_err *err)
{
    zip_source_t *src = zip_source_function_create(sink_call, s, &s->error);
    zip_t *z = src ? zip_open_from_source(src, ZIP_CREATE | ZIP_TRUNCATE, &s->error) : NULL;
    if (!z) {
        zip_source_free(src);
        return rq_fail(err, RQ_NO_MEMORY, "cannot begin an archive: %s", zip_error_strerror(&s->error));
    }
    rq_status st = RQ_OK;
    for (int i = 0; i < n && !st; i++)
        if ((st = add(z, &e[i], &arrays[i], err)) && st != RQ_NO_MEMORY)
            rq_fail_in(err, st, "array '%s'", arrays[i].name);
    if (!st && zip_close(z)) {
        st = s->st ? s->st : rq_fail(err, RQ_IO, "cannot be written: %s", zip_strerror(z));
        zip_discard(z);
    } else if (st) {
        zip_discard(z);
    }
    return st;
}

rq_status rq_npz_save(const char *path, const rq_feed *arrays, int n, rq_err *err)
{
    rq_file file = { .fd = -1 };
    sink s = { .file = &file, .err = err };
    if (n < 1)
        return rq_fail(err, RQ_BAD_ARG, "%s: no arrays to write", path);
    zip_error_init(&s.error);
    entry *e = rq_mem_zalloc((size_t)n, sizeof *e);
    rq_status st = e ? rq_file_create(&file, path, err) : RQ_NO_MEMORY;
    if (!st)
        st = write_zip(&s, e, arrays, n, err);
    if (!st)
        st = rq_file_commit(&file, err);
    rq_file_abandon(&file);
    for (int i = 0; e && i < n; i++)
        if (e[i].own)
            rq_tensor_release(&e[i].t);
    rq_mem_free(e);
    zip_error_fini(&s.error);
    if (st == RQ_NO_MEMORY)
        rq_fail(err, st, "%s: not enough memory to write it", path);
    else if (st && err && strncmp(err->text, path, strlen(path)) != 0)
        rq_fail_in(err, st, "%s", path);
    return st;
}
