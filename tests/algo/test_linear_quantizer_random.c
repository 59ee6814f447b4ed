/* Where fake-quantizers stand in 200 random networks under random configs, as Core ML Tools 9 has them (tests/golden/coreml_config/places.txt, made by
 * make_places.py): kinds, sharing, widths and axes of weights, with `compat`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "linear_quantizer_nets.h"

enum { MOST_VALUES = 32 };

/* Values by the names of the file. */
typedef struct built {
    net t;
    const char *name[MOST_VALUES], *value[MOST_VALUES];
    int n;
} built;

static const char *value_of(const built *b, const char *name)
{
    for (int i = 0; i < b->n; i++)
        if (!strcmp(b->name[i], name))
            return b->value[i];
    fail_msg("no value '%s'", name);
    return NULL;
}

/* "value op module inputs... channels" */
static void add(built *b, char *text)
{
    char *word[8] = { NULL }, *rest = NULL;
    int n = 0;
    for (char *w = strtok_r(text, " ", &rest); w && n < 8; w = strtok_r(NULL, " ", &rest))
        word[n++] = w;
    assert_true(n >= 5);
    net *t = &b->t;
    const char *op = word[1], *module = strcmp(word[2], "-") ? word[2] : "", *x = value_of(b, word[3]),
               *second = n == 6 ? value_of(b, word[4]) : NULL, *y;
    const int64_t channels = atoi(word[n - 1]);
    if (!strcmp(op, "conv") || !strcmp(op, "deconv"))
        y = (op[0] == 'c' ? net_conv : net_deconv)(t, module, x, channels, 4, 3, 1);
    else if (!strcmp(op, "norm"))
        y = net_norm(t, module, x, channels);
    else if (!strcmp(op, "pool"))
        y = net_pool(t, module, x, 1);
    else if (!strcmp(op, "cat"))
        y = net_cat(t, x, second);
    else if (second)
        y = net_pair(t, op[0] == 'a' ? "Add" : op[0] == 'm' ? "Mul" : "Sub", "", x, second);
    else if (!strcmp(op, "drop") || !strcmp(op, "id") || !strcmp(op, "abs"))
        y = net_call(t, op[0] == 'd' ? "Dropout" : op[0] == 'i' ? "Identity" : "Abs", module, x);
    else
        y = net_act(t, op, module, x);
    assert_true(b->n < MOST_VALUES);
    b->name[b->n] = word[0];
    b->value[b->n++] = y;
}

/* The weights as the file lists them: in the order of "m<number>". */
static void weights_of(const rq_linear_quantizer *q, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int m = 0; m < MOST_VALUES; m++) {
        char name[64];
        snprintf(name, sizeof name, "m%d.weight_fake_quant", m);
        for (int i = 0; i < q->n_fakes; i++)
            if (!strcmp(q->names[i], name))
                used += (size_t)snprintf(out + used, size - used, "%sm%d:%d:%d", used ? " " : "", m,
                                         rq_qtype_width(&q->fake_cfgs[i].observer.type), q->fake_cfgs[i].observer.axis);
    }
}

static void places_are_core_mls(void **state)
{
    (void)state;
    const char *other = getenv("RQ_PLACES"); /* another file of make_places.py */
    FILE *f = fopen(other ? other : "tests/golden/coreml_config/places.txt", "r");
    assert_non_null(f);
    static char line[8192], copy[8192], config[8300];
    int lines = 0, wrong = 0;
    for (; fgets(line, sizeof line, f); lines++) {
        line[strcspn(line, "\n")] = '\0';
        strcpy(copy, line);
        char *field[5] = { line }, *rest = NULL;
        for (int i = 1; i < 5; i++) {
            field[i] = strchr(field[i - 1], '\t');
            assert_non_null(field[i]);
            *field[i]++ = '\0';
        }
        static built b;
        net_begin(&b.t, 4, (const int64_t[]) { 1, 4, 5, 5 });
        b.n = 1;
        b.name[0] = b.value[0] = "x";
        char *ops[MOST_VALUES];
        int n = 0;
        for (char *o = strtok_r(field[1], ";", &rest); o && n < MOST_VALUES; o = strtok_r(NULL, ";", &rest))
            ops[n++] = o;
        for (int i = 0; i < n; i++)
            add(&b, ops[i]);
        for (char *o = strtok_r(field[2], " ", &rest); o; o = strtok_r(NULL, " ", &rest))
            assert_int_equal(rq_edit_add_output(b.t.g, value_of(&b, o), &b.t.err), RQ_OK);
        assert_int_equal(rq_edit_check(b.t.g, &b.t.err), RQ_OK);
        snprintf(config, sizeof config, "{\"compat\": true, %s", field[0] + 1);
        char got[128], weights[512];
        rq_linear_quantizer *q = net_prepare(b.t.g, config);
        weights_of(q, weights, sizeof weights);
        if (strcmp(net_letters(q, got), field[3]) != 0 || strcmp(weights, field[4]) != 0) {
            print_error("line %d: got %s %s, there %s %s\n  %s\n", lines + 1, got, weights, field[3], field[4], copy);
            wrong++;
        }
        rq_linear_quantizer_destroy(q);
    }
    fclose(f);
    assert_true(other || lines >= 200);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_are_core_mls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
