/* ops/rotary.h — rotary position embedding: pairs of elements of a head turned by an angle that grows with the position. */
#ifndef RQ_OPS_ROTARY_H
#define RQ_OPS_ROTARY_H

#include "ops/attend.h"

typedef struct rq_rotary {
    int64_t batch, heads, rows, size;
    int64_t turned;   /* the first elements of a head that turn: even */
    bool interleaved; /* pairs are neighbours; else element i goes with i + turned / 2 */
    bool back;        /* by the same angles the other way: the gradient */
    float *y;
    const float *x;
    rq_attend_at y_at, x_at;
    const float *cos, *sin;         /* [angles][turned / 2] */
    const int64_t *angle;           /* [batch][rows] row of cos and sin, checked by the caller; NULL: */
    const int64_t *start;           /* [batch] row of the first, the next ones follow; NULL: */
    int64_t angle_batch, angle_row; /* rows of cos and sin from one image, and one row, to the next */
} rq_rotary;

void rq_rotary_run(rq_threads *t, const rq_rotary *r);

#endif
