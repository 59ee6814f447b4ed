/* ops/einsum.c — Einsum. Two operands whose labels fall into batch, rows, columns and contracted ones become a batch of
 * matrix products (most equations that networks use); everything else is summed element by element, in double. */
#include <ctype.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/gemm_f32.h"
#include "ops/einsum.h"
#include "ops/elements.h"
#include "ops/moves.h"

enum { MAX_OPERANDS = RQ_EINSUM_OPERANDS, LETTERS = RQ_EINSUM_LETTERS, LABELS = RQ_EINSUM_LABELS };

typedef rq_einsum_equation equation;

static int letter(char c)
{
    return islower((unsigned char)c) ? 26 + c - 'a' : c - 'A'; /* in byte order */
}

/* One term up to `end`: labels of its axes. `dots` is how many axes "..." stands for. False: not well formed, or too
 * many axes. */
static bool read_term(const char *p, const char *end, int dots, int *label, int *rank)
{
    bool seen_dots = false;
    *rank = 0;
    for (; p < end; p++) {
        if (*p == ' ')
            continue;
        if (*p == '.') {
            if (seen_dots || end - p < 3 || p[1] != '.' || p[2] != '.')
                return false;
            seen_dots = true;
            p += 2;
            for (int i = dots - 1; i >= 0; i--) {
                if (*rank == RQ_MAX_RANK)
                    return false;
                label[(*rank)++] = LETTERS + i;
            }
            continue;
        }
        if (!isalpha((unsigned char)*p) || *rank == RQ_MAX_RANK)
            return false;
        label[(*rank)++] = letter(*p);
    }
    return true;
}

static int count_letters(const char *p, const char *end)
{
    int n = 0;
    for (; p < end; p++)
        n += isalpha((unsigned char)*p) != 0;
    return n;
}

/* The output of an equation without "->": the axes of "...", then letters that occur once, in order. */
static bool implicit_output(equation *e, const char *text, int dots)
{
    e->out_rank = 0;
    for (int i = dots - 1; i >= 0 && strstr(text, "..."); i--)
        if (e->out_rank < RQ_MAX_RANK)
            e->out[e->out_rank++] = LETTERS + i;
    for (int l = 0; l < LETTERS; l++) {
        int n = 0;
        for (int k = 0; k < e->n_in; k++)
            for (int i = 0; i < e->rank[k]; i++)
                n += e->label[k][i] == l;
        if (n != 1)
            continue;
        if (e->out_rank == RQ_MAX_RANK)
            return false;
        e->out[e->out_rank++] = l;
    }
    return true;
}

