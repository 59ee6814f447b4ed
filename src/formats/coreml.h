/* formats/coreml.h — a Core ML model as a whole: the package, what it says of its inputs and outputs, its program, and its
 * weights. Opening maps the files and reads the program; numbers stay in the mapped weight file until they are asked
 * for. Saving a model that nobody changed gives the same bytes. See docs/coreml-package.md. */
#ifndef RQ_FORMATS_COREML_H
#define RQ_FORMATS_COREML_H

#include "formats/mil.h"
#include "formats/milblob.h"
#include "formats/mlpackage.h"
#include "requant/coreml.h"

enum { /* ArrayFeatureType.ArrayDataType */
       RQ_COREML_FLOAT32 = 65568,
       RQ_COREML_DOUBLE = 65600,
       RQ_COREML_FLOAT16 = 65552,
       RQ_COREML_INT32 = 131104,
       RQ_COREML_INT8 = 131080,
};

enum { RQ_COREML_MIN_SPEC = 6, RQ_COREML_MAX_SPEC = 10 }; /* with ML programs; newer ones are read, too */

typedef enum rq_coreml_kind {
    RQ_COREML_ARRAY,
    RQ_COREML_IMAGE,
    RQ_COREML_INT64,
    RQ_COREML_NUMBER, /* double */
    RQ_COREML_STRING,
    RQ_COREML_DICTIONARY,
    RQ_COREML_SEQUENCE,
    RQ_COREML_STATE /* an array that is kept between calls */
} rq_coreml_kind;

typedef struct rq_coreml_range {
    uint64_t lo;
    int64_t hi; /* -1: no bound */
} rq_coreml_range;

/* An input, output or state as the description has it. */
typedef struct rq_coreml_feature {
    const char *name, *doc;
    rq_coreml_kind kind;
    bool optional;
    int32_t dtype;  /* ARRAY, STATE: RQ_COREML_FLOAT32 ... */
    int64_t *shape; /* [rank]; IMAGE: height, width */
    int rank;
    rq_coreml_range *range; /* [rank], or NULL */
    int64_t **listed;       /* [n_listed][rank] shapes it may have, or NULL */
    int n_listed;
    int32_t color;       /* IMAGE */
    bool text_keys;      /* DICTIONARY: strings, else int64 */
    const void *as_read; /* Coreml__FeatureDescription; NULL when made here */
} rq_coreml_feature;

typedef struct rq_coreml_features {
    rq_coreml_feature *at;
    int n, cap;
} rq_coreml_features;

/* What one function takes and gives. */
typedef struct rq_coreml_interface {
    const char *name; /* of the function */
    rq_coreml_features inputs, outputs, states;
    const char *label, *probabilities; /* of a classifier: output names, "" if it is none */
} rq_coreml_interface;

typedef struct rq_coreml_entry {
    const char *key, *value;
} rq_coreml_entry;

/* A weight file that was opened. */
typedef struct rq_coreml_weights {
    const char *name; /* "weight.bin" */
    rq_map map;
} rq_coreml_weights;

struct rq_coreml {
    int32_t spec;
    rq_coreml_interface *interfaces; /* one, unless the model has several functions */
    int n_interfaces, cap_interfaces;
    const char *default_function;                 /* "" unless several */
    const char *doc, *version, *author, *license; /* of the metadata */
    rq_coreml_entry *metadata;
    int n_metadata, cap_metadata;
    rq_mil_program program;
    rq_tensor *shared; /* whose bytes blobs of the program are */
    int n_shared, cap_shared;

    rq_mlpackage *package; /* NULL: made here, or read from memory */
    rq_coreml_weights *weights;
    int n_weights, cap_weights;
    rq_map file; /* model.mlmodel; data NULL when made here */
    rq_protobuf_mem mem;
    const void *as_read; /* Coreml__Model */
};

/* ---- coreml_read.c ---- */

/* rq_coreml_open and rq_coreml_close are public: requant/coreml.h. */

/* The bytes of a model.mlmodel alone, which must outlive the model; its blobs have no numbers then. */
rq_status rq_coreml_parse(rq_coreml **out, const void *data, size_t size, rq_err *err);
/* An empty model of this specification. */
rq_status rq_coreml_create(rq_coreml **out, int32_t spec, rq_err *err);

/* The blob of a value, checked against its type. RQ_BAD_FILE. */
rq_status rq_coreml_blob(const rq_coreml *m, rq_milblob *out, const rq_mil_value *v, rq_err *err);
/* A tensor value, immediate or not, as a tensor of ours: a view where its bytes can stay where they are (they live as
 * long as m), else a copy; 1, 3 and 6 bits become bytes. RQ_BAD_FILE, RQ_UNSUPPORTED (more axes than RQ_MAX_RANK). */
rq_status rq_coreml_tensor(const rq_coreml *m, rq_tensor *out, const rq_mil_value *v, rq_err *err);

/* ---- coreml_model.c, coreml_describe.c: description and metadata ---- */

rq_status rq_coreml_read_description(rq_coreml *m, rq_err *err);
/* The description as a Coreml__ModelDescription in `a`. */
rq_status rq_coreml_build_description(void **message, const rq_coreml *m, rq_arena *a, rq_err *err);
/* Of a metadata key; NULL: it is not there. */
const char *rq_coreml_metadata(const rq_coreml *m, const char *key);

/* For models made here; NULL or false when memory is out. The interface of a function; a feature, to be filled in
 * (strings and lists in m->program.arena). */
rq_coreml_interface *rq_coreml_add_interface(rq_coreml *m, const char *function);
rq_coreml_feature *rq_coreml_add_feature(rq_coreml *m, rq_coreml_features *list, const char *name);
bool rq_coreml_set_metadata(rq_coreml *m, const char *key, const char *value);

/* ---- coreml_info.c ---- */

struct rq_buf;
/* Label i of a classifier's list of them, as JSON: a text in quotes, a whole number, or null. */
void rq_coreml_label(struct rq_buf *b, const rq_mil_value *v, uint64_t i);

/* ---- coreml_write.c ---- */

/* rq_coreml_save: where nothing was changed since the model was read, all bytes are those read; where no weights changed,
 * the weight files stay; else they are written anew, of the blobs that the program has now, each once. */
/* model.mlmodel as it would be written, offsets as they are. *out is freed with rq_mem_free. */
rq_status rq_coreml_encode(const rq_coreml *m, uint8_t **out, size_t *size, rq_err *err);

#endif
