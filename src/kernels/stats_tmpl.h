/* kernels/stats_tmpl.h — counting long arrays into bins, for the files stats_<isa>.c, which define before including this
 *
 *     static void bins_of(uint32_t *at, const float *x, size_t n, const rq_bins *b, int shift);
 *
 * at[i] = (bin of x[i]) << shift, i < n, n a multiple of 16; b->n is the bin of what is not counted.
 *
 * An increment that meets the one before it in the same bin waits for it: with one table, a constant tensor costs the
 * latency of a store and a load per element. So there are up to four tables of 32 bits, interleaved, which neighbours take
 * in turn, small enough for the first-level cache; at the end they are added to the 64-bit counts. Bins are found in
 * vectors, a block ahead, so that no store of a vector is read back at once. */
#include "kernels/kernels_isa.h"

#include <string.h>

enum {
    TALLY_SLOTS = 1 << 14, /* 64 KiB of counts on the stack */
    TALLY_BLOCK = 512,     /* elements whose bins are found before they are counted */
    TALLY_FLUSH = 1 << 30, /* elements after which 32 bits could be full */
    TALLY_WORTH = 4,       /* elements per slot from which clearing and adding the tables is cheap */
};

/* Tables for b->n bins as a shift: 1, 2 or 4; -1: too many bins, or too few elements. */
static inline int tally_shift(const rq_bins *b, size_t n)
{
    for (int shift = 2; shift >= 1; shift--)
        if (((size_t)b->n + 1) << shift <= TALLY_SLOTS)
            return n / TALLY_WORTH >= ((size_t)b->n + 1) << shift ? shift : -1;
    return -1;
}

/* Count x[n], n a multiple of 16, with 1 << shift tables. */
static void tally(uint64_t *h, const rq_bins *b, const float *x, size_t n, int shift)
{
    uint32_t count[TALLY_SLOTS], at[TALLY_BLOCK];
    const size_t slots = ((size_t)b->n + 1) << shift;
    uint32_t *t[4];
    for (int i = 0; i < 4; i++)
        t[i] = count + (i & ((1 << shift) - 1));
    while (n) {
        const size_t part = n < TALLY_FLUSH ? n : TALLY_FLUSH;
        memset(count, 0, slots * sizeof *count);
        for (size_t from = 0; from < part; from += TALLY_BLOCK) {
            const size_t m = part - from < TALLY_BLOCK ? part - from : TALLY_BLOCK;
            bins_of(at, x + from, m, b, shift);
            for (size_t i = 0; i < m; i += 4) {
                t[0][at[i]]++;
                t[1][at[i + 1]]++;
                t[2][at[i + 2]]++;
                t[3][at[i + 3]]++;
            }
        }
        for (size_t i = 0, k = 0; i < (size_t)b->n; i++)
            for (size_t end = k + ((size_t)1 << shift); k < end; k++)
                h[i] += count[k];
        x += part;
        n -= part;
    }
}
