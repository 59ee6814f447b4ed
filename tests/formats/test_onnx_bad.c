/* tests/formats/test_onnx_bad.c — damaged and hostile files: an error that names the file and the place, no crash, no
 * large allocation, nothing read outside the model's folder, nothing left behind. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "formats/onnx.h"
#include "formats/pb.h"

#define DIR_ RQ_TEST_TMP "/external"
#define SMALL "tests/golden/onnx/bad_models/valid_control.onnx"

static rq_status load(const void *data, size_t n, rq_err *err)
{
    rq_graph *g;
    *err = (rq_err) { 0 };
    rq_status st = rq_load_memory(&g, data, n, err);
    if (!st)
        rq_graph_destroy(g);
    else if (!err->text[0])
        fail_msg("an error without a sentence");
    return st;
}

static void bad_models_end_in_sentences(void **state)
{
    (void)state;
    const size_t live = rq_mem_live();
    DIR *d = opendir("tests/golden/onnx/bad_models");
    assert_non_null(d);
    int refused = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char path[512];
        const size_t n = strlen(e->d_name);
        snprintf(path, sizeof path, "tests/golden/onnx/bad_models/%s", e->d_name);
        if (n < 5 || strcmp(e->d_name + n - 5, ".onnx") != 0)
            continue;
        rq_err err = { 0 };
        rq_graph *g;
        if (rq_load(&g, path, &err)) {
            if (strncmp(err.text, path, strlen(path)) != 0 || strlen(err.text) < strlen(path) + 8)
                fail_msg("'%s' does not say which file or what is wrong", err.text);
            refused++;
        } else {
            rq_graph_destroy(g);
        }
        assert_int_equal(rq_mem_live(), live);
    }
    closedir(d);
    assert_true(refused >= 80);
    rq_err err;
    rq_graph *g;
    assert_int_not_equal(rq_load(&g, "tests/golden/onnx/bad_models/nested_if_deep.onnx", &err), RQ_OK);
    assert_non_null(strstr(err.text, "nested more than 100 deep")); /* by the scan, before anything recurses */
}

/* Cut off at every byte, and every byte replaced: a model of 563 bytes may not take more than a few MiB. */
static void damage_anywhere_is_survived(void **state)
{
    (void)state;
    rq_map map;
    rq_err err;
    assert_int_equal(rq_file_map(&map, SMALL, NULL), RQ_OK);
    uint8_t *copy = malloc(map.size);
    const size_t live = rq_mem_live();
    for (size_t n = 0; n < map.size; n++) {
        uint8_t *cut = malloc(n + !n); /* exact size: a sanitizer guards the end */
        memcpy(cut, map.data, n);
        assert_int_not_equal(load(cut, n, &err), RQ_OK);
        free(cut);
    }
    static const uint8_t flips[] = { 0x01, 0x02, 0x08, 0x40, 0x80, 0xff, 0x7f };
    for (size_t i = 0; i < map.size; i++)
        for (size_t k = 0; k < sizeof flips; k++) {
            memcpy(copy, map.data, map.size);
            copy[i] ^= flips[k];
            load(copy, map.size, &err);
        }
    free(copy);
    rq_file_unmap(&map);
    assert_int_equal(rq_mem_live(), live);
    assert_true(rq_mem_peak() < (size_t)256 << 20);
}

/* A million empty nodes, inputs or initializers are 2 MB in the file and would be hundreds in memory. */
static void small_files_cannot_ask_for_much(void **state)
{
    (void)state;
    static const uint8_t tags[] = { 0x0a /* node */, 0x2a /* initializer */, 0x5a /* input */, 0x7a /* sparse */ };
    const size_t n = 2000000, before = rq_mem_live();
    uint8_t *graph = malloc(n + 32);
    for (size_t k = 0; k < sizeof tags; k++) {
        pb head = { .n = 0 };
        pb_int(&head, 1, 8);
        pb_varint(&head, 7 << 3 | 2);
        pb_varint(&head, n);
        memcpy(graph, head.b, head.n);
        for (size_t i = 0; i < n; i += 2) {
            graph[head.n + i] = tags[k];
            graph[head.n + i + 1] = 0;
        }
        rq_err err;
        assert_int_not_equal(load(graph, head.n + n, &err), RQ_OK);
        assert_int_equal(rq_mem_live(), before);
    }
    free(graph);
    assert_true(rq_mem_peak() < (size_t)180 << 20);
}

