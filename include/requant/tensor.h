/* requant/tensor.h — element types, shapes, and blocks of numbers. */
#ifndef REQUANT_TENSOR_H
#define REQUANT_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <requant/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Each element type once: name, text, bits per element, kind (f float, i signed, u unsigned, b bool,
 * c complex, x other). Types of 4 and 2 bits are packed, element 0 in the low bits, row-major over the
 * whole tensor with no padding but the last byte's. */
#define RQ_DTYPE_MAP(X)                                                                                                \
    X(NONE, "none", 0, 'x')                                                                                            \
    X(F32, "f32", 32, 'f')                                                                                             \
    X(F64, "f64", 64, 'f')                                                                                             \
    X(F16, "f16", 16, 'f')                                                                                             \
    X(BF16, "bf16", 16, 'f')                                                                                           \
    X(S8, "s8", 8, 'i')                                                                                                \
    X(U8, "u8", 8, 'u')                                                                                                \
    X(S16, "s16", 16, 'i')                                                                                             \
    X(U16, "u16", 16, 'u')                                                                                             \
    X(S32, "s32", 32, 'i')                                                                                             \
    X(U32, "u32", 32, 'u')                                                                                             \
    X(S64, "s64", 64, 'i')                                                                                             \
    X(U64, "u64", 64, 'u')                                                                                             \
    X(BOOL, "bool", 8, 'b')                                                                                            \
    X(STRING, "string", 0, 'x')                                                                                        \
    X(C64, "c64", 64, 'c')                                                                                             \
    X(C128, "c128", 128, 'c')                                                                                          \
    X(F8E4M3FN, "f8e4m3fn", 8, 'f')                                                                                    \
    X(F8E4M3FNUZ, "f8e4m3fnuz", 8, 'f')                                                                                \
    X(F8E5M2, "f8e5m2", 8, 'f')                                                                                        \
    X(F8E5M2FNUZ, "f8e5m2fnuz", 8, 'f')                                                                                \
    X(F8E8M0, "f8e8m0", 8, 'f')                                                                                        \
    X(F4E2M1, "f4e2m1", 4, 'f')                                                                                        \
    X(S4, "s4", 4, 'i')                                                                                                \
    X(U4, "u4", 4, 'u')                                                                                                \
    X(S2, "s2", 2, 'i')                                                                                                \
    X(U2, "u2", 2, 'u')

typedef enum rq_dtype {
#define RQ_DTYPE_ENUM(name, text, bits, kind) RQ_DTYPE_##name,
    RQ_DTYPE_MAP(RQ_DTYPE_ENUM)
#undef RQ_DTYPE_ENUM
        RQ_N_DTYPES
} rq_dtype;

RQ_API const char *rq_dtype_name(rq_dtype d); /* "f32", "s8" ... */
RQ_API int rq_dtype_bits(rq_dtype d);         /* 0 for NONE and STRING */
RQ_API bool rq_dtype_is_integer(rq_dtype d);  /* signed or unsigned, any width; not BOOL */
RQ_API bool rq_dtype_is_float(rq_dtype d);
/* Smallest and largest value of an integer type up to 32 bits: S8 gives -128 and 127. */
RQ_API void rq_dtype_limits(rq_dtype d, int64_t *lo, int64_t *hi);

enum { RQ_MAX_RANK = 8 };

/* A size per axis. A negative size is one not known yet: -1 any, and each value below -1 one symbol
 * (two axes with the same symbol have the same size). Tensors have no negative sizes. */
typedef struct rq_shape {
    int rank; /* 0..RQ_MAX_RANK; -1: not even the rank is known */
    int64_t dim[RQ_MAX_RANK];
} rq_shape;

enum { RQ_DIM_UNKNOWN = -1, RQ_RANK_UNKNOWN = -1 };

