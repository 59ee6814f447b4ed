/* run/plan_regions.c — whatever depends on one byte alone is a table. Steps that work element by element (tables, sums and products with a number, the
 * same in reals between a dequantization and a quantization) on one tensor of 8-bit codes or booleans, however many and however connected (x * sigmoid(x),
 * HardSwish and GELU from their pieces), are done on all 256 of them while the plan is made; the step that makes the last codes, or the last reals where
 * that saves enough, becomes a look-up, and those that nobody reads any more are left out. Where constants with a number per channel take part (a bias),
 * there is a table per channel. The bits are those of the steps. */
#include <string.h>

#include "ops/last.h"
#include "quant/codes.h"
#include "run/planner.h"

/* ---- what depends on what ---- */

/* What decides an element: the byte of this form in the same place and, but for -1, where that is along this axis. */
typedef struct origin {
    int32_t form; /* -1: more than that */
    int axis;
} origin;

typedef struct regions {
    rq_planner *b;
    rq_plan_uses uses;
    rq_arena tmp;     /* for one table */
    origin *root;     /* [form] itself, others, or none */
    origin *near;     /* [form] the same, but the nearest that is there anyway */
    bool *needed;     /* [form] */
    bool *marked;     /* [step] */
    void **of;        /* [form] its elements for all bytes, [channel][256], while tables are made */
    int64_t channels; /* of these */
} regions;

enum {
    LEAST_SAVED = 3, /* passes over reals that a look-up of reals must save */
    FUNCTION = 4,    /* passes that a function costs (Erf, Tanh) */
};

static bool is_code8(const rq_planner *b, int32_t form)
{
    const rq_form *f = &b->p->forms[form];
    const int kind = form % RQ_N_FORMS;
    const rq_qparams *q = rq_graph_qparams(b->p->g, form / RQ_N_FORMS);
    return (kind == RQ_FORM_CODE || kind == RQ_FORM_LAST) && f->exists && !f->known && q && q->axis == RQ_PER_TENSOR &&
           (q->dtype == RQ_DTYPE_U8 || q->dtype == RQ_DTYPE_S8);
}

/* Reals or codes, one pair for all. */
static bool is_plain(const rq_planner *b, int32_t form)
{
    const rq_form *f = &b->p->forms[form];
    const int kind = form % RQ_N_FORMS;
    const rq_qparams *q = rq_graph_qparams(b->p->g, form / RQ_N_FORMS);
    if (f->made_late)
        return false;
    return kind == RQ_FORM_CODE || kind == RQ_FORM_LAST ? q && q->axis == RQ_PER_TENSOR && rq_dtype_bits(q->dtype) >= 8
                                                        : f->t.dtype == RQ_DTYPE_F32;
}

static bool is_bool(const rq_planner *b, int32_t form)
{
    const rq_form *f = &b->p->forms[form];
    return form % RQ_N_FORMS == RQ_FORM_REAL && f->exists && !f->known && !f->made_late && f->t.dtype == RQ_DTYPE_BOOL;
}

/* A known number, whose place does not matter. */
static bool is_number(const rq_planner *b, int32_t form)
{
    return b->p->forms[form].known && rq_tensor_count(&b->p->forms[form].t) == 1;
}

/* The axis of y along which known reals go, one for each place, that are repeated along all others; -1: they are not like that, or tables would
 * have more entries than y has elements. */
static int channel_axis(const rq_planner *b, int32_t form, const rq_shape *y)
{
    const rq_form *f = &b->p->forms[form];
    const rq_shape *s = &f->t.shape;
    int axis = -1;
    if (!f->known || f->t.dtype != RQ_DTYPE_F32 || form % RQ_N_FORMS != RQ_FORM_REAL || s->rank > y->rank)
        return -1;
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] != 1) {
            if (axis >= 0 || s->dim[i] != y->dim[y->rank - s->rank + i])
                return -1;
            axis = y->rank - s->rank + i;
        }
    return axis >= 0 && y->dim[axis] <= rq_shape_count(y) / 256 ? axis : -1;
}

/* Arithmetic on reals, with numpy broadcasting. */
static bool takes_channels(const rq_step *s)
{
    return s->kind == RQ_STEP_OP && s->mode == RQ_MODE_REAL && s->row->flags & RQ_OP_COMMUTES;
}

