/* ops/content.c — see content.h. Three ways, tried in turn: all inputs known, so run the operator; the operator
 * only moves elements, so run it on 64-bit integers among which unknown sizes are marked; elementwise
 * arithmetic on sizes, where x * 1, x + 0, x == -1 and the like have an answer without knowing x. */
#include "ops/content.h"
#include "ops/rows.h"

#include <string.h>

void rq_content_release(rq_content *c)
{
    rq_tensor_release(&c->exact);
    rq_tensor_release(&c->part);
}

static bool is_known(const rq_content *c)
{
    return c->exact.dtype != RQ_DTYPE_NONE;
}

static bool is_known_in_part(const rq_content *c)
{
    return is_known(c) || c->part.dtype != RQ_DTYPE_NONE;
}

static bool is_integer(rq_dtype d)
{
    return d == RQ_DTYPE_BOOL || rq_dtype_is_integer(d);
}

static bool is_small(const rq_shape *s)
{
    return rq_shape_is_known(s) && rq_shape_check(s) == RQ_OK && rq_shape_count(s) <= RQ_CONTENT_MAX;
}

/* A private S64 copy of what is known; RQ_NOT_FOUND when nothing is. */
static rq_status widen(const rq_content *c, rq_tensor *out)
{
    if (c->part.dtype != RQ_DTYPE_NONE)
        return rq_tensor_copy(out, &c->part);
    if (!is_known(c) || !is_integer(c->exact.dtype) || rq_tensor_count(&c->exact) > RQ_CONTENT_MAX)
        return RQ_NOT_FOUND;
    RQ_TRY(rq_tensor_create(out, RQ_DTYPE_S64, &c->exact.shape, false));
    for (int64_t i = 0, n = rq_tensor_count(&c->exact); i < n; i++)
        out->s64[i] = rq_tensor_get_int(&c->exact, i);
    return RQ_OK;
}

/* Take over t (S64, may hold marks) as the content of a value of type d. */
static rq_status narrow(rq_content *out, rq_tensor *t, rq_dtype d)
{
    int64_t n = rq_tensor_count(t);
    for (int64_t i = 0; i < n; i++)
        if (rq_content_dim(t->s64[i]) < 0) {
            out->part = *t;
            *t = (rq_tensor) { 0 };
            return RQ_OK;
        }
    if (d == RQ_DTYPE_S64) {
        out->exact = *t;
        *t = (rq_tensor) { 0 };
        return RQ_OK;
    }
    RQ_TRY(rq_tensor_create(&out->exact, d, &t->shape, true));
    for (int64_t i = 0; i < n; i++)
        rq_tensor_set(&out->exact, i, (double)t->s64[i]);
    return RQ_OK;
}

/* Run the row with these inputs and outputs (outputs created here, as type d or as inferred). */
static rq_status run_row(const rq_infer *a, const rq_tensor *const *in, rq_tensor *out, rq_dtype d, const rq_kernels *k)
{
    enum { CAP = 64 };
    rq_tensor *ptr[CAP];
    rq_err quiet;
    if (a->n_out > CAP)
        return RQ_NOT_FOUND;
    for (int i = 0; i < a->n_out; i++) {
        ptr[i] = a->node->out[i] == RQ_NONE ? NULL : &out[i];
        if (ptr[i])
            RQ_TRY(rq_tensor_create(&out[i], d != RQ_DTYPE_NONE ? d : a->out_dtype[i], &a->out_shape[i], false));
    }
    rq_op_args args = { .graph = a->graph,
                        .node = a->node,
                        .opset = a->opset,
                        .in = in,
                        .out = ptr,
                        .n_in = a->n_in,
                        .n_out = a->n_out,
                        .k = k,
                        .err = &quiet };
    return a->node->row->forward(&args);
}

