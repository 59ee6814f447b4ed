/* tensor/pack.h — runs of 4- and 2-bit codes, packed as requant/tensor.h says: the first in the lowest bits. */
#ifndef RQ_TENSOR_PACK_H
#define RQ_TENSOR_PACK_H

#include <stdint.h>

/* The low `bits` bits (4 or 2) of code[n] to elements at..at+n-1 of dst; other elements of shared bytes stay. */
void rq_pack_put(uint8_t *dst, int64_t at, int64_t n, const uint8_t *code, int bits);
/* Elements at..at+n-1 of src, each to a byte: as s8 when is_signed, else as u8. */
void rq_pack_get(uint8_t *code, const uint8_t *src, int64_t at, int64_t n, int bits, int is_signed);

#endif
