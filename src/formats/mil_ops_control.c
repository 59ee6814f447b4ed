/* formats/mil_ops_control.c — rows: conditions and loops, lists, states. A list is a tensor whose first axis counts its items. */
#include <stdio.h>
#include <string.h>

#include "formats/mil_rows.h"
#include "graph/graph.h"

typedef rq_mil_reader reader;
typedef rq_chain chain;

static rq_status no_memory(const reader *r)
{
    return rq_fail(r->err, RQ_NO_MEMORY, "not enough memory");
}

/* Hang the graph in an attribute of a node of r->g; it is the node's then, or gone. */
static rq_status hang(reader *r, int node, const char *attribute, rq_graph *body)
{
    rq_graph **list = rq_arena_alloc(&r->g->names, 1, sizeof *list);
    rq_attr *a = list ? rq_attr_add(r->g, node, attribute, RQ_ATTR_GRAPH) : NULL;
    if (!a) {
        rq_graph_destroy(body);
        return no_memory(r);
    }
    list[0] = body;
    a->g = list;
    return RQ_OK;
}

/* ---- cond ---- */

/* A block without inputs as a graph. */
static rq_status read_branch(reader *r, const rq_mil_op *op, const rq_mil_block *b, rq_graph **out)
{
    rq_mil_frame f;
    *out = NULL;
    if (b->n_outputs != op->n_outputs || b->n_inputs)
        return rq_fail(r->err, RQ_BAD_FILE, "a block has %d inputs and %d outputs, expected none and %d", b->n_inputs,
                       b->n_outputs, op->n_outputs);
    RQ_TRY(rq_mil_reader_enter(r, &f, b));
    rq_status st = rq_mil_reader_ops(r, b);
    if (!st)
        st = rq_mil_reader_outputs(r, op, b->outputs, b->n_outputs);
    rq_mil_reader_leave(r);
    if (st)
        rq_graph_destroy(f.g);
    else
        *out = f.g;
    return st;
}

static const char **output_names(reader *r, const rq_mil_op *op)
{
    const char **names = rq_arena_alloc(&r->a, (size_t)op->n_outputs + 1, sizeof *names);
    for (int i = 0; names && i < op->n_outputs; i++)
        names[i] = op->outputs[i].name;
    return names;
}

static rq_status cond(reader *r, const rq_mil_op *op)
{
    static const char *const attributes[] = { "then_branch", "else_branch" };
    const char *pred, **out = output_names(r, op);
    rq_graph *branch[2] = { NULL, NULL };
    int id = 0;
    RQ_TRY(rq_mil_reader_input(r, op, "pred", &pred));
    if (!pred || op->n_blocks != 2 || !out)
        return out ? rq_fail(r->err, RQ_BAD_FILE, "a condition and 2 blocks are expected, there are %d", op->n_blocks)
                   : no_memory(r);
    rq_status st = read_branch(r, op, op->blocks[0], &branch[0]);
    if (!st)
        st = read_branch(r, op, op->blocks[1], &branch[1]);
    const rq_edit_node node = {
        .op = "If", .name = rq_mil_op_name(op), .in = &pred, .n_in = 1, .out = out, .n_out = op->n_outputs
    };
    if (!st)
        st = rq_edit_add_node(r->g, &node, &id, r->err);
    for (int i = 0; i < 2; i++)
        if (!st) {
            st = hang(r, id, attributes[i], branch[i]);
        } else {
            rq_graph_destroy(branch[i]);
        }
    return st;
}

/* ---- while_loop ---- */

/* The inputs of an inner block are the values of the block around it; where they have other names, copies. */
static rq_status copy_inputs(reader *r, const rq_mil_op *op, const rq_mil_block *from, const rq_mil_block *to)
{
    for (int i = 0; i < to->n_inputs; i++) {
        const char *in = from->inputs[i].name;
        if (!strcmp(in, to->inputs[i].name))
            continue;
        RQ_TRY(rq_mil_reader_value(r, in));
        RQ_TRY(rq_mil_reader_node(r, op, "Identity", &in, 1, to->inputs[i].name, NULL));
        RQ_TRY(rq_mil_reader_declare(r, to->inputs[i].name, to->inputs[i].type));
    }
    return RQ_OK;
}

