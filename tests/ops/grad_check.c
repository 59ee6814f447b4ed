/* tests/ops/grad_check.c — see grad_check.h. A case keeps its tensors; a pass is one forward or one backward of the row with buffers
 * of its own. */
#include "ops/grad_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "ops/packs.h"

enum { MAX_ROWS = 1024, GRAIN = 4096 };

static rq_threads *two;
static rq_rng rng;
static const rq_op *seen[MAX_ROWS];
static int n_seen;

void grad_begin(void)
{
    assert_int_equal(rq_threads_create(&two, 2), RQ_OK);
}

void grad_end(void)
{
    rq_threads_destroy(two);
    two = NULL;
}

bool grad_has(const rq_op *row)
{
    for (int i = 0; i < n_seen; i++)
        if (seen[i] == row)
            return true;
    return false;
}

static void note(const rq_op *row)
{
    if (!grad_has(row)) {
        assert_true(n_seen < MAX_ROWS);
        seen[n_seen++] = row;
    }
}

void grad_elsewhere(const char *op, const char *domain, const char *test)
{
    const rq_op *row = rq_op_find(domain, op);
    FILE *f = fopen(test, "r"); /* tests run in the source folder */
    if (!row || !row->backward || !f)
        fail_msg("%s: no such row with a backward, or no file %s", op, test);
    fclose(f);
    note(row);
}

/* ---- building ---- */

void grad_start(grad *g, const char *op, const char *domain, int64_t opset, const char *label)
{
    *g = (grad) {
        .op = op, .domain = domain, .opset = opset, .label = label, .h = 1.0 / 64, .tol = 1e-3, .every = 1, .seed = 1
    };
    g->row = rq_op_find(domain, op);
    if (!g->row || !g->row->backward)
        fail_msg("%s: no such row, or it has no backward", op);
    note(g->row);
    uint64_t seed = 7;
    for (const char *s = label; *s; s++)
        seed = seed * 31 + (unsigned char)*s;
    rq_rng_seed(&rng, seed);
    assert_int_equal(rq_graph_create(&g->g), RQ_OK);
    assert_int_equal(rq_graph_set_opset(g->g, domain, opset), RQ_OK);
    assert_int_equal(rq_graph_add_node(g->g, &g->node, op, domain, "n", NULL, 0, NULL, 0, NULL), RQ_OK);
}

void grad_set_int(grad *g, const char *name, int64_t v)
{
    assert_int_equal(rq_attr_set_int(g->g, g->node, name, v), RQ_OK);
}

void grad_set_float(grad *g, const char *name, float v)
{
    assert_int_equal(rq_attr_set_float(g->g, g->node, name, v), RQ_OK);
}

void grad_set_string(grad *g, const char *name, const char *v)
{
    assert_int_equal(rq_attr_set_string(g->g, g->node, name, v), RQ_OK);
}

void grad_set_strings(grad *g, const char *name, int n, const char *const *v)
{
    rq_attr *a = rq_attr_add(g->g, g->node, name, RQ_ATTR_STRINGS);
    assert_non_null(a);
    a->strings = rq_arena_alloc(&g->g->names, (size_t)n, sizeof *a->strings);
    assert_non_null(a->strings);
    a->n = n;
    for (int i = 0; i < n; i++)
        a->strings[i] = rq_bytes_of(v[i], strlen(v[i]));
}

void grad_set_ints(grad *g, const char *name, int n, const int64_t *v)
{
    assert_int_equal(rq_attr_set_ints(g->g, g->node, name, v, n), RQ_OK);
}

void grad_kink(grad *g, float at)
{
    assert_true(g->n_kinks < GRAD_MAX_KINKS);
    g->kinks[g->n_kinks++] = at;
}

static rq_tensor *next_input(grad *g, rq_dtype d, int rank, va_list ap)
{
    assert_true(g->n_in < GRAD_MAX_IN);
    rq_shape s = { .rank = rank };
    for (int i = 0; i < rank; i++)
        s.dim[i] = va_arg(ap, int);
    rq_tensor *t = &g->in[g->n_in++];
    assert_int_equal(rq_tensor_create(t, d, &s, true), RQ_OK);
    return t;
}

