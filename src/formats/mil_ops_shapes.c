/* formats/mil_ops_shapes.c — rows: other shapes of the same elements, and tensors put together and taken apart. */
#include <string.h>

#include "formats/mil_rows.h"

typedef rq_mil_reader reader;
typedef rq_chain chain;

static rq_status reshape(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    return rq_chain_end(&c, 0, rq_n2(&c, "Reshape", x, rq_chain_list(&c, "shape")));
}

static rq_status expand_dims(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    rq_chain_in(&c, "axes");
    return rq_chain_end(&c, 0, rq_n2(&c, "Unsqueeze", x, rq_chain_list(&c, "axes")));
}

/* Axes that are listed, but are not of size 1, stay. */
static rq_status squeeze(reader *r, const rq_mil_op *op)
{
    int64_t axes[16];
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int n = rq_chain_ints(&c, "axes", axes), rank = rq_chain_rank(&c, x);
    int kept = 0;
    if (n < 0)
        return rq_chain_end(&c, 0, rq_n1(&c, "Squeeze", x));
    for (int i = 0; i < n && !c.st; i++) {
        const int axis = rq_chain_axis(&c, axes[i], rank);
        const int64_t size = rq_chain_size(&c, x, axis);
        if (size == 1 || size < 0)
            axes[kept++] = axis;
    }
    return rq_chain_end(&c, 0, kept ? rq_n2(&c, "Squeeze", x, rq_chain_const_ints(&c, axes, kept)) : x);
}

static const char *permuted(chain *c, const char *x, const int64_t *perm, int n)
{
    const char *y = rq_n1(c, "Transpose", x);
    rq_chain_set_ints(c, "perm", perm, n);
    return y;
}

static rq_status transpose(reader *r, const rq_mil_op *op)
{
    int64_t perm[16];
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int n = rq_chain_ints(&c, "perm", perm);
    if (n < 0)
        rq_chain_fail(&c, RQ_BAD_FILE, "'perm' is missing");
    for (int i = 0; i < n; i++)
        perm[i] += perm[i] < 0 ? n : 0;
    return rq_chain_end(&c, 0, permuted(&c, x, perm, n));
}

static rq_status flatten2d(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int64_t axis = rq_chain_int(&c, "axis", 1);
    const char *y = rq_n1(&c, "Flatten", x);
    rq_chain_set_int(&c, "axis", axis);
    return rq_chain_end(&c, 0, y);
}

static rq_status shape(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    return rq_chain_end(&c, 0, rq_chain_cast(&c, rq_n1(&c, "Shape", x), rq_chain_declared(&c, 0)));
}

/* ---- several tensors ---- */

/* All values of a parameter; NULL: there are none. */
static const char **items(chain *c, const char *param, int *n)
{
    const rq_mil_arg *arg = rq_mil_op_arg(c->op, param);
    const char **in = arg ? rq_arena_alloc(&c->r->a, (size_t)arg->n + 1, sizeof *in) : NULL;
    *n = in ? arg->n : 0;
    if (!in)
        rq_chain_fail(c, arg ? RQ_NO_MEMORY : RQ_BAD_FILE, "'%s' is missing", param);
    else if (!arg->n)
        rq_chain_fail(c, RQ_BAD_FILE, "'%s' has no values", param);
    for (int i = 0; i < *n; i++)
        in[i] = rq_chain_item(c, arg, i);
    return c->st ? NULL : in;
}

/* Each with a new axis of size 1. */
static void expand_all(chain *c, const char **in, int n, int64_t axis)
{
    for (int i = 0; i < n; i++)
        in[i] = rq_n2(c, "Unsqueeze", in[i], rq_chain_const_ints(c, &axis, 1));
}

static const char *joined(chain *c, const char *const *in, int n, int64_t axis)
{
    const char *y = rq_chain_node(c, "Concat", in, n);
    rq_chain_set_int(c, "axis", axis);
    return y;
}

