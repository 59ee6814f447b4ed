/* formats/mil_dtype.h — the element types of Core ML programs: one row each, with its number in the program, its number in a
 * weight file, and where an immediate value keeps its elements. See docs/coreml-package.md. */
#ifndef RQ_FORMATS_MIL_DTYPE_H
#define RQ_FORMATS_MIL_DTYPE_H

#include "requant/tensor.h"

/* The member of an immediate tensor that holds the elements. */
typedef enum rq_mil_store {
    RQ_MIL_STORE_NONE, /* a type that has no immediate values */
    RQ_MIL_STORE_FLOATS,
    RQ_MIL_STORE_INTS, /* 32 bits each, for 16-bit types too */
    RQ_MIL_STORE_BOOLS,
    RQ_MIL_STORE_STRINGS,
    RQ_MIL_STORE_LONGS,
    RQ_MIL_STORE_DOUBLES,
    RQ_MIL_STORE_BYTES /* little-endian elements, less than 8 bits packed from the low bits up */
} rq_mil_store;

typedef struct rq_mil_dtype {
    const char *name;   /* as programs spell it: "fp16", "int4" */
    int code;           /* in the program */
    int blob;           /* in a weight file; 0: never there */
    int bits;           /* of one element; 0: string */
    rq_mil_store store; /* of immediate values */
    rq_dtype dtype;     /* ours; for 1, 3 and 6 bits U8, one element a byte */
} rq_mil_dtype;

/* The row of a number or name; NULL: there is no such type. */
const rq_mil_dtype *rq_mil_dtype_of_code(int64_t code);
const rq_mil_dtype *rq_mil_dtype_of_blob(uint32_t blob);
const rq_mil_dtype *rq_mil_dtype_of_name(const char *name);
/* The row that tensors of ours are written as; NULL: Core ML has none. */
const rq_mil_dtype *rq_mil_dtype_of(rq_dtype d);

/* Bytes of n packed elements. n <= 2^47. */
uint64_t rq_mil_dtype_bytes(const rq_mil_dtype *t, uint64_t n);
/* n elements of a packed type (1, 2, 3, 4 or 6 bits) to a byte each, sign-extended where the type is signed; and back: false
 * when an element is out of range (index in *bad). */
void rq_mil_dtype_unpack(const rq_mil_dtype *t, uint8_t *dst, const uint8_t *src, uint64_t n);
bool rq_mil_dtype_pack(const rq_mil_dtype *t, uint8_t *dst, const uint8_t *src, uint64_t n, uint64_t *bad);

#endif
