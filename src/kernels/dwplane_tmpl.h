/* kernels/dwplane_tmpl.h — kernels/dwplane.h, once for every vector width. The file that includes this defines VEC_WIDTH, SUFFIX and AT_ONCE, rows of the output
 * that are summed together, and of its instruction set: vmask, of the lanes that are there; vmask_of(from, to): lanes from..to-1, whatever those are;
 * vload_if(p, m): 0 in the others, which are not read; vstore_if(p, v, m); vevens(a, b): the elements at even places of a, then of b. */
#include "kernels/dwplane.h"

enum { MAX_SEEN = 2 * (AT_ONCE - 1) + RQ_DWPLANE_MAX }; /* rows of the input that rows of the output see together */

/* What stands the same for all rows of a block of columns: which lanes of each tap lie inside. */
typedef struct block {
    vmask in[RQ_DWPLANE_MAX][2], out;
    int64_t at; /* of tap 0 in a row of x, may be negative */
} block;

static inline __attribute__((always_inline)) void make_block(block *b, const rq_dwplane *g, int64_t j, int columns,
                                                             int stride)
{
    b->at = j * stride - g->pad[1];
    b->out = vmask_of(0, g->out[1] - j);
    for (int c = 0; c < columns; c++)
        for (int k = 0; k < stride; k++) {
            const int64_t at = b->at + c + (int64_t)k * VEC_WIDTH;
            b->in[c][k] = vmask_of(-at, g->in[1] - at);
        }
}

/* What tap c sees of a row of the input; NULL: of one that lies outside. */
static inline __attribute__((always_inline)) vf tap(const block *b, const float *row, int c, int stride)
{
    if (!row)
        return vsplat(0);
    const vf v = vload_if(row + (b->at + c), b->in[c][0]);
    return stride == 2 ? vevens(v, vload_if(row + (b->at + c) + VEC_WIDTH, b->in[c][1])) : v;
}

/* One row of outputs from the rows of the input that its kernel's rows see. */
static inline __attribute__((always_inline)) vf sum_of(const block *b, const float *const *x, const vf *w, float bias,
                                                       int rows, int columns, int stride)
{
    vf sum = vsplat(bias);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            sum = vadd(sum, vmul(w[r * columns + c], tap(b, x[r], c, stride)));
    return sum;
}

/* AT_ONCE rows of outputs, from the rows of the input that they see: each of these is read once for all of them. The order of a sum is that of sum_of. */
static inline __attribute__((always_inline)) void sums_of(vf *sum, const block *b, const float *const *x, const vf *w,
                                                          float bias, int down, int rows, int columns, int stride)
{
#pragma GCC unroll 4
    for (int i = 0; i < AT_ONCE; i++)
        sum[i] = vsplat(bias);
#pragma GCC unroll 16
    for (int q = 0; q < (AT_ONCE - 1) * down + rows; q++)
#pragma GCC unroll 8
        for (int c = 0; c < columns; c++) {
            const vf v = tap(b, x[q], c, stride);
#pragma GCC unroll 4
            for (int i = 0; i < AT_ONCE; i++)
                if (q >= i * down && q < i * down + rows)
                    sum[i] = vadd(sum[i], vmul(w[(q - i * down) * columns + c], v));
        }
}

/* Where the rows of the input lie that rows of the output from i on see, n of them; NULL outside. */
static void find_rows(const rq_dwplane *g, const float *x, const float **at, int64_t i, int n)
{
    for (int r = 0; r < n; r++) {
        const int64_t row = i * g->stride[0] + (int64_t)r * g->dilation - g->pad[0];
        at[r] = row >= 0 && row < g->in[0] ? x + row * g->in[1] : NULL;
    }
}

/* together: rows of the output may be summed together (down is their step then, and there is no dilation). */
static inline __attribute__((always_inline)) void plane(const rq_dwplane *g, float *y, const float *x, const float *w,
                                                        float bias, bool together, int down, int rows, int columns,
                                                        int stride)
{
    const float *at[MAX_SEEN];
    vf taps[RQ_DWPLANE_MAX * RQ_DWPLANE_MAX];
    block b;
    for (int i = 0; i < rows * columns; i++)
        taps[i] = vsplat(w[i]);
    for (int64_t j = 0; j < g->out[1]; j += VEC_WIDTH) {
        make_block(&b, g, j, columns, stride);
        if (together && g->out[0] >= AT_ONCE) {
            for (int64_t i = 0; i < g->out[0]; i += AT_ONCE) {
                vf sum[AT_ONCE];
                if (i > g->out[0] - AT_ONCE) /* the last rows, some of them once more */
                    i = g->out[0] - AT_ONCE;
                find_rows(g, x, at, i, (AT_ONCE - 1) * down + rows);
                sums_of(sum, &b, at, taps, bias, down, rows, columns, stride);
                for (int r = 0; r < AT_ONCE; r++)
                    vstore_if(y + (i + r) * g->out[1] + j, sum[r], b.out);
            }
            continue;
        }
        for (int64_t i = 0; i < g->out[0]; i++) {
            find_rows(g, x, at, i, rows);
            vstore_if(y + i * g->out[1] + j, sum_of(&b, at, taps, bias, rows, columns, stride), b.out);
        }
    }
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

void JOIN(rq_dwplane_f32_, SUFFIX)(const rq_dwplane *g, float *y, const float *x, const float *w, float bias)
{
    const int rows = g->kernel[0], columns = g->kernel[1], stride = g->stride[1];
    const bool together = g->dilation == 1 && g->stride[0] == stride;
    if (rows == 3 && columns == 3 && stride == 1)
        plane(g, y, x, w, bias, together, 1, 3, 3, 1);
    else if (rows == 3 && columns == 3)
        plane(g, y, x, w, bias, together, 2, 3, 3, 2);
    else if (rows == 5 && columns == 5 && stride == 1)
        plane(g, y, x, w, bias, together, 1, 5, 5, 1);
    else if (stride == 1)
        plane(g, y, x, w, bias, false, 1, rows, columns, 1);
    else
        plane(g, y, x, w, bias, false, 1, rows, columns, 2);
}
