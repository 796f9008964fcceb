// Plans and search results as JSON: in qvlm.json, in the file that a search is resumed from, and in
// reports. Times are left out: they differ between runs that give the same model.
#pragma once

#include <qvlm/quantize.h>

#include "base/json.h"
#include "planner/partition.h"

namespace qvlm {

Json plan_to_json(const BlockPlan& plan);
Json block_to_json(const BlockReport& block);
Json vision_to_json(const VisionReport& report);
Json precision_to_json(const PrecisionReport& report);
Json alphas_to_json(const std::vector<Alphas>& layers);
Json search_to_json(const SearchReport& report);

// Throw kCorrupt or kNotFound naming the key.
BlockPlan plan_from_json(const Json& node);
BlockReport block_from_json(const Json& node);
VisionReport vision_from_json(const Json& node);
PrecisionReport precision_from_json(const Json& node);
std::vector<Alphas> alphas_from_json(const Json& node);
SearchReport search_from_json(const Json& node);

// Adds the report's members to an object.
void set_calibration(const CalibrationReport& report, Json& json);

// Numbers of a list; a number or null.
Json list_to_json(const std::vector<double>& values);
Json optional_to_json(const std::optional<double>& value);

const char* rounding_name(RoundingMethod method);               // "gptq"
const char* precision_target_name(PrecisionTarget::Kind kind);  // "target_bpw"

// Everything in a recipe, for the record and to tell whether two runs are the same.
Json recipe_to_json(const Recipe& recipe);

}  // namespace qvlm
