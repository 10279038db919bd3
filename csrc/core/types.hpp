// Types and markers shared by every header of csrc/core. The same source is compiled by the C++ compiler and by NVRTC, so these
// headers include nothing but this one, and use nothing of std::.
#pragma once

#if defined(__CUDACC_RTC__)
#define PF_HD __host__ __device__ inline
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#else
#include <stdint.h>
#if defined(__CUDACC__)
#define PF_HD __host__ __device__ inline
#else
#define PF_HD inline
#endif
#endif