/* One branch of the If in the loop: the body, or (b NULL) the values as they are. */
static rq_status read_turn(reader *r, const rq_mil_op *op, const rq_mil_block *test, const rq_mil_block *body,
                           bool stays, rq_graph **out)
{
    rq_mil_frame f;
    *out = NULL;
    RQ_TRY(rq_mil_reader_enter(r, &f, body));
    rq_status st = RQ_OK;
    if (stays) {
        const char **names = rq_arena_alloc(&r->a, (size_t)test->n_inputs + 1, sizeof *names);
        for (int i = 0; names && i < test->n_inputs; i++)
            names[i] = test->inputs[i].name;
        st = names ? rq_mil_reader_outputs(r, op, names, test->n_inputs) : no_memory(r);
    } else {
        st = copy_inputs(r, op, test, body);
        if (!st)
            st = rq_mil_reader_ops(r, body);
        if (!st)
            st = rq_mil_reader_outputs(r, op, body->outputs, body->n_outputs);
    }
    rq_mil_reader_leave(r);
    if (st)
        rq_graph_destroy(f.g);
    else
        *out = f.g;
    return st;
}

/* Inside the Loop: the test; If it holds, the body, else the values as they are; outputs are the test and those. */
static rq_status fill_loop(reader *r, const rq_mil_op *op, const rq_mil_block *test, const rq_mil_block *body)
{
    static const char *const attributes[] = { "then_branch", "else_branch" };
    const int n = op->n_outputs;
    const rq_shape none = { .rank = 0 };
    char what[32];
    const char *turn = rq_mil_reader_name(r, op, "turn"), *go_on = rq_mil_reader_name(r, op, "go_on");
    const char **next = rq_arena_alloc(&r->a, (size_t)n + 1, sizeof *next);
    if (!turn || !go_on || !next)
        return no_memory(r);
    RQ_TRY(rq_edit_add_input(r->g, turn, RQ_DTYPE_S64, &none, r->err));
    RQ_TRY(rq_edit_add_input(r->g, go_on, RQ_DTYPE_BOOL, &none, r->err));
    for (int i = 0; i < n; i++)
        RQ_TRY(rq_mil_reader_block_input(r, &test->inputs[i]));
    RQ_TRY(rq_mil_reader_ops(r, test));
    const char *flag = test->outputs[0];
    RQ_TRY(rq_mil_reader_value(r, flag));
    for (int i = 0; i < n; i++) {
        snprintf(what, sizeof what, "next_%d", i);
        if (!(next[i] = rq_mil_reader_name(r, op, what)))
            return no_memory(r);
    }
    rq_graph *branch[2] = { NULL, NULL };
    int id = 0;
    rq_status st = read_turn(r, op, test, body, false, &branch[0]);
    if (!st)
        st = read_turn(r, op, test, body, true, &branch[1]);
    const rq_edit_node node = { .op = "If", .name = turn, .in = &flag, .n_in = 1, .out = next, .n_out = n };
    if (!st)
        st = rq_edit_add_node(r->g, &node, &id, r->err);
    for (int i = 0; i < 2; i++)
        if (!st) {
            st = hang(r, id, attributes[i], branch[i]);
        } else {
            rq_graph_destroy(branch[i]);
        }
    if (!st)
        st = rq_mil_reader_outputs(r, op, &flag, 1);
    for (int i = 0; !st && i < n; i++)
        st = rq_edit_add_output(r->g, next[i], r->err);
    return st;
}

