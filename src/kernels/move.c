/* kernels/move.c — strided copies. Transpose, slices, tiles, concatenation and space-to-depth are all one loop
 * nest over two stride vectors: drop axes of size 1, merge neighbours that walk on as one, then run the
 * innermost axis as a memcpy, a 2-D tile (when the source runs contiguously along another axis) or a
 * strided loop. Element sizes 1, 2, 4, 8 and 16 get loops of their own.
 *
 * A tile is turned in registers, 16 bytes by 16 bytes: of n rows, row i is interleaved with row i + n/2, and after log2 n such rounds columns
 * are rows. Written with the compiler's vectors, which are unpacks on x86 and zips on arm. A tile that is a few elements wide or high is a
 * loop that the compiler interleaves. */
#include "kernels/move.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

typedef struct nest {
    int rank;
    int64_t dim[RQ_MOVE_RANK], ds[RQ_MOVE_RANK], ss[RQ_MOVE_RANK]; /* strides in bytes */
} nest;

/* Always inlined with a constant elem, so that memcpy becomes one load and one store. */
static inline __attribute__((always_inline)) void run_strided(char *restrict d, const char *restrict s, int64_t n,
                                                              int64_t ds, int64_t ss, size_t elem)
{
    if (ds == (int64_t)elem && ss == 2 * (int64_t)elem) { /* every second one: a shuffle */
        for (int64_t i = 0; i < n; i++)
            memcpy(d + i * (int64_t)elem, s + 2 * i * (int64_t)elem, elem);
        return;
    }
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

/* ---- tiles: d[i][j] = s[j][i], rows of d are contiguous, columns of s are ---- */

#define BLOCK(bits, n, low, high)                                                                                      \
    typedef uint##bits##_t vec##bits __attribute__((vector_size(16)));                                                 \
    static inline void block_##bits(char *restrict d, const char *restrict s, int64_t d_row, int64_t s_col)            \
    {                                                                                                                  \
        vec##bits v[n], w[n];                                                                                          \
        for (int j = 0; j < n; j++)                                                                                    \
            memcpy(&v[j], s + j * s_col, 16);                                                                          \
        for (int round = 1; round < n; round *= 2) {                                                                   \
            for (int j = 0; j < n / 2; j++) {                                                                          \
                w[2 * j] = __builtin_shufflevector(v[j], v[j + n / 2], low);                                           \
                w[2 * j + 1] = __builtin_shufflevector(v[j], v[j + n / 2], high);                                      \
            }                                                                                                          \
            memcpy(v, w, sizeof v);                                                                                    \
        }                                                                                                              \
        for (int i = 0; i < n; i++)                                                                                    \
            memcpy(d + i * d_row, &v[i], 16);                                                                          \
    }
#define JOIN(...) __VA_ARGS__
BLOCK(8, 16, JOIN(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
      JOIN(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31))
BLOCK(16, 8, JOIN(0, 8, 1, 9, 2, 10, 3, 11), JOIN(4, 12, 5, 13, 6, 14, 7, 15))
BLOCK(32, 4, JOIN(0, 4, 1, 5), JOIN(2, 6, 3, 7))
BLOCK(64, 2, JOIN(0, 2), JOIN(1, 3))

static void block(char *d, const char *s, int64_t d_row, int64_t s_col, size_t elem)
{
    switch (elem) {
    case 1:
        block_8(d, s, d_row, s_col);
        break;
    case 2:
        block_16(d, s, d_row, s_col);
        break;
    case 4:
        block_32(d, s, d_row, s_col);
        break;
    default:
        block_64(d, s, d_row, s_col);
    }
}

/* Where the block at i begins, the last one ending with n: it does some elements again rather than leave a rest. */
static inline int64_t begin_of(int64_t i, int64_t n, int64_t side)
{
    return i + side <= n ? i : n - side;
}

/* A line of the cache of each column of s at a time. */
static inline __attribute__((always_inline)) void tile_blocks(char *d, const char *s, int64_t rows, int64_t cols,
                                                              int64_t d_row, int64_t s_col, size_t elem)
{
    const int64_t side = (int64_t)(16 / elem), line = (int64_t)(64 / elem);
    for (int64_t i0 = 0; i0 < rows; i0 += line)
        for (int64_t j0 = 0; j0 < cols; j0 += side)
            for (int64_t at = i0; at < rows && at < i0 + line; at += side) {
                const int64_t i = begin_of(at, rows, side), j = begin_of(j0, cols, side);
                block(d + i * d_row + j * (int64_t)elem, s + j * s_col + i * (int64_t)elem, d_row, s_col, elem);
            }
}

enum { TILE = 32 };

static inline __attribute__((always_inline)) void tile_plain(char *d, const char *s, int64_t rows, int64_t cols,
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

/* `cols` columns, known to the compiler, rows of d without gaps. */
static inline __attribute__((always_inline)) void interleave(char *restrict d, const char *restrict s, int64_t rows,
                                                             int64_t cols, int64_t s_col, size_t elem)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            memcpy(d + (i * cols + j) * (int64_t)elem, s + j * s_col + i * (int64_t)elem, elem);
}

/* `rows` rows, known to the compiler, columns of s without gaps. */
static inline __attribute__((always_inline)) void separate(char *restrict d, const char *restrict s, int64_t rows,
                                                           int64_t cols, int64_t d_row, size_t elem)
{
    for (int64_t j = 0; j < cols; j++)
        for (int64_t i = 0; i < rows; i++)
            memcpy(d + i * d_row + j * (int64_t)elem, s + (j * rows + i) * (int64_t)elem, elem);
}

static inline __attribute__((always_inline)) void tile_2d(char *d, const char *s, int64_t rows, int64_t cols,
                                                          int64_t d_row, int64_t s_col, size_t elem)
{
    const int64_t side = (int64_t)(16 / elem), dense_d = d_row / (int64_t)elem, dense_s = s_col / (int64_t)elem;
    if (rows >= side && cols >= side)
        tile_blocks(d, s, rows, cols, d_row, s_col, elem);
    else if (cols == 2 && dense_d == 2)
        interleave(d, s, rows, 2, s_col, elem);
    else if (cols == 3 && dense_d == 3)
        interleave(d, s, rows, 3, s_col, elem);
    else if (cols == 4 && dense_d == 4)
        interleave(d, s, rows, 4, s_col, elem);
    else if (rows == 2 && dense_s == 2)
        separate(d, s, 2, cols, d_row, elem);
    else if (rows == 3 && dense_s == 3)
        separate(d, s, 3, cols, d_row, elem);
    else if (rows == 4 && dense_s == 4)
        separate(d, s, 4, cols, d_row, elem);
    else
        tile_plain(d, s, rows, cols, d_row, s_col, elem);
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
        tile_plain(d, s, rows, cols, d_row, s_col, elem);
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

/* A nest, its innermost axis apart and, where that is a tile, the axis that runs along the source. */
typedef struct walk {
    nest m;
    bool tiled;
    size_t elem;
    int64_t n, n_ds, n_ss, rows, rows_ds;
    char *d;
    const char *s;
    int64_t piece; /* of the axis that is cut */
} walk;

static void walk_all(const walk *w)
{
    const nest *m = &w->m;
    char *d = w->d;
    const char *s = w->s;
    int64_t at[RQ_MOVE_RANK] = { 0 };
    for (;;) {
        if (w->tiled)
            tile(d, s, w->rows, w->n, w->rows_ds, w->n_ss, w->elem);
        else
            run(d, s, w->n, w->n_ds, w->n_ss, w->elem);
        int i = m->rank - 1;
        for (; i >= 0; i--) { /* the next index of the outer axes */
            d += m->ds[i];
            s += m->ss[i];
            if (++at[i] < m->dim[i])
                break;
            d -= m->ds[i] * m->dim[i];
            s -= m->ss[i] * m->dim[i];
            at[i] = 0;
        }
        if (i < 0)
            return;
    }
}

/* The axis that is cut for threads: the outermost, or the longer side of a lone tile, or a lone run. */
static int64_t *cut_axis(walk *w, int64_t *ds, int64_t *ss)
{
    if (w->m.rank) {
        *ds = w->m.ds[0];
        *ss = w->m.ss[0];
        return &w->m.dim[0];
    }
    const bool rows = w->tiled && w->rows >= w->n;
    *ds = rows ? w->rows_ds : w->n_ds;
    *ss = rows ? (int64_t)w->elem : w->n_ss;
    return rows ? &w->rows : &w->n;
}

static void walk_piece(void *arg, int64_t item)
{
    walk w = *(const walk *)arg;
    int64_t ds, ss, *n = cut_axis(&w, &ds, &ss);
    const int64_t from = item * w.piece;
    *n = *n - from < w.piece ? *n - from : w.piece;
    w.d += from * ds;
    w.s += from * ss;
    walk_all(&w);
}

enum { PIECE = 1 << 16 }; /* bytes worth a thread's while */

void rq_move_nd_on(rq_threads *t, void *dst, const void *src, size_t elem, int rank, const int64_t *dim,
                   const int64_t *ds, const int64_t *ss)
{
    assert(rank <= RQ_MOVE_RANK);
    walk w = { .elem = elem, .rows = 1, .d = dst, .s = src };
    nest *m = &w.m;
    if (!simplify(m, elem, rank, dim, ds, ss))
        return;
    if (m->rank == 0) {
        memcpy(dst, src, elem);
        return;
    }
    int64_t rows_ss;
    take(m, m->rank - 1, &w.n, &w.n_ds, &w.n_ss);
    if (w.n_ds == (int64_t)elem && w.n_ss != (int64_t)elem)
        for (int i = 0; i < m->rank && !w.tiled; i++)
            if (m->ss[i] == (int64_t)elem) {
                take(m, i, &w.rows, &w.rows_ds, &rows_ss);
                w.tiled = true;
            }
    int64_t bytes = w.n * w.rows * (int64_t)elem, cut_ds, cut_ss;
    for (int i = 0; i < m->rank; i++)
        bytes *= m->dim[i];
    const int64_t n = *cut_axis(&w, &cut_ds, &cut_ss), each = bytes / n;
    w.piece = each < PIECE ? PIECE / each : 1;
    if (!m->rank)
        w.piece = (w.piece + 63) / 64 * 64; /* whole lines of a tile */
    if (t && bytes >= 2 * PIECE && w.piece < n)
        rq_threads_for(t, (n + w.piece - 1) / w.piece, walk_piece, &w);
    else
        walk_all(&w);
}

void rq_move_nd(void *dst, const void *src, size_t elem, int rank, const int64_t *dim, const int64_t *ds,
                const int64_t *ss)
{
    rq_move_nd_on(NULL, dst, src, elem, rank, dim, ds, ss);
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