/* A shape of these sizes (rank <= RQ_MAX_RANK); of unknown rank; and whether two have the same rank and sizes. */
RQ_API rq_shape rq_shape_of(int rank, const int64_t *dim);
RQ_API rq_shape rq_shape_unknown(void);
RQ_API bool rq_shape_equal(const rq_shape *a, const rq_shape *b);
/* Every size known? */
RQ_API bool rq_shape_is_known(const rq_shape *s);
/* Product of the sizes (1 for rank 0). The shape must be known; shapes made by the library never
 * overflow (rq_shape_check). */
RQ_API int64_t rq_shape_count(const rq_shape *s);
/* Product of the sizes of axes from..to-1. */
RQ_API int64_t rq_shape_span(const rq_shape *s, int from, int to);
/* Sizes non-negative, product of those that are not 0 at most 2^47: RQ_BAD_SHAPE otherwise. */
RQ_API rq_status rq_shape_check(const rq_shape *s);
/* "[1,3,224,224]"; symbols as "?"; returns buf. */
RQ_API const char *rq_shape_text(const rq_shape *s, char *buf, size_t n);
enum { RQ_SHAPE_TEXT = 160 }; /* a buffer that always suffices */
/* Bytes that `s` elements of type d take (packed types rounded up). */
RQ_API size_t rq_shape_bytes(const rq_shape *s, rq_dtype d);

/* Numbers in row-major order. A tensor is a small value; its bytes live in a counted storage shared by
 * all copies made with rq_tensor_share, or belong to the caller (storage NULL).
 * STRING tensors hold n+1 uint64 offsets, then the bytes. */
typedef struct rq_tensor {
    rq_dtype dtype;
    rq_shape shape;
    size_t bytes; /* of data */
    union {
        void *data;
        float *f32;
        double *f64;
        int8_t *s8;
        uint8_t *u8;
        int16_t *s16;
        uint16_t *u16;
        int32_t *s32;
        uint32_t *u32;
        int64_t *s64;
        uint64_t *u64;
    };
    struct rq_storage *storage;
} rq_tensor;

/* Allocate (64-byte aligned, cleared when `clear`). *t is overwritten, not released first.
 * RQ_BAD_SHAPE, RQ_NO_MEMORY; then *t is an empty tensor. */
RQ_API rq_status rq_tensor_create(rq_tensor *t, rq_dtype d, const rq_shape *shape, bool clear);
/* A view of the caller's bytes, which must outlive it. */
RQ_API rq_tensor rq_tensor_view(rq_dtype d, const rq_shape *shape, void *data);
/* Wrap bytes with a function that frees them (data, then arg). RQ_NO_MEMORY: nothing was taken. */
RQ_API rq_status rq_tensor_wrap(rq_tensor *t, rq_dtype d, const rq_shape *shape, void *data,
                                void (*free_fn)(void *data, void *arg), void *arg);
/* *dst becomes another holder of src's bytes (a view stays a view). */
RQ_API void rq_tensor_share(rq_tensor *dst, const rq_tensor *src);
/* *dst becomes a private copy of src. */
RQ_API rq_status rq_tensor_copy(rq_tensor *dst, const rq_tensor *src);
/* Let go of the bytes; the tensor becomes empty (dtype NONE). Fine on a zeroed one. */
RQ_API void rq_tensor_release(rq_tensor *t);
RQ_API int64_t rq_tensor_count(const rq_tensor *t);
/* Element i as a number, whatever the type (F16, BF16, packed and float8 decoded; NaN for STRING). */
RQ_API double rq_tensor_get(const rq_tensor *t, int64_t i);
/* The same for integers, exact over all 64 bits. */
RQ_API int64_t rq_tensor_get_int(const rq_tensor *t, int64_t i);
/* Store a number that the type can hold (integers: rounded to even and clamped). */
RQ_API void rq_tensor_set(rq_tensor *t, int64_t i, double v);

#ifdef __cplusplus
}
#endif
#endif
