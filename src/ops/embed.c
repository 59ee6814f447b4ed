/* ops/embed.c — EmbedLayerNormalization and QEmbedLayerNormalization of com.microsoft: rows of the tables of words,
 * positions and (optional) segments are added and normalized, as the first layer of BERT is exported. The tables of the
 * second are codes of 8 bits, of which each row is dequantized as it is fetched. */
#include <math.h>
#include <string.h>

#include "ops/bcast.h"
#include "ops/half.h"
#include "ops/int_ops.h"

enum { IDS, SEGMENTS, WORDS, PLACES, KINDS, GAMMA, BETA, MASK, POSITIONS, Y = 0, MASK_INDEX, SUM };
/* where the codes of tables, gamma and beta have their scales and zero points: at these + (i - WORDS) */
enum { SCALES = 8, ZEROS = 13 };

static bool is_codes(const rq_node *n)
{
    return n->op[0] == 'Q';
}

/* An input of ids [B,S] (or [1,S]) of whole numbers. */
static rq_status check_ids(const rq_infer *a, int i, const char *what)
{
    const rq_tensor *t = rq_op_input(a->in, a->n_in, i);
    const rq_shape *want = &a->in[IDS]->shape;
    if (!t)
        return RQ_OK;
    if (t->dtype != RQ_DTYPE_NONE && t->dtype != RQ_DTYPE_S32)
        return rq_infer_fail(a, RQ_BAD_DTYPE, "%s has type %s, expected s32", what, rq_dtype_name(t->dtype));
    if (t->shape.rank < 0 || want->rank != 2)
        return RQ_OK;
    bool fits = t->shape.rank == 2;
    for (int d = 0; fits && d < 2; d++)
        fits = t->shape.dim[d] < 0 || want->dim[d] < 0 || t->shape.dim[d] == want->dim[d] ||
               (i == POSITIONS && d == 0 && t->shape.dim[d] == 1);
    if (!fits)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "%s does not have the shape of input_ids", what);
    return RQ_OK;
}

static rq_status embed_infer(const rq_infer *a)
{
    static const int needed[] = { IDS, WORDS, PLACES, GAMMA, BETA };
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (!rq_op_input(a->in, a->n_in, needed[i]))
            return rq_infer_fail(a, RQ_BAD_GRAPH, "input %d is missing", needed[i]);
    const rq_shape *ids = &a->in[IDS]->shape;
    if (ids->rank >= 0 && ids->rank != 2)
        return rq_infer_fail(a, RQ_BAD_SHAPE, "input_ids has %d axes, expected 2", ids->rank);
    RQ_TRY(check_ids(a, IDS, "input_ids"));
    RQ_TRY(check_ids(a, SEGMENTS, "segment_ids"));
    RQ_TRY(check_ids(a, MASK, "mask"));
    if (!is_codes(a->node))
        RQ_TRY(check_ids(a, POSITIONS, "position_ids"));
    if (!rq_op_input(a->in, a->n_in, SEGMENTS) != !a->in[KINDS])
        return rq_infer_fail(a, RQ_BAD_GRAPH, "segment_ids and segment_embedding go together, and only one is given");
    int64_t hidden = RQ_DIM_UNKNOWN;
    for (int i = WORDS; i <= BETA; i++) {
        const int rank = i <= KINDS ? 2 : 1;
        if (!a->in[i] || a->in[i]->shape.rank < 0)
            continue;
        if (a->in[i]->shape.rank != rank || !rq_infer_dim_join(&hidden, a->in[i]->shape.dim[rank - 1]))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d does not have %d axes with the size of the embeddings last",
                                 i, rank);
    }
    const rq_shape *places = &a->in[PLACES]->shape;
    for (int i = WORDS; is_codes(a->node) && i <= BETA; i++) {
        const rq_tensor *t = a->in[i], *s = rq_op_input(a->in, a->n_in, SCALES + i - WORDS),
                        *z = rq_op_input(a->in, a->n_in, ZEROS + i - WORDS);
        if (!t)
            continue;
        if (!s || !z || (rq_shape_is_known(&s->shape) && rq_shape_count(&s->shape) != 1) ||
            (rq_shape_is_known(&z->shape) && rq_shape_count(&z->shape) != 1))
            return rq_infer_fail(a, RQ_BAD_SHAPE, "input %d does not have one scale and one zero point", i);
        if (s->dtype != RQ_DTYPE_NONE && s->dtype != RQ_DTYPE_F32 && !rq_half_is(s->dtype))
            return rq_infer_fail(a, RQ_BAD_DTYPE, "the scale of input %d is %s", i, rq_dtype_name(s->dtype));
        if ((t->dtype != RQ_DTYPE_NONE && !rq_int_is_byte(t->dtype)) ||
            (t->dtype != RQ_DTYPE_NONE && z->dtype != RQ_DTYPE_NONE && t->dtype != z->dtype))
            return rq_infer_fail(a, RQ_BAD_DTYPE, "input %d is %s, its zero point %s, expected u8 or s8", i,
                                 rq_dtype_name(t->dtype), rq_dtype_name(z->dtype));
    }
    const bool positions = !is_codes(a->node) && rq_op_input(a->in, a->n_in, POSITIONS);
    if (!positions && places->rank == 2 && ids->rank == 2 && places->dim[0] >= 0 && ids->dim[1] > places->dim[0])
        return rq_infer_fail(a, RQ_BAD_SHAPE, "a sequence of %lld is longer than the %lld positions",
                             (long long)ids->dim[1], (long long)places->dim[0]);
    const int64_t batch = ids->rank == 2 ? ids->dim[0] : RQ_DIM_UNKNOWN,
                  rows = ids->rank == 2 ? ids->dim[1] : RQ_DIM_UNKNOWN;
    for (int i = 0; i < a->n_out; i++) {
        a->out_dtype[i] = i == MASK_INDEX ? RQ_DTYPE_S32 : a->in[is_codes(a->node) ? SCALES : WORDS]->dtype;
        a->out_shape[i] =
            i == MASK_INDEX ? rq_shape_of(1, &batch) : rq_shape_of(3, (int64_t[]) { batch, rows, hidden });
    }
    return RQ_OK;
}

