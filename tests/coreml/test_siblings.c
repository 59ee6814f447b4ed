/* Palettized, pruned and decompressed packages against those that coremltools made of the same (tests/golden/coreml_siblings): the same operations under
 * the same names, the same numbers in them; where clusters are a matter of luck, no larger error. */
#include <math.h>

#include "coreml/weights.h"
#include "formats/coreml_help.h"
#include "formats/mil_constexpr.h"
#include "ok.h"
#include "requant/coreml_optimize.h"

#define FOLDER "tests/golden/coreml_siblings/"

/* A program with its constants at hand. */
typedef struct side {
    rq_coreml *m;
    rq_mil_constants constants;
    rq_arena a;
    const rq_mil_block *b;
} side;

static void side_open(side *s, const char *path)
{
    *s = (side) { 0 };
    OK(rq_coreml_open(&s->m, path, &err));
    s->b = s->m->program.functions[0]->block;
    OK(rq_mil_constants_of(&s->constants, s->b, NULL, &s->a, &err));
}

static void side_close(side *s)
{
    rq_coreml_close(s->m);
    rq_arena_release(&s->a);
}

static const rq_mil_op *next_op(const side *s, int *i)
{
    while (*i < s->b->n_ops && !strcmp(s->b->ops[*i]->type, "const"))
        ++*i;
    return *i < s->b->n_ops ? s->b->ops[(*i)++] : NULL;
}

/* ---- equal ---- */

static const char *same_tensors(const rq_tensor *a, const rq_tensor *b)
{
    if (!a->data != !b->data)
        return "is a constant in one only";
    if (!a->data)
        return NULL;
    if (a->dtype != b->dtype || !rq_shape_equal(&a->shape, &b->shape))
        return "has another type or shape";
    for (int64_t i = 0; i < rq_tensor_count(a); i++)
        if (rq_tensor_get(a, i) != rq_tensor_get(b, i))
            return "has other numbers";
    return NULL;
}

static const char *bound_name(const rq_mil_op *op, const char *param)
{
    const rq_mil_arg *arg = rq_mil_op_arg(op, param);
    return arg && arg->n == 1 && arg->binding[0].name ? arg->binding[0].name : NULL;
}

static bool is_text(const side *s, const rq_mil_op *op, const char *param)
{
    const rq_mil_arg *arg = rq_mil_op_arg(op, param);
    const rq_mil_value *v = arg ? arg->n == 1 ? arg->binding[0].value : NULL : rq_mil_op_attr(op, param);
    if (arg && arg->n == 1 && arg->binding[0].name) {
        const rq_mil_constant *c = rq_mil_constants_find(&s->constants, arg->binding[0].name);
        v = c ? rq_mil_op_attr(c->op, "val") : NULL;
    }
    return v && v->type->dtype->store == RQ_MIL_STORE_STRINGS;
}

/* The same parameter of both, unless its numbers are a matter of luck. */
static void same_param(const char *name, const side *x, const side *y, const rq_mil_op *p, const rq_mil_op *q,
                       const char *param, bool luck)
{
    rq_tensor a = { 0 }, b = { 0 };
    const rq_mil_constant *c = bound_name(p, param) ? rq_mil_constants_find(&x->constants, bound_name(p, param)) : NULL;
    if (c ? rq_mil_is_constexpr(c->op) : bound_name(p, param) != NULL) {
        if (!bound_name(q, param) || strcmp(bound_name(p, param), bound_name(q, param)) != 0)
            fail_msg("%s: '%s' reads '%s' as %s, expected '%s'", name, rq_mil_op_name(p), bound_name(p, param), param,
                     bound_name(q, param) ? bound_name(q, param) : "a constant");
        return;
    }
    if (is_text(x, p, param))
        return;
    OK(rq_mil_param(&a, x->m, &x->constants, p, param, &err));
    OK(rq_mil_param(&b, y->m, &y->constants, q, param, &err));
    const char *why = same_tensors(&a, &b);
    if (why && luck && a.dtype == b.dtype && rq_shape_equal(&a.shape, &b.shape))
        why = NULL;
    if (why)
        fail_msg("%s: %s of '%s' (%s) %s", name, param, rq_mil_op_name(p), p->type, why);
    rq_tensor_release(&a);
    rq_tensor_release(&b);
}

