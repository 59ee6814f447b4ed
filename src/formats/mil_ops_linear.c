/* formats/mil_ops_linear.c — rows: convolutions and products. */
#include <math.h>
#include <string.h>

#include "formats/mil_rows.h"

typedef rq_mil_reader reader;
typedef rq_chain chain;

/* ---- convolutions ---- */

/* weight and bias may be of another type than x from iOS 17 on. */
static const char *as_x(chain *c, const char *param, const char *x)
{
    const char *v = rq_chain_maybe(c, param);
    return v ? rq_chain_cast(c, v, rq_chain_dtype(c, x)) : NULL;
}

static rq_status conv(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    rq_chain_in(&c, "weight");
    const char *w = as_x(&c, "weight", x), *b = as_x(&c, "bias", x);
    const int64_t groups = rq_chain_int(&c, "groups", 1);
    const int n = rq_chain_rank(&c, w) - 2;
    const char *y = rq_n3(&c, "Conv", x, w, b);
    rq_chain_set_int(&c, "group", groups);
    rq_chain_windows(&c, n);
    return rq_chain_end(&c, 0, y);
}

/* Where the output of a transposed convolution begins in what the kernel covers, and how much is cut or added at its end. */
static void transposed_pads(chain *c, const char *x, const char *w, int n, const int64_t *strides,
                            const int64_t *dilations, int64_t pads[16], int64_t more[8])
{
    const char *type = rq_chain_text(c, "pad_type", "valid");
    int64_t pad[16] = { 0 }, shape[16];
    const int n_shape = rq_chain_ints(c, "output_shape", shape);
    const bool same = !strncmp(type, "same", 4), lower = !strcmp(type, "same_lower");
    if (!strcmp(type, "custom")) {
        const int n_pad = rq_chain_ints(c, "pad", pad);
        if (n_pad != 2 * n && n_pad >= 0)
            rq_chain_fail(c, RQ_BAD_FILE, "'pad' has %d numbers, expected %d", n_pad, 2 * n);
    }
    if (n_shape >= 0 && n_shape != n + 2)
        rq_chain_fail(c, RQ_BAD_FILE, "'output_shape' has %d numbers, expected %d", n_shape, n + 2);
    for (int i = 0; i < n && !c->st; i++) {
        const int64_t in = rq_chain_size(c, x, i + 2), k = rq_chain_size(c, w, i + 2);
        int64_t cut = pad[2 * i] + pad[2 * i + 1]; /* of what the kernel covers */
        if (k < 1 || (in < 0 && n_shape >= 0) || in > INT32_MAX)
            rq_chain_fail(c, RQ_UNSUPPORTED, "a transposed convolution of this, or of unknown size is not supported");
        if (n_shape >= 0)
            cut = (in - 1) * strides[i] + (k - 1) * dilations[i] + 1 - shape[i + 2];
        else if (same)
            cut = (k - 1) * dilations[i] + 1 - strides[i];
        int64_t begin = same ? cut > 0 ? (cut + lower) / 2 : 0 : pad[2 * i];
        pads[i] = begin;
        pads[n + i] = cut - begin > 0 ? cut - begin : 0;
        more[i] = cut - begin < 0 ? begin - cut : 0;
    }
}

static rq_status conv_transpose(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    rq_chain_in(&c, "weight");
    const char *w = as_x(&c, "weight", x), *b = as_x(&c, "bias", x);
    const int64_t groups = rq_chain_int(&c, "groups", 1);
    int64_t strides[16], dilations[16], pads[16] = { 0 }, more[8] = { 0 };
    const int n = rq_chain_rank(&c, w) - 2;
    if (n < 1 || n > 3)
        rq_chain_fail(&c, RQ_BAD_FILE, "'weight' has %d axes, expected 3 to 5", n + 2);
    for (int i = 0; i < 16; i++)
        strides[i] = dilations[i] = 1;
    const int n_strides = rq_chain_ints(&c, "strides", strides),
              n_dilations = rq_chain_ints(&c, "dilations", dilations);
    if ((n_strides >= 0 && n_strides != n) || (n_dilations >= 0 && n_dilations != n))
        rq_chain_fail(&c, RQ_BAD_FILE, "'strides' or 'dilations' do not have %d numbers", n);
    if (!c.st)
        transposed_pads(&c, x, w, n, strides, dilations, pads, more);
    const char *y = rq_n3(&c, "ConvTranspose", x, w, b);
    rq_chain_set_int(&c, "group", groups);
    rq_chain_set_ints(&c, "strides", strides, n);
    rq_chain_set_ints(&c, "dilations", dilations, n);
    rq_chain_set_ints(&c, "pads", pads, 2 * n);
    rq_chain_set_ints(&c, "output_padding", more, n);
    return rq_chain_end(&c, 0, y);
}

/* ---- products ---- */

/* The last two axes exchanged. */
static const char *turned(chain *c, const char *x)
{
    int64_t perm[RQ_MAX_RANK];
    const int rank = rq_chain_rank(c, x);
    if (rank < 2)
        return c->st ? NULL : rq_chain_fail(c, RQ_BAD_FILE, "a tensor with %d axes cannot be transposed", rank);
    for (int k = 0; k < rank; k++)
        perm[k] = k < rank - 2 ? k : 2 * rank - 3 - k;
    const char *y = rq_n1(c, "Transpose", x);
    rq_chain_set_ints(c, "perm", perm, rank);
    return y;
}

