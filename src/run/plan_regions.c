/* run/plan_regions.c — whatever depends on one code alone is a table. Steps that work element by element (tables, sums and products with a number, the
 * same in reals between a dequantization and a quantization) on one tensor of 8-bit codes, however many and however connected (x * sigmoid(x),
 * HardSwish and GELU from their pieces), are done on all 256 codes while the plan is made; the step that makes the last codes becomes
 * a look-up, and those that nobody reads any more are left out. The bits are those of the steps. */
#include <limits.h>
#include <string.h>

#include "quant/codes.h"
#include "run/planner.h"

/* ---- who makes and who reads ---- */

static void note_reader(rq_plan_uses *u, rq_planner *b, int32_t form, int step)
{
    u->reader[form] = step;
    u->n_readers[form]++;
    for (int32_t f = b->p->forms[form].view_of; f >= 0; f = b->p->forms[f].view_of)
        u->n_readers[f] += 2; /* through a view: as good as kept */
}

typedef struct capture {
    rq_plan_uses *u;
    rq_planner *b;
} capture;

static void note_capture(void *arg, rq_id outer)
{
    const capture *c = arg;
    if (outer >= 0)
        c->u->kept[rq_form_id(outer, RQ_FORM_REAL)] = true;
}

rq_status rq_plan_count_uses(rq_planner *b, rq_arena *a, rq_plan_uses *u)
{
    const size_t n = (size_t)b->p->g->n_values * RQ_N_FORMS;
    if (!u->maker) {
        u->maker = rq_arena_alloc(a, n + 1, sizeof *u->maker);
        u->reader = rq_arena_alloc(a, n + 1, sizeof *u->reader);
        u->n_readers = rq_arena_alloc(a, n + 1, sizeof *u->n_readers);
        u->kept = rq_arena_alloc(a, n + 1, sizeof *u->kept);
        if (!u->maker || !u->reader || !u->n_readers || !u->kept)
            return rq_plan_no_memory(b);
    }
    for (size_t i = 0; i < n; i++)
        u->maker[i] = u->reader[i] = -1, u->n_readers[i] = 0, u->kept[i] = b->p->forms[i].last == INT_MAX;
    for (int i = 0; i < b->p->n_taps; i++)
        for (int k = 0; k < RQ_N_FORMS; k++)
            u->kept[rq_form_id(b->p->taps[i].value, (rq_form_kind)k)] = true;
    for (int i = 0; i < b->seg->n_steps; i++) {
        const rq_step *s = &b->seg->steps[i];
        if (s->gone)
            continue;
        for (int k = 0; k < s->args.n_in; k++)
            if (s->in_form[k] >= 0)
                note_reader(u, b, s->in_form[k], i);
        for (int k = 0; k < s->args.n_out; k++)
            if (s->out_form[k] >= 0)
                u->maker[s->out_form[k]] = i;
        capture c = { u, b };
        if (s->kind == RQ_STEP_OP && rq_attr_any_body(s->args.node))
            rq_graph_each_capture(b->p->g, s->args.node, note_capture, &c);
    }
    return RQ_OK;
}

/* ---- what depends on what ---- */

typedef struct regions {
    rq_planner *b;
    rq_plan_uses uses;
    rq_arena tmp;  /* for one table */
    int32_t *root; /* [form] the codes whose element alone decides an element of this form: itself, others, or -1 */
    int32_t *near; /* [form] the same, but the nearest that is there anyway */
    bool *needed;  /* [form] */
    bool *marked;  /* [step] */
    void **of;     /* [form] its 256 elements, while one table is made */
} regions;

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

/* A known number, whose place does not matter. */
static bool is_number(const rq_planner *b, int32_t form)
{
    return b->p->forms[form].known && rq_tensor_count(&b->p->forms[form].t) == 1;
}