/* out[i n + k] = in_k[i] along the axis: a new axis behind it, and both as one. */
static const char *interleaved(chain *c, const char **in, int n, int axis, int rank)
{
    int64_t sizes[RQ_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        sizes[i] = i < axis ? 0 : i == axis ? -1 : rq_chain_size(c, in[0], i);
        if (i > axis && sizes[i] < 0)
            return rq_chain_fail(c, RQ_UNSUPPORTED, "concat that interleaves tensors of unknown size is not supported");
    }
    expand_all(c, in, n, axis + 1);
    return rq_n2(c, "Reshape", joined(c, in, n, axis + 1), rq_chain_const_ints(c, sizes, rank));
}

static rq_status concat(reader *r, const rq_mil_op *op)
{
    int n;
    chain c = rq_chain_begin(r, op);
    const char **in = items(&c, "values", &n);
    const int64_t axis = rq_chain_int(&c, "axis", 0), interleave = rq_chain_int(&c, "interleave", 0);
    if (c.st)
        return c.st;
    for (int i = 0; i < n && !interleave; i++) { /* a number without axes is a list of one */
        rq_value_info v;
        if (!c.st && !rq_mil_reader_info(r, in[i], &v) && v.shape.rank == 0)
            in[i] = rq_n2(&c, "Unsqueeze", in[i], rq_chain_const_ints(&c, (const int64_t[]) { 0 }, 1));
    }
    const int rank = interleave ? rq_chain_rank(&c, in[0]) : 0;
    return rq_chain_end(
        &c, 0, interleave ? interleaved(&c, in, n, rq_chain_axis(&c, axis, rank), rank) : joined(&c, in, n, axis));
}

static rq_status stack(reader *r, const rq_mil_op *op)
{
    int n;
    chain c = rq_chain_begin(r, op);
    const char **in = items(&c, "values", &n);
    const int64_t axis = rq_chain_int(&c, "axis", 0);
    if (c.st)
        return c.st;
    expand_all(&c, in, n, axis);
    return rq_chain_end(&c, 0, joined(&c, in, n, axis));
}

static rq_status split(reader *r, const rq_mil_op *op)
{
    const int n = op->n_outputs;
    const char **out = rq_arena_alloc(&r->a, (size_t)n + 1, sizeof *out);
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int64_t axis = rq_chain_int(&c, "axis", 0), parts = rq_chain_int(&c, "num_splits", n);
    const char *sizes = rq_mil_reader_has(op, "split_sizes") ? rq_chain_list(&c, "split_sizes") : NULL;
    if (!out)
        return rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
    if (parts != n)
        rq_chain_fail(&c, RQ_BAD_FILE, "'num_splits' is %lld, but there are %d outputs", (long long)parts, n);
    rq_chain_nodes(&c, "Split", (const char *const[]) { x, sizes }, 2, out, n);
    rq_chain_set_int(&c, "axis", axis);
    if (!sizes)
        rq_chain_set_int(&c, "num_outputs", n);
    for (int i = 0; i < n; i++)
        rq_chain_end(&c, i, out[i]);
    return c.st;
}

/* The whole number that a value of a parameter is. */
static int64_t whole(chain *c, const rq_mil_binding *b)
{
    const rq_mil_arg one = { .param = "", .binding = (rq_mil_binding *)b, .n = 1 };
    const rq_mil_op alone = { .type = "", .args = (rq_mil_arg *)&one, .n_args = 1 };
    int64_t v = 0;
    if (!c->st)
        c->st = rq_mil_reader_int(c->r, &alone, "", &v);
    return v;
}

