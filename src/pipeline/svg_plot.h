// Plots as inline SVG that reads well on a phone and on a desktop: x is in percent of the width and
// y in pixels, so a plot fills its column while text and strokes keep their size. Marks carry their
// numbers as <title>, colours are CSS variables of the page around (kPlotStyle says which). Knows
// nothing of what is plotted; that is pipeline/analysis_page.cc. Texts come in plain and leave
// escaped; values that are not finite are left out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qvlm {

// Returns the text with the five characters that HTML reserves as entities.
std::string escape_html(std::string_view text);

std::string format_fixed(double value, int decimals);  // "0.310"; "-" for NaN, "unlimited"
// Three digits, or whole: "0.0123", "12.3", "9 612", "1.20e-05"; "-" for NaN, "unlimited".
std::string format_number(double value);
std::string format_count(std::int64_t count, const std::string& one);  // "1 block", "2 blocks"
std::string format_percent(double share);                              // "98.4 %"
std::string format_seconds(double seconds);  // "12.3 s", "3 min 5 s", "2 h 7 min"

struct Correlation {
  double pearson, spearman;  // NaN: less than two points, or one value throughout
  std::int64_t count = 0;    // of points
};

// Correlates two lists of one length; points that are not finite are left out.
Correlation correlate(const std::vector<double>& x, const std::vector<double>& y);

struct Tick {
  double at = 0.0;
  std::string label;
};

struct Axis {
  std::string label;
  double low = 0.0, high = 1.0;  // low < high
  std::vector<Tick> ticks;
};

// Makes an axis of round numbers around all finite values, and zero if asked for.
Axis make_value_axis(const std::string& label, const std::vector<double>& values, bool with_zero);

// Makes an axis of `layers` bands of width 1: layer k is [k, k + 1), its number in the middle.
Axis make_layer_axis(const std::string& label, std::int64_t layers);

enum class Mark { kLine, kBars, kPoints };

struct PlotPoint {
  double x = 0.0, y = 0.0;
  std::string title;  // shown when pointed at
};

struct Series {
  Mark mark = Mark::kLine;
  std::string name;   // for the legend
  std::string color;  // "accent", "muted" or "warn"
  std::vector<PlotPoint> points;
};

// A dashed horizontal line; outside the axis it is in the legend only.
struct Rule {
  double y = 0.0;
  std::string name;
};

struct Plot {
  std::string label;  // what a screen reader says
  Axis x, y;
  std::vector<Series> series;
  std::vector<Rule> rules;
  int height = 220;  // pixels
};

// Draws axes, grid, marks, and a legend where there are two names or more. Bars stand on zero.
std::string draw_plot(const Plot& plot);

// A rounded rectangle from `first` to `last` along x; `level` chooses the strength of its color.
struct PlotSpan {
  double first = 0.0, last = 1.0;
  int level = 0;
  std::string title;
};

struct SpanRow {
  std::string name, note;  // above the row, at its left and right
  std::vector<PlotSpan> spans;
};

struct SpanPlot {
  std::string label;
  Axis x;
  std::vector<std::string> levels;  // their names, for the legend
  std::vector<SpanRow> rows;
};

// Draws rows of spans over one axis, and the legend of the levels.
std::string draw_spans(const SpanPlot& plot);

// CSS of all of the above. Uses --page, --ink, --soft, --line, --accent, --muted and --warn.
extern const std::string_view kPlotStyle;

}  // namespace qvlm