#define NEXT_INPUT(t, d)                                                                                               \
    va_list ap;                                                                                                        \
    va_start(ap, rank);                                                                                                \
    rq_tensor *t = next_input(g, d, rank, ap);                                                                         \
    va_end(ap)

rq_tensor *grad_random(grad *g, float lo, float hi, int rank, ...)
{
    NEXT_INPUT(t, RQ_DTYPE_F32);
    for (int64_t i = 0, n = rq_tensor_count(t); i < n; i++) {
        bool near = true;
        for (int tries = 0; near && tries < 1000; tries++) {
            t->f32[i] = rintf((lo + rq_rng_f32(&rng) * (hi - lo)) * GRAIN) / GRAIN;
            near = false;
            for (int k = 0; k < g->n_kinks; k++)
                near |= fabs((double)t->f32[i] - (double)g->kinks[k]) < 3 * g->h;
        }
        assert_false(near);
    }
    return t;
}

rq_tensor *grad_distinct(grad *g, int rank, ...)
{
    NEXT_INPUT(t, RQ_DTYPE_F32);
    const int64_t n = rq_tensor_count(t);
    int64_t *order = malloc((size_t)(n ? n : 1) * sizeof *order);
    rq_rng_shuffle(&rng, order, n);
    for (int64_t i = 0; i < n; i++)
        t->f32[i] = (float)(((double)order[i] - (double)n / 2) * 5 * g->h);
    free(order);
    return t;
}

rq_tensor *grad_floats(grad *g, const float *v, int rank, ...)
{
    NEXT_INPUT(t, RQ_DTYPE_F32);
    memcpy(t->data, v, t->bytes);
    return t;
}

rq_tensor *grad_ints(grad *g, rq_dtype d, const int64_t *v, int rank, ...)
{
    NEXT_INPUT(t, d);
    for (int64_t i = 0, n = rq_tensor_count(t); i < n; i++)
        rq_tensor_set(t, i, (double)v[i]);
    return t;
}

void grad_omit(grad *g)
{
    assert_true(g->n_in < GRAD_MAX_IN);
    g->in[g->n_in++] = (rq_tensor) { 0 };
}

/* ---- passes ---- */

/* What one way of running the row needs: kernels, threads, state, buffers. */
typedef struct pass {
    const grad *g;
    rq_kernels k;
    rq_threads *threads;
    rq_tensor in[GRAD_MAX_IN], out[GRAD_MAX_OUT]; /* copies of its own */
    const rq_tensor *in_ptr[GRAD_MAX_IN];
    rq_tensor *out_ptr[GRAD_MAX_OUT];
    int n_out;
    rq_op_training training;
    rq_op_args a;
    void *state, *saved;
    size_t n_saved;
    rq_packs packs;
    rq_err err;
} pass;

static bool differentiable(const grad *g, int i)
{
    if (g->in[i].dtype != RQ_DTYPE_F32)
        return false;
    return !g->row->gradients || (g->row->gradients & RQ_OP_IN(i < 15 ? i : 15));
}

/* For prepare: what may be trained has no data that could be relied on. */
static void without_data(const pass *p, rq_tensor *t, const rq_tensor **ptr)
{
    for (int i = 0; i < p->g->n_in; i++) {
        t[i] = p->in[i];
        if (differentiable(p->g, i))
            t[i].data = NULL;
        ptr[i] = p->in_ptr[i] ? &t[i] : NULL;
    }
}

