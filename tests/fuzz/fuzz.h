/* tests/fuzz/fuzz.h — what the fuzz targets share. A target is one reader: LLVMFuzzerTestOneInput gets any bytes as its
 * file. No crash, no leak, a sentence with every error. Each is built twice: with libFuzzer (cmake -DRQ_FUZZ=ON with
 * clang), and with replay.c, which runs the files of a corpus in `make test`. */
#ifndef RQ_FUZZ_H
#define RQ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "requant/requant.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void fuzz_wrong(const char *what, const char *more)
{
    fprintf(stderr, "%s: %s\n", what, more);
    abort();
}

/* A failure must have said why. */
static inline rq_status fuzz_status(rq_status st, const rq_err *err, const char *what)
{
    if (st && st != RQ_NO_MEMORY && !err->text[0])
        fuzz_wrong(what, "an error without a sentence");
    if (st == RQ_INTERNAL)
        fuzz_wrong(what, err->text);
    return st;
}

/* The bytes as a file of this process, with a suffix. */
static inline const char *fuzz_file(char path[64], const uint8_t *data, size_t size, const char *suffix)
{
    snprintf(path, 64, "/tmp/requant-fuzz-%ld.%s", (long)getpid(), suffix);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f))
        fuzz_wrong("cannot write", path);
    return path;
}

static inline void fuzz_nothing_left(size_t live)
{
    if (rq_mem_live() != live)
        fuzz_wrong("memory", "not all was given back");
}

#endif
