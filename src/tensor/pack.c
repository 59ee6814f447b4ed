/* tensor/pack.c — see pack.h. Bytes that a run fills whole are made at once, the ends element by element. */
#include "tensor/pack.h"

static void put_one(uint8_t *dst, int64_t at, uint8_t code, int bits)
{
    const int per = 8 / bits, shift = (int)(at % per) * bits;
    const unsigned mask = ((1u << bits) - 1) << shift;
    dst[at / per] = (uint8_t)((dst[at / per] & ~mask) | ((unsigned)code << shift & mask));
}

void rq_pack_put(uint8_t *dst, int64_t at, int64_t n, const uint8_t *code, int bits)
{
    const int per = 8 / bits;
    int64_t i = 0;
    for (; i < n && (at + i) % per; i++)
        put_one(dst, at + i, code[i], bits);
    uint8_t *to = dst + (at + i) / per;
    if (bits == 4)
        for (; i + 2 <= n; i += 2)
            *to++ = (uint8_t)((code[i] & 15) | code[i + 1] << 4);
    else
        for (; i + 4 <= n; i += 4)
            *to++ = (uint8_t)((code[i] & 3) | (code[i + 1] & 3) << 2 | (code[i + 2] & 3) << 4 | code[i + 3] << 6);
    for (; i < n; i++)
        put_one(dst, at + i, code[i], bits);
}

static uint8_t one_of(const uint8_t *src, int64_t at, int bits, unsigned sign)
{
    const int per = 8 / bits;
    const unsigned v = src[at / per] >> (int)(at % per) * bits & ((1u << bits) - 1);
    return (uint8_t)((v ^ sign) - sign);
}

void rq_pack_get(uint8_t *code, const uint8_t *src, int64_t at, int64_t n, int bits, int is_signed)
{
    const int per = 8 / bits;
    const unsigned mask = (1u << bits) - 1, sign = is_signed ? 1u << (bits - 1) : 0;
    int64_t i = 0;
    for (; i < n && (at + i) % per; i++)
        code[i] = one_of(src, at + i, bits, sign);
    const uint8_t *from = src + (at + i) / per;
    for (; i + per <= n; i += per, from++)
        for (int k = 0; k < per; k++)
            code[i + k] = (uint8_t)(((*from >> k * bits & mask) ^ sign) - sign);
    for (; i < n; i++)
        code[i] = one_of(src, at + i, bits, sign);
}
