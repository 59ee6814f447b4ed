/* kernels/dwplane_tmpl.h — kernels/dwplane.h, once for every vector width. The file that includes this defines VEC_WIDTH and SUFFIX, and of its
 * instruction set: vmask, of the lanes that are there; vmask_of(from, to): lanes from..to-1, whatever those are; vload_if(p, m): 0 in the others, which are
 * not read; vstore_if(p, v, m); vevens(a, b): the elements at even places of a, then of b. */
#include "kernels/dwplane.h"

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

/* Rows r0..r1-1 of the kernel, which lie inside, at x, the first of them; the others see nothing but zeros. */
static inline __attribute__((always_inline)) vf sum_of(const block *b, const float *x, int64_t step, const float *w,
                                                       float bias, int r0, int r1, int rows, int columns, int stride)
{
    vf sum = vsplat(bias);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) {
            vf v = vsplat(0);
            if (r >= r0 && r < r1) {
                const float *from = x + (r - r0) * step + (b->at + c);
                v = vload_if(from, b->in[c][0]);
                if (stride == 2)
                    v = vevens(v, vload_if(from + VEC_WIDTH, b->in[c][1]));
            }
            sum = vadd(sum, vmul(vsplat(w[r * columns + c]), v));
        }
    return sum;
}

static inline __attribute__((always_inline)) void plane(const rq_dwplane *g, float *y, const float *x, const float *w,
                                                        float bias, int rows, int columns, int stride)
{
    block b;
    for (int64_t j = 0; j < g->out[1]; j += VEC_WIDTH) {
        make_block(&b, g, j, columns, stride);
        for (int64_t i = 0; i < g->out[0]; i++) {
            const int64_t top = i * g->stride[0] - g->pad[0];
            int r0 = 0, r1 = rows;
            while (r0 < rows && top + (int64_t)r0 * g->dilation < 0)
                r0++;
            while (r1 > r0 && top + (int64_t)(r1 - 1) * g->dilation >= g->in[0])
                r1--;
            const float *from = r0 < r1 ? x + (top + (int64_t)r0 * g->dilation) * g->in[1] : x;
            const int64_t step = g->dilation * g->in[1];
            vf sum;
            if (r0 == 0 && r1 == rows)
                sum = sum_of(&b, from, step, w, bias, 0, rows, rows, columns, stride);
            else
                sum = sum_of(&b, from, step, w, bias, r0, r1, rows, columns, stride);
            vstore_if(y + i * g->out[1] + j, sum, b.out);
        }
    }
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

void JOIN(rq_dwplane_f32_, SUFFIX)(const rq_dwplane *g, float *y, const float *x, const float *w, float bias)
{
    const int rows = g->kernel[0], columns = g->kernel[1], stride = g->stride[1];
    if (rows == 3 && columns == 3 && stride == 1)
        plane(g, y, x, w, bias, 3, 3, 1);
    else if (rows == 3 && columns == 3)
        plane(g, y, x, w, bias, 3, 3, 2);
    else if (rows == 5 && columns == 5 && stride == 1)
        plane(g, y, x, w, bias, 5, 5, 1);
    else if (stride == 1)
        plane(g, y, x, w, bias, rows, columns, 1);
    else
        plane(g, y, x, w, bias, rows, columns, 2);
}