static bool is_cast(const rq_planner *b, const rq_step *s)
{
    return !strcmp(s->row->name, "Cast") && !s->row->domain[0] && is_bool(b, s->in_form[0]);
}

/* Does the step make element i from element i of its inputs, from numbers and from what is known of each channel? */
static bool is_pointwise(const rq_planner *b, const rq_step *s)
{
    if (s->args.n_out != 1 || s->out_form[0] < 0 || !is_plain(b, s->out_form[0]))
        return false;
    const rq_tensor *y = &b->p->forms[s->out_form[0]].t;
    if (rq_tensor_count(y) < 2) /* one element: sums take another way (ops/int_eltwise.c) */
        return false;
    if (s->kind == RQ_STEP_OP) {
        const unsigned flags = s->row->flags;
        if (s->mode == RQ_MODE_CODES || flags & (RQ_OP_KEEP | RQ_OP_DYNAMIC) || s->args.n_post ||
            (s->mode != RQ_MODE_TABLE && !(flags & (RQ_OP_TABLE | RQ_OP_COMMUTES)) && !is_cast(b, s)))
            return false;
    } else if (s->kind != RQ_STEP_QUANTIZE && s->kind != RQ_STEP_DEQUANTIZE) {
        return false;
    }
    for (int i = 0; i < s->args.n_in; i++) {
        const int32_t x = s->in_form[i];
        if (x < 0 || is_number(b, x) || (takes_channels(s) && channel_axis(b, x, &y->shape) >= 0))
            continue;
        if (b->p->forms[x].known || !(is_plain(b, x) || is_bool(b, x)) ||
            !rq_shape_equal(&b->p->forms[x].t.shape, &y->shape))
            return false;
    }
    return true;
}

/* What all inputs of a pointwise step that are no numbers depend on. */
static origin common(const regions *r, const rq_step *s, const origin *root)
{
    const origin none = { -1, -1 };
    const rq_shape *y = &r->b->p->forms[s->out_form[0]].t.shape;
    origin all = none;
    for (int i = 0; i < s->args.n_in; i++) {
        const int32_t x = s->in_form[i];
        if (x < 0 || is_number(r->b, x))
            continue;
        const bool known = r->b->p->forms[x].known;
        const origin from = known ? (origin) { all.form, channel_axis(r->b, x, y) } : root[x];
        if (!known && (from.form < 0 || (all.form >= 0 && all.form != from.form)))
            return none;
        if (all.axis >= 0 && from.axis >= 0 && all.axis != from.axis)
            return none;
        all = (origin) { from.form, from.axis >= 0 ? from.axis : all.axis };
    }
    return all;
}

/* Reads somebody x who is not of its region? */
static bool escapes(const regions *r, int32_t x)
{
    const rq_segment *seg = r->b->seg;
    if (r->uses.kept[x])
        return true;
    int readers = 0;
    for (int i = r->uses.maker[x] + 1; i <= r->uses.reader[x]; i++)
        for (int k = 0; k < seg->steps[i].args.n_in; k++)
            if (seg->steps[i].in_form[k] == x) {
                if (seg->steps[i].args.n_out != 1 || seg->steps[i].out_form[0] < 0 ||
                    r->root[seg->steps[i].out_form[0]].form != r->root[x].form)
                    return true;
                readers++;
            }
    return readers != r->uses.n_readers[x]; /* views */
}

static void find_roots(regions *r)
{
    const rq_segment *seg = r->b->seg;
    const size_t n = (size_t)r->b->p->g->n_values * RQ_N_FORMS;
    for (size_t i = 0; i < n; i++) {
        const bool itself = is_code8(r->b, (int32_t)i) || is_bool(r->b, (int32_t)i);
        r->root[i] = r->near[i] = (origin) { itself ? (int32_t)i : -1, -1 };
    }
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < seg->n_steps; i++) {
            const rq_step *s = &seg->steps[i];
            if (s->gone || !is_pointwise(r->b, s))
                continue;
            const int32_t y = s->out_form[0];
            const origin from = common(r, s, pass ? r->near : r->root);
            if (pass == 0 && from.form >= 0)
                r->root[y] = from;
            else if (pass && r->root[y].form >= 0 && r->root[y].form != y && !(is_code8(r->b, y) && escapes(r, y)))
                r->near[y] = from.form >= 0 ? from : r->root[y];
        }
}

