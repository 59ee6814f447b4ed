/* requant/linear_quantizer_report.h — LinearQuantizer.report(): the state of each weight and each activation that is quantized, as a table or JSON.
 * Reading only: no observer sees anything by it (docs/coreml-facts.md 7). */
#ifndef REQUANT_LINEAR_QUANTIZER_REPORT_H
#define REQUANT_LINEAR_QUANTIZER_REPORT_H

#include <stdio.h>

#include <requant/linear_quantizer.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A row: the weight of a module, or a fake-quantizer of activations (once, however many places share it). */
typedef struct rq_linear_quantizer_row {
    const char *name; /* of the module; "activation_post_process_3" */
    /* ---- the original's columns ---- */
    bool is_weight;     /* type: "weight", "activation" */
    const char *device; /* "cpu" */
    bool learnable;     /* algorithm */
    bool symmetric;     /* qscheme */
    bool per_channel;
    char dtype[12]; /* of the container: "qint8", "quint8"; "float32": not quantized */
    int qmin, qmax;
    double error;     /* sqrt(mean (w - fq(w))^2); NaN: an activation, or nothing was seen yet */
    int64_t n_params; /* "#params": elements of the weight; -1: an activation */
    /* ---- ours ---- */
    int n_bits;
    char granularity[24]; /* "per_tensor", "per_channel(0)": the axis; "" : not quantized */
    int64_t n_scales;     /* 0: nothing was seen yet, or not quantized */
    float scale_lo, scale_hi;
    int zero_point_lo, zero_point_hi;
    double sqnr_db; /* 10 log10(sum w^2 / sum (w - fq(w))^2); NaN as error; infinite: no difference */
} rq_linear_quantizer_row;

typedef struct rq_linear_quantizer_report {
    rq_linear_quantizer_row *rows; /* names live as long as the quantizer */
    int n;
} rq_linear_quantizer_report;

/* Of a prepared q, as it is now, in the order that the network runs. error and sqnr are of what is quantized: a weight times the scale of the batch norm
 * behind it (compat: of the weight alone, as there), whether its fake-quantizer is on or not (compat: 0 when it is off). *out is yours:
 * rq_linear_quantizer_report_release; on error it is empty. RQ_BAD_ARG: not prepared; RQ_NO_MEMORY. */
RQ_API rq_status rq_linear_quantizer_report_make(rq_linear_quantizer_report *out, const rq_linear_quantizer *q,
                                                 rq_err *err);
RQ_API void rq_linear_quantizer_report_release(rq_linear_quantizer_report *r);
/* The original's table: columns right-justified between " | ", a line under the header, floats with 5 decimals; the further columns behind. Nothing for
 * no rows. */
RQ_API void rq_linear_quantizer_report_print(const rq_linear_quantizer_report *r, FILE *to);
/* {"conv": {"type": "weight", "device": "cpu", ...}, ...} into buf[n] (NUL-terminated, cut at n); returns the length it takes, -1: memory is out. */
RQ_API int64_t rq_linear_quantizer_report_json(const rq_linear_quantizer_report *r, char *buf, size_t n);

#ifdef __cplusplus
}
#endif
#endif
