/* graph/modules.c — names of modules from names of nodes. Exporters write the path of a module into the names of its nodes, each in its
 * way; where a name tells nothing, that of a constant does (docs/torch-facts.md 6). Types are graph/module_types.c. */
#include "graph/modules.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/query.h"

/* A piece of a name between two marks. */
typedef struct piece {
    const char *p;
    size_t n;
} piece;

static bool all_digits(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isdigit((unsigned char)p[i]))
            return false;
    return n > 0;
}

/* "Conv", "Conv_12", "Conv12" for op "Conv"? */
static bool counts_op(piece s, const char *op)
{
    const size_t n = strlen(op);
    if (s.n < n || strncmp(s.p, op, n))
        return false;
    if (s.n == n)
        return true;
    const size_t skip = s.p[n] == '_' || s.p[n] == '.' ? n + 1 : n;
    return all_digits(s.p + skip, s.n - skip);
}

/* What exporters put where they have no better name: the operator, counted; "node_Conv_3"; "n12"; a number. */
static bool says_nothing(const char *name, const char *op)
{
    piece s = { name, strlen(name) };
    if (s.n > 5 && !strncmp(name, "node_", 5))
        return true;
    return !s.n || counts_op(s, op) || all_digits(s.p, s.n) ||
           ((s.p[0] == 'n' || s.p[0] == 'N') && all_digits(s.p + 1, s.n - 1));
}

/* Does the last part of a path name an operator rather than a module? Operators begin with a capital, modules of Python do not. */
static bool is_op_part(piece s, const char *op)
{
    return s.n && (counts_op(s, op) || isupper((unsigned char)s.p[0]));
}

/* Append part s to the path in buf. "layer1.0" behind "layer1" repeats it, as PyTorch's exporter writes the children of a Sequential. */
static void append(char *buf, size_t n, size_t *at, size_t *last, piece s)
{
    const size_t before = *at - *last;
    if (before && s.n > before && !strncmp(buf + *last, s.p, before) && s.p[before] == '.')
        *at = *last;
    else if (*at) {
        if (*at + 1 < n)
            buf[(*at)++] = '.';
        *last = *at;
    }
    for (size_t i = 0; i < s.n && *at + 1 < n; i++)
        buf[(*at)++] = s.p[i];
    buf[*at] = '\0';
}

/* "/a/b/Op" or "a/b/Op" as "a.b". */
static void from_path(const char *name, const char *op, char *buf, size_t n)
{
    static const char *const skipped[] = { "StatefulPartitionedCall",
                                           "PartitionedCall" }; /* around a TensorFlow model */
    size_t at = 0, last = 0;
    buf[0] = '\0';
    for (const char *p = name; *p && *p != ';';) {
        const size_t len = strcspn(p, "/;");
        const piece s = { p, len };
        const bool is_last = p[len] != '/';
        bool skip = !len || (is_last && is_op_part(s, op));
        for (size_t i = 0; i < sizeof skipped / sizeof skipped[0]; i++)
            skip |= p == name && counts_op(s, skipped[i]);
        if (!skip)
            append(buf, n, &at, &last, s);
        p += len + (p[len] == '/');
    }
}

bool rq_module_of_parameter(const char *name, char *buf, size_t n)
{
    static const char *const words[] = {
        "weight", "bias",       "running_mean", "running_var", "kernel", "gamma", "beta", "scale",          "in_proj",
        "alpha",  "embeddings", "moving_mean",  "W",           "B",      "w",     "b",    "moving_variance"
    };
    const char *dot = NULL;
    for (const char *p = name; *p; p++)
        if (*p == '.' || *p == '/')
            dot = p;
    if (!dot || dot == name || !dot[1])
        return false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const size_t len = strlen(words[i]);
        if (strncmp(dot + 1, words[i], len) || (dot[1 + len] && isalpha((unsigned char)dot[1 + len])))
            continue;
        if (*dot == '/') {
            char path[RQ_MODULE_NAME];
            snprintf(path, sizeof path, "%.*s", (int)(dot - name), name);
            from_path(path, "", buf, n);
        } else
            snprintf(buf, n, "%.*s", (int)(dot - name), name);
        return buf[0];
    }
    return false;
}

rq_id rq_module_constant(const rq_graph *g, rq_id value)
{
    static const char *const restate[] = { "Identity",   "Transpose", "DequantizeLinear", "QuantizeLinear",
                                           "Cast",       "Reshape",   "FakeQuantize",     "ScaleChannels",
                                           "Requantize", "Squeeze",   "Unsqueeze" };
    for (int depth = 0; value >= 0 && depth < 8; depth++) {
        const rq_value *v = &g->values[value];
        if (v->kind == RQ_VALUE_CONST)
            return value;
        if (v->kind != RQ_VALUE_NODE)
            return RQ_NONE;
        const rq_node *n = &g->nodes[v->producer];
        bool through = false;
        for (size_t i = 0; i < sizeof restate / sizeof restate[0]; i++)
            through |= !strcmp(n->op, restate[i]);
        if (!through)
            return RQ_NONE;
        value = rq_node_in(n, 0);
    }
    return RQ_NONE;
}

