// How keys and values of past positions are kept (KvFormat): the names, and what a folder asks for.
#pragma once

#include <qvlm/scheme.h>

#include <optional>
#include <string_view>

#include "io/checkpoint.h"

namespace qvlm {

// "float32", "bf16", "int8", "int4".
const char* kv_format_name(KvFormat format);
std::optional<KvFormat> find_kv_format(std::string_view name);
inline constexpr std::string_view kKvFormatNames = "float32, bf16, int8, int4";

// What was asked for; else what the folder's qvlm.json says, where it is one and says something;
// else float32. Throws kUnsupported for a name there that this version does not know.
KvFormat choose_kv_format(const Checkpoint& checkpoint, std::optional<KvFormat> asked);

}  // namespace qvlm
