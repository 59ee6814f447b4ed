/* formats/image_decode.c — libjpeg and libpng behind one face. Both leave through longjmp when a file is damaged; it never
 * gets further than the function that called them here. Their own memory is the system's, not base/mem's. */
#include "formats/image_decode.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>
#include <png.h>

#include "base/mem.h"

enum {
    MOST_SIDE = 1 << 16,
    FREE_BYTES = 64 << 20, /* a picture that needs no more is decoded whatever its file's size */
    MOST_SCANS = 200,      /* of a progressive JPEG; encoders make about 10 */
    MOST_RATIO = 1100,     /* bytes that one byte of a file can become: deflate gives at most 1032 */
};

bool rq_image_sniff(const uint8_t *data, size_t size)
{
    return (size > 3 && data[0] == 0xff && data[1] == 0xd8 && data[2] == 0xff) ||
           (size > 8 && !memcmp(data, "\x89PNG\r\n\x1a\n", 8));
}

/* Can a file of so many bytes hold a picture whose decoder takes `bytes` at once? */
static rq_status check_size(int64_t height, int64_t width, uint64_t bytes, size_t file, rq_err *err)
{
    if (height < 1 || width < 1 || height > MOST_SIDE || width > MOST_SIDE)
        return rq_fail(err, RQ_BAD_FILE, "is %lld x %lld pixels; expected 1 to %d on each side", (long long)width,
                       (long long)height, MOST_SIDE);
    if (bytes > FREE_BYTES && bytes / MOST_RATIO > file)
        return rq_fail(err, RQ_BAD_FILE, "says it is %lld x %lld pixels, more than its %zu bytes can hold",
                       (long long)width, (long long)height, file);
    return RQ_OK;
}

/* ---- JPEG ---- */

typedef struct jpeg {
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr mgr;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    char text[JMSG_LENGTH_MAX];
    uint8_t *row, *rgb;
    const rq_image_sink *sink;
    rq_err *err;
} jpeg;

static void jpeg_leave(j_common_ptr d)
{
    jpeg *j = d->client_data;
    d->err->format_message(d, j->text);
    longjmp(j->out, 1);
}

/* A file that ends too early would be filled up with gray; other warnings are about bytes nobody needs. */
static void jpeg_warn(j_common_ptr d, int level)
{
    if (level < 0 && d->err->msg_code == JWRN_JPEG_EOF)
        jpeg_leave(d);
}

static void jpeg_quiet(j_common_ptr d)
{
    (void)d;
}

/* Each scan costs a walk over the whole picture, and may be a few bytes. */
static void jpeg_count_scans(j_common_ptr d)
{
    jpeg *j = d->client_data;
    if (j->d.input_scan_number > MOST_SCANS) {
        snprintf(j->text, sizeof j->text, "it has more than %d scans", MOST_SCANS);
        longjmp(j->out, 1);
    }
}

/* Bytes of the coefficients that a progressive file keeps until its end. */
static uint64_t coefficient_bytes(const struct jpeg_decompress_struct *d)
{
    uint64_t sum = 0;
    for (int i = 0; i < d->num_components; i++) {
        const jpeg_component_info *c = &d->comp_info[i];
        uint64_t w = (d->image_width * (uint64_t)c->h_samp_factor / (uint64_t)d->max_h_samp_factor + 15) / 8;
        uint64_t h = (d->image_height * (uint64_t)c->v_samp_factor / (uint64_t)d->max_v_samp_factor + 15) / 8;
        sum += w * h * sizeof(JBLOCK);
    }
    return sum;
}

static rq_status jpeg_rows(jpeg *j, const uint8_t *data, size_t size)
{
    struct jpeg_decompress_struct *d = &j->d;
    jpeg_mem_src(d, data, size);
    jpeg_read_header(d, TRUE);
    RQ_TRY(check_size(d->image_height, d->image_width, jpeg_has_multiple_scans(d) ? coefficient_bytes(d) : 0, size,
                      j->err));
    if (d->jpeg_color_space == JCS_CMYK || d->jpeg_color_space == JCS_YCCK)
        return rq_fail(j->err, RQ_UNSUPPORTED, "is a CMYK picture; expected RGB or gray");
    const bool gray = d->jpeg_color_space == JCS_GRAYSCALE;
    d->out_color_space = gray ? JCS_GRAYSCALE : JCS_RGB;
    RQ_TRY(j->sink->begin(j->sink->arg, d->image_height, d->image_width, j->err));
    jpeg_start_decompress(d);
    j->row = rq_mem_alloc(d->output_width, 3);
    j->rgb = gray ? rq_mem_alloc(d->output_width, 3) : NULL;
    if (!j->row || (gray && !j->rgb))
        return RQ_NO_MEMORY;
    while (d->output_scanline < d->output_height) {
        const int64_t y = d->output_scanline;
        jpeg_read_scanlines(d, &j->row, 1);
        for (size_t x = 0; gray && x < d->output_width; x++)
            memset(j->rgb + 3 * x, j->row[x], 3);
        j->sink->row(j->sink->arg, y, gray ? j->rgb : j->row);
    }
    jpeg_finish_decompress(d);
    return RQ_OK;
}

