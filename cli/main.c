/* requant — the program: a table of commands. Everything it does goes through <requant/...>, so whatever the
 * program can do, yours can. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const cli_command *const commands[] = {
    &cmd_quantize, &cmd_train, &cmd_qat,   &cmd_calibrate, &cmd_run, &cmd_eval,     &cmd_compare,
    &cmd_convert,  &cmd_lint,  &cmd_bench, &cmd_info,      &cmd_ops, &cmd_qconfigs, NULL,
};

static void print_usage(FILE *to)
{
    fprintf(to, "requant %s: a float model and some samples in, a verified int8 model out\n\n", rq_version());
    for (int i = 0; commands[i]; i++)
        fprintf(to, "  requant %-9s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(to, "\n`requant COMMAND --help` says more; `requant --version` what it is made of\n");
}

static const cli_command *find_command(const char *name)
{
    for (int i = 0; commands[i]; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static int unknown_command(const char *name)
{
    const char *names[sizeof commands / sizeof commands[0]];
    int n = 0;
    for (; commands[n]; n++)
        names[n] = commands[n]->name;
    const char *near = cli_nearest(name, names, n);
    fprintf(stderr, "requant: there is no command '%s'", name);
    if (near)
        fprintf(stderr, "; did you mean '%s'?", near);
    fprintf(stderr, "\n`requant --help` lists them\n");
    return CLI_USAGE;
}

static int run_command(const cli_command *c, int argc, char **argv)
{
    void *args = calloc(1, c->args_size);
    if (!args) {
        fprintf(stderr, "requant: out of memory\n");
        return CLI_FAILED;
    }
    if (c->defaults)
        c->defaults(args);
    int rc = cli_parse(c, argc, argv, args);
    if (rc == CLI_OK) {
        if (((cli_common *)args)->help)
            cli_print_help(c);
        else
            rc = c->run(args);
    }
    cli_release(c, args);
    free(args);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = CLI_OK;
    const char *word = argc > 1 ? argv[1] : NULL;
    rq_file_guard_signals();
    if (!word) {
        print_usage(stderr);
        return CLI_USAGE;
    }
    if (strcmp(word, "help") == 0 && argc > 2) { /* requant help eval */
        const cli_command *c = find_command(argv[2]);
        if (!c)
            return unknown_command(argv[2]);
        cli_print_help(c);
    } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        print_usage(stdout);
    } else if (strcmp(word, "--version") == 0) {
        rq_version_print(stdout);
    } else if (strcmp(word, "--man") == 0) { /* for the build: makes requant.1 */
        cli_print_man(commands);
    } else {
        const cli_command *c = find_command(word);
        if (!c)
            return unknown_command(word);
        rc = run_command(c, argc - 2, argv + 2);
    }
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "requant: cannot write to standard output\n");
        return rc ? rc : CLI_FAILED;
    }
    return rc;
}