typedef struct embed_job {
    const rq_op_args *a;
    int64_t rows, hidden;
    float epsilon;
    float *sum; /* [B][S][hidden]: the output of sums, or the result itself */
} embed_job;

/* y = f(y, row `at` of input i), in pieces that are dequantized where they are codes. */
static void with_row(const embed_job *j, rq_zip_id f, float *y, int i, int64_t at)
{
    enum { PIECE = 256 };
    const rq_op_args *a = j->a;
    const rq_tensor *t = a->in[i];
    const int64_t first = at * j->hidden;
    float part[PIECE];
    if (!is_codes(a->node)) {
        a->k->zip[f](y, y, 1, t->f32 + first, 1, (size_t)j->hidden);
        return;
    }
    const float scale = a->in[SCALES + i - WORDS]->f32[0];
    const int32_t zero = (int32_t)rq_tensor_get_int(a->in[ZEROS + i - WORDS], 0);
    for (int64_t c = 0; c < j->hidden; c += PIECE) {
        const size_t some = (size_t)(j->hidden - c < PIECE ? j->hidden - c : PIECE);
        if (t->dtype == RQ_DTYPE_S8)
            a->k->dequantize_s8(part, t->s8 + first + c, some, scale, zero);
        else
            a->k->dequantize_u8(part, t->u8 + first + c, some, scale, zero);
        a->k->zip[f](y + c, y + c, 1, part, 1, some);
    }
}

