/* algo/lint.c — which operators of a written file a runtime will run in integers: what is the same for all of them. The
 * file is taken as it is, Q/DQ pairs and all: rules are about nodes next to each other. */
#include "algo/lint_priv.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "algo/report_priv.h"

static const rq_lint_fn rules[RQ_N_PROFILES] = {
    [RQ_PROFILE_ORT_CPU_X64] = rq_lint_ort,   [RQ_PROFILE_ORT_CPU_ARM64] = rq_lint_ort,
    [RQ_PROFILE_TENSORRT] = rq_lint_tensorrt, [RQ_PROFILE_OPENVINO] = rq_lint_openvino,
    [RQ_PROFILE_QNN] = rq_lint_qnn,
};

bool rq_lint_say(rq_lint_answer *a, rq_lint_runs runs, const char *rule, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(a->why, sizeof a->why, fmt, ap);
    va_end(ap);
    a->runs = runs;
    a->rule = rule;
    return false;
}

/* ---- what stands around ---- */

static bool is_op(const rq_node *n, const char *op)
{
    return n->op && !strcmp(n->op, op) &&
           (!n->domain[0] || !strcmp(n->domain, "ai.onnx") || !strcmp(n->domain, "com.microsoft"));
}

static bool is_whole(const rq_node *n)
{
    return n->n_in >= 2 && n->in[0] != RQ_NONE && n->in[1] != RQ_NONE && n->n_out == 1 && n->out[0] != RQ_NONE;
}

static bool is_q(const rq_node *n)
{
    return is_op(n, "QuantizeLinear") && is_whole(n);
}

static bool is_dq(const rq_node *n)
{
    return is_op(n, "DequantizeLinear") && is_whole(n);
}

static const rq_tensor *constant(const rq_graph *g, rq_id v)
{
    return v >= 0 && g->values[v].kind == RQ_VALUE_CONST ? &g->values[v].constant : NULL;
}

static rq_dtype type_of(const rq_graph *g, rq_id v)
{
    const rq_value *x = &g->values[v];
    return x->kind == RQ_VALUE_CONST ? x->constant.dtype : x->dtype;
}

/* Weights may be stored as reals in front of a QuantizeLinear. */
static bool is_constant_q(const rq_graph *g, rq_id codes)
{
    const rq_value *v = &g->values[codes];
    return v->kind == RQ_VALUE_NODE && is_q(&g->nodes[v->producer]) && constant(g, g->nodes[v->producer].in[0]);
}

static rq_lint_codes codes_of(const rq_graph *g, rq_id node)
{
    const rq_node *n = &g->nodes[node];
    const rq_id zp = n->n_in > 2 ? n->in[2] : RQ_NONE;
    const rq_tensor *s = constant(g, n->in[1]), *z = constant(g, zp);
    rq_lint_codes c = { .node = node, .axis = RQ_PER_TENSOR, .symmetric = true, .positive = true };
    c.dtype = zp != RQ_NONE ? type_of(g, zp) : is_dq(n) ? type_of(g, n->in[0]) : type_of(g, n->out[0]);
    c.weight = is_dq(n) && (constant(g, n->in[0]) || is_constant_q(g, n->in[0]));
    c.constant = s && s->dtype == RQ_DTYPE_F32 && (zp == RQ_NONE || z);
    c.block = rq_attr_int(n, RQ_WORD_block_size, 0);
    if (!c.constant)
        return c;
    if (rq_tensor_count(s) != 1 || c.block)
        c.axis = (int)rq_attr_int(n, RQ_WORD_axis, 1);
    if (c.axis < 0 && c.axis != RQ_PER_TENSOR && g->values[n->in[0]].shape.rank > 0)
        c.axis += g->values[n->in[0]].shape.rank;
    for (int64_t i = 0; i < rq_tensor_count(s); i++)
        c.positive &= s->f32[i] > 0 && isfinite(s->f32[i]);
    for (int64_t i = 0; z && i < rq_tensor_count(z); i++)
        c.symmetric &= rq_tensor_get_int(z, i) == 0;
    c.scale = rq_tensor_count(s) ? s->f32[0] : 0;
    c.zero_point = z && rq_tensor_count(z) ? (int32_t)rq_tensor_get_int(z, 0) : 0;
    return c;
}

