/* base/file.h — files read by mapping, written whole or not at all. The rest is public: requant/file.h. */
#ifndef RQ_BASE_FILE_H
#define RQ_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "requant/file.h"

/* A read-only view of a whole file. data is never NULL (an empty file has a valid pointer and size 0). */
typedef struct rq_map {
    const uint8_t *data;
    size_t size;
} rq_map;

/* Map a regular file. RQ_IO: the sentence names the path and the system's reason. */
rq_status rq_file_map(rq_map *out, const char *path, rq_err *err);
void rq_file_unmap(rq_map *m);
/* These bytes of a mapped file were used and will hardly be asked for again: let their memory go. They can still be read. */
void rq_file_forget(const void *data, size_t n);

/* An output that becomes visible only when complete: written to a temporary name in the folder of
 * `path`, renamed by rq_file_commit. rq_file_abandon (fine after commit, fine on zeroed) removes what
 * was written; so does a SIGINT or SIGTERM while one is open, when rq_file_guard_signals was called. */
typedef struct rq_file {
    int fd;     /* valid while tmp is set */
    char *path; /* final name, symbolic links followed */
    char *name; /* as the caller gave it: what errors say */
    char *tmp;  /* temporary name; "" for a pipe or device, written as it stands; NULL when nothing is open */
    int64_t written, begun; /* bytes of it; those that the system was asked to take to the disk */
} rq_file;
rq_status rq_file_create(rq_file *f, const char *path, rq_err *err);
rq_status rq_file_write(rq_file *f, const void *data, size_t n, rq_err *err);
rq_status rq_file_commit(rq_file *f, rq_err *err);
void rq_file_abandon(rq_file *f);

#endif
