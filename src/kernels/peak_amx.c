/* kernels/peak_amx.c — the most of the matrix unit: four products of 16 x 64 u8 by 64 x 16 s8 in flight. Compiled with -mamx-tile -mamx-int8. */
#if defined(__AMX_INT8__) || defined(__AMXINT8__) /* gcc; clang 14 */
#include <immintrin.h>
#include <string.h>

#include "kernels/kernels_isa.h"

double rq_peak_int_amx(int64_t steps)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape;
    memset(&shape, 0, sizeof shape);
    shape.palette = 1;
    for (int i = 0; i < 8; i++) {
        shape.bytes[i] = 64;
        shape.rows[i] = 16;
    }
    _tile_loadconfig(&shape);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (int64_t s = 0; s < steps; s++) {
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
    _tile_release();
    return (double)steps * 4 * 16 * 16 * 64;
}

#endif
