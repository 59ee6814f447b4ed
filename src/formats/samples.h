/* formats/samples.h — the arrays of a .npz, a .npy, or a folder of either, or of a program, by name. An array may lie
 * in several files, one part in each, joined along the first axis; at most one part per array is open at a time. */
#ifndef RQ_FORMATS_SAMPLES_H
#define RQ_FORMATS_SAMPLES_H

#include "base/mem.h"
#include "formats/npy.h"

typedef struct rq_samples_part {
    const char *path;
    bool is_npz;
    int64_t first, rows; /* rows first..first+rows-1 of the array */
} rq_samples_part;

typedef struct rq_samples_array {
    const char *name;
    rq_dtype dtype;
    rq_shape shape;   /* of all parts together; rank 0: one number */
    size_t row_bytes; /* of one index of the first axis */
    rq_samples_part *part;
    int n_parts, cap_parts;
    rq_npy *open; /* part number open_part */
    int open_part;
    /* in place of parts: rows first..first+n-1 to dst; n * row_bytes bytes */
    rq_status (*read)(void *source, int64_t first, int64_t n, void *dst, rq_err *err);
    void *source;
} rq_samples_array;

typedef struct rq_samples {
    rq_arena names;
    rq_samples_array *array;
    int n, cap;
    bool is_npy; /* one .npy: its name means nothing */
} rq_samples;

/* *s is overwritten; fine to close after an error. RQ_IO, RQ_BAD_FILE, RQ_BAD_DATA (parts of different shapes or types),
 * RQ_UNSUPPORTED, RQ_NO_MEMORY; sentences begin with the file. */
rq_status rq_samples_open(rq_samples *s, const char *path, rq_err *err);
void rq_samples_close(rq_samples *s);
/* Add an array that is read by a function; `source` must outlive s. shape: all of it, the first axis the samples.
 * RQ_BAD_DATA: the name is there; RQ_BAD_SHAPE, RQ_NO_MEMORY. */
rq_status rq_samples_add(rq_samples *s, const char *name, rq_dtype d, const rq_shape *shape,
                         rq_status (*read)(void *source, int64_t first, int64_t n, void *dst, rq_err *err),
                         void *source, rq_err *err);
/* Is it somebody's reference (its name begins with ref_)? Such an array need not be readable. */
bool rq_samples_is_reference(const char *name);
rq_samples_array *rq_samples_find(rq_samples *s, const char *name);
/* Rows first..first+n-1 of a (rank 0: the number), n * row_bytes bytes to dst. */
rq_status rq_samples_read(rq_samples_array *a, int64_t first, int64_t n, void *dst, rq_err *err);

#endif
