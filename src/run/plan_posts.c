/* run/plan_posts.c — what follows a product and needs nothing but its codes is done to the bytes it has just written (rq_op_args.post): a table, the sum
 * with a tensor that is there already, and what follows those. The step that did it is left out; the bits are the same. */
#include <assert.h>
#include <string.h>

#include "ops/int_ops.h"
#include "run/planner.h"

enum { MOST = 4 }; /* of one product */

/* Codes of a byte that lie as those of x do, as an operator's do that reads x and makes them. */
static bool goes_with(const rq_planner *b, int32_t x, int32_t form)
{
    const rq_form *f = &b->p->forms[form];
    return f->exists && rq_int_is_byte(f->t.dtype) && form % RQ_N_FORMS == x % RQ_N_FORMS;
}

static bool is_alike(const rq_planner *b, int32_t x, int32_t y)
{
    return rq_shape_equal(&b->p->forms[x].t.shape, &b->p->forms[y].t.shape);
}

/* What step s, the only reader of x, does to it, as a post of the step at `to`; other: the form of a second operand, or -1. */
static bool as_post(const rq_planner *b, const rq_plan_uses *u, const rq_step *s, int32_t x, int to, rq_post *post,
                    int32_t *other)
{
    *other = -1;
    *post = (rq_post) { .kind = RQ_POST_TABLE };
    if (s->mode == RQ_MODE_TABLE) {
        post->table = rq_int_table_bytes(s->state);
        assert(!post->table || (s->in_form[0] == x && goes_with(b, x, s->out_form[0])));
        return post->table != NULL;
    }
    if (s->mode != RQ_MODE_INT || !rq_int_add_is_plain(&s->args, &post->add))
        return false;
    post->kind = RQ_POST_ADD;
    post->second = s->in_form[1] == x;
    *other = s->in_form[!post->second];
    assert(*other != x && goes_with(b, x, s->out_form[0])); /* x is read once */
    const int32_t owner = rq_plan_owner(b, *other);         /* who makes a view of it makes it */
    if (!rq_form_has_place(&b->p->forms[owner]) || u->maker[owner] >= to || !is_alike(b, x, *other))
        return false;
    assert(goes_with(b, x, *other) && is_alike(b, x, s->out_form[0]));
    return true;
}

/* Rows that can lie channels-last do posts there alone. */
static bool takes_posts(const rq_step *s)
{
    return s->mode == RQ_MODE_INT && s->row->flags & RQ_OP_POSTS && (!s->row->last || s->args.last);
}

/* Room for posts of s. */
static rq_status make_room(rq_planner *b, rq_step *s)
{
    if (s->args.post)
        return RQ_OK;
    s->args.post = rq_arena_alloc(&b->seg->arena, MOST, sizeof *s->args.post);
    s->other_form = rq_arena_alloc(&b->seg->arena, MOST, sizeof *s->other_form);
    return s->args.post && s->other_form ? RQ_OK : rq_plan_no_memory(b);
}

static rq_status take(rq_planner *b, rq_plan_uses *u, int at)
{
    rq_segment *seg = b->seg;
    rq_step *p = &seg->steps[at];
    for (int n = p->args.n_post; n < MOST; n++) {
        const int32_t x = p->out_form[0];
        rq_post post;
        int32_t other;
        if (u->kept[x] || u->n_readers[x] != 1)
            return RQ_OK;
        rq_step *s = &seg->steps[u->reader[x]];
        if (!as_post(b, u, s, x, at, &post, &other))
            return RQ_OK;
        RQ_TRY(make_room(b, p));
        const int32_t y = s->out_form[0];
        ((rq_post *)p->args.post)[n] = post;
        p->other_form[n] = other;
        p->args.n_post = n + 1;
        p->out_form[0] = y;
        ((rq_tensor **)p->args.out)[0] = &b->p->forms[y].t;
        b->p->forms[y].def = at;
        b->p->forms[x].exists = false;
        u->maker[y] = at;
        s->gone = true;
    }
    return RQ_OK;
}

rq_status rq_plan_posts(rq_planner *b, rq_arena *work)
{
    rq_plan_uses u = { 0 };
    RQ_TRY(rq_plan_count_uses(b, work, &u));
    for (int i = 0; i < b->seg->n_steps; i++)
        if (takes_posts(&b->seg->steps[i]))
            RQ_TRY(take(b, &u, i));
    return RQ_OK;
}

rq_status rq_plan_add_table(rq_planner *b, rq_step *s, const uint8_t table[256], bool *done)
{
    const int n = s->args.n_post;
    *done = false;
    if (s->mode == RQ_MODE_TABLE && rq_int_table_bytes(s->state)) {
        uint8_t both[256];
        for (int i = 0; i < 256; i++)
            both[i] = table[rq_int_table_bytes(s->state)[i]];
        rq_plan_release_state(s);
        if (rq_int_table_from(both, &(rq_int_tables) { .channels = 1 }, &s->state))
            return rq_plan_no_memory(b);
        s->args.state = s->state;
        *done = true;
        return RQ_OK;
    }
    if (!takes_posts(s) || n == MOST)
        return RQ_OK;
    uint8_t *kept = rq_arena_alloc(&b->seg->arena, 256, 1);
    if (!kept)
        return rq_plan_no_memory(b);
    RQ_TRY(make_room(b, s));
    memcpy(kept, table, 256);
    ((rq_post *)s->args.post)[n] = (rq_post) { .kind = RQ_POST_TABLE, .table = kept };
    s->other_form[n] = -1;
    s->args.n_post = n + 1;
    *done = true;
    return RQ_OK;
}

void rq_plan_bind_posts(rq_planner *b)
{
    for (int i = 0; i < b->seg->n_steps; i++) {
        rq_step *s = &b->seg->steps[i];
        rq_post *posts = (rq_post *)s->args.post;
        for (int k = 0; k < s->args.n_post; k++) {
            if (s->other_form[k] < 0)
                continue;
            const rq_form *other = &b->p->forms[s->other_form[k]];
            posts[k].other = other->t.data;
            posts[k].other_ld = other->ld ? other->ld : s->args.out_ld ? other->t.shape.dim[1] : 0;
        }
    }
}
