// Plain-text tables: aligned columns, ASCII, two blanks between columns.
#pragma once

#include <string>
#include <vector>

namespace qvlm::cli {

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kRight;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // REQUIRES: one cell a column.
  void add_row(std::vector<std::string> cells);
  void add_rule();  // a line between rows

  std::string text() const;
  std::string markdown() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;  // an empty row is a rule
};

}  // namespace qvlm::cli
