// The one door to LibTorch: the only file that includes ATen, and the precompiled header of the
// target `qvlm`. <ATen/core/ivalue.h> comes first because clang in C++20 cannot read ATen
// otherwise.
#pragma once

#include <ATen/core/ivalue.h>
// clang-format off
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
// clang-format on
