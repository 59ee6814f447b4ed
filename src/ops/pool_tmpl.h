/* ops/pool_tmpl.h — maximum over windows for one element type. The including file sets T, SUFFIX, LOWEST, IS_NAN(v) and
 * ROW_MAX(k, acc, x, n): acc[i] = max(acc[i], x[i]).
 *
 * A window is taken apart: rows that lie under each other are joined whole, then neighbours within the joined row. So a
 * 3x3 window costs four passes over whole rows. */
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define F(name) JOIN(name##_, SUFFIX)

static inline T F(larger)(T a, T b)
{
    return b > a || IS_NAN(b) ? b : a;
}

/* One line of outputs (fixed o[0], o[1]) from the joined row. Windows inside the input are picked from the row's maxima
 * over kernel[2] neighbours, made in whole passes; those at the borders are walked. */
static void F(across)(const rq_kernels *kernels, const rq_window *w, T *y, const T *row)
{
    const int64_t s = w->stride[2], d = w->dilation[2], k = w->kernel[2], in = w->in[2], pad = w->pad_lo[2];
    const int64_t starts = in - (k - 1) * d; /* positions where a whole window fits */
    T best[MAX_ROW];
    int64_t lo = (pad + s - 1) / s, hi = lo;
    if (starts > 0) {
        memcpy(best, row, (size_t)starts * sizeof *best);
        for (int64_t t = 1; t < k; t++)
            ROW_MAX(kernels, best, row + t * d, (size_t)starts);
        hi = (starts - 1 + pad) / s + 1;
        hi = hi < w->out[2] ? hi : w->out[2];
    }
    for (int64_t o = lo; o < hi; o++)
        y[o] = best[o * s - pad];
    for (int64_t o = 0; o < w->out[2]; o++) {
        if (o == lo && lo < hi) {
            o = hi - 1;
            continue;
        }
        T most = LOWEST;
        int64_t at = o * s - pad;
        for (int64_t t = 0; t < k; t++, at += d)
            if (at >= 0 && at < in)
                most = F(larger)(most, row[at]);
        y[o] = most;
    }
}

/* One channel of one image. */
static void F(max_plane)(const rq_kernels *kernels, const rq_window *w, T *y, const T *x)
{
    T joined[MAX_ROW];
    const int64_t width = w->in[2];
    int64_t o[2], t[2];
    for (o[0] = 0; o[0] < w->out[0]; o[0]++)
        for (o[1] = 0; o[1] < w->out[1]; o[1]++, y += w->out[2]) {
            const T *row = NULL; /* the rows joined so far */
            for (t[0] = 0; t[0] < w->kernel[0]; t[0]++)
                for (t[1] = 0; t[1] < w->kernel[1]; t[1]++) {
                    const int64_t z = o[0] * w->stride[0] - w->pad_lo[0] + t[0] * w->dilation[0];
                    const int64_t v = o[1] * w->stride[1] - w->pad_lo[1] + t[1] * w->dilation[1];
                    if (z < 0 || z >= w->in[0] || v < 0 || v >= w->in[1])
                        continue;
                    const T *next = x + (z * w->in[1] + v) * width;
                    if (row == joined) {
                        ROW_MAX(kernels, joined, next, (size_t)width);
                    } else if (row) {
                        memcpy(joined, row, (size_t)width * sizeof *joined);
                        ROW_MAX(kernels, joined, next, (size_t)width);
                        row = joined;
                    } else {
                        row = next;
                    }
                }
            if (row)
                F(across)(kernels, w, y, row);
            else
                for (int64_t i = 0; i < w->out[2]; i++)
                    y[i] = LOWEST;
        }
}

/* The same one element at a time, for rows too long to join and for indices: index[i] is the position in the plane. */
static void F(max_plane_slow)(const rq_window *w, T *y, int64_t *index, const T *x)
{
    int64_t o[3], t[3];
    for (o[0] = 0; o[0] < w->out[0]; o[0]++)
        for (o[1] = 0; o[1] < w->out[1]; o[1]++)
            for (o[2] = 0; o[2] < w->out[2]; o[2]++, y++) {
                int64_t best = -1;
                for (t[0] = 0; t[0] < w->kernel[0]; t[0]++)
                    for (t[1] = 0; t[1] < w->kernel[1]; t[1]++)
                        for (t[2] = 0; t[2] < w->kernel[2]; t[2]++) {
                            const int64_t at = position(w, o, t);
                            if (at >= 0 && (best < 0 || x[at] > x[best] || (IS_NAN(x[at]) && !IS_NAN(x[best]))))
                                best = at;
                        }
                *y = best < 0 ? LOWEST : x[best];
                if (index)
                    *index++ = best;
            }
}

static void F(max_item)(void *arg, int64_t i)
{
    const max_job *j = arg;
    const rq_window *w = j->w;
    const int64_t in = rq_window_span(w->in), out = rq_window_span(w->out);
    T *y = (T *)j->y + i * out;
    const T *x = (const T *)j->x + i * in;
    if (!j->index && w->in[2] <= MAX_ROW) {
        F(max_plane)(j->k, w, y, x);
        return;
    }
    int64_t *index = j->index ? j->index + i * out : NULL;
    F(max_plane_slow)(w, y, index, x);
    for (int64_t n = 0; index && n < out; n++)
        index[n] = index[n] < 0 ? -1 : i * in + (j->columns ? by_columns(w, index[n]) : index[n]);
}

#undef F
#undef JOIN
#undef JOIN_
#undef T
#undef SUFFIX
#undef LOWEST
#undef IS_NAN
#undef ROW_MAX
