// A search holds one block of layers, however many the model has.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "base/json.h"
#include "base/mapped_file.h"
#include "cli/process.h"
#include "io/safetensors.h"
#include "support/temporary_folder.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

const fs::path kModel = fs::path(QVLM_SOURCE_DIR) / "models" / "reference-llava";

// The bundled model with its decoder layers twice, one copy on top of the other.
void make_twice_as_deep(const fs::path& folder) {
  fs::copy(kModel, folder);
  fs::remove(folder / "model.safetensors");
  Json config = Json::load(kModel / "config.json");
  Json text = config.get("text_config");
  const std::int64_t layers = text.get_int("num_hidden_layers");
  text.set("num_hidden_layers", 2 * layers);
  config.set("text_config", text);
  write_text_file(folder / "config.json", config.dump(1));

  const SafetensorsFile source(kModel / "model.safetensors");
  std::map<std::string, TensorView> tensors = source.tensors();
  const std::string mark = "language_model.model.layers.";
  for (const auto& [name, view] : source.tensors()) {
    const std::size_t place = name.find(mark);
    if (place == std::string::npos) continue;
    const std::size_t number = place + mark.size(), end = name.find('.', number);
    const std::int64_t layer = std::stoll(name.substr(number, end - number));
    tensors[name.substr(0, number) + std::to_string(layer + layers) + name.substr(end)] = view;
  }
  std::vector<TensorInfo> infos;
  for (const auto& [name, view] : tensors)
    infos.push_back({name, view.dtype, view.shape});
  SafetensorsWriter writer(folder / "model.safetensors", infos, {{"format", "pt"}});
  for (const auto& [name, view] : tensors)
    writer.write(name, view.bytes);
  writer.commit();
}

#if !defined(__SANITIZE_ADDRESS__)  // the sanitizer keeps freed memory
TEST(SearchMemoryTest, DoesNotGrowWithDepth) {
  const TemporaryFolder folder;
  const auto path = [&](const char* name) { return (folder.path() / name).string(); };
  make_twice_as_deep(folder.path() / "deep");
  std::ofstream recipe(path("r.yaml"));
  recipe << "name: r\n"
            "default:\n"
            "  weight: {bits: 4, granularity: group, group_size: 64}\n"
            "  activation: {bits: 4, granularity: token}\n"
            "overrides: [{match: 'vision_tower\\..*|projector\\..*|lm_head', keep: float}]\n"
            "calibration: {samples: 24}\n"
            "plan: {strategy: fixed, max_depth: 2, budget_share: 1}\n"
            "search: {activation_clip: [1, 0.9]}\n";
  recipe.close();
  std::ofstream data(path("data.jsonl"));
  const fs::path image = fs::path(QVLM_TESTS_DIR) / "data" / "llava" / "images" / "a.png";
  for (int i = 0; i < 24; ++i) {
    data << R"({"image": ")" << image.string() << R"(", "question": "what shape is in the image, )"
         << i << R"(?", "answer": "circle"})"
         << "\n";
  }
  data.close();
  // One thread and one arena: what is measured is the search, not the allocator.
  const auto peak = [&](const std::string& model, const char* out) {
    const WatchedProcess process =
        watch_qvlm({"quantize", model, path(out), "--recipe", path("r.yaml"), "--data",
                    path("data.jsonl"), "--threads", "1", "--quiet"},
                   {{"MALLOC_ARENA_MAX", "1"}});
    EXPECT_EQ(process.exit_code, 0) << process.err;
    return static_cast<double>(process.peak_anonymous_bytes);
  };
  const double once = peak(kModel.string(), "once");
  const double twice = peak(path("deep"), "twice");
  EXPECT_GT(once, 20e6);
  EXPECT_LE(twice, 1.05 * once);
}
#endif

}  // namespace
}  // namespace qvlm
