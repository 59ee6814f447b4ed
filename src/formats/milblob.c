/* formats/milblob.c — see milblob.h. Every number of a record is checked against the file before it is used; writers of
 * Core ML before iOS 18 left the end of a record as memory happened to be, so nothing is asked of it but where packed
 * types need it. */
#include "formats/milblob.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { VERSION = 2 };
static const uint32_t SENTINEL = 0xDEADBEEF;

static uint32_t u32_at(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t u64_at(const uint8_t *p)
{
    return u32_at(p) | (uint64_t)u32_at(p + 4) << 32;
}

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void put_u64(uint8_t *p, uint64_t v)
{
    put_u32(p, (uint32_t)v);
    put_u32(p + 4, (uint32_t)(v >> 32));
}

static uint64_t align(uint64_t n)
{
    return (n + RQ_MILBLOB_ALIGN - 1) & ~(uint64_t)(RQ_MILBLOB_ALIGN - 1);
}

/* ---- reading ---- */

rq_status rq_milblob_count(uint32_t *n, const uint8_t *file, size_t size, rq_err *err)
{
    if (size < RQ_MILBLOB_ALIGN)
        return rq_fail(err, RQ_BAD_FILE, "the weight file has %zu bytes, its header alone has 64", size);
    if (u32_at(file + 4) != VERSION)
        return rq_fail(err, RQ_BAD_FILE, "the weight file has version %" PRIu32 ", expected 2", u32_at(file + 4));
    *n = u32_at(file);
    return RQ_OK;
}

/* Elements in `bytes` bytes of which `padding` bits are unused. */
static rq_status count_elements(rq_milblob *b, uint64_t padding, uint64_t offset, rq_err *err)
{
    const uint64_t bits = (uint64_t)b->type->bits;
    if (bits >= 8)
        padding = 0; /* was never written for these */
    const bool odd = (bits == 1 || bits == 2 || bits == 4) && padding % bits;
    if (b->bytes > (uint64_t)1 << 57 || padding > 7 || padding > b->bytes * 8 || odd || (b->bytes * 8 - padding) % bits)
        return rq_fail(err, RQ_BAD_FILE,
                       "the weights at %" PRIu64 " have %" PRIu64 " bytes and %" PRIu64
                       " unused bits, which are no whole elements of %s",
                       offset, b->bytes, padding, b->type->name);
    b->n = (b->bytes * 8 - padding) / bits;
    return RQ_OK;
}

rq_status rq_milblob_read(rq_milblob *out, const uint8_t *file, size_t size, uint64_t offset, rq_err *err)
{
    uint32_t n;
    RQ_TRY(rq_milblob_count(&n, file, size, err));
    if (offset < RQ_MILBLOB_ALIGN || offset % RQ_MILBLOB_ALIGN)
        return rq_fail(err, RQ_BAD_FILE, "weights at %" PRIu64 " of the weight file: expected a multiple of 64 past 0",
                       offset);
    if (offset > size || size - offset < RQ_MILBLOB_ALIGN)
        return rq_fail(err, RQ_BAD_FILE, "weights at %" PRIu64 " of the weight file, which has %zu bytes", offset,
                       size);
    const uint8_t *record = file + offset;
    if (u32_at(record) != SENTINEL)
        return rq_fail(err, RQ_BAD_FILE,
                       "no weights at %" PRIu64 " of the weight file: found 0x%08" PRIX32
                       " where a record has 0xDEADBEEF",
                       offset, u32_at(record));
    rq_milblob b = { .type = rq_mil_dtype_of_blob(u32_at(record + 4)), .bytes = u64_at(record + 8) };
    const uint64_t at = u64_at(record + 16);
    if (!b.type)
        return rq_fail(err, RQ_BAD_FILE, "the weights at %" PRIu64 " have type %" PRIu32 ", which does not exist",
                       offset, u32_at(record + 4));
    if (at > size || b.bytes > size - at || at % RQ_MILBLOB_ALIGN || at < RQ_MILBLOB_ALIGN)
        return rq_fail(err, RQ_BAD_FILE,
                       "the weights at %" PRIu64 " have %" PRIu64 " bytes at %" PRIu64 ", the weight file has %zu",
                       offset, b.bytes, at, size);
    RQ_TRY(count_elements(&b, u64_at(record + 24), offset, err));
    b.data = file + at;
    b.next = align(at + b.bytes);
    *out = b;
    return RQ_OK;
}

/* ---- writing ---- */

static rq_status put(rq_milblob_writer *w, const void *data, size_t n, rq_err *err)
{
    RQ_TRY(rq_file_write(w->file, data, n, err));
    w->at += n;
    return RQ_OK;
}

static rq_status put_zeros(rq_milblob_writer *w, uint64_t upto, rq_err *err)
{
    static const uint8_t zeros[RQ_MILBLOB_ALIGN];
    return put(w, zeros, (size_t)(upto - w->at), err);
}

rq_status rq_milblob_open(rq_milblob_writer *w, rq_file *file, rq_err *err)
{
    uint8_t header[RQ_MILBLOB_ALIGN] = { 0 };
    *w = (rq_milblob_writer) { .file = file };
    put_u32(header + 4, VERSION);
    return put(w, header, sizeof header, err);
}

rq_status rq_milblob_begin(rq_milblob_writer *w, const rq_mil_dtype *type, uint64_t n, uint64_t *offset, rq_err *err)
{
    if (!type->blob)
        return rq_fail(err, RQ_UNSUPPORTED, "%s has no place in a weight file", type->name);
    RQ_TRY(put_zeros(w, align(w->at), err));
    uint8_t record[RQ_MILBLOB_ALIGN] = { 0 };
    const uint64_t bytes = rq_mil_dtype_bytes(type, n);
    *offset = w->at;
    put_u32(record, SENTINEL);
    put_u32(record + 4, (uint32_t)type->blob);
    put_u64(record + 8, bytes);
    put_u64(record + 16, w->at + sizeof record);
    put_u64(record + 24, type->bits < 8 ? bytes * 8 - n * (uint64_t)type->bits : 0);
    RQ_TRY(put(w, record, sizeof record, err));
    w->left = bytes;
    w->count++;
    return RQ_OK;
}

rq_status rq_milblob_write(rq_milblob_writer *w, const void *data, size_t bytes, rq_err *err)
{
    if (bytes > w->left)
        return rq_fail(err, RQ_INTERNAL, "%zu bytes of weights, where %" PRIu64 " were left to write", bytes, w->left);
    if (w->file) {
        RQ_TRY(put(w, data, bytes, err));
    } else if (bytes) {
        memcpy(w->memory, data, bytes);
        w->memory += bytes;
    }
    w->left -= bytes;
    return RQ_OK;
}

rq_status rq_milblob_end(rq_milblob_writer *w, rq_err *err)
{
    return w->left ? rq_fail(err, RQ_INTERNAL, "%" PRIu64 " bytes of weights were not written", w->left) : RQ_OK;
}

rq_status rq_milblob_close(rq_milblob_writer *w, rq_err *err)
{
    uint8_t count[4];
    put_u32(count, w->count);
    for (size_t done = 0; done < sizeof count;) {
        const ssize_t did = pwrite(w->file->fd, count + done, sizeof count - done, (off_t)done);
        if (did < 0 && errno == EINTR)
            continue;
        if (did <= 0)
            return rq_fail(err, RQ_IO, "%s: cannot write: %s", w->file->name, strerror(errno));
        done += (size_t)did;
    }
    return RQ_OK;
}
