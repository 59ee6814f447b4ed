/* tests/ops/test_packs.c — packs: made once for everybody who shares the bytes, gone with the last who asked, shared with nobody where the bytes
 * are of a moment; two threads at once; every allocation failing. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "ops/packs.h"

enum { N = 100 };

static atomic_int made;

/* The bytes of what it is made of, each larger by `more`. */
typedef struct recipe {
    const uint8_t *of;
    uint8_t more;
} recipe;

static void fill(void *to, const void *arg)
{
    const recipe *r = arg;
    for (int i = 0; i < N; i++)
        ((uint8_t *)to)[i] = (uint8_t)(r->of[i] + r->more);
    atomic_fetch_add(&made, 1);
}

static const uint8_t *get(rq_packs *packs, const rq_tensor *t, const char *key, uint8_t more)
{
    const rq_op_args a = { .packs = packs };
    const recipe r = { t->u8, more };
    const void *out = NULL;
    assert_int_equal(rq_packs_get(&a, t, key, N, fill, &r, &out), RQ_OK);
    assert_int_equal((uintptr_t)out % 64, 0);
    for (int i = 0; i < N; i++)
        assert_int_equal(((const uint8_t *)out)[i], (uint8_t)(t->u8[i] + more));
    return out;
}

static rq_tensor codes(uint8_t first)
{
    rq_tensor t;
    const rq_shape s = rq_shape_of(1, (int64_t[]) { 2 * N });
    assert_int_equal(rq_tensor_create(&t, RQ_DTYPE_U8, &s, true), RQ_OK);
    for (int i = 0; i < 2 * N; i++)
        t.u8[i] = (uint8_t)(first + i);
    return t;
}

static void one_is_made_for_all_who_share_the_bytes(void **state)
{
    (void)state;
    const size_t before = rq_mem_live();
    rq_tensor t = codes(3), share;
    rq_tensor_share(&share, &t);
    const size_t bare = rq_mem_live();
    rq_packs a = { 0 }, b = { 0 };
    made = 0;
    const uint8_t *p = get(&a, &t, "plus one", 1);
    assert_ptr_equal(get(&a, &t, "plus one", 1), p); /* a new plan of the same program */
    assert_ptr_equal(get(&b, &share, "plus one", 1), p);
    assert_int_equal(made, 1);
    assert_int_equal(a.n, 1);
    assert_ptr_not_equal(get(&b, &share, "plus two", 2), p);
    rq_tensor part = t; /* begins elsewhere in the same bytes */
    part.u8 += N / 2;
    part.bytes = part.shape.dim[0] = N;
    assert_ptr_not_equal(get(&b, &part, "plus one", 1), p);
    assert_int_equal(made, 3);
    rq_packs_release(&a);
    assert_ptr_equal(get(&b, &t, "plus one", 1), p); /* b holds it still */
    rq_packs_release(&b);
    assert_true(rq_mem_live() <= bare + 256); /* the shelf alone */
    made = 0;
    get(&a, &t, "plus one", 1);
    assert_int_equal(made, 1);
    rq_tensor_release(&t);
    rq_tensor_release(&share);
    rq_packs_release(&a);
    assert_int_equal(rq_mem_live(), before);
}

static void bytes_of_a_moment_are_shared_with_nobody(void **state)
{
    (void)state;
    const size_t before = rq_mem_live();
    rq_tensor t = codes(0);
    uint8_t copy[2 * N];
    memcpy(copy, t.u8, sizeof copy);
    rq_packs a = { 0 };
    rq_tensor elsewhere = t, view = rq_tensor_view(RQ_DTYPE_U8, &t.shape, copy);
    elsewhere.u8 = copy; /* as a row does that splits a weight */
    made = 0;
    const uint8_t *p = get(&a, &elsewhere, "k", 0);
    copy[5] = 99;
    assert_ptr_not_equal(get(&a, &elsewhere, "k", 0), p);
    assert_ptr_not_equal(get(&a, &view, "k", 0), get(&a, &view, "k", 0));
    assert_int_equal(made, 4);
    assert_int_equal(p[5], 5);
    rq_packs_release(&a);
    rq_tensor_release(&t);
    assert_int_equal(rq_mem_live(), before);
}