/* Functions that call each other twice would double at every level. */
static void functions_cannot_explode(void **state)
{
    (void)state;
    static pb m, f, g;
    m.n = g.n = 0;
    char name[8], next[8];
    pb import = { .n = 0 }, own = { .n = 0 }, node, x = pb_value("x", 4, 0), y = pb_value("y", 4, 0);
    pb_str(&import, 1, "");
    pb_int(&import, 2, 17);
    pb_str(&own, 1, "my");
    pb_int(&own, 2, 1);
    node = pb_node("F0", "x", NULL, "y");
    pb_str(&node, 7, "my");
    pb_msg(&g, 1, &node);
    pb_msg(&g, 11, &x);
    pb_msg(&g, 12, &y);
    m = pb_model(&g, 8, 17);
    pb_msg(&m, 8, &own);
    for (int i = 0; i < 30; i++) {
        f.n = 0;
        snprintf(name, sizeof name, "F%d", i);
        snprintf(next, sizeof next, i < 29 ? "F%d" : "Relu", i + 1);
        pb_str(&f, 1, name);
        pb_str(&f, 4, "x");
        pb_str(&f, 5, "y");
        node = pb_node(next, "x", NULL, "t");
        if (i < 29)
            pb_str(&node, 7, "my");
        pb_msg(&f, 7, &node);
        node = pb_node(next, "t", NULL, "y");
        if (i < 29)
            pb_str(&node, 7, "my");
        pb_msg(&f, 7, &node);
        pb_msg(&f, 9, &import);
        pb_str(&f, 10, "my");
        pb_msg(&m, 25, &f);
    }
    rq_err err;
    assert_int_equal(load(m.b, m.n, &err), RQ_BAD_FILE);
    assert_non_null(strstr(err.text, "functions"));
}

/* ---- external data ---- */

static void write_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static rq_status load_external(const char *location, const char *offset, const char *length, float *first, rq_err *err)
{
    pb g = { .n = 0 }, t = { .n = 0 }, node = pb_node("Add", "x", "w", "y"), x = pb_value("x", 4, 0),
       y = pb_value("y", 4, 0);
    pb_int(&t, 1, 4);
    pb_int(&t, 2, 1);
    pb_str(&t, 8, "w");
    pb_entry(&t, 13, "location", location);
    if (offset)
        pb_entry(&t, 13, "offset", offset);
    if (length)
        pb_entry(&t, 13, "length", length);
    pb_int(&t, 14, 1);
    pb_msg(&g, 1, &node);
    pb_msg(&g, 5, &t);
    pb_msg(&g, 11, &x);
    pb_msg(&g, 12, &y);
    pb m = pb_model(&g, 8, 17);
    write_file(DIR_ "/model/m.onnx", m.b, m.n);
    rq_graph *read;
    *err = (rq_err) { 0 };
    rq_status st = rq_load(&read, DIR_ "/model/m.onnx", err);
    if (!st) {
        *first = read->values[rq_graph_find(read, "w")].constant.f32[0];
        rq_graph_destroy(read);
    }
    return st;
}