static void same_op(const char *name, const side *x, const side *y, const rq_mil_op *p, const rq_mil_op *q, bool luck)
{
    if (!p || !q || strcmp(p->type, q->type) != 0 || strcmp(rq_mil_op_name(p), rq_mil_op_name(q)) != 0)
        fail_msg("%s: got %s '%s', expected %s '%s'", name, p ? p->type : "nothing", p ? rq_mil_op_name(p) : "",
                 q ? q->type : "nothing", q ? rq_mil_op_name(q) : "");
    assert_int_equal(p->n_outputs, q->n_outputs);
    assert_int_equal(p->n_args, q->n_args);
    assert_int_equal(p->n_attrs, q->n_attrs);
    for (int i = 0; i < p->n_outputs; i++) {
        char a[200], b[200];
        if (strcmp(p->outputs[i].name, q->outputs[i].name) != 0 ||
            strcmp(rq_mil_type_text(p->outputs[i].type, a, sizeof a),
                   rq_mil_type_text(q->outputs[i].type, b, sizeof b)) != 0)
            fail_msg("%s: '%s' gives '%s', expected '%s'", name, rq_mil_op_name(p), p->outputs[i].name,
                     q->outputs[i].name);
    }
    const bool of_palette = luck && !strncmp(p->type, "constexpr_", 10);
    for (int i = 0; i < p->n_args; i++)
        same_param(name, x, y, p, q, p->args[i].param, of_palette);
    for (int i = 0; i < p->n_attrs; i++) {
        if (!rq_mil_op_attr(q, p->attrs[i].name))
            fail_msg("%s: '%s' has %s, which is not expected", name, rq_mil_op_name(p), p->attrs[i].name);
        same_param(name, x, y, p, q, p->attrs[i].name, of_palette);
    }
}

/* ---- no worse ---- */

static double error_of(const rq_tensor *w, const rq_tensor *t)
{
    double total = 0;
    assert_true(rq_shape_equal(&w->shape, &t->shape));
    for (int64_t i = 0; i < rq_tensor_count(w); i++) {
        const double d = rq_tensor_get(w, i) - rq_tensor_get(t, i);
        total += d * d;
    }
    return total;
}

/* Weights of the source against what both decompress to. */
static void no_worse(const char *name, const side *source, const side *x, const side *y)
{
    int k = 0;
    double ours = 0, theirs = 0;
    for (const rq_mil_op *op; (op = next_op(source, &k));)
        for (int i = 0; i < op->n_args; i++) {
            const rq_mil_constant *c =
                bound_name(op, op->args[i].param)
                    ? rq_mil_constants_find(&source->constants, bound_name(op, op->args[i].param))
                    : NULL;
            rq_tensor w = { 0 }, a = { 0 }, b = { 0 };
            const rq_mil_op *p = NULL, *q = NULL;
            int at = 0;
            if (!c || c->op->outputs[0].type->dtype->dtype == RQ_DTYPE_STRING || c->op->outputs[0].type->rank < 2)
                continue;
            while ((p = next_op(x, &at)) && strcmp(rq_mil_op_name(p), rq_mil_op_name(op)) != 0)
                ;
            at = 0;
            while ((q = next_op(y, &at)) && strcmp(rq_mil_op_name(q), rq_mil_op_name(op)) != 0)
                ;
            assert_true(p && q);
            OK(rq_mil_param(&w, source->m, &source->constants, op, op->args[i].param, &err));
            OK(rq_mil_param(&a, x->m, &x->constants, p, op->args[i].param, &err));
            OK(rq_mil_param(&b, y->m, &y->constants, q, op->args[i].param, &err));
            const double mine = error_of(&w, &a), peer = error_of(&w, &b);
            if (!(mine <= peer * 1.05 + 1e-9))
                fail_msg("%s: '%s' loses %g, coremltools %g", name, c->name, mine, peer);
            ours += mine, theirs += peer;
            rq_tensor_release(&w);
            rq_tensor_release(&a);
            rq_tensor_release(&b);
        }
    if (!(ours <= theirs * 1.0005 + 1e-9)) /* fp16 tables are rounded */
        fail_msg("%s: all weights lose %g, coremltools' %g", name, ours, theirs);
}