/* A Loop without end whose body tests first, and does nothing in the turn in which the test fails. */
static rq_status while_loop(reader *r, const rq_mil_op *op)
{
    const rq_mil_arg *vars = rq_mil_op_arg(op, "loop_vars");
    const int n = op->n_outputs;
    const char **out = output_names(r, op), **in = rq_arena_alloc(&r->a, (size_t)n + 2, sizeof *in);
    if (!out || !in)
        return no_memory(r);
    if (op->n_blocks != 2 || !vars || vars->n != n || op->blocks[0]->n_inputs != n || op->blocks[1]->n_inputs != n ||
        op->blocks[0]->n_outputs != 1 || op->blocks[1]->n_outputs != n)
        return rq_fail(r->err, RQ_BAD_FILE, "2 blocks of %d values are expected, the first of one output", n);
    const uint8_t yes = 1;
    const rq_tensor flag = rq_tensor_view(RQ_DTYPE_BOOL, &(rq_shape) { .rank = 0 }, (void *)&yes);
    in[0] = NULL;
    RQ_TRY(rq_mil_reader_tensor(r, op, "begin", &flag, &in[1]));
    for (int i = 0; i < n; i++)
        RQ_TRY(rq_mil_reader_item(r, op, vars, i, &in[2 + i]));
    rq_mil_frame f;
    int id = 0;
    RQ_TRY(rq_mil_reader_enter(r, &f, op->blocks[0]));
    rq_status st = fill_loop(r, op, op->blocks[0], op->blocks[1]);
    rq_mil_reader_leave(r);
    const rq_edit_node node = {
        .op = "Loop", .name = rq_mil_op_name(op), .in = in, .n_in = n + 2, .out = out, .n_out = n
    };
    if (!st)
        st = rq_edit_add_node(r->g, &node, &id, r->err);
    if (!st)
        return hang(r, id, "body", f.g);
    rq_graph_destroy(f.g);
    return st;
}

/* ---- lists ---- */

/* Sizes that the program knows, and 1 for the others: such a list takes the shape of what is written to it. */
static rq_status make_list(reader *r, const rq_mil_op *op)
{
    const rq_mil_type *t = op->outputs[0].type;
    chain c = rq_chain_begin(r, op);
    if (t->kind != RQ_MIL_LIST || t->part[0]->kind != RQ_MIL_TENSOR || t->part[0]->rank < 0 ||
        t->part[0]->rank + 1 > RQ_MAX_RANK)
        return rq_fail(r->err, RQ_UNSUPPORTED, "a list of items of unknown shape is not supported");
    if (rq_chain_int(&c, "dynamic_length", 1)) /* the types of lists do not tell */
        r->lists_grow = true;
    int64_t sizes[RQ_MAX_RANK];
    const int rank = (int)t->part[0]->rank;
    for (int i = 0; i < rank; i++) {
        if (!t->part[0]->dim[i].known || t->part[0]->dim[i].size > (1 << 30))
            return rq_fail(r->err, RQ_UNSUPPORTED, "a list of items of unknown size is not supported");
        sizes[i] = (int64_t)t->part[0]->dim[i].size;
    }
    const char *length =
        rq_mil_reader_has(op, "init_length") ? rq_chain_list(&c, "init_length") : rq_chain_const_int(&c, 1);
    length = rq_n2(&c, "Reshape", length, rq_chain_const_ints(&c, (const int64_t[]) { 1 }, 1));
    if (rank) {
        length = rq_n2(&c, "Concat", length, rq_chain_const_ints(&c, sizes, rank));
        rq_chain_set_int(&c, "axis", 0);
    }
    const char *zero = rq_chain_const(&c, t->part[0]->dtype->dtype, 0);
    return rq_chain_end(&c, 0, rq_n2(&c, "Expand", zero, length));
}

static const char *length_of(chain *c, const char *list)
{
    return rq_n2(c, "Gather", rq_n1(c, "Shape", list), rq_chain_const_ints(c, (const int64_t[]) { 0 }, 1));
}

static rq_status list_length(reader *r, const rq_mil_op *op)
{
    chain c = rq_chain_begin(r, op);
    const char *n = rq_n2(&c, "Gather", rq_n1(&c, "Shape", rq_chain_in(&c, "ls")), rq_chain_const_int(&c, 0));
    return rq_chain_end(&c, 0, rq_chain_cast(&c, n, RQ_DTYPE_S32));
}

/* Long enough for these indices [n], with zeros behind what there was. */
static const char *grown(chain *c, const char *list, const char *indices)
{
    const int rank = rq_chain_rank(c, list);
    if (!c->r->lists_grow)
        return list;
    const char *most = rq_n1(c, "ReduceMax", indices), *zero = rq_chain_const_ints(c, (const int64_t[]) { 0 }, 1);
    most = rq_n2(c, "Reshape", rq_n2(c, "Add", most, rq_chain_const_int(c, 1)),
                 rq_chain_const_ints(c, (const int64_t[]) { 1 }, 1));
    const char *more = rq_n2(c, "Max", rq_n2(c, "Sub", most, length_of(c, list)), zero);
    int64_t none[2 * RQ_MAX_RANK] = { 0 };
    const char *parts[] = { rq_chain_const_ints(c, none, rank), more, rq_chain_const_ints(c, none, rank - 1) };
    const char *pads = rq_chain_node(c, "Concat", parts, rank > 1 ? 3 : 2);
    rq_chain_set_int(c, "axis", 0);
    return rq_n2(c, "Pad", list, pads);
}

