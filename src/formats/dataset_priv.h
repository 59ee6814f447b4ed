/* formats/dataset_priv.h — a dataset while it is opened and read. dataset_bind.c settles which array feeds which input and how
 * samples are cut; dataset.c finds the arrays and reads them. */
#ifndef RQ_FORMATS_DATASET_PRIV_H
#define RQ_FORMATS_DATASET_PRIV_H

#include "formats/images.h"
#include "formats/samples.h"
#include "graph/graph.h"
#include "requant/dataset.h"

typedef struct rq_dataset_binding {
    const char *name; /* of the input */
    rq_samples_array *array;
    rq_dtype dtype; /* of the input */
    rq_shape row;   /* of the array, without its first axis */
    bool constant;  /* one number for every feed */
    void *buf;      /* of dtype, room for `room` rows */
    void *raw;      /* of the array's type, where it differs */
    int64_t room;
} rq_dataset_binding;

struct rq_dataset {
    char *path;
    rq_samples samples;
    rq_dataset_binding *bind;
    rq_feed *feeds;
    int n_bind;
    int64_t count, batch, left_out;
    bool whole, fixed;
    int64_t *labels;
    rq_dataset_binding target; /* array NULL: there is none */
    rq_images images;          /* a folder of pictures; n 0: none */
    rq_dataset_array *given;   /* [n_given] of rq_dataset_create */
    int n_given;
};

/* What opening needs and reading does not. */
typedef struct rq_dataset_opening {
    rq_dataset *d;
    const rq_graph *g;
    const rq_dataset_cfg *cfg;
    int64_t *symbol; /* size of each symbol, or 0 */
    int n_symbols;
    rq_err *err;
} rq_dataset_opening;

/* Arrays, labels and sizes, in this order. */
rq_status rq_dataset_take_sizes(rq_dataset_opening *o);
rq_status rq_dataset_bind(rq_dataset_opening *o);

/* n elements of type `from` at src to type `to` at dst; the index of the first that does not fit, or -1. */
int64_t rq_dataset_convert(void *dst, rq_dtype to, const void *src, rq_dtype from, int64_t n);
/* May the input be left out? */
bool rq_dataset_has_default(const rq_graph *g, int input);

#endif