/* x w^T + b; two axes: one product, else the weights turned first. */
static rq_status linear(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    rq_chain_in(&c, "weight");
    const char *w = as_x(&c, "weight", x), *b = as_x(&c, "bias", x);
    if (rq_chain_rank(&c, x) == 2) {
        const char *y = rq_n3(&c, "Gemm", x, w, b);
        rq_chain_set_int(&c, "transB", 1);
        return rq_chain_end(&c, 0, y);
    }
    const char *y = rq_n2(&c, "MatMul", x, turned(&c, w));
    return rq_chain_end(&c, 0, b ? rq_n2(&c, "Add", y, b) : y);
}

static rq_status matmul(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), *y = rq_chain_cast(&c, rq_chain_in(&c, "y"), rq_chain_dtype(&c, x));
    if (rq_chain_int(&c, "transpose_x", 0))
        x = turned(&c, x);
    if (rq_chain_int(&c, "transpose_y", 0))
        y = turned(&c, y);
    return rq_chain_end(&c, 0, rq_n2(&c, "MatMul", x, y));
}

static const char *permuted(chain *c, const char *x, const int64_t *perm, int n)
{
    const char *y = rq_n1(c, "Transpose", x);
    rq_chain_set_ints(c, "perm", perm, n);
    return y;
}

/* Of the two equations that there are, nchw,nwhu->nchu and chw,whr->chr, sizes of 1 broadcast. */
static rq_status einsum(reader *r, const rq_mil_op *op)
{
    static const int64_t three[] = { 1, 0, 2 }, four[] = { 0, 2, 1, 3 };
    const rq_mil_arg *arg = rq_mil_op_arg(op, "values");
    const char *in[2] = { NULL, NULL };
    chain c = rq_chain_begin(r, op);
    const char *equation = rq_chain_text(&c, "equation", "");
    if (!arg || arg->n != 2)
        return rq_fail(r->err, RQ_BAD_FILE, "'values' has %d tensors, expected 2", arg ? arg->n : 0);
    for (int i = 0; i < 2; i++)
        in[i] = rq_chain_item(&c, arg, i);
    const int rank = rq_chain_rank(&c, in[0]);
    if (rank != rq_chain_rank(&c, in[1]) || rank < 3 || rank > 4)
        rq_chain_fail(&c, RQ_BAD_FILE, "'values' are to have both 3 or both 4 axes");
    const int64_t *perm = rank == 3 ? three : four;
    /* by position, whatever the letters: the last axis of the first with the third last of the second */
    char letters[16];
    int n = 0;
    for (const char *p = equation; *p; p++)
        if (*p != ' ' && n < 15)
            letters[n++] = *p;
    letters[n] = 0;
    const char *form = rank == 3 ? "abc,cbd->abd" : "abcd,adce->abce";
    bool fits = n == (int)strlen(form);
    for (int i = 0; fits && i < n; i++)
        for (int k = 0; k < n && fits; k++)
            fits = (letters[i] == letters[k]) == (form[i] == form[k]);
    if (!fits)
        rq_chain_fail(&c, RQ_UNSUPPORTED, "the equation '%.60s' is not supported", equation);
    const char *y = rq_n2(&c, "MatMul", permuted(&c, in[0], perm, rank), permuted(&c, in[1], perm, rank));
    return rq_chain_end(&c, 0, permuted(&c, y, perm, rank));
}

/* softmax(q k^T / sqrt(E) + mask) v */
static rq_status attention(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *q = rq_chain_in(&c, "query"), *k = rq_chain_in(&c, "key"), *v = rq_chain_in(&c, "value");
    const char *mask = rq_chain_maybe(&c, "attn_mask");
    const rq_dtype d = rq_chain_dtype(&c, q);
    const int64_t e = rq_chain_size(&c, q, rq_chain_rank(&c, q) - 1);
    const char *scale;
    if (e > 0) {
        scale = rq_chain_const(&c, d, 1 / sqrt((double)e));
    } else { /* known when it runs */
        const char *size = rq_n2(&c, "Gather", rq_n1(&c, "Shape", q), rq_chain_const_int(&c, -1));
        size = rq_n1(&c, "Sqrt", rq_chain_cast(&c, size, RQ_DTYPE_F32));
        scale = rq_chain_cast(&c, rq_n1(&c, "Reciprocal", size), d);
    }
    const char *y = rq_n2(&c, "MatMul", rq_n2(&c, "Mul", q, scale), turned(&c, k));
    if (mask && rq_chain_dtype(&c, mask) == RQ_DTYPE_BOOL)
        mask = rq_n3(&c, "Where", mask, rq_chain_const(&c, d, 0), rq_chain_const(&c, d, -INFINITY));
    if (mask)
        y = rq_n2(&c, "Add", y, rq_chain_cast(&c, mask, d));
    y = rq_n1(&c, "Softmax", y);
    rq_chain_set_int(&c, "axis", -1);
    return rq_chain_end(&c, 0, rq_n2(&c, "MatMul", y, v));
}

const rq_mil_row rq_mil_rows_linear[] = {
    { "conv", conv, "Conv", NULL },
    { "conv_transpose", conv_transpose, "ConvTranspose", NULL },
    { "einsum", einsum, "Transpose, MatMul, Transpose", NULL },
    { "linear", linear, "Gemm; Transpose, MatMul, Add", NULL },
    { "matmul", matmul, "Transpose, MatMul", NULL },
    { "scaled_dot_product_attention", attention, "Mul, Transpose, MatMul, Add, Softmax, MatMul", NULL },
    { NULL, NULL, NULL, NULL },
};