static rq_status put(reader *r, const rq_mil_op *op)
{
    const bool one = !strcmp(op->type, "list_write");
    chain c = rq_chain_begin(r, op);
    const char *list = rq_chain_in(&c, "ls"), *value = rq_chain_in(&c, "value"),
               *indices = rq_chain_list(&c, one ? "index" : "indices");
    const char *front = rq_chain_const_ints(&c, (const int64_t[]) { 0 }, 1);
    if (one) {
        indices = rq_n2(&c, "Reshape", indices, rq_chain_const_ints(&c, (const int64_t[]) { 1 }, 1));
        value = rq_n2(&c, "Unsqueeze", value, front);
    }
    list = grown(&c, list, indices);
    const char *where = rq_n2(&c, "Unsqueeze", indices, rq_chain_const_ints(&c, (const int64_t[]) { 1 }, 1));
    return rq_chain_end(&c, 0, rq_n3(&c, "ScatterND", list, where, value));
}

static rq_status get(reader *r, const rq_mil_op *op)
{
    const bool one = !strcmp(op->type, "list_read");
    chain c = rq_chain_begin(r, op);
    const char *list = rq_chain_in(&c, "ls"), *index = rq_chain_list(&c, one ? "index" : "indices");
    if (one && rq_chain_rank(&c, index) > 0)
        index = rq_n1(&c, "Squeeze", index);
    return rq_chain_end(&c, 0, rq_n2(&c, "Gather", list, index));
}

/* ---- states ---- */

static rq_status find_state(reader *r, const rq_mil_op *op, rq_mil_kept **out)
{
    const rq_mil_arg *arg = rq_mil_op_arg(op, "input");
    const char *name = arg && arg->n == 1 ? arg->binding[0].name : NULL;
    if (r->frame->outer)
        return rq_fail(r->err, RQ_UNSUPPORTED, "a state in a block of a condition or loop is not supported");
    for (int i = 0; name && i < r->n_states; i++)
        if (!strcmp(r->states[i].name, name)) {
            *out = &r->states[i];
            return RQ_OK;
        }
    return rq_fail(r->err, RQ_BAD_FILE, "'input' is no state of the function");
}

static rq_status read_state(reader *r, const rq_mil_op *op)
{
    rq_mil_kept *s;
    RQ_TRY(find_state(r, op, &s));
    return rq_mil_reader_node(r, op, "Identity", &s->value, 1, NULL, NULL);
}

/* Gives nothing: what is read from now on is this. */
static rq_status write_state(reader *r, const rq_mil_op *op)
{
    rq_mil_kept *s;
    const char *data;
    rq_value_info was, is;
    RQ_TRY(find_state(r, op, &s));
    RQ_TRY(rq_mil_reader_input(r, op, "data", &data));
    if (!data)
        return rq_fail(r->err, RQ_BAD_FILE, "'data' is missing");
    RQ_TRY(rq_mil_reader_info(r, s->name, &was));
    RQ_TRY(rq_mil_reader_info(r, data, &is));
    if (was.dtype != is.dtype)
        return rq_fail(r->err, RQ_BAD_FILE, "'data' is %s, the state is %s", rq_dtype_name(is.dtype),
                       rq_dtype_name(was.dtype));
    s->value = data;
    return RQ_OK;
}

const rq_mil_row rq_mil_rows_control[] = {
    { "cond", cond, "If", NULL },
    { "list_gather", get, "Gather", NULL },
    { "list_length", list_length, "Shape, Gather", NULL },
    { "list_read", get, "Gather", NULL },
    { "list_scatter", put, "Pad, ScatterND", NULL },
    { "list_write", put, "Pad, ScatterND", NULL },
    { "make_list", make_list, "Expand", NULL },
    { "read_state", read_state, "Identity", NULL },
    { "while_loop", while_loop, "Loop, If", NULL },
    { "write_state", write_state, "an output of the graph", NULL },
    { NULL, NULL, NULL, NULL },
};