/* Labels and sizes; RQ_NOT_FOUND: a rank is not known. */
static rq_status read_equation(const rq_infer *a, equation *e)
{
    const char *text = rq_attr_string(a->node, RQ_WORD_equation, ""), *arrow = strstr(text, "->"), *p = text;
    const char *end = arrow ? arrow : text + strlen(text);
    int dots = 0;
    memset(e, 0, sizeof *e);
    e->n_in = a->n_in;
    if (a->n_in > MAX_OPERANDS)
        return rq_infer_fail(a, RQ_UNSUPPORTED, "%d operands, at most %d are supported", a->n_in, MAX_OPERANDS);
    for (int pass = 0; pass < 2; pass++) { /* first how long "..." is, then the labels */
        p = text;
        for (int k = 0; k < a->n_in; k++) {
            const char *comma = memchr(p, ',', (size_t)(end - p)), *stop = comma && k + 1 < a->n_in ? comma : end;
            int rank = a->in[k]->shape.rank, own = rank - count_letters(p, stop);
            bool has_dots = memchr(p, '.', (size_t)(stop - p)) != NULL;
            if (rank < 0)
                return RQ_NOT_FOUND;
            if (pass == 0)
                dots = has_dots && own > dots ? own : dots;
            else if (!read_term(p, stop, has_dots ? own : 0, e->label[k], &e->rank[k]) || e->rank[k] != rank || own < 0)
                return rq_infer_fail(a, RQ_BAD_SHAPE, "term %d of equation '%.80s' does not fit an input with %d axes",
                                     k, text, rank);
            if ((k + 1 < a->n_in) != (stop == comma && comma))
                return rq_infer_fail(a, RQ_BAD_GRAPH, "equation '%.80s' is not one of %d operands", text, a->n_in);
            p = stop + (stop < end);
        }
    }
    bool fine =
        arrow ? read_term(arrow + 2, text + strlen(text), dots, e->out, &e->out_rank) : implicit_output(e, text, dots);
    for (int l = 0; l < LABELS; l++)
        e->size[l] = 1;
    for (int k = 0; k < e->n_in; k++)
        for (int i = 0; i < e->rank[k]; i++) {
            int l = e->label[k][i];
            int64_t d = a->in[k]->shape.dim[i];
            if (!e->used[l] || e->size[l] == 1)
                e->size[l] = d;
            else if (d != 1 && !rq_infer_dim_join(&e->size[l], d))
                return rq_infer_fail(a, RQ_BAD_SHAPE, "equation '%.80s': sizes %lld and %lld for one label", text,
                                     (long long)e->size[l], (long long)d);
            e->used[l] = true;
        }
    for (int i = 0; i < e->out_rank && fine; i++) {
        fine = e->used[e->out[i]] && !e->in_out[e->out[i]];
        e->in_out[e->out[i]] = true;
    }
    if (!fine)
        return rq_infer_fail(a, RQ_BAD_GRAPH, "the output of equation '%.80s' is not well formed", text);
    return RQ_OK;
}

rq_status rq_einsum_read(const rq_infer *a, rq_einsum_equation *e)
{
    return read_equation(a, e);
}

static rq_status einsum_infer(const rq_infer *a)
{
    RQ_TRY(rq_infer_one_type(a, 1, a->n_in));
    equation e;
    a->out_dtype[0] = a->in[0]->dtype;
    rq_status s = read_equation(a, &e);
    if (s != RQ_OK)
        return s == RQ_NOT_FOUND ? RQ_OK : s;
    a->out_shape[0].rank = e.out_rank;
    for (int i = 0; i < e.out_rank; i++)
        a->out_shape[0].dim[i] = e.size[e.out[i]];
    return RQ_OK;
}

/* Read when the row prepares; shapes alone are known before. */
static rq_status run_equation(const rq_op_args *a, equation *e)
{
    if (a->state) {
        *e = *(const equation *)a->state;
        return RQ_OK;
    }
    rq_infer as_infer = {
        .graph = a->graph, .node = a->node, .opset = a->opset, .in = a->in, .n_in = a->n_in, .err = a->err
    };
    return read_equation(&as_infer, e);
}

static rq_status einsum_prepare(const rq_op_args *a, void **state)
{
    equation *e = rq_mem_zalloc(1, sizeof *e);
    if (!e)
        return RQ_NO_MEMORY;
    const rq_status s = run_equation(a, e);
    if (s) {
        rq_mem_free(e);
        return s;
    }
    *state = e;
    return RQ_OK;
}

static void einsum_release(void *state)
{
    rq_mem_free(state);
}

/* ---- as matrix products ---- */

enum { BATCH, ROWS, COLUMNS, CONTRACTED, N_PARTS };

/* Labels by their part in a product, in the order they are laid out. */
typedef struct product {
    int n[N_PARTS], label[N_PARTS][RQ_MAX_RANK];
    int64_t size[N_PARTS];
} product;

