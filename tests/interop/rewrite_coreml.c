/* rewrite_coreml.c — rewrite_coreml LIST: a job per line, `JOB IN OUT`: read the Core ML package IN and write it to OUT
 *   copy     as it was
 *   change   with a line of metadata more
 *   weights  with every weight made new, so that the weight file is written again from its beginning
 *   image    IN is not read: a classifier of images that is made here (image.h)
 * Prints a line per job, "ok" or why not; exit 0 when the list could be read.
 * For tests/interop/coreml.py, which loads what comes out with coremltools. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/coreml.h"
#include "interop/image.h"

static void renew(rq_coreml *m, rq_mil_value **v)
{
    rq_milblob blob;
    if (!*v || (*v)->kind != RQ_MIL_BLOB || rq_coreml_blob(m, &blob, *v, NULL))
        return;
    rq_mil_value *made = rq_mil_blob(&m->program, (*v)->type, blob.data);
    if (made)
        *v = made;
}

static void renew_block(rq_coreml *m, rq_mil_block *b)
{
    for (int i = 0; i < b->n_ops; i++) {
        rq_mil_op *op = b->ops[i];
        for (int k = 0; k < op->n_attrs; k++)
            renew(m, &op->attrs[k].value);
        for (int k = 0; k < op->n_args; k++)
            for (int j = 0; j < op->args[k].n; j++)
                renew(m, &op->args[k].binding[j].value);
        for (int k = 0; k < op->n_blocks; k++)
            renew_block(m, op->blocks[k]);
    }
}

static rq_status job(const char *what, const char *in, const char *out, rq_err *err)
{
    rq_coreml *m = NULL;
    rq_status st = strcmp(what, "image") == 0 ? image_model(&m, err) : rq_coreml_open(&m, in, err);
    if (!st && strcmp(what, "change") == 0 && !rq_coreml_set_metadata(m, "requant.test", "changed"))
        st = rq_fail(err, RQ_NO_MEMORY, "not enough memory");
    for (int i = 0; !st && strcmp(what, "weights") == 0 && i < m->program.n_functions; i++)
        renew_block(m, m->program.functions[i]->block);
    if (!st)
        st = rq_coreml_save(m, out, err);
    rq_coreml_close(m);
    return st;
}

int main(int argc, char **argv)
{
    char what[16], in[2048], out[2048];
    FILE *list = argc == 2 ? fopen(argv[1], "r") : NULL;
    if (!list) {
        fprintf(stderr, "usage: rewrite_coreml LIST\n");
        return 2;
    }
    while (fscanf(list, "%15s %2047s %2047s", what, in, out) == 3) {
        rq_err err = { 0 };
        puts(job(what, in, out, &err) ? err.text : "ok");
    }
    fclose(list);
    return 0;
}
