/* tensor/dtype.c — the table of element types, read from RQ_DTYPE_MAP. */
#include "requant/tensor.h"

typedef struct dtype_row {
    const char *name;
    int bits;
    char kind;
} dtype_row;

static const dtype_row rows[RQ_N_DTYPES] = {
#define RQ_DTYPE_ROW(name, text, bits, kind) [RQ_DTYPE_##name] = { text, bits, kind },
    RQ_DTYPE_MAP(RQ_DTYPE_ROW)
#undef RQ_DTYPE_ROW
};

static const dtype_row *row_of(rq_dtype d)
{
    return (unsigned)d < RQ_N_DTYPES ? &rows[d] : &rows[RQ_DTYPE_NONE];
}

const char *rq_dtype_name(rq_dtype d)
{
    return row_of(d)->name;
}

int rq_dtype_bits(rq_dtype d)
{
    return row_of(d)->bits;
}

bool rq_dtype_is_integer(rq_dtype d)
{
    return row_of(d)->kind == 'i' || row_of(d)->kind == 'u';
}

bool rq_dtype_is_float(rq_dtype d)
{
    return row_of(d)->kind == 'f';
}

void rq_dtype_limits(rq_dtype d, int64_t *lo, int64_t *hi)
{
    const dtype_row *r = row_of(d);
    int bits = r->bits > 32 ? 32 : r->bits;
    if (r->kind == 'i') {
        *lo = -((int64_t)1 << (bits - 1));
        *hi = ((int64_t)1 << (bits - 1)) - 1;
    } else if (r->kind == 'u') {
        *lo = 0;
        *hi = ((int64_t)1 << bits) - 1;
    } else {
        *lo = *hi = 0;
    }
}
