/* kernels/quantize_half_tmpl.h — codes of fp16 numbers whose quotient is rounded to fp16 before it is rounded to a code, as arithmetic in fp16 does. One loop
 * that every instruction set compiles to vectors; HALF_NAME is what it is called there.
 *
 * fp16 becomes fp32 by its bits and an exact product (infinities and NaN become numbers of 65536 and more). Rounding the quotient cuts 13 bits of fp32, half
 * to even; below 2^-14, where fp16 has fewer bits than that, any quotient is code 0 anyhow. The last rounding is that of adding 1.5 * 2^23. */
#include <string.h>

void HALF_NAME(uint8_t *y, const uint16_t *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi)
{
    const float least = (float)(lo - zp), most = (float)(hi - zp);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)(x[i] & 0x7fff) << 13 | (uint32_t)(x[i] & 0x8000) << 16;
        float v;
        memcpy(&v, &bits, sizeof v);
        v = v * 0x1p112f / scale;
        memcpy(&bits, &v, sizeof v);
        bits = (bits + 0xfff + (bits >> 13 & 1)) & ~(uint32_t)0x1fff;
        memcpy(&v, &bits, sizeof v);
        v = v > least ? v : least;
        v = v < most ? v : most;
        v += 0x1.8p23f;
        memcpy(&bits, &v, sizeof v);
        y[i] = (uint8_t)(bits - 0x4b400000 + (uint32_t)zp);
    }
}
