/* kernels/dwlast.c — packing of what depthwise products multiply with. */
#include "kernels/dwlast.h"

#include <string.h>

/* Dwords of one vector row of all blocks. */
static size_t dwords_of(const rq_dwlast_isa *g, int64_t channels)
{
    size_t n = 0;
    int64_t first;
    for (int64_t at = 0; at < channels;) {
        const int size = rq_dwlast_block(g, channels, at, &first);
        n += (size_t)size;
        at += size;
    }
    return n;
}

size_t rq_dwlast_bytes(const rq_dwlast_isa *g, int64_t channels, int height, int width)
{
    const size_t groups = (size_t)((height + g->kr - 1) / g->kr) * (size_t)width;
    return dwords_of(g, channels) * groups * 4;
}

static void put_weight(const rq_dwlast_isa *g, unsigned char *dword, int tap, int16_t w)
{
    if (g->kr == 4)
        dword[tap] = (unsigned char)w;
    else
        memcpy(dword + 2 * tap, &w, sizeof w);
}

void rq_dwlast_pack(const rq_dwlast_isa *g, void *dst, const int16_t *w, int64_t channels, int height, int width)
{
    const int per_column = (height + g->kr - 1) / g->kr;
    unsigned char *block = dst;
    memset(dst, 0, rq_dwlast_bytes(g, channels, height, width));
    for (int64_t at = 0, first; at < channels;) {
        const int size = rq_dwlast_block(g, channels, at, &first);
        for (int c = 0; c < size && first + c < channels; c++)
            for (int r = 0; r < height; r++)
                for (int s = 0; s < width; s++) {
                    const int group = s * per_column + r / g->kr;
                    put_weight(g, block + 4 * (group * size + rq_dwlast_at(size, g->vectors, c)), r % g->kr,
                               w[((first + c) * height + r) * width + s]);
                }
        block += (size_t)size * (size_t)(per_column * width) * 4;
        at += size;
    }
}

size_t rq_dwlast_finish_bytes(const rq_dwlast_isa *g, int64_t channels)
{
    return dwords_of(g, channels) * 8;
}

void rq_dwlast_pack_finish(const rq_dwlast_isa *g, void *dst, const int32_t *add, const float *m, int64_t channels)
{
    unsigned char *block = dst;
    memset(dst, 0, rq_dwlast_finish_bytes(g, channels));
    for (int64_t at = 0, first; at < channels;) {
        const int size = rq_dwlast_block(g, channels, at, &first);
        for (int c = 0; c < size && first + c < channels; c++) {
            const int i = rq_dwlast_at(size, g->vectors, c);
            memcpy(block + (size_t)i * 4, add + first + c, 4);
            memcpy(block + (size_t)(size + i) * 4, m + first + c, 4);
        }
        block += (size_t)size * 8;
        at += size;
    }
}
