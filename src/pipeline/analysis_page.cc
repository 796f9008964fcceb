#include "pipeline/analysis_page.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "pipeline/analysis_verdict.h"
#include "pipeline/svg_plot.h"

namespace qvlm {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

constexpr std::string_view kPageStyle = R"(
:root { color-scheme: light dark; --page: #fcfcfa; --ink: #1b1e23; --soft: #59606b; --line: #dcdee2;
  --accent: #2458a6; --muted: #b4c1d6; --warn: #b34d0c; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --ink: #e7e9ec; --soft: #a3abb7;
  --line: #32373f; --accent: #82b1ff; --muted: #47566e; --warn: #f3a55c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: clamp(1.5rem, 5vw, 4rem) clamp(1rem, 4vw, 2rem); }
h1, .facts td { overflow-wrap: anywhere; }
h1 { margin: 0; font-size: clamp(1.8rem, 6vw, 2.75rem); line-height: 1.15;
  letter-spacing: -.02em; }
h2 { margin: 3.5rem 0 .4rem; font-size: 1.35rem; line-height: 1.25; letter-spacing: -.01em; }
h3 { margin: 1.8rem 0 .4rem; font-size: 1rem; }
p { margin: .4rem 0 1rem; max-width: 42rem; color: var(--soft); }
.eyebrow { margin: 0 0 .3rem; font-size: .8rem; font-weight: 600; letter-spacing: .06em;
  color: var(--accent); }
.verdict { margin: .9rem 0 2rem; max-width: 40rem; font-size: 1.2rem; line-height: 1.45;
  color: var(--ink); }
.columns > section { min-width: 0; }
@media (min-width: 60rem) { .columns { display: grid; gap: 0 3rem; grid-template-columns: 1fr 1fr; }
  .columns.uneven { grid-template-columns: 2fr 1fr; } }
.scroll { overflow-x: auto; margin: .6rem 0; background:
  linear-gradient(to left, var(--page) .9rem, transparent) right / 2rem 100% no-repeat local,
  linear-gradient(to left, var(--line), transparent) right / .8rem 100% no-repeat scroll; }
table { border-collapse: separate; border-spacing: 0; font-size: .9rem; line-height: 1.25rem; }
th, td { padding: .375rem .9rem .375rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; font-weight: 400; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
.numbers { width: 100%; }
.numbers th:first-child { position: sticky; left: 0; background: var(--page); white-space: nowrap; }
.numbers td, .numbers thead th + th { padding: .375rem 0 .375rem .9rem; text-align: right;
  font-variant-numeric: tabular-nums; }
.numbers td { white-space: nowrap; }
.reasons th { white-space: nowrap; }
.facts th { color: var(--soft); min-width: 6.5rem; }
.result { color: var(--ink); font-weight: 600; }
.mark { color: var(--warn); font-weight: 700; }
details { border-bottom: 1px solid var(--line); }
summary { padding: .65rem 0; cursor: pointer; }
summary span { color: var(--soft); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
)";

std::string layers_text(std::int64_t first, int depth) {
  return depth == 1 ? join(first) : join(first, " to ", first + depth - 1);
}

std::string pair_text(std::int64_t first) {
  return join("layers ", first, " and ", first + 1);
}

std::string model_name(const Analysis& analysis) {
  std::string name = analysis.model;
  while (name.ends_with('/'))
    name.pop_back();
  name = name.substr(name.rfind('/') + 1);
  return name.empty() ? "unnamed model" : name;
}

std::string element(const std::string& tag, const std::string& content) {
  return join("<", tag, ">", content, "</", tag.substr(0, tag.find(' ')), ">\n");
}

std::string text_element(const std::string& tag, const std::string& text) {
  return element(tag, escape_html(text));
}

// A heading, a paragraph that says how to read it, and the thing itself.
std::string make_section(const std::string& title,
                         const std::string& intro,
                         const std::string& html) {
  return element("h2", title) + element("p", intro) + html;
}

// Two things beside each other, on a phone below each other.
std::string make_columns(const std::string& kind,
                         const std::array<std::string, 2>& titles,
                         const std::array<std::string, 2>& html) {
  std::string sections;
  for (std::size_t i = 0; i < titles.size(); ++i)
    sections += element("section", element("h3", titles[i]) + html[i]);
  return element("div class=\"" + kind + "\"", sections);
}

using Row = std::vector<std::string>;

// The first cell of each row is its header. Cells are HTML. Wide tables scroll on a phone.
std::string make_table(const std::string& kind,
                       const std::string& label,
                       const Row& header,
                       const std::vector<Row>& rows) {
  std::string head, body;
  for (const std::string& cell : header)
    head += element("th scope=\"col\"", cell);
  for (const Row& row : rows) {
    std::string cells = element("th scope=\"row\"", row.front());
    for (std::size_t i = 1; i < row.size(); ++i)
      cells += element("td", row[i]);
    body += element("tr", cells);
  }
  if (!head.empty()) head = element("thead", element("tr", head));
  return element("div class=\"scroll\" role=\"group\" tabindex=\"0\" aria-label=\"" + label + "\"",
                 element("table class=\"" + kind + "\"", head + element("tbody", body)));
}

std::string token_text(const Analysis& analysis) {
  const CalibrationReport& report = analysis.calibration;
  const auto all = static_cast<double>(report.tokens());
  const auto share = [all](std::int64_t tokens) {
    return format_percent(static_cast<double>(tokens) / all);
  };
  return format_number(all) + ": image " + share(report.image_tokens) + ", text " +
         share(report.text_tokens) + ", answer " + share(report.answer_tokens);
}

std::string make_facts(const Analysis& analysis) {
  const std::string budget = std::isfinite(analysis.budget)
                                 ? format_number(analysis.budget) + " layer-forwards"
                                 : "unlimited, as the recipe gives a threshold";
  std::vector<Row> rows = {
      {"Model", analysis.model},
      {"Data", analysis.data},
      {"SHA-256 of the data", analysis.calibration.data_sha256},
      {"Samples", format_number(static_cast<double>(analysis.calibration.samples))},
      {"Tokens", token_text(analysis)},
      {"Softness of codes, tau", format_number(analysis.tau)},
      {"Budget of a plan", budget},
      {"Deepest block", format_count(analysis.max_depth, "layer")},
      {"Recipe", analysis.recipe},
      {"Time taken", format_seconds(analysis.seconds)}};
  for (Row& row : rows)
    row[1] = escape_html(row[1]);
  return make_table("facts", "Facts", {}, rows);
}

std::string plot_entropy(const std::string& tower, const std::vector<LayerAnalysis>& layers) {
  if (layers.empty()) return element("p", "No layers were measured.");
  Series line{Mark::kLine, "entropy", "accent", {}};
  Series collapsed{Mark::kPoints, "codes collapsed by outliers", "warn", {}};
  std::vector<double> values;
  for (std::size_t k = 0; k < layers.size(); ++k) {
    const LayerAnalysis& layer = layers[k];
    line.points.push_back({static_cast<double>(k) + 0.5, layer.entropy,
                           layer.name + ": entropy " + format_fixed(layer.entropy, 3)});
    if (is_collapsed(layer)) collapsed.points.push_back(line.points.back());
    values.push_back(layer.entropy);
  }
  return draw_plot({"Entropy of the output of each layer of the " + tower,
                    make_layer_axis(tower + " layer", std::ssize(layers)),
                    make_value_axis("nats per element", values, false),
                    {line, collapsed},
                    {}});
}

std::string plot_dependency(const Analysis& analysis) {
  const std::int64_t layers = std::ssize(analysis.decoder);
  if (layers < 2) return element("p", "There are no neighbouring layers.");
  const PlanAnalysis* plan = find_plan(analysis, "entropy");
  std::vector<bool> joined(analysis.decoder.size(), false);  // k with k + 1
  for (const PlannedBlock& block : plan == nullptr ? std::vector<PlannedBlock>{} : plan->blocks) {
    for (std::int64_t k = block.first; k + 1 < block.first + block.depth && k < layers; ++k)
      joined[static_cast<std::size_t>(k)] = true;
  }
  Series inside{Mark::kBars, "joined by the entropy plan", "accent", {}};
  Series between{Mark::kBars, "not joined", "muted", {}};
  std::vector<double> values;
  for (std::int64_t k = 0; k + 1 < layers; ++k) {
    const auto i = static_cast<std::size_t>(k);
    const double value = analysis.decoder[i].dependency;
    (joined[i] ? inside : between)
        .points.push_back(
            {static_cast<double>(k) + 1.0, value, pair_text(k) + ": D " + format_fixed(value, 3)});
    values.push_back(value);
  }
  std::vector<Rule> rules;
  if (plan != nullptr && plan->h0) {
    const bool shown = *plan->h0 < 2.0 * std::ranges::max(values);
    if (shown) values.push_back(*plan->h0);
    rules.push_back({*plan->h0, "threshold h0 = " + format_number(*plan->h0) +
                                    (shown ? "" : ", above the plot")});
  }
  return draw_plot({"Dependency of neighbouring decoder layers",
                    make_layer_axis("decoder layer", layers),
                    make_value_axis("D(k, k+1), nats per element", values, true),
                    {inside, between},
                    rules});
}

std::string plot_plans(const Analysis& analysis) {
  SpanPlot plot{"Blocks of every strategy over the decoder layers",
                make_layer_axis("decoder layer", std::ssize(analysis.decoder)),
                {},
                {}};
  int deepest = 1;
  for (const PlanAnalysis& plan : analysis.plans) {
    SpanRow row{plan.strategy,
                "cost " + format_number(plan.cost) + ", gain " + format_number(plan.gain),
                {}};
    for (const PlannedBlock& block : plan.blocks) {
      const auto first = static_cast<double>(block.first);
      row.spans.push_back({first, first + block.depth, block.depth - 1,
                           (block.depth == 1 ? "layer " : "layers ") +
                               layers_text(block.first, block.depth) + ": " + block.reason});
      deepest = std::max(deepest, block.depth);
    }
    plot.rows.push_back(row);
  }
  for (int depth = 1; depth <= deepest; ++depth)
    plot.levels.push_back(format_count(depth, "layer"));
  return plot.rows.empty() ? element("p", "No plans were made.") : draw_spans(plot);
}

std::string plot_gains(const std::vector<Pair>& pairs,
                       double Pair::*number,
                       const std::string& what) {
  Series dots{Mark::kPoints, "pair of layers", "accent", {}};
  Series collapsed{Mark::kPoints, "codes of one or both collapsed by outliers", "warn", {}};
  std::vector<double> x, y;
  for (const Pair& pair : pairs) {
    x.push_back(pair.*number);
    y.push_back(pair.gain);
    (pair.collapsed ? collapsed : dots)
        .points.push_back({x.back(), y.back(),
                           pair_text(pair.first) + ": " + format_number(x.back()) + ", DED " +
                               format_number(y.back())});
  }
  const Correlation found = correlate_pairs(pairs, number);
  return draw_plot({"DED of pairs of layers against " + what,
                    make_value_axis(what, x, false),
                    make_value_axis("DED", y, true),
                    {dots, collapsed},
                    {}}) +
         text_element("p class=\"result\"", join("Pearson ", format_fixed(found.pearson, 2),
                                                 ", Spearman ", format_fixed(found.spearman, 2),
                                                 ", ", format_count(found.count, "pair")));
}

std::string make_gains(const Analysis& analysis) {
  const std::string title = "Entropy against the gain of joint search";
  const std::vector<Pair> pairs = measured_pairs(analysis);
  if (pairs.empty())
    return make_section(title,
                        "Not measured: the option <code>--joint-gains</code> measures what "
                        "joint search of neighbouring layers gains, and compares.",
                        "");
  return make_section(
      title,
      "A dot is a pair of neighbouring layers. DED is the error after searching one layer "
      "after the other minus the error after searching both jointly. Dots along a rising "
      "line mean that the cheap number predicts the costly one.",
      make_columns(
          "columns",
          {"By dependency, as the strategy entropy plans", "By error, as the strategy error plans"},
          {plot_gains(pairs, &Pair::dependency, "D(k, k+1), nats per element"),
           plot_gains(pairs, &Pair::error, "mean rounding error of the two layers")}));
}

// What towers have in common; times come last.
Row layer_cells(const std::vector<LayerAnalysis>& layers, std::size_t k) {
  const LayerAnalysis& layer = layers[k];
  const std::string mark = "<span class=\"mark\" role=\"img\" aria-label=\"warning\">!</span> ";
  return {escape_html(layer.name), format_fixed(layer.entropy, 3),
          k + 1 == layers.size() ? "-" : format_fixed(layer.dependency, 3),
          (is_collapsed(layer) ? mark : "") + format_percent(layer.level_share)};
}

std::string decoder_table(const Analysis& analysis) {
  const bool gains = !analysis.joint_gains.empty();
  Row header = {"Layer", "Entropy", "D with next", "Level share", "Error"};
  if (gains) header.push_back("DED with next");
  header.push_back("ms per forward");
  std::vector<Row> rows;
  for (std::size_t k = 0; k < analysis.decoder.size(); ++k) {
    rows.push_back(layer_cells(analysis.decoder, k));
    rows.back().push_back(format_number(analysis.decoder[k].error));
    const double gain = measured_gain(analysis, static_cast<std::int64_t>(k), 2);
    if (gains) rows.back().push_back(format_number(gain));
    rows.back().push_back(format_number(1e3 * analysis.decoder[k].forward_seconds));
  }
  return element("h3", "Decoder") + make_table("numbers", "Decoder layers", header, rows);
}

std::string vision_table(const Analysis& analysis) {
  std::vector<Row> rows;
  for (std::size_t k = 0; k < analysis.vision.size(); ++k) {
    rows.push_back(layer_cells(analysis.vision, k));
    rows.back().push_back(format_number(1e3 * analysis.vision[k].forward_seconds));
  }
  if (rows.empty()) return "";
  return element("h3", "Vision tower") +
         make_table("numbers", "Vision tower layers",
                    {"Layer", "Entropy", "D with next", "Level share", "ms per forward"}, rows);
}

std::string plan_table(const Analysis& analysis) {
  if (analysis.plans.empty()) return "";
  Row header = {"Strategy", "Blocks", "Layers joined", "Cost", "Of budget", "h0", "Gain"};
  const bool gains = !analysis.joint_gains.empty();
  if (gains) header.push_back("Sum of DED");
  std::vector<Row> rows;
  for (const PlanAnalysis& plan : analysis.plans) {
    rows.push_back(
        {escape_html(plan.strategy), format_number(static_cast<double>(plan.blocks.size())),
         format_number(static_cast<double>(count_joined(plan))), format_number(plan.cost),
         format_percent(std::isfinite(analysis.budget) ? plan.cost / analysis.budget : kUnknown),
         plan.h0 ? format_number(*plan.h0) : "-", format_number(plan.gain)});
    if (gains) rows.back().push_back(format_number(measured_gain(analysis, plan)));
  }
  return make_table("numbers", "Plans", header, rows);
}

std::string plan_details(const PlanAnalysis& plan) {
  std::vector<Row> rows;
  for (const PlannedBlock& block : plan.blocks)
    rows.push_back({layers_text(block.first, block.depth), escape_html(block.reason)});
  const std::string name = escape_html(plan.strategy);
  return element(
      "details",
      element("summary",
              name + " <span>" + format_count(std::ssize(plan.blocks), "block") + "</span>") +
          make_table("reasons", "Blocks of " + name, {"Layers", "Reason"}, rows));
}

std::string make_plans(const Analysis& analysis) {
  std::string html = plot_plans(analysis) + plan_table(analysis);
  for (const PlanAnalysis& plan : analysis.plans)
    html += plan_details(plan);
  return make_section(
      "Blocks of every strategy",
      "Layers of one block are searched jointly. Cost is in layer-forwards; gain is "
      "in each strategy's own numbers, so it compares within a strategy only.",
      html);
}

std::string make_body(const Analysis& analysis) {
  return element("p class=\"eyebrow\"", "qvlm analyze") + text_element("h1", model_name(analysis)) +
         text_element("p class=\"verdict\"", make_verdict(analysis)) + make_facts(analysis) +
         make_section("Entropy of each layer's output",
                      "Of codes with 16 levels, natural logarithm: at most 2.77.",
                      make_columns("columns uneven", {"Decoder", "Vision tower"},
                                   {plot_entropy("decoder", analysis.decoder),
                                    plot_entropy("vision tower", analysis.vision)})) +
         make_section("Dependency of neighbouring decoder layers",
                      "D(k, k+1) is the entropy of the next layer's codes given the layer's own. "
                      "From the first layer on, a block grows while its bars average above the "
                      "threshold.",
                      plot_dependency(analysis)) +
         make_plans(analysis) + make_gains(analysis) +
         make_section("All layers",
                      "<span class=\"mark\">!</span> marks a level share above 90 %: outliers have "
                      "collapsed nearly all codes into one, and the entropy says little. Error is "
                      "the relative error at the layer's output when only it is rounded.",
                      decoder_table(analysis) + vision_table(analysis));
}

}  // namespace

std::string make_analysis_page(const Analysis& analysis) {
  return join("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
              "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
              text_element("title", model_name(analysis) + " - qvlm analyze"), "<style>",
              kPageStyle, kPlotStyle, "</style>\n</head>\n<body>\n",
              element("main", make_body(analysis)), "</body>\n</html>\n");
}

}  // namespace qvlm
