#include "support/tiny_model.h"

#include <algorithm>
#include <fstream>
#include <span>

#include "base/json.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

constexpr int kImageToken = 290;  // every config of tests/data/llava says so
constexpr int kVocab = 296;

std::string utf8(int code) {  // below U+0800
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

bool is_printable(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) ||
         (byte >= 0xAE && byte <= 0xFF);
}

// GPT-2's byte alphabet: printable bytes stand for themselves, the others for U+0100 onwards; id =
// byte. Then a blank with each first letter, so that answers differ in their first token. The rest
// are added tokens, so that a random model cannot say an id without a text.
std::string tokenizer_json() {
  const std::string blank = utf8(0x120);  // how the alphabet writes a blank
  Json vocab = Json::object(), merges = Json::array(), added = Json::array();
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    vocab.set(utf8(is_printable(byte) ? byte : next++), byte);
  }
  int id = kFirstMergedToken;
  for (const char letter : kFirstLetters) {
    vocab.set(blank + letter, id++);
    merges.append(blank + " " + letter);
  }
  for (; id < kVocab; ++id) {
    Json token = Json::object();
    token.set("id", id);
    token.set("content",
              id == kImageToken ? std::string("<image>") : "<t" + std::to_string(id) + ">");
    for (const char* key : {"single_word", "lstrip", "rstrip", "normalized"})
      token.set(key, false);
    token.set("special", true);
    added.append(token);
  }
  Json model = Json::object(), byte_level = Json::object(), root = Json::object();
  model.set("type", "BPE");
  model.set("vocab", vocab);
  model.set("merges", merges);
  byte_level.set("type", "ByteLevel");
  byte_level.set("add_prefix_space", false);
  byte_level.set("trim_offsets", true);
  byte_level.set("use_regex", true);
  root.set("version", "1.0");
  root.set("added_tokens", added);
  root.set("normalizer", Json());
  root.set("pre_tokenizer", byte_level);
  root.set("post_processor", Json());
  root.set("decoder", byte_level);
  root.set("model", model);
  return root.dump();
}

}  // namespace

fs::path write_file(const fs::path& file, const std::string& text) {
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << text;
  return file;
}

void make_tiny_model(const fs::path& folder, const std::string& name) {
  fs::create_directories(folder);
  for (const auto& entry : fs::directory_iterator(fs::path(QVLM_TESTS_DIR) / "data/llava" / name)) {
    const std::string file = entry.path().filename().string();
    if (!file.starts_with("golden")) fs::copy_file(entry.path(), folder / file);
  }
  write_file(folder / "tokenizer.json", tokenizer_json());
}

fs::path make_tiny_data(const fs::path& folder) {
  const fs::path images = fs::path(QVLM_TESTS_DIR) / "data/llava/images";
  fs::create_directories(folder / "images");
  for (const char* name : {"a.png", "b.png"})
    fs::copy_file(images / name, folder / "images" / name);
  return write_file(
      folder / "data.jsonl",
      R"({"id": "1", "image": "images/a.png", "question": "what colour?", "answer": "red", "category": "colour", "type": "open"}
{"id": "2", "image": "images/b.png", "question": "what colour?", "answer": "blue", "category": "colour", "type": "open"}
{"id": "3", "image": "images/a.png", "question": "is it red?", "answer": "yes", "category": "yes-no", "type": "yesno"}
{"id": "4", "image": "images/b.png", "question": "is it round?", "answer": "no", "category": "yes-no", "type": "yesno"}
{"id": "5", "image": null, "question": "what is round?", "choices": ["box", "ball"], "answer": 1, "category": "choice", "type": "mcq"}
{"id": "6", "image": "images/a.png", "question": "is it?", "answer": "no", "category": "yes-no", "type": "yesno"}
{"id": "7", "image": "images/b.png", "question": "what colour?", "answer": "blue", "category": "colour", "type": "vqa"}
)");
}

void make_tiny_calibration(const fs::path& file, int questions) {
  const fs::path images = fs::path(QVLM_TESTS_DIR) / "data/llava/images";
  std::string lines;
  for (int i = 0; i < questions; ++i) {
    const std::string image = i % 2 == 0 ? "a.png" : "b.png";
    lines += R"({"image": ")" + (images / image).string() + R"(", "question": "what is )" +
             std::to_string(i * i) + R"(?", "answer": "red"})" + "\n";
  }
  write_file(file, lines);
}

void edit_weights(const fs::path& file,
                  const std::function<void(std::vector<EditedTensor>&)>& edit) {
  std::vector<EditedTensor> tensors;
  {
    const SafetensorsFile source(file);
    for (const auto& [name, view] : source.tensors()) {
      const auto* data = reinterpret_cast<const char*>(view.bytes.data());
      tensors.push_back({{name, view.dtype, view.shape}, std::string(data, view.bytes.size())});
    }
  }
  edit(tensors);
  std::vector<TensorInfo> infos;
  for (const EditedTensor& tensor : tensors)
    infos.push_back(tensor.info);
  SafetensorsWriter writer(file, infos, {{"format", "pt"}});
  for (const EditedTensor& tensor : tensors) {
    writer.write(tensor.info.name,
                 std::as_bytes(std::span(tensor.bytes.data(), tensor.bytes.size())));
  }
  writer.commit();
}

EditedTensor& find_tensor(std::vector<EditedTensor>& tensors, std::string_view ending) {
  return *std::find_if(tensors.begin(), tensors.end(), [&](const EditedTensor& tensor) {
    return tensor.info.name.ends_with(ending);
  });
}

}  // namespace qvlm
