/* cli/cli.h — what a command is: a row with its words, its options, and a function. The help, the man page, the
 * parser and the list of `requant --help` all read these rows. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <requant/requant.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_MISSED = 3 }; /* exit codes */

typedef enum cli_kind {
    CLI_END,
    CLI_FLAG,   /* bool */
    CLI_STR,    /* const char * */
    CLI_IN,     /* const char *, a file or folder we read: no output may take its place */
    CLI_OUT,    /* const char *, a file we write: "-" means standard output */
    CLI_INT,    /* int64_t in lo..hi */
    CLI_NUM,    /* double in lo..hi */
    CLI_ENUM,   /* int: position in `words` */
    CLI_DIM,    /* cli_dims: NAME=N, repeated */
    CLI_LIST,   /* cli_list: repeated */
    CLI_HEADING /* help only: starts a group */
} cli_kind;

typedef struct cli_opt {
    cli_kind kind;
    char letter;      /* or 0 */
    const char *name; /* long, without dashes */
    const char *arg;  /* what the help calls its value */
    size_t to;        /* where it goes in the command's arguments: offsetof */
    const char *help;
    const char *words; /* CLI_ENUM: "a|b|c" */
    double lo, hi;     /* CLI_INT, CLI_NUM */
} cli_opt;

typedef struct cli_dims {
    rq_dim_value *items;
    int n;
} cli_dims;

typedef struct cli_list {
    const char **items; /* [n], then NULL; NULL when n is 0 */
    int n;
} cli_list;

/* The first member of every command's arguments. */
typedef struct cli_common {
    const char *operand[2];
    int n_operands;
    int64_t threads; /* 0: one per core */
    bool quiet, verbose, help;
    int64_t batch; /* 0: the model's own, else 16 */
    int products;  /* position in "own|onednn" */
    bool deterministic;
    int match; /* rq_match */
    cli_dims dims;
    const char *recipe_path;
    rq_recipe *recipe;
    const char **given; /* long names of the options on the command line; ends in NULL */
    int n_given;
} cli_common;

typedef struct cli_command {
    const char *name;
    const char *synopsis; /* after the name: "MODEL -d DATA -o OUT" */
    const char *summary;  /* one line */
    const char *about;    /* paragraphs of the help and the man page */
    int min_operands, max_operands;
    size_t args_size;             /* of the command's arguments, which begin with cli_common; zeroed */
    const cli_opt *opts;          /* ends in CLI_END */
    void (*defaults)(void *args); /* before parsing; NULL: all zero */
    int (*run)(void *args);
} cli_command;

extern const cli_command cmd_quantize, cmd_calibrate, cmd_run, cmd_eval, cmd_compare, cmd_convert, cmd_lint, cmd_bench,
    cmd_info, cmd_ops, cmd_qconfigs, cmd_train, cmd_qat;

/* ---- options that several commands have ---- */

#define CLI_PROFILES "ort-cpu-x64|ort-cpu-arm64|tensorrt|openvino|qnn" /* in the order of rq_profile */

#define CLI_ROWS_DATA_BUT(products_text)                                                                                    \
    { CLI_INT, 0, "batch", "N", offsetof(cli_common, batch), "samples at a time (default: the model's own, else 16)",       \
      NULL,    1, 1 << 20 },                                                                                                \
        { CLI_ENUM, 0, "products", "NAME", offsetof(cli_common, products), products_text, "own|onednn", 0, 0 },             \
        { CLI_FLAG,                                                                                                         \
          0,                                                                                                                \
          "deterministic",                                                                                                  \
          NULL,                                                                                                             \
          offsetof(cli_common, deterministic),                                                                              \
          "nothing that could differ from CPU to CPU: --products own, whatever else is said",                               \
          NULL,                                                                                                             \
          0,                                                                                                                \
          0 },                                                                                                              \
        { CLI_ENUM,                                                                                                         \
          0,                                                                                                                \
          "match",                                                                                                          \
          "ort|spec",                                                                                                       \
          offsetof(cli_common, match),                                                                                      \
          "where integers may round in two ways: as ONNX Runtime's kernels (default) or as ONNX defines it",                \
          "ort|spec",                                                                                                       \
          0,                                                                                                                \
          0 },                                                                                                              \
        { CLI_DIM, 0, "dim", "NAME=N", offsetof(cli_common, dims), "size of a dynamic axis; may be repeated", NULL, 0, 0 }, \
    {                                                                                                                       \
        CLI_IN, 0, "recipe", "FILE", offsetof(cli_common, recipe_path),                                                     \
            "YAML file of settings; its keys are long option names, what stands on the command line wins; its rules "       \
            "matter to quantize and calibrate only",                                                                        \
            NULL, 0, 0                                                                                                      \
    }