/* Two operands, no label twice in one, none summed that only one has, no size stretched from 1? */
static bool as_product(const rq_op_args *a, const equation *e, product *p)
{
    memset(p, 0, sizeof *p);
    if (e->n_in != 2 || a->in[0]->dtype != RQ_DTYPE_F32)
        return false;
    for (int l = 0; l < LABELS; l++) {
        int times[2] = { 0 };
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < e->rank[k]; i++)
                if (e->label[k][i] == l) {
                    times[k]++;
                    if (a->in[k]->shape.dim[i] != e->size[l])
                        return false;
                }
        if (times[0] > 1 || times[1] > 1 || (times[0] + times[1] == 1 && !e->in_out[l]))
            return false;
        if (times[0] + times[1] == 0)
            continue;
        int part = times[0] && times[1] ? (e->in_out[l] ? BATCH : CONTRACTED) : times[0] ? ROWS : COLUMNS;
        if (p->n[part] == RQ_MAX_RANK)
            return false;
        p->label[part][p->n[part]++] = l;
    }
    for (int part = 0; part < N_PARTS; part++) {
        p->size[part] = 1;
        for (int i = 0; i < p->n[part]; i++)
            p->size[part] *= e->size[p->label[part][i]];
    }
    return true;
}

/* Copy between a tensor with these labels and its [part a][part b][part c] order. */
static void reorder(float *dense, float *tensor, const equation *e, const product *p, const int *label, int rank,
                    const int parts[3], bool back)
{
    int64_t dim[RQ_MAX_RANK], dense_step[RQ_MAX_RANK], step[RQ_MAX_RANK];
    int n = 0;
    for (int q = 0; q < 3; q++)
        for (int i = 0; i < p->n[parts[q]]; i++) {
            int l = p->label[parts[q]][i], axis = 0;
            while (label[axis] != l)
                axis++;
            dim[n] = e->size[l];
            step[n] = 1;
            for (int k = axis + 1; k < rank; k++)
                step[n] *= e->size[label[k]];
            n++;
        }
    for (int i = n - 1; i >= 0; i--)
        dense_step[i] = i == n - 1 ? 1 : dense_step[i + 1] * dim[i + 1];
    if (back)
        rq_move_nd(tensor, dense, sizeof(float), n, dim, step, dense_step);
    else
        rq_move_nd(dense, tensor, sizeof(float), n, dim, dense_step, step);
}

static rq_status multiply(const rq_op_args *a, const equation *e, const product *p)
{
    int64_t batch = p->size[BATCH], m = p->size[ROWS], n = p->size[COLUMNS], k = p->size[CONTRACTED];
    float *x = a->scratch, *y = x + batch * m * k, *z = y + batch * k * n;
    if (batch * m * n == 0)
        return RQ_OK;
    reorder(x, a->in[0]->f32, e, p, e->label[0], e->rank[0], (int[]) { BATCH, ROWS, CONTRACTED }, false);
    reorder(y, a->in[1]->f32, e, p, e->label[1], e->rank[1], (int[]) { BATCH, CONTRACTED, COLUMNS }, false);
    for (int64_t b = 0; b < batch; b++) {
        rq_status s = rq_gemm_f32(a->k, z + b * m * n, x + b * m * k, y + b * k * n, false, false, m, n, k, 1, k, n, 0,
                                  n, a->threads);
        if (s != RQ_OK)
            return rq_op_fail(a, s, "a matrix product failed");
    }
    reorder(z, a->out[0]->f32, e, p, e->out, e->out_rank, (int[]) { BATCH, ROWS, COLUMNS }, true);
    return RQ_OK;
}

static size_t einsum_scratch(const rq_op_args *a, bool integer)
{
    equation e;
    product p;
    if (run_equation(a, &e) || !as_product(a, &e, &p))
        return 0;
    size_t batch = (size_t)p.size[BATCH], m = (size_t)p.size[ROWS], n = (size_t)p.size[COLUMNS];
    size_t k = (size_t)p.size[CONTRACTED];
    return batch * (m * k + k * n + m * n) * sizeof(float) + 8;
}

/* ---- element by element ---- */

/* Labels in loop order: the output's first, then the summed ones. step[k][i]: in operand k, 0 where it is stretched. */
typedef struct loops {
    int n, n_out;
    int64_t size[LABELS], step[MAX_OPERANDS][LABELS];
} loops;