/* ---- 256 codes ---- */

static void flip_all(uint8_t *codes, int64_t n, uint8_t flip)
{
    for (int64_t i = 0; flip && i < n; i++)
        codes[i] ^= flip;
}

/* The conversions, on codes of either order. */
static void convert(const rq_program *p, const rq_step *s, rq_tensor *y, const rq_tensor *x)
{
    const rq_qparams *q = rq_graph_qparams(p->g, s->value);
    const bool last = (s->kind == RQ_STEP_QUANTIZE ? s->out_form : s->in_form)[0] % RQ_N_FORMS == RQ_FORM_LAST;
    const uint8_t flip = last && q->dtype == RQ_DTYPE_S8 ? 0x80 : 0;
    const int64_t n = rq_tensor_count(x);
    if (s->kind == RQ_STEP_QUANTIZE) {
        rq_codes_from_reals(y, x, q, p->k);
        flip_all(y->u8, n, flip);
        return;
    }
    rq_tensor codes = *x;
    codes.dtype = q->dtype;
    flip_all(x->u8, n, flip); /* and back */
    rq_codes_to_reals(y, &codes, q, p->k);
    flip_all(x->u8, n, flip);
}

static rq_status operate(rq_planner *b, const rq_step *s, const rq_tensor *const *in, rq_tensor *y)
{
    rq_op_args a = s->args;
    const bool integer = s->mode == RQ_MODE_INT;
    rq_status (*const make)(const rq_op_args *, void **) = integer ? s->row->prepare_int : s->row->prepare;
    void (*const drop)(void *) = integer ? s->row->release_int : s->row->release;
    a.in = in;
    a.out = &y;
    if (s->mode == RQ_MODE_TABLE)
        return rq_int_table_forward(&a);
    a.state = NULL;
    rq_status st = make ? make(&a, &a.state) : RQ_OK;
    if (st)
        return st;
    a.scratch = s->row->scratch ? rq_mem_alloc(s->row->scratch(&a, integer), 1) : NULL;
    if (s->row->scratch && !a.scratch)
        st = rq_plan_no_memory(b);
    if (!st)
        st = integer ? s->row->forward_int(&a) : s->row->forward(&a);
    rq_mem_free(a.scratch);
    if (a.state && drop)
        drop(a.state);
    return st;
}

static rq_status run_on_all(regions *r, const rq_step *s)
{
    const rq_shape flat = rq_shape_of(1, (const int64_t[]) { 256 * r->channels });
    const rq_shape rows = rq_shape_of(2, (const int64_t[]) { r->channels, 256 });
    const rq_shape column = rq_shape_of(2, (const int64_t[]) { r->channels, 1 });
    const rq_program *p = r->b->p;
    const int n_in = s->args.n_in;
    const int32_t to = s->out_form[0];
    const rq_shape *all = takes_channels(s) ? &rows : &flat;
    rq_tensor *t = rq_arena_alloc(&r->tmp, (size_t)n_in, sizeof *t);
    const rq_tensor **in = rq_arena_alloc(&r->tmp, (size_t)n_in, sizeof *in);
    r->of[to] = rq_arena_alloc(&r->tmp, 256 * (size_t)r->channels, sizeof(float));
    if (!t || !in || !r->of[to])
        return rq_plan_no_memory(r->b);
    rq_tensor y = rq_tensor_view(
        s->kind == RQ_STEP_QUANTIZE ? rq_graph_qparams(p->g, s->value)->dtype : p->forms[to].t.dtype, all, r->of[to]);
    for (int i = 0; i < n_in; i++) {
        const int32_t x = s->in_form[i];
        if (x < 0)
            continue;
        const rq_tensor *is = &p->forms[x].t;
        const bool number = is_number(r->b, x), known = p->forms[x].known;
        const rq_shape one = rq_shape_of(is->shape.rank > 0, (const int64_t[]) { 1 });
        t[i] = rq_tensor_view(is->dtype, number ? &one : known ? &column : all, known ? is->data : r->of[x]);
        in[i] = &t[i];
    }
    if (s->kind == RQ_STEP_OP)
        return operate(r->b, s, in, &y);
    convert(p, s, &y, in[0]);
    return RQ_OK;
}

