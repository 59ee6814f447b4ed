/* cli/man.c — the man page, from the same rows as the parser and the help. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

/* Text with what roff would take for its own escaped. */
static void put(const char *s)
{
    for (bool start = true; *s; s++) {
        if (start && (*s == '.' || *s == '\''))
            fputs("\\&", stdout);
        if (*s == '-')
            fputs("\\-", stdout);
        else if (*s == '\\')
            fputs("\\e", stdout);
        else
            putchar(*s);
        start = *s == '\n';
    }
}

static void put_command(const cli_command *c)
{
    printf(".SS requant ");
    put(c->name);
    putchar(' ');
    put(c->synopsis);
    printf("\n.PP\n");
    put(c->about);
    putchar('\n');
    for (const cli_opt *o = c->opts; o->kind != CLI_END; o++) {
        printf(".TP\n.B ");
        if (o->letter)
            printf("\\-%c, ", o->letter);
        printf("\\-\\-");
        put(o->name);
        if (o->arg) {
            printf(" \\fI");
            put(o->arg);
            printf("\\fR");
        }
        putchar('\n');
        put(o->help);
        putchar('\n');
    }
}

void cli_print_man(const cli_command *const *commands)
{
    printf(".TH REQUANT 1 \"\" \"requant %s\" \"User Commands\"\n", rq_version());
    printf(".SH NAME\nrequant \\- quantize neural networks, and say what it cost\n");
    printf(".SH SYNOPSIS\n");
    for (int i = 0; commands[i]; i++) {
        printf("%s.B requant ", i ? ".br\n" : "");
        put(commands[i]->name);
        printf("\n");
        put(commands[i]->synopsis);
        printf("\n");
    }
    printf(".SH DESCRIPTION\nTurns a float model into an integer one, runs both, and reports what was lost and gained. "
           "Results go to standard output, progress and errors to standard error.\n");
    printf(".SH COMMANDS\n");
    for (int i = 0; commands[i]; i++)
        put_command(commands[i]);
    printf(".SH EXIT STATUS\n.TP\n0\ndone\n.TP\n1\nfailed\n.TP\n2\nusage\n.TP\n3\nthe verdict missed "
           "\\-\\-max\\-drop, or lint found what the runtime will refuse\n");
    printf(".SH ENVIRONMENT\n.TP\n.B RQ_CPU\nscalar, avx2, avxvnni, avx512, vnni or amx (neon, dotprod or i8mm on "
           "ARM): use no better instructions than "
           "these. A level that the machine lacks is an error.\n");
}
