// An analysis as a web page: tables and SVG plots in one file that loads nothing else.
#pragma once

#include <qvlm/analyze.h>

#include <string>

namespace qvlm {

std::string make_analysis_page(const Analysis& analysis);

}  // namespace qvlm
