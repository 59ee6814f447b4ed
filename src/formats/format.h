/* formats/format.h — one model format, whole: a row of table.c. */
#ifndef RQ_FORMATS_FORMAT_H
#define RQ_FORMATS_FORMAT_H

#include <stdbool.h>

#include "requant/graph.h"

typedef struct rq_format {
    const char *name;   /* "onnx" */
    const char *suffix; /* ".onnx" */
    /* Do these bytes look like one? Looks at the beginning only. */
    bool (*sniff)(const uint8_t *data, size_t size);
    /* data is the whole file and goes away after the call; folder holds the files it may refer to (NULL: none). NULL: it is no file. */
    rq_status (*read)(rq_graph **out, const uint8_t *data, size_t size, const char *folder, rq_err *err);
    /* Could a model be written there? NULL: as any file. */
    rq_status (*check_output)(const char *path, rq_err *err);
    /* Whole or not at all. */
    rq_status (*write)(const rq_graph *g, const char *path, const rq_save_cfg *cfg, rq_err *err);
} rq_format;

/* ---- table.c ---- */
const rq_format *rq_format_at(int i); /* NULL past the last */

#endif
