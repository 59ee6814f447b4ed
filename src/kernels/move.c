/* kernels/move.c — strided copies. Transpose, slices, tiles, concatenation and space-to-depth are all one loop
 * nest over two stride vectors: drop axes of size 1, merge neighbours that walk on as one, then run the
 * innermost axis as a memcpy, a 2-D tile (when the source runs contiguously along another axis) or a
 * strided loop. Element sizes 1, 2, 4, 8 and 16 get loops of their own. */
#include "kernels/move.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

typedef struct nest {
    int rank;
    int64_t dim[RQ_MOVE_RANK], ds[RQ_MOVE_RANK], ss[RQ_MOVE_RANK]; /* strides in bytes */
} nest;

/* Always inlined with a constant elem, so that memcpy becomes one load and one store. */
static inline __attribute__((always_inline)) void run_strided(char *d, const char *s, int64_t n, int64_t ds, int64_t ss,
                                                              size_t elem)
{
    for (int64_t i = 0; i < n; i++)
        memcpy(d + i * ds, s + i * ss, elem);
}

static void run(char *d, const char *s, int64_t n, int64_t ds, int64_t ss, size_t elem)
{
    if (ds == (int64_t)elem && ss == (int64_t)elem) {
        memcpy(d, s, (size_t)n * elem);
        return;
    }
    switch (elem) {
    case 1:
        run_strided(d, s, n, ds, ss, 1);
        break;
    case 2:
        run_strided(d, s, n, ds, ss, 2);
        break;
    case 4:
        run_strided(d, s, n, ds, ss, 4);
        break;
    case 8:
        run_strided(d, s, n, ds, ss, 8);
        break;
    case 16:
        run_strided(d, s, n, ds, ss, 16);
        break;
    default:
        run_strided(d, s, n, ds, ss, elem);
    }
}

enum { TILE = 32 };

/* d[i][j] = s[j][i]: rows of d are contiguous, columns of s are. In tiles, so that both sides stay in cache. */
static inline __attribute__((always_inline)) void tile_2d(char *d, const char *s, int64_t rows, int64_t cols,
                                                          int64_t d_row, int64_t s_col, size_t elem)
{
    for (int64_t i0 = 0; i0 < rows; i0 += TILE)
        for (int64_t j0 = 0; j0 < cols; j0 += TILE) {
            int64_t i1 = i0 + TILE < rows ? i0 + TILE : rows, j1 = j0 + TILE < cols ? j0 + TILE : cols;
            for (int64_t i = i0; i < i1; i++)
                for (int64_t j = j0; j < j1; j++)
                    memcpy(d + i * d_row + j * (int64_t)elem, s + j * s_col + i * (int64_t)elem, elem);
        }
}

static void tile(char *d, const char *s, int64_t rows, int64_t cols, int64_t d_row, int64_t s_col, size_t elem)
{
    switch (elem) {
    case 1:
        tile_2d(d, s, rows, cols, d_row, s_col, 1);
        break;
    case 2:
        tile_2d(d, s, rows, cols, d_row, s_col, 2);
        break;
    case 4:
        tile_2d(d, s, rows, cols, d_row, s_col, 4);
        break;
    case 8:
        tile_2d(d, s, rows, cols, d_row, s_col, 8);
        break;
    default:
        tile_2d(d, s, rows, cols, d_row, s_col, elem);
    }
}

/* The same walk with fewer axes; false when there is nothing to copy. */
static bool simplify(nest *m, size_t elem, int rank, const int64_t *dim, const int64_t *ds, const int64_t *ss)
{
    m->rank = 0;
    for (int i = 0; i < rank; i++) {
        int r = m->rank;
        int64_t d = ds[i] * (int64_t)elem, s = ss[i] * (int64_t)elem;
        if (dim[i] == 0)
            return false;
        if (dim[i] == 1)
            continue;
        if (r && m->ds[r - 1] == d * dim[i] && m->ss[r - 1] == s * dim[i]) {
            m->dim[r - 1] *= dim[i];
            m->ds[r - 1] = d;
            m->ss[r - 1] = s;
            continue;
        }
        m->dim[r] = dim[i];
        m->ds[r] = d;
        m->ss[r] = s;
        m->rank++;
    }
    return true;
}

/* Take axis i out of the nest. */
static void take(nest *m, int i, int64_t *dim, int64_t *ds, int64_t *ss)
{
    *dim = m->dim[i];
    *ds = m->ds[i];
    *ss = m->ss[i];
    m->rank--;
    for (; i < m->rank; i++) {
        m->dim[i] = m->dim[i + 1];
        m->ds[i] = m->ds[i + 1];
        m->ss[i] = m->ss[i + 1];
    }
}

void rq_move_nd(void *dst, const void *src, size_t elem, int rank, const int64_t *dim, const int64_t *ds,
                const int64_t *ss)
{
    assert(rank <= RQ_MOVE_RANK);
    nest m;
    char *d = dst;
    const char *s = src;
    if (!simplify(&m, elem, rank, dim, ds, ss))
        return;
    if (m.rank == 0) {
        memcpy(d, s, elem);
        return;
    }
    int64_t n, n_ds, n_ss, rows = 1, rows_ds = 0, rows_ss = 0;
    bool tiled = false;
    take(&m, m.rank - 1, &n, &n_ds, &n_ss);
    if (n_ds == (int64_t)elem && n_ss != (int64_t)elem)
        for (int i = 0; i < m.rank && !tiled; i++)
            if (m.ss[i] == (int64_t)elem) {
                take(&m, i, &rows, &rows_ds, &rows_ss);
                tiled = true;
            }
    int64_t at[RQ_MOVE_RANK] = { 0 };
    for (;;) {
        if (tiled)
            tile(d, s, rows, n, rows_ds, n_ss, elem);
        else
            run(d, s, n, n_ds, n_ss, elem);
        int i = m.rank - 1;
        for (; i >= 0; i--) { /* the next index of the outer axes */
            d += m.ds[i];
            s += m.ss[i];
            if (++at[i] < m.dim[i])
                break;
            d -= m.ds[i] * m.dim[i];
            s -= m.ss[i] * m.dim[i];
            at[i] = 0;
        }
        if (i < 0)
            return;
    }
}

void rq_move_fill(void *dst, const void *value, size_t elem, int64_t n)
{
    const unsigned char *v = value;
    bool same = true;
    for (size_t i = 1; i < elem; i++)
        same = same && v[i] == v[0];
    if (same) {
        if (n)
            memset(dst, v[0], (size_t)n * elem);
        return;
    }
    run(dst, value, n, (int64_t)elem, 0, elem);
}
