/* run/autograd_parameters.c — what an optimizer moves: the trained constants of a graph, and scales and zero points that fake-quantizers
 * learn. The list is made once; where a fake-quantizer keeps its numbers is looked up at each call. */
#include <stdio.h>
#include <string.h>

#include "quant/fake_quantizer.h"
#include "run/autograd_plan.h"

static rq_parameter of_constant(const rq_autograd *a, const rq_trained *t)
{
    const rq_value *v = &a->g->values[t->value];
    return (rq_parameter) { .name = v->name,
                            .role = t->role,
                            .shape = v->constant.shape,
                            .count = rq_tensor_count(&v->constant),
                            .data = v->constant.f32,
                            .grad = t->grad };
}

/* Is there a zero point to learn? */
static bool has_zero_point(const rq_fake_quantizer *q)
{
    return q->cfg.kind == RQ_FAKE_QUANTIZER_OWN || !rq_qscheme_is_symmetric(q->cfg.observer.scheme) ||
           (q->cfg.compat && q->cfg.rule == RQ_LEARNED_TORCH);
}

/* Does it learn numbers, and does none of the nodes before `at` stand for it? */
static bool is_first(const rq_autograd *a, int at, const rq_fake_quantizer *q)
{
    if (!q ||
        !(q->cfg.kind == RQ_FAKE_QUANTIZER_LEARNABLE || (q->cfg.kind == RQ_FAKE_QUANTIZER_OWN && q->cfg.own->params)))
        return false;
    for (int k = 0; k < at; k++)
        if (rq_train_fake_of(a, &a->g->nodes[a->order[k]]) == q)
            return false;
    return true;
}

static char *joined(const char *node, const char *what)
{
    const size_t bytes = strlen(node) + strlen(what) + 2;
    char *name = rq_mem_alloc(bytes, 1);
    if (name)
        snprintf(name, bytes, "%s.%s", node, what);
    return name;
}

rq_status rq_train_list_parameters(rq_autograd *a, rq_err *err)
{
    const size_t most = (size_t)a->n_trained + 2 * (size_t)a->n_order + 1;
    a->list = rq_mem_zalloc(most, sizeof *a->list);
    a->learned = rq_mem_zalloc(most, sizeof *a->learned);
    if (!a->list || !a->learned)
        return rq_fail(err, RQ_NO_MEMORY, "out of memory listing the parameters");
    for (int at = 0; at < a->n_order; at++) {
        const rq_node *n = &a->g->nodes[a->order[at]];
        rq_fake_quantizer *q = rq_train_fake_of(a, n);
        for (int zero = 0; is_first(a, at, q) && zero <= has_zero_point(q); zero++) {
            rq_learned_entry *e = &a->learned[a->n_learned++];
            *e = (rq_learned_entry) { q, zero, joined(n->name, zero ? "zero_point" : "scale") };
            if (!e->name)
                return rq_fail(err, RQ_NO_MEMORY, "out of memory listing the parameters");
        }
    }
    return RQ_OK;
}

void rq_train_release_parameters(rq_autograd *a)
{
    for (int i = 0; i < a->n_learned; i++)
        rq_mem_free(a->learned[i].name);
    rq_mem_free(a->learned);
    rq_mem_free(a->list);
}

static rq_parameter of_fake(const rq_learned_entry *e)
{
    const int n = rq_fake_quantizer_channels(e->q);
    return (rq_parameter) {
        .name = e->name,
        .role = e->zero_point ? RQ_PARAMETER_ZERO_POINT : RQ_PARAMETER_SCALE,
        .shape = rq_shape_of(1, (int64_t[]) { n }),
        .count = n,
        .data = e->zero_point ? rq_fake_quantizer_zero_point(e->q) : rq_fake_quantizer_scale(e->q),
        .grad = e->zero_point ? rq_fake_quantizer_dzero_point(e->q) : rq_fake_quantizer_dscale(e->q),
    };
}

int rq_autograd_parameters(rq_autograd *a, rq_parameter **out)
{
    for (int i = 0; i < a->n_trained; i++)
        a->list[i] = of_constant(a, &a->trained[i]);
    for (int i = 0; i < a->n_learned; i++)
        a->list[a->n_trained + i] = of_fake(&a->learned[i]);
    *out = a->list;
    return a->n_trained + a->n_learned;
}

void rq_autograd_zero_grad(rq_autograd *a)
{
    for (int i = 0; i < a->n_trained; i++)
        memset(a->trained[i].grad, 0, a->g->values[a->trained[i].value].constant.bytes);
    for (int i = 0; i < a->cfg.n_fakes; i++)
        if (a->cfg.fakes[i])
            rq_fake_quantizer_zero_grad(a->cfg.fakes[i]);
}
