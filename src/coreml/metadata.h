/* coreml/metadata.h — what coremltools.optimize.torch registers beside a weight (docs/coreml-facts.md 10), and the operations that say it in a program. */
#ifndef RQ_COREML_METADATA_H
#define RQ_COREML_METADATA_H

#include "coreml/weights.h"

enum { RQ_METADATA_PRUNING = 1, RQ_METADATA_PALETTIZATION = 2, RQ_METADATA_QUANTIZATION = 3, RQ_METADATA_TYPES = 3 };

/* Reals with sizes of their own. */
typedef struct rq_metadata_grid {
    float *v; /* NULL: absent */
    int rank;
    int64_t dim[RQ_MAX_RANK];
    int64_t n;
} rq_metadata_grid;

typedef struct rq_metadata {
    const char *param; /* "layer1.conv.weight" */
    int type[RQ_METADATA_TYPES], n_types;
    int nbits; /* 0: not given */
    int vector_axis;
    bool has_vector_axis;
    rq_metadata_grid scale, zero_point, lut, palette_scale;
} rq_metadata;

static inline bool rq_metadata_has(const rq_metadata *d, int type)
{
    for (int i = 0; i < d->n_types; i++)
        if (d->type[i] == type)
            return true;
    return false;
}

/* Of an index into n entries. */
static inline int rq_metadata_bits(int64_t n)
{
    int b = 0;
    while (b < 62 && (int64_t)1 << b < n)
        b++;
    return b;
}

/* A constant of a program that becomes what the metadata say. */
typedef struct rq_metadata_place {
    rq_coreml *m;
    rq_mil_block *block;
    rq_mil_op *op;           /* the const */
    rq_metadata_grid weight; /* in the orientation of the metadata */
    bool turned;             /* the constant is its transpose (two axes) */
} rq_metadata_place;

/* The lowest specification that can say it (RQ_COREML_IOS16 or IOS18). Everything is checked: shapes, widths, combinations. RQ_BAD_DATA. */
rq_status rq_metadata_check(rq_metadata *d, const rq_metadata_grid *weight, int32_t *spec, rq_err *err);
/* Put the operations in place of the constant; *op: the type of the last that was made, *bytes of codes, tables and masks. The model's specification
 * is what it shall be. */
rq_status rq_metadata_build(const rq_metadata *d, rq_metadata_place *p, const char **op, uint64_t *bytes, rq_err *err);

#endif