static void pass_open(pass *p, const grad *g, int n_out, unsigned cpu, rq_threads *threads, const rq_dtype *d,
                      const rq_shape *s)
{
    *p = (pass) { .g = g, .threads = threads, .n_out = n_out };
    rq_kernels_init(&p->k, cpu);
    p->k.library = g->onednn;
    for (int i = 0; i < g->n_in; i++) {
        p->in_ptr[i] = NULL;
        if (g->in[i].dtype == RQ_DTYPE_NONE)
            continue;
        assert_int_equal(rq_tensor_copy(&p->in[i], &g->in[i]), RQ_OK);
        p->in_ptr[i] = &p->in[i];
    }
    for (int i = 0; i < n_out; i++)
        if (!g->absent[i]) {
            if (!(g->row->flags & RQ_OP_DYNAMIC))
                assert_int_equal(rq_tensor_create(&p->out[i], d[i], &s[i], true), RQ_OK);
            p->out_ptr[i] = &p->out[i];
        }
    p->training = (rq_op_training) {
        .train = !g->eval, .random = g->random, .fakes = g->fakes, .n_fakes = g->n_fakes, .exec = g->exec
    };
    p->a = (rq_op_args) { .graph = g->g,
                          .node = &g->g->nodes[g->node],
                          .opset = g->opset,
                          .in = p->in_ptr,
                          .out = p->out_ptr,
                          .n_in = g->n_in,
                          .n_out = n_out,
                          .k = &p->k,
                          .threads = threads,
                          .packs = &p->packs,
                          .err = &p->err,
                          .training = &p->training };
    if (g->row->saved) {
        p->n_saved = g->row->saved(&p->a);
        p->saved = rq_mem_alloc(p->n_saved, 1);
        memset(p->saved, 0xa5, p->n_saved);
    }
    p->training.saved = p->saved;
    if (g->row->prepare) {
        rq_tensor t[GRAD_MAX_IN];
        const rq_tensor *ptr[GRAD_MAX_IN];
        without_data(p, t, ptr);
        rq_op_args a = p->a;
        a.in = ptr;
        if (g->row->prepare(&a, &p->state))
            fail_msg("%s (%s): prepare: %s", g->op, g->label, p->err.text);
    }
}

static void pass_close(pass *p)
{
    if (p->state && p->g->row->release)
        p->g->row->release(p->state);
    rq_packs_release(&p->packs);
    for (int i = 0; i < GRAD_MAX_IN; i++)
        rq_tensor_release(&p->in[i]);
    for (int i = 0; i < GRAD_MAX_OUT; i++)
        rq_tensor_release(&p->out[i]);
    rq_mem_free(p->saved);
}

static void pass_forward(pass *p)
{
    const grad *g = p->g;
    for (int i = 0; i < g->n_in; i++) /* running statistics begin anew */
        if (p->in_ptr[i] && (g->row->statistics & RQ_OP_IN(i < 15 ? i : 15)))
            memcpy(p->in[i].data, g->in[i].data, g->in[i].bytes);
    for (int i = 0; i < p->n_out && (g->row->flags & RQ_OP_DYNAMIC); i++)
        rq_tensor_release(&p->out[i]);
    p->a.state = p->state;
    p->a.scratch = rq_mem_alloc(g->row->scratch ? g->row->scratch(&p->a, false) : 0, 1);
    if (g->row->forward(&p->a))
        fail_msg("%s (%s): forward: %s", g->op, g->label, p->err.text);
    rq_mem_free(p->a.scratch);
    p->a.scratch = NULL;
    p->a.state = NULL;
}

/* What is not in `saves`: `missing` 0: NaN (or large indices); 1: no bytes at all. */
static void hide(rq_tensor *t, const rq_tensor *from, bool saved, int missing)
{
    *t = *from;
    if (saved || from->dtype == RQ_DTYPE_NONE)
        return;
    t->data = NULL;
    if (missing)
        return;
    t->data = malloc(from->bytes ? from->bytes : 1);
    memset(t->data, from->dtype == RQ_DTYPE_F32 ? 0xff : 0x7f, from->bytes); /* 0xffffffff is a NaN */
}

typedef struct backward_how {
    const float *const *dy; /* [n_out] NULL: none came */
    unsigned wanted;        /* inputs */
    bool in_place;
    int missing;
} backward_how;