#define CLI_ROWS_DATA                                                                                                  \
    CLI_ROWS_DATA_BUT("float products: own, summed in one fixed order, the same bits on every CPU (default), or "      \
                      "onednn")
#define CLI_ROWS_COMMON                                                                                                  \
    { CLI_INT, 0, "threads", "N", offsetof(cli_common, threads), "threads (default: one per core)", NULL, 1, 512 },      \
        { CLI_FLAG, 'q', "quiet", NULL, offsetof(cli_common, quiet), "no progress, no table, no warnings", NULL, 0, 0 }, \
        { CLI_FLAG, 'v', "verbose", NULL, offsetof(cli_common, verbose), "say more; progress even without a terminal",   \
          NULL,     0,   0 },                                                                                            \
    {                                                                                                                    \
        CLI_FLAG, 'h', "help", NULL, offsetof(cli_common, help), "show this and exit", NULL, 0, 0                        \
    }

/* How ranges of activations are chosen: what quantize and calibrate have in common. */
typedef struct cli_ranges {
    rq_settings settings;
    int method, activations, compat, symmetric_ranges; /* positions in the words of their rows */
    int64_t bins, groups;
} cli_ranges;

/* Its rows, for arguments of type T with a cli_ranges f. */
#define CLI_ROWS_RANGES(T, f)                                                                                          \
    { CLI_ENUM,                                                                                                        \
      0,                                                                                                               \
      "method",                                                                                                        \
      "NAME",                                                                                                          \
      offsetof(T, f.method),                                                                                           \
      "how ranges are chosen: minmax, ema, percentile, entropy, mse or average",                                       \
      "minmax|ema|percentile|entropy|mse|average",                                                                     \
      0,                                                                                                               \
      0 },                                                                                                             \
        { CLI_NUM,                                                                                                     \
          0,                                                                                                           \
          "percentile",                                                                                                \
          "P",                                                                                                         \
          offsetof(T, f.settings.percentile),                                                                          \
          "share of values inside the range; means --method percentile unless another is named (default 99.99)",       \
          NULL,                                                                                                        \
          1e-6,                                                                                                        \
          100 },                                                                                                       \
        { CLI_NUM,                                                                                                     \
          0,                                                                                                           \
          "decay",                                                                                                     \
          "D",                                                                                                         \
          offsetof(T, f.settings.decay),                                                                               \
          "share of the old range each batch leaves, for --method ema (default 0.99)",                                 \
          NULL,                                                                                                        \
          0,                                                                                                           \
          0.999999999 },                                                                                               \
        { CLI_ENUM,                                                                                                    \
          0,                                                                                                           \
          "activations",                                                                                               \
          "TYPE",                                                                                                      \
          offsetof(T, f.activations),                                                                                  \
          "codes of activations: u8, s8, u16 or s16 (default u8)",                                                     \
          "u8|s8|u16|s16",                                                                                             \
          0,                                                                                                           \
          0 },                                                                                                         \
        { CLI_FLAG,                                                                                                    \
          0,                                                                                                           \
          "symmetric",                                                                                                 \
          NULL,                                                                                                        \
          offsetof(T, f.settings.symmetric_activations),                                                               \
          "activations: ranges around zero",                                                                           \
          NULL,                                                                                                        \
          0,                                                                                                           \
          0 },                                                                                                         \
        { CLI_ENUM,                                                                                                    \
          0,                                                                                                           \
          "symmetric-ranges",                                                                                          \
          "no|yes|auto",                                                                                               \
          offsetof(T, f.symmetric_ranges),                                                                             \
          "ranges around zero, whatever the codes are (default auto: as the codes are)",                               \
          "no|yes|auto",                                                                                               \
          0,                                                                                                           \
          0 },                                                                                                         \
        { CLI_ENUM,                                                                                                    \
          0,                                                                                                           \
          "compat",                                                                                                    \
          "none|onnxruntime",                                                                                          \
          offsetof(T, f.compat),                                                                                       \
          "onnxruntime: its quantizer's placement and ranges, number for number (then --method is minmax and "         \
          "--percentile "                                                                                              \
          "99.999 unless given)",                                                                                      \
          "none|onnxruntime",                                                                                          \
          0,                                                                                                           \
          0 },                                                                                                         \
        { CLI_INT, 0,  "bins", "N", offsetof(T, f.bins), "with --compat: bins of percentile (2048) and entropy (128)", \
          NULL,    16, 65536 },                                                                                        \
    {                                                                                                                  \
        CLI_INT, 0, "quantized-bins", "N", offsetof(T, f.groups), "with --compat: groups of entropy (128)", NULL, 2,   \
            65536                                                                                                      \
    }