static void embed_span(void *arg, int64_t from, int64_t n)
{
    const embed_job *j = arg;
    const rq_op_args *a = j->a;
    const rq_kernels *k = a->k;
    const rq_tensor *seg = a->in[SEGMENTS], *pos = is_codes(a->node) ? NULL : rq_op_input(a->in, a->n_in, POSITIONS);
    const size_t h = (size_t)j->hidden;
    for (int64_t i = from; i < from + n; i++) {
        float *sum = j->sum + i * j->hidden, *y = a->out[Y]->f32 + i * j->hidden;
        const int64_t row = i % j->rows;
        const int64_t at = !pos ? row : pos->s32[pos->shape.dim[0] == 1 ? row : i];
        memset(sum, 0, h * sizeof *sum);
        with_row(j, RQ_ZIP_ADD, sum, WORDS, a->in[IDS]->s32[i]);
        with_row(j, RQ_ZIP_ADD, sum, PLACES, at);
        if (seg)
            with_row(j, RQ_ZIP_ADD, sum, KINDS, seg->s32[i]);
        const float mean = k->sum_f32(sum, h) / (float)j->hidden;
        const float inv = 1 / sqrtf(k->fold[RQ_FOLD_SQUARE](sum, h, mean) / (float)j->hidden + j->epsilon);
        k->zip[RQ_ZIP_SUB](y, sum, 1, &mean, 0, h);
        k->zip[RQ_ZIP_MUL](y, y, 1, &inv, 0, h);
        with_row(j, RQ_ZIP_MUL, y, GAMMA, 0);
        with_row(j, RQ_ZIP_ADD, y, BETA, 0);
    }
}

static rq_status check_range(const rq_op_args *a, int ids, int table, const char *what)
{
    const rq_tensor *t = rq_op_input(a->in, a->n_in, ids);
    const int64_t most = t ? a->in[table]->shape.dim[0] : 0;
    for (int64_t i = 0, n = t ? rq_tensor_count(t) : 0; i < n; i++)
        if (t->s32[i] < 0 || t->s32[i] >= most)
            return rq_op_fail(a, RQ_BAD_ARG, "%s %d is outside the table of %lld", what, t->s32[i], (long long)most);
    return RQ_OK;
}

static rq_status embed_wide(const rq_op_args *a)
{
    for (int i = WORDS; i <= BETA; i++)
        if (a->in[i] && a->in[i]->dtype != RQ_DTYPE_F32 && !is_codes(a->node))
            return rq_op_no_form(a, a->in[i]->dtype);
    RQ_TRY(check_range(a, IDS, WORDS, "word"));
    RQ_TRY(check_range(a, SEGMENTS, KINDS, "segment"));
    if (!is_codes(a->node))
        RQ_TRY(check_range(a, POSITIONS, PLACES, "position"));
    const rq_shape *s = &a->out[Y]->shape;
    embed_job j = { .a = a,
                    .rows = s->dim[1],
                    .hidden = s->dim[2],
                    .epsilon = rq_attr_float(a->node, RQ_WORD_epsilon, 1e-12f),
                    .sum = a->n_out > SUM && a->out[SUM] ? a->out[SUM]->f32 : a->out[Y]->f32 };
    if (a->n_out > MASK_INDEX && a->out[MASK_INDEX]) {
        const rq_tensor *mask = rq_op_input(a->in, a->n_in, MASK);
        for (int64_t b = 0; b < s->dim[0]; b++) {
            int32_t kept = 0;
            for (int64_t i = 0; mask && i < j.rows; i++)
                kept += mask->s32[b * j.rows + i] == 1;
            a->out[MASK_INDEX]->s32[b] = kept;
        }
    }
    if (rq_shape_count(s))
        rq_bcast_spans(a->threads, s->dim[0] * j.rows, RQ_BCAST_PIECE / j.hidden + 1, embed_span, &j);
    return RQ_OK;
}

static rq_status embed_forward(const rq_op_args *a)
{
    return rq_half_run(a, embed_wide);
}

const rq_op rq_op_ms_embed_layer_normalization = {
    .name = "EmbedLayerNormalization",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 1, /* 7, but the segments may be left out */
    .max_in = 9,
    .min_out = 1,
    .max_out = 3,
    .place = RQ_PLACE_FLOAT,
    .infer = embed_infer,
    .forward = embed_forward,
};

const rq_op rq_op_ms_qembed_layer_normalization = {
    .name = "QEmbedLayerNormalization",
    .domain = "com.microsoft",
    .since = 1,
    .known = 1,
    .min_in = 1,
    .max_in = 18,
    .min_out = 1,
    .max_out = 2,
    .place = RQ_PLACE_FLOAT,
    .infer = embed_infer,
    .forward = embed_forward,
};