/* May forward run here: no state, no subgraph, outputs small and sized? */
static bool can_run(const rq_infer *a)
{
    const rq_op *row = a->node->row;
    if (!row->forward || row->prepare || row->scratch || row->flags & (RQ_OP_DYNAMIC | RQ_OP_KEEP))
        return false;
    if (rq_attr_any_body(a->node))
        return false;
    for (int i = 0; i < a->n_out; i++)
        if (!is_small(&a->out_shape[i]) || rq_dtype_bits(a->out_dtype[i]) == 0)
            return false;
    return true;
}

static rq_status run_known(const rq_infer *a, const rq_content *const *in, rq_content *out, const rq_kernels *k)
{
    bool shape_only = a->node->row->flags & RQ_OP_SHAPE_ONLY;
    if (!can_run(a))
        return RQ_NOT_FOUND;
    for (int i = 0; i < a->n_in; i++) {
        if (!a->in[i])
            continue;
        if (!rq_shape_is_known(&a->in[i]->shape) || rq_shape_check(&a->in[i]->shape))
            return RQ_NOT_FOUND;
        if (!shape_only && (!in[i] || !is_known(in[i]) || rq_dtype_bits(in[i]->exact.dtype) == 0 ||
                            rq_tensor_count(&in[i]->exact) > RQ_CONTENT_MAX))
            return RQ_NOT_FOUND;
    }
    rq_tensor *made = rq_mem_zalloc((size_t)a->n_out, sizeof *made);
    if (!made)
        return RQ_NO_MEMORY;
    rq_status s = run_row(a, a->in, made, RQ_DTYPE_NONE, k);
    for (int i = 0; i < a->n_out; i++)
        if (s == RQ_OK)
            out[i].exact = made[i];
        else
            rq_tensor_release(&made[i]);
    rq_mem_free(made);
    return s;
}

/* Operators that put elements of their data inputs into their outputs unchanged: one data input, or all. */
static int n_data_inputs(const rq_infer *a)
{
    if (a->node->row == &rq_op_concat)
        return a->n_in;
    return a->node->row->flags & RQ_OP_MOVES ? 1 : 0;
}

static rq_status move_marks(const rq_infer *a, const rq_content *const *in, rq_content *out, const rq_kernels *k)
{
    int n_data = n_data_inputs(a);
    if (n_data == 0 || !can_run(a))
        return RQ_NOT_FOUND;
    for (int i = 0; i < a->n_out; i++)
        if (!is_integer(a->out_dtype[i]))
            return RQ_NOT_FOUND;
    const rq_tensor **ptr = rq_mem_zalloc((size_t)a->n_in + 1, sizeof *ptr);
    rq_tensor *wide = rq_mem_zalloc((size_t)a->n_in + 1, sizeof *wide);
    rq_tensor *made = rq_mem_zalloc((size_t)a->n_out + 1, sizeof *made);
    rq_status s = ptr && wide && made ? RQ_OK : RQ_NO_MEMORY;
    for (int i = 0; i < a->n_in && s == RQ_OK; i++) {
        if (!a->in[i])
            continue;
        if (!in[i]) {
            s = RQ_NOT_FOUND;
        } else if (i < n_data) {
            s = widen(in[i], &wide[i]);
            ptr[i] = &wide[i];
        } else if (is_known(in[i])) {
            ptr[i] = &in[i]->exact;
        } else {
            s = RQ_NOT_FOUND;
        }
    }
    if (s == RQ_OK)
        s = run_row(a, ptr, made, RQ_DTYPE_S64, k);
    for (int i = 0; i < a->n_out && s == RQ_OK; i++)
        if (made[i].dtype != RQ_DTYPE_NONE)
            s = narrow(&out[i], &made[i], a->out_dtype[i]);
    for (int i = 0; wide && i < a->n_in; i++)
        rq_tensor_release(&wide[i]);
    for (int i = 0; made && i < a->n_out; i++)
        rq_tensor_release(&made[i]);
    rq_mem_free(made);
    rq_mem_free(wide);
    rq_mem_free(ptr);
    return s;
}

/* ---- arithmetic on numbers some of which are sizes not known yet: dx, dy are their dims, or 0 ---- */

