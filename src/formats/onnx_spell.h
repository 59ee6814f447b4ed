/* formats/onnx_spell.h — bodies of functions and graphs, written down a node per line:
 *
 *   spell(s, "codes scale zero = DynamicQuantizeLinear %s", x);
 *   spell(s, "y = Concat a b axis=%d", 1);
 *
 * outputs, "=", operator, inputs, attributes. An attribute is an integer, or integers where there is a comma ("perm=1,0,2", "directions=1,"). What goes wrong
 * (memory) is kept: ask at the end. */
#ifndef RQ_FORMATS_ONNX_SPELL_H
#define RQ_FORMATS_ONNX_SPELL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "onnx.pb-c.h"

typedef struct rq_onnx_spell {
    rq_arena *a;
    Onnx__NodeProto **node;
    size_t n, cap;
    bool failed; /* out of memory */
} rq_onnx_spell;

/* The node, to add to; NULL when something failed. */
Onnx__NodeProto *rq_onnx_spell_node(rq_onnx_spell *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Constants: a list of integers, a number of either kind. */
void rq_onnx_spell_ints(rq_onnx_spell *s, const char *name, const int64_t *v, int n);
void rq_onnx_spell_int(rq_onnx_spell *s, const char *name, int64_t v);
void rq_onnx_spell_float(rq_onnx_spell *s, const char *name, float v);

void rq_onnx_spell_attr_float(rq_onnx_spell *s, Onnx__NodeProto *n, const char *name, float v);
/* A graph with these inputs and outputs (names between spaces) as attribute `name`. */
void rq_onnx_spell_attr_graph(rq_onnx_spell *s, Onnx__NodeProto *n, const char *name, const rq_onnx_spell *body,
                              const char *inputs, const char *outputs);

/* Names between spaces, as a list in the arena. */
ProtobufCBinaryData *rq_onnx_spell_names(rq_onnx_spell *s, const char *names, size_t *n);
ProtobufCBinaryData rq_onnx_spell_text(const char *text); /* points at it */

#endif