rq_id rq_module_biased(const rq_graph *g, rq_id node)
{
    const rq_node *n = &g->nodes[node];
    if (!n->op || !rq_node_is(n, "Add") || n->n_in != 2)
        return RQ_NONE;
    for (int i = 0; i < 2; i++) {
        const rq_id x = n->in[i], bias = rq_module_constant(g, n->in[1 - i]);
        if (x < 0 || bias < 0 || g->values[x].kind != RQ_VALUE_NODE || g->values[bias].constant.shape.rank > 1)
            continue;
        const rq_id product = g->values[x].producer;
        const rq_node *m = &g->nodes[product];
        if (rq_node_is(m, "MatMul") && m->n_in == 2 && rq_module_constant(g, m->in[1]) >= 0 &&
            rq_graph_uses(g, x, NULL, 0) == 1)
            return product;
    }
    return RQ_NONE;
}

/* From the first constant of the node whose name is that of a parameter. */
static bool from_constants(const rq_graph *g, const rq_node *n, char *buf, size_t size)
{
    for (int i = 0; i < n->n_in; i++) {
        const rq_id c = rq_module_constant(g, n->in[i]);
        if (c >= 0 && rq_module_of_parameter(g->values[c].name, buf, size))
            return true;
    }
    return false;
}

const char *rq_module_name(const rq_graph *g, rq_id node, char *buf, size_t n)
{
    const rq_node *at = &g->nodes[node];
    buf[0] = '\0';
    if (!at->op)
        return buf;
    if (strchr(at->name, '/')) {
        from_path(at->name, at->op, buf, n);
        return buf;
    }
    if (says_nothing(at->name, at->op)) {
        const rq_id product = rq_module_biased(g, node);
        if (from_constants(g, product >= 0 ? &g->nodes[product] : at, buf, n))
            return buf;
        if (product >= 0 && at->name[0])
            return rq_module_name(g, product, buf, n);
    }
    if (at->name[0]) {
        const char *dot = strrchr(at->name, '.'); /* "conv1.Conv" */
        const bool op = dot && dot != at->name && counts_op((piece) { dot + 1, strlen(dot + 1) }, at->op);
        snprintf(buf, n, "%.*s", op ? (int)(dot - at->name) : (int)strlen(at->name), at->name);
        return buf;
    }
    for (int i = 0; i < at->n_out; i++)
        if (at->out[i] >= 0 && g->values[at->out[i]].name[0]) {
            snprintf(buf, n, "%s", g->values[at->out[i]].name);
            break;
        }
    return buf;
}

const char *rq_module_of(rq_graph *g, rq_id node)
{
    char buf[RQ_MODULE_NAME];
    return rq_graph_str(g, rq_module_name(g, node, buf, sizeof buf));
}

/* ---- the list ---- */

typedef struct entry {
    char *name; /* in the arena of the list being made */
    const char *type, *op;
    rq_id node;
    int n_nodes, rank; /* rank: what telling said of the node */
    bool call;
} entry;

