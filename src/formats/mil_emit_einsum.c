/* formats/mil_emit_einsum.c — Einsum as products of matrices: operand after operand is multiplied to what is there, labels that nothing needs
 * any more being summed, those of one side merged into rows or columns. */
#include "formats/mil_expr.h"

#include <string.h>

#include "ops/einsum.h"

typedef rq_mil_expr_val val;

/* A value whose axes have labels. */
typedef struct labelled {
    val v;
    int label[RQ_MAX_RANK];
} labelled;

static int place_of(const labelled *a, int label)
{
    for (int i = 0; i < a->v.shape.rank; i++)
        if (a->label[i] == label)
            return i;
    return -1;
}

/* The axes in this order of labels. */
static void order_by(rq_mil_expr *x, labelled *a, const int *label, int n)
{
    int64_t perm[RQ_MAX_RANK];
    bool same = true;
    if (x->st)
        return;
    for (int i = 0; i < n; i++) {
        perm[i] = place_of(a, label[i]);
        same &= perm[i] == i;
    }
    if (!same)
        a->v = rq_mil_expr_transpose(x, a->v, perm);
    memcpy(a->label, label, (size_t)n * sizeof *label);
}

/* Axes of one label that stands twice become their diagonal. */
static void diagonals(rq_mil_expr *x, labelled *a)
{
    for (int i = 0; i < a->v.shape.rank && !x->st; i++)
        for (int k = i + 1; k < a->v.shape.rank; k++) {
            if (a->label[k] != a->label[i])
                continue;
            int64_t perm[RQ_MAX_RANK];
            int label[RQ_MAX_RANK], n = 0;
            const int rank = a->v.shape.rank;
            const int64_t size = a->v.shape.dim[i];
            if (!rq_mil_expr_static(x, &a->v.shape))
                return;
            for (int m = 0; m < rank; m++)
                if (m != i && m != k) {
                    label[n] = a->label[m];
                    perm[n++] = m;
                }
            perm[n] = i;
            perm[n + 1] = k;
            label[n] = a->label[i];
            val v = rq_mil_expr_transpose(x, a->v, perm);
            rq_shape flat = v.shape, out;
            flat.rank--;
            flat.dim[n] = size * size;
            out = flat;
            out.dim[n] = size;
            const rq_shape list = rq_shape_of(1, &size);
            rq_tensor *t;
            const val at = rq_mil_expr_new(x, RQ_DTYPE_S64, &list, &t);
            for (int64_t m = 0; t && m < size; m++)
                t->s64[m] = m * (size + 1);
            a->v = rq_mil_expr_gather(x, rq_mil_expr_reshape(x, v, &flat), at, n, &out);
            memcpy(a->label, label, (size_t)(n + 1) * sizeof *label);
            i = -1;
            break;
        }
}

/* Sum axes whose label is not kept. */
static void sum_rest(rq_mil_expr *x, labelled *a, const bool *keep)
{
    int64_t axes[RQ_MAX_RANK];
    int label[RQ_MAX_RANK], n = 0, left = 0;
    for (int i = 0; i < a->v.shape.rank; i++)
        if (keep[a->label[i]])
            label[left++] = a->label[i];
        else
            axes[n++] = i;
    if (n && !x->st)
        a->v = rq_mil_expr_reduce(x, "reduce_sum", a->v, axes, n, false);
    memcpy(a->label, label, (size_t)left * sizeof *label);
}

/* The axes from `at` on, `n` of them, as one; none: a new axis of one. */
static rq_shape merged(const rq_shape *s, int at, int n)
{
    rq_shape m = *s;
    int64_t size = 1;
    for (int i = at; i < at + n; i++)
        size = rq_infer_dim_mul(size, s->dim[i]);
    for (int i = at + n; i < s->rank; i++)
        m.dim[at + 1 + i - at - n] = s->dim[i];
    m.dim[at] = size;
    m.rank = s->rank - n + 1;
    return m;
}

static val as_matrices(rq_mil_expr *x, val v, int batch, int rows, int cols)
{
    rq_shape s = v.shape;
    if (s.rank - rows + 1 > RQ_MAX_RANK || s.rank - rows - cols + 2 > RQ_MAX_RANK) {
        rq_mil_expr_refuse(x, 0, "an equation of so many axes");
        return v;
    }
    s = merged(&s, batch, rows);
    s = merged(&s, batch + 1, cols);
    return rq_shape_equal(&s, &v.shape) ? v : rq_mil_expr_reshape(x, v, &s);
}