/* dx[i] (count of input i each) for the inputs in how->wanted. */
static rq_status pass_backward(pass *p, const backward_how *how, float *const *dx)
{
    const grad *g = p->g;
    rq_tensor in[GRAD_MAX_IN], out[GRAD_MAX_OUT], dy[GRAD_MAX_OUT], dxt[GRAD_MAX_IN];
    const rq_tensor *in_ptr[GRAD_MAX_IN], *dy_ptr[GRAD_MAX_OUT];
    rq_tensor *out_ptr[GRAD_MAX_OUT], *dx_ptr[GRAD_MAX_IN];
    bool own_in[GRAD_MAX_IN] = { 0 }, own_out[GRAD_MAX_OUT] = { 0 };
    for (int i = 0; i < g->n_in; i++) {
        const bool kept = g->row->saves & RQ_OP_IN(i < 15 ? i : 15);
        hide(&in[i], &p->in[i], kept, how->missing);
        own_in[i] = !kept && !how->missing && p->in_ptr[i];
        in_ptr[i] = p->in_ptr[i] ? &in[i] : NULL;
        dx_ptr[i] = NULL;
        if (how->wanted & (1u << i)) {
            dxt[i] = rq_tensor_view(RQ_DTYPE_F32, &p->in[i].shape, dx[i]);
            dx_ptr[i] = &dxt[i];
            memset(dx[i], 0xff, p->in[i].bytes);
        }
    }
    float *copy[GRAD_MAX_OUT] = { 0 };
    for (int i = 0; i < p->n_out; i++) {
        const bool kept = g->row->saves & RQ_OP_OUT(i);
        hide(&out[i], &p->out[i], kept, how->missing);
        own_out[i] = !kept && !how->missing && p->out_ptr[i];
        out_ptr[i] = p->out_ptr[i] ? &out[i] : NULL;
        dy_ptr[i] = NULL;
        if (how->dy[i]) {
            copy[i] =
                malloc(p->out[i].bytes ? p->out[i].bytes : 1); /* exact size: the address sanitizer guards the end */
            memcpy(copy[i], how->dy[i], p->out[i].bytes);
            dy[i] = rq_tensor_view(RQ_DTYPE_F32, &p->out[i].shape, copy[i]);
            dy_ptr[i] = &dy[i];
        }
    }
    if (how->in_place) {
        memcpy(dx[0], copy[0], p->in[0].bytes);
        dy[0].data = dx[0];
    }
    rq_op_training t = p->training;
    t.grad_out = dy_ptr;
    t.grad_in = dx_ptr;
    rq_op_args a = p->a;
    a.in = in_ptr;
    a.out = out_ptr;
    a.training = &t;
    rq_status status = RQ_OK;
    if (g->row->prepare_backward) {
        rq_tensor nothing[GRAD_MAX_IN];
        const rq_tensor *ptr[GRAD_MAX_IN];
        without_data(p, nothing, ptr);
        rq_op_args b = a;
        b.in = ptr;
        status = g->row->prepare_backward(&b, &t.state);
    }
    void *scratch = NULL;
    if (status == RQ_OK) {
        const size_t bytes = g->row->scratch_backward ? g->row->scratch_backward(&a) : 0;
        scratch = rq_mem_alloc(bytes, 1);
        if (scratch)
            memset(scratch, 0xff, bytes);
        a.scratch = scratch;
        status = scratch ? g->row->backward(&a) : RQ_NO_MEMORY;
    }
    rq_mem_free(scratch);
    if (t.state && g->row->release_backward)
        g->row->release_backward(t.state);
    for (int i = 0; i < p->n_out; i++) {
        if (copy[i] && !how->in_place && memcmp(copy[i], how->dy[i], p->out[i].bytes))
            fail_msg("%s (%s): backward writes to grad_out[%d]", g->op, g->label, i);
        free(copy[i]);
        if (own_out[i])
            free(out[i].data);
    }
    for (int i = 0; i < g->n_in; i++)
        if (own_in[i])
            free(in[i].data);
    return status;
}

/* ---- comparing ---- */

/* sum(dy * y) of a forward with what stands in p->in. */
static double loss(pass *p, const float *const *dy)
{
    double sum = 0;
    pass_forward(p);
    for (int o = 0; o < p->n_out; o++)
        for (int64_t i = 0, n = dy[o] ? rq_tensor_count(&p->out[o]) : 0; i < n; i++)
            sum += (double)dy[o][i] * (double)p->out[o].f32[i];
    return sum;
}

static double difference(pass *p, rq_tensor *x, int64_t i, const float *const *dy)
{
    const float at = x->f32[i];
    const double h = p->g->h;
    double f[4], d[4];
    static const int step[] = { -2, -1, 1, 2 };
    for (int k = 0; k < 4; k++) {
        x->f32[i] = (float)((double)at + step[k] * h);
        d[k] = (double)x->f32[i] - (double)at;
        f[k] = loss(p, dy);
    }
    x->f32[i] = at;
    return (8 * (f[2] - f[1]) - (f[3] - f[0])) / (8 * (d[2] - d[1]) - (d[3] - d[0]));
}