/* Does the step make element i from element i of its inputs and from numbers? */
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
            (s->mode != RQ_MODE_TABLE && !(flags & (RQ_OP_TABLE | RQ_OP_COMMUTES))))
            return false;
    } else if (s->kind != RQ_STEP_QUANTIZE && s->kind != RQ_STEP_DEQUANTIZE) {
        return false;
    }
    for (int i = 0; i < s->args.n_in; i++) {
        const int32_t x = s->in_form[i];
        if (x >= 0 && !is_number(b, x) &&
            (b->p->forms[x].known || !is_plain(b, x) || !rq_shape_equal(&b->p->forms[x].t.shape, &y->shape)))
            return false;
    }
    return true;
}

/* What all inputs that are no numbers depend on; -1: on different codes. */
static int32_t common(const regions *r, const rq_step *s, const int32_t *root)
{
    int32_t all = -1;
    for (int i = 0; i < s->args.n_in; i++) {
        const int32_t x = s->in_form[i];
        if (x < 0 || is_number(r->b, x))
            continue;
        if (root[x] < 0 || (all >= 0 && all != root[x]))
            return -1;
        all = root[x];
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
                    r->root[seg->steps[i].out_form[0]] != r->root[x])
                    return true;
                readers++;
            }
    return readers != r->uses.n_readers[x]; /* views */
}

static void find_roots(regions *r)
{
    const rq_segment *seg = r->b->seg;
    const size_t n = (size_t)r->b->p->g->n_values * RQ_N_FORMS;
    for (size_t i = 0; i < n; i++)
        r->root[i] = r->near[i] = is_code8(r->b, (int32_t)i) ? (int32_t)i : -1;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < seg->n_steps; i++) {
            const rq_step *s = &seg->steps[i];
            if (s->gone || !is_pointwise(r->b, s))
                continue;
            const int32_t y = s->out_form[0], from = common(r, s, pass ? r->near : r->root);
            if (pass == 0 && from >= 0)
                r->root[y] = from;
            else if (pass && r->root[y] >= 0 && r->root[y] != y && !(is_code8(r->b, y) && escapes(r, y)))
                r->near[y] = from >= 0 ? from : r->root[y];
        }
}

/* ---- 256 codes ---- */

/* The conversions, on codes of either order. */
static void convert(const rq_program *p, const rq_step *s, rq_tensor *y, const rq_tensor *x)
{
    const rq_qparams *q = rq_graph_qparams(p->g, s->value);
    const bool last = (s->kind == RQ_STEP_QUANTIZE ? s->out_form : s->in_form)[0] % RQ_N_FORMS == RQ_FORM_LAST;
    const uint8_t flip = last && q->dtype == RQ_DTYPE_S8 ? 0x80 : 0;
    uint8_t turned[256];
    if (s->kind == RQ_STEP_QUANTIZE) {
        rq_codes_from_reals(y, x, q, p->k);
        for (int i = 0; flip && i < 256; i++)
            y->u8[i] ^= flip;
        return;
    }
    rq_tensor codes = *x;
    if (flip) {
        for (int i = 0; i < 256; i++)
            turned[i] = x->u8[i] ^ flip;
        codes.data = turned;
        codes.dtype = q->dtype;
    }
    rq_codes_to_reals(y, &codes, q, p->k);
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
    const rq_shape all = rq_shape_of(1, (const int64_t[]) { 256 });
    const rq_program *p = r->b->p;
    const int n_in = s->args.n_in;
    const int32_t to = s->out_form[0];
    rq_tensor *t = rq_arena_alloc(&r->tmp, (size_t)n_in, sizeof *t);
    const rq_tensor **in = rq_arena_alloc(&r->tmp, (size_t)n_in, sizeof *in);
    r->of[to] = rq_arena_alloc(&r->tmp, 256, sizeof(float));
    if (!t || !in || !r->of[to])
        return rq_plan_no_memory(r->b);
    rq_tensor y = rq_tensor_view(
        s->kind == RQ_STEP_QUANTIZE ? rq_graph_qparams(p->g, s->value)->dtype : p->forms[to].t.dtype, &all, r->of[to]);
    for (int i = 0; i < n_in; i++) {
        const int32_t x = s->in_form[i];
        if (x < 0)
            continue;
        const rq_tensor *is = &p->forms[x].t;
        const bool number = is_number(r->b, x);
        const rq_shape one = rq_shape_of(is->shape.rank > 0, (const int64_t[]) { 1 });
        t[i] = rq_tensor_view(is->dtype, number ? &one : &all, number ? is->data : r->of[x]);
        in[i] = &t[i];
    }
    if (s->kind == RQ_STEP_OP)
        return operate(r->b, s, in, &y);
    convert(p, s, &y, in[0]);
    return RQ_OK;
}

