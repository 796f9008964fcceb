// YAML with every key checked: a misspelt one, one given twice or a value of the wrong type is an
// error that names file, line and key. Recipes and limits are read with it.
#pragma once

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"

namespace qvlm {

class YamlReader {
 public:
  explicit YamlReader(const std::filesystem::path& file) : file_(file.string()) {}

  YAML::Node parse() const {
    try {
      return YAML::Load(read_text_file(file_));
    } catch (const YAML::Exception& error) {
      fail(ErrorKind::kInvalidArgument, file_, ": not valid YAML: ", error.what());
    }
  }

  std::string where(const YAML::Node& node) const {
    return file_ + ":" + std::to_string(node.Mark().line + 1) + ": ";
  }

  void check_keys(const YAML::Node& node,
                  const std::string& what,
                  std::initializer_list<const char*> known) const {
    require(node.IsMap(), ErrorKind::kInvalidArgument, where(node), what,
            " must be a mapping of keys to values");
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const auto key = value<std::string>(entry.first, "a key");
      require(seen.insert(key).second, ErrorKind::kInvalidArgument, where(entry.first), "the key '",
              key, "' is given twice in ", what);
      std::string list;
      for (const char* name : known)
        list += (list.empty() ? "" : ", ") + std::string(name);
      const bool good = std::find(known.begin(), known.end(), key) != known.end();
      require(good, ErrorKind::kInvalidArgument, where(entry.first), "unknown key '", key, "' in ",
              what, "; known are ", list);
    }
  }

  template <typename T>
  T value(const YAML::Node& node, const char* key) const {
    try {
      return node.as<T>();
    } catch (const YAML::Exception&) {
      fail(ErrorKind::kInvalidArgument, where(node), "the value of '", key, "' has the wrong type");
    }
  }

  template <typename T>
  T required(const YAML::Node& parent, const char* key) const {
    require(parent[key].IsDefined(), ErrorKind::kInvalidArgument, where(parent), "the key '", key,
            "' is missing");
    return value<T>(parent[key], key);
  }

  template <typename T>
  T optional(const YAML::Node& parent, const char* key, T otherwise) const {
    return parent[key].IsDefined() ? value<T>(parent[key], key) : otherwise;
  }

  // A value of a closed set, by its name.
  template <typename T>
  T choice(const YAML::Node& parent,
           const char* key,
           const std::vector<std::pair<const char*, T>>& known,
           T otherwise) const {
    if (!parent[key].IsDefined()) return otherwise;
    const auto name = value<std::string>(parent[key], key);
    std::string list;
    for (const auto& [text, meaning] : known) {
      if (text == name) return meaning;
      list += (list.empty() ? "" : ", ") + std::string(text);
    }
    fail(ErrorKind::kInvalidArgument, where(parent[key]), "'", key, "': unknown value '", name,
         "'; known are ", list);
  }

  // A number from low to high.
  template <typename T>
  T number(const YAML::Node& parent, const char* key, T otherwise, T low, T high) const {
    const T number = optional<T>(parent, key, otherwise);
    require(number >= low && number <= high, ErrorKind::kInvalidArgument,
            where(parent[key].IsDefined() ? parent[key] : parent), "'", key, "': expected ", low,
            " to ", high, ", got ", number);
    return number;
  }

  const std::string& file() const { return file_; }

 private:
  std::string file_;
};

}  // namespace qvlm
