// JSON documents with strict getters: a missing key, a wrong type or a duplicate key is an Error
// that names the file and the path of the key. The only header of ours that other rooms include for
// JSON; nlohmann's own header (2.6 s to compile) stays inside json.cc.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace qvlm {

// A node of a document. Copies are cheap: they share the document, and changing one of them (set,
// append) first gives it a document of its own. Keys keep their order.
class Json {
 public:
  Json();  // null
  Json(bool value);
  Json(int value);
  Json(std::int64_t value);
  Json(double value);  // a value that is not finite becomes null
  Json(const char* value);
  Json(std::string_view value);
  Json(const std::string& value);

  static Json object();
  static Json array();

  // Parses UTF-8 text; `source` (a file name) appears in messages. Throws kCorrupt on a syntax
  // error, bad UTF-8, a duplicate key or nesting deeper than 200 levels.
  static Json parse(std::string_view text, std::string_view source);
  // Reads and parses a file. Throws kNotFound or kCorrupt.
  static Json load(const std::filesystem::path& file);

  bool is_null() const;
  bool is_object() const;
  bool is_array() const;
  bool is_string() const;
  bool is_bool() const;
  bool is_int() const;
  bool is_number() const;

  std::size_t size() const;  // members of an object, elements of an array, else 0
  bool contains(std::string_view key) const;
  // Where this node is, for messages: "config.json: text_config.rope_theta".
  std::string where() const;

  // Children. get_x throws kNotFound, find_x gives null.
  Json get(std::string_view key) const;
  Json find(std::string_view key) const;
  Json at(std::size_t index) const;
  void for_each(const std::function<void(const std::string& key, const Json& value)>& visit) const;

  // This node as a value. Throws kCorrupt if it has another type or does not fit it.
  std::string as_string() const;
  std::int64_t as_int() const;
  double as_double() const;
  bool as_bool() const;
  std::vector<std::int64_t> as_ints() const;
  std::vector<std::string> as_strings() const;
  // The files of a path, of a list of paths, or of null (none), relative to `folder`. Throws
  // kNotFound for one that is not there.
  std::vector<std::filesystem::path> as_files(const std::filesystem::path& folder) const;

  // A member as a value; the two-argument form gives the default when the key is missing or null.
  std::string get_string(std::string_view key) const { return get(key).as_string(); }
  std::string get_string(std::string_view key, std::string_view otherwise) const;
  std::int64_t get_int(std::string_view key) const { return get(key).as_int(); }
  std::int64_t get_int(std::string_view key, std::int64_t otherwise) const;
  double get_double(std::string_view key) const { return get(key).as_double(); }
  double get_double(std::string_view key, double otherwise) const;
  bool get_bool(std::string_view key) const { return get(key).as_bool(); }
  bool get_bool(std::string_view key, bool otherwise) const;

  // Changes. A null node turns into an object or an array.
  void set(std::string_view key, const Json& value);
  void erase(std::string_view key);
  void append(const Json& value);

  // Text; indent < 0 gives one line.
  std::string dump(int indent = -1) const;

 private:
  struct Document;
  Json(std::shared_ptr<const Document> document, const void* node, std::string path);
  void own();

  std::shared_ptr<const Document> document_;
  const void* node_ = nullptr;
  std::string path_;
};

// Reads a JSONL file: visits the document of every line that is not blank, whose where() is
// "<file>:<number of the line>". Throws kNotFound or kCorrupt.
void for_each_json_line(const std::filesystem::path& file,
                        const std::function<void(const Json& line)>& visit);

}  // namespace qvlm
