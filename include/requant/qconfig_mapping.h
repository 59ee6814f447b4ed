/* requant/qconfig_mapping.h — which module of a model gets which qconfig: PyTorch's QConfigMapping (docs/torch-facts.md 5.3).
 *
 * Entries of five levels; the highest that matches decides, whatever the order they were set in:
 *
 *   global  <  object type  <  regular expression over module names  <  module name  <  name, type and n-th occurrence
 *
 * Among regular expressions the first that was set wins, among module names the nearest ancestor. A NULL qconfig at any level says: do
 * not quantize. Setting a key again replaces its qconfig and keeps its place. What an entry names must be there: rq_qconfig_mapping_check. */
#ifndef REQUANT_QCONFIG_MAPPING_H
#define REQUANT_QCONFIG_MAPPING_H

#include <requant/own.h>
#include <requant/qconfig.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rq_qconfig_mapping rq_qconfig_mapping;

typedef enum rq_qconfig_level {
    RQ_QCONFIG_GLOBAL,
    RQ_QCONFIG_OBJECT_TYPE,
    RQ_QCONFIG_NAME_REGEX,
    RQ_QCONFIG_NAME,
    RQ_QCONFIG_NAME_TYPE_ORDER,
    RQ_N_QCONFIG_LEVELS
} rq_qconfig_level;
/* As files spell it: "", "object_type", "module_name_regex", "module_name", "module_name_object_type_order"; "?" for none. */
RQ_API const char *rq_qconfig_level_name(rq_qconfig_level l);

/* One without entries, which quantizes nothing; yours until rq_qconfig_mapping_destroy. RQ_NO_MEMORY. */
RQ_API rq_status rq_qconfig_mapping_create(rq_qconfig_mapping **out, rq_err *err);
RQ_API void rq_qconfig_mapping_destroy(rq_qconfig_mapping *m); /* NULL is fine */

/* PyTorch's get_default_qconfig_mapping and get_default_qat_qconfig_mapping: globally the default of the backend (rq_qconfig_default,
 * rq_qconfig_default_qat), and for some types what they need: reshape shares the observer of its input, Sigmoid, Hardsigmoid, Softmax
 * and Tanh have their fixed scales, LayerNorm's weight stays in float, PReLU's is quint8, and for fbgemm and x86 ConvTranspose has a scale
 * per tensor. Those entries need match nothing. RQ_NOT_FOUND, RQ_BAD_ARG: no such backend, or version; RQ_NO_MEMORY. */
RQ_API rq_status rq_qconfig_mapping_default(rq_qconfig_mapping **out, const char *backend, bool qat, int version,
                                            rq_err *err);

/* The same by the name that rq_qconfig_preset has for it: "fbgemm", "fbgemm_qat", "fbgemm_qat_v0" ... */
RQ_API rq_status rq_qconfig_mapping_default_named(rq_qconfig_mapping **out, const char *name, rq_err *err);

/* The qconfig (NULL: do not quantize) is copied, names too; an own observer that it names must outlive the mapping. Types: the name of
 * the class, function or method; "torch.nn.Linear", "nn.Linear" and "Linear" are one, as are "torch.nn.functional.relu", "F.relu" and
 * "relu". RQ_BAD_ARG: an empty name, a bad qconfig (rq_qconfig_check without an executor), a bad pattern, a negative index; then m is
 * as it was. RQ_NO_MEMORY. */
RQ_API rq_status rq_qconfig_mapping_set_global(rq_qconfig_mapping *m, const rq_qconfig *q, rq_err *err);
RQ_API rq_status rq_qconfig_mapping_set_object_type(rq_qconfig_mapping *m, const char *type, const rq_qconfig *q,
                                                    rq_err *err);
/* An extended regular expression of POSIX, and \d \D \w \W \s \S and (?:...) as Python has them. It must match the whole name. What Python
 * reads in another way is refused, and so are repetitions {n} whose product is above 10000. */
RQ_API rq_status rq_qconfig_mapping_set_module_name_regex(rq_qconfig_mapping *m, const char *pattern,
                                                          const rq_qconfig *q, rq_err *err);
RQ_API rq_status rq_qconfig_mapping_set_module_name(rq_qconfig_mapping *m, const char *name, const rq_qconfig *q,
                                                    rq_err *err);
/* The index-th (from 0) module of that type directly in module `name` ("": the root), or call of that function or method in it. */
RQ_API rq_status rq_qconfig_mapping_set_module_name_object_type_order(rq_qconfig_mapping *m, const char *name,
                                                                      const char *type, int index, const rq_qconfig *q,
                                                                      rq_err *err);
/* Let patterns match a beginning of a name ("f" then matches "fc"), as the original has it. */
RQ_API void rq_qconfig_mapping_set_compat(rq_qconfig_mapping *m, bool compat);

/* Entry i, 0 <= i < count, in the order they were set. */
typedef struct rq_qconfig_entry {
    rq_qconfig_level level;
    const char *name; /* of the module, or the pattern; NULL: the level has none */
    const char *type; /* as it was set; NULL: the level has none */
    int index;
    const rq_qconfig *qconfig; /* NULL: do not quantize */
    bool optional;             /* came with rq_qconfig_mapping_default: need match nothing */
} rq_qconfig_entry;
RQ_API int rq_qconfig_mapping_count(const rq_qconfig_mapping *m);
RQ_API rq_qconfig_entry rq_qconfig_mapping_entry(const rq_qconfig_mapping *m, int i);

