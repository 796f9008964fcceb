// Regular expressions as tokenizer.json writes them: Oniguruma's dialect, run by PCRE2 with Unicode
// properties. Constructs that the two engines read differently are rewritten, or refused by name.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace qvlm {

// Half-open range of bytes.
struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;
  bool operator==(const Span&) const = default;
};

// A compiled pattern; immutable, copies share it, any number of threads may search with it.
class Regex {
 public:
  // Throws kUnsupported for a construct we would read differently, kCorrupt for a pattern that is
  // none; `where` begins the message.
  Regex(std::string_view pattern, std::string_view where);
  // A pattern that matches this text and nothing else.
  static Regex literal(std::string_view text, std::string_view where);

  // Calls visit(span) for each match in valid UTF-8 text, left to right.
  template <typename Visit>
  void for_each_match(std::string_view text, const Visit& visit) const {
    const Search search(*this, text);
    for (std::optional<Span> match = search.next(0); match; match = search.next(match->end)) {
      visit(*match);
    }
  }

 private:
  struct Code;

  // Working memory of one search.
  class Search {
   public:
    Search(const Regex& regex, std::string_view text);
    ~Search();
    Search(const Search&) = delete;
    Search& operator=(const Search&) = delete;
    std::optional<Span> next(std::size_t from) const;

   private:
    const Code& code_;
    std::string_view text_;
    void* match_data_;
  };

  std::shared_ptr<const Code> code_;
};

}  // namespace qvlm