static void plan_loops(const rq_op_args *a, const equation *e, loops *w)
{
    memset(w, 0, sizeof *w);
    int order[LABELS];
    for (int i = 0; i < e->out_rank; i++)
        order[w->n++] = e->out[i];
    w->n_out = w->n;
    for (int l = 0; l < LABELS; l++)
        if (e->used[l] && !e->in_out[l])
            order[w->n++] = l;
    for (int i = 0; i < w->n; i++) {
        w->size[i] = e->size[order[i]];
        for (int k = 0; k < e->n_in; k++) /* a label that occurs twice walks the diagonal */
            for (int axis = 0; axis < e->rank[k]; axis++)
                if (e->label[k][axis] == order[i] && a->in[k]->shape.dim[axis] != 1)
                    w->step[k][i] += rq_shape_span(&a->in[k]->shape, axis + 1, e->rank[k]);
    }
}

static double sum_products(const rq_op_args *a, const loops *w, int level, const int64_t *at)
{
    double sum = 0;
    if (level == w->n) {
        sum = 1;
        for (int k = 0; k < a->n_in; k++)
            sum *= rq_tensor_get(a->in[k], at[k]);
        return sum;
    }
    int64_t next[MAX_OPERANDS] = { 0 };
    for (int64_t i = 0; i < w->size[level]; i++) {
        for (int k = 0; k < a->n_in; k++)
            next[k] = at[k] + i * w->step[k][level];
        sum += sum_products(a, w, level + 1, next);
    }
    return sum;
}

static rq_status einsum_forward(const rq_op_args *a)
{
    equation e;
    product p;
    loops w;
    RQ_TRY(run_equation(a, &e));
    for (int k = 0; k < a->n_in; k++)
        if (!rq_dtype_is_float(a->in[k]->dtype) && !rq_dtype_is_integer(a->in[k]->dtype))
            return rq_op_fail(a, RQ_BAD_DTYPE, "input %d is %s", k, rq_dtype_name(a->in[k]->dtype));
    if (as_product(a, &e, &p))
        return multiply(a, &e, &p);
    plan_loops(a, &e, &w);
    for (int64_t o = 0, n = rq_tensor_count(a->out[0]); o < n; o++) {
        int64_t at[MAX_OPERANDS] = { 0 }, rest = o;
        for (int i = w.n_out - 1; i >= 0; i--) {
            for (int k = 0; k < a->n_in; k++)
                at[k] += rest % w.size[i] * w.step[k][i];
            rest /= w.size[i];
        }
        rq_tensor_set(a->out[0], o, sum_products(a, &w, w.n_out, at));
    }
    return RQ_OK;
}

/* ---- backward: the gradient of an operand is the equation of dy and the others ---- */

static float *wanted(const rq_op_args *a, int i)
{
    return a->training->grad_in[i] ? a->training->grad_in[i]->f32 : NULL;
}

/* z = x y: dx = dz y^T, dy = x^T dz. */
static rq_status multiply_back(const rq_op_args *a, const equation *e, const product *p)
{
    static const int order[2][3] = { { BATCH, ROWS, CONTRACTED }, { BATCH, CONTRACTED, COLUMNS } };
    const int64_t batch = p->size[BATCH], m = p->size[ROWS], n = p->size[COLUMNS], k = p->size[CONTRACTED];
    const int64_t size[2] = { m * k, k * n };
    float *dense[2] = { a->scratch, (float *)a->scratch + batch * m * k }, *dz = dense[1] + batch * k * n,
          *d = dz + batch * m * n;
    reorder(dz, a->training->grad_out[0]->f32, e, p, e->out, e->out_rank, (int[]) { BATCH, ROWS, COLUMNS }, false);
    for (int i = 0; i < 2; i++) {
        const int o = !i; /* the other operand */
        if (!wanted(a, i))
            continue;
        reorder(dense[o], a->in[o]->f32, e, p, e->label[o], e->rank[o], order[o], false);
        for (int64_t b = 0; b < batch; b++) {
            float *to = d + b * size[i];
            const float *z = dz + b * m * n, *w = dense[o] + b * size[o];
            const rq_status s = i == 0 ? rq_gemm_f32(a->k, to, z, w, false, true, m, k, n, 1, n, n, 0, k, a->threads)
                                       : rq_gemm_f32(a->k, to, w, z, true, false, k, n, m, 1, k, n, 0, n, a->threads);
            if (s != RQ_OK)
                return rq_op_fail(a, s, "a matrix product failed");
        }
        reorder(d, wanted(a, i), e, p, e->label[i], e->rank[i], order[i], true);
    }
    return RQ_OK;
}