/* ---- ranges.c ---- */
void cli_ranges_defaults(cli_ranges *r);
/* As if --activations had named d. */
void cli_ranges_activations(cli_ranges *r, rq_dtype d);
/* The settings: defaults, then the recipe's global keys, then the command line. */
rq_settings cli_ranges_settle(const cli_ranges *r, const cli_common *common);

/* ---- opts.c ---- */

/* Parse argv (after the command's name) into args; reads the recipe and lets its keys stand in for options not
 * given. CLI_OK; CLI_USAGE or CLI_FAILED after a sentence on stderr. args->help set: nothing else was checked. */
int cli_parse(const cli_command *c, int argc, char **argv, void *args);
/* Give back what parsing made. */
void cli_release(const cli_command *c, void *args);
/* Was this long option on the command line or in the recipe? */
bool cli_given(const cli_common *a, const char *name);
void cli_print_help(const cli_command *c);
/* The name in list[0..n) that `word` was most likely meant to be, or NULL. */
const char *cli_nearest(const char *word, const char *const *list, int n);
/* A usage mistake: the sentence, then where to read on. Returns CLI_USAGE. */
int cli_usage(const cli_command *c, const char *fmt, ...) RQ_PRINTF(2, 3);

/* ---- man.c ---- */

/* requant(1) as roff, from the rows. */
void cli_print_man(const cli_command *const *commands);

/* ---- common.c ---- */

/* "requant NAME: sentence" on stderr; returns CLI_FAILED. */
int cli_fail(const char *command, const rq_err *err);
/* Would writing to `path` (or its file of weights; NULL is fine) destroy weights that the model is read from? RQ_BAD_ARG. */
rq_status cli_spare_weights(const rq_graph *g, const char *model, const char *path, rq_err *err);
/* Bytes of a model on disk, external data included as far as the summary tells. */
int64_t cli_model_bytes(const char *path, const rq_graph *g);
/* rq_load, and the model's warnings on stderr unless --quiet. */
rq_status cli_load(rq_graph **out, const char *path, const cli_common *a, rq_err *err);
/* Open samples for g with the common options. */
rq_status cli_open_data(rq_dataset **out, const char *path, const rq_graph *g, const cli_common *a, rq_err *err);
/* Are float products oneDNN's? */
bool cli_onednn(const cli_common *a);
/* Is this where results go, so that no table may be printed there? */
bool cli_is_stdout(const char *path);

/* ---- quantize_coreml.c ---- */

