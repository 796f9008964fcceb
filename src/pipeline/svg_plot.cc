#include "pipeline/svg_plot.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace qvlm {

const std::string_view kPlotStyle = R"(
.plot { padding: 1.9rem .5rem 2.9rem 3.2rem; }
.plot svg { display: block; width: 100%; overflow: visible; }
.plot text { font-size: 12px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.plot .strong { font-size: 14px; font-weight: 600; fill: var(--ink); }
.plot .grid { stroke: var(--line); }
.plot .axis { stroke: var(--soft); }
.plot .rule { stroke: var(--warn); stroke-width: 2; stroke-dasharray: 6 4; }
.plot .segment { stroke-width: 2; stroke-linecap: round; }
.plot .dot { stroke: var(--page); stroke-width: 1.5; }
.plot .small { stroke: none; }
.plot .target { fill: transparent; }
.plot g:hover .dot, .plot .bar:hover, .plot .block:hover { stroke: var(--ink); stroke-width: 2; }
.plot .block { fill: var(--accent); stroke: var(--page); }
.plot .segment.accent { stroke: var(--accent); }
.plot .segment.muted { stroke: var(--muted); }
.plot .segment.warn { stroke: var(--warn); }
.plot .accent { fill: var(--accent); }
.plot .muted { fill: var(--muted); }
.plot .warn { fill: var(--warn); }
.spans { padding: 0 .5rem 2.9rem 0; }
@media (min-width: 60rem) { .spans { padding-left: 3.2rem; } }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 0; padding: 0;
  list-style: none; font-size: .875rem; color: var(--soft); }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .45rem;
  border-radius: 3px; background: var(--accent); vertical-align: -.08rem; }
.legend .muted { background: var(--muted); }
.legend .warn { background: var(--warn); }
.legend .dot { border-radius: 50%; }
.legend .rule { width: 1.4rem; height: 0; border-radius: 0; border-top: 2px dashed var(--warn);
  background: none; vertical-align: .22rem; }
)";

namespace {

constexpr int kTicks = 4;        // of a value axis, about
constexpr int kLayerTicks = 13;  // of a layer axis, at most: two digits each on a phone
constexpr double kLargest = 1e100, kSmallest = 1e-100;  // arithmetic stays finite within

bool is_usable(double value) {
  return std::isfinite(value) && std::abs(value) < kLargest;
}

// Independent of the locale, which snprintf is not.
std::string print(double value, std::chars_format format, int decimals) {
  std::array<char, 400> text = {};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value, format, decimals);
  return {text.data(), end.ptr};
}

std::string group_digits(std::string digits) {
  const std::ptrdiff_t begin = digits.starts_with('-') ? 1 : 0;
  for (std::ptrdiff_t at = std::ssize(digits) - 3; at > begin; at -= 3)
    digits.insert(static_cast<std::size_t>(at), " ");
  return digits;
}

std::string pixels(double value) {
  return print(value, std::chars_format::fixed, 1);
}

std::string percent(const Axis& axis, double x) {
  return print(100.0 * (x - axis.low) / (axis.high - axis.low), std::chars_format::fixed, 2) + "%";
}

double height_of(const Plot& plot, double y) {
  return plot.height * (plot.y.high - y) / (plot.y.high - plot.y.low);
}

std::string title_of(const std::string& text) {
  return text.empty() ? "" : join("<title>", escape_html(text), "</title>");
}

// Attributes, or nothing: texts of an axis.
std::string draw_text(const std::string& attributes, const std::string& text) {
  return text.empty() ? "" : join("<text ", attributes, ">", escape_html(text), "</text>\n");
}

std::string draw_line(const std::string& kind, const std::array<std::string, 4>& ends) {
  return join("<line class=\"", kind, "\" x1=\"", ends[0], "\" y1=\"", ends[1], "\" x2=\"", ends[2],
              "\" y2=\"", ends[3], "\"/>\n");
}

// The nearest of 1, 2, 2.5, 5 times a power of ten that is not below `step`.
double round_step(double step) {
  const double power = std::pow(10.0, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 2.5, 5.0})
    if (factor * power >= step * (1.0 - 1e-9)) return factor * power;
  return 10.0 * power;
}

