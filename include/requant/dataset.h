/* requant/dataset.h — samples for a model: .npz, .npy, a folder of either, a folder of JPEG and PNG, or a program's own
 * arrays, read a batch at a time. A dataset is for one thread at a time; different ones are independent. */
#ifndef REQUANT_DATASET_H
#define REQUANT_DATASET_H

#include <requant/graph.h>
#include <requant/image.h>
#include <requant/session.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_dataset rq_dataset;

typedef struct rq_dim_value {
    const char *name; /* of a dynamic axis */
    int64_t size;
} rq_dim_value;

typedef struct rq_dataset_cfg {
    int64_t batch;            /* samples per batch; 0: the model's own where it is fixed, else 16 */
    const rq_dim_value *dims; /* sizes the caller chose for dynamic axes */
    int n_dims;
    const rq_preprocess *images; /* how a folder of pictures is read; NULL: such a folder is an error that says so */
} rq_dataset_cfg;

/* Open `path` and match its arrays with the inputs of g (by name; a single array fits a single input).
 * An array with the rank of its input is cut along its first axis into batches; one with one axis more holds a whole
 * feed per row. `labels` and `target` are kept aside; names that begin with ref_ are ignored; any other unknown name is an
 * error that names the nearest input. In a folder of pictures each is a sample; where they lie in sub-folders, these are
 * classes and become labels: their names where all are whole numbers, otherwise numbered in the order of their names (bytes). What cfg->images leaves open follows the model's
 * input: its size and layout. cfg NULL: defaults. Values are checked as they are read: NaN is an error.
 * RQ_IO, RQ_BAD_FILE, RQ_BAD_DATA; the sentence says which array, what was found, what was expected. */
RQ_API rq_status rq_dataset_open(rq_dataset **out, const char *path, const rq_graph *g, const rq_dataset_cfg *cfg,
                                 rq_err *err);

/* Samples of the program itself: an array per input (and `labels`), in memory or brought by a function as they are needed. */
typedef struct rq_dataset_array {
    const char *name;
    rq_dtype dtype;   /* of whole bytes; converted to the input's as rq_dataset_open does */
    rq_shape shape;   /* the first axis: samples; rank 0: one number for all */
    const void *data; /* row-major; must outlive the dataset. NULL: */
    /* write rows first..first+n-1 to dst. Called while reading, from the caller's thread; may be asked for any row again */
    rq_status (*read)(void *arg, int64_t first, int64_t n, void *dst, rq_err *err);
    void *arg; /* must outlive the dataset */
} rq_dataset_array;
/* The same as rq_dataset_open from arrays[0..n), which is copied, its data and names are not.
 * RQ_BAD_ARG: an array has neither data nor read; RQ_BAD_DATA; RQ_BAD_SHAPE; RQ_NO_MEMORY. */
RQ_API rq_status rq_dataset_create(rq_dataset **out, const rq_dataset_array *arrays, int n, const rq_graph *g,
                                   const rq_dataset_cfg *cfg, rq_err *err);
RQ_API void rq_dataset_close(rq_dataset *d);

/* Sub-folders that stand for classes; 0: the samples are no pictures, or have none. */
RQ_API int rq_dataset_classes(const rq_dataset *d);
RQ_API int64_t rq_dataset_count(const rq_dataset *d); /* samples */
/* Samples at the end that do not fill a batch of a model whose batch is fixed; not in the count. */
RQ_API int64_t rq_dataset_left_out(const rq_dataset *d);
RQ_API int64_t rq_dataset_batch_size(const rq_dataset *d); /* 1 when each sample is a whole feed */
/* Samples that must go together: the batch that the model or rq_dataset_cfg.dims fixes, else 1. */
RQ_API int64_t rq_dataset_unit(const rq_dataset *d);
RQ_API bool rq_dataset_whole_feeds(const rq_dataset *d); /* a row is a whole feed: outputs are stacked, not joined */
RQ_API const char *rq_dataset_path(const rq_dataset *d);
/* Labels [count] as int64 (owned by d), or NULL. */
RQ_API const int64_t *rq_dataset_labels(const rq_dataset *d);

/* Array `target`: what training wants the outputs to be, a row per sample, where whole numbers as labels do not say it. */
RQ_API bool rq_dataset_has_target(const rq_dataset *d);
/* Its rows, as f32 or (integers) s64: a view of d's memory that holds until the next call of this. Errors as rq_dataset_read;
 * RQ_NOT_FOUND: there is none. */
RQ_API rq_status rq_dataset_read_target(rq_dataset *d, const int64_t *rows, int64_t n, rq_tensor *out, rq_err *err);

/* Draw count samples into two parts, both ascending: `judge` (`share` of them, at least one group) and `calibrate`, the rest or
 * `n` of the rest when n > 0. Samples go together in groups of `unit` (rq_dataset_unit, or more);
 * what does not fill a group is left out. share 0: none, all calibrate. The same seed gives the same
 * parts on every machine. The arrays are yours: rq_free. RQ_BAD_DATA: too few samples, said with the numbers. */
typedef struct rq_split {
    int64_t *calibrate, *judge;
    int64_t n_calibrate, n_judge;
} rq_split;
RQ_API rq_status rq_dataset_split(rq_split *out, const rq_dataset *d, uint64_t seed, double share, int64_t n,
                                  int64_t unit, rq_err *err);
RQ_API void rq_split_release(rq_split *s);

/* Read samples rows[0..n) (ascending; n <= batch size) as feeds[*n_feeds], owned by d and valid until the next call.
 * A model with a fixed batch larger than n is an error (RQ_BAD_DATA) unless n is that batch. */
RQ_API rq_status rq_dataset_read(rq_dataset *d, const int64_t *rows, int64_t n, const rq_feed **feeds, int *n_feeds,
                                 rq_err *err);

/* Arrays by name, written to path (.npz, stored not deflated), whole or not at all. */
RQ_API rq_status rq_npz_save(const char *path, const rq_feed *arrays, int n, rq_err *err);
/* Read one array of a .npz (or a .npy: name NULL). Yours to release. RQ_NOT_FOUND names what is there. */
RQ_API rq_status rq_npz_load(rq_tensor *out, const char *path, const char *name, rq_err *err);
/* Names in a .npz: *names is one block to give back with rq_free. */
RQ_API rq_status rq_npz_names(const char *path, char ***names, int *n, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