/* As parts of the shapes of other tensors. */
static rq_status reshape_like(reader *r, const rq_mil_op *op)
{
    static const char *const names[] = { "begins", "ends", "end_masks" };
    const rq_mil_arg *lists[3];
    int n;
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x"), **in = items(&c, "ref_tensors", &n);
    for (int i = 0; i < 3; i++) {
        lists[i] = rq_mil_op_arg(op, names[i]);
        if (!c.st && (!lists[i] || lists[i]->n != n))
            return rq_fail(r->err, RQ_BAD_FILE, "'%s' has %d values, expected %d", names[i], lists[i] ? lists[i]->n : 0,
                           n);
    }
    if (c.st || !in || !lists[0] || !lists[1] || !lists[2])
        return c.st;
    for (int i = 0; i < n; i++) {
        const int64_t begin = whole(&c, &lists[0]->binding[i]), end = whole(&c, &lists[1]->binding[i]);
        const bool all = whole(&c, &lists[2]->binding[i]) != 0;
        in[i] = rq_n1(&c, "Shape", in[i]);
        rq_chain_set_int(&c, "start", begin);
        if (!all)
            rq_chain_set_int(&c, "end", end);
    }
    return rq_chain_end(&c, 0, rq_n2(&c, "Reshape", x, joined(&c, in, n, 0)));
}

/* ---- blocks of pixels ---- */

static int64_t block_of(chain *c, const char *param)
{
    const int64_t b = rq_chain_int(c, param, 0);
    if (b < 1 || b > 4096)
        rq_chain_fail(c, RQ_BAD_FILE, "'%s' is %lld, expected 1 to 4096", param, (long long)b);
    return b;
}

/* depth_to_space: the block is the slowest part of the channels; pixel_shuffle: the fastest. */
static rq_status to_space(reader *r, const rq_mil_op *op)
{
    const bool shuffle = !strcmp(op->type, "pixel_shuffle");
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int64_t b = block_of(&c, shuffle ? "upscale_factor" : "block_size");
    const char *y = rq_n1(&c, "DepthToSpace", x);
    rq_chain_set_int(&c, "blocksize", b);
    rq_chain_set_text(&c, "mode", shuffle ? "CRD" : "DCR");
    return rq_chain_end(&c, 0, y);
}

static rq_status space_to_depth(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int64_t b = block_of(&c, "block_size");
    const char *y = rq_n1(&c, "SpaceToDepth", x);
    rq_chain_set_int(&c, "blocksize", b);
    return rq_chain_end(&c, 0, y);
}

/* SpaceToDepth, its channels in another order. */
static rq_status pixel_unshuffle(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int64_t b = block_of(&c, "downscale_factor"), n = rq_chain_size(&c, x, 1);
    if (n < 1 || n > (1 << 24) / (b * b))
        rq_chain_fail(&c, RQ_UNSUPPORTED, "pixel_unshuffle of this number of channels is not supported");
    int64_t *order = c.st ? NULL : rq_arena_alloc(&r->a, (size_t)(n * b * b), sizeof *order);
    if (!order)
        return c.st ? c.st : rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
    for (int64_t i = 0; i < n * b * b; i++)
        order[i] = i % (b * b) * n + i / (b * b);
    const char *y = rq_n1(&c, "SpaceToDepth", x);
    rq_chain_set_int(&c, "blocksize", b);
    const char *list = rq_chain_const_ints(&c, order, (int)(n * b * b));
    y = rq_n2(&c, "Gather", y, list);
    rq_chain_set_int(&c, "axis", 1);
    return rq_chain_end(&c, 0, y);
}

