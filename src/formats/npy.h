/* formats/npy.h — numpy arrays in files: a .npy, or an entry of a .npz (a zip of .npy). */
#ifndef RQ_FORMATS_NPY_H
#define RQ_FORMATS_NPY_H

#include "requant/tensor.h"

typedef struct rq_npy_info {
    rq_dtype dtype;
    rq_shape shape;   /* C order; at most RQ_MAX_RANK axes */
    uint64_t data_at; /* bytes before the data */
} rq_npy_info;

/* ---- npy.c ---- */

enum { RQ_NPY_PREFIX = 12, RQ_NPY_MAX_HEADER = 65536 };
/* Bytes of the whole header, from its first RQ_NPY_PREFIX bytes (n: how many there are).
 * RQ_BAD_FILE: not an array, or of a version not known. */
rq_status rq_npy_header_size(uint64_t *out, const uint8_t *p, size_t n, rq_err *err);
/* The header itself. RQ_BAD_FILE; RQ_UNSUPPORTED: strings, objects, records, big-endian or Fortran-ordered numbers. */
rq_status rq_npy_parse(rq_npy_info *out, const uint8_t *p, size_t n, rq_err *err);
/* A header for this tensor; returns its size (a multiple of 64), 0 when numpy has no such type. */
enum { RQ_NPY_WRITTEN = 384 };
size_t rq_npy_write(uint8_t buf[RQ_NPY_WRITTEN], rq_dtype d, const rq_shape *shape);

/* ---- npz.c ---- */

/* An array whose data is read piece by piece. */
typedef struct rq_npy rq_npy;
/* entry NULL: path is a .npy; else it is a .npz and entry a name in it, without ".npy". Checks that the file has as
 * many bytes as the header says. RQ_IO, RQ_BAD_FILE, RQ_UNSUPPORTED, RQ_NOT_FOUND; sentences do not name the file. */
rq_status rq_npy_open(rq_npy **out, const char *path, const char *entry, rq_err *err);
const rq_npy_info *rq_npy_info_of(const rq_npy *a);
/* Bytes at..at+n-1 of the data. Cheap at any place of a stored array; a deflated one is inflated up to there, from the
 * start when going back. */
rq_status rq_npy_read(rq_npy *a, uint64_t at, void *dst, size_t n, rq_err *err);
void rq_npy_close(rq_npy *a);

/* fn for each array of a .npz in the order of the file, which is opened once; t lives during the call. The first that is not RQ_OK ends it. */
typedef rq_status (*rq_npz_fn)(void *arg, const char *name, const rq_tensor *t);
rq_status rq_npz_each(const char *path, rq_npz_fn fn, void *arg, rq_err *err);

#endif
