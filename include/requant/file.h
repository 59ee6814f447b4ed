/* requant/file.h — files written whole or not at all, as every writer of the library does it. */
#ifndef REQUANT_FILE_H
#define REQUANT_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include <requant/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* All of data to path, whole or not at all: an existing file is replaced only by a complete one. A pipe or device
 * is written as it stands. RQ_IO: the sentence names the path and the system's reason. */
RQ_API rq_status rq_file_write_all(const char *path, const void *data, size_t n, rq_err *err);

/* Could path be written: its folder exists, and it is no folder itself? Changes nothing. For programs that
 * compute long before they write. RQ_IO. */
RQ_API rq_status rq_file_check_output(const char *path, rq_err *err);

/* Install handlers that remove what is half-written on SIGINT, SIGTERM and the like, then die of the signal. For
 * programs; the library itself never touches signals. */
RQ_API void rq_file_guard_signals(void);

/* Count this file, too, as half-written from now on (`on`), or no longer. path must live as long. */
RQ_API void rq_file_guard(char *path, bool on);

/* Do both paths name the same existing file? */
RQ_API bool rq_file_same(const char *a, const char *b);

/* Peak resident memory of this process in MiB. */
RQ_API double rq_file_peak_rss_mb(void);

#ifdef __cplusplus
}
#endif
#endif