static rq_status decode_jpeg(const uint8_t *data, size_t size, const rq_image_sink *sink, rq_err *err)
{
    jpeg *j = rq_mem_zalloc(1, sizeof *j);
    if (!j)
        return RQ_NO_MEMORY;
    j->sink = sink;
    j->err = err;
    j->d.err = jpeg_std_error(&j->mgr);
    j->mgr.error_exit = jpeg_leave;
    j->mgr.emit_message = jpeg_warn;
    j->mgr.output_message = jpeg_quiet;
    j->d.client_data = j;
    rq_status st;
    if (setjmp(j->out)) {
        st = rq_fail(err, RQ_BAD_FILE, "is a damaged JPEG: %s", j->text);
    } else {
        jpeg_create_decompress(&j->d);
        j->d.client_data = j; /* cleared by the line before */
        j->progress.progress_monitor = jpeg_count_scans;
        j->d.progress = &j->progress;
        st = jpeg_rows(j, data, size);
    }
    jpeg_destroy_decompress(&j->d);
    rq_mem_free(j->row);
    rq_mem_free(j->rgb);
    rq_mem_free(j);
    return st;
}

/* ---- PNG ---- */

typedef struct png {
    png_structp p;
    png_infop info;
    const uint8_t *data;
    size_t left;
    char text[128];
    uint8_t *rows; /* one, or all of an interlaced picture */
    png_bytep *index;
    const rq_image_sink *sink;
    rq_err *err;
} png;

static void png_bytes(png_structp p, png_bytep to, png_size_t n)
{
    png *s = png_get_io_ptr(p);
    if (n > s->left)
        png_error(p, "the file ends too early");
    memcpy(to, s->data, n);
    s->data += n;
    s->left -= n;
}

static void png_leave(png_structp p, png_const_charp text)
{
    png *s = png_get_error_ptr(p);
    snprintf(s->text, sizeof s->text, "%s", text);
    png_longjmp(p, 1);
}

static void png_quiet(png_structp p, png_const_charp text)
{
    (void)p;
    (void)text;
}

/* Whatever is stored becomes 8-bit RGB: palettes looked up, gray tripled, 16 bits cut to their high byte, alpha dropped. */
static void png_to_rgb(png *s)
{
    const int type = png_get_color_type(s->p, s->info);
    png_set_expand(s->p);
    png_set_strip_16(s->p);
    if (type == PNG_COLOR_TYPE_GRAY || type == PNG_COLOR_TYPE_GRAY_ALPHA)
        png_set_gray_to_rgb(s->p);
    png_set_strip_alpha(s->p);
}

static rq_status png_rows(png *s, size_t size)
{
    png_set_read_fn(s->p, s, png_bytes);
    png_set_user_limits(s->p, MOST_SIDE, MOST_SIDE);
    png_set_chunk_malloc_max(s->p, 1 << 20);
    png_read_info(s->p, s->info);
    const size_t height = png_get_image_height(s->p, s->info), width = png_get_image_width(s->p, s->info);
    const bool interlaced = png_get_interlace_type(s->p, s->info) != PNG_INTERLACE_NONE;
    RQ_TRY(check_size((int64_t)height, (int64_t)width, interlaced ? (uint64_t)height * width * 4 : 0, size, s->err));
    png_to_rgb(s);
    const int passes = interlaced ? png_set_interlace_handling(s->p) : 1;
    png_read_update_info(s->p, s->info);
    const size_t stride = png_get_rowbytes(s->p, s->info), kept = interlaced ? height : 1;
    if (stride != width * 3)
        return rq_fail(s->err, RQ_UNSUPPORTED, "is a PNG of a kind that does not become RGB");
    RQ_TRY(s->sink->begin(s->sink->arg, (int64_t)height, (int64_t)width, s->err));
    s->rows = rq_mem_zalloc(kept, stride);
    s->index = rq_mem_alloc(kept, sizeof *s->index);
    if (!s->rows || !s->index)
        return RQ_NO_MEMORY;
    for (size_t y = 0; y < kept; y++)
        s->index[y] = s->rows + y * stride;
    for (int pass = 0; interlaced && pass < passes; pass++)
        png_read_rows(s->p, s->index, NULL, (png_uint_32)height);
    for (size_t y = 0; y < height; y++) {
        if (!interlaced)
            png_read_row(s->p, s->rows, NULL);
        s->sink->row(s->sink->arg, (int64_t)y, interlaced ? s->index[y] : s->rows);
    }
    return RQ_OK;
}

static rq_status decode_png(const uint8_t *data, size_t size, const rq_image_sink *sink, rq_err *err)
{
    png *s = rq_mem_zalloc(1, sizeof *s);
    if (!s)
        return RQ_NO_MEMORY;
    *s = (png) { .data = data, .left = size, .sink = sink, .err = err };
    rq_status st = RQ_NO_MEMORY;
    s->p = png_create_read_struct(PNG_LIBPNG_VER_STRING, s, png_leave, png_quiet);
    s->info = s->p ? png_create_info_struct(s->p) : NULL;
    if (s->info) {
        if (setjmp(png_jmpbuf(s->p)))
            st = rq_fail(err, RQ_BAD_FILE, "is a damaged PNG: %s", s->text);
        else
            st = png_rows(s, size);
    }
    png_destroy_read_struct(&s->p, &s->info, NULL);
    rq_mem_free(s->rows);
    rq_mem_free(s->index);
    rq_mem_free(s);
    return st;
}

rq_status rq_image_decode(const uint8_t *data, size_t size, const rq_image_sink *sink, rq_err *err)
{
    if (!rq_image_sniff(data, size))
        return rq_fail(err, RQ_BAD_FILE, "is neither a JPEG nor a PNG");
    return data[0] == 0xff ? decode_jpeg(data, size, sink, err) : decode_png(data, size, sink, err);
}
