// Runs a tokenizer for a program in another language (scripts/check_tokenizer.py): JSON arrays on
// stdin, one per line and each answered by one on stdout.
//
//   ["encode", add_special, text...]      -> [[id...]...]
//   ["decode", skip_special, [id...]...]  -> [text...]
//   ["stream", skip_special, [id...]...]  -> [text...], joined from a StreamDecoder's pieces
//   ["time", repetitions, text...]        -> seconds of each repetition of encoding all texts
#include <chrono>
#include <iostream>
#include <string>

#include "base/json.h"
#include "text/tokenizer.h"

namespace {

using qvlm::Json;
using qvlm::Tokenizer;

Json encode(const Tokenizer& tokenizer, const Json& request) {
  Json answer = Json::array();
  for (std::size_t i = 2; i < request.size(); ++i) {
    Json ids = Json::array();
    for (const auto id : tokenizer.encode(request.at(i).as_string(), request.at(1).as_bool())) {
      ids.append(id);
    }
    answer.append(ids);
  }
  return answer;
}

std::string decode(const Tokenizer& tokenizer, const Json& list, bool skip_special, bool stream) {
  std::vector<std::int32_t> ids;
  for (const auto id : list.as_ints())
    ids.push_back(static_cast<std::int32_t>(id));
  if (!stream) return tokenizer.decode(ids, skip_special);
  qvlm::StreamDecoder decoder(tokenizer, skip_special);
  std::string text;
  for (const auto id : ids)
    text += decoder.push(id);
  return text += decoder.finish();
}

Json decode_all(const Tokenizer& tokenizer, const Json& request, bool stream) {
  Json answer = Json::array();
  for (std::size_t i = 2; i < request.size(); ++i) {
    answer.append(decode(tokenizer, request.at(i), request.at(1).as_bool(), stream));
  }
  return answer;
}

Json time_encode(const Tokenizer& tokenizer, const Json& request) {
  std::vector<std::string> texts;
  for (std::size_t i = 2; i < request.size(); ++i)
    texts.push_back(request.at(i).as_string());
  Json answer = Json::array();
  for (std::int64_t i = 0; i < request.at(1).as_int(); ++i) {
    const auto start = std::chrono::steady_clock::now();
    for (const std::string& text : texts)
      tokenizer.encode(text, true);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    answer.append(time.count());
  }
  return answer;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "usage: tokenizer_driver tokenizer.json\n";
    return 2;
  }
  const Tokenizer tokenizer = Tokenizer::load(argv[1]);
  for (std::string line; std::getline(std::cin, line);) {
    const Json request = Json::parse(line, "request");
    const std::string verb = request.at(0).as_string();
    const Json answer = verb == "encode" ? encode(tokenizer, request)
                        : verb == "time" ? time_encode(tokenizer, request)
                                         : decode_all(tokenizer, request, verb == "stream");
    std::cout << answer.dump() << std::endl;
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << "tokenizer_driver: " << error.what() << '\n';
  return 1;
}