static void compare(const grad *g, const char *how, int input, const rq_tensor *x, const float *got, const double *want)
{
    for (int64_t i = 0, n = rq_tensor_count(x); i < n; i += g->every)
        if (!(fabs((double)got[i] - want[i]) <= g->tol * (1 + fabs(want[i])))) {
            char text[RQ_SHAPE_TEXT];
            fail_msg("%s (%s), %s: gradient of input %d %s, element %lld, is %.9g; differences give %.9g", g->op,
                     g->label, how, input, rq_shape_text(&x->shape, text, sizeof text), (long long)i, (double)got[i],
                     want[i]);
        }
}

static void same_bits(const grad *g, const char *how, int input, const float *got, const float *want, size_t bytes)
{
    if (!memcmp(got, want, bytes))
        return;
    for (size_t i = 0; i < bytes / sizeof *got; i++)
        if (memcmp(&got[i], &want[i], sizeof *got))
            fail_msg(
                "%s (%s), %s: gradient of input %d, element %zu, is %.9g, alone on one thread with all others %.9g",
                g->op, g->label, how, input, i, (double)got[i], (double)want[i]);
}

static void must(const grad *g, rq_status s, const pass *p)
{
    if (s != RQ_OK)
        fail_msg("%s (%s): backward: status %d, %s", g->op, g->label, (int)s, p->err.text);
}

typedef struct buffers {
    float *dx[GRAD_MAX_IN], *first[GRAD_MAX_IN];
    double *want[GRAD_MAX_IN];
    float *dy[GRAD_MAX_OUT];
} buffers;

/* Every way of asking for what stands in b->first must give the same bits. */
static void all_ways(const grad *g, pass *p, const buffers *b, const float *const *dy, unsigned wanted, const char *how)
{
    must(g, pass_backward(p, &(backward_how) { .dy = dy, .wanted = wanted, .missing = 1 }, b->dx), p);
    for (int i = 0; i < g->n_in; i++)
        if (wanted & (1u << i))
            same_bits(g, how, i, b->dx[i], b->first[i], g->in[i].bytes);
    for (int i = 0; i < g->n_in; i++)
        if (wanted & (1u << i)) {
            must(g, pass_backward(p, &(backward_how) { .dy = dy, .wanted = 1u << i }, b->dx), p);
            same_bits(g, "alone", i, b->dx[i], b->first[i], g->in[i].bytes);
        }
    if ((g->row->flags & RQ_OP_GRAD_IN_PLACE) && (wanted & 1) && dy[0] && p->in[0].bytes == p->out[0].bytes) {
        must(g, pass_backward(p, &(backward_how) { .dy = dy, .wanted = wanted, .in_place = true }, b->dx), p);
        for (int i = 0; i < g->n_in; i++)
            if (wanted & (1u << i))
                same_bits(g, "in place", i, b->dx[i], b->first[i], g->in[i].bytes);
    }
}

static void no_memory(const grad *g, pass *p, const buffers *b, const float *const *dy, unsigned wanted)
{
    const size_t live = rq_mem_live();
    for (size_t n = 1; n < 1000; n++) {
        rq_mem_fail_after(n, true);
        const rq_status s = pass_backward(p, &(backward_how) { .dy = dy, .wanted = wanted }, b->dx);
        rq_mem_fail_after(0, false);
        if (rq_mem_live() != live)
            fail_msg("%s (%s): backward leaks when allocation %zu fails", g->op, g->label, n);
        if (s == RQ_OK)
            return;
        if (s != RQ_NO_MEMORY)
            fail_msg("%s (%s): backward says %d when allocation %zu fails", g->op, g->label, (int)s, n);
    }
}