static void a_program_keeps_what_it_would_find_again(void **state)
{
    (void)state;
    const size_t before = rq_mem_live();
    rq_tensor constant = codes(1), folded = codes(2);
    rq_packs program = { 0 }, plan = { 0 };
    made = 0;
    for (int i = 0; i < 3; i++) {
        const uint8_t *p = get(&plan, &constant, "k", 1);
        const uint8_t *q = get(&plan, &folded, "k", 1);
        rq_tensor_release(&folded);
        assert_int_equal(q[0], 3); /* until the plan goes */
        rq_packs_hand_on(&program, &plan);
        assert_int_equal(plan.n, 0);
        assert_int_equal(program.n, 1);
        assert_ptr_equal(get(&plan, &constant, "k", 1), p);
        folded = codes(2);
    }
    assert_int_equal(made, 1 + 3);
    rq_packs_release(&plan);
    rq_packs_release(&program);
    rq_tensor_release(&constant);
    rq_tensor_release(&folded);
    assert_int_equal(rq_mem_live(), before);
}

static void bytes_that_will_change_forget_what_was_made_of_them(void **state)
{
    (void)state;
    rq_tensor t = codes(1);
    rq_packs a = { 0 };
    const uint8_t *p = get(&a, &t, "k", 1);
    assert_int_equal(rq_tensor_unshare(&t), RQ_OK);
    t.u8[0] = 77;
    assert_int_equal(get(&a, &t, "k", 1)[0], 78);
    assert_int_equal(p[0], 2);
    rq_packs_release(&a);
    rq_tensor_release(&t);
}

/* ---- threads ---- */

typedef struct worker {
    pthread_t thread;
    rq_tensor t;
    const void *got[8];
} worker;

static void *ask(void *arg)
{
    worker *w = arg;
    for (int round = 0; round < 200; round++) {
        rq_packs packs = { 0 };
        for (int k = 0; k < 8; k++) {
            const rq_op_args a = { .packs = &packs };
            const recipe r = { w->t.u8, (uint8_t)k };
            char key[8];
            snprintf(key, sizeof key, "k%d", k);
            if (rq_packs_get(&a, &w->t, key, N, fill, &r, &w->got[k]) ||
                ((const uint8_t *)w->got[k])[7] != (uint8_t)(w->t.u8[7] + k))
                return "wrong";
        }
        rq_packs_release(&packs);
    }
    return NULL;
}

static void threads_share(void **state)
{
    (void)state;
    const size_t before = rq_mem_live();
    rq_tensor t = codes(9);
    rq_packs hold = { 0 };
    worker w[2];
    for (int with = 0; with < 2; with++) {
        made = 0;
        for (int k = 0; k < 8 && with; k++) {
            char key[8];
            snprintf(key, sizeof key, "k%d", k);
            get(&hold, &t, key, (uint8_t)k);
        }
        for (int i = 0; i < 2; i++) {
            rq_tensor_share(&w[i].t, &t);
            assert_int_equal(pthread_create(&w[i].thread, NULL, ask, &w[i]), 0);
        }
        for (int i = 0; i < 2; i++) {
            void *wrong;
            assert_int_equal(pthread_join(w[i].thread, &wrong), 0);
            assert_null(wrong);
            rq_tensor_release(&w[i].t);
        }
        if (with) {
            assert_int_equal(made, 8);
            assert_memory_equal(w[0].got, w[1].got, sizeof w[0].got);
        }
    }
    rq_packs_release(&hold);
    rq_tensor_release(&t);
    assert_int_equal(rq_mem_live(), before);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const size_t before = rq_mem_live();
    for (int sticky = 0; sticky < 2; sticky++)
        for (size_t n = 1;; n++) {
            rq_tensor t = codes(4);
            rq_packs a = { 0 }, program = { 0 };
            const rq_op_args args = { .packs = &a };
            const recipe r = { t.u8, 1 };
            const void *out[2] = { NULL, NULL };
            rq_mem_fail_after(n, sticky);
            const rq_status s = rq_packs_get(&args, &t, "one", N, fill, &r, &out[0]);
            const rq_status q = rq_packs_get(&args, &t, "two", N, fill, &r, &out[1]);
            rq_packs_hand_on(&program, &a);
            const size_t calls = rq_mem_fail_after(0, false);
            assert_true(s == RQ_OK ? out[0] != NULL : s == RQ_NO_MEMORY && !out[0]);
            assert_true(q == RQ_OK ? out[1] != NULL : q == RQ_NO_MEMORY && !out[1]);
            rq_packs_release(&program);
            rq_tensor_release(&t);
            assert_int_equal(rq_mem_live(), before);
            if (calls < n)
                break;
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_is_made_for_all_who_share_the_bytes),
        cmocka_unit_test(bytes_of_a_moment_are_shared_with_nobody),
        cmocka_unit_test(a_program_keeps_what_it_would_find_again),
        cmocka_unit_test(bytes_that_will_change_forget_what_was_made_of_them),
        cmocka_unit_test(threads_share),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
