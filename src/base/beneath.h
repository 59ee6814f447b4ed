/* base/beneath.h — files named by other files: opened only when they really lie below a folder. */
#ifndef RQ_BASE_BENEATH_H
#define RQ_BASE_BENEATH_H

#include "base/file.h"

/* Map the regular file `path` below `folder` ("": the current one). path is relative, with forward slashes; "." and
 * ".." are resolved in its text and may not climb above the folder; no part of it may be a symbolic link. The
 * folder itself may be anything. Give back with rq_file_unmap.
 * RQ_BAD_FILE: the path is not allowed; RQ_IO: it cannot be opened. */
rq_status rq_beneath_map(rq_map *out, const char *folder, const char *path, rq_err *err);

#endif