static void infer(grad *g, int n_out, rq_dtype *d, rq_shape *s)
{
    rq_id in[GRAD_MAX_IN], out[GRAD_MAX_OUT];
    rq_err err = { 0 };
    /* the node again, with its values: it was made to hold attributes before they were known */
    for (int i = 0; i < g->n_in; i++) {
        in[i] = RQ_NONE;
        if (g->in[i].dtype != RQ_DTYPE_NONE)
            assert_int_equal(
                rq_graph_add_value(g->g, &in[i], RQ_VALUE_INPUT, "", g->in[i].dtype, &g->in[i].shape, NULL), RQ_OK);
    }
    for (int i = 0; i < n_out; i++) {
        out[i] = RQ_NONE;
        if (!g->absent[i])
            assert_int_equal(rq_graph_add_value(g->g, &out[i], RQ_VALUE_NODE, "", RQ_DTYPE_F32, NULL, NULL), RQ_OK);
    }
    rq_id with_values;
    assert_int_equal(rq_graph_add_node(g->g, &with_values, g->op, g->domain, "n", in, g->n_in, out, n_out, NULL),
                     RQ_OK);
    for (int i = 0; i < g->g->nodes[g->node].n_attr; i++)
        assert_int_equal(rq_attr_copy(g->g, with_values, &g->g->nodes[g->node].attr[i]), RQ_OK);
    g->node = with_values;
    rq_ops_bind(g->g);
    const rq_tensor *ptr[GRAD_MAX_IN];
    for (int i = 0; i < g->n_in; i++)
        ptr[i] = g->in[i].dtype == RQ_DTYPE_NONE ? NULL : &g->in[i];
    if (rq_ops_infer_node(g->g, &g->g->nodes[g->node], ptr, d, s, &err))
        fail_msg("%s (%s): %s", g->op, g->label, err.text);
}

static void release(grad *g)
{
    for (int i = 0; i < g->n_in; i++)
        rq_tensor_release(&g->in[i]);
    rq_graph_destroy(g->g);
}

static void check_differences(const grad *g, pass *p, const buffers *b, const float *const *dy, unsigned wanted,
                              const char *how)
{
    must(g, pass_backward(p, &(backward_how) { .dy = dy, .wanted = wanted }, b->first), p);
    for (int i = 0; i < g->n_in; i++) {
        if (!(wanted & (1u << i)))
            continue;
        for (int64_t e = 0, n = rq_tensor_count(&p->in[i]); e < n; e += g->every)
            b->want[i][e] = difference(p, &p->in[i], e, dy);
        compare(g, how, i, &p->in[i], b->first[i], b->want[i]);
    }
    pass_forward(p); /* what the last difference left behind */
}

void grad_finish(grad *g, int n_out)
{
    rq_dtype d[GRAD_MAX_OUT] = { 0 };
    rq_shape s[GRAD_MAX_OUT] = { 0 };
    buffers b = { 0 };
    unsigned wanted = 0;
    infer(g, n_out, d, s);
    pass p;
    pass_open(&p, g, n_out, rq_cpu_detect(), NULL, d, s);
    pass_forward(&p);
    for (int i = 0; i < g->n_in; i++)
        if (differentiable(g, i)) {
            wanted |= 1u << i;
            b.dx[i] = malloc(g->in[i].bytes + 1);
            b.first[i] = malloc(g->in[i].bytes + 1);
            b.want[i] = malloc(g->in[i].bytes * 2 + 1);
        }
    if (!wanted)
        fail_msg("%s (%s): no input has a gradient", g->op, g->label);
    rq_rng dice;
    rq_rng_seed(&dice, g->seed);
    for (int o = 0; o < n_out; o++)
        if (!g->absent[o] && p.out[o].dtype == RQ_DTYPE_F32) {
            const int64_t n = rq_tensor_count(&p.out[o]);
            b.dy[o] = malloc(p.out[o].bytes + 1);
            for (int64_t i = 0; i < n; i++)
                b.dy[o][i] = rintf((rq_rng_f32(&dice) * 2 - 1) * GRAIN) / GRAIN;
        }
    const float *dy[GRAD_MAX_OUT];
    int outputs = 0;
    for (int o = 0; o < n_out; o++)
        outputs += b.dy[o] != NULL;
    for (int o = 0; o < n_out && outputs > 1; o++) /* each output's missing in turn */
        if (b.dy[o]) {
            memcpy(dy, b.dy, sizeof dy);
            dy[o] = NULL;
            check_differences(g, &p, &b, dy, wanted, "an output without gradient");
        }
    memcpy(dy, b.dy, sizeof dy);
    check_differences(g, &p, &b, dy, wanted, "together");
    all_ways(g, &p, &b, dy, wanted, "again");
    no_memory(g, &p, &b, dy, wanted);
    const char *level;
    unsigned flags;
    for (int l = 0; (level = rq_cpu_level(l, &flags)); l++) {
        if ((flags & ~rq_cpu_detect()) || (g->onednn && flags != rq_cpu_detect()))
            continue;
        for (int threads = 1; threads <= 2; threads++) {
            char how[64];
            snprintf(how, sizeof how, "on %s with %d threads", level, threads);
            pass q;
            pass_open(&q, g, n_out, flags, threads == 2 ? two : NULL, d, s);
            pass_forward(&q);
            all_ways(g, &q, &b, dy, wanted, how);
            pass_close(&q);
        }
    }
    if (g->onednn) { /* the levels' flags need not be this machine's */
        pass q;
        pass_open(&q, g, n_out, rq_cpu_detect(), two, d, s);
        pass_forward(&q);
        all_ways(g, &q, &b, dy, wanted, "with 2 threads");
        pass_close(&q);
    }
    pass_close(&p);
    for (int i = 0; i < GRAD_MAX_IN; i++) {
        free(b.dx[i]);
        free(b.first[i]);
        free(b.want[i]);
    }
    for (int o = 0; o < GRAD_MAX_OUT; o++)
        free(b.dy[o]);
    release(g);
}