static const int64_t any = -(INT64_C(1) << 62) - 1; /* rq_content_unknown(RQ_DIM_UNKNOWN) */

static int64_t plus(int64_t x, int64_t y)
{
    int64_t r, dx = rq_content_dim(x), dy = rq_content_dim(y);
    if (!dx && !dy)
        return __builtin_add_overflow(x, y, &r) ? any : r;
    return dx && y == 0 ? x : dy && x == 0 ? y : any;
}

static int64_t minus(int64_t x, int64_t y)
{
    int64_t r, dx = rq_content_dim(x), dy = rq_content_dim(y);
    if (!dx && !dy)
        return __builtin_sub_overflow(x, y, &r) ? any : r;
    if (dx < RQ_DIM_UNKNOWN && dx == dy)
        return 0;
    return y == 0 ? x : any;
}

static int64_t times(int64_t x, int64_t y)
{
    int64_t r, dx = rq_content_dim(x), dy = rq_content_dim(y);
    if (!dx && !dy)
        return __builtin_mul_overflow(x, y, &r) ? any : r;
    if (x == 0 || y == 0)
        return 0;
    return y == 1 ? x : x == 1 ? y : any;
}

static int64_t over(int64_t x, int64_t y)
{
    int64_t dx = rq_content_dim(x), dy = rq_content_dim(y);
    if (!dx && !dy)
        return y == 0 || (x == INT64_MIN && y == -1) ? any : x / y;
    return y == 1 ? x : any;
}

static int64_t equal(int64_t x, int64_t y)
{
    int64_t dx = rq_content_dim(x), dy = rq_content_dim(y);
    if (!dx && !dy)
        return x == y;
    if ((dx && !dy && y < 0) || (dy && !dx && x < 0))
        return 0; /* no size is negative */
    return dx < RQ_DIM_UNKNOWN && dx == dy ? 1 : any;
}

static int64_t larger(int64_t x, int64_t y)
{
    int64_t dx = rq_content_dim(x), dy = rq_content_dim(y);
    if (!dx && !dy)
        return x > y ? x : y;
    if (dx && !dy)
        return y <= 0 ? x : any;
    if (dy && !dx)
        return x <= 0 ? y : any;
    return dx == dy && dx != RQ_DIM_UNKNOWN ? x : any;
}

static int64_t smaller(int64_t x, int64_t y)
{
    int64_t dx = rq_content_dim(x), dy = rq_content_dim(y);
    if (!dx && !dy)
        return x < y ? x : y;
    if (dx && !dy)
        return y <= 0 ? y : any;
    if (dy && !dx)
        return x <= 0 ? x : any;
    return dx == dy && dx != RQ_DIM_UNKNOWN ? x : any;
}

static const struct arithmetic {
    const char *name;
    int64_t (*fn)(int64_t x, int64_t y);
} arithmetic[] = {
    { "Add", plus },    { "Sub", minus },  { "Mul", times },   { "Div", over },
    { "Equal", equal }, { "Max", larger }, { "Min", smaller },
};

/* Where element `i` of the output comes from in a tensor broadcast to it. */
static int64_t source_of(const rq_shape *out, const rq_shape *in, int64_t i)
{
    int64_t at = 0, step = 1;
    for (int o = out->rank - 1, n = in->rank - 1; o >= 0 && n >= 0; o--, n--) {
        int64_t k = i % out->dim[o];
        i /= out->dim[o];
        at += in->dim[n] == 1 ? 0 : k * step;
        step *= in->dim[n];
    }
    return at;
}

static int64_t choose(int64_t c, int64_t x, int64_t y)
{
    if (rq_content_dim(c))
        return x == y && rq_content_dim(x) != RQ_DIM_UNKNOWN ? x : any;
    return c ? x : y;
}