/* Marks the steps between an origin and the form it decides. The first of them; *passes: over all elements that they are. */
static int mark(regions *r, int32_t form, int32_t root, int *passes)
{
    const rq_segment *seg = r->b->seg;
    const int to = r->uses.maker[form];
    memset(r->marked, 0, (size_t)seg->n_steps * sizeof *r->marked);
    r->marked[to] = true;
    int from = to;
    *passes = 0;
    for (int i = to; i >= from; i--) {
        const rq_step *s = &seg->steps[i];
        if (!r->marked[i])
            continue;
        *passes += s->kind == RQ_STEP_OP && s->mode == RQ_MODE_REAL && s->row->flags & RQ_OP_TABLE ? FUNCTION : 1;
        for (int k = 0; k < s->args.n_in; k++) {
            const int32_t x = s->in_form[k];
            if (x < 0 || x == root || r->b->p->forms[x].known)
                continue;
            r->marked[r->uses.maker[x]] = true;
            from = r->uses.maker[x] < from ? r->uses.maker[x] : from;
        }
    }
    return from;
}

static int64_t n_channels(const regions *r, origin o)
{
    return o.axis < 0 ? 1 : r->b->p->forms[o.form].t.shape.dim[o.axis];
}

/* (*table)[c][i] = the element of `form`, codes or reals, where that of its origin is i in channel c. It lives in r->tmp. */
static rq_status make_table(regions *r, int32_t form, origin root, void **table)
{
    int passes;
    const int to = r->uses.maker[form], from = mark(r, form, root.form, &passes);
    r->channels = n_channels(r, root);
    uint8_t *codes = rq_arena_alloc(&r->tmp, 256, (size_t)r->channels);
    if (!codes)
        return rq_plan_no_memory(r->b);
    for (int64_t i = 0; i < 256 * r->channels; i++)
        codes[i] = (uint8_t)i;
    r->of[root.form] = codes;
    for (int i = from; i <= to; i++)
        if (r->marked[i])
            RQ_TRY(run_on_all(r, &r->b->seg->steps[i]));
    *table = r->of[form];
    return RQ_OK;
}

static bool is_last(int32_t form)
{
    return form % RQ_N_FORMS == RQ_FORM_LAST;
}

/* A state that looks y up by its origin. */
static rq_status make_state(regions *r, int32_t y, origin root, void **state)
{
    const rq_shape *s = &r->b->p->forms[root.form].t.shape, lies = rq_last_shape(is_last(root.form), s);
    const int axis = root.axis < 0 ? s->rank - 1 : rq_last_axis(is_last(root.form), root.axis, s->rank);
    const rq_int_tables how = { .reals = !is_code8(r->b, y),
                                .channels = n_channels(r, root),
                                .inner = rq_shape_span(&lies, axis + 1, lies.rank),
                                .turned = is_last(root.form) && !is_last(y) };
    void *table = NULL;
    rq_status st = make_table(r, y, root, &table);
    if (!st && rq_int_table_from(table, &how, state))
        st = rq_plan_no_memory(r->b);
    rq_arena_release(&r->tmp);
    r->tmp = (rq_arena) { 0 };
    return st;
}

/* The step looks its output up in root from now on. */
static rq_status replace(regions *r, rq_step *s, origin root)
{
    rq_program *p = r->b->p;
    const int32_t y = s->out_form[0];
    void *state;
    const rq_tensor **in = rq_arena_alloc(&r->b->seg->arena, 1, sizeof *in);
    rq_tensor **out = rq_arena_alloc(&r->b->seg->arena, 1, sizeof *out);
    int32_t *form = rq_arena_alloc(&r->b->seg->arena, 1, sizeof *form);
    if (!in || !out || !form)
        return rq_plan_no_memory(r->b);
    RQ_TRY(make_state(r, y, root, &state));
    rq_plan_release_state(s);
    if (s->kind != RQ_STEP_OP)
        s->kind = RQ_STEP_TABLE;
    s->mode = RQ_MODE_TABLE;
    s->reason = NULL;
    s->state = state;
    s->args.state = state;
    s->args.k = p->k;
    s->args.threads = p->threads;
    s->args.n_in = 1;
    s->args.in = in;
    s->args.out = out;
    s->in_form = form;
    form[0] = root.form;
    in[0] = &p->forms[root.form].t;
    out[0] = &p->forms[y].t;
    rq_plan_use_form(r->b, root.form, (int)(s - r->b->seg->steps));
    return RQ_OK;
}

