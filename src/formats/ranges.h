/* formats/ranges.h — ranges of tensors in memory, and the files they come from; the rest is public: requant/ranges.h. */
#ifndef RQ_FORMATS_RANGES_H
#define RQ_FORMATS_RANGES_H

#include "base/buf.h"
#include "base/mem.h"
#include "requant/ranges.h"

enum {
    RQ_RANGES_MOST_BYTES = 1 << 30,
    RQ_RANGES_MOST = 1 << 18
}; /* of a file, which is mapped (histograms are long); tensors */

struct rq_ranges {
    rq_arena text;
    rq_range_info *items;
    int n, cap;
    bool sorted;     /* by name, each once */
    uint64_t model;  /* rq_graph_hash of the model they were made of; 0: not known */
    int64_t samples; /* 0: not known */
    const char *path;
};

/* As rq_ranges_add, but info->tensor lies in r->text already, and a name that stands twice is found by rq_ranges_sort only: n
 * of them in O(n log n). */
rq_status rq_ranges_append(rq_ranges *r, const rq_range_info *info, rq_err *err);
rq_status rq_ranges_sort(rq_ranges *r, rq_err *err);

/* ranges_json.c: ours and ONNX Runtime's. */
rq_status rq_ranges_read_json(rq_ranges *r, const void *data, size_t n, const char *name, rq_err *err);
rq_status rq_ranges_write_json(const rq_ranges *r, rq_buf *b, rq_err *err);
/* trt_cache.c */
bool rq_ranges_is_trt(const void *data, size_t n);
rq_status rq_ranges_read_trt(rq_ranges *r, const void *data, size_t n, const char *name, rq_err *err);
rq_status rq_ranges_write_trt(const rq_ranges *r, rq_buf *b, rq_err *err);

#endif
