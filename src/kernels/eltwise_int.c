/* kernels/eltwise_int.c — elementwise functions of the eight integer types, from one template. */
#include <stdint.h>

#include "kernels/eltwise.h"

#define T int8_t
#define U uint8_t
#define SIGNED 1
#define SUFFIX s8
#include "kernels/eltwise_int_tmpl.h"

#define T uint8_t
#define U uint8_t
#define SIGNED 0
#define SUFFIX u8
#include "kernels/eltwise_int_tmpl.h"

#define T int16_t
#define U uint16_t
#define SIGNED 1
#define SUFFIX s16
#include "kernels/eltwise_int_tmpl.h"

#define T uint16_t
#define U uint16_t
#define SIGNED 0
#define SUFFIX u16
#include "kernels/eltwise_int_tmpl.h"

#define T int32_t
#define U uint32_t
#define SIGNED 1
#define SUFFIX s32
#include "kernels/eltwise_int_tmpl.h"

#define T uint32_t
#define U uint32_t
#define SIGNED 0
#define SUFFIX u32
#include "kernels/eltwise_int_tmpl.h"

#define T int64_t
#define U uint64_t
#define SIGNED 1
#define SUFFIX s64
#include "kernels/eltwise_int_tmpl.h"

#define T uint64_t
#define U uint64_t
#define SIGNED 0
#define SUFFIX u64
#include "kernels/eltwise_int_tmpl.h"