rq_lint_codes rq_lint_to(const rq_lint_view *view, rq_id v)
{
    const rq_id r = v >= 0 ? view->reader[v] : RQ_NONE;
    if (r == RQ_NONE || !is_q(&view->g->nodes[r]) || view->g->nodes[r].in[0] != v)
        return (rq_lint_codes) { .node = RQ_NONE };
    return codes_of(view->g, r);
}

bool rq_lint_same(const rq_lint_codes *a, const rq_lint_codes *b)
{
    return a->dtype == b->dtype && a->scale == b->scale && a->zero_point == b->zero_point && a->axis == b->axis;
}

static const char *name_of(const rq_node *n)
{
    return n->name[0] ? n->name : "";
}

bool rq_lint_say_no_dq(const rq_lint_view *view, rq_id node, int i, const char *rule, rq_lint_answer *a)
{
    const rq_graph *g = view->g;
    if (g->nodes[node].in[i] == RQ_NONE)
        return rq_lint_say(a, RQ_LINT_FLOAT, rule, "input %d is missing", i);
    const rq_value *v = &g->values[g->nodes[node].in[i]];
    if (v->kind == RQ_VALUE_NODE) {
        const rq_node *p = &g->nodes[v->producer];
        return rq_lint_say(a, RQ_LINT_FLOAT, rule, "input %d comes from a float %s", i, p->op);
    }
    return rq_lint_say(a, RQ_LINT_FLOAT, rule, "input %d is %s in float", i,
                       v->kind == RQ_VALUE_CONST ? "a constant" : "an input of the model");
}

bool rq_lint_say_no_q(const rq_lint_view *view, rq_id v, const char *rule, rq_lint_answer *a)
{
    const rq_graph *g = view->g;
    if (rq_graph_is_output(g, v))
        return rq_lint_say(a, RQ_LINT_FLOAT, rule, "its result is an output of the model");
    if (view->reader[v] == RQ_NONE)
        return rq_lint_say(a, RQ_LINT_FLOAT, rule, "its result is read by %d operators in float", (int)view->uses[v]);
    return rq_lint_say(a, RQ_LINT_FLOAT, rule, "its result is read by %s in float", g->nodes[view->reader[v]].op);
}

bool rq_lint_is_moving(const rq_node *n)
{
    static const char *const ops[] = { "MaxPool",        "Transpose", "Reshape",      "Squeeze",
                                       "Unsqueeze",      "Flatten",   "Gather",       "Slice",
                                       "Split",          "Expand",    "DepthToSpace", "SpaceToDepth",
                                       "GatherElements", "Resize",    "Tile",         "Identity" };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (is_op(n, ops[i]))
            return true;
    return false;
}

/* ---- one file ---- */

static bool is_real(const rq_graph *g, rq_id v)
{
    const rq_dtype d = v >= 0 ? type_of(g, v) : RQ_DTYPE_NONE;
    return d == RQ_DTYPE_F32 || d == RQ_DTYPE_F16 || d == RQ_DTYPE_BF16;
}

static bool is_code(const rq_graph *g, rq_id v)
{
    const rq_dtype d = v >= 0 ? type_of(g, v) : RQ_DTYPE_NONE;
    return d == RQ_DTYPE_U8 || d == RQ_DTYPE_S8 || d == RQ_DTYPE_U16 || d == RQ_DTYPE_S16;
}

/* An operator that is written in integers: QLinearConv, or one that moves codes. */
static bool is_integer(const rq_graph *g, const rq_node *n)
{
    if (!strncmp(n->op, "QLinear", 7) || !strcmp(n->op, "QGemm") || !strcmp(n->op, "MatMulIntegerToFloat") ||
        !strcmp(n->op, "MatMulInteger") || !strcmp(n->op, "ConvInteger") || !strcmp(n->op, "DynamicQuantizeMatMul") ||
        !strcmp(n->op, "DynamicQuantizeLSTM") || !strcmp(n->op, "DynamicQuantizeGRU") ||
        !strcmp(n->op, "DynamicQuantizeRNN") || !strcmp(n->op, "QAttention") || !strcmp(n->op, "MatMulNBits"))
        return true;
    return n->n_in > 0 && n->in[0] != RQ_NONE && is_code(g, n->in[0]) && !is_q(n) && !is_dq(n);
}