static void external_data_stays_in_the_folder(void **state)
{
    (void)state;
    static const float data[6] = { 1, 2, 3, 4, 5, 6 };
    const size_t live = rq_mem_live();
    mkdir(DIR_, 0777);
    mkdir(DIR_ "/model", 0777);
    mkdir(DIR_ "/model/sub", 0777);
    write_file(DIR_ "/secret.bin", data, sizeof data);
    write_file(DIR_ "/model/w.bin", data, sizeof data);
    write_file(DIR_ "/model/a..b.bin", data, sizeof data);
    write_file(DIR_ "/model/sub/w.bin", data, sizeof data);
    unlink(DIR_ "/model/link.bin");
    unlink(DIR_ "/model/linked");
    unlink(DIR_ "/model/pipe");
    assert_int_equal(symlink("w.bin", DIR_ "/model/link.bin"), 0);
    assert_int_equal(symlink("..", DIR_ "/model/linked"), 0);
    assert_int_equal(mkfifo(DIR_ "/model/pipe", 0666), 0);
    static const struct {
        const char *location, *offset, *length;
        rq_status st;
        float first;
    } cases[] = {
        { "w.bin", NULL, NULL, RQ_OK, 1 },
        { "./w.bin", NULL, "16", RQ_OK, 1 },
        { "a..b.bin", NULL, NULL, RQ_OK, 1 },
        { "sub//w.bin", "4", "16", RQ_OK, 2 },
        { "sub/../w.bin", "8", NULL, RQ_OK, 3 },
        { "nowhere/../w.bin", NULL, NULL, RQ_OK, 1 }, /* resolved as text */
        { "../secret.bin", NULL, NULL, RQ_BAD_FILE, 0 },
        { "sub/../../secret.bin", NULL, NULL, RQ_BAD_FILE, 0 },
        { "../model/w.bin", NULL, NULL, RQ_BAD_FILE, 0 },
        { "linked/secret.bin", NULL, NULL, RQ_BAD_FILE, 0 },
        { "linked/model/w.bin", NULL, NULL, RQ_BAD_FILE, 0 },
        { "link.bin", NULL, NULL, RQ_BAD_FILE, 0 },
        { "pipe", NULL, NULL, RQ_BAD_FILE, 0 },
        { "sub", NULL, NULL, RQ_BAD_FILE, 0 },
        { ".", NULL, NULL, RQ_BAD_FILE, 0 },
        { "", NULL, NULL, RQ_BAD_FILE, 0 },
        { "/etc/hostname", NULL, NULL, RQ_BAD_FILE, 0 },
        { "C:/w.bin", NULL, NULL, RQ_BAD_FILE, 0 },
        { "\\\\host\\w.bin", NULL, NULL, RQ_BAD_FILE, 0 },
        { "..\\secret.bin", NULL, NULL, RQ_BAD_FILE, 0 },
        { "nowhere.bin", NULL, NULL, RQ_IO, 0 },
        { "w.bin/x", NULL, NULL, RQ_BAD_FILE, 0 },
        { "w.bin", "12", NULL, RQ_BAD_FILE, 0 },
        { "w.bin", "-4", NULL, RQ_BAD_FILE, 0 },
        { "w.bin", " 4", NULL, RQ_BAD_FILE, 0 },
        { "w.bin", "", NULL, RQ_BAD_FILE, 0 },
        { "w.bin", "0x4", NULL, RQ_BAD_FILE, 0 },
        { "w.bin", "18446744073709551615", NULL, RQ_BAD_FILE, 0 },
        { "w.bin", "9223372036854775807", NULL, RQ_BAD_FILE, 0 },
        { "w.bin", "9223372036854775800", NULL, RQ_BAD_FILE, 0 },
        { "w.bin", NULL, "15", RQ_BAD_FILE, 0 },
        { "w.bin", NULL, "20", RQ_BAD_FILE, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rq_err err;
        float first = 0;
        rq_status st = load_external(cases[i].location, cases[i].offset, cases[i].length, &first, &err);
        if (st != cases[i].st || (!st && first != cases[i].first))
            fail_msg("location '%s' offset %s length %s: %s, %s", cases[i].location, cases[i].offset, cases[i].length,
                     rq_status_text(st), err.text);
        if (st && (!strstr(err.text, "m.onnx") || !strstr(err.text, "'w'")))
            fail_msg("'%s' does not name file and tensor", err.text);
    }
    /* not aligned for f32: copied */
    rq_err err;
    float first = 0;
    assert_int_equal(load_external("w.bin", "2", NULL, &first, &err), RQ_OK);
    assert_int_equal(rq_mem_live(), live);
}

static void memory_can_run_out_anywhere(void **state)
{
    (void)state;
    static const char *const models[] = { SMALL, "models/digits-uneven.onnx",
                                          "tests/golden/onnx/static_quant/transformer_qdq_u8s8.onnx" };
    rq_err err;
    rq_graph *g;
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        const size_t live = rq_mem_live();
        rq_mem_fail_after(0, false);
        if (access(models[m], R_OK))
            continue;
        assert_int_equal(rq_load(&g, models[m], &err), RQ_OK);
        rq_graph_destroy(g);
        const size_t calls = rq_mem_fail_after(0, false), step = 1 + calls / 400;
        assert_true(calls > 10);
        for (size_t n = 1; n <= calls; n += n < 100 ? 1 : step)
            for (int sticky = 0; sticky < 2; sticky++) {
                err = (rq_err) { 0 };
                rq_mem_fail_after(n, sticky);
                rq_status st = rq_load(&g, models[m], &err);
                rq_mem_fail_after(0, false);
                if (!st)
                    rq_graph_destroy(g);
                else if (st != RQ_NO_MEMORY || !strstr(err.text, "memory"))
                    fail_msg("allocation %zu of %s: %s, '%s'", n, models[m], rq_status_text(st), err.text);
                assert_int_equal(rq_mem_live(), live);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_models_end_in_sentences),       cmocka_unit_test(damage_anywhere_is_survived),
        cmocka_unit_test(small_files_cannot_ask_for_much),   cmocka_unit_test(functions_cannot_explode),
        cmocka_unit_test(external_data_stays_in_the_folder), cmocka_unit_test(memory_can_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
