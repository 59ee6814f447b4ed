/* formats/milblob.h — weight files of Core ML packages (weight.bin, version 2): reading in place, writing as a stream.
 *
 *   0   header, 64 bytes: u32 count of blobs, u32 version (2), zeros
 *   64  record, 64 bytes: u32 sentinel 0xDEADBEEF, u32 type, u64 bytes, u64 where the data are, u64 unused bits at the end
 *   128 data; the next record begins at the next multiple of 64
 *
 * All numbers little-endian. A program names a blob by the place of its record. Nothing is copied: what is read are the
 * caller's bytes, usually a mapped file, of any size. */
#ifndef RQ_FORMATS_MILBLOB_H
#define RQ_FORMATS_MILBLOB_H

#include "base/file.h"
#include "formats/mil_dtype.h"

enum { RQ_MILBLOB_ALIGN = 64 };

typedef struct rq_milblob {
    const rq_mil_dtype *type;
    const uint8_t *data; /* packed where the type has less than 8 bits */
    uint64_t bytes;
    uint64_t n;    /* elements */
    uint64_t next; /* where the next record would begin, in order of the file */
} rq_milblob;

/* The header: how many blobs the file says it has. RQ_BAD_FILE: too short, or another version. */
rq_status rq_milblob_count(uint32_t *n, const uint8_t *file, size_t size, rq_err *err);
/* The blob whose record is at `offset`. RQ_BAD_FILE: past the end, not aligned, no sentinel, an unknown type, data
 * that do not fit the file, or a number of bytes that is no number of elements. */
rq_status rq_milblob_read(rq_milblob *out, const uint8_t *file, size_t size, uint64_t offset, rq_err *err);

/* Writing: open on a file made by rq_file_create, then for each blob begin, write (in as many pieces as you like), end;
 * close writes the count. The caller commits or abandons the file. */
typedef struct rq_milblob_writer {
    rq_file *file; /* NULL: rq_milblob_write goes to `memory`, and nothing else is called */
    uint8_t *memory;
    uint64_t at, left; /* bytes so far; bytes the open blob still wants */
    uint32_t count;
} rq_milblob_writer;

rq_status rq_milblob_open(rq_milblob_writer *w, rq_file *file, rq_err *err);
/* *offset is what the program refers to. RQ_UNSUPPORTED: the type has no place in weight files. */
rq_status rq_milblob_begin(rq_milblob_writer *w, const rq_mil_dtype *type, uint64_t n, uint64_t *offset, rq_err *err);
rq_status rq_milblob_write(rq_milblob_writer *w, const void *data, size_t bytes, rq_err *err);
rq_status rq_milblob_end(rq_milblob_writer *w,
                         rq_err *err); /* RQ_INTERNAL: other than the bytes announced were written */
rq_status rq_milblob_close(rq_milblob_writer *w, rq_err *err);

#endif