std::string tick_label(double value, double step, double largest) {
  if (value == 0.0) return "0";
  if (step < 1e-3 || largest >= 1e6) return print(value, std::chars_format::general, 3);
  int decimals = 0;
  for (double scaled = step; decimals < 4 && std::abs(scaled - std::round(scaled)) > 1e-6;
       ++decimals)
    scaled *= 10.0;
  return print(value, std::chars_format::fixed, decimals);
}

std::string draw_x_axis(const Axis& axis, int height) {
  std::string svg;
  for (const Tick& tick : axis.ticks) {
    svg += draw_text(
        join("x=\"", percent(axis, tick.at), "\" y=\"", height + 18, "\" text-anchor=\"middle\""),
        tick.label);
  }
  return svg +
         draw_text(join("x=\"50%\" y=\"", height + 38, "\" text-anchor=\"middle\""), axis.label);
}

std::string draw_y_axis(const Plot& plot) {
  std::string svg = draw_text("x=\"0\" y=\"-14\" dx=\"-51\"", plot.y.label);
  for (const Tick& tick : plot.y.ticks) {
    const double y = height_of(plot, tick.at);
    svg += draw_line(tick.at == plot.y.low ? "axis" : "grid", {"0", pixels(y), "100%", pixels(y)});
    svg += draw_text(join("x=\"-8\" y=\"", pixels(y + 4), "\" text-anchor=\"end\""), tick.label);
  }
  return svg;
}

std::string draw_bar(const Plot& plot, const Series& series, const PlotPoint& point) {
  constexpr double kHalf = 0.36;  // of the width of a bar, in units of x
  const double base = height_of(plot, std::clamp(0.0, plot.y.low, plot.y.high));
  const double top = height_of(plot, point.y);
  const double width = 100.0 * 2.0 * kHalf / (plot.x.high - plot.x.low);
  return join("<rect class=\"bar ", series.color, "\" x=\"", percent(plot.x, point.x - kHalf),
              "\" y=\"", pixels(std::min(base, top)), "\" width=\"",
              print(width, std::chars_format::fixed, 2), "%\" height=\"",
              pixels(std::abs(base - top)), "\" rx=\"2\">", title_of(point.title), "</rect>\n");
}

std::string draw_dot(const Plot& plot, const Series& series, const PlotPoint& point) {
  const bool crowded = series.points.size() > 40;
  const std::string center =
      join("cx=\"", percent(plot.x, point.x), "\" cy=\"", pixels(height_of(plot, point.y)), "\"");
  const std::string dot = (crowded ? "dot small " : "dot ") + series.color;
  return join("<g>", title_of(point.title), "<circle class=\"target\" ", center, " r=\"",
              crowded ? 5 : 12, "\"/><circle class=\"", dot, "\" ", center, " r=\"",
              crowded ? 2.5 : 5.0, "\"/></g>\n");
}

std::string draw_segments(const Plot& plot, const Series& series) {
  std::string svg;
  for (std::size_t i = 1; i < series.points.size(); ++i) {
    const PlotPoint &from = series.points[i - 1], &to = series.points[i];
    if (!is_usable(from.x) || !is_usable(from.y) || !is_usable(to.x) || !is_usable(to.y)) continue;
    svg += draw_line("segment " + series.color,
                     {percent(plot.x, from.x), pixels(height_of(plot, from.y)),
                      percent(plot.x, to.x), pixels(height_of(plot, to.y))});
  }
  return svg;
}

std::string draw_series(const Plot& plot, const Series& series) {
  std::string svg = series.mark == Mark::kLine ? draw_segments(plot, series) : "";
  for (const PlotPoint& point : series.points) {
    if (!is_usable(point.x) || !is_usable(point.y)) continue;
    svg +=
        series.mark == Mark::kBars ? draw_bar(plot, series, point) : draw_dot(plot, series, point);
  }
  return svg;
}

