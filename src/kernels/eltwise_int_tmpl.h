/* kernels/eltwise_int_tmpl.h — elementwise functions of one integer type. The including file sets T (the type), U (its
 * unsigned twin, in which sums wrap), SIGNED (0 or 1) and SUFFIX, once per type. */
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define F(name) JOIN(name##_, SUFFIX)
#if SIGNED
#define NEGATIVE(x) ((x) < 0)
#else
#define NEGATIVE(x) 0
#endif

static inline T F(add)(T a, T b)
{
    return (T)(U)((U)a + (U)b);
}

static inline T F(sub)(T a, T b)
{
    return (T)(U)((U)a - (U)b);
}

static inline T F(mul)(T a, T b)
{
    return (T)(U)((uint64_t)(U)a * (U)b);
}

static inline T F(div)(T a, T b) /* towards zero */
{
    if (b == 0)
        return 0;
    return SIGNED && b == (T)-1 ? F(sub)(0, a) : (T)(a / b);
}

static inline T F(min)(T a, T b)
{
    return b < a ? b : a;
}

static inline T F(max)(T a, T b)
{
    return a < b ? b : a;
}

static inline T F(fmod)(T a, T b) /* sign of a */
{
    return b == 0 || (SIGNED && b == (T)-1) ? 0 : (T)(a % b);
}

static inline T F(mod)(T a, T b) /* sign of b */
{
    const T r = F(fmod)(a, b);
    return r != 0 && NEGATIVE(r) != NEGATIVE(b) ? (T)(r + b) : r;
}

static inline T F(pow)(T a, T b)
{
    if (NEGATIVE(b))
        return a == 1 ? 1 : a == (T)-1 ? (b % 2 ? a : 1) : 0;
    T y = 1;
    for (U e = (U)b; e; e >>= 1) {
        if (e & 1)
            y = F(mul)(y, a);
        a = F(mul)(a, a);
    }
    return y;
}

static inline T F(prelu)(T a, T b)
{
    return NEGATIVE(a) ? F(mul)(a, b) : a;
}

#define ZIP(name)                                                                                                      \
    static void F(zip_##name)(void *yp, const void *ap, int sa, const void *bp, int sb, size_t n)                      \
    {                                                                                                                  \
        T *y = yp;                                                                                                     \
        const T *a = ap, *b = bp;                                                                                      \
        for (size_t i = 0; i < n; i++)                                                                                 \
            y[i] = F(name)(a[sa ? i : 0], b[sb ? i : 0]);                                                              \
    }
ZIP(add)
ZIP(sub)
ZIP(mul)
ZIP(div)
ZIP(min)
ZIP(max)
ZIP(fmod)
ZIP(mod)
ZIP(pow)
ZIP(prelu)
#undef ZIP

static void F(map_abs)(void *yp, const void *xp, size_t n, const void *a, const void *b)
{
    T *y = yp;
    const T *x = xp;
    for (size_t i = 0; i < n; i++)
        y[i] = NEGATIVE(x[i]) ? F(sub)(0, x[i]) : x[i];
}

static void F(map_neg)(void *yp, const void *xp, size_t n, const void *a, const void *b)
{
    T *y = yp;
    const T *x = xp;
    for (size_t i = 0; i < n; i++)
        y[i] = F(sub)(0, x[i]);
}

static void F(map_sign)(void *yp, const void *xp, size_t n, const void *a, const void *b)
{
    T *y = yp;
    const T *x = xp;
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] > 0 ? 1 : NEGATIVE(x[i]) ? (T)-1 : 0;
}

static void F(map_relu)(void *yp, const void *xp, size_t n, const void *a, const void *b)
{
    T *y = yp;
    const T *x = xp;
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] > 0 ? x[i] : 0;
}

static void F(map_clip)(void *yp, const void *xp, size_t n, const void *a, const void *b)
{
    T *y = yp;
    const T *x = xp, lo = *(const T *)a, hi = *(const T *)b;
    for (size_t i = 0; i < n; i++)
        y[i] = F(min)(F(max)(x[i], lo), hi);
}

const rq_eltwise_int JOIN(rq_eltwise_, SUFFIX) = {
    .zip = { [RQ_ZIP_ADD] = F(zip_add),
             [RQ_ZIP_SUB] = F(zip_sub),
             [RQ_ZIP_MUL] = F(zip_mul),
             [RQ_ZIP_DIV] = F(zip_div),
             [RQ_ZIP_MIN] = F(zip_min),
             [RQ_ZIP_MAX] = F(zip_max),
             [RQ_ZIP_FMOD] = F(zip_fmod),
             [RQ_ZIP_MOD] = F(zip_mod),
             [RQ_ZIP_POW] = F(zip_pow),
             [RQ_ZIP_PRELU] = F(zip_prelu) },
    .map = { [RQ_MAP_ABS] = F(map_abs),
             [RQ_MAP_NEG] = F(map_neg),
             [RQ_MAP_SIGN] = F(map_sign),
             [RQ_MAP_RELU] = F(map_relu),
             [RQ_MAP_CLIP] = F(map_clip) },
};

#undef F
#undef NEGATIVE
#undef JOIN
#undef JOIN_
#undef T
#undef U
#undef SIGNED
#undef SUFFIX