/* a times b; labels of both that are not kept are summed. */
static labelled contract(rq_mil_expr *x, labelled a, labelled b, const bool *keep)
{
    int left[RQ_MAX_RANK], right[RQ_MAX_RANK], n_batch = 0, n_left = 0, n_right = 0, n_sum = 0, out[2 * RQ_MAX_RANK];
    int sum[RQ_MAX_RANK], batch[RQ_MAX_RANK], rows[RQ_MAX_RANK], cols[RQ_MAX_RANK];
    for (int i = 0; i < a.v.shape.rank; i++) {
        const int l = a.label[i], k = place_of(&b, l);
        if (k < 0)
            rows[n_left++] = l;
        else if (a.v.shape.dim[i] != b.v.shape.dim[k]) {
            rq_mil_expr_refuse(x, 0, "an equation that repeats axes of size 1");
            return a;
        } else if (keep[l])
            batch[n_batch++] = l;
        else
            sum[n_sum++] = l;
    }
    for (int i = 0; i < b.v.shape.rank; i++)
        if (place_of(&a, b.label[i]) < 0)
            cols[n_right++] = b.label[i];
    for (int side = 0; side < 2; side++) {
        int *to = side ? right : left, n = 0;
        for (int i = 0; i < n_batch; i++)
            to[n++] = batch[i];
        for (int i = 0; !side && i < n_left; i++)
            to[n++] = rows[i];
        for (int i = 0; i < n_sum; i++)
            to[n++] = sum[i];
        for (int i = 0; side && i < n_right; i++)
            to[n++] = cols[i];
        order_by(x, side ? &b : &a, to, n);
    }
    labelled r;
    rq_shape shape = rq_shape_of(0, NULL);
    if (n_batch + n_left + n_right > RQ_MAX_RANK) {
        rq_mil_expr_refuse(x, 0, "an equation of so many axes");
        return a;
    }
    for (int i = 0; i < n_batch + n_left; i++) {
        out[shape.rank] = left[i];
        shape.dim[shape.rank++] = a.v.shape.dim[i];
    }
    for (int i = 0; i < n_right; i++) {
        out[shape.rank] = cols[i];
        shape.dim[shape.rank++] = b.v.shape.dim[n_batch + n_sum + i];
    }
    const val p = as_matrices(x, a.v, n_batch, n_left, n_sum), q = as_matrices(x, b.v, n_batch, n_sum, n_right);
    r.v = rq_mil_expr_matmul(x, p, q, false, false);
    if (!rq_shape_equal(&r.v.shape, &shape))
        r.v = rq_mil_expr_reshape(x, r.v, &shape);
    memcpy(r.label, out, (size_t)shape.rank * sizeof *out);
    return r;
}

static rq_status einsum(rq_mil_emitter *e, const rq_node *n)
{
    rq_mil_expr x = rq_mil_expr_of(e, n);
    rq_einsum_equation q;
    labelled in[RQ_EINSUM_OPERANDS], at = { .v = { .id = RQ_NONE } };
    rq_tensor view[RQ_EINSUM_OPERANDS];
    const rq_tensor *views[RQ_EINSUM_OPERANDS];
    if (n->n_in > RQ_EINSUM_OPERANDS || n->n_in < 1)
        return rq_mil_expr_refuse(&x, 0, "so many operands");
    for (int i = 0; i < n->n_in; i++) {
        in[i].v = rq_mil_expr_plain(&x, rq_mil_expr_in(&x, i));
        view[i] = rq_tensor_view(RQ_DTYPE_F32, &in[i].v.shape, NULL);
        views[i] = &view[i];
    }
    const rq_infer a = {
        .graph = e->g, .node = n, .opset = rq_mil_expr_opset(&x), .in = views, .n_in = n->n_in, .err = e->err
    };
    if (x.st)
        return x.st;
    RQ_TRY(rq_einsum_read(&a, &q));
    for (int i = 0; i < n->n_in; i++) {
        bool keep[RQ_EINSUM_LABELS];
        memcpy(in[i].label, q.label[i], sizeof in[i].label);
        diagonals(&x, &in[i]);
        /* needed by the result, or by another operand */
        memcpy(keep, q.in_out, sizeof keep);
        for (int k = 0; k < n->n_in; k++)
            for (int m = 0; k != i && m < q.rank[k]; m++)
                keep[q.label[k][m]] = true;
        sum_rest(&x, &in[i], keep);
    }
    at = in[0];
    for (int i = 1; i < n->n_in && !x.st; i++) {
        bool keep[RQ_EINSUM_LABELS];
        memcpy(keep, q.in_out, sizeof keep);
        for (int k = i + 1; k < n->n_in; k++)
            for (int m = 0; m < q.rank[k]; m++)
                keep[q.label[k][m]] = true;
        at = contract(&x, at, in[i], keep);
    }
    order_by(&x, &at, q.out, q.out_rank);
    if (!x.st)
        rq_mil_expr_give(&x, at.v);
    return x.st;
}

const rq_mil_emit_row rq_mil_emit_einsum[] = {
    { .op = "Einsum", .emit = einsum },
    { .op = NULL },
};
