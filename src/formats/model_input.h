/* formats/model_input.h — what a model says of its ends beyond types and shapes, as metadata of the graph that goes with it into files: which
 * input is a picture ("requant.image.<input>": "rgb 224x192", height first), which labels its classes have ("requant.labels": a JSON list). */
#ifndef RQ_FORMATS_MODEL_INPUT_H
#define RQ_FORMATS_MODEL_INPUT_H

#include "base/buf.h"
#include "graph/graph.h"
#include "requant/image.h"

/* Is this key one of them? */
bool rq_model_input_owns(const char *key);

rq_status rq_model_input_set_image(rq_graph *g, const char *input, rq_image_channels channels, int64_t height,
                                   int64_t width, rq_err *err);
/* Pixels of this input are wanted as numbers from 0 to 255 of this size and order; false: nothing is said of it, or nothing that can be. */
bool rq_model_input_image(const rq_graph *g, const char *input, rq_preprocess *out);

/* labels: a JSON list of texts and whole numbers. */
rq_status rq_model_input_set_labels(rq_graph *g, const char *labels, rq_err *err);
bool rq_model_input_has_labels(const rq_graph *g);
/* The labels of the graph, or, where json is not NULL, those of that list: *texts[*n] in `a`, *whole: all are whole numbers. *n 0: there are none, or of
 * several kinds. RQ_NO_MEMORY. */
rq_status rq_model_input_labels(const rq_graph *g, const char *json, rq_arena *a, const char *const **texts, int *n,
                                bool *whole);
/* The place of each name among the labels (whole numbers as text). False: there are none, a name is not among them, or memory is out. */
bool rq_model_input_places(const rq_graph *g, const char *const *names, int n, int32_t *place);

#endif