/* ---- the whole ---- */

static void need(regions *r, int32_t form)
{
    for (; form >= 0; form = r->b->p->forms[form].view_of)
        r->needed[form] = true;
}

/* Can y be looked up where its origin lies? Tables per channel are turned by the same axis in both orders. */
static bool can_look_up(const regions *r, int32_t y, origin root)
{
    if (is_code8(r->b, y))
        return is_last(root.form) == is_last(y);
    return is_plain(r->b, y) && r->b->p->forms[y].t.dtype == RQ_DTYPE_F32 && !(is_last(root.form) && root.axis > 1);
}

/* Is this a look-up in `root` already, or none that is worth it? */
static bool stays(regions *r, const rq_step *s, origin root)
{
    const int32_t y = s->out_form[0];
    int passes;
    if (!can_look_up(r, y, root))
        return true;
    if (is_code8(r->b, y))
        return s->mode == RQ_MODE_TABLE && s->in_form[0] == root.form;
    mark(r, y, root.form, &passes);
    return passes < LEAST_SAVED || rq_tensor_count(&r->b->p->forms[y].t) < 256;
}

static rq_status cut(regions *r)
{
    rq_segment *seg = r->b->seg;
    const size_t n = (size_t)r->b->p->g->n_values * RQ_N_FORMS;
    for (size_t i = 0; i < n; i++)
        if (r->uses.kept[i])
            need(r, (int32_t)i);
    for (int i = seg->n_steps - 1; i >= 0; i--) {
        rq_step *s = &seg->steps[i];
        if (s->gone)
            continue;
        bool live = s->args.n_out == 0, made = false;
        for (int k = 0; k < s->args.n_out; k++)
            if (s->out_form[k] >= 0) {
                made = true;
                live |= r->needed[s->out_form[k]] || r->uses.n_readers[s->out_form[k]] == 0;
            }
        s->gone = made && !live;
        if (s->gone) {
            for (int k = 0; k < s->args.n_out; k++)
                if (s->out_form[k] >= 0)
                    r->b->p->forms[s->out_form[k]].exists = false;
            continue;
        }
        const int32_t y = s->args.n_out == 1 ? s->out_form[0] : -1;
        if (y >= 0 && r->root[y].form >= 0 && r->root[y].form != y) {
            const origin near = common(r, s, r->near), from = near.form >= 0 ? near : r->root[y];
            if (!stays(r, s, from))
                RQ_TRY(replace(r, s, from));
        }
        for (int k = 0; k < s->args.n_in; k++)
            if (s->in_form[k] >= 0)
                need(r, s->in_form[k]);
    }
    return RQ_OK;
}

rq_status rq_plan_regions(rq_planner *b, rq_arena *a)
{
    regions r = { .b = b };
    const size_t n = (size_t)b->p->g->n_values * RQ_N_FORMS + 1;
    RQ_TRY(rq_plan_count_uses(b, a, &r.uses));
    r.root = rq_arena_alloc(a, n, sizeof *r.root);
    r.near = rq_arena_alloc(a, n, sizeof *r.near);
    r.needed = rq_arena_alloc(a, n, sizeof *r.needed);
    r.marked = rq_arena_alloc(a, (size_t)b->seg->n_steps + 1, sizeof *r.marked);
    r.of = rq_arena_alloc(a, n, sizeof *r.of);
    if (!r.root || !r.near || !r.needed || !r.marked || !r.of)
        return rq_plan_no_memory(b);
    find_roots(&r);
    rq_status st = cut(&r);
    rq_arena_release(&r.tmp);
    return st;
}