/* Every term of every sum once: the product of all operands but `i`, times dy, to where operand i was read. */
static void scatter_products(const rq_op_args *a, const loops *w, int i, double *sum)
{
    int64_t index[LABELS] = { 0 }, at[MAX_OPERANDS] = { 0 }, out = 0, out_step[LABELS] = { 0 }, step = 1, total = 1;
    for (int l = w->n - 1; l >= 0; l--) {
        total *= w->size[l];
        if (l < w->n_out) {
            out_step[l] = step;
            step *= w->size[l];
        }
    }
    for (int64_t t = 0; t < total; t++) {
        double v = (double)a->training->grad_out[0]->f32[out];
        for (int k = 0; k < a->n_in; k++)
            v *= k == i ? 1 : (double)a->in[k]->f32[at[k]];
        sum[at[i]] += v;
        for (int l = w->n - 1; l >= 0; l--) {
            const int64_t move = ++index[l] < w->size[l] ? 1 : 1 - w->size[l];
            for (int k = 0; k < a->n_in; k++)
                at[k] += move * w->step[k][l];
            out += move * out_step[l];
            if (move == 1)
                break;
            index[l] = 0;
        }
    }
}

static rq_status einsum_backward(const rq_op_args *a)
{
    equation e;
    product p;
    loops w;
    RQ_TRY(run_equation(a, &e));
    const bool zero = !a->training->grad_out[0] || rq_tensor_count(a->out[0]) == 0;
    if (!zero && as_product(a, &e, &p) && p.size[CONTRACTED] > 0)
        return multiply_back(a, &e, &p);
    plan_loops(a, &e, &w);
    for (int i = 0; i < a->n_in; i++) {
        const int64_t n = wanted(a, i) ? rq_tensor_count(a->in[i]) : 0;
        double *sum = a->scratch;
        if (!n)
            continue;
        memset(sum, 0, (size_t)n * sizeof *sum);
        if (!zero)
            scatter_products(a, &w, i, sum);
        for (int64_t q = 0; q < n; q++)
            wanted(a, i)[q] = (float)sum[q];
    }
    return RQ_OK;
}

static size_t einsum_scratch_backward(const rq_op_args *a)
{
    equation e;
    product p;
    size_t most = 0;
    for (int i = 0; i < a->n_in; i++)
        if (most < (size_t)rq_tensor_count(a->in[i]))
            most = (size_t)rq_tensor_count(a->in[i]);
    if (run_equation(a, &e) || !as_product(a, &e, &p))
        return most * sizeof(double);
    const size_t products = einsum_scratch(a, false) + most * sizeof(float);
    return products > most * sizeof(double) ? products : most * sizeof(double);
}

static double einsum_macs(const rq_op_args *a)
{
    equation e;
    double n = 1;
    if (run_equation(a, &e))
        return 0;
    for (int l = 0; l < LABELS; l++)
        n *= e.used[l] ? (double)e.size[l] : 1;
    return n;
}

const rq_op rq_op_einsum = {
    .name = "Einsum",
    .domain = "",
    .since = 12,
    .known = 25,
    .min_in = 1,
    .max_in = -1,
    .min_out = 1,
    .max_out = 1,
    .place = RQ_PLACE_FLOAT,
    .infer = einsum_infer,
    .forward = einsum_forward,
    .prepare = einsum_prepare,
    .release = einsum_release,
    .backward = einsum_backward,
    .saves = UINT32_C(0xffff), /* every operand */
    .parameters = UINT32_C(0xffff),
    .scratch_backward = einsum_scratch_backward,
    .scratch = einsum_scratch,
    .macs = einsum_macs,
};