/* Does it compute with real numbers, or with codes of them? Sizes, indices and masks do not. */
static bool is_judged(const rq_graph *g, const rq_node *n)
{
    if (!n->op || is_q(n) || is_dq(n) || is_op(n, "Constant") || is_op(n, "DynamicQuantizeLinear") ||
        (n->row && n->row->flags & RQ_OP_SHAPE_ONLY))
        return false;
    if (is_integer(g, n))
        return true;
    for (int i = 0; i < n->n_in; i++)
        if (is_real(g, n->in[i]) && !constant(g, n->in[i]))
            return true;
    for (int i = 0; i < n->n_out; i++)
        if (is_real(g, n->out[i]))
            return true;
    return false;
}

static rq_status make_view(rq_lint_view *view, const rq_graph *g, rq_profile p)
{
    const size_t n = (size_t)g->n_values + 1;
    *view = (rq_lint_view) { .g = g, .profile = p };
    view->from = rq_mem_alloc(n, sizeof *view->from);
    view->reader = rq_mem_alloc(n, sizeof *view->reader);
    view->uses = rq_graph_use_counts(g);
    if (!view->from || !view->reader || !view->uses)
        return RQ_NO_MEMORY;
    for (rq_id v = 0; v < g->n_values; v++) {
        const rq_value *x = &g->values[v];
        view->reader[v] = RQ_NONE;
        view->from[v].node = RQ_NONE;
        if (x->kind == RQ_VALUE_NODE && is_dq(&g->nodes[x->producer]))
            view->from[v] = codes_of(g, x->producer);
    }
    for (int i = 0; i < g->n_nodes; i++) { /* who asks for a shape reads no number, and mostly is folded away */
        const rq_node *user = &g->nodes[i];
        if (user->op && user->row && user->row->flags & RQ_OP_SHAPE_ONLY && user->n_in == 1 && user->in[0] != RQ_NONE)
            view->uses[user->in[0]]--;
    }
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; g->nodes[i].op && k < g->nodes[i].n_in; k++) {
            const rq_id v = g->nodes[i].in[k];
            const bool shape = g->nodes[i].row && g->nodes[i].row->flags & RQ_OP_SHAPE_ONLY;
            if (v >= 0 && view->uses[v] == 1 && !shape)
                view->reader[v] = i;
        }
    for (int i = 0; i < g->n_outputs; i++)
        view->reader[g->outputs[i]] = RQ_NONE;
    return RQ_OK;
}

static void release_view(rq_lint_view *view)
{
    rq_mem_free(view->from);
    rq_mem_free(view->reader);
    rq_mem_free(view->uses);
}

static rq_status add(rq_lint *l, const rq_node *n, const rq_lint_answer *a)
{
    if (!rq_mem_grow(&l->nodes, l->n, &l->cap, sizeof *l->nodes))
        return RQ_NO_MEMORY;
    const bool fine = a->runs == RQ_LINT_INTEGER;
    rq_lint_node made = { .name = rq_mem_strdup(name_of(n)), .op = rq_mem_strdup(n->op), .runs = a->runs };
    if (!fine) {
        made.rule = a->rule;
        made.why = rq_mem_strdup(a->why);
    }
    l->nodes[l->n++] = made;
    *(fine                         ? &l->n_integer
      : a->runs == RQ_LINT_GONE    ? &l->n_gone
      : a->runs == RQ_LINT_REFUSED ? &l->n_refused
                                   : &l->n_float) += 1;
    return made.name && made.op && (fine || made.why) ? RQ_OK : RQ_NO_MEMORY;
}

