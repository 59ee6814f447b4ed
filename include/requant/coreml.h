/* requant/coreml.h — Core ML packages (.mlpackage folders, and zips of them): open one, say what is in it, write it. */
#ifndef REQUANT_COREML_H
#define REQUANT_COREML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <requant/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A model: an ML program of one or more functions, what it says of its inputs and outputs, and its weights, which stay in the
 * mapped file until they are asked for. */
typedef struct rq_coreml rq_coreml;

/* Is there a folder with a Manifest.json or a name that ends in .mlpackage, or a file that begins as a zip does? Looks no
 * further. */
RQ_API bool rq_coreml_is(const char *path);

/* Open a package, or a zip of one, and check all of it but the numbers. *out is yours until rq_coreml_close. Sentences begin
 * with the path. RQ_BAD_FILE: damaged; RQ_UNSUPPORTED: no ML program, or of a kind that is not known; RQ_IO, RQ_NO_MEMORY;
 * then *out is NULL. */
RQ_API rq_status rq_coreml_open(rq_coreml **out, const char *path, rq_err *err);

/* Write as a package (a folder), whole or not at all, over another package or an empty folder or where nothing is. A model
 * that nobody changed since it was opened is written byte for byte, files requant does not know included.
 * RQ_IO, RQ_NO_MEMORY. */
RQ_API rq_status rq_coreml_save(const rq_coreml *m, const char *path, rq_err *err);

/* What is in it, for people: functions, inputs (images with their scale and bias), outputs, labels, operators, weights, metadata;
 * with `all` a line for every weight. At most n bytes with the NUL go to buf; returns the length of all, or -1 when
 * memory was out. Threads: any, while nobody changes m. */
RQ_API int64_t rq_coreml_text(const rq_coreml *m, bool all, char *buf, size_t n);
/* The same as JSON, every weight included. */
RQ_API int64_t rq_coreml_json(const rq_coreml *m, char *buf, size_t n);

/* NULL is fine. */
RQ_API void rq_coreml_close(rq_coreml *m);

#ifdef __cplusplus
}
#endif
#endif