std::string open_svg(const std::string& kind, const std::string& label, int height) {
  return join("<div class=\"", kind, "\"><svg role=\"img\" aria-label=\"", escape_html(label),
              "\" height=\"", height, "\">\n");
}

std::string legend_entry(const std::string& swatch, const std::string& name) {
  return join("<li><i ", swatch, "></i>", escape_html(name), "</li>\n");
}

std::string draw_legend(const Plot& plot) {
  std::string entries;
  std::size_t names = 0;
  for (const Series& series : plot.series) {
    if (series.points.empty() || series.name.empty()) continue;
    const std::string shape = series.mark == Mark::kBars ? "" : " dot";
    entries += legend_entry(join("class=\"", series.color, shape, "\""), series.name);
    ++names;
  }
  for (const Rule& rule : plot.rules) {
    if (!is_usable(rule.y)) continue;
    entries += legend_entry("class=\"rule\"", rule.name);
    ++names;
  }
  return names < 2 ? "" : join("<ul class=\"legend\">\n", entries, "</ul>\n");
}

std::string level_opacity(int level, std::size_t levels) {
  constexpr double kWeakest = 0.22;
  const double steps = std::max(1.0, static_cast<double>(levels) - 1.0);
  return print(kWeakest + (1.0 - kWeakest) * std::min<double>(level, steps) / steps,
               std::chars_format::fixed, 2);
}

std::string draw_span(const SpanPlot& plot, const PlotSpan& span, int y) {
  constexpr int kThick = 24;
  const bool crowded = plot.x.high - plot.x.low > 40;
  const double width = 100.0 * (span.last - span.first) / (plot.x.high - plot.x.low);
  return join("<rect class=\"block\" x=\"", percent(plot.x, span.first), "\" y=\"", y,
              "\" width=\"", print(width, std::chars_format::fixed, 2), "%\" height=\"", kThick,
              "\" rx=\"", crowded ? 3 : 6, "\" stroke-width=\"", crowded ? 1 : 3,
              "\" fill-opacity=\"", level_opacity(span.level, plot.levels.size()), "\">",
              title_of(span.title), "</rect>\n");
}

double pearson(const std::vector<double>& a, const std::vector<double>& b) {
  const auto n = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double aa = 0.0, bb = 0.0, ab = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
    ab += (a[i] - mean_a) * (b[i] - mean_b);
  }
  const bool known = aa > 0.0 && bb > 0.0;
  return known ? ab / std::sqrt(aa) / std::sqrt(bb) : std::numeric_limits<double>::quiet_NaN();
}

// Ranks from 0; values that are equal share the mean of theirs.
std::vector<double> ranks_of(const std::vector<double>& values) {
  std::vector<double> ranks;
  for (const double value : values) {
    const auto below = std::ranges::count_if(values, [&](double other) { return other < value; });
    const auto equal = std::ranges::count(values, value);
    ranks.push_back(static_cast<double>(below) + 0.5 * static_cast<double>(equal - 1));
  }
  return ranks;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string format_fixed(double value, int decimals) {
  if (std::isnan(value)) return "-";
  if (!is_usable(value)) return value > 0 ? "unlimited" : "-unlimited";
  return print(value, std::chars_format::fixed, decimals);
}

std::string format_number(double value) {
  const double size = std::abs(value);
  if (!is_usable(value)) return format_fixed(value, 0);
  if (size < 1e15 && (size >= 999.5 || value == std::round(value)))
    return group_digits(print(std::round(value) + 0.0, std::chars_format::fixed, 0));
  if (size < 1e-4 || size >= 1e15) return print(value, std::chars_format::scientific, 2);
  const int decimals = 2 - static_cast<int>(std::floor(std::log10(size)));
  return print(value, std::chars_format::fixed, decimals);
}

std::string format_count(std::int64_t count, const std::string& one) {
  return format_number(static_cast<double>(count)) + " " + one + (count == 1 ? "" : "s");
}

std::string format_percent(double share) {
  return std::isnan(share) ? "-" : format_fixed(100.0 * share, 1) + " %";
}

std::string format_seconds(double seconds) {
  if (!is_usable(seconds) || seconds < 59.5) return format_number(seconds) + " s";
  const double whole = std::round(seconds);
  const double minutes = std::floor(whole / 60.0), hours = std::floor(minutes / 60.0);
  if (hours < 1.0)
    return format_number(minutes) + " min " + format_number(whole - 60.0 * minutes) + " s";
  return format_number(hours) + " h " + format_number(minutes - 60.0 * hours) + " min";
}

Correlation correlate(const std::vector<double>& x, const std::vector<double>& y) {
  std::vector<double> a, b;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!is_usable(x[i]) || !is_usable(y[i])) continue;
    a.push_back(x[i]);
    b.push_back(y[i]);
  }
  return {pearson(a, b), pearson(ranks_of(a), ranks_of(b)), std::ssize(a)};
}

