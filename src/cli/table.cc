#include "cli/table.h"

#include <algorithm>
#include <cassert>

namespace qvlm::cli {
namespace {

// Columns a UTF-8 text takes: its characters, counted by the bytes that begin one.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U;
  }));
}

std::string aligned(const std::string& text, std::size_t width, Table::Align align) {
  const std::string blanks(width - std::min(width, width_of(text)), ' ');
  return align == Table::Align::kLeft ? text + blanks : blanks + text;
}

// A bar would end the cell.
std::string escaped(std::string cell) {
  for (std::size_t at = cell.find('|'); at != std::string::npos; at = cell.find('|', at + 2))
    cell.insert(at, "\\");
  return cell;
}

}  // namespace

void Table::add_row(std::vector<std::string> cells) {
  assert(cells.size() == columns_.size());
  rows_.push_back(std::move(cells));
}

void Table::add_rule() {
  rows_.emplace_back();
}

std::string Table::text() const {
  std::vector<std::string> titles;
  std::vector<std::size_t> widths;
  for (const Column& column : columns_) {
    titles.push_back(column.title);
    widths.push_back(width_of(column.title));
  }
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string rule, text;
  for (const std::size_t width : widths)
    rule += (rule.empty() ? "" : "  ") + std::string(width, '-');
  const auto add = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      line += (i == 0 ? "" : "  ") + aligned(cells[i], widths[i], columns_[i].align);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add(titles);
  text += rule + "\n";
  for (const auto& row : rows_) {
    if (row.empty()) {
      text += rule + "\n";
    } else {
      add(row);
    }
  }
  return text;
}

std::string Table::markdown() const {
  std::string text = "|", rule = "|";
  for (const Column& column : columns_) {
    text += " " + column.title + " |";
    rule += column.align == Align::kLeft ? " --- |" : " ---: |";
  }
  text += "\n" + rule + "\n";
  for (const auto& row : rows_) {
    if (row.empty()) continue;
    text += "|";
    for (const std::string& cell : row)
      text += " " + escaped(cell) + " |";
    text += "\n";
  }
  return text;
}

}  // namespace qvlm::cli
