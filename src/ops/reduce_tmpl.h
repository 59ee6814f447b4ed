/* ops/reduce_tmpl.h — the walk of a reduction for one element type. The including file sets T (element), ACC (in
 * which partial results meet), SUFFIX, and functions FOLD(k, f, x, n, c) (a row of n elements) and FINISH(kind, acc,
 * n). The functions of one element are in plain C: their cost is that of reading memory. */
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define F(name) JOIN(name##_, SUFFIX)

static ACC F(neutral)(rq_fold_id f)
{
    return f == RQ_FOLD_MAX ? LOWEST : f == RQ_FOLD_MIN ? HIGHEST : f == RQ_FOLD_PROD;
}

static inline ACC F(join)(rq_fold_id f, ACC a, ACC b)
{
    switch (f) {
    case RQ_FOLD_MAX:
        return b > a || IS_NAN(b) ? b : a;
    case RQ_FOLD_MIN:
        return b < a || IS_NAN(b) ? b : a;
    case RQ_FOLD_PROD:
        return MUL(a, b);
    default:
        return ADD(a, b);
    }
}

/* One group: rows along the innermost reduced axis, joined over the outer ones. */
static ACC F(group)(const rq_kernels *k, const rq_reduce_plan *p, const T *x, rq_fold_id f, T c)
{
    const int outer = p->row > 1 ? p->n_red - 1 : p->n_red;
    int64_t at[RQ_MAX_RANK] = { 0 };
    ACC acc = F(neutral)(f);
    if (p->group == 0)
        return acc;
    for (;;) {
        acc = F(join)(f, acc, FOLD(k, f, x, (size_t)p->row, c));
        int i = outer - 1;
        for (; i >= 0; i--) {
            x += p->red_stride[i];
            if (++at[i] < p->red[i])
                break;
            x -= at[i] * p->red_stride[i];
            at[i] = 0;
        }
        if (i < 0)
            return acc;
    }
}

/* n <= TILE neighbouring outputs whose groups are columns `stride` apart: rows are read as they lie. */
static void F(columns)(ACC acc[], const T *x, int64_t rows, int64_t stride, int64_t n, rq_fold_id f)
{
    for (int64_t i = 0; i < n; i++)
        acc[i] = F(neutral)(f);
    for (int64_t r = 0; r < rows; r++, x += stride)
        switch (f) {
        case RQ_FOLD_ABS:
            for (int64_t i = 0; i < n; i++)
                acc[i] = ADD(acc[i], ABS((ACC)x[i]));
            break;
        case RQ_FOLD_SQUARE:
            for (int64_t i = 0; i < n; i++)
                acc[i] = ADD(acc[i], MUL((ACC)x[i], (ACC)x[i]));
            break;
        case RQ_FOLD_SUM:
            for (int64_t i = 0; i < n; i++)
                acc[i] = ADD(acc[i], (ACC)x[i]);
            break;
        default:
            for (int64_t i = 0; i < n; i++)
                acc[i] = F(join)(f, acc[i], (ACC)x[i]);
        }
}

typedef struct F(job) {
    const rq_kernels *k;
    const rq_reduce_plan *p;
    rq_reduce kind;
    T *y;
    const T *x;
} F(job);

static void F(span)(void *arg, int64_t from, int64_t n)
{
    const F(job) *j = arg;
    const rq_reduce_plan *p = j->p;
    const rq_fold_id f = fold_of(j->kind);
    int64_t o = from;
    while (o < from + n) {
        const T *x = j->x;
        int64_t rest = o;
        for (int i = p->n_kept - 1; i >= 0; i--) {
            x += rest % p->kept[i] * p->kept_stride[i];
            rest /= p->kept[i];
        }
        const int last = p->n_kept - 1;
        if (p->n_red == 1 && p->row == 1 && last >= 0 && p->kept_stride[last] == 1 &&
            j->kind != RQ_REDUCE_LOG_SUM_EXP) {
            ACC acc[TILE];
            int64_t m = p->kept[last] - o % p->kept[last];
            m = m < from + n - o ? m : from + n - o;
            m = m < TILE ? m : TILE;
            F(columns)(acc, x, p->group, p->red_stride[0], m, f);
            for (int64_t i = 0; i < m; i++)
                j->y[o + i] = FINISH(j->kind, acc[i], p->group);
            o += m;
            continue;
        }
        if (j->kind == RQ_REDUCE_LOG_SUM_EXP) { /* relative to the largest, so that nothing overflows */
            const T most = (T)F(group)(j->k, p, x, RQ_FOLD_MAX, 0), c = IS_FINITE(most) ? most : 0;
            j->y[o++] = LOG_SUM(F(group)(j->k, p, x, RQ_FOLD_EXP, c), c);
        } else {
            j->y[o++] = FINISH(j->kind, F(group)(j->k, p, x, f, 0), p->group);
        }
    }
}

static void F(run)(const rq_op_args *a, const rq_reduce_plan *p, rq_reduce kind, T *y, const T *x)
{
    F(job) j = { .k = a->k, .p = p, .kind = kind, .y = y, .x = x };
    int64_t piece = p->group < WORK ? WORK / (p->group + 1) : 1;
    if (p->n_red == 1 && p->row == 1 && piece < LINE) /* columns: whole lines of memory, however long they are */
        piece = LINE;
    rq_bcast_spans(a->threads, p->outputs, piece, F(span), &j);
}

#undef F
#undef JOIN
#undef JOIN_
#undef T
#undef ACC
#undef SUFFIX
#undef FOLD
#undef FINISH
#undef LOWEST
#undef HIGHEST
#undef ADD
#undef MUL
#undef ABS
#undef IS_FINITE
#undef IS_NAN
#undef LOG_SUM