/* What `requant quantize` was told, where a Core ML package becomes one. */
typedef struct cli_coreml_quantize {
    const cli_common *common;
    const char *data, *out, *json, *config;
    const char *eval, *output;
    int mode;           /* rq_mode, or CLI_MODE_ACTIVATIONS */
    int weights, block; /* positions in the words of --weights, --block-size */
    bool affine_weights, per_tensor, joint;
    bool unsigned_activations;
    int64_t weight_threshold, samples, seed;
    double max_drop; /* negative: not asked for */
    cli_list ops, nodes, except;
} cli_coreml_quantize;
enum { CLI_MODE_ACTIVATIONS = 3 }; /* of --mode, for packages only */
int cli_quantize_coreml(const cli_command *c, const cli_coreml_quantize *a);
/* The config that was given, or that our options mean; of activations, or of weights. *out is yours. */
rq_status cli_coreml_config(rq_coreml_config **out, const cli_coreml_quantize *a, bool activations, rq_err *err);
/* A report as text or as JSON, to give back with free; NULL: memory is out. */
char *cli_coreml_report(const rq_coreml_report *r, bool json, bool all);

/* ---- quantize_coreml_run.c ---- */

/* Activations, and weights behind them where the mode is static; judged. */
int cli_quantize_coreml_run(const cli_command *c, const cli_coreml_quantize *a);
/* Did the result keep what --max-drop allows? CLI_OK, or CLI_MISSED, said with the layers that harm most. */
int cli_quantize_verdict(const rq_report *r, double max_drop, const char *out);

/* ---- ends.c ---- */

typedef struct cli_ends {
    int inputs, outputs;    /* positions in "f32|u8|s8" */
    const char *mean, *std; /* "0.485,0.456,0.406" */
    double pixel;
} cli_ends;
/* CLI_OK and what becomes of the model's inputs and outputs; or CLI_USAGE after a sentence: it does not fit together. */
int cli_ends_settle(rq_ends *e, const cli_command *c, const cli_ends *a, int mode, const rq_settings *s,
                    const rq_recipe *recipe);

/* ---- trial.c ---- */

typedef struct cli_trial {
    char *path, *data; /* the model, and the file of weights that it may have */
} cli_trial;
/* Where to write what will be `out` if it is good enough; NULL: memory is out. A deadly signal removes it. */
const char *cli_trial_begin(cli_trial *t, const char *out);
/* Remove it. A trial that never began is fine. */
void cli_trial_end(cli_trial *t);

/* ---- package.c ---- */

/* Does the name end in .mlpackage? */
bool cli_is_package(const char *path);
/* g as a Core ML package, and on stderr what is to be said of that (unless quiet). Description, images, labels and metadata of `model` are kept where
 * that is a package (NULL: none). cfg NULL: defaults. metadata: a state dict for rq_coreml_apply_metadata, or NULL. */
rq_status cli_save_package(const rq_graph *g, const char *out, const char *model, const rq_coreml_cfg *cfg,
                           const char *metadata, const char *command, bool quiet, rq_err *err);
/* As a package or by rq_save_as, whichever the name says. */
rq_status cli_save(const rq_graph *g, const char *out, const char *model, const rq_save_cfg *cfg, const char *command,
                   bool quiet, rq_err *err);

/* What was just written to `path` of g, to judge it with: the file; of a package, whose inputs have one sample where g leaves the number open, its program
 * for any number. */
rq_status cli_load_saved(rq_graph **out, const rq_graph *g, const char *path, rq_err *err);

/* ---- progress.c ---- */

typedef struct cli_progress {
    bool tty, lines; /* redraw one line, or print one now and then */
    double last;     /* when, in seconds */
    char phase[64];
    bool drawn;
} cli_progress;
void cli_progress_init(cli_progress *p, const cli_common *a);
bool cli_progress_step(void *p, const char *phase, int64_t done, int64_t total, double eta_s); /* an rq_progress_fn */
void cli_progress_end(cli_progress *p);

#endif