void grad_output(grad *g, int n_out, int output, const float *want)
{
    rq_dtype d[GRAD_MAX_OUT] = { 0 };
    rq_shape s[GRAD_MAX_OUT] = { 0 };
    infer(g, n_out, d, s);
    const char *level;
    unsigned flags;
    for (int l = 0; (level = rq_cpu_level(l, &flags)); l++) {
        if (flags & ~rq_cpu_detect())
            continue;
        pass p;
        pass_open(&p, g, n_out, flags, NULL, d, s);
        pass_forward(&p);
        for (int64_t i = 0, n = rq_tensor_count(&p.out[output]); i < n; i++) {
            const double got = rq_tensor_get(&p.out[output], i);
            if (!(got == (double)want[i]) && !(isnan(got) && isnan(want[i])))
                fail_msg("%s (%s) on %s: output %d, element %lld, is %.9g, expected %.9g", g->op, g->label, level,
                         output, (long long)i, got, (double)want[i]);
        }
        pass_close(&p);
    }
    release(g);
}

void grad_exactly(grad *g, int n_out, int input, const float *want)
{
    rq_dtype d[GRAD_MAX_OUT] = { 0 };
    rq_shape s[GRAD_MAX_OUT] = { 0 };
    infer(g, n_out, d, s);
    const char *level;
    unsigned flags;
    for (int l = 0; (level = rq_cpu_level(l, &flags)); l++) {
        if (flags & ~rq_cpu_detect())
            continue;
        pass p;
        pass_open(&p, g, n_out, flags, NULL, d, s);
        pass_forward(&p);
        float *ones[GRAD_MAX_OUT] = { 0 }, *dx[GRAD_MAX_IN] = { 0 };
        const float *dy[GRAD_MAX_OUT] = { 0 };
        for (int o = 0; o < n_out; o++)
            if (p.out[o].dtype == RQ_DTYPE_F32) {
                const int64_t n = rq_tensor_count(&p.out[o]);
                ones[o] = malloc(p.out[o].bytes + 1);
                for (int64_t i = 0; i < n; i++)
                    ones[o][i] = 1;
                dy[o] = ones[o];
            }
        dx[input] = malloc(g->in[input].bytes + 1);
        must(g, pass_backward(&p, &(backward_how) { .dy = dy, .wanted = 1u << input }, dx), &p);
        for (int64_t i = 0, n = rq_tensor_count(&g->in[input]); i < n; i++)
            if (!(dx[input][i] == want[i]) && !(isnan(dx[input][i]) && isnan(want[i])))
                fail_msg("%s (%s) on %s: gradient of input %d, element %lld (x = %.9g), is %.9g, expected %.9g", g->op,
                         g->label, level, input, (long long)i, rq_tensor_get(&g->in[input], i), (double)dx[input][i],
                         (double)want[i]);
        free(dx[input]);
        for (int o = 0; o < n_out; o++)
            free(ones[o]);
        pass_close(&p);
    }
    release(g);
}