static bool is_left_out(const rq_graph *g, const rq_node *n)
{
    static const char *const ops[] = {
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Constant", "Shape",
        "FakeQuantize",   "Requantize",       "ConstantOfShape"
    };
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (!strcmp(n->op, ops[i]))
            return true;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] >= 0 && rq_module_constant(g, n->in[i]) < 0)
            return false;
    return n->n_in > 0; /* made of constants alone */
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Is one of the n sorted names a child of `path`: does it begin with "<path>."? */
static bool has_children(char *const *names, int n, const char *path)
{
    const size_t len = strlen(path);
    int lo = 0, hi = n;
    while (lo < hi) { /* the first that is behind "<path>." */
        const int mid = (lo + hi) / 2;
        const int c = strncmp(names[mid], path, len);
        if (c < 0 || (!c && (unsigned char)names[mid][len] < '.'))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && !strncmp(names[lo], path, len) && names[lo][len] == '.';
}

/* How much a node says about its module: 2: it is a layer with weights; 1: it is of a type that modules have. Modules begin with a
 * capital, functions do not. */
static int telling(const rq_graph *g, rq_id node, const char *type)
{
    const rq_node *n = &g->nodes[node];
    if (!isupper((unsigned char)type[0]))
        return 0;
    for (int i = 0; i < n->n_in && rq_module_biased(g, node) < 0; i++) {
        const rq_id c = rq_module_constant(g, n->in[i]);
        if (c >= 0 && rq_dtype_is_float(g->values[c].constant.dtype) && g->values[c].constant.shape.rank > 0)
            return 2;
    }
    return 1;
}

typedef struct slots {
    int32_t *slot; /* open addressing: hash of a name -> entry; -1: empty */
    uint32_t mask;
} slots;

static int32_t *slot_of(const slots *s, const entry *e, const char *name)
{
    uint32_t h = 2166136261u;
    for (const char *p = name; *p; p++)
        h = (h ^ (unsigned char)*p) * 16777619u;
    for (uint32_t i = h & s->mask;; i = (i + 1) & s->mask)
        if (s->slot[i] < 0 || !strcmp(e[s->slot[i]].name, name))
            return &s->slot[i];
}

static rq_status list(const rq_graph *g, entry *e, char **sorted, const slots *s, rq_arena *names, int *n)
{
    char buf[RQ_MODULE_NAME];
    int n_names = 0;
    *n = 0;
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *at = &g->nodes[i];
        if (!at->op || is_left_out(g, at))
            continue;
        rq_module_name(g, i, buf, sizeof buf);
        if (!(sorted[n_names] = rq_arena_strndup(names, buf, strlen(buf))))
            return RQ_NO_MEMORY;
        n_names++;
    }
    qsort(sorted, (size_t)n_names, sizeof *sorted, by_name);
    for (rq_id i = 0; i < g->n_nodes; i++) {
        const rq_node *at = &g->nodes[i];
        const char *types[RQ_MODULE_TYPES];
        if (!at->op || is_left_out(g, at))
            continue;
        rq_module_name(g, i, buf, sizeof buf);
        const int n_types = rq_module_types(g, i, types), told = n_types > 1 ? telling(g, i, types[0]) : 0;
        int32_t *slot = buf[0] ? slot_of(s, e, buf) : NULL; /* a layer with weights is a module, whatever lies in it */
        const bool call = !slot || (*slot < 0 && told < 2 && has_children(sorted, n_names, buf));
        if (slot && *slot >= 0) {
            entry *old = &e[*slot];
            old->n_nodes++;
            if (told > old->rank) {
                old->rank = told;
                old->node = i;
                old->op = at->op;
                old->type = types[0];
            }
            continue;
        }
        if (!call)
            *slot = *n;
        const char *type = types[0];
        for (int k = 0; call && k < n_types; k++) /* of a call the function's name */
            if (islower((unsigned char)types[k][0])) {
                type = types[k];
                break;
            }
        char *name = rq_arena_strndup(names, buf, strlen(buf));
        if (!name)
            return RQ_NO_MEMORY;
        e[(*n)++] = (entry) { name, type, at->op, i, 1, told, call };
    }
    return RQ_OK;
}

/* The list as one block, its strings behind it. */
static rq_status packed(const entry *e, int n, rq_module **out)
{
    size_t bytes = 0;
    for (int i = 0; i < n; i++)
        bytes += strlen(e[i].name) + strlen(e[i].type) + strlen(e[i].op) + 3;
    rq_module *m = rq_mem_alloc((size_t)n * sizeof *m + bytes, 1);
    if (!m)
        return RQ_NO_MEMORY;
    char *p = (char *)(m + n);
    for (int i = 0; i < n; i++) {
        const char *text[3] = { e[i].name, e[i].type, e[i].op };
        const char *at[3];
        for (int k = 0; k < 3; k++) {
            const size_t len = strlen(text[k]) + 1;
            at[k] = memcpy(p, text[k], len);
            p += len;
        }
        m[i] = (rq_module) { at[0], at[1], at[2], e[i].node, e[i].n_nodes, e[i].call };
    }
    *out = m;
    return RQ_OK;
}

rq_status rq_graph_modules(const rq_graph *g, rq_module **out, int *n)
{
    rq_arena names = { 0 };
    uint32_t size = 16;
    while (size < 2 * (uint32_t)g->n_nodes)
        size *= 2;
    const slots s = { rq_mem_alloc(size, sizeof *s.slot), size - 1 };
    entry *e = rq_mem_alloc((size_t)g->n_nodes + 1, sizeof *e);
    char **sorted = rq_mem_alloc((size_t)g->n_nodes + 1, sizeof *sorted);
    rq_module *made = NULL;
    int count = 0;
    rq_status st = s.slot && e && sorted ? RQ_OK : RQ_NO_MEMORY;
    if (!st) {
        memset(s.slot, 0xff, size * sizeof *s.slot);
        st = list(g, e, sorted, &s, &names, &count);
    }
    if (!st && count)
        st = packed(e, count, &made);
    rq_mem_free(sorted);
    rq_mem_free(e);
    rq_mem_free(s.slot);
    rq_arena_release(&names);
    if (!st) {
        *out = made;
        *n = count;
    }
    return st;
}
