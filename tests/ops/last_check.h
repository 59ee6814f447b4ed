/* tests/ops/last_check.h — one node on codes in both orders: the same random graph is run with all codes as the file has them and with channels-last
 * ones wherever the row takes them, at the definitions and at the best level, rounding either way; the bytes that come out must be the same. */
#ifndef TEST_OPS_LAST_CHECK_H
#define TEST_OPS_LAST_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "ops/build.h"
#include "run/program.h"

enum { LAST_MAX = 8 };

/* What a case builds: a node `op` with what it likes as inputs. */
typedef struct last_case {
    rq_graph *g;
    rq_rng rng;
    const char *op;
    rq_id in[LAST_MAX];
    int n_in, n_out;
    rq_tensor x[LAST_MAX]; /* of the graph's inputs */
    int n_x, n_values;
} last_case;

static inline int64_t last_draw(last_case *c, int64_t lo, int64_t hi)
{
    return lo + (int64_t)rq_rng_below(&c->rng, (uint64_t)(hi - lo + 1));
}

static inline void last_annotate(last_case *c, rq_id v)
{
    rq_qparams q;
    const bool s8 = rq_rng_below(&c->rng, 2);
    assert_int_equal(rq_qparams_init_one(&q, s8 ? RQ_DTYPE_S8 : RQ_DTYPE_U8, 0.01F + 0.05F * rq_rng_f32(&c->rng),
                                         (int32_t)last_draw(c, 0, 255) - (s8 ? 128 : 0)),
                     RQ_OK);
    assert_int_equal(rq_graph_add_quant(c->g, &c->g->values[v].quant, &q, "given"), RQ_OK);
}

static inline const char *last_name(last_case *c, char name[16])
{
    snprintf(name, 16, "v%d", c->n_values++);
    return name;
}

/* An input of the graph on codes. */
static inline rq_id last_image(last_case *c, int rank, const int64_t *dim)
{
    char name[16];
    const rq_id v = build_input(c->g, last_name(c, name), RQ_DTYPE_F32, rank, dim);
    rq_tensor *t = &c->x[c->n_x++];
    const rq_shape s = rq_shape_of(rank, dim);
    assert_int_equal(rq_tensor_create(t, RQ_DTYPE_F32, &s, false), RQ_OK);
    for (int64_t i = 0; i < rq_tensor_count(t); i++)
        t->f32[i] = (rq_rng_f32(&c->rng) - 0.5F) * 10;
    last_annotate(c, v);
    c->in[c->n_in++] = v;
    return v;
}

/* A constant of reals, on codes or not. */
static inline rq_id last_const(last_case *c, int rank, const int64_t *dim, bool codes)
{
    char name[16];
    const rq_shape s = rq_shape_of(rank, dim);
    double *v = malloc((size_t)rq_shape_count(&s) * sizeof *v);
    for (int64_t i = 0; i < rq_shape_count(&s); i++)
        v[i] = (double)rq_rng_f32(&c->rng) * 4 - 1;
    const rq_id id = build_const(c->g, last_name(c, name), RQ_DTYPE_F32, rank, dim, v);
    free(v);
    if (codes)
        last_annotate(c, id);
    c->in[c->n_in++] = id;
    return id;
}

static inline void last_list(last_case *c, rq_dtype d, int n, const double *v)
{
    char name[16];
    c->in[c->n_in++] = build_const(c->g, last_name(c, name), d, 1, (int64_t[]) { n }, v);
}

/* The node; its outputs are on codes unless `real`. */
static inline rq_id last_node(last_case *c, int n_out, bool real)
{
    rq_id out[LAST_MAX], node;
    char name[16];
    for (int i = 0; i < n_out; i++) {
        assert_int_equal(rq_graph_add_value(c->g, &out[i], RQ_VALUE_NODE, last_name(c, name),
                                            real ? RQ_DTYPE_S64 : RQ_DTYPE_F32, NULL, NULL),
                         RQ_OK);
        if (!real)
            last_annotate(c, out[i]);
        build_output(c->g, out[i]);
    }
    assert_int_equal(rq_graph_add_node(c->g, &node, c->op, "", "n", c->in, c->n_in, out, n_out, NULL), RQ_OK);
    c->n_out = n_out;
    return node;
}

/* Runs it; how many steps ran channels-last. */
static inline int last_run(last_case *c, unsigned cpu, bool spec, unsigned plain, rq_tensor *out)
{
    const rq_session_cfg cfg = { 0 };
    rq_kernels k;
    rq_program *p;
    rq_err err = { 0 };
    int on_last = 0;
    rq_kernels_init(&k, cpu);
    k.spec = spec;
    rq_ops_bind(c->g);
    if (rq_program_create(&p, c->g, &cfg, &k, NULL, NULL, &err))
        fail_msg("%s: %s", c->op, err.text);
    p->plain = plain;
    if (rq_program_run(p, c->x, out, &err))
        fail_msg("%s: %s", c->op, err.text);
    for (int i = 0; i < p->n_segs; i++)
        for (int s = 0; s < p->segs[i]->n_steps; s++)
            on_last += p->segs[i]->steps[s].kind == RQ_STEP_OP && p->segs[i]->steps[s].args.last;
    rq_program_destroy(p);
    return on_last;
}

typedef void (*last_build)(last_case *c);

/* One graph; true: its node ran channels-last. */
static inline bool last_check_one(const char *op, last_build build, uint64_t seed, unsigned cpu, bool spec)
{
    last_case c = { .op = op };
    rq_tensor want[LAST_MAX] = { 0 }, got[LAST_MAX] = { 0 };
    rq_rng_seed(&c.rng, seed);
    c.g = build_graph(17);
    build(&c);
    const int before = last_run(&c, cpu, spec, RQ_PLAIN_NO_LAST, want);
    const int after = last_run(&c, cpu, spec, RQ_PLAIN_ALL_LAST, got);
    assert_int_equal(before, 0);
    for (int i = 0; i < c.n_out; i++) {
        assert_true(rq_shape_equal(&want[i].shape, &got[i].shape));
        if (memcmp(want[i].data, got[i].data, want[i].bytes))
            fail_msg("%s: output %d differs channels-last (seed %d, cpu %#x%s)", op, i, (int)seed, cpu,
                     spec ? ", by the definition" : "");
        rq_tensor_release(&want[i]);
        rq_tensor_release(&got[i]);
    }
    for (int i = 0; i < c.n_x; i++)
        rq_tensor_release(&c.x[i]);
    rq_graph_destroy(c.g);
    return after > 0;
}

/* Many of them, of which one must have run so. */
static inline void last_check(const char *op, last_build build, int rounds)
{
    int ran = 0;
    for (int i = 0; i < rounds; i++)
        ran += last_check_one(op, build, (uint64_t)i, i % 3 == 2 ? 0 : rq_cpu_detect(), i % 5 == 4);
    if (!ran)
        fail_msg("%s: never ran channels-last", op);
}

#endif
