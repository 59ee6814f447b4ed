/* The small parts everything stands on: buffers, cursors, random numbers, threads, files. */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/cpu.h"
#include "base/cursor.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/threads.h"

static void buf_grows_and_keeps_its_nul(void **state)
{
    rq_buf b = { 0 };
    for (int i = 0; i < 1000; i++)
        rq_buf_addf(&b, "%d,", i);
    assert_false(b.failed);
    assert_int_equal(b.size, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(strlen(b.data), b.size);
    assert_string_equal(b.data + b.size - 8, "998,999,");
    rq_buf_release(&b);
}

static void buf_fails_once_and_stays_failed(void **state)
{
    rq_buf b = { 0 };
    rq_buf_adds(&b, "first");
    rq_mem_fail_after(1, false);
    char big[200] = { 0 };
    rq_buf_add(&b, big, sizeof big);
    rq_mem_fail_after(0, false);
    assert_true(b.failed);
    rq_buf_adds(&b, "x");
    assert_string_equal(b.data, "first");
    rq_buf_release(&b);
}

static void varint_reads_what_fits_and_refuses_the_rest(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        rq_status want;
        uint64_t value;
    } cases[] = {
        { "\x00", 1, RQ_OK, 0 },
        { "\xac\x02", 2, RQ_OK, 300 }, /* the example of the protobuf documentation */
        { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10, RQ_OK, UINT64_MAX },
        { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10, RQ_BAD_FILE, 0 },     /* 65 bits */
        { "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 11, RQ_BAD_FILE, 0 }, /* 11 bytes */
        { "\xac", 1, RQ_BAD_FILE, 0 },
        { "", 0, RQ_BAD_FILE, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *exact = malloc(cases[i].n + 1); /* address sanitizer guards the end */
        memcpy(exact, cases[i].bytes, cases[i].n);
        rq_cursor c = { exact, exact + cases[i].n };
        uint64_t v = 0;
        assert_int_equal(rq_cursor_varint(&c, &v), cases[i].want);
        assert_true(v == cases[i].value);
        assert_true(cases[i].want != RQ_OK || c.p == c.end);
        free(exact);
    }
}

static void cursor_cannot_pass_its_end(void **state)
{
    uint8_t bytes[4] = { 1, 2, 3, 4 }, two[2];
    rq_cursor c = { bytes, bytes + 4 }, part;
    assert_int_equal(rq_cursor_part(&c, UINT64_MAX, &part), RQ_BAD_FILE);
    assert_int_equal(rq_cursor_part(&c, 3, &part), RQ_OK);
    assert_int_equal(rq_cursor_read(&c, two, 2), RQ_BAD_FILE);
    assert_int_equal(rq_cursor_read(&part, two, 2), RQ_OK);
    assert_int_equal(two[1], 2);
}

static void rng_matches_the_authors_code(void **state)
{
    /* state 1, 2, 3, 4: the first outputs published with xoshiro256** ports */
    rq_rng r = { { 1, 2, 3, 4 } };
    static const uint64_t want[] = { 11520, 0, 1509978240, 1215971899390074240 };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        assert_true(rq_rng_u64(&r) == want[i]);
    /* splitmix64 of seed 0 */
    rq_rng_seed(&r, 0);
    assert_true(r.s[0] == 0xe220a8397b1dcdafu);
    assert_true(r.s[1] == 0x6e789e6aa1b965f4u);
}

static void shuffle_is_a_permutation_and_below_stays_below(void **state)
{
    rq_rng r;
    rq_rng_seed(&r, 7);
    int64_t order[101];
    bool seen[101] = { false };
    rq_rng_shuffle(&r, order, 101);
    int moved = 0;
    for (int i = 0; i < 101; i++) {
        assert_false(seen[order[i]]);
        seen[order[i]] = true;
        moved += order[i] != i;
    }
    assert_true(moved > 80);
    for (int i = 0; i < 1000; i++) {
        assert_true(rq_rng_below(&r, 3) < 3);
        float f = rq_rng_f32(&r);
        assert_true(f >= 0 && f < 1);
    }
}

static void mark(void *arg, int64_t i)
{
    atomic_int *hits = arg;
    atomic_fetch_add(&hits[i], 1);
}

static void every_item_runs_once(void **state)
{
    static const int sizes[] = { 0, 1, 2, 3, 8 };
    enum { N = 1000 };
    for (int k = -1; k < 5; k++) {
        rq_threads *t = NULL;
        if (k >= 0)
            assert_int_equal(rq_threads_create(&t, sizes[k]), RQ_OK);
        assert_true(rq_threads_count(t) >= 1);
        atomic_int hits[N] = { 0 };
        rq_threads_for(t, N, mark, hits);
        rq_threads_for(t, 0, mark, hits);
        for (int i = 0; i < N; i++)
            assert_int_equal(atomic_load(&hits[i]), 1);
        rq_threads_destroy(t);
    }
    rq_threads *t = NULL;
    assert_int_equal(rq_threads_create(&t, -1), RQ_BAD_ARG);
    assert_null(t);
}

/* Short loops one after the other, and naps between some, so that workers come early, late and not at all. */
static void loops_follow_each_other(void **state)
{
    enum { N = 40 };
    for (int threads = 2; threads <= 5; threads++) {
        rq_threads *t = NULL;
        assert_int_equal(rq_threads_create(&t, threads), RQ_OK);
        for (int round = 0; round < 3000; round++) {
            atomic_int hits[N] = { 0 };
            const int n = round % N;
            rq_threads_for(t, n, mark, hits);
            for (int i = 0; i < N; i++)
                assert_int_equal(atomic_load(&hits[i]), i < n);
            if (round % 100 == 0)
                nanosleep(&(struct timespec) { 0, (round % 7) * 30 * 1000 }, NULL);
        }
        rq_threads_destroy(t);
    }
}

static void a_pool_without_memory(void **state)
{
    const size_t before = rq_mem_live();
    for (size_t n = 1; n < 10; n++) {
        rq_threads *t = NULL;
        rq_mem_fail_after(n, false);
        const rq_status st = rq_threads_create(&t, 3);
        rq_mem_fail_after(0, false);
        assert_true(st == RQ_OK ? t != NULL : st == RQ_NO_MEMORY && !t);
        rq_threads_destroy(t);
        assert_int_equal(rq_mem_live(), before);
    }
}

static double cpu_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static void an_idle_pool_uses_no_time(void **state)
{
    for (int threads = 2; threads <= 4;
         threads += 2) { /* as many as there are cores, or fewer; more than on a small machine */
        rq_threads *t = NULL;
        assert_int_equal(rq_threads_create(&t, threads), RQ_OK);
        atomic_int hits[64] = { 0 };
        rq_threads_for(t, 64, mark, hits);
        double before = cpu_seconds();
        struct timespec nap = { 0, 300 * 1000 * 1000 };
        nanosleep(&nap, NULL);
        assert_true(cpu_seconds() - before < 0.05);
        rq_threads_destroy(t);
    }
}

static void cpu_levels_are_ordered(void **state)
{
    unsigned flags, below = 0;
    for (int i = 0; rq_cpu_level(i, &flags); i++) {
        assert_int_equal(flags & below, below);
        below = flags & ~(unsigned)RQ_CPU_AVXVNNI; /* a branch of its own: AVX-512 does not have it */
    }
    rq_err err = { 0 };
    setenv("RQ_CPU", "scalar", 1);
    assert_int_equal(rq_cpu_pinned(&flags, &err), RQ_OK);
    assert_int_equal(flags, 0);
    setenv("RQ_CPU", "486", 1);
    assert_int_equal(rq_cpu_pinned(&flags, &err), RQ_BAD_ARG);
    assert_non_null(strstr(err.text, "scalar"));
    unsetenv("RQ_CPU");
    assert_int_equal(rq_cpu_pinned(&flags, &err), RQ_OK);
    assert_int_equal(flags, rq_cpu_detect());
    assert_true(rq_cpu_cores() >= 1);
}

static void fill_path(char *path, const char *name)
{
    sprintf(path, RQ_TEST_TMP "/base-%ld-%s", (long)getpid(), name);
}

static void a_file_is_written_whole_or_not_at_all(void **state)
{
    char path[512];
    fill_path(path, "whole");
    rq_err err = { 0 };
    assert_int_equal(rq_file_write_all(path, "old", 3, &err), RQ_OK);
    rq_file f;
    assert_int_equal(rq_file_create(&f, path, &err), RQ_OK);
    assert_int_equal(rq_file_write(&f, "newer", 5, &err), RQ_OK);
    rq_file_abandon(&f);
    rq_file_abandon(&f);
    rq_map m;
    assert_int_equal(rq_file_map(&m, path, &err), RQ_OK);
    assert_int_equal(m.size, 3);
    assert_memory_equal(m.data, "old", 3);
    /* the mapping keeps the old bytes while a new file takes the name */
    assert_int_equal(rq_file_write_all(path, "newer", 5, &err), RQ_OK);
    assert_memory_equal(m.data, "old", 3);
    rq_file_unmap(&m);
    assert_int_equal(rq_file_map(&m, path, &err), RQ_OK);
    assert_memory_equal(m.data, "newer", 5);
    rq_file_unmap(&m);

    char link_path[512], empty[512];
    fill_path(link_path, "link");
    fill_path(empty, "empty");
    assert_int_equal(symlink(path, link_path), 0);
    assert_true(rq_file_same(path, link_path));
    assert_false(rq_file_same(path, empty));
    assert_int_equal(rq_file_write_all(link_path, "x", 1, &err), RQ_OK); /* through the link */
    struct stat st;
    assert_int_equal(lstat(link_path, &st), 0);
    assert_true(S_ISLNK(st.st_mode));

    assert_int_equal(rq_file_write_all(empty, "", 0, &err), RQ_OK);
    assert_int_equal(rq_file_map(&m, empty, &err), RQ_OK);
    assert_non_null(m.data);
    assert_int_equal(m.size, 0);
    rq_file_unmap(&m);
    unlink(path);
    unlink(link_path);
    unlink(empty);
}

static void file_errors_name_the_path(void **state)
{
    rq_err err = { 0 };
    rq_map m;
    assert_int_equal(rq_file_map(&m, "/nonexistent/a", &err), RQ_IO);
    assert_non_null(strstr(err.text, "/nonexistent/a"));
    assert_int_equal(rq_file_map(&m, RQ_TEST_TMP, &err), RQ_IO);
    assert_non_null(strstr(err.text, "folder"));
    char pipe_path[512];
    fill_path(pipe_path, "pipe");
    assert_int_equal(mkfifo(pipe_path, 0600), 0); /* refused, not waited for */
    assert_int_equal(rq_file_map(&m, pipe_path, &err), RQ_IO);
    assert_non_null(strstr(err.text, "not a regular file"));
    unlink(pipe_path);
    assert_int_equal(rq_file_write_all("/nonexistent/a", "x", 1, &err), RQ_IO);
    assert_int_equal(rq_file_write_all(RQ_TEST_TMP, "x", 1, &err), RQ_IO);
    assert_int_equal(rq_file_write_all("/dev/null", "x", 1, &err), RQ_OK); /* written, not replaced */
    struct stat st;
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    char path[512];
    fill_path(path, "read-only");
    assert_int_equal(rq_file_write_all(path, "old", 3, &err), RQ_OK);
    assert_int_equal(chmod(path, 0444), 0);
    if (access(path, W_OK)) { /* root may write it all the same */
        assert_int_equal(rq_file_write_all(path, "x", 1, &err), RQ_IO);
        assert_int_equal(rq_file_check_output(path, &err), RQ_IO);
        assert_non_null(strstr(err.text, path));
    }
    unlink(path);
}

static void every_failed_allocation_leaves_nothing(void **state)
{
    char path[512];
    fill_path(path, "oom");
    size_t live = rq_mem_live();
    for (size_t n = 1; n < 10; n++) {
        rq_file f;
        rq_mem_fail_after(n, false);
        rq_status s = rq_file_create(&f, path, NULL);
        rq_mem_fail_after(0, false);
        rq_file_abandon(&f);
        assert_int_equal(rq_mem_live(), live);
        if (s == RQ_OK)
            return;
        assert_int_equal(s, RQ_NO_MEMORY);
    }
    fail();
}

static void a_signal_removes_what_is_half_written(void **state)
{
    char path[512], tmp[600];
    fill_path(path, "signal");
    int told[2];
    assert_int_equal(pipe(told), 0);
    pid_t child = fork();
    if (child == 0) {
        rq_file f;
        signal(SIGINT, SIG_DFL); /* a shell ignores it in what runs in the background */
        rq_file_guard_signals();
        if (rq_file_create(&f, path, NULL) || rq_file_write(&f, "half", 4, NULL))
            _exit(9);
        if (write(told[1], f.tmp, strlen(f.tmp) + 1) < 0)
            _exit(9);
        for (;;)
            pause();
    }
    assert_true(read(told[0], tmp, sizeof tmp) > 0);
    assert_int_equal(access(tmp, F_OK), 0);
    kill(child, SIGINT);
    int status = 0;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    assert_int_not_equal(access(tmp, F_OK), 0);
    assert_int_not_equal(access(path, F_OK), 0);
    close(told[0]);
    close(told[1]);
}

static void peak_memory_is_measured(void **state)
{
    double before = rq_file_peak_rss_mb();
    char *big = rq_mem_alloc(64 << 20, 1);
    memset(big, 1, 64 << 20);
    double after = rq_file_peak_rss_mb();
    rq_mem_free(big);
    assert_true(before > 0.5);
    assert_true(after - before > 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buf_grows_and_keeps_its_nul),
        cmocka_unit_test(buf_fails_once_and_stays_failed),
        cmocka_unit_test(varint_reads_what_fits_and_refuses_the_rest),
        cmocka_unit_test(cursor_cannot_pass_its_end),
        cmocka_unit_test(rng_matches_the_authors_code),
        cmocka_unit_test(shuffle_is_a_permutation_and_below_stays_below),
        cmocka_unit_test(every_item_runs_once),
        cmocka_unit_test(loops_follow_each_other),
        cmocka_unit_test(a_pool_without_memory),
        cmocka_unit_test(an_idle_pool_uses_no_time),
        cmocka_unit_test(cpu_levels_are_ordered),
        cmocka_unit_test(a_file_is_written_whole_or_not_at_all),
        cmocka_unit_test(file_errors_name_the_path),
        cmocka_unit_test(every_failed_allocation_leaves_nothing),
        cmocka_unit_test(a_signal_removes_what_is_half_written),
        cmocka_unit_test(peak_memory_is_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