/* Pixels of a block go to the front of the batch, [b0, b1, n, ...], or come back from there. */
static rq_status blocks_in_batch(reader *r, const rq_mil_op *op)
{
    const bool back = !strcmp(op->type, "batch_to_space");
    int64_t b[16], edge[16];
    chain c = rq_chain_begin(r, op);
    const char *x = rq_chain_in(&c, "x");
    const int n_b = rq_chain_ints(&c, "block_shape", b), n_edge = rq_chain_ints(&c, back ? "crops" : "paddings", edge);
    const int64_t ch = rq_chain_size(&c, x, 1), h = rq_chain_size(&c, x, 2), w = rq_chain_size(&c, x, 3);
    if (n_b != 2 || n_edge != 4 || rq_chain_rank(&c, x) != 4)
        rq_chain_fail(&c, RQ_BAD_FILE, "blocks of 2 axes of a tensor with 4 are expected");
    else if (b[0] < 1 || b[1] < 1 || b[0] > 4096 || b[1] > 4096 || ch < 0 || h < 0 || w < 0)
        rq_chain_fail(&c, RQ_UNSUPPORTED, "blocks of this size, or of a tensor of unknown size, are not supported");
    for (int i = 0; i < n_edge && !c.st; i++)
        if (edge[i] < 0 || edge[i] > (1 << 24))
            rq_chain_fail(&c, RQ_BAD_FILE, "an edge of %lld", (long long)edge[i]);
    if (c.st)
        return c.st;
    if (!back) {
        const int64_t pads[] = { 0, 0, edge[0], edge[2], 0, 0, edge[1], edge[3] };
        const int64_t apart[] = { -1, ch, (h + edge[0] + edge[1]) / b[0], b[0], (w + edge[2] + edge[3]) / b[1], b[1] };
        const int64_t whole_shape[] = { -1, ch, apart[2], apart[4] };
        x = rq_n2(&c, "Pad", x, rq_chain_const_ints(&c, pads, 8));
        x = rq_n2(&c, "Reshape", x, rq_chain_const_ints(&c, apart, 6));
        x = permuted(&c, x, (const int64_t[]) { 3, 5, 0, 1, 2, 4 }, 6);
        return rq_chain_end(&c, 0, rq_n2(&c, "Reshape", x, rq_chain_const_ints(&c, whole_shape, 4)));
    }
    const int64_t apart[] = { b[0], b[1], -1, ch, h, w }, whole_shape[] = { -1, ch, h * b[0], w * b[1] };
    const int64_t begins[] = { edge[0], edge[2] }, ends[] = { h * b[0] - edge[1], w * b[1] - edge[3] },
                  axes[] = { 2, 3 };
    x = rq_n2(&c, "Reshape", x, rq_chain_const_ints(&c, apart, 6));
    x = permuted(&c, x, (const int64_t[]) { 2, 3, 4, 0, 5, 1 }, 6);
    x = rq_n2(&c, "Reshape", x, rq_chain_const_ints(&c, whole_shape, 4));
    const char *in[] = { x, rq_chain_const_ints(&c, begins, 2), rq_chain_const_ints(&c, ends, 2),
                         rq_chain_const_ints(&c, axes, 2) };
    return rq_chain_end(&c, 0, rq_chain_node(&c, "Slice", in, 4));
}

const rq_mil_row rq_mil_rows_shapes[] = {
    { "batch_to_space", blocks_in_batch, "Reshape, Transpose, Reshape, Slice", NULL },
    { "concat", concat, "Concat; Unsqueeze, Concat, Reshape", NULL },
    { "depth_to_space", to_space, "DepthToSpace", NULL },
    { "expand_dims", expand_dims, "Unsqueeze", NULL },
    { "flatten2d", flatten2d, "Flatten", NULL },
    { "identity", NULL, "Identity", "x" },
    { "pixel_shuffle", to_space, "DepthToSpace", NULL },
    { "pixel_unshuffle", pixel_unshuffle, "SpaceToDepth, Gather", NULL },
    { "reshape", reshape, "Reshape", NULL },
    { "reshape_like", reshape_like, "Shape, Concat, Reshape", NULL },
    { "shape", shape, "Shape", NULL },
    { "space_to_batch", blocks_in_batch, "Pad, Reshape, Transpose, Reshape", NULL },
    { "space_to_depth", space_to_depth, "SpaceToDepth", NULL },
    { "split", split, "Split", NULL },
    { "squeeze", squeeze, "Squeeze", NULL },
    { "stack", stack, "Unsqueeze, Concat", NULL },
    { "transpose", transpose, "Transpose", NULL },
    { NULL, NULL, NULL, NULL },
};