rq_status rq_lint_graph(rq_lint *out, const rq_graph *g, rq_profile p, rq_err *err)
{
    rq_lint_view view;
    rq_id *order = NULL;
    int n = 0;
    *out = (rq_lint) { .profile = p };
    rq_status st = make_view(&view, g, p);
    if (!st)
        st = rq_order(g, &order, &n, err);
    for (int i = 0; i < n && !st; i++) {
        const rq_node *node = &g->nodes[order[i]];
        rq_lint_answer a = { .runs = RQ_LINT_INTEGER };
        if (node->op && p == RQ_PROFILE_OPENVINO && !rq_lint_openvino_takes(&view, order[i], &a)) {
            st = add(out, node, &a);
            continue;
        }
        if (!is_judged(g, node))
            continue;
        const bool pairs_only = p == RQ_PROFILE_TENSORRT || p == RQ_PROFILE_QNN;
        bool whole = node->n_in > 0 && node->n_out > 0 && node->out[0] != RQ_NONE;
        for (int k = 0; whole && k < node->n_in && k < (node->row ? node->row->min_in : 1); k++)
            whole = node->in[k] != RQ_NONE;
        if (!whole)
            rq_lint_say(&a, RQ_LINT_FLOAT, "5.1 rule 1", "it lacks an input or its output");
        else if (!is_integer(g, node) || pairs_only)
            rules[p](&view, order[i], &a);
        st = add(out, node, &a);
    }
    rq_mem_free(order);
    release_view(&view);
    if (st)
        rq_lint_release(out);
    return st == RQ_NO_MEMORY ? rq_fail(err, st, "out of memory looking at what %s does", rq_profile_name(p)) : st;
}

void rq_lint_release(rq_lint *l)
{
    for (int i = 0; i < l->n; i++) {
        rq_mem_free(l->nodes[i].name);
        rq_mem_free(l->nodes[i].op);
        rq_mem_free(l->nodes[i].why);
    }
    rq_mem_free(l->nodes);
    *l = (rq_lint) { .profile = l->profile };
}

/* ---- printed ---- */

static bool alike(const rq_lint_node *a, const rq_lint_node *b)
{
    return a->runs == b->runs && !strcmp(a->op, b->op) && !strcmp(a->rule, b->rule) && !strcmp(a->why, b->why);
}

static void print_alike(const rq_lint *l, rq_lint_runs runs, FILE *to)
{
    for (int i = 0; i < l->n; i++) {
        const rq_lint_node *a = &l->nodes[i];
        int before = 0, all = 0;
        if (a->runs != runs)
            continue;
        for (int k = 0; k < i && !before; k++)
            before = l->nodes[k].runs == runs && alike(a, &l->nodes[k]);
        for (int k = i; k < l->n && !before; k++)
            all += l->nodes[k].runs == runs && alike(a, &l->nodes[k]);
        if (before)
            continue;
        if (all == 1 && a->name[0])
            fprintf(to, "  %s '%s': %s (%s)\n", a->op, a->name, a->why, a->rule);
        else
            fprintf(to, "  %s x%d: %s (%s)\n", a->op, all, a->why, a->rule);
    }
}

void rq_lint_print(const rq_lint *l, FILE *to)
{
    const char *name = rq_profile_name(l->profile);
    if (l->n_refused) {
        fprintf(to, "%s will refuse this file:\n", name);
        print_alike(l, RQ_LINT_REFUSED, to);
    }
    if (l->n_float == 0 && l->n_refused == 0) {
        fprintf(to, "%s runs all %d operators in integers.\n", name, l->n_integer + l->n_gone);
    } else if (l->n_float) {
        fprintf(to, "%s runs %d of %d operators in integers; in float:\n", name, l->n_integer + l->n_gone, l->n);
        print_alike(l, RQ_LINT_FLOAT, to);
    }
}

rq_status rq_lint_save_json(const rq_lint *l, const char *path, rq_err *err)
{
    static const char *const words[] = {
        [RQ_LINT_INTEGER] = "integer", [RQ_LINT_FLOAT] = "float", [RQ_LINT_GONE] = "gone", [RQ_LINT_REFUSED] = "refused"
    };
    json_t *nodes = json_array();
    for (int i = 0; i < l->n; i++) {
        const rq_lint_node *n = &l->nodes[i];
        json_array_append_new(nodes, json_pack("{s:o, s:o, s:s, s:o, s:o}", "name", rq_report_json_text(n->name), "op",
                                               rq_report_json_text(n->op), "runs", words[n->runs], "rule",
                                               rq_report_json_text(n->rule), "why", rq_report_json_text(n->why)));
    }
    json_t *root =
        json_pack("{s:s, s:i, s:i, s:i, s:i, s:o}", "profile", rq_profile_name(l->profile), "integer", l->n_integer,
                  "float", l->n_float, "gone", l->n_gone, "refused", l->n_refused, "nodes", nodes);
    return rq_report_json_write(root, path, err);
}
