/* algo/report_priv.h — what the files of the report share: sums that never keep samples, top-1, and the walk over
 * the samples in batches. */
#ifndef RQ_ALGO_REPORT_PRIV_H
#define RQ_ALGO_REPORT_PRIV_H

#include "requant/report.h"

struct json_t;

/* ---- report_sums.c ---- */

/* Two signals compared, streaming. Pairs with a number that is not finite are counted, never folded. */
typedef struct rq_sums {
    double aa, bb, ab, ee; /* of a^2, b^2, a b, (a - b)^2 */
    int64_t n, nonfinite;
    int64_t lost; /* of nonfinite: those where a is finite and b is not */
} rq_sums;
/* a is the original. RQ_BAD_SHAPE: element counts differ. Any element types. */
rq_status rq_sums_add(rq_sums *s, const rq_tensor *a, const rq_tensor *b);
void rq_sums_add_one(rq_sums *s, double a, double b);
void rq_sums_add_f32(rq_sums *s, const float *a, const float *b, int64_t n); /* many times as fast as one by one */
double rq_sums_sqnr_db(const rq_sums *s);                                    /* -200..200; NaN when nothing was added */
double rq_sums_cosine(const rq_sums *s); /* NaN when nothing was added; 1 for two silent signals */

/* Index of the largest of n elements from `first`; n == 1: is it above one half (a probability) ? 1 : 0. NaN never
 * wins; -1: all are NaN, which is no answer, so it is not the same as any. */
int64_t rq_sums_top1(const rq_tensor *t, int64_t first, int64_t n);

/* 95 % interval of k successes in n (Wilson 1927); NaN for n == 0. */
void rq_sums_wilson(int64_t k, int64_t n, double *lo, double *hi);

/* Median and others of n values, sorted in place; NaN for n == 0. share 0.5 is the median, 0.95 the nearest rank. */
double rq_sums_quantile(double *v, int64_t n, double share);

/* ---- report_walk.c ---- */

/* Samples of a dataset in batches. */
typedef struct rq_walk {
    rq_dataset *data;
    const int64_t *rows; /* NULL: all */
    int64_t n_rows, at;  /* samples, and the next one */
    int64_t step;        /* samples per batch */
    bool fixed;          /* every batch must be full: the model has a fixed batch */
    int64_t *buf;        /* [step] */
} rq_walk;
/* step 0: the dataset's batch. RQ_NO_MEMORY. */
rq_status rq_walk_init(rq_walk *w, rq_dataset *data, const int64_t *rows, int64_t n_rows, int64_t step);
void rq_walk_release(rq_walk *w);
/* Make batches small enough that the activations of the sessions stay within a fixed number of bytes, however many samples
 * there are: runs the first sample through each and looks at what it took. Taps would see that sample, so before they
 * are set. */
rq_status rq_walk_fit(rq_walk *w, rq_session *const *sessions, const rq_graph *const *graphs, int n, rq_err *err);
/* The next batch: *n samples, *rows of them (for labels); *n == 0 at the end. A last batch that a model with a fixed
 * batch cannot take is left out. */
rq_status rq_walk_next(rq_walk *w, const rq_feed **feeds, int *n_feeds, const int64_t **rows, int64_t *n, rq_err *err);
/* Samples that the walk visits. */
int64_t rq_walk_total(const rq_walk *w);

/* Index of output `name` (NULL: the first). RQ_NOT_FOUND names what there is. */
rq_status rq_walk_output(const rq_graph *g, const char *name, int *index, rq_err *err);

/* ---- report_layers.c ---- */

/* Fill out->layers and their warnings: runs both sessions with taps on the values they have in common. */
rq_status rq_report_fill_layers(rq_report *out, rq_session *model, rq_session *quantized, const rq_graph *model_graph,
                                const rq_graph *quantized_graph, rq_dataset *data, const rq_report_cfg *cfg,
                                rq_err *err);
/* What can be seen without running: dead channels, clipped biases. */
rq_status rq_report_inspect_constants(rq_report *out, const rq_graph *g);

/* ---- report_dynamic.c ---- */

/* What a node is to products that measure their input. */
typedef struct rq_report_role {
    bool part;       /* of a product */
    int32_t product; /* the node is the last of this product's (a node id); -1: not the last of any */
} rq_report_role;
/* (*roles)[n_nodes of g], freed with rq_mem_free. RQ_NO_MEMORY. */
rq_status rq_report_find_products(rq_report_role **roles, const rq_graph *g);

/* ---- report_bits.c ---- */

/* Codes of 2 to 7 bits in a type that has more. */
typedef struct rq_report_codes {
    int bits; /* 0: as many as the type has */
    int32_t lo, hi;
} rq_report_codes;
/* (*out)[n_values of g], freed with rq_mem_free. RQ_NO_MEMORY, RQ_BAD_GRAPH: a cycle. */
rq_status rq_report_find_bits(rq_report_codes **out, const rq_graph *g, rq_err *err);

/* ---- report_json.c ---- */

/* A number, or null where JSON has none (NaN, infinities). A string with bytes that are no UTF-8 replaced. */
struct json_t *rq_report_json_real(double v);
struct json_t *rq_report_json_text(const char *s);
/* Write and release `root` (NULL: memory is out). */
rq_status rq_report_json_write(struct json_t *root, const char *path, rq_err *err);

#endif
