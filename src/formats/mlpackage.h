/* formats/mlpackage.h — Core ML packages as files: a folder (or a zip of one) with a manifest, read without ever leaving it,
 * and written whole or not at all. What the model says is none of its business (coreml.h). See docs/coreml-package.md. */
#ifndef RQ_FORMATS_MLPACKAGE_H
#define RQ_FORMATS_MLPACKAGE_H

#include "base/file.h"
#include "base/mem.h"

/* An entry of the manifest. Strings belong to the package. */
typedef struct rq_mlpackage_item {
    const char *id; /* 36 characters, any text when read */
    const char *author, *description, *name;
    const char *path; /* below the package: "Data/com.apple.CoreML/model.mlmodel" */
} rq_mlpackage_item;

/* A file or folder below the package. */
typedef struct rq_mlpackage_entry {
    const char *path;                                                         /* forward slashes, no "." or ".." */
    enum { RQ_MLPACKAGE_FILE, RQ_MLPACKAGE_FOLDER, RQ_MLPACKAGE_OTHER } kind; /* OTHER: a link, a pipe: never opened */
    uint64_t index;                                                           /* in the zip */
} rq_mlpackage_entry;

typedef struct rq_mlpackage {
    char *path;      /* as given */
    struct zip *zip; /* NULL: a folder */
    rq_mlpackage_entry *entries;
    int n_entries, cap_entries;
    rq_mlpackage_item *items;
    int n_items, cap_items;
    int root; /* the item that is the model */
    rq_arena arena;
} rq_mlpackage;

/* Is this a folder with a Manifest.json or a name that ends in .mlpackage, or a file that begins as a zip does? */
bool rq_mlpackage_is(const char *path);

/* Open a package and check its manifest: version, all keys, paths that exist inside, (name, author) once, the root.
 * Sentences begin with the package's path. RQ_BAD_FILE, RQ_IO, RQ_NO_MEMORY. */
rq_status rq_mlpackage_open(rq_mlpackage **out, const char *path, rq_err *err);
void rq_mlpackage_close(rq_mlpackage *p); /* NULL is fine */
/* The item of that name by com.apple.CoreML; NULL: there is none. */
const rq_mlpackage_item *rq_mlpackage_find(const rq_mlpackage *p, const char *name);
/* What lies at this path; NULL: nothing. */
const rq_mlpackage_entry *rq_mlpackage_entry_at(const rq_mlpackage *p, const char *path);
/* Map the file `path` (as in an item or entry); unmap with rq_file_unmap. A file in a zip is unpacked to a nameless
 * temporary file first, so memory stays bounded. */
rq_status rq_mlpackage_map(const rq_mlpackage *p, rq_map *out, const char *path, rq_err *err);

/* ---- mlpackage_write.c ---- */

/* A package being written: a folder with a temporary name beside the final one, which commit puts in place of what is
 * there (only another package, or an empty folder); abandon (fine after commit, fine on zeroed) removes it, and so does a
 * signal where rq_file_guard_signals was called. */
typedef struct rq_mlpackage_writer {
    char *path, *tmp;
    rq_arena arena;
    char **paths; /* of what was written, or is not to be there: copy_rest leaves them alone */
    int n_paths, cap_paths;
    char **made; /* real paths that a signal removes */
    int n_made, cap_made;
} rq_mlpackage_writer;

/* Would create take this path? Changes nothing. RQ_IO, RQ_NO_MEMORY. */
rq_status rq_mlpackage_check_output(const char *path, rq_err *err);
/* RQ_IO: the folder cannot be made, or something else than a package stands at `path`. */
rq_status rq_mlpackage_create(rq_mlpackage_writer *w, const char *path, rq_err *err);
/* Open a file below the package (folders are made as needed) for rq_file_write; end with file_end, or rq_file_abandon. */
rq_status rq_mlpackage_file_begin(rq_mlpackage_writer *w, const char *path, rq_file *f, rq_err *err);
rq_status rq_mlpackage_file_end(rq_mlpackage_writer *w, const char *path, rq_file *f, rq_err *err);
rq_status rq_mlpackage_file_all(rq_mlpackage_writer *w, const char *path, const void *data, size_t n, rq_err *err);
/* A folder, which may stay empty. */
rq_status rq_mlpackage_folder(rq_mlpackage_writer *w, const char *path, rq_err *err);
/* copy_rest is not to copy this. */
rq_status rq_mlpackage_omit(rq_mlpackage_writer *w, const char *path, rq_err *err);
/* Copy, byte by byte, every file and folder of src that was neither written nor omitted. */
rq_status rq_mlpackage_copy_rest(rq_mlpackage_writer *w, const rq_mlpackage *src, rq_err *err);
/* Manifest.json of these items. An item without id gets one made from `seed` and its name, so that the same package is
 * written with the same bytes. */
rq_status rq_mlpackage_manifest(rq_mlpackage_writer *w, const rq_mlpackage_item *items, int n, int root, uint64_t seed,
                                rq_err *err);
rq_status rq_mlpackage_commit(rq_mlpackage_writer *w, rq_err *err);
void rq_mlpackage_abandon(rq_mlpackage_writer *w);

#endif