Axis make_value_axis(const std::string& label, const std::vector<double>& values, bool with_zero) {
  std::vector<double> usable(with_zero ? 1 : 0, 0.0);
  std::ranges::copy_if(values, std::back_inserter(usable), is_usable);
  if (usable.empty()) usable.push_back(0.0);
  auto [low, high] = std::ranges::minmax(usable);
  const double size = std::max(std::abs(low), std::abs(high));
  if (high - low < kSmallest || high - low <= 1e-9 * size) {  // one value
    low -= size < kSmallest ? 0.0 : 0.1 * size;
    high += size < kSmallest ? 1.0 : 0.1 * size;
  }
  const double step = round_step((high - low) / kTicks);
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  Axis axis{label, first * step, last * step, {}};
  for (int i = 0; i <= static_cast<int>(last - first); ++i) {
    const double at = (first + i) * step;
    axis.ticks.push_back({at, tick_label(at, step, size)});
  }
  return axis;
}

Axis make_layer_axis(const std::string& label, std::int64_t layers) {
  Axis axis{label, 0.0, static_cast<double>(std::max<std::int64_t>(layers, 1)), {}};
  std::int64_t step = 1;
  for (const std::int64_t wider : {2, 5, 10, 20, 50, 100, 200, 500, 1000})
    if ((layers + step - 1) / step > kLayerTicks) step = wider;
  for (std::int64_t layer = 0; layer < layers; layer += step)
    axis.ticks.push_back({static_cast<double>(layer) + 0.5, std::to_string(layer)});
  return axis;
}

std::string draw_plot(const Plot& plot) {
  std::string svg = open_svg("plot", plot.label, plot.height) + draw_y_axis(plot) +
                    draw_x_axis(plot.x, plot.height);
  for (const Series& series : plot.series)
    svg += draw_series(plot, series);
  for (const Rule& rule : plot.rules) {
    if (!(rule.y >= plot.y.low && rule.y <= plot.y.high)) continue;
    const std::string y = pixels(height_of(plot, rule.y));
    svg += draw_line("rule", {"0", y, "100%", y});
  }
  return svg + "</svg></div>\n" + draw_legend(plot);
}

std::string draw_spans(const SpanPlot& plot) {
  constexpr int kRow = 58, kText = 16;
  const int height = kRow * static_cast<int>(plot.rows.size()) - 8;
  std::string svg = open_svg("plot spans", plot.label, std::max(height, 0));
  int y = 0;
  for (const SpanRow& row : plot.rows) {
    svg += draw_text(join("class=\"strong\" x=\"2\" y=\"", y + kText, "\""), row.name);
    svg += draw_text(join("x=\"100%\" y=\"", y + kText, "\" text-anchor=\"end\""), row.note);
    for (const PlotSpan& span : row.spans)
      svg += draw_span(plot, span, y + kText + 8);
    y += kRow;
  }
  std::string entries;
  for (std::size_t i = 0; i < plot.levels.size(); ++i) {
    const std::string opacity = level_opacity(static_cast<int>(i), plot.levels.size());
    entries += legend_entry(join("style=\"opacity: ", opacity, "\""), plot.levels[i]);
  }
  return join(svg, draw_x_axis(plot.x, std::max(height, 0)), "</svg></div>\n",
              "<ul class=\"legend\">\n", entries, "</ul>\n");
}

}  // namespace qvlm
