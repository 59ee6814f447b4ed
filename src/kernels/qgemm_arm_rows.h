/* kernels/qgemm_arm_rows.h — C in registers of four columns of a row, for qgemm_arm_tmpl.h. Where a tile of one row has CHAINS registers for the same
 * sums, so that they do not wait for each other, the first has what C begins with, and at the end they are added. */

INLINE void begin(int32x4_t (*s)[COLUMNS], const int32_t *head, const int32_t *init, const int rows, const int vectors)
{
    UNROLL for (int j = 0; j < vectors * LANES / 4; j++)
    {
        int32x4_t first = vld1q_s32(head + 4 * j);
        if (init)
            first = vaddq_s32(first, vld1q_s32(init + 4 * j));
        UNROLL for (int q = 0; q < rows; q++) s[q][j] = first;
        UNROLL for (int q = 1; rows == 1 && q < CHAINS; q++) s[q][j] = vdupq_n_s32(0);
    }
}

INLINE void end(int32_t *c, size_t ldc, int32x4_t (*s)[COLUMNS], const int rows, const int vectors)
{
    UNROLL for (int j = 0; j < vectors * LANES / 4; j++)
    {
        UNROLL for (int q = 1; rows == 1 && q < CHAINS; q++) s[0][j] = vaddq_s32(s[0][j], s[q][j]);
        UNROLL for (int q = 0; q < rows; q++) vst1q_s32(c + (size_t)q * ldc + 4 * j, s[q][j]);
    }
}