/* ---- a case ---- */

static void step(rq_coreml *m, const json_t *s)
{
    const char *what = json_string_value(json_array_get(s, 0));
    const bool joint = json_is_true(json_array_get(s, 2));
    rq_coreml_config *c = NULL;
    if (!strcmp(what, "decompress")) {
        OK(rq_coreml_decompress_weights(m, &err));
        return;
    }
    char *text = json_dumps(json_array_get(s, 1), 0);
    assert_non_null(text);
    OK(rq_coreml_config_parse(&c, text, strlen(text), &err));
    free(text);
    if (!strcmp(what, "palettize"))
        OK(rq_coreml_palettize_weights(m, c, joint, NULL, &err));
    else if (!strcmp(what, "prune"))
        OK(rq_coreml_prune_weights(m, c, joint, NULL, &err));
    else
        OK(rq_coreml_linear_quantize_weights(m, c, joint, NULL, &err));
    rq_coreml_config_destroy(c);
}

static bool is_luck(const json_t *c)
{
    char *text = json_dumps(json_object_get(c, "steps"), 0);
    const bool k = !strstr(text, "uniform") && !strstr(text, "unique") && strstr(text, "Palettizer");
    free(text);
    return k;
}

/* All steps on the source; saved between them where `apart`. */
static void run_case(const json_t *c, bool apart)
{
    const char *name = json_string_value(json_object_get(c, "name"));
    char source[300], want[300], got[300];
    snprintf(source, sizeof source, FOLDER "%s", json_string_value(json_object_get(c, "source")));
    snprintf(want, sizeof want, FOLDER "%s", json_string_value(json_object_get(c, "package")));
    snprintf(got, sizeof got, "%s/siblings.mlpackage", RQ_TEST_TMP);
    const json_t *steps = json_object_get(c, "steps");
    rq_coreml *m;
    OK(rq_coreml_open(&m, source, &err));
    for (size_t i = 0; i < json_array_size(steps); i++) {
        step(m, json_array_get(steps, i));
        if (!apart && i + 1 < json_array_size(steps))
            continue;
        OK(rq_coreml_save(m, got, &err));
        rq_coreml_close(m);
        OK(rq_coreml_open(&m, got, &err));
    }
    rq_coreml_close(m);
    side x, y, s;
    side_open(&x, got);
    side_open(&y, want);
    side_open(&s, source);
    assert_int_equal(x.m->spec, y.m->spec);
    assert_string_equal(x.m->program.functions[0]->opset, y.m->program.functions[0]->opset);
    const bool luck = is_luck(c);
    int i = 0, k = 0;
    const rq_mil_op *p, *q;
    do {
        p = next_op(&x, &i);
        q = next_op(&y, &k);
        if (p || q)
            same_op(name, &x, &y, p, q, luck);
    } while (p);
    if (luck)
        no_worse(name, &s, &x, &y);
    side_close(&x);
    side_close(&y);
    side_close(&s);
}

static void packages_are_those_of_coremltools(void **state)
{
    json_t *cases = json_load_file(FOLDER "programs.json", 0, NULL);
    const char *only = getenv("SIBLINGS");
    assert_non_null(cases);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        const char *name = json_string_value(json_object_get(c, "name"));
        if (!json_object_get(c, "package") || (only && !strstr(name, only)))
            continue;
        run_case(c, false);
        if (json_array_size(json_object_get(c, "steps")) > 1)
            run_case(c, true);
    }
    json_decref(cases);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packages_are_those_of_coremltools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
