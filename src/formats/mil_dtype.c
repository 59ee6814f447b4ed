/* formats/mil_dtype.c — the table of element types, and packing of the narrow ones.
 *
 * Element i of an n-bit type is bits i*n to (i+1)*n of a little-endian string of bits, so elements of 3 and 6 bits lie
 * across bytes. */
#include "formats/mil_dtype.h"

#include <string.h>

static const rq_mil_dtype rows[] = {
    { "bool", 1, 0, 8, RQ_MIL_STORE_BOOLS, RQ_DTYPE_BOOL },
    { "string", 2, 0, 0, RQ_MIL_STORE_STRINGS, RQ_DTYPE_STRING },
    { "fp16", 10, 1, 16, RQ_MIL_STORE_BYTES, RQ_DTYPE_F16 },
    { "fp32", 11, 2, 32, RQ_MIL_STORE_FLOATS, RQ_DTYPE_F32 },
    { "fp64", 12, 0, 64, RQ_MIL_STORE_DOUBLES, RQ_DTYPE_F64 },
    { "bf16", 13, 5, 16, RQ_MIL_STORE_BYTES, RQ_DTYPE_BF16 },
    { "int8", 21, 4, 8, RQ_MIL_STORE_BYTES, RQ_DTYPE_S8 },
    { "int16", 22, 6, 16, RQ_MIL_STORE_INTS, RQ_DTYPE_S16 },
    { "int32", 23, 14, 32, RQ_MIL_STORE_INTS, RQ_DTYPE_S32 },
    { "int64", 24, 0, 64, RQ_MIL_STORE_LONGS, RQ_DTYPE_S64 },
    { "int4", 25, 8, 4, RQ_MIL_STORE_BYTES, RQ_DTYPE_S4 },
    { "uint8", 31, 3, 8, RQ_MIL_STORE_BYTES, RQ_DTYPE_U8 },
    { "uint16", 32, 7, 16, RQ_MIL_STORE_INTS, RQ_DTYPE_U16 },
    { "uint32", 33, 15, 32, RQ_MIL_STORE_BYTES, RQ_DTYPE_U32 },
    { "uint64", 34, 0, 64, RQ_MIL_STORE_LONGS, RQ_DTYPE_U64 },
    { "uint4", 35, 11, 4, RQ_MIL_STORE_BYTES, RQ_DTYPE_U4 },
    { "uint2", 36, 10, 2, RQ_MIL_STORE_BYTES, RQ_DTYPE_U2 },
    { "uint1", 37, 9, 1, RQ_MIL_STORE_BYTES, RQ_DTYPE_U8 },
    { "uint6", 38, 13, 6, RQ_MIL_STORE_BYTES, RQ_DTYPE_U8 },
    { "uint3", 39, 12, 3, RQ_MIL_STORE_BYTES, RQ_DTYPE_U8 },
    { "fp8e4m3fn", 40, 16, 8, RQ_MIL_STORE_BYTES, RQ_DTYPE_F8E4M3FN },
    { "fp8e5m2", 41, 17, 8, RQ_MIL_STORE_BYTES, RQ_DTYPE_F8E5M2 },
};

enum { N_ROWS = sizeof rows / sizeof rows[0] };

const rq_mil_dtype *rq_mil_dtype_of_code(int64_t code)
{
    for (int i = 0; i < N_ROWS; i++)
        if (rows[i].code == code)
            return &rows[i];
    return NULL;
}

const rq_mil_dtype *rq_mil_dtype_of_blob(uint32_t blob)
{
    for (int i = 0; i < N_ROWS; i++)
        if (rows[i].blob && (uint32_t)rows[i].blob == blob)
            return &rows[i];
    return NULL;
}

const rq_mil_dtype *rq_mil_dtype_of_name(const char *name)
{
    for (int i = 0; i < N_ROWS; i++)
        if (!strcmp(rows[i].name, name))
            return &rows[i];
    return NULL;
}

const rq_mil_dtype *rq_mil_dtype_of(rq_dtype d)
{
    for (int i = 0; i < N_ROWS; i++)
        if (rows[i].dtype == d) /* uint8 stands before the types of fewer bits that become bytes */
            return &rows[i];
    return NULL;
}

uint64_t rq_mil_dtype_bytes(const rq_mil_dtype *t, uint64_t n)
{
    return (n * (uint64_t)t->bits + 7) / 8;
}

void rq_mil_dtype_unpack(const rq_mil_dtype *t, uint8_t *dst, const uint8_t *src, uint64_t n)
{
    const unsigned bits = (unsigned)t->bits, mask = (1u << bits) - 1;
    const unsigned sign = t->dtype == RQ_DTYPE_S4 ? 1u << (bits - 1) : 0;
    uint64_t at = 0;
    for (uint64_t i = 0; i < n; i++, at += bits) {
        const unsigned shift = (unsigned)(at & 7);
        unsigned v = (unsigned)src[at >> 3] >> shift;
        if (shift + bits > 8)
            v |= (unsigned)src[(at >> 3) + 1] << (8 - shift);
        v &= mask;
        dst[i] = (uint8_t)((v ^ sign) - sign);
    }
}

bool rq_mil_dtype_pack(const rq_mil_dtype *t, uint8_t *dst, const uint8_t *src, uint64_t n, uint64_t *bad)
{
    const unsigned bits = (unsigned)t->bits, mask = (1u << bits) - 1;
    const unsigned sign = t->dtype == RQ_DTYPE_S4 ? 1u << (bits - 1) : 0;
    uint64_t at = 0;
    memset(dst, 0, rq_mil_dtype_bytes(t, n));
    for (uint64_t i = 0; i < n; i++, at += bits) {
        const unsigned v = src[i] & mask, shift = (unsigned)(at & 7);
        if ((uint8_t)((v ^ sign) - sign) != src[i]) {
            *bad = i;
            return false;
        }
        dst[at >> 3] |= (uint8_t)(v << shift);
        if (shift + bits > 8)
            dst[(at >> 3) + 1] |= (uint8_t)(v >> (8 - shift));
    }
    return true;
}
