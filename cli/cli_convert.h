/* cli/cli_convert.h — what `requant convert` is told of inputs: --shape and --image as rq_coreml_input. */
#ifndef CLI_CONVERT_INPUT_H
#define CLI_CONVERT_INPUT_H

#include "cli.h"

typedef struct cli_inputs {
    rq_coreml_input *at; /* [n] */
    int n;
    char *labels;       /* text of the file */
    const char **label; /* [n_labels] in it */
    int n_labels;
} cli_inputs;

/* CLI_OK, or CLI_USAGE or CLI_FAILED after a sentence. cli_inputs_release gives back what is there, also then. */
int cli_inputs_parse(cli_inputs *in, const rq_graph *g, const cli_command *c, const cli_list *shapes,
                     const cli_list *images);
/* One name a line. */
rq_status cli_inputs_labels(cli_inputs *in, const char *path, rq_err *err);
void cli_inputs_release(cli_inputs *in);

#endif
