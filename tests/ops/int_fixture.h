/* tests/ops/int_fixture.h — one node with random codes at its inputs, for tests of integer forms. Every call asserts. */
#ifndef TEST_OPS_INT_FIXTURE_H
#define TEST_OPS_INT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "ops/op.h"
#include "ops/packs.h"

enum { MAX_IN = 5 };

/* One node, its tensors and what they mean. */
typedef struct fixture {
    rq_graph *g;
    rq_id node;
    rq_tensor in[MAX_IN], out;
    rq_qparams q[MAX_IN + 1]; /* the output's last */
    bool has_q[MAX_IN + 1];
    int n_in;
    rq_rng *rng;
} fixture;

static inline void start(fixture *f, rq_rng *rng, const char *op)
{
    memset(f, 0, sizeof *f);
    f->rng = rng;
    assert_int_equal(rq_graph_create(&f->g), RQ_OK);
    rq_id out, in[MAX_IN];
    for (int i = 0; i < MAX_IN; i++) /* nobody looks at what they are, but at whether they are constant */
        assert_int_equal(rq_graph_add_value(f->g, &in[i], RQ_VALUE_INPUT, "", RQ_DTYPE_F32, NULL, NULL), RQ_OK);
    assert_int_equal(rq_graph_add_value(f->g, &out, RQ_VALUE_NODE, "y", RQ_DTYPE_F32, NULL, NULL), RQ_OK);
    assert_int_equal(rq_graph_add_node(f->g, &f->node, op, "", "n", in, MAX_IN, &out, 1, NULL), RQ_OK);
    rq_ops_bind(f->g);
}

static inline void set_ints(fixture *f, const char *name, const int64_t *v, int n)
{
    assert_int_equal(rq_attr_set_ints(f->g, f->node, name, v, n), RQ_OK);
}

static inline void set_int(fixture *f, const char *name, int64_t v)
{
    assert_int_equal(rq_attr_set_int(f->g, f->node, name, v), RQ_OK);
}

static inline int64_t draw(fixture *f, int64_t lo, int64_t hi)
{
    return lo + (int64_t)rq_rng_below(f->rng, (uint64_t)(hi - lo + 1));
}

/* Parameters of slot i: n scales along axis; zero points anywhere in the type's range, or symmetric. */
static inline void set_q(fixture *f, int i, rq_dtype d, int axis, int64_t n, bool symmetric, float scale)
{
    assert_int_equal(rq_qparams_init(&f->q[i], d, axis, 0, n), RQ_OK);
    int32_t lo, hi;
    rq_qparams_limits(&f->q[i], &lo, &hi);
    for (int64_t k = 0; k < n; k++) {
        f->q[i].scale[k] = scale * (0.5f + rq_rng_f32(f->rng));
        f->q[i].zero_point[k] = symmetric ? 0 : (int32_t)draw(f, lo, hi);
    }
    f->has_q[i] = true;
}

static inline void add_input(fixture *f, rq_dtype d, int rank, const int64_t *dim)
{
    const rq_shape s = rq_shape_of(rank, dim);
    rq_tensor *t = &f->in[f->n_in++];
    assert_int_equal(rq_tensor_create(t, d, &s, false), RQ_OK);
    for (size_t i = 0; i < t->bytes; i++)
        t->u8[i] = (uint8_t)rq_rng_u64(f->rng);
    if (d == RQ_DTYPE_S32)
        for (int64_t i = 0; i < rq_tensor_count(t); i++)
            t->s32[i] >>= 14;
}

static inline void set_output(fixture *f, rq_dtype d, const rq_shape *s)
{
    assert_int_equal(rq_tensor_create(&f->out, d, s, true), RQ_OK);
}

static inline void finish(fixture *f)
{
    for (int i = 0; i < MAX_IN; i++)
        rq_tensor_release(&f->in[i]);
    rq_tensor_release(&f->out);
    for (int i = 0; i <= MAX_IN; i++)
        rq_qparams_release(&f->q[i]);
    rq_graph_destroy(f->g);
}

static inline int32_t code(const rq_tensor *t, int64_t i)
{
    return t->dtype == RQ_DTYPE_S8 ? t->s8[i] : t->u8[i];
}

static const rq_dtype byte_types[2] = { RQ_DTYPE_U8, RQ_DTYPE_S8 };

#endif