/* A module, or a call of a function or method. */
typedef struct rq_qconfig_site {
    const char
        *name; /* path of the module, "block.conv1"; of a call: of the module whose forward makes it. "": the root */
    const char *type; /* class of that module; NULL: unknown */
    const char *op;   /* of a call: the function or method; NULL: the module itself */
    int index;        /* n-th of its kind directly in its module, from 0: of calls of `op`, of children of `type` */
} rq_qconfig_site;

/* What it gets; NULL: it is not quantized. *entry (may be NULL): the entry that said so, or -1. As FX mode has it: of a call, an entry for
 * the type of its module comes before one for the function. Lives as long as m is not changed. */
RQ_API const rq_qconfig *rq_qconfig_mapping_lookup(const rq_qconfig_mapping *m, const rq_qconfig_site *site,
                                                   int *entry);

/* Does m fit a model whose modules and calls these are? RQ_NOT_FOUND: an entry matches none of them (the sentence names it and what is
 * nearest), or nothing gets a qconfig; RQ_BAD_ARG: a site whose scale is fixed (Sigmoid, Hardsigmoid, Softmax, Tanh) gets another;
 * and what rq_qconfig_check says of each site, with `executor` (may be NULL). */
RQ_API rq_status rq_qconfig_mapping_check(const rq_qconfig_mapping *m, const rq_qconfig_site *sites, int n,
                                          const char *executor, rq_err *err);

/* Layers that are fused into one share a qconfig: what their types (n of them) have in m, object types only. RQ_BAD_ARG: they differ;
 * the sentence has both types. *out NULL with RQ_OK: no entry, or do not quantize. */
RQ_API rq_status rq_qconfig_mapping_fused(const rq_qconfig_mapping *m, const char *const *types, int n,
                                          const rq_qconfig **out, rq_err *err);

/* May a model that was prepared with `prepared` be converted with `converted`: the same entries, each with the same qconfig or none?
 * RQ_BAD_ARG; the sentence names the entry. */
RQ_API rq_status rq_qconfig_mapping_narrows(const rq_qconfig_mapping *prepared, const rq_qconfig_mapping *converted,
                                            rq_err *err);

/* ---- the rules of eager mode ---- */

/* A module of a tree. Parents stand before their children; module 0 is the root. */
typedef struct rq_qconfig_module {
    const char *name; /* whole path; "" the root */
    const char *type;
    int parent;   /* -1: the root */
    bool has_own; /* a qconfig was put on the module itself: `own`, NULL for "do not quantize" */
    const rq_qconfig *own;
} rq_qconfig_module;

/* out[i], the qconfig of module i or NULL: that of its parent, unless its type has an entry, unless its name has one, unless it has its own.
 * NULL goes down to the children like any other. RQ_UNSUPPORTED: m has patterns or orders, which these rules do not know; RQ_NOT_FOUND:
 * an entry matches no module, or no module got a qconfig; RQ_BAD_ARG: a parent behind its child, and what rq_qconfig_check says. */
RQ_API rq_status rq_qconfig_mapping_propagate(const rq_qconfig_mapping *m, const rq_qconfig_module *modules, int n,
                                              const char *executor, const rq_qconfig **out, rq_err *err);

/* ---- as text: YAML, of which JSON is a part ----
 *
 *   default: fbgemm                       # start from rq_qconfig_mapping_default_named
 *   global: default_qconfig               # a name of rq_qconfig_preset, null, or {activation: ..., weight: ...}; "" is a name of it too
 *   object_type: {Linear: {activation: {observer: HistogramObserver, dtype: quint8, reduce_range: true},
 *                          weight: {observer: PerChannelMinMaxObserver, dtype: qint8, qscheme: per_channel_symmetric}}}
 *   module_name_regex: {"block\\.[0-9]+\\.fc": null}
 *   module_name: {head: {activation: {observer: my_range}, weight: default_weight_observer}}
 *   module_name_object_type_order: [["block", "Linear", 1, null]]
 *
 * Each level is a map, or a list of [key, qconfig] as QConfigMapping.to_dict gives it. Observers and fake-quantizers are named as PyTorch and
 * Core ML Tools name them, or as a set of own ones does (`own`, may be NULL). An unknown key or name is an error with line, path and the
 * nearest name. At most 1 MiB, and 10000 entries of a level. RQ_BAD_RECIPE, RQ_IO, RQ_NO_MEMORY; on error *out is untouched. */
RQ_API rq_status rq_qconfig_mapping_parse(rq_qconfig_mapping **out, const char *text, const char *source,
                                          const rq_own *own, rq_err *err);
RQ_API rq_status rq_qconfig_mapping_load(rq_qconfig_mapping **out, const char *path, const rq_own *own, rq_err *err);
/* JSON that the two above read back to the same mapping: up to n bytes of it in buf, NUL included (buf may be NULL where n is 0); *size (may
 * be NULL): bytes it needs, NUL included. RQ_BAD_ARG: a name is not UTF-8; RQ_UNSUPPORTED: a qconfig has a setting that texts have no key for,
 * as those of rq_ptq's observers; RQ_NO_MEMORY. */
RQ_API rq_status rq_qconfig_mapping_text(const rq_qconfig_mapping *m, char *buf, size_t n, size_t *size);
RQ_API rq_status rq_qconfig_mapping_save(const rq_qconfig_mapping *m, const char *path, rq_err *err);

#ifdef __cplusplus
}
#endif
#endif
