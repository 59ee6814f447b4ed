/* quant/calibrate.h — from what calibration saw to a range, and from a range to a scale and a zero point.
 * docs/numerics.md, "Calibration", says what was chosen where the peers differ. */
#ifndef RQ_QUANT_CALIBRATE_H
#define RQ_QUANT_CALIBRATE_H

#include "quant/histogram.h"
#include "requant/qparams.h"

/* ---- two-sided: signed histograms ----
 * Each answer lies within what was seen, 0 included; a side on which nothing was seen stays at 0; nothing but zeros gives
 * {0, 0}. `symmetric` chooses lo = -hi (as far as the other side's data goes it is moot). */

/* Everything. */
rq_range rq_calibrate_minmax(const rq_histogram *h, bool symmetric);
/* Leave out the share (100 - p) / 200 at either end (ONNX Runtime's asymmetric percentile), rounded outwards to an edge;
 * symmetric: (100 - p) / 100 of |x|. 0 < p <= 100; 100 is minmax. */
rq_range rq_calibrate_percentile(const rq_histogram *h, double p, bool symmetric);
/* The range whose `levels` codes lose least information: Kullback-Leibler divergence between the clipped histogram and
 * its rounding to `levels` groups, as docs/calibration-facts.md 4.4; the ends are searched in turn. O(bins + levels)
 * per candidate. */
rq_range rq_calibrate_entropy(const rq_histogram *h, int levels, bool symmetric);
/* The range with the least expected squared error of rounding and clipping to `levels` codes. */
rq_range rq_calibrate_mse(const rq_histogram *h, int levels, bool symmetric);
/* Mean squared error of `levels` codes over lo..hi, zero exact, for an element of h. */
double rq_calibrate_error(const rq_histogram *h, rq_range r, int levels);
/* Share of the elements of h that lie in bins beyond r by `margin` or more. */
double rq_calibrate_outside(const rq_histogram *h, rq_range r, double margin);
/* Mean square of an element of h. */
double rq_calibrate_power(const rq_histogram *h);

/* ---- one-sided: histograms of |x|, docs/calibration-facts.md 4.3 to 4.5. The answer is the largest magnitude to keep;
 * *at (may be NULL) the index of the candidate that the tables there give. Negative: no candidate (fewer bins
 * than start). ---- */

/* Lower edge of the bin in which the cumulative share reaches p percent; p in 0..100. */
double rq_calibrate_amax_percentile(const rq_histogram *h, double p, int *at);
/* levels: 128 for signed 8 bits, 256 for unsigned. Candidates start, start + stride ... n; the last of equals wins; a
 * candidate without mass counts as infinite (the reference lets NaN win: `compat`). NaN: out of memory. */
double rq_calibrate_amax_entropy(const rq_histogram *h, int levels, int start, int stride, int *at);
double rq_calibrate_amax_entropy_compat(const rq_histogram *h, int levels, int start, int stride, bool compat, int *at);
/* limit: the largest code (127 for signed 8 bits, 255 for unsigned), up to 65535, or RQ_CALIBRATE_E4M3. Candidates start ... n - 1 at bin
 * centres; the first of equals wins. NaN: out of memory. */
enum { RQ_CALIBRATE_E4M3 = -1 };
double rq_calibrate_amax_mse(const rq_histogram *h, int limit, int start, int stride, int *at);
/* What those two minimize, for one candidate. */
double rq_calibrate_amax_kl(const rq_histogram *h, int levels, int i);
double rq_calibrate_amax_error(const rq_histogram *h, int limit, double amax);

/* ---- range -> parameters (docs/onnx-facts.md 4.5) ----
 * Of an integer type of up to 16 bits. Affine: the whole code range over lo..hi. Symmetric: +-max(|lo|, |hi|); s8 uses
 * -127..127 (s16 alike) and zero point 0, u8 all codes and 128 (u16: 32768), s4 and u4 all codes.
 * A range too small for a normal f32 gives scale 1 and zero point 0, or the middle code. */
void rq_calibrate_qparams(rq_range r, rq_dtype d, bool symmetric, float *scale, int32_t *zero_point);

/* The same with everything that can be asked for. */
typedef struct rq_code_form {
    rq_dtype dtype;
    bool symmetric;
    bool reduced;    /* half of the codes stay unused: u8 0..127, s8 -64..64, s4 -4..3 ..., symmetric or not */
    bool restricted; /* u8, not symmetric: zero point 0, or the middle code where the range goes below 0 */
    double least;    /* a narrower range is widened upwards to this, in f32; 0: as it is */
} rq_code_form;
void rq_calibrate_codes(rq_range r, const rq_code_form *f, float *scale, int32_t *zero_point);
/* What both come to: between these codes; symmetric: the middle one means 0. *zero is a whole number in lo..hi. */
void rq_calibrate_between(rq_range r, int64_t lo, int64_t hi, bool symmetric, float *scale, double *zero);

#endif
