/* requant/ranges.h — which reals each tensor of a model takes: what calibration finds out, as a thing of its own, to be
 * kept in a file, looked at, changed, and quantized with again without samples. Not thread-safe; different ones are
 * independent. */
#ifndef REQUANT_RANGES_H
#define REQUANT_RANGES_H

#include <requant/ptq.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_ranges rq_ranges;

typedef struct rq_range_info {
    const char *tensor; /* name of the value in the graph */
    double lo, hi;      /* lo <= 0 <= hi, finite */
    const char *method; /* how it was chosen: "mse", "percentile 99.99", "tensorrt" ... */
    uint64_t count;     /* elements seen; 0: not known */
    uint64_t bad;       /* NaN and infinities among what was fed, which did not count */
    bool magnitude;     /* only the largest magnitude is known: lo is -hi whether or not anything was below 0 */
} rq_range_info;

/* An empty one; *out is yours until rq_ranges_destroy (NULL is fine there). RQ_NO_MEMORY. */
RQ_API rq_status rq_ranges_create(rq_ranges **out);
RQ_API void rq_ranges_destroy(rq_ranges *r);
/* Add one; strings are copied. RQ_BAD_DATA: the tensor is there already, or the range is none; RQ_NO_MEMORY. */
RQ_API rq_status rq_ranges_add(rq_ranges *r, const rq_range_info *info, rq_err *err);
/* What is in it, i in 0..count - 1, in no particular order; valid until the next rq_ranges_add. */
RQ_API int rq_ranges_count(const rq_ranges *r);
RQ_API const rq_range_info *rq_ranges_at(const rq_ranges *r, int i);
/* That of a tensor, or NULL. */
RQ_API const rq_range_info *rq_ranges_find(const rq_ranges *r, const char *tensor);

/* Run g in float on the samples and find the range of every float tensor that quantizing it may need, by the settings of
 * cfg (method, percentile, symmetric, activations, compat, recipe, rows, threads, progress). Watches more tensors than rq_ptq does, so
 * that the answer fits other placements; with the same settings and samples rq_ptq makes the same model from it. Notes may be
 * NULL. g is not changed. Errors as rq_ptq. */
RQ_API rq_status rq_calibrate(rq_ranges **out, const rq_graph *g, rq_dataset *data, const rq_ptq_cfg *cfg,
                              rq_notes *notes, rq_err *err);

/* Read ranges, whichever of these the file is:
 *
 *   ours               JSON: {"format": "requant ranges 1", "model": "<hash>", "samples": n, "tensors": {"<name>": {"lo": l,
 *                      "hi": h, "method": "mse", "count": n, "bad": n, "dtype": "f32", "magnitude": false}}}; lo and
 *                      hi are required
 *   ONNX Runtime's     the JSON of its save_tensors_data and write_calibration_table: lowest and highest, or pairs of numbers
 *   TensorRT's         calibration cache: "TRT-8601-EntropyCalibration2", then "<name>: <hex>" a line, the bits of
 *                      an f32 scale of s8 codes; the range is +-127 scales
 *
 * RQ_IO, RQ_BAD_FILE (the sentence says where and what), RQ_NO_MEMORY. */
RQ_API rq_status rq_ranges_load(rq_ranges **out, const char *path, rq_err *err);
/* The same from memory; `name` stands for the path in sentences. */
RQ_API rq_status rq_ranges_parse(rq_ranges **out, const void *data, size_t n, const char *name, rq_err *err);
/* Write them, sorted by name: JSON, or TensorRT's cache where path ends in .cache (scale max(|lo|, |hi|) / 127).
 * RQ_BAD_DATA: a name or (above 127 times the largest f32) a range that the form cannot hold; RQ_IO; RQ_NO_MEMORY. */
RQ_API rq_status rq_ranges_save(const rq_ranges *r, const char *path, rq_err *err);

/* Do they belong to g? RQ_BAD_DATA: they were made of another model (where the file says of which), or name a tensor that g does not
 * have; the sentence names the nearest. What TensorRT calls "(Unnamed Layer ...)" is passed over. */
RQ_API rq_status rq_ranges_check(const rq_ranges *r, const rq_graph *g, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
