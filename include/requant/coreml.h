/* requant/coreml.h — Core ML packages (.mlpackage folders, and zips of them): open one, say what is in it, write it. */
#ifndef REQUANT_COREML_H
#define REQUANT_COREML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <requant/graph.h>
#include <requant/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A model: an ML program of one or more functions, what it says of its inputs and outputs, and its weights, which stay in the
 * mapped file until they are asked for. */
typedef struct rq_coreml rq_coreml;

/* Does the name end in .mlpackage, or is there a folder with a Manifest.json, or a file that begins as a zip does? Looks no
 * further: a name that ends so counts where nothing is, or something else. */
RQ_API bool rq_coreml_is(const char *path);

/* Open a package, or a zip of one, and check all of it but the numbers. *out is yours until rq_coreml_close. Sentences begin
 * with the path. RQ_BAD_FILE: damaged; RQ_UNSUPPORTED: no ML program, or of a kind that is not known; RQ_IO, RQ_NO_MEMORY;
 * then *out is NULL. */
RQ_API rq_status rq_coreml_open(rq_coreml **out, const char *path, rq_err *err);

/* Write as a package (a folder), whole or not at all, over another package or an empty folder or where nothing is. A model
 * that nobody changed since it was opened is written byte for byte, files requant does not know included.
 * RQ_IO, RQ_NO_MEMORY. */
RQ_API rq_status rq_coreml_save(const rq_coreml *m, const char *path, rq_err *err);

/* Remove the package (or empty folder) at `path`; nothing there is fine. RQ_IO: it is something else, or stays. */
RQ_API rq_status rq_coreml_remove(const char *path, rq_err *err);

/* What is in it, for people: functions, inputs (images with their scale and bias), outputs, labels, operators, weights, metadata;
 * with `all` a line for every weight. At most n bytes with the NUL go to buf; returns the length of all, or -1 when
 * memory was out. Threads: any, while nobody changes m. */
RQ_API int64_t rq_coreml_text(const rq_coreml *m, bool all, char *buf, size_t n);
/* The same as JSON, every weight included. */
RQ_API int64_t rq_coreml_json(const rq_coreml *m, char *buf, size_t n);

/* NULL is fine. */
RQ_API void rq_coreml_close(rq_coreml *m);

/* ---- graphs from packages, packages from graphs ---- */

/* What a package is for: the number is its specificationVersion. */
typedef enum rq_coreml_target {
    RQ_COREML_LOWEST = 0, /* the lowest that can express the model */
    RQ_COREML_IOS15 = 6,
    RQ_COREML_IOS16 = 7, /* quantized weights; fp16 inputs and outputs */
    RQ_COREML_IOS17 = 8, /* quantized activations */
    RQ_COREML_IOS18 = 9, /* 4-bit codes, blocks */
    RQ_COREML_IOS26 = 10,
} rq_coreml_target;

typedef enum rq_coreml_compute {
    RQ_COREML_COMPUTE_KEEP, /* f16 where the graph was f16, else f32 */
    RQ_COREML_COMPUTE_F32,
    RQ_COREML_COMPUTE_F16 /* floats are fp16 in the program; inputs and outputs stay fp32, with casts behind them */
} rq_coreml_compute;

/* One axis: lo == hi, or a range that the axis may have (hi -1: no bound). */
typedef struct rq_coreml_axis {
    int64_t lo, hi;
} rq_coreml_axis;

enum { /* of images: ImageFeatureType.ColorSpace */
       RQ_COREML_GRAYSCALE = 10,
       RQ_COREML_RGB = 20,
       RQ_COREML_BGR = 30,
       RQ_COREML_GRAYSCALE_FLOAT16 = 40,
};

/* What to make of one input of the graph. Zeroed: as the graph has it. */
typedef struct rq_coreml_input {
    const char *name;           /* in the graph */
    const rq_coreml_axis *axis; /* [rank] its sizes, or NULL */
    int rank;
    const int64_t *
        listed; /* [n_listed][rank] the only shapes it may have (enumerated shapes), or NULL; the first is the default */
    int n_listed;
    int color;         /* 0: an array; RQ_COREML_RGB ...: the application hands over an image of pixels 0 to 255 */
    float scale;       /* of an image: the network sees scale * pixel + bias[channel]; 0 counts as 1 */
    const float *bias; /* [3] or [1], or NULL: zeros */
} rq_coreml_input;

typedef struct rq_coreml_cfg {
    rq_coreml_target target;
    rq_coreml_compute compute;
    const rq_coreml_input *input; /* [n_inputs] */
    int n_inputs;
    const char *const
        *labels; /* [n_labels] a classifier: names of the classes in order of the (only) output; or NULL */
    int n_labels;
    const rq_coreml
        *like; /* take description, metadata, images and labels from this package where names agree; or NULL */
} rq_coreml_cfg;

/* The graph (quantized or not, from any format or built by hand) as a package in memory: Q/DQ where values are quantized, constexpr_ operators
 * for quantized weights. cfg NULL: all zero. g is not changed, and may go before m does: weights that stay what they are have their bytes in common, counted. What the target cannot
 * express is refused before anything is made, with the operator and the lowest target that can. *notes (NULL is fine): sentences, one a
 * line, of what was decided or will not run well on Core ML (give back with rq_free). RQ_UNSUPPORTED, RQ_NOT_FOUND: an
 * input of cfg that the graph lacks; RQ_BAD_GRAPH, RQ_NO_MEMORY. */
RQ_API rq_status rq_coreml_from_graph(rq_coreml **out, const rq_graph *g, const rq_coreml_cfg *cfg, char **notes,
                                      rq_err *err);
/* A function of the package (NULL: the default one) as a graph, as rq_load does. *out is yours. RQ_UNSUPPORTED: an operator without a
 * row, named; RQ_NOT_FOUND: no such function. */
RQ_API rq_status rq_coreml_to_graph(rq_graph **out, const rq_coreml *m, const char *function, rq_err *err);
/* Operator i of ML programs that can be read into a graph, in the order of the alphabet, and the operators of ONNX that it becomes
 * ("Gemm; MatMul, Add": forms between semicolons, nodes between commas). Strings live as long as the library. False past the last. */
RQ_API bool rq_coreml_operator(int i, const char **name, const char **onnx);
/* The lowest target whose programs can express operator `name` of ONNX's `domain` ("" is the default one); settings that need a later one,
 * or none can, are said when a graph is written. RQ_COREML_LOWEST: there is no row that writes it. */
RQ_API rq_coreml_target rq_coreml_writes(const char *domain, const char *name);

#ifdef __cplusplus
}
#endif
#endif
