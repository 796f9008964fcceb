#include "base/json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"

namespace qvlm {
namespace {

using Tree = nlohmann::ordered_json;

// Real files stay below ten; copying and printing a tree take a stack frame per level.
constexpr std::size_t kMaxDepth = 200;

const Tree& tree(const void* node) {
  return *static_cast<const Tree*>(node);
}

std::string child_path(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : path + "." + std::string(key);
}

// Builds the tree from the parser's events. nlohmann's own builder searches an object for every key
// it adds, which takes seconds for a vocabulary, and resolves a duplicate key silently to the last
// one.
class TreeBuilder : public nlohmann::json_sax<Tree> {
 public:
  TreeBuilder(Tree& root, std::string_view source) : root_(root), source_(source) {}

  bool null() override { return add(nullptr) != nullptr; }
  bool boolean(bool value) override { return add(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return add(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return add(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override {
    return add(value) != nullptr;
  }
  bool string(string_t& value) override { return add(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return false; }  // not in JSON text

  bool start_object(std::size_t) override { return open(Tree::object()); }
  bool start_array(std::size_t) override { return open(Tree::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& key) override {
    require(open_.back().keys.insert(key).second, ErrorKind::kCorrupt, source_, ": duplicate key '",
            key, "'");
    key_ = std::move(key);
    return true;
  }

  bool parse_error(std::size_t,
                   const std::string&,
                   const nlohmann::detail::exception& error) override {
    fail(ErrorKind::kCorrupt, source_, ": not valid JSON: ", error.what());
  }

 private:
  struct Open {
    Tree* node;
    std::unordered_set<std::string> keys;
  };

  // The open node is the last child of its parent, which cannot grow meanwhile: the pointers stay
  // good.
  Tree* add(Tree&& value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Tree& parent = *open_.back().node;
    if (parent.is_array()) {
      auto& elements = parent.get_ref<Tree::array_t&>();
      elements.push_back(std::move(value));
      return &elements.back();
    }
    Tree::object_t::Container& members = parent.get_ref<Tree::object_t&>();
    members.emplace_back(std::move(key_), std::move(value));
    return &members.back().second;
  }

  bool open(Tree&& node) {
    require(open_.size() < kMaxDepth, ErrorKind::kCorrupt, source_, ": nested deeper than ",
            kMaxDepth, " levels");
    open_.push_back({add(std::move(node)), {}});
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  Tree& root_;
  std::string_view source_;
  std::string key_;
  std::vector<Open> open_;
};

}  // namespace

struct Json::Document {
  Tree tree;
  std::string source;
};

Json::Json() : document_(std::make_shared<Document>()), node_(&document_->tree) {}
Json::Json(std::shared_ptr<const Document> document, const void* node, std::string path)
    : document_(std::move(document)), node_(node), path_(std::move(path)) {}

Json::Json(bool value) : document_(new Document{value, {}}), node_(&document_->tree) {}
Json::Json(int value) : document_(new Document{value, {}}), node_(&document_->tree) {}
Json::Json(std::int64_t value) : document_(new Document{value, {}}), node_(&document_->tree) {}
Json::Json(double value)
    : document_(new Document{std::isfinite(value) ? Tree(value) : Tree(), {}}),
      node_(&document_->tree) {}
Json::Json(const char* value) : Json(std::string_view(value)) {}
Json::Json(std::string_view value)
    : document_(new Document{std::string(value), {}}), node_(&document_->tree) {}
Json::Json(const std::string& value) : Json(std::string_view(value)) {}

Json Json::object() {
  auto document = std::shared_ptr<const Document>(new Document{Tree::object(), {}});
  return Json(document, &document->tree, "");
}

Json Json::array() {
  auto document = std::shared_ptr<const Document>(new Document{Tree::array(), {}});
  return Json(document, &document->tree, "");
}

Json Json::parse(std::string_view text, std::string_view source) {
  auto document = std::make_shared<Document>();
  document->source = source;
  TreeBuilder builder(document->tree, source);
  Tree::sax_parse(text.begin(), text.end(), &builder);
  const void* root = &document->tree;
  return Json(std::move(document), root, "");
}

Json Json::load(const std::filesystem::path& file) {
  return parse(read_text_file(file), file.string());
}

void for_each_json_line(const std::filesystem::path& file,
                        const std::function<void(const Json&)>& visit) {
  const std::string text = read_text_file(file);
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    const bool blank = line.find_first_not_of(" \t\r") == std::string_view::npos;
    if (!blank) visit(Json::parse(line, join(file.string(), ":", number)));
  }
}

bool Json::is_null() const {
  return tree(node_).is_null();
}
bool Json::is_object() const {
  return tree(node_).is_object();
}
bool Json::is_array() const {
  return tree(node_).is_array();
}
bool Json::is_string() const {
  return tree(node_).is_string();
}
bool Json::is_bool() const {
  return tree(node_).is_boolean();
}
bool Json::is_int() const {
  return tree(node_).is_number_integer();
}
bool Json::is_number() const {
  return tree(node_).is_number();
}

std::size_t Json::size() const {
  return is_object() || is_array() ? tree(node_).size() : 0;
}

bool Json::contains(std::string_view key) const {
  return is_object() && tree(node_).contains(key);
}

std::string Json::where() const {
  const std::string source = document_->source.empty() ? "JSON" : document_->source;
  return path_.empty() ? source : source + ": " + path_;
}

Json Json::get(std::string_view key) const {
  require(is_object(), ErrorKind::kCorrupt, where(), ": expected an object with the key '", key,
          "', got ", tree(node_).type_name());
  const auto found = tree(node_).find(key);
  require(found != tree(node_).end(), ErrorKind::kNotFound, where(), ": the key '", key,
          "' is missing");
  return Json(document_, &*found, child_path(path_, key));
}

Json Json::find(std::string_view key) const {
  return contains(key) ? get(key) : Json();
}

Json Json::at(std::size_t index) const {
  require(is_array() && index < size(), ErrorKind::kCorrupt, where(),
          ": expected an array of more than ", index, " elements, got ", tree(node_).type_name(),
          " of ", size());
  return Json(document_, &tree(node_)[index], path_ + "[" + std::to_string(index) + "]");
}

void Json::for_each(const std::function<void(const std::string&, const Json&)>& visit) const {
  for (const auto& [key, value] : tree(node_).items()) {
    visit(key,
          Json(document_, &value, is_array() ? path_ + "[" + key + "]" : child_path(path_, key)));
  }
}

std::string Json::as_string() const {
  require(is_string(), ErrorKind::kCorrupt, where(), ": expected a string, got ",
          tree(node_).type_name());
  return tree(node_).get<std::string>();
}

std::int64_t Json::as_int() const {
  const Tree& value = tree(node_);
  const bool whole = is_number() && std::floor(value.get<double>()) == value.get<double>();
  require(whole, ErrorKind::kCorrupt, where(), ": expected an integer, got ", value.dump());
  const bool fits = value.is_number_unsigned()
                        ? std::in_range<std::int64_t>(value.get<std::uint64_t>())
                        : value.is_number_integer() || std::fabs(value.get<double>()) < 0x1p63;
  require(fits, ErrorKind::kCorrupt, where(), ": ", value.dump(), " is out of range");
  return value.get<std::int64_t>();
}

double Json::as_double() const {
  require(is_number(), ErrorKind::kCorrupt, where(), ": expected a number, got ",
          tree(node_).type_name());
  return tree(node_).get<double>();
}

bool Json::as_bool() const {
  require(is_bool(), ErrorKind::kCorrupt, where(), ": expected true or false, got ",
          tree(node_).type_name());
  return tree(node_).get<bool>();
}

std::vector<std::int64_t> Json::as_ints() const {
  require(is_array(), ErrorKind::kCorrupt, where(), ": expected an array, got ",
          tree(node_).type_name());
  std::vector<std::int64_t> values;
  for (std::size_t i = 0; i < size(); ++i)
    values.push_back(at(i).as_int());
  return values;
}

std::vector<std::string> Json::as_strings() const {
  require(is_array(), ErrorKind::kCorrupt, where(), ": expected an array, got ",
          tree(node_).type_name());
  std::vector<std::string> values;
  for (std::size_t i = 0; i < size(); ++i)
    values.push_back(at(i).as_string());
  return values;
}

std::vector<std::filesystem::path> Json::as_files(const std::filesystem::path& folder) const {
  if (is_null()) return {};
  std::vector<std::filesystem::path> files;
  for (const std::string& name : is_array() ? as_strings() : std::vector{as_string()}) {
    files.push_back(folder / name);
    require(std::filesystem::is_regular_file(files.back()), ErrorKind::kNotFound, where(),
            ": the file ", files.back().string(), " is missing");
  }
  return files;
}

std::string Json::get_string(std::string_view key, std::string_view otherwise) const {
  const Json value = find(key);
  return value.is_null() ? std::string(otherwise) : value.as_string();
}

std::int64_t Json::get_int(std::string_view key, std::int64_t otherwise) const {
  const Json value = find(key);
  return value.is_null() ? otherwise : value.as_int();
}

double Json::get_double(std::string_view key, double otherwise) const {
  const Json value = find(key);
  return value.is_null() ? otherwise : value.as_double();
}

bool Json::get_bool(std::string_view key, bool otherwise) const {
  const Json value = find(key);
  return value.is_null() ? otherwise : value.as_bool();
}

void Json::own() {
  if (document_.use_count() == 1 && node_ == &document_->tree) return;
  document_ = std::shared_ptr<const Document>(new Document{tree(node_), document_->source});
  node_ = &document_->tree;
}

// own() made the document ours alone, so casting its constness away is safe.
void Json::set(std::string_view key, const Json& value) {
  Tree copy = tree(value.node_);
  own();
  (*static_cast<Tree*>(const_cast<void*>(node_)))[std::string(key)] = std::move(copy);
}

void Json::erase(std::string_view key) {
  own();
  static_cast<Tree*>(const_cast<void*>(node_))->erase(std::string(key));
}

void Json::append(const Json& value) {
  Tree copy = tree(value.node_);
  own();
  static_cast<Tree*>(const_cast<void*>(node_))->push_back(std::move(copy));
}

std::string Json::dump(int indent) const {
  return tree(node_).dump(indent, ' ', false, Tree::error_handler_t::replace);
}

}  // namespace qvlm