/* table[i] = the code of `form` where the one of `root` is i. */
static rq_status make_table(regions *r, int32_t form, int32_t root, uint8_t table[256])
{
    const rq_segment *seg = r->b->seg;
    const int to = r->uses.maker[form];
    uint8_t codes[256];
    for (int i = 0; i < 256; i++)
        codes[i] = (uint8_t)i;
    r->of[root] = codes;
    memset(r->marked, 0, (size_t)seg->n_steps * sizeof *r->marked);
    r->marked[to] = true;
    int from = to;
    for (int i = to; i >= from; i--)
        for (int k = 0; r->marked[i] && k < seg->steps[i].args.n_in; k++) {
            const int32_t x = seg->steps[i].in_form[k];
            if (x < 0 || x == root || is_number(r->b, x))
                continue;
            r->marked[r->uses.maker[x]] = true;
            from = r->uses.maker[x] < from ? r->uses.maker[x] : from;
        }
    rq_status st = RQ_OK;
    for (int i = from; i <= to && !st; i++)
        if (r->marked[i])
            st = run_on_all(r, &seg->steps[i]);
    if (!st)
        memcpy(table, r->of[form], 256);
    rq_arena_release(&r->tmp);
    r->tmp = (rq_arena) { 0 };
    return st;
}

/* The step looks its output up in root from now on. */
static rq_status replace(regions *r, rq_step *s, int32_t root)
{
    rq_program *p = r->b->p;
    uint8_t table[256];
    const int32_t y = s->out_form[0];
    void *state;
    RQ_TRY(make_table(r, y, root, table));
    const rq_tensor **in = rq_arena_alloc(&r->b->seg->arena, 1, sizeof *in);
    rq_tensor **out = rq_arena_alloc(&r->b->seg->arena, 1, sizeof *out);
    int32_t *form = rq_arena_alloc(&r->b->seg->arena, 1, sizeof *form);
    if (!in || !out || !form || rq_int_table_from(table, &state))
        return rq_plan_no_memory(r->b);
    rq_plan_release_state(s);
    if (s->kind != RQ_STEP_OP)
        s->kind = RQ_STEP_TABLE;
    s->mode = RQ_MODE_TABLE;
    s->state = state;
    s->args.state = state;
    s->args.k = p->k;
    s->args.threads = p->threads;
    s->args.n_in = 1;
    s->args.in = in;
    s->args.out = out;
    s->in_form = form;
    form[0] = root;
    in[0] = &p->forms[root].t;
    out[0] = &p->forms[y].t;
    rq_plan_use_form(r->b, root, (int)(s - r->b->seg->steps));
    return RQ_OK;
}

/* ---- the whole ---- */

static void need(regions *r, int32_t form)
{
    for (; form >= 0; form = r->b->p->forms[form].view_of)
        r->needed[form] = true;
}

/* Is this a look-up in `root` already, or one element by element of a form in another order? */
static bool stays(const regions *r, const rq_step *s, int32_t root)
{
    const int32_t y = s->out_form[0];
    if (!is_code8(r->b, y) || root % RQ_N_FORMS != y % RQ_N_FORMS)
        return true;
    return s->mode == RQ_MODE_TABLE && s->in_form[0] == root;
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
        const int32_t y = s->args.n_out == 1 ? s->out_form[0] : -1, root = y >= 0 ? r->root[y] : -1;
        const int32_t near = root >= 0 && root != y ? common(r, s, r->near) : -1;
        const int32_t from = near >= 0 ? near : root;
        if (root >= 0 && root != y && !stays(r, s, from))
            RQ_TRY(replace(r, s, from));
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
