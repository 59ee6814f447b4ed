/* ops/int_last.c — see int_last.h. */
#include "ops/int_last.h"

#include "base/mem.h"
#include "kernels/move.h"
#include "kernels/relayout.h"
#include "ops/int_ops.h"

enum {
    SMALL_WORK = 1 << 16, /* bytes from which moving is shared by threads */
    POST_BYTES = 1 << 14, /* of an item */
    TURN_BYTES = 1 << 15, /* of an item, about */
    LINE = 16             /* numbers of 4 bytes in a line of the cache */
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* [images][columns][rows] of 4 bytes from [images][rows][columns]. Some rows are an item: they lie together, and what they become is whole lines of the
 * cache. */
typedef struct turn {
    char *dst;
    const char *src;
    int64_t rows, columns, some; /* rows of an item */
} turn;

static void turn_item(void *arg, int64_t item)
{
    const turn *t = arg;
    const int64_t items = (t->rows + t->some - 1) / t->some, image = item / items, first = item % items * t->some;
    const int64_t dim[2] = { t->columns, min64(t->some, t->rows - first) }, ds[2] = { t->rows, 1 },
                  ss[2] = { 1, t->columns };
    rq_move_nd(t->dst + (image * t->columns * t->rows + first) * 4, t->src + (image * t->rows + first) * t->columns * 4,
               4, 2, dim, ds, ss);
}

static bool needs_other_in(const rq_op_args *a)
{
    return !a->last && (a->in[0]->shape.dim[1] != 1 || rq_int_flip_to_u8(a->in[0]->dtype));
}

static bool needs_other_out(const rq_op_args *a)
{
    return (!a->last || !a->out_q[0]) && a->out[0]->shape.dim[1] != 1;
}

size_t rq_int_last_in_bytes(const rq_op_args *a)
{
    return needs_other_in(a) ? rq_mem_round((size_t)rq_tensor_count(a->in[0])) : 0;
}

size_t rq_int_last_out_bytes(const rq_op_args *a)
{
    return needs_other_out(a) ? rq_mem_round((size_t)rq_tensor_count(a->out[0]) * rq_int_last_element(a)) : 0;
}

/* Codes of x turned as r says, s positions of c channels. */
static rq_relayout relayout_of(const rq_op_args *a, const rq_shape *x)
{
    return (rq_relayout) {
        .k = a->k, .threads = a->threads, .n = x->dim[0], .c = x->dim[1], .s = rq_shape_span(x, 2, x->rank)
    };
}

const uint8_t *rq_int_last_in(const rq_op_args *a, void *scratch)
{
    if (!needs_other_in(a))
        return a->in[0]->u8;
    rq_relayout r = relayout_of(a, &a->in[0]->shape);
    r.is_signed = a->in[0]->dtype == RQ_DTYPE_S8;
    rq_relayout_to_last(&r, scratch, a->in[0]->u8);
    return scratch;
}

void rq_int_last_out(const rq_op_args *a, const void *made)
{
    if (!needs_other_out(a) || !rq_tensor_count(a->out[0]))
        return;
    const rq_relayout r = relayout_of(a, &a->out[0]->shape);
    if (a->out_q[0]) { /* codes as they are to be, s8 ones too */
        rq_relayout_from_last(&r, a->out[0]->u8, made);
        return;
    }
    turn t = { .dst = a->out[0]->data, .src = made, .rows = r.s, .columns = r.c };
    t.some = (TURN_BYTES / 4 / r.c / LINE + 1) * LINE;
    rq_threads_for(r.n * r.s * r.c < SMALL_WORK / 4 ? NULL : a->threads, r.n * ((r.s + t.some - 1) / t.some), turn_item,
                   &t);
}

void rq_int_last_posts_on(const rq_op_args *a, int64_t first, int64_t n)
{
    const int64_t c = rq_tensor_count(a->out[0]) ? a->out[0]->shape.dim[1] : 0, ld = rq_int_last_ld(a);
    rq_post_rows(a->k, a->post, a->n_post, a->out[0]->u8, ld, first, n, 0, c);
}

static int64_t post_pixels(const rq_op_args *a)
{
    return POST_BYTES / rq_int_last_ld(a) + 1;
}

static void post_item(void *arg, int64_t item)
{
    const rq_op_args *a = arg;
    const int64_t some = post_pixels(a), all = rq_tensor_count(a->out[0]) / a->out[0]->shape.dim[1];
    rq_int_last_posts_on(a, item * some, min64(all - item * some, some));
}

void rq_int_last_posts(const rq_op_args *a)
{
    const int64_t n = rq_tensor_count(a->out[0]);
    rq_op_args some = *a;
    if (!a->n_post || !n)
        return;
    const int64_t pixels = n / a->out[0]->shape.dim[1], each = post_pixels(a);
    rq_threads_for(n < SMALL_WORK ? NULL : a->threads, (pixels + each - 1) / each, post_item, &some);
}