static rq_status compute(const rq_infer *a, const rq_content *const *in, rq_content *out)
{
    const char *name = a->node->row->name;
    const struct arithmetic *op = NULL;
    bool where = strcmp(name, "Where") == 0, cast = strcmp(name, "Cast") == 0;
    for (size_t i = 0; i < sizeof arithmetic / sizeof arithmetic[0]; i++)
        if (strcmp(arithmetic[i].name, name) == 0)
            op = &arithmetic[i];
    int n = where ? 3 : cast ? 1 : 2;
    if (a->node->row->domain[0] || (!op && !where && !cast) || a->n_in != n || a->n_out != 1 ||
        !is_small(&a->out_shape[0]) || !is_integer(a->out_dtype[0]))
        return RQ_NOT_FOUND;
    if (cast && a->out_dtype[0] == RQ_DTYPE_BOOL)
        return RQ_NOT_FOUND;
    rq_tensor t[4] = { { 0 } };
    rq_status s = RQ_OK;
    for (int i = 0; i < n && s == RQ_OK; i++)
        s = in[i] ? widen(in[i], &t[i]) : RQ_NOT_FOUND;
    if (s == RQ_OK)
        s = rq_tensor_create(&t[3], RQ_DTYPE_S64, &a->out_shape[0], false);
    for (int64_t i = 0, count = s == RQ_OK ? rq_tensor_count(&t[3]) : 0; i < count; i++) {
        int64_t v[3] = { 0 };
        for (int j = 0; j < n; j++)
            v[j] = t[j].s64[source_of(&t[3].shape, &t[j].shape, i)];
        t[3].s64[i] = where ? choose(v[0], v[1], v[2]) : cast ? v[0] : op->fn(v[0], v[1]);
    }
    if (s == RQ_OK)
        s = narrow(&out[0], &t[3], a->out_dtype[0]);
    for (int i = 0; i < 4; i++)
        rq_tensor_release(&t[i]);
    return s;
}

void rq_content_shape_range(const rq_node *n, int rank, int *from, int *to)
{
    int64_t start = rq_attr_int(n, RQ_WORD_start, 0), end = rq_attr_int(n, RQ_WORD_end, rank);
    start = start < 0 ? start + rank : start;
    end = end < 0 ? end + rank : end;
    start = start < 0 ? 0 : start > rank ? rank : start;
    end = end < start ? start : end > rank ? rank : end;
    *from = (int)start;
    *to = (int)end;
}

/* Shape: the sizes themselves. */
static rq_status read_sizes(const rq_infer *a, rq_content *out)
{
    if (strcmp(a->node->row->name, "Shape") != 0 || a->node->row->domain[0] || !is_small(&a->out_shape[0]))
        return RQ_NOT_FOUND;
    rq_tensor t;
    int from, to;
    rq_content_shape_range(a->node, a->in[0]->shape.rank, &from, &to);
    RQ_TRY(rq_tensor_create(&t, RQ_DTYPE_S64, &a->out_shape[0], false));
    for (int i = from; i < to; i++) {
        int64_t d = a->in[0]->shape.dim[i];
        t.s64[i - from] = d < 0 ? rq_content_unknown(d) : d;
    }
    rq_status s = narrow(&out[0], &t, RQ_DTYPE_S64);
    rq_tensor_release(&t);
    return s;
}

rq_status rq_content_follow(const rq_infer *a, const rq_content *const *in, rq_content *out, const rq_kernels *k)
{
    bool some = a->node->row->flags & RQ_OP_SHAPE_ONLY, all = true;
    for (int i = 0; i < a->n_in; i++) {
        if (!a->in[i])
            continue;
        some = some || (in[i] && is_known_in_part(in[i]));
        all = all && in[i] && is_known(in[i]);
    }
    rq_status s = RQ_NOT_FOUND;
    if (all || some)
        s = run_known(a, in, out, k);
    if (s != RQ_OK && s != RQ_NO_MEMORY)
        s = read_sizes(a, out);
    if (s != RQ_OK && s != RQ_NO_MEMORY && some)
        s = move_marks(a, in, out, k);
    if (s != RQ_OK && s != RQ_NO_MEMORY && some)
        s = compute(a, in, out);
    return s == RQ_NO_MEMORY ? s : RQ_OK; /* what cannot be followed is simply not known */
}
